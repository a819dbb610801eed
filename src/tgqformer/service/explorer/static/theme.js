// Runs before the page is drawn, so that a chosen theme never flashes. Without a choice the system's is followed.
"use strict";
(() => {
  const root = document.documentElement;
  try {
    const chosen = localStorage.getItem("theme");
    if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
  } catch { /* storage may be forbidden; the system's theme is right then */ }
})();

// What the theme leaves out for people who read with a keyboard or a screen reader (docs/axe.py looks at every page).
const mend = () => {
  for (const part of document.querySelectorAll("nav nav:not([role]), nav.md-code__nav:not([role])")) {
    part.setAttribute("role", "none"); // a part of a landmark, not one more
    for (const name of ["aria-label", "aria-labelledby", "aria-expanded"]) part.removeAttribute(name);
  }
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap")) box.tabIndex = 0;
  for (const head of document.querySelectorAll("th:empty")) head.replaceWith(document.createElement("td"));
};
new MutationObserver(mend).observe(document.body, { childList: true, subtree: true });
mend();
document.body.dataset.mended = "yes";

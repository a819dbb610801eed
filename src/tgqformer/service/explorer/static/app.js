// Opens the page that the address names, and keeps the frame around it: links, theme, title.
import { get } from "./api.js";
import { h, say } from "./dom.js";
import { wrong } from "./parts.js";

const PAGES = {
  "": ["grid", () => import("./grid.js")],
  product: ["grid", () => import("./product.js")],
  map: ["map", () => import("./map.js")],
  try: ["try", () => import("./try.js")],
  wins: ["wins", () => import("./wins.js")],
  docs: ["docs", () => import("./docs.js")],
};
const main = document.getElementById("main");
const icons = { light: "☀", dark: "☾" };
let ended = new AbortController();
let about = null;

/** Go to an address of the explorer without loading the page anew. */
export function go(address, { replace = false } = {}) {
  history.replaceState({ ...history.state, scroll: scrollY }, "");
  history[replace ? "replaceState" : "pushState"]({}, "", address);
  return open();
}

async function open() {
  ended.abort();
  ended = new AbortController();
  const { signal } = ended;
  const [shown, load] = PAGES[location.pathname.split("/").at(-1)] ?? PAGES[""];
  for (const link of document.querySelectorAll("[data-page]")) {
    link.closest("nav") && (link.dataset.page === shown ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current"));
  }
  try {
    const [page] = await Promise.all([load(), get("site").then((found) => { about = found; })]); // another may be served now
    document.querySelector('[data-page="try"]').hidden = !about.model;
    document.querySelector('nav [data-page="wins"]').hidden = !about.judged;
    if (signal.aborted) return;
    const place = h("div", { class: "page appear" });
    main.replaceChildren(place);
    const scroll = history.state?.scroll ?? 0;
    await page.show(place, { about, query: new URLSearchParams(location.search), signal, go, titled });
    if (!signal.aborted) scrollTo(0, scroll);
  } catch (error) {
    if (error.name === "AbortError" || signal.aborted) return;
    main.replaceChildren(h("h1", { class: "unseen" }, "This page cannot be shown"), wrong(error, open));
  }
}

function titled(words) {
  const shop = about?.name ? `${about.name} · explorer` : "Explorer";
  document.title = words ? `${words} · ${shop}` : shop;
  document.getElementById("shop").textContent = about?.name ?? "Explorer";
}

function followLinks(event) {
  const link = event.target.closest?.("a[data-link], a[data-page]");
  if (!link || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  document.querySelector("dialog[open]")?.close();
  go(link.href).then(() => main.focus({ preventScroll: true }));
}

function drawTheme() {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const draw = () => {
    button.textContent = dark() ? icons.light : icons.dark;
    const words = dark() ? "Light colours" : "Dark colours";
    button.setAttribute("aria-label", words);
    button.title = words;
    document.dispatchEvent(new CustomEvent("theme"));
  };
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch { /* the choice then lasts as long as the page */ }
    draw();
    say(dark() ? "Dark colours" : "Light colours");
  });
  system.addEventListener("change", draw);
  draw();
}

function keys(event) {
  const typing = event.target.closest?.("input, select, textarea, [contenteditable]");
  if (event.key === "/" && !typing && !document.querySelector("dialog[open]")) {
    event.preventDefault();
    const search = document.querySelector('input[type="search"]');
    if (search) search.focus();
    else go("./").then(() => document.querySelector('input[type="search"]')?.focus());
  }
}

history.scrollRestoration = "manual";
document.addEventListener("click", followLinks);
document.addEventListener("keydown", keys);
addEventListener("popstate", open);
drawTheme();
open();

// The products: words, category and brand, a page at a time. The address holds it all, so Back leads back here.
import { get } from "./api.js";
import { arrows, h, number, plural, say, settled } from "./dom.js";
import { card, waiting, wrong } from "./parts.js";

const PAGE = 48;

export async function show(place, { about, query, signal, titled }) {
  titled(query.get("q") ?? "");
  const state = {
    q: query.get("q") ?? "", category: query.getAll("category"), brand: query.get("brand") ?? "",
    page: Math.max(1, Number.parseInt(query.get("page") ?? "1", 10) || 1),
  };
  const list = h("ul", { class: "cards", id: "results" });
  const count = h("p", { class: "soft figure", id: "count" }, "\u00a0");
  const pages = h("nav", { class: "pages", "aria-label": "Pages of results" });
  const search = h("input", { type: "search", value: state.q, placeholder: "Search titles, brands, categories", "aria-label": "Search products", maxlength: "200", autocomplete: "off", enterkeyhint: "search" });
  const category = categories(about.categories, state.category);
  const brand = h("select", { "aria-label": "Brand" }, h("option", { value: "" }, "All brands"),
    about.brands.map((one) => h("option", { value: one.name, selected: one.name === state.brand || null }, `${one.name} (${number(one.count)})`)));
  place.append(
    h("h1", { class: "unseen" }, "Products"),
    h("form", { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() }, search,
      about.categories.length > 1 ? category : null, about.brands.length > 1 ? brand : null),
    count, list, pages);

  const changed = (part) => {
    Object.assign(state, { page: 1 }, part);
    const words = addressOf(state);
    history.replaceState({}, "", words);
    titled(state.q);
    return fill();
  };
  search.addEventListener("input", settled(140, () => changed({ q: search.value.trim() })));
  search.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") { event.preventDefault(); list.querySelector("a")?.focus(); }
    if (event.key === "Escape" && search.value) { search.value = ""; changed({ q: "" }); }
  });
  category.addEventListener("change", () => changed({ category: category.value ? JSON.parse(category.value) : [] }));
  brand.addEventListener("change", () => changed({ brand: brand.value }));
  list.addEventListener("keydown", (event) => { if (event.key === "Escape") search.focus(); });
  arrows(list, ".card > a");

  let current = new AbortController();
  signal.addEventListener("abort", () => current.abort());
  async function fill() {
    current.abort();
    const own = current = new AbortController();
    const late = setTimeout(() => list.replaceChildren(...waiting(12)), list.childElementCount ? 400 : 0);
    try {
      const asked = { q: state.q, category: state.category, brand: state.brand, start: (state.page - 1) * PAGE, count: PAGE };
      const found = await get("items", asked, own.signal);
      clearTimeout(late);
      draw(found);
    } catch (error) {
      clearTimeout(late);
      if (error.name === "AbortError") return;
      list.replaceChildren(h("li", { class: "wide" }, wrong(error, fill)));
    }
  }

  function draw({ total, items }) {
    const last = Math.max(1, Math.ceil(total / PAGE));
    count.textContent = plural(total, "product");
    say(count.textContent);
    pages.replaceChildren();
    if (!items.length) return list.replaceChildren(h("li", { class: "wide" }, nothing(about, state, () => {
      search.value = brand.value = category.value = "";
      changed({ q: "", category: [], brand: "" });
      search.focus();
    })));
    list.replaceChildren(...items.map((item) => card(item)));
    if (last > 1) pages.append(...pager(state, last));
  }
  list.append(...waiting(12));
  await fill();
}

function pager(state, last) {
  const to = (page, words, rel) => page >= 1 && page <= last
    ? h("a", { class: "button", href: addressOf({ ...state, page }), "data-link": true, rel }, words)
    : h("button", { type: "button", disabled: true }, words);
  return [to(state.page - 1, "← Earlier", "prev"),
    h("span", { class: "soft figure" }, `${number(state.page)} of ${number(last)}`), to(state.page + 1, "More →", "next")];
}

function nothing(about, state, clear) {
  if (!about.items) {
    return h("div", { class: "empty" }, h("h2", {}, "No catalogue to look through"),
      h("p", {}, "This service has a store but no catalogue. Name one with --catalog when you start it."));
  }
  return h("div", { class: "empty" }, h("h2", {}, state.q ? `Nothing found for “${state.q}”` : "Nothing fits"),
    h("p", {}, "All words must occur in a title, brand or category."),
    h("button", { type: "button", onclick: clear }, "Show all products"));
}

function categories(all, chosen) {
  const sorted = [...all].sort((one, other) => one.path.join("\u0001").localeCompare(other.path.join("\u0001")));
  return h("select", { "aria-label": "Category" }, h("option", { value: "" }, "All categories"),
    sorted.map(({ path, count }) => h("option", {
      value: JSON.stringify(path), selected: JSON.stringify(path) === JSON.stringify(chosen) || null,
    }, `${"\u2003".repeat(path.length - 1)}${path.at(-1)} (${number(count)})`)));
}

function addressOf({ q, category, brand, page }) {
  const words = new URLSearchParams();
  if (q) words.set("q", q);
  for (const level of category) words.append("category", level);
  if (brand) words.set("brand", brand);
  if (page > 1) words.set("page", page);
  return `./${words.toString() ? `?${words}` : ""}`;
}

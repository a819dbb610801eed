// The products: words, filters, an order, a page at a time. The address holds it all, so Back leads back here.
import { get } from "./api.js";
import { arrows, h, number, plural, say, settled } from "./dom.js";
import { card, waiting, wrong } from "./parts.js";

const PAGE = 48, LONGEST = 200; // products of a page, letters of a search
const SORTS = [["", "Best match"], ["price", "Price, low first"], ["-price", "Price, high first"], ["stock", "In stock first"], ["category", "Category"], ["new", "Newest"]];
const NOTHING = { q: "", category: [], brand: "", low: "", high: "", stock: false, sort: "" };

export async function show(place, { about, query, signal, titled }) {
  titled(query.get("q") ?? "");
  const state = {
    q: (query.get("q") ?? "").slice(0, LONGEST), category: query.getAll("category"), brand: query.get("brand") ?? "",
    low: query.get("low") ?? "", high: query.get("high") ?? "", stock: query.get("stock") === "true",
    sort: SORTS.some(([name]) => name === query.get("sort")) ? query.get("sort") : "",
    page: Math.max(1, Number.parseInt(query.get("page") ?? "1", 10) || 1),
  };
  const list = h("ul", { class: "cards", id: "results" });
  const count = h("span", { class: "figure", id: "count" }, "\u00a0"), more = h("span");
  const pages = h("nav", { class: "pages", "aria-label": "Pages of results" });
  const meant = h("p", { class: "meant small", hidden: true });
  const alike = h("section", { class: "alike", id: "alike", hidden: true, "aria-labelledby": "alike-title" });
  const search = h("input", { type: "search", value: state.q, placeholder: "Search by words or id", "aria-label": "Search products", maxlength: LONGEST, autocomplete: "off", enterkeyhint: "search" });
  const category = categories(about.categories, state.category);
  const brand = h("select", { "aria-label": "Brand" }, h("option", { value: "" }, "All brands"),
    about.brands.map((one) => h("option", { value: one.name, selected: one.name === state.brand || null }, `${one.name} (${number(one.count)})`)));
  const band = (name, words) => h("input", { type: "number", min: "0", step: "any", inputmode: "decimal", value: state[name], "aria-label": words, placeholder: words });
  const low = band("low", "Price from"), high = band("high", "Price to");
  for (const input of [low, high]) if (!input.validity.valid) input.value = "";
  Object.assign(state, { low: low.value, high: high.value }); // an address may hold what is no price
  const stock = h("input", { type: "checkbox", checked: state.stock });
  const sort = h("select", { "aria-label": "Order" }, SORTS.map(([value, words]) => h("option", { value, selected: value === state.sort || null }, words)));
  place.append(
    h("h1", { class: "unseen" }, "Products"),
    h("form", { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() }, search,
      about.categories.length > 1 ? category : null, about.brands.length > 1 ? brand : null,
      h("div", { class: "offers" }, low, high, h("label", { class: "check" }, stock, "In stock"), sort)),
    h("p", { class: "soft counts" }, count, more), meant, list, pages, alike);

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
  for (const [name, input] of [["low", low], ["high", high]]) {
    input.addEventListener("input", settled(300, () => input.validity.valid && changed({ [name]: input.value })));
  }
  stock.addEventListener("change", () => changed({ stock: stock.checked }));
  sort.addEventListener("change", () => changed({ sort: sort.value }));
  list.addEventListener("keydown", (event) => { if (event.key === "Escape") search.focus(); });
  arrows(list, ".card > a");

  let current = new AbortController();
  signal.addEventListener("abort", () => current.abort());
  async function fill() {
    current.abort();
    const own = current = new AbortController();
    const late = setTimeout(() => list.replaceChildren(...waiting(12)), list.childElementCount ? 400 : 0);
    try {
      const { page, stock: inStock, ...asked } = state;
      const near = about.model && state.q && page === 1 ? get("alike", { q: state.q }, own.signal) : null;
      near?.catch(() => null); // waited for below
      const found = await get("items", { ...asked, stock: inStock || "", start: (page - 1) * PAGE, count: PAGE }, own.signal);
      clearTimeout(late);
      const last = Math.max(1, Math.ceil(found.total / PAGE));
      if (page > last) { // the catalogue was longer when the address was kept
        state.page = last;
        history.replaceState({}, "", addressOf(state));
        return fill();
      }
      draw(found);
      drawAlike(near ? await near : null);
    } catch (error) {
      clearTimeout(late);
      if (error.name === "AbortError") return;
      list.replaceChildren(h("li", { class: "wide" }, wrong(error, fill)));
    }
  }

  function draw({ total, items, meant: words }) {
    const last = Math.max(1, Math.ceil(total / PAGE));
    count.textContent = plural(total, "product");
    say(count.textContent);
    const others = Object.entries(words);
    meant.hidden = !others.length;
    meant.textContent = others.map(([word, found]) => `“${word}” occurs nowhere; shown: ${found.join(", ")}.`).join(" ");
    pages.replaceChildren();
    if (!items.length) return list.replaceChildren(h("li", { class: "wide" }, nothing(about, state, () => {
      search.value = brand.value = category.value = low.value = high.value = sort.value = "";
      stock.checked = false;
      changed(NOTHING);
      search.focus();
    })));
    list.replaceChildren(...items.map((item) => card(item)));
    if (last > 1) pages.append(...pager(state, last));
  }
  function drawAlike(found) {
    alike.hidden = !found?.hits.length;
    more.replaceChildren();
    if (alike.hidden) return alike.replaceChildren();
    alike.replaceChildren(h("h2", { id: "alike-title" }, `Nearest to “${state.q}” by its meaning`),
      h("p", { class: "soft small" }, `${found.label} reads the words as if they were a title. It may find what no word names, or be wrong.`),
      h("ol", { class: "cards" }, found.hits.map((hit) => card(hit))));
    more.replaceChildren(" · ", h("a", { href: "#alike", onclick: (event) => { event.preventDefault(); alike.scrollIntoView(); } }, `${found.hits.length} by meaning`));
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
    h("p", {}, "All words must occur in an id, title, brand or category, and price and stock must fit."),
    h("button", { type: "button", onclick: clear }, "Show all products"));
}

function categories(all, chosen) {
  const sorted = [...all].sort((one, other) => one.path.join("\u0001").localeCompare(other.path.join("\u0001")));
  return h("select", { "aria-label": "Category" }, h("option", { value: "" }, "All categories"),
    sorted.map(({ path, count }) => h("option", {
      value: JSON.stringify(path), selected: JSON.stringify(path) === JSON.stringify(chosen) || null,
    }, `${"\u2003".repeat(path.length - 1)}${path.at(-1)} (${number(count)})`)));
}

function addressOf(state) {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    if (name === "page" ? value === 1 : !value) continue;
    for (const one of [value].flat()) words.append(name, one);
  }
  return `./${words.toString() ? `?${words}` : ""}`;
}

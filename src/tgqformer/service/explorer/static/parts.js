// Parts that several pages show: cards, waiting cards, errors, columns of neighbours.
import { pictureOf } from "./api.js";
import { h, money, plural, score } from "./dom.js";

export const productAddress = (id, more = {}) => `product?${new URLSearchParams({ id, ...more })}`;
export const nameOf = (item) => item.title || item.id;
export const altOf = (item) => [nameOf(item), item.brand && !nameOf(item).includes(item.brand) ? `by ${item.brand}` : ""].join(" ").trim();

/** The picture of an item in its frame; an item without one, or with one that cannot be read, says so. */
export function frame(item, { size = "small", alt = altOf(item), src = null, lazy = true } = {}) {
  const box = h("span", { class: "frame" });
  const missing = (words) => {
    box.replaceChildren(h("span", { class: "none" }, words));
    box.parentElement?.querySelector(".title")?.removeAttribute("aria-hidden");
  };
  if (!item.picture && !src) missing("no picture");
  else {
    box.append(h("img", {
      src: src ?? pictureOf(item, size), alt, loading: lazy ? "lazy" : null, decoding: "async",
      onerror: () => missing("picture cannot be read"),
    }));
  }
  return box;
}

/** What a product costs now, what it cost before, and its stock; nothing where the shop does not say. */
export function offer(item) {
  const now = item.sale_price ?? item.price;
  const stock = item.availability?.replaceAll("_", " ");
  if (now === null && !stock) return null;
  return h("span", { class: "offer" },
    now === null ? null : h("span", { class: "price figure" }, money(now), item.currency ? ` ${item.currency}` : ""),
    item.sale_price !== null && item.price !== null ? h("s", { class: "figure" }, h("span", { class: "unseen" }, "before "), money(item.price)) : null,
    stock ? h("span", { class: item.availability === "out_of_stock" ? "tag off" : "stock" }, stock) : null);
}

/** A product as a card. `extra` stands below the text, `query` goes into the address of its page. */
export function card(item, { extra = null, query = {}, line = null } = {}) {
  const words = line ?? [item.brand, item.category?.at(-1)].filter(Boolean).join(" · ");
  return h("li", { class: "card", data: { id: item.id } },
    h("a", { href: productAddress(item.id, query), "data-link": true },
      frame(item),
      h("span", {},
        h("span", { class: "title", "aria-hidden": item.picture ? "true" : null }, nameOf(item)), // the picture says it
        h("span", { class: "line" }, words || "\u00a0"), offer(item))),
    extra);
}

export function waiting(count) {
  return Array.from({ length: count }, () => h("li", { class: "card waiting", "aria-hidden": "true" },
    h("span", { class: "frame" }), h("span", { class: "bone" }), h("span", { class: "bone" })));
}

/** Say plainly what went wrong; with `again`, a button that tries once more. */
export function wrong(error, again = null) {
  return h("div", { class: "wrong appear", role: "alert" },
    h("strong", {}, error.message), error.hint ? h("span", {}, error.hint) : null,
    again ? h("button", { type: "button", onclick: again }, "Try again") : null);
}

/** One column of neighbours. `marks`: what is said below each card, by id. `why`: called with a hit. */
export function neighbours(column, { marks = new Map(), why = null, query = {} } = {}) {
  if (column.error) return wrong({ message: column.error, hint: column.hint ?? "" });
  if (!column.hits.length) return h("p", { class: "soft" }, "No neighbours found.");
  return h("ol", { class: "cards neighbours", "aria-label": `Neighbours by ${column.label}` },
    column.hits.map((hit, place) => {
      const line = hit.shared && (hit.shared.join(" · ") || "nothing in common in words");
      const made = card(hit, { query, line });
      const mark = marks.get(hit.id);
      made.append(h("span", { class: "under" },
        h("span", { class: "figure" }, `${place + 1}.`),
        h("span", { class: "figure", title: "cosine of the two embeddings; 1 at most" }, score(hit.score)),
        why ? h("button", { class: "why", type: "button", onclick: () => why(hit, place + 1), "aria-label": `Why is ${nameOf(hit)} similar?` }, "Why?") : null));
      if (marks.size) made.append(h("span", { class: "marking" }, mark ? h("span", { class: mark.on ? "tag on" : "tag" }, mark.words) : null));
      if (hit.moved) made.append(h("span", { class: "ruled" }, hit.moved));
      if (mark?.on) made.classList.add("differs");
      return made;
    }));
}

/** Near products that the list does not show, and the rule that says so. */
export function hiddenOf(column) {
  if (!column.hidden?.length) return null;
  return h("details", { class: "lost hidden-by", open: true },
    h("summary", {}, `Left out by the rules: ${column.hidden.length} of the nearest`),
    h("ul", { class: "cards small-cards" }, column.hidden.map((item) =>
      card(item, { extra: h("span", { class: "ruled" }, `${item.place}. without rules; ${item.rule}`) }))));
}

/** How many of the neighbours without noise are still there: words and dots. */
export function keptOf(column) {
  return h("p", { class: "kept", data: { kept: column.kept, of: column.of } },
    h("strong", { class: "figure" }, `kept ${column.kept} of ${plural(column.of, "neighbour")}`), dotsOf(column));
}

/** A dot for each neighbour, filled for those kept. */
export const dotsOf = ({ kept, of }) => h("span", { class: "dots", "aria-hidden": "true" },
  Array.from({ length: of }, (_, at) => h("i", { class: at < kept ? "on" : "" })));

/** The choice of the two versions that stand side by side; `changed` gets both names, the second may be empty. */
export function versionsChoice(versions, [one, other], changed) {
  const options = (chosen) => versions.map((version) =>
    h("option", { value: version.name, selected: version.name === chosen || null }, titleOf(version, versions)));
  const first = h("select", { name: "version", onchange: () => changed([first.value, second.value]) }, options(one));
  const second = h("select", { name: "other", onchange: () => changed([first.value, second.value]) },
    h("option", { value: "" }, "nothing"), options(other));
  return h("div", { class: "versions" },
    h("label", { class: "field" }, "Neighbours by", first), h("label", { class: "field" }, "beside", second));
}

/** The name of a version for people; two with one label are told apart by their names. */
export function titleOf(version, versions) {
  const label = version.label || version.name;
  const shared = versions.filter((one) => (one.label || one.name) === label).length > 1;
  return `${shared ? `${label} (${version.name})` : label}${version.served ? " · served" : ""}`;
}

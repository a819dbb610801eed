// One product: its picture, noise to try on it, and its neighbours by one or two versions side by side.
import { get, noisedOf, pictureOf, Wrong } from "./api.js";
import { arrows, choice, h, plural, say, settled } from "./dom.js";
import { card, dotsOf, frame, hiddenOf, keptOf, nameOf, neighbours, offer, versionsChoice, waiting, wrong } from "./parts.js";
import { why } from "./why.js";

const KINDS = { poster: "Poster", clutter: "Clutter", distractor: "Distractor" };
const MEANS = {
  poster: "banners, badges, frames, watermarks", clutter: "a busy background", distractor: "a second product beside it",
};
const K = 10;

export async function show(place, { about, query, signal, go, titled }) {
  const id = query.get("id") ?? "";
  if (!id) throw new Wrong(404, "The address names no product.", "Choose one among the products.");
  place.append(skeleton());
  const item = await get("item", { id }, signal);
  titled(nameOf(item));
  const state = read(query, about);
  const parts = {
    picture: h("div", { class: "big" }), small: h("div", { class: "worn", "aria-hidden": "true" }), columns: h("div", { class: "columns", "aria-live": "off" }),
    source: h("p", { class: "soft small" }), outcome: h("div", { class: "outcome" }),
  };
  const ask = asker(item, about, state, parts, signal);
  const pick = (versions) => {
    state.versions = versions[1] === versions[0] ? [versions[0], ""] : versions;
    keep(id, state);
    return ask();
  };
  place.replaceChildren(h("div", { class: "product" },
    h("section", { class: "about", "aria-label": "Product" }, parts.picture, noisePanel(item, about, state, parts, () => {
      keep(id, state);
      drawPictures(item, state, parts);
      return ask();
    }), describe(item)),
    h("section", { class: "near", "aria-label": "Similar products" },
      h("div", { class: "head" }, h("h2", {}, "Similar products"), about.versions.length > 1
        ? versionsChoice(about.versions, state.versions, pick) : null),
      parts.source, parts.columns)));
  drawPictures(item, state, parts);
  arrows(parts.columns, ".card > a");
  await ask();
}

function read(query, about) {
  const known = about.versions.map((version) => version.name);
  const first = known.includes(query.get("version")) ? query.get("version") : known[0] ?? "";
  const other = query.get("beside") ?? known.find((name) => name !== first) ?? "";
  const kind = about.kinds.includes(query.get("noise")) ? query.get("noise") : "";
  const digits = (name, most) => Math.min(most, Math.max(0, Number.parseInt(query.get(name) ?? "0", 10) || 0));
  return {
    versions: [first, known.includes(other) && other !== first ? other : ""],
    kind, severity: kind ? digits("severity", 5) : 0, seed: digits("seed", 9999), lastKind: kind || "poster",
  };
}

function keep(id, { versions, kind, severity, seed }) {
  const words = new URLSearchParams({ id, version: versions[0] });
  words.set("beside", versions[1]);
  if (kind) for (const [name, value] of Object.entries({ noise: kind, severity, seed })) words.set(name, value);
  history.replaceState(history.state, "", `product?${words}`);
}

function describe(item) {
  const row = (name, value) => value ? [h("dt", {}, name), h("dd", {}, value)] : [];
  const path = item.category.map((level, at) => [at ? " › " : "",
    h("a", { href: `./?${new URLSearchParams(item.category.slice(0, at + 1).map((one) => ["category", one]))}`, "data-link": true }, level)]);
  return h("div", { class: "facts" },
    h("h1", {}, nameOf(item)),
    h("dl", {},
      row("Brand", item.brand && h("a", { href: `./?${new URLSearchParams({ brand: item.brand })}`, "data-link": true }, item.brand)),
      row("Category", path.length ? h("span", {}, path) : null),
      Object.entries(item.attributes).map(([name, value]) => row(name.replaceAll("_", " "), value)),
      row("Price", offer(item)), row("Group", item.item_group), row("Id", h("code", {}, item.id))),
    h("a", { class: "small", href: `map?${new URLSearchParams({ id: item.id })}`, "data-link": true }, "Show it on the map"));
}

/** The picture, and the small one that stays beside the slider on a phone. */
function drawPictures(item, state, { picture, small }) {
  drawPicture(item, state, picture);
  drawPicture(item, state, small);
}

/** Draw the picture as the shop has it, or with the noise that was chosen; the old one stays until the new is there. */
function drawPicture(item, state, place) {
  const noise = state.kind ? { kind: state.kind, severity: state.severity, seed: state.seed } : null;
  const words = noise?.severity ? `${nameOf(item)}, with ${state.kind} noise of severity ${state.severity}` : nameOf(item);
  const src = noise ? noisedOf(item, noise) : pictureOf(item, "large");
  const image = place.querySelector("img");
  if (image && item.picture) {
    image.src = src;
    image.alt = words;
  } else place.replaceChildren(frame(item, { src: item.picture ? src : null, alt: words, lazy: false }));
}

function noisePanel(item, about, state, { outcome, small }, changed) {
  if (!item.picture || !about.model || !about.kinds.length) return null; // nothing can be drawn, or embedded anew
  const slider = h("input", { type: "range", min: "0", max: "5", step: "1", value: state.severity, id: "severity", list: "steps" });
  const said = h("output", { for: "severity", class: "figure" });
  const dice = h("button", { type: "button", class: "quiet small" }, "↻ Draw another");
  const told = settled(180, changed);
  const kinds = h("div");
  const draw = () => {
    said.textContent = state.kind ? ["none", "1: a corner", "2", "3", "4", "5: hard to see past"][state.severity] : "";
    slider.setAttribute("aria-valuetext", said.textContent || "as in the shop");
    dice.disabled = !state.kind || !state.severity;
    note.textContent = state.kind
      ? `${KINDS[state.kind]}: ${MEANS[state.kind]}. Drawn on the ${item.clean ? "clean " : ""}picture, embedded anew, searched again.`
      : item.clean ? "In the shop this picture wears noise already. Move the slider to start from the clean one."
        : "Move the slider: noise is drawn on the picture, and the search is done again with it.";
  };
  const note = h("p", { class: "soft small note" });
  const offerKinds = () => kinds.replaceChildren(choice("Kind of noise", "kind",
    [["", "As in the shop"], ...about.kinds.map((kind) => [kind, KINDS[kind] ?? kind])], state.kind, (kind) => {
      if (kind && !state.kind && !state.severity) slider.value = state.severity = 3;
      if (!kind) slider.value = state.severity = 0;
      Object.assign(state, { kind, lastKind: kind || state.lastKind });
      draw();
      told();
    }));
  slider.addEventListener("input", () => {
    state.severity = Number(slider.value);
    if (!state.kind) { state.kind = state.lastKind; offerKinds(); }
    draw();
    told();
  });
  dice.addEventListener("click", () => { state.seed = (state.seed + 1) % 10000; told(); });
  offerKinds();
  draw();
  return h("div", { class: "noise", role: "group", "aria-labelledby": "noise-title" },
    h("h2", { id: "noise-title" }, "What if the picture wore noise?"), kinds, small,
    h("div", { class: "slide" }, h("label", { for: "severity" }, "Severity"), said, slider,
      h("datalist", { id: "steps" }, [0, 1, 2, 3, 4, 5].map((step) => h("option", { value: step })))),
    outcome, note, dice);
}

/** Make the function that asks for the columns and draws them; a later call ends an earlier one. */
function asker(item, about, state, parts, signal) {
  let current = new AbortController();
  signal.addEventListener("abort", () => current.abort());
  return async function ask() {
    current.abort();
    const own = current = new AbortController();
    const versions = state.versions.filter((name, at) => name || !at);
    parts.columns.dataset.count = versions.length;
    if (!parts.columns.childElementCount) {
      parts.columns.replaceChildren(...versions.map(() => h("div", { class: "column" }, h("ol", { class: "cards neighbours" }, waiting(6)))));
    }
    parts.columns.setAttribute("aria-busy", "true");
    try {
      const noise = state.kind ? { kind: state.kind, severity: state.severity, seed: state.seed } : null;
      const found = noise
        ? await get("trial", { id: item.id, version: versions, k: K, ...noise }, own.signal)
        : await get("neighbours", { id: item.id, version: versions, k: K }, own.signal);
      parts.columns.replaceChildren(...columnsOf(found.columns, item, about, state, noise));
      tell(found.columns, noise, parts);
    } catch (error) {
      if (error.name === "AbortError") return;
      parts.columns.replaceChildren(wrong(error, ask));
    }
    parts.columns.setAttribute("aria-busy", "false");
  };
}

function tell(columns, noise, parts) {
  const trial = columns.filter((column) => column.kept !== undefined);
  if (trial.length) say(trial.map((column) => `${column.label} kept ${column.kept} of ${column.of} neighbours`).join(", "));
  const [one, other] = columns;
  parts.outcome.replaceChildren(...(noise?.severity ? trial.map((column) =>
    h("p", {}, h("span", {}, column.label), dotsOf(column), h("strong", { class: "figure" }, `${column.kept} of ${column.of}`))) : []));
  if (noise?.severity) parts.source.textContent = "Compared with the neighbours of the same picture without noise.";
  else if (other && !one.error && !other.error) {
    const ids = new Set(one.hits.map((hit) => hit.id));
    const both = other.hits.filter((hit) => ids.has(hit.id)).length;
    parts.source.textContent = `${both} of ${plural(one.hits.length, "neighbour")} stand in both columns; the others are marked.`;
  } else parts.source.textContent = "Ranked by the cosine of the embeddings, then by the shop's rules.";
}

function columnsOf(columns, item, about, state, noise) {
  return columns.map((column, at) => {
    const label = column.label || column.version;
    const other = columns[1 - at];
    const marks = noise?.severity ? marksOfTrial(column) : other ? marksOfPair(other) : new Map();
    const filled = (hit) => marks.get(hit.id) ?? (noise?.severity ? { on: true, words: "new" } : other ? { on: true, words: "only here" } : null);
    const whole = new Map(column.hits.map((hit) => [hit.id, filled(hit)]).filter(([, mark]) => mark));
    return h("div", { class: "column", data: { version: column.version } },
      h("h3", {}, label),
      noise?.severity && column.of !== undefined ? keptOf(column) : null,
      neighbours(column, { marks: whole, query: linkOf(state), why: (hit, rank) => why(item, hit, { ...column, rank }, noise) }),
      hiddenOf(column),
      noise?.severity && column.lost?.length ? lostOf(column) : null);
  });
}

const linkOf = ({ versions }) => ({ version: versions[0], beside: versions[1] });

function marksOfTrial({ hits, was }) {
  return new Map(hits.flatMap((hit, place) => hit.id in was
    ? [[hit.id, { on: false, words: was[hit.id] === place ? "kept" : `kept, was ${was[hit.id] + 1}.` }]] : []));
}

const marksOfPair = (other) => new Map(other.hits.map((hit, place) => [hit.id, { on: false, words: `${place + 1}. there` }]));

function lostOf(column) {
  return h("details", { class: "lost" },
    h("summary", {}, `Lost: ${plural(column.lost.length, "neighbour")} of the clean picture`),
    h("ul", { class: "cards small-cards" }, column.lost.map((hit) => card(hit))));
}

function skeleton() {
  return h("div", { class: "product", "aria-hidden": "true" },
    h("div", { class: "about waiting" }, h("div", { class: "big" }, h("span", { class: "frame" })), h("span", { class: "bone" })),
    h("div", { class: "near" }, h("ol", { class: "cards neighbours" }, waiting(8))));
}

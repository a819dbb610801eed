// Why two products are near each other: what the model looked at in both, what agrees, what the gates do.
import { get, noisedOf, pictureOf } from "./api.js";
import { choice, h, s, score } from "./dom.js";
import { frame, nameOf, productAddress, wrong } from "./parts.js";

const STREAMS = { anchored: "Anchored", exploratory: "Exploratory", query: "Queries" };
const MEANS = {
  off: "The pictures as the model gets them.",
  agreement: "Where picture and text agree: the alignment’s map, before any query has looked.",
  anchored: "Anchored queries are made of this item’s own text; they look where the text leads them.",
  exploratory: "Exploratory queries are the same for every item; they look at whatever tends to matter.",
  query: "The learned queries of this connector, the same for every item.",
};
// Dark violet to pale yellow, readable over a grey picture by lightness alone.
const RAMP = [[20, 11, 53, 0.1], [114, 31, 129, 0.5], [205, 64, 99, 0.68], [251, 136, 40, 0.8], [252, 253, 191, 0.9]];

/** Open the explanation of one neighbour. `noise`: what the first picture wears, or null. */
export async function why(item, hit, column, noise) {
  const body = h("div", { class: "why-body" }, h("p", { class: "soft" }, "Looking at both pictures …"));
  const close = h("button", { class: "quiet", type: "button", "aria-label": "Close", onclick: () => dialog.close() }, "✕");
  const dialog = h("dialog", { class: "why-dialog", "aria-labelledby": "why-title" },
    h("div", { class: "head" }, h("h2", { id: "why-title" }, "Why are these near each other?"), close), body);
  const ended = new AbortController();
  dialog.addEventListener("close", () => { ended.abort(); dialog.remove(); });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  document.body.append(dialog);
  dialog.showModal();
  const ask = async () => {
    try {
      const found = await get("why", { id: item.id, other: hit.id, version: column.version, ...noise }, ended.signal);
      body.replaceChildren(...explain(item, hit, found, column, noise));
    } catch (error) {
      if (error.name !== "AbortError") body.replaceChildren(wrong(error, ask));
    }
  };
  await ask();
}

function explain(item, hit, found, column, noise) {
  const seen = found.seen;
  const views = [view(item, noise ? noisedOf(item, noise) : pictureOf(item, "large"), noise?.severity ? "this product, with noise" : "this product"),
    view(hit, pictureOf(hit, "large"), "its neighbour")];
  const panel = seen ? lookPanel(views, seen) : null;
  return [
    h("ul", { class: "reasons" }, reasons(found, hit, column).map((words) => h("li", {}, words))),
    h("div", { class: "sight" }, h("div", { class: "pair" }, views.map((one) => one.figure))),
    h("div", { class: "grounds" }, factsTable(found),
      h("a", { class: "button strong", href: productAddress(hit.id), "data-link": true }, `Open ${nameOf(hit)}`)),
    h("details", { class: "advanced", ontoggle: (event) => panel?.show(event.target.open) },
      h("summary", {}, "Advanced: what the model looked at, and its gates"),
      h("p", { class: "soft small" }, `${found.label}: cosine ${score(hit.score)}, 1 at most.`),
      seen ? h("div", { class: "inside" }, h("div", {}, panel.parts), gatesPanel(seen)) : h("p", { class: "wrong" }, found.note)),
  ];
}

/** Why, in words: what agrees, what does not, and how near the two are to the model. */
function reasons({ facts, label }, hit, { rank }) {
  const known = facts.filter((fact) => fact.agrees !== null);
  const levels = known.filter((fact) => fact.name.startsWith("category"));
  const same = levels.findLast((fact) => fact.agrees);
  const colour = known.find((fact) => fact.name.startsWith("colour in"));
  const price = known.find((fact) => fact.name === "price");
  const others = known.filter((fact) => !levels.includes(fact) && fact !== colour && fact !== price);
  const agree = others.filter((fact) => fact.agrees), differ = others.filter((fact) => !fact.agrees);
  return [
    same ? `Both are in ${same.first}.` : levels.length ? `They are in different categories: ${levels[0].first} and ${levels[0].second}.` : null,
    agree.length ? `The same ${list(agree.map((fact) => `${fact.name} (${fact.first})`))}.` : null,
    colour ? (colour.agrees ? `Both look ${colour.first}.` : `This one looks ${colour.first}, its neighbour ${colour.second}.`) : null,
    price ? `${price.agrees ? "Prices are close" : "Prices differ"}: ${price.first} and ${price.second}.` : null,
    differ.length ? `Not the same: ${list(differ.map((fact) => `${fact.name} (${fact.first}, ${fact.second})`))}.` : null,
    known.some((fact) => fact.agrees) ? null : "Nothing that the shop says of them agrees: what is alike is in pictures and titles.",
    `To ${label} it is neighbour number ${rank} of this product.`,
  ].filter(Boolean);
}

const list = (words) => words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;

/** A picture with a sheet above it for the heat. */
function view(item, src, role) {
  const canvas = h("canvas", { class: "heat", "aria-hidden": "true" });
  const box = frame(item, { src: item.picture ? src : null, lazy: false });
  box.append(canvas);
  const note = h("span", { class: "soft small" });
  return { canvas, box, note, figure: h("figure", {}, box, h("figcaption", {},
    h("span", { class: "title" }, nameOf(item)), h("span", { class: "soft small" }, role), note)) };
}

function lookPanel(views, seen) {
  const streams = Object.keys(seen.items.find((one) => Object.keys(one.attention).length)?.attention ?? {});
  const options = [["off", "Picture"], ...streams.map((name) => [name, STREAMS[name] ?? name])];
  if (seen.items.some((one) => one.agreement_map)) options.push(["agreement", "Agreement"]);
  const state = { stream: streams[0] ?? "off", query: "mean", open: false };
  const note = h("p", { class: "soft small" });
  const queries = h("div");
  const draw = () => {
    note.textContent = MEANS[state.stream] ?? "Where these queries looked.";
    const many = seen.items.map((one) => one.attention[state.stream]?.length ?? 0).reduce((a, b) => Math.max(a, b), 0);
    if (state.query !== "mean" && Number(state.query) >= many) state.query = "mean";
    queries.replaceChildren();
    if (many > 1) {
      queries.append(choice("Which query", "query",
        [["mean", "All"], ...Array.from({ length: many }, (_, at) => [`${at}`, `Query ${at + 1}`])], state.query,
        (query) => { state.query = query; draw(); }));
    }
    views.forEach((one, at) => heat(one, state.open ? mapOf(seen.items[at], state) : null, seen));
  };
  draw();
  const parts = options.length < 2 ? [h("p", { class: "soft small" }, "This connector does not say where it looks.")]
    : [h("h3", {}, "Where it looked: drawn on the pictures above"), h("div", { class: "looks" }, choice("What to show", "stream", options, state.stream,
      (stream) => { state.stream = stream; draw(); }), queries), note];
  return { parts, show: (open) => { state.open = open; draw(); } };
}

function mapOf(sight, { stream, query }) {
  if (stream === "agreement") return sight.agreement_map;
  const maps = sight.attention[stream];
  if (!maps) return null;
  if (query !== "mean") return maps[Number(query)] ?? null;
  return maps[0].map((_, token) => maps.reduce((sum, map) => sum + map[token], 0) / maps.length);
}

/** Lay a map over a picture, scaled to its own maximum. */
function heat({ canvas, box, note }, map, { grid: [rows, columns], fit }) {
  box.classList.toggle("dimmed", Boolean(map));
  canvas.hidden = !map;
  note.textContent = "";
  if (!map) return;
  const most = Math.max(...map, 1e-9);
  const small = h("canvas", { width: columns, height: rows });
  const pixels = new ImageData(columns, rows);
  map.forEach((value, at) => pixels.data.set(color(value / most), at * 4));
  small.getContext("2d").putImageData(pixels, 0, 0);
  canvas.width = canvas.height = 280;
  const sheet = canvas.getContext("2d");
  sheet.imageSmoothingQuality = "high";
  const share = fit === "crop" ? shareOfCrop(box.querySelector("img")) : 1;
  const side = 280 * share;
  sheet.drawImage(small, (280 - side) / 2, (280 - side) / 2, side, side);
  const top = [...map].sort((one, other) => other - one).slice(0, Math.ceil(map.length / 10)).reduce((sum, one) => sum + one, 0);
  note.textContent = `${Math.round(top * 100)} % of it in a tenth of the picture`;
}

const shareOfCrop = (image) => image?.naturalWidth
  ? Math.min(image.naturalWidth, image.naturalHeight) / Math.max(image.naturalWidth, image.naturalHeight) : 1;

function color(share) {
  const at = Math.max(0, Math.min(0.9999, share)) * (RAMP.length - 1);
  const low = RAMP[Math.floor(at)], high = RAMP[Math.floor(at) + 1], part = at % 1;
  return low.map((value, channel) => (value + (high[channel] - value) * part) * (channel === 3 ? 255 : 1));
}

function factsTable(found) {
  const swatches = found.colors ?? [];
  const cell = (words, swatch) => h("td", {}, swatch ? dot(swatch.css) : null, words ?? "–");
  const rows = found.facts.map((fact) => {
    const colored = fact.name.startsWith("colour in");
    const mark = fact.agrees === null ? ["", "not known"] : fact.agrees ? ["✓", "agrees"] : ["≠", "differs"];
    return h("tr", { class: fact.agrees ? "agrees" : "" }, h("th", { scope: "row" }, fact.name),
      cell(fact.first, colored ? swatches[0] : null), cell(fact.second, colored ? swatches[1] : null),
      h("td", {}, h("span", { "aria-hidden": "true" }, mark[0]), h("span", { class: "unseen" }, mark[1])));
  });
  const agree = found.facts.filter((fact) => fact.agrees).length;
  return h("section", {}, h("h3", {}, `What agrees: ${agree} of ${found.facts.length}`),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "What agrees" }, h("table", {},
      h("thead", { class: "unseen" }, h("tr", {}, ["fact", "this product", "its neighbour", "agrees"].map((words) => h("th", { scope: "col" }, words)))),
      h("tbody", {}, rows))),
    h("p", { class: "soft small" }, "The colour is read from a picture whose background is plain. Prices are those now, and agree within 20 % in one currency."));
}

function dot(css) {
  const made = h("i", { class: "dot", "aria-hidden": "true" });
  made.style.background = css;
  return made;
}

function gatesPanel({ items: [one, other] }) {
  const parts = [];
  if (one.agreement !== null || other.agreement !== null) {
    parts.push(h("h3", {}, "Agreement of picture and text"), meter("this product", one.agreement), meter("its neighbour", other.agreement));
  }
  for (const name of Object.keys(one.gates)) {
    parts.push(h("h3", {}, `Gate of the ${name} queries`), gatePlot(name, one.gates[name], other.gates[name]));
  }
  if (!Object.keys(one.gates).length) parts.push(h("p", { class: "soft small" }, "This connector has no gates."));
  else {
    parts.push(h("p", { class: "legend small soft" }, h("i", { class: "key fill" }), "this product ", h("i", { class: "key stroke" }), "its neighbour. ",
      "Each channel is multiplied by its factor; 1 changes nothing."));
  }
  return h("section", {}, parts);
}

function meter(words, value) {
  const bar = h("span", { class: "meter", "aria-hidden": "true" }, h("i"));
  bar.firstChild.style.width = `${Math.max(0, Math.min(1, (value ?? -1) / 2 + 0.5)) * 100}%`;
  return h("p", { class: "metered small" }, h("span", {}, words), bar, h("span", { class: "figure" }, value === null ? "–" : score(value)));
}

/** How many channels a gate multiplies by which factor: a filled curve for one item, a line for the other. */
function gatePlot(name, one, other) {
  const width = 300, height = 84, base = 64;
  const most = Math.max(...one.counts, ...other.counts, 1);
  const x = (bin) => (bin / one.counts.length) * width;
  const outline = ({ counts }) => `M0,${base} ${counts.map((count, bin) => {
    const y = base - (count / most) * (base - 6);
    return `L${x(bin).toFixed(1)},${y.toFixed(1)} L${x(bin + 1).toFixed(1)},${y.toFixed(1)}`;
  }).join(" ")} L${width},${base}`;
  const words = `mean factor ${one.mean.toFixed(2)}; it damps ${percent(one.damped)} of the channels and raises ${percent(one.raised)}`;
  const label = (at, text, anchor) => s("text", { x: at, y: height - 4, "text-anchor": anchor }, text);
  return h("figure", { class: "gate" },
    s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Factors of the ${name} gate: ${words}` },
      s("path", { d: outline(one), class: "area" }), s("path", { d: outline(other), class: "line" }),
      s("line", { x1: width / 2, x2: width / 2, y1: 2, y2: base, class: "middle" }), s("line", { x1: 0, x2: width, y1: base, y2: base, class: "axis" }),
      label(0, "0: shut", "start"), label(width / 2, "1: unchanged", "middle"), label(width, "2: doubled", "end")),
    h("figcaption", { class: "soft small" }, words, "."));
}

const percent = (share) => `${Math.round(share * 100)} %`;

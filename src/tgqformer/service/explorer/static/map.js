// The map of the catalogue: near means alike. The server places the points; here they are drawn and looked up.
import { bytes, get, Wrong } from "./api.js";
import { h, number, plural, say, settled } from "./dom.js";
import { frame, nameOf, productAddress, wrong } from "./parts.js";
import { plane } from "./plane.js";

const LIGHT = ["#0b7a75", "#d0582f", "#5556c9", "#b8860b", "#b23f86", "#2b80c5", "#5c861d", "#8a5a3b", "#c4314b", "#8b9099"];
const DARK = ["#45c4ba", "#f0845c", "#9a9bf2", "#e0b84a", "#e07ab8", "#69b1ec", "#9cc457", "#c99b78", "#f0758a", "#8d939c"];

export async function show(place, { about, query, signal, go, titled }) {
  titled("Map");
  const canvas = h("canvas", { tabindex: "0", role: "application", "aria-label": "Map of the catalogue. Arrow keys go from product to product, Enter opens one, plus and minus zoom, 0 shows all.", "aria-describedby": "map-help" });
  const spot = h("a", { class: "spot appear", hidden: true, "data-link": true });
  const preparing = h("div", { class: "preparing" });
  const sea = h("div", { class: "sea" }, canvas, spot, preparing);
  const islands = h("ul", { class: "islands", "aria-label": "Categories" });
  const size = h("p", { class: "soft small", id: "map-help" }, "\u00a0");
  place.append(h("div", { class: "map-page" },
    h("div", { class: "head" }, h("div", {}, h("h1", {}, "Map"), size)), sea, islands));
  let state;
  try {
    state = await ready(preparing, signal);
    if (!state.count) throw new Wrong(404, "There is nothing to show on a map yet.", "Put items into the store first.");
  } catch (error) {
    if (error.name !== "AbortError") preparing.replaceChildren(wrong(error, () => go("map", { replace: true })));
    return;
  }
  const points = unpacked(await bytes("map/points", { tag: state.tag }));
  preparing.remove();
  size.textContent = `${plural(state.count, "product")}${state.of > state.count ? `, a sample of ${number(state.of)}` : ""}; near means alike to ${about.versions[0]?.label || "the served model"}. Zoom in to see pictures.`;
  const world = plane(canvas, points, {
    colors, chosen: (at) => card(at).then((item) => go(productAddress(item.id))),
    picked: settled(70, (at) => draw(at)), pictureOf: (at) => `explorer/api/map/picture?place=${at}&tag=${state.tag}`,
  });
  const redraw = () => world.draw();
  document.addEventListener("theme", redraw);
  signal.addEventListener("abort", () => { document.removeEventListener("theme", redraw); world.end(); });
  sea.append(buttons(world));
  islands.append(...state.groups.map((group, at) => island(group, at, world, about)));
  document.addEventListener("theme", () => paint(islands), { signal });
  paint(islands);
  canvas.dataset.ready = state.count;

  const known = new Map();
  async function card(at) {
    if (!known.has(at)) known.set(at, await get("map/at", { place: at, tag: state.tag }, signal));
    return known.get(at);
  }
  async function draw(at) {
    if (at < 0) { spot.hidden = true; return; }
    try {
      const item = await card(at);
      if (world.current() !== at) return;
      spot.replaceChildren(frame(item, { alt: "", lazy: false }), h("span", {},
        h("span", { class: "title" }, nameOf(item)), h("span", { class: "line" }, [item.brand, item.category.at(-1)].filter(Boolean).join(" · "))));
      spot.href = productAddress(item.id);
      spot.hidden = false;
      if (document.activeElement === canvas) say(nameOf(item));
    } catch (error) {
      if (error.name !== "AbortError") spot.hidden = true;
    }
  }
  if (query.get("id")) {
    const { place: at } = await get("map/place", { item: query.get("id"), tag: state.tag }, signal);
    if (at === null) say("This product is not in the sample that the map shows.");
    else world.show(at);
  }
}

/** Wait until the server has placed the points, and show how far it is. */
async function ready(place, signal) {
  const bar = h("progress", { max: "1", value: 0, "aria-label": "Placing the products" });
  const words = h("p", { class: "soft" });
  for (;;) {
    const state = await get("map", {}, signal);
    if (state.state === "ready") return state;
    if (state.state === "failed") throw new Wrong(500, state.error, "See the server’s log.");
    if (!bar.isConnected) place.replaceChildren(h("p", {}, "Placing the products. This is done once for each model."), bar, words);
    bar.value = state.done;
    words.textContent = `${Math.round(state.done * 100)} %`;
    await new Promise((done) => setTimeout(done, 500));
    signal.throwIfAborted();
  }
}

function unpacked(buffer) {
  const count = buffer.byteLength / 6;
  const column = (at) => new Uint16Array(buffer, at * 2 * count, count);
  return { x: column(0), y: column(1), group: column(2) };
}

function colors() {
  const style = getComputedStyle(document.documentElement);
  const dark = style.colorScheme === "dark" || (style.colorScheme.includes("dark") && style.colorScheme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  return { groups: dark ? DARK : LIGHT, ink: dark ? "#ffffff" : "#1c1e22", frame: dark ? "#ecebe8" : "#ffffff" };
}

function island(group, at, world, about) {
  const toggle = h("button", { type: "button", "aria-pressed": "true", onclick: () => {
    const on = toggle.getAttribute("aria-pressed") !== "true";
    toggle.setAttribute("aria-pressed", on);
    world.hide(at, !on);
  } }, h("i", { class: "dot", data: { at } }), h("span", {}, group.name, " ", h("span", { class: "soft figure" }, number(group.count))));
  const path = about.categories.find((one) => one.path.at(-1) === group.name)?.path;
  return h("li", {}, toggle, path ? h("a", {
    href: `./?${new URLSearchParams(path.map((level) => ["category", level]))}`, "data-link": true, "aria-label": `${group.name} as a list`,
  }, "list") : null);
}

function paint(islands) {
  const { groups } = colors();
  for (const dot of islands.querySelectorAll(".dot")) dot.style.background = groups[Number(dot.dataset.at) % groups.length];
}

function buttons(world) {
  const button = (words, label, work) => h("button", { type: "button", "aria-label": label, title: label, onclick: work }, words);
  return h("div", { class: "zoom" }, button("+", "Nearer", () => world.zoomBy(1.6)), button("−", "Farther", () => world.zoomBy(1 / 1.6)), button("⌂", "Show all", () => world.home()));
}

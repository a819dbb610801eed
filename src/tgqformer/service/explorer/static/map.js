// The map of the catalogue: near means alike. The server places the points; here they are drawn and looked up.
import { bytes, get, Wrong } from "./api.js";
import { h, number, plural, say, settled } from "./dom.js";
import { card as productCard, frame, nameOf, productAddress, titleOf, wrong } from "./parts.js";
import { plane } from "./plane.js";

const LIGHT = ["#0b7a75", "#d0582f", "#5556c9", "#b8860b", "#b23f86", "#2b80c5", "#5c861d", "#8a5a3b", "#c4314b", "#8b9099"];
const DARK = ["#45c4ba", "#f0845c", "#9a9bf2", "#e0b84a", "#e07ab8", "#69b1ec", "#9cc457", "#c99b78", "#f0758a", "#8d939c"];
// From little to much, told apart by lightness too; the last one is for what is not known.
const LIGHT_STEPS = ["#c9b458", "#9aa94a", "#5d9a63", "#2f7f86", "#2b4f8f", "#8b9099"];
const DARK_STEPS = ["#2f6fb5", "#2f9bb0", "#4cc08f", "#a5d867", "#f4ea7a", "#6f757e"];
const BY = [["category", "category"], ["brand", "brand"], ["price", "price"], ["version", "what another version keeps"]];
const LISTED = 60;

export async function show(place, { about, query, signal, go, titled }) {
  titled("Map");
  const names = about.versions.map((version) => version.name);
  const version = names.includes(query.get("version")) ? query.get("version") : names[0] ?? "";
  const canvas = h("canvas", { tabindex: "0", role: "application", "aria-label": "Map of the catalogue. Arrow keys go from product to product, Enter opens one, plus and minus zoom, 0 shows all.", "aria-describedby": "map-help" });
  const spot = h("a", { class: "spot appear", hidden: true, "data-link": true });
  const preparing = h("div", { class: "preparing" });
  const sea = h("div", { class: "sea" }, canvas, spot, preparing);
  const islands = h("ul", { class: "islands", "aria-label": "Groups" });
  const listing = h("section", { class: "listing", hidden: true, "aria-label": "Chosen products" });
  const size = h("p", { class: "soft small", id: "map-help" }, "\u00a0");
  const tools = h("div", { class: "tools" });
  place.append(h("div", { class: "map-page" },
    h("div", { class: "head" }, h("div", {}, h("h1", {}, "Map"), size)), tools, sea, h("div", { class: "legend-of" }, islands), listing));
  let state;
  try {
    state = await ready(preparing, version, signal);
    if (!state.count) throw new Wrong(404, "There is nothing to show on a map yet.", "Put items into the store first.");
  } catch (error) {
    if (error.name !== "AbortError") preparing.replaceChildren(wrong(error, () => go("map", { replace: true })));
    return;
  }
  const same = { version, tag: state.tag };
  const points = unpacked(await bytes("map/points", same));
  preparing.remove();
  const label = about.versions.find((one) => one.name === version)?.label || "the served model";
  size.textContent = `${plural(state.count, "product")}${state.of > state.count ? `, a sample of ${number(state.of)}` : ""}; near means alike to ${label}. Zoom in to see pictures.`;
  const look = { by: "category" };
  const tones = () => colors(look.by);
  const zoom = h("div", { class: "zoom" }, buttons(() => world, () => list(world.inView(), "in view")));
  sea.append(zoom);
  const world = plane(canvas, points, {
    above: [zoom], colors: tones, chosen: (at) => card(at).then((item) => go(productAddress(item.id))), labels: state.labels,
    picked: settled(70, (at) => draw(at)), pictureOf: (at) => `explorer/api/map/picture?${new URLSearchParams({ place: at, ...same })}`,
    enclosed: (places) => list(places, "inside the lasso"),
  });
  const redraw = () => world.draw();
  document.addEventListener("theme", redraw);
  signal.addEventListener("abort", () => { document.removeEventListener("theme", redraw); world.end(); });
  document.addEventListener("theme", () => paint(islands, tones()), { signal });
  legend(state.groups);
  tools.append(finder(), ...choices());
  canvas.dataset.ready = state.count;

  function legend(groups) {
    islands.replaceChildren(...groups.map((group, at) => island(group, at, world, look.by === "category" ? about.categories : [])));
    paint(islands, tones());
  }

  /** Look for words; what is found stands out, and is listed. */
  function finder() {
    const search = h("input", { type: "search", placeholder: "Find on the map", "aria-label": "Find on the map", maxlength: "200", autocomplete: "off" });
    search.addEventListener("input", settled(250, async () => {
      const words = search.value.trim();
      if (!words) return list(null);
      try {
        const { places } = await get("map/find", { q: words, ...same }, signal);
        if (search.value.trim() === words) await list(places, `found for “${words}”`);
      } catch (error) {
        if (error.name !== "AbortError") listing.replaceChildren(wrong(error));
        listing.hidden = error.name === "AbortError";
      }
    }));
    return search;
  }

  function choices() {
    const options = BY.filter(([name]) => name !== "version" || names.length > 1);
    const by = h("select", { onchange: () => recolor() }, options.map(([value, words]) => h("option", { value }, words)));
    const other = h("select", { onchange: () => recolor() }, about.versions.filter((one) => one.name !== version)
      .map((one) => h("option", { value: one.name }, titleOf(one, about.versions))));
    const beside = h("label", { class: "field", hidden: true }, "Compared with", other);
    async function recolor() {
      beside.hidden = by.value !== "version";
      by.disabled = true;
      try {
        const found = await get("map/colours", { by: by.value, other: by.value === "version" ? other.value : "", ...same }, signal);
        look.by = by.value;
        world.recolor(Uint16Array.from(found.group));
        legend(found.groups);
        say(`Coloured by ${by.selectedOptions[0].textContent}`);
      } catch (error) {
        if (error.name !== "AbortError") islands.replaceChildren(h("li", {}, wrong(error)));
      }
      by.disabled = false;
    }
    const whose = h("select", { onchange: () => go(`map?${new URLSearchParams({ version: whose.value })}`) },
      about.versions.map((one) => h("option", { value: one.name, selected: one.name === version || null }, titleOf(one, about.versions))));
    const lasso = h("button", { type: "button", "aria-pressed": "false", onclick: () => {
      const on = lasso.getAttribute("aria-pressed") !== "true";
      lasso.setAttribute("aria-pressed", on);
      canvas.classList.toggle("roping", on);
      world.useLasso(on);
    } }, "Lasso");
    return [names.length > 1 ? h("label", { class: "field" }, "Map of", whose) : null, h("label", { class: "field" }, "Colour by", by), beside, lasso].filter(Boolean);
  }

  /** List products beside the map and let them stand out; null: none. */
  async function list(places, words = "") {
    world.mark(places);
    listing.hidden = !places;
    if (!places) return;
    const first = places.slice(0, LISTED);
    const items = first.length ? (await get("map/at", { place: first, ...same }, signal)).items : [];
    const head = `${plural(places.length, "product")} ${words}${places.length > first.length ? `, the first ${LISTED}` : ""}`;
    listing.replaceChildren(h("div", { class: "head" }, h("h2", {}, head), h("button", { type: "button", onclick: () => list(null) }, "Clear")),
      h("ul", { class: "cards small-cards" }, items.map((item) => productCard(item))));
    say(head);
  }

  const known = new Map();
  async function card(at) {
    if (!known.has(at)) known.set(at, (await get("map/at", { place: at, ...same }, signal)).items[0]);
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
    const { place: at } = await get("map/place", { item: query.get("id"), ...same }, signal);
    if (at === null) say("This product is not in the sample that the map shows.");
    else world.show(at);
  }
}

/** Wait until the server has placed the points, and show how far it is. */
async function ready(place, version, signal) {
  const bar = h("progress", { max: "1", value: 0, "aria-label": "Placing the products" });
  const words = h("p", { class: "soft" });
  for (;;) {
    const state = await get("map", { version }, signal);
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

function colors(by) {
  const style = getComputedStyle(document.documentElement);
  const dark = style.colorScheme === "dark" || (style.colorScheme.includes("dark") && style.colorScheme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  const steps = by === "price" || by === "version";
  const groups = steps ? (dark ? DARK_STEPS : LIGHT_STEPS) : (dark ? DARK : LIGHT);
  return { groups, ink: dark ? "#ffffff" : "#1c1e22", frame: dark ? "#ecebe8" : "#ffffff", paper: dark ? "#1c1f23" : "#ffffff" };
}

function island(group, at, world, categories) {
  const toggle = h("button", { type: "button", "aria-pressed": "true", onclick: () => {
    const on = toggle.getAttribute("aria-pressed") !== "true";
    toggle.setAttribute("aria-pressed", on);
    world.hide(at, !on);
  } }, h("i", { class: "dot", data: { at } }), h("span", {}, group.name, " ", h("span", { class: "soft figure" }, number(group.count))));
  const paths = categories.filter((one) => one.path.at(-1) === group.name).map((one) => one.path);
  const path = paths.length > 1 ? [group.name] : paths[0]; // a name that stands in several places means all of them
  return h("li", {}, toggle, path ? h("a", {
    href: `./?${new URLSearchParams(path.map((level) => ["category", level]))}`, "data-link": true, "aria-label": `${group.name} as a list`,
  }, "list") : null);
}

function paint(islands, { groups }) {
  for (const dot of islands.querySelectorAll(".dot")) dot.style.background = groups[Number(dot.dataset.at) % groups.length];
}

function buttons(world, listed) {
  const button = (words, label, work) => h("button", { type: "button", "aria-label": label, title: label, onclick: work }, words);
  return [button("+", "Nearer", () => world().zoomBy(1.6)), button("−", "Farther", () => world().zoomBy(1 / 1.6)),
    button("⌂", "Show all", () => world().home()), button("☰", "List what is in view", listed)];
}

// Wins and losses of one version against another, by a rule that stands on the page.
import { get } from "./api.js";
import { h, number, plural, say } from "./dom.js";
import { card, frame, nameOf, productAddress, versionsChoice, waiting, wrong } from "./parts.js";

export async function show(place, { about, query, signal, titled }) {
  titled("Wins and losses");
  const names = about.versions.map((version) => version.name);
  if (!about.judged) {
    place.append(h("div", { class: "empty" }, h("h1", {}, "Wins and losses"),
      h("p", {}, "This needs a run with test pairs and two versions in its store. Serve the folder of a run, such as runs/shop.")));
    return;
  }
  const known = (name, otherwise) => names.includes(query.get(name)) ? query.get(name) : otherwise;
  const versions = [known("version", names[0]), known("beside", names[1])];
  const body = h("div", { class: "verdict" }), choices = h("div");
  const choose = (chosen) => {
    const other = chosen[1] && chosen[1] !== chosen[0] ? chosen[1] : names.find((name) => name !== chosen[0]);
    versions.splice(0, 2, chosen[0], other);
    choices.replaceChildren(versionsChoice(about.versions, versions, choose));
    history.replaceState({}, "", `wins?${new URLSearchParams({ version: versions[0], beside: versions[1] })}`);
    return fill();
  };
  place.append(h("div", { class: "head" }, h("h1", {}, "Wins and losses"), choices), body);
  choices.append(versionsChoice(about.versions, versions, choose));
  let current = new AbortController();
  signal.addEventListener("abort", () => current.abort());
  async function fill() {
    current.abort();
    const own = current = new AbortController();
    body.replaceChildren(h("p", { class: "soft" }, "Asking both versions …"), h("ul", { class: "cards" }, waiting(6)));
    try {
      draw(body, await get("wins", { version: versions }, own.signal), versions.map((name) => about.versions.find((one) => one.name === name).label));
      say("The wins and losses are there.");
    } catch (error) {
      if (error.name !== "AbortError") body.replaceChildren(wrong(error, fill));
    }
  }
  await fill();
}

function draw(body, found, [one, other]) {
  body.replaceChildren(
    h("p", {}, h("strong", {}, `${plural(found.won, "win")}, ${plural(found.lost, "loss", "losses")}, ${number(found.asked - found.won - found.lost)} level`),
      ` for ${one} against ${other}, of ${plural(found.asked, "product")} asked${found.of > found.asked ? ` (of ${number(found.of)})` : ""}.`),
    h("p", { class: "soft small" }, found.rule),
    part(`Wins of ${one}`, found.wins), part(`Losses of ${one}`, found.losses));
}

const part = (title, judged) => h("section", {}, h("h2", {}, title),
  judged.length ? judged.map(example) : h("p", { class: "soft" }, "None."));

function example({ item, partners, columns }) {
  return h("article", { class: "win" },
    h("a", { class: "asked", href: productAddress(item.id, { version: columns[0].version, beside: columns[1].version }), "data-link": true },
      frame(item, { alt: "" }), h("span", { class: "title" }, nameOf(item)), h("span", { class: "line" }, plural(partners, "partner"))),
    h("div", { class: "rows" }, columns.map((column) => h("div", {},
      h("h3", {}, column.label, " ", h("span", { class: "soft" }, `${column.hits.filter((hit) => hit.partner).length} found`)),
      h("ol", { class: "cards strip", tabindex: "0", "aria-label": `Nearest by ${column.label}` }, column.hits.map((hit) => {
        const made = card(hit, { extra: hit.partner ? h("span", { class: "tag on" }, "partner") : null, line: "" });
        if (hit.partner) made.classList.add("differs");
        return made;
      }))))));
}

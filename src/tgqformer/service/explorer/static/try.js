// A picture (or a title) of the person's own: what in the shop is like it, by one or two versions.
import { post } from "./api.js";
import { arrows, h, number, say } from "./dom.js";
import { neighbours, versionsChoice, waiting, wrong } from "./parts.js";

export async function show(place, { about, signal, titled }) {
  titled("Try a picture");
  if (!about.model) {
    place.append(h("div", { class: "empty" }, h("h1", {}, "Try a picture"),
      h("p", {}, "This service has no model, so it cannot embed a picture. Start it with --model FOLDER.")));
    return;
  }
  const names = about.versions.map((version) => version.name);
  const state = { file: null, versions: [names[0] ?? "", names[1] ?? ""] };
  const file = h("input", { type: "file", accept: "image/*", class: "unseen", id: "file" });
  const drop = h("label", { class: "drop", for: "file" });
  const title = h("input", { type: "text", name: "title", maxlength: "1000", placeholder: "Red canvas sneakers", autocomplete: "off" });
  const find = h("button", { class: "strong", type: "submit" }, "Find similar products");
  const results = h("div", { class: "columns" });
  let shown = null;
  const release = () => shown && URL.revokeObjectURL(shown);
  signal.addEventListener("abort", release);

  function take(chosen) {
    if (!chosen) return;
    if (chosen.size > about.upload) return results.replaceChildren(wrong({ message: `This file has more than ${number(about.upload / (1 << 20))} MB.`, hint: "Choose a smaller picture." }));
    release();
    state.file = chosen;
    shown = URL.createObjectURL(chosen);
    const image = h("img", { src: shown, alt: "The picture that you chose", onerror: () =>
      drop.replaceChildren(h("span", { class: "soft" }, "This browser cannot show the file; the server may still read it.")) });
    drop.replaceChildren(image, h("span", { class: "soft small" }, "Choose another"));
  }
  async function search(event) {
    event?.preventDefault();
    if (!state.file && !title.value.trim()) {
      return results.replaceChildren(wrong({ message: "There is nothing to look for yet.", hint: "Choose a picture, write a title, or both." }));
    }
    const form = new FormData();
    if (state.file) form.append("picture", state.file);
    form.append("title", title.value.trim());
    const versions = state.versions.filter(Boolean);
    results.dataset.count = versions.length;
    results.replaceChildren(...versions.map(() => h("div", { class: "column" }, h("ol", { class: "cards neighbours" }, waiting(6)))));
    find.disabled = true;
    try {
      const found = await post("search", form, { version: versions, k: 12 }, signal);
      results.replaceChildren(...found.columns.map((column, at) => h("div", { class: "column", data: { version: column.version } },
        h("h3", {}, column.label), neighbours(column, { marks: marks(column, found.columns[1 - at]) }))));
      say("The results are there.");
    } catch (error) {
      if (error.name !== "AbortError") results.replaceChildren(wrong(error));
    }
    find.disabled = false;
  }
  file.addEventListener("change", () => { take(file.files[0]); if (state.file) search(); });
  for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
  for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => { event.preventDefault(); take(event.dataTransfer.files[0]); if (state.file) search(); });
  drop.append(h("span", { class: "plus", "aria-hidden": "true" }, "+"), h("span", {}, "Choose a picture, or drop one here"));
  arrows(results, ".card > a");
  place.append(h("div", { class: "product" },
    h("section", { class: "about", "aria-label": "Your picture" },
      h("form", { class: "own", onsubmit: search },
        h("h1", {}, "Try a picture"),
        h("p", { class: "soft" }, "What in this shop is like it? The picture is embedded here and not kept."),
        file, drop, h("label", { class: "field" }, "Title, if there is one: it tells which product is meant", title), find)),
    h("section", { class: "near", "aria-label": "Similar products" },
      h("div", { class: "head" }, h("h2", {}, "Similar products"), about.versions.length > 1
        ? versionsChoice(about.versions, state.versions, (versions) => { state.versions = versions; if (state.file || title.value) search(); }) : null),
      results)));
  results.append(h("div", { class: "empty" }, h("p", {}, "The neighbours of your picture will stand here.")));
}

function marks(column, other) {
  if (!other || other.error) return new Map();
  const there = new Map(other.hits.map((hit, place) => [hit.id, place]));
  return new Map(column.hits.map((hit) => [hit.id, there.has(hit.id)
    ? { on: false, words: `${there.get(hit.id) + 1}. there` } : { on: true, words: "only here" }]));
}

// What the API takes and gives, from its own description: every route, its parameters, a command to try it.
import { h } from "./dom.js";
import { Wrong } from "./api.js";

/** Return words with what stands between backticks as code. */
const worded = (words) => words.split("`").map((part, at) => (at % 2 ? h("code", {}, part) : part));
const METHODS = ["get", "post", "put", "delete"];

export async function show(place, { signal, titled }) {
  titled("API");
  const answer = await fetch("openapi.json", { signal });
  if (!answer.ok) throw new Wrong(answer.status, "The description of the API cannot be read.", "Load the page again.");
  const spec = await answer.json();
  const routes = Object.entries(spec.paths).flatMap(([path, methods]) =>
    METHODS.filter((method) => methods[method]).map((method) => ({ path, method, ...methods[method] })));
  const tags = [...new Set(routes.flatMap((route) => route.tags ?? []))];
  place.append(h("div", { class: "docs" }, h("h1", {}, "The API"),
    spec.info.description.trim().split("\n\n").map((words) => h("p", { class: "soft" }, worded(words))),
    h("p", {}, "For programs: ", h("a", { href: "openapi.json" }, "openapi.json"), ` (version ${spec.info.version}).`),
    tags.map((tag) => h("section", {}, h("h2", {}, spec.tags?.find((one) => one.name === tag)?.description ?? tag),
      routes.filter((route) => route.tags?.includes(tag)).map((route) => entry(route, spec))))));
}

function entry(route, spec) {
  const rows = [...(route.parameters ?? []).map((one) => [one.name, `${one.in}${one.required ? ", required" : ""}`, typeOf(one.schema, spec), one.description ?? ""]),
    ...fieldsOf(route.requestBody, spec)];
  return h("details", { class: "route" },
    h("summary", {}, h("b", {}, route.method.toUpperCase()), " ", h("code", {}, route.path), " ", h("span", { class: "soft" }, worded((route.description ?? route.summary ?? "").split("\n")[0]))),
    (route.description ?? "").split("\n\n").slice(1).map((words) => h("p", {}, worded(words))),
    rows.length ? h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Parameters of ${route.method} ${route.path}` }, h("table", {},
      h("thead", {}, h("tr", {}, ["name", "where", "type", "what"].map((words) => h("th", { scope: "col" }, words)))),
      h("tbody", {}, rows.map(([name, ...cells]) => h("tr", {}, h("th", { scope: "row" }, h("code", {}, name)), cells.map((words) => h("td", {}, worded(words)))))))) : null,
    h("pre", { tabindex: "0", role: "region", "aria-label": `Command for ${route.method} ${route.path}` }, h("code", {}, command(route))),
    h("p", { class: "soft small" }, `Answers: ${Object.entries(route.responses).map(([code, one]) => `${code} ${one.description}`).join("; ")}`));
}

function fieldsOf(body, spec) {
  return Object.entries(body?.content ?? {}).slice(0, 1).flatMap(([type, { schema }]) => {
    const whole = resolved(schema, spec);
    return Object.entries(whole.properties ?? {}).map(([name, one]) =>
      [name, `${type.includes("json") ? "JSON" : "form"}${whole.required?.includes(name) ? ", required" : ""}`, typeOf(one, spec), one.description ?? ""]);
  });
}

const resolved = (schema, spec) => schema?.$ref ? schema.$ref.split("/").slice(1).reduce((part, name) => part[name], spec) : schema ?? {};

function typeOf(schema, spec) {
  const one = resolved(schema, spec);
  const kinds = one.anyOf ?? one.oneOf;
  if (kinds) return kinds.map((kind) => typeOf(kind, spec)).filter((words) => words !== "null").join(" or ");
  if (one.enum) return one.enum.join(", ");
  return one.type === "array" ? `several: ${typeOf(one.items, spec)}` : [one.type ?? "any", one.format].filter(Boolean).join(", ");
}

function command({ method, path, requestBody }) {
  const root = location.href.replace(/docs\/?([?#].*)?$/, "");
  const how = method === "get" ? "" : ` -X ${method.toUpperCase()}`;
  const type = Object.keys(requestBody?.content ?? {})[0];
  const body = !type ? "" : type.includes("json") ? ` -H 'Content-Type: ${type}' -d '{}'` : " -F 'title=Red canvas sneakers'";
  return `curl${how} '${root}${path.slice(1)}'${body}`;
}

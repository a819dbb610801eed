// Small tools that every page uses: elements, words, numbers. Text always goes in as text, never as HTML.

/** Make an element. Attributes: `class`, `on…` (listeners), `data` (dataset), booleans; null and false are left out. */
export function h(name, attributes = {}, ...children) {
  const element = name === "svg" || attributes.svg
    ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false || key === "svg") continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "data") Object.assign(element.dataset, value);
    else if (key === "value" || key === "checked") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Make an SVG element. */
export const s = (name, attributes = {}, ...children) => h(name, { ...attributes, svg: true }, ...children);

/** Say something to screen readers, without a change on the page. */
export function say(words) {
  document.getElementById("said").textContent = words;
}

const counts = new Intl.NumberFormat("en-GB");
export const number = (value) => counts.format(value);
export const score = (value) => value.toFixed(2).replace("-", "−");
export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;
export const money = (value) => value.toLocaleString("en-GB", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

/** Wait until calls have stopped for `ms`, then run the last one. */
export function settled(ms, work) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...given), ms);
  };
}

/** Let arrow keys move the focus among the links of a grid, by what lies next on the screen. */
export function arrows(container, selector) {
  container.addEventListener("keydown", (event) => {
    const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
    const from = event.target.closest?.(selector);
    if (!way || !from || event.altKey || event.ctrlKey || event.metaKey) return;
    const next = nearest(from, [...container.querySelectorAll(selector)], way);
    if (!next) return;
    event.preventDefault();
    next.focus();
    next.scrollIntoView({ block: "nearest" });
  });
}

function nearest(from, all, [right, down]) {
  if (right) return all[all.indexOf(from) + right];
  const here = from.getBoundingClientRect();
  let best = null, least = Infinity;
  for (const one of all) {
    const box = one.getBoundingClientRect();
    const rows = (box.top - here.top) * down;
    if (rows < here.height / 2) continue;
    const away = rows * 4 + Math.abs(box.left - here.left);
    if (away < least) [best, least] = [one, away];
  }
  return best;
}

/** A row of choices: radio buttons that look like one control. `options`: [[value, words], …]. */
export function choice(legend, name, options, chosen, changed) {
  return h("fieldset", { class: "choice" },
    h("legend", { class: "unseen" }, legend),
    options.map(([value, words]) => h("label", {},
      h("input", { type: "radio", name, value, checked: value === chosen, onchange: () => changed(value) }),
      h("span", {}, words))));
}

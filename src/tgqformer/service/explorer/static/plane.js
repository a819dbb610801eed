// A plane of points on a canvas: pan, zoom, pinch, hover, tap, and the same by keyboard. Knows nothing of products.

const CELLS = 64;
const WIDEST = 1;
const PICTURES = 600;

/**
 * Draw points and let a person move among them.
 * points: {x, y, group} as Uint16Array. colors: () => one CSS colour a group, and `ink`, `line`.
 * picked(place or -1): the point under the pointer or the crosshair has changed; chosen(place): it was opened.
 * pictureOf(place): address of a point's picture, shown where few points are in view.
 * labels: names of places, {name, x, y}, shown while the whole is in view. enclosed(places): a lasso was closed.
 * above: elements at the right edge that stand above the canvas; no name is written below them.
 */
export function plane(canvas, points, { colors, picked, chosen, pictureOf, labels = [], enclosed = () => null, above = [] }) {
  const count = points.x.length;
  const index = indexed(points);
  const view = { x: 0.5, y: 0.5, zoom: 1 };
  const closest = Math.max(12, 1.2 * Math.sqrt(count));
  const hidden = new Set();
  const pictures = new Map();
  const reduced = matchMedia("(prefers-reduced-motion: reduce)");
  let size = { width: 1, height: 1, side: 1 }, current = -1, frame = 0, flight = 0;
  let marked = null, rope = null; // places that stand out, of all; the lasso's corners while it is drawn

  const at = (place) => ({ x: points.x[place] / 65535, y: points.y[place] / 65535 });
  const toScreen = ({ x, y }) => ({
    x: (x - view.x) * size.side * view.zoom + size.width / 2, y: (view.y - y) * size.side * view.zoom + size.height / 2,
  });
  const toPlane = (x, y) => ({
    x: (x - size.width / 2) / (size.side * view.zoom) + view.x, y: view.y - (y - size.height / 2) / (size.side * view.zoom),
  });
  const shown = (place) => !hidden.has(points.group[place]);

  function resize() {
    const box = canvas.getBoundingClientRect();
    const ratio = Math.min(devicePixelRatio || 1, 2);
    size = { width: box.width, height: box.height, side: Math.min(box.width, box.height) * 0.94, ratio };
    canvas.width = Math.round(box.width * ratio);
    canvas.height = Math.round(box.height * ratio);
    draw();
  }
  const later = () => { frame ||= requestAnimationFrame(() => { frame = 0; draw(); }); };

  function inView() {
    const low = toPlane(0, size.height), high = toPlane(size.width, 0);
    return index.within(low, high).filter(shown);
  }

  function draw() {
    const sheet = canvas.getContext("2d");
    const tones = colors();
    sheet.setTransform(size.ratio, 0, 0, size.ratio, 0, 0);
    sheet.clearRect(0, 0, size.width, size.height);
    const visible = inView();
    const radius = Math.min(7, Math.max(1.1, 1.5 * Math.sqrt(view.zoom) * Math.min(1.6, Math.sqrt(6000 / count))));
    const byGroup = new Map();
    for (const place of visible) {
      const group = points.group[place];
      byGroup.has(group) ? byGroup.get(group).push(place) : byGroup.set(group, [place]);
    }
    for (const [group, places] of byGroup) {
      const color = tones.groups[group % tones.groups.length];
      sheet.globalAlpha = marked ? 0.14 : visible.length > 4000 ? 0.75 : 0.9;
      dots(sheet, places, radius, color);
      sheet.globalAlpha = 1;
      if (marked) dots(sheet, places.filter((place) => marked.has(place)), radius + 1.5, color);
    }
    if (visible.length <= PICTURES && view.zoom > 2) spread(visible).forEach((place) => picture(sheet, place, tones));
    if (view.zoom < 3) names(sheet, tones);
    if (rope) outline(sheet, tones);
    if (current >= 0) ring(sheet, toScreen(at(current)), radius, tones);
  }

  function dots(sheet, places, radius, color) {
    sheet.fillStyle = color;
    sheet.beginPath();
    for (const place of places) {
      const { x, y } = toScreen(at(place));
      if (radius < 1.8) sheet.rect(x - radius, y - radius, 2 * radius, 2 * radius);
      else { sheet.moveTo(x + radius, y); sheet.arc(x, y, radius, 0, 7); }
    }
    sheet.fill();
  }

  /** Return how far right a name may reach at a height. */
  function rightEdge(y) {
    const own = canvas.getBoundingClientRect();
    const beside = above.map((one) => one.getBoundingClientRect())
      .filter((box) => box.top - own.top - 8 < y && y < box.bottom - own.top + 14).map((box) => box.left - own.left - 4);
    return Math.min(size.width - 4, ...beside);
  }

  /** Write the names of clusters, the first first, none over another or below what stands above the canvas. */
  function names(sheet, tones) {
    sheet.font = "600 13px system-ui, sans-serif";
    sheet.textAlign = "center";
    sheet.lineWidth = 4;
    sheet.lineJoin = "round";
    const taken = [];
    for (const { name, ...spot } of labels) {
      const { x: middle, y } = toScreen(spot), half = sheet.measureText(name).width / 2, right = rightEdge(y);
      if (middle < 0 || middle > size.width || right < 2 * half + 4) continue;
      const x = Math.min(Math.max(middle, half + 4), right - half);
      if (taken.some((one) => Math.abs(one.y - y) < 18 && Math.abs(one.x - x) < one.half + half + 6)) continue;
      taken.push({ x, y, half });
      sheet.strokeStyle = tones.paper;
      sheet.strokeText(name, x, y);
      sheet.fillStyle = tones.ink;
      sheet.fillText(name, x, y);
    }
  }

  function outline(sheet, tones) {
    sheet.beginPath();
    rope.forEach(({ x, y }, at) => (at ? sheet.lineTo(x, y) : sheet.moveTo(x, y)));
    sheet.closePath();
    sheet.strokeStyle = tones.ink;
    sheet.lineWidth = 2;
    sheet.setLineDash([6, 4]);
    sheet.stroke();
    sheet.setLineDash([]);
  }

  /** Draw the lasso on, or close it: what lies inside is told. */
  function lasso(spot, closed) {
    if (spot) rope = [...(rope ?? []), spot];
    else if (!closed) rope = null;
    if (closed) {
      const corners = rope ?? [];
      rope = null;
      if (corners.length > 2) enclosed(inView().filter((place) => inside(toScreen(at(place)), corners)));
    }
    later();
  }

  const sideOf = () => Math.min(84, 26 + 3 * view.zoom);

  /** Choose points whose pictures would not lie on each other, the current one first. */
  function spread(places) {
    const taken = [], side = sideOf() * 0.92;
    for (const place of [current, ...places]) {
      if (place < 0 || !shown(place)) continue;
      const { x, y } = toScreen(at(place));
      if (taken.every((one) => Math.max(Math.abs(one.x - x), Math.abs(one.y - y)) > side)) taken.push({ x, y, place });
    }
    return taken.map((one) => one.place);
  }

  function picture(sheet, place, tones) {
    let image = pictures.get(place);
    if (!image) {
      image = new Image();
      image.onload = later;
      image.src = pictureOf(place);
      pictures.set(place, image);
      if (pictures.size > 900) pictures.delete(pictures.keys().next().value);
    }
    if (!image.complete || !image.naturalWidth) return;
    const side = sideOf();
    const { x, y } = toScreen(at(place));
    const scale = side / Math.max(image.naturalWidth, image.naturalHeight);
    sheet.save();
    sheet.beginPath();
    sheet.roundRect(x - side / 2, y - side / 2, side, side, side / 6);
    sheet.fillStyle = tones.frame;
    sheet.fill();
    sheet.clip();
    sheet.drawImage(image, x - image.naturalWidth * scale / 2, y - image.naturalHeight * scale / 2, image.naturalWidth * scale, image.naturalHeight * scale);
    sheet.restore();
    sheet.beginPath();
    sheet.roundRect(x - side / 2, y - side / 2, side, side, side / 6);
    sheet.lineWidth = 2;
    sheet.strokeStyle = tones.groups[points.group[place] % tones.groups.length];
    sheet.stroke();
  }

  function ring(sheet, { x, y }, radius, tones) {
    sheet.lineWidth = 2.5;
    sheet.strokeStyle = tones.ink;
    sheet.beginPath();
    if (pictures.get(current)?.naturalWidth && view.zoom > 2) {
      const side = sideOf() + 6;
      sheet.roundRect(x - side / 2, y - side / 2, side, side, side / 6);
    } else sheet.arc(x, y, radius + 6, 0, 7);
    sheet.stroke();
  }

  function select(place, { tell = true } = {}) {
    if (place === current) return;
    current = place;
    later();
    if (tell) picked(place);
  }

  function bound() {
    view.zoom = Math.min(closest, Math.max(WIDEST, view.zoom));
    const slack = 0.5 / view.zoom;
    view.x = Math.min(1 + slack / 2, Math.max(-slack / 2, view.x));
    view.y = Math.min(1 + slack / 2, Math.max(-slack / 2, view.y));
    later();
  }

  function zoomBy(factor, x = size.width / 2, y = size.height / 2) {
    const before = toPlane(x, y);
    view.zoom = Math.min(closest, Math.max(WIDEST, view.zoom * factor));
    const after = toPlane(x, y);
    view.x += before.x - after.x;
    view.y += before.y - after.y;
    bound();
  }

  /** Move the view to a point, quickly or (with reduced motion) at once. */
  function flyTo(goal) {
    cancelAnimationFrame(flight);
    const start = { ...view }, began = performance.now(), length = reduced.matches ? 1 : 320;
    const step = (now) => {
      const part = Math.min(1, (now - began) / length), eased = 1 - (1 - part) ** 3;
      view.x = start.x + (goal.x - start.x) * eased;
      view.y = start.y + (goal.y - start.y) * eased;
      view.zoom = start.zoom * ((goal.zoom ?? start.zoom) / start.zoom) ** eased;
      bound();
      if (part < 1) flight = requestAnimationFrame(step);
    };
    flight = requestAnimationFrame(step);
  }

  function under(x, y, reach) {
    const spot = toPlane(x, y), away = reach / (size.side * view.zoom);
    return index.nearest(spot, away, shown);
  }

  function step(right, up) {
    if (current < 0) return select(index.nearest({ x: view.x, y: view.y }, 1, shown));
    const next = index.towards(at(current), right, up, shown, current);
    if (next < 0) return;
    select(next);
    const { x, y } = toScreen(at(next));
    if (x < 40 || y < 40 || x > size.width - 40 || y > size.height - 40) flyTo(at(next));
  }

  const tool = { lasso: false };
  follow(canvas, { view, zoomBy, bound, select, under, chosen, step, flyTo, lasso, tool, size: () => size, current: () => current });
  const watcher = new ResizeObserver(resize);
  watcher.observe(canvas);
  resize();
  return {
    draw: later, zoomBy, select, count, view,
    current: () => current,
    home: () => flyTo({ x: 0.5, y: 0.5, zoom: 1 }),
    show: (place) => { select(place); flyTo({ ...at(place), zoom: Math.max(view.zoom, 8) }); },
    inView, useLasso: (on) => { tool.lasso = on; },
    mark: (places) => { marked = places && new Set(places); later(); },
    recolor: (group) => { points.group = group; hidden.clear(); later(); },
    hide: (group, off) => { off ? hidden.add(group) : hidden.delete(group); later(); },
    end: () => { watcher.disconnect(); cancelAnimationFrame(frame); cancelAnimationFrame(flight); },
  };
}

/** Whether a spot lies inside a polygon: a ray from it crosses the sides an odd number of times. */
function inside({ x, y }, corners) {
  let odd = false;
  corners.forEach((one, at) => {
    const other = corners.at(at - 1);
    if ((one.y > y) !== (other.y > y) && x < (other.x - one.x) * (y - one.y) / (other.y - one.y) + one.x) odd = !odd;
  });
  return odd;
}

/** Pointers, wheel and keys. One pointer pans, two pinch; a press that hardly moved is a tap. */
function follow(canvas, { view, zoomBy, bound, select, under, chosen, step, flyTo, lasso, tool, size, current }) {
  const pointers = new Map();
  let moved = 0;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (!pointers.size) moved = 0;
    pointers.set(event.pointerId, place(event));
    canvas.setPointerCapture(event.pointerId);
    if (tool.lasso) lasso(pointers.size === 1 ? place(event) : null);
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = place(event), before = pointers.get(event.pointerId);
    if (!before) return select(under(now.x, now.y, 14));
    if (tool.lasso && pointers.size === 1) lasso(now);
    else if (pointers.size === 1) {
      view.x -= (now.x - before.x) / (size().side * view.zoom);
      view.y += (now.y - before.y) / (size().side * view.zoom);
      bound();
    } else {
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
      const spread = (one) => Math.hypot(one.x - other.x, one.y - other.y) || 1;
      zoomBy(spread(now) / spread(before), (now.x + other.x) / 2, (now.y + other.y) / 2);
    }
    moved += Math.hypot(now.x - before.x, now.y - before.y);
    pointers.set(event.pointerId, now);
  });
  const lift = (event) => {
    const here = place(event);
    const held = pointers.delete(event.pointerId);
    if (held && tool.lasso && !pointers.size) lasso(null, event.type === "pointerup" && moved >= 6);
    if (held && event.type === "pointerup" && moved < 6) {
      const hit = under(here.x, here.y, event.pointerType === "touch" ? 26 : 14);
      if (hit >= 0 && hit === current() && event.pointerType !== "touch") chosen(hit);
      else select(hit);
    }
  };
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const { x, y } = place(event);
    zoomBy(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0018)), x, y);
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const ways = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    if (ways[event.key]) step(...ways[event.key]);
    else if (event.key === "+" || event.key === "=") zoomBy(1.5);
    else if (event.key === "-") zoomBy(1 / 1.5);
    else if (event.key === "0") flyTo({ x: 0.5, y: 0.5, zoom: 1 });
    else if (event.key === "Escape") { select(-1); lasso(null); }
    else if (event.key === "Enter" && current() >= 0) chosen(current());
    else return;
    event.preventDefault();
  });
}

/** Points by cells of a grid, so that looking near a place does not look at all of them. */
function indexed({ x, y }) {
  const cells = Array.from({ length: CELLS * CELLS }, () => []);
  const cell = (value) => Math.max(0, Math.min(CELLS - 1, Math.floor(value * CELLS)));
  for (let place = 0; place < x.length; place += 1) cells[cell(y[place] / 65535) * CELLS + cell(x[place] / 65535)].push(place);

  function within(low, high) {
    const found = [];
    for (let row = cell(low.y); row <= cell(high.y); row += 1) {
      for (let column = cell(low.x); column <= cell(high.x); column += 1) {
        for (const place of cells[row * CELLS + column]) found.push(place);
      }
    }
    return found.filter((place) => x[place] >= low.x * 65535 && x[place] <= high.x * 65535 && y[place] >= low.y * 65535 && y[place] <= high.y * 65535);
  }
  function best(spot, reach, fits, cost) {
    let found = -1, least = Infinity;
    const box = [{ x: spot.x - reach, y: spot.y - reach }, { x: spot.x + reach, y: spot.y + reach }];
    for (const place of within(...box)) {
      if (!fits(place)) continue;
      const away = cost(x[place] / 65535 - spot.x, y[place] / 65535 - spot.y);
      if (away < least) [found, least] = [place, away];
    }
    return found;
  }
  return {
    within,
    nearest: (spot, reach, fits) => best(spot, reach, fits, (dx, dy) => (Math.hypot(dx, dy) <= reach ? Math.hypot(dx, dy) : Infinity)),
    /** The point that lies next in a direction: near, and not far off to the side. */
    towards(spot, right, up, fits, self) {
      const cost = (dx, dy) => {
        const ahead = dx * right + dy * up, aside = Math.abs(dx * up) + Math.abs(dy * right);
        return ahead > 0 && aside <= ahead ? ahead + 2 * aside : Infinity;
      };
      for (let reach = 0.02; reach <= 1.3; reach *= 4) {
        const found = best(spot, reach, (place) => place !== self && fits(place), cost);
        if (found >= 0) return found;
      }
      return -1;
    },
  };
}

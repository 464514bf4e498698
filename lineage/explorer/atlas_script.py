"""How the atlas behaves: its window, its address, and the tiles that it asks the server for.

Plain JavaScript as text. :mod:`~lineage.explorer.atlas_gl` draws the marks,
:mod:`~lineage.explorer.atlas_ink` writes beside them, :mod:`~lineage.explorer.atlas_hands` listens.
The rules for levels and tiles are those of :mod:`lineage.views.atlas`.
"""

from __future__ import annotations

from lineage.explorer.atlas_gl import GL
from lineage.explorer.atlas_hands import HANDS
from lineage.explorer.atlas_ink import INK
from lineage.explorer.page_script import PAGE_SCRIPT
from lineage.views import atlas as views

__all__ = ["SCRIPT"]

_BEHAVIOUR = """
const NAMED_ROW_PX = 13, CACHED = 120, PATIENCE_MS = 4000;
const KEYS = ["x", "y", "z", "t", "model"];
const makeAtlas = (root) => {
  const part = (name) => root.querySelector("." + name);
  const stage = part("stage"), glass = part("glass"), over = part("over"), tip = part("tip");
  const under = part("under"), painter = makePainter(glass), ink = makeInk(over, under);
  if (!painter) return null;
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const cache = new Map();
  let head = null, atlas = null, view = null, box = null, written = null, told = null;
  let serial = 0, busyUntil = 0, patience = PATIENCE_MS, timer = 0, planned = 0;
  let pointed = null, send = () => {};

  // -- the window ----------------------------------------------------------------------------
  const whole = () => atlas.edges.length ? atlas.edges[atlas.edges.length - 1] : 1;
  const leastRows = () => Math.min(LEAST_ROWS, atlas.n);
  const hold = (wish) => {
    const rows = clamp(wish.rows, leastRows(), atlas.n);
    const span = clamp(wish.span, whole() / 2 ** MOST_TIME_ZOOM, whole());
    return { rows, span, first: clamp(wish.first, 0, atlas.n - rows),
      since: clamp(wish.since, 0, whole() - span) };
  };
  const move = (wish, gently) => {
    const to = hold(wish), from = view, begin = performance.now();
    cancelAnimationFrame(planned);
    if (!gently || calm.matches) { view = to; redraw(); settle(); return; }
    const step = (now) => {
      const share = clamp((now - begin) / 160, 0, 1), k = share * (2 - share);
      view = {};
      for (const key of Object.keys(to)) view[key] = from[key] + (to[key] - from[key]) * k;
      draw();
      if (share < 1) planned = requestAnimationFrame(step); else settle();
    };
    planned = requestAnimationFrame(step);
  };
  const zoom = (rowsBy, timeBy, gently, x = 0.5, y = 0.5) => {
    const rows = clamp(view.rows * rowsBy, leastRows(), atlas.n);
    const span = clamp(view.span * timeBy, whole() / 2 ** MOST_TIME_ZOOM, whole());
    move({ rows, span, first: view.first + y * (view.rows - rows),
      since: view.since + x * (view.span - span) }, gently);
  };
  const pan = (x, y, gently) => move({ ...view, first: view.first + y * view.rows,
    since: view.since + x * view.span }, gently);

  // -- the address ---------------------------------------------------------------------------
  const keyOf = (query) => KEYS.map((key) => query.get(key) ?? "").join("|");
  const write = () => {
    const query = new URLSearchParams(location.search);
    const set = (key, value, plain) => plain ? query.delete(key) : query.set(key, value);
    const z = Math.log2(atlas.n / view.rows), t = Math.log2(whole() / view.span);
    set("y", Math.round(view.first + view.rows / 2), z < 0.005);
    set("z", z.toFixed(2), z < 0.005);
    const middle = new Date((atlas.start + view.since + view.span / 2) * 1000);
    set("x", t < 0.005 ? "" : middle.toISOString().slice(0, 16), t < 0.005);
    set("t", t.toFixed(2), t < 0.005);
    const words = query.toString();
    history.replaceState(history.state, "", location.pathname + (words ? "?" + words : ""));
    written = keyOf(query);
  };
  const settle = () => {
    clearTimeout(timer);
    timer = setTimeout(() => { if (measured()) { write(); ask(); say(); } }, 220);
  };

  // -- tiles ---------------------------------------------------------------------------------
  const range = (first, last, size, n) => {
    const begin = Math.max(0, Math.floor(first / size)), end = Math.min(n, Math.ceil(last / size));
    return Array.from({ length: Math.max(0, end - begin) }, (_, i) => begin + i);
  };
  const levelFor = () => {
    if (view.rows <= MOST_SINGLE) return -1;
    for (let level = 0; level < atlas.levels.length - 1; level++)
      if (box.height * atlas.base * 2 ** level / view.rows >= LEAST_ROW_PX) return level;
    return atlas.levels.length - 1;
  };
  const wanted = (level) => {
    const last = view.first + view.rows, leaves = Math.ceil(atlas.n / atlas.leaf);
    if (level < 0) return range(view.first, last, atlas.leaf, leaves);
    const before = atlas.levels.slice(0, level).reduce((a, b) => a + b, leaves);
    return range(view.first, last, atlas.rows * atlas.base * 2 ** level, atlas.levels[level])
      .map((tile) => before + tile);
  };
  const levelOf = (number) => {
    let begin = Math.ceil(atlas.n / atlas.leaf);
    if (number < begin) return { level: -1, tall: 1, base: number * atlas.leaf };
    for (let level = 0; ; begin += atlas.levels[level++])
      if (number < begin + atlas.levels[level]) {
        const tall = atlas.base * 2 ** level;
        return { level, tall, base: (number - begin) * tall * atlas.rows };
      }
  };
  const ask = () => {
    if (!measured() || performance.now() < busyUntil) return;
    const missing = wanted(levelFor()).filter((number) => !cache.has(number));
    if (!missing.length && told === written) return;
    busyUntil = performance.now() + patience;
    told = written;
    send("want", { tiles: missing, serial: ++serial });
    // An answer can get lost when the page is drawn anew meanwhile. Asking again cuts a run of the
    // page short, so a slow server is asked ever less often.
    setTimeout(ask, patience + 50);
    patience = Math.min(2 * patience, 60000);
  };
  const keep = async (tiles, bytes, at, names) => {
    for (const [number, length] of tiles) {
      const block = bytes.slice(at, at + length);
      at += length;
      if (cache.has(number)) continue;
      const buffer = await inflate(block);
      const kind = levelOf(number);
      const widths = Object.values(head.facets).map((facet) => facet.length);
      const data = kind.level < 0 ? readLeaf(buffer, widths.length) : readCells(buffer, widths);
      cache.set(number, { ...kind, data, names: (names[number] ?? []).map(clean) });
    }
    const inView = new Set(measured() ? wanted(levelFor()) : []);
    for (const number of cache.keys()) {
      if (cache.size <= CACHED) break;
      if (inView.has(number)) continue;
      painter.forget(cache.get(number));
      cache.delete(number);
    }
  };
  // What can be drawn now: the right tiles, or those of a neighbouring level till they come.
  const drawable = () => {
    const level = levelFor();
    const order = [level];
    for (let by = 1; by <= atlas.levels.length; by++) order.push(level + by, level - by);
    for (const choice of order) {
      if (choice < -1 || choice >= atlas.levels.length) continue;
      if (choice < 0 && view.rows > 4 * MOST_SINGLE) continue;
      const found = wanted(choice).map((number) => cache.get(number)).filter(Boolean);
      if (found.length) return found;
    }
    return [];
  };

  // -- drawing -------------------------------------------------------------------------------
  const measure = () => {
    const width = stage.clientWidth, height = stage.clientHeight, dpr = devicePixelRatio || 1;
    for (const canvas of [under, glass, over]) {
      canvas.width = Math.round(width * dpr);
      canvas.height = Math.round(height * dpr);
    }
    const lane = atlas.undated ? 46 : 0, gutter = width > 760;
    box = { width, whole: height, dpr, left: 10 + lane, right: width - (gutter ? 210 : 10),
      top: 30, height: height - 38, lane: 28, laneHalf: 15, gutter };
    if (!atlas.edges.length) box.lane = (box.left + box.right) / 2;
  };
  const measured = () => {
    if (!atlas || !view || !stage.clientWidth) return false;
    if (box?.width !== stage.clientWidth || box.whole !== stage.clientHeight) measure();
    return true;
  };
  const namesRows = () => box.height / view.rows >= NAMED_ROW_PX;
  const xOf = (seconds) => box.left + (seconds - view.since) / view.span * (box.right - box.left);
  const yOf = (row) => box.top + (row - view.first) / view.rows * box.height;
  const redraw = () => { cancelAnimationFrame(planned); planned = requestAnimationFrame(draw); };
  const draw = () => {
    if (!measured()) return;
    const style = getComputedStyle(root), hue = (name) => style.getPropertyValue("--" + name);
    const facet = facetNow();
    const colours = head.facets[head.colour].flatMap((kind) => [...rgb(hue(kind.colour)), 1]);
    const tiles = drawable();
    for (const tile of tiles) painter.hold(tile, facet, atlas.edges);
    painter.paint({ box, view, dpr: box.dpr, colours, line: rgb(hue("line")),
      paper: rgb(hue("paper")) }, tiles);
    const single = tiles.length && tiles[0].level < 0;
    ink({ atlas, view, box, hue, xOf, yOf, font: style.fontFamily || "sans-serif",
      named: single && namesRows() ? models(tiles) : [],
      clades: box.gutter && !namesRows() ? head.clades : [],
      spots: [head.mark, pointed?.model].filter(Boolean) });
    root.dataset.drawn = tiles.length ? (single ? "models" : "counts") : "";
  };
  // -- what is under the pointer --------------------------------------------------------------
  const models = function* (tiles) {
    for (const tile of tiles)
      for (let i = 0; i < tile.data.n; i++) {
        const row = tile.base + i;
        if (row < view.first - 1 || row > view.first + view.rows) continue;
        const seconds = tile.data.seconds[i];
        const x = seconds === NO_DATE ? box.lane : xOf(seconds);
        if (seconds !== NO_DATE && (x < box.left - 1 || x > box.right + 1)) continue;
        yield { row, seconds, x, name: tile.names[i], size: tile.data.size[i],
          codes: tile.data.codes.map((code) => code[i]) };
      }
  };
  const nearest = (x, y, reach) => {
    let best = null, least = reach;
    for (const model of models(drawable().filter((tile) => tile.level < 0))) {
      const gap = Math.hypot(model.x - x, yOf(model.row + 0.5) - y);
      if (gap < least) { least = gap; best = model; }
    }
    return best;
  };
  const cellAt = (x, y) => {
    const row = view.first + (y - box.top) / box.height * view.rows;
    const tile = drawable().find((each) => each.level >= 0 && row >= each.base
      && row < each.base + each.tall * atlas.rows);
    if (!tile) return null;
    const when = view.since + (x - box.left) / (box.right - box.left) * view.span;
    const lane = Math.abs(x - box.lane) < 20 && atlas.undated;
    const column = lane ? Math.max(0, atlas.edges.length - 1)
      : atlas.edges.findIndex((edge) => edge > when) - 1;
    const line = Math.floor((row - tile.base) / tile.tall);
    const i = tile.data.row.findIndex((r, at) => r === line && tile.data.column[at] === column);
    return i < 0 ? null : { tile, i, column, line, row };
  };
  const facetNow = () => Object.keys(head.facets).indexOf(head.colour);
  const modelWords = (model) => [model.name || "position " + count(model.row + 1),
    (model.seconds === NO_DATE ? "no date" : day(atlas.start + model.seconds, true))
    + " · " + head.facets[head.colour][model.codes[facetNow()]].word
    + (model.size > 1 ? " · " + count(model.size - 1) + " below it" : "")];
  const cellWords = ({ tile, i, column, line }) => {
    const first = tile.base + line * tile.tall, last = Math.min(first + tile.tall, atlas.n);
    const when = column < atlas.edges.length - 1
      ? (atlas.edges[column + 1] - atlas.edges[column] < 32 * 86400 ? "" : "from ")
        + day(atlas.start + atlas.edges[column]) : "no date";
    const kinds = head.facets[head.colour], facet = facetNow(), total = tile.data.total[i];
    const parts = kinds.map((kind, code) => [tile.data.counts[facet][code][i], kind.word])
      .filter(([n]) => n).sort((a, b) => b[0] - a[0]).map(([n, word]) => count(n) + " " + word);
    return [when + ": " + count(total) + (total === 1 ? " model" : " models"),
      parts.join(" · "), "positions " + count(first + 1) + " to " + count(last)];
  };
  const point = (x, y) => {
    const model = nearest(x, y, 16), cell = model ? null : cellAt(x, y);
    const before = pointed?.model?.row;
    pointed = model ? { model } : cell ? { cell } : null;
    tip.hidden = !pointed;
    if (pointed) {
      tip.replaceChildren(...(model ? modelWords(model) : cellWords(cell)).map((words, i) => {
        const line = document.createElement(i ? "div" : "b");
        line.textContent = words;
        return line;
      }));
      tip.style.left = clamp(x + 14, 0, Math.max(0, box.width - tip.offsetWidth - 4)) + "px";
      const under = y + 18 + tip.offsetHeight <= box.whole;
      tip.style.top = (under ? y + 18 : y - tip.offsetHeight - 10) + "px";
    }
    stage.style.cursor = pointed ? "pointer" : "grab";
    if (before !== pointed?.model?.row) redraw();
  };
  const unpoint = () => { tip.hidden = true; if (pointed?.model) redraw(); pointed = null; };
  const follow = () => {
    if (pointed?.model?.name) visit("lineage?model=" + encodeURIComponent(pointed.model.name));
    else if (pointed?.cell) {
      const rows = Math.min(view.rows / 5, Math.max(pointed.cell.tile.tall * 2, leastRows()));
      move({ ...view, rows, first: pointed.cell.row - rows / 2 }, true);
      unpoint();
    }
  };
  const select = () => {
    // The keyboard's place: the model nearest to the middle row, once rows can be told apart.
    if (box.height / view.rows < 5) { unpoint(); return null; }
    const middle = view.first + view.rows / 2 - 0.5;
    let best = null;
    for (const model of models(drawable().filter((tile) => tile.level < 0)))
      if (!best || Math.abs(model.row - middle) < Math.abs(best.row - middle)) best = model;
    pointed = best && { model: best };
    tip.hidden = true;
    redraw();
    return best;
  };
  const say = () => {
    const chosen = root.getRootNode().activeElement === stage ? select() : null;
    const last = Math.min(atlas.n, Math.ceil(view.first + view.rows));
    part("says").textContent = chosen ? modelWords(chosen).join(", ") + ". Enter opens its lineage."
      : "Positions " + count(Math.floor(view.first) + 1) + " to " + count(last) + " of "
        + count(atlas.n) + (view.span < whole() * 0.999 ? ", " + day(atlas.start + view.since, true)
        + " to " + day(atlas.start + view.since + view.span, true) : "") + ".";
  };

  takeHands(stage, root.querySelectorAll("button[data-act]"), {
    ready: measured, box: () => box, rows: () => view.rows, namesRows, zoom, pan, point, unpoint,
    follow, select, say, redraw, ask,
    seesAll: () => view.rows >= atlas.n && view.span >= whole() * 0.999,
    showAll: () => move({ first: 0, rows: atlas.n, since: 0, span: whole() }, true),
  });

  return {
    async receive(bytes, sender) {
      send = sender;
      const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
      head = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
      if (atlas && atlas.digest !== head.atlas.digest) cache.clear();
      atlas = head.atlas;
      const key = keyOf(new URLSearchParams(location.search));
      if (!view || (key !== written && key === head.key)) {
        view = hold(head.view);
        written = told = key;
      }
      stage.setAttribute("aria-label", head.words);
      const legend = head.facets[head.colour].map((kind) => {
        const item = document.createElement("span"), swatch = document.createElement("i");
        swatch.style.background = `var(--${kind.colour})`;
        swatch.className = kind.shape;
        item.append(swatch, kind.word);
        return item;
      });
      part("legend").replaceChildren(...legend);
      await keep(head.tiles, bytes, 4 + length, head.names);
      // The page is also drawn anew for other reasons, with an older answer or with none.
      if (head.answers === serial) { busyUntil = 0; patience = PATIENCE_MS; }
      draw();
      ask();
      if (measured()) say();
    },
  };
};

export default function (component) {
  const { data, parentElement, setTriggerValue, setStateValue } = component;
  const root = parentElement.querySelector(".atlas");
  takeTheme(parentElement.querySelector(".box"), parentElement.host);
  if (root.atlas === undefined) {
    root.atlas = makeAtlas(root);
    if (root.atlas)
      root.querySelector(".glass").addEventListener("webglcontextlost",
        () => setStateValue("webgl", "none"));
  }
  if (!root.atlas) { setStateValue("webgl", "none"); return; }
  root.atlas.receive(data, setTriggerValue);
}
"""

_LIMITS = f"""
const LEAST_ROWS = {views.LEAST_ROWS}, MOST_SINGLE = {views.MOST_SINGLE};
const LEAST_ROW_PX = {views.LEAST_ROW_PX}, MOST_TIME_ZOOM = {views.MOST_TIME_ZOOM};
"""

SCRIPT = _LIMITS + PAGE_SCRIPT + GL + INK + HANDS + _BEHAVIOUR
"""The whole script of the atlas's component."""

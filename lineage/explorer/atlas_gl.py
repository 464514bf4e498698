"""How the atlas draws: the browser's half that reads tiles and hands them to WebGL2.

Plain JavaScript as text, joined with :mod:`lineage.explorer.atlas_script`. Distances on the screen
are CSS pixels. A tile keeps its rows relative to its first one, so that single precision is enough.
"""

from __future__ import annotations

__all__ = ["GL"]

GL = """
const NO_DATE = 0xffffffff;

const inflate = async (bytes) => {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return (await new Response(stream).arrayBuffer());
};

const readLeaf = (buffer, nFacets) => {
  const [n, m] = new Uint32Array(buffer, 0, 2);
  const words = (i, length) => new Uint32Array(buffer, 8 + 4 * i, length);
  const codes = [];
  for (let f = 0; f < nFacets; f++)
    codes.push(new Uint8Array(buffer, 8 + 16 * n + 8 * m + f * n, n));
  return { n, codes, seconds: words(0, n), parent: words(n, n), reach: words(2 * n, n),
    size: words(3 * n, n), trunk: words(4 * n, m), trunkReach: words(4 * n + m, m) };
};

const readCells = (buffer, widths) => {
  const n = new Uint32Array(buffer, 0, 1)[0];
  const counts = [];
  let at = 4;
  for (const width of widths) {
    const facet = [];
    for (let i = 0; i < width; i++, at += 4 * n) facet.push(new Uint32Array(buffer, at, n));
    counts.push(facet);
  }
  const row = new Uint8Array(buffer, at, n), column = new Uint8Array(buffer, at + n, n);
  const total = new Uint32Array(n);
  for (const category of counts[0]) for (let i = 0; i < n; i++) total[i] += category[i];
  return { n, row, column, counts, total, most: total.reduce((a, b) => Math.max(a, b), 1) };
};

const PLACE = `#version 300 es
precision highp float;
uniform vec4 u_view;  // since, span, rows from the window's top to the tile, rows in the window
uniform vec4 u_box;   // left, right, top, height of the plot
uniform vec4 u_page;  // width, height, middle and half width of the lane without dates
float across(float s) { return u_box.x + (s - u_view.x) / u_view.y * (u_box.y - u_box.x); }
float down(float row) { return u_box.z + (u_view.z + row) / u_view.w * u_box.w; }
vec4 at(float x, float y) {
  return vec4(x / u_page.x * 2.0 - 1.0, 1.0 - y / u_page.y * 2.0, 0.0, 1.0);
}
vec2 corner() { return vec2(gl_VertexID & 1, gl_VertexID >> 1); }
`;
const BARS = PLACE + `
layout(location=0) in vec4 a_place;  // begin, end, row, models in the cell
layout(location=1) in vec3 a_part;   // from, to, category
uniform float u_most, u_tall;        // most models in a cell, rows in one of the cell's
flat out int v_code;
void main() {
  vec2 c = corner();
  float height = (0.08 + 0.86 * sqrt(a_place.w / u_most)) * mix(a_part.x, a_part.y, c.y);
  float left = clamp(across(a_place.x), u_box.x, u_box.y);
  float right = clamp(across(a_place.y), u_box.x, u_box.y);
  float gap = min(1.0, (right - left) * 0.15);
  if (a_place.x < 0.0) { left = u_page.z - u_page.w; right = u_page.z + u_page.w; }
  gl_Position = at(mix(left, right - gap, c.x), down((a_place.z + 1.0 - height) * u_tall));
  v_code = int(a_part.z);
}`;
const LINES = PLACE + `
layout(location=0) in vec4 a_place;  // begin, end (seconds), first and last row
flat out int v_code;
void main() {
  vec2 c = corner();
  float x = clamp(across(mix(a_place.x, a_place.y, c.x)), u_box.x, u_box.y);
  float y = down(mix(a_place.z, a_place.w, c.y) + 0.5);
  if (a_place.x == a_place.y) x += c.x - 0.5; else y += c.y - 0.5;
  float outside = across(max(a_place.x, a_place.y)) < u_box.x
    || across(min(a_place.x, a_place.y)) > u_box.y ? 4.0 : 0.0;
  gl_Position = at(x, y) + vec4(outside, 0, 0, 0);
  v_code = 0;
}`;
const FLAT = `#version 300 es
precision highp float;
uniform vec4 u_colours[8];
flat in int v_code;
out vec4 colour;
void main() { colour = u_colours[v_code]; }`;
const MARKS = PLACE + `
layout(location=0) in vec4 a_mark;  // seconds, row, size of the clade, category
layout(location=1) in float a_relation;
uniform vec2 u_radius;  // of a leaf, device pixels per CSS pixel
flat out int v_code;
flat out int v_shape;
void main() {
  float x = a_mark.x < 0.0 ? u_page.z : across(a_mark.x);
  bool out_of_sight = a_mark.x >= 0.0 && (x < u_box.x - 1.0 || x > u_box.y + 1.0);
  gl_Position = at(out_of_sight ? -99.0 : x, down(a_mark.y + 0.5));
  float radius = u_radius.x * (1.0 + min(1.2, 0.16 * log2(a_mark.z)));
  gl_PointSize = 2.7 * radius * u_radius.y;
  v_code = int(a_mark.w);
  v_shape = int(a_relation);
}`;
// The shapes of the lineage's marks: square adapters, triangular quantisations, diamonds of merges.
const SHAPES = `#version 300 es
precision highp float;
uniform vec4 u_colours[8];
uniform vec4 u_paper;
flat in int v_code;
flat in int v_shape;
out vec4 colour;
void main() {
  vec2 p = (gl_PointCoord - 0.5) * 2.7;
  float d = length(p) - 1.0;
  if (v_shape == 2) d = max(abs(p.x), abs(p.y)) - 0.9;
  if (v_shape == 3) d = max(p.y - 0.85, abs(p.x) * 0.876 - (p.y + 1.15) * 0.482);
  if (v_shape == 4) d = abs(p.x) + abs(p.y) - 1.3;
  if (d > 0.0) discard;
  colour = d > -0.22 ? mix(u_colours[v_code], u_paper, 0.75) : u_colours[v_code];
}`;

const makePainter = (canvas) => {
  const gl = canvas.getContext("webgl2", { antialias: true, alpha: true });
  if (!gl) return null;
  const program = (vertex, fragment) => {
    const made = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(made, shader);
    }
    gl.linkProgram(made);
    if (!gl.getProgramParameter(made, gl.LINK_STATUS)) return null;
    const names = {};
    const n = gl.getProgramParameter(made, gl.ACTIVE_UNIFORMS);
    for (let i = 0; i < n; i++) {
      const name = gl.getActiveUniform(made, i).name.replace("[0]", "");
      names[name] = gl.getUniformLocation(made, name);
    }
    return { made, names };
  };
  const bars = program(BARS, FLAT), lines = program(LINES, FLAT), marks = program(MARKS, SHAPES);
  if (!bars || !lines || !marks) return null;
  gl.enable(gl.BLEND);
  gl.blendFuncSeparate(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA, gl.ONE, gl.ONE_MINUS_SRC_ALPHA);

  const store = (numbers, parts, instanced) => {
    const array = gl.createVertexArray(), buffer = gl.createBuffer();
    gl.bindVertexArray(array);
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(numbers), gl.STATIC_DRAW);
    const stride = parts.reduce((a, b) => a + b, 0);
    let at = 0;
    parts.forEach((width, place) => {
      gl.enableVertexAttribArray(place);
      gl.vertexAttribPointer(place, width, gl.FLOAT, false, 4 * stride, 4 * at);
      gl.vertexAttribDivisor(place, instanced ? 1 : 0);
      at += width;
    });
    return { array, buffer, n: numbers.length / stride };
  };
  const use = (which, scene, offset) => {
    const { names } = which, { view, box } = scene;
    gl.useProgram(which.made);
    gl.uniform4f(names.u_view, view.since, view.span, offset, view.rows);
    gl.uniform4f(names.u_box, box.left, box.right, box.top, box.height);
    gl.uniform4f(names.u_page, box.width, box.whole, box.lane, box.laneHalf);
    return names;
  };
  const strip = (held) => {
    gl.bindVertexArray(held.array);
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, held.n);
  };
  return {
    lost: () => gl.isContextLost(),
    forget(tile) {
      for (const held of Object.values(tile.held ?? {})) {
        gl.deleteVertexArray(held.array);
        gl.deleteBuffer(held.buffer);
      }
      tile.held = null;
    },
    // What the graphics card needs of a tile, in the colours of one facet.
    hold(tile, facet, edges) {
      if (tile.held && tile.facet === facet) return;
      this.forget(tile);
      tile.facet = facet;
      const { data } = tile;
      if (tile.level < 0) {
        const points = [], elbows = [];
        for (let i = 0; i < data.n; i++) {
          const dated = data.seconds[i] !== NO_DATE, when = dated ? data.seconds[i] : -1;
          points.push(when, i, data.size[i], data.codes[facet][i], data.codes[0][i]);
          if (dated && data.parent[i] !== NO_DATE)
            elbows.push(data.parent[i], when + (when === data.parent[i] ? 1 : 0), i, i);
          if (dated && data.reach[i]) elbows.push(when, when, i, i + data.reach[i]);
        }
        data.trunk.forEach((when, i) => elbows.push(when, when, -1, data.trunkReach[i]));
        tile.held = { points: store(points, [4, 1], false), lines: store(elbows, [4], true) };
        return;
      }
      const parts = [];
      for (let i = 0; i < data.n; i++) {
        const column = data.column[i], dated = column < edges.length - 1;
        let under = 0;
        data.counts[facet].forEach((count, code) => {
          if (!count[i]) return;
          const over = under + count[i] / data.total[i];
          parts.push(dated ? edges[column] : -1, dated ? edges[column + 1] : -1, data.row[i],
            data.total[i], under, over, code);
          under = over;
        });
      }
      tile.held = { bars: store(parts, [4, 3], true) };
    },
    paint(scene, tiles) {
      const { box, view, colours, line, paper, dpr } = scene;
      gl.viewport(0, 0, canvas.width, canvas.height);
      gl.disable(gl.SCISSOR_TEST);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT);
      gl.enable(gl.SCISSOR_TEST);
      gl.scissor(0, Math.round((box.whole - box.top - box.height) * dpr), canvas.width,
        Math.round(box.height * dpr));
      const most = tiles.reduce((a, tile) => Math.max(a, tile.data.most ?? 1), 1);
      for (const tile of tiles.filter((tile) => tile.held.bars)) {
        const names = use(bars, scene, tile.base - view.first);
        gl.uniform4fv(names.u_colours, colours);
        gl.uniform1f(names.u_most, most);
        gl.uniform1f(names.u_tall, tile.tall);
        strip(tile.held.bars);
      }
      const single = tiles.filter((tile) => tile.held.points);
      const tall = box.height / view.rows;
      for (const tile of single) {
        const names = use(lines, scene, tile.base - view.first);
        gl.uniform4fv(names.u_colours, [...line, Math.min(0.75, 0.12 + tall / 12)]);
        strip(tile.held.lines);
      }
      for (const tile of single) {
        const names = use(marks, scene, tile.base - view.first);
        gl.uniform4fv(names.u_colours, colours);
        gl.uniform4f(names.u_paper, ...paper, 1);
        gl.uniform2f(names.u_radius, Math.min(5.5, Math.max(1.6, tall * 0.36)), dpr);
        gl.bindVertexArray(tile.held.points.array);
        gl.drawArrays(gl.POINTS, 0, tile.held.points.n);
      }
    },
  };
};
"""

"""What the atlas writes: dates, names and brackets on a plain canvas above and below the marks.

Plain JavaScript as text, joined with :mod:`lineage.explorer.atlas_script`. Names from the Hub are
painted or set as text, never parsed.
"""

from __future__ import annotations

__all__ = ["INK"]

INK = """
const count = (n) => Math.round(n).toLocaleString("en-GB");
const clamp = (x, low, high) => Math.min(high, Math.max(low, x));
const HIDDEN = /[\\u0000-\\u001f\\u200b-\\u200f\\u202a-\\u202e\\u2060-\\u2069\\ufeff]/g;
const clean = (text) => text.replace(HIDDEN, "\\ufffd");
const day = (seconds, long) => new Date(seconds * 1000).toLocaleDateString("en-GB",
  { timeZone: "UTC", year: "numeric", month: "short", ...(long ? { day: "numeric" } : {}) });

const makeInk = (over, under) => {
  const pen = over.getContext("2d"), pencil = under.getContext("2d");
  const ink = (text, x, y, colour, paper) => {
    pen.lineWidth = 4;
    pen.lineJoin = "round";
    pen.strokeStyle = paper;
    pen.strokeText(text, x, y);
    pen.fillStyle = colour;
    pen.fillText(text, x, y);
  };
  const drawAxis = ({ atlas, view, box, hue, xOf }) => {
    pen.textAlign = "center";
    pen.textBaseline = "alphabetic";
    pen.fillStyle = hue("soft");
    pencil.strokeStyle = hue("faint");
    if (atlas.undated) pen.fillText("no date", box.lane, 18);
    if (!atlas.edges.length) return;
    const perDay = (box.right - box.left) / view.span * 86400;
    const days = [1, 2, 7, 14].find((step) => step * perDay >= 84);
    const months = [1, 2, 3, 6, 12, 24, 60, 120].find((step) => step * 30.4 * perDay >= 74) ?? 240;
    const at = new Date((atlas.start + view.since) * 1000);
    let when = days ? Math.floor(at / 86400000 / days) * days
      : Math.floor((at.getUTCFullYear() * 12 + at.getUTCMonth()) / months) * months;
    for (let n = 0; n < 60; n++, when += days ?? months) {
      const time = days ? when * 86400 : Date.UTC(Math.floor(when / 12), when % 12, 1) / 1000;
      const x = xOf(time - atlas.start);
      if (x > box.right) break;
      if (x < box.left - 0.5) continue;
      pencil.beginPath();
      pencil.moveTo(x, 24);
      pencil.lineTo(x, box.top + box.height);
      pencil.stroke();
      const words = months % 12 === 0 && !days ? String(Math.floor(when / 12)) : day(time, days);
      if (x > box.left + 12 || !atlas.undated) pen.fillText(words, Math.max(x, 24), 18);
    }
  };
  const drawNames = ({ named, box, hue, yOf }) => {
    pen.textBaseline = "middle";
    for (const model of named) {
      const y = yOf(model.row + 0.5);
      if (y < box.top || y > box.top + box.height || !model.name) continue;
      const width = pen.measureText(model.name).width, right = model.x + 12 + width < box.width - 4;
      pen.textAlign = right ? "left" : "right";
      ink(model.name, model.x + (right ? 11 : -11), y, hue("ink"), hue("paper"));
    }
  };
  const fit = (text, width) => {
    if (pen.measureText(text).width <= width) return text;
    let keep = text.length;
    while (keep > 4 && pen.measureText(text.slice(0, keep) + "…").width > width) keep--;
    return text.slice(0, keep) + "…";
  };
  const drawClades = ({ clades, box, hue, yOf }) => {
    pen.textAlign = "left";
    pen.textBaseline = "middle";
    let free = box.top;
    for (const [name, pos, size] of clades) {
      const top = Math.max(yOf(pos), box.top) + 1;
      const bottom = Math.min(yOf(pos + size), box.top + box.height) - 1;
      if (bottom - top < 4 || bottom < box.top) continue;
      pen.strokeStyle = hue("line");
      pen.lineWidth = 1.5;
      pen.beginPath();
      pen.moveTo(box.right + 6, top);
      pen.lineTo(box.right + 11, top);
      pen.lineTo(box.right + 11, bottom);
      pen.lineTo(box.right + 6, bottom);
      pen.stroke();
      const y = (top + bottom) / 2;
      if (y - 7 < free) continue;
      pen.fillStyle = hue("ink");
      pen.fillText(fit(clean(name), box.width - box.right - 22), box.right + 17, y);
      free = y + 7;
    }
  };
  const ring = (model, { box, hue, xOf, yOf }) => {
    const x = model.seconds === NO_DATE ? box.lane : xOf(model.seconds), y = yOf(model.row + 0.5);
    if (y < box.top - 8 || y > box.top + box.height + 8) return;
    if (model.seconds !== NO_DATE && (x < box.left - 1 || x > box.right + 1)) return;
    pen.strokeStyle = hue("ink");
    pen.lineWidth = 2;
    pen.beginPath();
    pen.arc(x, y, 9, 0, 2 * Math.PI);
    pen.stroke();
  };
  return (scene) => {
    const { box } = scene;
    for (const each of [pen, pencil]) {
      each.setTransform(box.dpr, 0, 0, box.dpr, 0, 0);
      each.clearRect(0, 0, box.width, box.whole);
    }
    pen.font = "12px " + scene.font;
    drawAxis(scene);
    drawNames(scene);
    drawClades(scene);
    for (const spot of scene.spots) ring(spot, scene);
  };
};
"""

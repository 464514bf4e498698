"""How the atlas is handled: pointer, wheel, fingers, keys and buttons.

Plain JavaScript as text, joined with :mod:`lineage.explorer.atlas_script`.
"""

from __future__ import annotations

__all__ = ["HANDS"]

HANDS = """
const takeHands = (stage, buttons, map) => {
  const fingers = new Map();
  let dragged = 0, pinch = null;
  const where = (event) => {
    const edge = stage.getBoundingClientRect();
    return [event.clientX - edge.left, event.clientY - edge.top];
  };
  const share = ([x, y]) => {
    const { left, right, top, height } = map.box();
    return [clamp((x - left) / (right - left), 0, 1), clamp((y - top) / height, 0, 1)];
  };
  stage.onpointerdown = (event) => {
    if (event.button) return;
    fingers.set(event.pointerId, where(event));
    dragged = 0;
    pinch = null;
    stage.setPointerCapture(event.pointerId);
  };
  stage.onpointermove = (event) => {
    if (!map.ready()) return;
    const now = where(event), before = fingers.get(event.pointerId);
    if (!before) { map.point(...now); return; }
    const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
    fingers.set(event.pointerId, now);
    dragged += Math.abs(dx) + Math.abs(dy);
    if (fingers.size === 2) {
      const [a, b] = [...fingers.values()];
      const apart = Math.max(20, Math.hypot(a[0] - b[0], a[1] - b[1]));
      const middle = [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
      if (pinch) map.zoom(pinch / apart, 1, false, ...share(middle));
      pinch = apart;
    } else if (fingers.size === 1 && dragged > 4) {
      map.unpoint();
      const { left, right, height } = map.box();
      map.pan(-dx / (right - left), -dy / height, false);
    }
  };
  stage.onpointerup = stage.onpointercancel = (event) => {
    const tapped = fingers.delete(event.pointerId) && dragged <= 4 && event.type === "pointerup";
    if (!tapped || !map.ready()) return;
    map.point(...where(event));
    map.follow();
  };
  stage.onpointerleave = map.unpoint;
  stage.addEventListener("wheel", (event) => {
    if (!map.ready()) return;
    const pace = event.ctrlKey ? 0.01 : 0.0022;  // a pinch on a touch pad comes with ctrlKey
    const by = Math.exp(clamp(event.deltaY || event.deltaX, -240, 240) * pace);
    if (by > 1 && map.seesAll() && !event.ctrlKey) return;  // no more to see: the page scrolls
    event.preventDefault();
    const [rowsBy, timeBy] = event.shiftKey ? [1, by] : [by, 1];
    map.zoom(rowsBy, timeBy, false, ...share(where(event)));
  }, { passive: false });
  const acts = {
    in: () => map.zoom(0.5, 1, true), out: () => map.zoom(2, 1, true),
    later: () => map.zoom(1, 0.5, true), wider: () => map.zoom(1, 2, true),
    all: () => map.showAll(),
  };
  const step = () => map.namesRows() ? 1 / map.rows() : 0.2;
  const strokes = {
    "+": acts.in, "=": acts.in, "-": acts.out, "\\u2212": acts.out, "_": acts.out, "0": acts.all,
    "]": acts.later, "[": acts.wider,
    ArrowUp: () => map.pan(0, -step(), true), ArrowDown: () => map.pan(0, step(), true),
    ArrowLeft: () => map.pan(-0.2, 0, true), ArrowRight: () => map.pan(0.2, 0, true),
    PageUp: () => map.pan(0, -0.9, true), PageDown: () => map.pan(0, 0.9, true),
    Enter: () => { if (map.select()) map.follow(); else acts.in(); },
  };
  stage.onkeydown = (event) => {
    const act = strokes[event.key];
    if (!act || !map.ready() || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  };
  stage.onfocus = () => { if (map.ready()) map.say(); };
  for (const button of buttons)
    button.onclick = () => { if (map.ready()) acts[button.dataset.act](); };
  new ResizeObserver(() => { if (map.ready()) { map.redraw(); map.ask(); } }).observe(stage);
};
"""

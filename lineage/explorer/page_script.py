"""What the scripts of several components share: the page's theme, and the way to another page."""

from __future__ import annotations

__all__ = ["PAGE_SCRIPT"]

PAGE_SCRIPT = """
const rgb = (colour) => {
  const probe = document.createElement("canvas").getContext("2d");
  probe.fillStyle = colour.trim() || "#ffffff";
  return [1, 3, 5].map((i) => parseInt(probe.fillStyle.slice(i, i + 2), 16) / 255);
};
const luminance = (colour) => {
  const [r, g, b] = rgb(colour);
  return 0.299 * r + 0.587 * g + 0.114 * b;
};
const takeTheme = (box, host) => {
  const paper = getComputedStyle(host ?? box).getPropertyValue("--st-background-color");
  box.dataset.theme = luminance(paper) < 0.5 ? "dark" : "light";
};
const visit = (target) => {
  // As if the reader had gone forward to that address: one step of history and one run of the page,
  // where sending the address to the server would cost a run of the old page before.
  const to = new URL(target, document.baseURI);
  if (to.origin !== location.origin) return;
  if (to.href !== location.href) history.pushState({}, "", to);
  dispatchEvent(new PopStateEvent("popstate", { state: {} }));
};
"""
"""JavaScript that goes before a component's own."""

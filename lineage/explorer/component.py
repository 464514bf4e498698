"""The one component of the explorer: shows server-made markup and follows its links.

Everything with ``data-go`` (a relative address) leads there on a click, Enter and Space; a button
with ``data-png`` (a file name) and ``data-of`` (a selector) saves that drawing as a picture. The
markup comes from :mod:`lineage.explorer.markup` only, which escapes every text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import streamlit as st

from lineage.explorer.markup import Markup, tag
from lineage.explorer.page_script import PAGE_SCRIPT
from lineage.explorer.palette import VARIABLES
from lineage.explorer.sheet import SHEET

__all__ = ["panel"]

# Inline strings need a newline: without one they are taken for the path of a file.
_HTML = """<div class="box">
</div>"""

_JS = """
const light = (box, id) => {
  // Lights the marks and edges on every path to the founders and to the descendants.
  const svg = box.querySelector("svg.hb");
  const edges = [...svg.querySelectorAll("g[data-child]")];
  const on = new Set([id]);
  const lit = new Set();
  for (const [from, to] of [["child", "parent"], ["parent", "child"]]) {
    const seen = new Set([id]);
    const open = [id];
    while (open.length) {
      const name = open.pop();
      for (const edge of edges) {
        if (edge.dataset[from] !== name) continue;
        lit.add(edge);
        on.add(edge.dataset[to]);
        if (!seen.has(edge.dataset[to])) open.push(edge.dataset[to]);
        seen.add(edge.dataset[to]);
      }
    }
  }
  svg.classList.add("dim");
  for (const edge of edges) edge.classList.toggle("lit", lit.has(edge));
  for (const node of svg.querySelectorAll("g[data-id]"))
    node.classList.toggle("lit", on.has(node.dataset.id));
  for (const pile of svg.querySelectorAll("g[data-owner]"))
    pile.classList.toggle("lit", pile.dataset.owner === id);
};
const savePicture = (box, button) => {
  // The drawing as a PNG of twice its size, in the theme of the page; nothing leaves the browser.
  const shown = box.querySelector(button.dataset.of);
  const copy = shown.cloneNode(true);
  copy.classList.remove("dim");
  copy.dataset.theme = box.dataset.theme;
  const [, , width, height] = shown.getAttribute("viewBox").split(" ").map(Number);
  const scale = Math.min(2, 16000 / Math.max(width, height), Math.sqrt(6e7 / (width * height)));
  const text = new XMLSerializer().serializeToString(copy);
  const source = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
  const image = new Image();
  image.onload = () => {
    const canvas = document.createElement("canvas");
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    URL.revokeObjectURL(source);
    canvas.toBlob((blob) => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = button.dataset.png;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    }, "image/png");
  };
  image.src = source;
};
export default function (component) {
  const { data, parentElement } = component;
  const box = parentElement.querySelector(".box");
  takeTheme(box, parentElement.host);
  if (box.dataset.digest !== data.digest) {
    box.innerHTML = data.markup;
    box.dataset.digest = data.digest;
    const focus = box.querySelector(".is-focus");
    const pane = box.querySelector(".pane");
    if (focus && pane && pane.scrollWidth > pane.clientWidth) {
      const at = focus.getBoundingClientRect(), edge = pane.getBoundingClientRect();
      pane.scrollLeft += at.left + 40 - edge.left - edge.width / 2;
    }
  }
  const go = (event, target) => {
    event.preventDefault();
    visit(target.dataset.go);
  };
  box.onclick = (event) => {
    const button = event.target.closest("button[data-png]");
    if (button) return savePicture(box, button);
    const target = event.target.closest("[data-go]");
    if (target && !event.ctrlKey && !event.metaKey && !event.shiftKey) go(event, target);
  };
  box.onkeydown = (event) => {
    const target = event.target.closest("[data-go]");
    if (target && (event.key === "Enter" || event.key === " ")) go(event, target);
  };
  const node = (event) => event.target.closest("g[data-id]");
  const dim = () => box.querySelector("svg.hb")?.classList.remove("dim");
  box.onpointerover = (event) => {
    const at = node(event);
    if (at) light(box, at.dataset.id); else dim();
  };
  box.onpointerleave = dim;
  box.onfocusin = (event) => { const at = node(event); if (at) light(box, at.dataset.id); };
  box.onfocusout = dim;
}
"""


@st.cache_resource
def _component() -> Callable[..., object]:
    return st.components.v2.component(
        "herdbook.panel", html=_HTML, css=VARIABLES + SHEET, js=PAGE_SCRIPT + _JS
    )


def panel(*markup: Markup, key: str) -> None:
    """Show markup."""
    text = tag("div", *markup, class_="hb")
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    _component()(key=key, data={"markup": text, "digest": digest})

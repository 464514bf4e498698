"""What the shapes, lines and colours of a lineage drawing mean: those that occur and no others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lineage.explorer.colours import Colouring, cividis
from lineage.explorer.markup import Markup, join, tag
from lineage.explorer.shapes import shape
from lineage.explorer.words import RELATION_WORDS
from lineage.views.rows import EdgeRow, Mark

__all__ = ["Legend", "draw_legend"]

_LEFT = 32.0
_LETTER = 5.6
_LINES = {
    "confirmed": "declared, and the weights agree",
    "undeclared": "found in the weights, undeclared",
    "contradicted": "declared, but the weights disagree",
    "unverified": "declared only",
}


@dataclass(frozen=True, slots=True)
class Legend:
    """The drawing of a legend and where it ends."""

    markup: Markup
    bottom: float


@dataclass(frozen=True, slots=True)
class _Entry:
    symbol: Markup  # drawn around the origin
    width: float
    words: str


def draw_legend(
    marks: Sequence[Mark],
    edges: Sequence[EdgeRow],
    colouring: Colouring,
    *,
    has_ribbons: bool,
    width: float,
    top: float,
) -> Legend:
    """Entries from left to right, wrapped to the width; edges as they are drawn."""
    rows = [_shapes(marks, colouring.by_shape), _lines(edges, has_ribbons)]
    if not colouring.by_shape:
        rows.insert(0, _colours(marks, colouring))
    parts: list[Markup] = []
    y = top
    for entries in filter(None, rows):
        x = _LEFT
        for entry in entries:
            length = entry.width + len(entry.words) * _LETTER + 24
            if x + length > width and x > _LEFT:
                x, y = _LEFT, y + 22
            place = f"translate({x:.1f} {y:.1f})"
            words = tag("text", entry.words, x=f"{entry.width:.0f}", y="4")
            parts.append(tag("g", entry.symbol, words, transform=place))
            x += length
        y += 22
    return Legend(tag("g", *parts, class_="legend", aria_hidden="true"), y - 6)


def _colours(marks: Sequence[Mark], colouring: Colouring) -> list[_Entry]:
    title = _Entry(Markup(""), 0, f"{colouring.title}:")
    if colouring.scale is not None:
        steps = [
            tag("rect", x=f"{4 + 6 * step}", y="-6", width="6.4", height="12",
                style=f"fill:{cividis(step / 19)}")
            for step in range(20)
        ]  # fmt: skip
        low, high = colouring.scale
        title = _Entry(Markup(""), 0, f"{colouring.title}: {low}")
        entries = [title, _Entry(join(*steps), 132, high)]
    else:
        entries = [title, *[
            _Entry(tag("circle", cx="6", cy="0", r="5.5", style=f"fill:{colour}"), 16, words)
            for words, colour in colouring.key
        ]]  # fmt: skip
    if any(not mark.ghost and mark.repo_id not in colouring.fills for mark in marks):
        hollow = tag("g", shape("founder", 6, 0, 5, class_="mark"), class_="n hollow")
        entries.append(_Entry(hollow, 16, "not known"))
    return entries


def _shapes(marks: Sequence[Mark], coloured: bool) -> list[_Entry]:
    present = {mark.relation for mark in marks if not mark.ghost}
    entries = [
        _Entry(
            tag(
                "g",
                shape(name, 6, 0, 5, class_="mark"),
                class_=f"n r-{name}" if coloured else "n hollow",
            ),
            16,
            RELATION_WORDS[name],
        )
        for name in RELATION_WORDS
        if name in present
    ]
    if any(mark.ghost for mark in marks):
        ghost = tag("g", shape("unknown", 6, 0, 5, class_="mark"), class_="n r-ghost")
        entries.append(_Entry(ghost, 16, "outside the register, or never published"))
    return entries


def _lines(edges: Sequence[EdgeRow], has_ribbons: bool) -> list[_Entry]:
    badged = {"undeclared", "contradicted"}
    drawn = {edge.verdict for edge in edges if edge.position == 0 or edge.verdict in badged}
    entries = [
        _line(f"v-{verdict}", words) for verdict, words in _LINES.items() if verdict in drawn
    ]
    if any(edge.position > 0 and edge.verdict != "contradicted" for edge in edges):
        entries.append(_line("v-confirmed extra", "further parent of a merge"))
    if any(edge.grade == "tie" for edge in edges):
        entries.append(_line("tie", "one of several equal parents"))
    if has_ribbons:
        band = tag("path", d="M0 0L10 -5L24 -2V3L10 6Z", style="fill:var(--other)")
        entries.append(_Entry(band, 30, "births of those not drawn one by one"))
    return entries


def _line(look: str, words: str) -> _Entry:
    badge = None
    if "undeclared" in look:
        badge = tag("circle", class_="found", cx="12", cy="0", r="3.4")
    elif "contradicted" in look:
        badge = tag("path", class_="cross", d="M8.6 -3.4l6.8 6.8m-6.8 0l6.8 -6.8")
    line = tag("path", d="M0 0h24", class_="line")
    return _Entry(tag("g", line, badge, class_=f"e {look}"), 30, words)

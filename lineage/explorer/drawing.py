"""The lineage drawing: time on x, one row for each model, as one self-contained SVG.

Pure: a neighbourhood in, text out. Grey elbows follow the primary parent, dashed vermillion curves
the other parents of a merge; an edge that nobody declared is magenta with a ring on it. Colour is
never alone: marks differ in shape, edges in dash and badge.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lineage.explorer.axis import TimeAxis
from lineage.explorer.markup import Markup, address, tag
from lineage.explorer.palette import STYLE
from lineage.explorer.words import RELATION_WORDS, edge_sentence, mark_sentence, short
from lineage.views import EdgeRow, Mark, Neighbourhood

__all__ = ["DrawOptions", "Placed", "draw_lineage", "lay_out", "shape"]

_LABEL_WIDTH = 6.7  # of one character at 12.5 px, generous
_MAX_LABEL = 42
_TOP = 40.0
_LEFT = 38.0


@dataclass(frozen=True, slots=True)
class DrawOptions:
    """How to draw: `show` is all, declared or found; `view` goes into every link."""

    width: int = 1080
    row_height: int = 27
    show: str = "all"
    view: str = ""


@dataclass(frozen=True, slots=True)
class Placed:
    """A mark and where it stands; `row` counts from 0."""

    mark: Mark
    x: float
    y: float
    row: int

    @property
    def radius(self) -> float:
        """Half the size of the mark, growing with the number of descendants."""
        return 5.0 + min(4.0, 1.6 * math.log10(1 + self.mark.n_descendants))


def _visible(edge: EdgeRow, show: str) -> bool:
    if show == "declared":
        return edge.verdict != "undeclared"
    if show == "found":
        return edge.verdict in {"confirmed", "undeclared"}
    return True


def _label(mark: Mark) -> str:
    return short(mark.repo_id, _MAX_LABEL)


def lay_out(around: Neighbourhood, options: DrawOptions) -> tuple[tuple[Placed, ...], TimeAxis]:
    """Place every mark: rows in order of the marks, x by date of creation.

    The axis is as long as the longest label allows. A model without a date stands a little left
    of its earliest child, so that it never seems younger than what came from it.
    """
    dates = {m.repo_id: m.created_at for m in around.marks if m.created_at is not None}
    room = max((len(_label(mark)) for mark in around.marks), default=0) * _LABEL_WIDTH + 44
    undated = any(mark.created_at is None for mark in around.marks)
    left = _LEFT + (34 if undated else 0)
    axis = TimeAxis.over(list(dates.values()), left, max(left + 260, options.width - room))
    earliest: dict[str, float] = {}
    for edge in around.edges:
        if edge.child in dates:
            x = axis.x(dates[edge.child])
            earliest[edge.parent] = min(earliest.get(edge.parent, x), x)
    placed = []
    for row, mark in enumerate(around.marks):
        if mark.created_at is not None:
            x = axis.x(mark.created_at)
        else:
            x = max(_LEFT, earliest.get(mark.repo_id, left) - 34)
        placed.append(Placed(mark, x, _TOP + 20 + row * options.row_height, row))
    return tuple(placed), axis


def shape(name: str, x: float, y: float, r: float, **attributes: object) -> Markup:
    """The shape of a relation, centred."""
    if name == "adapter":
        side = r * 0.92
        return tag(
            "rect", x=f"{x - side:.1f}", y=f"{y - side:.1f}", width=f"{2 * side:.1f}",
            height=f"{2 * side:.1f}", rx="1.5", **attributes,
        )  # fmt: skip
    if name == "quantized":
        points = f"{x:.1f},{y - 1.15 * r:.1f} {x + 1.1 * r:.1f},{y + 0.85 * r:.1f} "
        return tag("polygon", points=points + f"{x - 1.1 * r:.1f},{y + 0.85 * r:.1f}", **attributes)
    if name == "merge":
        d = 1.35 * r
        points = f"{x:.1f},{y - d:.1f} {x + d:.1f},{y:.1f} {x:.1f},{y + d:.1f} {x - d:.1f},{y:.1f}"
        return tag("polygon", points=points, **attributes)
    return tag("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=f"{r:.1f}", **attributes)


def _edge_class(edge: EdgeRow) -> str:
    words = ["e", f"v-{edge.verdict}"]
    if edge.position > 0:
        words.append("extra")
    if edge.grade == "tie":
        words.append("tie")
    return " ".join(words)


def _edge(edge: EdgeRow, parent: Placed, child: Placed) -> Markup:
    """The line from a parent to a child, and the small badge of its verdict."""
    px, py, cx, cy = parent.x, parent.y, child.x, child.y
    if edge.position > 0:
        # Leaving and arriving upright, the curve runs between the rows and not through labels.
        bx, by = (px + cx) / 2, (py + cy) / 2
        path = f"M{px:.1f} {py:.1f}C{px + 6:.1f} {by:.1f} {cx - 6:.1f} {by:.1f} {cx:.1f} {cy:.1f}"
    else:
        path = f"M{px:.1f} {py:.1f}V{cy:.1f}H{cx:.1f}"
        if abs(cx - px) > 26:
            bx, by = px + min(14.0, abs(cx - px) / 2) * math.copysign(1, cx - px), cy
        else:
            bx, by = px, (py + cy) / 2
    badge = Markup("")
    if edge.verdict == "undeclared":
        badge = tag("circle", class_="found", cx=f"{bx:.1f}", cy=f"{by:.1f}", r="3.4")
    elif edge.verdict == "contradicted":
        cross = (
            f"M{bx - 3.4:.1f} {by - 3.4:.1f}l6.8 6.8M{bx - 3.4:.1f} {by + 3.4:.1f}l6.8 -6.8"
        )  # fmt: skip
        badge = tag("path", class_="cross", d=cross)
    return tag(
        "g",
        tag("title", edge_sentence(edge)),
        tag("path", d=path, class_="line"),
        badge,
        class_=_edge_class(edge),
        data_child=edge.child,
        data_parent=edge.parent,
    )


def _text(placed: Placed, focus: bool) -> Markup:
    label = _label(placed.mark)
    owner, slash, name = label.partition("/")
    x = placed.x + placed.radius * (1.35 if placed.mark.n_parents > 1 else 1.0) + 6
    if focus:
        x += 9
    more = placed.mark.n_hidden
    return tag(
        "text",
        tag("tspan", owner + slash, class_="owner") if slash else None,
        tag("tspan", name if slash else owner),
        tag("tspan", f"  +{more:,} more", class_="more") if more else None,
        x=f"{x:.1f}",
        y=f"{placed.y + 4.2:.1f}",
        class_="label focus" if focus else "label",
    )


def _node(placed: Placed, focus: str, options: DrawOptions) -> Markup:
    mark = placed.mark
    is_focus = mark.repo_id == focus
    words = mark_sentence(mark)
    look = "ghost" if mark.ghost else mark.relation
    inside = None
    if mark.n_parents > 1:
        inside = tag(
            "text", mark.n_parents, x=f"{placed.x:.1f}", y=f"{placed.y + 3.4:.1f}", class_="count"
        )
    radius = max(placed.radius, 7.2) if mark.n_parents > 1 else placed.radius
    return tag(
        "g",
        tag("title", words),
        tag("circle", cx=f"{placed.x:.1f}", cy=f"{placed.y:.1f}", r="13", class_="target"),
        tag("circle", cx=f"{placed.x:.1f}", cy=f"{placed.y:.1f}", r=f"{radius * 1.35 + 4:.1f}",
            class_="ring") if is_focus else None,
        shape(mark.relation, placed.x, placed.y, radius, class_="mark"),
        inside,
        _text(placed, is_focus),
        class_=f"n r-{look} s-{mark.status}" + (" is-focus" if is_focus else ""),
        tabindex="0",
        role="link",
        aria_label=words,
        aria_current="true" if is_focus else None,
        data_id=mark.repo_id,
        # There is no page about a model of which nothing is known but that it was.
        data_go=None if mark.status == "unseen" else address(
            "lineage", model=mark.repo_id, view=options.view,
            show="" if options.show == "all" else options.show),
    )  # fmt: skip


def _legend(around: Neighbourhood, edges: list[EdgeRow], width: float, y: float) -> Markup:
    """The shapes and lines that occur, and nothing else, wrapped to the width."""
    entries: list[tuple[str, str]] = []
    present = {mark.relation for mark in around.marks if not mark.ghost}
    entries += [
        (f"mark:{name}", RELATION_WORDS[name]) for name in RELATION_WORDS if name in present
    ]
    if any(mark.ghost for mark in around.marks):
        entries.append(("ghost", "outside the register, or never published"))
    said = {
        "confirmed": "declared, and the weights agree",
        "undeclared": "found in the weights, undeclared",
        "contradicted": "declared, but the weights disagree",
        "unverified": "declared only",
    }
    badged = {"undeclared", "contradicted"}
    drawn = {e.verdict for e in edges if e.position == 0 or e.verdict in badged}
    entries += [(f"line:e v-{name}", words) for name, words in said.items() if name in drawn]
    if any(edge.position > 0 and edge.verdict != "contradicted" for edge in edges):
        entries.append(("line:e v-confirmed extra", "further parent of a merge"))
    if any(edge.grade == "tie" for edge in edges):
        entries.append(("line:e tie", "one of several equal parents"))
    x, parts = _LEFT - 6, []
    for key, words in entries:
        kind, _, name = key.partition(":")
        symbol_width = 30 if kind == "line" else 16
        length = symbol_width + len(words) * 5.5 + 24
        if x + length > width and x > _LEFT:
            x, y = _LEFT - 6, y + 22
        if kind == "line":
            line = tag("path", d=f"M{x:.1f} {y:.1f}h24", class_="line")
            badge = None
            if "undeclared" in name:
                badge = tag("circle", class_="found", cx=f"{x + 12:.1f}", cy=f"{y:.1f}", r="3.4")
            elif "contradicted" in name:
                badge = tag(
                    "path",
                    class_="cross",
                    d=f"M{x + 8.6:.1f} {y - 3.4:.1f}l6.8 6.8m-6.8 0l6.8 -6.8",
                )
            parts.append(tag("g", line, badge, class_=name))
        else:
            relation = name or "unknown"
            parts.append(
                tag(
                    "g",
                    shape(relation, x + 6, y, 5, class_="mark"),
                    class_=f"n r-{name or 'ghost'}",
                )
            )
        parts.append(tag("text", words, x=f"{x + symbol_width:.1f}", y=f"{y + 4:.1f}"))
        x += length
    return tag("g", *parts, class_="legend", data_bottom=f"{y + 16:.0f}", aria_hidden="true")


def draw_lineage(around: Neighbourhood, options: DrawOptions | None = None) -> str:
    """Draw a neighbourhood as an SVG document of its own.

    Parameters
    ----------
    around
        Marks in the order of their rows, and the edges between them.
    options
        Size and what to show; the defaults suit a page 1,080 pixels wide.

    Returns
    -------
    str
        Well-formed SVG: a focusable ``<g data-id data-go>`` for each model, a
        ``<g data-child data-parent>`` for each edge, tooltips as ``<title>``; light and dark by
        ``prefers-color-scheme`` or, where the page decides, by ``data-theme`` on an ancestor.
    """
    options = options or DrawOptions()
    placed, axis = lay_out(around, options)
    where: Mapping[str, Placed] = {item.mark.repo_id: item for item in placed}
    edges = [
        edge
        for edge in around.edges
        if edge.child in where and edge.parent in where and _visible(edge, options.show)
    ]
    # Plain lines first, so that what was found or disputed lies on top of them.
    edges.sort(key=lambda e: (e.position > 0, e.verdict in {"undeclared", "contradicted"}))
    bottom = _TOP + 20 + len(placed) * options.row_height
    legend = _legend(around, edges, options.width, bottom + 18)
    height = int(legend.split('data-bottom="')[1].split('"')[0])
    focus = where.get(around.focus)
    band = None
    if focus is not None:
        half = options.row_height / 2
        band = tag(
            "rect", class_="band", x="0", y=f"{focus.y - half:.1f}", width=options.width,
            height=options.row_height, rx="4",
        )  # fmt: skip
    return tag(
        "svg",
        tag("title", f"Lineage of {around.focus}"),
        tag("desc", f"{len(placed)} models over time, oldest on the left; a table follows."),
        Markup(f"<style>{STYLE}</style>"),
        tag("rect", class_="paper", width=options.width, height=height),
        band,
        axis.draw(_TOP - 12, bottom),
        tag("g", *[_edge(e, where[e.parent], where[e.child]) for e in edges], class_="edges"),
        tag("g", *[_node(item, around.focus, options) for item in placed], class_="nodes"),
        legend,
        xmlns="http://www.w3.org/2000/svg",
        class_="hb",
        viewBox=f"0 0 {options.width} {height}",
        width=options.width,
        height=height,
        role="group",
        aria_label=f"Lineage of {around.focus}: {len(placed)} models over time",
    )

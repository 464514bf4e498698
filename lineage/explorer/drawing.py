"""The lineage drawing: time on x, one row for each model, as one self-contained SVG.

Pure: a neighbourhood in, text out. Grey elbows follow the primary parent, dashed vermillion curves
the other parents of a merge; an edge that nobody declared is magenta with a ring on it. Colour is
never alone: marks differ in shape, edges in dash and badge. Those that are not drawn one by one
are ribbons and stacks (:mod:`lineage.explorer.ribbons`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from lineage.explorer.colours import Colouring, colour_marks
from lineage.explorer.layout import Layout, Placed, label, lay_out
from lineage.explorer.legend import draw_legend
from lineage.explorer.markup import Markup, address, tag
from lineage.explorer.palette import STYLE
from lineage.explorer.ribbons import Pile, draw_pile, draw_ribbon, moment
from lineage.explorer.shapes import shape
from lineage.explorer.words import edge_sentence, mark_sentence, plural
from lineage.views.clades import Opened
from lineage.views.rows import EdgeRow, Neighbourhood

__all__ = ["DrawOptions", "draw_lineage", "shape", "shown_edges"]

_OPENED_AT_ONCE = 40
_OPENED_AT_MOST = 120


@dataclass(frozen=True, slots=True)
class DrawOptions:
    """How to draw.

    `show` is all, declared or found; `query` goes into every link; `parent` is the parent of the
    focus that the drawing follows instead of the first; `opened` the stack that is open.
    """

    width: int = 900
    row_height: int = 27
    show: str = "all"
    query: Mapping[str, str] = field(default_factory=dict)
    parent: str = ""
    opened: Opened | None = None
    colouring: Colouring = field(default_factory=lambda: colour_marks("relation", ()))


def shown_edges(around: Neighbourhood, show: str) -> tuple[EdgeRow, ...]:
    """The edges of a neighbourhood that are declared, found in the weights, or all of them."""
    if show == "declared":
        return tuple(edge for edge in around.edges if edge.verdict != "undeclared")
    if show == "found":
        found = {"confirmed", "undeclared"}
        return tuple(edge for edge in around.edges if edge.verdict in found)
    return around.edges


def draw_lineage(around: Neighbourhood, options: DrawOptions | None = None) -> str:
    """Draw a neighbourhood as an SVG document of its own.

    Parameters
    ----------
    around
        Marks in drawing order, the edges between them, and the counts of all others.
    options
        Size, colours and what to show; the defaults suit a page 900 pixels wide.

    Returns
    -------
    str
        Well-formed SVG: a focusable ``<g data-id data-go>`` for each model, a
        ``<g data-child data-parent>`` for each edge, tooltips as ``<title>``; light and dark by
        ``prefers-color-scheme`` or, where the page decides, by ``data-theme`` on an ancestor.
    """
    options = options or DrawOptions()
    layout = lay_out(
        around, width=options.width, row_height=options.row_height, parent=options.parent
    )
    where = {item.mark.repo_id: item for item in layout.placed}
    edges = _drawn_edges(around, layout, options.show)
    has_ribbons = any(pile.ribbon for pile, _, _ in layout.piles.values())
    legend = draw_legend(
        around.marks, edges, options.colouring, has_ribbons=has_ribbons,
        width=options.width, top=layout.bottom + 18,
    )  # fmt: skip
    height = int(legend.bottom)
    focus = where.get(around.focus)
    n_drawn = len(layout.placed)
    return tag(
        "svg",
        tag("title", f"Lineage of {around.focus}"),
        tag("desc", f"{plural(n_drawn, 'model')} over time, oldest on the left; a table follows."),
        Markup(f"<style>{STYLE}</style>"),
        tag("rect", class_="paper", width=options.width, height=height),
        _band(focus, layout.row_height, options.width) if focus is not None else None,
        layout.axis.draw(layout.top - 12, layout.bottom),
        tag("g", *_pile_lines(layout, where), *[
            _edge(edge, where[edge.parent], where[edge.child]) for edge in edges
        ], class_="edges"),
        tag("g", *[_node(item, layout, around.focus, options) for item in layout.placed],
            *_piles(layout, where, around.focus, options), class_="nodes"),
        legend.markup,
        xmlns="http://www.w3.org/2000/svg",
        class_="hb lineage",
        viewBox=f"0 0 {options.width} {height}",
        width=options.width,
        height=height,
        role="group",
        aria_label=f"Lineage of {around.focus}: {plural(n_drawn, 'model')} over time",
    )  # fmt: skip


def _band(focus: Placed, row_height: float, width: float) -> Markup:
    return tag(
        "rect", class_="band", x="0", y=f"{focus.y - row_height / 2:.1f}", width=f"{width:.0f}",
        height=f"{row_height:.0f}", rx="4",
    )  # fmt: skip


# -- edges --------------------------------------------------------------------------------------


def _drawn_edges(around: Neighbourhood, layout: Layout, show: str) -> list[EdgeRow]:
    """What is shown, with position 0 for the elbows; what was found or disputed lies on top."""
    names = {mark.repo_id for mark in around.marks}
    edges: list[EdgeRow] = []
    for edge in shown_edges(around, show):
        if edge.child not in names or edge.parent not in names:
            continue
        elbow = layout.elbows.get(edge.child)
        if elbow is not None and edge.verdict != "contradicted":
            edge = replace(edge, position=0 if edge == elbow else max(1, edge.position))
        edges.append(edge)
    edges.sort(key=lambda e: (e.position > 0, e.verdict in {"undeclared", "contradicted"}))
    return edges


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
    badge = None
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


# -- models -------------------------------------------------------------------------------------


def _text(placed: Placed, focus: bool, more: int) -> Markup:
    owner, slash, name = label(placed.mark).partition("/")
    x = placed.x + placed.radius * (1.35 if placed.mark.n_parents > 1 else 1.0) + 6
    if focus:
        x += 9
    return tag(
        "text",
        tag("tspan", owner + slash, class_="owner") if slash else None,
        tag("tspan", name if slash else owner),
        tag("tspan", f"  +{more:,} more", class_="more") if more else None,
        x=f"{x:.1f}",
        y=f"{placed.y + 4.2:.1f}",
        class_="label focus" if focus else "label",
    )


def _node(placed: Placed, layout: Layout, focus: str, options: DrawOptions) -> Markup:
    mark, x, y = placed.mark, placed.x, placed.y
    is_focus = mark.repo_id == focus
    words = mark_sentence(mark)
    fill = options.colouring.fills.get(mark.repo_id)
    look = "ghost" if mark.ghost else mark.relation
    if fill is None and not options.colouring.by_shape and not mark.ghost:
        look = "none hollow"
    radius = max(placed.radius, 7.2) if mark.n_parents > 1 else placed.radius
    inside = absent = None
    if mark.n_parents > 1:
        inside = tag("text", mark.n_parents, x=f"{x:.1f}", y=f"{y + 3.4:.1f}", class_="count")
    if mark.n_absent:
        absent = tag(
            "path", tag("title", plural(mark.n_absent, "more parent") + " outside this view"),
            d=f"M{x - radius:.1f} {y:.1f}h-9m-4 0h-3m-4 0h-2", class_="stub",
        )  # fmt: skip
    more = layout.more.get(mark.repo_id, 0)
    if not more and mark.repo_id not in layout.piles:
        more = mark.n_hidden
    classes = ["n", f"r-{look}", f"s-{mark.status}"]
    classes += ["scaled"] * (fill is not None and options.colouring.scale is not None)
    classes += ["is-focus"] * is_focus + ["hit"] * mark.is_hit
    return tag(
        "g",
        tag("title", words),
        tag("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r="13", class_="target"),
        tag("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=f"{radius * 1.35 + 4:.1f}", class_="ring")
        if is_focus
        else None,
        absent,
        shape(
            mark.relation, x, y, radius, class_="mark",
            style=f"fill:{fill}" if fill and mark.status not in {"gone", "disabled"} else None,
        ),
        inside,
        _text(placed, is_focus, more),
        class_=" ".join(classes),
        tabindex="0",
        role="link",
        aria_label=words,
        aria_current="true" if is_focus else None,
        data_id=mark.repo_id,
        # There is no page about a model of which nothing is known but that it was.
        data_go=None
        if mark.status == "unseen"
        else address("lineage", model=mark.repo_id, **options.query),
    )  # fmt: skip


# -- those that are not drawn one by one --------------------------------------------------------


def _pile_lines(layout: Layout, where: Mapping[str, Placed]) -> list[Markup]:
    lines = []
    for owner, (pile, top, y) in layout.piles.items():
        at = where[owner]
        path = f"M{at.x:.1f} {at.y:.1f}V{y:.1f}h9"
        if pile.ribbon is not None:
            start = max(layout.axis.left, layout.axis.x(moment(pile.ribbon.ends[0])))
            path += f"M{at.x:.1f} {(top + y - 13) / 2:.1f}H{start:.1f}"
        lines.append(tag("g", tag("path", d=path, class_="line"), class_="e pile-line",
                         data_owner=owner))  # fmt: skip
    return lines


def _piles(
    layout: Layout, where: Mapping[str, Placed], focus: str, options: DrawOptions
) -> list[Markup]:
    parts: list[Markup] = []
    for owner, (pile, top, y) in layout.piles.items():
        note = ""
        if pile.ribbon is not None:
            note = f"at most {pile.ribbon.peak:,} born in a {pile.ribbon.step}"
            parts.append(
                draw_ribbon(
                    pile.ribbon, layout.axis, top, options.colouring.births, _ribbon_words(pile),
                    role="img", data_owner=owner,
                )
            )  # fmt: skip
        goes = {stack.relation: _opens(pile, stack.relation, focus, options)
                for stack in pile.stacks}  # fmt: skip
        parts.append(draw_pile(pile, where[owner].x + 13, y, options.width - 8, goes, note))
    return parts


def _ribbon_words(pile: Pile) -> str:
    assert pile.ribbon is not None
    first, last = pile.ribbon.ends[0], pile.ribbon.ends[-1]
    return (
        f"{plural(pile.n, 'model')} below {pile.owner} that are not drawn one by one, born "
        f"{first:%-d %B %Y} to {last:%-d %B %Y}, at most {pile.ribbon.peak:,} in a "
        f"{pile.ribbon.step}"
    )


def _opens(pile: Pile, relation: str, focus: str, options: DrawOptions) -> str:
    """The address that draws more of a stack one by one; of a large one, its owner's view."""
    n = _OPENED_AT_ONCE
    opened = options.opened
    if opened is not None and (opened.owner, opened.relation) == (pile.owner, relation):
        n = opened.n + _OPENED_AT_ONCE
    if n <= _OPENED_AT_MOST:
        return address("lineage", model=focus, **options.query, open=f"{relation}:{n}:{pile.owner}")
    narrowed = {**options.query, "relation": relation}
    return address("lineage", model=pile.owner, **narrowed)

"""Where everything in a lineage drawing stands: rows by descent, x by date of creation. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lineage.explorer.axis import TimeAxis
from lineage.explorer.ribbons import Pile, make_piles, moment, next_start, ribbon_height
from lineage.explorer.words import short
from lineage.views.rows import EdgeRow, Mark, Neighbourhood

__all__ = ["Layout", "Placed", "elbows", "label", "lay_out", "preorder"]

_LABEL_WIDTH = 6.7  # of one character at 12.5 px, generous
_MAX_LABEL = 42
_TOP = 40.0
_LEFT = 38.0
_PILE_HEIGHT = 24.0
_CROWDED, _CROWDED_HEIGHT = 150, 21


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


@dataclass(frozen=True, slots=True)
class Layout:
    """Everything placed: marks in order of their rows, and the rows of piles by owner.

    `piles` holds the pile, the top of its ribbon and the y of its stacks; `more` how many others
    descend from a mark without a row for them.
    """

    placed: tuple[Placed, ...]
    axis: TimeAxis
    elbows: Mapping[str, EdgeRow]
    piles: Mapping[str, tuple[Pile, float, float]]
    more: Mapping[str, int]
    top: float
    bottom: float
    row_height: float


def label(mark: Mark) -> str:
    """The name of a mark, cut where it is long."""
    return short(mark.repo_id, _MAX_LABEL)


def elbows(around: Neighbourhood, parent: str = "") -> dict[str, EdgeRow]:
    """The edge of each child that the rows follow: that of the primary forest, where it is drawn.

    A child whose parents are all outside the register follows the first of them. `parent` names
    another parent of the focus to follow instead; it is ignored where the focus has no such parent
    in the drawing.
    """
    primary = {mark.repo_id: mark.primary for mark in around.marks}
    chosen: dict[str, EdgeRow] = {}
    for edge in around.edges:
        if (
            edge.verdict == "contradicted"
            or edge.parent not in primary
            or edge.child == edge.parent
        ):
            continue
        followed = primary.get(edge.child)
        is_asked = edge.child == around.focus and edge.parent == parent
        is_first = edge.parent == followed if followed is not None else edge.position == 0
        if is_asked or (is_first and edge.child not in chosen):
            chosen[edge.child] = edge
    return chosen


def preorder(around: Neighbourhood, follow: Mapping[str, EdgeRow]) -> list[Mark]:
    """Every mark once, each parent before its children, otherwise in the order of the marks."""
    marks = {mark.repo_id: mark for mark in around.marks}
    below: dict[str, list[str]] = {}
    for name in reversed(marks):
        if name in follow:
            below.setdefault(follow[name].parent, []).append(name)
    order: dict[str, None] = {}
    # Whoever is left after the roots belongs to a ring that only broken data can hold.
    for start in (*[name for name in marks if name not in follow], *marks):
        open_ = [start]
        while open_:
            name = open_.pop()
            if name not in order:
                order[name] = None
                open_ += below.get(name, [])
    return [marks[name] for name in order]


def _axis(around: Neighbourhood, width: float) -> TimeAxis:
    # As long as the longest label allows.
    dates = [mark.created_at for mark in around.marks if mark.created_at is not None]
    starts = [born.start for born in around.births]
    if starts:
        dates += [moment(min(starts)), moment(next_start(max(starts), around.step))]
    room = max((len(label(mark)) for mark in around.marks), default=0) * _LABEL_WIDTH + 44
    undated = any(mark.created_at is None for mark in around.marks)
    left = _LEFT + (34 if undated else 0)
    return TimeAxis.over(dates, left, max(left + 260, width - room))


def lay_out(
    around: Neighbourhood, *, width: float = 900, row_height: float = 27, parent: str = ""
) -> Layout:
    """Place every mark, and below a mark the row of those that are not drawn one by one.

    A model without a date stands a little left of its earliest child, so that it never seems
    younger than what came from it.
    """
    if len(around.marks) > _CROWDED:
        row_height = min(row_height, _CROWDED_HEIGHT)
    follow = elbows(around, parent)
    axis = _axis(around, width)
    piles, more = make_piles(around.stacks, around.births, around.step, around.focus)
    earliest: dict[str, float] = {}
    dated = {m.repo_id: axis.x(m.created_at) for m in around.marks if m.created_at is not None}
    for edge in around.edges:
        if edge.child in dated:
            x = dated[edge.child]
            earliest[edge.parent] = min(earliest.get(edge.parent, x), x)
    placed: list[Placed] = []
    rows: dict[str, tuple[Pile, float, float]] = {}
    y = _TOP + 20
    for row, mark in enumerate(preorder(around, follow)):
        name = mark.repo_id
        x = dated.get(name, max(_LEFT, earliest.get(name, axis.left) - 34))
        placed.append(Placed(mark, x, y, row))
        y += row_height
        pile = piles.get(name)
        if pile is not None:
            top = y - row_height / 2 + 3
            below = top + (ribbon_height(pile.ribbon) + 5 if pile.ribbon else 0)
            rows[name] = (pile, top, below + 8)
            y = below + _PILE_HEIGHT + row_height / 2 - 5
    return Layout(tuple(placed), axis, follow, rows, more, _TOP, y, row_height)

"""Models that are not drawn one by one: stream ribbons of births, and stacks that open.

A ribbon is as thick as there were births at that time, stacked by category around its middle;
each has its own scale, and its widest point is written beside it.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from lineage.explorer.axis import TimeAxis
from lineage.explorer.markup import Markup, join, tag
from lineage.explorer.shapes import shape
from lineage.views.rows import Births, Stack

__all__ = [
    "STACK_WORDS",
    "Pile",
    "Ribbon",
    "draw_pile",
    "draw_ribbon",
    "make_piles",
    "moment",
    "next_start",
    "ribbon_height",
    "stream",
]

_LEAST = 5
_MOST_PILES = 30
_MOST_RIBBONS = 12
_LOWEST, _HIGHEST = 16.0, 96.0
_LETTER = 6.2  # width of one at 12 px, generous

STACK_WORDS = {
    "finetune": ("fine-tune", "fine-tunes"),
    "adapter": ("adapter", "adapters"),
    "quantized": ("quantisation", "quantisations"),
    "merge": ("merge", "merges"),
}


@dataclass(frozen=True, slots=True)
class Ribbon:
    """Births by span of time and category: ``counts[category][i]`` from ``ends[i]`` on.

    `ends` holds one day more than there are spans; `step` is day, week or month.
    """

    ends: tuple[date, ...]
    counts: Mapping[str | None, tuple[int, ...]]
    step: str

    @property
    def totals(self) -> tuple[int, ...]:
        """Births of each span."""
        return tuple(sum(span) for span in zip(*self.counts.values(), strict=True))

    @property
    def peak(self) -> int:
        """Births of the span that has most."""
        return max(self.totals)


@dataclass(frozen=True, slots=True)
class Pile:
    """Everybody below `owner` that is not drawn one by one, by relation; most first."""

    owner: str
    stacks: tuple[Stack, ...]
    ribbon: Ribbon | None

    @property
    def n(self) -> int:
        """Number of models."""
        return sum(stack.n for stack in self.stacks)


def make_piles(
    stacks: Sequence[Stack], births: Sequence[Births], step: str, focus: str
) -> tuple[dict[str, Pile], dict[str, int]]:
    """The piles that get a row of their own, and the size of the others, by owner.

    That of the focus comes first, then the largest, at most 30 with at most 12 ribbons.
    """
    by_owner: dict[str, list[Stack]] = defaultdict(list)
    for stack in stacks:
        by_owner[stack.owner].append(stack)
    born: dict[str, list[Births]] = defaultdict(list)
    for one in births:
        born[one.owner].append(one)
    size = {owner: sum(stack.n for stack in of) for owner, of in by_owner.items()}
    ranked = sorted(size, key=lambda owner: (owner != focus, -size[owner], owner))
    shown = [owner for owner in ranked if owner == focus or size[owner] >= _LEAST][:_MOST_PILES]
    with_ribbon = set([owner for owner in shown if owner in born][:_MOST_RIBBONS])
    piles = {
        owner: Pile(
            owner,
            tuple(sorted(by_owner[owner], key=lambda stack: (-stack.n, stack.relation))),
            _ribbon(born[owner], step) if owner in with_ribbon else None,
        )
        for owner in shown
    }
    return piles, {owner: n for owner, n in size.items() if owner not in piles}


def _ribbon(births: Sequence[Births], step: str) -> Ribbon:
    last = max(one.start for one in births)
    ends = [min(one.start for one in births)]
    while ends[-1] <= last:
        ends.append(next_start(ends[-1], step))
    place = {start: i for i, start in enumerate(ends)}
    counts: dict[str | None, list[int]] = {}
    for one in births:
        counts.setdefault(one.category, [0] * (len(ends) - 1))[place[one.start]] += one.n
    ranked = sorted(counts, key=lambda category: (-sum(counts[category]), category or ""))
    return Ribbon(tuple(ends), {name: tuple(counts[name]) for name in ranked}, step)


def next_start(start: date, step: str) -> date:
    """The first day of the span after the one that begins at `start`.

    Examples
    --------
    >>> next_start(date(2024, 12, 1), "month")
    datetime.date(2025, 1, 1)
    """
    if step == "month":
        return date(start.year + start.month // 12, start.month % 12 + 1, 1)
    return start + timedelta(days=7 if step == "week" else 1)


def moment(day: date) -> datetime:
    """The first moment of a day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def ribbon_height(ribbon: Ribbon) -> float:
    """Pixels of the widest point: ten times as many births are 24 pixels more."""
    return min(_HIGHEST, max(_LOWEST, 8 + 24 * math.log10(ribbon.peak)))


def stream(
    counts: Sequence[Sequence[int]], xs: Sequence[float], middle: float, height: float
) -> list[list[tuple[float, float, float]]]:
    """Stack layers around a middle line.

    Parameters
    ----------
    counts : (n_layers, n_points)
        Non-negative; not all zero.
    xs : (n_points,)
        Where the points stand.
    middle, height
        Pixels; the thickest point is `height` thick.

    Returns
    -------
    list of list of tuple
        For each layer its points ``(x, top, bottom)``; the bottom of one layer is the top of the
        next.
    """
    totals = [sum(point) for point in zip(*counts, strict=True)]
    scale = height / max(totals)
    tops = [middle - total * scale / 2 for total in totals]
    layers = []
    for layer in counts:
        bottoms = [top + n * scale for top, n in zip(tops, layer, strict=True)]
        layers.append(list(zip(xs, tops, bottoms, strict=True)))
        tops = bottoms
    return layers


def draw_ribbon(
    ribbon: Ribbon, axis: TimeAxis, top: float, colours: Mapping[str | None, str], words: str,
    **attributes: object,
) -> Markup:  # fmt: skip
    """One path for each colour; each span stands at its middle, with half of one around it."""
    merged: dict[str, list[int]] = {}
    for category, counts in ribbon.counts.items():
        sums = merged.setdefault(colours.get(category, "var(--unknown)"), [0] * len(counts))
        for place, n in enumerate(counts):
            sums[place] += n
    ends = [axis.x(moment(day)) for day in ribbon.ends]
    xs = [ends[0], *[(a + b) / 2 for a, b in itertools.pairwise(ends)], ends[-1]]
    xs = [min(max(x, axis.left), axis.right) for x in xs]
    height = ribbon_height(ribbon)
    padded = [[0, *counts, 0] for counts in merged.values()]
    layers = stream(padded, xs, top + height / 2, height)
    paths = [
        tag("path", d=_outline(layer), style=f"fill:{colour}")
        for colour, layer in zip(merged, layers, strict=True)
    ]
    return tag("g", tag("title", words), *paths, class_="ribbon", aria_label=words, **attributes)


def _outline(layer: Sequence[tuple[float, float, float]]) -> str:
    over = "L".join(f"{x:.0f} {top:.1f}" for x, top, _ in layer)
    under = "L".join(f"{x:.0f} {bottom:.1f}" for x, _, bottom in reversed(layer))
    return f"M{over}L{under}Z"


def draw_pile(
    pile: Pile, x: float, y: float, right: float, goes: Mapping[str, str], note: str
) -> Markup:
    """A row of stacks, each a link that opens it; moved left where it would leave the drawing."""
    says = [_stack_words(stack) for stack in pile.stacks]
    widths = [len(words) * _LETTER + 26 for words in says]
    room = sum(widths) + len(note) * _LETTER
    x = max(10.0, min(x, right - room))
    parts: list[Markup] = []
    for stack, words, width in zip(pile.stacks, says, widths, strict=True):
        full = f"{words} below {pile.owner}: open"
        parts.append(
            tag(
                "g",
                tag("title", full),
                tag("rect", class_="target", x=f"{x - 3:.1f}", y=f"{y - 9:.1f}",
                    width=f"{width - 6:.1f}", height="18", rx="4"),
                shape(stack.relation, x + 8.5, y - 1.5, 4, class_="mark under"),
                shape(stack.relation, x + 6, y, 4, class_="mark"),
                tag("text", words, x=f"{x + 17:.1f}", y=f"{y + 4:.1f}"),
                class_=f"n stack r-{stack.relation}",
                tabindex="0",
                role="link",
                aria_label=full,
                data_go=goes[stack.relation],
            )
        )  # fmt: skip
        x += width
    if note:
        parts.append(tag("text", note, x=f"{x:.1f}", y=f"{y + 4:.1f}", class_="small"))
    return tag("g", join(*parts), class_="pile", data_owner=pile.owner)


def _stack_words(stack: Stack) -> str:
    one, many = STACK_WORDS.get(stack.relation, ("other", "others"))
    return f"+{stack.n:,} {one if stack.n == 1 else many}"

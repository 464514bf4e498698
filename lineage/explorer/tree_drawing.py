"""A tree of behaviour as SVG: tips in order, branches to scale, support where it is good."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from lineage.explorer.markup import Markup, address, tag
from lineage.explorer.pictures import picture
from lineage.explorer.words import number, short
from lineage.views.phylogeny import Branch

__all__ = ["draw_tree"]

_ROW = 22.0
_LABEL = 44
_WELL = 70.0


def draw_tree(tree: Sequence[Branch], founders: Mapping[str, str], width: float = 940) -> Markup:
    """The tree from left to right; tips of one founder have one colour and one shape.

    Parameters
    ----------
    tree
        Parents before children.
    founders
        Founder of each tip, where it is known.
    width
        In pixels; the height follows the tips.
    """
    children: list[list[int]] = [[] for _ in tree]
    depth = [0.0] * len(tree)
    for k, one in enumerate(tree):
        if one.parent >= 0:
            children[one.parent].append(k)
            depth[k] = depth[one.parent] + max(one.length, 0.0)
    tips = _in_order(children)
    row = {k: 18 + i * _ROW for i, k in enumerate(tips)}
    for k in range(len(tree) - 1, -1, -1):
        if children[k]:
            row[k] = sum(row[c] for c in children[k]) / len(children[k])
    longest = max(depth) or 1.0
    label = 12 + 6.6 * min(_LABEL, max((len(tree[k].name) for k in tips), default=0))
    right = width - label - 12

    def x(k: int) -> float:
        return 8 + depth[k] / longest * (right - 8)

    colours = _colours([founders.get(tree[k].name, "") for k in tips])
    lines, marks = [], []
    for k, one in enumerate(tree):
        if one.parent >= 0:
            start = f"{x(one.parent):.1f}"
            lines.append(
                tag("path", d=f"M{start} {row[one.parent]:.1f}V{row[k]:.1f}H{x(k):.1f}",
                    class_="line")
            )  # fmt: skip
        if children[k] and one.support >= _WELL and one.parent >= 0:
            at = f"{x(k):.1f}"
            marks.append(tag("circle", cx=at, cy=f"{row[k]:.1f}", r="3", style="fill:var(--ink)"))
            marks.append(
                tag("text", f"{one.support:.0f}", x=f"{x(k) - 5:.1f}", y=f"{row[k] - 4:.1f}",
                    class_="small end")
            )  # fmt: skip
    for k in tips:
        name = tree[k].name
        colour = colours.get(founders.get(name, ""), 5)
        target = address("lineage", model=name)
        marks.append(
            tag("circle", cx=f"{x(k):.1f}", cy=f"{row[k]:.1f}", r="4.5", class_=f"bar b{colour}")
        )
        marks.append(
            tag(
                "a",
                tag("text", short(name, _LABEL), x=f"{x(k) + 10:.1f}", y=f"{row[k] + 4:.1f}"),
                href=target, data_go=target, aria_label=name,
            )
        )  # fmt: skip
    bottom = 18 + len(tips) * _ROW
    unit = _round(longest / 5)
    end = 8 + unit / longest * (right - 8)
    scale = [
        tag("path", d=f"M8 {bottom:.1f}H{end:.1f}", class_="line"),
        tag("text", f"{number(unit)} of Nei's distance", x="8", y=f"{bottom + 17:.1f}",
            class_="small"),
    ]  # fmt: skip
    words = f"Neighbour-joining tree of {len(tips)} models by what they say next"
    return picture(width, bottom + 26, words, *lines, *marks, *scale)


def _in_order(children: Sequence[Sequence[int]]) -> list[int]:
    """Tips from top to bottom, smaller branches first."""
    size = [1] * len(children)
    for k in range(len(children) - 1, -1, -1):
        if children[k]:
            size[k] = sum(size[c] for c in children[k])
    tips, waiting = [], [0]
    while waiting:
        k = waiting.pop()
        if children[k]:
            waiting += sorted(children[k], key=lambda c: -size[c])
        else:
            tips.append(k)
    return tips


def _colours(founders: Sequence[str]) -> dict[str, int]:
    """A colour for each of the five commonest founders; the others share the sixth."""
    known = [one for one in founders if one]
    common = sorted(set(known), key=lambda one: (-known.count(one), one))
    return {founder: k for k, founder in enumerate(common[:5])}


def _round(value: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not above `value`."""
    power = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return max(one * power for one in (1.0, 2.0, 5.0) if one * power <= max(value, power))

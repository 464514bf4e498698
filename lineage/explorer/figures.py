"""Small pictures: shares of a merge, a layer map, downloads over time, estimates with intervals."""

from __future__ import annotations

from collections.abc import Sequence

from lineage.explorer.axis import TimeAxis
from lineage.explorer.markup import Markup, tag
from lineage.explorer.pictures import picture
from lineage.explorer.words import count_words, date_words, number, short
from lineage.model import LayerSource, ParentShare
from lineage.views import EstimateRow
from lineage.views.surroundings import Observed

__all__ = ["draw_estimates", "draw_history", "draw_layers", "draw_shares"]

_COLOURS = 6


def draw_shares(shares: Sequence[ParentShare], width: float = 420) -> Markup:
    """Bars of the parents' shares, with the bounds where they were estimated.

    Shares may be negative or sum to more than one (task arithmetic): the axis holds zero and
    everything that is drawn.
    """
    values = [0.0, *(v for s in shares for v in (s.weight, s.low, s.high) if v is not None)]
    low, high = min(values), max(max(values), 1e-9)
    left, right = 4.0, width - 52

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left)

    parts: list[Markup] = []
    for row, share in enumerate(shares):
        y = row * 40.0
        start, stop = sorted((x(0), x(share.weight)))
        parts.append(tag("text", short(share.parent, 54), x=left, y=f"{y + 13:.0f}"))
        parts.append(
            tag("rect", x=f"{start:.1f}", y=f"{y + 19:.0f}", width=f"{max(1.0, stop - start):.1f}",
                height="10", rx="3", class_=f"bar b{row % _COLOURS}")
        )  # fmt: skip
        if share.low is not None and share.high is not None:
            parts.append(
                tag("path", d=f"M{x(share.low):.1f} {y + 24:.0f}H{x(share.high):.1f}",
                    style="stroke:var(--ink);stroke-width:1.4")
            )  # fmt: skip
        parts.append(
            tag("text", number(share.weight), x=f"{width - 4:.0f}", y=f"{y + 28:.0f}", class_="end")
        )
    words = "Shares of the parents: " + ", ".join(f"{s.parent} {number(s.weight)}" for s in shares)
    return picture(width, len(shares) * 40.0, words, *parts)


def draw_layers(layers: Sequence[LayerSource], width: float = 420) -> Markup:
    """One box for each layer of the child, coloured by parent, with the parent's layer inside."""
    parents = list(dict.fromkeys(layer.parent for layer in layers))
    depth = max(layer.child_layer for layer in layers) + 1
    step = min(30.0, (width - 8) / min(depth, 40))
    per_row = max(1, int((width - 8) / step))
    parts: list[Markup] = []
    at: dict[int, int] = {}
    for layer in layers:
        stacked = at.get(layer.child_layer, 0)
        at[layer.child_layer] = stacked + 1
        if stacked:  # a layer mixed from several parents shows the first; the title names all
            continue
        x = 4 + (layer.child_layer % per_row) * step
        y = 16 + (layer.child_layer // per_row) * 42.0
        colour = parents.index(layer.parent) % _COLOURS
        says = f"layer {layer.child_layer} is layer {layer.parent_layer} of {layer.parent}"
        box = tag(
            "rect", tag("title", says), x=f"{x:.1f}", y=f"{y:.1f}", width=f"{step - 2:.1f}",
            height="20", rx="3", class_=f"bar b{colour}",
        )  # fmt: skip
        parts.append(box)
        if step >= 14:
            middle = f"{x + step / 2 - 1:.1f}"
            inside = tag("text", layer.parent_layer, x=middle, y=f"{y + 14:.1f}", class_="on-bar")
            parts.append(inside)
            outside = tag(
                "text", layer.child_layer, x=middle, y=f"{y - 4:.1f}", class_="small middle"
            )
            parts.append(outside)
    bottom = 16 + ((depth - 1) // per_row + 1) * 42.0 - 8
    for row, parent in enumerate(parents):
        y = bottom + row * 20
        parts.append(
            tag("rect", x="4", y=f"{y:.0f}", width="11", height="11", rx="2",
                class_=f"bar b{row % _COLOURS}")
        )  # fmt: skip
        parts.append(tag("text", short(parent, 54), x="22", y=f"{y + 10:.0f}"))
    words = f"Where the {depth} layers came from: {', '.join(parents)}"
    return picture(width, bottom + len(parents) * 20 + 4, words, *parts)


def draw_history(history: Sequence[Observed], width: float = 420) -> Markup:
    """Downloads in the 30 days before each moment, from zero to the most; at least two of them."""
    points = [(one.when, one.downloads_30d) for one in history if one.downloads_30d is not None]
    top, bottom, most = 22.0, 112.0, max(1, *(n for _, n in points))
    axis = TimeAxis.over([when for when, _ in points], 8, width - 8)
    at = [(axis.x(when), bottom - (bottom - top) * n / most) for when, n in points]
    line = "L".join(f"{x:.1f} {y:.1f}" for x, y in at)
    first, last = points[0], points[-1]
    words = (
        f"Downloads in 30 days: {first[1]:,} on {date_words(first[0])}, {last[1]:,} on "
        f"{date_words(last[0])}, at most {most:,}"
    )
    return picture(
        width, bottom + 24, words,
        axis.draw(top, bottom),
        tag("path", d=f"M{line}V{bottom:.1f}H{at[0][0]:.1f}Z", style="fill:var(--finetune)",
            fill_opacity=".14"),
        tag("path", d=f"M{line}", style="fill:none;stroke:var(--finetune);stroke-width:2"),
        *[tag("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r="3", class_="dot") for x, y in at[-60:]],
        tag("text", f"{count_words(first[1])}", x="8", y=f"{bottom + 18:.0f}", class_="small"),
        tag("text", f"{count_words(last[1])}", x=f"{width - 8:.0f}", y=f"{bottom + 18:.0f}",
            class_="small end"),
    )  # fmt: skip


def draw_estimates(rows: Sequence[EstimateRow], width: float = 940) -> Markup:
    """A dot with its interval for each estimate, on one axis with zero marked.

    Estimates that cannot be trusted keep their row and say so.
    """
    trusted = [v for r in rows for v in (r.value, r.low, r.high) if v is not None]
    low, high = min([0.0, *trusted]), max([0.0, *trusted])
    if any(r.statistic == "heritability" for r in rows):
        high = max(high, 1.0)
    span = (high - low) or 1.0
    low, high = low - span * 0.04, high + span * 0.04
    names = [short(row.trait or row.fitness or row.population, 26) for row in rows]
    left = 18 + 7.0 * max(len(name) for name in names)
    right = width - 150

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left)

    bottom = 16 + len(rows) * 30.0
    parts = [tag("path", d=f"M{x(0):.1f} 6V{bottom:.0f}", class_="zero")]
    parts.append(tag("text", "0", x=f"{x(0):.1f}", y=f"{bottom + 14:.0f}", class_="small middle"))
    if low < 1 < high:
        parts.append(tag("path", d=f"M{x(1):.1f} 6V{bottom:.0f}", class_="zero"))
        one = tag("text", "1", x=f"{x(1):.1f}", y=f"{bottom + 14:.0f}", class_="small middle")
        parts.append(one)
    for index, (row, name) in enumerate(zip(rows, names, strict=True)):
        y = 22 + index * 30.0
        parts.append(tag("text", name, x=f"{left - 16:.0f}", y=f"{y + 4:.0f}", class_="end"))
        if row.value is None or row.low is None or row.high is None:
            parts.append(tag("text", "no estimate", x=f"{left:.0f}", y=f"{y + 4:.0f}",
                             class_="small"))  # fmt: skip
            continue
        parts.append(
            tag("path", d=f"M{x(row.low):.1f} {y:.0f}H{x(row.high):.1f}", class_="whisker")
        )
        parts.append(tag("circle", cx=f"{x(row.value):.1f}", cy=f"{y:.0f}", r="5.5", class_="dot"))
        says = f"{number(row.value)} [{number(row.low, 2)}, {number(row.high, 2)}]"
        parts.append(tag("text", says, x=f"{width - 4:.0f}", y=f"{y + 4:.0f}", class_="end"))
    words = "; ".join(f"{n}: {number(r.value)}" for r, n in zip(rows, names, strict=True))
    return picture(width, bottom + 22, words, *parts)

"""Small server-made pictures for pages of statistics: an estimate beside its null."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lineage.explorer.markup import Markup, tag
from lineage.explorer.palette import STYLE
from lineage.explorer.words import number
from lineage.model import Estimate

__all__ = ["draw_beside_null", "picture"]


def picture(width: float, height: float, words: str, *children: object) -> Markup:
    """An SVG in our style that says in words what it shows; complete in itself, as a file too."""
    return tag(
        "svg",
        tag("title", words),
        Markup(f"<style>{STYLE}</style>"),
        *children,
        xmlns="http://www.w3.org/2000/svg",
        class_="hb",
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        width=f"{width:.0f}",
        height=f"{height:.0f}",
        role="img",
        aria_label=words,
    )


def draw_beside_null(
    estimate: Estimate, expected: Sequence[float], *, zero: float = 0.0, width: float = 300
) -> Markup:
    """An estimate as dot and whisker on a line from no effect, and diamonds where chance lies.

    Parameters
    ----------
    estimate
        Known, not NaN.
    expected
        Means of the nulls; NaN are left out.
    zero
        What no effect is.
    """
    nulls = [one for one in expected if math.isfinite(one)]
    drawn = [zero, estimate.low, estimate.high, estimate.value, *nulls]
    low, high = min(drawn), max(drawn)
    span = (high - low) or 1.0
    left, right = 8.0, width - 8.0

    def x(value: float) -> float:
        return left + (value - low) / span * (right - left)

    parts = [
        tag("path", d=f"M{left:.1f} 26H{right:.1f}", style="stroke:var(--edge);fill:none"),
        tag("path", d=f"M{x(zero):.1f} 12V40", class_="zero"),
        tag("path", d=f"M{x(estimate.low):.1f} 26H{x(estimate.high):.1f}", class_="whisker"),
        tag("circle", cx=f"{x(estimate.value):.1f}", cy="26", r="5.5", class_="dot"),
    ]
    for one in nulls:
        at = x(one)
        shape = f"M{at:.1f} 19l7 7l-7 7l-7 -7z"
        parts.append(tag("path", d=shape, style="fill:none;stroke:var(--merge);stroke-width:1.8"))
    words = f"{number(estimate.value)}, interval {number(estimate.low)} to {number(estimate.high)}"
    if nulls:
        words += "; by chance " + ", ".join(number(one) for one in nulls)
    label = tag("text", number(zero), x=f"{x(zero):.1f}", y="54", class_="small middle")
    return picture(width, 58, words, *parts, label)

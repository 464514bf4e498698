"""The whole family in a strip: drawing position downwards, time to the right, the window marked."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from lineage.explorer.markup import Markup, tag
from lineage.explorer.palette import STYLE
from lineage.explorer.words import plural
from lineage.views.surroundings import Density

__all__ = ["draw_minimap"]

_WIDTH, _HEIGHT = 1080.0, 84.0
_LEVELS = 5
_LEAST_WINDOW = 5.0


def draw_minimap(
    density: Density, pos: int, size: int, dates: Sequence[datetime], words: str
) -> Markup:
    """Draw a family's density and the window of what is drawn in full.

    Parameters
    ----------
    density
        The family on a grid.
    pos, size
        The part of it that is drawn in full.
    dates
        The dates in that drawing; the window reaches from the first to the last.
    words
        What the window shows.
    """
    cell = _WIDTH / density.n_columns, _HEIGHT / density.n_rows
    most = max((n for _, _, n in density.cells), default=1)
    by_level: dict[int, list[str]] = defaultdict(list)
    for row, column, n in density.cells:
        level = min(_LEVELS - 1, int(_LEVELS * math.log1p(n) / math.log1p(most + 1)))
        by_level[level].append(
            f"M{column * cell[0]:.1f} {row * cell[1]:.1f}h{cell[0]:.1f}v{cell[1]:.1f}"
            f"h-{cell[0]:.1f}z"
        )
    paths = [
        tag("path", d="".join(cells), style=f"fill:var(--ink);fill-opacity:{0.14 + 0.17 * level}")
        for level, cells in sorted(by_level.items())
    ]
    left, right = _span(density, dates)
    top = (pos - density.pos) / density.size * _HEIGHT
    high = size / density.size * _HEIGHT
    spare = max(0.0, _LEAST_WINDOW - high) / 2
    window = tag(
        "rect", class_="window", x=f"{left:.1f}", y=f"{max(0.0, top - spare):.1f}",
        width=f"{max(_LEAST_WINDOW, right - left):.1f}", height=f"{high + 2 * spare:.1f}", rx="2",
    )  # fmt: skip
    alt = (
        f"The whole family of {density.founder}: {plural(density.size, 'model')} by time, "
        f"left to right, and place in the drawing, top to bottom. {words}"
    )
    return tag(
        "svg",
        tag("title", alt),
        Markup(f"<style>{STYLE}</style>"),
        tag("rect", class_="paper", width=f"{_WIDTH:.0f}", height=f"{_HEIGHT:.0f}"),
        *paths,
        window,
        xmlns="http://www.w3.org/2000/svg",
        class_="hb minimap",
        viewBox=f"-2 -2 {_WIDTH + 4:.0f} {_HEIGHT + 4:.0f}",
        preserveAspectRatio="none",
        role="img",
        aria_label=alt,
    )


def _span(density: Density, dates: Sequence[datetime]) -> tuple[float, float]:
    """Pixels of the first and the last date, inside the strip."""
    if not dates or density.first is None or density.last is None:
        return 0.0, _WIDTH
    length = max(1.0, (density.last - density.first).total_seconds())
    ends = [(when - density.first).total_seconds() / length for when in (min(dates), max(dates))]
    low, high = (_WIDTH * min(1.0, max(0.0, share)) for share in ends)
    return low, high

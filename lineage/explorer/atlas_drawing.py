"""The atlas as one picture: the window of the map as SVG, for browsers without WebGL2 and files.

Pure: tiles in, text out. The same tiles, heights and colours as on the map: bars of counts by row
and bin of time, or single marks with the lines to their primary parents.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lineage.explorer.atlas_words import COLOURINGS
from lineage.explorer.axis import TimeAxis
from lineage.explorer.markup import Markup, join, tag
from lineage.explorer.palette import STYLE
from lineage.explorer.shapes import shape
from lineage.explorer.words import plural, short
from lineage.views import atlas as views

__all__ = ["NAMED_ROWS", "Links", "band_edges", "draw_atlas"]

NAMED_ROWS = 64
"""Up to so many positions, every model has its name and leads to its lineage."""

_WIDTH, _TOP, _HEIGHT, _GUTTER = 1080.0, 36.0, 560.0, 210.0
_BANDS = 8


@dataclass(frozen=True, slots=True)
class _Plot:
    """Where a window stands on the picture."""

    window: views.Window
    left: float
    right: float
    lane: float

    def x(self, seconds: float) -> float:
        """Pixels of a time since the first bin."""
        share = (seconds - self.window.since) / self.window.span
        return self.left + share * (self.right - self.left)

    def inside(self, x: float) -> float:
        """A place at the nearest edge of the plot, or itself."""
        return min(max(x, self.left), self.right)

    def y(self, row: float) -> float:
        """Pixels of the top of a position."""
        return _TOP + (row - self.window.first) / self.window.rows * _HEIGHT

    def shows(self, row: float, rows: float = 1) -> bool:
        """Whether any of these positions is in the window."""
        return row + rows > self.window.first and row < self.window.first + self.window.rows


def band_edges(window: views.Window) -> list[tuple[int, int]]:
    """The window cut into at most eight parts: first and last position of each."""
    first, last = window.positions
    step = max(math.ceil((last - first + 1) / _BANDS), 1)
    return [(begin, min(begin + step - 1, last)) for begin in range(first, last + 1, step)]


@dataclass(frozen=True, slots=True)
class Links:
    """Where a part of the picture (first and last position) and a named model lead."""

    zoom: Callable[[int, int], str]
    lineage: Callable[[str], str]


def draw_atlas(
    atlas: views.Atlas,
    window: views.Window,
    colour: str,
    clades: Sequence[views.Clade] = (),
    spot: views.Spot | None = None,
    names: Sequence[str] = (),
    links: Links | None = None,
) -> str:
    """Draw a window of the atlas.

    Parameters
    ----------
    atlas, window, colour
        What to draw; `colour` is a name of :data:`~lineage.explorer.atlas_words.COLOURINGS`.
    clades
        Named at the right margin.
    spot
        A model with a ring around it.
    names
        Of the models in the window, from its first position on, where they are to be named.
    links
        Where named models lead, and the parts of the picture where none is named; None: nowhere.
    """
    lane = 84.0 if atlas.n_undated else 0.0
    dated = len(atlas.bins.edges) > 0
    plot = _Plot(window, 14 + lane, _WIDTH - _GUTTER, 36.0 if dated else _WIDTH / 3)
    single = views.level_of(atlas, window, _HEIGHT) is None
    drawn = _models(atlas, plot, colour) if single else _bars(atlas, plot, colour)
    over: Markup | None = None
    if names:
        over = _named(atlas, plot, names, links)
    elif links:
        over = join(*[_band(plot, *band, links) for band in band_edges(window)])
    first, last = window.positions
    title = (
        f"Models at positions {first + 1:,} to {last + 1:,} of {atlas.n_models:,} by time, "
        f"coloured by {COLOURINGS[colour].title.lower()}"
    )
    height = _TOP + _HEIGHT + 40
    return tag(
        "svg",
        tag("title", title),
        tag("style", Markup(STYLE + _SHEET)),
        tag("rect", width=_WIDTH, height=height, class_="paper"),
        _axis(atlas, plot),
        drawn,
        _brackets(plot, () if names else clades),
        _ring(plot, spot),
        over,
        _legend(colour, height - 16),
        xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {_WIDTH:.0f} {height:.0f}",
        class_="hb atlas-image", role="group", aria_label=title,
    )  # fmt: skip


_SHEET = "".join(
    f"svg.hb .k-{name}{{fill:var(--{name})}}"
    for name in sorted({c.colour for item in COLOURINGS.values() for c in item.categories})
) + (
    "svg.hb .elbow{fill:none;stroke:var(--line);stroke-opacity:.55}"
    "svg.hb .bracket{fill:none;stroke:var(--line);stroke-width:1.5}"
    "svg.hb .band-link .target{fill:transparent}svg.hb .band-link:hover .target,"
    "svg.hb .band-link:focus-visible .target{stroke:var(--ink);stroke-width:2}"
    "svg.hb .band-link{cursor:pointer;outline:none}"
)


def _axis(atlas: views.Atlas, plot: _Plot) -> Markup:
    lane = (
        tag("text", "no date", x=f"{plot.lane:.1f}", y=f"{_TOP - 14:.1f}")
        if atlas.n_undated
        else None
    )
    if not len(atlas.bins.edges):
        return tag("g", lane, class_="axis")
    begin = datetime.fromtimestamp(atlas.bins.start, UTC) + timedelta(seconds=plot.window.since)
    end = begin + timedelta(seconds=plot.window.span)
    axis = TimeAxis(begin, end, plot.left, plot.right)
    lines = axis.draw(_TOP - 7, _TOP + _HEIGHT)
    return join(lines, tag("g", lane, class_="axis"))


def _paths(pieces: Mapping[str, list[str]]) -> Markup:
    return join(*[tag("path", d="".join(d), class_=f"k-{name}") for name, d in pieces.items()])


def _bars(atlas: views.Atlas, plot: _Plot, colour: str) -> Markup:
    level = views.level_of(atlas, plot.window, _HEIGHT)
    assert level is not None
    tall, begin = atlas.rows_of(level), atlas.number(level, 0)
    facet = list(COLOURINGS).index(colour)
    widths = [len(item.categories) for item in COLOURINGS.values()]
    columns = slice(sum(widths[:facet]), sum(widths[: facet + 1]))
    found: list[tuple[int, int, list[int]]] = []
    for number in views.tiles_of(atlas, plot.window, _HEIGHT):
        cells = atlas.cells(level, number - begin)
        rows = (cells.row + (number - begin) * views.TILE_ROWS).tolist()
        counts = cells.counts[:, columns].tolist()
        found += [
            cell
            for cell in zip(rows, cells.column.tolist(), counts, strict=True)
            if plot.shows(cell[0] * tall, tall)
        ]
    most = max((sum(counts) for _, _, counts in found), default=1)
    pieces: dict[str, list[str]] = {}
    edges = atlas.bins.edges.tolist()
    for row, column, counts in found:
        if column < len(edges) - 1:
            left, right = (plot.inside(plot.x(edges[column + by])) for by in (0, 1))
        else:
            left, right = plot.lane - 15, plot.lane + 15
        if right - left < 0.2:
            continue
        total, bottom = sum(counts), plot.y((row + 1) * tall)
        height = (0.08 + 0.86 * math.sqrt(total / most)) * tall / plot.window.rows * _HEIGHT
        for category, count in zip(COLOURINGS[colour].categories, counts, strict=True):
            if count:
                part = height * count / total
                bottom -= part
                wide = (right - left) - min(1.0, 0.15 * (right - left))
                piece = f"M{left:.1f} {bottom:.2f}h{wide:.1f}v{part:.2f}h-{wide:.1f}z"
                pieces.setdefault(category.colour, []).append(piece)
    return _clipped(_paths(pieces))


def _clipped(drawn: Markup) -> Markup:
    # Rows at the edges of a window are cut where the window ends, as on the map.
    area = tag("rect", x="0", y=f"{_TOP:.0f}", width=f"{_WIDTH:.0f}", height=f"{_HEIGHT:.0f}")
    return join(
        tag("clipPath", area, id="atlas-window"),
        tag("g", drawn, clip_path="url(#atlas-window)"),
    )


def _models(atlas: views.Atlas, plot: _Plot, colour: str) -> Markup:
    facet = list(COLOURINGS).index(colour)
    per_row = _HEIGHT / plot.window.rows
    radius = min(5.5, max(1.4, per_row * 0.36))
    lines: list[str] = []
    marks: dict[tuple[int, str], list[str]] = {}
    first, last = plot.window.positions
    for number in views.tiles_of(atlas, plot.window, _HEIGHT):
        leaf, base = atlas.leaf(number), number * views.LEAF_MODELS
        for when, reach in zip(leaf.trunk_seconds.tolist(), leaf.trunk_reach.tolist(), strict=True):
            lines.append(_trunk(plot, when, base - 1, base + reach))
        for i in leaf.reach.nonzero()[
            0
        ].tolist():  # also above the window: lines come down from there
            if leaf.seconds[i] != views.NO_DATE:
                ends = base + i, base + i + int(leaf.reach[i])
                lines.append(_trunk(plot, int(leaf.seconds[i]), *ends))
        for i in range(max(first - base, 0), min(last - base + 1, len(leaf.seconds))):
            row, when, parent = base + i, int(leaf.seconds[i]), int(leaf.parent_seconds[i])
            if when != views.NO_DATE and parent != views.NO_DATE:
                left, right = plot.inside(plot.x(parent)), plot.inside(plot.x(when))
                if left != right:
                    lines.append(f"M{left:.1f} {plot.y(row + 0.5):.1f}H{right:.1f}")
            x = plot.lane if when == views.NO_DATE else plot.x(when)
            if when != views.NO_DATE and plot.inside(x) != x:
                continue
            category = COLOURINGS[colour].categories[int(leaf.codes[i, facet])]
            form = int(leaf.codes[i, 0])
            marks.setdefault((form, category.colour), []).append(
                _dot(form, x, plot.y(row + 0.5), radius)
            )
    drawn = [
        tag("path", d="".join(pieces), class_=f"k-{name}") for (_, name), pieces in marks.items()
    ]
    return _clipped(join(tag("path", d="".join(lines), class_="elbow"), *drawn))


def _trunk(plot: _Plot, when: int, top: float, bottom: float) -> str:
    x = plot.x(when)
    if plot.inside(x) != x:
        return ""
    edges = (_TOP, _TOP + _HEIGHT)
    ends = [min(max(plot.y(row + 0.5), edges[0]), edges[1]) for row in (top, bottom)]
    return f"M{x:.1f} {ends[0]:.1f}V{ends[1]:.1f}" if ends[0] < ends[1] else ""


def _dot(form: int, x: float, y: float, r: float) -> str:
    """A relation's shape as a piece of a path; thousands share one element."""
    if form == 2:
        return f"M{x - r:.1f} {y - r:.1f}h{2 * r:.1f}v{2 * r:.1f}h-{2 * r:.1f}z"
    if form == 3:
        return f"M{x:.1f} {y - 1.2 * r:.1f}l{1.15 * r:.1f} {2 * r:.1f}h-{2.3 * r:.1f}z"
    if form == 4:
        d = 1.3 * r
        return f"M{x:.1f} {y - d:.1f}l{d:.1f} {d:.1f}l-{d:.1f} {d:.1f}l-{d:.1f} -{d:.1f}z"
    arc = f"a{r:.1f} {r:.1f} 0 1 0"
    return f"M{x - r:.1f} {y:.1f}{arc} {2 * r:.1f} 0{arc} -{2 * r:.1f} 0"


def _named(
    atlas: views.Atlas,
    plot: _Plot,
    names: Sequence[str],
    links: Links | None,
) -> Markup:
    first, _ = plot.window.positions
    leaves = {tile: atlas.leaf(tile) for tile in views.tiles_of(atlas, plot.window, _HEIGHT)}
    found = []
    for row, name in enumerate(names, first):
        tile, i = divmod(row, views.LEAF_MODELS)
        when, y = int(leaves[tile].seconds[i]), plot.y(row + 0.5)
        x = plot.lane if when == views.NO_DATE else plot.x(when)
        if (when != views.NO_DATE and plot.inside(x) != x) or not _TOP <= y <= _TOP + _HEIGHT:
            continue
        shown = short(name, 46)
        wide = 6.7 * len(shown)
        left = x + 11 + wide > _WIDTH - 6
        anchor = {"class_": "label end"} if left else {"class_": "label"}
        label = tag(
            "text", shown, x=f"{x - 10 if left else x + 10:.1f}", y=f"{y + 4:.1f}", **anchor
        )
        target = links.lineage(name) if links else None
        area = tag(
            "rect", x=f"{x - wide - 12 if left else x - 8:.1f}", y=f"{y - 9:.1f}",
            width=f"{wide + 22:.1f}", height="18", rx="4", class_="target",
        )  # fmt: skip
        if target is None:
            found.append(label)
        else:
            found.append(
                tag("a", area, label, href=target, data_go=target, class_="n", aria_label=name)
            )
    return join(*found)


def _band(plot: _Plot, first: int, last: int, links: Links) -> Markup:
    target = links.zoom(first, last)
    top, bottom = max(plot.y(first), _TOP), min(plot.y(last + 1), _TOP + _HEIGHT)
    words = f"Zoom to positions {first + 1:,} to {last + 1:,}, {plural(last - first + 1, 'model')}"
    area = tag(
        "rect", x="3", y=f"{top + 1:.1f}", width=f"{plot.right:.1f}",
        height=f"{max(bottom - top - 2, 1):.1f}", rx="5", class_="target",
    )  # fmt: skip
    return tag(
        "a", tag("title", words), area, href=target, data_go=target, class_="band-link",
        aria_label=words,
    )  # fmt: skip


def _brackets(plot: _Plot, clades: Sequence[views.Clade]) -> Markup:
    found, free = [], _TOP
    for clade in clades:
        top = max(plot.y(clade.position), _TOP) + 1
        bottom = min(plot.y(clade.position + clade.size), _TOP + _HEIGHT) - 1
        if bottom - top < 4:
            continue
        x, y = plot.right + 6, (top + bottom) / 2
        d = f"M{x:.1f} {top:.1f}h5V{bottom:.1f}h-5"
        found.append(tag("path", d=d, class_="bracket"))
        if y - 7 >= free:
            found.append(tag("text", short(clade.repo_id, 27), x=f"{x + 11:.1f}", y=f"{y + 4:.1f}"))
            free = y + 7
    return join(*found)


def _ring(plot: _Plot, spot: views.Spot | None) -> Markup | None:
    if spot is None or not plot.shows(spot.position):
        return None
    x = plot.lane if spot.seconds is None else plot.x(spot.seconds)
    if spot.seconds is not None and plot.inside(x) != x:
        return None
    y = f"{plot.y(spot.position + 0.5):.1f}"
    return tag("circle", tag("title", spot.repo_id), cx=f"{x:.1f}", cy=y, r="9", class_="ring")


def _legend(colour: str, y: float) -> Markup:
    found, x = [], 16.0
    for category in COLOURINGS[colour].categories:
        found.append(shape(category.shape, x, y - 4, 5, class_=f"k-{category.colour}"))
        found.append(tag("text", category.word, x=f"{x + 11:.0f}", y=f"{y:.0f}"))
        x += 34 + 6.4 * len(category.word)
    return tag("g", *found, class_="legend")

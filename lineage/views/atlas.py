"""Questions about the atlas: windows of the forest, the tiles that fill them, their contents."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import duckdb

from lineage.store import published_atlas
from lineage.store.atlas import Atlas, open_atlas
from lineage.store.atlas_tiles import FACETS, LEAF_MODELS, NO_DATE, TILE_ROWS, Cells, Leaf

__all__ = [
    "FACETS",
    "LEAF_MODELS",
    "LEAST_ROWS",
    "LEAST_ROW_PX",
    "MOST_SINGLE",
    "MOST_TIME_ZOOM",
    "NO_DATE",
    "TILE_ROWS",
    "Atlas",
    "AtlasFamily",
    "AtlasModel",
    "Cells",
    "Clade",
    "Contents",
    "Leaf",
    "Spot",
    "Window",
    "contents",
    "level_of",
    "names_at",
    "open_atlas",
    "spot_of",
    "tiles_of",
    "whole_span",
    "window_at",
    "window_of",
    "window_on",
]

LEAST_ROWS = 14
MOST_SINGLE = 3072
MOST_TIME_ZOOM = 8.0
LEAST_ROW_PX = 12
_SPOT_ROWS = 40
_CANDIDATES = 400
_CLADES = 60


@dataclass(frozen=True, slots=True)
class Window:
    """What is in view: `rows` positions from `first` on, `span` seconds from `since` on.

    Times count from the first bin of the atlas. Ends need not be whole positions.
    """

    first: float
    rows: float
    since: float
    span: float

    @property
    def positions(self) -> tuple[int, int]:
        """First and last position that is at least partly in view."""
        return math.floor(self.first), max(math.ceil(self.first + self.rows) - 1, 0)


@dataclass(frozen=True, slots=True)
class Spot:
    """Where one model stands; `seconds` is None for a model in the lane without dates."""

    repo_id: str
    position: int
    seconds: int | None


@dataclass(frozen=True, slots=True)
class Clade:
    """A model and all that come from it by primary parents: consecutive positions."""

    repo_id: str
    position: int
    size: int


@dataclass(frozen=True, slots=True)
class AtlasFamily:
    """A founder's tree, of which `n_here` models stand at the positions asked for."""

    repo_id: str
    position: int
    size: int
    created_at: datetime | None
    n_here: int


@dataclass(frozen=True, slots=True)
class AtlasModel:
    """A model of a window."""

    repo_id: str
    position: int
    created_at: datetime | None
    n_descendants: int
    downloads_30d: int | None
    kind: str | None


@dataclass(frozen=True, slots=True)
class Contents:
    """What a window shows, in words.

    Attributes
    ----------
    around, inside
        The clades that the window lies in, and those that can be told apart inside it (no two
        overlap), in order of position.
    families, models
        The families with most models here; the models with most descendants.
    """

    around: tuple[Clade, ...]
    inside: tuple[Clade, ...]
    families: tuple[AtlasFamily, ...]
    models: tuple[AtlasModel, ...]


# -- windows and tiles --------------------------------------------------------------------------


def whole_span(atlas: Atlas) -> int:
    """Seconds from the first bin's beginning to the last one's end; 1 where nothing has a date."""
    return int(atlas.bins.edges[-1]) if len(atlas.bins.edges) else 1


def window_at(
    atlas: Atlas,
    position: float | None = None,
    zoom: float = 0.0,
    when: datetime | None = None,
    time_zoom: float = 0.0,
) -> Window:
    """The window around a position and a moment, moved and cut so that it lies in the forest.

    Parameters
    ----------
    position, when
        The window's middle; None for the middle of everything.
    zoom, time_zoom
        Doublings: 0 shows all positions, all time; 1 half of them.
    """
    n, whole = max(atlas.n_models, 1), whole_span(atlas)
    rows = min(max(n * 0.5 ** max(zoom, 0.0), LEAST_ROWS), n)
    span = whole * 0.5 ** min(max(time_zoom, 0.0), MOST_TIME_ZOOM)
    middle = n / 2 if position is None else position
    moment = whole / 2 if when is None else when.timestamp() - atlas.bins.start
    first = min(max(middle - rows / 2, 0.0), n - rows)
    return Window(first, rows, min(max(moment - span / 2, 0.0), whole - span), span)


def window_of(atlas: Atlas, first: float, rows: float) -> Window:
    """The window of these positions over all time, moved and cut so that it lies in the forest."""
    zoom = math.log2(max(atlas.n_models / max(rows, 1), 1))
    return window_at(atlas, first + rows / 2, zoom)


def window_on(atlas: Atlas, spot: Spot) -> Window:
    """A window of forty positions around a model."""
    return window_at(atlas, spot.position + 0.5, math.log2(max(atlas.n_models / _SPOT_ROWS, 1)))


def level_of(atlas: Atlas, window: Window, height_px: float) -> int | None:
    """The finest level of counts whose rows can be told apart; None: single models."""
    if window.rows <= MOST_SINGLE:
        return None
    for level in range(len(atlas.levels)):
        if height_px * atlas.rows_of(level) / window.rows >= LEAST_ROW_PX:
            return level
    return len(atlas.levels) - 1


def tiles_of(atlas: Atlas, window: Window, height_px: float) -> list[int]:
    """Numbers of the tiles that fill a window of this height."""
    level = level_of(atlas, window, height_px)
    size = LEAF_MODELS if level is None else TILE_ROWS * atlas.rows_of(level)
    n_tiles = atlas.n_leaves if level is None else atlas.levels[level]
    begin = 0 if level is None else atlas.number(level, 0)
    first, last = window.positions
    return [begin + tile for tile in range(first // size, min(last // size + 1, n_tiles))]


# -- names and clades ---------------------------------------------------------------------------


def names_at(cursor: duckdb.DuckDBPyConnection, first: int, last: int) -> tuple[str, ...]:
    """Names of the models at positions `first` to `last`, in order."""
    return tuple(published_atlas.names_at(cursor, first, last))


def spot_of(cursor: duckdb.DuckDBPyConnection, atlas: Atlas, repo_id: str) -> Spot | None:
    """Where a model stands; None for an unknown one."""
    rows = published_atlas.place_of(cursor, repo_id)
    if not rows:
        return None
    position = int(rows[0][0])
    leaf = atlas.leaf(position // LEAF_MODELS)
    seconds = int(leaf.seconds[position % LEAF_MODELS])
    return Spot(repo_id, position, None if seconds == NO_DATE else seconds)


def contents(
    cursor: duckdb.DuckDBPyConnection,
    atlas: Atlas,
    window: Window,
    *,
    n_families: int = 12,
    n_models: int = 25,
) -> Contents:
    """What a window shows. Models without a date count only where all time is in view."""
    first, last = window.positions
    since = until = None
    if window.span < 0.999 * whole_span(atlas):
        since = datetime.fromtimestamp(atlas.bins.start, UTC) + timedelta(seconds=window.since)
        until = since + timedelta(seconds=window.span)
    families = published_atlas.families_across(cursor, first, last, n_families)
    models = published_atlas.models_across(cursor, first, last, since, until, n_models)
    return Contents(
        *_clades(cursor, window),
        tuple(AtlasFamily(a, b, c, _zoned(when), d) for a, b, c, when, d in families),
        tuple(AtlasModel(a, b, _zoned(when), *rest) for a, b, when, *rest in models),
    )


def _clades(
    cursor: duckdb.DuckDBPyConnection, window: Window
) -> tuple[tuple[Clade, ...], tuple[Clade, ...]]:
    # Those inside hold a sixtieth to four fifths of the window; the largest are chosen first.
    first, last = window.positions
    least = max(2, math.ceil(window.rows / _CLADES))
    around: list[Clade] = []
    inside: list[Clade] = []
    for row in published_atlas.clades_across(cursor, first, last, least, _CANDIDATES):
        clade = Clade(*row)
        here = min(clade.position + clade.size, last + 1) - max(clade.position, first)
        if here > 0.8 * window.rows:
            around.append(clade)
        elif here >= least and not any(_overlap(clade, other) for other in inside):
            inside.append(clade)
    return tuple(sorted(around, key=_place)), tuple(sorted(inside, key=_place))


def _place(clade: Clade) -> int:
    return clade.position


def _overlap(a: Clade, b: Clade) -> bool:
    return a.position < b.position + b.size and b.position < a.position + a.size


def _zoned(when: datetime | None) -> datetime | None:
    return None if when is None else when.replace(tzinfo=UTC)

"""Tiles of the atlas: arrays of all models in, blocks of bytes out, and back. Pure.

Two kinds of tile. A *leaf* holds 1,024 consecutive drawing positions, each model exactly once. A
tile of *cells* holds 16 rows, each of many consecutive positions, by bins of time; a cell says how
many of its models are of each category of each facet. The rows of the first level hold 128
positions, those of every next level twice as many, until one tile holds the whole forest. The
format is written down in ``docs/atlas.md``; ``lineage/explorer/atlas_script.py`` reads it too.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BASE_ROWS",
    "FACETS",
    "LEAF_MODELS",
    "MAX_BINS",
    "MAX_TRUNKS",
    "NO_DATE",
    "TILE_ROWS",
    "UNDATED",
    "Cells",
    "Facet",
    "Forest",
    "Leaf",
    "TimeBins",
    "decode_cells",
    "decode_leaf",
    "encode_cells",
    "encode_leaf",
    "leaves",
    "pyramid",
    "time_bins",
]

LEAF_MODELS = 1024
BASE_ROWS = 128
TILE_ROWS = 16
MAX_BINS = 60
MAX_TRUNKS = 512
UNDATED = int(np.iinfo(np.int64).min)
"""Creation time of a model without one, among times since 1970."""
NO_DATE = 0xFFFFFFFF
"""The same among times since the first bin, as tiles hold them."""

_MONTH_STEPS = (1, 2, 3, 6, 12, 24, 60, 120, 1200)
_LOOKED_AT = 4096

Ints = NDArray[np.int64]
Words = NDArray[np.uint32]
Codes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Facet:
    """A way to colour the models: its name and its categories, in order of their codes."""

    name: str
    categories: tuple[str, ...]


FACETS: tuple[Facet, ...] = (
    Facet("relation", ("founder", "finetune", "adapter", "quantized", "merge", "unknown")),
    Facet("licence", ("permissive", "copyleft", "non_commercial", "custom", "unknown")),
    Facet("verdict", ("contradicted", "undeclared", "confirmed", "unverified", "none")),
    Facet("status", ("ok", "gated", "disabled", "gone", "unknown")),
)

_WIDTHS = tuple(len(facet.categories) for facet in FACETS)
_N_CATEGORIES = sum(_WIDTHS)


@dataclass(frozen=True, eq=False, slots=True)
class Forest:
    """Every model in drawing order: row i is the model at position i.

    Attributes
    ----------
    created : (n,)
        Seconds since 1970, or `UNDATED`.
    parent : (n,)
        Position of the primary parent, always before the model's own; -1 for none.
    size : (n,)
        Number of models in the clade.
    codes : (n, number of facets)
        Category of each facet.
    """

    created: Ints
    parent: Ints
    size: Words
    codes: Codes


@dataclass(frozen=True, eq=False, slots=True)
class TimeBins:
    """Bins of whole months (UTC): bin i begins at `edges[i]` seconds after `start` (since 1970).

    There is one edge more than bins, and none at all where no model has a date.
    """

    start: int
    edges: Ints

    @property
    def n_bins(self) -> int:
        """Number of bins; the lane without dates is column `n_bins` of the cells."""
        return max(len(self.edges) - 1, 0)


@dataclass(frozen=True, eq=False, slots=True)
class Leaf:
    """Consecutive models: times since the first bin (or `NO_DATE`) and what draws their lines.

    Attributes
    ----------
    seconds, parent_seconds : (n,)
        When the model and its primary parent were made; `NO_DATE` also where there is no parent.
    reach : (n,)
        How many positions below the model its last child stands; 0 without children.
    size : (n,)
        Number of models in the clade.
    codes : (n, number of facets)
        Category of each facet.
    trunk_seconds, trunk_reach : (m,)
        Lines that come down from ancestors above this leaf: when the ancestor was made, and how
        many positions below the leaf's first model its last child stands.
    """

    seconds: Words
    parent_seconds: Words
    reach: Words
    size: Words
    codes: Codes
    trunk_seconds: Words
    trunk_reach: Words


@dataclass(frozen=True, eq=False, slots=True)
class Cells:
    """Counts by row and bin of time, in that order; cells without models are left out.

    Attributes
    ----------
    row, column : (n,)
        Row within the tile (or within the level) and bin of time.
    counts : (n, number of categories)
        Models of each category, facet after facet; each facet's sum to the number of models.
    """

    row: Ints
    column: Ints
    counts: Words


# -- time ---------------------------------------------------------------------------------------


def time_bins(created: Ints) -> TimeBins:
    """The finest bins of whole months that are at most `MAX_BINS` for these times.

    Examples
    --------
    >>> time_bins(np.array([1_646_265_600, 1_650_000_000], dtype=np.int64)).n_bins
    2
    """
    dated = created[created != UNDATED]
    if not len(dated):
        return TimeBins(0, np.zeros(0, dtype=np.int64))
    ends = np.array([dated.min(), dated.max()]).astype("datetime64[s]").astype("datetime64[M]")
    first, last = ends.astype(np.int64).tolist()
    step = next(step for step in _MONTH_STEPS if last // step - first // step < MAX_BINS)
    months = np.arange(first // step * step, (last // step + 1) * step + 1, step)
    edges = months.astype("datetime64[M]").astype("datetime64[s]").astype(np.int64)
    return TimeBins(int(edges[0]), edges - edges[0])


def _since_start(created: Ints, bins: TimeBins) -> Words:
    return np.where(created == UNDATED, NO_DATE, created - bins.start).astype(np.uint32)


# -- single models ------------------------------------------------------------------------------


def leaves(forest: Forest, bins: TimeBins) -> Iterator[Leaf]:
    """Cut the forest into leaves, in order of position."""
    n = len(forest.created)
    seconds = _since_start(forest.created, bins)
    own = np.arange(n)
    has_parent = forest.parent >= 0
    parent_seconds = np.full(n, NO_DATE, dtype=np.uint32)
    parent_seconds[has_parent] = seconds[forest.parent[has_parent]]
    last = own.copy()
    last[forest.parent[has_parent]] = own[has_parent]  # of several children the last one stays
    reach = (last - own).astype(np.uint32)
    for base in range(0, n, LEAF_MODELS):
        these = slice(base, base + LEAF_MODELS)
        trunks = _trunks(base, forest.parent, last, seconds)
        yield Leaf(
            seconds[these], parent_seconds[these], reach[these], forest.size[these],
            forest.codes[these],
            np.array([when for when, _ in trunks], dtype=np.uint32),
            np.array([down for _, down in trunks], dtype=np.uint32),
        )  # fmt: skip


def _trunks(base: int, parent: Ints, last: Ints, seconds: Words) -> list[tuple[int, int]]:
    # Bounded: a chain of a million models has as many ancestors, and almost none of their lines
    # come this far down.
    found: list[tuple[int, int]] = []
    above = int(parent[base])
    for _ in range(_LOOKED_AT):
        if above < 0 or len(found) == MAX_TRUNKS:
            break
        if last[above] >= base and seconds[above] != NO_DATE:
            found.append((int(seconds[above]), int(last[above]) - base))
        above = int(parent[above])
    return found


# -- counts -------------------------------------------------------------------------------------


def pyramid(forest: Forest, bins: TimeBins) -> Iterator[tuple[int, int, Cells]]:
    """Level, number and cells of every tile of counts: the finest level first, in order of rows."""
    n_rows = -(-len(forest.created) // BASE_ROWS)
    if not n_rows:
        return
    cells, level = _base_cells(forest, bins), 0
    while True:
        n_tiles = -(-n_rows // TILE_ROWS)
        bounds = np.searchsorted(cells.row, np.arange(n_tiles + 1) * TILE_ROWS)
        for tile, (begin, end) in enumerate(pairwise(bounds.tolist())):
            part = slice(begin, end)
            rows = cells.row[part] - tile * TILE_ROWS
            yield level, tile, Cells(rows, cells.column[part], cells.counts[part])
        if n_tiles == 1:
            return
        cells, level, n_rows = _coarser(cells, bins), level + 1, -(-n_rows // 2)


def _base_cells(forest: Forest, bins: TimeBins) -> Cells:
    n_columns = bins.n_bins + 1
    column = np.searchsorted(bins.edges[1:], forest.created - bins.start, side="right")
    column[forest.created == UNDATED] = bins.n_bins
    key = np.arange(len(column)) // BASE_ROWS * n_columns + column
    cells, cell_of = np.unique(key, return_inverse=True)
    counts = np.empty((len(cells), _N_CATEGORIES), dtype=np.uint32)
    begin = 0
    for facet, width in enumerate(_WIDTHS):
        found = np.bincount(cell_of * width + forest.codes[:, facet], minlength=len(cells) * width)
        counts[:, begin : begin + width] = found.reshape(len(cells), width)
        begin += width
    return Cells(cells // n_columns, cells % n_columns, counts)


def _coarser(cells: Cells, bins: TimeBins) -> Cells:
    n_columns = bins.n_bins + 1
    key = cells.row // 2 * n_columns + cells.column
    order = np.argsort(key, kind="stable")
    key = key[order]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    counts = np.add.reduceat(cells.counts[order], starts, axis=0)
    return Cells(key[starts] // n_columns, key[starts] % n_columns, counts)


# -- bytes --------------------------------------------------------------------------------------


def _pack(sizes: Sequence[int], columns: Sequence[NDArray[np.generic]]) -> bytes:
    head = np.array(sizes, dtype="<u4").tobytes()
    return zlib.compress(head + b"".join(column.tobytes() for column in columns), 6)


def _unpack(block: bytes, n_sizes: int, most_bytes: int) -> tuple[list[int], memoryview]:
    reader = zlib.decompressobj()
    try:
        text = reader.decompress(block, most_bytes)
    except zlib.error as error:
        raise ValueError(f"a tile of the atlas is damaged ({error})") from error
    if not reader.eof or reader.unused_data or len(text) < 4 * n_sizes:
        raise ValueError("a tile of the atlas is longer or shorter than it says")
    sizes = np.frombuffer(text, "<u4", n_sizes).tolist()
    return sizes, memoryview(text)[4 * n_sizes :]


def encode_leaf(leaf: Leaf) -> bytes:
    """A leaf as a compressed block."""
    words = (leaf.seconds, leaf.parent_seconds, leaf.reach, leaf.size)
    columns = [column.astype("<u4") for column in words]
    columns += [leaf.trunk_seconds.astype("<u4"), leaf.trunk_reach.astype("<u4")]
    sizes = (len(leaf.seconds), len(leaf.trunk_seconds))
    return _pack(sizes, [*columns, *leaf.codes.T.astype(np.uint8)])


def decode_leaf(block: bytes) -> Leaf:
    """A leaf from its block.

    Raises
    ------
    ValueError
        If the block is damaged, or no leaf.
    """
    most = 8 + LEAF_MODELS * (16 + len(FACETS)) + MAX_TRUNKS * 8
    (n, m), rest = _unpack(block, 2, most)
    if len(rest) != n * (16 + len(FACETS)) + m * 8:
        raise ValueError("a tile of the atlas holds no single models")
    words = np.frombuffer(rest, "<u4", 4 * n + 2 * m)
    codes = np.frombuffer(rest, np.uint8, offset=16 * n + 8 * m).reshape(len(FACETS), n).T
    if (codes >= np.array(_WIDTHS)).any():
        raise ValueError("a tile of the atlas holds an unknown category")
    seconds, parent_seconds, reach, size = words[: 4 * n].reshape(4, n)
    trunk_seconds, trunk_reach = words[4 * n :].reshape(2, m)
    return Leaf(seconds, parent_seconds, reach, size, codes, trunk_seconds, trunk_reach)


def encode_cells(cells: Cells) -> bytes:
    """Cells of one tile as a compressed block."""
    places = [cells.row.astype(np.uint8), cells.column.astype(np.uint8)]
    return _pack((len(cells.row),), [cells.counts.T.astype("<u4"), *places])


def decode_cells(block: bytes) -> Cells:
    """Cells of one tile from their block.

    Raises
    ------
    ValueError
        If the block is damaged, or holds no counts.
    """
    (n,), rest = _unpack(block, 1, 4 + TILE_ROWS * (MAX_BINS + 1) * (4 * _N_CATEGORIES + 2))
    if len(rest) != n * (4 * _N_CATEGORIES + 2):
        raise ValueError("a tile of the atlas holds no counts")
    counts = np.frombuffer(rest, "<u4", n * _N_CATEGORIES).reshape(_N_CATEGORIES, n).T
    row, column = np.frombuffer(rest, np.uint8, offset=4 * n * _N_CATEGORIES).reshape(2, n)
    if (row >= TILE_ROWS).any() or (column > MAX_BINS).any():
        raise ValueError("a tile of the atlas has a cell outside it")
    return Cells(row.astype(np.int64), column.astype(np.int64), counts)

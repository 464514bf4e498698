"""The atlas beside a published database: a file of tiles, built at publish time, read by mapping.

Head, index and blocks are described in ``docs/atlas.md``; what is in a block is the business of
:mod:`lineage.store.atlas_tiles`.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np

from crawler.licences import class_of
from lineage.errors import NotFoundError, SchemaError
from lineage.store.atlas_tiles import (
    BASE_ROWS,
    FACETS,
    LEAF_MODELS,
    TILE_ROWS,
    UNDATED,
    Cells,
    Forest,
    Leaf,
    TimeBins,
    decode_cells,
    decode_leaf,
    encode_cells,
    encode_leaf,
    leaves,
    pyramid,
    time_bins,
)
from lineage.store.home import Home
from lineage.store.publication import Manifest

__all__ = ["VERSION", "Atlas", "build_atlas", "open_atlas", "read_forest", "write_atlas"]

VERSION = 1
_MAGIC = b"HERDATLS"
_HEAD = struct.Struct("<8sII")
_MOST_HEAD_BYTES = 1 << 16
_MEMORY = "400MB"


@dataclass(frozen=True, eq=False, slots=True)
class Atlas:
    """An open file of tiles. A tile's number counts the leaves first, then level after level."""

    n_models: int
    n_undated: int
    bins: TimeBins
    levels: tuple[int, ...]
    """Number of tiles of each level of counts, the finest first."""
    _map: mmap.mmap
    _index: np.ndarray[tuple[int], np.dtype[np.uint64]]

    @property
    def n_leaves(self) -> int:
        """Number of tiles of single models."""
        return -(-self.n_models // LEAF_MODELS)

    @property
    def n_tiles(self) -> int:
        """Number of all tiles."""
        return len(self._index) - 1

    def rows_of(self, level: int) -> int:
        """How many positions one row of a level of counts holds."""
        return BASE_ROWS << level

    def number(self, level: int, tile: int) -> int:
        """The number, among all tiles, of a tile of counts."""
        return self.n_leaves + sum(self.levels[:level]) + tile

    def block(self, number: int) -> bytes:
        """The compressed bytes of a tile.

        Raises
        ------
        IndexError
            If there is no such tile.
        """
        if not 0 <= number < self.n_tiles:
            raise IndexError(f"the atlas has tiles 0 to {self.n_tiles - 1}, not {number}")
        begin, end = self._index[number : number + 2].tolist()
        return self._map[begin:end]

    def leaf(self, tile: int) -> Leaf:
        """The single models of a leaf; its first one stands at position ``tile * LEAF_MODELS``."""
        return decode_leaf(self.block(tile))

    def cells(self, level: int, tile: int) -> Cells:
        """The counts of a tile; its first row is row ``tile * TILE_ROWS`` of the level."""
        return decode_cells(self.block(self.number(level, tile)))


# -- building -----------------------------------------------------------------------------------


def build_atlas(database: Path, target: Path) -> None:
    """Write the atlas of a published database that is complete and closed."""
    with duckdb.connect(str(database), read_only=True) as connection:
        connection.execute(f"SET memory_limit = '{_MEMORY}'")
        connection.execute("SET threads = 2")
        connection.execute("SET enable_progress_bar = false")
        forest = read_forest(connection)
    write_atlas(forest, target)


def read_forest(connection: duckdb.DuckDBPyConnection) -> Forest:
    """All models of a published database, in drawing order, with the categories of `FACETS`."""
    import pyarrow as pa

    stated = [row[0] for row in connection.execute(_LICENCES).fetchall()]
    codes = {facet.name: list(facet.categories) for facet in FACETS}
    classes = [codes["licence"].index(class_of(word)) for word in stated]
    connection.register(
        "licence_class",
        pa.table({"licence": pa.array(stated, pa.string()), "class": pa.array(classes, pa.int8())}),
    )
    columns = connection.execute(
        _FOREST,
        {
            "undated": UNDATED,
            "relations": codes["relation"],
            "verdicts": codes["verdict"],
            "statuses": codes["status"],
            "no_licence": codes["licence"].index("unknown"),
        },
    ).fetchnumpy()
    connection.unregister("licence_class")
    facets = [np.asarray(columns[facet.name], dtype=np.uint8) for facet in FACETS]
    return Forest(
        np.asarray(columns["created"], dtype=np.int64),
        np.asarray(columns["parent"], dtype=np.int64),
        np.asarray(columns["size"], dtype=np.uint32),
        np.stack(facets, axis=1),
    )


_LICENCES = "SELECT DISTINCT licence FROM model WHERE licence IS NOT NULL"

# The primary parent is that of the first edge that is drawn: not contradicted, in the catalogue.
# A repository cannot be older than git (7 April 2005) nor made after it was seen (a day's grace
# for clocks): such dates are not believed, and the model stands with those that have none.
_FOREST = """
WITH said AS (
    SELECT child_pos,
           arg_min(parent_pos, position) FILTER (verdict <> 'contradicted') AS parent,
           arg_min(relation, position) FILTER (verdict <> 'contradicted') AS relation,
           min(list_position($verdicts::VARCHAR[], verdict)) AS verdict
    FROM edge WHERE child_pos IS NOT NULL GROUP BY child_pos)
SELECT CASE WHEN model.created_at >= TIMESTAMPTZ '2005-04-07 00:00:00+00'
             AND model.created_at <= model.observed_at + INTERVAL 1 DAY
            THEN epoch(model.created_at)::BIGINT ELSE $undated END AS created,
       coalesce(said.parent, -1)::INTEGER AS parent,
       model.size::UINTEGER AS size,
       (coalesce(list_position($relations::VARCHAR[], coalesce(said.relation, 'founder')),
                 len($relations::VARCHAR[])) - 1)::UTINYINT AS relation,
       coalesce(licence_class.class, $no_licence)::UTINYINT AS licence,
       (coalesce(said.verdict, len($verdicts::VARCHAR[])) - 1)::UTINYINT AS verdict,
       (coalesce(list_position($statuses::VARCHAR[], model.status),
                len($statuses::VARCHAR[])) - 1)::UTINYINT AS status
FROM model
LEFT JOIN said ON said.child_pos = model.pos
LEFT JOIN licence_class ON licence_class.licence = model.licence
ORDER BY model.pos
"""


def write_atlas(forest: Forest, target: Path) -> None:
    """Write the file of tiles of a forest."""
    bins = time_bins(forest.created)
    n = len(forest.created)
    levels = _level_sizes(n)
    head = json.dumps(
        {
            "n_models": n,
            "n_undated": int((forest.created == UNDATED).sum()),
            "start": bins.start,
            "edges": bins.edges.tolist(),
            "levels": levels,
            "leaf_models": LEAF_MODELS,
            "base_rows": BASE_ROWS,
            "tile_rows": TILE_ROWS,
            "facets": {facet.name: list(facet.categories) for facet in FACETS},
        }
    ).encode()
    index = [0] * (-(-n // LEAF_MODELS) + sum(levels) + 1)
    with target.open("wb") as file:
        file.write(_HEAD.pack(_MAGIC, VERSION, len(head)) + head)
        index_at = file.tell()
        file.write(bytes(8 * len(index)))
        for number, block in enumerate(_blocks(forest, bins)):
            index[number] = file.tell()
            file.write(block)
        index[-1] = file.tell()
        file.seek(index_at)
        file.write(np.array(index, dtype="<u8").tobytes())


def _blocks(forest: Forest, bins: TimeBins) -> Iterator[bytes]:
    for leaf in leaves(forest, bins):
        yield encode_leaf(leaf)
    for _, _, cells in pyramid(forest, bins):
        yield encode_cells(cells)


def _level_sizes(n_models: int) -> list[int]:
    """Number of tiles of each level of counts."""
    sizes: list[int] = []
    rows = -(-n_models // BASE_ROWS)
    while rows and (not sizes or sizes[-1] > 1):
        sizes.append(-(-rows // TILE_ROWS))
        rows = -(-rows // 2)
    return sizes


# -- reading ------------------------------------------------------------------------------------


def open_atlas(home: Home, manifest: Manifest) -> Atlas:
    """Map the atlas of a publication, after checking its digest.

    Raises
    ------
    NotFoundError
        If this publication has no atlas.
    SchemaError
        If the file is not what the manifest says, or of another version.
    """
    companion = manifest.companions.get("atlas")
    path = home.published / companion.file if companion else None
    if companion is None or path is None or not path.is_file():
        raise NotFoundError("This publication has no atlas; run `herdbook publish` again.")
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != companion.sha256:
            raise SchemaError(
                f"The atlas {companion.file} is not what its manifest says (sha256 differs); "
                "run `herdbook publish` again."
            )
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        return _read(mapped)
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise SchemaError(
            f"The atlas {companion.file} cannot be read by this herdbook; "
            "run `herdbook publish` again."
        ) from error


def _read(mapped: mmap.mmap) -> Atlas:
    magic, version, length = _HEAD.unpack_from(mapped)
    if magic != _MAGIC or version != VERSION or length > _MOST_HEAD_BYTES:
        raise ValueError("no atlas of this version")
    head = json.loads(mapped[_HEAD.size : _HEAD.size + length])
    n, levels = int(head["n_models"]), [int(size) for size in head["levels"]]
    facets = {facet.name: list(facet.categories) for facet in FACETS}
    sizes = (head["leaf_models"], head["base_rows"], head["tile_rows"])
    if head["facets"] != facets or sizes != (LEAF_MODELS, BASE_ROWS, TILE_ROWS):
        raise ValueError("other facets or sizes than this herdbook's")
    if levels != _level_sizes(n):
        raise ValueError("the levels do not fit the number of models")
    n_tiles = -(-n // LEAF_MODELS) + sum(levels)
    index = np.frombuffer(mapped, "<u8", n_tiles + 1, _HEAD.size + length)
    if int(index[-1]) != len(mapped) or (np.diff(index.astype(np.int64)) < 0).any():
        raise ValueError("the index does not fit the file")
    bins = TimeBins(int(head["start"]), np.array(head["edges"], dtype=np.int64))
    return Atlas(n, int(head["n_undated"]), bins, tuple(levels), mapped, index)

"""Keeps what children and parents show of each other layer by layer: of the latest inference."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import duckdb

__all__ = ["described_edges", "drop_edge_layers", "publish_edge_layers", "store_edge_layers"]

LayerRow = tuple[
    str, str, int | None, int | None, int, int, float | None, int, int, float | None
]  # fmt: skip
"""The columns of ``edge_layer`` in their order."""
MatchRow = tuple[str, str, str, int, Sequence[float | None]]
"""The columns of ``edge_match`` in their order."""

_TABLES = ("edge_layer", "edge_match")


def described_edges(connection: duckdb.DuckDBPyConnection) -> set[tuple[str, str]]:
    """Pairs of child and parent that are kept."""
    return set(connection.execute("SELECT DISTINCT child, parent FROM edge_layer").fetchall())


def drop_edge_layers(
    connection: duckdb.DuckDBPyConnection, edges: Collection[tuple[str, str]]
) -> None:
    """Forget pairs of child and parent."""
    import pyarrow as pa

    pairs = pa.table(
        {
            "child": pa.array([child for child, _ in edges], pa.string()),
            "parent": pa.array([parent for _, parent in edges], pa.string()),
        }
    )
    connection.register("dropped_edges", pairs)
    for table in _TABLES:
        connection.execute(
            f"DELETE FROM {table} WHERE (child, parent) IN"
            " (SELECT (child, parent) FROM dropped_edges)"
        )
    connection.unregister("dropped_edges")


def store_edge_layers(
    connection: duckdb.DuckDBPyConnection,
    layers: Sequence[LayerRow],
    matches: Sequence[MatchRow],
) -> None:
    """Add what some pairs show; they must not be kept yet."""
    import pyarrow as pa

    text, count, real = pa.string(), pa.int64(), pa.float64()
    types = (text, text, pa.int32(), pa.int32(), count, count, real, count, count, real)
    _append(connection, "edge_layer", layers, types)
    _append(
        connection, "edge_match", matches, (text, text, text, pa.int32(), pa.list_(pa.float32()))
    )


def _append(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    rows: Sequence[tuple[object, ...]],
    types: Sequence[object],
) -> None:
    import pyarrow as pa

    if not rows:
        return
    columns = [
        pa.array(list(values), kind) for values, kind in zip(zip(*rows, strict=True), types,
                                                             strict=True)
    ]  # fmt: skip
    made = pa.table(columns, names=[f"c{i}" for i in range(len(columns))])
    connection.register("new_rows", made)
    connection.execute(f"INSERT INTO {table} SELECT * FROM new_rows")
    connection.unregister("new_rows")


def publish_edge_layers(connection: duckdb.DuckDBPyConnection) -> None:
    """Copy what is kept of the edges of the attached ``publication``, in order of child."""
    for table in _TABLES:
        connection.execute(
            f"INSERT INTO publication.{table} SELECT kept.* FROM {table} AS kept"
            " SEMI JOIN publication.edge AS edge USING (child, parent)"
            " ORDER BY child, parent, layer NULLS FIRST"
        )

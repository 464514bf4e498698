"""Parts as tables that SQL can ask.

``fingerprint_model`` has a row a model and ``fingerprint_tensor`` one a tensor; both show what the
ledger names and no other copy.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa

from lineage.errors import SchemaError
from lineage.store.fingerprint_parts import MODELS, WORDS, part_of, require_scheme
from lineage.store.part_columns import MODEL_SCHEMA, TENSOR_SCHEMA
from lineage.store.part_location import PartLocation, as_location

__all__ = ["connect_parts"]

_VIEWS = (("fingerprint_model", MODELS, MODEL_SCHEMA), ("fingerprint_tensor", WORDS, TENSOR_SCHEMA))


def connect_parts(
    connection: duckdb.DuckDBPyConnection, where: PartLocation | str | Path, scheme: str
) -> int:
    """Make the parts of one scheme views of this connection; returns their number.

    The views last as long as the connection, which may be read-only. They show the parts that the
    ledger names now: call it again after new ones were entered.

    Raises
    ------
    SchemaError
        If a file of a part that the ledger names is missing.
    HomeError
        If the location cannot be listed.
    """
    location = as_location(where)
    names = connection.execute(
        "SELECT DISTINCT part FROM fingerprint WHERE scheme = ? AND part IS NOT NULL ORDER BY part",
        [require_scheme(scheme)],
    ).fetchall()
    parts = [part for (part,) in names]
    present = location.names(scheme)
    for view, ending, schema in _VIEWS:
        missing = [part for part in parts if part + ending not in present]
        if missing or not all(part_of(part + ending) for part in parts):
            raise SchemaError(
                f"{len(missing)} of {len(parts)} parts of the fingerprints in {location.label} are "
                "missing; run `herdbook fingerprint` again"
            )
        files = [location.path(scheme, part + ending) for part in parts]
        source = _source(connection, location, view, files, schema)
        key = "(repo_id, revision, part)"
        connection.execute(
            f"CREATE OR REPLACE TEMP VIEW {view} AS SELECT * FROM {source} WHERE {key} IN"
            f" (SELECT {key} FROM fingerprint WHERE scheme = '{scheme}')"
        )
    return len(parts)


def _source(
    connection: duckdb.DuckDBPyConnection,
    location: PartLocation,
    view: str,
    files: Sequence[str],
    schema: pa.Schema,
) -> str:
    """SQL of a table over files: DuckDB's own reader for local ones, pyarrow's for others."""
    if files and location.is_local:
        # Paths are this home's and names digests; what looks like a pattern is meant literally.
        exact = [re.sub(r"([*?\[])", r"[\1]", file).replace("'", "''") for file in files]
        return "read_parquet([" + ", ".join(f"'{file}'" for file in exact) + "])"
    import pyarrow.dataset

    found = (
        pyarrow.dataset.dataset(
            list(files), schema=schema, format="parquet", filesystem=location.filesystem
        )
        if files
        else schema.empty_table()
    )
    connection.register(f"{view}_files", found)
    return f"{view}_files"

"""Ordered, named changes of the working database, each recorded in its own transaction."""

from __future__ import annotations

import logging
from collections.abc import Callable

import duckdb

from lineage.errors import SchemaError
from lineage.store.schema import EDGE_LAYER, EDGE_MATCH, FINGERPRINT, REPORT, WORKING

__all__ = ["MIGRATIONS", "migrate"]

_log = logging.getLogger(__name__)


def _create_first_tables(connection: duckdb.DuckDBPyConnection) -> None:
    for table in WORKING:
        connection.execute(table.ddl())


def _keep_fingerprints_in_parts(connection: duckdb.DuckDBPyConnection) -> None:
    """Fingerprints of before lie in files of another form, under another scheme: read again."""
    rows = connection.execute("SELECT count(*) FROM fingerprint").fetchall()
    connection.execute("DROP TABLE fingerprint")
    connection.execute(FINGERPRINT.ddl())
    if rows[0][0]:
        _log.warning(
            "%d fingerprints of an earlier herdbook cannot be compared with new ones and are "
            "forgotten; `herdbook fingerprint` reads them again. HOME/fingerprints/*.safetensors "
            "may be deleted",
            rows[0][0],
        )


def _tell_modules_and_tokens(connection: duckdb.DuckDBPyConnection) -> None:
    """Findings of before say nothing of them; the next inference does."""
    for name, kind in (
        ("target_modules", "VARCHAR[]"),
        ("tokens_kept", "BIGINT"),
        ("tokens_renumbered", "BIGINT"),
        ("tokens_appended", "BIGINT"),
        ("tokens_dropped", "BIGINT"),
    ):
        connection.execute(f"ALTER TABLE finding ADD COLUMN IF NOT EXISTS {name} {kind}")


def _tell_unseen_ancestors(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("ALTER TABLE finding ADD COLUMN IF NOT EXISTS unseen_ancestor VARCHAR")


def _keep_reports(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(REPORT.ddl().replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS", 1))


def _describe_edges_by_layer(connection: duckdb.DuckDBPyConnection) -> None:
    """Empty until the next inference."""
    for table in (EDGE_LAYER, EDGE_MATCH):
        connection.execute(table.ddl().replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS", 1))


MIGRATIONS: tuple[tuple[str, Callable[[duckdb.DuckDBPyConnection], None]], ...] = (
    ("0001-tables-of-0.2", _create_first_tables),
    ("0002-fingerprints-in-parts", _keep_fingerprints_in_parts),
    ("0003-target-modules-and-tokens", _tell_modules_and_tokens),
    ("0004-unseen-ancestors", _tell_unseen_ancestors),
    ("0005-reports", _keep_reports),
    ("0006-edges-by-layer", _describe_edges_by_layer),
)
"""Name and function of every migration; never edited once released, only appended to."""


def migrate(connection: duckdb.DuckDBPyConnection) -> None:
    """Bring a database to the current schema.

    Raises
    ------
    SchemaError
        If the database was written by a newer herdbook.
    """
    connection.execute(
        "CREATE TABLE IF NOT EXISTS migration (name VARCHAR PRIMARY KEY, applied_at TIMESTAMPTZ)"
    )
    applied = {name for (name,) in connection.execute("SELECT name FROM migration").fetchall()}
    unknown = applied - {name for name, _ in MIGRATIONS}
    if unknown:
        raise SchemaError(
            f"the database has changes this version does not know ({', '.join(sorted(unknown))}); "
            "upgrade herdbook"
        )
    for name, change in MIGRATIONS:
        if name in applied:
            continue
        connection.begin()
        try:
            change(connection)
            connection.execute("INSERT INTO migration VALUES (?, now())", [name])
            connection.commit()
        except BaseException:
            connection.rollback()
            raise

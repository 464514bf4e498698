"""Ordered, named changes of the working database, each recorded in its own transaction."""

from __future__ import annotations

from collections.abc import Callable

import duckdb

from lineage.errors import SchemaError
from lineage.store.schema import WORKING

__all__ = ["MIGRATIONS", "migrate"]


def _create_first_tables(connection: duckdb.DuckDBPyConnection) -> None:
    for table in WORKING:
        connection.execute(table.ddl())


MIGRATIONS: tuple[tuple[str, Callable[[duckdb.DuckDBPyConnection], None]], ...] = (
    ("0001-tables-of-0.2", _create_first_tables),
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

"""Whole answers kept as documents: what ``herdbook lewontin`` and ``herdbook behave`` print."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

import duckdb

from lineage.plain import plain
from lineage.store.transaction import transaction

__all__ = ["keep_reports", "read_reports"]


def keep_reports(
    connection: duckdb.DuckDBPyConnection, run_id: int, kind: str, documents: Mapping[str, object]
) -> None:
    """Replace every report of this kind by `documents`, which are named by what they are about.

    A document is anything that :func:`lineage.plain.plain` takes.
    """
    now = datetime.now(UTC)
    rows = [
        [run_id, kind, name, now, json.dumps(plain(document), allow_nan=False)]
        for name, document in documents.items()
    ]
    with transaction(connection):
        connection.execute("DELETE FROM report WHERE kind = ?", [kind])
        if rows:
            connection.executemany("INSERT INTO report VALUES (?, ?, ?, ?, ?)", rows)


def read_reports(cursor: duckdb.DuckDBPyConnection, kind: str) -> dict[str, str]:
    """Names and JSON documents of one kind, in order of name; of either database."""
    rows = cursor.execute(
        "SELECT name, document FROM report WHERE kind = ? ORDER BY name", [kind]
    ).fetchall()
    return {str(name): str(document) for name, document in rows}

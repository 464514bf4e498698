"""Reads of the published database that the atlas needs: names and clades by drawing position."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import duckdb

from lineage.store.published import Row

__all__ = ["clades_across", "families_across", "models_across", "names_at", "place_of"]

_TIME = "created_at AT TIME ZONE 'UTC'"


def names_at(cursor: duckdb.DuckDBPyConnection, first: int, last: int) -> list[str]:
    """Names of the models at positions `first` to `last`, in order."""
    rows = cursor.execute(
        "SELECT repo_id FROM model WHERE pos BETWEEN ? AND ? ORDER BY pos", [first, last]
    ).fetchall()
    return [name for (name,) in rows]


def place_of(cursor: duckdb.DuckDBPyConnection, repo_id: str) -> Sequence[Row]:
    """Position and creation time of a model; no row for an unknown one."""
    return cursor.execute(f"SELECT pos, {_TIME} FROM model WHERE repo_id = ?", [repo_id]).fetchall()


def clades_across(
    cursor: duckdb.DuckDBPyConnection, first: int, last: int, least: int, limit: int
) -> list[Row]:
    """Name, position and size of clades of `least` models or more that meet these positions."""
    return cursor.execute(
        "SELECT repo_id, pos, size FROM model WHERE pos <= ? AND pos + size > ? AND size >= ? "
        "ORDER BY size DESC, pos LIMIT ?",
        [last, first, least, limit],
    ).fetchall()


def families_across(
    cursor: duckdb.DuckDBPyConnection, first: int, last: int, limit: int
) -> list[Row]:
    """Founders whose trees have most models here: name, position, size, creation, how many here."""
    return cursor.execute(
        f"""
        SELECT repo_id, pos, size, {_TIME},
               least(pos + size - 1, $last) - greatest(pos, $first) + 1 AS here
        FROM model
        WHERE generation = 0 AND size > 1 AND pos <= $last AND pos + size > $first
        ORDER BY here DESC, pos LIMIT $limit
        """,
        {"first": first, "last": last, "limit": limit},
    ).fetchall()


def models_across(
    cursor: duckdb.DuckDBPyConnection,
    first: int,
    last: int,
    since: datetime | None,
    until: datetime | None,
    limit: int,
) -> list[Row]:
    """Models at these positions made in this time (None: any), most descendants first.

    Name, position, creation, descendants, downloads in 30 days and kind.
    """
    return cursor.execute(
        f"""
        SELECT repo_id, pos, {_TIME}, n_descendants, downloads_30d, kind
        FROM model
        WHERE pos BETWEEN $first AND $last
          AND ($since IS NULL OR created_at >= $since::TIMESTAMPTZ)
          AND ($until IS NULL OR created_at <= $until::TIMESTAMPTZ)
        ORDER BY n_descendants DESC, coalesce(downloads_30d, 0) DESC, pos LIMIT $limit
        """,
        {"first": first, "last": last, "since": since, "until": until, "limit": limit},
    ).fetchall()

"""Enters what a Hub-wide snapshot says of models, where it knows more than the register.

A row counts when its repository is unknown, or when it was made after the register last saw the
repository and shows a later change, or its removal. So a newer state is never turned back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

import duckdb

from crawler.listed import ListedRepo
from crawler.records import RepoStatus
from lineage.store.listed import enter_listed

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ModelCount", "enter_models", "enter_removed", "plan_models", "wanted_models"]


@dataclass(frozen=True, slots=True)
class ModelCount:
    """Models of a table: unknown before, changed since, gone since, and nothing new."""

    new: int
    changed: int
    gone: int
    known: int


def plan_models(connection: duckdb.DuckDBPyConnection) -> ModelCount:
    """Give every staged row its ``verdict``: new, changed, gone or known.

    Of several rows of one model the latest change counts; the others are refused.
    """
    connection.execute(
        "UPDATE ingest_row SET refusal = CASE WHEN bad_observed_at IS NOT NULL"
        " THEN 'not a time' ELSE 'no time' END WHERE refusal IS NULL AND observed_at IS NULL"
    )
    connection.execute(
        "UPDATE ingest_row SET refusal = 'model of another row' FROM (SELECT n AS again,"
        " row_number() OVER (PARTITION BY repo_id ORDER BY observed_at DESC,"
        " last_modified DESC NULLS LAST, n) AS place FROM ingest_row WHERE refusal IS NULL)"
        " WHERE n = again AND place > 1"
    )
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE ingest_model AS SELECT n, given, staged.repo_id, is_removed,"
        " seen_at, CASE WHEN book.repo_id IS NULL THEN 'new'"
        " WHEN is_removed AND book.status <> 'gone' AND seen_at > book.listed_at THEN 'gone'"
        " WHEN NOT is_removed AND seen_at > book.listed_at AND (book.last_modified IS NULL"
        " OR staged.last_modified > book.last_modified) THEN 'changed' ELSE 'known' END AS verdict"
        " FROM (SELECT *, CASE WHEN is_removed AND removed_at < observed_at THEN removed_at"
        " ELSE observed_at END AS seen_at FROM ingest_row WHERE refusal IS NULL) AS staged"
        " LEFT JOIN repository AS book ON book.repo_id = staged.repo_id"
    )
    found = dict(
        connection.execute("SELECT verdict, count(*) FROM ingest_model GROUP BY verdict").fetchall()
    )
    return ModelCount(*(int(found.get(word, 0)) for word in ("new", "changed", "gone", "known")))


def wanted_models(connection: duckdb.DuckDBPyConnection) -> pa.Table:
    """``n``, ``given``, ``repo_id``, ``seen_at`` and ``is_removed`` of new and changed models."""
    return connection.sql(
        "SELECT n, given, repo_id, seen_at, is_removed FROM ingest_model"
        " WHERE verdict IN ('new', 'changed') ORDER BY n"
    ).to_arrow_table()


def enter_models(
    connection: duckdb.DuckDBPyConnection,
    rows: Sequence[tuple[ListedRepo, datetime, bool]],
) -> None:
    """Enter models that are new or changed, each with its time and whether it was removed.

    Callers hold the transaction.
    """
    enter_listed(
        connection,
        [
            (replace(row, status=RepoStatus.GONE) if is_removed else row, at)
            for row, at, is_removed in rows
        ],
    )


def enter_removed(connection: duckdb.DuckDBPyConnection) -> None:
    """Enter a tombstone for each repository whose verdict is gone. Callers hold the transaction."""
    gone = "SELECT repo_id, seen_at FROM ingest_model WHERE verdict = 'gone'"
    connection.execute(
        f"INSERT INTO snapshot (repo_id, observed_at, status) SELECT *, 'gone' FROM ({gone})"
    )
    connection.execute(
        "UPDATE repository SET status = 'gone', listed_at = seen_at"
        f" FROM ({gone}) AS new WHERE repository.repo_id = new.repo_id"
    )

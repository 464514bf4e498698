"""What could not be read, and why: written by every stage that reads."""

from __future__ import annotations

from datetime import datetime

import duckdb

__all__ = ["clear_problems", "record_problem"]


def record_problem(
    connection: duckdb.DuckDBPyConnection,
    repo_id: str,
    revision: str | None,
    stage: str,
    path: str | None,
    code: str,
    reason: str,
    now: datetime,
    raw: str | None = None,
) -> None:
    """Record why something could not be read; the same problem is kept once, with its latest time.

    Problems are the same when repository, stage, path, code and reason are.
    """
    connection.execute(
        "DELETE FROM problem WHERE repo_id = ? AND stage = ? AND path IS NOT DISTINCT FROM ?"
        " AND code = ? AND reason = ?",
        [repo_id, stage, path, code, reason],
    )
    connection.execute(
        "INSERT INTO problem VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [repo_id, revision, stage, path, code, reason, now, raw],
    )


def clear_problems(connection: duckdb.DuckDBPyConnection, repo_id: str, stage: str) -> None:
    """Forget a stage's problems with a repository, which is about to be tried again."""
    connection.execute("DELETE FROM problem WHERE repo_id = ? AND stage = ?", [repo_id, stage])

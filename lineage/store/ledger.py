"""The crawler's ledger: which repositories are known, what is to be read, how far walks came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import duckdb

from crawler.errors import RateLimitedError, RetryableError, ServerError, TruncatedError
from crawler.records import RepoStatus

__all__ = [
    "QueueItem",
    "Sweep",
    "advance_sweep",
    "begin_sweep",
    "details_queue",
    "has_census",
    "known_status",
    "last_sweep",
    "listed_in_run",
    "missing_since",
    "newest_listed",
    "note_alias",
    "note_tried",
]

_RETRYABLE = [
    error.code for error in (RetryableError, RateLimitedError, ServerError, TruncatedError)
]


@dataclass(frozen=True, slots=True)
class Sweep:
    """One walk along a listing; `next_url` is None before the first page and after the last.

    `oldest` is the earliest creation that it listed so far: whatever was created after it, exists
    and was not listed is missing.
    """

    sweep_id: int
    kind: str
    endpoint: str
    scope: str
    started_at: datetime
    next_url: str | None
    n_pages: int
    n_records: int
    newest: datetime | None
    oldest: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class QueueItem:
    """A repository whose details are to be read, and why: the first reason that holds."""

    repo_id: str
    reason: str


_SWEEP = (
    "sweep_id, kind, endpoint, scope, started_at, next_url, n_pages, n_records, newest, oldest,"
    " finished_at"
)


def last_sweep(connection: duckdb.DuckDBPyConnection, endpoint: str, *kinds: str) -> Sweep | None:
    """The latest walk of these kinds along the listing of `endpoint`."""
    rows = connection.execute(
        f"SELECT {_SWEEP} FROM sweep WHERE endpoint = ? AND kind IN (SELECT unnest(?::VARCHAR[]))"
        " ORDER BY sweep_id DESC LIMIT 1",
        [endpoint, list(kinds)],
    ).fetchall()
    return Sweep(*rows[0]) if rows else None


def has_census(connection: duckdb.DuckDBPyConnection, endpoint: str) -> bool:
    """Whether the whole listing of `endpoint` was once walked through."""
    rows = connection.execute(
        "SELECT 1 FROM sweep WHERE endpoint = ? AND kind = 'census' AND finished_at IS NOT NULL"
        " LIMIT 1",
        [endpoint],
    ).fetchall()
    return bool(rows)


def begin_sweep(
    connection: duckdb.DuckDBPyConnection, kind: str, endpoint: str, scope: str, at: datetime
) -> Sweep:
    """Enter a new walk."""
    rows = connection.execute("SELECT coalesce(max(sweep_id), 0) + 1 FROM sweep").fetchall()
    sweep_id = int(rows[0][0]) if rows else 1
    connection.execute(
        "INSERT INTO sweep VALUES (?, ?, ?, ?, ?, NULL, 0, 0, NULL, NULL, NULL)",
        [sweep_id, kind, endpoint, scope, at],
    )
    return Sweep(sweep_id, kind, endpoint, scope, at, None, 0, 0, None, None, None)


def advance_sweep(
    connection: duckdb.DuckDBPyConnection,
    sweep: Sweep,
    *,
    next_url: str | None,
    n_pages: int,
    n_records: int,
    newest: datetime | None,
    oldest: datetime | None,
    finished_at: datetime | None,
) -> Sweep:
    """Enter how far a walk came, within the transaction that enters its pages."""
    bounds = [moment for moment in (sweep.newest, newest) if moment is not None]
    floors = [moment for moment in (sweep.oldest, oldest) if moment is not None]
    moved = Sweep(
        sweep.sweep_id, sweep.kind, sweep.endpoint, sweep.scope, sweep.started_at, next_url,
        sweep.n_pages + n_pages, sweep.n_records + n_records,
        max(bounds, default=None), min(floors, default=None), finished_at,
    )  # fmt: skip
    connection.execute(
        "UPDATE sweep SET next_url = ?, n_pages = ?, n_records = ?, newest = ?, oldest = ?,"
        " finished_at = ? WHERE sweep_id = ?",
        [
            moved.next_url, moved.n_pages, moved.n_records, moved.newest, moved.oldest,
            finished_at, sweep.sweep_id,
        ],
    )  # fmt: skip
    return moved


def newest_listed(connection: duckdb.DuckDBPyConnection, endpoint: str) -> datetime | None:
    """The latest change that a finished walk from the newest on has listed."""
    rows = connection.execute(
        "SELECT max(newest) FROM sweep WHERE endpoint = ? AND finished_at IS NOT NULL"
        " AND kind IN ('census', 'increment')",
        [endpoint],
    ).fetchall()
    return rows[0][0] if rows else None


def missing_since(connection: duckdb.DuckDBPyConnection, sweep: Sweep, limit: int) -> list[str]:
    """Repositories that a walk should have listed and did not, in order of id.

    It goes from the newest creation to the oldest, so these were created after the oldest that it
    listed (any time, once it is through), were known before it began, and have not been seen since.
    """
    rows = connection.execute(
        "SELECT repo_id FROM repository WHERE status <> 'gone' AND listed_at < $1"
        " AND first_seen < $1 AND ($2 OR created_at > $3) ORDER BY repo_id LIMIT $4",
        [sweep.started_at, sweep.finished_at is not None, sweep.oldest, limit],
    ).fetchall()
    return [repo_id for (repo_id,) in rows]


def known_status(
    connection: duckdb.DuckDBPyConnection, ids: Sequence[str]
) -> dict[str, RepoStatus]:
    """The status of those of `ids` that are known."""
    rows = connection.execute(
        "SELECT repo_id, status FROM repository WHERE repo_id IN (SELECT unnest(?::VARCHAR[]))",
        [list(ids)],
    ).fetchall()
    return {repo_id: RepoStatus(status) for repo_id, status in rows}


def details_queue(
    connection: duckdb.DuckDBPyConnection,
    now: datetime,
    *,
    limit: int | None,
    among: Sequence[str] | None = None,
    recheck_after: timedelta,
) -> tuple[list[QueueItem], int]:
    """What details to read next, most needed first, and how many repositories wait altogether.

    A repository waits when its details were not read at the commit that is listed, when they
    could not be read whole for a reason that passes, when another stage asks for them, or when it
    was gated or disabled and was not tried for `recheck_after`. First come those that were asked
    for; the others by the number of models that declare them as parent and by downloads (each
    doubling counts the same), with a year of age weighing as much as one doubling.

    Parameters
    ----------
    among
        Only these, and those that were asked for; None: all.
    limit
        At most so many; None: all.
    """
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE waiting AS"
        " WITH broken AS (SELECT DISTINCT repo_id FROM problem WHERE stage = 'crawl'"
        " AND code IN (SELECT unnest($1::VARCHAR[])))"
        " SELECT repo_id, created_at, CASE WHEN wanted_at IS NOT NULL THEN 'wanted'"
        " WHEN read_at IS NULL THEN 'new' WHEN read_revision IS DISTINCT FROM revision"
        " THEN 'changed' WHEN broken.repo_id IS NOT NULL THEN 'incomplete' ELSE 'unreadable' END"
        " AS reason FROM repository LEFT JOIN broken USING (repo_id)"
        " WHERE ($2 IS NULL OR wanted_at IS NOT NULL"
        " OR repo_id IN (SELECT unnest($2::VARCHAR[]))) AND ("
        " wanted_at IS NOT NULL"
        " OR status = 'ok' AND (read_at IS NULL OR read_revision IS DISTINCT FROM revision"
        " OR broken.repo_id IS NOT NULL)"
        " OR status IN ('gated', 'disabled') AND (read_at IS NULL OR read_at <= $3))",
        [_RETRYABLE, None if among is None else list(among), now - recheck_after],
    )
    rows = connection.execute("SELECT count(*) FROM waiting").fetchall()
    total = int(rows[0][0]) if rows else 0
    rows = connection.execute(
        "WITH children AS (SELECT parent AS repo_id, count(DISTINCT child) AS n FROM claim"
        " WHERE ended_at IS NULL AND parent IN (SELECT repo_id FROM waiting) GROUP BY parent),"
        " counts AS (SELECT repo_id, arg_max(downloads_30d, observed_at) AS downloads"
        " FROM observation WHERE source = 'hub' AND repo_id IN (SELECT repo_id FROM waiting)"
        " GROUP BY repo_id)"
        " SELECT repo_id, reason FROM waiting LEFT JOIN children USING (repo_id)"
        " LEFT JOIN counts USING (repo_id)"
        " ORDER BY reason <> 'wanted', log2(1 + coalesce(n, 0)) + log2(1 + coalesce(downloads, 0))"
        " - greatest(0, date_diff('day', created_at, $1)) / 365.25 DESC NULLS LAST, repo_id"
        " LIMIT $2",
        [now, 1 << 62 if limit is None else limit],
    ).fetchall()
    connection.execute("DROP TABLE waiting")
    return [QueueItem(*row) for row in rows], total


def note_alias(
    connection: duckdb.DuckDBPyConnection, old_id: str, new_id: str, at: datetime
) -> None:
    """Remember that an id leads to another repository now."""
    connection.execute("INSERT OR REPLACE INTO alias VALUES (?, ?, ?)", [old_id, new_id, at])


def note_tried(connection: duckdb.DuckDBPyConnection, repo_id: str, at: datetime) -> None:
    """Remember that a repository's details were asked for in vain: nobody waits for them now."""
    connection.execute(
        "UPDATE repository SET read_at = ?, wanted_at = NULL WHERE repo_id = ?", [at, repo_id]
    )


def listed_in_run(connection: duckdb.DuckDBPyConnection, began_at: datetime) -> int:
    """How many repositories were listed, or looked up, since `began_at`."""
    rows = connection.execute(
        "SELECT count(*) FROM repository WHERE listed_at >= ?", [began_at]
    ).fetchall()
    return int(rows[0][0]) if rows else 0

"""What is known of repositories, as of now or of any moment, as values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import duckdb

from crawler.records import (
    Claim,
    ClaimSource,
    EvalResult,
    FileEntry,
    RepoRef,
    RepoSnapshot,
    RepoStatus,
)
from lineage.store.listed import NO_COMMIT

__all__ = [
    "STANDING_CLAIMS",
    "Counted",
    "Total",
    "card_texts",
    "claims_of_rows",
    "counts_around",
    "first_and_last_counts",
    "latest_snapshots",
    "standing_claims",
]

_LATEST = """
    (SELECT * FROM snapshot WHERE $1::TIMESTAMPTZ IS NULL OR observed_at <= $1
     QUALIFY row_number() OVER (PARTITION BY repo_id ORDER BY observed_at DESC) = 1)
"""

_RESOLVED_CLAIMS = """
    SELECT child, coalesce(new_id, known.repo_id, parent) AS parent, parent_text, relation, source,
           text, claim.revision, claim.first_seen, weight, method
    FROM claim LEFT JOIN alias ON old_id = parent
    LEFT JOIN (SELECT lower(repo_id) AS lowered, min(repo_id) AS repo_id FROM repository
               WHERE status <> 'gone' GROUP BY lowered) AS known ON lowered = lower(parent)
         AND NOT EXISTS (SELECT 1 FROM repository AS exact WHERE exact.repo_id = parent)
"""

STANDING_CLAIMS = f"{_RESOLVED_CLAIMS} WHERE ended_at IS NULL"
"""Claims that stand now, their parents as :func:`standing_claims` resolves them."""

_CREATED = (
    "(SELECT repo_id, epoch_us(arg_max(created_at, observed_at)) / 864e8 AS created_day"
    " FROM snapshot GROUP BY repo_id)"
)
_DAY = "epoch_us(observed_at) / 864e8"
_ROLLING_DAYS = 30
_CARDS_AT_ONCE = 1_000


class Total(StrEnum):
    """A count that runs from a repository's creation on; the value is its column."""

    LIKES = "likes"
    DOWNLOADS = "downloads_all_time"


@dataclass(frozen=True, slots=True)
class Counted:
    """A total of one repository at two moments, in days since 1970 UTC; often they are one."""

    repo_id: str
    first_day: float
    first: int
    last_day: float
    last: int


def latest_snapshots(
    connection: duckdb.DuckDBPyConnection, as_of: datetime | None = None
) -> tuple[RepoSnapshot, ...]:
    """The state of every repository, in order of its id; `as_of` a moment, or the latest.

    A repository that is gone or disabled has its status, and everything else as it was when it
    could last be read; one that never could be has the commit of forty zeros. Counts are those
    last observed until then, `observed_at` is when the state was first seen.
    """
    rows = connection.execute(
        f"WITH latest AS {_LATEST},"
        " counts AS (SELECT repo_id, arg_max(downloads_30d, observed_at) AS downloads_30d,"
        " arg_max(likes, observed_at) AS likes FROM observation"
        " WHERE $1::TIMESTAMPTZ IS NULL OR observed_at <= $1 GROUP BY repo_id)"
        " SELECT repo_id, revision, observed_at, status, author, created_at, last_modified,"
        " downloads_30d, likes, coalesce(reading.licence, latest.licence), library, pipeline_tag,"
        " tags, card_text, config_text FROM latest LEFT JOIN counts USING (repo_id)"
        " LEFT JOIN card USING (repo_id, revision) LEFT JOIN reading USING (repo_id, revision)"
        " ORDER BY repo_id",
        [as_of],
    ).fetchall()
    files = _files(connection, as_of)
    traits = _traits(connection, as_of)
    return tuple(
        RepoSnapshot(
            RepoRef(repo_id, revision or NO_COMMIT),
            seen_at,
            RepoStatus(status),
            author,
            created_at,
            last_modified,
            downloads_30d,
            likes,
            licence,
            library,
            pipeline_tag,
            tuple(tags or ()),
            tuple(files.get((repo_id, revision), ())),
            card_text,
            config_text,
            tuple(traits.get((repo_id, revision), ())),
        )
        for (
            repo_id, revision, seen_at, status, author, created_at, last_modified, downloads_30d,
            likes, licence, library, pipeline_tag, tags, card_text, config_text,
        ) in rows
    )  # fmt: skip


def _files(
    connection: duckdb.DuckDBPyConnection, as_of: datetime | None
) -> dict[tuple[str, str], list[FileEntry]]:
    found: dict[tuple[str, str], list[FileEntry]] = {}
    for repo_id, revision, path, size_bytes, sha256, blob_id in connection.execute(
        "SELECT repo_id, revision, path, size_bytes, sha256, blob_id FROM file"
        f" JOIN {_LATEST} USING (repo_id, revision) ORDER BY repo_id, path",
        [as_of],
    ).fetchall():
        found.setdefault((repo_id, revision), []).append(
            FileEntry(path, size_bytes, sha256, blob_id)
        )
    return found


def _traits(
    connection: duckdb.DuckDBPyConnection, as_of: datetime | None
) -> dict[tuple[str, str], list[EvalResult]]:
    found: dict[tuple[str, str], list[EvalResult]] = {}
    for repo_id, revision, *fields in connection.execute(
        "SELECT repo_id, revision, name, value, metric, dataset, higher_is_better FROM trait"
        f" JOIN {_LATEST} USING (repo_id, revision) WHERE source = 'card' ORDER BY repo_id, name",
        [as_of],
    ).fetchall():
        found.setdefault((repo_id, revision), []).append(EvalResult(*fields))
    return found


def standing_claims(
    connection: duckdb.DuckDBPyConnection, as_of: datetime | None = None
) -> tuple[Claim, ...]:
    """Claims that stand now, or stood at a moment, in order of child, source and words.

    `observed_at` is when a claim was first seen. `parent` is the id that the words lead to as far
    as is known now: another case of a known id, and the new name of a renamed repository.
    """
    rows = connection.execute(
        f"{_RESOLVED_CLAIMS} WHERE CASE WHEN $1::TIMESTAMPTZ IS NULL THEN ended_at IS NULL"
        " ELSE claim.first_seen <= $1 AND (ended_at IS NULL OR ended_at > $1) END"
        " ORDER BY child, source, parent_text, text",
        [as_of],
    ).fetchall()
    return claims_of_rows(rows)


def claims_of_rows(rows: Iterable[tuple[Any, ...]]) -> tuple[Claim, ...]:
    """Rows of :data:`STANDING_CLAIMS` as values."""
    return tuple(
        Claim(
            child, parent, written, relation, ClaimSource(source), text, revision, seen, weight,
            method,
        )
        for child, parent, written, relation, source, text, revision, seen, weight, method in rows
    )  # fmt: skip


def first_and_last_counts(
    connection: duckdb.DuckDBPyConnection, total: Total
) -> tuple[Counted, ...]:
    """A total when it was first and last observed, in order of repository.

    Observations from before a repository was created are of another one of that name, which is
    gone. Of several for one moment the highest counts.
    """
    rows = connection.execute(
        f"SELECT repo_id, min(day), arg_min(total, (day, -total)), max(day),"
        f" arg_max(total, (day, total)) FROM (SELECT repo_id, {_DAY} AS day, {total} AS total"
        f" FROM observation) LEFT JOIN {_CREATED} AS created USING (repo_id)"
        " WHERE total IS NOT NULL AND coalesce(day >= created_day, TRUE)"
        " GROUP BY repo_id ORDER BY repo_id"
    ).fetchall()
    return tuple(Counted(*row) for row in rows)


def counts_around(
    connection: duckdb.DuckDBPyConnection,
    total: Total,
    asked: Sequence[tuple[str, float, float]],
) -> tuple[Counted, ...]:
    """A total when it was last observed until a day, and first observed from it on.

    Parameters
    ----------
    asked
        Repository, day of its creation, and the day in question, not before it. At its creation a
        repository has a total of zero, whatever another one of that name had before; while it is
        no older than thirty days the Hub's count of the last thirty is its total of downloads.

    Returns
    -------
    tuple of Counted
        In order of repository; those not observed from their day on are left out.
    """
    import pyarrow as pa

    names, created, days = zip(*asked, strict=True) if asked else ((), (), ())
    table = {"repo_id": pa.array(names, pa.string())}
    for column, values in (("created_day", created), ("asked_day", days)):
        table[column] = pa.array(values, pa.float64())
    counted = str(total)
    if total is Total.DOWNLOADS:
        young = f"{_DAY} <= created_day + {_ROLLING_DAYS}"
        counted = f"coalesce({total}, CASE WHEN {young} THEN downloads_30d END)"
    connection.register("asked", pa.table(table))
    try:
        rows = connection.execute(
            f"WITH counted AS (SELECT repo_id, asked_day, {_DAY} AS day, {counted} AS total"
            f" FROM observation JOIN asked USING (repo_id)"
            " UNION ALL SELECT repo_id, asked_day, created_day, 0 FROM asked)"
            " SELECT repo_id, max(day) FILTER (day <= asked_day),"
            " arg_max(total, (day, total)) FILTER (day <= asked_day),"
            " min(day) FILTER (day >= asked_day),"
            " arg_min(total, (day, -total)) FILTER (day >= asked_day)"
            " FROM counted WHERE total IS NOT NULL GROUP BY repo_id"
            " HAVING bool_or(day >= asked_day) ORDER BY repo_id"
        ).fetchall()
    finally:
        connection.unregister("asked")
    return tuple(Counted(*row) for row in rows)


def card_texts(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[str, str]]:
    """The card of every repository's latest state that has one, in order of its id.

    A text at a time, since all of them together may not fit into memory.
    """
    cursor = connection.execute(
        "SELECT repo_id, card_text FROM"
        " (SELECT repo_id, arg_max(revision, observed_at) AS revision FROM snapshot"
        " GROUP BY repo_id) JOIN card USING (repo_id, revision)"
        " WHERE card_text IS NOT NULL ORDER BY repo_id"
    )
    while rows := cursor.fetchmany(_CARDS_AT_ONCE):
        yield from rows

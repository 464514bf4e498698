"""What is known of repositories, as of now or of any moment, as values."""

from __future__ import annotations

from datetime import datetime

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

__all__ = ["latest_snapshots", "standing_claims"]

_LATEST = """
    (SELECT * FROM snapshot WHERE $1::TIMESTAMPTZ IS NULL OR observed_at <= $1
     QUALIFY row_number() OVER (PARTITION BY repo_id ORDER BY observed_at DESC) = 1)
"""


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
        "SELECT child, coalesce(new_id, known.repo_id, parent), parent_text, relation, source,"
        " text, claim.revision, claim.first_seen, weight, method FROM claim"
        " LEFT JOIN alias ON old_id = parent"
        " LEFT JOIN (SELECT lower(repo_id) AS lowered, min(repo_id) AS repo_id FROM repository"
        " WHERE status <> 'gone' GROUP BY lowered) AS known ON lowered = lower(parent)"
        " AND NOT EXISTS (SELECT 1 FROM repository AS exact WHERE exact.repo_id = parent)"
        " WHERE CASE WHEN $1::TIMESTAMPTZ IS NULL THEN ended_at IS NULL"
        " ELSE claim.first_seen <= $1 AND (ended_at IS NULL OR ended_at > $1) END"
        " ORDER BY child, source, parent_text, text",
        [as_of],
    ).fetchall()
    return tuple(
        Claim(
            child, parent, written, relation, ClaimSource(source), text, revision, seen, weight,
            method,
        )
        for child, parent, written, relation, source, text, revision, seen, weight, method in rows
    )  # fmt: skip

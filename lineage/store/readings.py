"""Enters what the details of repositories say: files, texts, claims of every source, recipes.

A repository is entered whole or not at all, whenever the process is killed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import duckdb

from crawler.records import ClaimSource, RepoStatus
from crawler.snapshot import RepoReading
from lineage.store.claims import enter_claims, enter_recipes
from lineage.store.listed import enter_listed, enter_traits
from lineage.store.problems import clear_problems, record_problem
from lineage.store.transaction import transaction

__all__ = ["record_status", "write_readings"]

_STAGE = "crawl"
_ALL_SOURCES = frozenset(ClaimSource)
_OF_TEXTS = ("licence", "architecture", "tokenizer", "card_characters", "card_completeness")


def write_readings(connection: duckdb.DuckDBPyConnection, readings: Sequence[RepoReading]) -> None:
    """Enter what some repositories said, and what could not be read, in one transaction.

    Claims end that are no longer made, but for the sources that could not be read this time.
    Problems of earlier crawls with these repositories are forgotten.
    """
    if not readings:
        return
    with transaction(connection):
        heads = [(reading.listed, reading.snapshot.observed_at) for reading in readings]
        enter_claims(
            connection,
            {
                reading.listed.repo_id: (at, _ALL_SOURCES - reading.unread)
                for reading, (_, at) in zip(readings, heads, strict=True)
            },
            [claim for reading in readings for claim in reading.claims],
        )
        enter_listed(connection, heads, with_claims=False)
        enter_traits(
            connection,
            [
                (
                    reading.listed.repo_id,
                    reading.snapshot.ref.revision,
                    reading.snapshot.evaluations,
                    reading.snapshot.observed_at,
                )
                for reading in readings
            ],
        )
        for reading in readings:
            _enter_reading(connection, reading)


def _enter_reading(connection: duckdb.DuckDBPyConnection, reading: RepoReading) -> None:
    snapshot, at = reading.snapshot, reading.snapshot.observed_at
    repo_id, revision = snapshot.ref.repo_id, snapshot.ref.revision
    _enter_files(connection, reading)
    # A commit does not change: what could be read of it once and cannot now stays.
    config = "excluded.config_text, card.config_text"
    if ClaimSource.CONFIG in reading.unread:  # then the Hub's excerpt of it stands there
        config = "card.config_text, excluded.config_text"
    connection.execute(
        "INSERT INTO card VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
        " card_text = coalesce(excluded.card_text, card.card_text),"
        f" config_text = coalesce({config})",
        [repo_id, revision, snapshot.card_text, snapshot.config_text],
    )
    connection.execute(
        "INSERT INTO reading VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
        " read_at = excluded.read_at, size_bytes = excluded.size_bytes,"
        " n_files = excluded.n_files, "
        + ", ".join(f"{name} = coalesce(excluded.{name}, reading.{name})" for name in _OF_TEXTS),
        [
            repo_id,
            revision,
            at,
            reading.licence,
            reading.architecture,
            sum(file.size_bytes for file in snapshot.files),
            len(snapshot.files),
            reading.tokenizer,
            reading.card.characters if reading.card else None,
            reading.card.completeness if reading.card else None,
        ],
    )
    enter_recipes(connection, repo_id, revision, at, _ALL_SOURCES - reading.unread, reading.recipes)
    connection.execute(
        "UPDATE repository SET read_revision = ?, read_at = ?, wanted_at = NULL WHERE repo_id = ?",
        [revision, at, repo_id],
    )
    record_status(connection, repo_id, snapshot.status, at)
    clear_problems(connection, repo_id, _STAGE)
    for problem in reading.problems:
        record_problem(
            connection, repo_id, revision, _STAGE, problem.path, problem.code, problem.reason, at
        )


def _enter_files(connection: duckdb.DuckDBPyConnection, reading: RepoReading) -> None:
    distinct = list({file.path: file for file in reading.snapshot.files}.values())
    if distinct:
        connection.execute(
            "INSERT OR REPLACE INTO file SELECT $1, $2, unnest($3::VARCHAR[]),"
            " unnest($4::BIGINT[]), unnest($5::VARCHAR[]), unnest($6::VARCHAR[])",
            [
                reading.snapshot.ref.repo_id,
                reading.snapshot.ref.revision,
                [file.path for file in distinct],
                [file.size_bytes for file in distinct],
                [file.sha256 for file in distinct],
                [file.blob_id for file in distinct],
            ],
        )


def record_status(
    connection: duckdb.DuckDBPyConnection, repo_id: str, status: RepoStatus, at: datetime
) -> bool:
    """Observe whether a repository can be read now; returns whether that is news.

    A repository that was never listed is entered with its status alone; one that was never there
    has no state.
    """
    rows = connection.execute(
        "SELECT status FROM repository WHERE repo_id = ?", [repo_id]
    ).fetchall()
    if rows and rows[0][0] == status:
        return False
    if not rows:
        connection.execute(
            "INSERT INTO repository (repo_id, first_seen, listed_at, status) VALUES (?, ?, ?, ?)",
            [repo_id, at, at, str(status)],
        )
    else:
        connection.execute(
            "UPDATE repository SET status = ? WHERE repo_id = ?", [str(status), repo_id]
        )
    # Two looks in one moment are one observation: the later one knows more.
    updated = connection.execute(
        "UPDATE snapshot SET status = ? WHERE repo_id = ? AND observed_at = ? RETURNING 1",
        [str(status), repo_id, at],
    ).fetchall()
    if updated:
        return True
    # What was known of the repository stands beside its new status.
    copied = connection.execute(
        "INSERT INTO snapshot SELECT * REPLACE (?::TIMESTAMPTZ AS observed_at, ? AS status)"
        " FROM snapshot WHERE repo_id = ? ORDER BY observed_at DESC LIMIT 1 RETURNING 1",
        [at, str(status), repo_id],
    ).fetchall()
    if not copied and status is not RepoStatus.GONE:
        connection.execute(
            "INSERT INTO snapshot (repo_id, observed_at, status) VALUES (?, ?, ?)",
            [repo_id, at, str(status)],
        )
    return True

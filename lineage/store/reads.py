"""Reads of the working database that the later stages and the commands share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import duckdb

from lineage.errors import HomeError
from lineage.model import Edge, Grade, Verdict
from lineage.store.evidence import read_evidence
from lineage.store.home import Home

__all__ = [
    "CostRow",
    "RunRow",
    "catalogue_counts",
    "costs",
    "creation_dates",
    "edges",
    "inference_ignored_claims",
    "open_for_reading",
    "pair_verdicts",
    "problem_codes",
    "runs",
    "stage_seconds",
    "unrelated_pairs",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INCREMENTAL = frozenset({"crawl", "fingerprint"})

LATEST = """
    SELECT state.* REPLACE (coalesce(reading.licence, state.licence) AS licence,
             coalesce(state.architecture, reading.architecture) AS architecture),
           downloads_30d, likes, size_bytes, n_files, tokenizer, card_characters,
           card_completeness
    FROM (SELECT * FROM snapshot QUALIFY row_number()
          OVER (PARTITION BY repo_id ORDER BY observed_at DESC) = 1) AS state
    LEFT JOIN reading USING (repo_id, revision)
    LEFT JOIN (SELECT repo_id, arg_max(downloads_30d, observed_at) AS downloads_30d,
                      arg_max(likes, observed_at) AS likes FROM observation GROUP BY repo_id)
         AS counts USING (repo_id)
"""
"""The present state of every repository, with its latest counts and what was read of it."""

CURRENT_CLAIMS = """
    SELECT claim.* REPLACE (coalesce(claim.last_seen, listed_at, claim.first_seen) AS last_seen)
    FROM claim LEFT JOIN repository ON repository.repo_id = claim.child
    WHERE ended_at IS NULL
"""
"""Claims that stand."""

CURRENT_RECIPES = "SELECT * FROM recipe WHERE ended_at IS NULL"
"""Recipes that stand."""

_LATEST_REVISION = (
    "SELECT repo_id, arg_max(revision, observed_at) AS revision FROM snapshot GROUP BY repo_id"
)

CURRENT_TRAITS = f"""
    SELECT trait.* FROM trait LEFT JOIN ({_LATEST_REVISION}) AS seen USING (repo_id)
    WHERE source <> 'card' OR seen.revision IS NULL OR seen.revision = trait.revision
"""
"""Traits that the last commit that was seen states, and those that were measured by others."""

CURRENT_FINGERPRINTS = """
    SELECT * FROM fingerprint
    QUALIFY row_number() OVER (PARTITION BY repo_id ORDER BY made_at DESC) = 1
"""
"""The latest reading of every model's weights."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run of a stage; `seconds` is None while it runs, or if it was killed."""

    run_id: int
    stage: str
    started_at: datetime
    seconds: float | None
    version: str


@dataclass(frozen=True, slots=True)
class CostRow:
    """What reading one model's weights cost; `is_read` is False when it failed."""

    repo_id: str
    format: str | None
    bytes_read: int
    weight_bytes: int
    is_read: bool


def open_for_reading(home: Home) -> duckdb.DuckDBPyConnection:
    """Open the working database read-only.

    Raises
    ------
    NotFoundError
        If nothing was crawled.
    HomeError
        If a stage is writing to it just now.
    """
    home.require_database()
    try:
        return duckdb.connect(str(home.database), read_only=True)
    except duckdb.Error as error:
        raise HomeError(
            f"cannot read {home.database} while another herdbook command writes to it"
        ) from error


def unrelated_pairs(connection: duckdb.DuckDBPyConnection) -> frozenset[tuple[str, str]]:
    """Pairs that the latest family test calls unrelated, names in order."""
    return frozenset(
        connection.execute("SELECT a, b FROM pair WHERE verdict = 'unrelated'").fetchall()
    )


def creation_dates(connection: duckdb.DuckDBPyConnection) -> dict[str, datetime | None]:
    """When every repository was created, as last seen."""
    return dict(
        connection.execute(
            "SELECT repo_id, arg_max(created_at, observed_at) FROM snapshot GROUP BY repo_id"
        ).fetchall()
    )


def pair_verdicts(connection: duckdb.DuckDBPyConnection) -> dict[tuple[str, str], str]:
    """The verdict of every pair that was tested."""
    rows = connection.execute("SELECT a, b, verdict FROM pair").fetchall()
    return {(a, b): verdict for a, b, verdict in rows}


def edges(connection: duckdb.DuckDBPyConnection) -> tuple[Edge, ...]:
    """All edges of a published database, in order of child and position."""
    rows = connection.execute(
        "SELECT child, parent, relation, kind, weight, verdict, grade, p_value, probability,"
        " evidence FROM edge ORDER BY child, position"
    ).fetchall()
    return tuple(
        Edge(
            child, parent, relation, kind, weight, Verdict(verdict), Grade(grade), p_value,
            probability,
            read_evidence(evidence),
        )
        for child, parent, relation, kind, weight, verdict, grade, p_value, probability, evidence
        in rows
    )  # fmt: skip


def costs(connection: duckdb.DuckDBPyConnection) -> tuple[CostRow, ...]:
    """What the latest fingerprint of each model cost."""
    rows = connection.execute(
        "SELECT repo_id, format, bytes_read, weight_bytes, digest IS NOT NULL FROM fingerprint"
        " QUALIFY row_number() OVER (PARTITION BY repo_id ORDER BY made_at DESC) = 1"
        " ORDER BY repo_id"
    ).fetchall()
    return tuple(CostRow(*row) for row in rows)


def runs(connection: duckdb.DuckDBPyConnection, limit: int | None = None) -> tuple[RunRow, ...]:
    """Runs of the stages, latest first."""
    rows = connection.execute(
        "SELECT run_id, stage, epoch_us(started_at), epoch_us(finished_at), version FROM run"
        " ORDER BY run_id DESC LIMIT ?",
        [limit],
    ).fetchall()
    return tuple(
        RunRow(
            run_id,
            stage,
            _EPOCH + timedelta(microseconds=started),
            None if finished is None else (finished - started) / 1e6,
            version,
        )
        for run_id, stage, started, finished, version in rows
    )


def stage_seconds(connection: duckdb.DuckDBPyConnection) -> dict[str, float]:
    """Wall-clock seconds by stage.

    Crawling and fingerprinting only do what is missing, so their runs are added up; of the other
    stages the latest finished run counts.
    """
    seconds: dict[str, float] = {}
    for run in runs(connection):
        if run.seconds is None:
            continue
        if run.stage in _INCREMENTAL:
            seconds[run.stage] = seconds.get(run.stage, 0.0) + run.seconds
        else:
            seconds.setdefault(run.stage, run.seconds)
    return seconds


def inference_ignored_claims(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the latest inference was told to ignore what people declared."""
    row = connection.execute(
        "SELECT parameters ->> 'ignore_claims' FROM run WHERE stage = 'infer'"
        " ORDER BY run_id DESC LIMIT 1"
    ).fetchone()
    return row is not None and row[0] == "true"


def problem_codes(connection: duckdb.DuckDBPyConnection) -> tuple[tuple[str, str, int], ...]:
    """Stage, code and number of the problems on record."""
    return tuple(
        connection.execute(
            "SELECT stage, code, count(*) FROM problem GROUP BY stage, code ORDER BY stage, code"
        ).fetchall()
    )


def catalogue_counts(connection: duckdb.DuckDBPyConnection) -> tuple[tuple[str, int], ...]:
    """Headline counts of the working database, by name."""
    row = connection.execute(
        f"""
        WITH latest AS ({LATEST})
        SELECT count(*), count(*) FILTER (status = 'ok'), count(*) FILTER (status = 'gated'),
               count(*) FILTER (status = 'disabled'), count(*) FILTER (status = 'gone'),
               (SELECT count(DISTINCT repo_id) FROM fingerprint WHERE digest IS NOT NULL),
               (SELECT count(*) FROM claim WHERE ended_at IS NULL),
               (SELECT count(*) FROM finding WHERE valid_to IS NULL),
               (SELECT count(*) FROM problem)
        FROM latest
        """
    ).fetchone()
    names = (
        "models", "ok", "gated", "disabled", "gone", "fingerprints", "claims", "findings",
        "problems",
    )  # fmt: skip
    return tuple(zip(names, row or (), strict=True))

"""Reads what the working database holds of one pair of models and of how it was found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import duckdb

from lineage.model import PairTest, PairVerdict
from lineage.store.fingerprint_ledger import LedgerRow, fingerprint_rows

__all__ = [
    "InferenceRun",
    "finding_run",
    "inference_run",
    "known_models",
    "latest_readings",
    "n_tested_pairs",
    "near_names",
    "stored_pair",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class InferenceRun:
    """A run of the inference: when, by which herdbook, scheme and code (None: not recorded)."""

    run_id: int
    started_at: datetime
    version: str
    scheme: str | None
    code: str | None


def inference_run(connection: duckdb.DuckDBPyConnection, run_id: int) -> InferenceRun | None:
    """One run; None if the database does not know it."""
    row = connection.execute(
        "SELECT epoch_us(started_at), version, parameters, inputs FROM run WHERE run_id = ?",
        [run_id],
    ).fetchone()
    if row is None:
        return None
    parameters, inputs = json.loads(row[2]), json.loads(row[3])
    return InferenceRun(
        run_id,
        _EPOCH + timedelta(microseconds=row[0]),
        row[1],
        parameters.get("scheme"),
        inputs.get("code"),
    )


def finding_run(connection: duckdb.DuckDBPyConnection, child: str) -> int | None:
    """The run that first made the current finding of a model; None if there is no finding."""
    row = connection.execute(
        "SELECT run_id FROM finding WHERE child = ? AND valid_to IS NULL", [child]
    ).fetchone()
    return int(row[0]) if row else None


def stored_pair(
    connection: duckdb.DuckDBPyConnection, one: str, other: str
) -> tuple[PairTest, int] | None:
    """The family test of two models and the run that made it; None if they were not tested."""
    a, b = sorted((one, other))
    row = connection.execute(
        "SELECT verdict, statistic, p_value, bit_equality, run_id FROM pair"
        " WHERE a = ? AND b = ? ORDER BY run_id DESC LIMIT 1",
        [a, b],
    ).fetchone()
    if row is None:
        return None
    return PairTest(a, b, PairVerdict(row[0]), *row[1:4]), int(row[4])


def n_tested_pairs(connection: duckdb.DuckDBPyConnection) -> int:
    """Family tests of the latest inference, for its Bonferroni correction; at least 1.

    Pairs with an adapter are on record but were not tested.
    """
    row = connection.execute(
        "WITH adapter AS (SELECT child FROM finding WHERE valid_to IS NULL AND kind = 'adapter')"
        " SELECT count(*) FROM pair ANTI JOIN adapter AS x ON x.child = a"
        " ANTI JOIN adapter AS y ON y.child = b"
    ).fetchone()
    return max(1, int(row[0])) if row else 1


def latest_readings(
    connection: duckdb.DuckDBPyConnection, scheme: str, models: Sequence[str]
) -> dict[str, LedgerRow]:
    """The ledger's line of each model that the inference goes by.

    That is the latest of `scheme`; where a model was never read under it, the latest of any.
    Models without a line are left out.
    """
    found: dict[str, LedgerRow] = {}
    for row in fingerprint_rows(connection, None, models):
        known = found.get(row.repo_id)
        if known is None or row.scheme == scheme or known.scheme != scheme:
            found[row.repo_id] = row
    return found


def known_models(
    connection: duckdb.DuckDBPyConnection, models: Sequence[str]
) -> dict[str, tuple[str, datetime | None]]:
    """Last seen status (ok, gated, disabled, gone) and date of creation of known models."""
    rows = connection.execute(
        "SELECT repo_id, arg_max(status, observed_at), epoch_us(arg_max(created_at, observed_at))"
        " FROM snapshot WHERE list_contains($1, repo_id) GROUP BY repo_id",
        [list(models)],
    ).fetchall()
    return {
        repo_id: (status, None if born is None else _EPOCH + timedelta(microseconds=born))
        for repo_id, status, born in rows
    }


def near_names(connection: duckdb.DuckDBPyConnection, text: str, limit: int) -> tuple[str, ...]:
    """Known models whose names look most like `text` (Jaro-Winkler similarity of .7 or more)."""
    rows = connection.execute(
        "SELECT repo_id FROM (SELECT DISTINCT repo_id, greatest("
        " jaro_winkler_similarity(lower(repo_id), $1),"
        " jaro_winkler_similarity(lower(split_part(repo_id, '/', 2)),"
        " lower(split_part($1, '/', -1)))) AS likeness FROM snapshot)"
        " WHERE likeness >= .7 ORDER BY likeness DESC, repo_id LIMIT $2",
        [text.lower(), limit],
    ).fetchall()
    return tuple(row[0] for row in rows)

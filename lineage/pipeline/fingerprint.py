"""The stage that reads a few megabytes of every model's weights by byte range."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb

from crawler.records import RepoSnapshot, RepoStatus
from lineage.errors import HomeError
from lineage.pipeline.batches import Batch, BatchResult, ReaderSettings, batches_of
from lineage.pipeline.executors import Executor, Failed, LocalExecutor
from lineage.pipeline.progress import meter, talk
from lineage.pipeline.reading import ReadingOptions
from lineage.store.fingerprint_ledger import done, record_fingerprints
from lineage.store.home import Home
from lineage.store.part_location import named_from_anywhere
from lineage.store.part_recovery import Recovery, recover_parts
from lineage.store.problems import clear_problems, record_problem
from lineage.store.requests import Request, unread_parents, want_repositories
from lineage.store.runs import record_run
from lineage.store.snapshots import latest_snapshots
from lineage.weights.probe import SCHEME

__all__ = ["FingerprintPlan", "FingerprintReport", "fingerprint", "plan_fingerprint"]

_MODELS_IN_BATCH = 32
"""Models of a part: their words are in memory together, and a kill costs at most two parts."""
_BYTES_IN_BATCH = 8 << 30
"""Bytes to read for a part, whole weights for the most part; a larger model has its own."""


@dataclass(frozen=True, slots=True)
class FingerprintReport:
    """What a fingerprint run did."""

    n_read: int
    n_kept: int
    n_failed: int
    n_adopted: int
    bytes_read: int
    bytes_stored: int
    weight_bytes: int
    n_requests: int
    n_unknown_tensors: int
    seconds: float


@dataclass(frozen=True, slots=True)
class FingerprintPlan:
    """What a fingerprint run would do."""

    n_todo: int
    n_kept: int
    stage: int
    budget_bytes: int
    at_most_bytes: int
    weight_bytes: int


def plan_fingerprint(
    home: Home, options: ReadingOptions, *, limit: int | None = None
) -> FingerprintPlan:
    """What :func:`fingerprint` would read of at most `limit` models, from the database alone.

    Raises
    ------
    NotFoundError
        If nothing was crawled.
    """
    home.require_database()
    connection = home.open_working()
    try:
        todo, n_kept = _todo(connection, options, limit)
    finally:
        connection.close()
    return FingerprintPlan(
        len(todo),
        n_kept,
        options.stage,
        options.budget_bytes,
        sum(_bytes_at_most(todo, options)),
        sum(_sizes(todo)),
    )


def fingerprint(
    home: Home,
    endpoint: str | None,
    options: ReadingOptions = ReadingOptions(),  # noqa: B008 - frozen
    *,
    executor: Executor | None = None,
    parts: str | None = None,
    use_cache: bool = True,
    limit: int | None = None,
) -> FingerprintReport:
    """Fingerprint every crawled model that has none at its current revision, this deep.

    A batch is written as one part before it is entered in the ledger, so a kill costs at most what
    is being read or stored; parts that a killed run left behind are adopted. Failures are entered
    too, and tried again at the next run.

    Parameters
    ----------
    executor
        Where the reading is done; default: in this process.
    parts
        Where the parts are kept, a folder or an address; default: in the home. Workers on other
        machines must reach it under the same name.
    use_cache
        Whether files that the Hub's client has downloaded before are read from its cache.
    limit
        At most so many models.

    Raises
    ------
    NotFoundError
        If nothing was crawled.
    HomeError
        If parts cannot be written.
    HerdbookError
        If no worker can work.
    """
    home.require_database()
    started = time.monotonic()
    where = str(home.fingerprints.absolute()) if parts is None else named_from_anywhere(parts)
    connection = home.open_working()
    try:
        mended = recover_parts(connection, where, SCHEME)
        _tell(mended)
        todo, n_kept = _todo(connection, options, limit)
        vocabularies = home.vocabularies.absolute()
        settings = ReaderSettings(endpoint, options, where, vocabularies, use_cache)
        report = _Count(len(todo))
        with (
            record_run(
                connection,
                "fingerprint",
                {"budget_bytes": options.budget_bytes, "scheme": SCHEME, "stage": options.stage},
                {"models": len(todo)},
            ),
            meter("fingerprint", len(todo)) as advance,
        ):
            batches = batches_of(
                todo, _bytes_at_most(todo, options), _MODELS_IN_BATCH, _BYTES_IN_BATCH
            )
            outcomes = (executor or LocalExecutor()).map(settings, batches)
            for outcome in outcomes:
                if isinstance(outcome, Failed):
                    _enter_lost(connection, outcome.task, outcome.reason)
                    report.n_failed += len(outcome.task.snapshots)
                    advance(len(outcome.task.snapshots), outcome.reason[:60])
                    continue
                _enter(connection, outcome.result)
                report.add(outcome.result)
                advance(len(outcome.result.rows), f"{report.bytes_read / 1e6:,.0f} MB")
                if outcome.result.failure is not None:
                    raise HomeError(outcome.result.failure)
            _ask_for_parents(connection, [snapshot.ref.repo_id for snapshot in todo])
        return FingerprintReport(
            report.n_read,
            n_kept,
            report.n_failed,
            mended.n_adopted,
            report.bytes_read,
            report.bytes_stored,
            report.weight_bytes,
            report.n_requests,
            report.n_unknown,
            time.monotonic() - started,
        )
    finally:
        connection.close()


def _tell(mended: Recovery) -> None:
    if mended.n_adopted:
        talk(f"{mended.n_adopted} fingerprints of an interrupted run were found and entered")
    if mended.n_forgotten:
        talk(f"{mended.n_forgotten} models are read again: their part is missing")
    for reason in mended.damaged:
        talk(f"passed over: {reason}")


@dataclass(slots=True)
class _Count:
    n_todo: int
    n_read: int = 0
    n_failed: int = 0
    bytes_read: int = 0
    bytes_stored: int = 0
    weight_bytes: int = 0
    n_requests: int = 0
    n_unknown: int = 0

    def add(self, result: BatchResult) -> None:
        """Count a batch."""
        for row in result.rows:
            self.n_read += row.digest is not None
            self.n_failed += row.digest is None
            self.bytes_read += row.bytes_read
            self.bytes_stored += row.bytes_stored
            self.weight_bytes += row.weight_bytes
            self.n_requests += row.requests
            self.n_unknown += row.n_unknown


def _todo(
    connection: duckdb.DuckDBPyConnection, options: ReadingOptions, limit: int | None
) -> tuple[list[RepoSnapshot], int]:
    """Models to read, and how many need no reading."""
    known = done(connection, SCHEME, options.stage)
    found = sorted(latest_snapshots(connection), key=lambda snapshot: snapshot.ref.repo_id)
    readable = [snapshot for snapshot in found if snapshot.status is RepoStatus.OK]
    todo = [s for s in readable if (s.ref.repo_id, s.ref.revision) not in known]
    return todo[:limit], len(readable) - len(todo)


def _sizes(snapshots: Sequence[RepoSnapshot]) -> list[int]:
    return [sum(file.size_bytes for file in snapshot.files) for snapshot in snapshots]


def _bytes_at_most(snapshots: Sequence[RepoSnapshot], options: ReadingOptions) -> list[int]:
    """What may be read of each model."""
    sizes = _sizes(snapshots)
    return sizes if options.stage >= 4 else [min(size, options.budget_bytes) for size in sizes]


def _enter(connection: duckdb.DuckDBPyConnection, result: BatchResult) -> None:
    """Enter what became of a batch, all or nothing."""
    connection.begin()
    try:
        for row in result.rows:
            clear_problems(connection, row.repo_id, "fingerprint")
        for repo_id, revision, problem in result.problems:
            record_problem(
                connection, repo_id, revision, "fingerprint", problem.path, problem.code,
                problem.reason, datetime.now(UTC),
            )  # fmt: skip
        record_fingerprints(connection, result.rows)
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def _enter_lost(connection: duckdb.DuckDBPyConnection, batch: Batch, reason: str) -> None:
    """A batch whose worker failed as a whole: every model of it has this reason."""
    for snapshot in batch.snapshots:
        clear_problems(connection, snapshot.ref.repo_id, "fingerprint")
        record_problem(
            connection, snapshot.ref.repo_id, snapshot.ref.revision, "fingerprint", None,
            "worker", reason, datetime.now(UTC),
        )  # fmt: skip


def _ask_for_parents(connection: duckdb.DuckDBPyConnection, children: Sequence[str]) -> None:
    """A parent that is declared and was never read is what inference will miss first."""
    now = datetime.now(UTC)
    asked = [Request(parent, now) for parent in unread_parents(connection, children)]
    want_repositories(connection, asked)

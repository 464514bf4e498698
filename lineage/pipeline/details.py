"""Reads the details of repositories that wait for it, most needed first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

import duckdb

from crawler.errors import CrawlError, DisabledError, GatedError, NotFoundError
from crawler.listed import ListedRepo, ParseFailure
from crawler.listing import read_listed
from crawler.recorded import NotRecordedError, RecordedHub
from crawler.records import RepoStatus
from crawler.snapshot import RepoReading, read_repository
from lineage.pipeline.progress import meter
from lineage.pipeline.walks import budget_words
from lineage.store.ledger import note_alias, note_tried
from lineage.store.listed import write_listed
from lineage.store.problems import clear_problems, record_problem
from lineage.store.readings import record_status, write_readings
from lineage.store.transaction import transaction

__all__ = ["DetailCount", "look_up", "read_details"]

_STAGE = "crawl"
_BATCH = 32


@dataclass(slots=True)
class DetailCount:
    """What reading details has shown so far."""

    n_read: int = 0
    n_gone: int = 0
    n_renamed: int = 0
    problems: Counter[str] = field(default_factory=Counter)


def read_details(
    connection: duckdb.DuckDBPyConnection,
    hub: RecordedHub,
    queue: Sequence[str],
    count: DetailCount,
    *,
    threads: int,
    now: datetime,
) -> None:
    """Read the repositories of a queue in its order, several at once; a batch is one transaction.

    One that cannot be read becomes a problem, and its status is entered.
    """
    with meter("details", len(queue)) as advance, ThreadPoolExecutor(threads) as pool:
        for batch in _batches(queue):
            outcomes = list(pool.map(lambda repo_id: _read_one(hub, repo_id), batch))
            readings = {
                outcome.listed.repo_id: outcome
                for outcome in outcomes
                if isinstance(outcome, RepoReading)
            }
            write_readings(connection, list(readings.values()))
            count.n_read += len(readings)
            for reading in readings.values():
                count.problems.update(problem.code for problem in reading.problems)
            for repo_id, outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, RepoReading):
                    _note_new_name(connection, repo_id, outcome.listed.repo_id, now, count)
                elif not isinstance(outcome, NotRecordedError):
                    _enter_failure(connection, repo_id, outcome, now, count)
            advance(len(batch), budget_words(hub))


def look_up(
    connection: duckdb.DuckDBPyConnection,
    hub: RecordedHub,
    ids: Sequence[str],
    count: DetailCount,
    *,
    threads: int,
    now: datetime,
) -> list[str]:
    """Ask for single repositories as a listing would show them; returns those that are there.

    A repository that is not there becomes a tombstone; one that answers under another id was
    renamed: the old id becomes a tombstone that leads to the new one.
    """
    found: list[str] = []
    with meter("look up", len(ids)) as advance, ThreadPoolExecutor(threads) as pool:
        for batch in _batches(ids):
            outcomes = list(pool.map(lambda repo_id: _look_up_one(hub, repo_id), batch))
            write_listed(
                connection,
                [(answer, at or now) for answer, at in outcomes if isinstance(answer, ListedRepo)],
            )
            for repo_id, (answer, at) in zip(batch, outcomes, strict=True):
                if isinstance(answer, ListedRepo):
                    _note_new_name(connection, repo_id, answer.repo_id, at or now, count)
                    found.append(answer.repo_id)
                elif isinstance(answer, ParseFailure):
                    _enter_parse_failure(connection, repo_id, answer, now, count)
                elif not isinstance(answer, NotRecordedError):
                    _enter_failure(connection, repo_id, answer, now, count)
            advance(len(batch), budget_words(hub))
    return list(dict.fromkeys(found))


def _look_up_one(
    hub: RecordedHub, repo_id: str
) -> tuple[ListedRepo | ParseFailure | CrawlError, datetime | None]:
    try:
        return read_listed(hub, repo_id)
    except CrawlError as error:
        return error, None


def _read_one(hub: RecordedHub, repo_id: str) -> RepoReading | CrawlError:
    try:
        return read_repository(hub, repo_id)
    except CrawlError as error:
        return error


def _note_new_name(
    connection: duckdb.DuckDBPyConnection,
    asked: str,
    answered: str,
    at: datetime,
    count: DetailCount,
) -> None:
    """Ids differ in their case, too, where the Hub leads on to the right one."""
    if asked == answered:
        return
    with transaction(connection):
        note_alias(connection, asked, answered, at)
        is_news = record_status(connection, asked, RepoStatus.GONE, at)
    count.n_renamed += is_news


def _enter_failure(
    connection: duckdb.DuckDBPyConnection,
    repo_id: str,
    error: CrawlError,
    now: datetime,
    count: DetailCount,
) -> None:
    with transaction(connection):
        clear_problems(connection, repo_id, _STAGE)
        record_problem(connection, repo_id, None, _STAGE, None, error.code, str(error), now)
        if isinstance(error, NotFoundError):
            _enter_gone(connection, repo_id, now, count)
        elif isinstance(error, (GatedError, DisabledError)):
            status = RepoStatus.GATED if isinstance(error, GatedError) else RepoStatus.DISABLED
            record_status(connection, repo_id, status, now)
        note_tried(connection, repo_id, now)
    count.problems[error.code] += 1


def _enter_parse_failure(
    connection: duckdb.DuckDBPyConnection,
    repo_id: str,
    failure: ParseFailure,
    now: datetime,
    count: DetailCount,
) -> None:
    with transaction(connection):
        if failure.code == NotFoundError.code:
            _enter_gone(connection, repo_id, now, count)
        record_problem(
            connection, failure.repo_id, None, _STAGE, None, failure.code, failure.reason, now,
            failure.raw,
        )  # fmt: skip
    count.problems[failure.code] += 1


def _enter_gone(
    connection: duckdb.DuckDBPyConnection, repo_id: str, now: datetime, count: DetailCount
) -> None:
    if record_status(connection, repo_id, RepoStatus.GONE, now):
        count.n_gone += 1


def _batches(queue: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(queue), _BATCH):
        yield queue[start : start + _BATCH]

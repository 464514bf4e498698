"""The stage that reads a Hub: what exists, what changed, and what it says of its parents."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from crawler.archive import Archive
from crawler.client import Hub
from crawler.errors import CrawlError, DisabledError, GatedError, NotFoundError
from crawler.listing import (
    ListedRepo,
    Page,
    ParseFailure,
    first_page,
    list_pages,
    list_repositories,
    read_ids,
    read_listed,
)
from crawler.records import RepoStatus
from crawler.snapshot import RepoReading, read_repository
from lineage.errors import HerdbookError
from lineage.errors import NotFoundError as UnknownError
from lineage.pipeline.progress import track
from lineage.store.home import Home
from lineage.store.observations import (
    KnownRepo,
    clear_problems,
    confirm_snapshots,
    known_repositories,
    record_problem,
    record_status,
    write_reading,
)
from lineage.store.runs import record_run

__all__ = ["CrawlReport", "crawl"]

_STAGE = "crawl"
_THREADS = 8
_BATCH = 16
_CURSOR = "crawl-cursor.json"


@dataclass(frozen=True, slots=True)
class CrawlReport:
    """What a crawl did; `problems` counts this run's problems by code."""

    n_listed: int
    n_read: int
    n_unchanged: int
    n_gone: int
    n_requests: int
    problems: tuple[tuple[str, int], ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class _Failure:
    """A listed repository whose details could not be had."""

    listed: ListedRepo
    error: CrawlError


@dataclass(frozen=True, slots=True)
class _Cursor:
    """How far an interrupted listing came: kept in the home until the listing is through."""

    path: Path
    request: str

    def load(self) -> tuple[str | None, datetime | None]:
        """Address of the page to go on with and the start of that listing, if it is the same."""
        try:
            kept = json.loads(self.path.read_text("utf-8"))
            if kept["request"] != self.request:
                return None, None
            return str(kept["next_url"]), datetime.fromisoformat(kept["started_at"])
        except (OSError, ValueError, KeyError, TypeError):
            return None, None  # no cursor, or one cut short by a kill: begin anew

    def save(self, next_url: str, started_at: datetime) -> None:
        """Remember the next page; whole or not at all."""
        part = self.path.with_suffix(".part")
        kept = {
            "request": self.request,
            "next_url": next_url,
            "started_at": started_at.isoformat(),
        }
        with part.open("w", encoding="utf-8") as file:
            file.write(json.dumps(kept))
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.path)

    def clear(self) -> None:
        """The listing is through."""
        self.path.unlink(missing_ok=True)


def crawl(
    home: Home,
    endpoint: str | None,
    *,
    author: str | None = None,
    search: str | None = None,
    ids: Path | Sequence[str] | None = None,
    limit: int | None = None,
    now: datetime | None = None,
    hub: Hub | None = None,
) -> CrawlReport:
    """Read what is new or changed on a Hub.

    Details are asked only of repositories whose commit (or, where a listing gives none, date of
    change) differs from the book's. Each repository is committed on its own, and a listing that was
    interrupted goes on at the page it came to. A census (no filter) also looks for repositories
    that are no longer listed, and enters those that are gone.

    Parameters
    ----------
    ids
        A file with one id a line, or ids; nothing is listed then.
    now
        Time of observation; default the clock.
    hub
        Injected by tests; default a client for `endpoint`.

    Raises
    ------
    HomeError
        If the home cannot be used.
    NotFoundError
        If `ids` is a file that does not exist.
    HerdbookError
        If the listing itself cannot be had; what was read until then is kept.
    """
    if isinstance(ids, Path) and not ids.is_file():
        raise UnknownError(f"no file {ids}")
    home.prepare()
    connection = home.open_working()
    try:
        parameters = {
            "endpoint": endpoint,
            "author": author,
            "search": search,
            "ids": str(ids) if isinstance(ids, Path) else None if ids is None else len(ids),
            "limit": limit,
        }
        with record_run(connection, _STAGE, parameters):
            run = _Crawl(home, connection, hub or Hub(endpoint), now or datetime.now(UTC))
            try:
                if ids is not None:
                    run.read_ids(read_ids(ids)[:limit])
                else:
                    run.read_listing(author, search, limit)
            except CrawlError as error:
                raise HerdbookError(
                    f"the listing of {run.hub.endpoint} cannot be read: {error}; what was read "
                    "until then is kept, the same command goes on from there"
                ) from error
            return run.report()
    finally:
        connection.close()


class _Crawl:
    """One run: the connection is used by one thread only, requests are made by several."""

    def __init__(
        self, home: Home, connection: duckdb.DuckDBPyConnection, hub: Hub, now: datetime
    ) -> None:
        self.hub = hub
        self._home = home
        self._connection = connection
        self._archive = Archive(home.archive)
        self._now = now
        self._known = known_repositories(connection)
        self._seen: set[str] = set()
        self._started = time.monotonic()
        self._listed = self._read = self._unchanged = self._gone = 0
        self._problems: Counter[str] = Counter()

    def report(self) -> CrawlReport:
        """What this run did."""
        return CrawlReport(
            self._listed,
            self._read,
            self._unchanged,
            self._gone,
            self.hub.n_requests,
            tuple(sorted(self._problems.items())),
            time.monotonic() - self._started,
        )

    def read_ids(self, wanted: Sequence[str]) -> None:
        """Read a list of repositories."""
        found = list_repositories(self.hub, ids=wanted)
        for batch in _batches(track(found, "crawl", len(wanted))):
            self._handle(batch)

    def read_listing(self, author: str | None, search: str | None, limit: int | None) -> None:
        """Read a listing page by page; after a whole census, look for what is missing."""
        request = f"{self.hub.endpoint}/{first_page(author, search, limit)}&total={limit}"
        cursor = _Cursor(self._home.root / _CURSOR, request)
        start_url, started_at = cursor.load() if limit is None else (None, None)
        if started_at is not None:
            self._seen.update(
                known.repo_id for known in self._known.values() if known.observed_at >= started_at
            )
        census_start = started_at or self._now
        for page in self._pages(author, search, limit, start_url):
            for batch in _batches(track(page.items, "crawl", len(page.items))):
                self._handle(batch)
            if page.next_url is not None and limit is None:
                cursor.save(page.next_url, census_start)
        if author is None and search is None and limit is None:
            self._look_for_missing()
        cursor.clear()

    def _pages(
        self, author: str | None, search: str | None, limit: int | None, start_url: str | None
    ) -> Iterator[Page]:
        yield from list_pages(
            self.hub,
            author=author,
            search=search,
            limit=limit,
            archive=self._archive,
            start_url=start_url,
            now=self._now,
        )

    def _handle(self, items: Sequence[ListedRepo | ParseFailure]) -> None:
        """Deal with a few listed repositories and commit what was learnt."""
        changed: list[ListedRepo] = []
        same: list[ListedRepo] = []
        for item in items:
            self._listed += 1
            self._seen.add(item.repo_id)
            if isinstance(item, ParseFailure):
                self._enter_parse_failure(item)
            elif _is_unchanged(item, self._known.get(item.repo_id)):
                same.append(item)
            else:
                changed.append(item)
        confirm_snapshots(self._connection, same, self._now)
        self._unchanged += len(same)
        with ThreadPoolExecutor(_THREADS) as pool:
            for outcome in pool.map(self._read_one, changed):
                if isinstance(outcome, _Failure):
                    self._enter_failure(outcome)
                else:
                    write_reading(self._connection, outcome)
                    self._problems.update(problem.code for problem in outcome.problems)
                    self._read += 1

    def _read_one(self, listed: ListedRepo) -> RepoReading | _Failure:
        try:
            return read_repository(self.hub, listed.repo_id, archive=self._archive, now=self._now)
        except CrawlError as error:
            return _Failure(listed, error)

    def _enter_parse_failure(self, failure: ParseFailure) -> None:
        known = self._known.get(failure.repo_id)
        if failure.code == NotFoundError.code and known is not None:
            self._enter_gone(failure.repo_id)
        self._enter_problem(failure.repo_id, None, failure.code, failure.reason)

    def _enter_failure(self, failure: _Failure) -> None:
        listed, error = failure.listed, failure.error
        clear_problems(self._connection, listed.repo_id, _STAGE)
        self._enter_problem(listed.repo_id, listed.revision, error.code, str(error))
        if isinstance(error, NotFoundError):
            self._enter_gone(listed.repo_id)
        elif isinstance(error, (GatedError, DisabledError)):
            status = RepoStatus.GATED if isinstance(error, GatedError) else RepoStatus.DISABLED
            record_status(self._connection, listed.repo_id, status, self._now)

    def _enter_problem(self, repo_id: str, revision: str | None, code: str, reason: str) -> None:
        record_problem(self._connection, repo_id, revision, _STAGE, None, code, reason, self._now)
        self._problems[code] += 1

    def _enter_gone(self, repo_id: str) -> None:
        known = self._known.get(repo_id)
        if known is None or known.status is not RepoStatus.GONE:
            record_status(self._connection, repo_id, RepoStatus.GONE, self._now)
            self._gone += 1

    def _look_for_missing(self) -> None:
        """Ask for every known repository that the census did not show; only a 404 means gone."""
        missing = [
            known.repo_id
            for known in self._known.values()
            if known.repo_id not in self._seen and known.status is not RepoStatus.GONE
        ]
        for repo_id in missing:
            try:
                answer = read_listed(self.hub, repo_id)
            except CrawlError as error:
                self._enter_problem(repo_id, None, error.code, str(error))
                continue
            if isinstance(answer, ParseFailure) and answer.code == NotFoundError.code:
                self._enter_gone(repo_id)


def _is_unchanged(listed: ListedRepo, known: KnownRepo | None) -> bool:
    """Whether the book has this repository complete, at the commit that is listed."""
    if known is None or known.revision is None or known.is_incomplete:
        return False
    if known.status is not RepoStatus.OK:
        return False  # gated, disabled or gone repositories may have become readable
    if listed.status is RepoStatus.DISABLED:
        return False
    if listed.revision is not None:
        return listed.revision == known.revision
    return listed.last_modified is not None and listed.last_modified == known.last_modified


def _batches(
    items: Iterator[ListedRepo | ParseFailure] | Sequence[ListedRepo | ParseFailure],
) -> Iterator[list[ListedRepo | ParseFailure]]:
    batch: list[ListedRepo | ParseFailure] = []
    for item in items:
        batch.append(item)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch

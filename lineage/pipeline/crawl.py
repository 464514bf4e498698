"""The stage that reads a Hub: what exists, what changed, and what it says of its parents."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from crawler.archive import Archive
from crawler.client import Hub
from crawler.errors import CrawlError, PermanentError
from crawler.listing import first_page, read_ids
from crawler.recorded import RecordedHub
from lineage.errors import HerdbookError
from lineage.errors import NotFoundError as UnknownError
from lineage.pipeline.details import DetailCount, look_up, read_details
from lineage.pipeline.journal import CrawlOrder, read_journal, write_journal
from lineage.pipeline.walks import WalkCount, walk
from lineage.pipeline.webhook import drain_inbox
from lineage.settings import CrawlSettings
from lineage.store.doubts import replace_doubts
from lineage.store.home import Home
from lineage.store.ledger import (
    Sweep,
    begin_sweep,
    details_queue,
    has_census,
    last_sweep,
    listed_in_run,
    missing_since,
    newest_listed,
)
from lineage.store.runs import record_run

__all__ = ["CrawlPlan", "CrawlReport", "crawl", "follow", "plan_crawl"]

_STAGE = "crawl"
_PAGE = 1000
_DATABASE_MEMORY = "1GB"


@dataclass(frozen=True, slots=True)
class CrawlReport:
    """What a crawl did; `problems` counts this run's problems by code.

    `n_listed` are distinct repositories; `n_waiting` those whose details are still to be read.
    """

    n_listed: int
    n_new: int
    n_changed: int
    n_unchanged: int
    n_read: int
    n_waiting: int
    n_gone: int
    n_renamed: int
    n_pages: int
    n_requests: int
    n_doubts: int
    problems: tuple[tuple[str, int], ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class CrawlPlan:
    """What the next crawl would do, told without asking the Hub.

    `queue` counts what waits for its details by reason; `n_requests` is the least that it takes:
    a page for every thousand models, and about three requests for each repository read.
    """

    walk: str
    since: datetime | None
    n_known: int
    n_pages: int
    n_read: int
    n_waiting: int
    queue: tuple[tuple[str, int], ...]
    n_requests: int


def crawl(
    home: Home,
    endpoint: str | None,
    *,
    author: str | None = None,
    search: str | None = None,
    ids: Path | Sequence[str] | None = None,
    limit: int | None = None,
    census: bool = False,
    details: int | None = None,
    now: datetime | None = None,
    hub: Hub | None = None,
) -> CrawlReport:
    """Read what is new or changed on a Hub.

    The first crawl of a Hub is a census: its whole listing. Every later one reads the changes
    since, then re-checks the next part of the listing for what vanished or changed unseen. Then
    details are read of the repositories that need it most. Every answer is archived before it is
    parsed, and an interrupted crawl goes on where it was.

    Parameters
    ----------
    author, search
        Only the repositories of one owner, or whose name has these words.
    ids
        A file with one id a line, or ids; nothing is listed then.
    limit
        At most so many repositories.
    census
        List everything again.
    details
        Read at most so many repositories' details; default what the settings say, and all where
        author, search or ids narrow the crawl down.
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
    settings = home.settings().crawl
    connection = home.open_working()
    connection.execute(f"SET memory_limit = '{_DATABASE_MEMORY}'")  # what is more goes to disk
    try:
        started_at = now or datetime.now(UTC)
        client = hub or Hub(endpoint)
        order = CrawlOrder(
            scope=f"{started_at.isoformat()}~{len(read_journal(home.archive))}",
            at=started_at,
            endpoint=client.endpoint,
            author=author,
            search=search,
            ids=None if ids is None else tuple(read_ids(ids)[:limit]),
            limit=limit,
            census=census,
            details=details,
        )
        clock: Callable[[], datetime] = (lambda: now) if now else (lambda: datetime.now(UTC))
        recorded = RecordedHub(client, Archive(home.archive), order.scope, clock=clock)
        parameters = {
            "endpoint": client.endpoint,
            "author": author,
            "search": search,
            "ids": None if order.ids is None else len(order.ids),
            "limit": limit,
            "census": census,
            "details": details,
        }
        with record_run(connection, _STAGE, parameters):
            write_journal(home.archive, order)
            drain_inbox(home, connection)
            try:
                return follow(connection, recorded, order, settings)
            except CrawlError as error:
                raise HerdbookError(
                    f"the listing of {client.endpoint} cannot be read: {error}; what was read "
                    "until then is kept, the same command goes on from there"
                ) from error
    finally:
        connection.close()


def follow(
    connection: duckdb.DuckDBPyConnection,
    hub: RecordedHub,
    order: CrawlOrder,
    settings: CrawlSettings,
) -> CrawlReport:
    """Carry an order out, against a Hub or against the archive.

    Raises
    ------
    CrawlError
        If the listing cannot be had.
    """
    return _Crawl(connection, hub, order, settings).run()


class _Crawl:
    """One run: the connection is used by one thread only, requests are made by several."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        hub: RecordedHub,
        order: CrawlOrder,
        settings: CrawlSettings,
    ) -> None:
        self._connection = connection
        self._hub = hub
        self._order = order
        self._settings = settings
        self._walked = WalkCount()
        self._detailed = DetailCount()
        self._started = time.monotonic()

    def run(self) -> CrawlReport:
        """List, look up what is missing, read details, and see what contradicts itself."""
        order = self._order
        if order.ids is not None:
            among: list[str] | None = self._look_up(order.ids)
        elif order.author is not None or order.search is not None or order.limit is not None:
            among = self._list_some()
        else:
            among = None
            self._list_all()
        n_waiting = self._read_details(among)
        n_doubts = replace_doubts(self._connection)
        return self._report(n_waiting, n_doubts)

    def _report(self, n_waiting: int, n_doubts: int) -> CrawlReport:
        listed = self._walked.listed
        n_listed = listed_in_run(self._connection, self._order.at)
        return CrawlReport(
            n_listed=n_listed,
            n_new=listed.new,
            n_changed=listed.changed,
            n_unchanged=max(0, n_listed - listed.new - listed.changed),
            n_read=self._detailed.n_read,
            n_waiting=n_waiting,
            n_gone=self._detailed.n_gone,
            n_renamed=self._detailed.n_renamed,
            n_pages=self._walked.n_pages,
            n_requests=self._hub.n_requests,
            n_doubts=n_doubts,
            problems=tuple(sorted((self._walked.problems + self._detailed.problems).items())),
            seconds=time.monotonic() - self._started,
        )

    def _look_up(self, ids: Sequence[str]) -> list[str]:
        return look_up(
            self._connection, self._hub, ids, self._detailed,
            threads=self._settings.threads, now=self._order.at,
        )  # fmt: skip

    def _list_some(self) -> list[str]:
        """A listing narrowed down; it is no walk along the whole, so nothing is missed in it."""
        order = self._order
        first = first_page(author=order.author, search=order.search, limit=order.limit)
        sweep = self._begin("part")
        walk(
            self._connection, self._hub, sweep, first, self._walked,
            batch_pages=self._settings.batch_pages, limit=order.limit, keep_ids=True,
        )  # fmt: skip
        return list(dict.fromkeys(self._walked.ids))

    def _list_all(self) -> None:
        """Census, or increment and the next part of the re-check; then what is missing."""
        endpoint = self._hub.endpoint
        last = last_sweep(self._connection, endpoint, "census", "check")
        if not has_census(self._connection, endpoint) or self._order.census:
            if last is None or last.kind != "census" or last.finished_at is not None:
                last = self._begin("census")
            self._look_for_missing(self._walk_on(last, None))
            return
        overlap = timedelta(minutes=self._settings.overlap_minutes)
        newest = newest_listed(self._connection, endpoint)
        walk(
            self._connection, self._hub, self._begin("increment"),
            first_page(sort="lastModified"), self._walked,
            batch_pages=self._settings.batch_pages,
            until=None if newest is None else newest - overlap,
        )  # fmt: skip
        if self._settings.check_pages:
            if last is not None and last.finished_at is not None:
                self._look_for_missing(last)  # a kill, or the limit, may have left some
            if last is None or last.finished_at is not None:
                last = self._begin("check")
            self._look_for_missing(self._walk_on(last, self._settings.check_pages))

    def _walk_on(self, sweep: Sweep, max_pages: int | None) -> Sweep:
        """Go on with a walk along the dates of creation; begin anew where its address expired."""
        first = first_page(sort="createdAt")
        was_begun = sweep.next_url is not None
        try:
            return walk(
                self._connection, self._hub, sweep, first, self._walked,
                batch_pages=self._settings.batch_pages, max_pages=max_pages,
                expected=self._expected(max_pages),
            )  # fmt: skip
        except PermanentError:
            if not was_begun:
                raise
            return walk(
                self._connection, self._hub, self._begin(sweep.kind), first, self._walked,
                batch_pages=self._settings.batch_pages, max_pages=max_pages,
                expected=self._expected(max_pages),
            )  # fmt: skip

    def _expected(self, max_pages: int | None) -> int | None:
        if max_pages is not None:
            return max_pages * _PAGE
        census = last_sweep(self._connection, self._hub.endpoint, "census")
        return census.n_records if census is not None and census.finished_at else None

    def _begin(self, kind: str) -> Sweep:
        scope = self._order.scope
        return begin_sweep(self._connection, kind, self._hub.endpoint, scope, self._order.at)

    def _look_for_missing(self, sweep: Sweep) -> None:
        """Ask for what a walk did not show; only a plain "not found" makes a tombstone."""
        limit = self._settings.missing_limit
        self._look_up(
            self._hub.decided(
                f"missing in walk {sweep.sweep_id}",
                lambda: missing_since(self._connection, sweep, limit),
            )
        )

    def _read_details(self, among: Sequence[str] | None) -> int:
        settings, order = self._settings, self._order
        limit = order.details
        if limit is None and among is None:
            limit = settings.details_limit
        queue, total = details_queue(
            self._connection,
            order.at,
            limit=limit,
            among=among,
            recheck_after=timedelta(days=settings.recheck_days),
        )
        chosen = self._hub.decided("details", lambda: [item.repo_id for item in queue])
        read_details(
            self._connection, self._hub, chosen, self._detailed,
            threads=settings.threads, now=order.at,
        )  # fmt: skip
        return max(0, total - len(chosen))


def plan_crawl(home: Home, endpoint: str | None, *, census: bool = False) -> CrawlPlan:
    """What the next crawl of the whole Hub would do; nothing is asked and nothing changed.

    Raises
    ------
    NotFoundError
        If nothing was crawled yet: the first crawl is a census.
    """
    home.require_database()
    settings = home.settings().crawl
    connection = home.open_working()
    try:
        chosen = Hub(endpoint).endpoint
        row = connection.execute(
            "SELECT count(*) FROM repository WHERE status <> 'gone'"
        ).fetchone()
        n_known = int(row[0]) if row else 0
        now = datetime.now(UTC)
        queue, total = details_queue(
            connection,
            now,
            limit=settings.details_limit,
            recheck_after=timedelta(days=settings.recheck_days),
        )
        whole = -(-n_known // _PAGE)
        is_census = census or not has_census(connection, chosen)
        n_pages = whole if is_census else min(whole, settings.check_pages) + 1
        return CrawlPlan(
            walk="census" if is_census else "increment and check",
            since=None if is_census else newest_listed(connection, chosen),
            n_known=n_known,
            n_pages=n_pages,
            n_read=len(queue),
            n_waiting=total,
            queue=tuple(sorted(Counter(item.reason for item in queue).items())),
            n_requests=n_pages + 3 * len(queue),
        )
    finally:
        connection.close()

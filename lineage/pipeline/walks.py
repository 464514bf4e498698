"""Walks along a Hub's listing: the census, the increment, the rotating re-check."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

import duckdb

from crawler.listed import ListedRepo, ParseFailure
from crawler.listing import Page, list_pages
from crawler.recorded import RecordedHub
from lineage.pipeline.progress import meter
from lineage.store.ledger import Sweep, advance_sweep
from lineage.store.listed import ListedCount, enter_listed
from lineage.store.problems import record_problem
from lineage.store.transaction import transaction

__all__ = ["WalkCount", "budget_words", "no_cyclic_collection", "walk"]


@dataclass(slots=True)
class WalkCount:
    """What walks have shown so far; `ids` only where they are asked for."""

    listed: ListedCount = field(default_factory=lambda: ListedCount(0, 0, 0))
    n_pages: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    ids: list[str] = field(default_factory=list)


def walk(
    connection: duckdb.DuckDBPyConnection,
    hub: RecordedHub,
    sweep: Sweep,
    first_url: str,
    count: WalkCount,
    *,
    batch_pages: int,
    max_pages: int | None = None,
    until: datetime | None = None,
    limit: int | None = None,
    keep_ids: bool = False,
    expected: int | None = None,
) -> Sweep:
    """Go along a listing and enter it, a batch of pages in each transaction.

    Parameters
    ----------
    sweep
        Where it stands; a walk that was begun goes on at its next page.
    first_url
        Where a walk begins.
    max_pages
        Stop after so many pages; the walk goes on there another time.
    until
        The listing is in order of change: stop once a page has nothing later than this.
    limit
        Stop after so many repositories.

    Raises
    ------
    CrawlError
        If a page cannot be had; what was entered until then stays.
    """
    batch: list[Page] = []
    left = limit
    done = n_pages = 0
    with meter(sweep.kind, expected) as advance, no_cyclic_collection():
        pages = list_pages(hub, sweep.next_url or first_url, scope=sweep.scope)
        try:
            for page in pages:
                if left is not None:
                    page = Page(page.url, page.items[:left], page.at, page.next_url)
                    left -= len(page.items)
                batch.append(page)
                n_pages += 1
                done += len(page.items)
                is_last = page.next_url is None or left == 0 or _is_before(page, until)
                if is_last or n_pages == max_pages or len(batch) == batch_pages:
                    sweep = _enter(connection, sweep, batch, count, is_last, keep_ids)
                    batch = []
                advance(len(page.items), budget_words(hub))
                if is_last or n_pages == max_pages:
                    return sweep
        finally:
            pages.close()
            if batch:
                sweep = _enter(connection, sweep, batch, count, False, keep_ids)
    return sweep


@contextmanager
def no_cyclic_collection() -> Iterator[None]:
    """Records hold no cycles, and looking for some among 100,000 of them takes half the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def budget_words(hub: RecordedHub) -> str:
    """The budgets that are left, for a progress bar."""
    return ", ".join(f"{b.resource} {b.remaining} left" for b in hub.budgets())


def _is_before(page: Page, until: datetime | None) -> bool:
    if until is None:
        return False
    moments = [
        item.last_modified
        for item in page.items
        if isinstance(item, ListedRepo) and item.last_modified is not None
    ]
    return bool(moments) and max(moments) < until


def _enter(
    connection: duckdb.DuckDBPyConnection,
    sweep: Sweep,
    pages: list[Page],
    count: WalkCount,
    is_last: bool,
    keep_ids: bool,
) -> Sweep:
    items = [(item, page.at) for page in pages for item in page.items]
    rows = [(item, at) for item, at in items if isinstance(item, ListedRepo)]
    failures = [(item, at) for item, at in items if isinstance(item, ParseFailure)]
    with transaction(connection):
        count.listed += enter_listed(connection, rows)
        for failure, at in failures:
            record_problem(
                connection, failure.repo_id, None, "crawl", None, failure.code, failure.reason,
                at, failure.raw,
            )  # fmt: skip
            connection.execute(
                "UPDATE repository SET listed_at = ? WHERE repo_id = ?", [at, failure.repo_id]
            )
        sweep = advance_sweep(
            connection,
            sweep,
            next_url=None if is_last else pages[-1].next_url,
            n_pages=len(pages),
            n_records=len(rows) + len(failures),
            newest=max((row.last_modified for row, _ in rows if row.last_modified), default=None),
            oldest=min((row.created_at for row, _ in rows if row.created_at), default=None),
            finished_at=pages[-1].at if is_last else None,
        )
    count.n_pages += len(pages)
    count.problems.update(failure.code for failure, _ in failures)
    if keep_ids:
        count.ids += [row.repo_id for row, _ in rows]
    return sweep

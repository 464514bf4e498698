"""Parses the raw archive again, without the network: after a parser was mended, or a book lost."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

import duckdb

from crawler.archive import Archive
from crawler.recorded import NotRecordedError, RecordedHub
from lineage.errors import NotFoundError
from lineage.pipeline.crawl import follow
from lineage.pipeline.journal import CrawlOrder, read_journal
from lineage.pipeline.progress import track
from lineage.store.home import Home
from lineage.store.migrations import migrate

__all__ = ["AgainReport", "parse_again"]

_KEPT_WHOLE = (
    "run", "fingerprint", "pair", "finding", "finding_parent", "finding_layer", "estimate",
)  # fmt: skip
_KEPT_PARTLY = {
    "observation": "source <> 'hub'",
    "trait": "source <> 'card'",
    "problem": "stage <> 'crawl'",
}
_COMPARED = ("repository", "snapshot", "observation", "claim", "recipe", "trait", "problem")


@dataclass(frozen=True, slots=True)
class AgainReport:
    """What parsing again changed: rows of each table before and after.

    `n_interrupted` are crawls that did not reach their end, then as now.
    """

    n_crawls: int
    n_interrupted: int
    rows: tuple[tuple[str, str], ...]
    seconds: float


def parse_again(home: Home) -> AgainReport:
    """Build the crawl's tables anew from the archive: every crawl is repeated in order of time.

    The same code reads the archived answers at the times at which they came. The old database
    stays until the new one is complete. Fingerprints, findings, and the scores and downloads that
    were ingested are carried over; models that were ingested are not part of the archive: ingest
    them again.

    Raises
    ------
    NotFoundError
        If nothing was archived in this home.
    HomeError
        If another command is at work in it.
    """
    started = time.monotonic()
    orders = read_journal(home.archive)
    if not orders:
        raise NotFoundError(
            f"no crawl is archived in {home.archive}; run `herdbook crawl --home {home.root}` first"
        )
    draft = home.root / "again.duckdb"
    _remove(draft)
    old = home.open_working()
    try:
        _create(draft)
        _carry_over(old, draft)
        n_interrupted = _repeat(home, draft, orders)
        rows = _compare(old, draft)
    finally:
        old.close()
    os.replace(draft, home.database)
    return AgainReport(len(orders), n_interrupted, rows, time.monotonic() - started)


def _remove(draft: Path) -> None:
    for path in (draft, draft.with_name(f"{draft.name}.wal")):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def _create(draft: Path) -> None:
    with duckdb.connect(str(draft)) as connection:
        migrate(connection)


def _repeat(home: Home, draft: Path, orders: tuple[CrawlOrder, ...]) -> int:
    """Carry every order out against the archive; returns how many did not reach their end."""
    archive, settings = Archive(home.archive), home.settings().crawl
    n_interrupted = 0
    with duckdb.connect(str(draft)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for order in track(orders, "parse", len(orders)):
            hub = RecordedHub(None, archive, order.scope, endpoint=order.endpoint)
            try:
                follow(connection, hub, order, settings)
            except NotRecordedError:
                n_interrupted += 1
        connection.execute("CHECKPOINT")
    return n_interrupted


def _carry_over(old: duckdb.DuckDBPyConnection, draft: Path) -> None:
    _attach(old, draft)
    for table in _KEPT_WHOLE:
        old.execute(f"INSERT INTO again.{table} SELECT * FROM {table}")
    for table, condition in _KEPT_PARTLY.items():
        old.execute(f"INSERT INTO again.{table} SELECT * FROM {table} WHERE {condition}")
    old.execute("DETACH again")


def _compare(old: duckdb.DuckDBPyConnection, draft: Path) -> tuple[tuple[str, str], ...]:
    _attach(old, draft)
    found = []
    for table in _COMPARED:
        (counts,) = old.execute(
            f"SELECT (SELECT count(*) FROM {table}), (SELECT count(*) FROM again.{table})"
        ).fetchall()
        found.append((table, f"{counts[0]} → {counts[1]}"))
    old.execute("DETACH again")
    return tuple(found)


def _attach(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    literal = str(path).replace("'", "''")
    connection.execute(f"ATTACH '{literal}' AS again")

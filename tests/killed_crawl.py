"""Crawls that are killed at a chosen moment; run as a program by ``test_crawl_faults``.

Everything is imported once. For every line of JSON on standard input a child is forked that crawls
and is killed by SIGKILL: at the n-th passage of a point, or after a time. A line says how it went.

The points are ``draft`` (a file is written, not yet in its place; what was not
synchronised is lost with the kill), ``archived``, ``execute`` (before a statement), ``half`` and
``status`` (after a statement that means nothing without those that follow), ``commit`` and
``committed``, ``page`` and ``reading``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow  # noqa: F401 - once, for all that are forked
import scipy.sparse.csgraph  # noqa: F401
from huggingface_hub.utils import build_hf_headers, get_session  # noqa: F401

from crawler import archive, listing
from crawler.client import Hub
from lineage.pipeline import details, walks
from lineage.pipeline.crawl import crawl
from lineage.store.home import Home

HALVES = tuple(f"INSERT INTO {table}" for table in ("snapshot", "observation", "claim", "card"))

passed: Counter[str] = Counter()
last: tuple[str, int] | None = None


def at(point: str) -> None:
    """Pass a point; this may be the end."""
    passed[point] += 1
    if last == (point, passed[point]):
        os.kill(os.getpid(), signal.SIGKILL)


class Connection:
    """A connection whose statements are points."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, *words: Any) -> Any:
        at("execute")
        answer = self._connection.execute(*words)
        if str(words[0]).startswith("UPDATE repository SET status"):
            at("status")
        if str(words[0]).startswith(HALVES):
            at("half")
        return answer

    def commit(self) -> None:
        at("commit")
        self._connection.commit()
        at("committed")


def lose_half(synchronise: Callable[[int], None]) -> Callable[[int], None]:
    """Of an answer's file that is not synchronised a machine that stops may keep a part."""

    def fsync(file: int) -> None:
        if last == ("draft", passed["draft"] + 1) and "journal" not in os.readlink(
            f"/proc/self/fd/{file}"
        ):
            os.ftruncate(file, os.fstat(file).st_size // 2)
        at("draft")
        synchronise(file)

    return fsync


def around(module: Any, name: str, before: str | None, after: str | None) -> None:
    """Make the calls of a function points."""
    real: Callable[..., Any] = getattr(module, name)

    def passing(*args: Any, **more: Any) -> Any:
        if before:
            at(before)
        answer = real(*args, **more)
        if after:
            at(after)
        return answer

    setattr(module, name, passing)


def prepare() -> None:
    """Put the points in, and make everything small so that there are many."""
    listing.PAGE_SIZE = 5
    details._BATCH = 4
    os.fsync = lose_half(os.fsync)
    around(archive, "_write_whole", None, "archived")
    around(walks, "_is_before", "page", None)
    around(details, "write_readings", "reading", None)
    opened = Home.open_working
    Home.open_working = lambda home: Connection(opened(home))  # type: ignore[assignment]


def run(order: dict[str, Any]) -> None:
    """Crawl as told."""
    global last
    last = (order["point"], order["n"])
    hub = Hub(order["endpoint"], sleep=lambda _: None)
    crawl(Home(Path(order["home"])), None, now=datetime.fromisoformat(order["now"]), hub=hub)
    Path(order["home"], "passed.json").write_text(json.dumps(passed))


def main() -> None:
    """Fork, kill, report."""
    prepare()
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                run(order)
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        if order["point"] == "time":
            time.sleep(order["n"] / 1000)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()

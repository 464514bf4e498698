"""Progress on standard error: bars on a terminal only, sentences always."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["Advance", "megabytes", "meter", "talk", "track"]

T = TypeVar("T")
Advance = Callable[[int, str], None]
"""Called with how many more are done, and a few words (the budget that is left)."""


def talk(sentence: str) -> None:
    """Say what is going on."""
    print(f"  {sentence}", file=sys.stderr, flush=True)


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield `items`, drawing a bar when standard error is a terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track as rich_track

    yield from rich_track(
        items, description=description, total=total, console=Console(stderr=True), transient=True
    )


@contextmanager
def meter(description: str, total: int | None = None) -> Iterator[Advance]:
    """A bar with rate, time to finish and a few words; nothing where there is no terminal."""
    if not sys.stderr.isatty():
        yield lambda n, words: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[words]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=total, rate="", words="")

        def advance(n: int, words: str) -> None:
            progress.update(task, advance=n, words=words)
            speed = progress.tasks[0].speed
            progress.update(task, rate="" if speed is None else f"{speed:,.0f}/s")

        yield advance


@contextmanager
def megabytes(description: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
    """A bar of megabytes that is told bytes; nothing without any, or where there is no terminal."""
    told = 0
    if not total_bytes:
        yield lambda n_bytes: None
        return
    with meter(f"{description} (MB)", -(-total_bytes // 1_000_000)) as advance:

        def count(n_bytes: int) -> None:
            nonlocal told
            before = told // 1_000_000
            told += n_bytes
            advance(told // 1_000_000 - before, "")

        yield count

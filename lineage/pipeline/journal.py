"""The journal of crawls beside the raw archive: enough to play every crawl again."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

__all__ = ["CrawlOrder", "read_journal", "write_journal"]

_FILE = "journal.jsonl"


@dataclass(frozen=True, slots=True)
class CrawlOrder:
    """What one crawl was told; `scope` names its answers in the archive."""

    scope: str
    at: datetime
    endpoint: str
    author: str | None = None
    search: str | None = None
    ids: tuple[str, ...] | None = None
    limit: int | None = None
    census: bool = False
    details: int | None = None


def write_journal(archive: Path, order: CrawlOrder) -> None:
    """Append an order, before anything is asked."""
    line = json.dumps({**asdict(order), "at": order.at.isoformat()})
    with (archive / _FILE).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")  # the line before may have been cut short by a kill
        file.flush()
        os.fsync(file.fileno())


def read_journal(archive: Path) -> tuple[CrawlOrder, ...]:
    """Every order, in time; a last line that a kill cut short is passed over."""
    try:
        lines = (archive / _FILE).read_text("utf-8").splitlines()
    except FileNotFoundError:
        return ()
    orders = []
    for line in lines:
        try:
            stated = json.loads(line)
        except ValueError:
            continue
        ids = stated.pop("ids")
        at = datetime.fromisoformat(stated.pop("at"))
        orders.append(CrawlOrder(at=at, ids=None if ids is None else tuple(ids), **stated))
    return tuple(orders)

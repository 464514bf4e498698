"""Which repositories name a model as their base: the Hub's listing under one tag.

The Hub gives every such repository the tag ``base_model:<parent>`` beside the one with the
relation, so one filter finds finetunes, adapters, quantised versions and merges alike.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode, urlsplit

from crawler.client import Hub
from crawler.errors import MalformedError
from crawler.records import is_repo_id

__all__ = ["ListedChild", "list_children"]

_PAGE_SIZE = 1000
_MAX_PAGE_BYTES = 16 << 20
_MAX_JSON_VALUES = 1_000_000  # a thousand a record; read in under a second


@dataclass(frozen=True, slots=True)
class ListedChild:
    """A repository that is tagged with a parent; times are None where they are not stated."""

    repo_id: str
    created_at: datetime | None
    last_modified: datetime | None


def list_children(hub: Hub, parent: str, *, max_pages: int) -> tuple[tuple[ListedChild, ...], bool]:
    """The repositories that are tagged with `parent`, newest first, each once.

    Returns
    -------
    children
        Those whose record could be read; the parent itself is left out.
    is_complete
        Whether the listing was read to its end: only then does a missing id mean something.

    Raises
    ------
    CrawlError
        If a page cannot be had after all tries, is no list in JSON, or leads to another host.
    """
    query = [
        ("filter", f"base_model:{parent}"),
        ("sort", "createdAt"),
        ("direction", "-1"),
        ("limit", str(_PAGE_SIZE)),
        ("expand", "createdAt"),
        ("expand", "lastModified"),
    ]
    url: str | None = "api/models?" + urlencode(query)
    found: dict[str, ListedChild] = {}
    seen: set[str] = set()
    while url is not None and len(seen) < max_pages:
        if url in seen or not _is_of(hub, url):
            raise MalformedError(f"the listing under base_model:{parent} leads astray")
        seen.add(url)
        body, url = hub.get_page(url, max_bytes=_MAX_PAGE_BYTES)
        for child in _parse_page(body, parent):
            found.setdefault(child.repo_id, child)
    found.pop(parent, None)
    return tuple(found.values()), url is None


def _is_of(hub: Hub, url: str) -> bool:
    """A Link header is a stranger's word: it must not send the token elsewhere."""
    return "://" not in url or urlsplit(url)[:2] == urlsplit(hub.endpoint)[:2]


def _parse_page(body: bytes, parent: str) -> list[ListedChild]:
    if sum(map(body.count, (b",", b"[", b"{"))) > _MAX_JSON_VALUES:
        raise MalformedError(f"the listing under base_model:{parent} has too many values")
    try:
        records = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"the listing under base_model:{parent} is not JSON") from error
    if not isinstance(records, list):
        raise MalformedError(f"the listing under base_model:{parent} is not a list")
    found = []
    for record in records:
        repo_id = record.get("id") if isinstance(record, dict) else None
        if isinstance(repo_id, str) and is_repo_id(repo_id) and repo_id.isprintable():
            found.append(ListedChild(repo_id, _time(record, "createdAt"),
                                     _time(record, "lastModified")))  # fmt: skip
    return found


def _time(record: Mapping[str, object], key: str) -> datetime | None:
    value = record.get(key)
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        return None if moment is None else moment.replace(tzinfo=moment.tzinfo or UTC)
    except ValueError:
        return None

"""Which repositories exist, and what the Hub says of them all: its listing, page by page.

The Hub's own client stops at the first record it cannot read. Here a page is archived before it is
parsed, and every record is parsed on its own (:mod:`crawler.listed`).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import quote, urlencode, urljoin, urlsplit

import orjson

from crawler.errors import MalformedError, NotFoundError, TruncatedError
from crawler.listed import ListedRepo, ParseFailure, parse_or_explain, records_of, shown
from crawler.recorded import RecordedHub
from crawler.records import is_repo_id

__all__ = ["Page", "first_page", "list_pages", "read_ids", "read_listed"]

PAGE_SIZE = 1000
_LISTING = "api/models"
# What the public Hub accepts in listings; it refuses baseModels, childrenModelCount, usedStorage.
_EXPAND = (
    "author", "cardData", "config", "createdAt", "disabled", "downloads", "downloadsAllTime",
    "evalResults", "gated", "gguf", "lastModified", "library_name", "likes", "model-index",
    "pipeline_tag", "private", "safetensors", "sha", "tags", "trendingScore",
)  # fmt: skip
_MAX_RECORD_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its address, what was on it, when it came, and the address of the next."""

    url: str
    items: tuple[ListedRepo | ParseFailure, ...]
    at: datetime
    next_url: str | None


def first_page(
    *,
    author: str | None = None,
    search: str | None = None,
    limit: int | None = None,
    sort: str | None = None,
) -> str:
    """The address of a listing's first page, below the endpoint; `sort` is newest first."""
    query: list[tuple[str, str]] = [("expand", word) for word in _EXPAND]
    query += [
        (key, value) for key, value in (("author", author), ("search", search)) if value is not None
    ]
    if sort is not None:
        query += [("sort", sort), ("direction", "-1")]
    query.append(("limit", str(min(limit or PAGE_SIZE, PAGE_SIZE))))
    return f"{_LISTING}?{urlencode(query)}"


def list_pages(hub: RecordedHub, start_url: str, *, scope: str) -> Generator[Page, None, None]:
    """The pages of a listing from `start_url` on; the next is fetched while one is worked on.

    `start_url` may be the `next_url` of a page handed out before.

    Raises
    ------
    CrawlError
        If a page cannot be had after all tries, is no list, or leads to another host or back.
    """
    seen: set[str] = set()

    def fetch(url: str) -> Page:
        parsed: list[object] = []

        def accept(body: bytes, next_url: str | None) -> None:
            parsed[:] = records_of(body)
            _check_next(hub.endpoint, next_url, seen)

        seen.add(_whole_address(hub.endpoint, url))
        answer = hub.page(url, accept, scope=scope)
        records = parsed or records_of(answer.body)
        items = tuple(parse_or_explain(record, answer.at) for record in records)
        return Page(url, items, answer.at, answer.next_url)

    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(fetch, start_url)
        while True:
            page = coming.result()
            if page.next_url is None:
                yield page
                return
            coming = ahead.submit(fetch, page.next_url)
            yield page


def _check_next(endpoint: str, next_url: str | None, seen: set[str]) -> None:
    """A Link header is a stranger's word: it must not send the token elsewhere, nor in a circle."""
    if next_url is None:
        return
    whole = _whole_address(endpoint, next_url)
    leads_to, listing = urlsplit(whole), urlsplit(_whole_address(endpoint, _LISTING))
    if leads_to[:2] != listing[:2]:
        raise TruncatedError(f"the listing leads to another host: {leads_to.netloc}")
    if leads_to.path != listing.path:
        raise TruncatedError(f"the listing leads out of itself: {shown(leads_to.path)}")
    if whole in seen:
        raise TruncatedError("the listing leads in a circle")


def _whole_address(endpoint: str, url: str) -> str:
    return urljoin(f"{endpoint}/", url)


def read_ids(ids: Path | Sequence[str]) -> list[str]:
    """Ids in order, each once; empty lines and lines that begin with ``#`` are passed over."""
    lines = ids.read_text("utf-8", "replace").splitlines() if isinstance(ids, Path) else ids
    stripped = (line.strip() for line in lines)
    return list(dict.fromkeys(line for line in stripped if line and not line.startswith("#")))


def read_listed(
    hub: RecordedHub, repo_id: str
) -> tuple[ListedRepo | ParseFailure, datetime | None]:
    """One repository as a listing would describe it, and when; its id may be a new one.

    Raises
    ------
    CrawlError
        If the Hub cannot be asked; that the repository does not exist is a ParseFailure.
    """
    if not is_repo_id(repo_id):
        return ParseFailure(shown(repo_id), MalformedError.code, "not a repository id"), None
    query = urlencode([("expand", word) for word in _EXPAND])
    try:
        answer = hub.get(f"api/models/{quote(repo_id)}?{query}", max_bytes=_MAX_RECORD_BYTES)
    except NotFoundError as error:
        return ParseFailure(repo_id, error.code, shown(str(error))), None
    try:
        return parse_or_explain(orjson.loads(answer.body), answer.at), answer.at
    except ValueError as error:
        reason = f"not JSON: {str(error)[:100]}"
        return ParseFailure(repo_id, MalformedError.code, reason), answer.at

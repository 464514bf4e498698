"""Which repositories exist, and which changed: the Hub's listing page by page, resumable.

The Hub's own client stops at the first record it cannot read; here every page is archived before
it is parsed, and every record is parsed on its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

from crawler.archive import Archive
from crawler.cards import text_of
from crawler.client import Hub
from crawler.errors import MalformedError, NotFoundError
from crawler.records import RepoStatus, is_repo_id

__all__ = ["ListedRepo", "Page", "ParseFailure", "list_pages", "list_repositories", "parse_record"]

PAGE_SIZE = 1000
# What the public Hub accepts in listings; it refuses baseModels, childrenModelCount, usedStorage.
_EXPAND = (
    "author", "createdAt", "disabled", "downloads", "gated", "lastModified", "library_name",
    "likes", "pipeline_tag", "private", "sha", "tags",
)  # fmt: skip
_COMMIT_DIGITS = 40
_MAX_REASON = 200


@dataclass(frozen=True, slots=True)
class ListedRepo:
    """One repository as a listing, or the head of its details, describes it.

    ``None`` means "not stated". `revision` is None when the listing gives no commit.
    """

    repo_id: str
    revision: str | None
    status: RepoStatus
    author: str | None
    created_at: datetime | None
    last_modified: datetime | None
    downloads_30d: int | None
    likes: int | None
    library: str | None
    pipeline_tag: str | None
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ParseFailure:
    """A record of a listing that could not be parsed, or an id that was not found."""

    repo_id: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Page:
    """One page: what was on it, and the address of the next (None after the last)."""

    items: tuple[ListedRepo | ParseFailure, ...]
    next_url: str | None = field(default=None)


def _time(value: object) -> datetime | None:
    """A moment of the Hub as UTC; None when it is not stated.

    Raises
    ------
    MalformedError
        If it is stated but no moment.
    """
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value if isinstance(value, str) else "")
    except ValueError as error:
        raise MalformedError(f"not a moment: {str(value)[:40]!r}") from error
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (OverflowError, ValueError) as error:
        raise MalformedError(f"not a moment: {str(value)[:40]!r}") from error


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < 1 << 62 else None


def _status(record: Mapping[str, object]) -> RepoStatus:
    if record.get("disabled") is True:
        return RepoStatus.DISABLED
    # The word "gated" stands also on repositories that this token may read; reading tells.
    return RepoStatus.GATED if record.get("gated") else RepoStatus.OK


def parse_record(record: object) -> ListedRepo:
    """Parse one record of a listing or of a repository's details.

    Raises
    ------
    MalformedError
        If it names no repository, or states what cannot be.
    """
    if not isinstance(record, dict):
        raise MalformedError(f"a record is a {type(record).__name__}, not an object")
    repo_id = record.get("id") or record.get("modelId")
    if not isinstance(repo_id, str) or not is_repo_id(repo_id):
        raise MalformedError(f"not a repository id: {str(repo_id)[:100]!r}")
    sha = record.get("sha")
    is_commit = isinstance(sha, str) and len(sha) == _COMMIT_DIGITS
    if is_commit and not set(str(sha)) <= set("0123456789abcdef"):
        is_commit = False
    tags = record.get("tags")
    return ListedRepo(
        repo_id=repo_id,
        revision=str(sha) if is_commit else None,
        status=_status(record),
        author=text_of(record.get("author")),
        created_at=_time(record.get("createdAt")),
        last_modified=_time(record.get("lastModified")),
        downloads_30d=_count(record.get("downloads")),
        likes=_count(record.get("likes")),
        library=text_of(record.get("library_name")),
        pipeline_tag=text_of(record.get("pipeline_tag")),
        tags=tuple(tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else (),
    )


def _parse(record: object) -> ListedRepo | ParseFailure:
    try:
        return parse_record(record)
    except MalformedError as error:
        name = record.get("id") if isinstance(record, dict) else None
        shown = name if isinstance(name, str) else "a record of the listing"
        return ParseFailure(shown[:_MAX_REASON], error.code, str(error)[:_MAX_REASON])


def _parse_page(body: bytes, url: str) -> tuple[ListedRepo | ParseFailure, ...]:
    try:
        records = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"{url} is not JSON: {str(error)[:_MAX_REASON]}") from error
    if not isinstance(records, list):
        raise MalformedError(f"{url} is a {type(records).__name__}, not a list")
    return tuple(_parse(record) for record in records)


def first_page(author: str | None, search: str | None, limit: int | None) -> str:
    """The address of a listing's first page, below the endpoint."""
    query: list[tuple[str, str]] = [("expand", word) for word in _EXPAND]
    query += [
        (key, value) for key, value in (("author", author), ("search", search)) if value is not None
    ]
    query.append(("limit", str(min(limit or PAGE_SIZE, PAGE_SIZE))))
    return "api/models?" + urlencode(query)


def list_pages(
    hub: Hub,
    *,
    author: str | None = None,
    search: str | None = None,
    limit: int | None = None,
    archive: Archive | None = None,
    start_url: str | None = None,
    now: datetime | None = None,
) -> Iterator[Page]:
    """The pages of a listing; `start_url`, a `next_url` handed out before, resumes there.

    Raises
    ------
    CrawlError
        If a page cannot be had after all tries, is not JSON, or leads to another host.
    """
    url: str | None = start_url or first_page(author, search, limit)
    left = limit
    seen: set[str] = set()
    while url is not None and (left is None or left > 0):
        _require_same_host(hub, url)
        if url in seen:
            raise MalformedError(f"the listing leads in a circle at {url}")
        seen.add(url)
        body, next_url = hub.get_page(url)
        if archive is not None:
            archive.append(f"GET {url}", body, now or datetime.now(UTC))
        items = _parse_page(body, url)
        if left is not None:
            items = items[:left]
            left -= len(items)
        yield Page(items, next_url if left is None or left > 0 else None)
        url = next_url


def _require_same_host(hub: Hub, url: str) -> None:
    """A Link header is a stranger's word: it must not send the token elsewhere."""
    if "://" in url and urlsplit(url)[:2] != urlsplit(hub.endpoint)[:2]:
        raise MalformedError(f"the listing leads to another host: {urlsplit(url).netloc}")


def list_repositories(
    hub: Hub,
    *,
    author: str | None = None,
    search: str | None = None,
    ids: Path | Sequence[str] | None = None,
    limit: int | None = None,
    archive: Archive | None = None,
) -> Iterator[ListedRepo | ParseFailure]:
    """Every repository of a listing, or of a list of ids (a file with one a line, or a sequence).

    What could not be parsed comes as :class:`ParseFailure`; an id that does not exist has the code
    ``not_found``.

    Raises
    ------
    CrawlError
        If the listing itself cannot be had.
    """
    if ids is None:
        for page in list_pages(hub, author=author, search=search, limit=limit, archive=archive):
            yield from page.items
        return
    for repo_id in read_ids(ids)[:limit]:
        yield read_listed(hub, repo_id)


def read_ids(ids: Path | Sequence[str]) -> list[str]:
    """Ids in order, each once; empty lines and lines that begin with ``#`` are passed over."""
    lines = ids.read_text("utf-8", "replace").splitlines() if isinstance(ids, Path) else ids
    stripped = (line.strip() for line in lines)
    return list(dict.fromkeys(line for line in stripped if line and not line.startswith("#")))


def read_listed(hub: Hub, repo_id: str) -> ListedRepo | ParseFailure:
    """One repository as a listing would describe it."""
    if not is_repo_id(repo_id):
        return ParseFailure(repo_id[:_MAX_REASON], MalformedError.code, "not a repository id")
    query = urlencode([("expand", word) for word in _EXPAND])
    try:
        body = hub.get(f"api/models/{quote(repo_id)}?{query}")
    except NotFoundError as error:
        return ParseFailure(repo_id, error.code, str(error)[:_MAX_REASON])
    try:
        return _parse(json.loads(body))
    except (ValueError, RecursionError) as error:
        return ParseFailure(repo_id, MalformedError.code, f"not JSON: {str(error)[:100]}")

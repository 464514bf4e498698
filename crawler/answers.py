"""What an HTTP answer means, whichever client received it: errors, waits, pages, ranges. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from crawler.errors import (
    CrawlError,
    DisabledError,
    FileChangedError,
    GatedError,
    MalformedError,
    NotFoundError,
    PermanentError,
    RangeIgnoredError,
    RateLimitedError,
    ServerError,
    TruncatedError,
)

__all__ = [
    "MAX_TRIES",
    "MAX_WAIT_S",
    "Address",
    "backoff_s",
    "check_range",
    "count_in",
    "drips",
    "next_page",
    "shown",
    "translate",
    "wait_of",
]

MAX_TRIES = 6
"""Tries of one request before its error is reported."""

MAX_WAIT_S = 300.0
"""Longest wait that a server is granted: a window of the Hub's budgets."""

_FIRST_WAIT_S = 0.5
_MIN_BYTES_PER_S = 10_000
_LINK = re.compile(r"<([^<>]+)>([^<]*)")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a file's bytes lie, after redirects; reused until the server refuses it.

    `etag` is what the server at `url` calls this state of the file, `content` what the Hub calls
    it (the SHA-256 of files in large-file storage); None: not stated.
    """

    url: str
    size_bytes: int
    etag: str | None
    content: str | None = None


def shown(url: str) -> str:
    """An address without its query, which may hold a signature."""
    return url.partition("?")[0]


def count_in(text: str) -> int | None:
    """The number that a header's value spells, of at most 18 digits; None: it spells none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def backoff_s(tried: int) -> float:
    """The longest pause after the `tried`-th try failed: it doubles."""
    return float(_FIRST_WAIT_S * 2 ** (tried - 1))


def drips(n_bytes: int, waited_s: float, patience_s: float) -> bool:
    """Whether a body comes too slowly to wait for: less than 10 kB/s, after some patience."""
    return waited_s > patience_s and n_bytes < waited_s * _MIN_BYTES_PER_S


def translate(
    status: int, headers: Mapping[str, str], url: str, wait_s: float = _FIRST_WAIT_S
) -> CrawlError:
    """The error that a refused request means, from its status and the Hub's error headers."""
    code = headers.get("x-error-code", "")
    message = headers.get("x-error-message", "")
    said = f"{status} for {url}" + (f": {message}" if message else "")
    if status == 429 or (status == 503 and headers.get("retry-after", "").strip()):
        return RateLimitedError(said, wait_s)
    if status >= 500:
        return ServerError(said)
    if code == "GatedRepo":
        return GatedError(said)
    if "is disabled" in message:
        return DisabledError(said)
    if status == 404 or code in ("RepoNotFound", "RevisionNotFound", "EntryNotFound"):
        return NotFoundError(said)
    if status == 401:
        # The Hub answers 401 for repositories that do not exist or are private.
        return NotFoundError(said)
    return PermanentError(said)


def wait_of(headers: Mapping[str, str]) -> float:
    """Seconds that the server asks to wait: ``Retry-After`` (seconds or a date), capped."""
    asked = headers.get("retry-after", "").strip()
    if (seconds := count_in(asked)) is not None:
        return min(float(seconds), MAX_WAIT_S)
    if asked:
        try:
            until = parsedate_to_datetime(asked)
        except (ValueError, OverflowError):
            return _FIRST_WAIT_S
        if until.tzinfo is None:
            until = until.replace(tzinfo=UTC)
        return min(max(0.0, (until - datetime.now(UTC)).total_seconds()), MAX_WAIT_S)
    from huggingface_hub.utils import parse_ratelimit_headers

    try:
        info = parse_ratelimit_headers(headers)
    except ValueError:  # a number of thousands of digits
        return _FIRST_WAIT_S
    return min(float(info.reset_in_seconds), MAX_WAIT_S) if info else _FIRST_WAIT_S


def next_page(link: str) -> str | None:
    """The address of ``rel="next"`` in a Link header; None where it names none.

    Raises
    ------
    TruncatedError
        If the header cannot be understood: a listing must not end for that.
    """
    if not link.strip():
        return None
    found = _LINK.findall(link)
    if not found or any("rel=" not in rest for _, rest in found):
        raise TruncatedError(f"not a Link header: {link[:80]!r}")
    return next((address for address, rest in found if 'rel="next"' in rest), None)


def check_range(
    status: int, headers: Mapping[str, str], url: str, start: int, stop: int, size_bytes: int
) -> None:
    """Hold the head of an answer against the range ``[start, stop)`` that was asked for.

    Parameters
    ----------
    status, headers
        The answer's; refusals (4xx, 5xx) are not judged here.
    url
        For messages; its query is not shown.
    size_bytes
        Length of the file when its address was resolved.

    Raises
    ------
    TruncatedError
        If a page for people came: a proxy's, while the server behind it rests.
    RangeIgnoredError
        If the whole file would come.
    MalformedError
        If other or encoded bytes come.
    FileChangedError
        If the file has another length now.
    """
    if status == 200:
        if headers.get("content-type", "").startswith("text/html"):
            raise TruncatedError(f"{shown(url)} is a page for people just now")
        raise RangeIgnoredError(
            f"{shown(url)} was asked for bytes {start}-{stop - 1} and would send the whole file"
        )
    encoding = headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise MalformedError(f"{shown(url)} sent its bytes as {encoding!r:.40}")
    expected = f"bytes {start}-{stop - 1}/"
    got = headers.get("content-range", "")
    if status != 206 or not got.startswith(expected):
        raise MalformedError(
            f"{shown(url)} answered {status} with range {got!r:.100}, not {expected}…"
        )
    total = got.rpartition("/")[2]
    if total != "*" and count_in(total) != size_bytes:
        raise FileChangedError(f"{shown(url)} changed its length while it was read")

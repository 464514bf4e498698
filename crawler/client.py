"""The only module that talks HTTP: the Hub's own client, with budgets, back-off and our errors.

Requests go through ``huggingface_hub``'s shared session, so its proxies, certificates, token rules
and injected transports hold. Nothing of it is imported before the first request.
"""

from __future__ import annotations

import logging
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, unquote, urlsplit

from crawler.errors import (
    CrawlError,
    DisabledError,
    GatedError,
    MalformedError,
    NotFoundError,
    PermanentError,
    RangeIgnoredError,
    RateLimitedError,
    RetryableError,
    ServerError,
    TruncatedError,
)
from crawler.records import RepoRef

if TYPE_CHECKING:
    import httpx2

__all__ = ["DEFAULT_ENDPOINT", "Address", "Budget", "Hub"]

DEFAULT_ENDPOINT = "https://huggingface.co"
_MAX_TRIES = 6
_MAX_WAIT_S = 300.0
_FIRST_WAIT_S = 0.5
_TIMEOUT_S = 60.0
_PATIENCE_S = 30.0
_MIN_BYTES_PER_S = 10_000
_LINK = re.compile(r"<([^<>]+)>([^<]*)")

T = TypeVar("T")
Params = Mapping[str, str | int | list[str]]
Accept = Callable[[bytes, str | None], None]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a file's bytes lie, after redirects; reused until the server refuses it."""

    url: str
    size_bytes: int
    etag: str | None


@dataclass(frozen=True, slots=True)
class Budget:
    """Requests left of one of the Hub's two budgets (``api``, ``resolvers``), and until when.

    `reset_s` is on the client's own clock. Requests under way are counted as spent.
    """

    resource: str
    remaining: int
    reset_s: float


@dataclass(frozen=True, slots=True)
class _Answer:
    """A whole, small answer."""

    body: bytes
    headers: Mapping[str, str]


class Hub:
    """A Hub, seen through the official client.

    Parameters
    ----------
    endpoint
        Base address; default ``HF_ENDPOINT``, else the public Hub.
    token
        Access token; default what the client finds (``HF_TOKEN`` or a stored login).
    sleep, clock
        Injected by tests.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        token: str | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        chosen = endpoint or os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT
        if "@" in urlsplit(chosen).netloc:
            raise PermanentError(
                "the address of a Hub must not hold a name or password: it would stand in logs and "
                "in the register; give a token in HF_TOKEN"
            )
        self.endpoint = chosen.rstrip("/")
        self.n_requests = 0
        self._token = token
        self._sleep = sleep
        self._clock = clock
        self._lock = threading.Lock()
        self._budgets: dict[str, Budget] = {}
        self._under_way: dict[str, int] = {}

    @cached_property
    def _headers(self) -> dict[str, str]:
        os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
        from huggingface_hub.utils import build_hf_headers

        # They write whole addresses, and with them signatures, and the answers' headers.
        for name in ("httpx2", "httpcore2"):
            logging.getLogger(name).setLevel(logging.WARNING)
        headers = build_hf_headers(token=self._token, library_name="herdbook")
        return {**headers, "Accept-Encoding": "identity"}

    @cached_property
    def _secret(self) -> str:
        """The token that requests bear; empty: none."""
        return self._headers.get("authorization", "").rpartition(" ")[2]

    def get(
        self,
        path: str,
        params: Params | None = None,
        *,
        max_bytes: int = 1 << 26,
        accept: Accept = lambda body, next_url: None,
    ) -> bytes:
        """The body of ``GET endpoint/path`` (or of an absolute address of this Hub).

        `accept` is that of :meth:`get_page`.

        Raises
        ------
        CrawlError
            Translated; retryable errors only after all tries.
        """
        return self.get_page(path, params, max_bytes=max_bytes, accept=accept)[0]

    def get_page(
        self,
        path: str,
        params: Params | None = None,
        *,
        max_bytes: int = 1 << 26,
        accept: Accept = lambda body, next_url: None,
    ) -> tuple[bytes, str | None]:
        """One page of a listing: its body, and the address of the next page or None.

        `accept` may refuse a page by raising a RetryableError: it is asked for again.
        """

        def ask() -> tuple[bytes, str | None]:
            answer = self._get_once(path, params, max_bytes)
            next_url = _next_page(answer.headers.get("link", ""))
            if self._secret and self._secret in unquote(next_url or ""):
                raise TruncatedError("the listing leads to an address that holds the token")
            accept(answer.body, next_url)
            return answer.body, next_url

        return self._retry(ask)

    def budgets(self) -> tuple[Budget, ...]:
        """What is known of the budgets; a window that is over is left out."""
        with self._lock:
            now = self._clock()
            return tuple(b for _, b in sorted(self._budgets.items()) if b.reset_s > now)

    def get_file(
        self, ref: RepoRef, path: str, *, max_bytes: int, size_bytes: int | None = None
    ) -> bytes:
        """A small file, whole; `size_bytes` is its length as the repository states it, if known.

        Raises
        ------
        MalformedError
            If it is larger than `max_bytes`.
        TruncatedError
            If it has another length than was stated, after all tries.
        """

        def is_whole(body: bytes, _: str | None) -> None:
            if size_bytes is not None and len(body) != size_bytes:
                raise TruncatedError(f"{path} came with {len(body)} of {size_bytes} bytes")

        return self.get(self.file_url(ref, path), max_bytes=max_bytes, accept=is_whole)

    def file_url(self, ref: RepoRef, path: str) -> str:
        """The address under which the Hub resolves a file; `path` is quoted."""
        return f"{self.endpoint}/{quote(ref.repo_id)}/resolve/{ref.revision}/{quote(path)}"

    def resolve(self, ref: RepoRef, path: str) -> Address:
        """Where a file's bytes lie: one ``HEAD``, redirects followed."""
        return self._retry(lambda: self._head_once(self.file_url(ref, path)))

    def get_range(self, address: Address, start: int, stop: int) -> bytes:
        """Bytes ``[start, stop)`` of a resolved file, all of them or an error.

        Raises
        ------
        RangeIgnoredError
            If the server answers 200: reading stops at once.
        TruncatedError
            If fewer bytes come than were asked for, after all tries.
        MalformedError
            If the answer is for another range, or the file changed meanwhile.
        """
        return self._retry(lambda: self._range_once(address, start, stop))

    # One request each; errors are ours.

    def _get_once(self, path: str, params: Params | None, max_bytes: int) -> _Answer:
        url = path if path.startswith(("http://", "https://")) else f"{self.endpoint}/{path}"
        with self._stream("GET", url, params=params) as response:
            self._check(response)
            body = self._read_bounded(response, max_bytes, url)
            return _Answer(body, response.headers)

    def _head_once(self, url: str) -> Address:
        with self._stream("HEAD", url) as response:
            self._check(response)
            headers = response.headers
            size = headers.get("x-linked-size") or headers.get("content-length") or ""
            if not size.isdigit():
                raise MalformedError(f"the server does not say how long {url} is")
            etag = headers.get("x-linked-etag") or headers.get("etag")
            return Address(str(response.url), int(size), etag)

    def _range_once(self, address: Address, start: int, stop: int) -> bytes:
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        with self._stream("GET", address.url, extra=headers) as response:
            if response.status_code == 200:
                if response.headers.get("content-type", "").startswith("text/html"):
                    raise TruncatedError(f"{_shown(address.url)} is a page for people just now")
                raise RangeIgnoredError(
                    f"{_shown(address.url)} was asked for bytes {start}-{stop - 1} and would send "
                    "the whole file"
                )
            self._check(response)
            expected = f"bytes {start}-{stop - 1}/"
            got = response.headers.get("content-range", "")
            if response.status_code != 206 or not got.startswith(expected):
                raise MalformedError(
                    f"{_shown(address.url)} answered {response.status_code} with range {got!r}, "
                    f"not {expected}…"
                )
            total = got.rpartition("/")[2]
            if total.isdigit() and int(total) != address.size_bytes:
                raise MalformedError(f"{_shown(address.url)} changed its length while it was read")
            body = self._read_bounded(response, stop - start, address.url)
        if len(body) != stop - start:
            raise TruncatedError(f"{_shown(address.url)} sent {len(body)} of {stop - start} bytes")
        return body

    @contextmanager
    def _stream(
        self,
        method: str,
        url: str,
        *,
        params: Params | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> Iterator[httpx2.Response]:
        headers = dict(self._headers)
        if urlsplit(url).netloc != urlsplit(self.endpoint).netloc:
            headers.pop("authorization", None)  # a signed address needs no token and gets none
        import httpx2
        from huggingface_hub.utils import get_session

        resource = "resolvers" if "/resolve/" in url else "api"
        self._take_from_budget(resource)
        try:
            with get_session().stream(
                method,
                url,
                params=params,
                headers={**headers, **(extra or {})},
                timeout=_TIMEOUT_S,
            ) as response:
                self._note_budget(response.headers)
                yield response
        except httpx2.RemoteProtocolError as error:
            raise TruncatedError(f"the connection to {_shown(url)} broke: {error}") from error
        except httpx2.TransportError as error:
            raise ServerError(f"cannot reach {_shown(url)}: {error}") from error
        except (httpx2.InvalidURL, httpx2.TooManyRedirects, httpx2.DecodingError) as error:
            raise MalformedError(f"{_shown(url)}: {error}") from error
        finally:
            with self._lock:
                self._under_way[resource] -= 1

    def _read_bounded(self, response: httpx2.Response, max_bytes: int, url: str) -> bytes:
        """The body, refused as soon as it is longer than `max_bytes` or drips."""
        parts, size, started = [], 0, self._clock()
        for part in response.iter_bytes():  # as they come: chunks of a size would wait for a drip
            size += len(part)
            if size > max_bytes:
                raise MalformedError(f"{_shown(url)} is longer than {max_bytes} bytes")
            waited_s = self._clock() - started
            if waited_s > _PATIENCE_S and size < waited_s * _MIN_BYTES_PER_S:
                raise TruncatedError(f"{_shown(url)} sent {size} bytes in {waited_s:.0f} s")
            parts.append(part)
        body = b"".join(parts)
        if self._secret and self._secret.encode() in body:
            raise TruncatedError(f"{_shown(url)} quotes the token: no answer of a Hub")
        return body

    def _check(self, response: httpx2.Response) -> None:
        """Raise our error for a refused request."""
        if response.status_code < 400:
            return
        raise translate(
            response.status_code, response.headers, _shown(str(response.url)), _wait_of(response)
        )

    # Budgets and tries.

    def _take_from_budget(self, resource: str) -> None:
        """Count one request, after waiting where the budget's window has none left."""
        while True:
            with self._lock:
                now, budget = self._clock(), self._budgets.get(resource)
                if budget is None or budget.remaining > 0 or budget.reset_s <= now:
                    if budget is not None:
                        left = Budget(resource, budget.remaining - 1, budget.reset_s)
                        self._budgets[resource] = left
                    self.n_requests += 1
                    self._under_way[resource] = self._under_way.get(resource, 0) + 1
                    return
            self._sleep(min(budget.reset_s - now, _MAX_WAIT_S))
            with self._lock:
                if self._budgets.get(resource) is budget:
                    del self._budgets[resource]  # its window is over

    def _note_budget(self, headers: Mapping[str, str]) -> None:
        """Remember what the server says is left, less what is under way and it has not seen."""
        from huggingface_hub.utils import parse_ratelimit_headers

        info = parse_ratelimit_headers(headers)
        if info is None:
            return
        with self._lock:
            others = max(0, self._under_way.get(info.resource_type, 1) - 1)
            self._budgets[info.resource_type] = Budget(
                info.resource_type,
                max(0, info.remaining - others),
                self._clock() + info.reset_in_seconds,
            )

    def _retry(self, ask: Callable[[], T]) -> T:
        for tried in range(1, _MAX_TRIES + 1):
            try:
                with self._without_token():
                    return ask()
            except RetryableError as error:
                if tried == _MAX_TRIES:
                    raise
                backoff = _FIRST_WAIT_S * 2 ** (tried - 1) * random.uniform(0.5, 1.0)
                wait_s = error.wait_s if isinstance(error, RateLimitedError) else backoff
                self._sleep(min(wait_s, _MAX_WAIT_S))
        raise AssertionError("unreachable: the last try returns or raises")

    @contextmanager
    def _without_token(self) -> Iterator[None]:
        """What an error quotes of a request is shown, stored and archived, but for the token."""
        try:
            yield
        except CrawlError as error:
            if self._secret and self._secret in repr((error, error.__cause__)):
                error.args = (str(error).replace(self._secret, "<token>"), *error.args[1:])
                raise error from None
            raise


def translate(
    status: int, headers: Mapping[str, str], url: str, wait_s: float = _FIRST_WAIT_S
) -> CrawlError:
    """The error that a refused request means, from its status and the Hub's error headers."""
    code = headers.get("x-error-code", "")
    message = headers.get("x-error-message", "")
    said = f"{status} for {url}" + (f": {message}" if message else "")
    if status == 429:
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


def _wait_of(response: httpx2.Response) -> float:
    """Seconds that the server asks to wait: ``Retry-After`` (seconds or a date), capped."""
    asked = response.headers.get("retry-after", "").strip()
    if asked.isdigit():
        return min(float(asked), _MAX_WAIT_S)
    if asked:
        try:
            until = parsedate_to_datetime(asked)
        except ValueError:
            return _FIRST_WAIT_S
        if until.tzinfo is None:
            until = until.replace(tzinfo=UTC)
        return min(max(0.0, (until - datetime.now(UTC)).total_seconds()), _MAX_WAIT_S)
    from huggingface_hub.utils import parse_ratelimit_headers

    info = parse_ratelimit_headers(response.headers)
    return min(float(info.reset_in_seconds), _MAX_WAIT_S) if info else _FIRST_WAIT_S


def _next_page(link: str) -> str | None:
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


def _shown(url: str) -> str:
    """An address without its query, which may hold a signature."""
    return url.partition("?")[0]

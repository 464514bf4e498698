"""The Hub over HTTP: its own client, with budgets, back-off and our errors.

Only this module and :mod:`crawler.async_client`, which reads many ranges at once, talk HTTP; what
an answer means is said once, in :mod:`crawler.answers`.

Requests go through ``huggingface_hub``'s shared session, so its proxies, certificates, token rules
and injected transports hold. Nothing of it is imported before the first request.
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, unquote, urlsplit

from crawler.answers import (
    MAX_TRIES,
    MAX_WAIT_S,
    Address,
    backoff_s,
    check_range,
    drips,
    next_page,
    shown,
    translate,
    wait_of,
)
from crawler.budgets import Budget, Budgets
from crawler.errors import (
    CrawlError,
    MalformedError,
    PermanentError,
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
_TIMEOUT_S = 60.0
_PATIENCE_S = 30.0

T = TypeVar("T")
Params = Mapping[str, str | int | list[str]]
Accept = Callable[[bytes, str | None], None]


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
        self.kept = Budgets(clock)
        self._token = token
        self._sleep = sleep
        self._clock = clock

    @property
    def n_requests(self) -> int:
        """Requests made so far, asynchronous ones included."""
        return self.kept.n_requests

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

    def holds_token(self, quoted: str | bytes) -> bool:
        """Whether something that a server sent repeats the token that requests bear."""
        if not self._secret:
            return False
        if isinstance(quoted, str):
            return self._secret in quoted
        return self._secret.encode() in quoted

    def is_own(self, url: str) -> bool:
        """Whether an address is this Hub's own, not that of where it keeps files."""
        return urlsplit(url).netloc == urlsplit(self.endpoint).netloc

    def headers_for(self, url: str) -> dict[str, str]:
        """The headers of a request; the token goes to the Hub alone."""
        headers = dict(self._headers)
        if not self.is_own(url):
            headers.pop("authorization", None)  # a signed address needs no token and gets none
        return headers

    def budget_of(self, url: str) -> str | None:
        """The budget that a request is taken from; None: not one of the Hub's."""
        if not self.is_own(url):
            return None
        return "resolvers" if "/resolve/" in url else "api"

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
            next_url = next_page(answer.headers.get("link", ""))
            if self.holds_token(unquote(next_url or "")):
                raise TruncatedError("the listing leads to an address that holds the token")
            accept(answer.body, next_url)
            return answer.body, next_url

        return self._retry(ask)

    def budgets(self) -> tuple[Budget, ...]:
        """What is known of the budgets; a window that is over is left out."""
        return self.kept.known()

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
            self._check(response)
            check_range(
                response.status_code,
                response.headers,
                address.url,
                start,
                stop,
                address.size_bytes,
            )
            body = self._read_bounded(response, stop - start, address.url)
        if len(body) != stop - start:
            raise TruncatedError(f"{shown(address.url)} sent {len(body)} of {stop - start} bytes")
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
        import httpx2
        from huggingface_hub.utils import get_session

        resource = self.budget_of(url)
        while used_up := self.kept.take(resource):
            self._sleep(self.kept.wait_s(used_up))
            self.kept.forget(used_up)
        try:
            with get_session().stream(
                method,
                url,
                params=params,
                headers={**self.headers_for(url), **(extra or {})},
                timeout=_TIMEOUT_S,
            ) as response:
                if resource is not None:
                    self.kept.note(response.headers)
                yield response
        except httpx2.RemoteProtocolError as error:
            raise TruncatedError(f"the connection to {shown(url)} broke: {error}") from error
        except httpx2.TransportError as error:
            raise ServerError(f"cannot reach {shown(url)}: {error}") from error
        except (httpx2.InvalidURL, httpx2.TooManyRedirects, httpx2.DecodingError) as error:
            raise MalformedError(f"{shown(url)}: {error}") from error
        finally:
            self.kept.done(resource)

    def _read_bounded(self, response: httpx2.Response, max_bytes: int, url: str) -> bytes:
        """The body, refused as soon as it is longer than `max_bytes` or drips."""
        parts, size, started = [], 0, self._clock()
        for part in response.iter_bytes():  # as they come: chunks of a size would wait for a drip
            size += len(part)
            if size > max_bytes:
                raise MalformedError(f"{shown(url)} is longer than {max_bytes} bytes")
            waited_s = self._clock() - started
            if drips(size, waited_s, _PATIENCE_S):
                raise TruncatedError(f"{shown(url)} sent {size} bytes in {waited_s:.0f} s")
            parts.append(part)
        body = b"".join(parts)
        if self.holds_token(body):
            raise TruncatedError(f"{shown(url)} quotes the token: no answer of a Hub")
        return body

    def _check(self, response: httpx2.Response) -> None:
        """Raise our error for a refused request."""
        if response.status_code < 400:
            return
        raise translate(
            response.status_code,
            response.headers,
            shown(str(response.url)),
            wait_of(response.headers),
        )

    def _retry(self, ask: Callable[[], T]) -> T:
        for tried in range(1, MAX_TRIES + 1):
            try:
                with self.without_token():
                    return ask()
            except RetryableError as error:
                if tried == MAX_TRIES:
                    raise
                backoff = backoff_s(tried) * random.uniform(0.5, 1.0)
                wait_s = error.wait_s if isinstance(error, RateLimitedError) else backoff
                self._sleep(min(wait_s, MAX_WAIT_S))
        raise AssertionError("unreachable: the last try returns or raises")

    @contextmanager
    def without_token(self) -> Iterator[None]:
        """What an error quotes of a request is shown, stored and archived, but for the token."""
        try:
            yield
        except CrawlError as error:
            if self._secret and self._secret in repr((error, error.__cause__)):
                error.args = (str(error).replace(self._secret, "<token>"), *error.args[1:])
                raise error from None
            raise

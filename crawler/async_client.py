"""The Hub over HTTP, many requests at once: the second of the two modules that talk HTTP.

Addresses, tokens, budgets and the meaning of answers are those of :mod:`crawler.client`; what is
added is that requests share an event loop and their number follows what each host bears
(:mod:`crawler.pace`). They go through ``aiohttp``: the Hub client's own asynchronous session takes
three to seven times the processor time (``benchmarks/range_reader.py``). Certificates and proxies
are the same.
"""

from __future__ import annotations

import asyncio
import io
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import SplitResult, unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from crawler.answers import (
    MAX_TRIES,
    Address,
    backoff_s,
    check_range,
    count_in,
    drips,
    shown,
    translate,
    wait_of,
)
from crawler.client import Hub
from crawler.errors import (
    CrawlError,
    FileChangedError,
    MalformedError,
    PermanentError,
    RetryableError,
    ServerError,
    TruncatedError,
)
from crawler.pace import Pace
from crawler.records import RepoRef

if TYPE_CHECKING:
    import ssl

    import aiohttp
    import yarl

__all__ = ["AddressRefusedError", "AsyncHub", "Piece"]

T = TypeVar("T")
_Sleep = Callable[[float], Awaitable[None]]

_CONNECT_S = 30.0
_BUFFER_BYTES = 256 << 10
_MAX_HOPS = 5
_MAX_HEADER_BYTES = 64 << 10  # a signed address alone may take four thousand
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CANNOT_KEEP_UP = frozenset({429, 503, 504})


class AddressRefusedError(PermanentError):
    """An address outside the Hub is not (or no longer) good: its signature expires."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The bytes of one range, and what the server calls the file that they are of."""

    data: bytes
    etag: str | None
    content: str | None


@dataclass(frozen=True, slots=True)
class _Host:
    """How one host is asked."""

    pace: Pace
    headers: dict[str, str]
    proxy: str | None


class AsyncHub:
    """A Hub as one event loop sees it; shares token and budgets with a :class:`Hub`.

    Parameters
    ----------
    hub
        Whose token, budgets and counts hold.
    max_concurrency
        Most requests under way to one host.
    stall_s
        A server that sends nothing for so long is given up.
    patience_s
        After so long a body must have come at 10 kB/s at least.
    sleep, clock, jitter
        Injected by tests; `jitter` draws a wait between zero and its argument.
    """

    def __init__(
        self,
        hub: Hub,
        *,
        max_concurrency: int = 32,
        stall_s: float = 60.0,
        patience_s: float = 30.0,
        sleep: _Sleep = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[float], float] = lambda most: random.uniform(0.0, most),
    ) -> None:
        self._hub = hub
        self._max_concurrency = max_concurrency
        self._stall_s = stall_s
        self._patience_s = patience_s
        self._sleep = sleep
        self._clock = clock
        self._jitter = jitter
        self._hosts: dict[str, _Host] = {}
        self._session: aiohttp.ClientSession | None = None
        self._scouts: dict[str, asyncio.Event] = {}
        self._says_nothing: set[str] = set()

    async def aclose(self) -> None:
        """Close all connections; further requests open new ones."""
        session, self._session = self._session, None
        self._hosts.clear()
        if session is not None:
            await session.close()

    async def resolve(self, ref: RepoRef, path: str) -> Address:
        """Where a file's bytes lie.

        Redirects are followed inside the Hub; when it leads elsewhere and states the length, the
        other host is not asked: what it signed may be good for reading only.

        Raises
        ------
        CrawlError
            As the Hub answers, after all tries; MalformedError if no length is stated.
        """
        return await self._retry(lambda: self._resolve_once(self._hub.file_url(ref, path)))

    async def get_range(
        self, address: Address, start: int, stop: int, received: Callable[[int], None]
    ) -> Piece:
        """Bytes ``[start, stop)`` of a resolved file, all of them or an error.

        `received` is told the number of bytes of every try.

        Raises
        ------
        AddressRefusedError
            If the address is outside the Hub and not (or no longer) good.
        RangeIgnoredError, MalformedError
            If other bytes would come.
        CrawlError
            As the server answers, after all tries.
        """
        return await self._retry(lambda: self._range_once(address, start, stop, received))

    # One request each; errors are ours.

    async def _resolve_once(self, url: str) -> Address:
        for _ in range(_MAX_HOPS):
            status, headers = await self._ask("HEAD", url, {}, _head_of)
            size = headers.get("x-linked-size", "")
            content = _strong(headers.get("x-linked-etag"))
            if status not in _REDIRECTS:
                size = size or headers.get("content-length", "")
                if (n_bytes := count_in(size)) is None:
                    raise MalformedError(f"the server does not say how long {shown(url)} is")
                return Address(url, n_bytes, _strong(headers.get("etag")), content)
            target = self._target(url, headers.get("location", ""))
            n_bytes = count_in(size)
            if n_bytes is not None and not self._hub.is_own(target):
                return Address(target, n_bytes, None, content)
            url = target
        raise MalformedError(f"{shown(url)}: more than {_MAX_HOPS} redirects")

    def _target(self, url: str, location: str) -> str:
        """Where a redirect leads."""
        if self._hub.holds_token(unquote(location)):
            raise TruncatedError(f"{shown(url)} leads to an address that holds the token")
        try:
            target = urljoin(url, location)
            parts = _as_signed(target)
            leads = bool(location and parts.raw_host) and parts.scheme in ("http", "https")
        except ValueError:  # brackets that do not close, a port that is no number
            leads = False
        if not leads:
            raise MalformedError(f"{shown(url)} leads nowhere: {shown(location)[:100]!r}")
        return target

    async def _range_once(
        self, address: Address, start: int, stop: int, received: Callable[[int], None]
    ) -> Piece:
        url = address.url

        async def take(response: aiohttp.ClientResponse) -> Piece:
            headers = response.headers
            if response.status in _REDIRECTS:
                raise AddressRefusedError(f"{shown(url)} is no longer where the file lies")
            check_range(response.status, headers, url, start, stop, address.size_bytes)
            body = await self._read_bounded(response, stop - start, url, received)
            etag, content = headers.get("etag"), headers.get("x-linked-etag")
            return Piece(body, _strong(etag), _strong(content))

        return await self._ask("GET", url, {"Range": f"bytes={start}-{stop - 1}"}, take)

    async def _read_bounded(
        self,
        response: aiohttp.ClientResponse,
        wanted: int,
        url: str,
        received: Callable[[int], None],
    ) -> bytes:
        """The body, refused as soon as it is longer than wanted or drips."""
        received_bytes, started = 0, self._clock()
        try:
            body = await response.content.readany()
            received_bytes = len(body)
            if 0 < received_bytes < wanted:
                # Parts are copied to where they belong as they come, and not kept until the last.
                whole = io.BytesIO(bytes(wanted))
                part = body
                while part and received_bytes <= wanted:
                    whole.write(part)
                    if drips(received_bytes, self._clock() - started, self._patience_s):
                        raise TimeoutError  # as a stall
                    part = await response.content.readany()
                    received_bytes += len(part)
                body = whole.getvalue()
        finally:
            received(received_bytes)
        if received_bytes > wanted:
            raise MalformedError(f"{shown(url)} is longer than {wanted} bytes")
        if received_bytes < wanted:
            raise TruncatedError(f"{shown(url)} sent {received_bytes} of {wanted} bytes")
        if self._hub.is_own(url) and self._hub.holds_token(body):
            raise TruncatedError(f"{shown(url)} quotes the token: no answer of a Hub")
        return body

    async def _ask(
        self,
        method: str,
        url: str,
        extra: dict[str, str],
        take: Callable[[aiohttp.ClientResponse], Awaitable[T]],
    ) -> T:
        """One request at its host's pace and within the budget; what `take` makes of its answer."""
        import aiohttp

        host, resource, scout = self._host(url), self._hub.budget_of(url), None
        number = await host.pace.enter()
        try:
            scout = await self._take(resource)
            try:
                async with (
                    asyncio.timeout(self._stall_s) as until_its_head,
                    self._open().request(
                        method,
                        _as_signed(url),
                        headers={**host.headers, **extra},
                        allow_redirects=False,
                        proxy=host.proxy,
                    ) as response,
                ):
                    until_its_head.reschedule(None)
                    if resource is not None:
                        self._note(resource, scout, response.headers)
                    if response.status >= 400:
                        raise self._refusal(response, url, host.pace, number)
                    taken = await take(response)
            finally:
                self._release(resource, scout)
            host.pace.succeeded()
            return taken
        except TimeoutError:
            host.pace.overloaded(number)
            raise ServerError(f"{shown(url)} stalled") from None
        except aiohttp.ClientError as error:
            raise _translated(error, url) from None  # what it quotes may hold a signature
        finally:
            host.pace.leave()

    def _refusal(
        self, response: aiohttp.ClientResponse, url: str, pace: Pace, number: int
    ) -> CrawlError:
        """The error that a refused request means; a host that cannot keep up is asked less."""
        status, wait_s = response.status, wait_of(response.headers)
        if status in _CANNOT_KEEP_UP:
            asked = status == 429 or "retry-after" in response.headers
            pace.overloaded(number, wait_s if asked else 0.0)
        elif status == 416:  # asked for were bytes that the file had
            return FileChangedError(f"{shown(url)} became shorter while it was read")
        elif status < 500 and status != 408 and not self._hub.is_own(url):
            return AddressRefusedError(f"{status} for {shown(url)}")
        return translate(status, response.headers, shown(url), wait_s)

    def _open(self) -> aiohttp.ClientSession:
        """The session of this event loop."""
        if self._session is None:
            import aiohttp
            from huggingface_hub import constants

            if constants.is_offline_mode():
                raise PermanentError("the Hub's client is told to stay offline (HF_HUB_OFFLINE)")
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=_certificates()),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=min(_CONNECT_S, self._stall_s), sock_read=self._stall_s
                ),
                read_bufsize=_BUFFER_BYTES,
                max_field_size=_MAX_HEADER_BYTES,
            )
        return self._session

    def _host(self, url: str) -> _Host:
        """What is known of the host of an address."""
        address = urlsplit(url)
        key = f"{address.scheme}://{address.netloc}"
        host = self._hosts.get(key)
        if host is None:
            pace = Pace(self._max_concurrency, clock=self._clock, sleep=self._sleep)
            host = _Host(pace, self._hub.headers_for(url), _proxy_of(address))
            self._hosts[key] = host
        return host

    # Budgets and tries.

    async def _take(self, resource: str | None) -> asyncio.Event | None:
        """Wait until the budget admits a request.

        While nothing is known of a budget one request goes ahead, and the others wait for what its
        answer says: however small the budget is, it is not exceeded. Returns for that one what the
        others wait for.
        """
        kept = self._hub.kept
        while True:
            blind = not (
                resource is None or resource in self._says_nothing or kept.is_known(resource)
            )
            if blind and resource in self._scouts:
                await self._scouts[resource].wait()
                continue
            used_up = kept.take(resource)
            if used_up is None:
                break
            await self._sleep(kept.wait_s(used_up))
        if not blind or resource is None:
            return None
        return self._scouts.setdefault(resource, asyncio.Event())

    def _note(self, resource: str, scout: asyncio.Event | None, headers: Mapping[str, str]) -> None:
        """Remember what an answer says of its budget, or that it says nothing."""
        self._hub.kept.note(headers)
        if not self._hub.kept.is_known(resource):
            self._says_nothing.add(resource)
        self._end_scouting(resource, scout)

    def _release(self, resource: str | None, scout: asyncio.Event | None) -> None:
        """A request is no longer under way; who waited for its answer need not any more."""
        self._hub.kept.done(resource)
        self._end_scouting(resource, scout)

    def _end_scouting(self, resource: str | None, scout: asyncio.Event | None) -> None:
        # Taken away before anybody wakes: the window may be over by then, and somebody goes anew.
        if scout is not None and resource is not None and self._scouts.get(resource) is scout:
            del self._scouts[resource]
            scout.set()

    async def _retry(self, ask: Callable[[], Awaitable[T]]) -> T:
        for tried in range(1, MAX_TRIES + 1):
            try:
                with self._hub.without_token():
                    return await ask()
            except RetryableError:
                if tried == MAX_TRIES:
                    raise
                # What the server asks everybody to wait is waited for at the host's pace.
                await self._sleep(self._jitter(backoff_s(tried)))
        raise AssertionError("unreachable: the last try returns or raises")


def _proxy_of(address: SplitResult) -> str | None:
    """The proxy that the environment names for an address."""
    named = getproxies()
    proxy = named.get(address.scheme) or named.get("all")
    if proxy is None or proxy_bypass(address.hostname or ""):
        return None
    if not proxy.startswith(("http://", "https://")):
        raise PermanentError("ranges can be read through http and https proxies only")
    return proxy


@lru_cache(1024)
def _as_signed(url: str) -> yarl.URL:
    """An address that is sent as it stands: to quote it anew would break its signature."""
    import yarl

    return yarl.URL(url, encoded=True)


@cache
def _certificates() -> ssl.SSLContext:
    """Those that the Hub's client trusts; reading them takes a fifth of a second."""
    import httpx2

    return httpx2.create_ssl_context()


async def _head_of(response: aiohttp.ClientResponse) -> tuple[int, Mapping[str, str]]:
    return response.status, response.headers


def _strong(etag: str | None) -> str | None:
    """A strong validator: equal for equal bytes only; weak ones say nothing of bytes."""
    return etag if etag and not etag.startswith("W/") else None


def _translated(error: aiohttp.ClientError, url: str) -> CrawlError:
    """Our error for a failed request; nothing that might quote a signed address is repeated."""
    import aiohttp

    if isinstance(error, aiohttp.ClientConnectorError):
        return ServerError(f"cannot reach {shown(url)}: {error.os_error}")
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
        return MalformedError(f"{shown(url)}: not an address")
    return TruncatedError(f"the connection to {shown(url)} broke: {type(error).__name__}")

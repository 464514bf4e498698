"""Spans of the Hub's files by byte ranges, many at once, every answer held against the others."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from urllib.parse import urlsplit

from crawler.answers import Address, shown
from crawler.async_client import AddressRefusedError, AsyncHub
from crawler.client import Hub
from crawler.errors import FileChangedError, MalformedError
from crawler.records import RepoRef
from crawler.sources import MeteredSource, Tally
from crawler.spans import MAX_GAP_BYTES, MAX_RANGE_BYTES, Span, coalesce, cut

__all__ = ["HubSource"]

T = TypeVar("T")
_Key = tuple[RepoRef, str]

_MAX_ADDRESSES = 16_384


@dataclass(slots=True)
class _Located:
    """Where a file lies, and what the hosts that sent bytes of it call its state.

    `in_vain` says that the address was renewed and did not serve since.
    """

    address: Address
    etags: dict[str, str] = field(default_factory=dict)
    in_vain: bool = False

    def __post_init__(self) -> None:
        self.require_unchanged(self.address.url, self.address.etag, None)

    def require_unchanged(self, url: str, etag: str | None, content: str | None) -> None:
        """Raise FileChangedError if a host calls the file otherwise than before.

        Each host has words of its own for one state; what the Hub says of the content is one word.
        """
        known = self.etags.setdefault(urlsplit(url).netloc, etag) if etag else etag
        if known != etag or (content or self.address.content) != (self.address.content or content):
            raise FileChangedError(f"{shown(url)} changed while it was read")

    def move_to(self, address: Address) -> None:
        """Take a fresh address, if it is of the same file."""
        if address.size_bytes != self.address.size_bytes:
            raise FileChangedError(f"{shown(address.url)} has another length than before")
        self.require_unchanged(address.url, address.etag, address.content)
        self.address, self.in_vain = address, True

    @property
    def state(self) -> object:
        """What must not change between the reads of one model; known once bytes were sent."""
        return self.address.size_bytes, self.address.content or next(
            iter(self.etags.values()), None
        )


class _Shared(Generic[T]):
    """One task that several wait for; cancelled when nobody waits any more."""

    def __init__(self, ask: Coroutine[object, object, T]) -> None:
        self._task = asyncio.create_task(ask)
        self._n_waiting = 0

    async def wait(self) -> T:
        """Its result, or what it raised."""
        self._n_waiting += 1
        try:
            return await asyncio.shield(self._task)
        finally:
            self._n_waiting -= 1
            if not self._n_waiting and not self._task.done():
                self._task.cancel()
                await asyncio.wait({self._task})

    @property
    def is_open(self) -> bool:
        """Whether it is under way and somebody waits."""
        return self._n_waiting > 0 and not self._task.done()


class HubSource(MeteredSource):
    """Reads spans of a Hub's files.

    A file's address is resolved once, however many read it, and used until it is refused. Every
    range must come as 206 with the bytes that were asked for, of a file of the stated length and
    of one strong ETag. A file that changes is resolved and read once more; if other bytes of it
    were handed out before, or it changes again, the read fails.

    Used by one event loop at a time, and closed by ``async with`` or :meth:`aclose`.

    Parameters
    ----------
    hub
        Whose token, budgets and counts hold.
    max_concurrency
        Most requests under way to one host.
    max_gap_bytes
        Spans so near to one another are read by one request.
    stall_s, patience_s, sleep, clock
        As of :class:`crawler.async_client.AsyncHub`.
    """

    def __init__(
        self,
        hub: Hub,
        *,
        max_concurrency: int = 32,
        max_gap_bytes: int = MAX_GAP_BYTES,
        stall_s: float = 60.0,
        patience_s: float = 30.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._hub = AsyncHub(
            hub,
            max_concurrency=max_concurrency,
            stall_s=stall_s,
            patience_s=patience_s,
            sleep=sleep,
            clock=clock,
        )
        self._max_gap_bytes = max_gap_bytes
        self._located: OrderedDict[_Key, _Located] = OrderedDict()
        self._resolving: dict[_Key, _Shared[Address]] = {}

    async def read_for(
        self, tally: Tally, ref: RepoRef, path: str, spans: Sequence[Span]
    ) -> list[bytes]:
        """The bytes of every span; see :meth:`crawler.sources.Source.read`.

        Raises
        ------
        RangeIgnoredError
            If the server would send the whole file.
        """
        joined = coalesce(spans, self._max_gap_bytes)
        if not joined:
            return []
        try:
            pieces = await self._read_one_state(tally, ref, path, joined)
        except FileChangedError:
            if (ref, path) in tally.states:
                raise
            pieces = await self._read_one_state(tally, ref, path, joined)
        return cut(spans, joined, pieces)

    async def aclose(self) -> None:
        """Close all connections; the source may be used again."""
        await self._hub.aclose()

    async def _read_one_state(
        self, tally: Tally, ref: RepoRef, path: str, joined: Sequence[Span]
    ) -> list[bytes]:
        """The bytes of disjoint spans, all of one state of the file, which the tally is told."""
        located = await self._locate(ref, path)
        size = located.address.size_bytes
        start, stop = joined[-1]
        if stop > size:
            raise MalformedError(f"{path} has {size} bytes, bytes {start}-{stop - 1} were wanted")
        parts = [part for span in joined for part in _split(span)]
        try:
            fetched = await _all([self._one(tally, ref, path, located, part) for part in parts])
        except FileChangedError:
            if self._located.get((ref, path)) is located:
                del self._located[ref, path]
            raise
        tally.require_state(ref, path, located.state)
        if len(parts) == len(joined):
            return fetched
        left = iter(fetched)
        return [b"".join(next(left) for _ in _split(span)) for span in joined]

    async def _one(
        self, tally: Tally, ref: RepoRef, path: str, located: _Located, span: Span
    ) -> bytes:
        """One range, from a fresh address where the known one is refused."""

        def received(n_bytes: int) -> None:
            self._count(tally, n_bytes=n_bytes, requests=1)

        while True:
            address = located.address
            try:
                piece = await self._hub.get_range(address, *span, received)
            except AddressRefusedError:
                if located.address is not address:
                    continue  # another reader found a fresh one meanwhile
                if located.in_vain:
                    raise
                fresh = await self._resolve(ref, path)
                if located.address is address:
                    located.move_to(fresh)
                continue
            located.require_unchanged(address.url, piece.etag, piece.content)
            if located.address is address:
                located.in_vain = False
            return piece.data

    async def _locate(self, ref: RepoRef, path: str) -> _Located:
        """Where a file lies, as it is known or as the Hub says."""
        known = self._located.get((ref, path))
        if known is None:
            address = await self._resolve(ref, path)
            # Who waited for the same answer shares what is learnt of the file.
            known = self._located.setdefault((ref, path), _Located(address))
            if len(self._located) > _MAX_ADDRESSES:
                self._located.popitem(last=False)
        self._located.move_to_end((ref, path))
        return known

    async def _resolve(self, ref: RepoRef, path: str) -> Address:
        """The file's address, asked for once by all who want it at one time."""
        asked = self._resolving.get((ref, path))
        if asked is None or not asked.is_open:
            asked = self._resolving[ref, path] = _Shared(self._hub.resolve(ref, path))
        try:
            return await asked.wait()
        finally:
            if not asked.is_open and self._resolving.get((ref, path)) is asked:
                del self._resolving[ref, path]


def _split(span: Span) -> list[Span]:
    """Parts of a long span, so that a failure costs one of them."""
    start, stop = span
    return [(at, min(at + MAX_RANGE_BYTES, stop)) for at in range(start, stop, MAX_RANGE_BYTES)]


async def _all(asked: Sequence[Coroutine[object, object, T]]) -> list[T]:
    """All results, or the first error once nothing is under way any more."""
    if len(asked) == 1:
        return [await asked[0]]
    tasks = [asyncio.create_task(one) for one in asked]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise

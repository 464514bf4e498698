"""An HTTP server in the test's own event loop, whose every answer is scripted, to the byte."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Asked:
    """One request; `n` counts, from 0, the same request (method, target and range)."""

    method: str
    target: str
    headers: Mapping[str, str]
    n: int

    @property
    def span(self) -> tuple[int, int]:
        """The half-open span of its range."""
        first, _, last = self.headers["range"].removeprefix("bytes=").partition("-")
        return int(first), int(last) + 1


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer.

    Attributes
    ----------
    length
        What ``Content-Length`` promises; None: the length of the body; -1: nothing.
    then
        "keep" the connection, "close" it, "reset" it, "stall" or "drip" the body, "drip head".
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    length: int | None = None
    then: str = "keep"


Answer = Callable[[Asked], Reply | Awaitable[Reply]]


class ScriptedServer:
    """Answers by a function; remembers what was asked, and how much of the answers was taken."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self.endpoint = ""
        self.n_connections = 0
        self.n_open = 0
        self.n_under_way = 0
        self.most_under_way = 0
        self.bytes_sent = 0

    def n_asked(self, method: str) -> int:
        """Requests of one method."""
        return sum(asked.method == method for asked in self.asked)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[ScriptedServer]:
        """Serve on a free port; on leaving every connection is closed."""
        connections: set[asyncio.Task[None]] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._serve(reader, writer))
            connections.add(task)
            task.add_done_callback(connections.discard)

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        self.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for task in set(connections):
                task.cancel()
            await asyncio.gather(*connections, return_exceptions=True)
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.n_connections += 1
        self.n_open += 1
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            self.n_open -= 1

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ")
        pairs = (line.split(":", 1) for line in lines[1:] if line)
        headers = {name.strip().lower(): value.strip() for name, value in pairs}
        key = (method, target, headers.get("range"))
        n = sum((a.method, a.target, a.headers.get("range")) == key for a in self.asked)
        asked = Asked(method, target, headers, n)
        self.asked.append(asked)
        self.n_under_way += 1
        self.most_under_way = max(self.most_under_way, self.n_under_way)
        try:
            reply = self.answer(asked)
            reply = reply if isinstance(reply, Reply) else await reply
            return await self._send(asked, reply, reader, writer)
        finally:
            self.n_under_way -= 1

    async def _send(
        self,
        asked: Asked,
        reply: Reply,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        head = [f"HTTP/1.1 {reply.status} Said"]
        length = len(reply.body) if reply.length is None else reply.length
        if length >= 0 and "content-length" not in {name.lower() for name in reply.headers}:
            head.append(f"Content-Length: {length}")
        head += [f"{name}: {value}" for name, value in reply.headers.items()]
        sent = "\r\n".join([*head, "", ""]).encode("latin-1")
        if reply.then == "drip head":
            for i in range(len(sent)):
                writer.write(sent[i : i + 1])
                await writer.drain()
                await asyncio.sleep(0.02)
            sent = b""
        writer.write(sent)
        body = b"" if asked.method == "HEAD" else reply.body
        if reply.then == "drip":
            for i in range(len(body)):
                writer.write(body[i : i + 1])
                await writer.drain()
                await asyncio.sleep(0.01)
        for at in range(0, len(body) if reply.then != "drip" else 0, 65536):
            writer.write(body[at : at + 65536])
            await writer.drain()
            self.bytes_sent += len(body[at : at + 65536])
        if reply.then == "stall":
            await reader.read(1)  # until the client hangs up
        if reply.then == "reset":
            writer.transport.abort()
        return reply.then == "keep"


class FastTime:
    """A clock that a sleep moves on at once; otherwise it goes as time does."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self._ahead_s = 0.0

    def clock(self) -> float:
        """Seconds."""
        return time.monotonic() + self._ahead_s

    def sleep_now(self, seconds: float) -> None:
        """Sleep, for threads."""
        self.slept.append(seconds)
        self._ahead_s += seconds

    async def sleep(self, seconds: float) -> None:
        """Sleep, for coroutines; waits that overlap take the time of the longest."""
        until = self.clock() + seconds
        self.slept.append(seconds)
        await asyncio.sleep(0.001)
        self._ahead_s += max(0.0, until - self.clock())

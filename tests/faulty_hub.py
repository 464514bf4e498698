"""A reverse proxy that fails the way servers, proxies and networks do, by a seeded schedule.

It stands before :mod:`crawler.hub_server` on a fixed port and speaks HTTP over plain sockets, for
an ASGI application cannot promise more bytes than it sends, or hang up before the first. Which
fault meets which try of which request follows from the seed and the request alone, never from the
order in which threads ask; no request fails more than three times.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from crawler.hub_server import running_hub

MAX_FAULTS = 3
DRIP_BYTES = 5
DRIP_S = 0.2
LISTING = "/api/models?"


@dataclass(frozen=True, slots=True)
class Asked:
    """One try of a request; `n` counts the tries from 0."""

    method: str
    target: str
    headers: Mapping[str, str]
    n: int


@dataclass(frozen=True, slots=True)
class Reply:
    """What the real server answers."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def without(self, *names: str) -> list[tuple[str, str]]:
        """The headers but some."""
        return [(name, value) for name, value in self.headers if name.lower() not in names]


class _Handler(BaseHTTPRequestHandler):
    """One connection; `hub` is put in by :class:`FaultyHub`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    hub: FaultyHub

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Say nothing."""

    def do_GET(self) -> None:
        with contextlib.suppress(OSError):  # the client may hang up: on a drip it is meant to
            self.hub.answer(self)

    do_HEAD = do_GET  # noqa: N815

    def pass_on(
        self, reply: Reply, *, length: int | None = None, sent: bytes | None = None
    ) -> None:
        """Send a reply; `length` is what it promises, `sent` what comes."""
        self.send_response(reply.status)
        for name, value in reply.without("content-length", "connection", "date", "server"):
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body if sent is None else sent)

    def hang_up(self) -> None:
        """Close the connection now."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


def _refuse(status: int, **headers: str) -> Callable[[_Handler, Asked, Reply], None]:
    def fault(handler: _Handler, asked: Asked, reply: Reply) -> None:
        stated = tuple((name.replace("_", "-"), value) for name, value in headers.items())
        body = b'{"error": "not now"}'
        length = {"length": 0} if asked.method == "HEAD" else {}
        handler.pass_on(Reply(status, stated, body), **length)

    return fault


def _retry_after_date(handler: _Handler, asked: Asked, reply: Reply) -> None:
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    _refuse(429, Retry_After=until)(handler, asked, reply)


def _cut_body(handler: _Handler, asked: Asked, reply: Reply) -> None:
    half = reply.body[: len(reply.body) // 2]
    handler.pass_on(Reply(reply.status, reply.headers, half))


def _half_page(handler: _Handler, asked: Asked, reply: Reply) -> None:
    half = reply.body[: len(reply.body) // 2]
    handler.pass_on(reply, sent=half)
    handler.hang_up()


def _html(handler: _Handler, asked: Asked, reply: Reply) -> None:
    page = b"<!doctype html><title>Maintenance</title><p>We will be back soon."
    handler.pass_on(Reply(200, (("Content-Type", "text/html; charset=utf-8"),), page))


def _drip(handler: _Handler, asked: Asked, reply: Reply) -> None:
    handler.pass_on(reply, sent=b"")
    for start in range(0, len(reply.body), DRIP_BYTES):
        handler.wfile.write(reply.body[start : start + DRIP_BYTES])
        if handler.hub.closing.wait(DRIP_S):
            break
    handler.hang_up()


def _closed(handler: _Handler, asked: Asked, reply: Reply) -> None:
    handler.hang_up()


def _linked(link: Callable[[_Handler, Asked], str]) -> Callable[[_Handler, Asked, Reply], None]:
    def fault(handler: _Handler, asked: Asked, reply: Reply) -> None:
        headers = (*reply.without("link"), ("Link", link(handler, asked)))
        handler.pass_on(Reply(reply.status, headers, reply.body))

    return fault


FAULTS: dict[str, Callable[[_Handler, Asked, Reply], None]] = {
    "429 with seconds": _refuse(429, Retry_After="7"),
    "429 with a date": _retry_after_date,
    "429 with a budget alone": _refuse(429, RateLimit='"api";r=0;t=9'),
    "429 without a word": _refuse(429),
    "500": _refuse(500),
    "502": _refuse(502),
    "503": _refuse(503, Retry_After="3"),
    "cut body": _cut_body,
    "half a page": _half_page,
    "HTML": _html,
    "drip": _drip,
    "closed": _closed,
    "Link to another host": _linked(
        lambda handler, asked: '<http://127.0.0.2:9/api/models?a=b>; rel="next"'
    ),
    "Link to itself": _linked(
        lambda handler, asked: f'<{handler.hub.endpoint}{asked.target}>; rel="next"'
    ),
    "Link elsewhere on this host": _linked(
        lambda handler, asked: f'<{handler.hub.endpoint}/login?next=1>; rel="next"'
    ),
    "garbage for a Link": _linked(lambda handler, asked: "<<<;;rel=>, next next"),
    "Link without an address": _linked(lambda handler, asked: '<>; rel="next"'),
}
"""Every fault, by name."""


def can_fail(kind: str, asked: Asked, reply: Reply) -> bool:
    """Whether a fault means anything for this request.

    Links stand on pages of the listing alone; a body is cut, dripped or replaced only where there
    is one that counts. A drip is for answers that take a while.
    """
    if "Link" in kind:
        return asked.target.startswith(LISTING)
    if kind in ("cut body", "half a page", "HTML"):
        return asked.method == "GET" and reply.status < 300 and len(reply.body) > 1
    if kind == "drip":
        return asked.method == "GET" and reply.status < 300 and len(reply.body) > 50 * DRIP_BYTES
    return True


class FaultyHub:
    """The proxy. `backend`, `kinds`, `seed` and `rewrite` may be changed while it runs.

    Attributes
    ----------
    backend
        Address of the server behind it.
    kinds
        Faults to choose from; none: it only passes on and counts.
    share
        Share of the requests that fail at all.
    requests
        Every request that arrived: method and target.
    answer_with
        Answers a request itself where it returns a reply.
    """

    def __init__(self) -> None:
        self.backend = ""
        self.kinds: Sequence[str] = ()
        self.seed = 0
        self.share = 1.0
        self.answer_with: Callable[[Asked], Reply | None] = lambda asked: None
        self.requests: list[str] = []
        self.injected: Counter[str] = Counter()
        self.closing = threading.Event()
        self._tries: Counter[str] = Counter()
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def misbehave(self, *kinds: str, seed: int = 0, share: float = 1.0) -> None:
        """Begin a new schedule; without kinds, behave."""
        with self._lock:
            self.kinds, self.seed, self.share = kinds, seed, share
            self._tries.clear()
            self.injected.clear()
            self.requests.clear()

    def answer(self, handler: _Handler) -> None:
        """Answer one request, well or badly."""
        key = f"{handler.command} {handler.path}"
        tried = f"{key} {handler.headers.get('Range', '')}"
        with self._lock:
            self.requests.append(key)
            n = self._tries[tried]
            self._tries[tried] += 1
        headers = {name.lower(): value for name, value in handler.headers.items()}
        asked = Asked(handler.command, handler.path, headers, n)
        reply = self.answer_with(asked) or self._ask(asked)
        kind = self._fault(tried, asked, reply)
        if kind is None:
            handler.pass_on(reply, length=_length(reply))
            return
        with self._lock:
            self.injected[kind] += 1
        FAULTS[kind](handler, asked, reply)

    def _fault(self, tried: str, asked: Asked, reply: Reply) -> str | None:
        rng = random.Random(f"{self.seed} {tried}")
        possible = [kind for kind in self.kinds if can_fail(kind, asked, reply)]
        if not possible or rng.random() >= self.share:
            return None
        plan = rng.choices(possible, k=rng.randint(1, MAX_FAULTS))
        return plan[asked.n] if asked.n < len(plan) else None

    def _ask(self, asked: Asked) -> Reply:
        address = urlsplit(self.backend)
        connection = HTTPConnection(address.hostname or "", address.port, timeout=30)
        try:
            passed = {k: v for k, v in asked.headers.items() if k not in ("connection", "host")}
            own = urlsplit(self.endpoint).netloc  # the server writes links with the name it hears
            connection.request(
                asked.method, asked.target, headers={**passed, "Host": own, "Connection": "close"}
            )
            response = connection.getresponse()
            return Reply(response.status, tuple(response.getheaders()), response.read())
        finally:
            connection.close()

    @contextlib.contextmanager
    def running(self) -> Iterator[FaultyHub]:
        """Serve from a thread."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.closing.set()
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    @contextlib.contextmanager
    def before(self, folder: Path, **options: bool) -> Iterator[FaultyHub]:
        """Stand before a Hub of `folder`; the options are those of ``running_hub``."""
        with running_hub(folder, **options) as backend:
            self.backend = backend
            yield self


def _length(reply: Reply) -> int:
    stated = dict((name.lower(), value) for name, value in reply.headers).get("content-length")
    return int(stated) if stated is not None else len(reply.body)


def wait_until(is_true: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Poll until something holds."""
    end = time.monotonic() + timeout_s
    while not is_true():
        if time.monotonic() > end:
            raise TimeoutError("it did not come to hold")
        time.sleep(0.01)

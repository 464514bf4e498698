"""The HTTP of :mod:`crawler.hub_server`: refusals, byte ranges, pages, rate limits and faults."""

from __future__ import annotations

import base64
import itertools
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import parse_qsl, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crawler.hub_folder import HostedFile
from crawler.hub_metadata import Json

__all__ = [
    "Faults",
    "FileBody",
    "Limits",
    "Query",
    "Refusal",
    "is_turn",
    "page",
    "parse_span",
    "read_form",
    "refuse",
]  # fmt: skip

_Item = TypeVar("_Item")

_CHUNK_BYTES = 256 << 10
_MAX_PAGE = 1000
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.ASCII)
_POLICY = b'"fixed window";"api";q=500;w=300'


@dataclass(frozen=True, slots=True)
class Faults:
    """How the server misbehaves; by default it does not.

    Attributes
    ----------
    ignore_ranges
        Answer 200 with the whole file to requests for a range.
    fail_every
        Every n-th request to the API is answered with 500; 0 is never.
    rate_limit_every
        Every n-th request of any kind is answered with 429; 0 is never.
    retry_after_s
        The wait that a 429 asks for in ``Retry-After``.
    drop_every
        Every n-th answer with a file's bytes breaks off half-way; 0 is never.
    truncate
        Paths of files (inside any repository) of which only half is sent, as if that were all.
    corrupt_range
        ``Content-Range`` names other bytes than those that are sent.
    """

    ignore_ranges: bool = False
    fail_every: int = 0
    rate_limit_every: int = 0
    retry_after_s: int = 0
    drop_every: int = 0
    truncate: frozenset[str] = frozenset()
    corrupt_range: bool = False


class Refusal(Exception):  # noqa: N818 - an answer, not a failure of this program
    """An answer other than success, with the headers by which the client tells errors apart."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Message": message, **(headers or {})}
        if code is not None:
            self.headers["X-Error-Code"] = code


def refuse(_: Request, refusal: Exception) -> Response:
    """The answer that a refusal stands for."""
    if not isinstance(refusal, Refusal):
        raise refusal
    return JSONResponse({"error": str(refusal)}, refusal.status, refusal.headers)


def _no_file(headers: Mapping[str, str] | None = None) -> Refusal:
    return Refusal(404, "Entry not found", "EntryNotFound", headers)


class FileBody(Response):
    """Bytes `start` to `stop` of a file, read in chunks; fewer are sent when it is to break off."""

    def __init__(
        self,
        file: HostedFile,
        span: tuple[int, int],
        sent: int,
        status: int,
        headers: dict[str, str],
    ) -> None:
        super().__init__(None, status, headers, "application/octet-stream")
        self._file, self._span, self._sent = file, span, sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        start, stop = self._span
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        last = start + self._sent
        for at in range(start, last, _CHUNK_BYTES):
            chunk = await run_in_threadpool(self._file.read, at, min(last, at + _CHUNK_BYTES))
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if last == stop:  # otherwise the server notices the missing end and drops the connection
            await send({"type": "http.response.body", "body": b""})


class Limits:
    """Puts the headers of the rate limit on every answer, and refuses when it is told to."""

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self._app, self._faults = app, faults
        self._requests, self._api_requests = itertools.count(1), itertools.count(1)

    def _fault(self, path: str) -> Refusal | None:
        request = next(self._requests)
        api_request = next(self._api_requests) if path.startswith("/api/") else 0
        if is_turn(request, self._faults.rate_limit_every):
            headers = {
                "RateLimit": '"api";r=0;t=1',
                "Retry-After": str(self._faults.retry_after_s),
            }
            return Refusal(429, "We had to rate limit you", headers=headers)
        if is_turn(api_request, self._faults.fail_every):
            return Refusal(500, "Internal Server Error")
        return None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_limit(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message["headers"])
                if not any(name == b"ratelimit" for name, _ in headers):
                    headers.append((b"ratelimit", b'"api";r=500;t=1'))
                headers.append((b"ratelimit-policy", _POLICY))
                message = {**message, "headers": headers}
            await send(message)

        fault = self._fault(scope["path"])
        if fault is None:
            await self._app(scope, receive, send_with_limit)
        else:
            answer = JSONResponse({"error": str(fault)}, fault.status, fault.headers)
            await answer(scope, receive, send_with_limit)


def is_turn(number: int, every: int) -> bool:
    """Whether the `number`-th of something (from 1) is one of every `every`; 0 is never."""
    return every > 0 and number > 0 and number % every == 0


class Query:
    """The parameters of a request; ``key[]`` means ``key``."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self.pairs = [(key.removesuffix("[]"), value) for key, value in pairs]

    def all(self, key: str) -> list[str]:
        """All values of a repeated parameter."""
        return [value for name, value in self.pairs if name == key]

    def one(self, key: str) -> str | None:
        """The first value, or None."""
        return next(iter(self.all(key)), None)

    def flag(self, key: str) -> bool:
        """Whether it is switched on."""
        return (self.one(key) or "").lower() in ("true", "1")

    def number(self, key: str, default: int, most: int) -> int:
        """A positive number, cut to `most`; anything else is refused."""
        text = self.one(key)
        if text is None:
            return default
        if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
            raise Refusal(400, f"{key} must be a positive number")
        return min(int(text), most)

    def expand(self, allowed: Collection[str]) -> list[str]:
        """The fields to expand; any that is not allowed is refused."""
        wanted = self.all("expand")
        for name in wanted:
            if name not in allowed:
                raise Refusal(400, f'"expand" must be one of [{", ".join(sorted(allowed))}]')
        return wanted


def parse_span(wanted: str, size_bytes: int, headers: Mapping[str, str]) -> tuple[int, int] | None:
    """The half-open span that a Range header asks for; None for the whole file.

    As HTTP allows, several ranges and words that are not understood get the whole file.
    """
    match = _RANGE.fullmatch(wanted.strip())
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match.groups()
    if first and last and int(last) < int(first):
        return None
    start = int(first) if first else max(0, size_bytes - int(last))
    stop = min(size_bytes, int(last) + 1) if first and last else size_bytes
    if start >= stop:
        code = {**headers, "Content-Range": f"bytes */{size_bytes}"}
        raise Refusal(416, "Range not satisfiable", headers=code)
    return start, stop


def read_form(request: Request, body: bytes) -> Query:
    """The fields of a posted form or JSON object.

    Raises
    ------
    Refusal
        400: the body is neither.
    """
    try:
        if not request.headers.get("content-type", "").startswith("application/json"):
            return Query(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=100_000))
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "The body cannot be read") from error
    if not isinstance(fields, dict):
        raise Refusal(400, "The body must be an object")
    return Query(
        (key, str(item))
        for key, value in fields.items()
        for item in (value if isinstance(value, list) else [value])
    )


def page(
    request: Request,
    items: Sequence[_Item],
    default: int,
    render: Callable[[_Item], Mapping[str, Json]],
) -> Response:
    """One page of `items` and, in the Link header, the address of the next.

    Raises
    ------
    Refusal
        400: ``limit`` or ``cursor`` cannot be used.
    """
    query = Query(request.query_params.multi_items())
    size = query.number("limit", default, _MAX_PAGE)
    start = _read_cursor(query.one("cursor"))
    headers = {}
    if start + size < len(items):
        cursor = base64.urlsafe_b64encode(str(start + size).encode()).decode()
        # The address repeats the query as it came, but for the cursor.
        pairs = [
            (key, value) for key, value in request.query_params.multi_items() if key != "cursor"
        ]
        address = request.url.replace(query=urlencode([*pairs, ("cursor", cursor)]))
        headers["Link"] = f'<{address}>; rel="next"'
    return JSONResponse([render(item) for item in items[start : start + size]], headers=headers)


def _read_cursor(cursor: str | None) -> int:
    if cursor is None:
        return 0
    try:
        text = base64.b64decode(cursor.encode("ascii"), b"-_", validate=True)
    except ValueError as error:
        raise Refusal(400, "Invalid cursor") from error
    if not re.fullmatch(rb"[0-9]{1,9}", text):
        raise Refusal(400, "Invalid cursor")
    return int(text)

"""The Hub's webhooks: what a payload says, and the small ASGI app that receives them.

:func:`parse_payload` and :func:`is_secret` are pure. :class:`WebhookReceiver` is a plain ASGI
callable; what an accepted event leads to is the business of the function that it is given. The
format is version 3 of the Hub's webhooks [1]_.

Everything that arrives is hostile until the secret was right, and untrusted text after that: only
ids of the Hub's form leave this module, and no other word of a payload is logged or answered.

References
----------
.. [1] Hugging Face, "Webhooks", Hub documentation; ``huggingface_hub._webhooks_payload``.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import math
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from crawler.errors import MalformedError
from crawler.records import is_repo_id

__all__ = [
    "MAX_BODY_BYTES",
    "EventAction",
    "WebhookEvent",
    "WebhookReceiver",
    "is_secret",
    "parse_payload",
]

MAX_BODY_BYTES = 64 << 10
"""Longest body that is read; the Hub's own are below 4 KiB."""

_MAX_REFS = 1000
_MAIN = "refs/heads/main"

Scope = MutableMapping[str, Any]  # ASGI's own types; starlette is not needed for them
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class EventAction(StrEnum):
    """What happened to a repository."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    MOVE = "move"


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """One event, checked.

    Attributes
    ----------
    action
        What happened. All of a narrowed scope (``repo.content``…) is an update, as the Hub asks.
    repo_id
        Which repository, by the name that it had before a move.
    moved_to
        Its new name; None unless it was moved.
    private
        Whether the Hub says that it is private now.
    concerns_model
        Whether the main branch or the settings of a *model* changed: all else (data sets, spaces,
        discussions, pull requests, other branches, tags) tells nothing new of a model's descent.
    names_commit
        Whether the event says which commit came. One that does not (a changed setting) may
        honestly come again in the same words.
    digest
        Equal for equal events: of the webhook, the action and scope, the repository, its commit,
        the changed references and settings, and the new name.
    """

    action: EventAction
    repo_id: str
    moved_to: str | None
    private: bool
    concerns_model: bool
    names_commit: bool
    digest: str


def is_secret(given: bytes, secret: bytes) -> bool:
    """Whether `given` is the secret, in a time that depends on neither.

    Digests are compared, so that not even the secret's length can be measured.
    """
    return hmac.compare_digest(hashlib.sha256(given).digest(), hashlib.sha256(secret).digest())


def parse_payload(body: bytes) -> WebhookEvent:
    """Read the body of a webhook's request.

    Raises
    ------
    MalformedError
        If it is longer than :data:`MAX_BODY_BYTES`, no JSON object, or not a payload. The reason
        holds no word of the body.
    """
    if len(body) > MAX_BODY_BYTES:
        raise MalformedError(f"the body is longer than {MAX_BODY_BYTES} bytes")
    try:
        payload = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise MalformedError("the body is not JSON") from None  # its message would quote the body
    event, repo = _part(payload, "event"), _part(payload, "repo")
    try:
        action = EventAction(_word(event, "action"))
    except ValueError:
        raise MalformedError("event.action is not an action of the Hub") from None
    scope, kind = _word(event, "scope"), _word(repo, "type")
    if scope.startswith("repo."):
        action = EventAction.UPDATE
    moved_to = None
    if action is EventAction.MOVE:
        moved_to = _id(_part(payload, "movedTo"), "movedTo.name")
    refs = _refs(payload.get("updatedRefs"))
    return WebhookEvent(
        action=action,
        repo_id=_id(repo, "repo.name"),
        moved_to=moved_to,
        private=repo.get("private") is True,
        concerns_model=kind == "model"
        and (scope == "repo" or scope.startswith("repo."))
        and (not refs or _MAIN in refs),
        names_commit=bool(refs),
        digest=_digest(payload, event, repo),
    )


def _part(value: object, name: str) -> Mapping[str, object]:
    """An object inside the payload."""
    part = value.get(name) if isinstance(value, dict) else None
    if not isinstance(part, dict):
        raise MalformedError(f"{name} is not an object")
    return part


def _word(part: Mapping[str, object], name: str) -> str:
    word = part.get(name)
    if not isinstance(word, str):
        raise MalformedError(f"{name} is not text")
    return word


def _id(part: Mapping[str, object], name: str) -> str:
    text = _word(part, "name")
    # A line's end would pass for the end of an id, and the queue keeps one event a line.
    if not is_repo_id(text) or not text.isprintable():
        raise MalformedError(f"{name} is not a repository id")
    return text


def _refs(value: object) -> frozenset[str]:
    """Names of the references that were changed."""
    if value is None:
        return frozenset()
    if not isinstance(value, list) or len(value) > _MAX_REFS:
        raise MalformedError("updatedRefs is not a list of references")
    return frozenset(_word(_part({"updatedRefs": ref}, "updatedRefs"), "ref") for ref in value)


def _digest(
    payload: Mapping[str, object], event: Mapping[str, object], repo: Mapping[str, object]
) -> str:
    webhook = payload.get("webhook")
    told = [
        webhook.get("id") if isinstance(webhook, dict) else None,
        [event.get(key) for key in ("action", "scope")],
        [repo.get(key) for key in ("type", "id", "name", "headSha", "private")],
        [payload.get(key) for key in ("updatedRefs", "updatedConfig", "movedTo")],
    ]
    try:
        words = json.dumps(told, sort_keys=True)
    except RecursionError:  # writing goes a little less deep than reading
        raise MalformedError("the body is nested too deep") from None
    return hashlib.sha256(words.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class _Answer:
    """Status, one word for the body, and headers."""

    status: int
    word: str
    headers: tuple[tuple[bytes, bytes], ...] = ()
    shown: str = ""


_CLOSE = ((b"connection", b"close"),)  # the rest of a refused body is not read
_GONE = _Answer(0, "disconnected")


class _Memory:
    """Digests of the latest events; the least recently seen is forgotten first."""

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most, self._clock = most, clock
        self._until: OrderedDict[str, float] = OrderedDict()

    def is_new(self, event: WebhookEvent, briefly_s: float) -> bool:
        """Whether the event was not seen before; it is remembered from now on."""
        now = self._clock()
        is_known = self._until.pop(event.digest, -math.inf) > now
        self._until[event.digest] = math.inf if event.names_commit else now + briefly_s
        if len(self._until) > self._most:
            self._until.popitem(last=False)
        return not is_known

    def forget(self, event: WebhookEvent) -> None:
        """The event led to nothing: it may come again."""
        self._until.pop(event.digest, None)


class WebhookReceiver:
    """An ASGI app: ``POST /webhook`` takes the Hub's payloads, ``GET /health`` says "ok".

    Parameters
    ----------
    secret
        What ``X-Webhook-Secret`` must hold; checked before a byte of the body is read.
    accept
        Called from a thread with each new event about a model, before the answer is sent. OSError
        means that the event could not be kept: it is answered 503 and may be sent again.
    log
        Called with one line for each request to ``/webhook``; it holds no word of a payload but a
        checked id.
    max_per_minute
        More requests to ``/webhook`` (from all senders together) are answered 429.
    max_remembered
        So many events are remembered to tell replays; a replay is answered 202 and does nothing.
    briefly_s
        For so long is an event remembered that names no commit.
    body_timeout_s
        A body that is not through by then is answered 408.
    clock
        Monotonic seconds; injected by tests.

    Raises
    ------
    ValueError
        If the secret is empty.
    """

    def __init__(
        self,
        secret: bytes,
        accept: Callable[[WebhookEvent], None],
        *,
        log: Callable[[str], None] = lambda line: None,
        max_per_minute: int = 600,
        max_remembered: int = 10_000,
        briefly_s: float = 60.0,
        body_timeout_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not secret:
            raise ValueError("a webhook receiver needs a secret")
        self._secret, self._accept, self._log = secret, accept, log
        self._max_per_minute, self._briefly_s = max_per_minute, briefly_s
        self._body_timeout_s, self._clock = body_timeout_s, clock
        self._memory = _Memory(max_remembered, clock)
        self._recent: deque[float] = deque(maxlen=max_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1003})
            return
        answer = await self._route(scope, receive)
        if answer is not _GONE:
            await _send(answer, send, is_head=scope["method"] == "HEAD")

    async def _route(self, scope: Scope, receive: Receive) -> _Answer:
        path, method = scope["path"], scope["method"]
        if path == "/health":
            if method in ("GET", "HEAD"):
                return _Answer(200, "ok")
            return _Answer(405, "method not allowed", ((b"allow", b"GET, HEAD"), *_CLOSE))
        if path != "/webhook":
            return _Answer(404, "not found", _CLOSE)
        if method != "POST":
            return _Answer(405, "method not allowed", ((b"allow", b"POST"), *_CLOSE))
        answer = await self._take(scope, receive)
        about = f" {answer.shown}" if answer.shown else ""
        self._log(f"{answer.status or '---'} {answer.word}{about}")
        return answer

    async def _take(self, scope: Scope, receive: Receive) -> _Answer:
        wait_s = self._wait_s()
        if wait_s > 0:
            asked = str(math.ceil(wait_s)).encode()
            return _Answer(429, "too many requests", ((b"retry-after", asked), *_CLOSE))
        headers = _headers(scope)
        given = headers.get(b"x-webhook-secret", [b""])
        # Compared also when it is absent, so that both refusals take the same way.
        if not is_secret(given[0], self._secret) or len(given) > 1:
            return _Answer(401, "wrong secret", _CLOSE)
        kind = headers.get(b"content-type", [b""])[0].partition(b";")[0].strip().lower()
        if kind != b"application/json":
            return _Answer(415, "send application/json", _CLOSE)
        length = headers.get(b"content-length", [b""])[0]
        if len(length) > 9 or (length.isdigit() and int(length) > MAX_BODY_BYTES):
            return _Answer(413, "body too long", _CLOSE)
        try:
            body = await asyncio.wait_for(_read(receive), self._body_timeout_s)
        except TimeoutError:
            return _Answer(408, "body too slow", _CLOSE)
        if body is None:
            return _GONE
        if len(body) > MAX_BODY_BYTES:
            return _Answer(413, "body too long", _CLOSE)
        try:
            event = parse_payload(body)
        except MalformedError as error:
            return _Answer(400, str(error))
        return await self._handle(event)

    async def _handle(self, event: WebhookEvent) -> _Answer:
        shown = f"{event.action} {event.repo_id}"
        if not event.concerns_model:
            return _Answer(202, "ignored", shown=shown)
        if not self._memory.is_new(event, self._briefly_s):
            return _Answer(202, "known", shown=shown)
        try:
            await asyncio.to_thread(self._accept, event)
        except OSError as error:
            self._memory.forget(event)
            # The sender learns that it may try again; why is for the log alone.
            why = f"{shown}: {error.strerror or 'cannot be kept'}"
            return _Answer(503, "not kept", ((b"retry-after", b"300"),), why)
        return _Answer(202, "queued", shown=shown)

    def _wait_s(self) -> float:
        """Seconds until there is room for one more request; those refused are not counted."""
        now = self._clock()
        if len(self._recent) == self._max_per_minute and now - self._recent[0] < 60:
            return 60 - (now - self._recent[0])
        self._recent.append(now)
        return 0.0


def _headers(scope: Scope) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        found.setdefault(bytes(name).lower(), []).append(bytes(value))
    return found


async def _read(receive: Receive) -> bytes | None:
    """The body, at most one chunk more than its bound; None if the sender went away."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False) or len(body) > MAX_BODY_BYTES:
            return bytes(body)


async def _send(answer: _Answer, send: Send, *, is_head: bool) -> None:
    word = "status" if answer.status < 400 else "error"
    body = json.dumps({word: answer.word}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-content-type-options", b"nosniff"),
        *answer.headers,
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if is_head else body})


async def _live(receive: Receive, send: Send) -> None:
    """Start and stop with the server: there is nothing to do for either."""
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})

"""An OpenAI-compatible endpoint: bounded, patient, and told apart from what it answers.

Requests are ``POST …/v1/completions``. What is busy or broken for the moment is asked again, after
a wait; what refuses is not. The key is sent to the stated host only: no redirect is followed, and
none is sent unencrypted to another machine.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lineage.errors import HerdbookError, UsageError
from lineage.pipeline.behaviour.alleles import BehaviourSettings
from lineage.pipeline.progress import meter

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Endpoint", "complete"]

_AT_ONCE = 4
_MOST_CHOICES = 16  # asked for in one request; servers bound them
_MOST_TRIES = 6
_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 60.0
_TIMEOUT_S = 120.0
_MAX_BODY_BYTES = 4 << 20
_TOKENS_PER_CHARACTER = 4  # a character outside the vocabulary takes as many tokens as bytes
_BUSY = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model is asked, under which name, and with which key.

    Raises
    ------
    UsageError
        If the address is none, or the key would go out unencrypted.
    """

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    sleep: Sleep = field(default=asyncio.sleep, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{self.shown} is no address of the form https://host/v1")
        if self.key and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise UsageError(f"the key would go to {self.shown} unencrypted; use https")

    @property
    def shown(self) -> str:
        """The address without user, password and query."""
        parts = urlsplit(self.url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"

    @property
    def completions(self) -> str:
        """The address that is asked: the base, with or without ``/v1``, will do."""
        base = self.url.split("?", 1)[0].rstrip("/")
        if base.endswith("/completions"):
            return base
        return f"{base}/completions" if base.endswith("/v1") else f"{base}/v1/completions"


def complete(
    endpoint: Endpoint, prompts: Sequence[str], n_draws: int, settings: BehaviourSettings
) -> list[list[str]]:
    """`n_draws` continuations of each prompt.

    Raises
    ------
    HerdbookError
        If the endpoint refuses, answers nonsense, or stays busy.
    """
    return asyncio.run(_complete_all(endpoint, prompts, n_draws, settings))


async def _complete_all(
    endpoint: Endpoint, prompts: Sequence[str], n_draws: int, settings: BehaviourSettings
) -> list[list[str]]:
    import aiohttp

    turn = asyncio.Semaphore(_AT_ONCE)
    headers = {"Authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout, trust_env=True) as session:
        with meter(endpoint.model, len(prompts)) as advance:

            async def one(place: int) -> list[str]:
                async with turn:
                    found = await _draw(session, endpoint, prompts[place], n_draws, settings, place)
                advance(1, "")
                return found

            try:
                async with asyncio.TaskGroup() as group:  # the first refusal stops the others
                    tasks = [group.create_task(one(place)) for place in range(len(prompts))]
            except ExceptionGroup as refusals:
                raise refusals.exceptions[0] from None
    return [task.result() for task in tasks]


async def _draw(
    session: aiohttp.ClientSession,
    endpoint: Endpoint,
    prompt: str,
    n_draws: int,
    settings: BehaviourSettings,
    place: int,
) -> list[str]:
    """Continuations of one prompt, in as many requests as the endpoint makes necessary."""
    texts: list[str] = []
    while len(texts) < n_draws:
        asked = min(n_draws - len(texts), _MOST_CHOICES)
        answer = await _ask(
            session,
            endpoint,
            {
                "model": endpoint.model,
                "prompt": prompt,
                "max_tokens": _TOKENS_PER_CHARACTER * settings.characters,
                "temperature": settings.temperature,
                "n": asked,
                # Another seed for each request: one seed twice would be one draw counted twice.
                "seed": (settings.seed * 1_000_003 + place * 1_009 + len(texts)) % (1 << 31),
            },
        )
        texts += _texts(answer, endpoint)[:asked]
    return texts


async def _ask(
    session: aiohttp.ClientSession, endpoint: Endpoint, wanted: dict[str, object]
) -> bytes:
    """The body of an answer; asks again while the endpoint is busy."""
    import aiohttp

    wait_s, why = _FIRST_WAIT_S, ""
    for attempt in range(_MOST_TRIES):
        if attempt:
            await endpoint.sleep(min(wait_s, _LONGEST_WAIT_S))
            wait_s *= 2
        try:
            async with session.post(
                endpoint.completions, json=wanted, allow_redirects=False
            ) as response:
                body = await response.content.read(_MAX_BODY_BYTES + 1)
                while len(body) <= _MAX_BODY_BYTES and (more := await response.content.readany()):
                    body += more
                if len(body) > _MAX_BODY_BYTES:
                    raise HerdbookError(f"{endpoint.shown} answers with too many bytes")
                if response.status == 200:
                    return body
                why = f"{response.status} {_reason(body)}".strip()
                if response.status not in _BUSY:
                    raise HerdbookError(f"{endpoint.shown} refuses: {why}{_hint(response.status)}")
                wait_s = max(wait_s, _stated_wait_s(response.headers.get("Retry-After", "")))
        except (aiohttp.ClientError, ssl.SSLError, OSError, TimeoutError) as error:
            why = f"{type(error).__name__}: {error}"[:300]
    raise HerdbookError(f"{endpoint.shown} does not answer after {_MOST_TRIES} tries: {why}")


def _hint(status: int) -> str:
    if status in (401, 403):
        return " (is the key in $HERDBOOK_COMPLETIONS_KEY right?)"
    return " (it must offer /v1/completions)" if status in (404, 405) else ""


def _stated_wait_s(text: str) -> float:
    try:
        return max(0.0, min(float(text), _LONGEST_WAIT_S))
    except ValueError:
        return 0.0


def _reason(body: bytes) -> str:
    """What the endpoint says of its refusal, in at most 300 characters."""
    text = body.decode("utf-8", "replace")
    try:
        error = json.loads(text)["error"]
        return str(error["message"] if isinstance(error, dict) else error)[:300]
    except (ValueError, KeyError, TypeError, RecursionError):
        return " ".join(text.split())[:300]


def _texts(body: bytes, endpoint: Endpoint) -> list[str]:
    try:
        choices = json.loads(body)["choices"]
        texts = [choice["text"] for choice in choices]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise HerdbookError(f"{endpoint.shown} answers what is no completion") from error
    if not texts or not all(isinstance(text, str) for text in texts):
        raise HerdbookError(f"{endpoint.shown} answers without a text")
    return texts

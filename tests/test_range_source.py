"""Ranges of a Hub's files: what is verified, tried again, waited for, and never told."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from crawler.answers import MAX_WAIT_S, check_range, wait_of
from crawler.client import Hub
from crawler.errors import (
    CrawlError,
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
from crawler.pace import Pace
from crawler.range_source import HubSource
from crawler.records import RepoRef
from faulty_hub import FaultyHub
from scripted_server import Asked, FastTime, Reply, ScriptedServer

REF = RepoRef("owner/name", "a" * 40)
PATH = "model.safetensors"
DATA = bytes(range(256)) * 4096
SPANS = [(i * 50_000, i * 50_000 + 100 + i) for i in range(20)]
TOKEN = "hf_thisisasecrettoken"

Do = Callable[["Scene"], Awaitable[object]]


def answer_well(asked: Asked, data: bytes = DATA, etag: str = '"e"') -> Reply:
    """What a good server answers."""
    if asked.method == "HEAD":
        return Reply(200, {"ETag": etag, "Content-Length": str(len(data))})
    start, stop = asked.span
    content_range = f"bytes {start}-{stop - 1}/{len(data)}"
    return Reply(206, {"Content-Range": content_range, "ETag": etag}, data[start:stop])


@dataclass
class Scene:
    """A Hub, where it keeps its files, and a source that reads them."""

    hub: ScriptedServer
    store: ScriptedServer
    client: Hub
    source: HubSource
    time: FastTime

    async def read(self, spans: list[tuple[int, int]] = SPANS, path: str = PATH) -> list[bytes]:
        return await self.source.read(REF, path, spans)

    def signed(self, asked: Asked, *, signature: str = "1", **headers: str) -> Reply:
        """The Hub's redirect to where the file is kept."""
        location = f"{self.store.endpoint}/{signature}/blob?sig=very%2Fsecret%3D"
        linked = {"X-Linked-Size": str(len(DATA)), "X-Linked-ETag": '"sha"', **headers}
        return Reply(302, {"Location": location, **linked})


def play(do: Do, *, token: str | None = None, stall_s: float = 5.0, **options: object) -> Scene:
    """Run something in a scene; afterwards nothing may be under way, and nothing open."""

    async def main() -> Scene:
        async with staged(token=token, stall_s=stall_s, **options) as scene:
            try:
                await do(scene)
            finally:
                await scene.source.aclose()
                # Only this task and the servers' connections are left, and those end by themselves.
                for server in (scene.hub, scene.store):
                    for _ in range(400):
                        if not server.n_open:
                            break
                        await asyncio.sleep(0.005)
                    assert server.n_open == 0
            await asyncio.sleep(0.001)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left
        return scene

    return asyncio.run(main())


@asynccontextmanager
async def staged(*, token: str | None, stall_s: float, **options: object) -> AsyncIterator[Scene]:
    hub, store, time = ScriptedServer(answer_well), ScriptedServer(answer_well), FastTime()
    async with hub.running(), store.running():
        client = Hub(hub.endpoint, token, sleep=time.sleep_now, clock=time.clock)
        source = HubSource(client, stall_s=stall_s, sleep=time.sleep, clock=time.clock, **options)
        yield Scene(hub, store, client, source, time)


def right(spans: list[tuple[int, int]] = SPANS, data: bytes = DATA) -> list[bytes]:
    return [data[start:stop] for start, stop in spans]


# One address, few connections.


def test_an_address_is_resolved_once_however_many_read_the_file():
    async def do(scene: Scene) -> None:
        await asyncio.gather(*(scene.read([span]) for span in SPANS))
        assert await scene.read() == right()

    scene = play(do)
    assert scene.hub.n_asked("HEAD") == 1
    assert scene.client.n_requests == 41


def test_few_addresses_are_remembered_the_last_used_ones(monkeypatch):
    async def do(scene: Scene) -> None:
        for path in ("a", "b", "a", "c", "a", "b"):
            assert await scene.read([(0, 1)], path) == [DATA[:1]]

    monkeypatch.setattr("crawler.range_source._MAX_ADDRESSES", 2)
    scene = play(do)
    heads = [asked.target[-1] for asked in scene.hub.asked if asked.method == "HEAD"]
    assert heads == ["a", "b", "c", "b"]


def test_connections_are_used_again():
    async def do(scene: Scene) -> None:
        for _ in range(5):
            assert await scene.read() == right()

    scene = play(do, max_concurrency=4)
    assert scene.hub.n_connections <= 4
    assert scene.hub.most_under_way <= 4


def test_neighbours_share_a_request_and_long_spans_are_read_in_parts():
    data = random.Random(0).randbytes(20 << 20)

    async def do(scene: Scene) -> None:
        scene.hub.answer = lambda asked: answer_well(asked, data)
        spans = [(3, 18 << 20), (19 << 20, (19 << 20) + 50), ((19 << 20) + 60, (19 << 20) + 70)]
        assert await scene.read(spans) == right(spans, data)

    scene = play(do)
    asked = sorted(asked.span for asked in scene.hub.asked if asked.method == "GET")
    assert [stop - start for start, stop in asked] == [8 << 20, 8 << 20, (2 << 20) - 3, 70]


def test_the_other_host_is_only_asked_for_ranges_and_its_address_is_used_as_it_was_signed():
    async def do(scene: Scene) -> None:
        scene.hub.answer = scene.signed
        assert await scene.read() == right()

    scene = play(do)
    assert scene.hub.n_asked("HEAD") == len(scene.hub.asked) == 1
    assert scene.store.n_asked("GET") == len(scene.store.asked) == len(SPANS)
    assert {asked.target for asked in scene.store.asked} == {"/1/blob?sig=very%2Fsecret%3D"}
    assert {asked.headers["accept-encoding"] for asked in scene.store.asked} == {"identity"}


def test_a_renamed_repository_is_followed_inside_the_hub():
    async def do(scene: Scene) -> None:
        def answer(asked: Asked) -> Reply:
            if asked.target.startswith("/owner/name/"):
                return Reply(307, {"Location": asked.target.replace("/owner/name/", "/new/name/")})
            return answer_well(asked)

        scene.hub.answer = answer
        assert await scene.read() == right()

    play(do)


def test_redirects_end():
    async def do(scene: Scene) -> None:
        scene.hub.answer = lambda asked: Reply(302, {"Location": asked.target})
        with pytest.raises(MalformedError, match="redirects"):
            await scene.read()

    assert len(play(do).hub.asked) == 5


@pytest.mark.parametrize(
    "location",
    ["ftp://elsewhere/x", "", "javascript:alert(1)", "http://[", "http://h:99999/", "http://h:x/"],
)
def test_a_redirect_to_nowhere_is_malformed(location):
    async def do(scene: Scene) -> None:
        scene.hub.answer = lambda asked: Reply(302, {"Location": location})
        with pytest.raises(MalformedError, match="nowhere"):
            await scene.read()

    play(do)


@pytest.mark.parametrize("stated", [{}, {"X-Linked-Size": "9" * 5000}, {"X-Linked-Size": "²"}])
def test_a_file_of_unknown_length_is_not_read(stated):
    async def do(scene: Scene) -> None:
        headers = {"ETag": '"e"', **stated}
        scene.hub.answer = lambda asked: Reply(200, headers, length=-1, then="close")
        with pytest.raises(MalformedError, match="how long"):
            await scene.read()

    play(do)


@pytest.mark.parametrize("length", ["²", "9" * 5000, "nine", ""])
def test_a_range_of_a_file_of_a_strange_length_is_refused(length):
    headers = {"content-range": f"bytes 0-9/{length}"}
    with pytest.raises(FileChangedError):
        check_range(206, headers, "http://h/x", 0, 10, 9)
    check_range(206, {"content-range": "bytes 0-9/*"}, "http://h/x", 0, 10, 99)
    check_range(206, {"content-range": "bytes 0-9/99"}, "http://h/x", 0, 10, 99)


@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": "²"},
        {"retry-after": "9" * 5000},
        {"retry-after": "Mon, 01 Jan 99999999999 00:00:00 GMT"},
        {"ratelimit": f'"resolvers";r=0;t={"9" * 5000}'},
    ],
)
def test_a_wait_that_nobody_can_wait_for_is_short_or_capped(headers):
    assert 0 <= wait_of(headers) <= MAX_WAIT_S


# Every answer is held against what was asked for.


def on_get(change: Callable[[Asked, Reply], Reply]) -> Callable[[Asked], Reply]:
    """Good answers, but for those to ranges."""

    def answer(asked: Asked) -> Reply:
        reply = answer_well(asked)
        return change(asked, reply) if asked.method == "GET" else reply

    return answer


def headed(reply: Reply, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return replace(reply, headers={**reply.headers, **named})


@pytest.mark.parametrize(
    ("change", "error", "n_tries"),
    [
        (lambda asked, reply: Reply(200, {}, DATA), RangeIgnoredError, 1),
        (lambda asked, reply: Reply(200, {"Content-Type": "text/html"}, b"<p>"), TruncatedError, 6),
        (lambda asked, reply: headed(reply, Content_Range="bytes 1-10/1048576"), MalformedError, 1),
        (lambda asked, reply: headed(reply, Content_Range="bytes 0-9/5"), FileChangedError, 2),
        (lambda asked, reply: headed(reply, Content_Encoding="gzip"), MalformedError, 1),
        (lambda asked, reply: Reply(206, {}, reply.body), MalformedError, 1),
        (lambda asked, reply: Reply(204, {}, b""), MalformedError, 1),
        (lambda asked, reply: replace(reply, body=reply.body + b"more"), MalformedError, 1),
        (lambda asked, reply: replace(reply, body=reply.body[:-1]), TruncatedError, 6),
        (
            lambda asked, reply: replace(reply, body=reply.body[:-1], length=10, then="close"),
            TruncatedError,
            6,
        ),
        (lambda asked, reply: Reply(416), FileChangedError, 2),
        (lambda asked, reply: Reply(500), ServerError, 6),
        (lambda asked, reply: Reply(404), NotFoundError, 1),
        (lambda asked, reply: Reply(403, {"X-Error-Code": "GatedRepo"}), GatedError, 1),
        (lambda asked, reply: Reply(302, {"Location": "/x"}), PermanentError, 2),
    ],
)
def test_answers_that_are_not_the_range_asked_for_are_refused(change, error, n_tries):
    async def do(scene: Scene) -> None:
        scene.hub.answer = on_get(change)
        with pytest.raises(error):
            await scene.read([(0, 10)])

    assert play(do).hub.n_asked("GET") == n_tries


def test_a_whole_file_is_not_received_because_a_range_was_asked_for():
    async def do(scene: Scene) -> None:
        scene.hub.answer = on_get(lambda asked, reply: Reply(200, {}, bytes(64 << 20)))
        with pytest.raises(RangeIgnoredError):
            await scene.read([(0, 10)])

    assert play(do).hub.bytes_sent < 16 << 20


def test_a_body_without_end_is_not_read_to_its_end():
    async def do(scene: Scene) -> None:
        scene.hub.answer = on_get(
            lambda asked, reply: replace(reply, body=bytes(64 << 20), length=-1, then="close")
        )
        with pytest.raises(MalformedError, match="longer"):
            await scene.read([(0, 1 << 20)])

    assert play(do).hub.bytes_sent < 16 << 20


def test_bytes_of_tries_that_failed_are_counted():
    async def do(scene: Scene) -> None:
        scene.hub.answer = on_get(
            lambda asked, reply: replace(reply, body=reply.body[:6]) if asked.n < 2 else reply
        )
        meter = scene.source.meter()
        assert await meter.read(REF, PATH, [(0, 10)]) == [DATA[:10]]
        assert (meter.bytes_read, meter.requests) == (22, 3)

    play(do)


# One state of a file.

OTHER = DATA[::-1]


def test_a_file_that_changes_between_two_ranges_is_read_anew():
    async def do(scene: Scene) -> None:
        state = {"n": 0}

        def answer(asked: Asked) -> Reply:
            state["n"] += asked.method == "GET"
            now = (DATA, '"e"') if state["n"] < 7 else (OTHER, '"f"')
            return answer_well(asked, *now)

        scene.hub.answer = answer
        assert await scene.read() == right(data=OTHER)

    assert play(do).hub.n_asked("HEAD") == 2


def test_a_file_that_keeps_changing_is_given_up():
    async def do(scene: Scene) -> None:
        scene.hub.answer = lambda asked: answer_well(asked, DATA, f'"{len(scene.hub.asked)}"')
        with pytest.raises(FileChangedError, match="changed"):
            await scene.read()

    assert play(do).hub.n_asked("HEAD") == 2


@pytest.mark.parametrize(
    ("data", "etag"), [(OTHER, '"f"'), (DATA + b"more", '"e"'), (DATA[:500_000], '"f"')]
)
def test_a_file_of_which_a_model_has_other_bytes_is_not_read_anew(data, etag):
    async def do(scene: Scene) -> None:
        meter, other = scene.source.meter(), scene.source.meter()
        assert await meter.read(REF, PATH, [(0, 10)]) == [DATA[:10]]
        scene.hub.answer = lambda asked: answer_well(asked, data, etag)
        for _ in range(2):
            with pytest.raises(FileChangedError):
                await meter.read(REF, PATH, [(400_000, 400_010)])
        assert await other.read(REF, PATH, [(0, 10)]) == [data[:10]]

    play(do)


def test_a_file_replaced_under_its_signed_address_is_noticed():
    async def do(scene: Scene) -> None:
        scene.hub.answer = scene.signed
        scene.store.answer = lambda asked: answer_well(
            asked, DATA, '"e"' if len(scene.store.asked) < 5 else '"f"'
        )
        meter = scene.source.meter()
        await meter.read(REF, PATH, [(0, 10)])
        with pytest.raises(FileChangedError):
            await meter.read(REF, PATH, SPANS)

    play(do)


def test_what_the_hub_calls_the_content_must_stay_too():
    async def do(scene: Scene) -> None:
        scene.hub.answer = scene.signed
        scene.store.answer = lambda asked: headed(answer_well(asked), X_Linked_ETag='"other"')
        with pytest.raises(FileChangedError):
            await scene.read([(0, 10)])

    play(do)


def test_weak_words_for_a_state_say_nothing_of_bytes():
    async def do(scene: Scene) -> None:
        scene.hub.answer = lambda asked: answer_well(asked, DATA, f'W/"{len(scene.hub.asked)}"')
        assert await scene.read() == right()

    play(do)


# Signed addresses expire.


@pytest.mark.parametrize("status", [401, 403, 410, 400, 404])
def test_an_address_that_expires_midway_is_resolved_once_more_for_all(status):
    async def do(scene: Scene) -> None:
        def sign(asked: Asked) -> Reply:
            return scene.signed(asked, signature=str(scene.hub.n_asked("HEAD")))

        def give(asked: Asked) -> Reply:
            expired = asked.target.startswith("/1/") and len(scene.store.asked) > 8
            return Reply(status) if expired else answer_well(asked)

        scene.hub.answer, scene.store.answer = sign, give
        meter = scene.source.meter()
        assert await meter.read(REF, PATH, SPANS) == right()
        assert await meter.read(REF, PATH, SPANS) == right()

    assert play(do).hub.n_asked("HEAD") == 2


def test_addresses_may_expire_again_and_again_as_long_as_each_serves():
    async def do(scene: Scene) -> None:
        scene.hub.answer = lambda asked: scene.signed(
            asked, signature=str(scene.hub.n_asked("HEAD"))
        )
        served: set[str] = set()

        def give(asked: Asked) -> Reply:
            if asked.target in served:
                return Reply(403)
            served.add(asked.target)
            return answer_well(asked)

        scene.store.answer = give
        for span in SPANS:
            assert await scene.read([span]) == right([span])

    assert play(do).hub.n_asked("HEAD") == len(SPANS)


def test_a_fresh_address_that_is_refused_too_is_an_error_without_its_signature():
    async def do(scene: Scene) -> None:
        scene.hub.answer = scene.signed
        scene.store.answer = lambda asked: Reply(403)
        with pytest.raises(PermanentError, match="403") as refused:
            await scene.read([(0, 10)])
        assert "very" not in repr((refused.value, refused.value.__cause__))

    assert play(do).hub.n_asked("HEAD") == 2


@pytest.mark.parametrize(
    ("data", "content"), [(OTHER, '"other"'), (OTHER + b"more", '"sha"')], ids=["words", "length"]
)
def test_a_read_is_not_continued_from_a_fresh_address_of_another_file(data, content):
    async def do(scene: Scene) -> None:
        def sign(asked: Asked) -> Reply:
            n = scene.hub.n_asked("HEAD")
            headers = {"X-Linked-ETag": content, "X-Linked-Size": str(len(data))} if n > 1 else {}
            return scene.signed(asked, signature=str(n), **headers)

        def give(asked: Asked) -> Reply:
            if not asked.target.startswith("/1/"):
                return answer_well(asked, data, "")
            return Reply(403) if scene.store.n_asked("GET") > 3 else answer_well(asked, DATA, "")

        scene.hub.answer, scene.store.answer = sign, give
        assert await scene.read() == right(data=data)

    play(do, max_concurrency=1)


def test_a_range_that_is_refused_late_takes_the_address_that_another_found():
    async def do(scene: Scene) -> None:
        both = asyncio.Event()

        async def give(asked: Asked) -> Reply:
            fresh = asked.target.startswith("/2/")
            if fresh and asked.span != (0, 10):
                both.set()  # the late one came, too, before the fresh address served anybody
            if fresh:
                await both.wait()
                return answer_well(asked)
            while asked.span != (0, 10) and scene.store.n_asked("GET") < 3:
                await asyncio.sleep(0.001)
            return Reply(403)

        scene.hub.answer = lambda asked: scene.signed(
            asked, signature=str(scene.hub.n_asked("HEAD"))
        )
        scene.store.answer = give
        assert await scene.read([(0, 10), (90_000, 90_010)]) == right([(0, 10), (90_000, 90_010)])

    assert play(do).hub.n_asked("HEAD") == 2


def test_long_signatures_are_taken():
    async def do(scene: Scene) -> None:
        scene.hub.answer = lambda asked: scene.signed(asked, signature="s" * 20_000)
        assert await scene.read([(0, 10)]) == [DATA[:10]]

    play(do)


def test_an_answer_that_is_no_http_is_an_error_without_the_signature():
    async def do(scene: Scene) -> None:
        scene.hub.answer = scene.signed
        scene.store.answer = lambda asked: Reply(206, {"Content-Length": "many"})
        with pytest.raises(TruncatedError, match="broke") as refused:
            await scene.read([(0, 10)])
        assert "very" not in repr((refused.value, refused.value.__cause__))

    assert play(do).store.n_asked("GET") == 6


def test_a_fresh_address_of_another_file_is_refused():
    async def do(scene: Scene) -> None:
        def sign(asked: Asked) -> Reply:
            return scene.signed(asked, **({"X-Linked-ETag": '"other"'} if asked.n else {}))

        scene.hub.answer = sign
        scene.store.answer = lambda asked: (
            Reply(403) if len(scene.store.asked) == 2 else answer_well(asked)
        )
        meter = scene.source.meter()
        await meter.read(REF, PATH, [(0, 10)])
        with pytest.raises(FileChangedError):
            await meter.read(REF, PATH, [(10, 20)])

    play(do)


# What is told to whom.


def test_the_token_goes_to_the_hub_alone():
    async def do(scene: Scene) -> None:
        scene.hub.answer = scene.signed
        await scene.read()

    scene = play(do, token=TOKEN)
    assert {a.headers.get("authorization") for a in scene.hub.asked} == {f"Bearer {TOKEN}"}
    assert {a.headers.get("authorization") for a in scene.store.asked} == {None}


@pytest.mark.parametrize("where", ["location", "body", "error", "message"])
def test_a_token_that_a_server_quotes_stands_in_no_error_and_goes_nowhere(where, caplog):
    async def do(scene: Scene) -> None:
        def answer(asked: Asked) -> Reply:
            if where == "location":
                return Reply(302, {"Location": f"{scene.store.endpoint}/x?t={TOKEN}"})
            if where == "message":
                return Reply(404, {"X-Error-Message": f"no {TOKEN} here"})
            if asked.method == "HEAD":
                return answer_well(asked)
            if where == "error":
                return Reply(206, {"Content-Range": TOKEN})
            return replace(answer_well(asked), body=TOKEN.encode())

        scene.hub.answer = answer
        with pytest.raises(CrawlError) as refused:
            await scene.source.read(REF, PATH, [(0, len(TOKEN))])
        assert TOKEN not in repr((refused.value, refused.value.__cause__))

    with caplog.at_level(logging.DEBUG):
        scene = play(do, token=TOKEN)
    assert scene.store.asked == []
    assert TOKEN not in caplog.text


def test_no_signature_is_logged(caplog):
    async def do(scene: Scene) -> None:
        scene.hub.answer = scene.signed
        scene.store.answer = lambda asked: Reply(500) if asked.n == 0 else answer_well(asked)
        await scene.read()

    with caplog.at_level(logging.DEBUG):
        play(do)
    assert "very" not in caplog.text


# Tries and waits.


@pytest.mark.parametrize(
    ("status", "headers", "wait_s"),
    [
        (429, {"Retry-After": "7"}, 7.0),
        (429, {"RateLimit": '"api";r=0;t=9'}, 9.0),
        (503, {"Retry-After": "3"}, 3.0),
        (429, {"Retry-After": "99999"}, 300.0),
    ],
)
def test_everybody_waits_as_long_as_the_server_asks(status, headers, wait_s):
    async def do(scene: Scene) -> None:
        refused_at: list[float] = []
        asked_at: list[float] = []

        def answer(asked: Asked) -> Reply:
            if asked.method == "GET" and not refused_at:
                refused_at.append(scene.time.clock())
                return Reply(status, headers)
            if refused_at:
                asked_at.append(scene.time.clock())
            return answer_well(asked)

        scene.hub.answer = answer
        assert await scene.read() == right()
        late = [at for at in asked_at if at >= refused_at[0] + wait_s]
        # But for those that were under way when the refusal came.
        assert len(late) >= len(SPANS) - 8

    play(do)


def test_a_server_that_is_overloaded_in_bursts_is_read_in_the_end_and_asked_less_at_once():
    async def do(scene: Scene) -> None:
        def answer(asked: Asked) -> Reply:
            overloaded = asked.method == "GET" and scene.hub.n_under_way > 3
            return Reply(503) if overloaded else answer_well(asked)

        async def slowly(asked: Asked) -> Reply:
            reply = answer(asked)
            await asyncio.sleep(0.003)
            return reply

        scene.hub.answer = slowly
        spans = [(i * 8192, i * 8192 + 10) for i in range(100)]
        assert await scene.read(spans) == right(spans)

    scene = play(do, max_concurrency=64)
    refused = scene.hub.n_asked("GET") - 100
    assert 0 < refused < 100
    assert scene.hub.most_under_way <= 16


def test_rate_limits_that_never_end_are_reported_as_such():
    async def do(scene: Scene) -> None:
        scene.hub.answer = lambda asked: Reply(429, {"Retry-After": "1"})
        with pytest.raises(RateLimitedError):
            await scene.read()

    assert len(play(do).hub.asked) == 6


def test_a_connection_that_is_reset_is_tried_again():
    async def do(scene: Scene) -> None:
        scene.hub.answer = on_get(
            lambda asked, reply: (
                replace(reply, body=reply.body[:5], length=len(reply.body), then="reset")
                if asked.n < 2
                else reply
            )
        )
        assert await scene.read() == right()

    play(do)


def test_a_server_that_cannot_be_reached_is_an_error_after_all_tries():
    async def do(scene: Scene) -> None:
        nobody = Hub("http://127.0.0.1:9", sleep=scene.time.sleep_now, clock=scene.time.clock)
        async with HubSource(nobody, sleep=scene.time.sleep, clock=scene.time.clock) as source:
            with pytest.raises(ServerError, match="cannot reach"):
                await source.read(REF, PATH, [(0, 1)])
        assert len(set(scene.time.slept)) == 5
        assert all(0 <= wait <= 0.5 * 2**i for i, wait in enumerate(scene.time.slept))

    play(do)


def test_nothing_is_asked_when_the_client_is_told_to_stay_offline(monkeypatch):
    async def do(scene: Scene) -> None:
        with pytest.raises(PermanentError, match="offline"):
            await scene.read()

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert play(do).hub.asked == []


@pytest.mark.parametrize("length", [10, None])
def test_a_server_that_stalls_is_given_up(length):
    async def do(scene: Scene) -> None:
        body = b"" if length is None else DATA[:5]

        async def answer(asked: Asked) -> Reply:
            if asked.method == "GET" and length is None:
                await asyncio.sleep(0.2)
            return replace(answer_well(asked), body=body, length=10, then="stall")

        scene.hub.answer = lambda asked: (
            answer(asked) if asked.method == "GET" else answer_well(asked)
        )
        with pytest.raises(ServerError, match="stalled"):
            await scene.read([(0, 10)])

    assert play(do, stall_s=0.05).hub.n_asked("GET") == 6


def test_a_server_that_drips_its_headers_is_given_up():
    async def do(scene: Scene) -> None:
        scene.hub.answer = on_get(lambda asked, reply: replace(reply, then="drip head"))
        with pytest.raises(ServerError, match="stalled"):
            await scene.read([(0, 10)])

    assert play(do, stall_s=0.1).hub.n_asked("GET") == 6


def test_a_server_that_drips_is_given_up():
    async def do(scene: Scene) -> None:
        scene.hub.answer = on_get(lambda asked, reply: replace(reply, then="drip"))
        with pytest.raises(ServerError, match="stalled"):
            await scene.read([(0, 1000)])

    assert play(do, patience_s=0.03).hub.n_asked("GET") == 6


def test_a_stalled_range_is_read_by_another_try():
    async def do(scene: Scene) -> None:
        scene.hub.answer = on_get(
            lambda asked, reply: (
                replace(reply, body=b"", length=len(reply.body), then="stall")
                if asked.n == 0 and asked.span == SPANS[3]
                else reply
            )
        )
        assert await scene.read() == right()

    play(do, stall_s=0.1)


def test_a_server_that_stalled_is_asked_less_at_once():
    async def do(scene: Scene) -> None:
        async def slowly(asked: Asked) -> Reply:
            await asyncio.sleep(0.01)
            return answer_well(asked)

        def answer(asked: Asked) -> Reply | Awaitable[Reply]:
            if asked.method == "GET" and scene.hub.n_asked("GET") <= 8:
                return replace(answer_well(asked), body=b"", length=10, then="stall")
            if scene.hub.n_asked("GET") == 9:
                scene.hub.most_under_way = 0
            return slowly(asked)

        scene.hub.answer = answer
        assert await scene.read(SPANS[:12]) == right(SPANS[:12])

    assert play(do, stall_s=0.1).hub.most_under_way <= 5


def test_who_stops_waiting_leaves_nothing_behind():
    async def do(scene: Scene) -> None:
        scene.hub.answer = on_get(
            lambda asked, reply: replace(reply, body=b"", length=10, then="stall")
        )
        reading = asyncio.create_task(scene.read())
        while scene.hub.n_asked("GET") < 4:
            await asyncio.sleep(0.005)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        scene.hub.answer = answer_well
        assert await scene.read() == right()

    play(do)


def test_who_stops_waiting_for_an_address_leaves_it_to_the_others():
    async def do(scene: Scene) -> None:
        go = asyncio.Event()

        async def answer(asked: Asked) -> Reply:
            await go.wait()
            return answer_well(asked)

        scene.hub.answer = answer
        first, second = (asyncio.create_task(scene.read([span])) for span in SPANS[:2])
        while not scene.hub.asked:
            await asyncio.sleep(0.005)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        go.set()
        assert await second == right(SPANS[1:2])
        third = asyncio.create_task(scene.read([(0, 1)], "other.safetensors"))
        go.clear()
        while scene.hub.n_asked("HEAD") < 2:
            await asyncio.sleep(0.005)
        third.cancel()
        assert (await asyncio.wait({third}, timeout=1))[0] == {third}
        go.set()
        assert await scene.read([(0, 1)], "other.safetensors") == [DATA[:1]]

    play(do)


def test_the_first_error_ends_the_other_ranges_of_a_read():
    async def do(scene: Scene) -> None:
        scene.hub.answer = on_get(
            lambda asked, reply: (
                Reply(404)
                if asked.span == SPANS[5]
                else replace(reply, body=b"", length=len(reply.body), then="stall")
            )
        )
        with pytest.raises(NotFoundError):
            await scene.read()

    play(do)


# Budgets.


class Windows:
    """A Hub that counts requests in windows and refuses those beyond."""

    def __init__(self, time: FastTime, quota: int, window_s: int, *, says: bool = True) -> None:
        self.time, self.quota, self.window_s, self.says = time, quota, window_s, says
        self.spent: dict[int, int] = {}

    def headers(self) -> dict[str, str]:
        now = self.time.clock()
        window = int(now // self.window_s)
        self.spent[window] = self.spent.get(window, 0) + 1
        left = max(0, self.quota - self.spent[window])
        until = int((window + 1) * self.window_s - now) + 1
        return {"RateLimit": f'"resolvers";r={left};t={until}'} if self.says else {}


@pytest.mark.parametrize("quota", [1, 3, 10])
def test_the_budget_of_addresses_is_waited_for_and_never_exceeded(quota):
    async def do(scene: Scene) -> None:
        windows = Windows(scene.time, quota, 300)

        async def sign(asked: Asked) -> Reply:
            headers = windows.headers()
            await asyncio.sleep(random.Random(asked.target).uniform(0, 0.01))
            return scene.signed(asked, **headers)

        scene.hub.answer = sign
        paths = [f"{i}.safetensors" for i in range(25)]
        found = await asyncio.gather(*(scene.read([(0, 3)], path) for path in paths))
        assert found == [[DATA[:3]]] * 25
        assert sum(windows.spent.values()) == 25
        assert max(windows.spent.values()) <= quota

    play(do)


def test_ranges_of_another_host_are_read_while_the_budget_is_used_up():
    async def do(scene: Scene) -> None:
        scene.hub.answer = lambda asked: scene.signed(asked, RateLimit='"resolvers";r=0;t=250')
        scene.store.answer = lambda asked: headed(
            answer_well(asked), RateLimit='"resolvers";r=0;t=250'
        )
        assert await scene.read() == right()
        assert scene.time.slept == []
        assert await scene.read([(0, 1)], "other.safetensors") == [DATA[:1]]
        assert sum(scene.time.slept) > 200

    play(do)


def test_a_window_that_ends_while_a_body_comes_holds_nobody_up():
    async def do(scene: Scene) -> None:
        scene.hub.answer = lambda asked: replace(
            headed(answer_well(asked), RateLimit='"resolvers";r=50;t=1'),
            then="drip" if asked.method == "GET" else "keep",
        )
        await scene.read([(0, 1)])
        scene.time.sleep_now(5)
        first = asyncio.create_task(scene.read([(0, 50)]))
        while not scene.client.budgets():
            await asyncio.sleep(0.005)
        scene.time.sleep_now(5)
        assert await asyncio.wait_for(scene.read([(0, 5)]), 5) == [DATA[:5]]
        assert not first.done()
        assert await first == [DATA[:50]]

    play(do)


def test_asynchronous_requests_spend_the_budget_of_the_other_client():
    async def do(scene: Scene) -> None:
        scene.hub.answer = lambda asked: headed(
            answer_well(asked), RateLimit='"resolvers";r=5;t=100'
        )
        await scene.read([(0, 1)])
        (budget,) = scene.client.budgets()
        assert budget.remaining == 4  # a fresh word of five, and one request since the first
        assert scene.client.n_requests == 2

    play(do)


# The pace.


def paced(most: int = 64) -> tuple[Pace, list[float]]:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    return Pace(most, clock=lambda: float(sum(slept)), sleep=sleep), slept


def test_a_host_that_answers_is_asked_more_at_once_up_to_the_bound():
    async def main() -> None:
        pace, _ = paced(20)
        for _ in range(100):
            numbers = [await pace.enter() for _ in range(int(pace.limit))]
            for _ in numbers:
                pace.succeeded()
                pace.leave()
        assert pace.limit == 20

    asyncio.run(main())


def test_who_asks_little_earns_nothing():
    async def main() -> None:
        pace, _ = paced()
        for _ in range(100):
            await pace.enter()
            pace.succeeded()
            pace.leave()
        assert pace.limit == 8

    asyncio.run(main())


def test_an_overload_halves_once_for_all_that_were_under_way_and_then_grows_slowly():
    async def main() -> None:
        pace, slept = paced()
        numbers = [await pace.enter() for _ in range(8)]
        for number in numbers:
            pace.overloaded(number, 5.0)
            pace.leave()
        assert pace.limit == 4
        for _ in range(4):
            await pace.enter()
        assert slept == [5.0]
        pace.succeeded()
        assert pace.limit == 4.25
        for _ in range(10):
            pace.overloaded(pace._n_admitted)
            pace._n_admitted += 1
        assert pace.limit == 1
        with pytest.raises(ValueError, match="at least one"):
            paced(0)

    asyncio.run(main())


def test_requests_are_admitted_in_turn_and_who_gives_up_keeps_no_place():
    async def main() -> None:
        pace, _ = paced(2)
        admitted: list[int] = []

        async def one(i: int) -> None:
            await pace.enter()
            admitted.append(i)

        tasks = [asyncio.create_task(one(i)) for i in range(8)]
        await asyncio.sleep(0)
        assert admitted == [0, 1]
        tasks[2].cancel()
        await asyncio.sleep(0)
        pace.leave()  # admits 3, which gives up in the same moment
        tasks[3].cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert admitted == [0, 1, 4]
        for _ in range(3):
            pace.leave()
            await asyncio.sleep(0)
        assert admitted == [0, 1, 4, 5, 6, 7]
        pace.leave()
        pace.leave()
        assert pace.under_way == 0
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())


def test_who_comes_late_does_not_pass_those_that_wait():
    async def main() -> None:
        pace, _ = paced(9)
        for _ in range(8):
            await pace.enter()
        admitted: list[str] = []

        async def one(name: str) -> None:
            await pace.enter()
            admitted.append(name)

        first = asyncio.create_task(one("first"))
        await asyncio.sleep(0)
        pace.succeeded()  # one place more, which is given away with the next that is left
        late = asyncio.create_task(one("late"))
        await asyncio.sleep(0)
        assert admitted == []
        pace.leave()
        await asyncio.gather(first, late)
        assert admitted == ["first", "late"]

    asyncio.run(main())


def test_who_gives_up_in_a_pause_keeps_no_place():
    async def main() -> None:
        pace = Pace(1, clock=lambda: 0.0, sleep=asyncio.sleep)
        pace.overloaded(await pace.enter(), 60.0)
        pace.leave()
        paused = asyncio.create_task(pace.enter())
        await asyncio.sleep(0)
        assert pace.under_way == 1
        paused.cancel()
        await asyncio.gather(paused, return_exceptions=True)
        assert pace.under_way == 0

    asyncio.run(main())


# Everything at once.


@pytest.mark.parametrize("seed", range(3))
def test_faults_of_every_kind_leave_no_trace_in_what_is_read(tmp_path: Path, seed: int):
    rng = random.Random(seed)
    files = {f"{i}.safetensors": rng.randbytes(60_000) for i in range(6)}
    (tmp_path / REF.repo_id).mkdir(parents=True)
    for path, data in files.items():
        (tmp_path / REF.repo_id / path).write_bytes(data)
    models = {"models": {REF.repo_id: {"revision": REF.revision}}}
    (tmp_path / "hub.json").write_text(json.dumps(models))
    kinds = (
        "429 with seconds", "429 with a date", "429 with a budget alone", "429 without a word",
        "500", "502", "503", "cut body", "half a page", "HTML", "drip", "closed",
    )  # fmt: skip
    time = FastTime()

    async def main(endpoint: str) -> None:
        client = Hub(endpoint, sleep=time.sleep_now, clock=time.clock)
        async with HubSource(
            client, sleep=time.sleep, clock=time.clock, patience_s=0.3, stall_s=5.0
        ) as source:

            async def read(path: str) -> None:
                spans = [(i * 9000, i * 9000 + 500) for i in range(6)]
                meter = source.meter()
                for _ in range(2):
                    assert await meter.read(REF, path, spans) == right(spans, files[path])

            await asyncio.gather(*map(read, files))

    with FaultyHub().running() as faulty, faulty.before(tmp_path):
        faulty.misbehave(*kinds, seed=seed, share=0.7)
        asyncio.run(main(faulty.endpoint))
        assert len(faulty.injected) > 6

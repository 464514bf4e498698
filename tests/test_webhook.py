"""Webhooks: what is let in, what is refused, what is queued, and what the book takes from it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler import webhook
from crawler.errors import MalformedError
from crawler.webhook import MAX_BODY_BYTES, EventAction, WebhookReceiver, is_secret, parse_payload
from lineage.cli import main
from lineage.errors import HerdbookError, UsageError
from lineage.pipeline.webhook import (
    SECRET_VARIABLE,
    Inbox,
    drain_inbox,
    make_webhook_app,
    read_secret,
    serve_webhook,
)
from lineage.store.home import Home

SECRET = b"Sesame-0123456789-open"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SHA = "c379e821c9c95d613899e8c4343e4bfee2b0c600"


def payload(name="ann/base", *, action="update", scope="repo.content", kind="model", **more):
    said = {
        "event": {"action": action, "scope": scope},
        "repo": {
            "type": kind,
            "name": name,
            "id": "6366c000a2abcdf2fd69a080",
            "private": False,
            "url": {"web": f"https://hub.example/{name}"},
            "headSha": SHA,
            "tags": ["license:other"],
            "owner": {"id": "61d2000c3c2083e1c08af22d"},
        },
        "webhook": {"id": "6390e855e30d9209411de93b", "version": 3},
        "updatedRefs": [{"ref": "refs/heads/main", "oldSha": None, "newSha": SHA}],
    }
    said.update(more)
    return said


def encoded(said) -> bytes:
    return said if isinstance(said, bytes) else json.dumps(said).encode()


class Caller:
    """Calls an ASGI app as a server would; counts the chunks that the app asked for."""

    def __init__(self, app):
        self.app = app
        self.read = 0

    def __call__(self, said=b"", *, method="POST", path="/webhook", secret=SECRET, chunks=None,
                 headers: Mapping[str, str] | None = None):  # fmt: skip
        body = encoded(said)
        sent = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        if secret is not None:
            sent["X-Webhook-Secret"] = secret.decode("latin-1")
        sent.update(headers or {})
        pairs = [(k.lower().encode(), v.encode("latin-1")) for k, v in sent.items()]
        waiting = list(chunks if chunks is not None else [body])
        answers = []

        async def receive():
            self.read += 1
            if not waiting:
                await asyncio.sleep(3600)  # the sender says no more
            chunk = waiting.pop(0)
            if chunk is None:
                return {"type": "http.disconnect"}
            more = bool(waiting) or chunks is not None
            return {"type": "http.request", "body": chunk, "more_body": more}

        async def send(message):
            answers.append(message)

        scope = {"type": "http", "method": method, "path": path, "headers": pairs}
        asyncio.run(self.app(scope, receive, send))
        if not answers:
            return None, {}, b""
        start, end = answers
        return start["status"], dict(start["headers"]), end["body"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def call(home: Home, lines: list[str]) -> Caller:
    return Caller(make_webhook_app(home, SECRET, log=lines.append, now=lambda: NOW))


def queued(home: Home) -> list[dict[str, object]]:
    spool = Inbox(home).spool
    return [json.loads(line) for line in spool.read_text().splitlines()] if spool.exists() else []


def wanted(home: Home) -> dict[str, datetime]:
    with contextlib.closing(home.open_working()) as connection:
        rows = connection.execute("SELECT repo_id, wanted_at FROM repository ORDER BY ALL")
        return dict(rows.fetchall())


def drain(home: Home, now: datetime = NOW + timedelta(days=1)) -> int:
    with contextlib.closing(home.open_working()) as connection:
        return drain_inbox(home, connection, now=now)


# The payload.


def test_an_event_about_a_model_is_read():
    event = parse_payload(encoded(payload()))
    assert (event.action, event.repo_id, event.moved_to) == (EventAction.UPDATE, "ann/base", None)
    assert event.concerns_model
    assert not event.private


def test_a_move_names_both_ids():
    event = parse_payload(
        encoded(payload(action="move", scope="repo", movedTo={"name": "bob/base"}))
    )
    assert (event.repo_id, event.moved_to) == ("ann/base", "bob/base")


def test_a_scope_that_is_not_known_yet_is_an_update():
    event = parse_payload(encoded(payload(action="create", scope="repo.config.dois")))
    assert (event.action, event.concerns_model) == (EventAction.UPDATE, True)


@pytest.mark.parametrize(
    "said",
    [
        payload(kind="dataset"),
        payload(kind="something new"),
        payload(scope="discussion", action="create"),
        payload(scope="repository"),
        payload(updatedRefs=[{"ref": "refs/pr/1", "oldSha": None, "newSha": SHA}]),
    ],
    ids=["data set", "unknown type", "discussion", "other scope", "pull request"],
)
def test_what_changes_no_model_is_answered_and_ignored(said, call, home, lines):
    status, _, body = call(said)
    assert (status, json.loads(body)) == (202, {"status": "ignored"})
    assert queued(home) == []
    assert lines[0].startswith("202 ignored")


@pytest.mark.parametrize(
    "said",
    [
        b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 60_000, b"1" * 60_000,
        {}, payload(event=None), payload(event={"action": "explode", "scope": "repo"}),
        payload(event={"action": "update", "scope": 7}), payload(repo=[]),
        payload("../../etc/passwd"), payload("ann/base\n"), payload("a" * 10_000),
        payload("ann/\x1b[31mred"), payload("ann/b'; DROP TABLE run; --"), payload(7),
        payload(action="move", scope="repo"),
        payload(action="move", scope="repo", movedTo={"name": "../up"}),
        payload(updatedRefs="main"), payload(updatedRefs=[1]),
        payload(updatedRefs=[{"ref": "x"}] * 1001),
    ],
)  # fmt: skip
def test_what_is_no_payload_is_refused_and_not_queued(said, call, home):
    with pytest.raises(MalformedError) as refused:
        parse_payload(encoded(said))
    status, _, body = call(said)
    assert (status, json.loads(body)) == (400, {"error": str(refused.value)})
    assert queued(home) == []


@pytest.mark.parametrize("depth", [10, 900, 970, 985, 990, 995, 1000, 5000])
def test_nesting_of_any_depth_is_read_or_refused(depth, call):
    deep = b'{"a":' * depth + b"1" + b"}" * depth
    body = encoded(payload(updatedConfig="DEEP")).replace(b'"DEEP"', deep)
    assert call(body)[0] in ((202,) if depth == 10 else (202, 400))


# Who may send, and how much.


def test_an_accepted_event_is_one_line_on_disk(call, home, lines):
    status, headers, body = call(payload())
    assert (status, json.loads(body)) == (202, {"status": "queued"})
    assert headers[b"content-type"] == b"application/json"
    assert queued(home) == [
        {"id": "ann/base", "action": "update", "time": NOW.isoformat(), "private": False}
    ]
    assert lines == ["202 queued update ann/base"]


@pytest.mark.parametrize(
    "given", [None, b"", b"wrong", SECRET + b"x", SECRET[:-1], SECRET.lower(), b"\xff"]
)
def test_a_wrong_secret_is_refused_before_the_body_is_read(given, call, home):
    status, headers, body = call(payload(), secret=given)
    assert status == 401
    assert call.read == 0
    assert headers[b"connection"] == b"close"
    assert queued(home) == []
    assert SECRET not in body


def test_two_secrets_are_no_secret(call):
    scope_headers = [(b"x-webhook-secret", SECRET), (b"x-webhook-secret", b"other")]
    answers = []

    async def send(message):
        answers.append(message)

    scope = {"type": "http", "method": "POST", "path": "/webhook", "headers": scope_headers}
    asyncio.run(call.app(scope, None, send))
    assert answers[0]["status"] == 401


@pytest.mark.parametrize("given", [b"", b"short", SECRET, b"x" * 10_000])
def test_secrets_are_compared_in_constant_time_at_equal_length(given, monkeypatch):
    compared = []

    def compare(a, b):
        compared.append((a, b))
        return a == b

    monkeypatch.setattr(webhook.hmac, "compare_digest", compare)
    assert is_secret(given, SECRET) is (given == SECRET)
    ((a, b),) = compared
    assert len(a) == len(b) == 32


def test_a_missing_secret_takes_the_same_way_as_a_wrong_one(call, monkeypatch):
    compared = []
    monkeypatch.setattr(webhook.hmac, "compare_digest", lambda a, b: bool(compared.append(a)))
    call(payload(), secret=None)
    call(payload(), secret=b"wrong")
    assert len(compared) == 2


def test_there_is_no_receiver_without_a_secret():
    with pytest.raises(ValueError, match="secret"):
        WebhookReceiver(b"", lambda event: None)


@pytest.mark.parametrize("kind", ["text/plain", "application/jsonx", "", "multipart/form-data"])
def test_other_content_is_refused(kind, call):
    assert call(payload(), headers={"Content-Type": kind})[0] == 415
    assert call.read == 0


def test_json_with_a_charset_is_welcome(call):
    assert call(payload(), headers={"Content-Type": "Application/JSON; charset=utf-8"})[0] == 202


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_only_posts_are_taken(method, call):
    status, headers, _ = call(method=method)
    assert (status, headers[b"allow"]) == (405, b"POST")


def test_health_needs_no_secret_and_other_paths_do_not_exist(call):
    assert call(method="GET", path="/health", secret=None)[::2] == (200, b'{"status": "ok"}')
    assert call(method="HEAD", path="/health", secret=None)[::2] == (200, b"")
    assert call(method="POST", path="/health")[0] == 405
    assert call(method="GET", path="/docs")[0] == 404


def test_a_long_body_is_refused_by_its_stated_length_unread(call):
    for length in (str(MAX_BODY_BYTES + 1), "9" * 5000):
        assert call(payload(), headers={"Content-Length": length})[0] == 413
    assert call.read == 0


def test_a_long_body_without_a_length_is_not_read_to_its_end(call, home):
    chunk = b" " * 16_384
    status, _, _ = call(chunks=[chunk] * 1000, headers={"Content-Length": ""})
    assert status == 413
    assert call.read == MAX_BODY_BYTES // len(chunk) + 1


def test_the_longest_body_is_accepted(call, home):
    body = encoded(payload())
    assert call(body + b" " * (MAX_BODY_BYTES - len(body)))[0] == 202
    assert call(body + b" " * (MAX_BODY_BYTES - len(body) + 1))[0] == 413


def test_a_slow_body_times_out(home):
    accepted = []
    call = Caller(WebhookReceiver(SECRET, accepted.append, body_timeout_s=0.02))
    assert call(chunks=[b"{"])[0] == 408
    assert accepted == []


def test_a_sender_that_leaves_is_not_answered(call, home, lines):
    assert call(chunks=[b"{", None]) == (None, {}, b"")
    assert queued(home) == []
    assert lines == ["--- disconnected"]


def test_more_requests_than_allowed_are_told_when_to_come_again():
    now = [0.0]
    accepted = []
    call = Caller(WebhookReceiver(SECRET, accepted.append, max_per_minute=3, clock=lambda: now[0]))
    for n in range(3):
        now[0] = float(n)
        call(payload(f"ann/m{n}"), secret=SECRET if n else b"wrong")
    now[0] = 10.5
    status, headers, _ = call(payload("ann/m9"))
    assert (status, headers[b"retry-after"]) == (429, b"50")
    assert len(accepted) == 2
    now[0] = 60.0
    assert call(payload("ann/m9"))[0] == 202
    assert call(payload("ann/m10"))[0] == 429


# Replays.


def test_a_replay_is_answered_and_does_nothing(call, home):
    assert json.loads(call(payload())[2]) == {"status": "queued"}
    assert (call(payload())[0], len(queued(home))) == (202, 1)
    other = payload(repo={**payload()["repo"], "headSha": "0" * 40})
    assert json.loads(call(other)[2]) == {"status": "queued"}
    assert len(queued(home)) == 2


def test_the_order_of_keys_does_not_make_an_event_new(call, home):
    said = payload()
    call(said)
    call(dict(reversed(said.items())))
    assert len(queued(home)) == 1


def test_only_so_many_events_are_remembered_least_recently_seen_first():
    accepted = []
    call = Caller(WebhookReceiver(SECRET, accepted.append, max_remembered=2))
    for name in ("a/a", "a/b", "a/a", "a/c", "a/a", "a/b"):
        call(payload(name))
    assert [event.repo_id for event in accepted] == ["a/a", "a/b", "a/c", "a/b"]


def test_a_setting_may_change_back_and_forth():
    now = [0.0]
    accepted = []
    call = Caller(WebhookReceiver(SECRET, accepted.append, briefly_s=60, clock=lambda: now[0]))
    said = payload(scope="repo.config", updatedRefs=None, updatedConfig={})
    for now[0] in (0.0, 30.0, 200.0):
        call(said)
    assert len(accepted) == 2


def test_an_event_that_could_not_be_kept_may_be_sent_again(home, lines):
    def full(event):
        raise OSError(28, "No space left on device", "/secret/path")

    app = WebhookReceiver(SECRET, full, log=lines.append)
    call = Caller(app)
    for _ in range(2):
        status, headers, body = call(payload())
        assert (status, headers[b"retry-after"]) == (503, b"300")
        assert b"path" not in body
    assert lines[0] == "503 not kept update ann/base: No space left on device"


# The queue.


def event_of(name="ann/base", **more):
    return parse_payload(encoded(payload(name, **more)))


def test_a_full_inbox_refuses_until_it_is_emptied(home):
    inbox = Inbox(home, max_bytes=200)
    inbox.append(event_of(), NOW)
    inbox.append(event_of(), NOW)
    with pytest.raises(OSError, match="full"):
        inbox.append(event_of(), NOW)
    drain(home)
    inbox.append(event_of(), NOW)
    assert len(queued(home)) == 1


def test_draining_asks_for_known_and_unknown_repositories(home):
    with contextlib.closing(home.open_working()) as connection:
        connection.execute(
            "INSERT INTO repository (repo_id, first_seen, listed_at, status, state)"
            " VALUES ('ann/known', $1, $1, 'gated', 7)", [NOW - timedelta(days=9)],
        )  # fmt: skip
    inbox = Inbox(home)
    for n, name in enumerate(("ann/known", "ann/new", "ann/known")):
        inbox.append(event_of(name), NOW + timedelta(hours=n))
    assert drain(home) == 2
    assert wanted(home) == {
        "ann/known": NOW + timedelta(hours=2),
        "ann/new": NOW + timedelta(hours=1),
    }
    with contextlib.closing(home.open_working()) as connection:
        rows = connection.execute(
            "SELECT repo_id, status, state, first_seen FROM repository ORDER BY ALL"
        ).fetchall()
    assert rows == [
        ("ann/known", "gated", 7, NOW - timedelta(days=9)),
        ("ann/new", "ok", None, NOW + timedelta(hours=1)),
    ]
    assert drain(home) == 0
    assert list(inbox.folder.iterdir()) == []


def test_both_names_of_a_move_are_asked_for(home):
    Inbox(home).append(
        event_of("ann/old", action="move", scope="repo", movedTo={"name": "bob/new"}), NOW
    )
    assert drain(home) == 2
    assert set(wanted(home)) == {"ann/old", "bob/new"}


def test_deleted_and_private_repositories_are_asked_for_only_if_the_book_knows_them(home):
    inbox = Inbox(home)
    private = {**payload("ann/private")["repo"], "private": True}
    inbox.append(event_of("ann/deleted", action="delete", scope="repo"), NOW)
    inbox.append(event_of(repo=private), NOW)
    assert drain(home) == 0
    assert wanted(home) == {}
    inbox.append(event_of("ann/deleted"), NOW)
    inbox.append(event_of("ann/deleted", action="delete", scope="repo"), NOW + timedelta(hours=1))
    assert drain(home) == 0
    inbox.append(event_of("ann/deleted"), NOW)
    assert drain(home) == 1
    inbox.append(event_of("ann/deleted", action="delete", scope="repo"), NOW + timedelta(hours=2))
    assert drain(home) == 1
    assert wanted(home) == {"ann/deleted": NOW + timedelta(hours=2)}


def test_an_earlier_request_never_replaces_a_later_one_nor_lies_in_the_future(home):
    inbox = Inbox(home)
    inbox.append(event_of(), NOW)
    drain(home)
    inbox.append(event_of(), NOW - timedelta(days=9))
    drain(home)
    assert wanted(home) == {"ann/base": NOW}
    inbox.append(event_of(), datetime(9999, 12, 31, tzinfo=UTC))
    drain(home, now=NOW + timedelta(days=3))
    assert wanted(home) == {"ann/base": NOW + timedelta(days=3)}


def test_a_drain_that_died_after_taking_is_repeated_with_what_came_since(home):
    inbox = Inbox(home)
    inbox.append(event_of("ann/first"), NOW)
    inbox.spool.rename(inbox.taken)  # the process died here
    inbox.append(event_of("ann/second"), NOW)
    assert drain(home) == 2
    assert set(wanted(home)) == {"ann/first", "ann/second"}


def test_a_drain_that_died_after_its_commit_is_repeated_without_harm(home, monkeypatch):
    inbox = Inbox(home)
    inbox.append(event_of(), NOW)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            drain(home)
    before = wanted(home)
    assert inbox.taken.exists()
    assert drain(home) == 1
    assert wanted(home) == before == {"ann/base": NOW}
    assert not inbox.taken.exists()


def test_lines_of_another_hand_are_passed_over(home):
    inbox = Inbox(home)
    inbox.append(event_of(), NOW)
    good = inbox.spool.read_text()
    bad = [
        "", "{", "[]", "7", '{"id": "ann/x"}', "[" * 5000, "\x00" * 3000,
        good.replace("ann/base", "../../x").strip(), good.replace("ann/base", "a b").strip(),
        good.replace("2026", "20x6").strip(), good.replace("update", "burn").strip(),
        json.dumps({"id": ["x"], "action": "update", "time": NOW.isoformat()}),
        json.dumps({"id": "ann/x\n", "action": "update", "time": NOW.isoformat()}),
    ]  # fmt: skip
    inbox.spool.write_text("\n".join(bad) + "\n" + good + '{"id": "ann/cut", "act')
    inbox.append(event_of("ann/after"), NOW)
    assert drain(home) == 2
    assert set(wanted(home)) == {"ann/base", "ann/after"}


def test_an_append_that_meets_a_drain_is_made_again(home, monkeypatch):
    inbox = Inbox(home)
    inbox.append(event_of("ann/first"), NOW)
    write = os.write

    def write_late(descriptor, data):
        monkeypatch.setattr(os, "write", write)
        drain(home)  # between the opening and the writing
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", write_late)
    inbox.append(event_of("ann/second"), NOW)
    assert [line["id"] for line in queued(home)] == ["ann/second"]


def test_without_an_inbox_there_is_nothing_to_drain(home):
    assert drain(home) == 0


# Secrets of the command.


def test_the_secret_comes_from_a_file_or_the_environment(tmp_path):
    file = tmp_path / "secret"
    file.write_bytes(SECRET + b"\nsecond line\n")
    assert read_secret({SECRET_VARIABLE: "other-other-other"}, file) == SECRET
    assert read_secret({SECRET_VARIABLE: SECRET.decode()}, None) == SECRET


@pytest.mark.parametrize(
    "secret", ["", "   ", "short", "x" * 600, "long enough but é", "a\x07" * 20]
)
def test_a_secret_that_cannot_serve_is_refused_and_not_repeated(secret, tmp_path):
    file = tmp_path / "secret"
    file.write_text(secret, "utf-8")
    for source in (({SECRET_VARIABLE: secret}, None), ({}, file)):
        with pytest.raises(UsageError) as raised:
            read_secret(*source)
        assert not secret.strip() or secret not in str(raised.value).replace("too short", "")


def test_the_command_refuses_to_start_without_a_secret(home, monkeypatch, capsys, tmp_path):
    monkeypatch.delenv(SECRET_VARIABLE, raising=False)
    assert main(["webhook", "--home", str(home.root)]) == 2
    missing = str(tmp_path / "none")
    assert main(["webhook", "--home", str(home.root), "--secret-file", missing]) == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_a_missing_server_names_the_extra_and_a_taken_port_the_option(home, monkeypatch):
    app = make_webhook_app(home, SECRET)
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(HerdbookError, match="--port"),
    ):
        serve_webhook(app, "127.0.0.1", taken.getsockname()[1])
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(HerdbookError, match=r"herdbook\[webhook\]"):
        serve_webhook(app, "127.0.0.1", 0)


# Everything at once.


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
bodies = st.one_of(
    st.binary(max_size=300),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.tuples(st.sampled_from(sorted(payload())), json_values).map(
        lambda pair: encoded(payload(**{pair[0]: pair[1]}))
    ),
    st.tuples(st.sampled_from(sorted(payload()["repo"])), json_values).map(
        lambda pair: encoded(payload(repo={**payload()["repo"], pair[0]: pair[1]}))
    ),
    st.tuples(st.integers(0, 600), st.binary(max_size=4)).map(
        lambda cut: encoded(payload())[: cut[0]] + cut[1] + encoded(payload())[cut[0] + 1 :]
    ),
)


@given(bodies)
def test_no_body_raises_and_only_valid_ones_are_queued(body):
    accepted, lines = [], []
    status, _, answer = Caller(WebhookReceiver(SECRET, accepted.append, log=lines.append))(body)
    try:
        is_valid = parse_payload(body).concerns_model
    except MalformedError:
        assert status == 400
        is_valid = False
    else:
        assert status == 202
    assert len(accepted) == is_valid
    assert json.loads(answer)
    assert all(line.isprintable() and len(line) < 300 for line in lines)


@given(st.binary(max_size=100), st.text(max_size=40))
def test_no_header_raises(secret, kind):
    call = Caller(WebhookReceiver(SECRET, lambda event: None))
    headers = {"Content-Type": kind.encode("utf-8").decode("latin-1"), "Content-Length": kind[:9]}
    headers["Content-Length"] = headers["Content-Length"].encode("utf-8").decode("latin-1")
    assert call(payload(), secret=secret, headers=headers)[0] in (202, 401, 413, 415)


def test_the_secret_never_appears_in_log_inbox_or_answers(call, home, lines):
    hidden = SECRET.decode()
    answers = []
    for said in (
        payload(),
        payload(scope=hidden),
        payload(event={"action": hidden, "scope": "repo"}),
        payload(f"{hidden}/{hidden}\x1b[31m"),
        hidden.encode(),
        payload(updatedConfig={hidden: hidden}),
    ):
        answers += [call(said), call(said, secret=SECRET + b"x"), call(said, path=f"/{hidden}")]
    told = [*lines, *map(str, answers), str(call.app), str(queued(home))]
    assert not any(hidden in text for text in told)


def test_a_real_server_receives_and_stops_when_it_is_told(home):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; from lineage.cli import main; sys.exit(main())",
         "webhook", "--home", str(home.root), "--port", str(port)],
        env={**os.environ, SECRET_VARIABLE: SECRET.decode()},
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_until_healthy(port, process)
        assert post(port, encoded(payload()), SECRET.decode()) == 202
        assert post(port, encoded(payload()), "wrong") == 401
        assert post(port, b" " * (MAX_BODY_BYTES + 1), SECRET.decode()) == 413
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert [line["id"] for line in queued(home)] == ["ann/base"]
    assert "202 queued update ann/base" in err
    assert "Traceback" not in err
    assert SECRET.decode() not in err


def wait_until_healthy(port: int, process: subprocess.Popen) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/health")
            assert connection.getresponse().status == 200
            return
        except ConnectionRefusedError:
            time.sleep(0.05)
        finally:
            connection.close()
    raise AssertionError("the receiver did not start")


def post(port: int, body: bytes, secret: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        headers = {"Content-Type": "application/json", "X-Webhook-Secret": secret}
        connection.request("POST", "/webhook", body, headers)
        return connection.getresponse().status
    finally:
        connection.close()

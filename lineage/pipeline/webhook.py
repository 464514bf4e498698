"""Receives the Hub's webhooks into a queue in the home, and empties it into the book.

DuckDB admits one writer, so the receiver never opens the database: it appends a line to
``HOME/inbox/events.jsonl`` and the next crawl or watch enters what stands there. Nothing is lost
by a kill at any moment:

* A line is on disk before the sender is answered. A line cut short is closed by the next append.
* Emptying renames the file first and removes it after the commit, so a run that died is repeated;
  asking twice for a repository is asking once.
* An append that met the renaming cannot tell whether its line was read, and is made again.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from errno import EDQUOT, ENOSPC
from pathlib import Path

import duckdb

from crawler.records import is_repo_id
from crawler.webhook import EventAction, WebhookEvent, WebhookReceiver
from lineage.errors import HerdbookError, UsageError
from lineage.store.home import Home
from lineage.store.requests import Request, want_repositories

__all__ = ["Inbox", "drain_inbox", "make_webhook_app", "read_secret", "serve_webhook"]

SECRET_VARIABLE = "HERDBOOK_WEBHOOK_SECRET"
_MIN_SECRET_CHARACTERS = 16
_MAX_SECRET_CHARACTERS = 512
_MAX_INBOX_BYTES = 16 << 20
_MAX_LINE_CHARACTERS = 1024
_MAX_CONNECTIONS = 64
_STOP_TIMEOUT_S = 5


@dataclass(frozen=True, slots=True)
class Inbox:
    """The queue of a home: one line per event, appended by any number of receivers.

    `max_bytes` bounds the file (about 100,000 events); what does not fit is refused.
    """

    home: Home
    max_bytes: int = _MAX_INBOX_BYTES

    @property
    def folder(self) -> Path:
        """Where the queue lies."""
        return self.home.root / "inbox"

    @property
    def spool(self) -> Path:
        """The file that is appended to."""
        return self.folder / "events.jsonl"

    @property
    def taken(self) -> Path:
        """The file that is being emptied, or was when its reader died."""
        return self.folder / "taken.jsonl"

    def append(self, event: WebhookEvent, now: datetime) -> None:
        """Keep an event; on return it is on disk.

        Raises
        ------
        OSError
            If it cannot be kept; the queue is full then, or the file system says why.
        """
        entry = {"id": event.repo_id, "action": str(event.action), "time": now.isoformat()}
        if event.moved_to is not None:
            entry["moved_to"] = event.moved_to
        line = json.dumps({**entry, "private": event.private}) + "\n"
        while not self._append_once(line.encode()):
            pass

    def _append_once(self, line: bytes) -> bool:
        """Append; False if the file was renamed meanwhile, so that a reader may have missed it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
        descriptor = os.open(self.spool, flags, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size + len(line) > self.max_bytes:
                raise OSError(EDQUOT, "the inbox is full; run herdbook crawl", str(self.spool))
            if size > 0 and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line  # the line before was cut short
            if os.write(descriptor, line) != len(line):
                raise OSError(ENOSPC, "no space left for the inbox", str(self.spool))
            os.fsync(descriptor)
            if size == 0:
                self._sync_folder()
            # While it is held open its number cannot be given to another file.
            try:
                return os.path.samestat(os.fstat(descriptor), self.spool.stat())
            except FileNotFoundError:
                return False
        finally:
            os.close(descriptor)

    def _sync_folder(self) -> None:
        """Have a new file's name on disk too."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def drain_inbox(
    home: Home, connection: duckdb.DuckDBPyConnection, *, now: datetime | None = None
) -> int:
    """Ask for the details of every repository that the inbox names; returns how many.

    Both names of a moved repository are asked for. One that was deleted, or is private, is asked
    for only if the book knows it. Lines that cannot be read are passed over.

    Parameters
    ----------
    connection
        Of the working database, outside a transaction.
    now
        No request is entered as later than this; default the clock.

    Raises
    ------
    OSError
        If the inbox exists and cannot be read.
    """
    return len(take_requests(home, connection, now or datetime.now(UTC)))


def take_requests(
    home: Home, connection: duckdb.DuckDBPyConnection, now: datetime
) -> tuple[str, ...]:
    """Empty the inbox as :func:`drain_inbox` does; returns the ids that are asked for, sorted."""
    inbox = Inbox(home)
    wanted: set[str] = set()
    # What a run that died had taken comes first; then what was appended since.
    for is_leftover in (True, False):
        if not is_leftover:
            with contextlib.suppress(FileNotFoundError):
                inbox.spool.replace(inbox.taken)
        if inbox.taken.is_file():
            wanted.update(want_repositories(connection, list(_requests(inbox.taken, now))))
            inbox.taken.unlink()
    return tuple(sorted(wanted))


def _requests(path: Path, now: datetime) -> Iterator[Request]:
    with path.open(encoding="utf-8", errors="replace") as file:
        while line := file.readline(_MAX_LINE_CHARACTERS):
            yield from _parse_line(line, now)


def _parse_line(line: str, now: datetime) -> Iterator[Request]:
    """The requests of one line; none if it is no event (cut short, or written by another hand)."""
    try:
        entry = json.loads(line)
        at = min(datetime.fromisoformat(entry["time"]).astimezone(UTC), now)
        action = EventAction(entry["action"])
        names = [entry["id"], entry.get("moved_to")]
        may_enter = not entry.get("private", False)
    except (ValueError, KeyError, TypeError, OverflowError, AttributeError, RecursionError):
        return
    for name, is_there in zip(names, (action is not EventAction.DELETE, True), strict=True):
        if isinstance(name, str) and is_repo_id(name) and name.isprintable():
            yield Request(name, at, may_enter and is_there)


def read_secret(environment: Mapping[str, str], file: Path | None) -> bytes:
    """The webhook's secret: the first line of `file`, else ``HERDBOOK_WEBHOOK_SECRET``.

    Raises
    ------
    UsageError
        If there is none, or it is too short, too long, or no printable ASCII (the Hub sends no
        other). The message never holds it.
    """
    if file is not None:
        try:
            with file.open(encoding="utf-8", errors="replace") as stream:
                secret = stream.readline(_MAX_SECRET_CHARACTERS + 2).strip()
        except OSError as error:
            raise UsageError(f"cannot read the secret from {file}: {error.strerror}") from error
        where = str(file)
    else:
        secret, where = environment.get(SECRET_VARIABLE, "").strip(), SECRET_VARIABLE
    if not secret:
        raise UsageError(
            f"no webhook secret: set {SECRET_VARIABLE} or name a file with --secret-file, and give "
            "the Hub the same one; `openssl rand -hex 32` makes one"
        )
    if not _MIN_SECRET_CHARACTERS <= len(secret) <= _MAX_SECRET_CHARACTERS:
        raise UsageError(
            f"the secret in {where} must have {_MIN_SECRET_CHARACTERS} to "
            f"{_MAX_SECRET_CHARACTERS} characters; `openssl rand -hex 32` makes one"
        )
    if not (secret.isascii() and secret.isprintable()):
        raise UsageError(f"the secret in {where} must be printable ASCII; the Hub sends no other")
    return secret.encode("ascii")


def make_webhook_app(
    home: Home,
    secret: bytes,
    *,
    log: Callable[[str], None] = lambda line: None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> WebhookReceiver:
    """The ASGI app that receives webhooks into the inbox of `home`; serve it with any server."""
    inbox = Inbox(home)
    return WebhookReceiver(secret, lambda event: inbox.append(event, now()), log=log)


def serve_webhook(app: WebhookReceiver, host: str, port: int) -> None:
    """Serve `app` until interrupted.

    Raises
    ------
    HerdbookError
        If uvicorn is not installed, or the address cannot be had.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise HerdbookError(
            "receiving webhooks needs uvicorn: pip install 'herdbook[webhook]'"
        ) from error
    config = uvicorn.Config(
        app,
        http="h11",  # bounds a request's headers
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",  # its access log would show queries, which may hold anything
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_graceful_shutdown=_STOP_TIMEOUT_S,
    )
    with _listen(host, port) as listener, contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise HerdbookError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; choose another --port"
        ) from error

"""The raw archive: every answer of a Hub, once written never changed. Crawl once, parse often.

One gzip file per answer: a line of JSON (request and time), then the body as it came.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from crawler.errors import MalformedError

__all__ = ["Archive", "ArchivedAnswer"]


@dataclass(frozen=True, slots=True)
class ArchivedAnswer:
    """What was asked for, when, and the body that came."""

    request: str
    at: datetime
    body: bytes


def _write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there entirely or not at all, whenever the machine stops."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    with draft.open("wb") as opened:
        opened.write(data)
        opened.flush()
        os.fsync(opened.fileno())
    draft.replace(path)


class Archive:
    """Answers in a folder, named by a digest of request and time.

    Names come from digests only: nothing that a stranger wrote becomes part of a path.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def append(self, request: str, body: bytes, now: datetime) -> str:
        """Keep one answer; returns its name. An answer that is there already is left alone."""
        stamp = now.astimezone(UTC).isoformat()
        name = hashlib.sha256(f"{request}\n{stamp}".encode("utf-8", "replace")).hexdigest()
        path = self._path(name)
        if not path.exists():
            head = json.dumps({"request": request, "at": stamp}).encode() + b"\n"
            _write_whole(path, gzip.compress(head + body, compresslevel=6, mtime=0))
        return name

    def read(self, name: str) -> ArchivedAnswer:
        """One answer by its name.

        Raises
        ------
        MalformedError
            If there is none of that name, or the file is damaged.
        """
        try:
            head, _, body = gzip.decompress(self._path(name).read_bytes()).partition(b"\n")
            stated = json.loads(head)
            return ArchivedAnswer(
                str(stated["request"]), datetime.fromisoformat(stated["at"]), body
            )
        except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
            raise MalformedError(f"archived answer {name[:12]} cannot be read: {error}") from error

    def __iter__(self) -> Iterator[ArchivedAnswer]:
        """Every answer, in order of time; files that a kill left unfinished are passed over."""
        paths = self.folder.glob("??/*.gz")
        answers = [self.read(path.name.removesuffix(".gz")) for path in paths]
        yield from sorted(answers, key=lambda answer: (answer.at, answer.request))

    def _path(self, name: str) -> Path:
        if len(name) != 64 or not set(name) <= set("0123456789abcdef"):
            raise MalformedError(f"not the name of an archived answer: {name[:80]!r}")
        return self.folder / name[:2] / f"{name}.gz"

"""The raw archive: every answer of a Hub, once written never changed. Crawl once, parse often.

One Zstandard file per answer: a line of JSON (request, time, address of the next page), then the
body as it came. A *scope* is the run or walk that asked: within one, a request is asked once.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import zstandard

from crawler.errors import MalformedError

__all__ = ["Archive", "ArchivedAnswer"]

_LEVEL = 3
_MAX_BYTES = 1 << 30
_SUFFIX = ".zst"


@dataclass(frozen=True, slots=True)
class ArchivedAnswer:
    """What was asked for, when, and the body that came; `error` is the code of a refusal.

    `next_url` is the address that the answer gave for the page after it.
    """

    scope: str
    request: str
    at: datetime
    body: bytes
    next_url: str | None = None
    error: str | None = None


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
    """Answers in a folder, named by a digest of scope and request.

    Names come from digests only: nothing that a stranger wrote becomes part of a path.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def append(self, answer: ArchivedAnswer) -> str:
        """Keep one answer; returns its name. An answer that is there already is left alone."""
        name = _name(answer.scope, answer.request)
        path = self._path(name)
        if not path.exists():
            head = {
                "scope": answer.scope,
                "request": answer.request,
                "at": answer.at.astimezone(UTC).isoformat(),
                "next": answer.next_url,
                "error": answer.error,
            }
            data = json.dumps(head).encode() + b"\n" + answer.body
            _write_whole(path, zstandard.ZstdCompressor(level=_LEVEL).compress(data))
        return name

    def find(self, scope: str, request: str) -> ArchivedAnswer | None:
        """What `request` was answered within `scope`; None when it was not asked."""
        name = _name(scope, request)
        return self.read(name) if self._path(name).exists() else None

    def read(self, name: str) -> ArchivedAnswer:
        """One answer by its name.

        Raises
        ------
        MalformedError
            If there is none of that name, or the file is damaged.
        """
        try:
            stored = self._path(name).read_bytes()
            data = zstandard.ZstdDecompressor().decompress(stored, max_output_size=_MAX_BYTES)
            head, _, body = data.partition(b"\n")
            stated = json.loads(head)
            return ArchivedAnswer(
                str(stated["scope"]),
                str(stated["request"]),
                datetime.fromisoformat(stated["at"]),
                body,
                stated["next"],
                stated["error"],
            )
        except (OSError, zstandard.ZstdError, ValueError, KeyError, TypeError) as error:
            raise MalformedError(f"archived answer {name[:12]} cannot be read: {error}") from error

    def names(self) -> Iterator[str]:
        """Every answer's name; files that a kill left unfinished are passed over."""
        for path in sorted(self.folder.glob(f"??/*{_SUFFIX}")):
            yield path.name.removesuffix(_SUFFIX)

    def _path(self, name: str) -> Path:
        if len(name) != 64 or not set(name) <= set("0123456789abcdef"):
            raise MalformedError(f"not the name of an archived answer: {name[:80]!r}")
        return self.folder / name[:2] / f"{name}{_SUFFIX}"


def _name(scope: str, request: str) -> str:
    return hashlib.sha256(f"{scope}\n{request}".encode("utf-8", "replace")).hexdigest()

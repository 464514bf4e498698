"""A folder ``owner/name/files…`` read as the repositories of a Hub.

An optional ``hub.json`` beside the owners says what files cannot::

    {"models": {"owner/name": {
        "created_at": "2024-01-01T00:00:00Z", "last_modified": "2024-02-01T00:00:00Z",
        "downloads": 12, "likes": 3, "gated": false, "disabled": false,
        "vanishes": false, "revision": "<40 hex digits>"}}}

Without it the revision is a digest of paths, sizes and times, dates are the files' times and
counts are zero. Hidden files, and links that lead out of the folder, do not exist here.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path, PurePosixPath

from crawler.errors import MalformedError, NotFoundError
from crawler.records import is_repo_id

__all__ = ["Digests", "HostedFile", "HostedRepo", "HubFolder", "ModelEntry", "digests_of"]

_LARGE_SUFFIXES = frozenset({
    ".7z", ".arrow", ".bin", ".bz2", ".ckpt", ".ftz", ".gguf", ".gz", ".h5", ".joblib",
    ".mlmodel", ".model", ".msgpack", ".npy", ".npz", ".onnx", ".ot", ".parquet", ".pb",
    ".pickle", ".pkl", ".pt", ".pth", ".rar", ".safetensors", ".tar", ".tflite", ".tgz", ".wasm",
    ".xz", ".zip", ".zst"
})  # fmt: skip
_LARGE_BYTES = 10 << 20
_CHUNK_BYTES = 1 << 20
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """What ``hub.json`` says of one repository; `gated` is None or the Hub's word for how."""

    created_at: datetime | None = None
    last_modified: datetime | None = None
    downloads: int = 0
    likes: int = 0
    gated: str | None = None
    disabled: bool = False
    vanishes: bool = False
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class HostedFile:
    """One file that is served; `location` has been checked to lie inside the folder."""

    path: str
    location: Path
    size_bytes: int
    modified_ns: int

    @property
    def is_large(self) -> bool:
        """Whether the Hub would keep it in large-file storage."""
        suffix = PurePosixPath(self.path).suffix.lower()
        return suffix in _LARGE_SUFFIXES or self.size_bytes > _LARGE_BYTES

    def read(self, start: int, stop: int) -> bytes:
        """Bytes `start` to `stop`, half open.

        Raises
        ------
        NotFoundError
            The file went away since the folder was looked at.
        """
        try:
            with self.location.open("rb") as stream:
                stream.seek(start)
                return stream.read(max(0, stop - start))
        except OSError as error:
            raise NotFoundError(f"{self.path}: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class Digests:
    """Git's id of a file and, in large-file storage, its SHA-256 and its pointer's size."""

    oid: str
    sha256: str | None = None
    pointer_bytes: int | None = None

    @property
    def etag(self) -> str:
        """The word that changes exactly when the content does."""
        return self.sha256 or self.oid


@dataclass(frozen=True, slots=True)
class HostedRepo:
    """One repository as it lies in the folder; `state` digests its paths, sizes and times."""

    repo_id: str
    files: Mapping[str, HostedFile]
    entry: ModelEntry
    state: str

    @property
    def revision(self) -> str:
        """The only commit, which ``main`` points to."""
        return self.entry.revision or self.state

    @property
    def created_at(self) -> datetime:
        """The stated date of creation, else the oldest file's time."""
        return self.entry.created_at or self._times()[0]

    @property
    def last_modified(self) -> datetime:
        """The stated date of the last commit, else the newest file's time."""
        return self.entry.last_modified or self._times()[-1]

    def _times(self) -> list[datetime]:
        times = sorted(file.modified_ns for file in self.files.values()) or [0]
        return [datetime.fromtimestamp(time // 1_000_000 / 1000, UTC) for time in times]


@lru_cache(maxsize=100_000)
def _digests(location: Path, modified_ns: int, size_bytes: int, is_large: bool) -> Digests:
    """Digest a file once; time and size are arguments so that a changed file is read again."""
    git = hashlib.sha1(b"blob %d\0" % size_bytes, usedforsecurity=False)
    sha256 = hashlib.sha256()
    try:
        with location.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                (sha256 if is_large else git).update(chunk)
    except OSError as error:
        raise NotFoundError(f"{location.name}: {error.strerror}") from error
    if not is_large:
        return Digests(git.hexdigest())
    pointer = (
        "version https://git-lfs.github.com/spec/v1\n"
        f"oid sha256:{sha256.hexdigest()}\nsize {size_bytes}\n"
    ).encode()
    oid = hashlib.sha1(b"blob %d\0" % len(pointer) + pointer, usedforsecurity=False)
    return Digests(oid.hexdigest(), sha256.hexdigest(), len(pointer))


def digests_of(file: HostedFile) -> Digests:
    """Git's id and SHA-256 of a file, remembered until its time or size changes.

    Raises
    ------
    NotFoundError
        The file went away since the folder was looked at.
    """
    return _digests(file.location, file.modified_ns, file.size_bytes, file.is_large)


class HubFolder:
    """The repositories of a folder, looked at anew on each call.

    Parameters
    ----------
    root
        The folder; links inside it are followed only to files inside it.
    vanish
        Hide the repositories that ``hub.json`` marks with ``"vanishes": true``.

    Raises
    ------
    NotFoundError
        There is no such folder.
    MalformedError
        ``hub.json`` is not what this module's description says.
    """

    def __init__(self, root: Path, *, vanish: bool = False) -> None:
        if not root.is_dir():
            raise NotFoundError(f"no such folder: {root}")
        self.root = root.resolve()
        self._entries = _read_entries(self.root / "hub.json")
        self._hidden = {
            repo_id for repo_id, entry in self._entries.items() if vanish and entry.vanishes
        }

    def repos(self) -> Iterator[HostedRepo]:
        """Every repository, by id."""
        for owner in _folders(self.root):
            for folder in _folders(owner):
                repo = self.repo(f"{owner.name}/{folder.name}")
                if repo is not None:
                    yield repo

    def repo(self, repo_id: str) -> HostedRepo | None:
        """One repository, or None when there is none of that name (or it has vanished)."""
        if not is_repo_id(repo_id) or repo_id.count("/") != 1 or repo_id in self._hidden:
            return None
        folder = self.root / repo_id
        if not folder.is_dir() or not folder.resolve().is_relative_to(self.root):
            return None
        files = {file.path: file for file in sorted(self._scan(folder), key=lambda file: file.path)}
        state = hashlib.sha1(usedforsecurity=False)
        for file in files.values():
            line = [file.path, file.size_bytes, file.modified_ns]
            state.update(json.dumps(line).encode() + b"\n")
        entry = self._entries.get(repo_id, ModelEntry())
        return HostedRepo(repo_id, files, entry, state.hexdigest())

    def _scan(self, folder: Path) -> Iterator[HostedFile]:
        for parent, names, paths in os.walk(folder):
            names[:] = [name for name in names if not name.startswith(".")]
            for name in paths:
                location = Path(parent, name)
                if name.startswith(".") or not _is_text(name):
                    continue
                try:
                    if location.is_symlink():
                        location = location.resolve(strict=True)
                    found = location.stat()
                except OSError:  # a dangling link, or gone since the folder was listed
                    continue
                is_inside = location.is_relative_to(self.root) and os.access(location, os.R_OK)
                if stat.S_ISREG(found.st_mode) and is_inside:
                    path = Path(parent, name).relative_to(folder).as_posix()
                    yield HostedFile(path, location, found.st_size, found.st_mtime_ns)


def _is_text(name: str) -> bool:
    """Whether a file's name can be written as UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _folders(parent: Path) -> list[Path]:
    try:
        return sorted(
            child for child in parent.iterdir() if child.is_dir() and not child.name.startswith(".")
        )
    except OSError:  # an owner that went away, or may not be read, has no repositories
        return []


def _read_entries(path: Path) -> dict[str, ModelEntry]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise MalformedError(f"{path.name}: {error}") from error
    models = value.get("models", {}) if isinstance(value, dict) else None
    if not isinstance(models, dict):
        raise MalformedError(f"{path.name}: wants an object with the key 'models'")
    return {repo_id: _entry(repo_id, stated) for repo_id, stated in models.items()}


def _entry(repo_id: str, stated: object) -> ModelEntry:
    if not isinstance(stated, dict):
        raise MalformedError(f"hub.json: {repo_id}: not an object")

    def count(key: str) -> int:
        number = stated.get(key, 0)
        if type(number) is not int or number < 0:
            raise MalformedError(f"hub.json: {repo_id}: {key} is not a count")
        return number

    def flag(key: str) -> bool:
        value = stated.get(key, False)
        if not isinstance(value, bool):
            raise MalformedError(f"hub.json: {repo_id}: {key} is neither true nor false")
        return value

    def moment(key: str) -> datetime | None:
        text = stated.get(key)
        if text is None:
            return None
        try:
            time = datetime.fromisoformat(str(text))
        except ValueError as error:
            raise MalformedError(f"hub.json: {repo_id}: {key} is not a date") from error
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)

    gated, revision = stated.get("gated", False), stated.get("revision")
    if gated not in (False, "auto", "manual"):
        raise MalformedError(f"hub.json: {repo_id}: gated is none of false, 'auto', 'manual'")
    if revision is not None and not _COMMIT.fullmatch(str(revision)):
        raise MalformedError(f"hub.json: {repo_id}: revision is not 40 hex digits")
    return ModelEntry(
        created_at=moment("created_at"),
        last_modified=moment("last_modified"),
        downloads=count("downloads"),
        likes=count("likes"),
        gated=gated or None,
        disabled=flag("disabled"),
        vanishes=flag("vanishes"),
        revision=revision,
    )

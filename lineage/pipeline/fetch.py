"""Fetch a published register from a Hub into a home: whole, checked, and swapped in at once."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from crawler.client import Hub
from crawler.errors import CrawlError
from crawler.publishing import DatasetAddress, DatasetRepository, RemoteFile, RemoteState
from lineage.errors import HerdbookError, HomeError, NotFoundError, SchemaError
from lineage.store.home import Home
from lineage.store.publication import Manifest, open_file, parse_manifest, read_manifest

__all__ = ["FetchReport", "fetch"]

_MANIFEST = "manifest.json"
_MAX_MANIFEST_BYTES = 1 << 20
_SPARE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class FetchReport:
    """What was fetched; `received_bytes` is 0 where everything was here already."""

    address: str
    file: str
    sha256: str
    data_date: str
    n_files: int
    received_bytes: int
    seconds: float


def fetch(
    home: Home,
    address: DatasetAddress,
    *,
    endpoint: str | None = None,
    sha256: str | None = None,
    hub: Hub | None = None,
) -> FetchReport:
    """Fetch the register that a repository holds at a revision, and make it the current one.

    Files come by ranges into hidden parts, which the next call continues; each is held against its
    digest, the database is opened, and only then the manifest is replaced: a reader sees the old
    register or the new one. The register before is kept beside it.

    Parameters
    ----------
    home
        Where to.
    address
        From where; its revision is ``main`` where none is named.
    endpoint, hub
        The Hub; default as :class:`crawler.client.Hub`.
    sha256
        Digest that the database must have, if known.

    Raises
    ------
    NotFoundError
        If there is no register at this address.
    SchemaError
        If it is not what its manifest or `sha256` says, or another herdbook's.
    HomeError
        If the home cannot be written, is full, or is being fetched into.
    HerdbookError
        If the Hub cannot be read.
    """
    started = time.monotonic()
    repository = DatasetRepository(address.repo_id, hub or Hub(endpoint))
    try:
        state = repository.state(address.revision or "main")
        if _MANIFEST not in state.files:
            raise NotFoundError(f"{address} holds no register: it has no {_MANIFEST}")
        text = repository.read(state.commit, _MANIFEST, max_bytes=_MAX_MANIFEST_BYTES)
        pinned = DatasetAddress(address.repo_id, state.commit)
        manifest = _manifest(text, pinned)
        if sha256 is not None and manifest.sha256 != sha256.lower():
            raise SchemaError(
                f"{pinned} holds the register {manifest.sha256}, not {sha256}: nothing was fetched"
            )
        home.prepare()
        try:
            with _alone(home):
                received = _receive(home, repository, state, manifest)
                _swap_in(home, manifest, text, pinned)
        except OSError as error:
            raise HomeError(f"cannot fetch into {home.root}: {error.strerror}") from error
    except CrawlError as error:
        raise HerdbookError(f"not fetched from {address}: {error}") from error
    return FetchReport(
        str(pinned),
        manifest.file,
        manifest.sha256,
        manifest.data_date,
        len(manifest.files),
        received,
        time.monotonic() - started,
    )


def _manifest(text: bytes, address: DatasetAddress) -> Manifest:
    try:
        return parse_manifest(text.decode("utf-8"), address)
    except UnicodeDecodeError as error:
        raise SchemaError(f"The manifest in {address} is no text.") from error
    except SchemaError as error:
        # Publishing again is for whoever published it.
        words = str(error).partition("; run ")[0].rstrip(".")
        raise SchemaError(f"{words}; fetch another revision, or another herdbook.") from error


@contextlib.contextmanager
def _alone(home: Home) -> Iterator[None]:
    """One fetch at a time: two would write into one part."""
    with (home.published / ".fetch.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise HomeError(f"{home.root} is being fetched into by another command") from error
        yield


def _receive(
    home: Home, repository: DatasetRepository, state: RemoteState, manifest: Manifest
) -> int:
    """Bring every file of the manifest into the folder; the bytes that came."""
    wanted: list[tuple[RemoteFile, str]] = []
    for name, sha256 in manifest.files.items():
        if name not in state.files:
            raise SchemaError(f"{repository.repo_id} lacks the file {name} of its manifest")
        if not _is_here(home.published / name, sha256):
            wanted.append((state.files[name], sha256))
    parts = {file.path: _part(home, file, sha256) for file, sha256 in wanted}
    there = sum(part.stat().st_size for part in parts.values() if part.is_file())
    needed = sum(file.size_bytes for file, _ in wanted) - there
    free = shutil.disk_usage(home.published).free
    if free < needed + _SPARE_BYTES:
        raise HomeError(
            f"{home.root} has {free >> 20} MB left and the register needs {needed >> 20} MB"
        )
    received = 0
    for file, sha256 in wanted:
        received += _receive_file(repository, state.commit, file, sha256, parts[file.path])
    if manifest.file in parts:
        open_file(parts[manifest.file], manifest.file).close()
    for file, _ in wanted:
        os.replace(parts[file.path], home.published / file.path)
    return received


def _part(home: Home, file: RemoteFile, sha256: str) -> Path:
    return home.published / f".{file.path}.{sha256[:16]}.part"


def _receive_file(
    repository: DatasetRepository, commit: str, file: RemoteFile, sha256: str, part: Path
) -> int:
    with part.open("ab") as target:
        if target.tell() > file.size_bytes:
            target.truncate(0)
        start = target.seek(0, os.SEEK_END)
        repository.download(commit, file, target)
        os.fsync(target.fileno())
    if not _is_here(part, sha256):
        part.unlink()  # going on from these bytes would never end well
        raise SchemaError(
            f"{file.path} did not come as its manifest says (sha256 differs); run the command "
            "again, and if it stays so ask whoever published it"
        )
    return file.size_bytes - start


def _is_here(path: Path, sha256: str) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def _swap_in(home: Home, manifest: Manifest, text: bytes, address: DatasetAddress) -> None:
    try:
        before = set(read_manifest(home).files)
    except HerdbookError:
        before = set()
    origin = {
        "address": f"hf://datasets/{address.repo_id}",
        "commit": address.revision,
        "sha256": manifest.sha256,
    }
    _write(home.published / "origin.json", json.dumps(origin, indent=2).encode())
    _write(home.published / _MANIFEST, text)
    kept = before | set(manifest.files)
    for path in home.published.glob("herdbook-*"):
        if path.name not in kept:
            path.unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)

"""Open what was published: the manifest, the read-only database that it names, its companions."""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path

import duckdb

from lineage.errors import NotFoundError, SchemaError
from lineage.store.home import Home
from lineage.store.schema import PUBLISHED, SCHEMA_VERSION

__all__ = [
    "Companion",
    "Manifest",
    "Origin",
    "companion_path",
    "connect_publication",
    "file_sha256",
    "is_behind",
    "open_file",
    "parse_manifest",
    "read_manifest",
    "read_origin",
]

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MEMORY = "700MB"
"""What DuckDB may hold at once; of more it makes temporary files."""
_OWN_FILES = frozenset({"manifest.json", "origin.json"})


@dataclass(frozen=True, slots=True)
class Companion:
    """A file published beside the database: its name in the same folder, and its digest."""

    file: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a publication says of itself."""

    schema_version: int
    data_date: str
    sha256: str
    file: str
    herdbook_version: str
    counts: Mapping[str, int] = field(default_factory=dict)
    """What could be counted of the models (:mod:`lineage.store.guard`), for the next publication
    to be compared with."""
    companions: Mapping[str, Companion] = field(default_factory=dict)
    """Files that go with the database: the index of names, the tiles of the atlas."""

    @property
    def files(self) -> Mapping[str, str]:
        """Name and digest of every file, the database first."""
        beside = {companion.file: companion.sha256 for companion in self.companions.values()}
        return {self.file: self.sha256, **beside}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a publication was fetched from: ``hf://…`` and the commit."""

    address: str
    commit: str


def parse_manifest(text: str, where: object) -> Manifest:
    """The manifest that a text is; `where` it stands is for the messages.

    Raises
    ------
    SchemaError
        If it cannot be read, was written for another schema, or names a file that cannot be one.
    """
    try:
        fields = json.loads(text)
        manifest = Manifest(
            int(fields["schema_version"]),
            str(fields["data_date"]),
            str(fields["sha256"]),
            str(fields["file"]),
            str(fields["herdbook_version"]),
            {str(name): int(n) for name, n in fields.get("counts", {}).items()},
            {
                str(role): Companion(str(of["file"]), str(of["sha256"]))
                for role, of in fields.get("companions", {}).items()
            },
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SchemaError(
            f"The manifest in {where} cannot be read; run `herdbook publish` again."
        ) from error
    if manifest.schema_version != SCHEMA_VERSION:
        raise SchemaError(
            f"The publication in {where} has schema version {manifest.schema_version}, this "
            f"herdbook reads version {SCHEMA_VERSION}; run `herdbook publish` again."
        )
    for name, sha256 in manifest.files.items():
        is_name = _FILE_NAME.fullmatch(name) is not None and name not in _OWN_FILES
        if not is_name or _SHA256.fullmatch(sha256) is None:
            raise SchemaError(
                f"The manifest in {where} names a file {name!r:.80} that cannot be one; run "
                "`herdbook publish` again."
            )
    return manifest


def read_manifest(home: Home) -> Manifest:
    """The manifest of the current publication.

    Raises
    ------
    NotFoundError
        If nothing was published here.
    SchemaError
        As :func:`parse_manifest`.
    """
    try:
        text = (home.published / "manifest.json").read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFoundError(
            f"Nothing has been published in {home.root}; "
            f"run `herdbook run --home {home.root}` first."
        ) from error
    except UnicodeDecodeError as error:
        raise SchemaError(
            f"The manifest in {home.published} cannot be read; run `herdbook publish` again."
        ) from error
    return parse_manifest(text, home.published)


def read_origin(home: Home, manifest: Manifest) -> Origin | None:
    """Where the current publication was fetched from; None: it was made here, or nobody knows."""
    try:
        fields = json.loads((home.published / "origin.json").read_text(encoding="utf-8"))
        if fields["sha256"] != manifest.sha256:
            return None  # of a publication that was replaced
        return Origin(str(fields["address"]), str(fields["commit"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_behind(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether a stage has run on the working database since it was last published."""
    rows = connection.execute(
        "SELECT stage = 'publish' AND finished_at IS NOT NULL FROM run ORDER BY run_id DESC LIMIT 1"
    ).fetchall()
    return rows != [(True,)]


def connect_publication(home: Home, manifest: Manifest) -> duckdb.DuckDBPyConnection:
    """Open a publication: read-only, no access outside the file, settings locked.

    Raises
    ------
    NotFoundError
        If the manifest names a file that is not there.
    SchemaError
        If the file is not a database that this DuckDB reads, or lacks what the schema says.
    """
    path = home.published / manifest.file
    if not path.is_file():
        raise NotFoundError(
            f"The published file {manifest.file} is missing; run `herdbook publish` again."
        )
    return open_file(path, manifest.file)


def open_file(path: Path, name: str) -> duckdb.DuckDBPyConnection:
    """Open a published database, whatever its file is called now; `name` is for the messages.

    Raises
    ------
    SchemaError
        As :func:`connect_publication`.
    """
    try:
        connection = duckdb.connect(str(path), read_only=True)
    except duckdb.Error as error:
        raise SchemaError(
            f"The published file {name} cannot be opened; run `herdbook publish` again."
        ) from error
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET threads = 2")
    connection.execute(f"SET memory_limit = '{_MEMORY}'")
    connection.execute("SET temp_directory = ?", [_spill_folder()])
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    try:
        _require_columns(connection, name)
    except SchemaError:
        connection.close()
        raise
    return connection


@cache
def _spill_folder() -> str:
    # Beside the database, where DuckDB would put its temporary files, we may not be let write.
    try:
        folder = tempfile.mkdtemp(prefix="herdbook-")
    except OSError:
        return ""  # nowhere at all: what does not fit into memory is refused
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def companion_path(home: Home, manifest: Manifest, role: str) -> Path:
    """A file published beside the database, after checking its digest.

    The digest is computed once for each state of the file.

    Raises
    ------
    NotFoundError
        If this publication has no such companion, or its file is missing.
    SchemaError
        If the file is not what the manifest says.
    """
    companion = manifest.companions.get(role)
    if companion is None:
        raise NotFoundError(
            f"This publication has no file for the {role}; run `herdbook publish` again."
        )
    path = home.published / companion.file
    try:
        found = file_sha256(path)
    except OSError as error:
        raise NotFoundError(
            f"The published file {companion.file} is missing; run `herdbook publish` again."
        ) from error
    if found != companion.sha256:
        raise SchemaError(
            f"The published file {companion.file} is not what its manifest says (sha256 differs); "
            "run `herdbook publish` again."
        )
    return path


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, remembered until its size, time or inode changes.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    state = os.stat(path)
    return _sha256(path, state.st_size, state.st_mtime_ns, state.st_ino)


@lru_cache(maxsize=64)
def _sha256(path: Path, _size: int, _modified_ns: int, _inode: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require_columns(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    try:
        found = set(
            connection.execute("SELECT table_name, column_name FROM duckdb_columns()").fetchall()
        )
    except duckdb.Error as error:
        raise SchemaError(
            f"The published file {name} cannot be read; run `herdbook publish` again."
        ) from error
    for table in PUBLISHED:
        for column in table.columns:
            if (table.name, column.name) not in found:
                raise SchemaError(
                    f"The published file {name} lacks {table.name}.{column.name}: another herdbook "
                    "made it; run `herdbook publish` again."
                )

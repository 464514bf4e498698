"""Open what was published: the manifest, and the read-only database that it names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath

import duckdb

from lineage.errors import NotFoundError, SchemaError
from lineage.store.home import Home
from lineage.store.schema import SCHEMA_VERSION

__all__ = ["Manifest", "connect_publication", "read_manifest"]


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


def read_manifest(home: Home) -> Manifest:
    """The manifest of the current publication.

    Raises
    ------
    NotFoundError
        If nothing was published here.
    SchemaError
        If the manifest cannot be read, or was written for another schema.
    """
    path = home.published / "manifest.json"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFoundError(
            f"Nothing has been published in {home.root}; "
            f"run `herdbook run --home {home.root}` first."
        ) from error
    try:
        fields = json.loads(text)
        manifest = Manifest(
            int(fields["schema_version"]),
            str(fields["data_date"]),
            str(fields["sha256"]),
            PurePath(str(fields["file"])).name,
            str(fields["herdbook_version"]),
            {str(name): int(n) for name, n in fields.get("counts", {}).items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SchemaError(
            f"The manifest in {home.published} cannot be read; run `herdbook publish` again."
        ) from error
    if manifest.schema_version != SCHEMA_VERSION:
        raise SchemaError(
            f"The publication has schema version {manifest.schema_version}, this herdbook reads "
            f"version {SCHEMA_VERSION}; run `herdbook publish` again."
        )
    return manifest


def connect_publication(home: Home, manifest: Manifest) -> duckdb.DuckDBPyConnection:
    """Open a publication: read-only, no access outside the file, settings locked.

    Raises
    ------
    NotFoundError
        If the manifest names a file that is not there.
    SchemaError
        If the file is not a database that this DuckDB reads.
    """
    path = home.published / manifest.file
    if not path.is_file():
        raise NotFoundError(
            f"The published file {manifest.file} is missing; run `herdbook publish` again."
        )
    try:
        connection = duckdb.connect(str(path), read_only=True)
    except duckdb.Error as error:
        raise SchemaError(
            f"The published file {manifest.file} cannot be opened; run `herdbook publish` again."
        ) from error
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET threads = 2")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection

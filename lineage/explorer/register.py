"""The register behind a page: one shared connection for each publication, a cursor for each run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import duckdb
import streamlit as st

from lineage.errors import HerdbookError
from lineage.store.home import Home
from lineage.store.publication import Manifest, companion_path, read_manifest, read_origin
from lineage.store.publish import open_published

__all__ = ["Visit", "default_home", "fetched_from", "forget_register", "open_register", "prepare"]


@dataclass(frozen=True, slots=True)
class Visit:
    """What a page needs for one run: a cursor and the manifest."""

    cursor: duckdb.DuckDBPyConnection
    manifest: Manifest


def default_home() -> Home:
    """``HERDBOOK_HOME``, else the folder ``home`` where the explorer was started."""
    return Home(Path(os.environ.get("HERDBOOK_HOME") or "home"))


State = tuple[int, int, int]


@st.cache_resource(max_entries=2, show_spinner=False)
def _connection(root: str, sha256: str, state: State) -> duckdb.DuckDBPyConnection:
    # Keyed by digest and state of the file: a new publication opens by itself, without a restart,
    # and one that was replaced by hand is checked again before it is read.
    return open_published(Home(Path(root)))


def open_register(home: Home) -> tuple[duckdb.DuckDBPyConnection, Manifest]:
    """A cursor of the current publication, and its manifest.

    Raises
    ------
    NotFoundError
        If nothing was published.
    SchemaError
        If the publication is of another schema version or cannot be read.
    """
    manifest = read_manifest(home)
    state = _state(home.published / manifest.file)
    connection = _connection(str(home.root.resolve()), manifest.sha256, state)
    return connection.cursor(), manifest


def prepare(home: Home) -> None:
    """Open the current publication and check the files beside it, which takes its time once.

    Without a publication that can be shown nothing happens: that is for the pages to tell.
    """
    try:
        _, manifest = open_register(home)
        for role in manifest.companions:
            companion_path(home, manifest, role)
    except (HerdbookError, OSError, duckdb.Error):
        return


def fetched_from(manifest: Manifest) -> str | None:
    """Where the current publication was fetched from, with its commit; None: it was made here."""
    origin = read_origin(default_home(), manifest)
    return f"{origin.address}@{origin.commit}" if origin else None


def forget_register() -> None:
    """Open the register anew on the next run: its file proved damaged under an open connection."""
    _connection.clear()


def _state(path: Path) -> State:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_size, found.st_mtime_ns, found.st_ino)

"""The register behind a page: one shared connection for each publication, a cursor for each run."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb
import streamlit as st

from lineage.store.home import Home
from lineage.store.publication import Manifest, read_manifest
from lineage.store.publish import open_published

__all__ = ["Visit", "default_home", "open_register"]


@dataclass(frozen=True, slots=True)
class Visit:
    """What a page needs for one run: a cursor, the manifest, and where links lead."""

    cursor: duckdb.DuckDBPyConnection
    manifest: Manifest
    follow: Callable[[str], None]


def default_home() -> Home:
    """``HERDBOOK_HOME``, else the folder ``home`` where the explorer was started."""
    return Home(Path(os.environ.get("HERDBOOK_HOME") or "home"))


@st.cache_resource(max_entries=2, show_spinner=False)
def _connection(root: str, sha256: str) -> duckdb.DuckDBPyConnection:
    # Keyed by the digest: a new publication opens by itself, without a restart.
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
    connection = _connection(str(home.root.resolve()), manifest.sha256)
    return connection.cursor(), manifest

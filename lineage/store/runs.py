"""Provenance: one row per run of a stage, with software, parameters and inputs."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import duckdb

from lineage import __version__

__all__ = ["last_inputs", "record_run"]

Scalar = str | int | float | bool | None
_PACKAGES = ("huggingface_hub", "duckdb", "numpy", "scipy", "torch")


def _environment() -> dict[str, str]:
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


@contextmanager
def record_run(
    connection: duckdb.DuckDBPyConnection,
    stage: str,
    parameters: Mapping[str, Scalar],
    inputs: Mapping[str, Scalar] | None = None,
) -> Iterator[int]:
    """Record a run of `stage`; yields its number.

    A run that is killed or fails keeps ``finished_at`` NULL.
    """
    row = connection.execute("SELECT coalesce(max(run_id), 0) + 1 FROM run").fetchone()
    run_id = int(row[0]) if row else 1
    connection.execute(
        "INSERT INTO run VALUES (?, ?, ?, NULL, ?, ?, ?, ?)",
        [
            run_id,
            stage,
            datetime.now(UTC),
            __version__,
            json.dumps(dict(parameters)),
            json.dumps(_environment()),
            json.dumps(dict(inputs or {})),
        ],
    )
    yield run_id
    connection.execute(
        "UPDATE run SET finished_at = ? WHERE run_id = ?", [datetime.now(UTC), run_id]
    )


def last_inputs(connection: duckdb.DuckDBPyConnection, stage: str) -> dict[str, Scalar]:
    """What the latest finished run of `stage` worked on; empty if there was none."""
    row = connection.execute(
        "SELECT inputs FROM run WHERE stage = ? AND finished_at IS NOT NULL"
        " ORDER BY run_id DESC LIMIT 1",
        [stage],
    ).fetchone()
    return dict(json.loads(row[0])) if row else {}

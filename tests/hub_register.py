"""The register made by hand, one of whose founders has eighty children more."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from pathlib import Path

import duckdb

from lineage.store.home import Home
from synthetic import MODELS, START, make_publication

__all__ = ["FOUNDER", "N_CHILDREN", "make_hub"]

FOUNDER = "lonely/unrelated"
N_CHILDREN = 80


def make_hub(root: Path) -> Home:
    """Write the publication below `root`: the founder's row is the last of the drawing."""
    home = make_publication(root)
    path = home.published / "register-1.duckdb"
    first = len(MODELS)
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "UPDATE model SET size = ?, n_children = ?, n_descendants = ? WHERE repo_id = ?",
            [1 + N_CHILDREN, N_CHILDREN, N_CHILDREN, FOUNDER],
        )
        for place in range(N_CHILDREN):
            name, when = f"crowd/model-{place}", START + timedelta(days=40 + 3 * place)
            connection.execute(
                "INSERT INTO model (repo_id, observed_at, status, created_at, downloads_30d,"
                " primary_parent, founder, generation, n_parents, n_children, n_descendants, pos,"
                " size, n_claims, n_problems)"
                " VALUES (?, ?, 'ok', ?, ?, ?, ?, 1, 1, 0, 0, ?, 1, 1, 0)",
                [name, when, when, 1000 - place, FOUNDER, FOUNDER, first + place],
            )
            relation = "quantized" if place % 4 else "adapter"
            connection.execute(
                "INSERT INTO edge VALUES (?, ?, 0, ?, NULL, NULL, 'unverified', 'declared', NULL,"
                " NULL, '[]', ?, ?)",
                [name, FOUNDER, relation, first + place, first - 1],
            )
    manifest = home.published / "manifest.json"
    fields = json.loads(manifest.read_text())
    fields["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(fields))
    return home

"""A published register with an atlas: the one made by hand, and a family too large for one look."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import duckdb

from lineage.store.companions import build_companions
from lineage.store.home import Home
from synthetic import MODELS, START, make_publication

__all__ = ["CROWD", "FIRST_OF_CROWD", "make_atlas_home"]

CROWD = 4000
FIRST_OF_CROWD = len(MODELS)
"""Position of the founder of the large family, ``crowd/model-0``."""

# A founder and its children, one every five hours; one in fifty has no date.
_MODELS = """
INSERT INTO model BY NAME
SELECT 'crowd/model-' || i AS repo_id, 'ok' AS status, $start + INTERVAL 900 DAY AS observed_at,
       CASE WHEN i % 50 <> 49 THEN $start + to_hours(i::INTEGER * 5) END AS created_at,
       'MIT' AS licence, 'crowd/model-0' AS founder,
       CASE WHEN i > 0 THEN 'crowd/model-0' END AS primary_parent,
       CASE WHEN i > 0 THEN 1 ELSE 0 END AS n_parents, 0 AS n_children,
       CASE WHEN i = 0 THEN $crowd - 1 ELSE 0 END AS n_descendants,
       CASE WHEN i = 0 THEN 0 ELSE 1 END AS generation,
       $first + i AS pos, CASE WHEN i = 0 THEN $crowd ELSE 1 END AS size,
       0 AS n_claims, 0 AS n_problems
FROM range($crowd) t(i)
"""
_EDGES = """
INSERT INTO edge BY NAME
SELECT 'crowd/model-' || i AS child, 'crowd/model-0' AS parent, 0 AS position,
       ['finetune', 'adapter', 'quantized', 'merge'][1 + i % 4] AS relation,
       ['confirmed', 'unverified', 'undeclared'][1 + i % 3] AS verdict,
       'declared' AS grade, '[]' AS evidence, $first + i AS child_pos, $first AS parent_pos
FROM range(1, $crowd) t(i)
"""


def make_atlas_home(root: Path, *, crowd: int = CROWD) -> Home:
    """Publish the register below `root` with all its companions."""
    home = make_publication(root)
    manifest_path = home.published / "manifest.json"
    manifest = json.loads(manifest_path.read_text())
    path = home.published / manifest["file"]
    if crowd:
        values = {"crowd": crowd, "first": FIRST_OF_CROWD}
        with duckdb.connect(str(path)) as connection:
            connection.execute(_MODELS, {**values, "start": START})
            connection.execute(_EDGES, values)
    manifest["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    companions = build_companions(path, home.published, path.stem)
    manifest["companions"] = {role: asdict(of) for role, of in companions.items()}
    manifest_path.write_text(json.dumps(manifest))
    return home

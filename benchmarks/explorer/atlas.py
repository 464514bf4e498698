"""What the atlas costs: its file for a published register of millions of models, and its views.

Run with ``python -m benchmarks.explorer.atlas [--models 3000000] [--home DIR]``. Simulates a Hub,
writes the two tables of a publication that the atlas is made from, and builds the atlas in a child
process, whose time and peak memory are printed as JSON with the sizes of tiles and of a thousand
views. With ``--home`` the publication stays there, to be looked at with the explorer.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import re
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from benchmarks.explorer.register import LAST_DAY, names_of
from lineage.evolution.chance.rules import FINETUNE, MERGE, QUANTISED, HubRules
from lineage.evolution.chance.simulate import simulate_hub
from lineage.graph import LineageGraph
from lineage.store.atlas import build_atlas, open_atlas
from lineage.store.home import Home
from lineage.store.publication import read_manifest
from lineage.store.schema import PUBLISHED, SCHEMA_VERSION
from lineage.views.atlas import Window, tiles_of

_RELATIONS = {FINETUNE: "finetune", QUANTISED: "quantized", MERGE: "merge"}
_LICENCES = ("Apache-2.0", "MIT", "llama3", "gemma", "CC-BY-NC-4.0", "GPL-3.0", None)
_VERDICTS = ("confirmed", "undeclared", "contradicted", "unverified")


def write_publication(home: Home, n_models: int, seed: int = 1) -> Path:
    """A published database with the tables ``model`` and ``edge`` of a simulated Hub."""
    rng = np.random.default_rng(seed)
    hub = simulate_hub(
        HubRules(
            n_models,
            1600.0,
            growth_per_day=0.0025,
            founder_share=0.12,
            quantised_share=0.25,
            merge_share=0.16,
        ),
        rng,
    )
    names = names_of(hub)
    graph = LineageGraph(tuple(names), hub.parent_start, hub.parent_index, hub.parent_weight)
    ids = pa.array(names)
    last_us = int(LAST_DAY.timestamp() * 1e6)
    born_us = last_us + ((hub.born_day - hub.born_day.max()) * 86_400e6).astype(np.int64)
    primary = pa.array(graph.primary, mask=graph.primary < 0)
    models = pa.table(
        {
            "repo_id": ids,
            "created_at": pa.array(born_us, pa.timestamp("us", tz="UTC")),
            "licence": pa.array(_LICENCES).take(pa.array(rng.integers(0, 7, n_models))),
            "primary_parent": ids.take(primary),
            "founder": ids.take(pa.array(graph.founder)),
            "generation": graph.generation,
            "n_parents": graph.n_parents,
            "n_children": graph.n_children,
            "n_descendants": graph.size - 1,  # of the primary tree: the atlas asks for no more
            "pos": graph.pos,
            "size": graph.size,
            "downloads_30d": np.floor(np.exp(rng.normal(2, 2, n_models))).astype(np.int64),
        }
    )
    child = np.repeat(np.arange(n_models), np.diff(hub.parent_start))
    relations = pa.array([_RELATIONS.get(kind, "finetune") for kind in range(max(_RELATIONS) + 1)])
    edges = pa.table(
        {
            "child": ids.take(pa.array(child)),
            "parent": ids.take(pa.array(hub.parent_index)),
            "child_pos": graph.pos[child],
            "parent_pos": graph.pos[hub.parent_index],
            "position": np.arange(child.size) - hub.parent_start[child],
            "relation": relations.take(pa.array(hub.kind[child])),
            "verdict": pa.array(_VERDICTS).take(
                pa.array(rng.choice(4, child.size, p=(0.5, 0.1, 0.05, 0.35)))
            ),
        }
    )
    home.prepare()
    path = home.published / "simulated.duckdb"
    path.unlink(missing_ok=True)
    with duckdb.connect(str(path)) as connection:
        connection.execute("SET enable_progress_bar = false")
        for table in PUBLISHED:
            connection.execute(table.ddl())
        connection.register("models", models)
        connection.register("edges", edges)
        connection.execute(
            "INSERT INTO model BY NAME SELECT *, $seen AS observed_at, 'ok' AS status, "
            "0 AS n_claims, 0 AS n_problems FROM models ORDER BY pos",
            {"seen": LAST_DAY + timedelta(days=1)},
        )
        connection.execute(
            "INSERT INTO edge BY NAME SELECT *, 'declared' AS grade, '[]' AS evidence FROM edges "
            "ORDER BY child_pos, position"
        )
    return path


def publish_with_atlas(home: Home, path: Path, atlas: Path) -> None:
    """Name a database and its atlas in a manifest."""
    digests = {}
    for file in (path, atlas):
        with file.open("rb") as opened:
            digests[file] = hashlib.file_digest(opened, "sha256").hexdigest()
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "data_date": f"{LAST_DAY:%Y-%m-%dT%H:%M:%SZ}",
        "sha256": digests[path],
        "file": path.name,
        "herdbook_version": "simulated",
        "companions": {"atlas": {"file": atlas.name, "sha256": digests[atlas]}},
    }
    (home.published / "manifest.json").write_text(json.dumps(manifest))


def _built(database: Path, target: Path) -> tuple[float, float, int]:
    """Wall-clock and CPU seconds and peak bytes of building, in a process that did nothing else."""
    begin, cpu_begin = time.perf_counter(), time.process_time()
    build_atlas(database, target)
    build_s, cpu_s = time.perf_counter() - begin, time.process_time() - cpu_begin
    # Not getrusage: its peak is that of the parent process before this one began.
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return build_s, cpu_s, int(peak[1]) * 1024 if peak else 0


def measure(home: Home, n_models: int) -> dict[str, object]:
    """Build the atlas once and look at random windows of it."""
    database = write_publication(home, n_models)
    target = home.published / "simulated.atlas"
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        build_s, cpu_s, peak_bytes = pool.apply(_built, (database, target))
    publish_with_atlas(home, database, target)
    atlas = open_atlas(home, read_manifest(home))
    sizes = np.array([len(atlas.block(number)) for number in range(atlas.n_tiles)])
    rng = np.random.default_rng(0)
    view_bytes, view_s = [], []
    for _ in range(1000):
        begin = time.perf_counter()
        rows = min(n_models, 16 * (n_models / 16) ** rng.random())
        window = Window(rng.random() * (n_models - rows), rows, 0.0, 1.0)
        blocks = [atlas.block(number) for number in tiles_of(atlas, window, 560)]
        view_s.append(time.perf_counter() - begin)
        view_bytes.append(sum(map(len, blocks)))
    return {
        "models": n_models,
        "build_s": round(build_s, 1),
        "build_cpu_s": round(cpu_s, 1),
        "build_peak_mb": round(peak_bytes / 1e6),
        "file_mb": round(target.stat().st_size / 1e6, 1),
        "tiles": atlas.n_tiles,
        "leaf_kb_median_max": [
            round(float(f(sizes[: atlas.n_leaves])) / 1e3, 1) for f in (np.median, np.max)
        ],
        "cells_kb_median_max": [
            round(float(f(sizes[atlas.n_leaves :])) / 1e3, 1) for f in (np.median, np.max)
        ],
        "view_kb_median_max": [round(float(f(view_bytes)) / 1e3, 1) for f in (np.median, np.max)],
        "view_ms_p95": round(1e3 * float(np.quantile(view_s, 0.95)), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=3_000_000)
    parser.add_argument("--home", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = Home(asked.home or Path(temporary))
        print(json.dumps(measure(home, asked.models), indent=2))


if __name__ == "__main__":
    main()

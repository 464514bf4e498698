"""The small register of :mod:`synthetic` with layers, pair tests, recipes and licences."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import duckdb

from lineage.store.home import Home
from lineage.store.licence_conflicts import fill_licence_conflicts
from synthetic import START, make_publication

MERGE, PARENTS = "blend/slerp-a-b", ("zen/chat", "other/base-b-tuned")
LICENCES = {
    "other/base-b": "CC-BY-NC-4.0",
    "other/base-b-tuned": None,
    "acme/base-a-7b": "llama3.1",
    "zen/chat": "Apache-2.0",
    "zen/chat-v2": "CC-BY-NC-4.0",
    "stack/franken-9b": "MIT",
}
"""The rest is licensed MIT, but for what states nothing."""
UNLICENSED = ("lora/style-adapter", "gone/away")
N_LAYERS = 8


def make_register(root: Path) -> Home:
    """Write the register below `root`."""
    home = make_publication(root)
    manifest = home.published / "manifest.json"
    fields = json.loads(manifest.read_text())
    path = home.published / fields["file"]
    connection = duckdb.connect()
    connection.execute(f"ATTACH '{path}' AS publication")
    connection.execute("USE publication")
    _add_layers(connection)
    _add_tests(connection)
    _add_licences(connection)
    connection.execute("USE memory")
    connection.execute("DETACH publication")
    connection.close()
    fields["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(fields))
    return home


def _add_layers(connection: duckdb.DuckDBPyConnection) -> None:
    """The merge beside both parents, a copy, a quantisation, a stranger, and nothing comparable."""
    rows: list[list[object]] = []
    for place, parent in enumerate(PARENTS):
        for layer in (None, *range(N_LAYERS)):
            share = 0.62 - 0.02 * (layer or 0)
            rows.append(
                [MERGE, parent, layer, layer, 1000, 200 + 10 * (layer or 0), 0.01, 0, 0,
                 share if place == 0 else 1 - share]
            )  # fmt: skip
    rows += [["copy/either-one", "zen/chat-v2", layer, layer, 500, 500, 0.0, 0, 0, None]
             for layer in (None, 0, 1)]  # fmt: skip
    rows += [["zen/chat-v2-GGUF", "zen/chat-v2", 0, 0, 400, 12, 0.004, 400, 396, None]]
    rows += [["lora/style-adapter", "zen/chat", None, None, 0, 0, None, 0, 0, None]]
    connection.executemany("INSERT INTO edge_layer VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    connection.executemany(
        "INSERT INTO edge_match VALUES (?, ?, 'up, gate', ?, ?)",
        [
            [MERGE, PARENTS[0], i, [None if j == 7 else 50.0 if i == j else 0.3 * (j - i)
                                    for j in range(N_LAYERS)]]
            for i in range(N_LAYERS)
        ],
    )  # fmt: skip


def _add_tests(connection: duckdb.DuckDBPyConnection) -> None:
    connection.executemany(
        "INSERT INTO pair VALUES (1, ?, ?, ?, ?, ?, ?)",
        [
            [MERGE, "zen/chat", "related", 93.0, 1e-300, 0.21],
            ["liar/claims-base-b", "other/base-b", "unrelated", -0.4, 0.7, 0.0001],
            ["lonely/unrelated", "zen/chat", "unrelated", 0.2, 0.5, None],
        ],
    )
    connection.execute(
        "INSERT INTO recipe VALUES (?, 'card_recipe', 0, 'slerp', '{}', ?, ?, ?, NULL)",
        [MERGE, "models: [<script>alert('recipe')</script>]", "0" * 40, START],
    )


def _add_licences(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("UPDATE model SET licence = 'MIT'")
    for repo_id, licence in {**LICENCES, **dict.fromkeys(UNLICENSED)}.items():
        connection.execute("UPDATE model SET licence = ? WHERE repo_id = ?", [licence, repo_id])
    fill_licence_conflicts(connection)

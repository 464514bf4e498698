"""Published registers of random populations, for questions whose answer a plain loop can give."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np

from lineage.graph import LineageGraph
from lineage.store.home import Home
from lineage.store.schema import PUBLISHED

__all__ = ["EPOCH_DAY", "People", "altered", "random_people", "register_of"]

EPOCH_DAY = 19_700
"""A day of December 2023, from which random births are counted."""


@dataclass
class People:
    """Models of a register, births in days since 1970; edges: child, parent, share, relation."""

    ids: list[str]
    born: list[float | None]
    edges: list[tuple[int, int, float, str]]
    licence: list[str | None]
    parameters: list[int | None]
    observations: list[tuple[int, float, int | None, int | None, int | None]] = field(
        default_factory=list
    )
    """Model, day, likes, downloads of all time, downloads of thirty days."""

    @property
    def graph(self) -> LineageGraph:
        """The pedigree, edges of a child in the order given."""
        seen: dict[int, int] = {}
        rows = []
        for child, parent, share, _ in self.edges:
            rows.append((self.ids[child], self.ids[parent], share, seen.get(child, 0)))
            seen[child] = seen.get(child, 0) + 1
        return LineageGraph.from_edges(self.ids, rows)


def random_people(rng: np.random.Generator, n: int, *, days: float = 240.0) -> People:
    """Births in order of date; two thirds have a parent, some of those two."""
    born = np.sort(EPOCH_DAY + days * rng.random(n))
    relations = ("finetune", "adapter", "quantized")
    edges = []
    for i in range(3, n):
        if rng.random() < 1 / 3:
            continue
        first, second = rng.choice(i, size=2, replace=False).tolist()
        if rng.random() < 0.2:
            edges += [(i, first, 0.7, "merge"), (i, second, 0.3, "merge")]
        else:
            edges.append((i, first, 1.0, relations[int(rng.integers(3))]))
    licence = [None if x == 3 else "abc"[x] for x in rng.integers(0, 4, n).tolist()]
    parameters = [int(10 ** rng.uniform(8, 11)) for _ in range(n)]
    dated = [None if rng.random() < 0.03 else float(day) for day in born]
    for i in rng.choice(n, n // 20, replace=False).tolist():
        dated[i] = EPOCH_DAY + days * float(rng.random())  # some are older than their parents
    return People([f"o{i % 7}/m{i:03d}" for i in range(n)], dated, edges, licence, parameters)


def moment(day: float) -> datetime:
    """A day since 1970 as a moment."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)


def register_of(people: People) -> duckdb.DuckDBPyConnection:
    """The published tables in memory, with models, edges and observations."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    for table in PUBLISHED:
        connection.execute(table.ddl())
    graph = people.graph
    primary = [people.ids[k] if k >= 0 else None for k in graph.primary.tolist()]
    for i, name in enumerate(people.ids):
        day = people.born[i]
        values = {
            "repo_id": name, "observed_at": moment(EPOCH_DAY), "status": "ok",
            "created_at": None if day is None else moment(day), "licence": people.licence[i],
            "parameters": people.parameters[i], "primary_parent": primary[i],
            "founder": people.ids[int(graph.founder[i])],
            "generation": int(graph.generation[i]), "n_parents": int(graph.n_parents[i]),
            "n_children": int(graph.n_children[i]), "n_descendants": int(graph.n_descendants[i]),
            "pos": int(graph.pos[i]), "size": int(graph.size[i]), "n_claims": 0, "n_problems": 0,
        }  # fmt: skip
        _insert(connection, "model", values)
    seen: dict[int, int] = {}
    for child, parent, share, relation in people.edges:
        values = {
            "child": people.ids[child], "parent": people.ids[parent],
            "position": seen.get(child, 0), "relation": relation, "weight": share,
            "verdict": "confirmed", "grade": "inferred", "evidence": "[]",
            "child_pos": int(graph.pos[child]), "parent_pos": int(graph.pos[parent]),
        }  # fmt: skip
        seen[child] = seen.get(child, 0) + 1
        _insert(connection, "edge", values)
    for model, day, likes, ever, rolling in people.observations:
        values = {
            "repo_id": people.ids[model], "observed_at": moment(day), "likes": likes,
            "downloads_all_time": ever, "downloads_30d": rolling, "source": "hub",
        }  # fmt: skip
        _insert(connection, "observation", values)
    return connection


def _insert(connection: duckdb.DuckDBPyConnection, table: str, values: dict[str, object]) -> None:
    marks = ", ".join("?" for _ in values)
    connection.execute(
        f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", list(values.values())
    )


def altered(home: Home, statement: str, rows: Sequence[Sequence[object]] = ((),)) -> Home:
    """The same publication after a statement for each of `rows`, with its digest made anew."""
    manifest = home.published / "manifest.json"
    said = json.loads(manifest.read_text())
    path = home.published / said["file"]
    connection = duckdb.connect(str(path))
    for row in rows:
        connection.execute(statement, list(row))
    connection.close()
    said["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(said))
    return home

"""Reads of the published database by clade: who stands where, and which of them are wanted.

A clade is an interval of ``pos`` (:mod:`lineage.store.schema`), by which ``model`` is stored, so
these statements touch little more than they answer with. Names and single positions are looked up
through indexes. Times leave as plain UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb

from lineage.store.published import EDGE_COLUMNS, MODEL_COLUMNS

__all__ = [
    "CATEGORIES",
    "FIRST_EDGE",
    "Bounds",
    "chains",
    "edges_at",
    "edges_to",
    "further_children",
    "largest",
    "line_to",
    "matches",
    "merges",
    "models_at",
    "models_named",
    "parents_at",
    "sizes_at",
    "trait_names",
    "trait_values",
    "unseen_above",
]

Row = tuple[Any, ...]

CATEGORIES = {
    "relation": "edge.relation",
    "verdict": "edge.verdict",
    "licence": "model.licence",
    "task": "model.pipeline_tag",
    "architecture": "model.architecture",
    "library": "model.library",
    "none": "NULL",
}
"""What births can be counted by, and the expression that gives it."""

_MODEL = ", ".join(
    "created_at AT TIME ZONE 'UTC'" if column == "created_at" else column
    for column in MODEL_COLUMNS
)
_EDGE = ", ".join(EDGE_COLUMNS)
FIRST_EDGE = """LEFT JOIN (SELECT * FROM edge WHERE child_pos BETWEEN $start AND $stop - 1
    AND position = 0) AS edge ON edge.child_pos = model.pos"""
"""Joins the first parents of the models in ``[$start, $stop)``."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Which models of a clade are wanted; empty or zero means any.

    Relation and verdict are those of a model's first parent; `since` and `until` are days (UTC) of
    its creation, both included; a count that is not known is zero here.
    """

    relations: tuple[str, ...] = ()
    verdicts: tuple[str, ...] = ()
    since: date | None = None
    until: date | None = None
    min_downloads: int = 0
    min_descendants: int = 0

    def where(self) -> tuple[str, dict[str, object]]:
        """Conditions on ``model`` and ``edge``, and the values that they name."""
        conditions: list[str] = []
        values: dict[str, object] = {}
        if self.relations:
            conditions.append("edge.relation IN (SELECT unnest($relations::VARCHAR[]))")
            values["relations"] = list(self.relations)
        if self.verdicts:
            conditions.append("edge.verdict IN (SELECT unnest($verdicts::VARCHAR[]))")
            values["verdicts"] = list(self.verdicts)
        if self.since is not None:
            conditions.append("model.created_at >= $since::DATE")
            values["since"] = self.since.isoformat()
        if self.until is not None:
            conditions.append("model.created_at < $until::DATE + INTERVAL 1 DAY")
            values["until"] = self.until.isoformat()
        if self.min_downloads > 0:
            conditions.append("coalesce(model.downloads_30d, 0) >= $min_downloads")
            values["min_downloads"] = self.min_downloads
        if self.min_descendants > 0:
            conditions.append("model.n_descendants >= $min_descendants")
            values["min_descendants"] = self.min_descendants
        return "".join(f" AND {condition}" for condition in conditions), values

    @property
    def needs_edges(self) -> bool:
        """Whether a condition is about the first parent."""
        return bool(self.relations or self.verdicts)


def _marks(values: Sequence[object]) -> str:
    # Constants in a list go through the index; a list that is unnested scans the table.
    return ", ".join("?" * len(values))


def models_named(cursor: duckdb.DuckDBPyConnection, names: Sequence[str]) -> list[Row]:
    """The model rows of `names` in drawing order; unknown names are left out."""
    if not names:
        return []
    return cursor.execute(
        f"SELECT {_MODEL} FROM model WHERE repo_id IN ({_marks(names)}) ORDER BY pos", list(names)
    ).fetchall()


def models_at(cursor: duckdb.DuckDBPyConnection, places: Sequence[int]) -> list[Row]:
    """The model rows at some drawing positions, in their order."""
    if not places:
        return []
    return cursor.execute(
        f"SELECT {_MODEL} FROM model WHERE pos IN ({_marks(places)}) ORDER BY pos", list(places)
    ).fetchall()


def sizes_at(cursor: duckdb.DuckDBPyConnection, places: Sequence[int]) -> list[Row]:
    """Drawing position and clade size at some positions, in their order."""
    if not places:
        return []
    return cursor.execute(
        f"SELECT pos, size FROM model WHERE pos IN ({_marks(places)}) ORDER BY pos", list(places)
    ).fetchall()


def parents_at(cursor: duckdb.DuckDBPyConnection, places: Sequence[int]) -> list[int]:
    """Positions of the catalogued parents of the models at `places`, first parents first."""
    if not places:
        return []
    rows = cursor.execute(
        f"SELECT parent_pos FROM edge WHERE child_pos IN ({_marks(places)}) "
        "AND parent_pos IS NOT NULL ORDER BY position, child_pos, parent_pos",
        list(places),
    ).fetchall()
    return [pos for (pos,) in rows]


def edges_at(cursor: duckdb.DuckDBPyConnection, places: Sequence[int]) -> list[Row]:
    """Edges to the parents of the models at `places`, first parents first, and the parents' places.

    The place of a parent that is not catalogued is None.
    """
    if not places:
        return []
    return cursor.execute(
        f"SELECT {_EDGE}, parent_pos FROM edge WHERE child_pos IN ({_marks(places)}) "
        "ORDER BY position, child_pos, parent",
        list(places),
    ).fetchall()


def edges_to(cursor: duckdb.DuckDBPyConnection, parent_pos: int, limit: int) -> list[Row]:
    """Edges from the model at `parent_pos` to its children, most descendants first.

    What the weights contradict is left out.
    """
    rank = {pos: i for i, pos in enumerate(_children(cursor, parent_pos, 0, limit))}
    if not rank:
        return []
    # The parent is asked for here: in the statement it would keep DuckDB from the children's index.
    rows = cursor.execute(
        f"SELECT {_EDGE}, child_pos, parent_pos FROM edge WHERE child_pos IN ({_marks([*rank])})",
        [*rank],
    ).fetchall()
    edges = [row for row in rows if row[-1] == parent_pos]
    return [row[:-2] for row in sorted(edges, key=lambda row: rank[row[-2]])]


def further_children(cursor: duckdb.DuckDBPyConnection, parent_pos: int, limit: int) -> list[int]:
    """Positions of models that have the one at `parent_pos` as a further parent, largest first."""
    return _children(cursor, parent_pos, 1, limit)


def _children(
    cursor: duckdb.DuckDBPyConnection, parent_pos: int, least_position: int, limit: int
) -> list[int]:
    """Positions of the children whose parent stands at that place or a later one, largest first."""
    rows = cursor.execute(
        """
        WITH child AS (SELECT child_pos FROM edge WHERE parent_pos = ? AND position >= ?
                       AND verdict <> 'contradicted')
        SELECT pos FROM child JOIN model ON pos = child_pos
        ORDER BY n_descendants DESC, coalesce(downloads_30d, 0) DESC, pos LIMIT ?
        """,
        [parent_pos, least_position, limit],
    ).fetchall()
    return [pos for (pos,) in rows]


def line_to(cursor: duckdb.DuckDBPyConnection, founder_pos: int, pos: int) -> list[Row]:
    """Name and position of everybody from the founder to the model at `pos`, by first parents."""
    rows = cursor.execute(
        "SELECT pos FROM model WHERE pos BETWEEN $first AND $last AND size > $last - pos",
        {"first": founder_pos, "last": pos},
    ).fetchall()
    places = [place for (place,) in rows]
    return cursor.execute(
        f"SELECT repo_id, pos FROM model WHERE pos IN ({_marks(places)}) ORDER BY pos", places
    ).fetchall()


def chains(
    cursor: duckdb.DuckDBPyConnection, start: int, stop: int, places: Sequence[int]
) -> list[int]:
    """Positions of those in ``[start, stop)`` from whom somebody at `places` descends."""
    if not places:
        return []
    rows = cursor.execute(
        """
        WITH place AS (SELECT unnest($places::INTEGER[]) AS spot),
        inner_one AS (SELECT pos, size FROM model
                      WHERE pos BETWEEN $start AND $stop - 1 AND size > 1)
        SELECT DISTINCT pos FROM inner_one JOIN place ON pos < spot AND spot < pos + size
        """,
        {"places": list(places), "start": start, "stop": stop},
    ).fetchall()
    return [pos for (pos,) in rows]


def largest(
    cursor: duckdb.DuckDBPyConnection, start: int, stop: int, bounds: Bounds, limit: int
) -> list[int]:
    """Positions in ``[start, stop)`` of those with most descendants, then downloads.

    A parent has more descendants than its child: without bounds, whoever is listed comes after
    all of its ancestors.
    """
    conditions, values = bounds.where()
    rows = cursor.execute(
        f"""
        SELECT model.pos FROM model {FIRST_EDGE if bounds.needs_edges else ""}
        WHERE model.pos BETWEEN $start AND $stop - 1 {conditions}
        ORDER BY n_descendants DESC, coalesce(downloads_30d, 0) DESC, pos LIMIT $limit
        """,
        {"start": start, "stop": stop, "limit": limit, **values},
    ).fetchall()
    return [pos for (pos,) in rows]


def merges(
    cursor: duckdb.DuckDBPyConnection, start: int, stop: int, bounds: Bounds, limit: int
) -> list[int]:
    """Positions in ``[start, stop)`` of the models with several parents, largest first."""
    conditions, values = bounds.where()
    rows = cursor.execute(
        f"""
        SELECT model.pos FROM model {FIRST_EDGE if bounds.needs_edges else ""}
        WHERE model.pos BETWEEN $start AND $stop - 1 AND model.n_parents > 1 {conditions}
        ORDER BY n_descendants DESC, coalesce(downloads_30d, 0) DESC, pos LIMIT $limit
        """,
        {"start": start, "stop": stop, "limit": limit, **values},
    ).fetchall()
    return [pos for (pos,) in rows]


def matches(
    cursor: duckdb.DuckDBPyConnection, start: int, stop: int, text: str, limit: int
) -> list[int]:
    """Positions in ``[start, stop)`` of models whose name contains `text`, largest first."""
    rows = cursor.execute(
        "SELECT pos FROM model WHERE pos BETWEEN $start AND $stop - 1 "
        "AND contains(lower(repo_id), $text) ORDER BY n_descendants DESC, pos LIMIT $limit",
        {"start": start, "stop": stop, "text": text.lower(), "limit": limit},
    ).fetchall()
    return [pos for (pos,) in rows]


def unseen_above(cursor: duckdb.DuckDBPyConnection, children: Sequence[str]) -> list[Row]:
    """Child, unseen ancestor and found parent of those of `children` that have such an ancestor."""
    if not children:
        return []
    return cursor.execute(
        "SELECT finding.child, finding.unseen_ancestor, finding_parent.parent "
        "FROM finding JOIN finding_parent USING (finding_id) "
        f"WHERE finding.child IN ({_marks(children)}) AND finding.valid_to IS NULL "
        "AND finding.unseen_ancestor IS NOT NULL ORDER BY ALL",
        list(children),
    ).fetchall()


def trait_names(cursor: duckdb.DuckDBPyConnection, limit: int) -> list[str]:
    """Names of measured traits, those of most models first."""
    rows = cursor.execute(
        "SELECT name FROM trait GROUP BY name ORDER BY count(DISTINCT repo_id) DESC, name LIMIT ?",
        [limit],
    ).fetchall()
    return [name for (name,) in rows]


def trait_values(
    cursor: duckdb.DuckDBPyConnection, name: str, repo_ids: Sequence[str]
) -> list[Row]:
    """Model and mean value of one trait; models without a value are left out."""
    if not repo_ids:
        return []
    return cursor.execute(
        f"SELECT repo_id, avg(value) FROM trait WHERE name = ? AND repo_id IN ({_marks(repo_ids)}) "
        "AND isfinite(value) GROUP BY repo_id",
        [name, *repo_ids],
    ).fetchall()

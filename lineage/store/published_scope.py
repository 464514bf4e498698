"""Of whom a question about the population is asked: everybody, or one clade of the drawing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BLOCKS",
    "BORN",
    "CLUSTERED",
    "DATED",
    "RELATED",
    "Columns",
    "Scope",
    "columns",
    "scope_of",
]

Columns = dict[str, NDArray[Any]]

BLOCKS = 1_000
"""Most independent groups that intervals are made from; where there are more, whole groups are
thrown together at random into so many (the variance between random groups estimates the same:
Wolter 2007, *Introduction to Variance Estimation*, ch. 2)."""

# The Hub's creation times begin here: what is older has it too, so that it is no date of birth.
_FIRST_DAY = datetime(2022, 3, 2, 23, 29, 5, tzinfo=UTC).timestamp() / 86_400

DATED = f"""
    dated AS (
        SELECT *, epoch(created_at) / 86400.0 AS day FROM model
        WHERE epoch(created_at) / 86400.0 > {_FIRST_DAY!r} AND epoch(created_at) / 86400.0 < $until)
"""
"""Common table of the models born before the day ``$until`` (since 1970 UTC): all columns of
``model``, and ``day``. Models of unknown date are not in it."""

CLUSTERED = """
    head AS (
        SELECT pos AS line FROM model WHERE pos BETWEEN $low AND $high AND
            CASE WHEN $clade <> '' THEN repo_id = $clade OR primary_parent = $clade
                 ELSE repo_id = founder OR ($lines AND primary_parent = founder) END),
    clustered AS (
        SELECT dated.*,
               CASE WHEN $blocks = 0 THEN line ELSE hash(line) % $blocks END::BIGINT AS cluster
        FROM dated ASOF JOIN head ON dated.pos >= head.line
        WHERE dated.pos BETWEEN $low AND $high)
"""
"""Common table of the dated models of a scope, with the independent group of each: its founder,
or within one clade (and of everybody, if ``$lines``) the line below the clade's head. In preorder
the head of a model is the last one before it."""


BORN = """
    born AS (
        SELECT child_pos AS pos, child.day, parent_pos, parent.day AS parent_day
        FROM edge JOIN dated AS child ON child.pos = child_pos
        JOIN dated AS parent ON parent.pos = parent_pos
        WHERE verdict <> 'contradicted' AND child.day >= parent.day AND child.day >= $since)
"""
"""Common table of births since the day ``$since``, after :data:`DATED`: one row for each child and
parent whose claim the weights do not contradict, the child dated at or after the parent."""

RELATED = """
    standing AS (
        SELECT child_pos, relation, position FROM edge
        WHERE verdict <> 'contradicted' AND parent_pos IS NOT NULL),
    related AS (
        SELECT child_pos, relation FROM standing WHERE position = 0
        UNION ALL
        SELECT child_pos, arg_min(relation, position) FROM standing
        WHERE child_pos IN (SELECT child_pos FROM edge WHERE position = 0
                            AND (verdict = 'contradicted' OR parent_pos IS NULL))
        GROUP BY child_pos)
"""
"""Common table of the relation of every child to its primary parent in the catalogue. That is
nearly always the first parent, whom to take costs a tenth of a search for the first that stands."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Places in the drawing of those who are asked, both included; everybody if `clade` is empty.

    `blocks` is how many random groups the founders (or lines) are thrown into, 0 for none.
    """

    clade: str
    low: int
    high: int
    n_models: int
    n_groups: int
    blocks: int

    @property
    def bound(self) -> dict[str, object]:
        """Parameters of :data:`CLUSTERED`, but for those of :data:`DATED`."""
        return {
            "clade": self.clade, "low": self.low, "high": self.high, "blocks": self.blocks,
            "lines": False,
        }  # fmt: skip


def scope_of(cursor: duckdb.DuckDBPyConnection, clade: str = "") -> Scope | None:
    """The scope of a clade, named by its head; None where no model has that name."""
    if clade:
        rows = cursor.execute(
            "SELECT pos, pos + size - 1, size FROM model WHERE repo_id = ?", [clade]
        ).fetchall()
        if not rows:
            return None
        low, high, n_models = rows[0]
        asked = "SELECT 1 + count(*) FROM model WHERE primary_parent = ?"
        ((n_groups,),) = cursor.execute(asked, [clade]).fetchall()
    else:
        ((n_models, n_groups),) = cursor.execute(
            "SELECT count(*), count(*) FILTER (repo_id = founder) FROM model"
        ).fetchall()
        low, high = 0, max(n_models - 1, 0)
    return Scope(clade, low, high, n_models, n_groups, BLOCKS if n_groups > BLOCKS else 0)


def columns(cursor: duckdb.DuckDBPyConnection, sql: str, bound: dict[str, object]) -> Columns:
    """The columns that a statement gives, by name; it must give no NULL."""
    found = cursor.execute(sql, bound).fetchnumpy()
    return {name: np.asarray(values) for name, values in found.items()}

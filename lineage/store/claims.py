"""The history of claims and recipes: each stands from first_seen until ended_at.

Callers hold the transaction. Text from strangers reaches SQL as bound or registered values only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter

import duckdb

from crawler.parents import FoundRecipe
from crawler.recipe_values import MergeRecipe, recipe_document
from crawler.records import Claim, ClaimSource

__all__ = ["CLAIM_COLUMNS", "enter_claims", "enter_recipes"]

CLAIM_COLUMNS = (
    "child", "parent", "parent_text", "relation", "source", "text", "weight", "method", "revision",
)  # fmt: skip
_SAME = """
    claim.child = new.child AND claim.parent_text = new.parent_text AND claim.source = new.source
    AND claim.relation IS NOT DISTINCT FROM new.relation
    AND claim.parent IS NOT DISTINCT FROM new.parent
    AND claim.weight IS NOT DISTINCT FROM new.weight
    AND claim.method IS NOT DISTINCT FROM new.method
"""

_NO_SAME = f"NOT EXISTS (SELECT 1 FROM claim WHERE claim.ended_at IS NULL AND {_SAME})"
_NAMES = ", ".join(CLAIM_COLUMNS)
# Of what is said twice the first counts.
_INSERT = (
    f"INSERT INTO claim ({_NAMES}, first_seen) SELECT {_NAMES}, seen FROM new_claims AS new"
    " WHERE {condition} QUALIFY row_number() OVER"
    " (PARTITION BY child, parent_text, relation, source, method ORDER BY n) = 1"
)


def enter_claims(
    connection: duckdb.DuckDBPyConnection,
    said: Mapping[str, tuple[datetime, frozenset[ClaimSource]]],
    claims: Iterable[Claim],
) -> None:
    """Enter what some repositories claim now, and end what they no longer do.

    Parameters
    ----------
    said
        Every repository that was looked at and was known before: when, and in which sources.
        Claims of these sources that stand and are not among `claims` end at that time; they were
        last seen when their child was last listed.
    claims
        What they, and repositories that were not known, claim. A claim that stands already is
        left alone; a changed weight is a new claim.
    """
    import pyarrow as pa

    rows = list(claims)
    text = pa.string()
    types = {name: pa.float64() if name == "weight" else text for name in CLAIM_COLUMNS}
    of_each = list(zip(*map(attrgetter(*types), rows), strict=True)) or [()] * len(types)
    new = {
        name: pa.array(column, kind)
        for (name, kind), column in zip(types.items(), of_each, strict=True)
    }
    stamp = pa.timestamp("us", "UTC")
    new["n"] = pa.array(range(len(rows)), pa.int64())
    new["is_known"] = pa.array([row.child in said for row in rows], pa.bool_())
    new["seen"] = pa.array([row.observed_at for row in rows], stamp)
    looked = [(child, at, source) for child, (at, sources) in said.items() for source in sources]
    connection.register("new_claims", pa.table(new))
    connection.register(
        "looked",
        pa.table(
            {
                "child": pa.array([child for child, _, _ in looked], text),
                "at": pa.array([at for _, at, _ in looked], stamp),
                "source": pa.array([str(source) for _, _, source in looked], text),
            }
        ),
    )
    try:
        if looked:
            connection.execute(
                "UPDATE claim SET ended_at = looked.at, last_seen = greatest(claim.first_seen,"
                " CASE WHEN listed_at < looked.at THEN listed_at END,"
                " CASE WHEN read_at < looked.at THEN read_at END)"
                " FROM looked LEFT JOIN repository ON repository.repo_id = looked.child"
                " WHERE claim.child = looked.child AND claim.source = looked.source"
                " AND claim.ended_at IS NULL"
                f" AND NOT EXISTS (SELECT 1 FROM new_claims AS new WHERE {_SAME})"
            )
        connection.execute(_INSERT.format(condition="NOT is_known"))
        if looked:
            connection.execute(_INSERT.format(condition=f"is_known AND {_NO_SAME}"))
    finally:
        connection.unregister("new_claims")
        connection.unregister("looked")


def enter_recipes(
    connection: duckdb.DuckDBPyConnection,
    child: str,
    revision: str,
    at: datetime,
    sources: frozenset[ClaimSource],
    recipes: Sequence[FoundRecipe],
) -> None:
    """Enter the recipes that `child` states now in `sources`; end those that it no longer does."""
    standing = connection.execute(
        "SELECT source, position, document::VARCHAR FROM recipe WHERE child = ?"
        " AND ended_at IS NULL",
        [child],
    ).fetchall()
    counts: dict[str, int] = {}
    stated: dict[tuple[str, int, str], MergeRecipe] = {}
    for found in recipes:
        source = str(found.source)
        position = counts.get(source, 0)
        counts[source] = position + 1
        document = json.dumps(recipe_document(found.recipe), sort_keys=True)
        stated[source, position, document] = found.recipe
    for row in standing:
        if row not in stated and row[0] in sources:
            connection.execute(
                "UPDATE recipe SET ended_at = ? WHERE child = ? AND source = ? AND position = ?"
                " AND ended_at IS NULL",
                [at, child, row[0], row[1]],
            )
    for (source, position, document), recipe in stated.items():
        if (source, position, document) not in standing:
            connection.execute(
                "INSERT INTO recipe VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)",
                [child, source, position, recipe.method, document, recipe.text, revision, at],
            )

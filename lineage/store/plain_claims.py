"""Edges of models about which there is nothing but claims, made by the database itself.

Most of the Hub's models are such: no weights of theirs were read, and nothing that was found, or
said in a circle, touches them. :func:`lineage.infer.reconcile.reconcile` would make one unverified
edge of every declared parent; for millions of them that takes an hour's memory. A *plain* child

* has no finding, and no pair test calls it unrelated to anything;
* stands on no circle of claims and findings;
* is no ancestor, by claims and findings, of a model that is not plain.

So nothing that `reconcile` decides of the others depends on a plain child's edges, and a test holds
both to the same answer.
"""

from __future__ import annotations

from datetime import datetime

import duckdb
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from crawler.records import Claim, ClaimSource
from lineage.model import Relation
from lineage.store.snapshots import STANDING_CLAIMS, claims_of_rows

__all__ = [
    "dates_of_others",
    "insert_plain_edges",
    "mark_plain_children",
    "other_claims",
]

Ints = NDArray[np.int64]

_WHITE_SPACE = r"[\s\x0b\x1c-\x1f\x85\p{Z}]+"
_LONGEST_QUOTE = 200


def mark_plain_children(connection: duckdb.DuckDBPyConnection) -> int:
    """Make the temporary table ``plain_child`` (repo_id) of the working database; returns its size.

    Claims are resolved as :func:`lineage.store.snapshots.standing_claims` resolves them.
    """
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE resolved_claim AS
        SELECT * FROM ({STANDING_CLAIMS}) WHERE parent IS NOT NULL AND parent <> child;
        CREATE OR REPLACE TEMP TABLE step AS
        SELECT DISTINCT child, parent FROM (
            SELECT child, parent FROM resolved_claim
            UNION ALL
            SELECT finding.child, finding_parent.parent FROM finding_parent
            JOIN finding USING (finding_id) WHERE valid_to IS NULL
            UNION ALL
            SELECT child, unnest(ties) FROM finding WHERE valid_to IS NULL)
        WHERE parent IS NOT NULL;
        CREATE OR REPLACE TEMP TABLE numbered AS
        SELECT name, (row_number() OVER ()) - 1 AS i FROM (
            SELECT child AS name FROM step UNION SELECT parent FROM step
            UNION SELECT child FROM finding WHERE valid_to IS NULL
            UNION SELECT a FROM pair WHERE verdict = 'unrelated'
            UNION SELECT b FROM pair WHERE verdict = 'unrelated');
        """
    )
    n = int(connection.execute("SELECT count(*) FROM numbered").fetchall()[0][0])
    steps = connection.execute(
        "SELECT c.i AS child, p.i AS parent FROM step JOIN numbered AS c ON c.name = step.child "
        "JOIN numbered AS p ON p.name = step.parent"
    ).fetchnumpy()
    known = connection.execute(
        "SELECT i FROM numbered WHERE name IN (SELECT child FROM finding WHERE valid_to IS NULL "
        "UNION ALL SELECT a FROM pair WHERE verdict = 'unrelated' "
        "UNION ALL SELECT b FROM pair WHERE verdict = 'unrelated')"
    ).fetchnumpy()
    plain = np.ones(n, dtype=bool)
    plain[_not_plain(n, _ints(steps["child"]), _ints(steps["parent"]), _ints(known["i"]))] = False
    connection.register("plain_number", {"i": np.flatnonzero(plain)})
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE plain_child AS SELECT DISTINCT name AS repo_id "
        "FROM numbered SEMI JOIN plain_number USING (i) SEMI JOIN step ON step.child = name"
    )
    connection.unregister("plain_number")
    connection.execute("DROP TABLE step; DROP TABLE numbered")
    return int(connection.execute("SELECT count(*) FROM plain_child").fetchall()[0][0])


def _ints(column: NDArray[np.generic]) -> Ints:
    return np.asarray(column, dtype=np.int64)


def _not_plain(n: int, child: Ints, parent: Ints, known: Ints) -> Ints:
    """What is known of, on a circle, or above any of these."""
    # One node more, from which all of them are one step away: the search starts there.
    graph = coo_array((np.ones(child.size, dtype=np.int8), (child, parent)), shape=(n, n))
    n_groups, group = connected_components(graph, directed=True, connection="strong")
    circular = np.flatnonzero(np.bincount(group, minlength=n_groups)[group] > 1)
    first = np.union1d(known, circular)
    rows = np.concatenate((child, np.full(first.size, n)))
    columns = np.concatenate((parent, first))
    upward = coo_array((np.ones(rows.size, dtype=np.int8), (rows, columns)), shape=(n + 1, n + 1))
    reached = breadth_first_order(upward.tocsr(), n, return_predecessors=False)
    return np.asarray(reached[1:], dtype=np.int64)


def other_claims(connection: duckdb.DuckDBPyConnection) -> tuple[Claim, ...]:
    """The claims of children that are not plain, in order of child, source and words."""
    return claims_of_rows(
        connection.execute(
            "SELECT resolved_claim.* FROM resolved_claim ANTI JOIN plain_child ON "
            "plain_child.repo_id = child ORDER BY child, source, parent_text, text"
        ).fetchall()
    )


def dates_of_others(connection: duckdb.DuckDBPyConnection) -> dict[str, datetime | None]:
    """When every repository that is not plain was created, as last seen."""
    return dict(
        connection.execute(
            "SELECT repo_id, arg_max(created_at, observed_at) FROM snapshot "
            "ANTI JOIN plain_child USING (repo_id) GROUP BY repo_id"
        ).fetchall()
    )


def insert_plain_edges(connection: duckdb.DuckDBPyConnection) -> int:
    """Add the edges of the plain children to ``made_edge``; returns how many there are."""
    trust = ", ".join(f"'{source}'" for source in ClaimSource)
    inserted = connection.execute(
        f"""
        INSERT INTO made_edge
            (child, parent, position, relation, kind, weight, verdict, grade, p_value,
             probability, evidence)
        WITH said AS (
            SELECT *, list_position([{trust}], source) AS trust,
                   row(trust, text, parent_text) AS place
            FROM resolved_claim SEMI JOIN plain_child ON plain_child.repo_id = child),
        declared AS (
            SELECT child, parent, count(*) AS n, min(trust) AS trust,
                   arg_min(source, place) AS source, arg_min(text, place) AS text,
                   arg_min(relation, place) FILTER (relation <> '') AS relation,
                   arg_min(weight, place) FILTER (weight IS NOT NULL) AS weight
            FROM said GROUP BY child, parent)
        SELECT child, parent, row_number() OVER (PARTITION BY child ORDER BY trust, parent) - 1,
               coalesce(relation, '{Relation.FINETUNE}'), NULL, weight, 'unverified', 'declared',
               NULL, NULL,
               to_json([
                   {{'name': 'claim', 'value': n::DOUBLE, 'text': 'declared by '
                     || replace(source, '_', ' ') || ': ' || left(trim(regexp_replace(
                        text, '{_WHITE_SPACE}', ' ', 'g')), {_LONGEST_QUOTE})}},
                   {{'name': 'undecided', 'value': 0.0::DOUBLE,
                     'text': 'the weights of the child were not read'}}])
        FROM declared
        """
    ).fetchall()
    return int(inserted[0][0])

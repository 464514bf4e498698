"""Finds claims that cannot all be true; ``crawler.contradictions`` defines each kind.

The whole Hub is looked at in columns: three million models would not fit as values. What is found
replaces what an earlier crawl found; the claims themselves stay as they were said.
"""

from __future__ import annotations

import duckdb
import numpy as np

from lineage.store.transaction import transaction

__all__ = ["replace_doubts"]

_FLOOR = "2022-03-02T23:29:05Z"
"""Dates of creation before this moment say nothing: the Hub did not keep them."""

_EDGES = """
    SELECT DISTINCT child, coalesce(new_id, parent) AS parent FROM claim
    LEFT JOIN alias ON old_id = parent WHERE ended_at IS NULL AND parent IS NOT NULL
"""
_SINGLE = f"""
    INSERT INTO doubt
    WITH edges AS ({_EDGES}),
         latest AS (SELECT repo_id, created_at, dtype, quantisation, tags, revision FROM snapshot
                    QUALIFY row_number() OVER (PARTITION BY repo_id ORDER BY observed_at DESC) = 1),
         said AS (SELECT DISTINCT child, parent, relation FROM claim
                  WHERE ended_at IS NULL AND relation IS NOT NULL)
    SELECT child, parent, 'self_parent', child || ' names itself as its parent'
    FROM edges WHERE child = parent
    UNION ALL
    SELECT child, parent, 'child_older',
           child || ' was created ' || strftime(c.created_at, '%Y-%m-%d') || ', before '
           || parent || ' (' || strftime(p.created_at, '%Y-%m-%d') || ')'
    FROM edges JOIN latest AS c ON c.repo_id = child JOIN latest AS p ON p.repo_id = parent
    WHERE c.created_at < p.created_at AND p.created_at > '{_FLOOR}'::TIMESTAMPTZ
    UNION ALL
    SELECT child, parent, 'relation_dtype', 'called quantized, but its weights are ' || dtype
    FROM said JOIN latest ON repo_id = child
    WHERE relation = 'quantized' AND dtype IN ('F64', 'F32', 'F16', 'BF16')
      AND quantisation IS NULL AND NOT list_contains(coalesce(tags, []), 'gguf')
    UNION ALL
    SELECT child, parent, 'relation_dtype',
           'called ' || relation || ', but its weights are ' || quantisation || ' alone'
    FROM said JOIN latest ON repo_id = child
    WHERE relation IN ('finetune', 'merge') AND quantisation IS NOT NULL
      AND coalesce(dtype, '') NOT IN ('F64', 'F32', 'F16', 'BF16')
    UNION ALL
    SELECT child, parent, 'relation_dtype', 'called adapter, but has no file of an adapter'
    FROM said JOIN latest ON repo_id = child JOIN reading USING (repo_id, revision)
    WHERE relation = 'adapter' AND n_files > 0 AND NOT EXISTS (
      SELECT 1 FROM file WHERE file.repo_id = latest.repo_id AND file.revision = latest.revision
      AND (path LIKE '%adapter%' OR path LIKE '%lora%' OR path LIKE '%.gguf'))
"""


def replace_doubts(connection: duckdb.DuckDBPyConnection) -> int:
    """Find the doubts of the standing claims, in one transaction; returns how many claims."""
    with transaction(connection):
        connection.execute("DELETE FROM doubt")
        connection.execute(_SINGLE)
        _enter_cycles(connection)
        rows = connection.execute("SELECT count(*) FROM doubt").fetchall()
    return int(rows[0][0]) if rows else 0


def _enter_cycles(connection: duckdb.DuckDBPyConnection) -> None:
    """Every claim within a strongly connected component of the claims (self-parents aside)."""
    import pyarrow as pa
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE claimed AS SELECT * FROM ({_EDGES}) WHERE child <> parent"
    )
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE node AS SELECT repo_id, row_number() OVER () - 1 AS i FROM"
        # Only a model that is child and parent can lie on a cycle.
        " (SELECT child AS repo_id FROM claimed INTERSECT SELECT parent FROM claimed)"
    )
    pairs = connection.execute(
        "SELECT c.i AS child, p.i AS parent FROM claimed JOIN node AS c ON c.repo_id = child"
        " JOIN node AS p ON p.repo_id = parent"
    ).fetchnumpy()
    rows = connection.execute("SELECT count(*) FROM node").fetchall()
    n = int(rows[0][0]) if rows else 0
    child = np.asarray(pairs["child"], dtype=np.int64)
    parent = np.asarray(pairs["parent"], dtype=np.int64)
    if n and len(child):
        ones = np.ones(len(child), dtype=np.int8)
        _, label = connected_components(
            coo_array((ones, (child, parent)), shape=(n, n)), connection="strong"
        )
        size = np.bincount(label)
        inside = np.flatnonzero((label[child] == label[parent]) & (size[label[child]] > 1))
        found = pa.table(
            {
                "c": pa.array(child[inside]),
                "p": pa.array(parent[inside]),
                "n": pa.array(size[label[child[inside]]]),
            }
        )
        connection.register("in_cycle", found)
        connection.execute(
            "INSERT INTO doubt SELECT c.repo_id, p.repo_id, 'cycle', 'one of ' || in_cycle.n ||"
            " ' models that claim to descend from each other' FROM in_cycle"
            " JOIN node AS c ON c.i = in_cycle.c JOIN node AS p ON p.i = in_cycle.p"
        )
        connection.unregister("in_cycle")
    connection.execute("DROP TABLE node; DROP TABLE claimed")

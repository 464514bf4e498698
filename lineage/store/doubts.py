"""Finds claims that cannot all be true; ``crawler.contradictions`` says which are.

Of a Hub of millions the database picks what might be doubted, in columns; only that is looked at
one by one. What is found replaces what an earlier crawl found; the claims stay as they were said.
"""

from __future__ import annotations

import duckdb

from crawler.contradictions import (
    HUB_FLOOR,
    ClaimDoubt,
    RepoFacts,
    doubts_of_claims,
    doubts_of_cycles,
    repo_facts,
)
from lineage.store.transaction import transaction

__all__ = ["find_doubts", "replace_doubts"]

_SAID = """
    SELECT DISTINCT child, coalesce(new_id, parent) AS parent, relation FROM claim
    LEFT JOIN alias ON old_id = parent WHERE ended_at IS NULL AND parent IS NOT NULL
"""
# Narrow first, and tags of those alone that might be doubted: lists of 3 million models are heavy.
_LATEST = """
    SELECT repo_id, lower(repo_id) AS id, observed_at, revision, created_at, library, upper(dtype)
    AS dtype, quantisation FROM snapshot
    JOIN (SELECT repo_id, max(observed_at) AS observed_at FROM snapshot GROUP BY repo_id)
    USING (repo_id, observed_at)
"""
# Wider than the rules: what is not picked here no rule would doubt.
_CANDIDATES = f"""
    CREATE OR REPLACE TEMP TABLE doubtful AS
    WITH said AS ({_SAID}), latest AS ({_LATEST}), read AS (SELECT repo_id, revision FROM reading),
    picked AS (
        SELECT child, parent, relation, c.repo_id, c.revision, c.observed_at, c.created_at,
               c.library, c.dtype, c.quantisation, p.created_at AS parent_created_at,
               read.repo_id IS NOT NULL AS is_read
        FROM said LEFT JOIN latest AS c ON c.id = lower(child)
        LEFT JOIN latest AS p ON p.id = lower(parent)
        LEFT JOIN read ON read.repo_id = c.repo_id AND read.revision = c.revision
        WHERE lower(child) = lower(parent)
           OR c.created_at < p.created_at AND c.created_at > $1
           OR relation = 'quantized' AND c.quantisation IS NULL
              AND c.dtype IN ('F64', 'F32', 'F16', 'BF16')
           OR relation IN ('finetune', 'merge') AND (c.dtype IS NULL OR c.quantisation IS NOT NULL)
           OR relation = 'adapter' AND read.repo_id IS NOT NULL)
    SELECT child, parent, relation, picked.created_at, tags, picked.library, picked.dtype,
           picked.quantisation, parent_created_at,
           CASE WHEN is_read THEN (SELECT coalesce(list(path ORDER BY path), [])
                FROM file WHERE file.repo_id = picked.repo_id
                AND file.revision = picked.revision) END AS paths
    FROM picked LEFT JOIN snapshot ON snapshot.repo_id = picked.repo_id
         AND snapshot.observed_at = picked.observed_at
    WHERE relation IS NULL OR relation NOT IN ('finetune', 'merge')
       OR lower(child) = lower(parent) OR picked.created_at < parent_created_at
       OR picked.quantisation IS NOT NULL OR is_read OR picked.library ILIKE '%gguf%'
       OR array_to_string(tags, ' ') ILIKE '%gguf%'
    ORDER BY child, parent, relation
"""
_ENDS_MEET = f"""
    WITH said AS (SELECT DISTINCT child, parent FROM ({_SAID})
                  WHERE lower(child) <> lower(parent)),
         inner_ids AS (SELECT lower(child) AS id FROM said INTERSECT SELECT lower(parent) FROM said)
    SELECT child, parent FROM said SEMI JOIN inner_ids AS c ON c.id = lower(child)
    SEMI JOIN inner_ids AS p ON p.id = lower(parent) ORDER BY child, parent
"""
_CHUNK = 50_000


def replace_doubts(connection: duckdb.DuckDBPyConnection) -> int:
    """Find the doubts of the standing claims and enter them, in one transaction; how many."""
    found = find_doubts(connection)
    with transaction(connection):
        connection.execute("DELETE FROM doubt")
        if found:
            connection.execute(
                "INSERT INTO doubt SELECT unnest($1::VARCHAR[]), unnest($2::VARCHAR[]),"
                " unnest($3::VARCHAR[]), unnest($4::VARCHAR[])",
                [
                    [doubt.child for doubt in found],
                    [doubt.parent for doubt in found],
                    [doubt.code for doubt in found],
                    [doubt.reason for doubt in found],
                ],
            )
    return len(found)


def find_doubts(connection: duckdb.DuckDBPyConnection) -> tuple[ClaimDoubt, ...]:
    """The doubts of the standing claims, each once, in order of child and parent."""
    found: dict[ClaimDoubt, None] = {}
    connection.execute(_CANDIDATES, [HUB_FLOOR])
    cursor = connection.execute("SELECT * FROM doubtful")
    while rows := cursor.fetchmany(_CHUNK):
        for (
            child,
            parent,
            relation,
            born,
            tags,
            library,
            dtype,
            quantisation,
            before,
            paths,
        ) in rows:
            facts = {
                parent.lower(): RepoFacts(created_at=before),
                child.lower(): repo_facts(
                    created_at=born, tags=tags or (), library=library, dtype=dtype,
                    quantisation=quantisation, paths=paths,
                ),
            }  # fmt: skip
            found.update(dict.fromkeys(doubts_of_claims([(child, parent, relation)], facts)))
    edges = connection.execute(_ENDS_MEET).fetchall()
    found.update(dict.fromkeys(doubts_of_cycles(edges)))
    connection.execute("DROP TABLE doubtful")
    return tuple(found)

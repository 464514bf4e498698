"""Finds claims that cannot all be true; ``crawler.contradictions`` says which are.

Of a Hub of millions the database picks what might be doubted, in columns; only that is looked at
one by one. What is found replaces what an earlier crawl found; the claims stay as they were said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import duckdb

from crawler.contradictions import (
    ClaimDoubt,
    RepoFacts,
    doubts_of_claims,
    doubts_of_cycles,
    repo_facts,
)
from lineage.store.transaction import transaction

__all__ = ["find_doubts", "replace_doubts"]

_RELATIONS = ("quantized", "finetune", "merge", "adapter")
_FLAGS = ", ".join(
    f"coalesce(bool_or(relation = '{word}'), FALSE) AS {word}" for word in _RELATIONS
)
# In steps and narrow columns: lists and joins of three million rows would go to disk.
_SAID = f"""
    CREATE OR REPLACE TEMP TABLE said AS
    SELECT child, coalesce(new_id, parent) AS parent, {_FLAGS}
    FROM claim LEFT JOIN alias ON old_id = parent
    WHERE ended_at IS NULL AND parent IS NOT NULL GROUP BY 1, 2
"""
_LATEST = """
    CREATE OR REPLACE TEMP TABLE latest AS
    SELECT lower(repo_id) AS id, repo_id, observed_at, revision, created_at,
           coalesce(upper(dtype) IN ('F64', 'F32', 'F16', 'BF16'), FALSE) AS is_full,
           dtype IS NULL AS has_no_dtype, quantisation IS NOT NULL AS is_quantised
    FROM snapshot JOIN (SELECT repo_id, max(observed_at) AS observed_at FROM snapshot
                        GROUP BY repo_id) USING (repo_id, observed_at)
"""
# Wider than the rules: what is not picked here no rule would doubt.
_PICKED = """
    CREATE OR REPLACE TEMP TABLE picked AS
    SELECT said.*, c.repo_id, c.observed_at, c.revision, p.created_at AS parent_created_at,
           reading.repo_id IS NOT NULL AS is_read, coalesce(c.is_quantised, FALSE) AS is_quantised,
           coalesce(c.created_at < p.created_at, FALSE) AS is_older
    FROM said LEFT JOIN latest AS c ON c.id = lower(child)
    LEFT JOIN (SELECT id, created_at FROM latest) AS p ON p.id = lower(parent)
    LEFT JOIN (SELECT repo_id, revision FROM reading) AS reading
      ON reading.repo_id = c.repo_id AND reading.revision = c.revision
    WHERE lower(child) = lower(parent) OR is_older
       OR quantized AND c.is_full AND NOT c.is_quantised
       OR (finetune OR merge) AND (c.has_no_dtype OR c.is_quantised)
       OR adapter AND reading.repo_id IS NOT NULL
"""
_CANDIDATES = f"""
    SELECT child, parent, {", ".join(_RELATIONS)}, created_at, tags, library, dtype, quantisation,
           parent_created_at,
           CASE WHEN is_read THEN (SELECT coalesce(list(path ORDER BY path), [])
                FROM file WHERE file.repo_id = picked.repo_id
                AND file.revision = picked.revision) END AS paths
    FROM picked LEFT JOIN snapshot ON snapshot.repo_id = picked.repo_id
         AND snapshot.observed_at = picked.observed_at
    WHERE lower(child) = lower(parent) OR is_older OR quantized OR adapter
       OR is_quantised OR is_read OR library ILIKE '%gguf%'
       OR array_to_string(tags, ' ') ILIKE '%gguf%'
    ORDER BY child, parent
"""
_ENDS_MEET = """
    WITH inner_ids AS (SELECT lower(child) AS id FROM said INTERSECT SELECT lower(parent) FROM said)
    SELECT child, parent FROM said SEMI JOIN inner_ids AS c ON c.id = lower(child)
    SEMI JOIN inner_ids AS p ON p.id = lower(parent)
    WHERE lower(child) <> lower(parent) ORDER BY child, parent
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
    for statement in (_SAID, _LATEST, _PICKED):
        connection.execute(statement)
    cursor = connection.execute(_CANDIDATES)
    while rows := cursor.fetchmany(_CHUNK):
        for row in rows:
            found.update(dict.fromkeys(_doubts_of(row)))
    edges = connection.execute(_ENDS_MEET).fetchall()
    found.update(dict.fromkeys(doubts_of_cycles(edges)))
    for table in ("said", "latest", "picked"):
        connection.execute(f"DROP TABLE {table}")
    return tuple(found)


def _doubts_of(row: Sequence[Any]) -> Iterator[ClaimDoubt]:
    """Doubts of the claims from one child to one parent, of which there is one for a relation."""
    child, parent, *flags, born, tags, library, dtype, method, before, paths = row
    relations: list[str | None] = [
        word for word, is_said in zip(_RELATIONS, flags, strict=True) if is_said
    ]
    facts = {
        parent.lower(): RepoFacts(created_at=before),
        child.lower(): repo_facts(
            created_at=born, tags=tags or (), library=library, dtype=dtype,
            quantisation=method, paths=paths,
        ),
    }  # fmt: skip
    yield from doubts_of_claims([(child, parent, word) for word in relations or [None]], facts)

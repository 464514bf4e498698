"""Reads of the published database for licence conflicts and unfaithful quantisations."""

from __future__ import annotations

from typing import Any

import duckdb

__all__ = ["conflict_counts", "conflicts", "quantised_claims", "verdict_counts"]

Row = tuple[Any, ...]

_CONFLICTS = """
    FROM licence_conflict AS conflict
    JOIN model AS child ON child.repo_id = conflict.child
    JOIN model AS ancestor ON ancestor.repo_id = conflict.ancestor
    WHERE ($family = '' OR child.founder = $family)
      AND ($owner = ''
           OR (conflict.child >= concat($owner, '/') AND conflict.child < concat($owner, '0')))
"""


def conflict_counts(cursor: duckdb.DuckDBPyConnection, family: str, owner: str) -> list[Row]:
    """Number of conflicts by class of the ancestor within a family and an owner (empty: all)."""
    return cursor.execute(
        f"SELECT ancestor_class, count(*) {_CONFLICTS} GROUP BY ancestor_class",
        {"family": family, "owner": owner},
    ).fetchall()


def conflicts(
    cursor: duckdb.DuckDBPyConnection,
    terms: str,
    family: str,
    owner: str,
    limit: int,
    offset: int,
) -> list[Row]:
    """Conflicts with ancestors of a class (empty: any), most downloaded children first.

    Child, its licence and class; ancestor, its licence, the name of one of its own and class;
    number of edges between them.
    """
    return cursor.execute(
        f"""
        SELECT conflict.child, child.licence, child_class, conflict.ancestor, ancestor.licence,
               ancestor.licence_name, ancestor_class, n_edges {_CONFLICTS}
           AND ($terms = '' OR ancestor_class = $terms)
        ORDER BY coalesce(child.downloads_30d, 0) DESC, conflict.child, conflict.ancestor
        LIMIT $limit OFFSET $offset
        """,
        {"terms": terms, "family": family, "owner": owner, "limit": limit, "offset": offset},
    ).fetchall()


def quantised_claims(
    cursor: duckdb.DuckDBPyConnection, family: str, owner: str, limit: int
) -> list[str]:
    """Models found quantised whose declared original may not be it, to be judged one by one.

    Those with a contradicted edge, with codes that a tried model missed, or with several parents.
    """
    rows = cursor.execute(
        """
        SELECT finding.child FROM finding JOIN model ON model.repo_id = finding.child
        WHERE finding.kind = 'quantized' AND valid_to IS NULL
          AND ($family = '' OR founder = $family)
          AND ($owner = ''
               OR (finding.child >= concat($owner, '/') AND finding.child < concat($owner, '0')))
          AND (finding.child IN (SELECT child FROM edge WHERE verdict = 'contradicted')
               OR contains(evidence::VARCHAR, 'codes_missed')
               OR finding_id IN (SELECT finding_id FROM finding_parent
                                 GROUP BY finding_id HAVING count(*) > 1))
        ORDER BY coalesce(downloads_30d, 0) DESC, finding.child LIMIT $limit
        """,
        {"family": family, "owner": owner, "limit": limit},
    ).fetchall()
    return [child for (child,) in rows]


def verdict_counts(cursor: duckdb.DuckDBPyConnection, by_owner: bool, limit: int) -> list[Row]:
    """Families or owners with their edges by verdict, those with most to object to first.

    Name, and the number of confirmed, undeclared, contradicted and unverified edges.
    """
    group = "split_part(child, '/', 1)" if by_owner else "founder"
    return cursor.execute(
        f"""
        SELECT {group} AS name,
               count(*) FILTER (verdict = 'confirmed'), count(*) FILTER (verdict = 'undeclared'),
               count(*) FILTER (verdict = 'contradicted'), count(*) FILTER (verdict = 'unverified')
        FROM edge {"" if by_owner else "JOIN model ON pos = child_pos"} GROUP BY name
        ORDER BY count(*) FILTER (verdict IN ('contradicted', 'undeclared')) DESC, count(*) DESC,
                 name LIMIT ?
        """,
        [limit],
    ).fetchall()

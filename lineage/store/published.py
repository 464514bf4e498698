"""Reads of the published database: every statement the explorer's questions need.

Each function takes a cursor and bound values and gives rows, times as plain UTC; names and
meanings of the columns are in :mod:`lineage.store.schema`. :mod:`lineage.views` turns the rows
into frozen values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb

__all__ = [
    "CLAIM_COLUMNS",
    "EDGE_COLUMNS",
    "ESTIMATE_COLUMNS",
    "MODEL_COLUMNS",
    "audit_counts",
    "audit_edges",
    "claims_of",
    "counts",
    "doubts_of",
    "edges_of_children",
    "estimates",
    "examples",
    "families",
    "files_at",
    "findings_of",
    "fingerprint_of",
    "layers_of",
    "meta",
    "models",
    "names",
    "near_names",
    "owners",
    "problem_counts",
    "problems_of",
    "resolved_claims_of",
    "revisions_of",
    "search_names",
    "shares_of",
    "traits_of",
    "unread_reasons",
]

Row = tuple[Any, ...]

MODEL_COLUMNS = (
    "repo_id", "status", "author", "created_at", "downloads_30d", "likes", "licence", "library",
    "pipeline_tag", "architecture", "parameters", "dtype", "size_bytes", "revision", "kind",
    "grade", "note", "primary_parent", "founder", "generation", "n_parents", "n_children",
    "n_descendants", "pos", "size", "n_claims", "n_problems",
)  # fmt: skip
"""Columns of ``model`` that the questions show, in the order of ``views.ModelCard``."""

EDGE_COLUMNS = (
    "child", "parent", "position", "relation", "kind", "weight", "verdict", "grade", "p_value",
    "probability", "evidence",
)  # fmt: skip
"""Columns of ``edge``, in the order of ``views.EdgeRow``."""

CLAIM_COLUMNS = (
    "child", "parent", "parent_text", "relation", "source", "text", "weight", "method",
    "first_seen", "last_seen",
)  # fmt: skip
"""Columns of ``claim``, in the order of ``views.ClaimRow``."""

ESTIMATE_COLUMNS = (
    "statistic", "trait", "fitness", "population", "value", "low", "high", "level", "n",
    "n_clusters", "p_value", "method",
)  # fmt: skip
"""Columns of ``estimate``, in the order of ``views.EstimateRow``."""


_TIMES = frozenset({"created_at", "first_seen", "last_seen", "valid_from"})


def _listed(columns: Sequence[str], alias: str = "") -> str:
    # Times leave as plain UTC: DuckDB's Python client needs a further package for zoned ones.
    return ", ".join(
        f"{alias}{column} AT TIME ZONE 'UTC'" if column in _TIMES else f"{alias}{column}"
        for column in columns
    )


_MODEL = _listed(MODEL_COLUMNS)
_EDGE = _listed(EDGE_COLUMNS)
_CLAIM = _listed(CLAIM_COLUMNS)


def meta(cursor: duckdb.DuckDBPyConnection) -> list[Row]:
    """Key and value of every line of ``meta``."""
    return cursor.execute("SELECT key, value FROM meta ORDER BY key").fetchall()


def counts(cursor: duckdb.DuckDBPyConnection) -> Row:
    """Headline counts in the order of ``views.Coverage``."""
    row = cursor.execute(
        """
        SELECT (SELECT count(*) FROM model),
               (SELECT count(*) FROM model WHERE status = 'ok'),
               (SELECT count(DISTINCT repo_id) FROM fingerprint WHERE digest IS NOT NULL),
               (SELECT count(*) FROM edge),
               (SELECT count(*) FROM edge WHERE verdict = 'confirmed'),
               (SELECT count(*) FROM edge WHERE verdict = 'undeclared'),
               (SELECT count(*) FROM edge WHERE verdict = 'contradicted'),
               (SELECT count(*) FROM edge WHERE verdict = 'unverified'),
               (SELECT count(DISTINCT child) FROM edge WHERE relation = 'merge'),
               (SELECT count(*) FROM finding WHERE recipe_yaml IS NOT NULL),
               (SELECT count(*) FROM model WHERE kind = 'founder'),
               (SELECT count(*) FROM finding WHERE grade = 'abstain'),
               (SELECT count(*) FROM claim),
               (SELECT count(*) FROM problem),
               (SELECT count(*) FROM pair),
               (SELECT coalesce(sum(bytes_read), 0)::BIGINT FROM fingerprint),
               (SELECT coalesce(sum(weight_bytes), 0)::BIGINT FROM fingerprint)
        """
    ).fetchone()
    assert row is not None
    return row


def models(cursor: duckdb.DuckDBPyConnection, repo_ids: Sequence[str]) -> list[Row]:
    """The model rows of `repo_ids`, in drawing order; unknown names are left out."""
    if not repo_ids:
        return []
    # Constants in a list go through the index; a list that is unnested scans the table.
    marks = ", ".join("?" * len(repo_ids))
    return cursor.execute(
        f"SELECT {_MODEL} FROM model WHERE repo_id IN ({marks}) ORDER BY pos", list(repo_ids)
    ).fetchall()


def search_names(cursor: duckdb.DuckDBPyConnection, text: str, limit: int) -> list[Row]:
    """Models whose name is, begins with or contains `text`: rank (0, 1, 2) and the model row."""
    return cursor.execute(
        f"""
        WITH hit AS (
            SELECT CASE
                WHEN lower(repo_id) = $text OR lower(split_part(repo_id, '/', 2)) = $text THEN 0
                WHEN starts_with(lower(repo_id), $text)
                  OR starts_with(lower(split_part(repo_id, '/', 2)), $text) THEN 1
                WHEN contains(lower(repo_id), $text) THEN 2 END AS rank, *
            FROM model)
        SELECT rank, {_MODEL} FROM hit WHERE rank IS NOT NULL
        ORDER BY rank, n_descendants DESC, coalesce(downloads_30d, 0) DESC, repo_id LIMIT $limit
        """,
        {"text": text.lower(), "limit": limit},
    ).fetchall()


def near_names(cursor: duckdb.DuckDBPyConnection, text: str, limit: int) -> list[Row]:
    """Models whose names look most like `text` (Jaro-Winkler similarity of .7 or more)."""
    return cursor.execute(
        f"""
        WITH hit AS (
            SELECT greatest(
                jaro_winkler_similarity(lower(repo_id), $text),
                jaro_winkler_similarity(lower(split_part(repo_id, '/', 2)), $text),
                jaro_winkler_similarity(lower(split_part(repo_id, '/', 2)),
                                        split_part($text, '/', 2))) AS likeness, *
            FROM model)
        SELECT {_MODEL} FROM hit WHERE likeness >= .7
        ORDER BY likeness DESC, n_descendants DESC, repo_id LIMIT $limit
        """,
        {"text": text.lower(), "limit": limit},
    ).fetchall()


def examples(cursor: duckdb.DuckDBPyConnection, limit: int) -> list[Row]:
    """Models worth a look: a reason word and the model row, `limit` for each reason."""
    return cursor.execute(
        f"""
        WITH reason AS (
            SELECT 'undeclared' AS why, child AS repo_id FROM edge WHERE verdict = 'undeclared'
            UNION SELECT 'contradicted', child FROM edge WHERE verdict = 'contradicted'
            UNION SELECT 'merge', child FROM edge WHERE relation = 'merge' AND grade <> 'declared'
            UNION SELECT 'family', repo_id FROM model WHERE n_parents = 0 AND n_descendants > 0),
        ranked AS (
            SELECT why, model.*, row_number() OVER (PARTITION BY why ORDER BY
                (why = 'merge' AND grade = 'proved') DESC, n_descendants DESC,
                generation DESC, coalesce(downloads_30d, 0) DESC, repo_id) AS place
            FROM reason JOIN model USING (repo_id))
        SELECT why, {_MODEL} FROM ranked WHERE place <= ? ORDER BY why, place
        """,
        [limit],
    ).fetchall()


def edges_of_children(
    cursor: duckdb.DuckDBPyConnection, children: Sequence[str]
) -> list[Row]:  # fmt: skip
    """Edges to the parents of `children`."""
    return cursor.execute(
        f"SELECT {_EDGE} FROM edge WHERE child IN (SELECT unnest(?::VARCHAR[])) "
        "ORDER BY child, position",
        [list(children)],
    ).fetchall()


def claims_of(cursor: duckdb.DuckDBPyConnection, children: Sequence[str]) -> list[Row]:
    """What was said about the parents of `children`."""
    if not children:
        return []
    # The table is in order of the children: blocks outside the interval are not read.
    return cursor.execute(
        f"SELECT {_CLAIM} FROM claim WHERE child BETWEEN $first AND $last "
        "AND child IN (SELECT unnest($children::VARCHAR[])) ORDER BY child, source, parent_text",
        {"first": min(children), "last": max(children), "children": list(children)},
    ).fetchall()


def resolved_claims_of(cursor: duckdb.DuckDBPyConnection, children: Sequence[str]) -> list[Row]:
    """What was said about the parents of `children`, who are named as the edges name them.

    That is: with the new name of a renamed repository, and in the letters of a known one
    (:func:`lineage.store.snapshots.standing_claims`).
    """
    columns = _listed(CLAIM_COLUMNS).replace("parent,", "coalesce(new_id, known, parent),", 1)
    return cursor.execute(
        f"""
        WITH said AS (SELECT * FROM claim WHERE child IN (SELECT unnest(?::VARCHAR[]))),
        met AS (
            SELECT lower(repo_id) AS lowered, min(repo_id) FILTER (status <> 'gone') AS known,
                   list(repo_id) AS written
            FROM model WHERE lower(repo_id) IN (SELECT lower(parent) FROM said) GROUP BY lowered)
        SELECT {columns} FROM said LEFT JOIN alias ON old_id = parent
        LEFT JOIN met ON lowered = lower(parent) AND NOT list_contains(written, parent)
        ORDER BY child, source, parent_text, text
        """,
        [list(children)],
    ).fetchall()


def doubts_of(cursor: duckdb.DuckDBPyConnection, children: Sequence[str]) -> list[Row]:
    """What the crawl found odd about claims of `children`: child, parent, code, reason."""
    return cursor.execute(
        "SELECT child, parent, code, reason FROM doubt "
        "WHERE lower(child) IN (SELECT lower(unnest(?::VARCHAR[]))) ORDER BY child, parent, code",
        [list(children)],
    ).fetchall()


def names(cursor: duckdb.DuckDBPyConnection, owner: str = "") -> list[str]:
    """Names of all models, or of those of one owner."""
    rows = cursor.execute(
        "SELECT repo_id FROM model WHERE $1 = '' OR split_part(repo_id, '/', 1) = $1 "
        "ORDER BY repo_id",
        [owner],
    ).fetchall()
    return [name for (name,) in rows]


def findings_of(cursor: duckdb.DuckDBPyConnection, children: Sequence[str]) -> list[Row]:
    """The current findings about `children`."""
    return cursor.execute(
        "SELECT finding_id, child, kind, grade, base, method, rank, p_value, probability, ties, "
        "evidence, recipe_yaml, note, valid_from AT TIME ZONE 'UTC', target_modules, "
        "tokens_kept, tokens_renumbered, tokens_appended, tokens_dropped, unseen_ancestor "
        "FROM finding WHERE child IN (SELECT unnest(?::VARCHAR[])) AND valid_to IS NULL "
        "ORDER BY child",
        [list(children)],
    ).fetchall()


def shares_of(cursor: duckdb.DuckDBPyConnection, finding_ids: Sequence[int]) -> list[Row]:
    """Parents and shares of findings."""
    return cursor.execute(
        "SELECT finding_id, parent, weight, low, high FROM finding_parent "
        "WHERE finding_id IN (SELECT unnest(?::BIGINT[])) ORDER BY finding_id, position",
        [list(finding_ids)],
    ).fetchall()


def layers_of(cursor: duckdb.DuckDBPyConnection, finding_id: int) -> list[Row]:
    """The layer map of one finding."""
    return cursor.execute(
        "SELECT child_layer, parent, parent_layer FROM finding_layer WHERE finding_id = ? "
        "ORDER BY child_layer, parent",
        [finding_id],
    ).fetchall()


def traits_of(cursor: duckdb.DuckDBPyConnection, repo_id: str) -> list[Row]:
    """Measured traits of a model."""
    return cursor.execute(
        "SELECT name, value, metric, dataset, higher_is_better, source FROM trait "
        "WHERE repo_id = ? ORDER BY name",
        [repo_id],
    ).fetchall()


def problems_of(cursor: duckdb.DuckDBPyConnection, repo_id: str) -> list[Row]:
    """What could not be read of a model."""
    return cursor.execute(
        "SELECT stage, path, code, reason FROM problem WHERE repo_id = ? ORDER BY stage, path",
        [repo_id],
    ).fetchall()


def files_at(cursor: duckdb.DuckDBPyConnection, pos: int, limit: int) -> list[Row]:
    """Path, size and digest of the largest files of the model at one drawing position."""
    return cursor.execute(
        "SELECT path, size_bytes, sha256 FROM large_file WHERE pos = ? "
        "ORDER BY size_bytes DESC, path LIMIT ?",
        [pos, limit],
    ).fetchall()


def unread_reasons(cursor: duckdb.DuckDBPyConnection, repo_ids: Sequence[str]) -> list[Row]:
    """Models and why their weights could not be read: the problem of the fingerprint pass."""
    return cursor.execute(
        "SELECT repo_id, arg_max(reason, observed_at) FROM problem WHERE stage = 'fingerprint' "
        "AND repo_id IN (SELECT unnest(?::VARCHAR[])) GROUP BY repo_id",
        [list(repo_ids)],
    ).fetchall()


def problem_counts(cursor: duckdb.DuckDBPyConnection) -> list[Row]:
    """Number of problems by code."""
    return cursor.execute(
        "SELECT code, count(*) FROM problem GROUP BY code ORDER BY count(*) DESC, code"
    ).fetchall()


def fingerprint_of(cursor: duckdb.DuckDBPyConnection, repo_id: str) -> Row | None:
    """What the latest fingerprint of a model read, and at what cost."""
    return cursor.execute(
        "SELECT scheme, format, bytes_read, requests, weight_bytes, n_tensors, seconds "
        "FROM fingerprint WHERE repo_id = ? ORDER BY made_at DESC LIMIT 1",
        [repo_id],
    ).fetchone()


def revisions_of(cursor: duckdb.DuckDBPyConnection, repo_ids: Sequence[str]) -> list[Row]:
    """Models and the commits at which their weights were last read; the others are left out."""
    return cursor.execute(
        "SELECT repo_id, arg_max(revision, made_at) FROM fingerprint "
        "WHERE digest IS NOT NULL AND repo_id IN (SELECT unnest(?::VARCHAR[])) GROUP BY repo_id",
        [list(repo_ids)],
    ).fetchall()


def estimates(cursor: duckdb.DuckDBPyConnection) -> list[Row]:
    """All population statistics."""
    return cursor.execute(
        f"SELECT {_listed(ESTIMATE_COLUMNS)} FROM estimate "
        "ORDER BY statistic, fitness NULLS FIRST, population <> 'all', population, trait"
    ).fetchall()


def _audited(family: str, owner: str) -> tuple[str, dict[str, object]]:
    """The edges within a family and an owner (empty: all), as a condition and its values."""
    conditions = ["true"]
    values: dict[str, object] = {}
    if family:  # a family is a clade, and edges lie in order of their children
        place = "(SELECT pos{} FROM model WHERE repo_id = $family)"
        conditions.append(f"child_pos >= {place.format('')}")
        conditions.append(f"child_pos < {place.format(' + size')}")
        values["family"] = family
    if owner:  # names that begin with "owner/" end before "owner0": the nought follows the slash
        conditions.append(
            "(child = $owner OR (child >= concat($owner, '/') AND child < concat($owner, '0')))"
        )
        values["owner"] = owner
    return " AND ".join(conditions), values


def audit_counts(cursor: duckdb.DuckDBPyConnection, family: str, owner: str) -> list[Row]:
    """Number of edges by verdict within a family and an owner (empty: all)."""
    condition, values = _audited(family, owner)
    return cursor.execute(
        f"SELECT verdict, count(*) FROM edge WHERE {condition} GROUP BY verdict", values
    ).fetchall()


def audit_edges(
    cursor: duckdb.DuckDBPyConnection,
    verdict: str,
    family: str,
    owner: str,
    limit: int,
    offset: int,
) -> list[Row]:
    """Edges by verdict, family and owner (empty: all); contradicted and undeclared first."""
    condition, values = _audited(family, owner)
    if verdict:
        condition, values = f"{condition} AND verdict = $verdict", values | {"verdict": verdict}
    return cursor.execute(
        f"""
        SELECT {_EDGE} FROM edge WHERE {condition}
        ORDER BY CASE verdict WHEN 'contradicted' THEN 0 WHEN 'undeclared' THEN 1
                              WHEN 'confirmed' THEN 2 ELSE 3 END,
                 p_value NULLS LAST, child_pos, position
        LIMIT $limit OFFSET $offset
        """,
        values | {"limit": limit, "offset": offset},
    ).fetchall()


def families(cursor: duckdb.DuckDBPyConnection, limit: int) -> list[Row]:
    """Founders with at least one descendant, largest family first, and the number of members."""
    return cursor.execute(
        "SELECT founder, count(*) FROM model GROUP BY founder HAVING count(*) > 1 "
        "ORDER BY count(*) DESC, founder LIMIT ?",
        [limit],
    ).fetchall()


def owners(cursor: duckdb.DuckDBPyConnection, limit: int) -> list[Row]:
    """Owners of models that have parents, and the number of those models."""
    return cursor.execute(
        "SELECT split_part(repo_id, '/', 1) AS owner, count(*) FROM model WHERE n_parents > 0 "
        "GROUP BY owner ORDER BY count(*) DESC, owner LIMIT ?",
        [limit],
    ).fetchall()

"""Writes and reads findings and pair tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import duckdb

from lineage.model import (
    Finding,
    Grade,
    Kind,
    LayerSource,
    PairTest,
    ParentShare,
    VocabularyMap,
)
from lineage.store.evidence import evidence_json, read_evidence

__all__ = [
    "count_pairs",
    "current_findings",
    "read_vocabulary_map",
    "replace_findings",
    "replace_pairs",
]


def replace_pairs(
    connection: duckdb.DuckDBPyConnection, run_id: int, pairs: Sequence[PairTest]
) -> None:
    """Keep the pair tests of the latest run only: they are a function of the fingerprints."""
    import pyarrow as pa

    table = pa.table(  # registered for one statement below
        {
            "run_id": pa.array([run_id] * len(pairs), pa.int64()),
            "a": pa.array([pair.a for pair in pairs], pa.string()),
            "b": pa.array([pair.b for pair in pairs], pa.string()),
            "verdict": pa.array([str(pair.verdict) for pair in pairs], pa.string()),
            "statistic": pa.array([pair.statistic for pair in pairs], pa.float64()),
            "p_value": pa.array([pair.p_value for pair in pairs], pa.float64()),
            "bit_equality": pa.array([pair.bit_equality for pair in pairs], pa.float64()),
        }
    )
    connection.begin()
    try:
        connection.execute("DELETE FROM pair")
        connection.register("new_pairs", table)
        connection.execute("INSERT INTO pair SELECT * FROM new_pairs")
        connection.unregister("new_pairs")
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def count_pairs(connection: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    """How many pairs were tested, and how many are related."""
    row = connection.execute(
        "SELECT count(*), count(*) FILTER (verdict = 'related') FROM pair"
    ).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def current_findings(
    connection: duckdb.DuckDBPyConnection, children: Sequence[str] | None = None
) -> tuple[Finding, ...]:
    """The findings that hold now (None: of all models), in order of the child's name."""
    rows = connection.execute(
        "SELECT finding_id, child, kind, grade, base, method, rank, p_value, probability, ties,"
        " evidence, recipe_yaml, note, target_modules, tokens_kept, tokens_renumbered,"
        " tokens_appended, tokens_dropped, unseen_ancestor FROM finding WHERE valid_to IS NULL"
        " AND ($1::VARCHAR[] IS NULL OR list_contains($1, child)) ORDER BY child",
        [None if children is None else list(children)],
    ).fetchall()
    wanted = [None if children is None else [row[0] for row in rows]]
    parents: dict[int, list[ParentShare]] = {}
    for finding_id, parent, weight, low, high in connection.execute(
        "SELECT finding_id, parent, weight, low, high FROM finding_parent"
        " WHERE $1::BIGINT[] IS NULL OR list_contains($1, finding_id)"
        " ORDER BY finding_id, position",
        wanted,
    ).fetchall():
        parents.setdefault(finding_id, []).append(ParentShare(parent, weight, low, high))
    layers: dict[int, list[LayerSource]] = {}
    for finding_id, child_layer, parent, parent_layer in connection.execute(
        "SELECT finding_id, child_layer, parent, parent_layer FROM finding_layer"
        " WHERE $1::BIGINT[] IS NULL OR list_contains($1, finding_id)"
        " ORDER BY finding_id, child_layer",
        wanted,
    ).fetchall():
        layers.setdefault(finding_id, []).append(LayerSource(child_layer, parent, parent_layer))
    return tuple(
        Finding(
            child,
            Kind(kind),
            Grade(grade),
            tuple(parents.get(finding_id, ())),
            tuple(ties),
            base,
            method,
            rank,
            tuple(layers.get(finding_id, ())),
            p_value,
            probability,
            read_evidence(evidence),
            recipe_yaml,
            note,
            tuple(modules or ()),
            read_vocabulary_map(*tokens),
            unseen,
        )
        for (
            finding_id, child, kind, grade, base, method, rank, p_value, probability, ties,
            evidence, recipe_yaml, note, modules, *tokens, unseen,
        ) in rows
    )  # fmt: skip


def read_vocabulary_map(
    kept: int | None, renumbered: int | None, appended: int | None, dropped: int | None
) -> VocabularyMap | None:
    """What four columns of a finding say of its vocabulary; None where one is NULL."""
    if kept is None or renumbered is None or appended is None or dropped is None:
        return None
    return VocabularyMap(kept, renumbered, appended, dropped)


def replace_findings(
    connection: duckdb.DuckDBPyConnection, run_id: int, findings: Iterable[Finding]
) -> int:
    """Make `findings` the current ones; returns how many changed.

    A finding that says what the current one says is left alone, so that `valid_from` tells since
    when it has held; a changed one closes its predecessor. Findings of models that were not
    inferred this time are closed as well. All in one transaction.
    """
    now = datetime.now(UTC)
    before = {finding.child: finding for finding in current_findings(connection)}
    new = {finding.child: finding for finding in findings}
    changed = [finding for child, finding in new.items() if before.get(child) != finding]
    closed = [child for child in before if before[child] != new.get(child)]
    connection.begin()
    try:
        for child in closed:
            connection.execute(
                "UPDATE finding SET valid_to = ? WHERE child = ? AND valid_to IS NULL", [now, child]
            )
        row = connection.execute("SELECT coalesce(max(finding_id), 0) FROM finding").fetchone()
        first = int(row[0]) + 1 if row else 1
        for finding_id, finding in enumerate(changed, start=first):
            _insert(connection, run_id, finding_id, finding, now)
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    return len(changed)


def _insert(
    connection: duckdb.DuckDBPyConnection,
    run_id: int,
    finding_id: int,
    finding: Finding,
    now: datetime,
) -> None:
    tokens = finding.vocabulary_map
    connection.execute(
        "INSERT INTO finding (finding_id, run_id, child, kind, grade, base, method, rank, p_value,"
        " probability, ties, evidence, recipe_yaml, note, valid_from, valid_to, target_modules,"
        " tokens_kept, tokens_renumbered, tokens_appended, tokens_dropped, unseen_ancestor) VALUES"
        " (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, ?, ?, ?, ?, ?, ?)",
        [
            finding_id,
            run_id,
            finding.child,
            str(finding.kind),
            str(finding.grade),
            finding.base,
            finding.method,
            finding.rank,
            finding.p_value,
            finding.probability,
            list(finding.ties),
            evidence_json(finding.evidence),
            finding.recipe_yaml,
            finding.note,
            now,
            list(finding.target_modules) or None,
            *(
                (None, None, None, None)
                if tokens is None
                else (tokens.kept, tokens.renumbered, tokens.appended, tokens.dropped)
            ),
            finding.unseen_ancestor,
        ],
    )
    if finding.parents:
        connection.executemany(
            "INSERT INTO finding_parent VALUES (?, ?, ?, ?, ?, ?)",
            [
                [finding_id, position, share.parent, share.weight, share.low, share.high]
                for position, share in enumerate(finding.parents)
            ],
        )
    if finding.layer_map:
        connection.executemany(
            "INSERT INTO finding_layer VALUES (?, ?, ?, ?)",
            [
                [finding_id, source.child_layer, source.parent, source.parent_layer]
                for source in finding.layer_map
            ],
        )

"""Questions put to a published register, answered as frozen rows.

Every function takes a cursor of a published database (read-only) and plain values; the statements
themselves are in :mod:`lineage.store.published`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import duckdb

from lineage.model import Evidence, LayerSource, ParentShare
from lineage.store import published, published_clades
from lineage.store.evidence import read_evidence
from lineage.store.findings import read_vocabulary_map
from lineage.store.name_index import NameIndex
from lineage.views.clades import neighbourhood
from lineage.views.judgement import audit_model
from lineage.views.records import card_of, edges_of, zoned
from lineage.views.rows import (
    AuditPage,
    AuditRow,
    ClaimRow,
    Coverage,
    EdgeRow,
    EstimateRow,
    Example,
    Family,
    FileRow,
    FindingRow,
    FingerprintRow,
    ModelCard,
    ModelDetail,
    ProblemRow,
    SearchHit,
    TraitRow,
)
from lineage.views.rulings import Facts, ModelAudit

__all__ = [
    "audit",
    "audit_all",
    "audit_models",
    "coverage",
    "estimates",
    "examples",
    "families",
    "model_card",
    "model_detail",
    "model_names",
    "near",
    "neighbourhood",
    "owners",
    "problem_counts",
    "publication",
    "revisions_read",
    "search",
]

_HOW = ("exact", "prefix", "substring")


def _claims(rows: Iterable[published.Row]) -> tuple[ClaimRow, ...]:
    return tuple(ClaimRow(*zoned(row)) for row in rows)


def _findings(
    cursor: duckdb.DuckDBPyConnection, children: Sequence[str]
) -> dict[str, FindingRow]:  # fmt: skip
    rows = published.findings_of(cursor, children)
    shares: dict[int, list[ParentShare]] = {}
    for finding_id, parent, weight, low, high in published.shares_of(cursor, [r[0] for r in rows]):
        shares.setdefault(finding_id, []).append(ParentShare(parent, weight, low, high))
    made: dict[str, FindingRow] = {}
    for row in rows:
        ties, evidence = tuple(row[9]), read_evidence(row[10])
        told = (tuple(row[14] or ()), read_vocabulary_map(*row[15:19]), row[19])
        values: published.Row = (
            *row[:9], ties, evidence, *row[11:14], tuple(shares.get(row[0], ())), *told,
        )  # fmt: skip
        made[row[1]] = FindingRow(*zoned(values))
    return made


def publication(cursor: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """What this publication says of itself: the ``meta`` table as key and value."""
    return {str(key): str(value) for key, value in published.meta(cursor)}


def coverage(cursor: duckdb.DuckDBPyConnection) -> Coverage:
    """How much was seen, read and decided."""
    return Coverage(*published.counts(cursor))


def search(
    cursor: duckdb.DuckDBPyConnection, text: str, limit: int = 25, index: NameIndex | None = None
) -> tuple[SearchHit, ...]:
    """Models whose name is, begins with or contains `text`; near names when none does.

    With the publication's `index` of names in milliseconds; without it every name is gone through.

    Examples
    --------
    >>> search(cursor, "mistral-7b")  # doctest: +SKIP
    (SearchHit(how='prefix', model=ModelCard(repo_id='mistralai/Mistral-7B-v0.1', ...)), ...)
    """
    wanted = text.strip()
    if not wanted:
        return ()
    if index is not None:
        found = index.search(wanted, limit)
        cards = _cards(cursor, [name for _, name in found])
        return tuple(SearchHit(how, cards[name]) for how, name in found if name in cards)
    rows = published.search_names(cursor, wanted, limit)
    if rows:
        return tuple(SearchHit(_HOW[row[0]], card_of(row[1:])) for row in rows)
    return tuple(SearchHit("near", model) for model in near(cursor, wanted))


def near(
    cursor: duckdb.DuckDBPyConnection, text: str, limit: int = 8, index: NameIndex | None = None
) -> tuple[ModelCard, ...]:
    """Models whose names look most like `text`."""
    if index is not None:
        names = index.near(text, limit)
        cards = _cards(cursor, names)
        return tuple(cards[name] for name in names if name in cards)
    return tuple(card_of(row) for row in published.near_names(cursor, text.strip(), limit))


def _cards(cursor: duckdb.DuckDBPyConnection, names: Sequence[str]) -> dict[str, ModelCard]:
    return {row[0]: card_of(row) for row in published.models(cursor, names)}


def examples(cursor: duckdb.DuckDBPyConnection, limit: int = 4) -> tuple[Example, ...]:
    """Models worth a look, `limit` for each reason."""
    return tuple(Example(row[0], card_of(row[1:])) for row in published.examples(cursor, limit))


def model_card(cursor: duckdb.DuckDBPyConnection, repo_id: str) -> ModelCard | None:
    """One model, or None when the register does not know it."""
    rows = published.models(cursor, [repo_id])
    return card_of(rows[0]) if rows else None


def model_detail(
    cursor: duckdb.DuckDBPyConnection, repo_id: str, max_children: int = 200, max_files: int = 50
) -> ModelDetail | None:
    """Everything known about one model, or None when the register does not know it."""
    card = model_card(cursor, repo_id)
    if card is None:
        return None
    finding = _findings(cursor, [repo_id]).get(repo_id)
    layers = published.layers_of(cursor, finding.finding_id) if finding else []
    read = published.fingerprint_of(cursor, repo_id)
    return ModelDetail(
        card,
        edges_of(row[:-1] for row in published_clades.edges_at(cursor, [card.pos])),
        edges_of(published_clades.edges_to(cursor, card.pos, max_children)),
        _claims(published.claims_of(cursor, [repo_id])),
        finding,
        tuple(LayerSource(*row) for row in layers),
        tuple(TraitRow(*row) for row in published.traits_of(cursor, repo_id)),
        tuple(ProblemRow(*row) for row in published.problems_of(cursor, repo_id)),
        FingerprintRow(*read) if read else None,
        tuple(FileRow(*row) for row in published.files_at(cursor, card.pos, max_files)),
    )


def revisions_read(cursor: duckdb.DuckDBPyConnection, repo_ids: Sequence[str]) -> dict[str, str]:
    """The commit at which the weights of each model were read; unread models are left out."""
    return dict(published.revisions_of(cursor, repo_ids))


def audit(
    cursor: duckdb.DuckDBPyConnection,
    *,
    verdict: str = "",
    family: str = "",
    owner: str = "",
    limit: int = 25,
    offset: int = 0,
) -> AuditPage:
    """Declared against found: edges of one verdict, family or owner (empty: all)."""
    counted = {str(key): int(n) for key, n in published.audit_counts(cursor, family, owner)}
    edges = edges_of(published.audit_edges(cursor, verdict, family, owner, limit, offset))
    children = list(dict.fromkeys(edge.child for edge in edges))
    findings = _findings(cursor, children)
    claims: dict[str, list[ClaimRow]] = {}
    for claim in _claims(published.claims_of(cursor, children)):
        claims.setdefault(claim.child, []).append(claim)
    return AuditPage(
        tuple(
            AuditRow(edge, tuple(claims.get(edge.child, ())), findings.get(edge.child))
            for edge in edges
        ),
        counted.get("confirmed", 0),
        counted.get("undeclared", 0),
        counted.get("contradicted", 0),
        counted.get("unverified", 0),
    )


def audit_all(
    cursor: duckdb.DuckDBPyConnection, *, verdict: str = "", family: str = "", owner: str = ""
) -> tuple[EdgeRow, ...]:
    """The edges of an audit, at most 10,000 of them, for an export."""
    return edges_of(published.audit_edges(cursor, verdict, family, owner, 10_000, 0))


def audit_models(
    cursor: duckdb.DuckDBPyConnection, repo_ids: Sequence[str]
) -> tuple[ModelAudit, ...]:
    """What was declared of models against what their weights show; unknown ones are left out."""
    cards = {row[0]: card_of(row) for row in published.models(cursor, repo_ids)}
    known = [name for name in dict.fromkeys(repo_ids) if name in cards]
    findings = _findings(cursor, known)
    claims: dict[str, list[ClaimRow]] = {}
    for claim in _claims(published.resolved_claims_of(cursor, known)):
        claims.setdefault(claim.child, []).append(claim)
    edges: dict[str, list[EdgeRow]] = {}
    for edge in edges_of(published.edges_of_children(cursor, known)):
        edges.setdefault(edge.child, []).append(edge)
    doubts: dict[str, dict[str, tuple[Evidence, ...]]] = {}
    for child, parent, code, reason in published.doubts_of(cursor, known):
        of_child = doubts.setdefault(child.lower(), {})
        key = (parent or "").lower()
        of_child[key] = (*of_child.get(key, ()), Evidence(code, None, reason))
    parents = [edge.parent for of_child in edges.values() for edge in of_child]
    named = {row[0]: card_of(row) for row in published.models(cursor, parents)}
    unread: dict[str, str] = dict(published.unread_reasons(cursor, [*known, *named]))
    return tuple(
        audit_model(
            Facts(
                cards[name],
                tuple(claims.get(name, ())),
                tuple(edges.get(name, ())),
                findings.get(name),
                named,
                unread,
                doubts.get(name.lower(), {}),
            )
        )
        for name in known
    )


def model_names(cursor: duckdb.DuckDBPyConnection, owner: str = "") -> tuple[str, ...]:
    """Names of all models, or of those of one owner, in order."""
    return tuple(published.names(cursor, owner))


def families(cursor: duckdb.DuckDBPyConnection, limit: int = 200) -> tuple[Family, ...]:
    """Founders with at least one descendant, largest first."""
    return tuple(Family(*row) for row in published.families(cursor, limit))


def owners(cursor: duckdb.DuckDBPyConnection, limit: int = 500) -> tuple[Family, ...]:
    """Owners of models that have parents, most models first."""
    return tuple(Family(*row) for row in published.owners(cursor, limit))


def estimates(cursor: duckdb.DuckDBPyConnection) -> tuple[EstimateRow, ...]:
    """All population statistics, in order of statistic, fitness, population and trait."""
    return tuple(EstimateRow(*row) for row in published.estimates(cursor))


def problem_counts(cursor: duckdb.DuckDBPyConnection) -> tuple[Family, ...]:
    """What could not be read: code and number."""
    return tuple(Family(*row) for row in published.problem_counts(cursor))

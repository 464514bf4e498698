"""Questions put to a published register, answered as frozen rows.

Every function takes a cursor of a published database (read-only) and plain values; the statements
themselves are in :mod:`lineage.store.published`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import duckdb

from lineage.model import Evidence, LayerSource, ParentShare
from lineage.store import published
from lineage.store.evidence import read_evidence
from lineage.store.findings import read_vocabulary_map
from lineage.views.judgement import audit_model
from lineage.views.rows import (
    AuditPage,
    AuditRow,
    ClaimRow,
    Coverage,
    EdgeRow,
    EstimateRow,
    Example,
    Family,
    FindingRow,
    FingerprintRow,
    Mark,
    ModelCard,
    ModelDetail,
    Neighbourhood,
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


def _zoned(row: published.Row) -> published.Row:
    return tuple(v.replace(tzinfo=UTC) if isinstance(v, datetime) else v for v in row)


def _card(row: published.Row) -> ModelCard:
    return ModelCard(*_zoned(row))


def _edges(rows: Iterable[published.Row]) -> tuple[EdgeRow, ...]:
    made: list[EdgeRow] = []
    for row in rows:
        values: published.Row = (*row[:-1], read_evidence(row[-1]))
        made.append(EdgeRow(*values))
    return tuple(made)


def _claims(rows: Iterable[published.Row]) -> tuple[ClaimRow, ...]:
    return tuple(ClaimRow(*_zoned(row)) for row in rows)


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
        made[row[1]] = FindingRow(*_zoned(values))
    return made


def publication(cursor: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """What this publication says of itself: the ``meta`` table as key and value."""
    return {str(key): str(value) for key, value in published.meta(cursor)}


def coverage(cursor: duckdb.DuckDBPyConnection) -> Coverage:
    """How much was seen, read and decided."""
    return Coverage(*published.counts(cursor))


def search(
    cursor: duckdb.DuckDBPyConnection, text: str, limit: int = 25
) -> tuple[SearchHit, ...]:  # fmt: skip
    """Models whose name is, begins with or contains `text`; near names when none does.

    Examples
    --------
    >>> search(cursor, "mistral-7b")  # doctest: +SKIP
    (SearchHit(how='prefix', model=ModelCard(repo_id='mistralai/Mistral-7B-v0.1', ...)), ...)
    """
    wanted = text.strip()
    if not wanted:
        return ()
    rows = published.search_names(cursor, wanted, limit)
    if rows:
        return tuple(SearchHit(_HOW[row[0]], _card(row[1:])) for row in rows)
    return tuple(SearchHit("near", model) for model in near(cursor, wanted))


def near(cursor: duckdb.DuckDBPyConnection, text: str, limit: int = 8) -> tuple[ModelCard, ...]:
    """Models whose names look most like `text`."""
    return tuple(_card(row) for row in published.near_names(cursor, text.strip(), limit))


def examples(cursor: duckdb.DuckDBPyConnection, limit: int = 4) -> tuple[Example, ...]:
    """Models worth a look, `limit` for each reason."""
    return tuple(Example(row[0], _card(row[1:])) for row in published.examples(cursor, limit))


def model_card(cursor: duckdb.DuckDBPyConnection, repo_id: str) -> ModelCard | None:
    """One model, or None when the register does not know it."""
    rows = published.models(cursor, [repo_id])
    return _card(rows[0]) if rows else None


def model_detail(
    cursor: duckdb.DuckDBPyConnection, repo_id: str, max_children: int = 200
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
        _edges(published.edges_of_children(cursor, [repo_id])),
        _edges(published.edges_of_parents(cursor, [repo_id], max_children)),
        _claims(published.claims_of(cursor, [repo_id])),
        finding,
        tuple(LayerSource(*row) for row in layers),
        tuple(TraitRow(*row) for row in published.traits_of(cursor, repo_id)),
        tuple(ProblemRow(*row) for row in published.problems_of(cursor, repo_id)),
        FingerprintRow(*read) if read else None,
    )


def revisions_read(cursor: duckdb.DuckDBPyConnection, repo_ids: Sequence[str]) -> dict[str, str]:
    """The commit at which the weights of each model were read; unread models are left out."""
    return dict(published.revisions_of(cursor, repo_ids))


def neighbourhood(
    cursor: duckdb.DuckDBPyConnection,
    repo_id: str,
    *,
    ancestors: int = 8,
    descendants: int = 3,
    whole_family: bool = False,
    max_marks: int = 400,
) -> Neighbourhood | None:
    """The models around one, for a drawing: None when the register does not know it.

    Ancestors over every parent come first and are always kept, then descendants level by level,
    those with most descendants first, until `max_marks` models are in. `whole_family` takes the
    founder's clade instead of the descendants. The other parents of every merge that is shown are
    shown too; parents outside the register become ghosts.
    """
    card = model_card(cursor, repo_id)
    if card is None:
        return None
    chosen: dict[str, None] = {repo_id: None}
    level = [repo_id]
    for _ in range(ancestors):
        found = [row[1] for row in published.edges_of_children(cursor, level)]
        level = [name for name in dict.fromkeys(found) if name not in chosen]
        if not level:
            break
        chosen.update(dict.fromkeys(level))
    if whole_family:
        members = published.family_members(cursor, card.founder, max_marks)
        chosen.update(dict.fromkeys(members[: max(0, max_marks - len(chosen))]))
    else:
        level = [repo_id]
        for _ in range(descendants):
            room = max_marks - len(chosen)
            if not level or room <= 0:
                break
            rows = published.edges_of_parents(cursor, level, max_marks)
            level = [name for name in dict.fromkeys(row[0] for row in rows) if name not in chosen]
            level = level[:room]
            chosen.update(dict.fromkeys(level))
    other_parents = [row[1] for row in published.edges_of_children(cursor, list(chosen))]
    room = max(0, max_marks + max_marks // 2 - len(chosen))
    chosen.update(
        dict.fromkeys([p for p in dict.fromkeys(other_parents) if p not in chosen][:room])
    )
    return _with_ghosts(cursor, card, list(chosen), whole_family)


def _with_ghosts(
    cursor: duckdb.DuckDBPyConnection, card: ModelCard, names: Sequence[str], whole_family: bool
) -> Neighbourhood:
    cards = [_card(row) for row in published.models(cursor, names)]
    edges = _edges(published.edges_among(cursor, names))
    known = {model.repo_id for model in cards}
    shown_children: dict[str, int] = {}
    relation: dict[str, str] = {}
    parents: dict[str, int] = {}
    for edge in edges:
        # Ties are several candidates for one parent; what was contradicted is none.
        if edge.verdict == "contradicted":
            continue
        shown_children[edge.parent] = shown_children.get(edge.parent, 0) + 1
        relation.setdefault(edge.child, edge.relation)
        if edge.grade != "tie":
            parents[edge.child] = parents.get(edge.child, 0) + 1
    marks = [
        Mark(
            model.repo_id,
            relation.get(model.repo_id, "founder"),
            model.kind,
            model.status,
            model.created_at,
            model.pos,
            parents.get(model.repo_id, 0),
            model.n_descendants,
            max(0, model.n_children - shown_children.get(model.repo_id, 0)),
        )
        for model in cards
    ]
    first_pos = {model.repo_id: model.pos for model in cards}
    findings = _findings(cursor, names)
    unseen = {finding.unseen_ancestor for finding in findings.values()}
    edges = _through_unseen(edges, findings)
    ghosts = dict.fromkeys(edge.parent for edge in edges if edge.parent not in known)
    for ghost in ghosts:
        pos = min(first_pos[edge.child] for edge in edges if edge.parent == ghost)
        status = "unseen" if ghost in unseen else "outside"
        marks.append(Mark(ghost, "unknown", None, status, None, pos, 0, 0, 0, ghost=True))
    # A ghost shares the position of its first child and must be drawn above it.
    marks.sort(key=lambda mark: (mark.pos, not mark.ghost, mark.repo_id))
    members = {m.repo_id for m in cards if m.founder == card.founder}
    left_out = published.models(cursor, [card.founder])[0:1] if whole_family else []
    size = _card(left_out[0]).size if left_out else 0
    return Neighbourhood(card.repo_id, tuple(marks), edges, max(0, size - len(members)))


def _through_unseen(
    edges: Sequence[EdgeRow], findings: Mapping[str, FindingRow]
) -> tuple[EdgeRow, ...]:
    """The same edges, led through ancestors that nobody published."""
    led: list[EdgeRow] = []
    above: dict[str, EdgeRow] = {}
    for edge in edges:
        finding = findings.get(edge.child)
        unseen = finding.unseen_ancestor if finding is not None else None
        is_found = finding is not None and edge.parent in {one.parent for one in finding.parents}
        if unseen is None or not is_found:
            led.append(edge)
            continue
        led.append(replace(edge, parent=unseen))
        # Nobody can have declared it.
        link = replace(edge, child=unseen, relation="unknown", kind=None, weight=None, evidence=())
        above.setdefault(unseen, replace(link, verdict="undeclared"))
    return (*led, *above.values())


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
    edges = _edges(published.audit_edges(cursor, verdict, family, owner, limit, offset))
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
    return _edges(published.audit_edges(cursor, verdict, family, owner, 10_000, 0))


def audit_models(
    cursor: duckdb.DuckDBPyConnection, repo_ids: Sequence[str]
) -> tuple[ModelAudit, ...]:
    """What was declared of models against what their weights show; unknown ones are left out."""
    cards = {row[0]: _card(row) for row in published.models(cursor, repo_ids)}
    known = [name for name in dict.fromkeys(repo_ids) if name in cards]
    findings = _findings(cursor, known)
    claims: dict[str, list[ClaimRow]] = {}
    for claim in _claims(published.resolved_claims_of(cursor, known)):
        claims.setdefault(claim.child, []).append(claim)
    edges: dict[str, list[EdgeRow]] = {}
    for edge in _edges(published.edges_of_children(cursor, known)):
        edges.setdefault(edge.child, []).append(edge)
    doubts: dict[str, dict[str, tuple[Evidence, ...]]] = {}
    for child, parent, code, reason in published.doubts_of(cursor, known):
        of_child = doubts.setdefault(child.lower(), {})
        key = (parent or "").lower()
        of_child[key] = (*of_child.get(key, ()), Evidence(code, None, reason))
    parents = [edge.parent for of_child in edges.values() for edge in of_child]
    named = {row[0]: _card(row) for row in published.models(cursor, parents)}
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

"""Licences that allow more than an ancestor's, and quantisations that are not what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from lineage.store import published_licences
from lineage.store.licence_conflicts import FORBIDDEN
from lineage.views.ancestry import Ancestry
from lineage.views.comparison import PathEdge, lines_between
from lineage.views.questions import audit_models
from lineage.views.rulings import AuditLine, Ruling

__all__ = [
    "FORBIDDEN",
    "MOST_CONFLICTS",
    "ConflictPage",
    "LicenceConflict",
    "VerdictCount",
    "all_conflicts",
    "conflict_lines",
    "licence_conflicts",
    "unfaithful_quantisations",
    "verdict_counts",
]

MOST_CONFLICTS = 10_000
"""Conflicts in one file."""
_MOST_JUDGED = 2_000
"""Quantised models that are judged for one page; those most downloaded."""
_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class LicenceConflict:
    """A model whose licence allows more than that of an ancestor, `n_edges` above it."""

    child: str
    child_licence: str
    child_class: str
    ancestor: str
    ancestor_licence: str
    ancestor_licence_name: str | None
    ancestor_class: str
    n_edges: int


@dataclass(frozen=True, slots=True)
class ConflictPage:
    """One page of conflicts, and how many there are by class of the ancestor."""

    rows: tuple[LicenceConflict, ...]
    counts: dict[str, int]

    def count(self, terms: str) -> int:
        """Conflicts with ancestors of a class; with all when it is empty."""
        return self.counts.get(terms, 0) if terms else sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class VerdictCount:
    """A family or an owner and its edges by verdict."""

    name: str
    confirmed: int
    undeclared: int
    contradicted: int
    unverified: int


def licence_conflicts(
    cursor: duckdb.DuckDBPyConnection,
    *,
    terms: str = "",
    family: str = "",
    owner: str = "",
    limit: int = 25,
    offset: int = 0,
) -> ConflictPage:
    """Conflicts with ancestors of one class, within a family or an owner (empty: all).

    The rule is that of :mod:`lineage.store.licence_conflicts`; most downloaded models first.
    """
    rows = published_licences.conflicts(cursor, terms, family, owner, limit, offset)
    counts = published_licences.conflict_counts(cursor, family, owner)
    return ConflictPage(
        tuple(LicenceConflict(*row) for row in rows),
        {str(name): int(n) for name, n in counts},
    )


def all_conflicts(
    cursor: duckdb.DuckDBPyConnection, *, terms: str = "", family: str = "", owner: str = ""
) -> tuple[LicenceConflict, ...]:
    """The conflicts of a page's filters, at most :data:`MOST_CONFLICTS`, for an export."""
    return licence_conflicts(
        cursor, terms=terms, family=family, owner=owner, limit=MOST_CONFLICTS
    ).rows


def conflict_lines(
    cursor: duckdb.DuckDBPyConnection, ancestry: Ancestry, conflicts: Sequence[LicenceConflict]
) -> dict[tuple[str, str], tuple[PathEdge, ...]]:
    """For each child and ancestor the edges of a shortest line from the one up to the other."""
    return lines_between(cursor, ancestry, [(one.child, one.ancestor) for one in conflicts])


def unfaithful_quantisations(
    cursor: duckdb.DuckDBPyConnection, *, family: str = "", owner: str = ""
) -> tuple[AuditLine, ...]:
    """Declared quantisations whose codes are not the declared model's, most downloaded first."""
    names = published_licences.quantised_claims(cursor, family, owner, _MOST_JUDGED)
    return tuple(
        line
        for at in range(0, len(names), _AT_ONCE)
        for audited in audit_models(cursor, names[at : at + _AT_ONCE])
        for line in audited.lines
        if line.ruling is Ruling.UNFAITHFUL_QUANTISATION
    )


def verdict_counts(
    cursor: duckdb.DuckDBPyConnection, *, by_owner: bool, limit: int = 100
) -> tuple[VerdictCount, ...]:
    """Families, or owners, with most undeclared and contradicted parents."""
    return tuple(
        VerdictCount(*row) for row in published_licences.verdict_counts(cursor, by_owner, limit)
    )

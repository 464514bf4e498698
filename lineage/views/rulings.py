"""What an audit says: rulings, reasons, lines, and the facts that it starts from.

=======================  =========================================================================
ruling                   when
=======================  =========================================================================
confirmed                declared, and the weights agree
ancestor                 declared and no parent, but an ancestor or the base of a merge: no untruth
undeclared               the weights show it, nobody declared it
unverifiable             declared, and the weights cannot tell; :class:`Reason` says why
contradicted             declared, and the weights decided otherwise
unfaithful_quantisation  declared as a quantisation, and one it is: of another model, of several, or
                         of none that was read, though the declared one was
missing_parent           undeclared, of a merge of which other parents are declared, and no ancestor
                         of this one
wrong_relation           the parent is right, the word for the relation is one the weights exclude
mislabelled_copy         declared as trained or merged, and every sampled word is the declared
                         parent's, or was cast from a model that does not come from that parent
=======================  =========================================================================

The last five are objections: somebody's declaration is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from lineage.model import Evidence
from lineage.views.rows import ClaimRow, EdgeRow, FindingRow, ModelCard

__all__ = [
    "OBJECTIONS",
    "SEVERITY",
    "AuditLine",
    "Declaration",
    "Facts",
    "ModelAudit",
    "Reason",
    "Ruling",
]


class Ruling(StrEnum):
    """What an audit says of one claim or one found parent, gravest first."""

    CONTRADICTED = "contradicted"
    UNFAITHFUL_QUANTISATION = "unfaithful_quantisation"
    MISLABELLED_COPY = "mislabelled_copy"
    WRONG_RELATION = "wrong_relation"
    MISSING_PARENT = "missing_parent"
    UNDECLARED = "undeclared"
    UNVERIFIABLE = "unverifiable"
    ANCESTOR = "ancestor"
    CONFIRMED = "confirmed"


OBJECTIONS = frozenset(
    {
        Ruling.CONTRADICTED,
        Ruling.UNFAITHFUL_QUANTISATION,
        Ruling.MISLABELLED_COPY,
        Ruling.WRONG_RELATION,
        Ruling.MISSING_PARENT,
    }
)
"""Rulings that say that a declaration is wrong."""
_STRICT = OBJECTIONS | {Ruling.UNDECLARED, Ruling.UNVERIFIABLE}
SEVERITY = {ruling: place for place, ruling in enumerate(Ruling)}
"""Place of each ruling, gravest first."""


class Reason(StrEnum):
    """Why a claim is unverifiable."""

    UNREAD = "unread"
    PARENT_NOT_CATALOGUED = "parent_not_catalogued"
    PARENT_UNREAD = "parent_unread"
    PARENT_ADAPTER = "parent_adapter"
    ADAPTER = "adapter"
    ABSTAINED = "abstained"
    TIE = "tie"
    OPEN_MERGE = "open_merge"
    NEAR_BASE = "near_base"
    BASE = "base"
    NOT_TRIED = "not_tried"
    OPEN_ABOVE = "open_above"
    LATER_THAN_CHILD = "later_than_child"
    CYCLE = "cycle"
    ITSELF = "itself"
    UNRESOLVED = "unresolved"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a publication holds of one model, as far as an audit needs it.

    `claims` name their parents as the edges do. `named` holds those declared and found parents that
    are in the catalogue, `unread` why weights could not be read, by model, and `doubts` what the
    crawl found odd about a claim, by parent in small letters.
    """

    card: ModelCard
    claims: tuple[ClaimRow, ...] = ()
    edges: tuple[EdgeRow, ...] = ()
    finding: FindingRow | None = None
    named: Mapping[str, ModelCard] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)
    doubts: Mapping[str, tuple[Evidence, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Declaration:
    """One place where a parent was declared: source, the Hub's word if it was said, the words."""

    source: str
    relation: str | None
    text: str


@dataclass(frozen=True, slots=True)
class AuditLine:
    """The ruling on one declared or found parent.

    `parent` is None where the words mean no repository. `reason` names the evidence that a
    contradiction rests on, or why a claim is unverifiable. `kind`, `grade`, `p_value` and
    `probability` are those of the finding about the child; `weight` is the share found.
    """

    child: str
    parent: str | None
    parent_text: str
    ruling: Ruling
    reason: str | None
    sentence: str
    declared: tuple[Declaration, ...]
    kind: str | None
    grade: str | None
    weight: float | None
    p_value: float | None
    probability: float | None
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class ModelAudit:
    """All rulings on one model, gravest first; `kind`, `grade` and `note` are the finding's."""

    model: str
    status: str
    kind: str | None
    grade: str | None
    note: str
    lines: tuple[AuditLine, ...]

    @property
    def severity(self) -> int:
        """Place of the gravest ruling in :class:`Ruling`; models without any come last."""
        return min((SEVERITY[line.ruling] for line in self.lines), default=len(Ruling))

    def objections(self, *, strict: bool = False) -> tuple[AuditLine, ...]:
        """Lines that object; `strict` counts undeclared and unverifiable parents too."""
        wrong = _STRICT if strict else OBJECTIONS
        return tuple(line for line in self.lines if line.ruling in wrong)

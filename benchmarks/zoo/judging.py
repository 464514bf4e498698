"""What is true of findings: right as they stand, right but for copies, right but for direction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lineage.infer.calibration import group_of, witnesses_of
from lineage.infer.equal_copies import equal_copies, equal_values, is_tied_by_copies
from lineage.infer.truth import Truth
from lineage.model import Finding, Grade, Kind

__all__ = ["Case", "judge"]


@dataclass(frozen=True, slots=True)
class Case:
    """A finding with parents, and what is true of it.

    `right` as it stands; `alike` with equal models taken as one; `pair` also if parent and
    child changed places; `forward` whether they did not, None where the pair is wrong.
    """

    finding: Finding
    family: str
    right: bool
    alike: bool
    pair: bool
    forward: bool | None
    group: str = field(init=False)
    witnesses: Mapping[str, float | None] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "group", group_of(self.finding))
        object.__setattr__(self, "witnesses", witnesses_of(self.finding))


def judge(findings: Sequence[Finding], truth: Truth, families: Mapping[str, str]) -> list[Case]:
    """All findings of which the parents can be judged; abstentions that name one model among them.

    An abstention is judged as if it had asserted the step that it thought likelier: it teaches how
    directions err where the witnesses are weak.
    """
    by_words = _Ancestry(truth, equal_copies(findings))
    by_values = _Ancestry(truth, equal_values(findings))

    def ancestry(finding: Finding) -> _Ancestry:
        # A cast and what it was made from are not to be taken as one here.
        is_by_values = is_tied_by_copies(finding) and finding.kind is not Kind.CAST
        return by_values if is_by_values else by_words

    return [
        ancestry(finding).judge(finding, families[finding.child])
        for finding in sorted(findings, key=lambda one: one.child)
        if finding.child in truth.models and (finding.parents or len(finding.ties) == 1)
    ]


@dataclass(frozen=True)
class _Ancestry:
    """The truth, as it is and with equal models taken as one: copies, and casts if they tie."""

    truth: Truth
    alike: Mapping[str, frozenset[str]]

    def judge(self, finding: Finding, family: str) -> Case:
        named = frozenset(share.parent for share in finding.parents) or frozenset(finding.ties)
        child, true = finding.child, self._parents(finding.child)
        tied = named | set(finding.ties) if finding.grade is Grade.TIE else frozenset()
        right = len(true) == 1 and true <= tied if tied else named == true
        if tied and not is_tied_by_copies(finding):
            alike = self._is_tied(finding, tied)
            return Case(finding, family, right, alike, alike, None)
        forward = self._classes(named) == self._above(child)
        backward = len(named) == 1 and self._class(child) in self._above(next(iter(named)))
        pair = forward or backward
        return Case(finding, family, right, forward, pair, forward if pair else None)

    def _is_tied(self, finding: Finding, tied: frozenset[str]) -> bool:
        """Whether a tie holds the parent, or, of copies without an order, a copy."""
        here, above = self._class(finding.child), self._above(finding.child)
        if finding.kind is Kind.DUPLICATE:
            return any(self._parents(one) & here for one in here)
        if len(above) == 1 and above <= self._classes(tied):
            return True
        return finding.kind is Kind.PERMUTED and any(here in self._above(one) for one in tied)

    def _parents(self, name: str) -> frozenset[str]:
        known = self.truth.models.get(name)
        return known.parent_names if known else frozenset()

    def _class(self, name: str) -> frozenset[str]:
        return self.alike.get(name, frozenset((name,)))

    def _classes(self, names: Iterable[str]) -> frozenset[frozenset[str]]:
        return frozenset(map(self._class, names))

    def _above(self, name: str) -> frozenset[frozenset[str]]:
        """Parents of any copy, other copies left out."""
        copies = self._class(name)
        return self._classes({p for one in copies for p in self._parents(one)} - copies)

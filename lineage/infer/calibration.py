"""How far a finding can be believed: its witnesses, weighed as known ancestry taught.

A finding carries what was measured as evidence. Here some of it is put on bounded scales
(`WITNESSES`, more always speaks for the finding) and weighed by logistic curves, one for each kind
of finding. They were learned on families whose ancestry is known, and are judged on others:
``docs/proving-ground.md`` tells how, and with which errors.

The belief is that of the weights alone. Where the order of parent and child rests on dates there
is none, since no proving ground can tell how far the dates of strangers are to be trusted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from lineage.infer.calibration_table import LEARNED
from lineage.infer.curves import Calibration
from lineage.infer.equal_copies import equal_copies, is_tied_by_copies
from lineage.infer.reconcile import tells_direction
from lineage.model import Finding, Grade, Kind

__all__ = [
    "DIRECTION_WITNESSES",
    "EXACT",
    "GROUPS",
    "WITNESSES",
    "Witness",
    "belief",
    "calibrated",
    "group_of",
    "witnesses_of",
]


@dataclass(frozen=True, slots=True)
class Witness:
    """A piece of evidence, by name, and the scale on which it speaks for a finding.

    Scales are monotone, or fall from the one value that descent predicts; they end where more
    would say nothing more, so that no measurement, however large, counts without limit.
    """

    evidence: str
    scale: Callable[[float], float]


def _clip(value: float, low: float = 0.0, high: float = 1.0) -> float:
    return min(max(value, low), high)


def _smallness(change: float) -> float:
    """1 at a relative change of 1e-4 and below, 0 from 1 on: orders of magnitude."""
    return _clip(-math.log10(change) / 4) if change > 0 else 1.0


WITNESSES: Final[Mapping[str, Witness]] = {
    # What the parent did last is carried whole. Parallel training gives other shares.
    "carries_the_whole": Witness("inherited_share", lambda beta: 1 - _clip(abs(beta - 1) / 0.25)),
    # The runner-up: a relative whose change is carried nearly whole may be the parent.
    "carries_no_other": Witness("largest_inherited_share", lambda beta: 1 - _clip(beta)),
    "small_change": Witness("relative_change", _smallness),
    # In units of four, as large as other witnesses are, so that one penalty fits all.
    "points_forward": Witness("direction_log_odds", lambda odds: _clip(odds, -10.0, 10.0) / 4),
    # From the least that makes a finding (lineage.infer.settle) to all words.
    "words_replayed": Witness("words_replayed", lambda share: _clip((share - 0.97) / 0.03)),
    "words_fitted": Witness("words_fitted", _clip),
    "codes_replayed": Witness("codes_replayed", lambda share: _clip((share - 0.6) / 0.4)),
    "adds_up": Witness("joint_shares", lambda total: 1 - _clip(abs(total - 1) / 0.6)),
}
"""By name. Evidence that no witness asks for is passed over."""

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "copy": (),
    "quantised": ("codes_replayed",),
    "layers, word for word": (),
    "layers, by likeness": (),
    "merge, replayed": ("words_replayed",),
    "merge, fitted": ("words_fitted", "adds_up"),
    "adapter": (),
    "tie": ("small_change",),
    "from the founder": ("carries_no_other", "small_change"),
    "from a descendant": ("carries_the_whole", "small_change"),
    "descent": ("small_change",),
}
"""Kinds of findings that err in their own ways, and the witnesses asked whether they do."""

EXACT: Final = frozenset({"copy", "quantised", "layers, word for word", "merge, replayed"})
"""Groups that stand on stored words: seldom seen ones borrow from each other, so do the rest."""

DIRECTION_WITNESSES: Final[Mapping[str, tuple[str, ...]]] = {
    "from the founder": ("points_forward",),
    "from a descendant": ("points_forward",),
}
"""Kinds of findings that can be right but for the direction, and the witnesses of that."""

_COPIES = frozenset({Kind.DUPLICATE, Kind.CAST, Kind.PERMUTED})
_LAYERS = frozenset({Kind.PRUNED, Kind.PASSTHROUGH, Kind.MOE})


def group_of(finding: Finding) -> str:
    """The kind of a finding with parents: what it was concluded from (a key of `GROUPS`).

    A tie of copies with equal words is of the kind that it would be without them.
    """
    finding = _but_for_copies(finding)
    proved = finding.grade is Grade.PROVED
    if finding.kind in _COPIES or (finding.kind is Kind.VOCABULARY and proved):
        return "copy"
    if finding.kind is Kind.QUANTIZED:
        return "quantised"
    if finding.grade is Grade.TIE:
        return "tie"
    if finding.kind in _LAYERS:
        return "layers, word for word" if proved else "layers, by likeness"
    if finding.kind is Kind.MERGE:
        return "merge, replayed" if proved else "merge, fitted"
    if finding.kind is Kind.ADAPTER:
        return "adapter"
    measured = {fact.name for fact in finding.evidence}
    if "inherited_share" in measured:
        return "from a descendant"
    return "from the founder" if "largest_inherited_share" in measured else "descent"


def _but_for_copies(finding: Finding) -> Finding:
    """What a finding would be if there were no models with equal words."""
    if not is_tied_by_copies(finding):
        return finding
    return replace(finding, grade=Grade.INFERRED, ties=())


def witnesses_of(finding: Finding) -> dict[str, float | None]:
    """Every witness on its scale; None where it could not be measured."""
    measured = {fact.name: fact.value for fact in finding.evidence}
    told: dict[str, float | None] = {}
    for name, witness in WITNESSES.items():
        value = measured.get(witness.evidence)
        told[name] = None if value is None else witness.scale(value)
    return told


def calibrated(findings: Sequence[Finding], table: Calibration = LEARNED) -> tuple[Finding, ...]:
    """The findings, each with its `probability`.

    It is the belief that the finding is true as it stands: the set of parents is right, and they
    are the parents and not the children; of a tie, that the parent is among the tied. None for
    findings that assert no parent, where the order of parent and child rests on dates, and while
    `table` is empty.

    Parameters
    ----------
    findings
        All findings of a catalogue, in any order: which models are equal is told by others'.
    table
        What was learned of the witnesses.

    Notes
    -----
    The belief in the weights, ``P(parents)·P(direction)``, is shared evenly among copies of equal
    words whose order nothing tells: each of k may be the one that was meant.
    """
    alike = equal_copies(findings)
    return tuple(replace(one, probability=_probability(one, alike, table)) for one in findings)


def _probability(
    finding: Finding, alike: Mapping[str, frozenset[str]], table: Calibration
) -> float | None:
    one = _but_for_copies(finding)
    if not finding.parents or not (one.grade is Grade.TIE or tells_direction(one)):
        return None
    believed = belief(finding, table)
    return None if believed is None else believed * _share_among_copies(finding, alike)


def belief(finding: Finding, table: Calibration) -> float | None:
    """Probability that a finding with parents is right, copies of equal words taken as one.

    None if `table` does not know the kind of finding.
    """
    group, witnesses = group_of(finding), witnesses_of(finding)
    if group not in table.parents:
        return None
    probability = table.parents[group].probability(witnesses)
    if group in table.direction:
        probability *= table.direction[group].probability(witnesses)
    return table.bounded(probability)


def _share_among_copies(finding: Finding, alike: Mapping[str, frozenset[str]]) -> float:
    """Probability that the truth is among what is named, if models of equal words were meant.

    Nothing tells which of k equal models a step starts from, or leads to, so that each is as
    likely as the others: names say nothing. A tie of one of them may hold both what is true if it
    is the original, parents outside, and what is true if it is a copy: the others. The order of two
    models whose units are permuted is as open.
    """

    def share(name: str) -> float:
        return 1 / len(alike.get(name, (name,)))

    if finding.grade is not Grade.TIE:
        named = (finding.child, *(one.parent for one in finding.parents))
        return math.prod(map(share, named))
    order = 0.5 if finding.kind is Kind.PERMUTED else 1.0
    tied = frozenset(finding.ties) or {one.parent for one in finding.parents}
    others = alike.get(finding.child, frozenset()) - {finding.child}
    outside = _mean_share(tied - others, alike) if tied - others else 0.0
    return order * share(finding.child) * (outside + len(tied & others))


def _mean_share(tied: Collection[str], alike: Mapping[str, frozenset[str]]) -> float:
    """The mean, over the tied models, of the share of its equals that are tied as well."""
    classes = [alike.get(name, frozenset((name,))) for name in tied]
    named = Counter(classes)
    return sum(min(1.0, named[one] / len(one)) for one in classes) / len(classes)

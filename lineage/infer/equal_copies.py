"""Models of equal values: whoever comes from one may come from any.

Copies of equal words, whose order nothing tells, and casts that lost next to nothing, whose order
is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import networkx as nx

from lineage.infer.rooting import date_log_odds
from lineage.model import Evidence, Finding, Grade, Kind

__all__ = ["equal_copies", "equal_values", "is_tied_by_copies", "tie_equal_parents"]

Dates = Mapping[str, datetime | None]

_DECIDED = (Grade.PROVED, Grade.INFERRED)
_TIED = "equal_copies"
_LOSSLESS = "equal_values"
_EQUAL = "the tied models hold equal values"
_EITHER = "of models with equal words nothing tells which came first"


def equal_copies(findings: Sequence[Finding]) -> dict[str, frozenset[str]]:
    """By model, the models of equal words whose order nothing tells, itself included.

    Models that stand alone are left out.
    """
    return _classes(_copies(findings))


def equal_values(findings: Sequence[Finding]) -> dict[str, frozenset[str]]:
    """By model, those that a child of it may as well come from, itself included.

    Equal copies whose order nothing tells, and the casts of them that lost next to nothing: a
    child's words differ by less than its number type resolves. Models that stand alone are left
    out.
    """
    casts = (
        (one.child, one.parents[0].parent)
        for one in findings
        if len(one.parents) == 1 and any(fact.name == _LOSSLESS for fact in one.evidence)
    )
    return _classes([*_copies(findings), *casts])


def _copies(findings: Sequence[Finding]) -> Iterator[tuple[str, str]]:
    for finding in findings:
        if finding.kind is Kind.DUPLICATE and finding.grade in (Grade.TIE, Grade.ABSTAIN):
            # The ties of a copy that was placed may hold what its original was made of.
            others = tuple(share.parent for share in finding.parents) or finding.ties
            yield from ((finding.child, other) for other in others)


def _classes(pairs: Iterable[tuple[str, str]]) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for alike in map(frozenset, nx.connected_components(nx.Graph(pairs))):
        found.update(dict.fromkeys(alike, alike))
    return found


def tie_equal_parents(findings: Sequence[Finding], dates: Dates) -> list[Finding]:
    """The findings, with ties wherever a model and its equal could change places.

    A single parent that has equal copies, or casts that lost nothing, becomes a tie of all of them,
    the one that was named first. Of copies whose order nothing tells, one was taken for the
    original: it may be a copy itself, and each copy may be what was made of the original's parent.
    Such ties say so (``equal_copies``); what is a tie without them gets more members. Merges, whose
    recipes name every parent once, files that replay bit for bit from a model that has a lossless
    cast, which converters are seldom given, and children that are older than the cast stay as they
    are and say what could take a parent's place (``equal_parent``).

    Parameters
    ----------
    findings
        One per model.
    dates
        Upload times; may be empty.
    """
    alike, equal = equal_copies(findings), equal_values(findings)
    by_child = {finding.child: finding for finding in findings}
    return [
        _tied(_open_copy(finding, by_child, alike), alike, equal, dates) for finding in findings
    ]


def _open_copy(
    finding: Finding, by_child: Mapping[str, Finding], alike: Mapping[str, frozenset[str]]
) -> Finding:
    """A copy or its original, each of which may be the other."""
    if finding.child not in alike:
        return finding
    others = sorted(alike[finding.child] - {finding.child})
    originals = [
        by_child[name]
        for name in (finding.child, *others)
        if name in by_child and _has_one_parent(by_child[name])
    ]
    if not originals:
        return finding
    if finding is originals[0]:
        return _tied_with(finding, others, _EITHER)
    if finding.kind is Kind.DUPLICATE and finding.grade is Grade.TIE:
        above = originals[0].ties or (originals[0].parents[0].parent,)
        others_above = [name for name in above if name != finding.child]
        return replace(finding, ties=_joined(finding.ties, others_above))
    return finding


def _has_one_parent(finding: Finding) -> bool:
    """Whether one parent is asserted, or several are tied, and no copy of the model."""
    is_told = finding.grade in _DECIDED or finding.grade is Grade.TIE
    return len(finding.parents) == 1 and is_told and finding.kind is not Kind.DUPLICATE


def _tied(
    finding: Finding,
    alike: Mapping[str, frozenset[str]],
    equal: Mapping[str, frozenset[str]],
    dates: Dates,
) -> Finding:
    if not finding.parents or finding.kind is Kind.DUPLICATE:
        return finding
    tied = finding.ties or tuple(share.parent for share in finding.parents)
    if _has_one_parent(finding):
        as_likely = alike if finding.grade is Grade.PROVED else equal
        others = [
            name
            for one in tied
            for name in sorted(as_likely.get(one, frozenset()) - {finding.child, *tied})
            if date_log_odds(finding.child, name, dates) >= 0
        ]
        if others or finding.grade is Grade.TIE:
            return _tied_with(finding, others, _EQUAL)
    facts = tuple(_equal_parents(finding, equal))
    return replace(finding, evidence=(*finding.evidence, *facts)) if facts else finding


def _tied_with(finding: Finding, others: Sequence[str], why: str) -> Finding:
    """A tie with models more, and why, if it is one for no other reason."""
    ties = _joined(finding.ties or (finding.parents[0].parent,), others)
    if finding.grade is Grade.TIE:
        return replace(finding, ties=ties)
    fact = Evidence(_TIED, float(len(others)), why)
    return replace(finding, grade=Grade.TIE, ties=ties, evidence=(*finding.evidence, fact))


def _joined(first: Sequence[str], second: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *second)))


def is_tied_by_copies(finding: Finding) -> bool:
    """Whether a finding is a tie only because of models with equal words."""
    return finding.grade is Grade.TIE and any(fact.name == _TIED for fact in finding.evidence)


def _equal_parents(finding: Finding, equal: Mapping[str, frozenset[str]]) -> Iterator[Evidence]:
    for share in finding.parents:
        others = sorted(equal.get(share.parent, frozenset()) - {share.parent, finding.child})
        if others:
            listed = ", ".join(others)
            told = f"equal values, and as well the parent as {share.parent}: {listed}"
            yield Evidence("equal_parent", float(len(others)), told)

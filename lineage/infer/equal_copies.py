"""Models of equal words whose order nothing tells: whoever comes from one may come from any."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import networkx as nx

from lineage.model import Evidence, Finding, Grade, Kind

__all__ = ["equal_copies", "is_tied_by_copies", "tie_equal_parents"]

_DECIDED = (Grade.PROVED, Grade.INFERRED)
_TIED = "equal_copies"
_EQUAL = "the tied models have equal words"
_EITHER = "of models with equal words nothing tells which came first"


def equal_copies(findings: Sequence[Finding]) -> dict[str, frozenset[str]]:
    """By model, the models of equal words whose order nothing tells, itself included.

    Models that stand alone are left out.
    """
    same = nx.Graph()
    for finding in findings:
        if finding.kind is Kind.DUPLICATE and finding.grade in (Grade.TIE, Grade.ABSTAIN):
            # The ties of a copy that was placed may hold what its original was made of.
            others = tuple(share.parent for share in finding.parents) or finding.ties
            same.add_edges_from((finding.child, other) for other in others)
    found: dict[str, frozenset[str]] = {}
    for alike in map(frozenset, nx.connected_components(same)):
        found.update(dict.fromkeys(alike, alike))
    return found


def tie_equal_parents(findings: Sequence[Finding]) -> list[Finding]:
    """The findings, with ties wherever a model and its equal could change places.

    A single parent that has equal copies becomes a tie of all of them, the one that was named
    first. Of copies whose order nothing tells, one was taken for the original: it may be a copy
    itself, and each copy may be what was made of the original's parent. Such ties say so
    (``equal_copies``); what is a tie without them gets more members. Merges, whose recipes name
    every parent once, stay as they are and say whose copies could take a parent's place
    (``equal_parent``).
    """
    alike = equal_copies(findings)
    by_child = {finding.child: finding for finding in findings}
    return [_tied(_open_copy(finding, by_child, alike), alike) for finding in findings]


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


def _tied(finding: Finding, alike: Mapping[str, frozenset[str]]) -> Finding:
    if len(finding.parents) > 1:
        facts = tuple(_equal_parents(finding, alike))
        return replace(finding, evidence=(*finding.evidence, *facts)) if facts else finding
    if not _has_one_parent(finding):
        return finding
    tied = finding.ties or (finding.parents[0].parent,)
    equals = (sorted(alike.get(one, frozenset()) - {finding.child}) for one in tied)
    others = [name for names in equals for name in names if name not in tied]
    return _tied_with(finding, others, _EQUAL) if others else finding


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


def _equal_parents(finding: Finding, alike: Mapping[str, frozenset[str]]) -> Iterator[Evidence]:
    for share in finding.parents:
        others = sorted(alike.get(share.parent, frozenset()) - {share.parent, finding.child})
        if others:
            listed = ", ".join(others)
            told = f"{listed} has the words of {share.parent}, and may as well be the parent"
            yield Evidence("equal_parent", float(len(others)), told)

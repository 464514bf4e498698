"""Models of equal words whose order nothing tells: whoever comes from one may come from any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import networkx as nx

from lineage.model import Finding, Grade, Kind

__all__ = ["equal_copies", "tie_equal_parents"]

_DECIDED = (Grade.PROVED, Grade.INFERRED)


def equal_copies(findings: Sequence[Finding]) -> dict[str, frozenset[str]]:
    """By model, the models of equal words whose order nothing tells, itself included.

    Models that stand alone are left out.
    """
    same = nx.Graph()
    for finding in findings:
        if finding.kind is Kind.DUPLICATE and finding.grade in (Grade.TIE, Grade.ABSTAIN):
            others = (*(share.parent for share in finding.parents), *finding.ties)
            same.add_edges_from((finding.child, other) for other in others)
    found: dict[str, frozenset[str]] = {}
    for alike in map(frozenset, nx.connected_components(same)):
        found.update(dict.fromkeys(alike, alike))
    return found


def tie_equal_parents(findings: Sequence[Finding]) -> list[Finding]:
    """The findings, single parents that have equal copies made ties of all of them.

    The one that was named stays first. Merges, whose recipes name every parent once, stay as they
    are, and so do findings that list ties already.
    """
    alike = equal_copies(findings)
    return [_tied(finding, alike) for finding in findings]


def _tied(finding: Finding, alike: dict[str, frozenset[str]]) -> Finding:
    if len(finding.parents) != 1 or finding.ties or finding.grade not in _DECIDED:
        return finding
    parent = finding.parents[0].parent
    others = sorted(alike.get(parent, frozenset()) - {parent, finding.child})
    if not others:
        return finding
    note = "; ".join(filter(None, (finding.note, "the tied models have equal words")))
    return replace(finding, grade=Grade.TIE, ties=(parent, *others), note=note)

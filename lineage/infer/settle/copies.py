"""Exact copies: duplicates, casts, permuted units, edited vocabularies."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import networkx as nx

from lineage.infer.identity import Copy, find_copy, is_duplicate
from lineage.infer.quantised import is_quantised
from lineage.infer.settle.family import OpenFamily, birth, log_odds_older
from lineage.model import Finding, Grade, ParentShare

__all__ = ["settle_copies"]


def settle_copies(family: OpenFamily) -> None:
    """Settle duplicates, casts, permuted units and edited vocabularies: exact on some grid."""
    for twins in _duplicate_classes(family):
        original = max(twins, key=lambda name: (_seniority(family, name, twins), name))
        for child in twins:
            if child == original:
                continue
            copy = find_copy(family.members[child], family.members[original])
            if copy is not None:
                family.settle(_copy_finding(family, child, original, copy))
    originals = family.open_models()
    for child in originals:
        found = [
            (parent, copy)
            for parent in originals
            if parent != child
            and is_quantised(family.members[child]) == is_quantised(family.members[parent])
            and (copy := find_copy(family.members[child], family.members[parent])) is not None
            and (copy.directed or log_odds_older(family, parent, child) > 0)
        ]
        if found:
            parent, copy = min(found, key=lambda item: birth(family.dates, item[0]))
            family.settle(_copy_finding(family, child, parent, copy))


def _duplicate_classes(family: OpenFamily) -> list[list[str]]:
    """Sets of models with the same words, singletons left out."""
    same = nx.Graph()
    same.add_nodes_from(family.members)
    for a, b in combinations(family.members, 2):
        if is_duplicate(family.members[a], family.members[b]):
            same.add_edge(a, b)
    return [sorted(twins) for twins in nx.connected_components(same) if len(twins) > 1]


def _copy_finding(family: OpenFamily, child: str, parent: str, copy: Copy) -> Finding:
    undecided = not copy.directed and log_odds_older(family, parent, child) == 0
    note = "" if copy.directed else "which of the two came first is told by date and likes"
    return Finding(
        child,
        copy.kind,
        Grade.TIE if undecided else Grade.PROVED,
        (ParentShare(parent, 1.0),),
        ties=(parent,) if undecided else (),
        evidence=copy.evidence,
        note=note,
    )


def _seniority(family: OpenFamily, name: str, twins: Sequence[str]) -> float:
    return sum(log_odds_older(family, name, other) for other in twins if other != name)

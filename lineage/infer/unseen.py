"""Ancestors that nobody published: what siblings did together before they parted.

Two models of one parent R that descend from an unseen U both carry the step from R to U. Parallel
training on one text looks alike at first; it lies in the leading directions, whereas what was
inherited fills the whole spectrum (as for descent, :mod:`.descent`). So an unseen ancestor is
asserted where each of two siblings carries a sure part of the other's change, no larger over the
whole spectrum than without its leading directions, and neither carries all of it: else one
descends from the other. Siblings so linked, directly or through others, share one unseen ancestor.
If several unseen ones stand behind them, they are told as one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import networkx as nx
import numpy as np

from lineage.infer.inheritance import PARALLEL
from lineage.infer.rooting import StepOdds

__all__ = ["Unseen", "unseen_ancestors"]

_LEAST_SHARE = 0.05
_WHOLE_SHARE = 0.8
_N_ERRORS = 8.0
_TREELIKE = 0.5
"""Of the smaller amount that two siblings share with a third, what they share with each other."""


@dataclass(frozen=True, slots=True)
class Unseen:
    """An ancestor that was inferred and not read.

    Attributes
    ----------
    name
        ``unseen:`` and eight hexadecimal digits that follow from its parent and its children.
    parent
        The nearest known ancestor.
    children
        Models that descend from it, sorted.
    shares
        Of each child's change since the parent, by child: the largest part it has in common with
        another of them.
    """

    name: str
    parent: str
    children: tuple[str, ...]
    shares: Mapping[str, float]


def unseen_ancestors(
    steps: StepOdds, parents: Mapping[str, str], asked: Collection[str]
) -> tuple[Unseen, ...]:
    """Unseen ancestors between models and their nearest known one.

    Parameters
    ----------
    parents
        The one parent of each model, as far as it is known.
    asked
        Models that may have an unseen parent.

    References
    ----------
    Where steps are nearly orthogonal, what two descendants have in common since R is the step to
    their last common ancestor, as in an additive tree (Buneman 1971).
    """
    siblings: dict[str, list[str]] = {}
    for name in sorted(asked):
        if name in parents:
            siblings.setdefault(parents[name], []).append(name)
    found = [
        _unseen(parent, tuple(sorted(group)), links)
        for parent, names in siblings.items()
        for links in [_links(steps, parent, names)]
        for group in nx.connected_components(links)
    ]
    return tuple(sorted(found, key=lambda one: one.name))


def _unseen(parent: str, children: tuple[str, ...], links: nx.Graph[str]) -> Unseen:
    digest = hashlib.blake2b("\n".join((parent, *children)).encode(), digest_size=4)
    shares = {
        name: max(links.edges[name, other]["shares"][name] for other in links[name])
        for name in children
    }
    return Unseen(f"unseen:{digest.hexdigest()}", parent, children, shares)


def _links(steps: StepOdds, parent: str, names: Sequence[str]) -> nx.Graph[str]:
    """Siblings that descend from one unseen model, linked."""
    common = {(a, b): _common(steps, parent, a, b) for a in names for b in names if a != b}
    links: nx.Graph[str] = nx.Graph()
    for a, b in combinations(names, 2):
        one, other = common[a, b], common[b, a]
        if one.share >= _WHOLE_SHARE or other.share >= _WHOLE_SHARE:
            continue  # one descends from the other, or the two are a pair that says no more
        is_mixed = any(
            _mixes(common, mixture, part, other_part)
            for mixture, part in ((a, b), (b, a))
            for other_part in names
            if other_part not in (a, b)
        )
        if one.is_inherited and other.is_inherited and not is_mixed:
            links.add_edge(a, b, shares={a: one.share, b: other.share})
    return links


@dataclass(frozen=True, slots=True)
class _Common:
    """What one model's change since the parent another one carries: the share, and how much.

    Attributes
    ----------
    share
        Of the first model's whitened change, carried by the second; NaN if it changed nothing.
    amount
        The same as an inner product.
    is_inherited
        Whether the share is sure and fills the whole spectrum.
    """

    share: float
    amount: float
    is_inherited: bool


def _common(steps: StepOdds, parent: str, a: str, b: str) -> _Common:
    carried = steps.carried(parent, a)
    share, error = carried.share(b)
    whole = carried.whole_share(b)
    is_inherited = (
        bool(np.isfinite([share, error, whole]).all())
        and share >= max(_LEAST_SHARE, _N_ERRORS * error)
        and whole <= PARALLEL * share
    )
    return _Common(share, share * carried.own, is_inherited)


def _mixes(common: Mapping[tuple[str, str], _Common], mixture: str, one: str, other: str) -> bool:
    """Whether a model carries two siblings that have nothing in common: no tree does that.

    In a tree, of what three models have in common two by two, the smaller two are equal.
    """
    if not common[other, mixture].is_inherited:
        return False
    between = common[one, other].amount
    least = min(common[one, mixture].amount, common[other, mixture].amount)
    return not between >= _TREELIKE * least

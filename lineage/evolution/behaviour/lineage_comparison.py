"""Whether behaviour follows descent: a tree of behaviour against the pedigree.

Four questions, each with its own null. Do relatives lie closer than strangers? Do relatives that
lie far apart in the pedigree lie far apart in the tree (correlation over related pairs)? How many
splits do tree and pedigree not share (Robinson–Foulds)? How many of the pedigree's clades does the
tree show? The pedigree has inner nodes that are models themselves, several parents, and many
children of one parent, so that even a perfect tree of behaviour, which resolves what the pedigree
leaves open, shares only some splits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from lineage.evolution.behaviour.pedigree import lineage_clades, lineage_distance
from lineage.evolution.behaviour.tree import BehaviourTree, split_of
from lineage.evolution.clusters import untrusted
from lineage.graph import LineageGraph
from lineage.model import Estimate

__all__ = [
    "LineageComparison",
    "compare_with_lineage",
    "robinson_foulds",
]

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MIN_PAIRS = 6
"""Fewer related pairs are no correlation; three models of one family make three."""
_ROUNDING = 1e-12  # share of the scale below which a spread is rounding, not variation


@dataclass(frozen=True, slots=True)
class LineageComparison:
    """What a tree of behaviour and a pedigree have in common.

    Attributes
    ----------
    kinship
        Probability that two relatives lie closer in the tree than two strangers; ½ is chance.
    cophenetic
        For each unit of length in the pedigree: the correlation of path lengths in the tree with
        distances in the pedigree.
    robinson_foulds
        Share of all splits of either that the other lacks, from 0 to 1.
    recovered
        Share of the pedigree's splits that the tree makes.
    """

    kinship: Estimate
    cophenetic: tuple[tuple[str, Estimate], ...]
    robinson_foulds: Estimate
    recovered: Estimate


def robinson_foulds(a: frozenset[bytes], b: frozenset[bytes]) -> float:
    """Splits that only one of two trees makes, as a share of the splits of both.

    Robinson & Foulds (1981), *Math Biosci* 53:131, divided by its largest value. NaN where
    neither tree makes a split.
    """
    total = len(a) + len(b)
    return len(a ^ b) / total if total else float("nan")


def compare_with_lineage(
    tree: BehaviourTree,
    replicates: Sequence[BehaviourTree],
    graph: LineageGraph,
    *,
    rng: np.random.Generator,
    lengths: Mapping[str, Floats | None] = MappingProxyType({"edges": None}),
    n_permutations: int = 999,
    level: float = 0.95,
) -> LineageComparison:
    """Hold a tree of behaviour against the pedigree of its tips.

    Parameters
    ----------
    tree
        Its tips are models of the graph.
    replicates
        Trees of resampled genes: their percentiles are the intervals, which so speak of the
        choice of prompts, not of that of models. Fewer than two: no interval, the whole range.
    graph
        The pedigree.
    rng
        Source of the permutations.
    lengths
        Units in which distances in the pedigree are measured, as of :func:`lineage_distance`: a
        pedigree has no branch lengths of its own, so the dependence on the unit is to be shown.

    Notes
    -----
    Relatives have a common ancestor in the pedigree. The correlation is taken over relatives,
    after each connected component's mean was subtracted from both distances: that families differ
    in scale is no agreement. Its p-value permutes the models within components (Mantel 1967,
    *Cancer Res* 27:209; restricted permutation), the others all models. One-sided,
    p = (1 + b) / (1 + m) for b of m permutations that agree as well or better.
    """
    places = np.array([graph.number(name) for name in tree.names], dtype=np.int64)
    component = graph.component[places]
    n_founders = int(np.unique(graph.founder[places]).size)
    null = _Null(rng, n_permutations, level)
    related = np.isfinite(lineage_distance(graph, tree.names))
    cophenetic = tuple(
        (
            unit,
            _cophenetic(
                tree, replicates, lineage_distance(graph, tree.names, length), component, null
            ),
        )
        for unit, length in lengths.items()
    )
    return LineageComparison(
        _kinship(tree, replicates, related, n_founders, null),
        cophenetic,
        *_shared_splits(tree, replicates, lineage_clades(graph, tree.names), n_founders, null),
    )


@dataclass(frozen=True, slots=True)
class _Null:
    """How chance is drawn, and what interval is wanted."""

    rng: np.random.Generator
    n_permutations: int
    level: float

    def p_value(self, n_as_good: int) -> float:
        return (1 + n_as_good) / (1 + self.n_permutations)


def _kinship(
    tree: BehaviourTree,
    replicates: Sequence[BehaviourTree],
    related: Bools,
    n_founders: int,
    null: _Null,
) -> Estimate:
    method = "probability that relatives lie closer in the tree than strangers (Mann–Whitney)"
    pairs = np.triu_indices(len(tree.names), 1)
    n_related = int(related[pairs].sum())
    n_pairs = pairs[0].size
    if n_related in (0, n_pairs):
        reason = f"{n_related} of {n_pairs} pairs are related: nothing to tell apart"
        return untrusted(n_pairs, null.level, method, reason, n_founders)

    def share(ranks: Floats, kin: NDArray[np.bool_]) -> float:
        above = float(ranks[kin].sum()) - n_related * (n_related + 1) / 2
        return 1.0 - above / (n_related * (n_pairs - n_related))

    ranks = rankdata(_levelled(tree.path_lengths[pairs]))
    value = share(ranks, related[pairs])
    n_as_good = 0
    for _ in range(null.n_permutations):
        order = null.rng.permutation(len(tree.names))
        n_as_good += share(ranks, related[np.ix_(order, order)][pairs]) >= value - 1e-12
    resampled = [
        share(rankdata(_levelled(one.path_lengths[pairs])), related[pairs]) for one in replicates
    ]
    return _estimate(
        value, resampled, (0.0, 1.0), null.level, n_pairs, method, n_founders,
        null.p_value(n_as_good),
    )  # fmt: skip


def _levelled(lengths: Floats) -> Floats:
    """Lengths without the noise of rounding, which would put equals in an order."""
    return np.asarray(np.round(lengths / max(float(lengths.max()), 1e-300), 9), dtype=np.float64)


def _cophenetic(
    tree: BehaviourTree,
    replicates: Sequence[BehaviourTree],
    lineage: Floats,
    component: Ints,
    null: _Null,
) -> Estimate:
    method = (
        "correlation of path lengths with pedigree distances over related pairs, within components"
    )
    first, second = np.triu_indices(len(tree.names), 1)
    related = np.isfinite(lineage[first, second])
    first, second = first[related], second[related]
    labels, group = np.unique(component[first], return_inverse=True)
    if first.size < MIN_PAIRS:
        reason = f"{first.size} related pairs, {MIN_PAIRS} needed"
        return untrusted(first.size, null.level, method, reason, labels.size)
    target = _centred(lineage[first, second], group)

    def correlation(paths: Floats, order: Ints) -> float:
        ours = _centred(paths[order[first], order[second]], group)
        scale = float(np.sqrt((ours @ ours) * (target @ target)))
        floor = _ROUNDING * float(paths.max() * lineage[first, second].max()) * first.size
        return float(ours @ target) / scale if scale > floor else float("nan")

    same = np.arange(len(tree.names))
    value = correlation(tree.path_lengths, same)
    if np.isnan(value):
        reason = "distances do not vary within components"
        return untrusted(first.size, null.level, method, reason, labels.size)
    n_as_good = sum(
        correlation(tree.path_lengths, _shuffled(component, null.rng)) >= value - 1e-12
        for _ in range(null.n_permutations)
    )
    resampled = [correlation(one.path_lengths, same) for one in replicates]
    return _estimate(
        value, resampled, (-1.0, 1.0), null.level, first.size, method, labels.size,
        null.p_value(n_as_good),
    )  # fmt: skip


def _shared_splits(
    tree: BehaviourTree,
    replicates: Sequence[BehaviourTree],
    clades: Bools,
    n_founders: int,
    null: _Null,
) -> tuple[Estimate, Estimate]:
    level = null.level
    foulds = "Robinson–Foulds distance to the primary pedigree, of its largest value"
    recovery = "share of the primary pedigree's splits that the tree makes"
    target = _names(clades)
    n_both = len(target) + len(tree.splits)
    if not target or not tree.splits:
        which = "tree" if target else "pedigree"
        reason = f"the {which} makes no split of these models"
        return (
            untrusted(n_both, level, foulds, reason, n_founders),
            untrusted(len(target), level, recovery, reason, n_founders),
        )

    def both(splits: frozenset[bytes], wanted: frozenset[bytes]) -> tuple[float, float]:
        return robinson_foulds(splits, wanted), len(splits & wanted) / len(wanted)

    apart, found = both(tree.splits, target)
    n_apart = n_found = 0
    for _ in range(null.n_permutations):
        chance = both(tree.splits, _names(clades[:, null.rng.permutation(len(tree.names))]))
        n_apart += chance[0] <= apart + 1e-12
        n_found += chance[1] >= found - 1e-12
    resampled = [both(one.splits, target) for one in replicates]
    bounds = (0.0, 1.0)
    return (
        _estimate(
            apart, [one[0] for one in resampled], bounds, level, n_both, foulds, n_founders,
            null.p_value(n_apart),
        ),
        _estimate(
            found, [one[1] for one in resampled], bounds, level, len(target), recovery, n_founders,
            null.p_value(n_found),
        ),
    )  # fmt: skip


def _names(clades: Bools) -> frozenset[bytes]:
    return frozenset(split for side in clades if (split := split_of(side)) is not None)


def _centred(values: Floats, group: Ints) -> Floats:
    """Values without the mean of their group."""
    means = np.bincount(group, weights=values) / np.bincount(group)
    return np.asarray(values - means[group], dtype=np.float64)


def _shuffled(component: Ints, rng: np.random.Generator) -> Ints:
    """A permutation of the models that leaves each in its component."""
    order = np.arange(component.size)
    for label in np.unique(component):
        members = np.flatnonzero(component == label)
        order[members] = rng.permutation(members)
    return order


def _estimate(
    value: float,
    resampled: Sequence[float],
    bounds: tuple[float, float],
    level: float,
    n: int,
    method: str,
    n_clusters: int,
    p_value: float,
) -> Estimate:
    """With the percentiles of trees of resampled genes, widened to hold the value."""
    finite = np.array([one for one in resampled if np.isfinite(one)])
    if finite.size < 2:
        low, high = bounds
        method = f"{method}; no trees of resampled genes, so no interval"
    else:
        low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
        method = f"{method}; {level:.0%} percentile interval of {finite.size} resamples of genes"
    low, high = min(float(low), value), max(float(high), value)
    return Estimate(value, low, high, level, n, method, n_clusters, p_value)

"""Phylogenetic diversity of a set of models along the pedigree: PD, MPD and MNTD."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage.evolution.diversity.intervals import founder_interval
from lineage.model import Estimate

__all__ = [
    "PhyloSums",
    "phylo_diversity",
    "phylo_sums",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class PhyloSums:
    """What a set of models has of each tree that holds any of them; arrays (G,), by root.

    Distances are sums of branch lengths; models of different trees have none.
    """

    root: Ints
    n_members: Ints
    branch_length: Floats
    pairs: Floats
    pair_distance: Floats
    nearest: Floats
    nearest_distance: Floats

    @property
    def pd(self) -> float:
        """Faith's phylogenetic diversity: length of all branches from the set to its roots."""
        return float(self.branch_length.sum())

    @property
    def mpd(self) -> float:
        """Mean distance of pairs in the same tree (Webb 2000); NaN without any."""
        return _ratio(self.pair_distance.sum(), self.pairs.sum())

    @property
    def mntd(self) -> float:
        """Mean distance to the nearest other of the same tree (Webb 2000); NaN without any."""
        return _ratio(self.nearest_distance.sum(), self.nearest.sum())


def _ratio(top: float, bottom: float) -> float:
    return float(top / bottom) if bottom > 0 else math.nan


def phylo_sums(parent: Ints, length: Floats, member: Bools) -> PhyloSums:
    """Phylogenetic diversity of a set of models in a forest, in time linear in the nodes.

    Members may be ancestors of each other: on the Hub ancestors are observed. The mean distance
    of pairs comes from counting, for each branch, the pairs it parts.

    Parameters
    ----------
    parent : (n,)
        Parent of each node, −1 for roots (``LineageGraph.primary``).
    length : (n,)
        Length of the branch above each node: 1 to count edges, or days. That of a root counts
        for Faith's PD alone.
    member : (n,)
        Whether a node belongs to the set.

    Raises
    ------
    ValueError
        If shapes differ, a length is negative or missing, or the parents run in a circle.

    Examples
    --------
    >>> import numpy as np
    >>> parent = np.array([-1, 0, 0, 1, 1])  # 0 with children 1 and 2, 1 with children 3 and 4
    >>> member = np.array([False, False, True, True, True])
    >>> found = phylo_sums(parent, np.array([0, 1.0, 1, 1, 1]), member)
    >>> found.pd, round(found.mpd, 4), round(found.mntd, 4)
    (4.0, 2.6667, 2.3333)
    """
    n = parent.size
    if length.shape != (n,) or member.shape != (n,):
        raise ValueError("parent, length and member are one for each node")
    if not (np.isfinite(length).all() and (length >= 0).all()):
        raise ValueError("every branch needs a length, zero or more")
    layers, root = _layers(parent)
    below = member.astype(np.int64)
    # Nearest member within the clade by way of the best and the second-best road out of a node,
    # its own membership among the roads.
    best = np.where(member, 0.0, math.inf)
    second = np.full(n, math.inf)
    road = np.arange(n)
    for layer in reversed(layers[1:]):
        np.add.at(below, parent[layer], below[layer])
        offered = best[layer] + length[layer]
        order = np.lexsort((offered, parent[layer]))
        child, offered = layer[order], offered[order]
        above = parent[child]
        first = np.flatnonzero(np.concatenate(([True], above[1:] != above[:-1])))
        runner = np.full(first.size, math.inf)
        more = np.diff(np.append(first, child.size)) > 1
        runner[more] = offered[first[more] + 1]
        up, lead = above[first], offered[first]
        wins = lead < best[up]
        second[up] = np.where(wins, np.minimum(best[up], runner), np.minimum(second[up], lead))
        road[up] = np.where(wins, child[first], road[up])
        best[up] = np.where(wins, lead, best[up])
    outside = np.full(n, math.inf)
    for layer in layers[1:]:
        above = parent[layer]
        elsewhere = np.where(road[above] == layer, second[above], best[above])
        outside[layer] = length[layer] + np.minimum(outside[above], elsewhere)
    # A member's own road has length zero and is its best; the second leads to the nearest below.
    nearest = np.where(member, np.minimum(second, outside), math.inf)
    met = np.isfinite(nearest)
    tree_size = below[root]
    used = below > 0
    kept = np.flatnonzero((parent < 0) & used)
    apart = length * below * (tree_size - below)

    def by_tree(values: Floats) -> Floats:
        return np.asarray(np.bincount(root, weights=values, minlength=n)[kept], dtype=float)

    size = below[kept]
    return PhyloSums(
        kept,
        size,
        by_tree(np.where(used, length, 0.0)),
        size * (size - 1) / 2,
        by_tree(apart),
        by_tree(met.astype(float)),
        by_tree(np.where(met, nearest, 0.0)),
    )


def _layers(parent: Ints) -> tuple[list[Ints], Ints]:
    """Nodes by depth, roots first, and the root of each."""
    root = np.where(parent < 0, np.arange(parent.size), parent)
    depth = (parent >= 0).astype(np.int64)
    for _ in range(parent.size.bit_length() + 1):  # each round doubles the distance walked
        depth = depth + depth[root]
        root = root[root]
    if parent.size and (parent[root] >= 0).any():
        raise ValueError("the parents run in a circle")
    if not parent.size:
        return [], root
    order = np.argsort(depth, kind="stable")
    return np.split(order, np.cumsum(np.bincount(depth))[:-1]), root


def phylo_diversity(
    sums: PhyloSums, *, rng: np.random.Generator, level: float = 0.95, n_resamples: int = 1000
) -> dict[str, Estimate]:
    """``pd``, ``mpd`` and ``mntd`` of a set with intervals over whole trees (founders).

    Faith's PD is a total: its interval is that of a total over as many founders.
    """
    columns = {
        "pd": (sums.branch_length, np.ones_like(sums.branch_length), "Faith's PD"),
        "mpd": (sums.pair_distance, sums.pairs, "mean distance of pairs in the same tree"),
        "mntd": (sums.nearest_distance, sums.nearest, "mean distance to the nearest in the tree"),
    }
    n_trees = sums.root.size

    def ratio(totals: Floats) -> Floats:
        top, bottom = np.moveaxis(totals, -1, 0)
        return np.asarray(top / np.where(bottom > 0, bottom, np.nan))

    found = {}
    for name, (top, bottom, method) in columns.items():
        scale = float(n_trees) if name == "pd" else 1.0  # PD = trees · mean of a tree
        found[name] = founder_interval(
            np.column_stack([top * scale, bottom]),
            ratio,
            n=int(sums.n_members.sum()),
            rng=rng,
            level=level,
            n_resamples=n_resamples,
            method=method,
            lowest=0.0,
        )
    return found

"""Shape of trees: how evenly descent is spread, and how many children models have.

Indices describe the tree at hand and have no sampling error of their own. On a hub most founders
are stars and most nodes have no child or one, so indices that need bifurcation (Colless) are
refused there; Sackin, B2, J¹ and the out-degrees are what is left. Each index comes for every tree
of a forest, in order of ``tree.roots``; what it sums lies in O(n) memory and time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lineage.evolution.comparative.trees import Tree

__all__ = ["b1", "b2", "colless", "j1", "out_degrees", "sackin"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def sackin(tree: Tree) -> Ints:
    """Sackin's index: the sum of the depths of all tips, in edges.

    Equal to the tips below each inner node, summed over inner nodes (Sackin 1972; Shao & Sokal
    1990, Syst Zool 39:266). Higher is less balanced. Any number of children.

    Returns
    -------
    (n_trees,)
        0 for a founder without children.

    Examples
    --------
    >>> import numpy as np
    >>> sackin(Tree(tuple("rabc"), np.array([-1, 0, 0, 2]), np.array([0.0, 1, 1, 1]))).tolist()
    [3]
    """
    return np.rint(_by_tree(tree, np.where(tree.n_children == 0, tree.depth, 0))).astype(np.int64)


def colless(tree: Tree) -> Ints:
    """Colless' index: differences in tips between the two sides of each node, summed.

    Colless 1982. Higher is less balanced. For binary trees only.

    Returns
    -------
    (n_trees,)

    Raises
    ------
    ValueError
        If an inner node has one child or more than two: use :func:`j1` or :func:`sackin`.

    Examples
    --------
    >>> import numpy as np
    >>> parent = np.array([-1, 0, 0, 2, 2])
    >>> colless(Tree(tuple("rabcd"), parent, np.array([0.0, 1, 1, 1, 1]))).tolist()
    [1]
    """
    inner = tree.n_children > 0
    odd = int((tree.n_children[inner] != 2).sum())
    if odd:
        raise ValueError(
            f"Colless needs two children at every inner node, {odd} have not: use J¹ or Sackin"
        )
    larger = _highest_child(tree, tree.n_tips)
    difference = np.where(inner, 2 * larger - tree.n_tips, 0)
    return np.rint(_by_tree(tree, difference)).astype(np.int64)


def b1(tree: Tree) -> Floats:
    """B1: the sum over inner nodes but the root of 1/height, height in edges to the deepest tip.

    Shao & Sokal 1990. Higher is more balanced, and higher in larger trees. Any number of children.

    Returns
    -------
    (n_trees,)
    """
    height = np.zeros(len(tree), dtype=np.int64)
    for layer in tree.layers[:0:-1]:
        np.maximum.at(height, tree.parent[layer], height[layer] + 1)
    counted = (tree.n_children > 0) & (tree.parent >= 0)
    return _by_tree(tree, np.where(counted, 1 / np.maximum(height, 1), 0))


def b2(tree: Tree) -> Floats:
    """B2: entropy in bits of where a walk ends that takes every child with equal chance.

    ``−Σ p_i log₂ p_i`` over tips, ``p_i = Π 1/d`` over the nodes above tip i (Shao & Sokal 1990).
    Higher is more balanced. Any number of children.

    Returns
    -------
    (n_trees,)

    Examples
    --------
    >>> import numpy as np
    >>> b2(Tree(tuple("rabcd"), np.array([-1, 0, 0, 0, 0]), np.array([0.0, 1, 1, 1, 1]))).tolist()
    [2.0]
    """
    bits = np.zeros(len(tree))
    bred = tree.parent >= 0
    bits[bred] = np.log2(tree.n_children[tree.parent[bred]])
    surprise = Tree(tree.names, tree.parent, bits).distance
    return _by_tree(tree, np.where(tree.n_children == 0, surprise * np.exp2(-surprise), 0))


def j1(tree: Tree, population: Floats | None = None) -> Floats:
    """J¹: how evenly each node's descendants are shared among its children.

    ``J¹ = Σ_i S*_i W_i / Σ_i S*_i`` over inner nodes: S_j is the population of the clade of j, S*_i
    that below i without i itself, and W_i the entropy of the shares ``S_j / S*_i`` of its children
    to the base of their number (of those with S_j > 0), 0 where there is but one (Lemant, Le Sueur,
    Manojlović & Noble 2022, Syst Biol 71:1210). From 0 (no even split anywhere) to 1 (all splits
    even); the only index here that compares trees of any size, degree and population.

    Parameters
    ----------
    tree
        Any number of children, linear nodes and populated inner nodes among them.
    population : (n,), optional
        Weight of each node, e.g. 1 for each published model, or its downloads. Tips 1 and inner
        nodes 0 if left out.

    Returns
    -------
    (n_trees,)
        NaN where a tree has nothing below its root.

    Raises
    ------
    ValueError
        If a population is missing or negative.

    Examples
    --------
    >>> import numpy as np
    >>> tree = Tree(tuple("r12345"), np.array([-1, 0, 1, 0, 3, 3]), np.array([0.0, 1, 1, 1, 1, 1]))
    >>> j1(tree).round(6).tolist()
    [0.792481]
    """
    own = (tree.n_children == 0).astype(np.float64) if population is None else population
    if own.shape != (len(tree),):
        raise ValueError(f"population: {len(tree)} values expected, shape {own.shape} given")
    if not np.isfinite(own).all() or (own < 0).any():
        raise ValueError("populations must be known and not negative")
    clade = tree.summed_below(own)
    child = np.flatnonzero((tree.parent >= 0) & (clade > 0))
    parent = tree.parent[child]
    below = np.bincount(parent, weights=clade[child], minlength=len(tree))
    share = clade[child] / below[parent]
    entropy = np.bincount(parent, weights=-share * np.log(share), minlength=len(tree))
    n_sharing = np.bincount(parent, minlength=len(tree))
    evenness = entropy / np.log(np.maximum(n_sharing, 2))
    total = _by_tree(tree, below)
    known = np.where(total > 0, total, np.nan)
    return np.asarray(_by_tree(tree, below * evenness) / known, dtype=np.float64)


def out_degrees(tree: Tree) -> Ints:
    """Number of nodes of the whole forest with 0, 1, 2, … children, shape (highest + 1,).

    Examples
    --------
    >>> import numpy as np
    >>> out_degrees(Tree(tuple("rab"), np.array([-1, 0, 0]), np.array([0.0, 1, 1]))).tolist()
    [2, 0, 1]
    """
    return np.bincount(tree.n_children).astype(np.int64)


def _by_tree(tree: Tree, values: Floats | Ints) -> Floats:
    """Sums over the nodes of each tree, in order of its root."""
    sums = np.bincount(tree.root, weights=values, minlength=len(tree))
    return np.asarray(sums[tree.roots], dtype=np.float64)


def _highest_child(tree: Tree, values: Ints) -> Ints:
    highest = np.zeros(len(tree), dtype=np.int64)
    bred = np.flatnonzero(tree.parent >= 0)
    np.maximum.at(highest, tree.parent[bred], values[bred])
    return highest

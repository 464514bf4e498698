"""Trees of behaviour: neighbour joining, splits, support by resampled genes. Unrooted.

An edge of an unrooted tree splits its tips in two. The splits that leave at least two tips on
either side are what a tree says beyond the names of its tips; trees are compared by them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lineage.evolution.behaviour.alleles import AlleleTable, nei_distance, nei_identity

__all__ = [
    "MIN_TIPS",
    "BehaviourTree",
    "bootstrap_trees",
    "neighbour_joining",
    "newick",
    "split_of",
    "with_support",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MIN_TIPS = 3
"""Two tips are joined by a line, which says nothing."""
_NO_LENGTH = 1e-9  # share of the longest distance below which an inner edge is rounding


@dataclass(frozen=True, eq=False)
class BehaviourTree:
    """An unrooted tree, stored from one of its inner nodes downwards.

    Attributes
    ----------
    names
        Tips; they are the nodes 0 … n_tips − 1.
    parent : (n_nodes,)
        Node above each, which has a higher number; −1 for the one that the tree is stored from.
    length : (n_nodes,)
        Length of the edge above each node; zero for the first.
    support : (n_nodes,)
        Share of bootstrap trees with the split of the edge above; NaN for tips, for the first
        node, for edges of no length, and before :func:`with_support`.
    """

    names: tuple[str, ...]
    parent: Ints
    length: Floats
    support: Floats

    @cached_property
    def tips_below(self) -> NDArray[np.bool_]:
        """Which tips lie below or at each node, shape (n_nodes, n_tips)."""
        n_tips = len(self.names)
        below = np.zeros((self.parent.size, n_tips), dtype=bool)
        below[np.arange(n_tips), np.arange(n_tips)] = True
        for node, above in enumerate(self.parent.tolist()):
            if above >= 0:
                below[above] |= below[node]
        return below

    @cached_property
    def split_nodes(self) -> dict[bytes, int]:
        """Every split that the tree makes, and a node below its edge.

        Edges of no length divide nothing: where neighbour joining had to break a tie it invents
        an order, which is not counted.
        """
        longest = float(self.path_lengths.max(initial=0.0))
        found: dict[bytes, int] = {}
        for node in np.flatnonzero(self.length > _NO_LENGTH * longest):
            split = split_of(self.tips_below[node])
            if split is not None and self.parent[node] >= 0:
                found.setdefault(split, int(node))
        return found

    @property
    def splits(self) -> frozenset[bytes]:
        """Every split that the tree makes."""
        return frozenset(self.split_nodes)

    @cached_property
    def path_lengths(self) -> Floats:
        """Length of the path between every two tips, shape (n_tips, n_tips)."""
        inside = self.tips_below.astype(np.float64)
        # The edge above a node lies on the path of every pair that it divides.
        to_first = inside.T @ self.length
        shared = inside.T @ (inside * self.length[:, None])
        paths = to_first[:, None] + to_first[None, :] - 2.0 * shared
        return np.asarray(np.maximum(paths, 0.0), dtype=np.float64)


def split_of(side: NDArray[np.bool_]) -> bytes | None:
    """A name for the split of the tips into `side` and the others; None if it says nothing.

    Either side gives the same name. One tip, or none, against all others is no split.

    Examples
    --------
    >>> import numpy as np
    >>> one = split_of(np.array([True, True, False, False]))
    >>> one == split_of(np.array([False, False, True, True])), split_of(np.array([True, False]))
    (True, None)
    """
    n_in = int(side.sum())
    if min(n_in, side.size - n_in) < 2:
        return None
    return np.packbits(side ^ side[0]).tobytes()


def neighbour_joining(names: Sequence[str], distance: Floats) -> BehaviourTree:
    """The neighbour-joining tree of a distance matrix; negative lengths become zero.

    Parameters
    ----------
    names
        Of the tips, each once.
    distance : (n, n)
        Symmetric, zero on the diagonal.

    Raises
    ------
    ValueError
        If there are fewer than three tips, a name occurs twice, or the matrix is not symmetric,
        not zero on its diagonal, negative, infinite or NaN; names the first such pair.

    Notes
    -----
    Saitou & Nei (1987), *Mol Biol Evol* 4:406, as scikit-bio computes it. On distances that are
    path lengths of a tree the result is that tree.

    Examples
    --------
    >>> import numpy as np
    >>> d = np.array([[0, 3, 7, 8], [3, 0, 8, 9], [7, 8, 0, 9], [8, 9, 9, 0]], dtype=float)
    >>> tree = neighbour_joining(["a", "b", "c", "d"], d)
    >>> np.allclose(tree.path_lengths, d), len(tree.splits)
    (True, 1)
    """
    names, distance = tuple(names), np.asarray(distance, dtype=np.float64)
    _require_distances(names, distance)
    from skbio import DistanceMatrix
    from skbio.tree import nj

    # Numbers for names: whatever a name holds, none is read as syntax.
    found = nj(DistanceMatrix(distance, [str(i) for i in range(len(names))]), neg_as_zero=True)
    inner = [node for node in found.postorder(include_self=True) if not node.is_tip()]
    number = {id(node): len(names) + i for i, node in enumerate(inner)}
    parent = np.full(len(names) + len(inner), -1, dtype=np.int64)
    length = np.zeros(parent.size)
    for node in found.postorder(include_self=False):
        place = int(node.name) if node.is_tip() else number[id(node)]
        parent[place] = number[id(node.parent)]
        length[place] = node.length
    return BehaviourTree(names, parent, length, np.full(parent.size, np.nan))


def _require_distances(names: tuple[str, ...], distance: Floats) -> None:
    n = len(names)
    if n < MIN_TIPS:
        raise ValueError(f"{n} models; a tree needs {MIN_TIPS}")
    if len(set(names)) != n:
        raise ValueError("a name occurs twice")
    if distance.shape != (n, n):
        raise ValueError(f"{n} names need a matrix of {n} by {n}, not {distance.shape}")
    wrong = np.argwhere(~np.isfinite(distance) | (distance < 0))
    if wrong.size:
        a, b = wrong[0]
        raise ValueError(
            f"the distance of {names[a]} and {names[b]} is {distance[a, b]}: a tree needs finite "
            "distances; compare at more genes, or leave one of the two out"
        )
    if np.diag(distance).any() or not np.allclose(distance, distance.T, rtol=1e-9, atol=1e-12):
        raise ValueError("distances must be symmetric, and zero from a model to itself")


def bootstrap_trees(
    table: AlleleTable, *, rng: np.random.Generator, n_resamples: int = 200
) -> tuple[BehaviourTree, ...]:
    """Trees of resampled genes: as many genes, drawn with replacement (Felsenstein 1985).

    A resample in which two models share no allele, or no gene, has no tree and is left out: there
    may be fewer trees than resamples.

    Parameters
    ----------
    table
        Allele frequencies of at least three models.
    rng
        Source of the resamples.
    """
    trees = []
    for _ in range(n_resamples):
        drawn = rng.multinomial(table.n_genes, np.full(table.n_genes, 1 / table.n_genes))
        distance = nei_distance(nei_identity(table, drawn.astype(np.float64)))
        if np.isfinite(distance).all():
            trees.append(neighbour_joining(table.models, distance))
    return tuple(trees)


def with_support(tree: BehaviourTree, others: Collection[BehaviourTree]) -> BehaviourTree:
    """`tree` with the share of the other trees that make each of its splits.

    Raises
    ------
    ValueError
        If there are no others, or one has other tips.
    """
    if not others or any(other.names != tree.names for other in others):
        raise ValueError("support is counted over trees of the same tips, at least one")
    support = np.full(tree.parent.size, np.nan)
    for split, node in tree.split_nodes.items():
        support[node] = sum(split in other.split_nodes for other in others) / len(others)
    return replace(tree, support=support)


def newick(tree: BehaviourTree) -> str:
    """The tree in Newick's form, one line; support in per cent names the inner nodes.

    Names are quoted. The outermost brackets hold the branches that meet at an inner node; they
    are no root.

    Examples
    --------
    >>> import numpy as np
    >>> d = np.array([[0, 3, 5], [3, 0, 4], [5, 4, 0]], dtype=float)
    >>> newick(neighbour_joining(["x/a", "x/b", "it's"], d))
    "('x/a':2,'x/b':1,'it''s':3);"
    """
    children: dict[int, list[int]] = {}
    for node, above in enumerate(tree.parent.tolist()):
        children.setdefault(above, []).append(node)
    text: dict[int, str] = {
        i: "'" + name.replace("'", "''") + "'" for i, name in enumerate(tree.names)
    }
    # Inner nodes come after all that is below them.
    for node in range(len(tree.names), tree.parent.size):
        inside = ",".join(f"{text.pop(child)}:{tree.length[child]:.6g}" for child in children[node])
        share = tree.support[node]
        text[node] = f"({inside})" + ("" if np.isnan(share) else f"{100 * share:.0f}")
    (whole,) = text.values()
    return whole + ";"

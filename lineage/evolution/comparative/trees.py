"""Rooted trees and forests as arrays: what the comparative methods walk over.

A :class:`Tree` holds one parent and one edge length for every node, so a model with several
parents enters by its primary parent only. Methods that need covariances take a matrix instead and
work for merges too. Everything here goes generation by generation, never node by node and never by
recursion: a million nodes take a few passes of numpy, however they are shaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lineage.graph import LineageGraph

__all__ = ["Tree"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Tree:
    """A rooted tree, or a forest of them; any number of children a node.

    Attributes
    ----------
    names
        One for each node.
    parent : (n,)
        Number of each node's parent, −1 for roots.
    length : (n,)
        Length of the edge above each node, in whatever unit change is thought to run: edges, days,
        log days. Zero at roots. There is no missing value: leave a node of unknown length out, or
        use edges as the unit.

    Raises
    ------
    ValueError
        If the arrays differ in length, a parent is no node, a node is its own ancestor, or a
        length is missing, negative or above a root.

    Examples
    --------
    >>> import numpy as np
    >>> tree = Tree(("root", "a", "b"), np.array([-1, 0, 0]), np.array([0.0, 1.0, 2.0]))
    >>> tree.tips.tolist(), tree.shared_length().tolist()
    ([1, 2], [[1.0, 0.0], [0.0, 2.0]])
    """

    names: tuple[str, ...]
    parent: Ints
    length: Floats

    def __post_init__(self) -> None:
        n = len(self.names)
        for what, array in (("parent", self.parent), ("length", self.length)):
            if array.shape != (n,):
                raise ValueError(f"{what}: {n} values expected, shape {array.shape} given")
        if n and (self.parent.min() < -1 or self.parent.max() >= n):
            raise ValueError(f"parents must be node numbers below {n}, or −1 for roots")
        if not np.isfinite(self.length).all() or (self.length < 0).any():
            bad = int((~(self.length >= 0) | np.isinf(self.length)).sum())
            raise ValueError(f"edge lengths must be known and not negative: {bad} are not")
        if self.length[self.parent < 0].any():
            raise ValueError("a root has no edge above it: its length must be 0")
        if (self.parent[self.root] >= 0).any():
            raise ValueError("a node is its own ancestor")

    @staticmethod
    def from_graph(graph: LineageGraph, length: Floats | None = None) -> Tree:
        """The primary forest of a pedigree.

        Parameters
        ----------
        graph
            The pedigree; of several parents only the primary one is kept.
        length : (n,), optional
            Length of each model's edge to its primary parent, ignored for founders; 1 if left out.
        """
        edge = np.ones(len(graph)) if length is None else length
        return Tree(graph.ids, graph.primary, np.where(graph.primary < 0, 0.0, edge))

    def __len__(self) -> int:
        """Number of nodes."""
        return len(self.names)

    @cached_property
    def _ascent(self) -> tuple[Ints, Ints]:
        """Root and depth of every node; the distance walked doubles with each pass."""
        n = len(self)
        up = np.where(self.parent < 0, np.arange(n), self.parent)
        depth = (self.parent >= 0).astype(np.int64)
        for _ in range(n.bit_length()):
            depth, up = depth + depth[up], up[up]
        return up, depth

    @property
    def root(self) -> Ints:
        """The root above each node, itself for roots, shape (n,)."""
        return self._ascent[0]

    @property
    def depth(self) -> Ints:
        """Edges between each node and its root, shape (n,)."""
        return self._ascent[1]

    @cached_property
    def roots(self) -> Ints:
        """The roots, ascending."""
        return np.flatnonzero(self.parent < 0)

    @cached_property
    def n_children(self) -> Ints:
        """Number of children of each node, shape (n,)."""
        return np.bincount(self.parent[self.parent >= 0], minlength=len(self)).astype(np.int64)

    @cached_property
    def tips(self) -> Ints:
        """Nodes without children, ascending."""
        return np.flatnonzero(self.n_children == 0)

    @cached_property
    def layers(self) -> tuple[Ints, ...]:
        """Nodes by depth, roots first: every parent is one layer before its children."""
        if not len(self):
            return ()
        order = np.argsort(self.depth, kind="stable")
        return tuple(np.split(order, np.cumsum(np.bincount(self.depth))[:-1]))

    def summed_below(self, values: Floats) -> Floats:
        """Sum of `values` over each node's clade, itself included, shape (n,)."""
        total = values.astype(np.float64)
        for layer in self.layers[:0:-1]:
            np.add.at(total, self.parent[layer], total[layer])
        return total

    @cached_property
    def n_tips(self) -> Ints:
        """Tips of each node's clade, 1 for a tip, shape (n,)."""
        return self.summed_below(self.n_children == 0).astype(np.int64)

    @cached_property
    def distance(self) -> Floats:
        """Path length from the root to each node, shape (n,)."""
        distance = self.length.copy()
        for layer in self.layers[1:]:
            distance[layer] += distance[self.parent[layer]]
        return distance

    def shared_length(self, nodes: Ints | None = None) -> Floats:
        """Path length from the root that two nodes share: their covariance under Brownian motion.

        ``V_ij`` is the distance of the last common ancestor of i and j from the root, zero
        between trees. O(n²) memory over all nodes of the forest, whichever are asked for.

        Parameters
        ----------
        nodes
            Rows and columns of the answer; the tips if left out.

        Returns
        -------
        (m, m)
            In order of `nodes`.
        """
        shared = np.zeros((len(self), len(self)))
        done = np.empty(0, dtype=np.int64)
        for layer in self.layers:
            if done.size:
                above = self.parent[layer]
                # Off its own edge a node shares with the others what its parent shares with them.
                shared[np.ix_(layer, done)] = shared[np.ix_(above, done)]
                shared[np.ix_(done, layer)] = shared[np.ix_(done, above)]
                shared[np.ix_(layer, layer)] = shared[np.ix_(above, above)]
                shared[layer, layer] += self.length[layer]
            done = np.concatenate([done, layer])
        wanted = self.tips if nodes is None else nodes
        return shared[np.ix_(wanted, wanted)]

    def numbers(self, names: Sequence[str]) -> Ints:
        """Node numbers of `names`, in their order.

        Raises
        ------
        ValueError
            If two nodes share a name, or a name is none of the tree's.
        """
        number = {name: i for i, name in enumerate(self.names)}
        if len(number) != len(self):
            raise ValueError("nodes share a name: number them yourself")
        absent = [name for name in names if name not in number]
        if absent:
            raise ValueError(f"not in the tree: {', '.join(absent[:5])}")
        return np.array([number[name] for name in names], dtype=np.int64)

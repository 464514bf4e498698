"""The lineage graph: parents and weights as arrays, and everything that follows from them.

A node is a model, an edge leads from a child to one of its parents. Nodes are numbered by their
place in :attr:`LineageGraph.ids`; parents are held in compressed rows (CSR) like those of
``scipy.sparse``: the parents of node ``i`` are
``parent_index[parent_start[i]:parent_start[i + 1]]``, the primary one first. The *primary forest*
keeps only each node's primary parent; drawings follow it. Pure: arrays in, arrays out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

__all__ = ["CycleError", "LineageGraph"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_MERGES_PER_BLOCK = 16_384  # bounds the pairs that n_descendants holds at once


class CycleError(ValueError):
    """A model is its own ancestor; `cycle` names the models, child before parent, once round."""

    def __init__(self, cycle: tuple[str, ...]) -> None:
        self.cycle = cycle
        super().__init__("a model is its own ancestor: " + " → ".join((*cycle, cycle[0])))


@dataclass(frozen=True, eq=False)
class LineageGraph:
    """An acyclic pedigree with any number of weighted parents. Make it with :meth:`from_edges`.

    Attributes
    ----------
    ids
        The models; their order breaks every tie, so give it by name or date.
    parent_start : (n + 1,)
        Where each node's parents begin.
    parent_index : (n_edges,)
        Parents as node numbers, the primary one of each child first.
    parent_weight : (n_edges,)
        Share of the child that came from that parent; never NaN.
    """

    ids: tuple[str, ...]
    parent_start: Ints
    parent_index: Ints
    parent_weight: Floats

    @staticmethod
    def from_edges(
        ids: Sequence[str], edges: Sequence[tuple[str, str, float | None, int]]
    ) -> LineageGraph:
        """Build the graph.

        Parameters
        ----------
        ids
            Every model, once.
        edges
            ``(child, parent, weight, position)``; the lowest position of a child is its primary
            parent. A weight of None or NaN means unknown: a child with any unknown weight gets
            equal shares 1/K, since shares of different origin must not be mixed.

        Raises
        ------
        ValueError
            If an id occurs twice, an edge names a model that is not in `ids`, or an edge
            occurs twice.
        CycleError
            If a model is its own ancestor; names one cycle.

        Examples
        --------
        >>> graph = LineageGraph.from_edges(
        ...     ["a", "b", "c"], [("b", "a", 1.0, 0), ("c", "a", 0.3, 1), ("c", "b", 0.7, 0)]
        ... )
        >>> graph.generation.tolist()
        [0, 1, 2]
        >>> graph.n_descendants.tolist()
        [2, 1, 0]
        """
        ids = tuple(ids)
        number = {name: i for i, name in enumerate(ids)}
        if len(number) != len(ids):
            twice = next(name for i, name in enumerate(ids) if number[name] != i)
            raise ValueError(f"id occurs twice: {twice}")
        for child, parent, _, _ in edges:
            for name in (child, parent):
                if name not in number:
                    raise ValueError(f"edge {child} → {parent}: {name} is not among the ids")
        return LineageGraph.from_arrays(
            ids,
            np.array([number[edge[0]] for edge in edges], dtype=np.int64),
            np.array([number[edge[1]] for edge in edges], dtype=np.int64),
            np.array([np.nan if edge[2] is None else edge[2] for edge in edges], dtype=float),
            np.array([edge[3] for edge in edges], dtype=np.int64),
        )

    @staticmethod
    def from_arrays(
        ids: Sequence[str], child: Ints, parent: Ints, weight: Floats, position: Ints
    ) -> LineageGraph:
        """Build the graph from edges as columns; for millions of them.

        Parameters
        ----------
        ids
            Every model, once (not checked).
        child, parent : (n_edges,)
            Places in `ids`, in any order.
        weight, position : (n_edges,)
            As for :meth:`from_edges`; NaN is an unknown weight.

        Raises
        ------
        ValueError
            If an edge occurs twice.
        CycleError
            If a model is its own ancestor; names one cycle.
        """
        ids = tuple(ids)
        order = np.lexsort((parent, position, child))
        child, parent, weight = child[order], parent[order], weight[order]
        pairs = np.sort(child * np.int64(max(1, len(ids))) + parent)
        twice = pairs[1:][pairs[1:] == pairs[:-1]]
        if twice.size:
            i, k = divmod(int(twice[0]), len(ids))
            raise ValueError(f"edge occurs twice: {ids[i]} → {ids[k]}")
        count = np.bincount(child, minlength=len(ids))
        unknown = np.bincount(child, weights=np.isnan(weight), minlength=len(ids)) > 0
        weight = np.where(unknown[child], 1.0 / np.maximum(count, 1)[child], weight)
        start = np.concatenate(([0], np.cumsum(count))).astype(np.int64)
        graph = LineageGraph(ids, start, parent, weight)
        graph._require_acyclic()
        return graph

    def __len__(self) -> int:
        """Number of models."""
        return len(self.ids)

    # -- who is whose ---------------------------------------------------------------------------

    @cached_property
    def _number(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.ids)}

    def number(self, model: str) -> int:
        """The node number of `model`.

        Raises
        ------
        KeyError
            If it is not in the graph.
        """
        return self._number[model]

    @cached_property
    def n_parents(self) -> Ints:
        """Number of parents of each node, shape (n,)."""
        return np.diff(self.parent_start)

    @cached_property
    def edge_child(self) -> Ints:
        """The child of each edge as a node number, beside `parent_index`, shape (n_edges,)."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.n_parents)

    @cached_property
    def primary(self) -> Ints:
        """Primary parent of each node, −1 for founders, shape (n,)."""
        primary = np.full(len(self), -1, dtype=np.int64)
        bred = self.n_parents > 0
        primary[bred] = self.parent_index[self.parent_start[:-1][bred]]
        return primary

    @cached_property
    def n_children(self) -> Ints:
        """Number of children of each node, shape (n,)."""
        return np.bincount(self.parent_index, minlength=len(self)).astype(np.int64)

    @cached_property
    def child_start(self) -> Ints:
        """Where each node's children begin in `child_index`, shape (n + 1,)."""
        return np.concatenate(([0], np.cumsum(self.n_children))).astype(np.int64)

    @cached_property
    def child_index(self) -> Ints:
        """Children as node numbers, grouped by parent, in order of `ids`, shape (n_edges,)."""
        return self.edge_child[np.argsort(self.parent_index, kind="stable")]

    def parents(self, model: str) -> tuple[tuple[str, float], ...]:
        """Parents of `model` with their weights, the primary one first."""
        i = self.number(model)
        span = slice(self.parent_start[i], self.parent_start[i + 1])
        return tuple(
            (self.ids[k], float(weight))
            for k, weight in zip(self.parent_index[span], self.parent_weight[span], strict=True)
        )

    def children(self, model: str) -> tuple[str, ...]:
        """Children of `model` over all edges, in order of `ids`."""
        i = self.number(model)
        return self._names(self.child_index[self.child_start[i] : self.child_start[i + 1]])

    def ancestors(self, model: str, depth: int | None = None) -> tuple[str, ...]:
        """Ancestors of `model` at most `depth` edges away, nearest first, without itself."""
        return self._names(self._walk(model, depth, self.parent_start, self.parent_index))

    def descendants(self, model: str, depth: int | None = None) -> tuple[str, ...]:
        """Descendants of `model` at most `depth` edges away, nearest first, without itself."""
        return self._names(self._walk(model, depth, self.child_start, self.child_index))

    def _names(self, nodes: Ints) -> tuple[str, ...]:
        return tuple(self.ids[i] for i in nodes)

    def _walk(self, model: str, depth: int | None, start: Ints, index: Ints) -> Ints:
        """Nodes reached from `model` by rings; each node once, in the ring it is first met."""
        seen = {self.number(model)}
        ring = [self.number(model)]
        found: list[int] = []
        while ring and (depth is None or depth > 0):
            following: list[int] = []
            for i in ring:
                for k in index[start[i] : start[i + 1]].tolist():
                    if k not in seen:
                        seen.add(k)
                        following.append(k)
            found += following
            ring = following
            depth = None if depth is None else depth - 1
        return np.array(found, dtype=np.int64)

    # -- orders ---------------------------------------------------------------------------------

    @cached_property
    def generation(self) -> Ints:
        """Longest path from a founder, in edges, shape (n,); −1 for nodes on or below a cycle.

        Founders are peeled off layer by layer (Kahn): a node falls in the layer after its last
        parent, which is the longest path.
        """
        generation = np.full(len(self), -1, dtype=np.int64)
        waiting = self.n_parents.copy()
        layer = np.flatnonzero(waiting == 0)
        depth = 0
        while layer.size:
            generation[layer] = depth
            born, arrivals = np.unique(
                _gather(layer, self.child_start, self.child_index), return_counts=True
            )
            waiting[born] -= arrivals
            layer = born[waiting[born] == 0]
            depth += 1
        return generation

    @cached_property
    def topological(self) -> Ints:
        """All nodes, every parent before its children, shape (n,)."""
        return np.argsort(self.generation, kind="stable")

    @cached_property
    def _layers(self) -> list[Ints]:
        """Nodes by generation, founders first."""
        if not len(self):
            return []
        counts = np.bincount(self.generation)
        return np.split(self.topological, np.cumsum(counts)[:-1])

    def _require_acyclic(self) -> None:
        stuck = self.generation < 0
        if not stuck.any():
            return
        # Every stuck node has a stuck parent: walking up such parents must come round.
        path: list[int] = [int(np.flatnonzero(stuck)[0])]
        place = {path[0]: 0}
        while True:
            i = path[-1]
            parents = self.parent_index[self.parent_start[i] : self.parent_start[i + 1]]
            above = int(parents[stuck[parents]][0])
            if above in place:
                raise CycleError(tuple(self.ids[k] for k in path[place[above] :]))
            place[above] = len(path)
            path.append(above)

    @cached_property
    def founder(self) -> Ints:
        """End of each node's chain of primary parents, itself for founders, shape (n,)."""
        founder = np.where(self.primary < 0, np.arange(len(self)), self.primary)
        while True:
            further = founder[founder]  # doubles the distance walked
            if np.array_equal(further, founder):
                return founder
            founder = further

    @cached_property
    def component(self) -> Ints:
        """Label of each node's connected component over all edges, shape (n,)."""
        n = len(self)
        adjacency = coo_array(
            (np.ones(self.parent_index.size, dtype=np.int8), (self.edge_child, self.parent_index)),
            shape=(n, n),
        )
        _, label = connected_components(adjacency, directed=False)
        return np.asarray(label, dtype=np.int64)

    # -- counts ---------------------------------------------------------------------------------

    @cached_property
    def n_descendants(self) -> Ints:
        """Distinct descendants of each node over all edges, exact, shape (n,).

        Cutting every edge into a node of several parents leaves trees. A node's descendants are
        the rest of its own tree below it and the whole trees of the merges it reaches. Which merge
        is reached from where is found by climbing from merges to founders, 16,384 merges at a
        time, each pair of merge and ancestor once. Time and memory grow with those pairs: two
        seconds for a million of them.
        """
        is_merge = self.n_parents > 1
        tree = _subtree_sizes(np.where(is_merge, -1, self.primary), self._layers)
        total = tree - 1
        merges = np.flatnonzero(is_merge)
        for first in range(0, merges.size, _MERGES_PER_BLOCK):
            self._credit_ancestors(merges[first : first + _MERGES_PER_BLOCK], tree, total)
        return total

    def _credit_ancestors(self, merges: Ints, tree: Ints, total: Ints) -> None:
        """Add the tree of every one of `merges` to the total of each of its ancestors, once."""
        # A pair (merge, node) is one number. It waits in the generation of its node: when that is
        # dealt with, all pairs that lead to it have come, so that each is met once.
        n = np.int64(len(self))
        depth = int(self.generation[merges].max()) + 1
        waiting: list[list[Ints]] = [[] for _ in range(depth)]
        self._wait(np.arange(merges.size, dtype=np.int64) * n + merges, waiting)
        for generation in range(depth - 1, -1, -1):
            if not waiting[generation]:
                continue
            pair = np.unique(np.concatenate(waiting[generation]))
            waiting[generation] = []
            merge, node = np.divmod(pair, n)
            is_ancestor = node != merges[merge]
            np.add.at(total, node[is_ancestor], tree[merges[merge[is_ancestor]]])
            count = self.n_parents[node]
            above = _gather(node, self.parent_start, self.parent_index)
            self._wait(np.repeat(merge, count) * n + above, waiting)

    def _wait(self, pair: Ints, waiting: list[list[Ints]]) -> None:
        generation = self.generation[pair % len(self)]
        order = np.argsort(generation, kind="stable")
        ends = np.cumsum(np.bincount(generation, minlength=len(waiting)))
        for at, part in enumerate(np.split(pair[order], ends[:-1])):
            if part.size:
                waiting[at].append(part)

    # -- the ladder: rows of a drawing ----------------------------------------------------------

    @cached_property
    def size(self) -> Ints:
        """Nodes of each clade of the primary forest, itself included, shape (n,)."""
        return _subtree_sizes(self.primary, self._layers)

    @cached_property
    def pos(self) -> Ints:
        """Row of each node in the ladderised preorder of the primary forest, shape (n,).

        Among siblings (and among founders) smaller clades come first, ties in order of `ids`, so
        that twigs stay near their parent. A clade is the rows ``pos … pos + size − 1``.
        """
        order = np.lexsort((np.arange(len(self)), self.size, self.primary))
        sizes = self.size[order]
        before = np.cumsum(sizes) - sizes
        parent = self.primary[order]
        opens = np.concatenate(([True], parent[1:] != parent[:-1]))[: len(self)]
        group_start = before[opens][np.cumsum(opens) - 1] if len(self) else before
        pos = np.empty(len(self), dtype=np.int64)
        pos[order] = before - group_start  # rows of elder siblings' clades
        # A parent's row is final once its own chain is added: go down generation by generation.
        for layer in self._layers:
            bred = layer[self.primary[layer] >= 0]
            pos[bred] += pos[self.primary[bred]] + 1
        return pos

    def clade_interval(self, model: str) -> tuple[int, int]:
        """Half-open range of rows ``pos`` that the clade of `model` fills."""
        i = self.number(model)
        return int(self.pos[i]), int(self.pos[i] + self.size[i])

    def clade(self, model: str) -> tuple[str, ...]:
        """The clade of `model` in the primary forest, in drawing order, itself first."""
        first, stop = self.clade_interval(model)
        return self._names(np.argsort(self.pos)[first:stop])


def _gather(rows: Ints, start: Ints, index: Ints) -> Ints:
    """Concatenated CSR contents of `rows`."""
    lengths = start[rows + 1] - start[rows]
    ends = np.cumsum(lengths)
    offset = np.repeat(start[rows] - (ends - lengths), lengths)
    gathered: Ints = index[np.arange(lengths.sum()) + offset]
    return gathered


def _subtree_sizes(parent: Ints, layers: list[Ints]) -> Ints:
    """Nodes below and including each node of a forest; `parent` is −1 at its roots.

    `layers` must put every parent in an earlier layer than its children.
    """
    size = np.ones(parent.size, dtype=np.int64)
    for layer in reversed(layers):
        bred = layer[parent[layer] >= 0]
        np.add.at(size, parent[bred], size[bred])
    return size

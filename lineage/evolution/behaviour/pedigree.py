"""The pedigree of some models as distances and as clades, to hold a tree against."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from lineage.evolution.behaviour.tree import split_of
from lineage.graph import LineageGraph

__all__ = ["lineage_clades", "lineage_distance"]

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def lineage_distance(
    graph: LineageGraph, models: Sequence[str], length: Floats | None = None
) -> Floats:
    """Shortest way between every two models through a common ancestor, shape (n, n).

    Parameters
    ----------
    graph
        The pedigree; edges of weight zero are not walked.
    models
        Models of the graph, each once.
    length : (n_edges,)
        Length of each edge, beside ``graph.parent_index``; default: one. NaN: not known, and the
        edge is not walked.

    Returns
    -------
    Floats
        Zero on the diagonal; NaN where two models have no known common ancestor. A model is its
        own ancestor: a parent and its child lie one edge apart. Two founders whose lines meet in a
        merge are not related.

    Raises
    ------
    ValueError
        If lengths are of another number than the edges, or negative.
    KeyError
        If a model is not in the graph.

    Examples
    --------
    >>> edges = [("b", "a", 1.0, 0), ("c", "a", 1.0, 0), ("m", "c", 0.5, 0), ("m", "z", 0.5, 1)]
    >>> graph = LineageGraph.from_edges(["a", "b", "c", "m", "z"], edges)
    >>> lineage_distance(graph, ["b", "m", "z"]).tolist()
    [[0.0, 3.0, nan], [3.0, 0.0, 1.0], [nan, 1.0, 0.0]]
    """
    steps = np.ones(graph.parent_index.size) if length is None else length
    if steps.shape != graph.parent_index.shape or (steps < 0).any():
        raise ValueError(f"{graph.parent_index.size} lengths of zero or more are needed")
    above: dict[int, tuple[list[int], list[float]]] = {}
    for row, model in enumerate(models):
        for ancestor, far in _way_up(graph, graph.number(model), steps).items():
            rows, distances = above.setdefault(ancestor, ([], []))
            rows.append(row)
            distances.append(far)
    nearest = np.full((len(models), len(models)), np.inf)
    for rows, distances in above.values():
        up = np.array(distances)
        block = np.ix_(rows, rows)
        nearest[block] = np.minimum(nearest[block], up[:, None] + up[None, :])
    np.fill_diagonal(nearest, 0.0)
    return np.where(np.isfinite(nearest), nearest, np.nan)


def _way_up(graph: LineageGraph, start: int, steps: Floats) -> dict[int, float]:
    """Shortest way from a model to each of its ancestors, itself included."""
    far = {start: 0.0}
    waiting = [(0.0, start)]
    while waiting:
        walked, node = heappop(waiting)
        if walked > far[node]:
            continue  # a shorter way was found since
        for edge in range(int(graph.parent_start[node]), int(graph.parent_start[node + 1])):
            parent = int(graph.parent_index[edge])
            through = walked + float(steps[edge])
            # What is compared with NaN is false: an edge of unknown length is passed over.
            if graph.parent_weight[edge] != 0 and through < far.get(parent, np.inf):
                far[parent] = through
                heappush(waiting, (through, parent))
    return far


def lineage_clades(graph: LineageGraph, models: Sequence[str]) -> Bools:
    """Clades of the pedigree among `models`, over primary parents; shape (n_clades, n_models).

    Each differs from the others and is a split: at least two of the models on either side. The
    families of different founders hang together nowhere, as branches of one star.
    """
    below: dict[int, list[int]] = {}
    for row, model in enumerate(models):
        node = graph.number(model)
        while node >= 0:
            below.setdefault(node, []).append(row)
            node = int(graph.primary[node])
    found: dict[bytes, Bools] = {}
    for rows in below.values():
        side = np.zeros(len(models), dtype=bool)
        side[rows] = True
        split = split_of(side)
        if split is not None:
            found.setdefault(split, side)
    return np.array(list(found.values()), dtype=bool).reshape(len(found), len(models))

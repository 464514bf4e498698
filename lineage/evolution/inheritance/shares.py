"""Shares of descent: the matrix W of a pedigree, and what follows from it alone.

Entry (i, k) of W is the share of model i that came from its parent k.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lineage.graph import LineageGraph

__all__ = ["descend", "group_shares", "share_sums", "shares_of_parents"]

Floats = NDArray[np.float64]

_SHARE_ROUNDING = 1e-9  # thirds and sevenths do not sum to one exactly


def group_shares(graph: LineageGraph, unknown: Floats | csr_array) -> csr_array:
    """Shares of each model that come from groups of unknown parents, ``Q = (I − W)⁻¹ U``.

    Founders of different origin (vendors, years) need not have one expectation. With g the groups'
    means, breeding values are ``Qg + a``, so Q's rows of the records are fixed effects
    (Quaas 1988, J Dairy Sci 71:1338).

    Parameters
    ----------
    graph
        The pedigree.
    unknown : (n, n_groups)
        U, dense or sparse: what of each model is not from known parents, by group; a founder's
        row sums to 1, the row of a child whose shares sum to 1 is empty.

    Raises
    ------
    ValueError
        If known and unknown shares of a model do not sum to 1.

    Examples
    --------
    >>> import numpy as np
    >>> graph = LineageGraph.from_edges(["a", "b"], [("b", "a", 0.5, 0)])
    >>> group_shares(graph, np.array([[1.0, 0.0], [0.0, 0.5]])).toarray().tolist()
    [[1.0, 0.0], [0.5, 0.5]]
    """
    direct = unknown if isinstance(unknown, csr_array) else csr_array(np.asarray(unknown))
    if direct.shape[0] != len(graph):
        raise ValueError(f"unknown: {len(graph)} rows expected, {direct.shape[0]} given")
    total = share_sums(graph) + np.asarray(direct.sum(axis=1)).ravel()
    off = np.flatnonzero(np.abs(total - 1) > _SHARE_ROUNDING)
    if off.size:
        i = int(off[0])
        raise ValueError(
            f"known and unknown shares of {graph.ids[i]} sum to {total[i]:g}, not to 1"
        )
    return descend(shares_of_parents(graph), direct)


def share_sums(graph: LineageGraph) -> Floats:
    """Sum of each model's shares, shape (n,).

    Raises
    ------
    ValueError
        If a share is negative, or the shares of a child sum to more than 1.
    """
    weight, n = graph.parent_weight, len(graph)
    if not (weight >= 0).all():
        worst = graph.edge_child[~(weight >= 0)][0]
        raise ValueError(f"{graph.ids[worst]} has a negative share: shares must be ≥ 0")
    sums = np.bincount(graph.edge_child, weights=weight, minlength=n)
    over = np.flatnonzero(sums > 1 + _SHARE_ROUNDING)
    if over.size:
        i = int(over[0])
        raise ValueError(
            f"shares of {graph.ids[i]} sum to {sums[i]:g}: scale them to at most 1 first"
        )
    return np.asarray(sums, dtype=np.float64)


def shares_of_parents(graph: LineageGraph) -> csr_array:
    """W without the parents of share 0, who are no parents, shape (n, n)."""
    n = len(graph)
    narrow = np.int32 if max(n, graph.parent_index.size) < 2**31 else np.int64
    shares = csr_array(
        (
            graph.parent_weight.copy(),
            graph.parent_index.astype(narrow),
            graph.parent_start.astype(narrow),
        ),
        shape=(n, n),
    )
    shares.eliminate_zeros()
    shares.sort_indices()
    return shares


def descend(step: csr_array, start: csr_array) -> csr_array:
    """``(I − step)⁻¹ start`` of a step that is nilpotent, as every acyclic pedigree's is."""
    total = moving = start
    while True:
        moving = csr_array(step @ moving)
        if not moving.nnz:
            return csr_array(total)
        total = total + moving

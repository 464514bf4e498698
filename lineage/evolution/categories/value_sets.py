"""Sets of values of a categorical trait, and their distance along edges.

A licence, a language, a task is no quantity, and a heritability of it would be one of an arbitrary
coding. What is reported instead:

* the *edge mutation rate*, the mean over edges with both ends known of the Jaccard distance
  ``1 − |P ∩ C| / |P ∪ C|`` of parent's and child's sets of values, as Laufer, Oderinwale &
  Kleinberg define it (2025, arXiv 2508.06811): :mod:`lineage.evolution.categories.mutation`;
* the information of the parent about the child, ``I(parent; child) / H(child)``, against parents
  permuted within their base family: :mod:`lineage.evolution.categories.information`;
* the table of changes a → b against b → a: does the population drift:
  :mod:`lineage.evolution.categories.drift`;
* whether siblings are more alike than parent and child:
  :mod:`lineage.evolution.categories.siblings`.

Unknown is never a value: edges with an unknown end take part in nothing, and every result states
how many of the edges are left. That share is itself a selection: who states nothing about a child
may do so because nothing, or because everything, has changed.

Edges are arrays of node numbers, so that a million of them cost seconds. Edges of one parent are
not independent, nor are those of one founder: intervals are cluster-robust.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

__all__ = [
    "edge_distance",
    "single_values",
    "value_sets",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def value_sets(stated: Sequence[Set[str]]) -> tuple[csr_array, tuple[str, ...]]:
    """Sets of values as a sparse table of zeros and ones, and the values of its columns.

    An empty set means unknown.

    Examples
    --------
    >>> sets, values = value_sets([{"en"}, {"fr", "en"}, set()])
    >>> sets.toarray().astype(int).tolist(), values
    ([[1, 0], [1, 1], [0, 0]], ('en', 'fr'))
    """
    values = tuple(sorted(set().union(*stated)))
    number = {value: k for k, value in enumerate(values)}
    sizes = [len(one) for one in stated]
    start = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))
    column = np.array([k for one in stated for k in sorted(number[v] for v in one)], dtype=np.int64)
    sets = csr_array((np.ones(column.size), column, start), shape=(len(stated), len(values)))
    return sets, values


def single_values(sets: csr_array) -> Ints:
    """The column of each row that has exactly one value, −1 for rows with none or several."""
    alone = np.diff(sets.indptr) == 1
    value = np.full(sets.shape[0], -1, dtype=np.int64)
    value[alone] = sets.indices[sets.indptr[:-1][alone]]
    return value


def edge_distance(sets: csr_array, child: Ints, parent: Ints) -> Floats:
    """Jaccard distance of the sets at both ends of each edge, NaN where either is empty.

    Parameters
    ----------
    sets : (n, V)
        From :func:`value_sets`: each value of a row once, and 1.
    child, parent : (E,)
        Rows of `sets`.

    Raises
    ------
    ValueError
        If the two differ in shape.

    Examples
    --------
    >>> import numpy as np
    >>> sets, _ = value_sets([{"en", "fr"}, {"en"}, set()])
    >>> edge_distance(sets, np.array([1, 2]), np.array([0, 0])).tolist()
    [0.5, nan]
    """
    if child.shape != parent.shape:
        raise ValueError(f"a parent for each child: {child.shape} and {parent.shape}")
    size = np.diff(sets.indptr)
    both = np.flatnonzero((size[child] > 0) & (size[parent] > 0))
    c, p = child[both], parent[both]
    shared = np.asarray(sets[c].multiply(sets[p]).sum(axis=1)).ravel()
    distance = np.full(child.shape, np.nan)
    distance[both] = 1 - shared / (size[c] + size[p] - shared)
    return distance

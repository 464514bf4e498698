"""What a parent's value tells of its child's, against parents permuted within families."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import xlogy

from lineage.evolution.categories.mutation import MIN_EDGES
from lineage.evolution.clusters import MIN_BOOTSTRAP_CLUSTERS, untrusted
from lineage.evolution.diversity.intervals import founder_interval
from lineage.model import Estimate

__all__ = [
    "ParentInformation",
    "parent_information",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ParentInformation:
    """``I(parent; child) / H(child)``: share of the child's uncertainty that its parent removes.

    `observed` carries the p-value of the permutation null; `null_mean`, `null_low`, `null_high`
    are that null's mean and quantiles: the bias of small tables together with what any two models
    of a base family have in common. `excess` is ``(observed − null) / (1 − null)``: 0 if parents
    tell no more than other models of the family, 1 if they tell everything.
    """

    observed: Estimate
    null_mean: float
    null_low: float
    null_high: float
    excess: float
    n_edges: int
    n_permutations: int


def parent_information(
    value: Ints,
    child: Ints,
    parent: Ints,
    family: Ints,
    *,
    stratum: Ints | None = None,
    alike: str = "base family",
    rng: np.random.Generator,
    level: float = 0.95,
    n_permutations: int = 499,
    n_resamples: int = 500,
) -> ParentInformation:
    """Normalised mutual information of parent's and child's value, and its permutation null.

    The null exchanges the values of *parents* among those that are alike otherwise, each keeping
    its children: children of one parent stay together, as a null of shuffled edges would not have
    them, and what a family, or a stratum, has in common stays in the null. Where no two parents
    that are alike differ in value nothing tells heredity from common origin: there is no p-value.

    Parameters
    ----------
    value : (n,)
        Value of each model, negative where unknown
        (:func:`lineage.evolution.categories.value_sets.single_values`).
    child, parent, family : (E,)
        Models, and base family (founder) of each edge, which is the resampled group.
    stratum : (n,)
        Stratum of each model; parents of one change places. By default those of one family do.
    alike
        What parents that change places have in common, for `method`.

    Returns
    -------
    ParentInformation
        NaN with the reason in `method` where fewer than 3 edges or families are known or the
        children do not differ; no p-value and a null of NaN, with the reason, where no two parents
        that differ could change places.

    Raises
    ------
    ValueError
        If there is not one stratum for each model.

    Notes
    -----
    The mutual information of a table of n counts is biased upwards by about (a − 1)(b − 1)/2n
    (Miller 1955); `null_mean` holds that bias at the real numbers of parents and children.
    """
    if stratum is not None and stratum.shape != value.shape:
        raise ValueError(f"a stratum for each model: {value.size} expected, {stratum.size} given")
    known = (value[child] >= 0) & (value[parent] >= 0)
    c, p, group = value[child[known]], parent[known], family[known]
    n, n_clusters = c.size, np.unique(group).size
    name = f"I(parent; child)/H(child), null: parents of one {alike} change places"
    problem = None
    if n < MIN_EDGES or n_clusters < MIN_BOOTSTRAP_CLUSTERS:
        problem = f"{n} known edges of {n_clusters} families, {MIN_BOOTSTRAP_CLUSTERS} needed"
    elif np.ptp(c) == 0:
        problem = "all children have the same value"
    if problem:
        none = untrusted(n, level, name, problem, n_clusters)
        return ParentInformation(
            none, math.nan, math.nan, math.nan, math.nan, child.size, n_permutations
        )
    # A parent in two families (a merge's child elsewhere) is two units: one in each.
    place = group if stratum is None else stratum[p]
    unit, unit_of = np.unique(np.column_stack([place, p]), axis=0, return_inverse=True)
    unit_of = unit_of.ravel()
    unit_value = value[unit[:, 1]]
    parents = unit_value[unit_of]
    width = int(max(c.max(), unit_value.max())) + 1
    child_entropy = _entropy(np.bincount(c).astype(float))

    observed = _mutual(parents, c, width) / child_entropy
    moves = np.unique(np.column_stack([unit[:, 0], unit_value]), axis=0)[:, 0]
    can_move = bool((np.diff(moves) == 0).any())
    null = np.full(n_permutations if can_move else 1, math.nan)
    for k in range(n_permutations if can_move else 0):
        # Rows of `unit` are sorted by place: sorting by chance within it is a permutation.
        shuffled = unit_value[np.lexsort((rng.random(unit_value.size), unit[:, 0]))]
        null[k] = _mutual(shuffled[unit_of], c, width) / child_entropy
    # Rounding must not let a null that repeats the observed table fall short of it.
    as_large = int((null >= observed - 1e-12).sum())
    p_value = (1 + as_large) / (1 + n_permutations) if can_move else None
    cell, column = np.unique(parents * width + c, return_inverse=True)
    labels, row = np.unique(group, return_inverse=True)
    sums = csr_array((np.ones(n), (row, column)), shape=(labels.size, cell.size))
    estimate = founder_interval(
        sums,
        _information_of(cell // width, cell % width),
        n=n,
        rng=rng,
        level=level,
        n_resamples=n_resamples,
        method=f"{name} ({n_permutations} times)",
        lowest=0.0,
        highest=1.0,
    )
    low, high = np.quantile(null, [(1 - level) / 2, (1 + level) / 2])
    mean = float(null.mean())
    excess = (observed - mean) / (1 - mean) if mean < 1 - 1e-12 else math.nan
    reason = "" if can_move else f"; not tested: no parents of one {alike} differ in value"
    return ParentInformation(
        replace(estimate, p_value=p_value, method=estimate.method + reason),
        mean,
        float(low),
        float(high),
        excess,
        child.size,
        n_permutations,
    )


def _entropy(counts: Floats) -> float:
    p = counts / counts.sum()
    return float(-xlogy(p, p).sum())


def _mutual(a: Ints, b: Ints, width: int) -> float:
    """Mutual information of paired values below `width`, in nats."""
    joint = np.unique(a * width + b, return_counts=True)[1].astype(float)
    return (
        _entropy(np.bincount(a).astype(float))
        + _entropy(np.bincount(b).astype(float))
        - _entropy(joint)
    )


def _information_of(parent: Ints, child: Ints) -> Callable[[Floats], Floats]:
    """I(parent; child) / H(child) as a function of the counts of cells, shape (..., K)."""
    n_cells = parent.size
    every = np.arange(n_cells)
    by_parent = csr_array((np.ones(n_cells), (every, parent)))
    by_child = csr_array((np.ones(n_cells), (every, child)))

    def entropy(counts: Floats) -> Floats:
        p = counts / counts.sum(axis=-1, keepdims=True)
        return np.asarray(-xlogy(p, p).sum(axis=-1))

    def ratio(totals: Floats) -> Floats:
        of_child = entropy(np.asarray(totals @ by_child))
        shared = entropy(np.asarray(totals @ by_parent)) + of_child - entropy(totals)
        return np.asarray(shared / np.where(of_child > 0, of_child, np.nan))

    return ratio

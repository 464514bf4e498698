"""Textbook estimators for independent pairs, and siblings made into independent pairs.

For experiments and published tables, one child to a set of parents. Pairs of a pedigree are not
independent: of siblings only their mean is one pair (:func:`parent_set_means`), and models of one
founder need :mod:`lineage.evolution.inheritance.heritability`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student_t

from lineage.evolution.clusters import student_interval, untrusted
from lineage.evolution.inheritance.heritability import MIN_CLUSTERS, MIN_PAIRS, slope_problem
from lineage.graph import LineageGraph
from lineage.model import Estimate

__all__ = [
    "heritability_independent",
    "parent_offspring_correlation",
    "parent_set_means",
    "parent_sets",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_CLASSICAL = "parent–offspring regression on the weighted mid-parent, independent pairs"
_CORRELATION = "parent–offspring correlation, independent pairs, interval by Fisher's z"
_SHARE_DIGITS = 9
_ROUNDING = 1e-12  # share of the scale below which a spread is rounding, not variation


def heritability_independent(
    child: Floats, mid_parent: Floats, *, frequency: Floats | None = None, level: float = 0.95
) -> Estimate:
    """Slope of offspring on mid-parent with the classical error of independent pairs.

    ``SE² = Σ u² / (n − 2) / Σ (x − x̄)²``, Student's t with n − 2 degrees of freedom. For
    experiments and published tables; pairs of a pedigree are not independent and the interval is
    then too narrow.

    Parameters
    ----------
    child, mid_parent : (n,)
        Trait of the child and of its weighted mid-parent; pairs with a NaN are left out.
    frequency : (n,)
        How many pairs each row stands for (a table of cells); fractions are allowed, as in tables
        that divide a pair on the border of two cells.

    Raises
    ------
    ValueError
        If a frequency is negative or missing.

    Examples
    --------
    >>> import numpy as np
    >>> found = heritability_independent(np.array([0.0, 1.0, 1.0, 2.0]), np.arange(4.0))
    >>> round(found.value, 6), found.n, found.method.rpartition("; ")[2]
    (0.6, 4, 'SE 0.1414')
    """
    x, y, times = _counted(child, mid_parent, frequency)
    n = float(times.sum())
    problem = slope_problem(x, MIN_CLUSTERS, n)
    if problem:
        return untrusted(round(n), level, _CLASSICAL, problem, round(n))
    sxx, sxy, syy = _squares(x, y, times)
    slope = sxy / sxx
    error = math.sqrt(max(syy - slope * sxy, 0.0) / (n - 2) / sxx)
    return student_interval(slope, error, n - 2, round(n), round(n), level, _CLASSICAL)


def parent_offspring_correlation(
    child: Floats, mid_parent: Floats, *, frequency: Floats | None = None, level: float = 0.95
) -> Estimate:
    """Correlation of offspring and parent over independent pairs.

    Not a heritability: selection among the parents changes it and leaves the slope as it is.
    Interval by Fisher's z with standard error ``1/√(n − 3)``, `p_value` by Student's t.
    Parameters, missing values and errors as for :func:`heritability_independent`; NaN also where
    the children do not vary or fewer than 4 pairs remain.
    """
    x, y, times = _counted(child, mid_parent, frequency)
    n = float(times.sum())
    problem = slope_problem(x, MIN_CLUSTERS, n)
    if not problem and n <= MIN_PAIRS:
        problem = f"{n:g} measured parent–offspring pairs, {MIN_PAIRS + 1} needed"
    if not problem and np.ptp(y) <= _ROUNDING * np.abs(y).max():
        problem = "the children do not vary"
    if problem:
        return untrusted(round(n), level, _CORRELATION, problem, round(n))
    sxx, sxy, syy = _squares(x, y, times)
    r = min(max(sxy / math.sqrt(sxx * syy), -1.0), 1.0)
    if 1 - abs(r) <= _ROUNDING:
        low, high, p_value = r, r, 0.0
    else:
        reach = float(norm.ppf((1 + level) / 2)) / math.sqrt(n - 3)
        low, high = math.tanh(math.atanh(r) - reach), math.tanh(math.atanh(r) + reach)
        t = abs(r) * math.sqrt((n - 2) / (1 - r * r))
        p_value = float(2 * student_t.sf(t, n - 2))
    return Estimate(r, low, high, level, round(n), _CORRELATION, round(n), p_value)


def parent_sets(graph: LineageGraph) -> Ints:
    """Label of each model's set of parents and their shares, shape (n,); −1 for founders.

    Models of the same parents in the same shares are full siblings. Parents of no share are no
    parents; shares are compared after scaling them to sum to 1.
    """
    label = np.full(len(graph), -1, dtype=np.int64)
    seen: dict[frozenset[tuple[int, float]], int] = {}
    for i in range(len(graph)):
        span = slice(graph.parent_start[i], graph.parent_start[i + 1])
        parent, weight = graph.parent_index[span], graph.parent_weight[span]
        counted = weight != 0
        total = float(weight[counted].sum())
        if total:
            shares = np.round(weight[counted] / total, _SHARE_DIGITS)
            key = frozenset(zip(parent[counted].tolist(), shares.tolist(), strict=True))
            label[i] = seen.setdefault(key, len(seen))
    return label


def parent_set_means(
    child: Floats, mid_parent: Floats, parent_set: Ints, cluster: Ints
) -> tuple[Floats, Floats, Ints]:
    """One pair for each set of parents: mean child, mid-parent and cluster, in order of label.

    Siblings share more than their mid-parent says, so they are no independent pairs; their mean is
    one. Sets count alike however many children they have.

    Parameters
    ----------
    child, mid_parent : (n,)
        Trait of the child and of its weighted mid-parent; pairs with a NaN are left out first.
    parent_set : (n,)
        Label of each child's parents (:func:`parent_sets`).
    cluster : (n,)
        Group of each child.

    Raises
    ------
    ValueError
        If children of one set differ in mid-parent or cluster.
    """
    both = np.isfinite(child) & np.isfinite(mid_parent)
    x, y, cluster = mid_parent[both], child[both], cluster[both]
    _, first, group, size = np.unique(
        parent_set[both], return_index=True, return_inverse=True, return_counts=True
    )
    scale = float(np.abs(x).max(initial=0.0))
    if (np.abs(x - x[first][group]) > 1e-9 * scale).any():
        raise ValueError("children of one set of parents must have one mid-parent")
    if (cluster != cluster[first][group]).any():
        raise ValueError("children of one set of parents must be of one cluster")
    return np.bincount(group, weights=y) / size, x[first], cluster[first]


def _counted(
    child: Floats, mid_parent: Floats, frequency: Floats | None
) -> tuple[Floats, Floats, Floats]:
    """Mid-parents, children and the number of pairs each row stands for."""
    times = np.ones(child.size) if frequency is None else frequency
    if not (times >= 0).all():
        raise ValueError("every row needs its frequency, not negative")
    used = np.isfinite(child) & np.isfinite(mid_parent) & (times > 0)
    return mid_parent[used], child[used], times[used]


def _squares(x: Floats, y: Floats, times: Floats) -> tuple[float, float, float]:
    """Σ(x − x̄)², Σ(x − x̄)(y − ȳ) and Σ(y − ȳ)² over pairs counted `times`."""
    n = times.sum()
    dx, dy = x - times @ x / n, y - times @ y / n
    return float(times @ dx**2), float(times @ (dx * dy)), float(times @ dy**2)

"""Selection on a categorical trait: how far relative fitness differs between its values.

With share p_k of the models having value k and their mean relative fitness ``w̄_k``, the variance
``Σ_k p_k (w̄_k − 1)²`` is the part of the opportunity for selection ``I = Var(w)`` that lies between
the values; it plays the part that ``S²/σ²`` plays for a quantity. It is never negative, and chance
alone makes it about ``(V − 1)/n · I`` with V values: read it beside its null.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

from lineage.evolution.categories.exchange import exchanges, untested, varies
from lineage.evolution.clusters import untrusted
from lineage.evolution.diversity.intervals import founder_interval
from lineage.evolution.selection.differentials import MIN_MODELS
from lineage.evolution.selection.fitness import Fitness
from lineage.evolution.selection.multiple import PermutationTest
from lineage.model import Estimate

__all__ = ["fitness_between_labels", "permute_labels"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_TIE = 1e-9
_NAME = "variance of relative fitness between values"


def fitness_between_labels(
    label: Ints,
    fitness: Fitness,
    cluster: Ints,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    n_resamples: int = 1000,
) -> Estimate:
    """Variance of relative fitness between the values of a trait, with an interval by founder.

    Parameters
    ----------
    label : (n,)
        Value of each model, negative where unknown.
    fitness
        Of each model; those with a NaN are left out.
    cluster : (n,)
        Founder of each model, resampled whole.

    Returns
    -------
    Estimate
        NaN with the reason in `method` where fewer than 3 models or groups take part, nobody has
        any fitness, or all models have one value.

    Examples
    --------
    >>> import numpy as np
    >>> label, w = np.array([0, 0, 1, 1]), np.array([1.0, 1.0, 3.0, 3.0])
    >>> found = fitness_between_labels(
    ...     label, Fitness("w", w, "fitness: given"), np.arange(4), rng=np.random.default_rng(1)
    ... )
    >>> found.value
    0.25
    """
    known = (label >= 0) & np.isfinite(fitness.values)
    w, method = fitness.values[known], f"{_NAME}; {fitness.method}"
    problem = _problem(label[known], w)
    groups, row = np.unique(cluster[known], return_inverse=True)
    if problem:
        return untrusted(w.size, level, method, problem, groups.size)
    values, column = np.unique(label[known], return_inverse=True)
    shape = (groups.size, 2 * values.size)
    data = np.concatenate([np.ones(w.size), w])
    at = np.concatenate([column, column + values.size])
    sums = coo_array((data, (np.concatenate([row, row]), at)), shape=shape).tocsr()

    def between(totals: Floats) -> Floats:
        counts, given = totals[..., : values.size], totals[..., values.size :]
        n, whole = counts.sum(axis=-1), given.sum(axis=-1)
        mean = given / np.where(counts > 0, counts, 1.0)
        overall = np.where(whole > 0, whole / np.maximum(n, 1), np.nan)
        away = mean / overall[..., None] - 1
        return np.asarray((counts * away**2).sum(axis=-1) / np.maximum(n, 1))

    return founder_interval(
        sums, between, n=w.size, rng=rng, level=level, n_resamples=n_resamples, method=method,
        lowest=0.0,
    )  # fmt: skip


def permute_labels(
    label: Ints,
    fitness: Fitness,
    stratum: Ints,
    *,
    rng: np.random.Generator,
    n_permutations: int = 999,
) -> PermutationTest:
    """The same variance against fitness exchanged among models of one stratum.

    One-sided, as the statistic is a square: p is the share of permutations that give at least the
    variance observed, ``(1 + b) / (1 + m)``. `expected` and `spread` are of the permutations drawn.

    Parameters
    ----------
    label, stratum : (n,)
        Value of each model, negative where unknown; its stratum.
    """
    if n_permutations < 1:
        raise ValueError(f"at least one permutation is needed: {n_permutations}")
    known = (label >= 0) & np.isfinite(fitness.values)
    w = fitness.values[known]
    method = f"{_NAME}; {fitness.method}"
    problem = _problem(label[known], w)
    if problem:
        return untested(w.size, n_permutations, method, problem)
    _, group, size = np.unique(stratum[known], return_inverse=True, return_counts=True)
    _, value = np.unique(label[known], return_inverse=True)
    first = np.full(size.size, -1)
    first[group] = value
    moves = np.bincount(group, weights=value != first[group], minlength=size.size) > 0
    moves &= varies(w, group, size.size)
    if not moves.any():
        reason = "trait and fitness vary together within no stratum"
        return untested(w.size, n_permutations, method, reason)
    counts = np.bincount(value)
    relative = w / w.mean()

    def between(given: Floats) -> float:
        mean = np.bincount(value, weights=given) / counts
        return float((counts * (mean - 1) ** 2).sum() / given.size)

    observed = between(relative)
    drawn = exchanges(relative, group, moves, rng=rng, n=n_permutations)
    null = np.array([between(given) for given in drawn])
    p = (1 + int((null >= observed - _TIE * max(observed, 1e-300)).sum())) / (1 + n_permutations)
    n_strata = int(moves.sum())
    return PermutationTest(
        observed, float(null.mean()), float(null.std()), p,
        math.sqrt(p * (1 - p) / (1 + n_permutations)), w.size, n_strata, n_permutations,
        f"{method}; {n_permutations} permutations of fitness within {n_strata} strata",
    )  # fmt: skip


def _problem(label: Ints, w: Floats) -> str | None:
    if w.size < MIN_MODELS:
        return f"{w.size} models with trait and fitness, {MIN_MODELS} needed"
    if (w < 0).any():
        raise ValueError("fitness must not be negative: it counts what a model passed on")
    if not w.any():
        return "no model has any fitness"
    if np.ptp(label) == 0:
        return "all models have the same value"
    return None

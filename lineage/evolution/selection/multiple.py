"""Tests of selection that compare like with like, and what many tests at once are worth.

A model is downloaded, and built upon, for its founder, its size and its month as much as for any
trait, and those shape its traits as well. Permuting fitness *within* strata of founder × size ×
month keeps all that: what is left is whether fitness goes with the trait among models that are
alike otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from lineage.evolution.selection.differentials import MIN_MODELS
from lineage.evolution.selection.fitness import Fitness
from lineage.evolution.selection.gradients import linear_gradients

__all__ = [
    "PermutationTest",
    "adjusted_p_values",
    "permute_differential",
    "permute_gradients",
    "permute_resemblance",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_TIE = 1e-9  # of the spread: nearer than this to the observed value counts as equal to it
_ROUNDING = 1e-12  # share of the scale below which a spread is rounding, not variation
_ENTRIES_AT_ONCE = 1_000_000  # bounds memory: fitness of all permutations in hand


@dataclass(frozen=True, slots=True)
class PermutationTest:
    """Test that fitness goes with a trait, against its permutations within strata.

    Attributes
    ----------
    value
        The statistic observed. For its interval see
        :func:`lineage.evolution.selection.differentials.selection_differential` and
        :func:`lineage.evolution.selection.gradients.linear_gradients_bootstrap`.
    expected, spread
        Exact mean and standard deviation of the statistic over all permutations. `expected` is
        what differences between the strata make by themselves.
    p_value
        Two-sided Monte Carlo p-value ``(1 + b) / (1 + m)``, b of m permutations being at least as
        far from `expected` as the value observed; never zero. NaN where nothing can move, the
        reason then in `method`.
    p_error
        Standard error of `p_value` as an answer of chance, ``√(p (1 − p) / (1 + m))``.
    n
        Models with trait and fitness.
    n_strata
        Strata that take part: those in which fitness varies.
    n_permutations
        m.
    method
        What was permuted, and why there is no p-value where there is none.
    """

    value: float
    expected: float
    spread: float
    p_value: float
    p_error: float
    n: int
    n_strata: int
    n_permutations: int
    method: str


def permute_differential(
    trait: Floats,
    fitness: Fitness,
    stratum: Ints,
    *,
    rng: np.random.Generator,
    n_permutations: int = 999,
) -> PermutationTest:
    """Test a selection differential ``S = Cov(w, z)`` by permutation within strata.

    Parameters
    ----------
    trait : (n,)
        Values z; models with a NaN here or in `fitness` are left out.
    fitness
        Absolute fitness W, not negative; ``w = W / W̄`` over the models that take part.
    stratum : (n,)
        Label of each model's stratum. Fitness is exchanged among models of one stratum only, which
        supposes that they are exchangeable if the trait does not matter.
    rng
        Source of the permutations.

    Returns
    -------
    PermutationTest
        NaN p-value with the reason in `method` when fewer than 3 models take part, nobody has any
        fitness, or within no stratum both trait and fitness vary.

    Raises
    ------
    ValueError
        If lengths differ, fitness is negative, or `n_permutations` is not positive.

    References
    ----------
    (1 + b)/(1 + m): Davison & Hinkley (1997), *Bootstrap Methods and their Application*, §4.2.5;
    Phipson & Smyth (2010), Stat Appl Genet Mol Biol 9:39.

    Examples
    --------
    >>> import numpy as np
    >>> size, w = np.array([1.0, 2, 3, 4, 5, 6]), np.array([0.0, 1, 2, 3, 4, 5])
    >>> found = permute_differential(
    ...     size, Fitness("w", w, "fitness: given"), np.array([0, 0, 0, 1, 1, 1]),
    ...     rng=np.random.default_rng(1), n_permutations=99,
    ... )
    >>> found.value, round(found.expected, 3), found.n_strata
    (1.4, 1.08, 2)
    """
    w, stratum, known = _known({"trait": trait}, fitness, stratum, n_permutations)
    z = trait[known]
    method = f"selection differential S = Cov(w, z); {fitness.method}"
    if z.size < MIN_MODELS:
        reason = f"{z.size} models with trait and fitness, {MIN_MODELS} needed"
        return _untested(z.size, n_permutations, method, reason)
    if not w.any():
        return _untested(z.size, n_permutations, method, "no model has any fitness")
    contrast = (z - z.mean()) / (z.size - 1) / w.mean()
    return _tests(contrast[None], w, stratum, rng, n_permutations, method)[0]


def permute_gradients(
    traits: Mapping[str, Floats],
    fitness: Fitness,
    stratum: Ints,
    *,
    rng: np.random.Generator,
    n_permutations: int = 999,
) -> dict[str, PermutationTest]:
    """Test linear selection gradients by permutation within strata.

    Each gradient is tested against the hypothesis that fitness goes with *none* of the traits
    within strata (fitness is permuted as a whole): a small p-value says that this trait's gradient
    is larger than such a population would show. Gradients are per standard deviation.

    Parameters
    ----------
    traits
        Trait name to values, shape (n,). A model with a NaN in any of them, or in `fitness`, is
        left out.
    fitness, stratum, rng
        As for :func:`permute_differential`, and the same errors.

    Raises
    ------
    ValueError
        Also for traits that do not vary or that others determine
        (:func:`lineage.evolution.selection.gradients.linear_gradients`).
    """
    w, stratum, known = _known(traits, fitness, stratum, n_permutations)
    method = f"linear selection gradient (sd); {fitness.method}"
    fitted = linear_gradients(traits, fitness).beta
    if any(math.isnan(beta.value) for beta in fitted.values()):
        return {
            name: _untested(w.size, n_permutations, method, beta.method)
            for name, beta in fitted.items()
        }
    z = np.column_stack([values[known] for values in traits.values()])
    z = (z - z.mean(axis=0)) / z.std(axis=0, ddof=1)
    # Least squares is linear in fitness, so that one row of weights a trait serves every draw.
    contrasts = np.linalg.pinv(z) / w.mean()
    found = _tests(contrasts, w, stratum, rng, n_permutations, method)
    return dict(zip(traits, found, strict=True))


def permute_resemblance(
    child: Floats,
    mid_parent: Floats,
    stratum: Ints,
    *,
    rng: np.random.Generator,
    n_permutations: int = 999,
) -> PermutationTest:
    """Test the slope of offspring on mid-parent by exchanging parents within strata.

    What founders, sizes and months differ in makes parent and child alike without inheritance; it
    stays when parents change places within a stratum, and makes `expected`. Parents take all their
    children along: siblings are no independent witnesses, so `stratum` has to be the parents' and
    not depend on when a child was born. What is
    compared is the covariance over the *observed* variance of mid-parents.

    Parameters
    ----------
    child, mid_parent : (n,)
        Trait of the child and of its weighted mid-parent; pairs with a NaN are left out.
    stratum : (n,)
        Stratum of each child's (primary) parent.

    Returns
    -------
    PermutationTest
        NaN p-value with the reason in `method` when fewer than 3 pairs take part, mid-parents do
        not vary, or within no stratum both vary.
    """
    if n_permutations < 1:
        raise ValueError(f"at least one permutation is needed: {n_permutations}")
    for name, values in (("mid_parent", mid_parent), ("stratum", stratum)):
        if values.shape != child.shape:
            raise ValueError(f"{name}: {child.size} values expected, {values.size} given")
    both = np.isfinite(child) & np.isfinite(mid_parent)
    y, x, stratum = child[both], mid_parent[both], stratum[both]
    method = "slope of offspring on mid-parent"
    if y.size < MIN_MODELS:
        reason = f"{y.size} measured parent–offspring pairs, {MIN_MODELS} needed"
        return _untested(y.size, n_permutations, method, reason)
    if np.ptp(x) <= _ROUNDING * np.abs(x).max():
        return _untested(y.size, n_permutations, method, "the mid-parents do not vary")
    x = x - x.mean()
    units, unit = np.unique(np.column_stack([stratum, x]), axis=0, return_inverse=True)
    pull = np.bincount(unit.ravel(), weights=y - y.mean()) / float(x @ x)
    of_unit = units[:, 0].astype(np.int64)
    found = _tests(pull[None], units[:, 1], of_unit, rng, n_permutations, method, "mid-parents")
    return replace(found[0], n=y.size)


def adjusted_p_values(
    p_values: Mapping[str, float], *, method: Literal["bh", "by"] = "bh"
) -> dict[str, float]:
    """P-values adjusted for the number of traits tested, to control the false discovery rate.

    Of the traits whose adjusted value is below q, a share of at most q is expected to be false.

    Parameters
    ----------
    p_values
        Trait to p-value. NaN, where nothing could be tested, stays NaN and does not count as a
        test.
    method
        ``bh`` (Benjamini & Hochberg 1995, J R Stat Soc B 57:289): for tests that are independent
        or rise and fall together. ``by`` (Benjamini & Yekutieli 2001, Ann Stat 29:1165): for any
        dependence, at the price of power.

    Raises
    ------
    ValueError
        If a p-value does not lie in [0, 1], names the trait.

    Examples
    --------
    >>> adjusted_p_values({"size": 0.01, "licence": float("nan"), "age": 0.04})
    {'size': 0.02, 'licence': nan, 'age': 0.04}
    """
    for name, p in p_values.items():
        if not (math.isnan(p) or 0 <= p <= 1):
            raise ValueError(f"{name}: a p-value must lie in [0, 1]: {p}")
    tested = [name for name, p in p_values.items() if not math.isnan(p)]
    adjusted = dict.fromkeys(p_values, math.nan)
    if tested:
        values = false_discovery_control([p_values[name] for name in tested], method=method)
        adjusted.update(zip(tested, values.tolist(), strict=True))
    return adjusted


def _known(
    traits: Mapping[str, Floats], fitness: Fitness, stratum: Ints, n_permutations: int
) -> tuple[Floats, Ints, NDArray[np.bool_]]:
    """Fitness and stratum of the models that take part, and which they are."""
    if n_permutations < 1:
        raise ValueError(f"at least one permutation is needed: {n_permutations}")
    expected = fitness.values.shape
    for name, values in (("stratum", stratum), *traits.items()):
        if values.shape != expected:
            raise ValueError(f"{name}: {fitness.values.size} values expected, {values.size} given")
    if (fitness.values < 0).any():
        raise ValueError("fitness must not be negative: it counts what a model passed on")
    columns = np.stack([fitness.values, *traits.values()])
    known = np.asarray(np.isfinite(columns).all(axis=0))
    return fitness.values[known], stratum[known], known


def _untested(n: int, n_permutations: int, method: str, reason: str) -> PermutationTest:
    return PermutationTest(
        math.nan, math.nan, math.nan, math.nan, math.nan, n, 0, n_permutations,
        f"{method}; not tested: {reason}",
    )  # fmt: skip


def _tests(
    contrasts: Floats,
    w: Floats,
    stratum: Ints,
    rng: np.random.Generator,
    n_permutations: int,
    method: str,
    what: str = "fitness",
) -> list[PermutationTest]:
    """Test statistics ``contrasts @ w``, (k, n) @ (n,), by exchanging w within strata.

    Their mean over all permutations is that of w replaced by its stratum's mean, their variance
    ``Σ_s SS_s(contrast) SS_s(w) / (n_s − 1)`` with sums of squares about the stratum's means.
    """
    _, group, size = np.unique(stratum, return_inverse=True, return_counts=True)
    value = contrasts @ w
    mean_w = np.bincount(group, weights=w) / size
    away = w - mean_w[group]
    mean_c = np.stack([np.bincount(group, weights=c) / size for c in contrasts])
    centred = contrasts - mean_c[:, group]
    # Rounding of large means must not pass for variation within a stratum.
    away = np.where(np.abs(away) > _ROUNDING * np.abs(w).max(), away, 0.0)
    largest = np.abs(contrasts).max(axis=1, keepdims=True)
    centred = np.where(np.abs(centred) > _ROUNDING * largest, centred, 0.0)
    ss_w = np.bincount(group, weights=away**2)
    ss_c = np.stack([np.bincount(group, weights=c**2) for c in centred])
    spread = np.sqrt((ss_c * ss_w / np.maximum(size - 1, 1)).sum(axis=1))
    n_strata = int((ss_w > 0).sum())
    method = f"{method}; {n_permutations} permutations of {what} within {n_strata} strata"
    # Among the strata where nothing moves the centred sum is the same in every permutation.
    moving = np.flatnonzero((ss_w > 0)[group])
    moving = moving[np.argsort(group[moving], kind="stable")]
    observed = np.abs(centred @ away)
    far = np.zeros(len(contrasts), dtype=np.int64)
    per_batch = max(1, _ENTRIES_AT_ONCE // max(moving.size, 1))
    for first in range(0, n_permutations, per_batch):
        draws = min(per_batch, n_permutations - first)
        # Random keys between a stratum's number and the next leave every stratum in its place.
        keys = group[moving] + rng.random((draws, moving.size))
        drawn = away[moving][np.argsort(keys, axis=1)]
        distance = np.abs(drawn @ centred[:, moving].T)
        far += (distance >= observed - _TIE * spread).sum(axis=0)
    return [
        _test(v, v - c, s, int(b), w.size, n_strata, n_permutations, method)
        for v, c, s, b in zip(value, centred @ away, spread, far, strict=True)
    ]


def _test(
    value: float,
    expected: float,
    spread: float,
    n_far: int,
    n: int,
    n_strata: int,
    n_permutations: int,
    method: str,
) -> PermutationTest:
    p = (1 + n_far) / (1 + n_permutations)
    if spread == 0:
        p = math.nan
        method = f"{method}; not tested: both vary together within no stratum"
    return PermutationTest(
        float(value), float(expected), float(spread), p,
        math.sqrt(p * (1 - p) / (1 + n_permutations)), n, n_strata, n_permutations, method,
    )  # fmt: skip

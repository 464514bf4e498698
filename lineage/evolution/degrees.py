"""How paradigmatic a Darwinian population is: Godfrey-Smith's degrees, as numbers from 0 to 1.

Evolution by natural selection is most creative where heredity is faithful (H), similar variants
have similar fitness (C), and fitness depends on what a member is and not on where it happens to
be (S) (Godfrey-Smith 2009, *Darwinian Populations and Natural Selection*, ch. 3). He gives no
formulae; these are ours:

* H is the heritability of a numeric trait, or one less the mutation rate of a categorical one;
* C is one less von Neumann's ratio: how much less the relative fitness of neighbours along the
  trait differs than that of models taken at random (families whose members are alike in both make
  some of it by themselves);
* S is the share of the variance of relative fitness, within strata of founder, size and month,
  that a parabola in the trait explains, or the values of a categorical trait.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from lineage.evolution.clusters import untrusted
from lineage.model import Estimate

__all__ = ["Degree", "continuity", "dependence", "dependence_on_label", "fidelity", "no_order"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

MIN_MODELS = 10
MIN_FOUNDERS = 3
_MOST_GROUPS = 200
_MOST_VALUES = 30
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Degree:
    """One of the degrees: H, C or S, with a sentence."""

    letter: str
    name: str
    estimate: Estimate
    sentence: str


def fidelity(heredity: Estimate, *, is_rate_of_change: bool = False) -> Degree:
    """H: how faithfully a trait is passed on, from an estimate that exists.

    Parameters
    ----------
    heredity
        A heritability; or a mutation rate, if `is_rate_of_change`.
    """
    name = "fidelity of heredity"
    if is_rate_of_change:
        flipped = replace(
            heredity,
            value=1 - heredity.value,
            low=1 - heredity.high,
            high=1 - heredity.low,
            method=f"1 − {heredity.method}",
            p_value=None,
        )
        return Degree("H", name, flipped, _read(flipped, "of edges hand the value on unchanged"))
    return Degree(
        "H", name, heredity, _read(heredity, "of a parent's difference is found in its children")
    )


def continuity(trait: Floats, fitness: Floats, founder: Ints, *, level: float = 0.95) -> Degree:
    """C: whether small differences in the trait go with small differences in fitness.

    ``C = 1 − Σ (w_i − w_{i+1})² / (2 (m − 1) Var w)`` with the m values of the trait in order and
    the mean fitness at each: about 0 where fitness jumps about as if at random, 1 where it runs
    smoothly (von Neumann 1941, Ann Math Stat 12:367). The interval is a jackknife over founders.

    Parameters
    ----------
    trait, fitness, founder : (n,)
        Models with a NaN are left out.
    """
    known = np.isfinite(trait) & np.isfinite(fitness)
    z, w, founder = trait[known], fitness[known], founder[known]
    n_values = np.unique(z).size
    few = None
    if n_values < MIN_MODELS:
        few = f"{n_values} different values, {MIN_MODELS} needed"
    found = _jackknife(
        lambda kept: _smoothness(z[kept], w[kept]),
        founder,
        level,
        "1 − von Neumann's ratio along the trait",
        few,
    )
    return Degree(
        "C",
        "continuity of fitness",
        found,
        _read(found, "smoother than chance is fitness along the trait"),
    )


def no_order(n: int, level: float) -> Degree:
    """C of a categorical trait: its values have no order along which fitness could run."""
    reason = "values without order have no neighbours"
    none = untrusted(n, level, "continuity of fitness", reason, 0)
    return Degree("C", "continuity of fitness", none, f"Cannot be told: {reason}.")


def dependence(
    trait: Floats, fitness: Floats, stratum: Ints, founder: Ints, *, level: float = 0.95
) -> Degree:
    """S: share of the variance of fitness within strata that a parabola in the trait explains.

    Trait, its square and fitness are taken as differences from their stratum's means; the share is
    that of least squares, adjusted for its coefficients (below 0 where they explain less than
    chance does). The interval is a jackknife over founders.

    Parameters
    ----------
    trait, fitness, stratum, founder : (n,)
        Models with a NaN are left out.
    """
    known = np.isfinite(trait) & np.isfinite(fitness)
    z, w, stratum, founder = trait[known], fitness[known], stratum[known], founder[known]
    z = z - z.mean() if z.size else z
    return _dependence(np.column_stack([z, z**2]), w, stratum, founder, level)


def dependence_on_label(
    label: Ints, fitness: Floats, stratum: Ints, founder: Ints, *, level: float = 0.95
) -> Degree:
    """S of a categorical trait: the share that the means of its values explain, within strata.

    Parameters
    ----------
    label : (n,)
        Value of each model, negative where unknown; all but the 29 commonest count as one.
    fitness, stratum, founder : (n,)
        As for :func:`dependence`.
    """
    known = (label >= 0) & np.isfinite(fitness)
    _, place, count = np.unique(label[known], return_inverse=True, return_counts=True)
    # The rarest values are one: a mean of few models explains nothing, and costs a column.
    rank = np.empty(count.size, dtype=np.int64)
    rank[np.argsort(-count, kind="stable")] = np.arange(count.size)
    place = np.minimum(rank[place], _MOST_VALUES - 1)
    design = (place[:, None] == np.arange(1, min(count.size, _MOST_VALUES))).astype(float)
    return _dependence(design, fitness[known], stratum[known], founder[known], level)


def _dependence(design: Floats, w: Floats, stratum: Ints, founder: Ints, level: float) -> Degree:
    found = _jackknife(
        lambda kept: _explained(design[kept], w[kept], stratum[kept]),
        founder,
        level,
        "adjusted R² of fitness on the trait, within strata",
        None,
    )
    return Degree(
        "S",
        "dependence of fitness on the trait",
        found,
        _read(found, "of the differences in fitness go with the trait"),
    )


def _jackknife(
    statistic: Callable[[Bools], float],
    founder: Ints,
    level: float,
    method: str,
    problem: str | None,
) -> Estimate:
    """Estimate with the interval of a jackknife that leaves out one founder at a time.

    More than 200 founders are dealt in turn into 200 groups that are left out together. Efron &
    Tibshirani (1993), *An Introduction to the Bootstrap*, ch. 11; Kott (2001), J Off Stat 17:521;
    Student's t with G − 1 degrees of freedom.
    """
    method = f"{method}; jackknife over founders"
    labels, place = np.unique(founder, return_inverse=True)
    if problem is None and labels.size < MIN_FOUNDERS:
        problem = f"{labels.size} founders, {MIN_FOUNDERS} needed"
    if problem:
        return untrusted(founder.size, level, method, problem, labels.size)
    value = statistic(np.ones(founder.size, dtype=bool))
    left_out = place % _MOST_GROUPS
    n_groups = min(labels.size, _MOST_GROUPS)
    without = np.array([statistic(left_out != group) for group in range(n_groups)])
    k = without.size
    if not math.isfinite(value) or not np.isfinite(without).all():
        problem = "fitness and trait vary together in too few founders"
        return untrusted(founder.size, level, method, problem, labels.size)
    error = math.sqrt((k - 1) / k * float(((without - without.mean()) ** 2).sum()))
    reach = float(student_t.ppf((1 + level) / 2, k - 1)) * error
    return Estimate(value, value - reach, value + reach, level, founder.size, method, labels.size)


def _smoothness(z: Floats, w: Floats) -> float:
    values, place, count = np.unique(z, return_inverse=True, return_counts=True)
    mean = np.bincount(place, weights=w) / count
    if values.size < 3 or np.ptp(mean) == 0:
        return math.nan
    return float(1 - np.mean(np.diff(mean) ** 2) / (2 * mean.var(ddof=1)))


def _explained(design: Floats, w: Floats, stratum: Ints) -> float:
    """Adjusted share of the variance of `w` within strata that least squares explains."""
    _, group, size = np.unique(stratum, return_inverse=True, return_counts=True)

    def within(x: Floats) -> Floats:
        return np.asarray(x - (np.bincount(group, weights=x) / size)[group])

    away = within(w)
    total = float(away @ away)
    if total <= _ROUNDING * float(w @ w) or not design.size:
        return math.nan
    columns = np.column_stack([within(column) for column in design.T])
    coefficients, _, rank, _ = np.linalg.lstsq(columns, away, rcond=1e-9)
    free = w.size - size.size
    if not 0 < rank < free:
        return math.nan
    left = away - columns @ coefficients
    return float(1 - (left @ left / (free - rank)) / (total / free))


def _read(found: Estimate, words: str) -> str:
    if math.isnan(found.value):
        return f"Cannot be told: {found.method.rpartition(': ')[2]}."
    # Adjusted shares of nothing lie a little below nothing: none is seen.
    value, low, high = (100 * min(max(x, 0.0), 1.0) for x in (found.value, found.low, found.high))
    return f"{value:.0f} % ({low:.0f} to {high:.0f}) {words}."

"""Diversification: birth and death rates from the shape of a dated, bifurcating tree.

These methods read the times of splits from a tree whose history was *not* seen and whose tips are
alive today. A hub is not such a tree: stars and polytomies are refused with an error, and as the
births of models are dated, a rate of births per model and day says more there than any number
here. Birth and death rates that vary in time cannot be told apart on such trees at all (Louca &
Pennell 2020, Nature 580:502), and constant ones are what is fitted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar
from scipy.special import gammaln
from scipy.stats import chi2, norm

from lineage.evolution.clusters import untrusted
from lineage.evolution.comparative.trees import Tree
from lineage.model import Estimate

__all__ = [
    "BirthDeathFit",
    "birth_death_log_likelihood",
    "branching_times",
    "fit_birth_death",
    "gamma_statistic",
    "yule",
]

Floats = NDArray[np.float64]

MIN_TIPS = 3
_CLOCK_TOLERANCE = 1e-4  # of the height: tips of printed trees end within their rounding
_BIRTHS = np.logspace(-2, 2, 25)  # where a rate is sought, in Yule rates
_DEATHS = np.concatenate([[0.0], np.logspace(-3, 2, 25)])


@dataclass(frozen=True, slots=True)
class BirthDeathFit:
    """Constant rates of birth and death per lineage and unit of length."""

    birth: Estimate
    death: Estimate
    log_likelihood: float


def branching_times(tree: Tree) -> Floats:
    """Age of every split before the tips, the root first, shape (n_tips − 1,).

    Ages run back from the deepest tip; tips that end short of it by rounding are taken to reach
    it.

    Raises
    ------
    ValueError
        If the tree is a forest, a node has one child or more than two (a polytomy hides the order
        of its splits), the tips end at different distances from the root (by more than 10⁻⁴ of
        it), or there are fewer than three tips.

    Examples
    --------
    >>> import numpy as np
    >>> tree = Tree(tuple("rabcd"), np.array([-1, 0, 0, 1, 1]), np.array([0.0, 1, 3, 2, 2]))
    >>> branching_times(tree).tolist()
    [3.0, 2.0]
    """
    if tree.roots.size != 1:
        raise ValueError(f"one tree needed, {tree.roots.size} given: take one founder at a time")
    inner = tree.n_children > 0
    odd = int((tree.n_children[inner] != 2).sum())
    if odd:
        raise ValueError(
            f"two children needed at every inner node, {odd} have not: polytomies and linear nodes "
            "leave the times of their splits unknown"
        )
    if tree.tips.size < MIN_TIPS:
        raise ValueError(f"{MIN_TIPS} tips needed, {tree.tips.size} given")
    end = tree.distance[tree.tips]
    if np.ptp(end) > _CLOCK_TOLERANCE * end.max():
        raise ValueError("the tips must all end today: their distances from the root differ")
    return np.sort(end.max() - tree.distance[inner])[::-1]


def gamma_statistic(tree: Tree, *, level: float = 0.95) -> Estimate:
    """γ: whether splits lie nearer the root (negative) or the tips (positive) than in a Yule tree.

    With g_k the time during which there were k lineages, ``T_i = Σ_{k=2..i} k g_k``, ``T = T_n``,
    ``γ = (mean of T_2 … T_{n−1} − T/2) / (T √(1/(12(n − 2))))`` (Pybus & Harvey 2000, Proc R Soc
    B 267:2267). Standard normal under constant pure birth and complete sampling, whence interval
    (γ ± z) and two-sided p-value; missing tips make it negative.

    Parameters
    ----------
    tree
        Binary, its tips ending today; lengths are times.

    Raises
    ------
    ValueError
        As :func:`branching_times`.

    Examples
    --------
    >>> import numpy as np
    >>> tree = Tree(tuple("rabcd"), np.array([-1, 0, 0, 1, 1]), np.array([0.0, 1, 3, 2, 2]))
    >>> round(gamma_statistic(tree).value, 6)
    -0.866025
    """
    times = branching_times(tree)
    n = times.size + 1
    lasted = -np.diff(np.append(times, 0.0))
    grown = np.cumsum(np.arange(2, n + 1) * lasted)
    total = grown[-1]
    value = float((grown[:-1].mean() - total / 2) / (total * math.sqrt(1 / (12 * (n - 2)))))
    reach = float(norm.ppf((1 + level) / 2))
    return Estimate(
        value,
        value - reach,
        value + reach,
        level,
        n,
        "Pybus & Harvey's γ; standard error 1 under pure birth, all tips sampled",
        1,
        float(2 * norm.sf(abs(value))),
    )


def yule(tree: Tree, *, level: float = 0.95) -> Estimate:
    """Rate of pure birth: splits after the root per total length of the tree.

    ``λ = (n − 2) / L``, given that the root split (Yule 1925; Nee 2001, Evolution 55:661). The
    interval is that of a count of n − 2 over an exposure of L (Garwood 1936), slightly too wide as
    L is itself the outcome of those births.

    Parameters
    ----------
    tree
        As for :func:`gamma_statistic`.

    Raises
    ------
    ValueError
        As :func:`branching_times`.
    """
    times = branching_times(tree)
    n, total = times.size + 1, _total_length(times)
    births = n - 2
    rate = births / total
    low = float(chi2.ppf((1 - level) / 2, 2 * births)) / (2 * total)
    high = float(chi2.ppf((1 + level) / 2, 2 * births + 2)) / (2 * total)
    error = rate / math.sqrt(births)
    return Estimate(
        rate,
        low,
        high,
        level,
        n,
        f"Yule rate of births per lineage; interval of a Poisson count; SE {error:.4g}",
        1,
    )


def birth_death_log_likelihood(
    tree: Tree, birth: float, death: float, *, sampled: float = 1.0, given_survival: bool = True
) -> float:
    """Log-likelihood of the times of splits under constant birth and death.

    ``(n − 1)! λ^(n−2) Π_{i≥2} p₁(x_i) · p₁(x_1)`` with x_1 the root's age and p₁ the chance that a
    lineage has exactly one sampled descendant after a time (Nee, May & Harvey 1994, Phil Trans R
    Soc B 344:305; sampling: Stadler 2009, J Theor Biol 261:58). Constants as in
    diversitree and ape.

    Parameters
    ----------
    tree
        As for :func:`gamma_statistic`.
    birth, death
        Rates λ > 0 and μ ≥ 0 per lineage and unit of length; μ may exceed λ.
    sampled
        Share of today's lineages that are tips, in (0, 1].
    given_survival
        Condition on the split at the root and on both its lineages having sampled descendants;
        otherwise multiply by λ for that split.

    Raises
    ------
    ValueError
        As :func:`branching_times`, or if a rate or share is out of range.
    """
    if not birth > 0 or not death >= 0 or not math.isfinite(birth + death):
        raise ValueError(f"rates must be positive and finite: birth {birth}, death {death}")
    if not 0 < sampled <= 1:
        raise ValueError(f"the sampled share must lie in (0, 1]: {sampled}")
    return _log_likelihood(branching_times(tree), birth, death, sampled, given_survival)


def fit_birth_death(tree: Tree, *, sampled: float = 1.0, level: float = 0.95) -> BirthDeathFit:
    """Birth and death rates of highest likelihood, given survival.

    Intervals by profile likelihood. The death rate often comes out at 0: living tips hold little
    about the dead.

    Parameters
    ----------
    tree
        As for :func:`gamma_statistic`.
    sampled
        Share of today's lineages that are tips, in (0, 1].

    Returns
    -------
    BirthDeathFit
        NaN with the reason where there are fewer than four tips: two rates need two times.

    Raises
    ------
    ValueError
        As :func:`birth_death_log_likelihood`.
    """
    if not 0 < sampled <= 1:
        raise ValueError(f"the sampled share must lie in (0, 1]: {sampled}")
    times = branching_times(tree)
    n = times.size + 1
    about = "constant birth and death given survival, ML; profile-likelihood interval"
    if n < MIN_TIPS + 1:
        nothing = untrusted(n, level, about, f"{n} tips, {MIN_TIPS + 1} needed", 1)
        return BirthDeathFit(nothing, nothing, math.nan)
    unit = (n - 2) / _total_length(times)  # the Yule rate sets the scale

    def at(birth: float, death: float) -> float:
        return _log_likelihood(times, birth, death, sampled, True)

    def given_birth(birth: float) -> float:
        return _highest(lambda death: at(birth, death), unit * _DEATHS)[1]

    def given_death(death: float) -> float:
        return _highest(lambda birth: at(birth, death), unit * _BIRTHS)[1]

    death, top = _highest(given_death, unit * _DEATHS)
    birth, _ = _highest(lambda rate: at(rate, death), unit * _BIRTHS)
    bar = top - 0.5 * float(chi2.ppf(level, 1))

    def estimate(profile: Callable[[float], float], value: float, rates: Floats) -> Estimate:
        low, high = _where_above(profile, value, bar, float(rates[0]), float(rates[-1]))
        return Estimate(value, low, high, level, n, about, 1)

    return BirthDeathFit(
        estimate(given_birth, birth, unit * _BIRTHS),
        estimate(given_death, death, unit * _DEATHS),
        top,
    )


def _total_length(times: Floats) -> float:
    """All edges together: every split opens one lineage, the root two."""
    return float(times.sum() + times[0])


def _log_likelihood(
    times: Floats, birth: float, death: float, sampled: float, given_survival: bool
) -> float:
    net = birth - death
    decay = abs(net) * times
    # Both p₁ and the chance to survive, over the net rate so that λ = μ is a limit and no hole.
    lost = -np.expm1(-decay) / abs(net) if net != 0 else times
    spread = np.log(sampled * birth * lost + (np.exp(-decay) if net > 0 else 1.0))
    one = math.log(sampled) - decay - 2 * spread
    n = times.size + 1
    total = float(gammaln(n)) + (n - 2) * math.log(birth) + float(one.sum() + one[0])
    if not given_survival:
        return total + math.log(birth)
    survives = math.log(sampled) - spread[0] - (decay[0] if net < 0 else 0.0)
    return total - 2 * float(survives)


def _highest(function: Callable[[float], float], points: Floats) -> tuple[float, float]:
    """Place and height of the maximum: the best of `points`, then climbed between its neighbours.

    The first point may itself be the maximum (a rate of zero).
    """
    heights = [function(float(point)) for point in points]
    best = int(np.argmax(heights))
    climbed = minimize_scalar(
        lambda x: -function(x),
        bounds=(float(points[max(best - 1, 0)]), float(points[min(best + 1, points.size - 1)])),
        method="bounded",
        options={"xatol": 1e-10 * float(points[max(best, 1)])},
    )
    if -climbed.fun > heights[best]:
        return float(climbed.x), -float(climbed.fun)
    return float(points[best]), heights[best]


def _where_above(
    profile: Callable[[float], float], best: float, bar: float, lowest: float, highest: float
) -> tuple[float, float]:
    """Ends of the range around `best` where a profile stays above `bar`."""

    def over(rate: float) -> float:
        return profile(rate) - bar

    low = lowest if over(lowest) >= 0 else float(brentq(over, lowest, best, rtol=1e-9))
    high = math.inf if over(highest) >= 0 else float(brentq(over, best, highest, rtol=1e-9))
    return min(low, best), max(high, best)

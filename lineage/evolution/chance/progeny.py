"""Sizes of families under copying at random: a power law with an exponential cut-off."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import ndtri
from scipy.stats import chi2

from lineage.evolution.clusters import untrusted
from lineage.model import Estimate

__all__ = ["ProgenyFit", "fit_progeny"]

Floats = NDArray[np.float64]

MIN_FAMILIES = 10
"""Families below which no distribution of sizes is fitted."""

_HEAD = 20_000  # sizes summed one by one; beyond, the sum is an integral
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(128)


@dataclass(frozen=True, slots=True)
class ProgenyFit:
    """Power law with exponential cut-off fitted to sizes of families.

    `exponent` is a (its `p_value` tests 3/2), `cutoff` is c, in models; both as in
    ``P(n) ∝ n^{−a} exp(−n/c)``.
    """

    exponent: Estimate
    cutoff: Estimate
    log_likelihood: float


def fit_progeny(sizes: ArrayLike, *, smallest: int = 1, level: float = 0.95) -> ProgenyFit:
    """Fit ``P(n) ∝ n^{−a} exp(−n/c)``, n ≥ `smallest`, by discrete maximum likelihood.

    Where variants are copied at random the total progeny of a novelty (itself and all copies ever)
    is a power law of exponent 3/2 up to a cut-off set by the rate of novelty (O'Dwyer & Kandler
    2017, Phil Trans R Soc B 372:20160426). On a pedigree the progeny of a founder or of a mutation
    is the clade that bears it. Use clades old enough to be complete: recent ones are cut short,
    and a growing population is not the equilibrium of the theory. Only the most popular clades
    (a top list) mislead.

    The law is an exponential family in log n and n; intervals are normal, from its information,
    the cut-off's on the scale of 1/c (its upper end is ∞ where none can be shown). `p_value` of
    the exponent is the likelihood-ratio test of a = 3/2.

    Parameters
    ----------
    sizes : (n,)
        Whole sizes; those below `smallest` are left out.

    Returns
    -------
    ProgenyFit
        NaN with the reason in `method` with fewer than 10 families or all of one size; the
        cut-off is NaN where it lies beyond what the sizes can show.

    Raises
    ------
    ValueError
        If sizes are not whole, or `smallest` is below 1.
    """
    given = np.asarray(sizes)
    n = given.astype(np.int64)
    if (n != given).any() or smallest < 1:
        raise ValueError("sizes must be whole numbers, and the smallest at least 1")
    n = n[n >= smallest]
    method = f"power law with exponential cut-off, sizes from {smallest}, maximum likelihood"
    if n.size < MIN_FAMILIES or np.ptp(n) == 0:
        reason = (
            f"{n.size} families, {MIN_FAMILIES} needed"
            if n.size < MIN_FAMILIES
            else "all families are of one size"
        )
        nothing = untrusted(n.size, level, method, reason, n.size)
        return ProgenyFit(nothing, nothing, math.nan)
    law = _CutPowerLaw(smallest, float(np.log(n).mean()), float(n.mean()))
    a, log_c, misfit = law.fit(None)
    _, _, misfit_neutral = law.fit(1.5)
    ratio = max(0.0, 2 * n.size * (misfit_neutral - misfit))
    reach = float(ndtri((1 + level) / 2))
    information = n.size * law.covariance(a, log_c)
    endless = log_c > law.log_c_bounds[1] - 0.01
    if endless:
        cutoff = untrusted(n.size, level, method, "no cut-off within reach of the sizes", n.size)
        error = 1 / math.sqrt(information[0, 0])
    else:
        variance = np.linalg.inv(information)
        error = math.sqrt(variance[0, 0])
        b, reach_b = math.exp(-log_c), reach * math.sqrt(variance[1, 1])
        high = 1 / (b - reach_b) if b > reach_b else math.inf
        cutoff = Estimate(1 / b, 1 / (b + reach_b), high, level, n.size, method, n.size)
    exponent = Estimate(
        a, a - reach * error, a + reach * error, level, n.size,
        f"{method}; p-value of a = 3/2 by likelihood ratio", n.size, float(chi2.sf(ratio, 1)),
    )  # fmt: skip
    return ProgenyFit(exponent, cutoff, -n.size * misfit)


class _CutPowerLaw:
    """Mean misfit −log P of sizes of given mean logarithm and mean."""

    def __init__(self, smallest: int, mean_log: float, mean: float) -> None:
        self.smallest, self.mean_log, self.mean = smallest, mean_log, mean
        self.log_c_bounds = (math.log(0.05), math.log(1e7 * mean))

    def _terms(self, log_c: float) -> tuple[Floats, Floats]:
        """Sizes and their multiplicities: one by one, then Gauss nodes of an integral over log n.

        The sum beyond N is the integral from N + ½ (midpoint rule, error of order N^{−a−2}).
        """
        n = np.arange(self.smallest, self.smallest + _HEAD, dtype=float)
        low = math.log(n[-1] + 0.5)
        high = max(low + 1e-9, math.log(n[-1] + 45 * math.exp(log_c)))
        middle, half = (high + low) / 2, (high - low) / 2
        far = np.exp(middle + half * _NODES)
        return np.concatenate([n, far]), np.concatenate([np.ones(n.size), half * _WEIGHTS * far])

    def _chances(self, a: float, log_c: float) -> tuple[Floats, Floats, float]:
        n, times = self._terms(log_c)
        log_p = -a * np.log(n) - n * math.exp(-log_c)
        top = float(log_p.max())
        p = times * np.exp(log_p - top)
        total = float(p.sum())
        return n, p / total, top + math.log(total)

    def _misfit(self, x: Floats) -> tuple[float, Floats]:
        a, log_c = float(x[0]), float(x[1])
        n, p, log_z = self._chances(a, log_c)
        b = math.exp(-log_c)
        by_a = self.mean_log - float(p @ np.log(n))
        by_b = self.mean - float(p @ n)
        return a * self.mean_log + b * self.mean + log_z, np.array([by_a, -b * by_b])

    def fit(self, exponent: float | None) -> tuple[float, float, float]:
        """Exponent, log c and the least misfit, the exponent fixed where it is given."""
        first = (-3.0, 12.0) if exponent is None else (exponent, exponent)
        start = np.array([1.5 if exponent is None else exponent, math.log(10 * self.mean)])
        found = minimize(
            self._misfit, start, jac=True, method="L-BFGS-B",
            bounds=(first, self.log_c_bounds), options={"ftol": 1e-14, "gtol": 1e-9},
        )  # fmt: skip
        return float(found.x[0]), float(found.x[1]), float(found.fun)

    def covariance(self, a: float, log_c: float) -> Floats:
        """Covariance of log n and n, the information of one family on a and 1/c."""
        n, p, _ = self._chances(a, log_c)
        both = np.array([np.log(n), n])
        centred = both - (both @ p)[:, None]
        return np.asarray((centred * p) @ centred.T)

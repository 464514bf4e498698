"""Generalised least squares on a pedigree covariance, and the likelihood of Pagel's λ.

``y = Xβ + e``, ``e ~ N(0, σ² V_λ)``; V_λ is V with everything off its diagonal multiplied by λ
(Pagel 1999, Nature 401:877; Freckleton, Harvey & Pagel 2002, Am Nat 160:712). One spectral
decomposition of V, scaled to correlations, makes each further λ cost O(n); that one is O(n³), some
seconds at two thousand nodes, so take a family at a time where there are more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import chi2

from lineage.model import Estimate

__all__ = ["Gls", "SignalFit", "SignalLikelihood", "require_covariance"]

Floats = NDArray[np.float64]

_GRID = np.unique(np.concatenate([np.linspace(0, 1, 101), 1 - np.logspace(-3, -6, 4)]))
_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True, eq=False)
class Gls:
    """Generalised least squares at one λ.

    Attributes
    ----------
    beta : (p,)
        Coefficients.
    unscaled : (p, p)
        ``(X' V⁻¹ X)⁻¹``; times σ² it is their covariance.
    rss
        ``(y − Xβ)' V⁻¹ (y − Xβ)``.
    log_likelihood
        At the maximum over β and σ²; the restricted one without the constant ``½ log|X'X|``.
    """

    beta: Floats
    unscaled: Floats
    rss: float
    log_likelihood: float


@dataclass(frozen=True, slots=True)
class SignalFit:
    """Pagel's λ and what the likelihood says of its two ends.

    `signal` carries the test of λ = 0 as its p-value, `p_one` is that of λ = 1. Both are
    likelihood ratio tests against χ² with one degree of freedom, as geiger, caper and phytools
    have them; as either value lies on the boundary, that is conservative (the mixture
    ``½χ²₀ + ½χ²₁`` halves them).
    """

    signal: Estimate
    p_one: float
    log_likelihood: float
    log_likelihood_zero: float
    log_likelihood_one: float


def require_covariance(covariance: Floats, n: int) -> None:
    """Refuse what cannot be the covariance of n nodes.

    Raises
    ------
    ValueError
        If the matrix is not n × n, not finite, not symmetric, or a node has no variance (a founder
        itself: leave it out, or give it an edge of its own).
    """
    if covariance.shape != (n, n):
        raise ValueError(f"covariance: shape {(n, n)} expected, {covariance.shape} given")
    if not np.isfinite(covariance).all():
        raise ValueError("the covariance must be finite")
    scale = np.abs(covariance).max(initial=0.0)
    if np.abs(covariance - covariance.T).max(initial=0.0) > 1e-9 * scale:
        raise ValueError("the covariance must be symmetric")
    if (np.diag(covariance) <= 0).any():
        bare = int((np.diag(covariance) <= 0).sum())
        raise ValueError(
            f"{bare} nodes have no variance: leave founders out, or give them an edge of their own"
        )


class SignalLikelihood:
    """The likelihood of λ given a trait, maximised over β and σ².

    Parameters
    ----------
    values : (n,)
        Trait, without missing values.
    design : (n, p)
        Predictors, the constant among them.
    covariance : (n, n)
        V, of the same nodes in the same order.
    reml
        Restricted instead of full likelihood. Restricted ones do not compare between designs.

    Raises
    ------
    ValueError
        As :func:`require_covariance`, and if the design is not of full rank or leaves no degree
        of freedom.
    """

    def __init__(
        self, values: Floats, design: Floats, covariance: Floats, *, reml: bool = False
    ) -> None:
        self.n, self.p = design.shape
        self.reml = reml
        require_covariance(covariance, self.n)
        if self.n <= self.p:
            raise ValueError(f"{self.p} coefficients need more than {self.n} observations")
        if np.linalg.matrix_rank(design) < self.p:
            raise ValueError("the predictors are linearly dependent: leave one out")
        spread = np.sqrt(np.diag(covariance))
        self._eigenvalues, vectors = np.linalg.eigh(covariance / np.outer(spread, spread))
        self._y = vectors.T @ (values / spread)
        self._x = vectors.T @ (design / spread[:, None])
        self._log_scale = 2 * float(np.log(spread).sum())

    def gls(self, signal: float) -> Gls | None:
        """The fit at one λ; None where V_λ is singular."""
        variance = signal * self._eigenvalues + (1 - signal)
        if variance.min() <= self.n * np.finfo(float).eps:
            return None
        root = np.sqrt(variance)
        y, x = self._y / root, self._x / root[:, None]
        unscaled: Floats = np.asarray(np.linalg.inv(x.T @ x), dtype=np.float64)
        beta: Floats = np.asarray(np.linalg.lstsq(x, y, rcond=None)[0], dtype=np.float64)
        residual = y - x @ beta
        rss = float(residual @ residual)
        df = self.n - self.p if self.reml else self.n
        log_det = self._log_scale + float(np.log(variance).sum())
        if self.reml:
            log_det -= float(np.linalg.slogdet(unscaled)[1])
        fit = df * (_LOG_2PI + math.log(rss / df) + 1) if rss > 0 else -math.inf
        return Gls(beta, unscaled, rss, -0.5 * (fit + log_det))

    def __call__(self, signal: float) -> float:
        """Log-likelihood of λ; −∞ where V_λ is singular."""
        fit = self.gls(signal)
        return -math.inf if fit is None else fit.log_likelihood

    @cached_property
    def _on_grid(self) -> Floats:
        return np.array([self(signal) for signal in _GRID])

    def best(self) -> float:
        """The λ of the highest likelihood in [0, 1].

        The likelihood often has two maxima: every one of a grid is climbed and the ends are
        compared, since climbing from one start is what returns the lower one.
        """
        grid = self._on_grid
        found = [(float(grid[0]), 0.0), (float(grid[-1]), 1.0)]
        inner = np.flatnonzero((grid[1:-1] >= grid[:-2]) & (grid[1:-1] >= grid[2:])) + 1
        for i in sorted({1, _GRID.size - 2, *inner.tolist()}):  # beside an end too
            climbed = minimize_scalar(
                lambda signal: -self(signal),
                bounds=(float(_GRID[i - 1]), float(_GRID[i + 1])),
                method="bounded",
                options={"xatol": 1e-10},
            )
            found.append((-float(climbed.fun), float(climbed.x)))
        return max(found)[1]

    def interval(self, signal: float, level: float) -> tuple[float, float]:
        """Smallest and largest λ that a likelihood ratio test at `level` does not reject.

        `signal` is the best λ. Where the likelihood has two maxima the interval spans both.
        """
        bar = self(signal) - 0.5 * float(chi2.ppf(level, 1))
        points = np.sort(np.append(_GRID, signal))
        inside = np.flatnonzero(np.array([self(point) for point in points]) >= bar)
        first, last = int(inside[0]), int(inside[-1])
        low, high = float(points[first]), float(points[last])
        if first > 0:
            low = self._crossing(float(points[first - 1]), low, bar)
        if last < points.size - 1:
            high = self._crossing(high, float(points[last + 1]), bar)
        return low, high

    def _crossing(self, a: float, b: float, bar: float) -> float:
        def above(signal: float) -> float:
            return max(self(signal) - bar, -1e9)  # the ends may be singular

        return float(brentq(above, a, b, xtol=1e-9))

    def fit(self, level: float) -> SignalFit:
        """λ with its interval and tests."""
        signal = self.best()
        low, high = self.interval(signal, level)
        top, zero, one = self(signal), self(0.0), self(1.0)
        kind = "REML" if self.reml else "ML"
        return SignalFit(
            Estimate(
                signal,
                min(low, signal),
                max(high, signal),
                level,
                self.n,
                f"Pagel's λ in [0, 1], {kind}, global over a grid; profile-likelihood interval; "
                "p of λ = 0, χ²₁",
                p_value=float(chi2.sf(2 * (top - zero), 1)),
            ),
            float(chi2.sf(2 * (top - one), 1)),
            top,
            zero,
            one,
        )

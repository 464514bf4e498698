"""One random effect with any dense covariance: REML by one spectral decomposition.

With ``Var(y) = Kσ²_A + Iσ²_e`` the n − p error contrasts ``Q'y`` (Q orthonormal, Q'X = 0) have
covariance ``Q'KQ σ²_A + Iσ²_e``. In the eigenvectors of Q'KQ they are independent, so that after
one decomposition, O(n³), every likelihood costs O(n) (Kang et al. 2008, Genetics 178:1709;
Lippert et al. 2011, Nat Methods 8:833). The whole range of heritabilities can then be looked at,
and the highest of several maxima be found.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import chi2

from lineage.evolution.clusters import untrusted
from lineage.model import Estimate

__all__ = ["Spectrum", "boundary_p_value", "profile_interval", "spectrum"]

Floats = NDArray[np.float64]

_GRID = 200
_ROUNDING = 1e-10  # share of the largest eigenvalue below which one is zero
_EXACT = 1e-6  # share of the scale below which contrasts of copies are no difference
_FLAT = 1e-7  # spread of eigenvalues, as a share of their mean, that tells K from the identity
_RESOLUTION = 1e-6


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Independent error contrasts of one trait. Make it with :func:`spectrum`.

    Attributes
    ----------
    eigenvalue : (n − p,)
        Variance of each contrast in units of σ²_A.
    contrast : (n − p,)
        The contrasts.
    n_records
        n.
    log_fixed
        ``log |X'X|``, which brings the likelihood to the convention of
        :attr:`~lineage.evolution.inheritance.mixed_solution.Solution.log_likelihood`.
    """

    eigenvalue: Floats
    contrast: Floats
    n_records: int
    log_fixed: float

    @property
    def scale(self) -> float:
        """Root mean square of the contrasts."""
        return float(np.sqrt(np.mean(self.contrast**2)))

    def log_likelihood(self, heritability: float) -> float:
        """Restricted log-likelihood at a heritability, highest over the total variance.

        −∞ at heritability 1 if K is singular.
        """
        variance = heritability * self.eigenvalue + (1 - heritability)
        if variance.min() <= _ROUNDING * variance.max():
            return -math.inf
        m = variance.size
        total = float(np.mean(self.contrast**2 / variance))
        return -0.5 * (m * math.log(total) + float(np.log(variance).sum()) + m + self.log_fixed)

    def peak(self) -> float:
        """Heritability of the highest restricted likelihood over the whole range, ends included."""
        grid = np.linspace(0, 1, _GRID + 1)
        best = int(np.argmax([self.log_likelihood(h) for h in grid]))
        around = (grid[max(best - 1, 0)], grid[min(best + 1, _GRID)])
        refined = minimize_scalar(
            lambda h: -self.log_likelihood(h),
            bounds=around,
            method="bounded",
            options={"xatol": 1e-10},
        )
        return float(max([grid[best], refined.x], key=self.log_likelihood))

    def variances(self, heritability: float) -> tuple[float, float]:
        """σ²_A and σ²_e at a heritability, by their highest likelihood."""
        variance = heritability * self.eigenvalue + (1 - heritability)
        total = float(np.mean(self.contrast**2 / variance))
        return heritability * total, (1 - heritability) * total

    def heritability(self, *, level: float = 0.95, n_clusters: int | None = None) -> Estimate:
        """``h² = σ²_A / (σ²_A + σ²_e)`` with its profile-likelihood interval.

        The interval holds what a likelihood-ratio test would not reject; it stays within [0, 1] and
        needs no standard error, so it is usable at a boundary. `p_value` is that of σ²_A = 0.
        """
        method = "REML, spectral; profile-likelihood interval"
        n = self.n_records
        if np.ptp(self.eigenvalue) <= _FLAT * np.abs(self.eigenvalue).mean():
            return untrusted(n, level, method, "no two records are related", n_clusters or 0)
        empty = self.eigenvalue <= _ROUNDING * self.eigenvalue.max()
        if empty.any() and np.abs(self.contrast[empty]).max() <= _EXACT * self.scale:
            reason = "copies agree exactly, so that the likelihood grows without bound"
            return untrusted(n, level, method, reason, n_clusters or 0)
        peak = self.peak()
        low, high = profile_interval(self.log_likelihood, peak, level)
        gain = self.log_likelihood(peak) - self.log_likelihood(0.0)
        return Estimate(peak, low, high, level, n, method, n_clusters, boundary_p_value(2 * gain))


def spectrum(response: Floats, fixed: Floats, covariance: Floats) -> Spectrum:
    """Decompose the error contrasts of one trait.

    Parameters
    ----------
    response : (n,)
        The trait, complete.
    fixed : (n, p)
        X, of full column rank, p < n.
    covariance : (n, n)
        K, symmetric and without negative eigenvalues, e.g. A among the records.

    Raises
    ------
    ValueError
        If K has the wrong shape, is not symmetric, or is no covariance matrix; something is
        missing; or X leaves no contrast.

    Examples
    --------
    >>> import numpy as np
    >>> twins = np.kron(np.eye(3), np.ones((2, 2)))
    >>> y = np.array([1.0, 1.2, 3.0, 2.9, 5.0, 5.3])
    >>> round(spectrum(y, np.ones((6, 1)), twins).heritability().value, 4)
    0.9943
    """
    n, p = fixed.shape
    if covariance.shape != (n, n) or response.shape != (n,):
        raise ValueError(f"{n} traits and an {n} × {n} covariance are needed")
    if not all(np.isfinite(values).all() for values in (response, fixed, covariance)):
        raise ValueError("leave out records with something missing first")
    if not np.allclose(covariance, covariance.T, rtol=1e-9, atol=1e-12):
        raise ValueError("the covariance is not symmetric")
    if p >= n:
        raise ValueError(f"{p} fixed effects leave nothing of {n} records")
    q, r = qr(fixed)
    free = q[:, p:]
    value, vector = np.linalg.eigh(free.T @ covariance @ free)
    if value[0] < -_ROUNDING * n * max(value[-1], 0.0):
        raise ValueError("the covariance has negative eigenvalues")
    log_fixed = 2 * float(np.log(np.abs(np.diag(r))).sum())
    return Spectrum(np.maximum(value, 0.0), vector.T @ (free.T @ response), n, log_fixed)


def profile_interval(
    log_likelihood: Callable[[float], float], peak: float, level: float
) -> tuple[float, float]:
    """Where around its peak a profile of a share in [0, 1] stays above ``max − ½ χ²₁(level)``.

    The end of the range where it never falls so low; of a profile that crosses more than once on
    one side, one of the crossings.
    """
    least = log_likelihood(peak) - 0.5 * float(chi2.ppf(level, 1))

    def above(share: float) -> float:
        return max(log_likelihood(share) - least, -1e9)

    ends = []
    for end in (0.0, 1.0):
        crosses = peak != end and above(end) < 0
        ends.append(float(brentq(above, peak, end, xtol=_RESOLUTION)) if crosses else end)
    return min(ends[0], peak), max(ends[1], peak)


def boundary_p_value(statistic: float) -> float:
    """p-value of one variance being 0, from twice the difference in log-likelihood.

    Under zero the statistic is ½χ²₀ + ½χ²₁ (Self & Liang 1987, J Am Stat Assoc 82:605; Stram & Lee
    1994, Biometrics 50:1171), so it is half that of χ²₁, and 1 where nothing is gained.
    """
    return 0.5 * float(chi2.sf(statistic, 1)) if statistic > 0 else 1.0

"""Brownian motion along a pedigree: regression, rate and ancestral states from a covariance.

A trait that drifts along edges gives related nodes the covariance ``σ² V``, with V_ij the path
that i and j share (:meth:`lineage.evolution.comparative.trees.Tree.shared_length`) or, where
children have several parents, the variance matrix of Brownian motion on the network (Bastide et
al. 2018, Syst Biol 67:800). Everything here takes V and never asks what made it, so merges work
like trees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse.csgraph import connected_components
from scipy.stats import chi2
from scipy.stats import t as student_t

from lineage.evolution.clusters import untrusted
from lineage.evolution.comparative.gls import SignalFit, SignalLikelihood, require_covariance
from lineage.model import Estimate

__all__ = ["Regression", "ancestral_states", "fit_brownian", "pgls"]

Floats = NDArray[np.float64]

_ROUNDING = 1e-12  # share of the scale below which a spread is rounding, not variation


@dataclass(frozen=True, slots=True)
class Regression:
    """A phylogenetic regression.

    `errors` are standard errors of the coefficients with n − p degrees of freedom, conditional on
    λ. `rate` is σ²; `signal` is None where λ was given.
    """

    coefficients: tuple[Estimate, ...]
    errors: tuple[float, ...]
    rate: Estimate
    log_likelihood: float
    signal: SignalFit | None


def pgls(
    values: Floats,
    design: Floats,
    covariance: Floats,
    *,
    signal: float | None = None,
    reml: bool = False,
    level: float = 0.95,
) -> Regression:
    """Phylogenetic generalised least squares.

    ``β = (X'V_λ⁻¹X)⁻¹ X'V_λ⁻¹y``; intervals and p-values by Student's t with n − p degrees of
    freedom and ``σ² = rss / (n − p)``, conditional on λ (Grafen 1989; Freckleton et al. 2002).

    Parameters
    ----------
    values : (n,)
        Response; a row with NaN in it or in its predictors is left out.
    design : (n, p)
        Predictors, the constant among them.
    covariance : (n, n)
        V of the same nodes.
    signal
        λ in [0, 1]: 1 is Brownian motion, 0 takes nodes as independent. None maximises it.
    reml
        Maximise the restricted likelihood for λ, and report it and ``rate = rss/(n − p)``;
        otherwise the full one and ``rate = rss/n``. The interval of the rate is that of
        ``rss/χ²`` with n − p degrees of freedom, conditional on λ.
    level
        Coverage of all intervals.

    Returns
    -------
    Regression
        NaN with the reason where fewer than p + 2 rows are complete, the fit is perfect, or λ is
        wanted and no two nodes share a path.

    Raises
    ------
    ValueError
        As :class:`SignalLikelihood`; if λ lies outside [0, 1]; if V_λ is singular (two nodes at
        one place: collapse copies first).

    Examples
    --------
    >>> import numpy as np
    >>> V = np.array([[2.0, 1, 0], [1, 2, 0], [0, 0, 2]])
    >>> found = pgls(np.array([1.0, 2, 4]), np.ones((3, 1)), V, signal=1)
    >>> round(found.coefficients[0].value, 6)
    2.571429
    """
    if signal is not None and not 0 <= signal <= 1:
        raise ValueError(f"λ must lie in [0, 1]: {signal}")
    if design.ndim != 2 or values.shape != design.shape[:1]:
        raise ValueError(f"{values.size} values need a design of as many rows: {design.shape}")
    n_given, p = design.shape
    require_covariance(covariance, n_given)
    known = np.isfinite(values) & np.isfinite(design).all(axis=1)
    y, x, V = values[known], design[known], covariance[np.ix_(known, known)]
    n, n_blocks = y.size, _blocks(V)
    kind = "REML" if reml else "ML"
    about = f"GLS on the pedigree covariance, {kind}"
    if n < p + 2:
        return _no_regression(p, n, n_blocks, level, about, f"{n} complete rows, {p + 2} needed")
    if signal is None and n_blocks == n:
        reason = "no two nodes share a path, so that every λ is the same"
        return _no_regression(p, n, n_blocks, level, about, reason)
    likelihood = SignalLikelihood(y, x, V, reml=reml)
    independent = likelihood.gls(0.0)
    if independent is None or independent.rss <= _ROUNDING**2 * float((y**2 / np.diag(V)).sum()):
        return _no_regression(p, n, n_blocks, level, about, "no variation left to explain")
    fitted, chosen = None, signal
    if chosen is None:
        fitted = likelihood.fit(level)
        fitted = replace(fitted, signal=replace(fitted.signal, n_clusters=n_blocks))
        chosen = fitted.signal.value
    fit = likelihood.gls(chosen)
    if fit is None:
        raise ValueError("the covariance is singular: collapse copies, or give them an edge")
    df = n - p
    about = f"{about}, λ {'given' if fitted is None else 'fitted'} {chosen:.6g}; t, {df} df"
    errors = np.sqrt(np.diag(fit.unscaled) * fit.rss / df)
    reach = float(student_t.ppf((1 + level) / 2, df)) * errors
    p_values = 2 * student_t.sf(np.abs(fit.beta) / errors, df)
    coefficients = tuple(
        Estimate(b, b - r, b + r, level, n, about, n_blocks, pv)
        for b, r, pv in zip(fit.beta.tolist(), reach.tolist(), p_values.tolist(), strict=True)
    )
    rate = _rate(fit.rss, n, df, n_blocks, level, reml=reml)
    return Regression(coefficients, tuple(errors.tolist()), rate, fit.log_likelihood, fitted)


def fit_brownian(
    values: Floats, covariance: Floats, *, reml: bool = False, level: float = 0.95
) -> Regression:
    """Brownian motion fitted to a trait: the root's state and the rate.

    The regression on a constant with λ = 1: ``coefficients[0]`` is the state at the root (of all
    founders together, if there are several), ``rate`` the variance gained per unit of length.

    Parameters
    ----------
    values : (n,)
        Trait; NaN is missing.
    covariance : (n, n)
        V of the same nodes.
    reml
        Unbiased rate ``rss/(n − 1)`` and the restricted likelihood; otherwise ``rss/n``.
    """
    return pgls(values, np.ones((values.size, 1)), covariance, signal=1.0, reml=reml, level=level)


def ancestral_states(
    values: Floats, covariance: Floats, *, level: float = 0.95
) -> tuple[Estimate, ...]:
    """States of the nodes that were not measured, from those that were.

    The best linear unbiased prediction under Brownian motion, ``μ + V_uo V_oo⁻¹ (y − μ)`` with μ
    the GLS mean; its variance ``σ² (V_uu − V_uo V_oo⁻¹ V_ou + c²/(1'V_oo⁻¹1))``,
    ``c = 1 − V_uo V_oo⁻¹ 1``, and ``σ² = rss/(n − 1)``. On a tree with measured tips this is what
    rerooting independent contrasts gives (Felsenstein 1985; Maddison 1991; phytools' ``fastAnc``),
    save that intervals use Student's t, not the normal. Measured ancestors simply join y.

    Parameters
    ----------
    values : (n,)
        Trait of all nodes, NaN where it is to be estimated.
    covariance : (n, n)
        V of all nodes, roots included; only the measured ones need variance of their own.
    level
        Coverage of the intervals.

    Returns
    -------
    tuple of Estimate
        One for each node; measured ones come back as they are, without width. All others NaN with
        the reason where fewer than three nodes were measured or they do not vary.

    Raises
    ------
    ValueError
        As :func:`pgls`.

    Examples
    --------
    >>> import numpy as np
    >>> V = np.array([[0.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 2]])
    >>> states = ancestral_states(np.array([np.nan, 1, 3, 8]), V)
    >>> round(states[0].value, 6)
    3.2
    """
    if covariance.shape != (values.size, values.size):
        shape = (values.size, values.size)
        raise ValueError(f"covariance: shape {shape} expected, {covariance.shape} given")
    seen = np.isfinite(values)
    y, V = values[seen], covariance[np.ix_(seen, seen)]
    n = y.size
    fitted = fit_brownian(y, V, reml=True, level=level)
    mean = fitted.coefficients[0]
    about = f"Brownian motion, GLS prediction; t, {n - 1} df"
    centre, reach = values.astype(np.float64), np.zeros(values.size)
    if math.isnan(mean.value):
        _, _, reason = mean.method.partition("not estimated: ")
        unknown = untrusted(n, level, about, reason, mean.n_clusters or 0)
    else:
        unknown = None
        factor = cho_factor(V)
        cross = covariance[np.ix_(~seen, seen)]
        weights = cho_solve(factor, cross.T).T
        centre[~seen] = mean.value + weights @ (y - mean.value)
        slack = 1 - weights.sum(axis=1)
        total = float(cho_solve(factor, np.ones(n)).sum())
        spread = np.diag(covariance)[~seen] - (weights * cross).sum(axis=1) + slack**2 / total
        quantile = float(student_t.ppf((1 + level) / 2, n - 1))
        reach[~seen] = quantile * np.sqrt(fitted.rate.value * np.maximum(spread, 0))
    return tuple(
        Estimate(c, c - r, c + r, level, n, "measured" if here else about, mean.n_clusters)
        if here or unknown is None
        else unknown
        for c, r, here in zip(centre.tolist(), reach.tolist(), seen.tolist(), strict=True)
    )


def _rate(rss: float, n: int, df: int, n_blocks: int, level: float, *, reml: bool) -> Estimate:
    rate = rss / (df if reml else n)
    low, high = (rss / float(chi2.ppf((1 + side * level) / 2, df)) for side in (1, -1))
    about = f"Brownian rate σ², {'REML' if reml else 'ML'}; χ² interval, {df} df, conditional on λ"
    return Estimate(rate, min(low, rate), max(high, rate), level, n, about, n_blocks)


def _blocks(covariance: Floats) -> int:
    """Groups of nodes with no covariance between them."""
    n_blocks, _ = connected_components(covariance != 0, directed=False)
    return int(n_blocks)


def _no_regression(
    p: int, n: int, n_blocks: int, level: float, about: str, reason: str
) -> Regression:
    nothing = untrusted(n, level, about, reason, n_blocks)
    return Regression((nothing,) * p, (math.nan,) * p, nothing, math.nan, None)

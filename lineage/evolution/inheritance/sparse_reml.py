"""Variance components by restricted maximum likelihood, for any size and number of effects.

The likelihood is climbed by average information (Gilmour, Thompson & Cullis 1995, Biometrics
51:1440): with Py and ``V_i = ∂V/∂θ_i``,

    score_i = −½ (tr(P V_i) − y'P V_i P y)        AI_ij = ½ y'P V_i P V_j P y

Variances are bounded below by a floor that stands for zero. A component that ends there with the
likelihood falling away from it lies on its boundary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage.evolution.inheritance.mixed_model import MixedModel
from lineage.evolution.inheritance.mixed_solution import Solution, log_determinant_slope

__all__ = ["Optimum", "VarianceFit", "fit_variances", "maximise", "start"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_CONFOUNDED = (
    1e-9  # least eigenvalue of the scaled information of components that can be told apart
)
_FLOOR = 1e-8  # share of the trait's variance that stands for none
_DECREMENT = 1e-12  # expected gain in log-likelihood at which climbing stops
_ROUNDING = 1e-12  # share of the log-likelihood that rounding may take
_MAX_ITERATIONS = 100
_SHORTEST_STEP = 2.0**-14
_TRIED_SHARES = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98)


@dataclass(frozen=True, eq=False)
class Optimum:
    """Where the restricted likelihood has its maximum.

    Attributes
    ----------
    solution
        The model solved there; ``solution.theta`` are the parameters.
    information : (k, k)
        Average information about the coordinates that were climbed along.
    at_floor : (k,)
        Coordinates held at their floor, the likelihood falling away from it.
    converged
        False when no step climbed although the score says that one should.
    n_iterations
        Steps taken.
    """

    solution: Solution
    information: Floats
    at_floor: Bools
    converged: bool
    n_iterations: int


@dataclass(frozen=True, eq=False)
class VarianceFit:
    """Variance components of one trait.

    Attributes
    ----------
    solution
        The model solved at its maximum, without the effects whose variance is zero.
    variance, covariance, at_boundary : (k,), (k, k), (k,)
        Components in the order of the effects, the residual last; inverse average information, NaN
        for components on the boundary, whose variance is exactly 0.
    converged
        As of :class:`Optimum`.
    """

    solution: Solution
    variance: Floats
    covariance: Floats
    at_boundary: Bools
    converged: bool


def fit_variances(model: MixedModel, initial: Floats | None = None) -> VarianceFit:
    """Estimate the variances of one trait; an effect that has none is left out and said to be 0.

    Raises
    ------
    ValueError
        If the observations cannot tell two components apart.
    """
    optimum = maximise(model, start(model) if initial is None else initial)
    k = len(model.effects) + 1
    variance, covariance = np.zeros(k), np.full((k, k), np.nan)
    absent = optimum.at_floor[:-1]
    if absent.any():
        kept = np.append(~absent, True)
        names = {e.name for e, none in zip(model.effects, absent, strict=True) if none}
        fit = fit_variances(model.without(names), optimum.solution.theta[kept])
        variance[kept] = fit.variance
        covariance[np.ix_(kept, kept)] = fit.covariance
        return VarianceFit(fit.solution, variance, covariance, variance == 0, fit.converged)
    free = np.flatnonzero(~optimum.at_floor)
    variance[free] = optimum.solution.theta[free]
    among = np.ix_(free, free)
    covariance[among] = np.linalg.inv(optimum.information[among])
    return VarianceFit(optimum.solution, variance, covariance, variance == 0, optimum.converged)


def start(model: MixedModel) -> Floats:
    """Parameters to climb from: the best of a few ways to share out each trait's variance.

    For one random effect the ways are a grid of shares, so that of several maxima the climb starts
    near the highest. Covariances start at zero.
    """
    k = len(model.effects)
    if k == 1:
        ways = [np.array([share, 1 - share]) for share in _TRIED_SHARES]
    else:
        even = np.full(k + 1, 1 / (k + 1))
        ways = [even, *(0.5 * even + 0.5 * np.eye(k + 1)[j] for j in range(k + 1))]
    spread = _spread(model)
    freedom = model.response.size - model.fixed.shape[1]
    tried = []
    rows, columns = model.triangle
    for shares in ways:
        whole = shares[:, None, None] * np.diag(spread)
        theta = whole[:, rows, columns].ravel()
        # All variances times s: y'Py/s + (n − p) log s is least at s = y'Py/(n − p).
        solution = Solution(model, theta)
        quadratic = float(model.deviation @ solution.projected)
        scale = quadratic / freedom
        likelihood = solution.log_likelihood + 0.5 * (quadratic - freedom - freedom * np.log(scale))
        tried.append((likelihood, theta * scale))
    best: Floats = max(tried, key=lambda way: way[0])[1]
    return best


def maximise(model: MixedModel, initial: Floats, basis: Floats | None = None) -> Optimum:
    """Climb to a maximum of the restricted likelihood.

    Parameters
    ----------
    model
        What is fitted.
    initial : (k,)
        Coordinates φ to start from.
    basis : (n_parameters, k)
        The parameters are ``θ = basis · φ``; left out, φ is θ. Holds ratios of variances fixed, or
        covariances at zero.

    Raises
    ------
    ValueError
        If the observations cannot tell two components apart.
    """
    must_tell_apart = basis is None  # a ratio that is held fixed may well confound the others
    if basis is None:
        basis = np.eye(initial.size)
    floor = _floor(model, basis)
    freedom = model.response.size - model.fixed.shape[1]
    phi = np.maximum(initial, floor)
    solution = Solution(model, basis @ phi)
    for iteration in range(_MAX_ITERATIONS):
        score, information = _score_and_information(solution, basis, phi, freedom)
        if iteration == 0 and must_tell_apart:
            _require_told_apart(information)
        held = (phi <= floor) & (score < 0)
        step = np.zeros_like(phi)
        free = ~held
        root = np.sqrt(np.diag(information)[free])  # traits come in units of any size
        scaled = information[np.ix_(free, free)] / np.outer(root, root)
        step[free] = np.linalg.solve(scaled, score[free] / root) / root
        if float(score @ step) < _DECREMENT:
            return Optimum(solution, information, held, True, iteration)
        climbed = _climb(solution, basis, phi, step, floor)
        if climbed is None:
            return Optimum(solution, information, held, False, iteration)
        phi, solution = climbed
    return Optimum(solution, information, held, False, _MAX_ITERATIONS)


def _floor(model: MixedModel, basis: Floats) -> Floats:
    """Least value of each coordinate: that of its smallest variance, −∞ for covariances."""
    rows, _ = model.triangle
    spread = np.tile(_spread(model)[rows], len(model.effects) + 1)
    variances = (basis != 0) & model.is_variance[:, None]
    return np.asarray(
        np.where(
            variances.any(axis=0),
            _FLOOR * np.where(variances, spread[:, None], np.inf).min(axis=0),
            -np.inf,
        )
    )


def _spread(model: MixedModel) -> Floats:
    """Variance of each trait around its fixed effects, shape (t,)."""
    count = np.bincount(model.trait, minlength=model.n_traits)
    squares = np.bincount(model.trait, weights=model.deviation**2, minlength=model.n_traits)
    return np.asarray(squares / count)


def _score_and_information(
    solution: Solution, basis: Floats, phi: Floats, freedom: int
) -> tuple[Floats, Floats]:
    changes = solution.changes() @ basis
    traces = np.zeros(phi.size)
    # Σ φ_i tr(P V_i) = tr(P V) = n − p: one of the traces, best a large one, need not be computed.
    last = int(np.argmax(np.abs(phi)))
    for i in range(phi.size):
        if i != last:
            traces[i] = log_determinant_slope(solution, basis[:, i])
    traces[last] = (freedom - phi @ traces) / phi[last]
    score = -0.5 * (traces - changes.T @ solution.projected)
    return score, 0.5 * changes.T @ solution.project(changes)


def _climb(
    solution: Solution, basis: Floats, phi: Floats, step: Floats, floor: Floats
) -> tuple[Floats, Solution] | None:
    """The longest of ever shorter steps that does not lower the likelihood."""
    allowed = _ROUNDING * (abs(solution.log_likelihood) + solution.model.response.size)
    length = 1.0
    while length >= _SHORTEST_STEP:
        tried = np.maximum(phi + length * step, floor)
        candidate = Solution(solution.model, basis @ tried)
        length /= 2
        if np.linalg.eigvalsh(candidate.matrices).min() <= 0:  # no covariance matrix
            continue
        if candidate.log_likelihood >= solution.log_likelihood - allowed:
            return tried, candidate
    return None


def _require_told_apart(information: Floats) -> None:
    root = np.sqrt(np.diag(information))
    told_apart = (root > 0).all()
    if told_apart:
        scaled = information / np.outer(root, root)
        told_apart = np.linalg.eigvalsh(scaled)[0] >= _CONFOUNDED
    if not told_apart:
        raise ValueError(
            "the records cannot tell the variance components apart: two random effects (or one and "
            "the residual) group them in the same way, no two records are related, or the traits "
            "are one and the same"
        )

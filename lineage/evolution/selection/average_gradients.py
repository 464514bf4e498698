"""Average selection gradients: the mean slope of a fitness surface that fits counts or survival.

The surface is a Poisson or a logistic regression; least squares are in
:mod:`lineage.evolution.selection.gradients`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from lineage.evolution.clusters import student_interval, untrusted
from lineage.evolution.selection.fitness import Fitness
from lineage.evolution.selection.gradient_terms import (
    Scale,
    complete_cases,
    founder_groups,
    gradient_problem,
    linear_terms,
    require_independent,
)
from lineage.model import Estimate

__all__ = ["average_gradients"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Family = Literal["logistic", "poisson"]

_SEPARATED = 1e-10  # least eigenvalue of the information that a finite fit leaves, per mean fitness
_GLM_TOLERANCE = 1e-12
_GLM_STEPS = 200


@dataclass(frozen=True, eq=False)
class _Link:
    """Mean, its first and its second derivative as functions of the linear predictor."""

    words: str
    mean: Callable[[Floats], Floats]
    slope: Callable[[Floats], Floats]
    bend: Callable[[Floats], Floats]


def _logistic(eta: Floats) -> Floats:
    return np.asarray(expit(eta), dtype=np.float64)


_LINKS: Mapping[Family, _Link] = {
    "logistic": _Link(
        "logistic",
        _logistic,
        lambda eta: _logistic(eta) * _logistic(-eta),
        lambda eta: _logistic(eta) * _logistic(-eta) * (_logistic(-eta) - _logistic(eta)),
    ),
    "poisson": _Link("Poisson", np.exp, np.exp, np.exp),
}


def average_gradients(
    traits: Mapping[str, Floats],
    fitness: Fitness,
    cluster: Ints,
    *,
    family: Family,
    scale: Scale = "sd",
    level: float = 0.95,
) -> dict[str, Estimate]:
    """Average gradient of the fitness surface of a logistic or Poisson regression.

    ``β_j = α_j · mean(∂μ/∂η) / W̄`` with the regression coefficients α and the fitted mean μ: the
    slope of expected relative fitness along trait j, averaged over the models. Unlike a least
    squares gradient it follows from a surface that fits counts or survival.

    Parameters
    ----------
    traits, fitness, scale, level
        As for :func:`~lineage.evolution.selection.gradients.linear_gradients`, and the same errors.
    cluster : (n,)
        Founder of each model.
    family
        ``logistic`` for fitness of 0 or 1, ``poisson`` for counts (over-dispersed ones too: only
        the mean has to be exponential, the errors do not use the Poisson variance).

    Returns
    -------
    dict
        Trait to its gradient. NaN with the reason in `method` where there are too few models or
        founders for the terms, no model has any fitness, or the traits foretell fitness without
        error, so that no finite surface fits best.

    Raises
    ------
    ValueError
        Also if fitness is not 0 or 1 and the family is logistic.

    Notes
    -----
    Errors are from sums of influence functions over founders, times
    ``G/(G − 1) · (n − 1)/(n − k − 1)``, with Student's t of G − 1 degrees of freedom. They include
    that of W̄, of the standardisation and of the average, which Janzen & Stern's scaling of the
    error of α takes as known.

    Warnings
    --------
    A few founders have most models, and the sandwich takes founders for many and alike. On 200
    simulated neutral Hubs (``python -m benchmarks.evolution.coverage``) the Poisson gradient cried
    selection in 18–26 % at the level .05 (in 82 % under a trend of the mean that nobody removed),
    and intervals by founder bootstrap, such as those of
    :func:`~lineage.evolution.selection.gradients.linear_gradients_bootstrap`, in 5–12 % (35–41 %).
    The copying null (:func:`~lineage.evolution.chance.copying_null.copying_null`) held its level
    everywhere.

    References
    ----------
    Janzen & Stern (1998), Evolution 52:1564; Morrissey & Sakrejda (2013), Evolution 67:2094.

    Examples
    --------
    >>> import numpy as np
    >>> z, w = np.arange(8.0), Fitness("w", np.array([0.0, 1, 0, 0, 1, 0, 1, 1]), "fitness: given")
    >>> found = average_gradients({"size": z}, w, np.arange(8), family="logistic", scale="raw")
    >>> round(found["size"].value, 4)
    0.1752
    """
    cases = complete_cases(traits, fitness)
    link = _LINKS[family]
    method = f"average gradient ({scale}) of a {link.words} regression; {cases.note}"
    labels, group = founder_groups(cluster, cases)
    k, n_clusters = len(cases.names), labels.size
    if family == "logistic" and not np.isin(cases.fitness, (0.0, 1.0)).all():
        raise ValueError("a logistic regression needs fitness of 0 or 1: take family='poisson'")
    problem = gradient_problem(cases, k)
    if not problem and n_clusters < k + 2:
        problem = f"{n_clusters} independent groups, {k + 2} needed for {k} traits"
    if problem:
        return dict.fromkeys(cases.names, untrusted(cases.n, level, method, problem, n_clusters))
    require_independent(cases, linear_terms(cases))
    design = np.column_stack([np.ones(cases.n), cases.z])
    alpha = _canonical_fit(design, cases.fitness, family)
    if alpha is None:
        problem = "some trait foretells fitness without error, no finite surface fits best"
        return dict.fromkeys(cases.names, untrusted(cases.n, level, method, problem, n_clusters))
    value, influence = _averaged(design, cases.fitness, alpha, link)
    if scale == "sd":
        # How the standard deviation itself answers to each model: (z² − 1)/2 at spread 1.
        influence = influence + value * (cases.z**2 - (cases.z**2).mean()) / 2
    else:
        value, influence = value / cases.spread, influence / cases.spread
    sums = np.zeros((n_clusters, k))
    np.add.at(sums, group, influence)
    factor = n_clusters / (n_clusters - 1) * (cases.n - 1) / (cases.n - k - 1)
    error = np.sqrt(factor * (sums**2).sum(axis=0)) / cases.n
    method = f"{method}; sandwich error over founders, t with G−1 df"
    found = [
        student_interval(v, e, n_clusters - 1, cases.n, n_clusters, level, method)
        for v, e in zip(value, error, strict=True)
    ]
    return dict(zip(cases.names, found, strict=True))


def _canonical_fit(design: Floats, fitness: Floats, family: Family) -> Floats | None:
    """Maximum likelihood coefficients; None where they run off to infinity."""
    from statsmodels.genmod.families import Binomial, Poisson
    from statsmodels.genmod.generalized_linear_model import GLM

    model = GLM(fitness, design, family=Binomial() if family == "logistic" else Poisson())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # separation and divergence are told by the answer
        found = model.fit(tol=_GLM_TOLERANCE, maxiter=_GLM_STEPS)
    alpha = np.asarray(found.params, dtype=np.float64)
    if not found.converged or not np.isfinite(alpha).all():
        return None
    slope = _LINKS[family].slope(design @ alpha)
    information = design.T @ (slope[:, None] * design) / fitness.size
    finite = np.linalg.eigvalsh(information)[0] > _SEPARATED * fitness.mean()
    return alpha if finite else None


def _averaged(design: Floats, fitness: Floats, alpha: Floats, link: _Link) -> tuple[Floats, Floats]:
    """Average gradients (k,) and how each of them answers to each model, (n, k).

    ``θ = α D / M`` with D the mean slope of the surface and M the mean fitness. A model moves θ
    through its own share of D and of M, and through α by its score over the information.
    """
    eta = design @ alpha
    slope = link.slope(eta)
    information = design.T @ (slope[:, None] * design) / fitness.size
    answer = (fitness - link.mean(eta))[:, None] * np.linalg.solve(information, design.T).T
    mean_slope, mean_fitness = slope.mean(), fitness.mean()
    value = alpha[1:] * mean_slope / mean_fitness
    through_alpha = answer[:, 1:] * mean_slope + np.outer(
        answer @ (link.bend(eta) @ design / fitness.size), alpha[1:]
    )
    own = np.outer(slope - mean_slope, alpha[1:]) - np.outer(fitness - mean_fitness, value)
    return value, (through_alpha + own) / mean_fitness

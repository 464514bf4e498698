"""Selection gradients: the force of selection on each of several traits at once.

With relative fitness ``w = W / W̄`` and traits z centred on their means,

    w = a + Σ_i β_i z_i + ½ Σ_ij γ_ij z_i z_j + e

The linear gradients β come from the fit of the linear terms alone, the quadratic gradients γ from
the fit of all of them (Lande & Arnold 1983, Evolution 37:1210). A regression package states the
coefficient of z_i², which is ½ γ_ii: it is doubled here, and so is its error (Stinchcombe et al.
2008, Evolution 62:2435). γ_ij of two traits is the coefficient of their product as it stands.

A gradient is free of selection on the *other traits of the fit* and of nothing else: a cause of
trait and fitness that was left out stays in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import f as fisher_f
from scipy.stats import ncf

from lineage.evolution.clusters import student_interval, too_few_clusters, untrusted
from lineage.evolution.jackknife import (
    LeftOut,
    contributions,
    jackknife,
    left_out,
    sign_flip_p_value,
)
from lineage.evolution.selection.differentials import differential_jackknife, intensity_jackknife
from lineage.evolution.selection.fitness import Fitness
from lineage.evolution.selection.gradient_terms import (
    Cases,
    Scale,
    Terms,
    complete_cases,
    founder_groups,
    gradient_problem,
    linear_terms,
    pairs_of_traits,
    require_independent,
    second_order_terms,
)
from lineage.model import Estimate

__all__ = [
    "LinearGradients",
    "QuadraticGradients",
    "linear_gradients",
    "linear_gradients_jackknife",
    "quadratic_gradients",
    "quadratic_gradients_jackknife",
    "robertson_covariances",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_ROUNDING = 1e-12  # share of the scale below which a spread is rounding, not variation
_SINGULAR = 1e-10  # least eigenvalue of a correlation matrix that can still be solved


@dataclass(frozen=True, eq=False)
class LinearGradients:
    """Linear selection gradients β of several traits, fitted together.

    Attributes
    ----------
    beta
        Trait to its gradient: change of relative fitness per standard deviation of the trait
        (scale ``sd``) or per unit of it (``raw``), the other traits held.
    explained
        R², the share of the variance of relative fitness that the fit explains. Its interval is
        that of the population's share by the noncentral F distribution (Steiger 2004, Psychol
        Methods 9:164), widened where that misses the sample's own; `p_value` is the F test of no
        selection on any of the traits. None beside jackknife intervals.
    scale
        ``sd`` or ``raw``.
    """

    beta: Mapping[str, Estimate]
    explained: Estimate | None
    scale: Scale


@dataclass(frozen=True, eq=False)
class QuadraticGradients:
    """Quadratic and correlational selection gradients γ.

    Attributes
    ----------
    quadratic
        Trait to γ_ii, twice the coefficient of its square: negative where fitness curves down
        (stabilising if the optimum lies within the population), positive where it curves up.
    correlational
        Pair of traits, in the order given, to γ_ij, the coefficient of their product.
    scale
        ``sd`` or ``raw``.
    """

    quadratic: Mapping[str, Estimate]
    correlational: Mapping[tuple[str, str], Estimate]
    scale: Scale


def linear_gradients(
    traits: Mapping[str, Floats],
    fitness: Fitness,
    *,
    scale: Scale = "sd",
    level: float = 0.95,
) -> LinearGradients:
    """Linear gradients with the classical error of least squares.

    ``β = P⁻¹ Cov(w, z)``: regression of relative fitness on all traits at once. The intervals take
    the models as independent and the residuals as alike, as studies of selection of birds do. Of
    models of a Hub neither holds, nor their p-values: :func:`linear_gradients_jackknife` needs
    neither.

    Parameters
    ----------
    traits
        Trait name to values, shape (n,). A model with a NaN in any of them, or in `fitness`, is
        left out of the means and of the fit; `n` counts those that remain.
    fitness
        Absolute fitness W, not negative; ``w = W / W̄`` over the models that take part.
    scale
        ``sd``: traits in standard deviations (n − 1) of the models that take part. ``raw``: in
        their own units.
    level
        Coverage of the intervals.

    Returns
    -------
    LinearGradients
        NaN with the reason in `method` where too few models take part for the number of terms, or
        nobody has any fitness.

    Raises
    ------
    ValueError
        If no trait is given, lengths differ, fitness is negative, or a trait does not vary or is
        a linear combination of others; names the traits.

    References
    ----------
    Lande & Arnold (1983), Evolution 37:1210, eqs. 4 and 13.

    Examples
    --------
    >>> import numpy as np
    >>> found = linear_gradients(
    ...     {"size": np.array([0.0, 0.0, 1.0, 1.0, 2.0]), "age": np.array([0.0, 1, 0, 1, 0])},
    ...     Fitness("w", np.array([1.0, 1.0, 2.0, 2.0, 4.0]), "fitness: given"),
    ...     scale="raw",
    ... )
    >>> {name: round(beta.value, 4) for name, beta in found.beta.items()}
    {'size': 0.7, 'age': -0.0667}
    """
    cases = complete_cases(traits, fitness)
    method = f"linear selection gradient ({scale}), least squares; {cases.note}"
    beta, explained = _least_squares(cases, linear_terms(cases), scale, level, method)
    return LinearGradients(dict(zip(cases.names, beta, strict=True)), explained, scale)


def linear_gradients_jackknife(
    traits: Mapping[str, Floats],
    fitness: Fitness,
    cluster: Ints,
    *,
    rng: np.random.Generator,
    month: Ints | None = None,
    scale: Scale = "sd",
    level: float = 0.95,
) -> LinearGradients:
    """The same gradients with the intervals and p-values of a jackknife over founders.

    Without a founder, traits are standardised and fitness is made relative by the moments of the
    others.

    Parameters
    ----------
    traits, fitness, scale, level
        As for :func:`linear_gradients`, and the same errors.
    cluster : (n,)
        Founder of each model; left out whole.
    rng
        Source of the flips of the p-values; the intervals do not depend on it.
    month : (n,)
        Month of each model's birth. With it all covariances, and the standard deviations, are
        those among models of one month: a trend of the field is no selection.

    Returns
    -------
    LinearGradients
        NaN also with fewer than 3 founders, or where a gradient is undefined without one of them
        (a trait that varies within one founder only). :mod:`lineage.evolution.jackknife` has the
        errors and their degrees of freedom.
    """
    cases = complete_cases(traits, fitness)
    method = f"linear selection gradient ({scale}){_among(month)}; {cases.note}"
    beta = _jackknifed(cases, linear_terms(cases), cluster, rng, month, scale, level, method)
    return LinearGradients(dict(zip(cases.names, beta, strict=True)), None, scale)


def quadratic_gradients(
    traits: Mapping[str, Floats],
    fitness: Fitness,
    *,
    scale: Scale = "sd",
    level: float = 0.95,
) -> QuadraticGradients:
    """Quadratic and correlational gradients with the classical error of least squares.

    Fits all traits, their squares and their products together: 2k + k(k − 1)/2 terms for k traits.
    Parameters, missing values and errors as for :func:`linear_gradients`; a trait of two values is
    refused, since its square says nothing that the trait does not.

    References
    ----------
    Lande & Arnold (1983), eq. 16; Stinchcombe et al. (2008), Evolution 62:2435 (the doubling).

    Examples
    --------
    >>> import numpy as np
    >>> z = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    >>> w = Fitness("w", 3.0 - 0.5 * z**2, "fitness: given")
    >>> round(quadratic_gradients({"size": z}, w, scale="raw").quadratic["size"].value, 6)
    -0.5
    """
    cases = complete_cases(traits, fitness)
    method = f"quadratic selection gradient ({scale}), least squares; {cases.note}"
    gamma, _ = _least_squares(cases, second_order_terms(cases), scale, level, method)
    return _by_pair(cases.names, gamma, scale)


def quadratic_gradients_jackknife(
    traits: Mapping[str, Floats],
    fitness: Fitness,
    cluster: Ints,
    *,
    rng: np.random.Generator,
    month: Ints | None = None,
    scale: Scale = "sd",
    level: float = 0.95,
) -> QuadraticGradients:
    """The same gradients with the intervals and p-values of a jackknife over founders.

    Parameters as for :func:`linear_gradients_jackknife`.
    """
    cases = complete_cases(traits, fitness)
    method = f"quadratic selection gradient ({scale}){_among(month)}; {cases.note}"
    gamma = _jackknifed(cases, second_order_terms(cases), cluster, rng, month, scale, level, method)
    return _by_pair(cases.names, gamma, scale)


def robertson_covariances(
    traits: Mapping[str, Floats],
    fitness: Fitness,
    cluster: Ints,
    *,
    rng: np.random.Generator,
    month: Ints | None = None,
    scale: Scale = "sd",
    level: float = 0.95,
) -> dict[str, Estimate]:
    """Selection on each trait by every path, ``Cov(w, z)``, over the models the gradients use.

    Beside β, which holds the other traits, this is the total: the difference is selection on
    correlated traits (Robertson 1966; ``β = P⁻¹ Cov(w, z)``). See
    :func:`lineage.evolution.selection.differentials.differential_jackknife`.

    Parameters
    ----------
    scale
        ``sd``: the standardised differential i; ``raw``: S in units of the trait.
    """
    cases = complete_cases(traits, fitness)
    statistic = intensity_jackknife if scale == "sd" else differential_jackknife
    shared = Fitness(fitness.name, np.where(cases.complete, fitness.values, np.nan), fitness.method)
    return {
        name: statistic(traits[name], shared, cluster, rng=rng, month=month, level=level)
        for name in cases.names
    }


def _among(month: Ints | None) -> str:
    return "" if month is None else " among models of one month"


def _by_pair(names: tuple[str, ...], gamma: Sequence[Estimate], scale: Scale) -> QuadraticGradients:
    first, second = pairs_of_traits(len(names))
    k = len(names)
    return QuadraticGradients(
        dict(zip(names, gamma[:k], strict=True)),
        {
            (names[i], names[j]): found
            for i, j, found in zip(first[k:], second[k:], gamma[k:], strict=True)
        },
        scale,
    )


def _unit(cases: Cases, terms: Terms, scale: Scale) -> Floats:
    """What turns coefficients of the standardised design into gradients, shape (m,)."""
    if scale == "sd":
        return terms.factor
    return np.asarray(terms.factor / np.prod(cases.spread**terms.power, axis=1))


def _least_squares(
    cases: Cases, terms: Terms, scale: Scale, level: float, method: str
) -> tuple[list[Estimate], Estimate]:
    """Gradients with classical errors, and R²."""
    n, p = terms.design.shape
    problem = gradient_problem(cases, p)
    if problem:
        none = untrusted(n, level, method, problem, n)
        return [none] * len(terms.factor), none
    require_independent(cases, terms)
    design = np.column_stack([np.ones(n), terms.design])
    relative = cases.fitness / cases.fitness.mean()
    base, triangle = np.linalg.qr(design)
    inverse = np.linalg.inv(triangle)
    coefficient = inverse @ (base.T @ relative)
    residual = relative - design @ coefficient
    df = n - p - 1
    error = np.sqrt((inverse**2).sum(axis=1) * (residual @ residual) / df)
    last = slice(p + 1 - len(terms.factor), None)
    unit = _unit(cases, terms, scale)
    method = f"{method}; classical SE, t with {df} df"
    found = [
        student_interval(v, e, df, n, n, level, method)
        for v, e in zip(coefficient[last] * unit, error[last] * unit, strict=True)
    ]
    total = float(((relative - 1) ** 2).sum())
    share = 1 - float(residual @ residual) / total if total > 0 else math.nan
    return found, _explained(share, n, p, level, cases.note)


def _explained(share: float, n: int, p: int, level: float, note: str) -> Estimate:
    """R² with the interval of the population's share, its F distribution inverted."""
    method = f"R² of relative fitness on {p} terms, noncentral F interval; {note}"
    if math.isnan(share):
        return untrusted(n, level, method, "relative fitness does not vary", n)
    df = n - p - 1
    if 1 - share <= _ROUNDING:
        return Estimate(share, share, share, level, n, method, n, 0.0)
    ratio = share / p / ((1 - share) / df)

    def bound(tail: float) -> float:
        """Population share at which a ratio this small has probability `tail`."""
        if fisher_f.cdf(ratio, p, df) <= tail:
            return 0.0
        top = 1.0
        while ncf.cdf(ratio, p, df, top) > tail:
            top *= 2
        centre = brentq(lambda shift: ncf.cdf(ratio, p, df, shift) - tail, 0.0, top)
        return float(centre / (centre + n))

    low, high = bound((1 + level) / 2), bound((1 - level) / 2)
    return Estimate(
        share, min(low, share), max(high, share), level, n, method, n,
        float(fisher_f.sf(ratio, p, df)),
    )  # fmt: skip


def _jackknifed(
    cases: Cases,
    terms: Terms,
    cluster: Ints,
    rng: np.random.Generator,
    month: Ints | None,
    scale: Scale,
    level: float,
    method: str,
) -> list[Estimate]:
    """Gradients without each founder in turn, from sums of products alone."""
    labels, group = founder_groups(cluster, cases)
    n, n_clusters, m = cases.n, labels.size, len(terms.factor)
    problem = gradient_problem(cases, terms.design.shape[1]) or too_few_clusters(n_clusters)
    if problem:
        return [untrusted(n, level, method, problem, n_clusters)] * m
    require_independent(cases, terms)
    columns = np.column_stack([terms.design, cases.fitness])
    sums = left_out(columns, group, None if month is None else month[cases.complete])
    p_values = [
        sign_flip_p_value(contributions(_first(sums, place)), rng=rng)
        for place in range(terms.design.shape[1] - m, terms.design.shape[1])
    ]
    power = terms.power if scale == "sd" else np.zeros_like(terms.power)
    found = _unit(cases, terms, scale) * _solved(sums, power)
    return [
        jackknife(values, n, level, method, p_value)
        for values, p_value in zip(found.T, p_values, strict=True)
    ]


def _first(sums: LeftOut, place: int) -> LeftOut:
    """The same sums with fitness first and the term of this place second."""
    last = sums.own.shape[-1] - 1
    order = np.array([last, place, *(i for i in range(last) if i != place)])
    both = (slice(None), order[:, None], order)
    return replace(sums, products=sums.products[both], own=sums.own[both])


def _solved(sums: LeftOut, power: Floats) -> Floats:
    """Last coefficients of least squares, shape (1 + G, m); NaN if singular.

    The columns are the terms and W; the first k terms are the traits, whose standard deviations
    among those that remain multiply each coefficient as often as `power` says.
    """
    m, k = power.shape
    about, mean = sums.products, sums.mean[:, -1]
    own = np.diagonal(about, axis1=1, axis2=2)[:, :-1]
    usable = (own > _SINGULAR * sums.n[:, None]).all(axis=1) & (mean > 0) & (sums.free > 0)
    root = np.sqrt(np.where(usable[:, None], own, 1.0))
    alike = about[:, :-1, :-1] / root[:, :, None] / root[:, None, :]
    alike[~usable] = np.eye(own.shape[1])
    usable &= np.linalg.eigvalsh(alike)[:, 0] > _SINGULAR
    alike[~usable] = np.eye(own.shape[1])
    coefficient = np.linalg.solve(alike, (about[:, :-1, -1] / root)[..., None])[..., 0] / root
    spread = root[:, :k] / np.sqrt(np.maximum(sums.free, 1.0))[:, None]
    scaled = coefficient[:, -m:] * np.prod(spread[:, None, :] ** power, axis=2)
    return np.where(usable[:, None], scaled / np.where(usable, mean, 1.0)[:, None], np.nan)

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
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import f as fisher_f
from scipy.stats import ncf
from scipy.stats import t as student_t

from lineage.evolution.clusters import MIN_BOOTSTRAP_CLUSTERS, untrusted
from lineage.evolution.selection import Fitness, selection_differential, selection_intensity
from lineage.model import Estimate

__all__ = [
    "LinearGradients",
    "QuadraticGradients",
    "average_gradients",
    "linear_gradients",
    "linear_gradients_bootstrap",
    "quadratic_gradients",
    "quadratic_gradients_bootstrap",
    "robertson_covariances",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Scale = Literal["sd", "raw"]
Family = Literal["logistic", "poisson"]

_ROUNDING = 1e-12  # share of the scale below which a spread is rounding, not variation
_SAME = 1e-7  # a column that keeps less of its length beside the others is one of their sums
_SINGULAR = 1e-10  # least eigenvalue of a correlation matrix that can still be solved
_FINITE_SHARE = 0.9  # of the resamples in which a gradient must be defined
_SEPARATED = 1e-10  # least eigenvalue of the information that a finite fit leaves, per mean fitness
_GLM_TOLERANCE = 1e-12
_GLM_STEPS = 200
_RESAMPLES_AT_ONCE = 100  # bounds memory: sums of products of 55 terms take 26 KiB a resample


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
        selection on any of the traits. None beside bootstrap intervals: a resample holds models
        twice and overstates it.
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


@dataclass(frozen=True, eq=False)
class _Cases:
    """Complete cases: traits in standard deviations from their means, and absolute fitness.

    `z` is (n, k), `spread` the k standard deviations, `complete` the mask of the cases among all.
    """

    names: tuple[str, ...]
    z: Floats
    spread: Floats
    fitness: Floats
    complete: NDArray[np.bool_]
    note: str

    @property
    def n(self) -> int:
        return int(self.fitness.size)


@dataclass(frozen=True, eq=False)
class _Terms:
    """Columns of a fit; the last m of them are the gradients asked for.

    `power` (m, k) says how often each trait enters each gradient, `factor` (m,) what turns a
    coefficient into the gradient.
    """

    labels: tuple[str, ...]
    design: Floats
    power: Floats
    factor: Floats


def linear_gradients(
    traits: Mapping[str, Floats],
    fitness: Fitness,
    *,
    scale: Scale = "sd",
    level: float = 0.95,
) -> LinearGradients:
    """Linear gradients with the classical error of least squares.

    ``β = P⁻¹ Cov(w, z)``: regression of relative fitness on all traits at once. The intervals take
    the models as independent and the residuals as alike, neither of which holds for related
    models or counts; :func:`linear_gradients_bootstrap` needs neither. They are the errors that
    studies of selection print.

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
    cases = _complete(traits, fitness)
    method = f"linear selection gradient ({scale}), least squares; {cases.note}"
    beta, explained = _least_squares(cases, _linear(cases), scale, level, method)
    return LinearGradients(dict(zip(cases.names, beta, strict=True)), explained, scale)


def linear_gradients_bootstrap(
    traits: Mapping[str, Floats],
    fitness: Fitness,
    cluster: Ints,
    *,
    rng: np.random.Generator,
    scale: Scale = "sd",
    level: float = 0.95,
    n_resamples: int = 2000,
) -> LinearGradients:
    """The same gradients with the percentile intervals of a bootstrap over founders.

    Each resample is standardised and made relative by its own moments.

    Parameters
    ----------
    traits, fitness, scale, level
        As for :func:`linear_gradients`, and the same errors.
    cluster : (n,)
        Founder of each model; resampled whole.
    rng
        Source of the resamples, the same for all gradients of one call.

    Returns
    -------
    LinearGradients
        NaN also with fewer than 3 founders, or where more than a tenth of the resamples leave a
        gradient undefined (traits that vary within one founder only).
    """
    cases = _complete(traits, fitness)
    method = f"linear selection gradient ({scale}); {cases.note}"
    beta = _bootstrap(cases, _linear(cases), cluster, rng, scale, level, n_resamples, method)
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
    cases = _complete(traits, fitness)
    method = f"quadratic selection gradient ({scale}), least squares; {cases.note}"
    gamma, _ = _least_squares(cases, _second_order(cases), scale, level, method)
    return _by_pair(cases.names, gamma, scale)


def quadratic_gradients_bootstrap(
    traits: Mapping[str, Floats],
    fitness: Fitness,
    cluster: Ints,
    *,
    rng: np.random.Generator,
    scale: Scale = "sd",
    level: float = 0.95,
    n_resamples: int = 2000,
) -> QuadraticGradients:
    """The same gradients with the percentile intervals of a bootstrap over founders.

    Parameters as for :func:`linear_gradients_bootstrap`.
    """
    cases = _complete(traits, fitness)
    method = f"quadratic selection gradient ({scale}); {cases.note}"
    gamma = _bootstrap(cases, _second_order(cases), cluster, rng, scale, level, n_resamples, method)
    return _by_pair(cases.names, gamma, scale)


def robertson_covariances(
    traits: Mapping[str, Floats],
    fitness: Fitness,
    cluster: Ints,
    *,
    rng: np.random.Generator,
    scale: Scale = "sd",
    level: float = 0.95,
    n_resamples: int = 2000,
) -> dict[str, Estimate]:
    """Selection on each trait by every path, ``Cov(w, z)``, over the models the gradients use.

    Beside β, which holds the other traits, this is the total: the difference is selection on
    correlated traits (Robertson 1966; ``β = P⁻¹ Cov(w, z)``). See
    :func:`lineage.evolution.selection.selection_differential`.

    Parameters
    ----------
    scale
        ``sd``: the standardised differential i; ``raw``: S in units of the trait.
    """
    cases = _complete(traits, fitness)
    statistic = selection_intensity if scale == "sd" else selection_differential
    shared = Fitness(fitness.name, np.where(cases.complete, fitness.values, np.nan), fitness.method)
    return {
        name: statistic(
            traits[name], shared, cluster, rng=rng, level=level, n_resamples=n_resamples
        )
        for name in cases.names
    }


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
        As for :func:`linear_gradients`, and the same errors.
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
    cases = _complete(traits, fitness)
    link = _LINKS[family]
    method = f"average gradient ({scale}) of a {link.words} regression; {cases.note}"
    labels, group = _groups(cluster, cases)
    k, n_clusters = len(cases.names), labels.size
    if family == "logistic" and not np.isin(cases.fitness, (0.0, 1.0)).all():
        raise ValueError("a logistic regression needs fitness of 0 or 1: take family='poisson'")
    problem = _problem(cases, k)
    if not problem and n_clusters < k + 2:
        problem = f"{n_clusters} independent groups, {k + 2} needed for {k} traits"
    if problem:
        return dict.fromkeys(cases.names, untrusted(cases.n, level, method, problem, n_clusters))
    _require_independent(cases, _linear(cases))
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
        _interval(v, e, n_clusters - 1, cases.n, level, method, n_clusters)
        for v, e in zip(value, error, strict=True)
    ]
    return dict(zip(cases.names, found, strict=True))


def _complete(traits: Mapping[str, Floats], fitness: Fitness) -> _Cases:
    if not traits:
        raise ValueError("no trait is given")
    absolute = fitness.values
    for name, values in traits.items():
        if values.shape != absolute.shape:
            raise ValueError(f"{name}: {absolute.size} values expected, {values.size} given")
    if (absolute < 0).any():
        raise ValueError("fitness must not be negative: it counts what a model passed on")
    names = tuple(traits)
    z = np.column_stack([traits[name] for name in names]).astype(np.float64)
    complete = np.isfinite(z).all(axis=1) & np.isfinite(absolute)
    z, absolute = z[complete], absolute[complete]
    if not absolute.size:
        return _Cases(names, z, np.zeros(len(names)), absolute, complete, fitness.method)
    centred = z - z.mean(axis=0)
    constant = np.ptp(z, axis=0) <= _ROUNDING * np.abs(z).max(axis=0)
    spread = np.where(constant, 0.0, np.sqrt((centred**2).sum(axis=0) / max(len(z) - 1, 1)))
    # A trait that does not vary becomes a column of zeros, which the fit then refuses by name.
    z = np.where(constant, 0.0, centred / np.where(constant, 1.0, spread))
    return _Cases(names, z, spread, absolute, complete, fitness.method)


def _groups(cluster: Ints, cases: _Cases) -> tuple[Ints, Ints]:
    if cluster.shape != cases.complete.shape:
        raise ValueError(f"cluster: {cases.complete.size} labels expected, {cluster.size} given")
    labels, group = np.unique(cluster[cases.complete], return_inverse=True)
    return labels, group


def _problem(cases: _Cases, n_terms: int) -> str | None:
    """Why no gradient can be trusted, None when it can."""
    if cases.n < n_terms + 2:
        return f"{cases.n} models with every trait and fitness, {n_terms + 2} needed"
    if cases.fitness.mean() <= 0:
        return "no model has any fitness"
    return None


def _linear(cases: _Cases) -> _Terms:
    k = len(cases.names)
    return _Terms(cases.names, cases.z, np.eye(k), np.ones(k))


def _second_order(cases: _Cases) -> _Terms:
    """Traits, then their squares, then the products of each two."""
    first, second = _pairs(len(cases.names))
    power = np.zeros((first.size, len(cases.names)))
    np.add.at(power, (np.arange(first.size), first), 1.0)
    np.add.at(power, (np.arange(first.size), second), 1.0)
    labels = cases.names + tuple(
        f"square of {cases.names[i]}" if i == j else f"{cases.names[i]} × {cases.names[j]}"
        for i, j in zip(first, second, strict=True)
    )
    design = np.column_stack([cases.z, cases.z[:, first] * cases.z[:, second]])
    return _Terms(labels, design, power, np.where(first == second, 2.0, 1.0))


def _pairs(k: int) -> tuple[Ints, Ints]:
    first, second = np.triu_indices(k, 1)
    own = np.arange(k)
    return np.concatenate([own, first]), np.concatenate([own, second])


def _by_pair(names: tuple[str, ...], gamma: Sequence[Estimate], scale: Scale) -> QuadraticGradients:
    first, second = _pairs(len(names))
    k = len(names)
    return QuadraticGradients(
        dict(zip(names, gamma[:k], strict=True)),
        {
            (names[i], names[j]): found
            for i, j, found in zip(first[k:], second[k:], gamma[k:], strict=True)
        },
        scale,
    )


def _require_independent(cases: _Cases, terms: _Terms) -> None:
    """Refuse, by name, a trait or a term that the others determine; traits first."""
    for labels, design in ((cases.names, cases.z), (terms.labels, terms.design)):
        centred = design - design.mean(axis=0)
        length, root_n = np.sqrt((centred**2).sum(axis=0)), math.sqrt(cases.n)
        flat = [t for t, own in zip(labels, length, strict=True) if own <= _SAME * root_n]
        if flat:
            raise ValueError(f"{_listed(flat)}: the same in every model, leave it out")
        centred /= length
        triangle, order = qr(centred, mode="r", pivoting=True)
        rank = int((np.abs(np.diagonal(triangle)) > _SAME).sum())
        if rank == len(labels):
            continue
        kept, first = order[:rank], order[rank]
        mix = np.linalg.lstsq(centred[:, kept], centred[:, first], rcond=None)[0]
        among = [labels[i] for i in sorted([first, *kept[np.abs(mix) > _SAME]])]
        raise ValueError(f"{_listed(among)}: one is a sum of the others, leave one of them out")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _unit(cases: _Cases, terms: _Terms, scale: Scale) -> Floats:
    """What turns coefficients of the standardised design into gradients, shape (m,)."""
    if scale == "sd":
        return terms.factor
    return np.asarray(terms.factor / np.prod(cases.spread**terms.power, axis=1))


def _least_squares(
    cases: _Cases, terms: _Terms, scale: Scale, level: float, method: str
) -> tuple[list[Estimate], Estimate]:
    """Gradients with classical errors, and R²."""
    n, p = terms.design.shape
    problem = _problem(cases, p)
    if problem:
        none = untrusted(n, level, method, problem, n)
        return [none] * len(terms.factor), none
    _require_independent(cases, terms)
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
        _interval(v, e, df, n, level, method, n)
        for v, e in zip(coefficient[last] * unit, error[last] * unit, strict=True)
    ]
    total = float(((relative - 1) ** 2).sum())
    share = 1 - float(residual @ residual) / total if total > 0 else math.nan
    return found, _explained(share, n, p, level, cases.note)


def _interval(
    value: float, error: float, df: int, n: int, level: float, method: str, n_clusters: int
) -> Estimate:
    reach = float(student_t.ppf((1 + level) / 2, df)) * error
    p_value = float(2 * student_t.sf(abs(value) / error, df)) if error > 0 else None
    method = f"{method}; SE {error:.4g}"
    return Estimate(
        float(value), float(value - reach), float(value + reach), level, n, method, n_clusters,
        p_value,
    )  # fmt: skip


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


def _bootstrap(
    cases: _Cases,
    terms: _Terms,
    cluster: Ints,
    rng: np.random.Generator,
    scale: Scale,
    level: float,
    n_resamples: int,
    method: str,
) -> list[Estimate]:
    """Gradients of resampled founders: only sums of products over founders are re-added."""
    labels, group = _groups(cluster, cases)
    n, n_clusters, m = cases.n, labels.size, len(terms.factor)
    method = f"{method}; {level:.0%} percentile interval of {n_resamples} cluster resamples"
    problem = _problem(cases, terms.design.shape[1])
    if not problem and n_clusters < MIN_BOOTSTRAP_CLUSTERS:
        problem = f"{n_clusters} independent groups, {MIN_BOOTSTRAP_CLUSTERS} needed"
    if problem:
        return [untrusted(n, level, method, problem, n_clusters)] * m
    _require_independent(cases, terms)
    rows = np.column_stack([np.ones(n), terms.design, cases.fitness])
    members = np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])
    sums = np.stack([rows[own].T @ rows[own] for own in members])
    unit = _unit(cases, terms, scale)
    power = terms.power if scale == "sd" else np.zeros_like(terms.power)
    value = _solved(sums.sum(axis=0)[None], power)[0] * unit
    drawn = rng.multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), size=n_resamples)
    flat = sums.reshape(n_clusters, -1)
    resampled = unit * np.concatenate(
        [
            _solved((part @ flat).reshape(-1, *sums.shape[1:]), power)
            for part in np.split(drawn, range(_RESAMPLES_AT_ONCE, n_resamples, _RESAMPLES_AT_ONCE))
        ]
    )
    finite = np.isfinite(resampled).all(axis=1)
    if finite.sum() < _FINITE_SHARE * n_resamples:
        reason = f"undefined in {n_resamples - int(finite.sum())} of the resamples"
        return [untrusted(n, level, method, reason, n_clusters)] * m
    low, high = np.quantile(resampled[finite], [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [
        Estimate(float(v), min(float(a), float(v)), max(float(b), float(v)), level, n, method,
                 n_clusters)
        for v, a, b in zip(value, low, high, strict=True)
    ]  # fmt: skip


def _solved(sums: Floats, power: Floats) -> Floats:
    """Last coefficients of least squares from sums of products, shape (B, m); NaN if singular.

    `sums` (B, p + 2, p + 2) are those of (1, terms, W); the first k terms are the traits, whose
    standard deviations in the resample multiply each coefficient as often as `power` says.
    """
    m, k = power.shape
    n, mean = sums[:, 0, 0], sums[:, 0, :] / sums[:, :1, 0]
    about = sums - n[:, None, None] * mean[:, :, None] * mean[:, None, :]
    own = np.diagonal(about, axis1=1, axis2=2)[:, 1:-1]
    usable = (own > _SINGULAR * n[:, None]).all(axis=1) & (mean[:, -1] > 0) & (n > 1)
    root = np.sqrt(np.where(usable[:, None], own, 1.0))
    alike = about[:, 1:-1, 1:-1] / root[:, :, None] / root[:, None, :]
    alike[~usable] = np.eye(own.shape[1])
    usable &= np.linalg.eigvalsh(alike)[:, 0] > _SINGULAR
    alike[~usable] = np.eye(own.shape[1])
    coefficient = np.linalg.solve(alike, (about[:, 1:-1, -1] / root)[..., None])[..., 0] / root
    spread = root[:, :k] / np.sqrt(np.maximum(n - 1, 1.0))[:, None]
    scaled = coefficient[:, -m:] * np.prod(spread[:, None, :] ** power, axis=2)
    relative = scaled / np.where(usable, mean[:, -1], 1.0)[:, None]
    return np.where(usable[:, None], relative, np.nan)


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

"""Birth rates by age, calendar month and trait: Poisson regression over person-time.

This takes the place of birth–death and BiSSE fits, whose rates through time are not identifiable
from trees of the living (Louca & Pennell 2020, Nature 580:502).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.stats import chi2, norm
from scipy.stats import t as student_t

from lineage.evolution.clusters import untrusted
from lineage.evolution.time.person_time import PersonTime, group_sums
from lineage.evolution.time.survival import MIN_CLUSTERS
from lineage.model import Estimate

__all__ = [
    "BirthRates",
    "birth_rates",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_CLUSTERS_AT_ONCE = 20_000
_MAX_DESIGN = 40_000_000  # entries of a regression matrix: 320 MB
_RANK_TOLERANCE = 1e-9  # share of the largest singular value below which columns say the same


@dataclass(frozen=True, eq=False)
class BirthRates:
    """Poisson regression of births on age, month and traits.

    Attributes
    ----------
    ratios
        Rate ratios by term (``age 7–30 d``, ``month 2024-05``, a trait's name, or
        ``name=category``), each against `reference`; continuous traits per unit of the trait.
    rate
        Births per model and day in the reference cell (continuous traits at 0).
    poisson_error
        Standard error of each log ratio were births independent; times the root of `dispersion`,
        that of quasi-Poisson. The intervals of `ratios` use neither: they are clustered.
    dispersion
        Pearson's X² over its degrees of freedom, over cells of equal covariates; 1 if Poisson.
    overdispersion
        α of ``Var(y) = μ + α μ²`` among clusters (negative binomial), 0 if Poisson.
    log_likelihood
        Of the Poisson regression.
    reference
        What the ratios are against, and what had to be left out.
    """

    ratios: Mapping[str, Estimate]
    rate: Estimate
    poisson_error: Mapping[str, float]
    dispersion: Estimate
    overdispersion: Estimate
    log_likelihood: float
    reference: str


def birth_rates(
    time: PersonTime,
    cluster: Ints,
    traits: Mapping[str, NDArray[np.generic]] | None = None,
    *,
    level: float = 0.95,
    by_month: bool = True,
) -> BirthRates:
    """Rate ratios of birth by age band, calendar month and trait.

    ``log E[births] = log days + age + month + Σ β·trait``, fitted by maximum likelihood over cells
    of equal covariates, which loses nothing. Errors are sandwiches over clusters of the cells'
    scores, ``B (Σ_g U_g U_gᵀ) B · G/(G−1)``, with Student's t of G−1 (Liang & Zeger 1986; person
    time as Poisson: Holford 1980, Biometrics 36:299).

    Parameters
    ----------
    time
        From :func:`lineage.evolution.time.person_time.person_time`.
    cluster : (number of units,)
        Founder of each unit.
    traits
        Per unit. Floating values enter linearly; integers and text are categories, compared with
        the one of most time. Units with NaN or a negative integer are left out.
    by_month
        Whether to hold the month constant; without it growth of the Hub passes for age and trait.

    Returns
    -------
    BirthRates
        Months, bands and categories without any birth are left out and named in `reference`:
        their rate is 0 and they say nothing about the rest. All NaN, with the reason, when fewer
        than 3 clusters, or no more births or clusters than terms remain, terms cannot be told
        apart, or the fit does not converge.

    Raises
    ------
    ValueError
        If there is no time at risk, a trait or `cluster` has not one value a unit, or continuous
        traits make too many distinct cells (give them in bands).

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.arange(4)
    >>> time = PersonTime(
    ...     cells, cells * 0, cells * 0, np.full(4, 100.0), np.array([2, 4, 3, 9]), (), 0
    ... )
    >>> fit = birth_rates(time, cells, {"open": np.array([0, 1, 0, 1])})
    >>> round(fit.ratios["open=1"].value, 6), round(fit.rate.value, 6)
    (2.6, 0.025)
    """
    cells = _collapse(time, cluster, traits or {}, by_month)
    method = (
        "Poisson regression of births on log time at risk; founder-clustered sandwich, t with G−1 "
        f"df; {cells.reference}"
    )
    n_births, n_clusters = int(cells.births.sum()), int(np.unique(cells.cluster).size)
    n_terms = cells.design.shape[1]
    problem = None
    if n_clusters < MIN_CLUSTERS:
        problem = f"{n_clusters} independent groups, {MIN_CLUSTERS} needed"
    elif min(n_births, n_clusters) <= n_terms:
        # A sandwich of no more groups than terms has no full rank, and errs on the small side.
        problem = f"{n_births} births of {n_clusters} independent groups for {n_terms} terms"
    elif np.linalg.matrix_rank(_scaled(cells.design), tol=_RANK_TOLERANCE) < n_terms:
        problem = "terms cannot be told apart: a trait is constant or repeats another, age or month"
    fit = None if problem else _fit(cells)
    if fit is None:
        nothing = untrusted(
            n_births, level, method, problem or "the fit did not converge", n_clusters
        )
        return BirthRates(
            dict.fromkeys(cells.terms[1:], nothing),
            nothing,
            dict.fromkeys(cells.terms[1:], math.nan),
            nothing,
            nothing,
            math.nan,
            cells.reference,
        )
    error = np.sqrt(np.diag(fit.covariance))
    reach = float(student_t.ppf((1 + level) / 2, n_clusters - 1)) * error
    p_values = 2 * student_t.sf(np.abs(fit.beta) / error, n_clusters - 1)
    estimates = {
        term: Estimate(
            float(np.exp(fit.beta[k])),
            float(np.exp(fit.beta[k] - reach[k])),
            float(np.exp(fit.beta[k] + reach[k])),
            level,
            n_births,
            f"{method}; SE of the log {error[k]:.4g}",
            n_clusters,
            None if k == 0 else float(p_values[k]),  # a rate of 1 a day is no hypothesis
        )
        for k, term in enumerate(cells.terms)
    }
    rate = estimates.pop(cells.terms[0])
    return BirthRates(
        estimates,
        rate,
        {term: float(fit.poisson_error[k]) for k, term in enumerate(cells.terms) if k},
        _dispersion(cells, fit.expected, level),
        _overdispersion(cells, fit.rate, level),
        fit.log_likelihood,
        cells.reference,
    )


@dataclass(frozen=True, eq=False)
class _Cells:
    """Cells of equal covariates (rows of `design`), and how clusters fill them."""

    terms: list[str]
    design: Floats
    days: Floats
    births: Floats
    cluster: Ints  # (fine,) from 0
    cell: Ints  # (fine,)
    fine_days: Floats
    fine_births: Floats
    reference: str


@dataclass(frozen=True, eq=False)
class _Fit:
    beta: Floats
    covariance: Floats
    poisson_error: Floats
    rate: Floats
    expected: Floats
    log_likelihood: float


def _collapse(
    time: PersonTime, cluster: Ints, traits: Mapping[str, NDArray[np.generic]], by_month: bool
) -> _Cells:
    if not time.days.size:
        raise ValueError("no time at risk: give models with a birth and a later exit")
    n_units = int(time.unit.max()) + 1
    for name, values in (("cluster", cluster), *traits.items()):
        if values.shape[0] < n_units:
            raise ValueError(f"{name}: {n_units} units, {values.shape[0]} values given")
    columns: dict[str, NDArray[np.generic]] = {"age": time.age_band}
    if by_month:
        columns["month"] = time.month
    columns |= {name: values[time.unit] for name, values in traits.items()}
    keep = np.ones(time.days.size, dtype=bool)
    for values in columns.values():
        if values.dtype.kind == "f":
            keep &= np.isfinite(values.astype(float))
        elif values.dtype.kind == "i":
            keep &= values.astype(np.int64) >= 0
    notes = []
    if not keep.all():
        notes.append(f"{time.days[~keep].sum():.0f} model-days of unknown trait left out")
    silent = keep.copy()
    for name, values in columns.items():
        if values.dtype.kind == "f":
            continue
        labels, code = _levels(values)
        born = np.bincount(code, weights=time.births * silent, minlength=labels.size) > 0
        missed = np.bincount(code, weights=silent, minlength=labels.size) * ~born > 0
        if missed.any():
            named = ", ".join(_label(name, label, time.age_cuts) for label in labels[missed])
            notes.append(f"no births in {named}: left out")
        keep &= born[code]
    rows = np.flatnonzero(keep)
    key = np.zeros(rows.size, dtype=np.int64)
    for values in columns.values():
        levels, code = _levels(values[rows])
        # Renumbered after each column, so that the mixed radix cannot overflow.
        _, key = _levels(key * max(levels.size, 1) + code)
    cell = key
    sample = np.zeros(int(cell.max(initial=-1)) + 1, dtype=np.int64)
    sample[cell] = np.arange(cell.size)  # any row of the cell will do
    days = group_sums(cell, time.days[rows], sample.size)
    births = group_sums(cell, time.births[rows], sample.size)
    terms, design, against = ["rate"], [np.ones(sample.size)], []
    for name, values in columns.items():
        here = values[rows][sample]
        if here.dtype.kind == "f":
            terms.append(name)
            design.append(here.astype(float))
            continue
        labels, code = np.unique(here, return_inverse=True)
        if not labels.size:
            continue
        reference = int(np.argmax(np.bincount(code, weights=days)))
        against.append(_label(name, labels[reference], time.age_cuts))
        for k, label in enumerate(labels):
            if k != reference:
                terms.append(_label(name, label, time.age_cuts))
                design.append((code == k).astype(float))
    if len(terms) * sample.size > _MAX_DESIGN:
        raise ValueError(
            f"{sample.size} distinct cells of {len(terms)} terms: give traits in bands"
        )
    _, group = np.unique(cluster[time.unit[rows]], return_inverse=True)
    return _Cells(
        terms,
        np.column_stack(design),
        days,
        births,
        group,
        cell,
        time.days[rows],
        time.births[rows].astype(float),
        "; ".join([f"against {', '.join(against)}", *notes]),
    )


def _levels(values: NDArray[np.generic]) -> tuple[NDArray[np.generic], Ints]:
    """Distinct values and each one's place among them; without sorting where a table will do."""
    if values.dtype.kind == "i" and values.size:
        whole = values.astype(np.int64, copy=False)
        low = int(whole.min())
        if int(whole.max()) - low <= values.size:
            present = np.bincount(whole - low) > 0
            return np.flatnonzero(present) + low, (np.cumsum(present) - 1)[whole - low]
    labels, code = np.unique(values, return_inverse=True)
    return labels, code


def _label(name: str, label: object, age_cuts: tuple[float, ...]) -> str:
    if name == "age":
        band = int(str(label))
        if band == len(age_cuts):
            return f"age from {age_cuts[-1]:g} d" if age_cuts else "any age"
        return f"age {age_cuts[band - 1] if band else 0:g}–{age_cuts[band]:g} d"
    if name == "month":
        return f"month {np.datetime64(int(str(label)), 'M')}"
    return f"{name}={label}"


def _scaled(design: Floats) -> Floats:
    return np.asarray(design / np.maximum(np.linalg.norm(design, axis=0), 1e-300))


def _fit(cells: _Cells) -> _Fit | None:
    import statsmodels.api as sm

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # separation and overflow end as "did not converge"
        model = sm.GLM(
            cells.births, cells.design, family=sm.families.Poisson(), offset=np.log(cells.days)
        )
        try:
            result = model.fit(maxiter=100, tol=1e-12)
        except (np.linalg.LinAlgError, ValueError):
            return None
    beta = np.asarray(result.params, dtype=float)
    expected = np.asarray(result.mu, dtype=float)
    bread = np.asarray(result.normalized_cov_params, dtype=float)
    if not (result.converged and np.isfinite(beta).all() and np.isfinite(bread).all()):
        return None
    rate = expected / cells.days
    n_clusters = int(cells.cluster.max()) + 1
    residual = coo_array(
        (cells.fine_births - rate[cells.cell] * cells.fine_days, (cells.cluster, cells.cell)),
        shape=(n_clusters, cells.days.size),
    ).tocsr()
    meat = np.zeros_like(bread)
    for i in range(0, n_clusters, _CLUSTERS_AT_ONCE):
        scores = residual[i : i + _CLUSTERS_AT_ONCE] @ cells.design
        meat += scores.T @ scores
    covariance = bread @ meat @ bread * n_clusters / (n_clusters - 1)
    if not (np.diag(covariance) > 0).all():
        return None
    return _Fit(beta, covariance, np.sqrt(np.diag(bread)), rate, expected, float(result.llf))


def _dispersion(cells: _Cells, expected: Floats, level: float) -> Estimate:
    method = "Pearson X² over df of cells of equal covariates; χ² interval, rough below 1 a cell"
    df = cells.days.size - cells.design.shape[1]
    if df < 1:
        return untrusted(
            cells.days.size, level, method, "as many terms as cells", int(cells.cluster.max()) + 1
        )
    statistic = float(((cells.births - expected) ** 2 / expected).sum())
    low, high = (statistic / float(chi2.ppf((1 + side * level) / 2, df)) for side in (1, -1))
    value = statistic / df
    return Estimate(
        value,
        min(low, value),
        max(high, value),
        level,
        cells.days.size,
        method,
        None,
        float(chi2.sf(statistic, df)),
    )


def _overdispersion(cells: _Cells, rate: Floats, level: float) -> Estimate:
    """Cameron & Trivedi (1990, J Econometrics 46:347): ((y−μ)²−y)/μ on μ, through the origin."""
    method = (
        "over-dispersion α among clusters, Var = μ + αμ² (Cameron & Trivedi 1990), "
        "robust SE, normal; p one-sided against α = 0"
    )
    births = np.bincount(cells.cluster, weights=cells.fine_births)
    mean = np.bincount(cells.cluster, weights=rate[cells.cell] * cells.fine_days)
    excess = (births - mean) ** 2 - births
    scale = float((mean**2).sum())
    value = float(excess.sum()) / scale
    residual = excess / mean - value * mean
    error = math.sqrt(float((mean**2 * residual**2).sum())) / scale
    reach = float(norm.ppf((1 + level) / 2)) * error
    p_value = float(norm.sf(value / error)) if error > 0 else None
    n = births.size
    return Estimate(value, value - reach, value + reach, level, n, method, n, p_value)

"""Births as a dated process: rates by age and month, lineages through time, reproduction numbers.

Parents and times are observed, so nothing has to be inferred from the shape of a tree: a birth is
a child dated after its parent, and the rate λ(t, trait, age) is births over the time that models
were watched. This takes the place of birth–death and BiSSE fits, whose rates through time are not
identifiable from trees of the living (Louca & Pennell 2020, Nature 580:502). A child of several
parents is a birth to each of them, except in the instantaneous reproduction number, which follows
primary parents. Models that were deleted before they were seen are in no number here.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.stats import chi2, norm
from scipy.stats import gamma as gamma_law
from scipy.stats import t as student_t

from lineage.evolution.clusters import untrusted
from lineage.evolution.selection import Fitness
from lineage.graph import LineageGraph
from lineage.model import Estimate

__all__ = [
    "MIN_INTERVALS",
    "BirthRates",
    "LineageCounts",
    "Monthly",
    "PersonTime",
    "birth_rates",
    "cohort_reproduction",
    "generation_interval",
    "infectiousness",
    "instantaneous_reproduction",
    "lineages_through_time",
    "person_time",
    "reproduction_posterior",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MIN_CLUSTERS = 3
"""Founders below which no sandwich is taken."""
MIN_INTERVALS = 10
"""Parent–child intervals below which their distribution is not estimated."""

_MODELS_AT_ONCE = 200_000  # bounds the memory of a split
_CLUSTERS_AT_ONCE = 20_000
_MAX_DESIGN = 40_000_000  # entries of a regression matrix: 320 MB
_RANK_TOLERANCE = 1e-9  # share of the largest singular value below which columns say the same


# -- person-time ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class PersonTime:
    """Births and time at risk, in cells of unit × age band × calendar month.

    Attributes
    ----------
    unit, age_band, month : (c,)
        What the cell is of; ``age_band`` k begins at ``age_cuts[k − 1]`` (band 0 at birth),
        months count from January 1970.
    days : (c,)
        Model-days at risk, always above 0.
    births : (c,)
        Children born in them.
    age_cuts
        Ages in days at which bands meet.
    n_left_out
        Births that no cell holds: undated, dated before the parent, or while it was not watched.
    """

    unit: Ints
    age_band: Ints
    month: Ints
    days: Floats
    births: Ints
    age_cuts: tuple[float, ...]
    n_left_out: int


def person_time(
    born_day: Floats,
    exit_day: Floats,
    parent: Ints,
    birth_day: Floats,
    *,
    age_cuts: Sequence[float] = (7.0, 30.0, 90.0, 180.0, 365.0),
    entry_day: Floats | None = None,
    unit: Ints | None = None,
) -> PersonTime:
    """Split the time that models were watched by age and calendar month (a Lexis diagram).

    Parameters
    ----------
    born_day : (n,)
        Birth of each model in days since 1970 UTC; a model without one (NaN) has no time.
    exit_day : (n,)
        When watching ended (the end of the crawl, or the model's removal); NaN for no time.
    parent : (b,)
        The model that each birth was to, as an index.
    birth_day : (b,)
        When; NaN where unknown.
    age_cuts
        Ages in days at which bands meet, increasing and above 0.
    entry_day : (n,)
        When watching began, if after birth (left truncation): earlier births do not count.
    unit : (n,)
        Models of equal label ≥ 0 are added up. Give founder × trait; each its own if None.

    Returns
    -------
    PersonTime
        Time is half-open: a model is at risk from its birth or entry on and before its exit.

    Raises
    ------
    ValueError
        If shapes differ, cuts do not increase from above 0, or a parent or unit is negative.

    Notes
    -----
    Time and memory grow with the cells: about 20 for a model watched for a year and a half.

    Examples
    --------
    >>> import numpy as np
    >>> split = person_time(
    ...     np.array([20.0]), np.array([70.0]), np.array([0]), np.array([40.0]), age_cuts=[30.0]
    ... )
    >>> [*zip(split.age_band.tolist(), split.month.tolist(), split.days.tolist())]
    [(0, 0, 11.0), (0, 1, 19.0), (1, 1, 9.0), (1, 2, 11.0)]
    >>> split.births.tolist()
    [0, 1, 0, 0]
    """
    cuts = np.asarray(age_cuts, dtype=float)
    n = born_day.size
    if exit_day.shape != (n,) or (entry_day is not None and entry_day.shape != (n,)):
        raise ValueError("give every model one birth, one exit and, if any, one entry")
    if parent.shape != birth_day.shape:
        raise ValueError("give every birth one parent and one day")
    if cuts.size and not (cuts[0] > 0 and (np.diff(cuts) > 0).all()):
        raise ValueError(f"ages must increase from above 0: {tuple(age_cuts)}")
    unit = np.arange(n, dtype=np.int64) if unit is None else unit
    if parent.min(initial=0) < 0 or parent.max(initial=-1) >= n or unit.min(initial=0) < 0:
        raise ValueError("parents are indices of models, units numbered from 0")
    begin = born_day if entry_day is None else np.fmax(born_day, entry_day)
    begin = np.where(np.isfinite(born_day + exit_day) & (begin < exit_day), begin, np.nan)
    watched = np.isfinite(begin)
    if not watched.any():
        none = np.empty(0, dtype=np.int64)
        return PersonTime(none, none, none, np.empty(0), none, tuple(cuts), parent.size)
    first, starts = _month_starts(float(begin[watched].min()), float(exit_day[watched].max()))

    def key_of(units: Ints, band: Ints | int, month: Ints) -> Ints:
        return np.asarray((units * (cuts.size + 1) + band) * starts.size + month)

    keys: list[Ints] = []
    days: list[Floats] = []
    edges = np.concatenate([[0.0], cuts, [np.inf]])
    for models in _blocks(np.flatnonzero(watched), _MODELS_AT_ONCE):
        born = born_day[models]
        for band in range(cuts.size + 1):
            start = np.maximum(begin[models], born + edges[band])
            stop = np.minimum(exit_day[models], born + edges[band + 1])
            here = stop > start
            row, month, spent = _by_month(start[here], stop[here], starts)
            key, place = np.unique(
                key_of(unit[models][here][row], band, month), return_inverse=True
            )
            keys.append(key)
            days.append(_sums(place, spent, key.size))
    cells, place = np.unique(np.concatenate(keys), return_inverse=True)
    at_risk = _sums(place, np.concatenate(days), cells.size)

    counted = (birth_day >= begin[parent]) & (birth_day < exit_day[parent])
    mother, day = parent[counted], birth_day[counted]
    # Bands are compared as the cuts were made, so that rounding cannot part a birth from its time.
    band_of = np.zeros(mother.size, dtype=np.int64)
    for cut in cuts:
        band_of += day >= born_day[mother] + cut
    month_of = np.searchsorted(starts, day, side="right") - 1
    births = np.bincount(
        np.searchsorted(cells, key_of(unit[mother], band_of, month_of)), minlength=cells.size
    )
    return PersonTime(
        cells // (starts.size * (cuts.size + 1)),
        cells // starts.size % (cuts.size + 1),
        first + cells % starts.size,
        at_risk,
        births.astype(np.int64),
        tuple(cuts.tolist()),
        int((~counted).sum()),
    )


def _month_starts(first_day: float, last_day: float) -> tuple[int, Floats]:
    """First month (since 1970-01) and the days on which months begin, one past the last."""
    day = np.array([math.floor(first_day), math.floor(last_day)]).astype("datetime64[D]")
    low, high = day.astype("datetime64[M]").astype(np.int64).tolist()
    months = np.arange(low, high + 2).astype("datetime64[M]")
    return low, months.astype("datetime64[D]").astype(np.float64)


def _by_month(start: Floats, stop: Floats, starts: Floats) -> tuple[Ints, Ints, Floats]:
    """Cut spans at the months: row of the span, month (index into `starts`), days."""
    low = np.searchsorted(starts, start, side="right") - 1
    high = np.searchsorted(starts, stop, side="left") - 1
    pieces = high - low + 1
    row = np.repeat(np.arange(start.size), pieces)
    month = np.arange(row.size) - np.repeat(np.cumsum(pieces) - pieces - low, pieces)
    spent = np.minimum(stop[row], starts[month + 1]) - np.maximum(start[row], starts[month])
    return row, month, spent


def _sums(group: Ints, values: NDArray[np.generic], n_groups: int) -> Floats:
    return np.asarray(np.bincount(group, weights=values, minlength=n_groups), dtype=np.float64)


def _blocks(items: Ints, size: int) -> list[Ints]:
    return [items[i : i + size] for i in range(0, items.size, size)]


# -- rates ----------------------------------------------------------------------------------------


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
        From :func:`person_time`.
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
    days = _sums(cell, time.days[rows], sample.size)
    births = _sums(cell, time.births[rows], sample.size)
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


# -- lineages through time ------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class LineageCounts:
    """Lineages at the end of each month that was watched to its end; counts, not estimates.

    Attributes
    ----------
    month : (m,)
        Months since January 1970.
    started : (m,)
        Lineages with a model by then.
    families : (m,)
        Those with at least two models by then.
    active : (m,)
        Those with a birth (or their founding) in the `window_days` before.
    """

    month: Ints
    started: Ints
    families: Ints
    active: Ints
    window_days: float


def lineages_through_time(
    lineage: Ints, born_day: Floats, until_day: float, *, window_days: float = 180.0
) -> LineageCounts:
    """Count the lineages that exist, month by month.

    Parameters
    ----------
    lineage : (n,)
        Founder (or clade) of each model.
    born_day : (n,)
        Birth in days since 1970 UTC; models without one are not counted.
    until_day
        End of the time observed; a month that it cuts is left out.
    window_days
        A lineage without a birth for this long is not active. It may become so again.

    Raises
    ------
    ValueError
        If no model was born before `until_day`, or `window_days` is not above 0.

    Examples
    --------
    >>> counts = lineages_through_time(
    ...     np.array([1, 1, 2]), np.array([3.0, 40.0, 50.0]), 100.0, window_days=30.0
    ... )
    >>> counts.started.tolist(), counts.families.tolist(), counts.active.tolist()
    ([1, 2, 2], [0, 1, 1], [1, 2, 0])
    """
    known = np.isfinite(born_day) & (born_day < until_day)
    if not known.any():
        raise ValueError("no model was born before until_day")
    if not window_days > 0:
        raise ValueError(f"window_days must be above 0: {window_days}")
    order = np.lexsort((born_day[known], lineage[known]))
    label, day = lineage[known][order], born_day[known][order]
    opens = np.concatenate([[True], label[1:] != label[:-1]])
    second = np.concatenate([[False], opens[:-1]]) & ~opens
    following = np.where(np.concatenate([opens[1:], [True]]), np.inf, np.append(day[1:], np.inf))
    first, starts = _month_starts(float(day.min()), until_day)
    ends = starts[1:][starts[1:] <= until_day]

    def before(days: Floats) -> Ints:
        return np.searchsorted(np.sort(days), ends, side="left").astype(np.int64)

    ceased = np.minimum(following, day + window_days)
    return LineageCounts(
        first + np.arange(ends.size),
        before(day[opens]),
        before(day[second]),
        before(day) - before(ceased),
        window_days,
    )


# -- reproduction numbers -------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Monthly:
    """One estimate a month; `month` (m,) counts from January 1970."""

    month: Ints
    estimates: tuple[Estimate, ...]


def cohort_reproduction(
    fitness: Fitness, born_day: Floats, cluster: Ints, *, level: float = 0.95
) -> Monthly:
    """Mean children of the models born in each month (the cohort, or case, reproduction number).

    Parameters
    ----------
    fitness
        From :func:`lineage.evolution.selection.children_within`: NaN for models that have not been
        watched to the end of the window (right truncation).
    born_day : (n,)
        Birth in days since 1970 UTC; models without one are in no month. NaN hides a model: so a
        family is singled out.
    cluster : (n,)
        Independent group of each model: founders, or branches within one family.

    Returns
    -------
    Monthly
        Every month from the first birth to the last. NaN with the reason where nobody was born,
        somebody born then was not watched to the end, or fewer than 2 clusters were born. The
        error is that of a ratio of cluster sums (linearised, t with G−1), floored at 0; without
        any child the upper end is the Poisson bound ``−ln(1 − level)/G``.

    Notes
    -----
    Counts every parent of a merge, so that it exceeds growth where merges are many. Fraser (2007),
    PLoS ONE 2:e758, for cohort against instantaneous numbers.

    Raises
    ------
    ValueError
        If no birth is known, or the arrays differ in length.
    """
    if not fitness.values.shape == born_day.shape == cluster.shape:
        raise ValueError("give every model one fitness, one birth and one cluster")
    dated = np.flatnonzero(np.isfinite(born_day))
    if not dated.size:
        raise ValueError("no birth is known")
    first, starts = _month_starts(float(born_day[dated].min()), float(born_day[dated].max()))
    month = np.searchsorted(starts, born_day[dated], side="right") - 1
    cohorts = np.split(
        dated[np.argsort(month, kind="stable")],
        np.cumsum(np.bincount(month, minlength=starts.size - 1))[:-1],
    )
    method = f"mean over the models born in the month; {fitness.method}"
    estimates = [
        _clustered_mean(fitness.values[models], cluster[models], level, method)
        for models in cohorts
    ]
    return Monthly(first + np.arange(starts.size - 1), tuple(estimates))


def _clustered_mean(values: Floats, cluster: Ints, level: float, method: str) -> Estimate:
    labels, group = np.unique(cluster, return_inverse=True)
    n, n_clusters = values.size, labels.size
    unwatched = int(np.isnan(values).sum())
    if n_clusters < 2 or unwatched:
        reason = f"{unwatched} of {n} models born then not watched to the end"
        if not unwatched:
            reason = f"{n_clusters} independent groups born then, 2 needed"
        return untrusted(n, level, method, reason, n_clusters)
    mean = float(values.mean())
    if mean == 0:
        high = -math.log(1 - level) / n_clusters
        return Estimate(0.0, 0.0, high, level, n, f"{method}; no child: Poisson bound", n_clusters)
    sums = np.bincount(group, weights=values - mean, minlength=n_clusters)
    error = math.sqrt(n_clusters / (n_clusters - 1) * float(sums @ sums)) / n
    reach = float(student_t.ppf((1 + level) / 2, n_clusters - 1)) * error
    method = f"{method}; clustered SE {error:.4g}"
    return Estimate(mean, max(mean - reach, 0.0), mean + reach, level, n, method, n_clusters)


def generation_interval(
    graph: LineageGraph,
    born_day: Floats,
    until_day: float,
    *,
    window_days: int = 180,
    members: NDArray[np.bool_] | None = None,
) -> tuple[Floats, int]:
    """Distribution of the age of a model at its children's births, up to `window_days`.

    Only parents that were watched through the whole window take part: the intervals of younger
    ones are cut short, which would make generations look faster than they are.

    Parameters
    ----------
    graph, born_day, until_day
        Pedigree, births in days (NaN unknown), end of the time observed.
    members : (n,)
        Children to be counted; all if None.

    Returns
    -------
    probability : (window_days + 1,)
        Share of intervals of 0, 1, … whole days, over primary parents; NaN if there are none.
    n
        Intervals it rests on.
    """
    age, parent = _primary_age(graph, born_day)
    counted = (age >= 0) & (age <= window_days)
    counted &= np.floor(born_day[parent]) + window_days < math.floor(until_day)
    if members is not None:
        counted &= members
    count = np.bincount(age[counted].astype(np.int64), minlength=window_days + 1)
    n = int(count.sum())
    return (count / n if n else np.full(window_days + 1, np.nan)), n


def _primary_age(graph: LineageGraph, born_day: Floats) -> tuple[Floats, Ints]:
    """Whole days from the primary parent's birth to each model's; NaN for founders."""
    parent = graph.primary
    day = np.floor(born_day)
    return np.where(parent >= 0, day - day[parent], np.nan), parent


def infectiousness(births: Floats, interval: Floats) -> Floats:
    """Births that would be expected on each day if every model had one child in all, shape (d,).

    ``Λ_t = Σ_s w_s I_{t−s}`` (Cori et al. 2013, eq. 1), s from 0: parent and child may share a day.
    """
    return np.convolve(births, interval)[: births.size]


def reproduction_posterior(
    n_births: int,
    pressure: float,
    *,
    method: str,
    level: float = 0.95,
    prior_shape: float = 1.0,
    prior_scale: float = 5.0,
) -> Estimate:
    """Gamma posterior of a reproduction number from births and their expectation at R = 1.

    Shape ``a + n``, rate ``1/b + Λ`` (Cori et al. 2013, Am J Epidemiol 178:1505, web appendix 1);
    the value is the posterior mean. NaN where Λ < 1: fewer than one birth could be expected, and
    the prior would speak.
    """
    method = f"{method}; gamma posterior, prior shape {prior_shape:g} scale {prior_scale:g}"
    if not pressure >= 1:
        reason = f"{pressure:.2g} births expected at R = 1, 1 needed"
        return Estimate(
            math.nan, math.nan, math.nan, level, n_births, f"{method}; not estimated: {reason}"
        )
    shape, scale = prior_shape + n_births, 1 / (1 / prior_scale + pressure)
    low, high = (
        float(gamma_law.ppf((1 + side * level) / 2, shape, scale=scale)) for side in (-1, 1)
    )
    value = shape * scale
    return Estimate(value, min(low, value), max(high, value), level, n_births, method)


def instantaneous_reproduction(
    graph: LineageGraph,
    born_day: Floats,
    until_day: float,
    *,
    window_days: int = 180,
    members: NDArray[np.bool_] | None = None,
    level: float = 0.95,
) -> Monthly:
    """Children that a model would have within the window if each month's conditions lasted.

    Births of the month to parents of at most `window_days`, over those that would be expected if
    every member had one child in all, at an age drawn from :func:`generation_interval`.

    Parameters
    ----------
    graph
        The pedigree; primary parents count.
    born_day : (n,)
        Births in days since 1970 UTC; models without one take part on neither side.
    until_day
        End of the time observed.
    window_days
        Ages at which births count.
    members : (n,)
        The family: a birth counts if child and primary parent belong to it. All models if None.

    Returns
    -------
    Monthly
        NaN with the reason where the month was not watched to its end, nobody could be expected
        to have a child, or fewer than `MIN_INTERVALS` intervals are known. The intervals take
        births as independent and the generation interval as known and constant: they are too
        narrow where a few models have most of the children.

    Raises
    ------
    ValueError
        If no member's birth is known, or `members` is no mask of the models.

    Examples
    --------
    >>> ids = [f"m{i}" for i in range(80)]
    >>> chain = [(ids[i], ids[i - 1], 1.0, 0) for i in range(1, 80)]
    >>> days = np.arange(80) * 5.0
    >>> monthly = instantaneous_reproduction(
    ...     LineageGraph.from_edges(ids, chain), days, 400.0, window_days=30
    ... )
    >>> round(monthly.estimates[4].value, 2)  # one child each; the prior pulls up a little
    1.11
    """
    if members is None:
        members = np.ones(len(graph), dtype=bool)
    if members.shape != (len(graph),) or born_day.shape != (len(graph),):
        raise ValueError(f"{len(graph)} models: give each a birth and a place in the mask")
    taking_part = members & np.isfinite(born_day) & (born_day < until_day)
    if not taking_part.any():
        raise ValueError("no member was born at a known time before until_day")
    interval, n_intervals = generation_interval(
        graph, born_day, until_day, window_days=window_days, members=members
    )
    undated = int((members & ~np.isfinite(born_day)).sum())
    method = (
        f"instantaneous reproduction number (Cori et al. 2013) within {window_days} d over primary "
        f"parents, {n_intervals} generation intervals of parents watched that long, "
        f"{undated} undated members left out; takes births as independent"
    )
    day = np.floor(born_day[taking_part]).astype(np.int64)
    first, starts = _month_starts(float(day.min()), float(until_day))
    origin, n_days = int(starts[0]), int(starts[-1] - starts[0])
    age, parent = _primary_age(graph, born_day)
    begotten = taking_part & members[parent] & (age >= 0) & (age <= window_days)
    births = np.bincount(np.floor(born_day[begotten]).astype(np.int64) - origin, minlength=n_days)
    pressure = infectiousness(np.bincount(day - origin, minlength=n_days).astype(float), interval)
    estimates = []
    for start, stop in pairwise(starts.tolist()):
        span = slice(int(start) - origin, int(stop) - origin)
        n = int(births[span].sum())
        reason = None
        if stop > math.floor(until_day):
            reason = "the month was not watched to its end"
        elif n_intervals < MIN_INTERVALS:
            reason = f"{n_intervals} generation intervals, {MIN_INTERVALS} needed"
        estimates.append(
            reproduction_posterior(n, float(pressure[span].sum()), method=method, level=level)
            if reason is None
            else Estimate(
                math.nan, math.nan, math.nan, level, n, f"{method}; not estimated: {reason}"
            )
        )
    return Monthly(first + np.arange(starts.size - 1), tuple(estimates))

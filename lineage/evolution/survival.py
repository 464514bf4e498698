"""Time to the first child: Kaplan–Meier, log-rank, and Cox regression.

A model is watched from `entry` (left truncation) to `time`, where it has its first child (`event`)
or is lost from sight childless (right censoring). It is at risk at t if ``entry < t <= time``; that
a model has not yet had time for a child thus biases nothing. The code is our own because whoever
has late entries needs it: statsmodels 0.15 keeps a model at risk at the instant of its entry, which
moves the Cox coefficients of tied counting-process data in the second digit, and takes time
quadratic in the models. Everything here agrees with R's *survival* where R has it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, norm
from scipy.stats import t as student_t

from lineage.evolution.clusters import untrusted
from lineage.graph import LineageGraph
from lineage.model import Estimate

__all__ = [
    "CoxFit",
    "Lifetimes",
    "LogRank",
    "SurvivalCurve",
    "cox",
    "first_child",
    "kaplan_meier",
    "log_rank",
    "median_survival",
    "survival_at",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ties = Literal["efron", "breslow"]

MIN_CLUSTERS = 3

_MAX_STEPS = 50
_TOLERANCE = 1e-11
_RUNAWAY = 30.0  # log hazard per standard deviation: no data say this, a separation does
_SINGULAR = 1e-10
_SPENT = 1e-6  # share of the information at 0 below which the likelihood has gone flat


@dataclass(frozen=True, eq=False)
class Lifetimes:
    """When each model was watched, on its own clock, and how that ended.

    Attributes
    ----------
    time : (n,)
        Age in days at the first child, or at which watching ended; NaN where unknown.
    event : (n,)
        Whether it ended with a child.
    entry : (n,)
        Age after which the model was watched; −inf from birth on.

    Raises
    ------
    ValueError
        If the lengths differ, or a known time does not exceed its entry.
    """

    time: Floats
    event: Bools
    entry: Floats

    def __post_init__(self) -> None:
        if not self.time.shape == self.event.shape == self.entry.shape:
            raise ValueError("give every model one time, one event and one entry")
        if np.isnan(self.entry).any() or (self.time <= self.entry).any():
            raise ValueError("every entry must be known and lie before its time")

    @staticmethod
    def of(time: Floats, event: NDArray[np.generic], entry: Floats | None = None) -> Lifetimes:
        """Lifetimes from arrays; without `entry` all are watched from the beginning."""
        if entry is None:
            entry = np.full(time.shape, -np.inf)
        return Lifetimes(time.astype(float), event.astype(bool), entry.astype(float))

    def __len__(self) -> int:
        return self.time.size

    def where(self, keep: NDArray[np.generic]) -> Lifetimes:
        """Those of the models in a mask or an index."""
        return Lifetimes(self.time[keep], self.event[keep], self.entry[keep])


def first_child(
    graph: LineageGraph,
    born_day: Floats,
    until_day: float,
    *,
    watched_from: float = -math.inf,
    gone_day: Floats | None = None,
) -> Lifetimes:
    """Age at the first child of every model of a pedigree.

    Parameters
    ----------
    graph
        The pedigree; every parent of a merge has the child.
    born_day : (n,)
        Births in days, NaN unknown. Children of unknown birth, or dated before the parent, are not
        seen, so that their parent's first child may be dated too late.
    until_day
        End of the time observed.
    watched_from
        Day before which a model that vanished would not be known. Older models enter late; those
        that had a child before are left out (NaN), since the childless among their peers may be
        missing.
    gone_day : (n,)
        When a model was withdrawn, NaN if it was not; it is watched no further.

    Returns
    -------
    Lifetimes
        Time NaN for models of unknown birth, and for those not watched at all.
    """
    n = len(graph)
    ends = np.full(n, until_day) if gone_day is None else np.fmin(gone_day, until_day)
    age = born_day[graph.edge_child] - born_day[graph.parent_index]
    first = np.full(n, np.inf)
    seen = age >= 0
    np.minimum.at(first, graph.parent_index[seen], age[seen])
    watched = ends - born_day
    event = first <= watched
    time = np.where(event, first, watched)
    entry = np.where(watched_from > born_day, watched_from - born_day, -np.inf)
    known = np.isfinite(time) & (time >= 0) & (time > entry)
    return Lifetimes(np.where(known, time, np.nan), event & known, np.where(known, entry, -np.inf))


# -- Kaplan–Meier ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SurvivalCurve:
    """Kaplan–Meier estimate at each distinct event time, all shape (k,).

    `std_error` is Greenwood's, ``[low, high]`` its interval on the log scale, as in R; both take
    lifetimes as independent (see :func:`survival_at`) and are NaN once the curve is 0.
    """

    time: Floats
    at_risk: Ints
    events: Ints
    survival: Floats
    std_error: Floats
    low: Floats
    high: Floats
    level: float
    n: int


def kaplan_meier(lives: Lifetimes, *, level: float = 0.95) -> SurvivalCurve:
    """Share of models still childless by age, ``S(t) = Π_{s≤t} (1 − d_s/Y_s)``.

    Y counts the models with ``entry < s <= time`` (Kaplan & Meier 1958; left truncation: Tsai,
    Jewell & Wang 1987). Models of unknown time are left out.

    Raises
    ------
    ValueError
        If no model has a known time.

    Notes
    -----
    With late entries the first risk sets may be so small that all in one have a child; the curve
    then is 0 for good, whatever follows. Condition on a later age if this happens.

    Examples
    --------
    >>> import numpy as np
    >>> lives = Lifetimes.of(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1, 0, 1, 0]))
    >>> kaplan_meier(lives).survival.tolist()
    [0.75, 0.375]
    """
    lives = _known(lives)
    time, at_risk, events = _risk_sets(lives)
    share = events / at_risk
    survival = np.asarray(np.cumprod(1 - share), dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_error = np.sqrt(np.cumsum(events / (at_risk * (at_risk - events).astype(float))))
        log_error[survival <= 0] = np.nan
        reach = float(norm.ppf((1 + level) / 2)) * log_error
        low, high = survival * np.exp(-reach), np.minimum(survival * np.exp(reach), 1.0)
    return SurvivalCurve(
        time, at_risk, events, survival, survival * log_error, low, high, level, len(lives)
    )


def survival_at(
    lives: Lifetimes, ages: Floats, cluster: Ints, *, level: float = 0.95
) -> tuple[Estimate, ...]:
    """Kaplan–Meier at chosen ages, with intervals that take founders as independent.

    The variance of log S is ``Σ_g (Σ_{i∈g} L_i)²`` with the infinitesimal jackknife
    ``L_i = −∫ (dN_i − Y_i dN/Y) / (Y − dN)``, which is Greenwood's exactly if every model is a
    cluster of its own and none enters late (Williams 1995, Biometrics 51:1211). Interval on the
    log scale, normal.

    Parameters
    ----------
    ages : (k,)
        Ages in days.
    cluster : (n,)
        Founder of each model.

    Returns
    -------
    tuple of Estimate
        NaN with the reason beyond the last age watched, where the curve has come to 0, and with
        fewer than 3 clusters.

    Raises
    ------
    ValueError
        If no model has a known time, or `cluster` has another length.
    """
    if cluster.shape != lives.time.shape:
        raise ValueError(f"{len(lives)} models, {cluster.size} clusters given")
    cluster = cluster[np.isfinite(lives.time)]
    lives = _known(lives)
    labels, group = np.unique(cluster, return_inverse=True)
    method = "Kaplan–Meier, founder-clustered infinitesimal jackknife, log interval"
    curve = kaplan_meier(lives, level=level)
    z = float(norm.ppf((1 + level) / 2))
    estimates = []
    for age in ages.tolist():
        k = int(np.searchsorted(curve.time, age, side="right"))
        survival = float(curve.survival[k - 1]) if k else 1.0
        reason = None
        if labels.size < MIN_CLUSTERS:
            reason = f"{labels.size} independent groups, {MIN_CLUSTERS} needed"
        elif not survival > 0:
            reason = f"all at risk at {curve.time[curve.survival <= 0][0]:g} d had a child"
        elif age > lives.time.max():
            reason = f"nobody was watched beyond {lives.time.max():g} d"
        if reason is not None:
            estimates.append(untrusted(len(lives), level, method, reason, labels.size))
            continue
        sums = np.bincount(group, weights=_influence(lives, curve, k), minlength=labels.size)
        reach = z * math.sqrt(float(sums @ sums))
        estimates.append(
            Estimate(
                survival,
                survival * math.exp(-reach),
                min(survival * math.exp(reach), 1.0),
                level,
                len(lives),
                method,
                labels.size,
            )
        )
    return tuple(estimates)


def median_survival(lives: Lifetimes, cluster: Ints, *, level: float = 0.95) -> Estimate:
    """Age by which half the models have had a child.

    The first age with ``S <= ½`` (the middle of the step where S is ½ exactly). The interval holds
    the ages at which the interval of S holds ½ (Brookmeyer & Crowley 1982), as in R; Greenwood's
    error is scaled by its ratio to the clustered one at the median. `high` is inf where it is not
    reached; NaN with the reason where the median itself is not.

    Parameters
    ----------
    cluster : (n,)
        Founder of each model.

    Raises
    ------
    ValueError
        If no model has a known time, or `cluster` has another length.
    """
    if cluster.shape != lives.time.shape:
        raise ValueError(f"{len(lives)} models, {cluster.size} clusters given")
    cluster = cluster[np.isfinite(lives.time)]
    lives = _known(lives)
    labels, group = np.unique(cluster, return_inverse=True)
    method = "median of Kaplan–Meier, log interval inverted, design effect of founders"
    curve = kaplan_meier(lives, level=level)
    # A product of fractions that is ½ on paper may miss it in the last digit.
    half = 0.5 + 1e-12
    below = np.flatnonzero(curve.survival <= half)
    if labels.size < MIN_CLUSTERS:
        reason = f"{labels.size} independent groups, {MIN_CLUSTERS} needed"
        return untrusted(len(lives), level, method, reason, labels.size)
    if not below.size:
        reason = "more than half of the models stayed childless as long as they were watched"
        return untrusted(len(lives), level, method, reason, labels.size)
    k = int(below[0])
    value = float(curve.time[k])
    if abs(curve.survival[k] - 0.5) <= 1e-12 and k + 1 < curve.time.size:
        value = (value + float(curve.time[k + 1])) / 2
    log_error = curve.std_error / np.where(curve.survival > 0, curve.survival, np.nan)
    at = k if curve.survival[k] > 0 else k - 1
    effect = 1.0
    if at >= 0:
        sums = np.bincount(group, weights=_influence(lives, curve, at + 1))
        effect = math.sqrt(float(sums @ sums)) / float(log_error[at])
    reach = float(norm.ppf((1 + level) / 2)) * effect * log_error
    # Where the curve has come to 0, so have both its limits.
    low, high = (
        np.nan_to_num(curve.survival * np.exp(side * reach), nan=0.0) <= half for side in (-1, 1)
    )
    return Estimate(
        value,
        min(float(curve.time[low][0]), value),
        max(float(curve.time[high][0]) if high.any() else math.inf, value),
        level,
        len(lives),
        method,
        labels.size,
    )


def _known(lives: Lifetimes) -> Lifetimes:
    known = np.isfinite(lives.time)
    if not known.any():
        raise ValueError("no model has a known time")
    return lives.where(known)


def _risk_sets(lives: Lifetimes) -> tuple[Floats, Ints, Ints]:
    """Distinct event times, models at risk at each, events at each."""
    time, events = np.unique(lives.time[lives.event], return_counts=True)
    leave, enter = np.sort(lives.time), np.sort(lives.entry)
    at_risk = np.searchsorted(enter, time, side="left") - np.searchsorted(leave, time, side="left")
    return time, at_risk.astype(np.int64), events.astype(np.int64)


def _influence(lives: Lifetimes, curve: SurvivalCurve, k: int) -> Floats:
    """Derivative of log S after the first k event times by each model's weight."""
    at_risk, events = curve.at_risk[:k], curve.events[:k]
    left = (at_risk - events).astype(float)
    hazard = np.concatenate([[0.0], np.cumsum(events / (at_risk * left))])
    stop = np.searchsorted(curve.time[:k], lives.time, side="right")
    start = np.searchsorted(curve.time[:k], lives.entry, side="right")
    influence = hazard[stop] - hazard[start]
    own = lives.event & (stop > 0)
    own[own] = curve.time[:k][stop[own] - 1] == lives.time[own]
    influence[own] -= 1 / left[stop[own] - 1]
    return np.asarray(influence)


# -- log-rank -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class LogRank:
    """Test that groups have one hazard; it takes lifetimes as independent.

    `observed` and `expected` first children by group, in order of `labels`. With related models
    use :func:`cox` on the group with clusters: its robust Wald test.
    """

    labels: NDArray[np.generic]
    observed: Ints
    expected: Floats
    statistic: float
    df: int
    p_value: float


def log_rank(lives: Lifetimes, group: NDArray[np.generic]) -> LogRank:
    """Log-rank test (Mantel 1966; Peto & Peto 1972), with left truncation.

    Parameters
    ----------
    group : (n,)
        Label of each model.

    Raises
    ------
    ValueError
        If fewer than two groups have a known time, or nobody had a child.
    """
    if group.shape != lives.time.shape:
        raise ValueError(f"{len(lives)} models, {group.size} labels given")
    group = group[np.isfinite(lives.time)]
    lives = _known(lives)
    labels, code = np.unique(group, return_inverse=True)
    if labels.size < 2 or not lives.event.any():
        raise ValueError("give two groups with known times, and at least one first child")
    time, at_risk, events = _risk_sets(lives)
    here, born = np.empty((2, labels.size, time.size))
    for k in range(labels.size):
        own = lives.where(code == k)
        here[k] = np.searchsorted(np.sort(own.entry), time, side="left") - np.searchsorted(
            np.sort(own.time), time, side="left"
        )
        place = np.searchsorted(time, own.time[own.event])
        born[k] = np.bincount(place, minlength=time.size)
    expected = here * (events / at_risk)
    share = here / at_risk
    # Hypergeometric variance; a risk set of one cannot surprise.
    spread = events * (at_risk - events) / np.maximum(at_risk - 1, 1)
    variance = np.diag((share * spread).sum(axis=1)) - (share * spread) @ share.T
    excess = (born - expected).sum(axis=1)
    statistic = float(excess[1:] @ np.linalg.pinv(variance[1:, 1:]) @ excess[1:])
    df = labels.size - 1
    return LogRank(
        labels,
        born.sum(axis=1).astype(np.int64),
        expected.sum(axis=1),
        statistic,
        df,
        float(chi2.sf(statistic, df)),
    )


# -- Cox ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class CoxFit:
    """Proportional hazards of the first child.

    Attributes
    ----------
    hazard_ratios
        By covariate, per unit of it; clustered where clusters were given.
    log_ratio : (p,)
        Coefficients, NaN where not estimated.
    covariance : (p, p)
        Inverse information: lifetimes independent.
    robust_covariance : (p, p)
        Lin & Wei's sandwich over the clusters (each row its own without), no small-sample factor.
    log_likelihood, null_log_likelihood
        Partial, at the estimate and at 0.
    concordance
        Chance that of two models the one with the higher hazard has its child first (Harrell),
        ties ½; clustered infinitesimal jackknife.
    """

    hazard_ratios: Mapping[str, Estimate]
    log_ratio: Floats
    covariance: Floats
    robust_covariance: Floats
    log_likelihood: float
    null_log_likelihood: float
    concordance: Estimate


def cox(
    lives: Lifetimes,
    covariates: Mapping[str, Floats],
    cluster: Ints | None = None,
    *,
    ties: Ties = "efron",
    level: float = 0.95,
) -> CoxFit:
    """Cox regression with tied times, late entry and counting-process rows.

    A model whose covariates change has several rows, each entered when the one before ends, all
    with the model's founder as their cluster.

    Parameters
    ----------
    lives
        Time at risk and how it ended.
    covariates
        By name, shape (n,); rows with a NaN are left out.
    cluster : (n,)
        Founder of each row. Without, intervals use the inverse information and the normal; with,
        the sandwich of score residuals (Lin & Wei 1989, J Am Stat Assoc 84:1074) times G/(G−1)
        and Student's t of G−1.
    ties
        Efron (1977), or Breslow (1974), which is rough where many share a day.

    Returns
    -------
    CoxFit
        All NaN, with the reason in each `method`, when there are no more events than covariates,
        fewer than 3 clusters, covariates that are constant or repeat each other, or one that
        separates those with a child from those without.

    Raises
    ------
    ValueError
        If there is no covariate, or lengths differ.

    Examples
    --------
    >>> import numpy as np
    >>> lives = Lifetimes.of(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1, 1, 1, 1]))
    >>> fit = cox(lives, {"x": np.array([1.0, 0.0, 1.0, 0.0])})
    >>> round(float(fit.log_ratio[0]), 4), round(fit.null_log_likelihood, 4)
    (0.9406, -3.1781)
    """
    names = list(covariates)
    if not names:
        raise ValueError("name at least one covariate")
    design = np.column_stack([np.asarray(values, dtype=float) for values in covariates.values()])
    if design.shape[0] != len(lives) or (cluster is not None and cluster.size != len(lives)):
        raise ValueError(f"{len(lives)} rows: give each every covariate and one cluster")
    keep = np.isfinite(lives.time) & np.isfinite(design).all(axis=1)
    lives, design = lives.where(keep), design[keep]
    group = np.arange(len(lives)) if cluster is None else cluster[keep]
    labels, group = np.unique(group, return_inverse=True)
    n_clusters = None if cluster is None else labels.size
    method = f"Cox regression, {ties.capitalize()} ties, {int(lives.event.sum())} events, " + (
        "inverse information, normal"
        if cluster is None
        else "founder-clustered sandwich (Lin & Wei 1989), t with G−1 df"
    )
    problem = _cox_problem(lives, design, labels.size if cluster is not None else None)
    fitted = None
    if problem is None:
        centre, scale = design.mean(axis=0), design.std(axis=0)
        partial = _Partial(lives, (design - centre) / scale, ties)
        fitted = _newton(partial)
        problem = "a covariate separates those with a child from those without"
    if fitted is None:
        nothing = Estimate(
            math.nan,
            math.nan,
            math.nan,
            level,
            len(lives),
            f"{method}; not estimated: {problem}",
            n_clusters,
        )
        empty = np.full((len(names), len(names)), np.nan)
        return CoxFit(
            dict.fromkeys(names, nothing), empty[0], empty, empty, math.nan, math.nan, nothing
        )
    standard, information = fitted
    bread = np.linalg.inv(information)
    scores = np.zeros((labels.size, len(names)))
    np.add.at(scores, group, partial.score_residuals(standard))
    sandwich = bread @ scores.T @ scores @ bread
    unit = np.outer(scale, scale)
    beta = standard / scale
    covariance, robust = bread / unit, sandwich / unit
    if cluster is None:
        error = np.sqrt(np.diag(covariance))
        reach = float(norm.ppf((1 + level) / 2)) * error
        p_values = 2 * norm.sf(np.abs(beta) / error)
    else:
        error = np.sqrt(np.diag(robust) * labels.size / (labels.size - 1))
        reach = float(student_t.ppf((1 + level) / 2, labels.size - 1)) * error
        p_values = 2 * student_t.sf(np.abs(beta) / error, labels.size - 1)
    ratios = {
        name: Estimate(
            math.exp(beta[k]),
            math.exp(beta[k] - reach[k]),
            math.exp(beta[k] + reach[k]),
            level,
            len(lives),
            f"{method}; SE of the log {error[k]:.4g}",
            n_clusters,
            float(p_values[k]),
        )
        for k, name in enumerate(names)
    }
    return CoxFit(
        ratios,
        beta,
        covariance,
        robust,
        partial.derivatives(standard)[0],
        partial.derivatives(np.zeros_like(standard))[0],
        _concordance(lives, partial.design @ standard, group, n_clusters, level),
    )


def _cox_problem(lives: Lifetimes, design: Floats, n_clusters: int | None) -> str | None:
    """Why nothing can be fitted, None when it can."""
    n_events = int(lives.event.sum())
    if n_events <= design.shape[1]:
        return f"{n_events} events for {design.shape[1]} covariates"
    if n_clusters is not None and n_clusters < MIN_CLUSTERS:
        return f"{n_clusters} independent groups, {MIN_CLUSTERS} needed"
    spread = np.ptp(design, axis=0)
    if (spread <= _SINGULAR * np.abs(design).max(axis=0)).any():
        return "a covariate does not vary"
    standard = (design - design.mean(axis=0)) / design.std(axis=0)
    if np.linalg.eigvalsh(standard.T @ standard / len(lives))[0] < _SINGULAR:
        return "covariates repeat each other"
    return None


class _Partial:
    """The partial likelihood of one data set.

    Sums over risk sets are differences of cumulative sums, as each row is at risk for a run of
    event times; sums over event times of sums over risk sets are taken in the other order. So a
    step costs O(n p²) and no second moment of any risk set is ever held.
    """

    def __init__(self, lives: Lifetimes, design: Floats, ties: Ties) -> None:
        self.design = design
        self.event = lives.event
        time, deaths = np.unique(lives.time[lives.event], return_counts=True)
        self.n_times = time.size
        self.start = np.searchsorted(time, lives.entry, side="right")
        self.stop = np.searchsorted(time, lives.time, side="right")
        self.own = self.stop[lives.event] - 1
        # One term for each event; Efron's l-th of d tied ones has shed l/d of their weight.
        self.term = np.repeat(np.arange(time.size), deaths)
        order = np.arange(self.term.size) - np.repeat(np.cumsum(deaths) - deaths, deaths)
        self.shed = order / deaths[self.term] if ties == "efron" else np.zeros(self.term.size)

    def _over_risk_sets(self, values: Floats) -> Floats:
        """Sum of `values` (n,) over the rows at risk at each event time."""
        gone = np.bincount(self.stop, weights=values, minlength=self.n_times + 1)
        came = np.bincount(self.start, weights=values, minlength=self.n_times + 1)
        return np.asarray(np.cumsum((gone - came)[::-1])[::-1][1:])

    def _terms(self, beta: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Linear predictor, its exponential, each term's denominator and mean covariate."""
        eta = self.design @ beta
        weight = np.exp(eta)
        tied = np.bincount(self.own, weights=weight[self.event], minlength=self.n_times)
        total = self._over_risk_sets(weight)[self.term] - self.shed * tied[self.term]
        mean = np.empty((self.term.size, beta.size))
        for k, column in enumerate(self.design.T):
            moment = weight * column
            tied = np.bincount(self.own, weights=moment[self.event], minlength=self.n_times)
            mean[:, k] = self._over_risk_sets(moment)[self.term] - self.shed * tied[self.term]
        return eta, weight, total, mean / total[:, None]

    def _along_rows(self, values: Floats) -> Floats:
        """Sum of per-term values over each row's run at risk, less what Efron sheds of it."""
        whole = np.bincount(self.term, weights=values, minlength=self.n_times)
        shed = np.bincount(self.term, weights=values * self.shed, minlength=self.n_times)
        summed = np.concatenate([[0.0], np.cumsum(whole)])
        rows = summed[self.stop] - summed[self.start]
        rows[self.event] -= shed[self.own]
        return np.asarray(rows)

    def derivatives(self, beta: Floats) -> tuple[float, Floats, Floats]:
        """Log partial likelihood, score, and information."""
        eta, weight, total, mean = self._terms(beta)
        value = float(eta[self.event].sum() - np.log(total).sum())
        score = self.design[self.event].sum(axis=0) - mean.sum(axis=0)
        hazard = weight * self._along_rows(1 / total)
        second = self.design.T @ (self.design * hazard[:, None])
        return value, score, second - mean.T @ mean

    def score_residuals(self, beta: Floats) -> Floats:
        """Each row's part in the score, shape (n, p): derivative of the score by its weight."""
        _, weight, total, mean = self._terms(beta)
        deaths = np.bincount(self.term, minlength=self.n_times)
        hazard = weight * self._along_rows(1 / total)
        residuals = np.empty_like(self.design)
        for k, column in enumerate(self.design.T):
            expected = np.bincount(self.term, weights=mean[:, k], minlength=self.n_times) / deaths
            residuals[:, k] = weight * self._along_rows(mean[:, k] / total) - column * hazard
            residuals[self.event, k] += column[self.event] - expected[self.own]
        return residuals


def _newton(partial: _Partial) -> tuple[Floats, Floats] | None:
    """Maximum of the partial likelihood and its information; None if there is none."""
    beta = np.zeros(partial.design.shape[1])
    value, score, information = partial.derivatives(beta)
    least = max(_SINGULAR, _SPENT * float(np.linalg.eigvalsh(information)[0]))
    for _ in range(_MAX_STEPS):
        if np.linalg.eigvalsh(information)[0] <= least:
            return None
        step = np.linalg.solve(information, score)
        # Half the Newton decrement is what the likelihood can still gain.
        if float(score @ step) < _TOLERANCE * (1 + abs(value)):
            # This close, one more step squares what error is left.
            return beta + step, partial.derivatives(beta + step)[2]
        # Halved until it climbs: far from the top a full step may overshoot.
        for _ in range(_MAX_STEPS):
            if np.abs(beta + step).max() <= _RUNAWAY:
                found = partial.derivatives(beta + step)
                if found[0] > value:
                    break
            step = step / 2
        else:
            return None
        beta = beta + step
        value, score, information = found
    return None


def _concordance(
    lives: Lifetimes, risk: Floats, group: Ints, n_clusters: int | None, level: float
) -> Estimate:
    """Harrell's C over pairs of an event and a row that outlasts it, watched at that time."""
    method = "concordance of hazard and order of first children (Harrell), infinitesimal jackknife"
    # Ranks of risks that differ by rounding alone are ties.
    _, rank = np.unique(np.round(risk, 10), return_inverse=True)
    n = len(lives)
    # Rows in order of leaving, events before those who are censored on the same day.
    leaving = np.lexsort((~lives.event, lives.time))
    events = leaving[lives.event[leaving]]
    entering = np.argsort(lives.entry, kind="stable")
    at = lives.time[events]
    outlast = np.searchsorted(lives.time[leaving], at, side="left") + (
        np.searchsorted(at, at, side="right") - np.searchsorted(at, at, side="left")
    )
    late = np.searchsorted(lives.entry[entering], at, side="left")
    end = np.full(events.size, n)
    below, tied, pairs = np.zeros((3, n), dtype=np.int64)  # of each row, as event or partner
    lower, same = (
        _count_below(rank[leaving], outlast, end, rank[events] + more)
        - _count_below(rank[entering], late, end, rank[events] + more)
        for more in (0, 1)
    )
    below[events], tied[events] = lower, same - lower
    pairs[events] = (n - outlast) - (n - late)
    first = np.searchsorted(at, lives.entry, side="right")
    last = np.where(
        lives.event,
        np.searchsorted(at, lives.time, side="left"),
        np.searchsorted(at, lives.time, side="right"),
    )
    lower, same = (_count_below(rank[events], first, last, rank + more) for more in (0, 1))
    concordant = below + (last - first - same)
    tied = tied + same - lower
    pairs = pairs + last - first
    total = int(pairs.sum())  # each pair twice, which cancels
    if not total:
        return Estimate(
            math.nan,
            math.nan,
            math.nan,
            level,
            n,
            f"{method}; not estimated: no two rows can be compared",
            n_clusters,
        )
    won = concordant + tied / 2
    value = float(won.sum()) / total
    sums = np.bincount(group, weights=won - value * pairs) * 2 / total
    reach = float(norm.ppf((1 + level) / 2)) * math.sqrt(float(sums @ sums))
    return Estimate(
        value, max(value - reach, 0.0), min(value + reach, 1.0), level, n, method, n_clusters
    )


def _count_below(ranks: Ints, low: Ints, high: Ints, limit: Ints) -> Ints:
    """How many of ``ranks[low:high]`` lie below `limit`, for many queries at once.

    A wavelet matrix (Claude & Navarro 2012): bit by bit from the highest, ranks are split into
    zeros and ones and each query follows its limit. O((n + queries) log n).
    """
    count = np.zeros(limit.size, dtype=np.int64)
    highest = max(int(limit.max(initial=0)), int(ranks.max(initial=0)))
    for bit in reversed(range(highest.bit_length())):
        ones = (ranks >> bit) & 1
        zeros = np.concatenate([[0], np.cumsum(1 - ones)])
        taken = (limit >> bit) & 1 == 1
        count += np.where(taken, zeros[high] - zeros[low], 0)
        low, high = (np.where(taken, zeros[-1] + i - zeros[i], zeros[i]) for i in (low, high))
        ranks = np.concatenate([ranks[ones == 0], ranks[ones == 1]])
    return count

"""Time to the first child: Kaplan–Meier curves and the log-rank test.

A model is watched from `entry` (left truncation) to `time`, where it has its first child (`event`)
or is lost from sight childless (right censoring). It is at risk at t if ``entry < t <= time``; that
a model has not yet had time for a child thus biases nothing. Everything here agrees with R's
*survival* where R has it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, norm

from lineage.evolution.clusters import untrusted
from lineage.graph import LineageGraph
from lineage.model import Estimate

__all__ = [
    "MIN_CLUSTERS",
    "Lifetimes",
    "LogRank",
    "SurvivalCurve",
    "first_child",
    "kaplan_meier",
    "log_rank",
    "median_survival",
    "survival_at",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

MIN_CLUSTERS = 3
"""Founders below which nothing is told from the differences among them."""


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
    use :func:`lineage.evolution.time.cox.cox` on the group with clusters: its robust Wald test.
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

"""Turnover: who enters the top list, which families gain and lose share, which have gone silent.

Under copying without preference a list of the ℓ most copied changes by about ``z = ℓ √μ`` places a
generation, μ being the share of births by parents that nobody had copied before (Bentley, Lipo,
Herzog & Hahn 2007, Evol Hum Behav 28:151). That is an approximation under Wright–Fisher
generations and wrong under Moran's overlapping ones (Evans & Giometto 2011, arXiv:1105.4044); the
Hub has no generations. It is a yardstick, not a test of neutrality.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from lineage.evolution.clusters import MIN_BOOTSTRAP_CLUSTERS, cluster_bootstrap, untrusted
from lineage.model import Estimate

__all__ = [
    "ShareChange",
    "SilentLineages",
    "TopTurnover",
    "neutral_turnover",
    "share_changes",
    "silent_lineages",
    "top_turnover",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_MONTHS_A_BLOCK = 3  # neighbouring months share most of their lists


# -- top lists ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class TopTurnover:
    """Entries into the list of the `size` highest counts, month by month.

    Attributes
    ----------
    month : (m,)
        Every month from the first with a count to the last, since January 1970.
    entered : (m,)
        Models in the list that were not in that of the month before (as many left it); NaN where
        either list cannot be made. A count of what was observed, without error.
    tied : (m,)
        Places of the list that went by model number alone, among more models of equal count. If
        they are many, so may be the entries for no reason.
    reason
        Why `entered` is NaN, empty where it is not.
    mean
        Mean entries a month; months in blocks of a quarter are resampled.
    """

    size: int
    month: Ints
    entered: Floats
    tied: Ints
    reason: tuple[str, ...]
    mean: Estimate


def top_turnover(
    month: Ints,
    model: Ints,
    count: Floats,
    size: int,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    n_resamples: int = 2000,
) -> TopTurnover:
    """Turnover z(ℓ) of the list of the ℓ most reproduced (or downloaded) models.

    Parameters
    ----------
    month, model, count : (r,)
        Children, or downloads, of a model in a month. Rows of one model and month are added up; a
        model without a row has none; rows with a NaN count are left out. Give downloads only for
        months for which all models were asked, since whoever is missing cannot be in the list.
    size
        ℓ, places of the list. Ties for the last places go to the lower model number, so number
        models by date or name.
    rng
        Source of the resamples of `mean`.

    Raises
    ------
    ValueError
        If shapes differ, a count is negative, all are missing or 0, or `size` is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> month, model = np.array([0, 0, 1, 1, 1]), np.array([7, 8, 7, 8, 9])
    >>> top_turnover(
    ...     month, model, np.array([5.0, 3, 5, 1, 4]), 2, rng=np.random.default_rng(1)
    ... ).entered.tolist()
    [nan, 1.0]
    """
    if size < 1:
        raise ValueError(f"a list has at least one place: {size}")
    if not month.shape == model.shape == count.shape:
        raise ValueError("give every row one month, one model and one count")
    if (count < 0).any():
        raise ValueError("counts are not negative")
    known = count > 0  # not NaN either
    if not known.any():
        raise ValueError("no count is known and above 0")
    rows, place = np.unique(
        np.column_stack([month[known], model[known]]), axis=0, return_inverse=True
    )
    total = np.bincount(place.ravel(), weights=count[known])
    first = int(rows[0, 0])
    months = np.arange(first, int(rows[-1, 0]) + 1)
    bounds = np.searchsorted(rows[:, 0], np.append(months, months[-1] + 1))
    entered, tied = np.full(months.size, np.nan), np.zeros(months.size, dtype=np.int64)
    reason = []
    former: Ints | None = None
    for k in range(months.size):
        models, counts = (column[bounds[k] : bounds[k + 1]] for column in (rows[:, 1], total))
        if models.size < size:
            reason.append(f"{models.size} models with a count, {size} needed")
            former = None
            continue
        order = np.lexsort((models, -counts))
        members = models[order[:size]]
        last = counts[order[size - 1]]
        if models.size > size and counts[order[size]] == last:
            tied[k] = int((counts[order[:size]] == last).sum())
        if former is None:
            reason.append("no list of the month before")
        else:
            reason.append("")
            entered[k] = size - np.intersect1d(members, former).size
        former = members
    return TopTurnover(
        size,
        months,
        entered,
        tied,
        tuple(reason),
        _mean_of_months(months, entered, size, rng, level, n_resamples),
    )


def _mean_of_months(
    months: Ints,
    entered: Floats,
    size: int,
    rng: np.random.Generator,
    level: float,
    n_resamples: int,
) -> Estimate:
    seen = np.isfinite(entered)
    method = f"mean entries into the top {size} a month, blocks of {_MONTHS_A_BLOCK} months"
    blocks = (months[seen] - months[0]) // _MONTHS_A_BLOCK

    def mean(sums: Floats) -> Floats:
        return np.asarray(sums[..., 1] / np.where(sums[..., 0] > 0, sums[..., 0], np.nan))

    return cluster_bootstrap(
        np.column_stack([np.ones(int(seen.sum())), entered[seen]]),
        blocks,
        mean,
        rng=rng,
        level=level,
        n_resamples=n_resamples,
        method=method,
    )


def neutral_turnover(size: int, n_new: int, n_births: int, *, level: float = 0.95) -> Estimate:
    """Entries expected of copying without preference, ``z = ℓ √μ`` with ``μ = n_new / n_births``.

    Parameters
    ----------
    size
        ℓ, places of the list.
    n_new
        Births by a parent that had no child before.
    n_births
        All births.

    Returns
    -------
    Estimate
        The interval is Wilson's for μ alone; how rough the formula itself is, it does not show.

    Raises
    ------
    ValueError
        Unless ``0 <= n_new <= n_births``, with at least one birth and one place.

    Examples
    --------
    >>> round(neutral_turnover(100, 40, 1000).value, 6)
    20.0
    """
    if size < 1 or n_births < 1 or not 0 <= n_new <= n_births:
        raise ValueError("give a list of places, at least one birth, and no more new than all")
    low, high = _wilson(n_new, n_births, level)
    return Estimate(
        size * math.sqrt(n_new / n_births),
        size * math.sqrt(low),
        size * math.sqrt(high),
        level,
        n_births,
        "ℓ√μ (Bentley et al. 2007), Wilson interval of μ; approximate under Wright–Fisher "
        "generations, wrong under Moran's",
    )


def _wilson(k: int, n: int, level: float) -> tuple[float, float]:
    z = float(norm.ppf((1 + level) / 2))
    share = k / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return min(max(middle - reach, 0.0), share), max(min(middle + reach, 1.0), share)


# -- families -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ShareChange:
    """A family's share of all births in two periods, and the difference (later − earlier)."""

    family: int
    before: Estimate
    after: Estimate
    change: Estimate


def share_changes(
    family: Ints,
    born_day: Floats,
    cluster: Ints,
    before: tuple[float, float],
    after: tuple[float, float],
    *,
    rng: np.random.Generator,
    largest: int = 20,
    level: float = 0.95,
    n_resamples: int = 1000,
) -> tuple[ShareChange, ...]:
    """Which families gain and which lose share of the births, largest gain first.

    Parameters
    ----------
    family : (n,)
        Family of each model born.
    born_day : (n,)
        When, in days; NaN is left out.
    cluster : (n,)
        Independent group: founders, if families hold several; if a family *is* one founder's
        clade, its branches (:attr:`lineage.evolution.traits.Population.branch`), as resampling
        the founder itself says nothing.
    before, after
        Half-open periods ``(from, until)`` in days, the first ending where the second begins or
        earlier.
    largest
        Families with the most births in both together that are compared.

    Returns
    -------
    tuple of ShareChange
        NaN with the reason for families of fewer than 3 clusters. Intervals are per family: of 20
        at 95 %, one is expected to miss 0 for nothing. Those whose change is NaN come last.

    Raises
    ------
    ValueError
        If shapes differ, the periods overlap or are empty, or nobody was born in one of them.
    """
    if not family.shape == born_day.shape == cluster.shape:
        raise ValueError("give every model one family, one birth and one cluster")
    if not before[0] < before[1] <= after[0] < after[1]:
        raise ValueError(f"the periods must follow each other: {before}, {after}")
    early = (born_day >= before[0]) & (born_day < before[1])
    late = (born_day >= after[0]) & (born_day < after[1])
    if not (early.any() and late.any()):
        raise ValueError("nobody was born in one of the periods")
    born = early | late
    family, cluster, early = family[born], cluster[born], early[born]
    labels, code, births = np.unique(family, return_inverse=True, return_counts=True)
    changes = []
    for k in np.argsort(-births, kind="stable")[:largest].tolist():
        own = code == k
        n_groups = np.unique(cluster[own]).size
        moments = np.column_stack(
            [np.ones(own.size), early, ~early, own & early, own & ~early]
        ).astype(float)
        estimates = []
        for name, of in (("before", _share_before), ("after", _share_after), ("change", _change)):
            method = f"share of births, {name}"
            if n_groups < MIN_BOOTSTRAP_CLUSTERS:
                reason = (
                    f"{n_groups} independent groups in the family, {MIN_BOOTSTRAP_CLUSTERS} needed"
                )
                estimates.append(untrusted(own.size, level, method, reason, n_groups))
                continue
            estimates.append(
                cluster_bootstrap(
                    moments,
                    cluster,
                    of,
                    rng=rng,
                    level=level,
                    n_resamples=n_resamples,
                    method=method,
                )
            )
        changes.append(ShareChange(int(labels[k]), *estimates))
    return tuple(
        sorted(changes, key=lambda c: (math.isnan(c.change.value), -c.change.value, c.family))
    )


def _share_before(sums: Floats) -> Floats:
    return np.asarray(sums[..., 3] / np.where(sums[..., 1] > 0, sums[..., 1], np.nan))


def _share_after(sums: Floats) -> Floats:
    return np.asarray(sums[..., 4] / np.where(sums[..., 2] > 0, sums[..., 2], np.nan))


def _change(sums: Floats) -> Floats:
    return _share_after(sums) - _share_before(sums)


# -- silence --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SilentLineages:
    """Lineages and how long they have had no birth.

    Attributes
    ----------
    lineage : (k,)
        Labels.
    births : (k,)
        Births after the founding.
    last_day : (k,)
        Day of the last birth, the founding if there was none.
    silent : (k,)
        No birth for `window_days` before the end; always False for younger lineages.
    p_value : (k,)
        Chance of so long a silence were births still coming at their mean rate, ``(t_n/T)^n``
        (Solow 1993, Ecology 74:962), t_n and T the days from the founding to the last birth and to
        the end; 1 without births. A lineage whose births slow down looks extinct sooner than it
        is.
    share
        Silent ones among the lineages at least `window_days` old, founders independent.
    """

    lineage: Ints
    births: Ints
    last_day: Floats
    silent: NDArray[np.bool_]
    p_value: Floats
    window_days: float
    share: Estimate


def silent_lineages(
    lineage: Ints,
    born_day: Floats,
    until_day: float,
    *,
    window_days: float = 180.0,
    level: float = 0.95,
) -> SilentLineages:
    """Lineages that had no birth for a window: extinct, unless they come back.

    Parameters
    ----------
    lineage : (n,)
        Founder (or clade) of each model.
    born_day : (n,)
        Births in days; models without one, or born after `until_day`, are left out.
    until_day
        End of the time observed.

    Raises
    ------
    ValueError
        If shapes differ, no birth is known, or the window is not above 0.

    Examples
    --------
    >>> import numpy as np
    >>> lineage, born = np.array([1, 1, 1, 2, 2]), np.array([0.0, 5.0, 20.0, 0.0, 90.0])
    >>> found = silent_lineages(lineage, born, 100.0, window_days=30.0)
    >>> found.silent.tolist(), found.p_value.round(4).tolist()
    ([True, False], [0.04, 0.9])
    """
    if lineage.shape != born_day.shape:
        raise ValueError("give every model one lineage and one birth")
    if not window_days > 0:
        raise ValueError(f"window_days must be above 0: {window_days}")
    known = born_day <= until_day
    if not known.any():
        raise ValueError("no birth is known before until_day")
    day = born_day[known]
    labels, code, models = np.unique(lineage[known], return_inverse=True, return_counts=True)
    first, last = np.full(labels.size, np.inf), np.full(labels.size, -np.inf)
    np.minimum.at(first, code, day)
    np.maximum.at(last, code, day)
    births = models - 1
    age = until_day - first
    silent = until_day - last >= window_days
    reached = np.divide(last - first, age, out=np.ones(labels.size), where=age > 0)
    n_old, n_silent = int((age >= window_days).sum()), int(silent.sum())
    method = f"share of lineages without a birth for {window_days:g} d, Wilson interval"
    share = untrusted(0, level, method, "no lineage is that old", 0)
    if n_old:
        low, high = _wilson(n_silent, n_old, level)
        share = Estimate(n_silent / n_old, low, high, level, n_old, method, n_old)
    return SilentLineages(
        labels, births, last, silent, np.asarray(reached**births), window_days, share
    )

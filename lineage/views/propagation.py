"""What is being propagated: births and their growth, by trait, by family, new merges."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np
from numpy.typing import NDArray

from lineage.evolution.clusters import cluster_bootstrap
from lineage.evolution.time.birth_rates import birth_rates
from lineage.evolution.time.person_time import PersonTime
from lineage.evolution.time.turnover import share_changes
from lineage.model import Estimate
from lineage.store import published_gains
from lineage.store import published_propagation as published
from lineage.store.published_scope import Scope, scope_of

__all__ = [
    "FamilyChange",
    "Merge",
    "Moment",
    "MonthCount",
    "RateRatios",
    "Scope",
    "births_by_month",
    "family_changes",
    "growth",
    "moment",
    "new_merges",
    "rate_ratios",
    "scope_of",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_LEVEL = 0.95
_STALE_DAYS = 90.0
"""Without a birth for so long before the data, windows end at the last birth instead."""
_AGE_CUTS = (7.0, 30.0, 90.0, 180.0, 365.0)
_LABELS_SHOWN = 8
_FAMILIES_SHOWN = 12
_LINES = 50
_N_RESAMPLES = 500


@dataclass(frozen=True, slots=True)
class Moment:
    """When the register was seen, and where windows end (days since 1970 UTC).

    `until` is the end of the day asked for, that of the data (`data_day`), or the last birth where
    the data are much younger than any model. `n_observed_days` counts the days on which likes and
    downloads were observed; `observed` are the first and the last.
    """

    until: float
    data_day: float
    first_birth: float | None
    last_birth: float | None
    n_dated: int
    n_models: int
    n_observed_days: int
    observed: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class MonthCount:
    """Models of one relation born in a month (its first day as ISO date)."""

    month: str
    relation: str
    n: int


@dataclass(frozen=True, slots=True)
class RateRatios:
    """Birth rates by a label against that of most model-days, at equal age.

    `reference` is that label; `reason` says why `ratios` is empty.
    """

    ratios: tuple[tuple[str, Estimate], ...]
    reference: str
    rate: Estimate | None
    reason: str


@dataclass(frozen=True, slots=True)
class FamilyChange:
    """A family's share of the births of a window, and its change from the one before."""

    founder: str
    n_later: int
    n_earlier: int
    share: Estimate
    change: Estimate


@dataclass(frozen=True, slots=True)
class Merge:
    """A merge, its parents and their shares; `own` if the watched model itself is one."""

    child: str
    born: datetime
    own: bool
    parents: tuple[tuple[str, float | None], ...]


def moment(
    cursor: duckdb.DuckDBPyConnection, data_date: str, asked: datetime | None = None
) -> Moment:
    """Where windows end: at the end of the day `asked` for, else at the data."""
    # The date says when the crawl began: what was born later that day may be in it.
    data_day = math.floor(datetime.fromisoformat(data_date).timestamp() / 86_400) + 1.0
    wanted = data_day
    if asked is not None:
        wanted = min(data_day, (asked + timedelta(days=1)).timestamp() / 86_400)
    first, last, n_dated, n_models = published.time_span(cursor, wanted)
    until = wanted
    if asked is None and last is not None and last < data_day - _STALE_DAYS:
        until = math.floor(last) + 1.0
    first_seen, last_seen, n_days = published_gains.times_observed(cursor)
    observed = (first_seen, last_seen) if n_days else None
    return Moment(until, data_day, first, last, n_dated, n_models, n_days, observed)


def births_by_month(
    cursor: duckdb.DuckDBPyConnection, scope: Scope, until: float, relation: str = ""
) -> tuple[MonthCount, ...]:
    """Models born each month, by relation to the primary parent; of one relation if asked for."""
    return tuple(
        MonthCount(*row) for row in published.births_by_month(cursor, scope, until, relation)
    )


def growth(
    cursor: duckdb.DuckDBPyConnection,
    scope: Scope,
    since: float,
    until: float,
    relation: str = "",
) -> Estimate:
    """Models born in a window over those born in one as long before it.

    The interval resamples founders (lines, within a clade). NaN with the reason where fewer than
    3 bore any, or nobody was born in the earlier window.
    """
    found = published.growth_by_cluster(cursor, scope, since, until, relation)
    later, earlier = found["later"].astype(float), found["earlier"].astype(float)

    def ratio(sums: Floats) -> Floats:
        return np.asarray(sums[..., 1] / np.where(sums[..., 2] > 0, sums[..., 2], np.nan))

    estimate = cluster_bootstrap(
        np.column_stack([np.ones(later.size), later, earlier]),
        found["cluster"],
        ratio,
        rng=np.random.default_rng(0),
        level=_LEVEL,
        n_resamples=2000,
        method="models born in the window over those born in one as long before",
    )
    return replace(estimate, n=int(later.sum() + earlier.sum()))


def rate_ratios(
    cursor: duckdb.DuckDBPyConnection, scope: Scope, label: str, since: float, until: float
) -> RateRatios:
    """How often models of each label had children in a window, at equal age.

    A Poisson regression of births on age and label over model-days
    (:func:`lineage.evolution.time.birth_rates.birth_rates`), errors by founder.

    Raises
    ------
    KeyError
        If births are not compared by that (``published_propagation.LABELS``).
    """
    found = published.person_time_by_label(
        cursor, scope, label, since, until, _AGE_CUTS, _LABELS_SHOWN
    )
    if not found["days"].size:
        return RateRatios((), "", None, "no model of known value was watched in this window")
    names, code = np.unique(found["label"].astype(str), return_inverse=True)
    pairs, unit = np.unique(np.column_stack([found["cluster"], code]), axis=0, return_inverse=True)
    unit = unit.ravel()
    time = PersonTime(
        unit,
        found["band"].astype(np.int64),
        np.zeros(unit.size, dtype=np.int64),
        found["days"].astype(float),
        found["births"].astype(np.int64),
        _AGE_CUTS,
        0,
    )
    if not time.births.any():
        return RateRatios((), "", None, "no model had a child in this window")
    fit = birth_rates(time, pairs[:, 0], {"label": pairs[:, 1]}, level=_LEVEL, by_month=False)
    ratios = []
    for term, estimate in fit.ratios.items():
        if term.startswith("label="):
            ratios.append((str(names[int(term.removeprefix("label="))]), estimate))
    spent = np.bincount(code, weights=time.days * (np.bincount(code, time.births) > 0)[code])
    reason = "" if ratios else "births are known of one value only: there is nothing to compare"
    return RateRatios(tuple(ratios), str(names[int(np.argmax(spent))]), fit.rate, reason)


def family_changes(
    cursor: duckdb.DuckDBPyConnection, since: float, until: float
) -> tuple[tuple[FamilyChange, ...], str]:
    """Which families gain and lose share of the births, largest gain first; or why nobody knows.

    Intervals resample the lines of each family (the founder's children).
    """
    found = published.births_by_family(cursor, since, until, _FAMILIES_SHOWN, _LINES)
    n, later = found["n"].astype(np.int64), found["later"].astype(bool)
    if not (later.any() and (~later).any()):
        return (), "Nobody was born in one of the two windows that would be compared."
    day = np.where(later, (since + until) / 2, (3 * since - until) / 2)
    changes = share_changes(
        np.repeat(found["family"].astype(np.int64), n),
        np.repeat(day, n),
        np.repeat(found["line"].astype(np.int64), n),
        (2 * since - until, since),
        (since, until),
        rng=np.random.default_rng(0),
        largest=_FAMILIES_SHOWN + 1,
        level=_LEVEL,
        n_resamples=_N_RESAMPLES,
    )
    names = dict(zip(found["family"].tolist(), found["name"].tolist(), strict=True))
    counted = {
        family: (
            int(n[(found["family"] == family) & later].sum()),
            int(n[(found["family"] == family) & ~later].sum()),
        )
        for family in names
    }
    return tuple(
        FamilyChange(str(names[one.family]), *counted[one.family], one.after, one.change)
        for one in changes
        if one.family >= 0
    ), ""


def new_merges(
    cursor: duckdb.DuckDBPyConnection, scope: Scope, since: float, until: float, limit: int = 50
) -> tuple[Merge, ...]:
    """Merges born in a window of which a model of the scope is a parent; the head's own first."""
    return tuple(
        Merge(
            child,
            datetime.fromtimestamp(86_400 * day, UTC),
            own,
            tuple(zip(parents, weights, strict=True)),
        )
        for child, day, own, parents, weights in published.merges_of(
            cursor, scope, since, until, limit
        )
    )

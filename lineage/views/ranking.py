"""Which models gained most in a window, always against models of their age."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb
import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from lineage.evolution.gains import LEAST_DAYS, gained_per_day
from lineage.model import Estimate
from lineage.store import published_gains as published
from lineage.store.published_scope import Columns, Scope

__all__ = ["AGE_CUTS", "MEASURES", "ORDERS", "Gain", "Ranking", "against_age", "ranking"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

AGE_CUTS = (7.0, 30.0, 90.0, 180.0, 365.0, 730.0)
"""Ages in days at which groups of peers meet."""

MEASURES = ("births", "descendants", "likes", "downloads")
ORDERS = ("excess", "count", "rate")

_LEVEL = 0.95
_ROLLING_DAYS = 30.0


@dataclass(frozen=True, slots=True)
class Gain:
    """What one model gained.

    Attributes
    ----------
    relation
        To its primary parent, ``founder`` without one.
    days
        How long it was watched within the window.
    gained, expected
        Its count, and that of as many days of its peers.
    excess
        The difference, with the Poisson interval of the count; NaN where counts are no independent
        acts (downloads).
    share_below
        Share of its peers that gained less a day.
    """

    repo_id: str
    born: datetime
    relation: str
    founder: str
    n_descendants: int
    age_days: float
    days: float
    gained: float
    expected: float
    excess: Estimate
    share_below: float
    n_peers: int

    @property
    def per_day(self) -> float:
        """Gained per day watched."""
        return self.gained / self.days


@dataclass(frozen=True, slots=True)
class Ranking:
    """The first of a list, and what it is of.

    Attributes
    ----------
    n_models
        Models of the scope that were watched, whether they gained or not.
    n_gained
        Those that gained anything.
    n_clear
        Those whose whole interval lies above what their peers had.
    basis
        ``window`` where the gain of the window itself is known; ``life`` where a total since birth
        stands for it, ``rolling`` where the Hub's count of thirty days does.
    reason
        Why there is nothing, or why the basis is not the window; empty otherwise.
    """

    measure: str
    rows: tuple[Gain, ...]
    n_models: int
    n_gained: int
    n_clear: int
    basis: str
    reason: str


@dataclass(frozen=True, eq=False)
class AgainstAge:
    """Peers' part of every row: expected count, peers, and the share of them below."""

    expected: Floats
    n_peers: Ints
    share_below: Floats


def against_age(age: Floats, days: Floats, gained: Floats) -> AgainstAge:
    """What models of the same age gained in as many days (indirect standardisation).

    Parameters
    ----------
    age : (n,)
        In days, at the end of what was watched; groups meet at :data:`AGE_CUTS`.
    days : (n,)
        Watched, above 0.
    gained : (n,)
        Count.

    Examples
    --------
    >>> import numpy as np
    >>> found = against_age(np.array([1.0, 2, 50]), np.array([1.0, 3, 9]), np.array([1.0, 7, 2]))
    >>> found.expected.tolist(), found.share_below.tolist()
    ([2.0, 6.0, 2.0], [0.0, 0.5, 0.0])
    """
    band = np.searchsorted(AGE_CUTS, age, side="right")
    width = len(AGE_CUTS) + 1
    n = np.bincount(band, minlength=width)
    total = np.bincount(band, weights=gained, minlength=width)
    watched = np.bincount(band, weights=days, minlength=width)
    rate = total / np.where(watched > 0, watched, 1.0)
    share = np.zeros(age.size)
    own = gained / days
    for k in np.flatnonzero(n):
        here = np.flatnonzero(band == k)
        share[here] = np.searchsorted(np.sort(own[here]), own[here], side="left") / here.size
    return AgainstAge(rate[band] * days, n[band], share)


def _poisson(count: Floats) -> tuple[Floats, Floats]:
    """Exact interval of the mean of a Poisson count (Garwood 1936, Biometrika 28:437)."""
    tail = (1 - _LEVEL) / 2
    low = np.where(count > 0, chi2.ppf(tail, 2 * np.maximum(count, 0.5)) / 2, 0.0)
    return low, np.asarray(chi2.ppf(1 - tail, 2 * (count + 1)) / 2)


def ranking(
    cursor: duckdb.DuckDBPyConnection,
    scope: Scope,
    measure: str,
    since: float,
    until: float,
    *,
    order: str = "excess",
    relation: str = "",
    limit: int = 50,
    seen_until: float | None = None,
) -> Ranking:
    """The models of a scope that gained most from `since` until `until` (days since 1970 UTC).

    Peers are the models of all the register of like age, so that a family is held against others.

    Parameters
    ----------
    measure
        One of :data:`MEASURES`. A child of several parents counts for each, a descendant once
        along primary parents. Likes and downloads are differences of totals observed within the
        window at least a week apart; where there are none, likes per day of life, or the Hub's
        rolling count of thirty days.
    order
        ``excess`` over peers, ``count``, or ``rate``: by the lower end of the interval of the
        daily rate where there is one, so that one lucky day does not lead.
    relation
        Only models of this relation to their primary parent; all if empty.
    seen_until
        Day until which totals may stand for gains of the window; `until` if None.

    Raises
    ------
    ValueError
        If there is no such measure or order.
    """
    if measure not in MEASURES or order not in ORDERS:
        raise ValueError(f"no such ranking: {measure}, {order}")
    table, basis, reason = _table(cursor, measure, since, until, seen_until or until)
    if not table["pos"].size:
        return Ranking(measure, (), 0, 0, 0, basis, reason or "no model was watched in this window")
    age, days, gained = table["age"], table["days"], table["gained"]
    peers = against_age(age, days, gained)
    inside = (table["pos"] >= scope.low) & (table["pos"] <= scope.high)
    if relation:
        inside &= np.isin(table["pos"], published.places_of_relation(cursor, relation)["pos"])
    listed = np.flatnonzero(inside & (gained > 0))
    low, high = _poisson(gained[listed])
    expected = peers.expected[listed]
    independent = measure != "downloads"
    by = {
        "excess": gained[listed] - expected,
        "count": gained[listed],
        "rate": (low if independent else gained[listed]) / days[listed],
    }[order]
    # Equal ones by place, so that the order is the same every time.
    first = np.lexsort((table["pos"][listed], -by))[:limit]
    facts = {
        row[0]: row[1:] for row in published.models_at(cursor, table["pos"][listed[first]].tolist())
    }
    rows = []
    for k in first.tolist():
        i = listed[k]
        name, born, relation, founder, n_descendants = facts[int(table["pos"][i])]
        rows.append(
            Gain(
                name,
                datetime.fromtimestamp(86_400 * born, UTC),
                relation,
                founder,
                n_descendants,
                float(age[i]),
                float(days[i]),
                float(gained[i]),
                float(expected[k]),
                _excess(
                    float(gained[i]), float(expected[k]), float(low[k]), float(high[k]), measure
                ),
                float(peers.share_below[i]),
                int(peers.n_peers[i]),
            )
        )
    n_clear = int((low > expected).sum()) if independent else 0
    return Ranking(measure, tuple(rows), int(inside.sum()), listed.size, n_clear, basis, reason)


def _excess(gained: float, expected: float, low: float, high: float, measure: str) -> Estimate:
    method = "count less that of as many days of models of its age; exact Poisson interval"
    n = round(gained)
    if measure == "downloads":
        nan = math.nan
        why = "downloads come in bursts of machines, so that a count has no interval"
        return Estimate(nan, nan, nan, _LEVEL, n, f"{method}; not estimated: {why}")
    return Estimate(gained - expected, low - expected, high - expected, _LEVEL, n, method)


def _table(
    cursor: duckdb.DuckDBPyConnection, measure: str, since: float, until: float, seen_until: float
) -> tuple[Columns, str, str]:
    """``pos``, ``age``, ``days`` and ``gained`` of all models, the basis, and why it is that."""
    if measure == "births":
        return published.births_of_parents(cursor, since, until), "window", ""
    if measure == "descendants":
        return published.descendants_gained(cursor, since, until), "window", ""
    count = "likes" if measure == "likes" else "downloads_all_time"
    seen = published.counts_gained(cursor, count, since, until)
    rate = gained_per_day(*(seen[name].astype(float) for name in _OBSERVED))
    known = np.isfinite(rate)
    if known.any():
        days = (seen["last_day"] - seen["first_day"])[known]
        table = {"pos": seen["pos"][known], "age": seen["age"][known], "days": days}
        return {**table, "gained": rate[known] * days}, "window", ""
    reason = (
        f"No model's {_TOTALS[measure]} were observed twice in this window, at least "
        f"{LEAST_DAYS:g} days apart: what was gained in it is not known."
    )
    standing = published.counts_standing(
        cursor, "likes" if measure == "likes" else "downloads_30d", seen_until
    )
    days = standing["age"].astype(float)
    if measure == "downloads":
        days = np.minimum(days, _ROLLING_DAYS)
    table = {"pos": standing["pos"], "age": standing["age"], "days": days}
    basis = "life" if measure == "likes" else "rolling"
    return {**table, "gained": standing["total"].astype(float)}, basis, reason


_TOTALS = {"likes": "likes", "downloads": "downloads of all time"}
_OBSERVED = ("first_day", "first", "last_day", "last")

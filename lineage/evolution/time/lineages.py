"""Lineages through time: those begun, those of more than one model, those still active."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage.evolution.time.person_time import month_starts

__all__ = [
    "LineageCounts",
    "lineages_through_time",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


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
    first, starts = month_starts(float(day.min()), until_day)
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

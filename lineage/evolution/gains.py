"""Likes and downloads that models gained, as fitness: over a stated time, never since ever.

Totals run from a model's birth on, so that the old have more of them than the young whatever they
are worth. Two remedies, which ask for more than one look at a model: the *rate* between two
observations, its exposure being the time between them, and the total at the end of a *window* that
is the same for all.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["COARSEST", "LEAST_DAYS", "gained_per_day", "total_at"]

Floats = NDArray[np.float64]

LEAST_DAYS = 7.0
"""Shortest exposure, in days: what is liked and downloaded follows the days of the week."""

COARSEST = 0.25
"""How far apart, as a share of the window, the observations around its end may lie."""


def gained_per_day(first_day: Floats, first: Floats, last_day: Floats, last: Floats) -> Floats:
    """What a total gained between two observations, per day between them, shape (n,).

    NaN where an observation is missing, where they are less than :data:`LEAST_DAYS` apart, and
    where the total fell: likes were taken back or downloads counted anew, so that what was gained
    meanwhile is not known.

    Parameters
    ----------
    first_day, last_day : (n,)
        When the total was first and last observed.
    first, last : (n,)
        The total then.

    Examples
    --------
    >>> import numpy as np
    >>> day, first, last = np.zeros(3), np.array([2.0, 2.0, 2.0]), np.array([7.0, 1.0, 7.0])
    >>> gained_per_day(day, first, day + [10, 10, 1], last).tolist()
    [0.5, nan, nan]
    """
    exposure, gain = last_day - first_day, last - first
    known = (exposure >= LEAST_DAYS) & (gain >= 0)
    return np.where(known, gain / np.where(known, exposure, np.nan), np.nan)


def total_at(
    day: Floats,
    before_day: Floats,
    before: Floats,
    after_day: Floats,
    after: Floats,
    widest_days: float,
) -> Floats:
    """A total on a day, on the straight line between the observations around it, shape (n,).

    NaN where one is missing, or where they are more than `widest_days` apart.

    Examples
    --------
    >>> import numpy as np
    >>> around = np.array([5.0]), np.array([10.0]), np.array([15.0]), np.array([30.0])
    >>> total_at(np.array([10.0]), *around, widest_days=10.0).tolist()
    [20.0]
    """
    apart = after_day - before_day
    share = (day - before_day) / np.where(apart > 0, apart, 1.0)
    return np.where(apart <= widest_days, before + share * (after - before), np.nan)

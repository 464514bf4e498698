"""Person-time: births and time at risk by age and calendar month, a Lexis diagram in numbers.

Parents and times are observed, so nothing has to be inferred from the shape of a tree: a birth is
a child dated after its parent, and the rate λ(t, trait, age) is births over the time that models
were watched. A child of several parents is a birth to each of them. Models that were deleted
before they were seen are in no number here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "PersonTime",
    "group_sums",
    "month_starts",
    "person_time",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_MODELS_AT_ONCE = 200_000  # bounds the memory of a split


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
    first, starts = month_starts(float(begin[watched].min()), float(exit_day[watched].max()))

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
            days.append(group_sums(place, spent, key.size))
    cells, place = np.unique(np.concatenate(keys), return_inverse=True)
    at_risk = group_sums(place, np.concatenate(days), cells.size)

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


def month_starts(first_day: float, last_day: float) -> tuple[int, Floats]:
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


def group_sums(group: Ints, values: NDArray[np.generic], n_groups: int) -> Floats:
    """Sum of the values of each group, groups numbered from 0, shape (n_groups,)."""
    return np.asarray(np.bincount(group, weights=values, minlength=n_groups), dtype=np.float64)


def _blocks(items: Ints, size: int) -> list[Ints]:
    return [items[i : i + size] for i in range(0, items.size, size)]

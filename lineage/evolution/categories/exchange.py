"""Exchange of values within strata, and what is said where nothing can be exchanged."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lineage.evolution.selection.multiple import PermutationTest

__all__ = ["exchanges", "untested", "varies"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def exchanges(
    values: Floats, group: Ints, moves: Bools, *, rng: np.random.Generator, n: int
) -> Iterator[Floats]:
    """`values` with those of each group that moves dealt anew among its members, n times.

    Parameters
    ----------
    values, group : (m,)
        Values, and the number of each one's group.
    moves : (G,)
        Groups that take part.

    Yields
    ------
    (m,)
        The same array, overwritten every time.
    """
    moving = np.flatnonzero(moves[group])
    moving = moving[np.argsort(group[moving], kind="stable")]
    drawn = values.copy()
    for _ in range(n):
        # Sorting random keys that lie between a group's number and the next stays within groups.
        drawn[moving] = values[moving[np.argsort(group[moving] + rng.random(moving.size))]]
        yield drawn


def varies(values: Floats, group: Ints, n_groups: int) -> Bools:
    """Groups whose values are not all equal, shape (G,)."""
    low, high = np.full(n_groups, np.inf), np.full(n_groups, -np.inf)
    np.minimum.at(low, group, values)
    np.maximum.at(high, group, values)
    return np.asarray(high > low)


def untested(n: int, n_permutations: int, method: str, reason: str) -> PermutationTest:
    """A test that could not be made: NaN throughout, `method` says why."""
    nothing = math.nan
    return PermutationTest(
        nothing, nothing, nothing, nothing, nothing, n, 0, n_permutations,
        f"{method}; not tested: {reason}",
    )  # fmt: skip

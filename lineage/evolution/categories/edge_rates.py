"""Rates at which a state changes along edges whose two ends are both known: licence, format, task.

A hub shows parents and children alike, so nothing need be inferred about ancestors: rates are
counts over exposure, and intervals come from resampling parents or founders whole.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lineage.evolution.clusters import cluster_bootstrap
from lineage.model import Estimate

__all__ = ["edge_rates"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def edge_rates(
    parent_state: Ints,
    child_state: Ints,
    exposure: Floats,
    cluster: Ints,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    n_resamples: int = 2000,
) -> dict[tuple[int, int], Estimate]:
    """Rates of change between states along edges of which both ends are known.

    ``q_ab = n_ab / E_a``: edges from a to b over the total exposure of edges from a. This is the
    likelihood's maximum if a parent's state holds until the child departs from it once at most;
    with exposure 1 an edge it is the share of a's children that are b.

    Parameters
    ----------
    parent_state, child_state : (n,)
        State of the two ends of each edge, −1 unknown; edges with an unknown end are left out, so
        that the rates hold for those who report both.
    exposure : (n,)
        Length of each edge in edges or days, NaN unknown (left out).
    cluster : (n,)
        Group of each edge that is not independent: its parent or founder.
    rng
        Source of the resamples.

    Returns
    -------
    dict
        An estimate for every ordered pair of states that occur, the interval by a bootstrap over
        clusters. Where no change was seen the upper end is that of a Poisson count of 0, one-sided,
        as if changes came one by one. NaN with the reason where the clusters are too few or there
        is no exposure.

    Raises
    ------
    ValueError
        If the arrays differ in length or an exposure is negative.

    Examples
    --------
    >>> import numpy as np
    >>> parent, child = np.array([0, 0, 0, 1]), np.array([0, 1, 0, 1])
    >>> rates = edge_rates(parent, child, np.ones(4), np.arange(4), rng=np.random.default_rng(1))
    >>> round(rates[0, 1].value, 6), sorted(rates)
    (0.333333, [(0, 1), (1, 0)])
    """
    arrays = (parent_state, child_state, exposure, cluster)
    if len({array.shape for array in arrays}) != 1 or parent_state.ndim != 1:
        raise ValueError(f"arrays of one length needed: {[array.shape for array in arrays]}")
    if (exposure < 0).any():
        raise ValueError(f"{int((exposure < 0).sum())} exposures are negative")
    known = (parent_state >= 0) & (child_state >= 0) & np.isfinite(exposure)
    before, after, time, group = (array[known] for array in arrays)
    states = np.unique(np.concatenate([before, after])).tolist()
    found: dict[tuple[int, int], Estimate] = {}
    for a in states:
        of_a = before == a
        for b in states:
            if a == b:
                continue
            moments = np.column_stack([np.ones(of_a.sum()), after[of_a] == b, time[of_a]])
            estimate = cluster_bootstrap(
                moments,
                group[of_a],
                _per_exposure,
                rng=rng,
                level=level,
                n_resamples=n_resamples,
                method=f"changes {a} → {b} per exposure, both ends known",
            )
            found[a, b] = _bounded(estimate, float(time[of_a].sum()))
    return found


def _per_exposure(sums: Floats) -> Floats:
    _, changes, time = np.moveaxis(sums, -1, 0)
    return np.asarray(changes / np.where(time > 0, time, np.nan), dtype=np.float64)


def _bounded(estimate: Estimate, exposure: float) -> Estimate:
    """The estimate, or the limit that having seen no change still leaves."""
    if estimate.value != 0:
        return estimate
    return Estimate(
        0.0,
        0.0,
        -math.log(1 - estimate.level) / exposure,
        estimate.level,
        estimate.n,
        f"{estimate.method.partition(';')[0]}; none seen, Poisson upper limit",
        estimate.n_clusters,
    )

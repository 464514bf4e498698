"""The account of entropy month by month, from the living at the start to the living at the end.

The steps of an account are those of :mod:`lineage.evolution.diversity.entropy`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

from lineage.evolution.diversity.entropy import (
    EntropyAccount,
    entropy_account,
    entropy_account_intervals,
)
from lineage.graph import LineageGraph
from lineage.model import Estimate

__all__ = [
    "EntropyWindow",
    "entropy_through_time",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EntropyWindow:
    """The account of one window: from the models alive at its start to those alive at its end.

    `unknown` models are alive at its end without a known category; the account is of the others.
    `intervals` is empty where none were asked for.
    """

    window: int
    account: EntropyAccount
    unknown: int
    intervals: Mapping[str, Estimate]


def entropy_through_time(
    graph: LineageGraph,
    category: Ints,
    born: Ints,
    *,
    removed: Ints | None = None,
    rng: np.random.Generator | None = None,
    level: float = 0.95,
    n_resamples: int = 200,
) -> tuple[EntropyWindow, ...]:
    """Account for the entropy of the living population, window by window.

    The survivors of a window are children of themselves, so that a value spreads by being
    propagated, by not being removed, by mutation, or from outside. A child of a model born in the
    same window descends from that model's parents, by the product of the shares, and a value that
    changed on the way is mutation; what descends from a founder of the same window immigrated.

    Parameters
    ----------
    graph
        The pedigree; shares are scaled to sum to 1 for each child.
    category : (n,)
        Category of each model, negative where unknown: such a model is in no distribution, and
        what later descends from it is *unplaced*.
    born : (n,)
        Window (month number) of each birth; models of negative window take no part.
    removed : (n,), optional
        Window in which a model vanished, negative for never.
    rng
        Source of the resamples of founders; None for no intervals.

    Returns
    -------
    tuple of EntropyWindow
        One for each window in which models were born or vanished, from the first with somebody
        of known category alive at its start and one of them still so at its end.

    Raises
    ------
    ValueError
        If an array is not of one value for each model.
    """
    gone = np.full(len(graph), -1) if removed is None else removed
    if not category.shape == born.shape == gone.shape == (len(graph),):
        raise ValueError(f"one value for each of the {len(graph)} models is needed")
    dated = born >= 0
    events = np.unique(np.concatenate([born[dated], gone[dated & (gone >= 0)]]))
    found = []
    for window in events.tolist():
        start = dated & (born < window) & ((gone < 0) | (gone >= window))
        end = dated & (born <= window) & ((gone < 0) | (gone > window))
        old = np.flatnonzero(start & (category >= 0))
        young = np.flatnonzero(end & (born == window) & (category >= 0))
        survivors = np.flatnonzero(start & end & (category >= 0))
        if not survivors.size:
            continue
        child, parent, share = _descent(graph, young, old, born == window)
        children = np.concatenate([survivors, young])
        arrays = (
            category[old],
            category[children],
            np.concatenate([np.arange(survivors.size), survivors.size + child]),
            np.concatenate([np.searchsorted(old, survivors), parent]),
            np.concatenate([np.ones(survivors.size), share]),
        )
        intervals: dict[str, Estimate] = {}
        if rng is not None:
            intervals = entropy_account_intervals(
                *arrays,
                graph.founder[old],
                graph.founder[children],
                rng=rng,
                level=level,
                n_resamples=n_resamples,
            )
        unknown = int((end & (category < 0)).sum())
        found.append(EntropyWindow(window, entropy_account(*arrays), unknown, intervals))
    return tuple(found)


def _descent(
    graph: LineageGraph, young: Ints, old: Ints, newborn: NDArray[np.bool_]
) -> tuple[Ints, Ints, Floats]:
    """Shares of `young` models that descend from `old` ones, −1 for those from elsewhere.

    ``E = Σ_k Wᵏ B`` with the shares W among the newborn and B from the newborn to all others; W
    is nilpotent, for nobody is his own ancestor.
    """
    n = len(graph)
    fresh = np.flatnonzero(newborn)
    place = np.full(n, -1)
    place[fresh] = np.arange(fresh.size)
    column = np.full(n, old.size)  # the last column gathers what is not among the old
    column[old] = np.arange(old.size)
    kept = newborn[graph.edge_child] & (graph.parent_weight > 0)
    child, parent = place[graph.edge_child[kept]], graph.parent_index[kept]
    weight = graph.parent_weight[kept]
    share = weight / np.bincount(child, weights=weight, minlength=fresh.size)[child]
    within = newborn[parent]
    among = coo_array(
        (share[within], (child[within], place[parent[within]])), shape=(fresh.size, fresh.size)
    ).tocsr()
    term = coo_array(
        (share[~within], (child[~within], column[parent[~within]])),
        shape=(fresh.size, old.size + 1),
    ).tocsr()
    descent = term
    while term.nnz:
        term = among @ term
        descent = descent + term
    links = descent[place[young]].tocoo()
    origin = np.where(links.col == old.size, -1, links.col)
    return links.row.astype(np.int64), origin.astype(np.int64), np.asarray(links.data, dtype=float)

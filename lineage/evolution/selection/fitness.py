"""Fitness of models: how much each is propagated.

Whatever is counted needs time to happen, so a model takes part only once the time over which it is
counted has been watched to its end; the raw counts of the young are never used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage.graph import LineageGraph

__all__ = ["Fitness", "children_within", "descendants_within", "rate_since_birth", "rolling_count"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Fitness:
    """A measure of propagation.

    Attributes
    ----------
    name
        E.g. ``children_180d``.
    values : (n,)
        Fitness of each model, NaN where it has not been watched for long enough.
    method
        What was counted, over which time, and who was left out.
    """

    name: str
    values: Floats
    method: str


def children_within(
    graph: LineageGraph, born_day: Floats, until_day: float, window_days: float = 180.0
) -> Fitness:
    """Children born within `window_days` of a model's own birth.

    Parameters
    ----------
    graph
        The pedigree.
    born_day : (n,)
        Births in days, NaN when unknown. A child of unknown birth, or dated before its parent, is
        not counted; a model of unknown birth has no fitness.
    until_day
        Last day that was observed. Models younger than the window then have no fitness (NaN).
    """
    age = born_day[graph.edge_child] - born_day[graph.parent_index]
    counted = (age >= 0) & (age <= window_days)
    count = np.bincount(graph.parent_index[counted], minlength=len(graph)).astype(float)
    values = np.where(born_day + window_days <= until_day, count, np.nan)
    return Fitness(
        f"children_{window_days:g}d",
        values,
        f"fitness: children born within {window_days:g} d of the model's own birth; "
        "models not watched that long left out",
    )


def descendants_within(
    graph: LineageGraph, born_day: Floats, until_day: float, window_days: float = 180.0
) -> Fitness:
    """Descendants born within `window_days` of a model's own birth, each counted once.

    Over all edges: a descendant of unknown birth, or dated before the model, is passed through but
    not counted. Parameters and missing values as for :func:`children_within`. Time grows with the
    number of pairs of ancestor and descendant.
    """
    counts = np.full(len(graph), np.nan)
    watched = np.flatnonzero(born_day + window_days <= until_day)
    counts[watched] = 0.0
    ends = born_day + window_days
    for model in watched[graph.n_children[watched] > 0].tolist():
        seen = {model}
        waiting = [model]
        while waiting:
            i = waiting.pop()
            for k in graph.child_index[graph.child_start[i] : graph.child_start[i + 1]].tolist():
                if k not in seen:
                    seen.add(k)
                    waiting.append(k)
                    counts[model] += born_day[model] <= born_day[k] <= ends[model]
    return Fitness(
        f"descendants_{window_days:g}d",
        counts,
        f"fitness: descendants born within {window_days:g} d of the model's own birth; "
        "models not watched that long left out",
    )


def rate_since_birth(
    name: str, total: Floats, born_day: Floats, until_day: float, window_days: float = 180.0
) -> Fitness:
    """A running total (likes) per day of life, for models at least `window_days` old.

    NaN where the total or the birth is unknown.
    """
    age = until_day - born_day
    old_enough = age >= window_days
    values = np.where(old_enough, total / np.where(age > 0, age, np.nan), np.nan)
    return Fitness(
        name,
        values,
        f"fitness: total per day since birth; models younger than {window_days:g} d left out",
    )


def rolling_count(
    name: str, count: Floats, born_day: Floats, until_day: float, window_days: float = 30.0
) -> Fitness:
    """A count over the last `window_days` (downloads), for models that lived through all of them.

    NaN where the count or the birth is unknown.
    """
    values = np.where(born_day + window_days <= until_day, count, np.nan)
    return Fitness(
        name,
        values,
        f"fitness: count over the last {window_days:g} d; models younger than that left out",
    )

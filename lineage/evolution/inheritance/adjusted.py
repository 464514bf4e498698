"""Heritability with the trend of the field and the hand of the owner taken out.

Both make parent and child alike without anything being inherited: a parent and its child were
trained within months of one another, and often by one owner on one set of data.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lineage.evolution.inheritance.heritability import heritability_jackknife
from lineage.evolution.traits import Population
from lineage.model import Estimate

__all__ = ["adjusted_heritability"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def adjusted_heritability(
    population: Population,
    trait: str,
    owner: Ints,
    cluster: Ints,
    month: Ints,
    *,
    rng: np.random.Generator,
    member: NDArray[np.bool_] | None = None,
    level: float = 0.95,
) -> Estimate:
    """Slope on the weighted mid-parent, within months, of children whose owner owns no parent.

    Children are compared with those born in the same month, and the mean day of their parents'
    births and its square are held: a trend of the field then falls out, as it is a smooth function
    of the day. Leaving out the children of an owner's own models is cross-fostering (Kruuk &
    Hadfield 2007, J Evol Biol 20:1890).

    Parameters
    ----------
    trait
        Name of a trait of `population`.
    owner, cluster, month : (n,)
        Who uploaded each model, its founder, and the month of its birth.
    rng
        Source of the flips of the p-value.
    member : (n,)
        Which children take part; their parents may be anybody.

    Returns
    -------
    Estimate
        As :func:`~lineage.evolution.inheritance.heritability.heritability_jackknife`, of children
        with all parents measured and of known birth.
    """
    graph, born = population.graph, population.born_day
    apart = np.ones(len(graph), dtype=bool) if member is None else member.copy()
    apart[graph.edge_child[owner[graph.edge_child] == owner[graph.parent_index]]] = False
    days = replace(population, traits={"born": born}).mid_parent("born")
    days = days - _middle(days)  # a square about the middle keeps its digits
    found = heritability_jackknife(
        population.traits[trait],
        np.where(apart, population.mid_parent(trait), np.nan),
        cluster,
        rng=rng,
        stratum=month,
        held=np.column_stack([days, days**2]),
        level=level,
    )
    words = "within months of birth, the parents' days held, children of an owner's own left out"
    return replace(found, method=f"{words}: {found.method}")


def _middle(days: Floats) -> float:
    known = days[np.isfinite(days)]
    return float(known.mean()) if known.size else 0.0

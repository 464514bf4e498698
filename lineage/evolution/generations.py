"""From parents to children: what selection should have changed, and what did change.

All descents of a population taken at once: the parents are its models that were watched for long
enough to have a fitness, with children or without, the newborn are its models whose parents are
all among them. Three answers stand side by side (:mod:`lineage.evolution.selection.response`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lineage.evolution.inheritance.clonal import genetic_covariance
from lineage.evolution.selection.fitness import Fitness
from lineage.evolution.selection.price import pedigree_links
from lineage.evolution.selection.response import Response, response_to_selection
from lineage.evolution.traits import Population

__all__ = ["response_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def response_of(
    population: Population,
    trait: str,
    fitness: Fitness,
    member: Bools,
    cluster: Ints,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    n_resamples: int = 2000,
) -> Response | None:
    """Predicted and observed response to selection of a trait; None where nobody has parents.

    Models with a parent of negative share (task arithmetic that takes away) are no newborn: no
    share of descent can be stated.

    Parameters
    ----------
    trait
        Name of a trait of `population`.
    fitness, member, cluster
        As for :class:`lineage.evolution.lewontin.Question`.
    """
    graph = population.graph
    values = np.where(member, population.traits[trait], np.nan)
    known = np.isfinite(values)
    taken_away = np.zeros(len(graph), dtype=bool)
    taken_away[graph.edge_child[graph.parent_weight < 0]] = True
    is_parent = known & np.isfinite(fitness.values)
    is_newborn = known & (graph.n_parents > 0) & ~taken_away
    links = pedigree_links(graph, is_parent, is_newborn)
    if not links.child.size:
        return None
    secondary = genetic_covariance(graph, values, fitness.values, level=level)
    return response_to_selection(
        values,
        np.where(member, population.mid_parent(trait), np.nan),
        fitness,
        cluster,
        links,
        rng=rng,
        secondary=secondary,
        level=level,
        n_resamples=n_resamples,
    )

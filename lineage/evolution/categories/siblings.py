"""Whether siblings are more alike than parent and child, as a directed change makes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lineage.evolution.categories.mutation import clustered_mean
from lineage.evolution.categories.value_sets import edge_distance
from lineage.model import Estimate

__all__ = [
    "SiblingResemblance",
    "sibling_resemblance",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SiblingResemblance:
    """Jaccard distances of the same children to a parent and to a sibling.

    `difference` is the first less the second, child by child: above zero siblings are more alike
    than parent and child, as a fast and *directed* change makes them (Laufer et al. 2025).
    """

    parent_child: Estimate
    siblings: Estimate
    difference: Estimate
    n_sibships: int


def sibling_resemblance(
    sets: csr_array,
    child: Ints,
    parent: Ints,
    cluster: Ints,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
) -> SiblingResemblance:
    """Compare each child with its parent and with one sibling drawn at random.

    The known children of a parent are put in a random ring, and each is compared with the next: as
    many comparisons as children instead of all pairs, with the same expectation; large families
    count by their children, as they do among edges.

    Parameters
    ----------
    sets : (n, V)
        From :func:`lineage.evolution.categories.value_sets.value_sets`.
    child, parent : (E,)
        Edges; those with an empty end are left out, and parents with a single child left.
    cluster : (E,)
        Independent group of each edge: its parent, or its founder.
    rng
        Source of the rings.
    """
    distance = edge_distance(sets, child, parent)
    known = np.flatnonzero(np.isfinite(distance))
    ring = known[np.lexsort((rng.random(known.size), parent[known]))]
    _, first, count = np.unique(parent[ring], return_index=True, return_counts=True)
    place = np.arange(ring.size)
    following = place + 1
    following[first + count - 1] = first
    several = np.repeat(count > 1, count)
    one, other = ring[place[several]], ring[following[several]]
    to_parent = distance[one]
    to_sibling = edge_distance(sets, child[one], child[other])
    group = cluster[one]
    return SiblingResemblance(
        clustered_mean(to_parent, group, "distance to the parent", level=level, bounds=(0, 1)),
        clustered_mean(to_sibling, group, "distance to a sibling", level=level, bounds=(0, 1)),
        clustered_mean(
            to_parent - to_sibling,
            group,
            "distance to the parent less that to a sibling",
            level=level,
            bounds=(-1, 1),
        ),
        int((count > 1).sum()),
    )

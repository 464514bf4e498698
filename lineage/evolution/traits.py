"""A population: a pedigree with measured traits, as arrays.

Missing is NaN and never zero: a model that nobody measured takes part in nothing that needs the
measurement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage.graph import LineageGraph

__all__ = ["EdgeTuple", "Population", "collapse_copies"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
EdgeTuple = tuple[str, str, float | None, int]


@dataclass(frozen=True, eq=False)
class Population:
    """Models, their pedigree, birth times and trait values.

    Attributes
    ----------
    graph
        The pedigree; ``graph.founder`` groups models that are not independent.
    born_day : (n,)
        Birth in days since 1970 UTC; NaN when not known.
    traits
        Trait name to values, shape (n,); NaN is missing.
    """

    graph: LineageGraph
    born_day: Floats
    traits: Mapping[str, Floats]

    def __post_init__(self) -> None:
        for name, values in (("born_day", self.born_day), *self.traits.items()):
            if values.shape != (len(self.graph),):
                raise ValueError(f"{name}: {len(self.graph)} values expected, {values.size} given")

    def mid_parent(self, trait: str) -> Floats:
        """Weighted mid-parent value Σ w·z / Σ w of every model, shape (n,).

        NaN for founders, where any parent of non-zero weight is unmeasured (the other parents
        are not blown up to stand for it), and where the weights do not sum to more than zero.
        Shares are scaled to sum to one, as recipes state them on any scale.
        """
        graph, values = self.graph, self.traits[trait]
        n = len(graph)
        counted = graph.parent_weight != 0
        child, weight = graph.edge_child[counted], graph.parent_weight[counted]
        share = np.bincount(child, weights=weight, minlength=n)
        known = np.where(share > 0, share, np.nan)
        drawn = np.bincount(
            child, weights=weight * values[graph.parent_index[counted]], minlength=n
        )
        return np.asarray(drawn / known, dtype=np.float64)

    @property
    def branch(self) -> Ints:
        """First descendant of the founder on each node's primary chain, shape (n,).

        Founders are their own branch. Within one founder's clade the branches take the place of
        founders as the groups that are treated as independent.
        """
        graph = self.graph
        above = graph.primary
        # A child of a founder ends its chain, as a founder does.
        return _chain_ends(np.where((above < 0) | (graph.primary[above] < 0), -1, above))

    def clade(self, model: str) -> NDArray[np.bool_]:
        """The model and all its descendants, over all edges, shape (n,).

        Raises
        ------
        KeyError
            If it is not in the population.
        """
        member = np.zeros(len(self.graph), dtype=bool)
        member[self.graph.number(model)] = True
        member[[self.graph.number(name) for name in self.graph.descendants(model)]] = True
        return member

    def lines_below(self, model: str) -> Ints:
        """Which line of `model`'s clade each model belongs to, shape (n,).

        A line is a child of the model with what descends from it by primary parents; one that
        reached the clade through another parent begins a line of its own. Outside the clade, and
        for the model itself, the label is the model's own number.
        """
        graph, member = self.graph, self.clade(model)
        top = graph.number(model)
        above = graph.primary
        ends = ~member | (above < 0) | (above == top) | ~member[above]
        return _chain_ends(np.where(ends, -1, above))


def _chain_ends(above: Ints) -> Ints:
    """End of each node's chain of `above`, which is −1 where a chain ends."""
    end = np.where(above < 0, np.arange(above.size), above)
    while True:
        further = end[end]  # doubles the distance walked
        if np.array_equal(further, end):
            return end
        end = further


def collapse_copies(
    ids: Sequence[str], edges: Sequence[EdgeTuple], copies: Set[str]
) -> tuple[tuple[EdgeTuple, ...], dict[str, str]]:
    """Take copies of a model (re-uploads, casts, quantisations) for the model itself.

    An edge to a copy neither varies nor inherits in any sense that a regression could measure: it
    pulls a slope towards 1 by construction. Each copy is replaced by its primary parent, over
    chains of copies; its other edges go.

    Parameters
    ----------
    ids
        All models.
    edges
        ``(child, parent, weight, position)``, without cycles.
    copies
        Models that are copies. One without a parent stays as it is.

    Returns
    -------
    edges
        Edges among the models that remain. Two parents that collapse into one become one parent
        with the sum of their shares (unknown if either is).
    origin
        Every model to the one that stands for it (itself where nothing was collapsed).
    """
    primary: dict[str, tuple[int, str]] = {}
    for child, parent, _, position in edges:
        if child in copies and (child not in primary or position < primary[child][0]):
            primary[child] = (position, parent)
    origin: dict[str, str] = {}
    for model in ids:
        end = model
        while end in primary:
            end = primary[end][1]
        origin[model] = end
    merged: dict[tuple[str, str], tuple[float | None, int]] = {}
    for child, parent, weight, position in sorted(edges, key=lambda edge: (edge[0], edge[3])):
        if origin[child] != child:
            continue
        key = (child, origin[parent])
        if key not in merged:
            merged[key] = (weight, position)
        else:
            former, first = merged[key]
            both = None if former is None or weight is None else former + weight
            merged[key] = (both, first)
    kept = tuple((child, parent, w, p) for (child, parent), (w, p) in merged.items())
    return kept, origin

"""Two models side by side: nearest common ancestors, paths, relatedness, traits and facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import duckdb
import numpy as np

from lineage.evolution.inheritance.relatedness import relatedness
from lineage.graph import CycleError, LineageGraph
from lineage.model import Grade, Kind, PairTest
from lineage.store import published_comparison
from lineage.views.ancestry import Ancestry
from lineage.views.evidence import pair_test
from lineage.views.questions import model_card
from lineage.views.rows import ModelCard

__all__ = [
    "MOST_ANCESTORS",
    "Comparison",
    "Kinship",
    "Meeting",
    "PathEdge",
    "TraitPair",
    "compare_models",
    "kinship",
    "lines_between",
    "meetings",
]

MOST_ANCESTORS = 5_000
"""Ancestors of two models that are walked; a pair with more is told to be cut off."""
_COPIES = frozenset({Kind.DUPLICATE, Kind.CAST, Kind.PERMUTED})
_MERGES = frozenset({Kind.MERGE, Kind.PASSTHROUGH, Kind.MOE})


@dataclass(frozen=True, slots=True)
class PathEdge:
    """One edge above the two models: contradicted claims are none, of a tie the first stands."""

    child: str
    parent: str
    position: int
    relation: str
    weight: float | None
    verdict: str
    grade: str


@dataclass(frozen=True, slots=True)
class Meeting:
    """A nearest common ancestor, and a shortest line down to each of the two.

    Lines lead from the model up to the ancestor, both ends included; one of a single name means
    that the model is the ancestor itself.
    """

    ancestor: str
    line_a: tuple[str, ...]
    line_b: tuple[str, ...]

    @property
    def n_edges(self) -> int:
        """Edges between the two through this ancestor."""
        return len(self.line_a) + len(self.line_b) - 2


@dataclass(frozen=True, slots=True)
class Kinship:
    """Correlation of inherited values that descent alone leads to expect.

    Attributes
    ----------
    correlation
        ``A_ab / √(A_aa A_bb)``; None where it cannot be had, `reason` says why.
    n_models, n_steps, n_measured
        Models in the pedigree of the two; steps of training in it, and those whose own variance
        was measured. The others count as copies, so that the correlation is an upper bound.
    """

    correlation: float | None
    n_models: int
    n_steps: int
    n_measured: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TraitPair:
    """A trait of both; None where it was not measured."""

    name: str
    metric: str
    dataset: str
    higher_is_better: bool | None
    a: float | None
    b: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that a page tells of two models; `edges` are those on the drawn lines."""

    a: ModelCard
    b: ModelCard
    meetings: tuple[Meeting, ...]
    n_common: int
    edges: tuple[PathEdge, ...]
    is_cut: bool
    test: PairTest | None
    kinship: Kinship
    traits: tuple[TraitPair, ...]


def compare_models(
    cursor: duckdb.DuckDBPyConnection, ancestry: Ancestry, a: str, b: str
) -> Comparison | None:
    """Compare two models of a publication; None where it does not know one of them."""
    card_a, card_b = model_card(cursor, a), model_card(cursor, b)
    if card_a is None or card_b is None:
        return None
    edges, is_cut = _edges_above(cursor, ancestry, [a, b])
    found, n_common = meetings(edges, a, b)
    on_lines = {
        pair
        for meeting in found
        for line in (meeting.line_a, meeting.line_b)
        for pair in pairwise(line)
    }
    return Comparison(
        card_a,
        card_b,
        found,
        n_common,
        tuple(edge for edge in edges if (edge.child, edge.parent) in on_lines),
        is_cut,
        pair_test(cursor, a, b),
        kinship(edges, _own_variance(cursor, edges), a, b),
        tuple(TraitPair(*row) for row in published_comparison.traits_of_both(cursor, a, b)),
    )


def _edges_above(
    cursor: duckdb.DuckDBPyConnection, ancestry: Ancestry, models: Sequence[str]
) -> tuple[tuple[PathEdge, ...], bool]:
    """Edges of models and of all their ancestors, and whether there are too many to tell all."""
    places = published_comparison.places_of(cursor, models)
    above = ancestry.above(places, MOST_ANCESTORS)
    rows = published_comparison.edges_at(cursor, above[:MOST_ANCESTORS])
    return tuple(PathEdge(*row) for row in rows), len(above) > MOST_ANCESTORS


def lines_between(
    cursor: duckdb.DuckDBPyConnection, ancestry: Ancestry, pairs: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], tuple[PathEdge, ...]]:
    """For pairs of a model and an ancestor: the edges of a shortest line up; none if there is none.

    One question serves all pairs.
    """
    children = list(dict.fromkeys(child for child, _ in pairs))
    above, _ = _edges_above(cursor, ancestry, children)
    edges = {(edge.child, edge.parent): edge for edge in above}
    parents = _parents(above)
    lines = {child: _lines_up(parents, child) for child in children}
    return {
        (child, ancestor): tuple(edges[step] for step in pairwise(lines[child].get(ancestor, ())))
        for child, ancestor in pairs
    }


def meetings(edges: Sequence[PathEdge], a: str, b: str) -> tuple[tuple[Meeting, ...], int]:
    """The nearest common ancestors of two models, nearest first, and how many they share in all.

    A common ancestor is nearest if no other common ancestor descends from it. A model counts among
    its own ancestors, so that of a model and its ancestor the latter is the only meeting.
    """
    parents = _parents(edges)
    lines_a, lines_b = _lines_up(parents, a), _lines_up(parents, b)
    common = lines_a.keys() & lines_b.keys()
    # Ancestors of a common ancestor are common too: only its own parents need be looked at.
    farther = {parent for name in common for parent in parents.get(name, ())}
    nearest = sorted(
        common - farther, key=lambda name: (len(lines_a[name]) + len(lines_b[name]), name)
    )
    return tuple(Meeting(name, lines_a[name], lines_b[name]) for name in nearest), len(common)


def _parents(edges: Sequence[PathEdge]) -> dict[str, list[str]]:
    parents: dict[str, list[str]] = {}
    for edge in edges:
        parents.setdefault(edge.child, []).append(edge.parent)
    return parents


def _lines_up(parents: Mapping[str, Sequence[str]], start: str) -> dict[str, tuple[str, ...]]:
    """A shortest line from `start` to itself and each of its ancestors."""
    lines: dict[str, tuple[str, ...]] = {start: (start,)}
    frontier = [start]
    while frontier:
        above: list[str] = []
        for name in frontier:
            for parent in parents.get(name, ()):
                if parent not in lines:
                    lines[parent] = (*lines[name], parent)
                    above.append(parent)
        frontier = above
    return lines


# -- relatedness --------------------------------------------------------------------------------


def _own_variance(
    cursor: duckdb.DuckDBPyConnection, edges: Sequence[PathEdge]
) -> dict[str, float | None]:
    """Variance that each child adds of its own, in units of its parent's; None: not measured.

    Weights of a child are its parents' plus a step of its own. The squared relative change
    ‖C−P‖²/‖P‖² is that step's variance; copies and proved merges add nothing.
    """
    children = sorted({edge.child for edge in edges})
    found: dict[str, float | None] = dict.fromkeys(children)
    for child, kind, grade, change in published_comparison.relative_changes(cursor, children):
        if kind in _COPIES or (kind in _MERGES and grade == Grade.PROVED):
            found[child] = 0.0
        elif change is not None and kind not in _MERGES:
            found[child] = float(change) ** 2
    return found


def kinship(edges: Sequence[PathEdge], own: Mapping[str, float | None], a: str, b: str) -> Kinship:
    """Relatedness of two models in the pedigree of their ancestors.

    Parameters
    ----------
    edges
        All edges above the two.
    own
        Variance that each child adds of its own (None: not measured, counted as 0). A founder's
        is 1, founders are taken to be unrelated. What a child's shares leave is from an unknown
        founder.
    """
    names = sorted({a, b, *(name for edge in edges for name in (edge.child, edge.parent))})
    n_measured = sum(value is not None for value in own.values())
    told = (len(names), len(own), n_measured)
    try:
        graph = LineageGraph.from_edges(
            names, [(edge.child, edge.parent, edge.weight, edge.position) for edge in edges]
        )
        left = 1.0 - np.bincount(
            graph.edge_child, weights=graph.parent_weight, minlength=len(graph)
        )
        variance = np.where(graph.n_parents > 0, np.maximum(left, 0.0) ** 2, 1.0)
        variance += np.array([own.get(name) or 0.0 for name in names])
        related = relatedness(graph, variance)
        between, first, second = related.between([a, a, b], [b, a, b]).tolist()
    except CycleError as error:
        return Kinship(None, *told, f"the claims go round in a circle: {error}")
    except ValueError as error:
        return Kinship(None, *told, f"shares are no plain mixture: {error}")
    return Kinship(between / float(np.sqrt(first * second)), *told)

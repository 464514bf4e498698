"""From what models said to what it means: the tree, its lineage, and what distances predict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage.errors import NotFoundError
from lineage.evolution.behaviour.alleles import allele_table, nei_distance, nei_identity
from lineage.evolution.behaviour.lineage_comparison import LineageComparison, compare_with_lineage
from lineage.evolution.behaviour.prediction import predict_trait
from lineage.evolution.behaviour.tree import (
    MIN_TIPS,
    BehaviourTree,
    bootstrap_trees,
    neighbour_joining,
    newick,
    with_support,
)
from lineage.graph import LineageGraph
from lineage.infer.reconcile import in_graph
from lineage.model import Edge, Estimate, Grade, Kind
from lineage.pipeline.behaviour.alleles import Alleles
from lineage.pipeline.population import COPY_KINDS
from lineage.store.estimates import TraitValue, read_traits
from lineage.store.home import Home
from lineage.store.publish import open_published
from lineage.store.reads import edges as published_edges

__all__ = ["Observed", "Register", "Study", "read_register", "study"]

Floats = NDArray[np.float64]

_CHANGE = "relative_change"
"""What inference calls the size of a step of training, of all weights."""
_WELL_SUPPORTED = 0.7
"""Share of resampled trees from which a split is usually believed (Hillis & Bull 1993)."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What one model said; `n_samples` is None where frequencies were computed."""

    alleles: Sequence[Alleles]
    n_samples: int | None


@dataclass(frozen=True, slots=True)
class Register:
    """What a publication knows of lineage and scores: edges that the weights show, and traits."""

    edges: tuple[Edge, ...]
    traits: tuple[TraitValue, ...]


@dataclass(frozen=True, slots=True)
class Study:
    """What behaviour shows of the models that were read.

    Attributes
    ----------
    models
        Those with at least one gene.
    identity
        Nei's genetic identity of every two of them; NaN where they share no gene.
    newick
        The neighbour-joining tree with support in per cent; None, with the reason in `note`, where
        there is none.
    n_splits, n_supported
        Splits of the tree, and those that at least 70 % of the resampled trees make.
    n_trees
        Trees of resampled genes.
    comparison
        With the lineage of the register; None, with the reason in `note`, where there is none.
    predictions
        R² of each trait, predicted from distances.
    """

    models: tuple[str, ...]
    identity: tuple[tuple[float, ...], ...]
    newick: str | None
    n_splits: int
    n_supported: int
    n_trees: int
    comparison: LineageComparison | None
    predictions: tuple[tuple[str, Estimate], ...]
    note: str


def read_register(home: Home) -> Register | None:
    """The current publication's lineage and traits; None where nothing was published.

    Edges that only somebody's word stands for are left out: behaviour is held against weights.

    Raises
    ------
    SchemaError
        If the publication cannot be trusted.
    """
    try:
        connection = open_published(home)
    except NotFoundError:
        return None
    try:
        edges = published_edges(connection)
        return Register(
            tuple(one for one in edges if in_graph(one) and one.grade is not Grade.DECLARED),
            read_traits(connection),
        )
    finally:
        connection.close()


def study(
    observed: Mapping[str, Observed], register: Register | None, *, n_resamples: int, seed: int
) -> Study:
    """Compare models by what they said.

    Parameters
    ----------
    observed
        Of each model.
    register
        Lineage and scores to hold it against, where there are any.
    n_resamples
        Trees of resampled genes.
    seed
        Of resamples and permutations.
    """
    genes = {
        name: [one.frequencies or None for one in found.alleles]
        for name, found in observed.items()
        if any(one.frequencies for one in found.alleles)
    }
    if not genes:
        return Study((), (), None, 0, 0, 0, None, (), "no model said anything")
    table = allele_table(genes, {name: observed[name].n_samples for name in genes})
    identity = nei_identity(table)
    distance = nei_distance(identity)
    rng = np.random.default_rng(seed)
    notes: list[str] = []
    tree: BehaviourTree | None = None
    trees: tuple[BehaviourTree, ...] = ()
    if len(genes) < MIN_TIPS:
        notes.append(f"no tree: {len(genes)} models, {MIN_TIPS} needed")
    else:
        try:
            tree = neighbour_joining(table.models, distance)
        except ValueError as error:
            notes.append(f"no tree: {error}")
    if tree is not None:
        trees = bootstrap_trees(table, rng=rng, n_resamples=n_resamples)
        tree = with_support(tree, trees) if trees else tree
    if register is None:
        notes.append("no lineage to compare with: nothing was published in this home")
    comparison: LineageComparison | None = None
    predictions: tuple[tuple[str, Estimate], ...] = ()
    if register is not None:
        graph, lengths = _graph(register.edges, table.models)
        if tree is not None:
            comparison = compare_with_lineage(tree, trees, graph, lengths=lengths, rng=rng)
        if not np.isnan(distance).any():
            predictions = _predictions(table.models, distance, graph, register.traits, rng)
    supported = 0 if tree is None else int((tree.support >= _WELL_SUPPORTED).sum())
    return Study(
        table.models,
        tuple(tuple(row) for row in identity.tolist()),
        None if tree is None else newick(tree),
        0 if tree is None else len(tree.split_nodes),
        supported,
        len(trees),
        comparison,
        predictions,
        "; ".join(notes),
    )


def _graph(
    edges: Sequence[Edge], models: Sequence[str]
) -> tuple[LineageGraph, dict[str, Floats | None]]:
    """The pedigree, and its edges' lengths in two units.

    In edges, a copy is no step from its original. In change of weights the length of an edge is
    what was measured of it; where nothing was (merges, mostly) it is not known.
    """
    ids = sorted({*models, *(name for edge in edges for name in (edge.child, edge.parent))})
    position: dict[str, int] = {}
    tuples = []
    steps: dict[tuple[str, str], tuple[float, float]] = {}
    for edge in edges:  # primary parent first within a child
        place = position.get(edge.child, 0)
        position[edge.child] = place + 1
        tuples.append((edge.child, edge.parent, edge.weight, place))
        steps[edge.child, edge.parent] = _steps(edge)
    graph = LineageGraph.from_edges(ids, tuples)
    lengths = np.array(
        [
            steps[graph.ids[child], graph.ids[parent]]
            for child, parent in zip(graph.edge_child, graph.parent_index, strict=True)
        ]
    ).reshape(-1, 2)
    return graph, {"edges": lengths[:, 0], "relative change of weights": lengths[:, 1]}


def _steps(edge: Edge) -> tuple[float, float]:
    """Length of an edge in steps, and in relative change of weights (NaN: not measured)."""
    if edge.kind is not None and Kind(edge.kind) in COPY_KINDS:
        return 0.0, 0.0
    changes = [one.value for one in edge.evidence if one.name == _CHANGE and one.value is not None]
    return 1.0, changes[0] if changes and changes[0] >= 0 else math.nan


def _predictions(
    models: Sequence[str],
    distance: Floats,
    graph: LineageGraph,
    traits: Sequence[TraitValue],
    rng: np.random.Generator,
) -> tuple[tuple[str, Estimate], ...]:
    place = {name: i for i, name in enumerate(models)}
    columns: dict[str, Floats] = {}
    for one in traits:
        if one.repo_id in place:
            column = columns.setdefault(one.trait, np.full(len(models), np.nan))
            column[place[one.repo_id]] = one.value
    founder = graph.founder[[graph.number(name) for name in models]]
    return tuple(
        (trait, predict_trait(distance, column, founder, rng=rng).r_squared)
        for trait, column in sorted(columns.items())
    )

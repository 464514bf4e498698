"""The population as the register knows it: pedigree, births, traits and fitness, as arrays.

What the measure stage estimates and `herdbook lewontin` judges. Copies are collapsed into what they
copy (:func:`lineage.evolution.traits.collapse_copies`): a copy neither varies nor inherits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np
from numpy.typing import NDArray

from lineage.evolution.catalogue import STATED, Trait, evaluation_trait, stated_trait
from lineage.evolution.lewontin import strata_of
from lineage.evolution.selection.fitness import (
    Fitness,
    children_within,
    rate_since_birth,
    rolling_count,
)
from lineage.evolution.threats import DAYS_A_MONTH
from lineage.evolution.traits import EdgeTuple, Population, collapse_copies
from lineage.graph import LineageGraph
from lineage.infer.reconcile import in_graph, reconcile
from lineage.model import Edge, Kind
from lineage.pipeline.stated import Labels, stated_labels, stated_numbers, with_card
from lineage.store.estimates import (
    Evaluation,
    Member,
    Stated,
    TraitValue,
    read_evaluations,
    read_members,
    read_stated,
    read_traits,
)
from lineage.store.findings import current_findings
from lineage.store.reads import creation_dates, unrelated_pairs
from lineage.store.snapshots import standing_claims

__all__ = [
    "COPY_KINDS",
    "LEAST_MEASURED",
    "PARAMETERS",
    "Observed",
    "Studied",
    "all_ids",
    "birth_day",
    "fitnesses",
    "last_day",
    "population_of",
    "read_observed",
    "strata",
    "study",
    "summed",
    "to_days",
    "without_copies",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

COPY_KINDS = frozenset({Kind.DUPLICATE, Kind.CAST, Kind.QUANTIZED, Kind.PERMUTED})
"""Kinds that repeat their parent: another name, format, precision or order of units."""

LEAST_MEASURED = 3
"""Traits measured on fewer models are no population."""

PARAMETERS = "log10 parameters"
_SIZE_STEP = 0.1
"""Models within about a quarter of each other's size are of one size."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The Hub shows this creation time for everything older: a bound, not a birth.
_HUB_FLOOR = datetime(2022, 3, 2, 23, 29, 5, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Observed:
    """What the register holds on its models, as read."""

    members: tuple[Member, ...]
    stated: tuple[Stated, ...]
    values: tuple[TraitValue, ...]
    evaluations: tuple[Evaluation, ...]
    edges: tuple[EdgeTuple, ...]
    copies: frozenset[str]


@dataclass(frozen=True, eq=False)
class Studied:
    """A population without copies, ready to be asked about any declared trait.

    Attributes
    ----------
    population
        Pedigree, births and numeric and binary traits.
    labels
        Categorical traits: the set of values of each model, empty where unknown.
    written : (n,)
        Models with a card; its text is read where it is asked about.
    declared
        Every trait with a value, by name.
    owner : (n,)
        Number of each model's owner.
    until_day
        Last day that was observed, in days since 1970 UTC.
    origin
        Every model to the one that stands for it.
    """

    population: Population
    labels: Mapping[str, Labels]
    written: Bools
    declared: Mapping[str, Trait]
    owner: Ints
    until_day: float
    origin: Mapping[str, str]


def read_observed(connection: duckdb.DuckDBPyConnection, *, ignore_claims: bool) -> Observed:
    """Read everything that a population is made of."""
    edges = [edge for edge in _current_edges(connection, ignore_claims) if in_graph(edge)]
    return Observed(
        read_members(connection),
        read_stated(connection),
        read_traits(connection),
        read_evaluations(connection),
        tuple(_edge_tuples(edges)),
        _copies(edges),
    )


def study(observed: Observed) -> Studied:
    """The population with copies collapsed, and every trait that anybody stated or measured."""
    ids, kept, origin = without_copies(observed)
    population = population_of(ids, kept, observed.members, observed.values)
    stated = {one.repo_id: one for one in observed.stated}
    rows = [stated.get(name) for name in ids]
    # A stranger's evaluation may be called like a trait that records state.
    records = {trait.name for trait in STATED}
    numbers = {
        name: column
        for name, column in population.traits.items()
        if name not in records or name == PARAMETERS
    }
    for name, column in stated_numbers(rows).items():
        if np.isfinite(column).sum() >= LEAST_MEASURED:
            numbers[name] = column
    labels = {name: sets for name, sets in stated_labels(rows).items() if any(sets)}
    written = with_card(rows)
    by_name = {one.trait: one for one in observed.evaluations}
    declared = {
        name: stated_trait(name)
        if name in records
        else evaluation_trait(
            name, by_name[name].metric, by_name[name].higher_is_better, by_name[name].source
        )
        for name in (*numbers, *labels, *(["card"] if written.any() else []))
    }
    owners = sorted({name.partition("/")[0] for name in ids})
    number = {owner: i for i, owner in enumerate(owners)}
    return Studied(
        Population(population.graph, population.born_day, numbers),
        labels,
        written,
        declared,
        np.array([number[name.partition("/")[0]] for name in ids], dtype=np.int64),
        last_day(observed.members),
        origin,
    )


def without_copies(
    observed: Observed,
) -> tuple[list[str], tuple[EdgeTuple, ...], dict[str, str]]:
    """Models that are no copies, their edges, and every model's original."""
    ids = all_ids(observed)
    kept, origin = collapse_copies(ids, observed.edges, observed.copies)
    return [name for name in ids if origin[name] == name], kept, origin


def all_ids(observed: Observed) -> list[str]:
    """Members of the register, then parents that nobody crawled."""
    known = [member.repo_id for member in observed.members]
    outside = {name for edge in observed.edges for name in edge[:2]} - set(known)
    return [*known, *sorted(outside)]


def population_of(
    ids: Sequence[str],
    edges: Sequence[EdgeTuple],
    members: Sequence[Member],
    values: Sequence[TraitValue],
) -> Population:
    """Pedigree, births, evaluation results and size; traits of too few models left out."""
    place = {name: i for i, name in enumerate(ids)}
    born = np.full(len(ids), np.nan)
    size = np.full(len(ids), np.nan)
    for member in members:
        i = place.get(member.repo_id)
        if i is None:
            continue
        born[i] = birth_day(member)
        if member.parameters:
            size[i] = np.log10(member.parameters)
    traits: dict[str, Floats] = {}
    measured = Counter(one.trait for one in values if one.repo_id in place)
    for one in values:
        # One column a trait is as long as the population: not for names that one model has.
        if one.repo_id in place and measured[one.trait] >= LEAST_MEASURED:
            column = traits.setdefault(one.trait, np.full(len(ids), np.nan))
            column[place[one.repo_id]] = one.value
    traits[PARAMETERS] = size
    enough = {
        name: column
        for name, column in sorted(traits.items())
        if np.isfinite(column).sum() >= LEAST_MEASURED
    }
    return Population(LineageGraph.from_edges(ids, edges), born, enough)


def fitnesses(
    population: Population,
    members: Sequence[Member],
    origin: Mapping[str, str],
    window_days: float,
) -> tuple[Fitness, ...]:
    """Children, likes and downloads of every model and its copies."""
    graph, born = population.graph, population.born_day
    until = last_day(members)
    likes = summed(graph, origin, {m.repo_id: m.likes for m in members})
    downloads = summed(graph, origin, {m.repo_id: m.downloads_30d for m in members})
    return (
        children_within(graph, born, until, window_days),
        rate_since_birth("likes_per_day", likes, born, until, window_days),
        rolling_count("downloads_30d", downloads, born, until),
    )


def summed(
    graph: LineageGraph, origin: Mapping[str, str], counts: Mapping[str, float | None]
) -> Floats:
    """Sum over a model and its copies of what is known, shape (n,); NaN where nothing is."""
    total = np.full(len(graph), np.nan)
    for name, count in counts.items():
        if count is not None and not np.isnan(count):
            i = graph.number(origin[name])
            total[i] = count + (0.0 if np.isnan(total[i]) else total[i])
    return total


def strata(population: Population, trait: str) -> tuple[str, Ints]:
    """Models that are alike but for the trait, shape (n,), and in what they are alike.

    Size is not held equal to itself.
    """
    founder, month = population.graph.founder, np.floor(population.born_day / DAYS_A_MONTH)
    if trait == PARAMETERS or PARAMETERS not in population.traits:
        return "founder and month", strata_of(founder, month)
    size = np.round(population.traits[PARAMETERS] / _SIZE_STEP)
    return "founder, size and month", strata_of(founder, size, month)


def birth_day(member: Member) -> float:
    """Birth in days since 1970 UTC; NaN where it is not known."""
    moment = member.created_at
    return np.nan if moment is None or moment <= _HUB_FLOOR else to_days(moment)


def last_day(members: Sequence[Member]) -> float:
    """The last day on which anything was observed; 0 where nothing was."""
    return max((to_days(member.observed_at) for member in members), default=0.0)


def to_days(moment: datetime) -> float:
    """Days since 1970 UTC."""
    return (moment - _EPOCH) / timedelta(days=1)


def _current_edges(connection: duckdb.DuckDBPyConnection, ignore_claims: bool) -> tuple[Edge, ...]:
    claims = () if ignore_claims else standing_claims(connection)
    return reconcile(
        claims,
        current_findings(connection),
        unrelated_pairs(connection),
        creation_dates(connection),
    )


def _edge_tuples(edges: Sequence[Edge]) -> list[EdgeTuple]:
    """Edges with positions: reconciled edges come primary parent first within a child."""
    position: dict[str, int] = {}
    tuples: list[EdgeTuple] = []
    for edge in edges:
        place = position.get(edge.child, 0)
        tuples.append((edge.child, edge.parent, edge.weight, place))
        position[edge.child] = place + 1
    return tuples


def _copies(edges: Sequence[Edge]) -> frozenset[str]:
    """Children whose weights, or for want of them whose declared relation, call them a copy."""
    return frozenset(
        edge.child
        for edge in edges
        if edge.kind in COPY_KINDS or (edge.kind is None and edge.relation == "quantized")
    )

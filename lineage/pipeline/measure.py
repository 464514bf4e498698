"""The measure stage: population statistics of every measured trait, each an estimate."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np
from numpy.typing import NDArray

from lineage.evolution.heritability import heritability
from lineage.evolution.selection import (
    Fitness,
    children_within,
    opportunity,
    opportunity_excess,
    rate_since_birth,
    rolling_count,
    selection_differential,
    selection_intensity,
)
from lineage.evolution.traits import EdgeTuple, Population, collapse_copies
from lineage.graph import LineageGraph
from lineage.infer.reconcile import in_graph, reconcile
from lineage.model import Edge, Estimate, Kind
from lineage.store.estimates import (
    EstimateRow,
    Member,
    TraitValue,
    read_members,
    read_traits,
    replace_estimates,
)
from lineage.store.findings import current_findings
from lineage.store.home import Home
from lineage.store.reads import creation_dates, unrelated_pairs
from lineage.store.runs import record_run
from lineage.store.snapshots import standing_claims

__all__ = [
    "COPY_KINDS",
    "LEAST_CLADE",
    "LEAST_MEASURED",
    "MeasureReport",
    "estimate_all",
    "measure",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

COPY_KINDS = frozenset({Kind.DUPLICATE, Kind.CAST, Kind.QUANTIZED, Kind.PERMUTED})
"""Kinds that repeat their parent: another name, format, precision or order of units."""

LEAST_CLADE = 8
"""A founder's clade is measured by itself when it has this many measured members."""

LEAST_MEASURED = 3
"""Traits measured on fewer models are no population."""

PARAMETERS = "log10 parameters"
_CONSTITUTIVE = (
    "; constitutive trait, copied by construction: says that sizes are kept, not that they adapt"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The Hub shows this creation time for everything older: a bound, not a birth.
_HUB_FLOOR = datetime(2022, 3, 2, 23, 29, 5, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class MeasureReport:
    """What was measured."""

    n_models: int
    n_edges: int
    n_copies: int
    n_traits: int
    n_populations: int
    n_estimates: int
    n_untrusted: int


@dataclass(frozen=True, eq=False)
class _Group:
    """Members that are measured together, and who counts as independent among them."""

    name: str
    member: NDArray[np.bool_]
    cluster: Ints
    note: str


def measure(
    home: Home, *, ignore_claims: bool = False, window_days: float = 180.0, seed: int = 0
) -> MeasureReport:
    """Estimate heritability, selection and its opportunity, and record them.

    Parameters
    ----------
    ignore_claims
        Use the edges that the weights show, and no declared one.
    window_days
        How long each model's children are counted from its birth.
    seed
        Of the resampled intervals.

    Raises
    ------
    NotFoundError
        If nothing was crawled.
    """
    home.require_database()
    connection = home.open_working()
    try:
        members = read_members(connection)
        values = read_traits(connection)
        edges = [edge for edge in _current_edges(connection, ignore_claims) if in_graph(edge)]
        parameters = {"ignore_claims": ignore_claims, "window_days": window_days, "seed": seed}
        inputs = {"models": len(members), "edges": len(edges), "trait_values": len(values)}
        with record_run(connection, "measure", parameters, inputs) as run_id:
            copies = _copies(edges)
            tuples = _edge_tuples(edges)
            rows = list(estimate_all(members, values, tuples, copies, window_days, seed))
            replace_estimates(connection, run_id, rows)
        return MeasureReport(
            len(members),
            len(edges),
            len(copies),
            len({row.trait for row in rows if row.trait is not None}),
            len({row.population for row in rows}),
            len(rows),
            sum(bool(np.isnan(row.estimate.value)) for row in rows),
        )
    finally:
        connection.close()


def estimate_all(
    members: Sequence[Member],
    values: Sequence[TraitValue],
    edges: Sequence[EdgeTuple],
    copies: frozenset[str],
    window_days: float,
    seed: int,
) -> Iterator[EstimateRow]:
    """Every statistic of every trait and population; copies collapsed, then heritability with them.

    Fitness of a model that was copied counts what its copies were given too: they propagate the
    same weights. A copy is no child of its own.
    """
    known = {member.repo_id for member in members}
    outside = sorted({name for edge in edges for name in edge[:2]} - known)
    ids = (*(member.repo_id for member in members), *outside)
    kept, origin = collapse_copies(ids, edges, copies)
    originals = [name for name in ids if origin[name] == name]
    population = _population(originals, kept, members, values)
    fitnesses = _fitnesses(population, members, origin, window_days)
    for group in _groups(population):
        yield from _heritabilities("heritability", population, group, "; copies collapsed")
        yield from _selection(population, group, fitnesses, seed)
    everyone = _population(ids, edges, members, values)
    for group in _groups(everyone):
        yield from _heritabilities(
            "heritability_with_copies", everyone, group, "; copies counted as children"
        )


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


def _population(
    ids: Sequence[str],
    edges: Sequence[EdgeTuple],
    members: Sequence[Member],
    values: Sequence[TraitValue],
) -> Population:
    place = {name: i for i, name in enumerate(ids)}
    born = np.full(len(ids), np.nan)
    size = np.full(len(ids), np.nan)
    for member in members:
        i = place.get(member.repo_id)
        if i is None:
            continue
        if member.created_at is not None and member.created_at > _HUB_FLOOR:
            born[i] = _days(member.created_at)
        if member.parameters:
            size[i] = np.log10(member.parameters)
    traits: dict[str, Floats] = {}
    for one in values:
        if one.repo_id in place:
            column = traits.setdefault(one.trait, np.full(len(ids), np.nan))
            column[place[one.repo_id]] = one.value
    traits[PARAMETERS] = size
    enough = {
        name: column
        for name, column in sorted(traits.items())
        if np.isfinite(column).sum() >= LEAST_MEASURED
    }
    return Population(LineageGraph.from_edges(ids, edges), born, enough)


def _fitnesses(
    population: Population,
    members: Sequence[Member],
    origin: Mapping[str, str],
    window_days: float,
) -> tuple[Fitness, ...]:
    graph, born = population.graph, population.born_day
    until = max((_days(member.observed_at) for member in members), default=0.0)
    likes = _totals(graph, origin, {m.repo_id: m.likes for m in members})
    downloads = _totals(graph, origin, {m.repo_id: m.downloads_30d for m in members})
    return (
        children_within(graph, born, until, window_days),
        rate_since_birth("likes_per_day", likes, born, until, window_days),
        rolling_count("downloads_30d", downloads, born, until),
    )


def _totals(
    graph: LineageGraph, origin: Mapping[str, str], counts: Mapping[str, int | None]
) -> Floats:
    """Sum over a model and its copies of what is known; NaN where nothing is."""
    total = np.full(len(graph), np.nan)
    for name, count in counts.items():
        if count is not None:
            i = graph.number(origin[name])
            total[i] = count + (0.0 if np.isnan(total[i]) else total[i])
    return total


def _groups(population: Population) -> Iterator[_Group]:
    """Everybody, clustered by founder; large clades, clustered by the founder's own lines."""
    graph = population.graph
    yield _Group(
        "all",
        np.ones(len(graph), dtype=bool),
        graph.founder,
        "clusters: founders by primary parent",
    )
    measured = np.zeros(len(graph), dtype=bool)
    for name, column in population.traits.items():
        if name != PARAMETERS or len(population.traits) == 1:
            measured |= np.isfinite(column)
    counts = np.bincount(graph.founder[measured], minlength=len(graph))
    branch = population.branch
    for i in np.flatnonzero(counts >= LEAST_CLADE):
        yield _Group(
            graph.ids[i],
            graph.founder == i,
            branch,
            "one founder's clade; clusters: the lines of the founder's children",
        )


def _heritabilities(
    statistic: str, population: Population, group: _Group, note: str
) -> Iterator[EstimateRow]:
    for trait, column in population.traits.items():
        found = heritability(
            column[group.member],
            population.mid_parent(trait)[group.member],
            group.cluster[group.member],
        )
        yield _row(statistic, trait, None, group, found, note)


def _selection(
    population: Population, group: _Group, fitnesses: Sequence[Fitness], seed: int
) -> Iterator[EstimateRow]:
    cluster = group.cluster[group.member]
    for whole in fitnesses:
        fitness = replace(whole, values=whole.values[group.member])
        alone = [("opportunity", opportunity)]
        if fitness.name.startswith("children"):
            alone.append(("opportunity_excess", opportunity_excess))
        for statistic, function in alone:
            rng = _rng(seed, statistic, "", fitness.name, group.name)
            found = function(fitness, cluster, rng=rng)
            yield _row(statistic, None, fitness.name, group, found, "; copies collapsed")
        for trait, column in population.traits.items():
            for statistic, of_trait in (
                ("selection_differential", selection_differential),
                ("selection_intensity", selection_intensity),
            ):
                rng = _rng(seed, statistic, trait, fitness.name, group.name)
                found = of_trait(column[group.member], fitness, cluster, rng=rng)
                yield _row(statistic, trait, fitness.name, group, found, "; copies collapsed")


def _row(
    statistic: str,
    trait: str | None,
    fitness: str | None,
    group: _Group,
    found: Estimate,
    note: str,
) -> EstimateRow:
    constitutive = _CONSTITUTIVE if trait == PARAMETERS else ""
    method = f"{found.method}; {group.note}{note}{constitutive}"
    return EstimateRow(statistic, trait, fitness, group.name, replace(found, method=method))


def _rng(seed: int, *words: str) -> np.random.Generator:
    """A stream of its own for each estimate, whatever else is measured."""
    return np.random.default_rng([seed, zlib.crc32("\0".join(words).encode())])


def _days(moment: datetime) -> float:
    return (moment - _EPOCH) / timedelta(days=1)

"""The measure stage: population statistics of every measured trait, each an estimate."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lineage.evolution.categories.information import parent_information
from lineage.evolution.categories.label_selection import fitness_between_labels, permute_labels
from lineage.evolution.categories.mutation import mutation_rate
from lineage.evolution.categories.value_sets import single_values, value_sets
from lineage.evolution.diversity.hill import hill_number
from lineage.evolution.diversity.intervals import diversity
from lineage.evolution.inheritance.adjusted import adjusted_heritability
from lineage.evolution.inheritance.clonal import animal_heritability
from lineage.evolution.inheritance.heritability import (
    heritability_jackknife,
    within_founder_heritability,
)
from lineage.evolution.lewontin import strata_of
from lineage.evolution.selection.differentials import (
    differential_jackknife,
    intensity_jackknife,
    opportunity,
    opportunity_excess,
)
from lineage.evolution.selection.fitness import Fitness
from lineage.evolution.threats import DAYS_A_MONTH
from lineage.evolution.traits import Population
from lineage.model import Estimate
from lineage.pipeline.population import (
    PARAMETERS,
    Observed,
    Studied,
    all_ids,
    fitnesses,
    population_of,
    read_observed,
    strata,
    study,
)
from lineage.store.estimates import EstimateRow, replace_estimates
from lineage.store.home import Home
from lineage.store.runs import record_run

__all__ = ["LEAST_CLADE", "MeasureReport", "estimate_all", "measure"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

LEAST_CLADE = 8
"""A founder's clade is measured by itself when it has this many measured members."""

_CONSTITUTIVE = (
    "; constitutive trait, copied by construction: says that sizes are kept, not that they adapt"
)


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
        Of whatever is resampled or left to chance: intervals and p-values, no estimate.

    Raises
    ------
    NotFoundError
        If nothing was crawled.
    """
    home.require_database()
    connection = home.open_working()
    try:
        observed = read_observed(connection, ignore_claims=ignore_claims)
        parameters = {"ignore_claims": ignore_claims, "window_days": window_days, "seed": seed}
        inputs = {
            "models": len(observed.members),
            "edges": len(observed.edges),
            "trait_values": len(observed.values),
        }
        with record_run(connection, "measure", parameters, inputs) as run_id:
            rows = list(estimate_all(observed, window_days, seed))
            replace_estimates(connection, run_id, rows)
        return MeasureReport(
            len(observed.members),
            len(observed.edges),
            len(observed.copies),
            len({row.trait for row in rows if row.trait is not None}),
            len({row.population for row in rows}),
            len(rows),
            sum(bool(np.isnan(row.estimate.value)) for row in rows),
        )
    finally:
        connection.close()


def estimate_all(observed: Observed, window_days: float, seed: int) -> Iterator[EstimateRow]:
    """Every statistic of every trait and population; copies collapsed, then heritability with them.

    Fitness of a model that was copied counts what its copies were given too: they propagate the
    same weights. A copy is no child of its own.
    """
    studied = study(observed)
    population = _of_quantities(studied)
    counted = fitnesses(population, observed.members, studied.origin, window_days)
    for group in _groups(population):
        yield from _heritabilities("heritability", population, group, "; copies collapsed", seed)
        yield from _selection(population, group, counted, seed)
    everybody = next(_groups(population))
    yield from _beyond_slopes(population, studied.owner, everybody, seed)
    yield from _categories(studied, everybody, counted, seed)
    everyone = population_of(all_ids(observed), observed.edges, observed.members, observed.values)
    for group in _groups(everyone):
        yield from _heritabilities(
            "heritability_with_copies", everyone, group, "; copies counted as children", seed
        )


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


def _of_quantities(studied: Studied) -> Population:
    """The population with its evaluation results and its size, what `measure` judges by slopes."""
    population = studied.population
    quantities = {
        name: column
        for name, column in population.traits.items()
        if studied.declared[name].is_evaluation or name == PARAMETERS
    }
    return Population(population.graph, population.born_day, quantities)


def _beyond_slopes(
    population: Population, owner: Ints, group: _Group, seed: int
) -> Iterator[EstimateRow]:
    """Heredity within founders, within months between owners, and by all relatives at once."""
    graph, month = population.graph, _month(population)
    for trait, column in population.traits.items():
        rng = _rng(seed, "beyond slopes", trait)
        within = within_founder_heritability(
            column, population.mid_parent(trait), graph.founder, rng=rng
        )
        yield _row("heritability_within_founders", trait, None, group, within, "; copies collapsed")
        adjusted = adjusted_heritability(population, trait, owner, group.cluster, month, rng=rng)
        yield _row("heritability_adjusted", trait, None, group, adjusted, "; copies collapsed")
        by_relatives = animal_heritability(graph, column)
        yield _row("animal_model", trait, None, group, by_relatives, "; copies collapsed")


def _categories(
    studied: Studied, group: _Group, counted: Sequence[Fitness], seed: int
) -> Iterator[EstimateRow]:
    """Diversity, mutation, information and selection of every categorical trait."""
    graph, cluster, note = studied.population.graph, group.cluster, "; copies collapsed"
    child, parent = graph.edge_child, graph.parent_index
    for trait, values in studied.labels.items():
        sets, _ = value_sets(values)
        alike, stratum = strata(studied.population, trait)
        label = single_values(sets)
        rng = _rng(seed, "categories", trait)
        number = diversity(
            label, cluster, partial(hill_number, q=1.0), "Hill number of order 1", rng=rng,
            lowest=1.0,
        )  # fmt: skip
        yield _row("effective_number", trait, None, group, number, note)
        rate = mutation_rate(sets, child, parent, cluster[child])
        yield _row("mutation_rate", trait, None, group, rate.by_founder, note)
        told = parent_information(
            label, child, parent, cluster[child], stratum=stratum, alike=alike, rng=rng
        )
        chance = f"; {told.null_mean:.3g} by chance" if np.isfinite(told.null_mean) else ""
        yield _row("parent_information", trait, None, group, told.observed, f"{chance}{note}")
        for fitness in counted:
            between = fitness_between_labels(label, fitness, cluster, rng=rng)
            tested = permute_labels(label, fitness, stratum, rng=rng, n_permutations=199)
            known = not np.isnan(tested.p_value)
            between = replace(between, p_value=tested.p_value if known else None)
            chance = f"; {tested.expected:.3g} by chance" if known else ""
            yield _row(
                "fitness_between_values", trait, fitness.name, group, between, f"{chance}{note}"
            )


def _heritabilities(
    statistic: str, population: Population, group: _Group, note: str, seed: int
) -> Iterator[EstimateRow]:
    for trait, column in population.traits.items():
        found = heritability_jackknife(
            column[group.member],
            population.mid_parent(trait)[group.member],
            group.cluster[group.member],
            rng=_rng(seed, statistic, trait, "", group.name),
        )
        yield _row(statistic, trait, None, group, found, note)


def _selection(
    population: Population, group: _Group, fitnesses: Sequence[Fitness], seed: int
) -> Iterator[EstimateRow]:
    cluster, month = group.cluster[group.member], _month(population)[group.member]
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
                ("selection_differential", differential_jackknife),
                ("selection_intensity", intensity_jackknife),
            ):
                rng = _rng(seed, statistic, trait, fitness.name, group.name)
                found = of_trait(column[group.member], fitness, cluster, rng=rng, month=month)
                yield _row(statistic, trait, fitness.name, group, found, "; copies collapsed")


def _month(population: Population) -> Ints:
    """Month of each model's birth; unknown births are one month of their own."""
    return strata_of(np.floor(population.born_day / DAYS_A_MONTH))


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
    """A stream of its own for what the words name, whatever else is measured."""
    return np.random.default_rng([seed, zlib.crc32("\0".join(words).encode())])

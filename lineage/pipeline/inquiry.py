"""What is asked of the register before any trait is named: of whom, and by which fitness."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property

import duckdb
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from crawler.cards import read_card
from lineage.errors import NotFoundError, UsageError
from lineage.evolution.catalogue import Trait, TraitType
from lineage.evolution.categories.text_traits import term_counts, tf_idf
from lineage.evolution.chance.attachment_fit import AttachmentFit, fit_attachment
from lineage.evolution.selection.fitness import Fitness, descendants_within
from lineage.pipeline.gains import gained_between_observations, gained_in_window
from lineage.pipeline.population import (
    Observed,
    Studied,
    fitnesses,
    read_observed,
    study,
    to_days,
)
from lineage.store.home import Home
from lineage.store.snapshots import Total, card_texts

__all__ = [
    "FITNESSES",
    "Inquiry",
    "Scope",
    "TraitCoverage",
    "coverage_of",
    "open_inquiry",
    "opened",
    "read_texts",
]

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

FITNESSES = (
    "children", "descendants", "likes", "downloads", "likes-gained", "downloads-gained",
    "likes-in-window", "downloads-in-window",
)  # fmt: skip
_TOTALS = {"likes": Total.LIKES, "downloads": Total.DOWNLOADS}


@dataclass(frozen=True, slots=True)
class TraitCoverage:
    """A declared trait, and of how many models it is known."""

    trait: Trait
    n_known: int
    n_models: int
    n_pairs: int
    """Edges with the trait known at both ends."""

    @property
    def missing(self) -> float:
        """Share of the models without a value; NaN without models."""
        return 1 - self.n_known / self.n_models if self.n_models else float("nan")


@dataclass(frozen=True, slots=True)
class Scope:
    """Of whom, by what, and on which pedigree.

    Attributes
    ----------
    clade
        Only this model and its descendants.
    since
        Only models born since then; their parents may be older.
    fitness
        One of :data:`FITNESSES`.
    window_days
        How long propagation is counted from each model's birth, where a window is used.
    ignore_claims
        Use the edges that the weights show, and no declared one.
    seed
        Of resamples and permutations.
    """

    clade: str | None = None
    since: datetime | None = None
    fitness: str = "children"
    window_days: float = 180.0
    ignore_claims: bool = False
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Inquiry:
    """The population, who of it is asked, and the fitness of each.

    Attributes
    ----------
    clade
        Original of the model that `scope` names.
    member : (n,)
        Who is asked.
    cluster : (n,)
        Independent groups: founders, or the lines of a clade.
    texts : (n, n_buckets)
        Words of each model's card (:func:`lineage.evolution.categories.text_traits.tf_idf`); None
        until :func:`read_texts`.
    """

    scope: Scope
    observed: Observed
    studied: Studied
    clade: str | None
    member: Bools
    cluster: Ints
    fitness: Fitness
    texts: csr_array | None = None

    @property
    def until(self) -> datetime:
        """The last moment that was observed."""
        return datetime.fromtimestamp(86_400 * self.studied.until_day, UTC)

    @cached_property
    def attention(self) -> AttachmentFit | None:
        """The law by which parents were chosen, fitted once for all traits; None: none can be."""
        population = self.studied.population
        try:
            return fit_attachment(population.graph, population.born_day)
        except ValueError:
            return None

    @property
    def counted(self) -> str:
        """What fitness counts, and who was left out."""
        return self.fitness.method.removeprefix("fitness: ")


@contextmanager
def opened(home: Home) -> Iterator[duckdb.DuckDBPyConnection]:
    """The working database of a home that has one.

    Raises
    ------
    NotFoundError
        If nothing was crawled.
    """
    home.require_database()
    connection = home.open_working()
    try:
        yield connection
    finally:
        connection.close()


def open_inquiry(connection: duckdb.DuckDBPyConnection, scope: Scope) -> Inquiry:
    """Read what `scope` needs.

    Raises
    ------
    NotFoundError
        If the model is unknown, or the history of counts does not allow the fitness.
    UsageError
        If there is no such fitness.
    """
    if scope.fitness not in FITNESSES:
        raise UsageError(f"fitness is one of {', '.join(FITNESSES)}, not {scope.fitness}")
    observed = read_observed(connection, ignore_claims=scope.ignore_claims)
    studied = study(observed)
    population = studied.population
    original = None if scope.clade is None else studied.origin.get(scope.clade)
    if scope.clade is not None and original is None:
        raise NotFoundError(f"{scope.clade} is not in the register")
    if original is None:
        member, cluster = np.ones(len(population.graph), dtype=bool), population.graph.founder
    else:
        member, cluster = population.clade(original), population.lines_below(original)
    if scope.since is not None:
        member &= population.born_day >= to_days(scope.since)
    fitness = _fitness(connection, observed, studied, scope.fitness, scope.window_days)
    return Inquiry(scope, observed, studied, original, member, cluster, fitness)


def read_texts(connection: duckdb.DuckDBPyConnection, inquiry: Inquiry) -> Inquiry:
    """The inquiry with the words of the cards, without their metadata."""
    graph = inquiry.studied.population.graph
    rows: list[int] = []

    def bodies() -> Iterator[str]:
        for name, text in card_texts(connection):
            if inquiry.studied.origin.get(name) == name:
                rows.append(graph.number(name))
                yield read_card(text).body

    counts = term_counts(bodies())
    k = np.arange(len(rows))
    of_model = csr_array((np.ones(k.size), (rows, k)), shape=(len(graph), k.size))
    return replace(inquiry, texts=tf_idf(csr_array(of_model @ counts)))


def coverage_of(studied: Studied, name: str) -> TraitCoverage:
    """Of how many models and edges a declared trait is known."""
    graph = studied.population.graph
    if studied.declared[name].type is TraitType.TEXT:
        known = studied.written
    elif name in studied.labels:
        known = np.array([bool(values) for values in studied.labels[name]], dtype=bool)
    else:
        known = np.isfinite(studied.population.traits[name])
    pairs = known[graph.edge_child] & known[graph.parent_index]
    return TraitCoverage(studied.declared[name], int(known.sum()), len(graph), int(pairs.sum()))


def _fitness(
    connection: duckdb.DuckDBPyConnection,
    observed: Observed,
    studied: Studied,
    name: str,
    window_days: float,
) -> Fitness:
    population = studied.population
    what, _, how = name.partition("-")
    if how == "gained":
        return gained_between_observations(connection, studied, _TOTALS[what])
    if how == "in-window":
        return gained_in_window(connection, observed, studied, _TOTALS[what], window_days)
    if name == "descendants":
        until = studied.until_day
        return descendants_within(population.graph, population.born_day, until, window_days)
    children, likes, downloads = fitnesses(
        population, observed.members, studied.origin, window_days
    )
    return {"children": children, "likes": likes, "downloads": downloads}[name]

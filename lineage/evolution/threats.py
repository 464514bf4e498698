"""What would make a population only look as if it met Lewontin's conditions.

Each threat is a number that the data give, and a sentence; one that no field can show is said to
be unknown, never assumed away. Sources and remedies: ``docs/statistics.md``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array

from lineage.evolution.catalogue import TraitType
from lineage.evolution.traits import Population

__all__ = ["DAYS_A_MONTH", "Circumstances", "Threat", "threats_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

FEW_GROUPS = 20
"""With fewer groups, cluster-robust intervals are too narrow (Cameron & Miller 2015, §VI)."""

_LARGE = 0.25
_MOST = 0.5
_COPIED = 0.1
_SOME = 0.1
DAYS_A_MONTH = 30.44
"""Months are counted by their mean length."""


@dataclass(frozen=True, slots=True)
class Threat:
    """One reason to doubt.

    Attributes
    ----------
    name
        Stable name for scripts.
    applies
        None where no field can show it.
    value
        The number behind it, None where there is none.
    sentence
        What it is here, and what it would do.
    """

    name: str
    applies: bool | None
    value: float | None
    sentence: str


@dataclass(frozen=True, eq=False)
class Circumstances:
    """What the threats are read from, besides pedigree and births.

    Attributes
    ----------
    known : (n,)
        Models of the population in question whose trait is known.
    numbers : (n,)
        The trait's values as numbers (labels and texts: as codes), NaN where unknown.
    type
        Of labels and of yes and no, equal values are no sign of copying.
    texts : (n, n_buckets)
        Of a text, the weights of its words, rows of length 1; else None.
    fitness : (n,)
        NaN where a model was not watched for long enough.
    owner : (n,)
        Who uploaded each model.
    n_groups, unit
        Fewest independent groups behind an estimate, and what a group is: a founder, a line.
    is_constitutive
        Whether derivation copies the trait by construction.
    is_evaluation
        Whether it is a score, which a test set in the training data would lift.
    """

    known: Bools
    numbers: Floats
    type: TraitType
    fitness: Floats
    owner: Ints
    n_groups: int
    unit: str
    is_constitutive: bool
    is_evaluation: bool
    texts: csr_array | None = None

    @property
    def is_ordered(self) -> bool:
        """Whether the numbers have an order."""
        return self.type in (TraitType.NUMERIC, TraitType.BINARY)

    def between(self, group: Ints, chosen: Bools) -> float:
        """Share of the variation of the chosen models that lies between groups."""
        if self.texts is not None:
            return _between_texts(group, self.texts[np.flatnonzero(chosen)])
        return _between(group, self.numbers[chosen], self.is_ordered)


def threats_of(population: Population, at: Circumstances) -> tuple[Threat, ...]:
    """All threats, those that apply first, those unknown next."""
    found = [
        _constitutive(at),
        _shared_base(population, at),
        _same_author(population, at),
        _right_truncation(at),
        _missing_parents(population, at),
        _copied_trait(population, at),
        _calendar(population, at),
        _few_groups(at),
        _contamination(at),
    ]
    order = {True: 0, None: 1, False: 2}
    return tuple(sorted((one for one in found if one is not None), key=lambda t: order[t.applies]))


def _constitutive(at: Circumstances) -> Threat:
    return Threat(
        "constitutive_trait",
        at.is_constitutive,
        None,
        "Deriving a model copies this trait by construction: its heredity is bookkeeping."
        if at.is_constitutive
        else "Deriving a model does not copy this trait by construction.",
    )


def _shared_base(population: Population, at: Circumstances) -> Threat:
    """Share of the trait's variance (of labels, of Gini's) that lies between founders (ε²)."""
    founder = population.graph.founder[at.known]
    if np.unique(founder).size < 2:
        return Threat("shared_base", True, None, "All these models share one founder.")
    share = at.between(founder, at.known)
    if math.isnan(share):
        return Threat("shared_base", None, None, "The trait does not vary: bases cannot be told.")
    return Threat(
        "shared_base",
        share >= _MOST,
        share,
        f"{100 * share:.0f} % of the trait's variation lies between founders, who differ in base, "
        "size and architecture too"
        + (
            ": a slope over all of them cannot tell these from inheritance."
            if share >= _MOST
            else "."
        ),
    )


def _same_author(population: Population, at: Circumstances) -> Threat:
    child, parent = _edges(population, at)
    if not child.size:
        return Threat("same_author", None, None, "No edge has the trait at both ends.")
    share = float((at.owner[child] == at.owner[parent]).mean())
    return Threat(
        "same_author",
        share >= _LARGE,
        share,
        f"{100 * share:.0f} % of {child.size} edges join models of one owner, whose habits and "
        "tools make parent and child alike without inheritance.",
    )


def _right_truncation(at: Circumstances) -> Threat:
    n = int(at.known.sum())
    young = float(np.isnan(at.fitness[at.known]).mean()) if n else math.nan
    return Threat(
        "right_truncation",
        None if not n else young >= _SOME,
        None if not n else young,
        "No model has the trait."
        if not n
        else f"{100 * young:.0f} % of the models have no fitness (too young, or their birth or "
        "counts are unknown) and are left out of it: recent history is not judged.",
    )


def _missing_parents(population: Population, at: Circumstances) -> Threat:
    graph = population.graph
    n = int(at.known.sum())
    bred = at.known & (graph.n_parents > 0)
    child, _ = _edges(population, at)
    with_measured = np.zeros(len(graph), dtype=bool)
    with_measured[child] = True
    if not bred.any():
        return Threat("missing_parents", True if n else None, None, "No model has a known parent.")
    share = float(1 - (with_measured & bred).sum() / bred.sum())
    return Threat(
        "missing_parents",
        share >= _LARGE,
        share,
        f"{100 * share:.0f} % of the {int(bred.sum())} models with a parent lack a parent with a "
        "known value: heredity is judged without them, and a wrong parent flattens it.",
    )


def _copied_trait(population: Population, at: Circumstances) -> Threat:
    child, parent = _edges(population, at)
    single = population.graph.n_parents[child] == 1
    child, parent = child[single], parent[single]
    if not child.size:
        return Threat("copied_trait", None, None, "No child of one parent has the trait.")
    share = float((at.numbers[child] == at.numbers[parent]).mean())
    what = "text" if at.type is TraitType.TEXT else "value" if at.is_ordered else "label"
    can_show = at.type in (TraitType.NUMERIC, TraitType.TEXT)
    applies = share >= _COPIED if can_show else None
    return Threat(
        "copied_trait",
        applies,
        share,
        f"{100 * share:.0f} % of {child.size} children of one parent have exactly its {what}: "
        + (
            "copied from its card, or not measured again."
            if applies
            else "whether people chose it again or left it standing, no field says."
            if applies is None
            else "few can have been copied from its card."
        ),
    )


def _calendar(population: Population, at: Circumstances) -> Threat:
    born = population.born_day
    dated = at.known & np.isfinite(born)
    if dated.sum() < 3:
        return Threat("calendar_trend", None, None, "Too few births are known to see a trend.")
    month = np.floor(born[dated] / DAYS_A_MONTH).astype(np.int64)
    share = at.between(month, dated)
    if math.isnan(share):
        return Threat("calendar_trend", None, None, "The trait does not vary: no trend to see.")
    return Threat(
        "calendar_trend",
        share >= _LARGE,
        share,
        f"{100 * share:.0f} % of the trait's variation lies between months of birth; where "
        "everybody changes together, parent and child are alike by date.",
    )


def _few_groups(at: Circumstances) -> Threat:
    n = at.n_groups
    return Threat(
        "few_founders",
        n < FEW_GROUPS,
        float(n),
        f"The least certain estimate rests on {n} independent {at.unit}{'' if n == 1 else 's'}"
        + ("; intervals from so few are too narrow." if n < FEW_GROUPS else "."),
    )


def _contamination(at: Circumstances) -> Threat | None:
    if not at.is_evaluation:
        return None
    return Threat(
        "contamination",
        None,
        None,
        "No field says whether the test data were trained on, by a model or by its parent; scores "
        "that one harness gave to both share its quirks.",
    )


def _edges(population: Population, at: Circumstances) -> tuple[Ints, Ints]:
    """Edges with the trait known at both ends, the child in the population in question."""
    graph = population.graph
    measured = np.isfinite(at.numbers)
    both = at.known[graph.edge_child] & measured[graph.parent_index]
    return graph.edge_child[both], graph.parent_index[both]


def _between(group: Ints, values: Floats, is_ordered: bool) -> float:
    """Share of the variation between groups, adjusted for their number; NaN without variation.

    Of quantities the variance, of labels Gini's, ``1 − Σ p²`` (Light & Margolin 1971, J Am Stat
    Assoc 66:534): the sum over values of the variances of being that value or not.
    """
    if not values.size:
        return math.nan
    _, place, size = np.unique(group, return_inverse=True, return_counts=True)
    if is_ordered:
        away = values - values.mean()
        inside = values - (np.bincount(place, weights=values) / size)[place]
        total, within = float(away @ away), float(inside @ inside)
        least = 1e-12 * float(values @ values)
    else:
        _, code, count = np.unique(values, return_inverse=True, return_counts=True)
        cell, in_cell = np.unique(place * count.size + code, return_counts=True)
        total = values.size - float((count.astype(float) ** 2).sum()) / values.size
        within = values.size - float((in_cell.astype(float) ** 2 / size[cell // count.size]).sum())
        least = 1e-12 * values.size
    free = values.size - size.size
    if total <= least or free < 1:
        return math.nan
    return max(0.0, 1 - (within / free) / (total / (values.size - 1)))


def _between_texts(group: Ints, rows: csr_array) -> float:
    """The same of points in the space of words: the variance is the sum over all its axes."""
    _, place, size = np.unique(group, return_inverse=True, return_counts=True)
    n = place.size
    free = n - size.size
    if free < 1:
        return math.nan
    by_group = csr_array((np.ones(n), (place, np.arange(n))), shape=(size.size, n)) @ rows
    whole = np.asarray(by_group.sum(axis=0)).ravel()
    squares = float(rows.multiply(rows).sum())
    total = squares - float(whole @ whole) / n
    within = squares - float((diags_array(1 / size) @ by_group.multiply(by_group)).sum())
    if total <= 1e-12 * squares:
        return math.nan
    return max(0.0, 1 - (within / free) / (total / (n - 1)))

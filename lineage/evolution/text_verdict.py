"""Lewontin's conditions for a text, such as the model card.

Texts are points in the space of weighted words (:mod:`lineage.evolution.categories.text_traits`).
They *vary* by the mean distance of two; *heredity* is the cosine of parent and child beyond that
with parents exchanged among models alike, and beyond that with another model of the family;
*differential fitness* is how far propagation shifts the mean text, in whatever direction.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.sparse import csr_array

from lineage.evolution.catalogue import Trait
from lineage.evolution.categories.text_descent import exchange_texts
from lineage.evolution.categories.text_selection import permute_texts, text_intensity
from lineage.evolution.categories.text_traits import text_distance, text_resemblance
from lineage.evolution.clusters import untrusted
from lineage.evolution.degrees import Degree, no_order
from lineage.evolution.lewontin import (
    Answer,
    Condition,
    LewontinVerdict,
    Null,
    Question,
    _answer,
    _by_chance,
    _opportunities,
    _told,
    _varied,
)
from lineage.evolution.threats import Circumstances, threats_of
from lineage.model import Estimate

__all__ = ["judge_texts"]


def judge_texts(
    asked: Question,
    trait: Trait,
    weights: csr_array,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    n_resamples: int = 2000,
    n_permutations: int = 999,
) -> LewontinVerdict:
    """Judge a text.

    Parameters
    ----------
    weights : (n, n_buckets)
        Words of every model's text (:func:`lineage.evolution.categories.text_traits.tf_idf`), an
        empty row where there is none.
    """
    graph, member, cluster = asked.population.graph, asked.member, asked.cluster
    written = np.diff(weights.indptr) > 0
    known = member & written
    mine = np.flatnonzero(known)
    distance = text_distance(weights[mine], cluster[mine], level=level)
    variation = Condition(
        "variation",
        _varied(distance, 0.0),
        distance,
        (),
        (),
        _told(distance, "Two models' texts lie {} apart (1 − cosine of their weighted words)."),
    )

    asks = member[graph.edge_child]
    child, parent = graph.edge_child[asks], graph.parent_index[asks]
    kin = text_resemblance(
        weights, child, parent, graph.founder, cluster[child], rng=rng, level=level
    )
    exchanged = exchange_texts(
        weights, child, parent, asked.stratum, rng=rng, n_permutations=n_permutations
    )
    how = f"parents exchanged among models of one {asked.alike}"
    nulls = (Null(how, exchanged.expected, exchanged.p_value, exchanged.method),)
    heredity = Condition(
        "heredity",
        _heredity(kin.parent_child, kin.excess, nulls),
        kin.parent_child,
        nulls,
        (
            ("cosine with a random other of the family", kin.within_family),
            ("cosine with the parent less that", kin.excess),
        ),
        _told(kin.parent_child, "Parent's and child's texts are alike by {} (cosine).")
        + _by_chance(nulls),
    )

    fitness = asked.of_members()
    intensity = text_intensity(
        weights, fitness, cluster, rng=rng, level=level, n_resamples=n_resamples
    )
    tested = permute_texts(weights, fitness, asked.stratum, rng=rng, n_permutations=n_permutations)
    how = f"fitness exchanged among models of one {asked.alike}"
    nulls = (Null(how, tested.expected, tested.p_value, tested.method),)
    differential = Condition(
        "differential fitness",
        _answer(intensity, True, nulls),  # a length: only its null can say that it is none
        intensity,
        nulls,
        _opportunities(fitness, cluster, rng, level, n_resamples),
        _told(
            intensity,
            "Weighted by how much models are propagated, the mean text is shifted by {} standard "
            "deviations, in whatever direction.",
        )
        + _by_chance(nulls),
    )
    conditions = (variation, heredity, differential)
    return LewontinVerdict(
        trait,
        asked.fitness.name,
        int(member.sum()),
        mine.size,
        int(np.unique(graph.founder[mine]).size),
        conditions,
        threats_of(asked.population, _circumstances(asked, trait, weights, conditions)),
        (_fidelity(kin.parent_child), no_order(mine.size, level), _dependence(mine.size, level)),
    )


def _heredity(parent_child: Estimate, excess: Estimate, nulls: tuple[Null, ...]) -> Answer:
    """Texts of one family are alike anyway: parent and child have to be more so than others."""
    if math.isnan(excess.value):
        return Answer.CANNOT_TELL
    return _answer(parent_child, excess.low > 0, nulls)


def _circumstances(
    asked: Question, trait: Trait, weights: csr_array, conditions: tuple[Condition, ...]
) -> Circumstances:
    written = np.diff(weights.indptr) > 0
    return Circumstances(
        asked.member & written,
        _codes(weights, written),
        trait.type,
        asked.fitness.values,
        asked.owner,
        min(one.estimate.n_clusters or 0 for one in conditions),
        asked.unit,
        trait.is_constitutive,
        trait.is_evaluation,
        weights,
    )


def _codes(weights: csr_array, written: np.ndarray) -> np.ndarray:
    """A number for each text, the same for those of the same words; NaN without a text."""
    codes = np.full(weights.shape[0], math.nan)
    number: dict[bytes, int] = {}
    ordered = weights.sorted_indices()
    for i in np.flatnonzero(written).tolist():
        row = slice(ordered.indptr[i], ordered.indptr[i + 1])
        words = ordered.indices[row].tobytes() + ordered.data[row].round(9).tobytes()
        codes[i] = number.setdefault(words, len(number))
    return codes


def _fidelity(parent_child: Estimate) -> Degree:
    name = "fidelity of heredity"
    told = _told(parent_child, "{} is the cosine of parent's and child's texts.")
    return Degree("H", name, parent_child, told)


def _dependence(n: int, level: float) -> Degree:
    reason = "there are more words than models to explain fitness by them"
    name = "dependence of fitness on the trait"
    return Degree("S", name, untrusted(n, level, name, reason, 0), f"Cannot be told: {reason}.")

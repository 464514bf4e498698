"""Heritability among all relatives where descent is by copying and changing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lineage.evolution.inheritance.clonal import (
    MOST_RECORDS,
    VARIANCE_OF_A_STEP,
    animal_heritability,
    genetic_covariance,
)
from lineage.graph import LineageGraph


def bred(rng, *, n_founders=40, heritable=1.0, step=0.3, noise=0.5):
    """Founders, two lines of each, two children of each line, and merges of neighbours' children.

    Returns the pedigree, the trait, and the share of breeding values in the variance among all.
    """
    ids, edges, value = [], [], {}

    def model(name, parents, weights):
        a = sum(w * value[p] for p, w in zip(parents, weights, strict=True))
        variance = heritable * (step if parents else 1.0)
        value[name] = a + math.sqrt(variance) * rng.normal()
        ids.append(name)
        edges.extend((name, p, w, i) for i, (p, w) in enumerate(zip(parents, weights, strict=True)))

    for f in range(n_founders):
        model(f"f{f}", [], [])
        for k in range(2):
            model(f"l{f}{k}", [f"f{f}"], [1.0])
            for c in range(2):
                model(f"c{f}{k}{c}", [f"l{f}{k}"], [1.0])
    for f in range(1, n_founders, 4):
        model(f"m{f}", [f"c{f}00", f"c{f - 1}00"], [0.7, 0.3])
    a = np.array([value[name] for name in ids])
    trait = a + noise * rng.normal(size=a.size)
    return LineageGraph.from_edges(ids, edges), trait, a.var() / (a.var() + noise**2)


def test_the_share_handed_on_is_recovered_and_held_by_its_interval():
    found, true, held = [], [], []
    for seed in range(12):
        graph, trait, share = bred(np.random.default_rng(seed))
        one = animal_heritability(graph, trait)
        if math.isnan(one.value):
            continue
        found.append(one.value)
        true.append(share)
        held.append(one.low <= share <= one.high)
    assert len(found) >= 10
    assert np.mean(found) == pytest.approx(np.mean(true), abs=0.04)
    assert np.mean(held) >= 0.75


def test_the_likelihood_tells_small_steps_from_large_ones():
    chosen = {}
    for step in (0.01, 1.0):
        graph, trait, _ = bred(np.random.default_rng(3), step=step, noise=0.3)
        method = animal_heritability(graph, trait).method
        chosen[step] = float(method.split("adds ")[1].split(" of")[0])
    assert chosen[0.01] < chosen[1.0]
    assert set(chosen.values()) <= set(VARIANCE_OF_A_STEP)


def test_a_trait_without_inheritance_has_none():
    graph, _, _ = bred(np.random.default_rng(4))
    found = animal_heritability(graph, np.random.default_rng(5).normal(size=len(graph)))
    assert math.isnan(found.value) or found.low < 0.15
    if math.isnan(found.value):
        assert "no variance" in found.method


def test_unmeasured_ancestors_still_join_their_descendants():
    graph, trait, _ = bred(np.random.default_rng(6), n_founders=60)
    hidden = np.array([name[0] in "fl" for name in graph.ids])
    found = animal_heritability(graph, np.where(hidden, np.nan, trait))
    assert found.n == int((~hidden).sum())
    assert found.low > 0.3


def test_shares_on_another_scale_are_the_same_shares():
    graph, trait, _ = bred(np.random.default_rng(7))
    edges = [
        (graph.ids[c], graph.ids[p], 3 * w, i)
        for i, (c, p, w) in enumerate(
            zip(graph.edge_child, graph.parent_index, graph.parent_weight, strict=True)
        )
    ]
    scaled = LineageGraph.from_edges(graph.ids, edges)
    assert animal_heritability(scaled, trait).value == pytest.approx(
        animal_heritability(graph, trait).value
    )


def test_task_arithmetic_with_weights_below_zero_counts_its_parents_alike():
    graph, trait, _ = bred(np.random.default_rng(8))
    weight = graph.parent_weight.copy()
    merge = graph.n_parents[graph.edge_child] > 1
    weight[merge] = np.tile([1.4, -0.4], merge.sum() // 2)
    changed = LineageGraph(graph.ids, graph.parent_start, graph.parent_index, weight)
    assert math.isfinite(animal_heritability(changed, trait).value)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda graph, z: np.full(z.size, np.nan), "measured models"),
        (lambda graph, z: np.ones(z.size), "does not vary"),
        (lambda graph, z: np.where(graph.founder == 0, z, np.nan), "measured models"),
    ],
)
def test_what_cannot_be_estimated_says_why(spoil, reason):
    graph, trait, _ = bred(np.random.default_rng(9))
    found = animal_heritability(graph, spoil(graph, trait))
    assert math.isnan(found.value)
    assert reason in found.method


def test_one_founder_is_no_population():
    graph = LineageGraph.from_edges(
        [f"m{i}" for i in range(20)], [(f"m{i}", "m0", 1.0, 0) for i in range(1, 20)]
    )
    found = animal_heritability(graph, np.random.default_rng(1).normal(size=20))
    assert "one founder" in found.method


# The secondary theorem: what the genetic covariance with fitness predicts.


def test_the_genetic_covariance_with_fitness_is_that_of_breeding_values():
    """Fitness follows the trait's heritable part and another; noise is in both, apart."""
    found, true = [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        graph, trait, _ = bred(rng, n_founders=60, noise=0.0)
        _, other, _ = bred(rng, n_founders=60, noise=0.0)
        fitness = np.maximum(7 + 0.8 * (trait + other) + rng.normal(size=trait.size), 0.0)
        seen = trait + 0.7 * rng.normal(size=trait.size)
        one = genetic_covariance(graph, seen, fitness)
        assert one.n_clusters == 60
        if not math.isnan(one.value):
            found.append(one.value)
            true.append(np.cov(trait, 0.8 * (trait + other))[0, 1] / fitness.mean())
    assert len(found) >= 4
    assert np.mean(found) == pytest.approx(np.mean(true), rel=0.2)


def test_fitness_that_only_shares_the_environment_has_no_genetic_covariance():
    rng = np.random.default_rng(2)
    graph, trait, _ = bred(rng, n_founders=60)
    luck = rng.normal(size=trait.size)
    fitness = np.maximum(5 + 2 * luck, 0.0)
    found = genetic_covariance(graph, trait + luck, fitness)
    assert math.isnan(found.value) or found.low < 0.05 < 0.3


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda z, w: (z, np.ones_like(w)), "does not vary"),
        (lambda z, w: (z, np.full_like(w, np.nan)), "too few"),
        (lambda z, w: (np.ones_like(z), w), "the trait does not vary"),
        (lambda z, w: (np.tile(z, 9)[: MOST_RECORDS + 1], np.tile(w, 9)[: MOST_RECORDS + 1]), ""),
    ],
)
def test_a_genetic_covariance_that_cannot_be_told_says_why(spoil, reason):
    rng = np.random.default_rng(3)
    graph, trait, _ = bred(rng)
    z, w = spoil(trait, rng.poisson(3.0, trait.size).astype(float))
    if z.size > trait.size:
        graph = LineageGraph.from_edges(
            [f"m{i}" for i in range(z.size)],
            [(f"m{i}", f"m{i % 7}", 1.0, 0) for i in range(7, z.size)],
        )
        reason = "at most"
    found = genetic_covariance(graph, z, w)
    assert math.isnan(found.value)
    assert reason in found.method

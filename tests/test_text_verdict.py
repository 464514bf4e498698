"""Lewontin's conditions of a text: naive oracles, histories that hold or fail by construction."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from lineage.evolution.catalogue import TraitType, stated_trait
from lineage.evolution.categories import text_descent
from lineage.evolution.categories.text_descent import _parts, _tables, exchange_texts
from lineage.evolution.categories.text_selection import permute_texts, text_intensity
from lineage.evolution.categories.text_traits import (
    row_cosine,
    term_counts,
    text_distance,
    tf_idf,
)
from lineage.evolution.lewontin import Answer, Null, Question, strata_of
from lineage.evolution.selection.fitness import Fitness
from lineage.evolution.text_verdict import _heredity, judge_texts
from lineage.evolution.threats import Circumstances, _between_texts, threats_of
from lineage.evolution.traits import Population
from lineage.graph import LineageGraph
from lineage.model import Estimate

CARD = stated_trait("card")
WORDS = [f"w{k}" for k in range(60)]


def rng(seed=1):
    return np.random.default_rng(seed)


def ints(*values):
    return np.array(values, dtype=np.int64)


def weights_of(*texts):
    return tf_idf(term_counts(texts))


def random_texts(n, seed=3, n_words=8):
    generator = rng(seed)
    return [" ".join(generator.choice(WORDS, n_words)) for _ in range(n)]


def dense(weights):
    """The same without the buckets that nobody uses."""
    return weights[:, np.unique(weights.indices)].toarray()


def given(values):
    return Fitness("w", np.asarray(values, dtype=float), "fitness: given")


# -- variation ----------------------------------------------------------------------------------


def test_the_distance_is_the_mean_over_all_pairs_of_texts():
    weights = weights_of(*random_texts(12), None)
    x = dense(weights)[:12]
    pairs = [1 - x[i] @ x[j] for i, j in itertools.combinations(range(12), 2)]
    found = text_distance(weights, np.arange(13))
    assert found.value == pytest.approx(np.mean(pairs))
    assert (found.n, found.n_clusters) == (12, 12)
    assert 0 <= found.low < found.value < found.high <= 1


def test_the_interval_of_a_mean_over_pairs_is_that_of_leaving_texts_out():
    n = 60
    texts = [" ".join([WORDS[0]] * k + ["z"]) for k in rng(4).integers(0, 5, n)]
    weights = weights_of(*texts)
    x = dense(weights)

    def mean(kept):
        part = x[kept]
        alike = (part @ part.T).sum() - len(kept)
        return 1 - alike / (len(kept) * (len(kept) - 1))

    without = [mean([j for j in range(n) if j != i]) for i in range(n)]
    error = math.sqrt((n - 1) / n * ((without - np.mean(without)) ** 2).sum())
    found = text_distance(weights, np.arange(n))
    assert (found.high - found.low) / 2 == pytest.approx(2.001 * error, rel=0.05)  # t(.975, 59)


def test_equal_texts_do_not_vary_and_one_text_tells_nothing():
    equal = text_distance(weights_of(*["a b"] * 5), np.arange(5))
    assert (equal.value, equal.low) == (pytest.approx(0, abs=1e-12), 0)
    assert math.isnan(text_distance(weights_of("a"), ints(0)).value)
    assert math.isnan(text_distance(weights_of(None, None, None, None), np.arange(4)).value)


# -- heredity -----------------------------------------------------------------------------------


def family():
    """Two strata: parents 0, 1, 2 and 3, 4; 5 has two parents, 1 is itself a child of 0.

    Parent 8 is alone in its stratum and keeps its child.
    """
    child = ints(5, 5, 6, 7, 1, 8, 9, 10, 10)
    parent = ints(0, 1, 1, 2, 0, 3, 4, 4, 8)
    stratum = ints(0, 0, 0, 7, 7, 9, 9, 9, 9, 9, 9)
    return weights_of(*random_texts(11)), child, parent, stratum


def naive_mean(weights, child, parent, exchange):
    """Mean cosine with every parent replaced, without children dealt a text of their own."""
    x, edges = dense(weights), set(zip(child.tolist(), parent.tolist(), strict=True))
    kept = []
    for c, p in edges:
        new = exchange.get(p, p)
        if new == p or not (new == c or (c, new) in edges):
            kept.append(x[c] @ x[new])
    return np.mean(kept)


def test_the_null_is_the_mean_over_all_exchanges():
    weights, child, parent, stratum = family()
    found = exchange_texts(weights, child, parent, stratum, rng=rng(), n_permutations=4000)
    every = [
        naive_mean(
            weights, child, parent,
            dict(zip((0, 1, 2, 3, 4), (*first, *second), strict=True)),
        )
        for first in itertools.permutations((0, 1, 2))
        for second in itertools.permutations((3, 4))
    ]  # fmt: skip
    assert found.value == pytest.approx(naive_mean(weights, child, parent, {}))
    assert found.expected == pytest.approx(np.mean(every), abs=4 * np.std(every) / 60)
    assert found.spread == pytest.approx(np.std(every), rel=0.05)
    share = np.mean(np.array(every) >= found.value - 1e-12)
    assert found.p_value == pytest.approx(share, abs=0.03)
    assert (found.n, found.n_strata) == (9, 2)


def test_tables_are_those_of_looking_at_every_pair():
    weights, child, parent, _ = family()
    part = ints(0, 1, 2)
    inside = np.isin(parent, part)
    alike, number = _tables(weights, child[inside], parent[inside], part)
    x = dense(weights)
    edges = set(zip(child[inside].tolist(), parent[inside].tolist(), strict=True))
    for a, b in itertools.product(range(3), repeat=2):
        allowed = [
            c for c, p in edges
            if p == part[b] and (a == b or not (c == part[a] or (c, part[a]) in edges))
        ]  # fmt: skip
        assert number[a, b] == len(allowed)
        assert alike[a, b] == pytest.approx(sum(x[c] @ x[part[a]] for c in allowed), abs=1e-12)


def test_large_strata_are_dealt_into_parts_that_stay_within_them(monkeypatch):
    monkeypatch.setattr(text_descent, "_MOST_TOGETHER", 3)
    stratum = np.repeat(ints(5, 2, 8), (7, 1, 3))
    unit, part = _parts(np.arange(11), stratum, rng())
    assert 7 not in unit  # alone in its stratum
    sizes = np.bincount(part)
    assert sizes.min() >= 2
    assert sizes.max() <= 3
    for one in range(sizes.size):
        members = unit[part == one]
        assert np.unique(stratum[members]).size == 1
        assert (np.diff(members) > 0).all()
    weights, child, parent, _ = family()
    found = exchange_texts(weights, child, parent, np.zeros(11, int), rng=rng(), n_permutations=99)
    assert 0 < found.p_value <= 1


def test_unrelated_texts_are_seldom_taken_for_inherited():
    p_values = []
    for seed in range(60):
        weights = weights_of(*random_texts(80, seed=seed + 100))
        child, parent = np.arange(20, 80), np.arange(60) % 20
        stratum = np.zeros(80, dtype=int)
        found = exchange_texts(weights, child, parent, stratum, rng=rng(seed), n_permutations=99)
        p_values.append(found.p_value)
    assert np.mean(np.array(p_values) <= 0.05) <= 0.13  # .05 and two and a half errors
    assert 0.35 < np.mean(p_values) < 0.65


@pytest.mark.parametrize(
    ("edges", "stratum", "reason"),
    [
        (([1, 2], [0, 0]), [0, 0, 0, 0, 0], "2 edges with a text at both ends, 3 needed"),
        (([1, 2, 3, 4], [0, 0, 0, 0]), [0] * 5, "no two parents share a stratum"),
        (([2, 3, 4], [0, 1, 1]), [0, 1, 2, 2, 2], "no two parents share a stratum"),
    ],
)
def test_where_nothing_can_be_exchanged_it_says_so(edges, stratum, reason):
    weights = weights_of(*random_texts(5))
    found = exchange_texts(weights, ints(*edges[0]), ints(*edges[1]), ints(*stratum), rng=rng())
    assert math.isnan(found.p_value)
    assert reason in found.method


def test_exchanges_that_make_no_sense_are_refused():
    weights = weights_of("a", "b")
    with pytest.raises(ValueError, match="a stratum for each"):
        exchange_texts(weights, ints(1), ints(0), ints(0), rng=rng())
    with pytest.raises(ValueError, match="one permutation"):
        exchange_texts(weights, ints(1), ints(0), ints(0, 0), rng=rng(), n_permutations=0)


# -- differential fitness -----------------------------------------------------------------------


def naive_intensity(x, w):
    n = len(w)
    relative = w / w.mean()
    shift = sum((relative[i] - 1) * (x[i] - x.mean(axis=0)) for i in range(n)) / (n - 1)
    variance = sum(((x[i] - x.mean(axis=0)) ** 2).sum() for i in range(n)) / (n - 1)
    return math.sqrt((shift**2).sum() / variance)


@pytest.mark.parametrize("n_founders", [7, 250])
def test_the_intensity_is_the_length_of_the_differential_over_the_spread(n_founders):
    n = 300
    weights = weights_of(*random_texts(n - 1), None)
    w = rng(5).poisson(2.0, n).astype(float)
    w[3] = math.nan
    found = text_intensity(weights, given(w), np.arange(n) % n_founders, rng=rng(), n_resamples=200)
    known = [i for i in range(n - 1) if i != 3]
    assert found.value == pytest.approx(naive_intensity(dense(weights)[known], w[known]))
    assert (found.n, found.n_clusters) == (n - 2, n_founders)
    assert 0 <= found.low < found.value < found.high
    most = math.sqrt(w[known].var(ddof=1)) / w[known].mean()
    assert found.value <= most


def test_fitness_is_exchanged_within_strata_and_the_null_is_their_mean():
    weights = weights_of(*random_texts(7))
    w, stratum = np.array([0.0, 1, 2, 5, 3, 3, 9]), ints(0, 0, 0, 1, 1, 2, 3)
    found = permute_texts(weights, given(w), stratum, rng=rng(), n_permutations=3000)
    every = [
        naive_intensity(dense(weights), np.array([*first, *second, 3.0, 9.0]))
        for first in itertools.permutations((0.0, 1.0, 2.0))
        for second in itertools.permutations((5.0, 3.0))
    ]
    assert found.value == pytest.approx(naive_intensity(dense(weights), w))
    assert found.expected == pytest.approx(np.mean(every), abs=4 * np.std(every) / 54)
    assert found.p_value == pytest.approx(np.mean(np.array(every) >= found.value - 1e-12), abs=0.04)
    assert found.n_strata == 2


def test_selection_of_texts_by_chance_is_seldom_found():
    p_values = []
    for seed in range(60):
        weights = weights_of(*random_texts(60, seed=seed))
        w = rng(seed).poisson(1.0, 60).astype(float)
        stratum = np.arange(60) % 3
        p_values.append(
            permute_texts(weights, given(w), stratum, rng=rng(seed), n_permutations=99).p_value
        )
    assert np.mean(np.array(p_values) <= 0.05) <= 0.13
    assert 0.35 < np.mean(p_values) < 0.65


@pytest.mark.parametrize(
    ("texts", "w", "reason"),
    [
        (["a", "b"], [1.0, 2.0], "2 models with a text and fitness, 3 needed"),
        (["a", "b", "c"], [0.0, 0.0, 0.0], "no model has any fitness"),
        (["a", "a", "a"], [0.0, 1.0, 2.0], "all texts are equal"),
    ],
)
def test_selection_that_cannot_be_told_says_why(texts, w, reason):
    weights, stratum = weights_of(*texts), np.zeros(len(texts), dtype=int)
    assert reason in text_intensity(weights, given(w), np.arange(len(w)), rng=rng()).method
    found = permute_texts(weights, given(w), stratum, rng=rng())
    assert math.isnan(found.p_value)
    assert reason in found.method


@pytest.mark.parametrize(
    ("texts", "w"), [(["a", "b", "c", "d"], [1, 1, 2, 2]), (["a", "a", "b", "b"], [1, 2, 1, 2])]
)
def test_what_varies_together_within_no_stratum_is_not_exchanged(texts, w):
    found = permute_texts(weights_of(*texts), given(w), ints(0, 0, 1, 1), rng=rng())
    assert math.isnan(found.p_value)
    assert "vary together within no stratum" in found.method


def test_negative_fitness_and_no_permutation_are_refused():
    weights = weights_of("a", "b", "c", "d")
    with pytest.raises(ValueError, match="must not be negative"):
        permute_texts(weights, given([-1, 1, 2, 2]), ints(0, 0, 1, 1), rng=rng())
    with pytest.raises(ValueError, match="one permutation"):
        permute_texts(weights, given([1, 1, 2, 2]), np.zeros(4, int), rng=rng(), n_permutations=0)


# -- the verdict --------------------------------------------------------------------------------


def written(*, kept=12, favoured=2.0, common=4, seed=1):
    """Founders, lines, children; a child keeps `kept` of its parent's 16 own words.

    Every family has `common` words of its own; cards with the word "shiny" breed `favoured` times
    as much.
    """
    generator = rng(seed)
    edges, texts, likes = [], [], []

    def model(parent, words, family):
        number = len(texts)
        if parent is not None:
            edges.append((f"m{number}", f"m{parent}", 1.0, 0))
        shiny = generator.random() < 0.5
        words = [*words, *(["shiny"] * 6 if shiny else ["plain"] * 6)]
        texts.append(" ".join([*words, *(f"f{family}x{k}" for k in range(common))]))
        likes.append(float(generator.poisson(10 * (favoured if shiny else 1.0))))
        return number

    def fresh(n):
        return generator.choice(WORDS, n).tolist()

    for family in range(20):
        founder = model(None, fresh(16), family)
        for _ in range(4):
            own = fresh(16)
            line = model(founder, own, family)
            for _ in range(3):
                model(line, [*own[:kept], *fresh(16 - kept)], family)
    ids = [f"m{i}" for i in range(len(texts))]
    graph = LineageGraph.from_edges(ids, edges)
    population = Population(graph, np.zeros(len(ids)), {})
    return population, weights_of(*texts), np.array(likes)


def judged(population, weights, likes, *, member=None):
    n = len(population.graph)
    founder = population.graph.founder
    # Lines change places among themselves, founders do not: their children are no kin to them.
    is_line = population.graph.primary == founder
    asked = Question(
        population,
        np.ones(n, dtype=bool) if member is None else member,
        founder,
        np.arange(n),
        strata_of(founder, is_line),
        Fitness("likes_per_day", likes, "fitness: likes"),
    )
    return judge_texts(asked, CARD, weights, rng=rng(2), n_resamples=200, n_permutations=199)


def answers(verdict):
    return [condition.answer for condition in verdict.conditions]


def estimate(value, low, high):
    return Estimate(value, low, high, 0.95, 9, "m", 9)


@pytest.mark.parametrize(
    ("excess", "p_value", "answer"),
    [
        ((0.1, 0.02, 0.2), 0.01, Answer.MET),
        ((0.1, -0.02, 0.2), 0.01, Answer.NOT_SHOWN),  # no more alike than others of the family
        ((0.1, 0.02, 0.2), 0.2, Answer.NOT_SHOWN),
        ((0.1, 0.02, 0.2), math.nan, Answer.CANNOT_TELL),
        ((math.nan, math.nan, math.nan), 0.01, Answer.CANNOT_TELL),
    ],
)
def test_parent_and_child_have_to_be_more_alike_than_others_and_than_chance(
    excess, p_value, answer
):
    nulls = (Null("exchanged", 0.3, p_value, "m"),)
    assert _heredity(estimate(0.5, 0.4, 0.6), estimate(*excess), nulls) is answer


def test_texts_that_are_handed_on_and_favoured_meet_all_conditions():
    population, weights, likes = written()
    verdict = judged(population, weights, likes)
    assert answers(verdict) == [Answer.MET] * 3
    assert verdict.n_models == verdict.n_population == 340
    assert verdict.n_founders == 20
    heredity = verdict.conditions[1]
    assert heredity.nulls[0].expected < heredity.estimate.value
    assert "Lewontin's three conditions are met for “card”" in verdict.sentence
    letters = {one.letter: one.sentence for one in verdict.degrees}
    assert "is the cosine" in letters["H"]
    assert letters["C"].startswith("Cannot be told")
    assert "more words than models" in letters["S"]


def test_words_that_a_family_shares_are_no_heredity():
    population, weights, likes = written(kept=0, common=20)
    verdict = judged(population, weights, likes)
    assert verdict.conditions[1].answer is Answer.NOT_SHOWN
    assert verdict.conditions[1].estimate.value > 0.3  # and yet they are alike
    shared = {threat.name: threat for threat in verdict.threats}["shared_base"]
    assert shared.value > 0.3


def test_likes_that_do_not_follow_the_text_are_no_selection_of_it():
    population, weights, likes = written(favoured=1.0)
    assert judged(population, weights, likes).conditions[2].answer is Answer.NOT_SHOWN


def test_a_family_without_another_text_tells_no_heredity():
    population, weights, likes = written()
    member = population.clade("m1")  # one line and its children
    verdict = judged(population, weights, likes, member=member)
    assert verdict.conditions[1].answer is Answer.CANNOT_TELL
    assert verdict.n_models == 4


def test_a_population_without_texts_is_not_said_to_evolve():
    population, _, likes = written()
    nothing = weights_of(*[None] * len(population.graph))
    verdict = judged(population, nothing, likes)
    assert answers(verdict) == [Answer.CANNOT_TELL] * 3
    assert verdict.n_models == 0
    assert all("nan" not in condition.sentence for condition in verdict.conditions)


# -- threats ------------------------------------------------------------------------------------


def test_texts_between_groups_vary_as_the_sum_over_words():
    weights, group = weights_of(*random_texts(9)), ints(0, 0, 0, 1, 1, 1, 1, 2, 2)
    x = dense(weights)
    total = ((x - x.mean(axis=0)) ** 2).sum()
    within = sum(((x[group == g] - x[group == g].mean(axis=0)) ** 2).sum() for g in range(3))
    expected = 1 - (within / 6) / (total / 8)
    assert _between_texts(group, weights) == pytest.approx(max(0.0, expected))
    apart = weights_of("a", "a", "b", "b")
    assert _between_texts(ints(0, 0, 1, 1), apart) == pytest.approx(1)
    assert math.isnan(_between_texts(ints(0, 0, 1, 1), weights_of(*["a"] * 4)))
    assert math.isnan(_between_texts(ints(0, 1, 2, 3), apart))


def test_equal_texts_of_parent_and_child_are_a_sign_of_copying():
    graph = LineageGraph.from_edges(
        ["a", "b", "c", "d"], [("b", "a", 1.0, 0), ("c", "a", 1.0, 0), ("d", "a", 1.0, 0)]
    )
    weights = weights_of("x y", "x y", "x z", "q")
    at = Circumstances(
        np.ones(4, dtype=bool), np.array([0.0, 0.0, 1.0, 2.0]), TraitType.TEXT, np.ones(4),
        np.arange(4), 1, "founder", False, False, weights,
    )  # fmt: skip
    population = Population(graph, np.full(4, math.nan), {})
    copied = {one.name: one for one in threats_of(population, at)}["copied_trait"]
    assert copied.applies is True
    assert copied.value == pytest.approx(1 / 3)
    assert "exactly its text" in copied.sentence


def test_cosines_of_the_verdict_are_those_of_parent_and_child():
    population, weights, likes = written()
    graph = population.graph
    found = judged(population, weights, likes).conditions[1].estimate
    cosines = row_cosine(weights, graph.edge_child, graph.parent_index)
    assert found.value == pytest.approx(cosines.mean())

"""Lewontin's conditions: judged on histories where each holds or fails by construction."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t as student_t

from lineage.evolution.catalogue import STATED, TraitType, evaluation_trait, stated_trait
from lineage.evolution.categories.label_selection import fitness_between_labels, permute_labels
from lineage.evolution.categories.value_sets import value_sets
from lineage.evolution.degrees import (
    _jackknife,
    continuity,
    dependence,
    dependence_on_label,
    fidelity,
)
from lineage.evolution.lewontin import (
    Answer,
    Null,
    Question,
    _answer,
    _of_parents,
    _towards,
    judge_labels,
    judge_numbers,
    strata_of,
)
from lineage.evolution.selection.fitness import Fitness, children_within, descendants_within
from lineage.evolution.selection.multiple import permute_resemblance
from lineage.evolution.threats import Circumstances, _between, threats_of
from lineage.evolution.traits import Population
from lineage.graph import LineageGraph
from lineage.model import Estimate

SCORE = evaluation_trait("score", "accuracy", True, "card")
LICENCE = stated_trait("licence")


def history(
    *,
    n_founders=30,
    n_lines=4,
    n_children=4,
    inherited=0.9,
    favoured=0.0,
    founders_differ=0.2,
    seed=1,
):
    """Founders with lines, lines with children; a line's children are the more the better it is.

    `inherited` is the share of a parent's deviation that a child keeps; `favoured` how strongly a
    better score breeds.
    """
    rng = np.random.default_rng(seed)
    edges, born, score, likes = [], [], [], []

    def model(parent, value, day):
        number = len(score)
        if parent is not None:
            edges.append((f"m{number}", f"m{parent}", 1.0, 0))
        score.append(value)
        born.append(day)
        likes.append(float(rng.poisson(5 * np.exp(favoured * value))))
        return number

    def child_of(value):
        return inherited * value + rng.normal(0, 0.4)

    for _ in range(n_founders):
        base = rng.normal(0, founders_differ)
        founder = model(None, base, 0.0)
        for _ in range(n_lines):
            line = model(founder, base + rng.normal(0, 1), 10.0)
            for _ in range(rng.poisson(n_children * np.exp(favoured * score[line]))):
                model(line, child_of(score[line]), 20.0)
    ids = [f"m{i}" for i in range(len(score))]
    graph = LineageGraph.from_edges(ids, edges)
    return Population(graph, np.array(born), {"score": np.array(score)}), np.array(likes)


def asked(population, fitness=None, *, member=None, owner=None):
    n = len(population.graph)
    fitness = fitness or children_within(population.graph, population.born_day, 1000.0, 180.0)
    return Question(
        population,
        np.ones(n, dtype=bool) if member is None else member,
        population.graph.founder,
        np.arange(n) if owner is None else owner,
        strata_of(population.graph.founder, population.born_day),
        fitness,
    )


def judged(population, fitness=None, trait=SCORE, **question):
    return judge_numbers(
        asked(population, fitness, **question),
        trait,
        rng=np.random.default_rng(2),
        n_resamples=400,
        n_permutations=199,
    )


def answers(verdict):
    return [condition.answer for condition in verdict.conditions]


def threat(verdict, name):
    return {one.name: one for one in verdict.threats}[name]


def test_all_conditions_are_met_where_all_hold_by_construction():
    population, _ = history(favoured=0.5)
    verdict = judged(population)
    assert answers(verdict) == [Answer.MET] * 3
    assert verdict.answer is Answer.MET
    variation, heredity, differential = verdict.conditions
    assert variation.estimate.value == pytest.approx(1.0, abs=0.3)
    assert heredity.estimate.low < 0.95 < heredity.estimate.high + 0.1
    assert differential.estimate.low > 0
    assert "towards better" in differential.sentence
    assert "are met" in verdict.sentence


def test_a_trait_that_breeds_no_better_shows_no_differential_fitness():
    population, likes = history(favoured=0.0)
    likes = Fitness("likes", likes, "fitness: likes, drawn without regard to the score")
    verdict = judged(population, likes)
    assert answers(verdict) == [Answer.MET, Answer.MET, Answer.NOT_SHOWN]
    assert "differential fitness is not established" in verdict.sentence


def test_a_trait_that_is_not_handed_on_shows_no_heredity():
    population, _ = history(inherited=0.0, favoured=0.5, founders_differ=0.0)
    graph = population.graph
    score = population.traits["score"].copy()
    lines = graph.primary >= 0
    lines &= graph.primary[graph.primary] < 0  # children of founders are drawn around them
    verdict = judged(replace(population, traits={"score": score}), member=~lines)
    assert verdict.conditions[1].answer is Answer.NOT_SHOWN
    assert verdict.answer is Answer.NOT_SHOWN


def test_resemblance_that_founders_alone_make_is_no_heredity():
    """Children differ from their parents as much as from their aunts; founders lie far apart."""
    rng = np.random.default_rng(3)
    population, _ = history(inherited=0.0, n_children=3)
    founder = population.graph.founder
    score = 5.0 * rng.normal(size=founder.max() + 1)[founder] + rng.normal(size=founder.size)
    population = replace(population, traits={"score": score})
    verdict = judged(population)
    heredity = verdict.conditions[1]
    assert heredity.estimate.low > 0.5  # parent and child are alike …
    assert heredity.nulls[0].expected == pytest.approx(heredity.estimate.value, abs=0.1)
    assert heredity.answer is Answer.NOT_SHOWN  # … as any two of the family are
    assert threat(verdict, "shared_base").applies
    assert abs(dict(heredity.beside)["slope within founders"].value) < 0.2


def test_selection_that_founders_alone_make_is_no_differential_fitness():
    rng = np.random.default_rng(4)
    population, _ = history()
    founder = population.graph.founder
    fame = 3.0 * rng.random(founder.max() + 1)[founder]
    score = fame + 0.3 * rng.normal(size=founder.size)
    likes = Fitness("likes", rng.poisson(np.exp(fame)).astype(float), "fitness: likes")
    verdict = judged(replace(population, traits={"score": score}), likes)
    differential = verdict.conditions[2]
    assert differential.estimate.low > 0
    assert differential.nulls[0].p_value > 0.05
    assert differential.answer is Answer.NOT_SHOWN


def test_a_trend_that_moves_trait_and_fitness_alike_is_no_differential_fitness():
    rng = np.random.default_rng(4)
    population, _ = history(n_founders=40, founders_differ=0.0)
    size = population.traits["score"].size
    month = rng.integers(0, 12, size)
    population = replace(
        population,
        born_day=30.44 * month + 15.0,
        traits={"score": 0.5 * month + rng.normal(size=size)},
    )
    likes = Fitness("likes", rng.poisson(np.exp(0.2 * month)).astype(float), "fitness: likes")
    verdict = judged(population, likes)
    assert naive_intensity(population.traits["score"], likes.values) > 0.3
    differential = verdict.conditions[2]
    assert abs(differential.estimate.value) < 0.1
    assert differential.answer is Answer.NOT_SHOWN
    heredity = dict(verdict.conditions[1].beside)["slope within months, between owners"]
    assert heredity.low < 0 < heredity.high


def naive_intensity(z, w):
    return np.cov(w / w.mean(), z)[0, 1] / z.std(ddof=1)


def test_the_null_of_exchanged_fitness_is_on_the_scale_of_the_estimate():
    population, likes = history(n_founders=12, favoured=0.3, founders_differ=1.0)
    rng, founder = np.random.default_rng(3), population.graph.founder
    population = replace(population, born_day=30.44 * rng.integers(0, 2, founder.size) + 15.0)
    z, month = population.traits["score"], (population.born_day > 30.0).astype(int)
    stratum = strata_of(founder, month)
    question = replace(asked(population, Fitness("likes", likes, "")), stratum=stratum)
    found = judge_numbers(question, SCORE, rng=rng, n_resamples=100, n_permutations=99)
    drawn = []
    for _ in range(400):
        w = likes.copy()
        for s in np.unique(stratum):
            w[stratum == s] = rng.permutation(w[stratum == s])
        dz = z - np.array([z[month == 0].mean(), z[month == 1].mean()])[month]
        drawn.append(dz @ w / w.mean() / math.sqrt((dz @ dz) * (z.size - 2)))
    null = found.conditions[2].nulls[0]
    assert abs(null.expected) > 0.02
    assert null.expected == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / 20)


def test_four_founders_are_too_few_to_agree():
    population, likes = history(n_founders=4, n_lines=30, favoured=0.8)
    verdict = judged(population, Fitness("likes", likes, "fitness: likes"))
    assert verdict.conditions[2].estimate.value > 0.2
    assert verdict.conditions[2].estimate.p_value >= 2 / 2**4 * 0.8
    assert verdict.conditions[2].nulls[0].p_value < 0.05
    assert answers(verdict)[1:] == [Answer.NOT_SHOWN] * 2


def test_where_children_are_counted_selection_is_held_against_blind_copying_too():
    population, _ = history(favoured=0.5)
    question = replace(asked(population), watched=(1000.0, 180.0))
    rng = np.random.default_rng(2)
    verdict = judge_numbers(question, SCORE, rng=rng, n_resamples=200, n_permutations=99)
    exchanged, copied = verdict.conditions[2].nulls
    assert exchanged.p_value <= 0.05
    assert copied.p_value <= 0.05
    assert "blindly" in copied.words
    # Founders have four children each whatever their score: both nulls know that.
    assert copied.expected == pytest.approx(exchanged.expected, abs=0.1)
    blind = replace(copied, p_value=0.4)
    assert _answer(verdict.conditions[2].estimate, True, (exchanged, blind)) is Answer.NOT_SHOWN


def test_a_null_that_cannot_be_drawn_says_why():
    population, _ = history(favoured=0.5)
    at_once = replace(population, born_day=np.zeros(len(population.graph)))
    question = replace(asked(at_once), watched=(1000.0, 180.0))
    rng = np.random.default_rng(2)
    verdict = judge_numbers(question, SCORE, rng=rng, n_resamples=200, n_permutations=99)
    copied = verdict.conditions[2].nulls[1]
    assert math.isnan(copied.p_value)
    assert "all births fall on one day" in verdict.conditions[2].sentence


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        (lambda n: np.full(n, 0.5), Answer.NOT_SHOWN),
        (lambda n: np.full(n, np.nan), Answer.CANNOT_TELL),
    ],
)
def test_a_trait_that_is_constant_or_unknown_is_not_said_to_evolve(values, answer):
    population, _ = history()
    verdict = judged(replace(population, traits={"score": values(len(population.graph))}))
    assert verdict.conditions[0].answer is answer
    assert verdict.answer is not Answer.MET
    assert all(math.isnan(c.estimate.value) for c in verdict.conditions[1:])
    assert all(c.sentence.startswith("Cannot be told") for c in verdict.conditions[1:])
    assert "nan" not in " ".join(c.sentence for c in verdict.conditions)


def test_one_founder_tells_nothing_by_founders():
    population, _ = history(n_founders=1, n_lines=20)
    verdict = judged(population)
    assert verdict.answer is Answer.CANNOT_TELL
    assert threat(verdict, "few_founders").applies


# Categorical traits.


def licences(population, rate, seed=5):
    """Every model has its primary parent's licence, but for a `rate` that chose anew."""
    rng = np.random.default_rng(seed)
    graph = population.graph
    label = rng.integers(0, 3, len(graph))
    for i in graph.topological:
        if graph.primary[i] >= 0 and rng.random() >= rate:
            label[i] = label[graph.primary[i]]
    return label


def judged_labels(population, label, fitness=None):
    sets, _ = value_sets([{f"v{k}"} if k >= 0 else set() for k in label])
    return judge_labels(
        asked(population, fitness),
        LICENCE,
        sets,
        rng=np.random.default_rng(2),
        n_resamples=200,
        n_permutations=199,
    )


def test_a_licence_that_is_kept_and_favoured_meets_all_conditions():
    population, _ = history(n_founders=60)
    label = licences(population, 0.3)
    rng = np.random.default_rng(6)
    likes = Fitness("likes", rng.poisson(2.0 + 6.0 * (label == 1)).astype(float), "fitness: likes")
    verdict = judged_labels(population, label, likes)
    assert answers(verdict) == [Answer.MET] * 3
    rate = dict(verdict.conditions[1].beside)["edge mutation rate"]
    assert rate.low < 0.2 < rate.high  # two of three that choose anew choose another
    fidelity_, continuity_, _ = verdict.degrees
    assert fidelity_.estimate.value == pytest.approx(1 - rate.value)
    assert math.isnan(continuity_.estimate.value)


def test_a_licence_chosen_at_random_is_not_inherited_nor_selected():
    population, _ = history(n_founders=60)
    label = licences(population, 1.0)
    rng = np.random.default_rng(7)
    likes = Fitness("likes", rng.poisson(3.0, len(label)).astype(float), "fitness: likes")
    verdict = judged_labels(population, label, likes)
    assert answers(verdict) == [Answer.MET, Answer.NOT_SHOWN, Answer.NOT_SHOWN]


def test_a_population_of_one_licence_does_not_vary():
    population, _ = history()
    verdict = judged_labels(population, np.zeros(len(population.graph), dtype=int))
    assert verdict.answer is not Answer.MET
    assert verdict.conditions[0].answer is Answer.NOT_SHOWN


def test_fitness_between_labels_is_the_naive_variance_of_their_means():
    rng = np.random.default_rng(8)
    label, w = rng.integers(-1, 4, 50), rng.poisson(3.0, 50).astype(float)
    w[3] = np.nan
    fitness = Fitness("w", w, "fitness: given")
    found = fitness_between_labels(label, fitness, np.arange(50), rng=rng)
    rows = [(a, b) for a, b in zip(label, w, strict=True) if a >= 0 and not math.isnan(b)]
    mean = sum(b for _, b in rows) / len(rows)
    naive = sum((np.mean([y for x, y in rows if x == a]) / mean - 1) ** 2 for a, _ in rows)
    assert found.value == pytest.approx(naive / len(rows))
    assert found.n == len(rows)
    tested = permute_labels(label, fitness, np.zeros(50, dtype=int), rng=rng, n_permutations=99)
    assert tested.value == pytest.approx(found.value)


def test_fitness_is_exchanged_within_strata_only():
    """Within each stratum all fitness is equal: nothing can move."""
    stratum = np.repeat([0, 1], 10)
    fitness = Fitness("w", stratum.astype(float), "fitness: given")
    tested = permute_labels(
        np.tile([0, 1], 10), fitness, stratum, rng=np.random.default_rng(1), n_permutations=9
    )
    assert math.isnan(tested.p_value)
    assert "within no stratum" in tested.method


@pytest.mark.parametrize("seed", range(4))
def test_p_values_of_unrelated_labels_are_not_small(seed):
    rng = np.random.default_rng(seed)
    found = [
        permute_labels(
            rng.integers(0, 3, 60),
            Fitness("w", rng.poisson(2.0, 60).astype(float), "fitness: given"),
            rng.integers(0, 4, 60),
            rng=rng,
            n_permutations=39,
        ).p_value
        for _ in range(40)
    ]
    assert np.mean(np.array(found) <= 0.1) < 0.3
    assert 0.3 < np.mean(found) < 0.7


# Parents exchanged.


def test_the_slope_under_exchange_is_the_mean_over_all_exchanges():
    child, mid = np.array([1.0, 2.0, 4.0, 3.0, 7.0]), np.array([0.0, 1.0, 2.0, 5.0, 6.0])
    stratum = np.array([0, 0, 0, 1, 1])
    tested = permute_resemblance(
        child, mid, stratum, rng=np.random.default_rng(1), n_permutations=99
    )
    x = mid - mid.mean()
    sxx = x @ x
    assert tested.value == pytest.approx(x @ child / sxx)
    means = np.array([x[:3].mean()] * 3 + [x[3:].mean()] * 2)
    assert tested.expected == pytest.approx(means @ (child - child.mean()) / sxx)


def test_children_of_one_parent_move_together():
    """One parent with ten children is one witness: two parents can change places in two ways."""
    child = np.concatenate([np.full(10, 5.0), np.full(10, 1.0)])
    mid = np.repeat([4.0, 0.0], 10)
    tested = permute_resemblance(
        child, mid, np.zeros(20, dtype=int), rng=np.random.default_rng(1), n_permutations=999
    )
    assert tested.p_value > 0.3
    assert tested.n == 20


# Degrees.


def test_fitness_that_runs_smoothly_is_continuous_and_noise_is_not():
    rng = np.random.default_rng(9)
    z, founder = rng.normal(size=300), rng.integers(0, 30, 300)
    smooth = continuity(z, np.exp(z), founder)
    rugged = continuity(z, rng.permutation(np.exp(z)), founder)
    assert smooth.estimate.value > 0.9
    assert abs(rugged.estimate.value) < 0.2
    assert smooth.letter == "C"


def test_dependence_is_the_share_that_the_trait_explains_within_strata():
    rng = np.random.default_rng(10)
    stratum = rng.integers(0, 20, 2000)
    z = rng.normal(size=2000)
    noise = rng.normal(size=2000)
    w = 10 * stratum + z + z**2 + noise  # variance 1 + 2 of the trait, 1 of noise
    found = dependence(z, w, stratum, stratum)
    assert found.estimate.value == pytest.approx(0.75, abs=0.06)
    assert found.estimate.low < 0.75 < found.estimate.high
    none = dependence(z, 10 * stratum + noise, stratum, stratum)
    assert abs(none.estimate.value) < 0.02


def test_dependence_on_labels_is_that_of_their_indicators():
    rng = np.random.default_rng(11)
    label, stratum = rng.integers(0, 2, 400), rng.integers(0, 10, 400)
    w = label + rng.normal(size=400) + stratum
    found = dependence_on_label(label, w, stratum, stratum)
    same = dependence(label.astype(float), w, stratum, stratum)
    assert found.estimate.value == pytest.approx(same.estimate.value)


def test_fidelity_turns_a_rate_of_change_round():
    rate = Estimate(0.2, 0.1, 0.4, 0.95, 10, "rate", 3)
    found = fidelity(rate, is_rate_of_change=True).estimate
    assert (found.value, found.low, found.high) == pytest.approx((0.8, 0.6, 0.9))


@pytest.mark.parametrize(
    "asks",
    [
        lambda z, w, g: continuity(z, w, g),
        lambda z, w, g: dependence(z, w, g, g),
        lambda z, w, g: dependence_on_label(np.zeros(len(z), dtype=int), w, g, g),
    ],
)
@pytest.mark.parametrize("n", [0, 2, 30])
def test_degrees_that_nothing_tells_say_so(asks, n):
    constant = np.ones(n)
    found = asks(constant, constant, np.arange(n))
    assert math.isnan(found.estimate.value)
    assert found.sentence.startswith("Cannot be told")


# Threats.


def circumstances(population, **changes):
    n = len(population.graph)
    score = population.traits["score"]
    given = Circumstances(
        np.isfinite(score), score, TraitType.NUMERIC, np.ones(n), np.arange(n), 3, "founder",
        False, True,
    )  # fmt: skip
    return replace(given, **changes)


def test_threats_are_counted_as_one_would_by_hand():
    graph = LineageGraph.from_edges(
        ["a", "b", "c", "d", "e"],
        [("b", "a", 1.0, 0), ("c", "a", 1.0, 0), ("d", "b", 1.0, 0), ("e", "d", 1.0, 0)],
    )
    score = np.array([1.0, 1.0, 2.0, np.nan, 4.0])
    population = Population(graph, np.array([0.0, 1, 2, 3, np.nan]), {"score": score})
    at = circumstances(
        population,
        owner=np.array([0, 0, 1, 1, 1]),
        fitness=np.array([1.0, np.nan, 1.0, 1.0, 1.0]),
    )
    found = {one.name: one for one in threats_of(population, at)}
    assert found["same_author"].value == pytest.approx(1 / 2)  # b of a; c of a
    assert found["copied_trait"].value == pytest.approx(1 / 2)
    assert found["missing_parents"].value == pytest.approx(1 / 3)  # e, whose parent has no score
    assert found["right_truncation"].value == pytest.approx(1 / 4)
    assert found["few_founders"].value == 3
    assert found["few_founders"].applies
    assert found["contamination"].applies is None


def test_what_no_field_can_show_is_unknown_and_never_little():
    population, _ = history(n_founders=3)
    found = threats_of(population, circumstances(population))
    order = [one.applies for one in found]
    assert order == sorted(order, key=[True, None, False].index)
    assert {one.name for one in found if one.applies is None} >= {"contamination"}
    without = threats_of(population, circumstances(population, is_evaluation=False))
    assert "contamination" not in {one.name for one in without}


def test_variation_between_founders_is_told_from_that_within():
    rng = np.random.default_rng(12)
    population, _ = history()
    founder = population.graph.founder
    far = 10.0 * rng.normal(size=founder.max() + 1)[founder] + rng.normal(size=founder.size)
    found = {}
    for name, score in (("far", far), ("near", rng.normal(size=founder.size))):
        changed = replace(population, traits={"score": score})
        threats = threats_of(changed, circumstances(changed))
        found[name] = {one.name: one for one in threats}["shared_base"]
    assert found["far"].value > 0.9
    assert found["far"].applies
    assert found["near"].value < 0.1
    assert not found["near"].applies


# The catalogue, and what the clade of a model is.


def test_every_stated_trait_is_declared_once():
    names = [trait.name for trait in STATED]
    assert len(set(names)) == len(names)
    assert all(stated_trait(name).unit for name in names)
    assert {trait.type for trait in STATED} == set(TraitType)
    assert not any(trait.is_evaluation for trait in STATED)


def test_lines_below_a_model_are_its_childrens_clades():
    graph = LineageGraph.from_edges(
        list("abcdefg"),
        [
            ("b", "a", 1.0, 0), ("c", "b", 1.0, 0), ("d", "b", 1.0, 0), ("e", "c", 1.0, 0),
            ("f", "g", 0.6, 0), ("f", "d", 0.4, 1),
        ],
    )  # fmt: skip
    population = Population(graph, np.zeros(7), {})
    assert [graph.ids[i] for i in np.flatnonzero(population.clade("b"))] == list("bcdef")
    lines = [graph.ids[i] for i in population.lines_below("b")]
    assert lines == ["a", "b", "c", "d", "c", "f", "g"]


def naive_descendants(graph, born, model, window):
    count = 0
    for name in graph.descendants(graph.ids[model]):
        k = graph.number(name)
        count += 0 <= born[k] - born[model] <= window
    return count


def test_descendants_within_a_window_are_those_of_a_walk():
    rng = np.random.default_rng(13)
    ids = [f"m{i}" for i in range(60)]
    edges = []
    for i in range(1, 60):
        parents = rng.choice(i, size=min(i, 1 + (rng.random() < 0.3)), replace=False)
        edges += [(ids[i], ids[k], None, place) for place, k in enumerate(parents)]
    graph = LineageGraph.from_edges(ids, edges)
    born = np.arange(60, dtype=float)  # no child is older than its parent
    found = descendants_within(graph, born, 50.0, 12.0).values
    for i in range(60):
        if born[i] + 12 > 50:
            assert math.isnan(found[i])
        else:
            assert found[i] == naive_descendants(graph, born, i, 12)


# What a fresh reader found wrong once.


def estimate(value, low, high, p_value=None):
    return Estimate(value, low, high, 0.95, 50, "given", 10, p_value)


@pytest.mark.parametrize(
    ("value", "is_clear", "nulls", "answer"),
    [
        ((0.8, 0.6, 1.0), True, [(0.2, 0.01)], Answer.MET),
        ((0.8, 0.6, 1.0), False, [(0.2, 0.01)], Answer.NOT_SHOWN),
        ((0.8, 0.6, 1.0), True, [(0.2, 0.2)], Answer.NOT_SHOWN),
        # Less than what chance makes, however significantly, is no heredity and no selection.
        ((0.8, 0.6, 1.0), True, [(0.9, 0.01)], Answer.NOT_SHOWN),
        ((-0.8, -1.0, -0.6), True, [(-0.2, 0.01)], Answer.MET),
        ((-0.8, -1.0, -0.6), True, [(-0.9, 0.01)], Answer.NOT_SHOWN),
        ((0.8, 0.6, 1.0), True, [(0.2, 0.01), (0.2, 0.3)], Answer.NOT_SHOWN),
        ((0.8, 0.6, 1.0), True, [(0.2, 0.01), (0.9, 0.01)], Answer.NOT_SHOWN),
        ((0.8, 0.6, 1.0), True, [(0.2, 0.01), (math.nan, math.nan)], Answer.MET),
        ((0.8, 0.6, 1.0), True, [(math.nan, math.nan)], Answer.CANNOT_TELL),
        ((math.nan, math.nan, math.nan), True, [(0.2, 0.01)], Answer.CANNOT_TELL),
    ],
)
def test_a_condition_is_met_beyond_every_null_that_could_be_drawn(value, is_clear, nulls, answer):
    drawn = tuple(Null("chance", expected, p, "given") for expected, p in nulls)
    assert _answer(estimate(*value), is_clear, drawn) is answer


def test_heredity_that_runs_backwards_within_founders_is_not_met():
    """Founders lie far apart, and within them children are what their parents are not."""
    rng = np.random.default_rng(1)
    population, _ = history(n_founders=10, n_children=3, founders_differ=0.0)
    graph = population.graph
    score = np.zeros(len(graph))
    level = 20.0 * rng.normal(size=len(graph))[graph.founder]
    for i in graph.topological:
        above = graph.primary[i]
        away = rng.normal() if above < 0 or graph.primary[above] < 0 else -0.9 * score[above]
        score[i] = away + 0.1 * rng.normal()
    verdict = judged(replace(population, traits={"score": score + level}))
    heredity = verdict.conditions[1]
    assert heredity.estimate.low > 0.5
    assert heredity.estimate.value < heredity.nulls[0].expected
    assert heredity.answer is Answer.NOT_SHOWN


def test_siblings_born_over_many_months_are_one_witness_of_their_parent():
    """Families differ for reasons of their own; parents' values are drawn apart from that."""
    small, n = 0, 60
    for seed in range(n):
        rng = np.random.default_rng(seed)
        ids, edges, score, born = ["f"], [], [rng.normal()], [0.0]
        for p in range(6):
            ids.append(f"p{p}")
            edges.append((f"p{p}", "f", 1.0, 0))
            score.append(rng.normal())
            born.append(10.0)
            shared = 2 * rng.normal()
            for c in range(10):
                ids.append(f"p{p}c{c}")
                edges.append((f"p{p}c{c}", f"p{p}", 1.0, 0))
                score.append(shared + 0.1 * rng.normal())
                born.append(20.0 + 31 * c)
        graph = LineageGraph.from_edges(ids, edges)
        population = Population(graph, np.array(born), {"score": np.array(score)})
        question = replace(
            asked(population, Fitness("w", np.ones(len(ids)), "given")),
            stratum=strata_of(graph.founder, np.floor(np.array(born) / 30)),
        )
        children = np.array(born) >= 20
        tested = permute_resemblance(
            np.where(children, population.traits["score"], np.nan),
            population.mid_parent("score"),
            _of_parents(question),
            rng=rng,
            n_permutations=99,
        )
        small += tested.p_value <= 0.05
    assert small / n < 0.15  # half of them, were months to part siblings


def test_a_card_cannot_write_into_a_sentence():
    population, _ = history(favoured=0.5)
    trait = replace(SCORE, name="{x}", unit="{0.__class__}")
    changed = replace(population, traits={"{x}": population.traits["score"]})
    verdict = judged(changed, trait=trait)
    assert verdict.answer is Answer.MET
    assert "“{x}”" in verdict.sentence


def test_what_cannot_be_told_is_a_sentence():
    population, _ = history(n_founders=1)
    sentence = judged(population).sentence
    assert "by selection cannot be told: " in sentence
    assert " is cannot" not in sentence


def test_better_and_worse_are_said_only_of_a_shift_that_is_clear():
    up, down = estimate(0.3, -0.1, 0.7, 0.05), estimate(-0.3, -0.5, -0.1, 0.01)
    loss = replace(SCORE, higher_is_better=False)
    assert _towards(SCORE, up) == _towards(loss, down) == ", towards better"
    assert _towards(SCORE, down) == _towards(loss, up) == ", towards worse"
    assert _towards(SCORE, estimate(0.3, 0.1, 0.5, 0.06)) == ""
    assert _towards(SCORE, estimate(0.3, 0.1, 0.5)) == ""
    assert _towards(replace(SCORE, higher_is_better=None), up) == ""


def test_models_with_several_values_are_counted_where_they_are_left_out():
    population, _ = history()
    stated = [{"a", "b"} if i % 5 == 0 else {"ab"[i % 2]} for i in range(len(population.graph))]
    sets, _ = value_sets(stated)
    rng = np.random.default_rng(1)
    verdict = judge_labels(
        asked(population), LICENCE, sets, rng=rng, n_resamples=50, n_permutations=19
    )
    n = sum(len(one) > 1 for one in stated)
    assert f"{n} models with several values are left out" in verdict.conditions[0].sentence


def test_labels_are_asked_of_members_only():
    population, _ = history(n_founders=20)
    graph = population.graph
    label = licences(population, 0.3)
    member = graph.founder < np.median(graph.founder)
    sets, _ = value_sets([{f"v{k}"} for k in label])
    verdict = judge_labels(
        asked(population, member=member), LICENCE, sets,
        rng=np.random.default_rng(1), n_resamples=50, n_permutations=19,
    )  # fmt: skip
    assert verdict.n_population == verdict.n_models == int(member.sum())
    rate = dict(verdict.conditions[1].beside)["edge mutation rate"]
    assert rate.n == int(member[graph.edge_child].sum())


def test_the_jackknife_leaves_out_founders_or_groups_of_them():
    rng = np.random.default_rng(2)
    for n_founders, groups in ((12, 12), (450, 200)):
        founder = rng.integers(0, n_founders, 2000)
        x = rng.normal(size=2000)
        found = _jackknife(lambda kept, x=x: float(x[kept].mean()), founder, 0.95, "mean", None)
        _, place = np.unique(founder, return_inverse=True)
        without = np.array([x[place % groups != g].mean() for g in range(groups)])
        error = math.sqrt((groups - 1) / groups * ((without - without.mean()) ** 2).sum())
        reach = student_t.ppf(0.975, groups - 1) * error
        assert found.value == pytest.approx(x.mean())
        assert found.high - found.value == pytest.approx(reach)


def test_what_one_founder_alone_makes_has_no_interval():
    n = 120
    founder = np.repeat(np.arange(12), 10)
    z = np.random.default_rng(3).normal(size=n)
    w = np.where(founder == 0, z, 1.0)
    found = dependence(z, w, founder, founder)
    assert math.isnan(found.estimate.value)
    assert "too few founders" in found.sentence


def test_shares_below_nothing_are_told_as_none():
    rng = np.random.default_rng(4)
    founder = rng.integers(0, 10, 60)
    sentence = dependence(rng.normal(size=60), rng.normal(size=60), founder, founder).sentence
    assert "-" not in sentence


def test_variation_between_groups_is_the_naive_adjusted_share():
    rng = np.random.default_rng(5)
    group = rng.integers(0, 6, 80)
    values = group + rng.normal(size=80)
    within = sum(((values[group == g] - values[group == g].mean()) ** 2).sum() for g in range(6))
    total = ((values - values.mean()) ** 2).sum()
    assert _between(group, values, True) == pytest.approx(1 - (within / 74) / (total / 79))
    label = rng.integers(0, 3, 80).astype(float)
    indicators = [(label == v).astype(float) for v in range(3)]
    total = sum(((i - i.mean()) ** 2).sum() for i in indicators)
    within = sum(
        ((i[group == g] - i[group == g].mean()) ** 2).sum() for i in indicators for g in range(6)
    )
    naive = max(0.0, 1 - (within / 74) / (total / 79))
    assert _between(group, label, False) == pytest.approx(naive)


def test_a_trend_copied_values_and_one_base_are_seen():
    population, _ = history(n_founders=4)
    graph = population.graph
    trending = replace(
        population, born_day=40.0 * graph.generation, traits={"score": 1.0 * graph.generation}
    )
    found = {one.name: one for one in threats_of(trending, circumstances(trending))}
    assert found["calendar_trend"].applies
    same = replace(population, traits={"score": graph.founder.astype(float)})
    for kind, applies in ((TraitType.NUMERIC, True), (TraitType.BINARY, None)):
        threats = threats_of(same, circumstances(same, type=kind))
        assert {one.name: one for one in threats}["copied_trait"].applies is applies
    alone = circumstances(same, known=graph.founder == 0, unit="line", n_groups=1)
    found = {one.name: one for one in threats_of(same, alone)}
    assert found["shared_base"].sentence == "All these models share one founder."
    assert "1 independent line;" in found["few_founders"].sentence


def test_children_of_merges_are_no_copies_of_their_first_parent():
    graph = LineageGraph.from_edges(
        ["a", "b", "c", "d"], [("c", "a", 0.5, 0), ("c", "b", 0.5, 1), ("d", "a", 1.0, 0)]
    )
    population = Population(graph, np.zeros(4), {"score": np.array([1.0, 2.0, 1.0, 3.0])})
    found = {one.name: one for one in threats_of(population, circumstances(population))}
    assert found["copied_trait"].value == 0


def test_descendants_of_a_child_dated_too_late_are_counted_all_the_same():
    graph = LineageGraph.from_edges(["a", "b", "c"], [("b", "a", 1.0, 0), ("c", "b", 1.0, 0)])
    found = descendants_within(graph, np.array([0.0, 100.0, 5.0]), 200.0, 10.0).values
    assert found[0] == 1  # c, though its parent is dated after it

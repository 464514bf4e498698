"""Chance: the law of attention recovered, copying nulls by a naive oracle, sizes of families."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import gammaln, polygamma, zeta
from scipy.stats import binomtest

from benchmarks.evolution.coverage import SCENARIOS, rates
from lineage.evolution.chance.attachment import Attachment
from lineage.evolution.chance.attachment_fit import (
    fit_attachment,
    law_score,
    most_likely_law,
)
from lineage.evolution.chance.copying_null import CopyingNull, _beyond_the_fit, copying_null
from lineage.evolution.chance.progeny import fit_progeny
from lineage.evolution.chance.rules import HubRules, TraitRules
from lineage.evolution.chance.simulate import SimulatedHub, simulate_hub
from lineage.evolution.selection.differentials import (
    differential_jackknife,
    intensity_jackknife,
    opportunity,
)
from lineage.evolution.selection.fitness import children_within
from lineage.evolution.selection.gradients import linear_gradients
from lineage.graph import LineageGraph

Floats = NDArray[np.float64]
NAN = math.nan
LAW = Attachment(strength=0.8, half_life_days=60.0, spontaneous=0.05)


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def hub_of(
    law: Attachment, n: int = 3000, seed: int = 1, merges: float = 0.1, **trait: float
) -> SimulatedHub:
    traits = (TraitRules(0.5, **trait), TraitRules(0.3))
    rules = HubRules(n, 600.0, 0.003, merge_share=merges, attachment=law, traits=traits)
    return simulate_hub(rules, rng(seed))


# -- the law of attention --------------------------------------------------------------------------


def naive_log_likelihood(hub: SimulatedHub, law: Attachment) -> float:
    """Every choice against every earlier model, from the table of all models by all births."""
    n, graph = len(hub), hub.graph()
    earlier = np.arange(n)[:, None] < np.arange(n)
    with np.errstate(over="ignore"):
        faded = 0.5 ** ((hub.born_day - hub.born_day[:, None]) / law.half_life_days)
    faded = np.where(earlier, faded, 0)
    is_parent = np.zeros((n, n))
    is_parent[graph.parent_index, graph.edge_child] = 1
    attention = law.spontaneous * earlier + faded + law.strength * is_parent @ faded
    chosen = attention[graph.parent_index, graph.edge_child]
    return float(np.log(chosen / attention.sum(axis=0)[graph.edge_child]).sum())


def test_the_likelihood_is_that_of_every_choice_among_all_earlier_models() -> None:
    hub = hub_of(LAW, n=250)
    fit = fit_attachment(hub.graph(), hub.born_day)
    assert fit.log_likelihood == pytest.approx(naive_log_likelihood(hub, fit.attachment), rel=1e-9)
    assert fit.n_choices == hub.parent_index.size
    uniform = -sum(math.log(i) for i in hub.graph().edge_child)
    assert fit.uniform_log_likelihood == pytest.approx(uniform)
    best = fit.attachment
    for change in (0.8, 1.25):
        for other in (
            Attachment(best.strength * change, best.half_life_days, best.spontaneous),
            Attachment(best.strength, best.half_life_days * change, best.spontaneous),
            Attachment(best.strength, best.half_life_days, best.spontaneous * change),
        ):
            assert naive_log_likelihood(hub, other) < fit.log_likelihood


def test_the_score_of_a_law_is_the_slope_of_the_naive_likelihood() -> None:
    hub, law = hub_of(LAW, n=120), Attachment(0.5, 90.0, 0.1)
    at = np.array([law.strength, law.spontaneous, math.log(law.half_life_days)])

    def likelihood(x: Floats) -> float:
        return naive_log_likelihood(hub, Attachment(x[0], math.exp(x[2]), x[1]))

    slopes = [(likelihood(at + d) - likelihood(at - d)) / 2e-4 for d in 1e-4 * np.eye(3)]
    found = law_score(hub.graph(), hub.born_day, law)
    assert found == pytest.approx(slopes, rel=1e-3, abs=1e-3)
    endless = law_score(hub.graph(), hub.born_day, Attachment(0.5))
    assert endless.shape == (1,)


def test_the_most_likely_law_is_the_fitted_one_and_has_no_score() -> None:
    hub = hub_of(LAW, n=800)
    law = most_likely_law(hub.graph(), hub.born_day)
    assert law == fit_attachment(hub.graph(), hub.born_day).attachment
    score, elsewhere = (
        law_score(hub.graph(), hub.born_day, one) for one in (law, Attachment(0.2, 60.0, 0.05))
    )
    assert np.abs(score).max() < 0.05 * np.abs(elsewhere).max()


def test_the_intervals_are_those_of_the_naive_profile_likelihood() -> None:
    hub = hub_of(LAW, n=250)
    fit = fit_attachment(hub.graph(), hub.born_day)
    best = np.log([fit.strength.value, fit.half_life_days.value, fit.spontaneous.value])

    def profile(parameter: int, value: float) -> float:
        others = [i for i in range(3) if i != parameter]

        def misfit(rest: Floats) -> float:
            x = np.empty(3)
            x[parameter], x[others] = math.log(value), np.clip(rest, -14, 9)
            return -naive_log_likelihood(hub, Attachment(*np.exp(x)))

        found = minimize(misfit, best[others], method="Nelder-Mead", options={"xatol": 1e-3})
        return 2 * (found.fun + fit.log_likelihood)

    limits = 0
    for parameter, estimate in enumerate((fit.strength, fit.half_life_days, fit.spontaneous)):
        for end in (estimate.low, estimate.high):
            if 0 < end < math.inf:
                limits += 1
                assert profile(parameter, end) == pytest.approx(3.8415, abs=0.15)
    assert limits >= 4


@pytest.mark.parametrize("law", [LAW, Attachment(3.0, 30.0, 0.3), Attachment(0.3, 200.0, 0.01)])
def test_the_law_of_attention_is_recovered(law: Attachment) -> None:
    hub = hub_of(law, n=8000, merges=0.0)
    fit = fit_attachment(hub.graph(), hub.born_day, level=0.999)
    assert fit.strength.low <= law.strength <= fit.strength.high
    assert fit.half_life_days.low <= law.half_life_days <= fit.half_life_days.high
    assert fit.spontaneous.low <= law.spontaneous <= fit.spontaneous.high
    assert fit.strength.high / fit.strength.low < 2.2
    assert fit.log_likelihood > fit.uniform_log_likelihood + 100


def test_without_preference_the_strength_is_small_and_its_interval_starts_at_zero() -> None:
    hub = hub_of(Attachment(0.0, 60.0, 0.05), n=5000)
    fit = fit_attachment(hub.graph(), hub.born_day)
    assert fit.attachment.strength < 0.03
    assert fit.strength.low == 0
    assert 0 < fit.strength.high < 0.06


def test_where_nothing_fades_half_life_and_spontaneous_attention_cannot_be_told() -> None:
    hub = hub_of(Attachment(2.0), n=5000)
    fit = fit_attachment(hub.graph(), hub.born_day)
    assert math.isinf(fit.attachment.half_life_days)
    assert fit.attachment.spontaneous == 0
    assert fit.strength.low <= 2 <= fit.strength.high
    assert math.isinf(fit.half_life_days.high)
    assert 600 < fit.half_life_days.low < math.inf
    assert math.isnan(fit.spontaneous.value)
    assert "cannot be told" in fit.spontaneous.method


def test_a_half_life_shorter_than_can_be_tried_is_not_trusted() -> None:
    hub = hub_of(Attachment(1.0, 0.76, 0.01), n=3000)
    fit = fit_attachment(hub.graph(), hub.born_day)
    assert math.isnan(fit.half_life_days.value)
    assert "rises towards half-lives below" in fit.half_life_days.method
    assert fit.attachment.half_life_days < 0.9


def test_merit_that_is_not_in_the_law_is_taken_for_preferential_attachment() -> None:
    plain = Attachment(0.0, 60.0, 0.05)
    hub = hub_of(plain, n=6000, linear=1.0, finetune_variance=0.0)
    assert fit_attachment(hub.graph(), hub.born_day).strength.low > 0.1


def test_models_of_unknown_or_impossible_birth_neither_choose_nor_are_chosen() -> None:
    hub = hub_of(LAW, n=600)
    graph, day = hub.graph(), hub.born_day
    n = len(graph)
    more = LineageGraph(
        (*graph.ids, "undated", "of undated", "before its parent"),
        np.concatenate([graph.parent_start, graph.parent_start[-1] + np.array([1, 2, 3])]),
        np.concatenate([graph.parent_index, [3, n, n - 1]]),
        np.concatenate([graph.parent_weight, [1.0, 1.0, 1.0]]),
    )
    one = fit_attachment(graph, day)
    later = np.concatenate([day, [NAN, day[-1], day[-1] - 1e-9]])
    other = fit_attachment(more, later)
    assert other.n_choices == one.n_choices
    assert other.strength.value == pytest.approx(one.strength.value, rel=1e-2)


def test_models_in_any_order_give_the_same_law() -> None:
    hub = hub_of(LAW, n=600)
    graph, day = hub.graph(), hub.born_day
    edges = [
        (graph.ids[c], graph.ids[p], 1.0, 0)
        for c, p in zip(graph.edge_child, graph.parent_index, strict=True)
    ]
    order = rng().permutation(len(graph))
    shuffled = LineageGraph.from_edges([graph.ids[i] for i in order], edges)
    one, other = fit_attachment(graph, day), fit_attachment(shuffled, day[order])
    assert other.log_likelihood == pytest.approx(one.log_likelihood)
    assert other.strength.value == pytest.approx(one.strength.value, rel=1e-4)


def test_a_law_of_too_few_or_undated_choices_is_refused() -> None:
    hub = hub_of(LAW, n=20)
    with pytest.raises(ValueError, match="30 needed"):
        fit_attachment(hub.graph(), hub.born_day)
    hub = hub_of(LAW, n=200)
    with pytest.raises(ValueError, match="0 dated choices"):
        fit_attachment(hub.graph(), np.full(200, NAN))
    with pytest.raises(ValueError, match="on one day"):
        fit_attachment(hub.graph(), np.zeros(200))


# -- the copying null ------------------------------------------------------------------------------


def null_of(
    hub: SimulatedHub, law: Attachment, n_replicates: int = 199, seed: int = 2
) -> CopyingNull:
    return copying_null(
        hub.graph(), hub.born_day, dict(hub.population().traits), law, rng=rng(seed),
        until_day=hub.until_day, window_days=120.0, n_replicates=n_replicates,
    )  # fmt: skip


def test_the_observed_figures_are_those_of_the_estimators() -> None:
    hub = hub_of(LAW, n=800, measured_share=0.7)
    hub.measured[1][5:50] = NAN
    null = null_of(hub, LAW, 9)
    population = hub.population()
    graph, founder = population.graph, population.graph.founder
    fitness = children_within(graph, hub.born_day, hub.until_day, 120.0)
    both = np.isfinite(hub.measured).all(axis=0)
    beta = linear_gradients(population.traits, fitness).beta
    for name, values in population.traits.items():
        z = np.where(both, values, NAN)
        s = differential_jackknife(z, fitness, founder, rng=rng())
        i = intensity_jackknife(z, fitness, founder, rng=rng())
        assert null.differential[name].value == pytest.approx(s.value)
        assert null.intensity[name].value == pytest.approx(i.value)
        assert null.gradient[name].value == pytest.approx(beta[name].value)
        assert null.differential[name].n == s.n
    taking_part = type(fitness)(fitness.name, np.where(both, fitness.values, NAN), "")
    w = taking_part.values[np.isfinite(taking_part.values)]
    of_all = opportunity(taking_part, founder, rng=rng(), n_resamples=10)
    assert null.opportunity.value == pytest.approx(of_all.value)
    assert null.poisson_opportunity == pytest.approx(1 / w.mean())


def test_the_null_is_that_of_whole_hubs_grown_without_regard_to_the_trait() -> None:
    law = Attachment(1.0, 60.0, 0.05)
    hub = hub_of(law, n=200, trend_per_month=0.3)
    null = null_of(hub, law, 800)
    # The naive way: one birth after another, each looking at all before it.
    n_parents, day = hub.graph().n_parents, hub.born_day
    grown: list[tuple[float, float]] = []
    source = rng(5)
    for _ in range(250):
        children = np.zeros(200)
        heat, now = np.zeros(200), 0.0  # attention that fades, as it was on day `now`
        for i in range(200):
            heat *= 0.5 ** ((day[i] - now) / 60)
            now = day[i]
            if n_parents[i]:
                p = 0.05 + heat[:i]
                chosen = source.choice(i, size=n_parents[i], replace=False, p=p / p.sum())
                heat[chosen] += 1
                children[chosen] += day[i] - day[chosen] <= 120
            heat[i] = 1
        old = day + 120 <= hub.until_day
        w, z = children[old] / children[old].mean(), hub.phenotype[0][old]
        grown.append((float(np.cov(w, z)[0, 1]), float(w.var())))
    s, i = np.array(grown).T
    found = null.differential["trait_0"]
    assert found.expected == pytest.approx(s.mean(), abs=4 * s.std() * math.sqrt(1 / 250 + 1 / 800))
    assert found.low == pytest.approx(np.quantile(s, 0.025), abs=0.4 * s.std())
    assert found.high == pytest.approx(np.quantile(s, 0.975), abs=0.4 * s.std())
    found = null.opportunity
    assert found.expected == pytest.approx(i.mean(), abs=4 * i.std() * math.sqrt(1 / 250 + 1 / 800))
    assert found.expected > 1.3 * null.poisson_opportunity


def test_selection_is_found_where_it_is_and_only_there() -> None:
    hub = hub_of(LAW, n=2000, linear=0.6)
    null = null_of(hub, fit_attachment(hub.graph(), hub.born_day).attachment)
    selected, other = null.differential["trait_0"], null.gradient["trait_1"]
    assert selected.p_value == pytest.approx(0.01)  # the least of 199 replicates, two-sided
    assert selected.value > selected.high
    assert other.low <= other.value <= other.high
    assert other.p_value > 0.05
    assert "blind to traits" in selected.method


def test_p_values_count_replicates_as_extreme_and_the_figure_itself() -> None:
    hub = hub_of(LAW, n=300)
    null = null_of(hub, LAW, 1)
    assert null.differential["trait_0"].p_value == 1.0
    assert null.opportunity.p_value in (0.5, 1.0)
    assert null.opportunity.n_replicates == 1


def test_what_a_fitted_law_takes_up_is_no_opportunity_beyond_it() -> None:
    source = rng(4)
    scores = source.normal(size=(60, 2)) * [3.0, 1e4]
    root = 4 + 0.5 * scores[:, 0] + 0.1 * source.normal(size=60)
    design = np.column_stack([np.ones(60), scores])
    # Each replicate against the others: least squares without it.
    away = [
        root[i] - design[i] @ np.linalg.lstsq(np.delete(design, i, 0), np.delete(root, i))[0]
        for i in range(60)
    ]
    for value in (3.9, 4.0, 4.05, 4.2):
        expected = (1 + sum(np.array(away) >= value - np.linalg.lstsq(design, root)[0][0])) / 61
        assert _beyond_the_fit(value**2, root**2, np.zeros(2), scores) == expected
    # 4.3 is nothing against a spread of 1.5; it is beyond what the scores leave.
    assert _beyond_the_fit(4.3**2, root**2, np.zeros(2), scores) == 1 / 61
    foretold = np.array([2.0, 0.0])
    assert _beyond_the_fit(5.0**2, root**2, foretold, scores) > 0.3
    assert math.isnan(_beyond_the_fit(4.0, np.full(3, NAN), foretold, scores[:3]))


def test_without_traits_the_opportunity_remains() -> None:
    hub = hub_of(LAW, n=400)
    null = copying_null(
        hub.graph(), hub.born_day, {}, LAW, rng=rng(), until_day=hub.until_day, n_replicates=19
    )
    assert null.differential == {}
    assert null.opportunity.value > 0
    assert 0 < null.opportunity.p_value <= 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda z: z * NAN, "0 models with traits and fitness"),
        (lambda z: z * 0 + 3.1, "a trait does not vary"),
        (lambda z: np.arange(z.size) * 1.0, "not independent of one another"),
    ],
)
def test_a_null_that_cannot_be_trusted_is_nan_and_says_why(
    change: Callable[[Floats], Floats], reason: str
) -> None:
    hub = hub_of(LAW, n=200)
    traits = {"a": np.arange(200.0), "b": change(hub.phenotype[0])}
    null = copying_null(
        hub.graph(), hub.born_day, traits, LAW, rng=rng(), until_day=hub.until_day, n_replicates=9
    )
    for figure in (*null.differential.values(), null.opportunity):
        assert math.isnan(figure.value)
        assert math.isnan(figure.p_value)
        assert reason in figure.method
    assert set(null.gradient) == {"a", "b"}


def test_a_null_of_models_without_children_is_nan() -> None:
    graph = LineageGraph.from_edges([f"m{i}" for i in range(5)], [])
    null = copying_null(
        graph, np.arange(5.0), {"a": np.arange(5.0)}, LAW, rng=rng(), until_day=900.0
    )
    assert math.isnan(null.opportunity.value)
    assert "no model has any children" in null.opportunity.method


def test_a_null_without_replicates_or_births_is_refused() -> None:
    hub = hub_of(LAW, n=50)
    for day, n_replicates, message in (
        (hub.born_day, 0, "at least one replicate"),
        (np.full(50, NAN), 9, "no model has a known birth"),
    ):
        with pytest.raises(ValueError, match=message):
            copying_null(
                hub.graph(), day, {}, LAW, rng=rng(), until_day=1.0, n_replicates=n_replicates
            )


@pytest.mark.slow
def test_on_forty_hubs_no_test_cries_too_often_and_no_interval_misses_too_often() -> None:
    for scenario in ("neutral, preferential", "neutral, preferential, trend"):
        assert scenario in SCENARIOS
        found = {rate.what: rate for rate in rates(scenario, 40, n_models=600)}
        kept = [rate for rate in found.values() if not math.isnan(rate.promised)]
        assert len(kept) > 15
        for rate in kept:
            share = 1 - rate.rate if rate.promised > 0.5 else rate.rate
            missed = binomtest(round(share * rate.n), rate.n, 0.05, alternative="greater")
            assert missed.pvalue > 0.002, rate
        # A trend makes parent and child alike; the sandwich takes a few founders for many.
        plain = found["coverage: h², slope, jackknife"]
        assert math.isnan(plain.promised) == scenario.endswith("trend")
        assert found["coverage: h², slope, CR1"].rate < 0.9


# -- sizes of families -----------------------------------------------------------------------------


def borel(mean: float, n_families: int, seed: int = 1) -> NDArray[np.int64]:
    """Total progeny of a critical or dying Poisson branching process, exact."""
    n = np.arange(1, 400_000)
    log_p = -mean * n + (n - 1) * np.log(mean * n) - gammaln(n + 1)
    p = np.exp(log_p)
    return rng(seed).choice(n, n_families, p=p / p.sum())


def naive_misfit(sizes: NDArray[np.int64], a: float, c: float, smallest: int) -> float:
    n = np.arange(smallest, 2_000_000, dtype=float)
    log_z = math.log((n**-a * np.exp(-n / c)).sum())
    return float((a * np.log(sizes) + sizes / c).sum() + sizes.size * log_z)


def test_the_progeny_of_random_copying_has_the_exponent_of_theory() -> None:
    # Borel: n^{−3/2} by Stirling's formula, cut off at 1/(μ − 1 − ln μ); from 10 on it is close
    fit = fit_progeny(borel(0.97, 20_000), smallest=10)
    assert fit.exponent.low <= 1.5 <= fit.exponent.high
    assert fit.exponent.high - fit.exponent.low < 0.1
    assert fit.exponent.p_value is not None
    assert fit.exponent.p_value > 0.05
    assert fit.cutoff.low <= 1 / (0.97 - 1 - math.log(0.97)) <= fit.cutoff.high
    assert fit.cutoff.high < 2 * fit.cutoff.low


@pytest.mark.parametrize(("a", "c", "smallest"), [(1.5, 50.0, 1), (2.2, 300.0, 2), (0.5, 20.0, 1)])
def test_a_law_is_recovered_at_the_maximum_of_its_naive_likelihood(
    a: float, c: float, smallest: int
) -> None:
    n = np.arange(smallest, 100_000, dtype=float)
    p = n**-a * np.exp(-n / c)
    sizes = rng(3).choice(n.astype(np.int64), 4000, p=p / p.sum())
    fit = fit_progeny(np.append(sizes, np.zeros(3, dtype=np.int64)), smallest=smallest, level=0.999)
    assert fit.exponent.n == 4000
    assert fit.exponent.low <= a <= fit.exponent.high
    assert fit.cutoff.low <= c <= fit.cutoff.high
    best_a, best_c = fit.exponent.value, fit.cutoff.value
    best = naive_misfit(sizes, best_a, best_c, smallest)
    assert -fit.log_likelihood == pytest.approx(best, rel=1e-8)
    for da, dc in ((0.02, 1), (-0.02, 1), (0, 1.05), (0, 0.95)):
        assert naive_misfit(sizes, best_a + da, best_c * (1 + 0 * dc) * dc, smallest) > best


def test_sizes_beyond_the_terms_summed_one_by_one_are_not_lost() -> None:
    # With hardly a cut-off the normaliser is Riemann's ζ(a): known information on the exponent.
    sizes = np.minimum(rng(4).zipf(1.4, 3000), 10**12)
    fit = fit_progeny(sizes)
    assert fit.exponent.value == pytest.approx(1.4, abs=0.05)
    a = np.linspace(1.1, 2, 2001)
    log_likelihood = -a * np.log(sizes).mean() - np.log(zeta(a))
    assert fit.exponent.value == pytest.approx(a[log_likelihood.argmax()], abs=0.03)
    assert polygamma(1, 1.0) == pytest.approx(zeta(2))  # the same ζ
    assert math.isnan(fit.cutoff.value) or fit.cutoff.value > 1e6


def test_the_interval_of_the_exponent_holds_the_truth_about_as_often_as_it_says() -> None:
    n = np.arange(1, 5000, dtype=float)
    p = n**-1.5 * np.exp(-n / 60)
    held, rejected = 0, 0
    for seed in range(200):
        sizes = rng(seed).choice(n.astype(np.int64), 200, p=p / p.sum())
        exponent = fit_progeny(sizes).exponent
        held += exponent.low <= 1.5 <= exponent.high
        rejected += exponent.p_value is not None and exponent.p_value < 0.05
    assert 0.90 <= held / 200 <= 0.985
    assert 0.015 <= rejected / 200 <= 0.10


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [([1, 2, 3], "3 families, 10 needed"), ([4] * 20, "of one size"), ([], "0 families")],
)
def test_sizes_that_show_nothing_give_nan_and_say_why(sizes: list[int], reason: str) -> None:
    fit = fit_progeny(np.array(sizes))
    assert math.isnan(fit.exponent.value)
    assert math.isnan(fit.cutoff.value)
    assert reason in fit.exponent.method


def test_sizes_that_are_no_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="whole numbers"):
        fit_progeny([1.5] * 20)
    with pytest.raises(ValueError, match="whole numbers"):
        fit_progeny([1] * 20, smallest=0)

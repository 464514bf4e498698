"""The simulated Hub: its law of attention by a naive oracle, its traits by their definition."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest, chisquare, ks_2samp, kstest

from lineage.evolution.chance.attachment import Attachment, copy_parents
from lineage.evolution.chance.rules import KINDS, CategoryRules, HubRules, TraitRules
from lineage.evolution.chance.simulate import SimulatedHub, simulate_hub
from lineage.model import Kind

Floats = NDArray[np.float64]
FADING = Attachment(strength=0.7, half_life_days=12.0, spontaneous=0.2)


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def naive_ranks(
    hub: SimulatedHub,
    law: Attachment,
    v: Floats,
    order: Floats | None,
    source: np.random.Generator,
) -> Floats:
    """For each choice its place among the chances of all candidates, in the order of `order`.

    None is the order of their children so far.

    Uniform if, and only if, the choices were made with the chances that are written out here:
    every birth looks at every earlier model and at all of that model's children.
    """
    start, parent, day = hub.parent_start, hub.parent_index, hub.born_day
    children: list[list[float]] = [[] for _ in range(len(hub))]
    ranks = []
    for i in range(len(hub)):
        chosen: list[int] = []
        faded = np.array(
            [
                law.spontaneous
                + 0.5 ** ((day[i] - day[k]) / law.half_life_days)
                + law.strength
                * sum(0.5 ** ((day[i] - c) / law.half_life_days) for c in children[k])
                for k in range(i if start[i + 1] > start[i] else 0)
            ]
        )
        place = np.array([len(c) for c in children[:i]]) if order is None else order[:i]
        for k in parent[start[i] : start[i + 1]]:
            chance = faded * v[:i]
            chance[chosen] = 0
            chance /= chance.sum()
            below = chance[place < place[k]].sum()
            ranks.append(below + source.random() * chance[place == place[k]].sum())
            chosen.append(int(k))
        for k in chosen:
            children[k].append(day[i])
    return np.array(ranks)


RULES = HubRules(
    600,
    400.0,
    growth_per_day=0.003,
    founder_share=0.1,
    quantised_share=0.1,
    merge_share=0.3,
    extra_parents=1.0,
    attachment=FADING,
    traits=(TraitRules(0.5, author_share=0.1, linear=0.8, quadratic=-0.2), TraitRules(0.3)),
    kind_weight=(1.0, 0.8, 0.3, 0.9),
    categories=(CategoryRules(0.1, 4), CategoryRules(0.05)),
    author_loyalty=0.3,
)


@pytest.mark.parametrize("selected", [False, True])
@pytest.mark.parametrize("law", [FADING, Attachment(2.0), Attachment(0.0, 30.0)])
def test_every_choice_has_the_chance_that_the_law_of_attention_gives_it(
    law: Attachment, selected: bool
) -> None:
    traits = RULES.traits if selected else ()
    weight = RULES.kind_weight if selected else (1.0,) * 4
    rules = HubRules(
        600, 400.0, merge_share=0.3, quantised_share=0.1, extra_parents=1.0, attachment=law,
        traits=traits, kind_weight=weight,
    )  # fmt: skip
    hub = simulate_hub(rules, rng(4))
    v = np.exp(hub.log_attention)
    assert (np.ptp(v) > 1) == selected
    for order in (np.arange(600.0), None, v):
        ranks = naive_ranks(hub, law, v, order, rng(5))
        assert kstest(ranks, "uniform").pvalue > 0.005
        # The ends by themselves: the youngest are those whose v is not known in advance.
        for end in (ranks < 0.03, ranks > 0.97):
            assert binomtest(int(end.sum()), ranks.size, 0.03).pvalue > 0.002


def test_the_oracle_tells_a_wrong_law_from_the_right_one() -> None:
    hub = simulate_hub(RULES, rng(4))
    v, age = np.exp(hub.log_attention), np.arange(600.0)
    wrong = [
        (FADING, np.ones(600), v),
        (Attachment(0.0, 12.0, 0.2), v, None),
        (Attachment(0.7, 90.0, 0.2), v, age),
        (Attachment(0.7, 12.0, 0.02), v, age),
    ]
    assert kstest(naive_ranks(hub, FADING, v, age, rng(5)), "uniform").pvalue > 0.005
    for law, attention, order in wrong:
        assert kstest(naive_ranks(hub, law, attention, order, rng(5)), "uniform").pvalue < 1e-4


def test_small_pedigrees_come_as_often_as_their_probabilities_multiply_to() -> None:
    # Three models choose after one founder, α = 1 and no ageing: chances by hand.
    n_parents = np.array([0, 1, 1, 2])
    seen: dict[tuple[int, ...], int] = {}
    source = rng(2)
    alone = [copy_parents(np.arange(4.0), n_parents, Attachment(1.0), source) for _ in range(500)]
    together = copy_parents(np.arange(4.0), n_parents, Attachment(1.0), source, n_copies=3500)
    for parents in (*alone, *together.reshape(3500, 4)):
        seen[tuple(parents.tolist())] = seen.get(tuple(parents.tolist()), 0) + 1
    expected = {}
    for second, p_second in ((0, 2 / 3), (1, 1 / 3)):
        weight = np.array([3.0, 1, 1]) if second == 0 else np.array([2.0, 2, 1])
        for first in range(3):
            for other in set(range(3)) - {first}:
                p = weight[first] / 5 * weight[other] / (5 - weight[first])
                expected[(0, second, first, other)] = p_second * p
    assert set(seen) == set(expected)
    observed = [seen[key] for key in expected]
    assert chisquare(observed, 4000 * np.array(list(expected.values()))).pvalue > 0.01


@given(
    st.integers(1, 60),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 3),
    st.floats(-1, 1),
    st.integers(0, 10**6),
)
def test_a_hub_is_an_acyclic_pedigree_of_whole_shares(
    n: int, founders: float, merges: float, strength: float, beta: float, seed: int
) -> None:
    rules = HubRules(
        n, 100.0, founder_share=founders, merge_share=(1 - founders) * merges,
        attachment=Attachment(strength, 50.0, 0.1), traits=(TraitRules(linear=beta),),
        extra_parents=2.0,
    )  # fmt: skip
    hub = simulate_hub(rules, rng(seed))
    graph = hub.graph()
    assert (graph.parent_index < graph.edge_child).all()
    assert (graph.generation >= 0).all()
    assert (np.diff(hub.born_day) >= 0).all()
    assert (graph.n_parents[hub.kind == KINDS.index(Kind.FOUNDER)] == 0).all()
    assert (graph.n_parents[hub.kind == KINDS.index(Kind.FINETUNE)] == 1).all()
    assert (graph.n_parents[hub.kind == KINDS.index(Kind.MERGE)] >= 2).all()
    for i in range(n):
        share = hub.parent_weight[hub.parent_start[i] : hub.parent_start[i + 1]]
        if share.size:
            assert share.sum() == pytest.approx(1)
            assert (np.diff(share) <= 0).all()
            assert (share > 0).all()
        assert len({parent for parent, _ in graph.parents(graph.ids[i])}) == share.size


def test_the_same_seed_gives_the_same_hub_and_another_another() -> None:
    one, same, other = (simulate_hub(RULES, rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(one.parent_index, same.parent_index)
    assert np.array_equal(one.phenotype, same.phenotype)
    assert np.array_equal(one.category, same.category)
    assert not np.array_equal(one.phenotype, other.phenotype)


def test_traits_are_inherited_as_the_model_says() -> None:
    law = TraitRules(0.6, 0.2, finetune_variance=0.3, merge_variance=0.1, trend_per_month=0.4)
    rules = HubRules(
        60_000, 600.0, founder_share=0.3, quantised_share=0.2, merge_share=0.2, traits=(law,),
        author_loyalty=0.0, new_author_share=0.9,
    )  # fmt: skip
    hub = simulate_hub(rules, rng(6))
    graph = hub.graph()
    mid = np.bincount(
        graph.edge_child,
        hub.parent_weight * hub.additive[0, hub.parent_index],
        minlength=len(hub),
    )
    change = hub.additive[0] - mid
    of = {kind: hub.kind == code for code, kind in enumerate(KINDS)}
    assert change[of[Kind.FOUNDER]].var() == pytest.approx(0.6, rel=0.03)
    assert change[of[Kind.FINETUNE]].var() == pytest.approx(0.6 * 0.3, rel=0.03)
    assert change[of[Kind.MERGE]].var() == pytest.approx(0.6 * 0.1, rel=0.04)
    assert np.abs(change[of[Kind.QUANTIZED]]).max() == pytest.approx(0, abs=1e-12)
    months = (hub.born_day - hub.born_day[0]) / 30.436875
    rest = hub.phenotype[0] - 0.4 * months - hub.additive[0]
    assert rest.var() == pytest.approx(0.4, rel=0.03)  # author 0.2 and what is drawn anew, 0.2
    order = np.argsort(hub.author, kind="stable")
    same = hub.author[order][1:] == hub.author[order][:-1]
    pairs = rest[order]
    assert np.mean(pairs[1:][same] * pairs[:-1][same]) == pytest.approx(0.2, rel=0.1)
    founders = hub.phenotype[0] - 0.4 * months
    assert founders[of[Kind.FOUNDER]].var() == pytest.approx(1, rel=0.03)


def test_attention_is_the_exponential_of_both_gradients_within_its_ceiling() -> None:
    hub = simulate_hub(RULES, rng(4))
    x = hub.phenotype[0]  # no trend
    expected = np.clip(0.8 * x - 0.2 / 2 * x**2, -4, 4)
    expected += np.log(np.array(RULES.kind_weight))[hub.kind]
    assert hub.log_attention == pytest.approx(expected)


def test_heritability_among_founders_is_the_one_set() -> None:
    for h2 in (0.2, 0.8):
        hub = simulate_hub(HubRules(20_000, founder_share=1.0, traits=(TraitRules(h2),)), rng(8))
        slope = np.cov(hub.additive[0], hub.phenotype[0])[0, 1] / hub.phenotype[0].var()
        assert slope == pytest.approx(h2, abs=0.02)


def test_loyal_children_have_the_author_of_their_primary_parent() -> None:
    hub = simulate_hub(HubRules(3000, author_loyalty=1.0, merge_share=0.2), rng(1))
    primary = hub.graph().primary
    assert (hub.author[primary >= 0] == hub.author[primary[primary >= 0]]).all()
    apart = simulate_hub(HubRules(3000, author_loyalty=0.0, new_author_share=1.0), rng(1))
    assert np.unique(apart.author).size == 3000
    half = simulate_hub(HubRules(3000, author_loyalty=0.5, new_author_share=1.0), rng(1))
    primary = half.graph().primary
    kept = half.author[primary >= 0] == half.author[primary[primary >= 0]]
    assert binomtest(int(kept.sum()), kept.size, 0.5).pvalue > 0.001


def test_authors_join_or_found_at_the_rate_set() -> None:
    hub = simulate_hub(HubRules(4000, new_author_share=0.25), rng(2))
    assert binomtest(np.unique(hub.author).size - 1, 3999, 0.25).pvalue > 0.001


def test_categories_are_copied_and_mutate_at_the_rate_set() -> None:
    hub = simulate_hub(
        HubRules(20_000, categories=(CategoryRules(0.1, 4), CategoryRules(0.02))), rng(3)
    )
    primary = hub.graph().primary
    bred = primary >= 0
    for states, mutation in zip(hub.category, (0.1, 0.02), strict=True):
        changed = int((states[bred] != states[primary[bred]]).sum())
        assert binomtest(changed, int(bred.sum()), mutation).pvalue > 0.001
    finite, infinite = hub.category
    assert set(finite.tolist()) == {0, 1, 2, 3}
    assert chisquare(np.bincount(finite[~bred])).pvalue > 0.001
    changed = finite[bred] != finite[primary[bred]]
    steps = (finite[bred] - finite[primary[bred]])[changed] % 4
    assert chisquare(np.bincount(steps)[1:]).pvalue > 0.001
    novel = np.flatnonzero(~bred | (infinite != infinite[np.maximum(primary, 0)]))
    assert np.unique(infinite[novel]).size == novel.size  # no state arises twice


def test_kinds_of_birth_come_in_the_shares_set() -> None:
    rules = HubRules(20_000, founder_share=0.2, quantised_share=0.3, merge_share=0.1)
    hub = simulate_hub(rules, rng(9))
    for kind, share in zip(KINDS, (0.2, 0.4, 0.3, 0.1), strict=True):
        found = int((hub.kind == KINDS.index(kind)).sum())
        assert binomtest(found, 20_000, share).pvalue > 0.0005
    assert hub.graph().n_parents.max() <= 8


def test_repetitions_grown_together_follow_the_law_and_are_independent() -> None:
    day, n_parents = np.linspace(0, 300, 150), np.minimum(np.arange(150), 1)
    law = Attachment(0.5, 30.0, 0.1)
    together = copy_parents(day, n_parents, law, rng(1), n_copies=2000).reshape(2000, -1)
    source = rng(2)
    alone = np.array([copy_parents(day, n_parents, law, source) for _ in range(400)])
    for birth in (2, 40, 148):
        assert ks_2samp(together[:, birth], alone[:, birth]).pvalue > 0.005
    # Two founders, and everybody follows whoever was first: to either in half the repetitions.
    herd = copy_parents(
        np.arange(20.0), np.minimum(np.arange(20) // 2, 1), Attachment(1e6), rng(3), n_copies=1000
    ).reshape(1000, -1)
    assert (herd == herd[:, :1]).all(axis=1).mean() > 0.99
    assert binomtest(int((herd[:, -1] == 0).sum()), 1000, 0.5).pvalue > 0.001
    with pytest.raises(ValueError, match="several without on_born"):
        copy_parents(
            day, n_parents, law, rng(), n_copies=2, on_born=lambda births, _: np.ones(births.size)
        )


def test_models_of_weight_zero_never_have_children() -> None:
    rules = HubRules(3000, quantised_share=0.4, kind_weight=(1, 1, 0, 1))
    hub = simulate_hub(rules, rng(2))
    copies = hub.kind == KINDS.index(Kind.QUANTIZED)
    assert not copies[hub.parent_index].any()
    assert np.isneginf(hub.log_attention[copies]).all()


def test_without_selection_parents_are_no_better_than_others() -> None:
    neutral = HubRules(4000, attachment=FADING, traits=(TraitRules(0.5),), merge_share=0.1)
    selected = HubRules(4000, attachment=FADING, traits=(TraitRules(0.5, linear=0.5),))
    excess = []
    for seed in range(20):
        hub = simulate_hub(neutral, rng(seed))
        z = hub.phenotype[0]
        excess.append(z[hub.parent_index].mean() - z.mean())
    assert abs(np.mean(excess)) < 4 * np.std(excess) / np.sqrt(20)
    hub = simulate_hub(selected, rng(1))
    assert hub.phenotype[0][hub.parent_index].mean() - hub.phenotype[0].mean() > 0.3


def test_births_grow_as_set() -> None:
    hub = simulate_hub(HubRules(50_000, 1000.0, growth_per_day=0.005), rng(1))
    late = (hub.born_day > 800).mean()
    assert late == pytest.approx((np.exp(5) - np.exp(4)) / (np.exp(5) - 1), abs=0.01)
    steady = simulate_hub(HubRules(50_000, 1000.0), rng(1))
    assert (steady.born_day > 800).mean() == pytest.approx(0.2, abs=0.01)
    assert steady.until_day == 1000.0


def test_observed_births_are_kept() -> None:
    day = np.array([3.0, 3.0, 10.0, 400.0])
    hub = simulate_hub(RULES, rng(1), born_day=day)
    assert np.array_equal(hub.born_day, day)
    assert hub.until_day == 400.0


def test_what_was_seen_by_a_day_is_the_beginning_of_what_was_seen_later() -> None:
    hub = simulate_hub(RULES, rng(1))
    seen = hub.seen_until(200.0)
    assert seen.until_day == 200.0
    assert 0 < len(seen) < len(hub)
    assert seen.born_day[-1] <= 200 < hub.born_day[len(seen)]
    graph = seen.graph()
    whole = hub.graph()
    assert np.array_equal(graph.n_parents, whole.n_parents[: len(seen)])
    assert np.array_equal(graph.parent_index, whole.parent_index[: graph.parent_index.size])
    for values in (seen.additive, seen.phenotype, seen.measured, seen.category):
        assert values.shape == (2, len(seen))
    assert seen.population().traits["trait_1"].shape == (len(seen),)


def test_measurements_are_missing_at_the_rate_and_with_the_bias_set() -> None:
    law = TraitRules(0.5, measured_share=0.3, measured_slope=1.0, trend_per_month=0.1)
    hub = simulate_hub(HubRules(20_000, founder_share=1.0, traits=(law, TraitRules())), rng(1))
    known = np.isfinite(hub.measured[0])
    assert np.isfinite(hub.measured[1]).all()
    assert np.array_equal(hub.measured[0][known], hub.phenotype[0][known])
    x = hub.phenotype[0] - 0.1 * (hub.born_day - hub.born_day[0]) / 30.436875
    for low, high in pairwise((-2, -1, 0, 1, 2)):
        group = (x > low) & (x <= high)
        expected = 1 / (1 + np.exp(-np.log(0.3 / 0.7) - x[group]))
        assert known[group].mean() == pytest.approx(expected.mean(), abs=0.03)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_models": 0}, "at least one model"),
        ({"span_days": np.inf}, "at least one model"),
        ({"founder_share": 0.7, "merge_share": 0.4}, "shares must not be negative nor exceed"),
        ({"author_loyalty": -0.1}, "shares must not be negative"),
        ({"extra_parents": -1.0}, "extra parents"),
        ({"weight_concentration": 0.0}, "concentration positive"),
        ({"kind_weight": (0, 1, 1, 1)}, "founders above 0"),
        ({"kind_weight": (1, 2, 1, 1)}, "between 0 and 1"),
    ],
)
def test_impossible_rules_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HubRules(**({"n_models": 10} | change))  # type: ignore[arg-type]


def test_impossible_laws_are_refused() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        Attachment(-1.0)
    with pytest.raises(ValueError, match="half-life must be positive"):
        Attachment(1.0, 0.0)
    with pytest.raises(ValueError, match="exceed 1 together"):
        TraitRules(0.8, 0.3)
    with pytest.raises(ValueError, match="variances must not be negative"):
        TraitRules(merge_variance=-0.1)
    with pytest.raises(ValueError, match="measured share"):
        TraitRules(measured_share=0.0)
    with pytest.raises(ValueError, match="at least 2 states"):
        CategoryRules(0.1, 1)


@pytest.mark.parametrize("day", [[], [1.0, 0.0], [0.0, np.nan]])
def test_births_that_are_no_ascending_days_are_refused(day: list[float]) -> None:
    with pytest.raises(ValueError, match="finite and ascending"):
        simulate_hub(RULES, rng(), born_day=np.array(day))


def test_copies_that_cannot_be_drawn_are_refused() -> None:
    with pytest.raises(ValueError, match="more parents than there are models"):
        copy_parents(np.arange(2.0), np.array([0, 2]), Attachment(), rng())
    with pytest.raises(ValueError, match="half-lives are too many"):
        copy_parents(np.array([0.0, 900.0]), np.array([0, 1]), Attachment(1, 1.0), rng())
    with pytest.raises(ValueError, match="no distinct parents"):
        copy_parents(np.array([0, 500, 500.0]), np.array([0, 0, 2]), Attachment(0, 2.0), rng())

"""Beliefs in findings: what they are learned from, what they may say, how they are judged."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, logit

from benchmarks.zoo import calibrating
from benchmarks.zoo.calibrating import (
    Ground,
    Strength,
    fit_curve,
    learn,
    measure_calibration,
    tell_calibration,
)
from benchmarks.zoo.judging import judge
from benchmarks.zoo.reliability import (
    Judged,
    bins_of,
    calibration_error,
    diagram,
    reliability,
)
from benchmarks.zoo.table_module import table_source
from lineage.infer.assemble import infer_lineage
from lineage.infer.calibration import (
    DIRECTION_WITNESSES,
    EXACT,
    GROUPS,
    WITNESSES,
    belief,
    calibrated,
    group_of,
    witnesses_of,
)
from lineage.infer.calibration_table import LEARNED
from lineage.infer.curves import Calibration, Curve, Slope
from lineage.infer.equal_copies import equal_copies, tie_equal_parents
from lineage.infer.truth import TrueModel, Truth
from lineage.model import Evidence, Finding, Grade, Kind, ParentShare
from tests.simulated import Herd, fingerprint, stored

BLANK = Calibration("simulated", "0" * 64, date(2026, 11, 21), "0", 0, 0, {}, {})


def finding(child="f/c", parents=("f/p",), kind=Kind.FINETUNE, grade=Grade.INFERRED, **evidence):
    ties = evidence.pop("ties", ())
    return Finding(
        child,
        kind,
        grade,
        tuple(ParentShare(name, 1 / len(parents)) for name in parents),
        ties=ties,
        evidence=tuple(Evidence(name, value, "") for name, value in evidence.items()),
    )


def truth_of(**parents):
    """Ancestry from ``child=("parent", …)``, names within one family."""
    return Truth(
        {
            f"f/{child}": TrueModel(
                f"f/{child}",
                Kind.FINETUNE if above else Kind.FOUNDER,
                tuple((f"f/{one}", 1 / len(above)) for one in above),
            )
            for child, above in parents.items()
        }
    )


@pytest.fixture(scope="module")
def table():
    """Every kind is believed, and every witness counts."""

    def curve(names):
        return Curve(50, 40, 1.0, tuple(Slope(name, 1.5, 0.4) for name in names))

    return replace(
        BLANK,
        n_findings=600,
        parents={group: curve(names) for group, names in GROUPS.items()},
        direction={group: curve(names) for group, names in DIRECTION_WITNESSES.items()},
    )


# a known truth is recovered


def simulated(n_families, n_children, seed, rate_of=None):
    """Families of one founder, its children's findings, and their ancestry.

    Whether a parent is right, and which way round, follows from the witnesses with known odds; or
    from `rate_of` alone, whatever the witnesses say.
    """
    rng = np.random.default_rng(seed)
    findings, models, families = [], {}, {}
    for number in range(n_families):
        family = f"f{number}"
        models[f"{family}/other"] = TrueModel(f"{family}/other", Kind.FOUNDER)
        for place in range(n_children):
            child, parent = f"{family}/c{place}", f"{family}/p{place}"
            runner_up, change, odds = rng.uniform((0, 0, 2.3), (1, 4, 10))
            one = finding(
                child,
                (parent,),
                largest_inherited_share=runner_up,
                relative_change=10.0**-change,
                direction_log_odds=odds,
                never_heard_of=rng.normal(),
            )
            told = witnesses_of(one)
            p_pair = expit(-1 + 4 * told["carries_no_other"]) if rate_of is None else rate_of
            p_forward = expit(0.5 + 2 * told["points_forward"]) if rate_of is None else 1.0
            pair, forward = rng.uniform(size=2) < (p_pair, p_forward)
            above = {
                child: parent if pair and forward else f"{family}/other",
                parent: child if pair and not forward else None,
            }
            if not pair:
                above[child] = f"{family}/other"
            for name, origin in above.items():
                parents = ((origin, 1.0),) if origin else ()
                kind = Kind.FINETUNE if origin else Kind.FOUNDER
                models[name] = TrueModel(name, kind, parents)
            findings.append(one)
            families.update(dict.fromkeys((child, parent), family))
    return findings, Truth(models), families


@pytest.fixture(scope="module")
def learned():
    return learn([Ground(*simulated(12, 32, seed=0))], BLANK)


def test_a_simulated_truth_is_recovered_with_small_calibration_error(learned):
    findings, truth, families = simulated(60, 40, seed=1)
    judged = calibrated(findings, learned.table)
    right = {
        one.child: truth.models[one.child].parent_names == {one.parents[0].parent} for one in judged
    }
    beliefs = [Judged(one.probability, right[one.child], families[one.child]) for one in judged]
    figures = reliability(beliefs)
    assert figures["ece"] < 0.03
    assert figures["brier"] < 0.9 * figures["brier_of_rate"]
    assert figures["log_loss"] < 0.9 * figures["log_loss_of_rate"]


def test_the_odds_that_were_put_in_are_the_odds_that_are_learned(learned):
    slopes = {s.witness: s.weight for s in learned.table.parents["from the founder"].slopes}
    assert slopes["carries_no_other"] == pytest.approx(4, abs=1.5)
    assert slopes.get("small_change", 0) < 1
    (forward,) = learned.table.direction["from the founder"].slopes
    assert forward.weight == pytest.approx(2, abs=1)


def test_witnesses_that_say_nothing_are_left_out():
    found = learn([Ground(*simulated(8, 30, seed=2, rate_of=0.7))], BLANK)
    assert found.strength.spread == 0
    assert not any(curve.slopes for curve in found.table.parents.values())
    assert found.table.parents["from the founder"].probability({}) == pytest.approx(0.7, abs=0.06)


def test_families_left_out_are_judged_by_the_others_alone(monkeypatch, learned):
    findings, truth, families = simulated(3, 4, seed=3)
    seen = []
    fit = calibrating._fit
    monkeypatch.setattr(
        calibrating,
        "_fit",
        lambda cases, how, blank: seen.append({c.family for c in cases}) or fit(cases, how, blank),
    )
    found = learn([Ground(findings, truth, families)], BLANK)
    assert {frozenset(one) for one in seen} == {
        frozenset(("f0", "f1")), frozenset(("f0", "f2")), frozenset(("f1", "f2")),
        frozenset(("f0", "f1", "f2")),
    }  # fmt: skip
    assert seen[-1] == {"f0", "f1", "f2"}
    assert len(found.left_out) == len(findings)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_what_was_always_or_never_right_is_not_certain(rate):
    found = learn([Ground(*simulated(5, 8, seed=4, rate_of=rate))], BLANK)
    least = 3 / found.table.n_findings
    for one in calibrated(simulated(2, 8, seed=5)[0], found.table):
        assert least <= one.probability <= 1 - least
        assert (one.probability > 0.85) if rate else (one.probability < 0.15)


def test_one_family_teaches_rates_only():
    found = learn([Ground(*simulated(1, 12, seed=6))], BLANK)
    assert found.strength == Strength(32.0, 0.0)
    assert (found.losses, found.left_out) == ({}, ())
    assert not any(curve.slopes for curve in found.table.parents.values())
    assert found.table.n_families == 1


def test_nothing_is_learned_from_nothing():
    with pytest.raises(ValueError, match="nothing to learn from"):
        learn(
            [Ground([finding(parents=(), kind=Kind.FOUNDER)], truth_of(c=()), {"f/c": "f"})], BLANK
        )


def test_the_order_of_findings_changes_nothing(learned):
    findings, truth, families = simulated(3, 8, seed=7)
    shuffled = [findings[place] for place in np.random.default_rng(0).permutation(len(findings))]
    assert learn([Ground(shuffled, truth, families)], BLANK) == learn(
        [Ground(findings, truth, families)], BLANK
    )
    by_child = {one.child: one for one in calibrated(findings, learned.table)}
    assert calibrated(shuffled, learned.table) == tuple(by_child[one.child] for one in shuffled)


def test_two_grounds_teach_what_both_together_do():
    findings, truth, families = simulated(6, 8, seed=7)
    parts = [
        Ground([one for one in findings if families[one.child] in names], truth, families)
        for names in ({"f0", "f3", "f4"}, {"f1", "f2", "f5"})
    ]
    assert learn(parts, BLANK).table == learn([Ground(findings, truth, families)], BLANK).table


def test_grounds_that_give_models_the_same_names_are_not_confused():
    findings, truth, families = simulated(3, 8, seed=7)
    first, second = (
        Ground(findings, truth, {name: f"{n}:{family}" for name, family in families.items()})
        for n in range(2)
    )
    once, twice = learn([first], BLANK), learn([first, second], BLANK)
    assert (twice.table.n_families, once.table.n_families) == (6, 3)
    assert twice.table.n_findings == 2 * once.table.n_findings
    assert len(twice.left_out) == 2 * len(once.left_out)


def test_seldom_seen_kinds_borrow_from_their_own_sort():
    """Proofs that were always right lend nothing to guesses that were often wrong."""
    findings, truth, families = simulated(4, 15, seed=8, rate_of=0.5)
    proofs = [
        replace(one, child=f"{one.child}-q", kind=Kind.QUANTIZED, grade=Grade.PROVED)
        for one in findings
    ]
    models = {
        one.child: TrueModel(one.child, Kind.QUANTIZED, ((one.parents[0].parent, 1.0),))
        for one in proofs
    }
    families |= {one.child: families[one.parents[0].parent] for one in proofs}
    found = learn(
        [Ground([*findings, *proofs], Truth(truth.models | models), families)], BLANK
    ).table
    assert set(found.parents) == set(GROUPS)
    for group, curve in found.parents.items():
        if curve.n == 0:
            expected = 0.99 if group in EXACT else 0.5
            assert curve.probability({}) == pytest.approx(expected, abs=0.1)


# the fit


def random_problem(seed, n=60, k=2):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, k))
    x[rng.uniform(size=x.shape) < 0.2] = np.nan
    right = rng.uniform(size=n) < expit(0.5 + np.nan_to_num(x) @ np.linspace(1.5, -1, k))
    return x, right


@pytest.mark.parametrize("seed", range(3))
def test_the_fit_is_the_minimum_that_a_plain_search_finds(seed):
    x, right = random_problem(seed)
    strength = Strength(5.0, 1.5)
    intercept, weights, centres = fit_curve(x, right, 0.6, strength)

    def loss(parameters):
        total = (parameters[1] ** 2 + parameters[2] ** 2) / (2 * 1.5**2)
        for row, answer in zip(x, right, strict=True):
            odds = parameters[0]
            for value, weight, centre in zip(row, parameters[1:], centres, strict=True):
                odds += 0 if np.isnan(value) else weight * (value - centre)
            total -= np.log(expit(odds) if answer else 1 - expit(odds))
        p = expit(parameters[0])
        return total - 5.0 * (0.6 * np.log(p) + 0.4 * np.log(1 - p))

    fitted = np.array([intercept, *weights])
    found = minimize(
        loss, fitted + 0.1, method="Nelder-Mead", bounds=[(None, None), (0, None), (0, None)]
    )
    assert loss(fitted) <= found.fun + 1e-6
    for step in np.random.default_rng(seed).normal(size=(50, 3)) * 0.02:
        moved = fitted + step
        assert loss(fitted) < loss([moved[0], *np.maximum(moved[1:], 0)])
    np.testing.assert_allclose(centres, np.nanmean(x, axis=0))


def test_a_witness_that_contradicts_itself_is_silenced():
    x, right = random_problem(0, n=400)
    _, weights, _ = fit_curve(x, right, 0.5, Strength(2.0, 4.0))
    assert weights[0] > 0.5
    assert weights[1] == 0


def test_without_spread_the_fit_is_a_rate_with_imagined_findings():
    right = np.array([True] * 7 + [False])
    intercept, weights, _ = fit_curve(np.zeros((8, 1)), right, 0.5, Strength(4.0, 0.0))
    assert expit(intercept) == pytest.approx((7 + 2) / (8 + 4))
    assert not weights.any()


def test_a_witness_that_was_never_heard_has_no_weight():
    x = np.full((10, 2), np.nan)
    intercept, weights, centres = fit_curve(x, np.ones(10, dtype=bool), 0.9, Strength(2.0, 1.0))
    assert np.isfinite(intercept)
    assert not weights.any()
    assert not centres.any()


# what is true of a finding


def only_case(one, truth, others=()):
    families = {name: "f" for name in (*truth.models, one.child)}
    cases = judge([one, *others], truth, families)
    return next(case for case in cases if case.finding is one)


CHAIN = truth_of(a=(), b=("a",), c=("b",), d=("b",))


@pytest.mark.parametrize(
    ("child", "parents", "expected"),
    [
        ("f/c", ("f/b",), (True, True, True, True)),
        ("f/b", ("f/c",), (False, False, True, False)),  # the child for the parent
        ("f/c", ("f/a",), (False, False, False, None)),
        ("f/c", ("f/d",), (False, False, False, None)),
        ("f/c", ("f/b", "f/d"), (False, False, False, None)),
        ("f/a", ("f/b",), (False, False, True, False)),  # a founder has none
        ("f/b", ("f/c", "f/d"), (False, False, False, None)),  # nor are two children a merge
    ],
)
def test_a_parent_is_right_or_turned_or_wrong(child, parents, expected):
    case = only_case(finding(child, parents), CHAIN)
    assert (case.right, case.alike, case.pair, case.forward) == expected


def test_an_abstention_teaches_directions_and_nothing_else():
    one = finding("f/b", (), grade=Grade.ABSTAIN, ties=("f/c",), largest_inherited_share=0.1)
    case = only_case(one, CHAIN)
    assert case.pair
    assert case.forward is False
    table = learn(
        [Ground([one, finding("f/d", ("f/b",))], CHAIN, dict.fromkeys(CHAIN.models, "f"))], BLANK
    )
    assert table.table.n_findings == 1
    assert (table.table.direction["from the founder"].n, table.table.parents["descent"].n) == (1, 1)


@pytest.mark.parametrize(
    ("ties", "right"), [(("f/b", "f/d"), True), (("f/d", "f/a"), False), (("f/d", "f/b"), True)]
)
def test_a_tie_is_right_when_it_holds_the_parent(ties, right):
    one = finding("f/c", ties[:1], grade=Grade.TIE, ties=ties)
    assert only_case(one, CHAIN).right is right


@pytest.mark.parametrize(
    ("child", "parent", "expected"),
    [
        ("f/c", "f/b2", (True, True, True, True)),
        ("f/b2", "f/a", (True, True, True, True)),
        ("f/a", "f/b2", (False, False, True, False)),
    ],
)
def test_a_tie_of_copies_teaches_what_it_would_without_them(child, parent, expected):
    truth = truth_of(a=(), b=("a",), b2=("b",), c=("b",))
    one = finding(child, (parent,), grade=Grade.TIE, ties=(parent, "f/b"), equal_copies=1.0)
    case = only_case(one, truth, (duplicate("f/b", "f/b2"),))
    assert (case.right, case.alike, case.pair, case.forward) == expected


def test_a_tie_over_the_parents_of_a_merge_is_wrong():
    truth = truth_of(a=(), b=("a",), m=("a", "b"))
    one = finding("f/m", ("f/a",), grade=Grade.TIE, ties=("f/a", "f/b"))
    assert not only_case(one, truth).right
    assert not only_case(one, truth).alike


@pytest.mark.parametrize(("child", "tied"), [("f/a", "f/b"), ("f/b", "f/c")])
def test_a_tie_of_children_is_wrong(child, tied):
    case = only_case(finding(child, (tied,), grade=Grade.TIE, ties=(tied,)), CHAIN)
    assert (case.right, case.alike, case.forward) == (False, False, None)


def duplicate(child, parent):
    return finding(child, (parent,), Kind.DUPLICATE, Grade.TIE, ties=(parent,), equal_words=1.0)


def test_copies_of_equal_words_are_taken_as_one():
    truth = truth_of(a=(), b=("a",), b2=("b",), c=("b",))
    copies = (duplicate("f/b", "f/b2"),)
    case = only_case(finding("f/c", ("f/b2",)), truth, copies)
    assert (case.right, case.alike, case.forward) == (False, True, True)
    case = only_case(finding("f/b2", ("f/a",)), truth, copies)
    assert (case.right, case.alike) == (False, True)
    case = only_case(copies[0], truth)
    assert (case.right, case.alike) == (False, True)
    case = only_case(finding("f/c", ("f/b2",), grade=Grade.TIE, ties=("f/b2",)), truth, copies)
    assert (case.right, case.alike) == (False, True)


def test_models_that_are_no_copies_are_not_excused_by_being_called_so():
    truth = truth_of(a=(), b=("a",), c=("a",))
    assert not only_case(duplicate("f/b", "f/c"), truth).alike


def test_the_order_of_permuted_models_is_a_coin(table):
    truth = truth_of(a=(), p=("a",))
    for child, parent, right in (("f/p", "f/a", True), ("f/a", "f/p", False)):
        one = finding(child, (parent,), Kind.PERMUTED, Grade.TIE, ties=(parent,))
        case = only_case(one, truth)
        assert (case.right, case.alike) == (right, True)
        (judged,) = calibrated([one], table)
        assert judged.probability == pytest.approx(belief(one, table) / 2)


# what may be said


def test_who_asserts_no_parent_is_not_judged(table):
    silent = [
        finding(parents=(), kind=Kind.FOUNDER),
        finding(parents=(), grade=Grade.ABSTAIN, ties=("f/p",), direction_log_odds=0.3),
        finding(grade=Grade.DECLARED),
        finding(grade=Grade.ABSTAIN),
    ]
    assert [one.probability for one in calibrated(silent, table)] == [None] * len(silent)


def test_an_order_that_rests_on_dates_is_not_judged(table):
    dated = [
        finding(kind=Kind.DUPLICATE, grade=Grade.PROVED),
        finding(kind=Kind.LORA_MERGED),
        finding(direction_log_odds=1.0),
        finding(direction_log_odds=1.0, grade=Grade.TIE, ties=("f/p", "f/q"), equal_copies=1.0),
    ]
    assert [one.probability for one in calibrated(dated, table)] == [None] * len(dated)
    (told,) = calibrated([finding(kind=Kind.LORA_MERGED, direction_log_odds=4.0)], table)
    assert told.probability is not None


def test_an_empty_table_says_nothing():
    assert calibrated([finding()], BLANK)[0].probability is None


def test_only_the_probability_is_changed(table):
    one = finding(inherited_share=0.99, direction_log_odds=5.0)
    (judged,) = calibrated([one], table)
    assert replace(judged, probability=None) == one
    assert calibrated([judged], table) == (judged,)


def test_belief_is_the_product_of_pair_and_direction(table):
    one = finding(largest_inherited_share=0.2, relative_change=0.01, direction_log_odds=6.0)
    assert group_of(one) == "from the founder"
    pair = expit(1 + 1.5 * (0.8 - 0.4) + 1.5 * (0.5 - 0.4))
    forward = expit(1 + 1.5 * (6 / 4 - 0.4))
    assert belief(one, table) == pytest.approx(pair * forward)


def test_each_kind_of_finding_has_its_own_curve():
    exact = Grade.PROVED
    expected = {
        "copy": finding(kind=Kind.CAST, grade=exact),
        "quantised": finding(kind=Kind.QUANTIZED),
        "layers, word for word": finding(kind=Kind.MOE, grade=exact),
        "layers, by likeness": finding(kind=Kind.PRUNED),
        "merge, replayed": finding(kind=Kind.MERGE, grade=exact),
        "merge, fitted": finding(kind=Kind.MERGE),
        "adapter": finding(kind=Kind.ADAPTER),
        "tie": finding(grade=Grade.TIE, inherited_share=0.9),
        "from a descendant": finding(kind=Kind.LORA_MERGED, inherited_share=None),
        "from the founder": finding(kind=Kind.VOCABULARY, largest_inherited_share=0.1),
        "descent": finding(kind=Kind.ABLITERATED, removed_direction=-1.0),
    }
    assert {group: group_of(one) for group, one in expected.items()} == {g: g for g in GROUPS}
    assert group_of(finding(kind=Kind.VOCABULARY, grade=exact)) == "copy"
    assert group_of(duplicate("f/a", "f/b")) == "copy"
    assert group_of(finding(kind=Kind.QUANTIZED, grade=Grade.TIE)) == "quantised"
    tie = finding(grade=Grade.TIE, inherited_share=0.9, equal_copies=1.0)
    assert group_of(tie) == "from a descendant"


def asking(name, value):
    """A finding of a kind that asks witness `name`, which was measured to be `value`."""
    asked = (*GROUPS.items(), *DIRECTION_WITNESSES.items())
    group = next(group for group, names in asked if name in names)
    kind, grade = {
        "quantised": (Kind.QUANTIZED, Grade.INFERRED),
        "merge, replayed": (Kind.MERGE, Grade.PROVED),
        "merge, fitted": (Kind.MERGE, Grade.INFERRED),
        "tie": (Kind.FINETUNE, Grade.TIE),
    }.get(group, (Kind.FINETUNE, Grade.INFERRED))
    facts = {"direction_log_odds": 7.0}
    if group == "from a descendant":
        facts["inherited_share"] = 0.95
    if group == "from the founder":
        facts["largest_inherited_share"] = 0.5
    return finding(kind=kind, grade=grade, **(facts | {WITNESSES[name].evidence: value}))


def probability(one, table):
    return calibrated([one], table)[0].probability


@given(st.sampled_from(sorted(WITNESSES)), st.floats(-20, 20), st.floats(-20, 20))
def test_belief_rises_with_every_witness(table, name, first, second):
    low, high = sorted((first, second), key=WITNESSES[name].scale)
    beliefs = [belief(asking(name, value), table) for value in (low, high)]
    assert beliefs[0] <= beliefs[1]


@pytest.mark.parametrize(
    ("name", "worse", "better"),
    [
        ("carries_the_whole", 0.86, 0.99),
        ("carries_the_whole", 1.3, 1.02),
        ("carries_no_other", 0.9, 0.1),
        ("small_change", 0.3, 0.003),
        ("points_forward", 2.5, 9.0),
        ("words_replayed", 0.99, 1.0),
        ("words_fitted", 0.97, 0.99),
        ("codes_replayed", 0.7, 0.999),
        ("adds_up", 1.5, 1.0),
    ],
)
def test_every_witness_is_heard(table, name, worse, better):
    assert probability(asking(name, worse), table) < probability(asking(name, better), table)


def test_every_witness_is_asked_somewhere():
    asked = {n for names in (*GROUPS.values(), *DIRECTION_WITNESSES.values()) for n in names}
    assert asked == set(WITNESSES)


HOSTILE = (None, float("inf"), float("-inf"), 1e308, -1e308, 5e-324, 0.0, -0.0)


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("name", sorted(WITNESSES))
def test_hostile_measurements_are_bounded(table, name, value):
    believed = belief(asking(name, value), table)
    assert 3 / 600 <= believed <= 1 - 3 / 600
    told = witnesses_of(asking(name, value))[name]
    assert told is None or -2.5 <= told <= 2.5


def test_no_change_is_the_smallest():
    told = [witnesses_of(finding(relative_change=size))["small_change"] for size in (0.0, 1e-9, 1)]
    assert told == [1, 1, 0]


def test_a_silent_witness_counts_as_an_average_one(table):
    average = asking("codes_replayed", 0.6 + 0.4 * 0.4)
    assert belief(asking("codes_replayed", None), table) == pytest.approx(belief(average, table))
    assert belief(finding(kind=Kind.QUANTIZED), table) == pytest.approx(belief(average, table))


def test_evidence_that_nobody_asks_for_is_passed_over(table):
    plain = finding(inherited_share=0.99, direction_log_odds=4.0)
    more = finding(inherited_share=0.99, zebra=1e300, direction_log_odds=4.0, another=None)
    assert probability(plain, table) == probability(more, table)


def test_nothing_is_believed_beyond_the_rule_of_three(table):
    certain = replace(table, parents=dict.fromkeys(GROUPS, Curve(9, 9, 50.0)), direction={})
    hopeless = replace(table, parents=dict.fromkeys(GROUPS, Curve(9, 0, -50.0)), direction={})
    assert belief(finding(), certain) == pytest.approx(1 - 3 / 600)
    assert belief(finding(), hopeless) == pytest.approx(3 / 600)
    assert belief(finding(), replace(certain, n_findings=2)) == 0.5


def test_copies_that_nothing_orders_share_the_belief(table):
    copies = [duplicate("f/b", "f/z"), duplicate("f/c", "f/z")]
    assert equal_copies(copies)["f/b"] == {"f/b", "f/c", "f/z"}
    plain = belief(copies[0], table)
    child = finding("f/x", ("f/z",), direction_log_odds=5.0, inherited_share=1.0)
    origin = finding("f/z", ("f/y",), direction_log_odds=5.0, inherited_share=1.0)
    merge = finding("f/m", ("f/z", "f/y"), Kind.MERGE, Grade.PROVED)
    tie = finding("f/t", ("f/z",), grade=Grade.TIE, ties=("f/z", "f/y"))
    wider = finding("f/u", ("f/z",), grade=Grade.TIE, ties=("f/z", "f/b", "f/c"))
    below = finding("f/z", ("f/y",), grade=Grade.TIE, ties=("f/y", "f/w"))
    found = calibrated([*copies, child, origin, merge, tie, wider, below], table)
    shares = [one.probability / belief(one, table) for one in found]
    assert shares == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1 / 3, 1 / 3, (1 / 3 + 1) / 2, 1, 1 / 3])
    assert found[0].probability == pytest.approx(plain / 3)


@pytest.mark.parametrize(("n_copies", "shares"), [(1, [1, 1]), (2, [1, 2 / 3, 2 / 3])])
def test_ties_that_hold_both_orders_of_two_copies_lose_nothing(table, n_copies, shares):
    """As a copy it comes from another, as the original from outside: what is tied counts."""
    copies = [duplicate(f"f/b{n}", "f/z") for n in range(n_copies)]
    placed = finding("f/z", ("f/y",), direction_log_odds=5.0, inherited_share=1.0)
    found = calibrated(tie_equal_parents([placed, *copies], {}), table)
    assert all(one.grade is Grade.TIE for one in found)
    assert [one.probability / belief(one, table) for one in found] == pytest.approx(shares)


def test_a_copy_of_a_founder_may_be_the_founder(table):
    (copy,) = calibrated(tie_equal_parents([duplicate("f/b", "f/z")], {}), table)
    assert copy.probability == pytest.approx(belief(copy, table) / 2)


def test_ten_thousand_copies_are_one_set():
    copies = [duplicate(f"f/{n}", "f/first") for n in range(10_000)]
    alike = equal_copies(copies)
    assert len(alike) == 10_001
    assert all(one is alike["f/first"] for one in alike.values())
    assert equal_copies([replace(one, grade=Grade.PROVED) for one in copies[:3]]) == {}
    left_open = finding("f/b", (), Kind.DUPLICATE, Grade.ABSTAIN, ties=("f/z",))
    assert equal_copies([left_open])["f/z"] == {"f/b", "f/z"}


def test_a_witness_may_not_speak_against_itself():
    with pytest.raises(ValueError, match="against itself"):
        Slope("small_change", -0.1, 0.0)


# the committed table


def test_the_committed_table_is_complete_and_says_where_it_is_from():
    assert set(LEARNED.parents) == set(GROUPS)
    assert set(LEARNED.direction) == set(DIRECTION_WITNESSES)
    asked = {g: {*names, *DIRECTION_WITNESSES.get(g, ())} for g, names in GROUPS.items()}
    for group, curve in (*LEARNED.parents.items(), *LEARNED.direction.items()):
        assert {slope.witness for slope in curve.slopes} <= asked[group]
        assert 0 <= curve.right <= curve.n
    assert sum(curve.n for curve in LEARNED.parents.values()) == LEARNED.n_findings > 0
    assert "train" in LEARNED.source
    assert len(LEARNED.digest) == 64


def test_a_table_is_written_as_the_module_that_reads_it(learned, table):
    for one in (learned.table, table, BLANK, replace(BLANK, source='a "quoted" \\ ground')):
        module: dict[str, object] = {}
        exec(compile(table_source(one), "table", "exec"), module)
        assert module["LEARNED"] == one


def test_the_committed_table_is_as_it_was_written():
    from lineage.infer import calibration_table

    with open(calibration_table.__file__, encoding="utf-8") as file:
        assert file.read() == table_source(LEARNED)


# are beliefs what they say?


def naive_error(probability, right, n_bins):
    """Bins filled by hand, as long as no value recurs."""
    ordered = sorted(zip(probability, right, strict=True))
    total, size = 0.0, len(ordered) / n_bins
    for number in range(n_bins):
        inside = [
            pair
            for place, pair in enumerate(ordered)
            if number * size <= place + 0.5 - 1e-9 < (number + 1) * size
        ]
        said = sum(p for p, _ in inside) / len(inside)
        was = sum(r for _, r in inside) / len(inside)
        total += len(inside) / len(ordered) * abs(said - was)
    return total


@pytest.mark.parametrize(("n", "n_bins"), [(49, 1), (100, 2), (150, 3), (500, 10), (1730, 10)])
def test_calibration_error_equals_bins_filled_by_hand(n, n_bins):
    rng = np.random.default_rng(n)
    probability = rng.permutation(np.linspace(0.01, 0.99, n))
    right = (rng.uniform(size=n) < probability**2).astype(float)
    assert bins_of(probability).max() == n_bins - 1
    expected = naive_error(probability, right, n_bins)
    assert calibration_error(probability, right) == pytest.approx(expected)


def test_beliefs_that_are_equal_share_a_bin_whatever_their_order():
    rng = np.random.default_rng(0)
    probability = rng.choice([0.5, 0.9, 0.97], size=400, p=[0.1, 0.2, 0.7])
    right = (rng.uniform(size=400) < 0.8).astype(float)
    expected = sum(
        (probability == p).mean() * abs(right[probability == p].mean() - p)
        for p in (0.5, 0.9, 0.97)
    )
    for _ in range(5):
        order = rng.permutation(400)
        assert calibration_error(probability[order], right[order]) == pytest.approx(expected)


def beliefs(n, seed, shift=0.0, families=20):
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.3, 0.95, size=n)
    right = rng.uniform(size=n) < expit(logit(p) + shift)
    return [Judged(float(p[k]), bool(right[k]), f"f{k % families}") for k in range(n)]


def test_exact_beliefs_have_the_error_that_chance_makes():
    found = [reliability(beliefs(500, seed)) for seed in range(8)]
    assert np.mean([one["ece"] for one in found]) == pytest.approx(
        np.mean([one["ece_by_chance"] for one in found]), rel=0.25
    )
    wrong = reliability(beliefs(500, 0, shift=-1.5))
    assert wrong["ece"] > 4 * wrong["ece_by_chance"]
    assert wrong["low"] > 0.15


def test_scores_are_those_of_the_textbook():
    judged = [Judged(0.8, True, "a"), Judged(0.6, False, "b"), Judged(0.9, True, "c")]
    found = reliability(judged)
    assert found["brier"] == pytest.approx((0.04 + 0.36 + 0.01) / 3, abs=1e-4)
    assert found["log_loss"] == pytest.approx(-np.log([0.8, 0.4, 0.9]).mean(), abs=1e-4)
    assert found["brier_of_rate"] == pytest.approx(2 / 9, abs=1e-4)
    assert found["log_loss_of_rate"] == pytest.approx(0.6365, abs=1e-4)
    assert (found["n"], found["families"]) == (3, 3)
    assert found["ece"] == pytest.approx(abs(2.3 / 3 - 2 / 3), abs=1e-4)
    (row,) = found["bins"]
    assert (row["low"], row["high"]) == (
        0.2077,
        0.9385,
    )  # Wilson, 2 of 3 (R: prop.test without correction)


def test_intervals_resample_families_and_not_findings():
    rng = np.random.default_rng(0)
    together = [Judged(0.7, bool(f % 3), f"f{f}") for f in range(12) for _ in range(25)]
    apart = [replace(one, family=f"g{rng.integers(200)}") for one in together]
    wide, narrow = reliability(together), reliability(apart)
    assert wide["ece"] == narrow["ece"]
    assert wide["high"] - wide["low"] > 2 * (narrow["high"] - narrow["low"])


def test_no_beliefs_and_few_families_have_no_figures():
    assert reliability([]) == {"n": 0, "families": 0, "ece": None, "bins": []}
    assert np.isnan(calibration_error(np.zeros(0), np.zeros(0)))
    assert reliability(beliefs(30, 0, families=2))["low"] is None
    assert reliability([Judged(0.9, True, "f")])["log_loss_of_rate"] == 0


@pytest.mark.parametrize("bad", [0.0, 1.0, float("nan"), -0.1, 2.0])
def test_certainty_is_no_belief(bad):
    with pytest.raises(ValueError, match="probability"):
        Judged(bad, True, "f")


def test_the_diagram_shows_what_was_said_and_what_was():
    row = {"n": 60, "said": 0.75, "was": 0.5, "low": 0.4, "high": 0.6}
    exact = {"n": 40, "said": 1.0, "was": 1.0, "low": 0.9, "high": 1.0}
    head, first, second = diagram({"bins": [row, exact]}).splitlines()
    start = head.index("0")
    drawn = [place for place, sign in enumerate(first[start:]) if sign in "-o|"]
    assert drawn == [*range(16, 25), 30]
    assert (first[start + 20], first[start + 30], second[start + 40]) == ("o", "|", "X")


def test_the_measurement_tells_kinds_copies_and_directions(learned):
    findings, truth, families = simulated(6, 20, seed=9)
    judged = calibrated(findings, learned.table)
    others = [*judged, finding(parents=(), kind=Kind.FOUNDER)]
    facts = measure_calibration(others, truth, families, learned.table)
    json.dumps(facts)
    assert facts["all"]["n"] == facts["by_kind"]["from the founder"]["n"] == 120
    assert facts["all"] == facts["copies_as_one"]
    pairs = sum(
        {one.child, one.parents[0].parent}
        in ({c, p} for c, m in truth.models.items() for p in m.parent_names)
        for one in findings
    )
    assert facts["direction"]["n"] == pairs < 120
    told = tell_calibration(facts)
    assert "| from the founder | 120 (6) |" in told
    assert "| (direction) |" in told
    nothing = measure_calibration(findings, truth, families)
    assert nothing["all"]["n"] == 0
    assert "```" not in tell_calibration(nothing)


# in use


def test_inference_says_how_far_its_findings_can_be_believed():
    herd = Herd(0)
    founder = stored(herd.founder())
    models = {"a/founder": founder, "a/one": herd.train(founder, 0.01)}
    models["a/two"] = herd.train(models["a/one"], 0.005)
    models["a/copy"] = founder
    prints = [fingerprint(name, weights) for name, weights in models.items()]
    found = infer_lineage(prints, {}).findings
    assert found == calibrated([replace(one, probability=None) for one in found])
    for one in found:
        asserts = bool(one.parents) and one.grade is not Grade.ABSTAIN
        assert (one.probability is not None) is asserts
    assert any(one.probability is not None for one in found)

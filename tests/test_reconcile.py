"""Claims and findings become edges."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.records import Claim, ClaimSource
from lineage.infer.declared import declarations
from lineage.infer.reconcile import in_graph, reconcile, remark_on
from lineage.model import Edge, Evidence, Finding, Grade, Kind, ParentShare, Verdict

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def claim(child, parent, relation="finetune", source=ClaimSource.CARD, weight=None):
    return Claim(
        child, parent, parent or "?", relation, source, "base_model: x", "0" * 40, NOW, weight
    )


def finding(child, *parents, kind=Kind.FINETUNE, grade=Grade.INFERRED, ties=(), base=None):
    share = 1.0 / max(len(parents), 1)
    shares = tuple(ParentShare(parent, share) for parent in parents)
    return Finding(child, kind, grade, shares, ties, base, p_value=1e-9)


def founder(name):
    return finding(name, kind=Kind.FOUNDER)


def verdicts(edges):
    return {(edge.child, edge.parent): (str(edge.verdict), str(edge.grade)) for edge in edges}


def test_agreeing_claim_confirms_a_finding():
    edges = reconcile([claim("b", "a")], [founder("a"), finding("b", "a")])
    assert verdicts(edges) == {("b", "a"): ("confirmed", "inferred")}
    assert edges[0].p_value == 1e-9
    assert edges[0].kind == "finetune"
    assert edges[0].evidence[-1].text == "declared by card: base_model: x"


def test_parent_that_nobody_declared_is_undeclared():
    assert verdicts(reconcile([], [founder("a"), finding("b", "a")])) == {
        ("b", "a"): ("undeclared", "inferred")
    }


def test_claim_of_another_readable_parent_is_contradicted_and_kept():
    edges = reconcile([claim("c", "b")], [founder("a"), finding("b", "a"), finding("c", "a")])
    assert verdicts(edges)["c", "a"] == ("undeclared", "inferred")
    assert verdicts(edges)["c", "b"] == ("contradicted", "declared")


def test_claim_of_an_unrelated_parent_is_contradicted_even_without_a_found_parent():
    abstained = finding("c", grade=Grade.ABSTAIN)
    edges = reconcile([claim("c", "a")], [founder("a"), abstained], frozenset({("a", "c")}))
    assert verdicts(edges) == {("c", "a"): ("contradicted", "declared")}
    edges = reconcile([claim("c", "a")], [founder("a"), abstained], lambda a, b: True)
    assert verdicts(edges) == {("c", "a"): ("contradicted", "declared")}


def test_claimed_grandparent_is_evidence_and_no_contradiction():
    edges = reconcile([claim("c", "a")], [founder("a"), finding("b", "a"), finding("c", "b")])
    assert verdicts(edges) == {
        ("b", "a"): ("undeclared", "inferred"),
        ("c", "b"): ("undeclared", "inferred"),
    }
    remark = edges[1].evidence[-1]
    assert (remark.name, remark.value) == ("declared_ancestor", 2.0)


def test_claim_of_a_copy_of_the_found_parent_confirms_the_copy():
    copy = finding("a2", "a", kind=Kind.DUPLICATE, grade=Grade.PROVED)
    edges = reconcile([claim("b", "a2")], [founder("a"), copy, finding("b", "a")])
    assert verdicts(edges)["b", "a2"] == ("confirmed", "inferred")
    assert ("b", "a") not in verdicts(edges)


def test_a_claim_chooses_among_tied_parents():
    tied = finding("c", "a", grade=Grade.TIE, ties=("a", "b"))
    assert verdicts(reconcile([claim("c", "b")], [tied])) == {("c", "b"): ("confirmed", "tie")}
    assert verdicts(reconcile([], [tied])) == {("c", "a"): ("undeclared", "tie")}


def test_claims_that_weights_could_not_check_are_unverified():
    adapter = finding("ad", kind=Kind.ADAPTER, grade=Grade.ABSTAIN)
    edges = reconcile(
        [claim("ad", "a", "adapter"), claim("unread", "a"), claim("b", "gone/away")],
        [founder("a"), adapter, founder("b")],
    )
    assert verdicts(edges) == {
        ("ad", "a"): ("unverified", "declared"),
        ("unread", "a"): ("unverified", "declared"),
        ("b", "gone/away"): ("unverified", "declared"),
    }
    assert edges[0].relation == "adapter"
    assert edges[0].kind is None


def test_abstention_makes_no_edge_without_a_claim():
    assert reconcile([], [finding("c", "a", grade=Grade.ABSTAIN)]) == ()


def test_shared_initialisation_is_no_descent_and_contradicts_a_claim():
    shared = finding("b", "a", kind=Kind.COMMON_INIT)
    assert reconcile([], [founder("a"), shared]) == ()
    edges = reconcile([claim("b", "a")], [founder("a"), shared])
    assert verdicts(edges) == {("b", "a"): ("contradicted", "declared")}


def test_claims_about_itself_and_unresolved_claims_make_no_edge():
    assert reconcile([claim("a", "a"), claim("a", None)], []) == ()


def test_a_claim_against_the_arrow_of_the_findings_is_contradicted():
    edges = reconcile([claim("a", "b")], [founder("a"), finding("b", "a")])
    assert verdicts(edges)["a", "b"] == ("contradicted", "declared")


def test_of_claims_in_a_circle_the_last_is_contradicted():
    edges = reconcile([claim("a", "b"), claim("b", "a")], [])
    assert sorted(str(edge.verdict) for edge in edges) == ["contradicted", "unverified"]


def test_merge_shares_come_from_the_finding_and_declared_shares_from_the_recipe():
    merge = finding("m", "a", "b", kind=Kind.MERGE, grade=Grade.PROVED)
    edges = reconcile([claim("m", "a", "merge")], [founder("a"), founder("b"), merge])
    assert [(e.parent, e.weight, str(e.verdict), e.relation) for e in edges] == [
        ("a", 0.5, "confirmed", "merge"),
        ("b", 0.5, "undeclared", "merge"),
    ]
    recipe = claim("m", "x", "merge", ClaimSource.MERGE_RECIPE, 0.3)
    assert reconcile([recipe], [])[0].weight == 0.3


def test_base_of_a_merge_that_was_declared_as_parent_is_evidence():
    merge = finding("m", "a", "b", kind=Kind.MERGE, base="base")
    edges = reconcile(
        [claim("m", "base")], [founder("base"), finding("a", "base"), finding("b", "base"), merge]
    )
    assert {parent for child, parent in verdicts(edges) if child == "m"} == {"a", "b"}


def test_extra_parent_of_an_inferred_merge_stays_open_and_of_a_replayed_one_is_contradicted():
    models = [founder("a"), founder("b"), founder("x")]
    inferred = finding("m", "a", "b", kind=Kind.MERGE)
    proved = finding("m", "a", "b", kind=Kind.MERGE, grade=Grade.PROVED)
    assert verdicts(reconcile([claim("m", "x")], [*models, inferred]))["m", "x"][0] == "unverified"
    assert verdicts(reconcile([claim("m", "x")], [*models, proved]))["m", "x"][0] == "contradicted"


def test_the_base_that_a_recipe_names_is_not_contradicted_by_the_parents_that_replay():
    models = [founder("a"), founder("b"), founder("x")]
    merge = finding("m", "a", "b", kind=Kind.MERGE, grade=Grade.PROVED)

    def said_to_come_from_x(text, *more):
        recipe = replace(claim("m", "x", "merge", ClaimSource.MERGE_RECIPE), text=text)
        return verdicts(reconcile([recipe, *more], [*models, merge]))["m", "x"][0]

    assert said_to_come_from_x("base_model x of a ties") == "unverified"
    assert said_to_come_from_x("ties of x") == "contradicted"
    assert said_to_come_from_x("base_model x of a ties", claim("m", "x")) == "contradicted"


def test_a_declared_merge_is_not_contradicted_by_one_inferred_parent():
    said = [claim("m", "a", "merge"), claim("m", "b", "merge")]
    models = [founder("base"), finding("a", "base"), finding("b", "base")]
    edges = verdicts(reconcile(said, [*models, finding("m", "base")]))
    assert edges["m", "a"] == edges["m", "b"] == ("unverified", "declared")
    copied = finding("m", "base", kind=Kind.DUPLICATE, grade=Grade.PROVED)
    assert verdicts(reconcile(said, [*models, copied]))["m", "a"][0] == "contradicted"


@pytest.mark.parametrize(
    ("kind", "of", "grade", "verdict"),
    [
        (Kind.QUANTIZED, "a", Grade.INFERRED, "unverified"),
        (Kind.PERMUTED, "a", Grade.INFERRED, "unverified"),
        (Kind.VOCABULARY, "a", Grade.INFERRED, "unverified"),
        (Kind.VOCABULARY, "a", Grade.PROVED, "unverified"),
        (Kind.QUANTIZED, "a", Grade.PROVED, "contradicted"),
        (Kind.QUANTIZED, "b", Grade.INFERRED, "contradicted"),
        (Kind.PERMUTED, "b", Grade.INFERRED, "contradicted"),
        (Kind.FINETUNE, "a", Grade.INFERRED, "contradicted"),
    ],
)
def test_what_repeats_the_found_parent_was_not_tried_and_is_not_contradicted(
    kind, of, grade, verdict
):
    models = [founder("a"), finding("b", "a"), finding("x", of, kind=kind, grade=Grade.PROVED)]
    edges = reconcile([claim("c", "x")], [*models, finding("c", "a", grade=grade)])
    assert verdicts(edges)["c", "x"][0] == verdict
    assert verdicts(edges)["c", "a"][0] == "undeclared"


def test_a_vocabulary_that_was_trained_as_well_was_tried():
    trained = finding("x", "a", kind=Kind.VOCABULARY)
    edges = reconcile([claim("c", "x")], [founder("a"), trained, finding("c", "a")])
    assert verdicts(edges)["c", "x"][0] == "contradicted"


@pytest.mark.parametrize("grade", [Grade.TIE, Grade.ABSTAIN])
def test_a_claim_that_may_stand_above_the_found_parent_is_not_contradicted(grade):
    parents = ("a",) if grade is Grade.TIE else ()
    open_ = finding("b", *parents, grade=grade, ties=("a", "x"))
    models = [founder("a"), finding("x", "a"), open_, finding("c", "b")]
    edges = reconcile([claim("d", "x")], [*models, finding("d", "c")])
    assert verdicts(edges)["d", "x"][0] == "unverified"
    assert "what b comes from" in next(e for e in edges if e.parent == "x").evidence[-1].text


def test_the_evidence_of_a_circle_tells_findings_from_claims_ties_and_dated_copies():
    def reason(*models):
        edges = reconcile([claim("a", "b")], [founder("a"), *models])
        (refused,) = (edge for edge in edges if (edge.child, edge.parent) == ("a", "b"))
        assert refused.verdict is Verdict.CONTRADICTED
        return refused.evidence[-1].name

    assert reason(finding("b", "a")) == "own_descendant"
    assert reason(finding("m", "a"), finding("b", "m")) == "own_descendant"
    assert reason(finding("b", "a", kind=Kind.DUPLICATE, grade=Grade.PROVED)) == "cycle"
    assert reason(finding("b", "a", grade=Grade.TIE, ties=("a", "c"))) == "cycle"
    (_, refused) = reconcile([claim("a", "b"), claim("b", "a")], [])
    assert refused.evidence[-1].name == "cycle"


def test_a_circle_of_steps_that_only_dates_direct_is_no_contradiction_by_the_weights():
    def reason(kind, *facts):
        its = replace(finding("b", "a", kind=kind), evidence=facts)
        (refused,) = (
            e for e in reconcile([claim("a", "b")], [founder("a"), its]) if e.child == "a"
        )
        return refused.evidence[-1].name

    assert reason(Kind.FINETUNE) == "own_descendant"
    assert reason(Kind.LORA_MERGED) == "cycle"
    assert reason(Kind.FINETUNE, Evidence("direction_log_odds", 2.1, "")) == "cycle"
    assert reason(Kind.FINETUNE, Evidence("direction_log_odds", 2.3, "")) == "own_descendant"
    assert reason(Kind.LORA_MERGED, Evidence("direction_log_odds", 2.3, "")) == "own_descendant"


@pytest.mark.parametrize(
    ("days", "verdict"),
    [
        ({}, "contradicted"),
        ({"x": 9}, "contradicted"),
        ({"d": 1}, "contradicted"),
        ({"x": 2, "d": 3}, "contradicted"),
        ({"x": 3, "d": 3}, "contradicted"),
        ({"x": 4, "d": 3}, "unverified"),
        ({"x": 4, "c": 3, "d": 5}, "contradicted"),
        ({"x": 4, "a": 3, "d": 5}, "contradicted"),
        ({"x": 4, "c": None, "d": None}, "contradicted"),
    ],
)
def test_a_parent_that_is_dated_after_its_child_was_not_tried_and_is_not_contradicted(
    days, verdict
):
    dates = {name: day and NOW + timedelta(days=day) for name, day in days.items()}
    models = [founder("a"), finding("x", "a"), finding("c", "a"), finding("d", "c")]
    edges = reconcile([claim("d", "x")], models, dates=dates)
    assert verdicts(edges)["d", "x"] == (verdict, "declared")
    if verdict == "unverified":
        assert edges[-2].evidence[-1].name == "later_than_child"


def test_an_ancestor_whose_place_only_dates_tell_may_stand_above_the_parent_found():
    dates = {name: NOW + timedelta(days=day) for day, name in enumerate("axd")}

    def verdict(kind):
        models = [founder("a"), finding("x", "a", kind=kind), finding("d", "a")]
        return verdicts(reconcile([claim("d", "x")], models, dates=dates))["d", "x"][0]

    assert verdict(Kind.FINETUNE) == "contradicted"
    assert verdict(Kind.LORA_MERGED) == "unverified"


@pytest.mark.parametrize(
    ("kind", "relation", "source", "verdict"),
    [
        (Kind.QUANTIZED, "quantized", ClaimSource.CARD, "contradicted"),
        (Kind.QUANTIZED, "quantized", ClaimSource.GGUF_METADATA, "unverified"),
        (Kind.QUANTIZED, "finetune", ClaimSource.CARD, "unverified"),
        (Kind.FINETUNE, "quantized", ClaimSource.CARD, "unverified"),
    ],
)
def test_codes_are_replayed_from_younger_models_too_and_contradict_what_is_called_their_source(
    kind, relation, source, verdict
):
    dates = {name: NOW + timedelta(days=day) for day, name in enumerate("abqx")}
    its = finding("q", "b", kind=kind, grade=Grade.PROVED)
    said = [claim("q", "x", relation, source)]
    models = [founder("a"), finding("b", "a"), its]
    edges = reconcile(said, [*models, finding("x", "a")], dates=dates)
    assert verdicts(edges)["q", "x"][0] == verdict
    turned = finding("x", "b", kind=Kind.LORA_MERGED)  # by dates: it may be where b comes from
    assert verdicts(reconcile(said, [*models, turned], dates=dates))["q", "x"][0] == "unverified"


def test_a_parent_of_another_family_is_contradicted_whatever_its_date():
    dates = {name: NOW + timedelta(days=day) for day, name in enumerate("acx")}
    models = [founder("a"), founder("x"), finding("c", "a")]
    edges = reconcile([claim("c", "x")], models, {("c", "x")}, dates)
    assert verdicts(edges)["c", "x"][0] == "contradicted"


def test_a_remark_stands_on_the_found_edges_that_lead_to_the_ancestor():
    models = [founder("z"), finding("p", "z"), finding("q0", "z"), finding("q", "q0")]
    merge = finding("m", "p", "q", kind=Kind.MERGE, grade=Grade.PROVED)
    edges = reconcile([claim("m", "q0")], [*models, merge])
    told = {e.parent: remark_on(e.evidence, "q0") for e in edges if e.child == "m"}
    assert told["p"] is None
    assert told["q"].value == 2.0


def test_a_remark_on_a_claim_is_found_by_the_parent_it_speaks_of():
    models = [founder("a"), finding("ab", "a"), finding("c", "ab")]
    evidence = reconcile([claim("c", "a")], models)[-1].evidence
    assert remark_on(evidence, "a").name == "declared_ancestor"
    assert remark_on(evidence, "ab") is None


def test_claims_are_gathered_by_parent_most_trusted_source_first():
    said = [
        claim("c", "a", "finetune", ClaimSource.TAG),
        claim("c", "a", None, ClaimSource.CARD),
        claim("c", "b", "merge", ClaimSource.MERGE_RECIPE),
        claim("c", "c"),
        claim("c", None),
    ]
    first, second = declarations(said)["c"]
    assert (first.parent, first.relation) == ("b", "merge")
    assert [str(one.source) for one in second.claims] == ["card", "tag"]
    assert (second.relation, second.trust) == ("finetune", first.trust + 3)


def test_two_findings_about_one_child_are_refused():
    with pytest.raises(ValueError, match="more than one finding"):
        reconcile([], [founder("a"), founder("a")])


names = st.sampled_from("abcdefgh")
claims_given = st.lists(st.builds(claim, names, st.one_of(st.none(), names)), max_size=12)
findings_given = st.lists(
    st.builds(
        lambda child, parents, kind, grade, ties: finding(
            child, *parents, kind=kind, grade=grade, ties=tuple(ties)
        ),
        names,
        st.lists(names, max_size=3, unique=True),
        st.sampled_from([Kind.FINETUNE, Kind.DUPLICATE, Kind.MERGE, Kind.CAST, Kind.COMMON_INIT]),
        st.sampled_from([Grade.PROVED, Grade.INFERRED, Grade.TIE, Grade.ABSTAIN]),
        st.lists(names, max_size=3, unique=True),
    ),
    max_size=8,
    unique_by=lambda one: one.child,
)


@given(claims_given, findings_given, st.sets(st.tuples(names, names)))
def test_whatever_is_said_and_found_the_graph_has_no_cycle_and_no_edge_twice(said, found, apart):
    unrelated = frozenset((min(pair), max(pair)) for pair in apart)
    edges = reconcile(said, found, unrelated)
    kept = [(edge.child, edge.parent) for edge in edges if in_graph(edge)]
    assert nx.is_directed_acyclic_graph(nx.DiGraph(kept))
    assert len({(edge.child, edge.parent) for edge in edges}) == len(edges)
    assert all(isinstance(edge, Edge) for edge in edges)
    assert all(edge.verdict is not Verdict.UNDECLARED or edge.kind is not None for edge in edges)
    assert edges == reconcile(list(reversed(said)), list(reversed(found)), unrelated)

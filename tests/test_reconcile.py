"""Claims and findings become edges."""

from __future__ import annotations

from datetime import UTC, datetime

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.records import Claim, ClaimSource
from lineage.infer.reconcile import in_graph, reconcile
from lineage.model import Edge, Finding, Grade, Kind, ParentShare, Verdict

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


def test_a_declared_merge_is_not_contradicted_by_one_inferred_parent():
    said = [claim("m", "a", "merge"), claim("m", "b", "merge")]
    models = [founder("base"), finding("a", "base"), finding("b", "base")]
    edges = verdicts(reconcile(said, [*models, finding("m", "base")]))
    assert edges["m", "a"] == edges["m", "b"] == ("unverified", "declared")
    copied = finding("m", "base", kind=Kind.DUPLICATE, grade=Grade.PROVED)
    assert verdicts(reconcile(said, [*models, copied]))["m", "a"][0] == "contradicted"


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

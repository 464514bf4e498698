"""Declared against found, claim by claim: each ruling, its fairness, and the command."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.records import ClaimSource
from lineage.cli import main
from lineage.infer.assemble import infer_lineage
from lineage.infer.reconcile import reconcile
from lineage.model import Evidence, Finding, Grade, Kind, ParentShare, Relation
from lineage.pipeline.audit import COLUMNS
from lineage.pipeline.publish import publish
from lineage.store.home import Home
from lineage.views import ClaimRow, EdgeRow, Facts, FindingRow, ModelCard, Reason, audit_model
from lineage.views.rulings import OBJECTIONS, Ruling
from registers import add_claim, add_model, found, make_home
from simulated import Herd, fingerprint, stored
from synthetic import MODELS, make_publication

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def claim(child, parent, relation="finetune", source=ClaimSource.CARD, text="base_model: x"):
    return ClaimRow(
        child, parent, parent or "./local", relation, str(source), text, None, None, NOW, NOW
    )


def finding(child, *parents, kind=Kind.FINETUNE, grade=Grade.INFERRED, **more):
    share = 1.0 / max(len(parents), 1)
    shares = tuple(ParentShare(parent, share) for parent in parents)
    more.setdefault("evidence", (Evidence("measured", 1.0, f"measured of {child}"),))
    return Finding(child, kind, grade, shares, p_value=1e-9, **more)


def founder(name):
    return finding(name, kind=Kind.FOUNDER)


def quantised(child, *parents, grade=Grade.PROVED):
    words = f"quantising {parents[0] if parents else 'q'} gives so many codes"
    codes = (Evidence("codes_replayed", 1.0, words),)
    return finding(child, *parents, kind=Kind.QUANTIZED, grade=grade, evidence=codes)


def card(name, known, status="ok"):
    return ModelCard(
        name, status, *[None] * 12, known.kind if known else None, known.grade if known else None,
        None, None, name, *[0] * 8,
    )  # fmt: skip


def edge_rows(edges, child):
    mine = [edge for edge in edges if edge.child == child]
    return tuple(
        EdgeRow(
            e.child, e.parent, place, e.relation, e.kind, e.weight, str(e.verdict), str(e.grade),
            e.p_value, e.probability, e.evidence,
        )
        for place, e in enumerate(mine)
    )  # fmt: skip


def finding_row(known):
    return FindingRow(
        1, known.child, str(known.kind), str(known.grade), known.base, known.method, known.rank,
        known.p_value, known.probability, known.ties, known.evidence, known.recipe_yaml,
        known.note, NOW, known.parents,
    )  # fmt: skip


def audited(
    child, claims, findings, unrelated=(), *, dates=None, status=None, doubts=None, unread=None
):
    """The audit of `child` in a register of these claims and findings."""
    by_child = {one.child: one for one in findings}
    states = {name: "ok" for name in by_child} | (status or {})
    cards = {name: card(name, by_child.get(name), state) for name, state in states.items()}
    edges = reconcile(claims, findings, frozenset(unrelated), dates or {})
    return audit_model(
        Facts(
            cards.get(child) or card(child, None),
            tuple(one for one in claims if one.child == child),
            edge_rows(edges, child),
            finding_row(by_child[child]) if child in by_child else None,
            cards,
            unread or {},
            doubts or {},
        )
    )


def rulings(audit):
    return {line.parent or line.parent_text: str(line.ruling) for line in audit.lines}


def only(audit):
    (line,) = audit.lines
    return line


# -- declared and found ----------------------------------------------------------------------------


def test_a_claim_that_the_weights_bear_out_is_confirmed_with_sources_grade_and_evidence():
    said = [claim("b", "a"), claim("b", "a", source=ClaimSource.TAG, text="base_model:a")]
    audit = audited("b", said, [founder("a"), finding("b", "a")])
    line = only(audit)
    assert (line.ruling, line.reason) == (Ruling.CONFIRMED, None)
    assert line.sentence == "Declared as a fine-tune of a; the weights agree (fine-tune)."
    assert [(said.source, said.text) for said in line.declared] == [
        ("card", "base_model: x"),
        ("tag", "base_model:a"),
    ]
    assert (line.kind, line.grade, line.weight, line.p_value) == ("finetune", "inferred", 1.0, 1e-9)
    assert [fact.text for fact in line.evidence] == ["measured of b"]
    assert audit.objections() == audit.objections(strict=True) == ()


def test_a_claim_of_a_copy_of_the_parent_is_confirmed_and_says_so():
    copy = finding("a2", "a", kind=Kind.DUPLICATE, grade=Grade.PROVED)
    line = only(audited("b", [claim("b", "a2")], [founder("a"), copy, finding("b", "a")]))
    assert line.ruling is Ruling.CONFIRMED
    assert "which they cannot tell from the declared a2" in line.sentence


def test_a_claim_of_one_of_tied_parents_is_confirmed_and_names_the_others():
    tied = finding("c", "a", grade=Grade.TIE, ties=("a", "b"))
    line = only(audited("c", [claim("c", "b")], [founder("a"), finding("b", "a"), tied]))
    assert (line.ruling, line.reason, line.grade) == (Ruling.CONFIRMED, "tie", "tie")
    assert "one of several that fit equally: a and b" in line.sentence


def test_a_declared_grandparent_is_no_lie_but_the_parent_is_undeclared():
    models = [founder("a"), finding("b", "a"), finding("c", "b")]
    audit = audited("c", [claim("c", "a")], models)
    assert rulings(audit) == {"b": "undeclared", "a": "ancestor"}
    assert audit.objections() == ()
    assert [line.parent for line in audit.objections(strict=True)] == ["b"]
    assert audit.lines[1].sentence == (
        "Declared as a fine-tune of a, which stands 2 generations above it in the register."
    )


def test_one_generation_is_one_generation():
    twin = finding("a2", "a", kind=Kind.DUPLICATE, grade=Grade.PROVED)
    said = [claim("b", "a"), claim("b", "a2")]
    audit = audited("b", said, [founder("a"), twin, finding("b", "a")])
    assert audit.lines[0].sentence.endswith(
        "a2, which stands 1 generation above it in the register."
    )
    assert "a2 is an ancestor, 1 generation above" in audit.lines[0].evidence[0].text


def test_the_base_of_a_merge_that_was_declared_is_no_lie():
    merge = finding("m", "a", "b", kind=Kind.MERGE, grade=Grade.PROVED, base="base")
    said = [claim("m", "base"), claim("m", "a", "merge"), claim("m", "b", "merge")]
    audit = audited("m", said, [founder("base"), founder("a"), founder("b"), merge])
    assert rulings(audit) == {"base": "ancestor", "a": "confirmed", "b": "confirmed"}
    assert {line.reason for line in audit.lines} == {"base", None}


def test_a_parent_that_nobody_declared_is_undeclared_and_an_objection_in_strict_only():
    audit = audited("b", [], [founder("a"), finding("b", "a")])
    assert rulings(audit) == {"a": "undeclared"}
    assert only(audit).declared == ()
    assert audit.objections() == ()
    assert len(audit.objections(strict=True)) == 1


def test_an_undeclared_tie_names_every_candidate():
    tied = finding("c", "a", grade=Grade.TIE, ties=("a", "b"))
    line = only(audited("c", [], [founder("a"), finding("b", "a"), tied]))
    assert (line.ruling, line.reason) == (Ruling.UNDECLARED, "tie")
    assert "one of a and b as parent" in line.sentence


def test_a_model_without_claims_and_parents_has_no_lines():
    audit = audited("a", [], [founder("a")])
    assert (audit.lines, audit.kind, audit.severity) == ((), "founder", len(Ruling))


# -- contradicted ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("child", "said", "unrelated", "reason", "words"),
    [
        ("c", "x", (), "other_parent", "; the weights show a instead."),
        ("c", "x", [("c", "x")], "unrelated", "; the weights show a instead."),
        ("x", "a", [("a", "x")], "unrelated", "finds no kinship with a."),
        ("a", "c", (), "own_descendant", "; c itself descends from a."),
    ],
)
def test_a_claim_is_contradicted_where_the_weights_decided_otherwise(
    child, said, unrelated, reason, words
):
    models = [founder("a"), finding("c", "a"), founder("x")]
    audit = audited(child, [claim(child, said)], models, unrelated)
    (line,) = (one for one in audit.lines if one.parent == said)
    assert (line.ruling, line.reason) == (Ruling.CONTRADICTED, reason)
    assert line in audit.objections()
    assert line.sentence.endswith(words)
    assert line.grade == "inferred"
    assert line.evidence[0].name == reason


def test_a_contradiction_carries_the_doubts_of_the_crawl():
    doubts = {"x": (Evidence("older_than_parent", None, "c was created before x"),)}
    models = [founder("a"), finding("c", "a"), founder("x")]
    audit = audited("c", [claim("c", "x")], models, doubts=doubts)
    assert audit.lines[0].evidence[-1].text == "c was created before x"
    assert all(fact.name != "older_than_parent" for fact in audit.lines[1].evidence)


@pytest.mark.parametrize("models", [(), ("a", "b")])
def test_claims_in_a_circle_are_not_called_lies_and_do_not_crash(models):
    said = [claim("a", "b"), claim("b", "a"), claim("a", "a")]
    for child in "ab":
        audit = audited(child, said, [founder(name) for name in models])
        assert audit.objections() == ()
        assert set(rulings(audit).values()) == {"unverifiable"}
    reasons = {line.reason for child in "ab" for line in audited(child, said, []).lines}
    assert reasons == {"cycle", "unread", "itself"}


def test_an_original_is_not_called_a_liar_by_a_copy_of_which_only_dates_tell_the_first():
    copy = finding("b", "a", kind=Kind.DUPLICATE, grade=Grade.PROVED)
    assert only(audited("a", [claim("a", "b")], [founder("a"), copy])).reason == "cycle"
    cast = finding("b", "a", kind=Kind.CAST, grade=Grade.PROVED)
    assert audited("a", [claim("a", "b")], [founder("a"), cast]).objections()


TRUE_PARENTS = {
    "a/one": "z/base", "a/two": "a/one", "a/three": "a/two", "b/one": "z/base", "b/two": "b/one",
}  # fmt: skip
IN_TIME = ("z/base", *TRUE_PARENTS)


@pytest.fixture(scope="module")
def herd():
    grown = Herd(0)
    weights = {"z/base": stored(grown.founder())}
    for text, (child, parent) in enumerate(TRUE_PARENTS.items()):
        weights[child] = grown.train(weights[parent], 0.03, text=text)
    return [fingerprint(name, its) for name, its in weights.items()]


def true_ancestors(child):
    while child in TRUE_PARENTS:
        child = TRUE_PARENTS[child]
        yield child


@pytest.mark.parametrize("day", [25, 365])
@pytest.mark.parametrize("late", IN_TIME)
def test_no_true_claim_is_called_a_lie_because_one_repository_was_uploaded_again(herd, late, day):
    dates = {name: NOW + timedelta(days=10 * place) for place, name in enumerate(IN_TIME)}
    dates[late] = NOW + timedelta(days=day)
    found_ = infer_lineage(herd, dates).findings
    true = [claim(child, parent) for child, parent in TRUE_PARENTS.items()]
    for child in TRUE_PARENTS:
        for ancestor in true_ancestors(child):
            said = [one for one in true if one.child != child] + [claim(child, ancestor)]
            assert audited(child, said, found_, dates=dates).objections() == (), ancestor


def test_weights_that_tell_the_direction_contradict_a_claim_whatever_the_dates(herd):
    dates = {name: NOW + timedelta(days=10 * place) for place, name in enumerate(IN_TIME)}
    found_ = infer_lineage(herd, dates).findings
    audit = audited("a/two", [claim("a/two", "a/three")], found_, dates=dates)
    assert audit.lines[0].reason == "own_descendant"
    audit = audited("b/two", [claim("b/two", "a/two")], found_, dates=dates)
    assert audit.lines[0].reason == "other_parent"


# -- unverifiable ----------------------------------------------------------------------------------

ABSTAINED = finding("c", grade=Grade.ABSTAIN, note="which came first cannot be told")
ADAPTER = finding("c", kind=Kind.ADAPTER, grade=Grade.ABSTAIN, note="an adapter alone")
TIED = finding("c", "a", grade=Grade.TIE, ties=("a", "b"))
MERGED = finding("c", "a", "b", kind=Kind.MERGE)


@pytest.mark.parametrize(
    ("its", "said", "reason", "words"),
    [
        (None, claim("c", "x"), Reason.UNREAD, "weights of c were not read (no weights)"),
        (finding("c", "a"), claim("c", "gone/away"), Reason.PARENT_NOT_CATALOGUED, "not in the"),
        (finding("c", "a"), claim("c", "shy"), Reason.PARENT_UNREAD, "(the repository is gated)"),
        (finding("c", "a"), claim("c", "lora"), Reason.PARENT_ADAPTER, "no whole model"),
        (ADAPTER, claim("c", "x", "adapter"), Reason.ADAPTER, "an adapter alone"),
        (ABSTAINED, claim("c", "x"), Reason.ABSTAINED, "which came first cannot be told"),
        (TIED, claim("c", "x"), Reason.TIE, "fit a and b equally"),
        (MERGED, claim("c", "x", "merge"), Reason.OPEN_MERGE, "show a and b, but not whether"),
        (finding("c", "a"), claim("c", "x", "merge"), Reason.NEAR_BASE, "show a alone, but"),
        (finding("c", "a"), claim("c", "a-q8"), Reason.NOT_TRIED, "which a-q8 repeats"),
        (finding("c", "open"), claim("c", "x"), Reason.OPEN_ABOVE, "not what open comes from"),
        (founder("c"), claim("c", "x"), Reason.UNDECIDED, "no parent, and do not exclude"),
        (finding("c", "a"), claim("c", None), Reason.UNRESOLVED, "mean no repository"),
        (finding("c", "a"), claim("c", "c"), Reason.ITSELF, "the model itself"),
        (
            replace(MERGED, grade=Grade.PROVED),
            claim("c", "x", "merge", ClaimSource.MERGE_RECIPE, "base_model x of a ties"),
            Reason.BASE,
            "Declared as the base of this merge: x; the base of a merge need not leave a mark",
        ),
    ],
)
def test_what_cannot_be_checked_is_unverifiable_with_its_reason_and_no_objection(
    its, said, reason, words
):
    models = [
        founder("a"), finding("b", "a"), finding("x", "a"), quantised("a-q8", "a"),
        finding("lora", kind=Kind.ADAPTER, grade=Grade.ABSTAIN),
        finding("open", grade=Grade.ABSTAIN), *([its] if its else []),
    ]  # fmt: skip
    audit = audited(
        "c", [said], models, status={"shy": "gated", "c": "ok"}, unread={"c": "no weights"}
    )
    (line,) = (one for one in audit.lines if one.declared)
    assert (line.ruling, line.reason) == (Ruling.UNVERIFIABLE, reason)
    assert words in line.sentence
    assert audit.objections() == ()
    assert line in audit.objections(strict=True)


# -- quantisations ---------------------------------------------------------------------------------


def test_a_quantisation_of_another_model_than_declared_is_unfaithful_and_names_what_replays():
    models = [founder("a"), finding("b", "a"), quantised("q", "b")]
    audit = audited("q", [claim("q", "a2", "quantized")], [*models, finding("a2", "a")])
    assert rulings(audit) == {"a2": "unfaithful_quantisation", "b": "undeclared"}
    line = audit.lines[0]
    assert "codes do not come from it" in line.sentence
    assert line.sentence.endswith("; quantising b gives so many codes.")
    assert (line.grade, line.kind) == ("proved", "quantized")


def test_a_quantisation_of_a_stranger_whose_source_is_unknown_is_unfaithful_and_says_so():
    models = [founder("a"), quantised("q", grade=Grade.ABSTAIN)]
    line = only(audited("q", [claim("q", "a", "quantized")], models, [("a", "q")]))
    assert line.ruling is Ruling.UNFAITHFUL_QUANTISATION
    assert line.sentence.endswith("no other model is known to give its codes.")


def test_a_quantisation_that_no_model_replays_is_unverifiable():
    models = [founder("a"), quantised("q", grade=Grade.ABSTAIN)]
    line = only(audited("q", [claim("q", "a", "quantized")], models))
    assert (line.ruling, line.reason) == (Ruling.UNVERIFIABLE, Reason.ABSTAINED)


def test_metadata_that_a_converter_copied_declares_no_quantisation():
    models = [founder("a"), finding("b", "a"), finding("x", "a"), quantised("q", "b")]
    copied = claim("q", "x", "quantized", ClaimSource.GGUF_METADATA, "general.base_model: x")
    assert rulings(audited("q", [copied], models))["x"] == "contradicted"
    source = replace(copied, text="general.source: x")
    assert rulings(audited("q", [source], models))["x"] == "unfaithful_quantisation"


# -- missing parents -------------------------------------------------------------------------------


def merged(*said, grade=Grade.PROVED, kind=Kind.MERGE):
    models = [founder("a"), finding("b", "a"), finding("x", "a"), finding("c", "a")]
    merge = finding("m", "a", "b", "c", kind=kind, grade=grade)
    return audited("m", [claim("m", *one) for one in said], [*models, merge])


@pytest.mark.parametrize("kind", [Kind.MERGE, Kind.MOE, Kind.PASSTHROUGH])
@pytest.mark.parametrize("grade", [Grade.PROVED, Grade.INFERRED])
def test_a_merge_that_declares_some_parents_misses_the_others(kind, grade):
    audit = merged(("a", "merge"), ("b", "merge"), grade=grade, kind=kind)
    assert rulings(audit) == {"c": "missing_parent", "a": "confirmed", "b": "confirmed"}
    line = audit.lines[0]
    assert "with a share of 0.33" in line.sentence
    assert line.sentence.endswith("what was declared names only a and b.")
    assert line.declared == ()
    assert audit.objections() == (line,)


def test_a_merge_that_is_tied_with_others_misses_nothing():
    assert rulings(merged(("a", "merge"), grade=Grade.TIE))["c"] == "undeclared"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([], "undeclared"),
        ([("a", "merge"), ("gone/away", "merge")], "undeclared"),
        ([("a", "merge"), (None, "merge")], "undeclared"),
        ([("a", "merge"), ("m", "merge")], "missing_parent"),
        ([("a", "merge"), ("x", "merge")], "missing_parent"),
        (
            [("a", "merge"), ("no/base", "merge", ClaimSource.MERGE_RECIPE, "base_model y of a z")],
            "missing_parent",
        ),
    ],
)
def test_a_declared_parent_that_could_not_be_checked_may_be_the_one_that_misses(said, expected):
    assert rulings(merged(*said))["c"] == expected


def test_a_merge_that_names_an_ancestor_of_a_parent_found_does_not_miss_that_parent():
    models = [founder("z"), finding("p", "z"), finding("q0", "z"), finding("q", "q0")]
    merge = finding("m", "p", "q", kind=Kind.MERGE, grade=Grade.PROVED)
    said = [claim("m", "p", "merge"), claim("m", "q0", "merge")]
    audit = audited("m", said, [*models, merge])
    assert rulings(audit) == {"q": "undeclared", "q0": "ancestor", "p": "confirmed"}
    p0 = [claim("m", "q", "merge"), claim("m", "q0", "merge")]
    audit = audited("m", p0, [*models, merge])
    assert rulings(audit) == {"p": "missing_parent", "q0": "ancestor", "q": "confirmed"}


# -- wrong relations -------------------------------------------------------------------------------

CARD, TAG, PROSE = ClaimSource.CARD, ClaimSource.TAG, ClaimSource.PROSE
PROVED, INFERRED = Grade.PROVED, Grade.INFERRED


@pytest.mark.parametrize(
    ("kind", "grade", "said", "expected"),
    [
        (Kind.FINETUNE, INFERRED, [("finetune", CARD)], "confirmed"),
        (Kind.FINETUNE, INFERRED, [("quantized", CARD)], "wrong_relation"),
        (Kind.FINETUNE, INFERRED, [("quantized", TAG)], "wrong_relation"),
        (Kind.FINETUNE, Grade.TIE, [("quantized", CARD)], "confirmed"),
        (Kind.FINETUNE, INFERRED, [("quantized", CARD), ("finetune", PROSE)], "confirmed"),
        (Kind.FINETUNE, INFERRED, [("quantized", CARD), ("finetune", TAG)], "wrong_relation"),
        (Kind.FINETUNE, INFERRED, [("adapter", CARD)], "wrong_relation"),
        (Kind.FINETUNE, INFERRED, [("adapter", ClaimSource.ADAPTER_CONFIG)], "confirmed"),
        (Kind.FINETUNE, INFERRED, [("merge", CARD)], "confirmed"),
        (Kind.FINETUNE, INFERRED, [(None, CARD)], "confirmed"),
        (Kind.LORA_MERGED, INFERRED, [("merge", CARD)], "confirmed"),
        (Kind.PRUNED, PROVED, [("finetune", CARD)], "confirmed"),
        (Kind.VOCABULARY, PROVED, [("finetune", CARD)], "confirmed"),
        (Kind.PASSTHROUGH, PROVED, [("finetune", CARD)], "wrong_relation"),
        (Kind.PASSTHROUGH, PROVED, [("finetune", TAG)], "confirmed"),
        (Kind.PASSTHROUGH, INFERRED, [("finetune", CARD)], "confirmed"),
        (Kind.MERGE, PROVED, [("finetune", PROSE)], "wrong_relation"),
        (Kind.MERGE, INFERRED, [("finetune", PROSE)], "confirmed"),
        (Kind.MERGE, INFERRED, [("quantized", CARD)], "wrong_relation"),
        (Kind.QUANTIZED, PROVED, [("quantized", CARD)], "confirmed"),
        (Kind.QUANTIZED, PROVED, [("finetune", CARD)], "wrong_relation"),
        (Kind.QUANTIZED, PROVED, [("merge", CARD)], "wrong_relation"),
        (Kind.QUANTIZED, INFERRED, [("finetune", CARD)], "confirmed"),
        (Kind.QUANTIZED, INFERRED, [("merge", CARD)], "confirmed"),
        (Kind.ADAPTER, INFERRED, [("finetune", PROSE)], "confirmed"),
        (Kind.ADAPTER, INFERRED, [("quantized", CARD)], "wrong_relation"),
        (Kind.DUPLICATE, PROVED, [("finetune", PROSE)], "mislabelled_copy"),
        (Kind.DUPLICATE, PROVED, [("finetune", CARD)], "mislabelled_copy"),
        (Kind.DUPLICATE, PROVED, [("finetune", TAG)], "confirmed"),
        (Kind.DUPLICATE, PROVED, [(None, CARD)], "confirmed"),
        (Kind.DUPLICATE, PROVED, [("merge", CARD)], "confirmed"),
        (Kind.DUPLICATE, PROVED, [("quantized", CARD)], "confirmed"),
        (Kind.DUPLICATE, Grade.TIE, [("finetune", CARD)], "confirmed"),
        (Kind.CAST, PROVED, [("finetune", CARD)], "mislabelled_copy"),
        (Kind.CAST, PROVED, [("quantized", CARD)], "confirmed"),
        (Kind.PERMUTED, PROVED, [("finetune", CARD)], "mislabelled_copy"),
        (Kind.PERMUTED, PROVED, [("quantized", CARD)], "wrong_relation"),
    ],
)
def test_a_relation_is_wrong_only_where_the_weights_exclude_every_word_that_was_written(
    kind, grade, said, expected
):
    its = finding("c", "a", kind=kind, grade=grade, ties=("a",) if grade is Grade.TIE else ())
    claims = [claim("c", "a", relation, source) for relation, source in said]
    line = only(audited("c", claims, [founder("a"), its]))
    assert line.ruling == expected
    if expected == "wrong_relation":
        assert line.sentence.startswith("Declared as a")
        assert "that is the parent, but the weights show: " in line.sentence


def test_a_full_precision_copy_that_is_called_quantised_is_wrong_only_if_no_file_is_quantised():
    its = finding("c", "a", kind=Kind.DUPLICATE, grade=Grade.PROVED)
    doubts = {"a": (Evidence("quantized_full_precision", None, "all weights are BF16"),)}
    said = [claim("c", "a", "quantized")]
    line = only(audited("c", said, [founder("a"), its], doubts=doubts))
    assert line.ruling is Ruling.WRONG_RELATION
    assert line.evidence[-1].text == "all weights are BF16"


def test_a_copy_of_a_quantised_model_may_be_called_quantised():
    its = finding("c", "q", kind=Kind.PERMUTED, grade=Grade.PROVED)
    said = [claim("c", "q", "quantized")]
    assert only(audited("c", said, [founder("a"), quantised("q", "a"), its])).ruling == "confirmed"


# -- copies ----------------------------------------------------------------------------------------


NOTE = "which of the two came first is told by date and likes"


def test_an_author_is_not_called_a_copyist_by_a_mirror_that_dates_or_likes_put_first():
    mirror = finding("c", "b", kind=Kind.DUPLICATE, grade=Grade.PROVED, note=NOTE)
    models = [founder("a"), finding("b", "a"), mirror]
    audit = audited("c", [claim("c", "a")], models)
    assert rulings(audit) == {"b": "undeclared", "a": "ancestor"}
    assert audit.objections() == ()
    assert audit.lines[0].sentence == (
        f"The weights show b as parent (duplicate; {NOTE}); nobody declared it."
    )


@pytest.mark.parametrize(
    ("kind", "said", "expected"),
    [
        (Kind.CAST, "x", "mislabelled_copy"),
        (Kind.CAST, "a", "undeclared"),  # an ancestor of the model that was cast
        (Kind.CAST, "gone/away", "undeclared"),  # which it may descend from
        (Kind.DUPLICATE, "x", "undeclared"),
        (Kind.PERMUTED, "x", "undeclared"),
    ],
)
def test_only_a_cast_of_a_model_from_elsewhere_makes_a_claim_of_training_a_lie(
    kind, said, expected
):
    copy = finding("c", "b", kind=kind, grade=Grade.PROVED)
    models = [founder("a"), finding("b", "a"), finding("x", "a"), copy]
    audit = audited("c", [claim("c", said, source=PROSE)], models)
    assert rulings(audit)["b"] == expected
    if expected == "mislabelled_copy":
        (line,) = (one for one in audit.lines if one.parent == "b")
        assert line.sentence == (
            "Declared as a fine-tune of x, but it is a copy of b, which nobody declared: "
            "measured of c."
        )
        by_the_hub = audited("c", [claim("c", said, "finetune", TAG)], models)
        assert rulings(by_the_hub)["b"] == "undeclared"


def test_a_copy_that_claims_to_be_a_merge_of_several_is_mislabelled():
    copy = finding("c", "a", kind=Kind.DUPLICATE, grade=Grade.PROVED)
    said = [claim("c", "a", "merge"), claim("c", "b", "merge")]
    audit = audited("c", said, [founder("a"), finding("b", "a"), copy])
    assert rulings(audit) == {"b": "contradicted", "a": "mislabelled_copy"}


# -- whatever is said and found --------------------------------------------------------------------

names = st.sampled_from("abcdefg")
kinds = st.sampled_from([kind for kind in Kind if kind is not Kind.FOUNDER])
grades = st.sampled_from([Grade.PROVED, Grade.INFERRED, Grade.TIE, Grade.ABSTAIN])
relations = st.sampled_from([None, *map(str, Relation)])
claims_given = st.lists(
    st.builds(
        claim,
        names,
        st.one_of(st.none(), names),
        relations,
        st.sampled_from(ClaimSource),
        st.sampled_from(["base_model: x", "base_model x of a ties", "general.base_model: x"]),
    ),
    max_size=14,
)
findings_given = st.lists(
    st.builds(
        lambda child, parents, kind, grade, ties: finding(
            child,
            *(() if grade is Grade.ABSTAIN else parents),
            kind=kind if parents else Kind.FOUNDER,
            grade=grade,
            ties=tuple(ties),
        ),
        names,
        st.lists(names, max_size=3, unique=True),
        kinds,
        grades,
        st.lists(names, max_size=3, unique=True),
    ),
    max_size=7,
    unique_by=lambda one: one.child,
)
apart = st.sets(st.tuples(names, names)).map(lambda some: {(min(p), max(p)) for p in some})


@given(claims_given, findings_given, apart)
def test_every_claim_and_every_found_parent_gets_one_line(said, found_, unrelated):
    edges = reconcile(said, found_, frozenset(unrelated))
    for child in "abcdefg":
        audit = audited(child, said, found_, unrelated)
        lines = [(line.parent, line.parent_text) for line in audit.lines]
        assert len(set(lines)) == len(lines)
        declared = {one.parent for one in said if one.child == child}
        assert {line.parent for line in audit.lines if line.declared} == declared
        assert {edge.parent for edge in edges if edge.child == child} <= {p for p, _ in lines}
        assert all(line.sentence.endswith(".") for line in audit.lines)
        assert all(
            (line.ruling is Ruling.UNVERIFIABLE) <= bool(line.reason) for line in audit.lines
        )
        assert set(audit.objections()) <= set(audit.objections(strict=True))
        assert [Ruling(line.ruling) for line in audit.lines] == sorted(
            (line.ruling for line in audit.lines), key=list(Ruling).index
        )


@given(claims_given, findings_given, apart)
def test_an_objection_stands_on_a_decided_finding_or_on_the_family_test(said, found_, unrelated):
    for child in "abcdefg":
        for line in audited(child, said, found_, unrelated).objections():
            decided = line.grade in ("proved", "inferred")
            stranger = (min(child, line.parent), max(child, line.parent)) in unrelated
            # A claim against the arrow rests on the finding about the declared parent.
            assert decided or stranger or line.reason == "own_descendant"
            assert line.evidence


def honest(one):
    """What an honest author declares of a finding: every parent, by the Hub's word."""
    copies = {Kind.DUPLICATE, Kind.CAST, Kind.PERMUTED}
    word = None if one.kind in copies else str(Relation.of(one.kind))
    return [claim(one.child, share.parent, word) for share in one.parents]


@given(findings_given)
def test_who_declares_what_the_weights_show_meets_no_objection(found_):
    # Along the alphabet, so that the findings themselves close no circle.
    forward = [
        one for one in found_ if all(share.parent < one.child for share in one.parents)
        and one.kind is not Kind.COMMON_INIT
    ]  # fmt: skip
    said = [single for one in forward for single in honest(one)]
    for one in forward:
        audit = audited(one.child, said, forward)
        assert audit.objections() == ()
        assert all(line.ruling is not Ruling.UNDECLARED for line in audit.lines)


# -- the command -----------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path):
    home = make_home(
        tmp_path / "home",
        [
            found("a/base"), found("a/chat", "a/base"), found("b/other", "a/base"),
            found("b/liar", "a/chat"), found("c/quiet", "a/base"),
        ],
        [("a/chat", "a/base"), ("b/liar", "b/other"), ("c/quiet", "gone/away")],
    )  # fmt: skip
    publish(home)
    return home


def run(home, *arguments):
    return main(["audit", *arguments, "--home", str(home.root)])


def test_audit_of_a_sound_model_exits_0_and_of_a_wrong_claim_7(home, capsys):
    assert run(home, "a/chat") == 0
    table = capsys.readouterr()
    header, row = (line.split("\t") for line in table.out.splitlines())
    assert tuple(header) == COLUMNS
    assert row[:5] == ["a/chat", "confirmed", "a/base", "model card", "fine-tune, inferred"]
    assert table.err == "1 model, 0 objections: 1 confirmed\n"
    assert run(home, "b/liar", "a/chat") == 7
    rows = [line.split("\t")[:3] for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows == [
        ["b/liar", "contradicted", "b/other"],
        ["b/liar", "undeclared", "a/chat"],
        ["a/chat", "confirmed", "a/base"],
    ]


def test_strict_objects_to_what_is_undeclared_or_unverifiable(home, capsys):
    assert run(home, "c/quiet") == 0
    assert run(home, "c/quiet", "--strict") == 7
    assert "2 objections: 1 undeclared, 1 unverifiable" in capsys.readouterr().err
    assert run(home, "a/chat", "--strict") == 0


def test_all_and_author_put_the_gravest_first(home, capsys):
    assert run(home, "--all") == 7
    shown = [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert list(dict.fromkeys(shown)) == ["b/liar", "b/other", "c/quiet", "a/chat"]
    assert run(home, "--author", "a") == 0
    assert "2 models, 0 objections" in capsys.readouterr().err


def test_the_json_is_what_the_documentation_says(home, capsys):
    assert run(home, "b/liar", "--json") == 7
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert err == ""
    assert set(report) == {
        "data_date", "strict", "n_models", "n_objections", "verdicts", "models",
    }  # fmt: skip
    assert (report["n_models"], report["n_objections"], report["strict"]) == (1, 1, False)
    assert list(report["verdicts"]) == [str(ruling) for ruling in Ruling]
    (model,) = report["models"]
    assert set(model) == {
        "model", "status", "kind", "grade", "note", "n_objections", "lines",
    }  # fmt: skip
    first, second = model["lines"]
    assert set(first) == {
        "parent", "parent_text", "verdict", "is_objection", "reason", "sentence", "declared",
        "kind", "grade", "weight", "p_value", "probability", "evidence",
    }  # fmt: skip
    assert (first["verdict"], first["is_objection"], second["is_objection"]) == (
        "contradicted", True, False,
    )  # fmt: skip
    assert first["declared"] == [
        {"source": "card", "relation": "finetune", "text": "base_model: x"}
    ]


def test_the_documentation_names_every_verdict_and_every_reason():
    from test_cli import ROOT

    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    section = page.split("### `herdbook audit`")[1].split("\n### ")[0]
    for word in (*Ruling, *Reason):
        assert f"`{word}`" in section, word
    assert set(list(Ruling)[:5]) == OBJECTIONS


def test_an_unknown_model_or_author_brings_one_sentence_and_exit_3(home, capsys):
    assert run(home, "a/chap", "a/chat") == 3
    assert "no model a/chap" in capsys.readouterr().err
    assert run(home, "a/chap") == 3
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "did you mean a/chat" in err
    assert run(home, "--author", "nobody") == 3
    assert "no model of nobody" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [(), ("a/chat", "--all"), ("--all", "--author", "a"), ("--author", "")]
)
def test_models_an_author_or_all_are_named_but_not_two_of_them(home, arguments, capsys):
    assert run(home, *arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_without_a_register_one_sentence_and_exit_3(tmp_path, capsys):
    assert main(["audit", "--all", "--home", str(tmp_path / "none")]) == 3
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)


def test_a_publication_without_claims_is_not_audited(home, capsys):
    publish(home, ignore_claims=True)
    assert run(home, "--all") == 3
    assert "leaves out what was declared" in capsys.readouterr().err


def test_claims_of_a_renamed_parent_or_in_other_letters_meet_their_edges(tmp_path, capsys):
    home = make_home(
        tmp_path / "home",
        [found("New/base"), found("a/renamed", "New/base"), found("a/letters", "New/base")],
        [("a/renamed", "old/base"), ("a/letters", "nEW/BASE")],
    )
    with home.open_working() as connection:
        connection.execute("INSERT INTO alias VALUES ('old/base', 'New/base', now())")
    publish(home)
    assert run(home, "a/renamed", "a/letters", "--strict") == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[1:4] for row in rows] == [["confirmed", "New/base", "model card"]] * 2


def test_a_gated_model_says_why_nothing_is_known(tmp_path, capsys):
    home = make_home(tmp_path / "home", [found("a/base")], [("g/gated", "a/base")])
    with home.open_working() as connection:
        add_model(connection, "g/gated", status="gated")
        add_model(connection, "g/silent", status="gone")
        add_claim(connection, "g/gated", "./somewhere", text="_name_or_path: ./somewhere")
        connection.execute("UPDATE claim SET parent = NULL WHERE parent = './somewhere'")
    publish(home)
    assert run(home, "g/gated") == 0
    out = capsys.readouterr().out
    assert "the weights of g/gated were not read (the repository is gated)" in out
    assert "Declared as made from ./somewhere: words that mean no repository." in out


def test_on_a_terminal_each_model_is_a_block_within_its_width(home, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    assert run(home, "--all") == 7
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "b/liar (fine-tune, inferred)"
    assert lines[1].startswith("  contradicted: Declared as a fine-tune of b/other; the")
    assert max(map(len, lines)) <= 60
    assert not any(line.startswith("a/base") for line in lines)
    assert run(home, "a/base") == 0
    assert capsys.readouterr().out == (
        "a/base: nobody declared a parent, and the weights show none\n"
    )


def test_names_from_strangers_and_publications_made_by_hand_are_audited(tmp_path, capsys):
    home: Home = make_publication(tmp_path)
    assert run(home, "--all", "--json") == 7
    report = json.loads(capsys.readouterr().out)
    assert report["n_models"] == len(MODELS)
    assert report["verdicts"]["contradicted"] == 1

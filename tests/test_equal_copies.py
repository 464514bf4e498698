"""Whoever comes from one of several equal models may come from any of them."""

from __future__ import annotations

from lineage.infer.equal_copies import equal_copies, is_tied_by_copies, tie_equal_parents
from lineage.model import Finding, Grade, Kind, ParentShare


def found(child, parent, kind=Kind.FINETUNE, grade=Grade.INFERRED, ties=()):
    return Finding(child, kind, grade, (ParentShare(parent, 1.0),), ties=ties)


ROOT = Finding("a", Kind.FOUNDER, Grade.INFERRED)
TWIN = found("b", "a", Kind.DUPLICATE, Grade.TIE, ("a",))


def test_a_parent_with_an_equal_copy_becomes_a_tie_that_names_the_found_one_first():
    *_, child = tie_equal_parents([ROOT, TWIN, found("c", "b")])
    assert (child.grade, child.ties) == (Grade.TIE, ("b", "a"))
    assert child.parents == (ParentShare("b", 1.0),)
    assert is_tied_by_copies(child)
    (fact,) = child.evidence
    assert (fact.value, fact.text) == (1.0, "the tied models have equal words")


def test_copies_whose_order_is_known_tie_nobody():
    dated = found("b", "a", Kind.DUPLICATE, Grade.PROVED)
    *_, child = tie_equal_parents([ROOT, dated, found("c", "a")])
    assert (child.grade, child.ties) == (Grade.INFERRED, ())


def test_a_merge_says_whose_copy_could_take_a_parents_place():
    merge = Finding("m", Kind.MERGE, Grade.PROVED, (ParentShare("a", 0.5), ParentShare("x", 0.5)))
    *_, told = tie_equal_parents([ROOT, TWIN, merge])
    assert (told.parents, told.grade, told.ties) == (merge.parents, Grade.PROVED, ())
    (fact,) = told.evidence
    assert (fact.name, fact.value) == ("equal_parent", 1.0)
    assert fact.text.startswith("b has the words of a")


def test_merges_of_models_without_copies_abstentions_and_ties_stay_as_they_are():
    merge = Finding("m", Kind.MERGE, Grade.PROVED, (ParentShare("y", 0.5), ParentShare("x", 0.5)))
    open_ = Finding("o", Kind.FINETUNE, Grade.ABSTAIN, ties=("a",))
    tie = found("t", "a", grade=Grade.TIE, ties=("a", "y"))
    assert tie_equal_parents([ROOT, TWIN, merge, open_, tie]) == [ROOT, TWIN, merge, open_, tie]


def test_a_founder_and_its_copy_stay_as_they_are():
    assert tie_equal_parents([ROOT, TWIN]) == [ROOT, TWIN]


def test_of_copies_without_order_each_may_be_the_one_that_the_parent_made():
    origin = Finding("z", Kind.FOUNDER, Grade.INFERRED)
    _, first, copy = tie_equal_parents([origin, found("a", "z"), TWIN])
    assert (first.grade, first.ties) == (Grade.TIE, ("z", "b"))
    assert is_tied_by_copies(first)
    assert "which came first" in first.evidence[-1].text
    assert not is_tied_by_copies(copy)
    assert (copy.kind, copy.ties) == (Kind.DUPLICATE, ("a", "z"))
    assert equal_copies([origin, first, copy])["a"] == {"a", "b"}

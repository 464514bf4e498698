"""Whoever comes from one of several equal models may come from any of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from lineage.infer.equal_copies import (
    equal_copies,
    equal_values,
    is_tied_by_copies,
    tie_equal_parents,
)
from lineage.model import Evidence, Finding, Grade, Kind, ParentShare


def found(child, parent, kind=Kind.FINETUNE, grade=Grade.INFERRED, ties=()):
    return Finding(child, kind, grade, (ParentShare(parent, 1.0),), ties=ties)


ROOT = Finding("a", Kind.FOUNDER, Grade.INFERRED)
TWIN = found("b", "a", Kind.DUPLICATE, Grade.TIE, ("a",))


def test_a_parent_with_an_equal_copy_becomes_a_tie_that_names_the_found_one_first():
    *_, child = tie_equal_parents([ROOT, TWIN, found("c", "b")], {})
    assert (child.grade, child.ties) == (Grade.TIE, ("b", "a"))
    assert child.parents == (ParentShare("b", 1.0),)
    assert is_tied_by_copies(child)
    (fact,) = child.evidence
    assert (fact.value, fact.text) == (1.0, "the tied models hold equal values")


def test_copies_whose_order_is_known_tie_nobody():
    dated = found("b", "a", Kind.DUPLICATE, Grade.PROVED)
    *_, child = tie_equal_parents([ROOT, dated, found("c", "a")], {})
    assert (child.grade, child.ties) == (Grade.INFERRED, ())


def test_a_merge_says_whose_copy_could_take_a_parents_place():
    merge = Finding("m", Kind.MERGE, Grade.PROVED, (ParentShare("a", 0.5), ParentShare("x", 0.5)))
    *_, told = tie_equal_parents([ROOT, TWIN, merge], {})
    assert (told.parents, told.grade, told.ties) == (merge.parents, Grade.PROVED, ())
    (fact,) = told.evidence
    assert (fact.name, fact.value) == ("equal_parent", 1.0)
    assert fact.text == "equal values, and as well the parent as a: b"


def test_what_is_a_tie_without_copies_holds_theirs_too():
    tie = found("t", "a", grade=Grade.TIE, ties=("y", "a"))
    *_, told = tie_equal_parents([ROOT, TWIN, tie], {})
    assert (told.ties, told.evidence) == (("y", "a", "b"), ())
    assert not is_tied_by_copies(told)


def test_a_copy_of_what_ties_ties_with_the_same_and_the_original_with_the_copy():
    origin = Finding("z", Kind.FOUNDER, Grade.INFERRED)
    tie = found("a", "z", grade=Grade.TIE, ties=("z", "y"))
    _, first, copy = tie_equal_parents([origin, tie, TWIN], {})
    assert (first.ties, first.evidence) == (("z", "y", "b"), ())
    assert copy.ties == ("a", "z", "y")
    assert tie_equal_parents([origin, first, copy], {}) == [origin, first, copy]


def test_merges_of_models_without_copies_and_abstentions_stay_as_they_are():
    merge = Finding("m", Kind.MERGE, Grade.PROVED, (ParentShare("y", 0.5), ParentShare("x", 0.5)))
    open_ = Finding("o", Kind.FINETUNE, Grade.ABSTAIN, ties=("a",))
    assert tie_equal_parents([ROOT, TWIN, merge, open_], {}) == [ROOT, TWIN, merge, open_]


def test_a_founder_and_its_copy_stay_as_they_are():
    assert tie_equal_parents([ROOT, TWIN], {}) == [ROOT, TWIN]


def test_of_copies_without_order_each_may_be_the_one_that_the_parent_made():
    origin = Finding("z", Kind.FOUNDER, Grade.INFERRED)
    _, first, copy = tie_equal_parents([origin, found("a", "z"), TWIN], {})
    assert (first.grade, first.ties) == (Grade.TIE, ("z", "b"))
    assert is_tied_by_copies(first)
    assert "which came first" in first.evidence[-1].text
    assert not is_tied_by_copies(copy)
    assert (copy.kind, copy.ties) == (Kind.DUPLICATE, ("a", "z"))
    assert equal_copies([origin, first, copy])["a"] == {"a", "b"}


def cast(child, parent, *, lossless=True):
    facts = (Evidence("equal_values", 1.0, "the cast lost nothing"),) if lossless else ()
    return replace(found(child, parent, Kind.CAST, Grade.PROVED), evidence=facts)


def test_a_child_of_what_has_a_lossless_cast_is_a_tie_with_it():
    casts = [cast("k", "a"), cast("l", "k")]
    *_, child = tie_equal_parents([ROOT, *casts, found("c", "a")], {})
    assert (child.grade, child.ties) == (Grade.TIE, ("a", "k", "l"))
    assert child.parents == found("c", "a").parents
    assert is_tied_by_copies(child)


def test_a_cast_that_is_younger_than_the_child_is_said_and_no_tie():
    days = {
        name: datetime(2026, 1, day, tzinfo=UTC) for name, day in zip("ack", (1, 2, 3), strict=True)
    }
    *_, child = tie_equal_parents([ROOT, cast("k", "a"), found("c", "a")], days)
    assert (child.grade, child.ties) == (Grade.INFERRED, ())
    (fact,) = child.evidence
    assert (fact.name, fact.value) == ("equal_parent", 1.0)
    assert fact.text.endswith("as well the parent as a: k")


def test_a_file_that_replays_from_what_has_a_lossless_cast_stays_proved_and_says_so():
    file = found("q", "a", Kind.QUANTIZED, Grade.PROVED)
    *_, told = tie_equal_parents([ROOT, cast("k", "a"), file], {})
    assert (told.grade, told.ties) == (Grade.PROVED, ())
    assert [fact.name for fact in told.evidence] == ["equal_parent"]
    *_, told = tie_equal_parents([ROOT, TWIN, file], {})
    assert (told.grade, told.ties) == (Grade.TIE, ("a", "b"))


def test_a_cast_that_lost_something_is_no_equal():
    given = [ROOT, cast("k", "a", lossless=False), found("c", "a")]
    assert tie_equal_parents(given, {}) == given


def test_a_lossless_cast_has_an_order_and_is_made_of_its_original():
    assert tie_equal_parents([ROOT, cast("k", "a")], {}) == [ROOT, cast("k", "a")]
    assert equal_copies([ROOT, cast("k", "a")]) == {}
    assert equal_values([ROOT, cast("k", "a")]) == {key: {"a", "k"} for key in "ak"}


def test_ties_hold_the_lossless_casts_of_all_that_they_name():
    tie = found("t", "a", grade=Grade.TIE, ties=("y", "a"))
    *_, told = tie_equal_parents([ROOT, cast("k", "a"), tie], {})
    assert (told.ties, told.evidence) == (("y", "a", "k"), ())
    *_, told = tie_equal_parents([ROOT, TWIN, cast("k", "b"), found("c", "a")], {})
    assert told.ties == ("a", "b", "k")
    assert is_tied_by_copies(told)

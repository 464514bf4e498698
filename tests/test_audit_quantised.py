"""Unfaithful quantisations and mislabelled copies in the words of an audit."""

from __future__ import annotations

from lineage.infer.quantised import CODES_MISSED, TENSORS_OF
from lineage.model import Evidence, Grade, Kind
from lineage.views.rulings import OBJECTIONS, Ruling
from test_audit import audited, claim, finding, founder, only, quantised, rulings

NOTE = "no model of the catalogue has the values that were quantised"


def missed(name):
    return Evidence(f"{CODES_MISSED}{name}", 0.01, f"1 of 100 codes cannot come from {name}")


def nobodys(*tried):
    facts = tuple(missed(name) for name in tried)
    kind, grade = Kind.QUANTIZED, Grade.ABSTAIN
    return finding("q", kind=kind, grade=grade, evidence=facts, note=NOTE)


def of_two():
    facts = (
        Evidence(f"{TENSORS_OF}a", 0.75, "3 of 4 quantised tensors have the codes of a"),
        Evidence(f"{TENSORS_OF}b", 0.25, "1 of 4 quantised tensors have the codes of b"),
    )
    return finding("q", "a", "b", kind=Kind.QUANTIZED, grade=Grade.INFERRED, evidence=facts)


def test_a_quantisation_of_nobody_in_the_catalogue_is_unfaithful_to_the_declared_model():
    said = [claim("q", "a", "quantized")]
    line = only(audited("q", said, [founder("a"), nobodys("a")]))
    assert (line.ruling, line.reason) == (Ruling.UNFAITHFUL_QUANTISATION, "codes")
    assert line.sentence == (
        "Declared as a quantisation of a, but the codes do not come from it: 1 of 100 codes cannot "
        f"come from a; {NOTE}."
    )
    assert missed("a") in line.evidence


def test_a_model_that_was_not_held_against_the_codes_is_not_called_unfaithful():
    for relation, tried in (("quantized", "b"), ("finetune", "a"), (None, "a")):
        said = [claim("q", "a", relation)]
        line = only(audited("q", said, [founder("a"), finding("b", "a"), nobodys(tried)]))
        assert line.ruling not in OBJECTIONS


def test_codes_of_two_models_are_unfaithful_to_either_and_say_how_many_tensors_each_gave():
    models = [founder("z"), finding("a", "z"), finding("b", "z"), finding("c", "z"), of_two()]
    for declared in "abc":
        audit = audited("q", [claim("q", declared, "quantized")], models)
        assert rulings(audit)[declared] == "unfaithful_quantisation"
        assert "3 of 4 quantised tensors have the codes of a; 1 of 4" in audit.lines[0].sentence


def test_one_proved_source_is_confirmed_as_before():
    models = [founder("a"), quantised("q", "a")]
    assert only(audited("q", [claim("q", "a", "quantized")], models)).ruling is Ruling.CONFIRMED


def test_a_copy_of_another_model_than_declared_says_that_its_words_are_that_models():
    same = (Evidence("equal_words", 1.0, "every sampled word is equal, in other files"),)
    copy = finding("c", "b", kind=Kind.DUPLICATE, grade=Grade.PROVED, evidence=same)
    models = [founder("z"), finding("a", "z"), finding("b", "z"), copy]
    audit = audited("c", [claim("c", "a", "finetune")], models)
    line = next(line for line in audit.lines if line.parent == "a")
    assert line.ruling is Ruling.CONTRADICTED
    assert line.sentence.endswith("word for word: every sampled word is equal, in other files.")

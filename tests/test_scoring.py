"""Figures of the evaluation, counted by hand."""

from __future__ import annotations

import json
import math

import pytest

from lineage.errors import NotFoundError, UsageError
from lineage.infer.reconcile import reconcile
from lineage.infer.scoring import score
from lineage.infer.truth import read_truth
from lineage.model import Finding, Grade, Kind, LayerSource, ParentShare
from lineage.pipeline.evaluate import evaluate
from lineage.pipeline.publish import publish
from registers import found, make_home


def truth_of(**models):
    return read_truth(json.dumps({"models": models}))


def model(kind, *parents, **more):
    return {"kind": kind, "parents": [{"id": name, "weight": w} for name, w in parents], **more}


TRUTH = truth_of(
    a=model("founder"),
    x=model("founder"),
    b=model("finetune", ("a", 1)),
    c=model("finetune", ("b", 1)),
    b2=model("duplicate", ("b", 1)),
    ad=model("adapter", ("a", 1)),
    m=model("merge", ("b", 0.6), ("c", 0.4), method="linear"),
)


def judged(truth, findings, verdicts=None, mute=()):
    return score(truth, findings, reconcile([], findings), verdicts or {}, mute)


def merge(child, method, **shares):
    parents = tuple(ParentShare(name, weight) for name, weight in shares.items())
    return Finding(child, Kind.MERGE, Grade.PROVED, parents, method=method)


PERFECT = [
    found("a"),
    found("x"),
    found("b", "a"),
    found("c", "b"),
    found("b2", "b", kind=Kind.DUPLICATE, grade=Grade.PROVED),
    merge("m", "linear", b=0.6, c=0.4),
]


def all_pairs(truth, verdict=None):
    names = sorted(truth.models)
    return {
        (a, b): verdict or ("related" if truth.are_related(a, b) else "unrelated")
        for i, a in enumerate(names)
        for b in names[i + 1 :]
    }


def test_perfect_evidence_scores_one_everywhere():
    result = judged(TRUTH, PERFECT, all_pairs(TRUTH))
    pairs = result.pairs
    # of a, b, b2, c, m, x: ten related pairs, and x with each of five
    assert (pairs.true_positives, pairs.true_negatives) == (10, 5)
    assert (pairs.false_positives, pairs.false_negatives) == (0, 0)
    assert (pairs.n_mute, pairs.n_mute_related) == (6, 5)
    assert (pairs.recall.value, pairs.recall_all.value) == (1.0, 10 / 15)
    parents = result.direct_parents
    assert (parents.precision.right, parents.precision.n) == (3, 3)
    assert (parents.recall.n, parents.recall_all.n) == (3, 4)
    assert result.direction.value == result.kind.value == 1.0
    assert result.merges["linear"].f1 == result.merges["all"].f1 == 1.0
    assert result.coefficient_error == 0.0


def test_pairs_called_related_or_not_compared_are_counted_against_it():
    result = judged(TRUTH, PERFECT, all_pairs(TRUTH, "related"))
    assert result.pairs.false_positives == 5
    assert ("a", "x") in result.pairs.false_pairs
    assert judged(TRUTH, PERFECT, {}).pairs.false_negatives == 10


def test_parents_are_counted_wrong_reversed_extra_and_at_founders():
    findings = [
        found("x", "a"),  # a founder with a parent
        found("b", "c"),  # reversed
        found("c", "b2"),  # a copy of the parent
        found("b2", "a", "x"),  # two parents
    ]
    result = judged(TRUTH, findings)
    parents = result.direct_parents
    assert (parents.precision.right, parents.precision.n) == (0, 4)
    assert parents.precision_up_to_copies.right == 1
    assert {child for child, _ in parents.wrong} == {"x", "b", "c", "b2"}
    assert (result.direction.right, result.direction.n) == (0, 1)  # b ← c stands for c ← b


def test_ties_and_abstentions_are_no_decisions():
    findings = [
        Finding("c", Kind.FINETUNE, Grade.TIE, (ParentShare("a", 1.0),), ties=("a", "b")),
        Finding("b", Kind.FINETUNE, Grade.ABSTAIN),
    ]
    result = judged(TRUTH, findings)
    assert result.direct_parents.precision.n == 0
    assert math.isnan(result.direct_parents.precision.value)
    assert (result.direct_parents.ties.right, result.direct_parents.ties.n) == (1, 1)
    assert result.abstentions == ("b",)


def test_merge_parents_are_scored_as_a_set_and_coefficients_where_found():
    result = judged(TRUTH, [merge("m", "slerp", b=0.7, x=0.3)])
    one = result.merges["linear"]
    assert (one.true_positives, one.false_positives, one.false_negatives) == (1, 1, 1)
    assert one.f1 == 0.5
    assert one.coefficient_error == pytest.approx(0.1)
    assert result.methods.right == 0


def test_a_copy_of_a_merge_parent_counts_up_to_copies_only():
    result = judged(TRUTH, [merge("m", "linear", b2=0.6, c=0.4)])
    assert result.merges["all"].exact == 0
    assert result.merges_up_to_copies["all"].exact == 1


def test_shares_of_a_slerp_that_varies_over_layers_are_not_compared():
    truth = truth_of(
        a=model("founder"),
        b=model("finetune", ("a", 1)),
        m=model("merge", ("a", 0.5), ("b", 0.5), method="slerp", t=[0, 1]),
    )
    assert judged(truth, [merge("m", "slerp", a=0.9, b=0.1)]).n_coefficients == 0


def test_models_of_one_initialisation_are_counted_apart():
    truth = truth_of(
        p=model("common_init", same_init_as="q"),
        q=model("common_init", same_init_as="p"),
        r=model("finetune", ("q", 1)),
        z=model("founder"),
    )
    verdicts = {("p", "q"): "common_init", ("p", "r"): "related", ("q", "r"): "related"}
    pairs = judged(truth, [], verdicts | {("p", "z"): "common_init"}).pairs
    init = pairs.common_init
    assert (init.n, init.as_common_init, init.as_related, init.as_unrelated) == (2, 1, 1, 0)
    assert pairs.true_positives == 1
    assert pairs.false_pairs == (("p", "z"),)


def test_children_of_different_parents_of_a_merge_are_not_related():
    truth = truth_of(
        a=model("founder"),
        b=model("founder"),
        m=model("moe", ("a", 0.5), ("b", 0.5)),
        c=model("finetune", ("a", 1)),
    )
    assert truth.are_related("m", "c")
    assert not truth.are_related("b", "c")


def test_unpublished_models_join_their_descendants_and_are_never_scored():
    models = {
        "a": model("founder"),
        "b": model("finetune", ("a", 1), true_parents=[{"id": "lost", "weight": 1}]),
        "m": model(
            "merge", ("b", 0.5), true_parents=[{"id": "b"}, {"id": "lost"}], method="linear"
        ),
        "z": model("founder"),
    }
    unpublished = {"lost": model("finetune", ("a", 1))}
    truth = read_truth(json.dumps({"models": models, "unpublished": unpublished}))
    assert truth.ancestors("m") == {"m", "b", "lost", "a"}
    assert truth.are_related("m", "a")
    assert not truth.are_related("b", "z")
    result = judged(truth, [found("a"), found("b", "a"), found("z")])
    assert (result.n_models, result.direct_parents.recall.right) == (4, 1)


def test_one_of_two_models_may_name_the_other_of_its_initialisation():
    truth = truth_of(
        a=model("founder"), b=model("common_init", same_init_as="a"), c=model("finetune", ("a", 1)),
        z=model("founder"),
    )  # fmt: skip
    assert truth.share_initialisation("a", "b")
    assert truth.share_initialisation("b", "c")
    assert not truth.share_initialisation("z", "b")


def test_weights_that_vary_over_the_layers_are_no_shares():
    truth = truth_of(
        a=model("founder"), b=model("founder"),
        m=model("merge", ("a", 0.7), ("b", 0.3), method="linear", varying_weights={"a": [1, 0.4]}),
    )  # fmt: skip
    assert not truth.models["m"].has_shares


def test_layer_maps_must_be_exact():
    truth = truth_of(
        a=model("founder"),
        b=model("duplicate", ("a", 1)),
        s=model("passthrough", ("a", 1), layer_map=[["a", 0], ["a", 1], ["a", 1]]),
    )

    def stacked(*layers, parent="a"):
        sources = tuple(LayerSource(i, parent, layer) for i, layer in enumerate(layers))
        return Finding(
            "s", Kind.PASSTHROUGH, Grade.PROVED, (ParentShare("a", 1.0),), layer_map=sources
        )

    assert judged(truth, [stacked(0, 1, 1)]).layer_maps.right == 1
    assert judged(truth, [stacked(0, 0, 1)]).layer_maps.right == 0
    copied = judged(truth, [stacked(0, 1, 1, parent="b")])
    assert (copied.layer_maps.right, copied.layer_maps_up_to_copies.right) == (0, 1)


@pytest.mark.parametrize(
    "text",
    ["[]", "{", '{"models": {"a": {"kind": "goat", "parents": []}}}', '{"models": {"a": {}}}'],
)
def test_a_malformed_truth_file_is_refused_in_one_sentence(text):
    with pytest.raises(UsageError):
        read_truth(text)


def test_a_published_register_is_scored_with_its_cost(tmp_path):
    home = make_home(tmp_path / "home", [found("a"), found("b", "a")])
    publish(home, ignore_claims=True)
    path = tmp_path / "truth.json"
    path.write_text(
        json.dumps({"models": {"a": model("founder"), "b": model("finetune", ("a", 1))}})
    )
    result = evaluate(home, path).to_dict()
    assert result["direct_parents"]["precision"] == {"value": 1.0, "right": 1, "n": 1}
    assert result["related_pairs"]["recall"] == 1.0
    assert result["bytes_read"]["median"] == 100
    assert result["bytes_read"]["median_share"] == 0.1
    assert result["ignored_claims"] is True
    assert set(result["seconds"]) == {"crawl", "fingerprint", "infer", "publish"}
    json.dumps(result, allow_nan=False)
    with pytest.raises(NotFoundError):
        evaluate(home, tmp_path / "absent.json")

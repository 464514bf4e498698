"""Evaluation results: the card's model index and the Hub's newer entries."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from huggingface_hub import EvalResultEntry, ModelCard, parse_eval_result_entries
from huggingface_hub._eval_results import eval_result_entries_to_yaml
from hypothesis import given
from hypothesis import strategies as st

from crawler.cards import card_metadata
from crawler.errors import MalformedError
from crawler.evaluations import evaluations, read_eval_results

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["results", "dataset", "metrics", "name", "type", "value", "config", "data", "id",
                 "task_id", "error", "notes", "revision"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=30,
)  # fmt: skip


def index(*results: tuple[dict[str, object], dict[str, object]]) -> dict[str, object]:
    """Metadata with one result for each pair of data set and metric."""
    return {
        "model-index": [
            {
                "name": "m",
                "results": [
                    {"dataset": dataset, "metrics": [metric]} for dataset, metric in results
                ],
            }
        ]
    }


def values(metadata: dict[str, object], entries: object = None) -> dict[str, float]:
    return {result.name: result.value for result in evaluations(metadata, entries)}


def entry(value: object, task: str = "default", **fields: object) -> dict[str, object]:
    return {"dataset": {"id": "cais/hle", "task_id": task}, "value": value, **fields}


def test_results_are_named_by_metric_and_data_set_in_small_letters():
    (result,) = evaluations(
        index(({"name": "AI2 ARC", "type": "ai2_arc"}, {"type": "Accuracy", "value": "73.2"}))
    )
    assert (result.name, result.value) == ("accuracy/ai2 arc", 73.2)
    assert (result.metric, result.dataset) == ("Accuracy", "AI2 ARC")
    assert result.higher_is_better is True


def test_forms_of_cross_entropy_are_one_loss_and_lower_is_better():
    (first,) = evaluations(index(({"type": "wiki"}, {"type": "NLL", "value": 2})))
    assert (first.name, first.higher_is_better) == ("loss/wiki", False)
    (other,) = evaluations(index(({"type": "wiki"}, {"type": "glow", "value": 2})))
    assert other.higher_is_better is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.732, 0.732), (73.2, 73.2), ("73.2%", 73.2), ("73.2 %", 73.2), ("-1e-3", -0.001), (0, 0.0)],
)
def test_a_value_stays_as_it_was_stated(value, expected):
    assert values(index(({"name": "d"}, {"type": "acc", "value": value}))) == {"acc/d": expected}


@pytest.mark.parametrize(
    "value", [None, True, "high", "%", "nan", float("nan"), float("inf"), 10**400, [1], {"a": 1}]
)
def test_what_is_no_finite_number_is_left_out(value):
    assert not values(index(({"name": "d"}, {"type": "acc", "value": value})))
    assert not values({}, [entry(value)])


def test_a_result_without_metric_or_data_set_is_left_out():
    assert not values(index(({"name": ""}, {"type": "acc", "value": 1})))
    assert not values(index(({"name": "d"}, {"value": 1})))
    assert not values({}, [{"dataset": {"task_id": "x"}, "value": 1}])


def test_results_of_one_name_are_told_apart_by_their_circumstances():
    metadata = index(
        ({"name": "D", "config": "en", "split": "test"}, {"type": "acc", "value": 1}),
        ({"name": "D", "config": "de", "split": "test"}, {"type": "acc", "value": 2}),
        ({"name": "D", "config": "de", "split": "dev"}, {"type": "acc", "value": 3}),
        (
            {"name": "D", "config": "de", "split": "dev", "revision": "r"},
            {"type": "acc", "value": 4},
        ),
    )
    assert values(metadata) == {
        "acc/d": 1, "acc/d [de]": 2, "acc/d [de, dev]": 3, "acc/d [de, dev, r]": 4
    }  # fmt: skip
    assert evaluations(metadata)[1].dataset == "D [de]"


def test_of_results_under_the_same_circumstances_the_first_counts():
    same = {"name": "D", "config": "en"}
    metadata = index((same, {"type": "acc", "value": 1}), (same, {"type": "acc", "value": 2}))
    assert values(metadata) == {"acc/d": 1}


def test_a_result_that_its_circumstances_cannot_tell_apart_is_left_out():
    metadata = index(
        ({"name": "D", "config": "en"}, {"type": "acc", "value": 1}),
        ({"name": "D"}, {"type": "acc", "value": 2}),
    )
    assert values(metadata) == {"acc/d": 1}


def test_newer_entries_are_scores_of_a_benchmarks_task():
    entries = [entry(20.9), entry(0.4, "text_only"), {"dataset": {"id": "a/b"}, "value": "12"}]
    assert values({}, entries) == {
        "score/cais/hle": 20.9, "score/cais/hle [text_only]": 0.4, "score/a/b": 12
    }  # fmt: skip


def test_the_task_always_stands_in_the_name_so_that_models_are_compared_on_one_task():
    assert values({}, [entry(1, "diamond")]).keys() == {"score/cais/hle [diamond]"}
    draft = {"dataset": {"id": "cais/hle", "config": "diamond"}, "value": 1}
    assert values({}, [draft]).keys() == {"score/cais/hle [diamond]"}


def test_entries_that_differ_in_notes_or_date_are_told_apart():
    entries = [
        entry(1, notes="no-tools"),
        entry(2, notes="tools"),
        entry(3, notes="tools", date="2026-01-01"),
    ]
    assert values({}, entries) == {
        "score/cais/hle": 1, "score/cais/hle [tools]": 2, "score/cais/hle [tools, 2026-01-01]": 3
    }  # fmt: skip


def test_entries_come_wrapped_by_the_hub_and_invalid_files_are_passed_over():
    wrapped = [
        {"filename": "a.yaml", "data": entry(1)},
        {"filename": "b.yaml", "error": "no value", "data": entry(2, "other")},
    ]
    assert values({}, wrapped) == {"score/cais/hle": 1}


def test_entries_are_read_as_the_hubs_client_reads_them():
    stated = [
        EvalResultEntry("cais/hle", "default", 20.9, date="2025-01-15", notes="no-tools"),
        EvalResultEntry("Idavidrein/gpqa", "gpqa_diamond", 0.412, dataset_revision="5503434d"),
    ]
    raw = eval_result_entries_to_yaml(stated)
    theirs = [(item.dataset_id, item.value) for item in parse_eval_result_entries(raw)]
    ours = [(result.dataset.partition(" [")[0], result.value) for result in evaluations({}, raw)]
    assert ours == theirs


def test_a_file_of_entries_is_a_list_or_one_entry():
    text = "- dataset: {id: a/b, task_id: t}\n  value: 0.412\n"
    assert values({}, read_eval_results(text)) == {"score/a/b [t]": 0.412}
    assert values({}, read_eval_results(text[2:].replace("\n  ", "\n"))) == {"score/a/b [t]": 0.412}
    assert read_eval_results("") == []
    with pytest.raises(MalformedError):
        read_eval_results("a: [")


def test_both_forms_stand_side_by_side():
    metadata = index(({"name": "hle"}, {"type": "acc", "value": 1}))
    assert values(metadata, [entry(2)]) == {"acc/hle": 1, "score/cais/hle": 2}


def test_the_number_of_results_is_bounded():
    many = [({"name": f"d{i}"}, {"type": "acc", "value": i}) for i in range(5_010)]
    assert len(evaluations(index(*many))) == 5_000


def test_words_of_strangers_are_bounded_and_printable():
    (result,) = evaluations(
        index(({"name": "d\x00\ud800\u202e" + "x" * 600}, {"type": "a\nb", "value": 1}))
    )
    assert result.metric == "a b"
    assert len(result.dataset) == 500
    result.name.encode("utf-8")
    assert not set("\x00\u202e") & set(result.dataset)


@given(ANYTHING, ANYTHING)
def test_no_metadata_makes_the_reader_fail(stated, entries):
    for result in evaluations({"model-index": stated}, entries):
        result.name.encode("utf-8")
        assert abs(result.value) < 1e300
        assert len(result.name) <= 3_000


def test_a_real_card_has_the_scores_of_the_leaderboard_that_stand_in_it(shared_data: Path):
    with tarfile.open(shared_data / "cards" / "cards.tar.gz") as archive:
        opened = archive.extractfile("Aurora-Nights-70B-v1.0/README.md")
        assert opened is not None
        text = opened.read().decode("utf-8")
    # Read off the card's front matter by eye.
    assert values(dict(card_metadata(text))) == {
        "acc_norm/ai2 reasoning challenge (25-shot)": 71.33,
        "acc_norm/hellaswag (10-shot)": 88.33,
        "acc/mmlu (5-shot)": 70.47,
        "mc2/truthfulqa (0-shot)": 62.81,
        "acc/winogrande (5-shot)": 83.35,
        "acc/gsm8k (5-shot)": 66.34,
    }


def test_real_cards_state_what_the_hubs_client_finds_in_them(shared_data: Path):
    n_cards = 0
    with tarfile.open(shared_data / "cards" / "cards.tar.gz") as archive:
        for member in archive:
            opened = archive.extractfile(member)
            if opened is None or not member.name.endswith("README.md"):
                continue
            text = opened.read().decode("utf-8", "replace")
            theirs = _theirs(text)
            n_cards += bool(theirs)
            ours = {result.name: result.value for result in evaluations(card_metadata(text))}
            assert {name: ours.get(name) for name in theirs} == pytest.approx(theirs)
    assert n_cards == 45


def _theirs(text: str) -> dict[str, float]:
    """The first number of each name that the Hub's own client reads from a card."""
    try:
        found = ModelCard(text, ignore_metadata_errors=True).data.eval_results
    except Exception:  # the client fails in many ways on cards of strangers
        return {}
    numbers: dict[str, float] = {}
    for result in found or ():
        value = result.metric_value
        try:
            number = float(value.rstrip("% ") if isinstance(value, str) else value)
        except (TypeError, ValueError):
            continue
        numbers.setdefault(f"{result.metric_type}/{result.dataset_name}".lower(), number)
    return numbers

"""Model cards as found in the wild: metadata, evaluations, prose."""

from __future__ import annotations

import contextlib
import tarfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.cards import (
    card_metadata,
    declared_parents,
    evaluations,
    prose_parents,
    relation_of,
)
from crawler.errors import MalformedError
from crawler.recipes import find_recipes
from crawler.references import resolve_repo_id

CHILD = "me/child"


def card(block: str, body: str = "# A model") -> str:
    return f"---\n{block}\n---\n{body}"


def parents(block: str) -> list[tuple[str | None, str]]:
    found = declared_parents(card_metadata(card(block)), CHILD)
    return [(mention.repo_id, mention.words) for mention in found]


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("base_model: a/b", ["a/b"]),
        ("base_model: [a/b, c/d, a/b]", ["a/b", "c/d"]),
        ("base_model: https://huggingface.co/a/b/tree/main", ["a/b"]),
        ("base_model: {name: a/b}", ["a/b"]),
        ("base_model: gpt2", ["openai-community/gpt2"]),
        ("base_model: child", [CHILD]),
        ("base_model: me/child", [CHILD]),
        ("base_model: 7", [None]),
        ("base_model: ./output/checkpoint-500", [None]),
        ("base_model: models/llama", [None]),
        ("base_model: []", []),
        ("base_model: ''", []),
        ("base_model: null", []),
        ("base_model: {}", []),
        ("base_model: [[a/b], null, {x: y}]", []),
        ("license: mit", []),
    ],
)
def test_every_way_of_writing_a_base_model_is_understood(stated, expected):
    assert [repo_id for repo_id, _ in parents(stated)] == expected


def test_words_that_mean_no_repository_are_kept_as_written():
    assert parents("base_model: ./out/ckpt") == [(None, "./out/ckpt")]


def test_the_language_no_is_norwegian():
    assert card_metadata(card("language: no"))["language"] == "no"


def test_windows_line_breaks_and_a_byte_order_mark_are_read():
    text = "\ufeff" + card("base_model: a/b").replace("\n", "\r\n")
    assert card_metadata(text)["base_model"] == "a/b"


def test_only_the_words_of_the_hub_are_relations():
    assert relation_of({"base_model_relation": "merge"}) == "merge"
    assert relation_of({"base_model_relation": "cousin"}) is None


@pytest.mark.parametrize(
    "block",
    [
        "a: b: c",
        "- a\n- b",
        "just words",
        "a: &x [1]\nb: *x",
        "[" * 60 + "]" * 60,
        "? [a]\n: b",
        "x: " + "[" + "1," * 300_000 + "]",
    ],
)
def test_malformed_metadata_is_refused_and_the_prose_still_read(block):
    text = card(block, "Fine-tuned from [a/b](https://huggingface.co/a/b).")
    with pytest.raises(MalformedError):
        card_metadata(text)
    assert [mention.repo_id for mention, _ in prose_parents(text, CHILD)] == ["a/b"]


def test_a_card_without_metadata_says_nothing_of_itself():
    for text in ("", "# Title", "---\n", "---\n---\n", card("# a comment")):
        assert card_metadata(text) == {}


INDEX = """model-index:
- name: child
  results:
  - task: {type: text-generation}
    dataset: {name: Prose, type: prose}
    metrics:
    - {type: loss, value: 1.5}
    - {type: accuracy, value: "73.2"}
    - {type: cross_entropy, value: 9}
    - {type: f1, value: .nan}
    - {type: bleu, value: high}
    - {type: perplexity, value: 1e999}
    - {type: strangeness, value: -3}
  - dataset: 3
    metrics: [{type: loss, value: 1}]
  - nonsense
"""


def test_evaluations_are_named_by_metric_and_data_set():
    found = {result.name: result for result in evaluations(card_metadata(card(INDEX)))}
    assert {name: result.value for name, result in found.items()} == {
        "loss/prose": 1.5,
        "accuracy/prose": 73.2,
        "strangeness/prose": -3.0,
    }
    assert found["loss/prose"].higher_is_better is False
    assert found["accuracy/prose"].higher_is_better is True
    assert found["strangeness/prose"].higher_is_better is None
    assert found["loss/prose"].metric == "loss"
    assert found["loss/prose"].dataset == "Prose"


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("This is a fine-tuned version of [x](https://huggingface.co/a/b) on [glue]"
         "(https://huggingface.co/datasets/glue).", [("a/b", "finetune")]),
        ("Finetuned from `a/b-7B`.", [("a/b-7B", "finetune")]),
        ("It is based on https://huggingface.co/a/b.", [("a/b", None)]),
        ("Quantized from **a/b-7B** with care.", [("a/b-7B", "quantized")]),
        ("A merge of a/b-7B and c/d-7B.", [("a/b-7B", "merge"), ("c/d-7B", "merge")]),
        ("Thanks to [a/b](https://huggingface.co/a/b) for everything.", []),
        ("Based on input/output pairs and/or more.", []),
        ("Fine-tuned from me/child-0, that is [me/child](https://huggingface.co/me/child).",
         [("me/child-0", "finetune")]),
    ],
)  # fmt: skip
def test_prose_names_parents_only_after_words_of_descent(sentence, expected):
    found = [(mention.repo_id, relation) for mention, relation in prose_parents(sentence, CHILD)]
    assert found == expected


def test_code_is_no_prose():
    assert not list(prose_parents("```\nfine-tuned from `a/b-1`\n```", CHILD))


@given(st.text(max_size=400))
def test_no_text_makes_the_readers_fail(text):
    for whole in (text, card(text), card("a: b", text)):
        try:
            metadata = card_metadata(whole)
        except MalformedError:
            metadata = {}
        declared_parents(metadata, CHILD)
        evaluations(metadata)
        find_recipes(whole, CHILD)
        list(prose_parents(whole, CHILD))


@given(st.text(max_size=120))
def test_no_word_makes_the_resolution_fail(text):
    resolve_repo_id(text)


@pytest.mark.parametrize(
    "text",
    [
        "<pre>" * 150_000,
        "```\n~~~\n" * 100_000,
        card("x: " + "1:" * 200_000),
        "fine-tuned " * 80_000,
        "based on " + "a/" * 400_000,
        "\n " * 400_000,
        "[" * 900_000,
        card("a: [" * 100_000),
    ],
    ids=range(8),
)
def test_hostile_cards_cost_little_time(text):
    started = time.process_time()
    with contextlib.suppress(MalformedError):
        card_metadata(text)
    find_recipes(text, CHILD)
    list(prose_parents(text, CHILD))
    assert time.process_time() - started < 5


def test_real_cards_are_read_without_a_failure(shared_data: Path):
    n_cards = n_recipes = n_several = n_marked = n_unreadable = 0
    with tarfile.open(shared_data / "cards" / "cards.tar.gz") as archive:
        for member in archive:
            opened = archive.extractfile(member)
            if opened is None or not member.name.endswith("README.md"):
                continue
            text = opened.read().decode("utf-8", "replace")
            n_cards += 1
            n_marked += "merge_method" in text
            try:
                evaluations(card_metadata(text))
            except MalformedError:
                n_unreadable += 1
            recipes = find_recipes(text, CHILD)
            n_recipes += bool(recipes)
            n_several += len(recipes) > 1
            list(prose_parents(text, CHILD))
    # Three cards hold expert mixtures instead; four marked ones hold recipes that are no YAML.
    assert (n_cards, n_marked, n_recipes, n_several, n_unreadable) == (372, 69, 68, 7, 0)


def test_edge_cases_of_the_hubs_own_client_are_read_or_refused(shared_data: Path):
    refused = set()
    for path in sorted((shared_data / "cards" / "edge-cases").glob("*.md")):
        try:
            evaluations(card_metadata(path.read_bytes().decode("utf-8")))
        except MalformedError:
            refused.add(path.stem)
    assert refused == {"sample_invalid_card_data", "sample_template"}

"""Model cards as found in the wild: metadata, evaluations, prose."""

from __future__ import annotations

import contextlib
import re
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from crawler.cards import (
    MAX_CARD_CHARACTERS,
    card_metadata,
    declared_parents,
    read_card,
    relation_of,
)
from crawler.errors import MalformedError
from crawler.prose import prose_parents
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
        ("base_model: a/b c/d", ["a/b", "c/d"]),
        ("base_model: a/b, c/d,", ["a/b", "c/d"]),
        ("base_model: 'a/b,'", ["a/b"]),
        ("base_model: a/b and c/d", [None]),
        (f"base_model: {' '.join(f'a/b{n}' for n in range(300))}", [f"a/b{n}" for n in range(256)]),
        ('base_model: ["a/b; c/d", e/f]', ["a/b", "c/d", "e/f"]),
        ("base_model: Llama 2 / 7b chat / v1", [None]),
        ("base_model: My Org/My Model", [None]),
        ("base_model: ../../etc/passwd", [None]),
        ("base_model: a/..", [None]),
        ('base_model: "a/b\\0c"', [None]),
        ("base_model: C:\\models\\llama", [None]),
        (f"base_model: a/{'b' * 10_000}", [None]),
        ("base_model: true", [None]),
        ("base_model: {model: {path: a/b}}", []),
        ("base_model: a/b\nbase_model: c/d", ["c/d"]),
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


def test_stored_words_have_no_control_characters_and_at_most_500():
    words = [word for _, word in parents(f'base_model: ["a\\x1b[31m/b\\e", "{"x" * 9_999}"]')]
    assert words == ["a\ufffd[31m/b\ufffd", "x" * 500]


def test_only_the_words_of_the_hub_are_relations():
    assert relation_of({"base_model_relation": "merge"}) == "merge"
    assert relation_of({"base_model_relation": "Quantized"}) == "quantized"
    assert relation_of({"base_model_relation": ["merge"]}) is None
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
    found = read_card(text)
    assert [mention.repo_id for mention, _ in prose_parents(found.body, CHILD)] == ["a/b"]
    assert found.problems


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ("title: a: b\nbase_model: a/b", {"base_model": "a/b"}),
        ("title: a: b\nbase_model:\n- a/b\n- c/d", {"base_model": ["a/b", "c/d"]}),
        ("a: b: c\nbase_model:\n  - 'a/b'  # ours\n\n  - c/d", {"base_model": ["a/b", "c/d"]}),
        ("\tlicense: mit\ntags: [x, 'y']\na: b: c", {"tags": ["x", "y"]}),
        ("x: *nothing\nlicense: mit # see below", {"license": "mit"}),
        ("a: b: c\nlicense: 'it''s'\nlanguage: \"no\"", {"license": "it", "language": "no"}),
        ("a: b: c\nlicense: mit\nlicense: other", {"license": "other"}),
        ("a: b: c\nmodel-index:\n- base_model: a/b\n  base_model: c/d", {}),
        ("a: b: c\ntags:\nlicense: mit\n- x", {"license": "mit"}),
        ("a: b: c\ntags:\n- x\nwords\n- y", {"tags": ["x"]}),
        ("@a\nsecret: 1\nbase_model: https://hf.co/a/b#x",
         {"base_model": "https://hf.co/a/b#x"}),
    ],
)  # fmt: skip
def test_the_simple_lines_of_broken_metadata_are_read_and_told(block, expected):
    found = read_card(card(block))
    assert found.metadata == expected
    assert found.body == "\n# A model"
    (problem,) = found.problems
    assert problem.startswith("the metadata is no YAML; ")
    assert f" {len(expected)} of" in problem


def test_tabs_between_key_and_value_are_read():
    found = read_card(card("base_model:\ta/b\nlicense:\tmit"))
    assert found.metadata == {"base_model": "a/b", "license": "mit"}


def test_metadata_that_is_never_closed_is_read_line_by_line():
    found = read_card("---\nbase_model: a/b\ntags:\n- x\n\nFine-tuned from [a/b](x).\nlicense: no")
    assert found.metadata == {"base_model": "a/b", "tags": ["x"]}
    assert found.body == "Fine-tuned from [a/b](x).\nlicense: no"
    assert found.problems == (
        "the metadata is never closed; 2 of its fields could be read line by line",
    )
    only = read_card("---\r\nbase_model: a/b")
    assert (only.metadata, only.body) == ({"base_model": "a/b"}, "")


@pytest.mark.parametrize("text", ["---\nA title\nlicense: mit", "---\nNote: this\n", "---\n"])
def test_a_line_across_the_page_opens_no_metadata(text):
    assert read_card(text).metadata == {}
    assert read_card(text).body == text
    assert read_card(text).problems == ()


def test_a_list_where_metadata_belongs_is_told_as_such():
    assert read_card(card("- a\n- b")).problems == (
        "the metadata is no mapping; 0 of its fields could be read line by line",
    )


def test_a_card_of_fifty_megabytes_is_cut_and_told():
    text = card("base_model: a/b", "based on `x/late-1`. " * 2_500_000)
    started = time.process_time()
    found = read_card(text)
    assert found.metadata == {"base_model": "a/b"}
    assert len(found.body) < MAX_CARD_CHARACTERS
    assert found.problems == ("longer than 1048576 characters; the rest was not read",)
    list(prose_parents(found.body, CHILD))
    assert time.process_time() - started < 1
    with pytest.raises(MalformedError):
        card_metadata(text)


def test_aliases_are_refused_before_they_unfold():
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "\n".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 9)}]" for n in range(12)
    )
    started = time.process_time()
    found = read_card(card(f"base_model: a/b\n{bomb}"))
    assert found.metadata == {"base_model": "a/b"}
    assert time.process_time() - started < 1
    with pytest.raises(MalformedError, match="alias"):
        card_metadata(card(bomb))


def test_the_metadata_of_every_intact_card_is_read_as_the_yaml_library_reads_it(shared_data):
    n_same = 0
    for _, text in real_cards(shared_data):
        found = read_card(text)
        match = re.match(r"---\n(.*?)\n---", text.replace("\r\n", "\n"), re.DOTALL)
        if match is None:
            continue
        expected = yaml.load(match[1], Loader=yaml.BaseLoader)
        assert found.metadata == (expected or {})
        n_same += 1
    assert n_same > 300


def test_a_card_without_metadata_says_nothing_of_itself():
    for text in ("", "# Title", "---\n", "---\n---\n", card("# a comment")):
        assert card_metadata(text) == {}


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
        ("It is based on [a/b](https://github.com/a/b).", []),
        ("Trained from [x](https://huggingface.co/a/b) on [c/d](https://huggingface.co/datasets/c/d).",
         [("a/b", None)]),
        ("[x](https://hf.co/a/b) was fine-tuned from [y](https://huggingface.co/c/d).", []),
        ("The new dataset is based on [y](https://huggingface.co/c/d).", []),
        ("If it was based on `a/b-7B`, ask them.", []),
        ("Based on llama (33b/65b).", []),
        ("Quantized versions of this model: [y](https://huggingface.co/c/child-2).", []),
        ("Based on the merge of [z](https://huggingface.co/z/child-GGUF).", []),
        ("Based on ![x](https://cdn-uploads.huggingface.co/production/uploads/a.png).", []),
        ("[x](https://huggingface.co/a/b) finetuned on my data.", [("a/b", "finetune")]),
        ("Tuned on data using [x](https://hf.co/a/b) as the base model.", [("a/b", None)]),
        ("Based on [x](https://hf.co/a/b) and evaluated beside [y](https://hf.co/c/d).",
         [("a/b", None)]),
        ("Based on [x](https://hf.co/a/b) and [y](https://hf.co/c/d).",
         [("a/b", None), ("c/d", None)]),
        ("A merge of `a/b-1`. c/d-2 was left out.", [("a/b-1", "merge")]),
        ("- **Base model:** [x](https://hf.co/a/b)", [("a/b", None)]),
        ("<!-- based on `a/b-1` -->", []),
        ("Based on a/b-v0.1.1/ and a/b-2/c.", [("a/b-v0.1.1", None)]),
        ("These models were included in the merge:\n\n* [a/b](https://hf.co/a/b)\n* c/d-2\n\n"
         "See [e/f](https://hf.co/e/f).\n* g/h-1", [("a/b", "merge"), ("c/d-2", "merge")]),
        ("## Models merged\n\nFirst one\n\nhttps://hf.co/a/b\n\nSee [x](https://hf.co/c/d) too.\n"
         "## Thanks\n- e/f-1", [("a/b", "merge")]),
        ("## Models merged\n\nhttps://hf.co/a/b https://hf.co/c/d",
         [("a/b", "merge"), ("c/d", "merge")]),
        ("[x](https://hf.co/me/child) is based on `a/b-1`.", [("a/b-1", None)]),
        (f"Based on {'many ' * 40}words, unlike `a/b-1`.", []),
        ("A merge of `a/b-1`, which writes well, and of course `c/d-1`, which reads.",
         [("a/b-1", "merge"), ("c/d-1", "merge")]),
        ("Based on [the code](a/b).", []),
        ("Based on `a/b-1`.\n\nIt was fine-tuned from `A/b-1`.", [("a/b-1", None)]),
        (f"{chr(0x130) * 60} based on `a/b-1`", [("a/b-1", None)]),
        ("Made from `a/b-1`.\n# Original model card: b\nFine-tuned from `c/d-1`.", []),
        ("This model was converted to GGUF format from [`a/b`](https://hf.co/a/b) using llama.cpp.",
         [("a/b", "quantized")]),
        ("The Model was converted to MLX format from [a/b](https://hf.co/a/b).",
         [("a/b", "quantized")]),
        ("\u0130\u0130 based on `a/b-1`", [("a/b-1", None)]),
    ],
)  # fmt: skip
def test_prose_names_parents_only_after_words_of_descent(sentence, expected):
    found = [(mention.repo_id, relation) for mention, relation in prose_parents(sentence, CHILD)]
    assert found == expected


def test_at_most_256_parents_are_read_from_prose():
    text = "Merged of:\n\n" + "\n".join(f"- a/b-{n}" for n in range(300))
    assert len(list(prose_parents(text, CHILD))) == 256


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
        find_recipes(whole, CHILD)
        list(prose_parents(whole, CHILD))
        read_card(whole)


PIECES = st.sampled_from(
    [
        "based on ", "fine-tuned from ", "merge of ", "merged:", "- ", "# ", "## Models merged",
        "`a/b-1`", "[x](https://hf.co/a/b)", "[", "](", ")", "\n", "\n\n", "```", "<!--", "-->",
        "| ", "> ", ": ", "---\n", "base_model", "tags:\n", "\x1b", "\u202e", "\ud800", "\u0130",
        ". ", "https://huggingface.co/datasets/a/b", " and ", "if ", "as a base",
    ]
)  # fmt: skip


@given(st.lists(PIECES, max_size=60))
def test_no_order_of_the_words_of_cards_makes_the_readers_fail(pieces):
    found = read_card("".join(pieces))
    for mention, relation in prose_parents(found.body, CHILD):
        assert mention.repo_id is not None
        assert len(mention.context) <= 1_000
        assert relation in (None, "finetune", "quantized", "merge", "adapter")
    find_recipes("".join(pieces), CHILD)


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
        "based on [" * 100_000,
        "[a](b" * 200_000,
        "a/b-1 fine-tuned from " * 40_000,
        "<!--" * 200_000,
        "- x/y-1\n" * 100_000,
        "models merged:\n" + "* a/b-1\n" * 100_000,
        "---\n" + "tags:\n" * 150_000,
        card("\n".join(f"a{n}: b: c" for n in range(60_000))),
    ],
    ids=range(16),
)
def test_hostile_cards_cost_little_time(text):
    started = time.process_time()
    with contextlib.suppress(MalformedError):
        card_metadata(text)
    find_recipes(text, CHILD)
    list(prose_parents(text, CHILD))
    assert time.process_time() - started < 2


def test_real_cards_are_read_without_a_failure(shared_data: Path):
    n_cards = n_recipes = n_troubled = 0
    for _, text in real_cards(shared_data):
        n_cards += 1
        found = read_card(text)
        n_troubled += bool(found.problems)
        n_recipes += bool(find_recipes(text, CHILD))
        list(prose_parents(found.body, CHILD))
    assert (n_cards, n_troubled) == (372, 0)
    assert n_recipes >= 68


def real_cards(shared_data: Path) -> Iterator[tuple[str, str]]:
    with tarfile.open(shared_data / "cards" / "cards.tar.gz") as archive:
        for member in archive:
            opened = archive.extractfile(member)
            if opened is not None and member.name.endswith("README.md"):
                yield member.name, opened.read().decode("utf-8", "replace")


def test_edge_cases_of_the_hubs_own_client_are_read_or_refused(shared_data: Path):
    refused = set()
    for path in sorted((shared_data / "cards" / "edge-cases").glob("*.md")):
        try:
            card_metadata(path.read_bytes().decode("utf-8"))
        except MalformedError:
            refused.add(path.stem)
    assert refused == {"sample_invalid_card_data", "sample_template"}


def test_a_heading_of_a_quarter_of_a_million_marks_is_read_in_one_pass():
    # Found by the fuzz run: each mark was tried as the heading's start, hours of work for this one.
    for heading in ("#" * 250_000, "# " + "*" * 250_000, "# the" + " " * 250_000 + "model"):
        assert list(prose_parents(f"{heading}\n\nFine-tuned from `a/base-1`.", "me/x"))

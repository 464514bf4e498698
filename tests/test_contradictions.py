"""Claims that cannot all be true: the model itself, cycles, dates, kinds of weights."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.contradictions import (
    HUB_FLOOR,
    RepoFacts,
    cyclic_components,
    doubts_of_claims,
    doubts_of_cycles,
    repo_facts,
)

JUNE = datetime(2024, 6, 1, tzinfo=UTC)


def codes(relation=None, *, own=None, its=None, child="a/child", parent="b/base"):
    facts = {"a/child": own or RepoFacts(), "b/base": its or RepoFacts()}
    return [doubt.code for doubt in doubts_of_claims([(child, parent, relation)], facts)]


def test_a_model_that_names_itself_is_a_self_parent_in_any_letters():
    (doubt,) = doubts_of_claims([("a/Child", "A/child", "finetune")], {"a/child": RepoFacts(JUNE)})
    assert (doubt.child, doubt.parent, doubt.code) == ("a/Child", "A/child", "self_parent")
    assert doubt.reason == "a/Child claims to be its own parent"


@pytest.mark.parametrize(
    ("born", "before", "expected"),
    [
        (JUNE, JUNE + timedelta(days=2), ["older_than_parent"]),
        (JUNE, JUNE + timedelta(seconds=1), ["older_than_parent"]),
        (JUNE, JUNE, []),
        (JUNE + timedelta(days=2), JUNE, []),
        (HUB_FLOOR, JUNE, []),
        (HUB_FLOOR + timedelta(seconds=1), JUNE, ["older_than_parent"]),
        (JUNE, HUB_FLOOR, []),
        (None, JUNE, []),
        (JUNE, None, []),
    ],
)
def test_a_child_older_than_its_parent_is_doubted_after_the_hubs_floor(born, before, expected):
    assert codes(own=RepoFacts(born), its=RepoFacts(before)) == expected


def test_the_reason_tells_how_much_older():
    facts = {"a/c": RepoFacts(JUNE), "b/p": RepoFacts(JUNE + timedelta(hours=36))}
    (doubt,) = doubts_of_claims([("a/C", "b/P", None)], facts)
    assert doubt.reason == "a/C was created on 2024-06-01, 1.5 days before b/P"


@pytest.mark.parametrize(
    ("relation", "stated", "expected"),
    [
        ("quantized", {"dtype": "BF16"}, ["quantized_full_precision"]),
        ("quantized", {"dtype": "f32", "tags": ["safetensors"]}, ["quantized_full_precision"]),
        ("quantized", {"dtype": "I32"}, []),
        ("quantized", {"dtype": None}, []),
        ("quantized", {"dtype": "BF16", "tags": ["GPTQ"]}, []),
        ("quantized", {"dtype": "BF16", "tags": ["mlx"]}, []),
        ("quantized", {"dtype": "F16", "quantisation": "awq-4bit"}, []),
        ("quantized", {"dtype": "F16", "paths": ["m.safetensors", "m.Q4_K.GGUF"]}, []),
        ("quantized", {"dtype": "F16", "paths": ["m.safetensors", "onnx/m.onnx"]}, []),
        ("finetune", {"dtype": "BF16"}, []),
        ("finetune", {"tags": ["gguf"]}, ["trained_but_converted"]),
        ("merge", {"paths": ["m.gguf", "README.md"]}, ["trained_but_converted"]),
        ("merge", {"paths": ["m.gguf", "m.safetensors"]}, []),
        ("merge", {"paths": ["m.gguf", "pytorch_model.bin"]}, []),
        ("finetune", {"tags": ["gguf", "safetensors"]}, []),
        ("finetune", {"dtype": "I32", "tags": ["gptq"]}, ["trained_but_converted"]),
        ("merge", {"quantisation": "awq-4bit"}, ["trained_but_converted"]),
        ("finetune", {"quantisation": "gguf", "dtype": "BF16"}, []),
        ("finetune", {"library": "gguf"}, ["trained_but_converted"]),
        ("finetune", {"quantisation": "bitsandbytes-nf4"}, []),
        ("quantized", {"tags": ["gguf"]}, []),
        ("adapter", {"paths": ["model.safetensors"]}, ["adapter_without_files"]),
        ("adapter", {"paths": ["adapter_config.json"]}, []),
        ("adapter", {"paths": ["pytorch_LoRA_weights.safetensors"]}, []),
        ("adapter", {"paths": ["x.safetensors"], "tags": ["lora"]}, []),
        ("adapter", {"paths": ["x.safetensors"], "library": "peft"}, []),
        ("adapter", {"paths": None}, []),
        ("adapter", {"paths": []}, ["adapter_without_files"]),
        (None, {"dtype": "BF16", "tags": ["gguf"], "paths": []}, []),
    ],
)
def test_the_relation_must_fit_the_weights(relation, stated, expected):
    assert codes(relation, own=repo_facts(**stated)) == expected


def test_a_doubt_of_kind_names_child_parent_and_what_was_found():
    facts = {"a/c": repo_facts(tags=["gguf"])}
    (doubt,) = doubts_of_claims([("a/c", "b/p", "merge")], facts)
    assert (doubt.child, doubt.parent) == ("a/c", "b/p")
    assert doubt.reason == (
        "a/c is said to be a merge, but its weights are GGUF only, which conversion makes"
    )


def test_what_is_not_known_is_not_doubted():
    assert list(doubts_of_claims([("a/c", "b/p", "quantized")], {})) == []


def test_each_knot_of_cycles_is_told_once_with_its_members():
    edges = [
        ("b/two", "B/one"), ("b/one", "b/TWO"), ("b/two", "c/outside"),
        ("z/1", "z/2"), ("z/2", "z/3"), ("z/3", "z/1"), ("z/3", "z/2"),
        ("d/self", "d/SELF"), ("e/child", "e/parent"), ("z/1", "Z/1"),
    ]  # fmt: skip
    found = doubts_of_cycles(edges)
    assert [(doubt.child, doubt.parent, doubt.code) for doubt in found] == [
        ("B/one", "b/two", "cycle"),
        ("z/1", "z/2", "cycle"),
    ]
    assert found[0].reason == "2 models claim to be ancestors of each other: B/one, b/two"
    assert found[1].reason == "3 models claim to be ancestors of each other: z/1, z/2, z/3"


def test_a_long_cycle_tells_twenty_members_and_how_many_more():
    n = 50
    (doubt,) = doubts_of_cycles([(f"a/{i:03}", f"a/{(i + 1) % n:03}") for i in range(n)])
    assert doubt.reason.endswith("a/018, a/019 and 30 more")
    assert doubt.reason.startswith("50 models")


def test_no_edges_and_trees_have_no_cycles():
    assert doubts_of_cycles([]) == ()
    assert doubts_of_cycles([("a/x", "a/y"), ("a/z", "a/y"), ("a/y", "a/w")]) == ()


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=40))
def test_components_are_those_that_networkx_finds(edges):
    children = np.array([child for child, _ in edges], np.int64)
    parents = np.array([parent for _, parent in edges], np.int64)
    expected = {
        frozenset(found)
        for found in nx.strongly_connected_components(nx.DiGraph(edges))
        if len(found) > 1
    }
    found = cyclic_components(children, parents)
    assert {frozenset(members.tolist()) for members in found} == expected
    assert len(found) == len(expected)


def test_an_edge_that_stands_very_often_is_still_one():
    edges = [("a/x", "a/y")] * 256 + [("a/y", "a/x")] * 256
    assert len(doubts_of_cycles(edges)) == 1


def test_three_million_edges_and_a_chain_as_long_take_seconds():
    n = 3_000_000
    children = np.arange(n, dtype=np.int64)
    parents = np.roll(children, -1)
    started = time.process_time()
    (whole,) = cyclic_components(children, parents)
    assert whole.size == n
    assert cyclic_components(children[:-1], parents[:-1]) == ()
    assert time.process_time() - started < 20


def test_many_small_cycles_take_time_in_proportion():
    edges = [(f"a/{i}", f"a/{i ^ 1}") for i in range(100_000)]
    started = time.process_time()
    assert len(doubts_of_cycles(edges)) == 50_000
    assert time.process_time() - started < 10

"""Configuration files and GGUF metadata: what they say of parents."""

from __future__ import annotations

import contextlib
import json
import tarfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from crawler.configs import (
    adapter_config,
    architecture_of,
    config_parent,
    gguf_parents,
    gguf_sources,
    load_json_object,
    quantisation_parent,
)
from crawler.errors import MalformedError
from crawler.plain_yaml import number_of, read_yaml, word_of

CHILD = "me/child"


def test_an_adapter_names_its_base():
    text = json.dumps(
        {"base_model_name_or_path": "a/b", "revision": "main", "peft_type": "LORA", "r": 8}
    )
    found = adapter_config(text, CHILD)
    assert found.base is not None
    assert (found.base.repo_id, found.base_revision, found.method) == ("a/b", "main", "lora")


@pytest.mark.parametrize("value", [None, True, [], {}, "", "  "])
def test_an_adapter_that_names_no_base_claims_none(value):
    assert adapter_config(json.dumps({"base_model_name_or_path": value}), CHILD).base is None


def test_a_config_says_where_it_was_loaded_from():
    mention = config_parent({"_name_or_path": "/home/me/a"}, CHILD)
    assert mention is not None
    assert (mention.repo_id, mention.words) == (None, "/home/me/a")
    assert config_parent({"_name_or_path": ""}, CHILD) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "1", "[" * 100_000, "{'a': 1}"])
def test_what_is_no_json_object_is_malformed(text):
    with pytest.raises(MalformedError):
        load_json_object(text, "config.json")


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["A", "B"], "A"), ([], None), (None, None), ("A", None), ([{}], None), (["\ud800"], "?")],
)
def test_the_first_architecture_counts(names, expected):
    assert architecture_of({"architectures": names}) == expected


def test_gguf_base_models_are_named_by_address_else_by_organisation_and_name():
    metadata = {
        "general.base_model.count": 3,
        "general.base_model.0.repo_url": "https://huggingface.co/a/b",
        "general.base_model.0.name": "B Model",
        "general.base_model.1.organization": "Some Org",
        "general.base_model.1.name": "C 7B",
        "general.base_model.2.name": "mystery",
        "general.base_model.3.repo_url": 7.5,
    }
    found = gguf_parents(metadata, CHILD)
    assert [mention.repo_id for mention in found] == ["a/b", "Some-Org/C-7B", None]


def test_real_adapter_configs_are_read(shared_data: Path):
    n_read = n_resolved = 0
    with tarfile.open(shared_data / "configs" / "adapter-configs.tar.gz") as archive:
        for member in archive:
            opened = archive.extractfile(member)
            if opened is None or not member.name.endswith(".json"):
                continue
            text = opened.read().decode("utf-8", "replace")
            if "base_model_name_or_path" in text:
                base = adapter_config(text, CHILD).base
                n_read += 1
                n_resolved += base is not None and base.repo_id is not None
    assert n_read > 0
    assert n_resolved > 0


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"general.source.huggingface.repository": "a/b"}, "a/b"),
        ({"general.source.repo_url": "https://hf.co/a/b", "general.source.url": "x/y"}, "a/b"),
        ({"general.source.repo_url": "https://github.com/x/y", "general.source.url": "a/b"}, "a/b"),
        ({"general.source.url": "https://github.com/x/y"}, None),
        ({"general.source.url": 7.5}, None),
        ({}, None),
    ],
)
def test_a_gguf_file_says_what_it_was_made_from_the_hub_first(metadata, expected):
    found = gguf_sources(metadata, CHILD)
    assert (found.repo_id if found else None) == expected


def test_a_source_that_is_no_repository_is_kept_as_written():
    found = gguf_sources({"general.source.url": "https://github.com/x/y"}, CHILD)
    assert found is not None
    assert (found.repo_id, found.words) == (None, "https://github.com/x/y")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"bits": 4, "model_name_or_path": "a/b"}, "a/b"),
        ({"w_bit": 4, "model_name_or_path": "a/b"}, "a/b"),
        ({"model_name_or_path": "a/b"}, None),
        ({"quantization_config": {"model_name_or_path": "a/b"}}, "a/b"),
        ({"quantization": {"model_name_or_path": "a/b"}}, "a/b"),
        ({"quantization_config": {"model_file_base_name": "a/b"}}, None),
        ({"quantization_config": {"model_name_or_path": None}}, None),
        ({"quantization_config": [], "bits": 4, "model_name_or_path": "a/b"}, "a/b"),
        ({"quantization_config": {"bits": 4}, "model_name_or_path": "a/b"}, None),
    ],
)
def test_a_quantisation_names_its_model_only_in_the_documented_field(config, expected):
    found = quantisation_parent(config, CHILD)
    assert (found.repo_id if found else None) == expected


@given(st.text(max_size=200))
def test_no_text_makes_the_readers_of_configurations_fail(text):
    for read in (lambda: load_json_object(text, "x"), lambda: adapter_config(text, CHILD)):
        with contextlib.suppress(MalformedError):
            read()
    for config in ({"_name_or_path": text}, {"bits": 4, "model_name_or_path": text}):
        config_parent(config, CHILD)
        quantisation_parent(config, CHILD)
    gguf_parents({"general.base_model.0.name": text}, CHILD)
    gguf_sources({"general.source.url": text}, CHILD)


YAML_PIECES = st.sampled_from(
    ["a", "b: ", "- ", "\n", "\n  ", "[", "]", "{", "}", ", ", ": ", "? ", "| ", "> ", "'", '"',
     "#", "---\n", "...\n", "&x ", "*x", "!!int 1", "<<: ", "\t", "0", "%YAML 1.1\n",
     "\u2028", "\x85"]
)  # fmt: skip


@given(st.lists(YAML_PIECES, max_size=25).map("".join))
def test_yaml_is_read_as_the_library_reads_it_without_converting(text):
    try:
        expected = list(yaml.load_all(text, Loader=yaml.CBaseLoader))
    except (yaml.YAMLError, ValueError, TypeError):
        with pytest.raises(MalformedError):
            read_yaml(text)
        return
    with contextlib.suppress(*([MalformedError] if "*x" in text else [])):  # an alias, perhaps
        assert read_yaml(text) == expected


@pytest.mark.parametrize(
    "text",
    ["[" * 51 + "]" * 51, "x: [" + "1," * 200_001 + "]", "- " * 60 + "x", "x" * (1 << 20) + "x",
     "a: &x 1\nb: *x", "{[a]: b}", "{{a: b}: c}", "a: \x00", "a: \ud800", "a: !!python/name:os.x"],
)  # fmt: skip
def test_yaml_beyond_the_bounds_is_malformed_or_plain(text):
    if "python" in text:
        assert read_yaml(text) == [{"a": ""}]
    else:
        with pytest.raises(MalformedError):
            read_yaml(text)


def test_yaml_within_the_bounds_is_read():
    assert read_yaml("[" * 50 + "]" * 50)
    assert read_yaml("a: 1\na: 2\n--- x\n---\n") == [{"a": "2"}, "x", ""]


@given(st.text(max_size=80) | st.integers() | st.floats() | st.none() | st.binary(max_size=3))
def test_words_and_numbers_are_plain_whatever_they_are_made_of(value):
    word = word_of(value)
    if word is not None:
        assert word == word.strip() != ""
        assert not any((ord(c) < 32 and c not in "\t\n") or 127 <= ord(c) < 160 for c in word)
        word.encode("utf-8")
    number = number_of(value)
    assert number is None or abs(number) < 1e300

"""Configuration files and GGUF metadata: what they say of parents."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from crawler.configs import (
    adapter_config,
    architecture_of,
    config_parent,
    gguf_parents,
    load_json_object,
)
from crawler.errors import MalformedError

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

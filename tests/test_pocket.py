"""The built pocket Hub keeps the promises that every later stage relies on."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections import Counter
from pathlib import Path

import pytest
import yaml

POCKET = Path(__file__).resolve().parent.parent / "data" / "pocket"
KINDS = {
    "founder", "duplicate", "cast", "quantized", "finetune", "continued_pretraining",
    "lora_merged", "abliterated", "adapter", "vocabulary", "pruned", "passthrough", "merge", "moe",
    "permuted", "common_init",
}  # fmt: skip
DOMAINS = {"python", "manual", "headers", "docstrings", "licences", "web"}


@pytest.fixture(scope="module")
def truth() -> dict[str, dict]:
    return json.loads((POCKET / "truth.json").read_text(encoding="utf-8"))["models"]


@pytest.fixture(scope="module")
def hub() -> dict[str, dict]:
    return json.loads((POCKET / "hub.json").read_text(encoding="utf-8"))["models"]


def _front_matter(model: str) -> str | None:
    text = (POCKET / model / "README.md").read_text(encoding="utf-8")
    found = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    return found and found[1]


def _headers(model: str) -> dict[str, dict[str, dict]]:
    headers = {}
    for path in (POCKET / model).glob("*.safetensors"):
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        data_bytes = path.stat().st_size - 8 - length
        assert max(entry["data_offsets"][1] for entry in header.values()) == data_bytes, path
        headers[path.name] = header
    return headers


def _depth(model: str, truth: dict[str, dict]) -> int:
    parents = truth[model]["parents"]
    return 1 + max(_depth(parent["id"], truth) for parent in parents) if parents else 0


def test_the_pocket_hub_holds_50_to_70_models_in_at_most_40_megabytes(truth: dict) -> None:
    folders = {
        f"{path.parent.name}/{path.name}"
        for path in POCKET.glob("*/*")
        if path.is_dir() and not path.parent.name.startswith(".")
    }
    assert folders == set(truth)
    assert 50 <= len(truth) <= 70
    assert sum(path.stat().st_size for path in POCKET.rglob("*") if path.is_file()) <= 40e6


def test_every_kind_of_descent_is_there(truth: dict) -> None:
    counts = Counter(entry["kind"] for entry in truth.values())
    assert set(counts) == KINDS
    assert counts["common_init"] == 2
    methods = Counter(entry["method"] for entry in truth.values() if entry["kind"] == "merge")
    assert set(methods) == {
        "linear", "slerp", "ties", "dare_ties", "task_arithmetic", "model_stock",
    }  # fmt: skip
    assert {entry["rank"] for entry in truth.values() if entry["kind"] == "lora_merged"} == {4, 16}
    quantised = [entry for entry in truth.values() if entry["kind"] == "quantized"]
    assert {entry["method"] for entry in quantised} == {"Q8_0", "Q4_0", "int8-absmax"}


def test_three_founders_share_one_configuration_and_tokenizer(truth: dict) -> None:
    configs = []
    for model, entry in truth.items():
        if entry["kind"] == "founder":
            config = json.loads((POCKET / model / "config.json").read_text())
            config.pop("dtype")
            tokenizer = (POCKET / model / "tokenizer.json").read_bytes()
            configs.append((json.dumps(config), hashlib.sha256(tokenizer).hexdigest()))
    assert Counter(configs).most_common(1)[0][1] >= 3


def test_parents_and_layer_maps_name_models_that_exist(truth: dict) -> None:
    for model, entry in truth.items():
        names = {parent["id"] for parent in entry["parents"]}
        assert names <= set(truth), model
        assert model not in names
        if entry["parents"]:
            assert sum(p["weight"] for p in entry["parents"]) == pytest.approx(1, abs=1e-4)
        else:
            assert entry["kind"] in {"founder", "common_init"}
        if "base" in entry:
            assert entry["base"] in truth
        if "layer_map" in entry:
            config = json.loads((POCKET / model / "config.json").read_text())
            assert len(entry["layer_map"]) == config["num_hidden_layers"]
            assert {name for name, _ in entry["layer_map"]} == names


def test_a_line_of_descent_is_at_least_four_steps_long(truth: dict) -> None:
    assert max(_depth(model, truth) for model in truth) >= 4


def test_dates_follow_ancestry_but_for_two_declared_re_uploads(truth: dict, hub: dict) -> None:
    inverted = {model for model, entry in truth.items() if entry.get("date_inverted")}
    assert len(inverted) == 2
    assert all(truth[model]["kind"] == "duplicate" for model in inverted)
    for model, entry in truth.items():
        assert hub[model]["created_at"] <= hub[model]["last_modified"]
        if model not in inverted:
            for parent in entry["parents"]:
                assert hub[parent["id"]]["created_at"] < hub[model]["created_at"]


def test_one_repository_is_gated_one_disabled_and_one_vanishes(truth: dict, hub: dict) -> None:
    for flag in ("gated", "disabled", "vanishes"):
        flagged = [model for model, entry in hub.items() if entry[flag]]
        assert len(flagged) == 1, flag
        parents = {p["id"] for entry in truth.values() for p in entry["parents"]}
        assert flagged[0] not in parents
    assert all(re.fullmatch(r"[0-9a-f]{40}", entry["revision"]) for entry in hub.values())


def test_every_safetensors_header_describes_its_file_to_the_last_byte(truth: dict) -> None:
    for model in truth:
        assert _headers(model) or list((POCKET / model).glob("*.gguf")), model


def test_most_models_are_stored_in_bfloat16(truth: dict) -> None:
    words: Counter[str] = Counter()
    seen = set()
    for model in truth:
        entries = [e for header in _headers(model).values() for e in header.values()]
        dtypes = [e["dtype"] for e in entries] or ["GGUF"]
        words[Counter(dtypes).most_common(1)[0][0]] += 1
        seen.update(dtypes)
    assert words["BF16"] > 0.75 * len(truth)
    assert {"F32", "F16", "I8", "GGUF"} <= seen


def test_re_uploads_have_the_bytes_of_their_source_and_re_shards_its_tensors(truth: dict) -> None:
    kinds = set()
    for model, entry in truth.items():
        if entry["kind"] != "duplicate":
            continue
        mine, source = _headers(model), _headers(entry["parents"][0]["id"])
        if len(mine) == 1:
            kinds.add("copy")
            for name in mine:
                copied = (POCKET / model / name).read_bytes()
                assert copied == (POCKET / entry["parents"][0]["id"] / name).read_bytes()
        else:
            kinds.add("re-shard")
            names = [name for header in mine.values() for name in header]
            assert sorted(names) == sorted(name for h in source.values() for name in h)
    assert kinds == {"copy", "re-shard"}


def test_relative_changes_span_what_real_fine_tunes_do(truth: dict) -> None:
    changes = [e["relative_change"] for e in truth.values() if e["kind"] == "finetune"]
    assert min(changes) < 0.002
    assert max(changes) > 0.15
    assert sum(0.001 <= change <= 0.02 for change in changes) > len(changes) / 2
    continued = [e for e in truth.values() if e["kind"] == "continued_pretraining"]
    assert all(0.1 <= entry["relative_change"] <= 0.4 for entry in continued)


def test_cards_state_measured_losses_on_at_least_five_domains(truth: dict) -> None:
    unreadable = []
    for model in truth:
        front = _front_matter(model)
        try:
            metadata = yaml.safe_load(front) if front else None
        except yaml.YAMLError:
            metadata = None
        if metadata is None:
            unreadable.append(model)
            continue
        losses = {
            result["dataset"]["name"]: metric["value"]
            for result in metadata["model-index"][0]["results"]
            for metric in result["metrics"]
            if metric["name"] == "held-out loss"
        }
        assert set(losses) == DOMAINS, model
        assert all(0.5 < loss < 7 for loss in losses.values()), (model, losses)
    assert 1 <= len(unreadable) <= 6


def test_cards_declare_and_conceal_and_err(truth: dict) -> None:
    declared = wrong = edges = 0
    for model, entry in truth.items():
        front = _front_matter(model) or ""
        claims = re.findall(
            r"(?:base_model: |- )(?:https://huggingface.co/)?([\w.-]+/[\w.-]+)", front
        )
        parents = {parent["id"] for parent in entry["parents"]}
        edges += len(parents)
        declared += len(parents & set(claims))
        wrong += len(set(claims) - parents)
    assert 0.4 < declared / edges < 0.75
    assert 3 <= wrong <= 7


def test_some_merges_keep_their_recipe_and_some_do_not(truth: dict) -> None:
    kept = {
        (POCKET / model / "mergekit_config.yml").exists()
        for model, entry in truth.items()
        if entry["kind"] == "merge"
    }
    assert kept == {True, False}

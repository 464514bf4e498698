"""Everything that a repository says about its parents: the nine sources, bounds, bad input."""

from __future__ import annotations

import gzip
import json
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.gguf_headers import parse_gguf_metadata_prefix
from crawler.parents import CARD, MAX_TEXT_CHARACTERS, read_words
from crawler.records import ClaimSource, RepoRef, RepoSnapshot

NOW = datetime(2026, 1, 1, tzinfo=UTC)
COMMIT = "1" * 40


def words_of(child="me/child", *, card=None, config=None, tags=(), files=None, gguf=None):
    snapshot = RepoSnapshot(
        RepoRef(child, COMMIT), NOW, card_text=card, config_text=config, tags=tuple(tags)
    )
    return read_words(snapshot, files or {}, gguf)


def claims_of(source, **stated):
    return [
        (claim.parent, claim.parent_text, claim.relation, claim.text)
        for claim in words_of(**stated).claims
        if claim.source is source
    ]


def member(archive: Path, name: str) -> str:
    with tarfile.open(archive) as opened:
        for found in opened:
            if found.name.endswith(name):
                file = opened.extractfile(found)
                assert file is not None
                return file.read().decode("utf-8", "replace")
    raise AssertionError(f"{archive} has no {name}")


def real_card(shared_data: Path, name: str) -> str:
    return member(shared_data / "cards" / "cards.tar.gz", f"{name}/README.md")


# The nine sources, each on a real example where ../shared/data has one.


def test_tags_of_a_real_model_claim_its_base(shared_data):
    child = "0bserverx/Qwen3.8-27B-Heretic-Abliterated-Uncensored-GGUF"
    with gzip.open(shared_data / "radar" / "models.jsonl.gz", "rt", encoding="utf-8") as lines:
        model = next(record for line in lines if (record := json.loads(line))["id"] == child)
    assert claims_of(ClaimSource.TAG, child=child, tags=model["tags"]) == [
        ("Qwen/Qwen3.8-27B", "Qwen/Qwen3.8-27B", "quantized",
         "base_model:quantized:Qwen/Qwen3.8-27B"),
    ]  # fmt: skip


def test_the_metadata_of_a_real_card_claims_its_base(shared_data):
    card = real_card(shared_data, "CapybaraHermes-2.5-Mistral-7B")
    assert claims_of(ClaimSource.CARD, card=card) == [
        ("teknium/OpenHermes-2.5-Mistral-7B", "teknium/OpenHermes-2.5-Mistral-7B", None,
         "base_model: teknium/OpenHermes-2.5-Mistral-7B"),
    ]  # fmt: skip


def test_a_card_states_one_relation_for_all_its_bases():
    # None of the real cards states a relation.
    card = "---\nbase_model: [a/b, ./c]\nbase_model_relation: merge\n---\n"
    assert claims_of(ClaimSource.CARD, card=card) == [
        ("a/b", "a/b", "merge", "base_model: a/b"),
        (None, "./c", "merge", "base_model: ./c"),
    ]


def test_a_real_merge_configuration_claims_what_it_merges(shared_data):
    path = shared_data / "cards" / "recipes" / "allura-org-gradient-slerp.yml"
    found = words_of(files={"mergekit_config.yml": path.read_text("utf-8")})
    assert [(claim.parent, claim.relation, claim.method) for claim in found.claims] == [
        ("psmathur/orca_mini_v3_13b", "merge", "slerp"),
        ("garage-bAInd/Platypus2-13B", "merge", "slerp"),
    ]
    assert {claim.source for claim in found.claims} == {ClaimSource.MERGE_RECIPE}
    assert [(one.source, one.recipe.method) for one in found.recipes] == [
        (ClaimSource.MERGE_RECIPE, "slerp")
    ]


def test_the_recipe_in_a_real_card_claims_what_it_merges(shared_data):
    card = real_card(shared_data, "NeuralPipe-7B-slerp")
    assert claims_of(ClaimSource.CARD_RECIPE, card=card) == [
        ("OpenPipe/mistral-ft-optimized-1218",) * 2
        + ("merge", "slerp of OpenPipe/mistral-ft-optimized-1218"),
        ("mlabonne/NeuralHermes-2.5-Mistral-7B",) * 2
        + ("merge", "slerp of mlabonne/NeuralHermes-2.5-Mistral-7B"),
    ]


def test_a_real_adapter_configuration_claims_its_base(shared_data):
    archive = shared_data / "configs" / "adapter-configs.tar.gz"
    with tarfile.open(archive) as opened:
        texts = [file.read().decode() for found in opened if (file := opened.extractfile(found))]
    claimed = [
        claim
        for text in texts
        for claim in claims_of(ClaimSource.ADAPTER_CONFIG, files={"adapter_config.json": text})
    ]
    # Of 70 configurations, templates most of them, one names its base.
    assert claimed == [
        ("meta-llama/Llama-3.2-3B", "meta-llama/Llama-3.2-3B", "adapter",
         "base_model_name_or_path: meta-llama/Llama-3.2-3B"),
    ]  # fmt: skip


def test_an_adapter_claims_the_revision_of_its_base_too():
    # No real one states a revision.
    text = json.dumps({"base_model_name_or_path": "a/b", "revision": "v2", "peft_type": "LORA"})
    (claim,) = words_of(files={"adapter_config.json": text}).claims
    assert claim.text == "base_model_name_or_path: a/b at v2"
    assert claim.method == "lora"


def test_real_gguf_vocabularies_name_no_parent(shared_data):
    for path in sorted((shared_data / "gguf-vocab").glob("*.gguf")):
        data = path.read_bytes()
        metadata = parse_gguf_metadata_prefix(data, path.name, len(data))
        assert metadata["general.architecture"]
        assert words_of(gguf=metadata).claims == ()


def test_gguf_metadata_claim_source_and_base():
    # Shape as documented by ggml, for no real file at hand names one.
    metadata = {
        "general.source.repo_url": "https://huggingface.co/a/source",
        "general.source.url": "https://github.com/a/other",
        "general.base_model.count": 1,
        "general.base_model.0.repo_url": "https://huggingface.co/b/base",
    }
    assert claims_of(ClaimSource.GGUF_METADATA, gguf=metadata) == [
        ("a/source", "https://huggingface.co/a/source", "quantized",
         "general.source: https://huggingface.co/a/source"),
        ("b/base", "https://huggingface.co/b/base", "quantized",
         "general.base_model: https://huggingface.co/b/base"),
    ]  # fmt: skip


def test_a_real_configuration_claims_where_it_was_loaded_from(shared_data):
    config = member(
        shared_data / "configs" / "model-configs.tar.gz",
        "nvidia--Llama-3.1-70B-Instruct-FP8_config.json",
    )
    path = "/opt/zhiyu_hf_ckpts/Llama-3.1-70B-Instruct/"
    assert claims_of(ClaimSource.CONFIG, config=config) == [
        (None, path, None, f"_name_or_path: {path}")
    ]
    assert claims_of(ClaimSource.CONFIG, config='{"_name_or_path": "a/b"}')[0][0] == "a/b"


def test_real_configurations_of_quantisations_name_no_model(shared_data):
    n_quantised = 0
    with tarfile.open(shared_data / "configs" / "model-configs.tar.gz") as opened:
        for found in opened:
            file = opened.extractfile(found)
            if file is None:
                continue
            text = file.read().decode()
            is_file = found.name.endswith("hf_quant_config.json")
            n_quantised += is_file or "quantization_config" in text
            stated = {"files": {"hf_quant_config.json": text}} if is_file else {"config": text}
            assert claims_of(ClaimSource.QUANTISATION_CONFIG, **stated) == []
    assert n_quantised >= 23


@pytest.mark.parametrize(
    ("path", "config"),
    [
        ("quantize_config.json", {"bits": 4, "model_name_or_path": "a/b"}),
        ("quant_config.json", {"w_bit": 4, "model_name_or_path": "a/b"}),
        ("config.json", {"quantization_config": {"bits": 4, "model_name_or_path": "a/b"}}),
    ],
)
def test_a_quantisation_claims_the_model_it_was_made_from(path, config):
    # Shape of AutoGPTQ's BaseQuantizeConfig, for no real configuration at hand names one.
    stated = {path: json.dumps(config)}
    assert claims_of(ClaimSource.QUANTISATION_CONFIG, files=stated) == [
        ("a/b", "a/b", "quantized", "model_name_or_path: a/b")
    ]


def test_the_prose_of_a_real_card_claims_with_its_sentence(shared_data):
    card = real_card(shared_data, "nsql-llama-2-7B")
    ((parent, words, relation, text),) = claims_of(ClaimSource.PROSE, card=card)
    assert (parent, relation) == ("meta-llama/Llama-2-7b", None)
    assert words == "https://huggingface.co/meta-llama/Llama-2-7b"
    assert text.startswith("It's based on Meta's original [Llama-2 7B model](")
    assert text.endswith("text-to-SQL pairs.")


def test_the_trust_in_sources_is_their_order():
    assert [str(source) for source in ClaimSource] == [
        "merge_recipe", "adapter_config", "gguf_metadata", "card", "tag", "card_recipe",
        "quantisation_config", "config", "prose",
    ]  # fmt: skip


# What goes with a claim, and what bounds it.


def test_every_claim_names_child_revision_and_time():
    (claim,) = words_of(tags=["base_model:adapter:a/b"]).claims
    assert (claim.child, claim.revision, claim.observed_at) == ("me/child", COMMIT, NOW)
    assert (claim.weight, claim.method) == (None, None)


def test_one_parent_in_several_sources_is_several_claims():
    card = "---\nbase_model: a/b\n---\nFine-tuned from [b](https://hf.co/a/b)."
    found = words_of(card=card, tags=["base_model:a/b"], config='{"_name_or_path": "a/b"}')
    assert sorted(str(claim.source) for claim in found.claims) == [
        "card", "config", "prose", "tag",
    ]  # fmt: skip


def test_an_added_lora_is_a_parent_too():
    recipe = (
        "merge_method: linear\nmodels:\n- {model: a/b+c/lora, parameters: {weight: 1}}\n"
        "- {model: d/e, parameters: {weight: 1}}\n"
    )
    found = words_of(files={"mergekit_config.yml": recipe}).claims
    assert [(claim.parent, claim.weight, claim.text) for claim in found] == [
        ("a/b", 0.5, "linear of a/b"),
        ("c/lora", None, "linear of a/b with c/lora added"),
        ("d/e", 0.5, "linear of d/e"),
    ]


def test_a_path_in_a_recipe_is_what_the_card_makes_certain():
    recipe = "merge_method: linear\nmodels: [{model: /home/me/One-7B}, {model: /home/me/Two-7B}]"
    found = words_of(files={"mergekit_config.yml": recipe}, card="Of a/One-7B.").claims
    assert [(claim.parent, claim.parent_text) for claim in found] == [
        ("a/One-7B", "/home/me/One-7B"),
        (None, "/home/me/Two-7B"),
    ]


def test_broken_metadata_and_files_are_problems_and_the_rest_counts():
    found = words_of(
        card="---\na: b: c\nbase_model: a/b\n---\n",
        config="{",
        files={"adapter_config.json": "[]", "mergekit_config.yml": "no: recipe"},
        tags=["base_model:c/d"],
    )
    assert [claim.parent for claim in found.claims] == ["a/b", "c/d"]
    assert {problem.path for problem in found.problems} == {
        CARD, "config.json", "adapter_config.json", "mergekit_config.yml",
    }  # fmt: skip
    for problem in found.problems:
        assert problem.code == "malformed"
        assert problem.reason.startswith(f"{problem.path}: ")
        assert not problem.reason.startswith(f"{problem.path}: {problem.path}")


def test_no_more_than_512_claims_are_kept_and_those_of_the_card_before_tags():
    tags = [f"base_model:finetune:a/{n}" for n in range(600)]
    found = words_of(card="---\nbase_model: c/d\n---\n", tags=tags).claims
    assert len(found) == 512
    assert found[0].parent == "c/d"


def test_texts_are_cut_and_what_stands_after_the_bound_of_a_card_is_not_read():
    (claim,) = words_of(tags=["base_model:merge:" + "x" * 5_000]).claims
    assert (len(claim.text), len(claim.parent_text)) == (1_000, 500)
    (claim,) = words_of(tags=["base_model:merge:a\x1b/b\x85"]).claims
    assert claim.text == "base_model:merge:a\ufffd/b\ufffd"
    recipe = "\n```yaml\nmerge_method: linear\nmodels: [{model: a/b}]\n```\n"
    assert len(words_of(card=recipe + "x\n" * 600_000).recipes) == 1
    assert words_of(card="x\n" * 600_000 + recipe).recipes == ()


def test_only_the_configuration_itself_says_where_it_was_loaded_from():
    assert words_of(files={"quantize_config.json": '{"_name_or_path": "a/b"}'}).claims == ()


def test_a_card_without_anything_says_nothing():
    found = words_of(card="")
    assert (found.claims, found.problems, found.recipes) == ((), (), ())
    assert found.card is not None
    assert words_of().card is None


STRANGE = st.text(max_size=60) | st.sampled_from(
    ["a/b", "a/b c/d", "\x00\x1b[31m", "x" * 5_000, "../..", "\ud800", "\u202e", "C:\\m", "\t\n\r"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | STRANGE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(STRANGE, inner, max_size=3),
    max_leaves=8,
)


@given(
    STRANGE,
    STRANGE,
    JSON,
    st.lists(STRANGE.map("base_model:merge:".__add__), max_size=3),
    st.dictionaries(
        st.sampled_from(
            ["general.base_model.0.repo_url", "general.base_model.0.name",
             "general.base_model.0.organization", "general.source.url"]
        ),
        STRANGE | st.integers(),
        max_size=4,
    ),
)  # fmt: skip
def test_whatever_is_written_claims_are_bounded_and_printable(base, prose, value, tags, gguf):
    config = json.dumps({"_name_or_path": value, "quantization_config": {"bits": 4}})
    recipe = json.dumps({"merge_method": base, "models": [{"model": value}, {"model": prose}]})
    found = words_of(
        card=f"---\nbase_model: {json.dumps(base)}\n---\nbased on `{prose}` and `a/b-1`, {prose}",
        config=config,
        tags=tags,
        files={
            "mergekit_config.yml": recipe,
            "adapter_config.json": json.dumps(
                {"base_model_name_or_path": value, "revision": base, "peft_type": prose}
            ),
            "quantize_config.json": json.dumps({"bits": 4, "model_name_or_path": value}),
        },
        gguf=gguf,
    )
    for claim in found.claims:
        for text, longest in (
            (claim.parent_text, 500),
            (claim.text, MAX_TEXT_CHARACTERS),
            (claim.method or "", 500),
            (claim.parent or "", 300),
        ):
            assert len(text) <= longest
            assert not any((ord(c) < 32 and c not in "\t\n") or 127 <= ord(c) < 160 for c in text)
            text.encode("utf-8")
    for problem in found.problems:
        assert len(problem.reason) <= MAX_TEXT_CHARACTERS
        problem.reason.encode("utf-8")


@given(st.dictionaries(
    st.sampled_from(["config.json", "adapter_config.json", "mergekit_config.yml",
                     "quantize_config.json", "hf_quant_config.json"]),
    st.text(max_size=200), max_size=5,
), st.text(max_size=300))  # fmt: skip
def test_no_text_of_any_file_makes_the_reading_fail(files, card):
    words_of(card=card, files=files)

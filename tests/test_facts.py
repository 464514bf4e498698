"""What configurations and GGUF metadata say of a model's shape: real, odd and random ones."""

from __future__ import annotations

import json
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.gguf_headers import parse_gguf_header
from lineage.weights.facts import ModelFacts, facts_of


@pytest.fixture(scope="module")
def configs(shared_data):
    with tarfile.open(shared_data / "configs" / "model-configs.tar.gz") as archive:
        members = [member for member in archive if member.name.endswith(".json")]
        return {
            member.name.removeprefix("./").removesuffix("_config.json"): json.load(
                archive.extractfile(member)
            )
            for member in members
        }


def test_real_configurations_tell_heads_and_widths(configs):
    assert len(configs) == 113
    told = {name: facts_of(config) for name, config in configs.items()}
    models = {name: facts for name, facts in told.items() if not name.endswith("_hf_quant")}
    assert len(models) == 86
    for name, facts in models.items():
        assert facts.model_type, name
        assert facts.n_heads, name
        assert facts.hidden, name
        if "Nemotron-Super-49B" in name:  # layers differ
            assert facts.n_kv_heads is None
        else:
            assert facts.n_heads % facts.n_kv_heads == 0, name
        latent = any(word in name for word in ("DeepSeek-R1", "DeepSeek-V3", "Kimi", "GLM-5"))
        assert (facts.head_dim is None) == latent, name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Qwen--Qwen3-0.6B", ("qwen3", 16, 8, 128, 1024, None)),
        ("meta-llama--Meta-Llama-3.1-8B", ("llama", 32, 8, 128, 4096, None)),
        ("mistralai--Mixtral-8x7B-v0.1", ("mixtral", 32, 8, 128, 4096, 8)),
        ("deepseek-ai--DeepSeek-V3", ("deepseek_v3", 128, 128, None, 7168, 256)),
        ("openai--gpt-oss-20b", ("gpt_oss", 64, 8, 64, 2880, 32)),
        ("Qwen--Qwen3-VL-30B-A3B-Instruct", ("qwen3_vl_moe_text", 32, 4, 128, 2048, 128)),
        ("google--gemma-4-26B-A4B", ("gemma4_text", 16, 8, 256, 2816, 128)),
        ("nvidia--Nemotron-H-56B-Base-8K", ("nemotron_h", 64, 8, 128, 8192, None)),
        ("nvidia--MiniMax-M3-NVFP4", ("minimax_m3_vl", 64, 4, 128, 6144, 128)),
    ],
)
def test_facts_of_known_models(configs, name, expected):
    facts = facts_of(configs[name])
    assert (
        facts.model_type, facts.n_heads, facts.n_kv_heads, facts.head_dim, facts.hidden,
        facts.n_experts,
    ) == expected  # fmt: skip


def test_real_quantisations_are_told(configs):
    assert facts_of(configs["openai--gpt-oss-20b"]).quantisation["quant_method"] == "mxfp4"
    assert facts_of(configs["deepseek-ai--DeepSeek-V3"]).quantisation["quant_method"] == "fp8"
    assert "config_groups" in facts_of(configs["moonshotai--Kimi-K2.5"]).quantisation  # nested
    assert facts_of(configs["Qwen--Qwen3-0.6B"]).quantisation == {}
    name = "nvidia--Qwen3-235B-A22B-NVFP4_hf_quant"
    assert facts_of(configs[name]).quantisation["quant_algo"] == "NVFP4"


def test_real_gguf_metadata_tell_heads_and_widths(shared_data):
    found = {}
    for path in sorted((shared_data / "gguf-vocab").glob("*.gguf")):
        data = path.read_bytes()
        metadata = parse_gguf_header(data, path.name, len(data)).metadata
        facts = facts_of({"model_type": "other"}, "gguf", metadata)
        found[path.stem.removeprefix("ggml-vocab-")] = (
            facts.model_type, facts.n_heads, facts.n_kv_heads, facts.head_dim, facts.hidden,
        )  # fmt: skip
    assert found == {
        "bert-bge": ("bert", 12, 12, 32, 384),
        "deepseek-coder": ("llama", 32, 32, 128, 4096),
        "falcon": ("falcon", 71, 1, 64, 4544),
        "gpt-2": ("gpt2", 12, 12, 64, 768),
        "llama-spm": ("llama", 32, 32, 128, 4096),
        "phi-3": ("phi3", 32, 32, 96, 3072),
    }


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        # Falcon 7B states the number of queries as that of its keys.
        (
            {"num_attention_heads": 71, "num_kv_heads": 71, "multi_query": True,
             "new_decoder_architecture": False, "hidden_size": 4544}, (71, 1, 64),
        ),
        (
            {"num_attention_heads": 128, "num_kv_heads": 8, "multi_query": True,
             "new_decoder_architecture": True, "hidden_size": 8192}, (128, 8, 64),
        ),
        ({"n_head": 12, "n_embd": 768}, (12, 12, 64)),
        ({"n_heads": 32, "d_model": 4096, "attn_config": {"kv_n_heads": 8}}, (32, 8, 128)),
        (
            {"num_attention_heads": 32, "multi_query_group_num": 2, "kv_channels": 128,
             "hidden_size": 4096}, (32, 2, 128),
        ),
        ({"num_heads": 8, "d_kv": 64, "d_model": 1024}, (8, 8, 64)),
        ({"num_attention_heads": 7, "hidden_size": 100}, (7, 7, None)),
        (
            {"num_attention_heads": [8, 8], "num_key_value_heads": [2, 4], "hidden_size": 64},
            (8, None, 8),
        ),
        (
            {"thinker_config": {"text_config": {"num_attention_heads": 4, "hidden_size": 64}}},
            (4, 4, 16),
        ),
    ],
)  # fmt: skip
def test_the_words_of_other_model_types_are_known(config, expected):
    facts = facts_of(config)
    assert (facts.n_heads, facts.n_kv_heads, facts.head_dim) == expected


def test_gguf_metadata_of_latent_attention_and_of_experts():
    metadata = {
        "general.architecture": "deepseek2", "deepseek2.attention.head_count": 128,
        "deepseek2.attention.kv_lora_rank": 512, "deepseek2.attention.key_length": 576,
        "deepseek2.embedding_length": 7168, "deepseek2.expert_count": 256,
    }  # fmt: skip
    facts = facts_of(None, "gguf", metadata)
    assert (facts.head_dim, facts.n_experts, facts.n_kv_heads) == (None, 256, 128)
    layers = {**metadata, "deepseek2.attention.head_count_kv": (8, 4)}
    assert facts_of(None, "gguf", layers).n_kv_heads is None


def test_the_configuration_speaks_where_gguf_metadata_are_silent():
    config = {"model_type": "llama", "num_attention_heads": 4, "hidden_size": 64}
    for metadata in (None, {}, {"llama.attention.head_count": 8}):
        assert facts_of(config, "gguf", metadata) == ModelFacts("llama", "gguf", 4, 4, 16, 64)


def test_nothing_stated_is_nothing_known():
    assert facts_of(None) == ModelFacts()
    assert facts_of({}, "torch") == ModelFacts(format="torch")


_ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["hidden_size", "num_attention_heads", "head_dim", "text_config", "attn_config",
                 "quantization_config", "model_type", "multi_query", "block_configs", "x"]
            ), inner, max_size=5,
        )
    ),
    max_leaves=15,
)  # fmt: skip


@given(_ODD)
def test_odd_values_count_as_not_stated(value):
    config = (
        value if isinstance(value, dict) else {"num_attention_heads": value, "hidden_size": value}
    )
    metadata = {
        "general.architecture": value,
        "x.attention.head_count": value,
        "None.embedding_length": value,
    }
    for facts in (facts_of(config), facts_of(config, "gguf", metadata)):
        for number in (facts.n_heads, facts.n_kv_heads, facts.head_dim, facts.hidden):
            assert number is None or (type(number) is int and number > 0)
        assert isinstance(facts.quantisation, dict)

"""Names of tensors become places in a network; fused and stacked weights are told apart."""

from __future__ import annotations

import json
import tarfile
import time
import warnings
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage.weights.names import SCHEMES
from lineage.weights.names.scheme import Scheme
from lineage.weights.names.tree import find, grow, number
from lineage.weights.roles import Coverage, Fused, TensorKey, coverage, role_of

SHARED = Path(__file__).parents[2] / "shared" / "data" / "configs"


def key(role: str, layer: int = -1, expert: int = -1) -> TensorKey:
    return TensorKey(role, layer, expert)


def duplicates(names, model_type=None):
    """Names that share a key; all experts of a stacked weight are apart from a lone one."""
    found = defaultdict(list)
    for name in names:
        role = role_of(name, model_type)
        found[role.key, role.stacked].append(name)
    return [names for names in found.values() if len(names) > 1]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        # one decoder layer in its dialects
        (
            [
                "model.layers.3.self_attn.q_proj.weight",
                "layers.3.attention.wq.weight",
                "transformer.h.3.attn.q_proj.weight",
                "model.language_model.layers.3.self_attn.q_proj.weight",
                "language_model.model.layers.3.self_attn.q_proj.weight",
                "_orig_mod.module.base_model.model.model.layers.3.self_attn.q_proj.base_layer.weight",
                "model.layers.3._fsdp_wrapped_module.self_attn.q_proj.weight",
                "encoder.layer.3.attention.self.query.weight",
                "distilbert.transformer.layer.3.attention.q_lin.weight",
                "model.decoder.layers.3.self_attn.q_proj.weight",
                "dec.blk.3.attn_q.weight",
                "blk.3.attn_q.weight",
            ],
            key("q", 3),
        ),
        (["layers.0.mlp.experts.12.w1", "blk.0.ffn_gate.12.weight"], key("gate", 0, 12)),
        (["model.shared.weight", "shared.weight", "token_embd.weight"], key("embed")),
        # encoder and decoder
        (
            [
                "encoder.block.2.layer.0.SelfAttention.q.weight",
                "enc.blk.2.attn_q.weight",
                "model.encoder.layers.2.self_attn.q_proj.weight",
            ],
            key("encoder.q", 2),
        ),
        (
            [
                "decoder.block.2.layer.1.EncDecAttention.q.weight",
                "dec.blk.2.cross_attn_q.weight",
                "model.decoder.layers.2.encoder_attn.q_proj.weight",
            ],
            key("cross.q", 2),
        ),
        (["decoder.block.2.layer.2.DenseReluDense.wi_0.weight"], key("gate", 2)),
        (["encoder.block.2.layer.1.DenseReluDense.wi.weight"], key("encoder.up", 2)),
        # towers
        (
            [
                "vision_tower.vision_model.encoder.layers.4.mlp.fc1.weight",
                "vision_model.encoder.layers.4.mlp.fc1.weight",
                "model.vision_tower.encoder.layers.4.mlp.fc1.weight",
                "v.blk.4.ffn_up.weight",
            ],
            key("vision.up", 4),
        ),
        (["visual.merger.mlp.2.weight", "mm.2.weight"], key("projector.2")),
        (["model.visual.merger.linear_fc1.bias"], key("projector.linear_fc1.bias")),
        (
            ["model.connector.modality_projection.proj.weight"],
            key("projector.modality_projection.proj"),
        ),
        (["text_model.encoder.layers.4.mlp.fc1.weight"], key("up", 4)),
        (["model.audio_tower.layers.1.fc2.bias"], key("audio.down.bias", 1)),
        # experts in one tensor, shared experts, routers
        (
            ["model.layers.1.mlp.shared_experts.up_proj.weight", "blk.1.ffn_up_shexp.weight"],
            key("shared.up", 1),
        ),
        (
            ["model.layers.1.mlp.gate.e_score_correction_bias", "blk.1.exp_probs_b.bias"],
            key("router_correction.bias", 1),
        ),
        # state spaces
        (["backbone.layers.5.mixer.A_log", "blk.5.ssm_a"], key("ssm_a", 5)),
        (["model.layers.5.mamba.dt_proj.bias", "blk.5.ssm_dt.bias"], key("ssm_dt.bias", 5)),
    ],
)
def test_one_place_has_one_key_in_all_dialects(names, expected):
    for name in names:
        role = role_of(name)
        assert (name, role.key, role.known) == (name, expected, True)


@pytest.mark.parametrize(
    ("diffusers", "original", "expected"),
    [
        (
            "down_blocks.1.resnets.0.conv1.weight",
            "model.diffusion_model.input_blocks.4.0.in_layers.2.weight",
            key("unet.down_1.resnet_0.conv_1"),
        ),
        (
            "unet.down_blocks.2.attentions.1.transformer_blocks.7.attn2.to_k.weight",
            "model.diffusion_model.input_blocks.8.1.transformer_blocks.7.attn2.to_k.weight",
            key("unet.down_2.attn_1.cross.k", 7),
        ),
        (
            "down_blocks.0.downsamplers.0.conv.bias",
            "model.diffusion_model.input_blocks.3.0.op.bias",
            key("unet.down_0.sample.bias"),
        ),
        (
            "mid_block.resnets.1.time_emb_proj.weight",
            "model.diffusion_model.middle_block.2.emb_layers.1.weight",
            key("unet.mid.resnet_1.time"),
        ),
        (
            "up_blocks.3.resnets.2.conv_shortcut.weight",
            "model.diffusion_model.output_blocks.11.0.skip_connection.weight",
            key("unet.up_3.resnet_2.shortcut"),
        ),
        (
            "time_embedding.linear_2.weight",
            "model.diffusion_model.time_embed.2.weight",
            key("unet.time_2"),
        ),
        (
            "encoder.down_blocks.1.resnets.0.conv_shortcut.weight",
            "first_stage_model.encoder.down.1.block.0.nin_shortcut.weight",
            key("vae.encoder.down_1.resnet_0.shortcut"),
        ),
        (
            "decoder.up_blocks.0.resnets.2.norm1.weight",
            "first_stage_model.decoder.up.3.block.2.norm1.weight",
            key("vae.decoder.up_0.resnet_2.norm_1"),
        ),
        (
            "vae.decoder.mid_block.attentions.0.to_out.0.bias",
            "decoder.mid.attn_1.proj_out.bias",
            key("vae.decoder.mid.o.bias"),
        ),
        (
            "transformer_blocks.3.attn.norm_added_k.weight",
            "model.diffusion_model.double_blocks.3.txt_attn.norm.key_norm.scale",
            key("dit.context.k_norm", 3),
        ),
        (
            "single_transformer_blocks.9.proj_out.weight",
            "single_blocks.9.linear2.weight",
            key("dit.single.o_down", 9),
        ),
        (
            "transformer.transformer_blocks.5.ff_context.net.2.weight",
            "model.diffusion_model.joint_blocks.5.context_block.mlp.fc2.weight",
            key("dit.context.down", 5),
        ),
        (
            "time_text_embed.timestep_embedder.linear_1.weight",
            "time_in.in_layer.weight",
            key("dit.time_1"),
        ),
        (
            "text_encoder.text_model.encoder.layers.0.self_attn.v_proj.weight",
            "conditioner.embedders.0.transformer.text_model.encoder.layers.0.self_attn.v_proj.weight",
            key("text_encoder.v", 0),
        ),
    ],
)
def test_diffusion_models_meet_in_the_names_of_diffusers_and_in_the_first_ones(
    diffusers, original, expected
):
    assert (role_of(diffusers).key, role_of(original).key) == (expected, expected)
    assert role_of(diffusers).known
    assert role_of(original).known


def unet_names(levels=3, resnets=2, depth=2):
    """State dict of an SDXL-like UNet in both namings, written down from the module trees."""
    leaves = {
        "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
        "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
    }  # fmt: skip
    inner = ["norm", "proj_in", "proj_out"] + [
        f"transformer_blocks.{c}.{leaf}"
        for c in range(depth)
        for leaf in (
            "norm1", "norm2", "norm3", "ff.net.0.proj", "ff.net.2", "attn1.to_q", "attn1.to_k",
            "attn1.to_v", "attn1.to_out.0", "attn2.to_q", "attn2.to_k", "attn2.to_v",
            "attn2.to_out.0",
        )
    ]  # fmt: skip
    pairs = []
    for b in range(levels):
        for j in range(resnets):
            at = 1 + 3 * b + j
            pairs += [
                (f"down_blocks.{b}.resnets.{j}.{a}", f"input_blocks.{at}.0.{o}")
                for a, o in leaves.items()
            ]
            pairs += [
                (f"down_blocks.{b}.attentions.{j}.{a}", f"input_blocks.{at}.1.{a}") for a in inner
            ]
        for j in range(resnets + 1):
            at = 3 * b + j
            pairs += [
                (f"up_blocks.{b}.resnets.{j}.{a}", f"output_blocks.{at}.0.{o}")
                for a, o in leaves.items()
            ]
            pairs += [
                (f"up_blocks.{b}.attentions.{j}.{a}", f"output_blocks.{at}.1.{a}") for a in inner
            ]
    return [(f"{a}.weight", f"model.diffusion_model.{o}.weight") for a, o in pairs]


def test_every_weight_of_a_unet_has_a_key_of_its_own_in_both_namings():
    pairs = unet_names()
    assert [role_of(a) for a, _ in pairs] == [role_of(o) for _, o in pairs]
    assert coverage(a for a, _ in pairs) == Coverage(len(pairs), ())
    assert not duplicates(a for a, _ in pairs)


@pytest.mark.parametrize(
    ("name", "model_type", "roles", "arrangement", "transposed", "stacked"),
    [
        ("transformer.h.0.attn.c_attn.weight", None, "q k v", "concatenated", True, False),
        ("h.0.attn.c_attn.bias", None, "q.bias k.bias v.bias", "concatenated", False, False),
        ("transformer.h.0.attn.c_attn.weight", "gpt_bigcode", "q k v", "by_group", False, False),
        ("transformer.h.0.attn.c_attn.weight", "qwen", "q k v", "concatenated", False, False),
        ("model.layers.0.self_attn.qkv_proj.weight", "phi3", "q k v", "concatenated", False, False),
        ("model.layers.0.mlp.gate_up_proj.weight", None, "gate up", "concatenated", False, False),
        ("gpt_neox.layers.0.attention.query_key_value.weight", None, "q k v", "by_head", False,
         False),
        ("h.0.self_attention.query_key_value.bias", None, "q.bias k.bias v.bias", "by_head", False,
         False),
        ("transformer.h.0.self_attention.query_key_value.weight", "falcon", "q k v", "by_group",
         False, False),
        ("transformer.encoder.layers.0.self_attention.query_key_value.weight", None, "q k v",
         "concatenated", False, False),
        ("transformer.encoder.layers.0.mlp.dense_h_to_4h.weight", None, "gate up", "concatenated",
         False, False),
        ("model.layers.0.attention.wqkv.weight", None, "q k v", "by_group", False, False),
        ("model.layers.0.attention.query_key_value.weight", "bailing_moe", "q k v", "concatenated",
         False, False),
        ("transformer.blocks.0.attn.Wqkv.weight", None, "q k v", "concatenated", False, False),
        ("transformer.blocks.0.norm_attn_norm.attn.Wqkv.weight", None, "q k v", "concatenated",
         False, False),
        ("model.layers.0.attn.Wqkv.weight", None, "q k v", "concatenated", False, False),
        ("model.layers.0.mlp.Wi.weight", None, "gate up", "concatenated", False, False),
        ("deberta.encoder.layer.0.attention.self.in_proj.weight", "deberta", "q k v", "by_head",
         False, False),
        ("visual.blocks.0.attn.qkv.weight", None, "vision.q vision.k vision.v", "concatenated",
         False, False),
        ("vision_model.head.attention.in_proj_bias", None,
         "vision.pool.q.bias vision.pool.k.bias vision.pool.v.bias", "concatenated", False, False),
        ("model.layers.0.mlp.experts.gate_up_proj", None, "gate up", "concatenated", False, True),
        ("model.layers.0.mlp.experts.gate_up_proj", "gpt_oss", "gate up", "alternating", True,
         True),
        ("model.layers.0.mlp.experts.gate_up_proj_bias", "gpt_oss", "gate.bias up.bias",
         "alternating", False, True),
        ("model.layers.0.mlp.experts.gate_up_proj_blocks", "gpt-oss", "gate up", "alternating",
         False, True),
        ("model.layers.0.mlp.experts.gate_up_proj", "qwen3_vl_moe", "gate up", "concatenated", True,
         True),
        ("language_model.model.layers.0.feed_forward.experts.gate_up_proj", "llama4", "gate up",
         "concatenated", True, True),
        ("model.layers.0.block_sparse_moe.input_linear.weight", None, "gate up", "concatenated",
         False, True),
        ("blk.0.attn_qkv.weight", "gptneox", "q k v", "concatenated", False, False),
        ("blk.0.ffn_up.weight", "phi3", "gate up", "concatenated", False, False),
        ("blk.0.ffn_gate_up_exps.weight", None, "gate up", "concatenated", False, True),
        ("down_blocks.1.attentions.0.transformer_blocks.0.ff.net.0.proj.weight", None,
         "unet.down_1.attn_0.up unet.down_1.attn_0.gate", "concatenated", False, False),
        ("model.layers.0.self_attn.qkv_proj.lora_B.weight", None, "q.lora_b k.lora_b v.lora_b",
         "concatenated", False, False),
    ],
)  # fmt: skip
def test_fused_weights_tell_their_parts_and_how_they_lie(
    name, model_type, roles, arrangement, transposed, stacked
):
    role = role_of(name, model_type)
    assert role.known
    assert role.fused == Fused(tuple(roles.split()), arrangement)
    assert (role.transposed, role.stacked) == (transposed, stacked)


@pytest.mark.parametrize(
    ("name", "model_type"),
    [
        ("transformer.h.0.attn.qkv_proj.weight", "codegen"),  # an order of its own
        ("blk.0.attn_qkv.weight", "qwen3next"),  # a linear attention's, of other widths
        ("single_blocks.0.linear1.weight", None),  # four parts, not of one size
        ("model.layers.0.self_attn.qkv_proj.lora_A.weight", None),  # shared by all parts
        ("model.layers.0.self_attn.q_proj.weight", None),
    ],
)
def test_what_cannot_be_cut_is_left_whole(name, model_type):
    role = role_of(name, model_type)
    assert role.known
    assert role.fused is None


def test_one_name_means_what_its_model_type_says():
    norm = "model.layers.0.post_attention_layernorm.weight"
    assert role_of(norm).key == role_of(norm, "llama").key == key("ffn_norm", 0)
    assert role_of(norm, "gemma2").key == key("post_attn_norm", 0)
    assert role_of(norm, "gemma3_text").key == key("post_attn_norm", 0)
    before = "model.layers.0.pre_feedforward_layernorm.weight"
    assert role_of(before, "gemma2").key == role_of("blk.0.ffn_norm.weight", "gemma2").key
    assert role_of("model.decoder.embed_tokens.weight", "opt").key == key("embed")
    assert role_of("model.decoder.embed_tokens.weight", "bart").key == key("decoder.embed")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("transformer.h.0.attn.bias", key("buffer.mask", 0)),
        ("h.0.attn.masked_bias", key("buffer.masked_bias", 0)),
        ("gpt_neox.layers.1.attention.bias", key("buffer.mask", 1)),
        ("model.layers.2.self_attn.rotary_emb.inv_freq", key("buffer.inv_freq", 2)),
        ("bert.embeddings.position_ids", key("buffer.position_ids")),
        ("vision_model.embeddings.position_ids", key("buffer.vision.position_ids")),
        ("rope_freqs.weight", key("buffer.rope_freqs")),
    ],
)
def test_buffers_are_told_from_weights(name, expected):
    role = role_of(name)
    assert (role.key, role.known, role.key.is_buffer) == (expected, True, True)
    assert not role_of("transformer.h.0.attn.c_attn.bias").key.is_buffer


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight", "q.lora_a"),
        ("base_model.model.model.layers.1.self_attn.q_proj.lora_B.default.weight", "q.lora_b"),
        ("base_model.model.model.layers.1.self_attn.q_proj.lora_A.other.weight", "q.lora_a.other"),
        ("model.layers.1.self_attn.q_proj.lora_magnitude_vector", "q.lora_magnitude"),
        (
            "base_model.model.model.layers.1.self_attn.q_proj.lora_magnitude_vector.default.weight",
            "q.lora_magnitude",
        ),
        ("base_model.model.transformer.h.1.attn.c_attn.lora_B.weight", "qkv.lora_b"),
        ("blk.1.attn_q.weight.lora_a", "q.lora_a"),
        ("model.layers.1.self_attn.q_proj.lora_down.weight", "q.lora_a"),
        ("base_model.model.model.layers.1.mlp.down_proj.ia3_l", "down.ia3_l"),
        ("base_model.model.model.layers.1.self_attn.q_proj.hada_w1_a", "q.hada_w1_a"),
    ],
)
def test_factors_of_adapters_stand_by_the_weight_they_change(name, role):
    found = role_of(name)
    assert (found.key, found.known) == (key(role, 1), True)
    assert not found.transposed


def test_unknown_names_keep_their_shape_and_stay_apart():
    names = ["a.1.b.2.c", "a.1.b.3.c", "a.2.b.2.c", "block7.x", "block8.x", "a.01.b", "a.1.b", "b"]
    assert role_of("a.1.b.2.c").key == key("a.#.b.2.c", 1)
    assert role_of("block7.x").key == key("block#.x", 7)
    assert not duplicates(names)
    assert coverage([*names, "lm_head.weight"]) == Coverage(1, tuple(names))


@given(st.lists(st.text("ab_.#0123", min_size=1, max_size=12), unique=True, max_size=30))
def test_unknown_names_without_endings_never_share_a_key(names):
    unknown = [name for name in names if not role_of(name).known and "#" not in name]
    assert not duplicates(unknown)


@given(st.text(max_size=600))
def test_any_text_has_a_place(name):
    role = role_of(name)
    assert role.key.layer >= -1
    assert role == role_of(name)


@pytest.mark.parametrize(
    "name",
    [
        "model." * 100_000,
        "model.layers." + "0." * 50_000 + "weight",
        "encoder." * 60 + "layers.0.self_attn.q_proj.weight",
        "vision_tower.encoder." * 30 + "x",
        "0." * 63 + "0",
        "." * 500,
        "layers." + "9" * 400 + ".self_attn.q_proj.weight",
        "\x00" * 900,
        "layers.²." + "self_attn." * 80,
    ],
)
def test_hostile_names_cost_no_time_and_no_large_numbers(name):
    started = time.process_time()
    role = role_of(name)
    assert time.process_time() - started < 1  # a thousand times the usual; quadratic is minutes
    assert role.key.layer < 10**9


def test_endless_names_are_neither_kept_whole_nor_mixed_up():
    long = "model.layers.0." * 10_000
    keys = {role_of(long + end).key for end in "ab"}
    assert len(keys) == 2
    assert all(len(it.role) < 200 for it in keys)
    assert not role_of("\udcff" * 2_000).known
    deep = "layers.0." + "self_attn." * 62 + "q_proj"
    assert not role_of(deep).known


def test_numbers_have_one_spelling():
    assert [number(word) for word in ("0", "7", "123456789")] == [0, 7, 123_456_789]
    assert [number(word) for word in ("", "07", "1234567890", "²", "-1", "1a")] == [None] * 6


def test_two_schemes_that_disagree_on_a_path_are_refused():
    one = Scheme("one", outside={"a|b": "x"})
    tree = grow([one, Scheme("two", outside={"b": "y"})])
    assert find(tree, ["a"]).rule.role == "x"
    with pytest.raises(ValueError, match="b is both"):
        find(tree, ["b"])
    tree = grow([one, Scheme("two", outside={"b": "y"}, replaces=True)])
    assert [find(tree, [word]).rule.role for word in "ab"] == ["x", "y"]


def everything_under(node) -> int:
    """Lay out a whole tree; how many paths end in it."""
    here = node.branches
    below = [*here.words.values(), *([] if here.number is None else [here.number])]
    return (here.rule is not None) + sum(map(everything_under, below))


def test_no_two_declared_schemes_disagree():
    types = {model_type for scheme in SCHEMES for model_type in scheme.model_types}
    for model_type in sorted(types):
        own = [scheme for scheme in SCHEMES if model_type in scheme.model_types]
        assert everything_under(grow(own)) > 0
    general = grow(scheme for scheme in SCHEMES if not scheme.model_types)
    assert everything_under(general) > 50_000


def test_a_rule_holds_for_every_word_of_a_choice_and_for_no_other_combination():
    tree = grow([Scheme("one", ("x|y",), {"a|b.c": "r"}, {"b.d|{n}": "s_{n}"})])
    assert everything_under(tree) == 2 * 2 + 2
    for words in ("x.0.a.c", "y.7.b.c"):
        found = find(tree, words.split("."))
        assert (found.rule.role, found.numbers) == ("r", {"layer": int(words[2])})
    for words in ("x.a.c", "x.0.a", "x.0.a.d", "z.0.a.c", "b", "b.c", "x.0.a.c.c"):
        assert find(tree, words.split(".")) is None
    assert find(tree, ["b", "5"]).numbers == {"n": 5}


def test_a_declared_number_goes_before_any_number():
    tree = grow([Scheme("one", ("s",), {"0.x": "first", "{a}.x": "other_{a}"})])
    assert find(tree, ["s", "4", "0", "x"]).rule.role == "first"
    other = find(tree, ["s", "4", "2", "x"])
    assert (other.rule.role, other.numbers) == ("other_{a}", {"layer": 4, "a": 2})
    assert find(tree, ["s", "4", "2"]) is None


def test_every_scheme_has_a_title_and_says_something():
    assert all(scheme.title and (scheme.inside or scheme.outside) for scheme in SCHEMES)
    assert all(not scheme.inside or scheme.layers for scheme in SCHEMES)


# --- against gguf's own tables -------------------------------------------------------------------


def gguf_pairs():
    """(architecture, name on the Hub, name in GGUF) of layer 1, as the gguf package has them."""
    from gguf import get_tensor_name_map
    from gguf.constants import MODEL_ARCH, MODEL_ARCH_NAMES

    for arch in MODEL_ARCH:
        if arch is MODEL_ARCH.ARCTIC:
            continue  # its table changes the others' for the rest of the process
        for name, (_, stored) in get_tensor_name_map(arch, 2).mapping.items():
            if name != stored:
                yield MODEL_ARCH_NAMES[arch], name, stored


def as_stored(name: str, gguf_name: str) -> tuple[str, str]:
    """Both names with the endings that files have."""
    if "exp_probs_b" in gguf_name:
        return name if name.endswith("bias") else f"{name}_bias", f"{gguf_name}.bias"
    return name if name.endswith(".weight") else f"{name}.weight", f"{gguf_name}.weight"


# One table of gguf serves all architectures, so most of the pairs that disagree exist in no model:
# a name is listed beside what an architecture would call it if it had it.
NO_MODEL_HAS_BOTH = 0.93


def test_gguf_names_meet_the_names_they_were_converted_from():
    pytest.importorskip("gguf")
    pairs = [(arch, *as_stored(a, b)) for arch, a, b in gguf_pairs() if arch != "clip"]
    agree = sum(role_of(a, arch).key == role_of(b, arch).key for arch, a, b in pairs)
    print(f"{agree} of {len(pairs)} pairs agree")
    assert agree / len(pairs) > NO_MODEL_HAS_BOTH


def test_all_language_names_of_gguf_are_known_and_none_share_a_key():
    constants = pytest.importorskip("gguf.constants")
    unknown = set()
    for arch, tensors in constants.MODEL_TENSORS.items():
        model_type = constants.MODEL_ARCH_NAMES[arch]
        names = {constants.TENSOR_NAMES[it].format(bid=1) + ".weight" for it in tensors}
        if model_type in ("clip", "wavtokenizer-dec"):
            continue  # towers of many models in one list; no language model
        unknown |= set(coverage(names, model_type).unknown)
        if model_type != "grok":  # two generations name one norm in two ways
            assert (model_type, duplicates(names, model_type)) == (model_type, [])
    assert unknown == set()


# --- against real architectures ------------------------------------------------------------------

QUICK = (
    "gpt2", "gpt_neox", "opt", "bloom", "mpt", "falcon", "mamba", "mamba2", "t5", "bart",
    "deberta", "deberta-v2", "modernbert", "vit", "clip", "siglip", "whisper", "llava",
    "qwen2_vl", "gpt_oss", "mixtral", "deepseek_v2", "qwen2_moe", "bert", "roberta", "gemma2",
    "gemma3", "jamba", "albert", "distilbert", "phi3", "glm4", "olmo2", "gpt_bigcode",
    "starcoder2", "wav2vec2", "swin", "mllama",
)  # fmt: skip

IN_GGUF = {
    "gpt2": "gpt2", "gpt_neox": "gptneox", "bloom": "bloom", "mpt": "mpt", "falcon": "falcon",
    "mamba": "mamba", "mamba2": "mamba2", "t5": "t5", "modernbert": "modern-bert", "bert": "bert",
    "gpt_oss": "gpt-oss", "deepseek_v2": "deepseek2", "qwen2_moe": "qwen2moe", "gemma2": "gemma2",
    "jamba": "jamba", "phi3": "phi3", "glm4": "glm4", "olmo2": "olmo2", "starcoder2": "starcoder2",
    "mixtral": "llama",
}  # fmt: skip
"""Architectures of llama.cpp by model type."""


def state_names(config):
    """Names of the state dict of a model of `config`, which is built without memory."""
    import torch
    from transformers.models.auto import modeling_auto

    for kind in ("Seq2SeqLM", "ImageTextToText", "CausalLM", "MaskedLM", "PreTraining", ""):
        auto = getattr(modeling_auto, f"AutoModelFor{kind}" if kind else "AutoModel")
        if type(config) in auto._model_mapping:
            with torch.device("meta"):
                return list(auto.from_config(config).state_dict())
    raise LookupError(f"no model class for {type(config).__name__}")


def default_config(model_type):
    transformers = pytest.importorskip("transformers")
    transformers.logging.set_verbosity_error()
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CONFIG_MAPPING[model_type]()


@cache
def default_names(model_type):
    return state_names(default_config(model_type))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model_type", QUICK)
def test_every_tensor_of_an_architecture_is_known_and_has_a_key_of_its_own(model_type):
    names = default_names(model_type)
    assert coverage(names, model_type).unknown == ()
    assert duplicates(names, model_type) == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "model_type", ["vit_mae", "videomae", "moonshine", "vision-encoder-decoder", "layoutlmv3"]
)
def test_two_stacks_in_one_model_never_share_a_key(model_type):
    assert duplicates(default_names(model_type), model_type) == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("model_type", "arch"), sorted(IN_GGUF.items()))
def test_every_tensor_meets_the_gguf_tensor_that_it_is_converted_to(model_type, arch):
    gguf = pytest.importorskip("gguf")
    by_name = {name: value for value, name in gguf.MODEL_ARCH_NAMES.items()}
    table = gguf.get_tensor_name_map(by_name[arch], 3)
    # llama.cpp takes these off before it looks the name up
    front = {"bert": "bert.", "modernbert": "model."}.get(model_type, "")
    pairs = [
        (name, stored)
        for name in default_names(model_type)
        if (stored := table.get_name(name.removeprefix(front), (".weight", ".bias", "")))
    ]
    assert len(pairs) > 10
    for name, stored in pairs:
        place = role_of(name, model_type).key
        assert (name, place) == (name, role_of(stored, arch).key)


def shared_configs(archive):
    path = SHARED / archive
    if not path.exists():
        pytest.skip(f"no {path}")
    with tarfile.open(path) as tar:
        for member in tar:
            if member.isfile() and member.name.endswith(".json"):
                content = tar.extractfile(member)
                assert content is not None
                yield Path(member.name).name, json.load(content)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_tensor_of_the_hubs_large_models_is_known():
    transformers = pytest.importorskip("transformers")
    transformers.logging.set_verbosity_error()
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    built, n_names = 0, 0
    for name, config in shared_configs("model-configs.tar.gz"):
        config.pop("quantization_config", None)
        model_type = config.get("model_type")
        if name.endswith("hf_quant_config.json") or model_type not in CONFIG_MAPPING:
            continue
        names = state_names(CONFIG_MAPPING[model_type].from_dict(config))
        assert (name, coverage(names, model_type).unknown) == (name, ())
        assert (name, duplicates(names, model_type)) == (name, [])
        built, n_names = built + 1, n_names + len(names)
    print(f"{built} configurations built, {n_names} names, all known")
    assert built >= 79
    assert n_names > 75_000


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_most_tensors_of_all_architectures_of_transformers_are_known():
    transformers = pytest.importorskip("transformers")
    transformers.logging.set_verbosity_error()
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    counts: Counter[bool] = Counter()
    n_models = 0
    for model_type in sorted(CONFIG_MAPPING):
        try:
            names = state_names(CONFIG_MAPPING[model_type]())
        except Exception:  # parts that need a download, or that no default describes
            continue
        found = coverage(names, model_type)
        n_models += 1
        counts[True] += found.n_known
        counts[False] += len(found.unknown)
    print(f"{n_models} architectures, {counts[True]} of {counts.total()} names known")
    assert counts[True] / counts.total() > 0.7


@pytest.mark.filterwarnings("ignore")
def test_factors_of_the_adapter_configs_meet_the_weights_of_the_base():
    transformers = pytest.importorskip("transformers")
    shapes = transformers.LlamaConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=128,
    )  # fmt: skip
    base = {role_of(name).key for name in state_names(shapes)}
    checked = 0
    for name, config in shared_configs("adapter-configs.tar.gz"):
        targets = config.get("target_modules")
        if config.get("peft_type") not in ("LORA", "ADALORA") or not isinstance(targets, list):
            continue
        for target in targets:
            block = "self_attn" if target[0] in "qkvo" else "mlp"
            for factor, mark in (("lora_A", ".lora_a"), ("lora_B", ".lora_b")):
                stem = f"base_model.model.model.layers.1.{block}.{target}.{factor}"
                for ending in (".weight", ".default.weight", ""):
                    role = role_of(stem + ending)
                    assert role.known, name
                    assert role.key.role.endswith(mark)
                    assert key(role.key.role.removesuffix(mark), 1) in base
                    checked += 1
    assert checked

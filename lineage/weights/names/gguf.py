"""Names of GGUF files: llama.cpp's own, one set for all architectures."""

from __future__ import annotations

from lineage.weights.names.scheme import Rule, Scheme, stacked

__all__ = ["GGUF"]

_LAYER: dict[str, str | Rule] = {
    "attn_q": "q", "attn_k": "k", "attn_v": "v", "attn_output": "o", "attn_qkv": "qkv",
    "attn_norm": "attn_norm", "attn_norm_2": "attn_norm_2", "attn_q_norm": "q_norm",
    "attn_k_norm": "k_norm", "attn_output_norm": "attn_norm", "layer_output_norm": "ffn_norm",
    "attn_sub_norm": "attn_sub_norm", "ffn_sub_norm": "ffn_sub_norm",
    "post_attention_norm": "post_attn_norm", "post_ffw_norm": "post_ffn_norm",
    "post_ffw_norm_1": "post_ffn_norm_1", "post_ffw_norm_2": "post_ffn_norm_2",
    "pre_ffw_norm_2": "pre_ffn_norm_2", "ffn_norm": "ffn_norm", "ffn_norm_exps": "ffn_norm_experts",
    "ffn_gate": "gate", "ffn_up": "up", "ffn_down": "down", "ffn": "ffn_act",
    "ffn_gate_inp": "router", "ffn_gate_inp_shexp": "shared_router",
    "exp_probs_b": "router_correction",
    "ffn_gate_exps": stacked("gate"), "ffn_up_exps": stacked("up"),
    "ffn_down_exps": stacked("down"),
    "ffn_gate_up_exps": stacked("gate_up"),
    "ffn_gate.{e}": "gate", "ffn_up.{e}": "up", "ffn_down.{e}": "down",
    "ffn_gate_shexp": "shared.gate", "ffn_up_shexp": "shared.up", "ffn_down_shexp": "shared.down",
    "ffn_gate_chexps": stacked("chunk.gate"), "ffn_up_chexps": stacked("chunk.up"),
    "ffn_down_chexps": stacked("chunk.down"),
    "ffn_latent_down": "latent_down", "ffn_latent_up": "latent_up",
    "attn_q_a": "q_a", "attn_q_b": "q_b", "attn_q_a_norm": "q_a_norm", "attn_kv_a_mqa": "kv_a",
    "attn_kv_b": "kv_b", "attn_kv_a_norm": "kv_a_norm", "attn_k_b": "k_b", "attn_v_b": "v_b",
    "indexer.attn_q_b": "indexer.q_b", "indexer.attn_k": "indexer.k",
    "indexer.k_norm": "indexer.k_norm", "indexer.proj": "indexer.weights",
    "attn_gate": "attn_gate", "attn_sinks": "sinks", "attn_rot_embd": "buffer.inv_freq",
    "ssm_in": "ssm_in", "ssm_conv1d": "ssm_conv", "ssm_x": "ssm_x", "ssm_dt": "ssm_dt",
    "ssm_a": "ssm_a", "ssm_d": "ssm_d", "ssm_norm": "ssm_norm", "ssm_out": "ssm_out",
    "ssm_dt_norm": "ssm_dt_norm", "ssm_b_norm": "ssm_b_norm", "ssm_c_norm": "ssm_c_norm",
    "ssm_alpha": "ssm_alpha", "ssm_beta": "ssm_beta", "ssm_ba": "ssm_ba",
    "shortconv.conv": "conv", "shortconv.in_proj": "conv_in", "shortconv.out_proj": "conv_out",
    "nextn.eh_proj": "mtp.proj", "nextn.enorm": "mtp.embed_norm", "nextn.hnorm": "mtp.hidden_norm",
    "nextn.shared_head_head": "mtp.head", "nextn.shared_head_norm": "mtp.final_norm",
    "nextn.embed_tokens": "mtp.embed",
    "inp_gate": "per_layer_gate", "proj": "per_layer_proj", "post_norm": "per_layer_norm",
    "altup_correct_coef": "altup_correct", "altup_correct_scale": "altup_scale",
    "altup_predict_coef": "altup_predict", "altup_router": "altup_router",
    "altup_router_norm": "altup_router_norm", "laurel_l": "laurel_l", "laurel_r": "laurel_r",
    "laurel_post_norm": "laurel_norm", "layer_output_scale": "layer_scale",
    "ssm_conv1d_q": "ssm_conv_q", "ssm_conv1d_k": "ssm_conv_k", "ssm_conv1d_v": "ssm_conv_v",
    "ssm_f_a": "ssm_f_a", "ssm_f_b": "ssm_f_b", "ssm_g_a": "ssm_g_a", "ssm_g_b": "ssm_g_b",
    "vis_attn_qkv": "vision_expert.qkv", "vis_attn_output": "vision_expert.o",
    "vis_gate": "vision_expert.gate", "vis_up": "vision_expert.up",
    "vis_down": "vision_expert.down",
    "time_mix_key": "k", "time_mix_value": "v", "time_mix_receptance": "q", "time_mix_output": "o",
    "time_mix_gate": "attn_gate", "time_mix_ln": "time_ln", "time_mix_first": "time_first",
    "time_mix_decay": "time_decay", "time_mix_decay_w1": "time_decay_w1",
    "time_mix_decay_w2": "time_decay_w2", "time_mix_lerp_fused": "lerp_fused",
    "channel_mix_key": "up", "channel_mix_value": "down", "channel_mix_receptance": "gate",
    "channel_mix_lerp_k": "channel_lerp_k", "channel_mix_lerp_r": "channel_lerp_r",
}  # fmt: skip
_LAYER |= {
    f"time_mix_{it}": f"time_{it}"
    for it in (
        "w0", "w1", "w2", "a0", "a1", "a2", "v0", "v1", "v2", "g1", "g2", "k_k", "k_a", "r_k",
    )
}  # fmt: skip
_LAYER |= {f"time_mix_lerp_{it}": f"lerp_{it}" for it in "xkvrgw"}

_OUTSIDE: dict[str, str | Rule] = {
    "token_embd": "embed", "token_embd_norm": "embed_norm", "token_types": "token_type",
    "position_embd": "position", "output": "head", "output_norm": "final_norm",
    "rope_freqs": "buffer.rope_freqs", "rope_factors_long": "buffer.rope_long",
    "rope_factors_short": "buffer.rope_short",
    "per_layer_token_embd": "per_layer_embed", "per_layer_model_proj": "per_layer_model_proj",
    "per_layer_proj_norm": "per_layer_proj_norm", "altup_proj": "altup_proj",
    "altup_unembd_proj": "altup_unembed",
    "dense_2": "sentence_dense_2", "dense_3": "sentence_dense_3",
    "cls": "classifier_dense", "cls.output": "classifier", "cls.norm": "head_norm",
}  # fmt: skip

_ENCODER_DECODER: dict[str, str | Rule] = {
    "attn_o": "o", "attn_rel_b": "position_bias",
    "cross_attn_q": "cross.q", "cross_attn_k": "cross.k", "cross_attn_v": "cross.v",
    "cross_attn_o": "cross.o", "cross_attn_norm": "cross.attn_norm",
    "cross_attn_rel_b": "cross.position_bias",
}  # fmt: skip

_VISION: dict[str, str | Rule] = {
    "attn_out": "o", "attn_out_norm": "attn_sub_norm", "ln1": "attn_norm",
    "ln2": "ffn_norm", "ls1": "attn_layer_scale",
    "ls2": "ffn_layer_scale", "out_scale": "layer_scale", "attn_post_norm": "post_attn_norm",
    "ffn_post_norm": "post_ffn_norm",
}  # fmt: skip

_VISION_OUTSIDE: dict[str, str | Rule] = {
    "v.patch_embd": "vision.patch", "v.class_embd": "vision.class_token",
    "v.position_embd": "vision.position", "v.pre_ln": "vision.embed_norm",
    "v.post_ln": "vision.final_norm", "v.norm_embd": "vision.patch_norm",
    "a.position_embd": "audio.position", "a.post_ln": "audio.final_norm",
    "a.conv1d.{a}": "audio.conv_{a}", "v.std_bias": "vision.standardise.bias",
    "v.std_scale": "vision.standardise",
}  # fmt: skip

GGUF = (
    Scheme("decoders and encoders", ("blk",), _LAYER, _OUTSIDE),
    Scheme("encoder-decoder models", ("blk",), _ENCODER_DECODER),
    Scheme("vision and audio towers", ("blk",), _VISION, _VISION_OUTSIDE),
    Scheme(
        "gate and up under the name of up",
        ("blk",),
        {"ffn_up": "gate_up"},
        model_types=frozenset({"phi3", "glm4", "chatglm", "plamo2", "plamo3", "modern_bert",
                               "neo_bert"}),
    ),
    Scheme(
        "ModernBERT: its head is the language model's",
        outside={"cls": "head_dense"},
        model_types=frozenset({"modern_bert"}),
    ),
    Scheme(
        "NeoBERT: one stack, whose last norm is an encoder's",
        outside={"enc.output_norm": "final_norm"},
        model_types=frozenset({"neo_bert"}),
    ),
    Scheme(
        "linear attention under the name of attention",
        ("blk",),
        {"attn_qkv": Rule("ssm_qkv", arrangement="")},
        model_types=frozenset({"qwen35", "qwen35moe", "qwen3next"}),
    ),
    Scheme(
        "the norm before the feed-forward is named after attention",
        ("blk",),
        {"post_attention_norm": "ffn_norm"},
        model_types=frozenset({"glm4moe", "gpt_oss", "qwen35", "qwen35moe", "qwen3next"}),
    ),
    Scheme(
        "the norm before the feed-forward is a second one of attention",
        ("blk",),
        {"attn_norm_2": "ffn_norm"},
        model_types=frozenset({"rwkv6", "rwkv7", "rwkv6qwen2", "arwkv7", "cogvlm"}),
    ),
    Scheme(
        "norms before attention and feed-forward, and a third after the layer",
        ("blk",),
        {"layer_output_norm": "ffn_norm_2"},
        model_types=frozenset({"bailingmoe2"}),
    ),
    Scheme(
        "norms between attention and feed-forward of their own",
        ("blk",),
        {"attn_output_norm": "post_attn_norm", "layer_output_norm": "post_ffn_norm"},
        model_types=frozenset({"grok"}),
    ),
    Scheme(
        "DBRX: the norm before the experts stands after attention",
        ("blk",),
        {"attn_output_norm": "ffn_norm"},
        model_types=frozenset({"dbrx"}),
    ),
)  # fmt: skip

"""Blocks of layers in the PyTorch world: attention, feed-forward, experts, norms, state spaces.

One table serves decoders, encoders and vision towers alike, since their words are the same. What
means something else by one of these words stands in `lineage.weights.names.special`.
"""

from __future__ import annotations

from lineage.weights.names.scheme import Rule, Scheme, fused, stacked, under, within

__all__ = ["ATTENTION", "BLOCKS", "FEED_FORWARD"]

_STACKS = (
    "layers", "layer", "blocks", "block", "layers.layers", "resblocks", "decoder_layer",
    "encoder_layers", "encoder.layer", "decoder.layer", "transformer_encoder",
    "transformer.layer", "transformer.layers", "transformer.blocks", "transformer.resblocks", "h",
    "layers.h", "encoder.albert_layer_groups.{a}.albert_layers", "encoder_layer", "decoder_blocks",
)  # fmt: skip

_STAGES = (
    "stages.{s}.blocks", "stages.{s}.layers", "layers.{s}.blocks", "encoder.layers.{s}.blocks",
    "encoder.stages.{s}.layers", "encoder.stages.{s}.blocks",
)  # fmt: skip

ATTENTION: dict[str, str | Rule] = {
    "q_proj|wq|query|q_lin|to_q|query_proj|q|linear_q|q_proj_no_perm|q_dense": "q",
    "k_proj|wk|key|k_lin|to_k|key_proj|k|linear_k|k_proj_no_perm|k_dense": "k",
    "v_proj|wv|value|v_lin|to_v|value_proj|v|linear_v|v_dense": "v",
    "o_proj|wo|out_proj|out_lin|dense|proj|Wo|o|linear_out|projection|projection_layer": "o",
    "linear|linear_attn|output|out": "o",
    "output.dense|projection": "o", "to_out.0": "o",
    "q_proj.linear": "q", "k_proj.linear": "k", "v_proj.linear": "v", "o_proj.linear": "o",
    "q_bias": "q.bias", "k_bias": "k.bias", "v_bias": "v.bias",
    # several in one
    "qkv|qkv_proj|Wqkv|W_pack|in_proj|in_proj_weight|to_qkv|att_proj": "qkv",
    "in_proj_bias": "qkv.bias",
    "query_key_value": fused("qkv", "by_head"),
    "wqkv": fused("qkv", "by_group"),
    "kv_proj|to_kv|kv|Wkv|wkv|key_value": "kv",
    # norms of heads
    "q_norm|q_layernorm|query_layernorm|q_ln|norm_q|layer_norm_q|ln_q|query_norm": "q_norm",
    "k_norm|k_layernorm|key_layernorm|k_ln|norm_k|layer_norm_k|ln_k|key_norm": "k_norm",
    "v_norm": "v_norm",
    "inner_attn_ln|sub_norm|attn_sub_norm": "attn_sub_norm",
    # latent attention of DeepSeek
    "q_a_proj|wq_a": "q_a", "q_b_proj|wq_b": "q_b", "q_a_layernorm|q_a_norm": "q_a_norm",
    "kv_a_proj_with_mqa|wkv_a_with_mqa": "kv_a", "kv_b_proj|wkv_b": "kv_b",
    "kv_a_layernorm|kv_a_norm|kv_norm": "kv_a_norm", "k_b_proj": "k_b", "v_b_proj": "v_b",
    "o_a_proj|wo_a": "o_a", "o_b_proj|wo_b": "o_b",
    "indexer.wq_b|q_proj|q_b_proj": "indexer.q_b", "indexer.wk|k_proj": "indexer.k",
    "indexer.q_norm": "indexer.q_norm", "indexer.k_norm": "indexer.k_norm",
    "indexer.weights_proj": "indexer.weights",
    "compressor.kv_proj": "compressor.kv", "compressor.gate_proj": "compressor.gate",
    "compressor.kv_norm": "compressor.kv_norm", "compressor.position_bias": "compressor.position",
    "compressor.indexer.kv_proj": "indexer.kv", "compressor.indexer.gate_proj": "indexer.gate",
    "compressor.indexer.kv_norm": "indexer.kv_norm",
    "compressor.indexer.q_b_proj": "indexer.q_b",
    "compressor.indexer.position_bias": "indexer.position",
    "compressor.indexer.scorer.weights_proj": "indexer.weights",
    # gates, sinks, relative positions
    "gate_proj|g_proj|linear_gate": "attn_gate",
    "sinks|attention_sink_bias|attn_sink": "sinks",
    "relative_attention_bias|relative_position_bias_table": "position_bias",
    "relative_position_bias.relative_position_bias_table": "position_bias",
    "distance_embedding|linear_pos": "position_bias",
    "pos_proj|pos_key_proj": "pos_k", "pos_q_proj|pos_query_proj": "pos_q",
    "pos_bias_u": "pos_bias_u", "pos_bias_v": "pos_bias_v",
    "rel_pos_h": "rel_pos_h", "rel_pos_w": "rel_pos_w", "logit_scale": "logit_scale",
    # delta attention of Kimi, RWKV's mixing of time
    "q_conv1d": "ssm_conv_q", "k_conv1d": "ssm_conv_k", "v_conv1d": "ssm_conv_v",
    "f_a_proj": "ssm_f_a", "f_b_proj": "ssm_f_b", "g_a_proj": "ssm_g_a", "g_b_proj": "ssm_g_b",
    "b_proj": "ssm_beta", "dt_proj": "ssm_dt", "dt_bias": "ssm_dt.bias", "A_log": "ssm_a",
    "o_norm": "ssm_norm",
    "receptance": "q", "ln_x": "time_ln", "gate": "attn_gate",
    "time_maa_x": "lerp_x", "time_maa_k": "lerp_k", "time_maa_v": "lerp_v",
    "time_maa_r": "lerp_r", "time_maa_g": "lerp_g", "time_maa_w": "lerp_w",
    "time_maa_w1|w1": "time_w1", "time_maa_w2|w2": "time_w2", "w0": "time_w0",
    "time_faaaa|time_first": "time_first", "time_decay": "time_decay",
    "time_decay_w1": "time_decay_w1", "time_decay_w2": "time_decay_w2",
    "a0": "time_a0", "a1": "time_a1", "a2": "time_a2", "v0": "time_v0", "v1": "time_v1",
    "v2": "time_v2", "g1": "time_g1", "g2": "time_g2", "k_k": "time_k_k", "k_a": "time_k_a",
    "r_k": "time_r_k", "time_mix_key": "lerp_k", "time_mix_value": "lerp_v",
    "time_mix_receptance": "lerp_r",
    # CogVLM's experts by modality
    "language_expert_dense": "o", "language_expert_query_key_value": "qkv",
    "vision_expert_dense": "vision_expert.o", "vision_expert_query_key_value": "vision_expert.qkv",
    # not weights
    "rotary_emb|rotary_pos_emb.inv_freq": "buffer.inv_freq",
    "inner_attention.rope.freqs": "buffer.inv_freq",
    "rotary_emb.cos_cached": "buffer.cos", "rotary_emb.sin_cached": "buffer.sin",
    "relative_position_index": "buffer.relative_position_index",
    "relative_position_bias.relative_position_index": "buffer.relative_position_index",
    "bias": "buffer.mask", "masked_bias": "buffer.masked_bias",
    "embed_positions": "buffer.sinusoid",
}  # fmt: skip

FEED_FORWARD: dict[str, str | Rule] = {
    "gate_proj|w1|linear_1|c_fc_0|fc12|gated_layers_w|wi_0|language_gate": "gate",
    "up_proj|w3|linear_3|c_fc_1|fc11|gated_layers_v|wi_1": "up",
    "fc1|c_fc|linear_fc1|lin1|fc_in|dense_h_to_4h|wi|dense1|intermediate_dense|fc0|linear1": "up",
    "down_proj|w2|c_proj|fc2|linear_fc2|lin2|fc_out|dense_4h_to_h|wo|down_layer|dense2": "down",
    "output_dense|linear2|proj_2": "down",
    "gate_up_proj|w12|gate_and_up_proj|w13|Wi|proj_1": "gate_up",
    # ModernBERT's first half is activated, so it is the gate; Jina's first half is not
    "gated_layers|up_gated_layer": Rule("gate_up", parts=("up", "gate")),
    "Wo": "down",
    "up_proj.linear": "up", "gate_proj.linear": "gate", "down_proj.linear": "down",
    "ffn_layernorm|ffn_sub_norm": "ffn_sub_norm", "layernorm": "ffn_norm", "act": "ffn_act",
}  # fmt: skip

_EXPERT: dict[str, str | Rule] = {
    "w1|gate_proj|gate|linear": "gate", "w3|up_proj|up|linear_v|fc1": "up",
    "w2|down_proj|down|linear_1|fc2": "down", "gate_up_proj": "gate_up",
}  # fmt: skip

_ALL_EXPERTS: dict[str, str | Rule] = {
    "gate_up_proj|w13": stacked("gate_up"), "gate_up_proj_bias": stacked("gate_up.bias"),
    "gate_up_proj_blocks": stacked("gate_up"), "gate_up_proj_scales": stacked("gate_up.scale"),
    "w1|gate_proj|gate": stacked("gate"), "w3|up_proj|up": stacked("up"),
    "w2|down_proj|down": stacked("down"), "down_proj_bias": stacked("down.bias"),
    "down_proj_blocks": stacked("down"), "down_proj_scales": stacked("down.scale"),
}  # fmt: skip

_ROUTING: dict[str, str | Rule] = {
    "gate|router|primary_router": "router", "router.layer|gate|classifier|linear": "router",
    "gate.wg": "router", "shared_expert_gate": "shared_router",
    "gate|router.e_score_correction_bias|expert_bias": "router_correction.bias",
    "e_score_correction_bias|expert_bias|router_bias": "router_correction.bias",
    "moe_statics.e_score_correction_bias": "router_correction.bias",
    "output_linear": stacked("down"), "input_linear": stacked("gate_up"),
    "fc1_latent_proj": "latent_down", "fc2_latent_proj": "latent_up",
    "gate.tid2eid": "buffer.tid2eid",
}  # fmt: skip

_SHARED = within("shared.", FEED_FORWARD) | {
    "output_linear": "shared.down", "input_linear": "shared.gate_up",
}  # fmt: skip

_EXPERTS = (
    under(("experts.{e}",), _EXPERT)
    | under(("experts",), _ALL_EXPERTS)
    | under(("chunk_experts.{e}",), within("chunk.", _EXPERT))
    | under(("chunk_experts",), within("chunk.", _ALL_EXPERTS))
    | under(("shared_expert", "shared_experts", "shared_mlp", "share_expert"), _SHARED)
    | _ROUTING
)

_STATE_SPACE: dict[str, str | Rule] = {
    "in_proj|in_proj_qkvz": "ssm_in", "conv1d": "ssm_conv", "x_proj|bcdt_proj": "ssm_x",
    "dt_proj|dt": "ssm_dt", "dt_bias": "ssm_dt.bias", "A_log|A": "ssm_a", "D": "ssm_d",
    "norm": "ssm_norm", "out_proj": "ssm_out", "dt_layernorm|dt_norm": "ssm_dt_norm",
    "b_layernorm|B_layernorm|B_norm": "ssm_b_norm", "c_layernorm|C_layernorm|C_norm": "ssm_c_norm",
    "in_proj_qkv": fused("ssm_qkv", ""), "in_proj_z": "attn_gate", "in_proj_a": "ssm_alpha",
    "in_proj_b": "ssm_beta", "in_proj_ba": "ssm_ba",
}  # fmt: skip

_NORMS: dict[str, str | Rule] = {
    "input_layernorm|ln_1|ln1|attention_norm|attn_norm|norm1|norm_1|layer_norm1|norm": "attn_norm",
    "layernorm_before|self_attn_layer_norm|sa_layer_norm|ln|pre_mixer_norm": "attn_norm",
    "pre_attn_norm|operator_norm|attention_layernorm|pre_attention_layernorm": "attn_norm",
    "attn_layer_norm|temporal_pre_norm|attention_layer_norm|layer_norm": "attn_norm",
    "attention.output.LayerNorm": "attn_norm", "attention.LayerNorm": "attn_norm",
    "norm_attn_norm.norm_1": "attn_norm", "norm_attn_norm.norm_2": "ffn_norm",
    "post_attention_layernorm|ln_2|ln2|ffn_norm|norm2|norm_2|layer_norm2|ff_norm": "ffn_norm",
    "layernorm_after|final_layer_norm|output_layer_norm|pre_moe_norm|pre_ff_layernorm": "ffn_norm",
    "pre_moe_layernorm|pre_mlp_norm|feedforward_layernorm|mlp_norm": "ffn_norm",
    "channel_pre_norm|pre_mlp_layernorm|full_layer_layer_norm": "ffn_norm",
    "output.LayerNorm": "ffn_norm", "layer_norm_1": "attn_norm_2", "layer_norm_2": "ffn_norm",
    "residual_layernorm": "residual_norm", "encoder_layer_norm": "norm_3",
    "post_self_attn_layernorm|post_mixer_norm|post_attn_norm": "post_attn_norm",
    "pre_feedforward_layernorm": "pre_ffn_norm",
    "pre_feedforward_layernorm_2": "pre_ffn_norm_2",
    "post_feedforward_layernorm|post_mlp_layernorm|post_mlp_norm|post_moe_norm": "post_ffn_norm",
    "post_feedforward_layernorm_1": "post_ffn_norm_1",
    "post_feedforward_layernorm_2": "post_ffn_norm_2",
    "final_layernorm": "ffn_norm_2",
    "encoder_attn_layer_norm|cross_attention_layer_norm": "cross.attn_norm",
    "crossattention.output.LayerNorm": "cross.attn_norm",
    "norm3|layer_norm3": "norm_3",
    "lambda_1|gamma_1|ls1": "attn_layer_scale", "lambda_2|gamma_2|ls2": "ffn_layer_scale",
    "layer_scale1|ls1.lambda1|gamma": "attn_layer_scale",
    "layer_scale2|ls2.lambda1|gamma": "ffn_layer_scale",
    "layer_scalar": "layer_scale",
}  # fmt: skip

_GEMMA: dict[str, str | Rule] = {
    "per_layer_input_gate": "per_layer_gate", "per_layer_projection": "per_layer_proj",
    "post_per_layer_input_norm": "per_layer_norm",
    "altup.correction_coefs": "altup_correct", "altup.correct_output_scale": "altup_scale",
    "altup.prediction_coefs": "altup_predict", "altup.modality_router": "altup_router",
    "altup.router_norm": "altup_router_norm",
    "laurel.linear_left": "laurel_l", "laurel.linear_right": "laurel_r",
    "laurel.post_laurel_norm": "laurel_norm",
    "router.proj": "router", "router.scale": "router.input_scale",
    "router.per_expert_scale": "router.expert_scale",
}  # fmt: skip

_CONVNEXT: dict[str, str | Rule] = {
    "dwconv": "conv", "layernorm": "ffn_norm", "pwconv1": "up", "pwconv2": "down",
    "layer_scale_parameter": "ffn_layer_scale", "mlp.dwconv.dwconv": "ffn_conv",
    "attention.sequence_reduction.sequence_reduction": "reduction",
    "attention.sequence_reduction.layer_norm": "reduction_norm",
}  # fmt: skip

_CHANNEL_MIX: dict[str, str | Rule] = {
    "key": "up", "value": "down", "receptance": "gate", "time_maa_k|x_k": "channel_lerp_k",
    "time_maa_r": "channel_lerp_r",
}  # fmt: skip

_OTHERS: dict[str, str | Rule] = {
    "conv.conv": "conv", "conv.in_proj": "conv_in", "conv.out_proj": "conv_out",
    "eh_proj": "mtp.proj", "enorm": "mtp.embed_norm", "hnorm": "mtp.hidden_norm",
    "shared_head.head": "mtp.head", "shared_head.norm": "mtp.final_norm",
    "embed_tokens": "mtp.embed",
    "cross_attn_attn_gate": "cross.attn_gate", "cross_attn_mlp_gate": "cross.ffn_gate",
    "gate_attn": "attn_gate", "gate_ffn": "ffn_gate",
    "attn_hc.fn": "attn_hc.fn", "attn_hc.base": "attn_hc.base", "attn_hc.scale": "attn_hc.scale",
    "ffn_hc.fn": "ffn_hc.fn", "ffn_hc.base": "ffn_hc.base", "ffn_hc.scale": "ffn_hc.scale",
}  # fmt: skip

_SELF = (
    "self_attn", "attention", "attn", "self_attention", "attention.self", "attn.attention",
    "attention.attention", "attention.attn", "multi_head_attention",
    "self_attn.self_attn", "norm_attn_norm.attn",
)  # fmt: skip
_CROSS = (
    "encoder_attn", "cross_attn", "crossattention.self", "crossattention", "cross_attention",
    "crossattention.attention",
)  # fmt: skip
_MIXTURES = (
    "mlp", "block_sparse_moe", "feed_forward", "moe", "mixer", "ffn", "moe_block",
)  # fmt: skip

_PLAIN = (
    under(_SELF, ATTENTION)
    | under(_CROSS, within("cross.", ATTENTION))
    | under(("mlp", "ffn", "feed_forward", "mlp.language_mlp", "mixer"), FEED_FORWARD)
    | under(("residual_mlp",), FEED_FORWARD)
    | under(("feed_forward",), _CHANNEL_MIX)
    | {
        "attention.r_proj": "q",
        "fc1|linear1": "up",
        "intermediate.dense": "up",
        "ffn": "up",
        "w12": "gate_up",
    }
    | {"fc2|linear2|ffn_output": "down", "output.dense": "down"}
    | {"mixer.q_proj": "q", "mixer.k_proj": "k", "mixer.v_proj": "v", "mixer.o_proj": "o"}
    | {"q_proj": "q", "k_proj": "k", "v_proj": "v", "attn_out|wo": "o", "qkv|wqkv": "qkv"}
    | {"up_proj": "up", "ff_proj": "gate", "ff_out": "down"}
    | _NORMS
    | _GEMMA
    | _OTHERS
)

BLOCKS = (
    Scheme("attention, feed-forward and norms", _STACKS, _PLAIN),
    Scheme(
        "stacks of stacks: Swin, SegFormer, ConvNeXt",
        _STAGES,
        _PLAIN | _CONVNEXT,
        prefix="stage_{s}.",
    ),
    Scheme(
        "decoders of masked autoencoders", ("decoder.decoder_layers",), _PLAIN, prefix="decoder."
    ),
    Scheme(
        "mixtures of experts",
        _STACKS,
        under(_MIXTURES, _EXPERTS)
        | _EXPERTS
        | {"moe.gate_proj": stacked("gate"), "moe.up_proj": stacked("up")}
        | {"moe.down_proj": stacked("down")}
        | {"block_sparse_moe.up": "up", "block_sparse_moe.down": "down"}
        | under(("mlp.vision_mlp",), within("vision_expert.", FEED_FORWARD)),
    ),
    Scheme(
        "state spaces: Mamba, Jamba, Qwen3-Next",
        _STACKS,
        under(("mixer", "mamba", "linear_attn"), _STATE_SPACE)
        | {path: rule for path, rule in _STATE_SPACE.items() if path != "norm"}
        | {"mixer.q|q_norm": "q_norm", "mixer.k|k_norm": "k_norm", "mixer.qkv_proj": "qkv"},
    ),
)
"""Consulted in this order; no path has two roles."""

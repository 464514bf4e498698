"""Where a family means something else by the words of the general tables.

Families that share a path with others are told apart by the model type; the rest have paths of
their own (`transformer.h` is GPT-2's).
"""

from __future__ import annotations

from lineage.weights.names.scheme import Rule, Scheme, columns, fused, stacked, under, within

__all__ = ["SPECIAL"]

_T5_ATTENTION: dict[str, str | Rule] = {
    "q": "q", "k": "k", "v": "v", "o": "o", "relative_attention_bias": "position_bias",
}  # fmt: skip
_T5_FEED_FORWARD: dict[str, str | Rule] = {
    "wi|wi_1": "up", "wi_0": "gate", "wo": "down",
}  # fmt: skip

_T5 = (
    Scheme(
        "T5: encoder",
        ("encoder.block",),
        under(("layer.0.SelfAttention",), _T5_ATTENTION)
        | under(("layer.1.DenseReluDense",), _T5_FEED_FORWARD)
        | {"layer.0.layer_norm": "attn_norm", "layer.1.layer_norm": "ffn_norm"},
        {"encoder.final_layer_norm": "final_norm", "encoder.embed_tokens": "embed"},
        prefix="encoder.",
    ),
    Scheme(
        "T5: decoder",
        ("decoder.block",),
        under(("layer.0.SelfAttention",), _T5_ATTENTION)
        | under(("layer.1.EncDecAttention",), within("cross.", _T5_ATTENTION))
        | under(("layer.2.DenseReluDense",), _T5_FEED_FORWARD)
        | {"layer.0.layer_norm": "attn_norm", "layer.1.layer_norm": "cross.attn_norm"}
        | {"layer.2.layer_norm": "ffn_norm"},
        {"decoder.final_layer_norm": "final_norm"},
    ),
)

_GPT2: dict[str, str | Rule] = {
    "attn.c_attn": columns("qkv"), "attn.c_proj": columns("o"),
    "mlp.c_fc": columns("up"), "mlp.c_proj": columns("down"), "mlp.c_fc2": columns("gate"),
    "crossattention.c_attn": columns("cross.kv"), "crossattention.q_attn": columns("cross.q"),
    "crossattention.c_proj": columns("cross.o"), "ln_cross_attn": "cross.attn_norm",
    # Qwen: the first branch stays linear, the second is activated
    "mlp.w1": "up", "mlp.w2": "gate",
    # CodeGen: queries, values and keys in four shares, of which no arrangement here speaks
    "attn.qkv_proj": fused("qkv", ""),
    "mixer.Wqkv": "qkv", "mixer.out_proj": "o",
    "ln_mlp": "attn_norm", "ln_attn": "attn_norm_2",
}  # fmt: skip

_GROWN_FROM_GPT2 = (
    Scheme("GPT-2, whose matrices are stored as columns", ("h",), _GPT2, replaces=True),
    Scheme(
        "names of GPT-2, matrices as rows",
        ("h",),
        {
            "attn.c_attn": "qkv", "attn.c_proj": "o", "mlp.c_fc": "up", "mlp.c_proj": "down",
            "mlp.c_fc_0": "gate", "mlp.c_fc_1": "up",
        },
        model_types=frozenset({"qwen", "gpt_neo", "exaone", "codeshell", "refact"}),
    ),
    Scheme(
        "StarCoder: names of GPT-2, queries in groups",
        ("h",),
        {
            "attn.c_attn": fused("qkv", "by_group"), "attn.c_proj": "o",
            "mlp.c_fc": "up", "mlp.c_proj": "down",
        },
        model_types=frozenset({"gpt_bigcode", "starcoder"}),
    ),
)  # fmt: skip

_BY_GROUP = Scheme(
    "Falcon: one group (7B), several (40B) or one a head (RW)",
    ("h",),
    {"self_attention.query_key_value": fused("qkv", "by_group")},
    model_types=frozenset({"falcon", "refinedweb", "refinedwebmodel"}),
)

_CHATGLM = Scheme(
    "ChatGLM 2 and 3, GLM-4: a decoder called encoder",
    ("encoder.layers",),
    {
        "self_attention.query_key_value": "qkv", "self_attention.dense": "o",
        "mlp.dense_h_to_4h": "gate_up", "mlp.dense_4h_to_h": "down",
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
        "self_attention.q_layernorm": "q_norm", "self_attention.k_layernorm": "k_norm",
        "self_attention.rotary_emb.inv_freq": "buffer.rope_freqs",
    },
    {
        "encoder.final_layernorm": "final_norm", "embedding.word_embeddings": "embed",
        "rotary_pos_emb.inv_freq": "buffer.rope_freqs",
    },
)  # fmt: skip

_NOMIC = Scheme(
    "Nomic and Jina encoders",
    ("encoder.layers",),
    {
        "attn|mixer.Wqkv": "qkv", "attn|mixer.out_proj": "o", "norm1": "attn_norm",
        "norm2": "ffn_norm", "mlp.fc11|fc1": "up", "mlp.fc12": "gate", "mlp.fc2": "down",
        "mlp.router.layer": "router", "mlp.experts.mlp.w1": stacked("up"),
        "mlp.experts.mlp.w2": stacked("down", transposed=True),
        "mlp.experts.bias": "down.bias",
    },
    model_types=frozenset({"nomic_bert", "nomic_bert_moe", "jina_bert_v3"}),
)  # fmt: skip

_DBRX = Scheme(
    "DBRX: the rows of all experts one after the other",
    ("blocks",),
    {
        "ffn.experts.mlp.w1": stacked("gate"), "ffn.experts.mlp.v1": stacked("up"),
        "ffn.experts.mlp.w2": stacked("down", transposed=True), "ffn.router.layer": "router",
    },
)  # fmt: skip

_GPT_OSS = Scheme(
    "gpt-oss: gate and up units in turn, as columns unless packed",
    ("layers",),
    {
        "mlp.experts.gate_up_proj":
            stacked("gate_up", transposed=True, arrangement="alternating"),
        "mlp.experts.gate_up_proj_bias": stacked("gate_up.bias", arrangement="alternating"),
        "mlp.experts.gate_up_proj_blocks": stacked("gate_up", arrangement="alternating"),
        "mlp.experts.down_proj": stacked("down", transposed=True),
    },
    model_types=frozenset({"gpt_oss"}),
)  # fmt: skip

_COLUMN_EXPERTS = (
    Scheme(
        "Llama 4: experts as columns",
        ("layers",),
        {
            "feed_forward.experts.gate_up_proj": stacked("gate_up", transposed=True),
            "feed_forward.experts.down_proj": stacked("down", transposed=True),
        },
        replaces=True,
    ),
    Scheme(
        "Qwen3-VL: experts as columns",
        ("layers",),
        {
            "mlp.experts.gate_up_proj": stacked("gate_up", transposed=True),
            "mlp.experts.down_proj": stacked("down", transposed=True),
        },
        model_types=frozenset({"qwen3_vl_moe"}),
    ),
)

_NORMS_AFTER = Scheme(
    "norms after attention and feed-forward as well as before, or instead",
    ("layers",),
    {
        "post_attention_layernorm": "post_attn_norm",
        "pre_feedforward_layernorm|pre_mlp_layernorm": "ffn_norm",
    },
    model_types=frozenset({
        "gemma2", "gemma3", "gemma3n", "gemma4", "olmo2", "olmo3", "olmo_hybrid", "exaone4",
        "afmoe", "gemma_embedding", "embeddinggemma", "olmo3_sink", "flex_olmo",
        "t5gemma", "t5gemma2", "gemma3_vision", "gemma3n_vision", "vaultgemma",
    }),
)  # fmt: skip

_SEQUENCE_TO_SEQUENCE = Scheme(
    "encoder and decoder share one embedding, which is stored a third time",
    outside={"decoder|text_decoder.embed_tokens": "decoder.embed"},
    model_types=frozenset({
        "t5", "mt5", "umt5", "longt5", "switch_transformers", "bart", "mbart", "pegasus",
        "m2m_100", "marian", "plbart", "led", "blenderbot", "blenderbot_small", "bigbird_pegasus",
        "nllb_moe", "florence2", "pegasus_x", "prophetnet", "mvp", "seamless_m4t", "udop",
        "pop2piano", "fsmt", "seamless_m4t_v2",
    }),
)  # fmt: skip

_MOONVIT = Scheme(
    "MoonViT of Kimi: counted from naught",
    ("encoder.blocks",),
    {
        "norm0": "attn_norm", "norm1": "ffn_norm", "mlp.fc0": "up", "mlp.fc1": "down",
        "wqkv": "qkv", "wq": "q", "wk": "k", "wv": "v", "wo": "o",
    },
)  # fmt: skip

_OTHERS = (
    Scheme(
        "DeBERTa: three in one, head by head",
        ("encoder.layer",),
        {"attention.self.in_proj": fused("qkv", "by_head")},
        model_types=frozenset({"deberta"}),
    ),
    Scheme(
        "Bailing: names of NeoX, parts one after the other",
        ("layers",),
        {"attention.query_key_value": "qkv"},
        model_types=frozenset({"bailing_moe", "bailing_moe_v2", "bailingmoe", "bailingmoe2",
                               "bailing_moe_linear"}),
    ),
    Scheme(
        "OLMo's first names: the second half is activated",
        ("blocks", "transformer.blocks"),
        {"ff_proj": Rule("gate_up", parts=("up", "gate"))},
        model_types=frozenset({"olmo", "hf_olmo"}),
    ),
    Scheme(
        "LayoutLMv3: places of words and of patches",
        outside={"pos_embed": "patch_position"},
        model_types=frozenset({"layoutlmv3"}),
    ),
    Scheme(
        "Moonshine: an encoder with the names of ChatGLM's decoder",
        ("encoder.layers",),
        {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"},
        prefix="encoder.",
        model_types=frozenset({"moonshine"}),
    ),
    Scheme(
        "Arctic: a dense branch beside the experts, with a norm each",
        ("layers",),
        {"residual_layernorm": "ffn_norm", "post_attention_layernorm": "ffn_norm_experts"},
        model_types=frozenset({"arctic"}),
    ),
    Scheme(
        "NeoBERT: the first of the feed-forward's matrices is fused",
        ("transformer_encoder",),
        {"ffn.w3": "down"},
        replaces=True,
    ),
    Scheme(
        "Grok",
        ("decoder_layer",),
        {
            "rms_norm": "attn_norm", "rms_norm_1": "post_attn_norm", "rms_norm_2": "ffn_norm",
            "rms_norm_3": "post_ffn_norm", "router": "router",
            "moe.{e}.linear": "gate", "moe.{e}.linear_v": "up", "moe.{e}.linear_1": "down",
            "moe.linear": stacked("gate"), "moe.linear_v": stacked("up"),
            "moe.linear_1": stacked("down"),
        },
    ),
)  # fmt: skip

SPECIAL = (
    *_T5, *_GROWN_FROM_GPT2, _BY_GROUP, _CHATGLM, _NOMIC, _DBRX, _GPT_OSS, *_COLUMN_EXPERTS,
    _NORMS_AFTER, _SEQUENCE_TO_SEQUENCE, _MOONVIT, *_OTHERS,
)  # fmt: skip

"""What stands before and after the path of a name: wrappers, towers, endings."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["ADAPTED", "ENDINGS", "ENTRANCES", "OPEN_TOWERS", "SINGLE", "TOWERS", "WRAPPERS"]

WRAPPERS = frozenset({
    "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module",
    "_flat_param", "base_layer", "inner_model", "orig_module",
})  # fmt: skip
"""Words that training tools put anywhere into a name."""

ENTRANCES = frozenset({
    "model", "module", "transformer", "base_model", "language_model", "llm", "backbone",
    "text_decoder", "lm", "gpt_neox", "thinker", "state_dict", "ema", "llm_model", "net",
    "base_model_prefix", "causal_lm", "generator", "student", "text", "vlm", "rwkv",
})  # fmt: skip
"""Words at the beginning that say nothing about the place, in any order."""

SINGLE = frozenset({
    "albert", "audio_spectrogram_transformer", "beit", "bert", "big_bird", "camembert", "canine",
    "clip", "convbert", "data2vec_audio", "data2vec_text", "data2vec_vision", "deberta", "deit",
    "dinov2", "dinov3", "distilbert", "electra", "ernie", "esm", "eurobert", "fnet", "funnel",
    "git", "gpt2", "hubert", "ibert", "layoutlm", "layoutlmv2", "layoutlmv3", "lilt",
    "longformer", "luke", "markuplm", "mega", "megatron_bert", "mobilebert", "mpnet", "mra",
    "new", "nezha", "nomic_bert", "nystromformer", "rembert", "roberta", "roformer", "sew",
    "sew_d", "splinter", "squeezebert", "text_model", "timesformer", "timm_model", "unispeech",
    "unispeech_sat", "videomae", "vit", "vivit", "wav2vec2", "wav2vec2_bert",
    "wav2vec2_conformer", "wavlm", "xlm_roberta", "xmod", "yolos", "yoso",
})  # fmt: skip
"""Names of models with one stack, in which ``encoder`` says nothing either."""

TOWERS: Mapping[str, str] = {
    "encoder": "encoder.", "enc": "encoder.",
    "decoder": "", "dec": "",
    "vision_tower": "vision.", "vision_model": "vision.", "visual": "vision.", "v": "vision.",
    "vision_encoder": "vision.", "visual_encoder": "vision.", "image_encoder": "vision.",
    "vision": "vision.", "vpm": "vision.", "visual_model": "vision.", "vision_backbone": "vision.",
    "radio_model": "vision.", "siglip2": "vision.", "sam_model": "vision.sam.",
    "image_tower": "vision.", "vision_embed_tokens": "vision.",
    "audio_tower": "audio.", "audio_model": "audio.", "audio_encoder": "audio.", "a": "audio.",
    "speech_encoder": "audio.", "apm": "audio.", "audio": "audio.",
    "mtp": "mtp.", "mtp_block": "mtp.", "talker": "talker.", "token2wav": "token2wav.",
    "text_encoder": "text_encoder.", "text_encoder_2": "text_encoder_2.",
    "text_encoder_3": "text_encoder_3.", "cond_stage_model": "text_encoder.",
    "question_encoder": "question.", "ctx_encoder": "context.",
    "unet": "", "vae": "", "first_stage_model": "", "diffusion_model": "",
    "global_transformer": "global.", "controlnet": "controlnet.",
    "conditioner": "", "embedders.0": "text_encoder.", "embedders.1": "text_encoder_2.",
}  # fmt: skip
"""Words, or two of them, that lead into one of a model's stacks, and the prefix of roles there."""

OPEN_TOWERS: Mapping[str, str] = {
    "multi_modal_projector": "projector.", "mm_projector": "projector.", "mlp1": "projector.",
    "merger": "projector.", "connector": "projector.", "aligner": "projector.",
    "deepstack_merger_list": "projector.deepstack.", "vision_adapter": "projector.",
    "audio_projector": "projector.audio.", "embed_vision": "projector.",
    "embed_audio": "projector.audio.", "audio_adapter": "projector.audio.",
    "resampler": "resampler.", "perceiver_resampler": "resampler.", "qformer": "qformer.",
    "image_newline": "projector.newline", "mm": "projector.", "linear_proj": "projector.",
    "modality_projection": "projector.",
}  # fmt: skip
"""Words that lead from one stack into another: what follows is kept as it is named."""

ENDINGS: Mapping[str, str] = {
    "weight": "", "bias": ".bias", "gamma": "", "beta": ".bias", "kernel": "", "g": "",
    "weight_scale": ".scale", "qscale": ".scale", "weight_scale_inv": ".scale",
    "weight_scale_2": ".scale_2", "input_scale": ".input_scale", "k_scale": ".k_scale",
    "v_scale": ".v_scale", "activation_scale": ".input_scale", "input_global_scale": ".input_scale",
    "weight_global_scale": ".scale_2", "weight_zero_point": ".zero_point",
    "running_mean": ".running_mean", "running_var": ".running_var",
    "weight_g": ".weight_g", "weight_v": ".weight_v",
    "in_proj_weight": "", "in_proj_bias": ".bias",
}  # fmt: skip
"""Last words and what they add to the role."""

_OTHER_FACTORS = (
    "glora_A", "glora_B", "glora_C", "glora_D", "glora_E", "delora_w_norm", "tinylora_A",
    "tinylora_B", "tinylora_P", "supertuning_indices",
    "adamss_A", "adamss_B", "beft_bias", "boft_R", "boft_s", "c3a_kernel", "deft_P", "deft_R",
    "fourierft_spectrum", "frod_lambda_l", "frod_lambda_s_values", "gralora_A", "gralora_B",
    "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2", "hra_u", "ia3_l",
    "ln_tuning_layers", "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b",
    "lokr_t2", "miss_block", "pvera_lambda_b", "pvera_lambda_d", "randlora_lambda",
    "randlora_gamma", "randlora_A", "randlora_B", "shira_weight", "supertuning_values",
    "supertuning_lora_A", "supertuning_lora_B", "tinylora_v", "trainable_tokens_delta",
    "unilora_theta_d", "vblora_logits_A", "vblora_logits_B", "vblora_logits_A_topk_indices",
    "vblora_logits_B_topk_indices", "vera_lambda_b", "vera_lambda_d", "vera_A", "vera_B",
    "waveft_spectrum", "hira_A", "hira_B", "hira_embedding_A", "hira_embedding_B", "lily_A",
    "lily_B", "lily_router", "oft_R", "oft_r", "psoft_R", "peanut_A", "peanut_B",
    "peanut_encoders", "peanut_decoders", "road_theta", "road_alpha", "osf_svd_params",
    "delora_A", "delora_B", "delora_lambda", "lora_C", "lora_D",
)  # fmt: skip

ADAPTED: Mapping[str, str] = {
    "lora_A": ".lora_a", "lora_B": ".lora_b", "lora_a": ".lora_a", "lora_b": ".lora_b",
    "lora_down": ".lora_a", "lora_up": ".lora_b", "lora_mid": ".lora_mid",
    "lora_embedding_A": ".lora_a", "lora_embedding_B": ".lora_b",
    "lora_magnitude_vector": ".lora_magnitude", "dora_scale": ".lora_magnitude",
    "lora_E": ".lora_e", "alpha": ".lora_alpha",
    **{factor: f".{factor.lower()}" for factor in _OTHER_FACTORS},
}  # fmt: skip
"""Factors of adapters; a word between them and the ending is the adapter's name."""

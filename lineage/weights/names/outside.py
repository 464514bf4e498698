"""Weights that belong to no layer: embeddings, patches, heads, last norms, poolers."""

from __future__ import annotations

from lineage.weights.names.scheme import Rule, Scheme

__all__ = ["OUTSIDE"]

_EMBEDDINGS: dict[str, str | Rule] = {
    "embed_tokens|wte|word_embeddings|tok_embeddings|embed_in|shared|in_out_embed": "embed",
    "embedding|token_embeddings|token_embedding|embeddings|embed": "embed",
    "embeddings.word_embeddings|tok_embeddings|token_embedding": "embed",
    "embedding.word_embeddings": "embed", "embd.wte": "embed",
    "wpe|positional_embedding|position_embedding|position_embeddings|embed_positions": "position",
    "pos_embed|pos_embedding|positions_embed|positional_embedding_vlm": "position",
    "embeddings.position_embeddings|position_embedding": "position",
    "patch_embed.pos_emb": "position", "patch_embed.pos_emb.position_embeddings": "position",
    "patch_embedder.position_embedding_table": "position",
    "patch_embedding.position_embedding": "position",
    "gated_positional_embedding.embedding": "position",
    "embeddings.token_type_embeddings": "token_type",
    "embeddings.LayerNorm|norm|layer_norm|layernorm": "embed_norm",
    "word_embeddings_layernorm|emb_ln|layernorm_embedding|embedding_norm": "embed_norm",
    "embed_tokens.embed_norm": "embed_norm",
    "pre_layrnorm|pre_layernorm|ln_pre|layernorm_pre": "embed_norm",
    "rel_embeddings": "relative_position", "encoder.rel_embeddings": "relative_position",
    "encoder.relative_attention_bias": "relative_position",
    "std_bias": "standardise.bias", "std_scale": "standardise",
    "downsampler1": "downsample_1", "downsampler2": "downsample_2",
    "embed_tokens_per_layer": "per_layer_embed",
    "per_layer_model_projection": "per_layer_model_proj",
    "per_layer_projection_norm": "per_layer_proj_norm",
    "embed_positions.weights": "buffer.sinusoid", "pre_ln": "embed_norm",
    "prompt_embeddings": "prompt",
    "layers|blocks.0.pre_ln|pre_norm": "embed_norm",
    "altup_projections": "altup_proj", "altup_unembed_projections": "altup_unembed",
    "altup_projections.{a}": "altup_proj.{a}",
    "altup_unembed_projections.{a}": "altup_unembed.{a}",
    "encoder.embedding_hidden_mapping_in": "embed_proj", "embeddings_project": "embed_proj",
    "decoder.project_in": "embed_proj", "decoder.project_out": "head_proj",
}  # fmt: skip

_PATCHES: dict[str, str | Rule] = {
    "embeddings.patch_embedding|patch_embeddings|proj": "patch",
    "embeddings.patch_embeddings.projection": "patch",
    "patch_embed|patch_embedding.proj|linear": "patch", "patch_embed.projection": "patch",
    "patch_embedder.input_proj": "patch", "patch_conv|patch_embedding": "patch",
    "patch_embed.patchifier.proj": "patch",
    "embeddings.class_embedding|cls_token": "class_token",
    "class_embedding|cls_token": "class_token", "patch_embedding.cls_embedding": "class_token",
    "embeddings|embed.mask_token": "mask_token", "mask_token": "mask_token",
    "embeddings.distillation_token": "distillation_token", "dist_token": "distillation_token",
    "embeddings.register_tokens": "register_tokens", "reg_token": "register_tokens",
    "stages.{s}.patch_embeddings.proj": "stage_{s}.patch",
    "stages.{s}.patch_embeddings.layer_norm": "stage_{s}.patch_norm",
    "stages.{s}.layer_norm": "stage_{s}.final_norm",
    "layers.{s}.downsample.reduction": "stage_{s}.downsample",
    "layers.{s}.downsample.norm": "stage_{s}.downsample_norm",
    "encoder.layers.{s}.downsample.reduction": "stage_{s}.downsample",
    "encoder.layers.{s}.downsample.norm": "stage_{s}.downsample_norm",
    "stages.{s}.downsampling_layer.{b}": "stage_{s}.downsample_{b}",
    "encoder.stages.{s}.downsampling_layer.{b}": "stage_{s}.downsample_{b}",
    "gated_positional_embedding.gate": "position_gate",
    "gated_positional_embedding.tile_embedding": "tile_position",
    "pre_tile_positional_embedding.gate": "pre_tile_gate",
    "pre_tile_positional_embedding.embedding": "pre_tile_position",
    "post_tile_positional_embedding.gate": "post_tile_gate",
    "post_tile_positional_embedding.embedding": "post_tile_position",
    "embeddings.norm_pre": "embed_norm", "patch_embed.norm": "patch_norm",
}  # fmt: skip

_HEADS: dict[str, str | Rule] = {
    "lm_head|embed_out|output|output_layer|word_embeddings_for_head|head|proj_out": "head",
    "lm_head.linear|decoder|out": "head", "head.out|decoder": "head", "decoder": "head",
    "cls.predictions.decoder": "head", "cls.predictions.bias": "logits.bias",
    "predictions.decoder": "head", "predictions.bias": "logits.bias",
    "ff_out": "head", "generator_lm_head": "head",
    "generator_predictions.dense": "head_dense", "generator_predictions.LayerNorm": "head_norm",
    "discriminator_predictions.dense": "head_dense",
    "discriminator_predictions.dense_prediction": "head",
    "dense_2_out": "sentence_dense_2", "dense_3_out": "sentence_dense_3",
    "dense": "classifier_dense",
    "hc_head.hc_fn": "head_hc.fn", "hc_head.hc_base": "head_hc.base",
    "hc_head.hc_scale": "head_hc.scale",
    "lm_head.decoder.bias": "head_decoder.bias", "vocab_projector": "head",
    "final_logits_bias": "logits.bias",
    "cls.predictions.transform.layer_norm": "head_norm",
    "cls.predictions.transform.dense": "head_dense", "lm_head.dense": "head_dense",
    "cls.predictions.transform.LayerNorm": "head_norm", "lm_head.layer_norm": "head_norm",
    "predictions.dense": "head_dense", "predictions.LayerNorm": "head_norm",
    "head.dense": "head_dense", "head.norm": "head_norm",
    "vocab_transform": "head_dense", "vocab_layer_norm": "head_norm",
    "pooler.dense": "pooler", "pooler": "pooler", "pooler.layernorm": "pooler_norm",
    "score": "score", "v_head.summary": "score", "value_head": "score",
    "classifier": "classifier", "classifier.dense": "classifier_dense",
    "classifier.out_proj": "classifier", "pre_classifier": "classifier_dense",
    "qa_outputs": "qa", "cls.seq_relationship": "seq_relationship",
    "logit_scale": "logit_scale", "logit_bias": "logit_bias",
    "text_projection.linear1": "text_projection.1", "text_projection.linear2": "text_projection.2",
    "audio_projection.linear1": "audio_projection.1",
    "audio_projection.linear2": "audio_projection.2",
}  # fmt: skip

_POOLING: dict[str, str | Rule] = {
    "head.probe": "pool.probe", "head.attention.in_proj_weight": "pool.qkv",
    "head.attention.in_proj_bias": "pool.qkv.bias", "head.attention.out_proj": "pool.o",
    "head.layernorm": "pool.ffn_norm", "head.mlp.fc1": "pool.up", "head.mlp.fc2": "pool.down",
    "visual_projection": "visual_projection", "text_projection": "text_projection",
    "audio_projection": "audio_projection",
}  # fmt: skip

_NORMS: dict[str, str | Rule] = {
    "norm|ln_f|final_layernorm|norm_f|rms_norm|final_layer_norm|final_norm|ln_out": "final_norm",
    "layer_norm|layernorm|ln_final|ln_post|post_layernorm|layernorm_post": "final_norm",
    "lm_head.ln": "final_norm",
    "rotary_emb.inv_freq": "buffer.inv_freq",
    "rotary_emb.original_inv_freq": "buffer.original_inv_freq", "rope.freqs": "buffer.rope_freqs",
    "embeddings.position_ids": "buffer.position_ids",
    "embeddings.token_type_ids": "buffer.token_type_ids",
}  # fmt: skip

_AUDIO: dict[str, str | Rule] = {
    "conv1": "conv_1", "conv2": "conv_2", "masked_spec_embed": "mask_token",
    "feature_extractor.conv_layers.{layer}.conv": "feature_conv",
    "feature_extractor.conv_layers.{layer}.layer_norm": "feature_norm",
    "feature_projection.layer_norm": "feature_projection_norm",
    "feature_projection.projection": "feature_projection",
    "pos_conv_embed.conv": "position_conv",
    "pos_conv_embed.conv.parametrizations.weight.original0": "position_conv.weight_g",
    "pos_conv_embed.conv.parametrizations.weight.original1": "position_conv.weight_v",
    "project_q": "project_q", "project_hid": "project_hid", "quantizer.codevectors": "codevectors",
    "quantizer.weight_proj": "quantizer",
}  # fmt: skip

_BETWEEN: dict[str, str | Rule] = {
    "multi_modal_projector.linear_1": "projector.1",
    "multi_modal_projector.linear_2": "projector.2",
    "mm_projector|mm.{a}": "projector.{a}", "visual.merger.mlp.{a}": "projector.{a}",
    "merger.mlp.{a}": "projector.{a}", "mlp1.{a}": "projector.mlp.{a}",
    "mm.model.mlp.{a}": "projector.mlp.{a}",
    "multi_modal_projector.mm_input_projection_weight": "projector.input_projection",
    "mm.input_projection": "projector.input_projection",
    "multi_modal_projector.mm_soft_emb_norm": "projector.soft_emb_norm",
    "mm.soft_emb_norm": "projector.soft_emb_norm",
    "multi_modal_projector|mm_projector.norm|layer_norm|pre_norm": "projector.input_norm",
    "mm.input_norm": "projector.input_norm",
    "vision_model.vision_adapter.mlp.fc1": "projector.mlp.1",
    "vision_model.vision_adapter.mlp.fc2": "projector.mlp.2",
    "multi_modal_projector|mm_projector|projector.patch_merger.merging_layer":
        "projector.patch_merger",
    "patch_merger.merging_layer": "projector.patch_merger",
    "mm.patch_merger": "projector.patch_merger",
}  # fmt: skip

OUTSIDE = (
    Scheme("embeddings", outside=_EMBEDDINGS),
    Scheme("patches and tokens of vision towers", outside=_PATCHES),
    Scheme("heads", outside=_HEADS | _POOLING),
    Scheme("last norms and tables of angles", outside=_NORMS),
    Scheme("fronts of audio towers", outside=_AUDIO),
    Scheme("projectors between towers", outside=_BETWEEN),
)

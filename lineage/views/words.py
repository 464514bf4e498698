"""Plain words for kinds, relations and the places where something was declared."""

from __future__ import annotations

__all__ = ["KIND_WORDS", "RELATION_WORDS", "SOURCE_WORDS"]

RELATION_WORDS = {
    "founder": "no parent known",
    "finetune": "fine-tune",
    "adapter": "adapter",
    "quantized": "quantisation",
    "merge": "merge",
    "unknown": "unknown",
}
KIND_WORDS = {
    "founder": "founder",
    "duplicate": "duplicate",
    "cast": "cast to another number format",
    "quantized": "quantisation",
    "finetune": "fine-tune",
    "continued_pretraining": "continued pre-training",
    "lora_merged": "fine-tune by a merged LoRA",
    "abliterated": "abliteration",
    "adapter": "adapter",
    "vocabulary": "changed vocabulary",
    "pruned": "pruned layers",
    "passthrough": "stack of layers",
    "merge": "merge",
    "moe": "mixture of experts",
    "permuted": "permuted copy",
    "common_init": "common initialisation",
}
SOURCE_WORDS = {
    "merge_recipe": "merge recipe",
    "adapter_config": "adapter configuration",
    "gguf_metadata": "GGUF metadata",
    "card": "model card",
    "tag": "tag",
    "card_recipe": "recipe in the card",
    "quantisation_config": "quantisation configuration",
    "config": "configuration",
    "prose": "prose of the card",
}

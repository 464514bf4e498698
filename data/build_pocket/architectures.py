"""Configurations of the small models: the pocket Hub's three, and those of the proving ground."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

import torch
import transformers
from transformers import (
    AutoConfig,
    BertConfig,
    GPT2Config,
    LlamaConfig,
    MixtralConfig,
    PretrainedConfig,
    PreTrainedModel,
)

__all__ = ["ARCHITECTURES", "CLASSES", "LORA_MODULES", "new_model", "open_model"]

_SPECIAL = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
_POSITIONS = 256


def _llama(
    hidden: int, ffn: int, layers: int, heads: int, kv_heads: int, *, tied: bool, vocabulary: int
) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=ffn,
        num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv_heads,
        max_position_embeddings=_POSITIONS, rms_norm_eps=1e-6, tie_word_embeddings=tied, **_SPECIAL,
    )  # fmt: skip


def _gpt2(layers: int, *, vocabulary: int) -> GPT2Config:
    return GPT2Config(
        vocab_size=vocabulary, n_positions=_POSITIONS, n_embd=64, n_layer=layers, n_head=4,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **_SPECIAL,
    )  # fmt: skip


def _bert(*, vocabulary: int) -> BertConfig:
    return BertConfig(
        vocab_size=vocabulary, hidden_size=64, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=192, max_position_embeddings=_POSITIONS, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, pad_token_id=1,
    )  # fmt: skip


def _mixtral(*, vocabulary: int) -> MixtralConfig:
    return MixtralConfig(
        vocab_size=vocabulary, hidden_size=64, intermediate_size=64, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2,
        max_position_embeddings=_POSITIONS, tie_word_embeddings=False, **_SPECIAL,
    )  # fmt: skip


ARCHITECTURES: Final[Mapping[str, partial[PretrainedConfig]]] = {
    "llama": partial(_llama, 64, 128, 6, 4, 2, tied=False),
    "llama_wide": partial(_llama, 96, 128, 3, 6, 2, tied=False),
    "gpt2": partial(_gpt2, 3),
    "llama_tied": partial(_llama, 96, 256, 4, 6, 6, tied=True),
    "gpt2_deep": partial(_gpt2, 5),
    "bert": partial(_bert),
    "mixtral": partial(_mixtral),
}
"""What makes a configuration out of the size of the vocabulary, by name."""

CLASSES: Final[Mapping[str, str]] = {
    "llama": "LlamaForCausalLM",
    "gpt2": "GPT2LMHeadModel",
    "bert": "BertForMaskedLM",
    "mixtral": "MixtralForCausalLM",
}
"""The class of `transformers` that holds a model, by the ``model_type`` of its configuration."""

LORA_MODULES: Final[Mapping[str, tuple[str, ...]]] = {
    "llama": ("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"),
    "gpt2": ("c_attn", "c_proj", "c_fc"),
    "bert": ("query", "key", "value", "dense"),
    "mixtral": ("q_proj", "k_proj", "v_proj", "o_proj"),
}
"""The modules that an adapter changes, by ``model_type``."""


def new_model(architecture: str, vocabulary: int, seed: int) -> PreTrainedModel:
    """A freshly initialised model; equal seeds give equal weights."""
    torch.manual_seed(seed)
    config = ARCHITECTURES[architecture](vocabulary=vocabulary)
    return _class_of(config)(config)


def open_model(folder: str, dtype: torch.dtype) -> PreTrainedModel:
    """The model stored in a folder, its weights as `dtype`."""
    config = AutoConfig.from_pretrained(folder)
    return _class_of(config).from_pretrained(folder, dtype=dtype)


def _class_of(config: PretrainedConfig) -> type[PreTrainedModel]:
    return getattr(transformers, CLASSES[config.model_type])

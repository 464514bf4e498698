"""What a model's configuration says of its shape: heads, widths, experts, quantisation. Pure.

Configurations are strangers' words. A value of the wrong kind or size counts as not stated; what is
not stated is None, and whoever needs it says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["ModelFacts", "facts_of"]

_MAX_COUNT = 1 << 24
_MAX_WORD_CHARACTERS = 100

# Where a language model stands inside the configuration of a larger one.
_NESTED = ("text_config", "llm_config", "language_config", "thinker_config", "decoder")
# The same fact in the words of different model types; the first that is stated counts.
_HEADS = (
    "num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads",
    "encoder_attention_heads", "num_query_heads",
)  # fmt: skip
_KV_HEADS = (
    "num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num", "kv_n_heads",
)  # fmt: skip
_HEAD_DIM = ("head_dim", "attention_head_dim", "kv_channels", "d_kv", "d_head")
_HIDDEN = ("hidden_size", "n_embd", "d_model", "n_embed", "dim", "emb_dim", "model_dim")
_EXPERTS = ("num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts")
_QUANTISATION = ("quantization_config", "compression_config", "quantization")


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a model besides its tensors; None where it is not stated.

    Attributes
    ----------
    model_type
        ``model_type`` of the language model's configuration, or ``general.architecture``.
    format
        ``safetensors``, ``gguf``, ``torch`` or ``onnx``.
    n_heads, n_kv_heads
        Attention heads, and heads of keys and values (equal where the configuration is silent).
        None also where layers differ.
    head_dim
        Values of one head; None also where queries and keys are compressed (DeepSeek's latent
        attention), since no row of a projection is a head's then.
    hidden
        Width of the residual stream.
    n_experts
        Routed experts of a layer; None in dense models.
    quantisation
        ``quantization_config`` as it was written; empty where there is none.
    """

    model_type: str | None = None
    format: str = "safetensors"
    n_heads: int | None = None
    n_kv_heads: int | None = None
    head_dim: int | None = None
    hidden: int | None = None
    n_experts: int | None = None
    quantisation: Mapping[str, object] = field(default_factory=dict)


def facts_of(
    config: Mapping[str, object] | None,
    format_name: str = "safetensors",
    gguf_metadata: Mapping[str, object] | None = None,
) -> ModelFacts:
    """What `config` (``config.json``) and the metadata of a GGUF file say; never raises.

    Of a GGUF file its own metadata count, and the configuration only where they say nothing.

    Examples
    --------
    >>> facts_of({"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4}).head_dim
    16
    """
    if format_name == "gguf" and gguf_metadata and "general.architecture" in gguf_metadata:
        return _facts_of_metadata(gguf_metadata)
    return _facts_of_config(config or {}, format_name)


def _facts_of_config(config: Mapping[str, object], format_name: str) -> ModelFacts:
    network = _language_model(config)
    attention, feed_forward = _inner(network, "attn_config"), _inner(network, "ffn_config")
    n_heads = _first(network, _HEADS)
    hidden = _first(network, _HIDDEN)
    n_kv_heads = _first(network, _KV_HEADS) or _first(attention, _KV_HEADS)
    if network.get("multi_query") is True and network.get("new_decoder_architecture") is not True:
        n_kv_heads = 1  # Falcon 7B states the number of queries there
    elif not any(network.get(name) is not None for name in (*_KV_HEADS, "block_configs")):
        n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
    head_dim = _first(network, _HEAD_DIM) or _share(hidden, n_heads)
    return ModelFacts(
        model_type=_word(network.get("model_type")) or _word(config.get("model_type")),
        format=format_name,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=None if _count(network.get("kv_lora_rank")) else head_dim,
        hidden=hidden,
        n_experts=_first(network, _EXPERTS) or _first(feed_forward, _EXPERTS),
        quantisation=_quantisation(config) or _quantisation(network),
    )


def _facts_of_metadata(metadata: Mapping[str, object]) -> ModelFacts:
    architecture = _word(metadata.get("general.architecture"))

    def stated(key: str) -> int | None:
        return _count(metadata.get(f"{architecture}.{key}"))

    n_heads, hidden = stated("attention.head_count"), stated("embedding_length")
    is_silent = f"{architecture}.attention.head_count_kv" not in metadata
    return ModelFacts(
        model_type=architecture,
        format="gguf",
        n_heads=n_heads,
        n_kv_heads=n_heads if is_silent else stated("attention.head_count_kv"),
        head_dim=None
        if stated("attention.kv_lora_rank")
        else stated("attention.key_length") or _share(hidden, n_heads),
        hidden=hidden,
        n_experts=stated("expert_count"),
    )


def _language_model(config: Mapping[str, object]) -> Mapping[str, object]:
    """The part of a configuration that describes the language model; often all of it."""
    for _ in range(3):  # Qwen's omni models: thinker_config.text_config
        if _first(config, _HEADS) is not None:
            return config
        inner = (_inner(config, name) for name in _NESTED)
        nested = next((found for found in inner if found), None)
        if nested is None:
            return config
        config = nested
    return config


def _quantisation(config: Mapping[str, object]) -> Mapping[str, object]:
    found = (_inner(config, name) for name in _QUANTISATION)
    return next((stated for stated in found if stated), {})


def _inner(config: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = config.get(name)
    return value if isinstance(value, Mapping) else {}


def _first(config: Mapping[str, object], names: Sequence[str]) -> int | None:
    for name in names:
        if (count := _count(config.get(name))) is not None:
            return count
    return None


def _count(value: object) -> int | None:
    """A positive number within bounds; of a list, one a layer, what all layers share."""
    if isinstance(value, list | tuple):
        value = value[0] if value and all(item == value[0] for item in value) else None
    return value if type(value) is int and 0 < value <= _MAX_COUNT else None


def _share(hidden: int | None, n_heads: int | None) -> int | None:
    """The width of one head, where heads divide the width."""
    return hidden // n_heads if hidden and n_heads and not hidden % n_heads else None


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _MAX_WORD_CHARACTERS else None

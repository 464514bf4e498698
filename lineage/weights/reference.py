"""Tensor tables of well-known models, from their published configurations.

They let the cost of a probe plan be stated for models of real size without their weights: a plan is
a function of roles and shapes.
"""

from __future__ import annotations

from dataclasses import dataclass

from crawler.records import TensorEntry

__all__ = ["SEVEN_BILLION", "SHAPES", "Shape", "tensors_of"]


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama-style configuration; `key_value` is the width of keys and values."""

    name: str
    hidden: int
    ffn: int
    layers: int
    key_value: int
    vocabulary: int


SEVEN_BILLION = Shape("Mistral-7B", 4096, 14_336, 32, 1024, 32_000)
SHAPES = (
    Shape("Qwen2.5-0.5B", 896, 4864, 24, 128, 151_936),
    Shape("Llama-2-7B", 4096, 11_008, 32, 4096, 32_000),
    SEVEN_BILLION,
    Shape("Llama-3-70B", 8192, 28_672, 80, 1024, 128_256),
)


def tensors_of(shape: Shape) -> list[TensorEntry]:
    """The tensors of a bf16 checkpoint of this shape, one behind the other in one file."""
    named: list[tuple[str, tuple[int, ...]]] = [
        ("model.embed_tokens.weight", (shape.vocabulary, shape.hidden)),
        ("lm_head.weight", (shape.vocabulary, shape.hidden)),
        ("model.norm.weight", (shape.hidden,)),
    ]
    for layer in range(shape.layers):
        stem = f"model.layers.{layer}"
        named += [
            (f"{stem}.self_attn.q_proj.weight", (shape.hidden, shape.hidden)),
            (f"{stem}.self_attn.k_proj.weight", (shape.key_value, shape.hidden)),
            (f"{stem}.self_attn.v_proj.weight", (shape.key_value, shape.hidden)),
            (f"{stem}.self_attn.o_proj.weight", (shape.hidden, shape.hidden)),
            (f"{stem}.mlp.gate_proj.weight", (shape.ffn, shape.hidden)),
            (f"{stem}.mlp.up_proj.weight", (shape.ffn, shape.hidden)),
            (f"{stem}.mlp.down_proj.weight", (shape.hidden, shape.ffn)),
            (f"{stem}.input_layernorm.weight", (shape.hidden,)),
            (f"{stem}.post_attention_layernorm.weight", (shape.hidden,)),
        ]
    entries, at = [], 0
    for name, dimensions in named:
        size = 2
        for length in dimensions:
            size *= length
        entries.append(TensorEntry(name, "BF16", dimensions, "model.safetensors", at, at + size))
        at += size
    return entries

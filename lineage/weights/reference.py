"""Tensor tables of well-known models, from their published configurations.

They let the cost of a probe plan be stated for models of real size without their weights: a plan is
a function of roles and shapes. Sharded as the Hub has them: tensors fill the shards in the order of
the network, and stand in each file in the order of their names.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from crawler.records import TensorEntry
from lineage.weights.roles import role_of
from lineage.weights.weight import MAIN, Part, Weight

__all__ = [
    "HUNDRED_EXPERTS",
    "REAL_SIZES",
    "SEVENTY_BILLION",
    "SEVEN_BILLION",
    "SHAPES",
    "Mixture",
    "Shape",
    "header_of",
    "in_shards",
    "index_of",
    "plain_weights",
    "sharded",
    "tensors_of",
]

_BYTES = {"BF16": 2, "F16": 2, "F32": 4, "F8_E4M3": 1}
_SCALE_BLOCK = 128
"""Rows and columns that share one scale in block-wise FP8 checkpoints."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """Experts of every layer from layer `dense_layers` on, each of width `ffn`.

    `scheme` is the naming: ``mixtral`` (``block_sparse_moe.experts.0.w1``) or ``experts``
    (``mlp.experts.0.gate_proj``); `fp8` stores matrices of the layers as FP8 with block scales.
    """

    experts: int
    ffn: int
    dense_layers: int = 0
    shared_ffn: int = 0
    scheme: str = "experts"
    fp8: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama-style configuration; `key_value` is the width of keys and values."""

    name: str
    hidden: int
    ffn: int
    layers: int
    key_value: int
    vocabulary: int
    tied: bool = False
    mixture: Mixture | None = None
    shards: int = 1
    query: int = 0
    """Width of the queries; 0: the hidden width."""


SEVEN_BILLION = Shape("Mistral-7B", 4096, 14_336, 32, 1024, 32_000, shards=3)
SEVENTY_BILLION = Shape("Llama-3-70B", 8192, 28_672, 80, 1024, 128_256, shards=30)
HUNDRED_EXPERTS = Shape(
    "Qwen3-235B-A22B-FP8", 4096, 12_288, 94, 512, 151_936, query=8192, shards=24,
    mixture=Mixture(128, 1536, fp8=True),
)  # fmt: skip
SHAPES = (
    Shape("Qwen2.5-0.5B", 896, 4864, 24, 128, 151_936),
    Shape("Llama-2-7B", 4096, 11_008, 32, 4096, 32_000),
    SEVEN_BILLION,
    SEVENTY_BILLION,
)
REAL_SIZES = (
    Shape("Qwen2.5-0.5B", 896, 4864, 24, 128, 151_936, tied=True),
    Shape("Llama-3.2-1B", 2048, 8192, 16, 512, 128_256, tied=True),
    Shape("Llama-2-7B", 4096, 11_008, 32, 4096, 32_000, shards=2),
    SEVEN_BILLION,
    SEVENTY_BILLION,
    Shape("Mixtral-8x7B", 4096, 14_336, 32, 1024, 32_000, shards=19,
          mixture=Mixture(8, 14_336, scheme="mixtral")),
    HUNDRED_EXPERTS,
    Shape("Llama-3.1-405B", 16_384, 53_248, 126, 1024, 128_256, shards=191),
)  # fmt: skip
"""Models as they lie on the Hub, sharded."""

_Named = tuple[str, str, tuple[int, ...]]


def tensors_of(shape: Shape) -> list[TensorEntry]:
    """The tensors of a checkpoint of this shape, one behind the other in one file."""
    return _laid_out(list(_named(shape)), "model.safetensors", 0)


def sharded(shape: Shape) -> list[TensorEntry]:
    """The tensors of a checkpoint of this shape in `shape.shards` files, headers in front."""
    named = sorted(_named(shape), key=lambda tensor: _network_order(tensor[0]))
    return in_shards(named, shape.shards)


def in_shards(tensors: Sequence[tuple[str, str, tuple[int, ...]]], n: int) -> list[TensorEntry]:
    """Tensors (name, dtype, shape), in the order of the network, in at most `n` files."""
    per_shard = sum(map(_size, tensors)) / n
    shards: list[list[_Named]] = [[]]
    filled = 0
    for tensor in tensors:
        filled += _size(tensor)
        if filled > per_shard * len(shards) and shards[-1] and len(shards) < n:
            shards.append([])
        shards[-1].append(tensor)
    entries = []
    for number, shard in enumerate(shards, 1):
        path = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        if len(shards) == 1:
            path = "model.safetensors"
        shard.sort()
        at_zero = _laid_out(shard, path, 0)
        entries += _laid_out(shard, path, len(header_of(at_zero)))
    return entries


def header_of(entries: Sequence[TensorEntry]) -> bytes:
    """The safetensors header of one file with these tensors."""
    first = min((entry.start for entry in entries), default=0)
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    for entry in entries:
        offsets = [entry.start - first, entry.stop - first]
        header[entry.name] = {
            "dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": offsets,
        }  # fmt: skip
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def index_of(entries: Sequence[TensorEntry]) -> bytes:
    """The index of a sharded checkpoint; empty for one file."""
    if len({entry.path for entry in entries}) < 2:
        return b""
    total = sum(entry.stop - entry.start for entry in entries)
    named = {entry.name: entry.path for entry in sorted(entries, key=lambda e: e.name)}
    index = {"metadata": {"total_size": total}, "weight_map": named}
    return json.dumps(index, indent=2).encode()


def plain_weights(entries: Sequence[TensorEntry]) -> list[Weight]:
    """Weights of tensors that hold one weight each, in plain words; scales are passed over."""
    weights = []
    for entry in entries:
        if entry.name.endswith("_scale_inv"):
            continue
        role = role_of(entry.name)
        row = (entry.stop - entry.start) // (entry.shape[0] if len(entry.shape) > 1 else 1)
        part = Part(MAIN, entry.dtype, entry.path, entry.start, entry.stop, 1, row)
        weights.append(
            Weight(role.key, role.known, entry.name, entry.dtype, entry.shape, (part,),
                   role.transposed)
        )  # fmt: skip
    return weights


def _named(shape: Shape) -> Iterator[_Named]:
    """Name, dtype and shape of every tensor."""
    yield "model.embed_tokens.weight", "BF16", (shape.vocabulary, shape.hidden)
    if not shape.tied:
        yield "lm_head.weight", "BF16", (shape.vocabulary, shape.hidden)
    yield "model.norm.weight", "BF16", (shape.hidden,)
    query = shape.query or shape.hidden
    fp8 = shape.mixture is not None and shape.mixture.fp8
    for layer in range(shape.layers):
        stem = f"model.layers.{layer}"
        matrices = {
            f"{stem}.self_attn.q_proj": (query, shape.hidden),
            f"{stem}.self_attn.k_proj": (shape.key_value, shape.hidden),
            f"{stem}.self_attn.v_proj": (shape.key_value, shape.hidden),
            f"{stem}.self_attn.o_proj": (shape.hidden, query),
            **_feed_forward(shape, stem, layer),
        }
        for name, dimensions in matrices.items():
            yield f"{name}.weight", "F8_E4M3" if fp8 else "BF16", dimensions
            if fp8:
                blocks = tuple(-(-size // _SCALE_BLOCK) for size in dimensions)
                yield f"{name}.weight_scale_inv", "F32", blocks
        if shape.mixture is not None and layer >= shape.mixture.dense_layers:
            gate = "block_sparse_moe" if shape.mixture.scheme == "mixtral" else "mlp"
            yield f"{stem}.{gate}.gate.weight", "BF16", (shape.mixture.experts, shape.hidden)
        yield f"{stem}.input_layernorm.weight", "BF16", (shape.hidden,)
        yield f"{stem}.post_attention_layernorm.weight", "BF16", (shape.hidden,)


def _feed_forward(shape: Shape, stem: str, layer: int) -> dict[str, tuple[int, int]]:
    mixture = shape.mixture
    if mixture is None or layer < mixture.dense_layers:
        return _gated(f"{stem}.mlp", shape.hidden, shape.ffn, ("gate_proj", "up_proj", "down_proj"))
    found: dict[str, tuple[int, int]] = {}
    for expert in range(mixture.experts):
        if mixture.scheme == "mixtral":
            names, inside = ("w1", "w3", "w2"), f"{stem}.block_sparse_moe.experts.{expert}"
        else:
            names, inside = ("gate_proj", "up_proj", "down_proj"), f"{stem}.mlp.experts.{expert}"
        found |= _gated(inside, shape.hidden, mixture.ffn, names)
    if mixture.shared_ffn:
        names = ("gate_proj", "up_proj", "down_proj")
        found |= _gated(f"{stem}.mlp.shared_experts", shape.hidden, mixture.shared_ffn, names)
    return found


def _gated(
    stem: str, hidden: int, ffn: int, names: tuple[str, str, str]
) -> dict[str, tuple[int, int]]:
    gate, up, down = (f"{stem}.{name}" for name in names)
    return {gate: (ffn, hidden), up: (ffn, hidden), down: (hidden, ffn)}


def _network_order(name: str) -> tuple[int, int, str]:
    """Embedding, layers by number, final norm, head."""
    if ".layers." in name:
        return 1, int(name.split(".layers.")[1].split(".")[0]), name
    return 0 if "embed" in name else 2, 0, name[::-1]  # "…norm.weight" before "lm_head.weight"


def _size(tensor: _Named) -> int:
    _, dtype, shape = tensor
    return math.prod(shape) * _BYTES[dtype]


def _laid_out(named: Sequence[_Named], path: str, start: int) -> list[TensorEntry]:
    entries = []
    for tensor in named:
        name, dtype, shape = tensor
        entries.append(TensorEntry(name, dtype, shape, path, start, start + _size(tensor)))
        start = entries[-1].stop
    return entries

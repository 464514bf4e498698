"""GGUF files as the gguf package writes them, converted as llama.cpp's converter does."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind

from weight_files import F32, Written

HIDDEN, HEADS, KEY_HEADS, FFN = 256, 8, 2, 512
_TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")


def _paired(rows: F32, heads: int) -> F32:
    halves = rows.reshape(heads, 2, len(rows) // heads // 2, -1)
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)


def write(folder: Path, architecture: str, kind: str) -> Written:
    """A layer of `architecture`: llama's query and key rows in pairs, Gemma's norms plus one."""
    rng = np.random.default_rng(6)
    head = HIDDEN // HEADS
    weights = {
        "attn_q": ("q@0", (HIDDEN, HIDDEN)),
        "attn_k": ("k@0", (KEY_HEADS * head, HIDDEN)),
        "ffn_up": ("up@0", (FFN, HIDDEN)),
    }
    writer = gguf.GGUFWriter(folder / "model.gguf", architecture)
    writer.add_embedding_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    truth = {}
    dtype = Kind[kind]
    for name, (key, shape) in weights.items():
        original = rng.standard_normal(shape).astype(np.float32)
        heads = {"attn_q": HEADS, "attn_k": KEY_HEADS}.get(name)
        stored = _paired(original, heads) if heads and architecture == "llama" else original
        words = gguf.quants.quantize(stored, dtype)
        writer.add_tensor(f"blk.0.{name}.weight", words, raw_dtype=dtype)
        # Rows are quantised one by one, so the order does not change what they become.
        truth[key] = gguf.quants.dequantize(gguf.quants.quantize(original, dtype), dtype)
    norm = rng.integers(-8, 8, HIDDEN).astype(np.float32) / 16
    shift = 1 if architecture == "gemma2" else 0
    writer.add_tensor("blk.0.attn_norm.weight", norm + np.float32(shift))
    truth["attn_norm@0"] = norm
    experts = rng.standard_normal((3, FFN, HIDDEN)).astype(np.float32)
    writer.add_tensor(
        "blk.1.ffn_gate_exps.weight", gguf.quants.quantize(experts, dtype), raw_dtype=dtype
    )
    for expert, original in enumerate(experts):
        words = gguf.quants.quantize(original, dtype)
        truth[f"gate@1/{expert}"] = gguf.quants.dequantize(words, dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Written(folder, truth)


WRITERS = {
    **{f"gguf {kind}": partial(write, architecture="llama", kind=kind) for kind in _TYPES},
    "gguf of gemma2": partial(write, architecture="gemma2", kind="Q8_0"),
    "gguf of qwen2": partial(write, architecture="qwen2", kind="Q8_0"),
}

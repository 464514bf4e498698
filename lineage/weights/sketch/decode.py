"""From stored words to float32 on the device, for dtypes that torch knows."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from lineage.weights.fingerprint import Sample, decode_sample
from lineage.weights.sketch.scratch import Scratch

__all__ = ["WORD_BYTES", "decode_words", "is_decoded_there", "values_on"]

_TORCH = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.uint8,
    "I16": torch.int16, "I32": torch.int32, "I64": torch.int64,
}  # fmt: skip

WORD_BYTES = {name: dtype.itemsize for name, dtype in _TORCH.items()}
"""Bytes of a word of every dtype that is decoded on the device; others are decoded before."""
_FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)


def decode_words(rows: Tensor, dtype: str, scratch: Scratch) -> Tensor:
    """Values of rows of words: rows × bytes, uint8, to rows × columns, float32, in `scratch`.

    Doubles and wide integers are rounded to the nearest float32.
    """
    words = rows.view(_TORCH[dtype])
    values = scratch.take("values", words.shape, torch.float32)
    if words.dtype not in _FP8 or rows.device.type != "cpu":
        return values.copy_(words)
    # On the CPU, torch converts these one by one; a table is six times faster.
    places = scratch.take("second", words.shape, torch.int32).copy_(rows)
    torch.index_select(_table(words.dtype), 0, places.view(-1), out=values.view(-1))
    return values


@lru_cache
def _table(kind: torch.dtype) -> Tensor:
    """Values of all words of eight bits, on the CPU."""
    return torch.arange(256, dtype=torch.uint8).view(kind).to(torch.float32)


def is_decoded_there(sample: Sample) -> bool:
    """Whether the sample's words alone, decoded on the device, are its values."""
    return sample.dtype in WORD_BYTES and not sample.shift and not sample.extras


def values_on(device: torch.device, sample: Sample) -> Tensor:
    """Values of a sample on the device, rows × columns, float32; what is not finite is 0."""
    if not is_decoded_there(sample):
        return torch.from_numpy(decode_sample(sample)).to(device).nan_to_num_(0.0, 0.0, 0.0)
    words = torch.from_numpy(np.frombuffer(sample.words, np.uint8).copy())
    values = decode_words(
        words.view(len(sample.rows), -1).to(device), sample.dtype, Scratch(device)
    )
    return values.nan_to_num_(0.0, 0.0, 0.0)

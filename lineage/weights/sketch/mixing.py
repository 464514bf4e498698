"""Integer hashing on torch's int64, equal on every device.

Torch's int64 wraps around in addition and multiplication on CPU and CUDA alike; its right shift
keeps the sign, so the logical shift that mixers want is emulated by a mask.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

from lineage.weights.roles import TensorKey

__all__ = ["key_hash", "mix64", "pseudo_random", "shift_right", "signed"]


def signed(word: int) -> int:
    """A 64-bit pattern as the int64 that has it."""
    word &= (1 << 64) - 1
    return word - (1 << 64) if word >> 63 else word


_FIRST = signed(0xBF58476D1CE4E5B9)
_SECOND = signed(0x94D049BB133111EB)


def shift_right(words: Tensor, by: int) -> Tensor:
    """Logical right shift of int64 `words`."""
    return (words >> by) & ((1 << (64 - by)) - 1)


def mix64(words: Tensor) -> Tensor:
    """A bijection of 64-bit words in which every bit depends on every bit (splitmix64's finaliser).

    Notes
    -----
    Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014.
    """
    words = (words ^ shift_right(words, 30)) * _FIRST
    words = (words ^ shift_right(words, 27)) * _SECOND
    return words ^ shift_right(words, 31)


def key_hash(key: TensorKey) -> int:
    """64 bits (as int64) that stand for a place in a network."""
    text = f"{key.role}\0{key.layer}\0{key.expert}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little", signed=True)


def pseudo_random(label: str, n: int) -> Tensor:
    """`n` fixed int64 words that only `label` decides."""
    stream = hashlib.shake_128(f"herdbook sketch 1: {label}".encode()).digest(8 * n)
    return torch.from_numpy(np.frombuffer(stream, "<i8").astype(np.int64))

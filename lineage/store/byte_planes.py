"""Stored words as planes of bytes: all first bytes, then all second bytes, and so on.

The exponents of neighbouring weights are alike and their mantissas are not. Set apart, the planes
of exponents compress well; interleaved with noise they hardly do.
"""

from __future__ import annotations

import numpy as np

__all__ = ["interleave", "planes_of", "split"]

_PLANES = {
    "BF16": 2, "F16": 2, "I16": 2, "U16": 2,
    "F32": 4, "I32": 4, "U32": 4,
    "F64": 8, "I64": 8, "U64": 8, "C64": 8,
    "Q8_0": 34,  # a block: the scale's two bytes, then 32 codes
}  # fmt: skip


def planes_of(dtype: str, n_bytes: int) -> int:
    """How many planes words of `dtype` are split into; 1: they are stored as they are."""
    planes = _PLANES.get(dtype, 1)
    return planes if n_bytes % planes == 0 else 1


def split(words: bytes, planes: int) -> bytes:
    """The bytes of `words`, plane by plane; their number is a multiple of `planes`."""
    if planes == 1:
        return words
    return np.frombuffer(words, np.uint8).reshape(-1, planes).T.tobytes()


def interleave(stored: bytes, planes: int) -> bytes:
    """The inverse of :func:`split`.

    Raises
    ------
    ValueError
        If the bytes do not fill the planes evenly.
    """
    if planes == 1:
        return stored
    if planes < 1 or len(stored) % planes:
        raise ValueError(f"{len(stored)} bytes do not fill {planes} planes")
    return np.frombuffer(stored, np.uint8).reshape(planes, -1).T.tobytes()

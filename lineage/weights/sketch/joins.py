"""Digests that join models without a look at a matrix: of norms, and of shapes.

A quantised copy keeps its norm vectors in float32 or float16, so the norms rounded to bfloat16 are
those of a bfloat16 source, bit for bit.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from lineage.weights.roles import TensorKey

__all__ = ["NO_DIGEST", "digest_of_norms", "digest_of_shapes", "is_norm", "norm_vector_digest"]

NO_DIGEST = bytes(16)
"""Stands where there is nothing that would tell one model from another; joins nothing."""


def is_norm(key: TensorKey, shape: tuple[int, ...]) -> bool:
    """Whether a weight is the gain or offset of a normalisation."""
    return len(shape) == 1 and "norm" in key.role


def norm_vector_digest(values: NDArray[np.float32]) -> bytes | None:
    """16 bytes of a vector rounded to bfloat16; None if all its values are one then.

    A vector of ones is everybody's.
    """
    bits = np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint32)
    rounded = ((bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))) >> 16).astype("<u2")
    # Both zeros are one value.
    rounded[rounded == 0x8000] = 0
    if not rounded.size or (rounded == rounded[0]).all():
        return None
    return hashlib.blake2b(rounded.tobytes(), digest_size=16).digest()


def digest_of_norms(digests: Mapping[TensorKey, bytes]) -> bytes:
    """16 bytes of all norm vectors' digests in the order of their keys."""
    if not digests:
        return NO_DIGEST
    final = hashlib.blake2b(digest_size=16)
    for key in sorted(digests):
        final.update(_key_bytes(key) + digests[key])
    return final.digest()


def digest_of_shapes(shapes: Iterable[tuple[TensorKey, tuple[int, ...]]]) -> bytes:
    """16 bytes of the sorted keys and shapes: equal for models that can be compared directly."""
    final = hashlib.blake2b(digest_size=16)
    for key, shape in sorted(shapes):
        final.update(_key_bytes(key) + struct.pack(f"<{len(shape) + 1}q", len(shape), *shape))
    return final.digest()


def _key_bytes(key: TensorKey) -> bytes:
    role = key.role.encode("utf-8", "surrogatepass")
    return struct.pack("<qqq", len(role), key.layer, key.expert) + role

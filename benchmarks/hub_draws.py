"""Random numbers by counting: each is a hash of (seed, stream, numbers), asked in any order."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bits", "Draws", "Ints"]

Ints = NDArray[np.int64]
Bits = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))


class Draws:
    """Independent streams of random numbers from one seed.

    References
    ----------
    .. [1] Steele, G. L., Lea, D. and Flood, C. H. (2014). Fast splittable pseudorandom number
       generators. OOPSLA '14, 453-472 (SplitMix64, whose rounds these are).
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._keys: dict[str, np.uint64] = {}

    def bits(self, stream: str, *numbers: Ints) -> Bits:
        """64 random bits for each element of `numbers`, arrays of one shape."""
        key = self._keys.get(stream)
        if key is None:
            digest = blake2b(f"{self.seed}/{stream}".encode(), digest_size=8).digest()
            key = self._keys[stream] = np.uint64(int.from_bytes(digest))
        state: Bits = np.full(numbers[0].shape, key)
        for number in numbers:
            state = state + (number.astype(np.uint64) + np.uint64(1)) * _GOLDEN
            state = (state ^ (state >> _SHIFTS[0])) * _MIX[0]
            state = (state ^ (state >> _SHIFTS[1])) * _MIX[1]
            state = state ^ (state >> _SHIFTS[2])
        return state

    def below(self, stream: str, bound: int, *numbers: Ints) -> Ints:
        """Random integers from 0 to `bound` - 1."""
        return (self.bits(stream, *numbers) % np.uint64(bound)).astype(np.int64)

    def share(self, stream: str, *numbers: Ints) -> NDArray[np.float64]:
        """Random numbers in [0, 1)."""
        return (self.bits(stream, *numbers) >> np.uint64(11)).astype(np.float64) * 2.0**-53

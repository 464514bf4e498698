"""The steps that merge tools take in the merge's own number type, every one of them rounded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lineage.infer.methods.masks import Rule
from lineage.weights.encodings import round_to

__all__ = ["change_of", "mixed", "moved"]

F32 = NDArray[np.float32]


def change_of(parent: F32, base: F32, dtype: str) -> F32:
    """A parent's change from the base, both loaded in `dtype`."""
    return round_to(dtype, round_to(dtype, parent) - round_to(dtype, base))


def mixed(changes: F32, weights: Sequence[float], rule: Rule, dtype: str) -> F32:
    """Changes that the masks left, combined.

    Parameters
    ----------
    changes
        Parents × words, 0 where dropped.
    weights
        As the recipe gives them. Under :attr:`Rule.MEAN` only their ratios show, but for last bits.

    References
    ----------
    Yadav et al. 2023, *TIES-Merging*: the elected sign is that of the weighted sum, and only
    parents that agree with it are averaged. A sum of nothing counts as positive.
    """
    shape = (len(changes), *([1] * (changes.ndim - 1)))
    scale = round_to(dtype, np.array(weights, np.float32)).reshape(shape)
    weighted = round_to(dtype, scale * changes)
    if rule is Rule.SUM:
        return round_to(dtype, weighted.sum(axis=0))
    positive = weighted.sum(axis=0) >= 0
    agrees = np.sign(weighted) == np.where(positive, 1, -1)
    left = round_to(dtype, (weighted * agrees).sum(axis=0))
    if rule is Rule.ELECTED:
        return left
    share = round_to(dtype, (scale * agrees).sum(axis=0))
    divisor = np.where(share == 0, 1, share).astype(np.float32)
    return round_to(dtype, left / divisor)


def moved(base: F32, change: F32, dtype: str) -> F32:
    """The base plus what was mixed."""
    return round_to(dtype, round_to(dtype, base) + change)

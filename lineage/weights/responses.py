"""Units of a layer as their responses to tokens: the same in every basis of the residual stream.

A unit that reads the residual stream is a vector ``u`` in it; behind a normalisation with gains γ
it weighs it by ``u·γ``. Rotate, permute or flip the coordinates of the stream and every such
vector turns with the embedding ``E``, so that the unit's responses ``E (u·γ)`` to tokens stay as
they were; scales moved between γ and u cancel as well. ``E`` is first whitened to its polar factor
``E (EᵀE)^(−1/2)``, which turns alike, so that no token direction outweighs the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lineage.weights.roles import TensorKey

if TYPE_CHECKING:
    from lineage.weights.fingerprint import Sample

__all__ = ["READERS", "responses"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

READERS: Mapping[str, str] = {"up": "ffn_norm", "gate": "ffn_norm", "v": "attn_norm"}
"""Roles that read the residual stream, and the gains before them."""

_CONDITION = 1e-3
"""Directions of the embedding smaller than this share of the largest are left out."""


def responses(
    samples: Mapping[TensorKey, Sample], tokens: F32, keys: Iterable[TensorKey]
) -> dict[TensorKey, F64]:
    """Responses of units to tokens, units × tokens.

    Parameters
    ----------
    samples
        Of one model.
    tokens
        Rows of its embedding, tokens × width.
    keys
        Matrices whose units are wanted. Those that are missing or whose units are not known in all
        their coordinates (a few rows of a transposed matrix) are left out.
    """
    found: dict[TensorKey, F64] = {}
    polar = _polar_factor(tokens)
    width = tokens.shape[1]
    for key in keys:
        sample = samples.get(key)
        if sample is None or len(sample.shape) != 2 or sample.units.shape[1] != width:
            continue
        gains = samples.get(TensorKey(READERS[key.role], key.layer))
        units = sample.units.astype(np.float64)
        if gains is not None and gains.values.size == width:
            units = units * gains.values.reshape(1, width)
        found[key] = units @ polar.T
    return found


def _polar_factor(tokens: F32) -> F64:
    """The matrix with orthonormal rows or columns next to `tokens`, tokens × width."""
    if not tokens.size:
        return tokens.astype(np.float64)
    left, sizes, right = np.linalg.svd(tokens.astype(np.float64), full_matrices=False)
    kept = sizes > _CONDITION * sizes[0]
    return np.asarray(left[:, kept] @ right[kept])

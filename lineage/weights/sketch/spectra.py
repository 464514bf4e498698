"""Leading singular values of row blocks, where they are cheap."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from lineage.weights.fingerprint import Sample
from lineage.weights.sketch.decode import values_on
from lineage.weights.sketch.limits import CACHE_VALUES

__all__ = ["N_SINGULAR", "leading_singular_values"]

N_SINGULAR = 16
"""Singular values kept."""
_MAX_SIDE = 256
"""Blocks whose smaller side is longer are passed over: the decomposition grows with its cube."""

F32 = NDArray[np.float32]
NONE: F32 = np.zeros(0, np.float32)


def leading_singular_values(
    samples: Sequence[Sample], device: torch.device, memory_bytes: int
) -> list[F32]:
    """The up to 16 largest singular values of each sample's rows, descending.

    They are roots of eigenvalues of the smaller Gram matrix in float64, samples of one shape in one
    call: relative to the largest, errors are about 1e-8. Empty for samples without two rows and two
    columns, and for those whose smaller side is above 256.

    Parameters
    ----------
    samples
        Rows as stored; one column is one value.
    device
        Where to compute.
    memory_bytes
        Bound of the working memory, but for one sample.
    """
    found: list[F32] = [NONE] * len(samples)
    by_shape: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, sample in enumerate(samples):
        n_rows, n_columns = len(sample.rows), math.prod(sample.shape[1:])
        if len(sample.shape) > 1 and 2 <= min(n_rows, n_columns) <= _MAX_SIDE:
            by_shape[n_rows, n_columns].append(number)
    for shape, numbers in by_shape.items():
        # Float32, float64 and a Gram matrix of each.
        at_once = memory_bytes // (16 * math.prod(shape) + 24 * min(shape) ** 2)
        if device.type == "cpu":
            at_once = min(at_once, CACHE_VALUES // math.prod(shape))
        at_once = max(at_once, 1)
        for first in range(0, len(numbers), at_once):
            group = numbers[first : first + at_once]
            values = torch.stack([values_on(device, samples[n]) for n in group]).double()
            wide = values if shape[0] == min(shape) else values.transpose(1, 2)
            eigenvalues = torch.linalg.eigvalsh(wide @ wide.transpose(1, 2))
            leading = eigenvalues.flip(1)[:, :N_SINGULAR].clamp(min=0).sqrt()
            for number, row in zip(group, leading.float().cpu().numpy(), strict=True):
                found[number] = row.copy()
    return found

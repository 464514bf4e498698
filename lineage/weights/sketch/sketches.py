"""What a sketch of a tensor and of a model holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lineage.weights.roles import TensorKey
from lineage.weights.sketch.digest import finish_digest
from lineage.weights.sketch.simhash import (
    PROJECTION,
    SMALL_PROJECTION,
    normalised,
    project,
    simhash_bytes,
)
from lineage.weights.sketch.sketcher import Sketcher
from lineage.weights.sketch.spectra import NONE

__all__ = ["ModelSketch", "TensorSketch", "model_sums", "tensor_sketches"]

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class TensorSketch:
    """Summary of the sampled rows of one tensor.

    Attributes
    ----------
    digest
        16 bytes of the stored words and their rows' numbers; equal on every device.
    n, n_zero, n_nan, n_inf
        Values, and how many of them are zero, no number, infinite.
    mean, std, skewness, kurtosis
        Of the finite values; population moments, kurtosis 3 for a Gaussian. NaN where they are not
        defined (no values; no spread).
    abs_max
        Largest finite magnitude; NaN if there are no finite values.
    row_norms
        Euclidean norm of each row (what is no finite number counts as 0), float32; the first 65,536
        rows.
    singular_values
        The up to 16 largest of the block of rows, descending, float32; empty where not computed.
    projection
        32 numbers, float32, of length one together: cosines of two such estimate the cosine of the
        standardised rows. Zeros for vectors and constants.
    """

    digest: bytes
    n: int
    n_zero: int
    n_nan: int
    n_inf: int
    mean: float
    std: float
    skewness: float
    kurtosis: float
    abs_max: float
    row_norms: F32
    singular_values: F32
    projection: F32


@dataclass(frozen=True)
class ModelSketch:
    """Summary of the sampled rows of one model.

    Attributes
    ----------
    simhash
        128 bytes: signs of 1,024 random projections of the standardised rows of all matrices.
    projection
        512 of them as numbers, float32, of length one together.
    norm_digest
        16 bytes of all norm vectors rounded to bfloat16; zeros if there are none, or all constant.
    shape_digest
        16 bytes of all keys and shapes.
    tensors
        Sketches of the tensors.
    norm_digests
        Digest of each norm vector that is not constant, rounded to bfloat16.
    """

    simhash: bytes
    projection: F32
    norm_digest: bytes
    shape_digest: bytes
    tensors: Mapping[TensorKey, TensorSketch]
    norm_digests: Mapping[TensorKey, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Stored:
    """What a digest needs to know beside the words: how much there is, and the other parts."""

    n_rows: int
    row_bytes: int
    extras: Mapping[str, bytes] = field(default_factory=dict)


def tensor_sketches(
    sketcher: Sketcher, stored: list[Stored], spectra: list[F32] | None = None
) -> list[TensorSketch]:
    """The sketches of all tensors of `sketcher`, in the order of its slots.

    Parameters
    ----------
    stored
        How much was stored of each.
    spectra
        Singular values of each, where they were computed.
    """
    tally = sketcher.tally
    tally.settle()
    moments = {
        name: getattr(tally.moments, name).cpu().numpy() for name in ("n", "mean", "m2", "m3", "m4")
    }
    counts, largest = tally.counts.cpu().numpy(), tally.largest.cpu().numpy()
    lanes, norms = tally.lanes.cpu().numpy(), sketcher.row_norms()
    projections = normalised(project(sketcher.bucket_sums(), SMALL_PROJECTION))
    found = []
    for i, about in enumerate(stored):
        n_zero, n_nan, n_inf = (int(count) for count in counts[i])
        n, mean, m2, m3, m4 = (float(moments[name][i]) for name in ("n", "mean", "m2", "m3", "m4"))
        spread = n > 0 and m2 > 0
        found.append(
            TensorSketch(
                finish_digest((int(lanes[i, 0]), int(lanes[i, 1])), about.n_rows, about.row_bytes,
                              about.extras),
                int(n) + n_nan + n_inf, n_zero, n_nan, n_inf,
                mean if n else np.nan,
                (m2 / n) ** 0.5 if n else np.nan,
                m3 / n / (m2 / n) ** 1.5 if spread else np.nan,
                m4 * n / m2**2 if spread else np.nan,
                float(largest[i]) if n else np.nan,
                norms[i],
                spectra[i] if spectra else NONE,
                projections[i],
            )
        )  # fmt: skip
    return found


def model_sums(sketcher: Sketcher, n_models: int) -> list[tuple[bytes, F32]]:
    """SimHash and projection of every model."""
    sums = np.zeros((n_models, sketcher.bucket_sums().shape[1]), np.int64)
    np.add.at(sums, [slot.model for slot in sketcher.slots], sketcher.bucket_sums())
    projections = normalised(project(sums, PROJECTION))
    return [(simhash_bytes(s), p) for s, p in zip(sums, projections, strict=True)]

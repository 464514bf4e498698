"""Quantised children: replay the quantisation on a candidate and compare codes.

For GGUF types whose codes follow from the values alone the reference routine is run on the
candidate. Where scales are stored beside the codes and the routine may be anything, containment is
tested: the candidate's values, given the stored scales, must round to the stored codes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lineage.model import Evidence
from lineage.weights import encodings
from lineage.weights.encodings import contains, is_packed, quantize
from lineage.weights.encodings.ggml import REPLAYED, codes_of
from lineage.weights.fingerprint import Fingerprint, Sample
from lineage.weights.weight import MAIN

__all__ = ["dequantised", "is_quantised", "method_of", "replay_codes"]

F32 = NDArray[np.float32]

_METHODS = {"INT8": "int8"}
"""Encodings that people call by another name."""


def is_quantised(fingerprint: Fingerprint) -> bool:
    """Whether most words of matrices are codes."""
    return encodings.is_quantised(fingerprint.dtype)


def method_of(fingerprint: Fingerprint) -> str:
    """The name of the quantisation: the encoding of most words of matrices."""
    name = fingerprint.dtype.partition(":")[0]
    return _METHODS.get(name, name)


def replay_codes(child: Fingerprint, parent: Fingerprint) -> tuple[float, Evidence] | None:
    """Share of the child's codes that quantising `parent` reproduces, and the same in words.

    None when no quantised matrix of the child has its counterpart, rows and width, in the parent.
    """
    equal = total = 0
    for key, sample in child.samples.items():
        other = parent.samples.get(key)
        if other is None or len(sample.shape) < 2:
            continue
        if sample.dtype in REPLAYED:
            found = _replay_blocks(sample, other)
        elif is_packed(sample.dtype):
            found = _contain(sample, other)
        else:
            continue
        equal += found[0]
        total += found[1]
    if not total:
        return None
    share = equal / total
    words = (
        f"quantising {parent.repo_id} to {method_of(child)} gives {100 * share:.2f} % "
        "of the stored codes"
    )
    return share, Evidence("codes_replayed", share, words)


def _replay_blocks(sample: Sample, other: Sample) -> tuple[int, int]:
    rows, ours, theirs = np.intersect1d(sample.rows, other.rows, return_indices=True)
    if not len(rows) or sample.n_columns != other.n_columns or other.transposed:
        return 0, 0
    stored = np.frombuffer(sample.words, np.uint8).reshape(len(sample.rows), -1)[ours].tobytes()
    codes = codes_of(sample.dtype, stored).codes
    replayed = codes_of(sample.dtype, quantize(sample.dtype, other.values[theirs])).codes
    return int((codes == replayed).sum()), codes.size


def _contain(sample: Sample, other: Sample) -> tuple[int, int]:
    parts = {MAIN: sample.words, **sample.extras}
    n_rows, n_columns = len(sample.rows), sample.n_columns
    candidate = np.full((n_rows, n_columns), np.nan, np.float32)  # NaN: not asked
    if sample.transposed == other.transposed:
        if sample.shape[1:] != other.shape[1:]:
            return 0, 0
        _, ours, theirs = np.intersect1d(sample.rows, other.rows, return_indices=True)
        candidate[ours] = other.values[theirs]
    else:  # one holds inputs, the other outputs: they share a corner of the matrix
        if sample.shape != other.shape[::-1]:
            return 0, 0
        corner = other.values[:, list(sample.rows)].T
        candidate[:, list(other.rows)] = corner
    return contains(sample.dtype, parts, n_rows, n_columns, candidate)


def dequantised(fingerprint: Fingerprint) -> Fingerprint:
    """The same model with every word decoded, as float32 samples."""
    samples = {
        key: Sample(
            sample.name,
            "F32",
            sample.shape,
            sample.rows,
            np.ascontiguousarray(sample.values, dtype="<f4").tobytes(),
            sample.transposed,
        )
        for key, sample in fingerprint.samples.items()
    }
    return Fingerprint(
        fingerprint.repo_id,
        fingerprint.revision,
        fingerprint.scheme,
        fingerprint.format,
        samples,
        (),
        fingerprint.n_parameters,
        fingerprint.architecture,
        fingerprint.metadata,
        fingerprint.stage,
    )

"""Quantised children: replay the quantisation on a candidate and compare codes.

For the reference routines of GGUF (``Q8_0``, ``Q4_0``) codes and scales are computed from the
candidate. For integer weights with stored scales (``I8`` with ``…weight_scale``) the routine may
be anything, so containment is tested: the candidate's values, divided by the stored scale, must
round to the stored codes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lineage.infer.relatedness import common_rows
from lineage.model import Evidence
from lineage.weights.fingerprint import Fingerprint, Sample
from lineage.weights.formats import BLOCK_BYTES, codes_of, quantize_q4_0, quantize_q8_0
from lineage.weights.roles import TensorKey

__all__ = ["dequantised", "is_quantised", "method_of", "replay_codes"]

Quantize = Callable[[NDArray[np.float32]], tuple[NDArray[np.int8], NDArray[np.float32]]]

_ROUTINES: dict[str, Quantize] = {"Q8_0": quantize_q8_0, "Q4_0": quantize_q4_0}


def is_quantised(fingerprint: Fingerprint) -> bool:
    """Whether matrices are stored as codes."""
    return fingerprint.dtype in BLOCK_BYTES or fingerprint.dtype == "I8"


def method_of(fingerprint: Fingerprint) -> str:
    """The name of the quantisation: the dtype most codes are stored in."""
    return "int8" if fingerprint.dtype == "I8" else fingerprint.dtype


def replay_codes(child: Fingerprint, parent: Fingerprint) -> tuple[float, Evidence] | None:
    """Share of the child's codes that quantising `parent` reproduces, and the same in words.

    None when no quantised matrix of the child has its counterpart, rows and width, in the parent.
    """
    equal = total = 0
    for key, sample in child.samples.items():
        other = parent.samples.get(key)
        if (
            other is None
            or len(sample.shape) < 2
            or sample.values.shape[1] != other.values.shape[1]
        ):
            continue
        if sample.dtype in _ROUTINES:
            found = _replay_blocks(sample, other)
        elif sample.dtype == "I8":
            scale = child.samples.get(TensorKey(f"{key.role}.scale", key.layer, key.expert))
            found = _replay_scaled(sample, other, scale) if scale else None
        else:
            continue
        if found is not None:
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


def _rows_of(sample: Sample, rows: NDArray[np.int64]) -> bytes:
    stored = np.frombuffer(sample.words, np.uint8).reshape(len(sample.rows), -1)
    return stored[rows].tobytes()


def _replay_blocks(sample: Sample, other: Sample) -> tuple[int, int] | None:
    rows, ours, theirs = np.intersect1d(sample.rows, other.rows, return_indices=True)
    if not len(rows):
        return None
    codes, _ = codes_of(sample.dtype, _rows_of(sample, ours))
    replayed, _ = _ROUTINES[sample.dtype](other.values[theirs])
    return int((codes == replayed).sum()), codes.size


def _replay_scaled(sample: Sample, other: Sample, scale: Sample) -> tuple[int, int] | None:
    codes, values = common_rows(sample, other)
    by_row = scale.values.reshape(-1)
    if not codes.size or len(by_row) < len(sample.rows):
        return None
    _, ours, _ = np.intersect1d(sample.rows, other.rows, return_indices=True)
    positions = np.asarray(sample.rows)[ours] if len(by_row) > len(sample.rows) else ours
    with np.errstate(divide="ignore", invalid="ignore"):
        rounded = np.rint(values / by_row[positions][:, None])
    return int((rounded == codes).sum()), codes.size


def dequantised(fingerprint: Fingerprint) -> Fingerprint:
    """The same model with stored scales multiplied into integer codes, as float32 samples."""
    samples: dict[TensorKey, Sample] = {}
    for key, sample in fingerprint.samples.items():
        if key.role.endswith(".scale"):
            continue
        scale = fingerprint.samples.get(TensorKey(f"{key.role}.scale", key.layer, key.expert))
        if sample.dtype == "I8" and scale is not None:
            by_row = scale.values.reshape(-1)[: len(sample.rows)]
            values = sample.values * (by_row[:, None] if len(by_row) > 1 else by_row)
        else:
            values = sample.values
        samples[key] = Sample(
            sample.name,
            "F32",
            sample.shape,
            sample.rows,
            np.ascontiguousarray(values, dtype="<f4").tobytes(),
            sample.transposed,
        )
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
    )

"""A model's fingerprint: the stored words of its sampled rows, and how to compare them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from crawler.errors import TruncatedError
from lineage.errors import IncomparableError
from lineage.weights.formats import decode
from lineage.weights.plan import ProbePlan
from lineage.weights.roles import TensorKey

__all__ = ["Directions", "Fingerprint", "Sample", "make_fingerprint", "require_comparable"]

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Sample:
    """Sampled rows of one tensor.

    Attributes
    ----------
    shape
        Shape of the whole tensor as stored.
    rows
        Numbers of the sampled rows, in the order of the original matrix, ascending.
    words
        Stored bytes of these rows, in the same order.
    transposed
        Whether output units are the *columns* (GPT-2's Conv1D).
    extras
        Stored bytes of what decodes the words, by name of the part: scales, zero points ….
    shift
        Added to every value when the file was made (Gemma's norms in GGUF: 1); `values` has it
        taken off.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    rows: tuple[int, ...]
    words: bytes
    transposed: bool = False
    extras: Mapping[str, bytes] = field(default_factory=dict)
    shift: float = 0.0

    @cached_property
    def values(self) -> F32:
        """Decoded values, rows × columns; a vector has one row. What is no number counts as 0."""
        values = decode(self.dtype, self.words).reshape(len(self.rows), -1)
        finite = np.isfinite(values)
        return values if finite.all() else np.where(finite, values, np.float32(0))

    @cached_property
    def units(self) -> F32:
        """Values with one output unit a row."""
        return self.values.T if self.transposed else self.values

    @cached_property
    def directions(self) -> Directions:
        """The units as directions, for row matching."""
        return Directions.of(self.units)


@dataclass(frozen=True)
class Directions:
    """Units of a matrix as directions, centred both ways, and their inner products.

    Attributes
    ----------
    matrix
        Units × inputs: every row centred and scaled to length one, then every column centred.
    gram
        ``matrixᵀ·matrix``, inputs × inputs.
    """

    matrix: F32
    gram: F32

    @staticmethod
    def of(units: F32) -> Directions:
        """Directions of `units` (units × inputs)."""
        rows = units.astype(np.float64)
        rows -= rows.mean(axis=1, keepdims=True)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)
        rows -= rows.mean(axis=0, keepdims=True)
        return Directions(rows.astype(np.float32), (rows.T @ rows).astype(np.float32))


@dataclass(frozen=True)
class Fingerprint:
    """Everything inference may know of a model's weights.

    Attributes
    ----------
    stage
        How deep it was read: 2, 3, or 4 for everything.
    tokens
        Rows of the embedding that were sampled as anchors, with their token as normalised text.
    """

    repo_id: str
    revision: str
    scheme: str
    format: str
    samples: Mapping[TensorKey, Sample]
    file_digests: tuple[str, ...] = ()
    n_parameters: int = 0
    architecture: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    stage: int = 3
    tokens: Mapping[int, str] = field(default_factory=dict)

    @cached_property
    def shape_signature(self) -> tuple[tuple[TensorKey, tuple[int, ...]], ...]:
        """Keys and shapes of all samples: the bucket of directly comparable models."""
        return tuple(sorted((key, sample.shape) for key, sample in self.samples.items()))

    @cached_property
    def n_layers(self) -> int:
        """Number of layers."""
        return 1 + max((key.layer for key in self.samples), default=-1)

    @cached_property
    def dtype(self) -> str:
        """The dtype most words of matrices are stored in."""
        bytes_of: dict[str, int] = {}
        for sample in self.samples.values():
            if len(sample.shape) > 1:
                bytes_of[sample.dtype] = bytes_of.get(sample.dtype, 0) + len(sample.words)
        return max(bytes_of, key=lambda dtype: bytes_of[dtype], default="")


def make_fingerprint(
    plan: ProbePlan,
    payloads: Sequence[bytes],
    *,
    repo_id: str,
    revision: str,
    format_name: str,
    file_digests: tuple[str, ...] = (),
    n_parameters: int = 0,
    architecture: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Fingerprint:
    """Put the bytes that were read where the plan wanted them.

    Raises
    ------
    TruncatedError
        If a payload has not the planned length.
    """
    samples: dict[TensorKey, Sample] = {}
    for block, payload in zip(plan.blocks, payloads, strict=True):
        if len(payload) != block.stop - block.start:
            raise TruncatedError(f"{block.tensor.name}: {len(payload)} bytes came, not as planned")
        rows, words = _in_row_order(block.rows, payload)
        samples[block.role.key] = Sample(
            block.tensor.name, block.tensor.dtype, block.tensor.shape, rows, words,
            block.role.transposed,
        )  # fmt: skip
    return Fingerprint(
        repo_id, revision, plan.scheme, format_name, samples, file_digests, n_parameters,
        architecture, dict(metadata or {}),
    )  # fmt: skip


def require_comparable(a: Fingerprint, b: Fingerprint) -> None:
    """Raise unless two fingerprints were made under one scheme.

    Raises
    ------
    IncomparableError
        Naming the parameter that differs.
    """
    if a.scheme != b.scheme:
        raise IncomparableError(
            f"fingerprints of {a.repo_id} and {b.repo_id} differ in scheme: "
            f"{a.scheme} and {b.scheme}; run `herdbook fingerprint` again"
        )


def _in_row_order(rows: tuple[int, ...], payload: bytes) -> tuple[tuple[int, ...], bytes]:
    if rows == tuple(sorted(rows)):
        return rows, payload
    order = np.argsort(rows)
    stored = np.frombuffer(payload, np.uint8).reshape(len(rows), -1)
    return tuple(int(rows[i]) for i in order), stored[order].tobytes()

"""A model's fingerprint: the stored words of its sampled rows, and how to compare them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from crawler.errors import TruncatedError
from lineage.errors import IncomparableError
from lineage.weights.encodings import decode_rows, row_bytes
from lineage.weights.probe import Block, ProbePlan
from lineage.weights.responses import READERS, responses
from lineage.weights.roles import TensorKey
from lineage.weights.stages import spread
from lineage.weights.weight import MAIN, Weight

__all__ = [
    "MOST_UNITS",
    "Directions",
    "Fingerprint",
    "Sample",
    "decode_sample",
    "make_fingerprint",
    "require_comparable",
]

F32 = NDArray[np.float32]

MOST_UNITS = 256
"""Units of a matrix that are matched: more would only cost, pairs are compared units × units."""

_RESPONDING_LAYERS = 5


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

    @property
    def n_columns(self) -> int:
        """Values of a row; a vector is one row."""
        return math.prod(self.shape if len(self.shape) < 2 else self.shape[1:])

    @cached_property
    def values(self) -> F32:
        """Decoded values, rows × columns; a vector has one row. What is no number counts as 0."""
        values = decode_sample(self)
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


def decode_sample(sample: Sample) -> F32:
    """Values of a sample's words, rows × columns; NaN and infinities as they are stored.

    Raises
    ------
    MalformedError, TruncatedError
        If what decodes the words contradicts them (:func:`lineage.weights.encodings.decode_rows`).
    """
    parts = {MAIN: sample.words, **sample.extras}
    values = decode_rows(sample.dtype, parts, len(sample.rows), sample.n_columns)
    return values - np.float32(sample.shift) if sample.shift else values


@dataclass(frozen=True)
class Directions:
    """Units of a matrix as directions, centred both ways.

    Attributes
    ----------
    matrix
        Units × inputs, at most `MOST_UNITS`, the leading ones: every row centred and scaled to
        length one, then every column centred.
    """

    matrix: F32

    @staticmethod
    def of(units: NDArray[np.float32] | NDArray[np.float64]) -> Directions:
        """Directions of `units` (units × inputs)."""
        rows = units[:MOST_UNITS].astype(np.float64)
        rows -= rows.mean(axis=1, keepdims=True)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)
        rows -= rows.mean(axis=0, keepdims=True)
        return Directions(rows.astype(np.float32))


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
    def responses(self) -> Mapping[TensorKey, Directions]:
        """Units of a few layers as directions of their responses to all sampled tokens.

        Empty without an embedding (:mod:`lineage.weights.responses`).
        """
        embedding = self.samples.get(TensorKey("embed"))
        if embedding is None or len(embedding.shape) != 2:
            return {}
        found = responses(self.samples, embedding.values, self.responding_keys)
        return {key: Directions.of(units) for key, units in found.items()}

    @property
    def responding_keys(self) -> Iterator[TensorKey]:
        """The matrices that `responses` may hold: readers of a few layers, evenly spread."""
        for layer in spread(self.n_layers)[:_RESPONDING_LAYERS]:
            yield from (TensorKey(role, layer) for role in READERS)

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
    payloads: Mapping[tuple[str, int, int], bytes],
    *,
    repo_id: str,
    revision: str,
    format_name: str,
    file_digests: tuple[str, ...] = (),
    n_parameters: int = 0,
    architecture: str | None = None,
    metadata: Mapping[str, str] | None = None,
    tokens: Mapping[int, str] | None = None,
) -> Fingerprint:
    """Put the bytes that were read where the plan wanted them.

    Parameters
    ----------
    payloads
        The bytes of every span of the plan, by (path, start, stop).

    Raises
    ------
    TruncatedError
        If a payload is missing or has not the planned length.
    """
    samples = {block.weight.key: _sample(block, payloads) for block in plan.blocks}
    embedding = samples.get(TensorKey("embed"))
    sampled = set(embedding.rows) if embedding is not None else set()
    return Fingerprint(
        repo_id, revision, plan.scheme, format_name, samples, file_digests, n_parameters,
        architecture, dict(metadata or {}), plan.stage,
        {row: token for row, token in sorted((tokens or {}).items()) if row in sampled},
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


def _sample(block: Block, payloads: Mapping[tuple[str, int, int], bytes]) -> Sample:
    weight = block.weight
    found: dict[str, bytes] = {part.name: b"" for part in weight.parts}
    for name, path, start, stop in block.spans:
        payload = payloads.get((path, start, stop), b"")
        if len(payload) != stop - start:
            raise TruncatedError(f"{weight.name}: {len(payload)} bytes came, not as planned")
        found[name] += payload
    words = found.pop(MAIN)
    if weight.columns is not None:
        words = _own_columns(weight, len(block.rows), words)
    rows, words = (block.rows, words) if found else _ascending(block.rows, words)
    return Sample(
        weight.name, weight.dtype, weight.shape, rows, words, weight.transposed, found,
        weight.shift,
    )  # fmt: skip


def _own_columns(weight: Weight, n_rows: int, words: bytes) -> bytes:
    """Of rows that hold several weights side by side, the bytes of this one."""
    first, stop = (row_bytes(weight.dtype, column) for column in weight.columns or ())
    stored = np.frombuffer(words, np.uint8).reshape(n_rows, -1)
    return stored[:, first:stop].tobytes()


def _ascending(rows: tuple[int, ...], words: bytes) -> tuple[tuple[int, ...], bytes]:
    if rows == tuple(sorted(rows)):
        return rows, words
    order = np.argsort(rows)
    stored = np.frombuffer(words, np.uint8).reshape(len(rows), -1)
    return tuple(int(rows[i]) for i in order), stored[order].tobytes()

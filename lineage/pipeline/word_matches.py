"""Compare every stored word of two models, a few megabytes at a time."""

from __future__ import annotations

import math

import numpy as np

from crawler.headers import DTYPE_BITS
from crawler.records import TensorEntry
from lineage.infer.rebuilt import RebuiltMatch, TensorMatch
from lineage.pipeline.located import ModelReader
from lineage.pipeline.progress import megabytes
from lineage.weights.roles import TensorKey, role_of

__all__ = ["match_words"]

_STEP_BYTES = 16 << 20
_HEAD, _EMBEDDING = TensorKey("head"), TensorKey("embed")


def match_words(child: ModelReader, rebuilt: ModelReader) -> RebuiltMatch:
    """Hold every word of `child` against the same of `rebuilt`, as bits.

    A model with tied embeddings stores them once: where only one of the two stores a head, it is
    held against the other's embeddings.

    Raises
    ------
    CrawlError
        If words cannot be read.
    """
    ours = {tensor.name: tensor for tensor in child.headers.tensors}
    theirs = {tensor.name: tensor for tensor in rebuilt.headers.tensors}
    tied = _tied(rebuilt, theirs)
    matches = []
    n_bytes = sum(tensor.stop - tensor.start for tensor in ours.values())
    with megabytes("comparing", n_bytes) as advance:
        for name, tensor in ours.items():
            key = role_of(name, child.model_type).key
            other = theirs.get(name)
            stand_in = tied if other is None and key == _HEAD else None
            matches.append(_match(child, tensor, key.layer, rebuilt, other or stand_in, stand_in))
            advance(tensor.stop - tensor.start)
    own = _tied(child, ours)
    extra = [
        name
        for name, tensor in theirs.items()
        if name not in ours
        and not (
            own is not None
            and role_of(name, rebuilt.model_type).key == _HEAD
            and _match(rebuilt, tensor, -1, child, own, None).is_exact
        )
    ]
    return RebuiltMatch(tuple(matches), tuple(extra))


def _tied(reader: ModelReader, tensors: dict[str, TensorEntry]) -> TensorEntry | None:
    """The embeddings of a model that stores no head; None where it stores one, or is unclear."""
    keys = {name: role_of(name, reader.model_type).key for name in tensors}
    embeddings = [name for name, key in keys.items() if key == _EMBEDDING]
    if _HEAD in keys.values() or len(embeddings) != 1:
        return None
    return tensors[embeddings[0]]


def _match(
    a: ModelReader,
    tensor: TensorEntry,
    layer: int,
    b: ModelReader,
    other: TensorEntry | None,
    stand_in: TensorEntry | None,
) -> TensorMatch:
    comparable = other is not None and (tensor.dtype, tensor.shape) == (other.dtype, other.shape)
    return TensorMatch(
        tensor.name,
        layer,
        n_words=math.prod(tensor.shape),
        n_equal=_n_equal(a, tensor, b, other) if other is not None and comparable else 0,
        dtype=tensor.dtype,
        shape=tensor.shape,
        rebuilt_dtype=other.dtype if other else None,
        rebuilt_shape=other.shape if other else None,
        tied_to=stand_in.name if stand_in else None,
    )


def _n_equal(a: ModelReader, here: TensorEntry, b: ModelReader, there: TensorEntry) -> int:
    """How many words are equal bit by bit; all or none of a dtype that has no whole bytes."""
    bits = DTYPE_BITS[here.dtype]
    word = np.dtype(f"u{bits // 8 if bits % 8 == 0 else 1}")
    n_equal, n_bytes = 0, here.stop - here.start
    for start in range(0, n_bytes, _STEP_BYTES):
        stop = min(start + _STEP_BYTES, n_bytes)
        first = np.frombuffer(a.read(here.path, here.start + start, here.start + stop), word)
        second = np.frombuffer(b.read(there.path, there.start + start, there.start + stop), word)
        n_equal += int((first == second).sum())
    if bits % 8:
        return math.prod(here.shape) if n_equal == n_bytes else 0
    return n_equal

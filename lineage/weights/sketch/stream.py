"""Sketches of whole files whose bytes pass by once, at constant memory.

Each weight takes the bytes of its parts as they come, in the order of the file; chunks may end
anywhere, in the middle of a word too. What arrives is cut into whole rows, or a row that is long
into pieces, and fed to the kernels that samples are fed to.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from crawler.errors import MalformedError, TruncatedError
from lineage.weights.fingerprint import Sample
from lineage.weights.sketch.decode import WORD_BYTES
from lineage.weights.sketch.device import resolve_device
from lineage.weights.sketch.digest import BLOCK_BYTES
from lineage.weights.sketch.joins import (
    digest_of_norms,
    digest_of_shapes,
    is_norm,
    norm_vector_digest,
)
from lineage.weights.sketch.limits import CACHE_VALUES, MAX_CHUNK, MAX_NORMS, WORK_BYTES
from lineage.weights.sketch.sketcher import PIECE_COLUMNS, Sketcher, Slot
from lineage.weights.sketch.sketches import ModelSketch, Stored, model_sums, tensor_sketches
from lineage.weights.sketch.staging import Staging
from lineage.weights.weight import MAIN, Part, Weight

__all__ = ["StreamSketch", "stream_sketch"]

_MAX_STEP_BYTES = 64 << 20
"""Longest row that is collected whole because it cannot be cut into pieces."""
_MAX_NORM_VECTOR = 1 << 20
"""Norm vectors up to this length are kept until their end, for their digest."""


class StreamSketch:
    """The sketch of a model whose files pass by.

    Parameters
    ----------
    weights
        All weights of the model, with the spans of their parts.
    device
        ``auto``, ``cpu`` or ``cuda``.
    memory_bytes
        Bound of the working memory; tables of figures (about 10 KB a weight and 8 bytes for each
        row whose norm is kept) come on top.

    Notes
    -----
    Values are decoded from the words alone: a packed weight whose scales lie in other tensors has a
    digest, and no moments (NaN), norms or share in SimHash. Singular values are not computed.
    """

    def __init__(
        self,
        weights: Sequence[Weight],
        *,
        device: str | torch.device = "auto",
        memory_bytes: int = 256 << 20,
    ) -> None:
        where = device if isinstance(device, torch.device) else resolve_device(device)
        most = CACHE_VALUES * torch.get_num_threads()
        if where.type != "cpu":
            most = min(memory_bytes // WORK_BYTES, MAX_CHUNK)
        self._most = max(most, CACHE_VALUES)
        self._device = where
        self._weights = sorted(weights, key=lambda weight: weight.key)
        slots = [
            Slot(0, w.key, w.n_columns, min(w.n_rows, MAX_NORMS), w.is_vector)
            for w in self._weights
        ]
        self._sketcher = Sketcher(slots, 1, where)
        self._readers: dict[str, list[_Rows | _OtherPart]] = defaultdict(list)
        self._norms: dict[int, bytearray] = {}
        self._extras: list[dict[str, bytes]] = [{} for _ in self._weights]
        for number, weight in enumerate(self._weights):
            for part in weight.parts:
                self._readers[part.path].append(self._reader(number, weight, part))
        rows = [r for readers in self._readers.values() for r in readers if isinstance(r, _Rows)]
        self._staging = Staging(where, max((r.most_bytes for r in rows), default=0))

    def _reader(self, number: int, weight: Weight, part: Part) -> _Rows | _OtherPart:
        if part.name != MAIN or not _has_rows(weight, part):
            return _OtherPart(number, weight, part)
        if is_norm(weight.key, weight.shape) and weight.n_values <= _MAX_NORM_VECTOR:
            self._norms[number] = bytearray()
        return _Rows(number, weight, part, self._most)

    def feed(self, path: str, offset: int, data: bytes | memoryview) -> None:
        """Take bytes of a file; those of one weight must come in order.

        Raises
        ------
        TruncatedError
            If bytes of a weight were left out.
        """
        view = memoryview(data).cast("B")
        for reader in self._readers.get(path, ()):
            part = reader.part
            start, stop = max(part.start, offset), min(part.stop, offset + len(view))
            if start >= stop:
                continue
            if start - part.start != reader.taken:
                raise TruncatedError(
                    f"{reader.weight.name}: byte {reader.taken} was due, {start - part.start} came"
                )
            piece = view[start - offset : stop - offset]
            reader.taken += len(piece)
            if isinstance(reader, _Rows):
                if reader.number in self._norms:
                    self._norms[reader.number] += piece
                for run in reader.cut(piece):
                    self._take(reader, *run)
            else:
                reader.hash.update(piece)

    def _take(self, reader: _Rows, first_row: int, first_byte: int, data: memoryview) -> None:
        """Sketch whole rows, or a piece of one row from `first_byte` on."""
        weight = reader.weight
        n_rows = len(data) // reader.row_bytes or 1
        stored = np.frombuffer(data, np.uint8).reshape(n_rows, -1)
        rows = _original_rows(weight, first_row, n_rows)
        own = rows >= 0
        if not own.all():
            rows, stored = rows[own], stored[own]
        if weight.columns is not None:
            stored = stored[:, slice(*_column_bytes(weight))]
        if not stored.size:
            return
        host = self._staging.fill(stored.size)
        host.reshape(stored.shape)[:] = stored
        words = self._staging.send().view(stored.shape)
        slots = np.full(len(rows), reader.number, np.int64)
        first_column = first_byte // reader.step_bytes * reader.step_columns
        if reader.decodes:
            self._sketcher.feed_words(
                words, weight.dtype, rows, slots, rows, first_byte, first_column
            )
        else:
            self._sketcher.feed_bytes(words, rows, slots, first_byte)
        if reader.decodes is False:
            sample = _sample(weight, host.tobytes(), tuple(rows.tolist()))
            values = torch.from_numpy(sample.values.copy()).to(self._device)
            self._sketcher.feed_values(values, rows, slots, rows, first_column)
        self._staging.release()

    def finish(self) -> ModelSketch:
        """The sketch, when all bytes have passed by.

        Raises
        ------
        TruncatedError
            If bytes of a weight never came.
        """
        for readers in self._readers.values():
            for reader in readers:
                if reader.taken != reader.part.stop - reader.part.start:
                    raise TruncatedError(
                        f"{reader.weight.name}: {reader.taken} bytes came of "
                        f"{reader.part.stop - reader.part.start}"
                    )
                if isinstance(reader, _OtherPart):
                    self._extras[reader.number][reader.part.name] = reader.hash.digest()
        stored = [
            Stored(w.n_rows, _row_bytes(w), self._extras[i]) for i, w in enumerate(self._weights)
        ]
        tensors = tensor_sketches(self._sketcher, stored)
        norms = {}
        for number, words in self._norms.items():
            weight = self._weights[number]
            digest = norm_vector_digest(_sample(weight, bytes(words), (0,)).values)
            if digest is not None:
                norms[weight.key] = digest
        return ModelSketch(
            *model_sums(self._sketcher, 1)[0],
            digest_of_norms(norms),
            digest_of_shapes((w.key, w.shape) for w in self._weights),
            {w.key: tensor for w, tensor in zip(self._weights, tensors, strict=True)},
            norms,
        )


def stream_sketch(
    chunks: Iterable[tuple[int, bytes]],
    weights: Sequence[Weight],
    *,
    device: str | torch.device = "auto",
    memory_bytes: int = 256 << 20,
) -> ModelSketch:
    """Sketch a model that lies in one file; see :class:`StreamSketch` for several.

    Parameters
    ----------
    chunks
        Offset and bytes, in the order of the file; what belongs to no weight may be left out.
    weights
        The weights, all with parts in one file.
    device, memory_bytes
        As for :class:`StreamSketch`.

    Raises
    ------
    ValueError
        If the weights lie in several files.
    TruncatedError
        If bytes of a weight are missing.
    """
    paths = {part.path for weight in weights for part in weight.parts}
    if len(paths) > 1:
        raise ValueError(f"weights lie in {len(paths)} files: feed a StreamSketch")
    sketch = StreamSketch(weights, device=device, memory_bytes=memory_bytes)
    for offset, data in chunks:
        for path in paths:
            sketch.feed(path, offset, data)
    return sketch.finish()


@dataclass
class _OtherPart:
    """A part without rows of its own, which is hashed as it comes."""

    number: int
    weight: Weight
    part: Part
    taken: int = 0
    hash: hashlib.blake2b = field(default_factory=lambda: hashlib.blake2b(digest_size=16))


class _Rows:
    """Cuts the bytes of a part into rows, or long rows into pieces.

    Attributes
    ----------
    row_bytes
        Bytes of a stored row, other weights' columns included.
    step_columns, step_bytes
        Columns and bytes of a piece of a row; the whole row unless it is long.
    decodes
        Whether the device decodes the words; None: the words alone are no values.
    """

    def __init__(self, number: int, weight: Weight, part: Part, most: int) -> None:
        self.number, self.weight, self.part, self.taken = number, weight, part, 0
        self.row_bytes = _stored_row_bytes(weight, part)
        self.decodes: bool | None = None
        if len(weight.parts) == 1 and part.rows_per_unit == 1:
            self.decodes = weight.dtype in WORD_BYTES and not weight.shift
        self.step_columns, self.step_bytes = weight.n_columns, self.row_bytes
        if weight.n_columns > max(most, PIECE_COLUMNS) and weight.columns is None:
            columns = max(most // PIECE_COLUMNS, 1) * PIECE_COLUMNS
            step, rest = divmod(columns * self.row_bytes, weight.n_columns)
            if not rest and step % BLOCK_BYTES == 0:
                self.step_columns, self.step_bytes = columns, step
        if self.row_bytes == self.step_bytes > _MAX_STEP_BYTES:
            raise MalformedError(f"{weight.name}: rows of {self.row_bytes} bytes cannot be cut")
        at_once = max(most // max(weight.n_columns, 1), 1)
        self.most_bytes = self.step_bytes * (1 if self.step_bytes < self.row_bytes else at_once)
        self._kept = bytearray()
        self._at = 0

    def cut(self, data: memoryview) -> Iterator[tuple[int, int, memoryview]]:
        """Number of the first stored row, place in that row, and bytes, of what is complete."""
        while data:
            row, within = divmod(self._at, self.row_bytes)
            due = min(self.step_bytes, self.row_bytes - within)
            if self._kept or len(data) < due:
                part = data[: due - len(self._kept)]
                self._kept += part
                data = data[len(part) :]
                if len(self._kept) < due:
                    return
                yield row, within, memoryview(bytes(self._kept))
                self._kept.clear()
            else:
                if due == self.row_bytes:
                    due = min(len(data) // due * due, self.most_bytes)
                yield row, within, data[:due]
                data = data[due:]
            self._at += due


def _has_rows(weight: Weight, part: Part) -> bool:
    if not part.rows_per_unit or part.unit_bytes % part.rows_per_unit:
        return False
    row_bytes = _stored_row_bytes(weight, part)
    return row_bytes > 0 and (part.stop - part.start) % row_bytes == 0


def _stored_row_bytes(weight: Weight, part: Part) -> int:
    return part.stop - part.start if weight.is_vector else part.unit_bytes // part.rows_per_unit


def _row_bytes(weight: Weight) -> int:
    """Bytes of a row of the weight, without other weights' columns; 0: hashed as a whole."""
    if not _has_rows(weight, weight.main):
        return 0
    if weight.columns is not None:
        first, stop = _column_bytes(weight)
        return stop - first
    return _stored_row_bytes(weight, weight.main)


def _column_bytes(weight: Weight) -> tuple[int, int]:
    width = WORD_BYTES[weight.main.dtype]
    first, stop = weight.columns or (0, weight.n_columns)
    return first * width, stop * width


def _original_rows(weight: Weight, first: int, n_rows: int) -> NDArray[np.int64]:
    """Number of each stored row in the original; -1: another weight's."""
    stored = np.arange(first, first + n_rows, dtype=np.int64)
    order = weight.order
    if order is None:
        return stored
    chunk, within = np.divmod(stored - order.offset, order.stride)
    own = (stored >= order.offset) & (within < order.chunk)
    if order.halves:
        pair, half = np.divmod(within, 2)
        within = half * (order.chunk // 2) + pair
    rows = chunk * order.chunk + within
    return np.where(own & (rows < weight.n_rows), rows, -1)


def _sample(weight: Weight, words: bytes, rows: tuple[int, ...]) -> Sample:
    return Sample(weight.name, weight.dtype, weight.shape, rows, words, shift=weight.shift)

"""Sketches of fingerprints, many models at once.

Samples of one dtype and one length of rows are laid end to end, whichever models they come from,
and cut into chunks: a chunk is one run through the kernels.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from crawler.errors import MalformedError
from lineage.weights.fingerprint import Fingerprint, Sample, decode_sample
from lineage.weights.roles import TensorKey
from lineage.weights.sketch.decode import WORD_BYTES, is_decoded_there
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
from lineage.weights.sketch.spectra import leading_singular_values
from lineage.weights.sketch.staging import Staging
from lineage.weights.weight import MAIN

__all__ = ["sketch_fingerprints"]

_TABLE_BYTES = 10_000
"""Bytes of figures held for one tensor until its models are done."""


@dataclass(frozen=True)
class _Entry:
    """A sample and its slot; `values` are what it decodes to if the device does not do that."""

    slot: int
    sample: Sample
    row_bytes: int
    n_columns: int
    values: NDArray[np.float32] | None


def sketch_fingerprints(
    fingerprints: Sequence[Fingerprint],
    *,
    device: str | torch.device = "auto",
    memory_bytes: int = 256 << 20,
) -> list[ModelSketch]:
    """Sketch models, several in one run through the kernels.

    Digests and SimHash are equal to the bit on every device and however many models come at once.
    Moments, norms and singular values agree within a relative 1e-5 (see ``docs/sketches.md``).

    Parameters
    ----------
    fingerprints
        The models; their samples lie in host memory already.
    device
        ``auto``, ``cpu`` or ``cuda``.
    memory_bytes
        Bound of the memory that is used on top, on the host and on the device each: buffers,
        working memory, tables of figures. At least 16 MB are used.

    Raises
    ------
    NoDeviceError
        If the device is not there.
    MalformedError
        If a sample's words are not as many as its rows need.
    """
    where = device if isinstance(device, torch.device) else resolve_device(device)
    sketches: list[ModelSketch] = []
    for wave in _waves(fingerprints, memory_bytes // 2 // _TABLE_BYTES):
        sketches += _sketch_wave(wave, where, memory_bytes // 2)
    return sketches


def _waves(
    fingerprints: Sequence[Fingerprint], max_tensors: int
) -> Iterator[Sequence[Fingerprint]]:
    """Models whose tables of figures fit at once; at least one."""
    wave: list[Fingerprint] = []
    for fingerprint in fingerprints:
        if wave and sum(len(f.samples) for f in [*wave, fingerprint]) > max_tensors:
            yield wave
            wave = []
        wave.append(fingerprint)
    if wave:
        yield wave


def _sketch_wave(
    fingerprints: Sequence[Fingerprint], device: torch.device, memory_bytes: int
) -> list[ModelSketch]:
    entries: list[_Entry] = []
    slots: list[Slot] = []
    firsts = [0]
    for model, fingerprint in enumerate(fingerprints):
        for key in sorted(fingerprint.samples):
            entry = _entry(len(entries), fingerprint.samples[key])
            is_vector = len(entry.sample.shape) < 2
            n_norms = min(len(entry.sample.rows), MAX_NORMS)
            slots.append(Slot(model, key, entry.n_columns, n_norms, is_vector))
            entries.append(entry)
        firsts.append(len(entries))
    sketcher = Sketcher(slots, len(fingerprints), device)
    _feed(sketcher, entries, device, memory_bytes)
    spectra = leading_singular_values([e.sample for e in entries], device, memory_bytes)
    stored = [Stored(len(e.sample.rows), e.row_bytes, _extras(e)) for e in entries]
    tensors = tensor_sketches(sketcher, stored, spectra)
    sums = model_sums(sketcher, len(fingerprints))
    found = []
    for model, fingerprint in enumerate(fingerprints):
        norms = _norms(fingerprint)
        own = range(firsts[model], firsts[model + 1])
        found.append(
            ModelSketch(
                *sums[model],
                digest_of_norms(norms),
                digest_of_shapes((key, s.shape) for key, s in fingerprint.samples.items()),
                {slots[i].key: tensors[i] for i in own},
                norms,
            )
        )
    return found


def _entry(slot: int, sample: Sample) -> _Entry:
    n_rows = len(sample.rows)
    row_bytes, rest = divmod(len(sample.words), n_rows) if n_rows else (0, 0)
    if not is_decoded_there(sample):
        # Packed rows may share bytes: such words are digested as a whole, like a further part.
        values = decode_sample(sample)  # not kept with the sample
        return _Entry(slot, sample, 0 if rest else row_bytes, values.shape[1], values)
    width = WORD_BYTES[sample.dtype]
    if rest or row_bytes % width:
        raise MalformedError(
            f"{sample.name}: {len(sample.words)} bytes are not {n_rows} rows of {sample.dtype}"
        )
    return _Entry(slot, sample, row_bytes, row_bytes // width, None)


def _norms(fingerprint: Fingerprint) -> dict[TensorKey, bytes]:
    found = {}
    for key, sample in fingerprint.samples.items():
        if is_norm(key, sample.shape):
            digest = norm_vector_digest(sample.values)
            if digest is not None:
                found[key] = digest
    return found


def _extras(entry: _Entry) -> dict[str, bytes]:
    parts = dict(entry.sample.extras)
    if entry.sample.words and not entry.row_bytes:
        parts[MAIN] = entry.sample.words
    return {name: hashlib.blake2b(part, digest_size=16).digest() for name, part in parts.items()}


@dataclass(frozen=True)
class _Piece:
    """Rows of a sample, or a piece of one row, that go into one chunk."""

    entry: _Entry
    first: int
    stop: int
    columns: tuple[int, int]
    bytes: tuple[int, int]


def _feed(
    sketcher: Sketcher, entries: Sequence[_Entry], device: torch.device, memory_bytes: int
) -> None:
    most = CACHE_VALUES * torch.get_num_threads()
    if device.type != "cpu":
        most = max(CACHE_VALUES, min(memory_bytes // WORK_BYTES, MAX_CHUNK))
    groups: dict[tuple[str, int, int], list[_Entry]] = defaultdict(list)
    for entry in entries:
        dtype = "" if entry.values is not None else entry.sample.dtype
        if entry.n_columns and entry.sample.rows:
            groups[dtype, entry.row_bytes, entry.n_columns].append(entry)
    chunks = [chunk for group in groups.values() for chunk in _chunks(group, most)]
    staging = Staging(device, max((sum(_sizes(chunk)) for chunk in chunks), default=0))
    for chunk in chunks:
        _feed_chunk(sketcher, chunk, staging)


def _chunks(entries: Sequence[_Entry], most: int) -> Iterator[list[_Piece]]:
    """Pieces of up to `most` values together; all of a chunk are of one width."""
    chunk: list[_Piece] = []
    room = 0
    for entry in entries:
        n_columns, n_rows = entry.n_columns, len(entry.sample.rows)
        if n_columns > most:
            yield from ([piece] for row in range(n_rows) for piece in _row_pieces(entry, row, most))
            continue
        first = 0
        while first < n_rows:
            if room == 0:
                if chunk:
                    yield chunk
                chunk, room = [], most // n_columns
            stop = min(n_rows, first + room)
            chunk.append(_Piece(entry, first, stop, (0, n_columns), (0, entry.row_bytes)))
            room -= stop - first
            first = stop
    if chunk:
        yield chunk


def _row_pieces(entry: _Entry, row: int, most: int) -> Iterator[_Piece]:
    """A row that is too long for a chunk, cut where segments and digest blocks end."""
    step = max(most // PIECE_COLUMNS, 1) * PIECE_COLUMNS
    step_bytes, rest = divmod(step * entry.row_bytes, entry.n_columns)
    whole = bool(rest or step_bytes % BLOCK_BYTES)
    for start in range(0, entry.n_columns, step):
        stop = min(start + step, entry.n_columns)
        first = start // step * step_bytes
        span = (first, min(first + step_bytes, entry.row_bytes))
        if whole:
            span = (0, 0 if start else entry.row_bytes)
        yield _Piece(entry, row, row + 1, (start, stop), span)


def _sizes(chunk: Sequence[_Piece]) -> tuple[int, int]:
    """Bytes of the decoded values (0: the device decodes; whole words of 8) and of the words."""
    piece = chunk[0]
    n_rows = sum(p.stop - p.first for p in chunk)
    width = (piece.columns[1] - piece.columns[0]) * 4 if piece.entry.values is not None else 0
    return n_rows * width + -n_rows * width % 8, n_rows * (piece.bytes[1] - piece.bytes[0])


def _feed_chunk(sketcher: Sketcher, chunk: Sequence[_Piece], staging: Staging) -> None:
    value_bytes, word_bytes = _sizes(chunk)
    host = staging.fill(value_bytes + word_bytes)
    rows, slots, places, at, value_at = [], [], [], value_bytes, 0
    for piece in chunk:
        sample, n_rows = piece.entry.sample, piece.stop - piece.first
        if word_bytes:
            stored = np.frombuffer(sample.words, np.uint8).reshape(len(sample.rows), -1)
            part = stored[piece.first : piece.stop, slice(*piece.bytes)]
            host[at : at + part.size].reshape(part.shape)[:] = part
            at += part.size
        if piece.entry.values is not None:
            values = piece.entry.values[piece.first : piece.stop, slice(*piece.columns)]
            room = host[value_at : value_at + 4 * values.size].view(np.float32)
            room.reshape(values.shape)[:] = values
            value_at += 4 * values.size
        rows.append(np.array(sample.rows[piece.first : piece.stop], np.int64))
        slots.append(np.full(n_rows, piece.entry.slot, np.int64))
        places.append(np.arange(piece.first, piece.stop, dtype=np.int64))
    there = staging.send()
    number, slot, place = np.concatenate(rows), np.concatenate(slots), np.concatenate(places)
    words = there[value_bytes:].view(len(number), word_bytes // len(number))
    piece = chunk[0]
    if piece.entry.values is None:
        sketcher.feed_words(
            words, piece.entry.sample.dtype, number, slot, place, piece.bytes[0], piece.columns[0]
        )
    else:
        if word_bytes:
            sketcher.feed_bytes(words, number, slot, piece.bytes[0])
        decoded = there[:value_at].view(torch.float32).view(len(number), -1)
        sketcher.feed_values(decoded, number, slot, place, piece.columns[0])
    staging.release()

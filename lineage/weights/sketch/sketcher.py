"""Takes rows of many tensors on one device and hands out their sketches' figures.

This is the only place that knows what is computed of a row; whole samples, streams and batches all
feed it. Rows may come in any order and in pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lineage.weights.roles import TensorKey
from lineage.weights.sketch.decode import WORD_BYTES, decode_words
from lineage.weights.sketch.digest import block_lanes
from lineage.weights.sketch.fused import can_fuse, measure_fused
from lineage.weights.sketch.mixing import key_hash
from lineage.weights.sketch.scratch import Scratch
from lineage.weights.sketch.segments import SEGMENT, measure_segments
from lineage.weights.sketch.simhash import BUCKETS, fold, segment_signs
from lineage.weights.sketch.tally import Segments, Tally

__all__ = ["PIECE_COLUMNS", "Sketcher", "Slot"]

Rows = NDArray[np.int64]

PIECE_COLUMNS = 1 << 18
"""Rows may be cut at multiples of so many columns: whole segments, and for blocks of up to 256
values whole blocks of the digest too."""


@dataclass(frozen=True)
class Slot:
    """A tensor that is to be sketched.

    Attributes
    ----------
    model
        Number of its model.
    key
        Its place in the network.
    n_columns
        Values of a row.
    n_norms
        How many rows' norms are kept.
    is_vector
        Vectors stand aside in SimHash.
    """

    model: int
    key: TensorKey
    n_columns: int
    n_norms: int
    is_vector: bool


class Sketcher:
    """Figures of many tensors of many models.

    Parameters
    ----------
    slots
        The tensors; from here on each is known by its number.
    n_models
        How many models they belong to.
    device
        Where rows lie that are fed.
    """

    def __init__(self, slots: Sequence[Slot], n_models: int, device: torch.device) -> None:
        self.slots = slots
        self.device = device
        self._scratch = Scratch(device)
        self._n_norms = np.array([slot.n_norms for slot in slots], np.int64)
        self._norm_starts = np.concatenate([[0], np.cumsum(self._n_norms)]).astype(np.int64)
        # One more at the end takes the rows whose norms are not kept.
        self.tally = Tally(len(slots), int(self._norm_starts[-1]) + 1, device)
        self._hashes = np.array([key_hash(slot.key) for slot in slots], np.int64)
        self._asides = np.array([slot.is_vector for slot in slots], bool)
        self._buckets = torch.zeros((len(slots), BUCKETS), dtype=torch.int64, device=device)

    def feed_words(
        self,
        words: Tensor,
        dtype: str,
        rows: Rows,
        slots: Rows,
        places: Rows,
        first_byte: int = 0,
        first_column: int = 0,
    ) -> None:
        """Digest and measure rows of words that the device decodes.

        Parameters are those of :meth:`feed_bytes` and :meth:`feed_values`.
        """
        n_columns = words.shape[1] // WORD_BYTES[dtype]
        whole = n_columns == self.slots[int(slots[0])].n_columns
        if whole and can_fuse(self.device, dtype, n_columns):
            self._feed_fused(words, dtype, rows, slots, places, n_columns)
            return
        self.feed_bytes(words, rows, slots, first_byte)
        self.feed_values(
            decode_words(words, dtype, self._scratch), rows, slots, places, first_column
        )

    def _feed_fused(
        self, words: Tensor, dtype: str, rows: Rows, slots: Rows, places: Rows, n_columns: int
    ) -> None:
        numbers, n_segments = self._to_device(slots), -(-n_columns // SEGMENT)
        chosen, local = np.unique(slots, return_inverse=True)
        signs = self._signs(rows, slots, 0, n_segments)
        found = measure_fused(words, dtype, rows, local, len(chosen), signs)
        self.tally.add_blocks(found.lanes, self._to_device(rows), numbers, 0)
        norms = self._to_device(self._norm_places(slots, places))
        full = n_columns // SEGMENT
        for own, width in ((slice(0, full), SEGMENT), (slice(full, None), n_columns % SEGMENT)):
            if found.statistics[:, own].numel():
                statistics = found.statistics[:, own].flatten(0, 1)
                counts = found.counts[:, own].flatten(0, 1)
                each = len(statistics) // len(rows)
                self.tally.add_segments(Segments(statistics, counts, numbers, norms, each, width))
        self._buckets.index_add_(0, self._to_device(chosen), found.buckets.to(torch.int64))

    def feed_bytes(self, words: Tensor, rows: Rows, slots: Rows, first_byte: int = 0) -> None:
        """Digest rows of stored bytes.

        Parameters
        ----------
        words
            Rows × bytes, uint8, contiguous, on the device.
        rows, slots
            Number of each row in its original matrix, and its tensor.
        first_byte
            Place of the first byte in its row, a multiple of 1,024.
        """
        self.tally.add_blocks(
            block_lanes(words, self._scratch),
            self._to_device(rows), self._to_device(slots), first_byte // 1024,
        )  # fmt: skip

    def feed_values(
        self, values: Tensor, rows: Rows, slots: Rows, places: Rows, first_column: int = 0
    ) -> None:
        """Measure rows of values.

        Parameters
        ----------
        values
            Rows × columns, float32, contiguous, on the device; overwritten.
        rows, slots
            Number of each row in its original matrix, and its tensor; the rows of a tensor lie
            together.
        places
            Which norm of its tensor each row's is (see :attr:`Slot.n_norms`).
        first_column
            Number of the first column, a multiple of :data:`PIECE_COLUMNS`.
        """
        width = values.shape[1]
        full = width // SEGMENT * SEGMENT
        numbers = self._to_device(slots)
        signs = self._signs(rows, slots, first_column // SEGMENT, -(-width // SEGMENT))
        norms = self._to_device(self._norm_places(slots, places))
        for start, stop in ((0, full), (full, width)):
            if start == stop:
                continue
            n_values = min(SEGMENT, stop - start)
            n_segments = (stop - start) // n_values
            first = start // SEGMENT
            own = values[:, start:stop]
            part = own
            if not own.is_contiguous():
                part = self._scratch.take("part", own.shape, torch.float32).copy_(own)
            statistics, counts, standardised = measure_segments(
                part.view(-1, n_values),
                signs[:, first : first + n_segments].reshape(-1),
                self._scratch,
            )
            if part is not own:
                own.copy_(standardised.view(own.shape))
            self.tally.add_segments(
                Segments(statistics, counts, numbers, norms, n_segments, n_values)
            )
        self._fold(values, rows, slots, first_column)

    def _fold(self, standardised: Tensor, rows: Rows, slots: Rows, first_column: int) -> None:
        edges = np.flatnonzero(np.diff(slots)) + 1
        for start, stop in zip([0, *edges.tolist()], [*edges.tolist(), len(slots)], strict=True):
            number = int(slots[start])
            if not self._asides[number]:
                self._buckets[number] += fold(
                    standardised[start:stop], rows[start:stop],
                    self.slots[number].n_columns, first_column,
                )  # fmt: skip

    def _signs(self, rows: Rows, slots: Rows, first: int, n_segments: int) -> Tensor:
        keys = self._to_device(self._hashes[slots])
        signs = segment_signs(keys, self._to_device(rows), first, n_segments)
        return signs * self._to_device(~self._asides[slots])[:, None]

    def _norm_places(self, slots: Rows, places: Rows) -> Rows:
        kept = places < self._n_norms[slots]
        return np.where(kept, self._norm_starts[slots] + places, self._norm_starts[-1])

    def _to_device(self, array: NDArray[np.int64] | NDArray[np.bool_]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def bucket_sums(self) -> NDArray[np.int64]:
        """Sums of every tensor's buckets, turned by its key: tensors × 1,024."""
        sums = self._buckets.cpu().numpy()
        came_from = (np.arange(BUCKETS) - self._hashes[:, None]) % BUCKETS
        return np.take_along_axis(sums, came_from, 1)

    def row_norms(self) -> list[NDArray[np.float32]]:
        """Norms of the kept rows of every tensor."""
        norms = self.tally.squares.sqrt().float().cpu().numpy()
        return [norms[a:b] for a, b in zip(self._norm_starts, self._norm_starts[1:], strict=False)]

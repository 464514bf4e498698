"""Quantised children: whose values were given these codes.

Given the stored scales, the values of a model's source lie in the rounding cells of the stored
codes, all of them (:mod:`lineage.weights.encodings.cells`); those of a relative a tenth of a
percent away miss some. So nothing is assumed of the routine that chose the scales: importance
matrices, searched K-quant scales and calibrated 8-bit floats are tested alike. Exceptions:

* *GPTQ* moves the inputs that it has not yet rounded to make up for the error of those that it has.
  Only the first input of every matrix was rounded from the source's own values; elsewhere codes
  agree for the most part. [1]_
* *AWQ* multiplies the inputs of a matrix by numbers that the preceding norm is divided by: the
  ratio of the norms undoes it. What stands behind no norm (``o``, ``down``) is left out. [2]_
* *bitsandbytes* with nested scales stores magnitudes that were rounded after the codes were
  assigned: a block's values are measured by its own largest one.
* *IQ1–IQ3* codes stand for several values each and have no cells: the error of the decoded values
  is compared between candidates.

Tensors that stay unquantised (the gains of norms, often embeddings) are held against the
candidates' words.

References
----------
.. [1] Frantar et al., GPTQ, ICLR 2023, algorithm 1.
.. [2] Lin et al., AWQ, MLSys 2024, section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lineage.infer.relatedness import common_rows
from lineage.model import Evidence
from lineage.weights import encodings
from lineage.weights.encodings import Cells, Encoding, cells, is_plain, round_to
from lineage.weights.fingerprint import Fingerprint, Sample
from lineage.weights.roles import TensorKey
from lineage.weights.weight import MAIN

__all__ = [
    "CODES_MISSED",
    "TENSORS_OF",
    "Coded",
    "SourceMatch",
    "codes_fact",
    "dequantised",
    "is_quantised",
    "levels_used",
    "method_of",
    "replay_codes",
    "replay_tensor",
]

CODES_MISSED = "codes_missed_by "
"""Begins the name of the evidence that a model, named behind it, is not the source."""
TENSORS_OF = "tensors_of "
"""Begins the name of the evidence how many tensors have the codes of a model, named behind it."""

F32 = NDArray[np.float32]
Counts = tuple[int, int]

_METHODS = {"INT8": "int8"}
"""Encodings that people call by another name."""
_TOKENS = frozenset({"embed", "head"})
_NORM_BEFORE = {
    **dict.fromkeys(("q", "k", "v"), "attn_norm"),
    **dict.fromkeys(("gate", "up"), "ffn_norm"),
}
_WHOLE = 2e-4
"""Share of codes that may miss in a source: overflows and underflows of intermediate types."""
_ONE_ROUNDING = 2.0**-9
"""Relative error of arithmetic in bfloat16, which some writers use between value and code."""
_INTERMEDIATE = ("F16", "BF16")
"""Types that a float32 model is often converted to before it is quantised."""
_RUN = 32
"""Neighbouring values that share a scale in every block format that is common."""


def is_quantised(fingerprint: Fingerprint) -> bool:
    """Whether most words of matrices are codes."""
    return encodings.is_quantised(fingerprint.dtype)


def method_of(fingerprint: Fingerprint) -> str:
    """The name of the quantisation: the encoding of most words of matrices."""
    name = fingerprint.dtype.partition(":")[0]
    return _METHODS.get(name, name)


@dataclass(frozen=True)
class Coded:
    """A quantised model taken apart once, to be held against any number of candidates."""

    fingerprint: Fingerprint

    @cached_property
    def cells(self) -> Mapping[TensorKey, Cells | None]:
        """Cells of the codes of every quantised matrix; None where codes have none."""
        return {key: _cells_of(self.fingerprint.samples[key]) for key in self._keys(codes=True)}

    @cached_property
    def words(self) -> tuple[TensorKey, ...]:
        """Tensors that were left unquantised."""
        return tuple(self._keys(codes=False))

    @cached_property
    def is_exact(self) -> bool:
        """Whether codes were assigned to the source's own values, with the scales as stored."""
        return all(
            sample.dtype.partition(":")[0] not in ("GPTQ", "AWQ", "BNB4")
            for sample in (self.fingerprint.samples[key] for key in self.cells)
        )

    def _keys(self, *, codes: bool) -> Iterator[TensorKey]:
        for key, sample in sorted(self.fingerprint.samples.items()):
            if _is_coded(sample) == codes:
                yield key

    def part(self, key: TensorKey) -> Coded:
        """One quantised tensor of it alone."""
        alone = replace(self.fingerprint, samples={key: self.fingerprint.samples[key]})
        return Coded(alone)

    def match(self, source: Fingerprint) -> SourceMatch:
        """Hold the model against a candidate source."""
        found: dict[TensorKey, Counts] = {}
        loose: dict[TensorKey, Counts] = {}
        errors: dict[TensorKey, tuple[float, float]] = {}
        for key, cell in self.cells.items():
            sample, other = self.fingerprint.samples[key], source.samples.get(key)
            if other is None or self._is_hidden(key, source):
                continue
            values = self._as_written(key, source)
            if cell is None:
                errors[key] = _squared_error(sample, values)
            elif is_first := _first_input(sample):
                rows = np.isin(sample.rows, is_first)
                loose[key] = cell.count(values)
                found[key] = Cells(cell.low[rows], cell.high[rows]).count(values[rows])
            else:
                found[key] = _best_count(cell, values, other.dtype)
                loose[key] = _widened(cell, sample.values).count(values)
        words = {
            key: counts
            for key in self.words
            if (other := source.samples.get(key)) is not None
            and (counts := _equal_words(self.fingerprint.samples[key], other))[1]
        }
        asked = {key: counts for key, counts in found.items() if counts[1]}
        as_many = _n_tokens(self.fingerprint) == _n_tokens(source)
        return SourceMatch(source.repo_id, asked, loose, words, errors, as_many)

    def _as_written(self, key: TensorKey, source: Fingerprint) -> F32:
        """The candidate's values at the sampled places, as the writer would have rounded them."""
        sample = self.fingerprint.samples[key]
        values = _laid_along(sample, source.samples[key])
        if sample.dtype.startswith("AWQ"):
            return values * self._input_scales(key, source, values.shape)
        if sample.dtype.startswith("BNB4") and "nested=1" in sample.dtype:
            return _on_stored_magnitudes(values, sample)
        return values

    def _input_scales(self, key: TensorKey, source: Fingerprint, shape: tuple[int, ...]) -> F32:
        """What inputs were multiplied by, rows (inputs) × 1, from the norm before the matrix."""
        norm = TensorKey(_NORM_BEFORE.get(key.role, ""), key.layer)
        ours, theirs = self.fingerprint.samples.get(norm), source.samples.get(norm)
        rows = list(self.fingerprint.samples[key].rows)
        if ours is None or theirs is None or max(rows) >= min(ours.n_columns, theirs.n_columns):
            return np.ones((shape[0], 1), np.float32)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio: F32 = (theirs.values[0] / ours.values[0])[rows]
        return ratio[:, None]

    def _is_hidden(self, key: TensorKey, source: Fingerprint) -> bool:
        """Whether AWQ may have multiplied this matrix's inputs by numbers that nothing tells."""
        if not self.fingerprint.samples[key].dtype.startswith("AWQ"):
            return False
        if key.role in _NORM_BEFORE:
            return False
        norms = (TensorKey(role, key.layer) for role in ("attn_norm", "ffn_norm"))
        return any(
            not np.array_equal(self.fingerprint.samples[norm].values, source.samples[norm].values)
            for norm in norms
            if norm in self.fingerprint.samples and norm in source.samples
        )


@dataclass(frozen=True)
class SourceMatch:
    """How one candidate fits a quantised model.

    Attributes
    ----------
    source
        The candidate.
    codes
        By quantised tensor: values in the cells of their codes, and values that could be asked.
    loose
        The same with cells a bfloat16 rounding wider; for GPTQ all inputs instead of the first.
    words
        By tensor that was left as it is: equal values, and compared ones.
    errors
        By tensor whose codes have no cells: squared error of the decoded values, and their square.
    has_its_tokens
        Whether the candidate has as many rows of tokens.
    """

    source: str
    codes: Mapping[TensorKey, Counts]
    loose: Mapping[TensorKey, Counts]
    words: Mapping[TensorKey, Counts]
    errors: Mapping[TensorKey, tuple[float, float]]
    has_its_tokens: bool = True

    @cached_property
    def total(self) -> Counts:
        """Fitting and asked codes of all tensors."""
        return _total(self.codes)

    @property
    def misses(self) -> int:
        """Codes that the source would not have been given."""
        fit, n = self.total
        return n - fit

    @property
    def is_whole(self) -> bool:
        """Whether all codes can come from this source."""
        return bool(self.codes) and len(self.held) == len(self.codes)

    @cached_property
    def held(self) -> frozenset[TensorKey]:
        """Quantised tensors whose codes can come from this source."""
        return frozenset(key for key, counts in self.codes.items() if _holds(counts))

    @property
    def is_near(self) -> bool:
        """Whether all codes can come from this source, but for the rounding of the arithmetic."""
        return _holds(_total(self.loose))

    @property
    def loose_share(self) -> float:
        """Share of codes that fit loosely."""
        fit, n = _total(self.loose)
        return fit / n if n else 0.0

    @property
    def n_words_kept(self) -> int:
        """Unquantised tensors, token rows apart, that are the source's, word for word."""
        return sum(equal == n for key, (equal, n) in self.words.items() if key.role not in _TOKENS)


def _n_tokens(fingerprint: Fingerprint) -> int | None:
    embedding = fingerprint.samples.get(TensorKey("embed"))
    return None if embedding is None else embedding.shape[0]


def _total(counts: Mapping[TensorKey, Counts]) -> Counts:
    return sum(fit for fit, _ in counts.values()), sum(n for _, n in counts.values())


def _holds(counts: Counts) -> bool:
    fit, n = counts
    return n > 0 and n - fit <= _WHOLE * n


def replay_codes(child: Fingerprint, parent: Fingerprint) -> tuple[float, Evidence] | None:
    """Share of the child's codes that quantising `parent` can give, and the same in words.

    None when no quantised matrix of the child has its counterpart, rows and width, in the parent.
    """
    return codes_fact(Coded(child), Coded(child).match(parent))


def codes_fact(coded: Coded, match: SourceMatch) -> tuple[float, Evidence] | None:
    """:func:`replay_codes` of a match that was made already."""
    counts = {
        key: match.loose[key] if _first_input(coded.fingerprint.samples[key]) else counts
        for key, counts in match.codes.items()
    }
    fit, n = _total(counts)
    if not n:
        return None
    share = fit / n
    words = (
        f"quantising {match.source} to {method_of(coded.fingerprint)} gives {100 * share:.2f} % "
        "of the stored codes"
    )
    return share, Evidence("codes_replayed", share, words)


def replay_tensor(sample: Sample, other: Sample | None) -> Counts:
    """How many codes of one tensor its counterpart `other` can be given, of how many asked.

    None are asked where there is no counterpart of the same rows and width, or no matrix of codes
    with a meaning each.
    """
    if other is None or not _is_coded(sample):
        return 0, 0
    found = _cells_of(sample)
    return (0, 0) if found is None else _best_count(found, _laid_along(sample, other), other.dtype)


def _is_coded(sample: Sample) -> bool:
    return len(sample.shape) > 1 and encodings.is_quantised(sample.dtype)


def _cells_of(sample: Sample) -> Cells | None:
    parts = {MAIN: sample.words, **sample.extras}
    return cells(sample.dtype, parts, len(sample.rows), sample.n_columns)


def _laid_along(sample: Sample, other: Sample) -> F32:
    """Values of `other` at the places that `sample` holds; NaN where it was not read."""
    laid = np.full((len(sample.rows), sample.n_columns), np.nan, np.float32)
    if sample.transposed == other.transposed:
        if sample.shape[1:] == other.shape[1:]:
            _, ours, theirs = np.intersect1d(sample.rows, other.rows, return_indices=True)
            laid[ours] = other.values[theirs]
    elif sample.shape == other.shape[::-1]:
        # One holds inputs, the other outputs: they share a corner of the matrix.
        laid[:, list(other.rows)] = other.values[:, list(sample.rows)].T
    return laid


def _best_count(cell: Cells, values: F32, dtype: str) -> Counts:
    """Fitting values as they are, or as a float32 model was rounded on the way."""
    found = cell.count(values)
    if dtype != "F32" or found[0] == found[1]:
        return found
    return max(found, *(cell.count(round_to(coarse, values)) for coarse in _INTERMEDIATE))


def _widened(cell: Cells, values: F32) -> Cells:
    slack = np.abs(values) * np.float32(_ONE_ROUNDING)
    return Cells(cell.low - slack, cell.high + slack)


def _first_input(sample: Sample) -> list[int]:
    """The input whose codes GPTQ assigned before it changed anything; none where it is not known.

    With activation order (``order=given``) it began at an input that the file does not name.
    """
    if not sample.dtype.startswith("GPTQ"):
        return []
    return [0] if Encoding.parse(sample.dtype).text("order", "none") != "given" else []


def _on_stored_magnitudes(values: F32, sample: Sample) -> F32:
    """Blocks scaled from their own largest magnitude to the stored one.

    The largest value of a block has level one, so the decoded block says what magnitude is stored.
    """
    block = Encoding.parse(sample.dtype).number("block")
    if not block or values.shape[1] % block:
        return values
    stored = np.abs(sample.values).reshape(-1, block).max(axis=1, keepdims=True)
    blocks = values.reshape(-1, block)
    own = np.abs(blocks).max(axis=1, keepdims=True)  # NaN where not all of the block was read
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled: F32 = blocks * (stored / own)
    return scaled.reshape(values.shape)


def _squared_error(sample: Sample, values: F32) -> tuple[float, float]:
    known = np.isfinite(values)
    found = values[known].astype(np.float64)
    missed = found - sample.values[known]
    return float(missed @ missed), float(found @ found)


def _equal_words(sample: Sample, other: Sample) -> Counts:
    """Values that are the candidate's on the coarser of the two grids, and compared ones."""
    ours, theirs = common_rows(sample, other)
    if ours.shape != theirs.shape:
        return 0, 0
    equal = ours == theirs
    for dtype in {sample.dtype, other.dtype} & {"F16", "BF16"}:
        equal |= round_to(dtype, ours) == round_to(dtype, theirs)
    return int(equal.sum()), ours.size


def levels_used(fingerprint: Fingerprint) -> int | None:
    """How many different values neighbours have at most: of 32 in a row, in 99 runs of 100.

    Independent values of a fine type are nearly all different; of values that were quantised before
    there are no more than that type has codes. None where there are no fine matrices: types of
    fewer than 64 levels say nothing of what was before.
    """
    counts = [
        _distinct(sample.values)
        for sample in fingerprint.samples.values()
        if len(sample.shape) > 1 and _is_fine(sample)
    ]
    found = np.concatenate(counts) if counts else np.zeros(0)
    return int(np.quantile(found, 0.99)) if found.size else None


def _is_fine(sample: Sample) -> bool:
    return is_plain(sample.dtype) or sample.dtype.partition(":")[0] in ("Q8_0", "Q6_K", "INT8")


def _distinct(values: F32) -> NDArray[np.int64]:
    """Different values in every run of neighbours along a row; constant runs are left out."""
    width = values.shape[1] // _RUN * _RUN
    runs = np.sort(values[:, :width].reshape(-1, _RUN), axis=1)
    found = 1 + np.count_nonzero(np.diff(runs, axis=1), axis=1)
    distinct: NDArray[np.int64] = found[found > 1]
    return distinct


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
        fingerprint.tokens,
    )

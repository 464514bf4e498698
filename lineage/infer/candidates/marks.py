"""What a model is looked up by: keys that relatives share to the bit, and short sketches.

*Keys* are 64-bit hashes, a bounded number a model:

* digests of weight files, of tensors (whatever layer they stand in, so that pruned, stacked and
  expert layers are found) and of normalisation vectors, rounded to bfloat16 as quantised copies
  keep them and sorted, so that another order of the residual stream hides nothing;
* *word bands*: the largest value by magnitude of each of four neighbouring runs of 32, rounded to
  bfloat16, with the role, row and place but without layer or expert. The largest of a run is what
  most quantisations keep exactly and what a small step of training leaves on its grid longest.
  Rows of token matrices are named by their token's text where it is known.

Of each sort the smallest hashes are kept (bottom-k sketch): two models that share half of their
bands share about half of those kept, whatever else they hold.

*Sketches* are the model's SimHash and projection (:mod:`lineage.weights.sketch`), and two SimHashes
of the embedding alone, its rows named by token and by number: these meet across depths, mixtures
of experts and vocabularies.

Notes
-----
Bottom-k sketches: Cohen & Kaplan, Summarizing data using bottom-k sketches, PODC 2007.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lineage.weights.encodings import round_to
from lineage.weights.fingerprint import Fingerprint, Sample
from lineage.weights.sketch import ModelSketch, sketch_fingerprints
from lineage.weights.sketch.joins import is_norm, norm_vector_digest
from lineage.weights.sketch.simhash import BUCKETS, PROJECTION

__all__ = ["EMBEDDING_BITS", "MAX_MODELS", "N_BANDS", "N_DIGESTS", "Marks", "marks_of"]

U64 = NDArray[np.uint64]
F32 = NDArray[np.float32]

MAX_MODELS = 1 << 24
"""Models that one index can hold: numbers of models take 24 bits of a sort key."""
N_BANDS = 64
"""Word bands that are kept of a model."""
N_DIGESTS = 48
"""Digests of tensors and of normalisation vectors that are kept of a model."""
_MAX_FILES = 16
EMBEDDING_BITS = 256
_RUN = 32
_BAND = 4
_MIN_ROW = 8
_TOKEN_ROLES = ("embed", "head")
_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Marks:
    """Marks of many models: arrays whose first axis counts models.

    Attributes
    ----------
    ids
        Names.
    shapes
        Number of each model's shape bucket, int64: equal for models that compare directly.
    simhashes
        Models × 128 bytes.
    projections
        Models × 512, float32, of length one; zeros where no matrix says anything. Then neither
        does the SimHash.
    tokens, rows
        SimHashes of the embedding, models × 32 bytes, rows named by token and by number; zeros
        where there is none.
    keys
        Hashes of all models one after the other, uint64.
    starts
        Where each model's keys begin, and the end: models + 1 numbers.
    """

    ids: tuple[str, ...]
    shapes: NDArray[np.int64]
    simhashes: NDArray[np.uint8]
    projections: F32
    tokens: NDArray[np.uint8]
    rows: NDArray[np.uint8]
    keys: U64
    starts: NDArray[np.int64]

    def __post_init__(self) -> None:
        if len(self.ids) > MAX_MODELS:
            raise ValueError(f"{len(self.ids)} models: an index holds at most {MAX_MODELS}")


def marks_of(
    fingerprints: Sequence[Fingerprint], sketches: Mapping[str, ModelSketch] | None = None
) -> Marks:
    """Marks of models that were read.

    Parameters
    ----------
    fingerprints
        The models; packed weights need not be decoded before.
    sketches
        Sketches by model, as stored with the fingerprints. Those missing are computed.

    Raises
    ------
    ValueError
        If there are more than `MAX_MODELS`.
    """
    known = dict(sketches or {})
    missing = [one for one in fingerprints if one.repo_id not in known]
    known |= zip([one.repo_id for one in missing], sketch_fingerprints(missing), strict=True)
    mine = [known[one.repo_id] for one in fingerprints]
    keys = [_keys(one, sketch) for one, sketch in zip(fingerprints, mine, strict=True)]
    numbers: dict[bytes, int] = {}
    n = len(fingerprints)
    return Marks(
        tuple(one.repo_id for one in fingerprints),
        np.array([numbers.setdefault(s.shape_digest, len(numbers)) for s in mine], np.int64),
        np.frombuffer(b"".join(s.simhash for s in mine), np.uint8).reshape(n, BUCKETS // 8),
        np.array([s.projection for s in mine], np.float32).reshape(n, PROJECTION),
        _embeddings(fingerprints, by_token=True),
        _embeddings(fingerprints, by_token=False),
        np.concatenate(keys) if keys else np.zeros(0, np.uint64),
        np.cumsum([0, *map(len, keys)]).astype(np.int64),
    )


def _keys(fingerprint: Fingerprint, sketch: ModelSketch) -> U64:
    files = [_hash("file", digest.encode()) for digest in fingerprint.file_digests]
    tensors = [
        _hash(f"tensor {key.role}", sketch.tensors[key].digest)
        for key, sample in fingerprint.samples.items()
        # Constants are everybody's; vectors speak through the digests of norms.
        if key in sketch.tensors and len(sample.shape) > 1 and sketch.tensors[key].projection.any()
    ]
    norms = [
        _hash(f"norm {key.role}", digest)
        for key, sample in fingerprint.samples.items()
        if is_norm(key, sample.shape)
        and (digest := norm_vector_digest(np.sort(sample.values, axis=None))) is not None
    ]
    bands = np.concatenate([np.zeros(0, np.uint64), *_bands(fingerprint)])
    return np.concatenate(
        [
            _smallest(np.array(files, np.uint64), _MAX_FILES),
            _smallest(np.array(tensors + norms, np.uint64), N_DIGESTS),
            _smallest(bands, N_BANDS),
        ]
    )


def _hash(sort: str, content: bytes) -> int:
    text = sort.encode("utf-8", "surrogatepass") + b"\0" + content
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def _smallest(hashes: U64, n: int) -> U64:
    return np.unique(hashes)[:n]


def _bands(fingerprint: Fingerprint) -> Iterator[U64]:
    for key, sample in fingerprint.samples.items():
        if len(sample.shape) < 2 or not sample.rows or sample.n_columns < _MIN_ROW:
            continue
        tokens = fingerprint.tokens if key.role in _TOKEN_ROLES else {}
        yield _bands_of_rows(sample.values, _row_names(key.role, sample.rows, tokens))


def _row_names(role: str, rows: Sequence[int], tokens: Mapping[int, str]) -> U64:
    """A hash of role and token for each row, of role and number where the token is not known."""
    numbers = np.array(rows, np.uint64) * _MIX
    names = _mixed(numbers ^ np.uint64(_hash("row", role.encode("utf-8", "surrogatepass"))))
    for at, row in enumerate(rows):
        if row in tokens:
            names[at] = _token_name(role, tokens[row])
    return names


@lru_cache(maxsize=1 << 16)
def _token_name(role: str, token: str) -> int:
    return _hash(f"token {role}", token.encode("utf-8", "surrogatepass"))


def _bands_of_rows(values: F32, names: U64) -> U64:
    """Hashes of the bands of rows × columns; runs whose largest values are all alike are left out.

    Rows too short for four runs of 32 are cut into four shorter ones.
    """
    run = min(_RUN, values.shape[1] // _BAND)
    n_bands = values.shape[1] // (run * _BAND)
    runs = values[:, : n_bands * _BAND * run].reshape(len(values), n_bands, _BAND, run)
    at = np.abs(runs).argmax(axis=-1)
    peaks = round_to("BF16", np.take_along_axis(runs, at[..., None], axis=-1)[..., 0])
    words = (np.ascontiguousarray(peaks).view(np.uint32) >> np.uint32(16)).astype(np.uint64)
    shifts = np.arange(_BAND, dtype=np.uint64) * np.uint64(16)
    packed = np.bitwise_or.reduce(words << shifts, axis=-1)
    places = np.arange(n_bands, dtype=np.uint64) * _MIX
    hashes = _mixed(packed ^ _mixed(names[:, None] + places))
    tells = (words != words[..., :1]).any(axis=-1)
    return np.asarray(hashes[tells])


def _mixed(words: U64) -> U64:
    """Splitmix64's finaliser (Steele, Lea & Flood 2014)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _embeddings(fingerprints: Sequence[Fingerprint], *, by_token: bool) -> NDArray[np.uint8]:
    hashes = [_embedding(one, by_token=by_token) for one in fingerprints]
    return np.array(hashes, np.uint8).reshape(len(fingerprints), EMBEDDING_BITS // 8)


def _embedding(fingerprint: Fingerprint, *, by_token: bool) -> NDArray[np.uint8]:
    """SimHash of the embedding's standardised rows; zeros where there is nothing to hash.

    Column ``j`` of a row falls into bucket ``(j + h) mod 256``, each run of 256 columns with a sign
    of its own, ``h`` and signs hashes of the row's name.
    """
    sample = next((s for key, s in fingerprint.samples.items() if key.role == "embed"), None)
    nothing = np.zeros(EMBEDDING_BITS // 8, np.uint8)
    if sample is None or len(sample.shape) < 2:
        return nothing
    tokens = fingerprint.tokens if by_token else {}
    chosen = [i for i, row in enumerate(sample.rows) if row in tokens or not by_token]
    if not chosen:
        return nothing
    names = _row_names("embed", [sample.rows[i] for i in chosen], tokens)
    sums = _bucket_sums(_standardised(sample, chosen), names)
    return np.packbits(sums > 0, bitorder="little") if sums.any() else nothing


def _standardised(sample: Sample, chosen: Sequence[int]) -> NDArray[np.float64]:
    rows = sample.values[chosen].astype(np.float64)
    rows -= rows.mean(axis=1, keepdims=True)
    spread = rows.std(axis=1, keepdims=True)
    return np.clip(rows / np.where(spread > 0, spread, 1), -3, 3)


def _bucket_sums(rows: NDArray[np.float64], names: U64) -> NDArray[np.float64]:
    n_runs = -(-rows.shape[1] // EMBEDDING_BITS)
    padded = np.pad(rows, ((0, 0), (0, n_runs * EMBEDDING_BITS - rows.shape[1])))
    places = np.arange(1, n_runs + 1, dtype=np.uint64) * _MIX
    signs = 1.0 - 2.0 * (_mixed(names[:, None] + places) >> np.uint64(63))
    folded = (padded.reshape(len(rows), n_runs, EMBEDDING_BITS) * signs[..., None]).sum(axis=1)
    turn = (names % np.uint64(EMBEDDING_BITS)).astype(np.int64)
    source = (np.arange(EMBEDDING_BITS) - turn[:, None]) % EMBEDDING_BITS
    return np.asarray(np.take_along_axis(folded, source, axis=1).sum(axis=0))

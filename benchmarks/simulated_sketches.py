"""Marks of simulated models with known parents, a million if wanted, without any weights.

What is simulated are the sums that a SimHash is the signs of: 1,024 Gaussians for a founder. A
child that moved by ``δ`` (relative to the spread of the weights) has its parent's sums plus noise
of variance ``δ² + δ·√(2/π)/16``: its own movement, and what sketches lose by rounding to sixteenths
of a standard deviation. Part of the noise is shared by all who train on one of a few texts. A word
band survives while none of its four largest values leaves its rounding cell in bfloat16 (about
1.2 % of a standard deviation wide). ``python -m benchmarks.candidates`` prints how both agree with
the models of the pocket Hub.

Families grow by preferential attachment, so that the largest hold much of a catalogue, as on the
Hub; one founder in two has a shape of its own, the others take one of five common ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from lineage.infer.candidates import Marks
from lineage.infer.candidates.marks import EMBEDDING_BITS, N_BANDS

__all__ = ["KINDS", "Population", "band_survival", "simulate", "sum_noise"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

KINDS = ("founder", "finetune", "quantised", "merge", "pruned", "vocabulary", "duplicate")
_SHARES = (0.70, 0.13, 0.07, 0.02, 0.03, 0.05)
"""Of those that are no founders, in the order of `KINDS`."""
_FOUNDERS = 0.1
_SIZES = (0.001, 0.03)
_QUANTISED = 0.08
_CELL = 0.012
_TEXTS = 5
_TEXT_SHARE = 0.25
_SUMS, _PROJECTION = 1024, 512
_N_DIGESTS = 12
_KEPT_LAYERS = 0.5
_COMMON_SHAPES = 5
_BATCH = 1 << 15


@dataclass(frozen=True)
class Population:
    """Simulated models: their marks, kinds (places in `KINDS`) and parents (-1: none)."""

    marks: Marks
    kinds: I64
    parents: I64
    """Models × 2."""
    families: I64


def sum_noise(change: F64) -> F64:
    """Variance of the noise in a sketch's sums after a relative change."""
    return np.asarray(change**2 + change * np.sqrt(2 / np.pi) / 16)


def band_survival(change: F64) -> F64:
    """Share of word bands that outlast a relative change.

    A value uniform in a cell of width w stays there under a Gaussian step of size δ with chance
    ``E max(0, 1 − |x|/w)``; a band is four of them.
    """
    reach = _CELL / np.maximum(change, 1e-9)
    inside = erf(reach / np.sqrt(2))
    lost = np.sqrt(2 / np.pi) * (1 - np.exp(-(reach**2) / 2)) / reach
    return np.asarray((inside - lost) ** 4)


def simulate(n: int, seed: int = 0) -> Population:
    """`n` models with their ancestry, in random order."""
    rng = np.random.default_rng(seed)
    kinds, parents, families, depths = _pedigree(n, rng)
    shapes = _shapes(kinds, parents, families, rng)
    hashes = np.zeros((n, _SUMS // 8), np.uint8)
    tokens = np.zeros((n, EMBEDDING_BITS // 8), np.uint8)
    projections = np.zeros((n, _PROJECTION), np.float32)
    keys = np.zeros((n, N_BANDS + _N_DIGESTS), np.uint64)
    for batch in _batches(families):
        place = np.full(n, -1, np.int64)
        place[batch] = np.arange(len(batch))
        sums, own = _grown(kinds[batch], place[parents[batch]] * (parents[batch] >= 0) -
                           (parents[batch] < 0), depths[batch], rng)  # fmt: skip
        body = sums[:, :_SUMS]
        hashes[batch] = np.packbits(body > 0, axis=1, bitorder="little")
        tokens[batch] = np.packbits(sums[:, _SUMS:] > 0, axis=1, bitorder="little")
        folded = body[:, :_PROJECTION] - body[:, _PROJECTION:]
        projections[batch] = folded / np.linalg.norm(folded, axis=1, keepdims=True)
        keys[batch] = own
    rows = tokens.copy()
    tokens[rng.random(n) < 0.2] = 0  # no tokenizer was published
    # A model's keys are sorted and differ; those that meet by chance do no harm.
    keys.sort(axis=1)
    starts = np.arange(n + 1, dtype=np.int64) * keys.shape[1]
    ids = tuple(map(str, range(n)))
    marks = Marks(ids, shapes, hashes, projections, tokens, rows, keys.reshape(-1), starts)
    return Population(marks, kinds, parents, families)


def _pedigree(n: int, rng: np.random.Generator) -> tuple[I64, I64, I64, I64]:
    """Kinds, parents, families and depths; children of founders twice in three times."""
    kinds = rng.choice(np.arange(1, len(KINDS)), n, p=_SHARES)
    kinds[rng.random(n) < _FOUNDERS] = 0
    kinds[:2] = 0
    older = (rng.random(n) * np.arange(n)).astype(np.int64)  # a random earlier model's family
    other, to_founder = rng.random((2, n))
    parents = np.full((n, 2), -1, np.int64)
    families, depths = np.zeros(n, np.int64), np.zeros(n, np.int64)
    for model in range(n):
        if kinds[model] == 0:
            families[model] = model
            continue
        family = families[older[model]]
        parent = family if to_founder[model] < 2 / 3 else older[model]
        if kinds[parent] in (2, 4, 5):  # nobody trains what was quantised or cut here
            parent = family
        families[model], depths[model] = family, depths[parent] + 1
        parents[model, 0] = parent
        if kinds[model] == KINDS.index("merge"):
            second = older[int(other[model] * model)]
            if families[second] != family or kinds[second] != 1 or second == parent:
                kinds[model] = 1
            else:
                parents[model, 1] = second
                depths[model] = max(depths[model], depths[second] + 1)
    # In random order: nobody should profit from the order of births.
    order = rng.permutation(n)
    back = np.empty(n, np.int64)
    back[order] = np.arange(n)
    moved = np.where(parents >= 0, back[parents], -1)
    return kinds[order], moved[order], back[families][order], depths[order]


def _shapes(kinds: I64, parents: I64, families: I64, rng: np.random.Generator) -> I64:
    n = len(kinds)
    shape = np.where(rng.random(n) < 0.5, np.arange(n), n + rng.integers(0, _COMMON_SHAPES, n))
    shapes = shape[families]
    cut = np.isin(kinds, (KINDS.index("pruned"), KINDS.index("vocabulary")))
    return np.where(cut, 2 * n + families * 8 + rng.integers(0, 8, n), shapes)


def _batches(families: I64) -> Iterator[I64]:
    """Models of whole families, many small ones at once."""
    order = np.argsort(families, kind="stable")
    ends = np.flatnonzero(np.diff(families[order], append=-1)) + 1
    start = 0
    for stop in ends:
        if stop - start >= _BATCH or stop == len(order):
            yield order[start:stop]
            start = stop


def _grown(
    kinds: I64, parents: I64, depths: I64, rng: np.random.Generator
) -> tuple[F32, NDArray[np.uint64]]:
    """Sums of model and embedding, and keys, of whole families; parents before children."""
    n, width = len(kinds), _SUMS + EMBEDDING_BITS
    sums = np.zeros((n, width), np.float32)
    keys = np.zeros((n, N_BANDS + _N_DIGESTS), np.uint64)
    texts = rng.standard_normal((_TEXTS, width), np.float32)
    for depth in range(int(depths.max()) + 1):
        for chosen in np.array_split(
            some := np.flatnonzero(depths == depth), len(some) // 4096 + 1
        ):
            fresh = rng.standard_normal((len(chosen), width), np.float32)
            new = rng.integers(0, 1 << 63, (len(chosen), keys.shape[1]), np.uint64)
            if depth == 0:
                sums[chosen], keys[chosen] = fresh, new
                continue
            kind, parent = kinds[chosen], parents[chosen, 0]
            change = np.exp(rng.uniform(*np.log(_SIZES), len(chosen)))
            change[kind == KINDS.index("quantised")] = _QUANTISED
            change[kind == KINDS.index("duplicate")] = 0
            start = sums[parent]
            merged = kind == KINDS.index("merge")
            start[merged] += sums[parents[chosen, 1][merged]]
            start[merged] /= 2
            change[merged] = 0.002  # rounding
            step = fresh * np.sqrt(1 - _TEXT_SHARE).astype(np.float32)
            step += texts[rng.integers(0, _TEXTS, len(chosen))] * np.sqrt(_TEXT_SHARE)
            cut = kind == KINDS.index("pruned")
            step[kind == KINDS.index("quantised")] = fresh[kind == KINDS.index("quantised")]
            sums[chosen] = start + np.sqrt(sum_noise(change))[:, None].astype(np.float32) * step
            # Layers that stayed keep their sums, the others are somewhere else now.
            mixed = sums[chosen[cut]] * np.sqrt(_KEPT_LAYERS) + fresh[cut] * np.sqrt(
                1 - _KEPT_LAYERS
            )
            sums[chosen[cut], :_SUMS] = mixed[:, :_SUMS]
            kept = band_survival(change)
            kept[kind == KINDS.index("quantised")] = 0.4
            kept[merged] = 0.05
            kept[cut] *= _KEPT_LAYERS
            lives = rng.random(new.shape) < kept[:, None]
            lives[:, N_BANDS:] = (
                rng.random((len(chosen), _N_DIGESTS)) < np.where(change < 0.005, 0.5, 0.1)[:, None]
            )
            lives[kind == KINDS.index("duplicate")] = True
            keys[chosen] = np.where(lives, keys[parent], new)
    return sums, keys

"""The Triton kernel of :mod:`lineage.weights.sketch.fused`."""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

import triton
import triton.language as tl

from lineage.weights.sketch.segments import CUT, MAX_SHIFT, TOP_BITS

__all__ = ["sketch_rows"]

_TOP = tl.constexpr(TOP_BITS)
_MAX_SHIFT = tl.constexpr(MAX_SHIFT)
_CUT = tl.constexpr(CUT)
_ROUND = tl.constexpr(1.5 * 2**23)
"""Added and taken off again, rounds a float32 below 2²² to the nearest integer, ties to even. Needs
products before it rounded, so the kernel is built without fusing them (`enable_fp_fusion`)."""
_INFINITE = tl.constexpr(0x7F800000)


@triton.jit
def _decode(words, KIND: tl.constexpr):
    """Exact float32 values of words; those of bfloat16 and of eight bits come as integers.

    Done on the bits, since conversions of subnormals and of what is no number differ by device.
    """
    if KIND == "BF16":
        return (words.to(tl.int32) << 16).to(tl.float32, bitcast=True)
    elif KIND == "F8_E5M2":
        return (words.to(tl.int16) << 8).to(tl.float16, bitcast=True).to(tl.float32)
    elif KIND == "F8_E4M3":
        word = words.to(tl.int32)
        half = (((word & 0x80) << 8) | ((word & 0x7F) << 7)).to(tl.int16)
        value = half.to(tl.float16, bitcast=True).to(tl.float32) * 256.0
        return tl.where((word & 0x7F) == 0x7F, float("nan"), value)
    else:
        return words.to(tl.float32)


@triton.jit
def sketch_rows(
    values, words, order, tiles, shifts, owners, signs, first_factors, second_factors,
    lanes, statistics, counts, buckets,
    n_columns, n_segments, n_blocks, n_words,
    inverse, last_inverse, scaling, last_scaling,
    KIND: tl.constexpr, WORD_BYTES: tl.constexpr, SEGMENT: tl.constexpr, BLOCK_WORDS: tl.constexpr,
):  # fmt: skip
    """Sketch one segment of each row of a tile; the grid is tiles × segments of a row."""
    tile = tl.program_id(0)
    segment = tl.program_id(1)
    begin = tl.load(tiles + tile)
    end = tl.load(tiles + tile + 1)
    column = tl.arange(0, SEGMENT)
    inside = segment * SEGMENT + column < n_columns
    last = segment == n_segments - 1
    inverse = tl.where(last, last_inverse, inverse)
    scaling = tl.where(last, last_scaling, scaling)
    sums = tl.zeros((SEGMENT,), tl.int32)
    for place in range(begin, end):
        row = tl.load(order + place)
        at = row * n_columns + segment * SEGMENT + column
        raw = _decode(tl.load(values + at, mask=inside, other=0), KIND)
        bits = raw.to(tl.int32, bitcast=True) & 0x7FFFFFFF
        finite = bits < _INFINITE
        x = tl.where(finite, raw, 0.0)
        top = tl.max(tl.where(finite, bits, 0), axis=0)
        shift = tl.minimum(_TOP - ((top >> 23) - 126), _MAX_SHIFT)
        y = x * ((shift + 127) << 23).to(tl.float32, bitcast=True)
        q = (y + _ROUND) - _ROUND
        mean = (tl.sum(q, axis=0) * inverse + _ROUND) - _ROUND
        magnitude = tl.sum(tl.abs(q), axis=0)
        d = tl.where(inside, y - mean, 0.0)
        sign = tl.load(signs + row * n_segments + segment)
        factor = tl.where(magnitude > 0, tl.div_rn(scaling, tl.maximum(magnitude, 1.0)), 0.0)
        z = tl.minimum(tl.maximum(d * (factor * sign), -_CUT), _CUT)
        sums += ((z + _ROUND) - _ROUND).to(tl.int32)
        # The integer mean is off by up to half a unit: the powers are taken about a closer centre.
        further = tl.sum(d, axis=0) * inverse
        e = tl.where(inside, d - further, 0.0)
        e2 = e * e
        out = statistics + (row * n_segments + segment) * 7
        tl.store(out, top.to(tl.float32, bitcast=True))
        tl.store(out + 1, mean)
        tl.store(out + 2, further)
        tl.store(out + 3, tl.sum(e, axis=0))
        tl.store(out + 4, tl.sum(e2, axis=0))
        tl.store(out + 5, tl.sum(e2 * e, axis=0))
        tl.store(out + 6, tl.sum(e2 * e2, axis=0))
        out = counts + (row * n_segments + segment) * 3
        tl.store(out, tl.sum(((bits == 0) & inside).to(tl.int32), axis=0))
        tl.store(out + 1, tl.sum((bits > _INFINITE).to(tl.int32), axis=0))
        tl.store(out + 2, tl.sum((bits == _INFINITE).to(tl.int32), axis=0))
        # The digest's blocks of this segment's bytes.
        BLOCKS: tl.constexpr = SEGMENT * WORD_BYTES // (8 * BLOCK_WORDS)
        word = tl.arange(0, BLOCK_WORDS)[None, :]
        block = segment * BLOCKS + tl.arange(0, BLOCKS)[:, None]
        number = block * BLOCK_WORDS + word
        w = tl.load(words + row * n_words + number, mask=number < n_words, other=0)
        folded = w + (w >> 32)
        first = tl.sum(folded * tl.load(first_factors + word), axis=1)
        second = tl.sum(folded * tl.load(second_factors + word), axis=1)
        blocks = segment * BLOCKS + tl.arange(0, BLOCKS)
        out = lanes + (row * n_blocks + blocks) * 2
        tl.store(out, first, mask=blocks < n_blocks)
        tl.store(out + 1, second, mask=blocks < n_blocks)
    bucket = (tl.load(shifts + tile) + segment * SEGMENT + column) % SEGMENT
    owner = tl.load(owners + tile)
    tl.atomic_add(buckets + owner * SEGMENT + bucket, sums, mask=inside)

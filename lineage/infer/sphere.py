"""Merging on the sphere: the arithmetic of four methods, step by step as mergekit 0.1.5 does it.

A tensor is taken for one long vector. What counts is the number type of every step: SLERP works in
float32 and rounds once; NuSLERP, multi-SLERP and the Karcher mean work in the number type of the
merge, so that in bfloat16 every product and every norm is rounded, and even the cosine between two
parents. Sums are taken in float64 here and rounded; a float32 sum in another order differs in its
last bits, which bfloat16 and float16 seldom see and float32 does.

All functions take float32 values that lie on the grid of `dtype` and give such values. Zeros,
equal and opposite parents have an answer, as they have in mergekit; NaN stays NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lineage.weights.encodings import round_to

__all__ = [
    "LINEAR_ABOVE",
    "cosine_between",
    "karcher_mean",
    "multislerp",
    "nuslerp",
    "nuslerp_cosines",
    "slerp",
    "slerp_shares",
    "sphere_shares",
]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

LINEAR_ABOVE = 0.9995
"""Cosine (either sign) above which SLERP interpolates on the line instead of the sphere."""
_NUSLERP_LEAST_NORM = 1e-7
_COLINEAR = 1e-16
_MULTISLERP_EPS = 1e-8


def cosine_between(x: F32, y: F32) -> float:
    """Cosine of two tensors as vectors; 1 where one is zero or not finite, as on a line."""
    x64, y64 = x.astype(np.float64).ravel(), y.astype(np.float64).ravel()
    scale = float(np.linalg.norm(x64) * np.linalg.norm(y64))
    if not 0 < scale < np.inf:
        return 1.0
    return float(np.clip(x64 @ y64 / scale, -1.0, 1.0))


def slerp_shares(t: float, cosine: float) -> tuple[float, float]:
    """What SLERP multiplies its two parents with, in float32 (Shoemake 1985).

    Examples
    --------
    >>> [round(share, 4) for share in slerp_shares(0.5, 0.0)]
    [0.7071, 0.7071]
    >>> slerp_shares(0.25, 0.9999)
    (0.75, 0.25)
    """
    t32 = np.float32(t)
    rest = np.float32(1) - t32
    if abs(cosine) > LINEAR_ABOVE:
        return float(rest), float(t32)
    angle = np.arccos(np.float32(cosine))
    sine = np.sin(angle)
    return float(np.sin(rest * angle) / sine), float(np.sin(t32 * angle) / sine)


def sphere_shares(t: float, cosine: float) -> tuple[F64, F64, F64]:
    """Unrounded shares of two parents on the sphere, and what they change with t and the cosine.

    Parameters
    ----------
    cosine
        Between -1 and 1, both exclusive.

    Returns
    -------
    tuple of array
        Shares of the first and the second parent, and their derivatives to t and to `cosine`.
    """
    angle = np.arccos(cosine)
    parts = np.array([1 - t, t])
    shares = np.sin(parts * angle) / np.sin(angle)
    turned = np.cos(parts * angle) / np.sin(angle)
    to_cosine = (shares * cosine / np.sin(angle) - parts * turned) / np.sin(angle)
    return shares, np.array([-angle, angle]) * turned, to_cosine


def slerp(x: F32, y: F32, t: float, cosine: float, dtype: str) -> F32:
    """Interpolation between `x` (t = 0) and `y` (t = 1), in float32, rounded once.

    Parameters
    ----------
    cosine
        Between the whole tensors, of which `x` and `y` may be a part.
    """
    first, second = slerp_shares(t, cosine)
    return round_to(dtype, np.float32(first) * x + np.float32(second) * y)


def nuslerp(
    x: F32, y: F32, t: float, dtype: str, *, axis: int | None = None, cosine: F32 | None = None
) -> F32:
    """Interpolation that keeps the sphere however small the angle is, every step in `dtype`.

    Parameters
    ----------
    x, y
        Parents, or what they changed of a base; rows × columns.
    axis
        None takes the tensor for one vector, -1 each row, 0 each column. A single row is a vector,
        whatever is asked.
    cosine
        Cosines to be used instead of those of `x` and `y`, in the shape that these have.
    """
    if axis is not None and len(x) == 1:
        axis = None
    if cosine is None:
        cosine = nuslerp_cosines(x, y, dtype, axis)
    one_less = round_to(dtype, np.float32(1) - round_to(dtype, cosine * cosine))
    colinear = one_less <= np.float32(_COLINEAR)
    angle = round_to(dtype, np.arccos(np.where(colinear, np.float32(0), cosine), dtype=np.float32))
    rest, share = np.float32(1 - t), np.float32(t)

    def sine(of: F32) -> F32:
        return round_to(dtype, np.sin(round_to(dtype, of)))

    on_sphere = round_to(
        dtype,
        round_to(dtype, sine(rest * angle) * x) + round_to(dtype, sine(share * angle) * y),
    )
    on_line = round_to(dtype, round_to(dtype, rest * x) + round_to(dtype, share * y))
    return np.where(colinear, on_line, round_to(dtype, on_sphere / sine(angle)))


def nuslerp_cosines(x: F32, y: F32, dtype: str, axis: int | None) -> F32:
    """Cosines between `x` and `y` as NuSLERP rounds them: one, or one a row or a column."""

    def unit(values: F32) -> F32:
        norm = np.sqrt(np.square(values.astype(np.float64)).sum(axis=axis, keepdims=True))
        rounded = round_to(dtype, norm.astype(np.float32))
        least = _scalar(dtype, _NUSLERP_LEAST_NORM)
        return round_to(dtype, np.asarray(values / np.maximum(rounded, least), np.float32))

    product = round_to(dtype, unit(x) * unit(y)).astype(np.float64)
    total = product.sum(axis=axis, keepdims=True).astype(np.float32)
    return np.clip(round_to(dtype, total), np.float32(-1), np.float32(1))


def multislerp(parents: F32, weights: Sequence[float], dtype: str) -> F32:
    """Weighted mean of directions, times the weighted mean of norms; every step in `dtype`.

    The method's detour through the tangent space at the mean leads back to the mean, for what the
    weighted directions are is what the mean is; only rounding is left of it.

    Parameters
    ----------
    parents
        Models × rows × columns; or what they changed of a base.
    weights
        One a model, of any sum but zero.
    """
    flat = parents.reshape(len(parents), -1)
    raw = round_to(dtype, np.array(weights, np.float32))
    shares = round_to(dtype, raw / _total(raw, dtype))
    eps = np.float32(_MULTISLERP_EPS)
    lengths = np.array([_norm(vector, dtype) for vector in flat], np.float32)
    # In half precision eps is 0, and what did not change has no direction, or no angle to the mean:
    # NaN, as merge tools say.
    with np.errstate(divide="ignore", invalid="ignore"):
        units = round_to(dtype, flat / round_to(dtype, lengths + eps)[:, None])
    mean = _weighted_sum(units, shares, dtype)
    length = _norm(mean, dtype)
    if length < eps:
        return _weighted_sum(flat, shares, dtype).reshape(parents.shape[1:])
    mean = round_to(dtype, mean / length)
    along = np.array([_total(round_to(dtype, unit * mean), dtype) for unit in units])
    tangents = round_to(dtype, units - round_to(dtype, along[:, None] * mean))
    tangent = _weighted_sum(tangents, shares, dtype)
    angle = _scalar(dtype, _norm(tangent, dtype) + eps)
    cosine, sine = _scalar(dtype, np.cos(angle)), _scalar(dtype, np.sin(angle))
    with np.errstate(invalid="ignore"):
        onwards = round_to(dtype, tangent * _scalar(dtype, sine / angle))
    result = round_to(dtype, round_to(dtype, mean * cosine) + onwards)
    norm = _total(round_to(dtype, lengths * shares), dtype)
    return round_to(dtype, result * norm).reshape(parents.shape[1:])


def karcher_mean(
    parents: F32,
    dtype: str,
    *,
    max_iter: int = 10,
    tol: float = 1e-5,
) -> F32:
    """The point of the sphere with the least squared angles to all parents, times the mean norm.

    Gradient steps from the mean direction (Karcher 1977), vectors in `dtype`. Norms are float32:
    they divide as such, but are rounded to `dtype` where they multiply, as PyTorch does with a
    scalar on the left. Parents are summed in their order, which shows in last bits.

    Parameters
    ----------
    parents
        Models × rows × columns.
    """
    flat = parents.reshape(len(parents), -1)
    lengths = [_norm(vector, "F32") for vector in flat]
    units = [
        round_to(dtype, vector / length)
        for vector, length in zip(flat, lengths, strict=True)
        if length > tol
    ]
    if not units:
        return np.zeros_like(parents[0])
    share = np.float32(1 / len(flat) / (len(units) / len(flat)))
    mean = np.zeros_like(flat[0])
    for unit in units:
        mean = round_to(dtype, mean + round_to(dtype, share * unit))
    length = _norm(mean, "F32")
    mean = units[0] if length < tol else round_to(dtype, mean / length)
    for _ in range(max_iter):
        tangent = _towards(units, mean, share, tol, dtype)
        length = _norm(tangent, "F32")
        if length < tol:
            break
        before = mean
        mean = round_to(
            dtype,
            round_to(dtype, _scalar(dtype, np.cos(length)) * mean)
            + round_to(dtype, _scalar(dtype, np.sin(length)) * round_to(dtype, tangent / length)),
        )
        length = _norm(mean, "F32")
        if length > tol:
            mean = round_to(dtype, mean / length)
        if np.array_equal(mean, before, equal_nan=True):  # and so for ever
            break
    scale = np.float32(0)
    for length in lengths:
        scale = np.float32(scale + np.float32(1 / len(flat)) * length)
    return round_to(dtype, _scalar(dtype, scale) * mean).reshape(parents.shape[1:])


def _towards(units: Sequence[F32], mean: F32, share: np.float32, tol: float, dtype: str) -> F32:
    """The mean way from a point of the sphere to all parents, in the tangent space there."""
    tangent = np.zeros_like(mean)
    for unit in units:
        along = np.clip(_dot(mean, unit, dtype), np.float32(-1), np.float32(1))
        angle = _scalar(dtype, np.arccos(along))
        if angle < tol:
            continue
        stretch = _scalar(dtype, angle / _scalar(dtype, np.sin(angle)))
        step = round_to(dtype, unit - round_to(dtype, along * mean))
        scaled = round_to(dtype, _scalar(dtype, share * stretch) * step)
        tangent = round_to(dtype, tangent + scaled)
    return tangent


def _scalar(dtype: str, value: float | np.float32) -> np.float32:
    return np.float32(round_to(dtype, np.array([value], np.float32))[0])


def _norm(vector: F32, dtype: str) -> np.float32:
    return _scalar(dtype, float(np.linalg.norm(vector.astype(np.float64))))


def _total(values: F32, dtype: str) -> np.float32:
    return _scalar(dtype, float(values.astype(np.float64).sum()))


def _dot(x: F32, y: F32, dtype: str) -> np.float32:
    return _scalar(dtype, float(x.astype(np.float64) @ y.astype(np.float64)))


def _weighted_sum(vectors: F32, weights: F32, dtype: str) -> F32:
    products = round_to(dtype, vectors * weights[:, None]).astype(np.float64)
    return round_to(dtype, products.sum(axis=0).astype(np.float32))

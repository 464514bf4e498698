"""What a masked merge says of its recipe: the method's name, densities, weights as people write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage.infer.methods.masked_search import MaskedMerge
from lineage.infer.methods.masks import Changes, MaskFit, Rule

__all__ = ["GAMMA", "MaskShapes", "mask_shapes", "mask_weights", "method_name", "rounded_weights"]

F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

_KEEPS_ALL = 0.98
_SHARP = 0.6
_TOP = 0.99
_LEAST_TOP_WORDS = 20
_SURE = 0.9
"""Probability from which it counts as known whether a change was kept."""
GAMMA = 0.01
"""Share of the largest changes that breadcrumbs leaves out, mergekit's default."""
_DELLA_SLOPE = 0.12
"""Half of what DELLA's default epsilon (.15) makes of a row's ranks."""
_N_TOTALS = 12
_TIED = 0.01
"""Gap between ranks at a step from which changes count as tied there."""


@dataclass(frozen=True)
class MaskShapes:
    """What the keep curves look like.

    Attributes
    ----------
    are_trimmed
        Whether masks follow from the size of the change; else they are random.
    loses_top
        Whether the largest one per cent are dropped as well.
    slope
        Rise of the share kept from the smallest change of a row to the largest.
    densities
        Share kept, of every parent.
    """

    are_trimmed: bool
    loses_top: bool
    slope: float
    densities: tuple[float, ...]


def mask_shapes(merge: MaskedMerge) -> MaskShapes:
    """Describe the keep curves of a masked merge."""
    changes, fit = merge.changes, merge.fit
    sharp: list[float] = []
    slopes: list[float] = []
    densities: list[float] = []
    tops: list[Bools] = []
    for i in range(len(merge.parents)):
        used = changes.parents[i] != 0
        kept, place = fit.kept[i, used], changes.place[i, used]
        row = changes.row_place[i, used]
        share = float(np.mean(kept)) if used.any() else 1.0
        curve = fit.curves[i]
        if share < _KEEPS_ALL:
            sharp.append(float(np.mean(curve * (1 - curve)) / max(1e-9, share * (1 - share))))
            centred = row - row.mean()
            slopes.append(float(centred @ kept / max(1e-9, centred @ centred)))
        is_sure = np.abs(kept - 0.5) > _SURE - 0.5
        tops.append(kept[is_sure & (place > _TOP)] > 0.5)
        densities.append(_density(place, kept, len(used)) if used.any() else 1.0)
    trimmed = bool(sharp) and float(np.median(sharp)) < _SHARP
    random = tuple(
        float(np.mean(fit.kept[i, changes.parents[i] != 0])) for i in range(len(merge.parents))
    )
    # What is left out is left out of every parent, and tells most where a change weighs much.
    top = np.concatenate(tops)
    loses_top = trimmed and len(top) >= _LEAST_TOP_WORDS and top.mean() < 0.5
    if loses_top:
        densities = [round(density - GAMMA, 4) for density in densities]
    return MaskShapes(
        trimmed,
        bool(loses_top),
        float(np.median(slopes)) if slopes else 0.0,
        tuple(densities) if trimmed else random,
    )


def method_name(merge: MaskedMerge) -> str:
    """Mergekit's name of the method."""
    shapes, rule = mask_shapes(merge), merge.fit.rule
    if shapes.are_trimmed:
        if shapes.loses_top or rule is Rule.SUM:
            return "breadcrumbs" if rule is Rule.SUM else "breadcrumbs_ties"
        return "ties"
    if shapes.slope > _DELLA_SLOPE or rule is Rule.MEAN:
        return "della_linear" if rule is Rule.SUM else "della"
    return "dare_linear" if rule is Rule.SUM else "dare_ties"


def mask_weights(changes: Changes, fit: MaskFit, are_trimmed: bool) -> F64:
    """Weights as the recipe gives them, groups × parents; under the mean rule they add to 1.

    Random masks scale what they keep up by what was lost in size, so that is taken off.
    """
    if are_trimmed or fit.rule is Rule.MEAN:
        return fit.coefficients
    size = np.abs(changes.parents)
    kept = (size * fit.kept).sum(axis=1) / np.maximum(size.sum(axis=1), 1e-300)
    return np.asarray(fit.coefficients * kept)


def rounded_weights(merge: MaskedMerge, layers: int) -> Iterator[tuple[tuple[float, ...], ...]]:
    """Weights by parent, one or one a layer, that people may have written; roundest first."""
    fitted = merge.fit.coefficients
    n_groups = len(fitted)
    if n_groups > 1 and n_groups == layers:
        yield tuple(tuple(float(np.round(w, 3)) for w in column) for column in fitted.T)
        return
    mean = fitted.mean(axis=0)
    if merge.fit.rule is not Rule.MEAN:
        for digits in (2, 3):
            yield tuple((float(np.round(w, digits)),) for w in mean)
        return
    # Only ratios show but for last bits: totals that make all weights round come first.
    candidates = np.arange(2, 301) / 100
    off = [np.abs(mean * t - np.round(mean * t, 2)).max() / t for t in candidates]
    coarse = [0.0 if np.allclose(np.round(mean * t, 2) * 10 % 1, 0) else 0.002 for t in candidates]
    for at in np.argsort(np.array(off) + np.array(coarse), kind="stable")[:_N_TOTALS]:
        weights = np.round(mean * candidates[at], 2)
        if (weights > 0).all():
            yield tuple((float(w),) for w in weights)


def _density(place: F64, kept: F64, n_words: int) -> float:
    """The share of all changes that is kept, where the largest are.

    A step is fitted to the keep probabilities. Where changes tie at the step (of words that are
    stored coarsely, many do), a part of them was kept, and the mean says how large a part.
    """
    order = np.argsort(place, kind="stable")
    ordered, places = kept[order], place[order]
    below = np.concatenate([[0.0], np.cumsum(ordered)])
    above = np.concatenate([np.cumsum((1 - ordered)[::-1])[::-1], [0.0]])
    cut = int(np.argmin(below + above))
    if cut == 0:
        return 1.0
    edge = float(places[cut - 1])
    next_edge = float(places[cut]) if cut < len(places) else 1.0
    if next_edge - edge > _TIED:
        return float(np.round(kept.sum() / n_words, 2))
    return float(np.round(1 - (edge + next_edge) / 2, 2))

"""What kind of change leads from a parent to its child, read from ``δ = C − P``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage.infer.relatedness import common_rows
from lineage.model import Evidence, Kind
from lineage.weights.fingerprint import Fingerprint, Sample
from lineage.weights.roles import TensorKey

__all__ = ["Change", "describe_change", "frozen_share", "numerical_rank"]

F64 = NDArray[np.float64]

_CONTINUED = 0.10
"""Relative change from which training counts as continued pre-training, not fine-tuning."""
_MANTISSA_BITS = {"BF16": 7, "F16": 10, "F32": 23}
_WRITERS = ("o", "down")
_MIN_SIDE = 12


@dataclass(frozen=True, slots=True)
class Change:
    """The kind of a change, its rank if low, its size, and why."""

    kind: Kind
    rank: int | None
    relative: float
    evidence: tuple[Evidence, ...]


def describe_change(child: Fingerprint, parent: Fingerprint) -> Change:
    """Classify the change from `parent` to `child`, two models of one layout."""
    deltas: dict[TensorKey, F64] = {}
    origins: dict[TensorKey, F64] = {}
    equal = total = 0
    for key in sorted(child.samples.keys() & parent.samples.keys()):
        x, y = common_rows(child.samples[key], parent.samples[key])
        if x.shape != y.shape or not x.size:
            continue
        deltas[key] = x.astype(np.float64) - y.astype(np.float64)
        origins[key] = y.astype(np.float64)
        equal += int((x == y).sum())
        total += x.size
    moved = float(sum((delta**2).sum() for delta in deltas.values()))
    size = float(sum((origin**2).sum() for origin in origins.values()))
    relative = float(np.sqrt(moved / size)) if size else 0.0
    evidence = [
        Evidence("relative_change", relative, f"the weights moved by {100 * relative:.3g} %"),
        Evidence(
            "words_untouched",
            equal / total if total else None,
            f"{100 * equal / total:.1f} % of the sampled words are untouched"
            if total
            else "nothing was comparable",
        ),
    ]
    kind, rank, reason = _classify(child, parent, deltas, origins, relative)
    return Change(kind, rank, relative, (*reason, *evidence))


def _classify(
    child: Fingerprint,
    parent: Fingerprint,
    deltas: dict[TensorKey, F64],
    origins: dict[TensorKey, F64],
    relative: float,
) -> tuple[Kind, int | None, tuple[Evidence, ...]]:
    if any(
        child.samples[key].shape != parent.samples[key].shape and key.role in ("embed", "head")
        for key in deltas
    ):
        return Kind.VOCABULARY, None, (_fact("token_rows", 1.0, "the vocabulary was edited"),)
    touched = {key for key, delta in deltas.items() if np.any(delta)}
    removed = _removed_direction(deltas, origins, touched)
    if removed is not None:
        return Kind.ABLITERATED, 1, (removed,)
    ranks = _low_ranks(child, deltas, touched)
    if ranks is not None:
        rank = int(np.median(ranks))
        reason = f"{len(ranks)} matrices changed, each by rank about {rank}; the rest is untouched"
        return Kind.LORA_MERGED, rank, (_fact("rank", float(rank), reason),)
    if relative >= _CONTINUED:
        return Kind.CONTINUED_PRETRAINING, None, ()
    return Kind.FINETUNE, None, ()


def _fact(name: str, value: float, text: str) -> Evidence:
    return Evidence(name, value, text)


def _removed_direction(
    deltas: dict[TensorKey, F64], origins: dict[TensorKey, F64], touched: set[TensorKey]
) -> Evidence | None:
    """A rank-one change of the residual stream's writers with ``⟨δ, P⟩/‖δ‖² = −1``."""
    writers = [key for key in touched if key.role in _WRITERS]
    others = [key for key in touched if key.role not in (*_WRITERS, "embed")]
    if not writers or others:
        return None
    first, arrows = [], []
    for key in writers:
        delta = deltas[key]
        singular = np.linalg.svd(delta, compute_uv=False)
        energy = float((singular**2).sum())
        first.append(float(singular[0] ** 2) / energy)
        arrows.append(float((delta * origins[key]).sum()) / energy)
    share, arrow = float(np.median(first)), float(np.median(arrows))
    if share < 0.8 or abs(arrow + 1) > 0.1:
        return None
    return _fact(
        "removed_direction",
        arrow,
        f"one direction was removed from {len(writers)} matrices that write to the residual "
        f"stream ({100 * share:.0f} % of the change has rank one, arrow {arrow:.3f})",
    )


def _low_ranks(
    child: Fingerprint, deltas: dict[TensorKey, F64], touched: set[TensorKey]
) -> list[int] | None:
    """Ranks of all changed matrices if each is low and nothing else was touched, else None."""
    matrices = [key for key in touched if min(deltas[key].shape) >= _MIN_SIDE]
    if not matrices or len(matrices) < len(touched):
        return None
    if any(key.layer < 0 for key in touched):
        return None
    ranks, low = [], []
    for key in sorted(matrices):
        rank = numerical_rank(deltas[key], _rounding(child.samples[key]))
        ranks.append(rank)
        low.append(1 <= rank <= min(deltas[key].shape) / 2)
    return ranks if np.mean(low) >= 0.9 else None


def numerical_rank(delta: F64, noise_rms: float) -> int:
    """Singular values that noise of this size cannot make.

    The largest singular value of an R × C matrix of independent noise is about
    ``rms·(√R + √C)`` (Bai & Yin 1993); a quarter is added since rounding noise is not Gaussian.
    """
    singular = np.linalg.svd(delta, compute_uv=False)
    edge = noise_rms * (np.sqrt(delta.shape[0]) + np.sqrt(delta.shape[1]))
    return int((singular > max(1.25 * edge, 1e-6 * float(singular[0]))).sum())


def _rounding(sample: Sample) -> float:
    """Root mean square of the error of rounding to the sample's dtype (uniform over one unit)."""
    bits = _MANTISSA_BITS.get(sample.dtype, 23)
    _, exponent = np.frexp(sample.values.astype(np.float64))
    unit = np.ldexp(1.0, exponent - 1 - bits)
    return float(np.sqrt(np.mean(unit**2) / 12))


def frozen_share(child: Fingerprint, parent: Fingerprint) -> float:
    """Share of the tensors that two models have in common, word for word."""
    shared = child.samples.keys() & parent.samples.keys()
    equal = sum(child.samples[key].words == parent.samples[key].words for key in shared)
    return equal / len(shared) if shared else 0.0

"""Are probabilities what they say? Calibration error, scores and the reliability diagram.

Definitions follow Guo et al. (2017), *On Calibration of Modern Neural Networks*, with bins of
equal mass (Nguyen & O'Connor 2015). Findings of one family are not independent: intervals resample
families.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from lineage.evolution.clusters import cluster_bootstrap
from lineage.pipeline.claim_scores import wilson

__all__ = ["Judged", "bins_of", "calibration_error", "diagram", "reliability"]

_MAX_BINS = 10
_LEAST_PER_BIN = 50
_N_RESAMPLES = 2_000
_WIDTH = 40

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Judged:
    """A belief, whether it was `right`, and the family it is about; `group` is the kind of belief.

    Raises
    ------
    ValueError
        If the probability is none, or certainty.
    """

    probability: float
    right: bool
    family: str
    group: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.probability < 1:
            raise ValueError(f"no belief is certain, and {self.probability} is no probability")


def bins_of(probability: Floats) -> Ints:
    """Bins of equal mass, by mean rank, so that equal probabilities share a bin; from 0 upwards.

    Ten, or fewer so that there are fifty in each; a bin that equal values leave empty is skipped.
    """
    n_bins = min(_MAX_BINS, max(1, probability.size // _LEAST_PER_BIN))
    ranks = rankdata(probability, method="average")
    return np.floor(n_bins * (ranks - 0.5) / probability.size).astype(np.int64)


def calibration_error(probability: Floats, right: Floats) -> float:
    """Expected Calibration Error: mean distance of what was said and what was, over bins.

    ``Σ_b n_b/n · |mean probability − share right|``. It is never negative, so chance alone makes
    some (:func:`reliability` tells how much). NaN without beliefs.
    """
    if not probability.size:
        return math.nan
    moments = _moments(probability, right)
    return float(_error(moments.sum(axis=0)))


def _moments(probability: Floats, right: Floats) -> Floats:
    """A row a belief: 1, then for every bin the difference of what was and what was said."""
    place = bins_of(probability)
    moments = np.zeros((probability.size, place.max() + 2))
    moments[:, 0] = 1
    moments[np.arange(probability.size), place + 1] = right - probability
    return moments


def _error(sums: Floats) -> Floats:
    """Calibration error from sums of moments, shape (..., 1 + bins)."""
    error: Floats = np.abs(sums[..., 1:]).sum(axis=-1) / sums[..., 0]
    return error


def reliability(judged: Sequence[Judged], seed: int = 0) -> dict[str, Any]:
    """All figures of a set of beliefs, for JSON; None where there is nothing to measure.

    Returns
    -------
    dict
        ``n``, ``families``; ``said`` and ``was``, means; ``ece`` with a 95 % interval over
        families (``low``, ``high``) and ``ece_by_chance``, its mean were every belief exact and
        all findings independent; ``brier`` (mean square error), ``log_loss`` (nats), and both
        ``_of_rate``: of always saying ``was``; ``bins``, rows of the reliability diagram with
        Wilson's 95 % interval of the share that was right (as if findings were independent).
    """
    if not judged:
        return {"n": 0, "families": 0, "ece": None, "bins": []}
    probability = np.array([one.probability for one in judged])
    right = np.array([one.right for one in judged], dtype=np.float64)
    names, family = np.unique([one.family for one in judged], return_inverse=True)
    moments = _moments(probability, right)
    rng = np.random.default_rng(seed)
    estimate = cluster_bootstrap(
        moments,
        family.astype(np.int64),
        _error,
        rng=rng,
        level=0.95,
        n_resamples=_N_RESAMPLES,
        method="calibration error",
    )
    imagined = rng.random((_N_RESAMPLES, probability.size)) < probability
    rate = float(right.mean())
    place = bins_of(probability)
    return {
        "n": len(judged),
        "families": len(names),
        "said": _rounded(probability.mean()),
        "was": _rounded(rate),
        "ece": _rounded(_error(moments.sum(axis=0))),
        "low": _rounded(estimate.low),
        "high": _rounded(estimate.high),
        "ece_by_chance": _rounded(_by_chance(imagined.astype(np.float64), probability, place)),
        "brier": _rounded(np.mean((right - probability) ** 2)),
        "brier_of_rate": _rounded(rate * (1 - rate)),
        "log_loss": _rounded(_log_loss(probability, right)),
        "log_loss_of_rate": _rounded(_log_loss(np.full_like(right, rate), right)),
        "bins": [
            _bin(probability[place == one], right[place == one], family[place == one])
            for one in np.unique(place)
        ],
    }


def _by_chance(imagined: Floats, probability: Floats, place: Ints) -> float:
    """Mean calibration error over imagined outcomes, shape (draws, n)."""
    inside = (place[:, None] == np.unique(place)).astype(np.float64)
    return float(np.abs((imagined - probability) @ inside).sum(axis=1).mean() / probability.size)


def _log_loss(probability: Floats, right: Floats) -> float:
    of_truth = np.where(right == 1, probability, 1 - probability)
    with np.errstate(divide="ignore"):
        return float(-np.log(of_truth).mean())


def _bin(probability: Floats, right: Floats, family: Ints) -> dict[str, Any]:
    low, high = wilson(int(right.sum()), right.size)
    return {
        "n": right.size,
        "families": np.unique(family).size,
        "said": _rounded(probability.mean()),
        "was": _rounded(right.mean()),
        "low": _rounded(low),
        "high": _rounded(high),
    }


def _rounded(value: float | np.floating[Any] | Floats) -> float | None:
    number = float(value)
    return round(number, 4) + 0.0 if math.isfinite(number) else None  # and no -0.0


def diagram(facts: Mapping[str, Any]) -> str:
    """The reliability diagram as text: a line a bin.

    ``|`` is what was said, ``o`` the share that was right, ``-`` its interval, ``X`` both in one
    place.
    """
    lines = [f"{'n':>5} {'said':>6} {'was':>6}  0{'.5':^{_WIDTH - 1}}1"]
    for row in facts["bins"]:
        line = [" "] * (_WIDTH + 1)
        line[_column(row["low"]) : _column(row["high"]) + 1] = "-" * (
            _column(row["high"]) - _column(row["low"]) + 1
        )
        line[_column(row["was"])] = "o"
        said = _column(row["said"])
        line[said] = "X" if line[said] == "o" else "|"
        lines.append(f"{row['n']:>5} {row['said']:6.3f} {row['was']:6.3f}  {''.join(line)}")
    return "\n".join(lines)


def _column(share: float) -> int:
    return round(share * _WIDTH)

"""Are two models related? A test with a known false-positive rate.

*Row matching* (design after the exchangeability argument of Zhu et al., "Independence tests for
language models", ICML 2025): in independently trained networks the order of hidden units is
arbitrary, so pairing unit ``i`` of one with unit ``i`` of the other is no better than pairing it
with any other. With ``S[i, j]`` the cosine of unit ``i`` of A and unit ``j`` of B, double-centred,
the trace has mean 0 and variance ``ΣS²/(R−1)`` over random permutations, exactly; matrices combine
by Stouffer's sum. Feed-forward rows and value rows make two tests, since a permuted feed-forward
block must not hide a relative; the smaller p-value is doubled.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from lineage.model import PairTest, PairVerdict
from lineage.weights.fingerprint import Directions, Fingerprint, Sample, require_comparable
from lineage.weights.roles import TensorKey

__all__ = ["FAMILY_ALPHA", "bit_equality", "match_rows", "shared_training", "test_pair"]

F64 = NDArray[np.float64]

FAMILY_ALPHA = 1e-3
"""Chance of any false relative among all pairs of one run (Bonferroni)."""

_TESTS = (("up", "gate"), ("v",))
_MIN_ROWS = 8
_SAME_TRAINING = 0.5


def match_rows(a: Directions, b: Directions) -> float:
    """Standardised row-matching statistic of two matrices of equal shape.

    Parameters
    ----------
    a, b
        Directions of both; row ``i`` of both is the same unit if the models are related.

    Returns
    -------
    float
        ``tr(S)/sqrt(ΣS²/(R−1))`` with S the double-centred cosine matrix: mean 0 and variance 1
        over permutations of the rows. NaN with fewer than two rows that differ. S itself is never
        formed: centring the columns of both matrices centres it both ways, so its trace is the
        sum of their elementwise product and ``ΣS²`` the inner product of their Grams.
    """
    n = len(a.matrix)
    spread = float(np.vdot(a.gram, b.gram))
    if n < 2 or spread <= 1e-12:
        return float("nan")
    return float(np.vdot(a.matrix, b.matrix)) / float(np.sqrt(spread / (n - 1)))


def test_pair(a: Fingerprint, b: Fingerprint, n_pairs: int) -> PairTest:
    """The family test of two models.

    Parameters
    ----------
    a, b
        Fingerprints of one scheme.
    n_pairs
        Tests made in this run, for the Bonferroni correction.

    Raises
    ------
    IncomparableError
        If the fingerprints are of different schemes.
    """
    require_comparable(a, b)
    if a.repo_id > b.repo_id:
        a, b = b, a
    best: tuple[float, float] | None = None
    for roles in _TESTS:
        z = _stouffer(a, b, roles)
        if z is not None and (best is None or z > best[1]):
            best = (float(ndtr(-z)), z)
    if best is None:
        return PairTest(a.repo_id, b.repo_id, PairVerdict.UNTESTABLE, None, None, None)
    p_value = min(1.0, len(_TESTS) * best[0])
    equal = bit_equality(a, b)
    if p_value * n_pairs > FAMILY_ALPHA:
        verdict = PairVerdict.UNRELATED
    elif (shared := shared_training(a, b)) is not None and shared < _SAME_TRAINING:
        verdict = PairVerdict.COMMON_INIT
    else:
        verdict = PairVerdict.RELATED
    return PairTest(a.repo_id, b.repo_id, verdict, best[1], p_value, equal)


test_pair.__test__ = False  # type: ignore[attr-defined]  # a statistical test, not pytest's


def _stouffer(a: Fingerprint, b: Fingerprint, roles: tuple[str, ...]) -> float | None:
    """Largest combined statistic over the ways to lay the layers of one along the other's.

    Equal depths are compared layer by layer; otherwise every layer of one against every layer of
    the other, the best partner of each layer corrected for having been chosen.
    """
    same = [z for x, y in _pairs(a, b, roles) if not np.isnan(z := match_rows(x, y))]
    if same and a.n_layers == b.n_layers and not _has_experts(a) and not _has_experts(b):
        return float(np.sum(same) / np.sqrt(len(same)))
    slots_a, slots_b = _slots(a, roles), _slots(b, roles)
    scores = [
        [match_rows(x, y) for y in slots_b if x.matrix.shape == y.matrix.shape] for x in slots_a
    ]
    best = [max(row) for row in scores if row]
    if not best:
        return None
    # The largest of all slot pairs, as a single z after correction for having been chosen.
    chosen = max(best)
    p = min(1.0, float(ndtr(-chosen)) * sum(len(row) for row in scores))
    return chosen if p < 1e-300 else float(-ndtri(min(p, 1 - 1e-16)))


def _has_experts(fingerprint: Fingerprint) -> bool:
    return any(key.expert >= 0 for key in fingerprint.samples)


def _slots(fingerprint: Fingerprint, roles: tuple[str, ...]) -> list[Directions]:
    return [
        sample.directions
        for key, sample in sorted(fingerprint.samples.items())
        if key.role in roles and len(sample.shape) == 2 and len(sample.units) >= _MIN_ROWS
    ]


def _pairs(
    a: Fingerprint, b: Fingerprint, roles: tuple[str, ...]
) -> Iterator[tuple[Directions, Directions]]:
    for key in sorted(a.samples.keys() & b.samples.keys()):
        if key.role not in roles:
            continue
        first, second = a.samples[key], b.samples[key]
        if first.rows == second.rows and first.units.shape == second.units.shape:
            x, y = first.directions, second.directions
        elif first.transposed or second.transposed or first.shape[1:] != second.shape[1:]:
            continue
        else:
            x, y = (Directions.of(values) for values in common_rows(first, second))
        if len(x.matrix) >= _MIN_ROWS:
            yield x, y


def common_rows(a: Sample, b: Sample) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The values of the rows that both samples hold, in one order; empty if widths differ."""
    if a.values.shape[1] != b.values.shape[1]:
        return a.values[:0, :0], b.values[:0, :0]
    if a.rows == b.rows:
        return a.values, b.values
    _, in_a, in_b = np.intersect1d(a.rows, b.rows, return_indices=True)
    return a.values[in_a], b.values[in_b]


def bit_equality(a: Fingerprint, b: Fingerprint) -> float | None:
    """Share of compared values of matrices that are equal; None when nothing is comparable."""
    equal = total = 0
    for key in a.samples.keys() & b.samples.keys():
        if len(a.samples[key].shape) < 2:
            continue
        x, y = common_rows(a.samples[key], b.samples[key])
        equal += int((x == y).sum())
        total += x.size
    return equal / total if total else None


def shared_training(a: Fingerprint, b: Fingerprint) -> float | None:
    """Correlation of what training did to normalisation gains, which all start at one constant.

    Two models that share only their random initialisation agree in weights, not in gains; a
    descendant inherits both. Models of different depth are compared through their best pair of
    layers. None when no gain moved or none is comparable.
    """
    gains_a, gains_b = _gains(a), _gains(b)
    if a.n_layers == b.n_layers:
        shared = [
            (gains_a[key], gains_b[key])
            for key in sorted(gains_a.keys() & gains_b.keys())
            if gains_a[key].shape == gains_b[key].shape
        ]
        if not shared:
            return None
        return _correlation(
            np.concatenate([x for x, _ in shared]), np.concatenate([y for _, y in shared])
        )
    found = [
        correlation
        for key, x in gains_a.items()
        for other, y in gains_b.items()
        if key.role == other.role and x.shape == y.shape
        if (correlation := _correlation(x, y)) is not None
    ]
    return max(found, default=None)


def _gains(fingerprint: Fingerprint) -> dict[TensorKey, F64]:
    """Normalisation gains, each centred."""
    return {
        key: (sample.values - sample.values.mean()).ravel().astype(np.float64)
        for key, sample in fingerprint.samples.items()
        if key.role.endswith("norm")
    }


def _correlation(x: F64, y: F64) -> float | None:
    scale = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / scale if scale > 0 else None

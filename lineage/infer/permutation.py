"""Permutation tests of independence, exact at every size of p-value that is reported.

Units whose order is arbitrary (hidden units of a feed-forward block, coordinates of the residual
stream) are *exchangeable* in a network that was trained independently of another: with
``S[i, j]`` the similarity of unit ``i`` of A and unit ``j`` of B, the trace ``T = Σ S[i, i]`` is
then distributed as ``Σ S[i, π(i)]`` over uniform permutations π. Three p-values follow, each valid
by itself:

*drawn*: ``(1 + #{T_π ≥ T})/(1 + B)`` over random π, stopped early once ten reached T (Besag &
Clifford, "Sequential Monte Carlo p-values", Biometrika 78, 1991). Exact, and never below 1/1000.

*bound*: Chernoff's bound with the permanent bounded: ``E exp(θT) = per(exp(θS))/n!``, and
``per(A) ≤ n!/n^(n/2) Π_j ‖column j‖₂`` (Carlen, Lieb & Loss, "An inequality of Hadamard type for
permanents", Methods Appl. Anal. 13, 2006, eq. 1.1). So for every θ > 0::

    P(T_π ≥ t) ≤ exp(−θt) Π_j (mean_i exp(2θ S[i, j]))^(1/2)

which holds however small it is; where T is nearly normal it is about ``exp(−z²/4)``. Rows are
scaled to mean one before columns are bounded, which permanents allow.

*combined*: groups that are permuted independently of each other (layers) have independent drawn
p-values, so ``−2 Σ log p`` is at most χ² with twice as many degrees of freedom (Fisher).

The drawn value is the answer unless no draw reached T; only then, and so without spoiling it,
twice the smaller of the other two may take its place. Statistics of at most one standard deviation
are not worth a draw: Cantelli's inequality ``1/(1 + z²)`` answers. The normal tail is used nowhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, log_ndtr, ndtri_exp

__all__ = [
    "SMALLEST_P",
    "Method",
    "Permutation",
    "best_test",
    "centred",
    "seed_of",
    "sign_test",
    "standardised",
    "sum_test",
]

F64 = NDArray[np.float64]

_DRAWS = (39, 160, 800)
"""Permutations drawn at once; most tests of strangers end with the first."""
N_DRAWS = sum(_DRAWS)
_ENOUGH = 10
_DULL = 1.0
"""Standard deviations up to which no permutation is drawn."""
_SKIP_DRAWS = 1e-9
"""A bound below this is not checked by drawing: the draws would end at their floor anyway."""
_THETAS = (0.5, 0.8, 0.35, 1.3, 2.5)
"""Tried values of θ in units of T/variance; the normal case is best at ½."""
_HOPELESS = 3.0
"""The bound cannot pass below the drawn floor for a statistic smaller than this."""
_GOOD_ENOUGH = -70.0
"""Logarithm of a bound that no number of pairs makes insignificant."""
_CONSTANT = 1e-12
SMALLEST_P = 1e-300
"""Bounds below this are reported as this."""


class Method(StrEnum):
    """Where a p-value comes from; see the module."""

    DRAWN = "drawn permutations"
    CANTELLI = "mean and variance"
    BOUND = "bound on the permanent"
    COMBINED = "layers combined"


@dataclass(frozen=True, slots=True)
class Permutation:
    """Outcome of one test.

    Attributes
    ----------
    statistic
        Standardised: mean 0 and variance 1 over permutations; of a best-of test the normal score
        after correction for the choice. For ranking; the p-value does not rest on it.
    p_value
        One-sided, never above what independence allows.
    """

    statistic: float
    p_value: float
    method: Method


def seed_of(*names: str) -> int:
    """A seed from names: the same pair is tested with the same draws in every run."""
    digest = hashlib.blake2b("\0".join(names).encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest())


def centred(similarity: F64) -> F64:
    """Double-centred: over permutations the trace then has mean 0 and variance ``ΣS²/(n−1)``.

    Parameters
    ----------
    similarity
        … × n × n.
    """
    rows: F64 = similarity - similarity.mean(axis=-1, keepdims=True)
    return np.asarray(rows - rows.mean(axis=-2, keepdims=True))


def standardised(group: F64) -> F64 | None:
    """A group divided by the standard deviation of its trace; None where nothing varies.

    Parameters
    ----------
    group
        Blocks × n × n, centred, the blocks permuted independently.
    """
    variance = float((group**2).sum()) / max(1, group.shape[-1] - 1)
    return group / np.sqrt(variance) if variance > _CONSTANT else None


def sum_test(groups: Sequence[F64], seed: int) -> Permutation | None:
    """Test the sum of the traces of independently permuted groups.

    Parameters
    ----------
    groups
        Each blocks × n × n, centred; blocks are permuted independently.
    seed
        Of the draws.

    Returns
    -------
    Permutation or None
        None where nothing varies.
    """
    varying = [group for group in groups if (group**2).sum() > _CONSTANT]
    if not varying:
        return None
    traces = np.array([np.einsum("kii->", group) for group in varying])
    total = float(traces.sum())
    variance = sum(float((g**2).sum()) / (g.shape[-1] - 1) for g in varying)
    statistic = total / float(np.sqrt(variance))
    if statistic <= _DULL:
        return _dull(statistic)
    bound = _tail_bound(varying, total, variance)
    if 2 * bound <= _SKIP_DRAWS:
        return Permutation(statistic, _at_least(2 * bound), Method.BOUND)
    rng = np.random.default_rng(seed)
    drawn = _Draws()
    reached = np.ones(len(varying))
    for n in _DRAWS:
        draws = np.stack([_shuffled_traces(group[None], n, rng)[0] for group in varying])
        reached += (draws >= traces[:, None] - _CONSTANT).sum(axis=1)
        if drawn.add(draws.sum(axis=0) >= total - _CONSTANT):
            break
    if drawn.n_reached:
        return Permutation(statistic, drawn.p_value, Method.DRAWN)
    fisher = -2 * float(np.log(reached / (N_DRAWS + 1)).sum())
    combined = float(chdtrc(2 * len(varying), fisher))
    return Permutation(
        statistic, *_least(drawn.p_value, (bound, Method.BOUND), (combined, Method.COMBINED))
    )


def best_test(groups: Sequence[F64], seed: int) -> Permutation | None:
    """Test the largest of many traces: every unit group of A tried on several of B.

    Parameters
    ----------
    groups
        Each partners × blocks × n × n, centred. The units of a group are permuted together for all
        its partners, as the same units of A take part in all.
    seed
        Of the draws.

    Returns
    -------
    Permutation or None
        None where nothing varies.
    """
    scaled = [
        np.stack(ways)
        for group in groups
        if (ways := [way for one in group if (way := standardised(one)) is not None])
    ]
    if not scaled:
        return None
    best = max(float(np.einsum("kii->", way)) for group in scaled for way in group)
    n_ways = sum(len(group) for group in scaled)
    statistic = -float(ndtri_exp(min(-1e-16, np.log(n_ways) + float(log_ndtr(-best)))))
    bound = sum(_tail_bound([way], best, 1.0) for group in scaled for way in group)
    if 2 * bound <= _SKIP_DRAWS:
        return Permutation(statistic, _at_least(2 * bound), Method.BOUND)
    rng = np.random.default_rng(seed)
    drawn = _Draws()
    for n in _DRAWS:
        draws = np.max([_shuffled_traces(g, n, rng).max(axis=0) for g in scaled], axis=0)
        if drawn.add(draws >= best - _CONSTANT):
            break
    if drawn.n_reached:
        return Permutation(statistic, drawn.p_value, Method.DRAWN)
    return Permutation(statistic, *_least(drawn.p_value, (bound, Method.BOUND)))


def sign_test(values: F64, seed: int) -> Permutation | None:
    """Test whether the sum of values with exchangeable signs is larger than fair coins give.

    The bound is Hoeffding's: ``P(Σ ±v ≥ t) ≤ exp(−t²/(2Σv²))`` (J. Amer. Statist. Assoc. 58, 1963,
    theorem 2).

    Returns
    -------
    Permutation or None
        None where every value is zero.
    """
    square = float((values**2).sum())
    if square <= _CONSTANT:
        return None
    total = float(values.sum())
    statistic = total / float(np.sqrt(square))
    if statistic <= _DULL:
        return _dull(statistic)
    bound = float(np.exp(-(statistic**2) / 2))
    if 2 * bound <= _SKIP_DRAWS:
        return Permutation(statistic, _at_least(2 * bound), Method.BOUND)
    rng = np.random.default_rng(seed)
    drawn = _Draws()
    for n in _DRAWS:
        signs = 2.0 * rng.integers(0, 2, (n, len(values))) - 1
        if drawn.add(signs @ values >= total - _CONSTANT):
            break
    if drawn.n_reached:
        return Permutation(statistic, drawn.p_value, Method.DRAWN)
    return Permutation(statistic, *_least(drawn.p_value, (bound, Method.BOUND)))


@dataclass
class _Draws:
    """Sequential draws: how many there were, and how many reached what was observed."""

    n: int = 0
    n_reached: int = 0

    def add(self, reached: NDArray[np.bool_]) -> bool:
        """Count draws in their order; whether enough have reached it and drawing may stop."""
        counted = self.n_reached + np.cumsum(reached)
        stop = int(np.searchsorted(counted, _ENOUGH))
        self.n += min(stop + 1, len(reached))
        self.n_reached = int(min(counted[-1], _ENOUGH))
        return self.n_reached == _ENOUGH

    @property
    def p_value(self) -> float:
        """Besag and Clifford's: hits over draws if stopped, else with the observation counted."""
        if self.n_reached == _ENOUGH:
            return self.n_reached / self.n
        return (self.n_reached + 1) / (self.n + 1)


def _least(floor: float, *others: tuple[float, Method]) -> tuple[float, Method]:
    """The drawn floor, or what goes below it: the smallest of the others, times how many."""
    value, method = min(others)
    value *= 2  # for two others, and for one so that all tests speak alike
    return (floor, Method.DRAWN) if value >= floor else (_at_least(value), method)


def _dull(statistic: float) -> Permutation:
    return Permutation(statistic, 1 / (1 + max(0.0, statistic) ** 2), Method.CANTELLI)


def _at_least(p_value: float) -> float:
    return max(SMALLEST_P, p_value)


def _shuffled_traces(group: F64, n_draws: int, rng: np.random.Generator) -> F64:
    """Traces with permuted units: partners × draws of partners × blocks × n × n."""
    n_ways, n_blocks, n, _ = group.shape
    # Ranks of random numbers; a tie, one in 2⁴⁰, would favour no permutation.
    orders = rng.random((n_draws, n_blocks, n), dtype=np.float32).argsort(axis=2)
    orders += np.arange(n_blocks * n).reshape(n_blocks, n) * n
    flat = group.reshape(n_ways, -1)
    return np.asarray(np.take(flat, orders, axis=1).sum(axis=(2, 3)))


def _tail_bound(groups: Sequence[F64], observed: float, variance: float) -> float:
    """``P(Σ T_π ≥ observed)`` over all permutations, from above; 1 where it may not be small.

    Every θ gives a bound, so the search for the best may end as soon as one is good enough.
    """
    least = 0.0
    if observed <= _HOPELESS * np.sqrt(variance):
        return 1.0
    stacked = _by_size(groups)
    for factor in _THETAS:
        theta = factor * observed / variance
        log_moment = sum(_log_moment(blocks, theta) for blocks in stacked)
        least = min(least, log_moment - theta * observed)
        if least < _GOOD_ENOUGH:
            break
    return float(np.exp(least))


def _by_size(groups: Sequence[F64]) -> list[F64]:
    """Blocks of equal size in one array: the bound does not care which group they are of."""
    sizes: dict[int, list[F64]] = {}
    for group in groups:
        sizes.setdefault(group.shape[-1], []).append(group)
    return [np.concatenate(found) for found in sizes.values()]


def _log_moment(blocks: F64, theta: float) -> float:
    """Upper bound of ``log E exp(θT)``, summed over blocks (blocks × n × n)."""
    exponent = 2 * theta * blocks
    largest = exponent.max(axis=2, keepdims=True)
    powers = np.exp(exponent - largest)
    rows = powers.mean(axis=2, keepdims=True)
    columns = (powers / rows).mean(axis=1)
    return 0.5 * float((largest + np.log(rows)).sum() + np.log(columns).sum())

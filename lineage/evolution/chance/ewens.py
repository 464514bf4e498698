"""Ewens' sampling formula: sizes of families under chance copying, and Slatkin's exact test.

Of n models sampled from a population in which every newcomer either copies a random model or, now
and then, starts a new kind, the sizes of the k kinds are distributed, given k, as

    P(n_1, …, n_k | k, n) = n! / (|S(n, k)| · Π_j j^{c_j} c_j!)

with c_j kinds of size j and unsigned Stirling numbers S of the first kind (Ewens 1972, Theor Popul
Biol 3:87; Karlin & McGregor 1972). The rate θ of new kinds drops out. A homozygosity
``F = Σ (n_j / n)²`` above expectation means a few kinds too large, below it sizes too even
(Watterson 1978, Genetics 88:405). The null is a population *at equilibrium*: on a growing Hub
with ageing models it is a yardstick, and :mod:`lineage.evolution.chance.copying_null` is the test.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import gammaln, ndtri

from lineage.evolution.clusters import untrusted
from lineage.model import Estimate

__all__ = ["EwensTest", "HomozygosityNull", "ewens_test", "ewens_theta", "homozygosity_null"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_MAX_TABLE = 30_000_000  # entries of the table of P(K_m = j), 240 MB
_TIE = 1e-9  # relative; configurations of equal probability differ by rounding only
_CHUNK = 4_000_000  # simulated models held at a time


@dataclass(frozen=True, slots=True)
class HomozygosityNull:
    """Mean and variance of F under Ewens' formula, given the number of kinds."""

    mean: float
    variance: float


@dataclass(frozen=True, slots=True)
class EwensTest:
    """Slatkin's exact test of neutrality.

    Attributes
    ----------
    n, k
        Models and kinds.
    theta
        Rate of new kinds that makes k the expected number.
    homozygosity
        Observed F.
    expected, variance
        Mean and variance of F under the null, given k; exact.
    deviate
        ``(F − expected) / √variance``; NaN where the variance is zero.
    p_ewens
        Chance of a configuration no more probable than the observed one, the kinds told apart:
        one whose ``Π 1/n_j`` is no larger (as in Slatkin's own program).
    p_homozygosity
        Chance of an F no larger than the observed one: near 0 too even, near 1 too uneven.
    n_configurations
        Configurations enumerated, or drawn.
    method
        How it was computed.
    """

    n: int
    k: int
    theta: float
    homozygosity: float
    expected: float
    variance: float
    deviate: float
    p_ewens: float
    p_homozygosity: float
    n_configurations: int
    method: str


def ewens_theta(k: int, n: int, *, level: float = 0.95) -> Estimate:
    """Rate θ of new kinds from their number: the root of ``k = Σ_{i<n} θ/(θ+i)`` (Ewens 1972).

    It is also the maximum-likelihood estimate, since k is sufficient for θ. The interval is
    normal on the scale of log θ, where the Fisher information is ``Var(K) = Σ θi/(θ+i)²``.

    Returns
    -------
    Estimate
        NaN with the reason in `method` where every model is of one kind (θ = 0) or each is of its
        own (θ = ∞).

    Raises
    ------
    ValueError
        Unless 1 ≤ k ≤ n.

    Examples
    --------
    >>> round(ewens_theta(7, 16).value, 5)
    4.18487
    """
    if not 1 <= k <= n:
        raise ValueError(f"between 1 and n kinds are needed: k = {k}, n = {n}")
    method = "Ewens' θ from the number of kinds; normal interval of log θ"
    if k in (1, n):
        reason = "all models are of one kind" if k == 1 else "every model is of its own kind"
        return untrusted(n, level, method, reason, k)
    theta = _theta(k, n)
    earlier = np.arange(n)
    error = 1 / math.sqrt(float(np.sum(theta * earlier / (theta + earlier) ** 2)))
    factor = math.exp(float(ndtri((1 + level) / 2)) * error)
    return Estimate(theta, theta / factor, theta * factor, level, n, method, k)


def homozygosity_null(k: int, n: int) -> HomozygosityNull:
    """Exact mean and variance of F given k kinds among n models.

    There are ``E[C_j] = n!/((n−j)! j) · |S(n−j, k−1)|/|S(n, k)|`` kinds of size j, and
    ``n!/((n−i−j)! i j) · |S(n−i−j, k−2)|/|S(n, k)|`` ordered pairs of kinds of sizes i and j; the
    pairs of one sum m add up to ``Σ_{i+j=m} i j = (m³ − m)/6`` (after Watterson 1978).

    Raises
    ------
    ValueError
        Unless 1 ≤ k ≤ n and the table of n × k is of bearable size.
    """
    return _homozygosity_null(_KindTable(k, n))


def ewens_test(
    sizes: ArrayLike,
    *,
    rng: np.random.Generator,
    max_configurations: int = 1_000_000,
    n_draws: int = 100_000,
) -> EwensTest:
    """Slatkin's exact test (1994, Genet Res 64:71; correction 1996, 68:259) and Watterson's.

    All configurations of k kinds among n models are enumerated when there are at most
    `max_configurations`; else `n_draws` are drawn from Ewens' formula given k, by a Chinese
    restaurant whose number of tables is conditioned to be k, and a p-value is
    (1 + hits)/(1 + draws).

    Parameters
    ----------
    sizes : (k,)
        Models of each kind, whole and at least 1.
    rng
        Used by the drawing only.

    Raises
    ------
    ValueError
        If sizes are not whole and positive, there are none, or n × k is too large a table: test a
        random subsample of the models then, which under the null is a sample of the same law.

    Examples
    --------
    >>> import numpy as np
    >>> test = ewens_test([9, 2, 1, 1, 1, 1, 1], rng=np.random.default_rng(1))
    >>> round(test.homozygosity, 6), round(test.p_ewens, 6), round(test.p_homozygosity, 6)
    (0.351562, 0.989348, 0.989348)
    """
    given = np.asarray(sizes)
    counts = given.astype(np.int64)
    if given.ndim != 1 or not given.size or (counts != given).any() or (counts < 1).any():
        raise ValueError("the size of every kind is needed, a whole number of at least 1")
    n, k = int(counts.sum()), counts.size
    table = _KindTable(k, n)  # refuses what is too large before anything is counted
    null = _homozygosity_null(table)
    squares = int(counts @ counts)
    log_product = float(np.log(counts).sum())
    rarest = log_product - _TIE * max(1.0, log_product)
    if _count_configurations(n, k, max_configurations) <= max_configurations:
        log_products, log_ties, all_squares = _enumerate(n, k)
        p = np.exp(-log_products - log_ties)
        p /= p.sum()
        p_ewens = float(p[log_products >= rarest].sum())
        p_homozygosity = float(p[all_squares <= squares].sum())
        n_configurations, method = p.size, "all configurations enumerated"
    else:
        log_products, all_squares = _draw(table, n_draws, rng)
        p_ewens = (1 + int((log_products >= rarest).sum())) / (1 + n_draws)
        p_homozygosity = (1 + int((all_squares <= squares).sum())) / (1 + n_draws)
        n_configurations, method = n_draws, "configurations drawn given the number of kinds"
    f = squares / n**2
    deviate = (f - null.mean) / math.sqrt(null.variance) if null.variance > 0 else math.nan
    return EwensTest(
        n, k, ewens_theta(k, n).value, f, null.mean, null.variance,
        deviate, min(p_ewens, 1.0), min(p_homozygosity, 1.0), n_configurations, method,
    )  # fmt: skip


def _count_configurations(n: int, k: int, limit: int) -> int:
    """Number of partitions of n into exactly k parts, or any number above `limit`.

    They are as many as the partitions of n − k into at most k parts, which by conjugation are
    those into parts of at most k.
    """
    ways = [1] + [0] * (n - k)
    for part in range(1, min(k, n - k) + 1):
        for total in range(part, n - k + 1):
            ways[total] += ways[total - part]
        if ways[n - k] > limit:
            break
    return ways[n - k]


def _theta(k: int, n: int) -> float:
    earlier = np.arange(n)

    def excess(log_theta: float) -> float:
        theta = math.exp(log_theta)
        return float(np.sum(theta / (theta + earlier))) - k

    # At θ = n² all but less than one of n models are of their own kind.
    return math.exp(float(brentq(excess, -50.0, 2 * math.log(n) + 5, xtol=1e-14)))


class _KindTable:
    """P(K_m = j) for m ≤ n models and j ≤ k kinds, at a θ that makes k the expected number.

    ``p(m+1, j) = m/(θ+m) · p(m, j) + θ/(θ+m) · p(m, j−1)``: sums of products of probabilities, so
    that nothing overflows, and Stirling numbers follow as ``|S(m, j)| = p(m, j) θ^{(m)} / θ^j``.
    """

    def __init__(self, k: int, n: int) -> None:
        if not 1 <= k <= n:
            raise ValueError(f"between 1 and n kinds are needed: k = {k}, n = {n}")
        if (n + 1) * (k + 1) > _MAX_TABLE:
            raise ValueError(
                f"{n} models of {k} kinds need too large a table: take a random subsample of models"
            )
        self.k, self.n = k, n
        self.theta = _theta(k, n) if 1 < k < n else 1.0  # any θ will do: it drops out
        table = np.zeros((n + 1, k + 1))
        table[0, 0] = 1.0
        for m in range(n):
            fresh = self.theta / (self.theta + m)
            table[m + 1, 1:] = fresh * table[m, :-1]
            table[m + 1] += (1 - fresh) * table[m]
        self.p = table
        rising = np.concatenate(([0.0], np.cumsum(np.log(self.theta + np.arange(n)))))
        self._log_rising = rising

    def ratio(self, taken: Ints, kinds: int) -> Floats:
        """``n!/(n−taken)! · |S(n−taken, k−kinds)| / |S(n, k)|``."""
        left = self.n - taken
        log_scale = (
            kinds * math.log(self.theta)
            + self._log_rising[left]
            - self._log_rising[self.n]
            + gammaln(self.n + 1)
            - gammaln(left + 1)
        )
        return np.asarray(np.exp(log_scale) * self.p[left, self.k - kinds] / self.p[self.n, self.k])


def _homozygosity_null(table: _KindTable) -> HomozygosityNull:
    n, k = table.n, table.k
    if k in (1, n):  # a single configuration
        return HomozygosityNull(k / n**2 if k == n else 1.0, 0.0)
    size = np.arange(1, n + 1)
    of_size = table.ratio(size, 1) / size
    mean = float(of_size @ size.astype(float) ** 2) / n**2
    second = float(of_size @ size.astype(float) ** 4)
    m = size.astype(float)
    second += float(table.ratio(size, 2) @ (m**3 - m)) / 6
    return HomozygosityNull(mean, max(second / n**4 - mean**2, 0.0))


def _enumerate(n: int, k: int) -> tuple[Floats, Floats, Ints]:
    """Logarithms of Π n_j and Π c_j!, and Σ n_j², of all partitions of n into k parts."""
    left = np.array([n])  # models not yet given to a kind
    last = np.array([n])  # size of the kind before
    run = np.array([0])  # kinds of that size so far
    log_product, log_ties = np.zeros(1), np.zeros(1)
    squares = np.zeros(1, dtype=np.int64)
    for kinds_left in range(k, 0, -1):
        # The next kind is no larger than the last, leaves one model for each kind to come, and is
        # no smaller than the mean of what is left.
        low = -(-left // kinds_left)
        high = np.minimum(last, left - kinds_left + 1)
        width = np.maximum(high - low + 1, 0)
        source = np.repeat(np.arange(left.size), width)
        offset = np.arange(width.sum()) - np.repeat(np.cumsum(width) - width, width)
        part = low[source] + offset
        run = np.where(part == last[source], run[source] + 1, 1)
        log_product = log_product[source] + np.log(part)
        log_ties = log_ties[source] + np.log(run)
        squares = squares[source] + part * part
        left = left[source] - part
        last = part
    return log_product, log_ties, squares


def _draw(table: _KindTable, n_draws: int, rng: np.random.Generator) -> tuple[Floats, Ints]:
    """Logarithms of Π n_j, and Σ n_j², of configurations drawn given k."""
    per_chunk = max(1, _CHUNK // table.n)
    drawn = [
        _draw_chunk(table, min(per_chunk, n_draws - first), rng)
        for first in range(0, n_draws, per_chunk)
    ]
    return np.concatenate([a for a, _ in drawn]), np.concatenate([b for _, b in drawn])


def _draw_chunk(table: _KindTable, rows: int, rng: np.random.Generator) -> tuple[Floats, Ints]:
    n, k = table.n, table.k
    opens = np.empty((n, rows), dtype=bool)
    kinds = np.full(rows, k)
    # Backwards from K_n = k: did the m-th model open a kind, given how many there were after it?
    for m in range(n, 0, -1):
        fresh = table.theta / (table.theta + m - 1)
        chance = fresh * table.p[m - 1, kinds - 1] / table.p[m, kinds]
        opens[m - 1] = rng.random(rows) < chance
        kinds = kinds - opens[m - 1]
    # Every other model copies one of those before it; follow the copies to their opener.
    place = np.arange(n)[:, None]
    source = np.where(opens, place, (rng.random((n, rows)) * place).astype(np.int64))
    while True:
        further = np.take_along_axis(source, source, axis=0)
        if np.array_equal(further, source):
            break
        source = further
    flat = np.bincount((source + np.arange(rows) * n).ravel(), minlength=n * rows)
    sizes = flat.reshape(rows, n)
    squares = (sizes * sizes).sum(axis=1)
    return np.log(np.maximum(sizes, 1)).sum(axis=1), squares

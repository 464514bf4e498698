"""How diverse models are: in kinds, through time, in niches, and in the shape of families."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import duckdb
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.stats import norm

from lineage.evolution.clusters import MIN_BOOTSTRAP_CLUSTERS, untrusted
from lineage.evolution.comparative.balance import b2, j1, sackin
from lineage.evolution.comparative.trees import Tree
from lineage.evolution.diversity.entropy import chao_shen
from lineage.evolution.diversity.hill import chao1, hill_number
from lineage.evolution.diversity.intervals import founder_interval
from lineage.evolution.diversity.niches import overlap_of
from lineage.evolution.diversity.rarefaction import (
    asymptotic_diversity,
    coverage,
    diversity_through_time,
)
from lineage.model import Estimate
from lineage.store import published_diversity as published
from lineage.store.published_diversity import CATEGORIES
from lineage.store.published_scope import Columns, Scope
from lineage.views.reproduction import month_words

__all__ = [
    "CATEGORIES",
    "Balance",
    "Hill",
    "Overlap",
    "Through",
    "balance",
    "hill_numbers",
    "niche_overlaps",
    "through_time",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_LEVEL = 0.95
_N_RESAMPLES = 300
_N_RESAMPLES_A_WINDOW = 100
_FAMILIES_SAMPLED = 20_000
"""Models of which families are counted: where there are more, so many are drawn."""
_LEAST_COVERAGE = 0.5
"""Share of the population in kinds that were seen, below which the unseen are not estimated."""
_A_WINDOW = 1_000
_MOST_MONTHS = 24
_LARGEST = 6
_LARGEST_TREE = 50_000


@dataclass(frozen=True, slots=True)
class Hill:
    """Hill numbers of one category, as observed and corrected for what was not seen.

    Attributes
    ----------
    observed, corrected
        Orders 0, 1 and 2: of the models counted, and estimates for the population behind them
        (Chao 1; Chao & Shen; the unbiased form).
    n_models, coverage
        Models counted, and the share of the population in categories that were seen.
    drawn_of
        1 if every model was counted, else of how many one was drawn.
    """

    observed: tuple[Estimate, ...]
    corrected: tuple[Estimate, ...]
    n_models: int
    coverage: float
    drawn_of: int


@dataclass(frozen=True, slots=True)
class Through:
    """Diversity of the models born in each period, all at the same coverage.

    `windows` are month (ISO date), models, own coverage, and estimate; `months` is how long a
    period is, `effort` the common coverage.
    """

    windows: tuple[tuple[str, int, float, Estimate], ...]
    months: int
    effort: float
    largest: int


@dataclass(frozen=True, slots=True)
class Overlap:
    """Niche overlap of two families (Morisita–Horn)."""

    first: str
    second: str
    estimate: Estimate


@dataclass(frozen=True, slots=True)
class Balance:
    """Shape of one family's tree; no sampling error, for it is the tree at hand.

    `tips` have no child; `depth` is Sackin's index per tip: edges from the founder to a tip, in
    the mean; `bits` is B2; `evenness` is J¹.
    """

    founder: str
    n_models: int
    tips: int
    depth: float
    bits: float
    evenness: float


def hill_numbers(
    cursor: duckdb.DuckDBPyConnection,
    scope: Scope,
    category: str,
    until: float,
    relation: str = "",
) -> Hill | None:
    """Hill numbers of a category over the models born before `until`; None where none is known.

    Intervals resample founders (lines within a clade, and of families).

    Raises
    ------
    KeyError
        If there is no such category.
    """
    every = 1
    if category == "family":
        every = max(1, math.ceil(scope.n_models / _FAMILIES_SAMPLED))
    found = published.counts_by_category(cursor, scope, category, until, relation, every)
    if not found["n"].size:
        return None
    sums = _table(found["cluster"], found["code"], found["n"])
    counts = np.asarray(sums.sum(axis=0), dtype=float)
    n = int(counts.sum())

    def estimate(statistic: Callable[[Floats], Floats], method: str) -> Estimate:
        return founder_interval(
            sums, statistic, n=n, rng=np.random.default_rng(0), level=_LEVEL,
            n_resamples=_N_RESAMPLES, method=method, lowest=1.0,
        )  # fmt: skip

    observed = tuple(
        estimate(partial(hill_number, q=q), f"Hill number of order {q}") for q in (0, 1, 2)
    )
    covered, groups = coverage(counts), sums.shape[0]
    shannon = "exp of the coverage-adjusted entropy (Chao & Shen 2003)"
    if covered < _LEAST_COVERAGE:
        reason = f"only {covered:.0%} of the population is of a kind that was seen"
        seen = (
            untrusted(n, _LEVEL, "Chao 1", reason, groups),
            untrusted(n, _LEVEL, shannon, reason, groups),
        )
    else:
        seen = (_chao1(counts), estimate(_exp_chao_shen, shannon))
    corrected = (*seen, estimate(_unbiased_simpson, "n(n − 1) / Σ x(x − 1)"))
    return Hill(observed, corrected, n, covered, every)


def _chao1(counts: Floats) -> Estimate:
    """Chao's lower bound of richness with its log-normal interval.

    A bootstrap would draw models that were seen once twice, and so hide what the bound rests on.
    Variance of the bias-corrected form and interval: Chao 1987, Biometrics 43:783; Colwell 2013,
    EstimateS, app. B.
    """
    f1, f2 = float((counts == 1).sum()), float((counts == 2).sum())
    seen, value = float((counts > 0).sum()), float(chao1(counts))
    n, method = int(counts.sum()), "Chao 1, bias-corrected; log-normal interval, models independent"
    unseen = value - seen
    if not unseen > 0:
        return Estimate(value, value, value, _LEVEL, n, method)
    variance = (
        f1 * (f1 - 1) / (2 * (f2 + 1))
        + f1 * (2 * f1 - 1) ** 2 / (4 * (f2 + 1) ** 2)
        + f1**2 * f2 * (f1 - 1) ** 2 / (4 * (f2 + 1) ** 4)
    )
    reach = float(norm.ppf((1 + _LEVEL) / 2)) * math.sqrt(math.log1p(variance / unseen**2))
    low, high = (seen + unseen * math.exp(side * reach) for side in (-1, 1))
    return Estimate(value, low, high, _LEVEL, n, method)


def _exp_chao_shen(counts: Floats) -> Floats:
    return np.asarray(np.exp(chao_shen(counts)))


def _unbiased_simpson(counts: Floats) -> Floats:
    if counts.ndim > 1:
        return np.array([asymptotic_diversity(row, 2) for row in counts])
    return np.array(asymptotic_diversity(counts, 2))


def _table(cluster: NDArray[np.generic], code: NDArray[np.generic], n: Ints) -> csr_array:
    _, row = np.unique(cluster, return_inverse=True)
    shape = (int(row.max()) + 1, int(np.max(code.astype(np.int64))) + 1)
    return csr_array((n.astype(float), (row, code.astype(np.int64))), shape=shape)


def through_time(
    cursor: duckdb.DuckDBPyConnection,
    scope: Scope,
    category: str,
    q: int,
    until: float,
    relation: str = "",
) -> Through:
    """Diversity of order q of the models born in each period, at equal coverage.

    Periods are months, or quarters where there are more than two years of them. Of each at most a
    thousand models are drawn: coverage makes samples of different size comparable.

    Raises
    ------
    ValueError
        If q is not 0, 1 or 2.
    """
    months = 1
    found = _sample(cursor, scope, category, until, relation, months)
    if found["window"].size and np.ptp(found["window"]) >= _MOST_MONTHS:
        months = 3
        found = _sample(cursor, scope, category, until, relation, months)
    windows = diversity_through_time(
        found["window"].astype(np.int64),
        found["code"].astype(np.int64),
        found["cluster"].astype(np.int64),
        q=q,
        rng=np.random.default_rng(0),
        level=_LEVEL,
        n_resamples=_N_RESAMPLES_A_WINDOW,
    )
    n = dict(zip(found["window"].tolist(), found["n"].tolist(), strict=True))
    rows = tuple(
        (month_words(one.window), int(n[one.window]), one.coverage, one.diversity)
        for one in windows
    )
    effort = windows[0].effort if windows else math.nan
    return Through(rows, months, effort, _A_WINDOW)


def _sample(
    cursor: duckdb.DuckDBPyConnection,
    scope: Scope,
    category: str,
    until: float,
    relation: str,
    months: int,
) -> Columns:
    return published.sample_by_month(cursor, scope, category, until, relation, months, _A_WINDOW)


def niche_overlaps(
    cursor: duckdb.DuckDBPyConnection, scope: Scope, category: str, until: float
) -> tuple[Overlap, ...]:
    """How far the largest families are made for the same things, every two of them.

    As :func:`lineage.evolution.diversity.niches.niche_overlap` (Morisita–Horn), from counts by
    line; NaN with the reason where a family has fewer than 3 lines of known use.
    """
    found = published.use_by_family(cursor, scope, category, until, _LARGEST)
    if not found["n"].size:
        return ()
    names = dict(zip(found["family"].tolist(), found["name"].tolist(), strict=True))
    width = int(found["code"].max()) + 1
    order = sorted(names, key=lambda one: -int(found["n"][found["family"] == one].sum()))
    overlaps = []
    for pair in combinations(order, 2):
        own = np.isin(found["family"], pair)
        second = found["family"][own] == pair[1]
        line = found["cluster"][own].astype(np.int64) * 2 + second
        code = found["code"][own].astype(np.int64) + width * second
        _, row = np.unique(line, return_inverse=True)
        sums = csr_array(
            (found["n"][own].astype(float), (row, code)), shape=(int(row.max()) + 1, 2 * width)
        )
        overlaps.append(
            Overlap(str(names[pair[0]]), str(names[pair[1]]), _overlap(sums, width, second, line))
        )
    return tuple(overlaps)


def _overlap(sums: csr_array, width: int, second: NDArray[np.bool_], line: Ints) -> Estimate:
    fewest = min(np.unique(line[second]).size, np.unique(line[~second]).size)
    n = int(sums.sum())
    if fewest < MIN_BOOTSTRAP_CLUSTERS:
        reason = f"a family has {fewest} independent lines, {MIN_BOOTSTRAP_CLUSTERS} needed"
        return untrusted(n, _LEVEL, "niche overlap (Morisita–Horn)", reason, sums.shape[0])
    return founder_interval(
        sums,
        lambda totals: overlap_of(totals[..., :width], totals[..., width:], "morisita-horn"),
        n=n,
        rng=np.random.default_rng(0),
        level=_LEVEL,
        n_resamples=_N_RESAMPLES,
        method="niche overlap (Morisita–Horn)",
        lowest=0.0,
        highest=1.0,
    )


def balance(cursor: duckdb.DuckDBPyConnection, scope: Scope) -> tuple[Balance, ...]:
    """Shape of the trees of the largest families (lines, within a clade) by primary parents."""
    found = []
    for name, low, size in published.largest_families(cursor, scope, 12, _LARGEST_TREE):
        nodes = published.family_nodes(cursor, low, low + size - 1)
        parent = nodes["parent"].astype(np.int64) - low
        parent[0] = -1
        length = np.where(parent < 0, 0.0, 1.0)
        tree = Tree(tuple(map(str, range(size))), parent, length)
        tips = int((tree.n_children == 0).sum())
        found.append(
            Balance(
                name, size, tips, float(sackin(tree)[0]) / tips, float(b2(tree)[0]),
                float(j1(tree)[0]),
            )
        )  # fmt: skip
    return tuple(found)

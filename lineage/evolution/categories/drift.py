"""Which way categories change along edges, and which values of a set are lost and gained."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.stats import beta, binomtest, false_discovery_control
from scipy.stats import norm as normal

from lineage.evolution.clusters import untrusted
from lineage.model import Estimate

__all__ = [
    "Drift",
    "Turnover",
    "drift_table",
    "turnover",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Drift:
    """Changes between two values, `a` → `b` the more frequent.

    Attributes
    ----------
    a, b
        Values, as numbers.
    n_ab, n_ba
        Edges whose parent has the first and whose child has the second.
    groups_ab, groups_ba
        Independent groups with more changes this way than that; groups that are even have no vote.
    share
        ``groups_ab / (groups_ab + groups_ba)`` with its exact interval (Clopper & Pearson 1934)
        and the two-sided binomial p-value of ½.
    q_value
        The p-value adjusted over all pairs that were tested (Benjamini & Hochberg 1995); NaN for
        pairs with too few groups to be tested.
    rate_ab, rate_ba
        Changes per edge whose parent has the value, with Wilson intervals that take edges for
        independent.
    """

    a: int
    b: int
    n_ab: int
    n_ba: int
    groups_ab: int
    groups_ba: int
    share: Estimate
    q_value: float
    rate_ab: Estimate
    rate_ba: Estimate


def drift_table(
    value: Ints,
    child: Ints,
    parent: Ints,
    cluster: Ints,
    *,
    level: float = 0.95,
    min_groups: int = 6,
) -> tuple[Drift, ...]:
    """Which way values change along edges, for each pair of values with any change.

    More a → b than b → a may mean a bias of mutation (compare the rates), or only that more
    parents have a: a population that leaves its parents' composition. Either is drift of the
    population; the rates tell them apart.

    Parameters
    ----------
    value : (n,)
        Value of each model, negative where unknown.
    child, parent : (E,)
        Edges.
    cluster : (E,)
        Independent group of each edge: its parent, or its founder. The test counts groups.
    min_groups
        Pairs with fewer voting groups are not tested: below 6 no outcome has p < .05, and the
        number of groups says nothing of the direction.

    Returns
    -------
    tuple of Drift
        The most frequent changes first.

    Examples
    --------
    >>> import numpy as np
    >>> value = np.array([0, 1, 1, 0, 1])  # model 0 has value 0 …
    >>> child, parent = np.array([1, 2, 3, 4]), np.array([0, 0, 2, 3])
    >>> (found,) = drift_table(value, child, parent, parent)
    >>> found.n_ab, found.n_ba, found.groups_ab, found.groups_ba, found.rate_ab.value
    (3, 1, 2, 1, 1.0)
    """
    known = (value[child] >= 0) & (value[parent] >= 0)
    before, after, group = value[parent[known]], value[child[known]], cluster[known]
    width = int(value.max(initial=0)) + 1
    exposed = np.bincount(before, minlength=width)
    moved = before != after
    before, after, group = before[moved], after[moved], group[moved]
    if not before.size:
        return ()
    pair, column = np.unique(
        np.minimum(before, after) * width + np.maximum(before, after), return_inverse=True
    )
    up = before < after
    n_up = np.bincount(column[up], minlength=pair.size)
    n_down = np.bincount(column[~up], minlength=pair.size)
    voter, vote_of = np.unique(np.column_stack([column, group]), axis=0, return_inverse=True)
    vote = np.sign(np.bincount(vote_of.ravel(), weights=np.where(up, 1.0, -1.0)))
    votes_up = np.bincount(voter[vote > 0, 0], minlength=pair.size)
    votes_down = np.bincount(voter[vote < 0, 0], minlength=pair.size)
    rows = []
    for k in np.argsort(-(n_up + n_down), kind="stable").tolist():
        low, high = divmod(int(pair[k]), width)
        forward = (low, high, int(n_up[k]), int(n_down[k]), int(votes_up[k]), int(votes_down[k]))
        if n_up[k] < n_down[k]:
            forward = (high, low, forward[3], forward[2], forward[5], forward[4])
        rows.append(forward)
    shares = [_exact_share(row[4], row[5], level, min_groups) for row in rows]
    tested = [share.p_value for share in shares if share.p_value is not None]
    adjusted = iter(false_discovery_control(tested).tolist() if tested else ())
    return tuple(
        Drift(
            *row,
            share,
            math.nan if share.p_value is None else float(next(adjusted)),
            _wilson(row[2], int(exposed[row[0]]), level, "changes per edge of such a parent"),
            _wilson(row[3], int(exposed[row[1]]), level, "changes per edge of such a parent"),
        )
        for row, share in zip(rows, shares, strict=True)
    )


def _exact_share(k: int, against: int, level: float, min_groups: int) -> Estimate:
    n = k + against
    method = "share of the groups that change this way; Clopper–Pearson, two-sided binomial test"
    if n == 0:
        return untrusted(n, level, method, "every group is even", n)
    alpha = 1 - level
    low = float(beta.ppf(alpha / 2, k, against + 1)) if k else 0.0
    high = float(beta.ppf(1 - alpha / 2, k + 1, against)) if against else 1.0
    p_value = float(binomtest(k, n).pvalue) if n >= min_groups else None
    return Estimate(k / n, low, high, level, n, method, n, p_value)


def _wilson(k: int, n: int, level: float, what: str) -> Estimate:
    """A proportion with the score interval of Wilson (1927, J Am Stat Assoc 22:209)."""
    method = f"{what}; Wilson interval, edges taken for independent"
    if n == 0:
        return untrusted(n, level, method, "no such parent", 0)
    z = float(normal.ppf((1 + level) / 2))
    share = k / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low, high = min(max(centre - reach, 0.0), share), max(min(centre + reach, 1.0), share)
    return Estimate(share, low, high, level, n, method)


@dataclass(frozen=True, slots=True)
class Turnover:
    """Losses and gains of one value of a set-valued trait along edges known at both ends.

    `lost` is per edge whose parent has the value, `gained` per edge whose parent lacks it.
    """

    value: int
    n_lost: int
    n_gained: int
    lost: Estimate
    gained: Estimate


def turnover(
    sets: csr_array, child: Ints, parent: Ints, *, level: float = 0.95
) -> tuple[Turnover, ...]:
    """Losses and gains of every value that any end of a known edge has, commonest changes first.

    Parameters
    ----------
    sets : (n, V)
        From :func:`lineage.evolution.categories.value_sets.value_sets`.
    child, parent : (E,)
        Edges; those with an empty end are left out.
    """
    size = np.diff(sets.indptr)
    known = (size[child] > 0) & (size[parent] > 0)
    of_child, of_parent = sets[child[known]], sets[parent[known]]
    had = np.asarray(of_parent.sum(axis=0)).ravel().astype(np.int64)
    has = np.asarray(of_child.sum(axis=0)).ravel().astype(np.int64)
    kept = np.asarray(of_child.multiply(of_parent).sum(axis=0)).ravel().astype(np.int64)
    n = int(known.sum())
    met = np.flatnonzero(had + has)
    changed = (had - kept) + (has - kept)
    found = []
    for v in met[np.argsort(-changed[met], kind="stable")].tolist():
        n_lost, n_gained = int(had[v] - kept[v]), int(has[v] - kept[v])
        found.append(
            Turnover(
                v,
                n_lost,
                n_gained,
                _wilson(n_lost, int(had[v]), level, "losses per edge whose parent has it"),
                _wilson(n_gained, n - int(had[v]), level, "gains per edge whose parent lacks it"),
            )
        )
    return tuple(found)

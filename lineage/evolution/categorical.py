"""Heredity of categorical traits without a forced h²: edges, information, drift, siblings.

A licence, a language, a task is no quantity, and a heritability of it would be one of an arbitrary
coding. What is reported instead:

* the *edge mutation rate*, the mean over edges with both ends known of the Jaccard distance
  ``1 − |P ∩ C| / |P ∪ C|`` of parent's and child's sets of values, as Laufer, Oderinwale &
  Kleinberg define it (2025, arXiv 2508.06811);
* the information of the parent about the child, ``I(parent; child) / H(child)``, against parents
  permuted within their base family;
* the table of changes a → b against b → a: does the population drift;
* whether siblings are more alike than parent and child.

Unknown is never a value: edges with an unknown end take part in nothing, and every result states
how many of the edges are left. That share is itself a selection: who states nothing about a child
may do so because nothing, or because everything, has changed.

Edges are arrays of node numbers, so that a million of them cost seconds. Edges of one parent are
not independent, nor are those of one founder: intervals are cluster-robust.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import xlogy
from scipy.stats import beta, binomtest, false_discovery_control
from scipy.stats import norm as normal
from scipy.stats import t as student_t

from lineage.evolution.clusters import MIN_BOOTSTRAP_CLUSTERS, untrusted
from lineage.evolution.diversity import founder_interval
from lineage.model import Estimate

__all__ = [
    "Drift", "MutationRate", "ParentInformation", "SiblingResemblance", "Turnover",
    "clustered_mean", "drift_table", "edge_distance", "mutation_rate", "mutation_rates",
    "parent_information", "sibling_resemblance", "single_values", "turnover", "value_sets",
]  # fmt: skip

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MIN_EDGES = 3
MIN_CLUSTERS = 2


# -- sets of values -----------------------------------------------------------------------------


def value_sets(stated: Sequence[Set[str]]) -> tuple[csr_array, tuple[str, ...]]:
    """Sets of values as a sparse table of zeros and ones, and the values of its columns.

    An empty set means unknown.

    Examples
    --------
    >>> sets, values = value_sets([{"en"}, {"fr", "en"}, set()])
    >>> sets.toarray().astype(int).tolist(), values
    ([[1, 0], [1, 1], [0, 0]], ('en', 'fr'))
    """
    values = tuple(sorted(set().union(*stated)))
    number = {value: k for k, value in enumerate(values)}
    sizes = [len(one) for one in stated]
    start = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))
    column = np.array([k for one in stated for k in sorted(number[v] for v in one)], dtype=np.int64)
    sets = csr_array((np.ones(column.size), column, start), shape=(len(stated), len(values)))
    return sets, values


def single_values(sets: csr_array) -> Ints:
    """The column of each row that has exactly one value, −1 for rows with none or several."""
    alone = np.diff(sets.indptr) == 1
    value = np.full(sets.shape[0], -1, dtype=np.int64)
    value[alone] = sets.indices[sets.indptr[:-1][alone]]
    return value


def edge_distance(sets: csr_array, child: Ints, parent: Ints) -> Floats:
    """Jaccard distance of the sets at both ends of each edge, NaN where either is empty.

    Parameters
    ----------
    sets : (n, V)
        From :func:`value_sets`: each value of a row once, and 1.
    child, parent : (E,)
        Rows of `sets`.

    Raises
    ------
    ValueError
        If the two differ in shape.

    Examples
    --------
    >>> import numpy as np
    >>> sets, _ = value_sets([{"en", "fr"}, {"en"}, set()])
    >>> edge_distance(sets, np.array([1, 2]), np.array([0, 0])).tolist()
    [0.5, nan]
    """
    if child.shape != parent.shape:
        raise ValueError(f"a parent for each child: {child.shape} and {parent.shape}")
    size = np.diff(sets.indptr)
    both = np.flatnonzero((size[child] > 0) & (size[parent] > 0))
    c, p = child[both], parent[both]
    shared = np.asarray(sets[c].multiply(sets[p]).sum(axis=1)).ravel()
    distance = np.full(child.shape, np.nan)
    distance[both] = 1 - shared / (size[c] + size[p] - shared)
    return distance


# -- means over edges ---------------------------------------------------------------------------


def clustered_mean(
    values: Floats,
    cluster: Ints,
    method: str,
    *,
    level: float = 0.95,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Estimate:
    """Mean with a cluster-robust interval; NaN values are left out.

    Variance ``G/(G−1) · Σ_g (Σ_{i∈g} (x_i − x̄))² / n²``, Student's t with G−1 degrees of freedom
    (CR1; Cameron & Miller 2015, J Hum Resour 50:317), cut to `bounds`. Where all values are equal
    that variance is zero, which G groups do not prove: a share ``u = 1 − ((1 − level)/2)^{1/G}``
    of all groups may still be otherwise (Clopper & Pearson 1934), and the interval is what the
    mean would be with those at either bound.

    Parameters
    ----------
    values, cluster : (n,)
        Observations and the labels of their independent groups.
    method
        What the mean is of.

    Returns
    -------
    Estimate
        NaN with the reason in `method` with fewer than 3 values or 2 groups, or equal values
        without finite bounds.

    Raises
    ------
    ValueError
        If the two differ in shape, or a value lies outside the bounds.
    """
    if values.shape != cluster.shape:
        raise ValueError(f"a cluster for each value: {values.shape} and {cluster.shape}")
    known = np.isfinite(values)
    x = values[known]
    labels, group = np.unique(cluster[known], return_inverse=True)
    n, n_clusters = x.size, labels.size
    method = f"{method}; CR1 cluster-robust SE, t with G−1 df"
    if n < MIN_EDGES:
        return untrusted(n, level, method, f"{n} values, {MIN_EDGES} needed", n_clusters)
    if n_clusters < MIN_CLUSTERS:
        reason = f"{n_clusters} independent group, {MIN_CLUSTERS} needed"
        return untrusted(n, level, method, reason, n_clusters)
    lowest, highest = bounds
    if x.min() < lowest or x.max() > highest:
        raise ValueError(f"values outside [{lowest}, {highest}]")
    mean = float(x.mean())
    if np.ptp(x) == 0:
        if not math.isfinite(highest - lowest):
            return untrusted(n, level, method, "the values do not vary", n_clusters)
        unseen, mean = 1 - ((1 - level) / 2) ** (1 / n_clusters), float(x[0])
        low, high = mean - unseen * (mean - lowest), mean + unseen * (highest - mean)
        return Estimate(mean, low, high, level, n, method, n_clusters)
    scores = np.bincount(group, weights=x - mean)
    error = math.sqrt(n_clusters / (n_clusters - 1) * float(scores @ scores)) / n
    reach = float(student_t.ppf((1 + level) / 2, n_clusters - 1)) * error
    # Rounding may carry the mean of values at a bound past it.
    low, high = max(mean - reach, min(lowest, mean)), min(mean + reach, max(highest, mean))
    return Estimate(mean, low, high, level, n, method, n_clusters)


@dataclass(frozen=True, slots=True)
class MutationRate:
    """Edge mutation rate with intervals by parent and by founder.

    `n_edges` were looked at, `n_known` have a value at both ends: the rate is conditional on
    that. `n_changed` of those differ at all, `n_disjoint` have nothing in common.
    """

    by_parent: Estimate
    by_founder: Estimate
    n_edges: int
    n_known: int
    n_changed: int
    n_disjoint: int

    @property
    def share_known(self) -> float:
        """Share of the edges with a value at both ends; NaN without edges."""
        return self.n_known / self.n_edges if self.n_edges else math.nan


def mutation_rate(
    sets: csr_array, child: Ints, parent: Ints, founder: Ints, *, level: float = 0.95
) -> MutationRate:
    """Mean Jaccard distance over edges with both ends known (Laufer et al. 2025).

    Parameters
    ----------
    sets : (n, V)
        Values of each model, from :func:`value_sets`.
    child, parent, founder : (E,)
        Rows of `sets`, and the founder of each edge.

    Examples
    --------
    >>> import numpy as np
    >>> sets, _ = value_sets([{"en", "fr"}, {"en"}, {"en", "fr"}, {"de"}, set()])
    >>> child, parent = np.array([1, 2, 3, 4]), np.array([0, 0, 2, 2])
    >>> rate = mutation_rate(sets, child, parent, np.zeros(4, dtype=int))
    >>> rate.by_parent.value, rate.n_known, rate.share_known
    (0.5, 3, 0.75)
    """
    distance = edge_distance(sets, child, parent)
    known = distance[np.isfinite(distance)]
    name = "edge mutation rate, mean Jaccard distance of edges known at both ends"
    return MutationRate(
        clustered_mean(distance, parent, f"{name}, by parent", level=level, bounds=(0, 1)),
        clustered_mean(distance, founder, f"{name}, by founder", level=level, bounds=(0, 1)),
        child.size,
        known.size,
        int((known > 0).sum()),
        int((known == 1).sum()),
    )


def mutation_rates(
    sets: csr_array,
    child: Ints,
    parent: Ints,
    founder: Ints,
    kind: Sequence[str],
    *,
    level: float = 0.95,
) -> dict[str, MutationRate]:
    """:func:`mutation_rate` of all edges (under the empty name) and of each kind of edge."""
    kinds = np.array(kind, dtype=object)
    if kinds.shape != child.shape:
        raise ValueError(f"a kind for each edge: {kinds.shape} and {child.shape}")
    found = {"": mutation_rate(sets, child, parent, founder, level=level)}
    for name in sorted(set(kind)):
        of = kinds == name
        found[name] = mutation_rate(sets, child[of], parent[of], founder[of], level=level)
    return found


# -- information --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ParentInformation:
    """``I(parent; child) / H(child)``: share of the child's uncertainty that its parent removes.

    `observed` carries the p-value of the permutation null; `null_mean`, `null_low`, `null_high`
    are that null's mean and quantiles: the bias of small tables together with what any two models
    of a base family have in common. `excess` is ``(observed − null) / (1 − null)``: 0 if parents
    tell no more than other models of the family, 1 if they tell everything.
    """

    observed: Estimate
    null_mean: float
    null_low: float
    null_high: float
    excess: float
    n_edges: int
    n_permutations: int


def parent_information(
    value: Ints,
    child: Ints,
    parent: Ints,
    family: Ints,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    n_permutations: int = 499,
    n_resamples: int = 500,
) -> ParentInformation:
    """Normalised mutual information of parent's and child's value, and its permutation null.

    The null exchanges the values of *parents* among the parents of a family, each keeping its
    children: children of one parent stay together, as a null of shuffled edges would not have
    them, and families stay apart. Families with one parent are left as they are, so a population
    of stars shows no excess: within it nothing tells heredity from common origin.

    Parameters
    ----------
    value : (n,)
        Value of each model, negative where unknown (:func:`single_values`).
    child, parent, family : (E,)
        Models, and base family (founder) of each edge, which is also the resampled group.

    Returns
    -------
    ParentInformation
        NaN with the reason in `method` where fewer than 3 edges or families are known or the
        children do not differ.

    Notes
    -----
    The mutual information of a table of n counts is biased upwards by about (a − 1)(b − 1)/2n
    (Miller 1955); `null_mean` holds that bias at the real numbers of parents and children.
    """
    known = (value[child] >= 0) & (value[parent] >= 0)
    c, p, group = value[child[known]], parent[known], family[known]
    n, n_clusters = c.size, np.unique(group).size
    name = "I(parent; child)/H(child), null: parents' values permuted within base families"
    problem = None
    if n < MIN_EDGES or n_clusters < MIN_BOOTSTRAP_CLUSTERS:
        problem = f"{n} known edges of {n_clusters} families, {MIN_BOOTSTRAP_CLUSTERS} needed"
    elif np.ptp(c) == 0:
        problem = "all children have the same value"
    if problem:
        none = untrusted(n, level, name, problem, n_clusters)
        return ParentInformation(
            none, math.nan, math.nan, math.nan, math.nan, child.size, n_permutations
        )
    # A parent in two families (a merge's child elsewhere) is two units: one in each.
    unit, unit_of = np.unique(np.column_stack([group, p]), axis=0, return_inverse=True)
    unit_of = unit_of.ravel()
    unit_value = value[unit[:, 1]]
    parents = unit_value[unit_of]
    width = int(max(c.max(), unit_value.max())) + 1
    child_entropy = _entropy(np.bincount(c).astype(float))

    observed = _mutual(parents, c, width) / child_entropy
    null = np.empty(n_permutations)
    for k in range(n_permutations):
        # Rows of `unit` are sorted by family: sorting by chance within it is a permutation.
        shuffled = unit_value[np.lexsort((rng.random(unit_value.size), unit[:, 0]))]
        null[k] = _mutual(shuffled[unit_of], c, width) / child_entropy
    # Rounding must not let a null that repeats the observed table fall short of it.
    as_large = int((null >= observed - 1e-12).sum())
    p_value = (1 + as_large) / (1 + n_permutations)
    cell, column = np.unique(parents * width + c, return_inverse=True)
    labels, row = np.unique(group, return_inverse=True)
    sums = csr_array((np.ones(n), (row, column)), shape=(labels.size, cell.size))
    estimate = founder_interval(
        sums,
        _information_of(cell // width, cell % width),
        n=n,
        rng=rng,
        level=level,
        n_resamples=n_resamples,
        method=f"{name} ({n_permutations})",
        lowest=0.0,
        highest=1.0,
    )
    low, high = np.quantile(null, [(1 - level) / 2, (1 + level) / 2])
    mean = float(null.mean())
    excess = (observed - mean) / (1 - mean) if mean < 1 - 1e-12 else math.nan
    return ParentInformation(
        replace(estimate, p_value=p_value),
        mean,
        float(low),
        float(high),
        excess,
        child.size,
        n_permutations,
    )


def _entropy(counts: Floats) -> float:
    p = counts / counts.sum()
    return float(-xlogy(p, p).sum())


def _mutual(a: Ints, b: Ints, width: int) -> float:
    """Mutual information of paired values below `width`, in nats."""
    joint = np.unique(a * width + b, return_counts=True)[1].astype(float)
    return (
        _entropy(np.bincount(a).astype(float))
        + _entropy(np.bincount(b).astype(float))
        - _entropy(joint)
    )


def _information_of(parent: Ints, child: Ints) -> Callable[[Floats], Floats]:
    """I(parent; child) / H(child) as a function of the counts of cells, shape (..., K)."""
    n_cells = parent.size
    every = np.arange(n_cells)
    by_parent = csr_array((np.ones(n_cells), (every, parent)))
    by_child = csr_array((np.ones(n_cells), (every, child)))

    def entropy(counts: Floats) -> Floats:
        p = counts / counts.sum(axis=-1, keepdims=True)
        return np.asarray(-xlogy(p, p).sum(axis=-1))

    def ratio(totals: Floats) -> Floats:
        of_child = entropy(np.asarray(totals @ by_child))
        shared = entropy(np.asarray(totals @ by_parent)) + of_child - entropy(totals)
        return np.asarray(shared / np.where(of_child > 0, of_child, np.nan))

    return ratio


# -- drift --------------------------------------------------------------------------------------


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
        From :func:`value_sets`.
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


# -- siblings -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SiblingResemblance:
    """Jaccard distances of the same children to a parent and to a sibling.

    `difference` is the first less the second, child by child: above zero siblings are more alike
    than parent and child, as a fast and *directed* change makes them (Laufer et al. 2025).
    """

    parent_child: Estimate
    siblings: Estimate
    difference: Estimate
    n_sibships: int


def sibling_resemblance(
    sets: csr_array,
    child: Ints,
    parent: Ints,
    cluster: Ints,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
) -> SiblingResemblance:
    """Compare each child with its parent and with one sibling drawn at random.

    The known children of a parent are put in a random ring, and each is compared with the next: as
    many comparisons as children instead of all pairs, with the same expectation; large families
    count by their children, as they do among edges.

    Parameters
    ----------
    sets : (n, V)
        From :func:`value_sets`.
    child, parent : (E,)
        Edges; those with an empty end are left out, and parents with a single child left.
    cluster : (E,)
        Independent group of each edge: its parent, or its founder.
    rng
        Source of the rings.
    """
    distance = edge_distance(sets, child, parent)
    known = np.flatnonzero(np.isfinite(distance))
    ring = known[np.lexsort((rng.random(known.size), parent[known]))]
    _, first, count = np.unique(parent[ring], return_index=True, return_counts=True)
    place = np.arange(ring.size)
    following = place + 1
    following[first + count - 1] = first
    several = np.repeat(count > 1, count)
    one, other = ring[place[several]], ring[following[several]]
    to_parent = distance[one]
    to_sibling = edge_distance(sets, child[one], child[other])
    group = cluster[one]
    return SiblingResemblance(
        clustered_mean(to_parent, group, "distance to the parent", level=level, bounds=(0, 1)),
        clustered_mean(to_sibling, group, "distance to a sibling", level=level, bounds=(0, 1)),
        clustered_mean(
            to_parent - to_sibling,
            group,
            "distance to the parent less that to a sibling",
            level=level,
            bounds=(-1, 1),
        ),
        int((count > 1).sum()),
    )

"""Whether a text goes from parent to child, against parents exchanged among models alike."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lineage.evolution.categories.exchange import untested
from lineage.evolution.categories.mutation import MIN_EDGES
from lineage.evolution.categories.text_traits import row_cosine
from lineage.evolution.selection.multiple import PermutationTest

__all__ = ["exchange_texts"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_ROUNDING = 1e-12
_MOST_TOGETHER = 2_000
"""Parents of a larger stratum change places within parts of it, dealt at random: a table of all
their cosines has to fit into memory."""


def exchange_texts(
    weights: csr_array,
    child: Ints,
    parent: Ints,
    stratum: Ints,
    *,
    rng: np.random.Generator,
    n_permutations: int = 999,
) -> PermutationTest:
    """Test the mean cosine of parent and child by exchanging parents within strata.

    Parents take all their children along, as siblings are no independent witnesses. A child that
    is dealt itself or another of its own parents takes no part in that draw. One-sided: the
    p-value is the share of draws with at least the cosine observed, ``(1 + b) / (1 + m)``;
    `expected` and `spread` are those of the draws.

    Parameters
    ----------
    weights : (n, n_buckets)
        From :func:`lineage.evolution.categories.text_traits.tf_idf`.
    child, parent : (E,)
        Edges; those without a text at either end are left out.
    stratum : (n,)
        Parents of one stratum change places.

    Returns
    -------
    PermutationTest
        NaN p-value with the reason in `method` with fewer than 3 edges, or where no two parents
        share a stratum.

    Raises
    ------
    ValueError
        If there is not one stratum for each text, or no permutation.
    """
    if n_permutations < 1:
        raise ValueError(f"at least one permutation is needed: {n_permutations}")
    if stratum.shape != (weights.shape[0],):
        raise ValueError(f"a stratum for each of the {weights.shape[0]} texts is needed")
    cosine = row_cosine(weights, child, parent)
    known = np.isfinite(cosine)
    child, parent, cosine = child[known], parent[known], cosine[known]
    method = "mean cosine of parent and child"
    if child.size < MIN_EDGES:
        reason = f"{child.size} edges with a text at both ends, {MIN_EDGES} needed"
        return untested(child.size, n_permutations, method, reason)
    observed = float(cosine.mean())
    unit, part = _parts(np.unique(parent), stratum, rng)
    if not unit.size:
        reason = "no two parents share a stratum"
        return untested(child.size, n_permutations, method, reason)
    _, first, size = np.unique(part, return_index=True, return_counts=True)
    where = np.argsort(unit)
    at = np.searchsorted(unit[where], parent)
    moves = unit[where[at % unit.size]] == parent
    of_edge = part[where[at[moves]]]
    edges = np.flatnonzero(moves)[np.argsort(of_edge, kind="stable")]
    tables = [
        _tables(weights, child[one], parent[one], unit[f : f + k])
        for one, f, k in zip(
            np.split(edges, np.cumsum(np.bincount(of_edge))[:-1]), first, size, strict=True
        )
    ]
    alike = np.concatenate([cosines.ravel() for cosines, _ in tables])
    number = np.concatenate([numbers.ravel() for _, numbers in tables])
    # The entry [a, b] of a part stands after those of the parts before, a rows of k and b.
    start, width = (np.cumsum(size**2) - size**2)[part], size[part]
    own = np.arange(unit.size) - first[part]
    drawn = np.full(n_permutations, math.nan)
    for k in range(n_permutations):
        # Sorting random keys that lie between a part's number and the next stays within parts.
        dealt = own[np.argsort(part + rng.random(unit.size))]
        entry = start + dealt * width + own
        n = number[entry].sum() + cosine.size - edges.size
        drawn[k] = (alike[entry].sum() + cosine[~moves].sum()) / n if n else math.nan
    drawn = drawn[np.isfinite(drawn)]
    p = (1 + int((drawn >= observed - _ROUNDING).sum())) / (1 + drawn.size)
    n_strata = np.unique(stratum[unit]).size
    return PermutationTest(
        observed, float(drawn.mean()), float(drawn.std()), p,
        math.sqrt(p * (1 - p) / (1 + drawn.size)), child.size, n_strata, n_permutations,
        f"{method}; {n_permutations} exchanges of parents within {n_strata} strata",
    )  # fmt: skip


def _parts(parents: Ints, stratum: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Parents that change places with others, by part and in order within it, and their parts."""
    dealt = rng.permutation(parents)
    _, group, size = np.unique(stratum[dealt], return_inverse=True, return_counts=True)
    order = np.argsort(group, kind="stable")
    rank = np.empty(dealt.size, dtype=np.int64)
    rank[order] = np.arange(dealt.size) - (np.cumsum(size) - size)[group[order]]
    n_parts = -(-size // _MOST_TOGETHER)
    part = (np.cumsum(n_parts) - n_parts)[group] + rank % n_parts[group]
    _, part, together = np.unique(part, return_inverse=True, return_counts=True)
    several = together[part] > 1
    unit, part = dealt[several], np.unique(part[several], return_inverse=True)[1]
    order = np.lexsort((unit, part))
    return unit[order], part[order]


def _tables(weights: csr_array, child: Ints, parent: Ints, part: Ints) -> tuple[Floats, Floats]:
    """Sum, and number, of the cosines of text a with the children of parent b, at [a, b].

    Off the diagonal without the children that are a themselves, or children of a as well.
    """
    k = part.size
    of_parent = np.searchsorted(part, parent)
    ones = np.ones(child.size)
    is_child = csr_array((ones, (np.arange(child.size), of_parent)), shape=(child.size, k))
    alike = (weights[part] @ (is_child.T @ weights[child]).T).toarray()
    number = np.tile(np.bincount(of_parent, minlength=k).astype(float), (k, 1))
    # All pairs of a model that is a child here and a text that it must not be dealt.
    own = np.searchsorted(part, child) % k
    is_dealt_itself = part[own] == child
    barred = np.unique(
        np.concatenate(
            [
                np.column_stack([child, of_parent]),
                np.column_stack([child[is_dealt_itself], own[is_dealt_itself]]),
            ]
        ),
        axis=0,
    )
    names, at = np.unique(child, return_inverse=True)
    row = np.searchsorted(names, barred[:, 0])
    shape = (names.size, k)
    children = csr_array((ones, (at, of_parent)), shape=shape)
    cosine = row_cosine(weights, barred[:, 0], part[barred[:, 1]])
    for table, value in ((alike, cosine), (number, np.ones(row.size))):
        away = (csr_array((value, (row, barred[:, 1])), shape=shape).T @ children).toarray()
        np.fill_diagonal(away, 0.0)
        table -= away
    return alike, number

"""Selection on a text: how far propagation shifts the mean text, in whatever direction.

A text is a point in the space of words, of length 1. Its selection differential is a vector,
``S = Cov(w, x)``, and its length over the standard deviation of the points (the root of the
summed variances of all words) plays the part of the intensity of selection on a quantity, without
a sign: at most √I, up to the factor √(n/(n − 1)). Chance makes it positive, so that only its null
speaks.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lineage.evolution.categories.exchange import exchanges, untested, varies
from lineage.evolution.clusters import untrusted
from lineage.evolution.diversity.intervals import founder_interval
from lineage.evolution.selection.differentials import MIN_MODELS
from lineage.evolution.selection.fitness import Fitness
from lineage.evolution.selection.multiple import PermutationTest
from lineage.model import Estimate

__all__ = ["permute_texts", "text_intensity"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_NAME = "length of the selection differential of a text, |Cov(w, x)|/σ"
_MOST_GROUPS = 200
_TIE = 1e-9


def text_intensity(
    weights: csr_array,
    fitness: Fitness,
    cluster: Ints,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    n_resamples: int = 2000,
) -> Estimate:
    """Length of the standardised selection differential of a text, with an interval by founder.

    Parameters
    ----------
    weights : (n, n_buckets)
        From :func:`lineage.evolution.categories.text_traits.tf_idf`; empty rows take no part.
    fitness
        Of each model; those with a NaN are left out.
    cluster : (n,)
        Founder of each model, resampled whole; more than 200 are dealt in turn into 200 groups.

    Returns
    -------
    Estimate
        NaN with the reason in `method` where fewer than 3 models or groups take part, nobody has
        any fitness, or all texts are equal.

    Examples
    --------
    >>> from lineage.evolution.categories.text_traits import term_counts, tf_idf
    >>> weights = tf_idf(term_counts(["a"] * 4 + ["b"] * 4))
    >>> given = Fitness("w", np.repeat([2.0, 0.0], 4), "fitness: given")
    >>> rng = np.random.default_rng(1)
    >>> round(text_intensity(weights, given, np.arange(8), rng=rng).value, 4)  # √(8/7) √I
    1.069
    """
    x, w, known = _taking_part(weights, fitness)
    method = f"{_NAME}; {fitness.method}"
    labels, group = np.unique(cluster[known], return_inverse=True)
    problem = _problem(x, w)
    if problem:
        return untrusted(w.size, level, method, problem, labels.size)
    group = group % _MOST_GROUPS
    n_groups = min(labels.size, _MOST_GROUPS)
    member = csr_array((np.ones(w.size), (group, np.arange(w.size))), shape=(n_groups, w.size))
    given = csr_array((w, (group, np.arange(w.size))), shape=(n_groups, w.size))
    texts, bred = _coordinates(csr_array(member @ x), csr_array(given @ x))
    size, total = np.bincount(group).astype(float), np.bincount(group, weights=w)
    width = texts.shape[1]

    def length(totals: Floats) -> Floats:
        n, whole = totals[..., 0], totals[..., 1]
        some = (n > 1) & (whole > 0)
        n, whole = np.where(some, n, np.nan)[..., None], np.where(some, whole, np.nan)[..., None]
        mean = totals[..., 2 : 2 + width] / n
        shift = totals[..., 2 + width :] / whole - mean
        # Texts have length 1: their summed variances are what their mean's square is short of 1.
        variance = 1 - (mean**2).sum(axis=-1)
        n = n[..., 0]
        return np.asarray(
            np.sqrt(
                (shift**2).sum(axis=-1) * n / (n - 1) / np.where(variance > _TIE, variance, np.nan)
            )
        )

    found = founder_interval(
        np.column_stack([size, total, texts, bred]), length, n=w.size, rng=rng, level=level,
        n_resamples=n_resamples, method=method, lowest=0.0,
    )  # fmt: skip
    return Estimate(found.value, found.low, found.high, level, found.n, found.method, labels.size)


def permute_texts(
    weights: csr_array,
    fitness: Fitness,
    stratum: Ints,
    *,
    rng: np.random.Generator,
    n_permutations: int = 999,
) -> PermutationTest:
    """The same length against fitness exchanged among models of one stratum.

    One-sided, as a length has no sign: p is the share of permutations that give at least the
    length observed, ``(1 + b) / (1 + m)``. `expected` and `spread` are of the permutations drawn.

    Parameters
    ----------
    weights, fitness
        As for :func:`text_intensity`.
    stratum : (n,)
        Models of one change their fitness.
    """
    if n_permutations < 1:
        raise ValueError(f"at least one permutation is needed: {n_permutations}")
    x, w, known = _taking_part(weights, fitness)
    method = f"{_NAME}; {fitness.method}"
    problem = _problem(x, w)
    if problem:
        return untested(w.size, n_permutations, method, problem)
    _, group, size = np.unique(stratum[known], return_inverse=True, return_counts=True)
    member = csr_array((np.ones(w.size), (group, np.arange(w.size))), shape=(size.size, w.size))
    alike = np.asarray((member @ x).power(2).sum(axis=1)).ravel() / size**2
    moves = varies(w, group, size.size) & (1 - alike > _TIE)
    n_strata = int(moves.sum())
    if not n_strata:
        reason = "text and fitness vary together within no stratum"
        return untested(w.size, n_permutations, method, reason)
    mean = np.asarray(x.mean(axis=0)).ravel()
    scale = math.sqrt(w.size / (w.size - 1) / (1 - float(mean @ mean)))
    relative = w / w.mean()
    turned = csr_array(x.T)

    def length(given: Floats) -> float:
        shift = turned @ given / given.size - mean
        return scale * math.sqrt(float(shift @ shift))

    observed = length(relative)
    drawn = exchanges(relative, group, moves, rng=rng, n=n_permutations)
    null = np.array([length(given) for given in drawn])
    p = (1 + int((null >= observed * (1 - _TIE)).sum())) / (1 + n_permutations)
    return PermutationTest(
        observed, float(null.mean()), float(null.std()), p,
        math.sqrt(p * (1 - p) / (1 + n_permutations)), w.size, n_strata, n_permutations,
        f"{method}; {n_permutations} permutations of fitness within {n_strata} strata",
    )  # fmt: skip


def _taking_part(
    weights: csr_array, fitness: Fitness
) -> tuple[csr_array, Floats, NDArray[np.bool_]]:
    """Texts (words that anybody uses alone) and fitness of the models with both."""
    known = (np.diff(weights.indptr) > 0) & np.isfinite(fitness.values)
    w = fitness.values[known]
    if (w < 0).any():
        raise ValueError("fitness must not be negative: it counts what a model passed on")
    rows = weights[np.flatnonzero(known)]
    used = np.unique(rows.indices)
    return csr_array(rows[:, used]), w, known


def _coordinates(texts: csr_array, bred: csr_array) -> tuple[Floats, Floats]:
    """Both sets of vectors, (G, words) each, in as few dimensions as hold all their products."""
    both = np.concatenate([(texts @ texts.T).toarray(), (bred @ texts.T).toarray()])
    across = np.concatenate([(texts @ bred.T).toarray(), (bred @ bred.T).toarray()])
    values, vectors = np.linalg.eigh(np.column_stack([both, across]))
    place = vectors * np.sqrt(np.maximum(values, 0.0))
    return place[: texts.shape[0]], place[texts.shape[0] :]


def _problem(x: csr_array, w: Floats) -> str | None:
    if w.size < MIN_MODELS:
        return f"{w.size} models with a text and fitness, {MIN_MODELS} needed"
    if not w.any():
        return "no model has any fitness"
    mean = np.asarray(x.mean(axis=0)).ravel()
    return "all texts are equal" if 1 - float(mean @ mean) <= _TIE else None

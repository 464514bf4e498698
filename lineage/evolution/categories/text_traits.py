"""Resemblance of texts, such as model cards, between parent and child and within a family.

Texts are cut into words, words are hashed into buckets, and buckets weighted by TF–IDF; the
resemblance of two texts is the cosine of their weights. Two cards of one base family resemble each
other anyway (templates, citations, the base's name), so parent and child are compared with the
child and a random other model of its family: the difference is what descent adds.

Texts come from strangers: they are read as plain words and nothing else, to a bounded length, and
a text that is no string is refused.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array

from lineage.evolution.categories.mutation import clustered_mean
from lineage.model import Estimate

__all__ = [
    "MAX_CHARACTERS", "TextResemblance", "length_ratio", "row_cosine", "term_counts",
    "text_distance", "text_resemblance", "tf_idf",
]  # fmt: skip

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MAX_CHARACTERS = 50_000
"""Of longer texts the beginning is read."""

MAX_WORD = 64
"""Of longer runs of letters (encoded data) the beginning counts."""

N_BUCKETS = 1 << 20
"""Words that share a bucket count as one: with 20,000 different words some 1 % of them do."""

_WORD = re.compile(r"\w+")


def term_counts(texts: Iterable[str | None], *, n_buckets: int = N_BUCKETS) -> csr_array:
    """How often each text uses each bucket of words, shape (n, n_buckets).

    Words are runs of letters, digits and underscores, in lower case, hashed with CRC-32 of their
    UTF-8, so that a bucket means the same on every machine.

    Parameters
    ----------
    texts
        Plain texts, one held at a time and read up to `MAX_CHARACTERS`; None is a missing text and
        has an empty row, as has one without words.
    n_buckets
        Number of buckets.

    Raises
    ------
    TypeError
        If a text is neither a string nor None.
    ValueError
        If there is not one bucket.

    Examples
    --------
    >>> counts = term_counts(["A model. A MODEL!", None, "***"])
    >>> counts.sum(axis=1).tolist(), sorted(counts.data.tolist())
    ([4.0, 0.0, 0.0], [2.0, 2.0])
    """
    if n_buckets < 1:
        raise ValueError(f"at least one bucket: {n_buckets}")
    start, column, times = [0], array("q"), array("d")
    for text in texts:
        if text is not None:
            if not isinstance(text, str):
                raise TypeError(f"a text is a string or None, not {type(text).__name__}")
            words = Counter(word[:MAX_WORD] for word in _words(text))
            buckets: Counter[int] = Counter()
            for word, count in words.items():
                # Half a surrogate pair is no Unicode, but the Hub has seen it.
                buckets[crc32(word.encode("utf-8", "surrogatepass")) % n_buckets] += count
            column.extend(buckets.keys())
            times.extend(buckets.values())
        start.append(len(column))
    return csr_array(
        (np.array(times), np.array(column, dtype=np.int64), np.array(start)),
        shape=(len(start) - 1, n_buckets),
    )


def _words(text: str) -> list[str]:
    # Lower case may lengthen a text (İ), so it is cut before and counts as it was cut.
    return _WORD.findall(text[:MAX_CHARACTERS].lower())


def tf_idf(counts: csr_array) -> csr_array:
    """TF–IDF weights with rows of length 1: ``tf · (ln((1 + N)/(1 + df)) + 1)``.

    N texts have any word, df of them that bucket; the smoothed form keeps a word that all texts
    use at weight 1 (Salton & Buckley 1988, Inf Process Manag 24:513). Empty rows stay empty.

    Parameters
    ----------
    counts : (n, n_buckets)
        From :func:`term_counts`.
    """
    n_texts = int((np.diff(counts.indptr) > 0).sum())
    frequency = np.bincount(counts.indices, minlength=counts.shape[1])
    weight = np.log((1 + n_texts) / (1 + frequency)) + 1
    weighted = csr_array(
        (counts.data * weight[counts.indices], counts.indices, counts.indptr), shape=counts.shape
    )
    norm = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    return csr_array(diags_array(1 / np.where(norm > 0, norm, 1.0)) @ weighted)


def row_cosine(weights: csr_array, a: Ints, b: Ints) -> Floats:
    """Cosine of the rows `a` and `b` of weights of length 1, NaN where either is empty.

    Parameters
    ----------
    weights : (n, n_buckets)
        From :func:`tf_idf`.
    a, b : (E,)
        Rows.
    """
    cosine = np.asarray(weights[a].multiply(weights[b]).sum(axis=1)).ravel()
    some = np.diff(weights.indptr) > 0
    # Rounding may carry equal rows past 1.
    return np.where(some[a] & some[b], np.minimum(cosine, 1.0), np.nan)


def text_distance(weights: csr_array, cluster: Ints, *, level: float = 0.95) -> Estimate:
    """Mean distance, one less the cosine, of two texts drawn at random, with its interval.

    A mean over pairs: to first order its error is twice that of the mean, over texts, of each
    text's distance to all others (Hoeffding 1948, Ann Math Stat 19:293), which is clustered.

    Parameters
    ----------
    weights : (n, n_buckets)
        From :func:`tf_idf`; empty rows take no part.
    cluster : (n,)
        Independent group of each text.

    Examples
    --------
    >>> weights = tf_idf(term_counts(["a b", "a b", "c d", "c d"]))
    >>> round(text_distance(weights, np.arange(4)).value, 4)  # four of six pairs share no word
    0.6667
    """
    written = np.diff(weights.indptr) > 0
    rows = weights[np.flatnonzero(written)]
    n = rows.shape[0]
    alike = (rows @ np.asarray(rows.sum(axis=0)).ravel() - 1) / max(n - 1, 1)
    found = clustered_mean(
        np.clip(1 - alike, 0.0, 1.0), cluster[written], "mean distance, 1 − cosine, of two texts",
        level=level, bounds=(0, 1),
    )  # fmt: skip
    low, high = found.value - 2 * (found.value - found.low), 2 * found.high - found.value
    return replace(found, low=float(np.maximum(low, 0.0)), high=float(np.minimum(high, 1.0)))


def length_ratio(
    texts: Sequence[str | None], child: Ints, parent: Ints, cluster: Ints, *, level: float = 0.95
) -> Estimate:
    """Geometric mean of the child's length over the parent's, in characters, with its interval.

    A ratio below 1 means that texts shorten down the lineage. Empty and missing texts take part in
    nothing; lengths are those of the whole texts.

    Parameters
    ----------
    texts
        One for each model.
    child, parent, cluster : (E,)
        Edges, and the independent group of each.

    Examples
    --------
    >>> import numpy as np
    >>> texts, one = ["x" * 80, "x" * 40, "x" * 20, "x" * 5], np.array([0, 1, 2])
    >>> round(length_ratio(texts, one + 1, one, one).value, 4)
    0.3969
    """
    length = np.array([len(text) if text else np.nan for text in texts])
    ratio = np.log(length[child] / length[parent])
    found = clustered_mean(ratio, cluster, "geometric mean ratio of lengths", level=level)
    return replace(
        found,
        value=float(np.exp(found.value)),
        low=float(np.exp(found.low)),
        high=float(np.exp(found.high)),
    )


@dataclass(frozen=True, slots=True)
class TextResemblance:
    """Cosines of the same children with their parent and with a random other of their family.

    `excess` is their difference, child by child. `n_edges` were looked at; `n_known` have words at
    both ends, of which those without another text in the family take no part in the comparison.
    """

    parent_child: Estimate
    within_family: Estimate
    excess: Estimate
    n_edges: int
    n_known: int


def text_resemblance(
    weights: csr_array,
    child: Ints,
    parent: Ints,
    family: Ints,
    cluster: Ints,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
) -> TextResemblance:
    """Compare parent–child cosines with those of random pairs of the same family.

    Each child is compared with one model drawn from the others of its family that have a text,
    its parents excepted.

    Parameters
    ----------
    weights : (n, n_buckets)
        From :func:`tf_idf`.
    child, parent : (E,)
        Edges.
    family : (n,)
        Family of each model (founder).
    cluster : (E,)
        Independent group of each edge.
    rng
        Source of the draws.

    Raises
    ------
    ValueError
        If there is not one family for each text.
    """
    n = weights.shape[0]
    if family.shape != (n,):
        raise ValueError(f"a family for each of the {n} texts is needed")
    cosine = row_cosine(weights, child, parent)
    known = np.flatnonzero(np.isfinite(cosine))
    other = _others(weights, child, parent, family, known, rng)
    paired, other = known[other >= 0], other[other >= 0]
    apart = row_cosine(weights, child[paired], other)
    group, near = cluster[paired], cosine[paired]
    names = ("cosine with the parent", "cosine with a random other of the family")
    return TextResemblance(
        clustered_mean(near, group, names[0], level=level, bounds=(0, 1)),
        clustered_mean(apart, group, names[1], level=level, bounds=(0, 1)),
        clustered_mean(
            near - apart, group, f"{names[0]} less {names[1]}", level=level, bounds=(-1, 1)
        ),
        child.size,
        known.size,
    )


def _others(
    weights: csr_array,
    child: Ints,
    parent: Ints,
    family: Ints,
    known: Ints,
    rng: np.random.Generator,
) -> Ints:
    """A random member with a text of each child's family, not it nor its parents; −1 for none."""
    written = np.flatnonzero(np.diff(weights.indptr) > 0)
    member = written[np.argsort(family[written], kind="stable")]
    first = np.searchsorted(family[member], family[child[known]], side="left")
    stop = np.searchsorted(family[member], family[child[known]], side="right")
    n = weights.shape[0]
    related = np.unique(np.concatenate([child * n + parent, child * n + child]))
    open_ = np.arange(known.size)
    chosen = np.full(known.size, -1)
    # Rejection: of a family of m at most 1 + parents are barred, so few rounds suffice.
    for _ in range(_MAX_ROUNDS):
        if not open_.size:
            break
        drawn = member[rng.integers(first[open_], stop[open_])]
        barred = np.isin(child[known[open_]] * n + drawn, related)
        chosen[open_[~barred]] = drawn[~barred]
        open_ = open_[barred]
    return chosen


_MAX_ROUNDS = 64
"""A family of parent, child and one other is missed once in (3/2)^64 draws."""

"""Resemblance of texts: hand cases, a naive oracle, hostile texts."""

from __future__ import annotations

import math
import re
from collections import Counter
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lineage.evolution.categories.text_traits import (
    MAX_CHARACTERS,
    length_ratio,
    row_cosine,
    term_counts,
    text_resemblance,
    tf_idf,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
NAN = math.nan


def rng() -> np.random.Generator:
    return np.random.default_rng(2)


def ints(*values: int) -> Ints:
    return np.array(values, dtype=np.int64)


def naive_cosines(texts: list[str | None]) -> Floats:
    """All pairs with dictionaries of words."""
    bags = [Counter(re.findall(r"\w+", (text or "").lower())) for text in texts]
    n = sum(1 for bag in bags if bag)
    frequency = Counter(word for bag in bags for word in bag)
    weights = [
        {w: k * (math.log((1 + n) / (1 + frequency[w])) + 1) for w, k in bag.items()}
        for bag in bags
    ]
    found = np.full((len(texts), len(texts)), NAN)
    for i, a in enumerate(weights):
        for j, b in enumerate(weights):
            if a and b:
                norm = math.hypot(*a.values()) * math.hypot(*b.values())
                found[i, j] = sum(x * b.get(w, 0) for w, x in a.items()) / norm
    return found


def cosines(texts: list[str | None], n_buckets: int = 1 << 20) -> Floats:
    weights = tf_idf(term_counts(texts, n_buckets=n_buckets))
    a, b = np.divmod(np.arange(len(texts) ** 2), len(texts))
    return row_cosine(weights, a, b).reshape(len(texts), len(texts))


# -- words --------------------------------------------------------------------------------------


def test_words_are_counted_in_their_buckets() -> None:
    counts = term_counts(["A b b. a-B", None, "", "!?", "ÄÖ_1"], n_buckets=1000)
    row = counts.toarray()
    assert row[0, crc32(b"a") % 1000] == 2
    assert row[0, crc32(b"b") % 1000] == 3
    assert row.sum(axis=1).tolist() == [5, 0, 0, 0, 1]
    assert row[4, crc32("äö_1".encode()) % 1000] == 1
    assert counts.shape == (5, 1000)
    assert term_counts([], n_buckets=3).shape == (0, 3)
    streamed = term_counts((text for text in ("A b", None)), n_buckets=1000)
    assert streamed.toarray().sum(axis=1).tolist() == [2, 0]


def test_words_of_one_bucket_are_counted_together() -> None:
    assert term_counts(["one two three two"], n_buckets=1).toarray().tolist() == [[4]]


def test_hostile_texts_are_read_as_words_to_a_bound() -> None:
    long = "x " * MAX_CHARACTERS
    assert term_counts([long]).sum() == MAX_CHARACTERS / 2
    # of one word that never ends the beginning counts: equal beginnings are equal words
    endless = cosines(["y" * 10_000_000, "y" * 64 + "z" * 100])
    assert endless[0, 1] == pytest.approx(1)
    odd = ["\ud800 half a pair", "\x00\x1b[31m{{7*7}} ${jndi:ldap}", "İ" * 70_000, "<script>"]
    assert np.isfinite(cosines(odd)).all()


@pytest.mark.parametrize("text", [b"bytes", 3, ["a"], NAN])
def test_what_is_no_text_is_refused(text: object) -> None:
    with pytest.raises(TypeError, match="a text is a string or None"):
        term_counts(["fine", text])


def test_there_must_be_a_bucket() -> None:
    with pytest.raises(ValueError, match="at least one bucket"):
        term_counts(["a"], n_buckets=0)


# -- cosines ------------------------------------------------------------------------------------


def test_a_cosine_worked_on_paper() -> None:
    # N = 2; "model" in both weighs 1, "a" and "b" ln(3/2) + 1
    other = math.log(3 / 2) + 1
    found = cosines(["model a", "model b"])
    assert found[0, 1] == pytest.approx(1 / (1 + other**2))
    assert found[0, 0] == pytest.approx(1)


words = st.sampled_from(["model", "Model", "base", "llama", "gguf", "the", "7b", "é"])
texts_of_words = st.one_of(
    st.none(), st.lists(words, max_size=8).map(" ".join), st.lists(words, max_size=8).map("-".join)
)


@given(st.lists(texts_of_words, min_size=1, max_size=6))
def test_cosines_are_those_of_dictionaries(texts: list[str | None]) -> None:
    found = cosines(texts)
    np.testing.assert_allclose(found, naive_cosines(texts), atol=1e-12)
    assert not (found > 1).any()


# -- comparisons --------------------------------------------------------------------------------


def descent(copied: float, *, seed: int = 1) -> tuple[list[str], Ints, Ints, Ints]:
    """Twelve families with a template each; a child copies words of its parent or of its own."""
    generator = np.random.default_rng(seed)
    texts, child, parent, family = [], [], [], []
    for k in range(12):
        template = [f"family{k}x{j}" for j in range(10)]
        first = len(texts)
        for _ in range(4):
            texts.append([*template, *(f"w{j}" for j in generator.integers(0, 4000, 30))])
            family.append(k)
        for mother in range(first, first + 4):
            for _ in range(3):
                own = [f"w{j}" for j in generator.integers(0, 4000, 30)]
                kept = generator.random(30) < copied
                child.append(len(texts))
                parent.append(mother)
                family.append(k)
                texts.append(
                    [*template, *np.where(kept, texts[mother][10:], own).tolist()]
                )  # fmt: skip
    return [" ".join(text) for text in texts], ints(*child), ints(*parent), ints(*family)


def test_descent_is_what_parents_add_to_the_template_of_a_family() -> None:
    for copied, adds in ((0.0, False), (0.5, True)):
        texts, child, parent, family = descent(copied)
        weights = tf_idf(term_counts(texts))
        found = text_resemblance(weights, child, parent, family, family[child], rng=rng())
        assert found.within_family.value > 0.05  # the template
        assert (found.excess.low > 0.1) == adds
        if not adds:
            assert found.excess.low < 0 < found.excess.high
        assert found.parent_child.value == pytest.approx(
            np.diagonal(naive_cosines(texts)[np.ix_(child, parent)]).mean()
        )
        assert found.excess.value == pytest.approx(
            found.parent_child.value - found.within_family.value
        )
        assert (found.n_edges, found.n_known, found.excess.n_clusters) == (144, 144, 12)


def test_random_others_are_of_the_family_with_a_text_and_neither_child_nor_parent() -> None:
    # Of family 0 (texts 0–4) child 1 of parents 0 and 2 may only meet 3: 4 says nothing.
    texts = ["p q", "c", "p q", "c", None, "c c", "z", "z"]
    child, parent = ints(1, 1, 3, 6), ints(0, 2, 0, 5)
    family = ints(0, 0, 0, 0, 0, 1, 2, 2)
    weights = tf_idf(term_counts(texts))
    for seed in range(20):
        found = text_resemblance(
            weights, child, parent, family, ints(0, 1, 2, 3), rng=np.random.default_rng(seed)
        )
        # child 3 of parent 0 meets 1 (cosine 1) or 2 (cosine 0); child 6 meets 7 (1)
        assert found.within_family.value in (pytest.approx(1), pytest.approx(3 / 4))
        assert found.parent_child.value == 0
        assert (found.n_known, found.within_family.n) == (4, 4)


def test_families_without_another_text_take_no_part() -> None:
    weights = tf_idf(term_counts(["a", "a", "a b", None]))
    found = text_resemblance(
        weights, ints(1, 3), ints(0, 0), ints(0, 0, 1, 0), ints(0, 0), rng=rng()
    )
    assert (found.n_edges, found.n_known, found.excess.n) == (2, 1, 0)
    assert math.isnan(found.excess.value)
    # the very first text is as good as any
    first = text_resemblance(weights, ints(2), ints(1), ints(0, 0, 0, 0), ints(0), rng=rng())
    assert (first.n_known, first.excess.n) == (1, 1)
    with pytest.raises(ValueError, match="a family for each of the 4 texts"):
        text_resemblance(weights, ints(1), ints(0), ints(0), ints(0), rng=rng())


# -- lengths ------------------------------------------------------------------------------------


def test_lengths_compare_as_ratios() -> None:
    texts = ["x" * 100, "x" * 50, "x" * 200, "x" * 25, None, ""]
    child, parent = ints(1, 2, 3, 4, 5), ints(0, 0, 0, 0, 0)
    found = length_ratio(texts, child, parent, ints(0, 1, 2, 3, 4))
    assert found.value == pytest.approx((0.5 * 2 * 0.25) ** (1 / 3))
    assert found.n == 3
    logs = np.log([0.5, 2, 0.25])
    reach = 4.3026527 * logs.std(ddof=1) / math.sqrt(3)  # t(.975, 2)
    assert (found.low, found.high) == pytest.approx(
        (math.exp(logs.mean() - reach), math.exp(logs.mean() + reach))
    )
    none = length_ratio(texts, ints(4), ints(0), ints(0))
    assert math.isnan(none.value)
    assert "values, 3 needed" in none.method

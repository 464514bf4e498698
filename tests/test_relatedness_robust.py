"""Exact p-values, relatives in another basis or vocabulary, and what only training can share."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from lineage.infer.geometry import make_pool
from lineage.infer.identity import find_copy
from lineage.infer.permutation import (
    Method,
    best_test,
    centred,
    sign_test,
    standardised,
    sum_test,
)
from lineage.infer.relatedness import Pairing, run_tests, test_pair
from lineage.infer.token_rows import (
    VocabularyComparison,
    aligned_values,
    compare_vocabularies,
)
from lineage.infer.training_marks import MarkPlaces, shared_training
from lineage.model import Kind, PairVerdict, VocabularyMap
from lineage.weights.responses import responses
from lineage.weights.roles import TensorKey
from simulated import LAYERS, VOCAB, D, Herd, fingerprint, stored

EMBED = TensorKey("embed")
READERS = {"q": "attn_norm", "k": "attn_norm", "v": "attn_norm", "up": "ffn_norm"}
READERS |= {"gate": "ffn_norm", "head": "final_norm"}
WRITERS = ("o", "down")
TOKENS = {row: chr(33 + row) for row in range(VOCAB)}


def rotated(weights, rng):
    """The residual stream in another basis, gains folded in; by its definition, role by role."""
    basis, _ = np.linalg.qr(rng.standard_normal((D, D)))
    turned = {}
    for key, values in weights.items():
        gains = READERS.get(key.role)
        before = weights[TensorKey(gains, -1 if key.role == "head" else key.layer)] if gains else 1
        if key.role in WRITERS:
            turned[key] = (basis.T @ values).astype("f4")
        elif key.role in READERS or key.role == "embed":
            turned[key] = ((values * before) @ basis).astype("f4")
        else:
            turned[key] = np.ones_like(values)
    return turned


def reordered(weights, order, signs):
    turned = {}
    for key, values in weights.items():
        if key.role in WRITERS:
            turned[key] = signs[:, None] * values[order]
        elif values.ndim == 2:
            turned[key] = values[:, order] * signs
        else:
            turned[key] = values[order]
    return turned


def with_units_moved(weights, rng):
    order = rng.permutation(weights[TensorKey("up", 0)].shape[0])
    moved = dict(weights)
    for key, values in weights.items():
        if key.role in ("up", "gate"):
            moved[key] = values[order]
        elif key.role == "down":
            moved[key] = values[:, order]
    return moved


@pytest.fixture(scope="module")
def family():
    herd = Herd(21)
    parent = stored(herd.founder())
    return herd, parent, herd.train(parent, 0.02), stored(herd.founder())


# permutation tests


@pytest.mark.parametrize("spread", [0.05, 0.5, 3.0])
def test_no_p_value_lies_below_the_share_of_all_permutations(spread):
    rng = np.random.default_rng(int(10 * spread))
    similarity = centred(spread * rng.standard_normal((1, 6, 6)))
    totals = np.array(
        [sum(similarity[0, i, p[i]] for i in range(6)) for p in permutations(range(6))]
    )
    # Every order of the columns is an observation with its own exact p-value.
    for order in list(permutations(range(6)))[::29]:
        observed = similarity[:, :, list(order)]
        result = sum_test([observed], seed=1)
        exact = (totals >= np.trace(observed[0]) - 1e-9).mean()
        if result.method is not Method.DRAWN:
            assert result.p_value >= exact - 1e-12
        else:
            assert abs(result.p_value - exact) <= 4 * np.sqrt(exact / 10) + 0.01


def test_the_bound_on_the_permanent_holds_where_all_permutations_can_be_counted():
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((7, 5))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    group = centred((rows @ rows.T)[None])
    one = [sum(group[0, i, p[i]] for i in range(7)) for p in permutations(range(7))]
    share = float((np.array(one) >= np.trace(group[0]) - 1e-9).mean())
    for n_groups in (3, 5):
        result = sum_test([group] * n_groups, seed=2)
        assert result.p_value >= share**n_groups
        assert result.p_value < 1e-3


def test_p_values_of_noise_are_never_smaller_than_promised():
    rng = np.random.default_rng(3)
    p = np.array(
        [
            sum_test([centred(rng.standard_normal((1, 12, 12))) for _ in range(3)], seed).p_value
            for seed in range(300)
        ]
    )
    for level in (0.01, 0.05, 0.2):
        assert (p <= level).mean() <= level + 3 * np.sqrt(level / 300)


def test_a_best_of_many_is_corrected_for_the_choice():
    rng = np.random.default_rng(4)
    p = np.array(
        [
            best_test([centred(rng.standard_normal((4, 1, 10, 10))) for _ in range(3)], s).p_value
            for s in range(150)
        ]
    )
    assert (p <= 0.1).mean() <= 0.1 + 3 * np.sqrt(0.1 / 150)
    assert (p <= 0.5).mean() > 0.3


def test_a_trace_is_standardised_over_permutations():
    rng = np.random.default_rng(6)
    scaled = standardised(centred(rng.standard_normal((1, 5, 5))))
    totals = [sum(scaled[0, i, p[i]] for i in range(5)) for p in permutations(range(5))]
    assert abs(np.mean(totals)) < 1e-9
    assert abs(np.var(totals) - 1) < 1e-9


def test_fair_coins_give_large_p_values_and_agreeing_signs_small_ones():
    rng = np.random.default_rng(7)
    sizes = rng.random(60)
    agreeing = sign_test(sizes, seed=1)
    assert agreeing.p_value <= 2 * np.exp(-(agreeing.statistic**2) / 2) + 1e-300
    assert sign_test(sizes * np.where(np.arange(60) % 2, 1, -1), seed=1).p_value > 0.01
    assert sign_test(np.zeros(5), seed=1) is None


def test_constant_units_are_no_evidence():
    assert sum_test([np.zeros((1, 8, 8))], seed=0) is None
    assert best_test([np.zeros((2, 1, 8, 8))], seed=0) is None
    assert standardised(np.zeros((1, 4, 4))) is None


# relatives in another basis


def test_responses_to_tokens_do_not_depend_on_the_basis(family):
    herd, parent, _, _ = family
    turned = rotated(parent, herd.rng)
    keys = [TensorKey("up", 1), TensorKey("v", 2)]
    before = responses(fingerprint("a/a", parent).samples, parent[EMBED], keys)
    samples = fingerprint("a/b", turned, "F32").samples
    after = responses(samples, turned[EMBED], keys)
    for key in keys:
        assert np.allclose(before[key], after[key], atol=1e-4)


def test_the_same_pair_gets_the_same_p_value_in_either_order(family):
    _, parent, _, stranger = family
    a, b = fingerprint("a/a", parent), fingerprint("b/b", stranger)
    assert test_pair(a, b, 1) == test_pair(b, a, 1)


def test_a_rotated_relative_is_found_and_a_rotated_stranger_is_not(family):
    herd, parent, child, stranger = family
    origin = fingerprint("a/p", parent)
    turned = stored(rotated(child, herd.rng))
    assert test_pair(origin, fingerprint("b/c", turned), 1000).verdict is PairVerdict.RELATED
    outcome = run_tests(origin, fingerprint("b/c", turned), 1e-6)[-1]
    assert outcome.pairing is Pairing.UNITS_BY_TOKEN
    strange = stored(rotated(stranger, herd.rng))
    assert test_pair(origin, fingerprint("b/s", strange), 1000).verdict is PairVerdict.UNRELATED


def test_rotation_reordered_units_and_turned_heads_at_once_do_not_hide_a_relative(family):
    herd, parent, child, _ = family
    turned = with_units_moved(rotated(child, herd.rng), herd.rng)
    for layer in range(LAYERS):
        basis, _ = np.linalg.qr(herd.rng.standard_normal((D, D)))
        turned[TensorKey("v", layer)] = (basis @ turned[TensorKey("v", layer)]).astype("f4")
    outcomes = run_tests(fingerprint("a/p", parent), fingerprint("b/c", stored(turned)), 1e-6)
    assert outcomes[-1].pairing is Pairing.SIGNS
    assert outcomes[-1].p_value < 1e-6


def test_siblings_that_kept_disjoint_layers_are_related_through_their_embeddings(family):
    _, parent, _, stranger = family

    def keeping(weights, layers):
        kept = {k: v for k, v in weights.items() if k.layer < 0}
        for new, old in enumerate(layers):
            kept |= {TensorKey(k.role, new): v for k, v in weights.items() if k.layer == old}
        return kept

    even = fingerprint("a/even", keeping(parent, (0, 2)))
    odd = fingerprint("b/odd", keeping(parent, (1, 3)))
    other = fingerprint("c/other", keeping(stranger, (1, 3)))
    assert test_pair(even, odd, 1000).verdict is PairVerdict.RELATED
    assert test_pair(even, other, 1000).verdict is PairVerdict.UNRELATED


@pytest.mark.parametrize("value", [0.0, 1.0, np.nan, np.inf, 1e38])
def test_strange_models_are_related_to_nobody(family, value):
    _, parent, _, _ = family
    strange = {key: np.full_like(values, value) for key, values in parent.items()}
    pair = test_pair(fingerprint("a/p", parent), fingerprint("b/s", strange, "F32"), 1)
    assert pair.verdict in (PairVerdict.UNTESTABLE, PairVerdict.UNRELATED)
    only = {TensorKey("up", 0): parent[TensorKey("up", 0)]}
    assert test_pair(fingerprint("a/p", parent), fingerprint("b/o", only), 1).p_value is not None


# copies in another basis


def test_reordered_and_negated_coordinates_are_undone_word_for_word(family):
    herd, parent, child, _ = family
    order, signs = herd.rng.permutation(D), herd.rng.choice([-1.0, 1.0], D)
    turned = fingerprint("b/c", stored(reordered(parent, order, signs)))
    copy = find_copy(turned, fingerprint("a/p", parent))
    assert copy is not None
    assert copy.kind is Kind.PERMUTED
    assert not copy.directed
    assert "reordered" in copy.evidence[0].text
    assert "every sampled word" in copy.evidence[0].text
    assert find_copy(turned, fingerprint("a/c", child)) is None


def test_a_rotation_is_undone_and_told_from_its_parent_by_the_folded_gains(family):
    herd, parent, child, _ = family
    turned = fingerprint("b/c", stored(rotated(parent, herd.rng)))
    copy = find_copy(turned, fingerprint("a/p", parent))
    assert copy is not None
    assert copy.directed
    assert "rotated" in copy.evidence[0].text
    assert find_copy(fingerprint("a/p", parent), turned) is None
    assert find_copy(turned, fingerprint("a/c", child)) is None


def test_moved_gains_are_undone(family):
    herd, parent, _, _ = family
    moved = dict(parent)
    for layer in range(LAYERS):
        scale = np.exp(0.3 * herd.rng.standard_normal(D)).astype("f4")
        for role in ("q", "k", "v"):
            moved[TensorKey(role, layer)] = parent[TensorKey(role, layer)] / scale
        moved[TensorKey("attn_norm", layer)] = parent[TensorKey("attn_norm", layer)] * scale
    copy = find_copy(fingerprint("b/c", stored(moved)), fingerprint("a/p", parent))
    assert copy is not None
    assert "gains" in copy.evidence[0].text


def test_training_queries_and_keys_alone_is_no_disguise(family):
    herd, parent, _, _ = family
    trained = dict(parent)
    for layer in range(LAYERS):
        for role in ("q", "k"):
            key = TensorKey(role, layer)
            trained[key] = parent[key] + 0.01 * herd.rng.standard_normal((D, D)).astype("f4")
    pair = fingerprint("b/c", stored(trained)), fingerprint("a/p", parent)
    assert find_copy(*pair) is None


# vocabularies


def renumbered(weights, order):
    moved = {k: v[order] if k.role in ("embed", "head") else v for k, v in weights.items()}
    return moved, {new: TOKENS[int(old)] for new, old in enumerate(order)}


@pytest.mark.parametrize("n_kept", [VOCAB, VOCAB - 16])
def test_rows_are_aligned_by_token_where_numbers_differ(family, n_kept):
    herd, parent, _, _ = family
    order = herd.rng.permutation(n_kept)
    weights, tokens = renumbered(parent, order)
    child = fingerprint("b/c", weights, tokens=tokens)
    origin = fingerprint("a/p", parent, tokens=TOKENS)
    x, y = aligned_values(child, origin, EMBED)
    assert len(x) == n_kept
    assert np.array_equal(x, y)
    pool = make_pool([origin, child])
    assert np.allclose(pool.squared_distance, 0)
    copy = find_copy(child, origin)
    assert copy is not None
    assert copy.kind is Kind.VOCABULARY
    assert copy.directed
    assert "another number" in copy.evidence[0].text
    moved = sum(new != old for new, old in enumerate(order))
    assert copy.vocabulary_map == VocabularyMap(n_kept - moved, moved, 0, VOCAB - n_kept)
    assert find_copy(origin, child) is None
    assert test_pair(origin, child, 1000).verdict is PairVerdict.RELATED


def test_a_pool_leaves_tokens_out_where_a_vocabulary_is_unknown(family):
    herd, parent, _, _ = family
    weights, tokens = renumbered(parent, herd.rng.permutation(VOCAB))
    known = [
        fingerprint("a/p", parent, tokens=TOKENS),
        fingerprint("b/c", weights, tokens=tokens),
    ]
    unknown = fingerprint("c/u", parent)
    assert EMBED in make_pool(known).keys
    assert EMBED not in make_pool([*known, unknown]).keys
    assert EMBED in make_pool([known[0], unknown]).keys


def test_the_map_of_a_vocabulary_counts_what_was_added_and_moved(family):
    _, parent, _, _ = family
    longer = {
        k: np.concatenate([v, v[:4]]) if k.role in ("embed", "head") else v
        for k, v in parent.items()
    }
    found = compare_vocabularies(fingerprint("b/c", longer), fingerprint("a/p", parent))
    assert found is not None
    assert (found.n_compared, found.n_renumbered, found.n_added) == (VOCAB, 0, 4)
    assert found.text == "4 rows were appended"
    assert found.map == VocabularyMap(VOCAB, 0, 4, 0)


def test_tokens_that_were_not_read_leave_a_renumbered_vocabulary_uncounted():
    assert VocabularyComparison(10, 3, 0, 80).map is None
    assert VocabularyComparison(10, 0, -8, 80).map == VocabularyMap(80, 0, 0, 8)


# one initialisation, trained apart


def grown_apart(start, rng):
    """Training that changes the lengths of units, as it does."""
    grown = {}
    for key, values in start.items():
        if values.ndim == 1:
            grown[key] = np.ones_like(values)
        else:
            lengths = np.exp(0.3 * rng.standard_normal((len(values), 1)))
            step = 0.05 * rng.standard_normal(values.shape)
            grown[key] = ((values + step) * lengths).astype("f4")
    return stored(grown)


def test_without_gains_the_lengths_of_units_tell_relatives_from_twins():
    herd = Herd(31)
    start = herd.founder()
    a, b = grown_apart(start, herd.rng), grown_apart(start, herd.rng)
    child = herd.train(a, 0.05)
    for key in a:
        if key.role.endswith("norm"):
            child[key] = a[key]
    one, two = fingerprint("a/one", a), fingerprint("b/two", b)
    assert test_pair(one, two, 100).verdict is PairVerdict.COMMON_INIT
    assert test_pair(one, fingerprint("c/child", child), 100).verdict is PairVerdict.RELATED
    no_units = MarkPlaces({}, units=False, values=False, coordinates=False)
    assert shared_training(one, two, no_units) is None


def test_a_reordered_twin_of_one_initialisation_is_still_told_from_a_child():
    herd = Herd(32)
    start = herd.founder()
    a, b = grown_apart(start, herd.rng), grown_apart(start, herd.rng)
    order, signs = herd.rng.permutation(D), np.ones(D)
    turned = fingerprint("b/two", reordered(b, order, signs))
    assert test_pair(fingerprint("a/one", a), turned, 100).verdict is PairVerdict.COMMON_INIT
    copied = fingerprint("c/copy", reordered(a, order, signs))
    assert test_pair(fingerprint("a/one", a), copied, 100).verdict is PairVerdict.RELATED

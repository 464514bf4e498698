"""The family test: its null, its power, and what it must not be fooled by."""

from __future__ import annotations

import numpy as np
from scipy import stats

from lineage.infer.relatedness import bit_equality, match_rows, shared_training, test_pair
from lineage.model import PairVerdict
from lineage.weights.fingerprint import Directions
from lineage.weights.roles import TensorKey
from simulated import Herd, fingerprint, stored


def directions(matrix):
    return Directions.of(matrix.astype("f4"))


def naive_match(a, b):
    """The statistic by its definition, with loops."""
    n = len(a)
    s = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            u, v = a[i] - a[i].mean(), b[j] - b[j].mean()
            s[i, j] = u @ v / np.sqrt((u @ u) * (v @ v))
    for _ in range(3):
        s = s - s.mean(axis=0)
        s = s - s.mean(axis=1)[:, None]
    return np.trace(s) / np.sqrt((s**2).sum() / (n - 1))


def test_the_statistic_equals_its_definition():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((12, 20)), rng.standard_normal((12, 20))
    assert abs(match_rows(directions(a), directions(b)) - naive_match(a, b)) < 1e-5


def test_over_permutations_the_statistic_has_mean_zero_and_variance_one():
    rng = np.random.default_rng(1)
    common = rng.standard_normal(20)  # shared column means must not matter
    a = (rng.standard_normal((30, 20)) + common).astype("f4")
    b = (rng.standard_normal((30, 20)) + common).astype("f4")
    x = directions(a)
    draws = np.array([match_rows(x, directions(b[rng.permutation(30)])) for _ in range(1500)])
    assert abs(draws.mean()) < 0.08
    assert abs(draws.var() - 1) < 0.12


def test_p_values_of_independent_founders_are_uniform():
    herd = Herd(5)
    founders = [fingerprint(f"f/{i}", stored(herd.founder())) for i in range(14)]
    tests = [test_pair(a, b, 1) for i, a in enumerate(founders) for b in founders[:i]]
    # The smallest of six p-values, times six, is conservative: never more small ones than uniform.
    p = np.array([t.p_value for t in tests])
    for level in (0.5, 0.1, 0.05):
        n_below = int((p <= level).sum())
        assert n_below <= stats.binom.ppf(0.9999, len(p), level)
    assert (p < 1).any()


def test_relatives_are_found_at_every_size_of_change_and_strangers_never():
    herd = Herd(2)
    parent = stored(herd.founder())
    stranger = fingerprint("x/stranger", stored(herd.founder()))
    origin = fingerprint("x/parent", parent)
    for size in (0.001, 0.01, 0.1, 0.5):
        child = fingerprint("x/child", herd.train(parent, size))
        assert test_pair(origin, child, 1000).verdict is PairVerdict.RELATED
        assert test_pair(stranger, child, 1000).verdict is PairVerdict.UNRELATED


def test_permuted_feed_forward_units_do_not_hide_a_relative():
    herd = Herd(3)
    parent = stored(herd.founder())
    order = herd.rng.permutation(96)
    child = dict(parent)
    for key in parent:
        if key.role in ("up", "gate"):
            child[key] = parent[key][order]
        if key.role == "down":
            child[key] = parent[key][:, order]
    pair = test_pair(fingerprint("a/p", parent), fingerprint("b/c", child), 1000)
    assert pair.verdict is PairVerdict.RELATED


def test_models_of_other_depth_are_recognised_through_any_of_their_layers():
    herd = Herd(4)
    parent = stored(herd.founder())
    kept = [1, 3]
    child = {k: v for k, v in parent.items() if k.layer < 0}
    for new, old in enumerate(kept):
        child |= {TensorKey(k.role, new): v for k, v in parent.items() if k.layer == old}
    pair = test_pair(fingerprint("a/p", parent), fingerprint("b/c", child), 1000)
    assert pair.verdict is PairVerdict.RELATED
    stranger = fingerprint("c/s", stored(herd.founder()))
    assert test_pair(stranger, fingerprint("b/c", child), 1000).verdict is PairVerdict.UNRELATED


def test_a_shared_initialisation_is_a_verdict_of_its_own():
    herd = Herd(6)
    start = {k: np.ones_like(v) if v.ndim == 1 else v for k, v in herd.founder().items()}

    def grown():
        grown = herd.train(start, 0.6)
        for key in grown:
            if key.role.endswith("norm"):
                grown[key] = (1 + 0.2 * herd.rng.standard_normal(grown[key].shape)).astype("f4")
        return stored(grown)

    a, b = grown(), grown()
    pair = test_pair(fingerprint("a/one", a), fingerprint("b/two", b), 100)
    assert pair.verdict is PairVerdict.COMMON_INIT
    child = fingerprint("c/child", herd.train(a, 0.05))
    assert test_pair(fingerprint("a/one", a), child, 100).verdict is PairVerdict.RELATED


def test_nothing_comparable_is_untestable_not_unrelated():
    herd = Herd(7)
    whole = herd.founder()
    layers = {k: v for k, v in whole.items() if k.role in ("q", "k")}
    outside = {k: v for k, v in whole.items() if k.layer < 0}
    pair = test_pair(fingerprint("a/w", layers), fingerprint("b/n", outside), 1)
    assert pair.verdict is PairVerdict.UNTESTABLE
    assert pair.p_value is None


def test_a_narrower_cut_of_a_model_is_recognised_by_its_responses_to_tokens():
    herd = Herd(7)
    wide = herd.founder()
    narrow = {k: v[..., :32].copy() if v.ndim == 2 else v[:32] for k, v in wide.items()}
    stranger = {k: v[..., :32].copy() if v.ndim == 2 else v[:32] for k, v in herd.founder().items()}
    origin = fingerprint("a/w", wide)
    assert test_pair(origin, fingerprint("b/n", narrow), 1000).verdict is PairVerdict.RELATED
    assert test_pair(origin, fingerprint("b/s", stranger), 1000).verdict is PairVerdict.UNRELATED


def test_bit_equality_counts_equal_words_of_matrices():
    herd = Herd(8)
    parent = stored(herd.founder())
    child = {k: v.copy() for k, v in parent.items()}
    child[TensorKey("q", 0)][:24] += 1
    n_matrix = sum(v.size for v in parent.values() if v.ndim == 2)
    expected = 1 - 24 * 48 / n_matrix
    got = bit_equality(fingerprint("a/p", parent), fingerprint("b/c", child))
    assert got is not None
    assert abs(got - expected) < 1e-9


def test_trained_gains_agree_in_descendants_only():
    herd = Herd(9)
    parent = stored(herd.founder())
    origin = fingerprint("a/p", parent)
    child = shared_training(origin, fingerprint("b/c", herd.train(parent, 0.05)))
    other = shared_training(origin, fingerprint("c/o", stored(herd.founder())))
    assert child is not None
    assert other is not None
    assert child > 0.9
    assert abs(other) < 0.25

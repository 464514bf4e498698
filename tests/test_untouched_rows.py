"""Rows that one model moved and another has as they were."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage.infer.descent import resolve_descent
from lineage.infer.descent_tree import DescentTree
from lineage.infer.geometry import Pool
from lineage.infer.rooting import StepOdds
from lineage.infer.untouched_rows import has_rows_untouched, inherits_rows
from lineage.weights.encodings import round_to
from lineage.weights.roles import TensorKey

N_ROWS, WIDTH = 40, 16


def pool_of(dtypes=(), roles=("embed",), **models) -> Pool:
    """Matrices of several roles lie one below the other in each model."""
    stacked = np.stack([np.asarray(model, np.float32) for model in models.values()])
    keys = tuple(TensorKey(role, layer) for layer, role in enumerate(roles))
    return Pool(tuple(models), keys, tuple(np.split(stacked, len(roles), axis=1)), dtypes)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def trained(rng, rows, moved, size=0.01):
    """What `rows` become where only those numbered `moved` occur in the text."""
    after = np.array(rows)
    after[moved] += size * rng.standard_normal((len(moved), WIDTH))
    return after


def naively(reference, model, other) -> bool:
    near = 0
    for origin, ours, theirs in zip(reference, model, other, strict=True):
        n_moved = sum(t != o for t, o in zip(theirs, origin, strict=True))
        if n_moved <= WIDTH / 2:
            continue
        if all(m == o for m, o in zip(ours, origin, strict=True)):
            return True
        near += sum((ours - origin) ** 2) < 0.01 * sum((theirs - origin) ** 2)
    return near >= 2


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.sampled_from([0.0, 0.0005, 0.0011, 0.02]), min_size=12, max_size=12),
    st.integers(4, 12),
)
def test_rows_are_told_as_one_by_one(seed, sizes, n_words):
    rng = np.random.default_rng(seed)
    base = rng.standard_normal((12, WIDTH))
    other = base.copy()
    other[:6, :n_words] += 0.01
    step = rng.standard_normal((12, WIDTH))
    step /= np.linalg.norm(step, axis=1, keepdims=True)
    model = base + np.array(sizes)[:, None] * step
    exact = [rows.astype(np.float32).astype(np.float64) for rows in (base, model, other)]
    pool = pool_of(r=base, m=model, o=other)
    assert has_rows_untouched(pool, "m", "o", "r") == naively(*exact)


def test_a_child_has_no_row_back_that_its_parent_moved(rng):
    base = rng.standard_normal((N_ROWS, WIDTH))
    parent = trained(rng, base, range(30))
    child = trained(rng, parent, range(10, 40))
    pool = pool_of(r=base, p=parent, c=child)
    assert not has_rows_untouched(pool, "c", "p", "r")
    assert has_rows_untouched(pool, "p", "c", "r")  # tokens that only the child's text held


def test_a_descendant_has_rows_as_its_ancestor_moved_them_and_nobody_else_has(rng):
    base = rng.standard_normal((N_ROWS, WIDTH))
    parent, sibling = (trained(rng, base, range(20)) for _ in range(2))
    child = trained(rng, parent, range(10, 40))
    grandchild = trained(rng, child, range(9))
    pool = pool_of(r=base, p=parent, s=sibling, c=child, g=grandchild)
    assert inherits_rows(pool, "c", "p", "r")
    assert inherits_rows(pool, "g", "p", "r")  # a single row is left
    assert inherits_rows(pool, "g", "c", "p")
    for model, other, above in (("s", "p", "r"), ("p", "c", "p"), ("p", "c", "r"), ("s", "c", "p")):
        told = inherits_rows(pool, model, other, above)
        assert told is ((model, other, above) == ("p", "c", "r"))  # seen from above its parent
    other_text = trained(rng, parent, range(20))
    assert not inherits_rows(pool_of(r=base, p=parent, c=other_text), "c", "p", "r")


def test_rows_alike_by_rounding_alone_are_not_inherited(rng):
    base = rng.standard_normal((N_ROWS, WIDTH)).astype(np.float32)
    one, two = (round_to("BF16", trained(rng, base, moved, 0.2)) for moved in ([1, 2], [3, 4]))
    assert not inherits_rows(pool_of(("F32", "BF16", "BF16"), r=base, a=one, b=two), "b", "a", "r")
    assert inherits_rows(pool_of(("F32", "F32", "F32"), r=base, a=one, b=two), "b", "a", "r")


def test_rows_of_no_numbers_are_not_inherited(rng):
    base = rng.standard_normal((N_ROWS, WIDTH))
    broken = np.full((N_ROWS, WIDTH), np.nan)
    assert not inherits_rows(pool_of(r=base, a=broken, b=broken), "b", "a", "r")


def test_an_adapter_merged_after_a_small_step_is_its_child_and_not_the_roots(rng):
    """The adapter moved far more than the step before it, and spared the embedding."""
    base = [rng.standard_normal((N_ROWS, WIDTH if n == 0 else 48)) for n in range(7)]
    tuned = grown(rng, base, 0.003, range(N_ROWS))
    low_rank = [rng.standard_normal((N_ROWS, 4)) @ rng.standard_normal((4, 48)) for _ in range(6)]
    merged = [
        m + 0.01 * low + 0.003 * rng.standard_normal(m.shape)
        for m, low in zip(tuned[1:], low_rank, strict=True)
    ]
    for embedding, told in ((tuned[0], True), (tuned[0] + 1e-4, False)):
        pool = herd_of(rng, r=base, tuned=tuned, merged=[embedding, *merged])
        found = {one.child: one for one in resolve_descent(pool, "r", ["tuned", "merged"], {}, {})}
        merged_one = found["merged"]
        assert ((merged_one.names, merged_one.ties) == ({"tuned"}, ())) is told
        assert ("rows_inherited" in {fact.name for fact in merged_one.evidence}) is told


def test_a_sibling_has_rows_that_its_text_does_not_hold(rng):
    base = rng.standard_normal((N_ROWS, WIDTH))
    pool = pool_of(r=base, a=trained(rng, base, range(30)), b=trained(rng, base, range(10, 40)))
    assert has_rows_untouched(pool, "a", "b", "r")
    assert has_rows_untouched(pool, "b", "a", "r")


def test_two_rows_moved_a_tenth_as_far_tell_as_much_and_one_does_not(rng):
    base = rng.standard_normal((N_ROWS, WIDTH))
    far = trained(rng, base, range(N_ROWS))
    near = far + 0.01 * rng.standard_normal(far.shape)
    for n_rows, share, told in ((1, 0.05, False), (2, 0.05, True), (4, 0.2, False)):
        near[:n_rows] = base[:n_rows] + share * (far[:n_rows] - base[:n_rows])
        assert has_rows_untouched(pool_of(r=base, f=far, n=near), "n", "f", "r") is told


@pytest.mark.parametrize(
    ("roles", "rows", "told"),
    [
        (("q", "k"), (0, 1, 2), False),
        (("q", "k"), (0, N_ROWS // 2), True),
        (("embed", "q"), (0, 1), True),
        (("embed", "q"), (0, N_ROWS // 2, N_ROWS // 2 + 1), True),
        (("head", "q"), (N_ROWS // 2, N_ROWS // 2 + 1), False),
    ],
)
def test_rows_of_one_matrix_count_once_where_they_are_no_tokens(rng, roles, rows, told):
    base = rng.standard_normal((N_ROWS, WIDTH))
    far = trained(rng, base, range(N_ROWS))
    near = far + 0.01 * rng.standard_normal(far.shape)
    near[list(rows)] = base[list(rows)] + 0.05 * (far[list(rows)] - base[list(rows)])
    pool = pool_of(roles=roles, r=base, f=far, n=near)
    assert has_rows_untouched(pool, "n", "f", "r") is told


def test_what_only_rounding_moved_did_not_move(rng):
    """A founder in a fine type, and two children in a coarse one: the text of one lacks a token."""
    base = rng.standard_normal((N_ROWS, WIDTH)).astype(np.float32)
    one, two = (round_to("BF16", trained(rng, base, moved, 0.2)) for moved in ([1, 2], [3, 4]))
    pool = pool_of(("F32", "BF16", "BF16"), r=base, a=one, b=two)
    assert not has_rows_untouched(pool, "b", "r", "a")
    as_is = pool_of(("F32", "F32", "F32"), r=base, a=one, b=two)
    assert has_rows_untouched(as_is, "b", "r", "a")


def test_a_model_moved_nothing_since_itself_and_bad_numbers_tell_nothing(rng):
    base = rng.standard_normal((N_ROWS, WIDTH))
    moved = trained(rng, base, range(N_ROWS))
    assert not has_rows_untouched(pool_of(r=base, m=moved), "r", "m", "r")
    assert not has_rows_untouched(pool_of(r=base, m=moved), "m", "r", "r")
    for bad in (np.nan, np.inf, -np.inf):
        broken = np.full((N_ROWS, WIDTH), bad)
        assert not has_rows_untouched(pool_of(r=base, m=broken, o=moved), "m", "o", "r")
        assert not has_rows_untouched(pool_of(r=broken, m=base, o=moved), "m", "o", "r")
    # Numbers are fewer than a row's: what was moved beyond all numbers has been moved.
    assert has_rows_untouched(pool_of(r=base, m=base, o=np.full_like(base, np.nan)), "m", "o", "r")


def test_vectors_are_not_asked(rng):
    gains = np.ones((1, WIDTH))
    assert not has_rows_untouched(pool_of(r=gains, m=gains, o=gains + 0.1), "m", "o", "r")


def herd_of(rng, **models):
    """A pool of some matrices beside the embedding, all models made alike in every one."""
    keys = (TensorKey("embed", -1), *(TensorKey("up", layer) for layer in range(6)))
    values = tuple(np.stack([one[n] for one in models.values()]) for n in range(len(keys)))
    return Pool(tuple(models), keys, tuple(v.astype(np.float32) for v in values))


def grown(rng, model, size, tokens):
    embed, *rest = model
    return [
        trained(rng, embed, tokens, size),
        *(m + size * rng.standard_normal(m.shape) for m in rest),
    ]


def large_then_small(rng, tokens):
    """A large step, and a small one that trains `tokens` and takes some of the large one back."""
    base = [rng.standard_normal((N_ROWS, WIDTH if n == 0 else 48)) for n in range(7)]
    large = grown(rng, base, 0.3, range(30))
    small = grown(rng, large, 0.01, tokens)
    embed, *rest = zip(small, large, base, strict=True)
    back = [embed[0], *(late - 0.02 * (old - first) for late, old, first in rest)]
    pool = herd_of(rng, r=base, large=large, back=back)
    assert pool.squared_distance[2, 0] < pool.squared_distance[1, 0]
    return {one.child: one for one in resolve_descent(pool, "r", ["large", "back"], {}, {})}


def test_a_model_nearer_to_the_root_is_placed_below_the_one_that_rows_tell_to_be_older(rng):
    found = large_then_small(rng, range(20, 40))
    assert {name: one.parents[0][0] for name, one in found.items()} == {
        "large": "r",
        "back": "large",
    }
    assert not found["back"].ties
    assert "untouched_rows" in {fact.name for fact in found["back"].evidence}


def test_without_a_token_that_is_new_to_the_small_step_nothing_tells(rng):
    found = large_then_small(rng, range(20, 30))
    assert found["large"].ties
    assert "untouched_rows" not in {fact.name for one in found.values() for fact in one.evidence}


def test_what_carries_a_whole_change_but_not_all_rows_is_no_child(rng):
    base = [rng.standard_normal((N_ROWS, WIDTH if n == 0 else 48)) for n in range(7)]
    one = grown(rng, base, 0.01, range(20))
    for tokens, parent in ((range(20, 40), "one"), (range(10, 40), "r")):
        alike = grown(rng, one, 0.01, tokens)
        if parent == "r":  # its text did not hold these
            alike[0][:10] = base[0][:10]
        pool = herd_of(rng, r=base, one=one, alike=alike)
        found = {one.child: one for one in resolve_descent(pool, "r", ["one", "alike"], {}, {})}
        assert found["alike"].names == {parent}


def tree_of(rng):
    models = {name: [rng.standard_normal((48, 48)) for _ in range(7)] for name in "rabx"}
    return DescentTree(StepOdds(herd_of(rng, **models), {}), "r", {})


def test_only_models_that_stand_side_by_side_are_placed_anew(rng, monkeypatch):
    placed = []
    monkeypatch.setattr(DescentTree, "place", lambda tree, name: placed.append(name))
    tree = tree_of(rng)
    tree.carrying.untouched = {("a", "b", "r"): True, ("b", "x", "r"): False}
    tree.parents = {"a": "b", "b": "r", "x": "r"}
    tree.place_below_farther()
    assert placed == []
    tree.parents["a"] = "r"
    tree.place_below_farther()
    assert placed == ["b"]


def test_where_two_may_change_places_whoever_may_stand_above_the_one_may_above_the_other(
    rng, monkeypatch
):
    monkeypatch.setattr(DescentTree, "_step_log_odds", lambda *_: 0.0)
    tree = tree_of(rng)
    tree.parents = {"a": "r", "b": "a", "x": "r"}
    tree.ties = {"a": ("x",), "b": (), "x": ()}
    tree.reconsider("b")
    assert set(tree.ties["b"]) == {"r", "x"}

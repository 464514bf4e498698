"""Candidates are found at bounded cost, and large families are resolved piece by piece."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from lineage.infer import assemble, neighbourhoods
from lineage.infer.assemble import infer_lineage
from lineage.infer.candidates import codes, find_candidates, joins, marks, near, search
from lineage.infer.candidates.marks import N_BANDS, N_DIGESTS, marks_of
from lineage.infer.identity import is_duplicate
from lineage.infer.neighbourhoods import settle_by_neighbourhood
from lineage.infer.pair_tests import PairTests, PValues
from lineage.infer.settle.copies import seniority
from lineage.infer.settle.family import OpenFamily, log_odds_older
from lineage.infer.twins import equal_models, equal_words
from lineage.model import Finding, Grade, Kind, PairVerdict, ParentShare
from lineage.weights.encodings import quantize
from lineage.weights.fingerprint import Fingerprint, Sample
from lineage.weights.probe import SCHEME
from lineage.weights.roles import TensorKey
from tests.simulated import LAYERS, Herd, fingerprint, stored

DAY = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def herd() -> Herd:
    return Herd(7)


@pytest.fixture(scope="module")
def lone(herd: Herd) -> dict:
    return stored(herd.founder())


@pytest.fixture(scope="module")
def strangers(herd: Herd) -> list[Fingerprint]:
    return [fingerprint(f"stranger/{i}", stored(herd.founder())) for i in range(12)]


# ranked pairs


def test_codes_hold_what_was_packed_and_cut_large_ranks() -> None:
    model, rank, other = np.array([0, 5, (1 << 24) - 1]), np.array([3, 1 << 20, 0]), [7, 0, 9]
    packed = codes.pack(model, rank, np.array(other))
    back = codes.unpack(packed)
    assert back[0].tolist() == model.tolist()
    assert back[1].tolist() == [3, codes.MAX_RANK, 0]
    assert back[2].tolist() == other


@pytest.mark.parametrize("at_once", [25, 5])
def test_the_best_of_every_list_are_those_a_dictionary_finds(monkeypatch, at_once: int) -> None:
    monkeypatch.setattr(codes, "_SLICE", at_once)
    rng = np.random.default_rng(0)
    model, rank, other = rng.integers(0, 9, 400), rng.integers(0, 50, 400), rng.integers(0, 30, 400)
    parts = np.array_split(codes.pack(model, rank, other), 3)
    naive: dict[int, dict[int, int]] = {}
    for m, r, o in zip(model.tolist(), rank.tolist(), other.tolist(), strict=True):
        naive.setdefault(m, {})
        naive[m][o] = min(r, naive[m].get(o, 99))
    wanted = [
        (m, r, o) for m in sorted(naive) for r, o in sorted((r, o) for o, r in naive[m].items())[:4]
    ]
    kept = codes.unpack(codes.best(parts, 4))
    assert list(zip(*(x.tolist() for x in kept), strict=True)) == wanted
    assert codes.best([], 4).size == 0


# joins


def test_shared_keys_are_counted_and_common_ones_dropped() -> None:
    rng = np.random.default_rng(1)
    pool = rng.integers(1, 1 << 63, 60, np.uint64)
    common = np.uint64(1 << 62)
    sets = [
        np.unique(np.append(rng.choice(pool, 12, replace=False), common))
        for _ in range(joins.SHARED_BY_MOST + 1)
    ]
    starts = np.cumsum([0, *map(len, sets)])
    found = codes.unpack(joins.shared_keys(np.concatenate(sets), starts, 200))
    counts = {
        (a, b): codes.MAX_RANK - r for a, r, b in zip(*(x.tolist() for x in found), strict=True)
    }
    naive = {}
    for a, first in enumerate(sets):
        for b, second in enumerate(sets):
            n = len(set(first.tolist()) & set(second.tolist())) - 1  # the common key
            if a != b and n:
                naive[a, b] = n
    assert counts == naive
    one = sets[0]
    assert joins.shared_keys(one, np.array([0, len(one)]), 5).size == 0
    assert joins.shared_keys(one[:0], np.array([0, 0, 0]), 5).size == 0


# neighbours


def _hashes(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 128), np.uint8)


def _naive_distance(a: np.ndarray, b: np.ndarray) -> int:
    return sum(bin(x ^ y).count("1") for x, y in zip(a.tolist(), b.tolist(), strict=True))


def test_few_hashes_are_compared_all_with_all() -> None:
    hashes = _hashes(20, 2)
    found = codes.unpack(near.nearest_in_lists(hashes, np.arange(20), 30, 500, 4))
    got = set(zip(*(x.tolist() for x in found), strict=True))
    naive = {
        (a, distance, b)
        for a in range(20)
        for b in range(20)
        if a != b and (distance := _naive_distance(hashes[a], hashes[b])) <= 500
    }
    assert got == naive


def test_sorted_lists_find_near_hashes_among_many_and_no_far_ones() -> None:
    hashes = _hashes(3000, 3)
    rng = np.random.default_rng(4)
    for child in range(0, 400, 2):  # its parent is the next: 60 bits differ
        bits = np.unpackbits(hashes[child + 1])
        bits[rng.choice(1024, 60, replace=False)] ^= 1
        hashes[child] = np.packbits(bits)
    model, distance, other = codes.unpack(
        near.nearest_in_lists(hashes, np.arange(3000), 10, near.chance_distance(1024, 3000), 16)
    )
    pairs = dict(zip(zip(model.tolist(), other.tolist(), strict=True), distance, strict=True))
    assert all(pairs.get((child, child + 1)) == 60 for child in range(0, 400, 2))
    assert max(pairs.values()) <= near.chance_distance(1024, 3000)
    assert len(pairs) < 3 * 3000  # about one chance neighbour a model


def test_a_dense_family_costs_no_more_than_its_window() -> None:
    same = np.repeat(_hashes(1, 5), 2000, axis=0)
    found = near.nearest_in_lists(same, np.arange(2000), 64, 100, 4)
    assert np.bincount(codes.unpack(found)[0]).max() <= 64
    # Equal hashes stand in another order in every list.
    assert len(found) > 2000 * 40


def test_neighbours_of_neighbours_lead_to_a_founder_that_few_met() -> None:
    rng = np.random.default_rng(6)
    n, keep = 1500, 20
    values = rng.standard_normal(512) + 0.2 * rng.standard_normal((n, 512))
    values[0] = values[1:].mean(axis=0)
    projections = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    a = np.repeat(np.arange(n), keep)
    some = codes.best([codes.pack(a, np.zeros(len(a), int), rng.integers(0, n, len(a)))], keep)
    start = near.refined(some, projections)
    met = (codes.unpack(start)[2] == 0).sum()
    end = near.descended(start, projections, keep - 1)
    assert met < n / 20
    assert (codes.unpack(end)[2] == 0).sum() > 5 * met
    voted = near.cited(end, n, 10)
    assert (codes.unpack(voted)[2] == 0).sum() > 0.8 * n
    with np.errstate(all="raise"):
        assert near.cited(end[:0], n, 10).size == 0


def test_the_distance_of_chance_neighbours_shrinks_with_their_number() -> None:
    assert 512 > near.chance_distance(1024, 100) > near.chance_distance(1024, 10**6) > 420
    assert near.chance_distance(1024, 0) == near.chance_distance(1024, 4)


# marks


def test_marks_are_bounded_in_number(lone: dict) -> None:
    made = marks_of([fingerprint("a/a", lone, file_digests=tuple(map(str, range(99))))])
    assert made.starts[1] <= 16 + N_BANDS + N_DIGESTS


def test_bands_outlast_casts_and_other_layers_and_tokens(lone: dict) -> None:
    def bands(one: Fingerprint) -> set[int]:
        return set(np.concatenate(list(marks._bands(one))).tolist())

    plain = fingerprint("a/a", lone)
    assert bands(plain) == bands(fingerprint("a/b", lone, "F32"))
    moved = {
        TensorKey(k.role, LAYERS - 1 - k.layer) if k.layer >= 0 else k: v for k, v in lone.items()
    }
    assert bands(plain) == bands(fingerprint("a/c", moved))
    names = {row: f"token{row}" for row in range(len(lone[TensorKey("embed")]))}
    turned = dict(lone)
    for key in (TensorKey("embed"), TensorKey("head")):
        turned[key] = lone[key][::-1]
    back = {len(names) - 1 - row: token for row, token in names.items()}
    assert bands(fingerprint("a/d", lone, tokens=names)) == bands(
        fingerprint("a/e", turned, tokens=back)
    )
    assert bands(plain) != bands(fingerprint("a/e", turned))


def test_bands_of_a_constant_say_nothing() -> None:
    assert not marks._bands_of_rows(
        np.ones((4, 64), np.float32), np.arange(4, dtype=np.uint64)
    ).size


def test_largest_values_of_blocks_outlast_quantisation() -> None:
    values = Herd(3).founder()[TensorKey("gate", 0)].repeat(2, axis=1)[:, :64] * 0.5
    rng = np.random.default_rng(0)
    values = (values + rng.standard_normal(values.shape) * 0.1).astype(np.float32)
    words = quantize("Q8_0", stored({TensorKey("x"): values})[TensorKey("x")])
    packed = Sample("x", "Q8_0", values.shape, tuple(range(len(values))), words)
    wide = np.tile(packed.values, 2)
    names = np.arange(len(values), dtype=np.uint64)
    source = np.tile(stored({TensorKey("x"): values})[TensorKey("x")], 2)
    ours, theirs = (set(marks._bands_of_rows(v, names).tolist()) for v in (wide, source))
    assert len(ours & theirs) > 0.5 * len(ours)


# search


def test_relatives_of_every_kind_are_candidates(
    herd: Herd, lone: dict, strangers: list[Fingerprint]
) -> None:
    tokens = {row: f"t{row}" for row in range(len(lone[TensorKey("embed")]))}
    parent = fingerprint("x/parent", lone, tokens=tokens)
    other = herd.train(lone, 0.01)
    tuned = herd.train(lone, 0.01)
    mixed = stored({k: (tuned[k] + other[k]) / 2 for k in lone})
    kept = {
        TensorKey(k.role, k.layer // 2) if k.layer >= 0 else k: v
        for k, v in tuned.items()
        if k.layer % 2 == 0 or k.layer < 0
    }
    order = np.random.default_rng(0).permutation(len(tokens))
    vocabulary = {
        k: v[order][:-4] if k.role in ("embed", "head") else v
        for k, v in herd.train(lone, 0.01).items()
    }
    children = {
        "x/tuned": (fingerprint("x/tuned", tuned), ["x/parent"]),
        "x/far": (fingerprint("x/far", herd.train(lone, 0.4)), ["x/parent"]),
        "x/merge": (fingerprint("x/merge", mixed), ["x/tuned", "x/other"]),
        "x/pruned": (fingerprint("x/pruned", kept), ["x/tuned"]),
        "x/tokens": (
            fingerprint(
                "x/tokens",
                {TensorKey("embed"): vocabulary[TensorKey("embed")]},
                tokens={i: f"t{row}" for i, row in enumerate(order[:-4])},
            ),
            ["x/parent"],
        ),
    }
    models = [parent, fingerprint("x/other", other), *strangers, *(f for f, _ in children.values())]
    lists = find_candidates(marks_of(models), 50, "cpu").lists()
    assert {
        name for name, (_, parents) in children.items() if not {*parents} <= {*lists[name]}
    } == set()


def test_every_exact_copy_is_found_and_stands_aside(
    lone: dict, strangers: list[Fingerprint]
) -> None:
    copies = [fingerprint(f"copy/{i}", lone) for i in range(70)]
    found = find_candidates(marks_of([*copies, *strangers]), 50, "cpu")
    assert {found.of(c.repo_id)[:1] for c in copies[1:]} == {("copy/0",)}
    assert not {c.repo_id for c in copies} & set(found.of("copy/0"))
    assert found.lists().keys() == {c.repo_id for c in [*copies, *strangers]}


def test_lists_agree_with_brute_force(
    monkeypatch, herd: Herd, lone: dict, strangers: list[Fingerprint]
) -> None:
    models = [fingerprint(f"x/{i}", herd.train(lone, 0.02)) for i in range(12)]
    made = marks_of([*models, *strangers])
    by_tables = find_candidates(made, 50, "cpu")
    monkeypatch.setattr(search, "_BRUTE", {"cpu": 1})
    by_lists = find_candidates(made, 50, "cpu")
    bits = np.unpackbits(made.simhashes, axis=1).astype(int)
    distance = (bits[:, None] != bits[None]).sum(-1)
    limit = near.chance_distance(1024, len(bits))
    for number, name in enumerate(made.ids):
        nearby = {made.ids[o] for o in np.flatnonzero(distance[number] <= limit) if o != number}
        assert nearby <= set(by_tables.of(name))
        assert set(by_tables.of(name)) == set(by_lists.of(name))


def test_an_empty_list_is_no_list_and_an_unknown_model_an_error(lone: dict) -> None:
    made = marks_of([fingerprint("a/a", lone)])
    assert find_candidates(made, 3, "cpu").of("a/a") == ()
    with pytest.raises(ValueError, match="at least 1"):
        find_candidates(made, 0)
    with pytest.raises(KeyError):
        find_candidates(made, 3, "cpu").of("a/b")
    with pytest.raises(ValueError, match="at most"):
        replace(made, ids=("x",) * (marks.MAX_MODELS + 1))
    assert find_candidates(marks_of([]), 3, "cpu").lists() == {}


def test_hostile_fingerprints_crash_nothing_and_are_nobodys_candidates(
    lone: dict, strangers: list[Fingerprint]
) -> None:
    nan = {k: np.full_like(v, np.nan) for k, v in lone.items()}
    zero = {k: np.zeros_like(v) for k, v in lone.items()}
    one = {TensorKey("final_norm"): lone[TensorKey("final_norm")] * 1.5}
    thin = {TensorKey("up", 0): np.ones((3, 1), np.float32)}
    hostile = [
        fingerprint("bad/nan", nan, "F32"),
        fingerprint("bad/nan2", nan, "F32"),
        fingerprint("bad/zero", zero),
        fingerprint("bad/zero2", zero),
        fingerprint("bad/one", one),
        fingerprint("bad/thin", thin),
        Fingerprint("bad/empty", "0" * 40, SCHEME, "safetensors", {}),
        Fingerprint("bad/empty2", "0" * 40, SCHEME, "safetensors", {}),
    ]
    good = fingerprint("good/good", lone)
    found = find_candidates(marks_of([*hostile, good, *strangers]), 50, "cpu")
    for model in hostile:
        assert not {name for name in found.of(model.repo_id) if not name.startswith("bad")}
    assert not {name for name in found.of("good/good") if name.startswith("bad")}
    verdicts = infer_lineage([*hostile, good, *strangers], {}, all_pairs_up_to=2)
    assert not [f.child for f in verdicts.findings if f.parents]


# equal models


def test_equal_models_are_what_pairwise_comparison_finds(lone: dict) -> None:
    models = [
        fingerprint("a/1", lone),
        fingerprint("a/2", lone),
        fingerprint("a/3", lone, "F32"),
        fingerprint("a/4", lone, "F32", file_digests=("x",)),
        fingerprint("a/5", Herd(1).founder(), file_digests=("x",)),
        Fingerprint("a/6", "0" * 40, SCHEME, "safetensors", {}),
        Fingerprint("a/7", "0" * 40, SCHEME, "safetensors", {}),
    ]
    assert equal_models(models) == [["a/1", "a/2"], ["a/3", "a/4", "a/5"]]
    assert is_duplicate(models[0], models[1])
    assert not is_duplicate(models[0], models[2])
    key = TensorKey("up", 0)
    scaled = replace(models[0].samples[key], extras={"scales": b"1"})
    other = replace(models[0], repo_id="a/8", samples={**models[0].samples, key: scaled})
    assert equal_words([models[0], other]) == [["a/1"], ["a/8"]]


def test_seniority_is_the_sum_over_all_pairs() -> None:
    rng = np.random.default_rng(8)
    names = [f"m{i}" for i in range(60)]
    dates = {
        name: None if rng.random() < 0.2 else DAY + timedelta(minutes=int(rng.integers(0, 600)))
        for name in names
    }
    likes = {n: None if rng.random() < 0.2 else int(10 ** rng.uniform(0, 4)) for n in names}
    family = OpenFamily({}, dates, likes, {})
    fast = seniority(names, dates, likes)
    for name in names:
        naive = sum(log_odds_older(family, name, other) for other in names if other != name)
        assert fast[name] == pytest.approx(naive, abs=1e-9)
    assert seniority(names, {}, {}) == dict.fromkeys(names, 0.0)


# pair tests


def _two_families(herd: Herd) -> list[Fingerprint]:
    made = []
    for family in range(2):
        founder = stored(herd.founder())
        made.append(fingerprint(f"f{family}/base", founder))
        for i in range(4):
            child = herd.train(founder, 0.01)
            made.append(fingerprint(f"f{family}/child{i}", child))
        made.append(fingerprint(f"f{family}/copy", child))
        made.append(fingerprint(f"f{family}/grandchild", herd.train(child, 0.01)))
    return made


def test_candidates_make_the_families_that_all_pairs_make() -> None:
    models = {f.repo_id: f for f in _two_families(Herd(11))}
    every, some = PairTests(models), PairTests(models)
    every.ask_all()
    some.ask_candidates()
    assert sorted(every.families()) == sorted(some.families())
    assert len(every.families()) == 2
    assert len(some.rows) < len(every.rows) / 2
    by_pair = {(row.a, row.b): row for row in every.rows}
    assert all(by_pair[row.a, row.b] == row for row in some.rows)
    assert every.n_pairs == len(every.rows) == 14 * 13 // 2


def test_equal_words_are_tested_once(monkeypatch, lone: dict) -> None:
    from lineage.infer import pair_tests

    asked = []
    real = pair_tests.test_pair
    monkeypatch.setattr(
        pair_tests, "test_pair", lambda a, b, n: asked.append((a, b)) or real(a, b, n)
    )
    tests = PairTests({f"a/{i}": fingerprint(f"a/{i}", lone) for i in range(30)})
    tests.ask_all()
    assert len(asked) == 1
    assert len(tests.rows) == 435
    assert {row.verdict for row in tests.rows} == {PairVerdict.RELATED}


def test_p_values_are_those_of_the_test_and_absent_where_nothing_compares(lone: dict) -> None:
    models = {
        "a/1": fingerprint("a/1", lone),
        "a/2": fingerprint("a/2", lone),
        "a/3": fingerprint("a/3", {TensorKey("final_norm"): lone[TensorKey("final_norm")]}),
    }
    tests = PairTests(models)
    values = PValues(tests)
    assert values.get(frozenset({"a/1", "a/2"})) == tests.ask("a/2", "a/1").p_value
    assert values.get(frozenset({"a/1", "a/3"})) is None
    assert values.get(frozenset({"a/1", "a/9"})) is None
    assert len(values) == 1
    assert list(values) == [frozenset({"a/1", "a/2"})]
    tests.ask_if_possible("a/1", "a/1")
    tests.ask_if_possible("a/1", "a/9")
    tests.ask_if_possible("a/3", "a/2")
    assert [(row.a, row.b) for row in tests.rows] == [
        ("a/1", "a/2"), ("a/1", "a/3"), ("a/2", "a/3"),
    ]  # fmt: skip


# the whole inference


def test_many_models_get_the_findings_that_few_would() -> None:
    models = _two_families(Herd(12))
    dates = {f.repo_id: DAY + timedelta(days=i) for i, f in enumerate(models)}
    adapter = fingerprint("z/lora", {TensorKey("q.lora_a", 0): np.ones((4, 8), np.float32)})
    few = infer_lineage([*models, adapter], dates)
    asked = [("f0/base", "f1/base"), ("f0/base", "z/lora")]
    many = infer_lineage([*models, adapter], dates, all_pairs_up_to=5, asked=asked)
    assert [(f.child, f.kind, f.parents, f.p_value) for f in many.findings] == [
        (f.child, f.kind, f.parents, f.p_value) for f in few.findings
    ]
    pairs = {(row.a, row.b): row.verdict for row in many.pairs}
    assert len(pairs) == len(many.pairs) < len(few.pairs)
    assert pairs["f0/base", "f1/base"] is PairVerdict.UNRELATED
    assert not any("z/lora" in pair for pair in pairs)
    assert sum("z/lora" in (row.a, row.b) for row in few.pairs) == len(models)


def test_thousands_of_re_uploads_are_duplicates_of_the_liked_one(lone: dict) -> None:
    n = 1100
    models = [fingerprint(f"u{i:04}/copy", {k: lone[k] for k in list(lone)[:12]}) for i in range(n)]
    likes = {f.repo_id: 0 for f in models} | {"u0700/copy": 500}
    found = infer_lineage(models, {}, likes)
    assert len(found.pairs) <= 2 * n
    parents = Counter(f.parents[0].parent for f in found.findings if f.parents)
    assert parents == {"u0700/copy": n - 1}


def test_equal_words_that_say_nothing_make_no_family(lone: dict) -> None:
    zeros = [fingerprint(f"z/{i}", {k: 0 * v for k, v in lone.items()}) for i in range(6)]
    found = infer_lineage(zeros, {}, all_pairs_up_to=2)
    assert not any(f.parents for f in found.findings)


# families of thousands


def _names(n: int) -> list[str]:
    return [f"m{i:05}" for i in range(n)]


def _star(n: int) -> dict[str, list[str]]:
    """Everybody's list: the founder, then neighbours on a ring."""
    names = _names(n)
    return {
        name: [names[0]] + [names[(i + d) % n] for d in (1, -1, 2, -2, 3, -3)]
        for i, name in enumerate(names)
    }


@pytest.mark.parametrize("n", [1, 40, 500, 4000])
def test_neighbourhoods_hold_everybody_once_and_are_bounded(n: int) -> None:
    cut = neighbourhoods.neighbourhoods(_names(n), _star(n))
    own = [name for one in cut for name in one.own]
    assert sorted(own) == _names(n)
    assert all(len(one.own) + len(one.company) <= neighbourhoods._SIZE for one in cut)
    assert not any(set(one.own) & set(one.company) for one in cut)
    assert all("m00000" in (*one.own, *one.company) for one in cut)
    assert "m00000" in cut[0].own
    assert len(cut) <= 2 * n / neighbourhoods._OWN + 1


def test_near_models_share_a_neighbourhood() -> None:
    cut = neighbourhoods.neighbourhoods(_names(500), _star(500))
    home = {name: i for i, one in enumerate(cut) for name in one.own}
    names = _names(500)
    apart = sum(home[a] != home[b] for a, b in pairwise(names[1:]))
    assert apart < 60
    for i, one in enumerate(cut):
        seen = {*one.own, *one.company}
        lists = [set(_star(500)[name][:3]) for name in one.own]
        assert np.mean([some <= seen for some in lists]) > 0.9, i


def test_unknown_names_on_lists_are_passed_over() -> None:
    cut = neighbourhoods.neighbourhoods(["a", "b"], {"a": ["ghost", "b"]})
    assert [sorted(one.own) for one in cut] == [["a", "b"]]
    assert cut[0].company == ()


def _family(n: int) -> OpenFamily:
    empty = Fingerprint("", "0" * 40, SCHEME, "safetensors", {})
    return OpenFamily({name: replace(empty, repo_id=name) for name in _names(n)}, {}, {}, {})


def test_findings_say_that_only_neighbours_were_looked_at() -> None:
    family, sizes = _family(400), []

    def settle(few: OpenFamily) -> None:
        sizes.append(len(few.members))
        root = "m00000" if "m00000" in few.members else min(few.members)
        for name in few.open_models():
            if name == root or name == "m00399":
                few.settle(Finding(name, Kind.FOUNDER, Grade.INFERRED, note="root"))
            else:
                grade = Grade.PROVED if name == "m00007" else Grade.INFERRED
                few.settle(Finding(name, Kind.FINETUNE, grade, (ParentShare(root, 1.0),)))

    settle_by_neighbourhood(family, _star(400), settle)
    assert not family.open_models()
    assert max(sizes) <= neighbourhoods._SIZE
    founders = [f for f in family.findings.values() if f.kind is Kind.FOUNDER]
    assert {f.child: f.grade for f in founders}["m00000"] is Grade.INFERRED
    assert all("of 400 relatives were looked at" in f.note for f in founders)
    lost = family.findings["m00399"]
    assert (
        lost.grade is Grade.ABSTAIN
        or "m00399" in neighbourhoods.neighbourhoods(_names(400), _star(400))[0].own
    )
    assert family.findings["m00007"].note == ""
    assert "nearest of 400 relatives" in family.findings["m00200"].note


def test_neighbourhoods_that_contradict_each_other_abstain() -> None:
    family = _family(400)
    cut = neighbourhoods.neighbourhoods(_names(400), _star(400))
    a, b = cut[1].own[0], cut[2].own[0]

    def settle(few: OpenFamily) -> None:
        for name in few.open_models():
            parent = {a: b, b: a}.get(name, a)
            few.settle(Finding(name, Kind.FINETUNE, Grade.INFERRED, (ParentShare(parent, 1.0),)))

    settle_by_neighbourhood(family, _star(400), settle)
    for name, other in ((a, b), (b, a)):
        finding = family.findings[name]
        assert (finding.grade, finding.parents, finding.ties) == (Grade.ABSTAIN, (), (other,))
        assert "contradict" in finding.note
    kept = [f for f in family.findings.values() if f.child not in (a, b)]
    assert all(f.parents for f in kept)


def test_proved_steps_outlast_a_cycle_and_the_youngest_of_a_proved_ring_gives_way() -> None:
    family = _family(3)
    for child, parent, grade in (("m00000", "m00001", Grade.PROVED),
                                 ("m00001", "m00000", Grade.INFERRED)):  # fmt: skip
        family.settle(Finding(child, Kind.FINETUNE, grade, (ParentShare(parent, 1.0),)))
    neighbourhoods._break_cycles(family)
    assert family.findings["m00000"].parents
    assert not family.findings["m00001"].parents
    family = _family(2)
    family.dates = {"m00000": DAY, "m00001": DAY + timedelta(days=1)}
    for child, parent in (("m00000", "m00001"), ("m00001", "m00000")):
        family.settle(Finding(child, Kind.CAST, Grade.PROVED, (ParentShare(parent, 1.0),)))
    neighbourhoods._break_cycles(family)
    assert family.findings["m00000"].parents
    assert not family.findings["m00001"].parents


@pytest.mark.parametrize("all_pairs_up_to", [5, 100])
def test_a_family_above_the_limit_is_cut(monkeypatch, all_pairs_up_to: int) -> None:
    herd = Herd(13)
    founder = stored(herd.founder(layers=2))
    models = [fingerprint("f/base", founder), fingerprint("f/again", founder)]
    models += [fingerprint(f"f/child{i}", herd.train(founder, 0.02)) for i in range(11)]
    dates = {f.repo_id: DAY + timedelta(days=i) for i, f in enumerate(models)}
    sizes = []

    def settle(few: OpenFamily) -> None:
        sizes.append(len(few.members))
        assert "f/base" in few.open_models()  # settled before, it could found nothing
        for name in few.open_models():
            parents = () if name == "f/base" else (ParentShare("f/base", 1.0),)
            kind = Kind.FINETUNE if parents else Kind.FOUNDER
            few.settle(Finding(name, kind, Grade.INFERRED, parents))

    monkeypatch.setattr(assemble, "_settle_rest", settle)
    monkeypatch.setattr(assemble, "MAX_WHOLE", 8)
    for limit, value in (("_SIZE", 8), ("_OWN", 4), ("_N_ELDERS", 2), ("_N_OLDEST", 1)):
        monkeypatch.setattr(neighbourhoods, limit, value)
    inferred = infer_lineage(models, dates, all_pairs_up_to=all_pairs_up_to)
    found = {f.child: f for f in inferred.findings}
    assert len(sizes) == 3
    assert max(sizes) <= 8
    assert found["f/base"].kind is Kind.FOUNDER
    assert found["f/again"].kind is Kind.DUPLICATE
    assert found["f/again"].note.startswith("which of the two")
    assert "of 12 relatives" in found["f/child3"].note
    assert found["f/child3"].p_value is not None


def test_the_shortlist_of_a_re_upload_is_that_of_its_original() -> None:
    family = _family(4)
    family.settle(Finding("m00000", Kind.DUPLICATE, Grade.PROVED, (ParentShare("m00003", 1.0),)))
    lists = {"m00000": ("m00001", "stranger"), "m00001": ("m00000",), "stranger": ("m00001",)}
    assert assemble._of_originals(lists, family) == {"m00003": ["m00001"], "m00001": ["m00003"]}


@pytest.mark.slow
def test_all_true_relatives_of_the_pocket_hub_are_candidates(tmp_path: Path) -> None:
    import json

    from benchmarks.zoo.fingerprints import read_zoo

    pocket = Path(__file__).resolve().parent.parent / "data" / "pocket"
    truth = json.loads((pocket / "truth.json").read_text(encoding="utf-8"))["models"]
    found = find_candidates(marks_of(list(read_zoo(pocket, tmp_path).values())), 50, "cpu")
    missed = []
    for name, entry in truth.items():
        if name not in found.ids or entry["kind"] == "adapter":  # its factors are nobody's words
            continue
        own = found.originals[found.ids.index(name)]
        for parent in (p["id"] for p in entry["parents"]):
            if parent in found.ids:
                original = found.originals[found.ids.index(parent)]
                if original not in {own, *found.others[own]}:
                    missed.append((name, parent))
    assert missed == []

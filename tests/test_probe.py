"""The probe plan: which bytes are read of a model, and what a tight budget takes away."""

from __future__ import annotations

import dataclasses
import math
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crawler.headers import read_headers
from crawler.records import FileEntry
from lineage.weights.costs import climb, planned_runs
from lineage.weights.facts import ModelFacts
from lineage.weights.ladder import rungs_of
from lineage.weights.probe import SCHEME, plan_probe
from lineage.weights.reference import (
    HUNDRED_EXPERTS,
    SEVEN_BILLION,
    Mixture,
    Shape,
    header_of,
    index_of,
    plain_weights,
    sharded,
)
from lineage.weights.roles import TensorKey
from lineage.weights.runs import leading_runs, row_runs, rows_in, spans_of
from lineage.weights.stages import BUDGET_BYTES, LADDER, STAGES, spread
from lineage.weights.weight import Part, RowOrder, Weight

ROOT = Path(__file__).resolve().parent.parent
ANCHORS = tuple(range(60, 150))
ENOUGH = 1 << 40
SMALL = Shape("small", 64, 176, 8, 32, 1500)


def matrix(role, shape=(40, 8), layer=0, expert=-1, parts=None, **more):
    """A matrix of 2-byte words at the beginning of a file of its own."""
    width = 2 * math.prod(shape[1:])
    name = f"{role}.{layer}.{expert}"
    parts = parts or (
        Part("words", "BF16", f"{name}.bin", 64, 64 + 2 * math.prod(shape), 1, width),
    )
    return Weight(TensorKey(role, layer, expert), True, name, "BF16", shape, parts, **more)


def rows_of(plan):
    return {block.weight.name: frozenset(block.rows) for block in plan.blocks}


def is_part_of(fewer, more):
    return all(rows <= more.get(name, frozenset()) for name, rows in fewer.items())


def union_bytes(plan):
    """Bytes of the union of all spans, counted one by one."""
    seen = {
        (path, byte)
        for block in plan.blocks
        for _, path, start, stop in block.spans
        for byte in range(start, stop)
    }
    return len(seen)


@st.composite
def models(draw):
    """Small models in plain, rotary, fused and packed storage."""
    hidden = draw(st.sampled_from([8, 16, 64]))
    ffn = draw(st.integers(1, 100))
    kind = draw(st.sampled_from(["plain", "rotary", "fused", "packed", "columns"]))
    n_layers = draw(st.integers(0, 12))
    n_experts = draw(st.integers(0, 12))
    found, at = [], 0

    def part(name, per_unit, unit_bytes, n_units):
        nonlocal at
        start, at = at, at + unit_bytes * n_units
        return Part(name, "U8", "m", start, at, per_unit, unit_bytes)

    def plain(role, n_rows, n_columns, layer=-1, expert=-1):
        shape = (n_rows, n_columns) if n_rows else (n_columns,)
        words = part("words", 1, 2 * n_columns, max(n_rows, 1))
        return Weight(TensorKey(role, layer, expert), True, f"{role}@{layer}/{expert}", "BF16",
                      shape, (words,))  # fmt: skip

    def packed(role, n_rows, n_columns, layer=-1, expert=-1):
        parts = (
            part("words", 8, 4 * n_columns, -(-n_rows // 8)),
            part("scales", 16, 2 * n_columns, -(-n_rows // 16)),
            part("groups", 0, 4 * n_rows, 1),
        )
        return Weight(TensorKey(role, layer, expert), True, f"{role}@{layer}/{expert}", "GPTQ",
                      (n_rows, n_columns), parts, transposed=True)  # fmt: skip

    store = packed if kind == "packed" else plain
    found += [plain("embed", 300, hidden), plain("final_norm", 0, hidden)]
    for layer in range(n_layers):
        found.append(plain("attn_norm", 0, hidden, layer))
        q, k = (plain(role, 32, hidden, layer) for role in "qk")
        if kind == "rotary":
            q, k = (dataclasses.replace(w, order=RowOrder(8, 8, halves=True)) for w in (q, k))
        if kind == "fused":
            words = part("words", 1, 2 * hidden, 64)
            q, k = (
                dataclasses.replace(w, parts=(words,), order=RowOrder(8, 16, offset))
                for w, offset in ((q, 0), (k, 8))
            )
        if kind == "columns":
            words = part("words", 1, 4 * hidden, 32)
            q, k = (
                dataclasses.replace(w, parts=(words,), columns=columns)
                for w, columns in ((q, (0, hidden)), (k, (hidden, 2 * hidden)))
            )
        found += [q, k]
        for expert in range(n_experts) if n_experts else [-1]:
            found += [store(role, ffn, hidden, layer, expert) for role in ("up", "gate")]
            found.append(store("down", hidden, ffn, layer, expert))
    return found


def test_a_seven_billion_model_costs_what_was_promised():
    tensors = sharded(SEVEN_BILLION)
    paths = {entry.path for entry in tensors}
    assert len(paths) == 3
    headers = sum(len(header_of([e for e in tensors if e.path == path])) for path in paths)
    overhead = headers + len(index_of(tensors)) + 4096  # and the configuration
    # Configuration, index with its address, address and header of every shard.
    n_before = 1 + 2 + 2 * len(paths)
    weights = plain_weights(tensors)
    early = plan_probe(weights, 2, budget_bytes=BUDGET_BYTES, anchors=ANCHORS)
    late = plan_probe(weights, 3, budget_bytes=BUDGET_BYTES, anchors=ANCHORS)
    assert early.bytes_planned + overhead <= 1_500_000
    assert early.n_ranges + n_before <= 40
    assert late.bytes_planned + overhead <= 6_000_000
    assert {block.weight.name for block in late.blocks} == {entry.name for entry in tensors}
    deep = [b for b in late.blocks if b.weight.key.role == "up" and len(b.rows) >= 64]
    assert len(deep) >= 3


def test_a_small_model_is_read_in_sixty_four_rows_of_every_matrix():
    plan = plan_probe(plain_weights(sharded(SMALL)), budget_bytes=BUDGET_BYTES, anchors=ANCHORS)
    for block in plan.blocks:
        assert set(range(min(64, block.weight.n_rows))) <= set(block.rows)
    embed = next(b for b in plan.blocks if b.weight.key.role == "embed")
    assert set(embed.rows) == {*range(64), *ANCHORS}
    assert plan.given_up == plan.passed_over == plan.unplanned == ()


def test_every_pocket_model_is_read_in_sixty_four_rows_of_every_matrix(pocket):
    folders = sorted({path.parent for path in pocket.rglob("*.safetensors")})
    assert folders
    for folder in folders:
        files = [FileEntry(f.name, f.stat().st_size) for f in folder.iterdir() if f.is_file()]
        report = read_headers(
            lambda path, start, stop, folder=folder: (folder / path).read_bytes()[start:stop], files
        )
        weights = plain_weights(report.tensors)
        plan = plan_probe(weights, budget_bytes=BUDGET_BYTES)
        rows = rows_of(plan)
        for weight in weights:
            assert set(range(min(64, weight.n_rows))) <= rows[weight.name], (folder, weight.name)


@given(models(), st.integers(0, 400_000), st.sampled_from([2, 3]))
def test_the_plan_keeps_its_budget_and_never_leaves_a_tensor(weights, budget, stage):
    try:
        plan = plan_probe(weights, stage, budget_bytes=budget, anchors=ANCHORS)
    except ValueError:
        plan = plan_probe(weights, stage, budget_bytes=ENOUGH, anchors=ANCHORS)
        assert plan.bytes_planned > budget
        return
    assert plan.scheme == SCHEME
    assert plan.bytes_planned == union_bytes(plan) <= budget
    for block in plan.blocks:
        parts = {part.name: part for part in block.weight.parts}
        n_rows = 1 if block.weight.is_vector else block.weight.shape[0]
        assert all(0 <= row < n_rows for row in block.rows)
        assert len(set(block.rows)) == len(block.rows)
        assert len(block.spans) == len(block.runs) * len(parts)
        for name, path, start, stop in block.spans:
            assert path == parts[name].path
            assert parts[name].start <= start < stop <= parts[name].stop


@given(models(), st.integers(0, 200_000), st.integers(0, 200_000))
def test_less_budget_or_an_earlier_stage_reads_a_part_of_the_same_rows(weights, budget, more):
    full = rows_of(plan_probe(weights, 3, budget_bytes=ENOUGH, anchors=ANCHORS))
    try:
        early, late, richer = (
            rows_of(plan_probe(weights, stage, budget_bytes=b, anchors=ANCHORS))
            for stage, b in ((2, budget), (3, budget), (3, budget + more))
        )
    except ValueError:
        return
    assert is_part_of(early, late)
    assert is_part_of(late, richer)
    assert is_part_of(richer, full)


@given(models(), st.integers(20_000, 200_000), st.randoms())
def test_the_order_of_the_tensors_changes_nothing(weights, budget, shuffler):
    def planned(found):
        try:
            return plan_probe(found, budget_bytes=budget, anchors=ANCHORS)
        except ValueError as error:
            return str(error)

    shuffled = list(weights)
    shuffler.shuffle(shuffled)
    assert planned(weights) == planned(shuffled)


def test_sharding_changes_no_row():
    whole = plain_weights(sharded(dataclasses.replace(SEVEN_BILLION, shards=1)))
    parts = plain_weights(sharded(dataclasses.replace(SEVEN_BILLION, shards=9)))
    for stage in (2, 3):
        one, other = (rows_of(plan_probe(w, stage, budget_bytes=4_000_000)) for w in (whole, parts))
        assert one == other


def test_wider_words_of_the_same_model_are_read_at_a_part_of_the_same_rows():
    weights = plain_weights(sharded(SEVEN_BILLION))
    wide = [
        dataclasses.replace(
            w, parts=tuple(
                dataclasses.replace(p, start=2 * p.start, stop=2 * p.stop,
                                    unit_bytes=2 * p.unit_bytes) for p in w.parts
            ),
        )
        for w in weights
    ]  # fmt: skip
    narrow_rows = rows_of(plan_probe(weights, budget_bytes=BUDGET_BYTES))
    wide_rows = rows_of(plan_probe(wide, budget_bytes=BUDGET_BYTES))
    assert wide_rows != narrow_rows
    assert is_part_of(wide_rows, narrow_rows)


@given(models(), st.integers(1, 60), st.sampled_from([2, 3]))
@settings(max_examples=20)
def test_the_plan_keeps_its_budget_of_requests(weights, budget, stage):
    weights = [
        # Apart, so that ranges are not joined.
        dataclasses.replace(
            w, parts=tuple(
                dataclasses.replace(p, start=(1 << 20) * i + p.start, stop=(1 << 20) * i + p.stop)
                for p in w.parts
            ),
        )
        for i, w in enumerate(weights)
    ]  # fmt: skip
    plan = plan_probe(weights, stage, budget_bytes=ENOUGH, budget_requests=budget)
    assert 0 < plan.n_ranges <= budget
    if plan.n_ranges < budget:
        everything = plan_probe(weights, stage, budget_bytes=ENOUGH)
        assert is_part_of(rows_of(plan), rows_of(everything))
        assert bool(plan.given_up) == (rows_of(plan) != rows_of(everything))


def test_a_budget_too_small_says_what_the_least_is():
    weights = plain_weights(sharded(SMALL))
    with pytest.raises(ValueError, match=r"budget of 127 bytes is too small.*needs 128"):
        plan_probe(weights, budget_bytes=127)
    assert rows_of(plan_probe(weights, budget_bytes=128)) == {"model.norm.weight": {0}}
    apart = [matrix("final_norm", (8,), -1), matrix("embed_norm", (8,), -1)]
    with pytest.raises(ValueError, match=r"budget of 1 requests is too small.*needs 2"):
        plan_probe(apart, budget_bytes=100, budget_requests=1)


def test_what_the_budget_takes_away_is_named_with_its_cost_in_the_order_of_the_ladder():
    weights = plain_weights(sharded(SEVEN_BILLION))
    plan = plan_probe(weights, budget_bytes=4_300_000, anchors=ANCHORS)
    names = [step.name for step in LADDER]
    given_up = [
        next(i for i, name in enumerate(names) if sentence.startswith(name))
        for sentence in plan.given_up
    ]
    assert given_up == sorted(given_up)
    assert names[given_up[0]] == "32 rows of up in 5 layers"
    assert plan.given_up[0] == f"32 rows of up in 5 layers: {5 * 8 * 8192} bytes"
    assert any(s.startswith("64 rows of every matrix: ") for s in plan.given_up)


def test_a_tight_budget_gives_up_whole_layers_and_says_which_weights_are_not_read():
    weights = plain_weights(sharded(SEVEN_BILLION))
    plan = plan_probe(weights, budget_bytes=2_000_000)
    layers = sorted({b.weight.key.layer for b in plan.blocks if b.weight.key.role == "down"})
    assert 5 <= len(layers) < 32
    assert {0, 7, 15, 23, 31} <= set(layers)
    assert len(plan.blocks) + len(plan.unplanned) == len(weights)
    assert set(plan.unplanned) >= {
        ("model.layers.2.mlp.down_proj.weight",
         "beyond the budget: vectors and one row of every matrix of the layers")
    }  # fmt: skip


def test_of_many_experts_the_first_and_last_and_of_routers_all_are_read():
    shape = dataclasses.replace(
        HUNDRED_EXPERTS, layers=6, shards=2, mixture=Mixture(128, 1536, dense_layers=1)
    )
    weights = plain_weights(sharded(shape))
    plan = plan_probe(weights, budget_bytes=2_000_000)
    by_layer = {}
    for block in plan.blocks:
        key = block.weight.key
        if key.expert >= 0:
            by_layer.setdefault((key.layer, key.role), set()).add(key.expert)
    assert by_layer == {
        (layer, role): {0, 127} for layer in range(1, 6) for role in ("up", "gate", "down")
    }
    routers = {b.weight.key.layer for b in plan.blocks if b.weight.key.role == "router"}
    assert routers == set(range(1, 6))
    richer = plan_probe(weights, budget_bytes=12_000_000)
    experts = {b.weight.key.expert for b in richer.blocks if b.weight.key.layer == 5} - {-1}
    assert len(experts) == 8
    assert {0, 63, 127} <= experts


def test_stages_zero_and_one_read_nothing_and_stage_four_everything():
    weights = [*plain_weights(sharded(SMALL)), matrix("scale", (1 << 19,), -1)]
    for stage in (0, 1):
        assert plan_probe(weights, stage, budget_bytes=0).blocks == ()
    plan = plan_probe(weights, 4, budget_bytes=ENOUGH)
    assert [len(b.rows) for b in plan.blocks] == [b.weight.n_rows for b in plan.blocks]
    assert len(plan.blocks) == len(weights)
    total = sum(part.stop - part.start for w in weights for part in w.parts)
    assert plan.bytes_planned == total
    with pytest.raises(ValueError, match=f"everything needs {total}"):
        plan_probe(weights, 4, budget_bytes=total - 1)


@pytest.mark.parametrize("stage", [-1, 5])
def test_a_stage_that_does_not_exist_is_refused(stage):
    with pytest.raises(ValueError, match="no stage"):
        plan_probe([], stage, budget_bytes=1)


def test_a_model_without_weights_has_an_empty_plan():
    assert plan_probe([], budget_bytes=0).blocks == ()


def test_stage_two_reads_no_more_than_a_megabyte_whatever_the_budget():
    huge = plain_weights(sharded(Shape("huge", 16_384, 53_248, 126, 1024, 128_256)))
    plan = plan_probe(huge, 2, budget_bytes=ENOUGH, anchors=ANCHORS)
    limit = STAGES[2].at_most_bytes
    assert limit is not None
    assert 0 < plan.bytes_planned <= limit
    assert plan.given_up


def test_rows_of_the_rotary_order_come_with_their_true_numbers():
    n_heads, half, width = 3, 4, 6
    original = np.arange(n_heads * 2 * half * width).reshape(-1, width)
    # As the converter of llama.cpp permutes: (head, half, pair) becomes (head, pair, half).
    stored = original.reshape(n_heads, 2, half, width).swapaxes(1, 2).reshape(-1, width)
    order = RowOrder(2 * half, 2 * half, halves=True)
    weight = matrix("q", original.shape, order=order)
    for n_rows in range(1, len(original) + 1):
        runs = leading_runs(weight, n_rows)
        rows = rows_in(weight, runs)
        assert set(range(n_rows)) <= set(rows)
        read = np.concatenate([stored[start:stop] for start, stop in runs])
        np.testing.assert_array_equal(read, original[list(rows)])
    assert leading_runs(weight, half) == ((0, 2 * half - 1),)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (RowOrder(4, 12, 4), ((4, 8), (16, 18))),  # k of q, k, v by head
        (RowOrder(1, 2, 1), ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12))),  # every other row
        (RowOrder(8, 8, 0), ((0, 6),)),
        (RowOrder(4, 12, 4, halves=True), ((4, 8), (16, 19))),
    ],
)
def test_rows_of_other_weights_are_cut_out_of_the_runs(order, expected):
    part = Part("words", "BF16", "m", 0, 36 * 16, 1, 16)
    weight = matrix("k", (12, 8), parts=(part,), order=order)
    runs = leading_runs(weight, 6)
    assert runs == expected
    for start, stop in runs:
        assert all(order.original(row) is not None for row in range(start, stop))
    assert set(range(6)) <= set(rows_in(weight, runs))
    assert [(start, stop) for _, _, start, stop in spans_of(weight, runs)] == [
        (16 * start, 16 * stop) for start, stop in expected
    ]


def test_packed_rows_are_read_from_row_zero_in_whole_units_of_every_part():
    parts = (
        Part("words", "I32", "m", 0, 8 * 100, 8, 100),  # 8 rows a unit
        Part("zeros", "I32", "m", 800, 820, 32, 10),  # one unit for 32 rows
        Part("groups", "I32", "m", 820, 1076, 0, 0),  # belongs to all rows
    )
    weight = Weight(TensorKey("up", 0), True, "up", "GPTQ", (64, 25), parts, transposed=True)
    plan = plan_probe([weight], budget_bytes=400)
    (block,) = plan.blocks
    assert block.rows == tuple(range(8))
    assert block.runs == ((0, 8),)
    assert block.spans == (
        ("words", "m", 0, 100), ("zeros", "m", 800, 810), ("groups", "m", 820, 1076)
    )  # fmt: skip
    assert leading_runs(weight, 33) == row_runs(weight, [20, 35]) == ((0, 40),)
    assert spans_of(weight, ((0, 40),))[1] == ("zeros", "m", 800, 820)


def test_of_one_packed_part_units_in_the_middle_can_be_read_alone():
    part = Part("words", "X", "m", 0, 90, 4, 10)
    weight = Weight(TensorKey("embed"), True, "e", "X", (34, 5), (part,))
    assert row_runs(weight, [5, 6, 9, 33]) == ((4, 12), (32, 34))
    assert spans_of(weight, ((4, 12), (32, 34))) == (("words", "m", 10, 30), ("words", "m", 80, 90))


def test_units_shared_with_another_weight_are_passed_over():
    part = Part("words", "X", "m", 0, 120, 8, 40)
    weight = Weight(TensorKey("k", 0), True, "k", "X", (8, 5), (part,), order=RowOrder(4, 12, 4))
    plan = plan_probe([weight], budget_bytes=ENOUGH)
    assert plan.passed_over == (("k", "its rows share units with another weight's"),)
    whole = dataclasses.replace(weight, order=RowOrder(8, 16, 8), parts=(part,), shape=(8, 5))
    (block,) = plan_probe([whole], budget_bytes=ENOUGH).blocks
    assert block.runs == ((8, 16),)


@pytest.mark.parametrize(
    ("weight", "reason"),
    [
        (matrix("x", (0, 4)), "empty or scalar"),
        (matrix("x", ()), "empty or scalar"),
        (matrix("x", (40, 8), parts=(Part("words", "U8", "m", 0, 639, 1, 16),)), "is shorter"),
        (matrix("x", (4,), parts=(Part("words", "U8", "m", 8, 8, 1, 0),)), "is shorter"),
        (matrix("x", (4, 4), parts=(Part("words", "U8", "m", 8, 80, 1, 0),)), "rows of no bytes"),
        (
            matrix("x", (16, 8), parts=(Part("words", "BF16", "m", 0, 15 * 16, 1, 16),),
                   order=RowOrder(8, 8, halves=True)),
            "is shorter",
        ),
        (matrix("x", (1 << 18,)), "a vector of more than 262144 bytes"),
        (matrix("x", (2, 1 << 19)), "its first row takes more than 524288 bytes"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_passed_over_with_the_reason(weight, reason):
    other = matrix("up", (16, 8), 1)
    plan = plan_probe([weight, other], budget_bytes=ENOUGH)
    assert [block.weight for block in plan.blocks] == [other]
    ((name, said),) = plan.passed_over
    assert name == weight.name
    assert reason in said


def test_tensors_side_by_side_are_read_and_paid_once():
    part = Part("words", "U8", "m", 0, 64 * 30, 1, 30)
    three = [
        Weight(TensorKey(role, 0), True, "qkv", "U8", (64, 10), (part,), columns=(at, at + 10))
        for at, role in ((0, "q"), (10, "k"), (20, "v"))
    ]
    plan = plan_probe(three, budget_bytes=64 * 30)
    assert [len(block.rows) for block in plan.blocks] == [64, 64, 64]
    assert plan.bytes_planned == 64 * 30
    assert plan.given_up == ()


def test_anchors_are_read_in_their_order_of_importance_and_never_beyond_the_embedding():
    weights = [matrix("embed", (300, 2048), -1), matrix("final_norm", (2048,), -1)]
    anchors = (250, 7, 300, 251, -1, 7, *range(20, 90))
    early = plan_probe(weights, 2, budget_bytes=ENOUGH, anchors=anchors)
    embed = next(b for b in early.blocks if b.weight.key.role == "embed")
    assert set(embed.rows) == {250, 7, 251, *range(20, 32)}  # 16 of which one is out of range
    late = plan_probe(weights, 3, budget_bytes=ENOUGH, anchors=anchors)
    embed = next(b for b in late.blocks if b.weight.key.role == "embed")
    assert set(embed.rows) == {250, 251, *range(90)}
    assert embed.runs == ((0, 90), (250, 252))


def test_without_a_vocabulary_leading_rows_stand_for_the_anchors():
    weights = [matrix("embed", (300, 2048), -1)]
    (block,) = plan_probe(weights, 2, budget_bytes=ENOUGH).blocks
    assert block.rows == tuple(range(16))


def test_whole_heads_of_a_middle_layer_are_read_when_the_budget_allows():
    weights = [
        matrix(role, (n_rows, 4), layer)
        for layer in range(5)
        for role, n_rows in (("q", 800), ("k", 200), ("v", 200))
    ]
    facts = ModelFacts(n_heads=8, n_kv_heads=2, head_dim=100)
    rows = {b.weight.name: len(b.rows) for b in plan_probe(
        weights, budget_bytes=ENOUGH, facts=facts).blocks}  # fmt: skip
    assert (rows["q.2.-1"], rows["k.2.-1"], rows["v.2.-1"]) == (400, 100, 100)
    assert set(rows.values()) == {400, 100, 64}
    tight = plan_probe(weights, budget_bytes=64 * 15 * 8 + 3 * 36 * 8, facts=facts)
    rows = {b.weight.name: len(b.rows) for b in tight.blocks}
    assert (rows["q.2.-1"], rows["k.2.-1"], rows["v.2.-1"]) == (100, 100, 100)
    assert tight.given_up == ("a whole group of heads: 2400 bytes",)
    unknown = plan_probe(weights, budget_bytes=ENOUGH)
    assert {len(b.rows) for b in unknown.blocks} == {64}


def test_columns_are_no_heads():
    weights = [matrix(role, (300, 4), 0, transposed=True) for role in "qkv"]
    facts = ModelFacts(n_heads=3, n_kv_heads=3, head_dim=100)
    plan = plan_probe(weights, budget_bytes=ENOUGH, facts=facts)
    assert {len(b.rows) for b in plan.blocks} == {64}


def test_distinct_spans_are_asked_for_file_by_file():
    shared = Part("scale", "F32", "b", 0, 4, 0, 0)
    parts = [
        (Part("words", "U8", "a", 16 * i, 16 * i + 16, 1, 4), shared) for i in range(2)
    ]  # fmt: skip
    weights = [matrix(role, (4, 4), 0, parts=p) for role, p in zip("ab", parts, strict=True)]
    plan = plan_probe(weights, budget_bytes=ENOUGH)
    assert plan.spans_by_path() == {"a": ((0, 16), (16, 32)), "b": ((0, 4),)}
    assert plan.n_ranges == 2


@given(models(), st.sampled_from([2, 3]), st.booleans())
def test_rungs_cost_what_their_runs_hold(weights, stage, has_anchors):
    anchors = ANCHORS if has_anchors else ()
    facts = ModelFacts(n_heads=4, n_kv_heads=2, head_dim=8)
    rungs = list(rungs_of(weights, range(len(weights)), stage, facts, len(anchors)))
    totals = climb(weights, rungs, anchors)
    reached = {}
    picked = set(random.Random(0).sample(range(len(rungs)), min(5, len(rungs))))
    for at, (rung, total) in enumerate(zip(rungs, totals, strict=True)):
        for i in rung.members:
            rows, n = reached.get(i, (0, 0))
            reached[i] = max(rows, rung.rows), max(n, rung.anchors)
        if at not in picked:
            continue
        seen = set()
        for i, (rows, n) in reached.items():
            runs = planned_runs(weights[i], rows, anchors[:n])
            for _, path, start, stop in spans_of(weights[i], runs):
                seen.update((path, byte) for byte in range(start, stop))
        assert total == len(seen)


@given(st.integers(0, 200))
def test_every_beginning_of_the_spread_is_spread(n):
    order = spread(n)
    assert sorted(order) == list(range(n))
    for count in (3, 5, 9, 17):
        if n > count:
            chosen = sorted(order[:count])
            gaps = np.diff(chosen)
            assert (chosen[0], chosen[-1]) == (0, n - 1)
            assert gaps.max() - gaps.min() <= 1 + gaps.min()


def test_the_ladder_is_sound():
    assert [stage.number for stage in STAGES] == list(range(len(STAGES)))
    assert [step.stage for step in LADDER] == sorted(step.stage for step in LADDER)
    assert len({step.name for step in LADDER}) == len(LADDER)


def test_every_stage_and_every_step_of_the_ladder_stands_in_the_documentation_in_order():
    page = (ROOT / "docs" / "probe-plan.md").read_text(encoding="utf-8")
    for stage in STAGES:
        assert f"| {stage.number} | {stage.reads} | {stage.where} | {stage.answers} |" in page
    rows = [f"| {s.name} | {s.stage} | {'yes' if s.apart else ''} |" for s in LADDER]
    assert "\n".join(rows) in page
    assert SCHEME in page
    assert f"{BUDGET_BYTES:,} bytes" in page


def test_a_weight_whose_only_part_belongs_to_all_rows_is_read_whole():
    part = Part("words", "X", "m", 0, 50, 0, 0)
    weight = Weight(TensorKey("up", 0), True, "up", "X", (10, 5), (part,))
    (block,) = plan_probe([weight], 2, budget_bytes=50).blocks
    assert block.rows == tuple(range(10))
    assert block.spans == (("words", "m", 0, 50),)


def test_a_single_row_of_another_weight_between_rotary_heads_is_cut_out():
    part = Part("words", "BF16", "m", 0, 160, 1, 16)
    weight = matrix("q", (8, 8), parts=(part,), order=RowOrder(4, 5, halves=True))
    assert leading_runs(weight, 8) == ((0, 4), (5, 9))

"""From stored tensors to weights: what belongs together, what lies inside what, what is a lie."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crawler.headers import DTYPE_BITS
from crawler.records import TensorEntry
from lineage.weights.conversions import PAIRED
from lineage.weights.facts import ModelFacts
from lineage.weights.layout import Layout, lay_out
from lineage.weights.stored import narrow
from lineage.weights.weight import RowOrder, Weight

LLAMA = ModelFacts("llama", "safetensors", 8, 2, 16, 128)
UP = "model.layers.0.mlp.up_proj"


def entries(*tensors: tuple[str, str, tuple[int, ...]]) -> list[TensorEntry]:
    """Tensors one behind the other in one file."""
    found, at = [], 100
    for name, dtype, shape in tensors:
        size = math.prod(shape) * DTYPE_BITS.get(dtype, 8) // 8
        found.append(TensorEntry(name, dtype, shape, "m.safetensors", at, at + size))
        at += size
    return found


def laid(*tensors: tuple[str, str, tuple[int, ...]], facts: ModelFacts = LLAMA) -> Layout:
    return lay_out(entries(*tensors), facts)


def only(layout: Layout) -> Weight:
    assert not layout.passed_over
    (weight,) = layout.weights
    return weight


def reason(layout: Layout, name: str) -> str:
    assert all(weight.name != name for weight in layout.weights)
    return dict(layout.passed_over)[name]


def by_key(layout: Layout) -> dict[str, Weight]:
    return {str(weight.key): weight for weight in layout.weights}


# plain weights


def test_a_plain_matrix_is_itself():
    weight = only(laid((f"{UP}.weight", "BF16", (48, 32))))
    assert (str(weight.key), weight.shape, weight.dtype) == ("up@0", (48, 32), "BF16")
    assert weight.main.span(3, 5) == (100 + 3 * 64, 100 + 5 * 64)


def test_weights_keep_the_order_of_the_files():
    names = [f"model.layers.{at}.mlp.up_proj.weight" for at in (3, 0, 2)]
    layout = laid(*((name, "F32", (4, 4)) for name in names))
    assert [weight.name for weight in layout.weights] == names


@pytest.mark.parametrize("shape", [(), (0,), (0, 4), (4, 0), (1,), (1, 1)])
def test_what_is_empty_or_one_number_is_passed_over(shape):
    assert "empty" in reason(laid((f"{UP}.weight", "F32", shape)), f"{UP}.weight")


@pytest.mark.parametrize("dtype", ["I64", "I8", "U8", "BOOL", "U32"])
def test_integers_without_scales_are_passed_over(dtype):
    assert "no weights" in reason(laid((f"{UP}.weight", dtype, (4, 4))), f"{UP}.weight")


def test_buffers_are_passed_over():
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    assert "buffer" in reason(laid((name, "F32", (16,))), name)


def test_a_second_weight_in_one_place_is_passed_over():
    first, second = f"{UP}.weight", f"base_model.{UP}.weight"
    layout = laid((first, "F32", (4, 4)), (second, "F32", (4, 4)))
    assert [weight.name for weight in layout.weights] == [first]
    assert "already" in reason(layout, second)


def test_a_second_tensor_of_one_name_is_passed_over():
    layout = lay_out(2 * entries((f"{UP}.weight", "F32", (4, 4))), LLAMA)
    assert len(layout.weights) == len(layout.passed_over) == 1


@pytest.mark.parametrize("stop", [99, 100, 101, 10**15])
def test_a_shape_that_does_not_fill_its_bytes_is_passed_over(stop):
    (entry,) = entries((f"{UP}.weight", "F32", (4, 4)))
    layout = lay_out([replace(entry, stop=stop)], LLAMA)
    assert not layout.weights


def test_more_weights_than_any_model_has_are_passed_over(monkeypatch):
    monkeypatch.setattr("lineage.weights.layout._MAX_WEIGHTS", 2)
    layout = laid(*((f"model.layers.{at}.mlp.up_proj.weight", "F32", (4, 4)) for at in range(3)))
    assert (len(layout.weights), len(layout.passed_over)) == (2, 1)


def test_names_that_no_rule_knows_are_counted():
    layout = laid(("something.else", "F32", (4, 4)), (f"{UP}.weight", "F32", (4, 4)))
    assert (layout.n_unknown, len(layout.weights)) == (1, 2)


# fused weights


QKV = "model.layers.0.self_attn.qkv_proj.weight"


def test_fused_rows_are_cut_one_below_the_other():
    found = by_key(laid((QKV, "BF16", (192, 128))))
    assert {key: weight.shape for key, weight in found.items()} == {
        "q@0": (128, 128), "k@0": (32, 128), "v@0": (32, 128)
    }  # fmt: skip
    starts = [found[key].main.start - 100 for key in ("q@0", "k@0", "v@0")]
    assert starts == [0, 128 * 256, 160 * 256]
    assert found["v@0"].main.stop == 100 + 192 * 256


@pytest.mark.parametrize(
    "facts",
    [ModelFacts("phi3"), replace(LLAMA, n_heads=9), replace(LLAMA, head_dim=None),
     replace(LLAMA, n_kv_heads=None)],
)  # fmt: skip
def test_what_cannot_be_cut_stays_whole(facts):
    assert str(only(laid((QKV, "BF16", (192, 128)), facts=facts)).key) == "qkv@0"


def test_gates_and_ups_are_halves():
    found = by_key(laid(("model.layers.0.mlp.gate_up_proj.weight", "F16", (96, 32))))
    assert found["gate@0"].main.stop == found["up@0"].main.start == 100 + 48 * 64
    assert by_key(laid(("model.layers.0.mlp.gate_up_proj.weight", "F16", (97, 32)))).keys() == {
        "gate_up@0"
    }


def test_biases_are_cut_as_their_matrices_are():
    found = by_key(laid((QKV.replace("weight", "bias"), "F32", (192,))))
    assert [found[f"{role}.bias@0"].shape for role in "qkv"] == [(128,), (32,), (32,)]
    assert found["k.bias@0"].main.start == 100 + 128 * 4


def test_heads_in_turn_are_told_by_the_order_of_rows():
    facts = replace(LLAMA, model_type="gpt_neox", n_kv_heads=8)
    name = "gpt_neox.layers.0.attention.query_key_value"
    found = by_key(laid((f"{name}.weight", "F16", (384, 128)), facts=facts))
    assert found["k@0"].order == RowOrder(16, 48, 16)
    assert found["k@0"].shape == (128, 128)
    # The values of a vector cannot be reordered, so it stays whole.
    assert str(only(laid((f"{name}.bias", "F16", (384,)), facts=facts)).key) == "qkv.bias@0"


def test_groups_of_heads_are_told_by_the_order_of_rows():
    facts = replace(LLAMA, model_type="internlm2")
    found = by_key(laid(("model.layers.0.attention.wqkv.weight", "F16", (192, 128)), facts=facts))
    assert found["q@0"].order == RowOrder(64, 96, 0)
    assert found["v@0"].order == RowOrder(16, 96, 80)


def test_columns_are_told_where_outputs_are_columns():
    facts = ModelFacts("gpt2", "safetensors", 4, 4, 8, 32)
    found = by_key(laid(("h.0.attn.c_attn.weight", "F32", (32, 96)), facts=facts))
    assert [found[f"{role}@0"].columns for role in "qkv"] == [(0, 32), (32, 64), (64, 96)]
    assert all(weight.transposed and weight.shape == (32, 32) for weight in found.values())


def test_packed_rows_are_cut_with_their_scales_where_blocks_end_there():
    tensors = [(QKV, "F8_E4M3", (384, 128)), (f"{QKV}_scale_inv", "F32", (3, 1))]
    facts = ModelFacts("x", "safetensors", 2, 2, 64, 128,
                       quantisation={"weight_block_size": [128, 128]})  # fmt: skip
    found = by_key(laid(*tensors, facts=facts))
    scales = found["k@0"].parts[1]
    assert (scales.name, scales.stop - scales.start) == ("scales", 4)
    assert scales.start == found["q@0"].parts[1].start + 4
    odd = replace(facts, n_heads=4, n_kv_heads=1)  # 256 + 64 + 64 rows
    assert by_key(laid(*tensors, facts=odd)).keys() == {"qkv@0"}


@pytest.mark.parametrize("shape", [(4, 0), (0,), (0, 8)])
def test_scales_of_size_zero_are_refused(shape):
    weight = f"{UP}.weight"
    layout = laid((weight, "F8_E4M3", (4, 8)), (f"{weight}_scale", "F32", shape))
    assert "there are no scales" in reason(layout, weight)


# experts


def test_experts_beyond_the_limit_are_not_told_apart_first(monkeypatch):
    monkeypatch.setattr("lineage.weights.layout._MAX_WEIGHTS", 6)
    told_apart = []
    monkeypatch.setattr(
        "lineage.weights.layout.narrow",
        lambda entry, expert, count: told_apart.append(expert) or narrow(entry, expert, count),
    )
    names = [f"model.layers.{layer}.mlp.experts.down_proj" for layer in range(3)]
    layout = laid(*((name, "BF16", (4, 2, 3)) for name in names))
    assert (len(layout.weights), told_apart) == (4, [0, 1, 2, 3])
    assert [name for name, _ in layout.passed_over] == names[1:]


def test_stacked_experts_are_weights_of_their_own():
    found = by_key(laid(("model.layers.1.mlp.experts.gate_up_proj", "BF16", (4, 64, 32))))
    assert len(found) == 8
    size = 64 * 32 * 2
    assert found["gate@1/2"].main.start == 100 + 2 * size
    assert found["up@1/2"].main.start == 100 + 2 * size + size // 2
    assert found["up@1/3"].shape == (32, 32)


def test_scales_of_stacked_experts_are_narrowed_too():
    name = "model.layers.1.mlp.experts.down_proj"
    found = by_key(laid((name, "F8_E4M3", (4, 128, 256)), (f"{name}_scale_inv", "F32", (4, 1, 2))))
    scales = found["down@1/2"].parts[1]
    assert scales.stop - scales.start == 8
    assert scales.start == 100 + 4 * 128 * 256 + 2 * 8


@pytest.mark.parametrize("shape", [(5000, 4, 4), (4, 4, 4, 4), (64,)])
def test_experts_that_cannot_be_told_apart_are_passed_over(shape):
    name = "model.layers.1.mlp.experts.down_proj"
    assert "experts" in reason(laid((name, "F32", shape)), name)


# packed weights that lie


def gptq(rows: int = 64, columns: int = 32, group: int = 32, **facts: object) -> Layout:
    groups = -(-rows // group)
    stated = {"quant_method": "gptq", "bits": 4, "group_size": group, "desc_act": False} | facts
    return laid(
        (f"{UP}.qweight", "I32", (rows // 8, columns)),
        (f"{UP}.qzeros", "I32", (groups, columns // 8)),
        (f"{UP}.scales", "F16", (groups, columns)),
        (f"{UP}.g_idx", "I32", (rows,)),
        facts=replace(LLAMA, quantisation=stated),
    )


def test_gptq_has_inputs_as_rows():
    weight = only(gptq())
    assert weight.transposed
    assert weight.shape == (64, 32)
    assert [(part.name, part.rows_per_unit) for part in weight.parts] == [
        ("words", 8), ("zeros", 32), ("scales", 32), ("groups", 1)
    ]  # fmt: skip


def test_with_activation_order_all_groups_are_read():
    weight = only(gptq(desc_act=True))
    assert [part.rows_per_unit for part in weight.parts] == [8, 0, 0, 1]


@pytest.mark.parametrize(
    "lie",
    [{"bits": 8}, {"bits": "4"}, {"group_size": 0}, {"group_size": -2}, {"group_size": 2**40},
     {"group_size": "32"}, {"group_size": 16}, {"quant_method": "awq"},
     {"checkpoint_format": "gptq_p"}, {"checkpoint_format": 7}, {"checkpoint_format": []},
     {"quant_method": "auto-round"}],
    ids=str,
)  # fmt: skip
def test_a_configuration_that_contradicts_the_shapes_is_not_followed(lie):
    layout = gptq(**lie)
    assert not layout.weights
    assert len(layout.passed_over) == 4


@pytest.mark.parametrize(
    ("end", "shape"),
    [("qzeros", (3, 4)), ("qzeros", (2, 5)), ("scales", (3, 32)), ("g_idx", (63,)),
     ("g_idx", (64, 1)), ("qweight", (8, 31)), ("qweight", (7, 32)), ("qweight", (0, 32))],
)  # fmt: skip
def test_shapes_of_gptq_that_do_not_fit_one_another_are_passed_over(end, shape):
    shapes = {"qweight": (8, 32), "qzeros": (2, 4), "scales": (2, 32), "g_idx": (64,)}
    dtypes = {"scales": "F16"}
    found = entries(
        *((f"{UP}.{e}", dtypes.get(e, "I32"), s) for e, s in (shapes | {end: shape}).items())
    )
    stated = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": True}
    assert not lay_out(found, replace(LLAMA, quantisation=stated)).weights


@pytest.mark.parametrize("missing", ["qzeros", "scales"])
def test_codes_without_what_decodes_them_are_passed_over(missing):
    found = entries(
        (f"{UP}.qweight", "I32", (8, 32)), (f"{UP}.qzeros", "I32", (2, 4)),
        (f"{UP}.scales", "F16", (2, 32)),
    )  # fmt: skip
    layout = lay_out([entry for entry in found if not entry.name.endswith(missing)], LLAMA)
    assert not layout.weights
    assert missing in dict(layout.passed_over)[f"{UP}.qweight"]


def test_scales_without_codes_are_passed_over():
    name = f"{UP}.weight_scale"
    assert "not there" in reason(laid((name, "F32", (4, 1))), name)


def test_scales_of_activations_are_passed_over():
    layout = laid((f"{UP}.weight", "F8_E4M3", (4, 8)), (f"{UP}.weight_scale", "F32", ()),
                  (f"{UP}.input_scale", "F32", ()))  # fmt: skip
    assert len(layout.weights) == 1
    assert "activations" in reason(layout, f"{UP}.input_scale")


def test_scales_left_behind_do_not_change_floats():
    layout = laid((f"{UP}.weight", "BF16", (4, 8)), (f"{UP}.weight_scale", "F32", (4, 1)))
    assert layout.weights[0].dtype == "BF16"
    assert len(layout.weights[0].parts) == 1
    assert "no more" in reason(layout, f"{UP}.weight_scale")


@pytest.mark.parametrize(
    ("codes", "scales"),
    [(("I8", (4, 8)), ("F32", (5, 1))), (("I8", (4, 8)), ("U8", (4, 1))),
     (("I8", (4, 8)), ("F32", (4, 3))), (("I8", (4, 8, 2)), ("F32", (4, 1))),
     (("U8", (4, 8)), ("F32", (4, 1))), (("U8", (4, 8)), ("F8_E4M3", (4, 1))),
     (("I32", (4, 8)), ("F32", (4, 1))), (("F8_E4M3", (200, 200)), ("F32", (3, 2))),
     (("F8_E4M3", (4, 8)), ("I64", (4, 1))), (("U8", (4, 16)), ("U8", (4, 2)))],
    ids=str,
)  # fmt: skip
def test_scales_that_do_not_fit_their_codes_are_passed_over(codes, scales):
    layout = laid((f"{UP}.weight", *codes), (f"{UP}.weight_scale", *scales))
    assert not layout.weights
    assert len(layout.passed_over) == 2


def bnb(n_bytes: int = 64 * 128 // 2, name: str = UP, n_blocks: int = 128, **sizes: int) -> Layout:
    return laid(
        (f"{name}.weight", "U8", (n_bytes, 1)),
        (f"{name}.weight.absmax", "F32", (n_blocks,)),
        (f"{name}.weight.quant_map", "F32", (16,)),
        (f"{name}.weight.quant_state.bitsandbytes__nf4", "U8", (sizes.get("state", 80),)),
    )


def test_the_shape_of_four_bit_blocks_comes_from_the_role():
    weight = only(bnb())
    assert (weight.shape, weight.dtype) == ((64, 128), "BNB4:block=64,code=nf4,nested=0,rows=64")
    down = only(bnb(name="model.layers.0.mlp.down_proj"))
    assert down.shape == (128, 64)


@pytest.mark.parametrize(
    "lie",
    [{"n_bytes": 65}, {"n_bytes": 0}, {"n_blocks": 1}, {"n_blocks": 10**6}, {"state": 10**8},
     {"name": "model.layers.0.whatever"}],
    ids=str,
)  # fmt: skip
def test_four_bit_blocks_of_odd_sizes_are_passed_over(lie):
    layout = bnb(**lie)
    assert not layout.weights
    assert len(layout.passed_over) == 4


def packed(bits: int, width: int, scales: tuple[int, ...], **weights: object) -> Layout:
    groups = {"g": {"weights": {"num_bits": bits} | weights}}
    return laid(
        (f"{UP}.weight_packed", "I32", (64, width)),
        (f"{UP}.weight_scale", "BF16", scales),
        (f"{UP}.weight_shape", "I64", (2,)),
        facts=replace(LLAMA, quantisation={"config_groups": groups}),
    )


def test_packed_columns_are_counted_in_groups():
    assert only(packed(4, 16, (64, 4), group_size=32)).shape == (64, 128)
    assert only(packed(3, 12, (64, 4), group_size=32)).shape == (64, 128)
    assert only(packed(4, 16, (64, 1))).shape == (64, 128)


@pytest.mark.parametrize(
    ("bits", "width", "scales", "size"),
    [(0, 16, (64, 4), 32), (9, 16, (64, 4), 32), (4, 16, (64, 4), 16), (4, 16, (64, 4), 0),
     (4, 16, (64, 4), -1), (4, 16, (63, 4), 32), ("4", 16, (64, 4), 32), (4, 16, (64, 4), 2**70)],
)  # fmt: skip
def test_packed_columns_that_contradict_the_scales_are_passed_over(bits, width, scales, size):
    assert not packed(bits, width, scales, group_size=size).weights


def test_a_configuration_that_fits_in_two_ways_is_not_followed():
    groups = {
        "a": {"weights": {"num_bits": 4, "group_size": 32}},
        "b": {"weights": {"num_bits": 2, "group_size": 64}},
    }
    layout = laid((f"{UP}.weight_packed", "I32", (64, 16)), (f"{UP}.weight_scale", "F32", (64, 4)),
                  facts=replace(LLAMA, quantisation={"config_groups": groups}))  # fmt: skip
    assert not layout.weights


BLOCKS = {"config_groups": {"g": {"weights": {"num_bits": 4, "group_size": 32}}}}
GPT_OSS = "model.layers.0.mlp.experts.down_proj"


@pytest.mark.parametrize(
    "tensors",
    [
        [(f"{UP}.weight", "I8", (4, 8)), (f"{UP}.SCB", "F32", (5,))],
        [(f"{UP}.weight", "I8", (4, 8)), (f"{UP}.SCB", "F16", (4,))],
        [(f"{UP}.weight_packed", "U8", (4, 16)), (f"{UP}.weight_scale", "U8", (4, 1)),
         (f"{UP}.weight_global_scale", "F32", (1,))],
        [(f"{UP}.weight_packed", "U8", (4, 16)), (f"{UP}.weight_scale", "F8_E4M3", (4, 2))],
        [(f"{UP}.weight_packed", "U8", (4, 16)), (f"{UP}.weight_scale", "U8", (4, 1)),
         (f"{UP}.weight_zero_point", "I8", (4, 1))],
        [(f"{UP}.weight", "I8", (4, 8)), (f"{UP}.weight_scale", "F32", (4, 1)),
         (f"{UP}.weight_zero_point", "I8", (8, 1))],
        [(f"{UP}.weight", "F8_E4M3", (4, 8)), (f"{UP}.weight_scale", "F32", (4, 1)),
         (f"{UP}.weight_zero_point", "I8", (4, 1))],
        [(f"{UP}.weight", "F8_E4M3", (4, 8)), (f"{UP}.weight_scale", "F32", (4, 1)),
         (f"{UP}.weight_scale_2", "F32", (1,))],
        [(f"{UP}.weight_packed", "I32", (64, 16)), (f"{UP}.weight_scale", "F32", (64, 4)),
         (f"{UP}.weight_g_idx", "I32", (64,))],
        [(f"{UP}.weight_packed", "I32", (64, 16)), (f"{UP}.weight_scale", "F32", (64, 4)),
         (f"{UP}.weight_zero_point", "I32", (9, 4))],
        [(f"{UP}.weight_packed", "I32", (60, 16)), (f"{UP}.weight_scale", "F32", (60, 4)),
         (f"{UP}.weight_zero_point", "I32", (7, 4))],
        [(f"{GPT_OSS}_blocks", "U8", (3, 8, 2, 15)), (f"{GPT_OSS}_scales", "U8", (3, 8, 2))],
        [(f"{GPT_OSS}_blocks", "U8", (3, 8, 2, 16)), (f"{GPT_OSS}_scales", "U8", (3, 8, 1))],
        [(f"{GPT_OSS}_blocks", "U8", (3, 8, 2, 16)), (f"{GPT_OSS}_scales", "U8", (2, 8, 2))],
    ],
    ids=str,
)  # fmt: skip
def test_what_stands_beside_codes_and_does_not_fit_them_is_not_used(tensors):
    layout = laid(*tensors, facts=replace(LLAMA, quantisation=BLOCKS))
    assert not layout.weights
    assert {name for name, _ in layout.passed_over} == {name for name, _, _ in tensors}


def test_blocks_of_several_possible_sizes_are_passed_over():
    stated = {"config_groups": {
        "a": {"weights": {"num_bits": 8, "group_size": 40}},
        "b": {"weights": {"num_bits": 8, "group_size": 48}},
    }}  # fmt: skip
    layout = laid((f"{UP}.weight", "F8_E4M3", (4, 80)), (f"{UP}.weight_scale", "F32", (4, 2)),
                  facts=replace(LLAMA, quantisation=stated))  # fmt: skip
    assert not layout.weights


def test_turned_matrices_are_not_read_from_four_bit_blocks():
    facts = ModelFacts("gpt2", "safetensors", 4, 4, 32, 128)
    name = "h.0.mlp.c_fc"
    layout = laid(
        (f"{name}.weight", "U8", (64 * 128 // 2, 1)), (f"{name}.weight.absmax", "F32", (128,)),
        (f"{name}.weight.quant_map", "F32", (16,)),
        (f"{name}.weight.quant_state.bitsandbytes__nf4", "U8", (80,)), facts=facts,
    )  # fmt: skip
    assert "turned" in reason(layout, f"{name}.weight")


def test_heads_in_turn_need_as_many_keys_as_queries():
    facts = replace(LLAMA, model_type="gpt_neox")
    name = "gpt_neox.layers.0.attention.query_key_value.weight"
    assert str(only(laid((name, "F16", (192, 128)), facts=facts)).key) == "qkv@0"


def test_one_group_of_heads_lies_one_below_the_other():
    facts = replace(LLAMA, model_type="internlm2", n_kv_heads=1)
    found = by_key(laid(("model.layers.0.attention.wqkv.weight", "F16", (160, 128)), facts=facts))
    assert found["k@0"].order is None
    assert found["k@0"].main.start == 100 + 128 * 256


def test_columns_in_turn_stay_together():
    facts = replace(LLAMA, model_type="gpt_oss")
    found = by_key(laid((GPT_OSS.replace("down", "gate_up"), "BF16", (2, 32, 64)), facts=facts))
    assert found.keys() == {"gate_up@0/0", "gate_up@0/1"}


def test_gpt2_is_turned_back_in_gguf():
    weight = only(gguf("gpt2", "blk.0.ffn_up.weight", (512, 128)))
    assert not weight.transposed


def test_rows_that_are_no_pairs_are_passed_over():
    layout = gguf("llama", "blk.0.attn_q.weight", (24, 128))  # eight heads of three rows
    assert "pairs" in reason(layout, "blk.0.attn_q.weight")
    name = "layers.0.attention.wq.weight"
    assert "heads" in reason(laid((name, "BF16", (24, 128))), name)


def nested(n_outer: int, hidden: int = 96, rows: int = 3) -> Layout:
    blocks = -(-rows * hidden // 64)
    return laid(
        (f"{UP}.weight", "U8", (rows * hidden // 2, 1)),
        (f"{UP}.weight.absmax", "U8", (blocks,)),
        (f"{UP}.weight.nested_absmax", "F32", (n_outer,)),
        (f"{UP}.weight.quant_map", "F32", (16,)),
        (f"{UP}.weight.nested_quant_map", "F32", (256,)),
        (f"{UP}.weight.quant_state.bitsandbytes__nf4", "U8", (80,)),
        facts=replace(LLAMA, hidden=hidden),
    )


def test_magnitudes_that_do_not_end_with_rows_are_read_whole():
    units = {part.name: part.rows_per_unit for part in only(nested(1)).parts}
    assert (units["words"], units["scales"], units["scales_of_scales"]) == (1, 0, 0)
    units = {part.name: part.rows_per_unit for part in only(nested(1, rows=4)).parts}
    assert (units["words"], units["scales"], units["scales_of_scales"]) == (1, 2, 0)


def test_magnitudes_of_magnitudes_must_be_as_many_as_are_needed():
    assert not nested(2).weights


def test_complex_numbers_are_passed_over():
    assert "complex" in reason(laid((f"{UP}.weight", "C64", (4, 4))), f"{UP}.weight")


# conversions to GGUF


def gguf(architecture: str, name: str, shape: tuple[int, ...], **facts: object) -> Layout:
    return laid((name, "F32", shape), facts=replace(LLAMA, model_type=architecture, format="gguf",
                                                    **facts))  # fmt: skip


@pytest.mark.parametrize("architecture", sorted(PAIRED))
def test_queries_of_paired_architectures_are_put_back(architecture):
    weight = only(gguf(architecture, "blk.0.attn_q.weight", (128, 128)))
    assert weight.order == RowOrder(16, 16, halves=True)


def test_keys_are_put_back_by_their_own_heads():
    weight = only(gguf("llama", "blk.0.attn_k.weight", (64, 128)))
    assert weight.order == RowOrder(32, 32, halves=True)
    assert [weight.order.stored(row) for row in (0, 1, 16, 17)] == [0, 2, 1, 3]


@pytest.mark.parametrize("architecture", ["qwen2", "gemma2", "command-r", "llama4", "olmo2"])
def test_other_architectures_keep_their_order(architecture):
    assert only(gguf(architecture, "blk.0.attn_q.weight", (128, 128))).order is None


def test_rows_that_are_reordered_by_unknown_heads_are_passed_over():
    for facts in ({"n_heads": None}, {"n_heads": 7}, {"n_heads": 128}):
        layout = gguf("llama", "blk.0.attn_q.weight", (128, 128), **facts)
        assert "heads" in reason(layout, "blk.0.attn_q.weight")
    assert "heads" in reason(gguf("llama", "blk.0.attn_q.bias", (128,)), "blk.0.attn_q.bias")
    assert "heads" in reason(gguf("xverse", "blk.0.attn_k.weight", (32, 128)),
                             "blk.0.attn_k.weight")  # fmt: skip


@pytest.mark.parametrize(
    ("architecture", "name", "shift"),
    [("gemma2", "blk.0.attn_norm", 1), ("gemma3", "blk.0.attn_q_norm", 1),
     ("gemma3", "output_norm", 1), ("nemotron", "blk.0.ffn_norm", 1), ("llama", "output_norm", 0),
     ("gemma3n", "blk.0.attn_norm", 0), ("qwen3next", "blk.0.ssm_norm", 0),
     ("qwen3next", "blk.0.attn_norm", 1)],
)  # fmt: skip
def test_norms_are_shifted_back_where_one_was_added(architecture, name, shift):
    assert only(gguf(architecture, f"{name}.weight", (128,))).shift == shift


def test_biases_of_norms_are_not_shifted():
    assert only(gguf("nemotron", "blk.0.ffn_norm.bias", (128,))).shift == 0


@pytest.mark.parametrize(
    ("architecture", "name"),
    [("falcon-h1", "blk.0.ffn_up.weight"), ("falcon-h1", "token_embd.weight"),
     ("mamba", "blk.0.ssm_a"), ("bailingmoe", "output.weight"), ("jais", "token_embd.weight"),
     ("bert", "position_embd.weight"), ("qwen35", "blk.0.attn_qkv.weight")],
)  # fmt: skip
def test_what_the_converter_changes_for_good_is_passed_over(architecture, name):
    assert "convert" in reason(gguf(architecture, name, (384, 128)), name) or name.endswith("ssm_a")


def test_a_weight_scaled_elsewhere_is_passed_over():
    layout = laid(("blk.0.ffn_up.weight", "F32", (4, 8)), ("blk.0.ffn_up.scale", "F32", (1,)),
                  facts=replace(LLAMA, format="gguf"))  # fmt: skip
    assert "elsewhere" in reason(layout, "blk.0.ffn_up.weight")


def test_metas_own_files_have_pairs_too():
    name = "layers.0.attention.wq.weight"
    assert only(laid((name, "BF16", (128, 128)))).order == RowOrder(16, 16, halves=True)
    layout = laid((name, "BF16", (128, 128)), facts=ModelFacts())
    assert "heads" in reason(layout, name)


def test_gguf_keeps_outputs_as_rows_and_parts_one_below_the_other():
    facts = replace(LLAMA, model_type="gptneox", format="gguf", n_kv_heads=8)
    found = by_key(laid(("blk.0.attn_qkv.weight", "F16", (384, 128)), facts=facts))
    assert found["k@0"].order is None
    assert found["k@0"].main.start == 100 + 128 * 256


# whatever comes


NAMES = st.sampled_from([
    f"{UP}.{end}" for end in (
        "weight", "qweight", "qzeros", "scales", "g_idx", "weight_packed", "weight_scale",
        "weight_scale_inv", "weight_scale_2", "weight_shape", "weight_zero_point", "weight_g_idx",
        "weight_global_scale", "weight.absmax", "weight.quant_map", "SCB", "input_scale",
        "weight.quant_state.bitsandbytes__nf4", "weight.nested_absmax", "bias",
    )
] + [QKV, "model.layers.0.mlp.experts.gate_up_proj", "blk.0.attn_q.weight", "x",
     "model.layers.0.mlp.experts.gate_up_proj_blocks",
     "model.layers.0.mlp.experts.gate_up_proj_scales"])  # fmt: skip
SHAPES = st.lists(st.sampled_from([0, 1, 2, 4, 8, 16, 32, 64, 2**40]), max_size=4).map(tuple)
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)
STATED = st.dictionaries(
    st.sampled_from(["bits", "group_size", "quant_method", "desc_act", "checkpoint_format", "sym",
                     "config_groups", "weight_block_size", "version", "packing_format"]),
    JUNK | st.sampled_from([4, 32, "gptq", "awq", False, True]),
)  # fmt: skip


@settings(max_examples=400)
@given(
    st.lists(st.tuples(NAMES, st.sampled_from([*sorted(DTYPE_BITS), "Q4_K"]), SHAPES), max_size=6),
    STATED, st.sampled_from(["safetensors", "gguf"]),
)  # fmt: skip
def test_whatever_the_headers_say_every_tensor_is_a_weights_or_passed_over(tensors, stated, form):
    found = entries(*tensors)
    layout = lay_out(found, replace(LLAMA, quantisation=stated, format=form))
    passed_over = {name for name, _ in layout.passed_over}
    assert len({weight.key for weight in layout.weights}) == len(layout.weights)
    for entry in found:
        parts = [part for weight in layout.weights for part in weight.parts]
        inside = any(entry.start <= part.start <= part.stop <= entry.stop for part in parts)
        assert inside or entry.name in passed_over
    for weight in layout.weights:
        assert weight.n_values > 1
        for part in weight.parts:
            n_rows = weight.n_rows if weight.order is None else 1
            start, stop = part.span(0, n_rows)
            assert part.start <= start <= stop <= part.stop

"""Plain words in the containers of safetensors, PyTorch and ONNX; models with fused tensors."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file

from weight_files import Written

_DTYPES = ("float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")
_STEM = "model.layers.0"


def plain(folder: Path, dtype: str, container: str) -> Written:
    torch.manual_seed(7)
    kind = getattr(torch, dtype)
    state = {
        f"{_STEM}.mlp.up_proj.weight": torch.randn(48, 32).to(kind),
        f"{_STEM}.input_layernorm.weight": torch.randn(32).to(kind),
    }
    if container == "torch":
        torch.save(state, folder / "pytorch_model.bin")
    else:
        save_file(state, folder / "model.safetensors")
    names = ("up@0", "attn_norm@0")
    truth = {key: t.float().numpy() for key, t in zip(names, state.values(), strict=True)}
    return Written(folder, truth)


def onnx(folder: Path) -> Written:
    import onnx as library
    from onnx import TensorProto, helper, numpy_helper

    torch.manual_seed(8)
    weight = torch.randn(48, 32).numpy()
    name = f"{_STEM}.mlp.up_proj.weight"
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("x", "y"))
    node = helper.make_node("Identity", ["x"], ["y"])
    initialiser = numpy_helper.from_array(weight, name)
    graph = helper.make_graph([node], "g", [x], [y], initializer=[initialiser])
    library.save(helper.make_model(graph), folder / "model.onnx")
    return Written(folder, {"up@0": weight})


def gpt2(folder: Path) -> Written:
    """Outputs as columns, queries, keys and values side by side, made by transformers."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(9)
    config = GPT2Config(n_embd=32, n_layer=1, n_head=4, vocab_size=64, n_positions=16)
    GPT2LMHeadModel(config).save_pretrained(folder)
    from safetensors.torch import load_file

    state = {k.removeprefix("transformer."): v.numpy() for k, v in
             load_file(folder / "model.safetensors").items()}  # fmt: skip
    truth = {
        "embed": state["wte.weight"], "position": state["wpe.weight"],
        "o@0": state["h.0.attn.c_proj.weight"], "o.bias@0": state["h.0.attn.c_proj.bias"],
        "up@0": state["h.0.mlp.c_fc.weight"], "up.bias@0": state["h.0.mlp.c_fc.bias"],
        "down@0": state["h.0.mlp.c_proj.weight"], "down.bias@0": state["h.0.mlp.c_proj.bias"],
        "attn_norm@0": state["h.0.ln_1.weight"], "attn_norm.bias@0": state["h.0.ln_1.bias"],
        "ffn_norm@0": state["h.0.ln_2.weight"], "ffn_norm.bias@0": state["h.0.ln_2.bias"],
        "final_norm": state["ln_f.weight"], "final_norm.bias": state["ln_f.bias"],
    }  # fmt: skip
    for at, role in enumerate("qkv"):
        columns = slice(32 * at, 32 * (at + 1))
        truth[f"{role}@0"] = state["h.0.attn.c_attn.weight"][:, columns]
        truth[f"{role}.bias@0"] = state["h.0.attn.c_attn.bias"][columns]
    return Written(folder, truth)


def fused(folder: Path, model_type: str) -> Written:
    """Queries, keys and values as four families store them, taken apart by reshaping."""
    torch.manual_seed(10)
    heads, groups, width, hidden = 8, 2, 16, 128
    if model_type == "gpt_neox":
        groups = heads
    name = {
        "phi3": "model.layers.0.self_attn.qkv_proj.weight",
        "falcon": "transformer.h.0.self_attention.query_key_value.weight",
        "gpt_neox": "gpt_neox.layers.0.attention.query_key_value.weight",
        "internlm2": "model.layers.0.attention.wqkv.weight",
    }[model_type]
    weight = torch.randn((heads + 2 * groups) * width, hidden).bfloat16()
    if model_type == "phi3":
        q, k, v = weight.split([heads * width, groups * width, groups * width])
    else:
        by_group = weight.view(groups, heads // groups + 2, width, hidden)
        q, k, v = (
            part.reshape(-1, hidden)
            for part in (by_group[:, :-2], by_group[:, -2], by_group[:, -1])
        )
    save_file({name: weight}, folder / "model.safetensors")
    config = {
        "model_type": model_type, "hidden_size": hidden, "num_attention_heads": heads,
        "num_key_value_heads": groups, "num_kv_heads": groups, "new_decoder_architecture": True,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return Written(folder, {"q@0": q.float().numpy(), "k@0": k.float().numpy(),
                            "v@0": v.float().numpy()})  # fmt: skip


WRITERS = {
    **{
        f"{container} {dtype}": partial(plain, dtype=dtype, container=container)
        for container in ("safetensors", "torch")
        for dtype in _DTYPES
    },
    "onnx": onnx,
    "gpt2": gpt2,
    **{
        f"fused as {kind}": partial(fused, model_type=kind)
        for kind in ("phi3", "falcon", "gpt_neox", "internlm2")
    },
}

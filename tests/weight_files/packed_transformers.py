"""Quantisation that transformers does itself: blocks of 8-bit floats, and gpt-oss's MXFP4."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from safetensors.torch import save_file

from weight_files import Written


def blocks_of_eight_bit_floats(folder: Path, form: str) -> Written:
    from transformers.integrations.finegrained_fp8 import Fp8Quantize, _dequantize_fp8_weight

    torch.manual_seed(4)
    weight = torch.randn(256, 384)
    config = {"quant_method": "fp8", "weight_block_size": [128, 128], "scale_fmt": form}
    quantise = Fp8Quantize(SimpleNamespace(quantization_config=SimpleNamespace(**config)))
    name = "model.layers.0.mlp.up_proj.weight"
    state = quantise.convert({name: weight})
    scale = state[f"{name}_scale_inv"]
    values = _dequantize_fp8_weight(state[name], scale, [128, 128], torch.float32)
    save_file(state, folder / "model.safetensors")
    _config(folder, {"model_type": "deepseek_v3", "quantization_config": config})
    return Written(folder, {"up@0": values.numpy()}, "F32", {"up@0": weight.numpy()})


def gpt_oss(folder: Path) -> Written:
    """Stacked experts whose gates and ups take turns; random codes, exponents near 127."""
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    rng = np.random.default_rng(5)
    hidden, ffn, experts = 64, 96, 3
    stem = "model.layers.0.mlp.experts"
    state = {}
    for name, rows, columns in (("gate_up_proj", 2 * ffn, hidden), ("down_proj", hidden, ffn)):
        blocks = rng.integers(0, 256, (experts, rows, columns // 32, 16), np.uint8)
        scales = rng.integers(118, 130, (experts, rows, columns // 32), np.uint8)
        state[f"{stem}.{name}_blocks"] = torch.from_numpy(blocks)
        state[f"{stem}.{name}_scales"] = torch.from_numpy(scales)
    state[f"{stem}.down_proj_bias"] = torch.randn(experts, hidden)
    values = {
        name: convert_moe_packed_tensors(
            state[f"{stem}.{name}_blocks"], state[f"{stem}.{name}_scales"], dtype=torch.float32
        )
        for name in ("gate_up_proj", "down_proj")
    }  # experts × inputs × outputs
    truth = {}
    for expert in range(experts):
        fused = values["gate_up_proj"][expert].T.numpy()
        truth[f"gate@0/{expert}"], truth[f"up@0/{expert}"] = fused[::2], fused[1::2]
        truth[f"down@0/{expert}"] = values["down_proj"][expert].T.numpy()
        truth[f"down.bias@0/{expert}"] = state[f"{stem}.down_proj_bias"][expert].numpy()
    save_file(state, folder / "model.safetensors")
    quantisation = {"quant_method": "mxfp4"}
    _config(
        folder,
        {"model_type": "gpt_oss", "hidden_size": hidden, "quantization_config": quantisation},
    )
    return Written(folder, truth)


def _config(folder: Path, config: dict[str, object]) -> None:
    (folder / "config.json").write_text(json.dumps(config))


WRITERS = {
    "fp8 blocks": partial(blocks_of_eight_bit_floats, form="float"),
    "fp8 blocks, powers of two": partial(blocks_of_eight_bit_floats, form="ue8m0"),
    "mxfp4 of gpt-oss": gpt_oss,
}

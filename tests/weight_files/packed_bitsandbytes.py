"""bitsandbytes' own modules, quantised on a CPU and saved as transformers saves them."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file

from weight_files import Written

HIDDEN, FFN = 128, 192
_SHAPES = {"self_attn.q_proj": (HIDDEN, HIDDEN), "mlp.up_proj": (FFN, HIDDEN),
           "mlp.down_proj": (HIDDEN, 2 * HIDDEN)}  # fmt: skip
_KEYS = {"self_attn.q_proj": "q@0", "mlp.up_proj": "up@0", "mlp.down_proj": "down@0"}


def four_bits(folder: Path, kind: str, nested: bool) -> Written:
    import bitsandbytes as bnb

    torch.manual_seed(1)
    state, truth, originals = {}, {}, {}
    for path, shape in _SHAPES.items():
        linear = bnb.nn.Linear4bit(shape[1], shape[0], bias=False)
        original = torch.randn(shape)
        linear.weight = bnb.nn.Params4bit(
            original.clone(), requires_grad=False, quant_type=kind, compress_statistics=nested
        )
        linear = linear.to("cpu")
        stem = f"model.layers.0.{path}"
        state |= {f"{stem}.{name}": tensor for name, tensor in linear.state_dict().items()}
        values = bnb.functional.dequantize_4bit(linear.weight.data, linear.weight.quant_state)
        truth[_KEYS[path]] = values.numpy()
        originals[_KEYS[path]] = original.numpy()
    config = {"load_in_4bit": True, "bnb_4bit_quant_type": kind, "quant_method": "bitsandbytes"}
    return _saved(folder, state, config, truth, originals, 0.99)


def eight_bits(folder: Path) -> Written:
    import bitsandbytes as bnb

    torch.manual_seed(2)
    state, truth, originals = {}, {}, {}
    for path, shape in _SHAPES.items():
        linear = bnb.nn.Linear8bitLt(shape[1], shape[0], bias=False, has_fp16_weights=False)
        original = torch.randn(shape).half()
        linear.weight = bnb.nn.Int8Params(
            original.clone(), requires_grad=False, has_fp16_weights=False
        )
        linear = linear.to("cpu")
        found = linear.state_dict()
        state |= {f"model.layers.0.{path}.{name}": tensor for name, tensor in found.items()}
        values = bnb.functional.int8_vectorwise_dequant(found["weight"], found["SCB"])
        truth[_KEYS[path]] = values.numpy()
        originals[_KEYS[path]] = original.float().numpy()
    config = {"load_in_8bit": True, "quant_method": "bitsandbytes"}
    return _saved(folder, state, config, truth, originals, 0.99)


def _saved(folder, state, quantisation, truth, originals, contained) -> Written:
    save_file(state, folder / "model.safetensors")
    config = {"model_type": "llama", "hidden_size": HIDDEN, "quantization_config": quantisation}
    (folder / "config.json").write_text(json.dumps(config))
    return Written(folder, truth, "F32", originals, contained)


WRITERS = {
    **{
        f"bitsandbytes {kind}{' nested' if nested else ''}": partial(
            four_bits, kind=kind, nested=nested
        )
        for kind in ("nf4", "fp4")
        for nested in (False, True)
    },
    "bitsandbytes int8": eight_bits,
}

"""compressed-tensors: every format that it writes, with the grids of scales that it allows."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from weight_files import Written

ROWS, COLUMNS = 64, 128
_BLOCK = 32


@dataclass(frozen=True)
class Case:
    """Arguments of a scheme for weights, and the format that stores them."""

    form: str
    arguments: dict[str, Any]
    scale: torch.dtype = torch.float32
    works_in: str = "F32"
    contained: float = 1.0
    more: dict[str, Any] = field(default_factory=dict)


def _ints(bits: int, **more: Any) -> dict[str, Any]:
    return {"num_bits": bits, "type": "int", "symmetric": True, **more}


_FP8 = {"num_bits": 8, "type": "float", "symmetric": True}
_GROUP = {"strategy": "group", "group_size": 32}
CASES = {
    **{
        f"pack-quantized {bits} bits": Case("pack-quantized", _ints(bits, **_GROUP))
        for bits in (2, 3, 4, 5, 6, 7, 8)
    },
    "pack-quantized asymmetric": Case("pack-quantized", _ints(4, **_GROUP) | {"symmetric": False}),
    "pack-quantized 3 bits asymmetric": Case(
        "pack-quantized", _ints(3, **_GROUP) | {"symmetric": False}
    ),
    "pack-quantized channel": Case("pack-quantized", _ints(4, strategy="channel")),
    "pack-quantized tensor": Case("pack-quantized", _ints(4, strategy="tensor")),
    "pack-quantized bf16 scales": Case(
        "pack-quantized", _ints(4, **_GROUP), torch.bfloat16, "BF16", 0.9
    ),
    "int-quantized channel": Case("int-quantized", _ints(8, strategy="channel")),
    "int-quantized asymmetric": Case(
        "int-quantized", _ints(8, strategy="channel") | {"symmetric": False}
    ),
    "int-quantized tensor": Case("int-quantized", _ints(8, strategy="tensor")),
    "float-quantized tensor": Case("float-quantized", _FP8 | {"strategy": "tensor"}),
    "float-quantized channel": Case("float-quantized", _FP8 | {"strategy": "channel"}),
    "float-quantized block": Case(
        "float-quantized", _FP8 | {"strategy": "block", "block_structure": [_BLOCK, _BLOCK]}
    ),
    "naive-quantized group": Case("naive-quantized", _FP8 | _GROUP),
    "nvfp4-pack-quantized": Case(
        "nvfp4-pack-quantized",
        {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16},
        works_in="BF16",
    ),
    "mxfp4-pack-quantized": Case(
        "mxfp4-pack-quantized",
        {"num_bits": 4, "type": "float", **_GROUP, "scale_dtype": "torch.uint8"},
        works_in="BF16",
    ),
    "mxfp8-quantized": Case(
        "mxfp8-quantized", _FP8 | _GROUP | {"scale_dtype": "torch.uint8"}, works_in="BF16"
    ),
}


def write(folder: Path, case: Case) -> Written:
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    torch.manual_seed(3)
    weight = torch.randn(ROWS, COLUMNS).to(case.scale)
    arguments = QuantizationArgs(**case.arguments)
    scheme = QuantizationScheme(targets=["Linear"], weights=arguments)
    compressor = BaseCompressor.get_value_from_registry(case.form)
    found = compressor.compress(_with_scales(weight, case), scheme)
    truth = compressor.decompress(dict(found), scheme)["weight"].float().numpy()
    stem = "model.layers.0.mlp.up_proj"
    save_file(
        {f"{stem}.{name}": t.contiguous() for name, t in found.items()},
        folder / "model.safetensors",
    )
    weights = json.loads(arguments.model_dump_json())
    config = {
        "model_type": "llama",
        "hidden_size": COLUMNS,
        "quantization_config": {
            "quant_method": "compressed-tensors",
            "format": case.form,
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    originals = {"up@0": weight.float().numpy()}
    return Written(folder, {"up@0": truth}, case.works_in, originals, case.contained)


def _with_scales(weight: torch.Tensor, case: Case) -> dict[str, torch.Tensor]:
    """The weight with scales and zero points as a simple observer finds them."""
    size = case.arguments.get("group_size")
    strategy = case.arguments["strategy"]
    if strategy == "block":
        tiles = weight.reshape(ROWS // _BLOCK, _BLOCK, COLUMNS // _BLOCK, _BLOCK).transpose(1, 2)
        parts = tiles.reshape(ROWS // _BLOCK, COLUMNS // _BLOCK, -1)
    elif size:
        parts = weight.reshape(ROWS, COLUMNS // size, size)
    else:
        parts = weight.reshape(1 if strategy == "tensor" else ROWS, 1, -1)
    low, high = parts.amin(-1).clamp(max=0), parts.amax(-1).clamp(min=0)
    if strategy == "tensor":
        low, high = low[0], high[0]
    reach = torch.maximum(-low, high)
    bits = case.arguments["num_bits"]
    if case.arguments["type"] == "float":
        return _float_scales(weight, reach, case, 6.0 if bits == 4 else 448.0)
    if case.arguments.get("symmetric", True):
        return {"weight": weight, "weight_scale": reach / ((2**bits - 1) / 2)}
    scale = (high - low) / (2**bits - 1)
    zero = torch.round(-(2 ** (bits - 1)) - low / scale).to(torch.int8)
    return {"weight": weight, "weight_scale": scale, "weight_zero_point": zero}


def _float_scales(
    weight: torch.Tensor, reach: torch.Tensor, case: Case, most: float
) -> dict[str, torch.Tensor]:
    found = {"weight": weight}
    if "scale_dtype" in case.arguments:
        return found | {"weight_scale": 2.0 ** torch.ceil(torch.log2(reach / most))}
    if case.form.startswith("nvfp4"):
        outer = 448.0 * most / weight.abs().max()
        scale = (outer * reach / most).clamp(max=448).to(torch.float8_e4m3fn).to(torch.float32)
        return found | {"weight_scale": scale, "weight_global_scale": outer.reshape(1)}
    return found | {"weight_scale": reach / most}


WRITERS = {f"compressed-tensors {name}": partial(write, case=case) for name, case in CASES.items()}

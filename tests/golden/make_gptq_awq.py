"""Recipe of ``gptq_awq.npz``: small layers packed by GPTQModel 7.7.0 and AutoAWQ 0.2.9.

These libraries want a GPU to be installed, so their words and values are kept here; only their
packing and unpacking in Python is used, on a CPU. GPTQModel needs its sources on the path with
pypcre, device-smi, tokenicer, logbar, defuser, threadpoolctl and torchao; AutoAWQ its sources.

    python make_gptq_awq.py <sources of GPTQModel> <sources of AutoAWQ> gptq_awq.npz
"""

import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import torch

IN, OUT, GROUP = 64, 32, 32


def layer(seed: int) -> torch.nn.Linear:
    torch.manual_seed(seed)
    linear = torch.nn.Linear(IN, OUT, bias=False)
    linear.weight.data = torch.randn(OUT, IN).half().float()
    return linear


def grid(linear, bits: int, sym: bool, group_of: torch.Tensor):
    """Scales and zero points (outputs × groups) as the usual search finds them."""
    scales, zeros = [], []
    for group in range(IN // GROUP):
        part = linear.weight.data[:, group_of == group]
        low, high = part.min(1).values.clamp(max=0), part.max(1).values.clamp(min=0)
        if sym:
            reach = torch.maximum(low.abs(), high)
            scales.append(2 * reach / (2**bits - 1))
            zeros.append(torch.full_like(reach, 2 ** (bits - 1)))
        else:
            scales.append((high - low) / (2**bits - 1))
            zeros.append(torch.round(-low / scales[-1]).clamp(1, 2**bits - 1))
    return torch.stack(scales, 1).half().float(), torch.stack(zeros, 1)


def gptq(found: dict) -> None:
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear
    from gptqmodel.quantization import QuantizeConfig
    from gptqmodel.utils.model import convert_gptq_v2_to_v1_format_module

    cases = [
        (bits, sym, act, version)
        for bits in (2, 3, 4, 8)
        for sym, act, version in ((1, 0, 1), (0, 1, 1), (0, 0, 2))
    ]
    for seed, (bits, sym, act, version) in enumerate(cases):
        linear = layer(seed)
        group_of = torch.arange(IN) // GROUP
        if act:
            group_of = group_of[torch.randperm(IN)]
        scales, zeros = grid(linear, bits, bool(sym), group_of)
        packed = TorchLinear(
            bits=bits, group_size=GROUP, sym=bool(sym), desc_act=bool(act), in_features=IN,
            out_features=OUT, bias=False, register_buffers=True,
        )  # fmt: skip
        packed.pack_original(linear, scales, zeros, group_of.to(torch.int32))
        packed.post_init()
        truth = packed.dequantize_weight().to(torch.float32)
        if version == 1:
            config = QuantizeConfig(bits=bits, group_size=GROUP)
            convert_gptq_v2_to_v1_format_module(packed, config)
        name = f"gptq{bits}-sym{sym}-act{act}-v{version}"
        for tensor in ("qweight", "qzeros", "scales", "g_idx"):
            found[f"{name}/{tensor}"] = getattr(packed, tensor).numpy()
        found[f"{name}/truth"] = truth.half().numpy()
        found[f"{name}/original"] = linear.weight.data.T.contiguous().half().numpy()


def load(name: str, path: Path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def awq(found: dict, sources: Path) -> None:
    for name in ("awq", "awq.utils", "awq.modules", "awq.modules.linear"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["awq.utils.module"] = types.ModuleType("awq.utils.module")
    sys.modules["awq.utils.module"].try_import = lambda name: (None, "")
    sys.modules["awq.utils.utils"] = types.ModuleType("awq.utils.utils")
    sys.modules["awq.utils.utils"].get_best_device = lambda: "cpu"
    packing = load("awq.utils.packing_utils", sources / "awq/utils/packing_utils.py")
    gemm = load("awq.modules.linear.gemm", sources / "awq/modules/linear/gemm.py")
    linear = layer(99)
    scales, zeros = grid(linear, 4, False, torch.arange(IN) // GROUP)
    packed = gemm.WQLinear_GEMM.from_linear(
        linear, 4, GROUP, scales=scales.T.contiguous(), zeros=zeros.T.contiguous()
    )
    for tensor in ("qweight", "qzeros", "scales"):
        found[f"awq4/{tensor}"] = getattr(packed, tensor).numpy()
    truth = packing.dequantize_gemm(packed.qweight, packed.qzeros, packed.scales, 4, GROUP)
    found["awq4/truth"] = truth.half().numpy()
    found["awq4/original"] = linear.weight.data.T.contiguous().half().numpy()


if __name__ == "__main__":
    gptqmodel, autoawq, out = sys.argv[1:]
    sys.path.insert(0, gptqmodel)
    arrays: dict[str, np.ndarray] = {}
    gptq(arrays)
    awq(arrays, Path(autoawq))
    np.savez_compressed(out, **arrays)

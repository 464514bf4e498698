"""GPTQ, AWQ and ModelOpt: words and values that their libraries made, see ``tests/golden``."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from weight_files import Written

_GOLDEN = Path(__file__).parent.parent / "golden"


def gptq_awq(folder: Path, name: str, fused: bool = False) -> Written:
    with np.load(_GOLDEN / "gptq_awq.npz") as arrays:
        found = {k.split("/")[1]: arrays[k] for k in arrays.files if k.startswith(f"{name}/")}
    module = "gate_up_proj" if fused else "up_proj"
    truth = {"up@0": found.pop("truth").astype(np.float32)}
    originals = {"up@0": found.pop("original").astype(np.float32)}
    if fused:
        truth = {"gate@0": truth["up@0"][:, :16], "up@0": truth["up@0"][:, 16:]}
        originals["up@0"] = originals["up@0"][:, 16:]
    save_file(
        {f"model.layers.0.mlp.{module}.{k}": torch.from_numpy(v) for k, v in found.items()},
        folder / "model.safetensors",
    )
    if name.startswith("awq"):
        stated = {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm"}
    else:
        kind, sym, act, version = name.split("-")
        stated = {
            "quant_method": "gptq", "bits": int(kind[4:]), "group_size": 32,
            "sym": sym == "sym1", "desc_act": act == "act1",
            "checkpoint_format": "gptq" if version == "v1" else "gptq_v2",
        }  # fmt: skip
    _config(folder, stated)
    # Codes were found with scales before these were rounded to float16.
    return Written(folder, truth, "F16", originals, 0.99)


def modelopt(folder: Path) -> Written:
    with np.load(_GOLDEN / "modelopt_nvfp4.npz") as arrays:
        found = {key: torch.from_numpy(arrays[key]) for key in arrays.files}
    truth = found.pop("truth").numpy()
    originals = {"up@0": found.pop("original").float().numpy()}
    found["weight_scale"] = found["weight_scale"].view(torch.float8_e4m3fn)
    found["input_scale"] = torch.tensor(0.5)
    state = {f"model.layers.0.mlp.up_proj.{name}": tensor for name, tensor in found.items()}
    save_file(state, folder / "model.safetensors")
    _config(folder, {"quant_method": "modelopt", "quant_algo": "NVFP4"})
    return Written(folder, {"up@0": truth}, "F32", originals, 0.99)


def _config(folder: Path, stated: dict[str, object]) -> None:
    config = {"model_type": "llama", "hidden_size": 64, "quantization_config": stated}
    (folder / "config.json").write_text(json.dumps(config))


with np.load(_GOLDEN / "gptq_awq.npz") as _arrays:
    _NAMES = sorted({key.split("/")[0] for key in _arrays.files})

WRITERS = {
    **{name: partial(gptq_awq, name=name) for name in _NAMES},
    **{
        f"{name} fused": partial(gptq_awq, name=name, fused=True)
        for name in ("awq4", "gptq3-sym0-act1-v1", "gptq4-sym1-act0-v1")
    },
    "modelopt nvfp4": modelopt,
}

"""PyTorch archives as ``torch.save`` writes them, and what is in them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import torch

DTYPES = (
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8",
    "uint16", "uint32", "uint64", "bool", "complex64", "float8_e4m3fn", "float8_e5m2",
    "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu",
)  # fmt: skip


def saved(checkpoint: object, **options: Any) -> bytes:
    """The bytes that ``torch.save`` writes."""
    file = io.BytesIO()
    torch.save(checkpoint, file, **options)
    return file.getvalue()


def stored_bytes(tensor: torch.Tensor) -> bytes:
    """A tensor's words in row-major order."""
    words = tensor.detach().contiguous().reshape(-1)
    return words.view(torch.uint8).numpy().tobytes() if words.numel() else b""


def tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    """A tensor of every dtype that is read; a scalar, an empty one, a parameter."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, torch.Tensor] = {}
    for name in DTYPES:
        dtype = getattr(torch, name)
        bits = 16 if dtype == torch.bool else 8
        words = torch.randint(0, 2 if bits == 16 else 256, (6, 16), generator=generator)
        found[name] = (
            words.bool() if dtype == torch.bool else words.to(torch.uint8).view(dtype).clone()
        )
    found["scalar"] = torch.tensor(2.5)
    found["empty"] = torch.zeros(0, 4)
    found["parameter"] = torch.nn.Parameter(torch.randn(5, 3, generator=generator))
    found["matrix"] = torch.randn(300, 400, generator=generator).bfloat16()
    return found


def layouts() -> Mapping[str, tuple[object, str]]:
    """Checkpoints around the same tensors by name of the layout, and the prefix of their names."""
    inner = tensors()
    beside = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
    return {
        "plain": (inner, ""),
        "state_dict": ({"state_dict": inner, "epoch": 3, "optimizer_states": [beside]}, ""),
        "model": ({"model": inner, "optimizer": beside, "args": None}, ""),
        "nested": ({"model": {"encoder": inner}}, "encoder."),
    }

"""Safetensors files as the ``safetensors`` package writes them, and what is in them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from weight_files.torch_zip_archives import tensors

NOT_IN_SAFETENSORS = ("float8_e8m0fnu",)
"""Dtypes that the package has no PyTorch name for."""


def stored() -> dict[str, torch.Tensor]:
    """A tensor of every dtype that the package stores."""
    return {name: t for name, t in tensors().items() if name not in NOT_IN_SAFETENSORS}


def values(tensor: torch.Tensor) -> np.ndarray:
    """Values as flat float32; a complex number is two."""
    flat = tensor.detach().reshape(-1)
    if flat.dtype.is_complex:
        return torch.view_as_real(flat).reshape(-1).float().numpy()
    if flat.dtype in (torch.uint16, torch.uint32, torch.uint64):  # PyTorch casts few of them
        return flat.numpy().astype(np.float32)
    return flat.float().numpy()


def single() -> dict[str, bytes]:
    """The files of a model in one piece."""
    return {"model.safetensors": save(stored(), metadata={"format": "pt"})}


def sharded(folder: Path, max_shard_bytes: int = 100_000) -> dict[str, bytes]:
    """The files of a model in shards, as ``huggingface_hub`` splits them."""
    from huggingface_hub import split_torch_state_dict_into_shards

    found = stored()
    split = split_torch_state_dict_into_shards(found, max_shard_size=max_shard_bytes)
    files = {
        name: save({tensor: found[tensor] for tensor in names})
        for name, names in split.filename_to_tensors.items()
    }
    index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
    files["model.safetensors.index.json"] = json.dumps(index).encode()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return files

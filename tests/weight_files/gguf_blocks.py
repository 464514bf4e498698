"""GGUF files as the ``gguf`` package writes them, and what is in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

N_ROWS, N_COLUMNS = 6, 512


def blocks(seed: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Stored bytes (rows × bytes) and values (rows × columns) of every type that is decoded.

    Types with an encoder hold encoded normal values; the others random codes whose scales are
    ordinary numbers, since every block is a valid one.
    """
    import gguf

    rng = np.random.default_rng(seed)
    found = {}
    for kind in gguf.GGMLQuantizationType:
        n_values, n_bytes = gguf.GGML_QUANT_SIZES[kind]
        values = rng.standard_normal((N_ROWS, N_COLUMNS)).astype(np.float32)
        try:
            stored = gguf.quants.quantize(values, kind)
        except NotImplementedError:
            size = N_ROWS, N_COLUMNS // n_values * n_bytes
            stored = rng.integers(0, 256, size, np.uint8)
        try:
            with np.errstate(all="ignore"):
                decoded = gguf.quants.dequantize(stored, kind)
        except NotImplementedError:
            continue
        found[kind.name] = stored.view(np.uint8).reshape(N_ROWS, -1), decoded
    return found


def written(path: Path) -> dict[str, np.ndarray]:
    """Write a file with a tensor of every type; returns the values by the tensor's name."""
    import gguf

    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_head_count(8)
    writer.add_head_count_kv(2)
    writer.add_embedding_length(N_COLUMNS)
    values = {}
    for name, (stored, decoded) in blocks().items():
        writer.add_tensor(name, stored, raw_dtype=gguf.GGMLQuantizationType[name])
        values[name] = decoded
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return values

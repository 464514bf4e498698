"""Throughput of the sketch kernels on the CPU, and memory of a whole-file stream.

Run with ``python -m benchmarks.sketch_cpu [--checkpoint-gb 20] [--folder DIR]``. Prints GB of
stored words per second next to this machine's copy bandwidth, measured in the same run (bytes
copied per second; reading and writing them moves twice as many), with one thread and with all. Then
streams a synthetic checkpoint from a sparse file in a child process and reports its peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from lineage.weights.fingerprint import Fingerprint, Sample
from lineage.weights.roles import TensorKey
from lineage.weights.sketch import sketch_fingerprints, stream_sketch
from lineage.weights.weight import MAIN, Part, Weight

CHUNK = 16 << 20


def best_of(function: Callable[[], object], times: int = 3) -> float:
    """Seconds of the fastest of several runs."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        found.append(time.perf_counter() - start)
    return min(found)


def copy_gb_s(n_bytes: int = 256 << 20) -> float:
    source = torch.ones(n_bytes // 8, dtype=torch.int64)
    target = torch.empty_like(source)
    return n_bytes / best_of(lambda: target.copy_(source), 5) / 1e9


def chunks(data: bytes) -> Iterator[tuple[int, memoryview]]:
    view = memoryview(data)
    return ((i, view[i : i + CHUNK]) for i in range(0, len(data), CHUNK))


def matrix(dtype: str, rows: int, columns: int) -> bytes:
    values = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0)) * 0.02
    kind = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32,
            "F8_E4M3": torch.float8_e4m3fn}[dtype]  # fmt: skip
    return values.to(kind).view(torch.uint8).numpy().tobytes()


def weights_of(dtype: str, rows: int, columns: int, width: int, n: int, start: int) -> list[Weight]:
    size = rows * columns * width
    return [
        Weight(TensorKey("up", i), True, f"up.{i}", dtype, (rows, columns),
               (Part(MAIN, dtype, "file", start + i * size, start + (i + 1) * size, 1,
                     columns * width),)) for i in range(n)
    ]  # fmt: skip


def throughput() -> None:
    shapes = {"BF16": (4096, 4096), "F16": (4096, 4096), "F32": (2048, 4096),
              "F8_E4M3": (4096, 4096), "BF16 ": (4096, 896)}  # fmt: skip
    for threads in sorted({1, os.cpu_count() or 1}):
        torch.set_num_threads(threads)
        copied = copy_gb_s()
        print(f"{threads} thread(s): copy {copied:.2f} GB/s")
        for name, (rows, columns) in shapes.items():
            dtype = name.strip()
            data = matrix(dtype, rows, columns)
            weights = weights_of(dtype, rows, columns, len(data) // rows // columns, 1, 0)
            seconds = best_of(lambda d=data, w=weights: stream_sketch(chunks(d), w, device="cpu"))
            speed = len(data) / seconds / 1e9
            share = speed / copied
            print(f"  stream {dtype:8} {rows}×{columns}: {speed:.2f} GB/s, {share:.0%} of copy")
        models = [fingerprint_of(i) for i in range(8)]
        n_bytes = sum(len(s.words) for m in models for s in m.samples.values())
        seconds = best_of(lambda m=models: sketch_fingerprints(m, device="cpu"))
        print(
            f"  samples: {n_bytes / seconds / 1e9:.2f} GB/s, {seconds / len(models) * 1e3:.0f} ms "
            f"for a model of {len(models[0].samples)} tensors, {n_bytes / len(models) / 1e6:.1f} MB"
        )


def fingerprint_of(seed: int) -> Fingerprint:
    """Samples as of a 7 B model: eight rows of each of 225 matrices, and norms."""
    rng = np.random.default_rng(seed)
    samples = {}
    for layer in range(32):
        for role, columns in (("q", 4096), ("k", 4096), ("v", 4096), ("o", 4096), ("gate", 4096),
                              ("up", 4096), ("down", 11008)):  # fmt: skip
            words = rng.integers(0x3C00, 0x3E00, 8 * columns).astype("<u2").tobytes()
            samples[TensorKey(role, layer)] = Sample(
                role, "BF16", (11008, columns), tuple(range(800, 808)), words
            )
        for role in ("attn_norm", "ffn_norm"):
            words = rng.integers(0x3F00, 0x3F80, 4096).astype("<u2").tobytes()
            samples[TensorKey(role, layer)] = Sample(role, "BF16", (4096,), (0,), words)
    return Fingerprint(f"a/{seed}", "0" * 40, "probe-2", "safetensors", samples)


def make_checkpoint(path: Path, gigabytes: float) -> None:
    """A sparse safetensors file: real words in every eighth tensor, holes elsewhere."""
    rows, columns = 8192, 8192
    size = rows * columns * 2
    n = int(gigabytes * 1e9 // size)
    header = json.dumps({
        f"up.{i}": {"dtype": "BF16", "shape": [rows, columns],
                    "data_offsets": [i * size, (i + 1) * size]} for i in range(n)
    }).encode()  # fmt: skip
    data = matrix("BF16", rows, columns)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        start = file.tell()
        for i in range(0, n, 8):
            file.seek(start + i * size)
            file.write(data)
        file.truncate(start + n * size)


def stream_file(path: Path) -> None:
    """In a child: sketch the file, and print bytes, seconds and peak memory."""
    n_bytes = path.stat().st_size
    with path.open("rb", buffering=0) as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(start - 8))
        weights = weights_of("BF16", 8192, 8192, 2, len(header), start)
        file.seek(0)

        def read() -> Iterator[tuple[int, bytes]]:
            offset = 0
            while data := file.read(CHUNK):
                yield offset, data
                offset += len(data)

        base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        began = time.perf_counter()
        stream_sketch(read(), weights, device="cpu")
        seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"stream of {n_bytes / 1e9:.1f} GB from disk: {n_bytes / seconds / 1e9:.2f} GB/s, "
          f"{seconds:.0f} s, peak {peak / 1e9:.2f} GB ({base / 1e9:.2f} GB before it)")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint-gb", type=float, default=20.0)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--stream", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stream:
        stream_file(arguments.stream)
        return
    throughput()
    if arguments.checkpoint_gb:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            path = Path(folder) / "model.safetensors"
            make_checkpoint(path, arguments.checkpoint_gb)
            child = [sys.executable, "-m", "benchmarks.sketch_cpu", "--stream", str(path)]
            subprocess.run(child, check=True)


if __name__ == "__main__":
    main()

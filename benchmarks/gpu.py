"""Sketches and searches on a CUDA device: speed against its copy bandwidth, and correctness.

Run with ``python -m benchmarks.gpu`` on a machine that has one; elsewhere it says so and stops.
Copy bandwidth is told as bytes copied per second (reading and writing them moves twice as many).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

from benchmarks.sketch_cpu import CHUNK, fingerprint_of, weights_of
from lineage.weights.roles import TensorKey
from lineage.weights.sketch import (
    cosine_top_k,
    nearest_simhash,
    sketch_fingerprints,
    stream_sketch,
)
from lineage.weights.sketch.fused import has_triton
from lineage.weights.sketch.sketcher import Sketcher, Slot


def timed(function: Callable[[], object], times: int = 5) -> float:
    """Seconds of the fastest of several runs, after one to warm up."""
    function()
    found = []
    for _ in range(times):
        torch.cuda.synchronize()
        start = time.perf_counter()
        function()
        torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return min(found)


def kernels(device: torch.device) -> None:
    """Words that lie on the device, through the kernels."""
    rows, columns = 16384, 8192
    source = torch.randn(rows, columns, device=device).to(torch.bfloat16)
    target = torch.empty_like(source)
    n_bytes = source.numel() * 2
    copied = n_bytes / timed(lambda: target.copy_(source)) / 1e9
    words = source.view(torch.uint8)
    slot = Slot(0, TensorKey("up", 0), columns, rows, is_vector=False)
    numbers, slots = np.arange(rows), np.zeros(rows, np.int64)

    def run() -> None:
        sketcher = Sketcher([slot], 1, device)
        sketcher.feed_words(words, "BF16", numbers, slots, numbers)
        sketcher.tally.settle()

    speed = n_bytes / timed(run) / 1e9
    how = "Triton" if has_triton() else "torch operations"
    print(f"kernels ({how}): {speed:.0f} GB/s, {speed / copied:.0%} of copy ({copied:.0f} GB/s)")


def streams(device: torch.device) -> None:
    """Words that lie in host memory: pinned staging, copies beside computing."""
    data = np.random.default_rng(0).integers(0x3C00, 0x3E00, 1 << 29, np.uint16).view(np.uint8)
    view = memoryview(data)
    weights = weights_of("BF16", 8192, 8192, 2, len(data) // (8192 * 8192 * 2), 0)

    def run() -> None:
        chunks: Iterator[tuple[int, memoryview]] = (
            (i, view[i : i + CHUNK]) for i in range(0, len(view), CHUNK)
        )
        stream_sketch(chunks, weights, device=device)

    print(f"stream from host memory: {len(data) / timed(run, 2) / 1e9:.1f} GB/s")
    models = [fingerprint_of(i) for i in range(64)]
    seconds = timed(lambda: sketch_fingerprints(models, device=device), 2)
    print(
        f"samples: {seconds / len(models) * 1e3:.1f} ms a model of {len(models[0].samples)} tensors"
    )


def correctness(device: torch.device) -> None:
    """Against the CPU (to the bit) and float64."""
    models = [fingerprint_of(i) for i in range(2)]
    there = sketch_fingerprints(models, device=device)
    here = sketch_fingerprints(models, device="cpu")
    worst: dict[str, float] = {}
    for model, a, b in zip(models, there, here, strict=True):
        if a.simhash != b.simhash or a.norm_digest != b.norm_digest:
            raise SystemExit("SimHash or norms differ between CUDA and the CPU")
        for key, one in a.tensors.items():
            if one.digest != b.tensors[key].digest:
                raise SystemExit(f"digest of {key} differs between CUDA and the CPU")
            x = model.samples[key].values.astype(np.float64)
            centred = x - x.mean()
            for name, got, want in (
                ("mean", one.mean, x.mean()),
                ("std", one.std, x.std()),
                ("kurtosis", one.kurtosis, (centred**4).mean() / x.var() ** 2),
                ("row norms", one.row_norms[0], np.linalg.norm(x[0])),
            ):
                worst[name] = max(worst.get(name, 0.0), abs(float(got) / float(want) - 1))
    print("digests and SimHash equal to the CPU's; worst relative errors to float64:", worst)


def searches(device: torch.device, n_hashes: int, n_vectors: int) -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 256, (n_hashes, 128), np.uint8)
    # Buckets as of the Hub: a few shapes have very many models, most have one or two.
    buckets = rng.zipf(1.3, n_hashes).clip(max=n_hashes)
    sizes = np.unique(buckets, return_counts=True)[1]
    pairs = int((sizes.astype(np.int64) * (sizes - 1) // 2).sum())
    seconds = timed(lambda: nearest_simhash(hashes, buckets, max_distance=300, device=device), 1)
    print(f"SimHash, {n_hashes} models in {len(sizes)} buckets, {pairs:.2e} pairs: {seconds:.1f} s")
    matrix = rng.standard_normal((n_vectors, 512), np.float32)
    seconds = timed(lambda: cosine_top_k(matrix, 50, device=device, memory_bytes=8 << 30), 1)
    print(f"cosine top 50 of {n_vectors} × 512: {seconds:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hashes", type=int, default=3_000_000)
    parser.add_argument("--vectors", type=int, default=1_000_000)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device here: nothing was measured")
        return
    device = torch.device("cuda", 0)
    print(torch.cuda.get_device_name(device))
    correctness(device)
    kernels(device)
    streams(device)
    searches(device, arguments.hashes, arguments.vectors)


if __name__ == "__main__":
    main()

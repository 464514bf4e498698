"""The fingerprint pass over a local Hub: models per second, where the time goes, and what it saves.

A Hub in a process of its own serves models of real shape (random bf16 weights). The pass of
``herdbook fingerprint`` reads, sketches and stores them; then a bare client (threads with
``http.client`` that check nothing) reads exactly the same ranges; then the peers' way: download two
models whole and compare all their weights by cosine. Prints a table, or JSON.

    python -m benchmarks.fingerprint [--models 96] [--layers 12] [--json]
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import queue
import resource
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from unittest.mock import patch
from urllib.parse import quote, urlsplit

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from benchmarks.range_reader import served
from crawler.answers import Address
from crawler.async_client import AsyncHub
from crawler.records import FileEntry, RepoRef, RepoSnapshot
from crawler.spans import Span
from lineage import __version__
from lineage.pipeline import batches, reading
from lineage.pipeline.batches import Batch, ReaderSettings
from lineage.pipeline.executors import Done, LocalExecutor
from lineage.pipeline.reading import ReadingOptions
from lineage.store.fingerprint_ledger import LedgerRow
from lineage.weights.reference import Shape, tensors_of

P = ParamSpec("P")
T = TypeVar("T")
REVISION = "a" * 40
SHAPE = Shape("bench", 1024, 2816, 12, 256, 32_000)
BATCH = 32
"""Models of a part, as in the pass."""
DISTINCT = 2
"""Files of distinct weights; the other models are links to them."""


def build(folder: Path, shape: Shape, n_models: int) -> list[RepoSnapshot]:
    """Models of this shape as a Hub serves them."""
    snapshots = []
    for i in range(n_models):
        name = f"bench/model-{i:03d}"
        place = folder / name
        place.mkdir(parents=True)
        weights = place / "model.safetensors"
        if i < DISTINCT:
            generator = torch.Generator().manual_seed(i)
            save_file(
                {
                    entry.name: (torch.randn(entry.shape, generator=generator) * 0.02).bfloat16()
                    for entry in tensors_of(shape)
                },
                weights,
            )
        else:
            os.link(folder / f"bench/model-{i % DISTINCT:03d}/model.safetensors", weights)
        heads = {"num_attention_heads": shape.hidden // 64, "num_key_value_heads": 4}
        config = {"model_type": "llama", "hidden_size": shape.hidden, **heads}
        (place / "config.json").write_text(json.dumps(config))
        files = tuple(FileEntry(p.name, p.stat().st_size) for p in sorted(place.iterdir()))
        snapshots.append(RepoSnapshot(RepoRef(name, REVISION), datetime.now(UTC), files=files))
    models = {"models": {s.ref.repo_id: {"revision": REVISION} for s in snapshots}}
    (folder / "hub.json").write_text(json.dumps(models))
    return snapshots


class Clock:
    """CPU seconds of every thread inside some functions, by what they are for."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def timed(self, name: str, function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def run(*args: P.args, **options: P.kwargs) -> T:
            started = time.thread_time()
            try:
                return function(*args, **options)
            finally:
                spent = time.thread_time() - started
                self.seconds[name] = self.seconds.get(name, 0.0) + spent

        return run

    @contextmanager
    def watching(self) -> Iterator[None]:
        watched = (
            (reading, "lay_out", "parse"), (reading, "plan_probe", "parse"),
            (reading, "facts_of", "parse"), (reading, "make_fingerprint", "parse"),
            (batches, "sketch_fingerprints", "sketch"), (batches, "write_part", "store"),
        )  # fmt: skip
        patches = [
            patch.object(module, name, self.timed(what, getattr(module, name)))
            for module, name, what in watched
        ]
        for one in patches:
            one.start()
        try:
            yield
        finally:
            for one in patches:
                one.stop()


def run_pass(
    endpoint: str, snapshots: Sequence[RepoSnapshot], stage: int, folder: Path
) -> dict[str, Any]:
    """The pass as one worker does it, without the database."""
    options = ReadingOptions(stage=stage, device="cpu")
    settings = ReaderSettings(endpoint, options, str(folder), None, use_cache=False)
    batches = [Batch(tuple(snapshots[i : i + BATCH])) for i in range(0, len(snapshots), BATCH)]
    clock = Clock()
    with clock.watching():
        cpu, wall = time.process_time(), time.perf_counter()
        outcomes = list(LocalExecutor().map(settings, batches))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    rows: list[LedgerRow] = []
    for outcome in outcomes:
        assert isinstance(outcome, Done), outcome.reason
        assert all(row.digest for row in outcome.result.rows), outcome.result.problems
        rows += outcome.result.rows
    n = len(snapshots)
    return {
        "models_per_s": n / wall,
        "ms_per_model": 1000 * wall / n,
        "bytes_per_model": sum(row.bytes_read for row in rows) / n,
        "requests_per_model": sum(row.requests for row in rows) / n,
        "bytes_stored_per_model": sum(row.bytes_stored for row in rows) / n,
        "share_waiting": max(0.0, 1 - cpu / wall),
        "cpu_ms_per_model": 1000 * cpu / n,
        "cpu_share": {
            **{what: s / cpu for what, s in clock.seconds.items()},
            "read": 1 - sum(clock.seconds.values()) / cpu,
        },
        "seconds": wall,
    }


def ranges_of(snapshots: Sequence[RepoSnapshot], endpoint: str, stage: int) -> list[tuple]:
    """Every range that the pass asks for, as it goes over the wire."""
    asked: list[tuple[str, Span]] = []
    original = AsyncHub.get_range

    async def noted(
        hub: AsyncHub, address: Address, start: int, stop: int, received: Callable[[int], None]
    ) -> object:
        asked.append((address.url, (start, stop)))
        return await original(hub, address, start, stop, received)

    with patch.object(AsyncHub, "get_range", noted), tempfile.TemporaryDirectory() as folder:
        run_pass(endpoint, snapshots, stage, Path(folder))
    return asked


def read_bare(asked: Sequence[tuple[str, Span]], concurrency: int = 16) -> tuple[float, int]:
    """Seconds and bytes of a client that asks for the same ranges and looks at nothing."""
    wanted: queue.SimpleQueue[tuple[str, Span]] = queue.SimpleQueue()
    for one in asked:
        wanted.put(one)
    sizes: list[int] = []

    def work() -> None:
        address = urlsplit(asked[0][0])
        connection = http.client.HTTPConnection(address.hostname or "", address.port)
        while True:
            try:
                url, (start, stop) = wanted.get_nowait()
            except queue.Empty:
                break
            headers = {"Range": f"bytes={start}-{stop - 1}"}
            connection.request("GET", urlsplit(url).path, headers=headers)
            sizes.append(len(connection.getresponse().read()))
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(concurrency)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started, sum(sizes)


def compare_whole(endpoint: str, snapshots: Sequence[RepoSnapshot], folder: Path) -> dict[str, Any]:
    """The peers' way for one pair: both files downloaded, all weights compared by cosine."""
    started = time.perf_counter()
    paths = []
    for snapshot in snapshots[:2]:
        path = folder / f"{snapshot.ref.repo_id.replace('/', '-')}.safetensors"
        url = f"{endpoint}/{quote(snapshot.ref.repo_id)}/resolve/{REVISION}/model.safetensors"
        with urllib.request.urlopen(url) as answer, path.open("wb") as stream:
            while chunk := answer.read(1 << 22):
                stream.write(chunk)
        paths.append(path)
    downloaded = time.perf_counter() - started
    a, b = (load_file(path) for path in paths)
    cosines = [
        torch.nn.functional.cosine_similarity(
            a[name].flatten().float(), b[name].flatten().float(), dim=0
        ).item()
        for name in a
    ]
    seconds = time.perf_counter() - started
    n_bytes = sum(path.stat().st_size for path in paths)
    return {
        "bytes_per_model": n_bytes / 2,
        "seconds_per_model": downloaded / 2,
        "seconds_comparing_a_pair": seconds - downloaded,
        "mean_cosine": float(np.mean(cosines)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=96)
    parser.add_argument("--layers", type=int, default=SHAPE.layers)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    report: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "versions": f"herdbook {__version__}, Python {platform.python_version()}, "
        f"torch {torch.__version__}",
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "hub").mkdir()
        shape = replace(SHAPE, layers=options.layers)
        snapshots = build(folder / "hub", shape, options.models)
        report["checkpoint_bytes"] = sum(f.size_bytes for f in snapshots[0].files)
        with served("hub", folder / "hub") as endpoint:
            run_pass(endpoint, snapshots[:2], 2, folder / "warm")  # digests of files, imports
            for stage in (2, 3):
                asked = ranges_of(snapshots, endpoint, stage)
                laps = []
                for i in range(options.rounds):
                    seen = run_pass(endpoint, snapshots, stage, folder / f"parts-{stage}-{i}")
                    seen["bare_seconds"], seen["bare_bytes"] = read_bare(asked)
                    seen["of_bare"] = seen["bare_seconds"] / seen["seconds"]
                    laps.append(seen)
                laps.sort(key=lambda lap: lap["of_bare"])
                report[f"stage {stage}"] = laps[len(laps) // 2]
            report["whole files"] = compare_whole(endpoint, snapshots, folder)
    report["peak_memory_bytes"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        tell(report)


def tell(report: dict[str, Any]) -> None:
    """The report in words."""
    print(f"{report['machine']}; {report['versions']}")
    size = report["checkpoint_bytes"]
    print(f"checkpoints of {size / 1e6:,.0f} MB over HTTP on this machine")
    for stage in (2, 3):
        seen = report[f"stage {stage}"]
        split = ", ".join(f"{what} {share:.0%}" for what, share in seen["cpu_share"].items())
        print(
            f"stage {stage}: {seen['models_per_s']:.1f} models/s, "
            f"{seen['bytes_per_model'] / 1e6:.2f} MB and {seen['requests_per_model']:.0f} ranges a "
            f"model, {seen['bytes_stored_per_model'] / 1e6:.2f} MB stored; "
            f"waiting {seen['share_waiting']:.0%}, CPU: {split}; "
            f"{seen['of_bare']:.0%} of a bare client's speed on the same ranges"
        )
    whole, fine = report["whole files"], report["stage 3"]
    print(
        f"whole files: {whole['bytes_per_model'] / 1e6:,.0f} MB and "
        f"{whole['seconds_per_model']:.2f} s a model, {whole['seconds_comparing_a_pair']:.2f} s a "
        f"pair; stage 3 reads {whole['bytes_per_model'] / fine['bytes_per_model']:.0f} times less "
        f"in {fine['ms_per_model'] / 1000:.2f} s a model, sketches and storing included"
    )
    print(f"peak memory {report['peak_memory_bytes'] / 1e9:.2f} GB")


if __name__ == "__main__":
    main()

"""Candidates among millions, and families of thousands: time, memory and recall.

Run with ``python -m benchmarks.candidates`` (hours; ``--sizes`` and ``--families`` choose less).
Times are CPU seconds of one process. Prints

* how the simulated sketches agree with those of the pocket Hub, and the recall of true relatives
  there;
* for 10³ … 10⁶ simulated models (:mod:`benchmarks.simulated_sketches`) the time and memory of the
  search and the recall of parents among 50 candidates, beside brute-force cosine of the projections
  at 10³ and 10⁴;
* the whole inference for families of 100 … 5,000 siblings and for ten thousand re-uploads.

Every size runs in a process of its own, so that peak memory (``VmHWM``) is its own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.simulated_sketches import KINDS, Population, band_survival, simulate, sum_noise
from benchmarks.zoo.fingerprints import read_zoo
from lineage.infer.assemble import infer_lineage
from lineage.infer.candidates import Candidates, find_candidates, marks_of
from lineage.infer.candidates.marks import N_BANDS
from lineage.model import Grade
from lineage.weights.encodings import round_to
from lineage.weights.fingerprint import Fingerprint, Sample
from lineage.weights.probe import SCHEME
from lineage.weights.roles import TensorKey
from lineage.weights.sketch import cosine_top_k

_K = 50
_POCKET = Path(__file__).resolve().parent.parent / "data" / "pocket"


def peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def recall(found: Candidates, parents: np.ndarray, kinds: np.ndarray) -> dict[str, float]:
    """Share of parents that stand on their child's list, up to twins, by kind and of all."""
    originals = found.originals
    child, place = np.nonzero(parents >= 0)
    parent = originals[parents[child, place]]
    listed = found.others[originals[child]]
    hit = (listed == parent[:, None]).any(axis=1) | (parent == originals[child])
    shares = {
        name: float(hit[kinds[child] == number].mean())
        for number, name in enumerate(KINDS)
        if (kinds[child] == number).any()
    }
    return {"all": float(hit.mean())} | shares


def search(n: int) -> dict[str, Any]:
    """One search among `n` simulated models."""
    population = simulate(n)
    before = peak_bytes()
    start = time.process_time()
    found = find_candidates(population.marks, _K, device="cpu")
    seconds = time.process_time() - start
    result = {
        "n": n,
        "families": len(np.unique(population.families)),
        "largest": int(np.bincount(population.families).max()),
        "seconds": seconds,
        "us_per_model": 1e6 * seconds / n,
        "peak_gb": peak_bytes() / 1e9,
        "peak_before_gb": before / 1e9,
        "recall": recall(found, population.parents, population.kinds),
    }
    if n <= 10_000:
        result["cosine"] = by_cosine(population)
    return result


def by_cosine(population: Population) -> dict[str, Any]:
    """The same by brute force: 50 nearest by cosine of the projections."""
    start = time.process_time()
    nearest, _ = cosine_top_k(population.marks.projections, _K, device="cpu")
    seconds = time.process_time() - start
    everyone = np.arange(len(nearest))
    found = Candidates(population.marks.ids, everyone, nearest)
    return {
        "seconds": seconds,
        "recall": recall(found, population.parents, population.kinds),
    }


def siblings(n: int) -> dict[str, Any]:
    """The whole inference for a founder and `n` - 1 fine-tunes."""
    rng = np.random.default_rng(0)
    models = _star(rng, (_usual_change(rng) for _ in range(1, n)))
    start = time.process_time()
    found = infer_lineage(models, {})
    parents = Counter(
        finding.parents[0].parent if finding.parents else str(finding.grade)
        for finding in found.findings
    )
    right = parents["lab/founder"]
    wrong = sum(f.parents != () and f.parents[0].parent != "lab/founder" for f in found.findings)
    return {
        "n": n,
        "seconds": time.process_time() - start,
        "peak_gb": peak_bytes() / 1e9,
        "pairs": len(found.pairs),
        "to_founder": right,
        "wrong": wrong,
    }


def neighbourhood(n: int) -> dict[str, Any]:
    """Seed `n`: a founder, eleven siblings changed by .2 % and 32 by .2 to 3 %."""
    rng = np.random.default_rng(n)
    near = [0.002 + 0.00002 * i for i in range(11)]
    models = _star(rng, itertools.chain(near, (_usual_change(rng) for _ in range(32))))
    found = infer_lineage(models, {}).findings
    named = [finding for finding in found if finding.parents]
    wrong = [finding for finding in named if finding.parents[0].parent != "lab/founder"]
    return {
        "seed": n,
        "to_founder": len(named) - len(wrong),
        "asserted_of_another": sum(finding.grade is Grade.INFERRED for finding in wrong),
        "ties_of_another_with_the_founder": sum("lab/founder" in one.ties for one in wrong),
    }


def _usual_change(rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(np.log(0.002), np.log(0.03))))


def _star(rng: np.random.Generator, changes: Iterable[float]) -> list[Fingerprint]:
    """A founder and its fine-tunes, changed by noise of these relative sizes."""
    founder = {
        key: rng.normal(1 if len(shape) == 1 else 0, 0.1, shape).astype(np.float32)
        for key, shape in _SHAPES.items()
    }
    models = [_fingerprint("lab/founder", founder)]
    for number, change in enumerate(changes, 1):
        tuned = {
            key: values + rng.normal(0, 0.1 * change, values.shape).astype(np.float32)
            for key, values in founder.items()
        }
        models.append(_fingerprint(f"user{number}/tuned", tuned))
    return models


def reuploads(n: int) -> dict[str, Any]:
    """The whole inference for one model, uploaded `n` times."""
    rng = np.random.default_rng(0)
    words = {
        key: rng.normal(1 if len(shape) == 1 else 0, 0.1, shape).astype(np.float32)
        for key, shape in _SHAPES.items()
    }
    models = [_fingerprint(f"user{number}/copy", words) for number in range(n)]
    start = time.process_time()
    likes = {f"user{n // 2}/copy": 1000} | {f"user{i}/copy": 0 for i in range(n) if i != n // 2}
    found = infer_lineage(models, {}, likes)
    originals = Counter(f.parents[0].parent for f in found.findings if f.parents)
    return {
        "n": n,
        "seconds": time.process_time() - start,
        "peak_gb": peak_bytes() / 1e9,
        "of_the_liked_one": originals[f"user{n // 2}/copy"],
    }


_SHAPES: dict[TensorKey, tuple[int, ...]] = {TensorKey("embed"): (48, 32)} | {
    TensorKey(role, layer): shape
    for layer in range(2)
    for role, shape in {
        "q": (32, 32), "k": (32, 32), "v": (32, 32), "o": (32, 32), "up": (64, 32),
        "gate": (64, 32), "down": (32, 64), "attn_norm": (32,), "ffn_norm": (32,),
    }.items()
}  # fmt: skip


def _fingerprint(name: str, weights: dict[TensorKey, np.ndarray]) -> Fingerprint:
    samples = {}
    for key, values in weights.items():
        bits = round_to("BF16", values).view(np.uint32) >> 16
        rows = tuple(range(values.shape[0])) if values.ndim == 2 else (0,)
        samples[key] = Sample(str(key), "BF16", values.shape, rows, bits.astype("<u2").tobytes())
    return Fingerprint(name, "0" * 40, SCHEME, "safetensors", samples)


def pocket() -> dict[str, Any]:
    """Real fingerprints: what the simulation says of them, and the recall of true parents."""
    truth = json.loads((_POCKET / "truth.json").read_text(encoding="utf-8"))["models"]
    with tempfile.TemporaryDirectory() as folder:
        models = read_zoo(_POCKET, Path(folder))
    marks = marks_of(list(models.values()))
    number = {name: place for place, name in enumerate(marks.ids)}
    found = find_candidates(marks, _K, device="cpu")
    noise, bands, missed, n = [], [], [], 0
    for name, entry in truth.items():
        for parent in (p["id"] for p in entry["parents"]):
            if name not in number or parent not in number:
                continue
            a, b = number[name], number[parent]
            n += 1
            if found.originals[b] not in {found.originals[a], *found.others[found.originals[a]]}:
                missed.append((entry["kind"], name, parent))
            if entry["kind"] != "finetune":
                continue
            change = np.array(entry["relative_change"])
            apart = float(np.sum((marks.projections[a] - marks.projections[b]) ** 2))
            noise.append(apart / float(sum_noise(change)))
            own, other = (
                set(marks.keys[marks.starts[i] : marks.starts[i + 1]].tolist()) for i in (a, b)
            )
            bands.append((len(own & other) / N_BANDS, float(band_survival(change))))
    return {
        "noise_ratio": [float(q) for q in np.quantile(noise, (0.1, 0.5, 0.9))],
        "n_finetunes": len(noise),
        "bands_measured": float(np.mean([measured for measured, _ in bands])),
        "bands_simulated": float(np.mean([simulated for _, simulated in bands])),
        "n_parents": n,
        "missed": missed,
    }


_TASKS = {
    "search": search, "siblings": siblings, "neighbourhood": neighbourhood, "reuploads": reuploads,
}  # fmt: skip


def _apart(task: str, n: int) -> dict[str, Any]:
    """One measurement in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.candidates", "--task", task, "--n", str(n)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _shares(found: dict[str, float]) -> str:
    return ", ".join(f"{name} {share:.3f}" for name, share in found.items())


def _report(sizes: Sequence[int], families: Sequence[int], n_reuploads: int) -> None:
    real = pocket()
    low, middle, high = real["noise_ratio"]
    print(
        f"pocket Hub: squared distance of {real['n_finetunes']} fine-tunes / simulated noise: "
        f"median {middle:.2f} ({low:.2f}–{high:.2f}); keys kept {real['bands_measured']:.2f} of "
        f"the bands, simulated {real['bands_simulated']:.2f}"
    )
    print(f"  true parents on the list: {real['n_parents'] - len(real['missed'])} of "
          f"{real['n_parents']}; missed: {real['missed']}")  # fmt: skip
    for n in sizes:
        row = _apart("search", n)
        print(
            f"{n:>9,} models, {row['families']:,} families, largest {row['largest']:,}: "
            f"{row['seconds']:.1f} s, {row['us_per_model']:.0f} µs a model, peak "
            f"{row['peak_gb']:.2f} GB ({row['peak_before_gb']:.2f} before)"
        )
        print(f"          recall at {_K}: {_shares(row['recall'])}")
        if "cosine" in row:
            ratio = row["cosine"]["seconds"] / row["seconds"]
            print(
                f"          brute-force cosine: {row['cosine']['seconds']:.1f} s ({ratio:.2f} times"
                f" as long), {_shares(row['cosine']['recall'])}"
            )
    for n in families:
        row = _apart("siblings", n)
        print(
            f"{n:>9,} siblings: {row['seconds']:.1f} s, {1e3 * row['seconds'] / n:.0f} ms a model, "
            f"peak {row['peak_gb']:.2f} GB, {row['pairs']:,} pair tests, {row['to_founder']:,} "
            f"given to the founder, {row['wrong']} to others"
        )
    row = _apart("reuploads", n_reuploads)
    print(
        f"{row['n']:>9,} re-uploads: {row['seconds']:.1f} s, peak {row['peak_gb']:.2f} GB, "
        f"{row['of_the_liked_one']:,} are duplicates of the one that people like"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10**3, 10**4, 10**5, 10**6])
    parser.add_argument("--families", type=int, nargs="*", default=[100, 300, 1000, 5000])
    parser.add_argument("--reuploads", type=int, default=10_000)
    parser.add_argument("--task", choices=sorted(_TASKS))
    parser.add_argument("--n", type=int, default=1000)
    arguments = parser.parse_args()
    if arguments.task:
        json.dump(_TASKS[arguments.task](arguments.n), sys.stdout)
    else:
        _report(arguments.sizes, arguments.families, arguments.reuploads)

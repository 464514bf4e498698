"""Relatedness of a whole Hub, and animal models on large samples of one.

Run with ``python -m benchmarks.evolution.relatedness [--models 3000000] [--records 50000]``. Draws
pedigrees of the Hub's shape (many copies, a few merges of unequal shares, children heaped on old
models), then prints: seconds and peak memory of A⁻¹ and of all variances A_ii; seconds of a fit
with breeding values alone and of one with breeding values and 2,000 authors on 20,000 records, each
with what it found beside what the traits were drawn from. Each step has a process of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lineage.evolution.inheritance.animal import AnimalModelFit, fit_animal_model
from lineage.evolution.inheritance.relatedness import Relatedness, relatedness, variance_by_kind
from lineage.graph import LineageGraph

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

KINDS = ("founder", "finetune", "quantized", "merge")
OWN_VARIANCE = {"finetune": 0.2, "quantized": 0.0, "merge": 0.02}
MERGES, COPIES, FOUNDERS = 0.03, 0.3, 0.01


def hub_like(n: int, rng: np.random.Generator, *, copies: float = COPIES) -> Relatedness:
    """A pedigree of `n` models in order of birth; a model's parents are mostly much older."""
    n_founders = max(int(FOUNDERS * n), 2)
    kind = rng.choice(4, size=n, p=[0, 1 - MERGES - copies, copies, MERGES])
    kind[:n_founders] = 0
    n_parents = np.where(kind == 3, rng.integers(2, 5, n), np.where(kind == 0, 0, 1))
    child = np.repeat(np.arange(n), n_parents)
    parent = np.floor(rng.random(child.size) ** 3 * child).astype(np.int64)
    child, parent = np.divmod(np.unique(child * n + parent), n)
    weight = rng.random(child.size) + 0.1
    weight /= np.bincount(child, weights=weight, minlength=n)[child]
    start = np.concatenate(([0], np.cumsum(np.bincount(child, minlength=n))))
    graph = LineageGraph(tuple(map(str, range(n))), start, parent, weight)
    kinds = np.array(KINDS, dtype=object)[kind].tolist()
    return relatedness(graph, variance_by_kind(graph, kinds, OWN_VARIANCE))


def inherited(related: Relatedness, rng: np.random.Generator) -> Floats:
    """Breeding values drawn from N(0, A)."""
    own = np.sqrt(related.variance) * rng.normal(size=related.variance.size)
    total = moving = own
    while moving.any():
        moving = related.shares @ moving
        total = total + moving
    return np.asarray(total)


def of_all_models(n: int) -> None:
    related = hub_like(n, np.random.default_rng(0))
    before = peak_gb()
    begin = time.perf_counter()
    inverse = related.inverse
    seconds = time.perf_counter() - begin
    print(
        f"A⁻¹ of {n:,} models ({related.kept.size:,} after copies are collapsed): {seconds:.1f} s,"
    )
    print(
        f"  {inverse.nnz:,} entries, peak {peak_gb():.2f} GB ({before:.2f} GB before)", flush=True
    )
    begin = time.perf_counter()
    diagonal = related.diagonal
    seconds = time.perf_counter() - begin
    merged = int((related.graph.n_parents > 1).sum())
    print(f"all variances A_ii with {merged:,} merges: {seconds:.1f} s, peak {peak_gb():.2f} GB;")
    print(f"  from {diagonal.min():.2f} to {diagonal.max():.2f}, mean {diagonal.mean():.2f}")


def without_copies(n: int) -> None:
    related = hub_like(n, np.random.default_rng(0), copies=0.0)
    begin = time.perf_counter()
    inverse = related.inverse
    print(f"A⁻¹ of {n:,} models without copies: {time.perf_counter() - begin:.1f} s,")
    print(f"  {inverse.nnz:,} entries, peak {peak_gb():.2f} GB")


def fit_one_effect(n: int) -> None:
    rng = np.random.default_rng(1)
    related = hub_like(n, rng)
    trait = inherited(related, rng) + rng.normal(size=n)
    report(
        f"breeding values alone, {n:,} records",
        lambda: fit_animal_model(trait, np.ones((n, 1)), ["mean"], related, np.arange(n)),
        "1, 1",
    )


def fit_two_effects(n: int, n_authors: int) -> None:
    rng = np.random.default_rng(2)
    related = hub_like(n, rng)
    for text, author in (
        ("authors drawn evenly", rng.integers(0, n_authors, n)),
        ("authors drawn unevenly", np.floor(rng.random(n) ** 3 * n_authors).astype(np.int64)),
    ):
        effect = np.sqrt(0.5) * rng.normal(size=n_authors)
        trait = inherited(related, rng) + effect[author] + rng.normal(size=n)
        fit = partial(
            fit_animal_model,
            trait,
            np.ones((n, 1)),
            ["mean"],
            related,
            np.arange(n),
            {"author": author},
        )
        report(f"breeding values and {n_authors:,} {text}, {n:,} records", fit, "1, 0.5, 1")


def report(what: str, fit: Callable[[], AnimalModelFit], drawn: str) -> None:
    begin = time.perf_counter()
    found = fit()
    seconds = time.perf_counter() - begin
    errors = np.sqrt(np.diag(found.variance_covariance))
    values = ", ".join(f"{v:.3f} ± {e:.3f}" for v, e in zip(found.variance, errors, strict=True))
    print(f"{what}: {seconds:.1f} s, peak {peak_gb():.2f} GB, converged {found.converged}")
    print(f"  {', '.join(found.effects)}: {values} (drawn from {drawn})", flush=True)


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def alone(step: Callable[..., None], *arguments: int) -> None:
    process = multiprocessing.get_context("spawn").Process(target=step, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{step.__name__} ended with exit code {process.exitcode}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=3_000_000)
    parser.add_argument("--records", type=int, default=50_000)
    parser.add_argument("--grouped-records", type=int, default=20_000)
    parser.add_argument("--authors", type=int, default=2_000)
    chosen = parser.parse_args()
    alone(of_all_models, chosen.models)
    alone(without_copies, chosen.models)
    alone(fit_one_effect, chosen.records)
    alone(fit_two_effects, chosen.grouped_records, chosen.authors)


if __name__ == "__main__":
    main()

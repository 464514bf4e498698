"""The base of an adapter, where somebody also published the merged model.

A LoRA adapter holds two factors a matrix and says nothing of its base. But if the catalogue has a
model M whose change from X is that product, ``M − X ∝ B·A``, then X is what the adapter was made
for.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from lineage.model import Evidence
from lineage.weights.fingerprint import Fingerprint, Sample
from lineage.weights.roles import TensorKey

__all__ = ["adapter_base", "adapter_modules", "adapter_rank"]

F64 = NDArray[np.float64]

_SAME_CHANGE = 0.9
"""Cosine from which a change is the adapter's product; strangers' cosine is below a hundredth."""


def adapter_rank(adapter: Fingerprint) -> int | None:
    """The rank of the factors, from their shapes; None when there are none."""
    ranks = {
        min(sample.shape)
        for key, sample in adapter.samples.items()
        if ".lora_" in key.role and len(sample.shape) == 2
    }
    return max(ranks, default=None)


def adapter_modules(adapter: Fingerprint) -> tuple[str, ...]:
    """The roles of the matrices that the factors change, sorted."""
    roles = (key.role.rpartition(".lora_")[0] for key in adapter.samples)
    return tuple(sorted({role for role in roles if role}))


def adapter_base(
    adapter: Fingerprint, merged: Iterable[tuple[Fingerprint, Fingerprint]]
) -> tuple[str, Evidence] | None:
    """The base whose merged model carries this adapter's change, and the evidence.

    Parameters
    ----------
    adapter
        Fingerprint of the adapter repository.
    merged
        Pairs of a model with a low-rank change and its parent.
    """
    products = _products(adapter)
    best: tuple[float, Fingerprint, Fingerprint] | None = None
    for model, base in merged:
        cosine = _same_change(products, model, base)
        if cosine is not None and (best is None or cosine > best[0]):
            best = (cosine, model, base)
    if best is None or best[0] < _SAME_CHANGE:
        return None
    cosine, model, base = best
    return base.repo_id, Evidence(
        "adapter_product",
        cosine,
        f"the product of the adapter's factors is the change from {base.repo_id} to "
        f"{model.repo_id} (cosine {cosine:.3f})",
    )


def _products(adapter: Fingerprint) -> dict[TensorKey, tuple[tuple[int, ...], F64]]:
    """``B·A`` of every adapted matrix on the sampled rows of B, where A was read whole."""
    found = {}
    for key, up in adapter.samples.items():
        if not key.role.endswith(".lora_b"):
            continue
        role = key.role.removesuffix(".lora_b")
        down = adapter.samples.get(TensorKey(f"{role}.lora_a", key.layer, key.expert))
        if down is not None and len(down.rows) == down.shape[0]:
            product = up.values.astype(np.float64) @ down.values.astype(np.float64)
            found[TensorKey(role, key.layer, key.expert)] = (up.rows, product)
    return found


def _same_change(
    products: dict[TensorKey, tuple[tuple[int, ...], F64]],
    model: Fingerprint,
    base: Fingerprint,
) -> float | None:
    inner = ours = theirs = 0.0
    for key, (rows, product) in products.items():
        after, before = model.samples.get(key), base.samples.get(key)
        if after is None or before is None or after.shape != before.shape:
            return None
        if product.shape[1] != after.values.shape[1]:
            return None
        shared, in_product, _ = np.intersect1d(rows, after.rows, return_indices=True)
        change = _rows(after, shared) - _rows(before, shared)
        expected = product[in_product]
        inner += float((change * expected).sum())
        ours += float((expected**2).sum())
        theirs += float((change**2).sum())
    return inner / float(np.sqrt(ours * theirs)) if ours > 0 and theirs > 0 else None


def _rows(sample: Sample, rows: NDArray[np.int64]) -> F64:
    return sample.values[np.searchsorted(sample.rows, rows)].astype(np.float64)

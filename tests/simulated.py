"""Simulated families: small networks whose weights drift as trained ones do, with known history.

A founder is Gaussian with structured gains. Training adds a low-rank part (shared by everybody who
trains on the same text) and a diffuse part of its own, and the result is stored in bfloat16. This
is the forward model that `docs/inference.md` describes, by another route than the inference.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lineage.weights.encodings import round_to
from lineage.weights.fingerprint import Fingerprint, Sample
from lineage.weights.probe import SCHEME
from lineage.weights.roles import TensorKey

D, FFN, LAYERS, VOCAB = 48, 96, 4, 80


def shapes(layers: int = LAYERS, vocab: int = VOCAB) -> dict[TensorKey, tuple[int, ...]]:
    found: dict[TensorKey, tuple[int, ...]] = {
        TensorKey("embed"): (vocab, D),
        TensorKey("head"): (vocab, D),
        TensorKey("final_norm"): (D,),
    }
    for layer in range(layers):
        for role in ("q", "k", "v", "o"):
            found[TensorKey(role, layer)] = (D, D)
        found[TensorKey("gate", layer)] = found[TensorKey("up", layer)] = (FFN, D)
        found[TensorKey("down", layer)] = (D, FFN)
        found[TensorKey("attn_norm", layer)] = found[TensorKey("ffn_norm", layer)] = (D,)
    return found


Weights = dict[TensorKey, np.ndarray]


@dataclass
class Herd:
    """Grows models; every random choice comes from one seed."""

    seed: int = 0
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def founder(self, layers: int = LAYERS) -> Weights:
        return {
            key: (
                1 + 0.3 * self.rng.standard_normal(shape)
                if len(shape) == 1
                else self.rng.standard_normal(shape) * 0.05
            ).astype(np.float32)
            for key, shape in shapes(layers).items()
        }

    def train(
        self, parent: Weights, size: float, text: int | None = None, dtype: str = "BF16"
    ) -> Weights:
        """Move by `size` relative; `text` fixes the directions shared by all who train on it."""
        shared = np.random.default_rng(1000 + text) if text is not None else self.rng
        child = {}
        for key, values in parent.items():
            step = self.rng.standard_normal(values.shape)
            if values.ndim == 2:
                u = shared.standard_normal((values.shape[0], 4))
                v = shared.standard_normal((4, values.shape[1]))
                low = u @ v
                step = step / np.linalg.norm(step) + 1.5 * low / np.linalg.norm(low)
            step *= size * np.linalg.norm(values) / np.linalg.norm(step)
            child[key] = round_to(dtype, (values + step).astype(np.float32))
        return child


def stored(weights: Weights, dtype: str = "BF16") -> Weights:
    return {key: round_to(dtype, values) for key, values in weights.items()}


def words_of(values: np.ndarray, dtype: str) -> bytes:
    if dtype == "BF16":
        bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32) >> 16
        return bits.astype("<u2").tobytes()
    return values.astype({"F32": "<f4", "F16": "<f2"}[dtype]).tobytes()


def fingerprint(name: str, weights: Weights, dtype: str = "BF16", **extra) -> Fingerprint:
    samples = {
        key: Sample(
            str(key),
            dtype,
            values.shape,
            tuple(range(values.shape[0])) if values.ndim == 2 else (0,),
            words_of(values, dtype),
        )
        for key, values in weights.items()
    }
    return Fingerprint(name, "0" * 40, SCHEME, "safetensors", samples, **extra)

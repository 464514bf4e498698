"""Merge configurations as people publish them, drawn at random.

Methods, weights, densities, gradients, number types and layer ranges are drawn with the
frequencies counted in 65 configurations of real model cards (a collection of 372 cards, MPL-2.0;
only the counts are kept here). Half of all merges follow those frequencies, the others take every
method of mergekit in turn: some that no card of the collection used must still be tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

__all__ = ["METHODS", "MergeDrawer"]

_PUBLISHED: Final = {
    "slerp": 22, "dare_ties": 16, "passthrough": 15, "ties": 6, "task_arithmetic": 5, "linear": 1,
}  # fmt: skip
METHODS: Final = (
    "linear", "slerp", "task_arithmetic", "ties", "dare_ties", "nuslerp", "della", "breadcrumbs",
    "model_stock", "passthrough", "dare_linear", "multislerp", "karcher", "sce", "della_linear",
    "breadcrumbs_ties", "nearswap", "arcee_fusion",
)  # fmt: skip
"""Every method of mergekit 0.1.5 but its two reinforcement variants, which no card names."""

_DTYPES: Final = {"bfloat16": 45, "float16": 19, "float32": 1}
_WEIGHTS: Final = {
    0.2: 12, 0.3: 11, 1.0: 11, 0.4: 9, 0.14: 7, 0.5: 7, 0.19: 4, 0.15: 2, 0.41: 2, 0.02: 2, 0.06: 2,
    0.6: 1, 0.18: 1, 0.7: 1, 0.33: 1, 0.21: 1, 0.22: 1, 0.08: 1, 0.25: 1,
}  # fmt: skip
_GRADIENTS: Final = {  # over the layers, in the first of several models
    (0.22, 0.113, 0.113, 0.113, 0.113, 0.113): 4, (0.02, 0.081, 0.081, 0.081, 0.081, 0.081): 2,
    (0.21, 0.115, 0.115, 0.115, 0.115, 0.115): 2, (0.04, 0.103, 0.103, 0.103, 0.103, 0.103): 1,
}  # fmt: skip
_GRADIENT_SHARE: Final = 12 / 93
_DENSITIES: Final = {
    0.5: 15, 0.8: 10, 0.4: 9, 0.6: 7, 0.61: 6, 1.0: 5, 0.59: 4, 0.62: 3, 0.52: 3, 0.08: 2, 0.56: 2,
    0.53: 2, 0.36: 2, 0.41: 2, 0.7: 1, 0.2: 1, 0.46: 1, 0.39: 1,
}  # fmt: skip
_N_MODELS: Final = {
    "dare_ties": {4: 7, 6: 3, 2: 2, 7: 2, 8: 1, 11: 1},
    "ties": {2: 3, 3: 2, 5: 1},
    "task_arithmetic": {4: 2, 2: 2, 3: 1},
    "linear": {2: 1, 3: 1},
}
_N_MODELS_ELSE: Final = {2: 3, 3: 2, 4: 1}
_T: Final = {
    "modules": 16,  # one gradient for attention, its mirror image for the feed-forward blocks
    "with_head": 4,  # the same, and a t of their own for the token matrices
    "constant": 2,
}
_T_GRADIENT: Final = ((0, 0.5, 0.3, 0.7, 1), (1, 0.5, 0.7, 0.3, 0))
_T_GRADIENT_2: Final = ((0, 0.4, 0.2, 0.6, 0.9), (1, 0.6, 0.8, 0.4, 0.1))
_T_CONSTANT: Final = {0.5: 3, 0.3: 1, 0.4: 1, 0.55: 1, 0.75: 1}
_STACKS: Final = {  # as shares of the layers
    ((0, 0.75), (0.25, 1)): 8, ((0, 1), (0.75, 1)): 2, ((0, 0.5), (0.25, 0.75), (0.5, 1)): 1,
    ((0, 0.325), (0.075, 0.55), (0.35, 0.675), (0.575, 1)): 1,
    ((0, 0.5), (0.25, 0.75), (0.53, 1), (0.78, 1)): 1, ((0, 1), (0.97, 1), (0.92, 0.94)): 1,
}  # fmt: skip
_ONLY_TWO: Final = frozenset({"slerp", "nuslerp", "nearswap", "arcee_fusion"})
_BASED: Final = frozenset(  # on a common base, which is no parent by itself
    {"task_arithmetic", "ties", "dare_ties", "dare_linear", "della", "della_linear",
     "breadcrumbs", "breadcrumbs_ties", "model_stock", "sce"}
)  # fmt: skip
_SPARSE: Final = frozenset(
    {"ties", "dare_ties", "dare_linear", "della", "della_linear", "breadcrumbs", "breadcrumbs_ties"}
)
_DENSITY_BOUNDS: Final = {  # with mergekit's defaults of epsilon (.15) and gamma (.01)
    "della": (0.2, 0.8), "della_linear": (0.2, 0.8), "breadcrumbs": (0.0, 0.85),
    "breadcrumbs_ties": (0.0, 0.85),
}  # fmt: skip
_UNWEIGHTED: Final = frozenset({"model_stock", "sce", "karcher", "arcee_fusion", "nearswap"})


@dataclass
class MergeDrawer:
    """Draws configurations. Every second one takes the next method of :data:`METHODS`."""

    random: np.random.Generator
    n_drawn: int = 0

    def draw(
        self, models: Sequence[str], base: str, n_layers: int, method: str | None = None
    ) -> dict[str, Any]:
        """A mergekit configuration over some of `models`, all of one shape.

        Parameters
        ----------
        models
            Candidates, at least two; the base is not among them.
        base
            Their common base, for the methods that need one.
        n_layers
            Layers of each.
        method
            Name of a method; None draws it.
        """
        if method is None:
            method = self._method()
        if method == "passthrough":
            return self._stack(models, n_layers)
        n_models = 2 if method in _ONLY_TWO else self._n_models(method, len(models))
        chosen = [str(name) for name in self.random.permutation(list(models))[:n_models]]
        config: dict[str, Any] = {"merge_method": method, "dtype": self._of(_DTYPES)}
        if method == "slerp":
            sources = [{"model": name, "layer_range": [0, n_layers]} for name in chosen]
            config["slices"] = [{"sources": sources}]
            config["base_model"] = chosen[0]
            config["parameters"] = {"t": self._t()}
            return config
        config["models"] = list(self._entries(method, chosen))
        if method in ("nearswap", "arcee_fusion"):
            config["base_model"] = chosen[0]
        elif method in _BASED:
            config["base_model"] = base
        config.update(self._parameters(method))
        return config

    def _method(self) -> str:
        self.n_drawn += 1
        if self.n_drawn % 2:
            return METHODS[(self.n_drawn // 2) % len(METHODS)]
        return str(self._of(_PUBLISHED))

    def _of(self, counts: dict[Any, int]) -> Any:  # noqa: ANN401  (what the table holds)
        """One of the keys, as often as it was counted."""
        shares = np.array(list(counts.values()), dtype=float)
        return list(counts)[self.random.choice(len(counts), p=shares / shares.sum())]

    def _n_models(self, method: str, n_candidates: int) -> int:
        return min(self._of(_N_MODELS.get(method, _N_MODELS_ELSE)), n_candidates)

    def _entries(self, method: str, chosen: Sequence[str]) -> Iterator[dict[str, Any]]:
        gradients = self.random.random() < _GRADIENT_SHARE and len(chosen) > 2
        for name in chosen:
            parameters: dict[str, Any] = {}
            if method not in _UNWEIGHTED:
                weight = self._of(_GRADIENTS) if gradients else self._of(_WEIGHTS)
                parameters["weight"] = list(weight) if isinstance(weight, tuple) else weight
            if method in _SPARSE:
                low, high = _DENSITY_BOUNDS.get(method, (0.0, 1.0))
                parameters["density"] = min(max(self._of(_DENSITIES), low), high)
            yield {"model": name} | ({"parameters": parameters} if parameters else {})

    def _parameters(self, method: str) -> dict[str, Any]:
        if method in ("ties", "dare_ties"):
            return {"parameters": {"normalize": bool(method == "ties"), "int8_mask": True}}
        if method == "nearswap":
            return {"parameters": {"t": float(self.random.choice([1e-4, 2e-4, 5e-4]))}}
        if method == "sce":
            return {"parameters": {"select_topk": float(self.random.choice([0.1, 0.5, 1.0]))}}
        return {}

    def _t(self) -> float | list[dict[str, Any]]:
        kind = self._of(_T)
        if kind == "constant":
            return float(self._of(_T_CONSTANT))
        attention, mlp = _T_GRADIENT_2 if self.random.random() < 1 / 16 else _T_GRADIENT
        t: list[dict[str, Any]] = [
            {"filter": "self_attn", "value": list(attention)},
            {"filter": "mlp", "value": list(mlp)},
            {"value": 0.5},
        ]
        if kind == "with_head":
            share = float(self._of({0.5: 1, 0.55: 1, 0.75: 2}))
            t = [{"filter": name, "value": [share]} for name in ("lm_head", "embed_tokens")] + t
        return t

    def _stack(self, models: Sequence[str], n_layers: int) -> dict[str, Any]:
        n_models = 1 + int(self.random.random() < 2 / 3)  # the others are stacked on themselves
        chosen = [str(name) for name in self.random.permutation(list(models))[:n_models]]
        slices = []
        for number, (start, stop) in enumerate(self._of(_STACKS)):
            first = min(round(start * n_layers), n_layers - 1)
            layers = [first, max(round(stop * n_layers), first + 1)]
            slices.append(
                {"sources": [{"model": chosen[number % n_models], "layer_range": layers}]}
            )
        return {"slices": slices, "merge_method": "passthrough", "dtype": self._of(_DTYPES)}

"""Gradient descent and measured losses of the small models."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from .architectures import open_model
from .text import DOMAINS, SPECIAL_TOKENS, Corpus

__all__ = [
    "NAMES_OF_DTYPES", "batch_of", "evaluate", "load_model", "prepare_torch", "relative_change",
    "state_of", "train",
]  # fmt: skip

_WINDOW = 64
_EVALUATION_WINDOWS = 48
_MASK = SPECIAL_TOKENS.index("<|reserved_0|>")
_MASKED_SHARE = 0.15
_IGNORED = -100
NAMES_OF_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def prepare_torch() -> None:
    """One thread a process and deterministic kernels."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.use_deterministic_algorithms(True, warn_only=True)


def load_model(folder: Path) -> PreTrainedModel:
    """The stored weights, loaded as float32 (what a real fine-tune starts from)."""
    return open_model(str(folder), torch.float32)


def state_of(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """A detached copy of all parameters."""
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def train(
    model: PreTrainedModel,
    corpus: Corpus,
    mixture: Mapping[str, float],
    *,
    steps: int,
    learning_rate: float,
    seed: int,
    batch: int = 8,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.95),
    teacher: PreTrainedModel | None = None,
) -> float:
    """Train in place with AdamW and a cosine schedule; returns the mean loss of the last tenth.

    The loss is that of the text, or with a `teacher` the divergence from what it would say.
    """
    random = np.random.default_rng(seed)
    names = list(mixture)
    shares = np.array([mixture[name] for name in names]) / sum(mixture.values())
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    decayed = [p for n, p in trained if p.ndim == 2 and "embed" not in n and "wte" not in n]
    kept = {id(p) for p in decayed}
    optimiser = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": weight_decay},
            {"params": [p for _, p in trained if id(p) not in kept], "weight_decay": 0.0},
        ],
        lr=learning_rate,
        betas=betas,
        fused=True,
    )
    warm_up = max(1, steps // 20)
    losses = []
    model.train()
    for step in range(steps):
        scale = min((step + 1) / warm_up, 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * scale
        rows = []
        for domain in random.choice(len(names), size=batch, p=shares):
            ids = corpus.train[names[domain]]
            start = int(random.integers(0, len(ids) - _WINDOW))
            rows.append(ids[start : start + _WINDOW])
        inputs = batch_of(model, np.stack(rows), random)
        loss = model(**inputs).loss if teacher is None else _divergence(model, teacher, inputs)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for _, p in trained], 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if step >= steps - max(1, steps // 10):
            losses.append(float(loss.detach()))
    return float(np.mean(losses))


def _divergence(
    model: PreTrainedModel, teacher: PreTrainedModel, inputs: dict[str, Any]
) -> torch.Tensor:
    with torch.inference_mode():
        aim = teacher(**inputs).logits.flatten(0, 1).softmax(-1)
    said = model(**inputs).logits.flatten(0, 1).log_softmax(-1)
    return torch.nn.functional.kl_div(said, aim.clone(), reduction="batchmean")


def evaluate(model: PreTrainedModel, corpus: Corpus) -> dict[str, float]:
    """Held-out cross-entropy in nats per token, for every domain, on fixed windows."""
    model.eval()
    results = {}
    with torch.inference_mode():
        for name in DOMAINS:
            ids = corpus.held_out[name]
            starts = np.linspace(0, len(ids) - _WINDOW, _EVALUATION_WINDOWS).astype(int)
            windows = np.stack([ids[start : start + _WINDOW] for start in starts])
            inputs = batch_of(model, windows, np.random.default_rng(0))
            results[name] = float(model(**inputs).loss)
    return results


def batch_of(
    model: PreTrainedModel, windows: np.ndarray, random: np.random.Generator
) -> dict[str, Any]:
    """What a model is given to learn from windows of token ids.

    The next token of each; or, for a masked language model, 15 % of the tokens, which are masked.
    """
    tokens = torch.from_numpy(windows.astype(np.int64))
    if model.config.model_type != "bert":
        return {"input_ids": tokens, "labels": tokens, "use_cache": False}
    masked = torch.from_numpy(random.random(windows.shape) < _MASKED_SHARE)
    return {
        "input_ids": tokens.masked_fill(masked, _MASK),
        "labels": tokens.masked_fill(~masked, _IGNORED),
    }


def relative_change(child: Mapping[str, torch.Tensor], parent: Mapping[str, torch.Tensor]) -> float:
    """``‖δ‖ / ‖W‖`` over the parameters that have one name and one shape in both."""
    change = norm = 0.0
    for name, before in parent.items():
        after = child.get(name)
        if after is not None and after.shape == before.shape:
            change += float((after.double() - before.double()).square().sum())
            norm += float(before.double().square().sum())
    return math.sqrt(change / norm)

"""Configurations, gradient descent and measured losses of the pocket models."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedModel

from .text import DOMAINS, Corpus

__all__ = [
    "NAMES_OF_DTYPES", "evaluate", "load_model", "new_model", "prepare_torch", "relative_change",
    "state_of", "train",
]  # fmt: skip

_WINDOW = 64
_EVALUATION_WINDOWS = 48
NAMES_OF_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def prepare_torch() -> None:
    """One thread a process and deterministic kernels."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.use_deterministic_algorithms(True, warn_only=True)


def _config(architecture: str, vocabulary: int) -> LlamaConfig | GPT2Config:
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
    if architecture == "gpt2":
        return GPT2Config(
            vocab_size=vocabulary, n_positions=256, n_embd=64, n_layer=3, n_head=4,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **special,
        )  # fmt: skip
    hidden, ffn, layers, heads = {"llama": (64, 128, 6, 4), "llama_wide": (96, 128, 3, 6)}[
        architecture
    ]
    return LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=ffn,
        num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=2,
        max_position_embeddings=256, rms_norm_eps=1e-6, tie_word_embeddings=False, **special,
    )  # fmt: skip


def new_model(architecture: str, vocabulary: int, seed: int) -> PreTrainedModel:
    """A freshly initialised model; equal seeds give equal weights."""
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(_config(architecture, vocabulary))


def load_model(folder: Path) -> PreTrainedModel:
    """The stored weights, loaded as float32 (what a real fine-tune starts from)."""
    return AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32)


def state_of(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """A detached copy of all parameters."""
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def train(
    model: torch.nn.Module,
    corpus: Corpus,
    mixture: Mapping[str, float],
    *,
    steps: int,
    learning_rate: float,
    seed: int,
    batch: int = 8,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.95),
) -> float:
    """Train in place with AdamW and a cosine schedule; returns the mean loss of the last tenth."""
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
        tokens = torch.from_numpy(np.stack(rows).astype(np.int64))
        loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for _, p in trained], 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if step >= steps - max(1, steps // 10):
            losses.append(float(loss.detach()))
    return float(np.mean(losses))


def evaluate(model: torch.nn.Module, corpus: Corpus) -> dict[str, float]:
    """Held-out cross-entropy in nats per token, for every domain, on fixed windows."""
    model.eval()
    results = {}
    with torch.inference_mode():
        for name in DOMAINS:
            ids = corpus.held_out[name]
            starts = np.linspace(0, len(ids) - _WINDOW, _EVALUATION_WINDOWS).astype(int)
            tokens = torch.from_numpy(
                np.stack([ids[start : start + _WINDOW] for start in starts]).astype(np.int64)
            )
            results[name] = float(model(input_ids=tokens, labels=tokens, use_cache=False).loss)
    return results


def relative_change(child: Mapping[str, torch.Tensor], parent: Mapping[str, torch.Tensor]) -> float:
    """``‖δ‖ / ‖W‖`` over the parameters that have one name and one shape in both."""
    change = norm = 0.0
    for name, before in parent.items():
        after = child.get(name)
        if after is not None and after.shape == before.shape:
            change += float((after.double() - before.double()).square().sum())
            norm += float(before.double().square().sum())
    return math.sqrt(change / norm)

"""Changes that no gradient made: directions removed, tokens, layers and units added or dropped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from .training import load_model
from .workshop import Workshop

__all__ = [
    "add_noise", "add_tokens_to_vocabulary", "keep_layers", "keep_units", "permute_units",
    "reindex_vocabulary", "remove_direction",
]  # fmt: skip


def remove_direction(
    network: PreTrainedModel, mixture_a: str, mixture_b: str, shop: Workshop
) -> None:
    """Abliterate: project a direction out of everything that writes into the residual stream.

    The direction is the difference of the mean hidden states of two texts, in the middle layer.
    """
    network.eval()
    middle = network.config.num_hidden_layers // 2
    means = []
    for domain in (mixture_a, mixture_b):
        tokens = torch.from_numpy(shop.corpus.train[domain][:4096].astype(np.int64)).view(-1, 64)
        with torch.inference_mode():
            hidden = network(input_ids=tokens, output_hidden_states=True).hidden_states[middle]
        means.append(hidden.flatten(0, 1).mean(0))
    direction = torch.nn.functional.normalize(means[0] - means[1], dim=0)
    with torch.no_grad():
        embedding = network.model.embed_tokens.weight
        embedding -= torch.outer(embedding @ direction, direction)
        for block in network.model.layers:
            for writer in (block.self_attn.o_proj.weight, block.mlp.down_proj.weight):
                writer -= torch.outer(direction, direction @ writer)


def keep_layers(network: PreTrainedModel, layers: tuple[int, ...]) -> None:
    """Drop all but some layers."""
    holder, name = _layers_of(network)
    blocks = getattr(holder, name)
    setattr(holder, name, torch.nn.ModuleList(blocks[n] for n in layers))
    network.config.num_hidden_layers = len(layers)


def _layers_of(network: PreTrainedModel) -> tuple[Any, str]:
    if hasattr(network, "transformer"):
        return network.transformer, "h"
    if hasattr(network, "bert"):
        return network.bert.encoder, "layer"
    return network.model, "layers"


def keep_units(network: PreTrainedModel, n_units: int) -> None:
    """Drop all but the strongest hidden units of every feed-forward block."""
    with torch.no_grad():
        for block in network.model.layers:
            part = block.mlp
            strength = part.gate_proj.weight.norm(dim=1) * part.up_proj.weight.norm(dim=1)
            strength *= part.down_proj.weight.norm(dim=0)
            kept = strength.topk(n_units).indices.sort().values
            part.gate_proj.weight = torch.nn.Parameter(part.gate_proj.weight[kept])
            part.up_proj.weight = torch.nn.Parameter(part.up_proj.weight[kept])
            part.down_proj.weight = torch.nn.Parameter(part.down_proj.weight[:, kept])
    network.config.intermediate_size = n_units


def permute_units(network: PreTrainedModel, generator: torch.Generator) -> None:
    """The hidden units of every feed-forward block in another order."""
    with torch.no_grad():
        for block in network.model.layers:
            feed_forward = block.mlp
            order = torch.randperm(feed_forward.up_proj.weight.shape[0], generator=generator)
            feed_forward.gate_proj.weight.copy_(feed_forward.gate_proj.weight[order])
            feed_forward.up_proj.weight.copy_(feed_forward.up_proj.weight[order])
            feed_forward.down_proj.weight.copy_(feed_forward.down_proj.weight[:, order])


def add_noise(network: PreTrainedModel, relative: float, generator: torch.Generator) -> None:
    """Add Gaussian noise of the norm ``relative`` · ‖W‖ to every matrix."""
    with torch.no_grad():
        for value in network.parameters():
            if value.ndim > 1:
                noise = torch.randn(value.shape, generator=generator)
                value += noise * (relative * value.norm() / noise.norm())


def add_tokens_to_vocabulary(out: Path, first_id: int, tokens: tuple[str, ...]) -> None:
    """Enter special tokens in the tokenizer of a repository."""
    tokenizer = json.loads((out / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["added_tokens"] += [
        {
            "id": first_id + number, "content": token, "single_word": False, "lstrip": False,
            "rstrip": False, "normalized": False, "special": True,
        }
        for number, token in enumerate(tokens)
    ]  # fmt: skip
    (out / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")


def reindex_vocabulary(
    network: PreTrainedModel, n_kept: int, seed: int, out: Path, shop: Workshop
) -> PreTrainedModel:
    """Drop the latest tokens, number the others anew, and store all of it."""
    order = torch.randperm(n_kept, generator=torch.Generator().manual_seed(seed))
    rows = network.get_input_embeddings().weight.detach()[order].clone()
    head = network.get_output_embeddings()
    head_rows = head.weight.detach()[order].clone()
    biases = None if head.bias is None else head.bias.detach()[order].clone()
    network.resize_token_embeddings(n_kept, mean_resizing=False)
    with torch.no_grad():
        network.get_input_embeddings().weight.copy_(rows)
        network.get_output_embeddings().weight.copy_(head_rows)
        if biases is not None:
            network.get_output_embeddings().bias.copy_(biases)
    shop.save(network, out, "BF16")
    new_id = {int(old): new for new, old in enumerate(order)}
    tokenizer = json.loads((out / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = {t: new_id[i] for t, i in tokenizer["model"]["vocab"].items() if i < n_kept}
    tokenizer["model"]["vocab"] = vocabulary
    pairs = [m if isinstance(m, list) else m.split(" ") for m in tokenizer["model"]["merges"]]
    tokenizer["model"]["merges"] = [pair for pair in pairs if "".join(pair) in vocabulary]
    for token in tokenizer["added_tokens"]:
        token["id"] = new_id[token["id"]]
    (out / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    config = json.loads((out / "config.json").read_text())
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        if isinstance(config.get(key), int):
            config[key] = new_id[config[key]]
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    return load_model(out)

"""Merges: by mergekit itself, and mixtures of experts as mergekit's second tool builds them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import LlamaConfig, PreTrainedModel

from .recipes import MergekitMerge, Moe, ancestry_of
from .training import load_model, state_of
from .workshop import WEIGHTS, Workshop, stored_state

__all__ = ["measured_shares", "merge", "mixture_of_experts"]


def merge(recipe: MergekitMerge, out: Path, shop: Workshop) -> PreTrainedModel:
    """Run mergekit on a configuration and keep it beside the weights."""
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    text = yaml.safe_dump(_plain(recipe.config), sort_keys=False)
    # Models are named as on the Hub, and found as folders below the working directory. The
    # card is written later: mergekit's own asks the Hub which of them exist.
    os.chdir(shop.root)
    run_merge(
        MergeConfiguration.model_validate(yaml.safe_load(text)),
        str(out),
        MergeOptions(
            copy_tokenizer=False, write_model_card=False, quiet=True, random_seed=recipe.seed
        ),
    )
    (out / "mergekit_config.yml").write_text(text, encoding="utf-8")
    shop.write_tokenizer(out)
    return load_model(out)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def measured_shares(
    result: PreTrainedModel, recipe: MergekitMerge, shop: Workshop
) -> dict[str, float]:
    """Least squares of the merge's change from the base on its parents' changes."""
    line = ancestry_of(recipe)
    base_name = str(recipe.config["base_model"])
    base = state_of(shop.load(base_name))

    def change(state: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return torch.cat([(state[n] - base[n]).flatten().double() for n in base])

    names = [name for name, _ in line.parents if name != base_name]
    changes = torch.stack([change(state_of(shop.load(name))) for name in names], dim=1)
    found = torch.linalg.lstsq(changes, change(state_of(result))[:, None]).solution.flatten()
    return {name: round(float(share), 4) for name, share in zip(names, found, strict=True)}


def mixture_of_experts(recipe: Moe, out: Path, shop: Workshop) -> PreTrainedModel:
    """Feed-forward blocks of dense Llamas as experts, the rest from the base, a random gate."""
    source = shop.folder(recipe.base)
    state = {n: t for n, t in stored_state(source).items() if ".mlp." not in n}
    dense = LlamaConfig.from_pretrained(str(source))
    generator = torch.Generator().manual_seed(recipe.seed)
    for layer in range(dense.num_hidden_layers):
        prefix = f"model.layers.{layer}"
        gate = torch.randn(len(recipe.experts), dense.hidden_size, generator=generator) * 0.02
        state[f"{prefix}.block_sparse_moe.gate.weight"] = gate.to(torch.bfloat16)
        for number, expert in enumerate(recipe.experts):
            with safe_open(str(shop.folder(expert) / WEIGHTS), "pt") as file:
                for here, there in (("w1", "gate_proj"), ("w2", "down_proj"), ("w3", "up_proj")):
                    name = f"{prefix}.block_sparse_moe.experts.{number}.{here}.weight"
                    state[name] = file.get_tensor(f"{prefix}.mlp.{there}.weight")
    save_file(state, str(out / WEIGHTS), {"format": "pt"})
    kept = (
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
        "num_attention_heads", "num_key_value_heads", "max_position_embeddings", "rms_norm_eps",
        "tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id",
    )  # fmt: skip
    config = {key: getattr(dense, key) for key in kept} | {
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "num_local_experts": len(recipe.experts),
        "num_experts_per_tok": 2,
        "rope_theta": 10000.0,
        "dtype": "bfloat16",
    }
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    recipe_text = {
        "base_model": recipe.base,
        "gate_mode": "random",
        "dtype": "bfloat16",
        "experts": [{"source_model": e, "positive_prompts": [""]} for e in recipe.experts],
    }
    (out / "mergekit_moe_config.yml").write_text(yaml.safe_dump(recipe_text, sort_keys=False))
    shop.write_tokenizer(out)
    return load_model(out)

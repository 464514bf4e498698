"""Carry out one recipe: read the parents' repositories, write the child's, measure its losses."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, PreTrainedModel
from transformers import logging as transformers_logging

from .quantise import write_gguf, write_int8
from .recipes import (
    Abliterate,
    AdapterMerge,
    AppendVocabulary,
    Cast,
    Copy,
    FineTune,
    Gguf,
    Int8,
    KeepLayers,
    LoraAdapter,
    LoraMerge,
    MergekitMerge,
    Moe,
    PermuteUnits,
    Pretrain,
    Recipe,
    Reshard,
    ancestry_of,
)  # fmt: skip
from .text import DOMAINS, SPECIAL_TOKENS, Corpus, load_corpus
from .training import (
    NAMES_OF_DTYPES,
    evaluate,
    load_model,
    new_model,
    prepare_torch,
    relative_change,
    state_of,
    train,
)  # fmt: skip

__all__ = ["Made", "make"]

_WEIGHTS = "model.safetensors"


@dataclass(frozen=True, slots=True)
class Made:
    """What was measured while a model was made."""

    id: str
    losses: dict[str, float]
    relative_change: float | None
    measured_shares: dict[str, float] | None = None


@dataclass(frozen=True, slots=True)
class _Workshop:
    root: Path
    scratch: Path
    corpus: Corpus

    def folder(self, model: str) -> Path:
        return self.root / model

    def load(self, model: str) -> PreTrainedModel:
        return load_model(self.folder(model))


def make(model: str, recipe: Recipe, root: Path, scratch: Path) -> Made:
    """Make one repository below `root`; everything but the card."""
    prepare_torch()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    shop = _Workshop(root.resolve(), scratch.resolve(), load_corpus(scratch))
    out = shop.folder(model)
    out.mkdir(parents=True)
    result = _carry_out(recipe, out, shop)
    losses = evaluate(result, shop.corpus)
    parents = ancestry_of(recipe).parents
    change = None
    if len(parents) == 1 and not isinstance(recipe, KeepLayers | PermuteUnits | MergekitMerge):
        change = relative_change(state_of(result), state_of(shop.load(parents[0][0])))
    shares = None
    if isinstance(recipe, MergekitMerge) and recipe.config["merge_method"] == "model_stock":
        shares = _measured_shares(result, recipe, shop)
    return Made(model, {name: losses[name] for name in DOMAINS}, change, shares)


def _measured_shares(
    result: PreTrainedModel, recipe: MergekitMerge, shop: _Workshop
) -> dict[str, float]:
    """Least squares of the merge's change from the base on its parents' changes."""
    line = ancestry_of(recipe)
    base = state_of(shop.load(str(line.base)))

    def change(state: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return torch.cat([(state[n] - base[n]).flatten().double() for n in base])

    names = [name for name, _ in line.parents]
    changes = torch.stack([change(state_of(shop.load(name))) for name in names], dim=1)
    found = torch.linalg.lstsq(changes, change(state_of(result))[:, None]).solution.flatten()
    return {name: round(float(share), 4) for name, share in zip(names, found, strict=True)}


def _carry_out(recipe: Recipe, out: Path, shop: _Workshop) -> PreTrainedModel:
    match recipe:
        case Pretrain():
            return _pretrain(recipe, out, shop)
        case FineTune():
            network = shop.load(recipe.parent)
            _tune(network, recipe, shop)
            return _save(network, out, recipe.dtype, shop)
        case LoraAdapter():
            tuned = _lora(recipe, shop)
            tuned.save_pretrained(str(out))
            (out / "README.md").unlink(missing_ok=True)
            config = json.loads((out / "adapter_config.json").read_text())
            config["base_model_name_or_path"] = recipe.parent
            (out / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
            return tuned.merge_and_unload()
        case AdapterMerge():
            from peft import PeftModel

            tuned = PeftModel.from_pretrained(
                shop.load(recipe.base), str(shop.folder(recipe.adapter))
            )
            return _save(tuned.merge_and_unload(), out, "BF16", shop)
        case LoraMerge():
            return _save(_lora(recipe.adapter, shop).merge_and_unload(), out, "BF16", shop)
        case Abliterate():
            return _abliterate(recipe, out, shop)
        case Cast():
            return _save(shop.load(recipe.parent), out, recipe.dtype, shop)
        case Copy():
            shutil.copytree(shop.folder(recipe.parent), out, dirs_exist_ok=True)
            return load_model(out)
        case Reshard():
            return _reshard(recipe.parent, out, shop)
        case Gguf() | Int8():
            return _quantise(recipe, out, shop)
        case AppendVocabulary():
            return _append_vocabulary(recipe, out, shop)
        case KeepLayers():
            network = shop.load(recipe.parent)
            blocks = network.model.layers
            network.model.layers = torch.nn.ModuleList(blocks[n] for n in recipe.layers)
            network.config.num_hidden_layers = len(recipe.layers)
            _save(network, out, "BF16", shop)
            return load_model(out)
        case PermuteUnits():
            return _permute(recipe, out, shop)
        case MergekitMerge():
            return _merge(recipe, out, shop)
        case Moe():
            return _mixture_of_experts(recipe, out, shop)


def _save(network: PreTrainedModel, out: Path, dtype: str, shop: _Workshop) -> PreTrainedModel:
    """Store the weights in `dtype`; returns the network as a reader finds it."""
    copy.deepcopy(network).to(NAMES_OF_DTYPES[dtype]).save_pretrained(str(out))
    (out / "generation_config.json").unlink(missing_ok=True)
    _write_tokenizer(out, shop)
    return load_model(out)


def _write_tokenizer(out: Path, shop: _Workshop) -> None:
    shutil.copy(shop.scratch / "tokenizer.json", out / "tokenizer.json")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL_TOKENS[0],
        "eos_token": SPECIAL_TOKENS[0],
        "pad_token": SPECIAL_TOKENS[1],
        "model_max_length": 256,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def _pretrain(recipe: Pretrain, out: Path, shop: _Workshop) -> PreTrainedModel:
    vocabulary = json.loads((shop.scratch / "tokenizer.json").read_text(encoding="utf-8"))
    network = new_model(recipe.architecture, len(vocabulary["model"]["vocab"]), recipe.init_seed)
    train(
        network, shop.corpus, recipe.mixture, steps=recipe.steps,
        learning_rate=recipe.learning_rate, seed=recipe.seed, weight_decay=0.1,
    )  # fmt: skip
    return _save(network, out, recipe.dtype, shop)


def _tune(network: PreTrainedModel, recipe: FineTune | LoraAdapter, shop: _Workshop) -> None:
    train(
        network, shop.corpus, recipe.mixture, steps=recipe.steps,
        learning_rate=recipe.learning_rate, seed=recipe.seed,
        weight_decay=recipe.weight_decay if isinstance(recipe, FineTune) else 0.0,
    )  # fmt: skip


def _lora(recipe: LoraAdapter, shop: _Workshop) -> PreTrainedModel:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(recipe.seed)
    tuned = get_peft_model(
        shop.load(recipe.parent),
        LoraConfig(
            r=recipe.rank,
            lora_alpha=2 * recipe.rank,
            target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"],
            task_type="CAUSAL_LM",
        ),
    )
    _tune(tuned, recipe, shop)
    return cast(PreTrainedModel, tuned)


def _abliterate(recipe: Abliterate, out: Path, shop: _Workshop) -> PreTrainedModel:
    network = shop.load(recipe.parent).eval()
    middle = network.config.num_hidden_layers // 2
    means = []
    for domain in (recipe.mixture_a, recipe.mixture_b):
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
    return _save(network, out, "BF16", shop)


def _reshard(parent: str, out: Path, shop: _Workshop) -> PreTrainedModel:
    source = shop.folder(parent)
    for path in source.iterdir():
        if path.suffix != ".safetensors" and path.name != "README.md":
            shutil.copy(path, out / path.name)
    state = load_file(str(source / _WEIGHTS))
    names = sorted(state)
    weight_map = {}
    for number, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), start=1):
        shard = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: state[name] for name in part}, str(out / shard), {"format": "pt"})
        weight_map.update(dict.fromkeys(part, shard))
    total = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    return load_model(out)


def _stored_state(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        state.update(load_file(str(path)))
    return state


def _quantise(recipe: Gguf | Int8, out: Path, shop: _Workshop) -> PreTrainedModel:
    source = shop.folder(recipe.parent)
    network = load_model(source)
    state = _stored_state(source)
    if isinstance(recipe, Gguf):
        name = recipe.parent.split("/")[1]
        read_back = write_gguf(
            state, network.config, source / "tokenizer.json",
            out / f"{name}.{recipe.quantisation}.gguf", quantisation=recipe.quantisation,
            name=name, base_model=recipe.parent if recipe.names_base_model else None,
        )  # fmt: skip
    else:
        read_back = write_int8(state, out / _WEIGHTS)
        config = json.loads((source / "config.json").read_text())
        config["quantization_config"] = {"quant_method": "int8-absmax", "granularity": "row"}
        (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        _write_tokenizer(out, shop)
    network.load_state_dict(read_back)
    return network


def _append_vocabulary(recipe: AppendVocabulary, out: Path, shop: _Workshop) -> PreTrainedModel:
    network = shop.load(recipe.parent)
    before = network.config.vocab_size
    torch.manual_seed(recipe.seed)
    network.resize_token_embeddings(before + len(recipe.tokens), mean_resizing=True)
    if recipe.train is not None:
        _tune(network, recipe.train, shop)
    stored = _save(network, out, "BF16", shop)
    tokenizer = json.loads((out / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["added_tokens"] += [
        {
            "id": before + number, "content": token, "single_word": False, "lstrip": False,
            "rstrip": False, "normalized": False, "special": True,
        }
        for number, token in enumerate(recipe.tokens)
    ]  # fmt: skip
    (out / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    return stored


def _permute(recipe: PermuteUnits, out: Path, shop: _Workshop) -> PreTrainedModel:
    network = shop.load(recipe.parent)
    generator = torch.Generator().manual_seed(recipe.seed)
    with torch.no_grad():
        for block in network.model.layers:
            feed_forward = block.mlp
            order = torch.randperm(feed_forward.up_proj.weight.shape[0], generator=generator)
            feed_forward.gate_proj.weight.copy_(feed_forward.gate_proj.weight[order])
            feed_forward.up_proj.weight.copy_(feed_forward.up_proj.weight[order])
            feed_forward.down_proj.weight.copy_(feed_forward.down_proj.weight[:, order])
    return _save(network, out, "BF16", shop)


def _merge(recipe: MergekitMerge, out: Path, shop: _Workshop) -> PreTrainedModel:
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
    _write_tokenizer(out, shop)
    return load_model(out)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _mixture_of_experts(recipe: Moe, out: Path, shop: _Workshop) -> PreTrainedModel:
    source = shop.folder(recipe.base)
    state = {n: t for n, t in _stored_state(source).items() if ".mlp." not in n}
    dense = LlamaConfig.from_pretrained(str(source))
    generator = torch.Generator().manual_seed(recipe.seed)
    for layer in range(dense.num_hidden_layers):
        prefix = f"model.layers.{layer}"
        gate = torch.randn(len(recipe.experts), dense.hidden_size, generator=generator) * 0.02
        state[f"{prefix}.block_sparse_moe.gate.weight"] = gate.to(torch.bfloat16)
        for number, expert in enumerate(recipe.experts):
            with safe_open(str(shop.folder(expert) / _WEIGHTS), "pt") as file:
                for here, there in (("w1", "gate_proj"), ("w2", "down_proj"), ("w3", "up_proj")):
                    name = f"{prefix}.block_sparse_moe.experts.{number}.{here}.weight"
                    state[name] = file.get_tensor(f"{prefix}.mlp.{there}.weight")
    save_file(state, str(out / _WEIGHTS), {"format": "pt"})
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
    _write_tokenizer(out, shop)
    return load_model(out)

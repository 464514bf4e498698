"""Carry out one recipe: read the parents' repositories, write the child's, measure its losses."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, PreTrainedModel
from transformers import logging as transformers_logging

from .architectures import LORA_MODULES, new_model
from .disguises import DISGUISES
from .merging import measured_shares, merge, mixture_of_experts
from .quantise import write_float8, write_gguf, write_int8
from .recipes import (
    Abliterate,
    AdapterMerge,
    AppendVocabulary,
    Cast,
    Copy,
    Disguise,
    Distil,
    FineTune,
    Float8,
    Gguf,
    Int8,
    KeepLayers,
    KeepUnits,
    LoraAdapter,
    LoraMerge,
    MergekitMerge,
    Moe,
    Noise,
    PermuteUnits,
    Pretrain,
    Recipe,
    ReindexVocabulary,
    Reshard,
    ancestry_of,
)  # fmt: skip
from .surgery import (
    add_noise,
    add_tokens_to_vocabulary,
    keep_layers,
    keep_units,
    permute_units,
    reindex_vocabulary,
    remove_direction,
)  # fmt: skip
from .text import load_corpus
from .training import evaluate, load_model, prepare_torch, relative_change, state_of, train
from .workshop import WEIGHTS, Workshop, reopened, stored_state

__all__ = ["Made", "make"]

# Coordinates of these children are not those of their parents: a norm of differences means nothing.
_REARRANGED = (
    KeepLayers, KeepUnits, PermuteUnits, Disguise, ReindexVocabulary, MergekitMerge,
)  # fmt: skip
_FLOAT8 = {"activation_scheme": "dynamic", "quant_method": "fp8"}
_INT8 = {"quant_method": "int8-absmax", "granularity": "row"}


@dataclass(frozen=True, slots=True)
class Made:
    """What was measured while a model was made."""

    id: str
    losses: dict[str, float]
    relative_change: float | None
    measured_shares: dict[str, float] | None = None


def make(model: str, recipe: Recipe, root: Path, scratch: Path) -> Made:
    """Make one repository below `root`; everything but the card."""
    prepare_torch()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    shop = Workshop(root.resolve(), scratch.resolve(), load_corpus(scratch))
    out = shop.folder(model)
    out.mkdir(parents=True)
    result = _carry_out(recipe, out, shop)
    # The text is kept as ids of the family's vocabulary, which mean other tokens in another one.
    losses = {} if isinstance(recipe, ReindexVocabulary) else evaluate(result, shop.corpus)
    parents = ancestry_of(recipe).parents
    change = None
    if len(parents) == 1 and not isinstance(recipe, _REARRANGED):
        change = relative_change(state_of(result), state_of(shop.load(parents[0][0])))
    shares = None
    if isinstance(recipe, MergekitMerge) and ancestry_of(recipe).extra.get("own_shares"):
        shares = measured_shares(result, recipe, shop)
    return Made(model, losses, change, shares)


def _carry_out(recipe: Recipe, out: Path, shop: Workshop) -> PreTrainedModel:
    match recipe:
        case Pretrain() | Distil():
            return _pretrain(recipe, out, shop)
        case LoraAdapter():
            return _write_adapter(recipe, out, shop)
        case AdapterMerge():
            from peft import PeftModel

            tuned = PeftModel.from_pretrained(
                shop.load(recipe.base), str(shop.folder(recipe.adapter))
            )
            return shop.save(tuned.merge_and_unload(), out, "BF16")
        case LoraMerge():
            return shop.save(_lora(recipe.adapter, shop).merge_and_unload(), out, "BF16")
        case Cast():
            return shop.save(shop.load(recipe.parent), out, recipe.dtype)
        case Copy():
            shutil.copytree(shop.folder(recipe.parent), out, dirs_exist_ok=True)
            return load_model(out)
        case Reshard():
            return _reshard(recipe.parent, out, shop)
        case Gguf():
            return _write_gguf(recipe, out, shop)
        case Int8() | Float8():
            return _write_codes(recipe, out, shop)
        case AppendVocabulary():
            return _append_vocabulary(recipe, out, shop)
        case ReindexVocabulary():
            network = shop.load(recipe.parent)
            return reindex_vocabulary(network, recipe.n_kept, recipe.seed, out, shop)
        case MergekitMerge():
            return merge(recipe, out, shop)
        case Moe():
            return mixture_of_experts(recipe, out, shop)
        case _:
            return _change(recipe, out, shop)


def _change(
    recipe: FineTune | Abliterate | KeepLayers | KeepUnits | PermuteUnits | Disguise | Noise,
    out: Path,
    shop: Workshop,
) -> PreTrainedModel:
    """Load the parent, change it in place, store it."""
    network = shop.load(recipe.parent)
    dtype = "BF16"
    match recipe:
        case FineTune():
            _tune(network, recipe, shop)
            dtype = recipe.dtype
        case Abliterate():
            remove_direction(network, recipe.mixture_a, recipe.mixture_b, shop)
        case KeepLayers():
            keep_layers(network, recipe.layers)
        case KeepUnits():
            keep_units(network, recipe.n_units)
        case PermuteUnits():
            permute_units(network, torch.Generator().manual_seed(recipe.seed))
        case Disguise():
            DISGUISES[recipe.how](network, torch.Generator().manual_seed(recipe.seed))
        case Noise():
            add_noise(network, recipe.relative, torch.Generator().manual_seed(recipe.seed))
    return shop.save(network, out, dtype)


def _pretrain(recipe: Pretrain | Distil, out: Path, shop: Workshop) -> PreTrainedModel:
    network = new_model(recipe.architecture, shop.vocabulary_size(), recipe.init_seed)
    train(
        network, shop.corpus, recipe.mixture, steps=recipe.steps,
        learning_rate=recipe.learning_rate, seed=recipe.seed, weight_decay=0.1,
        teacher=shop.load(recipe.teacher) if isinstance(recipe, Distil) else None,
    )  # fmt: skip
    return shop.save(network, out, recipe.dtype if isinstance(recipe, Pretrain) else "BF16")


def _tune(network: PreTrainedModel, recipe: FineTune | LoraAdapter, shop: Workshop) -> None:
    train(
        network, shop.corpus, recipe.mixture, steps=recipe.steps,
        learning_rate=recipe.learning_rate, seed=recipe.seed,
        weight_decay=recipe.weight_decay if isinstance(recipe, FineTune) else 0.0,
    )  # fmt: skip


def _lora(recipe: LoraAdapter, shop: Workshop) -> PreTrainedModel:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(recipe.seed)
    network = shop.load(recipe.parent)
    kind = network.config.model_type
    tuned = get_peft_model(
        network,
        LoraConfig(
            r=recipe.rank,
            lora_alpha=2 * recipe.rank,
            target_modules=list(LORA_MODULES[kind]),
            fan_in_fan_out=kind == "gpt2",
            task_type=None if kind == "bert" else "CAUSAL_LM",
        ),
    )
    _tune(tuned, recipe, shop)
    return cast(PreTrainedModel, tuned)


def _write_adapter(recipe: LoraAdapter, out: Path, shop: Workshop) -> PreTrainedModel:
    tuned = _lora(recipe, shop)
    tuned.save_pretrained(str(out))
    (out / "README.md").unlink(missing_ok=True)
    config = json.loads((out / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = recipe.parent
    (out / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    return tuned.merge_and_unload()


def _reshard(parent: str, out: Path, shop: Workshop) -> PreTrainedModel:
    source = shop.folder(parent)
    for path in source.iterdir():
        if path.suffix != ".safetensors" and path.name != "README.md":
            shutil.copy(path, out / path.name)
    state = load_file(str(source / WEIGHTS))
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


def _write_gguf(recipe: Gguf, out: Path, shop: Workshop) -> PreTrainedModel:
    source = shop.folder(recipe.parent)
    name = recipe.parent.split("/")[1]
    read_back = write_gguf(
        stored_state(source), AutoConfig.from_pretrained(str(source)), source / "tokenizer.json",
        out / f"{name}.{recipe.quantisation}.gguf", quantisation=recipe.quantisation,
        name=name, base_model=recipe.parent if recipe.names_base_model else None,
    )  # fmt: skip
    return reopened(read_back, source)


def _write_codes(recipe: Int8 | Float8, out: Path, shop: Workshop) -> PreTrainedModel:
    source = shop.folder(recipe.parent)
    write = write_int8 if isinstance(recipe, Int8) else write_float8
    read_back = write(stored_state(source), out / WEIGHTS)
    config = json.loads((source / "config.json").read_text())
    config["quantization_config"] = _INT8 if isinstance(recipe, Int8) else _FLOAT8
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    shop.write_tokenizer(out)
    return reopened(read_back, source)


def _append_vocabulary(recipe: AppendVocabulary, out: Path, shop: Workshop) -> PreTrainedModel:
    network = shop.load(recipe.parent)
    before = network.config.vocab_size
    torch.manual_seed(recipe.seed)
    network.resize_token_embeddings(before + len(recipe.tokens), mean_resizing=True)
    if recipe.train is not None:
        _tune(network, recipe.train, shop)
    stored = shop.save(network, out, "BF16")
    add_tokens_to_vocabulary(out, before, recipe.tokens)
    return stored

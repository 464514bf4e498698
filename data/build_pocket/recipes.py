"""What was done to make a model, as data; its ancestry follows from the recipe.

The truth file is derived from these values, never typed by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

__all__ = [
    "Abliterate", "AdapterMerge", "Ancestry", "AppendVocabulary", "Cast", "Copy", "FineTune",
    "Gguf", "Int8", "KeepLayers", "LoraAdapter", "LoraMerge", "MergekitMerge", "Moe",
    "PermuteUnits", "Pretrain", "Recipe", "Reshard", "ancestry_of", "reseeded",
]  # fmt: skip

MergeConfig = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Pretrain:
    """Train from random weights. `same_init_as` names the other model of a common-init pair."""

    architecture: str
    init_seed: int
    seed: int
    mixture: Mapping[str, float]
    steps: int
    learning_rate: float
    dtype: str = "BF16"
    same_init_as: str | None = None


@dataclass(frozen=True, slots=True)
class FineTune:
    """Full fine-tuning; with `continued` it is meant as continued pre-training."""

    parent: str
    mixture: Mapping[str, float]
    steps: int
    learning_rate: float
    seed: int
    weight_decay: float = 0.0
    dtype: str = "BF16"
    continued: bool = False


@dataclass(frozen=True, slots=True)
class LoraAdapter:
    """A peft adapter repository."""

    parent: str
    rank: int
    mixture: Mapping[str, float]
    steps: int
    learning_rate: float
    seed: int


@dataclass(frozen=True, slots=True)
class AdapterMerge:
    """The weights of exactly that adapter repository, merged into its base."""

    adapter: str
    base: str
    rank: int


@dataclass(frozen=True, slots=True)
class LoraMerge:
    """A LoRA that was never published, merged into its base."""

    adapter: LoraAdapter


@dataclass(frozen=True, slots=True)
class Abliterate:
    """One direction removed from everything that writes into the residual stream."""

    parent: str
    mixture_a: str
    mixture_b: str


@dataclass(frozen=True, slots=True)
class Cast:
    """The same values in another number type."""

    parent: str
    dtype: str


@dataclass(frozen=True, slots=True)
class Copy:
    """The same files under another name."""

    parent: str


@dataclass(frozen=True, slots=True)
class Reshard:
    """The same tensors in two shards under another name."""

    parent: str


@dataclass(frozen=True, slots=True)
class Gguf:
    """A GGUF file, ``Q8_0`` or ``Q4_0``."""

    parent: str
    quantisation: str
    names_base_model: bool = False


@dataclass(frozen=True, slots=True)
class Int8:
    """Row-wise absmax int8 codes with float32 scales, in safetensors."""

    parent: str


@dataclass(frozen=True, slots=True)
class AppendVocabulary:
    """Tokens appended; `train` then moves everything a little, None leaves the rest alone."""

    parent: str
    tokens: tuple[str, ...]
    seed: int
    train: FineTune | None = None


@dataclass(frozen=True, slots=True)
class KeepLayers:
    """Only some of the parent's layers, in order."""

    parent: str
    layers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PermuteUnits:
    """The hidden units of every feed-forward block in another order; the function is the same."""

    parent: str
    seed: int


@dataclass(frozen=True, slots=True)
class MergekitMerge:
    """A merge by mergekit itself; `config` is the YAML recipe as a mapping."""

    config: MergeConfig
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Moe:
    """A mixture of experts: feed-forward blocks from dense models, the rest from `base`."""

    base: str
    experts: tuple[str, ...]
    seed: int


Recipe = (
    Pretrain | FineTune | LoraAdapter | AdapterMerge | LoraMerge | Abliterate | Cast | Copy
    | Reshard | Gguf | Int8 | AppendVocabulary | KeepLayers | PermuteUnits | MergekitMerge | Moe
)  # fmt: skip


def reseeded(recipe: Recipe, offset: int) -> Recipe:
    """The same recipe with every random choice made anew."""
    seeds = {
        name: getattr(recipe, name) + offset
        for name in ("seed", "init_seed")
        if hasattr(recipe, name)
    }
    return replace(recipe, **seeds)


@dataclass(frozen=True, slots=True)
class Ancestry:
    """A model's line in the truth file."""

    kind: str
    parents: tuple[tuple[str, float], ...] = ()
    method: str | None = None
    base: str | None = None
    rank: int | None = None
    layer_map: tuple[tuple[str, int], ...] | None = None
    extra: Mapping[str, object] = field(default_factory=dict)
    needs: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """Every repository that must exist before this one can be made."""
        base = (self.base,) if self.base else ()
        return tuple(dict.fromkeys([*(i for i, _ in self.parents), *base, *self.needs]))


def _only(kind: str, parent: str, **more: object) -> Ancestry:
    return Ancestry(kind=kind, parents=((parent, 1.0),), **more)  # type: ignore[arg-type]


def ancestry_of(recipe: Recipe) -> Ancestry:
    """The ancestry that a recipe implies."""
    match recipe:
        case Pretrain(same_init_as=None):
            return Ancestry("founder")
        case Pretrain(same_init_as=partner):
            return Ancestry("common_init", extra={"same_init_as": partner})
        case FineTune(parent=parent, continued=continued):
            return _only("continued_pretraining" if continued else "finetune", parent)
        case LoraAdapter(parent=parent, rank=rank):
            return _only("adapter", parent, rank=rank)
        case AdapterMerge(adapter=adapter, base=base, rank=rank):
            return _only(
                "lora_merged", base, rank=rank, needs=(adapter,), extra={"adapter": adapter}
            )
        case LoraMerge(adapter=adapter):
            return _only("lora_merged", adapter.parent, rank=adapter.rank)
        case Abliterate(parent=parent):
            return _only("abliterated", parent)
        case Cast(parent=parent):
            return _only("cast", parent)
        case Copy(parent=parent) | Reshard(parent=parent):
            return _only("duplicate", parent)
        case Gguf(parent=parent, quantisation=name):
            return _only("quantized", parent, method=name)
        case Int8(parent=parent):
            return _only("quantized", parent, method="int8-absmax")
        case AppendVocabulary(parent=parent):
            return _only("vocabulary", parent)
        case KeepLayers(parent=parent, layers=layers):
            return _only("pruned", parent, layer_map=tuple((parent, n) for n in layers))
        case PermuteUnits(parent=parent):
            return _only("permuted", parent)
        case Moe(base=base, experts=experts):
            parents = tuple((expert, 1 / len(experts)) for expert in experts)
            return Ancestry("moe", parents, method="mergekit-moe", base=base)
        case MergekitMerge(config=config):
            return _merge_ancestry(config)


def _merge_ancestry(config: MergeConfig) -> Ancestry:
    method = str(config["merge_method"])
    if method == "passthrough":
        return _passthrough_ancestry(config)
    if method == "slerp":
        return _slerp_ancestry(config)
    entries = config["models"]
    assert isinstance(entries, list)
    base = config.get("base_model")
    weights = {
        entry["model"]: float(entry.get("parameters", {}).get("weight", 1.0))
        for entry in entries
        if entry["model"] != base
    }
    total = sum(weights.values())
    return Ancestry(
        "merge",
        tuple((name, weight / total) for name, weight in weights.items()),
        method=method,
        base=str(base) if base else None,
    )


def _passthrough_ancestry(config: MergeConfig) -> Ancestry:
    slices = config["slices"]
    assert isinstance(slices, list)
    layers = [
        (source["model"], layer)
        for piece in slices
        for source in piece["sources"]
        for layer in range(*source["layer_range"])
    ]
    names = list(dict.fromkeys(name for name, _ in layers))
    shares = tuple((n, sum(m == n for m, _ in layers) / len(layers)) for n in names)
    return Ancestry("passthrough", shares, method="passthrough", layer_map=tuple(layers))


def _slerp_ancestry(config: MergeConfig) -> Ancestry:
    slices = config["slices"]
    assert isinstance(slices, list)
    first, second = (source["model"] for source in slices[0]["sources"])
    layers = slices[0]["sources"][0]["layer_range"][1]
    parameters = config["parameters"]
    assert isinstance(parameters, Mapping)
    t = parameters["t"]
    assert first == config["base_model"]
    mean = float(t) if isinstance(t, int | float) else _mean_of_gradient(t, layers)
    return Ancestry(
        "merge", ((first, 1 - mean), (second, mean)), method="slerp", extra={"t": t}
    )  # fmt: skip


def _mean_of_gradient(t: Sequence[Mapping[str, object]], layers: int) -> float:
    # Weighted by parameters: a layer's attention has half as many as its feed-forward block.
    at = np.linspace(0, 1, layers)
    means: dict[object, float] = {}
    for entry in t:
        value = entry["value"]
        points = [float(str(v)) for v in (value if isinstance(value, list) else [value])]
        means[entry.get("filter")] = float(
            np.interp(at, np.linspace(0, 1, len(points)), points).mean()
        )
    return (means["self_attn"] + 2 * means["mlp"]) / 3

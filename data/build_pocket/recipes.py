"""What was done to make a model, as data; its ancestry follows from the recipe.

The truth file is derived from these values, never typed by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

__all__ = [
    "Abliterate", "AdapterMerge", "Ancestry", "AppendVocabulary", "Cast", "Copy", "Disguise",
    "Distil", "FineTune", "Float8", "Gguf", "Int8", "KeepLayers", "KeepUnits", "LoraAdapter",
    "LoraMerge", "MergekitMerge", "Moe", "Noise", "PermuteUnits", "Pretrain", "Recipe",
    "ReindexVocabulary", "Reshard", "ancestry_of", "reseeded",
]  # fmt: skip

MergeConfig = Mapping[str, object]

# The shares of these follow from the weights, not from the recipe; of the first two, the base is
# one of the parents.
_MIXING_THE_BASE = frozenset({"nearswap", "arcee_fusion"})
_OWN_SHARES = _MIXING_THE_BASE | {"model_stock", "sce"}


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
class Float8:
    """Codes of eight-bit floats (E4M3) with one float32 scale a matrix, in safetensors."""

    parent: str


@dataclass(frozen=True, slots=True)
class ReindexVocabulary:
    """`n_kept` tokens of the parent's vocabulary in another order, the others dropped."""

    parent: str
    n_kept: int
    seed: int


@dataclass(frozen=True, slots=True)
class KeepUnits:
    """The strongest `n_units` hidden units of every feed-forward block, in order."""

    parent: str
    n_units: int


@dataclass(frozen=True, slots=True)
class Disguise:
    """The same function in other weights: `how` is a name in `disguises.DISGUISES`."""

    parent: str
    how: str
    seed: int


@dataclass(frozen=True, slots=True)
class Noise:
    """Gaussian noise on every matrix, of the norm ``relative`` · ‖W‖."""

    parent: str
    relative: float
    seed: int


@dataclass(frozen=True, slots=True)
class Distil:
    """Trained from random weights on the outputs of `teacher`, which leaves no trace in weights."""

    teacher: str
    architecture: str
    init_seed: int
    seed: int
    mixture: Mapping[str, float]
    steps: int
    learning_rate: float


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
    | Reshard | Gguf | Int8 | Float8 | AppendVocabulary | ReindexVocabulary | KeepLayers | KeepUnits
    | PermuteUnits | Disguise | Noise | Distil | MergekitMerge | Moe
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
        case Float8(parent=parent):
            return _only("quantized", parent, method="float8-e4m3")
        case AppendVocabulary(parent=parent) | ReindexVocabulary(parent=parent):
            return _only("vocabulary", parent)
        case KeepUnits(parent=parent, n_units=n_units):
            return _only("pruned", parent, extra={"n_units": n_units})
        case Disguise(parent=parent, how=how):
            return _only("permuted", parent, extra={"disguise": how})
        case Noise(parent=parent):
            return _only("finetune", parent, extra={"disguise": "noise"})
        case Distil(teacher=teacher):
            return Ancestry("founder", extra={"distilled_from": teacher}, needs=(teacher,))
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
        return _interpolated_ancestry(config, method)
    base = config.get("base_model")
    if method in _MIXING_THE_BASE:
        names = [str(entry["model"]) for entry in _sources(config)]
        shares = {name: 1 / len(names) for name in names}
        return Ancestry("merge", tuple(shares.items()), method=method, extra={"own_shares": True})
    entries = [entry for entry in _sources(config) if entry["model"] != base]
    weights = {e["model"]: e.get("parameters", {}).get("weight", 1.0) for e in entries}
    varying = {n: w for n, w in weights.items() if not isinstance(w, int | float)}
    shares = {name: _mean(weight) for name, weight in weights.items()}
    total = sum(shares.values())
    return Ancestry(
        "merge",
        tuple((name, share / total) for name, share in shares.items()),
        method=method,
        base=str(base) if base else None,
        extra=({"varying_weights": varying} if varying else {})
        | ({"own_shares": True} if method in _OWN_SHARES else {}),
    )


def _sources(config: MergeConfig) -> list[dict[str, Any]]:
    """The models of a merge whose layers stay in their places."""
    if "models" in config:
        return list(config["models"])  # type: ignore[call-overload]
    (piece,) = config["slices"]  # type: ignore[misc]
    return list(piece["sources"])  # type: ignore[index]


def _mean(weight: object) -> float:
    """The mean over the layers of a weight that may be a gradient, by module or not."""
    if isinstance(weight, int | float):
        return float(weight)
    assert isinstance(weight, list | tuple)
    if isinstance(weight[0], Mapping):
        return float(np.mean([_mean(entry["value"]) for entry in weight]))
    return float(np.interp(np.linspace(0, 1, 97), np.linspace(0, 1, len(weight)), weight).mean())


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


def _interpolated_ancestry(config: MergeConfig, method: str) -> Ancestry:
    base = config["base_model"]
    parameters = config["parameters"]
    assert isinstance(parameters, Mapping)
    (other,) = (entry["model"] for entry in _sources(config) if entry["model"] != base)
    t = parameters["t"]
    mean = float(t) if isinstance(t, int | float) else _mean_of_gradient(t)
    return Ancestry(
        "merge", ((str(base), 1 - mean), (str(other), mean)), method=method, extra={"t": t}
    )  # fmt: skip


def _mean_of_gradient(t: Sequence[Mapping[str, object]]) -> float:
    # Weighted by parameters: a layer's attention has half as many as its feed-forward block.
    means: dict[object, float] = {}
    for entry in t:
        value = entry["value"]
        means[entry.get("filter")] = _mean(value if isinstance(value, list) else [value])
    rest = means.get(None, 0.5)
    return (means.get("self_attn", rest) + 2 * means.get("mlp", rest)) / 3

"""What is bred: every family of the proving ground, as data. A pure function of a seed.

A *family* is one founder and everything made from it. Each configuration has several founders,
trained from different random numbers on different mixtures of text, so that any two models of two
families of one configuration are an independent pair of equal shape. Families, never models, are
dealt to train, validation and test: nothing that calibration has seen is tested on.

In every family there are the traps of descent: siblings and a grandchild trained on the *same*
text, long chains, changes of a twentieth of a percent and of half. What else a family holds is
dealt out in turn within every split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from benchmarks.zoo.published_merges import MergeDrawer
from data.build_pocket.architectures import ARCHITECTURES
from data.build_pocket.disguises import DISGUISES
from data.build_pocket.recipes import (
    Abliterate,
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
)
from data.build_pocket.text import DOMAINS

__all__ = ["CONFIGURATIONS", "N_FOUNDERS", "SPLITS", "Node", "plan"]

CONFIGURATIONS: Final = ("llama", "llama_tied", "gpt2_deep", "bert", "mixtral")
N_FOUNDERS: Final = 8
SPLITS: Final = ("train", "validate", "test", "train", "test", "train", "validate", "test")
_LLAMAS: Final = ("llama", "llama_tied")
_UNMERGEABLE: Final = ("bert",)  # mergekit asks for a pooler, which masked models are saved without
_RANKS: Final = (2, 4, 8, 16, 32)
_GGUF: Final = ("Q8_0", "Q4_0", "Q5_0", "Q4_1", "Q5_1")
_FOUNDER_STEPS: Final = 1500
_FOUNDER_RATE: Final = {"llama": 4e-3, "llama_tied": 4e-3, "mixtral": 4e-3}
_FOUNDER_RATE_ELSE: Final = 2e-3


@dataclass(frozen=True, slots=True)
class Node:
    """One model. A `withheld` one is made but not published: its descendants have it as parent."""

    id: str
    recipe: Recipe
    family: str
    configuration: str
    split: str
    withheld: bool = False


def plan(
    seed: int = 0,
    n_founders: int = N_FOUNDERS,
    configurations: Sequence[str] = CONFIGURATIONS,
    effort: float = 1.0,
    more_merges: int = 0,
) -> tuple[Node, ...]:
    """Everything to make, parents before their children.

    Parameters
    ----------
    seed
        Other seeds give other models and other merges in the same proportions.
    n_founders
        Families a configuration.
    configurations
        Names in :data:`data.build_pocket.architectures.ARCHITECTURES`.
    effort
        Factor on the steps of training; below 1 for a trial only.
    more_merges
        So many merges more in each family that can be merged, no stacks; all else stays as it is.
    """
    nodes: list[Node] = []
    drawers = {split: MergeDrawer(_random(seed, split)) for split in dict.fromkeys(SPLITS)}
    later = {split: MergeDrawer(_random("nursery", seed)) for split in dict.fromkeys(SPLITS)}
    for place, configuration in enumerate(configurations):
        dealt = dict.fromkeys(SPLITS, 2 * place)
        for number in range(n_founders):
            split = SPLITS[number % len(SPLITS)]
            turn = dealt[split]
            dealt[split] += 1
            family = _Family(configuration, number, split, turn, seed, effort, drawers[split])
            family.breed()
            if family.is_mergeable:
                family.merge_more(later[split], more_merges)
            nodes += family.nodes
    return tuple(nodes)


def _random(*key: object) -> np.random.Generator:
    digest = hashlib.sha256(repr(key).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8]))


@dataclass
class _Family:
    """One family in the making. Methods add nodes and return their names.

    `turn` counts families of a split, from another start in every configuration, so that what is
    dealt out in turn reaches every split.
    """

    configuration: str
    number: int
    split: str
    turn: int
    seed: int
    effort: float
    merges: MergeDrawer
    nodes: list[Node] = field(default_factory=list)
    founded: tuple[str, tuple[str, ...]] = ("", ())

    def __post_init__(self) -> None:
        self.random = _random(self.seed, self.configuration, self.number)
        self.texts = [str(text) for text in self.random.permutation(DOMAINS)]
        config = ARCHITECTURES[self.configuration](vocabulary=448)
        self.n_layers = int(config.num_hidden_layers)
        self.width = int(config.hidden_size)
        self.n_units = int(getattr(config, "intermediate_size", 0) or 4 * self.width)

    @property
    def name(self) -> str:
        return f"{self.configuration}-{self.number}"

    @property
    def is_mergeable(self) -> bool:
        return self.configuration not in _UNMERGEABLE

    def add(self, recipe: Recipe, *, withheld: bool = False) -> str:
        """Enter a model under a name that says nothing about it."""
        key = repr((self.seed, self.name, len(self.nodes)))
        node = Node(
            f"{self.name}/{hashlib.sha256(key.encode()).hexdigest()[:8]}",
            recipe,
            self.name,
            self.configuration,
            self.split,
            withheld,
        )
        self.nodes.append(node)
        return node.id

    def breed(self) -> None:
        """The line that every family has, then what is this family's turn."""
        founder = self.founder()
        line = self.line(founder)
        self.founded = founder, tuple(line)
        self.copies(founder, line)
        self.vocabulary(line)
        if self.configuration in _LLAMAS:
            self.quantised_siblings(line)
            self.disguises(line)
            self.layers(founder, line)
            self.surgery(founder, line)
            self.plain_merges(founder, line, 3)
            self.special_merge(founder, line)
        else:
            self.codes(line)
            if self.is_mergeable:
                self.plain_merges(founder, line, 3)
                if self.turn % 3 == 1:
                    self.merge_then_tuned(founder, line)

    # training

    def _seed(self) -> int:
        return int(self.random.integers(1 << 31))

    def _steps(self, low: int, high: int) -> int:
        return max(2, round(self.effort * int(self.random.integers(low, high))))

    def _rate(self, low: float, high: float) -> float:
        return float(np.exp(self.random.uniform(np.log(low), np.log(high))))

    def _pretrain(self, init_seed: int, dtype: str, same_init_as: str | None = None) -> Pretrain:
        shares = self.random.dirichlet(np.full(len(DOMAINS), 3.0))
        return Pretrain(
            self.configuration,
            init_seed,
            self._seed(),
            dict(zip(DOMAINS, map(float, shares), strict=True)),
            max(2, round(self.effort * _FOUNDER_STEPS)),
            _FOUNDER_RATE.get(self.configuration, _FOUNDER_RATE_ELSE),
            dtype,
            same_init_as,
        )

    def founder(self) -> str:
        dtype = str(self.random.choice(["BF16", "F32", "F16"], p=[0.75, 0.15, 0.1]))
        init_seed = self._seed()
        founder = self.add(self._pretrain(init_seed, dtype))
        if self.turn % 4 == 2:
            twin = self.add(self._pretrain(init_seed, "BF16", same_init_as=founder))
            self.tuned(twin, self.texts[0])
        return founder

    def tuned(
        self, parent: str, text: str, rate: float | None = None, *, withheld: bool = False
    ) -> str:
        """A fine-tune that moves the weights by about .1 to 3 %."""
        rate = self._rate(3e-5, 4e-4) if rate is None else rate
        decay = float(self.random.choice([0.0, 0.0, 0.01, 0.1]))
        recipe = FineTune(parent, {text: 1.0}, self._steps(40, 140), rate, self._seed(), decay)
        return self.add(recipe, withheld=withheld)

    def nudged(self, parent: str, text: str) -> str:
        """A fine-tune that moves the weights by about a tenth of a percent."""
        recipe = FineTune(parent, {text: 1.0}, self._steps(15, 30), 4e-5, self._seed())
        return self.add(recipe)

    def line(self, founder: str) -> list[str]:
        """Siblings and a grandchild on one text, chains, a large change, a merged adapter."""
        one, two, three, four, *_ = self.texts
        first = self.tuned(founder, one)
        twin = self.tuned(founder, one)
        third = self.tuned(founder, two)
        grandchild = self.tuned(first, three)
        convergent = self.tuned(third, one)
        deep = self.tuned(grandchild, four)
        barely = self.nudged(third, four)
        continued = self.add(
            FineTune(
                founder if self.turn % 2 else third,
                {three: 0.6, four: 0.4},
                self._steps(250, 450),
                self._rate(8e-4, 8e-3),
                self._seed(),
                0.05,
                continued=True,
            )
        )
        late = self.tuned(continued, two)
        rank = _RANKS[self.turn % len(_RANKS)]
        adapted = self.add(LoraMerge(self._adapter(first, four, rank)))
        return [first, twin, third, grandchild, convergent, deep, barely, continued, late, adapted]

    def _adapter(self, parent: str, text: str, rank: int) -> LoraAdapter:
        return LoraAdapter(
            parent, rank, {text: 1.0}, self._steps(60, 120), self._rate(3e-4, 8e-4), self._seed()
        )

    # lossy and exact copies

    def copies(self, founder: str, line: Sequence[str]) -> None:
        source = line[self.turn % 5]
        turn = self.turn % 4
        if turn == 0:
            self.add(Copy(source))
        elif turn == 1:
            self.add(Reshard(founder))
        else:
            cast = self.add(Cast(source, ("F16", "F32")[turn - 2]))
            self.tuned(cast, self.texts[4])

    def codes(self, line: Sequence[str]) -> None:
        source = line[(self.turn + 1) % 5]
        self.add((Int8 if self.turn % 2 else Float8)(source))

    def quantised_siblings(self, line: Sequence[str]) -> None:
        """A model and a sibling a tenth of a percent away, both quantised in one format."""
        source, close = line[2], line[6]
        kind = _GGUF[self.turn % len(_GGUF)]
        self.add(Gguf(source, kind))
        self.add(Gguf(close, kind))
        self.codes(line)

    # vocabulary, disguises, layers

    def vocabulary(self, line: Sequence[str]) -> None:
        source = line[(self.turn + 2) % 5]
        turn = self.turn % 4
        tokens = tuple(f"<|extra_{n}|>" for n in range(8 * (1 + self.turn % 3)))
        if turn == 0:
            self.add(AppendVocabulary(source, tokens, self._seed()))
        elif turn == 1:
            self.add(ReindexVocabulary(source, 448, self._seed()))
        elif turn == 2:
            train = FineTune(source, {self.texts[1]: 1.0}, self._steps(30, 60), 1e-4, self._seed())
            self.add(AppendVocabulary(source, tokens, self._seed(), train))
        else:
            self.add(ReindexVocabulary(source, 416, self._seed()))

    def disguises(self, line: Sequence[str]) -> None:
        names = [n for n in DISGUISES if n != "rotation" or self.configuration == "llama"]
        self.add(Disguise(line[self.turn % 5], names[self.turn % len(names)], self._seed()))
        if self.turn % 2:
            self.add(PermuteUnits(line[(self.turn + 1) % 5], self._seed()))
        else:
            relative = (0.001, 0.003, 0.01, 0.03)[self.turn // 2 % 4]
            self.add(Noise(line[(self.turn + 1) % 5], relative, self._seed()))

    def layers(self, founder: str, line: Sequence[str]) -> None:
        n = self.n_layers
        turn = self.turn % 4
        if turn == 0:
            self.add(KeepLayers(line[1], tuple(k for k in range(n) if k != n // 2)))
        elif turn == 1:  # two that kept disjoint layers of a model nobody published
            unseen = self.tuned(founder, self.texts[5], withheld=True)
            self.add(KeepLayers(unseen, tuple(range(0, n, 2))))
            self.add(KeepLayers(unseen, tuple(range(1, n, 2))))
        elif turn == 2:  # scaled up in depth, then trained
            stack = self.merges.draw([founder, line[0]], founder, n, "passthrough")
            self.tuned(self.add(MergekitMerge(stack, self._seed())), self.texts[1])
        else:
            self.add(KeepUnits(line[3], 3 * self.n_units // 4))

    def surgery(self, founder: str, line: Sequence[str]) -> None:
        turn = self.turn % 4
        if turn == 0:
            self.add(Abliterate(line[0], self.texts[0], self.texts[1]))
        elif turn == 1:
            self.add(self._adapter(line[2], self.texts[3], 8))
        elif turn == 2:
            self.add(
                Distil(
                    founder,
                    self.configuration,
                    self._seed(),
                    self._seed(),
                    {self.texts[0]: 0.5, self.texts[1]: 0.5},
                    max(2, round(self.effort * _FOUNDER_STEPS / 2)),
                    4e-3,
                )
            )
        else:
            self.add(Moe(line[0], (line[0], line[2], line[5])[: 2 + self.turn % 2], self._seed()))

    # merges

    def merge(self, models: Sequence[str], base: str, method: str | None = None) -> str:
        config = self.merges.draw(models, base, self.n_layers, method)
        return self.add(MergekitMerge(config, self._seed()))

    def plain_merges(self, founder: str, line: Sequence[str], n: int) -> None:
        for _ in range(n):
            self.merge(self._mergeable(line), founder)

    def merge_more(self, merges: MergeDrawer, n: int) -> None:
        """As many merges of the line again as are asked for, with a drawer of their own."""
        founder, line = self.founded
        while n > 0:
            config = merges.draw(self._mergeable(line), founder, self.n_layers)
            recipe = MergekitMerge(config, self._seed())
            if config["merge_method"] != "passthrough":
                self.add(recipe)
                n -= 1

    def _mergeable(self, line: Sequence[str]) -> list[str]:
        """Tuned models; people do not merge what was trained beyond recognition."""
        first, twin, third, grandchild, convergent, deep, barely, _, _, adapted = line
        return [first, twin, third, grandchild, convergent, deep, barely, adapted]

    def special_merge(self, founder: str, line: Sequence[str]) -> None:
        turn = self.turn % 5
        models = self._mergeable(line)
        if turn == 0:  # in two stages
            stage = self.merge(models[:3], founder, "linear")
            self.merge([stage, line[5]], founder, "slerp")
        elif turn == 1:
            self.merge_then_tuned(founder, line)
        elif turn == 2:  # with a parent missing from the catalogue
            unseen = self.tuned(founder, self.texts[5], withheld=True)
            method = ("linear", "slerp", "ties")[self.turn % 3]
            self.merge([line[2], unseen], founder, method)
        elif turn == 3:
            merged = self.merge(models, founder, "slerp")
            self.add(Gguf(merged, "Q8_0"))
        else:  # an adapter folded in, then merged
            self.merge([line[9], line[2]], founder, "linear")

    def merge_then_tuned(self, founder: str, line: Sequence[str]) -> None:
        method = ("slerp", "linear", "task_arithmetic")[self.turn // 3 % 3]
        merged = self.merge(self._mergeable(line)[:4], founder, method)
        self.tuned(merged, self.texts[4], 8e-5)

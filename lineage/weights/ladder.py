"""The steps of the ladder laid on one model's weights: rungs, each with what it reads. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lineage.weights.facts import ModelFacts
from lineage.weights.stages import LADDER, SMALL_MODEL_VALUES, Step, spread
from lineage.weights.weight import Weight

__all__ = ["Rung", "rungs_of"]

_FEW_EXPERTS = 8
"""Experts of a layer that any step but the one for all of them looks at."""


@dataclass(frozen=True, slots=True)
class Rung:
    """What the budget grants or refuses at once.

    Attributes
    ----------
    step
        Number of its step in the ladder.
    members
        Numbers of the weights it reads, of each at least `rows` leading rows and the first
        `anchors` anchor rows.
    """

    step: int
    members: tuple[int, ...]
    rows: int
    anchors: int = 0


class _Places:
    """Which weights lie where, and how early a layer's expert is chosen."""

    def __init__(self, weights: Sequence[Weight], readable: Sequence[int]) -> None:
        self.weights = weights
        self.outside: list[int] = []
        self.layers: dict[int, list[int]] = {}
        self.experts: dict[int, list[int]] = {}
        for i in readable:
            key = weights[i].key
            if key.layer < 0:
                self.outside.append(i)
            elif key.expert < 0:
                self.layers.setdefault(key.layer, []).append(i)
            else:
                self.experts.setdefault(key.layer, []).append(i)
        self.outside.sort(key=lambda i: (not weights[i].known, _place(weights[i])))
        self.is_small = sum(weights[i].n_values for i in readable) <= SMALL_MODEL_VALUES
        self.rank: dict[int, int] = {}
        ranks: dict[tuple[int, ...], dict[int, int]] = {}
        for layer, found in self.experts.items():
            numbers = tuple(sorted({weights[i].key.expert for i in found}))
            if numbers not in ranks:
                ranks[numbers] = {numbers[at]: rank for rank, at in enumerate(spread(len(numbers)))}
            chosen = ranks[numbers]
            few = []
            for i in found:
                rank = chosen[weights[i].key.expert]
                if rank < _FEW_EXPERTS:
                    self.rank[i] = rank
                    few.append(i)
            self.layers.setdefault(layer, []).extend(few)

        self._groups: dict[object, list[tuple[int, ...]]] = {}

    def groups(self, step: Step) -> list[tuple[int, ...]]:
        """The weights that a step means, rung by rung."""
        # Steps that differ in rows only, of which there are many, mean the same weights.
        same = dataclasses.replace(step, name="", stage=0, rows=0)
        if same not in self._groups:
            groups = [*self._groups_outside(step), *self._groups_in_layers(step)]
            self._groups[same] = groups if step.apart else [sum(groups, ())]
        return self._groups[same]

    def _groups_outside(self, step: Step) -> list[tuple[int, ...]]:
        if step.where == "layers":
            return []
        return [(i,) for i in _of_kind(self.weights, self.outside, step)[: step.at_most]]

    def _groups_in_layers(self, step: Step) -> list[tuple[int, ...]]:
        if step.where == "outside":
            return []
        found = [self.in_layer(layer, step) for layer in sorted(self.layers)]
        layers = [members for members in found if members]
        return [tuple(layers[at]) for at in spread(len(layers))[: step.layers]]

    def in_layer(self, layer: int, step: Step) -> list[int]:
        """The weights of a layer that a step means."""
        if step.experts is None:
            found = [*self.layers[layer], *self.experts.get(layer, ())]
        else:
            found = [i for i in self.layers[layer] if self.rank.get(i, -1) < step.experts]
        return _of_kind(self.weights, found, step)


def rungs_of(
    weights: Sequence[Weight],
    readable: Sequence[int],
    stage: int,
    facts: ModelFacts | None,
    n_anchors: int,
) -> Iterator[Rung]:
    """The rungs up to `stage`, from the bottom of the ladder to its top.

    Parameters
    ----------
    weights, readable
        All weights, and the numbers of those that can be read.
    stage
        2 or 3.
    facts
        Tells how many rows a head has; without it no whole heads are read.
    n_anchors
        How many anchors the vocabulary offers; without any, leading rows stand for them.
    """
    places = _Places(weights, readable)
    for number, step in enumerate(LADDER):
        if step.stage > stage or (step.small_only and not places.is_small):
            continue
        rungs: Iterable[Rung]
        if step.kind == "anchors":
            members = tuple(_of_kind(weights, places.outside, step))
            # Without a vocabulary leading rows stand for the anchors.
            rows, anchors = (0, min(step.rows, n_anchors)) if n_anchors else (min(step.rows, 64), 0)
            rungs = [Rung(number, members, rows, anchors)]
        elif step.kind == "heads":
            rungs = _heads(places, number, step, facts)
        else:
            rungs = [Rung(number, members, step.rows) for members in places.groups(step)]
        yield from (rung for rung in rungs if rung.members)


def _heads(places: _Places, number: int, step: Step, facts: ModelFacts | None) -> Iterator[Rung]:
    """The first heads of a middle layer: those of one group of keys and values."""
    if facts is None or not facts.head_dim or not facts.n_heads:
        return
    by_layer = {layer: places.in_layer(layer, step) for layer in sorted(places.layers)}
    layers = [
        layer
        for layer, found in by_layer.items()
        if {places.weights[i].key.role for i in found} == {"q", "k", "v"}
    ]
    if not layers:
        return
    members = by_layer[layers[len(layers) // 2]]
    if any(places.weights[i].transposed for i in members):
        return  # its rows are inputs, not heads
    group = max(1, facts.n_heads // (facts.n_kv_heads or facts.n_heads))
    if step.rows == 1:
        yield Rung(number, tuple(members), facts.head_dim)
    elif group > 1:
        queries = tuple(i for i in members if places.weights[i].key.role == "q")
        yield Rung(number, queries, group * facts.head_dim)


def _of_kind(weights: Sequence[Weight], found: Sequence[int], step: Step) -> list[int]:
    if step.roles:
        found = [i for i in found if weights[i].key.role in step.roles]
    if step.kind == "all":
        return list(found)
    wants_vectors = step.kind == "vectors"
    return [i for i in found if weights[i].is_vector == wants_vectors]


def _place(weight: Weight) -> tuple[int, str, int, str]:
    key = weight.key
    return key.layer, key.role, key.expert, weight.name

"""From stored tensors to the weights of a network. Pure.

Settles once what depends on formats: which tensors belong together as one packed weight, which
tensor holds several weights, which rows a converter has moved. Whatever is not understood, or
contradicts itself, is passed over with a reason; nothing is decoded on a guess.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from crawler.errors import MalformedError
from crawler.records import TensorEntry
from lineage.weights.conversions import as_converted, undo_conversion
from lineage.weights.facts import ModelFacts
from lineage.weights.packed import ACTIVATIONS, Anchor, anchor_of, recognise
from lineage.weights.roles import Role, TensorKey, role_of
from lineage.weights.splitting import split
from lineage.weights.stored import narrow, plain
from lineage.weights.weight import RowOrder, Weight

__all__ = ["Layout", "lay_out"]

_MAX_EXPERTS = 4096
_MAX_WEIGHTS = 1 << 18  # the largest models have 70,000
_META_ORDER = re.compile(r"(^|\.)layers\.\d+\.attention\.w[qk]\.weight$")
_WIDE_INPUTS = frozenset({
    "q", "k", "v", "qkv", "kv", "gate", "up", "gate_up", "q_a", "kv_a", "head",
    "shared.gate", "shared.up", "shared.gate_up",
})  # fmt: skip
"""Roles whose inputs are the residual stream."""
_WIDE_OUTPUTS = frozenset({"o", "down", "shared.down"})


@dataclass(frozen=True, slots=True)
class Layout:
    """The weights of a model, and what is none.

    Attributes
    ----------
    weights
        In the order of the files.
    passed_over
        Names of stored tensors, with the reason.
    n_unknown
        Weights whose name no rule knows.
    """

    weights: tuple[Weight, ...]
    passed_over: tuple[tuple[str, str], ...]
    n_unknown: int


def lay_out(entries: Sequence[TensorEntry], facts: ModelFacts) -> Layout:
    """The weights that stored tensors hold.

    Parameters
    ----------
    entries
        All tensors of a model, as its headers tell them; nothing of them is believed.
    facts
        What the configuration says of it.
    """
    return _Sorting(entries, facts).result()


class _Sorting:
    """Tensors being sorted into weights."""

    def __init__(self, entries: Sequence[TensorEntry], facts: ModelFacts) -> None:
        self.facts = facts
        self.passed_over: list[tuple[str, str]] = []
        self.weights: list[Weight] = []
        self.keys: set[TensorKey] = set()
        self.named: dict[str, TensorEntry] = {}
        for entry in entries:
            if entry.name in self.named:
                self.passed_over.append((entry.name, "a tensor of this name stands there already"))
            else:
                self.named[entry.name] = entry
        anchors = {name: anchor_of(name, self.named) for name in self.named}
        self.anchors = {name: anchor for name, anchor in anchors.items() if anchor is not None}
        self.owner = {
            companion: name
            for name, anchor in self.anchors.items()
            for _, companion in self._companions(name, anchor)
        }

    def _companions(self, name: str, anchor: Anchor) -> Iterator[tuple[str, str]]:
        """Ends and names of the tensors that stand beside codes."""
        weight, kind, ends = anchor
        stem = weight.removesuffix("_blocks") if kind == "microscaled" else weight
        stem = stem.removesuffix(".weight") if not ends[0].startswith("_") else stem
        for end in ends:
            beside = f"{stem}{end}" if end.startswith("_") else f"{stem}.{end}"
            if beside in self.named and beside != name:
                yield end, beside

    def result(self) -> Layout:
        for name, entry in self.named.items():
            try:
                self._take(name, entry)
            except MalformedError as error:
                self._pass_over(name, str(error))
        n_unknown = sum(not weight.known for weight in self.weights)
        return Layout(tuple(self.weights), tuple(self.passed_over), n_unknown)

    def _pass_over(self, name: str, reason: str) -> None:
        self.passed_over.append((name, reason))
        if name in self.anchors:
            beside = {companion for _, companion in self._companions(name, self.anchors[name])}
            self.passed_over += [(other, f"{name} is passed over") for other in sorted(beside)]

    def _take(self, name: str, entry: TensorEntry) -> None:
        if name in self.owner:
            return
        anchor = self.anchors.get(name)
        if anchor is None:
            self._require_weight(name, entry)
        if not entry.shape or math.prod(entry.shape) < 2:
            raise MalformedError("empty, or one number alone")
        role = role_of(anchor[0] if anchor else name, self.facts.model_type)
        if role.key.is_buffer:
            raise MalformedError("a buffer, which nobody trained")
        if self.facts.format == "gguf":
            role = as_converted(role)
        found = [
            self._settled(weight, name)
            for piece, beside, at in self._pieces(name, entry, anchor, role)
            for weight in self._weights(piece, beside, anchor, at)
        ]
        keys = [weight.key for weight in found]
        if not self.keys.isdisjoint(keys):
            raise MalformedError(f"{keys[0]} stands there already")
        if len(self.weights) + len(found) > _MAX_WEIGHTS:
            raise MalformedError(f"there are {_MAX_WEIGHTS} weights already")
        self.keys.update(keys)
        self.weights += found
        if anchor is not None and _was_decoded(entry, anchor):
            left = {companion for _, companion in self._companions(name, anchor)}
            self.passed_over += [(other, f"{name} needs it no more") for other in sorted(left)]

    def _require_weight(self, name: str, entry: TensorEntry) -> None:
        """Raise unless a tensor that stands alone may be a weight."""
        stem, _, end = name.rpartition(".")
        if end in ACTIVATIONS:
            raise MalformedError("it scales activations or caches, no weight")
        if entry.dtype[0] in "IU" or entry.dtype == "BOOL":
            raise MalformedError(f"numbers of {entry.dtype} without scales are no weights")
        if end.startswith("weight_") or end in ("SCB", "qzeros", "g_idx"):
            raise MalformedError("what it belongs to is not there")
        if self.facts.format == "gguf" and end == "weight" and f"{stem}.scale" in self.named:
            raise MalformedError("it is scaled by a number that stands elsewhere")

    def _pieces(
        self, name: str, entry: TensorEntry, anchor: Anchor | None, role: Role
    ) -> Iterator[tuple[TensorEntry, Mapping[str, TensorEntry], Role]]:
        """The tensor and its companions, once for each expert that they hold."""
        beside = {end: self.named[other] for end, other in self._companions(name, anchor or _NONE)}
        count = self._n_experts(entry, anchor, role)
        if count is None:
            yield entry, beside, role
            return
        if len(self.weights) + count > _MAX_WEIGHTS:  # before they are told apart
            raise MalformedError(f"there are {_MAX_WEIGHTS} weights already")
        for expert in range(count):
            yield (
                narrow(entry, expert, count),
                {end: narrow(other, expert, count) for end, other in beside.items()},
                replace(role, key=replace(role.key, expert=expert), stacked=False),
            )

    def _n_experts(self, entry: TensorEntry, anchor: Anchor | None, role: Role) -> int | None:
        if not role.stacked:
            return None
        is_bias = role.key.role.endswith(".bias")
        n_dimensions = len(entry.shape) - (anchor is not None and anchor[1] == "microscaled")
        if n_dimensions == (2 if is_bias else 3):
            count: int | None = entry.shape[0]
        else:  # DBRX: rows of all experts one below the other
            count = self.facts.n_experts
        if count is None or not 0 < count <= _MAX_EXPERTS or n_dimensions not in (2, 3):
            raise MalformedError(f"experts are not told apart in the shape {list(entry.shape)}")
        return count

    def _weights(
        self,
        entry: TensorEntry,
        beside: Mapping[str, TensorEntry],
        anchor: Anchor | None,
        role: Role,
    ) -> list[Weight]:
        if anchor is None or _was_decoded(entry, anchor):
            stored = plain(entry)
        else:
            shape = _shape_by_role(role, entry, self.facts)
            stored = recognise(anchor[1], {"": entry, **beside}, self.facts, shape)
            if role.transposed and stored.columns_first is False:
                raise MalformedError("whether it was turned before it was packed is not known")
        return split(stored, role, self.facts)

    def _settled(self, weight: Weight, name: str) -> Weight:
        if self.facts.format == "gguf":
            return undo_conversion(weight, self.facts)
        if _META_ORDER.search(name) and not weight.is_vector:
            heads = self.facts.n_heads if weight.key.role == "q" else self.facts.n_kv_heads
            if heads is None or weight.n_rows % (2 * heads):
                raise MalformedError("its rows stand in pairs of heads whose number is not stated")
            chunk = weight.n_rows // heads
            return replace(weight, order=RowOrder(chunk, chunk, halves=True))
        return weight


_NONE: Anchor = ("", "", ("",))


def _was_decoded(entry: TensorEntry, anchor: Anchor) -> bool:
    """Whether scales were left behind beside a tensor that holds plain numbers again."""
    return anchor[1] == "scaled" and entry.dtype in ("BF16", "F16", "F32")


def _shape_by_role(role: Role, entry: TensorEntry, facts: ModelFacts) -> tuple[int, int] | None:
    """Rows × columns of four-bit codes stored as one long row, as far as the role tells them."""
    if facts.hidden is None:
        return None
    other, rest = divmod(2 * (entry.stop - entry.start), facts.hidden)
    if rest or not other:
        return None
    if role.key.role in _WIDE_INPUTS:
        return other, facts.hidden
    return (facts.hidden, other) if role.key.role in _WIDE_OUTPUTS else None

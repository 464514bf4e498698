"""What a tensor does in a network, read from its name: (role, layer, expert).

The rules are data (:mod:`lineage.weights.names`): tables of paths per family of naming schemes. A
name is taken apart at its dots. Wrappers of training tools fall away; a word such as
``vision_tower`` leads into one of the model's stacks and stays before the role; the ending says
whether it is a weight, a bias or an adapter's factor; what lies between is looked up.

A name that no rule knows keeps its shape as its role, with its first number as the layer, so that
equal names still meet and different ones do not. No regular expression is involved: work grows
with the length of the name alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from lineage.weights.names import SCHEMES
from lineage.weights.names.affixes import (
    ADAPTED,
    ENDINGS,
    ENTRANCES,
    OPEN_TOWERS,
    SINGLE,
    TOWERS,
    WRAPPERS,
)
from lineage.weights.names.scheme import FUSIONS, Rule
from lineage.weights.names.tree import Found, Node, find, grow, number

__all__ = ["Coverage", "Fused", "Role", "TensorKey", "coverage", "role_of"]

_MAX_LENGTH = 1_000
_MAX_WORDS = 64
_SPLIT_WITH = frozenset({"", ".bias", ".lora_b", ".lora_magnitude"})
"""What is cut where the weight itself is cut: all that has one value or row per output unit."""


@dataclass(frozen=True, slots=True, order=True)
class TensorKey:
    """A tensor's place in a network. `layer` and `expert` are -1 where they do not apply."""

    role: str
    layer: int = -1
    expert: int = -1

    def __str__(self) -> str:
        expert = f"/{self.expert}" if self.expert >= 0 else ""
        return f"{self.role}@{self.layer}{expert}" if self.layer >= 0 else self.role

    @property
    def is_buffer(self) -> bool:
        """Whether it is a mask, a table of angles or a counter: nothing that was learned."""
        return self.role.startswith("buffer.")


@dataclass(frozen=True, slots=True)
class Fused:
    """Several weights in one tensor.

    Attributes
    ----------
    roles
        Roles of the parts, in the order in which they lie.
    arrangement
        ``concatenated``: all output units of the first, then all of the second …;
        ``by_head``: for each head its queries, keys and values;
        ``by_group``: for each head of keys and values its queries, then its key, then its value
        (one group: concatenated; as many as heads: by head);
        ``alternating``: units in turn.
    """

    roles: tuple[str, ...]
    arrangement: str


@dataclass(frozen=True, slots=True)
class Role:
    """What a name says of its tensor.

    Attributes
    ----------
    key
        Its place.
    known
        Whether a rule knew the name.
    transposed
        Whether output units are stored as columns (GPT-2).
    fused
        The weights it holds, if several.
    stacked
        Whether the first dimension counts experts. (DBRX has two dimensions, the rows of all
        experts one after the other.)
    """

    key: TensorKey
    known: bool
    transposed: bool = False
    fused: Fused | None = None
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many of some names a rule knows, and the others."""

    n_known: int
    unknown: tuple[str, ...]


def role_of(name: str, model_type: str | None = None) -> Role:
    """The place of the tensor called `name`.

    Parameters
    ----------
    name
        As stored; endings of packed parts (``.qweight``) replaced by ``.weight``.
    model_type
        ``model_type`` of the configuration or architecture of the GGUF file. It decides where
        one name means different things; without it the most common meaning holds.

    Examples
    --------
    >>> str(role_of("model.layers.3.self_attn.q_proj.weight").key)
    'q@3'
    >>> str(role_of("blk.3.attn_q.weight").key)
    'q@3'
    >>> str(role_of("model.layers.0.block_sparse_moe.experts.1.w2.weight").key)
    'down@0/1'
    >>> role_of("transformer.h.0.attn.c_attn.bias").fused.roles
    ('q.bias', 'k.bias', 'v.bias')
    >>> str(role_of("model.layers.0.post_attention_layernorm.weight").key)
    'ffn_norm@0'
    >>> str(role_of("model.layers.0.post_attention_layernorm.weight", "gemma2").key)
    'post_attn_norm@0'
    >>> role_of("something.else").known
    False
    """
    if len(name) > _MAX_LENGTH:
        # Neither read nor remembered whole; the digest keeps it apart from others.
        digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        return Role(TensorKey(f"{name[:64]}…{digest}"), known=False)
    return _role_of(name, "" if model_type is None else _plain(model_type))


def coverage(names: Iterable[str], model_type: str | None = None) -> Coverage:
    """How many of `names` a rule knows.

    Examples
    --------
    >>> coverage(["lm_head.weight", "blk.0.frobnicate.weight"])
    Coverage(n_known=1, unknown=('blk.0.frobnicate.weight',))
    """
    n_known, unknown = 0, []
    for name in names:
        if role_of(name, model_type).known:
            n_known += 1
        else:
            unknown.append(name)
    return Coverage(n_known, tuple(unknown))


def _plain(model_type: str) -> str:
    return model_type[:_MAX_LENGTH].lower().replace("-", "_").removesuffix("_text")


@lru_cache(maxsize=1 << 16)
def _role_of(name: str, model_type: str) -> Role:
    words = name.split(".", _MAX_WORDS)
    if len(words) > _MAX_WORDS:
        return _unknown([name], "")
    words = [word for word in words if word not in WRAPPERS]
    stem, mark = _without_ending(words)
    for tree in [*([_tree(model_type)] if model_type in _TYPES else ()), _tree("")]:
        # The whole name first: `attn.bias` may be a mask, not the bias of something.
        for path, end in ((words, ""), (stem, mark)):
            for tower, start in _towers(path):
                if (found := find(tree, path, start)) is not None:
                    return _known(found, tower, end)
    if (opened := _open(stem)) is not None:
        return Role(TensorKey(opened + mark), known=True)
    return _unknown(stem, mark)


_TYPES = frozenset(model_type for scheme in SCHEMES for model_type in scheme.model_types)


@cache
def _tree(model_type: str) -> Node:
    """The tree of the schemes of a model type that has its own; of the general ones for ``""``."""
    return grow(
        scheme
        for scheme in SCHEMES
        if (model_type in scheme.model_types if model_type else not scheme.model_types)
    )


def _without_ending(words: Sequence[str]) -> tuple[Sequence[str], str]:
    """The path, and what its ending adds to the role."""
    mark = ""
    if len(words) > 1 and (ending := ENDINGS.get(words[-1])) is not None:
        words, mark = words[:-1], ending
    for back in (1, 2):
        if len(words) > back and (factor := ADAPTED.get(words[-back])) is not None:
            adapter = words[-1] if back == 2 else "default"
            named = "" if adapter == "default" else f".{adapter}"
            words, mark = words[:-back], factor + mark + named
            break
    if "lora_" in mark and len(words) > 1 and words[-1] == "weight":
        words = words[:-1]  # llama.cpp's adapters: `blk.0.attn_q.weight.lora_a`
    return words, mark


def _towers(words: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Where a path may begin, and what goes before its role from there.

    The longest path comes first: `encoder.layer` is a stack of BERT's before it is the layer of
    an encoder.
    """
    tower, single, at = "", False, 0
    yield tower, at
    while at < len(words) - 1:
        word, step = words[at], 1
        leads = TOWERS.get(word)
        if leads is None and (leads := TOWERS.get(f"{word}.{words[at + 1]}")) is not None:
            step = 2
        if word in SINGLE:
            single = True
        elif leads is not None:
            # Within a stack (`vision_tower.encoder`), or where there is only one, it says nothing.
            if not (leads == "encoder." and (tower or single)) and not tower.endswith(leads):
                tower += leads
        elif word not in ENTRANCES:
            return
        at += step
        if at < len(words):
            yield tower, at


def _open(words: Sequence[str]) -> str | None:
    """The role of a weight between two towers, whose inner names are kept."""
    for tower, start in _towers(words):
        if (leads := OPEN_TOWERS.get(words[start])) is not None:
            return ".".join(
                [(tower if tower != "vision." else "") + leads.rstrip("."), *words[start + 1 :]]
            )
    return None


def _known(found: Found, tower: str, mark: str) -> Role:
    rule = found.rule
    role = rule.role
    for letter, value in found.numbers.items():
        role = role.replace("{" + letter + "}", str(value))
    if role.startswith("buffer."):
        role = f"buffer.{tower}{role.removeprefix('buffer.')}"
    else:
        role = tower + role
    key = TensorKey(role + mark, found.numbers.get("layer", -1), found.numbers.get("e", -1))
    fused = _fused(rule, role, mark)
    return Role(key, True, rule.transposed and not mark, fused, rule.stacked)


def _fused(rule: Rule, role: str, mark: str) -> Fused | None:
    own = role.removesuffix(".bias")
    mark = (".bias" if own != role else "") + mark
    before, _, last = own.rpartition(".")
    parts = rule.parts or FUSIONS.get(last)
    if parts is None or not rule.arrangement or mark not in _SPLIT_WITH:
        return None
    return Fused(tuple(f"{before}.{part}{mark}".lstrip(".") for part in parts), rule.arrangement)


def _unknown(words: Sequence[str], mark: str) -> Role:
    """The shape of the name: its first number is the layer, all others stay."""
    text, layer = ".".join(words), -1
    first = next((at for at, letter in enumerate(text) if letter.isdigit()), None)
    if first is not None:
        last = first
        while last < len(text) and text[last].isdigit():
            last += 1
        value = number(text[first:last])
        if value is not None:
            text, layer = f"{text[:first]}#{text[last:]}", value
    return Role(TensorKey(text + mark, layer), known=False)

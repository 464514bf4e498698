"""How a family of naming schemes is declared.

A *path* is what remains of a name once wrappers, towers and the ending are gone: words between
dots. In a declared path ``a|b`` stands for either word, ``{e}`` for the number of an expert, and
any other ``{letter}`` for a number that the role repeats. Words are compared whole, so that a
lookup walks a tree of words and no expression can run away on a hostile name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

__all__ = [
    "CONCATENATED",
    "FUSIONS",
    "Rule",
    "Scheme",
    "columns",
    "fused",
    "stacked",
    "under",
    "within",
]

CONCATENATED = "concatenated"

FUSIONS: Mapping[str, tuple[str, ...]] = {
    "qkv": ("q", "k", "v"),
    "kv": ("k", "v"),
    "gate_up": ("gate", "up"),
}
"""Roles that are several in one, and what they are; a tower's prefix stays before each."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a path says.

    Attributes
    ----------
    role
        Place in the network, ``{a}`` standing for a number of the path.
    transposed
        Whether output units are stored as columns.
    stacked
        Whether the first dimension counts experts.
    arrangement
        How the parts of a fused weight lie; empty: in an order that cannot be told, so it stays
        whole.
    parts
        The parts where they are not those of `FUSIONS`.
    """

    role: str
    transposed: bool = False
    stacked: bool = False
    arrangement: str = CONCATENATED
    parts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scheme:
    """One family of naming schemes.

    Attributes
    ----------
    title
        Who names tensors so.
    layers
        Paths before the number of the layer.
    inside, outside
        Role by path after that number, and by path of what belongs to no layer.
    prefix
        Goes before every role.
    model_types
        The scheme holds for these only, and there before all others; empty: for all.
    replaces
        Whether it may say something else of a path than the schemes before it.
    """

    title: str
    layers: tuple[str, ...] = ()
    inside: Mapping[str, str | Rule] = field(default_factory=dict)
    outside: Mapping[str, str | Rule] = field(default_factory=dict)
    prefix: str = ""
    model_types: frozenset[str] = frozenset()
    replaces: bool = False


def columns(role: str, **more: object) -> Rule:
    """A rule for a weight whose output units are columns."""
    return Rule(role, transposed=True, **more)  # type: ignore[arg-type]


def stacked(role: str, **more: object) -> Rule:
    """A rule for the weights of all experts in one tensor."""
    return Rule(role, stacked=True, **more)  # type: ignore[arg-type]


def fused(role: str, arrangement: str, **more: object) -> Rule:
    """A rule for a weight that holds several, in this arrangement."""
    return Rule(role, arrangement=arrangement, **more)  # type: ignore[arg-type]


def under(blocks: Iterable[str], leaves: Mapping[str, str | Rule]) -> dict[str, str | Rule]:
    """The same leaves under each of several blocks."""
    return {f"{block}.{leaf}": rule for block in blocks for leaf, rule in leaves.items()}


def within(prefix: str, table: Mapping[str, str | Rule]) -> dict[str, str | Rule]:
    """The same paths with `prefix` before every role."""
    return {
        path: replace(rule, role=prefix + rule.role) if isinstance(rule, Rule) else prefix + rule
        for path, rule in table.items()
    }

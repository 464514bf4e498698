"""A pedigree as the writers of trees and graphs take it: individuals and the bonds between them.

Names are hostile: whoever writes them quotes them. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

__all__ = ["Bond", "Fact", "Forest", "Individual", "Pedigree", "primary_forest", "printable"]

Fact = str | int | float | bool | None
"""A plain value; None is missing and is never written as an empty text or a zero."""

_CONTROL = {code: 0x2400 + code for code in range(0x20)} | {0x7F: 0x2421}
_CONTROL |= dict.fromkeys((*range(0x80, 0xA0), 0x2028, 0x2029, *range(0xD800, 0xE000)), 0xFFFD)
_CONTROL |= {0xFFFE: 0xFFFD, 0xFFFF: 0xFFFD}


def printable(text: str) -> str:
    r"""Control characters as the signs that stand for them: no format here can hold them.

    Examples
    --------
    >>> printable("a\nb")
    'a␊b'
    """
    return text.translate(_CONTROL)


@dataclass(frozen=True, slots=True)
class Individual:
    """One model: its name, the moment of its creation, its colour (``#rrggbb``) and facts."""

    name: str
    born: datetime | None = None
    colour: str | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bond:
    """One parent of one child; a child has at most one primary bond."""

    child: str
    parent: str
    is_primary: bool
    facts: Mapping[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pedigree:
    """Individuals with distinct names in drawing order, and the bonds among them.

    Bonds to parents that are not among the individuals are allowed; the writers of trees leave
    them out.
    """

    individuals: tuple[Individual, ...]
    bonds: tuple[Bond, ...]


@dataclass(frozen=True, slots=True)
class Forest:
    """Roots, the children of every individual, and the bonds that no tree can hold.

    `extra` are the further bonds among the individuals that close no cycle, in order.
    """

    individuals: Mapping[str, Individual]
    roots: tuple[str, ...]
    children: Mapping[str, Sequence[str]]
    extra: tuple[Bond, ...]

    def days(self, child: str, parent: str) -> int | None:
        """Whole days from the parent's birth to the child's; 0 if the child seems older.

        None where a date is missing.
        """
        born, before = self.individuals[child].born, self.individuals[parent].born
        if born is None or before is None:
            return None
        return max(0, round((born - before) / timedelta(days=1)))


def primary_forest(pedigree: Pedigree, *, any_parent: bool = False) -> Forest:
    """The trees of a pedigree along primary bonds.

    Parameters
    ----------
    pedigree
        Any pedigree. A bond that would make somebody its own ancestor (claims can say such
        things) belongs neither to the trees nor to `Forest.extra`.
    any_parent
        Let a child whose primary parent is not among the individuals hang on its first parent
        that is, instead of being a root.
    """
    known = {one.name: one for one in pedigree.individuals}
    bonds = sorted(
        (b for b in pedigree.bonds if b.child in known and b.parent in known),
        key=lambda bond: not bond.is_primary,
    )
    below: dict[str, list[str]] = {name: [] for name in known}
    children: dict[str, list[str]] = {name: [] for name in known}
    placed: set[str] = set()
    extra: list[Bond] = []
    for bond in bonds:
        if _reaches(below, bond.child, bond.parent):
            continue
        below[bond.parent].append(bond.child)
        if bond.child not in placed and (bond.is_primary or any_parent):
            placed.add(bond.child)
            children[bond.parent].append(bond.child)
        else:
            extra.append(bond)
    order = {name: place for place, name in enumerate(known)}
    for siblings in children.values():
        siblings.sort(key=order.__getitem__)
    roots = tuple(name for name in known if name not in placed)
    return Forest(known, roots, children, tuple(extra))


def _reaches(below: Mapping[str, Sequence[str]], start: str, end: str) -> bool:
    """Whether `end` is `start` or descends from it."""
    seen, open_ = {start}, [start]
    while open_:
        name = open_.pop()
        if name == end:
            return True
        fresh = [child for child in below[name] if child not in seen]
        seen.update(fresh)
        open_ += fresh
    return False

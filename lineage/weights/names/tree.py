"""Trees of words that hold the declared paths, and the walk through them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from lineage.weights.names.scheme import Rule, Scheme

__all__ = ["Branches", "Found", "Node", "find", "grow", "number"]

_MAX_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Declared:
    """A declared path, word by word with all that may stand there, and its rule."""

    words: tuple[tuple[str, ...], ...]
    rule: Rule
    replaces: bool


@dataclass(frozen=True, slots=True)
class Branches:
    """What follows a place in a tree.

    Attributes
    ----------
    words, number
        Where the words that are declared lead, and where any number leads.
    rule, numbers
        The rule of a path that ends here, and the names of the numbers on the way.
    """

    words: dict[str, Node]
    number: Node | None
    rule: Rule | None
    numbers: tuple[str, ...]


@dataclass(slots=True)
class Node:
    """A place in a tree.

    What follows is laid out when a walk first comes by: the names of a model meet few of the tens
    of thousands of paths that are declared.

    Attributes
    ----------
    path
        The words up to here; `None` for a number.
    declared
        The paths that lead here, in the order of their declaration.
    """

    path: tuple[str | None, ...]
    declared: list[Declared]
    _branches: Branches | None = None

    @property
    def branches(self) -> Branches:
        """What follows.

        Raises
        ------
        ValueError
            If two paths that end here say different things and the second does not mean to.
        """
        if self._branches is None:
            self._branches = self._lay_out()
            self.declared = []
        return self._branches

    def _lay_out(self) -> Branches:
        ending: tuple[Rule, tuple[str, ...]] | None = None
        following: dict[str | None, Node] = {}
        for one in self.declared:
            if len(one.words) == len(self.path):
                said = one.rule, _numbers(self.path, one)
                if ending not in (None, said) and not one.replaces:
                    path = ".".join("#" if word is None else word for word in self.path)
                    raise ValueError(f"{path} is both {ending} and {said}")
                ending = said
                continue
            for declared in one.words[len(self.path)]:
                word = None if declared.startswith("{") else declared
                if word not in following:
                    following[word] = Node((*self.path, word), [])
                following[word].declared.append(one)
        number = following.pop(None, None)
        words = {word: node for word, node in following.items() if word is not None}
        return Branches(words, number, *(ending or (None, ())))


def _numbers(path: Sequence[str | None], declared: Declared) -> tuple[str, ...]:
    """The names of the numbers on the way."""
    return tuple(
        name[1:-1]
        for word, names in zip(path, declared.words, strict=True)
        if word is None
        for name in names
        if name.startswith("{")
    )


@dataclass(frozen=True, slots=True)
class Found:
    """A rule and the numbers of the path by their names."""

    rule: Rule
    numbers: dict[str, int]


def number(word: str) -> int | None:
    """The number that `word` spells in the usual way, below a thousand million.

    Only one spelling counts (not ``07``), so that different names keep different keys.
    """
    if not (word.isascii() and word.isdigit()) or len(word) > _MAX_DIGITS:
        return None
    return int(word) if word == "0" or word[0] != "0" else None


def grow(schemes: Iterable[Scheme]) -> Node:
    """A tree of all paths of `schemes`."""
    declared: list[Declared] = []
    for scheme in schemes:
        inside, outside = _declared(scheme, scheme.inside), _declared(scheme, scheme.outside)
        for layers in scheme.layers:
            before = _words(f"{layers}.{{layer}}")
            declared += [Declared(before + one.words, one.rule, one.replaces) for one in inside]
        declared += outside
    return Node((), declared)


def _declared(scheme: Scheme, table: Mapping[str, str | Rule]) -> list[Declared]:
    return [
        Declared(
            _words(path),
            replace(rule, role=scheme.prefix + rule.role)
            if isinstance(rule, Rule)
            else Rule(scheme.prefix + rule),
            scheme.replaces,
        )
        for path, rule in table.items()
    ]


def _words(path: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(word.split("|")) for word in path.split("."))


def find(root: Node, words: Sequence[str], start: int = 0) -> Found | None:
    """The rule of the path ``words[start:]``.

    A number is first looked for as a declared word (``layer.0.SelfAttention``), then as any
    number. Every step goes one word on, and no path branches more often than it was declared to,
    so the walk is bounded by the tree, whatever the name.
    """
    stack: list[tuple[Node, int, tuple[int, ...]]] = [(root, start, ())]
    while stack:
        node, at, numbers = stack.pop()
        here = node.branches
        if at == len(words):
            if here.rule is not None:
                return Found(here.rule, dict(zip(here.numbers, numbers, strict=True)))
            continue
        word = words[at]
        if here.number is not None and (value := number(word)) is not None:
            stack.append((here.number, at + 1, (*numbers, value)))
        if (following := here.words.get(word)) is not None:
            stack.append((following, at + 1, numbers))
    return None

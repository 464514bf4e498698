"""Trees of words that hold the declared paths, and the walk through them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from lineage.weights.names.scheme import Rule, Scheme, paths

__all__ = ["Found", "Node", "find", "grow", "number"]

_MAX_DIGITS = 9


@dataclass(slots=True)
class Node:
    """A place in a tree: the words that may follow, and the rule of a path that ends here."""

    words: dict[str, Node] = field(default_factory=dict)
    number: Node | None = None
    rule: Rule | None = None
    numbers: tuple[str, ...] = ()
    path: str = ""


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
    """A tree of all paths of `schemes`.

    Raises
    ------
    ValueError
        If two schemes say different things of one path and the second does not mean to.
    """
    root = Node()
    for scheme in schemes:
        declared = [
            (f"{layers}.{{layer}}.{path}", rule)
            for layers in scheme.layers
            for path, rule in scheme.inside.items()
        ]
        for path, rule in (*declared, *scheme.outside.items()):
            rule = rule if isinstance(rule, Rule) else Rule(rule)
            rule = replace(rule, role=scheme.prefix + rule.role)
            for words in paths(path):
                _plant(root, words, rule, scheme.replaces)
    return root


def _plant(root: Node, words: Sequence[str], rule: Rule, replaces: bool) -> None:
    node, names = root, []
    for word in words:
        if word.startswith("{"):
            names.append(word[1:-1])
            node.number = node.number or Node()
            node = node.number
        else:
            node = node.words.setdefault(word, Node())
    path = ".".join(words)
    if (
        not replaces
        and node.rule is not None
        and (node.rule != rule or node.numbers != tuple(names))
    ):
        raise ValueError(f"{path} is both {node.rule} and {rule}")
    node.rule, node.numbers, node.path = rule, tuple(names), path


def find(root: Node, words: Sequence[str], start: int = 0) -> Found | None:
    """The rule of the path ``words[start:]``.

    A number is first looked for as a declared word (``layer.0.SelfAttention``), then as any
    number. Every step goes one word on, and no path branches more often than it was declared to,
    so the walk is bounded by the tree, whatever the name.
    """
    stack: list[tuple[Node, int, tuple[int, ...]]] = [(root, start, ())]
    while stack:
        node, at, numbers = stack.pop()
        if at == len(words):
            if node.rule is not None:
                return Found(node.rule, dict(zip(node.numbers, numbers, strict=True)))
            continue
        word = words[at]
        if node.number is not None and (value := number(word)) is not None:
            stack.append((node.number, at + 1, (*numbers, value)))
        if (following := node.words.get(word)) is not None:
            stack.append((following, at + 1, numbers))
    return None

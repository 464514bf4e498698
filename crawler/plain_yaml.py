"""YAML of strangers as plain text: strings, lists and mappings, nothing else. Pure and bounded.

No scalar is converted, so ``language: no`` stays "no", a date stays what was written, and no
number can be made to take minutes. Aliases are refused: with them a few lines unfold to billions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import yaml

from crawler.errors import MalformedError

__all__ = ["Plain", "items_of", "mapping_of", "number_of", "read_yaml", "word_of"]

Plain: TypeAlias = "str | list[Plain] | dict[str, Plain]"
"""A value of plain YAML."""

_MAX_CHARACTERS = 1 << 20
_MAX_NODES = 200_000
_MAX_DEPTH = 50
_NUMBER = re.compile(r"[-+]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][-+]?\d{1,4})?")
_NOTHING = frozenset({"", "~", "null", "Null", "NULL", "none", "None"})

_Loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


def read_yaml(text: str) -> list[Plain]:
    r"""The documents of `text`.

    Raises
    ------
    MalformedError
        If it is no YAML, has aliases, or exceeds the bounds on length, nodes or depth.

    Examples
    --------
    >>> read_yaml("language: no\nversion: 1.10")
    [{'language': 'no', 'version': '1.10'}]
    """
    if len(text) > _MAX_CHARACTERS:
        raise MalformedError(f"YAML of {len(text)} characters is too long")
    try:
        _check_events(text)
        return list(yaml.load_all(text, Loader=_Loader))
    except yaml.YAMLError as error:
        raise MalformedError(f"not YAML: {' '.join(str(error).split())[:300]}") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise MalformedError(f"not YAML: {str(error)[:300]}") from error


def _check_events(text: str) -> None:
    nodes = depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            raise MalformedError(f"the YAML has an alias (*{event.anchor}), which is not followed")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        nodes += isinstance(event, yaml.NodeEvent)
        if depth > _MAX_DEPTH or nodes > _MAX_NODES:
            raise MalformedError("the YAML is nested too deeply or has too many values")


def word_of(value: object) -> str | None:
    """A scalar that says something, stripped, as text that UTF-8 can hold; None for all else."""
    if type(value) is int:
        value = str(value) if abs(value) < 1 << 63 else ""
    if not isinstance(value, str):
        return None
    word = value.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\ufffd").strip()
    return None if word in _NOTHING else word


def number_of(value: object) -> float | None:
    """A finite number, stated as such or as text; None for everything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if abs(value) < 1e300 else None
    word = word_of(value)
    if word is None or not _NUMBER.fullmatch(word):
        return None
    number = float(word)
    return number if abs(number) < 1e300 else None


def items_of(value: object) -> Sequence[object]:
    """The items of a list, or the value alone; nothing for null."""
    if isinstance(value, list):
        return value
    return () if value is None or (isinstance(value, str) and word_of(value) is None) else (value,)


def mapping_of(value: object) -> Mapping[str, object]:
    """A mapping, empty for everything else."""
    return value if isinstance(value, dict) else {}

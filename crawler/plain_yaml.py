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
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def read_yaml(text: str) -> list[Plain]:
    r"""The documents of `text`; of a key that stands twice, the last value counts.

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
        return _documents(text)
    except yaml.YAMLError as error:
        raise MalformedError(f"not YAML: {' '.join(str(error).split())[:300]}") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise MalformedError(f"not YAML: {str(error)[:300]}") from error


def _documents(text: str) -> list[Plain]:
    """Build the values straight from the events: one pass, and every bound before it is passed.

    Composing nodes and constructing from them, as the library does, takes over twice the time and
    unfolds aliases and recurses into depths before anybody can look.
    """
    documents: list[Plain] = []
    above: list[tuple[list[Plain] | dict[str, Plain] | None, str | None]] = []
    into: list[Plain] | dict[str, Plain] | None = None
    key: str | None = None
    n_nodes = 0
    loader = _Loader(text)
    try:
        while True:
            event = loader.get_event()
            kind = type(event)
            value: Plain
            if kind is yaml.ScalarEvent:
                value = event.value
                n_nodes += 1
            elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                n_nodes += 1
                if len(above) >= _MAX_DEPTH or n_nodes > _MAX_NODES:
                    raise MalformedError("the YAML is nested too deeply or has too many values")
                if isinstance(into, dict) and key is None:
                    raise MalformedError("not YAML: a list or mapping where a key belongs")
                above.append((into, key))
                into, key = ({} if kind is yaml.MappingStartEvent else []), None
                continue
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                value = {} if into is None else into
                into, key = above.pop()
            elif kind is yaml.AliasEvent:
                raise MalformedError(f"the YAML has an alias (*{event.anchor[:50]}), not followed")
            elif kind is yaml.StreamEndEvent:
                return documents
            else:
                continue
            if n_nodes > _MAX_NODES:
                raise MalformedError("the YAML is nested too deeply or has too many values")
            if into is None:
                documents.append(value)
            elif isinstance(into, list):
                into.append(value)
            elif key is None:
                key = str(value)
            else:
                into[key], key = value, None
    finally:
        loader.dispose()


def word_of(value: object) -> str | None:
    """A scalar that says something, stripped, as text that UTF-8 can hold; None for all else.

    Control characters other than tab and line feed become U+FFFD; of a longer text the first
    1,048,576 characters count.
    """
    if type(value) is int:
        value = str(value) if abs(value) < 1 << 63 else ""
    if not isinstance(value, str):
        return None
    word = value[:_MAX_CHARACTERS].strip()
    if not (word.isascii() and word.isprintable()):
        word = word.encode("utf-8", "replace").decode("utf-8")
        word = _CONTROL.sub("\ufffd", word).strip()
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

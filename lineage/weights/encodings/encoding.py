"""The name of an encoding with its parameters, as one line of text.

``NAME:key=value,key=value`` with keys in alphabetical order; plain dtypes and the blocks of GGML
have no parameters and are their names alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from crawler.errors import MalformedError

__all__ = ["Encoding"]

_NAME = re.compile(r"[A-Za-z0-9_]{1,32}")
_OPTION = re.compile(r"([a-z]{1,16})=([A-Za-z0-9_]{1,32})")
_MAX_CHARACTERS = 200
_MAX_NUMBER = 1 << 31


@dataclass(frozen=True, slots=True)
class Encoding:
    """An encoding and its parameters; `str` gives the line, :meth:`parse` reads it.

    Examples
    --------
    >>> str(Encoding("GPTQ", {"group": "128", "bits": "4"}))
    'GPTQ:bits=4,group=128'
    >>> Encoding.parse("GPTQ:bits=4,group=128").number("group")
    128
    """

    name: str
    options: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        options = ",".join(f"{key}={self.options[key]}" for key in sorted(self.options))
        return f"{self.name}:{options}" if options else self.name

    @staticmethod
    def parse(text: str) -> Encoding:
        """The encoding that `text` names.

        Raises
        ------
        MalformedError
            If it is no such line: too long, keys out of order or twice, odd characters.
        """
        name, colon, rest = text[: _MAX_CHARACTERS + 1].partition(":")
        found = [_OPTION.fullmatch(item) for item in rest.split(",")] if colon else []
        options = {match[1]: match[2] for match in found if match}
        encoding = Encoding(name, options)
        if not _NAME.fullmatch(name) or str(encoding) != text or len(options) != len(found):
            raise MalformedError(f"{text:.60} names no encoding")
        return encoding

    def text(self, key: str, default: str | None = None) -> str:
        """The parameter `key`.

        Raises
        ------
        MalformedError
            If it is missing and there is no default.
        """
        value = self.options.get(key, default)
        if value is None:
            raise MalformedError(f"{self.name} needs the parameter {key}")
        return value

    def number(self, key: str, default: int | None = None) -> int:
        """The parameter `key` as a number from 0 to 2³¹.

        Raises
        ------
        MalformedError
            If it is missing and there is no default, or is no such number.
        """
        text = self.text(key, None if default is None else str(default))
        if not (text.isascii() and text.isdecimal()) or int(text) > _MAX_NUMBER:
            raise MalformedError(f"{self.name} has no usable {key}: {text}")
        return int(text)

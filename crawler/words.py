"""Words of strangers made safe to keep: bounded, printable, and text that UTF-8 can hold. Pure."""

from __future__ import annotations

import unicodedata

from crawler.references import MAX_WORD_CHARACTERS

__all__ = ["clean_word"]

_NOTHING = frozenset({"", "~", "null", "Null", "NULL", "none", "None"})
# Marks that change the direction of the text around them; shown, they disguise what is written.
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def clean_word(value: object) -> str | None:
    r"""A text without what no database or terminal should hold; None when it says nothing.

    At most ``MAX_WORD_CHARACTERS`` characters are kept. White space of any kind becomes a space;
    control characters, lone surrogates and marks of direction become U+FFFD. What is not a text,
    and the words for nothing (``null``, ``none``, ``~``), are None.

    Examples
    --------
    >>> clean_word(" a\tb\n"), clean_word("a\x00b"), clean_word("null"), clean_word(3)
    ('a b', 'a\ufffdb', None, None)
    """
    if not isinstance(value, str):
        return None
    word = value[:MAX_WORD_CHARACTERS]
    if not word.isprintable():
        word = "".join(map(_printable, word))
    word = word.strip()
    return None if word in _NOTHING else word


def _printable(character: str) -> str:
    if character.isspace():
        return " "
    if character in _DIRECTIONS or unicodedata.category(character) in ("Cc", "Cs"):
        return "\ufffd"
    return character

"""What commands print: tables on a terminal, plain text in a pipe, and JSON."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Sequence

from lineage.plain import plain

__all__ = ["clean", "print_json", "print_table", "print_text", "say"]


def clean(text: str) -> str:
    r"""`text` without control, formatting and direction characters, safe for a terminal.

    Examples
    --------
    >>> clean("red\x1b[31m\u202e")
    'red[31m'
    """
    return "".join(
        " " if character in "\t\n" else character
        for character in text
        if character in "\t\n" or unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co"}
    )


def say(sentence: str) -> None:
    """Talk to the person: on stderr."""
    print(clean(sentence), file=sys.stderr, flush=True)


def print_text(line: str = "") -> None:
    """One line of data on stdout."""
    print(clean(line))


def print_json(value: object) -> None:
    """`value` as JSON on stdout; dataclasses become objects, NaN becomes null."""
    print(json.dumps(plain(value), indent=2, ensure_ascii=True))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """A table on a terminal, tab-separated lines with a header in a pipe."""
    if not sys.stdout.isatty():
        if title:
            print(clean(title))
        for row in (columns, *rows):
            print("\t".join(clean(cell) for cell in row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(clean(cell)) for cell in row))
    Console().print(table)

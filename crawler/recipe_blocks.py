"""Where recipes stand in a card: code blocks, preformatted HTML, lines that look like YAML. Pure.

Every function takes time in proportion to the length of its text.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Block", "documents_of", "has_mark", "loose_blocks", "marked_blocks"]

_MAX_LINES = 20_000
_MAX_HEADING_CHARACTERS = 500
_MARKS = re.compile(r"^[ \t>-]*(merge_method|experts)[ \t]*:", re.MULTILINE)
# Three backticks open a block only where no further backtick stands on the line.
_FENCE = re.compile(r"^([ \t>]*)(`{3,}+(?![^\n]*`)|~{3,})[^\n]*$", re.MULTILINE)
_QUOTED = re.compile(r"^[ \t]*>[ \t]?", re.MULTILINE)
_PRE = re.compile(r"<(pre|code)\b[^<>]{0,200}>", re.IGNORECASE)
_CLOSING = {tag: re.compile(f"</{tag}>", re.IGNORECASE) for tag in ("pre", "code")}
_TAGS = re.compile(r"</?(?:pre|code|span)\b[^<>]{0,200}>", re.IGNORECASE)
_LOOSE_START = re.compile(
    r"[ \t]*(?:-[ \t]+)?(slices|models|merge_method|base_model|experts|sources|model)[ \t]*:"
)
_LOOSE_LINE = re.compile(r"[ \t]|- |#|$|[A-Za-z_]\w*[ \t]*:")
_DOCUMENT = re.compile(r"^---(?=\s|\Z)", re.MULTILINE)
_NO_WORDS = re.compile(r"(?:[ \t]*(?:[#%][^\n]*)?\n)*+[ \t]*(?:[#%][^\n]*)?\Z")
_TOP_KEY = re.compile(r"^([A-Za-z_]\w*)[ \t]*:", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """Lines that may be a recipe, and the line of words above them."""

    text: str
    heading: str


def has_mark(text: str) -> bool:
    """Whether a line of `text` starts as every recipe has one that does."""
    return ("merge_method" in text or "experts" in text) and _MARKS.search(text) is not None


def marked_blocks(text: str) -> Iterator[Block]:
    """Fenced blocks, preformatted HTML, then runs of lines that look like YAML; no others.

    No character is in two of them.
    """
    fences = list(_FENCE.finditer(text))
    outside: list[str] = []
    at = end = 0
    while at < len(fences):
        opening = fences[at]
        stop = at + 1
        while stop < len(fences) and fences[stop][2][:3] != opening[2][:3]:
            stop += 1
        closed = stop < len(fences)
        inner = text[opening.end() : fences[stop].start() if closed else len(text)]
        if has_mark(inner):
            if ">" in opening[1]:
                inner = _QUOTED.sub("", inner)
            yield Block(inner, _line_above(text, opening.start()))
        outside.append(text[end : opening.start()])
        end = fences[stop].end() if closed else len(text)
        at = stop + 1
    outside.append(text[end:])
    yield from _unfenced("\n\n".join(outside))


def _unfenced(text: str) -> Iterator[Block]:
    """What stands between tags, the outer ones where one stands inside another; then the rest."""
    outside: list[str] = []
    end = seen = 0
    unclosed: set[str] = set()
    for match in _PRE.finditer(text) if has_mark(text) else ():
        tag = match[1].lower()
        if match.start() < seen or tag in unclosed:
            continue
        closing = _CLOSING[tag].search(text, match.end())
        if closing is None:
            unclosed.add(tag)
            continue
        seen = closing.end()
        inner = _TAGS.sub("", text[match.end() : closing.start()])
        if has_mark(inner):
            yield Block(html.unescape(inner), _line_above(text, match.start()))
            outside.append(text[end : match.start()])
            end = seen
    outside.append(text[end:])
    yield from loose_blocks("\n\n".join(outside))


def _line_above(text: str, position: int) -> str:
    """The last line before `position` that says something."""
    before = text[max(0, position - 2 * _MAX_HEADING_CHARACTERS) : position].rstrip()
    return before.rpartition("\n")[2][-_MAX_HEADING_CHARACTERS:]


def loose_blocks(text: str) -> Iterator[Block]:
    """Runs of lines that look like YAML between lines that do not, those with a mark."""
    if not has_mark(text):
        return
    run: list[str] = []
    heading = above = ""
    for line in [*text.split("\n")[:_MAX_LINES], "."]:
        if run and _LOOSE_LINE.match(line):
            run.append(line)
            continue
        if run:
            inner = "\n".join(run)
            if has_mark(inner):
                yield Block(inner, heading)
            run = []
        if _LOOSE_START.match(line):
            run, heading = [line], above
        if line.strip():
            above = line[:_MAX_HEADING_CHARACTERS]


def documents_of(text: str, *, restarts: bool = False) -> list[str]:
    """The documents of a YAML text, as text; those of comments alone are left out.

    With `restarts`, as people write in cards, a key of the first column that stands there a second
    time begins another document, if both have a method.
    """
    whole = [piece for piece in _DOCUMENT.split(text) if not _NO_WORDS.match(piece)]
    if not restarts:
        return whole
    return [part for piece in whole for part in _restarted(piece)]


def _restarted(text: str) -> list[str]:
    parts: list[str] = []
    seen: set[str] = set()
    start = 0
    for match in _TOP_KEY.finditer(text):
        if match[1] in seen and "merge_method" in seen:
            parts.append(text[start : match.start()])
            seen, start = set(), match.start()
        seen.add(match[1])
    if parts and "merge_method" not in seen:
        return [text]  # a key was written twice, no second recipe
    return [*parts, text[start:]]

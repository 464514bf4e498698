"""The texts of ``docs/``, shown inside the explorer where they lie beside the package."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import lineage
from lineage.explorer.markup import address

__all__ = ["chapters", "read_chapter"]

_FOLDER = Path(lineage.__file__).resolve().parents[1] / "docs"
_CHAPTERS = {
    "inference": "How parents are inferred",
    "fingerprints": "What is read of the weights",
    "statistics": "How the statistics are made",
    "traits": "Traits and where they come from",
    "crawl": "How the Hub is read",
    "proving-ground": "How it was tested",
    "performance": "What it costs",
    "data-model": "The tables",
    "commands": "The commands",
    "online": "Publishing and serving a register",
    "glossary": "The words",
}
_LINK = re.compile(r"\[([^\]]+)\]\((?![a-z]+:|#)(?:\.\./docs/)?([^)#\s]*)(?:#[^)\s]*)?\)")
_PICTURE = re.compile(r"!\[[^\]]*\]\([^)]*\)")


def chapters() -> Mapping[str, str]:
    """Name and title of every text that is there; none in a package without ``docs/``."""
    return {name: title for name, title in _CHAPTERS.items() if (_FOLDER / f"{name}.md").is_file()}


@lru_cache(maxsize=32)
def read_chapter(name: str) -> str:
    """A text as Markdown, its links to others leading to this explorer.

    Raises
    ------
    KeyError
        If there is no such chapter; names are never used as paths before.
    """
    if name not in chapters():
        raise KeyError(name)
    text = _PICTURE.sub("", (_FOLDER / f"{name}.md").read_text(encoding="utf-8"))

    def inside(match: re.Match[str]) -> str:
        words, name = match[1], match[2].removesuffix(".md")
        return f"[{words}]({address('about', doc=name)})" if name in chapters() else words

    return _LINK.sub(inside, text)

"""The shape of a model card: how long it is, and how much of what a card should say it says. Pure.

The checklist is what the Hub's card template asks for, after Mitchell et al. [1]_; the definition
of every item stands in ``docs/traits.md``.

References
----------
.. [1] M. Mitchell et al., "Model Cards for Model Reporting", FAT* 2019,
   https://doi.org/10.1145/3287560.3287596
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crawler.cards import Card, read_card
from crawler.plain_yaml import word_of

__all__ = ["CARD_ITEMS", "CardShape", "card_shape"]

_METADATA = {
    "licence": "license",
    "language": "language",
    "base_model": "base_model",
    "datasets": "datasets",
    "task": "pipeline_tag",
    "library": "library_name",
}
# Words of a heading that announce an item; they are looked for as whole words.
_HEADINGS = {
    "description": (
        "description", "summary", "overview", "introduction", "about", "model details",
        "model information",
    ),
    "intended_use": (
        "intended use", "intended uses", "intended usage", "uses", "use case", "use cases",
        "direct use", "downstream use", "out of scope use", "applications",
    ),
    "limitations": (
        "limitation", "limitations", "bias", "biases", "risk", "risks", "ethical", "caveats",
        "safety",
    ),
    "training_data": (
        "training data", "train data", "pretraining data", "training corpus", "data sources",
        "data mix", "dataset", "datasets",
    ),
    "evaluation": (
        "evaluation", "evaluations", "eval", "evals", "result", "results", "benchmark",
        "benchmarks", "performance", "metrics", "leaderboard",
    ),
    "how_to_use": (
        "how to", "usage", "get started", "getting started", "quickstart", "quick start",
        "inference",
    ),
    "citation": ("citation", "citations", "cite", "bibtex"),
}  # fmt: skip
_OF_TESTS = ("test", "testing", "evaluation", "eval", "contamination")
CARD_ITEMS = (*_METADATA, *_HEADINGS)
"""The checklist: six fields of the metadata, seven parts of the text."""

# What the template, and the Trainer's, leave in a card that nobody filled in.
_PLACEHOLDERS = (
    "more information needed",
    "users (both direct and downstream) should be made aware",
    "use the code below to get started",
    "this modelcard aims to be a base template",
    "this is the model card of a",
    "carbon emissions can be estimated using",
)
_MARKUP = ("<", "!", "[!", "|")
_FENCES = ("```", "~~~")
_HEADING_WORDS = frozenset(
    phrase.split()[0] for phrases in _HEADINGS.values() for phrase in phrases
)
_MAX_HEADING_CHARACTERS = 200
_MAX_SECTIONS = 2_000
_MIN_OPENING_WORDS = 5


@dataclass(frozen=True, slots=True)
class CardShape:
    """How much a card says.

    `characters` are those of the text after the metadata, `sections` its headings, `present` the
    items of the checklist that it fills, and `completeness` their share, between 0 and 1.
    """

    characters: int
    sections: int
    completeness: float
    present: tuple[str, ...]


@dataclass(slots=True)
class _Section:
    """A heading with the lines up to the next; level 0 is what stands before the first."""

    level: int
    heading: str
    has_text: bool = False
    opening_words: int = 0


def card_shape(card_text: str, card: Card | None = None) -> CardShape:
    r"""Length of a card, number of its sections, and the share of the checklist that it fills.

    A field of the metadata is filled when it holds something. A part of the text is filled when a
    heading announces it and text follows, in the section or those below it, that is not the
    template's own. An opening of five words or more is a description, results in ``model-index``
    are an evaluation, a BibTeX entry is a citation. Headings are lines that begin with one to six
    ``#``, outside code; those after the first 2,000 announce nothing.

    Parameters
    ----------
    card_text
        The whole card; of more than ``MAX_CARD_CHARACTERS`` the rest is not read.
    card
        The same card as :func:`crawler.cards.read_card` read it, where that is at hand.

    Examples
    --------
    >>> shape = card_shape("---\nlicense: mit\n---\n# A\n## Limitations\nIt only writes Danish.")
    >>> shape.sections, shape.present, round(shape.completeness, 3)
    (2, ('licence', 'limitations'), 0.154)
    """
    read = card if card is not None else read_card(card_text)
    body = _without_comments(read.body)
    sections = _sections(body)
    filled = {item for item, key in _METADATA.items() if _holds(read.metadata, key)}
    for position, section in enumerate(sections[:_MAX_SECTIONS]):
        items = _announced(section.heading)
        if items and _has_text(sections, position):
            filled.update(items)
    if any(section.opening_words >= _MIN_OPENING_WORDS for section in _openings(sections)):
        filled.add("description")
    if _has_results(read.metadata):
        filled.add("evaluation")
    if _has_bibtex(body):
        filled.add("citation")
    present = tuple(item for item in CARD_ITEMS if item in filled)
    n_headings = sum(section.level > 0 for section in sections)
    return CardShape(len(read.body.strip()), n_headings, len(present) / len(CARD_ITEMS), present)


def _holds(metadata: Mapping[str, object], key: str) -> bool:
    value = metadata.get(key)
    if isinstance(value, list):
        return any(isinstance(item, dict) or word_of(item) is not None for item in value)
    return bool(value) if isinstance(value, dict) else word_of(value) is not None


def _has_results(metadata: Mapping[str, object]) -> bool:
    index = metadata.get("model-index")
    entries = index if isinstance(index, list) else []
    return any(isinstance(entry, dict) and bool(entry.get("results")) for entry in entries)


def _has_bibtex(body: str) -> bool:
    return any(
        line.startswith("@") and line[1:].partition("{")[0].strip().isalpha() and "{" in line
        for line in body.splitlines()
    )


def _without_comments(text: str) -> str:
    """`text` without HTML comments; an unclosed one hides the rest, as in a browser."""
    kept = []
    for position, part in enumerate(text.split("<!--")):
        kept.append(part if position == 0 else part.partition("-->")[2])
    return "".join(kept)


def _sections(body: str) -> list[_Section]:
    sections = [_Section(0, "")]
    fence = None
    small = body.lower()
    left = [words for words in _PLACEHOLDERS if words in small]
    for line in body.splitlines():
        stripped = line.strip()
        opens = stripped[:3] if stripped.startswith(_FENCES) else None
        if opens is not None and fence in (None, opens):
            fence = opens if fence is None else None
            continue
        level = _heading_level(line) if fence is None else 0
        if level:
            sections.append(_Section(level, _heading(line[level:])))
        elif stripped and _says_something(stripped, left):
            sections[-1].has_text = True
            if fence is None and not stripped.startswith(_MARKUP):
                sections[-1].opening_words += len(stripped.split())
    return sections


def _heading_level(line: str) -> int:
    level = len(line) - len(line.lstrip("#"))
    return level if 0 < level <= 6 and line[level : level + 1] in ("", " ", "\t") else 0


def _heading(text: str) -> str:
    """A heading in small letters, words apart by single spaces, with a space at both ends."""
    letters = "".join(c if c.isalnum() else " " for c in text[:_MAX_HEADING_CHARACTERS].lower())
    return f" {' '.join(letters.split())} "


def _says_something(line: str, placeholders: Sequence[str]) -> bool:
    """Whether a line holds more than marks, a label or the template's words."""
    if line.rstrip("*_ ").endswith(":") or not any(map(str.isalnum, line)):
        return False
    small = line.lower() if placeholders else line
    return not any(words in small for words in placeholders)


def _announced(heading: str) -> set[str]:
    if _HEADING_WORDS.isdisjoint(heading.split()):
        return set()
    items = {
        item
        for item, phrases in _HEADINGS.items()
        if any(f" {phrase} " in heading for phrase in phrases)
    }
    if any(f" {word} " in heading for word in _OF_TESTS):
        items.discard("training_data")
    return items


def _has_text(sections: list[_Section], position: int) -> bool:
    """Whether a section or one below it, up to the next of its level, has text."""
    level = sections[position].level
    while not sections[position].has_text:
        position += 1
        if position == len(sections) or sections[position].level <= level:
            return False
    return True


def _openings(sections: list[_Section]) -> list[_Section]:
    """What stands before the first heading, and under the title."""
    return (
        [sections[0], *sections[1:2]] if sections[1:2] and sections[1].level == 1 else sections[:1]
    )

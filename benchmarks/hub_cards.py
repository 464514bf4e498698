"""Card texts for the card benchmark: real cards, drawn with small edits."""

from __future__ import annotations

import random
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.hub_rows import MissingDataError

__all__ = ["SHARED_DATA", "cards"]

SHARED_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
_BASE_MODEL = re.compile(r"^(base_model:[ \t]*)([\w.-]+/[\w.-]+)[ \t]*$", re.MULTILINE)
_STATED = re.compile(r"^(parent_id|name):(.*)$", re.MULTILINE)
_NUMBER = re.compile(r"(?<![\w./-])(\d+\.\d{2,4})(?![\w./-])")
_RENAMED_SHARE, _REBASED_SHARE, _MEASURED_AGAIN_SHARE, _SHORTENED_SHARE = 0.9, 0.5, 0.5, 0.5


@dataclass(frozen=True, slots=True)
class _Card:
    text: str
    owner: str
    name: str
    title: str


def cards(n: int, seed: int, shared_data: Path = SHARED_DATA) -> Iterator[str]:
    """`n` texts of cards, each a real card drawn with replacement and edited.

    Most get another model name wherever their own stands; half of those with a base model another
    base; half of them other decimals in their tables of results; half lose a paragraph of their
    second half. The texts are not normalised: line breaks and broken front matter stay.

    Raises
    ------
    MissingDataError
        The real cards are not there.
    """
    real = _read_cards(shared_data)
    generator = random.Random(seed)
    words = sorted({word for card in real for word in re.split("[-_.]", card.name) if word})
    owners = sorted({card.owner for card in real})
    for _ in range(n):
        yield _edit(generator.choice(real), generator, words, owners)


def _read_cards(shared_data: Path) -> list[_Card]:
    path = shared_data / "cards" / "cards.tar.gz"
    if not path.is_file():
        raise MissingDataError(f"simulated cards are drawn from {path}, which is absent")
    parts: dict[str, dict[str, bytes]] = {}
    with tarfile.open(path) as archive:
        for member in archive.getmembers():
            file = archive.extractfile(member)
            if file is not None:
                folder, _, name = member.name.rpartition("/")
                parts.setdefault(folder, {})[name] = file.read()
    return [
        _card_of(files["README.md"], files["manifest.yaml"]) for _, files in sorted(parts.items())
    ]


def _card_of(text: bytes, manifest: bytes) -> _Card:
    # The two lines are found without a YAML parser, which takes seconds for all manifests.
    stated = {key: value.strip("\"' ") for key, value in _STATED.findall(manifest.decode())}
    owner, _, name = stated.get("parent_id", "").rpartition("/")
    return _Card(text.decode("utf-8", "replace"), owner or "nobody", name, stated.get("name", ""))


def _edit(
    card: _Card, generator: random.Random, words: Sequence[str], owners: Sequence[str]
) -> str:
    def new_name() -> str:
        return "-".join(generator.choice(words) for _ in range(generator.randint(2, 4)))

    text = card.text
    if generator.random() < _RENAMED_SHARE and card.name and card.title:
        name = new_name()
        text = text.replace(card.name, name).replace(card.title, name.replace("-", " "))
    if generator.random() < _REBASED_SHARE:
        base = f"{generator.choice(owners)}/{new_name()}"
        text = _BASE_MODEL.sub(lambda match: match[1] + base, text)
    if generator.random() < _MEASURED_AGAIN_SHARE:
        text = _NUMBER.sub(lambda match: _nudge(match[1], generator), text)
    if generator.random() < _SHORTENED_SHARE:
        paragraphs = text.split("\n\n")
        if len(paragraphs) > 3:
            del paragraphs[generator.randrange(len(paragraphs) // 2, len(paragraphs))]
        text = "\n\n".join(paragraphs)
    return text


def _nudge(number: str, generator: random.Random) -> str:
    """The number with other last two digits."""
    return number[:-2] + f"{generator.randrange(100):02d}"

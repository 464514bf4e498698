"""What was understood of cards on this disk: claims, recipes, traits, problems. No network.

The fields of the JSON are defined in ``docs/claims.md``; `SCHEMA` changes when they do.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from crawler.card_shape import CardShape, card_shape
from crawler.cards import MAX_CARD_CHARACTERS
from crawler.configs import load_json_object
from crawler.errors import CrawlError, MalformedError
from crawler.evaluations import evaluations
from crawler.gguf_headers import GgufValue, parse_gguf_metadata_prefix
from crawler.parents import (
    ADAPTER_CONFIG,
    CARD,
    CONFIG,
    MERGE_RECIPES,
    QUANTISATION_CONFIGS,
    FileProblem,
    FoundRecipe,
    read_words,
)
from crawler.recipe_values import recipe_document
from crawler.records import Claim, EvalResult, RepoRef, RepoSnapshot, is_repo_id
from crawler.traits import Facts, facts_of
from lineage.errors import NotFoundError, UsageError

__all__ = ["SCHEMA", "CardReading", "find_cards", "parse_cards", "reading_of"]

SCHEMA = 1
"""Version of the JSON."""

_UNNAMED = "nobody/unnamed-model-of-this-card"
_MAX_CARDS = 1_000_000
_MAX_FILE_BYTES = 8 << 20
_GGUF_PREFIX_BYTES = 64 << 10
_EXTRA = (ADAPTER_CONFIG, *MERGE_RECIPES, *QUANTISATION_CONFIGS)


@dataclass(frozen=True, slots=True)
class CardReading:
    """Everything that was understood of one card and the small files beside it.

    `child` is None where nobody said whose card it is; `shape` is None without a card.
    """

    path: str
    child: str | None
    claims: tuple[Claim, ...]
    recipes: tuple[FoundRecipe, ...]
    facts: Facts
    evaluations: tuple[EvalResult, ...]
    shape: CardShape | None
    problems: tuple[FileProblem, ...]

    def to_dict(self) -> dict[str, object]:
        """The reading as plain values, for JSON."""
        return {
            "path": self.path,
            "child": self.child,
            "claims": [
                {
                    "parent": claim.parent,
                    "words": claim.parent_text,
                    "relation": claim.relation,
                    "source": str(claim.source),
                    "text": claim.text,
                    "weight": claim.weight,
                    "method": claim.method,
                }
                for claim in self.claims
            ],
            "recipes": [
                {"source": str(found.source), **recipe_document(found.recipe)}
                for found in self.recipes
            ],
            "traits": asdict(self.facts),
            "evaluations": [asdict(result) for result in self.evaluations],
            "card": None if self.shape is None else asdict(self.shape),
            "problems": [asdict(problem) for problem in self.problems],
        }

    def lines(self) -> list[str]:
        """The reading in words, a fact a line."""
        found = [self.path + (f"  ({self.child})" if self.child else "")]
        found += [f"  {name:<12} {said}" for name, said in self._facts()]
        found.append(f"  {'claims':<12} {len(self.claims) or 'none'}")
        for claim in self.claims:
            weight = "" if claim.weight is None else f"  weight {claim.weight:.3g}"
            parent = claim.parent or f"{claim.parent_text}  (unresolved)"
            source = str(claim.source).replace("_", " ")
            found.append(f"    {parent}  {claim.relation or 'relation unsaid'}{weight}  [{source}]")
            found.append(f"        {_shortened(claim.text)}")
        for recipe in self.recipes:
            names = (
                (parent.mention.repo_id or parent.mention.words)
                + (" (base)" if parent.is_base else "")
                for parent in recipe.recipe.parents
            )
            said = f"{recipe.recipe.method} of {', '.join(names)}"
            found.append(f"  {'recipe':<12} {_shortened(said)}")
        found += [f"  {'problem':<12} {_shortened(problem.reason)}" for problem in self.problems]
        return found

    def _facts(self) -> Iterator[tuple[str, str]]:
        facts = self.facts
        licence = facts.licence or "unstated"
        if facts.licence_name:
            licence += f" ({facts.licence_name})"
        yield "licence", licence
        for name, words in (
            ("languages", facts.languages), ("tasks", facts.tasks), ("data sets", facts.datasets),
        ):  # fmt: skip
            if words:
                yield name, _shortened(", ".join(words))
        if facts.architecture:
            yield "architecture", facts.architecture
        if facts.context_length:
            yield "context", f"{facts.context_length} tokens"
        if facts.quantisation:
            yield "quantised", facts.quantisation
        if self.evaluations:
            first = ", ".join(f"{one.name} {one.value:g}" for one in self.evaluations[:3])
            more = len(self.evaluations) - 3
            yield "evaluations", _shortened(first + (f" and {more} more" if more > 0 else ""))
        if self.shape is not None:
            yield (
                "card",
                (
                    f"{self.shape.characters} characters, {self.shape.sections} headings, "
                    f"{100 * self.shape.completeness:.0f} % of the checklist"
                ),
            )


def _shortened(text: str, longest: int = 160) -> str:
    words = " ".join(text.split())
    return words if len(words) <= longest else f"{words[: longest - 1]}…"


def parse_cards(paths: Sequence[Path], child: str | None = None) -> Iterator[CardReading]:
    """Read every card that `paths` name: files, folders of one repository, folders of cards.

    Parameters
    ----------
    paths
        See :func:`find_cards`.
    child
        Whose card it is, when there is only one.

    Raises
    ------
    NotFoundError
        If a path does not exist, or a folder holds no card.
    UsageError
        If `child` is no Hub id, or there are several cards.
    """
    if child is not None and not is_repo_id(child):
        raise UsageError(f"not a model id of the form owner/name: {child!r}")
    found = find_cards(paths)
    if child is not None:
        cards = [card for _, card in zip(range(2), found, strict=False)]
        if len(cards) > 1:
            raise UsageError("--child names the model of one card; these are several")
        found = iter(cards)
    for path in found:
        yield _parse(path, child)


def find_cards(paths: Iterable[Path]) -> Iterator[Path]:
    """The cards that `paths` name: each a card or the folder of one repository.

    A file is a card. A folder with ``config.json`` or a file that names parents
    (``adapter_config.json``, ``mergekit_config.yml`` …) is one repository, with its ``README.md``.
    In any other folder every ``*.md`` is a card, and everything below is searched; links to
    folders are not followed.

    Raises
    ------
    NotFoundError
        If a path does not exist, or a folder holds no card.
    """
    for path in paths:
        if path.is_dir():
            any_card = False
            for card in _search(path):
                any_card = True
                yield card
            if not any_card:
                raise NotFoundError(f"no card (*.md) in {path}")
        elif path.is_file():
            yield path
        else:
            raise NotFoundError(f"no file or folder {path}")


def _search(folder: Path) -> Iterator[Path]:
    n_cards = 0
    for root, folders, names in os.walk(folder):
        folders.sort()
        files = {name for name in names if (Path(root) / name).is_file()}
        whole = bool(files & {CONFIG, *_EXTRA})
        if whole:
            folders.clear()  # what lies deeper belongs to the same repository
        cards = {name for name in files if name.lower().endswith(".md")}
        found = [Path(root)] if whole or CARD in cards else []
        found += [] if whole else [Path(root, name) for name in sorted(cards - {CARD})]
        for card in found:
            n_cards += 1
            if n_cards > _MAX_CARDS:
                return
            yield card


def _parse(path: Path, child: str | None) -> CardReading:
    problems: list[FileProblem] = []
    folder = path if path.is_dir() else None
    card = path / CARD if folder is not None else path
    texts: dict[str, str] = {}
    gguf: Mapping[str, GgufValue] | None = None
    card_text = _text(card, problems, is_card=True) if card.is_file() else None
    if folder is not None:
        for name in (CONFIG, *_EXTRA):
            text = _text(folder / name, problems) if (folder / name).is_file() else None
            if text is not None:
                texts[name] = text
        gguf = _gguf_metadata(folder, problems)
    config_text = texts.pop(CONFIG, None)
    return reading_of(
        str(path), child, card_text, config_text, texts, gguf, problems=tuple(problems)
    )


def reading_of(
    path: str,
    child: str | None,
    card_text: str | None,
    config_text: str | None = None,
    files: Mapping[str, str] | None = None,
    gguf: Mapping[str, GgufValue] | None = None,
    *,
    tags: tuple[str, ...] = (),
    problems: tuple[FileProblem, ...] = (),
) -> CardReading:
    """What the texts of one repository say; `problems` are those of reading the files."""
    snapshot = RepoSnapshot(
        RepoRef(child or _UNNAMED, "0" * 40),
        datetime.now(UTC),
        tags=tags,
        card_text=card_text,
        config_text=config_text,
    )
    words = read_words(snapshot, files or {}, gguf)
    metadata = words.card.metadata if words.card is not None else {}
    record = {"cardData": metadata, "tags": list(tags), "config": _config(config_text)}
    shape = None
    if card_text is not None:
        shape = card_shape(card_text[:MAX_CARD_CHARACTERS], words.card)
    return CardReading(
        path,
        child,
        words.claims,
        words.recipes,
        facts_of(record),
        evaluations(metadata),
        shape,
        (*problems, *words.problems),
    )


def _config(text: str | None) -> Mapping[str, object]:
    if text is None:
        return {}
    try:
        return load_json_object(text, CONFIG)
    except MalformedError:
        return {}  # told as a problem where it is read for its words


def _text(path: Path, problems: list[FileProblem], *, is_card: bool = False) -> str | None:
    """A file as text. Of a card the beginning is read; another file that is too long is not."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        reason = f"{path.name}: {error.strerror or error}"
        problems.append(FileProblem(path.name, "unreadable", reason))
        return None
    if len(data) > _MAX_FILE_BYTES and not is_card:
        reason = f"{path.name}: more than {_MAX_FILE_BYTES} bytes are too many to read"
        problems.append(FileProblem(path.name, MalformedError.code, reason))
        return None
    return data.decode("utf-8", "replace")


def _gguf_metadata(folder: Path, problems: list[FileProblem]) -> Mapping[str, GgufValue] | None:
    """Metadata at the head of the first GGUF file of a folder."""
    path = min(
        (path for path in folder.glob("*.gguf") if path.is_file()),
        default=None,
        key=lambda path: path.name,
    )
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            head = file.read(_GGUF_PREFIX_BYTES)
        return parse_gguf_metadata_prefix(head, path.name, path.stat().st_size)
    except CrawlError as error:
        problems.append(FileProblem(path.name, error.code, str(error)))
    except OSError as error:
        reason = f"{path.name}: {error.strerror or error}"
        problems.append(FileProblem(path.name, "unreadable", reason))
    return None

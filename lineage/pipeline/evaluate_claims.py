"""Precision and recall of what is read from cards, tags and recipes, against known parents.

``docs/claims.md`` says what each truth can and cannot show, and holds the figures. Ids are compared
without regard to small and capital letters; words that resolve to no id are counted apart, neither
right nor wrong.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import tarfile
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from crawler.errors import MalformedError
from crawler.parents import CARD
from crawler.plain_yaml import items_of, mapping_of, read_yaml, word_of
from crawler.recipes import parse_recipes
from crawler.records import ClaimSource
from crawler.references import resolve_repo_id
from crawler.tags import tag_parents
from lineage.errors import NotFoundError, UsageError
from lineage.pipeline.claim_scores import ClaimsEvaluation, Miss
from lineage.pipeline.parse_card import CardReading, reading_of

__all__ = ["evaluate_claims", "half_of"]

_MAX_FILE_BYTES = 8 << 20
_FENCED = re.compile(r"^```(?:ya?ml)?[ \t]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_RESOLVED_AT = re.compile(r"https://huggingface\.co/([^/\s]+/[^/\s]+)/resolve/")


def half_of(path: str) -> str:
    """The half of the cards that `path` (``name/README.md``) belongs to, by its SHA-256.

    >>> half_of("13B-BlueMethod/README.md")
    'development'
    """
    is_even = sha256(path.encode()).digest()[-1] % 2 == 0
    return "development" if is_even else "held-out"


@dataclass(frozen=True, slots=True)
class _Known:
    """A card, the model it describes, and the quantised repository whose manifest is beside it."""

    reading: CardReading
    text: str
    child: str
    quantised: str
    quantised_tags: tuple[str, ...]

    def parents(self, source: ClaimSource) -> set[str]:
        return {
            claim.parent.lower()
            for claim in self.reading.claims
            if claim.source is source and claim.parent is not None
        }

    def unresolved(self, source: ClaimSource) -> int:
        return sum(claim.source is source and claim.parent is None for claim in self.reading.claims)


def evaluate_claims(
    cards: Path,
    *,
    labels: Path | None = None,
    recipes: Path | None = None,
    radar: Path | None = None,
    judged: Path | None = None,
    half: str | None = None,
) -> ClaimsEvaluation:
    """Score the claims of cards, tags and recipes against every truth that is given.

    Parameters
    ----------
    cards
        A folder or tar of ``name/README.md`` with ``name/manifest.yaml``.
    labels, recipes, radar, judged
        Further truths, see ``docs/claims.md``.
    half
        ``development`` or ``held-out``: only that half of the cards.

    Raises
    ------
    NotFoundError
        If a path does not exist or holds no card with a manifest.
    UsageError
        If a file has not the form it should have.
    """
    for path in (cards, labels, recipes, radar, judged):
        if path is not None and not path.exists():
            raise NotFoundError(f"no file or folder {path}")
    found = ClaimsEvaluation(half or "all")
    known = [
        _known(folder, files)
        for folder, files in sorted(_folders(cards).items())
        if half is None or half_of(f"{folder}/{CARD}") == half
    ]
    if not known:
        raise NotFoundError(f"no card with a manifest in {cards}")
    _against_manifests(found, known)
    _against_recipes(found, known)
    _against_mergekit(found, known, recipes)
    if labels is not None:
        _against_labels(found, known, labels)
    if radar is not None:
        _against_radar(found, radar)
    if judged is not None:
        _against_judgements(found, known, judged)
    return found


def _folders(cards: Path) -> dict[str, dict[str, bytes]]:
    """The two files of every folder that has both."""
    wanted = (CARD, "manifest.yaml")
    folders: dict[str, dict[str, bytes]] = defaultdict(dict)
    for path, data in _files(cards):
        folder, _, name = path.rpartition("/")
        if name in wanted:
            folders[folder.removeprefix("./")][name] = data
    return {folder: files for folder, files in folders.items() if len(files) == len(wanted)}


def _files(cards: Path) -> Iterator[tuple[str, bytes]]:
    if cards.is_dir():
        for root, _, names in os.walk(cards):
            for name in names:
                path = Path(root, name)
                if path.stat().st_size <= _MAX_FILE_BYTES:
                    yield path.relative_to(cards).as_posix(), path.read_bytes()
        return
    try:
        with tarfile.open(cards) as archive:
            for member in archive:
                if member.isfile() and member.size <= _MAX_FILE_BYTES:
                    opened = archive.extractfile(member)
                    if opened is not None:
                        yield member.name, opened.read()
    except tarfile.TarError as error:
        raise UsageError(f"{cards} is neither a folder nor a tar: {error}") from error


def _known(folder: str, files: Mapping[str, bytes]) -> _Known:
    text = files[CARD].decode("utf-8", "replace")
    manifest_text = files["manifest.yaml"].decode("utf-8", "replace")
    try:
        documents = read_yaml(manifest_text)
    except MalformedError as error:
        raise UsageError(f"{folder}/manifest.yaml: {error}") from error
    manifest = mapping_of(documents[0] if documents else None)
    child = word_of(manifest.get("parent_id"))
    if child is None:
        raise UsageError(f"{folder}/manifest.yaml names no parent_id")
    artifact = _RESOLVED_AT.search(manifest_text)
    return _Known(
        reading_of(f"{folder}/{CARD}", child, text),
        text,
        child,
        artifact[1] if artifact else f"{folder}-quantised",
        tuple(tag for tag in items_of(manifest.get("tags")) if isinstance(tag, str)),
    )


def _against_manifests(found: ClaimsEvaluation, known: Sequence[_Known]) -> None:
    """Tags of the quantised repositories; and of the cards what is wrong for certain."""
    for one in known:
        claimed = {
            mention.repo_id.lower()
            for mention, _, _ in tag_parents(one.quantised_tags, one.quantised)
            if mention.repo_id is not None
        }
        found.compare("manifest", str(ClaimSource.TAG), one.quantised, claimed, {one.child.lower()})
        impossible = {one.child.lower(), one.quantised.lower()}
        for source in (ClaimSource.CARD, ClaimSource.CARD_RECIPE, ClaimSource.PROSE):
            claimed = one.parents(source)
            score = found.score("neither itself nor its quantisation", str(source))
            score.texts += bool(claimed)
            score.claims += len(claimed)
            score.right += len(claimed - impossible)
            score.unresolved += one.unresolved(source)
            for parent in sorted(claimed & impossible):
                what = "the model itself" if parent == one.child.lower() else "its quantisation"
                found.misses.append(
                    Miss(score.truth, str(source), "wrong", one.child, parent, what)
                )


def _against_recipes(found: ClaimsEvaluation, known: Sequence[_Known]) -> None:
    """What card and prose say, where the card holds the recipe of the merge too."""
    for one in known:
        expected = one.parents(ClaimSource.CARD_RECIPE)
        if not expected:
            continue
        for source in (ClaimSource.CARD, ClaimSource.PROSE):
            claimed = one.parents(source)
            if claimed:
                found.compare("recipe in the card", str(source), one.child, claimed, expected)


def _against_mergekit(
    found: ClaimsEvaluation, known: Sequence[_Known], recipes: Path | None
) -> None:
    """Recipes as mergekit reads them, word for word; nothing where it is not installed."""
    texts = [
        (one.child, str(ClaimSource.CARD_RECIPE), block)
        for one in known
        for block in _FENCED.findall(one.text.replace("\r\n", "\n"))
        if "merge_method" in block
    ]
    for path in sorted(recipes.glob("*.y*ml")) if recipes is not None else ():
        texts.append((path.name, str(ClaimSource.MERGE_RECIPE), path.read_text("utf-8")))
    for child, source, text in texts:
        expected = _words_by_mergekit(text)
        if expected is None:
            continue
        try:
            merges = parse_recipes(text, child)
        except MalformedError:
            merges = ()
        claimed = {
            mention.words
            for merge in merges
            for parent in merge.parents
            for mention in (parent.mention, parent.lora)
            if mention is not None
        }
        found.compare("mergekit's own reading", source, child, claimed, expected)


def _words_by_mergekit(text: str) -> set[str] | None:
    """The models that mergekit finds in a recipe, stages apart; None where it finds no recipe."""
    words: set[str] = set()
    stages: set[str] = set()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what mergekit imports has its own
            from mergekit.config import MergeConfiguration

        for document in yaml.safe_load_all(text):
            for stage in document if isinstance(document, list) else [document]:
                merge = {key: value for key, value in stage.items() if key != "name"}
                stages.add(str(stage.get("name")))
                for model in MergeConfiguration.model_validate(merge).referenced_models():
                    words.add(model.model.path)
                    if model.lora is not None:
                        words.add(model.lora.path)
    except Exception:  # not installed, or a text that it refuses: no truth either way
        return None
    return words - stages


def _against_labels(found: ClaimsEvaluation, known: Sequence[_Known], labels: Path) -> None:
    """Hand labels: the words that name a Hub address, and the cards of labelled models."""
    upstream: dict[str, str] = {}
    for path in sorted(labels.glob("*.json")):
        models = json.loads(path.read_text("utf-8"))
        if not isinstance(models, dict):
            raise UsageError(f"{path}: not a mapping from models to their labels")
        for model, label in models.items():
            word = word_of(mapping_of(label).get("upstream_model"))
            if word is not None:
                upstream.setdefault(model, word)
    for model, word in sorted(upstream.items()):
        resolved = resolve_repo_id(word)
        address = urlsplit(word)
        if address.netloc == "huggingface.co":
            stated = "/".join(address.path.strip("/").split("/")[:2]).lower()
            # Of an old name without owner the Hub's redirection is the truth: the name stays.
            claimed = {resolved.lower()} if resolved is not None else set()
            if "/" not in stated:
                claimed = {parent.rpartition("/")[2] for parent in claimed}
            found.compare("hand label", "addresses", model, claimed, {stated})
        elif resolved is None:
            found.score("hand label", "addresses").unresolved += 1
        else:
            reason = f"no address; resolved to {resolved}"
            found.misses.append(Miss("hand label", "words", "unchecked", model, word, reason))
    cards = {one.child.lower(): one for one in known}
    for model, word in upstream.items():
        one, resolved = cards.get(model.lower()), resolve_repo_id(word)
        if one is None or resolved is None:
            continue
        for source in (ClaimSource.CARD, ClaimSource.PROSE):
            found.compare(
                "hand label", str(source), one.child, one.parents(source), {resolved.lower()}
            )


def _against_radar(found: ClaimsEvaluation, radar: Path) -> None:
    """Tags of real models against the edges that another program read from the same tags."""
    edges: dict[str, set[str]] = defaultdict(set)
    with gzip.open(radar / "edges_from_tags.csv.gz", "rt", encoding="utf-8", newline="") as file:
        for edge in csv.DictReader(file):
            said = f"{edge['relation_tag']} {edge['parent']}".lower()
            edges[edge["child"].lower()].add(said)
    with gzip.open(radar / "models.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            model = json.loads(line)
            child = model["id"]
            claimed = set()
            reasons = {}
            for mention, relation, _ in tag_parents(model["tags"], child):
                if mention.repo_id is not None and relation is not None:
                    claim = f"{relation} {mention.repo_id}".lower()
                    claimed.add(claim)
                    reasons[claim] = f"resolved from {mention.words}"
                elif mention.repo_id is None:
                    found.score("edges of radar", str(ClaimSource.TAG)).unresolved += 1
                    claim = f"{relation} {mention.words}".lower()
                    reasons[claim] = "a path on somebody's disk, or no id"
            expected = edges.get(child.lower(), set())
            found.compare("edges of radar", str(ClaimSource.TAG), child, claimed, expected, reasons)


def _against_judgements(found: ClaimsEvaluation, known: Sequence[_Known], judged: Path) -> None:
    """Claims of prose that somebody judged by reading the card."""
    verdicts: dict[str, dict[str, tuple[str, str]]] = defaultdict(dict)
    with judged.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if set(row) != {"child", "parent", "verdict", "reason"}:
                raise UsageError(f"{judged} needs the columns child, parent, verdict, reason")
            verdict = (row["verdict"], row["reason"])
            verdicts[row["child"].lower()][row["parent"].lower()] = verdict
    for one in known:
        known_here = verdicts.get(one.child.lower(), {})
        claimed = one.parents(ClaimSource.PROSE)
        unjudged = claimed - set(known_here)
        for parent in sorted(unjudged) if known_here else ():
            found.misses.append(
                Miss("judged by reading", str(ClaimSource.PROSE), "unjudged", one.child, parent, "")
            )
        expected = {parent for parent, (word, _) in known_here.items() if word != "wrong"}
        if known_here:
            reasons = {parent: reason for parent, (_, reason) in known_here.items()}
            found.compare(
                "judged by reading", str(ClaimSource.PROSE), one.child,
                claimed - unjudged, expected, reasons,
            )  # fmt: skip

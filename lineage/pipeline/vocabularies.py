"""Anchor tokens of vocabularies, each vocabulary read once however many models share it."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from crawler.records import FileEntry
from lineage.weights.vocabulary import ANCHORS_VERSION, anchor_rows, parse_vocabulary

__all__ = ["Anchors", "Vocabularies", "vocabulary_file"]

_FILES = ("vocab.txt", "tokenizer.model", "vocab.json", "tokenizer.json")
"""Files that hold a vocabulary, the shortest kind first."""
_MAX_FILE_BYTES = 64 << 20
_LEADING_ROWS = 64
"""Rows at the beginning of an embedding, which plans read in any case."""


@dataclass(frozen=True, slots=True)
class Anchors:
    """What a plan and a fingerprint need of a vocabulary.

    Attributes
    ----------
    rows
        Rows to read by token, the most wanted first.
    tokens
        Normalised text of these rows and of the leading ones.
    """

    rows: tuple[int, ...] = ()
    tokens: Mapping[int, str] = field(default_factory=dict)


def vocabulary_file(files: Sequence[FileEntry]) -> FileEntry | None:
    """The file from which a model's tokens are cheapest to read; None: there is none."""
    by_path = {file.path: file for file in files}
    found = (by_path.get(name) for name in _FILES)
    return next((f for f in found if f is not None and 0 < f.size_bytes <= _MAX_FILE_BYTES), None)


class Vocabularies:
    """What is known of vocabularies, by the digest of their file.

    Parameters
    ----------
    folder
        Where what was learnt outlasts the process; None: nowhere.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._known: dict[str, Anchors] = {}

    def get(self, file: FileEntry) -> Anchors | None:
        """The anchors of a vocabulary; None when it was not seen yet."""
        digest = _digest(file)
        if digest is None:
            return None
        if digest not in self._known and self._folder is not None:
            kept = _load(self._folder / f"{digest}.json")
            if kept is not None:
                self._known[digest] = kept
        return self._known.get(digest)

    def add(self, file: FileEntry, data: bytes) -> Anchors:
        """Learn a vocabulary from its file.

        Raises
        ------
        MalformedError
            If the file holds no vocabulary.
        """
        vocabulary = parse_vocabulary(file.path, data)
        rows = anchor_rows(vocabulary)
        kept = sorted({*rows, *range(_LEADING_ROWS)} & vocabulary.tokens.keys())
        anchors = Anchors(rows, {row: vocabulary.tokens[row] for row in kept})
        digest = _digest(file)
        if digest is not None:
            self._known[digest] = anchors
            if self._folder is not None:
                with suppress(OSError):  # then it is read again for the next model
                    _save(self._folder, f"{digest}.json", anchors)
        return anchors


def _digest(file: FileEntry) -> str | None:
    """A name for the file's content, for this version of the anchors; never the Hub's own text."""
    content = file.sha256 or file.blob_id
    if content is None:
        return None
    said = f"{ANCHORS_VERSION}\0{file.path}\0{content}"
    return hashlib.sha256(said.encode()).hexdigest()


def _load(path: Path) -> Anchors | None:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        tokens = {int(row): str(token) for row, token in kept["tokens"].items()}
        return Anchors(tuple(int(row) for row in kept["rows"]), tokens)
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return None  # absent, or damaged and learnt again


def _save(folder: Path, name: str, anchors: Anchors) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{name}.{uuid.uuid4().hex}.partial"
    kept = {"rows": anchors.rows, "tokens": dict(anchors.tokens)}
    partial.write_text(json.dumps(kept), encoding="utf-8")
    partial.replace(folder / name)

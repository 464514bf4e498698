"""One repository at one commit: details, card, configuration, recipes, and what they claim."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from urllib.parse import quote

from crawler.card_shape import CardShape, card_shape
from crawler.cards import read_card, text_of
from crawler.configs import architecture_of, load_json_object
from crawler.errors import CrawlError, GatedError, MalformedError
from crawler.evaluations import evaluations
from crawler.gguf_headers import GgufValue, parse_gguf_metadata_prefix
from crawler.licences import read_licence
from crawler.listed import ListedRepo, parse_record
from crawler.parents import (
    ADAPTER_CONFIG,
    CARD,
    CONFIG,
    MERGE_RECIPES,
    QUANTISATION_CONFIGS,
    FileProblem,
    FoundRecipe,
    Words,
    read_words,
)
from crawler.recorded import RecordedHub
from crawler.records import Claim, ClaimSource, FileEntry, RepoRef, RepoSnapshot, RepoStatus
from crawler.traits import tokenizer_digest

__all__ = ["RepoReading", "parse_claims", "read_repository"]

_MAX_TEXT_BYTES = 1 << 20
_MAX_DETAILS_BYTES = 64 << 20
_GGUF_PREFIX_BYTES = 64 << 10
_MAX_FILES = 100_000
_MAX_PATH = 1_024
# Controls, half surrogates, and what an address would resolve: "..", "." and empty parts.
_UNUSABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]|(?:^|/)\.{0,2}(?:/|$)")
_MAX_SIZE_BYTES = 1 << 62
_WEIGHTS = (".safetensors", ".gguf", ".bin", ".pt", ".pth")
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class RepoReading:
    """What one repository says: the head of its details, its files and texts, and its claims.

    `listed` is what a listing would say of it. `licence` and `architecture` are those of its own
    files, None where they say nothing. `unread` are the sources that could not be read this time:
    what they said before is not ended by their silence.
    """

    listed: ListedRepo
    snapshot: RepoSnapshot
    claims: tuple[Claim, ...]
    recipes: tuple[FoundRecipe, ...] = ()
    problems: tuple[FileProblem, ...] = ()
    unread: frozenset[ClaimSource] = frozenset()
    licence: str | None = None
    architecture: str | None = None
    tokenizer: str | None = None
    card: CardShape | None = None


def parse_claims(snapshot: RepoSnapshot, extra_files: Mapping[str, str]) -> tuple[Claim, ...]:
    """The claims in a snapshot and its small files; malformed files are passed over."""
    return read_words(snapshot, extra_files).claims


def read_repository(
    hub: RecordedHub, repo_id: str, revision: str | None = None
) -> RepoReading:  # fmt: skip
    """One repository as it is now, or at a commit, branch or tag of it, with its claims.

    Card, adapter configuration and merge recipes are fetched. Fetching ``config.json`` counts as a
    download on the public Hub; it is done only where the details lack the configuration, or
    nothing else names a parent.

    Raises
    ------
    CrawlError
        If its details cannot be had: gone, disabled, or the Hub fails. Files that cannot be read
        become problems instead.
    """
    return _Reader(hub).read(repo_id, revision)


_SOURCES = {
    CARD: (ClaimSource.CARD, ClaimSource.CARD_RECIPE, ClaimSource.PROSE),
    CONFIG: (ClaimSource.CONFIG,),
    ADAPTER_CONFIG: (ClaimSource.ADAPTER_CONFIG,),
    **dict.fromkeys(MERGE_RECIPES, (ClaimSource.MERGE_RECIPE,)),
    **dict.fromkeys(QUANTISATION_CONFIGS, (ClaimSource.QUANTISATION_CONFIG,)),
}
"""The sources of claims that stand in each small file."""


class _Reader:
    """Reads one repository; collects the problems of its files."""

    def __init__(self, hub: RecordedHub) -> None:
        self._hub = hub
        self._problems: list[FileProblem] = []
        self._unread: set[ClaimSource] = set()
        self._is_gated = False

    def read(self, repo_id: str, revision: str | None) -> RepoReading:
        """Details first, then the small files, then what they say."""
        at = "" if revision is None else f"/revision/{quote(revision, safe='')}"
        path = f"api/models/{quote(repo_id)}{at}?blobs=true"
        answer = self._hub.get(path, max_bytes=_MAX_DETAILS_BYTES)
        details = load_json_object(
            answer.body.decode("utf-8", "replace"), f"the details of {repo_id}"
        )
        listed = parse_record(details, answer.at)
        if listed.revision is None:
            raise MalformedError(f"{repo_id}: its details name no commit")
        ref = RepoRef(listed.repo_id, listed.revision)
        files = _files(details)
        present = {file.path: file for file in files}
        card_text = self._text(ref, present.get(CARD))
        extra = {
            path: text
            for path in (ADAPTER_CONFIG, *MERGE_RECIPES, *QUANTISATION_CONFIGS)
            if (text := self._text(ref, present.get(path))) is not None
        }
        excerpt = details.get("config")
        snapshot = self._snapshot(ref, listed, answer.at, files, card_text, details)
        if isinstance(excerpt, dict) and excerpt:
            snapshot = replace(snapshot, config_text=json.dumps(excerpt))
        gguf = self._gguf_metadata(ref, files)
        words = read_words(snapshot, extra, gguf)
        if CONFIG in present and (snapshot.config_text is None or not words.claims):
            text = self._text(ref, present[CONFIG])
            snapshot = replace(snapshot, config_text=text or snapshot.config_text)
            words = read_words(snapshot, extra, gguf)
        if listed.gated is not None and not self._is_gated:
            self._probe_gate(ref, files)
        if self._is_gated:
            snapshot = replace(snapshot, status=RepoStatus.GATED)
        return self._reading(listed, snapshot, words, gguf)

    def _text(self, ref: RepoRef, file: FileEntry | None) -> str | None:
        """A small file as text; None when it is absent or cannot be read."""
        if file is None:
            return None
        if file.size_bytes > _MAX_TEXT_BYTES:
            reason = f"{file.path}: {file.size_bytes} bytes are too many to read"
            self._problems.append(FileProblem(file.path, MalformedError.code, reason))
            return None
        try:
            body = self._hub.get_file(
                ref, file.path, max_bytes=_MAX_TEXT_BYTES, size_bytes=file.size_bytes
            )
        except CrawlError as error:
            self._unread.update(_SOURCES[file.path])
            if isinstance(error, GatedError):
                self._note_gated(error)
            else:
                self._problems.append(FileProblem(file.path, error.code, f"{file.path}: {error}"))
            return None
        return body.decode("utf-8", "replace").replace("\x00", "\ufffd")

    def _probe_gate(self, ref: RepoRef, files: Sequence[FileEntry]) -> None:
        """Ask whether this token may read a gated repository's weights: its card is often open."""
        file = next((file for file in files if file.path.endswith(_WEIGHTS)), None)
        if file is None:
            return
        try:
            self._hub.require_readable(ref, file.path)
        except GatedError as error:
            self._note_gated(error)
        except CrawlError as error:
            self._problems.append(FileProblem(file.path, error.code, f"{file.path}: {error}"))

    def _note_gated(self, error: GatedError) -> None:
        if not self._is_gated:
            self._is_gated = True
            self._problems.append(FileProblem(None, error.code, str(error)))

    def _gguf_metadata(
        self, ref: RepoRef, files: Sequence[FileEntry]
    ) -> Mapping[str, GgufValue] | None:
        """Metadata at the head of the first GGUF file, by one range request."""
        file = next((file for file in files if file.path.endswith(".gguf")), None)
        if file is None or file.size_bytes == 0:
            return None
        if self._is_gated:
            self._unread.add(ClaimSource.GGUF_METADATA)
            return None
        try:
            stop = min(_GGUF_PREFIX_BYTES, file.size_bytes)
            data = self._hub.get_head(ref, file.path, stop)
            return parse_gguf_metadata_prefix(data, file.path, file.size_bytes)
        except CrawlError as error:
            self._unread.add(ClaimSource.GGUF_METADATA)
            if isinstance(error, GatedError):
                self._note_gated(error)
            else:
                self._problems.append(FileProblem(file.path, error.code, f"{file.path}: {error}"))
        return None

    def _snapshot(
        self,
        ref: RepoRef,
        listed: ListedRepo,
        at: datetime,
        files: tuple[FileEntry, ...],
        card_text: str | None,
        details: Mapping[str, object],
    ) -> RepoSnapshot:
        metadata = _metadata(card_text, details)
        return RepoSnapshot(
            ref=ref,
            observed_at=at,
            status=listed.status,
            author=listed.author or (ref.repo_id.partition("/")[0] if "/" in ref.repo_id else None),
            created_at=listed.created_at,
            last_modified=listed.last_modified,
            downloads_30d=listed.downloads_30d,
            likes=listed.likes,
            licence=listed.facts.licence or _licence(metadata),
            library=listed.library or text_of(metadata.get("library_name")),
            pipeline_tag=listed.pipeline_tag or text_of(metadata.get("pipeline_tag")),
            tags=listed.tags,
            files=files,
            card_text=card_text,
            evaluations=evaluations(metadata, details.get("evalResults")) or listed.evaluations,
        )

    def _reading(
        self,
        listed: ListedRepo,
        snapshot: RepoSnapshot,
        words: Words,
        gguf: Mapping[str, GgufValue] | None,
    ) -> RepoReading:
        return RepoReading(
            listed=listed,
            snapshot=snapshot,
            claims=words.claims,
            recipes=words.recipes,
            problems=(*self._problems, *words.problems),
            unread=frozenset(self._unread),
            licence=snapshot.licence,
            architecture=_architecture(snapshot.config_text, gguf),
            tokenizer=tokenizer_digest(snapshot.files),
            card=card_shape(snapshot.card_text) if snapshot.card_text is not None else None,
        )


def _metadata(card_text: str | None, details: Mapping[str, object]) -> Mapping[str, object]:
    """The card's metadata; the Hub's copy where the card cannot be read, else empty."""
    if card_text is not None:
        return read_card(card_text).metadata
    copy = details.get("cardData")
    return copy if isinstance(copy, dict) else {}


def _licence(metadata: Mapping[str, object]) -> str | None:
    stated = read_licence(
        metadata.get("license"), metadata.get("license_name"), metadata.get("license_link")
    )
    return stated.word if stated is not None else None


def _files(details: Mapping[str, object]) -> tuple[FileEntry, ...]:
    """The files in a repository's details; entries without a usable path or size are left out."""
    siblings = details.get("siblings")
    found: dict[str, FileEntry] = {}
    for item in siblings[:_MAX_FILES] if isinstance(siblings, list) else []:
        if not isinstance(item, dict):
            continue
        path, size, lfs = item.get("rfilename"), item.get("size"), item.get("lfs")
        sha256 = _hex(lfs.get("sha256"), 64) if isinstance(lfs, dict) else None
        if not isinstance(path, str) or len(path) > _MAX_PATH or _UNUSABLE.search(path):
            continue
        if type(size) is int and 0 <= size < _MAX_SIZE_BYTES:
            found.setdefault(path, FileEntry(path, size, sha256, _hex(item.get("blobId"), 40)))
    return tuple(found.values())


def _hex(value: object, digits: int) -> str | None:
    return value if isinstance(value, str) and len(value) == digits and set(value) <= _HEX else None


def _architecture(config_text: str | None, gguf: Mapping[str, GgufValue] | None) -> str | None:
    found = None
    if config_text is not None:
        try:
            found = architecture_of(load_json_object(config_text, CONFIG))
        except MalformedError:
            found = None  # reported with the claims, where the file is read for its words
    return found or text_of((gguf or {}).get("general.architecture"))

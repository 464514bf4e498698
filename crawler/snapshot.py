"""One repository at one commit: details, card, configuration, recipes, and what they claim."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import quote

from crawler.archive import Archive
from crawler.cards import card_metadata, evaluations, text_of
from crawler.client import Hub
from crawler.configs import architecture_of, load_json_object
from crawler.errors import CrawlError, GatedError, MalformedError
from crawler.gguf_headers import GgufValue, parse_gguf_metadata_prefix
from crawler.listing import ListedRepo, parse_record
from crawler.parents import (
    ADAPTER_CONFIG,
    CARD,
    CONFIG,
    MERGE_RECIPES,
    FileProblem,
    Words,
    read_words,
)
from crawler.ranges import RangeReader
from crawler.records import Claim, FileEntry, RepoRef, RepoSnapshot, RepoStatus

__all__ = ["RepoReading", "parse_claims", "read_repository", "read_snapshot"]

_MAX_TEXT_BYTES = 1 << 20
_MAX_DETAILS_BYTES = 64 << 20
_GGUF_PREFIX_BYTES = 64 << 10
_MAX_FILES = 100_000
_MAX_SIZE_BYTES = 1 << 62
_WEIGHTS = (".safetensors", ".gguf", ".bin", ".pt", ".pth")
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class RepoReading:
    """What one repository says: snapshot, claims, summary of weights, and what was unreadable.

    `parameters` and `dtype` are the Hub's summary of the headers; None where it gives none.
    """

    snapshot: RepoSnapshot
    claims: tuple[Claim, ...]
    problems: tuple[FileProblem, ...]
    architecture: str | None = None
    parameters: int | None = None
    dtype: str | None = None


def parse_claims(snapshot: RepoSnapshot, extra_files: Mapping[str, str]) -> tuple[Claim, ...]:
    """The claims in a snapshot and its small files; malformed files are passed over."""
    return read_words(snapshot, extra_files).claims


def read_snapshot(
    hub: Hub, repo_id: str, *, archive: Archive | None = None, now: datetime | None = None
) -> RepoSnapshot:
    """One repository as it is now.

    Raises
    ------
    CrawlError
        If its details cannot be had: gone, disabled, or the Hub fails.
    """
    return read_repository(hub, repo_id, archive=archive, now=now).snapshot


def read_repository(
    hub: Hub, repo_id: str, *, archive: Archive | None = None, now: datetime | None = None
) -> RepoReading:
    """One repository as it is now, with its claims.

    Card, adapter configuration and merge recipes are fetched. Fetching ``config.json`` counts as a
    download on the public Hub; it is done only where the details lack the configuration, or
    nothing else names a parent.

    Raises
    ------
    CrawlError
        If its details cannot be had: gone, disabled, or the Hub fails. Files that cannot be read
        become problems instead.
    """
    return _Reader(hub, archive, now or datetime.now(UTC)).read(repo_id)


class _Reader:
    """Reads one repository; collects the problems of its files."""

    def __init__(self, hub: Hub, archive: Archive | None, now: datetime) -> None:
        self._hub = hub
        self._archive = archive
        self._now = now
        self._problems: list[FileProblem] = []
        self._is_gated = False

    def read(self, repo_id: str) -> RepoReading:
        """Details first, then the small files, then what they say."""
        details = self._details(repo_id)
        listed = parse_record(details)
        if listed.revision is None:
            raise MalformedError(f"{repo_id}: its details name no commit")
        ref = RepoRef(listed.repo_id, listed.revision)
        files = _files(details)
        present = {file.path: file for file in files}
        card_text = self._text(ref, present.get(CARD))
        extra = {
            path: text
            for path in (ADAPTER_CONFIG, *MERGE_RECIPES)
            if (text := self._text(ref, present.get(path))) is not None
        }
        excerpt = details.get("config")
        snapshot = self._snapshot(ref, listed, files, card_text, details)
        if isinstance(excerpt, dict) and excerpt:
            snapshot = replace(snapshot, config_text=json.dumps(excerpt))
        gguf = self._gguf_metadata(ref, files)
        words = read_words(snapshot, extra, gguf)
        if CONFIG in present and (snapshot.config_text is None or not words.claims):
            text = self._text(ref, present[CONFIG])
            snapshot = replace(snapshot, config_text=text or snapshot.config_text)
            words = read_words(snapshot, extra, gguf)
        if listed.status is RepoStatus.GATED and not self._is_gated:
            self._probe_gate(ref, files)
        if self._is_gated:
            snapshot = replace(snapshot, status=RepoStatus.GATED)
        return self._reading(snapshot, words, details, gguf)

    def _details(self, repo_id: str) -> Mapping[str, object]:
        path = f"api/models/{quote(repo_id)}?blobs=true"
        body = self._hub.get(path, max_bytes=_MAX_DETAILS_BYTES)
        if self._archive is not None:
            self._archive.append(f"GET {path}", body, self._now)
        return load_json_object(body.decode("utf-8", "replace"), f"the details of {repo_id}")

    def _text(self, ref: RepoRef, file: FileEntry | None) -> str | None:
        """A small file as text; None when it is absent or cannot be read."""
        if file is None:
            return None
        if file.size_bytes > _MAX_TEXT_BYTES:
            reason = f"{file.path}: {file.size_bytes} bytes are too many to read"
            self._problems.append(FileProblem(file.path, MalformedError.code, reason))
            return None
        try:
            body = self._hub.get_file(ref, file.path, max_bytes=_MAX_TEXT_BYTES)
        except GatedError as error:
            self._note_gated(error)
            return None
        except CrawlError as error:
            self._problems.append(FileProblem(file.path, error.code, f"{file.path}: {error}"))
            return None
        if self._archive is not None:
            request = f"GET {ref.repo_id}/resolve/{ref.revision}/{file.path}"
            self._archive.append(request, body, self._now)
        return body.decode("utf-8", "replace").replace("\x00", "\ufffd")

    def _probe_gate(self, ref: RepoRef, files: Sequence[FileEntry]) -> None:
        """Ask whether this token may read a gated repository's weights: its card is often open."""
        file = next((file for file in files if file.path.endswith(_WEIGHTS)), None)
        if file is None:
            return
        try:
            self._hub.resolve(ref, file.path)
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
        if file is None or file.size_bytes == 0 or self._is_gated:
            return None
        try:
            stop = min(_GGUF_PREFIX_BYTES, file.size_bytes)
            (data,) = RangeReader(self._hub).read(ref, file.path, [(0, stop)])
            return parse_gguf_metadata_prefix(data, file.path, file.size_bytes)
        except GatedError as error:
            self._note_gated(error)
        except CrawlError as error:
            self._problems.append(FileProblem(file.path, error.code, f"{file.path}: {error}"))
        return None

    def _snapshot(
        self,
        ref: RepoRef,
        listed: ListedRepo,
        files: tuple[FileEntry, ...],
        card_text: str | None,
        details: Mapping[str, object],
    ) -> RepoSnapshot:
        metadata = _metadata(card_text, details)
        return RepoSnapshot(
            ref=ref,
            observed_at=self._now,
            status=RepoStatus.DISABLED if listed.status is RepoStatus.DISABLED else RepoStatus.OK,
            author=listed.author or (ref.repo_id.partition("/")[0] if "/" in ref.repo_id else None),
            created_at=listed.created_at,
            last_modified=listed.last_modified,
            downloads_30d=listed.downloads_30d,
            likes=listed.likes,
            licence=_licence(metadata, listed.tags),
            library=listed.library or text_of(metadata.get("library_name")),
            pipeline_tag=listed.pipeline_tag or text_of(metadata.get("pipeline_tag")),
            tags=listed.tags,
            files=files,
            card_text=card_text,
            evaluations=evaluations(metadata),
        )

    def _reading(
        self,
        snapshot: RepoSnapshot,
        words: Words,
        details: Mapping[str, object],
        gguf: Mapping[str, GgufValue] | None,
    ) -> RepoReading:
        parameters, dtype = _weights(details)
        return RepoReading(
            snapshot,
            words.claims,
            (*self._problems, *words.problems),
            _architecture(snapshot.config_text, gguf),
            parameters,
            dtype,
        )


def _metadata(card_text: str | None, details: Mapping[str, object]) -> Mapping[str, object]:
    """The card's metadata; the Hub's copy where the card cannot be read, else empty."""
    if card_text is not None:
        try:
            return card_metadata(card_text)
        except MalformedError:
            return {}  # reported with the claims, where the card is read for its words
    copy = details.get("cardData")
    return copy if isinstance(copy, dict) else {}


def _licence(metadata: Mapping[str, object], tags: Sequence[str]) -> str | None:
    stated = metadata.get("license")
    first = stated[0] if isinstance(stated, list) and stated else stated
    tagged = (tag.removeprefix("license:") for tag in tags if tag.startswith("license:"))
    return text_of(first) or next(tagged, None)


def _files(details: Mapping[str, object]) -> tuple[FileEntry, ...]:
    """The files in a repository's details; entries without a usable path or size are left out."""
    siblings = details.get("siblings")
    found: dict[str, FileEntry] = {}
    for item in siblings[:_MAX_FILES] if isinstance(siblings, list) else []:
        if not isinstance(item, dict):
            continue
        path, size, lfs = item.get("rfilename"), item.get("size"), item.get("lfs")
        sha256 = lfs.get("sha256") if isinstance(lfs, dict) else None
        if not (isinstance(sha256, str) and len(sha256) == 64 and set(sha256) <= _HEX):
            sha256 = None
        if not isinstance(path, str) or any("\ud800" <= c <= "\udfff" for c in path):
            continue
        if type(size) is int and 0 <= size < _MAX_SIZE_BYTES:
            found.setdefault(path, FileEntry(path, size, sha256))
    return tuple(found.values())


def _weights(details: Mapping[str, object]) -> tuple[int | None, str | None]:
    """Number of stored values, and the dtype that most of them have."""
    summary = details.get("safetensors")
    by_dtype = summary.get("parameters") if isinstance(summary, dict) else None
    if isinstance(by_dtype, dict):
        counts = {
            str(dtype): n
            for dtype, n in by_dtype.items()
            if type(n) is int and 0 <= n < _MAX_SIZE_BYTES
        }
        total = sum(counts.values())
        if counts and total < _MAX_SIZE_BYTES:
            return total, max(counts, key=lambda dtype: counts[dtype])
    gguf = details.get("gguf")
    total_gguf = gguf.get("total") if isinstance(gguf, dict) else None
    if type(total_gguf) is int and 0 <= total_gguf < _MAX_SIZE_BYTES:
        return total_gguf, None
    return None, None


def _architecture(config_text: str | None, gguf: Mapping[str, GgufValue] | None) -> str | None:
    found = None
    if config_text is not None:
        try:
            found = architecture_of(load_json_object(config_text, CONFIG))
        except MalformedError:
            found = None  # reported with the claims, where the file is read for its words
    return found or text_of((gguf or {}).get("general.architecture"))

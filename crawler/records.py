"""Frozen values that the crawler hands on: what was seen on the Hub, and when.

Nothing here does I/O. Every value is checked once, when it is made; times are UTC-aware.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

__all__ = [
    "Claim",
    "ClaimSource",
    "EvalResult",
    "FileEntry",
    "RepoRef",
    "RepoSnapshot",
    "RepoStatus",
    "TensorEntry",
    "is_repo_id",
]

MAX_NAME_CHARACTERS = 96
"""Most characters of an owner, and of a name."""

_REPO_ID = re.compile(
    r"[A-Za-z0-9][\w.\-]{0,95}(/[A-Za-z0-9_][\w.\-]{0,95})?", re.ASCII
)  # MAX_NAME_CHARACTERS
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_repo_id(text: str) -> bool:
    """Whether `text` has the form of a Hub repository id (``owner/name`` or a bare name).

    The form is that of the Hub's client (``validate_repo_id``), whose bound of 96 characters is on
    the name; the same bound is put on the owner.
    """
    return (
        _REPO_ID.fullmatch(text) is not None
        and "--" not in text
        and ".." not in text
        and not text.endswith((".git", ".", "-"))
    )


def _require_utc(field: str, value: datetime | None) -> None:
    if value is not None and value.tzinfo is not UTC and value.utcoffset() is None:
        raise ValueError(f"{field} needs a time zone: {value!r}")


class RepoStatus(StrEnum):
    """Whether a repository could be read at the time of observation."""

    OK = "ok"
    GATED = "gated"
    DISABLED = "disabled"
    GONE = "gone"


class ClaimSource(StrEnum):
    """Where somebody said who a model's parent is; most trusted first."""

    MERGE_RECIPE = "merge_recipe"
    ADAPTER_CONFIG = "adapter_config"
    GGUF_METADATA = "gguf_metadata"
    CARD = "card"
    TAG = "tag"
    CARD_RECIPE = "card_recipe"
    QUANTISATION_CONFIG = "quantisation_config"
    CONFIG = "config"
    PROSE = "prose"


@dataclass(frozen=True, slots=True)
class RepoRef:
    """A repository pinned to one commit."""

    repo_id: str
    revision: str

    def __post_init__(self) -> None:
        if not is_repo_id(self.repo_id):
            raise ValueError(f"not a Hub repository id: {self.repo_id!r}")
        if not _COMMIT.fullmatch(self.revision):
            raise ValueError(f"not a commit (40 hex digits): {self.revision!r}")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a repository.

    `sha256` is None for files outside large-file storage, `blob_id` (git's object id, 40 hex
    digits) where the Hub does not state it.
    """

    path: str
    size_bytes: int
    sha256: str | None = None
    blob_id: str | None = None


@dataclass(frozen=True, slots=True)
class EvalResult:
    """One evaluation result that a card states: a measured trait of the model."""

    name: str
    value: float
    metric: str
    dataset: str
    higher_is_better: bool | None = None


@dataclass(frozen=True, slots=True)
class RepoSnapshot:
    """One repository as it was seen at one moment.

    ``None`` means "not stated", never zero. `card_text` and `config_text` are hostile text:
    kept as they came, never executed or rendered.
    """

    ref: RepoRef
    observed_at: datetime
    status: RepoStatus = RepoStatus.OK
    author: str | None = None
    created_at: datetime | None = None
    last_modified: datetime | None = None
    downloads_30d: int | None = None
    likes: int | None = None
    licence: str | None = None
    library: str | None = None
    pipeline_tag: str | None = None
    tags: tuple[str, ...] = ()
    files: tuple[FileEntry, ...] = ()
    card_text: str | None = None
    config_text: str | None = None
    evaluations: tuple[EvalResult, ...] = ()

    def __post_init__(self) -> None:
        for field in ("observed_at", "created_at", "last_modified"):
            _require_utc(field, getattr(self, field))


@dataclass(frozen=True, slots=True)
class Claim:
    """What somebody said about a parent of `child`.

    `parent` is the Hub id that the words were resolved to, None when they could not be;
    `parent_text` is what was written. `relation` is the Hub's word (finetune, adapter,
    quantized, merge) or None. `weight` is the share a recipe states, None elsewhere.
    """

    child: str
    parent: str | None
    parent_text: str
    relation: str | None
    source: ClaimSource
    text: str
    revision: str
    observed_at: datetime
    weight: float | None = None
    method: str | None = None

    def __post_init__(self) -> None:
        _require_utc("observed_at", self.observed_at)


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor as a file's header describes it.

    `start` and `stop` are byte offsets from the beginning of the *file*, half open.
    `dtype` is the word of the file's format in capitals: ``BF16``, ``F32``, ``I8``, ``Q8_0``.
    `shape` is row-major with the output dimension first, for GGUF too.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: str
    start: int
    stop: int

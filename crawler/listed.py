"""One record of the Hub's listing: what it says of a repository. Pure.

Every record is parsed on its own; what cannot be parsed is kept with its reason and its text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from crawler.cards import declared_parents, relation_of, text_of
from crawler.errors import MalformedError, TruncatedError
from crawler.evaluations import evaluations
from crawler.records import Claim, ClaimSource, EvalResult, RepoStatus, is_repo_id
from crawler.tags import tag_parents
from crawler.traits import Facts, facts_of

__all__ = [
    "ListedRepo",
    "ParseFailure",
    "parse_or_explain",
    "parse_record",
    "records_of",
    "shown",
]

_COMMIT = re.compile(r"[0-9a-f]{40}")
_MAX_REASON = 200
_MAX_RAW = 4_000
_MAX_TAGS = 5_000
_MAX_TAG_CHARACTERS = 500
_MAX_RECORDS = 10_000
_MAX_LENIENT_VALUES = 1_000_000
_NO_COMMIT = "0" * 40
_TAG_ALONE = frozenset({ClaimSource.TAG})
_TAG_AND_CARD = frozenset({ClaimSource.TAG, ClaimSource.CARD})


@dataclass(frozen=True, slots=True)
class ListedRepo:
    """One repository as a listing, or the head of its details, describes it.

    ``None`` means "not stated". `revision` is None when the listing gives no commit. `state` is a
    digest of everything here that is no count: two records with one state say the same. `sources`
    are those of which `claims` are all that is said: a record without a copy of the card's
    metadata says nothing of the card.
    """

    repo_id: str
    revision: str | None
    status: RepoStatus
    gated: str | None
    author: str | None
    created_at: datetime | None
    last_modified: datetime | None
    downloads_30d: int | None
    downloads_all_time: int | None
    likes: int | None
    trending: float | None
    library: str | None
    pipeline_tag: str | None
    tags: tuple[str, ...]
    facts: Facts
    evaluations: tuple[EvalResult, ...]
    claims: tuple[Claim, ...]
    sources: frozenset[ClaimSource]
    state: int


@dataclass(frozen=True, slots=True)
class ParseFailure:
    """A record that could not be parsed, or an id that was not found; `raw` is its text, cut."""

    repo_id: str
    code: str
    reason: str
    raw: str | None = None


def parse_record(record: object, at: datetime) -> ListedRepo:
    """Parse one record of a listing or of a repository's details, as it came at `at`.

    Raises
    ------
    MalformedError
        If it names no repository, or states what cannot be.
    """
    if not isinstance(record, dict):
        raise MalformedError(f"a record is a {type(record).__name__}, not an object")
    repo_id = record.get("id") or record.get("modelId")
    if not isinstance(repo_id, str) or not is_repo_id(repo_id):
        raise MalformedError(f"not a repository id: {str(repo_id)[:100]!r}")
    sha = record.get("sha")
    revision = sha if isinstance(sha, str) and _COMMIT.fullmatch(sha) else None
    status = RepoStatus.DISABLED if record.get("disabled") is True else RepoStatus.OK
    gate = record.get("gated")
    gated = None if not gate else _clean(gate[:20]) if isinstance(gate, str) else "yes"
    author, library = text_of(record.get("author")), text_of(record.get("library_name"))
    created_at, last_modified = _time(record.get("createdAt")), _time(record.get("lastModified"))
    pipeline_tag = text_of(record.get("pipeline_tag"))
    tags = _tags(record.get("tags"))
    facts = facts_of(record)
    results = (
        evaluations(record, record.get("evalResults"))
        if record.get("model-index") or record.get("evalResults")
        else ()
    )
    claims = _claims(record, repo_id, tags, revision or _NO_COMMIT, at)
    sources = _TAG_AND_CARD if record.get("cardData") else _TAG_ALONE
    state = _digest(
        (
            revision, status, gated, author, _stamp(created_at), _stamp(last_modified), library,
            pipeline_tag, tags, facts,
            [(c.parent_text, c.relation, c.source) for c in claims],
        )
    )  # fmt: skip
    return ListedRepo(
        repo_id, revision, status, gated, author, created_at, last_modified,
        _count(record.get("downloads")), _count(record.get("downloadsAllTime")),
        _count(record.get("likes")), _score(record.get("trendingScore")), library, pipeline_tag,
        tags, facts, results, claims, sources,
        state,
    )  # fmt: skip


def _claims(
    record: Mapping[str, object], child: str, tags: Sequence[str], revision: str, at: datetime
) -> tuple[Claim, ...]:
    """The parents that a record's tags and its copy of the card's metadata state."""
    found: list[Claim] = []
    metadata = record.get("cardData")
    if isinstance(metadata, dict) and metadata.get("base_model"):
        relation = relation_of(metadata)
        for mention in declared_parents(metadata, child):
            said = f"base_model: {mention.context}"
            found.append(
                Claim(
                    child, mention.repo_id, mention.words, relation, ClaimSource.CARD, said,
                    revision, at,
                )
            )  # fmt: skip
    for mention, relation, tag in tag_parents(tags, child):
        found.append(
            Claim(
                child, mention.repo_id, mention.words, relation, ClaimSource.TAG, tag, revision, at
            )
        )
    return tuple(found)


def _time(value: object) -> datetime | None:
    """A moment of the Hub as UTC; None when it is not stated.

    Raises
    ------
    MalformedError
        If it is stated but no moment.
    """
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value if isinstance(value, str) else "")
        if moment.tzinfo is UTC:
            return moment
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (OverflowError, ValueError) as error:
        raise MalformedError(f"not a moment: {str(value)[:40]!r}") from error


def _stamp(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < 1 << 62 else None


def _score(value: object) -> float | None:
    if type(value) is int or type(value) is float:
        return float(value) if abs(value) < 1e15 else None
    return None


def _tags(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()
    try:
        whole = ",".join(value)
    except TypeError:
        whole = None  # not all of them are texts
    if (
        whole is not None
        and len(whole) <= _MAX_TAG_CHARACTERS
        and "" not in value
        and whole.isprintable()
    ):
        return tuple(value)
    return tuple(
        [
            _clean(tag[:_MAX_TAG_CHARACTERS])
            for tag in value[:_MAX_TAGS]
            if isinstance(tag, str) and tag
        ]
    )


def _digest(fields: object) -> int:
    """64 bits that are the same for the same fields, on every machine and in every version."""
    text = orjson.dumps(fields)  # a dataclass with its fields in order
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def parse_or_explain(record: object, at: datetime) -> ListedRepo | ParseFailure:
    """Parse one record; what cannot be parsed comes with its reason and its text."""
    try:
        return parse_record(record, at)
    except MalformedError as error:
        name = record.get("id") if isinstance(record, dict) else None
        label = shown(name) if isinstance(name, str) else "a record of the listing"
        return ParseFailure(label, error.code, str(error)[:_MAX_REASON], _raw(record))


def _raw(record: object) -> str | None:
    """The beginning of a record's text; None where nesting keeps it from being written."""
    try:
        return orjson.dumps(record).decode("utf-8", "replace")[:_MAX_RAW]
    except TypeError:  # it writes less deep nesting and smaller numbers than were read
        try:
            return json.dumps(record)[:_MAX_RAW]
        except RecursionError:
            return None


def shown(text: str) -> str:
    """`text` cut to a sane length, without what does not print."""
    return _clean(text[:_MAX_REASON])


def _clean(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def records_of(body: bytes) -> list[object]:
    """The records of a page.

    Raises
    ------
    TruncatedError
        If the page is no list, what a server or a proxy sends when it fails, or one of over ten
        thousand; it is asked again.
    """
    try:
        records = orjson.loads(body)
    except ValueError:
        records = _lenient(body)
    if not isinstance(records, list):
        raise TruncatedError(f"a page of the listing is a {type(records).__name__}, not a list")
    if len(records) > _MAX_RECORDS:
        raise TruncatedError(f"a page of the listing has {len(records)} records")
    return records


def _lenient(body: bytes) -> object:
    """A page with a record that is no strict JSON (NaN, half a surrogate): the others still count.

    Raises
    ------
    TruncatedError
        If the page as a whole is no JSON, or has so many values that reading it takes seconds.
    """
    if sum(map(body.count, (b",", b"[", b"{"))) > _MAX_LENIENT_VALUES:
        raise TruncatedError("a page of the listing is not strict JSON, and has too many values")
    try:
        return _repair(json.loads(body.decode("utf-8", "replace")))
    except (ValueError, RecursionError) as error:
        raise TruncatedError(f"a page of the listing is not JSON: {str(error)[:100]}") from error


def _repair(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_repair(item) for item in value]
    if isinstance(value, dict):
        return {str(_repair(key)): _repair(item) for key, item in value.items()}
    return value

"""One function for each parser: bytes of a stranger in, its promises held against what comes out.

A target returns nothing and raises `BrokenPromiseError` where a result breaks what a docstring
promises. Errors that a docstring names are no finding; every other exception is one.
"""

from __future__ import annotations

import contextlib
import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import orjson

from crawler.bulk import Column, Field, Kind, understand
from crawler.bulk_rows import hub_record, model_named
from crawler.card_shape import card_shape
from crawler.children import _parse_page
from crawler.configs import (
    adapter_config,
    architecture_of,
    config_parent,
    gguf_parents,
    gguf_sources,
    load_json_object,
    quantisation_parent,
)
from crawler.errors import CrawlError, MalformedError, TruncatedError
from crawler.evaluations import evaluations, read_eval_results
from crawler.gguf_headers import NeedMoreBytesError, parse_gguf_header, parse_gguf_metadata_prefix
from crawler.headers import parse_safetensors, read_headers
from crawler.licences import read_licence
from crawler.listed import ListedRepo, ParseFailure, parse_or_explain, parse_record, records_of
from crawler.parents import (
    ADAPTER_CONFIG,
    CARD,
    MERGE_RECIPES,
    QUANTISATION_CONFIGS,
    Words,
    read_words,
)
from crawler.plain_yaml import number_of, read_yaml, word_of
from crawler.quantisation import quantisation_of
from crawler.recipes import find_recipes, parse_recipe, parse_recipes, recipe_document
from crawler.records import FileEntry, RepoRef, RepoSnapshot, is_repo_id
from crawler.references import mention_of, repo_ids_in, resolve_paths, resolve_repo_id
from crawler.snapshot import read_repository
from crawler.torch_pickle import walk_pickle
from crawler.traits import context_length_of, facts_of
from crawler.webhook import MAX_BODY_BYTES, parse_payload

from . import archives, mutations
from .seeds import seeds

CHILD = "me/mine"
AT = datetime(2026, 1, 1, tzinfo=UTC)
REF = RepoRef(CHILD, "0" * 40)
MAX_MESSAGE_CHARACTERS = 2_000
"""Of an error, which is kept as the reason of a problem."""

_RELATIONS = frozenset({None, "adapter", "finetune", "merge", "quantized"})
_CONTROL = frozenset(map(chr, (*range(9), *range(11, 32), *range(127, 160))))


class BrokenPromiseError(AssertionError):
    """A result is not what the parser's docstring promises."""


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise BrokenPromiseError(what)


def _text_of(data: bytes) -> str:
    """As a file comes; half surrogates, which JSON can smuggle in, where all else is UTF-8."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace")


def _word(text: object, what: str, n_characters: int = 500) -> None:
    """Text that a database and a terminal can hold; no control characters but tab and line feed."""
    if text is None:
        return
    _require(isinstance(text, str), f"{what} is no text: {text!r:.80}")
    assert isinstance(text, str)
    _require(len(text) <= n_characters, f"{what} has {len(text)} characters")
    if not (text.isascii() and text.isprintable()):
        _require(_CONTROL.isdisjoint(text), f"{what} has control characters: {text!r:.80}")
        _require(
            not any("\ud800" <= c <= "\udfff" for c in text), f"{what} is no UTF-8: {text!r:.80}"
        )


def _id(repo_id: object, what: str) -> None:
    if repo_id is not None:
        _word(repo_id, what, 193)
        assert isinstance(repo_id, str)
        whole = is_repo_id(repo_id) and repo_id.isascii() and repo_id.isprintable()
        _require(whole and ".." not in repo_id and "\\" not in repo_id, f"{what}: {repo_id!r:.120}")


def _plain(value: object, what: str, n_characters: int = 500, *, values_only: bool = False) -> None:
    """Every text and number inside a value, of whatever dataclasses, tuples and mappings."""
    if isinstance(value, str):
        _word(value, what, n_characters)
    elif isinstance(value, float):
        _require(math.isfinite(value), f"{what} is {value}")
    elif isinstance(value, dict):
        for key, item in value.items():
            _word(key, what, n_characters)
            # What a recipe was read from is kept as it stands, on several lines, without NUL.
            _plain(str(item).translate(_AS_WRITTEN) if key == "text" else item, f"{what}.{key:.40}",
                   20_000 if key == "text" else n_characters)  # fmt: skip
    elif isinstance(value, list | tuple):
        for item in value:
            _plain(item, what, n_characters)
    elif is_dataclass(value):
        for field in fields(value):
            _plain(getattr(value, field.name), f"{what}.{field.name}", n_characters)


_AS_WRITTEN = {ord(control): " " for control in _CONTROL - {"\x00"}}


def _message(error: CrawlError) -> None:
    _require(
        len(str(error)) <= MAX_MESSAGE_CHARACTERS, f"a message of {len(str(error))} characters"
    )


def _claims(words: Words) -> None:
    _require(len(words.claims) <= 512, f"{len(words.claims)} claims")
    for claim in words.claims:
        _id(claim.parent, "a claim's parent")
        _word(claim.parent_text, "a claim's words")
        _word(claim.text, "a claim's text", 1_000)
        _word(claim.method, "a claim's method")
        _require(claim.relation in _RELATIONS, f"the relation {claim.relation!r}")
        _require(claim.weight is None or math.isfinite(claim.weight), "a weight is not finite")
    for problem in words.problems:
        _word(problem.reason, "a problem's reason", 1_000)
    for found in words.recipes:
        _recipe(found.recipe)


def _recipe(recipe: Any) -> None:
    document = recipe_document(recipe)
    text = json.dumps(document, allow_nan=False)
    _require(orjson.loads(text) is not None and len(orjson.dumps(document)) <= 4 << 20, "a recipe")
    _plain(document, "a recipe")
    for parent in recipe.parents:
        _id(parent.mention.repo_id, "a recipe's parent")


def _facts(record: dict[str, Any]) -> None:
    facts = facts_of(record)
    _plain(facts, "a fact", 600)
    for name in ("languages", "tasks", "datasets"):
        _require(len(getattr(facts, name)) <= 100, f"{len(getattr(facts, name))} {name}")
    orjson.dumps([getattr(facts, field.name) for field in fields(facts)])


def _results(metadata: Any, entries: object = None) -> None:
    results = evaluations(metadata, entries)
    _require(len(results) <= 5_000, f"{len(results)} results")
    _require(len({result.name for result in results}) == len(results), "a result's name twice")
    for result in results:
        _plain(result, "a result", 4_000)


def card(data: bytes) -> None:
    """A card through everything that is done with one; nothing here raises."""
    text = _text_of(data)
    words = read_words(RepoSnapshot(REF, AT, card_text=text), {})
    _claims(words)
    assert words.card is not None
    shape = card_shape(text, words.card)
    _require(0 <= shape.completeness <= 1 and shape.characters <= len(text), f"the shape {shape}")
    metadata = dict(words.card.metadata)
    _results(metadata)
    _facts({"cardData": metadata})
    _plain(
        read_licence(
            metadata.get("license"), metadata.get("license_name"), metadata.get("license_link")
        ),
        "a licence", 52_000,
    )  # fmt: skip


def recipe(data: bytes) -> None:
    """A file with merge recipes, and the same text as a card; only MalformedError."""
    text = _text_of(data)
    for found in find_recipes(text, CHILD):
        _recipe(found)
    try:
        recipes = parse_recipes(text, CHILD, repo_ids_in(text[:10_000]))
        _require(len(recipes) <= 64, f"{len(recipes)} recipes")
        for found in recipes:
            _recipe(found)
        if recipes:
            _recipe(parse_recipe(text, CHILD))
    except MalformedError as error:
        _message(error)


def config(data: bytes) -> None:
    """A configuration of a model, an adapter or a quantisation; only MalformedError."""
    text = _text_of(data)
    try:
        found = load_json_object(text, "config.json")
    except MalformedError as error:
        _message(error)
    else:
        _word(architecture_of(found), "an architecture")
        _word(quantisation_of(found), "a quantisation", 600)
        length = context_length_of(found)
        _require(length is None or 0 < length <= 1 << 27, f"a context of {length}")
        for mention in (config_parent(found, CHILD), quantisation_parent(found, CHILD)):
            _id(mention.repo_id if mention else None, "a configuration's parent")
        _facts({"config": found})
    if len(text) > 1 << 18:  # read six times below, where each file has its own second
        return
    with contextlib.suppress(MalformedError):
        _plain(adapter_config(text, CHILD), "an adapter")
    files = dict.fromkeys((ADAPTER_CONFIG, *QUANTISATION_CONFIGS, *MERGE_RECIPES[:1]), text)
    _claims(read_words(RepoSnapshot(REF, AT, config_text=text), files))


def yaml(data: bytes) -> None:
    """Plain YAML; only MalformedError."""
    try:
        documents = read_yaml(_text_of(data))
    except MalformedError as error:
        _message(error)
        return
    nodes, n_nodes, depth = documents, 0, 0
    while nodes:
        n_nodes, depth, below = n_nodes + len(nodes), depth + 1, []
        for node in nodes:
            if isinstance(node, str):
                number = number_of(node)
                _require(number is None or math.isfinite(number), f"the number {number}")
                _word(word_of(node), "a scalar", 1 << 20)
            else:
                below += node.values() if isinstance(node, dict) else node
        nodes = below
    _require(n_nodes <= 200_000 and depth <= 52, f"{n_nodes} nodes, {depth} deep")
    for entry in read_eval_results(_text_of(data))[:100]:
        _results({}, [entry])


def _listed(repo: ListedRepo) -> None:
    _id(repo.repo_id, "a listed id")
    _require(repo.revision is None or len(repo.revision) == 40, f"the revision {repo.revision!r}")
    for name in ("gated", "author", "library", "pipeline_tag"):
        _word(getattr(repo, name), f"a listed {name}")
    for moment in (repo.created_at, repo.last_modified):
        _require(moment is None or moment.utcoffset() is not None, f"the moment {moment}")
    for count in (repo.downloads_30d, repo.downloads_all_time, repo.likes):
        _require(count is None or 0 <= count < 1 << 62, f"the count {count}")
    _require(repo.trending is None or math.isfinite(repo.trending), f"trending {repo.trending}")
    _require(len(repo.tags) <= 5_000, f"{len(repo.tags)} tags")
    for tag in repo.tags:
        _word(tag, "a tag")
    _plain(repo.facts, "a fact", 600)
    _plain(repo.evaluations, "a result", 4_000)
    for claim in repo.claims:
        _id(claim.parent, "a listed parent")
        _word(claim.parent_text, "a listed claim's words")
        _word(claim.text, "a listed claim's text", 1_000)


def _failure(failure: ParseFailure) -> None:
    _word(failure.repo_id, "a failure's id", 200)
    _word(failure.reason, "a failure's reason", 200)
    _require(len(failure.raw or "") <= 4_000, "a failure's text is too long")
    (failure.raw or "").encode()


def page(data: bytes) -> None:
    """A page of a listing: TruncatedError for the whole, a failure for each record."""
    try:
        records = records_of(data)
    except TruncatedError as error:
        _message(error)
    else:
        for record in records:
            found = parse_or_explain(record, AT)
            _listed(found) if isinstance(found, ListedRepo) else _failure(found)
    try:
        for child in _parse_page(data, CHILD):
            _id(child.repo_id, "a listed child")
            for moment in (child.created_at, child.last_modified):
                _require(moment is None or moment.utcoffset() is not None, f"the moment {moment}")
    except MalformedError as error:
        _message(error)


class _OneRepository:
    """Stands in for the Hub: these details, and small files that are always the same."""

    def __init__(self, details: bytes) -> None:
        self.details = details

    def get(self, path: str, **_: object) -> SimpleNamespace:
        _require(path.isascii() and ".." not in path, f"the path {path!r:.200}")
        return SimpleNamespace(body=self.details, at=AT, next_url=None, error=None)

    def get_file(self, ref: RepoRef, path: str, **_: object) -> bytes:
        return seeds("card", real=False)[0] if path == CARD else seeds("config", real=False)[3]

    def get_head(self, ref: RepoRef, path: str, size_bytes: int, **_: object) -> bytes:
        return seeds("gguf", real=False)[1][:size_bytes]

    def require_readable(self, ref: RepoRef, path: str, **_: object) -> None:
        return


def details(data: bytes) -> None:
    """A repository's details, and what is read of it after them; only CrawlError."""
    try:
        reading = read_repository(_OneRepository(data), CHILD)  # type: ignore[arg-type]
    except CrawlError as error:
        _message(error)
        return
    _listed(reading.listed)
    for claim in reading.claims:
        _id(claim.parent, "a claim's parent")
        _word(claim.text, "a claim's text", 1_000)
    for problem in reading.problems:
        _word(problem.reason, "a problem's reason", 1_000)
    for word in (reading.licence, reading.architecture):
        _word(word, "a trait")
    for file in reading.snapshot.files:
        _require(0 <= file.size_bytes < 1 << 62, f"a file of {file.size_bytes} bytes")
        _word(file.path, "a file's path", 1_024)
        _require(not {"", ".", ".."} & set(file.path.split("/")), f"the path {file.path!r}")


def reference(data: bytes) -> None:
    """Words that may name a repository; nothing here raises."""
    text = _text_of(data)
    mentions = []
    for line in text.split("\n")[:50]:
        _id(resolve_repo_id(line), "a resolved id")
        mention = mention_of(line, CHILD)
        if mention is not None:
            _word(mention.words, "a mention's words")
            _id(mention.repo_id, "a mention's id")
            mentions.append(mention)
        if is_repo_id(line):
            _id(line, "an id")
    found = repo_ids_in(text)
    for repo_id in found:
        _id(repo_id, "an id in a text")
    for mention in resolve_paths(mentions, found, CHILD):
        _id(mention.repo_id, "a resolved path")


def _entries(tensors: Sequence[Any], file_bytes: int) -> None:
    for tensor in tensors:
        _require(0 <= tensor.start <= tensor.stop <= file_bytes, f"{tensor!r:.200} is outside")
        _require(all(0 <= n < 1 << 64 for n in tensor.shape), f"the shape {tensor.shape}")
        tensor.name.encode()
        tensor.dtype.encode()


def _report(path: str, data: bytes, file_bytes: int) -> None:
    """The same bytes through the reader of whole repositories: all that is done with large ones."""

    def read(_: str, start: int, stop: int) -> bytes:
        _require(0 <= start <= stop <= file_bytes, f"bytes {start} to {stop} are asked for")
        if stop > len(data):
            raise TruncatedError("the file ends before")
        return data[start:stop]

    report = read_headers(read, [FileEntry(path, file_bytes)])
    _entries(report.tensors, file_bytes)
    for problem in report.problems:
        _word(problem.reason, "a problem's reason", MAX_MESSAGE_CHARACTERS)


def safetensors(data: bytes) -> None:
    """The head of a safetensors file, alone and of a much larger file."""
    for file_bytes in (len(data), 1 << 40) if len(data) < 1 << 20 else ():
        try:
            header = parse_safetensors(data, "model.safetensors", file_bytes)
        except (MalformedError, NeedMoreBytesError) as error:
            _message(error)
            continue
        _entries(header.tensors, file_bytes)
        for key, value in header.metadata.items():
            (key + value).encode()
    _report("model.safetensors", data, len(data) + 1_000)


def gguf(data: bytes) -> None:
    """The head of a GGUF file, alone and of a much larger file, and its first metadata."""
    for file_bytes in (len(data), 1 << 40) if len(data) < 1 << 20 else ():
        try:
            metadata = parse_gguf_metadata_prefix(data, "x.gguf", file_bytes)
            for mention in (gguf_sources(metadata, CHILD), *gguf_parents(metadata, CHILD)):
                if mention is not None:
                    _id(mention.repo_id, "a source")
                    _word(mention.words, "a source's words")
            _claims(read_words(RepoSnapshot(REF, AT), {}, metadata))
            header = parse_gguf_header(data, "x.gguf", file_bytes)
        except (MalformedError, NeedMoreBytesError) as error:
            _message(error)
            continue
        _entries(header.tensors, file_bytes)
        for key in header.metadata:
            key.encode()
    _report("x.gguf", data, len(data) + 1_000)


def torch(data: bytes) -> None:
    """A PyTorch archive: directory, local headers and pickle, through the repository's reader."""
    _report("pytorch_model.bin", data, len(data))


def pickled(data: bytes) -> None:
    """The pickle of a checkpoint, which is walked and never run."""
    try:
        flat = walk_pickle(data, "pytorch_model.bin")
    except MalformedError as error:
        _message(error)
        return
    for name, tensor in flat.tensors.items():
        (name + tensor.key + tensor.dtype).encode()
        _require(len(tensor.shape) == len(tensor.strides), f"{tensor!r:.200}")
        _require(min((tensor.offset, tensor.storage_words, *tensor.shape)) >= 0, f"{tensor!r:.200}")
        _require(isinstance(tensor.is_contiguous, bool), "contiguous or not")
    for name, reason in flat.refused:
        name.encode()
        _word(reason, "a reason", 500)


def onnx(data: bytes) -> None:
    """An ONNX model beside the files that its words may stand in."""
    sizes = {"model.onnx": len(data), "d": 1 << 20}

    def read(path: str, start: int, stop: int) -> bytes:
        _require(0 <= start <= stop <= sizes[path], f"bytes {start} to {stop} are asked for")
        return (data if path == "model.onnx" else bytes(sizes[path]))[start:stop]

    report = read_headers(read, [FileEntry(path, size) for path, size in sizes.items()])
    for tensor in report.tensors:
        _entries([tensor], sizes[tensor.path])
    for problem in report.problems:
        _word(problem.reason, "a problem's reason", MAX_MESSAGE_CHARACTERS)


def payload(data: bytes) -> None:
    """A webhook's body; only MalformedError, which quotes no word of it."""
    try:
        event = parse_payload(data)
    except MalformedError as error:
        _message(error)
        _require(str(error).isascii() and str(error).isprintable(), "a message quotes the body")
        return
    _require(len(data) <= MAX_BODY_BYTES, f"a body of {len(data)} bytes was read")
    _id(event.repo_id, "an event's id")
    _id(event.moved_to, "an event's new id")
    _require(len(event.digest) == 64, f"the digest {event.digest!r}")


def cells(data: bytes) -> None:
    """A row of a bulk table: an object of cells by field; only MalformedError."""
    text = _text_of(data)
    repo_id, reason = model_named(text)
    _id(repo_id, "the id in a cell")
    _require(len(reason) <= 100, "a reason")
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return
    if not isinstance(row, dict):
        return
    understand(Kind.MODELS, [Column(str(name)[:200], "VARCHAR") for name in list(row)[:100]])
    known = {field.value: field for field in Field}
    # A table's reader hands out numbers and moments as such and everything else as text.
    typed = {
        known[name]: value if isinstance(value, bool | int | float) or value is None else
        value if isinstance(value, str) else json.dumps(value)
        for name, value in row.items() if name in known
    }  # fmt: skip
    record, unread = hub_record(typed)
    _require(set(unread) <= set(known), f"unread: {unread}")
    try:
        _listed(parse_record(record, AT))
    except MalformedError as error:
        _message(error)


_Broken = Callable[[random.Random, Sequence[bytes], int], bytes]


@dataclass(frozen=True, slots=True)
class Target:
    """A parser under test: its check, the seeds, and how small and large cases are made of them."""

    name: str
    check: Callable[[bytes], None]
    kind: str
    broken: _Broken
    large: _Broken
    weight: int
    most_bytes: int = mutations.HUGE_BYTES


_TEXT = mutations.broken_text, mutations.large_text
_JSON = mutations.broken_json, mutations.large_json
TARGETS = {
    target.name: target
    for target in (
        Target("card", card, "card", *_TEXT, 14),
        Target("recipe", recipe, "recipe", *_TEXT, 12),
        Target("config", config, "config", *_JSON, 12),
        Target("yaml", yaml, "recipe", *_TEXT, 10),
        # The Hub itself writes a page; a stranger's part of it is one record.
        Target("page", page, "page", *_JSON, 10, most_bytes=mutations.LARGE_BYTES),
        Target("details", details, "details", *_JSON, 5),
        Target("reference", reference, "words", *_TEXT, 7),
        Target(
            "safetensors", safetensors, "safetensors",
            mutations.broken_safetensors, mutations.large_safetensors, 10,
        ),
        Target("gguf", gguf, "gguf", mutations.broken_gguf, mutations.large_gguf, 10),
        Target("torch", torch, "torch", archives.broken_archive, archives.large_archive, 8),
        Target("pickled", pickled, "pickled", archives.broken_bytes, archives.large_pickle, 8),
        Target("onnx", onnx, "onnx", archives.broken_onnx, archives.large_onnx, 8),
        Target("payload", payload, "payload", *_JSON, 5),
        Target("cells", cells, "cells", *_JSON, 5),
    )
}  # fmt: skip


def case(target: Target, seed: int, index: int, *, real: bool = True) -> bytes:
    """The case `index` of a run: its bytes depend on target, seed, index and the seeds alone."""
    rng = random.Random(f"{seed}/{target.name}/{index}")
    pool = seeds(target.kind, real=real)
    if index % mutations.HUGE_EVERY == mutations.HUGE_EVERY - 1:
        return target.large(rng, pool, target.most_bytes)
    if index % mutations.LARGE_EVERY == mutations.LARGE_EVERY - 1:
        return target.large(rng, pool, mutations.LARGE_BYTES)
    is_medium = index % mutations.MEDIUM_EVERY == mutations.MEDIUM_EVERY - 1
    limit = mutations.MEDIUM_BYTES if is_medium else mutations.SMALL_BYTES
    return target.broken(rng, pool, limit)

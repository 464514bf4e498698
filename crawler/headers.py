"""Headers of weight files: bytes of a stranger in, tensor entries out. Pure and bounded.

Nothing here allocates by a number that the file states before that number was held against the
file's size and a fixed bound. Pickled weights are never opened.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from crawler.errors import CrawlError, MalformedError
from crawler.gguf_headers import (
    GGML_BLOCKS,
    GgufHeader,
    GgufValue,
    NeedMoreBytesError,
    check_overlap,
    parse_gguf_header,
)
from crawler.records import FileEntry, TensorEntry

__all__ = [
    "DTYPE_BITS",
    "GGML_BLOCKS",
    "GgufHeader",
    "GgufValue",
    "HeaderProblem",
    "HeaderReport",
    "NeedMoreBytesError",
    "SafetensorsHeader",
    "parse_gguf_header",
    "parse_safetensors",
    "parse_safetensors_header",
    "read_headers",
    "weight_files",
]

DTYPE_BITS: Mapping[str, int] = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8,
    "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
"""Bits of one value of each safetensors dtype."""

_FIRST_READ_BYTES = 64 << 10
_MAX_HEADER_BYTES = 100_000_000
_MAX_INDEX_BYTES = 50_000_000
_MAX_JSON_VALUES = 500_000  # eight a tensor; the largest models have 600 tensors a file
_MAX_RANK = 64
_MAX_NUMBER = 1 << 62
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.(safetensors|gguf)$")
_NOT_WEIGHTS = re.compile(r"(^|/)(training_args|optimizer|scheduler|rng_state)[^/]*$")


@dataclass(frozen=True, slots=True)
class HeaderProblem:
    """Why a file's header could not be used; `code` is a word of `crawler.errors` or ``pickle``."""

    path: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    """Free-text metadata and tensors of one safetensors file."""

    metadata: Mapping[str, str]
    tensors: tuple[TensorEntry, ...]


@dataclass(frozen=True, slots=True)
class HeaderReport:
    """What the headers of one repository's weights say.

    `format` is ``safetensors``, ``gguf``, ``pickle`` (present, not read) or ``none``.
    """

    format: str
    tensors: tuple[TensorEntry, ...]
    metadata: Mapping[str, GgufValue]
    problems: tuple[HeaderProblem, ...]


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedError("a key stands twice")
    return found


def _load_object(text: bytes, path: str) -> dict[str, object]:
    """Parse a JSON object with distinct keys."""
    if sum(map(text.count, (b",", b"[", b"{"))) > _MAX_JSON_VALUES:
        raise MalformedError(f"{path}: header has more than {_MAX_JSON_VALUES} values")
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
        if b"\\u" in text:  # half a surrogate pair is no text that anything could store
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except MalformedError as error:
        raise MalformedError(f"{path}: header is not usable: {error}") from error
    except RecursionError as error:
        raise MalformedError(f"{path}: header is nested too deeply") from error
    except ValueError as error:  # JSON, UTF-8 and endless digits alike
        raise MalformedError(f"{path}: header is not JSON: {str(error)[:200]}") from error
    if not isinstance(value, dict):
        raise MalformedError(f"{path}: header is a {type(value).__name__}, not an object")
    return value


def _numbers(value: object) -> tuple[int, ...] | None:
    """A list of non-negative integers as a tuple, else None."""
    if not isinstance(value, list) or len(value) > _MAX_RANK:
        return None
    if any(type(item) is not int or not 0 <= item <= _MAX_NUMBER for item in value):
        return None
    return tuple(value)


def _tensor(name: str, value: object, path: str, data_start: int, file_bytes: int) -> TensorEntry:
    if not isinstance(value, dict):
        raise MalformedError(f"{path}: entry {name!r:.100} is not an object")
    dtype, shape = value.get("dtype"), _numbers(value.get("shape"))
    offsets = _numbers(value.get("data_offsets"))
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise MalformedError(f"{path}: {name!r:.100} has the unknown dtype {str(dtype)[:40]!r}")
    if shape is None:
        raise MalformedError(f"{path}: {name!r:.100} has no usable shape")
    if offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise MalformedError(f"{path}: {name!r:.100} has no usable offsets")
    start, stop = data_start + offsets[0], data_start + offsets[1]
    if stop > file_bytes:
        raise MalformedError(
            f"{path}: {name!r:.100} ends at byte {stop}, the file has {file_bytes}"
        )
    bits = math.prod(shape) * DTYPE_BITS[dtype]
    if bits != 8 * (stop - start):
        raise MalformedError(
            f"{path}: {name!r:.100} of shape {list(shape)} and {dtype} does not take "
            f"{stop - start} bytes"
        )
    return TensorEntry(name, dtype, shape, path, start, stop)


def parse_safetensors(data: bytes, path: str, file_bytes: int) -> SafetensorsHeader:
    """Parse the head of a safetensors file, free-text metadata included.

    Parameters and errors are those of :func:`parse_safetensors_header`.
    """
    if file_bytes < 8:
        raise MalformedError(f"{path}: {file_bytes} bytes are too few for a header")
    if len(data) < 8:
        raise NeedMoreBytesError(path, 8)
    length = int.from_bytes(data[:8], "little")
    if length > _MAX_HEADER_BYTES:
        raise MalformedError(
            f"{path}: header length {length} exceeds the bound of {_MAX_HEADER_BYTES}"
        )
    data_start = 8 + length
    if data_start > file_bytes:
        raise MalformedError(f"{path}: header length {length} exceeds the file ({file_bytes})")
    if len(data) < data_start:
        raise NeedMoreBytesError(path, data_start)
    header = _load_object(data[8:data_start], path)
    stated = header.pop("__metadata__", None)
    metadata = (
        {key: value for key, value in stated.items() if isinstance(value, str)}
        if isinstance(stated, dict)
        else {}
    )
    tensors = [_tensor(name, value, path, data_start, file_bytes) for name, value in header.items()]
    check_overlap(tensors, path)
    return SafetensorsHeader(metadata, tuple(tensors))


def parse_safetensors_header(data: bytes, path: str, file_bytes: int) -> tuple[TensorEntry, ...]:
    """Parse the head of a safetensors file.

    Parameters
    ----------
    data
        The file's first bytes, as many as are at hand.
    path
        The file's path, for messages and entries.
    file_bytes
        Size of the whole file.

    Returns
    -------
    tuple of TensorEntry
        In the header's order; offsets count from the beginning of the file.

    Raises
    ------
    NeedMoreBytesError
        If `data` ends before the header does.
    MalformedError
        If the length exceeds 100 MB or the file, the JSON is no object of distinct keys or has
        more than 500,000 values, a text in it is not UTF-8, a dtype
        is unknown, offsets are negative, overlap or lie outside the file, or a shape does not
        fill its span.

    Examples
    --------
    >>> head = b'{"w":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]}}'
    >>> data = len(head).to_bytes(8, "little") + head
    >>> parse_safetensors_header(data, "model.safetensors", len(data) + 12)[0].shape
    (2, 3)
    """
    return parse_safetensors(data, path, file_bytes).tensors


_Read = Callable[[str, int, int], bytes]


def _read_prefix_safetensors(read: _Read, file: FileEntry) -> SafetensorsHeader:
    data = read(file.path, 0, min(_FIRST_READ_BYTES, file.size_bytes))
    try:
        return parse_safetensors(data, file.path, file.size_bytes)
    except NeedMoreBytesError as error:
        data += read(file.path, len(data), error.needed_bytes)
        return parse_safetensors(data, file.path, file.size_bytes)


def _read_prefix_gguf(read: _Read, file: FileEntry) -> GgufHeader:
    data = read(file.path, 0, min(_FIRST_READ_BYTES, file.size_bytes))
    while True:
        try:
            return parse_gguf_header(data, file.path, file.size_bytes)
        except NeedMoreBytesError as error:
            if error.needed_bytes > _MAX_HEADER_BYTES:
                raise MalformedError(
                    f"{file.path}: header exceeds {_MAX_HEADER_BYTES} bytes"
                ) from error
            # Doubling keeps both the number of requests and the parsing anew logarithmic.
            wanted = max(error.needed_bytes, 2 * len(data))
            data += read(file.path, len(data), min(wanted, file.size_bytes))


def _shards_of_index(read: _Read, index: FileEntry) -> set[str]:
    if index.size_bytes > _MAX_INDEX_BYTES:
        raise MalformedError(f"{index.path}: {index.size_bytes} bytes are too many for an index")
    weight_map = _load_object(read(index.path, 0, index.size_bytes), index.path).get("weight_map")
    if not isinstance(weight_map, dict):
        raise MalformedError(f"{index.path}: no weight_map")
    return {str(path) for path in weight_map.values()}


def weight_files(files: Sequence[FileEntry]) -> tuple[FileEntry, ...]:
    """The files that together hold the model's weights once, before any index is consulted.

    Safetensors go before GGUF. Of safetensors: ``model.safetensors``, else the shards of
    ``model-…``, else any shards, else ``adapter_model.safetensors``, else all in the top folder.
    Of several GGUF files, which are the same model in several precisions, the largest (with its
    parts when it is split).
    """
    top = {file.path: file for file in files if "/" not in file.path}
    tensors = [file for path, file in top.items() if path.endswith(".safetensors")]
    if tensors:
        for name in ("model.safetensors",):
            if name in top:
                return (top[name],)
        shards = [file for file in tensors if _SHARD.search(file.path)]
        own = [file for file in shards if file.path.startswith("model-")]
        if own or shards:
            return tuple(sorted(own or shards, key=lambda file: file.path))
        if "adapter_model.safetensors" in top:
            return (top["adapter_model.safetensors"],)
        return tuple(sorted(tensors, key=lambda file: file.path))
    groups: dict[str, list[FileEntry]] = {}
    for file in files:
        if file.path.endswith(".gguf") and "mmproj" not in file.path.lower():
            groups.setdefault(_SHARD.sub("", file.path), []).append(file)
    if not groups:
        return ()
    best = max(groups.values(), key=lambda group: sum(file.size_bytes for file in group))
    return tuple(sorted(best, key=lambda file: file.path))


def _choose(
    read: _Read, files: Sequence[FileEntry], problems: list[HeaderProblem]
) -> tuple[FileEntry, ...]:
    """Weight files, corrected by the index of a sharded model."""
    chosen = weight_files(files)
    by_path = {file.path: file for file in files}
    index = by_path.get("model.safetensors.index.json")
    if index is None or any(file.path == "model.safetensors" for file in chosen):
        return chosen
    try:
        named = _shards_of_index(read, index)
    except CrawlError as error:
        problems.append(HeaderProblem(index.path, error.code, str(error)))
        return chosen
    for path in sorted(named - by_path.keys()):
        problems.append(
            HeaderProblem(path, "not_found", f"{index.path} names {path!r:.100}, which is absent")
        )
    present = tuple(by_path[path] for path in sorted(named & by_path.keys()))
    return present or chosen


def _pickles(files: Sequence[FileEntry]) -> list[HeaderProblem]:
    return [
        HeaderProblem(file.path, "pickle", f"{file.path}: not read: pickle")
        for file in files
        if file.path.endswith(_PICKLES) and not _NOT_WEIGHTS.search(file.path)
    ]


def read_headers(read: _Read, files: Sequence[FileEntry]) -> HeaderReport:
    """Read the headers of a repository's weights.

    Parameters
    ----------
    read
        ``read(path, start, stop)`` returns those bytes of a file; its errors are recorded.
    files
        All files of the repository.

    Returns
    -------
    HeaderReport
        A file that cannot be used becomes a problem; the others are still read. A tensor that
        stands in two shards is taken from the first. Pickled weights are reported as
        "not read: pickle" only when there is nothing better.
    """
    problems: list[HeaderProblem] = []
    chosen = _choose(read, files, problems)
    if not chosen:
        pickles = _pickles(files)
        return HeaderReport("pickle" if pickles else "none", (), {}, (*problems, *pickles))
    kind = "gguf" if chosen[0].path.endswith(".gguf") else "safetensors"
    tensors: dict[str, TensorEntry] = {}
    metadata: dict[str, GgufValue] = {}
    for file in chosen:
        try:
            header = (
                _read_prefix_gguf(read, file)
                if kind == "gguf"
                else _read_prefix_safetensors(read, file)
            )
        except CrawlError as error:
            problems.append(HeaderProblem(file.path, error.code, str(error)))
            continue
        metadata = {**header.metadata, **metadata}
        for entry in header.tensors:
            if entry.name in tensors:
                problems.append(
                    HeaderProblem(
                        file.path,
                        MalformedError.code,
                        f"{file.path}: {entry.name!r:.100} stands in "
                        f"{tensors[entry.name].path} too",
                    )
                )
            else:
                tensors[entry.name] = entry
    return HeaderReport(kind, tuple(tensors.values()), metadata, tuple(problems))

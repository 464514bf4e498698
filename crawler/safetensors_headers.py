"""The head of a safetensors file and the index of a sharded model. Pure and bounded.

Layout: the header's length (u64, little-endian), the header (a JSON object), the data.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from crawler.errors import MalformedError
from crawler.gguf_headers import NeedMoreBytesError, check_overlap
from crawler.records import TensorEntry

__all__ = [
    "DTYPE_BITS",
    "MAX_HEADER_BYTES",
    "MAX_INDEX_BYTES",
    "SafetensorsHeader",
    "parse_safetensors",
    "parse_safetensors_header",
    "parse_shard_index",
]

DTYPE_BITS: Mapping[str, int] = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8,
    "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
"""Bits of one value of each safetensors dtype."""

MAX_HEADER_BYTES = 100_000_000
MAX_INDEX_BYTES = 50_000_000
_MAX_JSON_VALUES = 500_000  # eight a tensor; the largest models have 600 tensors a file
_MAX_RANK = 64
_MAX_NUMBER = 1 << 62


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    """Free-text metadata and tensors of one safetensors file."""

    metadata: Mapping[str, str]
    tensors: tuple[TensorEntry, ...]


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
    if length > MAX_HEADER_BYTES:
        raise MalformedError(
            f"{path}: header length {length} exceeds the bound of {MAX_HEADER_BYTES}"
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


def parse_shard_index(data: bytes, path: str) -> dict[str, str]:
    """Name of the file that every tensor is said to stand in, of ``….index.json``.

    Raises
    ------
    MalformedError
        If it is no JSON object with a ``weight_map`` of texts.
    """
    weight_map = _load_object(data, path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise MalformedError(f"{path}: no weight_map")
    if not all(isinstance(shard, str) for shard in weight_map.values()):
        raise MalformedError(f"{path}: a weight_map with values that are no file names")
    return weight_map

"""Initialisers of an ONNX model: a bounded walk over its protobuf that jumps over the values. Pure.

A model is one protobuf message; its graph holds the weights as tensors, either with their bytes
inside (``raw_data``) or with the place of the bytes in another file (``external_data``) [1]_. Field
tags and lengths tell what can be jumped over, so of a large file few bytes are read. Only values
that stand as plain little-endian words are listed; integers of varying length are refused.

References
----------
.. [1] ONNX, ``onnx/onnx.proto``: ModelProto, GraphProto, TensorProto.
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from crawler.errors import MalformedError
from crawler.records import TensorEntry
from crawler.safetensors_headers import DTYPE_BITS
from crawler.wishes import FilePieces, HeaderProblem, Wishes

__all__ = ["OnnxHeader", "onnx_steps"]

_MAX_WISHES = 4_096
_MAX_FIELDS = 150_000  # walked in less than a second; large graphs have some ten thousand nodes
_MAX_INITIALISERS = 32_768
_MAX_TEXT_BYTES = 4_096
_MAX_RANK = 64
_MAX_DIMENSION = 1 << 62
_MAX_PROBLEMS = 100
_FIRST_AHEAD_BYTES = 64 << 10
_JUMP_AHEAD_BYTES = 8 << 10
_MAX_AHEAD_BYTES = 1 << 20

_DTYPES: Mapping[int, str] = {
    1: "F32", 2: "U8", 3: "I8", 4: "U16", 5: "I16", 6: "I32", 7: "I64", 9: "BOOL", 10: "F16",
    11: "F64", 12: "U32", 13: "U64", 14: "C64", 16: "BF16", 17: "F8_E4M3", 18: "F8_E4M3FNUZ",
    19: "F8_E5M2", 20: "F8_E5M2FNUZ", 23: "F4", 24: "F8_E8M0", 27: "F6_E2M3", 28: "F6_E3M2",
}  # fmt: skip
_OTHERS: Mapping[int, str] = {
    0: "no type", 8: "STRING", 15: "COMPLEX128", 21: "UINT4", 22: "INT4", 25: "UINT2", 26: "INT2",
}  # fmt: skip
# Fields by number.
_MODEL_GRAPH = 7
_GRAPH_INITIALISER, _GRAPH_SPARSE = 5, 15
_DIMS, _DATA_TYPE, _SEGMENT, _FLOATS, _NAME, _RAW, _DOUBLES = 1, 2, 3, 4, 8, 9, 10
_EXTERNAL, _LOCATION = 13, 14
_TYPED = {5: "int32_data", 6: "string_data", 7: "int64_data", 11: "uint64_data"}
_PACKED = {_FLOATS: "F32", _DOUBLES: "F64"}
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class OnnxHeader:
    """Initialisers of one model's graph, and why others are not listed."""

    tensors: tuple[TensorEntry, ...]
    problems: tuple[HeaderProblem, ...]


class _Field(NamedTuple):
    """One field of a message: a number, or the span of its bytes."""

    number: int
    kind: int
    value: int
    start: int
    stop: int


@dataclass(slots=True)
class _Initialiser:
    """What was read of a TensorProto."""

    name: str = ""
    dims: list[int] = field(default_factory=list)
    data_type: int = 0
    span: tuple[int, int] | None = None
    is_external: bool = False
    external: dict[str, str] = field(default_factory=dict)
    refused: str | None = None


def onnx_steps(path: str, files: Mapping[str, int]) -> Wishes[OnnxHeader]:
    """Read where the initialisers of an ONNX model lie.

    Parameters
    ----------
    path
        The model; one of `files`.
    files
        Sizes in bytes of all files of the repository: those where external data may lie.

    Raises
    ------
    MalformedError
        If the bytes are no protobuf of a model with one graph, or exceed the bounds.
    """
    reader = _Reader(path, files[path])
    graph: _Field | None = None
    at = 0
    found: list[_Initialiser] = []
    n_sparse = 0
    while at < reader.stop:
        part = yield from reader.field(at, reader.stop)
        at = part.stop
        if part.number != _MODEL_GRAPH or part.kind != _BYTES:
            continue
        if graph is not None:
            raise MalformedError(f"{path}: a model with two graphs")
        graph = part
        inner = part.start
        while inner < part.stop:
            item = yield from reader.field(inner, part.stop)
            inner = item.stop
            n_sparse += item.number == _GRAPH_SPARSE
            if item.number == _GRAPH_INITIALISER and item.kind == _BYTES:
                if len(found) >= _MAX_INITIALISERS:
                    raise MalformedError(f"{path}: more than {_MAX_INITIALISERS} initialisers")
                found.append((yield from _initialiser(reader, item)))
    if graph is None:
        raise MalformedError(f"{path}: no ONNX model: it has no graph")
    return _placed(path, files, found, n_sparse)


class _Reader:
    """Reads fields of messages, ahead of itself while it goes on step by step."""

    def __init__(self, path: str, size_bytes: int) -> None:
        self.path = path
        self.stop = size_bytes
        self._file = FilePieces(path, size_bytes, max_wishes=_MAX_WISHES, n_kept=1)
        self._n_fields = 0
        self._start, self._data = 0, b""
        self._ahead_bytes = _FIRST_AHEAD_BYTES

    def read(self, start: int, stop: int) -> Wishes[bytes]:
        """Bytes of the file."""
        known_stop = self._start + len(self._data)
        if not self._start <= start <= stop <= known_stop:
            if known_stop:
                # After what follows soon more small fields follow; after a far jump, one tensor.
                self._ahead_bytes = (
                    min(2 * self._ahead_bytes, _MAX_AHEAD_BYTES)
                    if start <= known_stop + _JUMP_AHEAD_BYTES
                    else _JUMP_AHEAD_BYTES
                )
            wanted = max(stop, min(start + self._ahead_bytes, self.stop))
            self._data = yield from self._file.read(start, wanted)
            self._start = start
        return self._data[start - self._start : stop - self._start]

    def field(self, at: int, limit: int) -> Wishes[_Field]:
        """The field at byte `at` of a message that ends at `limit`.

        Raises
        ------
        MalformedError
            If it is no field, or reaches beyond the message.
        """
        self._n_fields += 1
        if self._n_fields > _MAX_FIELDS:
            raise MalformedError(f"{self.path}: more than {_MAX_FIELDS} fields")
        head_stop = min(at + 20, limit)  # a tag and a length, at their most
        inside = at - self._start
        if head_stop - self._start <= len(self._data):  # nearly always
            head = self._data[inside : head_stop - self._start]
        else:
            head = yield from self.read(at, head_stop)
        tag, used = self._varint(head, 0)
        number, kind = tag >> 3, tag & 7
        value, start = 0, at + used
        if kind == _VARINT:
            value, used = self._varint(head, used)
            start = stop = at + used
        elif kind == _BYTES:
            length, used = self._varint(head, used)
            start = at + used
            stop = start + length
        elif kind in (_EIGHT, _FOUR):
            stop = start + (8 if kind == _EIGHT else 4)
        else:
            raise MalformedError(f"{self.path}: no protobuf: a field of kind {kind} at byte {at}")
        if not number or stop > limit:
            raise MalformedError(f"{self.path}: no protobuf: a field at byte {at} has no end")
        return _Field(number, kind, value, start, stop)

    def _varint(self, data: bytes, at: int) -> tuple[int, int]:
        """A number of up to ten bytes of seven bits, and where it ends."""
        if at < len(data) and data[at] < 0x80:
            return data[at], at + 1
        value = 0
        for i, byte in enumerate(data[at : at + 10]):
            value |= (byte & 0x7F) << 7 * i
            if byte < 0x80:
                return value, at + i + 1
        raise MalformedError(f"{self.path}: no protobuf: a number without an end")

    def text(self, part: _Field) -> Wishes[str]:
        """A text; bytes that are not UTF-8 are replaced."""
        if part.kind != _BYTES or part.stop - part.start > _MAX_TEXT_BYTES:
            raise MalformedError(f"{self.path}: a text of {part.stop - part.start} bytes")
        data = yield from self.read(part.start, part.stop)
        return data.decode("utf-8", "replace")

    def numbers(self, part: _Field) -> Wishes[list[int]]:
        """The numbers of a repeated field, packed or one by one."""
        if part.kind == _VARINT:
            return [part.value]
        if part.kind != _BYTES or part.stop - part.start > 10 * _MAX_RANK:
            raise MalformedError(f"{self.path}: a shape of too many dimensions")
        data = yield from self.read(part.start, part.stop)
        found, at = [], 0
        while at < len(data):
            value, at = self._varint(data, at)
            found.append(value)
        return found


def _initialiser(reader: _Reader, message: _Field) -> Wishes[_Initialiser]:
    """Read a TensorProto and jump over its values."""
    found = _Initialiser()
    at = message.start
    while at < message.stop:
        part = yield from reader.field(at, message.stop)
        at = part.stop
        if part.number == _DIMS:
            found.dims += yield from reader.numbers(part)
            if len(found.dims) > _MAX_RANK:
                raise MalformedError(f"{reader.path}: a shape of too many dimensions")
        elif part.number == _DATA_TYPE:
            found.data_type = part.value
        elif part.number == _NAME:
            found.name = yield from reader.text(part)
        elif part.number == _SEGMENT:
            found.refused = "it is one segment of a tensor"
        elif part.number in (_RAW, *_PACKED):
            _take_values(found, part)
        elif part.number in _TYPED:
            found.refused = f"its values stand in {_TYPED[part.number]}, not as plain words"
        elif part.number == _EXTERNAL:
            key, value = yield from _pair(reader, part)
            found.external[key] = value
        elif part.number == _LOCATION:
            found.is_external = part.value == 1
    return found


def _take_values(found: _Initialiser, part: _Field) -> None:
    """Note where the words are: packed floats are plain words too."""
    if part.kind != _BYTES or found.span is not None:
        found.refused = "its values are scattered"
        return
    if part.number in _PACKED and _DTYPES.get(found.data_type) != _PACKED[part.number]:
        found.refused = "its values do not stand as words of its type"
        return
    found.span = part.start, part.stop


def _pair(reader: _Reader, message: _Field) -> Wishes[tuple[str, str]]:
    """Key and value of a StringStringEntryProto."""
    texts = {1: "", 2: ""}
    if message.kind != _BYTES:
        raise MalformedError(f"{reader.path}: a pair that is none")
    at = message.start
    while at < message.stop:
        part = yield from reader.field(at, message.stop)
        at = part.stop
        if part.number in texts:
            texts[part.number] = yield from reader.text(part)
    return texts[1], texts[2]


def _placed(
    path: str, files: Mapping[str, int], found: list[_Initialiser], n_sparse: int
) -> OnnxHeader:
    """Entries of the initialisers whose place is usable."""
    entries: dict[str, TensorEntry] = {}
    refused: list[tuple[str, str]] = []
    for item in found:
        entry = _entry(path, files, item)
        if isinstance(entry, str):
            refused.append((item.name, entry))
        elif item.name in entries:
            refused.append((item.name, "the name stands twice"))
        else:
            entries[item.name] = entry
    if n_sparse:
        refused.append(("", f"{n_sparse} sparse initialisers are not read"))
    refused += _overlapping(entries)
    problems = [
        HeaderProblem(path, MalformedError.code, f"{path}: {name!r:.100}: {reason}")
        for name, reason in refused[:_MAX_PROBLEMS]
    ]
    if len(refused) > _MAX_PROBLEMS:
        n_more = len(refused) - _MAX_PROBLEMS
        reason = f"{path}: {n_more} more initialisers cannot be read"
        problems.append(HeaderProblem(path, MalformedError.code, reason))
    return OnnxHeader(tuple(entries.values()), tuple(problems))


def _entry(path: str, files: Mapping[str, int], item: _Initialiser) -> TensorEntry | str:
    """Where an initialiser lies, or why that is not known."""
    if item.refused is not None:
        return item.refused
    dtype = _DTYPES.get(item.data_type)
    if dtype is None:
        return f"words of {_OTHERS.get(item.data_type, f'type {item.data_type}')} are not read"
    if any(length > _MAX_DIMENSION for length in item.dims):
        return "its shape is not usable"
    bits = math.prod(item.dims) * DTYPE_BITS[dtype]
    place = _external(path, files, item, bits) if item.is_external else _inside(path, item, bits)
    if isinstance(place, str):
        return place
    file, start, stop = place
    if 8 * (stop - start) != bits:
        return f"{stop - start} bytes are not its shape {item.dims} of {dtype}"[:300]
    return TensorEntry(item.name, dtype, tuple(item.dims), file, start, stop)


def _inside(path: str, item: _Initialiser, bits: int) -> tuple[str, int, int] | str:
    if item.span is None:
        return "it has no values" if bits else (path, 0, 0)
    return path, *item.span


def _external(
    path: str, files: Mapping[str, int], item: _Initialiser, bits: int
) -> tuple[str, int, int] | str:
    """The span of external data; the location is only ever looked up among the known files."""
    location = item.external.get("location", "")
    file = posixpath.join(posixpath.dirname(path), location)
    if not location or location.startswith("/") or ".." in location.split("/"):
        return f"its location {location!r:.100} is not inside the repository"
    if posixpath.normpath(file) not in files:
        return f"its values are in {location!r:.100}, which is absent"
    file = posixpath.normpath(file)
    start, length = _decimal(item.external.get("offset", "0")), bits // 8
    if "length" in item.external and _decimal(item.external["length"]) != length:
        return f"the length of its external data is not the {length} bytes of its shape"
    if start is None or start + length > files[file]:
        return f"its external data reach beyond {location!r:.100}"
    return file, start, start + length


def _decimal(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _overlapping(entries: dict[str, TensorEntry]) -> list[tuple[str, str]]:
    """Take out entries that share bytes of an external file with an earlier one."""
    refused = []
    stops: dict[str, int] = {}
    for entry in sorted(entries.values(), key=lambda entry: (entry.path, entry.start, -entry.stop)):
        if entry.start < stops.get(entry.path, 0) and entry.start < entry.stop:
            refused.append((entry.name, "it shares bytes with another"))
            del entries[entry.name]
        else:
            stops[entry.path] = max(stops.get(entry.path, 0), entry.stop)
    return refused

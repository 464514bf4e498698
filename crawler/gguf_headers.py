"""The head of a GGUF file: metadata and tensor table, from bytes of a stranger. Pure and bounded.

Layout (versions 2 and 3, little-endian): magic ``GGUF``, version u32, tensor count u64, metadata
count u64, the metadata, the tensor table, padding up to the alignment, the data.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from crawler.errors import CrawlError, MalformedError
from crawler.records import TensorEntry

__all__ = [
    "GGML_BLOCKS",
    "GgufHeader",
    "GgufValue",
    "NeedMoreBytesError",
    "check_overlap",
    "parse_gguf_header",
    "parse_gguf_metadata_prefix",
]

GgufValue = str | int | float | bool | tuple["GgufValue", ...]

_MAX_TENSORS = 32_768  # experts are stacked: the largest models have some thousands
_MAX_METADATA = 65_536
_MAX_VALUES = 250_000  # that are kept, in all arrays together
_MAX_SKIPPED_TEXTS = 4_000_000  # the largest vocabularies have some hundred thousand
_MAX_STRING_BYTES = 16 << 20
_MAX_ARRAY_DEPTH = 3
_MAX_DIMENSIONS = 8
_MAX_ALIGNMENT = 1 << 20
_KEPT_ARRAY_ITEMS = 1024
_DEFAULT_ALIGNMENT = 32
_STRING, _ARRAY = 8, 9

_SCALARS: dict[int, struct.Struct] = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_U32, _U64 = _SCALARS[4], _SCALARS[10]

_TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}

GGML_BLOCKS: Mapping[str, tuple[int, int]] = {
    name: (values, size_bytes) for name, values, size_bytes in _TYPES.values()
}
"""Values and bytes of one block of each GGML type."""


class NeedMoreBytesError(CrawlError):
    """The prefix is too short: at least `needed_bytes` from the start of the file are wanted."""

    code = "truncated"

    def __init__(self, path: str, needed_bytes: int) -> None:
        super().__init__(f"{path}: the header needs at least {needed_bytes} bytes")
        self.needed_bytes = needed_bytes


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """Metadata and tensors of one GGUF file.

    Arrays of more than 1024 items (vocabularies) are stepped over and absent from `metadata`.
    Tensor shapes have the output dimension first; a type that is not known is named ``GGML_<n>``.
    """

    metadata: Mapping[str, GgufValue]
    tensors: tuple[TensorEntry, ...]


class _Cursor:
    """Reads the prefix of a file, never past its end; offsets are those of the file."""

    def __init__(self, data: bytes, path: str, file_bytes: int) -> None:
        self.data = data
        self.path = path
        self.file_bytes = file_bytes
        self.at = 0
        self.n_values = 0
        self.n_skipped_texts = 0

    def require(self, size_bytes: int) -> None:
        """Make sure that the next `size_bytes` are there."""
        stop = self.at + size_bytes
        if stop > self.file_bytes:
            raise MalformedError(
                f"{self.path}: the header reaches to byte {stop}, the file has {self.file_bytes}"
            )
        if stop > len(self.data):
            raise NeedMoreBytesError(self.path, stop)

    def scalar(self, form: struct.Struct) -> int | float | bool:
        """Read one number."""
        self.require(form.size)
        (value,) = form.unpack_from(self.data, self.at)
        self.at += form.size
        return value  # type: ignore[no-any-return]

    def count(self, form: struct.Struct, limit: int, what: str) -> int:
        """Read a count and hold it against its limit."""
        value = int(self.scalar(form))
        if value > limit:
            raise MalformedError(f"{self.path}: {what} of {value} exceeds {limit}")
        return value

    def skip(self, size_bytes: int) -> None:
        """Step over bytes that nobody needs."""
        self.require(size_bytes)
        self.at += size_bytes

    def text(self) -> str:
        """Read a string; bytes that are not UTF-8 are replaced."""
        size_bytes = self.count(_U64, _MAX_STRING_BYTES, "a string length")
        self.require(size_bytes)
        value = self.data[self.at : self.at + size_bytes].decode("utf-8", "replace")
        self.at += size_bytes
        return value

    def skip_texts(self, items: int) -> None:
        """Step over many strings; a vocabulary has hundreds of thousands."""
        self.n_skipped_texts += items
        if self.n_skipped_texts > _MAX_SKIPPED_TEXTS:
            raise MalformedError(f"{self.path}: arrays of {self.n_skipped_texts} strings")
        data, at, limit = self.data, self.at, len(self.data) - 8
        for _ in range(items):
            if at > limit:
                break
            size_bytes = _U64.unpack_from(data, at)[0]
            if size_bytes > _MAX_STRING_BYTES:
                raise MalformedError(f"{self.path}: a string length of {size_bytes} is too long")
            at += 8 + size_bytes
        else:
            self.skip(at - self.at)
            return
        self.at = at
        self.require(8)
        raise NeedMoreBytesError(self.path, at + 8)


def _read_array(cursor: _Cursor, depth: int) -> tuple[GgufValue, ...] | None:
    """Read an array; None when it is longer than what is kept."""
    if depth > _MAX_ARRAY_DEPTH:
        raise MalformedError(f"{cursor.path}: arrays are nested more than {_MAX_ARRAY_DEPTH} deep")
    kind = int(cursor.scalar(_U32))
    items = int(cursor.scalar(_U64))
    form = _SCALARS.get(kind)
    if form is None and kind not in (_STRING, _ARRAY):
        raise MalformedError(f"{cursor.path}: unknown metadata type {kind}")
    # The shortest string takes its length alone, the shortest array a type and a length.
    least_bytes = form.size if form else 8 if kind == _STRING else 12
    if cursor.at + items * least_bytes > cursor.file_bytes:
        raise MalformedError(f"{cursor.path}: an array of {items} items does not fit in the file")
    if items > _KEPT_ARRAY_ITEMS:
        if form is not None:
            cursor.skip(items * form.size)
        elif kind == _STRING:
            cursor.skip_texts(items)
        else:
            raise MalformedError(f"{cursor.path}: {items} nested arrays")
        return None
    cursor.n_values += items
    if cursor.n_values > _MAX_VALUES:
        raise MalformedError(f"{cursor.path}: nested arrays of {cursor.n_values} values")
    values = [_read_value(cursor, kind, depth + 1) for _ in range(items)]
    return tuple(value for value in values if value is not None)


def _read_value(cursor: _Cursor, kind: int, depth: int = 0) -> GgufValue | None:
    if kind == _STRING:
        return cursor.text()
    if kind == _ARRAY:
        return _read_array(cursor, depth)
    form = _SCALARS.get(kind)
    if form is None:
        raise MalformedError(f"{cursor.path}: unknown metadata type {kind}")
    return cursor.scalar(form)


def _read_tensor(cursor: _Cursor) -> tuple[str, int, tuple[int, ...], int]:
    """Name, type number, shape (output dimension first) and offset of one table entry."""
    name = cursor.text()
    dimensions = cursor.count(_U32, _MAX_DIMENSIONS, f"the number of dimensions of {name!r:.100}")
    shape = tuple(int(cursor.scalar(_U64)) for _ in range(dimensions))[::-1]
    return name, int(cursor.scalar(_U32)), shape, int(cursor.scalar(_U64))


def _size_bytes(path: str, name: str, kind: int, shape: tuple[int, ...]) -> int | None:
    """Bytes that a tensor takes; None when its type is not known."""
    if kind not in _TYPES:
        return None
    _, block, block_bytes = _TYPES[kind]
    row = shape[-1] if shape else 1
    if row % block:
        raise MalformedError(f"{path}: rows of {name!r:.100} ({row} values) do not fill blocks")
    return math.prod(shape) // block * block_bytes


def _place(
    cursor: _Cursor, table: list[tuple[str, int, tuple[int, ...], int]], alignment: int
) -> tuple[TensorEntry, ...]:
    """Turn table entries into byte spans of the file and check them."""
    path, file_bytes = cursor.path, cursor.file_bytes
    data_start = -(-cursor.at // alignment) * alignment
    offsets = sorted({offset for *_, offset in table})
    ends = [*offsets[1:], max(file_bytes - data_start, 0)]
    following = dict(zip(offsets, ends, strict=False))  # a vocabulary alone has no offsets
    seen: set[str] = set()
    entries = []
    for name, kind, shape, offset in table:
        if name in seen:
            raise MalformedError(f"{path}: tensor {name!r:.100} stands twice")
        seen.add(name)
        size = _size_bytes(path, name, kind, shape)
        if size is None:
            size = max(following[offset] - offset, 0)
        if offset % alignment:
            raise MalformedError(f"{path}: {name!r:.100} does not begin at the alignment")
        start = data_start + offset
        if start + size > file_bytes:
            raise MalformedError(
                f"{path}: {name!r:.100} ends at byte {start + size}, the file has {file_bytes}"
            )
        dtype = _TYPES[kind][0] if kind in _TYPES else f"GGML_{kind}"
        entries.append(TensorEntry(name, dtype, shape, path, start, start + size))
    check_overlap(entries, path)
    return tuple(entries)


def check_overlap(entries: list[TensorEntry], path: str) -> None:
    """Raise MalformedError when two tensors share bytes."""
    previous: TensorEntry | None = None
    for entry in sorted(entries, key=lambda entry: (entry.start, entry.stop)):
        if entry.start == entry.stop:
            continue
        if previous is not None and entry.start < previous.stop:
            raise MalformedError(f"{path}: {previous.name!r:.100} and {entry.name!r:.100} overlap")
        previous = entry


def _read_preamble(cursor: _Cursor) -> tuple[int, int]:
    """Check magic and version; returns the counts of tensors and of metadata."""
    cursor.require(4)
    if cursor.data[:4] != b"GGUF":
        raise MalformedError(f"{cursor.path}: not a GGUF file (magic {cursor.data[:4]!r})")
    cursor.at = 4
    version = int(cursor.scalar(_U32))
    if version not in (2, 3):
        raise MalformedError(f"{cursor.path}: GGUF version {version} is not read (2 and 3 are)")
    tensors = cursor.count(_U64, _MAX_TENSORS, "a tensor count")
    return tensors, cursor.count(_U64, _MAX_METADATA, "a metadata count")


def _read_metadata(cursor: _Cursor, items: int, into: dict[str, GgufValue]) -> None:
    for _ in range(items):
        key = cursor.text()
        value = _read_value(cursor, int(cursor.scalar(_U32)))
        if key in into:
            raise MalformedError(f"{cursor.path}: metadata key {key!r:.100} stands twice")
        if value is not None:
            into[key] = value


def parse_gguf_metadata_prefix(data: bytes, path: str, file_bytes: int) -> Mapping[str, GgufValue]:
    """The metadata that stand complete in the first bytes of a GGUF file.

    ``general.*`` comes first in files as they are written, before the vocabulary.

    Raises
    ------
    MalformedError
        As :func:`parse_gguf_header`.
    """
    cursor = _Cursor(data, path, file_bytes)
    metadata: dict[str, GgufValue] = {}
    try:
        _, items = _read_preamble(cursor)
        _read_metadata(cursor, items, metadata)
    except NeedMoreBytesError:
        return metadata
    return metadata


def parse_gguf_header(data: bytes, path: str, file_bytes: int) -> GgufHeader:
    """Parse the head of a GGUF file.

    Parameters
    ----------
    data
        The file's first bytes, as many as are at hand.
    path
        The file's path, for messages and entries.
    file_bytes
        Size of the whole file.

    Raises
    ------
    NeedMoreBytesError
        If `data` ends before the header does.
    MalformedError
        If the bytes are no GGUF header of version 2 or 3, contradict themselves or the file's
        size, or exceed the bounds.
    """
    cursor = _Cursor(data, path, file_bytes)
    tensors, n_metadata = _read_preamble(cursor)
    metadata: dict[str, GgufValue] = {}
    _read_metadata(cursor, n_metadata, metadata)
    alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    if type(alignment) is not int or not 0 < alignment <= _MAX_ALIGNMENT:
        raise MalformedError(f"{path}: alignment {alignment!r} is out of bounds")
    table = [_read_tensor(cursor) for _ in range(tensors)]
    return GgufHeader(metadata, _place(cursor, table, alignment))

"""The central directory of a zip archive of stored (uncompressed) records. Pure and bounded.

An archive is read from its end: the last record says where the directory is, the directory where
every other record begins [1]_. Where a record's *data* begin is told by its local header alone.

References
----------
.. [1] PKWARE, APPNOTE.TXT, ZIP File Format Specification, 4.3.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from crawler.errors import MalformedError
from crawler.wishes import FilePieces, Wishes

__all__ = ["LOCAL_HEADER_BYTES", "ZipRecord", "local_data_start", "read_directory"]

LOCAL_HEADER_BYTES = 30
_TAIL_BYTES = (1 << 16) + 22  # the last record with the longest comment
_MAX_DIRECTORY_BYTES = 16 << 20
_MAX_RECORDS = 100_000

_END = struct.Struct("<4s4H2IH")
_LOCATOR = struct.Struct("<4sIQI")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_FULL_16, _FULL_32 = 0xFFFF, 0xFFFFFFFF
_ENCRYPTED, _DESCRIPTOR = 1 << 0, 1 << 3


@dataclass(frozen=True, slots=True)
class ZipRecord:
    """One record as the directory describes it.

    Attributes
    ----------
    start, stop
        From the record's local header to the next record or the directory.
    size_bytes
        Of its data.
    is_stored
        Whether the data stand as they are: not compressed, not encrypted.
    has_descriptor
        Whether a descriptor follows the data.
    """

    name: str
    start: int
    stop: int
    size_bytes: int
    is_stored: bool
    has_descriptor: bool
    name_bytes: int


def read_directory(file: FilePieces) -> Wishes[dict[str, ZipRecord] | None]:
    """The records of an archive by name; None when the file is no zip archive.

    Raises
    ------
    MalformedError
        If the directory contradicts itself or the file, names a record twice, or exceeds 16 MiB.
    """
    tail_start = max(file.size_bytes - _TAIL_BYTES, 0)
    tail = yield from file.read(tail_start, file.size_bytes)
    at = tail.rfind(b"PK\5\6")
    if at < 0 or at + _END.size > len(tail):
        return None
    _, disk, first_disk, _, n_records, size, start, comment = _END.unpack_from(tail, at)
    if at + _END.size + comment != len(tail) or (disk, first_disk) not in ((0, 0), (_FULL_16,) * 2):
        raise MalformedError(f"{file.path}: the end of the archive is not usable")
    end = tail_start + at
    if _FULL_16 in (disk, n_records) or _FULL_32 in (size, start):
        n_records, size, start = yield from _end_64(file, end)
    if start + size > end or size > _MAX_DIRECTORY_BYTES or n_records > _MAX_RECORDS:
        raise MalformedError(
            f"{file.path}: a directory of {n_records} records in {size} bytes at {start} is out of "
            "bounds"
        )
    data = yield from file.read(start, start + size)
    return _records(file, data, n_records, start)


def local_data_start(file: FilePieces, record: ZipRecord) -> Wishes[int]:
    """Where the data of a record begin, as its local header says.

    Raises
    ------
    MalformedError
        If there is no local header, or the data do not end before the next record.
    """
    header = yield from file.read(record.start, record.start + LOCAL_HEADER_BYTES)
    if header[:4] != b"PK\3\4":
        raise MalformedError(f"{file.path}: {record.name!r:.100} has no local header")
    *_, n_name, n_extra = _LOCAL.unpack(header)
    start = record.start + LOCAL_HEADER_BYTES + int(n_name) + int(n_extra)
    if start + record.size_bytes > record.stop:
        raise MalformedError(f"{file.path}: {record.name!r:.100} reaches into the next record")
    return start


def _end_64(file: FilePieces, end: int) -> Wishes[tuple[int, int, int]]:
    """Records, size and start of a directory whose numbers do not fit 32 bits."""
    data = yield from file.read(end - _LOCATOR.size, end)
    magic, _, at, _ = _LOCATOR.unpack(data)
    if magic != b"PK\6\7":
        raise MalformedError(f"{file.path}: the archive's 64-bit locator is not usable")
    data = yield from file.read(at, at + _END_64.size)
    magic, *_, n_records, size, start = _END_64.unpack(data)
    if magic != b"PK\6\6":
        raise MalformedError(f"{file.path}: the archive's 64-bit end is not usable")
    return n_records, size, start


def _records(
    file: FilePieces, data: bytes, n_records: int, directory_start: int
) -> dict[str, ZipRecord]:
    found: list[tuple[int, str, int, int, int, int]] = []
    at = 0
    for _ in range(n_records):
        if at + _ENTRY.size > len(data) or data[at : at + 4] != b"PK\1\2":
            raise MalformedError(f"{file.path}: the directory ends before its {n_records} records")
        (_, _, _, flags, method, _, _, _, packed, size, n_name, n_extra, n_comment, _, _, _,
         start) = _ENTRY.unpack_from(data, at)  # fmt: skip
        at += _ENTRY.size
        raw = data[at : at + n_name]
        extra = data[at + n_name : at + n_name + n_extra]
        at += n_name + n_extra + n_comment
        size, packed, start = _wide(extra, size, packed, start)
        if method == 0 and packed != size:
            raise MalformedError(f"{file.path}: {raw[:100]!r} is stored in another size")
        found.append((start, raw.decode("utf-8", "replace"), size, method, flags, n_name))
    found.sort(key=lambda item: item[0])
    records: dict[str, ZipRecord] = {}
    for i, (start, name, size, method, flags, n_name) in enumerate(found):
        stop = found[i + 1][0] if i + 1 < len(found) else directory_start
        if start + LOCAL_HEADER_BYTES > stop:
            raise MalformedError(f"{file.path}: {name!r:.100} has no room for its header")
        if name in records:
            raise MalformedError(f"{file.path}: the archive holds {name!r:.100} twice")
        is_stored = method == 0 and not flags & _ENCRYPTED
        has_descriptor = bool(flags & _DESCRIPTOR)
        records[name] = ZipRecord(name, start, stop, size, is_stored, has_descriptor, n_name)
    return records


def _wide(extra: bytes, size: int, packed: int, start: int) -> tuple[int, int, int]:
    """Size, packed size and start with what does not fit 32 bits taken from the extra field."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        at += 4
        if kind == 1:
            field = extra[at : at + length]
            numbers = [int.from_bytes(field[i : i + 8], "little") for i in range(0, len(field), 8)]
            wide = iter(numbers)
            size, packed, start = (
                next(wide, value) if value == _FULL_32 else value for value in (size, packed, start)
            )
            return size, packed, start
        at += length
    return size, packed, start

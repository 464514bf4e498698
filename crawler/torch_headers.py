"""Tensors of a PyTorch archive (``torch.save``), by byte ranges and without unpickling.

An archive is a zip of stored records: ``data.pkl`` describes tensors as views of storages,
``data/<key>`` holds the words of one storage. The pickle is walked, never run
(:mod:`crawler.torch_pickle`).

Where the data of a record begin is told by its local header, which stands before the data: one
request a storage. PyTorch fills that header up so that data begin at a multiple of 64 bytes, and
writes records one after the other, so the beginning follows from the directory. It is computed, and
held against the local headers of a few records; when one differs, or a record does not fit
the pattern, local headers are read. What is old, scripted or compressed is refused, and says what
it is.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crawler.errors import MalformedError
from crawler.records import TensorEntry
from crawler.safetensors_headers import DTYPE_BITS
from crawler.torch_pickle import walk_pickle
from crawler.torch_records import StoredTensor
from crawler.wishes import FilePieces, HeaderProblem, Wishes
from crawler.zip_directory import (
    LOCAL_HEADER_BYTES,
    ZipRecord,
    local_data_start,
    read_directory,
)

__all__ = ["PickleError", "TorchHeader", "torch_steps"]

_MAX_PICKLE_BYTES = 32 << 20
_MAX_ORDER_BYTES = 16
_MAX_WISHES = 4_096
_HEAD_BYTES = 64 << 10
_ALIGNMENT = 64
_MAX_FILL_BYTES = _ALIGNMENT + 3 + 28  # the fill's own header, and 64-bit sizes
_DESCRIPTOR_BYTES = (16, 24)
_N_CHECKED = 4
_MAX_NAMED = 3


class PickleError(MalformedError):
    """Weights that only unpickling would read."""

    code = "pickle"


@dataclass(frozen=True, slots=True)
class TorchHeader:
    """Tensors of one archive, and why others of it are not listed."""

    tensors: tuple[TensorEntry, ...]
    problems: tuple[HeaderProblem, ...]


def torch_steps(path: str, size_bytes: int) -> Wishes[TorchHeader]:
    """Read what a PyTorch archive says of its tensors.

    Raises
    ------
    PickleError
        If the file is a bare pickle, as before PyTorch 1.6.
    MalformedError
        If it is no archive of PyTorch, a TorchScript program, compressed, of the other byte order,
        or contradicts itself.
    """
    file = FilePieces(path, size_bytes, max_wishes=_MAX_WISHES, n_kept=4)
    records = yield from read_directory(file)
    if records is None:
        raise (yield from _not_an_archive(file))
    folder = _folder(records, path)
    pickle = records[f"{folder}/data.pkl"]
    if pickle.size_bytes > _MAX_PICKLE_BYTES:
        raise MalformedError(f"{path}: a pickle of {pickle.size_bytes} bytes is too large")
    data = yield from _record(file, pickle, ahead_bytes=pickle.size_bytes + _HEAD_BYTES)
    if (order := records.get(f"{folder}/byteorder")) is not None:
        stated = (yield from _record(file, order)) if order.size_bytes <= _MAX_ORDER_BYTES else b""
        if stated.strip() != b"little":
            raise MalformedError(f"{path}: words of the byte order {stated[:20]!r} are not read")
    flat = walk_pickle(data, path)
    refused = list(flat.refused)
    placed = _with_records(flat.tensors, records, folder, refused)
    used = {tensor.key: record for _, tensor, record in placed}
    starts = yield from _data_starts(file, list(used.values()))
    entries = [_entry(name, tensor, path, starts[record.name]) for name, tensor, record in placed]
    tensors, tied, overlapping = _without_ties(entries)
    refused += overlapping
    return TorchHeader(tensors, _problems(path, refused, tied, flat.n_duplicates))


def _not_an_archive(file: FilePieces) -> Wishes[MalformedError]:
    """What a file without a directory at its end is."""
    head = yield from file.read(0, min(16, file.size_bytes))
    if head[:1] == b"\x80" and head[1:2] in b"\x01\x02\x03\x04\x05":
        return PickleError(
            f"{file.path}: not read: pickle (a bare one, as before PyTorch 1.6, not an archive)"
        )
    if head[:4] == b"PK\3\4":
        return MalformedError(f"{file.path}: an archive without its end: it was cut off")
    return PickleError(f"{file.path}: not read: pickle or other data, no archive of PyTorch")


def _folder(records: Mapping[str, ZipRecord], path: str) -> str:
    """The folder that all records of an archive stand in."""
    pickles = [name for name in records if name.endswith("/data.pkl") and name.count("/") == 1]
    if any("/code/" in name or name.endswith("/constants.pkl") for name in records):
        raise MalformedError(f"{path}: a TorchScript program; its weights are not read")
    if len(pickles) != 1:
        raise MalformedError(f"{path}: a zip archive, but none that PyTorch saved")
    return pickles[0].split("/")[0]


def _record(file: FilePieces, record: ZipRecord, *, ahead_bytes: int = 0) -> Wishes[bytes]:
    """The data of a small record."""
    _require_stored(file.path, record)
    # One request brings the header, the data, and what stands shortly after them.
    yield from file.read(record.start, record.start + LOCAL_HEADER_BYTES, ahead_bytes=ahead_bytes)
    start = yield from local_data_start(file, record)
    data = yield from file.read(start, start + record.size_bytes)
    return data


def _require_stored(path: str, record: ZipRecord) -> None:
    if not record.is_stored:
        raise MalformedError(f"{path}: {record.name!r:.100} is compressed or encrypted")


def _with_records(
    tensors: Mapping[str, StoredTensor],
    records: Mapping[str, ZipRecord],
    folder: str,
    refused: list[tuple[str, str]],
) -> list[tuple[str, StoredTensor, ZipRecord]]:
    """The tensors that lie in one piece in a record of the archive."""
    placed = []
    for name, tensor in tensors.items():
        record = records.get(f"{folder}/data/{tensor.key}")
        if record is None:
            refused.append((name, "its storage is not in the archive"))
        elif not record.is_stored:
            refused.append((name, "its storage is compressed or encrypted"))
        elif reason := _unusable(tensor, record):
            refused.append((name, reason))
        else:
            placed.append((name, tensor, record))
    return placed


def _unusable(tensor: StoredTensor, record: ZipRecord) -> str | None:
    """Why the words of a tensor cannot be read in one piece."""
    word_bytes = _word_bytes(tensor.dtype)
    stated = tensor.storage_words * (1 if tensor.is_untyped else word_bytes)
    if stated != record.size_bytes:
        return f"its storage has {record.size_bytes} bytes, not the {stated} that are stated"
    if (tensor.offset + math.prod(tensor.shape)) * word_bytes > record.size_bytes:
        return "it reaches beyond its storage"
    if not tensor.is_contiguous:
        return "it is not stored row by row (a transposed or cut view of its storage)"
    if tensor.dtype == "F4" and not tensor.shape:
        return "it is a single byte of two values"
    return None


def _word_bytes(dtype: str) -> int:
    """Bytes of one of PyTorch's words, of which one of F4 is a byte of two values."""
    return max(DTYPE_BITS[dtype] // 8, 1)


def _entry(name: str, tensor: StoredTensor, path: str, data_start: int) -> TensorEntry:
    word_bytes = _word_bytes(tensor.dtype)
    start = data_start + tensor.offset * word_bytes
    stop = start + math.prod(tensor.shape) * word_bytes
    shape = tensor.shape
    if tensor.dtype == "F4":
        shape = (*shape[:-1], 2 * shape[-1])
    return TensorEntry(name, tensor.dtype, shape, path, start, stop)


def _data_starts(file: FilePieces, records: Sequence[ZipRecord]) -> Wishes[dict[str, int]]:
    """Where the data of every record begin."""
    computed = {record.name: _computed_start(record) for record in records}
    regular = [record for record in records if computed[record.name] is not None]
    # A few anywhere in the archive: who moves only some records misleads about few tensors.
    regular.sort(key=lambda record: hashlib.sha256(repr((file.path, record)).encode()).digest())
    is_regular = True
    for record in regular[:_N_CHECKED]:
        start = yield from local_data_start(file, record)
        is_regular = is_regular and start == computed[record.name]
    starts: dict[str, int] = {}
    for record in records:
        start_ = computed[record.name] if is_regular else None
        if start_ is None:
            start_ = yield from local_data_start(file, record)
        starts[record.name] = start_
    return starts


def _computed_start(record: ZipRecord) -> int | None:
    """Where the data of a record begin if PyTorch wrote it; None if it did not."""
    before = record.start + LOCAL_HEADER_BYTES + record.name_bytes
    for descriptor in _DESCRIPTOR_BYTES if record.has_descriptor else (0,):
        start = record.stop - descriptor - record.size_bytes
        fill = start - before
        if not start % _ALIGNMENT and 4 <= fill <= _MAX_FILL_BYTES:
            return start
    return None


def _without_ties(
    entries: Sequence[TensorEntry],
) -> tuple[tuple[TensorEntry, ...], list[tuple[str, str]], list[tuple[str, str]]]:
    """Entries with bytes of their own; names of bytes that are listed already; overlapping ones."""
    first_of: dict[tuple[int, int], TensorEntry] = {}
    tied = []
    for entry in entries:
        known = first_of.setdefault((entry.start, entry.stop), entry)
        if known is not entry and entry.start < entry.stop:
            tied.append((entry.name, known.name))
    kept, overlapping = [], []
    is_tied = {name for name, _ in tied}
    stop = 0
    for entry in sorted(entries, key=lambda entry: (entry.start, -entry.stop)):
        if entry.name in is_tied:
            continue
        if entry.start < stop and entry.start < entry.stop:
            overlapping.append((entry.name, "it shares bytes with another"))
            continue
        stop = max(stop, entry.stop)
        kept.append(entry.name)
    names = set(kept)
    return tuple(entry for entry in entries if entry.name in names), tied, overlapping


def _problems(
    path: str,
    refused: Sequence[tuple[str, str]],
    tied: Sequence[tuple[str, str]],
    n_duplicates: int,
) -> tuple[HeaderProblem, ...]:
    """One problem for every reason, however many tensors it is true of."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in refused:
        by_reason.setdefault(reason, []).append(name)
    problems = [
        HeaderProblem(path, MalformedError.code, f"{path}: {_named(names)}: {reason}")
        for reason, names in by_reason.items()
    ]
    problems += [
        HeaderProblem(path, "tied", f"{path}: {name!r:.100} has the bytes of {other!r:.100}")
        for name, other in tied[:_MAX_NAMED]
    ]
    if len(tied) > _MAX_NAMED:
        n_more = len(tied) - _MAX_NAMED
        problems.append(HeaderProblem(path, "tied", f"{path}: {n_more} more names of such bytes"))
    if n_duplicates:
        problems.append(
            HeaderProblem(
                path,
                MalformedError.code,
                f"{path}: {n_duplicates} tensors of other copies in the checkpoint have the same "
                "names",
            )
        )
    return tuple(problems)


def _named(names: Sequence[str]) -> str:
    first = ", ".join(f"{name!r:.100}" for name in names[:_MAX_NAMED])
    return first if len(names) <= _MAX_NAMED else f"{first} and {len(names) - _MAX_NAMED} more"

"""Headers of a repository's weight files: bytes of strangers in, tensor entries out. Bounded.

Nothing here reads: :func:`header_steps` wishes for bytes and is sent them. Nothing allocates by a
number that a file states before that number was held against the file's size and a fixed bound.
Pickles are never run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from crawler.errors import CrawlError, MalformedError
from crawler.gguf_headers import (
    GGML_BLOCKS,
    GgufHeader,
    GgufValue,
    NeedMoreBytesError,
    parse_gguf_header,
)
from crawler.onnx_headers import onnx_steps
from crawler.records import FileEntry, TensorEntry
from crawler.safetensors_headers import (
    DTYPE_BITS,
    MAX_HEADER_BYTES,
    MAX_INDEX_BYTES,
    SafetensorsHeader,
    parse_safetensors,
    parse_safetensors_header,
    parse_shard_index,
)
from crawler.torch_headers import torch_steps
from crawler.weight_files import (
    WeightFiles,
    absent_shards,
    choose_weight_files,
    pickled_files,
    weight_files,
)
from crawler.wishes import HeaderProblem, Wish, Wishes, bytes_of

__all__ = [
    "DTYPE_BITS",
    "GGML_BLOCKS",
    "GgufHeader",
    "GgufValue",
    "HeaderProblem",
    "HeaderReport",
    "NeedMoreBytesError",
    "SafetensorsHeader",
    "Wish",
    "header_steps",
    "parse_gguf_header",
    "parse_safetensors",
    "parse_safetensors_header",
    "read_headers",
    "weight_files",
]

_FIRST_READ_BYTES = 64 << 10
_MAX_FILES = 1_024  # the largest models have some hundred shards
_MAX_TENSORS = 1_000_000
_MAX_NAMED = 3


@dataclass(frozen=True, slots=True)
class HeaderReport:
    """What the headers of one repository's weights say.

    `format` is ``safetensors``, ``gguf``, ``torch``, ``onnx``, ``pickle`` (present, not read) or
    ``none``.
    """

    format: str
    tensors: tuple[TensorEntry, ...]
    metadata: Mapping[str, GgufValue]
    problems: tuple[HeaderProblem, ...]


@dataclass(slots=True)
class _Found:
    """What was found so far in the files of a repository."""

    tensors: dict[str, TensorEntry] = field(default_factory=dict)
    metadata: dict[str, GgufValue] = field(default_factory=dict)
    problems: list[HeaderProblem] = field(default_factory=list)

    def add(
        self, file: FileEntry, entries: Sequence[TensorEntry], shard_of: Mapping[str, str]
    ) -> None:
        """Add one file's tensors; of two of one name the index's counts, else the first."""
        twice = [entry.name for entry in entries if entry.name in self.tensors]
        other = self.tensors[twice[0]].path if twice else ""
        for entry in entries:
            if entry.name not in self.tensors or shard_of.get(entry.name) == file.path:
                self.tensors[entry.name] = entry
        if twice:
            self.blame(file.path, f"{_some(twice)} stands in {other} too")

    def blame(self, path: str, reason: str) -> None:
        """Enter what is wrong with a file."""
        self.problems.append(HeaderProblem(path, MalformedError.code, f"{path}: {reason}"))


def read_headers(
    read: Callable[[str, int, int], bytes], files: Sequence[FileEntry]
) -> HeaderReport:
    """Read the headers of a repository's weights: :func:`header_steps`, one wish after the other.

    Parameters
    ----------
    read
        ``read(path, start, stop)`` returns those bytes of a file; its errors are recorded.
    files
        All files of the repository.
    """
    steps = header_steps(files)
    try:
        wish = next(steps)
        while True:
            try:
                data = read(*wish)
            except CrawlError as error:
                wish = steps.throw(error)
            else:
                wish = steps.send(data)
    except StopIteration as done:
        report: HeaderReport = done.value
        return report


def header_steps(files: Sequence[FileEntry]) -> Wishes[HeaderReport]:
    """Wish for the bytes of the headers of a repository's weights, and say what they tell.

    Parameters
    ----------
    files
        All files of the repository.

    Yields
    ------
    Wish
        Path, first byte and byte after the last; the bytes are to be sent, or a `CrawlError` to be
        thrown in.

    Returns
    -------
    HeaderReport
        A file that cannot be used becomes a problem; the others are still read. A tensor that
        stands in two shards is taken from the one that the index names, else from the first. Files
        that only unpickling would read are reported as "not read: pickle".
    """
    found = _Found()
    chosen = choose_weight_files(files)
    if chosen.format == "none":
        pickles = pickled_files(files)
        problems = tuple(
            HeaderProblem(file.path, "pickle", f"{file.path}: not read: pickle") for file in pickles
        )
        return HeaderReport("pickle" if pickles else "none", (), {}, problems)
    shard_of = yield from _index(chosen, found)
    sizes = {file.path: file.size_bytes for file in files}
    read: dict[str, set[str]] = {}
    for file in _corrected(chosen, files, shard_of, found):
        if len(found.tensors) > _MAX_TENSORS:
            found.blame(file.path, f"not read: {len(found.tensors)} tensors were found before")
            break
        try:
            entries = yield from _tensors_of(chosen.format, file, sizes, found)
        except CrawlError as error:
            found.problems.append(HeaderProblem(file.path, error.code, str(error)))
            continue
        read[file.path] = {entry.name for entry in entries}
        found.add(file, entries, shard_of)
    _compare(chosen, shard_of, read, found)
    kind = chosen.format
    if not found.tensors and {problem.code for problem in found.problems} == {"pickle"}:
        kind = "pickle"
    return HeaderReport(kind, tuple(found.tensors.values()), found.metadata, tuple(found.problems))


def _tensors_of(
    kind: str, file: FileEntry, sizes: Mapping[str, int], found: _Found
) -> Wishes[tuple[TensorEntry, ...]]:
    """The tensors of one file; metadata and problems are added to `found`."""
    if kind == "safetensors":
        safetensors = yield from _safetensors_steps(file)
        found.metadata = {**safetensors.metadata, **found.metadata}
        return safetensors.tensors
    if kind == "gguf":
        gguf = yield from _gguf_steps(file)
        found.metadata = {**gguf.metadata, **found.metadata}
        return gguf.tensors
    if kind == "torch":
        header = yield from torch_steps(file.path, file.size_bytes)
        found.problems += header.problems
        return header.tensors
    onnx = yield from onnx_steps(file.path, sizes)
    found.problems += onnx.problems
    return onnx.tensors


def _safetensors_steps(file: FileEntry) -> Wishes[SafetensorsHeader]:
    data = yield from bytes_of(file.path, 0, min(_FIRST_READ_BYTES, file.size_bytes))
    try:
        return parse_safetensors(data, file.path, file.size_bytes)
    except NeedMoreBytesError as error:
        data += yield from bytes_of(file.path, len(data), error.needed_bytes)
        return parse_safetensors(data, file.path, file.size_bytes)


def _gguf_steps(file: FileEntry) -> Wishes[GgufHeader]:
    data = yield from bytes_of(file.path, 0, min(_FIRST_READ_BYTES, file.size_bytes))
    while True:
        try:
            return parse_gguf_header(data, file.path, file.size_bytes)
        except NeedMoreBytesError as error:
            if error.needed_bytes > MAX_HEADER_BYTES:
                raise MalformedError(
                    f"{file.path}: header exceeds {MAX_HEADER_BYTES} bytes"
                ) from error
            # Doubling keeps both the number of requests and the parsing anew logarithmic.
            wanted = max(error.needed_bytes, 2 * len(data))
        data += yield from bytes_of(file.path, len(data), min(wanted, file.size_bytes))


def _index(chosen: WeightFiles, found: _Found) -> Wishes[dict[str, str]]:
    """The path that the index of a sharded model states for every tensor; empty without one."""
    index = chosen.index
    if index is None:
        return {}
    try:
        if index.size_bytes > MAX_INDEX_BYTES:
            raise MalformedError(
                f"{index.path}: {index.size_bytes} bytes are too many for an index"
            )
        data = yield from bytes_of(index.path, 0, index.size_bytes)
        shard_of = parse_shard_index(data, index.path)
    except CrawlError as error:
        found.problems.append(HeaderProblem(index.path, error.code, str(error)))
        return {}
    folder = index.path.rpartition("/")[0]
    return {name: f"{folder}/{path}" if folder else path for name, path in shard_of.items()}


def _corrected(
    chosen: WeightFiles, files: Sequence[FileEntry], shard_of: Mapping[str, str], found: _Found
) -> Sequence[FileEntry]:
    """The files to read: those that the index names, where it is usable."""
    by_path = {file.path: file for file in files}
    named = set(shard_of.values())
    absent = sorted(named - by_path.keys())
    for path in absent[:_MAX_FILES]:
        reason = f"{chosen.index.path if chosen.index else ''} names {path!r:.100}, which is absent"
        found.problems.append(HeaderProblem(path[:1000], "not_found", reason))
    present = tuple(by_path[path] for path in sorted(named & by_path.keys())) or chosen.files
    if len(present) > _MAX_FILES:
        found.blame(present[_MAX_FILES].path, f"not read: more than {_MAX_FILES} weight files")
    return present[:_MAX_FILES]


def _compare(
    chosen: WeightFiles, shard_of: Mapping[str, str], read: Mapping[str, set[str]], found: _Found
) -> None:
    """Enter where the index and the shards that could be read disagree."""
    if chosen.index is None or not shard_of:
        for path in absent_shards([file.path for file in chosen.files])[:_MAX_FILES]:
            found.problems.append(HeaderProblem(path, "not_found", f"{path} is absent"))
        return
    unlisted = [name for name in found.tensors if name not in shard_of]
    missing: list[str] = []
    elsewhere: list[str] = []
    for name, path in shard_of.items():
        if path in read and name not in read[path]:
            (elsewhere if name in found.tensors else missing).append(name)
    for names, what in (
        (missing, "is not in its shard"),
        (elsewhere, "stands in another shard than the index says"),
        (unlisted, "is not in the index"),
    ):
        if names:
            found.blame(chosen.index.path, f"{_some(names)} {what}")


def _some(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    first = ", ".join(f"{name!r:.100}" for name in names[:_MAX_NAMED])
    return first if len(names) <= _MAX_NAMED else f"{first} and {len(names) - _MAX_NAMED} more"

"""The fingerprint store: parts, each a pair of Parquet files with the models of one batch.

``<scheme>/part-<id>.words.parquet`` holds the words and ``part-<id>.models.parquet`` what is small.
The id is a digest of the content: a batch that is written again, after a kill or by another worker,
has the same name. The file of models is written last; where it is missing there is no part. Which
part a model is in is the ledger's to say (:mod:`lineage.store.fingerprint_ledger`), so that a copy
in another part is never counted twice.

Every model has row groups of its own, so that loading one reads its bytes alone.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from crawler.errors import MalformedError
from lineage.errors import SchemaError, UsageError
from lineage.store.fingerprint_ledger import LedgerRow
from lineage.store.part_columns import (
    MODEL_SCHEMA,
    SKETCH_COLUMNS,
    TENSOR_SCHEMA,
    WORD_COLUMNS,
    fingerprint_of,
    model_row,
    provenance_of,
    sketch_of,
    tensor_tables,
)
from lineage.store.part_location import PartLocation, as_location
from lineage.store.stored_model import Provenance, StoredModel
from lineage.weights.fingerprint import Fingerprint

if TYPE_CHECKING:
    from lineage.weights.sketch import ModelSketch

__all__ = [
    "MODELS",
    "WORDS",
    "Part",
    "PartReader",
    "Provenance",
    "StoredModel",
    "part_of",
    "read_fingerprints",
    "read_sketches",
    "require_scheme",
    "write_part",
]

MODELS, WORDS = ".models.parquet", ".words.parquet"
_FORMAT = 1
"""Version of the files; a newer one is refused."""
_META = b"herdbook.part"
_SCHEME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_PART = re.compile(r"part-[0-9a-f]{32}")
_MODELS_IN_GROUP = 16
_ZSTD_LEVEL = 3
_OPEN_PARTS = 16

Where = PartLocation | str | Path


@dataclass(frozen=True, slots=True)
class Part:
    """What became of a batch.

    Attributes
    ----------
    name
        Name of the part; None if no model could be stored.
    n_bytes
        Size of both files.
    rows
        A line for the ledger a stored model, in order of repository and revision.
    refused
        (repository, revision, reason) of models that the store cannot hold.
    """

    name: str | None
    n_bytes: int
    rows: tuple[LedgerRow, ...]
    refused: tuple[tuple[str, str, str], ...] = ()

    @property
    def n_models(self) -> int:
        """Number of models stored."""
        return len(self.rows)


def require_scheme(scheme: str) -> str:
    """`scheme`, which names a folder.

    Raises
    ------
    UsageError
        If it cannot.
    """
    if not _SCHEME.fullmatch(scheme):
        raise UsageError(f"{scheme!r:.80} is no name of a scheme")
    return scheme


def part_of(file_name: str) -> str | None:
    """The part that a file belongs to; None: it is no file of a part."""
    name = file_name.removesuffix(MODELS).removesuffix(WORDS)
    return name if name != file_name and _PART.fullmatch(name) else None


# -- writing ------------------------------------------------------------------------------------


def write_part(where: Where, models: Sequence[StoredModel]) -> Part:
    """Store the models of a batch, all under one scheme, in order of repository and revision.

    Parameters
    ----------
    where
        A local path, an address (``s3://…``) or an opened location.

    Raises
    ------
    HomeError
        If the files cannot be written; then no part of this name counts.
    UsageError
        If the models are of several schemes, or one is there twice.
    """
    location = as_location(where)
    rows: list[dict[str, Any]] = []
    kept: list[StoredModel] = []
    refused: list[tuple[str, str, str]] = []
    for model in sorted(models, key=_identity):
        try:
            rows.append(model_row(model))
            kept.append(model)
        except MalformedError as error:
            refused.append((model.fingerprint.repo_id, model.fingerprint.revision, str(error)))
    schemes = {row["scheme"] for row in rows}
    if len(schemes) > 1:
        raise UsageError(f"a part holds one scheme, not {', '.join(sorted(schemes))}")
    if len({_identity(model) for model in kept}) < len(kept):
        raise UsageError("a part holds a model at one commit once")
    if not rows:
        return Part(None, 0, (), tuple(refused))
    scheme = require_scheme(schemes.pop())
    name = _name([(row["digest"], _sketch_digest(m)) for m, row in zip(kept, rows, strict=True)])
    groups: list[list[int]] = []
    n_bytes = location.write(
        scheme, name + WORDS, lambda stream: groups.extend(_write_words(stream, scheme, name, kept))
    )
    first = 0
    for row, sizes in zip(rows, groups, strict=True):
        row |= {"part": name, "first_group": first, "n_groups": len(sizes)}
        first += len(sizes)
    n_bytes += location.write(
        scheme, name + MODELS, lambda stream: _write_models(stream, scheme, rows)
    )
    lines = tuple(_line(row, sum(sizes)) for row, sizes in zip(rows, groups, strict=True))
    return Part(name, n_bytes, lines, tuple(refused))


def _identity(model: StoredModel) -> tuple[str, str]:
    return model.fingerprint.repo_id, model.fingerprint.revision


def _name(digests: Sequence[tuple[str, str]]) -> str:
    return "part-" + hashlib.sha256(json.dumps(digests).encode()).hexdigest()[:32]


def _sketch_digest(model: StoredModel) -> str:
    """Digest of a sketch: what is computed on another device may differ in its last bits."""
    if model.sketch is None:
        return ""
    digest = hashlib.sha256(model.sketch.simhash)
    for key, sketch in sorted(model.sketch.tensors.items()):
        digest.update(f"{key} {sketch.mean!r} {sketch.std!r} ".encode("utf-8", "surrogatepass"))
        digest.update(sketch.digest + sketch.projection.tobytes())
    return digest.hexdigest()


def _metadata(scheme: str) -> dict[bytes, bytes]:
    return {_META: json.dumps({"format": _FORMAT, "scheme": scheme}).encode()}


def _write_words(
    stream: pa.NativeFile, scheme: str, part: str, models: Sequence[StoredModel]
) -> list[list[int]]:
    """Write all tensors; returns the compressed bytes of each model's row groups."""
    counts = []
    with _parquet_writer(
        stream,
        TENSOR_SCHEMA.with_metadata(_metadata(scheme)),
        use_dictionary=["repo_id", "revision", "part", "role", "dtype"],
        write_statistics=["repo_id", "revision", "role", "layer"],
    ) as writer:
        for model in models:
            n_groups = 0
            for table in tensor_tables(model, part):
                writer.write_table(table, row_group_size=table.num_rows)
                n_groups += 1
            counts.append(n_groups)
    groups = iter(range(sum(counts)))
    footer = writer.writer.metadata
    return [[_group_bytes(footer, next(groups)) for _ in range(n)] for n in counts]


@contextmanager
def _parquet_writer(
    stream: pa.NativeFile, schema: pa.Schema, **options: list[str]
) -> Iterator[pq.ParquetWriter]:
    writer = pq.ParquetWriter(
        stream, schema, compression="zstd", compression_level=_ZSTD_LEVEL, **options
    )
    try:
        yield writer
        writer.close()
    except BaseException:
        if writer.is_open:
            with suppress(Exception):  # its last words go to a stream that failed
                writer.close()
            writer.is_open = False  # or its deletion tries once more
        raise


def _group_bytes(footer: pq.FileMetaData, group: int) -> int:
    """Compressed bytes of a row group."""
    found = footer.row_group(group)
    return sum(found.column(i).total_compressed_size for i in range(found.num_columns))


def _write_models(stream: pa.NativeFile, scheme: str, rows: Sequence[dict[str, Any]]) -> None:
    schema = MODEL_SCHEMA.with_metadata(_metadata(scheme))
    table = pa.table([pa.array([r.get(f.name) for r in rows], f.type) for f in schema], schema)
    with _parquet_writer(stream, schema) as writer:
        writer.write_table(table, row_group_size=_MODELS_IN_GROUP)


def _line(row: dict[str, Any], bytes_stored: int) -> LedgerRow:
    made = provenance_of(row)
    return LedgerRow(
        row["repo_id"], row["revision"], row["scheme"], row["digest"], row["format"],
        made.bytes_read, made.requests, made.weight_bytes, made.n_tensors, made.seconds,
        made.made_at, row["stage"], row["part"], bytes_stored, None, made.given_up,
        made.budget_bytes, made.n_unknown, made.device,
    )  # fmt: skip


# -- reading ------------------------------------------------------------------------------------


class PartReader:
    """One open part.

    Raises
    ------
    SchemaError
        On opening or reading, if a file is missing, damaged, of a newer herdbook or no part at all.
    """

    def __init__(self, location: PartLocation, scheme: str, part: str) -> None:
        self._scheme, self._part = require_scheme(scheme), part
        self._label = f"{location.label}/{scheme}/{part}"
        self._files: list[pa.NativeFile] = []
        if not _PART.fullmatch(part):
            raise SchemaError(f"{part!r:.80} is no name of a part")
        try:
            with self._told():
                self._models = self._open(location, part + MODELS)
                self._words = self._open(location, part + WORDS)
                named = self._models.read(columns=["repo_id", "revision"])
        except BaseException:
            self.close()
            raise
        pairs = zip(*(column.to_pylist() for column in named.columns), strict=True)
        self._numbers = {pair: number for number, pair in enumerate(pairs)}

    @property
    def keys(self) -> tuple[tuple[str, str], ...]:
        """(repository, revision) of its models, in their order."""
        return tuple(self._numbers)

    def fingerprint(self, repo_id: str, revision: str, digest: str | None = None) -> Fingerprint:
        """The fingerprint of a model, word for word as it was stored.

        `digest` is the ledger's digest of its content; None: not known.
        """
        with self._told():
            model = self._model(repo_id, revision)
            if digest not in (None, model["digest"]):
                raise ValueError(f"it holds another fingerprint of {repo_id} than the ledger says")
            return fingerprint_of(model, self._tensors(model, WORD_COLUMNS))

    def sketch(self, repo_id: str, revision: str) -> ModelSketch | None:
        """The sketch of a model; None: none was made. The words are not read."""
        with self._told():
            model = self._model(repo_id, revision)
            return sketch_of(model, self._tensors(model, SKETCH_COLUMNS))

    def line(self, repo_id: str, revision: str) -> LedgerRow:
        """The line that belongs into the ledger."""
        with self._told():
            model = self._model(repo_id, revision)
            groups = self._groups(model)
            return _line(model, sum(_group_bytes(self._words.metadata, g) for g in groups))

    def close(self) -> None:
        """Close both files."""
        for file in self._files:
            file.close()
        self._files = []

    def _open(self, location: PartLocation, name: str) -> pq.ParquetFile:
        file = location.open_input(self._scheme, name)
        self._files.append(file)
        parquet = pq.ParquetFile(file)
        told = json.loads((parquet.schema_arrow.metadata or {}).get(_META, b"{}"))
        if not isinstance(told, dict) or not isinstance(told.get("format"), int):
            raise ValueError(f"{name} was not written by herdbook")
        if told["format"] > _FORMAT:
            raise SchemaError(f"{self._label} was written by a newer herdbook; upgrade herdbook")
        if told.get("scheme") != self._scheme:
            raise ValueError(f"{name} is of scheme {told.get('scheme')!r:.80}")
        expected = MODEL_SCHEMA if name.endswith(MODELS) else TENSOR_SCHEMA
        if not parquet.schema_arrow.equals(expected, check_metadata=False):
            raise ValueError(f"{name} has other columns")
        return parquet

    def _model(self, repo_id: str, revision: str) -> dict[str, Any]:
        number = self._numbers.get((repo_id, revision))
        if number is None:
            raise ValueError(f"it does not hold {repo_id} at {revision}")
        for group in range(self._models.num_row_groups):
            n_rows = self._models.metadata.row_group(group).num_rows
            if number < n_rows:
                table = self._models.read_row_group(group).slice(number, 1)
                found: dict[str, Any] = table.to_pylist()[0]
                return found
            number -= n_rows
        raise ValueError("it holds fewer models than it names")

    def _groups(self, model: dict[str, Any]) -> range:
        return range(model["first_group"], model["first_group"] + model["n_groups"])

    def _tensors(self, model: dict[str, Any], columns: list[str]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for group in self._groups(model):
            table = self._words.read_row_group(group, columns=["repo_id", *columns])
            rows += table.to_pylist()
        if any(row["repo_id"] != model["repo_id"] for row in rows):
            raise ValueError("its rows are another model's")
        return rows

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise SchemaError(
                f"the stored fingerprints {self._label} are missing; "
                "run `herdbook fingerprint` again"
            ) from error
        except (
            OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError,
            pa.ArrowException,
        ) as error:  # fmt: skip
            raise SchemaError(
                f"the stored fingerprints {self._label} cannot be read "
                f"({str(error).partition(chr(10))[0][:300]}); if this stays so, delete both files "
                "and run `herdbook fingerprint` again"
            ) from error


def read_fingerprints(where: Where, rows: Sequence[LedgerRow]) -> Iterator[Fingerprint]:
    """The fingerprints of these lines, in their order; lines without one are passed over.

    One fingerprint is held at a time, and a few parts are kept open.

    Raises
    ------
    SchemaError
        If a part is missing, damaged, of a newer herdbook, or not what the ledger says.
    """
    with _Parts(as_location(where)) as parts:
        for row in rows:
            if row.part is not None:
                yield parts.reader(row).fingerprint(row.repo_id, row.revision, row.digest)


def read_sketches(where: Where, rows: Sequence[LedgerRow]) -> Iterator[ModelSketch | None]:
    """The sketches of these lines, in their order; None where none was made.

    Lines without a fingerprint are passed over. Words are not read.

    Raises
    ------
    SchemaError
        As :func:`read_fingerprints`.
    """
    with _Parts(as_location(where)) as parts:
        for row in rows:
            if row.part is not None:
                yield parts.reader(row).sketch(row.repo_id, row.revision)


class _Parts:
    """The parts opened last."""

    def __init__(self, location: PartLocation) -> None:
        self._location = location
        self._open: OrderedDict[tuple[str, str], PartReader] = OrderedDict()

    def __enter__(self) -> _Parts:
        return self

    def __exit__(self, *_: object) -> None:
        for reader in self._open.values():
            reader.close()

    def reader(self, row: LedgerRow) -> PartReader:
        key = (row.scheme, str(row.part))
        if key not in self._open:
            self._open[key] = PartReader(self._location, *key)
            if len(self._open) > _OPEN_PARTS:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(key)
        return self._open[key]

"""Tables in files: CSV, Parquet and JSON, here or on a Hub, read through a DuckDB of their own.

The database in memory that reads a stranger's file never holds the register, loads no extension
and is closed with the file. Addresses are bound, names of columns quoted; every cell is text until
an expression here has read it.
"""

from __future__ import annotations

import csv
import glob
import gzip
import hashlib
import io
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

import duckdb

from crawler.bulk import Column
from lineage.errors import HerdbookError, NotFoundError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["TableFile", "identifier", "open_table", "source_name"]

_HUB = "hf://"
_FORMATS = {
    ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".pq": "parquet",
    ".jsonl": "ndjson", ".ndjson": "ndjson", ".json": "json",
}  # fmt: skip
_SCANS = {
    "parquet": "read_parquet($1, union_by_name = true)",
    "ndjson": "read_json($1, format = 'newline_delimited', maximum_depth = 1,"
    " sample_size = 100000, union_by_name = true)",
    "json": "read_json($1, maximum_depth = 1, sample_size = 100000, union_by_name = true)",
}
_HEAD_BYTES = 1 << 20
_MAX_COLUMNS = 2_000
_MAX_NAME_CHARACTERS = 100
_MAX_REASON = 200
_BATCH_ROWS = 20_000
_DELIMITERS = ",;\t|"
_ABSENT = "'', '-', '?', 'n/a', 'na', 'nan', 'none', 'null', '<na>', 'nat'"
_SIMPLE = re.compile(r"^(VARCHAR|BOOLEAN|U?(BIG|HUGE|SMALL|TINY)?INT(EGER)?|DOUBLE|FLOAT|DATE)$")
_CLOCKS = re.compile(r"^(DATE|TIMESTAMP\b.*)$")


class _Files(Protocol):
    """What is asked of the Hub client's file system."""

    def glob(self, path: str) -> list[str]:
        """Paths that fit a pattern."""

    def open(self, path: str, mode: str) -> IO[bytes]:
        """Open a file."""


def identifier(name: str) -> str:
    """`name` as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def source_name(address: str) -> str:
    """What ingested rows are marked with: ``ingest:`` and the file's name, never its folder."""
    name = re.split(r"[\\/]", address.rstrip("/\\"))[-1]
    plain = "".join(c if c.isprintable() else "\ufffd" for c in name)
    return f"ingest:{plain[:_MAX_NAME_CHARACTERS]}"


@dataclass(frozen=True, slots=True)
class TableFile:
    """An open table; `sha256` is None for tables that are not one local file."""

    name: str
    columns: tuple[Column, ...]
    sha256: str | None
    _connection: duckdb.DuckDBPyConnection = field(repr=False)
    _scan: str = field(repr=False)
    _address: str = field(repr=False)
    _identifiers: dict[str, str] = field(repr=False)

    def text(self, column: str) -> str:
        """SQL of `column` as text; NULL where the cell is empty or a word for nothing."""
        kind = next(one.type for one in self.columns if one.name == column)
        name = self._identifiers[column]
        if kind == "JSON":
            name = f"({name} ->> '$')"
        elif kind != "VARCHAR":
            plain = _SIMPLE.match(kind) or kind.startswith(("DECIMAL", "TIMESTAMP", "UUID", "TIME"))
            name = f"CAST({name} AS VARCHAR)" if plain else f"CAST(to_json({name}) AS VARCHAR)"
        return f"CASE WHEN lower(trim({name})) NOT IN ({_ABSENT}) THEN {name} END"

    def number(self, column: str) -> str:
        """SQL of `column` as a finite number, else NULL."""
        number = f"TRY_CAST({self.text(column)} AS DOUBLE)"
        return f"CASE WHEN isfinite({number}) THEN {number} END"

    def count(self, column: str) -> str:
        """SQL of `column` as a whole number from zero, else NULL; ``5.0`` is one, ``5.5`` not."""
        text = f"trim({self.text(column)})"
        number = f"TRY_CAST({text} AS DOUBLE)"
        return (
            f"CASE WHEN regexp_full_match({text}, '[0-9]{{1,18}}') THEN TRY_CAST({text} AS BIGINT)"
            f" WHEN {number} >= 0 AND {number} < 9e15 AND {number} = floor({number})"
            f" THEN CAST({number} AS BIGINT) END"
        )

    def moment(self, column: str) -> str:
        """SQL of `column` as a moment of the years 2000 to 2199, UTC unless it says, else NULL."""
        kind = next(one.type for one in self.columns if one.name == column)
        name = self._identifiers[column] if _CLOCKS.match(kind) else self.text(column)
        moment = f"TRY_CAST({name} AS TIMESTAMPTZ)"
        return (
            f"CASE WHEN {moment} >= TIMESTAMPTZ '2000-01-01' AND"
            f" {moment} < TIMESTAMPTZ '2200-01-01' THEN {moment} END"
        )

    def select(self, expressions: dict[str, str]) -> pa.Table:
        """The table ``n`` (row number from 1) and `expressions` by name, whole.

        Raises
        ------
        HerdbookError
            If the file cannot be read to its end.
        """
        import pyarrow as pa

        batches = list(self.batches(expressions))
        return pa.Table.from_batches(batches) if batches else self._empty(expressions)

    def batches(self, expressions: dict[str, str]) -> Iterator[pa.RecordBatch]:
        """As :meth:`select`, piece by piece."""
        with self._told():
            found = self._connection.sql(self._query(expressions), params=[self._address])
            yield from found.to_arrow_reader(_BATCH_ROWS)

    def summary(self, expressions: Sequence[str]) -> tuple[Any, ...]:
        """One row of aggregates over the whole table."""
        with self._told():
            rows = self._connection.execute(
                f"SELECT {', '.join(expressions)} FROM {self._scan}", [self._address]
            ).fetchall()
        return tuple(rows[0])

    def _empty(self, expressions: dict[str, str]) -> pa.Table:
        with self._told():
            query = f"{self._query(expressions)} LIMIT 0"
            return self._connection.sql(query, params=[self._address]).to_arrow_table()

    def _query(self, expressions: dict[str, str]) -> str:
        listed = "".join(f", {sql} AS {identifier(name)}" for name, sql in expressions.items())
        return f"SELECT row_number() OVER () AS n{listed} FROM {self._scan}"

    @contextmanager
    def _told(self) -> Iterator[None]:
        with _told(self.name):
            yield


@contextmanager
def open_table(address: str, endpoint: str | None = None) -> Iterator[TableFile]:
    """Open a table.

    Parameters
    ----------
    address
        A local path, or ``hf://[datasets/]owner/name/path``; both may be patterns (``*.parquet``)
        of files of one form. CSV may be separated by comma, semicolon, tab or bar, in UTF-8.
    endpoint
        The Hub of ``hf://`` addresses; None: ``$HF_ENDPOINT``, else the public one.

    Raises
    ------
    NotFoundError
        If nothing is there.
    UsageError
        If it is a folder, empty, of an unknown form, or has no columns with names.
    HerdbookError
        If it cannot be read as what its name says.
    """
    form, is_packed = _form(address)
    connection = duckdb.connect()
    name = source_name(address).partition(":")[2]
    try:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET autoinstall_known_extensions = false")
        connection.execute("SET autoload_known_extensions = false")
        files = _hub(connection, endpoint) if address.startswith(_HUB) else None
        with _told(name):
            path = _local(address) if files is None else _remote(files, address)
            columns, identifiers, scan = _describe(connection, path, form, is_packed, files, name)
        sha256 = None if files is not None else _sha256(Path(address))
        yield TableFile(name, columns, sha256, connection, scan, path, identifiers)
    finally:
        with suppress(duckdb.Error):
            connection.unregister_filesystem("hf")
        connection.close()


def _form(address: str) -> tuple[str, bool]:
    if "://" in address and not address.startswith(_HUB):
        raise UsageError(f"{address[:_MAX_REASON]}: only local files and hf:// addresses are read")
    suffixes = [suffix.lower() for suffix in Path(address).suffixes]
    is_packed = bool(suffixes) and suffixes[-1] == ".gz"
    last = (suffixes[:-1] if is_packed else suffixes)[-1:]
    form = _FORMATS.get(last[0]) if last else None
    if not address.startswith(_HUB) and Path(address).is_dir():
        raise UsageError(f"{address} is a folder; name a file, or files by a pattern")
    if form is None or (form == "parquet" and is_packed):
        raise UsageError(
            f"{address[:_MAX_REASON]}: the name must end in .csv, .tsv, .jsonl, .ndjson or .json"
            " (each may be followed by .gz), or in .parquet"
        )
    return form, is_packed


def _local(address: str) -> str:
    """The path as DuckDB takes it: what exists is no pattern, whatever its name."""
    path = Path(address)
    if path.is_file():
        if path.stat().st_size == 0:
            raise UsageError(f"{address} is empty")
        return re.sub(r"([*?\[])", r"[\1]", address)
    if not glob.glob(address):
        raise NotFoundError(f"there is no file {address[:_MAX_REASON]}")
    return address


def _hub(connection: duckdb.DuckDBPyConnection, endpoint: str | None) -> _Files:
    """The Hub client's file system, known to DuckDB as ``hf://``."""
    from huggingface_hub import HfFileSystem

    files = HfFileSystem(
        endpoint=endpoint or os.environ.get("HF_ENDPOINT") or None,
        skip_instance_cache=True,
        use_listings_cache=False,
    )
    connection.register_filesystem(files)
    found: _Files = files
    return found


def _remote(files: _Files, address: str) -> str:
    """The address, once the Hub has said that something is there."""
    try:
        found = files.glob(address)
    except FileNotFoundError:
        found = []
    except Exception as error:  # the client raises what its transport does, of several families
        raise HerdbookError(f"{address[:_MAX_REASON]} cannot be read: {_last(error)}") from error
    if not found:
        raise NotFoundError(f"there is no file {address[:_MAX_REASON]}")
    return address


def _last(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:_MAX_REASON]}"


def _describe(
    connection: duckdb.DuckDBPyConnection,
    path: str,
    form: str,
    is_packed: bool,
    files: _Files | None,
    name: str,
) -> tuple[tuple[Column, ...], dict[str, str], str]:
    if form == "csv":
        return _describe_csv(path, is_packed, files, name)
    scan = _SCANS[form]
    rows = connection.execute(f"DESCRIBE SELECT * FROM {scan}", [path]).fetchall()
    columns = tuple(Column(str(row[0]), str(row[1])) for row in rows)
    if form != "parquet" and [column.name for column in columns] == ["json"]:
        raise UsageError(f"{name} has no records with named values")
    if len(columns) > _MAX_COLUMNS:
        raise UsageError(f"{name} has {len(columns)} columns; at most {_MAX_COLUMNS} are read")
    return columns, {column.name: identifier(column.name) for column in columns}, scan


def _describe_csv(
    path: str,
    is_packed: bool,
    files: _Files | None,
    name: str,
) -> tuple[tuple[Column, ...], dict[str, str], str]:
    """The columns of CSV are told from its first line: a guess from samples can lose rows."""
    matches = sorted(files.glob(path)) if files is not None else sorted(glob.glob(path))
    if not matches:
        raise NotFoundError(f"there is no file {name}")
    with (
        files.open(matches[0], "rb") if files is not None else open(matches[0], "rb") as raw,
        gzip.open(raw) if is_packed else raw as opened,
    ):
        head = opened.read(_HEAD_BYTES).decode("utf-8-sig", "replace")
    line = head.partition("\n")[0]
    if not line.strip():
        raise UsageError(f"{name} is empty or begins with an empty line, not with names of columns")
    unquoted = re.sub(r'"[^"]*"', "", line)
    delimiter = max(_DELIMITERS, key=unquoted.count)
    names = next(csv.reader(io.StringIO(head, newline=""), delimiter=delimiter), [])
    if len(names) > _MAX_COLUMNS:
        raise UsageError(f"{name} has {len(names)} columns; at most {_MAX_COLUMNS} are read")
    # In SQL the columns have numbers: what a stranger calls them stays out of it.
    listed = ", ".join(f"'c{i}': 'VARCHAR'" for i in range(len(names)))
    scan = (
        f"read_csv($1, auto_detect = false, header = true, columns = {{{listed}}},"
        f" delim = '{delimiter}', quote = '\"', escape = '\"', max_line_size = 16777216)"
    )
    unique: dict[str, str] = {}
    for position, column in enumerate(names):
        shown = column.strip() or f"column {position + 1}"
        while shown in unique:
            shown += " again"
        unique[shown] = f"c{position}"
    return tuple(Column(column, "VARCHAR") for column in unique), unique, scan


def _sha256(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Turn what the readers raise into one sentence."""
    try:
        yield
    except HerdbookError:
        raise
    except (duckdb.Error, OSError, EOFError, ValueError, csv.Error) as error:
        if isinstance(error, FileNotFoundError):
            raise NotFoundError(f"there is no file {name}") from error
        raise HerdbookError(f"{name} cannot be read: {_sentence(str(error))}") from error


def _sentence(message: str) -> str:
    """The part of a reader's message that says what is wrong and where."""
    line = re.search(r"on Line: (\d+)", message, re.I)
    where = f" (line {line[1]})" if line else ""
    if "nvalid unicode" in message or "not utf-8" in message or "UTF-8" in message:
        return f"it is not UTF-8 text{where}"
    columns = re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", message)
    if columns:
        return f"a row has {columns[2]} cells where the first line names {columns[1]}{where}"
    raised = re.findall(r"^[\w.]+(?:Error|Exception): .*$", message, re.M)  # by the Hub's client
    first = raised[-1] if "Traceback" in message and raised else message.partition("\n")[0]
    return re.sub(r"^(?:[A-Za-z ]+ Error: )+", "", first)[:_MAX_REASON] + where

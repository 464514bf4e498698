"""Answers one SQL question in a process of its own; :mod:`lineage.store.console` runs it.

A database engine inside the server cannot be bounded: asked for ``list_sort(range(100000000))``,
DuckDB 2.0 took 44 s and 7 GB although its limit was 256 MB and it had been interrupted after 2 s.
Here the system bounds memory, time and files, and whoever asked kills the process.

It imports nothing of this package, so that it starts fast. It says that it is ready with a line,
reads one question as a line of JSON from standard input, and answers on standard output: a line of
JSON, then the rows as an Arrow stream.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import BinaryIO

import duckdb
import pyarrow as pa

__all__ = ["answer", "main"]

_BATCH_ROWS = 500
_CPU_S = 30
# What this process holds before it is asked, and what DuckDB allocates beside its own account.
_OWN_BYTES = 512 << 20
_READING = frozenset({"SELECT", "EXPLAIN"})


class _RefusedError(Exception):
    def __init__(self, why: str, detail: str = "") -> None:
        super().__init__(why)
        self.why, self.detail = why, detail


def _confine(memory_bytes: int) -> None:
    for limit, most in (
        (resource.RLIMIT_DATA, memory_bytes + _OWN_BYTES),
        (resource.RLIMIT_CPU, _CPU_S),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    os.nice(10)  # pages come first


def _rows(asked: dict[str, object]) -> tuple[pa.Table, bool]:
    """The rows, at most so many, and whether there were more."""
    try:
        connection = duckdb.connect(
            str(asked["database"]),
            read_only=True,
            config={
                "memory_limit": f"{int(str(asked['memory_bytes'])) >> 10}KiB",
                "threads": "1",
                "temp_directory": "",
            },
        )
    except duckdb.Error as error:
        raise _RefusedError("cannot open", str(error)) from error
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    statements = duckdb.extract_statements(str(asked["sql"]))
    if len(statements) != 1:
        raise _RefusedError("one statement", str(len(statements)))
    kind = statements[0].type.name
    if kind not in _READING:
        raise _RefusedError("only reads", kind)
    relation = connection.sql(statements[0])
    reader = relation.to_arrow_reader(_BATCH_ROWS)
    most_rows, most_bytes = int(str(asked["max_rows"])), int(str(asked["max_bytes"]))
    batches: list[pa.RecordBatch] = []
    n_rows = n_bytes = 0
    for batch in reader:
        batches.append(batch)
        n_rows += batch.num_rows
        n_bytes += batch.nbytes
        if n_bytes > most_bytes:
            raise _RefusedError("too large")
        if n_rows > most_rows:
            break
    table = pa.Table.from_batches(batches, schema=reader.schema)
    return table.slice(0, most_rows), n_rows > most_rows


def answer(asked: dict[str, object], out: BinaryIO) -> None:
    """Write the answer: a line of JSON, then the rows."""
    head: dict[str, bool | str]
    table: pa.Table | None = None
    try:
        table, is_cut = _rows(asked)
        head = {"is_cut": is_cut}
    except _RefusedError as error:
        head = {"why": error.why, "detail": error.detail}
    except (duckdb.OutOfMemoryException, MemoryError):
        head = {"why": "memory", "detail": ""}
    except duckdb.Error as error:
        head = {"why": type(error).__name__, "detail": str(error)}
    except (pa.ArrowException, OSError) as error:
        # DuckDB's errors come as these while rows are handed over.
        out_of_memory = "Out of Memory" in str(error)
        head = {"why": "memory" if out_of_memory else "rows", "detail": str(error)}
    out.write(json.dumps(head).encode() + b"\n")
    if table is not None:
        with pa.ipc.new_stream(out, table.schema) as stream:
            stream.write_table(table)
    out.flush()


def main() -> None:
    """Say that we are ready, read one question, answer it."""
    out = sys.stdout.buffer
    out.write(b"ready\n")
    out.flush()
    line = sys.stdin.buffer.readline()
    if not line:  # nobody asked: the explorer has ended
        return
    asked = json.loads(line)
    _confine(int(asked["memory_bytes"]))
    answer(asked, out)


if __name__ == "__main__":
    main()

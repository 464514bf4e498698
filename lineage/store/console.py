"""Read-only SQL for anybody: one statement, a bounded answer, nothing else reachable.

The question is answered by a process of its own (:mod:`lineage.store.console_worker`), which the
system bounds and which is killed when its time is over: whatever is asked, neither the server nor
other visitors are hurt.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from lineage.store.plain_table import plain_table
from lineage.store.schema import PUBLISHED

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

__all__ = ["Answer", "Console", "Limits", "Refused", "count_rows"]

_WORKER = Path(__file__).with_name("console_worker.py")
_START_TIMEOUT_S = 30.0
_MAX_DETAIL = 2_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What one question may cost.

    Attributes
    ----------
    characters
        Length of the question; it has to fit into an address.
    rows, result_bytes
        Of the answer: more rows are cut off, more bytes refused.
    seconds
        From the question to the answer, opening the database included.
    memory_bytes
        What DuckDB may use.
    at_once
        Questions that are answered at the same time; others wait `queue_s`, then are told.
    """

    characters: int = 4_000
    rows: int = 10_000
    result_bytes: int = 16 << 20
    seconds: float = 2.0
    memory_bytes: int = 256 << 20
    at_once: int = 2
    queue_s: float = 4.0

    def question(self, database: Path, sql: str) -> dict[str, object]:
        """What the process that answers is told."""
        return {
            "database": str(database.resolve()),
            "sql": sql,
            "max_rows": self.rows,
            "max_bytes": self.result_bytes,
            "memory_bytes": self.memory_bytes,
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows; `is_cut` says that there were more. Column names are distinct and not empty."""

    table: pa.Table
    is_cut: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Refused:
    """Why there is no answer: a sentence, and what DuckDB said; `again`: it may help to repeat."""

    sentence: str
    detail: str = ""
    again: bool = False


_SENTENCES = {
    "one statement": "One statement at a time, please: this holds {detail}.",
    "only reads": (
        "This console only reads: SELECT, WITH, FROM, VALUES, DESCRIBE, SHOW, SUMMARIZE and "
        "EXPLAIN. {detail} is not allowed."
    ),
    "too large": (
        "Stopped: the answer is larger than {megabytes} MB. Ask for fewer columns or rows."
    ),
    "memory": (
        "Stopped: the question needs more memory than the {memory} MB that one gets here. Filter "
        "before sorting or grouping, or fetch the register and ask there."
    ),
    "PermissionException": (
        "Files, other hosts and extensions are out of reach here: only the published tables are."
    ),
    "ParserException": "DuckDB does not understand this as SQL.",
    "CatalogException": "There is no such table, column or function here.",
    "BinderException": "The names or types of this question do not fit the tables.",
    "ConversionException": "A value could not be read as the type that was asked for.",
    "OutOfRangeException": "A number left the range of its type.",
    "cannot open": "The published database was moved or replaced. Load the page again.",
}
_OTHERWISE = "DuckDB refuses this question."
_STATEMENTS = {"MULTI": "PIVOT without its list of values (ON … IN (…))"}
_NOTHING_ASKED = Refused("Write a question in SQL, or choose one of the saved ones.")


class Console:
    """Answers questions about published databases, a few at a time.

    One process always waits for the next question, for starting one takes half a second. Close the
    console, or let go of it, to end that process.
    """

    def __init__(self, limits: Limits = Limits()) -> None:
        self.limits = limits
        self._places = threading.BoundedSemaphore(limits.at_once)
        self._waiting = _Waiting()
        weakref.finalize(self, self._waiting.stop)

    def close(self) -> None:
        """End the process that waits."""
        self._waiting.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def warm(self) -> None:
        """See to it that a process waits for the next question."""
        self._waiting.refill()

    def ask(self, database: Path, sql: str) -> Answer | Refused:
        """Answer one question from one published database; never raises for what is asked."""
        limits = self.limits
        if not sql.strip():
            return _NOTHING_ASKED
        if len(sql) > limits.characters:
            return Refused(
                f"The question has {len(sql):,} characters; {limits.characters:,} are the most."
            )
        if "\0" in sql or any("\ud800" <= character <= "\udfff" for character in sql):
            return Refused("The question holds characters that are no text.")
        if not self._places.acquire(timeout=limits.queue_s):
            return Refused(
                "Other visitors' questions take all the time there is. Ask again in a moment.",
                again=True,
            )
        try:
            return self._ask(database, sql)
        finally:
            self._places.release()
            self._waiting.refill()

    def _ask(self, database: Path, sql: str) -> Answer | Refused:
        limits = self.limits
        question = limits.question(database, sql)
        worker = self._waiting.take()
        with worker:
            if not _is_ready(worker):
                worker.kill()
                return Refused(
                    "The process that answers did not start; the machine may be busy. Ask again.",
                    again=True,
                )
            started = time.monotonic()
            try:
                said, _ = worker.communicate(
                    json.dumps(question).encode() + b"\n", timeout=limits.seconds
                )
            except subprocess.TimeoutExpired:
                worker.kill()
                return Refused(
                    f"Stopped after {limits.seconds:g} s. Narrow the question: filter by date, "
                    "owner or clade, or add LIMIT; or fetch the register and ask there."
                )
            except OSError:  # it died before it read
                said = b""
        return self._read(said, time.monotonic() - started)

    def _read(self, said: bytes, seconds: float) -> Answer | Refused:
        import pyarrow as pa

        line, newline, rows = said.partition(b"\n")
        if not newline:
            # Killed by the system, for memory that DuckDB did not see coming, or for its time.
            return Refused(
                "Stopped: the process that answered broke under this question; nothing else did."
            )
        head = json.loads(line)
        if "why" in head:
            return self._refusal(str(head["why"]), str(head["detail"]))
        table = pa.ipc.open_stream(rows).read_all()
        return Answer(plain_table(table), bool(head["is_cut"]), seconds)

    def _refusal(self, why: str, detail: str) -> Refused:
        if (why, detail) == ("one statement", "0"):
            return _NOTHING_ASKED
        words = _SENTENCES.get(why, _OTHERWISE).format(
            detail=_STATEMENTS.get(detail, detail),
            megabytes=self.limits.result_bytes >> 20,
            memory=self.limits.memory_bytes >> 20,
        )
        # DuckDB's advice on settings is of no use here, for they are locked.
        shown = detail.partition("\n\nPossible solutions:")[0][:_MAX_DETAIL]
        is_ours = why in ("one statement", "only reads", "cannot open")
        return Refused(words, "" if is_ours else shown, again=why == "cannot open")


def count_rows(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """How many rows each published table has."""
    counts = " UNION ALL ".join(
        f"SELECT '{table.name}', count(*) FROM \"{table.name}\"" for table in PUBLISHED
    )
    return {str(name): int(n) for name, n in connection.execute(counts).fetchall()}


@dataclass(slots=True)
class _Waiting:
    """The process that waits for a question."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    process: subprocess.Popen[bytes] | None = None

    def take(self) -> subprocess.Popen[bytes]:
        """A process to ask; it is the caller's."""
        with self.lock:
            process, self.process = self.process, None
        if process is not None and process.poll() is None:
            return process
        if process is not None:
            _end(process)
        return _start()

    def refill(self) -> None:
        """Start the next one, if none waits."""
        with self.lock:
            if self.process is None:
                self.process = _start()

    def stop(self) -> None:
        """End the one that waits."""
        with self.lock:
            process, self.process = self.process, None
        if process is not None:
            _end(process)


def _start() -> subprocess.Popen[bytes]:
    # No environment: there is nothing that a question could read from it.
    return subprocess.Popen(
        [sys.executable, "-I", str(_WORKER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={},
        cwd=os.sep,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    with process:
        process.kill()


def _is_ready(process: subprocess.Popen[bytes]) -> bool:
    stream = process.stdout
    if stream is None:
        return False
    readable, _, _ = select.select([stream], [], [], _START_TIMEOUT_S)
    return bool(readable) and stream.readline() == b"ready\n"

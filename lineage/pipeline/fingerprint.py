"""The stage that reads a few megabytes of every model's weights by byte range."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb

from crawler.client import Hub
from crawler.errors import CrawlError
from crawler.headers import HeaderReport, read_headers
from crawler.ranges import LocalReader, PrefixReader, RangeReader
from crawler.records import RepoSnapshot, RepoStatus, TensorEntry
from lineage.pipeline.progress import track
from lineage.store.fingerprint_ledger import LedgerRow, fingerprint_rows, record_fingerprint
from lineage.store.fingerprints import digest_of, save_fingerprint
from lineage.store.home import Home
from lineage.store.problems import clear_problems, record_problem
from lineage.store.requests import Request, unread_parents, want_repositories
from lineage.store.runs import record_run
from lineage.store.snapshots import latest_snapshots
from lineage.weights.fingerprint import Fingerprint, make_fingerprint
from lineage.weights.plan import SCHEME, Heads, plan_probe

__all__ = ["DEFAULT_BUDGET_BYTES", "FingerprintReport", "Reading", "fingerprint", "read_model"]

DEFAULT_BUDGET_BYTES = 8_000_000
"""Weights read of one model, at most (headers come on top)."""

_THREADS = 4

Reader = RangeReader | LocalReader


@dataclass(frozen=True, slots=True)
class FingerprintReport:
    """What a fingerprint run did."""

    n_read: int
    n_kept: int
    n_failed: int
    bytes_read: int
    weight_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a file, or a whole model, could not be read."""

    path: str | None
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Reading:
    """A model's fingerprint and what it cost, or why there is none."""

    fingerprint: Fingerprint | None
    row: LedgerRow
    problems: tuple[Problem, ...]


def fingerprint(
    home: Home, endpoint: str | None, *, budget_bytes: int = DEFAULT_BUDGET_BYTES
) -> FingerprintReport:
    """Fingerprint every crawled model that has none at its current revision.

    Each model is stored before it is entered in the book, so a kill costs at most the models in
    flight. Failures are entered too, and tried again at the next run.

    Raises
    ------
    NotFoundError
        If nothing was crawled.
    """
    home.require_database()
    started = time.monotonic()
    connection = home.open_working()
    try:
        done = {
            (row.repo_id, row.revision)
            for row in fingerprint_rows(connection, SCHEME)
            if row.digest is not None
        }
        readable = [s for s in latest_snapshots(connection) if s.status is RepoStatus.OK]
        todo = [s for s in readable if (s.ref.repo_id, s.ref.revision) not in done]
        n_read = n_failed = bytes_read = weight_bytes = 0
        with record_run(
            connection,
            "fingerprint",
            {"budget_bytes": budget_bytes, "scheme": SCHEME},
            {"models": len(todo)},
        ):
            hub = Hub(endpoint)
            for snapshot, reading in track(
                _read_all(hub, todo, budget_bytes), "fingerprint", len(todo)
            ):
                ref = snapshot.ref
                clear_problems(connection, ref.repo_id, "fingerprint")
                for problem in reading.problems:
                    record_problem(
                        connection,
                        ref.repo_id,
                        ref.revision,
                        "fingerprint",
                        problem.path,
                        problem.code,
                        problem.reason,
                        datetime.now(UTC),
                    )
                if reading.fingerprint is not None:
                    save_fingerprint(home.fingerprints, reading.fingerprint)
                record_fingerprint(connection, reading.row)
                n_read += reading.fingerprint is not None
                n_failed += reading.fingerprint is None
                bytes_read += reading.row.bytes_read
                weight_bytes += reading.row.weight_bytes
            _ask_for_parents(connection, [snapshot.ref.repo_id for snapshot in todo])
        return FingerprintReport(
            n_read,
            len(readable) - len(todo),
            n_failed,
            bytes_read,
            weight_bytes,
            time.monotonic() - started,
        )
    finally:
        connection.close()


def _ask_for_parents(connection: duckdb.DuckDBPyConnection, children: Sequence[str]) -> None:
    """A parent that is declared and was never read is what inference will miss first."""
    now = datetime.now(UTC)
    asked = [Request(parent, now) for parent in unread_parents(connection, children)]
    want_repositories(connection, asked)


def _read_all(
    hub: Hub, snapshots: Sequence[RepoSnapshot], budget_bytes: int
) -> Iterator[tuple[RepoSnapshot, Reading]]:
    def read(snapshot: RepoSnapshot) -> tuple[RepoSnapshot, Reading]:
        return snapshot, read_model(RangeReader(hub), snapshot, budget_bytes)

    with ThreadPoolExecutor(_THREADS) as pool:
        yield from pool.map(read, snapshots)


def read_model(reader: Reader, snapshot: RepoSnapshot, budget_bytes: int) -> Reading:
    """Read one model's headers and planned blocks; never raises for what the model did wrong."""
    started = time.monotonic()
    problems: list[Problem] = []
    report: HeaderReport | None = None
    found: Fingerprint | None = None
    cached = PrefixReader(reader)
    try:
        report = read_headers(
            lambda path, start, stop: cached.read(snapshot.ref, path, [(start, stop)])[0],
            snapshot.files,
        )
        problems.extend(Problem(p.path, p.code, p.reason) for p in report.problems)
        if report.tensors:
            found = _read_blocks(cached, snapshot, report, budget_bytes, problems)
        elif not report.problems:
            problems.append(Problem(None, "no_weights", "no weight files of a known format"))
    except CrawlError as error:
        problems.append(Problem(None, error.code, str(error)))
    return Reading(
        found,
        LedgerRow(
            snapshot.ref.repo_id,
            snapshot.ref.revision,
            SCHEME,
            digest_of(found.repo_id, found.revision, found.scheme) if found else None,
            report.format if report else None,
            reader.bytes_read,
            reader.requests,
            _weight_bytes(snapshot, report),
            len(report.tensors) if report else 0,
            time.monotonic() - started,
            datetime.now(UTC),
        ),
        tuple(problems),
    )


def _read_blocks(
    reader: PrefixReader,
    snapshot: RepoSnapshot,
    report: HeaderReport,
    budget_bytes: int,
    problems: list[Problem],
) -> Fingerprint | None:
    try:
        plan = plan_probe(report.tensors, budget_bytes, _heads(report))
    except ValueError as error:
        problems.append(Problem(None, "budget", str(error)))
        return None
    by_reason: dict[str, list[str]] = {}
    for name, reason in plan.skipped:
        by_reason.setdefault(reason, []).append(name)
    problems.extend(
        Problem(None, "skipped", f"{len(names)} tensors not read: {reason} (first: {names[0]})")
        for reason, names in by_reason.items()
    )
    if not plan.blocks:
        return None
    payloads: list[bytes] = [b""] * len(plan.blocks)
    for path in sorted({block.tensor.path for block in plan.blocks}):
        wanted = [i for i, block in enumerate(plan.blocks) if block.tensor.path == path]
        spans = [(plan.blocks[i].start, plan.blocks[i].stop) for i in wanted]
        for i, payload in zip(wanted, reader.read(snapshot.ref, path, spans), strict=True):
            payloads[i] = payload
    weights = sorted({entry.path for entry in report.tensors})
    digests = {file.path: file.sha256 for file in snapshot.files}
    return make_fingerprint(
        plan,
        payloads,
        repo_id=snapshot.ref.repo_id,
        revision=snapshot.ref.revision,
        format_name=report.format,
        file_digests=tuple(sorted(d for path in weights if (d := digests.get(path)))),
        n_parameters=sum(_n_values(entry) for entry in report.tensors),
        architecture=_text(report.metadata.get("general.architecture")),
    )


def _n_values(entry: TensorEntry) -> int:
    n = 1
    for size in entry.shape:
        n *= size
    return n


def _heads(report: HeaderReport) -> Heads | None:
    """Head counts of a GGUF of the llama family; None for everything that is not permuted."""
    if report.format != "gguf" or report.metadata.get("general.architecture") != "llama":
        return None
    query = report.metadata.get("llama.attention.head_count")
    key_value = report.metadata.get("llama.attention.head_count_kv", query)
    if isinstance(query, int) and isinstance(key_value, int):
        return Heads(query, key_value)
    return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _weight_bytes(snapshot: RepoSnapshot, report: HeaderReport | None) -> int:
    paths = {entry.path for entry in report.tensors} if report else set()
    return sum(file.size_bytes for file in snapshot.files if file.path in paths)

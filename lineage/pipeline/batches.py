"""The work of one worker: batches of models in, parts of fingerprints out.

A batch is read, sketched and written as one part, wherever the worker runs; what comes back is
small: rows for the ledger, and reasons. Only the driver writes the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from crawler.client import Hub
from crawler.range_source import HubSource
from crawler.records import RepoSnapshot
from crawler.sources import CacheSource, FirstOf, MeteredSource
from lineage import __version__
from lineage.errors import HerdbookError
from lineage.pipeline.reading import Problem, Reading, ReadingOptions, read_model
from lineage.pipeline.vocabularies import Vocabularies
from lineage.store.fingerprint_ledger import LedgerRow
from lineage.store.fingerprint_parts import Part, Provenance, StoredModel, write_part
from lineage.weights.probe import SCHEME
from lineage.weights.sketch import ModelSketch, resolve_device, sketch_fingerprints

__all__ = ["Batch", "BatchReader", "BatchResult", "ReaderSettings", "batches_of"]

_MODELS_AT_ONCE = 8
_SKETCHED_TOGETHER = 8
_MAX_REASON = 2_000


@dataclass(frozen=True, slots=True)
class Batch:
    """Models that are read together and stored in one part."""

    snapshots: tuple[RepoSnapshot, ...]


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of every model of a batch.

    Attributes
    ----------
    rows
        One a model, for the ledger.
    problems
        (repository, revision, problem); several a model, or none.
    failure
        Why the part could not be written; None: it was. Then no model of the batch is done.
    """

    rows: tuple[LedgerRow, ...]
    problems: tuple[tuple[str, str, Problem], ...]
    failure: str | None = None


def batches_of(
    snapshots: Sequence[RepoSnapshot], n_bytes: Sequence[int], max_models: int, max_bytes: int
) -> Iterator[Batch]:
    """The models in order, so many a batch at most, and so many bytes unless one has more.

    `n_bytes` are what will be read of each.
    """
    waiting: list[RepoSnapshot] = []
    total = 0
    for snapshot, size in zip(snapshots, n_bytes, strict=True):
        if waiting and (len(waiting) == max_models or total + size > max_bytes):
            yield Batch(tuple(waiting))
            waiting, total = [], 0
        waiting.append(snapshot)
        total += size
    if waiting:
        yield Batch(tuple(waiting))


@dataclass(frozen=True, slots=True)
class ReaderSettings:
    """Everything a worker must be told; it can be sent to another machine."""

    endpoint: str | None
    options: ReadingOptions
    parts: str
    vocabularies: Path | None = None
    use_cache: bool = True

    def __call__(self) -> BatchReader:
        """Make the worker, where it is to work."""
        return BatchReader(self)


class BatchReader:
    """Reads batches, keeping connections, vocabularies and the device between them."""

    def __init__(self, settings: ReaderSettings) -> None:
        self._settings = settings
        self._device = resolve_device(settings.options.device)
        self._vocabularies = Vocabularies(settings.vocabularies)
        hub = HubSource(Hub(settings.endpoint))
        self._source: MeteredSource = FirstOf(CacheSource(), hub) if settings.use_cache else hub
        self._runner = asyncio.Runner()
        self._expected: Batch | None = None
        self._ahead: tuple[Batch, asyncio.Task[list[Reading]]] | None = None

    def expect(self, batch: Batch) -> None:
        """Begin to read `batch` while the models of the one before are stored."""
        self._expected = batch

    def __call__(self, batch: Batch) -> BatchResult:
        """Read, sketch and store the models of `batch`; never raises for one model's fault."""
        done: list[BatchResult] = []
        # Filled, not returned: at its end the runner forms the repr of what a coroutine returned.
        self._runner.run(self._work(batch, done))
        return done[0]

    async def _work(self, batch: Batch, done: list[BatchResult]) -> None:
        ahead, self._ahead = self._ahead, None
        expected, self._expected = self._expected, None
        if ahead is not None and ahead[0] is not batch:
            ahead[1].cancel()
            ahead = None
        readings = await (self._read(batch) if ahead is None else ahead[1])
        if expected is not None:
            self._ahead = expected, asyncio.create_task(self._read(expected))
        done.append(await asyncio.to_thread(self._store, readings))

    def _store(self, readings: Sequence[Reading]) -> BatchResult:
        """Write what was read as one part."""
        failure = None
        part = Part(None, 0, ())
        try:
            part = write_part(
                self._settings.parts,
                [
                    StoredModel(r.fingerprint, r.sketch, self._provenance(r))
                    for r in readings
                    if r.fingerprint is not None
                ],
            )
        except HerdbookError as error:
            failure = str(error)
        stored = {row.repo_id: row for row in part.rows}
        refused = {repo_id: reason for repo_id, _, reason in part.refused}
        rows, problems = [], []
        for reading in readings:
            repo_id, revision = reading.ref.repo_id, reading.ref.revision
            if (row := stored.get(repo_id)) is None:
                if reading.fingerprint is not None:
                    why = refused.get(repo_id) or failure or "it was not stored"
                    reading.problems.append(Problem(None, "not_stored", why))
                row = self._failed(reading)
            rows.append(row)
            problems += [(repo_id, revision, problem) for problem in reading.problems]
        return BatchResult(tuple(rows), tuple(problems), failure)

    def close(self) -> None:
        """Close connections and the event loop."""
        self._runner.run(self._close())
        self._runner.close()

    async def _close(self) -> None:
        if self._ahead is not None:
            self._ahead[1].cancel()
            await asyncio.gather(self._ahead[1], return_exceptions=True)
        await self._source.aclose()

    async def _read(self, batch: Batch) -> list[Reading]:
        """Read all models, several at once; sketches are made beside the reading of others."""
        found: dict[str, Reading] = {}
        waiting: list[Reading] = []
        async for reading in self._readings(batch):
            found[reading.ref.repo_id] = reading
            if reading.fingerprint is not None and reading.sketch is None:
                waiting.append(reading)
            if len(waiting) == _SKETCHED_TOGETHER:
                await self._sketch(waiting)
                waiting = []
        await self._sketch(waiting)
        return [found[snapshot.ref.repo_id] for snapshot in batch.snapshots]

    async def _readings(self, batch: Batch) -> AsyncIterator[Reading]:
        free = asyncio.Semaphore(_MODELS_AT_ONCE)

        async def read(snapshot: RepoSnapshot) -> Reading:
            async with free:
                return await read_model(
                    self._source, snapshot, self._settings.options, self._vocabularies
                )

        tasks = [asyncio.ensure_future(read(snapshot)) for snapshot in batch.snapshots]
        try:
            for done in asyncio.as_completed(tasks):
                yield await done
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _sketch(self, readings: Sequence[Reading]) -> None:
        """Sketch models together; where that fails, one by one, so that it costs only its own."""
        fingerprints = [r.fingerprint for r in readings if r.fingerprint is not None]
        if not fingerprints:
            return
        try:
            sketches: list[ModelSketch] = await asyncio.to_thread(
                sketch_fingerprints,
                fingerprints,
                device=self._device,
                memory_bytes=self._settings.options.memory_bytes,
            )
        except Exception as error:
            if len(readings) == 1:
                readings[0].give_up(error)
            else:
                for reading in readings:
                    await self._sketch([reading])
            return
        for reading, sketch in zip(readings, sketches, strict=True):
            reading.sketch = sketch

    def _provenance(self, reading: Reading) -> Provenance:
        return Provenance(
            datetime.now(UTC),
            __version__,
            self._settings.endpoint,
            reading.bytes_read,
            reading.requests,
            reading.weight_bytes,
            reading.n_tensors,
            reading.n_unknown,
            reading.seconds,
            self._settings.options.budget_bytes,
            reading.given_up,
            self._device.type,
        )

    def _failed(self, reading: Reading) -> LedgerRow:
        return LedgerRow(
            reading.ref.repo_id,
            reading.ref.revision,
            SCHEME,
            None,
            reading.format,
            reading.bytes_read,
            reading.requests,
            reading.weight_bytes,
            reading.n_tensors,
            reading.seconds,
            datetime.now(UTC),
            self._settings.options.stage,
            reason="; ".join(problem.reason for problem in reading.problems)[:_MAX_REASON],
            budget_bytes=self._settings.options.budget_bytes,
            n_unknown=reading.n_unknown,
        )

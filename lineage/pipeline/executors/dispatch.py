"""Hands tasks to workers that may die, whatever kind of workers they are.

One task is with one worker at a time, so that it is known which task a worker died of. Everything
that differs between processes of this machine and actors of a cluster is behind `Crew`.
"""

from __future__ import annotations

import pickle
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from lineage.pipeline.executors.answers import returned, told_failure
from lineage.pipeline.executors.protocol import Done, ExecutorError, Failed, Outcome

__all__ = ["Crew", "Died", "Worker", "dispatch"]

Task = TypeVar("Task")
Result = TypeVar("Result")

_CLOSING_S = 10.0


@dataclass(frozen=True, slots=True)
class Died:
    """A worker is no more; the reason begins with "the worker died"."""

    reason: str


class Worker(Protocol):
    """Does one task at a time. Its first answer says whether its work was set up."""

    def hand(self, task: bytes) -> None:
        """Give it a pickled task; a worker that is dead by now says so when it is waited for."""

    def close(self) -> None:
        """Ask it to close its work; it has nothing to do."""

    def kill(self, after_s: float = 0) -> None:
        """Stop it, whatever it does; one that was asked to close has so long for it."""


W = TypeVar("W", bound=Worker)


class Crew(Protocol[W]):
    """Starts workers and listens to them."""

    def hire(self) -> W:
        """Start a worker, without waiting for it."""

    def wait(self, workers: Sequence[W], timeout_s: float | None) -> list[tuple[W, bytes | Died]]:
        """What some of the workers have to say; nothing if none does in time."""


@dataclass(slots=True)
class _Attempt(Generic[Task]):
    """A task on its way, and how often it was handed out."""

    task: Task
    data: bytes
    number: int = 0


def dispatch(
    crew: Crew[W],
    tasks: Iterable[Task],
    *,
    n_workers: int,
    max_retries: int,
    patience_s: float | None = None,
) -> Iterator[Outcome[Task, Result]]:
    """Do `tasks` with at most `n_workers` workers; as `Executor.map` promises.

    Parameters
    ----------
    patience_s
        How long to wait while there is not one worker; None: for ever.

    Raises
    ------
    ExecutorError
        If work cannot be set up, workers die of being set up, or none comes in time.
    """
    desk: _Desk[Task, Result, W] = _Desk(crew, iter(tasks), n_workers, max_retries, patience_s)
    finished = False
    try:
        while desk.hand_out():
            yield from desk.hear()
        finished = True
    finally:
        desk.dismiss(gently=finished)


class _Desk(Generic[Task, Result, W]):
    """Who does what at the moment."""

    def __init__(
        self,
        crew: Crew[W],
        tasks: Iterator[Task],
        n_workers: int,
        max_retries: int,
        patience_s: float | None,
    ) -> None:
        self._crew = crew
        self._tasks = tasks
        self._n_workers = n_workers
        self._max_retries = max_retries
        self._patience_s = patience_s
        self._waiting: deque[_Attempt[Task]] = deque()
        self._starting: list[W] = []
        self._idle: list[W] = []
        self._busy: dict[W, _Attempt[Task]] = {}
        self._deaths_at_start = 0
        self._alone_since = time.monotonic()

    def hand_out(self) -> bool:
        """Give every idle worker a task, hire for the others; False when all is done.

        A task is given away before another one is taken, which may take long. No more are taken
        than there are workers to be without one, so what waits never asks for too many workers.
        """
        self._assign()
        while len(self._waiting) < self._n_workers - len(self._busy):
            try:
                task = next(self._tasks)
            except StopIteration:
                break
            self._waiting.append(_Attempt(task, pickle.dumps(task)))
            self._assign()
        return bool(self._busy or self._waiting)

    def hear(self) -> Iterator[Outcome[Task, Result]]:
        """Wait until a worker says something; tell the outcomes of tasks that ended."""
        workers = [*self._starting, *self._busy]
        for worker, said in self._crew.wait(workers, self._time_left()):
            if worker in self._busy:
                yield from self._ended(worker, said)
            else:
                self._started(worker, said)

    def dismiss(self, *, gently: bool) -> None:
        """Send all workers away; when not `gently`, without letting them end anything."""
        if gently:
            for worker in self._idle:
                worker.close()
        for worker in self._idle:
            worker.kill(after_s=_CLOSING_S if gently else 0)
        for worker in [*self._starting, *self._busy]:
            worker.kill()

    def _assign(self) -> None:
        while self._waiting and self._idle:
            worker, attempt = self._idle.pop(), self._waiting.popleft()
            attempt.number += 1
            worker.hand(attempt.data)
            self._busy[worker] = attempt
        while len(self._starting) < len(self._waiting):
            self._starting.append(self._crew.hire())

    def _ended(self, worker: W, said: bytes | Died) -> Iterator[Outcome[Task, Result]]:
        attempt = self._busy.pop(worker)
        if isinstance(said, Died):
            worker.kill()
            self._note_alone()
            if attempt.number <= self._max_retries:
                self._waiting.appendleft(attempt)
            else:
                yield Failed(attempt.task, said.reason, attempt.number)
            return
        self._idle.append(worker)
        failure = told_failure(said)
        if failure is None:
            yield Done(attempt.task, returned(said))
        else:
            yield Failed(attempt.task, failure, attempt.number)

    def _started(self, worker: W, said: bytes | Died) -> None:
        self._starting.remove(worker)
        if isinstance(said, Died):
            worker.kill()
            self._deaths_at_start += 1
            if self._deaths_at_start > self._max_retries:
                raise ExecutorError(
                    f"{self._deaths_at_start} workers in a row died while their work was set up; "
                    f"the last one: {said.reason}"
                )
            return
        failure = told_failure(said)
        if failure is not None:
            worker.kill()
            raise ExecutorError(f"the work cannot be set up: {failure}")
        self._deaths_at_start = 0
        self._idle.append(worker)

    def _note_alone(self) -> None:
        if not self._busy and not self._idle:
            self._alone_since = time.monotonic()

    def _time_left(self) -> float | None:
        if self._patience_s is None or self._busy or self._idle:
            return None
        left = self._alone_since + self._patience_s - time.monotonic()
        if left <= 0:
            raise ExecutorError(f"there was no worker for {self._patience_s:.0f} s")
        return left

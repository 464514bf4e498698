"""The executor of this machine: in this process, or in several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from lineage.errors import HerdbookError, UsageError
from lineage.pipeline.executors.answers import reason_of
from lineage.pipeline.executors.dispatch import dispatch
from lineage.pipeline.executors.processes import ProcessCrew
from lineage.pipeline.executors.protocol import (
    MAX_RETRIES,
    Done,
    ExecutorError,
    Failed,
    LooksAhead,
    Outcome,
    Setup,
    Work,
)

__all__ = ["LocalExecutor"]

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class LocalExecutor:
    """Does tasks on this machine.

    With one worker they are done in this process, one after the other: nothing is started or
    pickled, and a task that ends the process ends the driver. With more, each worker is a process.

    Parameters
    ----------
    workers
        How many tasks are done at a time.
    max_retries
        How often a task is handed out again after its worker died.

    Raises
    ------
    UsageError
        If there is to be no worker.

    Examples
    --------
    >>> class Double:
    ...     def __call__(self, task): return 2 * task
    ...     def close(self): pass
    >>> [outcome.result for outcome in LocalExecutor().map(Double, [1, 2])]
    [2, 4]
    """

    workers: int = 1
    max_retries: int = MAX_RETRIES

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UsageError(f"at least one worker is needed, not {self.workers}")

    def map(
        self, setup: Setup[Task, Result], tasks: Iterable[Task]
    ) -> Iterator[Outcome[Task, Result]]:
        """Do every task; see `Executor.map`."""
        if self.workers == 1:
            return _one_by_one(setup, tasks)
        return dispatch(
            ProcessCrew(setup), tasks, n_workers=self.workers, max_retries=self.max_retries
        )


def _one_by_one(
    setup: Setup[Task, Result], tasks: Iterable[Task]
) -> Iterator[Outcome[Task, Result]]:
    left = iter(tasks)
    waiting = _next(left)
    if not waiting:
        return
    work = _set_up(setup)
    try:
        while waiting:
            task = waiting.pop()
            if isinstance(work, LooksAhead):
                for following in _next(left):
                    work.expect(following)
                    waiting.append(following)
            try:
                result = work(task)
            except Exception as error:
                yield Failed(task, reason_of(error), 1)
            else:
                yield Done(task, result)
            waiting = waiting or _next(left)
    finally:
        work.close()


def _next(left: Iterator[Task]) -> list[Task]:
    """The next task, if there is one."""
    return list(islice(left, 1))


def _set_up(setup: Setup[Task, Result]) -> Work[Task, Result]:
    try:
        return setup()
    except HerdbookError:
        raise
    except Exception as error:
        raise ExecutorError(f"the work cannot be set up: {reason_of(error)}") from error

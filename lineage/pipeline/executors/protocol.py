"""What an executor promises, and the words for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar, runtime_checkable

from lineage.errors import HerdbookError

__all__ = [
    "MAX_RETRIES",
    "Done",
    "Executor",
    "ExecutorError",
    "Failed",
    "LooksAhead",
    "Outcome",
    "Setup",
    "Work",
]

MAX_RETRIES = 3
"""Times that a task is handed out again after a worker died with it."""

Task = TypeVar("Task")
Result = TypeVar("Result")
TaskIn = TypeVar("TaskIn", contravariant=True)
ResultOut = TypeVar("ResultOut", covariant=True)


class ExecutorError(HerdbookError):
    """No work can be done at all: workers cannot be started, reached or set up."""


@dataclass(frozen=True, slots=True)
class Done(Generic[Task, Result]):
    """A task and what its work returned."""

    task: Task
    result: Result


@dataclass(frozen=True, slots=True)
class Failed(Generic[Task]):
    """A task that has no result, and why; other tasks go on.

    Attributes
    ----------
    reason
        What the work raised, or that the worker died.
    attempts
        How often it was handed to a worker.
    """

    task: Task
    reason: str
    attempts: int


Outcome: TypeAlias = Done[Task, Result] | Failed[Task]


class Work(Protocol[TaskIn, ResultOut]):
    """What a worker does, with all that it keeps between tasks: connections, a device."""

    def __call__(self, task: TaskIn, /) -> ResultOut:
        """Do one task."""

    def close(self) -> None:
        """Let go of what was kept; a worker that dies never gets here."""


@runtime_checkable
class LooksAhead(Work[TaskIn, ResultOut], Protocol[TaskIn, ResultOut]):
    """Work that may begin with a task while it ends the one before."""

    def expect(self, task: TaskIn, /) -> None:
        """Be told, before a task is handed over, which one comes after it."""


Setup: TypeAlias = Callable[[], Work[Task, Result]]
"""Makes the work, once in each worker and where it works.

Workers in other processes are sent it pickled: a module's class or function, or a frozen dataclass
of settings with ``__call__``.
"""


class Executor(Protocol):
    """Does tasks, each at least once, and tells of each exactly once."""

    def map(
        self, setup: Setup[Task, Result], tasks: Iterable[Task]
    ) -> Iterator[Outcome[Task, Result]]:
        """Do every task.

        Outcomes come as tasks end, in any order. Tasks are taken from the iterable when a worker is
        free for them, so it may be longer than memory: no more of them are out than there are
        workers, and one more where work looks ahead. Work that is interrupted or whose iterator is
        closed is stopped where it is.

        A task that raises has failed, and is not tried again: the work knows best what is worth
        retrying. A task whose worker died is handed to another one, a bounded number of times.
        **It may then have been done twice**, so work must be such that twice is once (a part is
        named by its content). Only the outcome is told once.

        Raises
        ------
        ExecutorError
            If work cannot be set up, or workers cannot be started.
        """

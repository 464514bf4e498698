"""Workers that are processes of this machine, each with a pipe of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from lineage.pipeline.executors.answers import answer_to, answered
from lineage.pipeline.executors.dispatch import Died
from lineage.pipeline.executors.protocol import Setup, Work

__all__ = ["ProcessCrew", "ProcessWorker"]

_DYING_S = 10.0


class ProcessWorker:
    """One process; its pipe ends when it dies, so its death is noticed at once.

    ``concurrent.futures`` would say only that *some* process of its pool died, and end the tasks of
    all of them.
    """

    def __init__(self, setup: bytes) -> None:
        # A forked child would inherit locks that threads of this process hold, and a dead CUDA.
        context = multiprocessing.get_context("spawn")
        self.connection, far_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(far_end, setup), daemon=True)
        self._process.start()
        far_end.close()

    def hand(self, task: bytes) -> None:
        """Give it a task."""
        with contextlib.suppress(OSError):  # it is dead, which the other end of the pipe tells
            self.connection.send_bytes(task)

    def hear(self) -> bytes | Died:
        """Its answer, or its death."""
        try:
            return self.connection.recv_bytes()
        except (EOFError, OSError):
            self._process.join(_DYING_S)
            return Died(f"the worker died ({_end(self._process.exitcode)})")

    def close(self) -> None:
        """End its pipe, on which it closes its work and ends."""
        self.connection.close()

    def kill(self, after_s: float = 0) -> None:
        """Stop it, unless it ends by itself in time."""
        self.connection.close()
        self._process.join(after_s)
        self._process.kill()
        self._process.join()
        self._process.close()


class ProcessCrew:
    """Starts processes and listens to their pipes."""

    def __init__(self, setup: Setup[Any, Any]) -> None:
        self._setup = pickle.dumps(setup)

    def hire(self) -> ProcessWorker:
        """Start a process."""
        return ProcessWorker(self._setup)

    def wait(
        self, workers: Sequence[ProcessWorker], timeout_s: float | None
    ) -> list[tuple[ProcessWorker, bytes | Died]]:
        """The answers and deaths that there are."""
        ready = wait([worker.connection for worker in workers], timeout_s)
        return [(worker, worker.hear()) for worker in workers if worker.connection in ready]


def _serve(connection: Connection, setup: bytes) -> None:
    """A worker's life: set up, answer tasks until the pipe ends, close."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's, who stops the workers
    work: list[Work[Any, Any]] = []
    ready = answered(lambda: work.append(pickle.loads(setup)()))
    try:
        connection.send_bytes(ready)
        while work:
            connection.send_bytes(answer_to(work[0], connection.recv_bytes()))
    except (EOFError, OSError):
        pass  # the driver has no more tasks, or is no more
    finally:
        for one in work:
            one.close()


def _end(exit_code: int | None) -> str:
    if exit_code is None:
        return "its pipe broke"
    return f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"

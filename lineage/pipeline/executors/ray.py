"""The executor of a Ray cluster (https://docs.ray.io), an optional dependency.

Ray starts workers where there is room, knows when one dies or its machine is gone, and carries
tasks and answers. What is done is not its business: that is in the ledger.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import math
import os
import pickle
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from lineage.errors import UsageError
from lineage.pipeline.executors.answers import answer_to, answered, reason_of
from lineage.pipeline.executors.dispatch import Died, dispatch
from lineage.pipeline.executors.protocol import (
    MAX_RETRIES,
    ExecutorError,
    Outcome,
    Setup,
    Work,
)

__all__ = ["RayExecutor"]

Task = TypeVar("Task")
Result = TypeVar("Result")

_NAMESPACE = "herdbook"
_OBJECT_STORE_BYTES = 80 << 20  # near Ray's least; answers are a few kilobytes
_REACH_S = 10.0


@dataclass(frozen=True, slots=True)
class RayExecutor:
    """Does tasks on a Ray cluster, by actors that keep their work between tasks.

    A worker that died, alone or with its machine, is replaced by another one wherever there is
    room; its task is handed out again.

    Parameters
    ----------
    address
        ``host:port`` of the cluster's head, or "auto" on one of its machines. None: what
        ``RAY_ADDRESS`` says, or else a cluster of this machine alone, while the work lasts.
    num_gpus, num_cpus
        What Ray is to keep free for each worker; ``num_gpus=0.5`` has two share a GPU.
    actors
        How many workers there are to be. None: as many as there is room for on the cluster as it
        is now. On a cluster that grows on demand, say how many.
    max_retries
        How often a task is handed out again after its worker died.
    patience_s
        How long to wait while the cluster has no room for even one worker.
    show_logs
        Whether what workers print is printed here.

    Raises
    ------
    UsageError
        If Ray is not installed, or the numbers make no sense.
    """

    address: str | None = None
    num_gpus: float = 0
    num_cpus: float = 1
    actors: int | None = None
    max_retries: int = MAX_RETRIES
    patience_s: float = 600.0
    show_logs: bool = False

    def __post_init__(self) -> None:
        if importlib.util.find_spec("ray") is None:
            raise UsageError(
                "the executor 'ray' needs Ray, which is not installed: "
                "pip install 'herdbook[cluster]'"
            )
        if self.num_gpus < 0 or self.num_cpus < 0 or not self.num_gpus + self.num_cpus:
            raise UsageError(
                f"a worker needs a CPU or a GPU, not {self.num_cpus:g} and {self.num_gpus:g}"
            )
        if self.actors is not None and self.actors < 1:
            raise UsageError(f"at least one actor is needed, not {self.actors}")

    def map(
        self, setup: Setup[Task, Result], tasks: Iterable[Task]
    ) -> Iterator[Outcome[Task, Result]]:
        """Do every task; see `Executor.map`.

        A connection to Ray that exists already is used, and left open, if no address is given.

        Raises
        ------
        ExecutorError
            Also, when the first outcome is asked for: the cluster cannot be reached, or has no room
            for a worker such as was asked for.
        """
        with self._connected():
            crew = _RayCrew(setup, num_cpus=self.num_cpus, num_gpus=self.num_gpus)
            yield from dispatch(
                crew,
                tasks,
                n_workers=self.actors or self._room(),
                max_retries=self.max_retries,
                patience_s=self.patience_s,
            )

    @contextlib.contextmanager
    def _connected(self) -> Iterator[None]:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before Ray is imported
        import ray

        address = self.address or os.environ.get("RAY_ADDRESS") or "local"
        _reach(address)
        if ray.is_initialized():
            if self.address is not None:
                raise ExecutorError(f"this process has a connection to Ray; {address} is one more")
            yield
            return
        alone: dict[str, Any] = {}
        if address == "local":
            alone = {"object_store_memory": _OBJECT_STORE_BYTES, "include_dashboard": False}
        try:
            ray.init(
                address=address,
                namespace=_NAMESPACE,
                log_to_driver=self.show_logs,
                logging_level=logging.ERROR,
                **alone,
            )
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise ExecutorError(
                f"the Ray cluster at {address} cannot be used: {reason_of(error)}"
            ) from error
        try:
            yield
        finally:
            ray.shutdown()

    def _room(self) -> int:
        """How many workers fit on the machines of the cluster."""
        import ray

        wanted = {"CPU": self.num_cpus, "GPU": self.num_gpus}
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        room = sum(_fitting(wanted, resources) for resources in nodes)
        if room:
            return room
        totals = {name: sum(node.get(name, 0) for node in nodes) for name in wanted}
        raise ExecutorError(
            f"no machine of the Ray cluster has room for a worker with {self.num_cpus:g} CPUs and "
            f"{self.num_gpus:g} GPUs: all {len(nodes)} together have {totals['CPU']:g} CPUs and "
            f"{totals['GPU']:g} GPUs (if it grows on demand, say how many actors there are to be)"
        )


def _fitting(wanted: Mapping[str, float], resources: Mapping[str, float]) -> int:
    """How many workers fit on one machine.

    >>> _fitting({"CPU": 1, "GPU": 0.5}, {"CPU": 16.0, "GPU": 2.0})
    4
    >>> _fitting({"CPU": 0.1, "GPU": 0}, {"CPU": 0.3})
    3
    """
    room = (resources.get(name, 0) / each for name, each in wanted.items() if each)
    return math.floor(min(room) + 1e-9)  # 0.3 / 0.1 is less than 3


def _reach(address: str) -> None:
    """Find out soon whether anybody listens: Ray itself would try for many minutes."""
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(f"the address of a Ray cluster is host:port or auto, not {address!r}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_S).close()
    except (OSError, OverflowError) as error:
        raise ExecutorError(
            f"the Ray cluster at {address} cannot be reached: {reason_of(error)}"
        ) from error


class _Place:
    """The actor: a worker's life on another machine."""

    def __init__(self, setup: bytes) -> None:
        self._setup = setup
        self._work: Work[Any, Any] | None = None

    def set_up(self) -> bytes:
        """Make the work; not in ``__init__``, whose exceptions Ray takes for a death."""

        def make() -> None:
            self._work = pickle.loads(self._setup)()

        return answered(make)

    def answer(self, task: bytes) -> bytes:
        """Do a task."""
        assert self._work is not None
        return answer_to(self._work, task)

    def close(self) -> None:
        """Close the work."""
        if self._work is not None:
            self._work.close()


class _RayWorker:
    """An actor, and the reference of the answer that it owes."""

    def __init__(self, actor: Any) -> None:  # noqa: ANN401 - Ray's handles have no type
        self._actor = actor
        self.owed = actor.set_up.remote()

    def hand(self, task: bytes) -> None:
        """Give it a task."""
        self.owed = self._actor.answer.remote(task)

    def hear(self) -> bytes | Died:
        """Its answer, or its death."""
        import ray

        try:
            answer: bytes = ray.get(self.owed)
        except ray.exceptions.RayError as error:
            # Ray adds a page of advice to its first sentences.
            return Died(f"the worker died ({reason_of(error):.400})")
        return answer

    def close(self) -> None:
        """Ask it to close its work."""
        self.owed = self._actor.close.remote()

    def kill(self, after_s: float = 0) -> None:
        """Stop it; also one that only seems dead, so that it does nothing any more."""
        import ray

        with contextlib.suppress(ray.exceptions.RayError):
            if after_s:
                ray.wait([self.owed], timeout=after_s)
            ray.kill(self._actor)


class _RayCrew:
    """Starts actors and listens to them."""

    def __init__(self, setup: Setup[Any, Any], *, num_cpus: float, num_gpus: float) -> None:
        import ray

        # Restarts and retries are the dispatcher's: Ray would tie a task to the place where its
        # actor died, and wait for room there while others are idle.
        self._place = ray.remote(
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
        )(_Place)
        self._setup = pickle.dumps(setup)

    def hire(self) -> _RayWorker:
        """Ask for an actor; it begins when and where there is room."""
        return _RayWorker(self._place.remote(self._setup))

    def wait(
        self, workers: Sequence[_RayWorker], timeout_s: float | None
    ) -> list[tuple[_RayWorker, bytes | Died]]:
        """The answers and deaths that there are."""
        import ray

        by_reference = {worker.owed: worker for worker in workers}
        first, _ = ray.wait(list(by_reference), num_returns=1, timeout=timeout_s)
        return [(by_reference[reference], by_reference[reference].hear()) for reference in first]

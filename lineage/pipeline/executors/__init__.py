"""Where work is done: in this process, in several here, or on a Ray cluster.

An executor knows nothing of models: it hands tasks to workers and tells what became of each. All
of them pass one suite of behaviour (``tests/test_executors.py``).
"""

from __future__ import annotations

from lineage.errors import UsageError
from lineage.pipeline.executors.local import LocalExecutor
from lineage.pipeline.executors.protocol import (
    Done,
    Executor,
    ExecutorError,
    Failed,
    Outcome,
    Setup,
    Work,
)
from lineage.pipeline.executors.ray import RayExecutor

__all__ = [
    "Done",
    "Executor",
    "ExecutorError",
    "Failed",
    "LocalExecutor",
    "Outcome",
    "RayExecutor",
    "Setup",
    "Work",
    "make_executor",
]


def make_executor(
    name: str, workers: int | None = None, address: str | None = None, num_gpus: float = 0.0
) -> Executor:
    """The executor called `name`: ``local`` or ``ray``.

    Raises
    ------
    UsageError
        If it cannot be used so: Ray's options without Ray, or Ray is not installed.
    """
    if name == "ray":
        return RayExecutor(address=address, num_gpus=num_gpus, actors=workers)
    if address is not None or num_gpus:
        raise UsageError("--address and --num-gpus are for --executor ray")
    return LocalExecutor(workers=workers or 1)

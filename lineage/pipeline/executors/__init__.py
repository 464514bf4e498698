"""Where work is done: in this process, in several here, or on a Ray cluster.

An executor knows nothing of models: it hands tasks to workers and tells what became of each. All
of them pass one suite of behaviour (``tests/test_executors.py``).
"""

from __future__ import annotations

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
]

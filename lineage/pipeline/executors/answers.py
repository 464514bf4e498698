"""What goes back and forth between a driver and a worker: pickled tasks and pickled answers.

Both ends are this program on machines of one owner; nothing that was read from a Hub is unpickled.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from typing import Any

from lineage.pipeline.executors.protocol import Work

__all__ = ["answer_to", "answered", "reason_of", "returned", "told_failure"]

_MAX_REASON = 2_000
_COLOURS = re.compile(r"\x1b\[[\d;]*m")  # Ray paints its tracebacks


def answer_to(work: Work[Any, Any], task: bytes) -> bytes:
    """The answer of a worker: what its work returned or raised. Never raises."""
    return answered(lambda: work(pickle.loads(task)))


def answered(ask: Callable[[], object]) -> bytes:
    """What `ask` returns or raises, pickled. Never raises.

    >>> returned(answered(lambda: 1 + 1))
    2
    >>> told_failure(answered(lambda: 1 / 0))
    'ZeroDivisionError: division by zero'
    """
    try:
        return pickle.dumps((True, ask()))
    except Exception as error:
        # A result that cannot be pickled is a failure of the task, too.
        return pickle.dumps((False, reason_of(error)))


def returned(answer: bytes) -> Any:  # noqa: ANN401 - whatever the work returns
    """What the work returned; ask `told_failure` first."""
    return pickle.loads(answer)[1]


def told_failure(answer: bytes) -> str | None:
    """Why there is no result; None if there is one."""
    try:
        done, value = pickle.loads(answer)
    except Exception as error:
        return f"the answer cannot be read: {reason_of(error)}"
    return None if done else value


def reason_of(error: BaseException) -> str:
    """An exception in one bounded line.

    >>> reason_of(ValueError("no such row"))
    'ValueError: no such row'
    """
    text = " ".join(_COLOURS.sub("", str(error)).split())
    name = type(error).__name__
    return f"{name}: {text}"[:_MAX_REASON] if text else name

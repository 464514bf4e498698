"""Work for executors that needs no model: tasks that succeed, fail, sleep, or kill their worker."""

from __future__ import annotations

import os
import signal
import time
import uuid
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Chore:
    """One task: what to do, and how often it kills its worker before it does it."""

    name: str
    does: str = "write"
    deaths: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Chores:
    """Makes the work of one worker; everything that happens leaves a file in `folder`."""

    folder: Path
    refuses: bool = False
    dies: bool = False

    def __call__(self) -> ChoreWork:
        if self.refuses:
            raise OSError("no such device")
        if self.dies:
            os._exit(7)
        return ChoreWork(self.folder)


@dataclass
class ChoreWork:
    folder: Path

    def __post_init__(self) -> None:
        self.note("setup", str(os.getpid()))
        self.note("parent", str(os.getppid()))

    def __call__(self, task: Chore) -> str:
        self.note(f"attempt.{task.name}", str(os.getpid()))
        if len(list(self.folder.glob(f"attempt.{task.name}.*"))) <= task.deaths:
            die(task.does)
        wait_for(self.folder / "gate") if task.does == "wait" else time.sleep(task.seconds)
        if task.does == "raise":
            raise ValueError(f"{task.name} is\nodd")
        if task.does == "lambda":
            return lambda: None
        (self.folder / f"output.{task.name}").write_text(task.name)
        return task.name.upper()

    def note(self, event: str, text: str) -> None:
        (self.folder / f"{event}.{uuid.uuid4().hex}").write_text(text)

    def close(self) -> None:
        self.note("close", str(os.getpid()))


def die(how: str) -> None:
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(3)


def wait_for(path: Path, seconds: float = 60) -> None:
    """Until a file is there; how a test decides what happens when."""
    deadline = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(path)
        time.sleep(0.02)

"""Make many models in several processes, parents before their children."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING

from .recipes import Recipe, ancestry_of

if TYPE_CHECKING:
    from .makers import Made

__all__ = ["make_all", "quiet_workers"]


def quiet_workers() -> None:
    """One thread each, no network: what the processes that make models inherit."""
    os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")


def make_all(
    recipes: Mapping[str, Recipe],
    root: Path,
    scratch: Path,
    jobs: int,
    made_before: Mapping[str, Made] | None = None,
    record: Callable[[Made], None] = lambda _: None,
) -> dict[str, Made]:
    """Carry out recipes as soon as what they need is there.

    Parameters
    ----------
    recipes
        By the name of the model.
    root, scratch
        Where the repositories go, and where text and tokenizer lie.
    jobs
        Processes.
    made_before
        What stands in `root` already and is not made again.
    record
        Called with every model as soon as it is finished.

    Raises
    ------
    RuntimeError
        If recipes are left that need what nobody makes.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from .makers import make

    made = dict(made_before or {})
    waiting = {name: recipe for name, recipe in recipes.items() if name not in made}
    running: dict[Future[Made], str] = {}
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with (
        Progress(
            *columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal
        ) as progress,
        ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool,
    ):
        bar = progress.add_task("models", total=len(recipes), completed=len(made))
        while waiting or running:
            for name, recipe in list(waiting.items()):
                ready = all(parent in made for parent in ancestry_of(recipe).inputs)
                if ready and len(running) < jobs:
                    running[pool.submit(make, name, recipe, root, scratch)] = name
                    del waiting[name]
            if not running:
                raise RuntimeError(f"no recipe can start: {sorted(waiting)}")
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                name = running.pop(future)
                made[name] = future.result()
                record(made[name])
                progress.update(bar, advance=1, description=name)
                if not console.is_terminal:
                    print(f"{len(made)}/{len(recipes)} {future.result()}", file=sys.stderr)
    return made

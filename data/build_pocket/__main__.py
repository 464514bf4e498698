"""``python -m data.build_pocket``: build the pocket Hub from nothing."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING

from .members import MEMBERS, Member
from .recipes import ancestry_of, reseeded

if TYPE_CHECKING:
    from .makers import Made


PUBLISHED_SEED = 1000
"""Seed of the committed build. The inference was developed on seed 0 and is judged on this one."""


def _quiet_workers() -> None:
    os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")


def main() -> int:
    """Build everything into a new folder, then put it in place of the old one."""
    parser = argparse.ArgumentParser(prog="python -m data.build_pocket", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("data/pocket"))
    parser.add_argument("--jobs", type=int, default=2, help="processes (one thread each)")
    parser.add_argument(
        "--seed",
        type=int,
        default=PUBLISHED_SEED,
        help="added to every seed; the thresholds of the inference were chosen on the build of 0",
    )
    arguments = parser.parse_args()
    _quiet_workers()
    from .text import write_corpus

    started = time.monotonic()
    out: Path = arguments.out.resolve()
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        characters = write_corpus(Path(scratch))
        made = _make_all(partial, Path(scratch), arguments.jobs, arguments.seed)
    from .publication import write_publication

    write_publication(partial, made, characters, time.monotonic() - started)
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
    print(f"{len(made)} models in {out} after {time.monotonic() - started:.0f} s", file=sys.stderr)
    return 0


def _make_all(root: Path, scratch: Path, jobs: int, seed: int) -> dict[str, Made]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from .makers import make

    waiting: dict[str, Member] = {member.id: member for member in MEMBERS}
    made: dict[str, Made] = {}
    running: dict[Future[Made], str] = {}
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with (
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
        ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool,
    ):
        bar = progress.add_task("pocket Hub", total=len(waiting))
        while waiting or running:
            for name, member in list(waiting.items()):
                ready = all(parent in made for parent in ancestry_of(member.recipe).inputs)
                if ready and len(running) < jobs:
                    recipe = reseeded(member.recipe, seed)
                    running[pool.submit(make, name, recipe, root, scratch)] = name
                    del waiting[name]
            if not running:
                raise RuntimeError(f"no recipe can start: {sorted(waiting)}")
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                name = running.pop(future)
                made[name] = future.result()
                progress.update(bar, advance=1, description=name)
                if not console.is_terminal:
                    print(f"{len(made)}/{len(MEMBERS)} {future.result()}", file=sys.stderr)
    return made


__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())

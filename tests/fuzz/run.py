"""Run the fuzz: ``python -m tests.fuzz.run --cases N [--seed S] [--target NAME] [--jobs 2]``.

Exit status 1 when something was found. A case that failed is saved, with the command that runs it
again. The bounds are those of ``docs/fuzzing.md``.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import multiprocessing
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from . import mutations
from .seeds import seeds
from .targets import TARGETS, Target, case

MAX_CPU_S = 1.0
"""A case that takes longer is a finding."""
HANG_CPU_S = 10.0
"""A case that takes longer is ended."""
STUCK_S = 300.0
"""Wall clock after which the parent ends a worker that no signal reaches."""
MAX_ALLOCATED_BYTES = 768 << 20
"""Of one case, measured on a sample and on all large cases."""
MAX_ADDRESS_SPACE_BYTES = 2 << 30
"""Of a worker, above what it has when it starts; the kernel refuses more."""
SAMPLE_EVERY = 1_000
_MAX_SAVED = 20
_NUMBER = re.compile(r"\d+")


class HangError(BaseException):
    """The watchdog's; no parser catches it by accident."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a case broke; findings with one `signature` are taken for one fault."""

    target: str
    what: str
    signature: str
    detail: str


@dataclass(slots=True)
class Tally:
    """What was measured of one target."""

    cases: int = 0
    cpu_s: float = 0.0
    slowest_s: float = 0.0
    slowest_index: int = -1
    slowest_bytes: int = 0
    peak_bytes: int = 0
    found: dict[str, int] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Take in what another worker measured."""
        self.cases, self.cpu_s = self.cases + other.cases, self.cpu_s + other.cpu_s
        if other.slowest_s > self.slowest_s:
            self.slowest_s, self.slowest_index = other.slowest_s, other.slowest_index
            self.slowest_bytes = other.slowest_bytes
        self.peak_bytes = max(self.peak_bytes, other.peak_bytes)
        for signature, n in other.found.items():
            self.found[signature] = self.found.get(signature, 0) + n


def _on_hang(*_: object) -> None:
    raise HangError


def _where(error: BaseException) -> str:
    """Where an exception was raised: the last frame, and the last of the parsers above it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "crawler" in Path(frame.filename).parts] or frames
    return f"{Path(own[-1].filename).name}:{own[-1].name}" if own else "?"


def _timed(check: Callable[[bytes], None], data: bytes) -> tuple[float, BaseException | None]:
    """CPU seconds of one run of `check`, and what it raised."""
    error: BaseException | None = None
    signal.setitimer(signal.ITIMER_PROF, HANG_CPU_S)
    start = time.process_time()
    try:
        try:
            check(data)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    except (Exception, HangError) as raised:  # the signal may also come while it is taken back
        error = raised
    return time.process_time() - start, error


def _allocated(check: Callable[[bytes], None], data: bytes) -> int:
    """The most bytes that one run of `check` holds at a time, by Python's own account."""
    gc.collect()
    tracemalloc.start()
    try:
        check(data)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


def examine(target: Target, data: bytes, *, measure: bool) -> tuple[float, int, Finding | None]:
    """Run one case: CPU seconds, bytes allocated (0 unless `measure`), and what it broke."""
    seconds, error = _timed(target.check, data)
    peak = 0
    if error is None and seconds > MAX_CPU_S:
        # Once more: a collection of garbage, or a neighbour, may have fallen into this case.
        seconds = min(seconds, _timed(target.check, data)[0])
    if isinstance(error, HangError):
        found = Finding(
            target.name, "hang", _where(error), f"no end after {HANG_CPU_S:.0f} s of CPU"
        )
    elif isinstance(error, MemoryError):
        found = Finding(target.name, "allocation", _where(error), "the kernel refused more memory")
    elif error is not None:
        what = type(error).__name__
        detail = "".join(traceback.format_exception(error, limit=-6))[-3_000:]
        words = _NUMBER.sub("N", str(error))[:40] if what == "BrokenPromiseError" else _where(error)
        found = Finding(target.name, "crash", f"{what} {words}", detail)
    elif seconds > MAX_CPU_S:
        found = Finding(
            target.name, "slow", "slow", f"{seconds:.2f} s of CPU for {len(data)} bytes"
        )
    else:
        found = None
        if measure:
            peak = _allocated(target.check, data)
            if peak > MAX_ALLOCATED_BYTES:
                found = Finding(target.name, "allocation", "peak", f"{peak >> 20} MiB allocated")
    return seconds, peak, found


def plan(cases: int, targets: Sequence[Target]) -> list[tuple[Target, int]]:
    """How many of `cases` each target gets."""
    whole = sum(target.weight for target in targets)
    return [(target, -(-cases * target.weight // whole)) for target in targets]


def _save(folder: Path, found: Finding, data: bytes) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{found.target}-{found.what}-{hashlib.sha256(data).hexdigest()[:12]}.bin"
    path.write_bytes(data)
    return f"python -m tests.fuzz.run --target {found.target} --replay {path}"


def _limit_memory() -> None:
    size_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = size_bytes + MAX_ADDRESS_SPACE_BYTES
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _is_measured(index: int) -> bool:
    return index % SAMPLE_EVERY == 0 or index % mutations.LARGE_EVERY == mutations.LARGE_EVERY - 1


def _work(
    work: Sequence[tuple[str, Iterable[int]]], seed: int, real: bool, out: Connection, now: Any
) -> None:
    """One worker: all cases of `work`; findings and tallies go through `out`."""
    signal.signal(signal.SIGPROF, _on_hang)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name, _ in work:
        # What is imported and cached at the first use is no case's own time.
        for data in seeds(TARGETS[name].kind, real=real)[:20]:
            with contextlib.suppress(Exception):
                TARGETS[name].check(data)
    _limit_memory()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, indices in work:
        target, tally = TARGETS[name], Tally()
        for index in indices:
            now[0], now[1] = index, time.monotonic()
            data = case(target, seed, index, real=real)
            seconds, peak, found = examine(target, data, measure=_is_measured(index))
            tally.cases += 1
            tally.cpu_s += seconds
            tally.peak_bytes = max(tally.peak_bytes, peak)
            if seconds > tally.slowest_s:
                tally.slowest_s, tally.slowest_index = seconds, index
                tally.slowest_bytes = len(data)
            if found is not None:
                n = tally.found[found.signature] = tally.found.get(found.signature, 0) + 1
                if n == 1 and len(tally.found) <= _MAX_SAVED:
                    out.send(("found", found, index, data))
        out.send(("done", name, tally))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    out.send(("end", (after - before) << 10))
    out.close()


def _messages(
    readers: dict[Connection, tuple[Any, Any]],
) -> Iterator[tuple[Connection, tuple[Any, ...] | None]]:
    """What workers send, None when one died or is stuck and was ended."""
    while readers:
        for ready in wait(list(readers), timeout=1.0):
            assert isinstance(ready, Connection)
            try:
                yield ready, ready.recv()
            except EOFError:
                if ready in readers:
                    yield ready, None
        for reader, (process, now) in list(readers.items()):
            if now[1] and time.monotonic() - now[1] > STUCK_S:
                process.kill()
                process.join()
                yield reader, None


def run(
    cases: int,
    *,
    seed: int,
    names: Sequence[str] = (),
    jobs: int = 1,
    real: bool = True,
    save: Path | None = None,
    say: Callable[[str], None] = print,
) -> tuple[dict[str, Tally], int]:
    """Run `cases` cases over all targets, or those of `names`, in `jobs` processes.

    Returns
    -------
    tallies, growth_bytes
        What was measured of each target, and by how much the largest worker grew.
    """
    folder = save or Path(tempfile.mkdtemp(prefix="fuzz-"))
    chosen = [TARGETS[name] for name in (names or TARGETS)]
    shares = plan(cases, chosen)
    tallies = {target.name: Tally() for target in chosen}
    known: set[tuple[str, str]] = set()
    growth = 0
    context = multiprocessing.get_context("fork")
    readers: dict[Connection, tuple[Any, Any]] = {}
    for job in range(jobs):
        reader, writer = context.Pipe(duplex=False)
        now = context.Array("d", 2, lock=False)
        work = [(target.name, range(job, n, jobs)) for target, n in shares]
        process = context.Process(target=_work, args=(work, seed, real, writer, now))
        process.start()
        writer.close()
        readers[reader] = (process, now)
    for reader, message in _messages(readers):
        if message is None:
            process, now = readers.pop(reader)
            process.join()
            what = (
                f"a worker ended (status {process.exitcode}) at case {int(now[0])} of seed {seed}"
            )
            say(f"FOUND {what}: its other cases were not run")
            first = next(iter(tallies.values()))
            first.found[what] = 1
        elif message[0] == "end":
            process, _ = readers.pop(reader)
            process.join()
            growth = max(growth, message[1])
        elif message[0] == "done":
            tallies[message[1]].add(message[2])
        else:
            _, found, index, data = message
            if (found.target, found.signature) not in known:
                known.add((found.target, found.signature))
                again = _save(folder, found, data)
                say(f"FOUND {found.what} in {found.target} (case {index}): {found.signature}")
                say(f"  {found.detail.strip()}\n  again: {again}")
    return tallies, growth


def _replay(path: Path, target: Target) -> Finding | None:
    signal.signal(signal.SIGPROF, _on_hang)
    data = path.read_bytes()
    seconds, peak, found = examine(target, data, measure=True)
    print(f"{len(data)} bytes, {seconds:.3f} s of CPU, {peak >> 10} KiB allocated")
    if found is not None:
        print(f"{found.what}: {found.signature}\n{found.detail}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000, help="over all targets")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", action="append", choices=sorted(TARGETS), default=[])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--save", type=Path, help="folder for cases that failed")
    parser.add_argument("--replay", type=Path, help="a saved case; needs --target")
    parser.add_argument("--own-seeds", action="store_true", help="without ../shared/data")
    given = parser.parse_args(arguments)
    if given.replay is not None:
        if len(given.target) != 1:
            parser.error("--replay needs one --target")
        return int(_replay(given.replay, TARGETS[given.target[0]]) is not None)
    start = time.monotonic()
    tallies, growth = run(
        given.cases, seed=given.seed, names=given.target, jobs=given.jobs,
        real=not given.own_seeds, save=given.save, say=lambda line: print(line, flush=True),
    )  # fmt: skip
    print(f"{'target':<12}{'cases':>9}{'CPU s':>9}{'slowest s':>11}{'bytes':>10}{'MiB':>6}  found")
    for name, tally in tallies.items():
        print(
            f"{name:<12}{tally.cases:>9}{tally.cpu_s:>9.1f}{tally.slowest_s:>11.3f}"
            f"{tally.slowest_bytes:>10}{tally.peak_bytes / (1 << 20):>6.0f}  {len(tally.found)}"
        )
    n = sum(tally.cases for tally in tallies.values())
    print(
        f"{n} cases of seed {given.seed} in {time.monotonic() - start:.0f} s with {given.jobs} "
        f"jobs; a worker grew by at most {growth >> 20} MiB"
    )
    return int(any(tally.found for tally in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())

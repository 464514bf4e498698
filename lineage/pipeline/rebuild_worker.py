"""The process in which mergekit works: what to do is the first line of its standard input.

It is offline, reads what lies in its working directory, and runs no code of a model. When whoever
started it is gone, however that came, it removes the scratch folder and ends: the one that it was
told, which must be where it works and have the name of one.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import threading
import time
import warnings
from pathlib import Path

__all__ = ["SCRATCH_PREFIX", "main"]

SCRATCH_PREFIX = "herdbook-"
"""How the names of scratch folders begin."""
_MOST_REMOVALS = 50
_PAUSE_S = 0.1


def main() -> int:
    """Carry out one recipe; the last line on standard error says what went wrong."""
    try:
        line = sys.stdin.buffer.readline()
        if not line:  # whoever started it died before it said what to do
            _remove(_scratch(os.getcwd()))
            return 1
        job = json.loads(line)
        scratch = _scratch(job["scratch"])
        threading.Thread(target=_end_with_parent, args=(scratch,), daemon=True).start()
        _limit(resource.RLIMIT_FSIZE, job["max_file_bytes"])
        _limit(resource.RLIMIT_DATA, job["max_memory_bytes"])
        _limit(resource.RLIMIT_CORE, 0)
        warnings.simplefilter("ignore")  # what mergekit imports has its own
        _merge(job["config"], job["seed"], job["shard_bytes"])
    except Exception as error:
        reason = " ".join(str(error).split()) or "no reason given"
        print(f"\n{type(error).__name__}: {reason}", file=sys.stderr, flush=True)
        return 1
    return 0


def _scratch(told: str) -> Path:
    """The folder that may be removed.

    Raises
    ------
    ValueError
        If it is not the one that this process works in, or has not the name of one.
    """
    scratch = Path(told)
    if Path.cwd() != scratch or not scratch.name.startswith(SCRATCH_PREFIX):
        raise ValueError(f"the worker was started in {Path.cwd()}, not in a scratch folder")
    return scratch


def _limit(what: int, most: int) -> None:
    """Bound a resource, by what it is bounded by already if that is less."""
    _, hard = resource.getrlimit(what)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (most, most))


def _end_with_parent(scratch: Path) -> None:
    while os.read(sys.stdin.fileno(), 1):  # comes to its end when the other side is closed or dead
        pass
    _remove(scratch)
    os._exit(1)


def _remove(scratch: Path) -> None:
    """Remove a folder in which another thread may still be writing."""
    for _ in range(_MOST_REMOVALS):
        shutil.rmtree(scratch, ignore_errors=True)
        if not scratch.exists():
            return
        time.sleep(_PAUSE_S)


def _merge(config: dict[str, object], seed: int | None, shard_bytes: int) -> None:
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    run_merge(
        MergeConfiguration.model_validate(config),
        "out",
        MergeOptions(
            copy_tokenizer=False,
            device="cpu",
            out_shard_size=shard_bytes,
            quiet=True,
            random_seed=seed,
            trust_remote_code=False,
            write_model_card=False,
        ),
    )


if __name__ == "__main__":
    sys.exit(main())

"""Carry out a merge with the real mergekit, in a process and a folder of its own.

What mergekit gets is made here: the validated recipe with parents called ``parents/0`` …, their
safetensors (linked or downloaded), an index written from their headers, and their configuration
without code. Nothing that a recipe or a repository names is used as a path.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from crawler.sources import FolderSource
from lineage.errors import HerdbookError
from lineage.export.mergekit import MergeConfig, ModelName
from lineage.pipeline.located import ModelReader
from lineage.pipeline.progress import megabytes
from lineage.pipeline.rebuild_worker import SCRATCH_PREFIX
from lineage.pipeline.weight_folder import weight_paths, write_weights

__all__ = ["download_bytes", "rebuild", "require_mergekit", "scratch_folder"]

_WORKER = (sys.executable, "-P", "-m", "lineage.pipeline.rebuild_worker")
_TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json",
)  # fmt: skip
_MAX_TOKENIZER_BYTES = 64 << 20
_MAX_SHARD_BYTES = 1 << 30
_MIN_SHARD_BYTES = 1 << 20
_SLACK_BYTES = 64 << 20
"""Headers, index and tokenizer of the output, which are not counted before."""
_MEMORY_BYTES = 8 << 30
_COPIES_IN_MEMORY = 4
"""How often all weights, of parents and output, may lie in memory: more than mergekit needs."""
_DEADLINE_S = 3_600.0
_SLOWEST_BYTES_PER_S = 500_000
_POLL_S = 0.2
_MAX_LOG_BYTES = 16 << 10
_MAX_REASON = 400
_SECRETS = ("HF_TOKEN", "HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN")


def require_mergekit() -> str:
    """The version of mergekit.

    Raises
    ------
    HerdbookError
        If it is not installed; says how to install it.
    """
    if importlib.util.find_spec("mergekit") is None:
        raise HerdbookError(
            "mergekit is not installed; it comes with the extra 'merge': "
            "pip install 'herdbook[merge]'"
        )
    return importlib.metadata.version("mergekit")


@contextmanager
def scratch_folder(inside: Path | None) -> Iterator[Path]:
    """A new folder that is gone afterwards, also after Ctrl-C, a hang-up or a plain kill.

    Raises
    ------
    HerdbookError
        If none can be made in `inside`.
    """
    with _signals_interrupt():
        try:
            folder = tempfile.TemporaryDirectory(
                prefix=SCRATCH_PREFIX, dir=inside, ignore_cleanup_errors=True
            )
        except OSError as error:
            raise HerdbookError(f"no scratch folder in {inside}: {error.strerror}") from error
        with folder as name:
            yield Path(name)


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Have signals that would end the process at once leave it as Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {}
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            before[number] = signal.signal(number, interrupt)
    except ValueError:  # only the main thread may
        pass
    try:
        yield
    finally:
        for number, handler in before.items():
            # None: it was not set by Python, which cannot set it again
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def download_bytes(reader: ModelReader, *, with_tokenizer: bool) -> int:
    """Bytes that :func:`rebuild` copies of a parent into the scratch folder."""
    if reader.located.folder is not None:
        return 0
    sizes = {file.path: file.size_bytes for file in reader.located.snapshot.files}
    wanted = [*weight_paths(reader), "config.json", *(_TOKENIZER if with_tokenizer else ())]
    return sum(sizes.get(path, 0) for path in wanted)


def rebuild(
    config: MergeConfig,
    parents: Mapping[ModelName, ModelReader],
    scratch: Path,
    *,
    seed: int | None,
    output_bytes: int,
) -> Path:
    """The folder in `scratch` that mergekit wrote.

    Parameters
    ----------
    parents
        A reader for every model that the recipe names.
    seed
        Of methods that draw at random.
    output_bytes
        What the tensors of the output take at most; mergekit is stopped where it writes more.

    Raises
    ------
    HerdbookError
        If mergekit is missing or fails, or a parent cannot be used; says why.
    CrawlError
        If a parent cannot be downloaded.
    """
    require_mergekit()
    with_tokenizer = config.tokenizer_source is not None
    total = sum(download_bytes(one, with_tokenizer=with_tokenizer) for one in parents.values())
    names: dict[ModelName, ModelName] = {}
    with megabytes("downloading parents", total) as advance:
        for number, (name, reader) in enumerate(parents.items()):
            folder = scratch / "parents" / str(number)
            folder.mkdir(parents=True)
            _write_config(reader, folder)
            write_weights(reader, folder, advance)
            if with_tokenizer:
                _write_tokenizer(reader, folder)
            names[name] = ModelName(f"parents/{number}")
    input_bytes = sum(
        tensor.stop - tensor.start
        for reader in parents.values()
        for tensor in reader.headers.tensors
    )
    _run(config.renamed(names.__getitem__), scratch, seed, input_bytes, output_bytes)
    return scratch / "out"


# ---- what mergekit reads ---------------------------------------------------------------------


def _write_config(reader: ModelReader, folder: Path) -> None:
    config = dict(reader.config or {})
    config.pop("auto_map", None)  # it names code
    config.pop("attribute_map", None)  # by it a key would stand for another
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def _write_tokenizer(reader: ModelReader, folder: Path) -> None:
    source = reader.located.source
    for path in _TOKENIZER:
        data = reader.small_file(path, _MAX_TOKENIZER_BYTES)
        if data is None:
            continue
        if isinstance(source, FolderSource):
            (folder / path).symlink_to(source.file(path))
        else:
            (folder / path).write_bytes(data)


# ---- the process -----------------------------------------------------------------------------


def _run(
    config: MergeConfig, scratch: Path, seed: int | None, input_bytes: int, output_bytes: int
) -> None:
    """Run the worker until it ends, writes too much, takes too long, or we are interrupted."""
    scratch = scratch.resolve()
    moved = input_bytes + output_bytes
    most = output_bytes + output_bytes // 16 + _SLACK_BYTES
    job = {
        "config": config.to_dict(),
        "seed": seed,
        "shard_bytes": max(_MIN_SHARD_BYTES, min(_MAX_SHARD_BYTES, output_bytes // 32)),
        "scratch": str(scratch),
        "max_file_bytes": most,
        "max_memory_bytes": _MEMORY_BYTES + _COPIES_IN_MEMORY * moved,
    }
    log = scratch / "log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            _WORKER,
            cwd=scratch,
            env=_environment(scratch),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,  # Ctrl-C is ours, who stop it
        )
    told = process.stdin
    assert told is not None
    try:
        with suppress(BrokenPipeError):  # it is gone already; its log says why
            told.write(json.dumps(job).encode() + b"\n")
            told.flush()
        deadline_s = _DEADLINE_S + moved / _SLOWEST_BYTES_PER_S
        _watch(process, scratch / "out", output_bytes, most, deadline_s)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        with suppress(BrokenPipeError):
            told.close()
    if process.returncode:
        raise HerdbookError(f"mergekit could not carry out the recipe: {_why(process, log)}")


def _watch(
    process: subprocess.Popen[bytes],
    out: Path,
    expected_bytes: int,
    most_bytes: int,
    deadline_s: float,
) -> None:
    seen, started = 0, time.monotonic()
    with megabytes("merging", expected_bytes) as advance:
        while True:
            try:
                process.wait(_POLL_S)
                return
            except subprocess.TimeoutExpired:
                written = _size_bytes(out)
            advance(max(0, written - seen))
            seen = max(seen, written)
            if written > most_bytes:
                raise HerdbookError(
                    f"mergekit was stopped: it wrote {written} bytes where {expected_bytes} "
                    "were to be expected"
                )
            if time.monotonic() - started > deadline_s:
                raise HerdbookError(
                    f"mergekit was stopped: it did not end within {deadline_s:,.0f} s"
                )


def _size_bytes(folder: Path) -> int:
    total = 0
    for file in folder.glob("*"):
        with suppress(FileNotFoundError):  # it is given its name as we look
            total += file.stat().st_size
    return total


def _why(process: subprocess.Popen[bytes], log: Path) -> str:
    """The last thing that mergekit said; its log is a stranger's text."""
    if process.returncode < 0:
        return f"it was killed (signal {-process.returncode}); was there enough memory?"
    with log.open("rb") as errors:
        errors.seek(max(0, log.stat().st_size - _MAX_LOG_BYTES))
        lines = errors.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:_MAX_REASON] if lines else f"exit code {process.returncode}"


def _environment(scratch: Path) -> dict[str, str]:
    """Ours, but offline, without tokens, on the CPU, with caches in the scratch folder."""
    kept = {key: value for key, value in os.environ.items() if key not in _SECRETS}
    return kept | {
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HOME": str(scratch / "cache"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONHASHSEED": "0",  # mergekit keeps models in sets: the same order every time
        "TRANSFORMERS_OFFLINE": "1",
    }

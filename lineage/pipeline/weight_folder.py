"""Weights of a model in a folder made here, under names made here, for a library to load.

A stranger's names are never paths: files are ``shard-00000.safetensors`` …, linked or downloaded,
with an index written from the headers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from crawler.sources import FolderSource
from lineage.errors import HerdbookError
from lineage.pipeline.located import ModelReader

__all__ = ["download_file", "weight_paths", "write_weights"]

_STEP_BYTES = 64 << 20


def weight_paths(reader: ModelReader) -> list[str]:
    """Files that hold the tensors of a model, each once."""
    return sorted({tensor.path for tensor in reader.headers.tensors})


def write_weights(reader: ModelReader, folder: Path, advance: Callable[[int], None]) -> None:
    """Link or download the weights of a model in safetensors, and write their index.

    Parameters
    ----------
    advance
        Told the bytes that were downloaded.

    Raises
    ------
    HerdbookError
        If a file is not what its digest says.
    CrawlError
        If it cannot be read.
    """
    shards = {path: f"shard-{n:05d}.safetensors" for n, path in enumerate(weight_paths(reader))}
    source = reader.located.source
    for path, shard in shards.items():
        if isinstance(source, FolderSource):
            (folder / shard).symlink_to(source.file(path))
        else:
            download_file(reader, path, folder / shard, advance)
    weight_map = {tensor.name: shards[tensor.path] for tensor in reader.headers.tensors}
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def download_file(
    reader: ModelReader, path: str, file: Path, advance: Callable[[int], None]
) -> None:
    """Copy one file of the Hub, and hold it against the digest that the Hub states.

    Raises
    ------
    HerdbookError
        If it is not what the digest says.
    CrawlError
        If it cannot be read.
    """
    entry = next(one for one in reader.located.snapshot.files if one.path == path)
    digest = hashlib.sha256()
    with file.open("wb") as out:
        for start in range(0, entry.size_bytes, _STEP_BYTES):
            data = reader.read(path, start, min(start + _STEP_BYTES, entry.size_bytes))
            digest.update(data)
            out.write(data)
            advance(len(data))
    if entry.sha256 is not None and digest.hexdigest() != entry.sha256:
        raise HerdbookError(
            f"{path} of {reader.located.name} came with another content than the Hub's SHA-256 says"
        )

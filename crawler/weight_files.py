"""Which files of a repository hold its weights. Pure.

Safetensors go before GGUF, before PyTorch's archives, before ONNX: the most plainly stored first. A
pipeline (diffusers) keeps its networks in folders; the one that denoises is taken then.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from crawler.records import FileEntry

__all__ = ["WeightFiles", "absent_shards", "choose_weight_files", "pickled_files", "weight_files"]

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})(?=\.\w+$)", re.ASCII)
_MAX_SHARDS = 1_024
# What trainers leave beside the weights: PyTorch archives and pickles too, but never the model.
_NOT_WEIGHTS = re.compile(
    r"(^|/)(training_args|trainer_|train_state|optimizer|optim|scheduler|rng_state|random_states|scaler"
    r"|dataloader|sampler|zero_pp_rank|bf16_zero_pp_rank|tokenizer|vocab|events\.)[^/]*$"
    r"|(^|[/_.-])(optim(izer)?(_states)?)\.(bin|pt|pth|ckpt|safetensors)$",
    re.IGNORECASE,
)
_SLICE = re.compile(r"(^|/)consolidated\.\d+\.pth$")
_NETWORK_FOLDERS = ("", "transformer/", "unet/")
_ONNX = ("model.onnx", "onnx/model.onnx", "transformer/model.onnx", "unet/model.onnx")


@dataclass(frozen=True, slots=True)
class _Kind:
    """A format whose files have known names: `names` with the first of `suffixes`."""

    format: str
    names: tuple[str, ...]
    suffixes: tuple[str, ...]
    takes_all: bool


_SAFETENSORS = _Kind("safetensors", ("model", "diffusion_pytorch_model"), (".safetensors",), True)
_TORCH = _Kind(
    "torch",
    ("pytorch_model", "diffusion_pytorch_model", "model"),
    (".bin", ".pt", ".pth", ".ckpt"),
    False,
)


@dataclass(frozen=True, slots=True)
class WeightFiles:
    """The files that together hold a model's weights once.

    Attributes
    ----------
    format
        ``safetensors``, ``gguf``, ``torch``, ``onnx``, or ``none``.
    files
        Ordered by path.
    index
        The index of a sharded model, if the repository has it.
    """

    format: str
    files: tuple[FileEntry, ...] = ()
    index: FileEntry | None = None


def weight_files(files: Sequence[FileEntry]) -> tuple[FileEntry, ...]:
    """The files of :func:`choose_weight_files`."""
    return choose_weight_files(files).files


def choose_weight_files(files: Sequence[FileEntry]) -> WeightFiles:
    """The files that together hold the model's weights once, before any index is consulted.

    Of safetensors in a folder: ``model.safetensors``, else the shards of ``model-…``, else the
    largest set of shards, else ``adapter_model.safetensors``, else all. PyTorch's archives the
    same, by the name ``pytorch_model``, but of several without a known name the largest. Of
    several GGUF files, which are the same model in several precisions, the largest (with its parts
    when it is split). States of optimisers and the like are no weights. An index whose shards are
    all absent counts when there is nothing else.
    """
    usable = [file for file in files if not _NOT_WEIGHTS.search(file.path)]
    by_path = {file.path: file for file in files}
    promised = WeightFiles("none")
    for folder in _NETWORK_FOLDERS:
        inside = [file for file in usable if _is_in(file.path, folder)]
        if not folder and not any(file.path.endswith(".safetensors") for file in inside):
            found = _largest(_groups(usable, (".gguf",), "mmproj"))
            if found:
                return WeightFiles("gguf", found)
        for kind in (_SAFETENSORS, _TORCH):
            found, index = _of_kind(inside, by_path, folder, kind)
            if found:
                return WeightFiles(kind.format, found, index)
            if index is not None and promised.index is None:
                promised = WeightFiles(kind.format, (), index)
    found = _onnx(usable, by_path)
    return WeightFiles("onnx", found) if found else promised


def absent_shards(paths: Sequence[str]) -> list[str]:
    """The shards that the names of others promise (``…-00001-of-00003…``), in order.

    >>> absent_shards(["m-00001-of-00003.gguf", "m-00003-of-00003.gguf"])
    ['m-00002-of-00003.gguf']
    """
    series = {
        (path[: found.start(1)], path[found.end(1) :], min(int(found[2]), _MAX_SHARDS))
        for path in paths
        if (found := _SHARD.search(path)) is not None
    }
    promised = {
        f"{before}{number:05d}{after}"
        for before, after, n_shards in series
        for number in range(1, n_shards + 1)
    }
    return sorted(promised - set(paths))


def pickled_files(files: Sequence[FileEntry]) -> tuple[FileEntry, ...]:
    """Files that may be pickled weights."""
    return tuple(
        file
        for file in files
        if file.path.endswith(_PICKLES) and not _NOT_WEIGHTS.search(file.path)
    )


def _is_in(path: str, folder: str) -> bool:
    return path.startswith(folder) and "/" not in path[len(folder) :]


def _of_kind(
    inside: Sequence[FileEntry], by_path: dict[str, FileEntry], folder: str, kind: _Kind
) -> tuple[tuple[FileEntry, ...], FileEntry | None]:
    """Files of a kind in a folder, and the index of a sharded model."""
    whole = [f"{folder}{name}{kind.suffixes[0]}" for name in kind.names]
    for path in whole:
        if path in by_path:
            return (by_path[path],), None
    indices = (by_path.get(f"{path}.index.json") for path in whole)
    index = next((file for file in indices if file is not None), None)
    shards = _groups([file for file in inside if _SHARD.search(file.path)], kind.suffixes[:1])
    for path in whole:
        if path in shards:
            return _sorted(shards[path]), index
    if shards:
        return _largest(shards), index
    adapter = by_path.get(f"{folder}adapter_model{kind.suffixes[0]}")
    if adapter is not None:
        return (adapter,), index
    others = [file for file in inside if file.path.endswith(kind.suffixes)]
    if kind.takes_all:
        return _sorted(others), index
    slices = [file for file in others if _SLICE.search(file.path)]
    if len(slices) > 1:  # every one holds a part of every tensor
        others = [file for file in others if file not in slices]
    return _largest(_groups(others, kind.suffixes)), index


def _onnx(files: Sequence[FileEntry], by_path: dict[str, FileEntry]) -> tuple[FileEntry, ...]:
    for path in _ONNX:
        if path in by_path:
            return (by_path[path],)
    near = [file for file in files if file.path.count("/") < 2]
    return _largest(_groups(near, (".onnx",)))


def _groups(
    files: Sequence[FileEntry], suffixes: tuple[str, ...], without: str = "\0"
) -> dict[str, list[FileEntry]]:
    """Files that belong together, by the name that they would have in one piece."""
    groups: dict[str, list[FileEntry]] = {}
    for file in files:
        if file.path.endswith(suffixes) and without not in file.path.lower():
            groups.setdefault(_SHARD.sub("", file.path), []).append(file)
    return groups


def _largest(groups: dict[str, list[FileEntry]]) -> tuple[FileEntry, ...]:
    if not groups:
        return ()
    return _sorted(max(groups.values(), key=lambda group: sum(file.size_bytes for file in group)))


def _sorted(files: Sequence[FileEntry]) -> tuple[FileEntry, ...]:
    return tuple(sorted(files, key=lambda file: file.path))

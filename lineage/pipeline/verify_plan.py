"""What verifying a recipe reads and writes, looked at before anything is done.

A recipe comes from a stranger: it names models, never places. Where a model lies is said by whoever
asks, or by the Hub.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from crawler.records import is_repo_id
from lineage.errors import HerdbookError, NotFoundError, UsageError
from lineage.explorer.words import bytes_words, plural
from lineage.export.mergekit import RANDOM_METHODS, MergeConfig, ModelName
from lineage.export.mergekit_reader import read_config
from lineage.export.rebuilt_size import extent_of, output_bytes
from lineage.pipeline.located import (
    LocatedModel,
    ModelReader,
    locate,
    locate_folder,
    locate_on_hub,
)
from lineage.pipeline.rebuild import download_bytes

__all__ = ["MAX_BYTES", "Opened", "ReadModel", "VerifyOptions", "VerifyPlan", "opened"]

MAX_BYTES = 100_000_000_000
"""Default of the most bytes that are written to the scratch folder."""
_MAX_LAYERS = 10_000
_MAX_VALUES = 200_000
_MAX_DEPTH = 32
_COUNTS = re.compile(r"(?!.*(?:size|dim)).*(?:layer|expert|depth)", re.DOTALL)
"""Keys of a configuration that say how often something is repeated, not how wide it is."""
_PART = re.compile(r"(?<![^.])[0-9]+(?![^.])")


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """Where models are found, and what may be written.

    Attributes
    ----------
    endpoint
        The Hub; default as of :class:`crawler.client.Hub`.
    models
        A folder laid out as owner/name.
    parents
        Folders of models that the recipe names, by that name, with or without ``@revision``.
        Without it a recipe reaches no folder but those in `models`.
    seed
        Of methods that draw at random.
    scratch
        Where the scratch folder is made; default: the system's.
    max_bytes
        Most bytes written there.
    """

    endpoint: str | None = None
    models: Path | None = None
    parents: Mapping[str, Path] = field(default_factory=dict)
    seed: int | None = None
    scratch: Path | None = None
    max_bytes: int = MAX_BYTES


@dataclass(frozen=True, slots=True)
class ReadModel:
    """A model that is read, as child or parent.

    `folder` and `revision`: one is None, since nobody knows the commit of a folder.
    """

    role: str
    name: str
    folder: str | None
    revision: str | None
    weight_bytes: int
    download_bytes: int


@dataclass(frozen=True, slots=True)
class VerifyPlan:
    """What verifying a recipe reads and writes; sizes are upper bounds."""

    method: str
    models: tuple[ReadModel, ...]
    output_bytes: int
    scratch: str
    notes: tuple[str, ...]

    @property
    def scratch_bytes(self) -> int:
        """What is written: parents that are downloaded, and the output."""
        return self.output_bytes + sum(model.download_bytes for model in self.models)

    def to_dict(self) -> dict[str, object]:
        """The plan as plain values, for JSON."""
        return {**asdict(self), "scratch_bytes": self.scratch_bytes}

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Role, name, place and size of each model."""
        return [
            (
                model.role,
                model.name.partition("@")[0] if model.role == "parent" else model.name,
                model.folder or f"Hub, {model.revision}",
                bytes_words(model.weight_bytes),
            )
            for model in self.models
        ]

    @property
    def announcement(self) -> str:
        """What is read and written, in a sentence."""
        n_parents = plural(len(self.models) - 1, "parent")
        read = bytes_words(sum(model.weight_bytes for model in self.models))
        on_hub = sum(model.weight_bytes for model in self.models if model.folder is None)
        where = f"{bytes_words(on_hub)} of them from the Hub" if on_hub else "all from this machine"
        return (
            f"{self.method} of {n_parents}: reads {read} of weights, {where}; writes at most "
            f"{bytes_words(self.scratch_bytes)} to {self.scratch}"
        )


@dataclass(frozen=True, slots=True)
class Opened:
    """A recipe, its models ready to be read, and the plan."""

    config: MergeConfig
    child: ModelReader
    parents: Mapping[ModelName, ModelReader]
    plan: VerifyPlan


@contextmanager
def opened(recipe: str, model: str, options: VerifyOptions) -> Iterator[Opened]:
    """Find every model that a recipe needs and read its headers.

    Parameters and errors are those of :func:`lineage.pipeline.verify.verify`.
    """
    config = read_config(recipe)
    with ExitStack() as stack:
        child = stack.enter_context(ModelReader(_child(model, options)))
        _require_weights(child)
        parents = {}
        for name, folder in _folders(config, options).items():
            parents[name] = stack.enter_context(ModelReader(_parent(name, folder, options)))
            _require_weights(parents[name])
            _require_sane_counts(parents[name])
        plan = _plan(config, model, child, parents, options)
        if plan.scratch_bytes > options.max_bytes:
            raise UsageError(
                f"up to {bytes_words(plan.scratch_bytes)} would be written, more than the "
                f"{bytes_words(options.max_bytes)} that --max-bytes allows"
            )
        yield Opened(config, child, parents, plan)


# ---- where models are ------------------------------------------------------------------------


def _child(model: str, options: VerifyOptions) -> LocatedModel:
    if not Path(model).is_dir() and (folder := _in_models(model, options)) is not None:
        return locate_folder(folder)
    return locate(model, options.endpoint, use_cache=True)


def _folders(config: MergeConfig, options: VerifyOptions) -> dict[ModelName, Path | None]:
    """The folder of every model that the recipe names; None: on the Hub."""
    found: dict[ModelName, Path | None] = {}
    taken: dict[tuple[str, Path], ModelName] = {}
    unused = set(options.parents)
    for model in config.named():
        key = str(model) if str(model) in options.parents else model.name
        folder = found[model] = options.parents.get(key) or _in_models(model.name, options)
        unused.discard(key)
        if folder is None:
            continue
        other = taken.setdefault((model.name, folder.resolve()), model)
        if other != model and not {str(other), str(model)} <= set(options.parents):
            raise UsageError(
                f"the recipe names {str(other)!a:.200} and {str(model)!a:.200}, and both would be "
                f"read from {folder}: --parent NAME@REVISION=FOLDER says where each lies"
            )
    if unused:
        raise UsageError(
            f"--parent {min(unused)}: nothing is read from there; the recipe names "
            + ", ".join(f"{str(model)!a:.200}" for model in found)[:500]
        )
    return found


def _parent(model: ModelName, folder: Path | None, options: VerifyOptions) -> LocatedModel:
    """Where a model that the recipe names lies: never a folder of the recipe's choice."""
    if folder is not None:
        if not folder.is_dir():
            raise NotFoundError(f"no folder {folder}, where {model.name} should be")
        return locate_folder(folder)
    if not is_repo_id(model.name):
        raise NotFoundError(
            f"the recipe names {model.name!a:.200}, which is no model id of the form owner/name; "
            "--parent NAME=FOLDER says where it lies"
        )
    return locate_on_hub(model.name, options.endpoint, revision=model.revision, use_cache=True)


def _in_models(name: str, options: VerifyOptions) -> Path | None:
    if options.models is None or not is_repo_id(name):
        return None
    folder = options.models / name
    return folder if folder.is_dir() else None


# ---- what is held against them ---------------------------------------------------------------


def _require_weights(reader: ModelReader) -> None:
    name, report = reader.located.name, reader.headers
    if report.format in ("pickle", "torch"):
        raise HerdbookError(f"the weights of {name} are pickled; only safetensors are read here")
    if report.format != "safetensors" or report.problems:
        reasons = "; ".join(problem.reason for problem in report.problems[:3])
        raise HerdbookError(
            f"the weights of {name} cannot be used: {reasons or 'there are no safetensors'}"
        )


def _require_sane_counts(reader: ModelReader) -> None:
    """Raise unless a parent has a configuration, and promises no endless layers or experts."""
    name, config = reader.located.name, reader.config
    if config is None:
        raise HerdbookError(f"{name} has no config.json, so it cannot be merged")
    for key, value in _values(config, name):
        if _COUNTS.match(key.lower()) and not _number(value) <= _MAX_LAYERS:
            raise HerdbookError(
                f"config.json of {name} states {str(value)[:20]} for {key!a:.100}, at most "
                f"{_MAX_LAYERS} can be merged"
            )
    for tensor in reader.headers.tensors:  # whose numbers mergekit counts layers by
        if any(len(part) > 9 or int(part) > _MAX_LAYERS for part in _PART.findall(tensor.name)):
            raise HerdbookError(f"{name} has a tensor {tensor.name!a:.200}, of no usable layer")


def _values(config: Mapping[str, object], name: str) -> Iterator[tuple[str, object]]:
    """Every value of a configuration with its key; what stands in lists has the key of the list."""
    waiting: list[tuple[str, object, int]] = [("", config, 0)]
    n_values = 0
    while waiting:
        key, value, depth = waiting.pop()
        if not isinstance(value, dict | list):
            yield key, value
            continue
        n_values += len(value)
        if depth >= _MAX_DEPTH or n_values > _MAX_VALUES:
            raise HerdbookError(
                f"config.json of {name} is nested too deeply or has too many values"
            )
        items = value.items() if isinstance(value, dict) else ((key, item) for item in value)
        waiting += [(str(inner), item, depth + 1) for inner, item in items]


def _number(value: object) -> float:
    """The number that mergekit may take a value for; 0 for what is none."""
    if isinstance(value, int):  # of any length
        return min(value, 1 << 62)
    try:
        if isinstance(value, str):
            value = float(value[:5_000])
        return value if isinstance(value, float) else 0.0
    except ValueError:
        return 0.0


def _plan(
    config: MergeConfig,
    model: str,
    child: ModelReader,
    parents: Mapping[ModelName, ModelReader],
    options: VerifyOptions,
) -> VerifyPlan:
    scratch = options.scratch or Path(tempfile.gettempdir())
    if not scratch.is_dir():
        raise NotFoundError(f"no folder {scratch} to write to")
    with_tokenizer = config.tokenizer_source is not None
    models = [_read_model("child", child, model, 0)]
    models += [
        _read_model(
            "parent", reader, str(name), download_bytes(reader, with_tokenizer=with_tokenizer)
        )
        for name, reader in parents.items()
    ]
    extents = {
        name: extent_of(reader.headers.tensors, reader.model_type)
        for name, reader in parents.items()
    }
    return VerifyPlan(
        config.method,
        tuple(models),
        output_bytes(config, extents),
        str(scratch),
        tuple(_notes(config, parents, options)),
    )


def _read_model(role: str, reader: ModelReader, name: str, n_download: int) -> ReadModel:
    located = reader.located
    return ReadModel(
        role,
        name,
        None if located.folder is None else str(located.folder),
        None if located.folder is not None else located.snapshot.ref.revision,
        sum(tensor.stop - tensor.start for tensor in reader.headers.tensors),
        n_download,
    )


def _notes(
    config: MergeConfig, parents: Mapping[ModelName, ModelReader], options: VerifyOptions
) -> Iterator[str]:
    if config.left_out:
        yield f"left out of the recipe, as it changes no weight: {', '.join(config.left_out)}"
    unchecked = [m.name for m, r in parents.items() if m.revision and r.located.folder is not None]
    if unchecked:
        yield (
            "read from folders, whose commits cannot be held against those of the recipe: "
            + ", ".join(dict.fromkeys(unchecked))
        )
    if config.method in RANDOM_METHODS and options.seed is None:
        yield f"{config.method} draws at random: without --seed another draw is compared"

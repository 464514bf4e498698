"""Phylogeny from behaviour: prompts through models, what they say next, and the tree of it.

Each model is run once and kept (:mod:`lineage.pipeline.behaviour.results`); what cannot be run is
told with its reason and passed over. Then the models that were read are compared with one another,
with the lineage that their weights show, and with what they score
(:mod:`lineage.evolution.behaviour`).
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

from crawler.errors import CrawlError
from crawler.records import RepoStatus, is_repo_id
from lineage.errors import HerdbookError, HomeError, NotFoundError, UsageError
from lineage.pipeline.behaviour.alleles import BehaviourSettings
from lineage.pipeline.behaviour.endpoint import Endpoint
from lineage.pipeline.behaviour.models import EndpointRunner, pick_device, transformers_runner
from lineage.pipeline.behaviour.prompts import PromptSet, own_prompts
from lineage.pipeline.behaviour.report import BehaveReport, ModelRow
from lineage.pipeline.behaviour.results import (
    BehaviourKey,
    BehaviourResult,
    load_result,
    save_result,
)
from lineage.pipeline.behaviour.run_record import recorded
from lineage.pipeline.behaviour.staging import require_suitable, stage
from lineage.pipeline.behaviour.study import Observed, Register, read_register, study
from lineage.pipeline.located import LocatedModel, ModelReader, locate_folder, locate_on_hub
from lineage.pipeline.progress import talk
from lineage.pipeline.verdicts import keep_behaviour
from lineage.store.home import Home
from lineage.store.reads import open_for_reading
from lineage.store.snapshots import latest_snapshots

__all__ = ["BehaveOptions", "BehavePlan", "behave", "plan_behave"]

_MAX_REASON = 300
_DRAWS = 32
"""Continuations drawn per prompt at an endpoint, unless the settings say how many."""


@dataclass(frozen=True, slots=True)
class BehaveOptions:
    """What is run, how, and where models are found.

    Attributes
    ----------
    prompts
        Default: our own list.
    device
        ``auto``, ``cpu`` or ``cuda``.
    endpoint
        A model elsewhere, asked besides the others.
    hub
        The Hub; default as of :class:`crawler.client.Hub`.
    models
        A folder laid out as owner/name, looked at before the Hub.
    use_cache
        Whether files that the Hub's client downloaded before are read from its cache.
    limit
        At most so many models are run; those kept do not count.
    n_resamples
        Trees of resampled prompts.
    """

    prompts: PromptSet | None = None
    settings: BehaviourSettings = field(default_factory=BehaviourSettings)
    device: str = "auto"
    endpoint: Endpoint | None = None
    hub: str | None = None
    models: Path | None = None
    use_cache: bool = True
    limit: int | None = None
    n_resamples: int = 200


@dataclass(frozen=True, slots=True)
class BehavePlan:
    """What :func:`behave` would do; nothing was read but names."""

    n_todo: int
    n_kept: int
    n_prompts: int
    prompts: str
    chosen: str
    models: tuple[str, ...]

    def lines(self) -> list[str]:
        """The plan in words."""
        return [
            f"behave: {self.n_todo} models to run at {self.n_prompts} prompts, {self.n_kept} kept",
            f"prompts {self.prompts[:12]}: {self.chosen}",
            *(f"  {name}" for name in self.models),
        ]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A model that was asked for; `locate` is None for that of the endpoint."""

    key: BehaviourKey
    locate: Callable[[], LocatedModel] | None

    @property
    def name(self) -> str:
        return self.key.model

    @property
    def n_samples(self) -> int | None:
        """Draws behind each frequency; at temperature zero nothing is left to chance."""
        return self.key.settings.samples if self.key.settings.temperature else None


def plan_behave(home: Home, names: Sequence[str], options: BehaveOptions) -> BehavePlan:
    """What would be run; of names that the register does not know the Hub is asked the commit.

    Raises
    ------
    NotFoundError
        If there is no register and no name, or a name is neither folder nor model.
    """
    prompts = options.prompts or own_prompts()
    candidates = list(_candidates(home, names, prompts, options))
    folder = _folder(home)
    todo = [
        one.name for one in candidates if load_result(folder, one.key, len(prompts.prompts)) is None
    ]
    return BehavePlan(
        len(todo[: options.limit]),
        len(candidates) - len(todo),
        len(prompts.prompts),
        prompts.digest,
        prompts.chosen,
        tuple(todo[: options.limit]),
    )


def behave(home: Home, names: Sequence[str], options: BehaveOptions) -> BehaveReport:
    """Run what is missing, then make the tree of all that were asked for.

    Parameters
    ----------
    names
        Folders or ids; empty: every readable model of the register.

    Raises
    ------
    NotFoundError
        If there is no register and no name, or a name is neither folder nor model.
    UsageError
        If there is no such device.
    HomeError
        If results cannot be written, or another command holds the register.
    HerdbookError
        If not one model could be run; says why the first could not.
    """
    prompts = options.prompts or own_prompts()
    register = read_register(home)  # before the hours of work, should it be damaged
    candidates = list(_candidates(home, names, prompts, options))
    with recorded(home, len(candidates), prompts, options):
        report = _behave(home, candidates, register, prompts, options)
    keep_behaviour(home, report)
    return report


def _behave(
    home: Home,
    candidates: Sequence[_Candidate],
    register: Register | None,
    prompts: PromptSet,
    options: BehaveOptions,
) -> BehaveReport:
    started = time.monotonic()
    rows: list[ModelRow] = []
    observed: dict[str, Observed] = {}
    n_run = 0
    for number, one in enumerate(candidates, start=1):
        found = load_result(_folder(home), one.key, len(prompts.prompts))
        if found is not None:
            rows.append(_row(one, "kept", found))
        elif options.limit is not None and n_run >= options.limit:
            rows.append(_row(one, "waiting", reason="more than --limit models"))
        else:
            talk(f"[{number}/{len(candidates)}] {one.name}")
            row, found = _run(one, prompts, options, _folder(home))
            rows.append(row)
            n_run += 1
        if found is not None:
            observed[one.name] = Observed(found.alleles, one.n_samples)
    if not observed:
        reasons = [row.reason for row in rows if row.reason]
        raise HerdbookError(
            f"none of {len(rows)} models could be run"
            + (f"; {rows[0].model}: {reasons[0]}" if reasons else "")
        )
    found_out = study(
        observed, register, n_resamples=options.n_resamples, seed=options.settings.seed
    )
    return BehaveReport(
        tuple(rows),
        len(prompts.prompts),
        prompts.digest,
        prompts.chosen,
        options.settings,
        found_out,
        time.monotonic() - started,
    )


def _folder(home: Home) -> Path:
    return home.root / "behaviour"


# ---- which models ----------------------------------------------------------------------------


def _candidates(
    home: Home, names: Sequence[str], prompts: PromptSet, options: BehaveOptions
) -> Iterator[_Candidate]:
    """Every model that was asked for, once."""
    known = _known_revisions(home)
    if not names and options.endpoint is None:
        home.require_database()
    seen: set[str] = set()

    def key(model: str, revision: str, runner: str) -> BehaviourKey:
        seen.add(model)
        settings = options.settings
        if runner == "endpoint" and settings.samples is None:
            settings = replace(settings, samples=_DRAWS)
        return BehaviourKey(model, revision, runner, prompts.digest, settings)

    for name in names or sorted(known):
        folder = _local_folder(name, options, is_typed=bool(names))
        if folder is not None:
            located = locate_folder(folder)
            model = located.snapshot.ref.repo_id
            revision, find = _state(located), _found(located)
        elif not is_repo_id(name):
            raise NotFoundError(f"{name} is neither a folder nor a model id of the form owner/name")
        elif name in known:
            model, revision = name, known[name]
            find = _on_hub(name, revision, options)
        else:
            located = locate_on_hub(name, options.hub, use_cache=options.use_cache)
            model, revision = located.snapshot.ref.repo_id, located.snapshot.ref.revision
            find = _found(located)
        if model not in seen:
            yield _Candidate(key(model, revision, "transformers"), find)
    if options.endpoint is not None:
        asked = options.endpoint
        if asked.model in seen:
            raise UsageError(f"{asked.model} is asked for twice, here and at {asked.shown}")
        yield _Candidate(key(asked.model, asked.shown, "endpoint"), None)


def _known_revisions(home: Home) -> dict[str, str]:
    """Commits of the readable models of the register; empty without one."""
    if not home.database.is_file():
        return {}
    connection = open_for_reading(home)
    try:
        return {
            one.ref.repo_id: one.ref.revision
            for one in latest_snapshots(connection)
            if one.status is RepoStatus.OK
        }
    finally:
        connection.close()


def _local_folder(name: str, options: BehaveOptions, *, is_typed: bool) -> Path | None:
    """Where a model lies on this machine; a name that a stranger chose reaches `models` only."""
    if options.models is not None and is_repo_id(name) and (options.models / name).is_dir():
        return options.models / name
    return Path(name) if is_typed and Path(name).is_dir() else None


def _found(located: LocatedModel) -> Callable[[], LocatedModel]:
    return lambda: located


def _on_hub(name: str, revision: str, options: BehaveOptions) -> Callable[[], LocatedModel]:
    return lambda: locate_on_hub(name, options.hub, revision=revision, use_cache=options.use_cache)


def _state(located: LocatedModel) -> str:
    """Of a folder, whose commit nobody knows: a digest of its files' names, sizes and times."""
    state = sha256()
    for file in located.snapshot.files:
        found = (located.folder or Path()) / file.path
        state.update(f"{file.path}\0{file.size_bytes}\0{found.stat().st_mtime_ns}\n".encode())
    return f"folder:{state.hexdigest()[:40]}"


# ---- running one -----------------------------------------------------------------------------


def _run(
    one: _Candidate, prompts: PromptSet, options: BehaveOptions, folder: Path
) -> tuple[ModelRow, BehaviourResult | None]:
    """Run a model and keep the result; what goes wrong with it is its own matter."""
    started = time.monotonic()
    try:
        result = (_run_here if one.locate else _run_elsewhere)(one, prompts, options)
        result = save_result(folder, one.key, result)
    except (HomeError, UsageError):
        raise
    except Exception as error:  # transformers has no bound on what a stranger's model may raise
        known = isinstance(error, HerdbookError | CrawlError)
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        reason = _plain(reason)
        talk(f"passed over {one.name}: {reason}")
        return _row(one, "skipped", reason=reason, seconds=time.monotonic() - started), None
    return _row(one, "run", result), result


def _plain(reason: str) -> str:
    """A reason, which may quote a stranger's file, on one line and safe for a terminal."""
    line = " ".join(reason.split())[:_MAX_REASON]
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in line)


def _run_here(one: _Candidate, prompts: PromptSet, options: BehaveOptions) -> BehaviourResult:
    device = pick_device(options.device)
    assert one.locate is not None
    started = time.monotonic()
    with (
        ModelReader(one.locate()) as reader,
        tempfile.TemporaryDirectory(prefix="herdbook-behave-") as name,
    ):
        require_suitable(reader)
        staged = Path(name)
        stage(reader, staged)
        n_stored = sum(math.prod(tensor.shape) for tensor in reader.headers.tensors)
        with transformers_runner(staged, device, n_stored) as runner:
            alleles = runner.alleles(prompts.prompts, one.key.settings)
            return BehaviourResult(tuple(alleles), runner.provenance, time.monotonic() - started)


def _run_elsewhere(one: _Candidate, prompts: PromptSet, options: BehaveOptions) -> BehaviourResult:
    assert options.endpoint is not None
    started = time.monotonic()
    runner = EndpointRunner(options.endpoint)
    alleles = runner.alleles(prompts.prompts, one.key.settings)
    return BehaviourResult(tuple(alleles), runner.provenance, time.monotonic() - started)


def _row(
    one: _Candidate,
    outcome: str,
    result: BehaviourResult | None = None,
    *,
    reason: str = "",
    seconds: float = 0.0,
) -> ModelRow:
    unresolved = [
        gene.unresolved for gene in (result.alleles if result else ()) if gene.frequencies
    ]
    return ModelRow(
        one.name,
        one.key.revision,
        one.key.runner,
        outcome,
        reason,
        len(unresolved),
        sum(unresolved) / len(unresolved) if unresolved else None,
        result.seconds if result else seconds,
    )

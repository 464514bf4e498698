"""Reading one model: which bytes are wanted next, and what they become.

The steps ask for bytes and are given them; they do not know whether a Hub, a folder or a cache
answers, nor whether it answers at once. So every path to a model runs the same code.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from crawler.configs import load_json_object
from crawler.errors import CrawlError
from crawler.headers import HeaderReport, header_steps
from crawler.records import FileEntry, RepoRef, RepoSnapshot
from crawler.sources import MeteredSource, PrefixSource
from crawler.spans import Span
from lineage.errors import HerdbookError
from lineage.pipeline.vocabularies import Anchors, Vocabularies, vocabulary_file
from lineage.weights.encodings import is_quantised
from lineage.weights.facts import facts_of
from lineage.weights.fingerprint import Fingerprint, decode_sample, make_fingerprint
from lineage.weights.layout import Layout, lay_out
from lineage.weights.probe import ProbePlan, plan_probe
from lineage.weights.sketch import ModelSketch, StreamSketch
from lineage.weights.stages import BUDGET_BYTES

__all__ = ["Problem", "Reading", "ReadingOptions", "read_model", "require_fingerprint"]

_CONFIGS = ("config.json", "hf_quant_config.json")
_MAX_CONFIG_BYTES = 8 << 20
_FULL_STEP_BYTES = 64 << 20
_MAX_REASON = 500

Wish = Sequence[tuple[str, Sequence[Span]]]
"""Spans of files that are wanted together."""
Answer = list[list[bytes]]
"""Their bytes, in the same order."""


@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """How much to read of a model.

    Attributes
    ----------
    stage
        2: vectors and a few row blocks; 3: a row block of every matrix; 4: everything, of which
        what stage 3 reads is kept and the rest sketched.
    """

    stage: int = 3
    budget_bytes: int = BUDGET_BYTES
    budget_requests: int | None = None
    device: str = "auto"
    memory_bytes: int = 1 << 30


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a file, a tensor, or a whole model could not be read."""

    path: str | None
    code: str
    reason: str


@dataclass(slots=True)
class Reading:
    """What was read of a model, what it cost, and why there is no more.

    Filled in as the steps go on, so that a model that fails half-way still tells what it cost.
    """

    ref: RepoRef
    fingerprint: Fingerprint | None = None
    sketch: ModelSketch | None = None
    format: str | None = None
    weight_bytes: int = 0
    n_tensors: int = 0
    n_unknown: int = 0
    given_up: tuple[str, ...] = ()
    problems: list[Problem] = field(default_factory=list)
    bytes_read: int = 0
    requests: int = 0
    seconds: float = 0.0

    def give_up(self, error: Exception) -> None:
        """Keep nothing of a model that met an error nobody had thought of, and say so."""
        self.fingerprint = self.sketch = None
        reason = f"herdbook failed on it, please report this: {type(error).__name__}: {error}"
        self.problems.append(Problem(None, "fault", reason[:_MAX_REASON]))


Steps = Generator[Wish, Answer, None]


async def read_model(
    source: MeteredSource,
    snapshot: RepoSnapshot,
    options: ReadingOptions,
    vocabularies: Vocabularies,
) -> Reading:
    """Read one model; never raises for what the model, its files or the network did wrong."""
    started = time.monotonic()
    reading = Reading(snapshot.ref)
    metered = PrefixSource(source.meter())
    steps = _steps(snapshot, options, vocabularies, reading)
    try:
        wish = next(steps)
        while True:
            try:
                answer = await _all(metered, snapshot.ref, wish)
            except CrawlError as error:
                wish = steps.throw(error)
            else:
                wish = steps.send(answer)
    except StopIteration:
        pass
    except CrawlError as error:
        reading.problems.append(Problem(None, error.code, str(error)))
    except Exception as error:
        # A fault of ours that one model in a million shows must not cost the others of its batch.
        reading.give_up(error)
    finally:
        steps.close()
    reading.bytes_read, reading.requests = metered.bytes_read, metered.requests
    reading.seconds = time.monotonic() - started
    return reading


async def _all(source: PrefixSource, ref: RepoRef, wish: Wish) -> Answer:
    """What was wished for; nothing is read on once a part of it failed."""
    tasks = [asyncio.ensure_future(source.read(ref, path, spans)) for path, spans in wish]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _steps(
    snapshot: RepoSnapshot, options: ReadingOptions, vocabularies: Vocabularies, reading: Reading
) -> Steps:
    report = yield from _headers(snapshot.files)
    reading.format = report.format
    reading.n_tensors = len(report.tensors)
    reading.problems += [Problem(p.path, p.code, p.reason) for p in report.problems]
    sizes = {file.path: file.size_bytes for file in snapshot.files}
    paths = sorted({entry.path for entry in report.tensors})
    reading.weight_bytes = sum(sizes[path] for path in paths)
    if not report.tensors:
        if not report.problems:
            reading.problems.append(
                Problem(None, "no_weights", "no weight files of a known format")
            )
        return
    config = yield from _config(snapshot.files, reading)
    facts = facts_of(config, report.format, report.metadata)
    layout = lay_out(report.tensors, facts)
    reading.n_unknown = layout.n_unknown
    _tell_passed_over(reading, layout.passed_over)
    anchors = yield from _anchors(snapshot.files, vocabularies, reading)
    try:
        plan = plan_probe(
            layout.weights,
            min(options.stage, 3),
            budget_bytes=options.budget_bytes,
            budget_requests=options.budget_requests,
            facts=facts,
            anchors=anchors.rows,
        )
    except ValueError as error:
        reading.problems.append(Problem(None, "budget", str(error)))
        return
    if options.stage < 4:  # else they are read with everything
        _tell_passed_over(reading, plan.passed_over)
    reading.given_up = plan.given_up
    if not plan.blocks:
        return
    payloads = yield from _payloads(plan)
    if options.stage >= 4:
        reading.sketch = yield from _everything(layout, sizes, options)
    reading.fingerprint = make_fingerprint(
        plan,
        payloads,
        repo_id=snapshot.ref.repo_id,
        revision=snapshot.ref.revision,
        format_name=report.format,
        file_digests=_digests(snapshot.files, paths),
        n_parameters=sum(weight.n_values for weight in layout.weights),
        architecture=facts.model_type,
        tokens=anchors.tokens,
    )
    reading.fingerprint = _decodable(reading.fingerprint, reading)
    if reading.sketch is not None:
        reading.fingerprint = replace(reading.fingerprint, stage=options.stage)


def _headers(files: Sequence[FileEntry]) -> Generator[Wish, Answer, HeaderReport]:
    steps = header_steps(files)
    try:
        path, start, stop = next(steps)
        while True:
            try:
                ((data,),) = yield [(path, [(start, stop)])]
            except CrawlError as error:
                path, start, stop = steps.throw(error)
            else:
                path, start, stop = steps.send(data)
    except StopIteration as done:
        report: HeaderReport = done.value
        return report


def _config(
    files: Sequence[FileEntry], reading: Reading
) -> Generator[Wish, Answer, Mapping[str, object] | None]:
    """The model's configuration; weights can be read without, but not every encoding.

    ModelOpt states the quantisation in a file of its own.
    """
    found: dict[str, object] = {}
    for file in files:
        if file.path not in _CONFIGS or not 0 < file.size_bytes <= _MAX_CONFIG_BYTES:
            continue
        try:
            ((data,),) = yield [(file.path, [(0, file.size_bytes)])]
            stated = load_json_object(data.decode("utf-8", "replace"), file.path)
            found = {**stated, **found} if file.path == _CONFIGS[1] else {**found, **stated}
        except CrawlError as error:
            reading.problems.append(Problem(file.path, error.code, str(error)))
    return found or None


def _anchors(
    files: Sequence[FileEntry], vocabularies: Vocabularies, reading: Reading
) -> Generator[Wish, Answer, Anchors]:
    """Rows of the embedding to read by token."""
    file = vocabulary_file(files)
    if file is None:
        return Anchors()
    known = vocabularies.get(file)
    if known is not None:
        return known
    try:
        ((data,),) = yield [(file.path, [(0, file.size_bytes)])]
        return vocabularies.add(file, data)
    except CrawlError as error:
        reading.problems.append(Problem(file.path, error.code, str(error)))
        return Anchors()


def _payloads(plan: ProbePlan) -> Generator[Wish, Answer, Mapping[tuple[str, int, int], bytes]]:
    """The bytes of every span that the plan wants."""
    wish = list(plan.spans_by_path().items())
    answer = yield wish
    return {
        (path, *span): data
        for (path, spans), found in zip(wish, answer, strict=True)
        for span, data in zip(spans, found, strict=True)
    }


def _everything(
    layout: Layout, sizes: Mapping[str, int], options: ReadingOptions
) -> Generator[Wish, Answer, ModelSketch]:
    """Stream every weight file through the sketch, a step's bytes at a time."""
    sketch = StreamSketch(layout.weights, device=options.device, memory_bytes=options.memory_bytes)
    for path in sorted({part.path for weight in layout.weights for part in weight.parts}):
        for start in range(0, sizes[path], _FULL_STEP_BYTES):
            stop = min(start + _FULL_STEP_BYTES, sizes[path])
            ((data,),) = yield [(path, [(start, stop)])]
            sketch.feed(path, start, data)
    return sketch.finish()


def _decodable(fingerprint: Fingerprint, reading: Reading) -> Fingerprint:
    """The fingerprint without the samples whose scales and tables contradict their codes."""
    failed: list[tuple[str, str]] = []
    kept = {}
    for key, sample in fingerprint.samples.items():
        try:
            if is_quantised(sample.dtype):
                decode_sample(sample)
            kept[key] = sample
        except CrawlError as error:
            failed.append((sample.name, str(error)))
    _tell_passed_over(reading, failed)
    return replace(fingerprint, samples=kept) if failed else fingerprint


def _tell_passed_over(reading: Reading, passed_over: Sequence[tuple[str, str]]) -> None:
    by_reason: dict[str, list[str]] = {}
    for name, reason in passed_over:
        by_reason.setdefault(reason, []).append(name)
    reading.problems += [
        Problem(
            None, "skipped", f"{len(names)} tensors not read: {reason} (first: {names[0]:.200})"
        )
        for reason, names in by_reason.items()
    ]


def _digests(files: Sequence[FileEntry], paths: Sequence[str]) -> tuple[str, ...]:
    known = {file.path: file.sha256 for file in files}
    return tuple(sorted(digest for path in paths if (digest := known.get(path))))


def require_fingerprint(name: str, reading: Reading) -> Fingerprint:
    """The fingerprint of a model that somebody asked for by name.

    Raises
    ------
    HerdbookError
        If it could not be read; says why.
    """
    if reading.fingerprint is None:
        reasons = "; ".join(problem.reason for problem in reading.problems)
        raise HerdbookError(f"the weights of {name} cannot be read: {reasons}")
    return reading.fingerprint

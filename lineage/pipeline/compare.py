"""Two models side by side, without a database: relatedness, direction, kind and shares."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass
from datetime import datetime

from crawler.records import RepoSnapshot
from crawler.sources import MeteredSource
from lineage.errors import NotFoundError
from lineage.explorer.words import p_words
from lineage.infer.assemble import infer_lineage
from lineage.model import Finding, PairTest, PairVerdict
from lineage.pipeline.located import locate
from lineage.pipeline.reading import Reading, ReadingOptions, read_model, require_fingerprint
from lineage.pipeline.vocabularies import Vocabularies
from lineage.weights.fingerprint import Fingerprint
from lineage.weights.stages import BUDGET_BYTES

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the weights of two models say about each other.

    `finding` is the origin of the one that is taken to be the child; None when they are unrelated
    or the direction cannot be told.
    """

    a: str
    b: str
    pair: PairTest
    finding: Finding | None
    bytes_read: int
    weight_bytes: int
    requests: int
    seconds: float

    def to_dict(self) -> dict[str, object]:
        """The comparison as plain values, for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The comparison in words, a fact a line."""
        p_value = "" if self.pair.p_value is None else f" ({p_words(self.pair.p_value)})"
        found = [f"{self.a} and {self.b}: {_VERDICTS[self.pair.verdict]}{p_value}"]
        if self.pair.bit_equality is not None:
            found.append(f"equal words: {100 * self.pair.bit_equality:.2f} %")
        if self.finding is not None:
            shares = ", ".join(f"{s.parent} ({s.weight:.2f})" for s in self.finding.parents)
            if shares:
                found.append(f"{self.finding.child} descends from {shares}")
            found.append(f"kind: {self.finding.kind}, grade: {self.finding.grade}")
            if self.finding.note:
                found.append(self.finding.note)
            if self.finding.layer_map:
                layers = ", ".join(
                    f"{s.child_layer}←{s.parent_layer}" for s in self.finding.layer_map
                )
                found.append(f"layers (child←parent): {layers}")
            found += [f"  {fact.text}" for fact in self.finding.evidence]
        share = self.bytes_read / self.weight_bytes if self.weight_bytes else 0.0
        found.append(
            f"read {self.bytes_read / 1e6:.2f} MB of {self.weight_bytes / 1e6:.2f} MB "
            f"({100 * share:.0f} %) in {self.requests} requests, {self.seconds:.1f} s"
        )
        return found


_VERDICTS = {
    PairVerdict.RELATED: "related",
    PairVerdict.UNRELATED: "no trace of a common origin",
    PairVerdict.COMMON_INIT: "same random initialisation, trained apart",
    PairVerdict.UNTESTABLE: "nothing comparable in their weights",
}


def compare(
    a: str,
    b: str,
    *,
    endpoint: str | None = None,
    budget_bytes: int = BUDGET_BYTES,
) -> Comparison:
    """Compare two models, each a local folder or a Hub id.

    Raises
    ------
    NotFoundError
        If one is neither a folder nor a Hub id, or does not exist.
    HerdbookError
        If the weights of one could not be read; says why.
    """
    started = time.monotonic()
    readings = [_read(name, endpoint, budget_bytes) for name in (a, b)]
    (first, _, _), (second, _, _) = readings
    if first.repo_id == second.repo_id:
        raise NotFoundError(f"{a} and {b} are the same model")
    dates = {fingerprint.repo_id: born for fingerprint, born, _ in readings}
    found = infer_lineage([first, second], dates)
    child = next((f for f in found.findings if f.parents), None)
    if child is None:
        child = next((f for f in found.findings if f.ties), None)
    return Comparison(
        first.repo_id,
        second.repo_id,
        found.pairs[0],
        child,
        sum(cost.bytes_read for _, _, cost in readings),
        sum(cost.weight_bytes for _, _, cost in readings),
        sum(cost.requests for _, _, cost in readings),
        time.monotonic() - started,
    )


@dataclass(frozen=True, slots=True)
class _Cost:
    bytes_read: int
    weight_bytes: int
    requests: int


def _read(
    name: str, endpoint: str | None, budget_bytes: int
) -> tuple[Fingerprint, datetime | None, _Cost]:
    located = locate(name, endpoint)
    reading = asyncio.run(_read_model(located.source, located.snapshot, budget_bytes))
    cost = _Cost(reading.bytes_read, reading.weight_bytes, reading.requests)
    return require_fingerprint(name, reading), located.snapshot.created_at, cost


async def _read_model(source: MeteredSource, snapshot: RepoSnapshot, budget_bytes: int) -> Reading:
    async with source:
        options = ReadingOptions(budget_bytes=budget_bytes)
        return await read_model(source, snapshot, options, Vocabularies())

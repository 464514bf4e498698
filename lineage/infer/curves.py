"""The form of a calibration: log-odds that rise with witnesses, learned for every kind of finding.

What was learned is data (:mod:`.calibration_table`), how it is read off a finding is
:mod:`.calibration`, how it is learned ``benchmarks/zoo/calibrating.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from scipy.special import expit

__all__ = ["Calibration", "Curve", "Slope"]


@dataclass(frozen=True, slots=True)
class Slope:
    """What one witness is worth: `weight` ≥ 0 log-odds per unit above its mean, `centre`."""

    witness: str
    weight: float
    centre: float

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ValueError(f"{self.witness} may not speak against itself: {self.weight}")


@dataclass(frozen=True, slots=True)
class Curve:
    """Logistic regression of "this was right" on witnesses, for one kind of finding.

    `right` of the `n` findings that it was learned on were.
    """

    n: int
    right: int
    intercept: float
    slopes: tuple[Slope, ...] = ()

    def probability(self, witnesses: Mapping[str, float | None]) -> float:
        """Belief in a finding. A witness that is silent (None, or absent) counts for nothing."""
        log_odds = self.intercept
        for slope in self.slopes:
            value = witnesses.get(slope.witness)
            if value is not None:
                log_odds += slope.weight * (value - slope.centre)
        return float(expit(log_odds))


@dataclass(frozen=True, slots=True)
class Calibration:
    """All that was learned on one proving ground, and where.

    Attributes
    ----------
    source
        What it was learned on, in words.
    digest
        sha256 of the ground's truth file.
    learned_on
        The day.
    software
        Version of herdbook whose findings were judged.
    n_families
        Independent families: the findings of one family are not.
    n_findings
        Findings with parents that were learned from.
    parents
        By kind of finding (:func:`.calibration.group_of`), that the named parents are right. For
        kinds with a curve of `direction`: right, or right if parent and child changed places.
    direction
        By kind of finding, that a right pair of parent and child is the right way round.
    """

    source: str
    digest: str
    learned_on: date
    software: str
    n_families: int
    n_findings: int
    parents: Mapping[str, Curve]
    direction: Mapping[str, Curve]

    def bounded(self, probability: float) -> float:
        """`probability`, no nearer to 0 and 1 than the number of findings allows.

        After n findings without an error, error rates up to 3/n are compatible with what was seen
        at 95 % (the rule of three: Hanley & Lippman-Hand 1983); nothing is believed more firmly.
        """
        margin = 3 / max(self.n_findings, 6)
        return min(max(probability, margin), 1 - margin)

"""Scores of claims against a truth: precision, recall, intervals, and every miss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

__all__ = ["ClaimsEvaluation", "Miss", "Score", "wilson"]

_Z95 = 1.959964


@dataclass(slots=True)
class Score:
    """Claims of one source against one truth.

    `claims` are the distinct parents that resolve; `right` of them are in the truth; `expected`
    are the truth's parents and `found` those that were claimed. `texts` counts the cards, records
    or files that were read, `unresolved` the claims that name no Hub id.
    """

    truth: str
    source: str
    texts: int = 0
    claims: int = 0
    right: int = 0
    expected: int = 0
    found: int = 0
    unresolved: int = 0

    @property
    def precision(self) -> float:
        """Share of the claims that are right; NaN without claims."""
        return self.right / self.claims if self.claims else math.nan

    @property
    def recall(self) -> float:
        """Share of the truth's parents that were claimed; NaN without any."""
        return self.found / self.expected if self.expected else math.nan

    def add(self, claimed: set[str], truth: set[str]) -> None:
        """Count one text's claims, as ids in small letters."""
        self.texts += 1
        self.claims += len(claimed)
        self.right += len(claimed & truth)
        self.expected += len(truth)
        self.found += len(claimed & truth)


@dataclass(frozen=True, slots=True)
class Miss:
    """A claim that the truth does not hold (``wrong``), or a parent nobody claimed (``missed``)."""

    truth: str
    source: str
    verdict: str
    child: str
    parent: str
    reason: str


@dataclass(slots=True)
class ClaimsEvaluation:
    """All scores, and every miss with its reason."""

    half: str
    scores: list[Score] = field(default_factory=list)
    misses: list[Miss] = field(default_factory=list)

    columns = (
        "truth", "source", "texts", "claims", "right", "precision", "95 %", "expected", "found",
        "recall", "unresolved",
    )  # fmt: skip

    def score(self, truth: str, source: str) -> Score:
        """The score of one source against one truth, made when it is first asked for."""
        for one in self.scores:
            if (one.truth, one.source) == (truth, source):
                return one
        self.scores.append(Score(truth, source))
        return self.scores[-1]

    def compare(
        self, truth: str, source: str, child: str, claimed: set[str], expected: set[str],
        reasons: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Score one text, and tell its misses."""
        self.score(truth, source).add(claimed, expected)
        told = reasons or {}
        for verdict, parents in (("wrong", claimed - expected), ("missed", expected - claimed)):
            for parent in sorted(parents):
                self.misses.append(
                    Miss(truth, source, verdict, child, parent, told.get(parent, ""))
                )

    def rows(self) -> list[tuple[str, ...]]:
        """The scores as cells of a table."""
        return [
            (
                one.truth, one.source, str(one.texts), str(one.claims), str(one.right),
                _decimals(one.precision), "–".join(map(_decimals, wilson(one.right, one.claims))),
                str(one.expected), str(one.found), _decimals(one.recall), str(one.unresolved),
            )
            for one in self.scores
        ]  # fmt: skip

    def miss_lines(self) -> list[str]:
        """The misses, one a line."""
        return [
            f"{miss.verdict} [{miss.truth}, {miss.source}] {miss.child} <- {miss.parent}"
            + (f": {miss.reason}" if miss.reason else "")
            for miss in self.misses
        ]

    def to_dict(self) -> dict[str, object]:
        """The evaluation as plain values, for JSON."""
        return {
            "half": self.half,
            "scores": [
                {
                    **asdict(one),
                    "precision": one.precision,
                    "precision_low": wilson(one.right, one.claims)[0],
                    "precision_high": wilson(one.right, one.claims)[1],
                    "recall": one.recall,
                }
                for one in self.scores
            ],
            "misses": [asdict(miss) for miss in self.misses],
        }


def _decimals(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"


def wilson(right: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share; NaN without observations.

    >>> tuple(round(end, 3) for end in wilson(98, 100))
    (0.93, 0.994)
    """
    if n == 0:
        return math.nan, math.nan
    share, z2 = right / n, _Z95 * _Z95
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return middle - half, middle + half

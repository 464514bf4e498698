"""A family while it is being resolved: its members, its witnesses, and what is settled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np

from lineage.infer.rooting import date_log_odds
from lineage.model import Finding, Kind
from lineage.weights.fingerprint import Fingerprint

__all__ = [
    "COPY_DATE_LOG_ODDS", "LIKES_LOG_ODDS", "Dates", "Likes", "OpenFamily", "birth",
    "is_made_from", "log_odds_older",
]  # fmt: skip

Dates = Mapping[str, datetime | None]
Likes = Mapping[str, int | None]

COPY_DATE_LOG_ODDS = 1.0
LIKES_LOG_ODDS = 3.0


@dataclass
class OpenFamily:
    """Work in progress on one family: what is settled, and who is left."""

    members: dict[str, Fingerprint]
    dates: Dates
    likes: Likes
    p_values: Mapping[frozenset[str], float]
    findings: dict[str, Finding] = field(default_factory=dict)

    def open_models(self) -> list[str]:
        """Members without a finding."""
        return [name for name in self.members if name not in self.findings]

    def known_parents(self) -> dict[str, tuple[str, ...]]:
        """Parents by child, of everything settled so far."""
        return {
            child: tuple(share.parent for share in finding.parents)
            for child, finding in self.findings.items()
        }

    def settle(self, finding: Finding) -> None:
        """Record a finding, with the family test against its first parent."""
        if finding.parents and finding.p_value is None:
            pair = frozenset((finding.child, finding.parents[0].parent))
            finding = replace(finding, p_value=self.p_values.get(pair))
        self.findings[finding.child] = finding

    def original(self, name: str) -> str:
        """The model that `name` is a byte-for-byte duplicate of, or itself."""
        seen = {name}
        while (finding := self.findings.get(name)) and finding.kind is Kind.DUPLICATE:
            name = finding.parents[0].parent
            if name in seen:
                break
            seen.add(name)
        return name


def log_odds_older(family: OpenFamily, a: str, b: str) -> float:
    """Log-odds that `a` is the original of the equal models `a` and `b`."""
    odds = date_log_odds(b, a, family.dates, cap=COPY_DATE_LOG_ODDS)
    liked_a, liked_b = family.likes.get(a), family.likes.get(b)
    if liked_a is not None and liked_b is not None:
        ratio = float(np.log((liked_a + 1) / (liked_b + 1)))
        odds += float(np.clip(ratio, -LIKES_LOG_ODDS, LIKES_LOG_ODDS))
    return odds


def birth(dates: Dates, name: str) -> tuple[float, str]:
    """Sorts models by upload time, undated ones last."""
    born = dates.get(name)
    return (born.timestamp() if born else float("inf"), name)


def is_made_from(family: OpenFamily, name: str, source: str) -> bool:
    """Whether `name` is settled as made from `source`, or on it as a merge is on its base."""
    finding = family.findings.get(name)
    if finding is None:
        return False
    return finding.base == source or any(share.parent == source for share in finding.parents)

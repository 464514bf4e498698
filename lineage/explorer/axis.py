"""A time axis with ticks at round dates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lineage.explorer.markup import Markup, tag

__all__ = ["TimeAxis"]

_MONTH_STEPS = (1, 2, 3, 6, 12, 24, 60)
_DAY_STEPS = (1, 2, 7, 14)
_LEAST_GAP = 74.0


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """Linear in time between `first` at `left` and `last` at `right` (pixels)."""

    first: datetime
    last: datetime
    left: float
    right: float

    @classmethod
    def over(cls, dates: Sequence[datetime], left: float, right: float) -> TimeAxis:
        """An axis that just holds `dates`; a day around one date, any day for none."""
        first = min(dates, default=datetime(2024, 1, 1, tzinfo=UTC)).astimezone(UTC)
        last = max(dates, default=first).astimezone(UTC)
        if last - first < timedelta(days=1):
            first, last = first - timedelta(days=15), last + timedelta(days=15)
        return cls(first, last, left, right)

    def x(self, when: datetime) -> float:
        """Pixels of a moment."""
        share = (when - self.first) / (self.last - self.first)
        return self.left + share * (self.right - self.left)

    def ticks(self) -> list[tuple[float, str]]:
        """Position and words of the ticks, never closer than a label is wide."""
        per_day = (self.right - self.left) / ((self.last - self.first) / timedelta(days=1))
        for days in _DAY_STEPS:
            if days * per_day >= _LEAST_GAP:
                return self._days(days)
        months = next((m for m in _MONTH_STEPS if m * 30.4 * per_day >= _LEAST_GAP), 120)
        return self._months(months)

    def _days(self, step: int) -> list[tuple[float, str]]:
        when = self.first.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        found: list[tuple[float, str]] = []
        while when <= self.last:
            found.append((self.x(when), f"{when:%-d %b %Y}"))
            when += timedelta(days=step)
        return found

    def _months(self, step: int) -> list[tuple[float, str]]:
        found: list[tuple[float, str]] = []
        month = self.first.year * 12 + self.first.month - 1
        month += -month % step
        while True:
            when = datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC)
            if when > self.last:
                return found
            if when >= self.first:
                words = f"{when:%Y}" if step % 12 == 0 else f"{when:%b %Y}"
                found.append((self.x(when), words))
            month += step

    def draw(self, top: float, bottom: float) -> Markup:
        """Thin vertical lines with their dates above them."""
        parts = []
        for x, words in self.ticks():
            parts.append(tag("path", d=f"M{x:.1f} {top:.1f}V{bottom:.1f}"))
            parts.append(tag("text", words, x=f"{x:.1f}", y=f"{top - 7:.1f}"))
        return tag("g", *parts, class_="axis", aria_hidden="true")

"""The Hub's budgets of requests: what its answers state, less what is under way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from crawler.answers import MAX_WAIT_S

if TYPE_CHECKING:
    from huggingface_hub.utils._http import RateLimitInfo

__all__ = ["Budget", "Budgets"]

_ROUNDING_S = 1.5  # servers state whole seconds


@cache
def _parser() -> Callable[[Mapping[str, str]], RateLimitInfo | None]:
    """The client's reader of these headers; to import it for every answer would take as long."""
    from huggingface_hub.utils import parse_ratelimit_headers

    return parse_ratelimit_headers


@dataclass(frozen=True, slots=True)
class Budget:
    """Requests left of one of the Hub's two budgets (``api``, ``resolvers``), and until when.

    `reset_s` is on the client's own clock. Requests under way are counted as spent.
    """

    resource: str
    remaining: int
    reset_s: float


class Budgets:
    """What is left of each budget; shared by all threads and by the asynchronous client."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.n_requests = 0
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, Budget] = {}
        self._under_way: dict[str, int] = {}

    def known(self) -> tuple[Budget, ...]:
        """What the server stated; a window that is over is left out."""
        with self._lock:
            now = self._clock()
            return tuple(b for _, b in sorted(self._known.items()) if b.reset_s > now)

    def is_known(self, resource: str) -> bool:
        """Whether the server stated a budget whose window is not over."""
        with self._lock:
            budget = self._known.get(resource)
            return budget is not None and budget.reset_s > self._clock()

    def take(self, resource: str | None) -> Budget | None:
        """Count one request as under way, or return the budget that has none left for it.

        Then one waits for :meth:`wait_s`, calls :meth:`forget` and tries again. A request without
        `resource` spends no budget and is only counted.
        """
        with self._lock:
            now = self._clock()
            budget = self._known.get(resource) if resource is not None else None
            if budget is not None and budget.reset_s <= now:
                del self._known[budget.resource]
                budget = None
            if budget is not None and budget.remaining <= 0:
                return budget
            if budget is not None:
                left = Budget(budget.resource, budget.remaining - 1, budget.reset_s)
                self._known[budget.resource] = left
            self.n_requests += 1
            if resource is not None:
                self._under_way[resource] = self._under_way.get(resource, 0) + 1
            return None

    def wait_s(self, budget: Budget) -> float:
        """Seconds until the window of a budget is over."""
        return max(0.0, budget.reset_s - self._clock())

    def forget(self, budget: Budget) -> None:
        """The window of a budget was waited for."""
        with self._lock:
            if self._known.get(budget.resource) is budget:
                del self._known[budget.resource]

    def done(self, resource: str | None) -> None:
        """A request that was taken is no longer under way."""
        if resource is not None:
            with self._lock:
                self._under_way[resource] -= 1

    def note(self, headers: Mapping[str, str]) -> None:
        """Remember what the server says is left, less what is under way and it has not seen."""
        if "ratelimit" not in headers:
            return
        info = _parser()(headers)
        if info is None:
            return
        now = self._clock()
        reset_s = now + min(float(info.reset_in_seconds), MAX_WAIT_S)
        with self._lock:
            others = max(0, self._under_way.get(info.resource_type, 1) - 1)
            remaining = max(0, info.remaining - others)
            known = self._known.get(info.resource_type)
            if known is not None and now < known.reset_s and reset_s <= known.reset_s + _ROUNDING_S:
                # The same window: answers overtake each other, but what is left only falls.
                remaining, reset_s = min(remaining, known.remaining), known.reset_s
            self._known[info.resource_type] = Budget(info.resource_type, remaining, reset_s)

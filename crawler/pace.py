"""How many requests one host has under way: more while it answers, half when it cannot keep up.

Additive increase and multiplicative decrease, after a doubling start: D.-M. Chiu and R. Jain,
"Analysis of the increase and decrease algorithms for congestion avoidance in computer networks",
Computer Networks and ISDN Systems 17 (1989).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

__all__ = ["Pace"]

_FIRST_LIMIT = 8


class Pace:
    """Admits requests to one host, first come first served; of one event loop.

    Parameters
    ----------
    most
        Most requests under way at any time.
    clock, sleep
        Injected by tests.

    Attributes
    ----------
    limit
        Requests admitted at once just now; a fraction is a part of the next one earned.
    """

    def __init__(
        self,
        most: int,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        if most < 1:
            raise ValueError(f"at least one request must be admitted, not {most}")
        self.limit = float(min(most, _FIRST_LIMIT))
        self.under_way = 0
        self._most = most
        self._clock = clock
        self._sleep = sleep
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._resume_s = float("-inf")
        self._n_admitted = 0
        self._halved_at = 0
        self._doubling = True

    async def enter(self) -> int:
        """Wait for admission; returns the number of the request, to :meth:`leave` with."""
        if self.under_way >= int(self.limit) or self._waiting:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():  # admitted and cancelled in one moment
                    self.leave()
                raise
        else:
            self.under_way += 1
        try:
            while (wait_s := self._resume_s - self._clock()) > 0:
                await self._sleep(wait_s)
        except BaseException:
            self.leave()
            raise
        self._n_admitted += 1
        return self._n_admitted

    def leave(self) -> None:
        """A request is no longer under way: the next is admitted."""
        self.under_way -= 1
        while self._waiting and self.under_way < int(self.limit):
            turn = self._waiting.popleft()
            if not turn.done():  # else its request was cancelled
                self.under_way += 1
                turn.set_result(None)

    def succeeded(self) -> None:
        """A request was answered; only what was made use of earns more."""
        if self.under_way >= int(self.limit):
            earned = 1.0 if self._doubling else 1.0 / self.limit
            self.limit = min(float(self._most), self.limit + earned)

    def overloaded(self, number: int, wait_s: float = 0.0) -> None:
        """Request `number` was refused or stalled: halve once for all that were under way then.

        `wait_s` is what the host asks everybody to wait.
        """
        self._resume_s = max(self._resume_s, self._clock() + wait_s)
        if number > self._halved_at:
            self.limit = max(1.0, self.limit / 2)
            self._halved_at = self._n_admitted
            self._doubling = False

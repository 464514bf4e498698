"""Bring chunks of host memory to the device while it computes on those before.

On CUDA two pinned buffers and two device buffers take turns: the host fills one while the other is
copied (on a stream of its own) and the chunk before is computed on. On the CPU there is one buffer
and nothing is copied.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Staging"]


class Staging:
    """Buffers of `n_bytes` between host and device.

    Parameters
    ----------
    device
        Where chunks go.
    n_bytes
        Longest chunk.

    Examples
    --------
    >>> staging = Staging(torch.device("cpu"), 4)
    >>> staging.fill(3)[:] = (1, 2, 3)
    >>> staging.send()
    tensor([1, 2, 3], dtype=torch.uint8)
    >>> staging.release()
    """

    def __init__(self, device: torch.device, n_bytes: int) -> None:
        self._device = device
        self._cuda = device.type == "cuda"
        turns = 2 if self._cuda else 1
        self._host = [
            torch.empty(n_bytes, dtype=torch.uint8, pin_memory=self._cuda) for _ in range(turns)
        ]
        self._turn, self._used = 0, 0
        if self._cuda:
            self._there = [
                torch.empty(n_bytes, dtype=torch.uint8, device=device) for _ in range(turns)
            ]
            self._copying = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._copied = [_event() for _ in range(turns)]
            self._computed = [_event() for _ in range(turns)]

    def fill(self, n_bytes: int) -> NDArray[np.uint8]:
        """Host memory for the next chunk; waits until the copy that last used it is over."""
        if self._cuda:
            self._copied[self._turn].synchronize()
        self._used = n_bytes
        return self._host[self._turn][:n_bytes].numpy()

    def send(self) -> Tensor:
        """The filled chunk on the device; valid until :meth:`release`.

        The stream that is current waits for the copy, the host does not.
        """
        host = self._host[self._turn][: self._used]
        if not self._cuda:
            return host
        there = self._there[self._turn][: self._used]
        with torch.cuda.stream(self._copying):
            # The chunk that lay there two turns ago must be done with.
            self._copying.wait_event(self._computed[self._turn])
            there.copy_(host, non_blocking=True)
            self._copied[self._turn].record(self._copying)
        torch.cuda.current_stream(self._device).wait_event(self._copied[self._turn])
        return there

    def release(self) -> None:
        """Say that all work on the chunk has been enqueued."""
        if self._cuda:
            self._computed[self._turn].record(torch.cuda.current_stream(self._device))
            self._turn = 1 - self._turn


def _event() -> torch.cuda.Event:
    return torch.cuda.Event()  # type: ignore[no-untyped-call]

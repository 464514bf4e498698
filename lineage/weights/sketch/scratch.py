"""Working memory that chunk after chunk uses again."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["Scratch"]


class Scratch:
    """Buffers of one device, each as long as the longest that was asked for.

    Large blocks that are freed go back to the system, and the faults of fresh pages cost several
    times what a pass over the values costs.

    Examples
    --------
    >>> scratch = Scratch(torch.device("cpu"))
    >>> scratch.take("values", (2, 3), torch.float32).shape
    torch.Size([2, 3])
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._held: dict[str, Tensor] = {}

    def take(self, use: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """The buffer of that use, whatever it holds, in the shape that is needed now."""
        n_bytes = math.prod(shape) * dtype.itemsize
        held = self._held.get(use)
        if held is None or len(held) < n_bytes:
            held = self._held[use] = torch.empty(n_bytes, dtype=torch.uint8, device=self._device)
        return held[:n_bytes].view(dtype).view(shape)

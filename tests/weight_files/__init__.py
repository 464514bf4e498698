"""Model folders as the real libraries write them, for the behaviour suite over all formats.

Every module of this package may export ``WRITERS``: functions that write a model into an empty
folder and tell what the library that owns the format reads back.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Written:
    """A model folder and what it means.

    Attributes
    ----------
    folder
        Weight files, and ``config.json`` where the format has one.
    truth
        Values by the key's text (``q@0``), in the orientation of `Weight.shape`: as the owner of
        the format reads them back, rows in the original's order, shifts taken off, fused weights
        apart.
    works_in
        Dtype that the owner computes values in: ours, rounded to it, must be equal bit for bit.
    originals
        Values before they were quantised, where containment is asked; at least `contained` of
        them must round to the stored codes.
    """

    folder: Path
    truth: Mapping[str, F32]
    works_in: str = "F32"
    originals: Mapping[str, F32] = field(default_factory=dict)
    contained: float = 1.0


def _writers() -> dict[str, Callable[[Path], Written]]:
    found: dict[str, Callable[[Path], Written]] = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        loaded = importlib.import_module(f"{__name__}.{module.name}")
        found.update(getattr(loaded, "WRITERS", {}))
    return found


WRITERS = _writers()

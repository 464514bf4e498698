"""Values made of what JSON knows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime

__all__ = ["plain"]


def plain(value: object) -> object:
    """`value` made of what JSON knows: dataclasses become objects, NaN and infinity None.

    Numbers of numpy become Python's; what is none of all this, its text.

    Examples
    --------
    >>> plain({"a": (1, float("nan")), "b": datetime(2025, 1, 31)})
    {'a': [1, None], 'b': '2025-01-31T00:00:00'}
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(one) for one in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float):
        return value
    # A number of numpy, which every command would have to import for this at its start.
    if getattr(value, "shape", None) == ():
        return plain(value.item())  # type: ignore[attr-defined]
    return str(value)

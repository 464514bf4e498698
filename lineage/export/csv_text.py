"""Rows as CSV that a spreadsheet does not run: the one writer of all exports."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence

__all__ = ["csv_text"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_text(header: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    r"""CSV with a header; missing values (None, NaN) are empty.

    Text that a spreadsheet would take for a formula gets a leading apostrophe.

    Examples
    --------
    >>> csv_text(["model", "n"], [["a/b", 3], ["=1+1", None]])
    "model,n\na/b,3\n'=1+1,\n"
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return out.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value

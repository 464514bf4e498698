"""A table of any types as one that every file format and every viewer knows."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["plain_table", "words_of"]


def plain_table(table: pa.Table) -> pa.Table:
    """The table with distinct names, and with types that every file format knows.

    Truth values, numbers, text, dates and times with dates stay; all else becomes text.
    """
    import pyarrow as pa

    names: list[str] = []
    for name in table.column_names:
        stem, number = name.strip() or "column", 1
        unique = stem
        while unique in names:
            number += 1
            unique = f"{stem}_{number}"
        names.append(unique)
    columns = []
    for column in table.columns:
        if isinstance(column.type, pa.BaseExtensionType):
            column = column.cast(column.type.storage_type)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if not _is_plain(column.type):
            words = [None if value is None else words_of(value) for value in column.to_pylist()]
            column = pa.chunked_array([pa.array(words, pa.string())])
        columns.append(column)
    return pa.table(columns, names=names) if columns else table


def _is_plain(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return any(
        test(kind)
        for test in (
            pa.types.is_boolean,
            pa.types.is_integer,
            pa.types.is_floating,
            pa.types.is_decimal,
            pa.types.is_string,
            pa.types.is_large_string,
            pa.types.is_timestamp,
            pa.types.is_date,
        )
    )


def words_of(value: object) -> str:
    """A value that no column type of a file holds, as text: lists and structures as JSON."""
    import pyarrow as pa

    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, pa.MonthDayNano):
        return f"{value.months} months {value.days} days {value.nanoseconds / 1e9:g} s"
    if isinstance(value, list | dict):
        return json.dumps(_finite(value), ensure_ascii=False, default=str)
    return str(value)


def _finite(value: object) -> object:
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value

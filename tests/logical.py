"""Compares two working databases in their logical content, value for value.

Every table of the working schema is compared, as the multiset of its rows: rows are lists of
columns in the order of the declaration, values are compared by type and by every bit that their
written form has. The order in which rows lie on disk does not count, how often a row is there does.

Left out, and nothing else:

- ``run``: wall-clock times, process environment, and one row for every start of a command. A crawl
  that was killed and begun again has more starts than one that was not.
- ``sweep.sweep_id``: a serial number.
- ``sweep.scope``: the name under which a walk's pages stand in the archive; it counts the runs.
- With `walks` (kills only), sweeps of other kinds. A run that begins after a census is through
  makes an increment and a re-check, as every night does: a crawl killed among the details has more
  walks to its name. What those walks say of repositories is compared like everything else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import TypeAlias

import duckdb

from lineage.store.home import Home
from lineage.store.schema import WORKING

Row: TypeAlias = tuple[str, ...]
Content: TypeAlias = dict[str, Counter[Row]]

NOT_COMPARED = {"run"}
COLUMNS_NOT_COMPARED = {("sweep", "sweep_id"), ("sweep", "scope")}


def columns_of(table_name: str) -> list[str]:
    """The columns of a table that are compared, in their order."""
    (table,) = [table for table in WORKING if table.name == table_name]
    return [
        column.name
        for column in table.columns
        if (table_name, column.name) not in COLUMNS_NOT_COMPARED
    ]


def logical_content(
    source: Home | duckdb.DuckDBPyConnection, *, walks: str | None = None
) -> Content:
    """The rows of every table that is compared; `walks` keeps the sweeps of one kind alone."""
    connection = source.open_working() if isinstance(source, Home) else source
    try:
        content: Content = {}
        for table in WORKING:
            if table.name in NOT_COMPARED:
                continue
            names = ", ".join(f'"{name}"' for name in columns_of(table.name))
            only = f" WHERE kind = '{walks}'" if walks and table.name == "sweep" else ""
            rows = connection.execute(f'SELECT {names} FROM "{table.name}"{only}').fetchall()
            content[table.name] = Counter(tuple(map(repr, row)) for row in rows)
        return content
    finally:
        if connection is not source:
            connection.close()


def differences(found: Content, expected: Content, *, but: Collection[str] = ()) -> list[str]:
    """What one content has and the other has not, a line each; empty when they are equal.

    `but` are tables that are passed over.
    """
    lines = []
    for table in sorted((found.keys() | expected.keys()) - set(but)):
        ours, theirs = found.get(table, Counter()), expected.get(table, Counter())
        for sign, rows in (("+", ours - theirs), ("-", theirs - ours)):
            lines += [f"{sign} {n}x {table} {' | '.join(row)}" for row, n in sorted(rows.items())]
    return lines

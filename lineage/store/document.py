"""Writes ``docs/data-model.md`` from the declared schema, or checks that it is up to date."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lineage.store.schema import PUBLISHED, SCHEMA_VERSION, WORKING, Table

__all__ = ["data_model", "main"]

_INTRODUCTION = """# Data model

<!-- Made from lineage/store/schema.py by `python -m lineage.store.document docs/data-model.md`. -->

Schema version {version}. Two databases share these tables. The **working** database
(`HOME/herdbook.duckdb`) is written by the pipeline alone. The **published** one
(`HOME/published/`, named by `manifest.json`) is a compact, read-only copy that the explorer and the
commands read. *Claims* (what somebody said) and *findings* (what the weights show) live in separate
tables and are never overwritten: claims have `first_seen` and `last_seen`, findings `valid_from`
and `valid_to`. An *edge* is made of both when the database is published.

A value that is not known is NULL, never zero. Times are UTC.
"""


def _section(table: Table, where: str) -> str:
    key = f" Key: {', '.join(f'`{column}`' for column in table.key)}." if table.key else ""
    indexed = ", ".join(f"`{column}`" for column in table.looked_up)
    if indexed:
        key += f" Indexed: {indexed}."
    lines = [
        f"## `{table.name}`",
        "",
        f"{table.doc} ({where}.){key}",
        "",
        "| column | type | meaning |",
        "|---|---|---|",
    ]
    lines += [f"| `{c.name}` | {c.type} | {c.doc} |" for c in table.columns]
    return "\n".join(lines)


def data_model() -> str:
    """The page's text."""
    published = {table.name for table in PUBLISHED}
    working = {table.name for table in WORKING}
    sections = [
        _section(table, "working and published" if table.name in published else "working")
        for table in WORKING
    ]
    sections += [_section(table, "published") for table in PUBLISHED if table.name not in working]
    return "\n\n".join([_INTRODUCTION.format(version=SCHEMA_VERSION).rstrip(), *sections]) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write the page, or with ``--check`` compare it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("--check", action="store_true", help="fail if the page is out of date")
    options = parser.parse_args(arguments)
    if not options.check:
        options.page.write_text(data_model(), encoding="utf-8")
        return 0
    if options.page.is_file() and options.page.read_text(encoding="utf-8") == data_model():
        return 0
    print(
        f"{options.page} is out of date: python -m lineage.store.document {options.page}",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())

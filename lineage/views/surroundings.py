"""What stands beside a lineage drawing: the line of descent, the family, counts and traits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb

from lineage.store import published_births, published_clades
from lineage.views.records import card_of, zoned
from lineage.views.rows import ModelCard

__all__ = [
    "Density",
    "Observed",
    "density",
    "history",
    "line",
    "trait_names",
    "trait_values",
]


@dataclass(frozen=True, slots=True)
class Observed:
    """Counts of one model at one moment; None where they were not told."""

    when: datetime
    downloads_30d: int | None
    likes: int | None


@dataclass(frozen=True, slots=True)
class Density:
    """A clade on a grid of drawing position and time.

    `cells` are ``(row, column, count)``; the grid covers `pos` to ``pos + size`` and `first` to
    `last`, which are None where no member has a date.
    """

    founder: str
    pos: int
    size: int
    n_rows: int
    n_columns: int
    cells: tuple[tuple[int, int, int], ...]
    first: datetime | None
    last: datetime | None


def line(cursor: duckdb.DuckDBPyConnection, model: ModelCard) -> tuple[str, ...]:
    """Names from the founder to the model along first parents, both included."""
    if model.founder == model.repo_id:
        return (model.repo_id,)
    founder = card_of(published_clades.models_named(cursor, [model.founder])[0])
    return tuple(name for name, _ in published_clades.line_to(cursor, founder.pos, model.pos))


def density(
    cursor: duckdb.DuckDBPyConnection, founder: str, n_rows: int, n_columns: int
) -> Density | None:
    """The clade of a founder on a grid; None when the register does not know it."""
    rows = published_clades.models_named(cursor, [founder])
    if not rows:
        return None
    card = card_of(rows[0])
    cells, span = published_births.density(
        cursor, card.pos, card.pos + card.size, n_rows, n_columns
    )
    first, last = zoned(span)
    return Density(
        founder, card.pos, card.size, n_rows, n_columns,
        tuple((row, column, n) for row, column, n in cells), first, last,
    )  # fmt: skip


def history(
    cursor: duckdb.DuckDBPyConnection, repo_id: str, limit: int = 400
) -> tuple[Observed, ...]:
    """The latest counts of a model in order of time."""
    rows = published_births.history_of(cursor, repo_id, limit)
    return tuple(Observed(*zoned(row)) for row in rows)


def trait_names(cursor: duckdb.DuckDBPyConnection, limit: int = 200) -> tuple[str, ...]:
    """Names of measured traits, those of most models first."""
    return tuple(published_clades.trait_names(cursor, limit))


def trait_values(
    cursor: duckdb.DuckDBPyConnection, name: str, repo_ids: Sequence[str]
) -> dict[str, float]:
    """The mean of each model's values of one trait; models without any are left out."""
    return dict(published_clades.trait_values(cursor, name, repo_ids))

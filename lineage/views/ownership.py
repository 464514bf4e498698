"""An owner of models: what they made, of whom, who builds upon it, and what was declared of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import duckdb

from lineage.store import published_owners
from lineage.store.published_owners import ORDERS
from lineage.views.records import card_of, zoned
from lineage.views.rows import Family, ModelCard

__all__ = [
    "ORDERS",
    "Owner",
    "TopOwner",
    "near_owners",
    "owner",
    "owner_models",
    "top_owners",
]

_LISTED = 12


@dataclass(frozen=True, slots=True)
class Owner:
    """What an owner's models come to.

    Attributes
    ----------
    downloads_30d, likes
        Sums over the models that state them; None where none does.
    n_built_upon
        Models that others made of this owner's, each counted once.
    verdicts
        Number of parents of the owner's models by verdict.
    parents, users
        Models of others that are built upon most, and owners who build upon this one most, with
        the number of models made.
    """

    name: str
    n_models: int
    n_derived: int
    downloads_30d: int | None
    likes: int | None
    first: datetime | None
    latest: datetime | None
    n_built_upon: int
    verdicts: dict[str, int]
    parents: tuple[Family, ...]
    users: tuple[Family, ...]


@dataclass(frozen=True, slots=True)
class TopOwner:
    """An owner, the number of models, and of children that these have."""

    name: str
    n_models: int
    n_children: int


def owner(cursor: duckdb.DuckDBPyConnection, name: str) -> Owner | None:
    """One owner, or None when no model of the register is theirs."""
    n_models, n_derived, downloads, likes, first, latest, n_built_upon = zoned(
        published_owners.owner_totals(cursor, name)
    )
    if not n_models:
        return None
    verdicts = {str(word): int(n) for word, n in published_owners.owner_verdicts(cursor, name)}
    parents = published_owners.owner_parents(cursor, name, _LISTED)
    users = published_owners.owner_users(cursor, name, _LISTED)
    return Owner(
        name,
        n_models,
        n_derived,
        downloads,
        likes,
        first,
        latest,
        n_built_upon,
        verdicts,
        tuple(Family(*row) for row in parents),
        tuple(Family(*row) for row in users),
    )


def owner_models(
    cursor: duckdb.DuckDBPyConnection, name: str, order: str, limit: int, offset: int = 0
) -> tuple[ModelCard, ...]:
    """A page of an owner's models, in one of the orders :data:`ORDERS`."""
    return tuple(
        card_of(row) for row in published_owners.owner_models(cursor, name, order, limit, offset)
    )


def near_owners(cursor: duckdb.DuckDBPyConnection, text: str, limit: int = 8) -> tuple[Family, ...]:
    """Owners whose names look most like `text`, with their number of models."""
    return tuple(Family(*row) for row in published_owners.near_owners(cursor, text, limit))


def top_owners(cursor: duckdb.DuckDBPyConnection, limit: int = 12) -> tuple[TopOwner, ...]:
    """Owners whose models have most children."""
    return tuple(TopOwner(*row) for row in published_owners.top_owners(cursor, limit))

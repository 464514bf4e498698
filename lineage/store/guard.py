"""Refuses to publish what a crawl suddenly lost: models, or what was known of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import duckdb

from lineage.errors import HerdbookError, NotFoundError, SchemaError
from lineage.settings import GuardSettings
from lineage.store.home import Home
from lineage.store.publication import read_manifest
from lineage.store.reads import LATEST

__all__ = ["Loss", "count_coverage", "find_losses", "require_no_losses"]

_COUNTS = f"""
    WITH latest AS (SELECT * FROM ({LATEST}) WHERE status = 'ok')
    SELECT count(*) AS models, count(licence) AS licences, count(pipeline_tag) AS tasks,
           count(*) FILTER (len(tags) > 0) AS tags, count(parameters) AS parameters,
           (SELECT count(DISTINCT child) FROM claim WHERE ended_at IS NULL
            AND child IN (SELECT repo_id FROM latest)) AS declared_parents
    FROM latest
"""


@dataclass(frozen=True, slots=True)
class Loss:
    """What is lost against the publication before: how many had it, and have it now."""

    what: str
    before: int
    now: int

    @property
    def share(self) -> float:
        """Share that is lost."""
        return 1.0 - self.now / self.before

    def __str__(self) -> str:
        return f"{self.what} {self.before} → {self.now} (−{100 * self.share:.1f} %)"


def find_losses(
    before: Mapping[str, int], now: Mapping[str, int], settings: GuardSettings
) -> tuple[Loss, ...]:
    """What `now` has lost beyond the settings' shares; losses of a few models are none.

    Metadata that vanish with their models are the models' loss: they are counted as shares of the
    models there are.

    Examples
    --------
    >>> before, now = {"models": 1000, "licences": 800}, {"models": 980, "licences": 400}
    >>> [str(loss) for loss in find_losses(before, now, GuardSettings())]
    ['licences 784 → 400 (−49.0 %)']
    """
    losses = []
    n_models = before.get("models", 0)
    kept = min(1.0, now["models"] / n_models) if n_models else 1.0
    for what, count in before.items():
        expected = count if what == "models" else round(count * kept)
        loss = Loss(what, expected, now.get(what, 0))
        allowed = settings.lost_models if what == "models" else settings.lost_metadata
        lost = loss.before - loss.now
        if lost > max(settings.few, allowed * loss.before):
            losses.append(loss)
    return tuple(losses)


def require_no_losses(home: Home, now: Mapping[str, int], settings: GuardSettings) -> None:
    """Compare counts with those of the current publication.

    Raises
    ------
    HerdbookError
        If more was lost than the settings allow; it says what, and what to do.
    """
    try:
        before = read_manifest(home).counts
    except (NotFoundError, SchemaError):
        return  # nothing to compare with
    losses = find_losses(before, now, settings)
    if losses:
        raise HerdbookError(
            f"not published, for the last crawl lost too much: {'; '.join(map(str, losses))}. "
            "Crawl again; if this is right, publish with --accept-losses, or allow more under "
            f"[guard] in {home.root / 'settings.toml'}"
        )


def count_coverage(connection: duckdb.DuckDBPyConnection, *, with_claims: bool) -> dict[str, int]:
    """How many models can be read, and how many of these have a licence, a task, tags and so on.

    Declared parents are counted only where claims are published.
    """
    cursor = connection.execute(_COUNTS)
    names = [column[0].replace("_", " ") for column in cursor.description or ()]
    (row,) = cursor.fetchall()
    counts = dict(zip(names, row, strict=True))
    if not with_claims:
        counts.pop("declared parents")
    return counts

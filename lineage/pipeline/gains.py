"""Likes and downloads gained, as fitness, from the history of counts that the register keeps.

The Hub's `downloads` are those of the last thirty days: two of them that overlap say nothing of
what was gained between. Differences are therefore taken of likes and of downloads of all time
only, and a model that was seen once has none.
"""

from __future__ import annotations

from datetime import UTC, datetime

import duckdb
import numpy as np
from numpy.typing import NDArray

from lineage.errors import NotFoundError
from lineage.evolution.gains import COARSEST, LEAST_DAYS, gained_per_day, total_at
from lineage.evolution.selection.fitness import Fitness
from lineage.pipeline.population import LEAST_MEASURED, Observed, Studied, birth_day, summed
from lineage.store.snapshots import Counted, Total, counts_around, first_and_last_counts

__all__ = ["gained_between_observations", "gained_in_window"]

Floats = NDArray[np.float64]

_WORDS = {Total.LIKES: "likes", Total.DOWNLOADS: "downloads"}
_COUNTED = {Total.LIKES: "likes", Total.DOWNLOADS: "downloads of all time"}
_EARLIER = "enter earlier counts by `herdbook ingest downloads FILE`"


def gained_between_observations(
    connection: duckdb.DuckDBPyConnection, studied: Studied, total: Total
) -> Fitness:
    """Likes or downloads that models and their copies gained, per day between two observations.

    Raises
    ------
    NotFoundError
        If fewer than three models were seen twice a week apart; says what was seen and is missing.
    """
    rows = _of_register(studied, first_and_last_counts(connection, total))
    rates = gained_per_day(*_columns(rows))
    values = _of_originals(studied, rows, rates)
    n_known = int(np.isfinite(values).sum())
    if n_known < LEAST_MEASURED:
        raise NotFoundError(_seen_once(rows, total, n_known))
    n_fell = sum(one.last < one.first for one in rows)
    fell = f", and {n_fell} whose count fell" if n_fell else ""
    return Fitness(
        f"{total.name.lower()}_gained_per_day",
        values,
        f"fitness: {_COUNTED[total]} gained between a model's first and last observation, per day "
        f"between them; left out are models not seen twice at least {LEAST_DAYS:g} d apart{fell}",
    )


def gained_in_window(
    connection: duckdb.DuckDBPyConnection,
    observed: Observed,
    studied: Studied,
    total: Total,
    window_days: float,
) -> Fitness:
    """Likes or downloads that models and their copies had within a window of the model's birth.

    A copy counts until the end of its original's window, from its own creation on.

    Raises
    ------
    NotFoundError
        If fewer than three models were seen about the end of their window.
    """
    graph, born = studied.population.graph, studied.population.born_day
    ends = {
        one.repo_id: float(born[graph.number(studied.origin[one.repo_id])]) + window_days
        for one in observed.members
    }
    births = {one.repo_id: birth_day(one) for one in observed.members}
    asked = [(name, births[name], end) for name, end in ends.items() if births[name] <= end]
    rows = _of_register(studied, counts_around(connection, total, asked))
    widest_days = COARSEST * window_days
    end = np.array([ends[one.repo_id] for one in rows])
    values = _of_originals(studied, rows, total_at(end, *_columns(rows), widest_days))
    n_known = int(np.isfinite(values).sum())
    if n_known < LEAST_MEASURED:
        raise NotFoundError(
            f"{_WORDS[total]} in the first {window_days:g} days need observations at most "
            f"{widest_days:g} days apart around the end of that time; the register has them of "
            f"{n_known} models, {LEAST_MEASURED} are needed: crawl that often, {_EARLIER}, or "
            "choose another --window-days"
        )
    return Fitness(
        f"{total.name.lower()}_{window_days:g}d",
        values,
        f"fitness: {_WORDS[total]} within {window_days:g} d of the model's own birth, on the line "
        f"between the observations around its end; left out are models not watched that long, and "
        f"those whose observations there lie more than {widest_days:g} d apart",
    )


def _columns(rows: tuple[Counted, ...]) -> tuple[Floats, Floats, Floats, Floats]:
    table = np.array(
        [(one.first_day, one.first, one.last_day, one.last) for one in rows], dtype=np.float64
    ).reshape(len(rows), 4)
    first_day, first, last_day, last = table.T
    return first_day, first, last_day, last


def _of_register(studied: Studied, rows: tuple[Counted, ...]) -> tuple[Counted, ...]:
    """Without counts of repositories that were never crawled: tables of others may have them."""
    return tuple(one for one in rows if one.repo_id in studied.origin)


def _of_originals(studied: Studied, rows: tuple[Counted, ...], values: Floats) -> Floats:
    """The sum over each model and its copies."""
    of_repo = {one.repo_id: value for one, value in zip(rows, values.tolist(), strict=True)}
    return summed(studied.population.graph, studied.origin, of_repo)


def _seen_once(rows: tuple[Counted, ...], total: Total, n_known: int) -> str:
    """What is missing where hardly anybody was seen twice, in one sentence."""
    what = _COUNTED[total]
    if not rows:
        rolling = (
            "; its 30-day counts overlap, so that no difference of them is a gain"
            if total is Total.DOWNLOADS
            else ""
        )
        return f"the register holds no {what} of any model{rolling}: crawl, or {_EARLIER}"
    watched_days = max(one.last_day - one.first_day for one in rows)
    again = max(one.last_day for one in rows) + LEAST_DAYS
    return (
        f"{_WORDS[total]} gained need {what} of a model at two moments, {LEAST_DAYS:g} days apart "
        f"or more; the register has them of {n_known} models, {LEAST_MEASURED} are needed, and "
        f"watched none of its {len(rows)} longer than {watched_days:.1f} days: crawl again from "
        f"{datetime.fromtimestamp(86_400 * again, UTC):%Y-%m-%d} on, or {_EARLIER}"
    )

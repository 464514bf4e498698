"""What made the entropy of the population change, month by month, from sums by founder.

The account of :mod:`lineage.evolution.diversity.entropy_months`, exactly, but of sums that the
database makes, so that it holds for millions of models. Models that were removed count as living:
the register does not know when they went.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import duckdb
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, hstack

from lineage.evolution.diversity.entropy import PARTS, EntropyAccount, miller_madow, shannon
from lineage.evolution.diversity.intervals import founder_interval
from lineage.model import Estimate
from lineage.store import published_diversity as published
from lineage.store.published_scope import Columns, Scope
from lineage.views.reproduction import month_words

__all__ = ["PARTS", "EntropyMonth", "entropy_by_month"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_LEVEL = 0.95
_N_STAGES = len(PARTS) + 1
_N_RESAMPLES = 200


@dataclass(frozen=True, slots=True)
class EntropyMonth:
    """The account of one month.

    Attributes
    ----------
    month
        Its first day as ISO date.
    entropy
        Of all models alive at its end, in nats, corrected for the size of the sample (Miller &
        Madow).
    parts
        What each of `PARTS` and ``change`` made of the change of the plain entropy, in nats.
    n_before, n_after
        Models of known value alive at its start and end.
    """

    month: str
    entropy: Estimate
    parts: Mapping[str, Estimate]
    n_before: int
    n_after: int


def entropy_by_month(
    cursor: duckdb.DuckDBPyConnection, scope: Scope, category: str, until: float
) -> tuple[EntropyMonth, ...]:
    """The account of every month in which models of a scope were born, but the first.

    Within a clade, parents outside it are no part of the population.

    Raises
    ------
    KeyError
        If there is no such category.
    """
    births = published.births_by_category(cursor, scope, category, until)
    if not births["n"].size:
        return ()
    descent = published.descent_by_category(cursor, scope, category, until)
    values = np.unique(births["value"].astype(str))
    labels, _ = np.unique(births["cluster"], return_inverse=True)
    width, n_clusters = values.size, labels.size

    def places(columns: Columns) -> tuple[Ints, Ints]:
        return (
            np.searchsorted(labels, columns["cluster"]),
            np.searchsorted(values, columns["value"].astype(str)),
        )

    born_row, born_column = places(births)
    row, column = places(descent)
    column = column + width * descent["stage"].astype(np.int64)
    months = []
    for month in np.unique(births["month"]).tolist()[1:]:
        before, own = births["month"] < month, descent["month"] == month
        old = _sums(born_row[before], born_column[before], births["n"][before], n_clusters, width)
        young = _sums(row[own], column[own], descent["mass"][own], n_clusters, _N_STAGES * width)
        months.append(_account(month, old, young, width))
    return tuple(months)


def _sums(row: Ints, column: Ints, mass: NDArray[np.generic], height: int, width: int) -> csr_array:
    return csr_array((mass.astype(float), (row, column)), shape=(height, width))


def _account(month: int, old: csr_array, young: csr_array, width: int) -> EntropyMonth:
    """Survivors are children of themselves: they are in every stage with what they were."""
    sums = csr_array(hstack([old] * _N_STAGES) + young)
    sums = sums[np.flatnonzero(np.diff(sums.indptr))]
    stages = np.asarray(sums.sum(axis=0), dtype=float).reshape(_N_STAGES, width)
    before, after = round(float(stages[0].sum())), round(float(stages[-1].sum()))
    account = EntropyAccount(stages, before, after)

    def entropies(totals: Floats) -> Floats:
        return shannon(np.maximum(totals.reshape(*totals.shape[:-1], _N_STAGES, width), 0.0))

    def interval(later: int, earlier: int, name: str) -> Estimate:
        def difference(totals: Floats) -> Floats:
            steps = entropies(totals)
            return np.asarray(steps[..., later] - steps[..., earlier])

        return founder_interval(
            sums, difference, n=after, rng=np.random.default_rng(0), level=_LEVEL,
            n_resamples=_N_RESAMPLES, method=f"difference of entropies in nats: {name}",
        )  # fmt: skip

    parts = {name: interval(k + 1, k, name) for k, name in enumerate(account.parts)}
    parts["change"] = interval(_N_STAGES - 1, 0, "change")
    entropy = founder_interval(
        csr_array(sums[:, (_N_STAGES - 1) * width :]), miller_madow, n=after,
        rng=np.random.default_rng(0), level=_LEVEL, n_resamples=_N_RESAMPLES,
        method="entropy in nats, Miller–Madow", lowest=0.0,
    )  # fmt: skip
    return EntropyMonth(month_words(month), entropy, parts, before, after)

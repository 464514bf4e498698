"""What records and cards state, as columns of traits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from crawler.licences import class_of
from lineage.store.estimates import Stated

__all__ = ["Labels", "stated_labels", "stated_numbers", "with_card"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Labels = tuple[frozenset[str], ...]


def stated_numbers(rows: Sequence[Stated | None]) -> dict[str, Floats]:
    """Quantities by trait, NaN where a model states none."""

    def column(value: Mapping[int, float]) -> Floats:
        found = np.full(len(rows), np.nan)
        for i, number in value.items():
            found[i] = number
        return found

    known = [(i, row) for i, row in enumerate(rows) if row is not None]
    return {
        "log10 context length": column(
            {i: float(np.log10(row.context_length)) for i, row in known if row.context_length}
        ),
        "card length": column(
            {
                i: float(np.log10(row.card_characters + 1))
                for i, row in known
                if row.card_characters is not None
            }
        ),
        "card completeness": column(
            {i: row.card_completeness for i, row in known if row.card_completeness is not None}
        ),
        "gated": column({i: float(row.gated is not None) for i, row in known}),
    }


def stated_labels(rows: Sequence[Stated | None]) -> dict[str, Labels]:
    """Sets of values by trait, empty where a model states none."""

    def sets(values: Sequence[Sequence[str | None]]) -> Labels:
        return tuple(frozenset(one for one in several if one) for several in values)

    known = [row if row is not None else Stated.unknown() for row in rows]
    return {
        "licence": sets([[row.licence] for row in known]),
        "licence class": sets([[_class_name(row.licence)] for row in known]),
        "languages": sets([row.languages for row in known]),
        "task": sets([[row.task] for row in known]),
        "library": sets([[row.library] for row in known]),
        "data sets": sets([row.datasets for row in known]),
        "architecture": sets([[row.architecture] for row in known]),
        "number type": sets([[row.dtype] for row in known]),
        "tokenizer": sets([[row.tokenizer] for row in known]),
    }


def with_card(rows: Sequence[Stated | None]) -> Bools:
    """Which models have a card with text in it, shape (n,)."""
    return np.array([row is not None and bool(row.card_characters) for row in rows], dtype=bool)


def _class_name(licence: str | None) -> str | None:
    """The class of a licence that is stated precisely enough to have one."""
    kind = str(class_of(licence))
    return None if licence is None or kind == "unknown" else kind

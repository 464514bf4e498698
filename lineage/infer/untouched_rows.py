"""Rows that one model moved and another has as they were: what no descent takes back.

Training moves a row of weights only where it gets a gradient. A token that a text does not hold, an
expert that is never asked, keep their row word for word. So where X moved a row away from a
reference R and C has it as R has, C does not come from X, however alike the two are otherwise; it
is rather X that may come from C. The same holds nearly where C moved the row a tenth as far as X.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lineage.infer.geometry import Pool
from lineage.infer.token_rows import TOKEN_ROLES
from lineage.weights.encodings import round_to

__all__ = ["has_rows_untouched"]

F32 = NDArray[np.float32]

_MIN_SIDE = 12
"""Of matrices that are asked; a vector of gains is one row, too coarse to move by little."""
_MOVED_WORDS = 0.5
"""Share of a row's words that must differ before it counts as moved."""
_NEARLY = 0.1
_N_NEARLY = 2
"""So many rows must be nearly untouched, or one word for word. Where the rows are no tokens, those
of one matrix count as one: optimisers that take steps of equal size whatever the gradient move the
rows of a head together, and may take them back together. On training and validation families no
row tells so of the 278 pairs of descendant and ancestor; of 2,672 other pairs 22 % do, and 35 % of
the 262 turned round."""


def has_rows_untouched(pool: Pool, model: str, other: str, reference: str) -> bool:
    """Whether `model` has rows as in `reference` that `other` moved: it does not come from `other`.

    Rows are those of all matrices, in the coarsest of the three number types: what was rounded to
    one grid is equal there without being moved. False where a model is its own reference, and for
    rows with numbers that are none.
    """
    if reference in (model, other):
        return False
    places = [pool.ids.index(name) for name in (reference, model, other)]
    grid = pool.coarsest(reference, model, other)
    n_nearly = 0
    for key, values in zip(pool.keys, pool.values, strict=True):
        if min(values.shape[1:]) < _MIN_SIDE:
            continue
        origin, ours, theirs = round_to(grid, values[places])
        moved = (theirs != origin).mean(axis=1) > _MOVED_WORDS
        if not moved.any():
            continue
        origin, ours, theirs = origin[moved], ours[moved], theirs[moved]
        if (ours == origin).all(axis=1).any():
            return True
        nearly = _length(ours, origin) < _NEARLY * _length(theirs, origin)
        n_nearly += int(nearly.sum() if key.role in TOKEN_ROLES else nearly.any())
    return n_nearly >= _N_NEARLY


def _length(rows: F32, origin: F32) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(rows.astype(np.float64) - origin, axis=1))

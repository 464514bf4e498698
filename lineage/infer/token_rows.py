"""Rows of two samples that mean the same thing: by row number, or by token where numbers differ.

Row ``i`` of an embedding is a token, and which one is told by the vocabulary. Two vocabularies that
give one number to different tokens are compared by token; all others by row number, since then
numbers and tokens say the same and rows without a known token (padding) can be compared too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage.model import VocabularyMap
from lineage.weights.fingerprint import Fingerprint, Sample
from lineage.weights.roles import TensorKey

__all__ = [
    "TOKEN_ROLES",
    "TOKEN_VECTORS",
    "VocabularyComparison",
    "aligned_values",
    "common_rows",
    "compare_vocabularies",
    "is_renumbered",
    "row_places",
]

TOKEN_ROLES = ("embed", "head")
"""Matrices with one row a token."""
TOKEN_VECTORS = ("logits.bias",)
"""Vectors with one number a token."""

F32 = NDArray[np.float32]
Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class VocabularyComparison:
    """How a child's vocabulary came from its parent's, as far as sampled tokens show.

    Attributes
    ----------
    n_compared
        Tokens whose rows both samples hold.
    n_renumbered
        Of these, tokens that have another number in the child.
    n_added
        Rows that the child's matrix has more than the parent's; negative: fewer.
    n_shared
        Rows that the smaller of both matrices has.
    """

    n_compared: int
    n_renumbered: int
    n_added: int
    n_shared: int

    @property
    def map(self) -> VocabularyMap | None:
        """Counts of whole vocabularies; None where only some of renumbered tokens were read."""
        if self.n_renumbered and self.n_compared < self.n_shared:
            return None
        kept = self.n_shared - self.n_renumbered
        return VocabularyMap(kept, self.n_renumbered, max(0, self.n_added), max(0, -self.n_added))

    @property
    def text(self) -> str:
        """The map in words."""
        said = []
        if self.n_renumbered:
            said.append(
                f"{self.n_renumbered} of {self.n_compared} compared tokens have another number"
            )
        if self.n_added > 0:
            said.append(f"{self.n_added} rows were appended")
        elif self.n_added < 0:
            said.append(f"{-self.n_added} tokens were dropped")
        return ", ".join(said) or "the vocabulary is the same"


def common_rows(a: Sample, b: Sample) -> tuple[F32, F32]:
    """The values of the row numbers that both samples hold, in one order; empty if widths differ.

    Rows of token matrices are better aligned by :func:`aligned_values`.
    """
    if a.values.shape[1] != b.values.shape[1]:
        return a.values[:0, :0], b.values[:0, :0]
    if a.rows == b.rows:
        return a.values, b.values
    _, in_a, in_b = np.intersect1d(a.rows, b.rows, return_indices=True)
    return a.values[in_a], b.values[in_b]


def aligned_values(a: Fingerprint, b: Fingerprint, key: TensorKey) -> tuple[F32, F32]:
    """Values of one tensor's rows that both models hold, paired; empty if widths differ.

    Of a vector with one number a token, the numbers of the tokens that both models have.
    """
    first, second = a.samples[key], b.samples[key]
    if key.role in TOKEN_VECTORS:
        in_a, in_b = _shared_tokens(a, b, min(first.values.shape[1], second.values.shape[1]))
        return first.values[:, in_a], second.values[:, in_b]
    if key.role not in TOKEN_ROLES or not is_renumbered(a, b):
        return common_rows(first, second)
    if first.values.shape[1] != second.values.shape[1]:
        return first.values[:0, :0], second.values[:0, :0]
    in_a, in_b = row_places((a, b), key) or (_NOWHERE, _NOWHERE)
    return first.values[in_a], second.values[in_b]


def _shared_tokens(a: Fingerprint, b: Fingerprint, n_shared: int) -> tuple[Places, Places]:
    """Numbers of the tokens of both vocabularies, in each: of all, or of those that were read."""
    if not is_renumbered(a, b):
        return np.arange(n_shared), np.arange(n_shared)
    numbers = {token: row for row, token in b.tokens.items()}
    shared = [(row, numbers[token]) for row, token in a.tokens.items() if token in numbers]
    pairs = np.array(shared, dtype=np.intp).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def is_renumbered(*models: Fingerprint) -> bool:
    """Whether some row is known to be one token in one model and another in another."""
    if all(model.tokens == models[0].tokens for model in models[1:]):
        return False
    tokens: dict[int, str] = {}
    return any(
        tokens.setdefault(row, token) != token
        for model in models
        for row, token in model.tokens.items()
    )


_NOWHERE = np.zeros(0, dtype=np.intp)


def row_places(models: Sequence[Fingerprint], key: TensorKey) -> tuple[Places, ...] | None:
    """Where the rows that all models hold stand in the sample of each.

    Parameters
    ----------
    models
        Each with a sample under `key`.

    Returns
    -------
    tuple of arrays or None
        For every model the places of the shared rows, in one order; empty if none is shared. None
        where vocabularies differ and a model's own is not known: its rows could be any tokens.
    """
    samples = [model.samples[key] for model in models]
    if key.role not in TOKEN_ROLES or not is_renumbered(*models):
        if len({sample.rows for sample in samples}) == 1:
            return tuple(np.arange(len(sample.rows)) for sample in samples)
        wanted = sorted(set.intersection(*(set(sample.rows) for sample in samples)))
        return tuple(np.searchsorted(sample.rows, wanted) for sample in samples)
    if not all(model.tokens for model in models):
        return None
    found = [_places_by_token(m, sample) for m, sample in zip(models, samples, strict=True)]
    shared = set.intersection(*(set(places) for places in found))
    # In the order of the first model's rows.
    order = sorted(shared, key=lambda token: found[0][token])
    return tuple(np.array([places[t] for t in order], dtype=np.intp) for places in found)


def _places_by_token(model: Fingerprint, sample: Sample) -> dict[str, int]:
    """Where each token's row stands in a sample; of two rows with one text the first."""
    places: dict[str, int] = {}
    for place, row in enumerate(sample.rows):
        token = model.tokens.get(row)
        if token is not None:
            places.setdefault(token, place)
    return places


def compare_vocabularies(child: Fingerprint, parent: Fingerprint) -> VocabularyComparison | None:
    """How the child's vocabulary came from the parent's; None without an embedding in both."""
    key = TensorKey("embed")
    ours, theirs = child.samples.get(key), parent.samples.get(key)
    places = row_places((child, parent), key) if ours and theirs else None
    if ours is None or theirs is None or places is None:
        return None
    moved = sum(ours.rows[i] != theirs.rows[j] for i, j in zip(*places, strict=True))
    n_rows, n_origin = ours.shape[0], theirs.shape[0]
    return VocabularyComparison(len(places[0]), moved, n_rows - n_origin, min(n_rows, n_origin))

"""How much of a model a rebuilt one reproduces: word by word, summed by layer. Pure.

The child's stored words are what is counted. A tensor that is missing, or stored in another dtype
or shape, reproduces none of its words; tensors that only the rebuilt model has are listed apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["LayerMatch", "RebuiltMatch", "TensorMatch", "share_words"]


def share_words(n_equal: float, n: float = 1) -> str:
    """A share in percent that is rounded down, so that only all of it is "100 %".

    Examples
    --------
    >>> share_words(0.999999), share_words(3, 3), share_words(1, 3), share_words(0, 0)
    ('99.9999 %', '100 %', '33.3333 %', '100 %')
    """
    if n_equal == n:
        return "100 %"
    return (
        f"{math.floor(1e6 * min(n_equal / n, 0.999999)) / 1e4:.4f}".rstrip("0").rstrip(".") + " %"
    )


@dataclass(frozen=True, slots=True)
class TensorMatch:
    """One tensor of the child beside the same of the rebuilt model.

    Attributes
    ----------
    layer
        -1 outside the layers.
    dtype, rebuilt_dtype
        As stored; `rebuilt_dtype` is None where the rebuilt model has no such tensor.
    tied_to
        The tensor of the rebuilt model that it was held against, since tied embeddings stand once.
    """

    name: str
    layer: int
    n_words: int
    n_equal: int
    dtype: str
    shape: tuple[int, ...]
    rebuilt_dtype: str | None
    rebuilt_shape: tuple[int, ...] | None
    tied_to: str | None = None

    @property
    def is_exact(self) -> bool:
        """Whether every word is equal, and stored in the same dtype and shape."""
        return (
            self.n_equal == self.n_words
            and self.dtype == self.rebuilt_dtype
            and self.shape == self.rebuilt_shape
        )

    @property
    def words(self) -> str:
        """What is to be said of it."""
        if self.rebuilt_dtype is None:
            return "missing in the rebuilt model"
        if self.shape != self.rebuilt_shape:
            return f"shape {list(self.shape)}, rebuilt {list(self.rebuilt_shape or ())}"
        if self.dtype != self.rebuilt_dtype:
            return f"stored as {self.dtype}, rebuilt as {self.rebuilt_dtype}"
        against = f" (against {self.tied_to})" if self.tied_to else ""
        differ = self.n_words - self.n_equal
        return f"{differ:,} of {self.n_words:,} words differ{against}"


@dataclass(frozen=True, slots=True)
class LayerMatch:
    """The words of one layer; `layer` is -1 for what stands outside the layers."""

    layer: int
    n_words: int
    n_equal: int


@dataclass(frozen=True, slots=True)
class RebuiltMatch:
    """Every tensor of the child, and the names of those that only the rebuilt model has.

    `extra` leaves out a copy of the child's embeddings, which says nothing new.
    """

    tensors: tuple[TensorMatch, ...]
    extra: tuple[str, ...] = ()

    @property
    def n_words(self) -> int:
        """Stored words of the child."""
        return sum(tensor.n_words for tensor in self.tensors)

    @property
    def n_equal(self) -> int:
        """Those that the rebuilt model has too, in the same place."""
        return sum(tensor.n_equal for tensor in self.tensors)

    @property
    def share(self) -> float:
        """Share of the child's words that are equal; NaN of a child without words."""
        return self.n_equal / self.n_words if self.n_words else math.nan

    @property
    def is_exact(self) -> bool:
        """Whether the rebuilt model is the child, word for word, with nothing missing or extra."""
        return (
            self.n_words > 0 and not self.extra and all(tensor.is_exact for tensor in self.tensors)
        )

    @property
    def missing(self) -> tuple[str, ...]:
        """Tensors of the child that the rebuilt model has not."""
        return tuple(one.name for one in self.tensors if one.rebuilt_dtype is None)

    def layers(self) -> tuple[LayerMatch, ...]:
        """Words by layer, what stands outside the layers first."""
        found: dict[int, list[TensorMatch]] = {}
        for tensor in self.tensors:
            found.setdefault(tensor.layer, []).append(tensor)
        return tuple(
            LayerMatch(layer, sum(t.n_words for t in ts), sum(t.n_equal for t in ts))
            for layer, ts in sorted(found.items())
        )

    def worst(self) -> Sequence[TensorMatch]:
        """Tensors that are not exact, the smallest share of equal words first."""
        return sorted(
            (one for one in self.tensors if not one.is_exact),
            key=lambda one: (one.n_equal / one.n_words if one.n_words else 0.0, one.name),
        )

"""Which values share a scale: what the shape of the scales says, and the configuration adds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from crawler.errors import MalformedError
from crawler.records import TensorEntry
from lineage.weights.facts import ModelFacts

__all__ = ["Scheme", "float_scales", "grid_of", "schemes_of"]

_MAX_SCHEMES = 100
_MAX_SIZE = 1 << 24


@dataclass(frozen=True, slots=True)
class Scheme:
    """What a configuration says of the weights of some layers; 0: not stated.

    Attributes
    ----------
    bits
        Of a code.
    group
        Columns that share a scale.
    block
        Rows and columns of a rectangle that shares one.
    """

    bits: int = 0
    group: int = 0
    block: tuple[int, int] = (0, 0)

    def packed_columns(
        self, n_rows: int, n_words: int, scales: tuple[int, ...]
    ) -> tuple[int, tuple[int, int] | None]:
        """Columns and block of codes packed into words, if this scheme fits the scales."""
        if not 1 <= self.bits <= 8:
            return 0, None
        n_columns = n_words * 32 // self.bits
        if math.prod(scales) == 1:
            return n_columns, (0, 0)
        if len(scales) != 2 or scales[0] != n_rows:
            return 0, None
        if scales[1] == 1 and not self.group:
            return n_columns, (1, 0)
        # Words may end with padding, so columns are counted in groups.
        n_columns = scales[1] * self.group
        fits = n_columns and -(-n_columns * self.bits // 32) == n_words
        return (n_columns, (1, self.group)) if fits else (0, None)


def schemes_of(facts: ModelFacts) -> tuple[Scheme, ...]:
    """What the configuration says, one scheme for each group of layers it tells apart."""
    stated = facts.quantisation
    groups = stated.get("config_groups")
    weights = [
        group["weights"]
        for group in (list(groups.values())[:_MAX_SCHEMES] if isinstance(groups, Mapping) else [])
        if isinstance(group, Mapping) and isinstance(group.get("weights"), Mapping)
    ]
    found = [_scheme(item) for item in weights] or [_scheme(stated)]
    return tuple(dict.fromkeys(found))


def _scheme(stated: Mapping[str, object]) -> Scheme:
    block = stated.get("block_structure") or stated.get("weight_block_size")
    sizes = [_size(item) for item in block] if isinstance(block, list | tuple) else []
    return Scheme(
        _size(stated.get("num_bits")),
        _size(stated.get("group_size")),
        (sizes[0], sizes[1]) if len(sizes) == 2 and all(sizes) else (0, 0),
    )


def _size(value: object) -> int:
    return value if type(value) is int and 0 < value <= _MAX_SIZE else 0


def float_scales(entry: TensorEntry) -> str:
    """The dtype of scales that are floats.

    Raises
    ------
    MalformedError
        If they are none.
    """
    if entry.dtype not in ("F32", "F16", "BF16"):
        raise MalformedError(f"{entry.name}: scales of {entry.dtype} are not read")
    return entry.dtype


def grid_of(
    scales: TensorEntry, shape: tuple[int, int], schemes: tuple[Scheme, ...]
) -> tuple[int, int]:
    """Rows and columns that share one scale; 0: all there are.

    Raises
    ------
    MalformedError
        If no grid of the weight has the shape of the scales, or several have.
    """
    n_rows, n_columns = shape
    if not math.prod(scales.shape):
        raise MalformedError(f"{scales.name}: there are no scales")
    if math.prod(scales.shape) == 1:
        return 0, 0
    if scales.shape in ((n_rows,), (n_rows, 1)):
        return 1, 0
    fitting = {
        block
        for block in _blocks(scales.shape, shape, schemes)
        if all(block) and scales.shape == (-(-n_rows // block[0]), -(-n_columns // block[1]))
    }
    if len(fitting) != 1:
        raise MalformedError(
            f"{scales.name}: scales of {list(scales.shape)} do not fit codes of {list(shape)}"
        )
    return fitting.pop()


def _blocks(
    scales: tuple[int, ...], shape: tuple[int, int], schemes: tuple[Scheme, ...]
) -> Iterator[tuple[int, int]]:
    """Blocks to try: the stated ones; else what divides evenly."""
    stated = [scheme.block for scheme in schemes if all(scheme.block)]
    stated += [(1, scheme.group) for scheme in schemes if scheme.group]
    if stated or len(scales) != 2:
        yield from stated
    elif scales[0] == shape[0] and not shape[1] % scales[1]:
        yield 1, shape[1] // scales[1]
    else:
        yield 128, 128  # the only rectangle in use

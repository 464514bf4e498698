"""What colours the models of a drawing: a category's colours, or a number's place in cividis.

Shape always tells the relation too. A model without a value is hollow. Categories beyond the
seven most common share one grey.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from lineage.explorer.filters import COLOURS, TRAIT
from lineage.explorer.palette import LIGHT
from lineage.explorer.words import RELATION_WORDS, count_words, number, short
from lineage.views import clades
from lineage.views.rows import Births, Mark

__all__ = ["CATEGORIES", "Colouring", "cividis", "colour_marks", "in_hex"]

# Anchors of the map as Vega publishes it (colour scheme "cividis", every seventh step). Source:
# J. R. Nuñez, C. R. Anderton and R. S. Renslow, "Optimizing colormaps with consideration for color
# vision deficiency", PLOS ONE 13:e0199239 (2018).
_CIVIDIS = (
    "002051", "0d346b", "31476e", "555b6e", "727071", "898577", "a19b78", "c0b26f", "e2cb5c",
    "fce647",
)  # fmt: skip
_N_COLOURS = 7
_RELATION_COLOURS = ("finetune", "adapter", "quantized", "merge", "unknown")
_VERDICT_COLOURS = ("confirmed", "undeclared", "contradicted", "unverified")

CATEGORIES = frozenset(clades.CATEGORIES) - {"none"}
"""Colours that are categories; births are counted by the same."""


@dataclass(frozen=True, slots=True)
class Colouring:
    """Colours of the marks by name (absent: no value), of births by category, and the key.

    `key` holds words and colours; `scale` the words at both ends of cividis, for numbers.
    """

    title: str
    fills: Mapping[str, str] = field(default_factory=dict)
    births: Mapping[str | None, str] = field(default_factory=dict)
    key: tuple[tuple[str, str], ...] = ()
    scale: tuple[str, str] | None = None
    by_shape: bool = False


def cividis(share: float) -> str:
    """The colour of a share between 0 and 1, linear between anchors.

    Examples
    --------
    >>> cividis(0), cividis(1)
    ('#002051', '#fce647')
    """
    place = min(max(share, 0.0), 1.0) * (len(_CIVIDIS) - 1)
    below = min(int(place), len(_CIVIDIS) - 2)
    first, second = (
        [int(text[i : i + 2], 16) for i in (0, 2, 4)] for text in _CIVIDIS[below : below + 2]
    )
    mixed = [round(a + (b - a) * (place - below)) for a, b in zip(first, second, strict=True)]
    return "#" + "".join(f"{value:02x}" for value in mixed)


def in_hex(colour: str) -> str | None:
    """The light theme's colour as ``#rrggbb``; None for something else."""
    value = LIGHT.get(colour.removeprefix("var(").removesuffix(")"), colour)
    return value if value.startswith("#") and len(value) == 7 else None


def colour_marks(
    colour: str,
    marks: Sequence[Mark],
    births: Sequence[Births] = (),
    traits: Mapping[str, float] | None = None,
) -> Colouring:
    """Choose the colours.

    Parameters
    ----------
    colour
        A name of :data:`lineage.explorer.filters.COLOURS`, or ``trait:`` and a name.
    marks
        Everything that is drawn one by one.
    births
        Counted by the same category, where the colour is one.
    traits
        Values of the trait by model, where the colour is one.
    """
    drawn = [mark for mark in marks if not mark.ghost]
    if colour.startswith(TRAIT):
        of_trait = traits or {}
        values = {m.repo_id: of_trait[m.repo_id] for m in drawn if m.repo_id in of_trait}
        return _numbers(colour.removeprefix(TRAIT), values, lambda v: number(v, 3))
    title = COLOURS[colour]
    if colour == "relation":
        return _relations(title, births)
    if colour == "verdict":
        return _verdicts(title, drawn, births)
    if colour in CATEGORIES:
        return _categories(title, {m.repo_id: getattr(m, colour) for m in drawn}, births)
    if colour == "month":
        dates = {m.repo_id: m.created_at.timestamp() for m in drawn if m.created_at is not None}
        return _numbers(title, dates, _month_words)
    field_name = {"downloads": "downloads_30d", "descendants": "n_descendants"}.get(colour, colour)
    counts = {m.repo_id: getattr(m, field_name) for m in drawn}
    logs = {name: math.log10(1 + n) for name, n in counts.items() if n is not None}
    return _numbers(title, logs, lambda v: count_words(round(10**v - 1)))


def _month_words(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%b %Y}"


def _relations(title: str, births: Sequence[Births]) -> Colouring:
    # Marks have the colour of their relation by class, which ghosts and the gone override.
    present = {one.category for one in births}
    key = tuple(
        (RELATION_WORDS[name], f"var(--{name})") for name in _RELATION_COLOURS if name in present
    )
    return Colouring(
        title, {}, {name: f"var(--{name})" for name in _RELATION_COLOURS}, key, by_shape=True
    )


def _verdicts(title: str, drawn: Sequence[Mark], births: Sequence[Births]) -> Colouring:
    fills = {m.repo_id: f"var(--{m.verdict})" for m in drawn if m.verdict in _VERDICT_COLOURS}
    colours: dict[str | None, str] = {name: f"var(--{name})" for name in _VERDICT_COLOURS}
    present = {m.verdict for m in drawn} | {one.category for one in births}
    key = tuple((name, colours[name]) for name in _VERDICT_COLOURS if name in present)
    return Colouring(title, fills, colours, key)


def _categories(
    title: str, values: Mapping[str, str | None], births: Sequence[Births]
) -> Colouring:
    common: Counter[str] = Counter(value for value in values.values() if value)
    for one in births:
        if one.category:
            common[one.category] += one.n
    ranked = sorted(common, key=lambda value: (-common[value], value))
    colours: dict[str | None, str] = {
        value: f"var(--c{place})" for place, value in enumerate(ranked[:_N_COLOURS])
    }
    key = [(short(value, 28), colours[value]) for value in ranked[:_N_COLOURS]]
    if len(ranked) > _N_COLOURS:
        key.append((f"{len(ranked) - _N_COLOURS:,} others", "var(--other)"))
    colours.update(dict.fromkeys(ranked[_N_COLOURS:], "var(--other)"))
    fills = {name: colours[value] for name, value in values.items() if value}
    return Colouring(title, fills, colours, tuple(key))


def _numbers(title: str, values: Mapping[str, float], words: Callable[[float], str]) -> Colouring:
    if not values:
        return Colouring(title)
    low, high = min(values.values()), max(values.values())
    span = (high - low) or 1.0
    fills = {name: cividis((value - low) / span) for name, value in values.items()}
    return Colouring(title, fills, scale=(words(low), words(high)))

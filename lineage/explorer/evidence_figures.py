"""Pictures of one edge: equal words by layer, coefficients by layer, the matrix of layers.

Each is one self-contained SVG that says in words what it shows. Pure: values in, text out.
"""

from __future__ import annotations

from collections.abc import Sequence

from lineage.explorer.drawing import shape
from lineage.explorer.markup import Markup, tag
from lineage.explorer.palette import STYLE
from lineage.explorer.words import number, short
from lineage.views.evidence import EdgeLayer, LayerMatrix, MergeFit

__all__ = ["MOST_CELLS", "draw_coefficients", "draw_equal_words", "draw_matrix", "percent"]

MOST_CELLS = 64
"""Rows and columns of a drawn matrix; of deeper models neighbouring layers share a cell."""

_COLOURS = 6
_SHAPES = ("finetune", "adapter", "quantized", "merge")
_CIVIDIS = (
    "#00204d", "#00336f", "#39486b", "#575c6d", "#707173",
    "#8a8779", "#a69d75", "#c4b56c", "#e4cf5b", "#ffea46",
)  # fmt: skip
"""Nuñez, Anderton & Renslow 2018, PLoS ONE 13:e0199239, in ten steps."""
_WIDTH = 540.0
_LEFT = 48.0
_ROOM_FOR_A_NUMBER = 46
_HEADROOM = 16.0


def percent(share: float | None) -> str:
    """A share in percent; 100 % and 0 % are said of all and of none only.

    Examples
    --------
    >>> percent(1.0), percent(0.99999), percent(0.5), percent(1e-9), percent(None)
    ('100 %', '99.99 %', '50.0 %', '<0.01 %', '–')
    """
    if share is None:
        return "–"
    if share in (0, 1):
        return f"{100 * share:.0f} %"
    shown = min(100 * share, 99.99)
    if shown < 0.005:
        return "<0.01 %"
    return f"{shown:.{2 if shown >= 99.9 or shown < 0.1 else 1}f} %"


def _picture(height: float, words: str, *children: object, width: float = _WIDTH) -> Markup:
    return tag(
        "svg",
        tag("title", words),
        Markup(f"<style>{STYLE}</style>"),
        *children,
        xmlns="http://www.w3.org/2000/svg",
        class_="hb",
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        width=f"{width:.0f}",
        height=f"{height:.0f}",
        role="img",
        aria_label=words,
        style="min-width:440px",
    )


def _layer_name(layer: int | None) -> str:
    return "outside" if layer is None else str(layer)


def _text(words: object, x: float, y: float, class_: str = "small", **more: object) -> Markup:
    return tag("text", words, x=f"{x:.1f}", y=f"{y:.1f}", class_=class_, **more)


def _ticks(n: int, step: float) -> list[int]:
    """Which of `n` places are labelled, so that labels do not touch."""
    every = next((k for k in (1, 2, 4, 5, 8, 10, 16, 20, 50, 100) if k * step >= 17), 200)
    return list(range(0, n, every))


# -- equal words --------------------------------------------------------------------------------


def draw_equal_words(layers: Sequence[EdgeLayer]) -> Markup:
    """Two rows of bars: the share of equal words (or codes) of each layer, and how far it moved.

    What lies outside the layers (embeddings, head, last norm) is the first bar.
    """
    has_codes = any(row.n_codes for row in layers)
    shares = [_share(row, has_codes) for row in layers]
    changes = [row.relative_change for row in layers]
    top = max((value for value in changes if value), default=0.0)
    step = (_WIDTH - _LEFT - 8) / max(len(layers), 1)
    what = "codes that the parent's values give" if has_codes else "values equal to the parent's"
    parts = [
        _text(f"Share of {what}", 0, 12, ""),
        *_bars(layers, shares, 1.0, 16, 118, step, "bar"),
        _text("Relative change ‖C−P‖/‖P‖", 0, 168, ""),
        *_bars(layers, changes, top, 172, 78, step, "bar b1"),
    ]
    first = layers[0].layer is None if layers else False
    for i in _ticks(len(layers), step):
        name = "out" if layers[i].layer is None else str(layers[i].layer)
        parts.append(_text(name, _LEFT + (i + 0.5) * step, 268, "small middle"))
    parts.append(_text("layer of the child" + (", out: outside the layers" if first else ""),
                       _LEFT, 286))  # fmt: skip
    told = [share for share in shares if share is not None]
    words = f"Share of {what}, by layer: " + (
        f"{percent(min(told))} to {percent(max(told))} over {len(told)} bars; "
        f"largest relative change {percent(top)}"
        if told
        else "nothing compares"
    )
    return _picture(292, words, *parts)


def _share(row: EdgeLayer, has_codes: bool) -> float | None:
    n, equal = (row.n_codes, row.n_replayed) if has_codes else (row.n_words, row.n_equal)
    return equal / n if n else None


def _bars(
    layers: Sequence[EdgeLayer],
    values: Sequence[float | None],
    top: float,
    y: float,
    height: float,
    step: float,
    class_: str,
) -> list[Markup]:
    """Bars of `values` up to `top`, with room for a number above each."""
    full = height - _HEADROOM
    base = y + height
    parts = [
        tag("path", d=f"M{_LEFT} {base - full:.0f}H{_WIDTH - 8}M{_LEFT} {base:.0f}H{_WIDTH - 8}",
            style="stroke:var(--edge);fill:none"),
        _text(percent(top) if top else "–", _LEFT - 6, base - full + 4, "small end"),
        _text("0", _LEFT - 6, base + 4, "small end"),
    ]  # fmt: skip
    width = max(1.0, step - min(3.0, step * 0.25))
    for i, (row, value) in enumerate(zip(layers, values, strict=True)):
        x = _LEFT + i * step + (step - width) / 2
        if value is None:
            parts.append(_text("·", x + width / 2, base - 3, "small middle"))
            continue
        tall = max(1.0, full * min(max(value / top, 0.0), 1.0) if top > 0 else 0.0)
        parts.append(
            tag("rect", tag("title", f"{_layer_name(row.layer)}: {percent(value)}"),
                x=f"{x:.1f}", y=f"{base - tall:.1f}", width=f"{width:.1f}", height=f"{tall:.1f}",
                class_=class_)
        )  # fmt: skip
        if step >= _ROOM_FOR_A_NUMBER:
            parts.append(_text(percent(value), x + width / 2, base - tall - 4, "small middle"))
    return parts


# -- coefficients -------------------------------------------------------------------------------


def draw_coefficients(fit: MergeFit) -> Markup:
    """A line with marks for each parent: its coefficient in each layer of the merge."""
    values = [value for _, row in fit.by_layer for value in row]
    low, high = min([0.0, *values]), max([1.0, *values])
    span = high - low
    low, high = low - 0.04 * span, high + 0.04 * span
    step = (_WIDTH - _LEFT - 8) / max(len(fit.by_layer), 1)

    def y(value: float) -> float:
        return 170 - (value - low) / (high - low) * 156

    parts: list[Markup] = []
    for line in (0.0, 0.5, 1.0):
        parts.append(tag("path", d=f"M{_LEFT} {y(line):.1f}H{_WIDTH - 8}",
                         style="stroke:var(--edge);fill:none"))  # fmt: skip
        parts.append(_text(f"{line:g}", _LEFT - 6, y(line) + 4, "small end"))
    for at, parent in enumerate(fit.parents):
        spots = [
            (_LEFT + (i + 0.5) * step, y(row[at]), layer, row[at])
            for i, (layer, row) in enumerate(fit.by_layer)
        ]
        inside = [(x, top) for x, top, layer, _ in spots if layer is not None]
        colour = f"bar b{at % _COLOURS}"
        if len(inside) > 1:
            d = "M" + "L".join(f"{x:.1f} {top:.1f}" for x, top in inside)
            parts.append(tag("path", d=d, class_=f"stroke-b{at % _COLOURS}"))
        for x, top, layer, value in spots:
            says = tag("title", f"{parent}, {_layer_name(layer)}: {number(value)}")
            mark = shape(_SHAPES[at % len(_SHAPES)], x, top, min(4.0, 0.4 * step), class_=colour)
            parts.append(tag("g", says, mark))
        parts.append(shape(_SHAPES[at % len(_SHAPES)], _LEFT + 5, 216 + 20 * at, 5, class_=colour))
        parts.append(_text(short(parent, 72), _LEFT + 18, 220 + 20 * at, ""))
    for i in _ticks(len(fit.by_layer), step):
        layer = fit.by_layer[i][0]
        name = "out" if layer is None else str(layer)
        parts.append(_text(name, _LEFT + (i + 0.5) * step, 190, "small middle"))
    lines = "".join(
        f"svg.hb .stroke-b{i}{{fill:none;stroke-width:1.6;stroke:var(--{colour})}}"
        for i, colour in enumerate(
            ("finetune", "merge", "quantized", "adapter", "undeclared", "unknown")
        )
    )
    words = "Coefficients of the parents by layer: " + ", ".join(
        f"{parent} {number(min(found))} to {number(max(found))}"
        for parent, found in zip(
            fit.parents, zip(*(row for _, row in fit.by_layer), strict=True), strict=True
        )
    )
    height = 216 + 20 * len(fit.parents)
    return _picture(height, words, Markup(f"<style>{lines}</style>"), *parts)


# -- which layer is which -----------------------------------------------------------------------


def draw_matrix(matrix: LayerMatrix) -> Markup:
    """Layers of the child (rows) against the parent's (columns), bright where they match."""
    rows, columns = len(matrix.z), max((len(row) for row in matrix.z), default=0)
    per_row, per_column = (max(1, -(-n // MOST_CELLS)) for n in (rows, columns))
    cells = _pooled(matrix.z, per_row, per_column)
    n_rows, n_columns = len(cells), len(cells[0]) if cells else 0
    side = min(26.0, (_WIDTH - _LEFT - 120) / max(n_columns, 1), 420 / max(n_rows, 1))
    top = max((z for row in cells for z in row if z is not None), default=0.0)
    parts = [_text("layer of the parent →", _LEFT, 11)]
    for i, row in enumerate(cells):
        for j, z in enumerate(row):
            told = "too few rows" if z is None else f"z {number(z)}"
            says = f"child {_span(i, per_row)}, parent {_span(j, per_column)}: {told}"
            parts.append(
                tag("rect", tag("title", says), x=f"{_LEFT + j * side:.1f}",
                    y=f"{30 + i * side:.1f}", width=f"{side:.2f}", height=f"{side:.2f}",
                    **({"class_": "band"} if z is None else {"fill": _colour(z, top)}))
            )  # fmt: skip
    for i in _ticks(n_rows, side):
        parts.append(_text(i * per_row, _LEFT - 6, 30 + (i + 0.5) * side + 4, "small end"))
    for j in _ticks(n_columns, side):
        parts.append(_text(j * per_column, _LEFT + (j + 0.5) * side, 25, "small middle"))
    bottom = 30 + n_rows * side
    parts.append(_text("↑ layer of the child", _LEFT, bottom + 16))
    x = _LEFT + n_columns * side + 18
    for k, colour in enumerate(reversed(_CIVIDIS)):
        parts.append(tag("rect", x=f"{x:.1f}", y=f"{30 + 10 * k}", width="14", height="10",
                         fill=colour))  # fmt: skip
    parts.append(_text(f"z {number(top)}", x + 20, 40))
    parts.append(_text("z 0 or less", x + 20, 130))
    home = sum(
        max(range(len(row)), key=lambda j: -1e9 if row[j] is None else row[j] or 0.0) == i
        for i, row in enumerate(matrix.z)
        if any(z is not None for z in row)
    )
    words = (
        f"Matching of {rows} layers of the child with {columns} of the parent by the rows of "
        f"{matrix.roles}: {home} match best the parent's layer of their own number; largest z "
        f"{number(top)}"
    )
    return _picture(max(bottom + 24, 150), words, *parts)


def _pooled(
    z: Sequence[Sequence[float | None]], per_row: int, per_column: int
) -> list[list[float | None]]:
    """The largest value of each block, so that no match is lost."""
    made = []
    for i in range(0, len(z), per_row):
        block = z[i : i + per_row]
        width = max(len(row) for row in block)
        made.append(
            [
                max(
                    (one for row in block for one in row[j : j + per_column] if one is not None),
                    default=None,
                )
                for j in range(0, width, per_column)
            ]
        )
    return made


def _span(at: int, per_cell: int) -> str:
    first, last = at * per_cell, (at + 1) * per_cell - 1
    return f"layer {first}" if first == last else f"layers {first}–{last}"


def _colour(z: float, top: float) -> str:
    share = min(max(z / top, 0.0), 1.0) if top > 0 else 0.0
    return _CIVIDIS[min(int(share * len(_CIVIDIS)), len(_CIVIDIS) - 1)]

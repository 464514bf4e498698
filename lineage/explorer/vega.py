"""Pictures in Vega-Lite without data and colours: whiskers, courses of time, bars, scatters.

Fields have fixed names, and colours are named as in the palette; :mod:`lineage.explorer.charts`
puts in both. Nothing here comes from the Hub.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["Spec", "bands", "bars", "points", "whiskers"]

Spec = dict[str, object]

_ROW_HEIGHT = 40
_KINDS: Mapping[str, Spec] = {
    "label": {"type": "nominal"},
    "series": {"type": "nominal"},
    "month": {"type": "temporal", "format": "%b %Y"},
}
_SHAPE: Spec = {"field": "series", "type": "nominal", "title": None}


def whiskers(
    title: str,
    *,
    n_rows: int,
    reference: float | None = 0.0,
    log: bool = False,
    domain: tuple[float, float] | None = None,
) -> Spec:
    """A dot and its interval for each row, the label above it, one below the other.

    Fields ``label``, ``value``, ``low``, ``high``, and ``row``, which orders and tells equal
    labels apart. Labels stand above the whiskers, so that long names fit a narrow screen.

    Parameters
    ----------
    title
        Of the axis; ours, not the Hub's.
    n_rows
        Rows that the chart will hold, for its height.
    reference
        Where a dashed line stands: no effect. None for no line.
    log
        Logarithmic axis, for ratios.
    domain
        Ends of the axis; by default those of the data and the reference.
    """
    scale: Spec = {"padding": 8, **({"type": "log", "nice": False} if log else {"zero": False})}
    if domain is not None:
        scale["domain"] = list(domain)
    x: Spec = {"field": "value", "type": "quantitative", "title": title, "scale": scale}
    x["axis"] = {"tickCount": 5, "labelOverlap": True}
    y: Spec = {"field": "row", "type": "ordinal", "axis": None, "sort": "ascending"}
    shown = _tooltip("label", "value", "low", "high", "n")
    text: Spec = {"type": "text", "align": "left", "dy": -13, "limit": 330, "color": "ink"}
    place: Spec = {"x": {"value": 2}, "y": y, "text": {"field": "label", "type": "nominal"}}
    # Below each label its shape in the colour of the paper: no line strikes it through.
    wide: Spec = {**text, "strokeWidth": 6, "strokeJoin": "round"}
    halo: Spec = {"mark": wide, "encoding": {**place, "stroke": {"value": "paper"}}}
    layers = [] if reference is None else [_line("x", reference)]
    layers += [
        halo,
        {
            "mark": {"type": "rule", "size": 2.4, "strokeCap": "round", "color": "mark"},
            "encoding": {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "y": y},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1, "color": "mark"},
            "encoding": {"x": x, "y": y, "tooltip": shown},
        },
        {"mark": text, "encoding": place},
    ]
    return {"height": _ROW_HEIGHT * max(n_rows, 1), "layer": layers}


def bands(
    title: str,
    *,
    series: Mapping[str, str] | None = None,
    reference: float | None = None,
    height: int = 260,
    zero: bool = True,
) -> Spec:
    """Values by month with their intervals as whiskers on a line.

    Fields ``month`` (ISO date), ``value``, ``low``, ``high``, and ``series`` if there are any. A
    month without a value leaves a gap.

    Parameters
    ----------
    series
        Names of the lines and of their colours in the palette; one line if None.
    """
    x, y = _month(), _value(title)
    y["scale"] = {"zero": zero}
    coloured: Spec = {"color": {"value": "mark"}}
    shape: Spec = {}
    shown = ["month", "value", "low", "high", "n"]
    if series is not None:
        coloured, shape = _coloured(series), {"shape": _SHAPE}
        shown.insert(1, "series")
    layers = [] if reference is None else [_line("y", reference)]
    layers += [
        {
            "mark": {"type": "rule", "size": 2, "opacity": 0.55},
            "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, **coloured},
        },
        {
            "mark": {"type": "line", "size": 2, "invalid": "break-paths-show-domains"},
            "encoding": {"x": x, "y": y, **coloured},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 46, "opacity": 1},
            "encoding": {"x": x, "y": y, **coloured, **shape, "tooltip": _tooltip(*shown)},
        },
    ]
    return {"height": height, "layer": layers}


def bars(title: str, series: Mapping[str, str], *, height: int = 240) -> Spec:
    """Stacked bars by month; values below zero are stacked downwards.

    Fields ``month`` (ISO date), ``value`` and ``series``; `series` names their colours in the
    palette, in order of the stack.
    """
    return {
        "height": height,
        "mark": {"type": "bar", "binSpacing": 1},
        "encoding": {
            "x": {**_month(), "timeUnit": "utcyearmonth"},
            "y": {**_value(title), "stack": "zero"},
            **_coloured(series),
            "tooltip": _tooltip("month", "series", "value"),
        },
    }


def points(
    x_title: str,
    y_title: str,
    series: Mapping[str, str],
    *,
    log_x: bool = False,
    height: int = 320,
) -> Spec:
    """A scatter of models or pairs. Fields ``x``, ``y``, ``series`` and ``label``."""
    scale: Spec = {"type": "log", "nice": False} if log_x else {"zero": False}
    return {
        "height": height,
        "mark": {"type": "point", "filled": True, "size": 42, "opacity": 0.75},
        "encoding": {
            "x": {"field": "x", "type": "quantitative", "title": x_title, "scale": scale},
            "y": {"field": "y", "type": "quantitative", "title": y_title,
                  "scale": {"zero": False}},
            **_coloured(series),
            "shape": _SHAPE,
            "tooltip": _tooltip("label", "series", "x", "y"),
        },
    }  # fmt: skip


def _value(title: str) -> Spec:
    return {"field": "value", "type": "quantitative", "title": title}


def _month() -> Spec:
    # Dates are moments in UTC; a local scale would move the first of a month into the one before.
    return {
        "field": "month", "type": "temporal", "title": None, "scale": {"type": "utc"},
        "axis": {"labelOverlap": True, "labelFlush": True, "tickCount": 6},
    }  # fmt: skip


def _line(channel: str, at: float) -> Spec:
    """A dashed line across the picture."""
    return {
        "data": {"values": [{"reference": at}]},
        "mark": {"type": "rule", "strokeDash": [3, 3], "color": "soft"},
        "encoding": {channel: {"field": "reference", "type": "quantitative"}},
    }


def _coloured(series: Mapping[str, str]) -> Spec:
    return {
        "color": {
            "field": "series", "type": "nominal", "title": None,
            "scale": {"domain": list(series), "range": list(series.values())},
            "legend": {"orient": "top", "columns": 3, "labelLimit": 150, "symbolOpacity": 1},
        }
    }  # fmt: skip


def _tooltip(*fields: str) -> list[Spec]:
    return [
        {"field": field, "title": field, **_KINDS.get(field, {"type": "quantitative"})}
        for field in fields
    ]

"""Charts of a few thousand marks at most: Vega-Lite in our colours, with a table twin and a file.

Every chart states what it shows in words (its alternative text), keeps intervals as bands or
whiskers, and is followed by its figures as a table and as CSV. Text from the Hub enters as data
only (values, entries of a legend), never as an expression, a title or the name of a field.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import streamlit as st

from lineage.explorer.downloads import download
from lineage.explorer.palette import VARIABLES
from lineage.explorer.vega import Spec
from lineage.export.csv_text import csv_text
from lineage.model import Estimate

__all__ = [
    "ESTIMATE_COLUMNS",
    "MAX_MARKS",
    "Chart",
    "colours",
    "data_table",
    "dressed",
    "estimate_row",
    "show_chart",
    "table_csv",
]

Rows = Sequence[Mapping[str, object]]

MAX_MARKS = 5_000
"""Most rows that one chart may hold; aggregate before."""


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn and what it says.

    Attributes
    ----------
    spec
        Vega-Lite, without data and colours (:mod:`lineage.explorer.vega`).
    rows
        The data, one mapping a row; None is missing. Dates and numbers need no escaping, text is
        shown as it is.
    columns
        Field and heading of what the table shows, in order.
    alt
        What the picture shows, in a sentence.
    stem
        Name of the downloaded file, without its suffix.
    """

    spec: Spec
    rows: Rows
    columns: Mapping[str, str]
    alt: str
    stem: str


def colours(theme: str | None) -> Mapping[str, str]:
    """The palette of a theme (``light`` or ``dark``; light if None) by name."""
    light, dark = VARIABLES.split("@media", 1)
    return dict(re.findall(r"--(\w+):(#\w+)", dark if theme == "dark" else light))


# -- showing --------------------------------------------------------------------------------------


def show_chart(chart: Chart, *, key: str) -> None:
    """Draw the chart, then its table and its file.

    Raises
    ------
    ValueError
        If it holds more than :data:`MAX_MARKS` rows.
    """
    if len(chart.rows) > MAX_MARKS:
        raise ValueError(f"{len(chart.rows)} rows in a chart of at most {MAX_MARKS}: aggregate")
    theme = st.context.theme.type
    st.vega_lite_chart(
        dressed(chart, theme), width="stretch", theme=None, key=f"{key}-{theme or 'light'}"
    )
    data_table(chart.rows, chart.columns, chart.stem, label="These figures as a table")


def data_table(rows: Rows, columns: Mapping[str, str], stem: str, *, label: str) -> None:
    """A table that can be opened, and the same as CSV. `label` and `stem` are ours."""
    with st.expander(label):
        st.dataframe(
            {title: [_plain(row.get(field)) for row in rows] for field, title in columns.items()},
            width="stretch",
            hide_index=True,
        )
        download(
            "Download these figures as CSV", table_csv(rows, columns), f"{stem}.csv", "text/csv"
        )


def dressed(chart: Chart, theme: str | None) -> Spec:
    """The whole specification: with data, words and the colours of a theme."""
    shade = colours(theme)
    spec = _painted(chart.spec, {**shade, "mark": shade["finetune"]})
    assert isinstance(spec, dict)
    used = {"row", "label", "value", "low", "high", "n", "month", "series", "x", "y", "part"}
    values = [
        {field: _json(value) for field, value in row.items() if field in used} for row in chart.rows
    ]
    return {
        **spec,
        "description": chart.alt,
        "data": {"values": values},
        "autosize": {"type": "fit-x", "contains": "padding"},
        "config": {
            "background": "transparent",
            "font": "system-ui, 'DejaVu Sans', sans-serif",
            "view": {"stroke": None},
            "axis": {
                "labelColor": shade["soft"], "titleColor": shade["soft"],
                "gridColor": shade["faint"], "domainColor": shade["edge"],
                "tickColor": shade["edge"], "labelFontSize": 12, "titleFontSize": 12,
                "titleFontWeight": "normal",
            },
            "legend": {"labelColor": shade["ink"], "labelFontSize": 12},
            "text": {"fontSize": 12.5},
        },
    }  # fmt: skip


def _painted(part: object, shade: Mapping[str, str]) -> object:
    """The same with names of colours replaced by those of the theme."""
    if isinstance(part, dict):
        return {
            key: shade.get(value, value)
            if key in ("color", "value") and isinstance(value, str)
            else [shade[name] for name in value]
            if key == "range"
            else _painted(value, shade)
            for key, value in part.items()
        }
    if isinstance(part, list):
        return [_painted(item, shade) for item in part]
    return part


ESTIMATE_COLUMNS: Mapping[str, str] = {
    "label": "what", "value": "estimate", "low": "lower bound", "high": "upper bound", "n": "n",
    "groups": "independent groups", "p": "p", "method": "method",
}  # fmt: skip
"""Fields and headings of :func:`estimate_row`."""


def estimate_row(row: int, label: str, estimate: Estimate) -> dict[str, object]:
    """An estimate as a row of :func:`lineage.explorer.vega.whiskers` and of its table."""
    return {
        "row": row, "label": label, "value": estimate.value, "low": estimate.low,
        "high": estimate.high, "n": estimate.n, "groups": estimate.n_clusters,
        "p": estimate.p_value, "method": estimate.method,
    }  # fmt: skip


def table_csv(rows: Rows, columns: Mapping[str, str]) -> str:
    """The rows as CSV under their headings; no cell is taken for a formula."""
    return csv_text(list(columns.values()), ([row.get(one) for one in columns] for row in rows))


def _plain(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value


def _json(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.isoformat() if isinstance(value, date) else value

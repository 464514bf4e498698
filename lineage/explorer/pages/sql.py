"""The page SQL & data: ask the published tables in one's own words, and take the answer along."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import streamlit as st

from lineage.explorer.blocks import empty, heading, link
from lineage.explorer.charts import table_csv
from lineage.explorer.component import panel
from lineage.explorer.markup import Markup, join, tag
from lineage.explorer.register import Visit, default_home, fetched_from
from lineage.explorer.words import plural
from lineage.views import console

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["show_sql"]

_PER_PAGE = 100
_TRY_ROWS = 100
_FIELD = "<style>[data-testid='stTextArea'] textarea{font-family:monospace}</style>"


@st.cache_resource(show_spinner=False, on_release=console.Console.close)
def _console() -> console.Console:
    return console.Console()


@st.cache_data(max_entries=8, show_spinner=False)
def _answer(sha256: str, sql: str, _visit: Visit) -> console.Answer | console.Refused:
    # Keyed by the digest of the publication; an answer holds 16 MB at most.
    return _console().ask(default_home().published / _visit.manifest.file, sql)


@st.cache_data(max_entries=2, show_spinner=False)
def _tables(sha256: str, _visit: Visit) -> tuple[console.TableRow, ...]:
    return console.tables(_visit.cursor)


def show_sql(visit: Visit) -> None:
    """Draw the page."""
    limits = _console().limits
    panel(
        heading(
            "Ask the tables",
            "Everything on the other pages comes from a few tables. Ask them yourself in SQL: the "
            "address holds your question, so a link to it can be passed on.",
        ),
        key="sql-head",
    )
    sql = _question(limits)
    if sql.strip():
        with st.spinner("Asking…"):
            answer = _answer(visit.manifest.sha256, sql, visit)
        if isinstance(answer, console.Refused):
            if answer.again:
                _answer.clear(visit.manifest.sha256, sql, visit)
            panel(_refusal(answer), key="sql-answer")
        else:
            _show(visit, sql, answer, limits)
    else:
        _console().warm()
    panel(_saved(sql), _schema(visit), _whole(visit), key="sql-more")


def _question(limits: console.Limits) -> str:
    """The question of the address, in a field that writes it there."""
    st.html(_FIELD)
    sql = st.query_params.get("q", "")
    st.session_state["sql"] = sql
    with st.form("ask", border=False):
        st.text_area(
            "Your question in SQL",
            key="sql",
            height=190,
            placeholder="SELECT repo_id, n_descendants FROM model ORDER BY 2 DESC LIMIT 20",
        )
        st.form_submit_button("Ask", icon=":material/play_arrow:", on_click=_asked)
    st.caption(
        f"DuckDB's SQL, reading only: one statement, {limits.seconds:g} seconds, "
        f"{limits.memory_bytes >> 20} MB of memory, {limits.rows:,} rows. Ctrl+Enter asks."
    )
    return sql


def _asked() -> None:
    sql = str(st.session_state.get("sql") or "")
    st.query_params.clear()
    if sql.strip():
        st.query_params["q"] = sql


def _refusal(refused: console.Refused) -> Markup:
    said = tag("pre", refused.detail, class_="recipe") if refused.detail else None
    return empty("No answer", refused.sentence, None, said)


def _show(visit: Visit, sql: str, answer: console.Answer, limits: console.Limits) -> None:
    table = answer.table
    n_pages = max(1, -(-table.num_rows // _PER_PAGE))
    asked = st.query_params.get("page", "1")
    number = int(asked) if asked.isascii() and asked.isdecimal() and len(asked) < 6 else 1
    page = min(max(1, number), n_pages)
    first = (page - 1) * _PER_PAGE
    words = f"{plural(table.num_rows, 'row')} in {answer.seconds:.2f} s"
    if answer.is_cut:
        words = f"The first {limits.rows:,} rows in {answer.seconds:.2f} s; there are more."
    shown = tag("p", words, class_="soft", role="status")
    if not table.num_rows:
        shown = join(shown, tag("p", "No row of the register fits this question.", class_="soft"))
    panel(shown, key="sql-answer")
    st.dataframe(table.slice(first, _PER_PAGE), hide_index=True, width="stretch")
    if n_pages > 1:
        before = link("sql", "← before", q=sql, page=page - 1) if page > 1 else None
        after = link("sql", "next →", q=sql, page=page + 1) if page < n_pages else None
        here = tag("span", f"rows {first + 1:,} to {min(first + _PER_PAGE, table.num_rows):,}",
                   class_="soft")  # fmt: skip
        panel(
            tag("nav", before, here, after, class_="pager", aria_label="Pages"),
            key="sql-pages",
        )
    _files(table, f"herdbook-answer-{visit.manifest.data_date[:10]}")


def _files(table: pa.Table, stem: str) -> None:
    # Made only when they are asked for: a callable is called by the click.
    kinds: tuple[tuple[str, Callable[[], bytes], str, str], ...] = (
        ("CSV", lambda: as_csv(table), "csv", "text/csv"),
        ("Parquet", lambda: as_parquet(table), "parquet", "application/vnd.apache.parquet"),
        ("JSON", lambda: as_json(table), "json", "application/json"),
    )
    with st.container(horizontal=True):
        for label, make, suffix, mime in kinds:
            st.download_button(
                f"Answer ({label})", make, file_name=f"{stem}.{suffix}", mime=mime,
                on_click="ignore", icon=":material/download:",
            )  # fmt: skip


def as_csv(table: pa.Table) -> bytes:
    """A table as CSV in UTF-8; no cell is taken for a formula by a spreadsheet."""
    return table_csv(table.to_pylist(), {name: name for name in table.column_names}).encode()


def as_parquet(table: pa.Table) -> bytes:
    """A table as Parquet, with its types."""
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def as_json(table: pa.Table) -> bytes:
    """A table as a list of JSON objects; what is no finite number is null, dates are ISO 8601."""

    def plain(value: object) -> object:
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        return value.isoformat() if hasattr(value, "isoformat") else str(value)

    rows = [{name: plain(value) for name, value in row.items()} for row in table.to_pylist()]
    return json.dumps(rows, indent=1).encode()


def _saved(asked: str) -> Markup:
    cards = [
        link(
            "sql",
            join(tag("b", saved.title), tag("div", saved.words, class_="soft tiny")),
            class_="card on" if saved.sql == asked.strip() else "card",
            q=saved.sql,
        )
        for saved in console.SAVED
    ]
    return tag(
        "section",
        tag("h2", "Saved questions",
            tag("span", "Ask one, then change it.", class_="soft tiny subtle")),
        tag("div", *cards, class_="grid"),
        class_="gap",
    )  # fmt: skip


def _schema(visit: Visit) -> Markup:
    rows = [
        tag(
            "details",
            tag(
                "summary",
                tag("span", table.name, class_="mono"),
                tag("span", table.meaning, class_="break"),
                tag("span", f"{table.n_rows:,}", class_="soft tiny"),
            ),
            tag(
                "div",
                tag(
                    "dl",
                    *[
                        join(
                            tag("dt", tag("span", column.name, class_="mono")),
                            tag("dd", column.meaning,
                                tag("span", column.type, class_="soft tiny mono subtle")),
                        )
                        for column in table.columns
                    ],
                ),
                tag("p", link("sql", f"Show {_TRY_ROWS} rows",
                              q=f"FROM {table.name} LIMIT {_TRY_ROWS}")),
                class_="inside",
            ),
        )
        for table in _tables(visit.manifest.sha256, visit)
    ]  # fmt: skip
    return tag(
        "section",
        tag("h2", "Tables", tag("span", "Open one for its columns.", class_="soft tiny subtle")),
        *rows,
        class_="gap",
    )


def _whole(visit: Visit) -> Markup:
    """How to have the whole register, to ask it without limits."""
    origin = fetched_from(visit.manifest)
    command = f"herdbook fetch {origin}" if origin else f"duckdb -readonly {visit.manifest.file}"
    words = (
        "Fetch the register and ask it on your own machine, by DuckDB or by this page."
        if origin
        else "Who has the register's folder can ask its database there, by DuckDB."
    )
    return tag(
        "section",
        tag("h2", "Without limits"),
        tag("p", words),
        tag("code", command, class_="command"),
        class_="gap",
    )

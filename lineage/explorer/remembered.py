"""Answers that take a while, kept as long as the same publication is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar, cast

import duckdb
import streamlit as st

from lineage.explorer.register import Visit

__all__ = ["remembered"]

P = ParamSpec("P")
T = TypeVar("T")


@st.cache_data(max_entries=400, show_spinner="Counting …")
def _answer(key: tuple[str, ...], _ask: Callable[[], object]) -> object:
    return _ask()


def remembered(
    visit: Visit,
    ask: Callable[Concatenate[duckdb.DuckDBPyConnection, P], T],
    *arguments: P.args,
    **options: P.kwargs,
) -> T:
    """What `ask` answers of the publication; asked once for equal arguments.

    Arguments are told apart by their representation, so give plain values and frozen dataclasses.
    """
    key = (
        visit.manifest.sha256,
        f"{ask.__module__}.{ask.__qualname__}",
        repr((arguments, options)),
    )
    return cast(T, _answer(key, lambda: ask(visit.cursor, *arguments, **options)))

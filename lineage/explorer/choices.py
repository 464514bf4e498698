"""Widgets whose value lives in the address, so that a link reproduces the view."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

__all__ = ["choose_one", "choose_segment"]


def _prepare(key: str, options: Mapping[str, str], default: str) -> None:
    # The address decides: the widget's state is set before the widget is built. Streamlit's own
    # binding would write the words of an option into the address instead of its name.
    asked = st.query_params.get(key, default)
    st.session_state[key] = asked if asked in options else default


def _changed(key: str, default: str) -> None:
    value = st.session_state[key] or default
    st.query_params.pop("page", None)
    if value == default:
        st.query_params.pop(key, None)
    else:
        st.query_params[key] = value


def choose_segment(label: str, options: Mapping[str, str], key: str, default: str) -> str:
    """One of a few options, side by side; `options` maps names to words."""
    _prepare(key, options, default)
    chosen = st.segmented_control(
        label, list(options), key=key, format_func=lambda name: options[name], required=True,
        on_change=_changed, args=(key, default),
    )  # fmt: skip
    return chosen or default


def choose_one(label: str, options: Mapping[str, str], key: str, default: str) -> str:
    """One of many options, in a list that can be searched."""
    _prepare(key, options, default)
    chosen = st.selectbox(
        label, list(options), key=key, format_func=lambda name: options.get(name, name),
        on_change=_changed, args=(key, default),
    )  # fmt: skip
    return chosen or default

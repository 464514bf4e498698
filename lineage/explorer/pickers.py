"""Fields for names that live in the address: a link fills them, typing changes the link."""

from __future__ import annotations

import streamlit as st

__all__ = ["LONGEST_NAME", "asked_name", "name_field"]

LONGEST_NAME = 512
"""Longer names are no names of models; they are cut before anything is done with them."""


def asked_name(key: str) -> str:
    """The name that the address gives for `key`, without blanks around it; empty: none."""
    return st.query_params.get(key, "").strip()[:LONGEST_NAME]


def _changed(key: str) -> None:
    text = str(st.session_state[key]).strip()
    st.query_params.pop("page", None)
    if text:
        st.query_params[key] = text
    else:
        st.query_params.pop(key, None)


def name_field(label: str, key: str, placeholder: str) -> str:
    """A field for one name; returns what the address asks for."""
    asked = asked_name(key)
    st.session_state[key] = asked
    st.text_input(label, key=key, placeholder=placeholder, on_change=_changed, args=(key,))
    return asked

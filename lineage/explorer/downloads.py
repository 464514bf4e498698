"""The button that hands the reader a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import streamlit as st

__all__ = ["download"]


def download(
    label: str,
    content: str | bytes | Callable[[], str | bytes],
    file_name: str,
    mime: str,
    *,
    width: Literal["content", "stretch"] = "content",
) -> None:
    """Offer `content`, or what it makes, as a file; nothing is made or kept before the click.

    A file that is registered when the page is drawn lives until the next drawing only: a browser
    that asks for it a moment later, as Streamlit's does for every button, is answered 404.
    """
    st.download_button(
        label, content if callable(content) else lambda: content, file_name=file_name, mime=mime,
        on_click="ignore", icon=":material/download:", width=width,
    )  # fmt: skip

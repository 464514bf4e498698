"""Inside another site's frame: that site shows the address of the view, so that it can be shared.

A Docker Space shows the explorer in a frame and does not learn its address. It takes the query
string from a message, and hands it on when it is opened with one. Only the query string is sent,
only to the site named in ``HERDBOOK_FRAME``, and no message is listened to. The page, which is no
part of a query string, goes along under the name ``at``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from urllib.parse import urlencode

import streamlit as st

__all__ = ["PAGE", "frame_query", "parent_site", "tell_frame"]

PAGE = "at"
"""The parameter that names the page."""

_SITE = re.compile(r"https://[a-z0-9.\-]{1,253}(:\d{1,5})?|http://(127\.0\.0\.1|localhost):\d{1,5}")

_JS = """
export default function (component) {
  const { origin, query } = component.data;
  if (window.parent !== window) window.parent.postMessage({ queryString: query }, origin);
}
"""


def parent_site() -> str | None:
    """The site in whose frame this explorer is meant to stand; None: none is told anything.

    What is no site of its own, such as ``*``, counts as none.
    """
    site = os.environ.get("HERDBOOK_FRAME", "").rstrip("/")
    return site if _SITE.fullmatch(site) else None


def frame_query(page: str, query: Mapping[str, str]) -> str:
    """The query string that leads the framing site to a page.

    Examples
    --------
    >>> frame_query("lineage", {"model": "a/b"})
    '?at=lineage&model=a%2Fb'
    """
    words = urlencode({**({PAGE: page} if page else {}), **query})
    return f"?{words}" if words else ""


def tell_frame(page: str) -> None:
    """Send the present page and parameters to the framing site, if one is named."""
    site = parent_site()
    if site is None:
        return
    query = frame_query(page, st.query_params.to_dict())
    _component()(key="frame", data={"origin": site, "query": query})


@st.cache_resource
def _component() -> Callable[..., object]:
    return st.components.v2.component("herdbook.frame", html="<i hidden>\n</i>", js=_JS)

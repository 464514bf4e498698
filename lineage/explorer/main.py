"""Set up the explorer and show the page that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl, urlsplit

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from lineage.errors import HerdbookError, NotFoundError
from lineage.explorer.about import show_about
from lineage.explorer.audit import show_audit
from lineage.explorer.blocks import empty
from lineage.explorer.component import panel
from lineage.explorer.find import show_find
from lineage.explorer.heritability import show_heritability
from lineage.explorer.pedigree import show_lineage
from lineage.explorer.register import Visit, default_home, open_register
from lineage.explorer.sheet import PAGE_SHEET

__all__ = ["run"]

_PAGES: Mapping[str, tuple[str, str, Callable[[Visit], None]]] = {
    "": ("Find", ":material/search:", show_find),
    "lineage": ("Lineage", ":material/account_tree:", show_lineage),
    "audit": ("Audit", ":material/fact_check:", show_audit),
    "heritability": ("Heritability & selection", ":material/monitoring:", show_heritability),
    "about": ("About", ":material/info:", show_about),
}
_PARAMETERS = frozenset({"q", "model", "view", "show", "verdict", "family", "owner", "page"})


# Three generations and the name; an image cannot see the page's theme, but the reader's it can.
_LOGO = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 152 28" width="152" height="28">
<style>text{fill:#1b2433}path{stroke:#98a1b0}@media(prefers-color-scheme:dark){text{fill:#e8e6e0}}
</style><path d="M5 6V22H20M5 13H14" fill="none" stroke-width="1.6"/>
<circle cx="5" cy="6" r="4" fill="#7b7f86"/><circle cx="16" cy="13" r="3.6" fill="#0072B2"/>
<path d="M21 17l5 5-5 5-5-5z" fill="#D55E00" stroke="none"/>
<text x="35" y="20" font-family="'Source Serif 4','Source Serif Pro',Georgia,'DejaVu Serif',serif"
 font-size="18" font-weight="600">herdbook</text></svg>"""


def run() -> None:
    """Show the explorer; called once for every run of ``app.py``."""
    st.set_page_config(page_title="herdbook", page_icon="🧬", layout="wide")
    st.logo(_LOGO, size="large")
    st.html(PAGE_SHEET)
    pages: dict[str, StreamlitPage] = {}

    def follow(target: str) -> None:
        # The address comes back from the browser: known pages and parameters only.
        parts = urlsplit(target)
        page = pages.get(parts.path.removeprefix("./"))
        if page is None:
            return
        query = {key: value for key, value in parse_qsl(parts.query) if key in _PARAMETERS}
        st.switch_page(page, query_params=query)

    for path, (title, icon, show) in _PAGES.items():
        pages[path] = st.Page(
            _shown(show, follow), title=title, icon=icon, url_path=path, default=not path
        )
    st.navigation(list(pages.values()), position="top").run()


def _shown(show: Callable[[Visit], None], follow: Callable[[str], None]) -> Callable[[], None]:
    def page() -> None:
        try:
            cursor, manifest = open_register(default_home())
        except HerdbookError as error:
            missing = isinstance(error, NotFoundError)
            panel(
                empty(
                    "No register here yet" if missing else "This register cannot be shown",
                    str(error),
                    "herdbook run" if missing else "herdbook publish",
                ),
                key="no-register",
                follow=follow,
            )
            return
        show(Visit(cursor, manifest, follow))

    page.__name__ = show.__name__
    return page

"""Set up the explorer and show the page that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import duckdb
import streamlit as st
from streamlit.navigation.page import StreamlitPage

from lineage.errors import HerdbookError, NotFoundError
from lineage.explorer.blocks import empty
from lineage.explorer.component import panel
from lineage.explorer.frame import PAGE, tell_frame
from lineage.explorer.pages.about import show_about
from lineage.explorer.pages.atlas import show_atlas
from lineage.explorer.pages.audit import show_audit
from lineage.explorer.pages.compare import show_compare
from lineage.explorer.pages.diversity import show_diversity
from lineage.explorer.pages.evidence import show_evidence
from lineage.explorer.pages.find import show_find
from lineage.explorer.pages.heritability import show_heritability
from lineage.explorer.pages.lewontin import show_lewontin
from lineage.explorer.pages.lineage import show_lineage
from lineage.explorer.pages.owner import show_owner
from lineage.explorer.pages.phylogeny import show_phylogeny
from lineage.explorer.pages.propagation import show_propagation
from lineage.explorer.pages.sql import show_sql
from lineage.explorer.register import Visit, default_home, forget_register, open_register
from lineage.explorer.sheet import PAGE_SHEET

__all__ = ["run"]

_PAGES: Mapping[str, Mapping[str, tuple[str, str, Callable[[Visit], None]]]] = {
    "Browse": {
        "": ("Find", ":material/search:", show_find),
        "lineage": ("Lineage", ":material/account_tree:", show_lineage),
        "atlas": ("Atlas", ":material/map:", show_atlas),
        "owner": ("Owner", ":material/person:", show_owner),
    },
    "Check": {
        "evidence": ("Evidence", ":material/biotech:", show_evidence),
        "audit": ("Audit", ":material/fact_check:", show_audit),
        "compare": ("Compare", ":material/compare_arrows:", show_compare),
    },
    "Population": {
        "propagation": ("Propagation", ":material/trending_up:", show_propagation),
        "heritability": ("Heritability & selection", ":material/monitoring:", show_heritability),
        "lewontin": ("Lewontin's conditions", ":material/balance:", show_lewontin),
        "diversity": ("Diversity", ":material/diversity_3:", show_diversity),
        "phylogeny": ("Phylogeny", ":material/schema:", show_phylogeny),
    },
    "Data": {
        "sql": ("SQL & data", ":material/database:", show_sql),
        "about": ("About", ":material/info:", show_about),
    },
}
"""Menu, address, title, icon and function of every page."""

_UNREADABLE = "This register cannot be shown"
_DAMAGES = (
    duckdb.IOException, duckdb.FatalException, duckdb.InternalException,
    duckdb.SerializationException,
)  # fmt: skip
"""What DuckDB raises when the file under it is no longer what it was."""


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
    menu: dict[str, list[StreamlitPage]] = {}
    pages: dict[str, StreamlitPage] = {}
    for heading, group in _PAGES.items():
        for path, (title, icon, show) in group.items():
            pages[path] = st.Page(
                _shown(path, show), title=title, icon=icon, url_path=path, default=not path
            )
            menu.setdefault(heading, []).append(pages[path])
    chosen = st.navigation(menu, position="top")
    wanted = st.query_params.get(PAGE)
    if wanted is not None:
        # A framing site knows one address and its parameters only.
        query = {key: value for key, value in st.query_params.to_dict().items() if key != PAGE}
        st.switch_page(pages.get(wanted, chosen), query_params=query)
    chosen.run()


def _shown(path: str, show: Callable[[Visit], None]) -> Callable[[], None]:
    def page() -> None:
        try:
            show(Visit(*open_register(default_home())))
        except HerdbookError as error:
            _tell(
                "No register here yet" if isinstance(error, NotFoundError) else _UNREADABLE,
                str(error),
                "herdbook run" if isinstance(error, NotFoundError) else "herdbook publish",
            )
        except duckdb.OutOfMemoryException:
            _tell(
                "Too much at once",
                "This question needs more memory than the explorer may use, and there is no room "
                "for temporary files. Ask it of one family, or of one relation.",
                "herdbook health",
            )
        except _DAMAGES as error:
            forget_register()
            _tell(
                _UNREADABLE,
                "The database was replaced or damaged while it was being read. Load the page "
                f"again; if that does not help, publish again. ({type(error).__name__})",
                "herdbook publish",
            )
        tell_frame(path)

    page.__name__ = show.__name__
    return page


def _tell(title: str, words: str, command: str) -> None:
    panel(empty(title, words, command), key="no-register")

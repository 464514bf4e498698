"""Everybody's parents in memory, once for each publication."""

from __future__ import annotations

import streamlit as st

from lineage.explorer.register import Visit
from lineage.views.ancestry import Ancestry, read_ancestry

__all__ = ["ancestry_of"]


@st.cache_resource(max_entries=1, show_spinner=False)
def _ancestry(_visit: Visit, sha256: str) -> Ancestry:
    return read_ancestry(_visit.cursor)


def ancestry_of(visit: Visit) -> Ancestry:
    """The parents of every model of the publication that is visited."""
    return _ancestry(visit, visit.manifest.sha256)

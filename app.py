"""Streamlit entry of the explorer: ``streamlit run app.py``."""

from __future__ import annotations

from lineage.explorer.main import run

run()

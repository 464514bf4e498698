"""Opens a page of the explorer in Streamlit's test driver, and reads what its panels show."""

from __future__ import annotations

import json
from pathlib import Path

from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

APP = Path(__file__).resolve().parents[1] / "app.py"


def open_page(page: str = "", /, **query: str | list[str]) -> AppTest:
    """The page at an address; a test fails where it raises."""
    app = AppTest.from_file(str(APP), default_timeout=30)
    # The driver switches between files only; these pages are functions with an address.
    app._page_hash = calc_hash(page)
    for key, value in query.items():
        app.query_params[key] = value
    app.run()
    assert not app.exception
    return app


def asked(app: AppTest, key: str) -> str:
    """The value of a parameter, which the driver gives bare or in a list."""
    value = app.query_params[key]
    return value if isinstance(value, str) else value[0]


def markup(app: AppTest) -> str:
    """All that the panels show, as markup."""
    panels = [item.proto for item in app.main if item.type == "bidi_component"]
    return "".join(json.loads(panel.json)["markup"] for panel in panels)


def labels(app: AppTest) -> list[str]:
    """What the download buttons say."""
    return [button.label for button in app.download_button]

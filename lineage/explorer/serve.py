"""Start Streamlit when all is loaded and checked that its first visitor would otherwise wait for.

``python -m lineage.explorer.serve app.py --server.port=8501``: as ``streamlit run`` with the same
arguments.
"""

from __future__ import annotations

import importlib
import logging
import sys

from streamlit import logger
from streamlit.web import cli

__all__ = ["serve"]


def serve() -> None:
    """Load the pages, open the register, and hand over to Streamlit; does not return."""
    # Streamlit warns of all that happens outside a visit; when it starts it sets its level anew.
    logger.set_log_level(logging.ERROR)
    register = importlib.import_module("lineage.explorer.register")
    importlib.import_module("lineage.explorer.main")
    register.prepare(register.default_home())
    sys.argv = ["streamlit", "run", *sys.argv[1:]]
    cli.main()


if __name__ == "__main__":
    serve()

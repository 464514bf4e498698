"""Start the explorer as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

import lineage
from lineage.store.home import Home

__all__ = ["entry_point", "explore"]

_STOP_TIMEOUT_S = 5.0


def entry_point() -> Path:
    """The script that Streamlit runs: ``app.py`` of a checkout, else the installed package's."""
    package = Path(lineage.__file__).resolve().parent
    app = package.parent / "app.py"
    return app if app.is_file() else package / "explorer" / "__main__.py"


def explore(home: Home, port: int) -> int:
    """Run the explorer on `port` until interrupted; returns its exit code.

    It listens on this machine only, unless ``STREAMLIT_SERVER_ADDRESS`` says otherwise.
    """
    environment = {
        "STREAMLIT_SERVER_ADDRESS": "localhost",
        "STREAMLIT_SERVER_HEADLESS": "true",
        "STREAMLIT_SERVER_FILE_WATCHER_TYPE": "none",
        "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
        "STREAMLIT_RUNNER_POST_SCRIPT_GC": "false",
        "STREAMLIT_LOGGER_LEVEL": "warning",
        **os.environ,
        "HERDBOOK_HOME": str(home.root.resolve()),
    }
    command = [
        sys.executable, "-m", "lineage.explorer.serve", str(entry_point()), f"--server.port={port}",
    ]  # fmt: skip
    # Without this a terminated command would leave its explorer running; a shell that starts us in
    # the background has Ctrl-C ignored, which is no reason to ignore it here.
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        return process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt

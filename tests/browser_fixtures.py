"""A served explorer and a real Chromium, as fixtures: import `address`, `browser` and `page`."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from synthetic import make_publication

__all__ = ["CHROMIUM", "IN_A_BROWSER", "address", "browser", "page"]

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
APP = Path(__file__).resolve().parents[1] / "app.py"
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip

IN_A_BROWSER = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no chromium on this machine"),
]
"""The marks of a module whose tests drive the browser: ``pytestmark = IN_A_BROWSER``."""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    home = make_publication(tmp_path_factory.mktemp("home"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (tmp_path_factory.mktemp("log") / "server").open("w")
    server = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", str(APP), "--server.port", str(port),
         "--server.address", "127.0.0.1"],
        cwd=APP.parent, env={**os.environ, "HERDBOOK_HOME": str(home.root)},
        stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip
    base = f"http://127.0.0.1:{port}"
    try:
        _wait_for(base + "/_stcore/health", server)
        yield base
    finally:
        server.terminate()
        server.wait(timeout=20)
        log.close()


def _wait_for(url: str, server: subprocess.Popen[bytes], limit_s: float = 40.0) -> None:
    pause, until = threading.Event(), time.monotonic() + limit_s
    while time.monotonic() < until and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            pause.wait(0.2)
    pytest.fail("the explorer did not start")


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def page(browser, address):
    """A page that fails its test on a console error or a request that leaves this machine."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, base_url=address)
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(f"page error: {error}"))

    def hear(message) -> None:
        # On a deep link Streamlit itself first looks for its endpoints below the page's path.
        own_probe = "_stcore/" in message.location.get("url", "")
        if message.type == "error" and not own_probe:
            complaints.append(f"console: {message.text}")

    def watch(request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in {"data", "blob"} and parts.hostname != "127.0.0.1":
            complaints.append(f"request left this machine: {request.url}")

    opened.on("console", hear)
    opened.on("request", watch)
    opened.set_default_timeout(15_000)
    yield opened
    context.close()
    assert complaints == []

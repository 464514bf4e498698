"""The explorer in a real Chromium: clicks, keys, downloads, narrow screens, no stray request."""

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
from xml.etree import ElementTree

import pytest

from synthetic import make_publication

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
APP = Path(__file__).resolve().parents[1] / "app.py"
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no chromium on this machine"),
]


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


def test_search_then_a_click_shows_a_lineage_and_a_click_on_a_mark_changes_it(page):
    page.goto("/")
    page.get_by_label("Find a model").fill("slerp")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?q=slerp")
    page.get_by_text("2 models whose name contains").wait_for()
    page.locator("a.card", has_text="slerp-a-b-dpo").click()
    page.wait_for_url("**/lineage?model=blend*2Fslerp-a-b-dpo")
    page.locator('g[data-id="other/base-b-tuned"] .mark').click()
    page.wait_for_url("**/lineage?model=other*2Fbase-b-tuned")
    page.locator('g.is-focus[data-id="other/base-b-tuned"]').wait_for()
    page.go_back()
    page.locator('g.is-focus[data-id="blend/slerp-a-b-dpo"]').wait_for()


def test_enter_on_a_focused_mark_follows_it(page):
    page.goto("/lineage?model=zen/chat")
    node = page.locator('g[data-id="acme/base-a-7b"]')
    node.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**model=acme*2Fbase-a-7b")
    page.locator('g.is-focus[data-id="acme/base-a-7b"]').wait_for()


def test_hovering_lights_every_path_to_the_founders(page):
    page.goto("/lineage?model=blend/slerp-a-b")
    page.locator('g[data-id="blend/slerp-a-b"] .mark').hover()
    page.locator("svg.dim").wait_for()
    lit = page.locator("g[data-child].lit").evaluate_all("all => all.map(e => e.dataset.parent)")
    assert {"zen/chat", "acme/base-a-7b", "other/base-b-tuned", "other/base-b"} <= set(lit)


def test_the_drawing_downloads_as_well_formed_svg_named_after_model_and_date(page):
    page.goto("/lineage?model=zen/chat")
    with page.expect_download() as pending:
        page.get_by_role("button", name="Drawing (SVG)").click()
    assert pending.value.suggested_filename == "herdbook-zen-chat-2024-12-01.svg"
    root = ElementTree.parse(pending.value.path()).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"


def test_a_verdict_card_filters_the_audit_and_stands_in_the_address(page):
    page.goto("/audit")
    page.locator("a.card", has_text="contradicted").click()
    page.wait_for_url("**/audit?verdict=contradicted")
    page.locator("a.card.on").wait_for()
    page.locator("details").first.locator("summary").click()
    page.get_by_text("The weights point to").wait_for()
    assert page.locator("details").count() == 1


def test_a_card_with_script_in_it_does_nothing(page):
    page.on("dialog", lambda dialog: pytest.fail("a script from the Hub ran"))
    page.goto("/audit?owner=evil")
    page.locator("details summary").first.click()
    page.get_by_text("onerror").first.wait_for()
    assert page.locator("div.hb img").count() == 0


@pytest.mark.parametrize(
    ("path", "scheme"),
    [("/", "light"), ("/lineage?model=stack/franken-9b", "dark"), ("/audit", "light"),
     ("/heritability", "dark"), ("/about", "light")],
)  # fmt: skip
def test_pages_fit_a_narrow_screen_in_both_themes(browser, address, path, scheme):
    context = browser.new_context(
        viewport={"width": 360, "height": 740}, color_scheme=scheme, base_url=address
    )
    narrow = context.new_page()
    narrow.goto(path)
    narrow.locator("div.hb").last.wait_for(timeout=15_000)
    assert narrow.evaluate("document.documentElement.scrollWidth") <= 360
    main = narrow.locator("[data-testid=stMain]")
    assert main.evaluate("e => e.scrollWidth - e.clientWidth") <= 0
    assert narrow.locator(".box").first.get_attribute("data-theme") == scheme
    context.close()

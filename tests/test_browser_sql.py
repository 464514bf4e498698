"""The SQL console and the framing site in a real Chromium."""

from __future__ import annotations

import csv
import json
import os
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest

from browser_fixtures import IN_A_BROWSER, address, browser, page

__all__ = ["address", "browser", "page"]

pytestmark = IN_A_BROWSER

FRAMING = b"""<!doctype html><html lang="en"><title>A site around it</title>
<script>
window.said = [];
addEventListener("message", (event) => {
  if (event.data?.queryString !== undefined) said.push([event.origin, event.data]);
});
addEventListener("DOMContentLoaded", () => {
  document.querySelector("iframe").src = decodeURIComponent(location.hash.slice(1));
});
</script><iframe title="herdbook" width="1200" height="800"></iframe>"""


class _Framing(BaseHTTPRequestHandler):
    """Serves the page of another site."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(FRAMING)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Say nothing."""


@pytest.fixture(scope="module", autouse=True)
def site():
    """Another site, which the explorer of this module knows by its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Framing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    where = f"http://127.0.0.1:{server.server_address[1]}"
    os.environ["HERDBOOK_FRAME"] = where
    yield where
    del os.environ["HERDBOOK_FRAME"]
    server.shutdown()
    thread.join()
    server.server_close()


def sql(question: str) -> str:
    return f"/sql?q={quote(question)}"


def test_a_link_asks_and_the_answer_downloads_in_three_forms(page, tmp_path):
    page.goto(sql("SELECT repo_id, likes FROM model ORDER BY likes DESC, repo_id LIMIT 4"))
    page.get_by_text(re.compile(r"^4 rows in")).wait_for()
    found = {}
    for label, suffix in (("CSV", "csv"), ("Parquet", "parquet"), ("JSON", "json")):
        with page.expect_download() as pending:
            page.get_by_role("button", name=f"Answer ({label})").click()
        assert pending.value.suggested_filename == f"herdbook-answer-2024-12-01.{suffix}"
        found[suffix] = tmp_path / suffix
        pending.value.save_as(found[suffix])
    rows = pq.read_table(found["parquet"]).to_pylist()
    assert rows[0] == {"repo_id": "acme/base-a-7b", "likes": 50}
    assert json.loads(found["json"].read_text()) == rows
    with found["csv"].open(newline="") as file:
        assert [(row["repo_id"], int(row["likes"])) for row in csv.DictReader(file)] == [
            (row["repo_id"], row["likes"]) for row in rows
        ]


def test_a_question_is_typed_and_asked_by_keyboard_and_back_brings_the_one_before(page):
    page.goto(sql("SELECT 40 + 2 AS first"))
    page.get_by_text(re.compile(r"^1 row in")).wait_for()
    field = page.get_by_label("Your question in SQL")
    field.fill("SELECT range AS second FROM range(3)")
    field.press("Control+Enter")
    page.get_by_text(re.compile(r"^3 rows in")).wait_for()
    page.wait_for_url(lambda url: "second" in url)


def test_a_saved_question_is_asked_by_a_click_and_a_table_shows_its_columns(page):
    page.goto("/sql")
    page.locator("a.card", has_text="Largest families").click()
    page.wait_for_url(lambda url: "n_descendants" in url)
    page.get_by_text(re.compile(r"^\d rows in")).wait_for()
    page.locator("a.card.on", has_text="Largest families").wait_for()
    table = page.locator("details", has=page.locator("summary", has_text="One row per model"))
    table.locator("summary").focus()
    page.keyboard.press("Enter")
    table.get_by_text("longest path from a founder").wait_for()
    table.get_by_role("link", name="Show 100 rows").click()
    page.get_by_text(re.compile(r"^17 rows in")).wait_for()


def test_a_mistake_and_an_endless_question_are_told_and_the_page_lives_on(page):
    page.goto(sql("SELECT '<img src=x onerror=alert(1)>' FROM nowhere"))
    page.get_by_text("There is no such table").wait_for()
    assert page.locator("img[src=x]").count() == 0
    page.goto(sql("SELECT count(*) FROM range(1000000000000)"))
    page.get_by_text("Stopped after 2 s").wait_for()
    page.goto("/about")
    page.get_by_text("How to cite").wait_for()


def test_the_console_fits_a_narrow_screen(page):
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(sql("SELECT * FROM model"))
    page.get_by_text(re.compile(r"^17 rows in")).wait_for()
    page.get_by_text("Saved questions").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_framing_site_learns_the_view_and_its_link_leads_back(page, site, address):
    page.goto(f"{site}/#{quote(f'{address}/?at=lineage&model=zen/chat')}")
    frame = page.frame_locator("iframe")
    frame.locator("header h1").first.wait_for()
    page.wait_for_function("said.length > 0 && said.at(-1)[1].queryString.includes('zen')")
    told = page.evaluate("said")
    assert all(origin == address and list(data) == ["queryString"] for origin, data in told)
    assert told[-1][1]["queryString"] == "?at=lineage&model=zen%2Fchat"


def test_a_site_that_was_not_named_learns_nothing(page, address):
    """The explorer in a frame of its own host, whose origin is not the one that was named."""
    page.goto(f"{address}/about")
    page.get_by_text("How to cite").wait_for()
    page.evaluate(
        """async (source) => {
            window.said = [];
            addEventListener("message", (event) => {
                if (event.data?.queryString !== undefined) window.said.push(event.data);
            });
            const frame = document.createElement("iframe");
            frame.src = source;
            document.body.append(frame);
        }""",
        f"{address}/?at=about&doc=glossary",
    )
    page.frame_locator("iframe").get_by_text("Glossary").first.wait_for()
    page.wait_for_timeout(1_000)
    assert page.evaluate("window.said") == []

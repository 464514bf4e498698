"""Evidence, Audit, Compare and Owner in a real Chromium: clicks, keys, files, narrow screens."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

import browser_fixtures
from browser_fixtures import IN_A_BROWSER, address, browser, page
from evidence_register import MERGE, make_register

__all__ = ["address", "browser", "page"]

pytestmark = IN_A_BROWSER


@pytest.fixture(scope="module", autouse=True)
def register():
    """The explorer that is started serves the register with layers and licences."""
    patch = pytest.MonkeyPatch()
    patch.setattr(browser_fixtures, "make_publication", make_register)
    yield
    patch.undo()


def test_from_a_lineage_to_the_other_parent_and_back(page):
    page.goto(f"/evidence?child={MERGE}&parent=zen/chat")
    page.get_by_text("Which layer is which").wait_for()
    page.get_by_role("link", name="parent other/base-b-tuned").click()
    page.wait_for_url("**/evidence?child=blend*2Fslerp-a-b&parent=other*2Fbase-b-tuned")
    page.get_by_role("heading", name="other/base-b-tuned").wait_for()
    page.go_back()
    page.get_by_role("heading", name="zen/chat").wait_for()


def test_the_matrix_downloads_as_well_formed_svg_and_everything_as_json(page):
    page.goto(f"/evidence?child={MERGE}&parent=zen/chat")
    with page.expect_download() as pending:
        page.get_by_role("button", name="Matrix (SVG)").click()
    assert pending.value.suggested_filename == (
        "herdbook-blend-slerp-a-b-from-zen-chat-2024-12-01-matrix.svg"
    )
    root = ElementTree.parse(pending.value.path()).getroot()
    assert "7 match best" in root.get("aria-label")
    with page.expect_download() as pending:
        page.get_by_role("button", name="Everything (JSON)").click()
    with open(pending.value.path(), encoding="utf-8") as file:
        told = json.load(file)
    assert (told["edge"]["parent"], len(told["layers"])) == ("zen/chat", 9)


def test_names_that_are_typed_lead_to_an_edge(page):
    page.goto("/evidence")
    page.get_by_label("Child").fill(MERGE)
    page.keyboard.press("Enter")
    page.get_by_text("Its parents").wait_for()
    page.get_by_label("Parent", exact=True).fill("zen/chat")
    page.keyboard.press("Enter")
    page.wait_for_url("**child=blend*2Fslerp-a-b&parent=zen*2Fchat")
    page.get_by_text("Recovered recipe").wait_for()


def test_a_recipe_with_script_in_it_does_nothing(page):
    page.on("dialog", lambda dialog: pytest.fail("a script from the Hub ran"))
    page.goto(f"/evidence?child={MERGE}&parent=zen/chat")
    page.get_by_text("1 recipe that the repository states").click()
    page.get_by_text("alert('recipe')").wait_for()
    assert page.locator("main script, [data-testid=stMain] script").count() == 0


def test_the_lines_of_a_comparison_are_walked_with_the_keyboard(page):
    page.goto("/compare?a=blend/slerp-a-b-dpo&b=stack/franken-9b")
    page.locator('g[data-child="stack/franken-9b"]').focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/evidence?child=stack*2Ffranken-9b&parent=zen*2Fchat")
    page.get_by_text("What was declared").wait_for()
    page.goto("/compare?a=blend/slerp-a-b-dpo&b=stack/franken-9b")
    page.locator('g[data-id="zen/chat"]').focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/lineage?model=zen*2Fchat")


def test_a_class_of_terms_filters_the_conflicts(page):
    page.goto("/audit?subject=licences")
    page.locator("a.card", has_text="non-commercial").click()
    page.wait_for_url("**/audit?subject=licences&terms=non_commercial")
    page.locator("a.card.on").wait_for()
    page.locator("details summary").first.click()
    page.get_by_role("heading", name="The line between them").first.wait_for()


def test_conflicts_download_as_parquet(page):
    import pyarrow.parquet as pq

    page.goto("/audit?subject=licences&terms=custom")
    with page.expect_download() as pending:
        page.get_by_role("button", name="(Parquet)").click()
    table = pq.read_table(pending.value.path())
    assert set(table["ancestor"].to_pylist()) == {"acme/base-a-7b"}


def test_an_owner_leads_to_another_and_to_the_audit(page):
    page.goto("/owner?name=zen")
    page.get_by_role("link", name="blend", exact=True).click()
    page.wait_for_url("**/owner?name=blend")
    page.get_by_role("heading", name="blend", exact=True).wait_for()
    page.get_by_role("link", name="undeclared").click()
    page.wait_for_url("**/audit?verdict=undeclared&owner=blend")
    page.locator("a.card.on", has_text="undeclared").wait_for()


@pytest.mark.parametrize(
    ("path", "scheme"),
    [
        (f"/evidence?child={MERGE}&parent=zen/chat", "dark"), ("/evidence", "light"),
        ("/compare?a=blend/slerp-a-b-dpo&b=stack/franken-9b", "light"), ("/compare", "dark"),
        ("/owner?name=zen", "dark"), ("/owner", "light"),
        ("/audit?subject=licences", "dark"), ("/audit?subject=quantisations", "light"),
    ],
)  # fmt: skip
def test_pages_fit_a_narrow_screen_and_name_their_pictures(browser, address, path, scheme):
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
    unnamed = narrow.locator("svg.hb:not([aria-label])")
    assert unnamed.count() == 0
    context.close()

"""The explorer in a real Chromium: clicks, keys, downloads, narrow screens, no stray request."""

from __future__ import annotations

from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest

from browser_fixtures import IN_A_BROWSER, address, browser, page

__all__ = ["address", "browser", "page"]

pytestmark = IN_A_BROWSER


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
    page.go_back()
    page.get_by_text("2 models whose name contains").wait_for()
    assert urlsplit(page.url).path == "/"
    assert page.get_by_label("Find a model").input_value() == "slerp"
    page.go_forward()
    page.locator('g.is-focus[data-id="blend/slerp-a-b-dpo"]').wait_for()


def test_links_lead_to_pages_of_this_explorer_only(page):
    page.goto("/lineage?model=zen/chat")
    link = page.locator("a[data-go]").first
    link.wait_for()
    address = page.url
    for target in ("https://example.org/lineage", "//example.org/", "javascript:alert(1)"):
        link.evaluate("(element, target) => { element.dataset.go = target; }", target)
        link.dispatch_event("click", {"bubbles": True})
    page.wait_for_timeout(300)
    assert page.url == address


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

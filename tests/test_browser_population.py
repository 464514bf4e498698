"""The population pages in a real Chromium: charts with words, keys, files, narrow screens."""

from __future__ import annotations

import csv

import pytest

from browser_fixtures import IN_A_BROWSER, address, browser, page

__all__ = ["address", "browser", "page"]

pytestmark = IN_A_BROWSER

CHART = "[role='graphics-document'], [aria-roledescription='visualization']"


def test_a_deep_link_draws_a_chart_that_says_what_it_shows(page):
    page.goto("/propagation?window=365&until=2024-12-01")
    page.locator(CHART).first.wait_for()
    words = page.locator(CHART).first.get_attribute("aria-label")
    assert "Births by month and relation" in words


def test_a_choice_of_the_ranking_goes_into_the_address_and_back(page):
    page.goto("/propagation?window=365&until=2024-12-01")
    page.get_by_role("radio", name="Descendants").click()
    page.wait_for_url("**by=descendants**")
    page.locator("th", has_text="Descendants").wait_for()
    page.get_by_role("radio", name="Children").click()
    page.wait_for_url(lambda url: "by=" not in url)


def test_a_model_of_the_ranking_is_followed_by_the_keyboard(page):
    page.goto("/propagation?window=365&until=2024-12-01")
    model = page.locator("table a.word").first
    model.wait_for()
    name = model.inner_text()
    model.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/lineage?model=**")
    page.get_by_text(name.split("/")[1]).first.wait_for()


def test_the_figures_behind_a_chart_are_downloaded_as_csv(page):
    page.goto("/propagation?window=365&until=2024-12-01")
    page.get_by_text("Families that gain and lose").wait_for()  # the page is whole
    page.get_by_text("as a table").first.click()
    with page.expect_download() as pending:
        page.get_by_role("button", name="Download these figures as CSV").first.click()
    assert pending.value.suggested_filename == "herdbook-propagation-births-2024-12-01.csv"
    with open(pending.value.path(), newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["model"] in {"zen/chat", "acme/base-a-7b"}
    assert float(rows[0]["excess, lower bound"]) <= float(rows[0]["excess"])


@pytest.mark.parametrize(
    "path", ["propagation?window=365&watch=zen/chat", "diversity", "heritability", "lewontin",
             "phylogeny"],
)  # fmt: skip
def test_every_population_page_fits_a_narrow_dark_screen(browser, address, path):
    context = browser.new_context(
        viewport={"width": 360, "height": 800}, base_url=address, color_scheme="dark"
    )
    opened = context.new_page()
    opened.goto(f"/{path}")
    opened.locator("h1").wait_for()
    opened.wait_for_load_state("networkidle")
    assert opened.evaluate("document.documentElement.scrollWidth") <= 360
    context.close()

"""Every page under axe-core in both themes (names, contrast, roles, headings), and by keyboard."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe

import browser_fixtures
from browser_fixtures import IN_A_BROWSER, address, browser
from evidence_register import MERGE, make_register

__all__ = ["address", "browser"]

pytestmark = IN_A_BROWSER

PAGES = (
    "", "?q=zen", "?q=qqqqqqqq", f"lineage?model={MERGE}&table=true", "lineage", "atlas",
    "atlas?view=image", "owner?name=zen", f"evidence?child={MERGE}&parent=zen/chat", "audit",
    "audit?subject=licences", "audit?subject=quantisations",
    f"compare?a={MERGE}&b=stack/franken-9b", "propagation", "heritability", "lewontin",
    "diversity", "phylogeny", "sql?q=SELECT+1", "about",
)  # fmt: skip

# Streamlit's own link to the main part lies outside the landmarks, as such links do.
WITHIN = {"exclude": [["[data-testid=stSkipToContent]"]]}

FOCUSED = """() => {
  let at = document.activeElement;
  while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement;
  return at?.dataset?.go ?? "";
}"""


@pytest.fixture(scope="module", autouse=True)
def register():
    """The explorer that is started serves the register with layers and licences."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(browser_fixtures, "make_publication", make_register)
        yield


def opened(browser, address, path, scheme="light"):
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, color_scheme=scheme, base_url=address
    )
    page = context.new_page()
    page.goto(f"/{path}")
    page.locator("div.hb").first.wait_for(timeout=20_000)
    page.wait_for_load_state("networkidle")
    page.locator("[data-testid=stStatusWidget]").wait_for(state="detached", timeout=20_000)
    return page


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing_to_complain_of(browser, address, path, scheme):
    page = opened(browser, address, path, scheme)
    found = Axe().run(page, context=WITHIN).response
    said = [
        f"{rule['id']}: {node['html'][:120]} ({node['failureSummary'][:200]})"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]
    page.context.close()
    assert said == []
    assert len(found["passes"]) > 10


@pytest.mark.parametrize(
    "path", ["", f"lineage?model={MERGE}", f"evidence?child={MERGE}&parent=zen/chat", "audit",
             "owner?name=zen", f"compare?a={MERGE}&b=stack/franken-9b", "propagation", "about"],
)  # fmt: skip
def test_the_tab_key_reaches_links_and_enter_follows_them(browser, address, path):
    page = opened(browser, address, path)
    before = page.url
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate(FOCUSED):
            break
    target = page.evaluate(FOCUSED)
    assert target
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: url != before)
    page.locator("div.hb").first.wait_for(timeout=20_000)
    page.go_back()
    page.wait_for_url(before)
    page.context.close()

"""The page Lineage in a real Chromium: clicks, keys, stacks, filters, back, every file."""

from __future__ import annotations

import base64
import io
import json
from xml.etree import ElementTree

import dendropy
import networkx as nx
import pyarrow.parquet as pq
import pytest

import browser_fixtures
from browser_fixtures import IN_A_BROWSER, address, browser, page
from hub_register import FOUNDER, N_CHILDREN, make_hub

__all__ = ["address", "browser", "page"]

pytestmark = IN_A_BROWSER

HUB = f"/lineage?model={FOUNDER}&most=30"


@pytest.fixture(scope="module", autouse=True)
def _with_a_hub():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(browser_fixtures, "make_publication", make_hub)
        yield


def saved(page, label):
    with page.expect_download() as pending:
        page.get_by_role("button", name=label, exact=True).click()
    path = pending.value.path()
    return pending.value.suggested_filename, path.read_bytes()


def test_a_hub_is_a_ribbon_and_stacks_that_open_by_click_and_by_enter(page):
    page.goto(HUB)
    page.locator("g.ribbon").wait_for()
    assert page.locator("g[data-id]").count() == 30
    page.locator("g.stack.r-quantized text").click()
    page.wait_for_url("**open=quantized*3A40*")
    page.locator("g.stack.r-quantized", has_text="+20 quantisations").wait_for()
    page.locator("g.stack.r-adapter").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**open=adapter*3A40*")
    page.go_back()
    page.locator("g.stack.r-quantized", has_text="+20 quantisations").wait_for()


def test_hovering_a_hub_lights_its_ribbon_too(page):
    page.goto(HUB)
    page.locator("g.is-focus .mark").hover()
    page.locator("svg.dim g.ribbon.lit").wait_for()


def test_the_name_that_is_looked_for_is_found_among_the_many(page):
    page.goto(HUB)
    page.locator("g.ribbon").wait_for()
    page.get_by_label("Find below").fill("model-79")
    page.keyboard.press("Enter")
    page.wait_for_url("**find=model-79*")
    page.locator('g.hit[data-id="crowd/model-79"]').wait_for()


def test_a_filter_of_the_side_bar_narrows_the_drawing_and_stands_in_the_address(page):
    page.goto(HUB)
    page.locator("g.ribbon").wait_for()
    page.get_by_label("Relation", exact=True).click()
    page.get_by_role("option", name="adapter").click()
    page.wait_for_url("**relation=adapter*")
    page.get_by_text("Outside the filters: 60 models.").wait_for()
    assert page.locator('g.r-quantized[data-id^="crowd/"]').count() == 0


def test_a_trait_colours_the_marks_and_the_drawing_says_so(page):
    page.goto("/lineage?model=zen/chat&colour=trait:loss/python")
    page.locator("g.scaled").first.wait_for()
    fill = page.locator('g[data-id="zen/chat"] .mark').get_attribute("style")
    assert fill.startswith("fill:#")
    page.get_by_text("loss/python: 2").wait_for()


def test_the_drawing_follows_another_parent_after_a_click_and_the_first_again_after_back(page):
    page.goto("/lineage?model=blend/slerp-a-b")
    row = """name => [...document.querySelectorAll('*')].flatMap(
        e => e.shadowRoot ? [...e.shadowRoot.querySelectorAll('g[data-id]')] : [])
        .concat([...document.querySelectorAll('g[data-id]')])
        .map(g => g.dataset.id).indexOf(name)"""
    page.locator("g.is-focus").wait_for()
    assert page.evaluate(row, "blend/slerp-a-b") < page.evaluate(row, "other/base-b-tuned")
    page.get_by_text("draw along this parent").click()
    page.wait_for_url("**elbow=other*2Fbase-b-tuned*")
    page.locator('g.extra[data-parent="zen/chat"]').wait_for(state="attached")
    assert page.evaluate(row, "blend/slerp-a-b") > page.evaluate(row, "other/base-b-tuned")
    page.go_back()
    page.locator('g.extra[data-parent="other/base-b-tuned"]').wait_for(state="attached")


def test_the_breadcrumb_and_the_minimap_lead_on(page):
    page.goto("/lineage?model=blend/slerp-a-b-dpo")
    page.locator("figure a").click()
    page.wait_for_url("**view=family*")
    page.locator("nav.crumbs a", has_text="base-a-7b").click()
    page.wait_for_url("**model=acme*2Fbase-a-7b*")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_drawing_is_saved_as_a_picture_in_the_theme_of_the_page(browser, address, scheme):
    context = browser.new_context(color_scheme=scheme, base_url=address)
    opened = context.new_page()
    opened.goto("/lineage?model=zen/chat")
    opened.locator("g.is-focus").wait_for(timeout=15_000)
    width = opened.locator("svg.lineage").get_attribute("width")
    name, data = saved(opened, "Drawing (PNG)")
    assert name == "herdbook-zen-chat-2024-12-01.png"
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(data[16:20]) == 2 * int(width)
    shown = opened.evaluate(
        """async data => {
            const image = await createImageBitmap(await (await fetch(data)).blob());
            const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
            canvas.drawImage(image, 0, 0);
            return [...canvas.getImageData(4, 4, 1, 1).data];
        }""",
        "data:image/png;base64," + base64.b64encode(data).decode(),
    )
    assert (sum(shown[:3]) > 600) == (scheme == "light")
    context.close()


def test_every_file_comes_back_whole_in_the_tools_it_is_for(page):
    page.goto("/lineage?model=blend/slerp-a-b")
    page.locator("g.is-focus").wait_for()
    models = set(page.locator("g[data-id]").evaluate_all("all => all.map(g => g.dataset.id)"))
    edges = set(
        page.locator("g[data-child]").evaluate_all(
            "all => all.map(g => g.dataset.child + ' ' + g.dataset.parent)"
        )
    )
    stem = "herdbook-blend-slerp-a-b-2024-12-01"

    name, data = saved(page, "Drawing (SVG)")
    assert (name, ElementTree.fromstring(data).tag) == (
        f"{stem}.svg", "{http://www.w3.org/2000/svg}svg",
    )  # fmt: skip
    name, data = saved(page, "Edges (Parquet)")
    table = pq.read_table(io.BytesIO(data)).to_pylist()
    assert name == f"{stem}.parquet"
    assert {f"{row['child']} {row['parent']}" for row in table} == edges
    name, data = saved(page, "Models and edges (JSON)")
    assert {row["model"] for row in json.loads(data)["models"]} == models
    name, data = saved(page, "Graph (GraphML)")
    graph = nx.read_graphml(io.BytesIO(data))
    named = nx.get_node_attributes(graph, "name")
    assert {f"{named[b]} {named[a]}" for a, b in graph.edges} == edges
    options = {"preserve_underscores": True, "suppress_leaf_node_taxa": True}
    for label, suffix, schema in (
        ("Tree (Newick)", "nwk", "newick"),
        ("Network (extended Newick)", "enwk", "newick"),
        ("Coloured tree (Nexus)", "nex", "nexus"),
    ):
        name, data = saved(page, label)
        assert name == f"{stem}.{suffix}"
        trees = dendropy.TreeList.get(data=data.decode(), schema=schema, **options)
        labels = {n.label or (n.taxon and n.taxon.label) for t in trees for n in t} - {None}
        assert {label.split("#")[0] for label in labels} == models


def test_a_narrow_screen_shows_drawing_stacks_and_files_without_overflow(browser, address):
    context = browser.new_context(viewport={"width": 360, "height": 740}, base_url=address)
    narrow = context.new_page()
    narrow.goto(HUB)
    narrow.locator("g.ribbon").wait_for(timeout=15_000)
    assert narrow.evaluate("document.documentElement.scrollWidth") <= 360
    main = narrow.locator("[data-testid=stMain]")
    assert main.evaluate("e => e.scrollWidth - e.clientWidth") <= 0
    button = narrow.get_by_role("button", name="Coloured tree (Nexus)")
    button.scroll_into_view_if_needed()
    assert button.bounding_box()["x"] + button.bounding_box()["width"] <= 360
    context.close()


def test_everything_that_answers_has_a_name_and_pictures_have_words(page):
    page.goto(HUB)
    page.locator("g.ribbon").wait_for()
    unnamed = page.locator("[role=link], [role=img], nav, button.tool").evaluate_all(
        "all => all.filter(e => !e.getAttribute('aria-label') && !e.textContent.trim()).length"
    )
    assert unnamed == 0
    assert f"{N_CHILDREN + 1} models" in page.locator("svg.minimap").get_attribute("aria-label")

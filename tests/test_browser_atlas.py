"""The atlas in a real Chromium: WebGL2 by SwiftShader, keys, clicks, the address, and no WebGL2."""

from __future__ import annotations

import io
import re
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image

import browser_fixtures
from atlas_home import CROWD, FIRST_OF_CROWD, make_atlas_home
from browser_fixtures import ARGUMENTS, CHROMIUM, IN_A_BROWSER, address, page
from browser_fixtures import browser as plain_browser

__all__ = ["address", "page", "plain_browser"]

pytestmark = IN_A_BROWSER

N = CROWD + FIRST_OF_CROWD
WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
NO_WEBGL = ("--disable-gpu", "--disable-software-rasterizer")


@pytest.fixture(scope="module", autouse=True)
def register_with_an_atlas():
    """What `address` serves in this module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(browser_fixtures, "make_publication", make_atlas_home)
        yield


@pytest.fixture(scope="module")
def browser(plain_browser, request):
    flags = getattr(request, "param", WEBGL)
    kept = [flag for flag in ARGUMENTS if flag != "--disable-gpu"]
    started = plain_browser.browser_type.launch(executable_path=CHROMIUM, args=[*kept, *flags])
    yield started
    started.close()


def drawn(page, what):
    page.locator(f".atlas[data-drawn={what}]").wait_for()


def asked(page):
    return {key: values[-1] for key, values in parse_qs(urlsplit(page.url).query).items()}


def shown_colours(page):
    """Colours of more than twenty pixels of the map, as it is shown."""
    image = Image.open(io.BytesIO(page.locator(".stage").screenshot())).convert("RGB")
    return {colour for n, colour in image.getcolors(1 << 24) if n > 20}


def test_the_whole_forest_is_drawn_as_counts_and_the_keys_zoom_to_single_models(page):
    page.goto("/atlas")
    drawn(page, "counts")
    page.get_by_text(f"Positions 1 to {N:,} of {N:,}").wait_for()
    assert (0, 0x72, 0xB2) in shown_colours(page)  # fine-tunes
    page.locator(".stage").focus()
    page.keyboard.press("+")
    drawn(page, "models")
    page.wait_for_function("location.search.includes('z=1.00')")
    page.keyboard.press("ArrowDown")
    page.wait_for_function("!location.search.includes('y=2009')")
    page.keyboard.press("0")
    drawn(page, "counts")
    page.wait_for_function("location.search === ''")


def test_enter_opens_the_lineage_of_the_model_in_the_middle_and_back_returns_to_the_atlas(page):
    page.goto(f"/atlas?y={FIRST_OF_CROWD + 100}&z=9")
    drawn(page, "models")
    page.locator(".stage").focus()
    page.get_by_text(re.compile(r"crowd/model-\d+, .*Enter opens its lineage")).wait_for()
    name = page.locator(".says").text_content().split(",")[0]
    page.keyboard.press("Enter")
    page.wait_for_url("**/lineage?model=crowd*")
    assert asked(page) == {"model": name}
    page.go_back()
    drawn(page, "models")
    assert urlsplit(page.url).path == "/atlas"


def test_the_pointer_names_a_model_and_a_click_opens_its_lineage(page):
    page.goto("/atlas?model=zen/chat&z=8&y=5")
    drawn(page, "models")
    stage = page.locator(".stage")
    box = stage.bounding_box()
    for y in range(40, int(box["height"]), 6):
        stage.hover(position={"x": 30 + 46, "y": y})
        if page.locator(".tip b").is_visible():
            break
    name = page.locator(".tip b").text_content()
    assert "/" in name
    page.mouse.down()
    page.mouse.up()
    page.wait_for_url("**/lineage?model=*")
    assert asked(page)["model"] == name


def test_a_deep_link_centres_on_a_model_and_colours_by_verdict(page):
    page.goto("/atlas?model=zen/chat&colour=verdict")
    drawn(page, "models")
    page.locator(".legend", has_text="contradicted").wait_for()
    page.locator("table", has_text="Models in view").get_by_text("chat-v2").first.wait_for()
    assert asked(page) == {"model": "zen/chat", "colour": "verdict"}


def test_the_wheel_zooms_about_the_pointer_and_dragging_moves(page):
    page.goto("/atlas")
    drawn(page, "counts")
    page.locator(".stage").hover(position={"x": 300, "y": 300})
    for _ in range(4):
        page.mouse.wheel(0, -240)
    drawn(page, "models")
    page.wait_for_function("new URLSearchParams(location.search).get('z') > 2")
    before, box = asked(page), page.locator(".stage").bounding_box()
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 420, steps=4)
    page.mouse.up()
    page.wait_for_function(f"new URLSearchParams(location.search).get('y') < {before['y']}")
    page.keyboard.down("Shift")
    page.mouse.wheel(0, -240)
    page.keyboard.up("Shift")
    page.wait_for_function("new URLSearchParams(location.search).get('t') > 0.3")


def test_the_colour_changes_without_losing_the_place(page):
    page.goto("/atlas?y=1000&z=3")
    drawn(page, "models")
    page.get_by_text("Licence", exact=True).click()
    page.locator(".legend", has_text="permissive").wait_for()
    assert asked(page) == {"y": "1000", "z": "3", "colour": "licence"}
    page.get_by_text(re.compile(r"^Positions 749 to 1,252")).first.wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_map_fits_a_narrow_screen_in_both_themes(browser, address, scheme):
    context = browser.new_context(
        viewport={"width": 360, "height": 740}, color_scheme=scheme, base_url=address,
        reduced_motion="reduce",
    )  # fmt: skip
    narrow = context.new_page()
    narrow.goto("/atlas")
    drawn(narrow, "counts")
    narrow.get_by_role("button", name="Zoom in: fewer positions").click()
    drawn(narrow, "models")
    assert narrow.evaluate("document.documentElement.scrollWidth") <= 360
    main = narrow.locator("[data-testid=stMain]")
    assert main.evaluate("e => e.scrollWidth - e.clientWidth") <= 0
    assert narrow.locator(".box").first.get_attribute("data-theme") == scheme
    context.close()


@pytest.mark.parametrize("browser", [NO_WEBGL], indirect=True)
def test_without_webgl_an_image_zooms_by_click_and_by_keyboard(page):
    page.goto("/atlas")
    page.get_by_text("This browser draws no WebGL2").wait_for()
    bands = page.locator("a.band-link")
    assert bands.count() == 8
    bands.nth(7).click()
    page.wait_for_url(re.compile(r"/atlas\?y=3\d+&z=3\.0"))
    page.get_by_text(re.compile(r"^Positions 3,52\d to 4,017\.")).wait_for()
    page.locator("a.band-link").nth(3).focus()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"z=6\.\d"))
    page.locator("svg.atlas-image a.n").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/lineage?model=crowd*")

"""The page Atlas: the whole forest by time and drawing position, down to single models."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import streamlit as st

from lineage.errors import HerdbookError
from lineage.explorer.atlas_component import MapView, atlas_map
from lineage.explorer.atlas_drawing import NAMED_ROWS, Links, draw_atlas
from lineage.explorer.atlas_words import COLOURINGS
from lineage.explorer.blocks import empty, heading, link, model_link
from lineage.explorer.choices import choose_segment
from lineage.explorer.component import panel
from lineage.explorer.downloads import download
from lineage.explorer.exports import file_stem
from lineage.explorer.markup import Markup, address, join, tag
from lineage.explorer.register import Visit, default_home
from lineage.explorer.words import KIND_WORDS, count_words, date_words, plural, short
from lineage.views import atlas as views

__all__ = ["show_atlas"]

_KEPT = ("model", "colour", "view")
_KEYS = ("x", "y", "z", "t", "model")
_LONGEST_NUMBER = 32
_NO_WEBGL = "atlas-no-webgl"


def show_atlas(visit: Visit) -> None:
    """Draw the page."""
    try:
        atlas = _open(visit, str(default_home().root.resolve()), _digest(visit))
    except HerdbookError as error:
        panel(
            heading("Atlas"),
            empty("No atlas to show", str(error), "herdbook publish"),
            key="atlas-none",
        )
        return
    panel(
        heading(
            "Atlas",
            f"All {plural(atlas.n_models, 'model')} of this register: time runs to the right; "
            "families lie together, the largest at the bottom, a parent above what came from it.",
        ),
        key="atlas-head",
    )
    titles = {name: colouring.title for name, colouring in COLOURINGS.items()}
    colour = choose_segment("Colour by", titles, "colour", "relation")
    if _as_image():
        _image(visit, atlas, colour)
    else:
        _map(visit, atlas, colour)


def _digest(visit: Visit) -> str:
    companion = visit.manifest.companions.get("atlas")
    return companion.sha256 if companion else ""


@st.cache_resource(max_entries=2, show_spinner=False)
def _open(_visit: Visit, root: str, digest: str) -> views.Atlas:
    # Keyed by folder and digest: a new publication shows by itself.
    return views.open_atlas(default_home(), _visit.manifest)


def _as_image() -> bool:
    return st.query_params.get("view") == "image" or bool(st.session_state.get(_NO_WEBGL))


# -- the address --------------------------------------------------------------------------------


def _asked_number(key: str) -> float | None:
    text = st.query_params.get(key, "")
    try:
        value = float(text) if len(text) <= _LONGEST_NUMBER else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _asked_time() -> datetime | None:
    try:
        when = datetime.fromisoformat(st.query_params.get("x", "")[:_LONGEST_NUMBER])
        return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _asked_window(atlas: views.Atlas, spot: views.Spot | None) -> views.Window:
    """The window of the address; around a model where only that is given."""
    position, zoom = _asked_number("y"), _asked_number("z")
    if spot is not None and position is None and zoom is None:
        return views.window_on(atlas, spot)
    if position is None and spot is not None:
        position = spot.position + 0.5
    return views.window_at(
        atlas, position, zoom or 0.0, _asked_time(), _asked_number("t") or 0.0
    )  # fmt: skip


def _asked_spot(visit: Visit, atlas: views.Atlas) -> views.Spot | None:
    model = st.query_params.get("model", "").strip()
    return views.spot_of(visit.cursor, atlas, model) if model else None


def _here(window: views.Window, atlas: views.Atlas, *kept: str, **further: str) -> dict[str, str]:
    """The parameters of a window for a link, and those of the address that are `kept`."""
    zoom = math.log2(max(atlas.n_models / window.rows, 1))
    also = {key: st.query_params[key] for key in kept if key in st.query_params}
    return {"y": f"{window.first + window.rows / 2:.0f}", "z": f"{zoom:.2f}", **also, **further}


# -- the map ------------------------------------------------------------------------------------


def _map(visit: Visit, atlas: views.Atlas, colour: str) -> None:
    spot = _asked_spot(visit, atlas)
    window = _asked_window(atlas, spot)
    view = MapView(
        window=window,
        key="|".join(st.query_params.get(key, "") for key in _KEYS),
        colour=colour,
        spot=spot,
        clades=_seen(visit, atlas, visit.manifest.sha256, window).inside,
        digest=_digest(visit)[:16],
        words=f"Map of {plural(atlas.n_models, 'model')}, {COLOURINGS[colour].says}. Arrow keys "
        "move, plus and minus zoom, brackets zoom time, 0 shows everything, Enter opens the model "
        "in the middle. The tables below say what is in view.",
    )
    if not atlas_map(visit.cursor, atlas, view, key="atlas-map"):
        st.session_state[_NO_WEBGL] = True
        st.rerun()
    as_image = link(
        "atlas", "Show this as an image", **_here(window, atlas, "model", "colour", view="image")
    )
    panel(
        _unknown(visit, spot),
        tag(
            "p",
            "Wheel or pinch zooms positions, with Shift time; drag to move. ",
            as_image,
            ".",
            class_="soft tiny",
        ),
        _tables(visit, atlas, window),
        key="atlas-twin",
    )


def _unknown(visit: Visit, spot: views.Spot | None) -> Markup:
    model = st.query_params.get("model", "").strip()
    if not model or spot is not None:
        return Markup("")
    return tag(
        "p", "This register holds no model called ", tag("b", short(model, 96)), ". ",
        link("", "Find a model", q=short(model, 96)), class_="notice", role="status",
    )  # fmt: skip


@st.cache_data(max_entries=64, show_spinner=False)
def _seen(_visit: Visit, _atlas: views.Atlas, sha256: str, window: views.Window) -> views.Contents:
    return views.contents(_visit.cursor, _atlas, window)


def _tables(visit: Visit, atlas: views.Atlas, window: views.Window) -> Markup:
    """What is in view, in words: the list twin of the picture."""
    seen = _seen(visit, atlas, visit.manifest.sha256, window)
    first, last = window.positions
    path = [model_link(clade.repo_id) for clade in seen.around if clade.size < atlas.n_models]
    within = join("All of this descends from ", *_arrows(path), ".") if path else None
    return tag(
        "section",
        tag("h2", "In view"),
        tag("p", f"Positions {first + 1:,} to {last + 1:,}. ", within, class_="soft"),
        _family_table(atlas, seen.families) if seen.families else None,
        _model_table(seen.models)
        if seen.models
        else tag("p", "No model of these positions was made in this time.", class_="soft"),
        class_="gap",
    )


def _arrows(path: list[Markup]) -> list[Markup]:
    return [join(" › " if i else "", item) for i, item in enumerate(path)]


def _table(caption: str, heads: tuple[str, ...], rows: list[Markup]) -> Markup:
    head = [
        tag("th", word, scope="col", class_="num" if i else None) for i, word in enumerate(heads)
    ]
    return tag(
        "div",
        tag(
            "table",
            tag("caption", caption, style="text-align:left;font-weight:600;padding:.9rem 0 .2rem"),
            tag("thead", tag("tr", *head)),
            tag("tbody", *rows),
        ),
        class_="scroll",
    )


def _family_table(atlas: views.Atlas, families: tuple[views.AtlasFamily, ...]) -> Markup:
    rows = []
    for family in families:
        place = _here(views.window_of(atlas, family.position, family.size), atlas, "colour", "view")
        rows.append(
            tag(
                "tr",
                tag("td", model_link(family.repo_id)),
                tag("td", f"{family.n_here:,}", class_="num"),
                tag("td", f"{family.size:,}", class_="num"),
                tag("td", date_words(family.created_at), class_="num"),
                tag("td", link("atlas", "zoom to it", **place), class_="num"),
            )
        )
    heads = ("Founder", "in view", "whole family", "made", "on the map")
    return _table("Largest families in view", heads, rows)


def _model_table(models: tuple[views.AtlasModel, ...]) -> Markup:
    rows = [
        tag(
            "tr",
            tag("td", model_link(model.repo_id)),
            tag("td", KIND_WORDS.get(model.kind or "", "–"), class_="num"),
            tag("td", date_words(model.created_at), class_="num"),
            tag("td", f"{model.n_descendants:,}", class_="num"),
            tag("td", count_words(model.downloads_30d), class_="num"),
        )
        for model in models
    ]
    heads = ("Model", "kind", "made", "descendants", "downloads, 30 days")
    return _table("Models in view with most descendants", heads, rows)


# -- the image ----------------------------------------------------------------------------------


def _image(visit: Visit, atlas: views.Atlas, colour: str) -> None:
    """The window as a picture that needs no WebGL2, with links that zoom."""
    spot = _asked_spot(visit, atlas)
    window = _asked_window(atlas, spot)
    first, last = window.positions
    inside = _seen(visit, atlas, visit.manifest.sha256, window).inside
    few = window.rows <= NAMED_ROWS
    names = views.names_at(visit.cursor, first, last) if few else ()

    def zoom_link(begin: int, end: int) -> str:
        part = views.window_of(atlas, begin, end - begin + 1)
        return address("atlas", **_here(part, atlas, *_KEPT))

    def draw(links: Links | None) -> str:
        return draw_atlas(atlas, window, colour, inside, spot, names, links)

    panel(
        _unknown(visit, spot),
        _no_webgl() if st.query_params.get("view") != "image" else Markup(""),
        _steps(atlas, window),
        tag("div", Markup(draw(Links(zoom_link, _lineage_link))), class_="pane"),
        _tables(visit, atlas, window),
        key="atlas-image",
    )
    stem = file_stem("atlas", visit.manifest.data_date)
    download(
        "This picture (SVG)", draw(None), f"{stem}-{first + 1}-{last + 1}.svg", "image/svg+xml"
    )


def _lineage_link(name: str) -> str:
    return address("lineage", model=name)


def _no_webgl() -> Markup:
    return tag(
        "p",
        "This browser draws no WebGL2, so the atlas is shown as an image. Choose a part of it to "
        "zoom in.",
        class_="notice",
        role="status",
    )


def _steps(atlas: views.Atlas, window: views.Window) -> Markup:
    n, first, rows = atlas.n_models, window.first, window.rows
    moves = {
        "Whole forest": (0.0, float(n)),
        "Zoom out": (first - 1.5 * rows, 4 * rows),
        "Up": (first - 0.75 * rows, rows),
        "Down": (first + 0.75 * rows, rows),
    }
    links = []
    for words, (to, height) in moves.items():
        part = views.window_of(atlas, to, height)
        if part.rows == rows and abs(part.first - first) < 0.5:
            links.append(tag("span", words, class_="soft"))
        else:
            links.append(link("atlas", words, **_here(part, atlas, *_KEPT)))
    if st.query_params.get("view") == "image":
        links.append(link("atlas", "Interactive map", **_here(window, atlas, "model", "colour")))
    return tag("nav", *links, class_="pager", style="margin-bottom:.6rem",
               aria_label="Move the picture")  # fmt: skip

"""The page Lineage: one model's ancestors and descendants over time, and its details."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import duckdb
import streamlit as st

from lineage import views
from lineage.explorer.blocks import empty, heading, link, model_card, name
from lineage.explorer.choices import choose_segment
from lineage.explorer.colours import CATEGORIES, Colouring, colour_marks
from lineage.explorer.component import panel
from lineage.explorer.detail import detail_blocks, facts_block
from lineage.explorer.drawing import DrawOptions, draw_lineage
from lineage.explorer.exports import (
    file_stem,
)
from lineage.explorer.filters import TRAIT, Filters, side_bar
from lineage.explorer.lineage_files import offer_files
from lineage.explorer.markup import Markup, address, join, tag
from lineage.explorer.minimap import draw_minimap
from lineage.explorer.register import Visit
from lineage.explorer.words import (
    RELATION_WORDS,
    plural,
    short,
)
from lineage.views import clades, surroundings

__all__ = ["show_lineage"]

_VIEWS = {"near": "Near relatives", "family": "Whole family"}
_SHOWS = {"all": "Both", "declared": "Declared", "found": "Found in weights"}
_LONGEST_FIND = 96
_MOST_OPENED = 120
_MOST_CRUMBS = 8
_GRID = (24, 108)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the address asks of the drawing, beside the filters."""

    view: str
    show: str
    find: str
    elbow: str
    opened: clades.Opened | None

    def query(self, filters: Filters) -> dict[str, str]:
        """What every link to another model keeps: not what concerns this one alone."""
        said = {
            "view": "" if self.view == "near" else self.view,
            "show": "" if self.show == "all" else self.show,
            **filters.query(),
        }
        return {key: value for key, value in said.items() if value}


def show_lineage(visit: Visit) -> None:
    """Draw the page."""
    model = st.query_params.get("model", "").strip()
    if not model:
        _nothing_selected(visit)
        return
    sha256 = visit.manifest.sha256
    detail = _detail(visit.cursor, sha256, model)
    if detail is None:
        _unknown(visit, model)
        return
    filters = side_bar(_traits(visit.cursor, sha256), depths=True)
    panel(_head(visit, detail), key="lin-head")
    asked = _controls(model)
    around = _around(visit.cursor, sha256, model, filters, asked)
    if around is None:
        _unknown(visit, model)
        return
    colouring = _colours(visit, filters, around)
    query = asked.query(filters)
    svg = draw_lineage(
        around,
        DrawOptions(show=asked.show, query=query, parent=asked.elbow, opened=asked.opened,
                    colouring=colouring),
    )  # fmt: skip
    stem = file_stem(model, visit.manifest.data_date)
    panel(
        tag("div", Markup(svg), class_="pane"),
        _notes(around, asked),
        _minimap(visit, detail.card, around, query) or Markup(""),
        tag(
            "div",
            tag("button", "Drawing (PNG)", type="button", class_="tool",
                data_png=f"{stem}.png", data_of="svg.lineage"),
            class_="tools",
        ),
        *detail_blocks(detail, surroundings.history(visit.cursor, model), query, asked.elbow),
        key="lin-drawing",
    )  # fmt: skip
    offer_files(stem, detail, around, colouring, svg, show=asked.show, parent=asked.elbow)


# -- what the address asks ----------------------------------------------------------------------


def _controls(model: str) -> _Asked:
    left, middle, right = st.columns([10, 13, 9])
    with left:
        view = choose_segment("Who", _VIEWS, "view", "near")
    with middle:
        show = choose_segment("Which edges", _SHOWS, "show", "all")
    with right:
        st.session_state["find"] = st.query_params.get("find", "")[:_LONGEST_FIND]
        find = st.text_input(
            "Find below", key="find", placeholder="part of a name", max_chars=_LONGEST_FIND,
            on_change=_found,
        )  # fmt: skip
    return _Asked(view, show, find.strip(), st.query_params.get("elbow", ""), _opened(model))


def _found() -> None:
    if st.session_state["find"].strip():
        st.query_params["find"] = st.session_state["find"].strip()
    else:
        st.query_params.pop("find", None)


def _opened(model: str) -> clades.Opened | None:
    """``open=relation:number:owner``; anything else is no stack."""
    relation, _, rest = st.query_params.get("open", "").partition(":")
    n, _, owner = rest.partition(":")
    if relation not in RELATION_WORDS or not n.isascii() or not n.isdecimal() or len(n) > 3:
        return None
    return clades.Opened(owner or model, relation, min(int(n), _MOST_OPENED))


# -- answers, kept for each publication ---------------------------------------------------------


@st.cache_resource(show_spinner=False, max_entries=64)
def _detail(
    _cursor: duckdb.DuckDBPyConnection, sha256: str, model: str
) -> views.ModelDetail | None:
    return views.model_detail(_cursor, model)


@st.cache_resource(show_spinner=False, max_entries=64)
def _traits(_cursor: duckdb.DuckDBPyConnection, sha256: str) -> tuple[str, ...]:
    return surroundings.trait_names(_cursor)


@st.cache_resource(show_spinner=False, max_entries=64)
def _density(
    _cursor: duckdb.DuckDBPyConnection, sha256: str, founder: str
) -> surroundings.Density | None:
    return surroundings.density(_cursor, founder, *_GRID)


@st.cache_resource(show_spinner=False, max_entries=64)
def _neighbourhood(
    _cursor: duckdb.DuckDBPyConnection,
    sha256: str,
    model: str,
    filters: Filters,
    whole_family: bool,
    find: str,
    opened: clades.Opened | None,
) -> views.Neighbourhood | None:
    return views.neighbourhood(
        _cursor,
        model,
        ancestors=filters.up,
        descendants=filters.down,
        whole_family=whole_family,
        max_marks=filters.most,
        bounds=filters.bounds,
        find=find,
        opened=opened,
        category=filters.colour if filters.colour in CATEGORIES else "none",
    )


def _around(
    cursor: duckdb.DuckDBPyConnection, sha256: str, model: str, filters: Filters, asked: _Asked
) -> views.Neighbourhood | None:
    is_family = asked.view == "family"
    return _neighbourhood(cursor, sha256, model, filters, is_family, asked.find, asked.opened)


def _colours(visit: Visit, filters: Filters, around: views.Neighbourhood) -> Colouring:
    traits: Mapping[str, float] = {}
    if filters.colour.startswith(TRAIT):
        names = [mark.repo_id for mark in around.marks]
        traits = surroundings.trait_values(visit.cursor, filters.colour.removeprefix(TRAIT), names)
    return colour_marks(filters.colour, around.marks, around.births, traits)


# -- parts of the page --------------------------------------------------------------------------


def _head(visit: Visit, detail: views.ModelDetail) -> Markup:
    line = surroundings.line(visit.cursor, detail.card)
    crumbs = None
    if len(line) > 1:
        shown: list[object] = [link("lineage", short(one, 40), model=one) for one in line[:-1]]
        if len(shown) > _MOST_CRUMBS:
            half = _MOST_CRUMBS // 2
            shown[half:-half] = [f"… {len(shown) - _MOST_CRUMBS:,} more …"]
        pieces = [piece for one in shown for piece in (one, tag("span", "→", class_="sep"))]
        crumbs = tag(
            "nav", *pieces, tag("span", short(line[-1], 40), aria_current="page"),
            class_="crumbs", aria_label="From the founder along first parents",
        )  # fmt: skip
    return join(
        crumbs, heading(name(detail.card.repo_id), facts_block(detail), eyebrow="Lineage")
    )  # fmt: skip


def _notes(around: views.Neighbourhood, asked: _Asked) -> Markup:
    notes: list[object] = []
    n_counted = around.n_left_out - around.n_filtered
    if n_counted:
        notes.append(
            f"Counted, not drawn one by one: {plural(n_counted, 'further model')} of this clade."
        )
    if around.n_filtered:
        notes.append(f"Outside the filters: {plural(around.n_filtered, 'model')}.")
    if asked.find:
        n_hits = sum(mark.is_hit for mark in around.marks)
        where = tag("b", short(asked.find, 60))
        notes.append(
            join(plural(n_hits, "name"), " with ", where, " in it, shown with a halo.")
            if n_hits
            else join("No name in this clade has ", where, " in it.")
        )
    return tag("p", *[piece for note in notes for piece in (" ", note)], class_="soft tiny")


def _minimap(
    visit: Visit, card: views.ModelCard, around: views.Neighbourhood, query: Mapping[str, str]
) -> Markup | None:
    inside = sum(not mark.ghost for mark in around.marks)
    density = _density(visit.cursor, visit.manifest.sha256, card.founder)
    if density is None or density.size <= max(inside, 1):
        return None
    whole = query.get("view") == "family"
    pos, size = (density.pos, density.size) if whole else (card.pos, card.size)
    dates = [mark.created_at for mark in around.marks if mark.created_at is not None]
    says = "The window holds the whole family." if whole else f"The window is {card.repo_id}."
    picture = draw_minimap(density, pos, size, dates, says)
    family = address("lineage", model=card.repo_id, **{**query, "view": "family"})
    words = (
        f"The whole family, {plural(density.size, 'model')}: time to the right, one line of "
        "descent below the other; darker is more models. The frame is what the drawing shows."
    )
    return tag(
        "figure",
        picture if whole else tag("a", picture, href=family, data_go=family),
        tag("figcaption", words, class_="soft tiny"),
        style="margin:0",
    )


def _nothing_selected(visit: Visit) -> None:
    examples = views.examples(visit.cursor, 3)
    seen: dict[str, views.ModelCard] = {item.model.repo_id: item.model for item in examples}
    panel(
        heading("Lineage", "Choose a model to see where it came from and what came of it."),
        tag("div", *[model_card(item) for item in seen.values()], class_="grid gap")
        if seen
        else empty("No lineage yet", "The register holds no edge: nothing was declared or found."),
        key="lin-none",
    )


def _unknown(visit: Visit, model: str) -> None:
    near = views.near(visit.cursor, model)
    panel(
        heading("Lineage"),
        empty(
            "This register does not know that model",
            join("It holds nothing called ", tag("b", short(model, 96)), "."),
            None,
            tag("p", "Near names:", class_="soft") if near else None,
            tag("div", *[model_card(item) for item in near], class_="grid") if near else None,
        ),
        key="lin-unknown",
    )

"""The page Lineage: one model's ancestors and descendants over time, and its details."""

from __future__ import annotations

import streamlit as st

from lineage import views
from lineage.explorer.blocks import empty, heading, model_card, name
from lineage.explorer.choices import choose_segment
from lineage.explorer.component import panel
from lineage.explorer.detail import detail_blocks, facts_block
from lineage.explorer.downloads import download
from lineage.explorer.drawing import DrawOptions, draw_lineage
from lineage.explorer.exports import edges_csv, file_stem, neighbourhood_json
from lineage.explorer.markup import Markup, join, tag
from lineage.explorer.register import Visit
from lineage.explorer.words import (
    KIND_WORDS,
    RELATION_WORDS,
    date_words,
    number,
    plural,
    short,
)

__all__ = ["show_lineage"]

_VIEWS = {"near": "Near relatives", "family": "Whole family"}
_SHOWS = {"all": "Both", "declared": "Declared", "found": "Found in weights"}


def show_lineage(visit: Visit) -> None:
    """Draw the page."""
    model = st.query_params.get("model", "").strip()
    if not model:
        _nothing_selected(visit)
        return
    detail = views.model_detail(visit.cursor, model)
    if detail is None:
        _unknown(visit, model)
        return
    panel(
        heading(name(model), facts_block(detail), eyebrow="Lineage"), key="lin-head",
        follow=visit.follow,
    )  # fmt: skip
    left, right = st.columns([1, 1])
    with left:
        view = choose_segment("Who", _VIEWS, "view", "near")
    with right:
        show = choose_segment("Which edges", _SHOWS, "show", "all")
    around = views.neighbourhood(visit.cursor, model, whole_family=view == "family")
    if around is None:
        _unknown(visit, model)
        return
    svg = draw_lineage(around, DrawOptions(show=show, view="" if view == "near" else view))
    panel(
        tag("div", Markup(svg), class_="pane"),
        _left_out(around),
        *detail_blocks(detail),
        key="lin-drawing",
        follow=visit.follow,
    )
    _exports(visit, detail, around, svg)


def _left_out(around: views.Neighbourhood) -> Markup:
    if not around.n_left_out:
        return Markup("")
    words = f"{plural(around.n_left_out, 'further model')} of this family did not fit."
    return tag("p", words, class_="soft tiny")


def _nothing_selected(visit: Visit) -> None:
    examples = views.examples(visit.cursor, 3)
    seen: dict[str, views.ModelCard] = {item.model.repo_id: item.model for item in examples}
    panel(
        heading("Lineage", "Choose a model to see where it came from and what came of it."),
        tag("div", *[model_card(item) for item in seen.values()], class_="grid gap")
        if seen
        else empty("No lineage yet", "The register holds no edge: nothing was declared or found."),
        key="lin-none",
        follow=visit.follow,
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
        follow=visit.follow,
    )


def _exports(
    visit: Visit, detail: views.ModelDetail, around: views.Neighbourhood, svg: str
) -> None:
    stem = file_stem(detail.card.repo_id, visit.manifest.data_date)
    with st.expander(f"The same as a table ({plural(len(around.marks), 'model')})"):
        st.dataframe(
            _table(around),
            hide_index=True,
            width="stretch",
            alt=f"The models in the drawing of {detail.card.repo_id} as a table",
        )
    columns = st.columns(4) if detail.finding and detail.finding.recipe_yaml else st.columns(3)
    files = [
        ("Drawing (SVG)", svg, f"{stem}.svg", "image/svg+xml"),
        ("Edges (CSV)", edges_csv(around.edges), f"{stem}.csv", "text/csv"),
        ("Models and edges (JSON)", neighbourhood_json(around), f"{stem}.json", "application/json"),
    ]
    if detail.finding and detail.finding.recipe_yaml:
        files.append(
            ("Recipe (YAML)", detail.finding.recipe_yaml, f"{stem}.yml", "application/yaml")
        )
    for column, (label, text, file_name, mime) in zip(columns, files, strict=True):
        with column:
            download(label, text, file_name, mime, width="stretch")


def _table(around: views.Neighbourhood) -> dict[str, list[object]]:
    parents: dict[str, list[str]] = {}
    for edge in around.edges:
        share = f" {number(edge.weight)}" if edge.weight is not None and edge.weight < 1 else ""
        words = f"{edge.parent}{share} ({edge.verdict})"
        parents.setdefault(edge.child, []).append(words)
    marks = around.marks
    return {
        "model": [mark.repo_id for mark in marks],
        "kind": [
            KIND_WORDS.get(m.kind or "", RELATION_WORDS.get(m.relation, m.relation)) for m in marks
        ],
        "created": [date_words(mark.created_at) for mark in marks],
        "parents": ["; ".join(parents.get(mark.repo_id, [])) for mark in marks],
        "descendants": [mark.n_descendants for mark in marks],
        "status": [mark.status for mark in marks],
    }

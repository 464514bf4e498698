"""The page Find: a search box, what the register holds, and models worth a look."""

from __future__ import annotations

import streamlit as st

from lineage import views
from lineage.explorer.blocks import empty, heading, link, model_card
from lineage.explorer.component import panel
from lineage.explorer.markup import Markup, join, tag
from lineage.explorer.names import search
from lineage.explorer.register import Visit
from lineage.explorer.remembered import remembered
from lineage.explorer.words import plural

__all__ = ["show_find"]

_REASONS = {
    "undeclared": ("A parent nobody declared", "The weights show where these came from."),
    "merge": ("Merges taken apart", "Parents and shares, recovered from the weights."),
    "contradicted": ("Declared wrongly", "The weights disagree with the card."),
    "family": ("Large families", "Founders with most descendants."),
}


def show_find(visit: Visit) -> None:
    """Draw the page."""
    covered = remembered(visit, views.coverage)
    panel(
        heading(
            "Who descends from whom, read from the weights",
            "A pedigree register of models: what their makers declared, what their weights show, "
            "and where the two differ.",
        ),
        key="find-head",
    )
    text = st.text_input(
        "Find a model",
        key="q",
        bind="query-params",
        placeholder="owner/name, or a part of it",
        icon=":material/search:",
    )
    if text and text.strip():
        panel(_results(visit, text), key="find-body")
        return
    figures = (
        (covered.n_models, "models", None),
        (covered.n_edges, "edges", ""),
        (covered.n_undeclared, "found, undeclared", "undeclared"),
        (covered.n_contradicted, "contradicted", "contradicted"),
        (covered.n_recipes, "merge recipes recovered", None),
    )
    cells = []
    for n, words, verdict in figures:
        inside = join(tag("b", f"{n:,}"), tag("span", words, class_="soft tiny"))
        linked = verdict is not None
        cells.append(
            link("audit", inside, class_="", verdict=verdict) if linked else tag("div", inside)
        )
    panel(
        tag("div", tag("div", *cells, class_="figures"), *_examples(visit), class_="stack"),
        key="find-body",
    )


def _results(visit: Visit, text: str) -> Markup:
    hits = search(visit, text)
    if not hits:
        return empty(
            "No model of that name",
            join("Nothing is called or looks like ", tag("b", text.strip()), "."),
            None,
            tag("p", link("", "See models worth a look instead")),
        )
    if hits[0].how == "near":
        words = join("No name contains ", tag("b", text.strip()), ". These look most like it:")
    else:
        words = join(plural(len(hits), "model"), " whose name contains ", tag("b", text.strip()))
    return join(
        tag("p", words, class_="soft", role="status"),
        tag("div", *[model_card(hit.model) for hit in hits], class_="grid"),
    )


def _examples(visit: Visit) -> list[Markup]:
    examples = remembered(visit, views.examples, 3)
    sections = []
    for why, (title, words) in _REASONS.items():
        cards = [model_card(item.model) for item in examples if item.why == why]
        if cards:
            head = tag("h2", title, tag("span", words, class_="soft tiny subtle"))
            sections.append(tag("section", head, tag("div", *cards, class_="grid")))
    if not sections:
        sections.append(
            empty("No lineage yet", "The register holds no edge: nothing was declared or found.")
        )
    return sections

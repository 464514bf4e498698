"""The page Compare: two models, where they meet, how related they are, and what differs."""

from __future__ import annotations

import json
from dataclasses import asdict

import streamlit as st

from lineage import views
from lineage.explorer.ancestors import ancestry_of
from lineage.explorer.blocks import badge, empty, heading, link, model_card, model_link, name
from lineage.explorer.compare_blocks import (
    difference_columns,
    kinship_sentence,
    meeting_sentence,
    test_words,
)
from lineage.explorer.component import panel
from lineage.explorer.downloads import download
from lineage.explorer.exports import file_stem
from lineage.explorer.markup import Markup, join, tag
from lineage.explorer.meeting_figure import draw_meeting
from lineage.explorer.pickers import name_field
from lineage.explorer.register import Visit
from lineage.explorer.table_files import download_table
from lineage.explorer.words import number, plural, short
from lineage.views.comparison import Comparison, compare_models

__all__ = ["show_compare"]

_DRAWN = 3
_EXAMPLES = 4


def show_compare(visit: Visit) -> None:
    """Draw the page."""
    panel(
        heading(
            "Compare two models",
            "Where their lines meet, how related that makes them, and what differs.",
        ),
        key="cmp-head",
    )
    left, right = st.columns(2)
    with left:
        a = name_field("One model", "a", "owner/name")
    with right:
        b = name_field("Another model", "b", "owner/name")
    problem = _problem(visit, a, b)
    if problem is not None:
        panel(problem, key="cmp-none")
        return
    found = compare_models(visit.cursor, ancestry_of(visit), a, b)
    assert found is not None
    _show(visit, found)


# -- states without a comparison ----------------------------------------------------------------


def _problem(visit: Visit, a: str, b: str) -> Markup | None:
    for key, asked, other in (("a", a, {"b": b}), ("b", b, {"a": a})):
        if asked and views.model_card(visit.cursor, asked) is None:
            near = views.near(visit.cursor, asked)
            kept = [
                tag("li", link("compare", name(card.repo_id), **{key: card.repo_id}, **other))
                for card in near
            ]
            return empty(
                "This register does not know that model",
                join("It holds nothing called ", tag("b", short(asked, 96)), "."),
                None,
                tag("p", "Near names:", class_="soft") if kept else None,
                tag("ul", *kept, class_="plain") if kept else None,
            )
    if not a or not b:
        return _examples(visit, a or b)
    if a == b:
        return empty(
            "One model twice",
            join("Both names are ", model_link(a), ". Name another model to compare it with."),
        )
    return None


def _examples(visit: Visit, one: str) -> Markup:
    """Pairs worth a look: a model with its founder, or with whatever is named already."""
    if one:
        card = views.model_card(visit.cursor, one)
        assert card is not None
        others = [name_ for name_ in (card.primary_parent, card.founder) if name_ and name_ != one]
        pairs = [(one, other) for other in dict.fromkeys(others)]
    else:
        shown = {item.model.repo_id: item.model for item in views.examples(visit.cursor, 3)}
        pairs = [
            (model.repo_id, model.founder)
            for model in shown.values()
            if model.founder != model.repo_id
        ][:_EXAMPLES]
    items = [
        tag("li", link("compare", join(name(a), tag("span", " and ", class_="soft"), name(b)),
                       a=a, b=b))
        for a, b in pairs
    ]  # fmt: skip
    return tag(
        "section",
        tag("p", "Name two models above" + (", or begin with these:" if items else "."),
            class_="soft"),
        tag("ul", *items, class_="plain"),
    )  # fmt: skip


# -- two models ---------------------------------------------------------------------------------


def _show(visit: Visit, found: Comparison) -> None:
    a, b = found.a.repo_id, found.b.repo_id
    pictures = [
        (meeting, draw_meeting(meeting, found.edges)) for meeting in found.meetings[:_DRAWN]
    ]
    blocks = [
        tag("div", model_card(found.a), model_card(found.b), class_="grid gap"),
        _relatedness(found),
        _meeting_section(found, [drawn for _, drawn in pictures]),
    ]
    panel(*blocks, key="cmp-body")
    with st.expander(f"The lines as a table ({plural(len(found.edges), 'edge')})"):
        st.dataframe(
            {
                field: [getattr(edge, field) for edge in found.edges]
                for field in ("child", "parent", "relation", "weight", "verdict", "grade")
            },
            hide_index=True, width="stretch", alt="The edges of the drawn lines",
        )  # fmt: skip
    panel(_differences(found), key="cmp-differences")
    stem = file_stem(f"{a}-and-{b}", visit.manifest.data_date)
    table = difference_columns(found)
    with st.expander(f"Facts and traits as a table ({plural(len(table['what']), 'row')})"):
        st.dataframe(
            {key: [None if v is None else str(v) for v in values] for key, values in table.items()},
            hide_index=True, width="stretch", alt="Facts and traits of the two models",
        )  # fmt: skip
    download_table("Facts and traits", lambda: table, stem, "cmp-table")
    files = [
        (f"Lines {i} (SVG)" if len(pictures) > 1 else "Lines (SVG)", str(drawn),
         f"{stem}-lines-{i}.svg", "image/svg+xml")
        for i, (_, drawn) in enumerate(pictures, start=1)
    ]  # fmt: skip
    files.append(
        ("Everything (JSON)", json.dumps(asdict(found), indent=2, default=str), f"{stem}-all.json",
         "application/json")
    )  # fmt: skip
    for column, (label, text, file_name, mime) in zip(st.columns(len(files)), files, strict=True):
        with column:
            download(label, text, file_name, mime, width="stretch")


def _relatedness(found: Comparison) -> Markup:
    a, b = found.a.repo_id, found.b.repo_id
    direct = [
        tag("p", "One is a parent of the other: ",
            link("evidence", "see the evidence", child=edge.child, parent=edge.parent), " ",
            badge(edge.verdict))
        for edge in found.edges
        if {edge.child, edge.parent} == {a, b}
    ]  # fmt: skip
    return tag(
        "div",
        tag(
            "section",
            tag("h2", "By descent"),
            tag("p", meeting_sentence(found), class_="break"),
            tag("p", kinship_sentence(found.kinship)) if found.meetings else None,
            *direct,
        ),
        tag("section", tag("h2", "By their weights"), *[tag("p", w) for w in test_words(found)]),
        class_="sections",
    )


def _meeting_section(found: Comparison, drawn: list[Markup]) -> Markup:
    if not drawn:
        return Markup("")
    more = len(found.meetings) - len(drawn)
    return tag(
        "section",
        tag("h2", "Where they meet" if len(drawn) == 1 else "Where they meet, nearest first"),
        *[tag("div", picture, class_="scroll", style="margin:.6rem 0 1.2rem") for picture in drawn],
        tag("p", f"and {plural(more, 'further meeting point')}, listed in the JSON file.",
            class_="soft tiny")
        if more > 0
        else None,
    )  # fmt: skip


def _cell(value: str | int | float | None) -> str:
    if value is None or isinstance(value, str):
        return value or "–"
    return f"{value:,}" if isinstance(value, int) else number(value, 4)


def _differences(found: Comparison) -> Markup:
    """What is not the same, side by side; what is the same is only counted."""
    table = difference_columns(found)
    rows = list(zip(*table.values(), strict=True))
    differing = [row for row in rows if row[1] != row[2]]
    same = len(rows) - len(differing)
    lines = [
        tag(
            "tr",
            tag("td", what, class_="break"),
            *[tag("td", _cell(value), class_="break") for value in (a, b)],
        )
        for what, a, b, _ in differing
    ]
    head = tag(
        "tr", tag("th", "Fact or trait"), tag("th", short(found.a.repo_id, 40), class_="break"),
        tag("th", short(found.b.repo_id, 40), class_="break"),
    )  # fmt: skip
    return tag(
        "section",
        tag("h2", "What differs"),
        tag("div", tag("table", tag("thead", head), tag("tbody", *lines)), style="overflow-x:auto")
        if lines
        else tag("p", "Nothing that is known of them.", class_="soft"),
        tag("p", f"{plural(same, 'fact or trait', 'facts and traits')} are the same or unknown of "
            "both.", class_="soft tiny"),
        class_="gap",
    )  # fmt: skip

"""The page Evidence: what stands for and against one edge, and how to see it for oneself."""

from __future__ import annotations

import json
from dataclasses import asdict

import streamlit as st

from lineage.errors import NoRecipeError
from lineage.explorer.blocks import badge, heading, link, name
from lineage.explorer.component import panel
from lineage.explorer.downloads import download
from lineage.explorer.edge_choice import no_edge
from lineage.explorer.evidence_blocks import (
    commands,
    evidence_sections,
    layer_sentence,
    layer_table,
    matrix_table,
)
from lineage.explorer.evidence_figures import draw_coefficients, draw_equal_words, draw_matrix
from lineage.explorer.exports import file_stem
from lineage.explorer.figures import draw_layers
from lineage.explorer.markup import Markup, join, tag
from lineage.explorer.pickers import asked_name, name_field
from lineage.explorer.register import Visit
from lineage.explorer.table_files import table_csv
from lineage.explorer.words import VERDICT_WORDS, finding_sentence, plural
from lineage.export.published_recipe import recipe_from
from lineage.views.evidence import EdgeEvidence, edge_evidence

__all__ = ["show_evidence"]

_MERGED = frozenset({"merge", "passthrough", "pruned", "moe"})
"""Kinds of which a recipe can be asked."""


def show_evidence(visit: Visit) -> None:
    """Draw the page."""
    child, parent = asked_name("child"), asked_name("parent")
    found = edge_evidence(visit.cursor, child, parent) if child and parent else None
    if found is not None:
        _show_edge(visit, found)
        return
    panel(
        heading(
            "Evidence",
            "What was said of a child and a parent, what their weights show of each other, layer "
            "by layer, and how to see it for yourself.",
        ),
        key="ev-head",
    )
    _pick()
    panel(no_edge(visit, child, parent), key="ev-none")


def _pick() -> None:
    left, right = st.columns(2)
    with left:
        name_field("Child", "child", "owner/name of the later model")
    with right:
        name_field("Parent", "parent", "owner/name of the earlier model")


# -- one edge -----------------------------------------------------------------------------------


def _show_edge(visit: Visit, found: EdgeEvidence) -> None:
    edge = found.edge
    title = join(name(edge.child), tag("span", " from ", class_="soft"), name(edge.parent))
    panel(
        heading(title, join(badge(edge.verdict), " ", VERDICT_WORDS[edge.verdict]), "Evidence"),
        _others(found),
        key="ev-head",
    )
    panel(*evidence_sections(found), key="ev-body")
    files = _layers(visit, found)
    _reproduce(visit, found, with_recipe=_recipe(visit, found))
    stem = file_stem(f"{edge.child}-from-{edge.parent}"[:96], visit.manifest.data_date)
    files.append(("Everything (JSON)", _json(found), "json", "application/json"))
    for column, (label, text, suffix, mime) in zip(
        st.columns(len(files)), files, strict=True
    ):  # fmt: skip
        with column:
            download(label, text, f"{stem}{'' if suffix[0] == '-' else '.'}{suffix}", mime,
                     width="stretch")  # fmt: skip
    with st.expander("Another edge"):
        _pick()


def _others(found: EdgeEvidence) -> Markup:
    """Where to go from here: both lineages, the comparison, the other parents of this child."""
    edge = found.edge
    others = [
        join(" · ", link("evidence", join("parent ", name(other.parent)), child=edge.child,
                         parent=other.parent))
        for other in found.detail.parents
        if other.parent != edge.parent
    ]  # fmt: skip
    return tag(
        "p",
        link("lineage", "Lineage of the child", model=edge.child),
        " · ",
        link("lineage", "of the parent", model=edge.parent) if found.parent_card else None,
        " · " if found.parent_card else None,
        link("compare", "Compare the two", a=edge.child, b=edge.parent),
        *others[:6],
        class_="tiny",
    )


_File = tuple[str, str, str, str]
"""Label, content, end of the file's name, and type."""


def _layers(visit: Visit, found: EdgeEvidence) -> list[_File]:
    """The pictures by layer with their tables; returns the files they make."""
    compares = any(row.n_words or row.n_codes for row in found.layers)
    pictures, files = _drawn(found) if compares else ([], [])
    if found.detail.layer_map:
        words = "The parent's layer of which each layer of the child was made, as found."
        drawn = draw_layers(found.detail.layer_map)
        pictures.append(_picture("Where the layers came from", words, drawn, "fit"))
    panel(
        *([] if compares else [_not_compared(found)]),
        tag("div", *pictures, class_="sections"),
        key="ev-layers",
    )
    if not compares:
        return files
    table = layer_table(found)
    with st.expander(f"The same as a table ({plural(len(found.layers), 'row')})"):
        st.dataframe(table, hide_index=True, width="stretch", alt="Equal values by layer")
        if found.matrix is not None:
            st.dataframe(matrix_table(found.matrix), hide_index=True, width="stretch",
                         alt="Layers of the child against layers of the parent")  # fmt: skip
    files.append(("Layers (CSV)", table_csv(table), "csv", "text/csv"))
    return files


def _drawn(found: EdgeEvidence) -> tuple[list[Markup], list[_File]]:
    """The pictures of what was described by layer, and their files."""
    svg = "image/svg+xml"
    equal = draw_equal_words(found.layers)
    files = [("Equal values (SVG)", str(equal), "-equal.svg", svg)]
    pictures = [_picture("Equal values, layer by layer", layer_sentence(found), equal)]
    if found.fit is not None:
        drawn = draw_coefficients(found.fit)
        files.append(("Coefficients (SVG)", str(drawn), "-coefficients.svg", svg))
        words = (
            "How much of each parent a free fit finds in each layer, all parents together, by "
            "least squares. The recipe is the finding's to say; this shows whether the layers "
            "agree with it."
        )
        pictures.append(_picture("Coefficients by layer", words, drawn))
    if found.matrix is not None:
        drawn = draw_matrix(found.matrix)
        files.append(("Matrix (SVG)", str(drawn), "-matrix.svg", svg))
        words = (
            "Every layer of the child is held against every layer of the parent by the rows of "
            f"{found.matrix.roles}. Of independent layers z is about standard normal: within ±4. "
            "A bright diagonal means that every layer stands where it stood."
        )
        pictures.append(_picture("Which layer is which", words, drawn))
    return pictures, files


def _picture(title: str, words: str, drawn: Markup, class_: str = "scroll") -> Markup:
    return tag(
        "section",
        tag("h2", title),
        tag("p", words, class_="soft tiny"),
        tag("div", drawn, class_=class_),
    )


def _not_compared(found: EdgeEvidence) -> Markup:
    """Why there is nothing to show layer by layer, and what mends it."""
    parent = found.parent_card
    unread = [
        card.repo_id
        for card in (found.detail.card, parent)
        if card is not None and card.kind is None
    ]
    words: object = "This publication was made before edges were described by layer."
    command: str | None = "herdbook infer && herdbook publish"
    if found.layers:
        words = "The two have no tensor that compares: other shapes, or one is an adapter alone."
        command = None
    elif parent is None:
        words, command = "The parent is not in this register: there is nothing to compare.", None
    elif unread:
        listed = [piece for one in unread for piece in (", ", name(one))][1:]
        words = join("Not read were the weights of ", *listed, ".")
        command = "herdbook fingerprint && herdbook infer && herdbook publish"
    return tag(
        "section",
        tag("h2", "Layer by layer"),
        tag("p", words, class_="soft"),
        tag("code", command, class_="command") if command else None,
    )


def _recipe(visit: Visit, found: EdgeEvidence) -> bool:
    """The recovered recipe, to copy or to download, and what is stated; whether there is one."""
    merged = found.finding is not None and found.finding.kind in _MERGED
    recipe, why = None, ""
    if merged:
        try:
            recipe = recipe_from(visit.cursor, found.detail)
        except NoRecipeError as error:
            why = str(error)
    if merged:
        told = recipe.rests_on if recipe is not None else why
        words = "mergekit rebuilds the child from this. " if recipe is not None else ""
        words += f"{told[:1].upper()}{told[1:].rstrip('.')}."
        panel(
            tag("section", tag("h2", "Recovered recipe"),
                tag("p", words, class_="soft tiny break")),
            key="ev-recipe",
        )  # fmt: skip
    if recipe is not None:
        st.code(recipe.yaml, language="yaml")
        stem = file_stem(found.edge.child, visit.manifest.data_date)
        download("Recipe (YAML)", recipe.yaml, f"{stem}.yml", "application/yaml")
    if found.recipes:
        with st.expander(f"{plural(len(found.recipes), 'recipe')} that the repository states"):
            for stated in found.recipes:
                st.code(stated.text, language="yaml", height=260)
    return recipe is not None


def _reproduce(visit: Visit, found: EdgeEvidence, *, with_recipe: bool) -> None:
    lines = commands(found, with_recipe=with_recipe)
    words = (
        "The first needs no register: it reads the two models from the Hub. The others work in a "
        "home that was crawled, fingerprinted and inferred."
    )
    if not lines:
        words = "The names hold characters that no command line should be given."
    panel(
        tag("section", tag("h2", "See it for yourself"), tag("p", words, class_="soft tiny"),
            class_="gap"),
        key="ev-commands",
    )  # fmt: skip
    if lines:
        st.code("\n".join(lines), language="bash")


def _json(found: EdgeEvidence) -> str:
    fields = asdict(found)
    if found.finding is not None:
        fields["sentence"] = finding_sentence(found.finding)
    return json.dumps(fields, indent=2, default=str)

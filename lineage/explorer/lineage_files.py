"""A lineage drawing as a table and as files."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from lineage import views
from lineage.explorer.colours import Colouring
from lineage.explorer.downloads import download
from lineage.explorer.drawing import shown_edges
from lineage.explorer.exports import drawn_pedigree, edges_csv, neighbourhood_json, parquet_of
from lineage.explorer.words import KIND_WORDS, RELATION_WORDS, date_words, number, plural
from lineage.export.graphml import graphml
from lineage.export.newick import extended_newick, newick
from lineage.export.nexus import nexus
from lineage.export.pedigree import Pedigree

__all__ = ["offer_files"]

_MOST_ROWS = 5000


def offer_files(
    stem: str,
    detail: views.ModelDetail,
    around: views.Neighbourhood,
    colouring: Colouring,
    svg: str,
    *,
    show: str,
    parent: str,
) -> None:
    """Show what is drawn as a table, and offer it as files that are made when asked for.

    Parameters
    ----------
    stem
        The beginning of every file's name.
    detail, around, colouring, svg
        The model, what is drawn around it, its colours and the drawing.
    show, parent
        Which edges are drawn, and the parent of the focus that rows follow instead of the first.
    """
    edges = shown_edges(around, show)
    twin = st.expander(
        f"The same as a table ({plural(len(around.marks), 'model')})",
        key="table",
        bind="query-params",
    )
    if twin.open:  # else it would be made and sent with every click
        with twin:
            _show_tables(detail.card.repo_id, around)

    def drawn(with_contradicted: bool = False) -> Pedigree:
        return drawn_pedigree(
            around, edges, colouring, parent=parent, with_contradicted=with_contradicted
        )

    files: list[tuple[str, str | Callable[[], str | bytes], str, str]] = [
        ("Drawing (SVG)", svg, "svg", "image/svg+xml"),
        ("Edges (CSV)", lambda: edges_csv(edges), "csv", "text/csv"),
        ("Edges (Parquet)", lambda: parquet_of(edges), "parquet", "application/octet-stream"),
        ("Models and edges (JSON)", lambda: neighbourhood_json(around, edges), "json",
         "application/json"),
        ("Graph (GraphML)", lambda: graphml(drawn(True)), "graphml", "application/xml"),
        ("Tree (Newick)", lambda: newick(drawn()), "nwk", "text/plain"),
        ("Network (extended Newick)", lambda: extended_newick(drawn()), "enwk", "text/plain"),
        ("Coloured tree (Nexus)", lambda: nexus(drawn()), "nex", "text/plain"),
    ]  # fmt: skip
    if detail.finding and detail.finding.recipe_yaml:
        files.append(("Recipe (YAML)", detail.finding.recipe_yaml, "yml", "application/yaml"))
    with st.container(horizontal=True):
        for label, content, suffix, mime in files:
            download(label, content, f"{stem}.{suffix}", mime)
    st.caption(
        "Files hold what is drawn one by one; JSON holds the counts of the others too. Trees "
        "follow the first parents, with days between births as branch lengths."
    )


def _show_tables(focus: str, around: views.Neighbourhood) -> None:
    st.dataframe(
        _table(around),
        hide_index=True,
        width="stretch",
        alt=f"The models in the drawing of {focus} as a table",
    )
    if around.births:
        st.caption(f"Births of those that are not drawn one by one, by {around.step}.")
        st.dataframe(
            _births(around),
            hide_index=True,
            width="stretch",
            alt=f"Births below {focus} that are not drawn one by one",
        )


def _births(around: views.Neighbourhood) -> dict[str, list[object]]:
    shown = around.births[:_MOST_ROWS]
    return {
        "below": [one.owner for one in shown],
        around.step: [one.start for one in shown],
        "category": [one.category or "not known" for one in shown],
        "births": [one.n for one in shown],
    }


def _table(around: views.Neighbourhood) -> dict[str, list[object]]:
    parents: dict[str, list[str]] = {}
    for edge in around.edges:
        share = f" {number(edge.weight)}" if edge.weight is not None and edge.weight < 1 else ""
        words = f"{edge.parent}{share} ({edge.verdict})"
        parents.setdefault(edge.child, []).append(words)
    counted: dict[str, list[str]] = {}
    for stack in around.stacks:
        words = f"{stack.n:,} {RELATION_WORDS.get(stack.relation, stack.relation)}"
        counted.setdefault(stack.owner, []).append(words)
    marks = around.marks
    return {
        "model": [mark.repo_id for mark in marks],
        "kind": [
            KIND_WORDS.get(m.kind or "", RELATION_WORDS.get(m.relation, m.relation)) for m in marks
        ],
        "created": [date_words(mark.created_at) for mark in marks],
        "parents": ["; ".join(parents.get(mark.repo_id, [])) for mark in marks],
        "descendants": [mark.n_descendants for mark in marks],
        "not drawn one by one": ["; ".join(counted.get(mark.repo_id, [])) for mark in marks],
        "licence": [mark.licence or "–" for mark in marks],
        "status": [mark.status for mark in marks],
    }

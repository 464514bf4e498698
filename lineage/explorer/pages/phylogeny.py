"""The page Phylogeny: trees of behaviour against the lineage, and traits along the pedigree."""

from __future__ import annotations

import math
from collections.abc import Sequence

import streamlit as st

from lineage.explorer.blocks import empty, heading, link
from lineage.explorer.charts import ESTIMATE_COLUMNS, Chart, data_table, estimate_row, show_chart
from lineage.explorer.choices import choose_one
from lineage.explorer.component import panel
from lineage.explorer.downloads import download
from lineage.explorer.markup import Markup, tag
from lineage.explorer.register import Visit
from lineage.explorer.remembered import remembered
from lineage.explorer.scopes import choose_family
from lineage.explorer.tree_drawing import draw_tree
from lineage.explorer.vega import whiskers
from lineage.explorer.words import number, p_words, plural, short
from lineage.model import Estimate
from lineage.views import phylogeny
from lineage.views.phylogeny import Behaviour, Signal

__all__ = ["show_phylogeny"]

_MOST_TIPS = 250


def show_phylogeny(visit: Visit) -> None:
    """Draw the page."""
    head = heading(
        "Phylogeny",
        "Does what models say follow where they came from? Trees of behaviour beside the lineage "
        "that the weights show, and how strongly traits follow the pedigree.",
    )
    panel(head, tag("h2", "Trees of behaviour", class_="gap"), key="phy-head")
    kept = remembered(visit, phylogeny.behaviours)
    if kept:
        _behaviour(visit, kept)
    else:
        panel(
            empty(
                "No behaviour was kept",
                "No models of this publication were compared by what they say next. It needs "
                "models small enough to be run, and runs them here.",
                "herdbook behave && herdbook publish",
            ),
            key="phy-none",
        )
    _signal(visit)


# -- behaviour ------------------------------------------------------------------------------------


def _behaviour(visit: Visit, kept: Sequence[Behaviour]) -> None:
    chosen = kept[0]
    if len(kept) > 1:
        options = {one.name: f"{one.name}: {plural(len(one.models), 'model')}" for one in kept}
        asked = choose_one("Prompts", options, "prompts", kept[0].name)
        chosen = next(one for one in kept if one.name == asked)
    says = (
        f"{plural(len(chosen.models), 'model')} at {plural(chosen.n_prompts, 'prompt')}: prompts "
        "are genes, what a model says next are alleles, and the tree joins those that say the "
        "same. It has no root: only who hangs with whom counts, and how far."
    )
    about = tag("p", says, class_="measure")
    if not chosen.tree:
        words = chosen.note or "There are too few models for a tree."
        panel(about, empty("No tree", words), key="phy-notree")
        return
    support = (
        f"{chosen.n_supported} of its {plural(chosen.n_splits, 'split')} stand in at least 70 % of "
        f"{chosen.n_trees} trees of resampled prompts; those carry a dot and the share. "
        "Colours are founders by the weights."
    )
    tips = [one.name for one in chosen.tree if one.name]
    founders = remembered(visit, phylogeny.founders_of, tuple(tips))
    drawn: Markup = tag("div", draw_tree(chosen.tree, founders), class_="pane")
    if len(tips) > _MOST_TIPS:
        drawn = empty("Too many tips to draw", f"The tree has {len(tips):,}: download it below.")
    panel(about, drawn, tag("p", support, class_="soft measure"), key="phy-tree")  # fmt: skip
    stem = f"herdbook-behaviour-{visit.manifest.data_date[:10]}"
    data_table(
        [{"model": name, "founder": founders.get(name)} for name in tips],
        {"model": "tip", "founder": "founder"}, stem, label="The tips as a table",
    )  # fmt: skip
    left, right = st.columns(2)
    with left:
        download("Download the tree as Newick", chosen.newick, f"{stem}.nwk", "text/plain")
    with right:
        download("Download the whole study as JSON", chosen.document, f"{stem}.json",
                 "application/json")  # fmt: skip
    _against(visit, chosen)


def _against(visit: Visit, chosen: Behaviour) -> None:
    known = [(name, one) for name, one in chosen.against if not math.isnan(one.value)]
    note = tag("p", f"Mind: {chosen.note}.", class_="notice") if chosen.note else None
    if not known:
        words = "There is no lineage of these models to compare the tree with."
        panel(empty("Nothing to compare with", words), key="phy-alone")
    else:
        says = [tag("li", f"{name}: {_words(one)}", class_="break") for name, one in known]
        panel(
            tag("h2", "Against the lineage of the weights"),
            tag(
                "p",
                "Chance: the models change places in the tree. A distance in edges counts steps; "
                "one in change counts how far the weights moved, where that was measured.",
                class_="soft measure",
            ),
            tag("ul", *says, class_="plain says"),
            *([note] if note else []),
            key="phy-against",
        )
        _whiskers(visit, known, "Agreement", "behaviour-lineage", "phy-against-chart")
    predicted = [(name, one) for name, one in chosen.predictions if not math.isnan(one.value)]
    if predicted:
        panel(
            tag("h2", "What behaviour predicts"),
            tag(
                "p",
                "Share of a trait's differences (R²) that the distances foretell, one founder's "
                "family at a time from the others. At or below 0 they foretell nothing.",
                class_="soft measure",
            ),
            key="phy-predict",
        )
        _whiskers(visit, predicted, "R²", "behaviour-predictions", "phy-predict-chart")


def _whiskers(
    visit: Visit, named: Sequence[tuple[str, Estimate]], title: str, stem: str, key: str
) -> None:
    rows = [estimate_row(k, name, one) for k, (name, one) in enumerate(named)]
    alt = "; ".join(f"{name}: {_words(one)}" for name, one in named)
    show_chart(
        Chart(
            whiskers(title, n_rows=len(rows)), rows, ESTIMATE_COLUMNS, alt,
            f"herdbook-{stem}-{visit.manifest.data_date[:10]}",
        ),
        key=key,
    )  # fmt: skip


def _words(one: Estimate) -> str:
    tested = f", {p_words(one.p_value)}" if one.p_value is not None else ""
    return f"{number(one.value)} ({number(one.low)} to {number(one.high)}, n {one.n:,}{tested})"


# -- signal ---------------------------------------------------------------------------------------


def _signal(visit: Visit) -> None:
    panel(
        tag("h2", "Traits along the pedigree"),
        tag(
            "p",
            "How much more alike related models are than unrelated ones, along primary parents, "
            "every edge counted as one step. Copies and casts count as relatives, and are alike by "
            "construction; so is size. None of these measures tells descent from what else "
            "runs in families, such as an author, a size or a month.",
            class_="soft measure",
        ),
        key="phy-signal",
    )
    known = remembered(visit, phylogeny.measured_traits)
    if not known:
        words = (
            f"No number is known of {phylogeny.LEAST_MEASURED} models of this register, neither "
            "their size nor an evaluation."
        )
        panel(
            empty("No measured trait", words, "herdbook ingest scores FILE && herdbook publish"),
            key="phy-sig-none",
        )  # fmt: skip
        return
    names = {name: f"{name} ({plural(n, 'model')})" for name, n in known}
    trait = choose_one("Trait", names, "trait", known[0][0])
    scope = choose_family(visit)
    found = remembered(visit, phylogeny.signal, scope, trait)
    if found is None:
        words = (
            f"Fewer than {phylogeny.LEAST_MEASURED} models of this scope have that trait: choose "
            "a larger family."
        )
        more = tag("p", link("phylogeny", "All models", trait=trait))
        panel(empty("Too few models", words, None, more), key="phy-sig-few")
        return
    panel(
        *_signal_words(found),
        tag("p", "Heredity from parent to child is told on ",
            link("heritability", "Heritability & selection", trait=trait), ".",
            class_="soft tiny"),
        key="phy-sig-says",
    )  # fmt: skip
    moran = found.moran
    rows = [
        estimate_row(k, name, one)
        for k, (name, one) in enumerate(
            (("Pagel's λ", found.pagel), ("Blomberg's K", found.blomberg))
        )
        if not math.isnan(one.value)
    ]
    if not math.isnan(moran.value):
        reach = 1.96 * moran.sd
        rows.append(
            {"row": 2, "label": "Moran's I", "value": moran.value, "n": moran.n,
             "p": moran.p_value, "method": moran.method}
        )  # fmt: skip
        rows.append(
            {"row": 3, "label": "Moran's I by chance (95 % of random deals)",
             "value": moran.expected, "low": moran.expected - reach,
             "high": moran.expected + reach, "n": moran.n, "method": moran.method}
        )  # fmt: skip
    if not rows:
        return
    alt = f"Phylogenetic signal of {short(trait, 80)}: " + "; ".join(
        f"{row['label']} {number(float(str(row['value'])))}" for row in rows
    )
    show_chart(
        Chart(
            whiskers("Signal (0: none; 1 of λ and K: as Brownian motion)", n_rows=len(rows)),
            rows, ESTIMATE_COLUMNS, alt, f"herdbook-signal-{visit.manifest.data_date[:10]}",
        ),
        key="phy-sig-chart",
    )  # fmt: skip


def _signal_words(found: Signal) -> list[Markup]:
    base = (
        f"{plural(found.n_models, 'model')} of {plural(found.n_founders, 'founder')}; "
        f"{found.n_related:,} have a relative among them."
    )
    parts = [tag("p", base)]
    sentences = []
    pagel, moran = found.pagel, found.moran
    if math.isnan(pagel.value):
        sentences.append(f"λ is not estimated: {_reason(pagel.method)}.")
    else:
        zero = "" if pagel.low > 0 else " Its interval reaches 0: signal is not shown by it."
        sentences.append(
            f"Pagel's λ is {_words(pagel)}: the share of the likeness between relatives that a "
            f"trait drifting along the pedigree would have.{zero}"
        )
    if math.isnan(found.blomberg.value):
        sentences.append(f"K is not estimated: {_reason(found.blomberg.method)}.")
    else:
        sentences.append(
            f"Blomberg's K is {_words(found.blomberg)}: 1 is drift along the pedigree, less means "
            "that differences lie within families, more that they lie between. p: values dealt to "
            "the models at random."
        )
    if math.isnan(moran.value):
        sentences.append(f"Moran's I is not estimated: {_reason(moran.method)}.")
    else:
        sentences.append(
            f"Moran's I is {number(moran.value)}, by chance {number(moran.expected)} ± "
            f"{number(1.96 * moran.sd)} ({p_words(moran.p_value)}): the correlation of models with "
            "their relatives, the nearer the heavier; it assumes no course of change."
        )
    return [*parts, tag("ul", *[tag("li", one) for one in sentences], class_="plain says")]


def _reason(method: str) -> str:
    return method.rpartition("not estimated: ")[2]

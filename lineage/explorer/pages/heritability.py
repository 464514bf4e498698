"""The page Heritability & selection: population statistics with intervals and honest words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import groupby

import streamlit as st

from lineage import views
from lineage.explorer.blocks import empty, heading, link
from lineage.explorer.charts import ESTIMATE_COLUMNS, Chart, data_table, show_chart
from lineage.explorer.choices import choose_one
from lineage.explorer.component import panel
from lineage.explorer.figures import draw_estimates
from lineage.explorer.markup import Markup, tag
from lineage.explorer.register import Visit
from lineage.explorer.remembered import remembered
from lineage.explorer.vega import whiskers
from lineage.explorer.words import estimate_sentence, number, p_words, plural, statistic_words

__all__ = ["show_heritability"]

_FIRST = ("heritability", "selection_differential", "opportunity")
_A_PAGE = 60
"""Estimates above which the page begins with one statistic instead of all."""
_CHANCE = re.compile(r"([-−]?[\d.]+(?:e[-+]?\d+)?) by chance")
_SLOPE_NULL = (
    "p is that of a slope of 0. It keeps neither month, size nor owner, which parent and child "
    "share too: the verdict on Lewontin's conditions exchanges parents within those."
)
_SELECTION_NULL = (
    "p is that of no selection among models of one month, by turning the signs of the founders' "
    "contributions; the interval allows for other founders and is wide where few count. The "
    "verdict also exchanges fitness within founder, size and month, and holds it against blind "
    "copying."
)
_NULLS: Mapping[str, str] = {
    "heritability": _SLOPE_NULL,
    "heritability_with_copies": _SLOPE_NULL,
    "heritability_within_founders": _SLOPE_NULL,
    "heritability_adjusted": "p is that of a slope of 0, within months and between owners.",
    "animal_model": "p is that of no variance between lineages, at its boundary (½χ²₀ + ½χ²₁).",
    "selection_differential": _SELECTION_NULL,
    "selection_intensity": _SELECTION_NULL,
    "opportunity": "Equal models would have 1 over their mean number of children by luck alone.",
    "opportunity_excess": "0 is luck alone; attachment to the famous gives more without any trait.",
    "effective_number": "There is no null: values are counted, nothing is tested.",
    "mutation_rate": "There is no null: 0 is perfect copying.",
    "parent_information": "Chance: the same with parents exchanged within founder, size and month.",
    "fitness_between_values": "Chance: the same with fitness exchanged within founder, size and "
    "month; p is the share of exchanges that give as much.",
}
_THREATS = (
    ("shared base, size, architecture", "slope up", "the slope within founders lacks it"),
    ("shared author and training data", "slope up", "not corrected here"),
    ("a trend of the whole field", "slope up", "the verdict exchanges within months"),
    ("only good children are evaluated", "both ways", "not corrected"),
    ("noise in the parent's measurement", "slope down", "not corrected: the Hub states none"),
    ("wrong or missing parents", "slope down", "edges are checked against the weights"),
    ("fame that feeds on itself", "selection up", "the verdict holds it against blind copying"),
    ("test data in the training data", "both ways", "unknown: no field says so"),
)


def show_heritability(visit: Visit) -> None:
    """Draw the page."""
    rows = remembered(visit, views.estimates)
    head = heading(
        "Heritability and selection",
        "Do offspring resemble their parents, and are better models built upon more often? Every "
        "figure has its interval, its number of observations and its method.",
    )
    if not rows:
        panel(
            head,
            empty(
                "Nothing has been measured",
                "No population statistic was published. It needs models with measured traits "
                "and known parents.",
                "herdbook measure && herdbook publish",
            ),
            key="her-none",
        )
        return
    panel(head, _caution(rows), key="her-head")
    chosen, statistic = _choose(rows)
    if not chosen:
        panel(
            empty(
                "No such estimate",
                "This population has no estimate of that statistic, trait and fitness.",
                None,
                tag("p", link("heritability", "Show all", statistic="all")),
            ),
            key="her-empty",
        )
        return
    ordered = sorted(chosen, key=lambda row: (_order(row.statistic), _group(row)))
    groups = [tuple(group) for _, group in groupby(ordered, key=_group)]
    if statistic:
        for k, group in enumerate(groups):
            panel(*_words(group), key=f"her-words-{k}")
            _chart(visit, group, k)
            panel(_says(group), key=f"her-says-{k}")
    else:
        sections = [
            tag("section", *_words(group), _picture(group), _says(group)) for group in groups
        ]
        panel(tag("div", *sections, class_="stack wide-gap"), key="her-body")
    panel(_threats(), key="her-threats")
    data_table(
        [_row(k, row) for k, row in enumerate(ordered)],
        {"statistic": "statistic", "trait": "trait", "fitness": "fitness",
         "population": "population", **{k: v for k, v in ESTIMATE_COLUMNS.items() if k != "label"},
         "chance": "by chance"},
        f"herdbook-estimates-{visit.manifest.data_date[:10]}",
        label=f"{plural(len(ordered), 'estimate')} as a table",
    )  # fmt: skip


def _choose(rows: Sequence[views.EstimateRow]) -> tuple[tuple[views.EstimateRow, ...], str]:
    """The rows that the address asks for, and the statistic if it names one."""
    names = sorted({row.population for row in rows}, key=lambda name: (name != "all", name))
    words = {name: "All models" if name == "all" else f"Family of {name}" for name in names}
    known = sorted({row.statistic for row in rows}, key=lambda one: (_order(one), one))
    statistics = {"all": "All statistics", **{one: statistic_words(one)[0] for one in known}}
    first = "all" if len(rows) <= _A_PAGE else known[0]
    traits = {"": "All traits", **{one: one for one in sorted(_known(rows, "trait"))}}
    fitness = {
        "": "All kinds of fitness",
        **{one: one.replace("_", " ") for one in sorted(_known(rows, "fitness"))},
    }
    columns = st.columns(4)
    with columns[0]:
        statistic = choose_one("Statistic", statistics, "statistic", first)
    with columns[1]:
        trait = choose_one("Trait", traits, "trait", "")
    with columns[2]:
        by = choose_one("Fitness", fitness, "fitness", "")
    with columns[3]:
        population = choose_one("Population", words, "population", names[0])
    chosen = tuple(
        row
        for row in rows
        if row.population == population
        and statistic in ("all", row.statistic)
        and trait in ("", row.trait)
        and by in ("", row.fitness)
    )
    return chosen, "" if statistic == "all" else statistic


def _known(rows: Sequence[views.EstimateRow], field: str) -> set[str]:
    return {getattr(row, field) for row in rows} - {None}


def _order(statistic: str) -> int:
    places = [i for i, word in enumerate(_FIRST) if statistic.startswith(word)]
    return places[0] if places else len(_FIRST)


def _group(row: views.EstimateRow) -> tuple[str, str]:
    # Statistics of fitness alone have no trait: one picture then compares the fitness measures.
    return row.statistic, (row.fitness or "") if row.trait else ""


def _caution(rows: Sequence[views.EstimateRow]) -> Markup:
    clusters = [row.n_clusters for row in rows if row.n_clusters is not None]
    words = (
        "These models were not sampled at random and share ancestors, so neighbours are not "
        "independent; standard errors are clustered by founder where the method allows. "
        "A correlation between parent and offspring is not a cause."
    )
    if clusters and min(clusters) < 10:
        words += (
            f" Some figures here rest on as few as {min(clusters)} founders: take them as a "
            "demonstration of the method, not as a finding about models."
        )
    return tag("p", words, class_="notice")


def _words(rows: Sequence[views.EstimateRow]) -> list[Markup]:
    statistic, fitness = _group(rows[0])
    title, words = statistic_words(statistic)
    if fitness:
        title += f", fitness by {fitness.replace('_', ' ')}"
    null = _NULLS.get(statistic)
    parts = [tag("h2", link("heritability", title, class_="", statistic=statistic))]
    parts += [tag("p", words, class_="soft measure")] if words else []
    return parts + ([tag("p", null, class_="soft measure")] if null else [])


def _picture(rows: Sequence[views.EstimateRow]) -> Markup | None:
    if all(row.value is None for row in rows):
        return None
    return tag("div", draw_estimates(tuple(rows)), class_="scroll")


def _chart(visit: Visit, rows: Sequence[views.EstimateRow], k: int) -> None:
    shown = [_row(i, row) for i, row in enumerate(rows) if row.value is not None]
    if not shown:
        return
    statistic, _ = _group(rows[0])
    title = statistic_words(statistic)[0]
    alt = f"{title}, one dot with its interval for each: " + "; ".join(
        f"{row['label']} {number(float(str(row['value'])))}" for row in shown
    )
    show_chart(
        Chart(
            whiskers(title, n_rows=len(shown)), shown,
            {**ESTIMATE_COLUMNS, "chance": "by chance"}, alt,
            f"herdbook-{statistic}-{visit.manifest.data_date[:10]}",
        ),
        key=f"her-chart-{k}",
    )  # fmt: skip


def _row(place: int, row: views.EstimateRow) -> dict[str, object]:
    return {
        "row": place, "label": row.trait or (row.fitness or row.population).replace("_", " "),
        "statistic": row.statistic, "trait": row.trait, "fitness": row.fitness,
        "population": row.population, "value": row.value, "low": row.low, "high": row.high,
        "n": row.n, "groups": row.n_clusters, "p": row.p_value, "method": row.method,
        "chance": _chance(row),
    }  # fmt: skip


def _chance(row: views.EstimateRow) -> float | None:
    """What chance makes, where the method says so."""
    found = _CHANCE.search(row.method)
    return float(found.group(1).replace("−", "-")) if found else None


def _says(rows: Sequence[views.EstimateRow]) -> Markup:
    sentences = []
    for row in rows:
        tested = f" {p_words(row.p_value)}." if row.p_value is not None else ""
        chance = _chance(row)
        tested += f" By chance {number(chance)}." if chance is not None else ""
        ask = None
        if row.trait:
            ask = link("lewontin", "verdict", trait=row.trait, fitness=_asked(row.fitness))
        sentences.append(
            tag("li", estimate_sentence(row), tested, " " if ask else None, ask, class_="break")
        )
    methods = list(dict.fromkeys(row.method for row in rows if row.value is not None))
    notes = [tag("p", f"Method: {method}.", class_="soft tiny measure") for method in methods[:3]]
    if len(methods) > len(notes):
        more = f"{plural(len(methods) - len(notes), 'further method')} in the table below."
        notes.append(tag("p", more, class_="soft tiny"))
    return tag("div", tag("ul", *sentences, class_="plain says"), *notes)


def _asked(fitness: str | None) -> str:
    """The fitness of a statistic as the page of verdicts names it."""
    return (fitness or "").partition("_")[0]


def _threats() -> Markup:
    rows = [tag("tr", *[tag("td", words) for words in threat]) for threat in _THREATS]
    top = [tag("th", words, scope="col") for words in ("What misleads", "Direction", "Remedy")]
    return tag(
        "section",
        tag("h2", "Threats"),
        tag("p", "Read these before a figure. How much of each there is, trait by trait, stands "
            "beside the ", link("lewontin", "verdicts on Lewontin's conditions"), ".",
            class_="soft measure"),
        tag("div", tag("table", tag("thead", tag("tr", *top)), tag("tbody", *rows)),
            class_="scroll"),
        class_="gap",
    )  # fmt: skip

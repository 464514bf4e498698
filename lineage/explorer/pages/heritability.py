"""The page Heritability & selection: population statistics with intervals and honest words."""

from __future__ import annotations

from itertools import groupby

from lineage import views
from lineage.explorer.blocks import empty, heading
from lineage.explorer.choices import choose_one
from lineage.explorer.component import panel
from lineage.explorer.downloads import download
from lineage.explorer.exports import estimates_csv
from lineage.explorer.figures import draw_estimates
from lineage.explorer.markup import Markup, tag
from lineage.explorer.register import Visit
from lineage.explorer.words import estimate_sentence, statistic_words

__all__ = ["show_heritability"]


def show_heritability(visit: Visit) -> None:
    """Draw the page."""
    rows = views.estimates(visit.cursor)
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
            follow=visit.follow,
        )
        return
    panel(head, _caution(rows), key="her-head", follow=visit.follow)
    names = sorted({row.population for row in rows}, key=lambda name: (name != "all", name))
    words = {name: "All models" if name == "all" else f"Family of {name}" for name in names}
    population = names[0]
    if len(names) > 1:
        population = choose_one("Population", words, "population", names[0])
    chosen = tuple(row for row in rows if row.population == population)
    ordered = sorted(chosen, key=lambda row: (_order(row.statistic), _group(row)))
    sections = [
        _section(statistic, fitness, tuple(group))
        for (statistic, fitness), group in groupby(ordered, key=_group)
    ]
    panel(
        tag("div", *sections, class_="stack wide-gap"),
        key="her-body",
        follow=visit.follow,
    )
    download(
        "Download all estimates as CSV",
        estimates_csv(rows),
        f"herdbook-estimates-{visit.manifest.data_date[:10]}.csv",
        "text/csv",
    )


_FIRST = ("heritability", "selection_differential", "opportunity")


def _order(statistic: str) -> int:
    places = [i for i, word in enumerate(_FIRST) if statistic.startswith(word)]
    return places[0] if places else len(_FIRST)


def _group(row: views.EstimateRow) -> tuple[str, str]:
    # Statistics of fitness alone have no trait: one picture then compares the fitness measures.
    return row.statistic, (row.fitness or "") if row.trait else ""


def _caution(rows: tuple[views.EstimateRow, ...]) -> Markup:
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


def _section(statistic: str, fitness: str, rows: tuple[views.EstimateRow, ...]) -> Markup:
    title, words = statistic_words(statistic)
    if fitness:
        title += f", fitness by {fitness.replace('_', ' ')}"
    methods = list(dict.fromkeys(row.method for row in rows if row.value is not None))
    return tag(
        "section",
        tag("h2", title),
        tag("p", words, class_="soft measure") if words else None,
        tag("div", draw_estimates(rows), class_="scroll")
        if any(row.value is not None for row in rows)
        else None,
        tag("ul", *[tag("li", estimate_sentence(row)) for row in rows], class_="plain says"),
        *[tag("p", f"Method: {method}.", class_="soft tiny measure") for method in methods],
    )

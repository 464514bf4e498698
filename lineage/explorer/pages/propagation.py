"""The page Propagation: which models are being propagated now, always against their age."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import streamlit as st

from lineage import views
from lineage.explorer.blocks import empty, heading, link, model_link
from lineage.explorer.charts import data_table
from lineage.explorer.choices import choose_segment
from lineage.explorer.component import panel
from lineage.explorer.markup import Markup, join, tag
from lineage.explorer.propagation_sections import (
    show_births,
    show_families,
    show_labels,
    show_reproduction,
)
from lineage.explorer.register import Visit
from lineage.explorer.remembered import remembered
from lineage.explorer.scopes import choose_day, choose_family, choose_relation, day_of
from lineage.explorer.words import RELATION_WORDS, count_words, date_words, number, plural
from lineage.model import Estimate
from lineage.views import propagation, ranking
from lineage.views.propagation import Moment, Scope

__all__ = ["show_propagation"]

_WINDOWS = {"7": "7 days", "30": "30 days", "90": "90 days", "180": "180 days", "365": "a year"}
_MEASURES = {
    "births": "Children", "descendants": "Descendants", "likes": "Likes", "downloads": "Downloads",
}  # fmt: skip
_ORDERS = {"excess": "More than their age explains", "count": "Most", "rate": "Fastest"}
_LONGEST_NAME = 200
_SHOWN = 20
_WIDE = "min-width:10.5rem"


def show_propagation(visit: Visit) -> None:
    """Draw the page."""
    head = heading(
        "Propagation",
        "Which models are being built upon now? What was gained in a window of time, against "
        "what models of the same age gained: the old have more of everything.",
    )
    whole = remembered(visit, propagation.moment, visit.manifest.data_date)
    if whole.first_birth is None or whole.last_birth is None:
        words = (
            "No model of this register has a known date of birth, so nothing can be told of when."
        )
        panel(
            head, empty("No dates", words, "herdbook crawl && herdbook publish"),
            key="pro-none",
        )  # fmt: skip
        return
    panel(head, key="pro-head")
    left, middle, right = st.columns([3, 2, 2])
    with left:
        scope = choose_family(visit)
    with middle:
        relation = choose_relation()
    with right:
        first, last = day_of(whole.first_birth), day_of(whole.data_day - 1)
        asked = choose_day("Until", "until", day_of(whole.until - 1), first, last)
    days = float(choose_segment("Window", _WINDOWS, "window", "30"))
    moment = whole
    if asked is not None:
        day = datetime(asked.year, asked.month, asked.day, tzinfo=UTC)
        moment = remembered(visit, propagation.moment, visit.manifest.data_date, day)
    since = moment.until - days
    panel(_summary(visit, scope, moment, since, relation), key="pro-sum")
    _ranking(visit, scope, relation, moment, since, None if asked else whole.data_day)
    _watched(visit, since, moment.until)
    show_births(visit, scope, moment, relation)
    show_reproduction(visit, scope, moment, int(days))
    show_labels(visit, scope, since, moment.until)
    show_families(visit, since, moment.until)


def _summary(visit: Visit, scope: Scope, moment: Moment, since: float, relation: str) -> Markup:
    growth = remembered(visit, propagation.growth, scope, since, moment.until, relation)
    months = remembered(visit, propagation.births_by_month, scope, moment.until, relation)
    window = f"{_date(since)} to {_date(moment.until - 1)}"
    seen = "never" if not moment.n_observed_days else plural(moment.n_observed_days, "day")
    figures = [
        (f"{sum(one.n for one in months):,}", "models of known date"),
        (_ratio(growth), f"births against the {round(moment.until - since)} days before"),
        (seen, "on which likes and downloads were observed"),
    ]
    notes = [
        "A register knows the births that its crawls have seen. Deleted models are missing, and "
        "where only a part of the Hub was crawled, growth is partly that of the crawl."
    ]
    if moment.until < moment.data_day - 1 and "until" not in st.query_params:
        notes.append(
            f"Nothing was born in the last months before the data of {_date(moment.data_day - 1)}: "
            "windows end with the last birth instead."
        )
    return join(
        tag("p", f"Window: {window}", class_="eyebrow"),
        tag("div", *[tag("div", tag("b", a), tag("span", b, class_="soft tiny"))
                     for a, b in figures], class_="figures"),
        tag("p", _growth_sentence(growth), class_="measure"),
        *[tag("p", words, class_="notice") for words in notes],
    )  # fmt: skip


def _growth_sentence(growth: Estimate) -> str:
    if math.isnan(growth.value):
        reason = growth.method.rpartition("not estimated: ")[2]
        return f"Growth cannot be told: {reason}."
    says = f"{number(growth.value)} times as many were born in this window as in the one before"
    interval = f"({growth.level:.0%} interval {number(growth.low)} to {number(growth.high)}, "
    says += f" {interval}{plural(growth.n, 'birth')}, {plural(growth.n_clusters or 0, 'group')})."
    if growth.low <= 1 <= growth.high:
        return f"{says} The interval holds 1: no growth or decline is shown."
    return says


# -- which models ---------------------------------------------------------------------------------


def _ranking(
    visit: Visit,
    scope: Scope,
    relation: str,
    moment: Moment,
    since: float,
    seen_until: float | None,
) -> None:
    title = tag("h2", "Which models")
    panel(title, key="pro-which")
    left, right = st.columns(2)
    with left:
        measure = choose_segment("What was gained", _MEASURES, "by", "births")
    with right:
        order = choose_segment("In which order", _ORDERS, "order", "excess")
    found = remembered(
        visit, ranking.ranking, scope, measure, since, moment.until, order=order,
        relation=relation, seen_until=seen_until,
    )  # fmt: skip
    what = _MEASURES[measure].lower()
    if not found.rows:
        words = f"No model of this scope gained {what} between these days. {found.reason}"
        more = tag("p", link("propagation", "A year", window="365", by=measure))
        panel(
            empty("Nothing in this window", words, None, more),
            key="pro-rank-none",
        )  # fmt: skip
        return
    panel(
        *_ranking_words(found, what, moment),
        tag("div", _ranking_table(found), class_="scroll"),
        key="pro-rank",
    )
    rows = [
        {
            "model": one.repo_id, "relation": one.relation, "born": one.born.date(),
            "days": one.days, "gained": one.gained, "rate": one.per_day,
            "expected": one.expected, "excess": one.excess.value, "low": one.excess.low,
            "high": one.excess.high, "below": one.share_below, "peers": one.n_peers,
            "founder": one.founder, "descendants": one.n_descendants,
        }
        for one in found.rows
    ]  # fmt: skip
    columns = {
        "model": "model", "relation": "relation", "born": "born", "days": "days watched",
        "gained": f"{what} gained", "rate": "per day", "expected": "expected for its age",
        "excess": "excess", "low": "excess, lower bound", "high": "excess, upper bound",
        "below": "share of peers that gained less a day", "peers": "peers", "founder": "founder",
        "descendants": "descendants in all",
    }  # fmt: skip
    stem = f"herdbook-propagation-{measure}-{visit.manifest.data_date[:10]}"
    data_table(rows, columns, stem, label=f"The first {len(rows)} as a table")


def _ranking_words(found: ranking.Ranking, what: str, moment: Moment) -> list[Markup]:
    says = (
        f"{found.n_gained:,} of {plural(found.n_models, 'model')} gained any. Each is held against "
        "the models of the whole register that are about as old (bounds at 7, 30, 90, 180, 365 "
        "and 730 days): “expected” is what they had in as many days."
    )
    if found.measure in ("births", "descendants"):
        says += f" {found.n_clear:,} lie above that with their whole interval."
        says += (
            " The intervals take births as independent, and each is for one model alone: of many "
            "models some lie above by chance, and fame feeds on itself, which makes more."
        )
    elif found.measure == "likes":
        says += " The intervals take likes as independent people; a post that spreads is not."
    else:
        says += (
            " Downloads are counted by the Hub and come from machines too: no interval can be "
            "given. “Above” says how many of its peers had fewer a day."
        )
    parts = [tag("p", says, class_="measure")]
    if found.basis != "window":
        seen = moment.observed
        when = f"{_date(seen[0])}" if seen else "–"
        instead = {
            "life": f"Shown instead: all likes since birth, per day of life, as of {when}.",
            "rolling": f"Shown instead: the Hub's count of the last 30 days, as of {when}.",
        }[found.basis]
        mend = tag("code", "herdbook crawl && herdbook publish", class_="command")
        parts.append(tag("div", tag("p", found.reason, " ", instead), mend, class_="notice"))
    return parts


def _ranking_table(found: ranking.Ranking) -> Markup:
    interval = found.measure != "downloads"
    heads = ["Model", "Born", _MEASURES[found.measure], "A day", "Expected"]
    heads += ["Excess (95 % interval)"] if interval else ["Above"]
    cells = []
    for one in found.rows[:_SHOWN]:
        last = f"{one.share_below:.0%} of {one.n_peers:,}"
        if interval:
            span = f"{number(one.excess.low)} to {number(one.excess.high)}"
            last = f"{number(one.excess.value)} ({span})"
        what = RELATION_WORDS.get(one.relation, one.relation)
        cells.append(
            tag(
                "tr",
                tag("td", model_link(one.repo_id), tag("div", what, class_="soft tiny"),
                    style=_WIDE),
                tag("td", date_words(one.born), tag("div", f"{one.days:.3g} days watched",
                                                    class_="soft tiny"), style="min-width:7rem"),
                tag("td", count_words(round(one.gained)), class_="num"),
                tag("td", number(one.per_day), class_="num"),
                tag("td", number(one.expected), class_="num"),
                tag("td", last, class_="num"),
            )
        )  # fmt: skip
    top = [
        tag("th", words, class_="num" if k > 1 else None, scope="col")
        for k, words in enumerate(heads)
    ]
    return tag("table", tag("thead", tag("tr", *top)), tag("tbody", *cells))


# -- a watched model ------------------------------------------------------------------------------


def _watched(visit: Visit, since: float, until: float) -> None:
    panel(
        tag("h2", "New merges of a watched model"),
        tag(
            "p",
            "Merges that took it, or one of its descendants, as a parent within the window. The "
            "address of this page keeps the name: bookmark it.",
            class_="soft measure",
        ),
        key="pro-watch-head",
    )
    asked = st.query_params.get("watch", "")[:_LONGEST_NAME].strip()
    st.session_state["watch-name"] = asked

    def changed() -> None:
        name = st.session_state["watch-name"].strip()
        if name:
            st.query_params["watch"] = name
        else:
            st.query_params.pop("watch", None)

    st.text_input(
        "Watch", key="watch-name", placeholder="owner/name", max_chars=_LONGEST_NAME,
        on_change=changed,
    )  # fmt: skip
    if not asked:
        return
    scope = remembered(visit, propagation.scope_of, asked)
    if scope is None:
        near = views.near(visit.cursor, asked, 5)
        names = [tag("li", link("propagation", one.repo_id, watch=one.repo_id)) for one in near]
        more = tag("ul", *names, class_="plain") if names else None
        words = f"The register has no {asked}." + (" These look most like it:" if names else "")
        panel(
            empty("No such model", words, None, more),
            key="pro-watch-unknown",
        )  # fmt: skip
        return
    merges = remembered(visit, propagation.new_merges, scope, since, until)
    if not merges:
        words = f"No merge of {asked} or its descendants was born in this window."
        more = tag("p", link("propagation", "Look at a year", window="365", watch=asked))
        panel(empty("No new merge", words, None, more), key="pro-watch-none")
        return
    rows = [
        tag(
            "tr",
            tag("td", date_words(one.born)),
            tag("td", model_link(one.child), style=_WIDE),
            tag("td", *_parents(one, asked), style=_WIDE),
            tag("td", "of itself" if one.own else "of a descendant", class_="soft"),
        )
        for one in merges
    ]
    own = sum(one.own for one in merges)
    says = f"{plural(len(merges), 'merge')} in the window, {own} of the model itself."
    titles = [tag("th", words, scope="col") for words in ("Born", "Merge", "Parents", "Of")]
    table = tag("table", tag("thead", tag("tr", *titles)), tag("tbody", *rows))
    panel(tag("p", says), tag("div", table, class_="scroll"), key="pro-watch")
    data_table(
        [
            {
                "born": one.born.date(), "merge": one.child, "own": one.own,
                "parents": "; ".join(parent for parent, _ in one.parents),
            }
            for one in merges
        ],
        {"born": "born", "merge": "merge", "parents": "parents", "own": "of the model itself"},
        f"herdbook-new-merges-{visit.manifest.data_date[:10]}",
        label="These merges as a table",
    )  # fmt: skip


def _parents(merge: propagation.Merge, watched: str) -> list[object]:
    out: list[object] = []
    for parent, share in merge.parents:
        words = f" ({number(share, 2)})" if share is not None else ""
        shown = tag("b", model_link(parent)) if parent == watched else model_link(parent)
        out += [", " if out else None, shown, words]
    return out


def _ratio(growth: Estimate) -> str:
    return "–" if math.isnan(growth.value) else f"× {number(growth.value)}"


def _date(day: float) -> str:
    return f"{day_of(day):%-d %b %Y}"

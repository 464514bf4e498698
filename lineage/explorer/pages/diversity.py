"""The page Diversity: how many kinds of models there are, and what makes that change."""

from __future__ import annotations

import math
from dataclasses import dataclass

import streamlit as st

from lineage.explorer.blocks import empty, heading, link
from lineage.explorer.charts import ESTIMATE_COLUMNS, Chart, estimate_row, show_chart
from lineage.explorer.choices import choose_segment
from lineage.explorer.component import panel
from lineage.explorer.diversity_sections import show_balance, show_entropy, show_scaling
from lineage.explorer.markup import tag
from lineage.explorer.register import Visit
from lineage.explorer.remembered import remembered
from lineage.explorer.scopes import choose_day, choose_family, choose_relation, day_of
from lineage.explorer.vega import bands, whiskers
from lineage.explorer.words import number, plural
from lineage.model import Estimate
from lineage.views import diversity, propagation
from lineage.views.propagation import Scope

__all__ = ["show_diversity"]

_CATEGORIES = {
    "licence": "Licences", "family": "Families", "language": "Languages", "task": "Tasks",
    "architecture": "Architectures",
}  # fmt: skip
_ORDERS = {"0": "All kinds", "1": "Common kinds", "2": "Dominant kinds"}
_ORDER_WORDS = ("all kinds (order 0)", "common kinds (order 1)", "dominant kinds (order 2)")


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the controls say."""

    scope: Scope
    category: str
    relation: str
    until: float

    @property
    def words(self) -> str:
        """The category in running text."""
        return _CATEGORIES[self.category].lower()


def show_diversity(visit: Visit) -> None:
    """Draw the page."""
    head = heading(
        "Diversity",
        "Of how many kinds are models, does that grow, and what makes it change? Numbers are "
        "“effective”: so many equally common kinds would be as diverse as what is found.",
    )
    whole = remembered(visit, propagation.moment, visit.manifest.data_date)
    if whole.first_birth is None:
        words = "No model of this register has a known date of birth, so none can be counted."
        panel(
            head, empty("No dates", words, "herdbook crawl && herdbook publish"),
            key="div-none",
        )  # fmt: skip
        return
    panel(head, key="div-head")
    left, middle, right = st.columns([3, 2, 2])
    with left:
        scope = choose_family(visit)
    with middle:
        relation = choose_relation()
    with right:
        first, last = day_of(whole.first_birth), day_of(whole.data_day - 1)
        asked = choose_day("Born until", "until", last, first, last)
    categories = dict(_CATEGORIES)
    if scope.clade:
        del categories["family"]
    category = choose_segment("Kinds of", categories, "trait", "licence")
    until = whole.data_day
    if asked is not None:
        until = float((asked - day_of(0.0)).days + 1)
    what = _Asked(scope, category, relation, until)
    if not _hill(visit, what):
        return
    _through_time(visit, what)
    show_entropy(visit, scope, category, what.words, until)
    _niches(visit, what)
    show_balance(visit, scope)
    show_scaling(visit, scope)


def _hill(visit: Visit, what: _Asked) -> bool:
    found = remembered(
        visit, diversity.hill_numbers, what.scope, what.category, what.until, what.relation
    )
    if found is None:
        words = f"No model of this scope states its {what.words}, so there is nothing to count."
        more = tag("p", link("diversity", "Count licences", trait="licence"))
        panel(
            empty("Nothing known", words, "herdbook crawl && herdbook publish", more),
            key="div-hill-none",
        )  # fmt: skip
        return False
    drawn = ""
    if found.drawn_of > 1:
        drawn = f" They are a random draw of one in {found.drawn_of}: more models show more kinds."
    first, common = found.observed[0], found.observed[1]
    says = (
        f"{found.n_models:,} values of {what.words} are of {_many(first.value)} kinds; in "
        f"effect of {_many(common.value)}{_interval(common)}. About {found.coverage:.1%} of the "
        f"population belongs to kinds that were seen.{drawn}"
    )
    panel(
        tag("h2", f"How many {what.words}"),
        tag("p", says, class_="measure"),
        tag(
            "p",
            "Order 0 counts every kind alike, order 1 by how common it is, order 2 almost only "
            "the commonest. “Corrected” estimates what an ever larger register would show. "
            "Intervals resample founders, as models of one founder are no independent choices; "
            "of families, their lines. There is no null: kinds are counted, nothing is tested.",
            class_="soft measure",
        ),
        key="div-hill",
    )
    rows = []
    for k, words in enumerate(_ORDER_WORDS):
        rows.append(estimate_row(2 * k, f"{words}, observed", found.observed[k]))
        rows.append(estimate_row(2 * k + 1, f"{words}, corrected", found.corrected[k]))
    alt = f"Hill numbers of {what.words}: " + "; ".join(
        f"{row['label']} {_many(float(str(row['value'])))}" for row in rows
    )
    show_chart(
        Chart(
            whiskers("Effective number of kinds (log scale)", n_rows=len(rows), reference=1.0,
                     log=True),
            rows, ESTIMATE_COLUMNS, alt, _stem(visit, f"hill-{what.category}"),
        ),
        key="div-hill-chart",
    )  # fmt: skip
    reasons = {
        one.method.rpartition("not estimated: ")[2]
        for one in (*found.observed, *found.corrected)
        if math.isnan(one.value)
    }
    if reasons:
        words = "Not estimated: " + "; ".join(sorted(reasons)) + "."
        panel(tag("p", words, class_="notice"), key="div-hill-why")
    return True


def _through_time(visit: Visit, what: _Asked) -> None:
    panel(
        tag("h2", "Through time"),
        tag(
            "p",
            "Diversity of the models born in each period. Larger samples always hold more kinds, "
            "so all periods are compared at the coverage of the poorest of them: equally complete "
            "pictures.",
            class_="soft measure",
        ),
        key="div-time",
    )
    q = int(choose_segment("Counting", _ORDERS, "q", "1"))
    found = remembered(
        visit, diversity.through_time, what.scope, what.category, q, what.until, what.relation
    )
    known = [(month, n, one) for month, n, _, one in found.windows if not math.isnan(one.value)]
    if len(known) < 2:
        words = (
            f"Fewer than two {_period(found.months)}s have the 20 models of known {what.words} and "
            "the 3 founders that an estimate needs."
        )
        panel(empty("No course of time", words), key="div-time-none")
        return
    rows = [
        {
            "month": month, "value": one.value, "low": one.low, "high": one.high, "n": n,
            "coverage": covered, "method": one.method,
        }
        for month, n, covered, one in found.windows
    ]  # fmt: skip
    (start, _, before), (end, _, after) = known[0], known[-1]
    says = (
        f"At a coverage of {found.effort:.1%}: {_many(before.value)}{_interval(before)} in the "
        f"{_period(found.months)} of {start[:7]}, {_many(after.value)}{_interval(after)} in that "
        f"of {end[:7]}. "
    )
    if before.low <= after.high and after.low <= before.high:
        says += "The two intervals overlap: no change is shown by them alone."
    else:
        says += "The two intervals lie apart."
    if any(n > found.largest for _, n, _, _ in found.windows):
        says += f" Of periods with more, {found.largest:,} random models were taken."
    panel(tag("p", says, class_="measure"), key="div-time-says")
    show_chart(
        Chart(
            bands("Effective number of kinds", zero=False), rows,
            {"month": "period begins", "value": "diversity", "low": "lower bound",
             "high": "upper bound", "n": "models", "coverage": "own coverage",
             "method": "method"},
            f"Diversity of {what.words} through time. {says}",
            _stem(visit, f"diversity-{what.category}"),
        ),
        key="div-time-chart",
    )  # fmt: skip


def _niches(visit: Visit, what: _Asked) -> None:
    panel(
        tag("h2", "Niches"),
        tag(
            "p",
            "Are the large families made for the same things? 1: their models are spread alike "
            "over the kinds, 0: they share none (Morisita–Horn). Intervals resample lines; small "
            "samples under-state overlap.",
            class_="soft measure",
        ),
        key="div-niche",
    )
    options = {k: _CATEGORIES[k] for k in ("task", "language", "licence", "architecture")}
    niche = choose_segment("Made for", options, "niche", "task")
    found = remembered(visit, diversity.niche_overlaps, what.scope, niche, what.until)
    known = [one for one in found if not math.isnan(one.estimate.value)]
    if not known:
        words = (
            "An overlap needs two families with three lines each whose "
            f"{options[niche].lower()} are known"
        )
        words += ": within one family there is none." if what.scope.clade else "."
        panel(empty("No overlap", words), key="div-niche-none")
        return
    known.sort(key=lambda one: one.estimate.value)
    rows = [
        estimate_row(k, f"{one.first}  ·  {one.second}", one.estimate)
        for k, one in enumerate(known)
    ]
    least, most = known[0], known[-1]
    alt = (
        f"Overlap of {plural(len(known), 'pair')} of families in {options[niche].lower()}: least "
        f"{least.first} and {least.second} ({number(least.estimate.value)}), most {most.first} and "
        f"{most.second} ({number(most.estimate.value)})."
    )
    panel(tag("p", alt, class_="measure break"), key="div-niche-says")
    show_chart(
        Chart(
            whiskers("Overlap", n_rows=len(rows), reference=None, domain=(0.0, 1.0)), rows,
            ESTIMATE_COLUMNS, alt, _stem(visit, f"niches-{niche}"),
        ),
        key="div-niche-chart",
    )  # fmt: skip


def _interval(one: Estimate) -> str:
    if math.isnan(one.low):
        return ""
    return f" ({one.level:.0%} interval {_many(one.low)} to {_many(one.high)})"


def _many(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else number(value)


def _period(months: int) -> str:
    return "month" if months == 1 else "quarter"


def _stem(visit: Visit, name: str) -> str:
    return f"herdbook-{name}-{visit.manifest.data_date[:10]}"

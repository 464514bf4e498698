"""Sections of the page Propagation about the population: births, reproduction, traits, families."""

from __future__ import annotations

import math

from lineage.explorer.blocks import empty, link
from lineage.explorer.charts import ESTIMATE_COLUMNS, Chart, estimate_row, show_chart
from lineage.explorer.choices import choose_segment
from lineage.explorer.component import panel
from lineage.explorer.markup import tag
from lineage.explorer.register import Visit
from lineage.explorer.remembered import remembered
from lineage.explorer.vega import bands, bars, whiskers
from lineage.explorer.words import RELATION_WORDS, number, plural
from lineage.views import propagation
from lineage.views.propagation import Moment, Scope
from lineage.views.reproduction import reproduction

__all__ = ["show_births", "show_families", "show_labels", "show_reproduction"]

_LABELS = {
    "relation": "Relation", "licence": "Licence", "task": "Task", "architecture": "Architecture",
    "size": "Size",
}  # fmt: skip
_RELATION_COLOURS = {
    RELATION_WORDS[one]: "unknown" if one == "founder" else one
    for one in ("finetune", "adapter", "quantized", "merge", "founder")
}
_NUMBERS = {"of this month": "finetune", "of those born then": "merge"}


def show_births(visit: Visit, scope: Scope, moment: Moment, relation: str) -> None:
    """Models born each month, by relation."""
    months = remembered(visit, propagation.births_by_month, scope, moment.until, relation)
    panel(
        tag("h2", "Births by month"),
        tag("p", "Models by the month of their creation and their relation to the primary parent. "
            "The last month is not over yet.", class_="soft measure"),
        key="pro-births",
    )  # fmt: skip
    rows = [
        {"month": one.month, "series": RELATION_WORDS.get(one.relation, one.relation),
         "value": one.n}
        for one in months
    ]  # fmt: skip
    total = sum(one.n for one in months)
    last = months[-1].month[:7] if months else "–"
    alt = f"Births by month and relation: {total:,} models from {_first(months)} to {last}."
    show_chart(
        Chart(
            bars("Models born", _RELATION_COLOURS), rows,
            {"month": "month", "series": "relation", "value": "models born"}, alt,
            f"herdbook-births-{visit.manifest.data_date[:10]}",
        ),
        key="pro-births-chart",
    )  # fmt: skip


def _first(months: tuple[propagation.MonthCount, ...]) -> str:
    return months[0].month[:7] if months else "–"


def show_reproduction(visit: Visit, scope: Scope, moment: Moment, window_days: int) -> None:
    """Reproduction numbers by month, with intervals."""
    now, cohort = remembered(visit, reproduction, scope, moment.until, window_days)
    panel(
        tag("h2", "Reproduction number"),
        tag(
            "p",
            f"Children that a model has within {window_days} days. “Of this month” asks how many a "
            "model would have if the month's conditions lasted (births against the parents then "
            "alive); “of those born then” follows the month's models to the end of the window. "
            "Above 1 the population replaces itself by its own children; founders come on top. "
            "Models that are still young are left out: their children are yet to come.",
            class_="soft measure",
        ),
        key="pro-rep",
    )
    rows = [
        {
            "month": one.month, "series": words, "value": one.estimate.value,
            "low": one.estimate.low, "high": one.estimate.high, "n": one.estimate.n,
            "method": one.estimate.method,
        }
        for words, months in zip(_NUMBERS, (now, cohort), strict=True)
        for one in months
    ]  # fmt: skip
    known = [one for one in now if not math.isnan(one.estimate.value)]
    if not any(not math.isnan(float(str(row["value"]))) for row in rows):
        reasons = [one.estimate.method.rpartition("not estimated: ")[2] for one in now]
        reason = max(reasons, key=reasons.count, default="there are no births")
        panel(
            empty("No reproduction number", f"It cannot be estimated yet: {reason}."),
            key="pro-rep-none",
        )  # fmt: skip
        return
    alt = "Reproduction number by month, with 95 % intervals."
    if known:
        end = known[-1]
        alt += (
            f" In {end.month[:7]}, the last month that was seen to its end, it is "
            f"{number(end.estimate.value)}, interval {number(end.estimate.low)} to "
            f"{number(end.estimate.high)}, from {plural(end.estimate.n, 'birth')}."
        )
    panel(tag("p", alt), key="pro-rep-says")
    show_chart(
        Chart(
            bands("Children per model", series=_NUMBERS, reference=1.0), rows,
            {"month": "month", "series": "which", "value": "reproduction number",
             "low": "lower bound", "high": "upper bound", "n": "n", "method": "method"}, alt,
            f"herdbook-reproduction-{visit.manifest.data_date[:10]}",
        ),
        key="pro-rep-chart",
    )  # fmt: skip


def show_labels(visit: Visit, scope: Scope, since: float, until: float) -> None:
    """Birth rates by a trait of the parent, at equal age."""
    panel(
        tag("h2", "Who has children"),
        tag(
            "p",
            "How often models of each kind had a child in the window, per day and at equal age, "
            "against the kind of most model-days. A ratio describes; fame, size and owner choose "
            "too.",
            class_="soft measure",
        ),
        key="pro-lab",
    )
    label = choose_segment("Compared by", _LABELS, "trait", "relation")
    found = remembered(visit, propagation.rate_ratios, scope, label, since, until)
    known = [(name, one) for name, one in found.ratios if not math.isnan(one.value)]
    if not known:
        reason = found.reason
        if not reason:
            reason = found.ratios[0][1].method.rpartition("not estimated: ")[2]
        panel(
            empty("Nothing to compare", f"Rates cannot be compared here: {reason}."),
            key="pro-lab-none",
        )  # fmt: skip
        return

    def named(value: str) -> str:
        return RELATION_WORDS.get(value, value) if label == "relation" else value

    ordered = sorted(known, key=lambda one: -one[1].value)
    rows = [estimate_row(k, named(name), one) for k, (name, one) in enumerate(ordered)]
    alt = f"Birth rates by {_LABELS[label].lower()} against {named(found.reference)} (1): "
    alt += "; ".join(
        f"{named(name)} {number(one.value)} ({number(one.low)} to {number(one.high)})"
        for name, one in ordered
    )
    clear = sum(one.low > 1 or one.high < 1 for _, one in ordered)
    says = f"Against {named(found.reference)}: {clear} of {len(ordered)} intervals do not hold 1. "
    says += f"{plural(ordered[0][1].n, 'birth')}, "
    says += f"{plural(ordered[0][1].n_clusters or 0, 'independent group')}."
    panel(tag("p", says), key="pro-lab-says")
    show_chart(
        Chart(
            whiskers("Rate ratio (log scale)", n_rows=len(rows), reference=1.0, log=True), rows,
            ESTIMATE_COLUMNS, alt, f"herdbook-birth-rates-{visit.manifest.data_date[:10]}",
        ),
        key="pro-lab-chart",
    )  # fmt: skip


def show_families(visit: Visit, since: float, until: float) -> None:
    """Families whose share of the births changed."""
    changes, reason = remembered(visit, propagation.family_changes, since, until)
    panel(
        tag("h2", "Families that gain and lose"),
        tag(
            "p",
            "Share of all births of the window that a family had, less its share in the window "
            "before. Intervals resample the lines of each family; of twenty, one is expected to "
            "miss zero for nothing.",
            class_="soft measure",
        ),
        key="pro-fam",
    )
    known = [one for one in changes if not math.isnan(one.change.value)]
    if not known:
        if not reason:
            reason = "No family has three lines with births, which an interval needs."
        panel(empty("Nothing to compare", reason), key="pro-fam-none")
        return
    rows = [estimate_row(k, one.founder, one.change) for k, one in enumerate(known)]
    alt = "Change of share of births by family: " + "; ".join(
        f"{one.founder} {number(one.change.value)}" for one in known
    )
    show_chart(
        Chart(
            whiskers("Change of share of births", n_rows=len(rows)), rows, ESTIMATE_COLUMNS, alt,
            f"herdbook-families-{visit.manifest.data_date[:10]}",
        ),
        key="pro-fam-chart",
    )  # fmt: skip
    named = [
        tag("li", link("propagation", one.founder, family=one.founder),
            f": {one.n_later:,} born, {one.n_earlier:,} in the window before")
        for one in known
    ]  # fmt: skip
    panel(tag("ul", *named, class_="plain says"), key="pro-fam-list")

"""Sections of the page Diversity: the account of entropy, the shape of families, emergence."""

from __future__ import annotations

import math
from collections.abc import Mapping

from lineage.explorer.blocks import empty, model_link
from lineage.explorer.charts import Chart, data_table, show_chart
from lineage.explorer.choices import choose_one
from lineage.explorer.component import panel
from lineage.explorer.markup import tag
from lineage.explorer.register import Visit
from lineage.explorer.remembered import remembered
from lineage.explorer.vega import bands, bars, points
from lineage.explorer.words import number, p_words, plural, short
from lineage.model import Estimate
from lineage.views import diversity, entropy, scaling
from lineage.views.propagation import Scope

__all__ = ["show_balance", "show_entropy", "show_scaling"]

_PARTS: Mapping[str, str] = {
    "selection": "selection", "choice": "merging", "mutation": "mutation",
    "unplaced": "unplaced", "immigration": "immigration",
}  # fmt: skip
_COLOURS = ("finetune", "merge", "quantized", "unknown", "adapter")
_SERIES = {words: colour for words, colour in zip(_PARTS.values(), _COLOURS, strict=True)}
_MOST_FAMILIES = 6


def show_entropy(visit: Visit, scope: Scope, category: str, words: str, until: float) -> None:
    """Entropy of the living population by month, and what made it change."""
    panel(
        tag("h2", "What makes diversity change"),
        tag(
            "p",
            f"Entropy of {words} over all models alive at the end of each month, in nats, and what "
            "made each month's change: models with some values are built upon more (selection), a "
            "merge takes the value of one parent (merging), a child has a value of its own "
            "(mutation), founders arrive (immigration); what descends from unknown values is "
            "unplaced. The parts add up exactly. It is an account and no test: where an interval "
            "holds zero, that part rests on a few founders.",
            class_="soft measure",
        ),
        key="div-ent",
    )
    if category == "family":
        reason = (
            "A family is handed on by definition: it is neither chosen nor changed. Ask for "
            "licences, languages, tasks or architectures."
        )
        panel(empty("No account of families", reason), key="div-ent-fam")
        return
    months = remembered(visit, entropy.entropy_by_month, scope, category, until)
    known = [one for one in months if not math.isnan(one.parts["change"].value)]
    if not known:
        reason = "there are no two months with births of known value"
        if months:
            reason = months[-1].parts["change"].method.rpartition("not estimated: ")[2]
        panel(
            empty("No account", f"It cannot be made: {reason}."),
            key="div-ent-none",
        )  # fmt: skip
        return
    rows = [
        {"month": one.month, "value": one.entropy.value, "low": one.entropy.low,
         "high": one.entropy.high, "n": one.n_after, "groups": one.entropy.n_clusters}
        for one in months
    ]  # fmt: skip
    last = known[-1]
    says = (
        f"At the end of {last.month[:7]} entropy is {number(last.entropy.value)} nats "
        f"({number(last.entropy.low)} to {number(last.entropy.high)}, "
        f"{plural(last.n_after, 'model')}). "
    )
    says += "Over all months shown: " + "; ".join(
        f"{name} {_signed(sum(m.parts[part].value for m in known))}"
        for part, name in _PARTS.items()
    )
    panel(tag("p", f"{says} nats.", class_="measure"), key="div-ent-says")
    show_chart(
        Chart(
            bands("Entropy (nats)", zero=False, height=200), rows,
            {"month": "month", "value": "entropy", "low": "lower bound", "high": "upper bound",
             "n": "models", "groups": "independent groups"},
            f"Entropy of {words} by month. {says} nats.", _stem(visit, f"entropy-{category}"),
        ),
        key="div-ent-chart",
    )  # fmt: skip
    _parts(visit, category, words, known)


def _parts(visit: Visit, category: str, words: str, months: list[entropy.EntropyMonth]) -> None:
    rows = [
        {
            "month": one.month, "series": name, "value": one.parts[part].value,
            "low": one.parts[part].low, "high": one.parts[part].high, "n": one.n_after,
            "before": one.n_before, "groups": one.parts[part].n_clusters,
        }
        for one in months
        for part, name in _PARTS.items()
    ]  # fmt: skip
    last = months[-1]
    held = [name for part, name in _PARTS.items() if _clear(last.parts[part])]
    alt = (
        f"Change of the entropy of {words} by month and cause. In {last.month[:7]} the change is "
        f"{_signed(last.parts['change'].value)}; clear of zero: {', '.join(held) or 'no part'}."
    )
    panel(tag("p", alt, class_="measure"), key="div-parts-says")
    show_chart(
        Chart(
            bars("Change of entropy (nats)", _SERIES), rows,
            {"month": "month", "series": "cause", "value": "change of entropy",
             "low": "lower bound", "high": "upper bound", "before": "models before",
             "n": "models after", "groups": "independent groups"},
            alt, _stem(visit, f"entropy-parts-{category}"),
        ),
        key="div-parts-chart",
    )  # fmt: skip


def _clear(one: Estimate) -> bool:
    return one.low > 0 or one.high < 0


def _signed(value: float) -> str:
    return f"+{number(value)}" if value > 0 else number(value)


def show_balance(visit: Visit, scope: Scope) -> None:
    """Shape of the trees of the largest families."""
    found = remembered(visit, diversity.balance, scope)
    head = tag("h2", "Shape of families")
    about = tag(
        "p",
        "A star, everybody a child of the founder, has a depth of 1 and the least history. "
        "Evenness (J¹) is 1 where every model's descendants are spread evenly over its children; "
        "B2 is the surprise, in bits, of a walk that takes every child alike. These describe the "
        "tree at hand, by primary parents; they have no sampling error.",
        class_="soft measure",
    )
    if not found:
        words = "No family of this scope has more than two models."
        panel(head, about, empty("No trees", words), key="div-bal")
        return
    heads = ("Founder", "Models", "Without children", "Depth", "B2", "Evenness J¹")
    top = [
        tag("th", words, scope="col", class_="num" if k else None) for k, words in enumerate(heads)
    ]
    rows = [
        tag(
            "tr",
            tag("td", model_link(one.founder), style="min-width:10.5rem"),
            tag("td", f"{one.n_models:,}", class_="num"),
            tag("td", f"{one.tips:,}", class_="num"),
            tag("td", number(one.depth), class_="num"),
            tag("td", number(one.bits), class_="num"),
            tag("td", number(one.evenness), class_="num"),
        )
        for one in found
    ]
    table = tag("table", tag("thead", tag("tr", *top)), tag("tbody", *rows))
    panel(head, about, tag("div", table, class_="scroll"), key="div-bal")
    data_table(
        [
            {"founder": one.founder, "models": one.n_models, "tips": one.tips,
             "depth": one.depth, "bits": one.bits, "evenness": one.evenness}
            for one in found
        ],
        {"founder": "founder", "models": "models", "tips": "models without children",
         "depth": "mean depth of tips (Sackin / tips)", "bits": "B2", "evenness": "J1"},
        _stem(visit, "balance"), label="These shapes as a table",
    )  # fmt: skip


def show_scaling(visit: Visit, scope: Scope) -> None:
    """A score against size, lineage by lineage."""
    panel(
        tag("h2", "Emergence"),
        tag(
            "p",
            "Does a score bend at some size? Lines are fitted within lineages, which differ in "
            "height; a bend is held against what straight lines make by chance. A bend is not "
            "emergence: a score that counts only whole answers bends where ability rises smoothly.",
            class_="soft measure",
        ),
        key="div-sca",
    )
    known = remembered(visit, scaling.evaluations)
    if not known:
        words = (
            f"No evaluation is known of {scaling.LEAST_SCORED} models whose size is known too. "
            "Evaluations come from model cards and from tables of results."
        )
        panel(
            empty("No scores", words, "herdbook ingest scores FILE && herdbook publish"),
            key="div-sca-none",
        )  # fmt: skip
        return
    names = {one.name: f"{one.name} ({plural(one.n_models, 'model')})" for one in known}
    chosen = choose_one("Score", names, "score", known[0].name)
    metric = next(one.metric for one in known if one.name == chosen)
    found = remembered(visit, scaling.scaling, scope, chosen, metric)
    if found is None:
        words = "No model of this scope has that score and a known size."
        panel(empty("No scores here", words), key="div-sca-empty")
        return
    says = _scaling_words(found)
    panel(tag("p", says, class_="measure"), key="div-sca-says")
    count: dict[str, int] = {}
    for _, _, _, founder in found.models:
        count[founder] = count.get(founder, 0) + 1
    large = sorted(count, key=lambda one: (-count[one], one))[: _MOST_FAMILIES - 1]
    colours = ("finetune", "merge", "quantized", "adapter", "undeclared", "unknown")
    named = {founder: short(founder, 40) for founder in large}
    series = dict(zip([*named.values(), "others"], colours, strict=False))
    rows = [
        {"x": size, "y": score, "label": name, "series": named.get(founder, "others"),
         "founder": founder}
        for name, size, score, founder in found.models
    ]  # fmt: skip
    show_chart(
        Chart(
            points("Parameters (log scale)", "Score", series, log_x=True), rows,
            {"label": "model", "x": "parameters", "y": "score", "founder": "founder"},
            f"A score against the size of {plural(len(rows), 'model')}, by founder. {says}",
            _stem(visit, "scaling"),
        ),
        key="div-sca-chart",
    )  # fmt: skip


def _scaling_words(found: scaling.Scaling) -> str:
    if math.isnan(found.slope.value):
        reason = found.slope.method.rpartition("not estimated: ")[2]
        return f"No line can be fitted: {reason}."
    says = (
        f"Within lineages the score changes by {_signed(found.slope.value)} for ten times the size "
        f"({number(found.slope.low)} to {number(found.slope.high)}, "
        f"{plural(found.slope.n, 'model')}, {plural(found.slope.n_clusters or 0, 'founder')}). "
    )
    if math.isnan(found.break_size.value):
        says += f"A straight line is not rejected ({p_words(found.p_value)}): no bend is shown."
    else:
        says += (
            f"A straight line is rejected ({p_words(found.p_value)}): the slope changes at "
            f"{10**found.break_size.value:.2g} parameters ({10**found.break_size.low:.2g} to "
            f"{10**found.break_size.high:.2g}), from {_signed(found.slope_below.value)} to "
            f"{_signed(found.slope_above.value)}."
        )
    if found.thresholded:
        says += " This score counts whole answers only, which bends by itself."
    return says


def _stem(visit: Visit, name: str) -> str:
    return f"herdbook-{name}-{visit.manifest.data_date[:10]}"

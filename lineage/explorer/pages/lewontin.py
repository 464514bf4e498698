"""The page Lewontin's conditions: whether models evolve by selection of a trait."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lineage.explorer.blocks import empty, heading, link
from lineage.explorer.charts import ESTIMATE_COLUMNS, data_table, estimate_row
from lineage.explorer.choices import choose_one, choose_segment
from lineage.explorer.component import panel
from lineage.explorer.downloads import download
from lineage.explorer.markup import Markup, tag
from lineage.explorer.pictures import draw_beside_null
from lineage.explorer.register import Visit
from lineage.explorer.remembered import remembered
from lineage.explorer.words import number, p_words, plural
from lineage.model import Estimate
from lineage.views.verdicts import ConditionRow, Verdict, Verdicts, verdicts

__all__ = ["show_lewontin"]

_GLYPHS = {"met": "✓", "not shown": "○", "cannot tell": "?"}
_CLASSES = {"met": "v-confirmed", "not shown": "v-undeclared", "cannot tell": "v-unverified"}
_ANSWER_WORDS = {
    "met": "the interval is clear of nothing, and the estimate lies beyond what chance makes",
    "not shown": "the data do not show it, which is no evidence of absence",
    "cannot tell": "the data do not allow the question",
}
_CONDITIONS = {
    "variation": "Do models differ in it?",
    "heredity": "Do children resemble their parents in it?",
    "differential fitness": "Are models that differ in it propagated differently?",
}
_FITNESSES = {
    "children": "Children", "descendants": "Descendants", "likes": "Likes",
    "downloads": "Downloads", "likes-gained": "Likes gained",
    "downloads-gained": "Downloads gained", "likes-in-window": "Likes in a window",
    "downloads-in-window": "Downloads in a window",
}  # fmt: skip
_APPLIES = {True: "applies", False: "little", None: "unknown"}


def show_lewontin(visit: Visit) -> None:
    """Draw the page."""
    head = heading(
        "Lewontin's conditions",
        "A population evolves by selection of a trait if its members differ in it, hand it on, and "
        "leave different numbers of offspring by it. Each condition is held against chance.",
    )
    kept = remembered(visit, verdicts)
    if not kept.verdicts:
        panel(
            head,
            empty(
                "No verdict was kept",
                "No trait of this publication has been judged. It needs traits that parents and "
                "children both have.",
                "herdbook measure && herdbook publish",
                tag("p", "One trait, without publishing: ",
                    tag("code", "herdbook lewontin --trait T", class_="command")),
            ),
            key="lew-none",
        )  # fmt: skip
        return
    panel(head, key="lew-head")
    options = {name: _FITNESSES.get(name, name) for name in kept.fitnesses}
    fitness = choose_segment("Propagation counted by", options, "fitness", kept.fitnesses[0])
    rows = [one for one in kept.verdicts if one.asked_fitness == fitness]
    traits = {one.trait: one.trait for one in rows}
    trait = choose_one("Trait", traits, "trait", _default(rows).trait)
    verdict = next(one for one in rows if one.trait == trait)
    panel(
        _sentence(verdict),
        tag("div", *[_condition(verdict, one) for one in verdict.conditions], class_="grid"),
        _legend(),
        key="lew-verdict",
    )
    panel(_threats(verdict), _degrees(verdict), _response(verdict), key="lew-doubts")  # fmt: skip
    stem = f"herdbook-lewontin-{visit.manifest.data_date[:10]}"
    data_table(_figures(verdict), {"part": "part of the verdict", **ESTIMATE_COLUMNS}, stem,
               label="Every figure of this verdict as a table")  # fmt: skip
    download("Download this verdict as JSON", verdict.document, f"{stem}.json", "application/json")
    panel(_survey(kept, rows, verdict, fitness), key="lew-all")


def _default(rows: Sequence[Verdict]) -> Verdict:
    """What ``herdbook lewontin`` asks about by default: the evaluation known of most models."""
    return min(
        rows,
        key=lambda one: (
            one.is_constitutive, not one.is_evaluation, one.trait_type in ("binary", "text"),
            -one.n_models, one.trait,
        ),
    )  # fmt: skip


def _badge(answer: str) -> Markup:
    return tag(
        "span",
        tag("span", _GLYPHS.get(answer, "·"), aria_hidden="true"),
        answer,
        class_=f"badge {_CLASSES.get(answer, '')}",
        title=_ANSWER_WORDS.get(answer),
    )


def _sentence(one: Verdict) -> Markup:
    known = (
        f"Known of {one.n_models:,} of {plural(one.n_population, 'model')}, "
        f"{plural(one.n_founders, 'founder')}; seen until {one.observed_until[:10]}. "
        f"Fitness is {one.fitness}: {one.counted}."
    )
    kind = tag("span", f"{one.trait_type}, {one.unit}", class_="subtle soft tiny")
    parts = [
        tag("h2", one.trait, kind, class_="break"),
        tag("p", _badge(one.answer_among_all), " ", one.sentence, class_="measure"),
        tag("p", known, class_="soft tiny measure"),
    ]  # fmt: skip
    if one.answer != one.answer_among_all:
        words = (
            f"Asked about alone, this trait's answer is “{one.answer}”. Many traits were asked "
            "about at once; what is left after adjusting for that (Benjamini–Hochberg) is "
            f"“{one.answer_among_all}”."
        )
        parts.append(tag("p", words, class_="notice"))
    if one.is_constitutive:
        words = "Derivation copies this trait by construction: its heredity is no finding."
        parts.append(tag("p", words, class_="notice"))
    return tag("section", *parts)


def _condition(verdict: Verdict, one: ConditionRow) -> Markup:
    found = one.estimate
    # One value that everybody has is an effective number of 1.
    nothing = float(one.name == "variation" and verdict.trait_type == "categorical")
    parts = [
        tag("p", one.name, class_="eyebrow"),
        tag("div", tag("h3", _CONDITIONS.get(one.name, one.name)), _badge(one.answer_among_all),
            class_="row apart"),
    ]  # fmt: skip
    if math.isnan(found.value):
        parts.append(tag("p", f"Not estimated: {_reason(found.method)}.", class_="soft"))
    else:
        groups = f", {plural(found.n_clusters, 'group')}" if found.n_clusters is not None else ""
        parts += [
            tag("div", draw_beside_null(found, [null.expected for null in one.nulls], zero=nothing),
                class_="fit"),
            tag("p", tag("b", number(found.value)),
                f" ({found.level:.0%} interval {number(found.low)} to {number(found.high)}; "
                f"{plural(found.n, 'model')}{groups})"),
        ]  # fmt: skip
    parts.append(tag("p", one.sentence, class_="break"))
    for null in one.nulls:
        says = f"By chance {number(null.expected)}: {null.words} ({p_words(null.p_value)})"
        if math.isnan(null.p_value):
            says = f"Chance could not be drawn: {null.words} ({_reason(null.method)})"
        parts.append(tag("p", f"{says}.", class_="soft tiny"))
    if not math.isnan(one.q_value):
        parts.append(
            tag("p", f"Among all traits q = {number(one.q_value, 2)}.", class_="soft tiny")
        )
    for name, beside in one.beside:
        parts.append(tag("p", f"Beside it: {name} {_interval(beside)}", class_="soft tiny"))
    return tag("section", *parts, class_="card")


def _reason(method: str) -> str:
    for words in ("not estimated: ", "not tested: "):
        method = method.rpartition(words)[2]
    return method


def _interval(one: Estimate) -> str:
    if math.isnan(one.value):
        return f"not estimated: {_reason(one.method)}."
    return f"{number(one.value)} ({number(one.low)} to {number(one.high)}, n {one.n:,})."


def _legend() -> Markup:
    words = [
        tag("span", _badge(answer), " ", says, class_="tiny soft")
        for answer, says in _ANSWER_WORDS.items()
    ]
    chance = tag("span", "◇ where chance alone would lie", class_="tiny soft")
    return tag("p", *[tag("span", one, style="margin-right:1.2rem") for one in (*words, chance)])


def _threats(one: Verdict) -> Markup:
    rows = [
        tag(
            "tr",
            tag("td", _APPLIES.get(threat.applies, "unknown"),
                class_="v-contradicted" if threat.applies else "soft"),
            tag("td", threat.name.replace("_", " ")),
            tag("td", number(threat.value), class_="num"),
            tag("td", threat.sentence, class_="break", style="min-width:14rem"),
        )
        for threat in sorted(one.threats, key=lambda t: (t.applies is not True, t.applies is None))
    ]  # fmt: skip
    top = [
        tag("th", words, scope="col", class_="num" if k == 2 else None)
        for k, words in enumerate(("Here", "Threat", "Figure", "What it would do"))
    ]
    table = tag("table", tag("thead", tag("tr", *top)), tag("tbody", *rows))
    return tag("section", tag("h2", "Threats"), tag("div", table, class_="scroll"), class_="gap")


def _degrees(one: Verdict) -> Markup:
    cards = []
    for degree in one.degrees:
        found = degree.estimate
        parts = [
            tag("p", f"{degree.letter} — {degree.name}", class_="eyebrow"),
            tag("p", degree.sentence, class_="break"),
        ]
        if not math.isnan(found.value):
            parts.insert(1, tag("div", draw_beside_null(found, [1.0]), class_="fit"))
            parts.append(tag("p", _interval(found), class_="soft tiny"))
        cards.append(tag("section", *parts, class_="card"))
    about = (
        "How much the population is a Darwinian one, by degrees: how faithfully the trait is "
        "handed on (H), how smoothly fitness follows it (C), how much of the differences in "
        "fitness it explains (S). ◇ marks 1, the paradigm. No published formulae exist; these are "
        "ours."
    )
    return tag(
        "section", tag("h2", "Godfrey-Smith's degrees"), tag("p", about, class_="soft measure"),
        tag("div", *cards, class_="grid"), class_="gap",
    )  # fmt: skip


def _response(one: Verdict) -> Markup:
    if one.response is None:
        return Markup("")
    rows = [
        tag("tr", tag("td", name), tag("td", _interval(found))) for name, found in
        one.response.estimates
    ]  # fmt: skip
    top = [tag("th", words, scope="col") for words in ("From parents to children", "Change")]
    caveat = one.response.caveat
    return tag(
        "section",
        tag("h2", "Response to selection"),
        tag("div", tag("table", tag("thead", tag("tr", *top)), tag("tbody", *rows)),
            class_="scroll"),
        tag("p", f"Mind: {caveat}.", class_="notice") if caveat else None,
        class_="gap",
    )  # fmt: skip


def _figures(one: Verdict) -> list[dict[str, object]]:
    named: list[tuple[str, str, Estimate]] = []
    for condition in one.conditions:
        named.append(("condition", condition.name, condition.estimate))
        named += [(f"beside {condition.name}", *beside) for beside in condition.beside]
    named += [("degree", degree.name, degree.estimate) for degree in one.degrees]
    if one.response is not None:
        named += [("response", *found) for found in one.response.estimates]
    rows = [
        {"part": part, **estimate_row(k, name, found)} for k, (part, name, found) in
        enumerate(named)
    ]  # fmt: skip
    for condition in one.conditions:
        for null in condition.nulls:
            rows.append(
                {"part": f"chance of {condition.name}", "label": null.words,
                 "value": null.expected, "p": null.p_value, "method": null.method}
            )  # fmt: skip
    return rows


def _survey(kept: Verdicts, rows: Sequence[Verdict], shown: Verdict, fitness: str) -> Markup:
    """Every trait a line, and those that could not be asked about."""
    lines = [
        tag(
            "tr",
            tag("td", tag("b", one.trait) if one is shown else
                link("lewontin", one.trait, trait=one.trait, fitness=fitness),
                style="min-width:9rem", class_="break"),
            tag("td", f"{one.n_models:,}", class_="num"),
            tag("td", f"{one.n_founders:,}", class_="num"),
            *[
                tag("td", _badge(condition.answer_among_all),
                    tag("div", _q(condition), class_="soft tiny"))
                for condition in one.conditions
            ],
            tag("td", _badge(one.answer_among_all)),
        )
        for one in rows
    ]  # fmt: skip
    heads = ("Trait", "Models", "Founders", "Variation", "Heredity", "Differential fitness", "All")
    top = [
        tag("th", words, scope="col", class_="num" if k in (1, 2) else None)
        for k, words in enumerate(heads)
    ]
    met = sum(one.answer_among_all == "met" for one in rows)
    says = (
        f"{met} of {plural(len(rows), 'trait')} meet all three conditions. q-values are adjusted "
        "over the traits of each condition (Benjamini–Hochberg): asked often enough, chance "
        "answers yes."
    )
    left = [one for one in kept.not_asked if one[0] == fitness]
    unasked = [tag("li", tag("b", name), f": {reason}", class_="break") for _, name, reason in left]
    table = tag("table", tag("thead", tag("tr", *top)), tag("tbody", *lines))
    return tag(
        "section",
        tag("h2", "Every trait"),
        tag("p", says, class_="measure"),
        tag("div", table, class_="scroll"),
        tag("h3", "Not asked about", class_="later") if unasked else None,
        tag("ul", *unasked, class_="plain says") if unasked else None,
        class_="gap",
    )


def _q(one: ConditionRow) -> str | None:
    return None if math.isnan(one.q_value) else f"q {number(one.q_value, 2)}"

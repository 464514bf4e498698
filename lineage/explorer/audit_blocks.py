"""The lines of the page Audit, and its tables. Pure: frozen rows in, markup and columns out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from lineage import views
from lineage.explorer.blocks import badge, claim_list, evidence_list, link, model_link, name
from lineage.explorer.markup import Markup, join, tag
from lineage.explorer.table_files import Columns
from lineage.explorer.words import (
    GRADE_WORDS,
    KIND_WORDS,
    RELATION_WORDS,
    SOURCE_WORDS,
    VERDICT_WORDS,
    finding_sentence,
    number,
    p_words,
    plural,
)
from lineage.views.comparison import PathEdge
from lineage.views.licences import LicenceConflict, VerdictCount

__all__ = [
    "conflict_columns",
    "conflict_row",
    "count_columns",
    "count_table",
    "edge_columns",
    "edge_row",
    "line_columns",
    "line_row",
    "tallies",
]

_VERDICTS = ("undeclared", "contradicted", "confirmed", "unverified")


def tallies(found: views.AuditPage, verdict: str, kept: Mapping[str, str]) -> Markup:
    """A card for each verdict, which filters, and a bar of their shares."""
    total = max(1, found.count(""))
    cards = [
        link(
            "audit",
            join(
                tag("div", badge(name_), tag("b", f"{found.count(name_):,}"), class_="row apart"),
                tag("div", VERDICT_WORDS[name_], class_="soft tiny", style="margin-top:.4rem"),
            ),
            class_="card on" if name_ == verdict else "card",
            verdict="" if name_ == verdict else name_,
            **kept,
        )
        for name_ in _VERDICTS
    ]
    bars = [
        tag("i", class_=f"v-{name_}", style=f"flex:{found.count(name_) / total:.4f}")
        for name_ in _VERDICTS
        if found.count(name_)
    ]
    return join(
        tag("div", *cards, class_="grid four"),
        tag("div", *bars, class_="stackbar", aria_hidden="true"),
    )


def _opened(mark: Markup, title: Markup, *inside: object) -> Markup:
    """A line that opens."""
    return tag("details", tag("summary", mark, title), tag("div", *inside, class_="inside"))


def _links(child: str, parent: str | None) -> Markup:
    return tag(
        "p",
        link("evidence", "All evidence", child=child, parent=parent),
        " · ",
        link("lineage", "Show the lineage of this model", model=child),
    )


def edge_row(row: views.AuditRow) -> Markup:
    """One edge: what was declared, what was found, what was measured."""
    edge, finding = row.edge, row.finding
    kind = KIND_WORDS.get(edge.kind or "", RELATION_WORDS.get(edge.relation, edge.relation))
    share = f" {edge.weight:.2f}" if edge.weight is not None and edge.weight < 1 else ""
    shown = [tag("h3", "Found in the weights")]
    if finding is None:
        shown.append(tag("p", "The weights of this model were not read.", class_="soft"))
    else:
        shown.append(tag("p", finding_sentence(finding), class_="break"))
        facts = [f"{finding.grade}: {GRADE_WORDS.get(finding.grade, '')}"]
        if edge.p_value is not None:
            facts.append(p_words(edge.p_value))
        if edge.probability is not None:
            facts.append(f"probability {number(edge.probability)}")
        shown.append(tag("p", " · ".join(facts), class_="soft tiny"))
        instead = [piece for one in views.found_instead(edge, finding)
                   for piece in (" and ", model_link(one))][1:]  # fmt: skip
        if instead:
            shown.append(tag("p", "The weights point to ", *instead, " instead."))
    title = tag(
        "span", name(edge.child), tag("span", " from ", class_="soft"), name(edge.parent), " ",
        tag("span", f"{kind}{share}", class_="soft tiny"),
    )  # fmt: skip
    return _opened(
        badge(edge.verdict),
        title,
        tag("div", tag("h3", "Declared"), claim_list(row.claims)),
        tag("div", *shown),
        tag("div", tag("h3", "Evidence"), evidence_list(edge.evidence)),
        _links(edge.child, edge.parent),
    )


def line_row(line: views.AuditLine) -> Markup:
    """One ruling of the audit, with the words it is about and what was measured."""
    said = [
        tag(
            "li",
            tag("span", SOURCE_WORDS.get(one.source, one.source), class_="chip"),
            tag("blockquote", one.text),
        )
        for one in line.declared
    ]
    title = tag(
        "span", name(line.child), tag("span", " is no faithful quantisation of ", class_="soft"),
        name(line.parent_text),
    )  # fmt: skip
    return _opened(
        badge("contradicted"),
        title,
        tag("p", line.sentence, class_="break wide"),
        tag("div", tag("h3", "Declared"), tag("ul", *said, class_="plain")),
        tag("div", tag("h3", "Evidence"), evidence_list(line.evidence)),
        _links(line.child, line.parent),
    )


def conflict_row(row: LicenceConflict, line: Sequence[PathEdge]) -> Markup:
    """One conflict of licences, and the line along which it came down."""
    own = f" ({row.ancestor_licence_name})" if row.ancestor_licence_name else ""
    title = tag(
        "span", name(row.child), " ", tag("span", row.child_licence, class_="chip"),
        tag("span", " below ", class_="soft"), name(row.ancestor), " ",
        tag("span", f"{row.ancestor_licence}{own}", class_="chip"),
    )  # fmt: skip
    steps = [
        tag(
            "li",
            tag(
                "div",
                link("evidence", join(name(edge.child), tag("span", " from ", class_="soft"),
                                      name(edge.parent)),
                     child=edge.child, parent=edge.parent),
                badge(edge.verdict),
                class_="row apart",
            ),
            tag("div", RELATION_WORDS.get(edge.relation, edge.relation), f" · {edge.grade}",
                class_="soft tiny"),
        )
        for edge in line
    ]  # fmt: skip
    sentence = (
        f"{row.child} is {_class(row.child_class)} ({row.child_licence}); its ancestor "
        f"{row.ancestor} is {_class(row.ancestor_class)} ({row.ancestor_licence}{own})."
    )
    return _opened(
        tag("span", plural(row.n_edges, "step"), class_="soft tiny"),
        title,
        tag("p", sentence, class_="break"),
        tag("div", tag("h3", "The line between them"), tag("ul", *steps, class_="plain")),
        _links(row.child, line[0].parent if line else None),
    )


def _class(terms: str) -> str:
    words = {"custom": "under terms of its own", "non_commercial": "non-commercial"}
    return words.get(terms, terms)


def count_table(by: str, counted: Sequence[VerdictCount]) -> Markup:
    """Families or owners and their edges by verdict; each name filters the audit."""
    rows = [
        tag(
            "tr",
            tag("td", link("audit", row.name, **{by: row.name}), class_="break"),
            *[
                tag("td", link("audit", f"{n:,}", verdict=verdict, **{by: row.name}) if n else "–",
                    class_="num")
                for verdict in _VERDICTS
                for n in (getattr(row, verdict),)
            ],
        )
        for row in counted
    ]  # fmt: skip
    heads = [tag("th", verdict.capitalize(), class_="num") for verdict in _VERDICTS]
    head = tag("tr", tag("th", by.capitalize()), *heads)
    return tag(
        "div", tag("table", tag("thead", head), tag("tbody", *rows)),
        style="overflow-x:auto", class_="gap",
    )  # fmt: skip


# -- tables -------------------------------------------------------------------------------------


def edge_columns(edges: Sequence[views.EdgeRow]) -> Columns:
    """Edges as columns; the evidence as sentences."""
    return {
        **{
            field: [getattr(edge, field) for edge in edges]
            for field in ("child", "parent", "relation", "kind", "weight", "verdict", "grade",
                          "p_value", "probability")
        },
        "evidence": ["; ".join(fact.text for fact in edge.evidence) for edge in edges],
    }  # fmt: skip


def line_columns(lines: Sequence[views.AuditLine]) -> Columns:
    """Rulings as columns; what was declared and the evidence as JSON."""
    return {
        "child": [line.child for line in lines],
        "parent": [line.parent for line in lines],
        "declared": [json.dumps([asdict(one) for one in line.declared]) for line in lines],
        "sentence": [line.sentence for line in lines],
        "evidence": [json.dumps([asdict(fact) for fact in line.evidence]) for line in lines],
    }


def conflict_columns(rows: Sequence[LicenceConflict]) -> Columns:
    """Conflicts of licences as columns."""
    return {
        field: [getattr(row, field) for row in rows] for field in LicenceConflict.__slots__
    }  # fmt: skip


def count_columns(by: str, counted: Sequence[VerdictCount]) -> Columns:
    """Families or owners and their edges by verdict as columns."""
    fields = {by: "name"} | {verdict: verdict for verdict in _VERDICTS}
    return {
        heading: [getattr(row, field) for row in counted] for heading, field in fields.items()
    }  # fmt: skip

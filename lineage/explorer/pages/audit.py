"""The page Audit: declared against found, with the evidence for each edge."""

from __future__ import annotations

import streamlit as st

from lineage import views
from lineage.explorer.blocks import (
    badge,
    claim_list,
    empty,
    evidence_list,
    heading,
    link,
    model_link,
    name,
)
from lineage.explorer.choices import choose_one
from lineage.explorer.component import panel
from lineage.explorer.downloads import download
from lineage.explorer.exports import edges_csv
from lineage.explorer.markup import Markup, join, tag
from lineage.explorer.register import Visit
from lineage.explorer.words import (
    GRADE_WORDS,
    KIND_WORDS,
    RELATION_WORDS,
    VERDICT_WORDS,
    finding_sentence,
    number,
    p_words,
    plural,
)

__all__ = ["show_audit"]

_PER_PAGE = 25
_VERDICTS = ("undeclared", "contradicted", "confirmed", "unverified")


def show_audit(visit: Visit) -> None:
    """Draw the page."""
    panel(
        heading(
            "Declared against found",
            "Every parent that somebody named or that the weights show, and whether the two "
            "agree. Open a line for the words and the measurements behind it.",
        ),
        key="audit-head",
        follow=visit.follow,
    )
    asked = st.query_params.get("verdict", "")
    verdict = asked if asked in _VERDICTS else ""
    families = {"": "All", **{item.name: item.name for item in views.families(visit.cursor)}}
    owners = {"": "All", **{item.name: item.name for item in views.owners(visit.cursor)}}
    left, right = st.columns(2)
    with left:
        family = choose_one("Family", families, "family", "")
    with right:
        owner = choose_one("Owner", owners, "owner", "")
    asked_page = st.query_params.get("page", "1")
    page = int(asked_page) if asked_page.isdecimal() and 0 < len(asked_page) < 6 else 1
    found = views.audit(
        visit.cursor,
        verdict=verdict,
        family=family,
        owner=owner,
        limit=_PER_PAGE,
        offset=(max(page, 1) - 1) * _PER_PAGE,
    )
    kept = {"family": family, "owner": owner}
    total = found.count(verdict)
    if found.rows:
        body: Markup = join(
            *[_row(row) for row in found.rows], _pager(page, total, verdict, kept)
        )  # fmt: skip
    else:
        body = empty(
            "No such edge",
            "No edge has this verdict within this family and owner.",
            None,
            tag("p", link("audit", "Show all edges")),
        )
    panel(_tallies(found, verdict, kept), body, key="audit-rows", follow=visit.follow)
    if found.rows:
        edges = views.audit_all(visit.cursor, verdict=verdict, family=family, owner=owner)
        download(
            f"Download {plural(len(edges), 'edge')} as CSV",
            edges_csv(edges),
            f"herdbook-edges-{visit.manifest.data_date[:10]}.csv",
            "text/csv",
        )


def _tallies(found: views.AuditPage, verdict: str, kept: dict[str, str]) -> Markup:
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


def _row(row: views.AuditRow) -> Markup:
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
        instead = views.found_instead(edge, finding)
        if instead:
            others = [model_link(parent) for parent in instead]
            shown.append(tag("p", "The weights point to ", *_listed(others), " instead."))
    return tag(
        "details",
        tag(
            "summary",
            badge(edge.verdict),
            tag("span", name(edge.child), tag("span", " from ", class_="soft"), name(edge.parent),
                tag("span", f"{kind}{share}", class_="soft tiny")),
        ),
        tag(
            "div",
            tag("div", tag("h3", "Declared"), claim_list(row.claims)),
            tag("div", *shown),
            tag("div", tag("h3", "Evidence"), evidence_list(edge.evidence)),
            tag("p", link("lineage", "Show the lineage of this model", model=edge.child)),
            class_="inside",
        ),
    )  # fmt: skip


def _listed(parts: list[Markup]) -> list[object]:
    out: list[object] = []
    for part in parts:
        out += [" and " if out else None, part]
    return out


def _pager(page: int, total: int, verdict: str, kept: dict[str, str]) -> Markup:
    pages = -(-total // _PER_PAGE)
    if pages <= 1:
        return Markup("")
    before, after = (
        link("audit", words, verdict=verdict, page=number_, **kept) if wanted else None
        for words, number_, wanted in (
            ("← before", page - 1, page > 1),
            ("next →", page + 1, page < pages),
        )
    )
    here = tag("span", f"page {page} of {pages}", class_="soft")
    return tag("nav", before, here, after, class_="pager", aria_label="Pages")

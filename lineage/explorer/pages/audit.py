"""The page Audit: declared against found, unfaithful quantisations, licences along a line."""

from __future__ import annotations

import streamlit as st

from lineage import views
from lineage.explorer.ancestors import ancestry_of
from lineage.explorer.audit_blocks import (
    conflict_columns,
    conflict_row,
    count_columns,
    count_table,
    edge_columns,
    edge_row,
    line_columns,
    line_row,
    tallies,
)
from lineage.explorer.blocks import empty, heading, link
from lineage.explorer.choices import choose_one, choose_segment
from lineage.explorer.component import panel
from lineage.explorer.markup import Markup, join, tag
from lineage.explorer.register import Visit
from lineage.explorer.table_files import Columns, download_table
from lineage.explorer.words import plural
from lineage.views.licences import (
    MOST_CONFLICTS,
    VerdictCount,
    all_conflicts,
    conflict_lines,
    licence_conflicts,
    unfaithful_quantisations,
    verdict_counts,
)

__all__ = ["show_audit"]

_PER_PAGE = 25
_VERDICTS = ("undeclared", "contradicted", "confirmed", "unverified")
_CLASSES = ("non_commercial", "custom", "copyleft")
_SUBJECTS = {
    "parents": "Parents",
    "quantisations": "Unfaithful quantisations",
    "licences": "Licences along a line",
    "groups": "By family and owner",
}
_MOST_EDGES = 10_000
_MOST_PAGES = 400
"""Farther pages would sort every edge to show a few: filters and files serve better."""
_MOST_GROUPS = 1_000


def show_audit(visit: Visit) -> None:
    """Draw the page."""
    panel(
        heading(
            "Declared against found",
            "Every parent that somebody named or that the weights show, and whether the two "
            "agree. Open a line for the words and the measurements behind it.",
        ),
        key="audit-head",
    )
    subject = choose_segment("What", _SUBJECTS, "subject", "parents")
    if subject == "groups":
        _groups(visit)
        return
    families, owners = _choices(visit)
    left, right = st.columns(2)
    with left:
        family = choose_one("Family", families, "family", "")
    with right:
        owner = choose_one("Owner", owners, "owner", "")
    kept = {"family": family, "owner": owner}
    if subject == "quantisations":
        _quantisations(visit, kept)
    elif subject == "licences":
        _licences(visit, kept)
    else:
        _parents(visit, kept)


@st.cache_data(max_entries=4, show_spinner=False)
def _listed(_visit: Visit, sha256: str) -> dict[str, list[str]]:
    cursor = _visit.cursor
    return {
        "family": [item.name for item in views.families(cursor)],
        "owner": [item.name for item in views.owners(cursor)],
    }


def _choices(visit: Visit) -> tuple[dict[str, str], dict[str, str]]:
    """Families and owners to choose from; one that the address names is kept even if small."""
    found = []
    for key, names in _listed(visit, visit.manifest.sha256).items():
        options = {"": "All", **{name: name for name in names}}
        asked = st.query_params.get(key, "")
        if asked and asked not in options and len(asked) < 200 and _is_known(visit, key, asked):
            options[asked] = asked
        found.append(options)
    return found[0], found[1]


def _is_known(visit: Visit, key: str, asked: str) -> bool:
    if key == "family":
        card = views.model_card(visit.cursor, asked)
        return card is not None and card.founder == asked
    return bool(views.model_names(visit.cursor, asked))


def _page() -> int:
    asked = st.query_params.get("page", "1")
    number = int(asked) if asked.isdecimal() and 0 < len(asked) < 6 else 1
    return min(max(1, number), _MOST_PAGES + 1)


def _pager(page: int, total: int, **query: str) -> Markup:
    pages = min(-(-total // _PER_PAGE), _MOST_PAGES)
    if pages <= 1:
        return Markup("")
    before, after = (
        link("audit", words, page=number_, **query) if wanted else None
        for words, number_, wanted in (
            ("← before", page - 1, page > 1),
            ("next →", page + 1, page < pages),
        )
    )
    here = tag("span", f"page {page:,} of {pages:,}", class_="soft")
    return tag("nav", before, here, after, class_="pager", aria_label="Pages")


def _stem(visit: Visit, what: str) -> str:
    return f"herdbook-{what}-{visit.manifest.data_date[:10]}"


def _beyond(total: int, **query: str) -> Markup:
    """A page after the last one."""
    return empty(
        "No such page",
        f"There are {plural(total, 'line')}, but not on this page. Of very many only the first "
        f"{_MOST_PAGES} pages are shown: narrow the filter, or take the file.",
        None,
        tag("p", link("audit", "Show the first page", **query)),
    )


# -- parents ------------------------------------------------------------------------------------


def _parents(visit: Visit, kept: dict[str, str]) -> None:
    asked = st.query_params.get("verdict", "")
    verdict = asked if asked in _VERDICTS else ""
    page = _page()
    found = views.audit(
        visit.cursor,
        verdict=verdict,
        family=kept["family"],
        owner=kept["owner"],
        limit=_PER_PAGE if page <= _MOST_PAGES else 0,
        offset=(page - 1) * _PER_PAGE,
    )
    total = found.count(verdict)
    if found.rows:
        body = join(
            *[edge_row(row) for row in found.rows],
            _pager(page, total, verdict=verdict, **kept),
        )
    elif total:
        body = _beyond(total, verdict=verdict, **kept)
    else:
        body = empty(
            "No such edge",
            "No edge has this verdict within this family and owner.",
            None,
            tag("p", link("audit", "Show all edges")),
        )
    panel(tallies(found, verdict, kept), body, key="audit-rows")
    if not found.rows:
        return

    def make() -> Columns:
        edges = views.audit_all(visit.cursor.cursor(), verdict=verdict, **kept)
        return edge_columns(edges)

    shown = min(total, _MOST_EDGES)
    download_table(plural(shown, "edge"), make, _stem(visit, "edges"), "audit-edges")


# -- families and owners ------------------------------------------------------------------------


@st.cache_data(max_entries=8, show_spinner=False)
def _counted(_visit: Visit, sha256: str, by_owner: bool) -> tuple[VerdictCount, ...]:
    return verdict_counts(_visit.cursor, by_owner=by_owner, limit=_MOST_GROUPS)


def _groups(visit: Visit) -> None:
    by = choose_segment("Count by", {"family": "Family", "owner": "Owner"}, "by", "family")
    counted = _counted(visit, visit.manifest.sha256, by == "owner")
    if not counted:
        panel(
            empty("No edge yet", "Nothing was declared or found in this register."),
            key="audit-rows",
        )
        return
    page = _page()
    shown = counted[(page - 1) * _PER_PAGE : page * _PER_PAGE]
    body = (
        join(count_table(by, shown), _pager(page, len(counted), subject="groups", by=by))
        if shown
        else _beyond(len(counted), subject="groups", by=by)
    )
    panel(body, key="audit-rows")
    download_table(
        f"Verdicts by {by}",
        lambda: count_columns(by, counted),
        _stem(visit, f"verdicts-by-{by}"),
        "audit-by",
    )


# -- quantisations ------------------------------------------------------------------------------


@st.cache_data(max_entries=32, show_spinner=False)
def _judged(
    _visit: Visit, sha256: str, family: str, owner: str
) -> tuple[views.AuditLine, ...]:  # fmt: skip
    return unfaithful_quantisations(_visit.cursor, family=family, owner=owner)


def _quantisations(visit: Visit, kept: dict[str, str]) -> None:
    lines = _judged(visit, visit.manifest.sha256, kept["family"], kept["owner"])
    page = _page()
    shown = lines[(page - 1) * _PER_PAGE : page * _PER_PAGE]
    words = (
        "Declared as a quantisation of a model whose values, rounded, do not give the stored "
        "codes, though those of another model do, or of none that was read."
    )
    if shown:
        body = join(
            *[line_row(line) for line in shown],
            _pager(page, len(lines), subject="quantisations", **kept),
        )
    elif lines:
        body = _beyond(len(lines), subject="quantisations", **kept)
    else:
        body = empty(
            "No unfaithful quantisation",
            "Every declared quantisation that was read within this family and owner has the "
            "codes of the model it names, or could not be judged.",
            None,
            tag("p", link("audit", "Show all edges")),
        )
    panel(tag("p", words, class_="soft measure"), body, key="audit-rows")
    if lines:
        download_table(
            plural(len(lines), "quantisation"),
            lambda: line_columns(lines),
            _stem(visit, "unfaithful-quantisations"),
            "audit-quantisations",
        )


# -- licences -----------------------------------------------------------------------------------


def _licences(visit: Visit, kept: dict[str, str]) -> None:
    asked = st.query_params.get("terms", "")
    terms = asked if asked in _CLASSES else ""
    page = _page()
    found = licence_conflicts(
        visit.cursor,
        terms=terms,
        family=kept["family"],
        owner=kept["owner"],
        limit=_PER_PAGE if page <= _MOST_PAGES else 0,
        offset=(page - 1) * _PER_PAGE,
    )
    total = found.count(terms)
    query = {"subject": "licences", "terms": terms, **kept}
    if found.rows:
        lines = conflict_lines(visit.cursor, ancestry_of(visit), found.rows)
        rows = [conflict_row(row, lines[row.child, row.ancestor]) for row in found.rows]
        body = join(*rows, _pager(page, total, **query))
    elif total:
        body = _beyond(total, **query)
    else:
        body = empty(
            "No such conflict",
            "Within this family and owner no model states a licence that allows more than that "
            "of an ancestor. Models that state none, or none that is known, are not judged.",
            None,
            tag("p", link("audit", "Show all of them", subject="licences")),
        )
    panel(_rule(), _terms(found.counts, terms, kept), body, key="audit-rows")
    if not found.rows:
        return

    def make() -> Columns:
        return conflict_columns(all_conflicts(visit.cursor.cursor(), terms=terms, **kept))

    shown = min(total, MOST_CONFLICTS)
    download_table(plural(shown, "conflict"), make, _stem(visit, "licences"), "audit-licences")


def _rule() -> Markup:
    return tag(
        "div",
        tag(
            "p",
            "A model is listed when its own licence allows more than that of an ancestor: "
            "permissive or copyleft below non-commercial or custom terms, permissive below "
            "copyleft. Ancestors are followed over all edges that stand, declared ones included, "
            "without contradicted claims and ties; the nearest ancestor of each class is told.",
        ),
        tag(
            "p",
            "This compares words on cards and is no legal advice: a licence may permit what its "
            "class does not, an owner may have licensed twice, and a parent may be declared "
            "wrongly. Models without a known licence are not judged.",
        ),
        class_="notice",
    )


def _terms(counts: dict[str, int], terms: str, kept: dict[str, str]) -> Markup:
    """A card for each class of the ancestor, which filters."""
    words = {
        "non_commercial": "Ancestor allows no commercial use.",
        "custom": "Ancestor has conditions of its own: read them.",
        "copyleft": "Ancestor asks for the same terms below it.",
    }
    cards = [
        link(
            "audit",
            join(
                tag("div", tag("span", name.replace("_", "-"), class_="chip"),
                    tag("b", f"{counts.get(name, 0):,}"), class_="row apart"),
                tag("div", words[name], class_="soft tiny", style="margin-top:.4rem"),
            ),
            class_="card on" if name == terms else "card",
            subject="licences",
            terms="" if name == terms else name,
            **kept,
        )
        for name in _CLASSES
    ]  # fmt: skip
    return tag("div", *cards, class_="grid four")

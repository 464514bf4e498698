"""The page Owner: somebody's models, whom they build upon, and who builds upon them."""

from __future__ import annotations

import streamlit as st

from lineage.explorer.blocks import badge, empty, heading, link, model_card, model_link, name
from lineage.explorer.choices import choose_segment
from lineage.explorer.component import panel
from lineage.explorer.exports import file_stem
from lineage.explorer.markup import Markup, join, tag
from lineage.explorer.pickers import asked_name, name_field
from lineage.explorer.register import Visit
from lineage.explorer.table_files import Columns, download_table
from lineage.explorer.words import count_words, date_words, plural, short
from lineage.views import ModelCard
from lineage.views.ownership import Owner, TopOwner, near_owners, owner, owner_models, top_owners

__all__ = ["show_owner"]

_PER_PAGE = 24
_MOST_MODELS = 10_000
_ORDERS = {
    "downloads": "Most downloaded",
    "descendants": "Most descendants",
    "newest": "Newest",
    "name": "Name",
}
_VERDICTS = ("confirmed", "undeclared", "contradicted", "unverified")


@st.cache_data(max_entries=64, show_spinner=False)
def _owner(_visit: Visit, sha256: str, name: str) -> Owner | None:
    return owner(_visit.cursor, name)


@st.cache_data(max_entries=4, show_spinner=False)
def _top(_visit: Visit, sha256: str) -> tuple[TopOwner, ...]:
    return top_owners(_visit.cursor)


def show_owner(visit: Visit) -> None:
    """Draw the page."""
    asked = asked_name("name")
    found = _owner(visit, visit.manifest.sha256, asked) if asked else None
    if found is not None:
        _show(visit, found)
        return
    panel(
        heading("Owners", "Who publishes models, whom they build upon, and who builds upon them."),
        key="own-head",
    )
    name_field("Owner", "name", "a user or an organisation")
    body = _unknown(visit, asked) if asked else _largest(visit)
    panel(body, key="own-none")


def _unknown(visit: Visit, asked: str) -> Markup:
    text = asked.partition("/")[0] or asked
    near = near_owners(visit.cursor, text)
    items = [
        tag("li", link("owner", one.name, name=one.name),
            tag("span", f" {plural(one.n_models, 'model')}", class_="soft tiny"))
        for one in near
    ]  # fmt: skip
    return empty(
        "This register knows no such owner",
        join("No model in it belongs to ", tag("b", short(asked, 96)), "."),
        None,
        tag("p", "Near names:", class_="soft") if items else None,
        tag("ul", *items, class_="plain") if items else None,
    )


def _largest(visit: Visit) -> Markup:
    cards = [
        link(
            "owner",
            join(
                tag("b", one.name, class_="break"),
                tag("div", f"{plural(one.n_models, 'model')} with "
                    f"{plural(one.n_children, 'child', 'children')}", class_="soft tiny"),
            ),
            class_="card",
            name=one.name,
        )
        for one in _top(visit, visit.manifest.sha256)
    ]  # fmt: skip
    return tag(
        "section",
        tag("h2", "Most built upon"),
        tag("div", *cards, class_="grid"),
        class_="gap",
    )


def _show(visit: Visit, found: Owner) -> None:
    span = f"{date_words(found.first)} to {date_words(found.latest)}"
    panel(
        heading(found.name, f"{plural(found.n_models, 'model')}, {span}", "Owner"),
        _figures(found),
        _relations(found),
        key="own-head",
    )
    order = choose_segment("Order", _ORDERS, "order", "downloads")
    asked = st.query_params.get("page", "1")
    page = max(1, int(asked)) if asked.isdecimal() and 0 < len(asked) < 6 else 1
    cards = owner_models(visit.cursor, found.name, order, _PER_PAGE, (page - 1) * _PER_PAGE)
    body: Markup
    if cards:
        body = tag("div", *[model_card(card, _note(card)) for card in cards], class_="grid")
    else:
        body = empty(
            "No such page",
            f"There are {plural(found.n_models, 'model')}, but not on page {page:,}.",
            None,
            tag("p", link("owner", "Show the first page", name=found.name)),
        )
    panel(
        tag("h2", "Models"), body, _pager(found, order, page), key="own-models",
    )  # fmt: skip
    with st.expander("The same as a table"):
        st.dataframe(_columns(cards), hide_index=True, width="stretch",
                     alt="The models on this page")  # fmt: skip

    def make() -> Columns:
        return _columns(
            owner_models(visit.cursor.cursor(), found.name, order, _MOST_MODELS)
        )  # fmt: skip

    shown = min(found.n_models, _MOST_MODELS)
    stem = file_stem(f"{found.name}-models", visit.manifest.data_date)
    download_table(plural(shown, "model"), make, stem, "own-models")


def _note(card: ModelCard) -> str | None:
    """Downloads, by which the list is ordered, where they are known."""
    return f"{card.downloads_30d:,} downloads in 30 days" if card.downloads_30d else None


def _figures(found: Owner) -> Markup:
    cells = [
        (f"{found.n_models:,}", "models"),
        (f"{found.n_derived:,}", "with a known parent"),
        (f"{found.n_built_upon:,}", "models that others made of these"),
        (count_words(found.downloads_30d), "downloads in 30 days"),
        (count_words(found.likes), "likes"),
    ]
    return tag(
        "div",
        *[tag("div", tag("b", n), tag("span", words, class_="soft tiny")) for n, words in cells],
        class_="figures gap",
    )


def _relations(found: Owner) -> Markup:
    verdicts = [
        tag(
            "li",
            tag("div", link("audit", badge(verdict), class_="", verdict=verdict, owner=found.name),
                tag("b", f"{found.verdicts.get(verdict, 0):,}"), class_="row apart"),
        )
        for verdict in _VERDICTS
        if found.verdicts.get(verdict)
    ]  # fmt: skip
    parents = [
        tag("li", tag("div", model_link(one.name), tag("span", f"{one.n_models:,}"),
                      class_="row apart"))
        for one in found.parents
    ]  # fmt: skip
    users = [
        tag("li", tag("div", link("owner", name(one.name), name=one.name),
                      tag("span", f"{one.n_models:,}"), class_="row apart"))
        for one in found.users
    ]  # fmt: skip
    nobody = "Nobody in this register, as far as is known."
    return tag(
        "div",
        _listed("What is declared and found of their parents", verdicts, "No parent is known."),
        _listed("Built upon, by models made", parents, "Nothing of others, as far as is known."),
        _listed("Who builds upon them, by models made", users, nobody),
        class_="sections",
    )


def _listed(title: str, items: list[Markup], otherwise: str) -> Markup:
    body = tag("ul", *items, class_="plain") if items else tag("p", otherwise, class_="soft")
    return tag("section", tag("h2", title), body)


def _pager(found: Owner, order: str, page: int) -> Markup:
    pages = -(-found.n_models // _PER_PAGE)
    if pages <= 1:
        return Markup("")
    query = {"name": found.name, "order": "" if order == "downloads" else order}
    before, after = (
        link("owner", words, page=number_, **query) if wanted else None
        for words, number_, wanted in (
            ("← before", page - 1, page > 1),
            ("next →", page + 1, page < pages),
        )
    )
    here = tag("span", f"page {page:,} of {pages:,}", class_="soft")
    return tag("nav", before, here, after, class_="pager", aria_label="Pages")


def _columns(cards: tuple[ModelCard, ...]) -> Columns:
    fields = ("repo_id", "kind", "status", "licence", "downloads_30d", "likes", "n_parents",
              "n_children", "n_descendants", "primary_parent", "founder")  # fmt: skip
    return {
        "created": [card.created_at.isoformat() if card.created_at else None for card in cards],
        **{field: [getattr(card, field) for card in cards] for field in fields},
    }

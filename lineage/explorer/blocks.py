"""Pieces of pages made of escaped markup: names, badges, cards, evidence, empty states."""

from __future__ import annotations

from collections.abc import Sequence

from crawler.records import is_repo_id
from lineage.explorer.drawing import shape
from lineage.explorer.markup import Markup, address, join, tag
from lineage.explorer.words import (
    KIND_WORDS,
    SOURCE_WORDS,
    VERDICT_GLYPHS,
    VERDICT_WORDS,
    count_words,
    date_words,
    number,
    plural,
)
from lineage.model import Evidence, Kind, Relation
from lineage.views import ClaimRow, ModelCard

__all__ = [
    "badge",
    "claim_list",
    "empty",
    "evidence_list",
    "glyph",
    "heading",
    "hub_link",
    "kind_words",
    "link",
    "model_card",
    "model_link",
    "name",
]


def heading(title: object, lede: object | None = None, eyebrow: str | None = None) -> Markup:
    """The head of a page."""
    return tag(
        "header",
        tag("p", eyebrow, class_="eyebrow") if eyebrow else None,
        tag("h1", title, class_="break"),
        tag("p", lede, class_="lede") if lede else None,
    )


def link(page: str, words: object, /, class_: str = "word", **query: object) -> Markup:
    """A link inside the explorer that needs no new page load."""
    target = address(page, **query)
    return tag("a", words, href=target, data_go=target, class_=class_)


def name(repo_id: str) -> Markup:
    """A repository's name with its owner in a softer tone."""
    owner, slash, rest = repo_id.partition("/")
    if not slash:
        return tag("span", repo_id, class_="name break")
    return tag("span", tag("span", owner + slash, class_="owner"), rest, class_="name break")


def model_link(repo_id: str) -> Markup:
    """A repository's name that leads to its lineage."""
    return link("lineage", name(repo_id), class_="word", model=repo_id)


def hub_link(repo_id: str) -> Markup | None:
    """A link to the Hub, for well-formed names only."""
    if not is_repo_id(repo_id):
        return None
    return tag(
        "a", "on the Hub ↗", href=f"https://huggingface.co/{repo_id}", target="_blank",
        rel="noopener noreferrer nofollow", class_="word",
    )  # fmt: skip


def badge(verdict: str) -> Markup:
    """A verdict as glyph and word."""
    return tag(
        "span",
        tag("span", VERDICT_GLYPHS.get(verdict, "·"), aria_hidden="true"),
        verdict,
        class_=f"badge v-{verdict}",
        title=VERDICT_WORDS.get(verdict),
    )


def glyph(kind: str | None, n_parents: int) -> Markup:
    """The mark that the drawing gives to a model of this kind."""
    relation = "founder"
    if n_parents and kind in KIND_WORDS and kind != "founder":
        relation = Relation.of(Kind(kind)).value
    elif n_parents:
        relation = "finetune"
    return tag(
        "svg", tag("g", shape(relation, 8, 8, 5.2, class_="mark"), class_=f"r-{relation}"),
        viewBox="0 0 16 16", class_="glyph", aria_hidden="true",
    )  # fmt: skip


def kind_words(model: ModelCard) -> str:
    """The kind of a model in words; what is known when its weights were not read."""
    if model.kind:
        return KIND_WORDS.get(model.kind, model.kind)
    return "parent declared only" if model.n_parents else "no parent known"


def model_card(model: ModelCard, note: str | None = None) -> Markup:
    """A model as a card that leads to its lineage."""
    facts = [date_words(model.created_at)]
    if model.n_descendants:
        facts.append(plural(model.n_descendants, "descendant"))
    if model.parameters:
        facts.append(f"{count_words(model.parameters)} parameters")
    if model.status != "ok":
        facts.append(model.status)
    return link(
        "lineage",
        join(
            tag("div", glyph(model.kind, model.n_parents), name(model.repo_id), class_="row",
                style="flex-wrap:nowrap"),
            tag("div", note or kind_words(model), class_="tiny"),
            tag("div", " · ".join(facts), class_="soft tiny"),
        ),
        class_="card",
        model=model.repo_id,
    )  # fmt: skip


def claim_list(claims: Sequence[ClaimRow]) -> Markup:
    """What was said, with the words themselves."""
    if not claims:
        return tag("p", "Nobody declared a parent.", class_="soft")
    return tag(
        "ul",
        *[
            tag(
                "li",
                tag(
                    "div",
                    model_link(claim.parent) if claim.parent else tag("span", claim.parent_text),
                    tag("span", SOURCE_WORDS.get(claim.source, claim.source), class_="chip"),
                    tag("span", claim.relation, class_="chip") if claim.relation else None,
                    tag("span", f"share {number(claim.weight)}", class_="chip")
                    if claim.weight is not None
                    else None,
                    class_="row",
                ),
                tag("blockquote", claim.text),
            )
            for claim in claims
        ],
        class_="plain",
    )


def evidence_list(evidence: Sequence[Evidence]) -> Markup:
    """Measured facts: the sentence, then the name and the number."""
    if not evidence:
        return tag("p", "No measurement stands behind this.", class_="soft")
    return tag(
        "ul",
        *[
            tag(
                "li",
                tag("div", item.text or item.name, class_="break"),
                ""
                if item.value is None
                else tag("div", f"{item.name} = {number(item.value, 6)}", class_="mono soft"),
            )
            for item in evidence
        ],
        class_="plain",
    )


def empty(title: str, words: object, command: str | None = None, *more: object) -> Markup:
    """A state without data: what is the matter and what to do, never a blank page."""
    return tag(
        "section",
        tag("h2", title),
        tag("p", words),
        tag("code", command, class_="command") if command else None,
        *more,
        class_="empty",
        role="status",
    )

"""What the page Evidence shows when two names make no edge: choices, near names, sentences."""

from __future__ import annotations

from lineage import views
from lineage.explorer.blocks import badge, empty, link, model_link, name
from lineage.explorer.markup import Markup, join, tag
from lineage.explorer.register import Visit
from lineage.explorer.words import VERDICT_WORDS, short
from lineage.views.evidence import edge_evidence, pair_test

__all__ = ["no_edge"]

_EXAMPLES = 4
_SHOWN_EDGES = 60
_UNSEEN = "unseen:"
"""How the names of ancestors begin that were inferred, and never published."""


def no_edge(visit: Visit, child: str, parent: str) -> Markup:
    """What to say when the two names make no edge of the register."""
    cursor = visit.cursor
    if not child and not parent:
        return _examples(visit)
    for word, other_key, asked, other in (
        ("child", "parent", child, parent),
        ("parent", "child", parent, child),
    ):
        if asked and views.model_card(cursor, asked) is None:
            return _unknown(visit, word, asked, {other_key: other})
    if child and child == parent:
        return empty(
            "A model is no parent of its own",
            join("Both names are ", model_link(child), ". Name two different models."),
        )
    if child and parent:
        return _unlinked(visit, child, parent)
    return _edges_of(visit, child or parent)


def _unknown(visit: Visit, word: str, asked: str, other: dict[str, str]) -> Markup:
    if asked.startswith(_UNSEEN):
        return empty(
            "An ancestor that nobody published",
            "It is known only from what its children have in common: there are no weights of it "
            "to show. The evidence is that of its children and of their parent beyond it.",
            None,
            tag("p", link("evidence", "The edges of the other model", **_alone(other))),
        )
    near = views.near(visit.cursor, asked)
    kept = [
        tag("li", link("evidence", name(card.repo_id), **{word: card.repo_id}, **other))
        for card in near
    ]
    return empty(
        "This register does not know that model",
        join(f"It holds no {word} called ", tag("b", short(asked, 96)), "."),
        None,
        tag("p", "Near names:", class_="soft") if kept else None,
        tag("ul", *kept, class_="plain") if kept else None,
    )


def _alone(other: dict[str, str]) -> dict[str, str]:
    """The other name as the child, of which the parents are told."""
    return {"child": next(iter(other.values()))}


def _unlinked(visit: Visit, child: str, parent: str) -> Markup:
    cursor = visit.cursor
    if edge_evidence(cursor, parent, child) is not None:
        return empty(
            "It is the other way round",
            join("The register holds ", name(parent), " as the child of ", name(child), "."),
            None,
            tag("p", link("evidence", "Show that edge", child=parent, parent=child)),
        )
    test = pair_test(cursor, child, parent)
    tested = (
        "Their weights were not held against each other."
        if test is None
        else f"The family test of their weights says: {str(test.verdict).replace('_', ' ')}."
    )
    return empty(
        "No edge between these two",
        join(name(parent), " is not known as a parent of ", name(child), ": nobody declared it and "
             "no finding names it. ", tested),
        f"herdbook compare {_quoted(child)} {_quoted(parent)}",
        tag("p", link("compare", "What they have in common", a=child, b=parent)),
        tag("p", link("evidence", "The parents that are known", child=child)),
    )  # fmt: skip


def _quoted(repo_id: str) -> str:
    return repo_id if repo_id.isascii() and " " not in repo_id else "MODEL"


def _edges_of(visit: Visit, model: str) -> Markup:
    """The edges of one model, when only one of two names is given."""
    detail = views.model_detail(visit.cursor, model, max_children=_SHOWN_EDGES)
    assert detail is not None
    if not detail.parents and not detail.children:
        return empty(
            "No edge yet",
            join("No parent and no child of ", model_link(model), " is in this register."),
        )
    return tag(
        "div",
        _edge_list("Its parents", detail.parents),
        _edge_list(
            "Its children"
            + (f", the first {_SHOWN_EDGES}" if detail.card.n_children > _SHOWN_EDGES else ""),
            detail.children,
        ),
        class_="sections",
    )


def _edge_list(title: str, edges: tuple[views.EdgeRow, ...]) -> Markup | None:
    if not edges:
        return None
    return tag(
        "section",
        tag("h2", title),
        tag("ul", *[tag("li", _edge_link(edge)) for edge in edges], class_="plain"),
    )


def _edge_link(edge: views.EdgeRow) -> Markup:
    words = tag("span", name(edge.child), tag("span", " from ", class_="soft"), name(edge.parent))
    return tag(
        "div",
        link("evidence", words, child=edge.child, parent=edge.parent),
        badge(edge.verdict),
        class_="row apart",
    )


def _examples(visit: Visit) -> Markup:
    sections = []
    for verdict in ("contradicted", "undeclared", "confirmed"):
        rows = views.audit(visit.cursor, verdict=verdict, limit=_EXAMPLES).rows
        if rows:
            sections.append(
                tag(
                    "section",
                    tag("h2", verdict.capitalize()),
                    tag("p", VERDICT_WORDS[verdict], class_="soft tiny"),
                    tag("ul", *[tag("li", _edge_link(row.edge)) for row in rows], class_="plain"),
                )
            )
    if not sections:
        return empty(
            "Nothing was checked yet",
            "No edge of this register was confirmed, found or contradicted by weights.",
            "herdbook fingerprint && herdbook infer && herdbook publish",
            tag("p", link("audit", "See what was declared")),
        )
    return tag("div", *sections, class_="sections")

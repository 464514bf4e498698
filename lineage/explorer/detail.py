"""All that is known about one model, beside its drawing: finding, parents, claims, evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from crawler.records import is_repo_id
from lineage import views
from lineage.explorer.blocks import (
    badge,
    claim_list,
    evidence_list,
    hub_link,
    kind_words,
    link,
    model_link,
)
from lineage.explorer.figures import draw_history, draw_layers, draw_shares
from lineage.explorer.markup import Markup, join, tag
from lineage.explorer.words import (
    GRADE_WORDS,
    KIND_WORDS,
    RELATION_WORDS,
    STATUS_WORDS,
    bytes_words,
    count_words,
    date_words,
    finding_sentence,
    number,
    p_words,
    plural,
    short,
)
from lineage.model import Evidence
from lineage.views.surroundings import Observed

__all__ = ["detail_blocks", "facts_block"]

_MAX_CHILDREN = 12
_MAX_OBSERVED = 60
_DIGEST = 12  # hex digits shown of a file's SHA-256; all of them on hover


def facts_block(detail: views.ModelDetail) -> Markup:
    """One line below the name: what it is, since when, how large its family is."""
    card = detail.card
    parts: list[object] = [kind_words(card).capitalize(), date_words(card.created_at)]
    if card.n_descendants:
        parts.append(plural(card.n_descendants, "descendant"))
    if card.parameters:
        parts.append(f"{count_words(card.parameters)} parameters")
    hub = hub_link(card.repo_id)
    if hub is not None and card.status != "gone":
        parts.append(hub)
    return join(*[piece for part in parts for piece in (" · ", part)][1:])


def detail_blocks(
    detail: views.ModelDetail,
    history: Sequence[Observed] = (),
    query: Mapping[str, str] | None = None,
    elbow: str = "",
) -> list[Markup]:
    """The sections below the drawing, in a grid of two columns where there is room.

    Parameters
    ----------
    detail
        The model.
    history
        Its counts over time.
    query
        The address of the drawing; with it every parent that the drawing may follow says so.
    elbow
        The parent that the drawing follows instead of the first.
    """
    sections = [
        _finding(detail), _parents(detail, query, elbow), _claims(detail), _evidence(detail),
        _children(detail), _downloads(history), _traits(detail), _facts(detail),
        _large_files(detail), _problems(detail),
    ]  # fmt: skip
    made = [section for section in sections if section is not None]
    notices = []
    if detail.card.status != "ok":
        words = STATUS_WORDS.get(detail.card.status, detail.card.status)
        notices.append(tag("p", f"This repository is {words}.", class_="notice", role="status"))
    return [*notices, tag("div", *made, class_="sections")]


def _section(title: str, *children: object, wide: bool = False) -> Markup:
    return tag("section", tag("h2", title), *children, class_="wide" if wide else None)


def _finding(detail: views.ModelDetail) -> Markup:
    finding, card = detail.finding, detail.card
    if finding is None:
        words = "The weights of this model were not read, so there is nothing but words to go by."
        if not detail.claims:
            words = "Its weights were not read and nobody declared a parent."
        return _section("What the weights show", tag("p", words, class_="soft"))
    parts: list[object] = [tag("p", finding_sentence(finding), class_="break")]
    if finding.kind == "founder" and not card.n_parents:
        parts.append(
            tag(
                "p",
                "No parent of it is in this register. That is an absence, not a proof: it may "
                "descend from a model that was never crawled.",
                class_="soft",
            )
        )
    facts = [finding.grade.capitalize() + ": " + GRADE_WORDS.get(finding.grade, "")]
    if finding.method:
        facts.append(finding.method)
    if finding.rank is not None:
        facts.append(f"rank {finding.rank}")
    if finding.p_value is not None:
        facts.append(p_words(finding.p_value))
    if finding.probability is not None:
        facts.append(f"probability {number(finding.probability)}")
    parts.append(tag("p", " · ".join(facts), class_="soft tiny"))
    if finding.ties:
        tied = [piece for tie in finding.ties for piece in (", ", model_link(tie))][1:]
        parts.append(tag("p", "Equally good parents: ", *tied))
    if len(finding.parents) > 1:
        parts.append(tag("div", draw_shares(finding.parents), class_="fit"))
    if detail.layer_map:
        parts += [
            tag("h3", "Where the layers came from"),
            tag("div", draw_layers(detail.layer_map), class_="fit"),
        ]
    if finding.recipe_yaml:
        parts += [
            tag("h3", "Recovered recipe"),
            tag("p", "mergekit rebuilds the model from this.", class_="soft tiny"),
            tag("pre", finding.recipe_yaml, class_="recipe", tabindex="0"),
        ]
    return _section("What the weights show", *parts)


def _edge_line(edge: views.EdgeRow, other: str, swap: Markup | None = None) -> Markup:
    words = KIND_WORDS.get(edge.kind or "", RELATION_WORDS.get(edge.relation, edge.relation))
    share = f"share {number(edge.weight)}" if edge.weight is not None and edge.weight < 1 else None
    why = link("evidence", "evidence", child=edge.child, parent=edge.parent)
    return tag(
        "li",
        tag("div", model_link(other), badge(edge.verdict), class_="row apart"),
        tag("div", words, f" · {share}" if share else None, f" · {edge.grade} · ", why,
            Markup(" · ") if swap else None, swap, class_="soft tiny"),
    )  # fmt: skip


def _parents(detail: views.ModelDetail, query: Mapping[str, str] | None, elbow: str) -> Markup:
    if not detail.parents:
        words = "None known: a founder of this register, or of a line nobody declared."
        return _section("Parents", tag("p", words, class_="soft"))
    possible = [edge for edge in detail.parents if edge.verdict != "contradicted"]
    first = detail.card.primary_parent or detail.parents[0].parent
    primary = next((edge for edge in possible if edge.parent == first), None)
    followed = next((edge for edge in possible if edge.parent == elbow), primary)

    def swap(edge: views.EdgeRow) -> Markup | None:
        if query is None or edge not in possible or len(possible) < 2:
            return None
        if edge == followed:
            return tag("span", "the drawing follows this one")
        asked = {**query, "elbow": "" if edge == primary else edge.parent}
        return link("lineage", "draw along this parent", model=detail.card.repo_id, **asked)

    lines = [_edge_line(edge, edge.parent, swap(edge)) for edge in detail.parents]
    return _section("Parents", tag("ul", *lines, class_="plain"))


def _children(detail: views.ModelDetail) -> Markup | None:
    if not detail.children:
        return None
    shown = detail.children[:_MAX_CHILDREN]
    more = detail.card.n_children - len(shown)
    return _section(
        f"Children ({detail.card.n_children:,})",
        tag("ul", *[_edge_line(edge, edge.child) for edge in shown], class_="plain"),
        tag("p", f"and {plural(more, 'more child', 'more children')}", class_="soft tiny")
        if more > 0
        else None,
    )


def _claims(detail: views.ModelDetail) -> Markup:
    return _section("What was declared", claim_list(detail.claims))


def _evidence(detail: views.ModelDetail) -> Markup | None:
    seen: dict[Evidence, None] = {}
    for item in (*(detail.finding.evidence if detail.finding else ()),
                 *(item for edge in detail.parents for item in edge.evidence)):  # fmt: skip
        seen[item] = None
    if not seen:
        return None
    return _section("Evidence", evidence_list(tuple(seen)))


def _downloads(history: Sequence[Observed]) -> Markup | None:
    known = [one for one in history if one.downloads_30d is not None]
    if not known:
        return None
    last = known[-1]
    says = f"{last.downloads_30d:,} in the 30 days before {date_words(last.when)}."
    if len(known) == 1:
        says += " Seen once, so there is no course over time yet."
        return _section("Downloads", tag("p", says))
    rows = [
        tag(
            "tr",
            tag("td", date_words(one.when)),
            tag("td", f"{one.downloads_30d:,}", class_="num"),
            tag("td", f"{one.likes:,}" if one.likes is not None else "–", class_="num"),
        )
        for one in known[-_MAX_OBSERVED:]
    ]
    head = tag("tr", tag("th", "Seen on"), tag("th", "Downloads", class_="num"),
               tag("th", "Likes", class_="num"))  # fmt: skip
    table = tag("table", tag("thead", head), tag("tbody", *rows), class_="narrow")
    return _section(
        "Downloads",
        tag("p", says, " Each point counts the 30 days before it: they overlap and have no sum."),
        tag("div", draw_history(known), class_="fit"),
        tag("details", tag("summary", "As a table"), tag("div", table, class_="inside"),
            class_="twin"),
    )  # fmt: skip


def _traits(detail: views.ModelDetail) -> Markup | None:
    if not detail.traits:
        return None
    rows = [
        tag(
            "tr",
            tag("td", trait.name),
            tag("td", number(trait.value, 4), class_="num"),
            tag("td", trait.metric, f" on {trait.dataset}", class_="soft tiny break"),
        )
        for trait in detail.traits
    ]
    head = tag(
        "tr", tag("th", "Trait"), tag("th", "Value", class_="num"), tag("th", "Measured as")
    )  # fmt: skip
    return _section(
        "Measured traits",
        tag("table", tag("thead", head), tag("tbody", *rows)),
        tag("p", link("heritability", "What the whole register says of these"), class_="tiny"),
    )


def _facts(detail: views.ModelDetail) -> Markup:
    card, read = detail.card, detail.fingerprint
    facts: list[tuple[str, object]] = [
        ("Status", STATUS_WORDS.get(card.status, card.status)),
        ("Founder", model_link(card.founder) if card.founder != card.repo_id else "itself"),
        ("Generation", card.generation),
        ("Architecture", card.architecture),
        ("Stored as", card.dtype),
        ("Licence", card.licence),
        ("Task", card.pipeline_tag),
        ("Downloads", f"{card.downloads_30d:,} in 30 days" if card.downloads_30d else None),
        ("Likes", f"{card.likes:,}" if card.likes else None),
        (
            "Files",
            _files(
                card.repo_id, bytes_words(card.size_bytes) if card.size_bytes else "not counted"
            ),
        ),
        ("Commit", tag("span", card.revision, class_="mono") if card.revision else None),
    ]
    if read is not None:
        share = read.bytes_read / read.weight_bytes if read.weight_bytes else 0.0
        words = f"{bytes_words(read.bytes_read)} of {bytes_words(read.weight_bytes)}"
        facts.append(("Bytes read", f"{words} ({share:.2%}) in {plural(read.requests, 'request')}"))
    rows = [
        piece
        for key, value in facts
        if value is not None
        for piece in (tag("dt", key), tag("dd", value))
    ]
    return _section("Facts", tag("dl", *rows))


def _files(repo_id: str, words: str) -> Markup:
    """The size of a repository, with a link to its files on the Hub for well-formed names."""
    if not is_repo_id(repo_id):
        return tag("span", words)
    href = f"https://huggingface.co/{repo_id}/tree/main"
    listed = tag("a", "listed on the Hub ↗", href=href, target="_blank",
                 rel="noopener noreferrer nofollow", class_="word")  # fmt: skip
    return join(words, ", ", listed)


def _large_files(detail: views.ModelDetail) -> Markup | None:
    if not detail.files:
        return None
    rows = [
        tag(
            "tr",
            tag("td", short(file.path, 80), class_="break"),
            tag("td", bytes_words(file.size_bytes), class_="num"),
            tag("td", file.sha256[:_DIGEST], title=file.sha256, class_="mono"),
        )
        for file in detail.files
    ]
    head = tag("tr", tag("th", "File"), tag("th", "Size", class_="num"), tag("th", "SHA-256"))
    return _section("Large files", tag("table", tag("thead", head), tag("tbody", *rows)))


def _problems(detail: views.ModelDetail) -> Markup | None:
    if not detail.problems:
        return None
    items = [
        tag(
            "li",
            tag("div", problem.reason, class_="break"),
            tag("div", f"{problem.stage}: {problem.code}", f" in {problem.path}" if problem.path
                else None, class_="mono soft"),
        )
        for problem in detail.problems
    ]  # fmt: skip
    return _section("What could not be read", tag("ul", *items, class_="plain"))

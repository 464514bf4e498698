"""The words, tables and commands of the page Evidence. Pure: an edge's evidence in, markup out."""

from __future__ import annotations

from collections.abc import Sequence

from crawler.records import is_repo_id
from lineage.explorer.blocks import evidence_list, link, model_link, name
from lineage.explorer.evidence_figures import percent
from lineage.explorer.figures import draw_shares
from lineage.explorer.markup import Markup, tag
from lineage.explorer.table_files import Columns
from lineage.explorer.words import (
    GRADE_WORDS,
    SOURCE_WORDS,
    date_words,
    finding_sentence,
    number,
    p_words,
    plural,
)
from lineage.model import Evidence
from lineage.views import ClaimRow, Declaration
from lineage.views.evidence import EdgeEvidence, LayerMatrix

__all__ = ["commands", "evidence_sections", "layer_sentence", "layer_table", "matrix_table"]

_TESTS = {
    "related": "They are related: their rows match far better than those of strangers.",
    "common_init": "They started from one random initialisation and were trained apart.",
    "unrelated": "No trace of a common origin.",
    "untestable": "Nothing in their weights can be compared.",
}


def evidence_sections(found: EdgeEvidence) -> list[Markup]:
    """What was said, what was found, and what was measured, in two columns where there is room."""
    sections = [_ruling(found), _claims(found), _finding(found), _test(found), _measured(found)]
    return [tag("div", *[one for one in sections if one is not None], class_="sections")]


def _section(title: str, *children: object) -> Markup:
    return tag("section", tag("h2", title), *children)


def _ruling(found: EdgeEvidence) -> Markup | None:
    if found.line is None:
        return None
    instead = [piece for one in found.instead for piece in (" and ", _edge_to(found, one))][1:]
    return _section(
        "In one sentence",
        tag("p", found.line.sentence, class_="break"),
        tag("p", "The weights point to ", *instead, " instead.") if instead else None,
    )


def _edge_to(found: EdgeEvidence, parent: str) -> Markup:
    return link("evidence", name(parent), child=found.edge.child, parent=parent)


def _claims(found: EdgeEvidence) -> Markup:
    """The claims about this parent by source, and how many there are about others."""
    said = found.line.declared if found.line is not None else ()
    n_others = len({claim.parent_text for claim in found.detail.claims}) - bool(said)
    items = [
        tag(
            "li",
            tag(
                "div",
                tag("span", SOURCE_WORDS.get(one.source, one.source), class_="chip"),
                tag("span", one.relation, class_="chip") if one.relation else None,
                _seen(one, found.detail.claims),
                class_="row",
            ),
            tag("blockquote", one.text),
        )
        for one in said
    ]
    return _section(
        "What was declared",
        tag("ul", *items, class_="plain")
        if items
        else tag("p", "Nobody named this parent.", class_="soft"),
        tag("p", f"{plural(n_others, 'other parent')} declared of this child.", class_="soft tiny")
        if n_others > 0
        else None,
    )


def _seen(one: Declaration, claims: Sequence[ClaimRow]) -> Markup | None:
    """Since when the words have stood there, and the share that they state."""
    same = next((c for c in claims if (c.source, c.text) == (one.source, one.text)), None)
    if same is None:
        return None
    share = f", share {number(same.weight)}" if same.weight is not None else ""
    return tag("span", f"seen since {date_words(same.first_seen)}{share}", class_="soft tiny")


def _finding(found: EdgeEvidence) -> Markup:
    finding, edge = found.finding, found.edge
    if finding is None:
        words = "The weights of the child were not read: there are only words to go by."
        return _section("What the weights show", tag("p", words, class_="soft"))
    facts = [f"{finding.grade}: {GRADE_WORDS.get(finding.grade, '')}"]
    if finding.method:
        facts.append(finding.method)
    if finding.rank is not None:
        facts.append(f"rank {finding.rank}")
    if edge.p_value is not None:
        facts.append(p_words(edge.p_value))
    if edge.probability is not None:
        facts.append(f"probability {number(edge.probability)}")
    facts.append(f"found {date_words(finding.found_at)}")
    ties = [piece for tie in finding.ties for piece in (", ", model_link(tie))][1:]
    return _section(
        "What the weights show",
        tag("p", finding_sentence(finding), class_="break"),
        tag("p", " · ".join(facts), class_="soft tiny"),
        tag("p", "Equally good parents: ", *ties) if ties else None,
        tag("p", "Between the two stands an ancestor that nobody published, known only from what "
            "its children have in common.", class_="soft")
        if finding.unseen_ancestor
        else None,
        tag("div", draw_shares(finding.parents), class_="fit")
        if len(finding.parents) > 1
        else None,
    )  # fmt: skip


def _test(found: EdgeEvidence) -> Markup | None:
    test = found.test
    if test is None:
        return None
    facts: list[tuple[str, str]] = []
    if test.statistic is not None:
        facts.append(("Row matching", f"z {number(test.statistic)}"))
    if test.p_value is not None:
        facts.append(("Chance of strangers", p_words(test.p_value)))
    if test.bit_equality is not None:
        facts.append(("Equal words", f"{percent(test.bit_equality)} of the matrices read"))
    rows = [piece for key, value in facts for piece in (tag("dt", key), tag("dd", value))]
    return _section(
        "The family test",
        tag("p", _TESTS.get(test.verdict, test.verdict)),
        tag("dl", *rows) if rows else None,
    )


def _measured(found: EdgeEvidence) -> Markup:
    """Facts of the edge, of the finding where it names this parent, and doubts about the claim."""
    facts: dict[Evidence, None] = dict.fromkeys(
        fact for fact in found.edge.evidence if fact.name != "claim"
    )
    finding = found.finding
    if finding is not None and found.edge.parent in {one.parent for one in finding.parents}:
        facts.update(dict.fromkeys(finding.evidence))
    if found.line is not None:
        facts.update(dict.fromkeys(found.line.evidence))
    return _section("What was measured", evidence_list(tuple(facts)))


# -- layer by layer -----------------------------------------------------------------------------


def layer_sentence(found: EdgeEvidence) -> str:
    """What the layers say together, in words."""
    n_codes = sum(row.n_codes for row in found.layers)
    if n_codes:
        replayed = sum(row.n_replayed for row in found.layers) / n_codes
        return (
            f"Quantising the parent gives {percent(replayed)} of {n_codes:,} stored codes of the "
            "child."
        )
    n_words = sum(row.n_words for row in found.layers)
    equal = sum(row.n_equal for row in found.layers) / n_words
    if equal == 1:
        return f"All {n_words:,} values that both readings hold are equal."
    untouched = sum(row.n_words > 0 and row.n_equal == row.n_words for row in found.layers)
    return (
        f"{percent(equal)} of {n_words:,} values that both readings hold are equal; "
        f"{untouched} of {len(found.layers)} bars are untouched. Training moves nearly every "
        "value a little, a copy none, a stranger shares them by chance only."
    )


def layer_table(found: EdgeEvidence) -> Columns:
    """The layers as columns."""
    rows = found.layers
    table: dict[str, list[str | int | float | None]] = {
        "layer": ["outside" if row.layer is None else str(row.layer) for row in rows],
        "parent_layer": [row.parent_layer for row in rows],
        "values": [row.n_words for row in rows],
        "equal": [row.n_equal for row in rows],
        "share_equal": [row.n_equal / row.n_words if row.n_words else None for row in rows],
        "relative_change": [row.relative_change for row in rows],
    }
    if any(row.n_codes for row in rows):
        table["codes"] = [row.n_codes for row in rows]
        table["codes_replayed"] = [row.n_replayed for row in rows]
    if found.fit is not None:
        fitted = dict(found.fit.by_layer)
        for at, parent in enumerate(found.fit.parents):
            table[f"coefficient of {parent}"] = [
                fitted[row.layer][at] if row.layer in fitted else None for row in rows
            ]
    return table


def matrix_table(matrix: LayerMatrix) -> Columns:
    """Matching of every layer of the child (rows) against every layer of the parent (columns)."""
    table: dict[str, list[str | int | float | None]] = {"child layer": list(range(len(matrix.z)))}
    for j in range(max((len(row) for row in matrix.z), default=0)):
        table[f"parent {j}"] = [row[j] if j < len(row) else None for row in matrix.z]
    return table


# -- the command line ---------------------------------------------------------------------------


def commands(found: EdgeEvidence, *, with_recipe: bool) -> list[str]:
    """Commands that make the same again; none for names that are no names of repositories."""
    child, parent = found.edge.child, found.edge.parent
    if not is_repo_id(child) or not is_repo_id(parent):
        return []
    lines = [
        f"herdbook compare {child} {parent}",
        f"herdbook explain {child} {parent}",
        f"herdbook audit {child}",
    ]
    if with_recipe:
        lines += [
            f"herdbook recipe {child} > recipe.yml",
            f"herdbook verify recipe.yml {child}",
        ]
    return lines

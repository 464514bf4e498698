"""The words and tables of the page Compare. Pure: a comparison in, text and columns out."""

from __future__ import annotations

from lineage.explorer.evidence_figures import percent
from lineage.explorer.table_files import Columns
from lineage.explorer.words import KIND_WORDS, date_words, number, p_words, plural
from lineage.views import ModelCard
from lineage.views.comparison import Comparison, Kinship

__all__ = ["difference_columns", "kinship_sentence", "meeting_sentence", "test_words"]

_TESTS = {
    "related": "The family test finds them related.",
    "common_init": "They started from one random initialisation and were trained apart.",
    "unrelated": "The family test finds no trace of a common origin.",
    "untestable": "Nothing in their weights can be compared.",
}


def meeting_sentence(found: Comparison) -> str:
    """Where the lines of two models meet, in one or two sentences."""
    a, b = found.a.repo_id, found.b.repo_id
    cut = (
        " Their ancestry is too large to be walked whole: there may be nearer ones." * found.is_cut
    )
    if not found.meetings:
        return f"No ancestor of both {a} and {b} is in this register: an absence, not a proof.{cut}"
    nearest = found.meetings[0]
    steps = plural(nearest.n_edges, "step")
    for one, other in ((a, b), (b, a)):
        if nearest.ancestor == one:
            return f"{one} is an ancestor of {other}, {steps} above it.{cut}"
    says = f"Their lines meet in {nearest.ancestor}, {steps} apart."
    if len(found.meetings) > 1:
        says += f" Through merges they meet in {len(found.meetings) - 1:,} more."
    return says + f" They share {plural(found.n_common, 'ancestor')} in all.{cut}"


def kinship_sentence(kinship: Kinship) -> str:
    """What descent alone leads to expect of their weights."""
    if kinship.correlation is None:
        return f"Their relatedness cannot be computed: {kinship.reason}."
    measured = (
        f"{kinship.n_measured} of {plural(kinship.n_steps, 'step')} in their pedigree of "
        f"{plural(kinship.n_models, 'model')} were measured"
    )
    bound = (
        ""
        if kinship.n_measured == kinship.n_steps
        else "; the others count as copies, so it is an upper bound"
    )
    return (
        f"Relatedness {_shown(kinship.correlation)}: the correlation of inherited values that this "
        f"pedigree leads to expect, with unrelated founders ({measured}{bound}). It is computed "
        "from edges and shares, not estimated from the two models."
    )


def _shown(correlation: float) -> str:
    """A correlation; 1 is said of what is 1 only."""
    digits = 3 if correlation < 0.995 else 5
    return number(correlation if correlation == 1 else min(correlation, 0.99999), digits)


def test_words(found: Comparison) -> list[str]:
    """What the family test of their weights says."""
    test = found.test
    if test is None:
        return [
            "Their weights were not held against each other in the latest inference. On the "
            f"command line: herdbook compare {found.a.repo_id} {found.b.repo_id}"
        ]
    facts = [
        f"Row matching z {number(test.statistic)}" if test.statistic is not None else "",
        p_words(test.p_value) if test.p_value is not None else "",
        f"{percent(test.bit_equality)} of the words of matrices that were read are equal"
        if test.bit_equality is not None
        else "",
    ]
    told = "; ".join(fact for fact in facts if fact)
    return [_TESTS.get(test.verdict, str(test.verdict)), *([told + "."] if told else [])]


def difference_columns(found: Comparison) -> Columns:
    """Facts and traits of both, a row each: what, one, the other, and the difference of numbers."""
    rows: list[tuple[str, str | int | float | None, str | int | float | None]] = [
        (what, one, other)
        for (what, one), (_, other) in zip(_facts(found.a), _facts(found.b), strict=True)
    ]
    rows += [
        (f"{trait.name} ({trait.metric} on {trait.dataset})", trait.a, trait.b)
        for trait in found.traits
    ]
    return {
        "what": [what for what, _, _ in rows],
        "one": [one for _, one, _ in rows],
        "other": [other for _, _, other in rows],
        "difference": [
            one - other if isinstance(one, int | float) and isinstance(other, int | float) else None
            for _, one, other in rows
        ],
    }


def _facts(card: ModelCard) -> list[tuple[str, str | int | float | None]]:
    return [
        ("Kind", KIND_WORDS.get(card.kind or "", card.kind)),
        ("Status", card.status),
        ("Created", date_words(card.created_at) if card.created_at else None),
        ("Licence", card.licence),
        ("Architecture", card.architecture),
        ("Stored as", card.dtype),
        ("Parameters", card.parameters),
        ("Task", card.pipeline_tag),
        ("Library", card.library),
        ("Size in bytes", card.size_bytes),
        ("Downloads in 30 days", card.downloads_30d),
        ("Likes", card.likes),
        ("Founder", card.founder),
        ("Generation", card.generation),
        ("Parents", card.n_parents),
        ("Children", card.n_children),
        ("Descendants", card.n_descendants),
    ]

"""Plain words for what the register holds: kinds, verdicts, grades, numbers and dates."""

from __future__ import annotations

from datetime import datetime

from lineage.views import EdgeRow, EstimateRow, FindingRow, Mark
from lineage.views.words import KIND_WORDS, RELATION_WORDS, SOURCE_WORDS

__all__ = [
    "GRADE_WORDS",
    "KIND_WORDS",
    "RELATION_WORDS",
    "SOURCE_WORDS",
    "STATUS_WORDS",
    "VERDICT_GLYPHS",
    "VERDICT_WORDS",
    "bytes_words",
    "count_words",
    "date_words",
    "edge_sentence",
    "estimate_sentence",
    "finding_sentence",
    "mark_sentence",
    "number",
    "p_words",
    "plural",
    "short",
    "statistic_words",
]

VERDICT_GLYPHS = {"confirmed": "✓", "undeclared": "◎", "contradicted": "✕", "unverified": "?"}
VERDICT_WORDS = {
    "confirmed": "Somebody declared this parent and the weights agree.",
    "undeclared": "The weights show this parent; nobody declared it.",
    "contradicted": "Somebody declared this parent; the weights disagree.",
    "unverified": "Declared, and the weights could neither confirm nor refute it.",
}
GRADE_WORDS = {
    "proved": "the bits replay exactly",
    "inferred": "by a statistical test on the weights",
    "tie": "one of several equally good parents",
    "declared": "only somebody's word",
    "abstain": "related, but parent or direction cannot be told",
}
STATUS_WORDS = {
    "ok": "open",
    "gated": "gated: its files need permission, so its weights were not read",
    "disabled": "disabled by the Hub: nothing could be read",
    "gone": "gone: it was seen once and has since disappeared from the Hub",
    "outside": "outside this register: only its name is known",
    "unseen": "an ancestor that nobody published: inferred from what its children have in common",
}


def short(text: str, longest: int) -> str:
    """Cut the middle out of a long name."""
    if len(text) <= longest:
        return text
    head = (longest - 1) * 3 // 5
    return f"{text[:head]}…{text[len(text) - (longest - 1 - head) :]}"


def plural(n: int, one: str, many: str | None = None) -> str:
    """A count with its noun.

    Examples
    --------
    >>> plural(1, "child", "children"), plural(1200, "model")
    ('1 child', '1,200 models')
    """
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def count_words(n: int | None) -> str:
    """A count for people: 1,234 or 8.0 B; a dash when it is not known."""
    if n is None:
        return "–"
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if n >= size:
            return f"{n / size:.3g} {unit}"
    return f"{n:,}"


def bytes_words(n: int | None) -> str:
    """A size in decimal units."""
    if n is None:
        return "–"
    size = float(n)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB"


def date_words(when: datetime | None) -> str:
    """A day, or a dash."""
    return f"{when:%-d %b %Y}" if when is not None else "–"


def number(value: float | None, digits: int = 3) -> str:
    """A number with a real minus sign, or a dash."""
    if value is None or value != value:
        return "–"
    return f"{value:.{digits}g}".replace("-", "\N{MINUS SIGN}")


def p_words(p_value: float) -> str:
    """A p-value as people write it."""
    if p_value < 1e-300:
        return "p < 1e\N{MINUS SIGN}300"
    return f"p = {number(p_value, 2)}"


def finding_sentence(finding: FindingRow) -> str:
    """What the weights show, in one or two sentences.

    Examples
    --------
    "A merge of a/b (0.6) and c/d (0.4)." or "A fine-tune of a/b."
    """
    kind = KIND_WORDS.get(finding.kind, finding.kind)
    shares = len(finding.parents) > 1
    parents = [
        f"{p.parent} ({number(p.weight, 2)})" if shares else p.parent for p in finding.parents
    ]
    listed = " and ".join([", ".join(parents[:-1]), parents[-1]] if len(parents) > 1 else parents)
    if finding.grade == "abstain":
        says = "No decision."
    elif finding.kind == "adapter":
        says = f"An adapter for {listed}." if listed else "An adapter."
    else:
        says = f"{kind[0].upper()}{kind[1:]}" + (f" of {listed}." if listed else ".")
    note = finding.note.strip()
    if not note or note.rstrip(".") == says.rstrip("."):
        return says
    return f"{says} {note[0].upper()}{note[1:].rstrip('.')}."


def edge_sentence(edge: EdgeRow) -> str:
    """One sentence that says what an edge is and why it stands."""
    kind = KIND_WORDS.get(edge.kind or "", RELATION_WORDS.get(edge.relation, edge.relation))
    share = f", share {number(edge.weight)}" if edge.weight is not None and edge.weight < 1 else ""
    return f"{edge.child} from {edge.parent} ({kind}{share}). " + VERDICT_WORDS[edge.verdict]


def mark_sentence(mark: Mark) -> str:
    """One sentence about a model in the drawing."""
    if mark.ghost:
        return f"{mark.repo_id}: {STATUS_WORDS[mark.status]}"
    parts = [KIND_WORDS.get(mark.kind or "", RELATION_WORDS.get(mark.relation, mark.relation))]
    if mark.n_parents > 1:
        parts.append(plural(mark.n_parents, "parent"))
    if mark.created_at is not None:
        parts.append(date_words(mark.created_at))
    if mark.n_descendants:
        parts.append(plural(mark.n_descendants, "descendant"))
    if mark.status != "ok":
        parts.append(STATUS_WORDS.get(mark.status, mark.status))
    return f"{mark.repo_id}: {', '.join(parts)}"


_STATISTICS = {
    "heritability": (
        "Heritability",
        "How much of a parent's advantage its offspring keep: the slope of a child's value on the "
        "weighted mean of its parents. 1 is all of it, 0 none. In models inheritance is by copying "
        "weights, so a slope near 1 is expected and is no proof of selection.",
    ),
    "selection_differential": (
        "Selection differential",
        "Whether models that are built upon differ from the rest: the mean of the trait weighted "
        "by fitness, minus the plain mean, among models of one month. For a loss, below zero means "
        "that better models are chosen. It describes what happened, not why: fame, licence and "
        "date choose too.",
    ),
    "opportunity_for_selection": (
        "Opportunity for selection",
        "How unequal success is: the variance of relative fitness. It bounds how fast selection "
        "could act; a large value alone does not show that it acts.",
    ),
}
_STATISTICS["heritability_with_copies"] = (
    "Heritability, copies counted",
    "The same slope with duplicates and casts counted as children. Copies resemble their parents "
    "perfectly, so it lies nearer 1: the difference is what copying alone contributes.",
)
_STATISTICS["opportunity_excess"] = (
    "Opportunity beyond chance",
    "The opportunity for selection minus what equal models would show by luck alone (Poisson). "
    "Near zero, the inequality of success is no more than chance.",
)
_STATISTICS["selection_intensity"] = (
    "Selection intensity",
    "The selection differential in standard deviations of the trait, so that traits compare.",
)
_STATISTICS["heritability_within_founders"] = (
    "Heritability within founders",
    "The same slope among models of one founder: what founders differ in (size, architecture, "
    "training) makes parent and child alike without inheritance, and falls out here.",
)
_STATISTICS["heritability_adjusted"] = (
    "Heritability within months, between owners",
    "The same slope among children born in one month, their parents' days held and an owner's own "
    "children left out: neither a trend of the field nor the owner's hand is inheritance.",
)
_STATISTICS["animal_model"] = (
    "Heritability by all relatives",
    "The share of the differences among these models that is handed on, from all relatives at "
    "once (an animal model fitted by restricted maximum likelihood).",
)
_STATISTICS["effective_number"] = (
    "Variation in categories",
    "How many equally common values would be as diverse as what is found: 1 means that all "
    "models have the same.",
)
_STATISTICS["mutation_rate"] = (
    "Change along edges",
    "How much of the values changes from parent to child (one less the overlap of their sets): "
    "0 means that it is always handed on.",
)
_STATISTICS["parent_information"] = (
    "What the parent tells",
    "The share of the doubt about a child's value that knowing its parent's removes. Chance alone "
    "gives more than 0: the method says how much, with parents exchanged within founder, "
    "size and month.",
)
_STATISTICS["fitness_between_values"] = (
    "Fitness between values",
    "How far models of different values differ in success: the variance of the values' mean "
    "relative fitness. Never below zero, and chance alone makes some: the method says how much, "
    "with fitness exchanged among models of one founder, size and month.",
)
_STATISTICS["opportunity"] = _STATISTICS["opportunity_for_selection"]


_NEVER_NEGATIVE = frozenset({"mutation_rate", "parent_information", "fitness_between_values"})


def statistic_words(statistic: str) -> tuple[str, str]:
    """The heading of a statistic and what it means."""
    return _STATISTICS.get(statistic, (statistic.replace("_", " ").capitalize(), ""))


def estimate_sentence(row: EstimateRow) -> str:
    """What one estimate says, and how far it may be trusted."""
    of = row.trait or row.fitness or row.population
    if row.value is None or row.low is None or row.high is None:
        return f"{of}: no estimate. {row.method}"
    clusters = f", {plural(row.n_clusters, 'founder')}" if row.n_clusters is not None else ""
    says = f"{of}: {number(row.value)}, {row.level:.0%} interval {number(row.low)} to "
    says += f"{number(row.high)} ({plural(row.n, 'observation')}{clusters}). "
    if row.statistic in _NEVER_NEGATIVE:
        pass  # zero is the end of the scale: an interval that reaches it tells nothing by itself
    elif row.low <= 0 <= row.high and row.p_value is not None and row.p_value <= 1 - row.level:
        says += (
            "The interval, which allows for other founders, holds zero, yet among these founders "
            "chance alone seldom makes so much."
        )
    elif row.low <= 0 <= row.high:
        says += "The interval holds zero: these data cannot tell it from no effect."
    elif row.statistic.startswith("heritability"):
        says += f"Offspring keep about {number(row.value, 2)} of a difference between parents."
    elif row.statistic == "selection_differential":
        side = "higher" if row.value > 0 else "lower"
        says += f"Models with more {row.fitness or 'offspring'} have {side} values than the mean."
    return says.rstrip()

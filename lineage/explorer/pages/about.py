"""The page About: what this is, what was covered, its limits, how to cite it."""

from __future__ import annotations

from lineage import views
from lineage.explorer.blocks import heading
from lineage.explorer.component import panel
from lineage.explorer.markup import Markup, join, tag
from lineage.explorer.register import Visit
from lineage.explorer.words import bytes_words, plural

__all__ = ["show_about"]

_LIMITS = (
    "A founder is a model without a known parent here. Its parent may never have been crawled.",
    "Claims are what people wrote. A claim that could not be checked is shown as unverified, "
    "not as true.",
    "Some relations leave too little in the weights to tell the parent or the direction. Then "
    "the register abstains, and says so.",
    "Dates are the Hub's; a repository can be younger than the model in it.",
    "Nothing is ever unpickled; PyTorch archives are read without, older pickles have no finding.",
    "Downloads are rolling 30-day counts and include machines.",
)


def show_about(visit: Visit) -> None:
    """Draw the page."""
    covered = views.coverage(visit.cursor)
    meta = views.publication(visit.cursor)
    manifest = visit.manifest
    date = manifest.data_date[:10]
    share = covered.bytes_read / covered.weight_bytes if covered.weight_bytes else 0.0
    facts: list[tuple[str, object]] = [
        ("Data of", date),
        ("Crawled from", meta.get("endpoint", "not recorded")),
        ("Declared parents", "ignored" if _true(meta.get("ignore_claims")) else "used"),
        ("herdbook", manifest.herdbook_version),
        ("Schema version", manifest.schema_version),
        ("Fingerprint", tag("span", manifest.sha256, class_="mono")),
    ]
    coverage: list[tuple[str, object]] = [
        ("Models", f"{covered.n_models:,}, of which {covered.n_readable:,} could be read"),
        ("Weights read", f"{covered.n_fingerprinted:,} models"),
        (
            "Bytes read",
            f"{bytes_words(covered.bytes_read)} of {bytes_words(covered.weight_bytes)} "
            f"({share:.2%}), by ranges",
        ),
        ("Pairs compared", f"{covered.n_pairs:,}"),
        ("Claims", f"{covered.n_claims:,}"),
        (
            "Edges",
            f"{covered.n_edges:,}: {covered.n_confirmed:,} confirmed, {covered.n_undeclared:,} "
            f"undeclared, {covered.n_contradicted:,} contradicted, {covered.n_unverified:,} "
            "unverified",
        ),
        ("Merges", f"{covered.n_merges:,}, with {plural(covered.n_recipes, 'recipe')} recovered"),
        ("Founders", f"{covered.n_founders:,} by their weights"),
        ("Abstained", f"{covered.n_abstained:,}"),
        ("Could not be read", _problems(visit)),
    ]
    cite = (
        f"herdbook {manifest.herdbook_version}, register of {date} (sha256 {manifest.sha256[:12]})."
    )
    panel(
        heading(
            "About this register",
            "herdbook reads the model repositories of a Hub, compares their weights, and keeps a "
            "pedigree: who descends from whom, how that is known, and what follows for models as "
            "a population.",
        ),
        tag(
            "div",
            tag("section", tag("h2", "This publication"), _facts(facts)),
            tag("section", tag("h2", "Coverage"), _facts(coverage)),
            tag("section", tag("h2", "Limits"), tag("ul", *[tag("li", w) for w in _LIMITS])),
            tag(
                "section",
                tag("h2", "How to cite"),
                tag("p", "Name the version and the data, so that others can see what you saw:"),
                tag("blockquote", cite),
                tag("h2", "How sure", class_="later"),
                tag(
                    "p",
                    "Proved: the bits replay exactly. Inferred: by a test with a known rate of "
                    "false alarms. Tie: several parents fit equally well. Declared: only "
                    "somebody's word.",
                ),
            ),
            class_="sections",
        ),
        key="about",
        follow=visit.follow,
    )


def _true(text: str | None) -> bool:
    return (text or "").lower() in {"true", "1", "yes"}


def _problems(visit: Visit) -> str:
    counted = views.problem_counts(visit.cursor)
    if not counted:
        return "nothing"
    return ", ".join(f"{item.n_models:,} {item.name}" for item in counted)


def _facts(facts: list[tuple[str, object]]) -> Markup:
    return tag("dl", join(*[join(tag("dt", key), tag("dd", value)) for key, value in facts]))

"""The page About: what this is, what was covered, its limits, how to cite it."""

from __future__ import annotations

import streamlit as st

from lineage import views
from lineage.explorer.blocks import heading, link
from lineage.explorer.component import panel
from lineage.explorer.manual import chapters, read_chapter
from lineage.explorer.markup import Markup, join, tag
from lineage.explorer.register import Visit, fetched_from
from lineage.explorer.words import bytes_words, plural

__all__ = ["show_about"]

_METHOD = (
    ("Read", "What a Hub says of its models is archived as it came: listings, cards, recipes. "
     "From it come claims: who somebody said a parent was, and in which words."),
    ("Compare", "A few megabytes of each model's weights are fetched by ranges and compared. Tests "
     "with known rates of false alarms tell kin from strangers, then which way the step went."),
    ("Reconcile", "Claim and finding are kept apart and held together: confirmed, undeclared, "
     "contradicted or unverified. A merge is replayed until its recipe gives the child's words."),
    ("Measure", "The graph is treated as a pedigree: what is passed on, what is favoured, and how "
     "much of that chance alone would give. Every figure has an interval, an n and a null."),
)  # fmt: skip
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


_SURE = (
    "Proved: the bits replay exactly. Inferred: by a test with a known rate of false alarms. Tie: "
    "several parents fit equally well. Declared: only somebody's word."
)


def show_about(visit: Visit) -> None:
    """Draw the page."""
    chapter = st.query_params.get("doc", "")
    if chapter in chapters():
        panel(tag("p", link("about", "← About this register")), key="about")
        st.markdown(read_chapter(chapter))
        return
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
    origin = fetched_from(manifest)
    if origin is not None:
        facts.append(("Fetched from", tag("span", origin, class_="mono")))
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
    panel(
        heading(
            "About this register",
            "herdbook reads the model repositories of a Hub, compares their weights, and keeps a "
            "pedigree: who descends from whom, how that is known, and what follows for models as "
            "a population.",
        ),
        tag(
            "div",
            tag("section", tag("h2", "How it is made"), _method()),
            tag("section", tag("h2", "This publication"), _facts(facts)),
            tag("section", tag("h2", "Coverage"), _facts(coverage)),
            tag("section", tag("h2", "Limits"), tag("ul", *[tag("li", w) for w in _LIMITS])),
            tag("section", tag("h2", "How sure"), tag("p", _SURE)),
            class_="sections",
        ),
        key="about",
    )
    _cite(visit, origin)


def _cite(visit: Visit, origin: str | None) -> None:
    manifest = visit.manifest
    panel(
        tag(
            "section",
            tag("h2", "How to cite"),
            tag("p", f"You see herdbook {manifest.herdbook_version}, register of "
                f"{manifest.data_date[:10]}. Name both, so that others can see what you saw.",
                class_="soft"),
            class_="gap",
        ),
        key="about-cite",
    )  # fmt: skip
    st.code(_citation(visit, origin), language=None, wrap_lines=True)
    st.code(_bibtex(visit, origin), language=None, wrap_lines=True)


def _citation(visit: Visit, origin: str | None) -> str:
    """How to cite what was visited, in a sentence."""
    manifest = visit.manifest
    where = f" {origin}" if origin else ""
    return (
        f"herdbook {manifest.herdbook_version}, register of {manifest.data_date[:10]} "
        f"(sha256 {manifest.sha256}).{where}"
    )


def _bibtex(visit: Visit, origin: str | None) -> str:
    """How to cite what was visited, as an entry for BibTeX."""
    manifest = visit.manifest
    date = manifest.data_date[:10]
    where = f"  howpublished = {{\\url{{{origin}}}}},\n" if origin else ""
    return (
        f"@misc{{herdbook-{date},\n"
        "  title = {herdbook: the pedigree register of the world's models},\n"
        f"  year = {{{date[:4]}}},\n{where}"
        f"  note = {{Version {manifest.herdbook_version}, register of {date}, "
        f"sha256 {manifest.sha256}}}\n}}"
    )


def _method() -> Markup:
    steps = [tag("li", tag("b", f"{word}. "), words) for word, words in _METHOD]
    texts = [tag("li", link("about", title, doc=name)) for name, title in chapters().items()]
    read_on = join(tag("h3", "Read on"), tag("ul", *texts)) if texts else None
    return join(tag("ol", *steps), read_on)


def _true(text: str | None) -> bool:
    return (text or "").lower() in {"true", "1", "yes"}


def _problems(visit: Visit) -> str:
    counted = views.problem_counts(visit.cursor)
    if not counted:
        return "nothing"
    return ", ".join(f"{item.n_models:,} {item.name}" for item in counted)


def _facts(facts: list[tuple[str, object]]) -> Markup:
    return tag("dl", join(*[join(tag("dt", key), tag("dd", value)) for key, value in facts]))

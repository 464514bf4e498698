"""Everything known of a model, and all edges, from the published database."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from lineage.errors import NotFoundError
from lineage.explorer.words import p_words
from lineage.model import Edge
from lineage.store import reads
from lineage.store.home import Home
from lineage.store.publish import open_published
from lineage.views import questions
from lineage.views.rows import EdgeRow, FindingRow, ModelDetail

__all__ = ["all_edges", "detail_lines", "require_detail", "show_model"]

_NEAR = 5


def all_edges(home: Home) -> tuple[Edge, ...]:
    """Every edge of the current publication.

    Raises
    ------
    NotFoundError
        If nothing was published.
    """
    connection = open_published(home)
    try:
        return reads.edges(connection)
    finally:
        connection.close()


def show_model(home: Home, model: str) -> ModelDetail:
    """Everything known of `model`.

    Raises
    ------
    NotFoundError
        If nothing was published, or the model is unknown; names similar ones.
    """
    connection = open_published(home)
    try:
        return require_detail(connection, home, model)
    finally:
        connection.close()


def require_detail(connection: duckdb.DuckDBPyConnection, home: Home, model: str) -> ModelDetail:
    """Everything that an open publication of `home` knows of `model`.

    Raises
    ------
    NotFoundError
        If the model is unknown; names similar ones.
    """
    detail = questions.model_detail(connection, model)
    if detail is None:
        near = [card.repo_id for card in questions.near(connection, model, _NEAR)]
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise NotFoundError(f"no model {model} in {home.root}{hint}")
    return detail


def detail_lines(detail: ModelDetail) -> list[str]:
    """A model in words, a fact a line."""
    card = detail.card
    facts = [card.status, card.architecture, card.dtype, card.licence]
    if card.parameters is not None:
        facts.append(f"{card.parameters:,} parameters")
    if card.created_at is not None:
        facts.append(f"created {card.created_at:%Y-%m-%d}")
    lines = [card.repo_id, "  " + " · ".join(fact for fact in facts if fact)]
    lines.append(
        f"  generation {card.generation}, founder {card.founder}, {card.n_children} children,"
        f" {card.n_descendants} descendants"
    )
    lines += _section(
        "declared",
        [
            f"{claim.parent or claim.parent_text} ({claim.relation or 'relation not said'},"
            f" by {claim.source.replace('_', ' ')})"
            for claim in detail.claims
        ],
        "nobody declared a parent",
    )
    lines += _section(
        "found in the weights",
        _finding_lines(detail.finding) if detail.finding else [],
        "the weights were not read",
    )
    if detail.layer_map:
        layers = ", ".join(
            f"{one.child_layer}←{one.parent}:{one.parent_layer}" for one in detail.layer_map
        )
        lines.append(f"  layers: {layers}")
    lines += _section("parents", _edge_lines(detail.parents, up=True), "a founder, or unknown")
    lines += _section("children", _edge_lines(detail.children, up=False), "none known")
    if detail.fingerprint is not None:
        read = detail.fingerprint
        lines += _section(
            "read",
            [
                f"{read.bytes_read / 1e6:.2f} MB of {read.weight_bytes / 1e6:.2f} MB in"
                f" {read.requests} requests, {read.seconds:.1f} s, {read.format or 'unreadable'}"
            ],
        )
    lines += _section("traits", [f"{one.name} = {one.value:.4g}" for one in detail.traits])
    lines += _section(
        "problems",
        [
            f"{one.stage}, {one.path or 'model'}: {one.reason} ({one.code})"
            for one in detail.problems
        ],
    )
    return lines


def _section(title: str, lines: Sequence[str], otherwise: str = "") -> list[str]:
    told = lines or ([otherwise] if otherwise else [])
    return [f"{title}:", *(f"  {line}" for line in told)] if told else []


def _finding_lines(finding: FindingRow) -> list[str]:
    words = [finding.kind.replace("_", " ")]
    if finding.method:
        words.append(f"by {finding.method}")
    if finding.rank is not None:
        words.append(f"rank {finding.rank}")
    words.append(f"({finding.grade})")
    lines = [" ".join(words)]
    for share in finding.parents:
        bounds = (
            ""
            if share.low is None or share.high is None
            else (f" [{share.low:.3f}, {share.high:.3f}]")
        )
        lines.append(f"from {share.parent}, share {share.weight:.3f}{bounds}")
    if finding.base:
        lines.append(f"base {finding.base}")
    if finding.target_modules:
        lines.append(f"changed: {', '.join(finding.target_modules)}")
    if (tokens := finding.vocabulary_map) is not None:
        lines.append(
            f"tokens: {tokens.kept} kept, {tokens.renumbered} numbered anew,"
            f" {tokens.appended} appended, {tokens.dropped} dropped"
        )
    if finding.unseen_ancestor is not None:
        lines.append(f"through {finding.unseen_ancestor}, an ancestor that nobody published")
    if finding.ties:
        lines.append(f"equally good: {', '.join(finding.ties)}")
    if finding.p_value is not None:
        lines.append(f"family test {p_words(finding.p_value)}")
    if finding.probability is not None:
        lines.append(f"probability {finding.probability:.3f} (by the weights alone)")
    if finding.note:
        lines.append(finding.note)
    lines += [f"evidence: {fact.text}" for fact in finding.evidence]
    if finding.recipe_yaml:
        lines += ["recipe that rebuilds it:", *(f"  {x}" for x in finding.recipe_yaml.splitlines())]
    return lines


def _edge_lines(edges: Sequence[EdgeRow], *, up: bool) -> list[str]:
    lines = []
    for edge in edges:
        share = "" if edge.weight is None else f", share {edge.weight:.3f}"
        name = edge.parent if up else edge.child
        belief = "" if edge.probability is None else f", probability {edge.probability:.3f}"
        lines.append(f"{name}: {edge.relation}{share}, {edge.verdict} ({edge.grade}{belief})")
        if up:
            lines += [f"  {fact.text}" for fact in edge.evidence]
    return lines

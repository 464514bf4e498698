"""The marks of a drawing: one for each model that is shown, and for each ghost beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import duckdb

from lineage.store import published_clades
from lineage.views.rows import EdgeRow, Mark, ModelCard

__all__ = ["marks_of"]


def marks_of(
    cursor: duckdb.DuckDBPyConnection,
    shown: Mapping[int, ModelCard],
    edges: tuple[EdgeRow, ...],
    n_absent: Mapping[str, int],
    hits: Collection[int],
) -> tuple[tuple[Mark, ...], tuple[EdgeRow, ...]]:
    """One mark for each model and for each ghost, in drawing order, and the edges among them."""
    first: dict[str, EdgeRow] = {}
    n_parents: Counter[str] = Counter()
    n_children: Counter[str] = Counter()
    for edge in sorted(edges, key=lambda edge: edge.position):
        # Ties are several candidates for one parent; what was contradicted is none.
        if edge.verdict == "contradicted":
            continue
        n_children[edge.parent] += 1
        first.setdefault(edge.child, edge)
        n_parents[edge.child] += edge.grade != "tie"
    led, between = _through_unseen(cursor, edges)
    marks = [
        Mark(
            card.repo_id,
            first[card.repo_id].relation if card.repo_id in first else "founder",
            card.kind,
            card.status,
            card.created_at,
            card.pos,
            n_parents[card.repo_id],
            card.n_descendants,
            max(0, card.n_children - n_children[card.repo_id]),
            verdict=first[card.repo_id].verdict if card.repo_id in first else None,
            licence=card.licence,
            task=card.pipeline_tag,
            architecture=card.architecture,
            library=card.library,
            downloads_30d=card.downloads_30d,
            likes=card.likes,
            parameters=card.parameters,
            n_absent=n_absent.get(card.repo_id, 0),
            primary=between.get((card.repo_id, card.primary_parent), card.primary_parent),
            is_hit=card.pos in hits,
        )
        for card in shown.values()
    ]
    unseen = set(between.values())
    place = {mark.repo_id: mark.pos for mark in marks}
    ghosts = dict.fromkeys(edge.parent for edge in led if edge.parent not in place)
    for ghost in ghosts:
        pos = min(place[edge.child] for edge in led if edge.parent == ghost)
        status = "unseen" if ghost in unseen else "outside"
        marks.append(Mark(ghost, "unknown", None, status, None, pos, 0, 0, 0, ghost=True))
    # A ghost shares the position of its first child and must be drawn above it.
    marks.sort(key=lambda mark: (mark.pos, not mark.ghost, mark.repo_id))
    return tuple(marks), led


def _through_unseen(
    cursor: duckdb.DuckDBPyConnection, edges: Sequence[EdgeRow]
) -> tuple[tuple[EdgeRow, ...], dict[tuple[str, str | None], str]]:
    """The same edges, led through ancestors that nobody published; those by child and parent."""
    children = list(dict.fromkeys(edge.child for edge in edges))
    rows = published_clades.unseen_above(cursor, children)
    between: dict[tuple[str, str | None], str] = {
        (child, parent): unseen for child, unseen, parent in rows
    }
    led: list[EdgeRow] = []
    above: dict[str, EdgeRow] = {}
    for edge in edges:
        unseen = between.get((edge.child, edge.parent))
        if unseen is None:
            led.append(edge)
            continue
        led.append(replace(edge, parent=unseen))
        # Nobody can have declared it.
        link = replace(edge, child=unseen, relation="unknown", kind=None, weight=None, evidence=())
        above.setdefault(unseen, replace(link, position=0, verdict="undeclared"))
    return (*led, *above.values()), between

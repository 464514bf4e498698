"""What a drawing of one model's lineage shows: few models one by one, all others counted.

Ancestors over every parent, the largest descendants, what was looked for and merges are drawn one
by one. Everybody else of the clade is counted below the nearest ancestor that is drawn: by relation
(:class:`Stack`) and, where there are many, by month (:class:`Births`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import duckdb

from lineage.store import published_births, published_clades
from lineage.store.published_clades import CATEGORIES, Bounds
from lineage.views.marks import marks_of
from lineage.views.records import card_of, edges_of
from lineage.views.rows import Births, EdgeRow, ModelCard, Neighbourhood, Stack

__all__ = [
    "CATEGORIES",
    "Bounds",
    "Opened",
    "neighbourhood",
    "segments",
]

_MAX_ANCESTORS = 40
_MAX_HITS = 30
_MAX_MERGES = 12
_MAX_FURTHER = 12
_MAX_GHOSTS, _GHOSTS_OF_ONE = 40, 4
_MAX_EDGES = 3000
_DAYS_UNTIL, _WEEKS_UNTIL = timedelta(days=70), timedelta(days=400)
_RIBBON_LEAST = 30
"""Fewer than this many models are a stack without a ribbon."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A stack of which `n` models are drawn one by one."""

    owner: str
    relation: str
    n: int


def neighbourhood(
    cursor: duckdb.DuckDBPyConnection,
    repo_id: str,
    *,
    ancestors: int = 8,
    descendants: int = 3,
    whole_family: bool = False,
    max_marks: int = 400,
    bounds: Bounds | None = None,
    find: str = "",
    opened: Opened | None = None,
    category: str = "relation",
) -> Neighbourhood | None:
    """The models around one, for a drawing: None when the register does not know it.

    Parameters
    ----------
    cursor
        Of a published database.
    repo_id
        The model in focus.
    ancestors, descendants
        Generations above (over every parent, at most 40 models) and below the focus (along first
        parents). Deeper descendants are counted.
    whole_family
        Take the clade of the founder instead of that of the focus, to any depth.
    max_marks
        How many models are drawn one by one before the others are counted. The focus, its
        ancestors, the models of `find` and `opened`, merges and their other parents are kept
        beside, within bounds of their own.
    bounds
        Which descendants are wanted; the others are neither drawn nor counted, unless something
        that is drawn descends from them.
    find
        Models of the clade whose names contain this are kept and marked.
    opened
        A stack to be drawn one by one.
    category
        What the births are counted by, a key of :data:`CATEGORIES`.
    """
    rows = published_clades.models_named(cursor, [repo_id])
    if not rows:
        return None
    focus = card_of(rows[0])
    above = _ancestors(cursor, focus.pos, ancestors)
    root = focus
    if whole_family and focus.founder != repo_id:
        root = card_of(published_clades.models_named(cursor, [focus.founder])[0])
    bounds = bounds or Bounds()
    choice = _Choice(bounds, None if whole_family else descendants, find.strip(), opened)
    room = max(0, max_marks - len(above) - 1)
    members, hits = _members(cursor, root, focus, choice, room)
    further = published_clades.further_children(cursor, focus.pos, min(room, _MAX_FURTHER))
    places = {*members, *above, *further, root.pos, focus.pos}
    shown = {card.pos: card for card in map(card_of, published_clades.models_at(cursor, [*places]))}
    edges, n_absent = _edges(cursor, repo_id, shown, max_marks // 4)
    marks, edges = marks_of(cursor, shown, edges, n_absent, hits)
    step = _step(published_births.dates_of(cursor, root.pos, root.pos + root.size))
    stacks, births = _counted(cursor, root, shown, bounds, category, step)
    n_inside = sum(root.pos <= one.pos < root.pos + root.size for one in shown.values())
    n_left_out = root.size - n_inside
    n_filtered = n_left_out - sum(stack.n for stack in stacks)
    return Neighbourhood(repo_id, marks, edges, n_left_out, n_filtered, stacks, births, step)


@dataclass(frozen=True, slots=True)
class _Choice:
    bounds: Bounds
    depth: int | None
    find: str
    opened: Opened | None


def _ancestors(cursor: duckdb.DuckDBPyConnection, pos: int, depth: int) -> list[int]:
    """Positions of the ancestors over every parent, the nearest first."""
    found: dict[int, None] = {pos: None}
    level = [pos]
    for _ in range(depth):
        parents = published_clades.parents_at(cursor, level)
        level = [at for at in dict.fromkeys(parents) if at not in found]
        level = level[: _MAX_ANCESTORS + 1 - len(found)]
        if not level:
            break
        found.update(dict.fromkeys(level))
    return list(found)[1:]


def _members(
    cursor: duckdb.DuckDBPyConnection,
    root: ModelCard,
    focus: ModelCard,
    choice: _Choice,
    room: int,
) -> tuple[set[int], set[int]]:
    """Positions below the root to be drawn one by one, and those of them that were looked for.

    Whoever is drawn is drawn with everybody between the root and itself.
    """
    start, stop = root.pos + 1, root.pos + root.size
    hits: set[int] = set()
    if choice.find:
        hits.update(published_clades.matches(cursor, root.pos, stop, choice.find, _MAX_HITS))
    if start >= stop:
        return set(), hits
    kept = (hits | {focus.pos}) - {root.pos}
    n_merges = min(_MAX_MERGES, room // 3)
    kept.update(published_clades.merges(cursor, start, stop, choice.bounds, n_merges))
    if choice.opened is not None:
        kept |= _opened(cursor, root, choice.bounds, choice.opened)
    # Some of the largest may lie too deep. Without bounds they come with all of their ancestors.
    wanted = published_clades.largest(cursor, start, stop, choice.bounds, 4 * room)
    loose = sorted(kept if choice.bounds == Bounds() else kept.union(wanted))
    closed = {*loose, *wanted, *published_clades.chains(cursor, start, stop, loose)}
    parent = _nesting(published_clades.sizes_at(cursor, sorted(closed)))
    depth: dict[int, int] = {}
    for pos, above in parent.items():
        depth[pos] = 1 if above is None else depth[above] + 1
    chosen = [pos for pos in wanted if choice.depth is None or depth[pos] <= choice.depth]
    drawn: set[int] = set()
    for pos in (*kept, *chosen[:room]):
        step: int | None = pos
        while step is not None and step not in drawn:
            drawn.add(step)
            step = parent[step]
    return drawn, hits


def _nesting(sizes: Sequence[tuple[int, int]]) -> dict[int, int | None]:
    """The nearest ancestor of each position among all; given position and size, in order."""
    parent: dict[int, int | None] = {}
    open_: list[tuple[int, int]] = []
    for pos, size in sizes:
        while open_ and open_[-1][1] <= pos:
            open_.pop()
        parent[pos] = open_[-1][0] if open_ else None
        open_.append((pos, pos + size))
    return parent


def _opened(
    cursor: duckdb.DuckDBPyConnection, root: ModelCard, bounds: Bounds, opened: Opened
) -> set[int]:
    rows = published_clades.models_named(cursor, [opened.owner])
    owner = card_of(rows[0]) if rows else root
    first, stop = owner.pos + 1, owner.pos + owner.size
    if not rows or not root.pos < first < stop <= root.pos + root.size:
        return set()
    bounds = replace(bounds, relations=(opened.relation,))
    return set(published_clades.largest(cursor, first, stop, bounds, opened.n))


def _edges(
    cursor: duckdb.DuckDBPyConnection, focus: str, shown: dict[int, ModelCard], room: int
) -> tuple[tuple[EdgeRow, ...], Counter[str]]:
    """The edges to draw, and how many parents of each model are in the register but not drawn.

    At most `room` other parents of merges are added to `shown`.
    """
    rows = published_clades.edges_at(cursor, [*shown])[:_MAX_EDGES]
    n_edges = Counter(row[0] for row in rows)
    absent = dict.fromkeys(
        row[-1] for row in rows
        if row[-1] is not None and row[-1] not in shown and n_edges[row[0]] > 1
    )  # fmt: skip
    added = [*absent][:room]
    shown.update((c.pos, c) for c in map(card_of, published_clades.models_at(cursor, added)))
    above = published_clades.edges_at(cursor, added)
    rows += [row for row in above if row[-1] in shown]
    # A merge may name dozens of parents that nobody has: the first few stand for all.
    n_ghosts: Counter[str] = Counter()
    ghosts: set[str] = set()
    for row in rows:
        most = _MAX_GHOSTS if row[0] == focus else _GHOSTS_OF_ONE
        if row[-1] is None and n_ghosts[row[0]] < most and len(ghosts) < _MAX_GHOSTS:
            n_ghosts[row[0]] += 1
            ghosts.add(row[1])
    drawn = [row for row in rows if row[-1] in shown or row[1] in ghosts]
    n_absent = Counter(row[0] for row in rows) - Counter(row[0] for row in drawn)
    return edges_of(row[:-1] for row in drawn), n_absent


def _step(dates: Sequence[datetime | None]) -> str:
    """How long the spans are that births are counted in: some tens of them."""
    first, last = dates
    if first is None or last is None or last - first > _WEEKS_UNTIL:
        return "month"
    return "week" if last - first > _DAYS_UNTIL else "day"


def segments(start: int, shown: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Where along ``pos`` the nearest ancestor that is drawn changes.

    Parameters
    ----------
    start
        Where the clade begins.
    shown
        Position and size of everybody that is drawn, in order of position, properly nested; the
        first is the root of the clade.

    Returns
    -------
    list of tuple
        ``(position, place in shown)``: from that position on, whoever is not drawn belongs to that
        one; -1 where somebody that is drawn stands itself.

    Examples
    --------
    >>> segments(0, [(0, 5), (2, 2)])
    [(0, -1), (1, 0), (2, -1), (3, 1), (4, 0)]
    """
    cuts: dict[int, int] = {start: -1}
    open_: list[tuple[int, int]] = []  # end of the clade and place, outermost first

    def close(until: int) -> None:
        while open_ and open_[-1][0] <= until:
            end, _ = open_.pop()
            if open_:
                cuts[end] = open_[-1][1]

    for place, (pos, size) in enumerate(shown):
        close(pos)
        cuts[pos] = -1
        cuts[pos + 1] = place
        open_.append((pos + size, place))
    close(start + shown[0][1] if shown else start)
    return sorted(cuts.items())


def _counted(
    cursor: duckdb.DuckDBPyConnection,
    root: ModelCard,
    shown: Mapping[int, ModelCard],
    bounds: Bounds,
    category: str,
    step: str,
) -> tuple[tuple[Stack, ...], tuple[Births, ...]]:
    """Those of a clade that are not drawn, below the nearest ancestor that is."""
    stop = root.pos + root.size
    inside = sorted(
        (card for card in shown.values() if root.pos <= card.pos < stop), key=lambda card: card.pos
    )
    if len(inside) == root.size:
        return (), ()
    cuts = segments(root.pos, [(card.pos, card.size) for card in inside])
    rows = published_births.births(cursor, root.pos, stop, cuts, bounds, category, step)
    totals = [(row[0], row[2] or "unknown", row[5]) for row in rows if row[1]]
    n_below: Counter[int] = Counter()
    for owner, _, n in totals:
        n_below[owner] += n
    stacks = [Stack(inside[o].repo_id, relation, n) for o, relation, n in sorted(totals)]
    births = [
        Births(inside[owner].repo_id, born, category, n)
        for owner, is_total, _, born, category, n in rows
        if not is_total and born is not None and n_below[owner] >= _RIBBON_LEAST
    ]
    return tuple(stacks), tuple(births)

"""Few models one by one, all others counted: against a walk from each model to its founder."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage import views
from lineage.store import published_clades
from lineage.store.schema import PUBLISHED
from lineage.views import clades, surroundings
from lineage.views.clades import Bounds, Opened

START = datetime(2024, 1, 1, 13, tzinfo=UTC)
RELATIONS = ("finetune", "adapter", "quantized", "merge")


def forest(n, seed, founders=2):
    """Parents of `n` models by place in preorder, the founders without one."""
    chance = random.Random(seed)
    parent = [None if i < founders else chance.randrange(i) for i in range(n)]
    below = {i: [j for j in range(n) if parent[j] == i] for i in range(n)}
    order = []

    def visit(i):
        order.append(i)
        for j in below[i]:
            visit(j)

    for root in range(founders):
        visit(root)
    place = {i: pos for pos, i in enumerate(order)}
    return [None if parent[i] is None else place[parent[i]] for i in order]


def descends(parent, pos):
    while pos is not None:
        yield pos
        pos = parent[pos]


class Register:
    """A random register in memory; `parent`, `relation`, … by drawing position."""

    def __init__(self, n, seed, days=900):
        chance = random.Random(seed)
        self.parent = forest(n, seed)
        self.names = [f"o{pos % 7}/model-{pos}" for pos in range(n)]
        self.size = [sum(pos in descends(self.parent, x) for x in range(n)) for pos in range(n)]
        self.relation = [chance.choice(RELATIONS) for _ in range(n)]
        self.verdict = [chance.choice(("confirmed", "unverified")) for _ in range(n)]
        self.day = [None if chance.random() < 0.1 else chance.randrange(days) for _ in range(n)]
        # Born on the very days that the bounds of the tests begin and end with.
        if days > 609:
            self.day[5], self.day[6] = 60, 609
        self.downloads = [chance.choice((None, 0, 5, 500)) for _ in range(n)]
        self.licence = [chance.choice((None, "mit", "apache-2.0")) for _ in range(n)]
        self.second = [
            chance.randrange(n) if self.relation[pos] == "merge" and self.parent[pos] is not None
            else None for pos in range(n)
        ]  # fmt: skip
        self.second = [
            other if other is not None and other < pos and other != self.parent[pos] else None
            for pos, other in enumerate(self.second)
        ]
        self.cursor = duckdb.connect()
        self.cursor.execute("SET TimeZone = 'UTC'")
        for table in PUBLISHED:
            self.cursor.execute(table.ddl())
        for pos in range(n):
            self._insert(pos)

    def born(self, pos):
        return None if self.day[pos] is None else START + timedelta(days=self.day[pos])

    def _insert(self, pos):
        n_children = self.parent.count(pos) + self.second.count(pos)
        self.cursor.execute(
            "INSERT INTO model (repo_id, observed_at, status, created_at, licence, downloads_30d,"
            " primary_parent, founder, generation, n_parents, n_children, n_descendants, pos, size,"
            " n_claims, n_problems) VALUES (?, ?, 'ok', ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, 0, 0)",
            [
                self.names[pos], START, self.born(pos), self.licence[pos], self.downloads[pos],
                self._name(self.parent[pos]), self.names[[*descends(self.parent, pos)][-1]],
                (self.parent[pos] is not None) + (self.second[pos] is not None), n_children,
                self.size[pos] - 1, pos, self.size[pos],
            ],
        )  # fmt: skip
        for position, parent in enumerate((self.parent[pos], self.second[pos])):
            if parent is not None:
                self.cursor.execute(
                    "INSERT INTO edge VALUES (?, ?, ?, ?, NULL, NULL, ?, 'declared', NULL, NULL,"
                    " '[]', ?, ?)",
                    [self.names[pos], self.names[parent], position, self.relation[pos],
                     self.verdict[pos], pos, parent],
                )  # fmt: skip

    def _name(self, pos):
        return None if pos is None else self.names[pos]

    def wanted(self, pos, bounds):
        day = None if self.born(pos) is None else self.born(pos).date()
        return (
            (not bounds.relations or self.relation[pos] in bounds.relations)
            and (not bounds.verdicts or self.verdict[pos] in bounds.verdicts)
            and (bounds.since is None or (day is not None and day >= bounds.since))
            and (bounds.until is None or (day is not None and day <= bounds.until))
            and (self.downloads[pos] or 0) >= bounds.min_downloads
            and self.size[pos] - 1 >= bounds.min_descendants
        )


@pytest.fixture(scope="module")
def register():
    return Register(240, seed=4)


BOUNDS = (
    Bounds(),
    Bounds(relations=("merge", "adapter")),
    Bounds(verdicts=("confirmed",), min_downloads=5),
    Bounds(since=date(2024, 3, 1), until=date(2025, 9, 1)),
    Bounds(min_descendants=2),
)


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("most", [1, 8, 40])
def test_everybody_is_drawn_once_counted_once_or_outside_the_bounds(register, bounds, most):
    around = views.neighbourhood(
        register.cursor, register.names[0], max_marks=most, bounds=bounds, category="licence"
    )
    drawn = {mark.pos for mark in around.marks if not mark.ghost}
    inside = range(register.size[0])
    stacks, births = Counter(), Counter()
    for pos in inside:
        if pos in drawn or not register.wanted(pos, bounds):
            continue
        owner = next(above for above in descends(register.parent, pos) if above in drawn)
        stacks[register.names[owner], register.relation[pos]] += 1
        if register.born(pos) is not None:
            first = register.born(pos).date().replace(day=1)
            births[register.names[owner], first, register.licence[pos]] += 1
    assert {(s.owner, s.relation): s.n for s in around.stacks} == stacks
    large = {
        owner for owner, _ in stacks if sum(n for (o, _), n in stacks.items() if o == owner) >= 30
    }
    assert around.step == "month"
    assert {(b.owner, b.start, b.category): b.n for b in around.births} == {
        key: n for key, n in births.items() if key[0] in large
    }
    n_left_out = len(set(inside) - drawn)
    assert around.n_left_out == n_left_out
    assert around.n_filtered == n_left_out - sum(stacks.values())


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("depth", [1, 2, 20])
def test_whoever_is_drawn_is_drawn_with_the_line_to_the_root(register, bounds, depth):
    around = views.neighbourhood(
        register.cursor, register.names[0], max_marks=30, descendants=depth, bounds=bounds
    )
    drawn = {mark.pos for mark in around.marks}
    edges = {(edge.child, edge.parent) for edge in around.edges}
    for pos in drawn & set(range(1, register.size[0])):
        assert register.parent[pos] in drawn
        assert (register.names[pos], register.names[register.parent[pos]]) in edges


def test_the_largest_descendants_are_drawn_and_none_too_deep(register):
    around = views.neighbourhood(register.cursor, register.names[0], max_marks=30, descendants=2)
    depth = {p: len([*descends(register.parent, p)]) - 1 for p in range(register.size[0])}
    singles = {m.pos for m in around.marks if m.n_parents < 2 and m.pos < register.size[0]} - {0}
    leaves = [pos for pos in singles if register.size[pos] == 1]
    kept_for_merges = {p for m in around.marks if m.n_parents > 1
                       for p in descends(register.parent, m.pos)}  # fmt: skip
    assert all(depth[pos] <= 2 for pos in leaves if pos not in kept_for_merges)
    largest = sorted(
        (pos for pos in range(1, register.size[0]) if depth[pos] <= 2),
        key=lambda pos: (-register.size[pos], -(register.downloads[pos] or 0), pos),
    )
    assert set(largest[:20]) <= {mark.pos for mark in around.marks}


def test_what_was_looked_for_is_kept_however_deep_and_marked(register):
    deepest = max(
        range(register.size[0]), key=lambda pos: len([*descends(register.parent, pos)])
    )  # fmt: skip
    name = register.names[deepest]
    around = views.neighbourhood(
        register.cursor, register.names[0], max_marks=4, descendants=1, find=name.upper()
    )
    hits = {mark.repo_id for mark in around.marks if mark.is_hit}
    assert name in hits
    assert all(name.lower() in hit for hit in hits)
    assert not any(m.is_hit for m in views.neighbourhood(register.cursor, name, find="'; --").marks)


def test_an_opened_stack_draws_its_largest_models(register):
    name = register.names[0]
    closed = views.neighbourhood(register.cursor, name, max_marks=5)
    stack = max((s for s in closed.stacks if s.owner == name), key=lambda s: s.n)
    opened = views.neighbourhood(
        register.cursor, name, max_marks=5, opened=Opened(name, stack.relation, 12)
    )
    of_relation = [p for p in range(1, register.size[0]) if register.relation[p] == stack.relation]
    of_relation.sort(key=lambda p: (-register.size[p], -(register.downloads[p] or 0), p))
    assert set(of_relation[:12]) <= {mark.pos for mark in opened.marks}
    assert set(of_relation[:12]) - {mark.pos for mark in closed.marks}
    for owner in ("no/such", register.names[-1]):
        same = views.neighbourhood(
            register.cursor, name, max_marks=5, opened=Opened(owner, "merge", 12)
        )
        assert len(same.marks) == len(closed.marks)


def test_the_whole_family_keeps_the_focus(register):
    focus = register.names[register.size[0] - 1]
    around = views.neighbourhood(register.cursor, focus, whole_family=True, max_marks=6)
    names = {mark.repo_id for mark in around.marks}
    assert {focus, register.names[0]} <= names
    counted = sum(stack.n for stack in around.stacks)
    assert counted + around.n_filtered == around.n_left_out > 0


def test_parents_that_are_not_drawn_are_counted():
    register = Register(60, seed=9)
    merge = next(p for p, other in enumerate(register.second) if other is not None)
    around = views.neighbourhood(register.cursor, register.names[merge], ancestors=0, max_marks=1)
    (mark,) = [m for m in around.marks if m.pos == merge]
    assert mark.n_parents + mark.n_absent == 2


def test_births_are_counted_by_day_in_a_young_clade_and_by_week_in_a_younger_one():
    for days, step in ((60, "day"), (300, "week"), (900, "month")):
        register = Register(120, seed=3, days=days)
        around = views.neighbourhood(register.cursor, register.names[0], max_marks=1)
        assert around.step == step
        assert {"day": True, "week": all(b.start.weekday() == 0 for b in around.births),
                "month": all(b.start.day == 1 for b in around.births)}[step]  # fmt: skip


@given(st.integers(1, 40), st.integers(0, 10**6), st.data())
def test_segments_name_the_nearest_drawn_ancestor_of_every_place(n, seed, data):
    parent = forest(n, seed, founders=1)
    size = [sum(pos in descends(parent, x) for x in range(n)) for pos in range(n)]
    drawn = sorted({0, *data.draw(st.sets(st.integers(0, n - 1)))})
    cuts = dict(clades.segments(0, [(pos, size[pos]) for pos in drawn]))
    owner = -1
    for pos in range(n):
        owner = cuts.get(pos, owner)
        if pos in drawn:
            assert owner == -1
        else:
            assert drawn[owner] == next(a for a in descends(parent, pos) if a in drawn)


def test_chains_are_the_ancestors_inside_the_interval_and_nobody_else(register):
    n = register.size[0]
    places = [n // 4, n // 2, n - 1]
    wanted = {above for pos in places for above in descends(register.parent, pos)} - {*places, 0}
    found = published_clades.chains(register.cursor, 1, n, places)
    assert set(found) - set(places) == wanted
    assert len(found) == len(set(found))


def test_the_line_leads_from_the_founder_along_first_parents(register):
    for pos in (0, 17, 200):
        card = views.model_card(register.cursor, register.names[pos])
        line = [register.names[p] for p in descends(register.parent, pos)][::-1]
        assert list(surroundings.line(register.cursor, card)) == line


def test_the_density_holds_every_dated_member_once(register):
    grid = surroundings.density(register.cursor, register.names[0], 6, 10)
    dated = [p for p in range(register.size[0]) if register.day[p] is not None]
    assert sum(n for _, _, n in grid.cells) == len(dated)
    assert all(0 <= row < 6 and 0 <= column < 10 for row, column, _ in grid.cells)
    by_row = Counter(pos * 6 // register.size[0] for pos in dated)
    assert by_row == {row: sum(n for r, _, n in grid.cells if r == row) for row in by_row}
    assert grid.first == min(register.born(p) for p in dated)
    assert surroundings.density(register.cursor, "no/such", 6, 10) is None


def test_of_several_counts_on_one_day_the_last_is_told(register):
    name = register.names[3]
    for hour, n in ((1, 10), (9, 12), (30, 7)):
        register.cursor.execute(
            "INSERT INTO observation VALUES (?, ?, ?, NULL, 1, NULL, 'hub')",
            [name, START + timedelta(hours=hour), n],
        )
    told = surroundings.history(register.cursor, name)
    assert [one.downloads_30d for one in told] == [12, 7]
    assert told[0].when == START + timedelta(hours=9)


def test_traits_come_by_frequency_and_as_means_of_finite_values(register):
    for pos, trait, value in ((0, "b", 1.0), (0, "b", 2.0), (1, "b", float("nan")), (1, "a", 5.0)):
        register.cursor.execute(
            "INSERT INTO trait VALUES (?, ?, ?, 'm', 'd', NULL, 'card', 'r', ?)",
            [register.names[pos], trait, value, START],
        )
    assert surroundings.trait_names(register.cursor) == ("b", "a")
    values = surroundings.trait_values(register.cursor, "b", register.names[:3])
    assert values == {register.names[0]: 1.5}

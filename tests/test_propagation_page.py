"""The page Propagation: its figures against plain loops, and its states in the test driver."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import duckdb
import numpy as np
import pytest
from scipy.stats import poisson

from lineage.evolution.selection.fitness import children_within
from lineage.evolution.time.birth_rates import birth_rates
from lineage.evolution.time.person_time import person_time
from lineage.evolution.time.reproduction import cohort_reproduction, instantaneous_reproduction
from lineage.explorer.charts import Chart, dressed, show_chart, table_csv
from lineage.explorer.vega import bands, bars, whiskers
from lineage.views import propagation, ranking
from lineage.views.reproduction import month_words, reproduction
from populations import EPOCH_DAY, People, altered, random_people, register_of
from synthetic import HOSTILE, make_publication
from test_explorer import asked, markup, open_page

UNTIL = EPOCH_DAY + 240.0


@pytest.fixture(scope="module", params=[1, 2])
def people(request):
    return random_people(np.random.default_rng(request.param), 160)


@pytest.fixture(scope="module")
def cursor(people):
    with register_of(people) as connection:
        yield connection


def born(people: People) -> np.ndarray:
    return np.array([math.nan if day is None else day for day in people.born])


def everybody(cursor):
    return propagation.scope_of(cursor)


# -- figures --------------------------------------------------------------------------------------


def test_reproduction_of_each_month_is_that_of_the_whole_pedigree(people, cursor):
    now, _ = reproduction(cursor, everybody(cursor), UNTIL, 60)
    known = instantaneous_reproduction(people.graph, born(people), UNTIL, window_days=60)
    assert [one.month for one in now] == [month_words(m) for m in known.month]
    for mine, theirs in zip(now, known.estimates, strict=True):
        assert mine.estimate.n == theirs.n
        for side in ("value", "low", "high"):
            assert getattr(mine.estimate, side) == pytest.approx(getattr(theirs, side), nan_ok=True)


def test_cohorts_that_were_watched_are_those_of_the_whole_pedigree(people, cursor):
    _, cohorts = reproduction(cursor, everybody(cursor), UNTIL, 30)
    graph, days = people.graph, born(people)
    fitness = children_within(graph, days, UNTIL, 30.0)
    known = cohort_reproduction(fitness, days, graph.founder)
    theirs = dict(zip(map(month_words, known.month), known.estimates, strict=True))
    assert sum(not math.isnan(one.estimate.value) for one in cohorts) >= 5
    assert {month for month, one in theirs.items() if one.n} == {one.month for one in cohorts}
    for one in cohorts:
        for side in ("value", "low", "high", "n", "n_clusters"):
            mine = getattr(one.estimate, side)
            assert mine == pytest.approx(getattr(theirs[one.month], side), nan_ok=True)


def test_birth_rates_by_licence_are_those_of_the_whole_pedigree(people, cursor):
    since = UNTIL - 120
    found = propagation.rate_ratios(cursor, everybody(cursor), "licence", since, UNTIL)
    graph, days = people.graph, born(people)
    child, parent = graph.edge_child, graph.parent_index
    dated = np.isfinite(days[child] - days[parent])
    cuts = (7.0, 30.0, 90.0, 180.0, 365.0)
    time = person_time(
        days, np.full(days.size, UNTIL), parent[dated], days[child[dated]], age_cuts=cuts,
        entry_day=np.full(days.size, since),
    )  # fmt: skip
    code = np.array([-1 if one is None else "abc".index(one) for one in people.licence])
    known = birth_rates(time, graph.founder, {"label": code}, by_month=False)
    mine = {"label=" + str("abc".index(name)): one for name, one in found.ratios}
    assert set(mine) == {term for term in known.ratios if term.startswith("label=")}
    for term, one in mine.items():
        for side in ("value", "low", "high", "n_clusters"):
            assert getattr(one, side) == pytest.approx(getattr(known.ratios[term], side), rel=1e-6)


def test_children_and_descendants_of_a_window_are_counted_once_each(people, cursor):
    since, graph, days = UNTIL - 90, people.graph, born(people)
    new = {i for i, day in enumerate(days.tolist()) if since <= day < UNTIL}
    children = ranking.ranking(
        cursor, everybody(cursor), "births", since, UNTIL, order="count", limit=500
    )
    expected = {}
    for child, parent, _, _ in people.edges:
        if child in new and days[parent] <= days[child]:
            expected[people.ids[parent]] = expected.get(people.ids[parent], 0) + 1
    assert {one.repo_id: one.gained for one in children.rows} == expected
    descendants = ranking.ranking(
        cursor, everybody(cursor), "descendants", since, UNTIL, order="count", limit=500
    )
    below: dict[str, int] = {}
    for i in new:
        above = int(graph.primary[i])
        while above >= 0:
            if not math.isnan(days[above]):
                below[people.ids[above]] = below.get(people.ids[above], 0) + 1
            above = int(graph.primary[above])
    assert {one.repo_id: one.gained for one in descendants.rows} == below


def test_the_expected_count_is_that_of_models_of_the_same_age(people, cursor):
    since, days = UNTIL - 90, born(people)
    found = ranking.ranking(cursor, everybody(cursor), "births", since, UNTIL, limit=500)
    counts = np.zeros(days.size)
    for child, parent, _, _ in people.edges:
        counts[parent] += bool(since <= days[child] < UNTIL and days[parent] <= days[child])
    watched = UNTIL - np.maximum(days, since)
    band = np.digitize(UNTIL - days, ranking.AGE_CUTS)
    for one in found.rows:
        i = people.ids.index(one.repo_id)
        peers = np.flatnonzero((band == band[i]) & np.isfinite(days))
        rate = counts[peers].sum() / watched[peers].sum()
        assert one.expected == pytest.approx(rate * watched[i])
        assert one.share_below == pytest.approx(
            np.mean(counts[peers] / watched[peers] < counts[i] / watched[i])
        )
        assert one.n_peers == peers.size
        low, high = one.excess.low + one.expected, one.excess.high + one.expected
        assert poisson.sf(counts[i] - 1, low) == pytest.approx(0.025)
        assert poisson.cdf(counts[i], high) == pytest.approx(0.025)
    values = [one.excess.value for one in found.rows]
    assert values == sorted(values, reverse=True)


def test_a_clade_is_its_head_and_all_below_it(people, cursor):
    graph = people.graph
    head = people.ids[int(np.argmax(graph.size))]
    scope = propagation.scope_of(cursor, head)
    inside = set(graph.clade(head))
    found = ranking.ranking(cursor, scope, "births", UNTIL - 240, UNTIL, limit=500)
    assert found.rows
    assert {one.repo_id for one in found.rows} <= inside
    months = propagation.births_by_month(cursor, scope, UNTIL)
    assert sum(one.n for one in months) == sum(
        not math.isnan(day) for name, day in zip(people.ids, born(people), strict=True)
        if name in inside
    )  # fmt: skip
    assert propagation.scope_of(cursor, "no/body") is None


def test_a_ranking_of_one_relation_keeps_its_figures(people, cursor):
    graph = people.graph
    first = {child: relation for child, _, _, relation in reversed(people.edges)}
    bound = (cursor, everybody(cursor), "births", UNTIL - 90, UNTIL)
    every = {one.repo_id: one for one in ranking.ranking(*bound, limit=500).rows}
    for relation in ("finetune", "merge", "founder"):
        found = ranking.ranking(*bound, relation=relation, limit=500)
        own = {name for i, name in enumerate(graph.ids) if first.get(i, "founder") == relation}
        assert {one.repo_id for one in found.rows} == own & set(every)
        assert all(every[one.repo_id] == one for one in found.rows)


def test_growth_compares_two_windows_of_equal_length(people, cursor):
    days, found = born(people), propagation.growth(cursor, everybody(cursor), UNTIL - 60, UNTIL)
    later = np.sum((days >= UNTIL - 60) & (days < UNTIL))
    earlier = np.sum((days >= UNTIL - 120) & (days < UNTIL - 60))
    assert found.value == pytest.approx(later / earlier)
    assert found.n == later + earlier
    assert found.low <= found.value <= found.high


def observed(rows) -> duckdb.DuckDBPyConnection:
    people = random_people(np.random.default_rng(3), 4)
    people.born = [EPOCH_DAY + float(k) for k in range(4)]
    people.observations = rows
    return register_of(people)


def test_likes_gained_are_differences_of_two_looks_a_week_apart():
    day = UNTIL - 20
    looks = [(0, day, 10, 100, 9), (0, day + 10, 25, 300, 9), (1, day, 3, 5, 1),
             (1, day + 3, 9, 9, 1), (2, day, 8, None, 1), (2, day + 10, 2, None, 1)]  # fmt: skip
    cursor = observed(looks)
    found = ranking.ranking(cursor, everybody(cursor), "likes", UNTIL - 30, UNTIL)
    # One model only was seen a week apart and did not lose likes.
    assert [(one.gained, one.days) for one in found.rows] == [(15.0, 10.0)]
    assert (found.basis, found.n_models) == ("window", 1)
    downloads = ranking.ranking(cursor, everybody(cursor), "downloads", UNTIL - 30, UNTIL)
    assert [one.gained for one in downloads.rows] == [200.0]
    assert math.isnan(downloads.rows[0].excess.low)
    assert "bursts" in downloads.rows[0].excess.method


def test_one_look_gives_no_gain_but_a_rate_of_life_and_says_so():
    cursor = observed([(0, UNTIL - 5, 10, 100, 60), (1, UNTIL - 5, 4, 7, 30)])
    found = ranking.ranking(cursor, everybody(cursor), "likes", UNTIL - 30, UNTIL)
    assert found.basis == "life"
    assert "observed twice" in found.reason
    first = found.rows[0]
    assert first.gained == 10
    assert first.days == pytest.approx(UNTIL - 5 - EPOCH_DAY)
    rolling = ranking.ranking(cursor, everybody(cursor), "downloads", UNTIL - 30, UNTIL)
    assert rolling.basis == "rolling"
    assert [one.per_day for one in rolling.rows] == [2.0, 1.0]


def test_the_fastest_are_ordered_by_the_lower_end_of_their_rate():
    people = random_people(np.random.default_rng(3), 30)
    people.born = [EPOCH_DAY + 0.5] * 10 + [UNTIL - 0.2] + [UNTIL - 1.0] * 18 + [UNTIL - 0.01]
    people.edges = [(i, 0, 1.0, "finetune") for i in range(11, 30)]
    people.edges.append((29, 10, 1.0, "merge"))
    cursor = register_of(people)
    found = ranking.ranking(cursor, everybody(cursor), "births", UNTIL - 30, UNTIL, order="rate")
    # One child in five hours is a higher rate than nineteen in a month, and less sure.
    assert [one.gained for one in found.rows] == [19.0, 1.0]
    low = [(one.excess.low + one.expected) / one.days for one in found.rows]
    assert low == sorted(low, reverse=True)


def test_a_ranking_that_does_not_exist_is_refused(cursor):
    with pytest.raises(ValueError, match="no such ranking"):
        ranking.ranking(cursor, everybody(cursor), "fame", 0, UNTIL)


def test_windows_end_with_the_last_birth_where_the_data_are_much_younger(cursor):
    late = propagation.moment(cursor, "2026-01-01T00:00:00Z")
    assert late.until == math.floor(late.last_birth) + 1
    day = datetime(2024, 3, 1, tzinfo=UTC)
    then = propagation.moment(cursor, "2026-01-01T00:00:00Z", day)
    assert then.until == day.timestamp() / 86_400 + 1
    assert then.last_birth < then.until
    soon = propagation.moment(cursor, "2024-09-01T10:00:00Z")
    assert soon.until == soon.data_day == math.floor(soon.data_day)


def test_families_that_gain_share_come_first(people, cursor):
    changes, reason = propagation.family_changes(cursor, UNTIL - 120, UNTIL)
    assert reason == ""
    assert changes
    days, graph = born(people), people.graph
    known = [one for one in changes if not math.isnan(one.change.value)]
    assert [one.change.value for one in known] == sorted(
        (one.change.value for one in known), reverse=True
    )
    for one in changes:
        own = graph.founder == people.ids.index(one.founder)
        later, earlier = days >= UNTIL - 120, (days >= UNTIL - 240) & (days < UNTIL - 120)
        assert (one.n_later, one.n_earlier) == (np.sum(own & later), np.sum(own & earlier))
        if not math.isnan(one.change.value):
            change = np.sum(own & later) / later.sum() - np.sum(own & earlier) / earlier.sum()
            assert one.change.value == pytest.approx(change)


def test_new_merges_are_those_of_the_model_and_of_its_descendants(people, cursor):
    graph, days = people.graph, born(people)
    head = int(np.argmax(graph.size))
    scope = propagation.scope_of(cursor, people.ids[head])
    found = propagation.new_merges(cursor, scope, UNTIL - 200, UNTIL, limit=500)
    inside = set(graph.clade(people.ids[head]))
    expected = {
        people.ids[child]: any(
            c == child and p == head for c, p, _, r in people.edges if r == "merge"
        )
        for child, parent, _, relation in people.edges
        if relation == "merge" and people.ids[parent] in inside and days[child] >= UNTIL - 200
    }
    assert expected
    assert {one.child: one.own for one in found} == expected
    assert all(len(one.parents) == 2 for one in found)


# -- charts ---------------------------------------------------------------------------------------


def test_a_chart_holds_its_words_and_the_colours_of_the_theme():
    chart = Chart(
        bands("Children", series={"now": "finetune"}, reference=1.0),
        [{"month": "2024-01-01", "series": "now", "value": math.nan, "low": 1.0, "high": 2.0,
          "method": "left out of the picture"}],
        {"value": "children"}, "What it shows.", "stem",
    )  # fmt: skip
    light, dark = dressed(chart, None), dressed(chart, "dark")
    assert light["description"] == "What it shows."
    assert "#0072B2" in str(light["layer"])
    assert "#4aa8e0" in str(dark["layer"])
    assert light["data"]["values"] == [
        {"month": "2024-01-01", "series": "now", "value": None, "low": 1.0, "high": 2.0}
    ]
    assert "'soft'" not in str(light["layer"])


def test_text_of_the_hub_is_data_and_never_part_of_the_specification():
    evil = "datum['x'] <script>"
    for spec in (whiskers("Ratio", n_rows=1), bars("Born", {"a": "merge"})):
        chart = Chart(spec, [{"label": evil, "series": evil, "value": 1.0}], {}, "alt", "stem")
        shown = dressed(chart, None)
        values = shown.pop("data")
        assert evil in str(values)
        assert evil not in str(shown)


def test_a_table_as_csv_holds_no_formula():
    text = table_csv([{"a": "=1+1", "b": math.nan}, {"a": "x", "b": -1.5}], {"a": "A", "b": "B"})
    assert text == "A,B\n'=1+1,\nx,-1.5\n"


def test_more_marks_than_a_chart_holds_are_refused():
    rows = [{"value": 1}] * 5001
    with pytest.raises(ValueError, match="aggregate"):
        show_chart(Chart({}, rows, {}, "alt", "stem"), key="x")


# -- states ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_publication(tmp_path_factory.mktemp("home")).root


@pytest.fixture
def visit(root, monkeypatch):
    monkeypatch.setenv("HERDBOOK_HOME", str(root))
    return open_page


def test_the_page_ranks_what_its_address_asks_for(visit):
    text = markup(visit("propagation", window="365", until="2024-12-01"))
    assert "Which models" in text
    assert "zen/" in text
    assert 'data-go="lineage?model=zen%2Fchat"' in text
    assert "Window: 3 Dec 2023 to 1 Dec 2024" in text


def test_a_window_without_births_says_so_and_offers_a_longer_one(visit):
    text = markup(visit("propagation", window="7", until="2024-12-01"))
    assert "Nothing in this window" in text
    assert "propagation?window=365" in text


def test_likes_that_nobody_observed_are_not_invented(visit):
    text = markup(visit("propagation", by="likes"))
    assert "observed twice" in text
    assert "Nothing in this window" in text


def test_a_watched_model_lists_its_merges(visit):
    text = markup(visit("propagation", watch="zen/chat", window="365", until="2024-12-01"))
    assert "2 merges in the window, 2 of the model itself" in text
    assert "blend/" in text
    assert "franken" in text


def test_a_watched_model_that_is_unknown_gets_near_names(visit):
    text = markup(visit("propagation", watch="zen/chatt"))
    assert "The register has no zen/chatt" in text
    assert "propagation?watch=zen%2Fchat" in text


def test_a_name_that_is_typed_goes_into_the_address(visit):
    app = visit("propagation")
    app.text_input(key="watch-name").set_value("zen/chat").run()
    assert asked(app, "watch") == "zen/chat"


@pytest.mark.parametrize(
    "query",
    [
        {"window": "1e9", "by": "<script>", "order": "x" * 5000, "trait": "'; DROP TABLE model"},
        {"family": "<img src=x onerror=alert(1)>", "relation": "../../etc", "watch": "%00"},
        {"until": "0001-01-01"}, {"until": "9999-12-31"}, {"until": "yesterday"},
        {"watch": "x" * 100_000}, {"family": HOSTILE, "watch": HOSTILE, "window": "365"},
    ],
)  # fmt: skip
def test_a_hostile_address_falls_back_without_an_error(visit, query):
    text = markup(visit("propagation", **query))
    assert "Which models" in text
    assert "<img src" not in text
    assert "<script>" not in text


def test_a_register_without_dates_says_so(tmp_path, monkeypatch):
    home = altered(make_publication(tmp_path), "UPDATE model SET created_at = NULL")
    monkeypatch.setenv("HERDBOOK_HOME", str(home.root))
    assert "No model of this register has a known date" in markup(open_page("propagation"))

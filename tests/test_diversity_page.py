"""The page Diversity: its figures against the statistics themselves, and its states."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

from lineage.evolution.comparative.balance import b2, j1, sackin
from lineage.evolution.comparative.trees import Tree
from lineage.evolution.diversity.entropy_months import entropy_through_time
from lineage.evolution.diversity.hill import chao1, hill_number
from lineage.evolution.diversity.intervals import diversity as hill_by_founder
from lineage.evolution.diversity.niches import niche_overlap
from lineage.evolution.diversity.rarefaction import diversity_through_time
from lineage.views import diversity, entropy, scaling
from lineage.views.propagation import scope_of
from lineage.views.reproduction import month_words
from populations import EPOCH_DAY, altered, random_people, register_of
from synthetic import HOSTILE, make_publication
from test_explorer import markup, open_page

UNTIL = EPOCH_DAY + 241.0


@pytest.fixture(scope="module", params=[1, 2])
def people(request):
    return random_people(np.random.default_rng(request.param), 160)


@pytest.fixture(scope="module")
def cursor(people):
    with register_of(people) as connection:
        yield connection


def licences(people):
    return np.array([-1 if one is None else "abc".index(one) for one in people.licence])


def months(people):
    days = [math.nan if day is None else day for day in people.born]
    born = np.full(len(days), -1)
    for i, day in enumerate(days):
        if not math.isnan(day):
            date = np.datetime64(int(day), "D").astype("datetime64[M]")
            born[i] = int(date.astype(np.int64))
    return born


def test_hill_numbers_and_their_intervals_are_those_of_the_models(people, cursor):
    found = diversity.hill_numbers(cursor, scope_of(cursor), "licence", UNTIL)
    code = np.where(months(people) >= 0, licences(people), -1)
    for q, one in enumerate(found.observed):
        known = hill_by_founder(
            code, people.graph.founder, partial(hill_number, q=q), "", n_resamples=300,
            rng=np.random.default_rng(0), lowest=1.0,
        )  # fmt: skip
        assert one.value == pytest.approx(known.value)
        assert (one.n, one.n_clusters) == (known.n, known.n_clusters)
        assert one.low <= one.value <= one.high
        assert one.high - one.low == pytest.approx(known.high - known.low, rel=0.35, abs=0.02)


def test_richness_is_corrected_with_the_interval_of_its_own_law(cursor):
    # Chao's moth example: 11 kinds once, 3 twice among 30 seen (interval by the formula, by hand).
    counts = np.array([1.0] * 11 + [2.0] * 3 + [5.0] * 16)
    found = diversity._chao1(counts)
    assert found.value == pytest.approx(float(chao1(counts)))
    unseen = found.value - 30
    assert (found.low - 30) * (found.high - 30) == pytest.approx(unseen**2)
    assert 30 < found.low < found.value < found.high
    sure = diversity._chao1(np.array([5.0, 6.0]))
    assert (sure.low, sure.value, sure.high) == (2.0, 2.0, 2.0)


def test_kinds_of_which_hardly_any_was_seen_are_not_extrapolated():
    people = random_people(np.random.default_rng(5), 60)
    people.licence = [f"own-{i}" for i in range(60)]
    found = diversity.hill_numbers(
        cursor := register_of(people), scope_of(cursor), "licence", UNTIL
    )
    assert math.isnan(found.corrected[0].value)
    assert "of a kind that was seen" in found.corrected[1].method
    assert found.observed[0].value == found.n_models


def test_families_are_counted_by_their_lines(people, cursor):
    found = diversity.hill_numbers(cursor, scope_of(cursor), "family", UNTIL)
    dated = months(people) >= 0
    assert found.observed[0].value == np.unique(people.graph.founder[dated]).size
    assert found.observed[0].n_clusters > found.observed[0].value
    assert diversity.hill_numbers(cursor, scope_of(cursor), "task", UNTIL) is None


def test_diversity_through_time_is_that_of_the_models(people, cursor):
    found = diversity.through_time(cursor, scope_of(cursor), "licence", 1, UNTIL)
    known = diversity_through_time(
        months(people), licences(people), people.graph.founder, q=1, n_resamples=50,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    assert found.months == 1
    assert [month for month, *_ in found.windows] == [month_words(one.window) for one in known]
    for (_, n, covered, mine), theirs in zip(found.windows, known, strict=True):
        assert (n, covered) == (theirs.n, theirs.coverage)
        assert mine.value == pytest.approx(theirs.diversity.value, nan_ok=True)


def test_years_are_cut_into_quarters():
    people = random_people(np.random.default_rng(4), 200, days=1200.0)
    cursor = register_of(people)
    found = diversity.through_time(cursor, scope_of(cursor), "licence", 0, EPOCH_DAY + 1300)
    assert found.months == 3
    assert {month[5:7] for month, *_ in found.windows} <= {"01", "04", "07", "10"}


@pytest.mark.parametrize("seed", range(4))
def test_the_account_of_entropy_is_that_of_the_whole_pedigree(seed):
    people = random_people(np.random.default_rng(10 + seed), 120, days=150.0)
    cursor = register_of(people)
    found = entropy.entropy_by_month(cursor, scope_of(cursor), "licence", EPOCH_DAY + 151)
    known = entropy_through_time(people.graph, licences(people), months(people))
    theirs = {month_words(one.window): one for one in known}
    for month in set(theirs) - {one.month for one in found}:
        # Nobody of known licence was born: nothing changed.
        assert theirs[month].account.change == pytest.approx(0.0)
    for one in found:
        account = theirs[one.month].account
        assert (one.n_before, one.n_after) == (account.n_parents, account.n_children)
        if math.isnan(one.parts["change"].value):
            continue
        assert one.parts["change"].value == pytest.approx(account.change, abs=1e-12)
        for part, value in account.parts.items():
            assert one.parts[part].value == pytest.approx(value, abs=1e-12)
    parts = [[one.parts[part].value for part in entropy.PARTS] for one in found]
    sums = np.sum(parts, axis=1)
    changes = [one.parts["change"].value for one in found]
    assert sums == pytest.approx(np.array(changes), abs=1e-12, nan_ok=True)


def test_the_intervals_of_the_account_are_those_of_the_whole_pedigree(people, cursor, monkeypatch):
    monkeypatch.setattr(entropy, "_N_RESAMPLES", 1500)
    found = entropy.entropy_by_month(cursor, scope_of(cursor), "licence", UNTIL)
    known = entropy_through_time(
        people.graph, licences(people), months(people), rng=np.random.default_rng(0),
        n_resamples=1500,
    )  # fmt: skip
    of_month = {month_words(one.window): one.intervals for one in known}
    for one in found:
        for part, estimate in of_month[one.month].items():
            assert one.parts[part].n_clusters == estimate.n_clusters
            width = estimate.high - estimate.low
            mine = one.parts[part].high - one.parts[part].low
            if estimate.n_clusters >= 15:  # the values of fewer are so few that quantiles jump
                assert mine == pytest.approx(width, rel=0.2, abs=0.01)


def test_niches_of_two_families_are_those_of_their_models(people, cursor):
    found = diversity.niche_overlaps(cursor, scope_of(cursor), "licence", UNTIL)
    graph = people.graph
    line = np.arange(len(graph))
    for i in graph.topological.tolist():
        above = int(graph.primary[i])
        if above >= 0 and above != graph.founder[i]:
            line[i] = line[above]
    resource = np.where(months(people) >= 0, licences(people), -1)
    assert found
    for one in found:
        pair = (people.ids.index(one.first), people.ids.index(one.second))
        known = niche_overlap(
            graph.founder, resource, line, pair, rng=np.random.default_rng(0), n_resamples=20
        )
        assert one.estimate.value == pytest.approx(known.value, nan_ok=True)


def test_the_shape_of_a_family_is_that_of_its_tree(people, cursor):
    graph = people.graph
    found = diversity.balance(cursor, scope_of(cursor))
    forest = Tree.from_graph(graph)
    roots = forest.roots.tolist()
    assert [one.n_models for one in found] == sorted((one.n_models for one in found), reverse=True)
    for one in found:
        k = roots.index(people.ids.index(one.founder))
        assert one.depth * one.tips == pytest.approx(sackin(forest)[k])
        assert one.bits == pytest.approx(b2(forest)[k])
        assert one.evenness == pytest.approx(j1(forest)[k], nan_ok=True)


def test_a_score_is_held_against_size_lineage_by_lineage(people):
    cursor = register_of(people)
    rng = np.random.default_rng(9)
    for i, name in enumerate(people.ids):
        score = 2.0 * math.log10(people.parameters[i]) + rng.normal(0, 0.1)
        cursor.execute(
            "INSERT INTO trait VALUES (?, 'mmlu', ?, 'accuracy', 'd', true, 'card', 'r', now())",
            [name, score],
        )
    (known,) = scaling.evaluations(cursor)
    assert (known.name, known.metric, known.n_models) == ("mmlu", "accuracy", len(people.ids))
    found = scaling.scaling(cursor, scope_of(cursor), "mmlu", "accuracy")
    assert len(found.models) == len(people.ids)
    assert found.slope.value == pytest.approx(2.0, abs=0.1)
    assert found.thresholded
    assert scaling.scaling(cursor, scope_of(cursor), "mmlu'; DROP TABLE model", "loss") is None


# -- states ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_publication(tmp_path_factory.mktemp("home")).root


@pytest.fixture
def visit(root, monkeypatch):
    monkeypatch.setenv("HERDBOOK_HOME", str(root))
    return open_page


def test_the_page_counts_what_its_address_asks_for(visit):
    text = markup(visit("diversity", trait="family"))
    assert "How many families" in text
    assert "handed on by definition" in text
    text = markup(visit("diversity", family="zen/chat", trait="task"))
    assert "How many tasks" in text


def test_a_trait_that_nobody_states_says_so(visit):
    text = markup(visit("diversity", trait="language"))
    assert "Nothing known" in text
    assert 'data-go="diversity?trait=licence"' in text


@pytest.mark.parametrize(
    "query",
    [
        {"trait": "<script>", "q": "-1", "niche": "' OR 1=1", "score": "x" * 5000},
        {"family": HOSTILE, "until": "2024-13-45", "relation": "merge"},
        {"until": "2024-02-01", "q": "2"},
    ],
)
def test_a_hostile_address_falls_back_without_an_error(visit, query):
    text = markup(visit("diversity", **query))
    assert "Diversity" in text
    assert "<script>" not in text


def test_a_register_without_dates_says_so(tmp_path, monkeypatch):
    home = altered(make_publication(tmp_path), "UPDATE model SET created_at = NULL")
    monkeypatch.setenv("HERDBOOK_HOME", str(home.root))
    assert "none can be counted" in markup(open_page("diversity"))

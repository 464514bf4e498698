"""Likes and downloads gained: between observations, within a window, and what is missing for it."""

from __future__ import annotations

import json
import math
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage.cli import main
from lineage.errors import NotFoundError
from lineage.evolution.gains import LEAST_DAYS, gained_per_day, total_at
from lineage.model import Finding, Grade, Kind, ParentShare
from lineage.pipeline.inquiry import Scope, open_inquiry
from lineage.pipeline.population import to_days
from lineage.store.findings import replace_findings
from lineage.store.home import Home
from lineage.store.snapshots import Total, counts_around, first_and_last_counts
from registers import START, add_model

NAN = math.nan
BORN = to_days(START)


def observe(connection, repo_id, day, *, likes=None, rolling=None, ever=None, source="hub"):
    """What was seen of a repository `day` days after its birth on the first of January."""
    connection.execute(
        "INSERT INTO observation VALUES (?, ?, ?, ?, ?, NULL, ?)",
        [repo_id, START + timedelta(days=day), rolling, ever, likes, source],
    )


@pytest.fixture
def book(tmp_path):
    connection = Home(tmp_path / "home").open_working()
    yield connection
    connection.close()


def model(connection, repo_id, **fields):
    """A repository born on the first of January, with no counts."""
    add_model(connection, repo_id, **fields)
    connection.execute("DELETE FROM observation WHERE repo_id = ?", [repo_id])


# -- arithmetic ---------------------------------------------------------------------------------


def test_a_gain_is_counted_per_day_of_exposure():
    first_day = np.array([0.0, 0.0, 10.0, NAN])
    last_day = np.array([LEAST_DAYS, 100.0, 20.0, 10.0])
    found = gained_per_day(
        first_day, np.array([3.0, 0.0, 5.0, 1.0]), last_day, np.array([10.0, 50.0, 5.0, 9.0])
    )
    assert found[:3].tolist() == [1.0, 0.5, 0.0]
    assert math.isnan(found[3])


def test_short_exposures_and_totals_that_fell_are_unknown():
    last_day = np.array([6.99, 30.0])
    found = gained_per_day(np.zeros(2), np.array([0.0, 5.0]), last_day, np.array([9.0, 4.0]))
    assert np.isnan(found).all()


@given(
    st.floats(0, 100), st.floats(0, 100), st.integers(0, 1000), st.integers(0, 1000),
    st.floats(0, 1),
)  # fmt: skip
def test_a_total_between_observations_lies_on_the_line_between_them(start, apart, a, b, share):
    day = start + share * apart
    one = np.ones(1)
    (found,) = total_at(day * one, start * one, a * one, (start + apart) * one, b * one, 100.0)
    assert min(a, b) - 1e-9 <= found <= max(a, b) + 1e-9
    if apart > 1e-3:
        assert found == pytest.approx(np.interp(day, [start, start + apart], [a, b]), abs=1e-6)


def test_observations_too_far_apart_tell_no_total():
    one = np.ones(1)
    assert total_at(15 * one, 10 * one, one, 20 * one, 3 * one, 10.0).tolist() == [2.0]
    assert np.isnan(total_at(15 * one, 10 * one, one, 20.1 * one, 3 * one, 10.0)).all()
    assert total_at(10 * one, 10 * one, 4 * one, 10 * one, 4 * one, 10.0).tolist() == [4.0]
    assert np.isnan(total_at(15 * one, 10 * one, one, NAN * one, one, 10.0)).all()


# -- reads --------------------------------------------------------------------------------------


def test_the_first_and_the_last_statement_of_a_total_count(book):
    model(book, "a/a")
    for day, likes, ever in ((5, None, 9), (1, 3, None), (90, 8, 40), (20, 100, None)):
        observe(book, "a/a", day, likes=likes, ever=ever, rolling=7)
    (likes,) = first_and_last_counts(book, Total.LIKES)
    assert (likes.first_day - BORN, likes.first) == (1, 3)
    assert (likes.last_day - BORN, likes.last) == (90, 8)
    (downloads,) = first_and_last_counts(book, Total.DOWNLOADS)
    assert (downloads.first_day - BORN, downloads.first, downloads.last) == (5, 9, 40)


def test_of_several_counts_of_a_moment_the_highest_counts(book):
    model(book, "a/a")
    for source, likes in (("hub", 3), ("ingest:x", 5), ("ingest:y", 4)):
        observe(book, "a/a", 3, likes=likes, source=source)
    (found,) = first_and_last_counts(book, Total.LIKES)
    assert (found.first, found.last) == (5, 5)
    (around,) = counts_around(book, Total.LIKES, [("a/a", BORN, BORN + 3)])
    assert (around.first, around.last) == (5, 5)


def test_counts_of_an_earlier_repository_of_the_name_are_not_its_own(book):
    model(book, "a/a")
    observe(book, "a/a", -50, likes=900)
    observe(book, "a/a", 10, likes=1)
    observe(book, "a/a", 40, likes=4)
    (found,) = first_and_last_counts(book, Total.LIKES)
    assert (found.first, found.last) == (1, 4)
    (around,) = counts_around(book, Total.LIKES, [("a/a", BORN, BORN + 5)])
    assert (around.first_day - BORN, around.first) == (0, 0)


def test_a_birth_counts_as_an_observation_of_nothing(book):
    model(book, "a/a")
    observe(book, "a/a", 20, likes=10)
    (found,) = counts_around(book, Total.LIKES, [("a/a", BORN, BORN + 5)])
    assert (found.first_day, found.first, found.last) == (BORN, 0, 10)
    assert counts_around(book, Total.LIKES, [("a/a", BORN, BORN + 21)]) == ()  # not watched
    assert counts_around(book, Total.LIKES, []) == ()


def test_downloads_of_the_last_thirty_days_are_all_of_a_model_that_is_no_older(book):
    for name in ("a/young", "a/old"):
        model(book, name)
    observe(book, "a/young", 30, rolling=60)
    observe(book, "a/old", 31, rolling=60)
    asked = [("a/old", BORN, BORN + 15), ("a/young", BORN, BORN + 15)]
    (found,) = counts_around(book, Total.DOWNLOADS, asked)
    assert (found.repo_id, found.last) == ("a/young", 60)
    observe(book, "a/young", 20, rolling=50, ever=41)  # stated beats derived
    (found,) = counts_around(book, Total.DOWNLOADS, asked)
    assert found.last == 41


@pytest.mark.parametrize("seed", range(5))
def test_counts_around_a_day_are_those_of_looking_at_every_observation(book, seed):
    rng = np.random.default_rng(seed)
    model(book, "a/a")
    seen = {0.0: 0}
    for day in rng.choice(np.arange(1, 60), 8, replace=False).tolist():
        seen[float(day)] = int(rng.integers(0, 50))
        observe(book, "a/a", day, likes=seen[float(day)])
    for asked in range(0, 60, 7):
        before = max(day for day in seen if day <= asked)
        after = min((day for day in seen if day >= asked), default=None)
        found = counts_around(book, Total.LIKES, [("a/a", BORN, BORN + asked)])
        if after is None:
            assert found == ()
            continue
        (one,) = found
        assert (one.first_day - BORN, one.first) == (before, seen[before])
        assert (one.last_day - BORN, one.last) == (after, seen[after])


# -- as fitness ---------------------------------------------------------------------------------


@pytest.fixture
def watched(tmp_path):
    """Six models and a copy, seen every ten days for a hundred; one is seen once."""
    home = Home(tmp_path / "home")
    connection = home.open_working()
    findings = []
    for k in range(6):
        name = f"a/m{k}"
        model(connection, name)
        shares = (ParentShare("a/m0", 1.0),) if k else ()
        kind = Kind.FINETUNE if shares else Kind.FOUNDER
        findings.append(Finding(name, kind, Grade.INFERRED, shares))
        connection.execute(
            "INSERT INTO trait VALUES (?, 'score', ?, 'accuracy', 'x', true, 'card', ?, ?)",
            [name, float(k), "0" * 40, START],
        )
        for day in range(0, 101, 10):
            observe(connection, name, day, likes=k * day, ever=day**2, rolling=1)
    model(connection, "z/copy", day=50)
    findings.append(Finding("z/copy", Kind.DUPLICATE, Grade.PROVED, (ParentShare("a/m1", 1.0),)))
    for day in (60, 80):
        observe(connection, "z/copy", day, likes=day)
    model(connection, "z/once")
    observe(connection, "z/once", 100, likes=4, ever=4)
    findings.append(Finding("z/once", Kind.FOUNDER, Grade.INFERRED, ()))
    replace_findings(connection, 1, findings)
    observe(connection, "never/crawled", 0, likes=1)
    observe(connection, "never/crawled", 90, likes=1000)
    connection.close()
    return home


def fitness_of(home, name, window_days=180.0):
    with home.open_working() as connection:
        inquiry = open_inquiry(connection, Scope(fitness=name, window_days=window_days))
    ids = inquiry.studied.population.graph.ids
    return dict(zip(ids, inquiry.fitness.values.tolist(), strict=True)), inquiry.fitness


def test_likes_gained_are_the_slope_of_each_models_history_and_its_copies(watched):
    found, fitness = fitness_of(watched, "likes-gained")
    assert [found[f"a/m{k}"] for k in (0, 2, 5)] == [0.0, 2.0, 5.0]
    assert found["a/m1"] == pytest.approx(1.0 + 1.0)  # its copy gained one a day as well
    assert math.isnan(found["z/once"])
    assert "never/crawled" not in found
    assert fitness.name == "likes_gained_per_day"
    assert "fell" not in fitness.method


def test_a_count_that_fell_is_said(watched):
    with watched.open_working() as connection:
        connection.execute("DELETE FROM observation WHERE repo_id = 'a/m3' AND likes = 0")
        observe(connection, "a/m3", 110, likes=29)
    found, fitness = fitness_of(watched, "likes-gained")
    assert math.isnan(found["a/m3"])
    assert "and 1 whose count fell" in fitness.method


def test_downloads_gained_are_of_all_time_and_never_of_thirty_days(watched):
    found, _ = fitness_of(watched, "downloads-gained")
    assert found["a/m4"] == pytest.approx(100.0)
    with watched.open_working() as connection:
        connection.execute("UPDATE observation SET downloads_all_time = NULL")
    with pytest.raises(NotFoundError, match=r"30-day counts overlap.*ingest downloads"):
        fitness_of(watched, "downloads-gained")


def test_within_a_window_all_models_are_counted_to_the_same_age(watched):
    found, fitness = fitness_of(watched, "likes-in-window", 55.0)
    assert [found[f"a/m{k}"] for k in (0, 2, 5)] == [0.0, 110.0, 275.0]
    # A copy that is born on day 50 has, on day 55, half of what it had on day 60.
    assert found["a/m1"] == pytest.approx(55.0 + 30.0)
    assert fitness.name == "likes_55d"
    assert fitness_of(watched, "likes-in-window", 45.0)[0]["a/m1"] == pytest.approx(45.0)
    squares, _ = fitness_of(watched, "downloads-in-window", 95.0)
    assert squares["a/m3"] == pytest.approx((90**2 + 100**2) / 2)
    assert math.isnan(squares["z/once"])


def test_models_of_unknown_birth_have_no_window_and_their_copies_none_of_their_own(watched):
    with watched.open_working() as connection:
        connection.execute(
            "UPDATE snapshot SET created_at = '2022-03-02T23:29:04Z'"
            " WHERE repo_id IN ('a/m2', 'z/copy')"
        )
        observe(connection, "z/copy", 50, likes=50)
    found, _ = fitness_of(watched, "likes-in-window", 55.0)
    assert math.isnan(found["a/m2"])
    assert found["a/m1"] == pytest.approx(55.0)
    assert found["a/m3"] == pytest.approx(165.0)


def test_a_window_that_nobody_watched_to_its_end_is_refused(watched):
    with pytest.raises(NotFoundError, match=r"first 180 days.*at most 45 days.*of 0 models"):
        fitness_of(watched, "likes-in-window")
    # Ten days lie between observations: too coarse for a window of thirty and a half.
    with pytest.raises(NotFoundError, match="window-days"):
        fitness_of(watched, "downloads-in-window", 35.0)


def test_one_look_is_no_gain_and_the_error_says_what_is_missing(watched, capsys):
    with watched.open_working() as connection:
        connection.execute("DELETE FROM observation WHERE observed_at > ?", [START])
    words = ["lewontin", "--fitness", "likes-gained", "--home", str(watched.root)]
    assert main(words) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    for said in ("7 days apart", "of 0 models", "from 2025-01-08 on", "herdbook ingest downloads"):
        assert said in err
    with watched.open_working() as connection:
        connection.execute("DELETE FROM observation")
    with pytest.raises(NotFoundError, match="holds no likes of any model"):
        fitness_of(watched, "likes-gained")


def test_the_verdict_says_what_its_fitness_counts(watched, capsys):
    words = ["lewontin", "--fitness", "likes-gained", "--home", str(watched.root)]
    assert main(words) == 0
    assert "likes gained between a model's first" in " ".join(capsys.readouterr().out.split())
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fitness"] == "likes_gained_per_day"
    assert "left out are models not seen twice" in found["fitness_counts"]

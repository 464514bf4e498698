"""The guard that refuses to publish a crawl that lost too much."""

from __future__ import annotations

from pathlib import Path

import pytest

from lineage.errors import HerdbookError
from lineage.pipeline.publish import publish
from lineage.settings import GuardSettings, Settings, parse_settings
from lineage.store.guard import find_losses
from lineage.store.home import Home
from lineage.store.publication import read_manifest
from registers import add_model, add_run

BEFORE = {"models": 1000, "licences": 800, "tasks": 0}


@pytest.mark.parametrize(
    ("now", "lost"),
    [
        ({"models": 1000, "licences": 800, "tasks": 0}, []),
        ({"models": 1200, "licences": 900, "tasks": 5}, []),
        ({"models": 950, "licences": 760, "tasks": 0}, []),
        ({"models": 949, "licences": 760, "tasks": 0}, ["models"]),
        ({"models": 1000, "licences": 719, "tasks": 0}, ["licences"]),
        ({"models": 500, "licences": 400, "tasks": 0}, ["models"]),
        ({"models": 500, "licences": 10, "tasks": 0}, ["models", "licences"]),
        ({"models": 0, "licences": 0, "tasks": 0}, ["models"]),
    ],
)
def test_losses_beyond_the_shares_are_found_and_metadata_are_judged_among_what_is_left(now, lost):
    assert [loss.what for loss in find_losses(BEFORE, now, GuardSettings())] == lost


def test_losses_of_a_few_models_are_none():
    before = {"models": 8, "licences": 8}
    assert find_losses(before, {"models": 3, "licences": 3}, GuardSettings()) == ()
    assert find_losses(before, {"models": 2, "licences": 2}, GuardSettings())


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    with home.open_working() as connection:
        for i in range(30):
            add_model(connection, f"a/m{i}", pipeline_tag="text-generation")
        add_run(connection, "crawl")
    publish(home)
    return home


def lose_licences(home: Home) -> None:
    with home.open_working() as connection:
        connection.execute("UPDATE snapshot SET licence = NULL WHERE repo_id < 'a/m2'")


def test_a_crawl_that_lost_its_licences_is_not_published_and_the_last_publication_stays(home):
    file = read_manifest(home).file
    lose_licences(home)
    with pytest.raises(HerdbookError, match=r"licences 30 → 18 .*--accept-losses"):
        publish(home)
    assert read_manifest(home).file == file


def test_losses_may_be_accepted_once_or_by_the_settings(home):
    lose_licences(home)
    publish(home, accept_losses=True)
    lose_licences(home)
    publish(home)
    with home.open_working() as connection:
        connection.execute("UPDATE snapshot SET pipeline_tag = NULL")
    (home.root / "settings.toml").write_text("[guard]\nlost_metadata = 1\n")
    publish(home)


def test_lost_models_are_named(home):
    with home.open_working() as connection:
        connection.execute("UPDATE snapshot SET status = 'gone' WHERE repo_id < 'a/m2'")
    with pytest.raises(HerdbookError, match=r"models 30 → 18 \(−40\.0 %\)\."):
        publish(home)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[guard", "no TOML"),
        ("[gard]", "no table"),
        ("guard = 1", "no table"),
        ("[guard]\nlost = 1", "no setting 'lost'"),
        ("[crawl]\nthreads = 0", "too small"),
        ("[crawl]\nthreads = 1.5", "whole number"),
        ("[guard]\nlost_models = true", "a number"),
        ("[guard]\nlost_models = -0.1", "too small"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_with_what_can(text, words):
    with pytest.raises(HerdbookError, match=words):
        parse_settings(text)


def test_settings_that_are_not_stated_are_the_defaults():
    assert parse_settings("") == Settings()
    changed = parse_settings("[crawl]\nthreads = 3\n[guard]\nlost_models = 1\n")
    assert (changed.crawl.threads, changed.guard.lost_models) == (3, 1)
    assert changed.crawl.check_pages == Settings().crawl.check_pages

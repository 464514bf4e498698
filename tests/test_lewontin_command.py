"""The commands traits and lewontin, on a small register written by hand."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime

import numpy as np
import pytest

from lineage.cli import main
from lineage.cli.lewontin import _FITNESSES, _day
from lineage.errors import NotFoundError, UsageError
from lineage.evolution.catalogue import stated_trait
from lineage.evolution.lewontin import Answer
from lineage.model import Finding, Grade, Kind, ParentShare
from lineage.pipeline.lewontin import FITNESSES, lewontin, traits
from lineage.pipeline.measure import measure
from lineage.pipeline.population import read_observed, study
from lineage.store.estimates import read_estimates, read_evaluations, read_stated
from lineage.store.findings import replace_findings
from lineage.store.home import Home
from registers import COMMIT, START, add_model


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Twelve founders, each with three lines of two children; better scores breed more likes."""
    rng = np.random.default_rng(1)
    home = Home(tmp_path_factory.mktemp("lewontin") / "home")
    connection = home.open_working()
    findings = []

    def model(name, parent, score, licence, day):
        add_model(
            connection,
            name,
            day=day,
            licence=licence,
            languages=["en", "fr"] if licence == "MIT" else None,
            parameters=1000,
            context_length=2048,
            likes=int(rng.poisson(20 * math.exp(score))),
        )
        if score is not None:
            connection.execute(
                "INSERT INTO trait VALUES (?, 'score/quiz', ?, 'accuracy', 'quiz', true, 'card', ?,"
                " ?)",
                [name, score, COMMIT, START],
            )
        shares = () if parent is None else (ParentShare(parent, 1.0),)
        kind = Kind.FINETUNE if shares else Kind.FOUNDER
        findings.append(Finding(name, kind, Grade.INFERRED, shares))

    for f in range(12):
        base = f"lab{f}/base"
        model(base, None, rng.normal(0, 0.1), "MIT", 0)
        for k in range(3):
            line, score = f"user{k}/line-{f}", rng.normal(0, 1)
            model(line, base, score, "MIT" if k else "apache-2.0", 1)
            for c in range(2):
                licence = "MIT" if k else "apache-2.0"
                model(f"{line}-{c}", line, 0.9 * score + rng.normal(0, 0.2), licence, 2)
    add_model(connection, "copy/of-base", day=3, licence="gpl-3.0", likes=7)
    findings.append(
        Finding("copy/of-base", Kind.DUPLICATE, Grade.PROVED, (ParentShare("lab0/base", 1.0),))
    )
    replace_findings(connection, 1, findings)
    connection.close()
    return home


def observed(home):
    connection = home.open_working()
    try:
        return read_observed(connection, ignore_claims=False)
    finally:
        connection.close()


def test_traits_are_listed_with_what_is_missing(home):
    found = {one.trait.name: one for one in traits(home)}
    assert found["score/quiz"].trait.higher_is_better is True
    assert found["score/quiz"].trait.is_evaluation
    assert (found["score/quiz"].n_known, found["score/quiz"].missing) == (120, 0.0)
    assert found["score/quiz"].n_pairs == 108
    assert found["languages"].n_known == 12 + 12 * 6
    assert found["languages"].missing == pytest.approx(36 / 120)
    assert found["log10 parameters"].trait.is_constitutive
    assert "card length" not in found  # nobody has one: missing is not zero
    assert found["licence"].trait == stated_trait("licence")


def test_copies_are_no_members_of_the_population(home):
    studied = study(observed(home))
    assert "copy/of-base" not in studied.population.graph.ids
    assert studied.origin["copy/of-base"] == "lab0/base"
    assert all("gpl-3.0" not in values for values in studied.labels["licence"])


def test_the_default_trait_is_the_evaluation_that_parents_and_children_have(home):
    judgement = lewontin(home, fitness="likes", window_days=30)
    assert judgement.verdict.trait.name == "score/quiz"
    assert judgement.verdict.n_models == 120
    assert judgement.verdict.n_founders == 12
    assert [c.answer for c in judgement.verdict.conditions] == [Answer.MET] * 3
    assert judgement.verdict.fitness == "likes_per_day"


def test_the_same_seed_gives_the_same_verdict(home):
    first, again = (lewontin(home, fitness="likes", window_days=30).to_dict() for _ in range(2))
    assert json.dumps(first, default=str) == json.dumps(again, default=str)


def test_of_a_quantity_predicted_and_observed_change_stand_side_by_side(home):
    response = lewontin(home, fitness="likes", window_days=30).response
    assert response.breeder.value == pytest.approx(
        response.heritability.value * response.differential.value
    )
    assert response.observed.n_parents == 120
    assert response.observed.n_children == 108
    assert response.observed.change == pytest.approx(
        response.observed.selection + response.observed.transmission
    )
    assert response.secondary is not None
    assert lewontin(home, trait="licence").response is None


def test_a_clade_is_the_model_and_its_descendants_by_lines(home):
    verdict = lewontin(home, clade="lab3/base", fitness="likes", window_days=30).verdict
    assert (verdict.n_population, verdict.n_founders) == (10, 1)
    slope = verdict.conditions[1].estimate
    assert slope.n_clusters == 3  # the lines of the founder's children
    of_copy = lewontin(home, clade="copy/of-base")
    assert of_copy.verdict.n_population == 120 / 12
    assert of_copy.clade == "lab0/base"  # a copy stands for its original
    assert "independent line" in " ".join(of_copy.lines())


def test_since_leaves_out_the_older_as_members_not_as_parents(home):
    later = START.replace(day=2)
    verdict = lewontin(home, since=later, fitness="likes", window_days=30).verdict
    assert verdict.n_population == 108
    assert verdict.conditions[1].estimate.n == 108  # founders are still parents


def test_categorical_traits_are_judged_by_information(home):
    verdict = lewontin(home, trait="licence", fitness="children", window_days=30).verdict
    assert verdict.conditions[0].estimate.value == pytest.approx(1.84, abs=0.03)
    assert "I(parent; child)" in verdict.conditions[1].estimate.method


@pytest.mark.parametrize("fitness", ["children", "descendants", "likes", "downloads"])
def test_every_fitness_can_be_asked(home, fitness):
    verdict = lewontin(home, fitness=fitness, window_days=30).verdict
    assert verdict.fitness.startswith(fitness)


def test_what_is_unknown_is_named(home, tmp_path):
    with pytest.raises(NotFoundError, match=r"there are: .*score/quiz"):
        lewontin(home, trait="beauty")
    with pytest.raises(NotFoundError, match="x/y is not in the register"):
        lewontin(home, clade="x/y")
    with pytest.raises(UsageError, match="children, descendants"):
        lewontin(home, fitness="fame")
    with pytest.raises(NotFoundError):
        lewontin(Home(tmp_path / "nowhere"))


def test_the_command_prints_a_verdict_or_json(home, capsys):
    options = ["lewontin", "--fitness", "likes", "--window-days", "30", "--home", str(home.root)]
    assert main(options) == 0
    told = capsys.readouterr().out
    for word in (
        "three conditions are met",
        "variation: met",
        "observed",
        "threats",
        "unknown",
        "degrees",
        "h²S",
    ):
        assert word in told
    assert "nan" not in told
    assert main([*options, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["answer"] == "met"
    assert [one["name"] for one in found["conditions"]] == [
        "variation",
        "heredity",
        "differential fitness",
    ]
    assert {"estimate", "nulls", "answer", "sentence"} <= found["conditions"][1].keys()
    assert found["conditions"][1]["estimate"]["n_clusters"] == 12


def test_the_list_of_traits_is_a_table_or_json(home, capsys):
    assert main(["traits", "--home", str(home.root)]) == 0
    assert "score/quiz\tnumeric\taccuracy\thigher" in capsys.readouterr().out
    assert main(["traits", "--json", "--home", str(home.root)]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in rows} >= {"score/quiz", "licence"}


@pytest.mark.parametrize("wrong", [["--since", "soon"], ["--window-days", "-1"], ["--seed", "-1"]])
def test_wrong_arguments_are_one_sentence(home, wrong, capsys):
    with pytest.raises(SystemExit):
        main(["lewontin", *wrong, "--home", str(home.root)])
    assert "argument" in capsys.readouterr().err


def test_measure_records_heredity_within_founders_by_all_relatives_and_of_categories(home):
    measure(home, window_days=30)
    connection = home.open_working()
    try:
        found = {(row.statistic, row.trait, row.fitness): row for row in read_estimates(connection)}
    finally:
        connection.close()
    within = found["heritability_within_founders", "score/quiz", None].estimate
    assert within.low < 0.9 < within.high
    assert within.n_clusters == 12
    by_relatives = found["animal_model", "score/quiz", None].estimate
    assert by_relatives.value > 0.7
    assert "each derivation adds" in by_relatives.method
    rate = found["mutation_rate", "licence", None].estimate
    assert rate.value == pytest.approx(12 / 108)  # each founder has one line of another licence
    assert found["effective_number", "licence", None].estimate.value == pytest.approx(
        1.84, abs=0.03
    )
    told = found["parent_information", "licence", None]
    assert "by chance" in told.estimate.method
    between = found["fitness_between_values", "licence", "likes_per_day"].estimate
    assert between.n == 120
    assert 0 < between.p_value <= 1
    assert "by chance" in between.method
    assert ("heritability", "log10 context length", None) not in found


def test_the_command_offers_every_fitness_there_is():
    assert _FITNESSES == FITNESSES


def test_size_is_not_held_equal_to_itself(home):
    size = lewontin(home, trait="log10 parameters").verdict.conditions[1].nulls[0]
    assert "founder and month" in size.words
    score = lewontin(home, trait="score/quiz").verdict.conditions[1].nulls[0]
    assert "founder, size and month" in score.words


def test_a_day_with_an_offset_is_that_moment():
    assert _day("2025-01-31") == datetime(2025, 1, 31, tzinfo=UTC)
    assert _day("2025-01-31T05:00+09:00") == datetime(2025, 1, 30, 20, tzinfo=UTC)


def test_absurd_values_and_names_like_stated_traits_are_no_measurements(home):
    connection = home.open_working()
    try:
        row = "INSERT INTO trait VALUES (?, ?, ?, 'm{x}', 'd', true, 'card', ?, ?)"
        for i in range(4):
            model = f"user{i % 3}/line-{i}"
            connection.execute(row, [model, "huge", 1e200, COMMIT, START])
            connection.execute(row, [model, "licence", 1.0 + i, COMMIT, START])
            connection.execute(row, [model, "odd {x}", 1.0 + i, COMMIT, START])
        names = {one.trait.name for one in traits(home)}
        assert "huge" not in names
        assert "odd {x}" in names
        assert lewontin(home, trait="licence").verdict.trait == stated_trait("licence")
        assert lewontin(home, trait="odd {x}").lines()
    finally:
        connection.execute("DELETE FROM trait WHERE name <> 'score/quiz'")
        connection.close()


def test_what_was_stated_last_is_read(home):
    connection = home.open_working()
    try:
        stated = {one.repo_id: one for one in read_stated(connection)}
        assert stated["lab1/base"].languages == ("en", "fr")
        assert stated["lab1/base"].context_length == 2048
        assert stated["user0/line-1"].languages == ()
        assert [one.trait for one in read_evaluations(connection)] == ["score/quiz"]
        connection.execute(
            "INSERT INTO trait SELECT 'copy/of-base', name, 1.0, metric, dataset, false, source,"
            " revision, observed_at FROM trait WHERE repo_id = 'lab2/base'"
        )
        assert read_evaluations(connection)[0].higher_is_better is None
    finally:
        connection.close()

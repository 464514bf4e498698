"""The commands traits and lewontin, on a small register written by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from lineage.cli import main
from lineage.cli.lewontin import _FITNESSES, _day
from lineage.errors import NotFoundError, UsageError
from lineage.evolution.catalogue import stated_trait
from lineage.evolution.lewontin import Answer
from lineage.model import Finding, Grade, Kind, ParentShare
from lineage.pipeline.inquiry import FITNESSES, Scope, open_inquiry, read_texts
from lineage.pipeline.lewontin import lewontin, traits
from lineage.pipeline.lewontin_survey import COLUMNS, Survey, SurveyRow, _rows, survey
from lineage.pipeline.measure import measure
from lineage.pipeline.population import read_observed, study
from lineage.store import snapshots
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
            likes=int(rng.poisson(20 * math.exp(0.5 * score))),
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
    judgement = lewontin(home, scope=Scope(fitness="likes", window_days=30))
    assert judgement.verdict.trait.name == "score/quiz"
    assert judgement.verdict.n_models == 120
    assert judgement.verdict.n_founders == 12
    assert [c.answer for c in judgement.verdict.conditions] == [Answer.MET] * 3
    assert judgement.verdict.fitness == "likes_per_day"


def test_the_same_seed_gives_the_same_verdict(home):
    first, again = (
        lewontin(home, scope=Scope(fitness="likes", window_days=30)).to_dict() for _ in range(2)
    )
    assert json.dumps(first, default=str) == json.dumps(again, default=str)


def test_of_a_quantity_predicted_and_observed_change_stand_side_by_side(home):
    response = lewontin(home, scope=Scope(fitness="likes", window_days=30)).response
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
    verdict = lewontin(
        home, scope=Scope(clade="lab3/base", fitness="likes", window_days=30)
    ).verdict
    assert (verdict.n_population, verdict.n_founders) == (10, 1)
    slope = verdict.conditions[1].estimate
    assert slope.n_clusters == 3  # the lines of the founder's children
    of_copy = lewontin(home, scope=Scope(clade="copy/of-base"))
    assert of_copy.verdict.n_population == 120 / 12
    assert of_copy.clade == "lab0/base"  # a copy stands for its original
    assert "independent line" in " ".join(of_copy.lines())


def test_since_leaves_out_the_older_as_members_not_as_parents(home):
    later = START.replace(day=2)
    verdict = lewontin(home, scope=Scope(since=later, fitness="likes", window_days=30)).verdict
    assert verdict.n_population == 108
    assert verdict.conditions[1].estimate.n == 108  # founders are still parents


def test_categorical_traits_are_judged_by_information(home):
    verdict = lewontin(
        home, trait="licence", scope=Scope(fitness="children", window_days=30)
    ).verdict
    assert verdict.conditions[0].estimate.value == pytest.approx(1.84, abs=0.03)
    assert "I(parent; child)" in verdict.conditions[1].estimate.method


@pytest.mark.parametrize("fitness", ["children", "descendants", "likes", "downloads"])
def test_every_fitness_can_be_asked(home, fitness):
    verdict = lewontin(home, scope=Scope(fitness=fitness, window_days=30)).verdict
    assert verdict.fitness.startswith(fitness)


def test_what_is_unknown_is_named(home, tmp_path):
    with pytest.raises(NotFoundError, match=r"there are: .*score/quiz"):
        lewontin(home, trait="beauty")
    with pytest.raises(NotFoundError, match="x/y is not in the register"):
        lewontin(home, scope=Scope(clade="x/y"))
    with pytest.raises(UsageError, match="children, descendants"):
        lewontin(home, scope=Scope(fitness="fame"))
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


# -- every trait at once ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def surveyed(home):
    return survey(home, Scope(fitness="likes", window_days=30))


def by_name(found):
    return {row.verdict.trait.name: row for row in found.rows}


def test_a_survey_asks_every_trait_as_if_it_were_alone(home, surveyed):
    rows = by_name(surveyed)
    for name in ("score/quiz", "licence"):
        alone = lewontin(home, trait=name, scope=Scope(fitness="likes", window_days=30)).verdict
        assert json.dumps(alone.conditions, default=str) == json.dumps(
            rows[name].verdict.conditions, default=str
        )


def naive_q_values(p_values):
    """Benjamini and Hochberg (1995): the least false discovery rate at which each is rejected."""
    known = {name: p for name, p in p_values.items() if not math.isnan(p)}
    m = len(known)
    steps = {
        name: min(
            1.0,
            *(p * m / sum(other <= p for other in known.values())
              for p in known.values() if p >= known[name]),
        )
        for name in known
    }  # fmt: skip
    return {name: steps.get(name, math.nan) for name in p_values}


def test_q_values_are_benjamini_hochbergs_over_the_traits_of_each_condition(surveyed):
    verdict = by_name(surveyed)["score/quiz"].verdict
    p_values = {"a": 0.001, "b": 0.03, "c": math.nan, "d": 0.02, "e": 0.02, "f": 0.9}

    def with_p(name, p):
        trait = replace(verdict.trait, name=name)
        first, heredity, differential = verdict.conditions
        null = replace(heredity.nulls[0], p_value=p)
        larger = replace(null, p_value=p / 2)
        heredity = replace(heredity, nulls=(null,))
        differential = replace(differential, nulls=(null, larger, replace(null, p_value=math.nan)))
        return replace(verdict, trait=trait, conditions=(first, heredity, differential))

    rows = list(_rows([with_p(name, p) for name, p in p_values.items()]))
    expected = naive_q_values(p_values)
    for row in rows:
        q = pytest.approx(expected[row.verdict.trait.name], nan_ok=True)
        assert row.q_values[1:] == (q, q)
        assert math.isnan(row.q_values[0])
    assert expected["b"] == pytest.approx(0.03 * 5 / 4)


def test_heredity_of_what_derivation_copies_takes_no_part_in_the_adjustment(surveyed):
    copied = [row for row in surveyed.rows if row.verdict.trait.is_constitutive]
    assert copied
    assert all(math.isnan(row.q_values[1]) for row in copied)


def test_what_is_met_alone_has_to_be_significant_among_all(surveyed):
    row = by_name(surveyed)["score/quiz"]
    assert row.answers == (Answer.MET,) * 3
    assert row.answer is Answer.MET
    weaker = SurveyRow(row.verdict, (math.nan, 0.01, 0.051))
    assert weaker.answers == (Answer.MET, Answer.MET, Answer.NOT_SHOWN)
    assert weaker.answer is Answer.NOT_SHOWN
    assert weaker.cells()[5:] == ("0.01", *weaker.cells()[6:7], "0.051", "not shown")
    assert weaker.cells()[6].startswith("not shown 0.")
    assert weaker.to_dict()["conditions"][2]["alone"] == "met"
    assert SurveyRow(row.verdict, (math.nan, 0.05, 0.05)).answer is Answer.MET


def test_of_several_nulls_the_largest_p_value_counts(home):
    found = by_name(survey(home, Scope(fitness="children", window_days=30)))["score/quiz"]
    nulls = found.verdict.conditions[2].nulls
    assert len(nulls) == 2
    assert found.to_dict()["conditions"][2]["p_value"] == max(null.p_value for null in nulls)


def test_traits_that_cannot_be_asked_are_listed_with_the_reason(home, surveyed):
    reasons = {one.trait: one.reason for one in surveyed.not_asked}
    assert reasons["card"] == reasons["task"] == "fewer than 3 models have a value"
    # Everybody has one size and one context: nothing can be told of either but that.
    assert not reasons.keys() & by_name(surveyed).keys()
    connection = home.open_working()
    row = "INSERT INTO trait VALUES (?, ?, ?, 'm', 'd', true, 'card', ?, ?)"
    try:
        connection.execute(row, ["lab1/base", "rare", 1.0, COMMIT, START])
        for k in range(3):
            connection.execute(row, [f"lab{k}/base", "of founders", 1.0 + k, COMMIT, START])
        connection.close()
        found = survey(home, Scope(fitness="likes", window_days=30))
    finally:
        connection = home.open_working()
        connection.execute("DELETE FROM trait WHERE name <> 'score/quiz'")
        connection.close()
    reasons = {one.trait: one.reason for one in found.not_asked}
    assert reasons["rare"] == "fewer than 3 models have a value"
    assert reasons["of founders"] == "fewer than 3 edges know it at both ends"
    assert any(line.startswith("not asked: of founders: fewer") for line in found.lines())


def test_a_trait_of_which_nothing_can_be_told_is_not_asked(home):
    scope = Scope(fitness="likes", window_days=30, since=START.replace(year=2030))
    found = survey(home, scope)
    assert found.rows == ()
    reasons = {one.trait: one.reason for one in found.not_asked}
    assert reasons["score/quiz"] == "0 measured parent–offspring pairs, 3 needed"
    assert reasons["licence"] == "0 known edges of 0 families, 3 needed"


def test_too_many_traits_for_the_blind_histories_are_told_so(surveyed):
    row = by_name(surveyed)["score/quiz"]
    asked = replace(surveyed.inquiry, scope=Scope(fitness="children"))
    tested = [SurveyRow(row.verdict, (math.nan, 0.01, 0.01))] * 11
    assert "of 11 traits one alone cannot" in " ".join(Survey(tuple(tested), (), asked).lines())
    assert "one alone" not in " ".join(Survey(tuple(tested[:10]), (), asked).lines())
    assert "one alone" not in " ".join(surveyed.lines())


def test_the_survey_is_a_table_or_json(home, surveyed, capsys):
    options = ["lewontin", "--all", "--fitness", "likes", "--window-days", "30", "--home",
               str(home.root)]  # fmt: skip
    assert main(options) == 0
    out = capsys.readouterr().out
    table, _, below = out.partition("\n\n")
    lines = [line.split("\t") for line in table.splitlines()]
    assert lines[0] == list(COLUMNS)
    assert [line[0] for line in lines[1:]] == list(by_name(surveyed))
    assert all(len(line) == len(COLUMNS) for line in lines)
    assert "1 of" in below
    assert "nan" not in out
    assert main([*options, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fitness"] == "likes_per_day"
    assert [one["trait"]["name"] for one in found["traits"]] == list(by_name(surveyed))
    condition = found["traits"][0]["conditions"][1]
    assert {"name", "answer", "alone", "estimate", "nulls", "p_value", "q_value"} == set(condition)
    assert {"trait": "card", "reason": "fewer than 3 models have a value"} in found["not_asked"]


def test_one_trait_and_every_trait_are_not_asked_at_once(home, capsys):
    assert main(["lewontin", "--all", "--trait", "licence", "--home", str(home.root)]) == 2
    assert "leave out --trait" in capsys.readouterr().err


# -- cards --------------------------------------------------------------------------------------


def test_cards_are_judged_by_the_words_below_their_metadata(home, capsys, monkeypatch):
    monkeypatch.setattr(snapshots, "_CARDS_AT_ONCE", 7)
    connection = home.open_working()
    names = [name for (name,) in connection.execute("SELECT repo_id FROM repository").fetchall()]
    try:
        for name in sorted(names):
            line = name.rpartition("-")[0] if name.count("-") == 2 else name
            body = (
                f"about {line.replace('/', ' ')} and more"
                + f" {line.replace('/', 'x').replace('-', 'x')}" * 5
            )
            connection.execute(
                "INSERT INTO card VALUES (?, ?, ?, NULL)",
                [name, COMMIT, f"---\nlicense: word{name}\n---\n{body}"],
            )
            connection.execute(
                "INSERT INTO reading (repo_id, revision, read_at, card_characters)"
                " VALUES (?, ?, ?, ?)",
                [name, COMMIT, START, len(body)],
            )
        listed = {one.trait.name: one for one in traits(home)}["card"]
        assert (listed.n_known, listed.n_pairs) == (120, 108)
        inquiry = read_texts(connection, open_inquiry(connection, Scope()))
    finally:
        connection.close()
    graph = inquiry.studied.population.graph
    words = np.diff(inquiry.texts.indptr)
    assert words.shape == (120,)
    assert words[graph.number("user0/line-3")] == 7  # about user0 line 3 and more user0xlinex3
    one, other = (inquiry.texts[[graph.number(f"user0/line-3{end}")]] for end in ("", "-1"))
    assert (one != other).nnz == 0
    options = ["lewontin", "--trait", "card", "--fitness", "likes", "--window-days", "30",
               "--home", str(home.root)]  # fmt: skip
    assert main(options) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "heredity: met Parent's and child's texts are alike by" in out
    assert "exactly its text: copied" in out
    assert "response to selection" not in out
    rows = by_name(survey(home, Scope(fitness="likes", window_days=30)))
    assert rows["card"].answers[1] is Answer.MET
    connection = home.open_working()
    connection.execute("DELETE FROM card")
    connection.execute("DELETE FROM reading")
    connection.close()

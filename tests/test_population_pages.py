"""Heritability & selection, Lewontin's conditions and Phylogeny: kept answers and their states."""

from __future__ import annotations

import copy
import json
import math

import duckdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage.evolution.behaviour.tree import neighbour_joining, newick
from lineage.evolution.comparative.signal import morans_i, pagels_lambda
from lineage.evolution.lewontin import Answer
from lineage.explorer.pictures import draw_beside_null
from lineage.explorer.tree_drawing import draw_tree
from lineage.model import Estimate
from lineage.pipeline import lewontin_survey
from lineage.pipeline.behaviour.alleles import BehaviourSettings
from lineage.pipeline.behaviour.report import BehaveReport
from lineage.pipeline.behaviour.study import Study
from lineage.pipeline.inquiry import Scope
from lineage.pipeline.lewontin import lewontin
from lineage.pipeline.lewontin_survey import survey
from lineage.pipeline.verdicts import keep_behaviour, keep_verdicts
from lineage.store.home import Home
from lineage.store.reports import keep_reports, plain, read_reports
from lineage.views import phylogeny
from lineage.views.propagation import scope_of
from lineage.views.verdicts import verdicts
from populations import altered, random_people, register_of
from synthetic import HOSTILE, make_publication
from test_explorer import markup, open_page
from test_lewontin_command import home

__all__ = ["home"]

SCORE = "score/quiz"


def estimate(value=0.5, **other):
    fields = {
        "value": value, "low": None if value is None else value - 0.2,
        "high": None if value is None else value + 0.2, "level": 0.95, "n": 40,
        "method": "slope; not estimated: too few" if value is None else "slope",
        "n_clusters": 9, "p_value": 0.01,
    }  # fmt: skip
    return {**fields, **other}


def verdict_document(trait="loss/python", fitness="children", **other):
    null = {"words": "parents exchanged", "expected": 0.1, "p_value": 0.002, "method": "exchange"}
    conditions = [
        {"name": name, "answer": answer, "estimate": estimate(value), "nulls": nulls,
         "beside": [["slope within founders", estimate(0.4)]], "sentence": f"About {name}."}
        for name, answer, value, nulls in (
            ("variation", "met", 0.5, []), ("heredity", "met", 0.6, [null]),
            ("differential fitness", "cannot tell", None, [{**null, "p_value": None}]),
        )
    ]  # fmt: skip
    document = {
        "answer": "cannot tell", "sentence": f"That “{trait}” evolves cannot be told.",
        "clade": None, "since": None, "observed_until": "2024-12-01T00:00:00+00:00",
        "claims": "used",
        "trait": {"name": trait, "type": "numeric", "unit": "nats", "higher_is_better": False,
                  "is_constitutive": False, "source": "card", "is_evaluation": True},
        "fitness": f"{fitness}_180d", "n_population": 17, "n_models": 16, "n_founders": 4,
        "conditions": conditions,
        "threats": [{"name": "few_founders", "applies": True, "value": 4.0, "sentence": "Few."},
                    {"name": "unknown_one", "applies": None, "value": None, "sentence": "Dark."}],
        "degrees": [{"letter": "H", "name": "fidelity", "estimate": estimate(0.7),
                     "sentence": "Faithful."}],
        "fitness_counts": "children born within 180 d",
        "response": {"breeder": estimate(-0.1), "secondary": None, "descent": estimate(-0.2),
                     "excess": estimate(None), "caveat": "they disagree"},
        "asked_fitness": fitness, "answer_among_all": "cannot tell",
        "answers_among_all": ["met", "not shown", "cannot tell"], "q_values": [None, 0.2, None],
    }  # fmt: skip
    return {**document, **other}


def behaviour_document(names):
    rng = np.random.default_rng(1)
    points = rng.random((len(names), 3))
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    tree = newick(neighbour_joining(names, distance))
    return {
        "models": [], "n_prompts": 8, "prompts": "ab" * 32, "chosen": "eight of our own",
        "settings": {}, "seconds": 1.0,
        "study": {
            "models": names, "identity": [], "newick": tree, "n_splits": 2, "n_supported": 1,
            "n_trees": 50, "note": "two models said nothing",
            "comparison": {"kinship": estimate(0.9), "cophenetic": [["edges", estimate(0.3)]],
                           "robinson_foulds": estimate(0.4), "recovered": estimate(0.35)},
            "predictions": [["loss/python", estimate(0.2)], ["loss/law", estimate(None)]],
        },
    }  # fmt: skip


def kept(home, kind, documents):
    rows = [
        (kind, name, document if isinstance(document, str) else json.dumps(document))
        for name, document in documents.items()
    ]
    return altered(home, "INSERT INTO report VALUES (1, ?, ?, now(), ?)", rows)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    home = make_publication(tmp_path_factory.mktemp("home"))
    lies = copy.deepcopy(verdict_document())
    lies["conditions"] = "no list"
    kept(home, "lewontin", {
        "children": {"asked_fitness": "children",
                     "not_asked": [{"trait": "<b>thin</b>", "reason": "too few"}]},
        "children: loss/python": verdict_document(),
        "children: <script>": verdict_document("<script>alert(1)</script>"),
        "likes: loss/python": verdict_document(fitness="likes", answer="met"),
        "children: broken": lies,
        "children: torn": '{"trait": 1}',
    })  # fmt: skip
    kept(home, "behaviour", {
        "abab": behaviour_document(["zen/chat", "zen/chat-v2", "other/base-b", HOSTILE, "x/it's"]),
        "torn": '{"study": []}',
    })  # fmt: skip
    return home.root


@pytest.fixture
def visit(root, monkeypatch):
    monkeypatch.setenv("HERDBOOK_HOME", str(root))
    return open_page


# -- heritability ---------------------------------------------------------------------------------


def test_one_statistic_of_the_address_is_a_chart_with_its_null(visit):
    app = visit("heritability", statistic="heritability")
    text = markup(app)
    assert "p is that of a slope of 0" in text
    assert "selection differential" not in text.lower()
    ((words, spec),) = charts(app)
    assert words.startswith("Heritability, one dot with its interval for each: loss/law 0.72")
    assert "loss/law" not in json.dumps(spec["layer"])


def test_one_trait_of_the_address_shows_what_is_known_of_it(visit):
    text = markup(visit("heritability", trait="loss/law"))
    assert "loss/law" in text
    assert "loss/python" not in text
    assert 'data-go="lewontin?trait=loss%2Flaw' in text


def test_a_choice_without_estimates_says_so(visit):
    text = markup(visit("heritability", statistic="opportunity", trait="loss/law"))
    assert "No such estimate" in text


def test_a_register_of_many_estimates_begins_with_one_statistic(tmp_path, monkeypatch):
    home = altered(
        make_publication(tmp_path),
        "INSERT INTO estimate SELECT run_id, statistic, trait || '/' || k, fitness, population, "
        "value, low, high, level, n, n_clusters, p_value, method FROM estimate, range(30) r(k)",
    )
    monkeypatch.setenv("HERDBOOK_HOME", str(home.root))
    text = markup(open_page("heritability"))
    assert "Offspring keep about" in text
    assert "no estimate. Too few" not in text


def charts(app):
    """Every chart: its words and its data."""
    specs = [
        json.loads(item.proto.spec) for item in app.main if item.type.endswith("vega_lite_chart")
    ]
    return [(spec["description"], spec) for spec in specs]


# -- verdicts -------------------------------------------------------------------------------------


def test_a_verdict_shows_its_three_conditions_with_null_and_words(visit):
    text = markup(visit("lewontin", trait="loss/python"))
    for words in ("Do models differ in it?", "Do children resemble", "propagated differently",
                  "By chance 0.1", "parents exchanged", "q = 0.2", "Few.", "Faithful.",
                  "Not estimated: too few", "they disagree", "4 founders"):  # fmt: skip
        assert words in text, words
    assert "adjusting for that" not in text


def test_the_fitness_of_the_address_decides_which_verdict(visit):
    text = markup(visit("lewontin", trait="loss/python", fitness="likes"))
    assert "likes_180d" in text
    assert "adjusting for that" in text  # met alone, not among all


def test_verdicts_that_cannot_be_read_are_left_out_and_text_is_escaped(visit):
    text = markup(visit("lewontin"))
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "&lt;b&gt;thin" in text
    assert "2 traits" in text


@pytest.mark.parametrize("query", [{"trait": "x" * 9000}, {"fitness": "<script>"}])
def test_an_unknown_verdict_falls_back(visit, query):
    assert "Do models differ in it?" in markup(visit("lewontin", **query))


def test_no_verdicts_name_the_command_that_makes_them(tmp_path, monkeypatch):
    monkeypatch.setenv("HERDBOOK_HOME", str(make_publication(tmp_path).root))
    text = markup(open_page("lewontin"))
    assert "No verdict was kept" in text
    assert "herdbook lewontin --trait T" in text


def test_kept_verdicts_are_those_of_the_command(home, monkeypatch):
    askable = lewontin_survey._askable

    def one(inquiry):
        asked, left = askable(inquiry)
        return [trait for trait in asked if trait.name == SCORE], left

    monkeypatch.setattr(lewontin_survey, "_askable", one)
    report = keep_verdicts(home, fitnesses=("children", "likes-gained"))
    assert report.by_fitness == (("children", 1),)
    assert [name for name, _ in report.not_asked] == ["likes-gained"]
    connection = home.open_working()
    try:
        found = verdicts(connection)
        again = read_reports(connection, "lewontin")
    finally:
        connection.close()
    (verdict,) = found.verdicts
    known = lewontin(home, trait=SCORE, scope=Scope()).verdict
    assert (verdict.trait, verdict.asked_fitness, verdict.sentence) == (
        SCORE, "children", known.sentence,
    )  # fmt: skip
    for mine, theirs in zip(verdict.conditions, known.conditions, strict=True):
        assert (mine.name, mine.answer) == (theirs.name, str(theirs.answer))
        assert mine.estimate.value == pytest.approx(theirs.estimate.value, nan_ok=True)
        assert [one.words for one in mine.nulls] == [one.words for one in theirs.nulls]
    (row,) = survey(home).rows
    assert verdict.answer_among_all == str(row.answer) in set(Answer)
    assert [one.q_value for one in verdict.conditions] == pytest.approx(row.q_values, nan_ok=True)
    assert set(again) == {"children", f"children: {SCORE}"}
    assert [one[0] for one in found.not_asked] == ["children"] * len(found.not_asked)


def test_kept_behaviour_is_what_the_command_found(tmp_path):
    document = behaviour_document(["a/one", "b/two", "c/three", "d/four"])["study"]
    found = Study(
        tuple(document["models"]), ((1.0, math.nan),), document["newick"], 2, 1, 50, None,
        (("loss", Estimate(0.1, -0.1, 0.2, 0.95, 4, "R²")),), "no lineage",
    )  # fmt: skip
    report = BehaveReport((), 8, "ab" * 32, "ours", BehaviourSettings(), found, 2.0)
    home = Home(tmp_path / "home")
    keep_behaviour(home, report)  # no register: nothing to keep it in
    assert not home.database.exists()
    connection = home.open_working()
    connection.close()
    keep_behaviour(home, report)
    connection = home.open_working()
    try:
        (kept_one,) = phylogeny.behaviours(connection)
    finally:
        connection.close()
    assert (kept_one.name, kept_one.models, kept_one.n_prompts) == ("ab" * 6, found.models, 8)
    assert kept_one.newick == found.newick
    assert {one.name for one in kept_one.tree if one.name} == set(found.models)
    assert kept_one.predictions == found.predictions
    assert kept_one.against == ()


def test_reports_are_replaced_all_or_none(tmp_path):
    connection = Home(tmp_path).open_working()
    try:
        keep_reports(connection, 1, "behaviour", {"a": {"x": float("nan")}, "b": (1, 2)})
        assert read_reports(connection, "behaviour") == {"a": '{"x": null}', "b": "[1, 2]"}
        with pytest.raises(duckdb.ConstraintException):
            keep_reports(connection, 2, "behaviour", {"c": 1, None: 2})
        keep_reports(connection, 3, "lewontin", {"a": 1})
        assert set(read_reports(connection, "behaviour")) == {"a", "b"}
        keep_reports(connection, 4, "behaviour", {})
        assert read_reports(connection, "behaviour") == {}
    finally:
        connection.close()


def test_documents_are_made_of_what_json_knows():
    one = Estimate(np.float64(0.5), -math.inf, 1.0, 0.95, np.int64(3), "m")
    assert plain([one, Answer.MET]) == [
        {"value": 0.5, "low": None, "high": 1.0, "level": 0.95, "n": 3, "method": "m",
         "n_clusters": None, "p_value": None},
        "met",
    ]  # fmt: skip


def test_an_estimate_beside_its_null_says_both_in_words():
    text = draw_beside_null(Estimate(0.5, 0.2, 0.8, 0.95, 9, "m"), [0.1, math.nan])
    assert 'aria-label="0.5, interval 0.2 to 0.8; by chance 0.1"' in text
    assert text.count("l7 7l-7 7") == 1


# -- phylogeny ------------------------------------------------------------------------------------


def test_a_kept_tree_is_drawn_and_compared(visit):
    app = visit("phylogeny")
    text = markup(app)
    assert "Neighbour-joining tree of 5 models" in text
    assert 'data-go="lineage?model=zen%2Fchat"' in text
    assert "relatives closer than strangers" in text
    assert "two models said nothing" in text
    assert "<img src" not in text


def test_without_a_study_the_command_is_named_and_signal_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("HERDBOOK_HOME", str(make_publication(tmp_path).root))
    text = markup(open_page("phylogeny", trait="loss/law"))
    assert "herdbook behave" in text
    assert "Pagel" in text


def test_a_family_that_is_too_small_says_so(visit):
    text = markup(visit("phylogeny", trait="loss/law", family="other/base-b"))
    assert "Too few models" in text


def test_signal_is_that_of_the_shared_ancestors():
    people = random_people(np.random.default_rng(6), 60)
    with register_of(people) as cursor:
        rng = np.random.default_rng(2)
        graph = people.graph
        values = np.zeros(60)
        for i in graph.topological.tolist():
            above = int(graph.primary[i])
            values[i] = (values[above] if above >= 0 else 0.0) + rng.normal()
        for name, value in zip(people.ids, values.tolist(), strict=True):
            cursor.execute(
                "INSERT INTO trait VALUES (?, 'drift', ?, 'm', 'd', true, 'card', 'r', now())",
                [name, value],
            )
        lines = []
        for i in range(60):
            line, at = {i}, i
            while (at := int(graph.primary[at])) >= 0:
                line.add(at)
            lines.append(line)
        covariance = np.array([[len(a & b) for b in lines] for a in lines], dtype=float)
        found = phylogeny.signal(cursor, scope_of(cursor), "drift")
        known = pagels_lambda(values, covariance).signal
        assert found.pagel.value == pytest.approx(known.value, abs=1e-3)
        assert found.pagel.low == pytest.approx(known.low, abs=1e-3)
        spread = np.diag(covariance)
        near = np.where(covariance > 0, spread[:, None] + spread[None] - 2 * covariance, np.inf)
        np.fill_diagonal(near, np.inf)
        moran = morans_i(values, 1 / near, rng=rng, n_permutations=9)
        assert found.moran.value == pytest.approx(moran.value)
        assert (found.n_models, found.n_founders) == (60, np.unique(graph.founder).size)
        head = people.ids[int(np.argmax(graph.size))]
        inside = phylogeny.signal(cursor, scope_of(cursor, head), "drift")
        assert inside.n_models == int(graph.size.max())
        assert phylogeny.signal(cursor, scope_of(cursor), "nothing' OR 1=1") is None
        size = phylogeny.signal(cursor, scope_of(cursor), "log10 parameters")
        assert size.n_models == 60


@given(st.integers(3, 12), st.integers(0, 10_000))
def test_a_written_tree_is_read_back_with_every_path(n, seed):
    names = [f"o/it's {k}" for k in range(n)]
    points = np.random.default_rng(seed).random((n, 4))
    tree = neighbour_joining(names, np.linalg.norm(points[:, None] - points[None], axis=-1))
    found = phylogeny.read_newick(newick(tree))
    tips = [k for k, one in enumerate(found) if one.name]
    assert sorted(found[k].name for k in tips) == sorted(names)
    above = []
    for k in tips:
        path, at = {}, k
        while found[at].parent >= 0:
            path[at] = found[at].length
            at = found[at].parent
        above.append(path)
    for i, one in enumerate(above):
        for j, other in enumerate(above):
            far = sum(length for k, length in one.items() if k not in other)
            far += sum(length for k, length in other.items() if k not in one)
            a, b = names.index(found[tips[i]].name), names.index(found[tips[j]].name)
            assert far == pytest.approx(tree.path_lengths[a, b], abs=1e-4)
    drawn = draw_tree(found, {names[0]: "acme/base"})
    assert drawn.count("<circle") >= n


@pytest.mark.parametrize(
    "text", ["", "(a,b)", "(a,b));", "(a:x,b);", "a,b;", "((a,b);", "(a,b);(c,d);", "a;", "'"]
)
def test_what_is_no_tree_is_refused(text):
    with pytest.raises(ValueError, match=r"tree|float"):
        phylogeny.read_newick(text)

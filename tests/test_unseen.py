"""Ancestors that nobody published, told from parallel training, descent and mixtures."""

from __future__ import annotations

from datetime import UTC, datetime
from xml.etree import ElementTree

import duckdb
import numpy as np
import pytest

from lineage import views
from lineage.explorer.drawing import DrawOptions, draw_lineage
from lineage.infer.descent import resolve_family
from lineage.infer.geometry import Pool
from lineage.infer.rooting import StepOdds
from lineage.infer.unseen import unseen_ancestors
from lineage.model import Finding, Grade, Kind, ParentShare
from lineage.pipeline.show import detail_lines
from lineage.store.findings import current_findings, replace_findings
from lineage.store.home import Home
from lineage.store.publication import read_manifest
from lineage.weights.roles import TensorKey
from synthetic import make_publication

N_MATRICES, SIDE = 24, 48


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def step(rng, size):
    return size * rng.standard_normal((N_MATRICES, SIDE, SIDE))


def leading(rng, size):
    return size * (
        rng.standard_normal((N_MATRICES, SIDE, 2)) @ rng.standard_normal((N_MATRICES, 2, SIDE))
    )


def pool_of(models):
    keys = tuple(TensorKey("up", layer) for layer in range(N_MATRICES))
    values = tuple(
        np.stack([model[layer] for model in models.values()]).astype(np.float32)
        for layer in range(N_MATRICES)
    )
    return Pool(tuple(models), keys, values)


def unseen_of(models, parents=None):
    pool = pool_of(models)
    parents = parents or dict.fromkeys([name for name in models if name != "r"], "r")
    return unseen_ancestors(StepOdds(pool, {}), parents, list(parents))


def test_siblings_that_share_a_step_over_the_whole_spectrum_have_an_unseen_parent(rng):
    base = step(rng, 1.0)
    hidden = base + step(rng, 0.01)
    models = {"r": base} | {name: hidden + step(rng, 0.01) for name in "abc"}
    models["d"] = base + step(rng, 0.01)
    (found,) = unseen_of(models)
    assert (found.parent, found.children) == ("r", ("a", "b", "c"))
    assert found.shares == pytest.approx(dict.fromkeys("abc", 0.5), abs=0.06)
    assert found.name.startswith("unseen:")


def test_siblings_that_read_one_text_have_no_unseen_parent(rng):
    base, text = step(rng, 1.0), leading(rng, 0.01)
    weak = step(rng, 0.006)  # what parallel training does outside the leading directions
    models = {"r": base} | {name: base + text + weak + step(rng, 0.008) for name in "ab"}
    assert unseen_of(models) == ()
    models = {"r": base} | {name: base + weak + step(rng, 0.008) for name in "ab"}
    assert unseen_of(models) != ()  # without the text, it is taken for an inheritance


def test_a_parent_and_its_child_are_no_siblings_of_an_unseen_one(rng):
    base = step(rng, 1.0)
    parent = base + step(rng, 0.01)
    models = {"r": base, "p": parent, "c": parent + step(rng, 0.01)}
    assert unseen_of(models) == ()


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_a_mixture_of_siblings_makes_no_unseen_parent(rng, share):
    base = step(rng, 1.0)
    models = {"r": base, "a": base + step(rng, 0.01)}
    models["b"] = base + step(rng, 0.01) + 0.05 * (models["a"] - base)
    models["m"] = share * models["a"] + (1 - share) * models["b"]
    assert unseen_of(models) == ()


def test_shares_are_of_each_childs_own_change_and_the_largest_it_has_in_common(rng):
    base = step(rng, 1.0)
    early = base + step(rng, 0.01)
    late = early + step(rng, 0.01)
    models = {"r": base, "a": late + step(rng, 0.01), "b": late + step(rng, 0.02)}
    models["c"] = early + step(rng, 0.01)
    (found,) = unseen_of(models)
    assert found.children == ("a", "b", "c")
    assert found.shares == pytest.approx({"a": 2 / 3, "b": 1 / 3, "c": 1 / 2}, abs=0.06)


def test_what_is_too_small_a_part_of_one_of_them_asserts_nothing(rng):
    base = step(rng, 1.0)
    hidden = base + step(rng, 0.01)
    models = {"r": base, "a": hidden + step(rng, 0.01), "b": hidden + step(rng, 0.08)}
    assert unseen_of(models) == ()


def test_two_unseen_parents_stay_two_and_names_follow_from_their_children(rng):
    base = step(rng, 1.0)
    one, two = base + step(rng, 0.01), base + step(rng, 0.01)
    models = {"r": base}
    models |= {name: one + step(rng, 0.01) for name in "ab"}
    models |= {name: two + step(rng, 0.01) for name in "cd"}
    found = unseen_of(models)
    assert sorted(one.children for one in found) == [("a", "b"), ("c", "d")]
    backwards = unseen_of(dict(reversed(models.items())))
    assert [one.name for one in backwards] == [one.name for one in found]


def test_models_of_different_parents_are_not_compared(rng):
    base = step(rng, 1.0)
    hidden = base + step(rng, 0.01)
    models = {"r": base, "q": base + step(rng, 0.02)}
    models |= {name: hidden + step(rng, 0.01) for name in "ab"}
    assert unseen_of(models, {"q": "r", "a": "r", "b": "q"}) == ()


@pytest.mark.parametrize("strange", [np.nan, 0.0])
def test_models_without_numbers_have_no_unseen_parent_and_stop_nothing(rng, strange):
    base = step(rng, 1.0)
    hidden = base + step(rng, 0.01)
    models = {"r": base} | {name: hidden + step(rng, 0.01) for name in "ab"}
    models["x"] = np.full_like(base, strange)
    models["y"] = models["x"].copy()
    found = unseen_of(models)
    assert all(not {"x", "y"} & set(one.children) or "x" in one.children for one in found)
    assert all(np.isfinite(list(one.shares.values())).all() for one in found)


def test_the_finding_names_the_unseen_parent_and_says_why(rng):
    base = step(rng, 1.0)
    hidden = base + step(rng, 0.01)
    models = {"r": base} | {name: hidden + step(rng, 0.01) for name in "abc"}
    family = resolve_family(pool_of(models), list(models), {}, {})
    named = {one.child: one.unseen for one in family.descents}
    assert len(set(named.values()) - {None}) == 1
    for one in family.descents:
        facts = [fact for fact in one.evidence if fact.name == "unseen_ancestor"]
        assert (one.unseen is not None) == bool(facts)


def test_siblings_without_their_parent_have_no_founder_among_them(rng):
    hidden = step(rng, 1.0)
    models = {name: hidden + step(rng, 0.01) for name in "abcd"}
    dates = {name: datetime(2024, 1, day, tzinfo=UTC) for day, name in enumerate("abcd", start=1)}
    family = resolve_family(pool_of(models), list(models), dates, {})
    assert not family.log_odds > 0
    assert len({one.unseen for one in family.descents}) == 1
    assert not any(one.decided for one in family.descents)


def test_a_founder_with_a_child_of_its_own_stays_above_an_unseen_model(rng):
    base = step(rng, 1.0)
    hidden = base + step(rng, 0.01)
    models = {"r": base} | {name: hidden + step(rng, 0.01) for name in "abc"}
    models["d"] = base + step(rng, 0.01)
    dates = {name: datetime(2024, 1, day, tzinfo=UTC) for day, name in enumerate(models, start=1)}
    family = resolve_family(pool_of(models), list(models), dates, {})
    assert family.founder == "r"
    assert all(one.decided for one in family.descents)
    assert {one.child for one in family.descents if one.unseen} == set("abc")


# What is shown of them.

SIBLINGS = ("zen/chat", "liar/claims-base-b")
NAME = "unseen:0123abcd"


@pytest.fixture
def cursor(tmp_path):
    """The hand-made register, two children of whose first founder have an unseen parent."""
    home = make_publication(tmp_path)
    path = home.published / read_manifest(home).file
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "UPDATE finding SET unseen_ancestor = ? WHERE list_contains(?, child)",
            [NAME, list(SIBLINGS)],
        )
    with duckdb.connect(str(path), read_only=True) as connection:
        yield connection.cursor()


def test_drawings_lead_through_the_unseen_ancestor_once(cursor):
    around = views.neighbourhood(cursor, "acme/base-a-7b", whole_family=True)
    links = [(edge.child, edge.parent) for edge in around.edges]
    assert links.count((NAME, "acme/base-a-7b")) == 1
    for child in SIBLINGS:
        assert (child, NAME) in links
        assert (child, "acme/base-a-7b") not in links
    (mark,) = [mark for mark in around.marks if mark.repo_id == NAME]
    assert (mark.ghost, mark.status) == (True, "unseen")
    assert [edge.verdict for edge in around.edges if edge.child == NAME] == ["undeclared"]
    # What was declared and contradicted does not lead through it.
    assert ("liar/claims-base-b", "other/base-b") in links


def test_an_unseen_ancestor_is_drawn_and_leads_nowhere(cursor):
    around = views.neighbourhood(cursor, "zen/chat")
    svg = draw_lineage(around, DrawOptions())
    (node,) = [one for one in ElementTree.fromstring(svg).iter() if one.get("data-id") == NAME]
    assert node.get("data-go") is None
    assert "nobody published" in node.get("aria-label")


def test_the_model_says_through_whom_it_descends(cursor):
    detail = views.model_detail(cursor, "zen/chat")
    assert detail.finding.unseen_ancestor == NAME
    assert any(NAME in line and "nobody published" in line for line in detail_lines(detail))


def test_the_working_database_keeps_the_name(tmp_path):
    home = Home(tmp_path)
    home.prepare()
    connection = home.open_working()
    finding = Finding(
        "o/child", Kind.FINETUNE, Grade.INFERRED, (ParentShare("o/base", 1.0),),
        unseen_ancestor=NAME,
    )  # fmt: skip
    replace_findings(connection, 1, [finding])
    (kept,) = current_findings(connection)
    connection.close()
    assert kept == finding

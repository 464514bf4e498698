from __future__ import annotations

from datetime import UTC

import pytest

from lineage import views
from lineage.errors import NotFoundError, SchemaError
from lineage.store.home import Home
from lineage.store.publication import connect_publication, read_manifest
from synthetic import HOSTILE, MODELS, make_publication


@pytest.fixture(scope="module")
def cursor(tmp_path_factory):
    home = make_publication(tmp_path_factory.mktemp("home"))
    connection = connect_publication(home, read_manifest(home))
    yield connection.cursor()
    connection.close()


@pytest.mark.parametrize(
    ("text", "how", "first"),
    [
        ("ZEN/CHAT", "exact", "zen/chat"),
        ("chat", "exact", "zen/chat"),
        ("zen/", "prefix", "zen/chat"),
        ("claims", "prefix", "liar/claims-base-b"),
        ("lerp", "substring", "blend/slerp-a-b"),
        ("zen/chta", "near", "zen/chat"),
    ],
)
def test_search_finds_exact_then_prefix_then_substring_then_near_names(cursor, text, how, first):
    hit = views.search(cursor, text)[0]
    assert (hit.how, hit.model.repo_id) == (how, first)


@pytest.mark.parametrize("text", ["", "  ", "%", "_", "'; DROP TABLE model; --", "qqqqqqqqq"])
def test_search_takes_every_text_as_text(cursor, text):
    assert views.search(cursor, text) == ()
    assert views.coverage(cursor).n_models == len(MODELS)


def test_a_neighbourhood_holds_every_ancestor_and_the_other_parents_of_merges(cursor):
    around = views.neighbourhood(cursor, "blend/slerp-a-b-dpo")
    names = [mark.repo_id for mark in around.marks]
    assert set(names) == {
        "blend/slerp-a-b-dpo", "blend/slerp-a-b", "zen/chat", "acme/base-a-7b",
        "other/base-b-tuned", "other/base-b",
    }  # fmt: skip
    assert len(around.edges) == 5
    assert [mark.pos for mark in around.marks] == sorted(mark.pos for mark in around.marks)
    hidden = {mark.repo_id: mark.n_hidden for mark in around.marks}
    assert hidden["zen/chat"] == 4


def test_a_parent_outside_the_register_is_a_ghost_above_its_child(cursor):
    around = views.neighbourhood(cursor, "lost/child-of-ghost")
    assert [(mark.repo_id, mark.ghost) for mark in around.marks] == [
        ("vanished/old-model", True),
        ("lost/child-of-ghost", False),
    ]


def test_a_neighbourhood_never_exceeds_its_marks_but_keeps_the_ancestors(cursor):
    around = views.neighbourhood(cursor, "zen/chat", max_marks=3)
    names = {mark.repo_id for mark in around.marks}
    assert {"zen/chat", "acme/base-a-7b"} <= names
    assert len(names) <= 6


def test_a_whole_family_says_how_many_models_did_not_fit(cursor):
    whole = views.neighbourhood(cursor, "zen/chat", whole_family=True)
    assert whole.n_left_out == 0
    assert "shy/gated-tune" in {mark.repo_id for mark in whole.marks}
    cut = views.neighbourhood(cursor, "zen/chat", whole_family=True, max_marks=4)
    assert cut.n_left_out > 0


def test_a_contradicted_claim_is_no_parent_of_a_merge(cursor):
    around = views.neighbourhood(cursor, "liar/claims-base-b")
    assert {m.repo_id: m.n_parents for m in around.marks}["liar/claims-base-b"] == 1


def test_an_unknown_model_has_no_card_detail_or_neighbourhood(cursor):
    assert views.model_card(cursor, "no/such") is None
    assert views.model_detail(cursor, "no/such") is None
    assert views.neighbourhood(cursor, "no/such") is None
    assert next(model.repo_id for model in views.near(cursor, "zen/chatt")) == "zen/chat"


def test_the_detail_of_a_merge_has_shares_recipe_claims_traits_and_evidence(cursor):
    detail = views.model_detail(cursor, "blend/slerp-a-b")
    assert [(share.parent, share.weight) for share in detail.finding.parents] == [
        ("zen/chat", 0.62),
        ("other/base-b-tuned", 0.38),
    ]
    assert detail.finding.recipe_yaml.startswith("merge_method: slerp")
    assert [claim.parent for claim in detail.claims] == ["zen/chat"]
    assert detail.claims[0].first_seen.tzinfo is UTC
    assert len(detail.traits) == 3
    assert detail.parents[0].evidence[0].value == 0.0123
    assert detail.fingerprint.bytes_read == 4_200_000
    assert [edge.child for edge in detail.children] == ["blend/slerp-a-b-dpo"]


def test_the_layer_map_names_the_source_of_every_layer(cursor):
    layers = views.model_detail(cursor, "stack/franken-9b").layer_map
    assert [layer.child_layer for layer in layers] == list(range(12))
    assert {layer.parent for layer in layers} == {"zen/chat-v2", "zen/chat"}


def test_the_audit_counts_verdicts_and_filters_by_verdict_family_and_owner(cursor):
    every = views.audit(cursor, limit=100)
    assert every.count("") == len(every.rows) == 17
    assert every.rows[0].edge.verdict == "contradicted"
    one = views.audit(cursor, verdict="contradicted")
    assert [row.edge.child for row in one.rows] == ["liar/claims-base-b"]
    assert one.count("undeclared") == every.count("undeclared")
    assert one.rows[0].claims[0].parent == "other/base-b"
    family = views.audit(cursor, family="other/base-b")
    assert {row.edge.child for row in family.rows} == {"other/base-b-tuned", "gone/away"}
    owner = views.audit(cursor, owner="evil")
    assert [row.edge.child for row in owner.rows] == [HOSTILE]
    assert views.audit(cursor, owner="' OR 1=1 --").rows == ()
    assert len(views.audit(cursor, limit=5, offset=15).rows) == 2


def test_examples_give_a_reason_for_each_model(cursor):
    reasons = {(item.why, item.model.repo_id) for item in views.examples(cursor)}
    assert ("merge", "blend/slerp-a-b") in reasons
    assert ("contradicted", "liar/claims-base-b") in reasons
    assert ("family", "acme/base-a-7b") in reasons
    assert ("merge", "liar/claims-base-b") not in reasons


def test_coverage_adds_up(cursor):
    seen = views.coverage(cursor)
    verdicts = seen.n_confirmed + seen.n_undeclared + seen.n_contradicted + seen.n_unverified
    assert verdicts == seen.n_edges == 17
    assert (seen.n_models, seen.n_readable, seen.n_merges) == (17, 14, 2)


def test_an_untrusted_estimate_keeps_its_reason(cursor):
    untrusted = [row for row in views.estimates(cursor) if row.value is None]
    assert [row.method for row in untrusted] == ["Too few models with offspring."]


def test_a_home_without_a_publication_says_which_command_makes_one(tmp_path):
    with pytest.raises(NotFoundError, match="herdbook run"):
        read_manifest(Home(tmp_path))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema_version": "x"}', "\x00"])
def test_a_broken_manifest_is_a_schema_error(tmp_path, text):
    home = Home(tmp_path)
    home.prepare()
    (home.published / "manifest.json").write_text(text)
    with pytest.raises(SchemaError):
        read_manifest(home)


def test_another_schema_version_is_refused_and_named(tmp_path):
    home = make_publication(tmp_path, schema_version=99)
    with pytest.raises(SchemaError, match="99"):
        read_manifest(home)


def test_a_missing_or_damaged_published_file_is_one_clear_sentence(tmp_path):
    home = make_publication(tmp_path)
    manifest = read_manifest(home)
    (home.published / manifest.file).write_bytes(b"not a database" * 1000)
    with pytest.raises(SchemaError, match="cannot be opened"):
        connect_publication(home, manifest)
    (home.published / manifest.file).unlink()
    with pytest.raises(NotFoundError, match="missing"):
        connect_publication(home, manifest)


def test_the_published_database_cannot_be_written_or_reach_files(cursor):
    import duckdb

    for statement in ("DELETE FROM model", "COPY model TO 'x.csv'", "SET threads = 1"):
        with pytest.raises(duckdb.Error):
            cursor.execute(statement)

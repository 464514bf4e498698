"""The page Audit: parents, unfaithful quantisations, licences along a line."""

from __future__ import annotations

import csv
import io
import json

import duckdb
import pytest

from evidence_register import make_register
from lineage.explorer import table_files
from lineage.explorer.audit_blocks import conflict_columns, count_columns, edge_columns
from lineage.explorer.table_files import table_csv
from lineage.store.publication import connect_publication, read_manifest
from lineage.store.published_licences import quantised_claims
from lineage.views import audit_all
from lineage.views.licences import all_conflicts, unfaithful_quantisations, verdict_counts
from page_driver import asked, labels, markup, open_page
from synthetic import MODELS

QUANTISED, CLAIMED = "zen/chat-v2-GGUF", "zen/chat-v2"


def refute_the_quantisation(home):
    """As if the codes came from zen/chat, not from the model that was declared."""
    import hashlib

    path = home.published / "register-1.duckdb"
    told = json.dumps([{"name": "codes_replayed", "value": 1.0,
                        "text": "quantising zen/chat to Q8_0 gives all codes"}])  # fmt: skip
    why = json.dumps([{"name": "other_parent", "value": 1.0, "text": "the weights show zen/chat"}])
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "UPDATE edge SET verdict = 'contradicted', grade = 'declared', kind = NULL,"
            " evidence = ? WHERE child = ?", [why, QUANTISED],
        )  # fmt: skip
        connection.execute("UPDATE finding SET evidence = ? WHERE child = ?", [told, QUANTISED])
        connection.execute(
            "UPDATE finding_parent SET parent = 'zen/chat' WHERE finding_id ="
            " (SELECT finding_id FROM finding WHERE child = ?)", [QUANTISED],
        )  # fmt: skip
    manifest = home.published / "manifest.json"
    fields = json.loads(manifest.read_text()) | {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest()
    }
    manifest.write_text(json.dumps(fields))
    return home


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return refute_the_quantisation(make_register(tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="module")
def cursor(tmp_path_factory):
    # A file of its own: one process opens a publication once.
    home = refute_the_quantisation(make_register(tmp_path_factory.mktemp("questions")))
    connection = connect_publication(home, read_manifest(home))
    yield connection.cursor()
    connection.close()


@pytest.fixture
def visit(home, monkeypatch):
    monkeypatch.setenv("HERDBOOK_HOME", str(home.root))
    return lambda **query: open_page("audit", **query)


@pytest.fixture
def files(home, monkeypatch):
    """The files that a page offers, by label; made when they are asked for."""
    monkeypatch.setenv("HERDBOOK_HOME", str(home.root))

    def offered(**query):
        made = []
        with monkeypatch.context() as patch:
            patch.setattr(
                table_files.st,
                "download_button",
                lambda label, data, **_: made.append((label, data)),
            )
            open_page("audit", **query)
        return dict(made)

    return offered


# -- questions ----------------------------------------------------------------------------------


def test_an_unfaithful_quantisation_is_found_with_what_it_really_is(cursor):
    (line,) = unfaithful_quantisations(cursor)
    assert (line.child, line.parent) == (QUANTISED, CLAIMED)
    assert "the codes do not come from it" in line.sentence
    assert unfaithful_quantisations(cursor, owner="zen") == (line,)
    assert unfaithful_quantisations(cursor, family="acme/base-a-7b") == (line,)
    assert unfaithful_quantisations(cursor, owner="acme") == ()


@pytest.mark.parametrize(
    "change",
    [
        'UPDATE finding SET evidence = \'[{"name": "codes_missed_by zen/chat-v2", "value": 0.5,'
        ' "text": "missed"}]\' WHERE child = \'zen/chat-v2-GGUF\'',
        "INSERT INTO finding_parent SELECT finding_id, 1, 'zen/chat', 0.5, NULL, NULL FROM finding"
        " WHERE child = 'zen/chat-v2-GGUF'",
        "UPDATE edge SET verdict = 'contradicted' WHERE child = 'zen/chat-v2-GGUF'",
    ],
)
def test_whatever_speaks_against_a_quantisation_has_it_judged(tmp_path, change):
    home = make_register(tmp_path)
    with duckdb.connect(str(home.published / "register-1.duckdb")) as connection:
        assert quantised_claims(connection, "", "", 9) == []
        connection.execute(change)
        assert quantised_claims(connection, "", "", 9) == [QUANTISED]
        assert quantised_claims(connection, "acme/base-a-7b", "zen", 9) == [QUANTISED]
        assert quantised_claims(connection, "other/base-b", "", 9) == []
        assert quantised_claims(connection, "", "blend", 9) == []


def test_verdicts_are_counted_by_family_and_by_owner(cursor):
    founders = dict(cursor.execute("SELECT repo_id, founder FROM model").fetchall())
    edges = cursor.execute("SELECT child, verdict FROM edge").fetchall()
    for by_owner in (False, True):
        counted = verdict_counts(cursor, by_owner=by_owner)
        for row in counted:
            mine = [
                verdict for child, verdict in edges
                if (child.split("/")[0] if by_owner else founders[child]) == row.name
            ]  # fmt: skip
            assert (row.confirmed, row.undeclared, row.contradicted, row.unverified) == tuple(
                mine.count(v) for v in ("confirmed", "undeclared", "contradicted", "unverified")
            )
        assert sum(
            sum((r.confirmed, r.undeclared, r.contradicted, r.unverified)) for r in counted
        ) == len(edges)
        to_object = [row.contradicted + row.undeclared for row in counted]
        assert to_object == sorted(to_object, reverse=True)
    table = count_columns("owner", verdict_counts(cursor, by_owner=True, limit=1))
    assert list(table) == ["owner", "undeclared", "contradicted", "confirmed", "unverified"]


# -- the page -----------------------------------------------------------------------------------


def test_every_edge_leads_to_its_evidence(visit):
    text = markup(visit())
    assert text.count("<details>") == sum(len(row[3]) for row in MODELS)
    assert 'data-go="evidence?child=zen%2Fchat&amp;parent=acme%2Fbase-a-7b"' in text


def test_unfaithful_quantisations_have_their_list(visit):
    app = visit(subject="quantisations")
    text = markup(app)
    assert text.count("<details>") == 1
    assert "is no faithful quantisation of" in text
    assert labels(app) == [f"1 quantisation ({name})" for name in ("CSV", "JSON", "Parquet")]
    assert "No unfaithful quantisation" in markup(visit(subject="quantisations", owner="acme"))


def test_licence_conflicts_show_the_rule_the_line_and_filter_by_class(visit, cursor):
    rows = all_conflicts(cursor)
    text = markup(visit(subject="licences"))
    assert text.count("<details>") == len(rows)
    assert "no legal advice" in text
    assert "zen/chat is permissive (Apache-2.0); its ancestor acme/base-a-7b is under terms" in text
    assert 'data-go="evidence?child=zen%2Fchat&amp;parent=acme%2Fbase-a-7b"' in text
    n_custom = sum(row.ancestor_class == "custom" for row in rows)
    custom = markup(visit(subject="licences", terms="custom"))
    assert custom.count("<details>") == n_custom < len(rows)
    assert markup(visit(subject="licences", terms="<b>")).count("<details>") == len(rows)
    assert "No such conflict" in markup(visit(subject="licences", owner="lonely"))


def test_the_subject_is_chosen_and_stands_in_the_address(visit):
    app = visit()
    app.segmented_control[0].set_value("licences").run()
    assert asked(app, "subject") == "licences"
    assert "no legal advice" in markup(app)


@pytest.mark.parametrize("subject", ["", "quantisations", "licences", "nonsense"])
@pytest.mark.parametrize("page", ["2", "0", "x", "99999", "9" * 50])
def test_every_page_number_is_survived(visit, subject, page):
    text = markup(visit(subject=subject, page=page))
    assert "Declared against found" in text
    if page in ("2", "99999"):
        assert "No such page" in text


@pytest.mark.parametrize("key", ["family", "owner", "verdict", "terms", "subject"])
@pytest.mark.parametrize("value", ["<img src=x>", "x" * 3000, "'; DROP TABLE edge; --"])
def test_hostile_filters_are_no_filters(visit, key, value):
    text = markup(visit(**{key: value}))
    assert text.count("<details>") == sum(len(row[3]) for row in MODELS)
    assert "<img" not in text


def test_a_small_family_or_owner_in_the_address_is_kept(visit):
    assert visit(owner="acme").selectbox[1].value == "acme"
    assert visit(family="lonely/unrelated").selectbox[0].value == "lonely/unrelated"
    assert visit(owner="nobody").selectbox[1].value == ""


def test_families_and_owners_have_their_counts_which_filter(visit, monkeypatch):
    from lineage.explorer.pages import audit as page

    app = visit(subject="groups", by="owner")
    text = markup(app)
    assert 'data-go="audit?owner=zen"' in text
    assert 'data-go="audit?verdict=contradicted&amp;owner=liar"' in text
    assert labels(app) == [f"Verdicts by owner ({name})" for name in ("CSV", "JSON", "Parquet")]
    assert 'data-go="audit?family=acme%2Fbase-a-7b"' in markup(visit(subject="groups", by="<b>"))
    monkeypatch.setattr(page, "_PER_PAGE", 2)
    assert "page 2 of" in markup(visit(subject="groups", by="owner", page="2"))


def test_of_very_many_lines_only_the_first_pages_are_shown(visit, monkeypatch):
    from lineage.explorer.pages import audit as page

    monkeypatch.setattr(page, "_PER_PAGE", 1)
    monkeypatch.setattr(page, "_MOST_PAGES", 3)
    assert "page 3 of 3" in markup(visit(page="3"))
    assert "narrow the filter" in markup(visit(page="4"))


def test_a_family_is_a_clade_and_an_owner_a_beginning(cursor):
    founders = dict(cursor.execute("SELECT repo_id, founder FROM model").fetchall())
    edges = cursor.execute("SELECT child, parent FROM edge").fetchall()
    for family in set(founders.values()):
        found = {(one.child, one.parent) for one in audit_all(cursor, family=family)}
        assert found == {edge for edge in edges if founders[edge[0]] == family}
    for owner in {child.split("/")[0] for child, _ in edges} | {"ze", "nobody"}:
        found = {(one.child, one.parent) for one in audit_all(cursor, owner=owner)}
        assert found == {edge for edge in edges if edge[0].split("/")[0] == owner}


# -- files --------------------------------------------------------------------------------------


def test_the_files_hold_what_is_filtered(files, cursor):
    offered = files(verdict="contradicted")
    rows = list(csv.DictReader(io.StringIO(offered["2 edges (CSV)"]())))
    assert {row["child"] for row in rows} == {"liar/claims-base-b", QUANTISED}
    assert json.loads(offered["2 edges (JSON)"]())[0]["verdict"] == "contradicted"
    whole = all_conflicts(cursor)
    conflicts = files(subject="licences")
    n = f"{len(whole)} conflicts"
    assert next(csv.DictReader(io.StringIO(conflicts[f"{n} (CSV)"]())))["child"] == whole[0].child
    line = json.loads(files(subject="quantisations")["1 quantisation (JSON)"]())[0]
    assert json.loads(line["declared"])[0]["source"] == "card"


def test_parquet_reads_back(files, tmp_path, cursor):
    import pyarrow.parquet as pq

    path = tmp_path / "conflicts.parquet"
    n = len(all_conflicts(cursor))
    path.write_bytes(files(subject="licences")[f"{n} conflicts (Parquet)"]())
    assert pq.read_table(path).to_pylist()[0] == {
        name: values[0] for name, values in conflict_columns(all_conflicts(cursor)).items()
    }


def test_a_name_that_a_spreadsheet_would_run_is_no_formula(cursor):
    edges = audit_all(cursor)
    text = table_csv(edge_columns([*edges, edges[0].__class__(
        "=1+1/x", *(getattr(edges[0], name) for name in edges[0].__slots__[1:]))]))  # fmt: skip
    assert text.splitlines()[-1].startswith("'=1+1/x,")

"""The page Owner: counts against naive sums, pages, near names, and every state."""

from __future__ import annotations

import json

import pytest

from evidence_register import make_register
from lineage.store.publication import connect_publication, read_manifest
from lineage.views.ownership import ORDERS, near_owners, owner, owner_models, top_owners
from page_driver import asked, labels, markup, open_page
from synthetic import MODELS

OWNERS = sorted({row[0].split("/")[0] for row in MODELS})


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return make_register(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def cursor(tmp_path_factory):
    # A file of its own: one process opens a publication once.
    home = make_register(tmp_path_factory.mktemp("questions"))
    connection = connect_publication(home, read_manifest(home))
    yield connection.cursor()
    connection.close()


@pytest.fixture
def visit(home, monkeypatch):
    monkeypatch.setenv("HERDBOOK_HOME", str(home.root))
    return lambda **query: open_page("owner", **query)


def of(name):
    return name.split("/")[0]


def edges():
    return [(child, *parent) for child, _, _, parents, _ in MODELS for parent in parents]


@pytest.mark.parametrize("name", OWNERS)
def test_an_owner_comes_to_the_sum_of_their_models(cursor, name):
    found = owner(cursor, name)
    own = [i for i, row in enumerate(MODELS) if of(row[0]) == name]
    assert found.n_models == len(own)
    assert found.n_derived == sum(bool(MODELS[i][3]) for i in own)
    assert found.downloads_30d == sum(10_000 // (i + 1) for i in own)
    assert found.likes == sum(50 - i for i in own)
    standing = [one for one in edges() if one[3] != "contradicted"]
    assert found.n_built_upon == len(
        {one[0] for one in standing if of(one[1]) == name and of(one[0]) != name}
    )
    assert found.verdicts == {
        verdict: n
        for verdict in ("confirmed", "contradicted", "undeclared", "unverified")
        if (n := sum(of(one[0]) == name and one[3] == verdict for one in edges()))
    }
    strangers = [one for one in standing if of(one[0]) == name and of(one[1]) != name]
    assert {(one.name, one.n_models) for one in found.parents} == {
        (parent, len({one[0] for one in strangers if one[1] == parent}))
        for parent in {one[1] for one in strangers}
    }
    users = [one for one in standing if of(one[1]) == name and of(one[0]) != name]
    assert {(one.name, one.n_models) for one in found.users} == {
        (user, len({one[0] for one in users if of(one[0]) == user}))
        for user in {of(one[0]) for one in users}
    }


@pytest.mark.parametrize("name", ["", "nobody", "ZEN", "ze", "zen/chat", "zen/", "%", "'; DROP --"])
def test_what_is_no_owner_is_none(cursor, name):
    assert owner(cursor, name) is None


def test_an_owner_whose_name_begins_another_is_not_mixed_with_it(tmp_path):
    import duckdb

    home = make_register(tmp_path)
    path = home.published / "register-1.duckdb"
    with duckdb.connect(str(path)) as connection:
        for old, new in (
            ("shy/gated-tune", "zen-2/one"), ("gone/away", "zen0"), ("lonely/unrelated", "zen"),
        ):  # fmt: skip
            connection.execute("UPDATE model SET repo_id = ? WHERE repo_id = ?", [new, old])
    connection = duckdb.connect(str(path), read_only=True)
    names = [card.repo_id for card in owner_models(connection, "zen", "name", 99)]
    connection.close()
    assert names == ["zen", "zen/chat", "zen/chat-v2", "zen/chat-v2-GGUF"]


def test_models_come_in_pages_and_in_four_orders(cursor):
    for order in ORDERS:
        whole = [card.repo_id for card in owner_models(cursor, "zen", order, 99)]
        paged = [
            card.repo_id for at in range(4) for card in owner_models(cursor, "zen", order, 1, at)
        ]
        assert whole == paged
        assert len(whole) == 3
    by = {order: [c.repo_id for c in owner_models(cursor, "zen", order, 99)] for order in ORDERS}
    assert by["newest"] == ["zen/chat-v2-GGUF", "zen/chat-v2", "zen/chat"]
    assert by["downloads"] == by["descendants"] == by["name"]


def test_near_and_top_owners(cursor):
    assert near_owners(cursor, "blendd")[0].name == "blend"
    assert [one.name for one in near_owners(cursor, "ACMEE")] == ["acme"]
    assert near_owners(cursor, "qqqqqq") == ()
    top = top_owners(cursor, 2)
    assert [one.name for one in top] == ["zen", "other"]
    assert [one.n_children for one in top] == sorted((one.n_children for one in top), reverse=True)


# -- the page -----------------------------------------------------------------------------------


def test_an_owner_shows_counts_relations_models_and_files(visit):
    app = visit(name="zen")
    text = markup(app)
    for words in (
        "3 models, 10 Mar 2024 to 29 May 2024", "models that others made of these",
        'data-go="lineage?model=acme%2Fbase-a-7b"', 'data-go="owner?name=blend"',
        'data-go="audit?verdict=undeclared&amp;owner=zen"', "5,000 downloads in 30 days",
    ):  # fmt: skip
        assert words in text
    assert labels(app) == [f"3 models ({name})" for name in ("CSV", "JSON", "Parquet")]
    assert list(app.dataframe[0].value["repo_id"]) == [
        "zen/chat",
        "zen/chat-v2",
        "zen/chat-v2-GGUF",
    ]


def test_the_order_and_the_page_come_from_the_address(visit, monkeypatch):
    from lineage.explorer.pages import owner as page

    monkeypatch.setattr(page, "_PER_PAGE", 2)
    first = visit(name="zen", order="newest")
    assert list(first.dataframe[0].value["repo_id"]) == ["zen/chat-v2-GGUF", "zen/chat-v2"]
    assert "page 1 of 2" in markup(first)
    second = visit(name="zen", order="newest", page="2")
    assert list(second.dataframe[0].value["repo_id"]) == ["zen/chat"]
    assert "No such page" in markup(visit(name="zen", page="77"))
    second.segmented_control[0].set_value("name").run()
    assert asked(second, "order") == "name"
    assert "page" not in second.query_params


@pytest.mark.parametrize("page", ["0", "-1", "x", "²", "9" * 40])
def test_every_page_number_is_survived(visit, page):
    assert "3 models" in markup(visit(name="zen", page=page, order="<b>"))


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({}, "Most built upon"),
        ({"name": "blendd"}, 'data-go="owner?name=blend"'),
        ({"name": "zen/chat"}, 'data-go="owner?name=zen"'),
        ({"name": "<script>alert(1)</script>"}, "knows no such owner"),
        ({"name": "x" * 4000}, "knows no such owner"),
        ({"name": "lonely"}, "No parent is known."),
        ({"name": "lonely"}, "Nobody in this register"),
    ],
)
def test_every_state_has_its_sentence(visit, query, words):
    text = markup(visit(**query))
    assert words in text
    assert "<script" not in text
    assert len(text) < 30_000


def test_files_hold_all_models_of_the_owner(home, monkeypatch):
    """The file is made when it is asked for: of more models than one page shows."""
    from lineage.explorer import table_files
    from lineage.explorer.pages import owner as page

    made = []
    monkeypatch.setattr(page, "_PER_PAGE", 1)
    monkeypatch.setattr(
        table_files.st, "download_button", lambda label, data, **_: made.append((label, data))
    )
    monkeypatch.setenv("HERDBOOK_HOME", str(home.root))
    open_page("owner", name="zen")
    files = dict(made)
    assert [row["repo_id"] for row in json.loads(files["3 models (JSON)"]())] == [
        "zen/chat", "zen/chat-v2", "zen/chat-v2-GGUF",
    ]  # fmt: skip

"""The atlas: its file beside the publication, its windows, its image and its page."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from atlas_home import CROWD, FIRST_OF_CROWD, make_atlas_home
from lineage.errors import NotFoundError, SchemaError
from lineage.explorer.atlas_component import MOST_BYTES, MapView, Request, pack_answer
from lineage.explorer.atlas_drawing import Links, band_edges, draw_atlas
from lineage.explorer.atlas_words import COLOURINGS
from lineage.model import Kind
from lineage.pipeline.publish import publish
from lineage.store.atlas import VERSION, open_atlas, read_forest, write_atlas
from lineage.store.atlas_tiles import (
    BASE_ROWS,
    FACETS,
    LEAF_MODELS,
    TILE_ROWS,
    UNDATED,
    time_bins,
)
from lineage.store.home import Home
from lineage.store.publication import read_manifest
from lineage.store.publish import open_published
from lineage.store.schema import PUBLISHED, SCHEMA_VERSION
from lineage.views import atlas as views
from registers import found, make_home
from synthetic import HOSTILE, MODELS, START, make_publication
from test_atlas_tiles import make_forest

APP = Path(__file__).resolve().parents[1] / "app.py"
N = FIRST_OF_CROWD + CROWD


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return make_atlas_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def atlas(home):
    return open_atlas(home, read_manifest(home))


@pytest.fixture
def cursor(home):
    with open_published(home) as connection:
        yield connection


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """An atlas of forty thousand models, without a database."""
    home = without_database(tmp_path_factory.mktemp("large"), make_forest(40_000, 11))
    return open_atlas(home, read_manifest(home))


def without_database(folder, forest):
    """A folder of publications that holds an atlas and its manifest only."""
    home = Home(folder)
    home.prepare()
    manifest = {"schema_version": SCHEMA_VERSION, "data_date": "2024-12-01T00:00:00Z",
                "sha256": "0" * 64, "file": "none.duckdb", "herdbook_version": "0"}  # fmt: skip
    (home.published / "manifest.json").write_text(json.dumps(manifest))
    write_atlas(forest, home.published / "some.atlas")
    name_atlas(home, home.published / "some.atlas")
    return home


@pytest.fixture
def tables():
    """A database with three models, a parent and its two children, to be altered."""
    with duckdb.connect() as connection:
        for table in PUBLISHED:
            if table.name in {"model", "edge"}:
                connection.execute(table.ddl())
        connection.execute(
            "INSERT INTO model BY NAME SELECT 'a/m' || i AS repo_id, 'ok' AS status, "
            "TIMESTAMPTZ '2024-06-01 00:00:00+00' AS observed_at, 'a/m0' AS founder, "
            "TIMESTAMPTZ '2024-01-10 00:00:00+00' + to_days(i::INTEGER) AS created_at, "
            "0 AS generation, 0 AS n_parents, 0 AS n_children, 0 AS n_descendants, i AS pos, "
            "CASE WHEN i = 0 THEN 3 ELSE 1 END AS size, 0 AS n_claims, 0 AS n_problems "
            "FROM range(3) t(i)"
        )
        connection.execute(
            "INSERT INTO edge BY NAME SELECT 'a/m' || i AS child, 'a/m0' AS parent, "
            "0 AS position, 'finetune' AS relation, 'confirmed' AS verdict, 'proved' AS grade, "
            "'[]' AS evidence, i AS child_pos, 0 AS parent_pos FROM range(1, 3) t(i)"
        )
        yield connection


def name_atlas(home, path):
    manifest = json.loads((home.published / "manifest.json").read_text())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest["companions"] = {"atlas": {"file": path.name, "sha256": digest}}
    (home.published / "manifest.json").write_text(json.dumps(manifest))


# -- the file -----------------------------------------------------------------------------------


def test_a_publication_brings_its_atlas_and_names_it(tmp_path):
    family = [
        found("a/base"), found("a/chat", "a/base"), found("b/code", "a/base"),
        found("m/mix", "a/chat", "b/code", kind=Kind.MERGE), found("z/alone"),
    ]  # fmt: skip
    home = make_home(tmp_path / "home", family, [("a/chat", "a/base"), ("z/alone", "far/away")])
    publish(home)
    manifest = read_manifest(home)
    assert manifest.companions["atlas"].file == Path(manifest.file).stem + ".atlas"
    atlas = open_atlas(home, manifest)
    assert (atlas.n_models, atlas.n_leaves, atlas.levels) == (5, 1, (1,))
    with open_published(home) as connection:
        forest = read_forest(connection)
        rows = connection.execute(
            "SELECT child.pos, parent.pos FROM model child "
            "JOIN model parent ON parent.repo_id = child.primary_parent"
        ).fetchall()
    above = {child: parent for child, parent in enumerate(forest.parent.tolist()) if parent >= 0}
    assert above == dict(rows)
    assert len(above) == 3


def test_categories_are_those_of_the_register(home, cursor):
    forest = read_forest(cursor)
    position = dict(cursor.execute("SELECT repo_id, pos FROM model").fetchall())

    def told(name):
        codes = forest.codes[position[name]].tolist()
        words = {f.name: f.categories[code] for f, code in zip(FACETS, codes, strict=True)}
        return [words["relation"], words["verdict"], words["status"]]

    assert told("acme/base-a-7b") == ["founder", "none", "ok"]
    assert told("zen/chat") == ["finetune", "confirmed", "ok"]
    assert told("blend/slerp-a-b") == ["merge", "undeclared", "ok"]
    assert told("liar/claims-base-b") == ["finetune", "contradicted", "ok"]
    assert told("lost/child-of-ghost") == ["finetune", "unverified", "ok"]
    assert told("shy/gated-tune")[2] == "gated"
    assert told("gone/away")[2] == "gone"
    assert told("zen/chat-v2-GGUF")[0] == "quantized"


@pytest.mark.parametrize(
    ("column", "value", "facet", "category"),
    [
        ("licence", "Apache-2.0", "licence", "permissive"),
        ("licence", "GPL-3.0", "licence", "copyleft"),
        ("licence", "CC-BY-NC-4.0", "licence", "non_commercial"),
        ("licence", None, "licence", "unknown"),
        ("licence", "'; DROP TABLE model; --", "licence", "unknown"),
        ("status", "surprising", "status", "unknown"),
    ],
)
def test_unforeseen_words_have_a_category_too(tables, column, value, facet, category):
    tables.execute(f"UPDATE model SET {column} = ?", [value])
    at = [item.name for item in FACETS].index(facet)
    codes = set(read_forest(tables).codes[:, at].tolist())
    assert codes == {FACETS[at].categories.index(category)}


def test_the_gravest_verdict_counts_and_a_contradicted_parent_is_no_parent(tables):
    tables.execute("UPDATE edge SET position = 1")
    tables.execute(
        "INSERT INTO edge BY NAME SELECT 'a/m2' AS child, 'a/m1' AS parent, 0 AS position, "
        "'merge' AS relation, 'contradicted' AS verdict, 'declared' AS grade, '[]' AS evidence, "
        "2 AS child_pos, 1 AS parent_pos"
    )
    forest = read_forest(tables)
    assert forest.parent.tolist() == [-1, 0, 0]
    relation, verdict = FACETS[0].categories, FACETS[2].categories
    assert [relation[code] for code in forest.codes[:, 0]] == ["founder", "finetune", "finetune"]
    assert [verdict[code] for code in forest.codes[:, 2]] == ["none", "confirmed", "contradicted"]
    tables.execute("UPDATE edge SET relation = 'conjured', parent_pos = NULL WHERE position = 1")
    forest = read_forest(tables)
    assert forest.parent.tolist() == [-1, -1, -1]  # named, but outside the catalogue
    assert [relation[code] for code in forest.codes[:, 0]] == ["founder", "unknown", "unknown"]


@pytest.mark.parametrize(
    "when",
    ["infinity", "-infinity", "0001-01-01", "2005-04-06", "9999-01-01", None],
)
def test_dates_that_cannot_be_are_no_dates(tables, when):
    tables.execute("UPDATE model SET created_at = $when::TIMESTAMPTZ WHERE pos = 1", {"when": when})
    forest = read_forest(tables)
    assert (forest.created == UNDATED).tolist() == [False, True, False]
    assert time_bins(forest.created).n_bins == 1  # January 2024, as without that model


def test_a_model_may_be_seen_a_day_before_its_clock_says_it_was_made(tables):
    tables.execute("UPDATE model SET created_at = observed_at + INTERVAL 23 HOUR")
    assert not (read_forest(tables).created == UNDATED).any()
    tables.execute("UPDATE model SET created_at = observed_at + INTERVAL 25 HOUR")
    assert (read_forest(tables).created == UNDATED).all()


def test_tiles_are_found_by_their_numbers_and_no_others_exist(atlas):
    assert atlas.n_models == N
    assert atlas.n_tiles == atlas.n_leaves + sum(atlas.levels)
    assert sum(len(atlas.leaf(tile).seconds) for tile in range(atlas.n_leaves)) == N
    for level, n_tiles in enumerate(atlas.levels):
        relations = len(FACETS[0].categories)
        tiles = [atlas.cells(level, tile).counts[:, :relations].sum() for tile in range(n_tiles)]
        assert sum(tiles) == N
    for number in (-1, atlas.n_tiles):
        with pytest.raises(IndexError, match="not"):
            atlas.block(number)


def test_an_atlas_that_is_missing_says_what_to_do(tmp_path):
    home = without_database(tmp_path, make_forest(17, 1))
    manifest = read_manifest(home)
    with pytest.raises(NotFoundError, match="herdbook publish"):
        open_atlas(home, replace(manifest, companions={}))
    (home.published / "some.atlas").unlink()
    with pytest.raises(NotFoundError, match="herdbook publish"):
        open_atlas(home, manifest)


def _other_version(data):
    return data[:8] + (VERSION + 1).to_bytes(4, "little") + data[12:]


def _other_levels(data):
    return data.replace(b'"levels": [3, 2, 1]', b'"levels": [2, 3, 1]')


@pytest.mark.parametrize(
    "damage",
    [
        _other_version,
        _other_levels,
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: b"HERDATLX" + data[8:],
        lambda data: data.replace(b'"relation"', b'"religion"'),
        lambda data: data[:12] + b"\xff\xff\xff\x7f" + data[16:],
        lambda data: data[:10],
        lambda data: data.replace(b'"n_models": 5000', b'"n_models": "M"'),
    ],
)
def test_a_foreign_or_damaged_atlas_is_refused(tmp_path, damage):
    home = without_database(tmp_path, make_forest(5000, 1))
    path = home.published / "some.atlas"
    data = path.read_bytes()
    assert damage(data) != data
    path.write_bytes(damage(data))
    with pytest.raises(SchemaError, match="sha256 differs"):
        open_atlas(home, read_manifest(home))
    name_atlas(home, path)
    with pytest.raises(SchemaError, match="cannot be read"):
        open_atlas(home, read_manifest(home))


# -- windows ------------------------------------------------------------------------------------

numbers = st.floats(-1e300, 1e300, allow_nan=False)
times = st.floats(-6e10, 2.5e11).map(lambda s: datetime.fromtimestamp(s, UTC))


@settings(max_examples=200)
@given(st.none() | numbers, numbers, st.none() | times, numbers, st.integers(200, 2000))
def test_any_window_lies_in_the_forest_and_takes_few_marks(
    large, position, zoom, when, time_zoom, height
):
    window = views.window_at(large, position, zoom, when, time_zoom)
    assert 0 <= window.first <= window.first + window.rows <= large.n_models + 1e-6
    assert window.rows >= 14
    assert 0 <= window.since <= window.since + window.span <= views.whole_span(large) + 1e-3
    tiles = views.tiles_of(large, window, height)
    assert tiles
    if window.rows <= views.MOST_SINGLE:
        covered = range(tiles[0] * LEAF_MODELS, (tiles[-1] + 1) * LEAF_MODELS)
        assert len(tiles) * LEAF_MODELS <= 5000
    else:
        level = views.level_of(large, window, height)
        size = TILE_ROWS * (BASE_ROWS << level)
        begin = large.number(level, 0)
        covered = range((tiles[0] - begin) * size, (tiles[-1] - begin + 1) * size)
    first, last = window.positions
    assert covered.start <= first
    assert min(last, large.n_models - 1) < covered.stop


def test_a_window_of_usual_height_has_at_most_five_thousand_cells(large):
    for rows in range(3100, large.n_models, 500):
        for first in range(0, large.n_models - rows, 2900):
            window = views.Window(first, rows, 0, 1)
            level = views.level_of(large, window, 640)
            begin = large.number(level, 0)
            tiles = views.tiles_of(large, window, 640)
            assert sum(len(large.cells(level, tile - begin).row) for tile in tiles) <= 5000


def test_a_window_is_where_it_was_asked_for(atlas):
    window = views.window_at(atlas, 2000, 3, START + timedelta(days=100), 2)
    assert window.first + window.rows / 2 == pytest.approx(2000)
    assert window.rows == pytest.approx(N / 8)
    middle = atlas.bins.start + window.since + window.span / 2
    assert middle == pytest.approx((START + timedelta(days=100)).timestamp())
    assert window.span == pytest.approx(views.whole_span(atlas) / 4)
    assert views.window_of(atlas, 100, 50).rows == pytest.approx(50)


def test_contents_name_the_clades_families_and_models_of_the_window(atlas, cursor):
    whole = views.contents(cursor, atlas, views.window_at(atlas))
    assert whole.families[0].repo_id == "crowd/model-0"
    assert (whole.families[0].n_here, whole.families[0].size) == (CROWD, CROWD)
    assert whole.models[0].repo_id == "crowd/model-0"
    assert [clade.repo_id for clade in whole.around] == ["crowd/model-0"]
    inside = views.contents(cursor, atlas, views.window_of(atlas, 100, 20))
    assert [clade.repo_id for clade in inside.around] == ["crowd/model-0"]
    assert inside.families[0].n_here == 20
    assert {model.position for model in inside.models} == set(range(100, 120))


def test_clades_of_a_window_are_large_enough_and_do_not_overlap(atlas, cursor):
    seen = views.contents(cursor, atlas, views.window_of(atlas, 0, FIRST_OF_CROWD))
    sizes = dict(cursor.execute("SELECT repo_id, size FROM model").fetchall())
    assert {clade.repo_id for clade in seen.inside} == {"acme/base-a-7b", "other/base-b"}
    for a in seen.inside:
        assert a.size == sizes[a.repo_id] >= 2
        for b in seen.inside:
            apart = a.position + a.size <= b.position or b.position + b.size <= a.position
            assert a is b or apart


def test_a_part_of_time_holds_only_models_with_a_date_in_it(atlas, cursor):
    window = views.window_at(atlas, 2000, 3, START + timedelta(days=410), 5)
    seen = views.contents(cursor, atlas, window, n_models=1000)
    begin = datetime.fromtimestamp(atlas.bins.start, UTC) + timedelta(seconds=window.since)
    assert seen.models
    for model in seen.models:
        assert begin <= model.created_at <= begin + timedelta(seconds=window.span)
    rows = cursor.execute(
        "SELECT count(*) FROM model WHERE pos BETWEEN ? AND ? AND created_at BETWEEN ? AND ?",
        [*window.positions, begin, begin + timedelta(seconds=window.span)],
    ).fetchall()
    assert rows == [(len(seen.models),)]


# -- what the browser is sent -------------------------------------------------------------------


def unpack(answer):
    length = int.from_bytes(answer[:4], "little")
    return json.loads(answer[4 : 4 + length]), answer[4 + length :]


def view_of(atlas, window, spot=None):
    return MapView(window, "||||", "relation", spot, (), "d" * 16, "Map")


def test_an_answer_holds_the_tiles_asked_for_and_the_names_of_single_models(atlas, cursor):
    first_counts = atlas.number(0, 0)
    head, rest = unpack(
        pack_answer(
            cursor, atlas, view_of(atlas, views.window_at(atlas)), Request((0, first_counts), 7)
        )
    )
    assert head["answers"] == 7
    assert [number for number, _ in head["tiles"]] == [0, first_counts]
    assert rest == atlas.block(0) + atlas.block(first_counts)
    assert list(head["names"]) == ["0"]
    assert len(head["names"]["0"]) == LEAF_MODELS
    assert HOSTILE in head["names"]["0"]
    assert [len(kinds) for kinds in head["facets"].values()] == [len(f.categories) for f in FACETS]


@pytest.mark.parametrize(("letter", "n_sent"), [("🐏", 3), ("\x01", 2), ('"', 3), ("a", 2)])
def test_an_answer_stays_within_its_budget_whatever_the_names(large, letter, n_sent):
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE model AS SELECT repeat(?, 500) || i AS repo_id, i AS pos "
            "FROM range(40000) t(i)",
            [letter],
        )
        view = view_of(large, views.window_at(large))
        answer = pack_answer(connection, large, view, Request((0, 1, 2), 1))
    assert len(answer) <= MOST_BYTES
    head, _ = unpack(answer)
    # Those that are not sent are asked for again.
    assert [number for number, _ in head["tiles"]] == [0, 1, 2][:n_sent]


@pytest.mark.parametrize(
    "asked",
    [None, 3, [], {"tiles": None}, {"tiles": "01"}, {"tiles": [-1, 10**30, 1.0, True, "0", None]},
     {"tiles": {"0": 1}}],
)  # fmt: skip
def test_nonsense_asks_for_nothing(asked):
    assert Request.read(asked, 100).tiles == ()


def test_a_request_is_cut_to_eight_different_tiles():
    asked = {"tiles": [5, 5, *range(50)], "serial": 3}
    assert Request.read(asked, 100) == Request((5, 0, 1, 2, 3, 4, 6, 7), 3)
    assert Request.read({"tiles": [1], "serial": "x"}, 100) == Request((1,), 0)


def test_colourings_are_those_of_the_file():
    assert list(COLOURINGS) == [facet.name for facet in FACETS]
    for facet in FACETS:
        assert len(COLOURINGS[facet.name].categories) == len(facet.categories)


# -- the image ----------------------------------------------------------------------------------

SVG = "{http://www.w3.org/2000/svg}"


def bars(svg):
    """Number of bars by colour."""
    root = ElementTree.fromstring(svg)
    paths = [path for path in root.iter(f"{SVG}path") if path.get("class", "").startswith("k-")]
    return {path.get("class"): path.get("d").count("M") for path in paths}


@pytest.mark.parametrize("colour", list(COLOURINGS))
def test_the_image_of_counts_has_a_bar_for_each_category_of_each_cell(atlas, colour):
    window = views.window_at(atlas)
    level = views.level_of(atlas, window, 560)
    facet = list(COLOURINGS).index(colour)
    begin = sum(len(item.categories) for item in FACETS[:facet])
    expected: dict[str, int] = {}
    for tile in range(atlas.levels[level]):
        counts = atlas.cells(level, tile).counts
        for code, category in enumerate(COLOURINGS[colour].categories):
            if n := int((counts[:, begin + code] > 0).sum()):
                key = f"k-{category.colour}"
                expected[key] = expected.get(key, 0) + n
    svg = draw_atlas(atlas, window, colour)
    assert bars(svg) == expected
    assert len(svg) < 500_000


def test_the_image_of_single_models_has_a_mark_for_each(atlas):
    svg = draw_atlas(atlas, views.window_of(atlas, 0, 1000), "relation")
    assert sum(bars(svg).values()) == 1000
    assert len(svg) < 500_000


def test_the_image_shows_lines_that_come_down_from_above_it(atlas):
    window = views.window_of(atlas, FIRST_OF_CROWD + 100, 30)
    elbows = re.search(r'd="([^"]*)" class="elbow"', draw_atlas(atlas, window, "relation"))
    assert re.search(r"M[\d.]+ 36\.0V596\.0", elbows[1])  # the founder's, from edge to edge


def test_the_bars_of_a_cell_stand_on_each_other_and_fit_their_row(atlas):
    svg = draw_atlas(atlas, views.window_at(atlas), "relation")
    row_height = 560 * atlas.rows_of(0) / N
    by_cell: dict[tuple[str, int], list[tuple[float, float]]] = {}
    pieces = re.findall(r"M([\d.]+) ([\d.]+)h[\d.]+v([\d.]+)h-", svg)
    for x, y, height in pieces:
        row = math.floor((float(y) + float(height) / 2 - 36) / row_height)
        by_cell.setdefault((x, row), []).append((float(y), float(height)))
    for (_, row), parts in by_cell.items():
        bottom = 36 + (row + 1) * row_height
        for y, height in sorted(parts, reverse=True):
            assert y + height == pytest.approx(bottom, abs=0.05)
            bottom = y
        assert bottom >= 36 + row * row_height


def test_bands_cover_the_window_once():
    for window in (
        views.Window(0, 17, 0, 1),
        views.Window(3, 4000, 0, 1),
        views.Window(0, 1, 0, 1),
    ):
        bands = band_edges(window)
        assert len(bands) <= 8
        listed = [position for begin, end in bands for position in range(begin, end + 1)]
        first, last = window.positions
        assert listed == list(range(first, last + 1))


def test_a_hostile_name_is_text_in_the_image(atlas, cursor):
    names = views.names_at(cursor, 0, FIRST_OF_CROWD - 1)
    links = Links(lambda a, b: f"atlas?y={a}", lambda name: f"lineage?model={len(name)}")
    svg = draw_atlas(
        atlas, views.window_of(atlas, 0, FIRST_OF_CROWD), "verdict", names=names, links=links
    )
    root = ElementTree.fromstring(svg)
    assert not list(root.iter(f"{SVG}img"))
    assert HOSTILE in {link.get("aria-label") for link in root.iter(f"{SVG}a")}
    assert len(list(root.iter(f"{SVG}a"))) == FIRST_OF_CROWD


# -- the page -----------------------------------------------------------------------------------


@pytest.fixture
def visit(home, monkeypatch):
    monkeypatch.setenv("HERDBOOK_HOME", str(home.root))
    return open_page


def open_page(**query):
    app = AppTest.from_file(str(APP), default_timeout=30)
    app._page_hash = calc_hash("atlas")
    for key, value in query.items():
        app.query_params[key] = value
    app.run()
    assert not app.exception
    return app


def panels(app):
    protos = [item.proto for item in app.main if item.type == "bidi_component"]
    return "".join(json.loads(proto.json)["markup"] for proto in protos if proto.json)


def head_of(app):
    (packed,) = [item.proto.bytes for item in app.main
                 if item.type == "bidi_component" and item.proto.bytes]  # fmt: skip
    return unpack(packed)[0]


def test_the_page_shows_the_whole_forest_and_lists_what_is_in_view(visit):
    app = visit()
    head = head_of(app)
    assert head["view"] == {"first": 0, "rows": N, "since": 0, "span": head["view"]["span"]}
    assert head["tiles"]
    text = panels(app)
    assert f"All {N:,} models" in text
    assert "Largest families in view" in text
    assert 'data-go="lineage?model=crowd%2Fmodel-0"' in text


def test_a_deep_link_centres_on_a_model(visit):
    app = visit(model="zen/chat", colour="verdict")
    head = head_of(app)
    position = head["mark"]["row"]
    assert head["names"]["0"][position] == "zen/chat"
    assert head["view"]["first"] <= position <= head["view"]["first"] + head["view"]["rows"]
    assert head["view"]["rows"] == pytest.approx(40)
    assert head["colour"] == "verdict"
    assert "zen/" in panels(app)


@pytest.mark.parametrize(
    "query",
    [
        {"x": "nonsense", "y": "nan", "z": "inf", "t": "-inf", "colour": "octarine"},
        {"x": "9" * 500, "y": "1" * 500, "z": "1e999", "t": "0x10"},
        {"x": "0001-01-01", "y": "-1e308", "z": "-4", "t": "1e308"},
        {"x": "9999-12-31T23:59:59+14:00", "y": "1e308", "z": "1e308"},
        {"x": "0001-01-01T00:00:00+14:00"},
        {"x": "<script>", "y": "١٢", "model": "'; DROP TABLE model; --", "view": "x"},
        {"model": "\u202e\x00" + "m" * 5000},
        {"y": ["1", "2"], "z": ["3", "4"], "model": ["zen/chat", "zen/chat-v2"]},
    ],
)
def test_hostile_addresses_show_a_window_and_no_exception(visit, query):
    head = head_of(visit(**query))
    view = head["view"]
    assert 0 <= view["first"] <= view["first"] + view["rows"] <= N + 1e-6
    assert 0 <= view["since"] <= view["since"] + view["span"] <= head["atlas"]["edges"][-1] + 1e-3
    assert head["colour"] == "relation"


def test_an_unknown_model_has_its_sentence(visit):
    text = panels(visit(model="zen/<b>nobody</b>"))
    assert "holds no model called" in text
    assert "&lt;b&gt;" in text
    assert "<b>nobody" not in text


def test_the_image_can_be_asked_for_and_carries_its_download(visit):
    app = visit(view="image", colour="licence")
    text = panels(app)
    assert "coloured by licence" in text
    assert "non-commercial" in text
    assert len(re.findall('class="band-link"', text)) == 8
    assert 'colour=licence&amp;view=image"' in text
    deep = panels(visit(view="image", y="100", z="8.2"))
    assert 'data-go="lineage?model=crowd%2Fmodel-80"' in deep


def test_without_an_atlas_the_page_says_how_to_make_one(tmp_path, monkeypatch):
    monkeypatch.setenv("HERDBOOK_HOME", str(make_publication(tmp_path).root))
    text = panels(open_page())
    assert "This publication has no atlas" in text
    assert "herdbook publish" in text


def test_a_register_of_few_models_has_an_atlas_too(tmp_path, monkeypatch):
    monkeypatch.setenv("HERDBOOK_HOME", str(make_atlas_home(tmp_path, crowd=0).root))
    assert head_of(open_page())["view"]["rows"] == len(MODELS)
    assert f"All {len(MODELS)} models" in panels(open_page(z="99", view="image"))


def test_a_forest_without_any_date_is_one_lane(tmp_path):
    home = without_database(tmp_path, make_forest(5000, 2, undated=1.0))
    atlas = open_atlas(home, read_manifest(home))
    window = views.window_at(atlas)
    assert (atlas.n_undated, atlas.bins.n_bins, views.whole_span(atlas)) == (5000, 0, 1)
    svg = draw_atlas(atlas, window, "relation")
    assert "no date" in svg
    assert sum(bars(svg).values()) > 0

"""What edges show by layer: against naive sums, against ``explain``, from infer to publish."""

from __future__ import annotations

from dataclasses import replace

import duckdb
import numpy as np
import pytest

from lineage.infer.edge_layers import EdgeLayer, describe_parents
from lineage.model import Finding, Grade, Kind, LayerSource, ParentShare
from lineage.pipeline import edge_layers
from lineage.pipeline.explain import explain
from lineage.pipeline.infer import infer
from lineage.pipeline.publish import publish
from lineage.store.edge_layers import described_edges
from lineage.store.fingerprint_ledger import record_fingerprints
from lineage.store.fingerprint_parts import Provenance, StoredModel, write_part
from lineage.store.home import Home
from lineage.weights.encodings import round_to
from lineage.weights.fingerprint import Fingerprint, Sample
from lineage.weights.roles import TensorKey
from registers import START, add_claim, add_model
from simulated import LAYERS, Herd, fingerprint, stored


def catalogue():
    herd = Herd(11)
    base, other = stored(herd.founder()), stored(herd.founder())
    one, two = herd.train(base, 0.01, text=1), herd.train(base, 0.03, text=2)
    merged = {
        key: round_to("BF16", np.float32(0.6) * one[key] + np.float32(0.4) * two[key])
        for key in one
    }
    kept = (0, 2, 3)
    pruned = {key: values for key, values in base.items() if key.layer < 0} | {
        replace(key, layer=place): base[replace(key, layer=source)]
        for place, source in enumerate(kept)
        for key in base
        if key.layer == source
    }
    half = {key: round_to("BF16", values) for key, values in one.items()} | {
        key: base[key] for key in base if key.layer in (0, 1)
    }
    return {
        "z/base": base, "z/other": other, "a/one": one, "b/two": two, "m/merged": merged,
        "p/pruned": pruned, "h/half": half,
    }  # fmt: skip


def adapter(name):
    factor = np.ones((4, 64), "<f4")
    key = TensorKey("q.lora_a", 0)
    sample = Sample("x", "F32", factor.shape, tuple(range(4)), factor.tobytes())
    return Fingerprint(name, "0" * 40, "probe-2", "adapter", {key: sample})


@pytest.fixture(scope="module")
def models():
    return catalogue()


@pytest.fixture(scope="module")
def home(tmp_path_factory, models):
    home = Home(tmp_path_factory.mktemp("layers"))
    home.prepare()
    prints = [fingerprint(name, weights) for name, weights in models.items()]
    prints.append(adapter("l/adapter"))
    made = Provenance(START, "0.1.0")
    part = write_part(home.fingerprints, [StoredModel(one, None, made) for one in prints])
    with home.open_working() as connection:
        for day, one in enumerate(prints):
            add_model(connection, one.repo_id, day=day)
        add_model(connection, "gone/unread", status="gated")
        record_fingerprints(connection, part.rows)
        add_claim(connection, "a/one", "z/other")
        add_claim(connection, "a/one", "gone/unread")
        add_claim(connection, "l/adapter", "z/base")
    with pytest.MonkeyPatch.context() as patch:  # as if there were far more models than fit
        patch.setattr(edge_layers, "_CHILDREN_AT_ONCE", 2)
        infer(home)
    return home


def rows_of(home, child, parent, table="edge_layer"):
    with duckdb.connect(str(home.database)) as connection:
        return connection.execute(
            f"SELECT * FROM {table} WHERE child = ? AND parent = ? ORDER BY layer NULLS FIRST",
            [child, parent],
        ).fetchall()


def layers_of(home, child, parent):
    return [EdgeLayer(*row) for row in rows_of(home, child, parent)]


def described(home):
    with duckdb.connect(str(home.database)) as connection:
        return described_edges(connection)


def naive_layers(child, parent):
    """Equal values, values and relative change of each layer, a tensor at a time."""
    found = {}
    for key in child:
        if key in parent and child[key].shape == parent[key].shape:
            # Of a vector the fingerprint holds one row, which is all of it.
            x, y = child[key].astype("f8"), parent[key].astype("f8")
            layer = key.layer if key.layer >= 0 else None
            n, equal, moved, size = found.get(layer, (0, 0, 0.0, 0.0))
            found[layer] = (
                n + x.size, equal + (x == y).sum(), moved + ((x - y) ** 2).sum(),
                size + (y**2).sum(),
            )  # fmt: skip
    return {layer: (n, e, (m / s) ** 0.5) for layer, (n, e, m, s) in found.items()}


@pytest.mark.parametrize(
    ("child", "parent"), [("a/one", "z/base"), ("m/merged", "a/one"), ("a/one", "z/other")]
)
def test_sums_are_those_of_the_values_one_by_one(home, models, child, parent):
    expected = naive_layers(models[child], models[parent])
    found = layers_of(home, child, parent)
    assert [row.layer for row in found] == [None, *range(LAYERS)]
    for row in found:
        n_words, n_equal, change = expected[row.layer]
        assert (row.n_words, row.n_equal) == (n_words, n_equal)
        assert row.relative_change == pytest.approx(change)
        assert (row.n_codes, row.n_replayed, row.parent_layer) == (0, 0, row.layer)


def test_explain_tells_the_same(home):
    told = explain(home, "m/merged", "b/two").to_dict()
    kept = layers_of(home, "m/merged", "b/two")
    for said, row in zip(told["by_layer"], kept, strict=True):
        assert (said["layer"], said["n_words"], said["n_equal"]) == (
            row.layer, row.n_words, row.n_equal,
        )  # fmt: skip
        assert said["relative_change"] == pytest.approx(row.relative_change)
    fitted = {row["layer"]: row["coefficients"] for row in told["coefficients"]["by_layer"]}
    at = told["coefficients"]["parents"].index("b/two")
    assert [row.coefficient for row in kept] == [
        pytest.approx(fitted[row.layer][at]) for row in kept
    ]
    matrix = next(one for one in told["layer_match"] if list(one["roles"]) == ["up", "gate"])
    assert [list(row[4]) for row in rows_of(home, "m/merged", "b/two", "edge_match")] == [
        pytest.approx(row, abs=0.0501) for row in matrix["z"]
    ]


def test_coefficients_of_a_merge_are_its_shares_and_others_have_none(home):
    for parent, share in (("a/one", 0.6), ("b/two", 0.4)):
        for row in layers_of(home, "m/merged", parent):
            assert row.coefficient == pytest.approx(share, abs=0.02)
    assert all(row.coefficient is None for row in layers_of(home, "a/one", "z/base"))


def test_layers_of_a_pruned_model_are_held_against_those_they_came_from(home):
    rows = layers_of(home, "p/pruned", "z/base")
    assert [(row.layer, row.parent_layer) for row in rows] == [
        (None, None), (0, 0), (1, 2), (2, 3),
    ]  # fmt: skip
    assert all(row.n_equal == row.n_words for row in rows)
    z = np.array([row[4] for row in rows_of(home, "p/pruned", "z/base", "edge_match")])
    assert z.argmax(axis=1).tolist() == [0, 2, 3]


def test_untouched_layers_show(home):
    rows = {row.layer: row for row in layers_of(home, "h/half", "z/base")}
    untouched = [layer for layer, row in rows.items() if row.n_equal == row.n_words]
    assert untouched == [0, 1]


def test_found_and_declared_parents_are_described_if_both_were_read(home):
    found = described(home)
    assert {("a/one", "z/base"), ("a/one", "z/other"), ("m/merged", "a/one")} <= found
    assert not any("gone/unread" in pair for pair in found)
    strange = rows_of(home, "a/one", "z/other", "edge_match")
    assert max(abs(z) for row in strange for z in row[4]) < 8


def test_a_pair_of_which_nothing_compares_has_one_row_of_no_words(home):
    assert layers_of(home, "l/adapter", "z/base") == [
        EdgeLayer("l/adapter", "z/base", None, None, 0, 0, None, 0, 0, None)
    ]
    assert rows_of(home, "l/adapter", "z/base", "edge_match") == []


def test_a_publication_has_the_pairs_that_are_edges_in_order(home):
    publish(home)
    path = max(home.published.glob("herdbook-*.duckdb"))
    with duckdb.connect(str(path), read_only=True) as connection:
        edges = set(connection.execute("SELECT child, parent FROM edge").fetchall())
        pairs = connection.execute("SELECT child, parent, layer FROM edge_layer").fetchall()
    assert {(child, parent) for child, parent, _ in pairs} == edges & described(home)
    assert pairs == sorted(
        pairs, key=lambda row: (row[0], row[1], -1 if row[2] is None else row[2])
    )


def test_a_second_inference_adds_what_is_new_and_forgets_what_nobody_names(home, monkeypatch):
    asked = []
    real = edge_layers.describe_parents
    monkeypatch.setattr(
        edge_layers, "describe_parents",
        lambda child, parents, finding: asked.append(
            (child.repo_id, [one.repo_id for one in parents])
        ) or real(child, parents, finding),
    )  # fmt: skip
    before = described(home)
    infer(home)
    assert asked == []
    assert described(home) == before
    with home.open_working() as connection:
        add_claim(connection, "b/two", "z/other")
        connection.execute("UPDATE claim SET ended_at = first_seen WHERE child = 'a/one'")
    infer(home)
    assert asked == [("b/two", ["z/other"])]
    assert described(home) == before - {("a/one", "z/other")} | {("b/two", "z/other")}
    infer(home, ignore_claims=True)
    assert described(home) == before - {("a/one", "z/other"), ("l/adapter", "z/base")}


def test_findings_stand_without_the_words_and_only_new_claims_go_undescribed(
    home, tmp_path, capsys
):
    import shutil

    copy = Home(tmp_path / "home")
    shutil.copytree(home.root, copy.root, ignore=shutil.ignore_patterns("fingerprints"))
    before = described(copy)
    with copy.open_working() as connection:
        add_claim(connection, "h/half", "z/other")
    assert infer(copy).n_changed == 0
    assert described(copy) == before
    assert "were not described by layer" in capsys.readouterr().err


def test_coefficients_need_all_parents_of_a_merge(models):
    child, one, two = (fingerprint(name, models[name]) for name in ("m/merged", "a/one", "b/two"))
    shares = (ParentShare("a/one", 0.6), ParentShare("b/two", 0.4))
    merge = Finding("m/merged", Kind.MERGE, Grade.INFERRED, shares)
    for parents, finding, n_told in (
        ((one, two), merge, 2 * (LAYERS + 1)),
        ((one,), merge, 0),
        ((one, two), replace(merge, kind=Kind.FINETUNE), 0),
        ((one, two), None, 0),
    ):
        layers, _ = describe_parents(child, parents, finding)
        assert sum(row.coefficient is not None for row in layers) == n_told


def test_the_map_of_a_finding_goes_before_the_layers_own_numbers(models):
    child, base = (fingerprint(name, models[name]) for name in ("h/half", "z/base"))
    turned = tuple(LayerSource(i, "z/base", LAYERS - 1 - i) for i in range(LAYERS))
    finding = Finding("h/half", Kind.PASSTHROUGH, Grade.INFERRED, (ParentShare("z/base", 1.0),),
                      layer_map=turned)  # fmt: skip
    layers, _ = describe_parents(child, (base,), finding)
    assert [row.parent_layer for row in layers] == [None, *range(LAYERS - 1, -1, -1)]

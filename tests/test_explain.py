"""`herdbook explain`: the numbers against naive oracles, the page, the JSON, and strange pairs."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

import duckdb
import gguf
import numpy as np
import pytest
from gguf.quants import quantize
from hypothesis import given
from hypothesis import strategies as st

from crawler.hub_server import running_hub
from lineage.cli import main
from lineage.cli.output import print_json, print_text
from lineage.errors import IncomparableError, NotFoundError, SchemaError
from lineage.infer.explanation import explain_pair, fit_parents, inherited_share, recheck_pair
from lineage.infer.relatedness import bit_equality
from lineage.infer.side_by_side import (
    MATCHED_ROLES,
    best_layers,
    compare_tensors,
    compare_tokens,
    laid_along,
    match_layers,
    total,
)
from lineage.model import LayerSource
from lineage.pipeline.explain import explain
from lineage.pipeline.explain_page import page, sparkline
from lineage.pipeline.explain_report import sentence
from lineage.pipeline.infer import infer
from lineage.pipeline.run import run
from lineage.store.findings import current_findings
from lineage.store.fingerprint_ledger import record_fingerprints
from lineage.store.fingerprint_parts import Provenance, StoredModel, write_part
from lineage.store.home import Home
from lineage.weights.encodings import round_to
from lineage.weights.fingerprint import Fingerprint, Sample
from lineage.weights.roles import TensorKey
from registers import START, add_model
from simulated import LAYERS, Herd, fingerprint, stored, words_of

ROOT = Path(__file__).resolve().parent.parent
EVIL = "evil/\x1b[31mred\u202e<img>"
MUTE = "mute/gated"


# -- a register with every kind, inferred for real ------------------------------------------------


def wide(weights):
    """Widths of whole blocks, as every real matrix has."""
    return {
        key: np.resize(values, (*values.shape[:-1], 64 if values.shape[-1] == 48 else 96))
        for key, values in weights.items()
    }


def relayered(weights, order):
    kept = {key: values for key, values in weights.items() if key.layer < 0}
    for layer, source in enumerate(order):
        kept |= {
            replace(key, layer=layer): values
            for key, values in weights.items()
            if key.layer == source
        }
    return kept


def quantised(name, weights):
    kind = gguf.GGMLQuantizationType.Q8_0
    samples = {}
    for key, values in weights.items():
        made = fingerprint(name, {key: values}).samples[key]
        if values.ndim == 2:
            words = quantize(values.astype("f4"), kind).tobytes()
            made = replace(made, dtype="Q8_0", words=words)
        samples[key] = made
    return Fingerprint(name, "0" * 40, "probe-2", "gguf", samples)


def adapter(name):
    factor = np.ones((4, 64), "<f4")
    key = TensorKey("q.lora_a", 0)
    sample = Sample("x", "F32", factor.shape, tuple(range(4)), factor.tobytes())
    return Fingerprint(name, "0" * 40, "probe-2", "adapter", {key: sample})


def appended(weights, n):
    rows = np.random.default_rng(5).standard_normal((n, 64)).astype("f4")
    return weights | {
        key: np.concatenate([weights[key], round_to("BF16", rows)])
        for key in (TensorKey("embed"), TensorKey("head"))
    }


def permuted(weights):
    order = np.random.default_rng(3).permutation(96)
    turned = dict(weights)
    for key, values in weights.items():
        if key.role in ("up", "gate"):
            turned[key] = values[order]
        elif key.role == "down":
            turned[key] = values[:, order]
    return turned


def mix(weights, *models):
    sums = {
        key: sum(np.float32(w) * m[key] for w, m in zip(weights, models, strict=True))
        for key in models[0]
    }
    return {key: round_to("BF16", values) for key, values in sums.items()}


def catalogue():
    herd = Herd(7)
    base, other = wide(stored(herd.founder())), wide(stored(herd.founder()))
    one = herd.train(base, 0.01, text=1)
    sibling = herd.train(base, 0.02, text=2)
    plain = {
        "z/base": base,
        "z/other": other,
        "a/one": one,
        "b/sibling": sibling,
        "a/two": herd.train(one, 0.006, text=3),
        "m/linear": mix((0.6, 0.4), one, sibling),
        "p/pruned": relayered(base, (0, 2, 3)),
        "p/tall": relayered(base, (0, 1, 2, 1, 2, 3)),
        "v/tokens": appended(one, 8),
        "u/permuted": permuted(sibling),
        "d/twin": one,
        EVIL: herd.train(base, 0.01, text=4),
        "n/zero": {key: np.zeros_like(values) for key, values in base.items()},
        "n/nan": {key: np.full_like(values, np.nan) for key, values in base.items()},
        "n/one-tensor": {TensorKey("embed"): base[TensorKey("embed")]},
    }
    made = [fingerprint(name, weights) for name, weights in plain.items()]
    return [
        *made,
        fingerprint("c/half", {k: round_to("F16", v) for k, v in one.items()}, "F16"),
        quantised("q/gguf", one),
        adapter("l/adapter"),
    ]


def make_register(root, models):
    home = Home(root)
    home.prepare()
    made = Provenance(START, "0.1.0")
    part = write_part(home.fingerprints, [StoredModel(one, None, made) for one in models])
    with home.open_working() as connection:
        for day, one in enumerate(models):
            if one.repo_id != EVIL:
                add_model(connection, one.repo_id, day=day)
        add_model(connection, MUTE, status="gated")
        record_fingerprints(connection, part.rows)
    infer(home)
    with home.open_working() as connection:
        add_model(connection, EVIL)  # no Hub has such a name: the inference would refuse its date
    return home


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return make_register(tmp_path_factory.mktemp("explain"), catalogue())


@pytest.fixture(scope="module")
def ask(home):
    """Explains a pair of the register, each once."""
    return cache(lambda child, parent: explain(home, child, parent))


@pytest.fixture(scope="module")
def findings(home):
    with duckdb.connect(str(home.database), read_only=True) as connection:
        return {one.child: one for one in current_findings(connection)}


def tampered(home, folder, sql):
    """A copy of the register in which somebody changed a row; fingerprints stay where they are."""
    copy = Home(folder)
    copy.prepare()
    copy.database.write_bytes(home.database.read_bytes())
    with duckdb.connect(str(copy.database)) as connection:
        connection.execute(sql)
    return copy


# -- oracles --------------------------------------------------------------------------------------


def naive_match(child, parent, layers=None):
    """Equal words, compared words and relative change by role and layer, value by value."""
    found = {}
    for key, ours in child.samples.items():
        source = key if key.layer < 0 or layers is None else replace(key, layer=layers[key.layer])
        theirs = parent.samples.get(source)
        if theirs is None or ours.values.shape[1] != theirs.values.shape[1]:
            continue
        equal = n = 0
        moved = size = 0.0
        for place, row in enumerate(ours.rows):
            if row not in theirs.rows:
                continue
            other = theirs.values[theirs.rows.index(row)]
            for x, y in zip(ours.values[place], other, strict=True):
                n, equal = n + 1, equal + (x == y)
                moved, size = moved + (float(x) - float(y)) ** 2, size + float(y) ** 2
        change = math.sqrt(moved / size) if size else None
        found[key.role, key.layer if key.layer >= 0 else None] = (equal, n, change)
    return found


def naive_z(a, b):
    """Trace of the double-centred cosine matrix over its standard deviation under permutation."""
    rows = [[row - row.mean() for row in values.astype("f8")] for values in (a, b)]
    unit = [[row / np.linalg.norm(row) for row in side] for side in rows]
    cosine = np.array([[x @ y for y in unit[1]] for x in unit[0]])
    centred = cosine - cosine.mean(0) - cosine.mean(1)[:, None] + cosine.mean()
    return np.trace(centred) / math.sqrt((centred**2).sum() / (len(centred) - 1))


def small(name, seed, layers=2, rows=None):
    weights = stored(Herd(seed).founder(layers))
    made = fingerprint(name, weights)
    if rows is None:
        return made
    samples = {
        key: replace(
            sample, rows=tuple(rows), words=words_of(sample.values[list(rows)], sample.dtype)
        )
        if len(sample.shape) == 2
        else sample
        for key, sample in made.samples.items()
    }
    return replace(made, samples=samples)


@pytest.mark.parametrize("rows", [None, range(3, 40, 2)])
def test_equal_words_and_change_by_layer_and_role_are_those_counted_value_by_value(rows):
    herd = Herd(1)
    base = stored(herd.founder(2))
    child = fingerprint("c", herd.train(base, 0.003))
    parent = fingerprint("p", base)
    if rows is not None:
        samples = small("p", 1, 2, rows).samples
        parent = replace(parent, samples=samples)
    expected = naive_match(child, parent)
    found = compare_tensors(child, parent)
    assert {(row.role, row.layer): (row.n_equal, row.n_words) for row in found} == {
        place: counts[:2] for place, counts in expected.items()
    }
    for row in found:
        change = expected[row.role, row.layer][2]
        assert total([row]).relative_change == pytest.approx(change, rel=1e-6)
    equal = total(row for row in found if row.is_matrix).equal
    assert equal == pytest.approx(bit_equality(child, parent), rel=1e-12)


def test_layers_are_compared_where_the_map_puts_them():
    herd = Herd(2)
    base = stored(herd.founder(4))
    order = (0, 2, 3, 2)
    child, parent = fingerprint("c", relayered(base, order)), fingerprint("p", base)
    layer_map = [LayerSource(i, "p", source) for i, source in enumerate(order)]
    along = laid_along(parent, [*layer_map, LayerSource(1, "somebody/else", 3)])
    found = compare_tensors(child, along, dict(enumerate(order)))
    expected = naive_match(child, parent, order)
    assert {(row.role, row.layer): row.n_equal for row in found} == {
        place: counts[0] for place, counts in expected.items()
    }
    assert all(row.n_equal == row.n_words for row in found)
    assert {(row.layer, row.parent_layer) for row in found if row.layer is not None} == set(
        enumerate(order)
    )


def test_the_match_matrix_is_the_permutation_statistic_of_every_two_layers():
    herd = Herd(3)
    base = stored(herd.founder(3))
    child = fingerprint("c", relayered(herd.train(base, 0.05), (2, 0)))
    parent = fingerprint("p", base)
    for roles in MATCHED_ROLES:
        match = match_layers(child, parent, roles)
        assert (len(match.z), len(match.z[0])) == (2, 3)
        for i, j in product(range(2), range(3)):
            each = [
                naive_z(
                    child.samples[TensorKey(role, i)].values,
                    parent.samples[TensorKey(role, j)].values,
                )
                for role in roles
            ]
            assert match.z[i][j] == pytest.approx(sum(each) / math.sqrt(len(each)), abs=1e-3)
        assert [found[0] for found in best_layers(match)] == [2, 0]
        assert all(found[1] > 10 > 5 > found[2] for found in best_layers(match))


def test_layers_of_too_few_or_other_rows_are_not_matched():
    match = match_layers(small("c", 1, rows=range(5)), small("p", 1, rows=range(5)), ("up",))
    assert {z for row in match.z for z in row} == {None}
    assert best_layers(match) == (None, None)
    apart = match_layers(small("c", 1, rows=range(20)), small("p", 1, rows=range(20, 40)), ("up",))
    assert {z for row in apart.z for z in row} == {None}
    partly = match_layers(small("c", 1, rows=range(20)), small("p", 1, rows=range(5, 40)), ("up",))
    assert partly.z[0][0] > 8 > 5 > partly.z[0][1]


def test_token_rows_are_untouched_moved_or_changed():
    base = stored(Herd(4).founder(1))
    key = TensorKey("embed")
    edited = base[key].copy()
    edited[[3, 4]] = edited[[4, 3]]  # two tokens change places
    edited[7] += 1
    edited[8, 0] += 1
    edited[9] = 0.5  # one value only: no mark of a token
    parent = base | {key: base[key].copy()}
    parent[key][11] = 0.5
    child = fingerprint("c", base | {key: np.concatenate([edited, edited[:2]])})
    embed, head = compare_tokens(child, fingerprint("p", parent))
    n = len(base[key])
    assert (embed.n_child, embed.n_parent, embed.n_compared) == (n + 2, n, n)
    assert (embed.untouched, embed.moved, embed.changed) == (n - 6, 2, 4)
    assert (head.untouched, head.moved, head.changed) == (n, 0, 0)


def test_token_rows_of_other_width_or_none_at_all_are_left_out():
    base = stored(Herd(4).founder(1))
    narrow = fingerprint("p", {k: v[..., :32] for k, v in base.items()})
    assert compare_tokens(fingerprint("c", base), narrow) == ()
    assert compare_tokens(adapter("l/a"), narrow) == ()


@given(st.sampled_from(["zero", "nan", "inf", "constant"]), st.booleans(), st.integers(1, 3))
def test_weights_that_say_nothing_make_finite_numbers_or_none(what, as_child, layers):
    value = {"zero": 0.0, "nan": np.nan, "inf": np.inf, "constant": 0.25}[what]
    base = stored(Herd(5).founder(2))
    strange = {k: np.full_like(v, value) for k, v in stored(Herd(5).founder(layers)).items()}
    pair = [fingerprint("a", base), fingerprint("b", strange)]
    child, parent = pair[::-1] if as_child else pair
    found = explain_pair(child, parent, 10)
    for number in [
        found.test.statistic,
        found.test.p_value,
        *(z for match in found.layer_matches for row in match.z for z in row),
        *(total([row]).relative_change for row in found.tensors),
        *((found.direction.arrow, found.direction.arrow_error) if found.direction else ()),
    ]:
        assert number is None or math.isfinite(number)


def test_models_of_different_shape_share_what_they_share():
    base = stored(Herd(6).founder(2))
    narrow = {k: v[..., :32] if k.role != "final_norm" else v for k, v in base.items()}
    found = explain_pair(fingerprint("c", base), fingerprint("p", narrow), 1)
    assert {row.role for row in found.tensors} == {"final_norm"}
    alone = explain_pair(fingerprint("c", base), adapter("l/a"), 1)
    assert (alone.tensors, alone.direction, alone.tokens) == ((), None, ())


def test_experts_are_held_against_the_one_block_of_a_dense_parent():
    base = stored(Herd(6).founder(1))
    other = stored(Herd(16).founder(1))
    mixture = {key: values for key, values in base.items() if key.role != "up"}
    for expert, dense in enumerate((other, base)):
        mixture[TensorKey("up", 0, expert)] = dense[TensorKey("up", 0)]
    found = compare_tensors(fingerprint("c", mixture), fingerprint("p", base))
    shares = {row.expert: total([row]).equal for row in found if row.role == "up"}
    assert shares[1] == 1
    assert shares[0] < 0.01


def test_layers_of_models_of_other_depth_are_placed_by_their_units():
    herd = Herd(6)
    base = stored(herd.founder(4))
    cut = fingerprint("c", relayered(herd.train(base, 0.05), (0, 2, 3)))
    found = explain_pair(cut, fingerprint("p", base), 1)
    assert [source.parent_layer for source in found.layer_map] == [0, 2, 3]
    assert {row.parent_layer for row in found.tensors if row.layer == 1} == {2}
    assert total(found.tensors).relative_change == pytest.approx(0.05, rel=0.1)


def test_the_witnesses_of_direction_are_those_of_their_definitions_and_turn_with_the_pair():
    herd = Herd(6)
    base = stored(herd.founder(2))
    step = herd.train(base, 0.003)
    child, parent = fingerprint("c", step), fingerprint("p", base)
    there, back = (explain_pair(*pair, 1).direction for pair in ((child, parent), (parent, child)))
    change = np.concatenate([(step[k].astype("f8") - base[k]).ravel() for k in base])
    origin = np.concatenate([base[k].astype("f8").ravel() for k in base])
    assert there.arrow == pytest.approx(change @ origin / (change @ change), rel=1e-4)
    assert back.arrow == pytest.approx(-1 - there.arrow, rel=1e-4)
    assert there.grid == "BF16"
    assert (there.n_left, there.n_entered) == (back.n_entered, back.n_left)
    assert there.rounding_log_odds == pytest.approx(-back.rounding_log_odds)
    assert there.rounding_log_odds > 0  # the step leaves powers of two: the parent is the older
    assert explain_pair(child, child, 1).direction is None
    assert explain_pair(child, replace(child, repo_id="d"), 1).direction.arrow is None
    alone = [replace(one, samples={TensorKey("q", 0): one.samples[TensorKey("q", 0)]})
             for one in (child, parent)]  # fmt: skip
    assert explain_pair(*alone, 1).direction.arrow_error is None


def test_a_grandchild_carries_its_parents_step_and_a_sibling_does_not():
    herd = Herd(6)
    base = stored(herd.founder())
    one = herd.train(base, 0.01)
    grandchild = fingerprint("g", herd.train(one, 0.005))
    sibling = fingerprint("s", herd.train(base, 0.01))
    names = fingerprint("p", one), fingerprint("r", base)
    carried, apart = (inherited_share(who, *names) for who in (grandchild, sibling))
    assert carried.reference == "r"
    assert carried.share == pytest.approx(1, abs=0.05)
    assert apart.share == pytest.approx(0, abs=0.05)
    assert carried.kept > 2 * carried.reverted
    assert apart.kept < apart.reverted
    assert inherited_share(adapter("l/a"), *names) is None


def test_coefficients_by_layer_follow_a_merge_whose_weights_vary():
    herd = Herd(8)
    base = stored(herd.founder())
    a, b = herd.train(base, 0.05), herd.train(base, 0.05)
    share = [0.2, 0.4, 0.6, 0.8]
    merged = {
        key: (share[key.layer] if key.layer >= 0 else 0.5) * a[key]
        + (1 - (share[key.layer] if key.layer >= 0 else 0.5)) * b[key]
        for key in base
    }
    fit = fit_parents(fingerprint("c", merged, "F32"), [fingerprint("a", a), fingerprint("b", b)])
    layers = dict(fit.by_layer())
    assert set(layers) == {None, *range(LAYERS)}
    for layer, expected in enumerate(share):
        assert layers[layer] == pytest.approx((expected, 1 - expected), abs=1e-3)
    assert layers[None] == pytest.approx((0.5, 0.5), abs=1e-3)
    assert fit_parents(fingerprint("c", base), [fingerprint("a", a), adapter("l/a")]) is None


# -- what is stored is held against what comes out ------------------------------------------------


def test_every_stored_finding_and_family_test_comes_out_again(ask, findings):
    kinds = set()
    for child, finding in findings.items():
        for share in finding.parents:
            report = ask(child, share.parent)
            assert report.recomputes is True, [
                one for one in (*report.pair_rechecks, *report.finding_rechecks) if not one.agrees
            ]
            assert len(report.pair_rechecks) == 4
            assert report.finding_rechecks
            assert not report.notes
            kinds.add(str(finding.kind))
    assert kinds >= {"finetune", "merge", "quantized", "duplicate", "cast", "pruned"}


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("UPDATE pair SET statistic = statistic * 1.001", "statistic"),
        ("UPDATE pair SET p_value = .01", "p_value"),
        ("UPDATE pair SET bit_equality = bit_equality + .001", "bit_equality"),
        ("UPDATE pair SET verdict = 'unrelated'", "verdict"),
        ("UPDATE finding SET p_value = .01", "p_value"),
        ("UPDATE finding SET kind = 'abliterated' WHERE kind = 'finetune'", "kind"),
        (
            "UPDATE finding SET evidence = replace(evidence::VARCHAR, '\"relative_change\",'"
            ' || \' "value": 0.\', \'"relative_change", "value": 7.\')::JSON',
            "relative_change",
        ),
    ],
)
def test_a_tampered_register_is_told_with_both_values(home, tmp_path, capsys, sql, what):
    copy = tampered(home, tmp_path / "copy", sql)
    command = ["explain", "a/one", "z/base", "--home", str(copy.root)]
    command += ["--parts", str(home.fingerprints)]
    assert main(command) == 10
    assert "stored values differ" in capsys.readouterr().out
    assert main([*command, "--json"]) == 10
    recheck = json.loads(capsys.readouterr().out)["recheck"]
    assert recheck["recomputes"] is False
    wrong = [one for one in recheck["pair"] + recheck["finding"] if not one["agrees"]]
    assert [one["what"] for one in wrong] == [what]
    assert wrong[0]["stored"] != wrong[0]["now"]


def test_a_layer_map_that_was_changed_no_longer_comes_out(home, tmp_path):
    copy = tampered(home, tmp_path / "copy", "UPDATE finding_layer SET parent_layer = 0")
    report = explain(copy, "p/pruned", "z/base", parts=str(home.fingerprints))
    assert [one.what for one in report.finding_rechecks if not one.agrees] == ["layers_placed"]


def test_last_bits_of_a_sum_are_no_difference():
    base = stored(Herd(9).founder(1))
    test = explain_pair(fingerprint("a", base), fingerprint("b", base), 1).test
    near = replace(test, statistic=test.statistic * (1 + 1e-9))
    assert all(one.agrees for one in recheck_pair(near, test))
    lost = recheck_pair(replace(test, statistic=None), test)
    assert [one.what for one in lost if not one.agrees] == ["statistic"]


def test_what_has_changed_since_the_inference_is_noted(home, tmp_path):
    copy = tampered(
        home,
        tmp_path / "copy",
        "UPDATE run SET version = '0.0.9', parameters = '{\"scheme\": \"probe-1\"}';"
        "UPDATE fingerprint SET made_at = now() + INTERVAL 1 DAY WHERE repo_id = 'a/one'",
    )
    report = explain(copy, "a/one", "z/base", parts=str(home.fingerprints))
    assert report.recomputes is True
    told = " | ".join(report.notes)
    assert "weights of a/one were read again" in told
    assert "scheme probe-1" in told
    assert "herdbook 0.0.9" in told
    other = tampered(home, tmp_path / "other", 'UPDATE run SET inputs = \'{"code": "f00"}\'')
    notes = explain(other, "a/one", "z/base", parts=str(home.fingerprints)).notes
    assert notes == ("inferred by other code of the same version",)
    third = tampered(home, tmp_path / "third", "DELETE FROM pair")
    report = explain(third, "a/one", "z/base", parts=str(home.fingerprints))
    assert report.notes == ("the latest inference did not test this pair; run `herdbook infer`",)
    assert report.pair_rechecks == ()


# -- how two models are linked --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("child", "parent", "relationship", "says"),
    [
        ("a/one", "z/base", "parent", "a/one is a fine-tune of z/base. Inferred"),
        ("q/gguf", "a/one", "parent", "q/gguf is a quantisation (Q8_0) of a/one. Proved"),
        ("m/linear", "a/one", "parent", "of a/one (0.6) and b/sibling (0.4). Proved"),
        ("p/pruned", "z/base", "parent", "p/pruned is z/base with layers cut out. Proved"),
        ("z/base", "a/one", "child", "It is the other way round. a/one is a fine-tune of z/base"),
        ("a/two", "z/base", "ancestor", "an ancestor of a/two, not its parent: a/two ← a/one ←"),
        ("z/base", "a/two", "descendant", "the other way round. z/base is an ancestor of a/two"),
        ("a/one", "b/sibling", "common_ancestor", "both come from z/base: a/one ← z/base and"),
        ("a/one", "z/other", "none", "no trace of a common origin. Nothing is asserted"),
        ("a/one", "a/one", "itself", "a model is no parent of its own"),
        ("l/adapter", "z/base", "none", "have nothing that can be compared"),
        ("a/one", MUTE, "none", f"weights of {MUTE} were not read (the model is gated)"),
        (MUTE, "a/one", "none", "were not read"),
        (MUTE, MUTE, "itself", "no parent of its own"),
    ],
)
def test_the_sentence_says_how_two_models_are_linked(ask, child, parent, relationship, says):
    report = ask(child, parent)
    assert report.link.relationship == relationship
    assert says in sentence(report)


def test_only_a_finding_that_names_the_other_model_is_shown_as_evidence(ask):
    linked, apart = ask("a/two", "a/one"), ask("a/two", "b/sibling")
    assert "✓ the weights moved by" in "\n".join(page(linked, 80))
    assert "evidence" not in "\n".join(page(apart, 80))
    assert apart.finding_rechecks == ()
    assert apart.pair_rechecks


def test_the_share_that_was_inherited_is_measured_from_the_parents_parent(ask):
    report = ask("a/two", "a/one")
    assert report.inherited.reference == "z/base"
    assert report.inherited.share == pytest.approx(1, abs=0.1)
    assert report.inherited.kept > report.inherited.reverted
    assert ask("a/one", "z/base").inherited is None
    assert ask("d/twin", "a/one").inherited is None


def test_a_merge_shows_the_coefficients_of_all_its_parents_whichever_is_asked_for(ask):
    reports = [ask("m/linear", parent) for parent in ("a/one", "b/sibling")]
    for report in reports:
        fit = report.coefficients
        means = dict(zip(fit.parents, fit.means, strict=True))
        assert means == pytest.approx({"a/one": 0.6, "b/sibling": 0.4}, abs=0.02)
    assert ask("m/linear", "z/base").coefficients is None


def test_a_quantisation_shows_the_codes_of_every_tensor(ask):
    report = ask("q/gguf", "a/one")
    assert report.codes.replayed == 1
    rows = [row for row in report.pair.tensors if row.is_matrix]
    assert all(row.n_codes == row.n_words for row in rows)
    assert ask("q/gguf", "a/two").codes.replayed < 0.9
    assert ask("a/one", "z/base").codes is None


# -- the command ----------------------------------------------------------------------------------


def is_plain(value):
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(one) for key, one in value.items())
    if isinstance(value, list):
        return all(map(is_plain, value))
    return not isinstance(value, float) or math.isfinite(value)


def test_every_kind_explains_as_a_page_and_as_finite_json(ask, findings, capsys):
    names = [*findings, MUTE]
    strange = ["n/zero", "n/nan", "n/one-tensor", "l/adapter", "p/tall", EVIL, MUTE]
    for child, parent in (*product(names, ["z/base"]), *product(["a/one", "n/nan"], strange)):
        report = ask(child, parent)
        for line in page(report, 80):
            print_text(line)
        text = capsys.readouterr().out
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "nan" not in text.lower().replace("n/nan", "")
        assert len(text.splitlines()) < 45
        print_json(report.to_dict())
        text = capsys.readouterr().out
        assert is_plain(json.loads(text, parse_constant=lambda word: pytest.fail(word)))
        assert text.isascii()


def test_the_json_has_the_documented_keys_and_no_others(home, capsys):
    main(["explain", "m/linear", "a/one", "--home", str(home.root), "--json"])
    found = json.loads(capsys.readouterr().out)
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    section = text.split("### `herdbook explain`")[1].split("\n### ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    documented = {key for cell in rows for key in cell.split("`")[1::2]}
    assert set(found) == documented
    assert found["format"] == 1
    for keys in (
        found["child"], found["link"], found["kinship"], found["direction"],
        found["coefficients"], found["recheck"], found["made_by"], found["tensors"][0],
        found["by_layer"][0], found["by_role"][0], found["layer_match"][0], found["tokens"][0],
        found["recheck"]["pair"][0], found["made_by"]["pair_run"],
    ):  # fmt: skip
        assert all(f"`{key}`" in section for key in keys), keys
    assert all(f"`{key}`" in section for key in found["finding"])


def test_sums_by_layer_and_by_role_are_those_of_the_tensors(ask):
    found = ask("a/two", "a/one").to_dict()
    for what in ("layer", "role"):
        rows = found[f"by_{what}"]
        assert [row[what] for row in rows] == sorted(
            {row[what] for row in found["tensors"]}, key=lambda at: (at is not None, at or 0)
        )
        for count in ("n_words", "n_equal", "n_codes", "n_replayed"):
            for row in rows:
                mine = [one[count] for one in found["tensors"] if one[what] == row[what]]
                assert row[count] == sum(mine)


@pytest.mark.parametrize("width", [10, 60, 80, 200])
def test_the_page_keeps_to_the_width_where_names_allow(ask, width):
    for child, parent in (("a/two", "a/one"), ("m/linear", "a/one"), ("p/tall", "z/base")):
        lines = page(ask(child, parent), width)
        assert max(map(len, lines)) <= max(width, 60)
        if width >= 80 and child != "p/tall":
            assert any("█" in line for line in lines)


@given(st.lists(st.one_of(st.none(), st.floats(-1, 2)), max_size=50), st.integers(1, 20))
def test_a_sparkline_fits_and_rises_with_its_values(values, longest):
    drawn = sparkline(values, 1.0, longest)
    assert len(drawn) == min(len(values), longest)
    if len(values) <= longest:
        assert [bar == "·" for bar in drawn] == [value is None for value in values]
    ordered = sorted(value for value in values if value is not None)
    bars = sparkline(ordered, 1.0, len(ordered) or 1)
    assert list(bars) == sorted(bars)


def test_an_unknown_name_is_one_sentence_with_similar_ones(home, capsys):
    assert main(["explain", "a/onee", "z/base", "--home", str(home.root)]) == 3
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "no model a/onee" in err
    assert "did you mean a/one" in err
    with pytest.raises(NotFoundError, match="no model q"):
        explain(home, "a/one", "q")
    assert main(["explain", "a/one", "z/'; DROP TABLE pair", "--home", str(home.root)]) == 3


def test_a_home_without_a_crawl_or_without_its_words_says_what_to_do(home, tmp_path, capsys):
    assert main(["explain", "a/b", "c/d", "--home", str(tmp_path / "none")]) == 3
    assert "herdbook crawl" in capsys.readouterr().err
    with pytest.raises(SchemaError, match="run `herdbook fingerprint` again"):
        explain(home, "a/one", "z/base", parts=str(tmp_path))
    copy = tampered(home, tmp_path / "old", "ALTER TABLE finding DROP COLUMN note")
    with pytest.raises(SchemaError, match="of an earlier herdbook; run `herdbook infer"):
        explain(copy, "a/one", "z/base", parts=str(home.fingerprints))


def test_models_read_under_different_schemes_are_not_compared(home, tmp_path):
    copy = tampered(
        home, tmp_path / "copy", "UPDATE fingerprint SET scheme = 'probe-1' WHERE repo_id = 'a/one'"
    )
    with pytest.raises(IncomparableError, match="a/one under probe-1 and z/base under probe-2"):
        explain(copy, "a/one", "z/base", parts=str(home.fingerprints))


def test_a_model_that_could_not_be_read_tells_the_reason(home, tmp_path):
    copy = tampered(
        home,
        tmp_path / "copy",
        "UPDATE fingerprint SET digest = NULL, part = NULL, reason = 'pickled' "
        "WHERE repo_id = 'z/base'",
    )
    report = explain(copy, "a/one", "z/base", parts=str(home.fingerprints))
    assert report.pair is None
    assert report.recomputes is None
    assert report.parent.unread == "pickled"
    assert "not read (pickled)" in "\n".join(page(report, 100))


def test_explaining_writes_nothing(home):
    def state():
        return {
            path: (path.stat().st_mtime_ns, path.stat().st_size) for path in home.root.rglob("*")
        }

    before = state()
    explain(home, "a/one", "z/base")
    assert state() == before


@pytest.mark.slow
def test_every_kind_of_the_pocket_hub_explains_and_recomputes(pocket, tmp_path):
    home = Home(tmp_path / "home")
    with running_hub(pocket) as endpoint:
        run(home, endpoint, ignore_claims=True)
    with duckdb.connect(str(home.database), read_only=True) as connection:
        found = current_findings(connection)
    kinds = set()
    for finding in found:
        for other in (*(share.parent for share in finding.parents), *finding.ties):
            report = explain(home, finding.child, other)
            assert report.recomputes is True, (finding.child, other)
            assert page(report, 80)
            assert is_plain(json.loads(json.dumps(report.to_dict(), default=str)))
            kinds.add(str(finding.kind))
    assert kinds == {
        "duplicate", "cast", "quantized", "finetune", "continued_pretraining", "lora_merged",
        "abliterated", "adapter", "vocabulary", "pruned", "passthrough", "merge", "moe", "permuted",
    }  # fmt: skip

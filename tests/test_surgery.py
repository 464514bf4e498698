"""Low ranks, removed directions, vocabularies: what kind of change leads from parent to child."""

from __future__ import annotations

import numpy as np
import pytest

from lineage.infer.adapters import adapter_modules
from lineage.infer.change import describe_change
from lineage.infer.surgery import LowRank, Step, low_rank, removed_directions
from lineage.model import Finding, Grade, Kind, ParentShare, VocabularyMap
from lineage.store.findings import current_findings, replace_findings
from lineage.store.home import Home
from lineage.weights.encodings import round_to
from lineage.weights.fingerprint import Fingerprint, Sample
from lineage.weights.probe import SCHEME
from lineage.weights.roles import TensorKey

F32 = np.float32
D, FFN, LAYERS, TOKENS = 96, 160, 3, 40
LINEAR = ("q", "k", "v", "o", "gate", "up", "down")


def founder(seed=0):
    rng = np.random.default_rng(seed)
    shape = {**dict.fromkeys(("q", "k", "v", "o"), (D, D)), "down": (D, FFN)}
    weights = {TensorKey("embed"): rng.standard_normal((TOKENS, D))}
    for layer in range(LAYERS):
        for role in LINEAR:
            size = shape.get(role, (FFN, D))
            weights[TensorKey(role, layer)] = 0.05 * rng.standard_normal(size)
        weights[TensorKey("ffn_norm", layer)] = 1 + 0.1 * rng.standard_normal(D)
    return {key: round_to("BF16", values.astype(F32)) for key, values in weights.items()}


def stored(weights, dtype="BF16"):
    return {key: round_to(dtype, values.astype(F32)) for key, values in weights.items()}


def with_adapter(base, rank, roles=LINEAR, size=0.02, seed=1):
    rng = np.random.default_rng(seed)
    tuned = dict(base)
    for key, values in base.items():
        if key.role in roles and key.layer >= 0:
            step = rng.standard_normal((len(values), rank)) @ rng.standard_normal(
                (rank, values.shape[1])
            )
            tuned[key] = values + size * np.linalg.norm(values) * step / np.linalg.norm(step)
    return tuned


def without(weights, directions, roles=("o", "down"), layers=range(LAYERS), share=1.0):
    """Abliteration: the directions projected out of the writers."""
    basis, _ = np.linalg.qr(np.stack(directions, axis=1))
    cleaned = dict(weights)
    for key, values in weights.items():
        if key.role in roles and key.layer in layers:
            cleaned[key] = values - share * basis @ (basis.T @ values)
        elif key.role == "embed" and "embed" in roles:
            cleaned[key] = values - share * values @ basis @ basis.T
    return cleaned


def tuned(weights, size, seed=2):
    rng = np.random.default_rng(seed)
    return {
        key: values
        + (values.ndim > 1) * size * np.sqrt((values**2).mean()) * rng.standard_normal(values.shape)
        for key, values in weights.items()
    }


def model(name, weights, dtype="BF16", rows=None, **more):
    samples = {}
    for key, values in stored(weights, dtype).items():
        kept = tuple(range(len(values))) if values.ndim == 2 else (0,)
        if rows is not None and values.ndim == 2 and key.layer >= 0:
            kept = kept[:rows]
        part = values[list(kept)] if values.ndim == 2 else values
        words = part.astype("<f4").view("<u4") >> 16
        data = words.astype("<u2").tobytes() if dtype == "BF16" else part.astype("<f4").tobytes()
        samples[key] = Sample(str(key), dtype, values.shape, kept, data)
    return Fingerprint(name, "0" * 40, SCHEME, "safetensors", samples, **more)


def change(child, parent, **more):
    return describe_change(model("c", child, **more), model("p", parent, **more))


BASE = founder()
DIRECTION = np.random.default_rng(3).standard_normal(D)


# -- low rank --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 2, 4, 8, 16, 32])
@pytest.mark.parametrize("roles", [("q", "v"), LINEAR])
def test_the_rank_and_the_target_modules_of_a_merged_adapter_are_exact(rank, roles):
    found = change(with_adapter(BASE, rank, roles), BASE)
    assert (found.kind, found.rank) == (Kind.LORA_MERGED, rank)
    assert found.target_modules == tuple(sorted(roles))
    assert f"rank {rank}" in found.evidence[0].text


def test_a_matrix_beside_the_layers_may_be_a_target():
    """As the dense one before the output of masked language models is, of all linear ones."""
    rng = np.random.default_rng(8)
    key = TensorKey("head_dense")
    base = {**BASE, key: round_to("BF16", 0.05 * rng.standard_normal((D, D)).astype(F32))}
    step = rng.standard_normal((D, 4)) @ rng.standard_normal((4, D))
    child = with_adapter(base, 4)
    child[key] = base[key] + 0.02 * np.linalg.norm(base[key]) * step / np.linalg.norm(step)
    found = change(child, base)
    assert (found.kind, found.rank) == (Kind.LORA_MERGED, 4)
    assert "head_dense" in found.target_modules
    assert "trained whole" not in found.evidence[0].text


def test_weak_directions_hidden_in_some_matrices_do_not_hide_the_rank():
    """The fourth direction of a third of the matrices is below what rounding makes."""
    rng = np.random.default_rng(9)
    child = dict(BASE)
    for number, (key, values) in enumerate(BASE.items()):
        if key.layer >= 0 and key.role in LINEAR:
            left, right = (np.linalg.qr(rng.standard_normal((n, 4)))[0] for n in values.shape)
            sizes = np.array([1.0, 0.8, 0.6, 0.5 if number % 3 else 1e-4])
            child[key] = values + 0.02 * np.linalg.norm(values) * (left * sizes) @ right.T
    found = change(child, BASE)
    assert (found.kind, found.rank) == (Kind.LORA_MERGED, 4)


def test_modules_of_other_ranks_are_told_one_by_one():
    mixed = with_adapter(with_adapter(BASE, 4, ("q", "v")), 8, ("up", "down", "gate"))
    found = change(mixed, BASE)
    assert (found.kind, found.rank) == (Kind.LORA_MERGED, 8)
    assert "q 4" in found.evidence[0].text
    assert "up 8" in found.evidence[0].text


def test_modules_that_were_saved_whole_do_not_hide_an_adapter():
    both = with_adapter(BASE, 8, ("q", "v"))
    key = TensorKey("embed")
    both[key] = tuned({key: BASE[key]}, 0.05)[key]
    found = change(both, BASE)
    assert (found.kind, found.rank, found.target_modules) == (Kind.LORA_MERGED, 8, ("q", "v"))
    assert "trained whole: embed" in found.evidence[0].text


@pytest.mark.parametrize("size", [0.0005, 0.002, 0.01, 0.05])
@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_a_full_fine_tune_is_no_adapter_however_small(size, dtype):
    assert change(tuned(BASE, size), BASE, dtype=dtype).kind is Kind.FINETUNE


@pytest.mark.parametrize("size", [0.001, 0.004, 0.02])
def test_strong_directions_in_full_training_are_no_adapter(size):
    """Training moves along few directions first; below them stands a slope, not a cliff."""
    rng = np.random.default_rng(4)
    child = {}
    for key, values in BASE.items():
        if values.ndim < 2:
            child[key] = values
            continue
        u, _, v = np.linalg.svd(rng.standard_normal(values.shape), full_matrices=False)
        slope = np.arange(1, len(v) + 1) ** -1.0
        step = (u * slope) @ v
        child[key] = values + size * np.linalg.norm(values) * step / np.linalg.norm(step)
    assert change(child, BASE).kind is Kind.FINETUNE


def test_an_adapter_shows_its_rank_in_a_block_of_rows():
    found = change(with_adapter(BASE, 8), BASE, rows=32)
    assert (found.kind, found.rank) == (Kind.LORA_MERGED, 8)


def test_an_adapter_on_a_float32_parent_that_was_rounded_is_seen_through_the_rounding():
    rng = np.random.default_rng(5)
    fine = {k: v + 1e-4 * rng.standard_normal(v.shape).astype(F32) for k, v in BASE.items()}
    child = model("c", with_adapter(fine, 4, ("q", "v")))
    found = describe_change(child, model("p", fine, dtype="F32"))
    assert (found.kind, found.rank, found.target_modules) == (Kind.LORA_MERGED, 4, ("q", "v"))


def test_matrices_too_small_for_the_rank_say_nothing_against_it():
    rng = np.random.default_rng(6)
    steps = {}
    for layer in range(2):
        for role, shape in (("q", (96, 96)), ("k", (20, 96))):
            before = round_to("BF16", rng.standard_normal(shape).astype(F32))
            product = rng.standard_normal((shape[0], 16)) @ rng.standard_normal((16, 96))
            after = round_to("BF16", (before + 0.05 * product).astype(F32))
            entry = Sample(role, "BF16", shape, tuple(range(shape[0])), b"")
            key = TensorKey(role, layer)
            steps[key] = Step(entry, before.astype(float), after.astype(float))
    found = low_rank(steps)
    assert isinstance(found, LowRank)
    assert (found.rank, dict(found.by_module)) == (16, {"k": None, "q": 16})


def test_the_modules_of_an_adapter_are_those_of_its_factors():
    keys = [TensorKey(f"{role}.lora_{side}", 0) for role in ("v", "q") for side in "ab"]
    factors = {key: Sample("w", "F32", (4, 4), (0, 1, 2, 3), bytes(64)) for key in keys}
    adapter = Fingerprint("a", "0" * 40, SCHEME, "safetensors", factors)
    assert adapter_modules(adapter) == ("q", "v")
    assert adapter_modules(model("m", BASE)) == ()


# -- removed directions ----------------------------------------------------------------------------


@pytest.mark.parametrize("roles", [("o", "down"), ("o", "down", "embed"), ("down",)])
def test_a_removed_direction_is_told_with_how_much_of_it_went(roles):
    found = change(without(BASE, [DIRECTION], roles), BASE)
    assert (found.kind, found.rank) == (Kind.ABLITERATED, 1)
    assert found.evidence[0].name == "removed_direction"
    assert found.evidence[0].value == pytest.approx(-1, abs=0.02)


@pytest.mark.parametrize("share", [0.5, 1.0, 1.5])
def test_a_direction_removed_in_part_or_overmuch_is_told_so(share):
    found = change(without(BASE, [DIRECTION], share=share), BASE)
    assert found.kind is Kind.ABLITERATED
    assert found.evidence[0].value == pytest.approx(-share, abs=0.03)


def test_several_directions_are_counted():
    rng = np.random.default_rng(7)
    found = change(without(BASE, list(rng.standard_normal((3, D)))), BASE)
    assert (found.kind, found.rank) == (Kind.ABLITERATED, 3)
    assert found.evidence[0].text.startswith("3 directions were removed")


def test_a_direction_removed_from_some_layers_says_from_how_many_writers():
    found = change(without(BASE, [DIRECTION], layers=(1, 2)), BASE)
    assert found.kind is Kind.ABLITERATED
    assert "4 of 6 matrices" in found.evidence[0].text


@pytest.mark.parametrize("size", [0.002, 0.02])
def test_a_fine_tune_on_top_does_not_hide_a_removed_direction(size):
    found = change(tuned(without(BASE, [DIRECTION]), size), BASE)
    assert (found.kind, found.rank) == (Kind.ABLITERATED, 1)
    assert found.evidence[0].value == pytest.approx(-1, abs=0.05)


def test_the_same_direction_has_the_same_digest_and_another_has_not():
    steps = [
        change(without(BASE, [r], share=s), BASE).evidence[1].text[-12:]
        for r, s in ((DIRECTION, 1), (-DIRECTION, 1), (np.roll(DIRECTION, 1), 1))
    ]
    assert steps[0] == steps[1] != steps[2]


def test_a_direction_in_a_block_of_rows_is_seen_without_its_arrow():
    found = change(without(BASE, [DIRECTION]), BASE, rows=24)
    assert (found.kind, found.evidence[0].value) == (Kind.ABLITERATED, None)


@pytest.mark.parametrize("share", [0.7, 1.0, 1.5])
def test_even_in_a_block_of_rows_the_model_that_lost_a_direction_is_the_child(share):
    cleaned = without(BASE, [DIRECTION], share=share)
    assert change(cleaned, BASE, rows=24).kind is Kind.ABLITERATED
    assert change(BASE, cleaned, rows=24).kind is not Kind.ABLITERATED


@pytest.mark.parametrize("rows", [None, 24])
def test_shrinkage_added_directions_and_adapters_of_rank_one_are_no_abliteration(rows):
    shrunk = {key: 0.9 * v if key.role in ("o", "down") else v for key, v in BASE.items()}
    assert change(shrunk, BASE, rows=rows).kind is not Kind.ABLITERATED
    one = with_adapter(BASE, 1, ("o", "down"))
    assert change(one, BASE, rows=rows).kind is Kind.LORA_MERGED
    if rows is None:
        added = without(BASE, [DIRECTION], share=-1.0)
        assert change(added, BASE).kind is not Kind.ABLITERATED


def test_models_without_writers_or_with_nothing_changed_have_no_removed_direction():
    assert removed_directions({}) is None
    same = change(BASE, BASE)
    assert (same.kind, same.relative, same.rank) == (Kind.FINETUNE, 0.0, None)
    empty = Fingerprint("e", "0" * 40, SCHEME, "safetensors", {})
    assert describe_change(empty, model("p", BASE)).evidence[1].value is None


@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_constant_weights_crash_nothing(fill):
    flat = {key: np.full_like(values, fill) for key, values in BASE.items()}
    for child, parent in ((flat, BASE), (BASE, flat), (flat, flat)):
        assert change(child, parent).kind in Kind


# -- vocabularies ----------------------------------------------------------------------------------


def test_appended_and_dropped_tokens_are_counted():
    longer = dict(BASE)
    longer[TensorKey("embed")] = np.concatenate([BASE[TensorKey("embed")], np.ones((8, D))])
    found = change(longer, BASE)
    assert (found.kind, found.vocabulary_map) == (Kind.VOCABULARY, VocabularyMap(TOKENS, 0, 8, 0))
    found = change(BASE, longer)
    assert found.vocabulary_map == VocabularyMap(TOKENS, 0, 0, 8)
    assert found.evidence[0].text == "8 rows of tokens were dropped"


def test_tokens_numbered_anew_are_compared_by_their_text():
    order = np.random.default_rng(8).permutation(TOKENS)
    turned = dict(BASE)
    turned[TensorKey("embed")] = BASE[TensorKey("embed")][order]
    parent = model("p", BASE, tokens={n: f"t{n}" for n in range(TOKENS)})
    child = model("c", turned, tokens={n: f"t{order[n]}" for n in range(TOKENS)})
    found = describe_change(child, parent)
    assert (found.kind, found.relative) == (Kind.VOCABULARY, 0.0)
    assert found.evidence[0].text == "the tokens were numbered anew"
    unread = model("c", turned)  # no tokens told: by number
    assert describe_change(unread, parent).relative > 0.1


def test_a_vocabulary_map_counts_from_zero():
    with pytest.raises(ValueError, match="counted from zero"):
        VocabularyMap(1, -1, 0, 0)


# -- the store -------------------------------------------------------------------------------------

TOLD = Finding(
    "a/b", Kind.LORA_MERGED, Grade.INFERRED, (ParentShare("z/base", 1.0),), rank=8,
    target_modules=("q", "v"), vocabulary_map=VocabularyMap(400, 3, 8, 1),
)  # fmt: skip
UNTOLD = Finding("c/d", Kind.FINETUNE, Grade.INFERRED, (ParentShare("z/base", 1.0),))


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path / "home")
    home.prepare()
    return home


def test_modules_and_vocabulary_maps_come_back_from_the_store(home):
    connection = home.open_working()
    try:
        assert replace_findings(connection, 1, [TOLD, UNTOLD]) == 2
        assert current_findings(connection) == (TOLD, UNTOLD)
        assert replace_findings(connection, 2, [TOLD, UNTOLD]) == 0  # nothing new was said
    finally:
        connection.close()


def test_a_home_of_before_gets_the_columns_and_keeps_its_findings(home):
    connection = home.open_working()
    replace_findings(connection, 1, [UNTOLD])
    for name in ("target_modules", "tokens_kept", "tokens_renumbered", "tokens_appended"):
        connection.execute(f"ALTER TABLE finding DROP COLUMN {name}")
    connection.execute("ALTER TABLE finding DROP COLUMN tokens_dropped")
    connection.execute("DELETE FROM migration WHERE name LIKE '0003%'")
    connection.close()
    connection = home.open_working()
    try:
        assert current_findings(connection) == (UNTOLD,)
        assert replace_findings(connection, 2, [TOLD, UNTOLD]) == 1
        assert current_findings(connection) == (TOLD, UNTOLD)
    finally:
        connection.close()

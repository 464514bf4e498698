"""Which relatives a masked merge was made of: simulated merges that least squares cannot see."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from lineage.infer.geometry import Pool
from lineage.infer.methods.mask_parents import Form, MaskSearch
from lineage.infer.methods.masked_search import MaskedMerge, _improved, find_masked
from lineage.infer.methods.masks import MaskFit, Rule, changes_from
from lineage.infer.parent_sets import parent_sets
from lineage.infer.settle import words
from lineage.weights.encodings import round_to
from lineage.weights.roles import TensorKey

N_MATRICES, SIDE = 6, 96
DENSITIES = (0.07, 0.3, 0.5, 0.6, 0.8)

Weights = np.ndarray


def moved(start: Weights, size: float, rng: np.random.Generator) -> Weights:
    step = size * rng.standard_normal(start.shape)
    return np.asarray(round_to("BF16", (start + 0.02 * step).astype(np.float32)))


def star(n: int, size: float | tuple[float, ...], seed: int) -> dict[str, Weights]:
    """A base and models that were trained from it, each on its own."""
    sizes = np.broadcast_to(size, n)
    rng = np.random.default_rng(seed)
    base = np.zeros((N_MATRICES, SIDE, SIDE), np.float32)
    models = {"base": moved(base, 1.0, rng)}
    models.update({f"m{i}": moved(models["base"], sizes[i], rng) for i in range(n)})
    return models


def dare(models: dict[str, Weights], recipe: dict[str, tuple[float, float]], seed: int) -> Weights:
    """Changes dropped at random, what is kept scaled up, weighted and summed on the base."""
    rng = np.random.default_rng(seed)
    merged = models["base"].astype(np.float64)
    for name, (weight, density) in recipe.items():
        kept = rng.random(merged.shape) < density
        merged = merged + weight / density * kept * (models[name] - models["base"])
    return np.asarray(round_to("F16", merged.astype(np.float32)))


def dare_ties(
    models: dict[str, Weights],
    recipe: dict[str, tuple[float | tuple[float, ...], float]],
    seed: int,
) -> Weights:
    """The same, with a sign elected for each word; weights may differ from layer to layer."""
    rng = np.random.default_rng(seed)
    base, changes = models["base"], []
    for name, (weight, density) in recipe.items():
        by_layer = np.broadcast_to(weight, N_MATRICES)[:, None, None]
        kept = rng.random(base.shape) < density
        changes.append(by_layer / density * kept * (models[name] - base))
    elected = np.sign(sum(changes))
    agreed = sum(np.where(np.sign(change) == elected, change, 0) for change in changes)
    return np.asarray(round_to("BF16", (base + agreed).astype(np.float32)))


def pooled(models: dict[str, Weights], child: Weights) -> Pool:
    everyone = models | {"child": child}
    return Pool(
        tuple(everyone),
        tuple(TensorKey("up", layer) for layer in range(N_MATRICES)),
        tuple(np.stack([one[layer] for one in everyone.values()]) for layer in range(N_MATRICES)),
    )


def found(models: dict[str, Weights], child: Weights, dtype: str = "F16") -> MaskedMerge | None:
    pool, names = pooled(models, child), list(models)
    return find_masked(pool, "child", dtype, parent_sets(pool, "child", names), names)


def test_a_base_that_least_squares_takes_away_is_found():
    """Weights that add up to more than two, one of them far above the others."""
    models = star(9, 0.01, 1)
    recipe = {"m0": (1.0, 0.4), "m1": (0.4, 0.8), "m2": (0.3, 0.8), "m3": (0.2, 0.5)}
    merge = found(models, dare(models, recipe, 2))
    assert merge is not None
    assert (merge.base, set(merge.parents)) == ("base", set(recipe))


def test_a_child_of_a_parent_gives_way_to_the_parent():
    models = star(5, 0.01, 3)
    rng = np.random.default_rng(4)
    models |= {f"child of m{i}": moved(models[f"m{i}"], 0.002, rng) for i in range(3)}
    recipe = {"m0": (0.5, 0.5), "m1": (0.2, 0.9), "m2": (0.4, 0.5)}
    merge = found(models, dare(models, recipe, 5))
    assert merge is not None
    assert set(merge.parents) == set(recipe)


def test_a_change_that_was_kept_seldom_is_found_at_its_true_size():
    models = star(7, 0.01, 6)
    recipe = {"m0": (0.5, 0.06), "m1": (0.2, 0.5), "m2": (0.4, 0.9)}
    merge = found(models, dare(models, recipe, 7))
    assert merge is not None
    assert set(merge.parents) == set(recipe)
    size = dict(zip(merge.parents, merge.fit.coefficients.mean(axis=0), strict=True))
    for name, (weight, density) in recipe.items():
        assert size[name] == pytest.approx(weight / density, rel=0.05)


@pytest.mark.slow
def test_a_large_change_that_was_kept_seldom_hides_no_merge():
    """Seen from the usual share kept, masks explain less than noise does."""
    sizes = (0.08, 0.04, 0.02, 0.01, 0.01, 0.04)
    models, rng = star(6, sizes, 8), np.random.default_rng(8)
    models |= {f"c{i}": moved(models[f"m{i}"], sizes[i] / 3, rng) for i in range(3)}
    recipe = {"m0": (0.44, 0.07), "m1": (0.4, 0.98), "m2": (0.18, 0.74), "m3": (0.21, 0.42)}
    merge = found(models, dare_ties(models, recipe, 2005), "BF16")
    assert merge is not None
    assert (merge.base, set(merge.parents)) == ("base", set(recipe))


def test_weights_that_differ_between_layers_are_found_from_the_beginning():
    """The first layer's are twice those of all others, as a widely copied recipe has them."""
    models = star(6, 0.05, 0)
    first = (0.5, 0.2, 0.2, 0.2, 0.2, 0.2)
    recipe = {"m0": (first, 0.6), "m1": (first, 0.6), "m2": ((0.1, *[0.3] * 5), 0.6)}
    merge = found(models, dare_ties(models, recipe, 10), "BF16")
    assert merge is not None
    assert (merge.base, set(merge.parents)) == ("base", set(recipe))
    size = dict(zip(merge.parents, merge.fit.coefficients.T, strict=True))
    for name, (weights, density) in recipe.items():
        assert size[name] == pytest.approx(np.array(weights) / density, rel=0.05)


def test_a_search_that_took_a_parent_for_the_base_moves_to_the_base():
    models = star(5, 0.05, 11)
    recipe = {"m0": (0.3, 0.6), "m1": (0.3, 0.6), "m2": (0.3, 0.6)}
    pool = pooled(models, dare_ties(models, recipe, 12))

    def search_from(base: str, form: Form, among: Sequence[str] = tuple(models)) -> MaskSearch:
        names = tuple(name for name in among if name != base)
        return MaskSearch(base, names, changes_from(pool, "child", base, names, "BF16", 2000), form)

    wrong = search_from("m0", Form(Rule.ELECTED))
    assert wrong.begin(("base", "m1", "m2"), 8)
    right = _improved(wrong, ["m0", "m3", "base"], search_from)
    assert (right.base, set(right.parents)) == ("base", set(recipe))


def test_a_search_begins_with_the_largest_shares_and_with_none_of_what_has_none():
    models = star(5, 0.05, 13)
    recipe = {"m0": (0.5, 0.6), "m1": (0.4, 0.6), "m2": (0.2, 0.6)}
    pool, names = pooled(models, dare(models, recipe, 14)), ("m0", "m1", "m2", "m3", "m4")
    changes = changes_from(pool, "child", "base", names, "F16", 2000)
    search = MaskSearch("base", names, changes, Form(Rule.SUM))
    assert search.begin(names, 8)
    assert search.parents == ("m0", "m1", "m2")
    assert search.begin(names, 2)
    assert search.parents == ("m0", "m1")


@pytest.mark.slow
def test_seven_parents_that_hide_each_other_are_found_from_all_at_once():
    rng = np.random.default_rng(1)
    models = {"base": moved(np.zeros((N_MATRICES, SIDE, SIDE), np.float32), 1.0, rng)}
    for i in range(5):
        models[f"m{i}"] = moved(models["base"], rng.choice([0.02, 0.04, 0.08]), rng)
    for i in range(4):
        models[f"c{i}"] = moved(models[f"m{rng.integers(5)}"], rng.choice([0.01, 0.02, 0.04]), rng)
    some = np.random.default_rng(1001)
    n_parents = int(some.integers(3, 8))
    recipe = {
        str(name): (float(np.round(some.uniform(0.1, 0.6), 2)), float(some.choice(DENSITIES)))
        for name in some.permutation([name for name in models if name != "base"])[:n_parents]
    }
    merge = found(models, dare_ties(models, recipe, 2001), "BF16")
    assert merge is not None
    assert (merge.base, set(merge.parents)) == ("base", set(recipe))
    assert len(recipe) == 7


@pytest.mark.parametrize("seed", range(3))
def test_what_was_only_trained_is_no_masked_merge(seed):
    models = star(6, 0.01, seed)
    assert found(models, moved(models["m0"], 0.01, np.random.default_rng(99))) is None


def test_a_parent_that_another_stands_in_for_is_found_when_both_are_asked_anew():
    """What one of two near relatives left is taken up by the other, and little leans to it."""
    models = star(4, 0.05, 23)
    rng = np.random.default_rng(24)
    models |= {f"c{i}": moved(models["m0"], 0.01, rng) for i in range(2)}
    recipe = {"c0": (0.3, 0.6), "c1": (0.3, 0.6), "m1": (0.2, 0.6)}
    pool = pooled(models, dare_ties(models, recipe, 25))
    names = tuple(name for name in models if name != "base")
    changes = changes_from(pool, "child", "base", names, "BF16", 3000)
    search = MaskSearch("base", names, changes, Form(Rule.ELECTED))
    assert search.begin(("c0", "m1"), 8)
    before = search.likelihood
    assert not search.grow()
    assert search.widen()
    assert set(search.parents) == set(recipe)
    assert search.likelihood > before
    assert not search.widen()


def test_what_has_next_to_no_weight_is_no_parent_however_it_helps():
    models = star(4, 0.05, 31)
    recipe = {"m0": (0.5, 0.6), "m1": (0.4, 0.6), "m2": (0.001, 1.0)}
    pool = pooled(models, dare(models, recipe, 32))
    names = ("m0", "m1", "m2", "m3")
    changes = changes_from(pool, "child", "base", names, "F16", 3000)
    search = MaskSearch("base", names, changes, Form(Rule.SUM))
    search.chosen = [0, 1, 2]
    search.fit = search.form.fit(changes.of(search.chosen), np.array([0.8, 0.7, 0.001]), 3)
    search.shrink()
    assert search.parents == ("m0", "m1")


def searched(
    models: dict[str, Weights], child: Weights, form: Form, begun: Sequence[str]
) -> MaskSearch:
    """A search that begins with some parents, carried on to where they explain what they can."""
    pool = pooled(models, child)
    names = tuple(name for name in models if name != "base")
    changes = changes_from(pool, "child", "base", names, "BF16", 3000)
    search = MaskSearch("base", names, changes, form)
    assert search.begin(begun, 8)
    search.polish()
    return search


def test_a_near_relative_of_a_parent_is_asked_though_nothing_leans_to_it():
    models = star(4, 0.05, 43)
    models["c0"] = moved(models["m0"], 0.02, np.random.default_rng(44))
    recipe = {"m0": (0.3, 0.6), "c0": (0.1, 0.6), "m1": (0.4, 0.6)}
    search = searched(models, dare_ties(models, recipe, 45), Form(Rule.ELECTED), ("m0", "m1"))
    search.fit.score[:] = 0.0
    assert search.widen()
    assert set(search.parents) == set(recipe)


def test_a_parent_that_shows_only_beside_weights_by_layer_is_found_with_these():
    models = star(4, 0.05, 46)
    models["c0"] = moved(models["m0"], 0.02, np.random.default_rng(47))
    first = (0.6, 0.1, 0.1, 0.1, 0.1, 0.1)
    recipe = {"m0": (first, 0.6), "c0": (0.15, 0.6), "m1": (first[::-1], 0.6)}
    search = searched(models, dare_ties(models, recipe, 48), Form(Rule.ELECTED), ("m0", "m1"))
    assert search.widen()
    assert search.form == Form(Rule.ELECTED, by_group=True)
    assert set(search.parents) == set(recipe)


def test_a_change_kept_so_seldom_that_nothing_leans_to_it_is_found():
    models = star(6, 0.05, 49)
    recipe = {"m0": (0.4, 0.6), "m1": (0.4, 0.6), "m2": (0.4, 0.07)}
    child = dare_ties(models, recipe, 50)
    search = searched(models, child, Form(Rule.ELECTED), ("m0", "m1"))
    search.fit.score[:] = 0.0
    assert search.fit.explained < 0.97
    assert search.widen()
    assert search.parents == ("m0", "m1", "m2")
    assert search.mean[2] == pytest.approx(0.4 / 0.07, rel=0.02)
    search.polish()
    assert not search.widen()


def test_a_fit_comes_to_rest_where_more_rounds_win_nothing():
    models = star(6, 0.05, 51)
    recipe = {f"m{i}": (0.3, 0.3 + 0.1 * i) for i in range(6)}
    search = searched(models, dare_ties(models, recipe, 52), Form(Rule.ELECTED), tuple(recipe))
    n, at_rest = len(search.changes.child), search.fit.log_likelihood
    few = search.fitted_anew(search.chosen, search.form)
    assert (at_rest - few.log_likelihood) * n > 100
    search.polish()
    assert (search.fit.log_likelihood - at_rest) * n < 1


def test_what_takes_the_place_of_a_parent_is_carried_as_far():
    models = star(5, 0.05, 53)
    models["c0"] = moved(models["m0"], 0.03, np.random.default_rng(54))
    recipe = {"m0": (0.3, 0.4), "m1": (0.3, 0.6), "m2": (0.3, 0.5), "m3": (0.2, 0.5)}
    begun = ("c0", "m1", "m2", "m3")
    search = searched(models, dare_ties(models, recipe, 55), Form(Rule.ELECTED), begun)
    few = search.fitted([search.names.index(name) for name in recipe], search.form)
    search.exchange(polished=True)
    assert set(search.parents) == set(recipe)
    assert search.fit.log_likelihood > few.log_likelihood


@pytest.mark.parametrize(
    ("gain", "explained", "noise", "least_weight", "believed"),
    [
        (0.45, 0.95, 0.01, 0.2, True),
        (0.35, 0.99, 0.01, 0.2, False),
        (0.59, 0.90, 0.01, 0.2, False),
        (1.46, 0.93, 0.01, 0.2, False),  # however much they gain
        (1.46, 0.99, 0.04, 0.2, False),
        (1.46, 0.99, 0.01, -0.1, False),
    ],
)
def test_masks_are_believed_by_what_they_gain_and_explain(
    gain, explained, noise, least_weight, believed
):
    blank = np.zeros((1, 2))
    fit = MaskFit(
        Rule.SUM,
        rescaled=False,
        coefficients=np.array([[0.5, least_weight]]),
        curves=blank,
        log_likelihood=0.0,
        explained=explained,
        kept=blank,
        score=blank,
        noise=noise,
        errors=blank,
    )
    merge = MaskedMerge("base", ("one", "two"), None, fit, gain)
    assert words._believed(merge) is believed

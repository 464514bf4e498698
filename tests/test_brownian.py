"""Regression and ancestral states on a covariance: printed answers, dense oracles, networks."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import multivariate_normal
from scipy.stats import t as student_t

from lineage.evolution.comparative.brownian import ancestral_states, fit_brownian, pgls
from lineage.evolution.comparative.gls import SignalLikelihood
from lineage.evolution.comparative.trees import Tree
from phylogenies import column, random_forest, read_table, read_tree, tip_names, tree_of

Floats = NDArray[np.float64]
NAN = math.nan


def published(shared_data: Path, name: str, *columns: str) -> tuple[Floats, ...]:
    """V of the tips, then columns of the table, all in the order of the tips."""
    folder = shared_data / "statistics" / "phylo"
    tree, table = read_tree(folder / f"{name}.nwk"), read_table(folder / f"{name}.csv")
    names = [tip for tip in tip_names(tree) if tip in table]
    shared = tree.shared_length(tree.numbers(names))
    return (shared, *(column(table, what, names) for what in columns))


def with_constant(*predictors: Floats) -> Floats:
    return np.column_stack([np.ones(predictors[0].size), *predictors])


def scaled(covariance: Floats, signal: float) -> Floats:
    return signal * covariance + (1 - signal) * np.diag(np.diag(covariance))


def random_case(seed: int, n: int = 12) -> tuple[Floats, Floats, Floats]:
    """V of a random tree's tips with edges of their own, a design and a trait."""
    rng = np.random.default_rng(seed)
    V = random_forest(seed, 3 * n, n_roots=1).shared_length()
    design = with_constant(rng.normal(size=V.shape[0]))
    return V, design, rng.normal(3, 2, V.shape[0])


# caper 1.0.3, nlme 3.1-162 and phylolm under R 4.2.2; the shorebird line is printed in caper's
# vignette with λ = .956 (.867–1.000)
def test_shorebird_eggs_regress_on_mass_as_caper_found(shared_data: Path) -> None:
    V, male, egg = published(shared_data, "shorebird", "M.Mass", "Egg.Mass")
    design = with_constant(np.log(male))
    found = pgls(np.log(egg), design, V)
    assert found.signal is not None
    signal = found.signal.signal
    assert (signal.value, signal.low, signal.high) == pytest.approx((0.956, 0.867, 1.0), abs=5e-4)
    assert [b.value for b in found.coefficients] == pytest.approx([-0.486129, 0.688645], abs=1e-5)
    assert found.errors == pytest.approx((0.205686, 0.032647), abs=2e-6)
    fixed = pgls(np.log(egg), design, V, signal=1.0)
    assert [b.value for b in fixed.coefficients] == pytest.approx([-0.421775, 0.675619], abs=1e-6)
    assert fixed.errors[1] == pytest.approx(0.034791, abs=1e-6)
    assert fixed.signal is None


def test_shorebird_eggs_regress_on_both_masses_as_caper_found(shared_data: Path) -> None:
    V, male, female, egg = published(shared_data, "shorebird", "M.Mass", "F.Mass", "Egg.Mass")
    m, f = np.log(male), np.log(female)
    found = pgls(np.log(egg), with_constant(m, f, m * f), V)
    assert found.signal is not None
    signal = found.signal.signal
    assert signal.value == pytest.approx(0.94650937, abs=1e-5)
    assert (signal.low, signal.high) == pytest.approx((0.83550417, 0.99714627), abs=5e-5)
    assert found.log_likelihood == pytest.approx(38.771998, abs=1e-6)
    assert [b.value for b in found.coefficients] == pytest.approx(
        [-0.3133546296, 0.9499406082, -0.3152300728, 0.0056778747], abs=1e-5
    )
    assert found.errors == pytest.approx(
        (0.511158118, 0.247344333, 0.245523867, 0.021798336), rel=1e-5
    )
    assert [b.p_value for b in found.coefficients] == pytest.approx(
        [0.54193273549, 0.00027496701, 0.20359647654, 0.79529792586], rel=1e-3
    )


def test_mammal_home_ranges_regress_on_mass_as_nlme_found(shared_data: Path) -> None:
    V, mass, home = published(shared_data, "mammal", "bodyMass", "homeRange")
    design = with_constant(np.log(mass))
    fixed = pgls(np.log(home), design, V, signal=1.0)
    assert [b.value for b in fixed.coefficients] == pytest.approx([-3.2785246, 1.2615762], abs=1e-7)
    assert fixed.errors == pytest.approx((1.42613873, 0.17677172), abs=1e-8)
    assert fixed.log_likelihood == pytest.approx(-84.495216, abs=1e-6)
    assert [b.p_value for b in fixed.coefficients] == pytest.approx(
        [2.6003852e-02, 5.0716198e-09], rel=1e-6
    )
    reach = student_t.ppf(0.975, 47) * 0.17677172
    slope = fixed.coefficients[1]
    assert (slope.low, slope.high) == pytest.approx((1.2615762 - reach, 1.2615762 + reach))
    found = pgls(np.log(home), design, V)
    assert found.signal is not None
    assert found.signal.signal.value == pytest.approx(0.89258594, abs=1e-6)
    assert [b.value for b in found.coefficients] == pytest.approx([-2.974719, 1.2050204], abs=1e-6)
    assert found.errors == pytest.approx((1.16151798, 0.17146682), abs=1e-6)
    assert found.log_likelihood == pytest.approx(-83.872608, abs=1e-6)


# geiger, ape and phytools under R 4.2.2: logLik, σ² (ML), root
@pytest.mark.parametrize(
    ("name", "trait", "log", "expected"),
    [
        ("geospiza", "wingL", False, (8.2432686, 0.070545679, 4.2059526)),
        ("geospiza", "tarsusL", False, (10.567317, 0.049338983, 3.0204191)),
        ("geospiza", "culmenL", False, (-3.2156368, 0.4112367, 2.2879514)),
        ("geospiza", "beakD", False, (-7.1158793, 0.74935007, 1.8266954)),
        ("geospiza", "gonysW", False, (-4.7291879, 0.51906181, 1.84671)),
        ("anole", "SVL", False, (5.2561207, 0.018223362, 4.0535071)),
        ("mammal", "bodyMass", True, (-75.078508, 0.077990438, 4.6168639)),
        ("mammal", "homeRange", True, (-102.48161, 0.2386696, 2.5460009)),
    ],
)
def test_brownian_motion_fits_published_traits_as_r_has_it(
    shared_data: Path, name: str, trait: str, log: bool, expected: tuple[float, float, float]
) -> None:
    V, values = published(shared_data, name, trait)
    found = fit_brownian(np.log(values) if log else values, V)
    assert found.log_likelihood == pytest.approx(expected[0], rel=1e-7)
    assert found.rate.value == pytest.approx(expected[1], rel=1e-7)
    assert found.coefficients[0].value == pytest.approx(expected[2], rel=1e-7)


def test_the_root_of_anole_size_has_the_interval_of_fastanc(shared_data: Path) -> None:
    V, size = published(shared_data, "anole", "SVL")
    found = fit_brownian(size, V)
    reach = 1.96 * found.errors[0]  # fastAnc's normal quantile; ours is Student's
    root = found.coefficients[0]
    assert (root.value - reach, root.value + reach) == pytest.approx((3.8543204, 4.2526938))
    assert root.high - root.value == pytest.approx(student_t.ppf(0.975, 81) * found.errors[0])


# PhyloTraits.jl test/test_traits.jl (agrees with geiger and phylolm) and its example files
def test_caudata_sizes_evolve_as_phylotraits_found(shared_data: Path) -> None:
    folder = shared_data / "statistics" / "network"
    tree, table = read_tree(folder / "caudata_tree.txt"), read_table(folder / "caudata_trait.txt")
    names = tip_names(tree)
    values = column(table, "trait", names)
    found = fit_brownian(values, tree.shared_length())
    assert found.log_likelihood == pytest.approx(-78.9611507833, abs=1e-9)
    assert found.rate.value == pytest.approx(0.0029452097, abs=1e-9)
    assert found.coefficients[0].value == pytest.approx(4.6789989001, abs=1e-9)
    every = np.full(len(tree), NAN)
    every[tree.tips] = values
    states = ancestral_states(every, tree.shared_length(np.arange(len(tree))))
    theirs = np.loadtxt(folder / "caudata_Phytools.txt", delimiter=",", skiprows=1)
    inner = np.flatnonzero(tree.n_children > 0)  # both in preorder
    assert [states[i].value for i in inner] == pytest.approx(theirs[:, 0], abs=1e-12)
    reach = np.array([states[i].high - states[i].value for i in inner])
    variance = (reach / student_t.ppf(0.975, values.size - 1)) ** 2
    assert variance == pytest.approx(theirs[:, 1], rel=1e-10)
    assert [states[i].value for i in tree.tips] == values.tolist()


def network_covariance(parents: dict[str, list[tuple[str, float, float]]]) -> Floats:
    """Brownian motion on a network, node by node: (parent, weight, length) of each child."""
    names = list(parents)
    V = np.zeros((len(names), len(names)))
    for i, name in enumerate(names):
        for parent, weight, length in parents[name]:
            k = names.index(parent)
            V[i, :i] += weight * V[k, :i]
            V[i, i] += weight**2 * length
            for other, share, _ in parents[name]:
                V[i, i] += weight * share * V[k, names.index(other)]
        V[:i, i] = V[i, :i]
    return V


def test_merges_work_like_trees(shared_data: Path) -> None:
    # PhyloNetworks.jl test_traits.jl: H is nine tenths D's stem and one tenth B's sister
    V = network_covariance(
        {
            "root": [],
            "A": [("root", 1, 0.5)],
            "inner": [("root", 1, 0.5)],
            "left": [("inner", 1, 1)],
            "right": [("inner", 1, 1)],
            "B": [("left", 1, 1)],
            "C": [("right", 1, 1)],
            "H": [("left", 0.1, 1), ("right", 0.9, 1)],
            "D": [("H", 1, 1)],
        }
    )
    tips = [1, 5, 6, 8]
    text = (shared_data / "statistics/network/network_vcv_phylonetworks_test.txt").read_text()
    printed = [[float(x) for x in line.split()[1:]] for line in text.splitlines()[-4:]]
    assert V[np.ix_(tips, tips)] == pytest.approx(np.array(printed), abs=1e-12)
    every = np.full(9, NAN)
    every[tips] = [1.0, 4.0, 2.0, 3.5]
    states = ancestral_states(every, V)
    y, Vo = every[tips], V[np.ix_(tips, tips)]
    one = np.ones(4)
    mean = one @ np.linalg.solve(Vo, y) / (one @ np.linalg.solve(Vo, one))
    for i in (0, 2, 3, 4, 7):
        expected = mean + V[i, tips] @ np.linalg.solve(Vo, y - mean)
        assert states[i].value == pytest.approx(expected)
    assert fit_brownian(y, Vo).log_likelihood == pytest.approx(
        max(
            multivariate_normal.logpdf(y, np.full(4, mean), rate * Vo)
            for rate in np.linspace(0.1, 3, 5801)
        ),
        abs=1e-6,
    )


@given(st.integers(0, 10_000), st.floats(0, 1), st.booleans())
def test_likelihoods_at_any_signal_agree_with_the_dense_normal(
    seed: int, signal: float, reml: bool
) -> None:
    V, design, y = random_case(seed)
    n, p = design.shape
    fit = SignalLikelihood(y, design, V, reml=reml).gls(signal)
    assert fit is not None
    inverse = np.linalg.inv(scaled(V, signal))
    information = design.T @ inverse @ design
    beta = np.linalg.solve(information, design.T @ inverse @ y)
    rss = (y - design @ beta) @ inverse @ (y - design @ beta)
    rate = rss / (n - p if reml else n)
    dense = multivariate_normal.logpdf(y, design @ beta, rate * scaled(V, signal))
    if reml:  # the integral of the likelihood over β
        dense += 0.5 * p * math.log(2 * math.pi)
        dense -= 0.5 * np.linalg.slogdet(information / rate)[1]
    assert fit.beta == pytest.approx(beta, rel=1e-6, abs=1e-8)
    assert fit.log_likelihood == pytest.approx(dense, abs=1e-7)
    assert np.diag(fit.unscaled) == pytest.approx(np.diag(np.linalg.inv(information)), rel=1e-6)


@given(st.integers(0, 10_000), st.floats(0.01, 100), st.floats(0.01, 100))
def test_units_of_length_and_trait_move_only_what_they_measure(
    seed: int, length: float, unit: float
) -> None:
    V, design, y = random_case(seed)
    found = pgls(y, design, V, signal=0.7)
    other = pgls(unit * y, design, length * V, signal=0.7)
    assert other.rate.value == pytest.approx(found.rate.value * unit**2 / length)
    assert [b.value for b in other.coefficients] == pytest.approx(
        [unit * b.value for b in found.coefficients]
    )
    assert other.errors == pytest.approx([unit * e for e in found.errors])
    assert other.coefficients[1].p_value == pytest.approx(found.coefficients[1].p_value)


def test_without_shared_paths_regression_is_ordinary_least_squares() -> None:
    import statsmodels.api as sm

    rng = np.random.default_rng(3)
    design, y = with_constant(rng.normal(size=20)), rng.normal(size=20)
    theirs = sm.OLS(y, design).fit()
    for V, signal in ((np.eye(20), 1.0), (np.full((20, 20), 0.5) + 0.5 * np.eye(20), 0.0)):
        found = pgls(y, design, V, signal=signal)
        assert [b.value for b in found.coefficients] == pytest.approx(theirs.params)
        assert found.errors == pytest.approx(theirs.bse)
        assert [b.p_value for b in found.coefficients] == pytest.approx(theirs.pvalues)
        assert (found.coefficients[1].low, found.coefficients[1].high) == pytest.approx(
            theirs.conf_int()[1]
        )
        assert found.log_likelihood == pytest.approx(theirs.llf)
    assert pgls(y, design, np.eye(20), signal=1.0).rate.n_clusters == 20
    restricted = pgls(y, design, np.eye(20), signal=1.0, reml=True)
    assert restricted.rate.value == pytest.approx(theirs.mse_resid)


@given(st.integers(0, 10_000))
def test_predictions_have_the_least_variance_of_all_weights_that_sum_to_one(seed: int) -> None:
    # kriging: one linear system in the weights and a multiplier, instead of the mean first
    tree = random_forest(seed, 24, n_roots=1)
    V = tree.shared_length(np.arange(24))
    rng = np.random.default_rng(seed)
    values = np.where(np.isin(np.arange(24), tree.tips), rng.normal(5, 2, 24), NAN)
    some = np.flatnonzero((tree.n_children > 0) & (tree.parent >= 0))[:2]
    values[some] = rng.normal(5, 2, some.size)  # ancestors that were measured
    seen = np.isfinite(values)
    found = ancestral_states(values, V)
    rate = fit_brownian(values[seen], V[np.ix_(seen, seen)], reml=True).rate.value
    n = int(seen.sum())
    system = np.ones((n + 1, n + 1))
    system[:n, :n] = V[np.ix_(seen, seen)]
    system[n, n] = 0
    quantile = student_t.ppf(0.975, n - 1)
    for i in np.flatnonzero(~seen):
        *weights, multiplier = np.linalg.solve(system, [*V[seen, i], 1.0])
        assert found[i].value == pytest.approx(weights @ values[seen])
        spread = rate * (V[i, i] - weights @ V[seen, i] - multiplier)
        assert (found[i].high - found[i].value) ** 2 == pytest.approx(quantile**2 * spread)
    for i in np.flatnonzero(seen):
        assert (found[i].low, found[i].value, found[i].high) == (values[i],) * 3


def test_rate_and_root_intervals_cover_under_brownian_motion() -> None:
    tree = random_forest(5, 40, n_roots=1)
    V = tree.shared_length()
    n = V.shape[0]
    rng = np.random.default_rng(8)
    factor = np.linalg.cholesky(2.0 * V)
    root = rate = 0
    for _ in range(300):
        found = fit_brownian(7 + factor @ rng.normal(size=n), V)
        root += found.coefficients[0].low <= 7 <= found.coefficients[0].high
        rate += found.rate.low <= 2 <= found.rate.high
    assert 0.91 < root / 300 < 0.985
    assert 0.91 < rate / 300 < 0.985


def test_rows_that_are_not_measured_take_no_part() -> None:
    V, design, y = random_case(6)
    gaps, holed = y.copy(), design.copy()
    gaps[2], holed[5, 1] = NAN, NAN
    kept = np.setdiff1d(np.arange(y.size), [2, 5])
    found = pgls(gaps, holed, V, signal=0.5)
    expected = pgls(y[kept], design[kept], V[np.ix_(kept, kept)], signal=0.5)
    assert found == expected
    assert found.coefficients[0].n == kept.size


def test_two_founders_without_shared_paths_are_two_clusters() -> None:
    V = np.kron(np.eye(2), np.full((3, 3), 0.5) + 0.5 * np.eye(3))
    found = fit_brownian(np.array([1.0, 2, 4, 3, 5, 9]), V)
    assert found.coefficients[0].n_clusters == 2


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([1.0, 1, 1, 1], "no variation left to explain"),
        ([1.0, NAN, NAN, NAN], "1 complete rows, 3 needed"),
        ([NAN] * 4, "0 complete rows, 3 needed"),
        ([1.0, 2, NAN, NAN], "2 complete rows, 3 needed"),
    ],
)
def test_what_cannot_be_told_is_nan_and_says_why(values: list[float], reason: str) -> None:
    V = np.array([[2.0, 1, 0, 0], [1, 2, 0, 0], [0, 0, 2, 1], [0, 0, 1, 2]])
    found = fit_brownian(np.array(values), V)
    assert math.isnan(found.coefficients[0].value)
    assert math.isnan(found.rate.value)
    assert math.isnan(found.errors[0])
    assert reason in found.rate.method
    wide = np.zeros((5, 5))
    wide[:4, :4] = V
    states = ancestral_states(np.array([*values, NAN]), wide)
    assert math.isnan(states[4].value)
    assert reason in states[4].method
    assert states[0].value == pytest.approx(values[0], nan_ok=True)


def test_variation_is_told_from_rounding_on_any_scale() -> None:
    V = np.array([[2.0, 1, 0, 0], [1, 2, 0, 0], [0, 0, 2, 1], [0, 0, 1, 2]])
    y = np.array([1.0, 2, 4, 3])
    rate = fit_brownian(y, V).rate.value
    assert fit_brownian(1e6 + 1e-2 * y, V).rate.value == pytest.approx(1e-4 * rate, rel=1e-5)
    assert fit_brownian(1e3 + y, 1e12 * V).rate.value == pytest.approx(1e-12 * rate, rel=1e-6)
    for constant in (0.1, 1e12 / 3):
        assert math.isnan(fit_brownian(np.full(4, constant), V).rate.value)


def test_signal_cannot_be_told_where_no_two_share_a_path() -> None:
    found = pgls(np.array([1.0, 2, 4, 3]), np.ones((4, 1)), np.eye(4))
    assert found.signal is None
    assert "no two nodes share a path" in found.coefficients[0].method


def test_copies_at_one_place_are_refused_only_where_they_do_harm() -> None:
    V = np.array([[1.0, 1, 0.5], [1, 1, 0.5], [0.5, 0.5, 1]])
    y = np.array([1.0, 2, 4])
    with pytest.raises(ValueError, match="collapse copies"):
        fit_brownian(y, V)
    found = pgls(y, np.ones((3, 1)), V)  # λ < 1 leaves room between copies
    assert found.signal is not None
    assert found.signal.log_likelihood_one == -math.inf
    assert found.signal.signal.high < 1


@pytest.mark.parametrize(
    ("covariance", "complaint"),
    [
        (np.eye(2), r"shape \(3, 3\) expected"),
        (np.array([[1, 0.5, 0], [0, 1, 0], [0, 0, 1.0]]), "symmetric"),
        (np.array([[1, NAN, 0], [NAN, 1, 0], [0, 0, 1.0]]), "finite"),
        (np.diag([1.0, 0.0, 1.0]), "1 nodes have no variance: leave founders out"),
        (np.diag([1.0, -1.0, 1.0]), "1 nodes have no variance"),
    ],
)
def test_what_is_no_covariance_is_refused(covariance: Floats, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        fit_brownian(np.array([1.0, 2, 4]), covariance)


def test_other_bad_input_is_refused() -> None:
    y, V = np.array([1.0, 2, 4, 3]), np.eye(4) + 1
    with pytest.raises(ValueError, match="λ must lie in"):
        pgls(y, np.ones((4, 1)), V, signal=1.5)
    with pytest.raises(ValueError, match="as many rows"):
        pgls(y, np.ones((3, 1)), V)
    with pytest.raises(ValueError, match="linearly dependent"):
        pgls(y, np.ones((4, 2)), V)
    with pytest.raises(ValueError, match="more than 1 observations"):
        SignalLikelihood(y[:1], np.ones((1, 1)), V[:1, :1])
    with pytest.raises(ValueError, match=r"shape \(4, 4\) expected"):
        ancestral_states(y, np.eye(3))


def test_a_tree_of_dated_models_gives_states_between_parent_and_child() -> None:
    tree: Tree = tree_of("((a:1,b:1)x:1,c:2)r;")
    values = np.array([{"a": 4.0, "b": 6.0, "c": 1.0}.get(name, NAN) for name in tree.names])
    states = dict(
        zip(tree.names, ancestral_states(values, tree.shared_length(np.arange(5))), strict=True)
    )
    # by rerooting: x sees a and b at distance 1, c at 3; r sees c at 2 and {a, b} at 1 + 1/2
    assert states["x"].value == pytest.approx((4 + 6 + 1 / 3) / (1 + 1 + 1 / 3))
    assert states["r"].value == pytest.approx((1 / 2 + 5 / 1.5) / (1 / 2 + 1 / 1.5))

"""The animal model: published fits, a dense oracle, and what it must refuse."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csc_array, csr_array, eye_array

from lineage.evolution.inheritance import animal
from lineage.evolution.inheritance.animal import AnimalModelFit, fit_animal_model
from lineage.evolution.inheritance.bivariate import BivariateFit, fit_bivariate_model
from lineage.evolution.inheritance.mixed_model import MixedModel, RandomEffect
from lineage.evolution.inheritance.mixed_solution import Solution, log_determinant_slope
from lineage.evolution.inheritance.relatedness import Relatedness, mendelian, relatedness
from lineage.evolution.inheritance.spectral_reml import boundary_p_value, profile_interval, spectrum
from lineage.graph import CycleError, LineageGraph

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


# -- the gryphons of Wilson et al. 2010 --------------------------------------------------------


@dataclass(frozen=True)
class Gryphons:
    related: Relatedness
    columns: dict[str, Floats]

    @property
    def node(self) -> Ints:
        names = self.columns["animal"].astype(int).astype(str)
        return np.array([self.related.graph.number(name) for name in names])

    def fit(
        self, trait: str, factors: list[str], groups: list[str], *, pedigree: bool = True
    ) -> AnimalModelFit:
        """Intercept and treatment contrasts of `factors`, as R codes them."""
        fixed, names = [np.ones(self.node.size)], ["intercept"]
        for factor in factors:
            for value in np.unique(self.columns[factor])[1:]:
                fixed.append((self.columns[factor] == value).astype(float))
                names.append(f"{factor}{value:g}")
        labels = {group: self.columns[group].astype(int) for group in groups}
        related = self.related if pedigree else None
        return fit_animal_model(
            self.columns[trait], np.column_stack(fixed), names, related, self.node, labels
        )


def gryphon_records(folder: Path, name: str) -> Gryphons:
    with (folder / "gryphonped.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    edges = [
        (row["id"], row[side], 0.5, place)
        for row in rows
        for place, side in enumerate(("father", "mother"))
        if row[side] != "NA"
    ]
    graph = LineageGraph.from_edges([row["id"] for row in rows], edges)
    with (folder / name).open() as lines:
        records = list(csv.DictReader(lines, delimiter="\t"))
    columns = {
        key.lower(): np.array([float(row[key]) if row[key] != "NA" else np.nan for row in records])
        for key in records[0]
    }
    columns["identity"] = columns["animal"]  # as a group, beside the breeding value
    return Gryphons(mendelian(graph), columns)


@pytest.fixture(scope="module")
def gryphons(shared_data: Path) -> Gryphons:
    return gryphon_records(shared_data / "statistics" / "gryphon", "gryphon.txt")


@pytest.fixture(scope="module")
def repeated(shared_data: Path) -> Gryphons:
    return gryphon_records(shared_data / "statistics" / "gryphon", "gryphonRM.txt")


# ASReml-R 4.1 as printed in the authors' tutorial: value and standard error of each component
PUBLISHED = {
    ("bwt", "", ""): ({"animal": (3.395398, 0.6349915), "residual": (3.828602, 0.5185919)}, None),
    ("bwt", "sex", ""): (
        {"animal": (3.060441, 0.5243571), "residual": (2.938412, 0.4161473)},
        -1165.093,
    ),
    ("bwt", "sex", "byear"): (
        {
            "animal": (2.7068665, 0.442214),
            "byear": (0.8862604, 0.2695918),
            "residual": (2.3092415, 0.3451025),
        },
        -1113.772,
    ),
    ("bwt", "sex", "byear mother"): (
        {
            "animal": (2.298532, 0.4962496),
            "byear": (0.8820313, 0.2632455),
            "mother": (1.1184698, 0.2386239),
            "residual": (1.6290034, 0.3714154),
        },
        -1094.815,
    ),
    ("laydate", "age", "identity"): (
        {
            "animal": (4.876101, 1.8087709),
            "identity": (7.400983, 1.7280113),
            "residual": (16.380188, 0.6866189),
        },
        -3340.679,
    ),
}


@pytest.mark.parametrize("case", PUBLISHED, ids=" ".join)
def test_gryphon_models_have_the_published_variances_errors_and_likelihood(
    case: tuple[str, str, str], gryphons: Gryphons, repeated: Gryphons
) -> None:
    trait, factors, groups = case
    records = gryphons if trait == "bwt" else repeated
    fit = records.fit(trait, factors.split(), groups.split())
    components, log_likelihood = PUBLISHED[case]
    assert fit.effects == tuple(components)
    published, errors = np.array(list(components.values())).T
    np.testing.assert_allclose(fit.variance, published, rtol=1e-5)
    np.testing.assert_allclose(np.sqrt(np.diag(fit.variance_covariance)), errors, rtol=6e-5)
    if log_likelihood is not None:
        assert fit.log_likelihood == pytest.approx(log_likelihood, abs=5.1e-4)
    assert fit.converged
    assert not fit.at_boundary.any()


def error_of(method: str) -> float:
    return float(method.rpartition("SE ")[2].split(",")[0])


def test_gryphon_heritabilities_have_the_published_values_and_errors(gryphons: Gryphons) -> None:
    mean_only = gryphons.fit("bwt", [], [])
    assert mean_only.heritability.value == pytest.approx(0.4700163, abs=1e-6)
    assert error_of(mean_only.heritability.method) == pytest.approx(0.07650881, abs=5e-6)
    assert mean_only.log_likelihood == pytest.approx(-1247.183, abs=5e-4)  # gremlin
    by_sex = gryphons.fit("bwt", ["sex"], [])
    assert by_sex.heritability.value == pytest.approx(0.510171, abs=1e-6)
    assert error_of(by_sex.heritability.method) == pytest.approx(0.07432388, abs=5e-6)
    whole = gryphons.fit("bwt", ["sex"], ["byear", "mother"])
    assert whole.heritability.value == pytest.approx(0.38774, abs=1e-5)
    assert error_of(whole.heritability.method) == pytest.approx(0.07783, abs=1e-5)


def test_gryphon_fixed_effects_have_the_published_values_and_errors(gryphons: Gryphons) -> None:
    fit = gryphons.fit("bwt", ["sex"], [])
    np.testing.assert_allclose(fit.fixed, [6.058669, 2.206996], atol=2e-6)
    errors = np.sqrt(np.diag(fit.fixed_covariance))
    np.testing.assert_allclose(errors, [0.1718244, 0.1619974], atol=1e-6)
    sex = fit.fixed_effect("sex2")
    assert sex.high - sex.value == pytest.approx(1.959963985 * 0.1619974, abs=1e-6)
    assert (sex.n, sex.p_value) == (854, pytest.approx(2 * 1.4486e-42, rel=1e-3))


def test_gryphon_mothers_matter_by_the_published_likelihood_ratio(gryphons: Gryphons) -> None:
    test = gryphons.fit("bwt", ["sex"], ["byear", "mother"]).likelihood_ratio("mother")
    assert test.statistic == pytest.approx(37.9146708, abs=5e-6)
    assert 2 * test.p_value == pytest.approx(7.390738e-10, rel=1e-5)  # the tutorial's χ²₁


def test_gryphon_likelihood_differs_from_error_contrasts_by_the_stated_constants(
    gryphons: Gryphons,
) -> None:
    fit = gryphons.fit("bwt", ["sex"], [])
    used = np.isfinite(gryphons.columns["bwt"])
    sex = gryphons.columns["sex"][used] == 2
    crossed = np.array([[used.sum(), sex.sum()], [sex.sum(), sex.sum()]], dtype=float)
    constant = -(854 - 2) / 2 * math.log(2 * math.pi) + 0.5 * math.log(np.linalg.det(crossed))
    assert fit.log_likelihood + constant == pytest.approx(-1941.98146, abs=1e-5)  # glimix-core


def test_repeated_laying_dates_split_into_heritable_and_permanent(repeated: Gryphons) -> None:
    fit = repeated.fit("laydate", ["age"], ["identity"])
    assert fit.heritability.value == pytest.approx(0.1701523, abs=1e-6)
    assert error_of(fit.heritability.method) == pytest.approx(0.06073974, abs=1e-5)
    repeatability = fit.share("animal", "identity")
    assert repeatability.value == pytest.approx(0.4284108, abs=1e-6)
    assert error_of(repeatability.method) == pytest.approx(0.02741602, abs=1e-5)


def test_without_permanent_environment_all_repeatability_passes_for_heritable(
    repeated: Gryphons,
) -> None:
    fit = repeated.fit("laydate", ["age"], [])
    # ASReml prints 13.91784 (1.443968); the maximum, by any start, is at 13.91710
    assert fit.component("animal").value == pytest.approx(13.91784, abs=1e-3)


@pytest.mark.parametrize(
    ("factors", "identity", "residual"), [([], 11.08634, 21.29643), (["age"], 12.28982, 16.37989)]
)
def test_identities_without_pedigree_have_the_published_repeatability(
    repeated: Gryphons, factors: list[str], identity: float, residual: float
) -> None:
    fit = repeated.fit("laydate", factors, ["identity"], pedigree=False)
    assert fit.effects == ("identity", "residual")
    np.testing.assert_allclose(fit.variance, [identity, residual], rtol=2e-6)


# -- textbook predictions ----------------------------------------------------------------------


def mrode_3_1() -> AnimalModelFit:
    """Pre-weaning gain of five calves, α = 2 (Mrode 2005, example 3.1)."""
    parents = {4: (1,), 5: (3, 2), 6: (1, 2), 7: (4, 5), 8: (3, 6)}
    edges = [(str(c), str(p), 0.5, k) for c, of in parents.items() for k, p in enumerate(of)]
    related = mendelian(LineageGraph.from_edges([str(i) for i in range(1, 9)], edges))
    gain = np.array([4.5, 2.9, 3.9, 3.5, 5.0])
    male = np.array([1, 0, 0, 1, 1.0])
    return fit_animal_model(
        gain,
        np.column_stack([male, 1 - male]),
        ["male", "female"],
        related,
        np.arange(3, 8),
        variances={"animal": 20, "residual": 40},
    )


def test_mrode_example_3_1_has_the_printed_effects_and_breeding_values() -> None:
    fit = mrode_3_1()
    np.testing.assert_allclose(fit.fixed, [4.359, 3.404], atol=5e-4)
    printed = [0.098, -0.019, -0.041, -0.009, -0.186, 0.177, -0.249, 0.183]
    np.testing.assert_allclose(fit.breeding_values, printed, atol=5.1e-4)


def test_mrode_example_3_1_has_the_printed_reliabilities_and_errors() -> None:
    reliability = mrode_3_1().reliability(np.arange(8))
    printed = [0.058, 0.016, 0.087, 0.145, 0.144, 0.115, 0.116, 0.155]
    np.testing.assert_allclose(reliability, printed, atol=5.1e-4)
    errors = [4.341, 4.437, 4.273, 4.136, 4.138, 4.206, 4.204, 4.110]
    np.testing.assert_allclose(np.sqrt((1 - reliability) * 20), errors, atol=5.1e-4)


def test_given_variances_have_no_errors_and_give_no_interval() -> None:
    heritability = mrode_3_1().heritability
    assert math.isnan(heritability.value)
    assert "the variances were given" in heritability.method


# -- a simulated population, and the dense way to fit it ---------------------------------------


@dataclass(frozen=True)
class Population:
    """Founders, fine-tunes, merges and copies, some measured twice, by several authors."""

    related: Relatedness
    node: Ints
    author: Ints
    trait: Floats
    fixed: Floats

    def covariances(self) -> list[Floats]:
        """Dense ∂V/∂σ² of animal, author, residual."""
        a = self.related.matrix(np.arange(self.related.variance.size))
        z = np.eye(a.shape[0])[self.node]
        who = (self.author[:, None] == self.author[None, :]).astype(float)
        return [z @ a @ z.T, who, np.eye(self.node.size)]

    def fit(self, *, authors: bool = True) -> AnimalModelFit:
        groups = {"author": self.author} if authors else {}
        return fit_animal_model(
            self.trait, self.fixed, ["mean", "size"], self.related, self.node, groups
        )


def population(seed: int, n: int = 60, *, genetic: float = 2.0, author: float = 1.0) -> Population:
    rng = np.random.default_rng(seed)
    edges, variance = [], np.ones(n)
    for i in range(6, n):
        k = 2 if rng.random() < 0.25 else 1
        parents = rng.choice(i, size=k, replace=False)
        shares = rng.dirichlet([2, 2]) if k == 2 else [1.0]
        variance[i] = 0.0 if rng.random() < 0.15 else rng.uniform(0.1, 0.6)
        edges += [
            (f"m{i}", f"m{p}", float(w), j)
            for j, (p, w) in enumerate(zip(parents, shares, strict=True))
        ]
    related = relatedness(LineageGraph.from_edges([f"m{i}" for i in range(n)], edges), variance)
    node = np.concatenate([np.arange(n), rng.integers(0, n, n // 2)])
    who = rng.integers(0, 8, node.size)
    lower = np.linalg.cholesky(related.matrix(np.arange(n)) + 1e-12 * np.eye(n))
    value = math.sqrt(genetic) * lower @ rng.normal(size=n)
    fixed = np.column_stack([np.ones(node.size), rng.normal(size=node.size)])
    noise = math.sqrt(author) * rng.normal(size=8)[who] + rng.normal(size=node.size)
    return Population(related, node, who, 3 + fixed[:, 1] + value[node] + noise, fixed)


def naive_likelihood(y: Floats, x: Floats, parts: list[Floats], theta: Floats) -> float:
    """−½ (log |V| + log |X'V⁻¹X| + y'Py) by dense inverses."""
    v = sum(t * part for t, part in zip(theta, parts, strict=True))
    inverse = np.linalg.inv(v)
    crossed = x.T @ inverse @ x
    p = inverse - inverse @ x @ np.linalg.inv(crossed) @ x.T @ inverse
    logs = np.linalg.slogdet(v).logabsdet + np.linalg.slogdet(crossed).logabsdet
    return -0.5 * float(logs + y @ p @ y)


def naive_reml(y: Floats, x: Floats, parts: list[Floats]) -> tuple[Floats, float]:
    """The highest of several searches over the logarithms of the variances."""
    best: tuple[Floats, float] = (np.zeros(len(parts)), -math.inf)
    for first in range(len(parts)):
        begin = np.log(np.where(np.arange(len(parts)) == first, 0.7, 0.2) * y.var())
        found = minimize(
            lambda log: -naive_likelihood(y, x, parts, np.exp(log)),
            begin,
            method="L-BFGS-B",
            bounds=[(-16, 8)] * len(parts),
            options={"ftol": 1e-14, "gtol": 1e-9},
        )
        if -found.fun > best[1]:
            best = np.exp(found.x), -float(found.fun)
    return best


@given(st.integers(0, 100_000), st.booleans())
@settings(max_examples=8)
def test_variances_and_likelihood_are_those_of_a_dense_search(seed: int, authors: bool) -> None:
    data = population(seed)
    parts = data.covariances() if authors else [data.covariances()[k] for k in (0, 2)]
    theta, highest = naive_reml(data.trait, data.fixed, parts)
    fit = data.fit(authors=authors)
    assert fit.log_likelihood == pytest.approx(highest, abs=2e-6)
    np.testing.assert_allclose(fit.variance, theta, atol=2e-3 * theta.sum())
    assert fit.at_boundary.tolist() == (theta < 1e-5 * theta.sum()).tolist()


def test_solution_at_given_variances_is_that_of_dense_matrices() -> None:
    data = population(5)
    theta = np.array([1.7, 0.6, 0.9])
    parts = data.covariances()
    fit = fit_animal_model(
        data.trait,
        data.fixed,
        ["mean", "size"],
        data.related,
        data.node,
        {"author": data.author},
        variances={"animal": 1.7, "author": 0.6, "residual": 0.9},
    )
    v = sum(t * part for t, part in zip(theta, parts, strict=True))
    inverse = np.linalg.inv(v)
    covariance = np.linalg.inv(data.fixed.T @ inverse @ data.fixed)
    beta = covariance @ data.fixed.T @ inverse @ data.trait
    a = data.related.matrix(np.arange(60))
    z = np.eye(60)[data.node]
    projected = inverse @ (data.trait - data.fixed @ beta)
    assert fit.log_likelihood == pytest.approx(
        naive_likelihood(data.trait, data.fixed, parts, theta), abs=1e-9
    )
    np.testing.assert_allclose(fit.fixed, beta, atol=1e-10)
    np.testing.assert_allclose(fit.fixed_covariance, covariance, atol=1e-10)
    np.testing.assert_allclose(fit.breeding_values, 1.7 * a @ z.T @ projected, atol=1e-9)
    authors = [0.6 * projected[data.author == k].sum() for k in fit.group_labels("author")]
    np.testing.assert_allclose(fit.group_values("author"), authors, atol=1e-9)
    p = inverse - inverse @ data.fixed @ covariance @ data.fixed.T @ inverse
    predicted = 1.7**2 * np.diag(a @ z.T @ p @ z @ a)
    np.testing.assert_allclose(
        fit.reliability(np.arange(60)), predicted / (1.7 * np.diag(a)), atol=1e-9
    )


def test_errors_of_variances_are_those_of_dense_average_information() -> None:
    data = population(11)
    fit = data.fit()
    parts, y, x = data.covariances(), data.trait, data.fixed
    inverse = np.linalg.inv(sum(t * v for t, v in zip(fit.variance, parts, strict=True)))
    p = inverse - inverse @ x @ np.linalg.inv(x.T @ inverse @ x) @ x.T @ inverse
    information = [[0.5 * y @ p @ v @ p @ w @ p @ y for v in parts] for w in parts]
    np.testing.assert_allclose(fit.variance_covariance, np.linalg.inv(information), rtol=1e-6)


def test_slopes_by_complex_step_are_the_dense_traces() -> None:
    data = population(3)
    design = data.fit()._design.model
    theta = np.array([1.3, 0.4, 0.8])
    inverse = np.linalg.inv(sum(t * v for t, v in zip(theta, data.covariances(), strict=True)))
    x = data.fixed
    p = inverse - inverse @ x @ np.linalg.inv(x.T @ inverse @ x) @ x.T @ inverse
    solution = Solution(design, theta)
    for i, v in enumerate(data.covariances()):
        slope = log_determinant_slope(solution, np.eye(3)[i])
        assert slope == pytest.approx(np.trace(p @ v), rel=1e-10)


@pytest.mark.slow
def test_profile_intervals_hold_the_truth_as_often_as_they_say() -> None:
    held, values = [], []
    for seed in range(300):
        found = population(seed, n=80, author=0.0).fit(authors=False).heritability_profile()
        held.append(found.low <= 2 / 3 <= found.high)
        values.append(found.value)
    assert 0.95 - 2.6 * math.sqrt(0.95 * 0.05 / 300) <= np.mean(held) <= 0.99
    assert np.mean(values) == pytest.approx(2 / 3, abs=0.05)


@pytest.mark.slow
def test_thousands_of_models_and_authors_give_back_what_they_were_drawn_from() -> None:
    rng = np.random.default_rng(5)
    n, n_authors = 6_000, 400
    parent = np.floor(rng.random(n) ** 3 * np.arange(n)).astype(np.int64)
    bred = np.arange(n) >= 60
    start = np.concatenate(([0], np.cumsum(bred)))
    ids = tuple(map(str, range(n)))
    graph = LineageGraph(ids, start, parent[bred], np.ones(int(bred.sum())))
    related = relatedness(graph, np.where(bred, 0.2, 1.0))
    own = np.sqrt(related.variance) * rng.normal(size=n)
    value = np.zeros(n)
    for i in range(n):  # parents come first
        value[i] = own[i] + (value[parent[i]] if bred[i] else 0.0)
    author = rng.integers(0, n_authors, n)
    trait = value + math.sqrt(0.5) * rng.normal(size=n_authors)[author] + rng.normal(size=n)
    node, fixed = np.arange(n), np.ones((n, 1))
    fit = fit_animal_model(trait, fixed, ["mean"], related, node, {"author": author})
    errors = np.sqrt(np.diag(fit.variance_covariance))
    assert fit.converged
    assert (np.abs(fit.variance - [1, 0.5, 1]) < 3 * errors).all()
    assert (errors < 0.1).all()


def test_spectral_and_sparse_searches_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    data = population(21)
    spectral = data.fit(authors=False)
    profile = spectral.heritability_profile()
    monkeypatch.setattr(animal, "SPECTRAL_RECORDS", 0)
    sparse = data.fit(authors=False)
    assert sparse._spectrum is None
    np.testing.assert_allclose(sparse.variance, spectral.variance, rtol=1e-5)
    other = sparse.heritability_profile()
    assert [other.low, other.value, other.high, other.p_value] == pytest.approx(
        [profile.low, profile.value, profile.high, profile.p_value], rel=1e-4
    )


def test_profile_ends_where_the_likelihood_has_fallen_by_half_a_chi_square() -> None:
    data = population(8)
    fit = data.fit()
    found = fit.heritability_profile()
    assert found.low <= fit.heritability.value <= found.high
    parts = data.covariances()

    def naive_profile(share: float) -> float:
        def minus(log: Floats) -> float:
            others = np.exp(log)
            genetic = share / (1 - share) * others.sum()
            return -naive_likelihood(data.trait, data.fixed, parts, np.array([genetic, *others]))

        return -float(minimize(minus, np.zeros(2), method="Nelder-Mead", tol=1e-8).fun)

    for end in (found.low, found.high):
        if 0 < end < 1:
            assert fit.log_likelihood - naive_profile(end) == pytest.approx(1.920729, abs=1e-3)


@given(st.integers(0, 1000), st.floats(0.01, 1000), st.sampled_from([0.0, -1e3, 1e8]))
@settings(max_examples=8)
def test_heritability_does_not_depend_on_the_origin_or_unit_of_the_trait(
    seed: int, unit: float, origin: float
) -> None:
    data = population(seed)
    moved = Population(data.related, data.node, data.author, data.trait * unit + origin, data.fixed)
    before, after = data.fit(), moved.fit()
    assert before.converged
    assert after.converged
    np.testing.assert_allclose(
        after.variance / unit**2, before.variance, atol=1e-5 * before.variance.sum()
    )


def test_share_among_records_is_the_expected_share_of_the_sample_variance() -> None:
    data = population(4)
    fit = data.fit()
    n = data.node.size
    centre = np.eye(n) - 1 / n
    spread = [np.trace(centre @ part) / (n - 1) for part in data.covariances()]
    np.testing.assert_allclose(fit.spread, spread, rtol=1e-10)
    whole = fit.variance @ spread
    assert fit.share_among_records("animal").value == pytest.approx(
        fit.variance[0] * spread[0] / whole
    )


def test_error_of_a_share_is_the_delta_method_of_its_components() -> None:
    fit = population(4).fit()
    total = fit.variance.sum()
    slope = np.array([1, 0, 1]) / total - (fit.variance[0] + fit.variance[2]) / total**2
    expected = math.sqrt(slope @ fit.variance_covariance @ slope)
    share = fit.share("animal", "residual")
    assert error_of(share.method) == pytest.approx(expected, rel=1e-3)
    assert share.value - max(share.low, 0) == pytest.approx(
        min(1.959963985 * expected, share.value), rel=1e-6
    )


def test_intervals_of_variances_and_shares_end_where_these_do() -> None:
    fit = population(5).fit()  # authors hardly matter here, and nothing is at its boundary
    assert fit.variance[1] < math.sqrt(fit.variance_covariance[1, 1])
    assert fit.component("author").low == 0
    assert fit.share("author").low == 0
    with pytest.raises(ValueError, match="share of all components is 1"):
        fit.share("residual", "animal", "author")


# -- what is missing ---------------------------------------------------------------------------


def test_records_with_something_missing_are_left_out_and_counted() -> None:
    data = population(2)
    trait, fixed = data.trait.copy(), data.fixed.copy()
    node, author = data.node.copy(), data.author.copy()
    trait[3], fixed[8, 1], node[12], author[20] = np.nan, np.nan, -1, -1
    fit = fit_animal_model(trait, fixed, ["mean", "size"], data.related, node, {"author": author})
    gone = np.delete(np.arange(trait.size), [3, 8, 12, 20])
    without = fit_animal_model(
        data.trait[gone],
        data.fixed[gone],
        ["mean", "size"],
        data.related,
        data.node[gone],
        {"author": data.author[gone]},
    )
    assert (fit.n_records, fit.n_left_out) == (trait.size - 4, 4)
    np.testing.assert_allclose(fit.variance, without.variance, rtol=1e-9)


def test_models_without_records_or_recorded_relatives_do_not_change_the_fit() -> None:
    data = population(2)
    graph = data.related.graph
    edges = [(c, p, w, k) for c in graph.ids for k, (p, w) in enumerate(graph.parents(c))]
    more = LineageGraph.from_edges(
        [*graph.ids, "late", "later", "stranger"],
        [*edges, ("late", "m7", 0.5, 0), ("later", "late", 1.0, 0)],
    )
    related = relatedness(more, np.append(data.related.variance, [0.4, 0.0, 1.0]))
    fit = fit_animal_model(data.trait, data.fixed, ["mean", "size"], related, data.node)
    before = data.fit(authors=False)
    np.testing.assert_allclose(fit.variance, before.variance, rtol=1e-9)
    values = fit.breeding_values
    np.testing.assert_allclose(values[:60], before.breeding_values, atol=1e-9)
    np.testing.assert_allclose(values[60:], [values[7] / 2, values[7] / 2, 0], atol=1e-12)
    with pytest.raises(ValueError, match="models with records and their ancestors"):
        fit.reliability(np.array([60]))


# -- boundaries --------------------------------------------------------------------------------


def without_genetic_variance() -> Population:
    """Relatives that are less alike than strangers."""
    edges = [(f"t{i}", f"f{i // 2}", 1.0, 0) for i in range(40)]
    ids = [f"f{i}" for i in range(20)] + [f"t{i}" for i in range(40)]
    related = relatedness(LineageGraph.from_edges(ids, edges), np.repeat([1.0, 0.1], [20, 40]))
    rng = np.random.default_rng(0)
    trait = np.tile([-1.0, 1.0], 20) + 0.3 * rng.normal(size=40)
    return Population(related, np.arange(20, 60), np.arange(40) % 5, trait, np.ones((40, 1)))


@pytest.mark.parametrize("groups", [{}, {"author": np.arange(40) % 5}])
def test_a_variance_of_zero_is_said_to_be_at_its_boundary(groups: dict[str, Ints]) -> None:
    data = without_genetic_variance()
    fit = fit_animal_model(data.trait, data.fixed, ["mean"], data.related, data.node, groups)
    assert fit.variance[0] == 0
    assert fit.at_boundary[0]
    assert np.isnan(fit.variance_covariance[0]).all()
    for estimate in (fit.heritability, fit.component("animal")):
        assert math.isnan(estimate.value)
        assert "animal at its boundary 0" in estimate.method
    profile = fit.heritability_profile()
    assert (profile.value, profile.low, profile.p_value) == (0, 0, 1)
    assert 0 < profile.high < 0.5
    assert fit.likelihood_ratio("animal").p_value == 1
    assert not fit.breeding_values.any()
    assert fit.variance[-1] == pytest.approx(data.trait.var(ddof=1))
    with pytest.raises(ValueError, match="no genetic variance"):
        fit.reliability(np.array([21]))


def test_a_group_without_variance_leaves_the_fit_of_the_others() -> None:
    data = population(17, author=0.0)
    labels = np.argsort(np.argsort(data.trait - data.trait[::-1])) % 8  # unrelated to the trait
    fit = fit_animal_model(
        data.trait, data.fixed, ["mean", "size"], data.related, data.node, {"luck": labels}
    )
    assert fit.at_boundary.tolist() == [False, True, False]
    alone = data.fit(authors=False)
    np.testing.assert_allclose(fit.variance[[0, 2]], alone.variance, rtol=1e-6)
    assert fit.log_likelihood == pytest.approx(alone.log_likelihood, abs=1e-9)
    assert fit.heritability.value == pytest.approx(alone.heritability.value, rel=1e-6)
    assert "luck being 0 at its boundary" in fit.heritability.method
    assert not fit.group_values("luck").any()


def test_a_trait_that_is_all_inherited_leaves_no_residual_and_no_certainty() -> None:
    related = population(6, n=80).related
    kept = related.kept
    rng = np.random.default_rng(2)
    trait = 5 + np.linalg.cholesky(related.matrix(kept)) @ rng.normal(size=kept.size)
    fit = fit_animal_model(trait, np.ones((kept.size, 1)), ["mean"], related, kept)
    assert fit.at_boundary.tolist() == [False, True]
    assert fit.variance[1] == 0
    assert math.isnan(fit.heritability.value)
    assert "every other component at its boundary 0" in fit.heritability.method
    profile = fit.heritability_profile()
    assert (profile.value, profile.high) == (1, 1)
    assert 0.5 < profile.low < 1
    whole = fit.component("animal")
    assert whole.low < whole.value < whole.high


def test_copies_that_agree_exactly_make_no_heritability() -> None:
    related = population(6, n=80).related
    everyone = np.arange(80)
    assert related.kept.size < 80
    rng = np.random.default_rng(2)
    lower = np.linalg.cholesky(related.matrix(related.kept))
    trait = related.expression @ (lower @ rng.normal(size=related.kept.size))
    fit = fit_animal_model(trait, np.ones((80, 1)), ["mean"], related, everyone)
    assert not fit.converged
    for estimate in (fit.heritability, fit.component("animal"), fit.fixed_effect("mean")):
        assert math.isnan(estimate.value)
        assert "the likelihood could not be climbed" in estimate.method
    assert "the likelihood grows without bound" in fit.heritability_profile().method


# -- dense covariances -------------------------------------------------------------------------


def test_a_spectrum_has_the_dense_likelihood_over_the_whole_range() -> None:
    data = population(13)
    k = data.covariances()[0]
    spectral = spectrum(data.trait, data.fixed, k)
    for share in (0.0, 0.2, 0.9):
        genetic, residual = spectral.variances(share)
        dense = naive_likelihood(
            data.trait, data.fixed, [k, np.eye(k.shape[0])], np.array([genetic, residual])
        )
        assert spectral.log_likelihood(share) == pytest.approx(dense, abs=1e-8)
        for other in (0.98, 1.02):  # the total variance is the best one
            worse = naive_likelihood(
                data.trait, data.fixed, [k, np.eye(k.shape[0])],
                np.array([genetic, residual]) * other,
            )  # fmt: skip
            assert worse < dense


def test_a_spectrum_finds_the_higher_of_two_maxima() -> None:
    value = np.array([0.001] * 10 + [1.0] * 3 + [100.0] * 3)
    contrast = np.sqrt(np.array([1.0] * 10 + [0.02] * 3 + [40.0] * 3))
    spectral = spectrum(contrast, np.zeros((16, 0)), np.diag(value))
    peak = spectral.peak()
    grid = np.linspace(0, 1, 20_001)[:-1]
    assert spectral.log_likelihood(peak) >= max(map(spectral.log_likelihood, grid)) - 1e-9


def test_a_spectrum_of_unrelated_records_tells_nothing() -> None:
    found = spectrum(np.arange(5.0), np.ones((5, 1)), np.eye(5)).heritability()
    assert math.isnan(found.value)
    assert "no two records are related" in found.method


@pytest.mark.parametrize(
    ("covariance", "message"),
    [
        (np.eye(4), "5 traits and an 5 × 5"),
        (np.triu(np.ones((5, 5))), "not symmetric"),
        (1 - 2 * np.eye(5), "negative eigenvalues"),
        (np.full((5, 5), np.nan), "something missing"),
    ],
)
def test_impossible_dense_covariances_are_refused(covariance: Floats, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spectrum(np.arange(5.0), np.ones((5, 1)), covariance)


def test_as_many_fixed_effects_as_records_are_refused() -> None:
    with pytest.raises(ValueError, match="leave nothing of 5 records"):
        spectrum(np.arange(5.0), np.eye(5), np.eye(5))


def test_profile_interval_of_a_parabola_is_its_normal_interval() -> None:
    low, high = profile_interval(lambda s: -0.5 * ((s - 0.4) / 0.1) ** 2, 0.4, 0.95)
    assert (low, high) == pytest.approx((0.4 - 0.1959964, 0.4 + 0.1959964), abs=1e-5)
    assert profile_interval(lambda s: -0.5 * ((s - 0.9) / 0.1) ** 2, 0.9, 0.95)[1] == 1


def test_boundary_p_value_is_half_of_the_chi_square() -> None:
    assert boundary_p_value(2.705543) == pytest.approx(0.05, abs=1e-6)
    assert boundary_p_value(0.0) == 1


# -- refusals ----------------------------------------------------------------------------------


def refit(data: Population, message: str, **changed: object) -> None:
    given: dict[str, object] = {
        "trait": data.trait,
        "fixed": data.fixed,
        "fixed_names": ["mean", "size"],
        "related": data.related,
        "node": data.node,
        "groups": {"author": data.author},
    }
    with pytest.raises(ValueError, match=message):
        fit_animal_model(**(given | changed))  # type: ignore[arg-type]


DATA = population(1)


def test_a_constant_trait_is_refused() -> None:
    refit(DATA, "the trait does not vary", trait=np.full(90, 0.1))


def test_a_trait_that_the_fixed_effects_explain_is_refused() -> None:
    refit(DATA, "leave no variation", trait=3 * DATA.fixed[:, 1])


@pytest.mark.parametrize("kept", [0, 4])
def test_too_few_records_are_refused(kept: int) -> None:
    trait = np.where(np.arange(90) < kept, DATA.trait, np.nan)
    refit(DATA, "too few records", trait=trait)


def test_collinear_fixed_effects_are_refused_by_name() -> None:
    fixed = np.column_stack([DATA.fixed, 2 - 3 * DATA.fixed[:, 1]])
    names = ["mean", "size", "width"]
    refit(DATA, "width is collinear with mean, size", fixed=fixed, fixed_names=names)
    fixed[:, 1] = 0
    refit(DATA, "size is zero throughout", fixed=fixed, fixed_names=names)


def test_records_of_one_founder_are_refused() -> None:
    graph = LineageGraph.from_edges(
        ["f", *(f"t{i}" for i in range(10))], [(f"t{i}", "f", 1.0, 0) for i in range(10)]
    )
    related = relatedness(graph, np.full(11, 0.5))
    with pytest.raises(ValueError, match="one founder"):
        fit_animal_model(np.arange(10.0), np.ones((10, 1)), ["mean"], related, np.arange(1, 11))


def test_unrelated_records_are_refused() -> None:
    graph = LineageGraph.from_edges([f"f{i}" for i in range(10)], [])
    related = relatedness(graph, np.ones(10))
    with pytest.raises(ValueError, match="no two records are related"):
        fit_animal_model(np.arange(10.0), np.ones((10, 1)), ["mean"], related, np.arange(10))


def test_a_cycle_is_refused() -> None:
    with pytest.raises(CycleError):
        LineageGraph.from_edges(["a", "b"], [("a", "b", 1.0, 0), ("b", "a", 1.0, 0)])


def test_groups_that_tell_nothing_are_refused() -> None:
    refit(DATA, "author has one level", groups={"author": np.zeros(90, dtype=int)})
    refit(DATA, "as many levels as records", groups={"author": np.arange(90)})
    twice = {"author": DATA.author, "copy": DATA.author}
    refit(DATA, "cannot tell the variance components apart", groups=twice)
    refit(DATA, "names an effect of every model", groups={"residual": DATA.author})


def test_shapes_that_do_not_fit_are_refused() -> None:
    refit(DATA, "a column for each of 1 names", fixed_names=["mean"])
    refit(DATA, "at least an intercept", fixed=np.empty((90, 0)), fixed_names=[])
    refit(DATA, "animal: 90 values expected", node=DATA.node[:5])
    refit(DATA, "author: 90 values expected", groups={"author": DATA.author[:5]})
    refit(DATA, "no model of number 60", node=np.full(90, 60))


def test_given_variances_must_be_complete_and_positive() -> None:
    refit(DATA, "a positive one is needed", variances={"animal": 1.0, "residual": 1.0})
    refit(
        DATA,
        "a positive one is needed",
        variances={"animal": 1.0, "author": 0.0, "residual": 1.0},
    )


def test_questions_about_absent_effects_are_refused() -> None:
    fit = DATA.fit()
    with pytest.raises(ValueError, match="no effect harness: there are animal, author, residual"):
        fit.component("harness")
    with pytest.raises(ValueError, match="no fixed effect month: there are mean, size"):
        fit.fixed_effect("month")
    with pytest.raises(ValueError, match="without residual"):
        fit.likelihood_ratio("residual")
    groups = {"author": DATA.author}
    without = fit_animal_model(DATA.trait, DATA.fixed, ["a", "b"], None, DATA.node, groups)
    with pytest.raises(ValueError, match="no effect animal"):
        _ = without.heritability
    with pytest.raises(ValueError, match="no breeding values"):
        _ = without.breeding_values


# -- two traits --------------------------------------------------------------------------------


def test_gryphon_weight_and_tarsus_have_the_published_genetic_correlation(
    gryphons: Gryphons,
) -> None:
    traits = np.column_stack([gryphons.columns["bwt"], gryphons.columns["tarsus"]])
    fit = fit_bivariate_model(
        traits, np.ones((traits.shape[0], 1)), ["mean"], gryphons.related, gryphons.node
    )
    # ASReml prints .3814816 (.129991) and 3.368498, 2.460195, 12.346837; its likelihood is highest
    # at the values below, to which it had converged to four digits
    printed = [3.368498, 2.460195, 12.346837]
    genetic = fit.matrices[0][[0, 1, 1], [0, 0, 1]]
    np.testing.assert_allclose(genetic, printed, rtol=2e-4)
    errors = np.sqrt(np.diag(fit.parameter_covariance))[:3]
    np.testing.assert_allclose(errors, [0.6349441, 1.0735865, 3.0753775], rtol=4e-4)
    correlation = fit.correlation()
    assert correlation.value == pytest.approx(0.3814816, abs=5e-5)
    assert error_of(correlation.method) == pytest.approx(0.129991, abs=3e-5)
    solution = fit._optimum.solution
    there = Solution(solution.model, np.array([*printed, 3.84984504, 3.31300991, 17.64566988]))
    assert fit.log_likelihood > there.log_likelihood
    assert fit.share(0).value == pytest.approx(genetic[0] / (genetic[0] + fit.matrices[1][0, 0]))
    assert fit.n_records == 854


@dataclass(frozen=True)
class TwoTraits:
    related: Relatedness
    traits: Floats

    def fit(self) -> BivariateFit:
        n = self.traits.shape[0]
        return fit_bivariate_model(
            self.traits, np.ones((n, 1)), ["mean"], self.related, np.arange(n)
        )


def two_traits(seed: int, n: int = 120, *, correlation: float = 0.5) -> TwoTraits:
    """Two traits of different units; a fifth of the values is missing."""
    related = population(seed, n=n).related
    rng = np.random.default_rng(seed + 1)
    lower = np.linalg.cholesky(related.matrix(np.arange(n)) + 1e-12 * np.eye(n))
    genetic = np.linalg.cholesky([[1, correlation], [correlation, 1]])
    value = lower @ rng.normal(size=(n, 2)) @ genetic.T
    noise = rng.normal(size=(n, 2)) @ np.array([[0.8, 0.0], [0.3, 0.7]]).T
    traits = (value + noise) * [1, 50] + [3, -200]
    traits[rng.random((n, 2)) < 0.2] = np.nan
    return TwoTraits(related, traits)


def test_two_traits_have_the_covariances_of_a_dense_search() -> None:
    data = two_traits(3)
    fit = data.fit()
    assert not fit.problem
    record, trait = np.nonzero(np.isfinite(data.traits))
    scale = np.array([1.0, 50.0])
    y = data.traits[record, trait] / scale[trait]
    x = np.eye(2)[trait]
    a = data.related.matrix(np.arange(120))[np.ix_(record, record)]
    same = (record[:, None] == record[None, :]).astype(float)

    def minus(lower: Floats) -> float:
        blocks = []
        for part in (lower[:3], lower[3:]):
            root = np.array([[part[0], 0], [part[1], part[2]]])
            blocks.append((root @ root.T)[np.ix_(trait, trait)])
        return -naive_likelihood(y, x, [blocks[0] * a + blocks[1] * same], np.ones(1))

    found = minimize(minus, [1, 0.1, 1, 1, 0.1, 1], method="BFGS", options={"gtol": 1e-4})
    constant = -np.log(scale[trait]).sum() + np.log(scale).sum()
    assert fit.log_likelihood == pytest.approx(-found.fun + constant, abs=1e-5)
    for matrix, lower in zip(fit.matrices, (found.x[:3], found.x[3:]), strict=True):
        root = np.array([[lower[0], 0], [lower[1], lower[2]]])
        np.testing.assert_allclose(matrix / np.outer(scale, scale), root @ root.T, atol=2e-3)


def test_a_covariance_is_tested_against_the_fit_without_it() -> None:
    data = two_traits(3)
    fit = data.fit()
    model = fit._optimum.solution.model

    def minus(free: Floats) -> float:
        theta = np.array([free[0], 0, free[1], *free[2:]])
        blocks = model.matrices(theta)
        if np.linalg.eigvalsh(blocks).min() <= 0:
            return math.inf
        return -Solution(model, theta).log_likelihood

    begin = np.delete(fit._optimum.solution.theta, 1)
    options = {"xatol": 1e-3, "fatol": 1e-8, "maxiter": 4000, "maxfev": 4000, "adaptive": True}
    without = -minimize(minus, begin, method="Nelder-Mead", options=options).fun
    statistic = 2 * (fit.log_likelihood - without)
    covariance, correlation = fit.covariance(), fit.correlation()
    assert covariance.p_value == pytest.approx(math.erfc(math.sqrt(statistic / 2)), rel=1e-3)
    assert correlation.p_value == covariance.p_value


def test_intervals_of_a_covariance_and_a_correlation_are_normal_and_fisher() -> None:
    fit = two_traits(3).fit()
    (first, crossed), (_, second) = fit.matrices[0]
    error = math.sqrt(fit.parameter_covariance[1, 1])
    covariance = fit.covariance()
    assert covariance.value == crossed
    assert covariance.high - crossed == pytest.approx(1.959963985 * error)
    r = crossed / math.sqrt(first * second)
    slope = np.array([-r / 2 / first, 1 / math.sqrt(first * second), -r / 2 / second])
    spread = math.sqrt(slope @ fit.parameter_covariance[:3, :3] @ slope) / (1 - r**2)
    correlation = fit.correlation()
    assert correlation.high == pytest.approx(math.tanh(math.atanh(r) + 1.959963985 * spread))
    assert correlation.low == pytest.approx(math.tanh(math.atanh(r) - 1.959963985 * spread))


@pytest.mark.parametrize("trait", [0, 1])
def test_heritability_of_each_trait_has_its_own_delta_method_error(trait: int) -> None:
    fit = two_traits(3).fit()
    genetic, residual = fit.matrices[:, trait, trait]
    total = genetic + residual
    slope = np.zeros(6)
    slope[2 * trait], slope[3 + 2 * trait] = residual / total**2, -genetic / total**2
    found = fit.share(trait)
    assert found.value == pytest.approx(genetic / total)
    error = math.sqrt(slope @ fit.parameter_covariance @ slope)
    assert error_of(found.method) == pytest.approx(error, rel=1e-3)
    assert found.low == pytest.approx(max(found.value - 1.959963985 * error, 0))
    assert found.high == pytest.approx(min(found.value + 1.959963985 * error, 1))


def test_a_genetic_correlation_of_one_has_no_trusted_error() -> None:
    related = population(3, n=120).related
    rng = np.random.default_rng(1)
    lower = np.linalg.cholesky(related.matrix(np.arange(120)) + 1e-12 * np.eye(120))
    value = lower @ rng.normal(size=120)
    noise = rng.normal(size=(120, 2))
    traits = np.column_stack([value, value]) + 0.7 * (noise - noise.mean(axis=1, keepdims=True))
    fit = TwoTraits(related, traits + 0.1 * rng.normal(size=(120, 2))).fit()
    for estimate in (fit.correlation(), fit.covariance(), fit.share(1)):
        assert math.isnan(estimate.value)
        assert "animal at its boundary (a correlation of ±1" in estimate.method


def test_a_trait_beside_its_double_is_refused() -> None:
    data = two_traits(3)
    one = np.where(np.isfinite(data.traits[:, 0]), data.traits[:, 0], 0.0)
    with pytest.raises(ValueError, match="the traits are one and the same"):
        TwoTraits(data.related, np.column_stack([one, 2 * one])).fit()


def test_questions_about_a_third_trait_are_refused() -> None:
    fit = two_traits(3).fit()
    with pytest.raises(ValueError, match="traits are 0 and 1, not 2"):
        fit.share(2)
    with pytest.raises(ValueError, match="no effect author: there are animal, residual"):
        fit.correlation("author")
    data = two_traits(3)
    with pytest.raises(ValueError, match="two traits, a column each"):
        TwoTraits(data.related, data.traits[:, :1]).fit()
    data.traits[:, 1] = 4.0
    with pytest.raises(ValueError, match="trait 2 does not vary"):
        data.fit()


# -- several traits in one model ---------------------------------------------------------------


def test_equations_of_two_traits_with_gaps_have_the_dense_likelihood_and_slopes() -> None:
    rng = np.random.default_rng(0)
    n, t = 30, 2
    related = population(9, n=30).related
    kept = related.kept
    observed = np.array([(r, k) for r in range(n) for k in range(t) if rng.random() < 0.8])
    record, trait = observed.T
    drawn = csr_array(related.expression[np.arange(n)])
    who = rng.integers(0, 4, n)
    groups = csr_array((np.ones(n), (np.arange(n), who)), shape=(n, 4))
    effects = (
        RandomEffect("animal", drawn, related.inverse, related.log_determinant),
        RandomEffect("author", groups, csc_array(eye_array(4)), 0.0),
    )
    fixed = np.eye(t)[trait]
    y = rng.normal(size=record.size)
    model = MixedModel(y, fixed, record, trait, effects, t)
    theta = np.array([2, 0.7, 1, 0.5, -0.2, 0.4, 1, 0.3, 0.8])
    blocks = [np.array([[a, b], [b, c]]) for a, b, c in theta.reshape(3, 3)]
    shared = [related.matrix(np.arange(n)), who[:, None] == who, np.eye(n)]

    def dense(of: list[Floats]) -> Floats:
        return np.asarray(
            sum(
                block[np.ix_(trait, trait)] * part[np.ix_(record, record)]
                for block, part in zip(of, shared, strict=True)
            )
        )

    solution = Solution(model, theta)
    expected = naive_likelihood(y, fixed, [dense(blocks)], np.ones(1))
    assert solution.log_likelihood == pytest.approx(expected, abs=1e-9)
    inverse = np.linalg.inv(dense(blocks))
    p = inverse - inverse @ fixed @ np.linalg.inv(fixed.T @ inverse @ fixed) @ fixed.T @ inverse
    changes = solution.changes()
    for i in range(9):
        of = [np.zeros((2, 2)) for _ in range(3)]
        row, column = [(0, 0), (1, 0), (1, 1)][i % 3]
        of[i // 3][row, column] = of[i // 3][column, row] = 1
        slope = log_determinant_slope(solution, np.eye(9)[i])
        assert slope == pytest.approx(np.trace(p @ dense(of)), rel=1e-9, abs=1e-9)
        np.testing.assert_allclose(changes[:, i], dense(of) @ p @ y, atol=1e-9)
    assert kept.size < n

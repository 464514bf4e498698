"""The breeder's equation beside what it leaves out: three answers to one question.

How far does selection move the mean trait of the next generation?

- ``R = h² S`` (the breeder's equation; Lush 1937) holds if the trait itself causes the fitness
  that goes with it, and parents and offspring are alike by inheritance only;
- ``R = Cov_A(w, z)``, the additive genetic covariance of relative fitness and trait (the secondary
  theorem of selection; Robertson 1966), holds whatever causes fitness, and comes from an animal
  model of both;
- the change that was observed, divided by the Price equation.

Where something unmeasured (a famous author, hype) drives trait and fitness both, h²S predicts a
change that does not come (Morrissey, Kruuk & Wilson 2010, J Evol Biol 23:2277); a published case:
Hajduk et al. 2020. The three are never merged into one number here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage.evolution.clusters import cluster_bootstrap, untrusted
from lineage.evolution.inheritance.heritability import heritability_bootstrap
from lineage.evolution.selection.differentials import selection_differential
from lineage.evolution.selection.fitness import Fitness
from lineage.evolution.selection.price import PedigreeLinks, PricePartition, price_partition
from lineage.model import Estimate

__all__ = ["Response", "response_to_selection"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_ROUNDING = 1e-12  # share of the scale below which a spread is rounding, not variation
_ROUNDING_OF_SUMS = 1e-9  # share of two numbers below which their difference is nothing
_ADVICE = (
    "the breeder's equation fails where something unmeasured drives both trait and fitness, or "
    "makes parent and child alike; Cov_A(w, z) supposes less (Morrissey, Kruuk & Wilson 2010): do "
    "not read h²S as a forecast"
)


@dataclass(frozen=True, slots=True)
class Response:
    """Predicted and observed response to selection, side by side, in units of the trait.

    Attributes
    ----------
    heritability, differential
        h², the slope on the weighted mid-parent, and S = Cov(w, z).
    breeder
        h²S with the interval of both resampled together.
    secondary
        Cov_A(w, z); None where no animal model of trait and fitness was fitted.
    observed
        The change from parents to newborn models and its parts, exact for these models.
    descent
        Its part by descent, selection and transmission without immigrants: what both predictions
        are about. The interval is that of resampled founders, so that drift is in it. Under the
        breeder's equation transmission would be ``(h² − 1) S`` and nothing else.
    excess
        ``descent − h²S`` from the same resamples; S over n here, as in the partition, so that
        perfect inheritance leaves exactly nothing.
    caveat
        Which of the answers disagree and what follows; None where they do not.
    """

    heritability: Estimate
    differential: Estimate
    breeder: Estimate
    secondary: Estimate | None
    observed: PricePartition
    descent: Estimate
    excess: Estimate
    caveat: str | None


def response_to_selection(
    trait: Floats,
    mid_parent: Floats,
    fitness: Fitness,
    cluster: Ints,
    links: PedigreeLinks,
    *,
    rng: np.random.Generator,
    secondary: Estimate | None = None,
    level: float = 0.95,
    n_resamples: int = 2000,
) -> Response:
    """Put h²S, Cov_A(w, z) and the observed change side by side.

    Parameters
    ----------
    trait : (n,)
        Trait of every model of the pedigree.
    mid_parent : (n,)
        Trait of its weighted mid-parent, NaN for founders. h² uses the models with both.
    fitness
        Fitness of every model, not negative; S uses the models with trait and fitness.
    cluster : (n,)
        Founder of each model. A resampled founder brings its pairs, its fitness, its parents and
        its newborn together, so that the intervals hold their covariances.
    links
        Descent from the parental to the newborn models
        (:func:`lineage.evolution.selection.price.pedigree_links`), all with the trait.
    rng
        Source of the resamples.
    secondary
        Cov_A(w, z) in units of the trait, from a bivariate animal model of trait and relative
        fitness.

    Returns
    -------
    Response
        `breeder` and `excess` are NaN with the reason in `method` where h² or S is.

    Raises
    ------
    ValueError
        If lengths differ, fitness is negative, a linked model has no trait, or no newborn model
        has a parent.

    Notes
    -----
    h²S and the change are said to disagree when the interval of their difference does not hold
    zero; either of them and Cov_A(w, z), which was resampled elsewhere, when neither interval
    holds the other's value. `caveat` also says when the interval of S is clear of zero and that of
    Cov_A(w, z) is not.

    References
    ----------
    Morrissey, Kruuk & Wilson (2010), J Evol Biol 23:2277; Robertson (1966), Anim Prod 8:95;
    Hajduk et al. (2020), PMC7133512.

    Examples
    --------
    >>> import numpy as np
    >>> from lineage.evolution.selection.price import pedigree_links
    >>> from lineage.graph import LineageGraph
    >>> edges = [("e", "a", 1.0, 0), ("f", "b", 1.0, 0), ("g", "c", 1.0, 0), ("h", "d", 1.0, 0)]
    >>> graph = LineageGraph.from_edges("abcdefgh", edges)
    >>> z = np.array([1.0, 2.0, 3.0, 4.0, 1.5, 2.0, 2.5, 3.0])
    >>> old = np.arange(8) < 4
    >>> found = response_to_selection(
    ...     z,
    ...     np.array([np.nan] * 4 + [1.0, 2.0, 3.0, 4.0]),
    ...     Fitness("w", np.array([1.0] * 4 + [np.nan] * 4), "fitness: children"),
    ...     graph.founder,
    ...     pedigree_links(graph, old, ~old),
    ...     rng=np.random.default_rng(1),
    ...     n_resamples=200,
    ... )
    >>> found.heritability.value, found.breeder.value, found.descent.value
    (0.5, 0.0, -0.25)
    """
    for name, values in (
        ("mid_parent", mid_parent),
        ("fitness", fitness.values),
        ("cluster", cluster),
    ):
        if values.shape != trait.shape:
            raise ValueError(f"{name}: {trait.size} values expected, {values.size} given")
    if (fitness.values < 0).any():
        raise ValueError("fitness must not be negative: it counts what a model passed on")
    observed = price_partition(
        trait[links.parent],
        trait[links.child],
        links.link_child,
        links.link_parent,
        links.link_share,
    )
    h2 = heritability_bootstrap(
        trait, mid_parent, cluster, rng=rng, level=level, n_resamples=n_resamples
    )
    s = selection_differential(
        trait, fitness, cluster, rng=rng, level=level, n_resamples=n_resamples
    )
    columns = _Columns.of(trait, mid_parent, fitness, links)
    problem = next((part.method for part in (h2, s) if math.isnan(part.value)), None)

    def estimate(
        statistic: Callable[[Floats], Floats],
        among: NDArray[np.bool_],
        method: str,
        problem: str | None = None,
    ) -> Estimate:
        rows, group = columns.rows[among], cluster[among]
        if problem:
            return untrusted(len(rows), level, method, problem, np.unique(group).size)
        return cluster_bootstrap(
            rows, group, statistic, rng=rng, level=level, n_resamples=n_resamples, method=method
        )

    product = f"slope on the weighted mid-parent times Cov(w, z); {fitness.method}"
    change = "mean of newborn models less mean of parents"
    foretold, moved = columns.foretold, columns.moved
    breeder = estimate(columns.breeder, foretold, f"breeder's equation R = h²S, {product}", problem)
    descent = estimate(columns.descent, moved, change)
    excess = estimate(columns.excess, foretold | moved, f"{change}, less h²S, {product}", problem)
    caveat = _caveat(s, breeder, secondary, descent, excess)
    return Response(h2, s, breeder, secondary, observed, descent, excess, caveat)


@dataclass(frozen=True, eq=False)
class _Columns:
    """Sums from which h²S and the change by descent follow, one row a model.

    `foretold` are the models that h²S is made of, `moved` those between which the change is.
    The columns: 1; pair, x, y, x², xy of offspring y and mid-parent x; fit, W, z, Wz; parent and
    its trait; newborn with parents and its trait. All centred, zero where the model takes no part.
    """

    rows: Floats
    foretold: NDArray[np.bool_]
    moved: NDArray[np.bool_]
    mean_fitness: float
    floor: float

    @classmethod
    def of(
        cls, trait: Floats, mid_parent: Floats, fitness: Fitness, links: PedigreeLinks
    ) -> _Columns:
        pair = np.isfinite(trait) & np.isfinite(mid_parent)
        fit = np.isfinite(trait) & np.isfinite(fitness.values)
        parent, born = np.zeros_like(pair), np.zeros_like(pair)
        parent[links.parent] = True
        born[links.child[links.link_child]] = True
        x, y = _about_mean(mid_parent, pair), _about_mean(trait, pair)
        w, z = _about_mean(fitness.values, fit), _about_mean(trait, fit)
        level = _about_mean(trait, parent | born)
        rows = np.column_stack(
            [np.ones_like(x), pair, x, y, x * x, x * y, fit, w, z, w * z,
             parent, parent * level, born, born * level]
        )  # fmt: skip
        mean_fitness = float(fitness.values[fit].mean()) if fit.any() else math.nan
        return cls(rows, pair | fit, parent | born, mean_fitness, _ROUNDING * float(x @ x))

    def breeder(self, sums: Floats) -> Floats:
        pair, sx, sy, sxx, sxy, fit, sw, sz, swz = np.moveaxis(sums[..., 1:10], -1, 0)
        pair, fit = np.where(pair > 0, pair, np.nan), np.where(fit > 1, fit, np.nan)
        spread = sxx - sx * sx / pair
        slope = (sxy - sx * sy / pair) / np.where(spread > self.floor, spread, np.nan)
        mean = self.mean_fitness + sw / fit
        covariance = (swz - sw * sz / fit) / (fit - 1)
        return np.asarray(slope * covariance / np.where(mean > 0, mean, np.nan))

    def descent(self, sums: Floats) -> Floats:
        parents, parent_sum, born, born_sum = np.moveaxis(sums[..., 10:], -1, 0)
        return np.asarray(
            born_sum / np.where(born > 0, born, np.nan)
            - parent_sum / np.where(parents > 0, parents, np.nan)
        )

    def excess(self, sums: Floats) -> Floats:
        fit = np.maximum(sums[..., 6], 1.0)
        return np.asarray(self.descent(sums) - self.breeder(sums) * (fit - 1) / fit)


def _about_mean(values: Floats, among: NDArray[np.bool_]) -> Floats:
    """Values less their mean, zero outside `among`; so that sums keep their digits."""
    if not among.any():
        return np.zeros_like(values)
    return np.where(among, values - values[among].mean(), 0.0)


def _caveat(
    s: Estimate,
    breeder: Estimate,
    secondary: Estimate | None,
    descent: Estimate,
    excess: Estimate,
) -> str | None:
    """Which answers disagree, None when none do or none can be compared."""
    found = []
    rounding = _ROUNDING_OF_SUMS * max(abs(breeder.value), abs(descent.value))
    if excess.low > rounding or excess.high < -rounding:
        found.append(f"h²S ({breeder.value:.3g}) and the change ({descent.value:.3g}) disagree")
    if secondary is not None and not math.isnan(secondary.value):
        found += [
            f"{name} ({other.value:.3g}) and Cov_A(w, z) ({secondary.value:.3g}) disagree"
            for name, other in (("h²S", breeder), ("the change", descent))
            if not math.isnan(other.value) and not _agree(other, secondary)
        ]
        if secondary.low <= 0 <= secondary.high and (s.low > 0 or s.high < 0):
            found.append(
                "fitness goes with the trait, but not clearly with the inherited part of it"
            )
    return "; ".join([*found, _ADVICE]) if found else None


def _agree(one: Estimate, other: Estimate) -> bool:
    return one.low <= other.value <= one.high or other.low <= one.value <= other.high

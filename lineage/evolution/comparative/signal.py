"""Phylogenetic signal: how much more alike related models are than unrelated ones.

Four measures that answer different questions. Pagel's λ and Blomberg's K compare a trait with
Brownian motion on a covariance V (λ = 1 and K = 1 there, λ = 0 without signal); Moran's I and
Abouheif's C_mean are autocorrelations and assume no model of change. None of them tells descent
from what else runs in families, such as an author or a size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lineage.evolution.clusters import untrusted
from lineage.evolution.comparative.brownian import pgls
from lineage.evolution.comparative.gls import SignalFit, require_covariance
from lineage.evolution.comparative.trees import Tree
from lineage.model import Estimate

__all__ = [
    "Autocorrelation",
    "abouheif_c_mean",
    "abouheif_proximity",
    "blomberg_k",
    "inverse_distance",
    "morans_i",
    "pagels_lambda",
]

Floats = NDArray[np.float64]

MIN_NODES = 4
_ROUNDING = 1e-12  # share of the scale below which a spread is rounding, not variation


@dataclass(frozen=True, slots=True)
class Autocorrelation:
    """An autocorrelation and its distribution when values are dealt to the nodes at random.

    `p_value` is the share of deals at least as positive as what was observed, that one included.
    All NaN where nothing can be said; `method` says why.
    """

    value: float
    expected: float
    sd: float
    p_value: float
    n: int
    n_permutations: int
    method: str


def pagels_lambda(
    values: Floats, covariance: Floats, *, reml: bool = False, level: float = 0.95
) -> SignalFit:
    """Pagel's λ: the factor on all covariances between nodes that makes the trait likeliest.

    λ = 0 still expects the variance of a node to grow with its distance from the root. Where nodes
    lie at very different distances, as measured ancestors and their descendants do, a trait of
    equal variance everywhere can therefore show λ > 0 without any likeness between relatives: look
    at Moran's I beside it.

    Parameters
    ----------
    values : (n,)
        Trait; NaN is missing.
    covariance : (n, n)
        V of the same nodes: shared path lengths of a tree, or the variances of a network.
    reml
        Restricted instead of full likelihood (it favours slightly higher λ in small samples).
    level
        Coverage of the profile-likelihood interval.

    Returns
    -------
    SignalFit
        λ in [0, 1] at the *global* maximum: the likelihood is often bimodal. NaN with the reason
        where fewer than 3 nodes were measured, they do not vary, or no two share a path.

    Raises
    ------
    ValueError
        If V is no covariance of these nodes.

    Examples
    --------
    >>> import numpy as np
    >>> V = np.kron(np.eye(3), [[1.0, 0.8], [0.8, 1.0]])
    >>> found = pagels_lambda(np.array([1.0, 1.2, 3.0, 3.1, 6.0, 5.7]), V)
    >>> round(found.signal.value, 2), round(found.signal.p_value, 3)
    (1.0, 0.011)
    """
    fitted = pgls(values, np.ones((values.size, 1)), covariance, reml=reml, level=level)
    if fitted.signal is not None:
        return fitted.signal
    return SignalFit(fitted.coefficients[0], math.nan, math.nan, math.nan, math.nan)


def blomberg_k(
    values: Floats,
    covariance: Floats,
    *,
    rng: np.random.Generator,
    n_permutations: int = 999,
    n_simulations: int = 999,
    level: float = 0.95,
) -> Estimate:
    """Blomberg's K: the variance among nodes relative to Brownian motion on V.

    ``K = (MSE₀/MSE) / ((tr V − n/1'V⁻¹1)/(n − 1))`` with ``MSE₀ = (y − a)'(y − a)/(n − 1)``,
    ``MSE = (y − a)'V⁻¹(y − a)/(n − 1)`` and a the GLS mean (Blomberg, Garland & Ives 2003,
    Evolution 57:717).

    Parameters
    ----------
    values : (n,)
        Trait; NaN is missing.
    covariance : (n, n)
        V of the same nodes.
    rng
        Source of permutations and simulations.
    n_permutations
        Deals of the values to the nodes; `p_value` is the share with K at least as high.
    n_simulations
        Draws from the model fitted with Pagel's λ: a parametric bootstrap of log K (the basic
        interval ``K · median/upper … K · median/lower``, since K of a model with λ ≤ 1 may be far
        from the K that was found). Expect wide intervals below some thirty nodes.

    Returns
    -------
    Estimate
        NaN with the reason where fewer than 4 nodes were measured, they do not vary, or no two
        share a path.

    Raises
    ------
    ValueError
        If V is no covariance of these nodes, or is singular.

    Examples
    --------
    >>> import numpy as np
    >>> V = np.kron(np.eye(3), [[1.0, 0.8], [0.8, 1.0]])
    >>> y = np.array([1.0, 1.2, 3.0, 3.1, 6.0, 5.7])
    >>> round(blomberg_k(y, V, rng=np.random.default_rng(1)).value, 4)
    2.0916
    """
    require_covariance(covariance, values.size)
    known = np.isfinite(values)
    y, V = values[known], covariance[np.ix_(known, known)]
    n = y.size
    about = f"Blomberg's K; p by {n_permutations} permutations"
    signal = pagels_lambda(y, V, level=level).signal
    problem = _problem(y) or signal.method.partition("not estimated: ")[2]
    if problem:
        return untrusted(n, level, about, problem, signal.n_clusters or 0)
    ratio = _brownian_ratio(V)
    observed = float(ratio((y - y.mean())[:, None])[0])
    dealt = rng.permuted(np.tile(y - y.mean(), (n_permutations, 1)), axis=1).T
    p_value = (1 + int((ratio(dealt) >= observed * (1 - _ROUNDING)).sum())) / (n_permutations + 1)
    softened = signal.value * V + (1 - signal.value) * np.diag(np.diag(V))
    drawn = ratio(np.linalg.cholesky(softened) @ rng.standard_normal((n, n_simulations)))
    low, median, high = (
        float(q) for q in np.quantile(drawn, [(1 - level) / 2, 0.5, (1 + level) / 2])
    )
    return Estimate(
        observed,
        observed * median / high,
        observed * median / low,
        level,
        n,
        f"{about}; basic interval of log K, {n_simulations} draws with λ = {signal.value:.4g}",
        signal.n_clusters,
        p_value,
    )


def morans_i(
    values: Floats,
    proximity: Floats,
    *,
    rng: np.random.Generator,
    n_permutations: int = 999,
    row_standardise: bool = True,
) -> Autocorrelation:
    """Moran's I: the correlation of each node with those near it.

    ``I = (n / Σ w_ij) · Σ w_ij z_i z_j / Σ z_i²`` with z the deviations from the mean (Moran 1950;
    for phylogenies Gittleman & Kot 1990, Syst Zool 39:227). `expected` and `sd` are the exact
    moments under random deals (Cliff & Ord 1981).

    Parameters
    ----------
    values : (n,)
        Trait; NaN is missing and left out with its row and column.
    proximity : (n, n)
        Weights w, not negative, zero on the diagonal; e.g. :func:`inverse_distance`.
    rng
        Source of the permutations.
    row_standardise
        Scale each row to sum to 1, as ape's ``Moran.I`` does.

    Raises
    ------
    ValueError
        If `proximity` is not n × n, is negative or not finite, or its diagonal is not zero.

    Examples
    --------
    >>> import numpy as np
    >>> w = np.kron(np.eye(3), [[0.0, 1.0], [1.0, 0.0]])
    >>> y = np.array([1.0, 1.0, 2.0, 2.0, 6.0, 6.0])
    >>> found = morans_i(y, w, rng=np.random.default_rng(1))
    >>> found.value, found.expected
    (1.0, -0.2)
    """
    if np.diag(proximity).any():
        raise ValueError("the proximity of a node to itself must be zero")
    y, w = _complete(values, proximity)
    n = y.size
    if row_standardise:
        sums = w.sum(axis=1, keepdims=True)
        w = w / np.where(sums > 0, sums, 1)
    about = f"Moran's I, {'row-standardised' if row_standardise else 'given'} proximities"
    found = _autocorrelation(y, w, rng, n_permutations, about)
    if math.isnan(found.value):
        return found
    s0 = w.sum()
    s1 = 0.5 * ((w + w.T) ** 2).sum()
    s2 = ((w.sum(axis=0) + w.sum(axis=1)) ** 2).sum()
    z = y - y.mean()
    kurtosis = (z**4).mean() / (z**2).mean() ** 2
    expected = -1 / (n - 1)
    square = (
        n * ((n**2 - 3 * n + 3) * s1 - n * s2 + 3 * s0**2)
        - kurtosis * (n * (n - 1) * s1 - 2 * n * s2 + 6 * s0**2)
    ) / ((n - 1) * (n - 2) * (n - 3) * s0**2)
    return replace(found, expected=expected, sd=float(np.sqrt(max(square - expected**2, 0))))


def abouheif_c_mean(
    values: Floats, tree: Tree, *, rng: np.random.Generator, n_permutations: int = 999
) -> Autocorrelation:
    """Abouheif's C_mean: similarity of tips that follow each other, over all ways to draw the tree.

    Moran's I with the proximities of :func:`abouheif_proximity`, diagonal included, which is the
    mean of Abouheif's (1999) statistic over all rotations (Pavoine et al. 2008, Theor Popul Biol
    73:79). Only topology counts, no edge lengths. `expected` and `sd` are those of the deals.

    Parameters
    ----------
    values : (m,)
        Trait of the tips, in order of ``tree.tips``; NaN is missing (the proximities of the others
        stay those of the whole tree).
    tree
        A tree or forest, polytomies allowed.
    rng
        Source of the permutations.
    """
    y, w = _complete(values, abouheif_proximity(tree))
    return _autocorrelation(y, w, rng, n_permutations, "Abouheif's C_mean")


def abouheif_proximity(tree: Tree) -> Floats:
    """Abouheif's proximities between the tips of a tree.

    ``A_ij = 1 / Π d_p`` over the nodes p on the path between tips i and j, with d_p the number of
    children of p; ``A_ii`` runs over the path from i to the root. Rows of one tree sum to 1; tips
    of different trees have none (Pavoine et al. 2008, eq. 4).

    Returns
    -------
    (m, m)
        In order of ``tree.tips``.

    Examples
    --------
    >>> import numpy as np
    >>> fork = Tree(tuple("rab"), np.array([-1, 0, 0]), np.array([0.0, 1, 1]))
    >>> abouheif_proximity(fork).round(6).tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """
    bred = tree.parent >= 0
    choices = np.log(np.maximum(tree.n_children, 1))
    above = np.where(bred, choices[tree.parent], 0.0)
    to_root = replace(tree, length=above).distance[tree.tips]
    # On the way i → a → j the ancestor a counts once, what lies above it not at all: of the two
    # ways to the root, take off a itself once and twice what is above it.
    spared = replace(tree, length=np.where(bred, above + choices, 0.0)).shared_length()
    root = tree.root[tree.tips]
    spared += choices[root][:, None]
    np.fill_diagonal(spared, to_root)
    apart = root[:, None] != root[None, :]
    return np.where(apart, 0.0, np.exp(spared - to_root[:, None] - to_root[None, :]))


def inverse_distance(covariance: Floats) -> Floats:
    """Proximities ``1 / (V_ii + V_jj − 2V_ij)``, zero on the diagonal, shape (n, n).

    Nodes of different trees count as if their roots were one.

    Raises
    ------
    ValueError
        If V is not symmetric, or two nodes are at one place: collapse copies first.
    """
    if covariance.shape != covariance.T.shape or not np.allclose(covariance, covariance.T):
        raise ValueError("the covariance must be square and symmetric")
    reach = np.diag(covariance)
    distance = reach[:, None] + reach[None, :] - 2 * covariance
    np.fill_diagonal(distance, np.inf)
    if (distance <= _ROUNDING * np.abs(covariance).max(initial=0.0)).any():
        raise ValueError("two nodes are at one place: collapse copies first")
    return np.asarray(1 / distance, dtype=np.float64)


def _brownian_ratio(covariance: Floats) -> _Ratio:
    try:
        np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        message = "the covariance is singular: collapse copies, or give them an edge"
        raise ValueError(message) from None
    inverse: Floats = np.asarray(np.linalg.inv(covariance), dtype=np.float64)
    return _Ratio(inverse, float(np.trace(covariance)))


@dataclass(frozen=True, eq=False)
class _Ratio:
    """K of the columns of a matrix of traits."""

    inverse: Floats
    trace: float

    def __call__(self, traits: Floats) -> Floats:
        n = traits.shape[0]
        row = self.inverse.sum(axis=0)
        total = row.sum()
        off = traits - (row @ traits) / total
        spread = (off**2).sum(axis=0)
        brownian = (off * (self.inverse @ off)).sum(axis=0)
        return np.asarray(spread / brownian * (n - 1) / (self.trace - n / total))


def _complete(values: Floats, proximity: Floats) -> tuple[Floats, Floats]:
    n = values.size
    if proximity.shape != (n, n):
        raise ValueError(f"proximity: shape {(n, n)} expected, {proximity.shape} given")
    if not np.isfinite(proximity).all() or (proximity < 0).any():
        raise ValueError("proximities must be finite and not negative")
    known = np.isfinite(values)
    return values[known], proximity[np.ix_(known, known)]


def _autocorrelation(
    y: Floats, w: Floats, rng: np.random.Generator, n_permutations: int, about: str
) -> Autocorrelation:
    about = f"{about}; p by {n_permutations} permutations, one-sided"
    problem = _problem(y) or (None if w.any() else "no two nodes are near each other")
    if problem:
        nan = math.nan
        about = f"{about}; not estimated: {problem}"
        return Autocorrelation(nan, nan, nan, nan, y.size, n_permutations, about)
    z = y - y.mean()
    scale = y.size / (float(w.sum()) * float(z @ z))
    observed = scale * float(z @ w @ z)
    dealt = rng.permuted(np.tile(z, (n_permutations, 1)), axis=1)
    drawn = scale * (dealt @ w * dealt).sum(axis=1)
    as_high = int((drawn >= observed - _ROUNDING * abs(observed)).sum())
    return Autocorrelation(
        observed,
        float(drawn.mean()),
        float(drawn.std(ddof=1)),
        (1 + as_high) / (n_permutations + 1),
        y.size,
        n_permutations,
        about,
    )


def _problem(y: Floats) -> str | None:
    """Why nothing can be said, None when something can."""
    if y.size < MIN_NODES:
        return f"{y.size} measured nodes, {MIN_NODES} needed"
    if np.ptp(y) <= _ROUNDING * np.abs(y).max():
        return "the trait does not vary"
    return None

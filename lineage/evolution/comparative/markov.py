"""The Mk model: a state that changes along edges at constant rates, inner nodes hidden or not.

The likelihood sums over what the hidden nodes may have been (Pagel 1994, Proc R Soc B 255:37;
Lewis 2001, Syst Biol 50:913). Known inner nodes simply join the data. Where all are known, as on a
hub, :mod:`lineage.evolution.categories.edge_rates` counts instead, with intervals that do not lean
on the model; what Mk adds there is several changes an edge. States are numbered from 0; −1 is
unknown.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize
from scipy.stats import chi2

from lineage.evolution.comparative.trees import Tree
from lineage.model import Estimate

__all__ = ["MkFit", "fit_mk", "mk_log_likelihood", "rate_classes"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_REACH = 1e4  # no rate is sought above this many changes per mean edge
_SATURATED = 1e2  # so many changes per mean edge are like infinitely many
_FEWEST = 1e-3  # nor, but for 0, below this many changes on the whole tree
_STARTS = (0.01, 0.1, 1.0)  # changes per mean edge
_MAX_JUMPS = 20  # of a Poisson variable of mean 1: more come with chance 10⁻¹⁹
_STEP = 1e-4  # relative step of the second differences


@dataclass(frozen=True, eq=False)
class MkFit:
    """Rates of highest likelihood.

    Attributes
    ----------
    rates
        One for each class of rates; intervals by profile likelihood.
    errors
        Standard errors from the curvature; NaN for a rate of 0.
    matrix : (k, k)
        Rates q_ab from row to column, rows summing to 0.
    log_likelihood
        At these rates.
    """

    rates: tuple[Estimate, ...]
    errors: tuple[float, ...]
    matrix: Floats
    log_likelihood: float


def mk_log_likelihood(
    tree: Tree, states: Ints, rates: Floats, *, root: str | Floats = "flat"
) -> float:
    """Log-likelihood of states on a tree under rates of change, by pruning.

    Felsenstein (1981, J Mol Evol 17:368): from the tips up, the likelihood of everything below an
    edge given the state at its upper end is ``P(t) L``, ``P(t) = exp(Qt)``. Any number of children;
    trees of a forest are independent and their log-likelihoods add.

    Parameters
    ----------
    tree
        Lengths in the unit of the rates.
    states : (n_nodes,)
        State of every node, −1 unknown: hidden inner nodes and unmeasured tips.
    rates : (k, k)
        Rate q_ab from row to column; the diagonal is ignored.
    root
        What is believed of a root's state: ``"flat"`` 1/k each, ``"equilibrium"`` the stationary
        distribution of the rates, ``"observed"`` in proportion to each state's own likelihood
        (FitzJohn, Maddison & Otto 2009, Syst Biol 58:595; diversitree's default), or k
        probabilities.

    Returns
    -------
    float
        −∞ where the rates cannot have made the states.

    Raises
    ------
    ValueError
        If the arrays do not fit, a state is not below k, a rate is negative or not finite, there
        is no unique stationary distribution but it was asked for, or `root` is none of the above.

    Examples
    --------
    >>> import numpy as np
    >>> fork = Tree(tuple("rab"), np.array([-1, 0, 0]), np.array([0.0, 99.0, 99.0]))
    >>> rates = np.array([[0.0, 1.0], [1.0, 0.0]])
    >>> round(float(np.exp(mk_log_likelihood(fork, np.array([-1, 0, 1]), rates))), 6)
    0.25
    """
    _require_states(tree, states, rates.shape[0])
    if rates.ndim != 2 or rates.shape[0] != rates.shape[1]:
        raise ValueError(f"a square matrix of rates needed: {rates.shape}")
    generator = rates.astype(np.float64)
    np.fill_diagonal(generator, 0)
    if not np.isfinite(generator).all() or (generator < 0).any():
        raise ValueError("rates must be finite and not negative")
    np.fill_diagonal(generator, -generator.sum(axis=1))
    return _log_likelihood(tree, states, generator, root)


def rate_classes(model: str, n_states: int) -> Ints:
    """Which rates are equal: class of each q_ab, −1 on the diagonal, shape (k, k).

    ``"ER"`` one rate for all, ``"SYM"`` one for each pair of states, ``"ARD"`` all different (in
    order of rows).

    Raises
    ------
    ValueError
        If `model` is none of these or there are fewer than two states.
    """
    if n_states < 2:
        raise ValueError(f"two states needed, {n_states} given")
    classes = np.full((n_states, n_states), -1, dtype=np.int64)
    apart = ~np.eye(n_states, dtype=bool)
    upper = np.triu_indices(n_states, 1)
    if model == "ER":
        classes[apart] = 0
    elif model == "SYM":
        classes[upper] = np.arange(upper[0].size)
        classes.T[upper] = np.arange(upper[0].size)
    elif model == "ARD":
        classes[apart] = np.arange(n_states * (n_states - 1))
    else:
        raise ValueError(f"ER, SYM or ARD: {model!r}")
    return classes


def fit_mk(
    tree: Tree,
    states: Ints,
    classes: Ints,
    *,
    root: str | Floats = "flat",
    level: float = 0.95,
) -> MkFit:
    """Rates of change of highest likelihood.

    Parameters
    ----------
    tree, states, root
        As for :func:`mk_log_likelihood`.
    classes : (k, k)
        Class of each rate, −1 for rates that are 0; see :func:`rate_classes`. Each further class
        costs a profile likelihood: beyond some six, observe more nodes and use
        :func:`lineage.evolution.categories.edge_rates.edge_rates`.
    level
        Coverage of the intervals.

    Returns
    -------
    MkFit
        Rates may be 0 and their upper limits ∞, where the states say no more than that.

    Raises
    ------
    ValueError
        As :func:`mk_log_likelihood`; if fewer than two states occur, classes are not numbered from
        0, or the tree has no length.
    """
    k = classes.shape[0]
    _require_states(tree, states, k)
    n_rates = int(classes.max()) + 1
    if classes.shape != (k, k) or set(classes.ravel().tolist()) - {-1} != set(range(n_rates)):
        raise ValueError("classes must be square and numbered from 0, −1 for no rate")
    if (np.diag(classes) != -1).any():
        raise ValueError("a state does not change into itself: classes of the diagonal must be −1")
    if np.unique(states[states >= 0]).size < 2:
        raise ValueError("only one state was seen: no rate of change can be told")
    n_edges = int((tree.parent >= 0).sum())
    if not tree.length.any():
        raise ValueError("the tree has no length: no rate of change can be told")
    total = float(tree.length.sum())
    span = (_FEWEST / total, _REACH * n_edges / total)

    def at(rates: Floats) -> float:
        return _log_likelihood(tree, states, _generator(rates, classes), root)

    best, top = _highest(at, n_rates, span)
    estimates = []
    for i in range(n_rates):
        low, high = _profile_interval(at, best, top, i, span, level)
        estimates.append(
            Estimate(
                float(best[i]),
                min(low, float(best[i])),
                max(high, float(best[i])),
                level,
                int((states >= 0).sum()),
                f"Mk rate, ML over {n_rates} rates; profile-likelihood interval",
                int(tree.roots.size),
            )
        )
    errors = _errors(at, best)
    return MkFit(tuple(estimates), errors, _generator(best, classes), top)


def _require_states(tree: Tree, states: Ints, k: int) -> None:
    if states.shape != (len(tree),):
        raise ValueError(f"states: {len(tree)} values expected, shape {states.shape} given")
    if states.size and (states.min() < -1 or states.max() >= k):
        raise ValueError(f"states are numbered 0 to {k - 1}, −1 unknown")


def _generator(rates: Floats, classes: Ints) -> Floats:
    generator = np.where(classes >= 0, rates[classes], 0.0)
    np.fill_diagonal(generator, -generator.sum(axis=1))
    return generator


def _log_likelihood(tree: Tree, states: Ints, generator: Floats, root: str | Floats) -> float:
    k = generator.shape[0]
    lengths, which = np.unique(tree.length, return_inverse=True)
    passed = _transitions(generator, lengths)
    with np.errstate(divide="ignore"):  # log 0 = −∞ is meant: an impossible state
        known = states >= 0
        below = np.zeros((len(tree), k))
        below[known] = np.log(np.eye(k)[states[known]])
        for layer in tree.layers[:0:-1]:
            top = below[layer].max(axis=1, keepdims=True)
            top = np.where(np.isfinite(top), top, 0)
            message = np.einsum("eab,eb->ea", passed[which[layer]], np.exp(below[layer] - top))
            np.add.at(below, tree.parent[layer], np.log(message) + top)
        at_root = below[tree.roots]
        top = at_root.max(axis=1, keepdims=True)
        if not np.isfinite(top).all():
            return -math.inf
        relative = np.exp(at_root - top)
        prior = _prior(root, generator, relative)
        return float((np.log((prior * relative).sum(axis=1)) + top[:, 0]).sum())


def _transitions(generator: Floats, lengths: Floats) -> Floats:
    """``exp(Qt)`` for many t, shape (m, k, k).

    By uniformisation: a Poisson number of jumps at the pace of the fastest rate, of which some
    lead back. Every term is positive, so that even the smallest probabilities are accurate (a
    Taylor series or eigenvectors would lose them); long times are halved until a few jumps do, and
    squared back.
    """
    k = generator.shape[0]
    pace = max(float(-generator.diagonal().min()), np.finfo(float).tiny)
    longest = pace * float(lengths.max(initial=0.0))
    halvings = max(0, math.ceil(math.log2(longest))) if longest > 0 else 0
    jump = np.maximum(np.eye(k) + generator / pace, 0)
    mean = pace * lengths / 2**halvings
    passed, chance, power = np.zeros((lengths.size, k, k)), np.exp(-mean), np.eye(k)
    for jumps in range(1, _MAX_JUMPS + 1):
        passed += chance[:, None, None] * power
        chance, power = chance * mean / jumps, power @ jump
    for _ in range(halvings):
        passed = passed @ passed
    return passed


def _prior(root: str | Floats, generator: Floats, relative: Floats) -> Floats:
    k = generator.shape[0]
    if not isinstance(root, str):
        if root.shape != (k,) or (root < 0).any() or not math.isclose(root.sum(), 1, rel_tol=1e-9):
            raise ValueError(f"{k} probabilities of the root needed, summing to 1: {root}")
        return root
    if root == "flat":
        return np.full(k, 1 / k)
    if root == "observed":
        return np.asarray(relative / relative.sum(axis=1, keepdims=True), dtype=np.float64)
    if root == "equilibrium":
        return _stationary(generator)
    raise ValueError(f"root: flat, equilibrium, observed or probabilities, not {root!r}")


def _stationary(generator: Floats) -> Floats:
    k = generator.shape[0]
    if np.linalg.matrix_rank(generator) < k - 1:
        raise ValueError("no unique stationary distribution: choose another prior of the root")
    conditions = np.vstack([generator.T, np.ones(k)])
    solved = np.linalg.lstsq(conditions, np.append(np.zeros(k), 1.0), rcond=None)[0]
    return np.asarray(np.maximum(solved, 0), dtype=np.float64)


def _highest(
    at: Callable[[Floats], float], n_rates: int, span: tuple[float, float]
) -> tuple[Floats, float]:
    """Rates of highest likelihood and its height; a rate that does as well at 0 becomes 0."""
    per_edge = span[1] / _REACH
    everything = np.arange(n_rates)
    tops = [_climb(at, np.full(n_rates, start * per_edge), everything, span) for start in _STARTS]
    best, top = max(tops, key=lambda found: found[1])
    for i in range(n_rates):
        emptied = best.copy()
        emptied[i] = 0
        if at(emptied) >= top:
            best, top = emptied, at(emptied)
    left = np.flatnonzero(best > 0)
    return _climb(at, best, left, span) if 0 < left.size < n_rates else (best, top)


def _climb(
    at: Callable[[Floats], float], start: Floats, free: Ints, span: tuple[float, float]
) -> tuple[Floats, float]:
    """Climb over the logarithms of the `free` rates, the others held."""
    lowest, highest = (math.log(end) for end in span)

    def descend(logs: Floats) -> float:
        rates = start.copy()
        rates[free] = np.exp(logs)
        return -max(at(rates), -1e300)  # the search needs numbers where the states are impossible

    found = minimize(
        descend,
        np.log(np.clip(start[free], *span)),
        method="L-BFGS-B",
        bounds=[(lowest, highest)] * free.size,
        options={"ftol": 1e-14, "gtol": 1e-8},
    )
    rates = start.copy()
    rates[free] = np.exp(found.x)
    return rates, -float(found.fun)


def _profile_interval(
    at: Callable[[Floats], float],
    best: Floats,
    top: float,
    i: int,
    span: tuple[float, float],
    level: float,
) -> tuple[float, float]:
    """Range of rate i that a likelihood ratio test at `level` does not reject."""
    bar = top - 0.5 * float(chi2.ppf(level, 1))
    others = np.flatnonzero(np.arange(best.size) != i)

    def over(log_rate: float) -> float:
        held = best.copy()
        held[i] = math.exp(log_rate)
        height = _climb(at, held, others, span)[1] if others.size else at(held)
        return max(height, -1e9) - bar

    lowest, here = math.log(span[0]), math.log(max(best[i], span[0]))
    saturated = math.log(span[1] * _SATURATED / _REACH)
    low, high = 0.0, math.inf
    if over(lowest) < 0:
        low = math.exp(brentq(over, lowest, here, xtol=1e-6))
    if here < saturated and over(saturated) < 0:
        high = math.exp(brentq(over, here, saturated, xtol=1e-6))
    return low, high


def _errors(at: Callable[[Floats], float], best: Floats) -> tuple[float, ...]:
    """Standard errors of the rates above 0, from second differences of the log-likelihood."""
    errors = np.full(best.size, np.nan)
    free = np.flatnonzero(best > 0)
    steps = _STEP * best[free]

    def moved(i: int, di: float, j: int, dj: float) -> float:
        rates = best.copy()
        rates[free[i]] += di * steps[i]
        rates[free[j]] += dj * steps[j]
        return at(rates)

    information = np.zeros((free.size, free.size))
    for i in range(free.size):
        for j in range(free.size):
            bend = moved(i, 1, j, 1) - moved(i, 1, j, -1) - moved(i, -1, j, 1) + moved(i, -1, j, -1)
            information[i, j] = -bend / (4 * steps[i] * steps[j])
    if np.linalg.eigvalsh(information).min(initial=math.inf) > 0:
        errors[free] = np.sqrt(np.diag(np.linalg.inv(information)))
    return tuple(errors.tolist())

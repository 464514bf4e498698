"""BiSSE: does a two-state trait go with births and deaths? For comparison with the literature only.

The model (Maddison, Midford & Otto 2007, Syst Biol 56:701) reads rates of birth and death for each
of two states, and of change between them, from a dated bifurcating tree of living tips. It finds
effects of traits that have none whenever rates vary for another reason (Rabosky & Goldberg 2015,
Syst Biol 64:340). Where births are dated and parents' states known, as on a hub, births per model
and day are counted by state instead; nothing here improves on that. Only the likelihood is given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from lineage.evolution.comparative.birth_death import branching_times
from lineage.evolution.comparative.trees import Tree

__all__ = ["BisseRates", "bisse_log_likelihood"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_RELATIVE, _ABSOLUTE = 1e-9, 1e-12  # tolerances of the integration


@dataclass(frozen=True, slots=True)
class BisseRates:
    """Rates per lineage and unit of length, for states 0 and 1.

    Raises
    ------
    ValueError
        If a rate is negative or not finite, or no births are possible.
    """

    birth: tuple[float, float]
    death: tuple[float, float]
    change: tuple[float, float]
    """From 0 to 1, and from 1 to 0."""

    def __post_init__(self) -> None:
        rates = (*self.birth, *self.death, *self.change)
        if not all(rate >= 0 and math.isfinite(rate) for rate in rates) or not any(self.birth):
            raise ValueError(
                f"rates must be finite and not negative, one birth rate above 0: {self}"
            )


def bisse_log_likelihood(
    tree: Tree,
    states: Ints,
    rates: BisseRates,
    *,
    root: str = "observed",
    given_survival: bool = True,
) -> float:
    """Log-likelihood of a tree and the states of its tips.

    Along each edge, from the tips down, ``D_i`` is the likelihood of all above given state i and
    ``E_i`` the chance to have died out; they follow Maddison et al.'s differential equations, and
    ``D_i = λ_i D_i D'_i`` where two edges meet. All living lineages are taken to be tips.

    Parameters
    ----------
    tree
        Binary, its tips ending today; lengths are times.
    states : (n_nodes,)
        0 or 1 at the tips, −1 unknown there and at all inner nodes.
    rates
        Of birth, death and change.
    root
        Weights of the root's states: ``"flat"``, ``"observed"`` (by their own likelihoods,
        diversitree's default) or ``"equilibrium"`` (the shares towards which the process tends).
    given_survival
        Condition on the split at the root and on the survival of both its lineages.

    Raises
    ------
    ValueError
        As :func:`lineage.evolution.comparative.birth_death.branching_times`; if a state is none of
        these, an inner node has one, or `root` is unknown.
    """
    branching_times(tree)
    _require_states(tree, states)
    birth, death, change = (np.array(r) for r in (rates.birth, rates.death, rates.change))
    leaving = birth + death + change

    def along(seen: Floats, gone: Floats, lengths: Floats) -> tuple[Floats, Floats]:
        """Down edges of any length at once: each runs its own clock from 0 to 1."""

        def slope(_: float, packed: Floats) -> Floats:
            d, e = packed.reshape(2, lengths.size, 2)
            falls = 2 * birth * e * d - leaving * d + change * d[:, ::-1]
            dies = death - leaving * e + change * e[:, ::-1] + birth * e**2
            return np.asarray(np.stack([falls, dies]) * lengths[:, None], dtype=np.float64).ravel()

        solved = solve_ivp(
            slope, (0, 1), np.stack([seen, gone]).ravel(), rtol=_RELATIVE, atol=_ABSOLUTE
        )
        d, e = solved.y[:, -1].reshape(2, lengths.size, 2)
        return d, e

    n = len(tree)
    tip = tree.n_children == 0
    # A node's likelihood is the product of what arrives from its children, times λ where they meet.
    seen = np.where(tip[:, None], np.where(states[:, None] < 0, 1.0, 0.0), birth)
    known = states >= 0
    seen[known, states[known]] = 1.0
    gone, log_scale = np.zeros((n, 2)), 0.0
    for layer in tree.layers[:0:-1]:
        largest = seen[layer].max(axis=1, keepdims=True)
        if (largest <= 0).any():
            return -math.inf
        log_scale += float(np.log(largest).sum())
        arrived, died = along(seen[layer] / largest, gone[layer], tree.length[layer])
        np.multiply.at(seen, tree.parent[layer], np.maximum(arrived, 0))
        gone[tree.parent[layer]] = died
    start = tree.roots[0]
    at_root = seen[start]
    if not at_root.any():
        return -math.inf
    weights = _root_weights(root, at_root, rates)
    total = float(weights @ at_root)
    if total == 0:
        return -math.inf
    if given_survival:
        total /= float(weights @ (birth * (1 - gone[start]) ** 2))
    return log_scale + math.log(total)


def _require_states(tree: Tree, states: Ints) -> None:
    if states.shape != (len(tree),) or not np.isin(states, (-1, 0, 1)).all():
        raise ValueError(f"states 0, 1 or −1 of {len(tree)} nodes needed")
    if (states[tree.n_children > 0] >= 0).any():
        raise ValueError("inner nodes are hidden here: where they are known, count births instead")


def _root_weights(root: str, at_root: Floats, rates: BisseRates) -> Floats:
    if root == "flat":
        return np.array([0.5, 0.5])
    if root == "observed":
        return np.asarray(at_root / at_root.sum(), dtype=np.float64)
    if root == "equilibrium":
        share = _equilibrium(rates)
        return np.array([share, 1 - share])
    raise ValueError(f"root: flat, observed or equilibrium, not {root!r}")


def _equilibrium(rates: BisseRates) -> float:
    """The stable share of state 0, where growth and change balance.

    It solves ``g p² + (q₁₀ + q₀₁ − g) p − q₁₀ = 0``, g the net rate of 0 above that of 1.
    """
    away, back = rates.change
    gain = (rates.birth[0] - rates.death[0]) - (rates.birth[1] - rates.death[1])
    slope = back + away - gain
    width = math.sqrt(slope**2 + 4 * gain * back)
    if slope > 0:  # the two forms of the solution, each without cancellation
        return 2 * back / (slope + width)
    if gain == 0:
        raise ValueError("states that neither change nor differ tend to no equilibrium")
    return (width - slope) / (2 * gain)

"""Which models and which terms a fit of selection gradients takes.

Complete cases, traits in standard deviations from their means, the columns of a linear or a
second-order surface, and the refusal of columns that the others determine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr

from lineage.evolution.selection.fitness import Fitness

__all__ = [
    "Cases",
    "Scale",
    "Terms",
    "complete_cases",
    "founder_groups",
    "gradient_problem",
    "linear_terms",
    "pairs_of_traits",
    "require_independent",
    "second_order_terms",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Scale = Literal["sd", "raw"]

_ROUNDING = 1e-12  # share of the scale below which a spread is rounding, not variation
_SAME = 1e-7  # a column that keeps less of its length beside the others is one of their sums


@dataclass(frozen=True, eq=False)
class Cases:
    """Complete cases: traits in standard deviations from their means, and absolute fitness.

    `z` is (n, k), `spread` the k standard deviations, `complete` the mask of the cases among all.
    """

    names: tuple[str, ...]
    z: Floats
    spread: Floats
    fitness: Floats
    complete: NDArray[np.bool_]
    note: str

    @property
    def n(self) -> int:
        """How many models take part."""
        return int(self.fitness.size)


@dataclass(frozen=True, eq=False)
class Terms:
    """Columns of a fit; the last m of them are the gradients asked for.

    `power` (m, k) says how often each trait enters each gradient, `factor` (m,) what turns a
    coefficient into the gradient.
    """

    labels: tuple[str, ...]
    design: Floats
    power: Floats
    factor: Floats


def complete_cases(traits: Mapping[str, Floats], fitness: Fitness) -> Cases:
    """Models with every trait and fitness.

    Raises
    ------
    ValueError
        If no trait is given, lengths differ or fitness is negative.
    """
    if not traits:
        raise ValueError("no trait is given")
    absolute = fitness.values
    for name, values in traits.items():
        if values.shape != absolute.shape:
            raise ValueError(f"{name}: {absolute.size} values expected, {values.size} given")
    if (absolute < 0).any():
        raise ValueError("fitness must not be negative: it counts what a model passed on")
    names = tuple(traits)
    z = np.column_stack([traits[name] for name in names]).astype(np.float64)
    complete = np.isfinite(z).all(axis=1) & np.isfinite(absolute)
    z, absolute = z[complete], absolute[complete]
    if not absolute.size:
        return Cases(names, z, np.zeros(len(names)), absolute, complete, fitness.method)
    centred = z - z.mean(axis=0)
    constant = np.ptp(z, axis=0) <= _ROUNDING * np.abs(z).max(axis=0)
    spread = np.where(constant, 0.0, np.sqrt((centred**2).sum(axis=0) / max(len(z) - 1, 1)))
    # A trait that does not vary becomes a column of zeros, which the fit then refuses by name.
    z = np.where(constant, 0.0, centred / np.where(constant, 1.0, spread))
    return Cases(names, z, spread, absolute, complete, fitness.method)


def founder_groups(cluster: Ints, cases: Cases) -> tuple[Ints, Ints]:
    """Founders of the cases, and the place of each case's founder among them."""
    if cluster.shape != cases.complete.shape:
        raise ValueError(f"cluster: {cases.complete.size} labels expected, {cluster.size} given")
    labels, group = np.unique(cluster[cases.complete], return_inverse=True)
    return labels, group


def gradient_problem(cases: Cases, n_terms: int) -> str | None:
    """Why no gradient can be trusted, None when it can."""
    if cases.n < n_terms + 2:
        return f"{cases.n} models with every trait and fitness, {n_terms + 2} needed"
    if cases.fitness.mean() <= 0:
        return "no model has any fitness"
    return None


def linear_terms(cases: Cases) -> Terms:
    """The traits themselves."""
    k = len(cases.names)
    return Terms(cases.names, cases.z, np.eye(k), np.ones(k))


def second_order_terms(cases: Cases) -> Terms:
    """Traits, then their squares, then the products of each two."""
    first, second = pairs_of_traits(len(cases.names))
    power = np.zeros((first.size, len(cases.names)))
    np.add.at(power, (np.arange(first.size), first), 1.0)
    np.add.at(power, (np.arange(first.size), second), 1.0)
    labels = cases.names + tuple(
        f"square of {cases.names[i]}" if i == j else f"{cases.names[i]} × {cases.names[j]}"
        for i, j in zip(first, second, strict=True)
    )
    design = np.column_stack([cases.z, cases.z[:, first] * cases.z[:, second]])
    return Terms(labels, design, power, np.where(first == second, 2.0, 1.0))


def pairs_of_traits(k: int) -> tuple[Ints, Ints]:
    """First and second trait of each second-order term: squares, then products of each two."""
    first, second = np.triu_indices(k, 1)
    own = np.arange(k)
    return np.concatenate([own, first]), np.concatenate([own, second])


def require_independent(cases: Cases, terms: Terms) -> None:
    """Refuse, by name, a trait or a term that the others determine; traits first."""
    for labels, design in ((cases.names, cases.z), (terms.labels, terms.design)):
        centred = design - design.mean(axis=0)
        length, root_n = np.sqrt((centred**2).sum(axis=0)), math.sqrt(cases.n)
        flat = [t for t, own in zip(labels, length, strict=True) if own <= _SAME * root_n]
        if flat:
            raise ValueError(f"{_listed(flat)}: the same in every model, leave it out")
        centred /= length
        triangle, order = qr(centred, mode="r", pivoting=True)
        rank = int((np.abs(np.diagonal(triangle)) > _SAME).sum())
        if rank == len(labels):
            continue
        kept, first = order[:rank], order[rank]
        mix = np.linalg.lstsq(centred[:, kept], centred[:, first], rcond=None)[0]
        among = [labels[i] for i in sorted([first, *kept[np.abs(mix) > _SAME]])]
        raise ValueError(f"{_listed(among)}: one is a sum of the others, leave one of them out")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)

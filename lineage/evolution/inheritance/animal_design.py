"""Records, fixed effects, pedigree and groups made into a mixed model, and what forbids it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array, eye_array

from lineage.evolution.inheritance.mixed_model import MixedModel, RandomEffect
from lineage.evolution.inheritance.relatedness import Relatedness

__all__ = ["ANIMAL", "RESIDUAL", "AnimalDesign", "animal_design"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

ANIMAL = "animal"
RESIDUAL = "residual"

_ROUNDING = 1e-9  # share of the scale below which a spread is rounding, not variation


@dataclass(frozen=True, eq=False)
class AnimalDesign:
    """A mixed model with what links it to the pedigree.

    Attributes
    ----------
    model
        The mixed model; its first effect is the breeding value, if there is one.
    used : (n_records,)
        Records that take part: known model, fixed effects and groups, and at least one trait.
    node : (n_used,)
        Model of each record that takes part.
    related
        Relatedness among the recorded models and their ancestors, None without breeding values.
    members : (s,)
        Those models as nodes of the whole pedigree.
    levels
        Labels of each group effect, in the order of its levels.
    n_founders
        Founders at the end of the records' primary chains; 0 without a pedigree.
    """

    model: MixedModel
    used: Bools
    node: Ints
    related: Relatedness | None
    members: Ints
    levels: Mapping[str, Ints]
    n_founders: int


def animal_design(
    traits: Floats,
    fixed: Floats,
    fixed_names: Sequence[str],
    related: Relatedness | None,
    node: Ints,
    groups: Mapping[str, Ints],
) -> AnimalDesign:
    """Build the mixed model of one or several traits.

    Parameters
    ----------
    traits : (n_records, t)
        NaN is missing; a record without any trait is left out.
    fixed : (n_records, p)
        X; a record with a NaN is left out.
    fixed_names : (p,)
        Names of its columns, for messages.
    related
        The pedigree; None for a model without breeding values.
    node : (n_records,)
        Model of each record, as a node of the pedigree; −1 leaves the record out.
    groups
        Labels (n_records,) of further random effects; −1 leaves the record out.

    Raises
    ------
    ValueError
        If shapes do not fit, too few records remain, a trait does not vary (beyond the fixed
        effects), columns of X are collinear (they are named), all records go back to one founder,
        or a group effect has one level, or one record on every level.
    """
    _require_shapes(traits, fixed, fixed_names, related, node, groups)
    used = np.isfinite(traits).any(axis=1) & np.isfinite(fixed).all(axis=1) & (node >= 0)
    for labels in groups.values():
        used &= labels >= 0
    traits, fixed, node = traits[used], fixed[used], node[used]
    n, t = traits.shape
    needed = fixed.shape[1] + len(groups) + (related is not None) + 2
    if (np.isfinite(traits).sum(axis=0) < needed).any():
        raise ValueError(
            f"too few records: {n} complete ones remain, {needed} with each trait needed"
        )
    _require_independent(fixed, fixed_names)
    effects, levels = [], {}
    members, smaller, n_founders = np.empty(0, dtype=np.int64), None, 0
    if related is not None:
        smaller, members = related.ancestry(node)
        place = np.searchsorted(members, node)
        if (smaller.graph.n_parents == 0).sum() < 2:
            raise ValueError("all records go back to one founder: two at least are needed")
        n_founders = np.unique(smaller.graph.founder[place]).size
        drawn = csr_array(smaller.expression[place])
        effects.append(RandomEffect(ANIMAL, drawn, smaller.inverse, smaller.log_determinant))
    for name, labels in groups.items():
        levels[name], level = np.unique(labels[used], return_inverse=True)
        q = levels[name].size
        if q < 2 or (q == n and t == 1):
            every = "one level" if q < 2 else "as many levels as records"
            raise ValueError(f"{name} has {every}: its variance cannot be told")
        rows = csr_array((np.ones(n), (np.arange(n), level)), shape=(n, q))
        effects.append(RandomEffect(name, rows, csc_array(eye_array(q)), 0.0))
    record, trait = np.nonzero(np.isfinite(traits))
    stacked = np.zeros((record.size, t, fixed.shape[1]))
    stacked[np.arange(record.size), trait] = fixed[record]
    response = traits[record, trait]
    model = MixedModel(response, stacked.reshape(record.size, -1), record, trait, tuple(effects), t)
    _require_variation(model)
    return AnimalDesign(model, used, node, smaller, members, levels, n_founders)


def _require_shapes(
    traits: Floats,
    fixed: Floats,
    fixed_names: Sequence[str],
    related: Relatedness | None,
    node: Ints,
    groups: Mapping[str, Ints],
) -> None:
    n = traits.shape[0]
    if fixed.ndim != 2 or fixed.shape != (n, len(fixed_names)) or not fixed_names:
        raise ValueError(
            f"fixed: {n} rows and a column for each of {len(fixed_names)} names expected "
            f"(at least an intercept), {fixed.shape} given"
        )
    for name, values in ((ANIMAL, node), *groups.items()):
        if values.shape != (n,):
            raise ValueError(f"{name}: {n} values expected, one per record; {values.size} given")
    if related is not None and node.size and node.max() >= related.variance.size:
        raise ValueError(f"the pedigree has no model of number {node.max()}")
    taken = {ANIMAL, RESIDUAL} & set(groups)
    if taken:
        raise ValueError(f"{taken.pop()} names an effect of every model: call the group otherwise")


def _require_independent(fixed: Floats, names: Sequence[str]) -> None:
    """Refuse a column that the columns before it can express, and name both sides."""
    for j in range(len(names)):
        column, before = fixed[:, j], fixed[:, :j]
        weights = np.linalg.lstsq(before, column, rcond=None)[0] if j else np.empty(0)
        rest = column - before @ weights
        if np.linalg.norm(rest) > _ROUNDING * np.linalg.norm(column):
            continue
        alike = [names[k] for k in range(j) if abs(weights[k]) > _ROUNDING]
        if alike:
            raise ValueError(f"fixed effect {names[j]} is collinear with {', '.join(alike)}")
        raise ValueError(f"fixed effect {names[j]} is zero throughout")


def _require_variation(model: MixedModel) -> None:
    for trait in range(model.n_traits):
        here = model.trait == trait
        y = model.response[here]
        which = f"trait {trait + 1}" if model.n_traits > 1 else "the trait"
        if np.ptp(y) <= _ROUNDING * np.abs(y).max():
            raise ValueError(f"{which} does not vary")
        x = model.fixed[here]
        rest = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
        if np.linalg.norm(rest) <= _ROUNDING * np.linalg.norm(y - y.mean()):
            raise ValueError(f"the fixed effects leave no variation of {which}")

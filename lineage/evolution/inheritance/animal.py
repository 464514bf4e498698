"""The animal model: how much of a trait's variance runs in the pedigree.

``y = Xb + Za + Σ_j Z_j u_j + e`` with breeding values ``a ~ N(0, Aσ²_A)`` of every model and its
ancestors (Henderson 1976), further groups of records ``u_j ~ N(0, Iσ²_j)`` (author, architecture,
the model itself when it is measured repeatedly), and residuals. Unlike a parent–offspring
regression it uses all relatives, corrects for fixed effects and common environment, and is unbiased
by selection on what it contains (Kruuk 2004, Phil Trans R Soc B 359:873; Wilson et al. 2010, J Anim
Ecol 79:13).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lineage.evolution.inheritance.animal_design import (
    ANIMAL,
    RESIDUAL,
    AnimalDesign,
    animal_design,
)
from lineage.evolution.inheritance.animal_fit import AnimalModelFit, LikelihoodRatio
from lineage.evolution.inheritance.mixed_solution import Solution
from lineage.evolution.inheritance.relatedness import Relatedness
from lineage.evolution.inheritance.sparse_reml import VarianceFit, fit_variances
from lineage.evolution.inheritance.spectral_reml import Spectrum, spectrum

__all__ = [
    "ANIMAL",
    "RESIDUAL",
    "SPECTRAL_RECORDS",
    "AnimalModelFit",
    "LikelihoodRatio",
    "fit_animal_model",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

SPECTRAL_RECORDS = 1_500
"""Up to so many records, with breeding values alone, the whole range of h² is looked at."""


def fit_animal_model(
    trait: Floats,
    fixed: Floats,
    fixed_names: Sequence[str],
    related: Relatedness | None,
    node: Ints,
    groups: Mapping[str, Ints] | None = None,
    *,
    variances: Mapping[str, float] | None = None,
    level: float = 0.95,
) -> AnimalModelFit:
    """Fit an animal model by restricted maximum likelihood.

    Breeding values alone with up to :data:`SPECTRAL_RECORDS` records are searched over the whole
    range of h² in a spectral decomposition, so that of several maxima the highest is found. All
    else climbs from the best of a few starts by average information on the sparse mixed-model
    equations; nothing there is as large as records squared.

    Parameters
    ----------
    trait : (n_records,)
        NaN is missing: the record is left out, its model is still predicted.
    fixed : (n_records, p)
        Design of the fixed effects, an intercept among them; a record with a NaN is left out.
    fixed_names : (p,)
        Names of its columns.
    related
        The pedigree's relatedness; None leaves breeding values out.
    node : (n_records,)
        Model of each record as a node of the pedigree, several records of one model allowed; −1 if
        unknown (left out).
    groups
        Further random effects by name: a label for each record, −1 if unknown (left out). Repeated
        records of a model need the model itself here (its *permanent environment*), or all that
        repeats is taken for heritable.
    variances
        All components, when they are known: nothing is then estimated but b and u.
    level
        Coverage of intervals.

    Returns
    -------
    AnimalModelFit
        A variance whose likelihood is highest at zero is 0 and marked `at_boundary`; whatever has
        no standard error there is NaN.

    Raises
    ------
    ValueError
        If shapes do not fit, too few records remain, the trait does not vary, fixed effects are
        collinear (they are named), all records go back to one founder, a group has one level or one
        record per level, the records cannot tell components apart, or `variances` are not positive
        ones of all components.

    Examples
    --------
    Four founders with two fine-tunes each, the trait of every fine-tune measured:

    >>> import numpy as np
    >>> from lineage.evolution.inheritance.relatedness import relatedness
    >>> from lineage.graph import LineageGraph
    >>> founders = [f"f{i}" for i in range(4)]
    >>> tuned = [f"t{i}" for i in range(8)]
    >>> edges = [(t, founders[i // 2], 1.0, 0) for i, t in enumerate(tuned)]
    >>> graph = LineageGraph.from_edges(founders + tuned, edges)
    >>> related = relatedness(graph, np.repeat([1.0, 0.1], [4, 8]))
    >>> trait = np.array([1.0, 2.2, 3.9, 2.4, 5.5, 4.2, 2.2, 3.1])
    >>> fit = fit_animal_model(trait, np.ones((8, 1)), ["mean"], related, np.arange(4, 12))
    >>> fit.effects, fit.variance.round(3).tolist()
    (('animal', 'residual'), [1.45, 0.629])
    >>> found = fit.heritability_profile()
    >>> round(found.value, 3), round(found.low, 3), round(found.high, 3), found.n_clusters
    (0.698, 0.0, 1.0, 4)
    """
    design = animal_design(trait[:, None], fixed, fixed_names, related, node, groups or {})
    effects = (*(effect.name for effect in design.model.effects), RESIDUAL)
    decomposed = _decomposed(design)
    if variances is None:
        initial = None
        if decomposed is not None:
            initial = np.array(decomposed.variances(decomposed.peak()))
        fit = fit_variances(design.model, initial)
    else:
        fit = _given(design, effects, variances)
    return AnimalModelFit(
        effects,
        fit.variance,
        fit.covariance,
        fit.at_boundary,
        tuple(fixed_names),
        fit.solution.fixed,
        fit.solution.fixed_covariance,
        fit.solution.log_likelihood,
        int(design.used.sum()),
        int((~design.used).sum()),
        design.n_founders,
        fit.converged,
        level,
        design,
        fit.solution,
        decomposed,
        related,
    )


def _decomposed(design: AnimalDesign) -> Spectrum | None:
    model, related = design.model, design.related
    alone = related is not None and len(model.effects) == 1
    if related is None or not alone or model.response.size > SPECTRAL_RECORDS:
        return None
    place = np.searchsorted(design.members, design.node)
    return spectrum(model.response, model.fixed, related.matrix(place))


def _given(
    design: AnimalDesign, effects: Sequence[str], variances: Mapping[str, float]
) -> VarianceFit:
    values = np.array([variances.get(effect, np.nan) for effect in effects])
    if set(variances) != set(effects) or not (values > 0).all():
        raise ValueError(f"variances: a positive one is needed for each of {', '.join(effects)}")
    k = values.size
    nothing = np.zeros(k, dtype=bool)
    return VarianceFit(
        Solution(design.model, values), values, np.full((k, k), np.nan), nothing, True
    )

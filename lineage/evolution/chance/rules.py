"""Rules by which a simulated Hub grows: its kinds of birth, its traits and its categories.

The merit of a model in the law of attention (:mod:`lineage.evolution.chance.attachment`) is

    v = b · exp(Σ βx + ½γx²)

b depends on the kind of model, x is the phenotype, β and γ are gradients of *linear and quadratic
selection*, and v = 1 is neutrality.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from lineage.evolution.chance.attachment import Attachment
from lineage.model import Kind

__all__ = [
    "FINETUNE",
    "FOUNDER",
    "KINDS",
    "MERGE",
    "QUANTISED",
    "CategoryRules",
    "HubRules",
    "TraitRules",
]

KINDS = (Kind.FOUNDER, Kind.FINETUNE, Kind.QUANTIZED, Kind.MERGE)
FOUNDER, FINETUNE, QUANTISED, MERGE = range(len(KINDS))
"""Places in `KINDS`."""


@dataclass(frozen=True, slots=True)
class TraitRules:
    """A measured trait, in standard deviations of the founders.

    Attributes
    ----------
    heritability, author_share
        Shares of the founders' variance that are additive (V_A) and their authors'; the rest is
        drawn anew for every model.
    finetune_variance, merge_variance
        Variance d of the change at a birth, in units of V_A; quantised copies have none.
    trend_per_month
        Added to everything born a month later; selection does not see it.
    linear, quadratic
        Gradients β and γ of log attention.
    measured_share, measured_slope
        Share of average models that are measured, and the change of its log odds with the trait.
    """

    heritability: float = 0.5
    author_share: float = 0.0
    finetune_variance: float = 0.2
    merge_variance: float = 0.0
    trend_per_month: float = 0.0
    linear: float = 0.0
    quadratic: float = 0.0
    measured_share: float = 1.0
    measured_slope: float = 0.0

    def __post_init__(self) -> None:
        _require_shares(self.heritability, self.author_share)
        if min(self.finetune_variance, self.merge_variance) < 0:
            raise ValueError("variances must not be negative")
        if not 0 < self.measured_share <= 1:
            raise ValueError(f"the measured share must be in (0, 1]: {self.measured_share}")


@dataclass(frozen=True, slots=True)
class CategoryRules:
    """A category that is copied from the primary parent and that attention does not see.

    `mutation` is the chance of change at a birth, to one of the other `n_states`; with None, to a
    state never seen before (infinite alleles), as every founder then has its own.
    """

    mutation: float
    n_states: int | None = None

    def __post_init__(self) -> None:
        _require_shares(self.mutation)
        if self.n_states is not None and self.n_states < 2:
            raise ValueError(f"a category needs at least 2 states: {self.n_states}")


@dataclass(frozen=True, slots=True)
class HubRules:
    """How a Hub grows.

    Attributes
    ----------
    n_models, span_days, growth_per_day
        Births and their days: independent on [0, span], with a density growing as exp(g·t).
    founder_share, quantised_share, merge_share
        Kinds of birth; the rest are fine-tunes.
    extra_parents, weight_concentration
        A merge has 2 + Poisson(extra) parents, at most 8, with shares from a symmetric Dirichlet
        distribution, the largest to the one that was chosen first.
    attachment, kind_weight
        Law of attention, and its factor b for each of `KINDS` (in [0, 1], founders not 0).
    new_author_share, author_loyalty
        Chance of a model's author being new, else that of a random earlier model; and the chance
        that both are set aside for the author of the primary parent.
    """

    n_models: int
    span_days: float = 1000.0
    growth_per_day: float = 0.0
    founder_share: float = 0.1
    quantised_share: float = 0.0
    merge_share: float = 0.0
    extra_parents: float = 0.5
    weight_concentration: float = 2.0
    attachment: Attachment = field(default_factory=Attachment)
    kind_weight: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    traits: tuple[TraitRules, ...] = ()
    categories: tuple[CategoryRules, ...] = ()
    new_author_share: float = 0.3
    author_loyalty: float = 0.0

    def __post_init__(self) -> None:
        if self.n_models < 1 or not 0 < self.span_days < math.inf:
            raise ValueError("at least one model and a positive, finite span are needed")
        _require_shares(self.founder_share, self.quantised_share, self.merge_share)
        _require_shares(self.new_author_share)
        _require_shares(self.author_loyalty)
        if self.extra_parents < 0 or not self.weight_concentration > 0:
            raise ValueError("extra parents must not be negative, the concentration positive")
        if not all(0 <= b <= 1 for b in self.kind_weight) or self.kind_weight[FOUNDER] == 0:
            raise ValueError("kind weights lie between 0 and 1, that of founders above 0")


def _require_shares(*shares: float) -> None:
    if min(shares) < 0 or sum(shares) > 1:
        raise ValueError(f"shares must not be negative nor exceed 1 together: {shares}")

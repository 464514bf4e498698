"""A simulated Hub: models born one after another that choose, mix and change their parents.

Attention. At time t, model k with children j draws a newborn's choice in proportion to

    λ_k(t) = v_k · [ ε + 2^{−(t − t_k)/h} + α Σ_j 2^{−(t − t_j)/h} ],   v_k = b · exp(Σ βx + ½γx²)

a newborn model counts 1 and each child α, both fading with half-life h, and ε never fades. With
h = ∞ this is cumulative advantage (Price 1976, J Am Soc Inf Sci 27:292), with α = 0 the copying of
a random recent model. b depends on the kind of model, x is the phenotype, β and γ are gradients of
*linear and quadratic selection*, and v = 1 is neutrality.

Inheritance. ``a_i = Σ_k w_ik a_k + m_i`` with Var(m) = d·V_A by kind of birth, as in Henderson's
generalised pedigree (see the relationship matrices); founders have V_A = h². Phenotype
``z = a + author effect + trend + e``, in standard deviations of the founders.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lineage.evolution.traits import Population
from lineage.graph import LineageGraph
from lineage.model import Kind

__all__ = [
    "KINDS",
    "MAX_HALVINGS",
    "Attachment",
    "CategoryRules",
    "HubRules",
    "SimulatedHub",
    "TraitRules",
    "copy_parents",
    "simulate_hub",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
OnBorn = Callable[[Ints, Ints], Floats]

KINDS = (Kind.FOUNDER, Kind.FINETUNE, Kind.QUANTIZED, Kind.MERGE)
_FOUNDER, _FINETUNE, _QUANTISED, _MERGE = range(len(KINDS))

_MONTH_DAYS = 30.436875
_LOG_CEILING = 4.0  # selection saturates at ±4, a factor of 55 either way
MAX_HALVINGS = 800.0
"""Half-lives between first and last birth; beyond, old attention leaves the range of a float."""

_MODELS_PER_PARENT = 10  # a merge of K needs 10 (K − 1) models to choose from
_MAX_PARENTS = 8
_MAX_WAVES = 20_000


@dataclass(frozen=True, slots=True)
class Attachment:
    """What draws attention to a model, relative to the 1 of its own birth.

    Attributes
    ----------
    strength
        α, the attention that each child adds; 0 is no preferential attachment.
    half_life_days
        h, over which births and children fade; ∞ is no ageing.
    spontaneous
        ε, attention that never fades.
    """

    strength: float = 1.0
    half_life_days: float = math.inf
    spontaneous: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.strength < math.inf and 0 <= self.spontaneous < math.inf):
            raise ValueError(f"strength and spontaneous attention must not be negative: {self}")
        if not self.half_life_days > 0:
            raise ValueError(f"the half-life must be positive: {self.half_life_days}")

    @property
    def decay_per_day(self) -> float:
        """Rate δ = ln 2 / h of the fading."""
        return math.log(2) / self.half_life_days


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
        if not all(0 <= b <= 1 for b in self.kind_weight) or self.kind_weight[_FOUNDER] == 0:
            raise ValueError("kind weights lie between 0 and 1, that of founders above 0")


@dataclass(frozen=True, eq=False)
class SimulatedHub:
    """A simulated Hub; n models in order of birth, T traits, C categories.

    Attributes
    ----------
    born_day : (n,)
        Birth in days.
    until_day
        Last day that was watched.
    kind : (n,)
        Index into `KINDS`.
    author : (n,)
        Label of the author.
    parent_start, parent_index, parent_weight
        The pedigree as in :class:`lineage.graph.LineageGraph`; shares of a child sum to 1.
    additive, phenotype, measured : (T, n)
        Additive values a, phenotypes z, and z where it was measured (else NaN).
    category : (C, n)
        States of the categories.
    log_attention : (n,)
        Log of v, what selection made of the traits and kind; −∞ where nobody would choose it.
    """

    born_day: Floats
    until_day: float
    kind: Ints
    author: Ints
    parent_start: Ints
    parent_index: Ints
    parent_weight: Floats
    additive: Floats
    phenotype: Floats
    measured: Floats
    category: Ints
    log_attention: Floats

    def __len__(self) -> int:
        """Number of models."""
        return self.born_day.size

    def graph(self) -> LineageGraph:
        """The pedigree; ids ``m0``, ``m1``, … in order of birth."""
        width = len(str(len(self) - 1))
        ids = tuple(f"m{i:0{width}d}" for i in range(len(self)))
        return LineageGraph(ids, self.parent_start, self.parent_index, self.parent_weight)

    def population(self) -> Population:
        """Pedigree, births and measured traits ``trait_0``, ``trait_1``, …."""
        traits = {f"trait_{j}": values for j, values in enumerate(self.measured)}
        return Population(self.graph(), self.born_day, traits)

    def seen_until(self, day: float) -> SimulatedHub:
        """What somebody saw who looked on `day`: the models born by then."""
        n = int(np.searchsorted(self.born_day, day, side="right"))
        start = self.parent_start[: n + 1]
        return SimulatedHub(
            self.born_day[:n], day, self.kind[:n], self.author[:n], start,
            self.parent_index[: start[-1]], self.parent_weight[: start[-1]],
            self.additive[:, :n], self.phenotype[:, :n], self.measured[:, :n],
            self.category[:, :n], self.log_attention[:n],
        )  # fmt: skip


def simulate_hub(
    rules: HubRules, rng: np.random.Generator, *, born_day: Floats | None = None
) -> SimulatedHub:
    """Let a Hub grow; the same rules and generator give the same Hub.

    Parameters
    ----------
    rules
        How it grows.
    rng
        Source of everything that is random.
    born_day : (n,)
        Observed births, ascending, instead of the rules' number, span and growth.

    Raises
    ------
    ValueError
        If the births are not finite and ascending, or there are none; or as
        :func:`copy_parents` raises.

    Examples
    --------
    >>> import numpy as np
    >>> rules = HubRules(1000, merge_share=0.1, traits=(TraitRules(linear=0.3),))
    >>> hub = simulate_hub(rules, np.random.default_rng(1))
    >>> len(hub), int(hub.kind[0]), bool((hub.parent_index < hub.graph().edge_child).all())
    (1000, 0, True)
    """
    if born_day is None:
        born_day, until_day = _arrivals(rules, rng), rules.span_days
    else:
        _require_births(born_day)
        until_day = float(born_day[-1])
    n = born_day.size
    kind = _kinds(rules, n, rng)
    n_parents = np.where(kind == _FOUNDER, 0, 1)
    merges = np.flatnonzero(kind == _MERGE)
    wanted = 2 + rng.poisson(rules.extra_parents, merges.size)
    n_parents[merges] = np.minimum(
        wanted, np.minimum(1 + merges // _MODELS_PER_PARENT, _MAX_PARENTS)
    )
    kind[merges[n_parents[merges] == 1]] = _FINETUNE
    start = np.concatenate(([0], np.cumsum(n_parents)))
    share = _shares(n_parents, rules.weight_concentration, rng)
    brood = _Brood(rules, born_day, kind, start, share, rng)
    parent = copy_parents(
        born_day, n_parents, rules.attachment, rng, on_born=brood.settle, ceiling=brood.ceiling
    )
    primary = np.full(n, -1)
    primary[n_parents > 0] = parent[start[:-1][n_parents > 0]]
    states = [_categories(law, primary, rng) for law in rules.categories]
    category = np.array(states, dtype=np.int64).reshape(len(states), n)
    return SimulatedHub(
        born_day, until_day, kind, brood.author, start, parent, share,
        brood.additive, brood.phenotype, brood.measured(rng), category, brood.log_attention,
    )  # fmt: skip


def copy_parents(
    born_day: Floats,
    n_parents: Ints,
    attachment: Attachment,
    rng: np.random.Generator,
    *,
    on_born: OnBorn | None = None,
    ceiling: float | None = None,
    n_copies: int = 1,
) -> Ints:
    """Parents of every model, drawn one birth after another by the law of attention; exact.

    The law is that of an urn: a birth puts in a token of the newborn model and one (of size α) of
    each of its parents. All sizes fade alike, so their sums are known before anything is drawn,
    and choosing a parent means to pick an earlier token: the n picks are independent of one
    another, and only *whose* token it was waits for the earlier birth to be settled. Where v
    differs between models, births are taken in blocks: tokens from before the block have their
    known sizes, those from within it (whose v is not known yet) are offered at `ceiling` times
    their size and accepted with chance v / ceiling.

    Parameters
    ----------
    born_day : (n,)
        Births, ascending; of two at the same time the second can copy the first.
    n_parents : (n,)
        Parents of each model, distinct, drawn one after another without replacement.
    attachment
        The law of attention.
    rng
        Source of the draws.
    on_born
        Called with models whose parents are settled (every one once, after its parents) and all
        parents so far; returns their v, which counts only if there is a `ceiling`.
    ceiling
        Upper bound of v; None if attention is neutral, v = 1.
    n_copies
        Independent repetitions, which together take less time than one after another; without
        `on_born` only.

    Returns
    -------
    (n_copies · n_edges,)
        Parents in compressed rows, in order of choice, one repetition after another.

    Raises
    ------
    ValueError
        If births are not finite and ascending or span too many half-lives, a model has more
        parents than there are models before it, a merge cannot find distinct parents because
        attention is all on too few models, or several copies are asked for with `on_born`.
    """
    _require_births(born_day)
    if (n_parents < 0).any() or (n_parents > np.arange(n_parents.size)).any():
        raise ValueError("a model cannot have more parents than there are models before it")
    halvings = (born_day[-1] - born_day[0]) / attachment.half_life_days
    if halvings > MAX_HALVINGS:
        raise ValueError(f"{halvings:.0f} half-lives are too many: at most {MAX_HALVINGS:.0f}")
    if n_copies < 1 or (n_copies > 1 and on_born is not None):
        raise ValueError(f"one copy, or several without on_born: {n_copies}")
    urn = _Urn(born_day, n_parents, attachment, rng, on_born, ceiling, n_copies)
    first = 0
    while first < urn.settled.size:
        last = urn.block_end(first)
        urn.settle(first, last)
        first = last
    return urn.parent % born_day.size


class _Urn:
    """Tokens in order of birth: of each model itself, then of its parents.

    Copies follow one another, models and tokens numbered through; sizes are kept for one copy.
    """

    def __init__(
        self,
        born_day: Floats,
        n_parents: Ints,
        attachment: Attachment,
        rng: np.random.Generator,
        on_born: OnBorn | None,
        ceiling: float | None,
        n_copies: int,
    ) -> None:
        self.n_models = born_day.size
        n_parents = np.tile(n_parents, n_copies)
        n = n_parents.size
        self.rng, self.on_born = rng, on_born
        self.weighted, self.ceiling = ceiling is not None, 1.0 if ceiling is None else ceiling
        self.start = np.concatenate(([0], np.cumsum(n_parents)))
        self.birth_of = np.repeat(np.arange(n), n_parents)
        self.own = self.start + np.arange(n + 1)  # token of the model itself; last: their number
        self.token_birth = np.repeat(np.arange(n), n_parents + 1)
        # Sizes on the last day's scale: fading multiplies all of them alike.
        fresh = np.exp(attachment.decay_per_day * (born_day - born_day[-1]))
        self.lasting = attachment.spontaneous * fresh
        self.n_tokens = int(self.own[self.n_models])
        self.size = attachment.strength * fresh[self.token_birth[: self.n_tokens]]
        self.size[self.own[: self.n_models]] = fresh
        self.offered = np.concatenate(([0.0], np.cumsum(self.size)))  # were v = 1 for all
        self.token = np.full(self.birth_of.size, -1)
        self.parent = np.full(self.birth_of.size, -1)
        self.waiting = n_parents.copy()
        self.settled = np.zeros(n, dtype=bool)
        self.v = np.ones(n)
        self.known = np.zeros(self.offered.size if self.weighted else 1)
        self.known_v = np.zeros(n + 1 if self.weighted else 1)
        self.block = (0, 0)

    def block_end(self, first: int) -> int:
        """End of a block whose tokens, offered at the ceiling, weigh no more than all before."""
        n = self.settled.size
        if not self.weighted:
            return n
        limit = self.offered[self.own[first]] * (1 + 1 / self.ceiling)
        return max(first + 1, int(np.searchsorted(self.offered[self.own], limit)) - 1)

    def settle(self, first: int, last: int) -> None:
        """Give the models from `first` up to `last` their parents."""
        self.block = (first, last)
        births = np.arange(first, last)
        self._born(births[self.waiting[first:last] == 0])
        waiting = np.arange(self.start[first], self.start[last])
        for _ in range(_MAX_WAVES):
            if not waiting.size:
                break
            drawing = waiting[self.parent[waiting] < 0]
            unpicked = drawing[self.token[drawing] < 0]
            self.token[unpicked] = self._pick(self.birth_of[unpicked])
            self._resolve(drawing)
            # A merge waits as a whole: any of its parents may have to be drawn again.
            waiting = waiting[~self.settled[self.birth_of[waiting]]]
        else:
            raise ValueError(
                "a merge finds no distinct parents: attention is all on too few models "
                "(some spontaneous attention or a longer half-life is needed)"
            )
        if self.weighted:
            own, end = self.own[first], self.own[last]
            token = np.arange(own, end)
            size = self.size[own:end] * self.v[self._bearer(token)]
            self.known[own + 1 : end + 1] = self.known[own] + np.cumsum(size)
            self.known_v[first + 1 : last + 1] = self.known_v[first] + np.cumsum(self.v[first:last])

    def _pick(self, birth: Ints) -> Ints:
        """An earlier token of the same copy for each birth, in proportion to its size."""
        copy, birth = np.divmod(birth, self.n_models)
        first = self.block[0]
        own, lasting = self.own[first], self.lasting[birth]
        bounds = np.cumsum(
            [
                np.broadcast_to(self.known[own] if self.weighted else 0.0, birth.shape),
                lasting * (self.known_v[first] if self.weighted else 0.0),
                self.ceiling * (self.offered[self.own[birth]] - self.offered[own]),
                self.ceiling * lasting * (birth - first),
            ],
            axis=0,
        )
        at = self.rng.random(birth.size) * bounds[-1]
        part = (at >= bounds[:-1]).sum(axis=0)
        token = np.empty(birth.size, dtype=np.int64)
        picked = part == 0
        if picked.any():
            token[picked] = np.searchsorted(self.known[1 : own + 1], at[picked], side="right")
            token[picked] = np.minimum(token[picked], own - 1)
        picked = part == 1
        if picked.any():
            rest = (at - bounds[0])[picked] / lasting[picked]
            model = np.searchsorted(self.known_v[1 : first + 1], rest, side="right")
            token[picked] = self.own[np.minimum(model, first - 1)]
        picked = part == 2
        if picked.any():
            rest = (at - bounds[1])[picked] / self.ceiling + self.offered[own]
            found = np.searchsorted(self.offered[1:], rest, side="right")
            token[picked] = np.clip(found, own, self.own[birth[picked]] - 1)
        picked = part == 3
        if picked.any():
            rest = (at - bounds[2])[picked] / (self.ceiling * lasting[picked])
            model = first + rest.astype(np.int64)
            token[picked] = self.own[np.minimum(model, birth[picked] - 1)]
        return np.asarray(token + copy * self.n_tokens)

    def _bearer(self, token: Ints) -> Ints:
        """The model that a token of a settled birth is of."""
        birth = self.token_birth[token]
        bearer = birth.copy()
        child = token != self.own[birth]
        bearer[child] = self.parent[(token - birth - 1)[child]]
        return bearer

    def _resolve(self, drawing: Ints) -> None:
        """Settle the draws whose token's birth is settled, and births that have all parents."""
        ready = drawing[self.settled[self.token_birth[self.token[drawing]]]]
        token = self.token[ready]
        bearer = self._bearer(token)
        if self.weighted:
            within = self.token_birth[token] >= self.block[0]
            chance = np.where(within, self.v[bearer] / self.ceiling, 1.0)
            accepted = self.rng.random(ready.size) < chance
            self.token[ready[~accepted]] = -1
            ready, bearer = ready[accepted], bearer[accepted]
        self.parent[ready] = bearer
        birth = self.birth_of[ready]
        np.subtract.at(self.waiting, birth, 1)
        complete = _distinct(birth[self.waiting[birth] == 0])
        doubled = self._doubled(complete[self.start[complete + 1] - self.start[complete] > 1])
        if doubled.size:
            self.token[doubled] = self.parent[doubled] = -1
            np.add.at(self.waiting, self.birth_of[doubled], 1)
            complete = complete[self.waiting[complete] == 0]
        self._born(complete)

    def _doubled(self, merges: Ints) -> Ints:
        """Draws of these models that repeat a parent drawn before."""
        draw = _rows(merges, self.start)
        birth, parent = self.birth_of[draw], self.parent[draw]
        order = np.lexsort((draw, parent, birth))
        birth, parent, draw = birth[order], parent[order], draw[order]
        again = (birth[1:] == birth[:-1]) & (parent[1:] == parent[:-1])
        return np.asarray(draw[1:][again])

    def _born(self, births: Ints) -> None:
        self.settled[births] = True
        if self.on_born is not None and births.size:
            v = self.on_born(births, self.parent)
            if self.weighted:
                self.v[births] = v


class _Brood:
    """Authors and traits of models as they are born."""

    def __init__(
        self,
        rules: HubRules,
        born_day: Floats,
        kind: Ints,
        start: Ints,
        share: Floats,
        rng: np.random.Generator,
    ) -> None:
        n, n_traits = born_day.size, len(rules.traits)
        self.rules, self.kind, self.start, self.share = rules, kind, start, share
        self.author = _authors(n, rules.new_author_share, rng)
        self.loyal = rng.random(n) < rules.author_loyalty
        self.author_effect = rng.standard_normal((n_traits, self.author.max() + 1))
        # The two parts of a trait begin as what is drawn for each model alone.
        self.additive = rng.standard_normal((n_traits, n))
        self.phenotype = rng.standard_normal((n_traits, n))
        self.deviation = np.empty((n_traits, n))  # of the phenotype from its trend
        self.trend = (born_day - born_day[0]) / _MONTH_DAYS
        self.log_attention = np.zeros(n)
        for j, law in enumerate(rules.traits):
            variance = np.array([1.0, law.finetune_variance, 0.0, law.merge_variance])
            self.additive[j] *= np.sqrt(law.heritability * variance)[kind]
            self.phenotype[j] *= math.sqrt(max(0.0, 1 - law.heritability - law.author_share))
            self.author_effect[j] *= math.sqrt(law.author_share)
        selected = any(law.linear or law.quadratic for law in rules.traits)
        neutral = not selected and set(rules.kind_weight) == {1.0}
        self.ceiling = None if neutral else math.exp(_LOG_CEILING if selected else 0.0)

    def settle(self, births: Ints, parent: Ints) -> Floats:
        """Authors and traits of `births`, whose parents are known; returns their v."""
        first = self.start[births]
        length = self.start[births + 1] - first
        loyal = self.loyal[births] & (length > 0)
        self.author[births[loyal]] = self.author[parent[first[loyal]]]
        draw = _rows(births, self.start)
        row = np.repeat(np.arange(births.size), length)
        total = np.zeros(births.size)
        for j, law in enumerate(self.rules.traits):
            inherited = self.share[draw] * self.additive[j, parent[draw]]
            self.additive[j, births] += np.bincount(row, inherited, births.size)
            x = self.additive[j, births] + self.phenotype[j, births]
            x += self.author_effect[j, self.author[births]]
            self.deviation[j, births] = x
            self.phenotype[j, births] = x + law.trend_per_month * self.trend[births]
            total += law.linear * x + law.quadratic / 2 * x * x
        weight = np.asarray(self.rules.kind_weight)[self.kind[births]]
        v = weight * np.exp(np.clip(total, -_LOG_CEILING, _LOG_CEILING))
        log_v = np.full(births.size, -np.inf)
        self.log_attention[births] = np.log(v, out=log_v, where=v > 0)
        return np.asarray(v)

    def measured(self, rng: np.random.Generator) -> Floats:
        """Phenotypes, NaN where nobody measured."""
        values = self.phenotype.copy()
        for j, law in enumerate(self.rules.traits):
            if law.measured_share < 1:
                log_odds = math.log(law.measured_share / (1 - law.measured_share))
                chance = 1 / (1 + np.exp(-log_odds - law.measured_slope * self.deviation[j]))
                values[j, rng.random(chance.size) >= chance] = np.nan
        return values


def _arrivals(rules: HubRules, rng: np.random.Generator) -> Floats:
    u = np.sort(rng.random(rules.n_models))
    growth = rules.growth_per_day * rules.span_days
    if abs(growth) < 1e-9:
        return np.asarray(u * rules.span_days)
    return np.asarray(np.log1p(u * np.expm1(growth)) / growth * rules.span_days)


def _kinds(rules: HubRules, n: int, rng: np.random.Generator) -> Ints:
    bounds = np.cumsum([rules.founder_share, rules.quantised_share, rules.merge_share])
    part = np.searchsorted(bounds, rng.random(n), side="right")
    kind = np.array([_FOUNDER, _QUANTISED, _MERGE, _FINETUNE])[part]
    kind[0] = _FOUNDER
    return np.asarray(kind, dtype=np.int64)


def _shares(n_parents: Ints, concentration: float, rng: np.random.Generator) -> Floats:
    """Dirichlet shares in compressed rows, largest first within each model."""
    model = np.repeat(np.arange(n_parents.size), n_parents)
    amount = np.ones(model.size)
    merged = n_parents[model] > 1
    amount[merged] = np.maximum(rng.standard_gamma(concentration, int(merged.sum())), 1e-9)
    amount = amount[np.lexsort((-amount, model))]
    return np.asarray(amount / np.bincount(model, amount)[model] if model.size else amount)


def _authors(n: int, new_share: float, rng: np.random.Generator) -> Ints:
    """Labels of authors: a new one, or that of a random earlier model."""
    place = np.arange(n)
    source = np.where(rng.random(n) < new_share, place, (rng.random(n) * place).astype(np.int64))
    return np.unique(_root(source), return_inverse=True)[1]


def _categories(law: CategoryRules, primary: Ints, rng: np.random.Generator) -> Ints:
    n = primary.size
    founder = primary < 0
    mutant = rng.random(n) < law.mutation
    place = np.arange(n)
    if law.n_states is None:
        return _root(np.asarray(np.where(founder | mutant, place, primary)))
    step = np.where(mutant, rng.integers(1, law.n_states, n), 0)
    step[founder] = rng.integers(0, law.n_states, int(founder.sum()))
    # Add up the steps to the founder, doubling the distance covered; founders' own count once.
    above = np.where(founder, place, primary)
    total = np.where(founder, 0, step)
    while True:
        further = above[above]
        if np.array_equal(further, above):
            return np.asarray((total + step[above]) % law.n_states)
        total = total + total[above]
        above = further


def _root(source: Ints) -> Ints:
    """Where following `source` ends; its fixed points end it."""
    while True:
        further = source[source]
        if np.array_equal(further, source):
            return source
        source = further


def _rows(models: Ints, start: Ints) -> Ints:
    """Places of the draws of `models` in compressed rows."""
    length = start[models + 1] - start[models]
    end = np.cumsum(length)
    return np.asarray(np.arange(length.sum()) + np.repeat(start[models] - (end - length), length))


def _distinct(ascending: Ints) -> Ints:
    return np.asarray(ascending[np.diff(ascending, prepend=-1) > 0])


def _require_births(born_day: Floats) -> None:
    if not born_day.size or not np.isfinite(born_day).all() or (np.diff(born_day) < 0).any():
        raise ValueError("births must be finite and ascending, and at least one")


def _require_shares(*shares: float) -> None:
    if min(shares) < 0 or sum(shares) > 1:
        raise ValueError(f"shares must not be negative nor exceed 1 together: {shares}")

"""The law of attention: how earlier models are chosen as parents, and exact draws from it.

At time t, model k with children j draws a newborn's choice in proportion to

    λ_k(t) = v_k · [ ε + 2^{−(t − t_k)/h} + α Σ_j 2^{−(t − t_j)/h} ]

a newborn model counts 1 and each child α, both fading with half-life h, and ε never fades. With
h = ∞ this is cumulative advantage (Price 1976, J Am Soc Inf Sci 27:292), with α = 0 the copying of
a random recent model. v is the merit of a model, and v = 1 is neutrality.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_HALVINGS", "Attachment", "OnBorn", "copy_parents", "draws_of", "require_births"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
OnBorn = Callable[[Ints, Ints], Floats]

MAX_HALVINGS = 800.0
"""Half-lives between first and last birth; beyond, old attention leaves the range of a float."""

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
    require_births(born_day)
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
        draw = draws_of(merges, self.start)
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


def draws_of(models: Ints, start: Ints) -> Ints:
    """Places of the draws of `models` in compressed rows."""
    length = start[models + 1] - start[models]
    end = np.cumsum(length)
    return np.asarray(np.arange(length.sum()) + np.repeat(start[models] - (end - length), length))


def _distinct(ascending: Ints) -> Ints:
    return np.asarray(ascending[np.diff(ascending, prepend=-1) > 0])


def require_births(born_day: Floats) -> None:
    """Raise unless births are finite and ascending, and there are any."""
    if not born_day.size or not np.isfinite(born_day).all() or (np.diff(born_day) < 0).any():
        raise ValueError("births must be finite and ascending, and at least one")

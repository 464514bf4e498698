"""Merges that are weighted sums: by a recipe that replays, or by free coefficients alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

import numpy as np
import yaml

from lineage.infer.geometry import Pool
from lineage.infer.merges import Mixture, fit_mixture, screen_merge
from lineage.infer.methods.weighted import replay_weighted_changes, replay_weighted_mean
from lineage.infer.replay import Replay, replay_linear, replay_task_arithmetic
from lineage.infer.replay_sphere import SPHERICAL
from lineage.infer.settle.family import OpenFamily, birth
from lineage.infer.settle.merged import (
    MOST_OF_ONE,
    PROVED_REPLAY,
    by_recipe,
    shares_of_sum,
    without_merges,
)  # fmt: skip
from lineage.model import Evidence, Finding, Grade, Kind

__all__ = ["spanned", "weighted_sum", "weighted_sum_of_plain"]

_TRIED_BASES = 3
_MOST_SEARCHED = 3
"""Parents up to which a grid of round weights is searched."""
_AS_GOOD = 0.001
"""Share of the words by which equivalent recipes may differ."""
_MOST_EQUIVALENT = 5
_FITTED_DECIMALS = 4
"""By how many decimals more than another a recipe tells numbers that nobody wrote."""
_NEARLY_A_SUM = 0.8
"""Match of free coefficients below which merges on the sphere are not tried: they are sums too."""
_LESS_NOISE = 0.5
"""Of the words that free coefficients miss, what a recipe may miss to be told with them. They give
every sum that is rounded once; what a recipe gives beyond is the noise of its own steps."""
_NORMS_OF_ROWS = "norms of the rows read stand in for those of whole tensors: verify the recipe"
_TENSORS_READ_WHOLE = "told by the tensors that were read whole: verify the recipe"
_WORDS_READ_WHOLE = "words of the tensors that were read whole"


def weighted_sum(
    family: OpenFamily, pool: Pool, child: str, candidates: Sequence[str]
) -> Finding | None:
    """A sum that a recipe replays, with other recipes that prove as much."""
    bases = _likely_bases(family, pool, candidates)
    dtype = family.members[child].dtype
    best: tuple[Replay, Mixture] | None = None
    tried: list[Replay] = []
    for mixture in screen_merge(pool, child, candidates, dtype):
        replayed = _likeliest(_replays(pool, child, dtype, mixture, bases))
        if replayed.match < PROVED_REPLAY:
            continue
        tried += _replays(pool, child, dtype, mixture, bases, all_of_them=True)
        for one in (replayed, _likeliest(tried)):
            if best is None or one.match > best[0].match + _AS_GOOD:
                best = one, mixture
        # With a near relative for a parent a recipe gives nearly all words, and not all.
        if best is not None and best[0].match >= 1 - _AS_GOOD:
            break
    if best is None:
        return None
    recipe, mixture = best
    return by_recipe(child, recipe, *_fitted_facts(mixture), *_equivalents(recipe, tried))


def _likeliest(tried: Iterable[Replay]) -> Replay:
    """The recipe that gives most words; of those about as good one with far fewer decimals.

    Between near relatives the sphere is flat: SLERP gives the words of a linear merge by a number
    that nobody wrote, and now and then one word more.
    """
    known = list(tried)
    best = max(known, key=lambda replay: replay.match)
    as_good = [one for one in known if one.match >= max(PROVED_REPLAY, best.match - _AS_GOOD)]
    plainest = min(as_good, key=_n_decimals, default=best)
    return plainest if _n_decimals(plainest) + _FITTED_DECIMALS <= _n_decimals(best) else best


def _n_decimals(replay: Replay) -> int:
    """Decimals of all numbers in a recipe."""
    asked: list[object] = [yaml.safe_load(replay.recipe_yaml)]
    n_decimals = 0
    while asked:
        part = asked.pop()
        if isinstance(part, dict):
            asked += part.values()
        elif isinstance(part, list):
            asked += part
        elif isinstance(part, float):
            exponent = Decimal(repr(part)).normalize().as_tuple().exponent
            n_decimals += max(0, -exponent) if isinstance(exponent, int) else 0
    return n_decimals


def weighted_sum_of_plain(
    family: OpenFamily, pool: Pool, child: str, candidates: Sequence[str]
) -> Finding | None:
    """The same, of models that are no merges themselves."""
    plain = without_merges(family, candidates)
    return None if len(plain) == len(candidates) else weighted_sum(family, pool, child, plain)


def spanned(
    family: OpenFamily, pool: Pool, child: str, candidates: Sequence[str]
) -> Finding | None:
    """A sum that no recipe here replays whole: of no merges if possible, else of anything."""
    dtype = family.members[child].dtype
    plain = without_merges(family, candidates)
    for names in (plain, candidates)[: 1 if len(plain) == len(candidates) else 2]:
        for mixture in screen_merge(pool, child, names, dtype):
            weights = _mean_weights(pool, mixture)
            if mixture.is_spanned and min(weights) > 0 and max(weights) <= MOST_OF_ONE:
                bases = _likely_bases(family, pool, candidates)
                return _by_less_noise(pool, child, dtype, mixture, bases) or Finding(
                    child,
                    Kind.MERGE,
                    Grade.INFERRED,
                    shares_of_sum(mixture.parents, weights),
                    evidence=_fitted_facts(mixture),
                )
    return None


def _by_less_noise(
    pool: Pool, child: str, dtype: str, mixture: Mixture, bases: Sequence[str]
) -> Finding | None:
    """A sum by the recipe that misses far fewer of its words than free coefficients do.

    Norms and angles belong to whole tensors: where most words are of such, they are asked alone.
    """
    whole = pool.read_whole(child)
    asked, fit = pool, mixture
    if _n_words(whole) < _n_words(pool) < 2 * _n_words(whole):
        asked, fit = whole, fit_mixture(whole, child, mixture.parents, dtype)
    tried = _replays(asked, child, dtype, fit, bases, all_of_them=True)
    best = max(tried, key=lambda replay: replay.match)
    if 1 - best.match >= _LESS_NOISE * (1 - fit.match):
        return None
    facts = _fitted_facts(mixture)
    if asked is pool:
        return by_recipe(child, best, *facts, doubt=_NORMS_OF_ROWS)
    return by_recipe(child, best, *facts, doubt=_TENSORS_READ_WHOLE, asked=_WORDS_READ_WHOLE)


def _n_words(pool: Pool) -> int:
    return sum(values[0].size for values in pool.values)


def _likely_bases(family: OpenFamily, pool: Pool, candidates: Sequence[str]) -> list[str]:
    """The oldest models; without dates, the base of a merge is in the middle of its family."""
    central = dict(zip(pool.ids, pool.squared_distance.sum(axis=0), strict=True))
    oldest = sorted(candidates, key=lambda name: (birth(family.dates, name)[0], central[name]))
    return oldest[:_TRIED_BASES]


def _mean_weights(pool: Pool, mixture: Mixture) -> tuple[float, ...]:
    sizes = np.array([values[0].size for values in pool.values], dtype=np.float64)
    return tuple(map(float, mixture.weights(sizes)))


def _fitted_facts(mixture: Mixture) -> tuple[Evidence, ...]:
    return (
        Evidence(
            "words_fitted",
            mixture.match,
            f"free coefficients per tensor give {100 * mixture.match:.2f} %, the best single "
            f"parent {100 * mixture.single_match:.2f} %",
        ),
        Evidence(
            "left_by_sum",
            mixture.left,
            f"they leave {mixture.left:.3f} squared rounding steps a word, the nearest single "
            f"parent {mixture.single_left:.3g}",
        ),
    )


def _equivalents(best: Replay, tried: Iterable[Replay]) -> Iterator[Evidence]:
    """Other recipes that prove as much as the best one does."""
    told = {(best.method, best.base, frozenset(best.parents))}
    for other in sorted(tried, key=lambda replay: -replay.match):
        recipe = other.method, other.base, frozenset(other.parents)
        if other.match < max(PROVED_REPLAY, best.match - _AS_GOOD) or recipe in told:
            continue
        if len(told) > _MOST_EQUIVALENT:
            return
        told.add(recipe)
        shares = sorted(zip(other.weights, other.parents, strict=True), reverse=True)
        yield Evidence(
            "equivalent_recipe",
            other.match,
            f"{other.method} of {', '.join(f'{name} ({weight:.3f})' for weight, name in shares)}"
            + (f" on {other.base}" if other.base is not None else "")
            + f" gives {100 * other.match:.2f} % of the stored words too",
        )


def _replays(
    pool: Pool,
    child: str,
    dtype: str,
    mixture: Mixture,
    bases: Sequence[str],
    *,
    all_of_them: bool = False,
) -> Iterator[Replay]:
    """Recipes of ever more freedom, until one is proved or all are tried."""
    few = len(mixture.parents) <= _MOST_SEARCHED
    found = replay_weighted_mean(pool, child, dtype, mixture.parents)
    if few:
        # Least squares knows nothing of what was rounded: large parents draw its weights to them.
        shares = found.weights if found.match > 0 else _mean_weights(pool, mixture)
        searched = replay_linear(pool, child, dtype, mixture.parents, shares)
        found = searched if searched.match >= found.match else found
    yield found
    best = found.match
    # A line comes close to the sphere, and not to the last bit.
    stages = (_on_the_sphere, _from_a_base) if few else (_from_a_base, _on_the_sphere)
    for stage in stages:
        if not all_of_them and (best == 1 or (best >= PROVED_REPLAY and stage is _from_a_base)):
            return
        for other in stage(pool, child, dtype, mixture, bases):
            best = max(best, other.match)
            yield other
            if not all_of_them and best >= PROVED_REPLAY and stage is _from_a_base:
                return


def _on_the_sphere(
    pool: Pool, child: str, dtype: str, mixture: Mixture, bases: Sequence[str]
) -> Iterator[Replay]:
    if mixture.match >= _NEARLY_A_SUM or mixture.is_spanned:
        tried = (replay(pool, child, dtype, mixture, bases) for replay in SPHERICAL)
        yield from (other for other in tried if other is not None)


def _from_a_base(
    pool: Pool, child: str, dtype: str, mixture: Mixture, bases: Sequence[str]
) -> Iterator[Replay]:
    for base in dict.fromkeys((*mixture.parents, *bases)):
        others = [name for name in mixture.parents if name != base]
        if len(others) <= _MOST_SEARCHED:
            searched = replay_task_arithmetic(pool, child, dtype, mixture, base)
            if searched is not None:
                yield searched
        if len(others) > 1:
            yield replay_weighted_changes(pool, child, dtype, base, others)

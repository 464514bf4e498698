"""Merges: those that replay, those whose masks can be told, those that free coefficients give.

First weighted sums that replay, on the line or the sphere; then, with these merges out of the way,
such sums again, sums that no recipe here replays, and what decides word by word: another merge of
the same parents would else be taken for one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lineage.infer.geometry import Pool
from lineage.infer.merges import (
    MIN_GAIN,
    Mixture,
    best_single_match,
    screen_merge,
)
from lineage.infer.methods.between_two import replay_arcee_fusion, replay_nearswap
from lineage.infer.methods.masked_search import MaskedMerge, find_masked
from lineage.infer.methods.model_stock import replay_model_stock
from lineage.infer.methods.recipes import mask_shapes, mask_weights, method_name
from lineage.infer.methods.selected import replay_sce
from lineage.infer.methods.trimmed import replay_trimmed
from lineage.infer.methods.weighted import replay_weighted_changes, replay_weighted_mean
from lineage.infer.parent_sets import ParentSet, parent_sets
from lineage.infer.replay import Replay, replay_linear, replay_task_arithmetic
from lineage.infer.replay_sphere import SPHERICAL
from lineage.infer.rooting import date_log_odds
from lineage.infer.settle.family import OpenFamily, birth, is_rearranged_from
from lineage.model import Evidence, Finding, Grade, Kind, ParentShare

__all__ = ["settle_merges"]

_PROVED_REPLAY = 0.99
_FEWER_MISSED = 0.1
"""Of the words that the best single model misses, what an inferred recipe may miss at most."""
_TRIED_BASES = 3
_MOST_SEARCHED = 3
"""Parents up to which a grid of round weights is searched."""
_AS_GOOD = 0.001
"""Share of the words by which equivalent recipes may differ."""
_MOST_EQUIVALENT = 5
_WORTHWHILE = 0.97
_NEARLY_A_SUM = 0.8
"""Match of free coefficients below which merges on the sphere are not tried: they are sums too."""
_MOST_OF_ONE = 0.95
"""Share from which a mixture is one model, changed."""
_APART = 0.5
"""Share of words in which the parents of a fusion agree at most."""
_MASKED_GAIN = 0.15
"""By how much masks must be likelier than noise to be believed, in natural logarithms a word."""
_LARGEST_NOISE = 0.03
_EXPLAINED = 0.94
"""On training families masked merges lie above, fits to anything else gain no .06 over noise."""
_RATIO_ERROR = 0.02
"""A tensor's own ratio of what was kept to what was dropped scatters by about so much."""
_N_ERRORS = 1.96
_LESS_NOISE = 0.5
"""Of the words that free coefficients miss, what a recipe may miss to be told with them. They give
every sum that is rounded once; what a recipe gives beyond is the noise of its own steps."""
_NORMS_OF_ROWS = "norms of the rows read stand in for those of whole tensors: verify the recipe"
_NEARLY_REPLAYED = "the recipe gives nearly all words: verify it"
_ABOUT_THAT_DENSITY = "the densities are told to about a hundredth: verify the recipe"


def settle_merges(family: OpenFamily, pool: Pool) -> None:
    """Settle merges that a recipe, masks, or free coefficients per tensor reproduce."""
    able = [name for name in pool.ids if _can_be_mixed(pool, name)]
    inside_out: set[str] = set()
    for settle in (_weighted_sum, _weighted_sum_of_plain, _word_by_word, _spanned):
        inside_out |= _settle_by(settle, family, pool, able, able).inside_out
    # A parent is its merge less the others: only what is still open now is such a sum.
    for settle in (_weighted_sum, _weighted_sum_of_plain):
        _settle_by(settle, family, pool, able, sorted(inside_out), inside_out_too=True)
    found = _settle_by(_masked, family, pool, able, able).settled
    if not found:
        return
    # Merges that were found last stood among the candidates of what was asked before them.
    misled = [
        child
        for child in able
        if child not in family.findings
        and found & _offered(pool, child, [*found, *_plain_candidates(family, able, child)])
    ]
    _settle_by(_masked, family, pool, able, misled)


Settle = Callable[[OpenFamily, Pool, str, Sequence[str]], Finding | None]


class _Round(NamedTuple):
    """Who was settled by one question, and who is a sum with a negative weight."""

    settled: set[str]
    inside_out: set[str]


def _settle_by(
    settle: Settle,
    family: OpenFamily,
    pool: Pool,
    able: Sequence[str],
    asked: Sequence[str],
    *,
    inside_out_too: bool = False,
) -> _Round:
    """Settle the models asked that are open still, in one way."""
    done = _Round(set(), set())
    for child in asked:
        if child in family.findings:
            continue
        finding = settle(family, pool, child, _candidates(family, able, child))
        if finding is None:
            continue
        if min(share.weight for share in finding.parents) < 0 and not inside_out_too:
            done.inside_out.add(child)
        else:
            family.settle(finding)
            done.settled.add(child)
    return done


def _offered(pool: Pool, child: str, candidates: Sequence[str]) -> set[str]:
    return {name for one in parent_sets(pool, child, candidates) for name in one.members}


def _can_be_mixed(pool: Pool, name: str) -> bool:
    """Whether all squares are numbers, and some tensor has two values: any sum to a constant."""
    values = [values[pool.ids.index(name)] for values in pool.values]
    with np.errstate(over="ignore"):
        finite = all(bool(np.isfinite(one * one).all()) for one in values)
    return finite and any(bool((one != one.flat[0]).any()) for one in values)


def _candidates(family: OpenFamily, able: Sequence[str], child: str) -> list[str]:
    return [
        name
        for name in able
        if name != child
        and date_log_odds(child, name, family.dates) >= 0
        and not is_rearranged_from(family, name, child)
    ]


def _plain_candidates(family: OpenFamily, able: Sequence[str], child: str) -> list[str]:
    return _without_merges(family, _candidates(family, able, child))


def _weighted_sum(
    family: OpenFamily, pool: Pool, child: str, candidates: Sequence[str]
) -> Finding | None:
    bases = _likely_bases(family, pool, candidates)
    dtype = family.members[child].dtype
    best: tuple[Replay, Mixture] | None = None
    tried: list[Replay] = []
    for mixture in screen_merge(pool, child, candidates, dtype):
        # The recipe that reproduces most words; the simplest where two do about equally well.
        replayed = max(
            _replays(pool, child, dtype, mixture, bases), key=lambda replay: replay.match
        )
        if replayed.match < _PROVED_REPLAY:
            continue
        tried += _replays(pool, child, dtype, mixture, bases, all_of_them=True)
        for one in (replayed, max(tried, key=lambda replay: replay.match)):
            if best is None or one.match > best[0].match + _AS_GOOD:
                best = one, mixture
        # With a near relative for a parent a recipe gives nearly all words, and not all.
        if best is not None and best[0].match >= 1 - _AS_GOOD:
            break
    if best is None:
        return None
    found = _proved(child, best[0], (_replayed_fact(best[0]), *_fitted_facts(best[1])))
    return replace(found, evidence=(*found.evidence, *_equivalents(best[0], tried)))


def _likely_bases(family: OpenFamily, pool: Pool, candidates: Sequence[str]) -> list[str]:
    """The oldest models; without dates, the base of a merge is in the middle of its family."""
    central = dict(zip(pool.ids, pool.squared_distance.sum(axis=0), strict=True))
    oldest = sorted(candidates, key=lambda name: (birth(family.dates, name)[0], central[name]))
    return oldest[:_TRIED_BASES]


def _spanned(
    family: OpenFamily, pool: Pool, child: str, candidates: Sequence[str]
) -> Finding | None:
    """A sum that no recipe here replays whole: of no merges if possible, else of anything."""
    dtype = family.members[child].dtype
    plain = _without_merges(family, candidates)
    for names in (plain, candidates)[: 1 if len(plain) == len(candidates) else 2]:
        for mixture in screen_merge(pool, child, names, dtype):
            weights = _mean_weights(pool, mixture)
            if mixture.is_spanned and min(weights) > 0 and max(weights) <= _MOST_OF_ONE:
                facts = _fitted_facts(mixture)
                bases = _likely_bases(family, pool, candidates)
                best = max(
                    _replays(pool, child, dtype, mixture, bases, all_of_them=True),
                    key=lambda replay: replay.match,
                )
                if 1 - best.match < _LESS_NOISE * (1 - mixture.match):
                    named = _proved(child, best, (_replayed_fact(best), *facts))
                    return replace(named, grade=Grade.INFERRED, note=_NORMS_OF_ROWS)
                shares = _shares(mixture.parents, weights)
                return Finding(child, Kind.MERGE, Grade.INFERRED, shares, evidence=facts)
    return None


def _mean_weights(pool: Pool, mixture: Mixture) -> tuple[float, ...]:
    sizes = np.array([values[0].size for values in pool.values], dtype=np.float64)
    return tuple(map(float, mixture.weights(sizes)))


def _equivalents(best: Replay, tried: Iterable[Replay]) -> Iterator[Evidence]:
    """Other recipes that prove as much as the best one does."""
    told = {(best.method, best.base, frozenset(best.parents))}
    for other in sorted(tried, key=lambda replay: -replay.match):
        recipe = other.method, other.base, frozenset(other.parents)
        if other.match < max(_PROVED_REPLAY, best.match - _AS_GOOD) or recipe in told:
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


def _weighted_sum_of_plain(
    family: OpenFamily, pool: Pool, child: str, candidates: Sequence[str]
) -> Finding | None:
    plain = _without_merges(family, candidates)
    return None if len(plain) == len(candidates) else _weighted_sum(family, pool, child, plain)


def _without_merges(family: OpenFamily, candidates: Sequence[str]) -> list[str]:
    return [
        name
        for name in candidates
        if name not in family.findings or family.findings[name].kind is not Kind.MERGE
    ]


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


def _proved(child: str, best: Replay, facts: tuple[Evidence, ...]) -> Finding:
    return Finding(
        child,
        Kind.MERGE,
        Grade.PROVED,
        _shares(best.parents, best.weights),
        base=best.base,
        method=best.method,
        evidence=facts,
        recipe_yaml=best.recipe_yaml,
        note=best.remark,
    )


def _replayed_fact(best: Replay) -> Evidence:
    words = f"the {best.method} recipe gives {100 * best.match:.2f} % of the stored words"
    return Evidence("words_replayed", best.match, words)


def _shares(parents: Sequence[str], weights: Sequence[float]) -> tuple[ParentShare, ...]:
    """Weights as shares of their sum, the largest first."""
    total = sum(weights)
    total = total if abs(total) > 1e-9 else 1.0
    shares = (
        ParentShare(name, weight / total) for name, weight in zip(parents, weights, strict=True)
    )
    return tuple(sorted(shares, key=lambda share: -share.weight))


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
        searched = replay_linear(pool, child, dtype, mixture)
        found = searched if searched.match >= found.match else found
    yield found
    best = found.match
    # A line comes close to the sphere, and not to the last bit.
    stages = (_on_the_sphere, _from_a_base) if few else (_from_a_base, _on_the_sphere)
    for stage in stages:
        if not all_of_them and (best == 1 or (best >= _PROVED_REPLAY and stage is _from_a_base)):
            return
        for other in stage(pool, child, dtype, mixture, bases):
            best = max(best, other.match)
            yield other
            if not all_of_them and best >= _PROVED_REPLAY and stage is _from_a_base:
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


def _word_by_word(
    family: OpenFamily, pool: Pool, child: str, candidates: Sequence[str]
) -> Finding | None:
    """Model stock, SCE, NearSwap, Arcee Fusion, and what else takes each word from one of two."""
    dtype = family.members[child].dtype
    sets = _sets(family, pool, child, candidates)
    if len(sets) < 2:
        return None
    found = _deterministic(pool, child, dtype, sets)
    if found is not None and found.match >= _PROVED_REPLAY:
        return _proved(child, found, (_replayed_fact(found),))
    single = best_single_match(pool, child, candidates, dtype)
    if found is not None and 1 - found.match < _FEWER_MISSED * (1 - single):
        proved = _proved(child, found, (_replayed_fact(found),))
        return replace(proved, grade=Grade.INFERRED, note=_NEARLY_REPLAYED)
    return _chosen_words(pool, child, sets[1].members)


def _chosen_words(pool: Pool, child: str, pair: Sequence[str]) -> Finding | None:
    """Every word one of two models' that agree in few: some fusion, whatever chose the words."""
    a, b, c = (pool.ids.index(name) for name in (*pair, child))
    sizes = np.array([values[0].size for values in pool.values], dtype=np.float64)

    def share(which: Callable[[NDArray[np.float32]], NDArray[np.bool_]]) -> float:
        return float(sum(which(values).sum() for values in pool.values) / sizes.sum())

    first, second = share(lambda v: v[a] == v[c]), share(lambda v: v[b] == v[c])
    alike = share(lambda v: v[a] == v[b])
    either = share(lambda v: (v[a] == v[c]) | (v[b] == v[c]))
    # A step between the two, that kept most words of one and handed on most, is alike to both.
    if either < _PROVED_REPLAY or alike > _APART:
        return None
    fact = Evidence(
        "words_of_two",
        either,
        f"{100 * either:.2f} % of the words are one parent's or the other's, who agree in "
        f"{100 * alike:.1f} %",
    )
    own = np.array([first, second]) - (first + second - either)
    shares = _shares(pair, tuple(map(float, own)))
    return Finding(child, Kind.MERGE, Grade.INFERRED, shares, evidence=(fact,))


def _masked(
    family: OpenFamily, pool: Pool, child: str, candidates: Sequence[str]
) -> Finding | None:
    """Merges that keep some words of a parent's change and drop others."""
    dtype = family.members[child].dtype
    sets = _sets(family, pool, child, candidates)
    if len(sets) < 2:
        return None
    merge = find_masked(pool, child, dtype, sets, _without_merges(family, candidates))
    if merge is None or not _believed(merge):
        return None
    selected = replay_sce(pool, child, dtype, merge.base, merge.parents)
    if selected is not None and selected.match >= _PROVED_REPLAY:
        return _proved(child, selected, (_replayed_fact(selected),))
    trimmed = replay_trimmed(pool, child, dtype, merge)
    facts = _masked_facts(merge)
    if trimmed is not None and trimmed.match >= _PROVED_REPLAY:
        # Words near the threshold fit either way, so the density is told to a hundredth or so.
        proved = _proved(child, trimmed, (_replayed_fact(trimmed), *facts))
        return replace(proved, grade=Grade.INFERRED, note=_ABOUT_THAT_DENSITY)
    found = _masked_finding(child, merge, facts)
    return None if max(share.weight for share in found.parents) > _MOST_OF_ONE else found


def _sets(
    family: OpenFamily, pool: Pool, child: str, candidates: Sequence[str]
) -> tuple[ParentSet, ...]:
    """What least squares offers among models that are no merges; nothing to a copy."""
    names = _without_merges(family, candidates)
    if best_single_match(pool, child, names, family.members[child].dtype) > 1 - MIN_GAIN:
        return ()
    return parent_sets(pool, child, names)


def _deterministic(pool: Pool, child: str, dtype: str, sets: Sequence[ParentSet]) -> Replay | None:
    """The best recipe without free masks over the sets that least squares offers."""
    # What decides word by word is no sum: the best pair of a sum may hold one of the two only.
    pairs = dict.fromkeys(
        tuple(sorted(pair)) for one in sets[1:3] for pair in combinations(one.members, 2)
    )
    tried = [
        replay(pool, child, dtype, pair)
        for pair in pairs
        for replay in (replay_nearswap, replay_arcee_fusion)
    ]
    for smaller, chosen in pairwise(sets[1:]):
        if min(sorted(chosen.shares)[1:]) > 0:
            tried.append(replay_model_stock(pool, child, dtype, chosen.members))
        for base in chosen.members:
            others = [name for name in chosen.members if name != base]
            tried.append(replay_sce(pool, child, dtype, base, others))
        # The base of weights that add up to one takes nothing away: one set more is tried.
        if chosen.left > _WORTHWHILE * smaller.left:
            break
    found = [one for one in tried if one is not None]
    return max(found, key=lambda one: one.match, default=None)


def _believed(merge: MaskedMerge) -> bool:
    fit = merge.fit
    return (
        merge.gain >= _MASKED_GAIN
        and fit.noise <= _LARGEST_NOISE
        and fit.explained >= _EXPLAINED
        and bool((fit.coefficients.mean(axis=0) > 0).all())
    )


def _masked_facts(merge: MaskedMerge) -> tuple[Evidence, ...]:
    shapes = mask_shapes(merge)
    kept = ", ".join(
        f"{name} {100 * density:.0f} %"
        for name, density in zip(merge.parents, shapes.densities, strict=True)
    )
    how = "by size" if shapes.are_trimmed else "at random"
    return (
        Evidence(
            "words_contained",
            merge.fit.explained,
            f"{100 * merge.fit.explained:.2f} % of the words are {merge.base} plus some of the "
            "parents' weighted changes",
        ),
        Evidence(
            "masks_over_noise",
            merge.gain,
            f"kept and dropped changes are likelier than noise around a weighted sum by "
            f"{merge.gain:.2f} natural logarithms a word",
        ),
        Evidence("densities", float(np.mean(shapes.densities)), f"kept {how}: {kept}"),
    )


def _masked_finding(child: str, merge: MaskedMerge, facts: tuple[Evidence, ...]) -> Finding:
    """A merge whose masks cannot be repeated: shares with their errors, no recipe."""
    shapes = mask_shapes(merge)
    weights = mask_weights(merge.changes, merge.fit, shapes.are_trimmed).mean(axis=0)
    ratio = weights / np.maximum(np.abs(merge.fit.coefficients.mean(axis=0)), 1e-12)
    spread = np.sqrt((merge.fit.errors**2).mean(axis=0)) * np.abs(ratio)
    errors = _N_ERRORS * np.sqrt(spread**2 + (_RATIO_ERROR * weights) ** 2)
    total = float(weights.sum())
    shares = [
        ParentShare(name, float(w / total), float((w - e) / total), float((w + e) / total))
        for name, w, e in zip(merge.parents, weights, errors, strict=True)
    ]
    return Finding(
        child,
        Kind.MERGE,
        Grade.INFERRED,
        tuple(sorted(shares, key=lambda share: -share.weight)),
        base=merge.base,
        method=method_name(merge),
        evidence=facts,
        note="the words replay up to masks"
        if shapes.are_trimmed
        else "masks were drawn at random: no recipe rebuilds them",
    )

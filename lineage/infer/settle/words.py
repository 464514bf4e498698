"""Merges that decide word by word: each a parent's, a changed one's, or kept by a mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from lineage.infer.geometry import Pool
from lineage.infer.merges import MIN_GAIN, best_single_match
from lineage.infer.methods.between_two import replay_arcee_fusion, replay_nearswap
from lineage.infer.methods.masked_search import MaskedMerge, find_masked
from lineage.infer.methods.model_stock import replay_model_stock
from lineage.infer.methods.recipes import mask_shapes, mask_weights, method_name
from lineage.infer.methods.selected import replay_sce
from lineage.infer.methods.taken_words import find_taken
from lineage.infer.methods.trimmed import replay_trimmed
from lineage.infer.parent_sets import ParentSet, parent_sets
from lineage.infer.replay import Replay
from lineage.infer.settle.family import OpenFamily
from lineage.infer.settle.merged import (
    MOST_OF_ONE,
    PROVED_REPLAY,
    by_recipe,
    shares_of_sum,
    without_merges,
)  # fmt: skip
from lineage.model import Evidence, Finding, Grade, Kind, ParentShare

__all__ = ["masked", "partly_told", "word_by_word"]

_FEWER_MISSED = 0.1
"""Of the words that the best single model misses, what an inferred recipe may miss at most."""
_WORTHWHILE = 0.97
_OF_TWO = 0.98
"""Share of the words that must be one of two models' for the two to be asked for a fusion."""
_APART = 0.5
"""Share of words in which the parents of a fusion agree at most."""
_MASKED_GAIN = 0.4
"""By how much masks must be likelier than noise to be believed, in natural logarithms a word; on
training and validation families 33 merges gain .56 and more, what is none at most .36
(one .59, of which too few words are possible)."""
_LARGEST_NOISE = 0.03
_EXPLAINED = 0.94
"""Least share of the words that are possible; on training families masked merges lie above, but one
(.90)."""
_RATIO_ERROR = 0.02
"""A tensor's own ratio of what was kept to what was dropped scatters by about so much."""
_N_ERRORS = 1.96
_NEARLY_REPLAYED = "the recipe gives nearly all words: verify it"
_ROUNDED_OR_MIXED = frozenset({Kind.CAST, Kind.QUANTIZED, Kind.MERGE})
"""What has words of another model without having been trained from it."""
_ABOUT_THAT_DENSITY = "the densities are told to about a hundredth: verify the recipe"


def word_by_word(
    family: OpenFamily, pool: Pool, child: str, candidates: Sequence[str]
) -> Finding | None:
    """Model stock, SCE, NearSwap, Arcee Fusion, and what else takes each word from one of two."""
    dtype = family.members[child].dtype
    sets = _sets(family, pool, child, candidates)
    if not sets:
        return None
    pair = _pair_of_words(pool, child, without_merges(family, candidates))
    if pair is None and len(sets) < 2:
        return None
    found = _deterministic(pool, child, dtype, sets, pair)
    if found is not None and found.match >= PROVED_REPLAY:
        return by_recipe(child, found)
    single = best_single_match(pool, child, candidates, dtype)
    if found is not None and 1 - found.match < _FEWER_MISSED * (1 - single):
        return by_recipe(child, found, doubt=_NEARLY_REPLAYED)
    return _chosen_words(pool, child, pair or sets[1].members)


def masked(family: OpenFamily, pool: Pool, child: str, candidates: Sequence[str]) -> Finding | None:
    """Merges that keep some words of a parent's change and drop others."""
    dtype = family.members[child].dtype
    sets = _sets(family, pool, child, candidates)
    if len(sets) < 2:
        return None
    merge = find_masked(pool, child, dtype, sets, without_merges(family, candidates))
    if merge is None or not _believed(merge):
        return None
    selected = _selected(pool, child, dtype, merge)
    if selected is not None and selected.match >= PROVED_REPLAY:
        return by_recipe(child, selected)
    trimmed = replay_trimmed(pool, child, dtype, merge)
    facts = _masked_facts(merge)
    if trimmed is not None and trimmed.match >= PROVED_REPLAY:
        # Words near the threshold fit either way, so the density is told to a hundredth or so.
        return by_recipe(child, trimmed, *facts, doubt=_ABOUT_THAT_DENSITY)
    found = _masked_finding(child, merge, facts)
    return None if max(share.weight for share in found.parents) > MOST_OF_ONE else found


def _selected(pool: Pool, child: str, dtype: str, merge: MaskedMerge) -> Replay | None:
    """SCE of the parents that masks found, or of the largest of them.

    Its weights vary by tensor, which masks do not know of: near relatives stand in for that.
    """
    order = np.argsort(-merge.fit.coefficients.mean(axis=0))
    largest = [merge.parents[i] for i in order]
    tried = (
        replay_sce(pool, child, dtype, merge.base, largest[:n]) for n in range(len(largest), 1, -1)
    )
    return max(filter(None, tried), key=lambda replay: replay.match, default=None)


def partly_told(
    family: OpenFamily, pool: Pool, child: str, candidates: Sequence[str]
) -> Finding | None:
    """Merges that have words of one parent and of the base, and of a parent that is missing."""
    names = [
        name
        for name in candidates
        if name not in family.findings or family.findings[name].kind not in _ROUNDED_OR_MIXED
    ]
    found = find_taken(pool, child, family.members[child].dtype, names)
    if found is None:
        return None
    least = found.taken / (1 - found.left)
    facts: tuple[Evidence, ...] = (
        Evidence(
            "words_taken",
            found.taken,
            f"where {found.parent} and {found.base} lie far apart, {100 * found.taken:.1f} % of "
            "the words are exactly the former's, and hardly any lie next to them",
        ),
        Evidence(
            "words_left",
            found.left,
            f"{100 * found.left:.1f} % of the words there are exactly those of {found.base}",
        ),
    )
    if found.density is not None:
        kept = f"kept by size: {found.parent} about {100 * found.density:.0f} %"
        facts += (Evidence("densities", found.density, kept),)
    return Finding(
        child,
        Kind.MERGE,
        Grade.INFERRED,
        (ParentShare(found.parent, least, least, 1.0),),
        base=found.base,
        method=None if found.density is None else "ties",
        evidence=facts,
        note="merged by TIES or its like with at least one model that was not read: the share is "
        "that of the changed words that are this parent's alone",
    )


def _sets(
    family: OpenFamily, pool: Pool, child: str, candidates: Sequence[str]
) -> tuple[ParentSet, ...]:
    """What least squares offers among models that are no merges; nothing to a copy."""
    names = without_merges(family, candidates)
    if best_single_match(pool, child, names, family.members[child].dtype) > 1 - MIN_GAIN:
        return ()
    return parent_sets(pool, child, names)


def _pair_of_words(pool: Pool, child: str, names: Sequence[str]) -> tuple[str, str] | None:
    """Two models, of which hardly a word is neither's: who has most, and who most of the others.

    Least squares sees little of a second parent that gave a tenth of the words or less.
    """
    c = pool.ids.index(child)
    n_words = sum(values[c].size for values in pool.values)
    taken = {
        name: [values[pool.ids.index(name)] == values[c] for values in pool.values]
        for name in names
    }
    if len(taken) < 2:
        return None
    first = max(taken, key=lambda name: sum(map(np.count_nonzero, taken[name])))
    union = {
        name: sum(
            int(np.count_nonzero(one | other))
            for one, other in zip(words, taken[first], strict=True)
        )
        for name, words in taken.items()
        if name != first
    }
    second = max(union, key=lambda name: union[name])
    return (first, second) if union[second] >= _OF_TWO * n_words else None


def _deterministic(
    pool: Pool,
    child: str,
    dtype: str,
    sets: Sequence[ParentSet],
    likely: tuple[str, str] | None = None,
) -> Replay | None:
    """The best recipe without free masks over the sets that least squares offers.

    `likely` is a pair to be asked beside those.
    """
    # What decides word by word is no sum: the best pair of a sum may hold one of the two only.
    offered = [pair for one in sets[1:3] for pair in combinations(one.members, 2)]
    pairs = dict.fromkeys(tuple(sorted(pair)) for pair in (*offered, likely) if pair is not None)
    tried = [
        replay(pool, child, dtype, pair)
        for pair in pairs
        for replay in (replay_nearswap, replay_arcee_fusion)
    ]
    for smaller, chosen in pairwise(sets[1:]):
        # Where changes point apart, their mean is taken away.
        shares = sorted(chosen.shares)
        if shares[1] > 0 or shares[-2] < 0:
            tried.append(replay_model_stock(pool, child, dtype, chosen.members))
        for base in chosen.members:
            others = [name for name in chosen.members if name != base]
            tried.append(replay_sce(pool, child, dtype, base, others))
        # The base of weights that add up to one takes nothing away: one set more is tried.
        if chosen.left > _WORTHWHILE * smaller.left:
            break
    found = [one for one in tried if one is not None]
    return max(found, key=lambda one: one.match, default=None)


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
    if either < PROVED_REPLAY or alike > _APART:
        return None
    fact = Evidence(
        "words_of_two",
        either,
        f"{100 * either:.2f} % of the words are one parent's or the other's, who agree in "
        f"{100 * alike:.1f} %",
    )
    own = np.array([first, second]) - (first + second - either)
    shares = shares_of_sum(pair, tuple(map(float, own)))
    return Finding(child, Kind.MERGE, Grade.INFERRED, shares, evidence=(fact,))


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

"""Merges: those that replay, those whose masks can be told, those that free coefficients give.

First weighted sums, on the line or the sphere; then, with these merges out of the way, such sums
again and what decides word by word: another merge of the same parents would else be taken for one
of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from lineage.infer.geometry import Pool
from lineage.infer.merges import (
    MIN_GAIN,
    MIN_MATCH,
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
_TRIED_BASES = 3
_MOST_SEARCHED = 3
"""Parents up to which a grid of round weights is searched."""
_AS_GOOD = 0.001
"""Share of the words by which equivalent recipes may differ."""
_MOST_EQUIVALENT = 5
_WORTHWHILE = 0.97
_NEARLY_A_SUM = 0.8
"""Match of free coefficients below which merges on the sphere are not tried: they are sums too."""
_MASKED_GAIN = 0.15
"""By how much masks must be likelier than noise to be believed, in natural logarithms a word."""
_LARGEST_NOISE = 0.03
_EXPLAINED = 0.94
"""On training families masked merges lie above, fits to anything else gain no .06 over noise."""
_RATIO_ERROR = 0.02
"""A tensor's own ratio of what was kept to what was dropped scatters by about so much."""
_N_ERRORS = 1.96
_ABOUT_THAT_DENSITY = "the densities are told to about a hundredth: verify the recipe"


def settle_merges(family: OpenFamily, pool: Pool) -> None:
    """Settle merges that a recipe, masks, or free coefficients per tensor reproduce."""
    able = [name for name in pool.ids if _can_be_mixed(pool, name)]
    for settle in (_weighted_sum, _weighted_sum_of_plain, _word_by_word):
        inside_out: list[str] = []
        for child in able:
            if child in family.findings:
                continue
            finding = settle(family, pool, child, _candidates(family, able, child))
            if finding is None:
                continue
            # A parent is its merge less the others: only what is still open then is such a sum.
            if min(share.weight for share in finding.parents) < 0:
                inside_out.append(child)
            else:
                family.settle(finding)
        for child in inside_out:
            finding = settle(family, pool, child, _candidates(family, able, child))
            if finding is not None:
                family.settle(finding)


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


def _weighted_sum(
    family: OpenFamily, pool: Pool, child: str, candidates: Sequence[str]
) -> Finding | None:
    # Without dates the base of a merge is looked for in the middle of its family.
    central = dict(zip(pool.ids, pool.squared_distance.sum(axis=0), strict=True))
    oldest = sorted(candidates, key=lambda name: (birth(family.dates, name)[0], central[name]))
    dtype = family.members[child].dtype
    best: tuple[Replay, Mixture] | None = None
    for mixture in screen_merge(pool, child, candidates, dtype):
        # The recipe that reproduces most words; the simplest where two do equally well.
        replays = _replays(pool, child, dtype, mixture, oldest[:_TRIED_BASES])
        replayed = max(replays, key=lambda replay: replay.match)
        match = max(replayed.match, mixture.match)
        if match < MIN_MATCH or match - mixture.single_match < MIN_GAIN:
            continue
        if replayed.match < _PROVED_REPLAY and _takes_away(pool, mixture):
            continue
        if best is None or replayed.match > best[0].match + MIN_GAIN / 10:
            best = replayed, mixture
        if best[0].match >= _PROVED_REPLAY:
            break
    if best is None:
        return None
    finding = _mixture_finding(pool, child, *best)
    if finding.grade is not Grade.PROVED:
        return finding
    others = _replays(pool, child, dtype, best[1], oldest[:_TRIED_BASES], all_of_them=True)
    return replace(finding, evidence=(*finding.evidence, *_equivalents(best[0], others)))


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


def _takes_away(pool: Pool, mixture: Mixture) -> bool:
    """Whether a member has a negative weight, as a base has whose task vectors weigh over one.

    Seen from the base, its merge stands so among the parents. Only an exact replay tells the two
    apart: the merge was rounded last.
    """
    sizes = np.array([values[0].size for values in pool.values], dtype=np.float64)
    return bool(mixture.weights(sizes).min() < 0)


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


def _mixture_finding(pool: Pool, child: str, best: Replay, mixture: Mixture) -> Finding:
    """The finding if a recipe, or free coefficients per tensor, reproduce the child."""
    facts = (
        _replayed_fact(best),
        Evidence(
            "words_fitted",
            mixture.match,
            f"free coefficients per tensor give {100 * mixture.match:.2f} %, the best single "
            f"parent {100 * mixture.single_match:.2f} %",
        ),
    )
    if best.match >= _PROVED_REPLAY:
        return _proved(child, best, facts)
    sizes = np.array([values[0].size for values in pool.values], dtype=np.float64)
    weights = tuple(map(float, mixture.weights(sizes)))
    best = replace(best, parents=mixture.parents, weights=weights)
    return Finding(child, Kind.MERGE, Grade.INFERRED, _shares(best), evidence=facts)


def _proved(child: str, best: Replay, facts: tuple[Evidence, ...]) -> Finding:
    return Finding(
        child,
        Kind.MERGE,
        Grade.PROVED,
        _shares(best),
        base=best.base,
        method=best.method,
        evidence=facts,
        recipe_yaml=best.recipe_yaml,
        note=best.remark,
    )


def _replayed_fact(best: Replay) -> Evidence:
    words = f"the {best.method} recipe gives {100 * best.match:.2f} % of the stored words"
    return Evidence("words_replayed", best.match, words)


def _shares(best: Replay) -> tuple[ParentShare, ...]:
    """Weights as shares of their sum, the largest first."""
    total = sum(best.weights)
    total = total if abs(total) > 1e-9 else 1.0
    shares = (
        ParentShare(name, weight / total)
        for name, weight in zip(best.parents, best.weights, strict=True)
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
    if mixture.match >= _NEARLY_A_SUM:
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
    """Model stock, SCE, NearSwap, Arcee Fusion, and merges with masks."""
    dtype = family.members[child].dtype
    open_names = _without_merges(family, candidates)
    if best_single_match(pool, child, open_names, dtype) > 1 - MIN_GAIN:
        return None
    sets = parent_sets(pool, child, open_names)
    if len(sets) < 2:
        return None
    found = _deterministic(pool, child, dtype, sets)
    if found is not None and found.match >= _PROVED_REPLAY:
        return _proved(child, found, (_replayed_fact(found),))
    merge = find_masked(pool, child, dtype, sets, open_names)
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
    return _masked_finding(child, merge, facts)


def _deterministic(pool: Pool, child: str, dtype: str, sets: Sequence[ParentSet]) -> Replay | None:
    """The best recipe without free masks over the sets that least squares offers."""
    pair = sets[1].members
    tried = [
        replay_nearswap(pool, child, dtype, pair),
        replay_arcee_fusion(pool, child, dtype, pair),
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

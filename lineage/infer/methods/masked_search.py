"""Which relatives a masked merge was made of, on which base, by which rule.

Least squares sees a masked merge through the noise of its masks: large parents and the base are
found, small ones hide. So the search begins with what least squares is sure of, and again with all
that it offers, tries bases and rules on a part of the words, and then lets the words speak
(:mod:`.mask_parents`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lineage.infer.geometry import Pool
from lineage.infer.methods.mask_parents import (
    FIRST_FORMS,
    LATER_FORMS,
    MAX_PARENTS,
    WORTH,
    Form,
    MaskSearch,
    largest,
    likelihood,
    thinned,
    usual_start,
)
from lineage.infer.methods.masks import Changes, MaskFit, Rule, changes_from, fit_masks
from lineage.infer.parent_sets import FLAT, ParentSet

__all__ = ["MaskedMerge", "find_masked"]

F64 = NDArray[np.float64]

_QUICK_WORDS = 1_000
_QUICK_PARENTS = 5
"""The largest parents, with which bases and rules are compared: the outcomes double with each."""
_WORDS = 3_000
_FINAL_WORDS = 12_000
_HOPEFUL = 0.9
"""Share of the words that masks must explain for all words to be asked."""
_LEAST_GAIN = 0.02
"""By how much masks must be likelier than noise to begin with, in natural logarithms a word."""
_N_BASES = 3
_N_BASES_TRIED = 6
_N_BASES_SEARCHED = 3
_N_FINALISTS = 2
_N_PLAIN = 4
_N_LAST = 40
_BEYOND_DOUBT = 1.0
"""Gain in natural logarithms a word from which masks are no artefact of rounding. What is refused
for being the centre gains .39 at most (seeds 8 and 9, train), but for a merge of 2.8."""
_CENTRAL = 0.5
"""Share of the base's slant below which the child is the centre; train families: .93 and more."""


@dataclass(frozen=True)
class MaskedMerge:
    """A masked merge: its base, its parents and the fit that explains it.

    Attributes
    ----------
    gain
        By how much the masks are likelier than noise around a weighted sum, logarithms a word.
    """

    base: str
    parents: tuple[str, ...]
    changes: Changes
    fit: MaskFit
    gain: float


def find_masked(
    pool: Pool, child: str, dtype: str, sets: Sequence[ParentSet], candidates: Sequence[str]
) -> MaskedMerge | None:
    """The masked merge that `child` may be; None where masks explain no more than noise does.

    Parameters
    ----------
    sets
        What least squares offers, smallest first.
    candidates
        Possible parents beside those.
    """
    sure = _sure(sets)
    if sure is None:
        return None
    members = sure.members
    added = [name for one in sets[len(members) : len(members) + 1] for name in one.members]
    bases = _likely_bases(pool, child, sure, added, candidates)
    starts = _starts(pool, child, dtype, members, bases)
    everyone = tuple(dict.fromkeys((*sets[-1].members, *candidates)))

    @cache
    def changes_on(base: str, names: tuple[str, ...]) -> Changes:
        return changes_from(pool, child, base, names, dtype, _WORDS)

    def search_from(base: str, form: Form, among: Sequence[str] = everyone) -> MaskSearch:
        names = tuple(name for name in among if name not in (base, child))
        return MaskSearch(base, names, changes_on(base, names), form)

    searches = [
        search
        for base, form in starts
        # Small parents hide until large ones are known, and some only show where all are there.
        for names, most in ((members, _QUICK_PARENTS), (sets[-1].members, MAX_PARENTS))
        if (search := search_from(base, form)).begin(names, most)
    ]
    for search in searches:
        search.thin_out()
        search.settle()
    sound = sorted((s for s in searches if s.is_sound), key=lambda search: -search.likelihood)
    ends = [_improved(search, bases, search_from) for search in sound[:_N_FINALISTS]]
    best = max(ends, key=lambda search: search.likelihood, default=None)
    if best is None or not best.is_sound or best.fit.explained < _HOPEFUL:
        return None
    merge = _merge(pool, child, dtype, best)
    in_the_middle = merge.gain < _BEYOND_DOUBT and _is_in_the_middle(pool, child, best)
    return None if in_the_middle else merge


class _SearchFrom(Protocol):
    """Makes a search from a base by a form, among all relatives or some."""

    def __call__(self, base: str, form: Form, among: Sequence[str] = ...) -> MaskSearch: ...


def _improved(search: MaskSearch, bases: Sequence[str], search_from: _SearchFrom) -> MaskSearch:
    """The search, or one from another base, after near relatives and bases have changed places."""
    search.exchange()
    members = (*search.parents, search.base)
    others = [search_from(base, search.form, members) for base in bases if base != search.base]
    begun = [other for other in others if other.begin(members, MAX_PARENTS)]
    likeliest = max((search, *begun), key=lambda one: one.likelihood)
    if likeliest is not search:
        search = search_from(likeliest.base, likeliest.form)
        search.begin(members, MAX_PARENTS)
        search.settle()
        search.exchange()
    search.thin_out()
    search.settle()
    # From here on what is compared has come to rest: before, fewer parents seem likelier.
    for _ in range(MAX_PARENTS):
        search.polish()
        search.exchange(polished=True)
        before = set(search.parents)
        if not (search.is_sound and search.widen()):
            break
        search.settle()
        if set(search.parents) == before:  # what was added has next to no weight
            break
    return search


def _starts(
    pool: Pool, child: str, dtype: str, members: Sequence[str], bases: Sequence[str]
) -> list[tuple[str, Form]]:
    """Likely bases with their likeliest forms, on few words; none where noise does as well."""
    unmasked = -np.inf
    asked: list[tuple[str, Changes, F64, dict[Form, MaskFit]]] = []
    for base in bases:
        parents = [name for name in members if name != base]
        changes = changes_from(pool, child, base, parents, dtype, _QUICK_WORDS)
        changes = changes.of(largest(changes, _QUICK_PARENTS))
        shares = changes.least_squares()
        for by_group in (False, True):
            plain = fit_masks(
                changes, Rule.SUM, False, shares, masked=False, by_group=by_group, n_last=2
            )
            unmasked = max(unmasked, likelihood(plain, changes))
        start = usual_start(changes)
        firsts = FIRST_FORMS if len(start) > 1 else FIRST_FORMS[:1]
        asked.append((base, changes, start, {form: form.fit(changes, start, 2) for form in firsts}))
    asked.sort(key=lambda one: -max(fit.log_likelihood for fit in one[3].values()))
    tried: list[tuple[float, str, Form]] = []
    for base, changes, start, fits in asked[:_N_BASES_TRIED]:
        if len(start) > 1:
            fits |= {form: form.fit(changes, start, 2) for form in LATER_FORMS}
        form = max(fits, key=lambda one: likelihood(fits[one], changes))
        fits[form] = thinned(changes, form, fits[form])
        for form, fit in fits.items():
            # Seen from a wrong base, the true one is taken away.
            if fit.coefficients.mean(axis=0).min() > 0:
                tried.append((likelihood(fit, changes), base, form))
    tried.sort(key=lambda one: -one[0])
    if not tried or tried[0][0] < unmasked + _LEAST_GAIN:
        return []
    best = {base: (base, form) for _, base, form in reversed(tried)}
    return [best[base] for base in dict.fromkeys(one[1] for one in tried)][:_N_BASES_SEARCHED]


def _is_in_the_middle(pool: Pool, child: str, search: MaskSearch) -> bool:
    """Whether the child is clearly more of a centre than the base is.

    What they were all made from lies between them too, and few steps of rounding away masks of
    many parents explain any word. But steps that were taken apart from one another are at right
    angles where they began. With ``c_i = ⟨M−B, P_i−B⟩`` and ``V = ‖M−B‖²`` those from a merge M
    multiply to ``V − c_i`` and ``⟨P_i−B, P_j−B⟩ − c_i − c_j + V``, which are not all zero; parents
    that were trained alike slant from their base too, so the child has to do so half as much.
    """
    from_child = _slant(pool, child, [search.base, *search.parents])
    return from_child < _CENTRAL * _slant(pool, search.base, search.parents)


def _slant(pool: Pool, origin: str, ends: Sequence[str]) -> float:
    """Mean size of the cosines between the steps from one model to others."""
    o, index = pool.ids.index(origin), [pool.ids.index(name) for name in ends]
    apart = pool.squared_distance
    lengths = apart[index, o]
    products = (lengths[:, None] + lengths[None, :] - apart[np.ix_(index, index)]) / 2
    cosines = products / np.sqrt(np.maximum(np.outer(lengths, lengths), 1e-300))
    return float(np.abs(cosines[np.triu_indices(len(ends), 1)]).mean())


def _merge(pool: Pool, child: str, dtype: str, search: MaskSearch) -> MaskedMerge:
    """The merge with all words asked, weights free in every run of layers where that helps."""
    base, parents = search.base, search.parents
    changes = changes_from(pool, child, base, parents, dtype, _FINAL_WORDS)
    fits = [
        fit_masks(
            changes,
            search.form.rule,
            search.form.rescaled,
            search.fit.coefficients if search.form.by_group and free else search.mean,
            by_group=free,
            n_last=_N_LAST,
            curves=search.fit.curves,
        )
        for free in (False, True)
    ]
    free_numbers = (fits[1].coefficients.size - fits[0].coefficients.size) * WORTH
    varies = (fits[1].log_likelihood - fits[0].log_likelihood) * len(changes.child) > free_numbers
    fit = fits[1] if varies else fits[0]
    start = changes.least_squares()
    plain = fit_masks(
        changes, Rule.SUM, False, start, masked=False, by_group=varies, n_last=_N_PLAIN
    )
    return MaskedMerge(base, parents, changes, fit, fit.log_likelihood - plain.log_likelihood)


def _sure(sets: Sequence[ParentSet]) -> ParentSet | None:
    """The two or more that least squares is sure of: others take away next to nothing."""
    for smaller, larger in pairwise(sets[1:]):
        if larger.left > FLAT * smaller.left:
            return smaller
    return sets[-1] if len(sets) > 1 else None


def _likely_bases(
    pool: Pool, child: str, sure: ParentSet, added: Sequence[str], candidates: Sequence[str]
) -> tuple[str, ...]:
    """Who may be the base: whose words the child kept most often, and who is in the middle.

    The base is the centre of a star, whether least squares sees it or not, and most often of all
    that is known. Where weights add up to more than one, it is what least squares takes away, and
    where they do not, what it `added` next.
    """
    members = sure.members
    taken = [name for name, share in zip(members, sure.shares, strict=True) if share < 0]
    names = tuple(dict.fromkeys((*members, *candidates)))
    index = [pool.ids.index(name) for name in names]
    c = pool.ids.index(child)
    kept = {
        name: sum(int((v[i] == v[c]).sum()) for v in pool.values)
        for name, i in zip(names, index, strict=True)
    }
    apart = pool.squared_distance[:, [pool.ids.index(name) for name in members]].sum(axis=1)
    central = sorted(names, key=lambda name: float(apart[pool.ids.index(name)]))
    to_others = np.median(pool.squared_distance[np.ix_(index, index)], axis=1)
    middle = [names[i] for i in np.argsort(to_others)[:_N_BASES]]
    most_kept = sorted(names, key=lambda name: -kept[name])
    inside = [name for name in central if name in members]
    likely = (*most_kept[:_N_BASES], *central[:_N_BASES], *inside[:1], *middle, *taken, *added)
    return tuple(dict.fromkeys(likely))

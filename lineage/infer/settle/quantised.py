"""Quantised children: whose values were given these codes.

A source must explain every code. Where none does, the codes are those of several relatives (a merge
that was published quantised only), of a model that was quantised before, or of nobody in the
catalogue: then nothing is claimed, and the finding says what fits how far.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lineage.infer.quantised import (
    CODES_MISSED,
    TENSORS_OF,
    Coded,
    SourceMatch,
    codes_fact,
    dequantised,
    is_quantised,
    levels_used,
    method_of,
)
from lineage.infer.settle.family import OpenFamily, birth
from lineage.model import Evidence, Finding, Grade, Kind, ParentShare
from lineage.weights.fingerprint import Fingerprint

__all__ = ["settle_quantised"]

_LIKELY_CODES = 0.60
"""Least share of codes that a calibrated routine (GPTQ) leaves where rounding would put them."""
_MAX_SOURCES = 4
_MAX_LISTED = 4
_MAX_REFUTED = 8
_MANY = 64
"""Candidates from which a few tensors are looked at first."""
_SIGMAS = 3.0
_OTHER_TOKENS = "the source has another number of token rows: the vocabulary was changed"
_COARSE = 16
"""Levels of a four-bit type: neighbouring fine words of no more values were quantised before."""


def settle_quantised(family: OpenFamily) -> None:
    """Settle quantised models by holding their codes against every other model's values."""
    plain = [f for f in family.members.values() if not is_quantised(f)]
    coded = [f for f in family.members.values() if is_quantised(f)]
    again = {f.repo_id: dequantised(f) for f in coded}
    for child in family.open_models():
        if child in again:
            others = [one for name, one in again.items() if name != child]
            family.settle(_finding(family, Coded(family.members[child]), plain, others))


def _finding(
    family: OpenFamily, coded: Coded, plain: Sequence[Fingerprint], others: Sequence[Fingerprint]
) -> Finding:
    matches = [coded.match(source) for source in _worth_trying(coded, plain)]
    matches = [match for match in matches if match.codes or match.errors]
    if not matches:
        return _abstained(coded, (), "no model of the catalogue can be compared with its codes")
    wholes = [match for match in matches if match.is_whole] if coded.is_exact else []
    if wholes:
        return _sourced(family, coded, _fewest_misses(wholes), Grade.PROVED)
    pieced = _several_sources(family, coded, matches) if coded.is_exact else None
    if pieced is not None:
        return pieced
    again = [match for one in others if (match := coded.match(one)).is_whole and coded.is_exact]
    if again:
        note = "quantised a second time: its codes come from a model that was quantised already"
        return _sourced(family, coded, _fewest_misses(again), Grade.PROVED, note)
    likely = _likely(coded, matches)
    if likely:
        return _sourced(family, coded, likely, Grade.INFERRED)
    return _nobodys(family, coded, matches)


def _worth_trying(coded: Coded, sources: Sequence[Fingerprint]) -> Sequence[Fingerprint]:
    """All sources, or of many those that fit a few tensors best.

    The first, the middle and the last tensor are asked apart: a model may have several sources.
    """
    keys = tuple(coded.cells)
    if len(sources) <= _MANY or len(keys) <= 3:
        return sources
    chosen: dict[str, Fingerprint] = {}
    for key in (keys[0], keys[len(keys) // 2], keys[-1]):
        found = [(coded.part(key).match(source).loose_share, source) for source in sources]
        found.sort(key=lambda item: -item[0])
        chosen.update((source.repo_id, source) for _, source in found[:_MANY])
    return list(chosen.values())


def _fewest_misses(wholes: Sequence[SourceMatch]) -> list[SourceMatch]:
    """Sources that fit equally well; words that were never quantised decide between them."""
    least = min(match.misses for match in wholes)
    return _by_words([match for match in wholes if _as_good(match.misses, least)])


def _by_words(tied: Sequence[SourceMatch]) -> list[SourceMatch]:
    """Of equally good sources those that also share most of what was never quantised."""
    best = max((match.has_its_tokens, match.n_words_kept) for match in tied)
    return [match for match in tied if (match.has_its_tokens, match.n_words_kept) == best]


def _as_good(misses: int, least: int) -> bool:
    """Whether so many misses are no more than the fewest, up to chance.

    A source misses no code at all; only where the best misses some can another be as good.
    """
    return misses == least or (least > 0 and misses - least <= _SIGMAS * math.sqrt(misses + least))


def _likely(coded: Coded, matches: Sequence[SourceMatch]) -> list[SourceMatch]:
    """Sources that fit as far as an unknown routine lets them, and better than all others."""
    if all(cell is None for cell in coded.cells.values()):
        return _least_error(matches)
    passed = [match for match in matches if match.is_whole or match.is_near]
    if not passed and not coded.is_exact:
        passed = [match for match in matches if match.loose_share >= _LIKELY_CODES]
    if not passed:
        return []
    firsts = [match for match in passed if match.is_whole] or passed
    misses = {match.source: _loose_misses(match) for match in firsts}
    least = min(misses.values())
    return _by_words([match for match in firsts if _as_good(misses[match.source], least)])


def _loose_misses(match: SourceMatch) -> int:
    fit, n = (sum(column) for column in zip(*match.loose.values(), strict=True))
    return int(n - fit) + match.misses


def _least_error(matches: Sequence[SourceMatch]) -> list[SourceMatch]:
    """Sources of codes without cells: unquantised words equal, and the least error but for chance.

    Errors are compared tensor by tensor; a mean difference of three standard errors decides.
    """
    kept = max(match.n_words_kept for match in matches)
    if not kept:
        return []
    passed = [match for match in matches if match.n_words_kept == kept]
    best = min(passed, key=lambda match: sum(error for error, _ in match.errors.values()))
    tied = []
    for match in passed:
        keys = match.errors.keys() & best.errors.keys()
        more = np.array([match.errors[key][0] - best.errors[key][0] for key in sorted(keys)])
        error = float(more.std(ddof=1) / math.sqrt(len(more))) if len(more) > 1 else math.inf
        if match is best or not float(more.mean()) > _SIGMAS * error:
            tied.append(match)
    return tied


def _sourced(
    family: OpenFamily,
    coded: Coded,
    tied: Sequence[SourceMatch],
    grade: Grade,
    note: str = "",
) -> Finding:
    """A finding of one source, or of several that cannot be told apart."""
    names = [match.source for match in tied]
    parent = min(names, key=lambda name: (_n_copies_away(family, name), birth(family.dates, name)))
    match = next(match for match in tied if match.source == parent)
    others = [name for name in names if name != parent and not _is_copy_of(family, name, parent)]
    evidence = [fact for fact in (_codes(coded, match), _words(match)) if fact is not None]
    if n_copies := len(names) - 1 - len(others):
        told = f"{n_copies} copies of {parent} would be given the same codes"
        evidence.append(Evidence("equal_sources", float(n_copies), told))
    if others:
        told = f"{_listed([parent, *others])} would be given the same codes"
        evidence.append(Evidence("equal_sources", float(len(others)), told))
        note = "several models round to the same codes: they differ by less than these tell"
    if not match.has_its_tokens:
        grade = Grade.INFERRED
    return Finding(
        coded.fingerprint.repo_id,
        Kind.QUANTIZED,
        Grade.TIE if others else grade,
        (ParentShare(parent, 1.0),),
        ties=(parent, *sorted(others)) if others else (),
        method=method_of(coded.fingerprint),
        evidence=tuple(evidence),
        note=note or ("" if match.has_its_tokens else _OTHER_TOKENS),
    )


def _several_sources(
    family: OpenFamily, coded: Coded, matches: Sequence[SourceMatch]
) -> Finding | None:
    """The fewest models that own the codes of all tensors, as of a merge quantised unpublished."""
    missing = {key for match in matches for key in match.codes}
    n_tensors = len(missing)
    chosen: list[tuple[SourceMatch, int]] = []
    while missing and len(chosen) < _MAX_SOURCES:
        best = min(
            matches,
            key=lambda match: (
                -len(match.held & missing),
                _n_copies_away(family, match.source),
                birth(family.dates, match.source),
            ),
        )
        n_new = len(best.held & missing)
        if not n_new:
            return None
        chosen.append((best, n_new))
        missing -= best.held
    if missing or len(chosen) < 2:
        return None
    facts = tuple(_tensors(match, n, n_tensors) for match, n in chosen)
    return Finding(
        coded.fingerprint.repo_id,
        Kind.QUANTIZED,
        Grade.INFERRED,
        tuple(ParentShare(match.source, n / n_tensors) for match, n in chosen),
        method=method_of(coded.fingerprint),
        evidence=facts,
        note="no single model has the values that were quantised: tensors come from several",
    )


def _nobodys(family: OpenFamily, coded: Coded, matches: Sequence[SourceMatch]) -> Finding:
    """An abstention that says what fits how far."""
    nearest = sorted(matches, key=lambda match: (-match.loose_share, match.source))
    fact = _codes(coded, nearest[0])
    facts = [fact] if fact is not None else []
    if coded.is_exact:
        facts += [_missed(match) for match in nearest[:_MAX_REFUTED] if match.codes]
    owners = [match for match in matches if match.held]
    owners.sort(key=lambda match: (-len(match.held), birth(family.dates, match.source)))
    facts += [_tensors(match, len(match.held), len(match.codes)) for match in owners[:_MAX_LISTED]]
    note = "no model of the catalogue has the values that were quantised"
    levels = levels_used(coded.fingerprint)
    if levels is not None and levels <= _COARSE:
        told = f"32 neighbouring values are at most {levels} different ones"
        facts.append(Evidence("levels_used", float(levels), told))
        note += "; these had been quantised before, to no more than four bits"
    elif owners:
        note += f"; some of its tensors are those of {owners[0].source}"
    return _abstained(coded, facts, note)


def _abstained(coded: Coded, facts: Sequence[Evidence], note: str) -> Finding:
    return Finding(
        coded.fingerprint.repo_id,
        Kind.QUANTIZED,
        Grade.ABSTAIN,
        method=method_of(coded.fingerprint),
        evidence=tuple(facts),
        note=note,
    )


def _codes(coded: Coded, match: SourceMatch) -> Evidence | None:
    found = codes_fact(coded, match)
    return None if found is None else found[1]


def _words(match: SourceMatch) -> Evidence | None:
    """How many tensors that stayed unquantised are the source's."""
    if not match.words:
        return None
    n_equal = sum(equal == n for equal, n in match.words.values())
    told = (
        f"{n_equal} of {len(match.words)} tensors that were left unquantised have the words of "
        f"{match.source}"
    )
    return Evidence("unquantised_words", n_equal / len(match.words), told)


def _tensors(match: SourceMatch, n: int, n_tensors: int) -> Evidence:
    told = f"{n} of {n_tensors} quantised tensors have the codes of {match.source}"
    return Evidence(f"{TENSORS_OF}{match.source}", n / n_tensors, told)


def _missed(match: SourceMatch) -> Evidence:
    """That one model is not the source, which would have every code."""
    fit, n = match.total
    told = f"{n - fit} of {n} codes cannot come from {match.source}; a source misses none"
    return Evidence(f"{CODES_MISSED}{match.source}", (n - fit) / n, told)


def _listed(names: Sequence[str]) -> str:
    shown = [*names[:_MAX_LISTED]]
    if len(names) > _MAX_LISTED:
        shown.append(f"{len(names) - _MAX_LISTED} more")
    return " and ".join([", ".join(shown[:-1]), shown[-1]])


def _is_copy_of(family: OpenFamily, name: str, other: str) -> bool:
    """Whether two models are exact copies of one, or one of the other."""
    return not {name, *_copied(family, name)}.isdisjoint({other, *_copied(family, other)})


def _n_copies_away(family: OpenFamily, name: str) -> int:
    """How many exact-copy steps lie between `name` and an original."""
    return len(_copied(family, name))


def _copied(family: OpenFamily, name: str) -> list[str]:
    """The models that `name` is a copy of, nearest first."""
    chain: list[str] = []
    while (finding := family.findings.get(name)) and finding.parents:
        name = finding.parents[0].parent
        if name in chain:
            break
        chain.append(name)
    return chain

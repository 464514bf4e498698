"""Copies that are exact on some grid: duplicates, casts, edited vocabularies, disguised copies.

Each function compares one ordered pair and answers with a :class:`Copy` ("`child` came from
`parent`") or None. The direction is certain where the operation loses something; where it loses
nothing (duplicates, permutations) the answer says so and the caller decides by date.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lineage.infer.disguises import find_disguise
from lineage.infer.token_rows import (
    TOKEN_ROLES,
    TOKEN_VECTORS,
    aligned_values,
    common_rows,
    compare_vocabularies,
)
from lineage.model import Evidence, Kind, VocabularyMap
from lineage.weights.encodings import round_to
from lineage.weights.fingerprint import Fingerprint, Sample

__all__ = ["Copy", "find_copy", "is_duplicate"]

_MANTISSA_BITS = {"F64": 52, "F32": 23, "F16": 10, "BF16": 7}
_ALL_WORDS = 0.9995
_NEARLY_ALL = 0.99
"""Share of the values from which a cast is as well a parent: float16 loses the tiniest alone."""
"""Share of equal words that counts as all: casts of subnormal values differ between libraries."""
_FFN = ("up", "gate", "down", "up.bias", "gate.bias")
_MIN_TOKENS = 8
_ALPHABET = 8
"""Neighbouring characters that make an alphabet; chance makes hardly one."""


@dataclass(frozen=True, slots=True)
class Copy:
    """How a child repeats its parent exactly, and whether the direction is certain."""

    kind: Kind
    directed: bool
    evidence: tuple[Evidence, ...]
    vocabulary_map: VocabularyMap | None = None


def is_duplicate(a: Fingerprint, b: Fingerprint) -> bool:
    """Whether two models hold the same files, or the same words in every sampled row."""
    if a.file_digests and a.file_digests == b.file_digests:
        return True
    return a.samples.keys() == b.samples.keys() and all(
        sample.dtype == b.samples[key].dtype
        and sample.shape == b.samples[key].shape
        and sample.words == b.samples[key].words
        for key, sample in a.samples.items()
    )


def find_copy(child: Fingerprint, parent: Fingerprint) -> Copy | None:
    """How `child` is an exact copy of `parent`, if it is one."""
    if is_duplicate(child, parent):
        same_files = bool(child.file_digests) and child.file_digests == parent.file_digests
        return Copy(
            Kind.DUPLICATE,
            False,
            (
                Evidence(
                    "equal_words",
                    1.0,
                    "the weight files have equal sha256 digests"
                    if same_files
                    else "every sampled word is equal, in other files",
                ),
            ),
        )
    if child.samples.keys() != parent.samples.keys():
        return None
    return (
        _cast(child, parent)
        or _permuted(child, parent)
        or _vocabulary(child, parent)
        or _disguised(child, parent)
    )


def _cast(child: Fingerprint, parent: Fingerprint) -> Copy | None:
    if child.shape_signature != parent.shape_signature or child.dtype == parent.dtype:
        return None
    to, origin = _MANTISSA_BITS.get(child.dtype), _MANTISSA_BITS.get(parent.dtype)
    if to is None or origin is None:
        return None
    equal = rounded = total = 0
    for key, sample in child.samples.items():
        other = parent.samples[key]
        if sample.dtype not in _MANTISSA_BITS:
            return None
        x, y = common_rows(sample, other)
        equal += int((x == y).sum())
        rounded += int((x == round_to(sample.dtype, y)).sum())
        total += x.size
    # Widening is exact; narrowing may round ties, and the tiniest numbers, in other ways.
    least = total if to >= _MANTISSA_BITS["F32"] else _ALL_WORDS * total
    if not total or rounded < least:
        return None
    lossless = equal / total >= _ALL_WORDS
    if lossless and to < origin:
        return None  # the parent only looks wider: its low mantissa bits are zero, so it came later
    share = rounded / total
    cast = Evidence(
        "equal_after_cast",
        share,
        f"rounding {parent.dtype} to {child.dtype} gives {100 * share:.2f} % of the words",
    )
    if equal / total < _NEARLY_ALL:
        return Copy(Kind.CAST, True, (cast,))
    said = "nothing" if lossless else f"{100 * (1 - equal / total):.2f} % of the values"
    kept = Evidence("equal_values", equal / total, f"the cast lost {said}")
    return Copy(Kind.CAST, True, (cast, kept))


def _permuted(child: Fingerprint, parent: Fingerprint) -> Copy | None:
    """Equal outside the feed-forward blocks, and there the same units in another order."""
    if child.shape_signature != parent.shape_signature or child.dtype != parent.dtype:
        return None
    found = expected = 0.0
    moved = 0
    for key, sample in child.samples.items():
        other = parent.samples[key]
        if key.role not in _FFN:
            if sample.words != other.words:
                return None
        elif key.role in ("up", "gate"):
            ours, theirs = _unit_digests(sample), _unit_digests(other)
            n_units = sample.shape[1] if sample.transposed else sample.shape[0]
            found += len(ours & theirs)
            expected += len(ours) * len(theirs) / n_units
            moved += sample.words != other.words
    if not moved or found < 0.5 * expected or found < 2:
        return None
    return Copy(
        Kind.PERMUTED,
        False,
        (
            Evidence(
                "units_found",
                found,
                f"{found:.0f} sampled feed-forward units stand in another place of "
                f"{moved} matrices ({expected:.0f} expected of a permutation); the rest is equal",
            ),
        ),
    )


def _unit_digests(sample: Sample) -> set[bytes]:
    return {row.tobytes() for row in np.ascontiguousarray(sample.units)}


def _disguised(child: Fingerprint, parent: Fingerprint) -> Copy | None:
    disguise = find_disguise(child, parent)
    if disguise is None:
        return None
    return Copy(Kind.PERMUTED, disguise.directed, disguise.evidence)


def _vocabulary(child: Fingerprint, parent: Fingerprint) -> Copy | None:
    """Token rows were appended, dropped or numbered anew, and nothing else was touched."""
    vocabulary = compare_vocabularies(child, parent)
    if vocabulary is None or vocabulary.n_compared < _MIN_TOKENS:
        return None
    for key, sample in child.samples.items():
        other = parent.samples[key]
        x, y = aligned_values(child, parent, key)
        if x.size == 0 or not np.array_equal(x, y):
            return None
        if sample.shape != other.shape and key.role not in (*TOKEN_ROLES, *TOKEN_VECTORS):
            return None
    if vocabulary.n_renumbered:
        # Whoever appends tokens keeps the numbers of the others; whoever drops some may not.
        directed = vocabulary.n_added < 0 or _lost_its_alphabet(child, parent)
        possible = vocabulary.n_added <= 0 and not _lost_its_alphabet(parent, child)
    else:
        directed = possible = vocabulary.n_added > 0
    if not possible:
        return None
    evidence = Evidence("equal_words", 1.0, f"{vocabulary.text}; every other word is equal")
    return Copy(Kind.VOCABULARY, directed, (evidence,), vocabulary.map)


def _lost_its_alphabet(child: Fingerprint, parent: Fingerprint) -> bool:
    """Whether characters that stand in a row in the parent's vocabulary do so no more.

    Vocabularies begin with an alphabet in order; numbering tokens anew scatters it.
    """
    before, after = _characters_in_order(parent), _characters_in_order(child)
    return before >= _ALPHABET and after <= before / 4


def _characters_in_order(model: Fingerprint) -> int:
    """Sampled tokens of one character that the next character follows in the next row."""
    characters = {row: ord(t) for row, t in model.tokens.items() if len(t) == 1}
    return sum(characters.get(row + 1) == code + 1 for row, code in characters.items())

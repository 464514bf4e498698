"""What kind of change leads from a parent to its child, read from ``δ = C − P``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage.infer.relatedness import common_rows
from lineage.infer.surgery import LowRank, RemovedDirections, Step, low_rank, removed_directions
from lineage.model import Evidence, Kind, VocabularyMap
from lineage.weights.encodings import round_to
from lineage.weights.fingerprint import Fingerprint, Sample
from lineage.weights.roles import TensorKey

__all__ = ["Change", "describe_change", "frozen_share"]

F64 = NDArray[np.float64]

_CONTINUED = 0.10
"""Relative change from which training counts as continued pre-training, not fine-tuning."""
_COARSE = ("F16", "BF16")
_TOKENS = ("embed", "head")


@dataclass(frozen=True, slots=True)
class Change:
    """The kind of a change, its rank if low, its size, and why.

    `target_modules` are the roles of the matrices that a low-rank change touched;
    `vocabulary_map` tells of tokens that came or went, None where that is not known.
    """

    kind: Kind
    rank: int | None
    relative: float
    evidence: tuple[Evidence, ...]
    target_modules: tuple[str, ...] = ()
    vocabulary_map: VocabularyMap | None = None


def describe_change(child: Fingerprint, parent: Fingerprint) -> Change:
    """Classify the change from `parent` to `child`, two models of one layout.

    A parent of a finer type is compared as the child's type rounds it. Rows of tokens are compared
    by token where both models tell their tokens, else by number.
    """
    order = _numbered_anew(child, parent)
    steps = {}
    for key in sorted(child.samples.keys() & parent.samples.keys()):
        ours, theirs = child.samples[key], parent.samples[key]
        by_token = order if order is not None and key.role in _TOKENS else None
        x, y = common_rows(ours, theirs) if by_token is None else _by_token(ours, theirs, by_token)
        if x.shape == y.shape and x.size:
            steps[key] = _step(ours, x, y)
    moved = float(sum((step.delta**2).sum() for step in steps.values()))
    size = float(sum((step.before**2).sum() for step in steps.values()))
    relative = float(np.sqrt(moved / size)) if size else 0.0
    n_words = sum(step.before.size for step in steps.values())
    n_equal = sum(int((step.delta == 0).sum()) for step in steps.values())
    sizes = (
        Evidence("relative_change", relative, f"the weights moved by {100 * relative:.3g} %"),
        Evidence(
            "words_untouched",
            n_equal / n_words if n_words else None,
            f"{100 * n_equal / n_words:.1f} % of the sampled words are untouched"
            if n_words
            else "nothing was comparable",
        ),
    )
    tokens = None if order is not None else _appended(child, parent)
    if order is not None or tokens is not None:
        reason = _vocabulary_fact(order is not None, tokens)
        return Change(Kind.VOCABULARY, None, relative, (reason, *sizes), vocabulary_map=tokens)
    removed = removed_directions(steps)
    if removed is not None:
        reasons = _removed_facts(removed)
        return Change(Kind.ABLITERATED, removed.n_directions, relative, (*reasons, *sizes))
    found = low_rank(steps)
    if found is not None:
        reason = _rank_fact(found)
        modules = tuple(found.by_module)
        return Change(Kind.LORA_MERGED, found.rank, relative, (reason, *sizes), modules)
    kind = Kind.CONTINUED_PRETRAINING if relative >= _CONTINUED else Kind.FINETUNE
    return Change(kind, None, relative, sizes)


def _step(sample: Sample, after: NDArray[np.float32], before: NDArray[np.float32]) -> Step:
    """A tensor before and after; what rounding to the child's type alone changed is no change."""
    if sample.dtype in _COARSE and np.array_equal(round_to(sample.dtype, before), after):
        before = after
    return Step(sample, before.astype(np.float64), after.astype(np.float64))


# vocabularies


def _token_rows(fingerprint: Fingerprint) -> int | None:
    embedding = fingerprint.samples.get(TensorKey("embed"))
    return None if embedding is None else embedding.shape[0]


def _numbered_anew(child: Fingerprint, parent: Fingerprint) -> Mapping[int, int] | None:
    """Row of the parent by row of the child, for sampled tokens, if most have another number."""
    number = {token: row for row, token in parent.tokens.items()}
    order = {row: number[token] for row, token in child.tokens.items() if token in number}
    moved = sum(ours != theirs for ours, theirs in order.items())
    return order if 2 * moved > len(order) else None


def _by_token(
    ours: Sample, theirs: Sample, order: Mapping[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Rows of the same tokens; empty if widths differ."""
    place = {row: at for at, row in enumerate(theirs.rows)}
    pairs = [
        (at, place[order[row]])
        for at, row in enumerate(ours.rows)
        if row in order and order[row] in place
    ]
    if not pairs or ours.values.shape[1] != theirs.values.shape[1]:
        return ours.values[:0], theirs.values[:0]
    mine, others = (list(side) for side in zip(*pairs, strict=True))
    return ours.values[mine], theirs.values[others]


def _appended(child: Fingerprint, parent: Fingerprint) -> VocabularyMap | None:
    """Rows that came or went at the end of the vocabulary; None where none did or is known."""
    ours, theirs = _token_rows(child), _token_rows(parent)
    if ours is None or theirs is None or ours == theirs:
        return None
    return VocabularyMap(min(ours, theirs), 0, max(0, ours - theirs), max(0, theirs - ours))


def _vocabulary_fact(is_renumbered: bool, tokens: VocabularyMap | None) -> Evidence:
    if is_renumbered:
        return Evidence("token_rows", 1.0, "the tokens were numbered anew")
    n = 0 if tokens is None else tokens.appended - tokens.dropped
    words = f"{abs(n)} rows of tokens were {'appended' if n > 0 else 'dropped'}"
    return Evidence("token_rows", float(n), words)


# surgery in words


def _removed_facts(removed: RemovedDirections) -> tuple[Evidence, ...]:
    one = removed.n_directions == 1
    text = (
        f"{'one direction was' if one else f'{removed.n_directions} directions were'} removed from "
        f"{removed.n_writers} of {removed.n_asked} matrices that write to the residual stream"
    )
    arrow, told = None, ""
    if removed.removed is not None:
        arrow, told = -removed.removed, f", {100 * removed.removed:.0f} % of what was there"
    return (
        Evidence("removed_direction", arrow, text + told),
        Evidence(
            "removed_share",
            removed.share,
            f"{100 * removed.share:.0f} % of these matrices' change lies along it; "
            f"its sampled components have the digest {removed.digest}",
        ),
    )


def _rank_fact(found: LowRank) -> Evidence:
    ranks = ", ".join(
        role if rank is None else f"{role} {rank}" for role, rank in found.by_module.items()
    )
    about = "low rank" if found.rank is None else f"rank {found.rank}"
    text = f"{found.n_matrices} matrices changed by a {about} ({ranks})"
    text += (
        f"; trained whole: {', '.join(found.saved)}" if found.saved else "; the rest is untouched"
    )
    return Evidence("rank", None if found.rank is None else float(found.rank), text)


def frozen_share(child: Fingerprint, parent: Fingerprint) -> float:
    """Share of the tensors that two models have in common, word for word."""
    shared = child.samples.keys() & parent.samples.keys()
    equal = sum(child.samples[key].words == parent.samples[key].words for key in shared)
    return equal / len(shared) if shared else 0.0

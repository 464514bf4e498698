"""Score findings, edges and family tests against known ancestry. Pure.

Every figure has its denominator beside it. Two models are truly *related* if one descends from
the other or both from a third. A model whose weights cannot testify (an adapter repository, or one
that could not be read) is *mute*; figures ending in ``_all`` count what is lost to mute models as
missed, the others leave it out and say how much that was.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from lineage.infer.truth import TrueModel, Truth
from lineage.model import Edge, Finding, Grade, Kind, PairVerdict, Verdict

__all__ = [
    "CommonInit",
    "Counted",
    "DirectParents",
    "MergeScore",
    "Pairs",
    "Score",
    "score",
]

_DECIDED = frozenset({Grade.PROVED, Grade.INFERRED})
_SHARED_METHODS = ("linear", "slerp")


@dataclass(frozen=True, slots=True)
class Counted:
    """`right` of `n`; `value` is their quotient, NaN when there was nothing to count."""

    right: int
    n: int

    @property
    def value(self) -> float:
        """The share that was right."""
        return self.right / self.n if self.n else math.nan


@dataclass(frozen=True, slots=True)
class CommonInit:
    """What was said of pairs that share an initialisation and no training."""

    n: int
    as_common_init: int
    as_related: int
    as_unrelated: int


@dataclass(frozen=True, slots=True)
class Pairs:
    """Related-pair test over all pairs of readable models, pairs of one initialisation apart.

    A pair that was not compared counts as called unrelated. `n_mute` pairs involve a mute model,
    `n_mute_related` of them are truly related. A truly unrelated pair that is called
    ``common_init`` is a false positive.
    """

    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int
    n_mute: int
    n_mute_related: int
    common_init: CommonInit
    false_pairs: tuple[tuple[str, str], ...]

    @property
    def recall(self) -> Counted:
        """Related pairs that were found, of those between readable models."""
        return Counted(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def recall_all(self) -> Counted:
        """Related pairs that were found, of all related pairs."""
        return Counted(self.true_positives, self.recall.n + self.n_mute_related)


@dataclass(frozen=True, slots=True)
class DirectParents:
    """Direct parents of single-parent children.

    `precision` is over models with at most one parent for which a parent was decided (proved or
    inferred): a founder that was given a parent is wrong, and so is a child that was given two.
    The figures up to copies accept a duplicate or cast of the true parent.
    """

    precision: Counted
    recall: Counted
    recall_all: Counted
    precision_up_to_copies: Counted
    recall_up_to_copies: Counted
    ties: Counted
    wrong: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class MergeScore:
    """Parent sets of merges: true, false and missed parents, and how many sets are exact."""

    n: int
    exact: int
    true_positives: int
    false_positives: int
    false_negatives: int
    coefficient_error: float
    n_coefficients: int

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall of parents over all merges."""
        counted = 2 * self.true_positives + self.false_positives + self.false_negatives
        return 2 * self.true_positives / counted if counted else math.nan


@dataclass(frozen=True, slots=True)
class Score:
    """All figures. `merges` and `merges_up_to_copies` are by method, with ``all`` for every one."""

    n_models: int
    n_mute: int
    pairs: Pairs
    direct_parents: DirectParents
    direction: Counted
    kind: Counted
    confusions: tuple[tuple[str, str, str], ...]
    abstentions: tuple[str, ...]
    merges: Mapping[str, MergeScore]
    merges_up_to_copies: Mapping[str, MergeScore]
    coefficient_error: float
    n_coefficients: int
    layer_maps: Counted
    layer_maps_up_to_copies: Counted
    methods: Counted
    ranks: Counted


def score(
    truth: Truth,
    findings: Sequence[Finding],
    edges: Sequence[Edge],
    verdicts: Mapping[tuple[str, str], str],
    mute: Collection[str],
) -> Score:
    """Score a register against `truth`.

    Parameters
    ----------
    truth
        Known ancestry.
    findings, edges
        What was inferred and published; declared edges are no predictions and are passed over.
    verdicts
        Verdict of the family test by pair ``(a, b)``, ``a < b``.
    mute
        Models that could not be read. Models that are truly adapters are added to them.
    """
    silent = {
        name for name, model in truth.models.items() if name in mute or model.kind is Kind.ADAPTER
    }
    found = {finding.child: finding for finding in findings if finding.child in truth.models}
    decided = _decided(edges, truth)
    heard = [model for name, model in truth.models.items() if name not in silent]
    kinds = [(model, found[model.model]) for model in heard if model.model in found]
    merges = [model for model in truth.models.values() if len(model.parents) > 1]
    strict = _merges(merges, decided, truth, up_to_copies=False)
    shared = [strict[method] for method in _SHARED_METHODS if method in strict]
    n_coefficients = sum(one.n_coefficients for one in shared)
    error = sum(one.coefficient_error * one.n_coefficients for one in shared if one.n_coefficients)
    return Score(
        len(truth.models),
        len(silent),
        _pairs(truth, verdicts, silent),
        _direct_parents(truth, edges, decided, found, silent),
        _direction(truth, decided),
        Counted(sum(model.kind is one.kind for model, one in kinds), len(heard)),
        tuple(
            (model.model, str(model.kind), str(one.kind))
            for model, one in kinds
            if model.kind is not one.kind
        ),
        tuple(sorted(name for name, one in found.items() if one.grade is Grade.ABSTAIN)),
        strict,
        _merges(merges, decided, truth, up_to_copies=True),
        error / n_coefficients if n_coefficients else math.nan,
        n_coefficients,
        _layer_maps(truth, found, up_to_copies=False),
        _layer_maps(truth, found, up_to_copies=True),
        Counted(
            sum(
                (one := found.get(model.model)) is not None and one.method == model.method
                for model in merges
            ),
            len(merges),
        ),
        _ranks(heard, found),
    )


def _decided(edges: Sequence[Edge], truth: Truth) -> dict[str, dict[str, float | None]]:
    """Decided parents and their shares by child."""
    decided: dict[str, dict[str, float | None]] = {}
    for edge in edges:
        stands = edge.grade in _DECIDED and edge.verdict is not Verdict.CONTRADICTED
        if stands and edge.child in truth.models:
            decided.setdefault(edge.child, {})[edge.parent] = edge.weight
    return decided


def _pairs(truth: Truth, verdicts: Mapping[tuple[str, str], str], silent: Collection[str]) -> Pairs:
    counts = {(said, true): 0 for said in (True, False) for true in (True, False)}
    init = dict.fromkeys(("common_init", "related", "unrelated"), 0)
    n_mute = n_mute_related = 0
    false_pairs = []
    for a, b in combinations(sorted(truth.models), 2):
        related = truth.are_related(a, b)
        if a in silent or b in silent:
            n_mute += 1
            n_mute_related += related
            continue
        verdict = verdicts.get((a, b), PairVerdict.UNRELATED)
        if not related and truth.share_initialisation(a, b):
            init[str(verdict) if verdict in init else "unrelated"] += 1
            continue
        said = verdict == PairVerdict.RELATED or (
            not related and verdict == PairVerdict.COMMON_INIT
        )
        counts[said, related] += 1
        if said and not related:
            false_pairs.append((a, b))
    return Pairs(
        counts[True, True],
        counts[True, False],
        counts[False, False],
        counts[False, True],
        n_mute,
        n_mute_related,
        CommonInit(sum(init.values()), init["common_init"], init["related"], init["unrelated"]),
        tuple(false_pairs),
    )


def _direct_parents(
    truth: Truth,
    edges: Sequence[Edge],
    decided: Mapping[str, Mapping[str, float | None]],
    found: Mapping[str, Finding],
    silent: Collection[str],
) -> DirectParents:
    single = {m.model: m.parents[0][0] for m in truth.models.values() if len(m.parents) == 1}
    at_most_one = {name for name, model in truth.models.items() if len(model.parents) <= 1}
    n_decided = n_exact = n_alike = 0
    wrong = []
    for child in sorted(at_most_one & decided.keys()):
        said = set(decided[child])
        n_decided += 1
        parent = single.get(child)
        exact = said == {parent}
        alike = (
            parent is not None
            and len(said) == 1
            and (exact or truth.original(next(iter(said))) == truth.original(parent))
        )
        n_exact += exact
        n_alike += alike
        if not exact:
            wrong.append((child, ", ".join(sorted(said))))
    tied = [edge for edge in edges if edge.grade is Grade.TIE and edge.child in single]
    containing = sum(
        single[edge.child]
        in {edge.parent, *(found[edge.child].ties if edge.child in found else ())}
        for edge in tied
    )
    n_heard = len(single.keys() - set(silent))
    return DirectParents(
        Counted(n_exact, n_decided),
        Counted(n_exact, n_heard),
        Counted(n_exact, len(single)),
        Counted(n_alike, n_decided),
        Counted(n_alike, n_heard),
        Counted(containing, len(tied)),
        tuple(wrong),
    )


def _direction(truth: Truth, decided: Mapping[str, Mapping[str, float | None]]) -> Counted:
    """Decided edges between a true parent and its child: how many point the right way."""
    right = wrong = 0
    for child, parents in decided.items():
        for parent in parents:
            right += parent in truth.models[child].parent_names
            other = truth.models.get(parent)
            wrong += other is not None and child in other.parent_names
    return Counted(right, right + wrong)


def _merges(
    merges: Sequence[TrueModel],
    decided: Mapping[str, Mapping[str, float | None]],
    truth: Truth,
    *,
    up_to_copies: bool,
) -> dict[str, MergeScore]:
    methods = sorted({model.method or str(model.kind) for model in merges})
    scored = {
        method: _score_merges(
            [model for model in merges if (model.method or str(model.kind)) == method],
            decided,
            truth,
            up_to_copies,
        )
        for method in methods
    }
    scored["all"] = _score_merges(merges, decided, truth, up_to_copies)
    return scored


def _score_merges(
    merges: Sequence[TrueModel],
    decided: Mapping[str, Mapping[str, float | None]],
    truth: Truth,
    up_to_copies: bool,
) -> MergeScore:
    exact = hits = false = missed = 0
    errors = []
    for model in merges:
        true = {_name(name, truth, up_to_copies): weight for name, weight in model.parents}
        said = {
            _name(name, truth, up_to_copies): weight
            for name, weight in decided.get(model.model, {}).items()
        }
        exact += true.keys() == said.keys()
        hits += len(true.keys() & said.keys())
        false += len(said.keys() - true.keys())
        missed += len(true.keys() - said.keys())
        total = sum(weight for weight in true.values() if weight is not None)
        for name in true.keys() & said.keys() if model.has_shares and total > 0 else ():
            share, weight = true[name], said[name]
            if share is not None and weight is not None:
                errors.append(abs(share / total - weight))
    return MergeScore(
        len(merges),
        exact,
        hits,
        false,
        missed,
        sum(errors) / len(errors) if errors else math.nan,
        len(errors),
    )


def _name(model: str, truth: Truth, up_to_copies: bool) -> str:
    return truth.original(model) if up_to_copies else model


def _layer_maps(truth: Truth, found: Mapping[str, Finding], *, up_to_copies: bool) -> Counted:
    mapped = [model for model in truth.models.values() if model.layer_map]
    exact = 0
    for model in mapped:
        finding = found.get(model.model)
        if finding is not None:
            layers = sorted(finding.layer_map, key=lambda source: source.child_layer)
            said = [(_name(s.parent, truth, up_to_copies), s.parent_layer) for s in layers]
            exact += said == [
                (_name(parent, truth, up_to_copies), layer) for parent, layer in model.layer_map
            ]
    return Counted(exact, len(mapped))


def _ranks(heard: Sequence[TrueModel], found: Mapping[str, Finding]) -> Counted:
    ranked = [model for model in heard if model.kind is Kind.LORA_MERGED and model.rank]
    right = sum(
        (one := found.get(model.model)) is not None and one.rank == model.rank for model in ranked
    )
    return Counted(right, len(ranked))

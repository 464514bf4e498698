"""The numbers behind a finding, computed again from the stored words of a child and a parent.

:func:`explain_pair` says what two models look like beside each other, whether or not a finding
links them; :func:`recheck_pair` and :func:`recheck_finding` say whether what was stored still comes
out. Nothing here decides anything: what is asserted is the finding's to say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lineage.infer.change import describe_change
from lineage.infer.geometry import Pool, make_pool
from lineage.infer.identity import find_copy
from lineage.infer.layers import expert_origin, layer_digests, similar_layers
from lineage.infer.merges import fit_mixture
from lineage.infer.quantised import dequantised, is_quantised, replay_codes
from lineage.infer.relatedness import test_pair
from lineage.infer.rooting import lattice_odds
from lineage.infer.rounding import rounding_arrow
from lineage.infer.side_by_side import (
    MATCHED_ROLES,
    LayerMatch,
    TensorPair,
    TokenRows,
    compare_tensors,
    compare_tokens,
    laid_along,
    match_layers,
)
from lineage.model import Evidence, Finding, Grade, Kind, LayerSource, PairTest
from lineage.weights.fingerprint import Fingerprint

__all__ = [
    "Coefficients",
    "Direction",
    "Inherited",
    "PairExplanation",
    "Recheck",
    "explain_pair",
    "fit_parents",
    "inherited_share",
    "recheck_finding",
    "recheck_pair",
]

_SAME = 1e-6
"""Relative difference that the order of a sum may make."""
_OTHER_ROWS = 5e-3
"""A family's pool holds the rows that all members share, a pair's may hold more."""


@dataclass(frozen=True, slots=True)
class Direction:
    """Witnesses of which of two models came first, should one have been trained from the other.

    Attributes
    ----------
    arrow, arrow_error
        ``⟨C−P, P⟩/‖C−P‖²`` and its standard error over tensors; above −½ speaks for the parent as
        the older. None where no value differs, or one tensor alone does not tell the error.
    grid
        Number type whose rounding is asked; ``F32`` is too fine to tell.
    n_left, n_entered
        Words that crossed a power of two by one step, downwards from the parent and up to it.
    rounding_log_odds
        What these counts say; positive where the parent is the older
        (:mod:`lineage.infer.rounding`). 0: nothing.
    lattice_log_odds
        What the finer of two number types says, with the same sign (:mod:`lineage.infer.lattice`).
        0: nothing.
    embedding_growth
        Cosine of the embedding's step with where it stood; training carries it away from 0.
    """

    arrow: float | None
    arrow_error: float | None
    grid: str
    n_left: int
    n_entered: int
    rounding_log_odds: float
    lattice_log_odds: float
    embedding_growth: float


@dataclass(frozen=True, slots=True)
class Inherited:
    """How much of what the parent had changed since a `reference` the child carries.

    `share` and its standard error are None where the parent left no mark. `kept` and `reverted`
    count words that the parent changed: still as the parent has them, or as the reference has them.
    """

    reference: str
    share: float | None
    error: float | None
    kept: int
    reverted: int


@dataclass(frozen=True, slots=True)
class Coefficients:
    """A child fitted by several parents at once, every tensor by itself.

    Attributes
    ----------
    tensors
        Role, layer (None: outside), expert (None: none), values, and one coefficient a parent.
    means
        Mean coefficient of each parent over values.
    match
        Share of the child's values that the rounded fit reproduces.
    """

    parents: tuple[str, ...]
    tensors: tuple[tuple[str, int | None, int | None, int, tuple[float, ...]], ...]
    means: tuple[float, ...]
    match: float

    def by_layer(self) -> tuple[tuple[int | None, tuple[float, ...]], ...]:
        """Mean coefficient of each parent over the values of a layer; None: outside them all."""
        layers = sorted(
            {row[1] for row in self.tensors}, key=lambda one: -1 if one is None else one
        )
        return tuple(
            (layer, _means([row for row in self.tensors if row[1] == layer])) for layer in layers
        )


@dataclass(frozen=True, slots=True)
class PairExplanation:
    """What the stored words of two models show of each other.

    Attributes
    ----------
    test
        The family test, made anew.
    layer_map
        Which layer of the parent each layer of the child was held against; empty: each against
        the one of its own number.
    direction
        None where the two share no tensor.
    """

    test: PairTest
    tensors: tuple[TensorPair, ...]
    layer_map: tuple[LayerSource, ...]
    layer_matches: tuple[LayerMatch, ...]
    tokens: tuple[TokenRows, ...]
    direction: Direction | None


def explain_pair(
    child: Fingerprint,
    parent: Fingerprint,
    n_pairs: int,
    layer_map: Sequence[LayerSource] = (),
) -> PairExplanation:
    """Look at two models side by side.

    Parameters
    ----------
    child, parent
        Fingerprints of one scheme, of any shapes; one model twice is allowed.
    n_pairs
        Family tests of the inference that is explained, for the Bonferroni correction.
    layer_map
        Where the child's layers come from, if a finding says so. Without it, layers of models of
        different depth are placed by row matching, if that places them all.

    Raises
    ------
    IncomparableError
        If the fingerprints are of different schemes.
    """
    test = test_pair(_plain(child), _plain(parent), n_pairs)
    mapped = tuple(source for source in layer_map if source.parent == parent.repo_id)
    if not mapped and child.n_layers != parent.n_layers:
        placed = similar_layers(child, parent)
        mapped = placed.layer_map if placed is not None else ()
    along = laid_along(parent, mapped) if mapped else parent
    places = {source.child_layer: source.parent_layer for source in mapped}
    return PairExplanation(
        test,
        compare_tensors(child, along, places or None),
        mapped,
        tuple(match_layers(child, parent, roles) for roles in MATCHED_ROLES),
        compare_tokens(child, parent),
        _direction(child, along),
    )


def fit_parents(child: Fingerprint, parents: Sequence[Fingerprint]) -> Coefficients | None:
    """Coefficients of all parents of a merge together; None where they share no tensor."""
    pool = _pool([child, *parents])
    if pool is None:
        return None
    names = [parent.repo_id for parent in parents]
    fit = fit_mixture(pool, child.repo_id, names, child.dtype)
    tensors = tuple(
        (
            key.role,
            key.layer if key.layer >= 0 else None,
            key.expert if key.expert >= 0 else None,
            int(values[0].size),
            tuple(map(float, row)),
        )
        for key, values, row in zip(pool.keys, pool.values, fit.coefficients, strict=True)
    )
    return Coefficients(tuple(names), tensors, _means(tensors), float(fit.match))


def inherited_share(
    child: Fingerprint, parent: Fingerprint, reference: Fingerprint
) -> Inherited | None:
    """What `child` carries of the last step of `parent`; None where the three share no tensor."""
    pool = _pool([child, parent, reference])
    if pool is None:
        return None
    names = child.repo_id, parent.repo_id, reference.repo_id
    share, error = pool.carried(names[2], names[1]).share(names[0])
    kept, reverted = pool.inherited_words(*names)
    return Inherited(names[2], _finite(share), _finite(error), kept, reverted)


@dataclass(frozen=True, slots=True)
class Recheck:
    """A stored value and the same computed again; None: there is none."""

    what: str
    stored: float | str | None
    now: float | str | None
    agrees: bool


def recheck_pair(stored: PairTest, now: PairTest) -> tuple[Recheck, ...]:
    """Whether the stored family test comes out again."""
    return (
        Recheck("verdict", str(stored.verdict), str(now.verdict), stored.verdict is now.verdict),
        _recheck("statistic", stored.statistic, now.statistic, _SAME),
        _recheck("p_value", stored.p_value, now.p_value, _p_slack(now)),
        _recheck("bit_equality", stored.bit_equality, now.bit_equality, _SAME),
    )


def _p_slack(test: PairTest) -> float:
    """Relative error of a p-value whose z errs by :data:`_SAME`: about z·dz."""
    return _SAME * (1 + (test.statistic or 0.0) ** 2)


def recheck_finding(
    finding: Finding, members: Mapping[str, Fingerprint], n_pairs: int
) -> tuple[Recheck, ...]:
    """Whether what a stored finding says of its parents comes out again.

    Facts that follow from the child and its parents alone are computed again, by name; those that
    need the whole family (shares, odds of direction, the search for a recipe) are left out.

    Parameters
    ----------
    members
        Fingerprints of the child and of all its parents.
    n_pairs
        As of :func:`explain_pair`; a test may look further where a first answer is not sure enough.
    """
    found: list[Recheck] = []
    if finding.parents and finding.p_value is not None:
        child, parent = members[finding.child], members[finding.parents[0].parent]
        test = test_pair(_plain(child), _plain(parent), n_pairs)
        found.append(_recheck("p_value", finding.p_value, test.p_value, _p_slack(test)))
    kind, facts = _facts_again(finding, members)
    if kind is not None:
        found.append(Recheck("kind", str(finding.kind), str(kind), kind is finding.kind))
    for fact in finding.evidence:
        if fact.name in facts:
            slack = _OTHER_ROWS if fact.name == "words_fitted" else _SAME
            found.append(_recheck(fact.name, fact.value, facts[fact.name].value, slack))
    return tuple(found)


def _facts_again(
    finding: Finding, members: Mapping[str, Fingerprint]
) -> tuple[Kind | None, dict[str, Evidence]]:
    """The kind (None: not told by these models alone) and the facts of a finding, made anew."""
    child = members[finding.child]
    parents = [members[share.parent] for share in finding.parents]
    if not parents:
        return None, {}
    kind: Kind | None = None
    facts: tuple[Evidence, ...] = ()
    if finding.layer_map:
        facts = (_layers_again(finding, members),)
    elif finding.kind is Kind.MOE:
        origin = expert_origin(child, parents)
        owners = origin[0] if origin is not None else ()
        facts = tuple(Evidence(f"expert_{expert}", 1.0, owner) for expert, owner in owners)
    elif finding.kind is Kind.MERGE:
        fit = fit_parents(child, parents)
        facts = () if fit is None else (Evidence("words_fitted", fit.match, ""),)
    elif finding.kind is Kind.QUANTIZED:
        replayed = replay_codes(child, parents[0])
        facts = () if replayed is None else (replayed[1],)
    elif (copy := find_copy(child, parents[0])) is not None:
        kind, facts = copy.kind, copy.evidence
    elif finding.kind is not Kind.ADAPTER:
        change = describe_change(child, parents[0])
        kind, facts = change.kind, change.evidence
    return kind, {fact.name: fact for fact in facts}


def _layers_again(finding: Finding, members: Mapping[str, Fingerprint]) -> Evidence:
    """How many layers stand where the map says: word for word if proved, else by row matching."""
    if finding.grade is Grade.PROVED:
        dtype = members[finding.child].dtype
        digests = {name: layer_digests(one, dtype) for name, one in members.items()}
        held = sum(
            _at(digests[finding.child], source.child_layer)
            == _at(digests.get(source.parent, ()), source.parent_layer)
            is not None
            for source in finding.layer_map
        )
    else:
        origin = similar_layers(members[finding.child], members[finding.parents[0].parent])
        held = len(set(finding.layer_map) & set(origin.layer_map)) if origin is not None else 0
    return Evidence("layers_placed", float(held), "")


def _at(digests: Sequence[str], layer: int) -> str | None:
    return digests[layer] if 0 <= layer < len(digests) else None


def _direction(child: Fingerprint, parent: Fingerprint) -> Direction | None:
    if child.repo_id == parent.repo_id or (pool := _pool([child, parent])) is None:
        return None
    grid = pool.common_grid(parent.repo_id, child.repo_id)
    rounded = rounding_arrow(
        [values[1] for values in pool.values], [values[0] for values in pool.values], grid
    )
    arrow, error = (_finite(float(matrix[0, 1])) for matrix in (pool.arrow, pool.arrow_error))
    return Direction(
        arrow,
        error if len(pool.keys) > 1 and arrow is not None else None,
        grid,
        rounded.n_left,
        rounded.n_entered,
        rounded.log_odds,
        lattice_odds(pool, parent.repo_id, child.repo_id),
        pool.embedding_growth(child.repo_id, parent.repo_id),
    )


def _pool(fingerprints: Sequence[Fingerprint]) -> Pool | None:
    try:
        return make_pool(fingerprints)
    except ValueError:
        return None


def _plain(fingerprint: Fingerprint) -> Fingerprint:
    """As the family test sees it: codes decoded."""
    return dequantised(fingerprint) if is_quantised(fingerprint) else fingerprint


def _means(
    rows: Sequence[tuple[str, int | None, int | None, int, tuple[float, ...]]],
) -> tuple[float, ...]:
    n_words = sum(row[3] for row in rows)
    columns = zip(*(row[4] for row in rows), strict=True)
    return tuple(
        math.fsum(row[3] * value for row, value in zip(rows, column, strict=True)) / n_words
        for column in columns
    )


def _recheck(what: str, stored: float | None, now: float | None, slack: float) -> Recheck:
    if stored is None or now is None:
        return Recheck(what, stored, now, stored is now)
    return Recheck(what, stored, now, math.isclose(stored, now, rel_tol=slack, abs_tol=1e-300))


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None

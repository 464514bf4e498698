"""The inference on the proving ground: claims and dates withheld, one split, errors counted.

Every rate has its denominator. Nothing here chooses a threshold: that is for the training split,
and this module is run on the split that was not looked at.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, rankdata

from benchmarks.zoo.baselines import (
    equal_configurations,
    kurtosis_trees,
    nearest_by_cosine,
    unmixed,
)
from benchmarks.zoo.calibrating import measure_calibration
from benchmarks.zoo.cutting import cut_models
from benchmarks.zoo.fingerprints import read_zoo
from benchmarks.zoo.labels import Label, read_labels
from lineage.infer.assemble import Inference, infer_lineage
from lineage.infer.equal_copies import equal_copies, equal_values
from lineage.infer.geometry import Pool, make_pool
from lineage.infer.quantised import dequantised, is_quantised
from lineage.infer.reconcile import reconcile
from lineage.infer.relatedness import test_pair
from lineage.infer.scoring import Counted, score
from lineage.infer.truth import Truth, read_truth
from lineage.model import Edge, Finding, Grade, Kind, PairVerdict
from lineage.pipeline.progress import talk
from lineage.weights.fingerprint import Fingerprint

__all__ = ["measure", "placed_below"]

_ALPHAS = (1e-2, 1e-3, 1e-4)
_TEST = "test"
_LOSSY = (Kind.DUPLICATE, Kind.CAST, Kind.QUANTIZED, Kind.MERGE)
_N_BOOTSTRAP = 2_000
_PER_DECADE = 10
_UNORDERED = (Kind.DUPLICATE, Kind.PERMUTED)
_GGUF = ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")


@dataclass(frozen=True)
class _Ground:
    """One split: what is true of it, and what was read of it."""

    truth: Truth
    labels: Mapping[str, Label]
    models: Mapping[str, Fingerprint]

    def independent(self, a: str, b: str) -> bool:
        """Whether two models of one configuration share nothing, not even initialisation."""
        return not self.truth.are_related(a, b) and not self.truth.share_initialisation(a, b)


def measure(folder: Path, split: str) -> dict[str, Any]:
    """All figures of one split, for JSON.

    Raises
    ------
    OSError, HerdbookError, CrawlError
        If the folder is no proving ground.
    ValueError
        If no model belongs to the split.
    """
    text = (folder / "truth.json").read_text(encoding="utf-8")
    truth, labels = read_truth(text), read_labels(text)
    fingerprints = read_zoo(folder)
    chosen = {name for name, label in labels.items() if label.split == split}
    if not chosen:
        raise ValueError(f"no model of {folder} belongs to the split {split!r}")
    models = {name: fingerprints[name] for name in sorted(chosen & fingerprints.keys())}
    everyone = _Ground(truth, labels, fingerprints)
    restricted = Truth({n: m for n, m in truth.models.items() if n in chosen}, _rest(truth, chosen))
    ground = _Ground(restricted, labels, models)
    started = time.monotonic()
    found = infer_lineage(list(models.values()), {}, None, talk)
    seconds = time.monotonic() - started
    edges = reconcile([], found.findings)
    return {
        "split": split,
        "n_models": len(chosen),
        "n_read": len(models),
        "families": len({labels[name].family for name in chosen}),
        "seconds": round(seconds, 1),
        "relatedness": _relatedness(ground, found),
        "null": _null(everyone, chosen, split),
        "lineage": _lineage(ground, found, edges),
        "cut_from_unpublished": cut_models(restricted, labels, models, found.findings),
        "calibration": measure_calibration(
            found.findings, truth, {name: label.family for name, label in labels.items()}
        ),
        "baselines": _baselines(ground),
    }


def _rest(truth: Truth, chosen: set[str]) -> dict[str, Any]:
    """Models outside the split count as ancestors only (there are none in practice)."""
    return {n: m for n, m in truth.models.items() if n not in chosen} | dict(truth.unpublished)


# related or not


def _relatedness(ground: _Ground, found: Inference) -> dict[str, Any]:
    """Related against independent pairs of one configuration, by the statistic of the pair test."""
    related: list[float] = []
    independent: list[float] = []
    untestable = {True: 0, False: 0}
    said: Counter[tuple[bool, str]] = Counter()
    found_by_kind: dict[str, list[bool]] = {}
    for pair in found.pairs:
        if ground.labels[pair.a].configuration != ground.labels[pair.b].configuration:
            continue
        is_related = ground.truth.are_related(pair.a, pair.b)
        if not is_related and not ground.independent(pair.a, pair.b):
            said[False, f"same initialisation called {pair.verdict}"] += 1
            continue
        said[is_related, str(pair.verdict)] += 1
        if is_related:
            for kind in {_kind(ground, pair.a), _kind(ground, pair.b)}:
                found_by_kind.setdefault(kind, []).append(pair.verdict is PairVerdict.RELATED)
        if pair.statistic is None:
            untestable[is_related] += 1
        else:
            (related if is_related else independent).append(pair.statistic)
    least = max(independent, default=-math.inf)
    return {
        "n_related": len(related),
        "n_independent": len(independent),
        "n_related_untestable": untestable[True],
        "n_independent_untestable": untestable[False],
        "auc": _auc(related, independent),
        "true_positive_rate_at_no_false": _rate(
            sum(z > least for z in related), len(related) + untestable[True]
        ),
        "verdicts": {
            f"{'related' if truly else 'unrelated'}: {verdict}": n
            for (truly, verdict), n in sorted(said.items())
        },
        "related_pairs_found_by_kind": {
            kind: _rate(sum(found), len(found)) for kind, found in sorted(found_by_kind.items())
        },
    }


def _kind(ground: _Ground, name: str) -> str:
    """A model's kind, with its disguise if it has one."""
    kind, disguise = ground.truth.models[name].kind, ground.labels[name].disguise
    return f"{kind} ({disguise})" if disguise else str(kind)


def _auc(positive: Sequence[float], negative: Sequence[float]) -> float | None:
    if not positive or not negative:
        return None
    ranks = rankdata([*positive, *negative])[: len(positive)]
    above = ranks.sum() - len(positive) * (len(positive) + 1) / 2
    return float(above / (len(positive) * len(negative)))


def _null(ground: _Ground, chosen: set[str], split: str) -> dict[str, Any]:
    """Observed against promised false-positive rates over independent pairs, by configuration.

    Both models are of the split; of the test split at least one, since nothing is learned there.
    Pairs across the same two families are near copies of each other, so every rate has two
    intervals: the exact one of independent pairs (Clopper and Pearson), and one that resamples
    pairs of families.
    """
    plain = {
        name: dequantised(one) if is_quantised(one) else one
        for name, one in ground.models.items()
        if ground.truth.models[name].kind is not Kind.ADAPTER
    }
    allowed = plain.keys() if split == _TEST else plain.keys() & chosen
    p_values: dict[str, list[list[float]]] = {}
    for configuration, pairs in _across_families(ground, allowed, chosen):
        found = [test_pair(plain[a], plain[b], 1).p_value for a, b in pairs]
        told = [p for p in found if p is not None]
        if told:
            p_values.setdefault(configuration, []).append(told)
    p_values["all"] = [clump for clumps in p_values.values() for clump in clumps]
    return {
        name: {
            "n": sum(map(len, clumps)),
            "n_family_pairs": len(clumps),
            "smallest": min(map(min, clumps)),
            "qq": _quantiles(np.concatenate(clumps)),
            "rates": {str(alpha): _interval(clumps, alpha) for alpha in _ALPHAS},
        }
        for name, clumps in p_values.items()
        if clumps
    }


def _quantiles(p_values: NDArray[np.float64]) -> dict[str, list[float]]:
    """A QQ plot's data: quantiles of the p-values where a uniform one has `expected`.

    Expected ones run from one in the number of pairs to 1, ten a decade; `observed` may lie above
    them (the tests are corrected for their number), never below beyond chance.
    """
    n_decades = math.log10(len(p_values))
    expected = 10.0 ** -np.linspace(n_decades, 0, 1 + math.ceil(_PER_DECADE * n_decades))
    observed = np.quantile(p_values, expected, method="inverted_cdf")
    return {"expected": expected.tolist(), "observed": observed.tolist()}


def _across_families(
    ground: _Ground, allowed: Collection[str], chosen: set[str]
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """For every two families of one configuration, its name and the independent pairs."""
    by_family: dict[tuple[str, str], list[str]] = {}
    for name in sorted(allowed):
        label = ground.labels[name]
        by_family.setdefault((label.configuration, label.family), []).append(name)
    for (one, first), (other, second) in combinations(by_family.items(), 2):
        if one[0] == other[0] and not chosen.isdisjoint((*first, *second)):
            yield one[0], [pair for pair in product(first, second) if ground.independent(*pair)]


def _interval(clumps: Sequence[Sequence[float]], alpha: float) -> dict[str, Any]:
    """A rate with two 95 % intervals: binomial over pairs, and by bootstrap over clumps of pairs.

    Without a single hit the second reaches to ``3/n`` clumps, as if each were one observation.
    """
    hits = np.array([sum(p <= alpha for p in clump) for clump in clumps])
    sizes = np.array([len(clump) for clump in clumps])
    drawn = np.random.default_rng(0).integers(0, len(clumps), (_N_BOOTSTRAP, len(clumps)))
    rates = hits[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(rates, (0.025, 0.975))
    if not hits.any():
        high = min(1.0, 3 / len(clumps))
    exact = binomtest(int(hits.sum()), int(sizes.sum())).proportion_ci(0.95, method="exact")
    return {
        "rate": float(hits.sum() / sizes.sum()),
        "hits": int(hits.sum()),
        "binomial": [float(exact.low), float(exact.high)],
        "by_families": [float(low), float(high)],
    }


# who descends from whom


def _lineage(ground: _Ground, found: Inference, edges: Sequence[Edge]) -> dict[str, Any]:
    truth = ground.truth
    verdicts = {(pair.a, pair.b): str(pair.verdict) for pair in found.pairs}
    result = score(truth, found.findings, edges, verdicts, truth.models.keys() - ground.models)
    parents = result.direct_parents
    single = {
        name
        for name, model in truth.models.items()
        if len(model.parents) == 1 and name in ground.models and model.kind is not Kind.ADAPTER
    }
    tied = {edge.child for edge in edges if edge.grade is Grade.TIE} & single
    decided = {edge.child for edge in edges if edge.grade in (Grade.PROVED, Grade.INFERRED)}
    merges, up_to_copies = result.merges["all"], result.merges_up_to_copies["all"]
    told = [(child, above) for child, above in placed_below(found.findings) if child in single]
    return {
        "parents": {
            "precision": _counted(parents.precision),
            "recall": _counted(parents.recall),
            "recall_outside_ties": _rate(parents.recall.right, len(single - tied)),
            "precision_up_to_copies": _counted(parents.precision_up_to_copies),
            "recall_up_to_copies": _counted(parents.recall_up_to_copies),
            "ties": _rate(len(tied), len(single)),
            "ties_of_equal_copies": _rate(len(_tied_to_equals(found, tied)), len(single)),
            "ties_with_true_parent": _counted(parents.ties),
            "by_kind": _by_kind(ground, edges),
            "wrong": [{"child": child, "said": said} for child, said in parents.wrong],
        },
        "direction": {
            "right": _counted(result.direction),
            "decided": _rate(len(single & decided), len(single)),
            "told": _rate(len(told), len(single)),
            "told_right": _rate(sum(not _is_upside_down(truth, *one) for one in told), len(told)),
        },
        "kinds": {
            "right": _counted(result.kind),
            "confusions": _confusions(result.confusions),
        },
        "merges": {
            "n": merges.n,
            "f1": _number(merges.f1),
            "exact_sets": _rate(merges.exact, merges.n),
            "f1_up_to_copies": _number(up_to_copies.f1),
            "exact_sets_up_to_copies": _rate(up_to_copies.exact, up_to_copies.n),
            "methods": _counted(result.methods),
            "coefficient_error": _coefficient_errors(ground, found, edges),
            "by_method": {
                name: {"f1": _number(one.f1), "exact": one.exact, "n": one.n}
                for name, one in result.merges.items()
            },
        },
        "gguf_sources": _sources(ground, edges),
        "layer_maps": _counted(result.layer_maps),
        "layer_maps_up_to_copies": _counted(result.layer_maps_up_to_copies),
        "lora_ranks": _counted(result.ranks),
        "lora_ranks_told": _ranks_told(truth, found),
        "grades": dict(Counter(str(finding.grade) for finding in found.findings)),
    }


def placed_below(findings: Sequence[Finding]) -> list[tuple[str, frozenset[str]]]:
    """Children, with their parent or those that tie for it, if none of these may be the child.

    Of two copies that tie each may be the other's.
    """
    above = {
        one.child: frozenset((*one.ties, *(share.parent for share in one.parents)))
        for one in findings
        if one.parents and one.grade is not Grade.ABSTAIN
    }
    return [
        (one.child, names)
        for one in findings
        if (names := above.get(one.child))
        and not any(one.child in above.get(name, ()) for name in names)
        and not (one.grade is Grade.TIE and one.kind in _UNORDERED)
    ]


def _is_upside_down(truth: Truth, child: str, above: Collection[str]) -> bool:
    """Whether one of those that a model is placed below descends from it."""
    return any(child in truth.ancestors(name) for name in above if name in truth.models)


def _tied_to_equals(found: Inference, tied: Collection[str]) -> set[str]:
    """Children whose tie is between equal models alone, and equal copies themselves."""
    alike, equal = equal_copies(found.findings), equal_values(found.findings)
    return {
        one.child
        for one in found.findings
        if one.child in tied
        and (one.child in alike or set(one.ties) <= equal.get(one.parents[0].parent, frozenset()))
    }


def _ranks_told(truth: Truth, found: Inference) -> dict[str, float | int | None]:
    """Of the adapter ranks that were told, how many are the true ones."""
    told = [
        one.rank == truth.models[one.child].rank
        for one in found.findings
        if one.kind is Kind.LORA_MERGED and one.rank and one.child in truth.models
    ]
    return _rate(sum(told), len(told))


def _by_kind(ground: _Ground, edges: Sequence[Edge]) -> dict[str, dict[str, float | int | None]]:
    said = _said(edges)
    counts: dict[str, list[bool]] = {}
    for name, model in ground.truth.models.items():
        if len(model.parents) == 1 and name in ground.models:
            right = said.get(name) == {model.parents[0][0]}
            counts.setdefault(_kind(ground, name), []).append(right)
    return {kind: _rate(sum(right), len(right)) for kind, right in sorted(counts.items())}


def _said(edges: Iterable[Edge]) -> dict[str, set[str]]:
    said: dict[str, set[str]] = {}
    for edge in edges:
        if edge.grade in (Grade.PROVED, Grade.INFERRED):
            said.setdefault(edge.child, set()).add(edge.parent)
    return said


def _confusions(confusions: Iterable[tuple[str, str, str]]) -> dict[str, int]:
    counts = Counter(f"{true} called {said}" for _, true, said in confusions)
    return dict(counts.most_common())


def _coefficient_errors(
    ground: _Ground, found: Inference, edges: Sequence[Edge]
) -> dict[str, dict[str, float | int | None]]:
    """Mean absolute error of shares, by whether a recipe replayed."""
    replayed = {finding.child for finding in found.findings if finding.grade is Grade.PROVED}
    weights = {(edge.child, edge.parent): edge.weight for edge in edges}
    errors: dict[bool, list[float]] = {True: [], False: []}
    for name, model in ground.truth.models.items():
        if len(model.parents) < 2 or model.kind is not Kind.MERGE or not model.has_shares:
            continue
        said = {parent: weights.get((name, parent)) for parent, _ in model.parents}
        total = sum(weight for (child, _), weight in weights.items() if child == name and weight)
        for parent, share in model.parents:
            weight = said[parent]
            if weight is not None and share is not None and total:
                errors[name in replayed].append(abs(weight / total - share))
    return {
        "replayed" if proved else "fitted": {
            "mean": _number(float(np.mean(values)) if values else math.nan),
            "n": len(values),
        }
        for proved, values in errors.items()
    }


def _sources(ground: _Ground, edges: Sequence[Edge]) -> dict[str, float | int | None]:
    said = _said(edges)
    true = {
        name: model.parents[0][0]
        for name, model in ground.truth.models.items()
        if model.kind is Kind.QUANTIZED and model.method in _GGUF and model.parents
    }
    return _rate(sum(said.get(name) == {parent} for name, parent in true.items()), len(true))


# simpler rules


def _baselines(ground: _Ground) -> dict[str, Any]:
    pools = list(_pools(ground))
    known = {
        name: model.parents[0][0]
        for name, model in ground.truth.models.items()
        if len(model.parents) == 1
    }
    in_pool = {
        child: parent
        for child, parent in known.items()
        if any(child in pool.ids and parent in pool.ids for pool in pools)
    }
    nearest: dict[str, str] = {}
    trees: dict[str, str] = {}
    for pool in pools:
        nearest.update(nearest_by_cosine(pool))
        for family in _families(ground, pool):
            n_trees = sum(known.get(name) not in family.ids for name in family.ids)
            trees.update(kurtosis_trees(family, n_trees))
    return {
        "configurations_equal": _configuration_rule(ground),
        "nearest_by_cosine_parent": _right(nearest, in_pool),
        "kurtosis_tree_parent": _right(trees, in_pool),
        "least_squares_merges": _unmixing(ground, pools, among_all=True),
        "least_squares_merges_without_copies": _unmixing(ground, pools, among_all=False),
    }


def _families(ground: _Ground, pool: Pool) -> Iterator[Pool]:
    """A pool cut into its families, of two models at least."""
    found: dict[str, list[int]] = {}
    for place, name in enumerate(pool.ids):
        found.setdefault(ground.labels[name].family, []).append(place)
    for places in found.values():
        if len(places) > 1:
            ids = tuple(pool.ids[place] for place in places)
            yield Pool(ids, pool.keys, tuple(values[places] for values in pool.values))


def _pools(ground: _Ground) -> Iterator[Pool]:
    """Models by layout, quantised ones decoded."""
    groups: dict[object, list[Fingerprint]] = {}
    for name, fingerprint in ground.models.items():
        if ground.truth.models[name].kind is Kind.ADAPTER:
            continue
        plain = dequantised(fingerprint) if is_quantised(fingerprint) else fingerprint
        layout = tuple((key, sample.shape[1:]) for key, sample in sorted(plain.samples.items()))
        groups.setdefault(layout, []).append(plain)
    for group in groups.values():
        if len(group) > 1:
            yield make_pool(group)


def _right(said: Mapping[str, str], known: Mapping[str, str]) -> dict[str, float | int | None]:
    return _rate(sum(said.get(child) == parent for child, parent in known.items()), len(known))


def _configuration_rule(ground: _Ground) -> dict[str, Any]:
    """Independent pairs that a comparison of configurations would call related."""
    false = n = missed = n_related = 0
    for a, b in combinations(sorted(ground.models), 2):
        equal = equal_configurations(ground.models[a], ground.models[b])
        if ground.truth.are_related(a, b):
            n_related += 1
            missed += not equal
        elif ground.labels[a].configuration == ground.labels[b].configuration:
            n += 1
            false += equal
    return {"false": _rate(false, n), "missed": _rate(missed, n_related)}


def _unmixing(
    ground: _Ground, pools: Sequence[Pool], *, among_all: bool
) -> dict[str, float | int | None]:
    """Merges whose set of parents least squares finds, the base known.

    Candidates are the models of the family and layout, or of them those that are neither copies
    nor merges nor descend from the child: what only the truth can tell.
    """
    right = n = 0
    for pool in pools:
        for child in pool.ids:
            model = ground.truth.models[child]
            if model.kind is not Kind.MERGE or not model.parent_names <= set(pool.ids):
                continue
            above = ground.truth.ancestors(child)
            base = model.base or next(
                (a for a in above if ground.truth.models[a].kind is Kind.FOUNDER), None
            )
            if base not in pool.ids:
                continue
            family = ground.labels[child].family
            candidates = [
                name
                for name in pool.ids
                if ground.labels[name].family == family
                and name not in (child, base)
                and (among_all or _is_fair(ground.truth, name, child))
            ]
            n += 1
            right += set(unmixed(pool, child, base, candidates)) == model.parent_names - {base}
    return _rate(right, n)


def _is_fair(truth: Truth, name: str, child: str) -> bool:
    return truth.models[name].kind not in _LOSSY and child not in truth.ancestors(name)


# numbers


def _rate(right: int, n: int) -> dict[str, float | int | None]:
    return {"value": round(right / n, 4) if n else None, "right": right, "n": n}


def _counted(one: Counted) -> dict[str, float | int | None]:
    return _rate(one.right, one.n)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)

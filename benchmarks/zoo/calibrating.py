"""How far findings can be believed: learned on families of known ancestry, judged on others.

The model is small on purpose: the independent units are families, and there are a few dozen. For
each kind of finding one logistic curve, with weights that cannot be negative (a witness speaks for
a finding or is silent), a Gaussian penalty on them, and imagined findings that are right at the
pooled rate, so that a kind that was seldom seen, or never seen wrong, is not believed without
limit. How strong both are is chosen by leaving out one family at a time: the simplest choice whose
log loss on families left out lies within one standard error of the best (Hastie, Tibshirani &
Friedman 2009, §7.10). Isotonic regression was not taken: it needs hundreds of findings a kind.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import product
from math import log
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit

import lineage
from benchmarks.zoo.judging import Case, judge
from benchmarks.zoo.labels import read_labels
from benchmarks.zoo.reliability import Judged, diagram, reliability
from lineage.infer.assemble import infer_lineage
from lineage.infer.calibration import (
    DIRECTION_WITNESSES,
    EXACT,
    GROUPS,
    belief,
    calibrated,
)
from lineage.infer.calibration_table import LEARNED
from lineage.infer.curves import Calibration, Curve, Slope
from lineage.infer.truth import Truth, read_truth
from lineage.model import Finding
from lineage.pipeline.progress import talk

__all__ = [
    "Ground",
    "Learned",
    "Strength",
    "calibrate",
    "fit_curve",
    "learn",
    "measure_calibration",
    "tell_calibration",
]

_PRIOR_FINDINGS = (2.0, 8.0, 32.0)
_SPREADS = (0.0, 0.5, 1.0, 2.0, 4.0)

Floats = NDArray[np.float64]
Truths = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Strength:
    """What is assumed beforehand.

    `prior_findings` are imagined, right at the pooled rate; `spread` is the standard deviation that
    weights are expected to have, in log-odds a unit, 0 for no witnesses at all.
    """

    prior_findings: float
    spread: float


@dataclass(frozen=True)
class Ground:
    """Findings of known ancestry, and the family of each model; no two grounds share a family."""

    findings: Sequence[Finding]
    truth: Truth
    families: Mapping[str, str]


@dataclass(frozen=True)
class Learned:
    """A table, the assumptions that were chosen, and how it does on families left out."""

    table: Calibration
    strength: Strength
    losses: Mapping[Strength, float]
    """Mean log loss (nats) on families left out; empty with one family, which leaves none."""
    left_out: tuple[Judged, ...]


# learning


def fit_curve(
    witnesses: Floats, right: Truths, rate: float, strength: Strength
) -> tuple[float, Floats, Floats]:
    """Penalised logistic regression with weights ≥ 0.

    Parameters
    ----------
    witnesses : (n, k)
        NaN where a witness is silent: it then counts as its mean.
    right : (n,)
        Whether each finding was.
    rate
        Share of the imagined findings that are right, strictly between 0 and 1.

    Returns
    -------
    intercept, weights : (k,), centres : (k,)
        The log-odds are ``intercept + Σ weight·(witness − centre)``. Convex, hence unique.
    """
    known = np.isfinite(witnesses)
    n_known = np.maximum(known.sum(axis=0), 1)
    centres = np.where(known, witnesses, 0.0).sum(axis=0) / n_known
    x = np.where(known, witnesses - centres, 0.0)
    n_imagined, spread = strength.prior_findings, strength.spread
    start = logit((right.sum() + n_imagined * rate) / (right.size + n_imagined))
    if not (spread and x.size):
        return float(start), np.zeros(x.shape[1]), centres

    def loss(parameters: Floats) -> tuple[float, Floats]:
        intercept, weights = parameters[0], parameters[1:]
        log_odds = intercept + x @ weights
        value = -np.where(right, log_expit(log_odds), log_expit(-log_odds)).sum()
        value -= n_imagined * (rate * log_expit(intercept) + (1 - rate) * log_expit(-intercept))
        value += (weights**2).sum() / (2 * spread**2)
        residual = expit(log_odds) - right
        slope = residual.sum() + n_imagined * (expit(intercept) - rate)
        return float(value), np.concatenate(([slope], residual @ x + weights / spread**2))

    bounds = [(None, None), *[(0.0, None)] * x.shape[1]]
    first = np.concatenate(([start], np.zeros(x.shape[1])))
    fitted = minimize(loss, first, jac=True, method="L-BFGS-B", bounds=bounds).x
    return float(fitted[0]), fitted[1:], centres


def _curve(
    cases: Sequence[Case], right: Sequence[bool], names: Sequence[str], rate: float, how: Strength
) -> Curve:
    told = [[case.witnesses[name] for name in names] for case in cases]
    values = np.array(told, dtype=np.float64).reshape(len(cases), len(names))
    answers = np.array(right, dtype=np.bool_)
    intercept, weights, centres = fit_curve(values, answers, rate, how)
    slopes = tuple(
        Slope(name, round(float(weight), 4), round(float(centre), 4))
        for name, weight, centre in zip(names, weights, centres, strict=True)
        if round(float(weight), 4) > 0
    )
    return Curve(len(cases), int(answers.sum()), round(intercept, 4), slopes)


def _rate(right: Sequence[bool]) -> float:
    """A share that is never 0 or 1: the posterior mean under Jeffreys' prior."""
    return (sum(right) + 0.5) / (len(right) + 1)


def _fit(cases: Sequence[Case], how: Strength, blank: Calibration) -> Calibration:
    """The table that `cases` teach."""
    asserted = [case for case in cases if case.finding.parents]
    pooled = {
        exact: _rate([c.alike for c in asserted if (c.group in EXACT) is exact])
        for exact in (True, False)
    }
    parents, direction = {}, {}
    for group, names in GROUPS.items():
        found = [case for case in asserted if case.group == group]
        right = [case.pair if group in DIRECTION_WITNESSES else case.alike for case in found]
        parents[group] = _curve(found, right, names, pooled[group in EXACT], how)
    steps = {
        group: [c for c in cases if c.group == group and c.forward is not None]
        for group in DIRECTION_WITNESSES
    }
    pooled_forward = _rate([bool(case.forward) for found in steps.values() for case in found])
    for group, names in DIRECTION_WITNESSES.items():
        right = [bool(case.forward) for case in steps[group]]
        direction[group] = _curve(steps[group], right, names, pooled_forward, how)
    return replace(
        blank,
        n_families=len({case.family for case in asserted}),
        n_findings=len(asserted),
        parents=parents,
        direction=direction,
    )


def learn(grounds: Sequence[Ground], blank: Calibration) -> Learned:
    """Fit the table, choosing what is assumed beforehand on families left out.

    Parameters
    ----------
    grounds
        What was inferred of the models learned on.
    blank
        Where the findings are from; its curves are replaced.

    Raises
    ------
    ValueError
        If no finding asserts a parent.
    """
    cases = [case for one in grounds for case in judge(one.findings, one.truth, one.families)]
    if not any(case.finding.parents for case in cases):
        raise ValueError("no finding asserts a parent: there is nothing to learn from")
    members: dict[str, list[Finding]] = {}
    for ground in grounds:
        for finding in ground.findings:
            members.setdefault(ground.families[finding.child], []).append(finding)
    names = sorted({case.family for case in cases if case.finding.parents})
    strongest = Strength(max(_PRIOR_FINDINGS), min(_SPREADS))
    if len(names) == 1:
        return Learned(_fit(cases, strongest, blank), strongest, {}, ())
    judged: dict[Strength, dict[str, list[Judged]]] = {}
    for how in (Strength(*pair) for pair in product(_PRIOR_FINDINGS, _SPREADS)):
        judged[how] = {}
        for name in names:
            table = _fit([case for case in cases if case.family != name], how, blank)
            own = [case for case in cases if case.family == name]
            judged[how][name] = _judged(own, calibrated(members[name], table))
    losses = {
        how: np.array([_loss(beliefs) for beliefs in found.values()])
        for how, found in judged.items()
    }
    chosen = _simplest(losses)
    n = sum(map(len, judged[chosen].values()))
    return Learned(
        _fit(cases, chosen, blank),
        chosen,
        {how: float(one.sum() / n) for how, one in losses.items()},
        tuple(one for beliefs in judged[chosen].values() for one in beliefs),
    )


def _judged(cases: Iterable[Case], findings: Iterable[Finding]) -> list[Judged]:
    """Beliefs in findings as they stand."""
    said = {finding.child: finding.probability for finding in findings}
    return [
        Judged(probability, case.right, case.family, case.group)
        for case in cases
        if (probability := said.get(case.finding.child)) is not None
    ]


def _loss(judged: Iterable[Judged]) -> float:
    return -sum(log(one.probability if one.right else 1 - one.probability) for one in judged)


def _simplest(losses: Mapping[Strength, Floats]) -> Strength:
    """The strongest assumptions within one standard error of the best, families being the units."""
    best = min(losses, key=lambda how: float(losses[how].sum()))

    def is_as_good(how: Strength) -> bool:
        excess = losses[how] - losses[best]
        error = float(np.std(excess, ddof=1)) * excess.size**0.5
        return bool(excess.sum() <= error)

    return min(
        (how for how in losses if how == best or is_as_good(how)),
        key=lambda how: (how.spread, -how.prior_findings),
    )


# the whole way


def calibrate(
    folders: Sequence[Path], splits: Collection[str], today: date
) -> tuple[Learned, dict[str, Any]]:
    """Learn from splits of proving grounds; the figures are those of families left out.

    Raises
    ------
    OSError, HerdbookError, CrawlError
        If a folder is no proving ground.
    ValueError
        If no model of a folder belongs to the splits, or nothing was found.
    """
    grounds = [_ground(n, folder, splits) for n, folder in enumerate(folders)]
    digest = hashlib.sha256()
    for folder in folders:
        digest.update((folder / "truth.json").read_bytes())
    n_models = sum(len(ground.families) for ground in grounds)
    n_families = sum(len(set(ground.families.values())) for ground in grounds)
    blank = Calibration(
        source=f"proving ground, split {' and '.join(sorted(splits))}: {n_models} models of "
        f"{n_families} families",
        digest=digest.hexdigest(),
        learned_on=today,
        software=lineage.__version__,
        n_families=0,
        n_findings=0,
        parents={},
        direction={},
    )
    learned = learn(grounds, blank)
    facts = _origin(learned.table) | {
        "prior_findings": learned.strength.prior_findings,
        "spread": learned.strength.spread,
        "log_loss_left_out": {
            f"{how.prior_findings:g} findings, spread {how.spread:g}": round(loss, 4)
            for how, loss in learned.losses.items()
        },
        **_by_group(learned.left_out),
    }
    return learned, facts


def _ground(number: int, folder: Path, splits: Collection[str]) -> Ground:
    """What is inferred of some splits; families are numbered, since every ground names its own."""
    from benchmarks.zoo.fingerprints import read_zoo

    text = (folder / "truth.json").read_text(encoding="utf-8")
    labels = read_labels(text)
    chosen = sorted(name for name, label in labels.items() if label.split in splits)
    if not chosen:
        raise ValueError(f"no model of {folder} belongs to the split {' or '.join(sorted(splits))}")
    read = read_zoo(folder)
    found = infer_lineage([read[name] for name in chosen if name in read], {}, None, talk)
    families = {name: f"{number}:{labels[name].family}" for name in chosen}
    return Ground(found.findings, read_truth(text), families)


def measure_calibration(
    findings: Sequence[Finding],
    truth: Truth,
    families: Mapping[str, str],
    table: Calibration = LEARNED,
) -> dict[str, Any]:
    """What the beliefs of findings are worth on families with known ancestry, for JSON.

    ``all`` and ``by_kind``: of findings as they stand. ``copies_as_one``: the weights that are
    named are the right ones. ``direction``: of parents and children that are a pair, which is
    which.
    """
    cases = [
        case for case in judge(findings, truth, families) if case.finding.probability is not None
    ]
    alike = [
        Judged(believed, case.alike, case.family)
        for case in cases
        if (believed := belief(case.finding, table)) is not None
    ]
    direction = [
        Judged(
            table.bounded(curve.probability(case.witnesses)),
            case.forward,
            case.family,
        )
        for case in cases
        if case.forward is not None and (curve := table.direction.get(case.group)) is not None
    ]
    return _origin(table) | {
        **_by_group(_judged(cases, findings)),
        "copies_as_one": reliability(alike),
        "direction": reliability(direction),
    }


def _origin(table: Calibration) -> dict[str, Any]:
    return {
        "learned_from": table.source,
        "digest": table.digest,
        "learned_on": table.learned_on.isoformat(),
        "software": table.software,
    }


def _by_group(judged: Sequence[Judged]) -> dict[str, Any]:
    counts = Counter(one.group for one in judged)
    return {
        "all": reliability(judged),
        "by_kind": {
            group: reliability([one for one in judged if one.group == group])
            for group in GROUPS
            if counts[group]
        },
    }


# in words


def tell_calibration(facts: Mapping[str, Any]) -> str:
    """Figures and the reliability diagram as Markdown."""
    rows = {"all": facts["all"]} | facts["by_kind"]
    for name in ("copies_as_one", "direction"):
        if name in facts:
            rows[f"({name.replace('_', ' ')})"] = facts[name]
    lines = [
        f"Probabilities learned from {facts['learned_from']}, on {facts['learned_on']}.",
        "",
        "| belief in | n (families) | said | was | ECE (95 %; by chance) | Brier (of rate) |"
        " log loss (of rate) |",
        "|---|---|---|---|---|---|---|",
        *(_row(name, one) for name, one in rows.items() if one["n"]),
    ]
    for name, one in rows.items():
        if len(one["bins"]) > 1 or (one["n"] and name == "all"):
            lines += ["", f"Reliability, {name}:", "", "```", diagram(one), "```"]
    return "\n".join(lines)


def _row(name: str, one: Mapping[str, Any]) -> str:
    interval = "–" if one["low"] is None else f"{one['low']:.3f}–{one['high']:.3f}"
    return (
        f"| {name} | {one['n']} ({one['families']}) | {one['said']:.3f} | {one['was']:.3f} |"
        f" {one['ece']:.3f} ({interval}; {one['ece_by_chance']:.3f}) |"
        f" {one['brier']:.3f} ({one['brier_of_rate']:.3f}) |"
        f" {one['log_loss']:.3f} ({one['log_loss_of_rate']:.3f}) |"
    )

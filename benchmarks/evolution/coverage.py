"""Do the intervals hold the truth, and do the tests of selection keep their level?

Run with ``python -m benchmarks.evolution.coverage`` (about half a second of CPU a Hub of 1,000
models; ``--hubs``, ``--models`` and ``--scenario`` choose less). Hubs are grown by
:mod:`lineage.evolution.chance.simulate`, where heritability and selection are known, and analysed
as a real Hub would be. A rate is printed with its binomial standard error; ``!`` marks one that is
more than three of them from what was promised.

Which heritability? A fine-tune has one parent of share 1 and inherits all of it, so that the slope
on the mid-parent is Cov(a, z)/Var(z) *among the parents that were used, each as often as it was*:
with the known additive values a, and the field's trend taken off z. Changes add up along a
lineage, so this exceeds the founders' h² from the first generation on. In one Hub it is what its
few large clades happened to inherit; the target is that of Hubs that grow by the scenario's law,
the ratio of both sums over all of them. How often the share among the parents of each single Hub
is held is printed beside it.

Selection: S, i and β are held against their means over all Hubs of a scenario.

Nothing is promised of what is printed for comparison only: a slope where a trend or loyal authors
make parent and child alike, the sandwich, the founder bootstrap.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lineage.evolution.chance.attachment import Attachment
from lineage.evolution.chance.attachment_fit import most_likely_law
from lineage.evolution.chance.copying_null import copying_null
from lineage.evolution.chance.rules import HubRules, TraitRules
from lineage.evolution.chance.simulate import MONTH_DAYS, SimulatedHub, simulate_hub
from lineage.evolution.inheritance.adjusted import adjusted_heritability
from lineage.evolution.inheritance.heritability import (
    heritability,
    heritability_jackknife,
    within_founder_heritability,
)
from lineage.evolution.lewontin import strata_of
from lineage.evolution.selection.average_gradients import average_gradients
from lineage.evolution.selection.differentials import (
    differential_jackknife,
    intensity_jackknife,
    selection_differential,
)
from lineage.evolution.selection.fitness import children_within
from lineage.evolution.selection.gradients import linear_gradients_jackknife
from lineage.evolution.selection.multiple import permute_differential
from lineage.evolution.threats import DAYS_A_MONTH
from lineage.evolution.traits import Population
from lineage.model import Estimate

Floats = NDArray[np.float64]

_HERITABILITY = 0.4
_WINDOW_DAYS = 180.0
_REPLICATES = 199  # the smallest at which .05 is attained exactly on both sides
_RESAMPLES = 500
_TRAIT = TraitRules(_HERITABILITY, finetune_variance=0.2)
_EVEN = HubRules(
    1000,
    720.0,
    growth_per_day=0.002,
    founder_share=0.15,
    quantised_share=0.1,
    merge_share=0.1,
    attachment=Attachment(0.0, 120.0, 0.05),
    traits=(_TRAIT,),
)
_PREFERENTIAL = replace(_EVEN, attachment=Attachment(1.0, 120.0, 0.05))


def _with_trait(rules: HubRules, **change: float) -> HubRules:
    return replace(rules, traits=(replace(_TRAIT, **change),))


SCENARIOS: dict[str, HubRules] = {
    "neutral, no preference": _EVEN,
    "neutral, preferential": _PREFERENTIAL,
    "neutral, preferential, trend": _with_trait(_PREFERENTIAL, trend_per_month=0.1),
    "neutral, preferential, authors": replace(
        _with_trait(_PREFERENTIAL, author_share=0.3), author_loyalty=0.5
    ),
    "neutral, no change at birth": _with_trait(_PREFERENTIAL, finetune_variance=0.0),
    "selected β = 0.3, preferential": _with_trait(_PREFERENTIAL, linear=0.3),
}


_CONFOUNDED = ("neutral, preferential, trend", "neutral, preferential, authors")
_POPULATION, _WITHIN = "of such Hubs", "within founders, of such Hubs"


@dataclass(frozen=True)
class Analysis:
    """One Hub: estimates, what they are to hold, and p-values of tests.

    `shares` has the covariance of what was inherited with the mid-parents, and the variance of
    these, by target; `here` their ratio in this Hub.
    """

    estimates: dict[str, Estimate]
    targets: dict[str, str]
    shares: dict[str, tuple[float, float]]
    here: float
    p_values: dict[str, float]


@dataclass(frozen=True)
class Rate:
    """How often something happened, beside how often it should have (NaN: no promise)."""

    scenario: str
    what: str
    rate: float
    n: int
    promised: float

    @property
    def error(self) -> float:
        """Binomial standard error, at the promised rate where there is one."""
        p = self.rate if math.isnan(self.promised) else self.promised
        return math.sqrt(p * (1 - p) / self.n)

    @property
    def off(self) -> bool:
        """Whether the promise is broken beyond chance."""
        return abs(self.rate - self.promised) > 3 * self.error


def analyse(hub: SimulatedHub, rng: np.random.Generator, rules: HubRules) -> Analysis:
    """Everything that is estimated and tested on one Hub."""
    population = hub.population()
    graph, trait, day = population.graph, population.traits["trait_0"], population.born_day
    mid, founder = population.mid_parent("trait_0"), graph.founder
    month = strata_of(np.floor(day / DAYS_A_MONTH))
    fitness = children_within(graph, day, hub.until_day, _WINDOW_DAYS)
    traits = {"z": trait}
    estimates = {
        "h², slope, jackknife": heritability_jackknife(trait, mid, founder, rng=rng),
        "h², adjusted slope, jackknife": adjusted_heritability(
            population, "trait_0", hub.author, founder, month, rng=rng
        ),
        "h², slope within founders, jackknife": within_founder_heritability(
            trait, mid, founder, rng=rng
        ),
        "h², slope, CR1": heritability(trait, mid, founder),
        "S, jackknife": differential_jackknife(trait, fitness, founder, rng=rng, month=month),
        "i, jackknife": intensity_jackknife(trait, fitness, founder, rng=rng, month=month),
        "β, jackknife": linear_gradients_jackknife(
            traits, fitness, founder, rng=rng, month=month
        ).beta["z"],
        "β, Poisson, jackknife": average_gradients(
            traits, fitness, founder, family="poisson", month=month
        )["z"],
        "S over all months, jackknife": differential_jackknife(trait, fitness, founder, rng=rng),
        "S over all months, founder bootstrap": selection_differential(
            trait, fitness, founder, rng=rng, n_resamples=_RESAMPLES
        ),
    }
    targets = {name: _POPULATION for name in estimates if name.startswith("h²")}
    targets["h², slope within founders, jackknife"] = _WITHIN
    shares = _shares(hub, rules.traits[0].trend_per_month)
    p_values = {
        f"S, exchanged within {words}": permute_differential(
            trait, fitness, stratum, rng=rng, n_permutations=_REPLICATES
        ).p_value
        for words, stratum in (("months", month), ("founder × month", strata_of(founder, month)))
    }
    null = copying_null(
        graph, day, traits, most_likely_law(graph, day), rng=rng, until_day=hub.until_day,
        window_days=_WINDOW_DAYS, n_replicates=_REPLICATES,
    )  # fmt: skip
    p_values["S, copying null"] = null.differential["z"].p_value
    p_values["I, copying null"] = null.opportunity.p_value
    covariance, variance = shares[_POPULATION]
    return Analysis(estimates, targets, shares, covariance / variance, p_values)


def _shares(hub: SimulatedHub, trend_per_month: float) -> dict[str, tuple[float, float]]:
    """Covariance of what was inherited with the mid-parents, and their variance, by target."""
    graph = hub.graph()
    trend = trend_per_month * (hub.born_day - hub.born_day[0]) / MONTH_DAYS
    known = Population(graph, hub.born_day, {"a": hub.additive[0], "z": hub.phenotype[0] - trend})
    inherited, mid = known.mid_parent("a"), known.mid_parent("z")
    bred = np.isfinite(mid)
    inherited, mid = inherited[bred], mid[bred]
    found = {}
    for name, group in (
        (_POPULATION, np.zeros(mid.size, dtype=np.int64)),
        (_WITHIN, np.unique(graph.founder[bred], return_inverse=True)[1]),
    ):
        size = np.bincount(group)
        away = mid - (np.bincount(group, mid) / size)[group]
        found[name] = float(away @ inherited) / mid.size, float(away @ away) / mid.size
    return found


def rates(scenario: str, n_hubs: int, *, n_models: int = 1000, seed: int = 1) -> Iterator[Rate]:
    """Coverage and rejection rates over `n_hubs` Hubs of one scenario."""
    rules = replace(SCENARIOS[scenario], n_models=n_models)
    source = np.random.default_rng(seed)
    found = [analyse(simulate_hub(rules, source), source, rules) for _ in range(n_hubs)]
    neutral = rules.traits[0].linear == 0
    for name in found[0].estimates:
        usable = [a for a in found if math.isfinite(a.estimates[name].value)]
        target = found[0].targets.get(name)
        promised = math.nan if _is_for_comparison(name, scenario) else 0.95
        if target is None:
            # Over-optimistic by the error of the mean, as the truth is a mean over the same Hubs.
            truth = float(np.mean([a.estimates[name].value for a in usable]))
        else:
            sums = np.sum([a.shares[target] for a in found], axis=0)
            truth = float(sums[0] / sums[1])
        held = [a.estimates[name].low <= truth <= a.estimates[name].high for a in usable]
        yield Rate(scenario, f"coverage: {name}", float(np.mean(held)), len(held), promised)
        if target == _POPULATION:
            held = [a.estimates[name].low <= a.here <= a.estimates[name].high for a in usable]
            what = f"coverage, these parents: {name}"
            yield Rate(scenario, what, float(np.mean(held)), len(held), math.nan)
        if name[0] in "Siβ":
            level = 0.05 if neutral and not math.isnan(promised) else math.nan
            away = [not a.estimates[name].low <= 0 <= a.estimates[name].high for a in usable]
            yield Rate(scenario, f"interval off 0: {name}", float(np.mean(away)), len(away), level)
            given = [a.estimates[name].p_value for a in usable]
            tested = [p_value <= 0.05 for p_value in given if p_value is not None]
            if tested:
                what = f"rejects: {name}, its p-value"
                yield Rate(scenario, what, float(np.mean(tested)), len(tested), level)
    for name in found[0].p_values:
        p = np.array([a.p_values[name] for a in found])
        p = p[np.isfinite(p)]
        level = 0.05 if neutral else math.nan
        yield Rate(scenario, f"rejects: {name}", float((p <= 0.05).mean()), p.size, level)


def _is_for_comparison(name: str, scenario: str) -> bool:
    if name.startswith("h²") and "adjusted" not in name and scenario in _CONFOUNDED:
        return True
    return "all months" in name or "CR1" in name


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hubs", type=int, default=200, help="Hubs of each scenario")
    parser.add_argument("--models", type=int, default=1000, help="models of each Hub")
    parser.add_argument("--scenario", choices=list(SCENARIOS), action="append")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print(f"{'scenario':32} {'figure':58} {'rate':>6} {'±':>6} {'n':>4} {'promised':>8}")
    for scenario in given.scenario or SCENARIOS:
        for rate in rates(scenario, given.hubs, n_models=given.models, seed=given.seed):
            promised = "" if math.isnan(rate.promised) else f"{rate.promised:.2f}"
            mark = " !" if rate.off else ""
            print(
                f"{rate.scenario:32} {rate.what:58} {rate.rate:6.3f} {rate.error:6.3f} "
                f"{rate.n:4d} {promised:>8}{mark}",
                flush=True,
            )


if __name__ == "__main__":
    main()

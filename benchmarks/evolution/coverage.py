"""Do the intervals hold the truth, and do the tests of selection keep their level?

Run with ``python -m benchmarks.evolution.coverage`` (2–3 s of CPU a Hub of 1,000 models for
all scenarios; ``--hubs``, ``--models`` and ``--scenario`` choose less). Hubs are grown by
:mod:`lineage.evolution.chance.simulate`, where heritability and selection are known, and analysed
as a real Hub would be. A rate is printed with its binomial standard error; ``!`` marks one that is
more than three of them from what was promised.

Which heritability? A fine-tune has one parent of share 1 and inherits all of it, so that the slope
on the mid-parent is Cov(a, z)/Var(z) *among the parents that were used, each as often as it was*.
Changes add up along a lineage, so this exceeds the founders' h² from the first generation on; it
also takes in the author's effect where authors build on themselves. Both targets are printed.

The target moves with the parents of the Hub, the interval allows for other parents: it holds the
target more often than it says. A trend that nobody took out, or loyal authors, break it.

Selection: S, i and β are held against their means over all Hubs of a scenario.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lineage.evolution.chance.attachment import Attachment
from lineage.evolution.chance.attachment_fit import fit_attachment
from lineage.evolution.chance.copying_null import copying_null
from lineage.evolution.chance.rules import HubRules, TraitRules
from lineage.evolution.chance.simulate import SimulatedHub, simulate_hub
from lineage.evolution.inheritance.heritability import heritability, heritability_bootstrap
from lineage.evolution.selection.average_gradients import average_gradients
from lineage.evolution.selection.differentials import selection_differential, selection_intensity
from lineage.evolution.selection.fitness import children_within
from lineage.evolution.selection.gradients import linear_gradients, linear_gradients_bootstrap
from lineage.evolution.selection.multiple import permute_differential
from lineage.model import Estimate

Floats = NDArray[np.float64]

_HERITABILITY = 0.4
_WINDOW_DAYS = 180.0
_MONTH_DAYS = 30.0
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


@dataclass(frozen=True)
class Analysis:
    """One Hub: estimates with the truths that are known for it, and p-values of tests."""

    estimates: dict[str, Estimate]
    truths: dict[str, float]
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


def analyse(hub: SimulatedHub, rng: np.random.Generator, law: Attachment) -> Analysis:
    """Everything that is estimated and tested on one Hub."""
    population = hub.population()
    graph, trait = population.graph, population.traits["trait_0"]
    founder, day = graph.founder, population.born_day
    mid = population.mid_parent("trait_0")
    inherited = np.bincount(
        graph.edge_child,
        graph.parent_weight * hub.additive[0, graph.parent_index],
        minlength=len(graph),
    )
    bred = np.isfinite(mid)
    used = float(np.cov(inherited[bred], mid[bred])[0, 1] / mid[bred].var(ddof=1))
    fitness = children_within(graph, day, hub.until_day, _WINDOW_DAYS)
    traits = {"z": trait}
    by_cr1 = heritability(trait, mid, founder)
    by_bootstrap = heritability_bootstrap(trait, mid, founder, rng=rng, n_resamples=_RESAMPLES)
    estimates = {
        "h² of the parents used, CR1": by_cr1,
        "h² of the founders, CR1": by_cr1,
        "h² of the parents used, bootstrap": by_bootstrap,
        "S, founder bootstrap": selection_differential(
            trait, fitness, founder, rng=rng, n_resamples=_RESAMPLES
        ),
        "i, founder bootstrap": selection_intensity(
            trait, fitness, founder, rng=rng, n_resamples=_RESAMPLES
        ),
        "β, founder bootstrap": linear_gradients_bootstrap(
            traits, fitness, founder, rng=rng, n_resamples=_RESAMPLES
        ).beta["z"],
        "β, least squares": linear_gradients(traits, fitness).beta["z"],
        "β, Poisson, founder sandwich": average_gradients(
            traits, fitness, founder, family="poisson"
        )["z"],
    }
    truths = {
        "h² of the parents used, CR1": used,
        "h² of the parents used, bootstrap": used,
        "h² of the founders, CR1": _HERITABILITY,
    }
    month = (day // _MONTH_DAYS).astype(np.int64)
    stratum = np.unique(np.column_stack([founder, month]), axis=0, return_inverse=True)[1]
    p_values = {
        "S, permuted within months": permute_differential(
            trait, fitness, month, rng=rng, n_permutations=_REPLICATES
        ).p_value,
        "S, permuted within founder × month": permute_differential(
            trait, fitness, stratum, rng=rng, n_permutations=_REPLICATES
        ).p_value,
    }
    fitted = fit_attachment(graph, day).attachment
    for name, attachment in (("fitted", fitted), ("true", law)):
        null = copying_null(
            graph, day, traits, attachment, rng=rng, until_day=hub.until_day,
            window_days=_WINDOW_DAYS, n_replicates=_REPLICATES,
        )  # fmt: skip
        p_values[f"S, copying null, {name} law"] = null.differential["z"].p_value
        p_values[f"I, copying null, {name} law"] = null.opportunity.p_value
    return Analysis(estimates, truths, p_values)


def rates(scenario: str, n_hubs: int, *, n_models: int = 1000, seed: int = 1) -> Iterator[Rate]:
    """Coverage and rejection rates over `n_hubs` Hubs of one scenario."""
    rules = replace(SCENARIOS[scenario], n_models=n_models)
    source = np.random.default_rng(seed)
    found = [analyse(simulate_hub(rules, source), source, rules.attachment) for _ in range(n_hubs)]
    neutral = rules.traits[0].linear == 0
    for name in found[0].estimates:
        usable = [a for a in found if math.isfinite(a.estimates[name].value)]
        # Over-optimistic by the error of the mean where the truth is a mean over the same Hubs.
        mean = float(np.mean([a.estimates[name].value for a in usable]))
        held = [
            a.estimates[name].low <= a.truths.get(name, mean) <= a.estimates[name].high
            for a in usable
        ]
        level = math.nan if name.startswith("h² of the founders") else 0.95
        yield Rate(scenario, f"coverage: {name}", float(np.mean(held)), len(held), level)
        if name[0] in "Siβ":
            away = [not a.estimates[name].low <= 0 <= a.estimates[name].high for a in usable]
            yield Rate(
                scenario, f"rejects 0: {name}", float(np.mean(away)), len(away),
                0.05 if neutral else math.nan,
            )  # fmt: skip
    for name in found[0].p_values:
        p = np.array([a.p_values[name] for a in found])
        p = p[np.isfinite(p)]
        level = 0.05 if neutral else math.nan
        yield Rate(scenario, f"rejects: {name}", float((p <= 0.05).mean()), p.size, level)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hubs", type=int, default=200, help="Hubs of each scenario")
    parser.add_argument("--models", type=int, default=1000, help="models of each Hub")
    parser.add_argument("--scenario", choices=list(SCENARIOS), action="append")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print(f"{'scenario':32} {'figure':50} {'rate':>6} {'±':>6} {'n':>4} {'promised':>8}")
    for scenario in given.scenario or SCENARIOS:
        for rate in rates(scenario, given.hubs, n_models=given.models, seed=given.seed):
            promised = "" if math.isnan(rate.promised) else f"{rate.promised:.2f}"
            mark = " !" if rate.off else ""
            print(
                f"{rate.scenario:32} {rate.what:50} {rate.rate:6.3f} {rate.error:6.3f} "
                f"{rate.n:4d} {promised:>8}{mark}",
                flush=True,
            )


if __name__ == "__main__":
    main()

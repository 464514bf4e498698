"""Heredity of licence, language and task on a real sample of the Hub, and its drift.

    python -m benchmarks.evolution.radar_categories ../shared/data/radar

Reads ``models.jsonl.gz`` and ``edges_from_tags.csv.gz`` (CC-BY-4.0) and prints a table. Edges are
those that tags state, but for models that name themselves; a parent outside the sample is of
unknown value. Seeds are fixed: the same data give the same lines.
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crawler.licences import class_of
from crawler.traits import Facts, facts_of
from lineage.evolution.categories.drift import drift_table, turnover
from lineage.evolution.categories.information import parent_information
from lineage.evolution.categories.mutation import clustered_mean, mutation_rates
from lineage.evolution.categories.siblings import sibling_resemblance
from lineage.evolution.categories.value_sets import single_values, value_sets
from lineage.evolution.diversity.entropy import PARTS, chao_shen, shannon
from lineage.evolution.diversity.entropy_months import entropy_through_time
from lineage.evolution.diversity.hill import chao1, hill_number
from lineage.evolution.diversity.intervals import diversity
from lineage.evolution.diversity.niches import niche_overlap
from lineage.evolution.diversity.rarefaction import diversity_through_time
from lineage.evolution.traits import Population
from lineage.graph import LineageGraph
from lineage.model import Estimate

Ints = NDArray[np.int64]

# How freely a licence's class lets others derive: the order of the drift that the paper reports.
FREEDOM = {"non_commercial": 0, "custom": 1, "copyleft": 2, "permissive": 3}


@dataclass(frozen=True, eq=False)
class Radar:
    """The sample: pedigree, stated facts (None for models outside), edges and birth months."""

    graph: LineageGraph
    facts: tuple[Facts | None, ...]
    kind: tuple[str, ...]
    child: Ints
    parent: Ints
    month: Ints
    removed: Ints

    def sets(self, trait: str) -> list[frozenset[str]]:
        """Stated values of ``licence``, ``languages`` or ``tasks``; empty where unknown."""
        return [frozenset() if facts is None else _stated(facts, trait) for facts in self.facts]

    @property
    def founder(self) -> Ints:
        """Founder of each edge."""
        return self.graph.founder[self.child]


def _stated(facts: Facts, trait: str) -> frozenset[str]:
    if trait == "licence":
        return frozenset() if facts.licence in {None, "unknown"} else frozenset({facts.licence})
    return frozenset(getattr(facts, trait))


def read_radar(folder: Path) -> Radar:
    """The sample as a pedigree."""
    records = {}
    with gzip.open(folder / "models.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            records[record["id"]] = record
    with gzip.open(folder / "edges_from_tags.csv.gz", "rt", encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row["child"] != row["parent"]]
    kinds = {(row["child"], row["parent"]): row["relation_tag"] or "unstated" for row in rows}
    ids = sorted({*records, *(name for edge in kinds for name in edge)})
    edges = [(child, parent, None, k) for k, (child, parent) in enumerate(sorted(kinds))]
    graph = LineageGraph.from_edges(ids, edges)
    month = np.full(len(ids), -1)
    removed = np.full(len(ids), -1)
    for i, name in enumerate(ids):
        if name in records:
            month[i] = _month(records[name]["created_at"])
            removed[i] = _month(records[name]["removed_at"])
    parent = graph.parent_index
    child = graph.edge_child
    return Radar(
        graph,
        tuple(facts_of(records[name]) if name in records else None for name in ids),
        tuple(kinds[ids[c], ids[p]] for c, p in zip(child, parent, strict=True)),
        child,
        parent,
        month,
        removed,
    )


def _month(moment: str | None) -> int:
    """Months since January of the year 0, −1 for unknown."""
    return 12 * int(moment[:4]) + int(moment[5:7]) - 1 if moment else -1


def shown(found: Estimate) -> str:
    """An estimate on one line."""
    p = "" if found.p_value is None else f", p {found.p_value:.3g}"
    groups = "" if found.n_clusters is None else f", {found.n_clusters} groups"
    return f"{found.value:.4f} [{found.low:.4f}, {found.high:.4f}] (n {found.n}{groups}{p})"


def main() -> None:
    radar = read_radar(Path(sys.argv[1]))
    child, parent, founder = radar.child, radar.parent, radar.founder
    print(f"{len(radar.graph)} models, {child.size} edges, {np.unique(founder).size} founders")
    for trait in ("licence", "languages", "tasks"):
        stated = radar.sets(trait)
        sets, values = value_sets(stated)
        print(f"\n{trait}: stated by {sum(map(bool, stated))} models, {len(values)} values")
        for kind, rate in mutation_rates(sets, child, parent, founder, radar.kind).items():
            print(
                f"  {kind or 'all'}: by parent {shown(rate.by_parent)}; by founder "
                f"{shown(rate.by_founder)}; known {rate.n_known} of {rate.n_edges} edges "
                f"({rate.share_known:.1%}), changed {rate.n_changed}, disjoint {rate.n_disjoint}"
            )
        rng = np.random.default_rng(1)
        kin = sibling_resemblance(sets, child, parent, founder, rng=rng)
        print(f"  to parent {shown(kin.parent_child)}; to sibling {shown(kin.siblings)};")
        print(f"  difference {shown(kin.difference)} in {kin.n_sibships} sibships")
        value = single_values(sets)
        told = parent_information(value, child, parent, founder, rng=rng)
        print(f"  I/H {shown(told.observed)}, null {told.null_mean:.4f} ", end="")
        print(f"[{told.null_low:.4f}, {told.null_high:.4f}], excess {told.excess:.4f}")
        for row in drift_table(value, child, parent, parent)[:10]:
            q = f"{row.q_value:.3g}" if row.share.p_value is not None else "not tested"
            print(
                f"  {values[row.a]} → {values[row.b]}: {row.n_ab} against {row.n_ba} edges; "
                f"parents {row.groups_ab} against {row.groups_ba}, share {shown(row.share)}, "
                f"q {q}; per edge {shown(row.rate_ab)} against {shown(row.rate_ba)}"
            )
        if trait != "licence":
            for turn in turnover(sets, child, parent)[:6]:
                print(
                    f"  {values[turn.value]}: lost {turn.n_lost}, gained {turn.n_gained}; ", end=""
                )
                print(f"per edge {shown(turn.lost)}, {shown(turn.gained)}")
        group = radar.graph.founder
        for name, statistic in (
            ("D0", partial(hill_number, q=0)),
            ("D1", partial(hill_number, q=1)),
            ("D2", partial(hill_number, q=2)),
            ("Chao1", chao1),
            ("H", shannon),
            ("H Chao–Shen", chao_shen),
        ):
            print(f"  {name} {shown(diversity(value, group, statistic, name, rng=rng))}")
    _licence_classes(radar)
    _through_time(radar)
    _niches(radar)


def _licence_classes(radar: Radar) -> None:
    """Drift between classes of licences, and its mean step towards freedom."""
    words = radar.sets("licence")
    kinds = [class_of(next(iter(word))).value if word else "unknown" for word in words]
    names = list(FREEDOM)
    value = np.array([names.index(kind) if kind in FREEDOM else -1 for kind in kinds])
    print("\nclasses of licences")
    for row in drift_table(value, radar.child, radar.parent, radar.parent):
        q = f"{row.q_value:.3g}" if row.share.p_value is not None else "not tested"
        print(
            f"  {names[row.a]} → {names[row.b]}: {row.n_ab} against {row.n_ba} edges; "
            f"parents {row.groups_ab} against {row.groups_ba}, share {shown(row.share)}, q {q}; "
            f"per edge {shown(row.rate_ab)} against {shown(row.rate_ba)}"
        )
    known = (value[radar.child] >= 0) & (value[radar.parent] >= 0)
    step = np.sign(value[radar.child] - value[radar.parent])[known].astype(float)
    for name, cluster in (("parent", radar.parent), ("founder", radar.founder)):
        net = clustered_mean(step, cluster[known], "steps", bounds=(-1, 1))
        print(f"  steps towards freedom less steps away, per edge, by {name}: {shown(net)}")


def _through_time(radar: Radar) -> None:
    sets, _ = value_sets(radar.sets("licence"))
    value = single_values(sets)
    founder = radar.graph.founder
    print("\nlicences born per month at equal coverage, Hill number of order 1")
    for found in diversity_through_time(
        radar.month, value, founder, q=1, rng=np.random.default_rng(2)
    )[-12:]:
        print(f"  {found.window // 12}-{found.window % 12 + 1:02}: n {found.n}, ", end="")
        print(f"coverage {found.coverage:.3f}, D1 {shown(found.diversity)}")
    print("\nentropy of licences of all living models, change by part")
    for account in entropy_through_time(
        radar.graph, value, radar.month, removed=radar.removed, rng=np.random.default_rng(3)
    )[-6:]:
        when = f"{account.window // 12}-{account.window % 12 + 1:02}"
        print(f"  {when}: {account.account.entropies[0]:.4f} → {account.account.entropies[-1]:.4f}")
        for part in (*PARTS, "change"):
            print(f"    {part} {shown(account.intervals[part])}")


def _niches(radar: Radar) -> None:
    """Overlap of the tasks of the largest families, branches being the independent units."""
    graph = radar.graph
    sets, _ = value_sets(radar.sets("tasks"))
    model = np.repeat(np.arange(len(graph)), np.diff(sets.indptr))
    family, size = np.unique(graph.founder[model], return_counts=True)
    largest = family[np.argsort(-size)][:4]
    branch = Population(graph, np.full(len(graph), np.nan), {}).branch
    print("\noverlap of tasks, Morisita–Horn")
    for i, a in enumerate(largest.tolist()):
        for b in largest[i + 1 :].tolist():
            found = niche_overlap(
                graph.founder[model],
                sets.indices.astype(np.int64),
                branch[model],
                (a, b),
                rng=np.random.default_rng(4),
            )
            print(f"  {graph.ids[a]} and {graph.ids[b]}: {shown(found)}")


if __name__ == "__main__":
    main()

"""The Price equation divided by kind of edge and by level: a hand case and identities."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lineage.evolution.selection.price import (
    PedigreeLinks,
    PricePartition,
    pedigree_links,
    price_partition,
    selection_by_level,
    transmission_by_kind,
)
from lineage.graph import CycleError, LineageGraph

Floats = NDArray[np.float64]
NAN = math.nan

# -- a case worked on paper ---------------------------------------------------------------------
#
# Parents a 0, b 2, c 4, d 6; families {a, b} and {c, d}; a is a base model, the others are not.
# Newborn: e from b (fine-tune) 3; f from b ¼ and d ¾ (merge) 4; g from d (quantised) 5;
# h a founder 10; i from c and from the unmeasured x: left out.

IDS = ["a", "b", "c", "d", "x", "e", "f", "g", "h", "i"]
TRAIT = np.array([0.0, 2, 4, 6, NAN, 3, 4, 5, 10, 1])
EDGES = [
    ("e", "b", 1.0, 0),
    ("f", "b", 0.5, 0),  # recipes state shares on any scale
    ("f", "d", 1.5, 1),
    ("g", "d", 1.0, 0),
    ("g", "x", 0.0, 1),  # a parent of no share is no parent
    ("i", "c", 0.5, 0),
    ("i", "x", 0.5, 1),
]
KINDS = {"e": "finetune", "f": "merge", "g": "quantized", "i": "merge"}


def hand_case() -> tuple[LineageGraph, PedigreeLinks]:
    graph = LineageGraph.from_edges(IDS, EDGES)
    measured = np.isfinite(TRAIT)
    old = np.arange(len(IDS)) < 5
    return graph, pedigree_links(graph, old & measured, ~old & measured)


def partition_of(trait: Floats, links: PedigreeLinks) -> PricePartition:
    return price_partition(
        trait[links.parent],
        trait[links.child],
        links.link_child,
        links.link_parent,
        links.link_share,
    )


def fitness_of(links: PedigreeLinks) -> Floats:
    return np.bincount(links.link_parent, weights=links.link_share, minlength=links.parent.size)


def test_links_of_a_pedigree_worked_on_paper() -> None:
    graph, links = hand_case()
    names = [
        (graph.ids[links.child[i]], graph.ids[links.parent[j]], share)
        for i, j, share in zip(
            links.link_child, links.link_parent, links.link_share.tolist(), strict=True
        )
    ]
    assert names == [("e", "b", 1.0), ("f", "b", 0.25), ("f", "d", 0.75), ("g", "d", 1.0)]
    assert [graph.ids[k] for k in links.child] == ["e", "f", "g", "h"]
    assert [graph.ids[k] for k in links.parent] == ["a", "b", "c", "d"]
    assert links.n_left_out == 1
    assert fitness_of(links).tolist() == [0, 1.25, 0, 1.75]


def test_the_partition_of_a_pedigree_worked_on_paper() -> None:
    _, links = hand_case()
    part = partition_of(TRAIT, links)
    # w̄ ¾, w̃ 0 5/3 0 7/3: Σw̃z/4 = (10/3 + 14)/4 = 13/3, less 3
    assert part.selection == pytest.approx(4 / 3)
    # e +1; f ¼·2 − ¾·2 = −1; g −1; over 3
    assert part.transmission == pytest.approx(-1 / 3)
    assert part.immigration == pytest.approx((10 - 4) / 4)
    assert part.change == pytest.approx(22 / 4 - 3)
    assert (part.n_parents, part.n_children, part.n_immigrants) == (4, 3, 1)


def test_transmission_by_kind_of_a_pedigree_worked_on_paper() -> None:
    graph, links = hand_case()
    kinds = [KINDS[graph.ids[links.child[i]]] for i in links.link_child]
    parts = transmission_by_kind(
        TRAIT[links.parent],
        TRAIT[links.child],
        links.link_child,
        links.link_parent,
        links.link_share,
        kinds,
    )
    assert list(parts) == ["finetune", "merge", "quantized"]
    assert [p.transmission for p in parts.values()] == pytest.approx([1 / 3, -1 / 3, -1 / 3])
    assert [p.descent for p in parts.values()] == pytest.approx([1 / 3] * 3)
    assert [p.mean_step for p in parts.values()] == pytest.approx([1, -1, -1])
    assert [p.n_links for p in parts.values()] == [1, 2, 1]


def test_selection_by_level_of_a_pedigree_worked_on_paper() -> None:
    _, links = hand_case()
    trait, w = TRAIT[links.parent], fitness_of(links)
    # Families: z 1, 5; w̃ 5/6, 7/6: covariance 2·1/6 = 1/3. Within: w̃ ±5/6, z ±1; w̃ ±7/6, z ±1.
    parts = selection_by_level(trait, w, {"family": np.array([7, 7, 3, 3])})
    assert parts == pytest.approx({"family": 1 / 3, "within": (5 / 6 + 7 / 6) / 2})
    # Base models apart from the rest first, then families of each: a alone, b alone, {c, d}.
    nested = selection_by_level(
        trait, w, {"base": np.array([0, 1, 1, 1]), "family": np.array([0, 1, 2, 2])}
    )
    # base: z 0, 4 about 3; w̃ 0, 4/3 about 1. rest by family: b −2, {c, d} +1; w̃ 1/3, −1/6
    assert nested["base"] == pytest.approx((3 * 1 + 3 * (1 / 3)) / 4)
    assert nested["family"] == pytest.approx((-2 / 3 - 1 / 6 - 1 / 6) / 4)
    assert nested["within"] == pytest.approx((7 / 6 + 7 / 6) / 4)
    assert sum(nested.values()) == pytest.approx(4 / 3)


# -- identities on random pedigrees --------------------------------------------------------------


@dataclass
class Case:
    graph: LineageGraph
    trait: Floats
    is_parent: NDArray
    is_newborn: NDArray
    kind: list[str]
    family: NDArray
    branch: NDArray


@st.composite
def pedigrees(draw: st.DrawFn) -> Case:
    """Any number of parents of unequal shares, founders old and new, groups within groups."""
    n = draw(st.integers(2, 12))
    first = draw(st.integers(1, n - 1))
    ids = [f"m{i}" for i in range(n)]
    edges, kind = [], {}
    for i in range(1, n):
        for place, k in enumerate(
            draw(st.lists(st.integers(0, i - 1), max_size=min(i, 4), unique=True))
        ):
            edges.append((ids[i], ids[k], draw(st.floats(0.01, 5)), place))
            kind[ids[i], ids[k]] = draw(st.sampled_from(["finetune", "merge", "quantized"]))
    graph = LineageGraph.from_edges(ids, edges)
    measured = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    number = st.lists(st.floats(-10, 10), min_size=n, max_size=n)
    labels = st.lists(st.integers(0, 2), min_size=n, max_size=n)
    family, branch = np.array(draw(labels)), np.array(draw(labels))
    return Case(
        graph,
        np.array(draw(number)),
        # Those born early in the interval may be parents later in it.
        (np.arange(n) < first + draw(st.integers(0, 2))) & measured,
        (np.arange(n) >= first) & measured,
        [
            kind[ids[c], ids[p]]
            for c, p in zip(graph.edge_child, graph.parent_index, strict=True)
        ],
        family,
        10 * family + branch,
    )  # fmt: skip


@given(pedigrees())
def test_kinds_levels_and_immigrants_add_up_on_any_pedigree(case: Case) -> None:
    links = pedigree_links(case.graph, case.is_parent, case.is_newborn)
    assert links.child.size + links.n_left_out == case.is_newborn.sum()
    z, after = case.trait[links.parent], case.trait[links.child]
    arrays = (z, after, links.link_child, links.link_parent, links.link_share)
    if not links.link_child.size:
        with pytest.raises(ValueError, match="no child has a parent"):
            price_partition(*arrays)
        return
    part = price_partition(*arrays)
    kinds = [case.kind[edge] for edge in links.link_edge]
    by_kind = transmission_by_kind(*arrays, kinds)
    levels = {"family": case.family[links.parent], "branch": case.branch[links.parent]}
    by_level = selection_by_level(z, fitness_of(links), levels)
    assert list(by_level) == ["family", "branch", "within"]
    transmission = sum(p.transmission for p in by_kind.values())
    selection = sum(by_level.values())
    assert transmission == pytest.approx(part.transmission, abs=1e-12)
    assert selection == pytest.approx(part.selection, abs=1e-12)
    change = selection + transmission + part.immigration
    assert change == pytest.approx(after.mean() - z.mean(), abs=1e-12)
    assert sum(p.descent for p in by_kind.values()) == pytest.approx(1, abs=1e-12)
    assert sum(p.n_links for p in by_kind.values()) == links.link_child.size
    for p in by_kind.values():
        assert p.descent * p.mean_step == pytest.approx(p.transmission, abs=1e-12)


@given(pedigrees())
def test_each_part_is_what_a_plain_loop_makes_it(case: Case) -> None:
    graph, trait = case.graph, case.trait
    kept, steps = [], {}
    w = dict.fromkeys(np.flatnonzero(case.is_parent).tolist(), 0.0)
    for i in np.flatnonzero(case.is_newborn).tolist():
        parents = [(graph.number(name), share) for name, share in graph.parents(graph.ids[i])]
        if not all(case.is_parent[k] for k, _ in parents):
            continue
        kept.append((i, bool(parents)))
        for k, share in parents:
            share /= sum(s for _, s in parents)
            w[k] += share
            edge = int(np.flatnonzero((graph.edge_child == i) & (graph.parent_index == k))[0])
            step = share * (trait[i] - trait[k])
            steps[case.kind[edge]] = steps.get(case.kind[edge], 0.0) + step
    links = pedigree_links(graph, case.is_parent, case.is_newborn)
    assert [graph.ids[i] for i in links.child] == [graph.ids[i] for i, _ in kept]
    bred = [i for i, has_parents in kept if has_parents]
    if not bred:
        return
    assert fitness_of(links) == pytest.approx(list(w.values()), abs=1e-12)
    by_kind = transmission_by_kind(
        trait[links.parent], trait[links.child], links.link_child, links.link_parent,
        links.link_share, [case.kind[edge] for edge in links.link_edge],
    )  # fmt: skip
    assert {k: p.transmission for k, p in by_kind.items()} == pytest.approx(
        {k: total / len(bred) for k, total in steps.items()}, abs=1e-12
    )
    old = list(w)
    z, relative = trait[old], np.array(list(w.values())) / np.mean(list(w.values()))
    groups: dict[int, list[int]] = {}
    for place, label in enumerate(case.family[old].tolist()):
        groups.setdefault(label, []).append(place)
    between = sum(
        len(own) * (relative[own].mean() - 1) * (z[own].mean() - z.mean())
        for own in groups.values()
    ) / len(old)  # fmt: skip
    within = sum(
        len(own) * np.cov(relative[own], z[own], bias=True)[0, 1] for own in groups.values()
    ) / len(old)
    found = selection_by_level(z, fitness_of(links), {"family": case.family[old]})
    assert found == pytest.approx({"family": between, "within": within}, abs=1e-12)


def test_without_levels_all_selection_is_within() -> None:
    z, w = np.array([1.0, 2, 5]), np.array([0.0, 1, 3])
    found = selection_by_level(z, w, {})
    assert found == pytest.approx({"within": np.cov(w / w.mean(), z, bias=True)[0, 1]})


def test_large_traits_keep_their_digits() -> None:
    # Numbers of parameters: the parts still sum to the change at rounding of the scale.
    trait = TRAIT * 1e9 + 7e10
    _, links = hand_case()
    part = partition_of(trait, links)
    levels = selection_by_level(
        trait[links.parent], fitness_of(links), {"family": np.array([0, 0, 1, 1])}
    )
    assert sum(levels.values()) == pytest.approx(part.selection, rel=1e-12)
    assert part.selection == pytest.approx(4e9 / 3, rel=1e-12)


# -- refusals -----------------------------------------------------------------------------------


def test_a_cycle_is_the_graphs_error() -> None:
    with pytest.raises(CycleError, match="a model is its own ancestor"):
        LineageGraph.from_edges(["a", "b"], [("a", "b", 1.0, 0), ("b", "a", 1.0, 0)])


def test_a_negative_share_is_refused_with_the_models_name() -> None:
    graph = LineageGraph.from_edges(
        ["a", "b", "task"], [("task", "a", 1.5, 0), ("task", "b", -0.5, 1)]
    )
    old = np.array([True, True, False])
    with pytest.raises(ValueError, match="task: a share of descent must not be negative"):
        pedigree_links(graph, old, ~old)
    assert pedigree_links(graph, old, np.zeros(3, dtype=bool)).child.size == 0


def test_a_child_of_zero_shares_is_left_out_and_is_no_immigrant() -> None:
    graph = LineageGraph.from_edges(["a", "b"], [("b", "a", 0.0, 0)])
    links = pedigree_links(graph, np.array([True, False]), np.array([False, True]))
    assert (links.child.size, links.n_left_out) == (0, 1)


def test_masks_and_kinds_of_the_wrong_length_are_refused() -> None:
    graph, links = hand_case()
    with pytest.raises(ValueError, match="is_newborn: 10 values expected, 2 given"):
        pedigree_links(graph, np.ones(10, dtype=bool), np.ones(2, dtype=bool))
    with pytest.raises(ValueError, match="is_parent: 10 values expected, 2 given"):
        pedigree_links(graph, np.ones(2, dtype=bool), np.ones(10, dtype=bool))
    with pytest.raises(ValueError, match="link_kind: 4 kinds expected, 1 given"):
        transmission_by_kind(
            TRAIT[links.parent], TRAIT[links.child], links.link_child, links.link_parent,
            links.link_share, ["merge"],
        )  # fmt: skip


@pytest.mark.parametrize("share", [[-0.5, 1.5], [NAN, 1.0]])
def test_negative_or_missing_shares_are_refused(share: list[float]) -> None:
    arrays = (
        np.array([0.0, 1.0]), np.array([2.0]), np.array([0, 0]), np.array([0, 1]), np.array(share)
    )  # fmt: skip
    with pytest.raises(ValueError, match="every link needs its share, not negative"):
        price_partition(*arrays)
    with pytest.raises(ValueError, match="every link needs its share, not negative"):
        transmission_by_kind(*arrays, ["merge", "merge"])


def test_a_kind_of_no_share_has_no_mean_step() -> None:
    parts = transmission_by_kind(
        np.array([0.0, 1.0]), np.array([2.0]), np.array([0, 0]), np.array([0, 1]),
        np.array([0.0, 1.0]), ["empty", "full"],
    )  # fmt: skip
    assert (parts["empty"].transmission, parts["empty"].descent) == (0, 0)
    assert math.isnan(parts["empty"].mean_step)
    assert parts["full"].mean_step == 1


@pytest.mark.parametrize(
    ("trait", "fitness", "levels", "message"),
    [
        ([1, NAN], [1, 1], {}, "every model needs its trait"),
        ([1, 2], [1, NAN], {}, "every model needs its fitness, not negative"),
        ([1, 2], [1, -1], {}, "every model needs its fitness, not negative"),
        ([1, 2], [1, math.inf], {}, "every model needs its fitness, not negative"),
        ([1, 2], [0, 0], {}, "no model has any fitness"),
        ([], [], {}, "no model has any fitness"),
        ([1, 2], [1, 1], {"within": [0, 1]}, "no level may be called 'within'"),
        ([1, 2], [1, 1], {"family": [0]}, "family: 2 labels expected, 1 given"),
        (
            [1, 2, 3],
            [1, 1, 1],
            {"wide": [0, 0, 1], "narrow": [0, 1, 1]},
            "narrow: a group lies in several groups",
        ),
    ],
)
def test_selection_that_cannot_be_divided_is_refused(
    trait: list[float], fitness: list[float], levels: dict[str, list[int]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        selection_by_level(
            np.array(trait, dtype=float),
            np.array(fitness, dtype=float),
            {name: np.array(label) for name, label in levels.items()},
        )

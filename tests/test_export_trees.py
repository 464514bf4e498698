"""Trees and graphs leave as Newick, Nexus and GraphML, and come back whole in other tools."""

from __future__ import annotations

import io
import itertools
import re
from datetime import UTC, datetime, timedelta

import dendropy
import networkx as nx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lineage.export.graphml import graphml
from lineage.export.newick import extended_newick, newick, quoted_label
from lineage.export.nexus import nexus
from lineage.export.pedigree import Bond, Individual, Pedigree, primary_forest, printable

DAY = datetime(2024, 3, 1, tzinfo=UTC)
HOSTILE = (
    "o/it's", "o/[a comment]", "o/a;b", "o/(a,b):1", 'o/"quoted"', "o/\u202egpj.exe", "o/<b>&amp;",
    "o/under_score", "o/new\nline", "o/" + "x" * 500, "#H1", "o/a#H1", "''", "\\",
)  # fmt: skip


def one(name, day=None, **more):
    return Individual(name, None if day is None else DAY + timedelta(days=day), **more)


FAMILY = Pedigree(
    (
        one("f/a", 0, colour="#0072B2", facts={"downloads": 12, "licence": "mit"}),
        one("c/1", 10, facts={"downloads": None, "licence": None}),
        one("c/2", 20),
        one("m/erge", 30, colour="#D55E00"),
        one("m/child", 45),
        one("f/b", 5),
    ),
    (
        Bond("c/1", "f/a", True, {"relation": "finetune", "weight": 1.0}),
        Bond("c/2", "f/a", True, {"relation": "adapter", "weight": None}),
        Bond("m/erge", "c/1", True, {"relation": "merge", "weight": 0.6}),
        Bond("m/erge", "f/b", False, {"relation": "merge", "weight": 0.4}),
        Bond("m/child", "m/erge", True, {}),
        Bond("c/1", "out/side", False, {}),
    ),
)


def read_trees(text, schema="newick"):
    return dendropy.TreeList.get(
        data=text, schema=schema, preserve_underscores=True,
        suppress_leaf_node_taxa=True, suppress_internal_node_taxa=True,
    )  # fmt: skip


def parents(tree):
    """Parent of every labelled node, as another tool read it."""
    return {
        node.label: node.parent_node.label if node.parent_node else None
        for node in tree.preorder_node_iter()
    }


def test_newick_holds_the_primary_trees_with_days_as_lengths():
    assert newick(FAMILY) == (
        "((('m/child':15)'m/erge':20)'c/1':10,'c/2':20)'f/a';\n'f/b';\n"
    )  # fmt: skip


def test_extended_newick_repeats_a_merge_below_its_other_parents_under_one_root():
    assert extended_newick(FAMILY) == (
        "(((('m/child':15)'m/erge#H1':20)'c/1':10,'c/2':20)'f/a',('m/erge#H1':25)'f/b');\n"
    )
    (tree,) = read_trees(extended_newick(FAMILY))
    above = [n.parent_node.label for n in tree.preorder_node_iter() if n.label == "m/erge#H1"]
    assert sorted(above) == ["c/1", "f/b"]


def test_a_merge_without_its_primary_parent_hangs_on_another_in_extended_newick_only():
    cut = Pedigree(FAMILY.individuals[2:], FAMILY.bonds)
    assert newick(cut).splitlines() == ["'c/2';", "('m/child':15)'m/erge';", "'f/b';"]
    assert extended_newick(cut) == "('c/2',(('m/child':15)'m/erge':25)'f/b');\n"


def test_nexus_has_tips_trees_and_colours():
    text = nexus(FAMILY)
    read = dendropy.TreeList.get(data=text, schema="nexus", preserve_underscores=True)
    assert {taxon.label for taxon in read.taxon_namespace} == {"c/2", "m/child", "f/b"}
    assert len(read) == 2
    (merge,) = [n for n in read[0].preorder_node_iter() if n.label == "m/erge"]
    assert merge.annotations.get_value("!color") == "#D55E00"


def test_a_colour_that_is_none_cannot_end_the_comment():
    assert "color" not in nexus(Pedigree((one("a/b", colour="]red"),), ()))


def test_graphml_keeps_facts_with_their_types_and_leaves_missing_ones_out():
    graph = nx.read_graphml(io.BytesIO(graphml(FAMILY).encode()))
    by_name = {data["name"]: data for _, data in graph.nodes(data=True)}
    assert by_name["f/a"]["downloads"] == 12
    assert "downloads" not in by_name["c/1"]
    assert by_name["f/a"]["born"] == "2024-03-01T00:00:00+00:00"
    name = nx.get_node_attributes(graph, "name")
    edges = {(name[a], name[b]): data for a, b, data in graph.edges(data=True)}
    assert edges["f/b", "m/erge"] == {"relation": "merge", "weight": 0.4, "primary": False}
    assert "weight" not in edges["f/a", "c/2"]
    assert len(edges) == 5


@pytest.mark.parametrize("write", [newick, extended_newick, nexus, graphml])
def test_an_empty_pedigree_is_a_valid_file(write):
    text = write(Pedigree((), ()))
    if write is graphml:
        assert len(nx.read_graphml(io.BytesIO(text.encode()))) == 0
    elif write is nexus:
        assert "NTAX=0" in text
    else:
        assert text == ""


def test_nobody_is_their_own_ancestor_whatever_the_claims_say():
    ring = Pedigree(
        tuple(one(name) for name in "abc"),
        (Bond("a", "b", True), Bond("b", "c", True), Bond("c", "a", True), Bond("a", "a", False)),
    )
    forest = primary_forest(ring)
    assert forest.roots == ("c",)
    assert forest.extra == ()
    assert newick(ring) == "(('a')'b')'c';\n"
    assert extended_newick(ring) == newick(ring)


def test_a_child_that_seems_older_than_its_parent_has_length_zero():
    odd = Pedigree(
        (one("p", 10), one("c", 3), one("d")), (Bond("c", "p", True), Bond("d", "p", True))
    )
    assert newick(odd) == "('c':0,'d')'p';\n"


def test_a_chain_of_thousands_is_written():
    names = [f"o/{i}" for i in range(3000)]
    chain = Pedigree(
        tuple(one(name) for name in names),
        tuple(Bond(b, a, True) for a, b in itertools.pairwise(names)),
    )
    assert newick(chain).count("(") == 2999


@given(st.text(max_size=500))
@example("it's")
def test_a_quoted_label_is_one_word_without_line_breaks(name):
    label = quoted_label(name)
    assert re.fullmatch(r"'(?:[^']|'')*'", label, re.DOTALL)
    assert len(label.splitlines()) == 1


any_name = st.sampled_from(HOSTILE) | st.text(min_size=1, max_size=30)


@st.composite
def pedigrees(draw):
    names = draw(st.lists(any_name.map(printable), min_size=1, max_size=9, unique=True))
    days = draw(st.lists(st.none() | st.integers(0, 900), min_size=9, max_size=9))
    bonds = []
    for place, child in enumerate(names):
        above = draw(st.lists(st.integers(0, len(names) - 1), max_size=3, unique=True))
        bonds += [Bond(child, names[i], not rank, {}) for rank, i in enumerate(above) if i < place]
    return Pedigree(tuple(one(n, d) for n, d in zip(names, days, strict=False)), tuple(bonds))


@given(pedigrees())
def test_dendropy_reads_back_every_name_and_parent(pedigree):
    names = {p.name for p in pedigree.individuals}
    wanted = dict.fromkeys(names) | {b.child: b.parent for b in pedigree.bonds if b.is_primary}
    for text, schema in ((newick(pedigree), "newick"), (nexus(pedigree), "nexus")):
        read = [parents(tree) for tree in read_trees(text, schema)]
        assert {k: v for tree in read for k, v in tree.items()} == wanted
        assert sum(map(len, read)) == len(names)


@given(pedigrees())
def test_dendropy_reads_back_every_bond_of_a_network(pedigree):
    (tree,) = read_trees(extended_newick(pedigree))
    numbered = re.compile(r"(.*)#H\d+", re.DOTALL)
    hybrids = {
        b.child for b in pedigree.bonds if sum(o.child == b.child for o in pedigree.bonds) > 1
    }

    def plain(label):
        found = numbered.fullmatch(label or "")
        return found[1] if found and found[1] in hybrids else label

    nodes = [node for node in tree.preorder_node_iter() if node.label is not None]
    bonds = {(plain(n.label), plain(n.parent_node.label)) for n in nodes if n.parent_node}
    assert {b for b in bonds if b[1] is not None} == {(b.child, b.parent) for b in pedigree.bonds}
    assert {plain(n.label) for n in nodes} == {p.name for p in pedigree.individuals}


@given(pedigrees())
def test_networkx_reads_back_every_name_and_bond(pedigree):
    graph = nx.read_graphml(io.BytesIO(graphml(pedigree).encode()))
    name = nx.get_node_attributes(graph, "name")
    assert list(name.values()) == [p.name for p in pedigree.individuals]
    assert {(name[b], name[a]) for a, b in graph.edges} == {
        (b.child, b.parent) for b in pedigree.bonds
    }

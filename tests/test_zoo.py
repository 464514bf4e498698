"""The proving ground: what is planned, how disguises hide, what simpler rules say."""

from __future__ import annotations

import copy
import json
from collections import Counter

import numpy as np
import pytest
import torch

from benchmarks.zoo.baselines import kurtosis_trees, nearest_by_cosine, unmixed
from benchmarks.zoo.building import AnotherPlanError, _findable_parents, build
from benchmarks.zoo.cutting import cut_models
from benchmarks.zoo.labels import Label, read_labels
from benchmarks.zoo.measuring import placed_below
from benchmarks.zoo.plan import CONFIGURATIONS, N_FOUNDERS, SPLITS, Node, plan
from benchmarks.zoo.published_merges import METHODS, MergeDrawer
from data.build_pocket.architectures import new_model
from data.build_pocket.disguises import DISGUISES
from data.build_pocket.recipes import FineTune, MergekitMerge, Pretrain, ancestry_of
from data.build_pocket.surgery import reindex_vocabulary
from data.build_pocket.workshop import Workshop
from lineage.infer.geometry import Pool
from lineage.infer.truth import TrueModel, Truth, read_truth
from lineage.model import Finding, Grade, Kind, ParentShare
from lineage.weights.roles import TensorKey
from simulated import Herd, fingerprint, stored


@pytest.fixture(scope="module")
def nodes():
    return plan()


# the plan


def test_more_merges_leave_everything_else_as_it_was(nodes):
    old = {node.id for node in nodes}
    more = plan(more_merges=2)
    assert tuple(node for node in more if node.id in old) == nodes
    new = [node for node in more if node.id not in old]
    families = {node.family for node in nodes if not node.family.startswith("bert")}
    assert Counter(node.family for node in new) == dict.fromkeys(families, 2)
    assert all(node.recipe.config["merge_method"] != "passthrough" for node in new)


def test_a_seed_fixes_the_plan(nodes):
    assert plan() == nodes
    assert plan(seed=1) != nodes


def test_the_plan_is_large_enough_for_small_error_rates(nodes):
    assert len(nodes) >= 300
    founders = Counter(
        node.configuration
        for node in nodes
        if isinstance(node.recipe, Pretrain) and node.recipe.same_init_as is None
    )
    assert founders == dict.fromkeys(CONFIGURATIONS, N_FOUNDERS)
    sizes = Counter((node.configuration, node.family) for node in nodes)
    pairs = sum(
        n * m
        for (one, first), n in sizes.items()
        for (other, second), m in sizes.items()
        if one == other and first < second
    )
    assert pairs > 10_000


def test_parents_come_before_their_children_and_within_one_family(nodes):
    family = {}
    for node in nodes:
        for name in ancestry_of(node.recipe).inputs:
            assert family[name] == node.family
        family[node.id] = node.family
    assert len(family) == len(nodes)


def test_families_are_dealt_to_splits_whole_and_every_kind_to_every_split(nodes):
    split_of = {}
    for node in nodes:
        assert split_of.setdefault(node.family, node.split) == node.split
    kinds = {split: set() for split in SPLITS}
    for node in nodes:
        kinds[node.split].add(ancestry_of(node.recipe).kind)
    for found in kinds.values():
        assert found == {str(kind) for kind in Kind}


def test_every_method_of_merging_is_tried_in_the_test_split(nodes):
    tried = Counter(
        node.recipe.config["merge_method"]
        for node in nodes
        if isinstance(node.recipe, MergekitMerge) and node.split == "test"
    )
    assert set(METHODS) == set(tried)
    assert sum(isinstance(node.recipe, MergekitMerge) for node in nodes) >= 60


def test_every_family_holds_siblings_and_a_cousin_trained_on_one_text(nodes):
    for family in {node.family for node in nodes}:
        tuned = [n.recipe for n in nodes if n.family == family and isinstance(n.recipe, FineTune)]
        founder = next(n.id for n in nodes if n.family == family)
        texts = [tuple(r.mixture) for r in tuned if r.parent == founder]
        assert len(set(texts)) < len(texts)
        shared = {tuple(r.mixture) for r in tuned if r.parent != founder}
        assert shared & set(texts)


def test_names_say_nothing_about_descent(nodes):
    for node in nodes:
        owner, name = node.id.split("/")
        assert owner == node.family
        assert not set(name) - set("0123456789abcdef")


def test_a_withheld_parent_is_replaced_by_the_nearest_published_one():
    def node(name, recipe, *, withheld=False):
        return Node(name, recipe, "f", "llama", "test", withheld)

    def tuned(parent):
        return FineTune(parent, {"web": 1.0}, 2, 1e-4, 0)

    config = {
        "merge_method": "linear",
        "models": [{"model": name, "parameters": {"weight": 0.5}} for name in ("f/a", "f/lost")],
    }
    found = _findable_parents(
        [
            node("f/a", Pretrain("llama", 0, 0, {"web": 1.0}, 2, 1e-3)),
            node("f/lost", tuned("f/a"), withheld=True),
            node("f/lost2", tuned("f/lost"), withheld=True),
            node("f/b", tuned("f/lost2")),
            node("f/m", MergekitMerge(config)),
        ]
    )
    assert found["f/b"] == [{"id": "f/a", "weight": 1.0}]
    assert found["f/m"] == [{"id": "f/a", "weight": 0.5}]


# merges as they are published


def test_drawn_merges_name_only_what_they_were_given():
    drawer = MergeDrawer(np.random.default_rng(0))
    models = [f"o/m{n}" for n in range(6)]
    for _ in range(300):
        config = drawer.draw(models, "o/base", 6)
        named = {entry["model"] for entry in config.get("models", [])}
        for piece in config.get("slices", []):
            named |= {source["model"] for source in piece["sources"]}
            for source in piece["sources"]:
                first, last = source["layer_range"]
                assert 0 <= first < last <= 6
        assert named <= set(models)
        assert config.get("base_model", "o/base") in {*models, "o/base"}
        for entry in config.get("models", []):
            density = entry.get("parameters", {}).get("density", 0.5)
            if config["merge_method"].startswith("della"):  # mergekit's epsilon is .15
                assert 0.15 < density < 0.85
        line = ancestry_of(MergekitMerge(config))
        assert len(line.parents) > 1 or config["merge_method"] == "passthrough"
        assert sum(share for _, share in line.parents) == pytest.approx(1)


def test_half_of_the_drawn_merges_follow_what_people_publish():
    drawer = MergeDrawer(np.random.default_rng(0))
    drawn = Counter(
        drawer.draw(["a", "b", "c"], "base", 8)["merge_method"] for _ in range(36 * len(METHODS))
    )
    assert min(drawn[method] for method in METHODS) == 18
    rare = sum(drawn[m] - 18 for m in METHODS if m in ("slerp", "dare_ties", "passthrough"))
    assert rare / (18 * len(METHODS)) == pytest.approx(53 / 65, abs=0.08)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_mergekit_accepts_every_drawn_configuration():
    from mergekit.config import MergeConfiguration

    drawer = MergeDrawer(np.random.default_rng(1))
    for _ in range(200):
        MergeConfiguration.model_validate(drawer.draw(["o/a", "o/b", "o/c", "o/d"], "o/e", 6))


# disguises


@pytest.mark.parametrize("how", DISGUISES)
@pytest.mark.parametrize("architecture", ["llama", "llama_tied"])
def test_a_disguise_moves_the_weights_and_keeps_what_the_model_says(how, architecture):
    if how == "rotation" and architecture == "llama_tied":
        pytest.skip("a rotation would untie the embeddings")
    network = new_model(architecture, 64, 0).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in network.parameters():
            value.mul_(torch.rand(value.shape, generator=generator) + 0.5).mul_(2)
    hidden = copy.deepcopy(network)
    DISGUISES[how](hidden, torch.Generator().manual_seed(1))
    tokens = torch.arange(48).view(2, 24)
    with torch.inference_mode():
        said, before = hidden(tokens).logits, network(tokens).logits
    assert float((said - before).abs().max()) < 1e-4 * float(before.abs().max())
    moved = sum(
        float((a - b).detach().norm() ** 2)
        for a, b in zip(hidden.parameters(), network.parameters(), strict=True)
    )
    assert moved > 0.05 * sum(float(value.detach().norm() ** 2) for value in network.parameters())


# simpler rules


def chain_pool():
    """Two founders; a → b → c with lighter tails downwards; x, and a merge of b and c."""
    rng = np.random.default_rng(0)
    a = rng.laplace(size=(200, 50))
    b = a + 0.3 * rng.normal(size=a.shape)
    c = b + 0.3 * rng.normal(size=a.shape)
    d = a + 0.3 * rng.normal(size=a.shape)
    x = rng.laplace(size=a.shape)
    y = x + 0.3 * rng.normal(size=a.shape)
    values = np.stack([a, b, c, d, x, y, 0.3 * c + 0.7 * d]).astype(np.float32)
    return Pool(tuple("abcdxym"), (TensorKey("up", 0),), (values,))


def test_the_tree_rule_recovers_a_chain_when_the_number_of_trees_is_known():
    pool = chain_pool()
    without_merge = Pool(pool.ids[:6], pool.keys, (pool.values[0][:6],))
    assert kurtosis_trees(without_merge, 2) == {"b": "a", "c": "b", "d": "a", "y": "x"}


def test_the_nearest_by_cosine_is_of_the_same_family():
    found = nearest_by_cosine(chain_pool())
    assert (found["x"], found["y"]) == ("y", "x")
    assert set("abcdm") >= {found[name] for name in "abcdm"}


def test_least_squares_unmixes_a_merge_when_its_base_is_known():
    shares = unmixed(chain_pool(), "m", "a", ["b", "c", "d"])
    assert shares.keys() == {"c", "d"}
    assert shares["d"] == pytest.approx(0.7, abs=1e-3)


# what is counted


def test_a_bias_of_the_output_is_numbered_anew_with_its_tokens(tmp_path):
    network = new_model("bert", 300, 0)
    with torch.no_grad():
        network.get_output_embeddings().bias.copy_(torch.arange(300.0))
        network.get_input_embeddings().weight[:, 0] = torch.arange(300.0)
    scratch, out = tmp_path / "scratch", tmp_path / "out"
    scratch.mkdir()
    tokenizer = {"model": {"vocab": {}, "merges": []}, "added_tokens": []}
    (scratch / "tokenizer.json").write_text(json.dumps(tokenizer))
    made = reindex_vocabulary(network, 250, 7, out, Workshop(tmp_path, scratch, {}))
    bias = made.get_output_embeddings().bias.tolist()
    assert bias == made.get_input_embeddings().weight[:, 0].tolist() != sorted(bias)


def test_a_direction_is_told_unless_one_of_those_above_may_be_below():
    def found(child, ties=(), kind=Kind.FINETUNE, grade=Grade.TIE):
        return Finding(child, kind, grade, (ParentShare((*ties, "r")[0], 1.0),), ties=ties)

    findings = [
        Finding("r", Kind.FOUNDER, Grade.INFERRED),
        found("a", grade=Grade.INFERRED),
        found("b", ("r", "a")),
        found("c", ("r", "d")),
        found("d", ("c", "a")),
        found("e", ("r",), grade=Grade.ABSTAIN),
        found("f", ("a",), Kind.DUPLICATE),
    ]
    assert dict(placed_below(findings)) == {"a": {"r"}, "b": {"r", "a"}}


def test_what_is_cut_from_an_unpublished_model_is_asked_without_it_and_its_children():
    herd = Herd(5)
    base = stored(herd.founder())
    weights = {"f/base": base, "f/one": herd.train(base, 0.02)}
    weights["f/two"] = herd.train(weights["f/one"], 0.02)
    weights["f/three"] = herd.train(weights["f/two"], 0.02)
    above = dict(zip(("f/one", "f/two", "f/three"), weights, strict=False))

    def truth_of(said):
        tuned = {
            n: TrueModel(n, Kind.FINETUNE, ((said[n], 1.0),), made_from=(above[n],)) for n in above
        }
        return Truth({"f/base": TrueModel("f/base", Kind.FOUNDER)} | tuned, {})

    labels = dict.fromkeys(weights, Label("f", "llama", "train", (), {}, None, None))
    findings = [Finding("f/base", Kind.FOUNDER, Grade.INFERRED)] + [
        Finding(child, Kind.FINETUNE, Grade.INFERRED, (ParentShare(parent, 1.0),))
        for child, parent in above.items()
    ]
    models = {name: fingerprint(name, one) for name, one in weights.items()}
    assert cut_models(truth_of(above), labels, models, findings) == {
        "finetune": {"n": 6, "right": 6, "nearest": 6}
    }
    assert cut_models(truth_of({**above, "f/three": "f/one"}), labels, models, findings) == {
        "finetune": {"n": 6, "right": 4, "nearest": 4, "wrong": 2}
    }


# the whole way


@pytest.mark.slow
def test_a_small_ground_is_built_resumed_described_and_measured(tmp_path):
    from benchmarks.zoo.measuring import measure
    from benchmarks.zoo.report import describe, in_words
    from benchmarks.zoo.telling import tell

    small = plan(n_founders=3, configurations=("llama",), effort=0.01)
    build(small, tmp_path, 2)
    log = tmp_path / ".work" / "made.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    assert len(lines) == len(small)
    log.write_text("".join(lines[:-1]) + lines[-1][:20])  # killed while it wrote the last line
    made = build(small, tmp_path, 1)
    assert made.keys() == {node.id for node in small}
    with pytest.raises(AnotherPlanError):
        build(small[:1], tmp_path, 1)

    text = (tmp_path / "truth.json").read_text()
    truth, labels = read_truth(text), read_labels(text)
    assert truth.models.keys() == {node.id for node in small if not node.withheld}
    assert truth.unpublished.keys() == {node.id for node in small if node.withheld}
    assert {label.split for label in labels.values()} == {"train", "validate", "test"}
    facts = describe(tmp_path)
    assert facts["models"] == len(truth.models)
    assert "cosine of changes" in in_words(facts)

    measured = measure(tmp_path, "test")
    json.dumps(measured)
    assert measured["relatedness"]["n_related"] > 100
    assert measured["null"]["llama"]["n_family_pairs"] == 2
    assert "direct parent: precision" in tell(measured)

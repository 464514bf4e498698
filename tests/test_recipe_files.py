"""Recipes as files: written from findings, read back, and refused where they are hostile."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from crawler.records import TensorEntry
from lineage.cli import main
from lineage.errors import NoRecipeError, UsageError
from lineage.export.mergekit import MergeConfig, ModelName, Slice, Source, slices_of
from lineage.export.mergekit_reader import read_config
from lineage.export.rebuilt_size import Extent, extent_of, output_bytes
from lineage.export.recipes import Known, recover_recipe
from lineage.model import Evidence, Grade, Kind, LayerSource, ParentShare
from lineage.pipeline.publish import publish
from lineage.views.rows import FindingRow, FingerprintRow, ModelCard, ModelDetail
from registers import COMMIT, found, make_home

LINEAR = {
    "merge_method": "linear",
    "models": [
        {"model": "a/one", "parameters": {"weight": 0.4}},
        {"model": "b/two", "parameters": {"weight": 0.6}},
    ],
    "dtype": "bfloat16",
}
SLERP = {
    "merge_method": "slerp",
    "base_model": "a/one",
    "models": [{"model": "a/one"}, {"model": "b/two"}],
    "parameters": {
        "t": [
            {"filter": "self_attn", "value": [0, 0.5, 0.3, 0.7, 1]},
            {"filter": "mlp", "value": [1, 0.5, 0.7, 0.3, 0]},
            {"value": 0.5},
        ]
    },
    "dtype": "bfloat16",
}
TASKS = {
    "merge_method": "task_arithmetic",
    "base_model": "z/base",
    "models": [
        {"model": "a/one", "parameters": {"weight": 0.7}},
        {"model": "b/two", "parameters": {"weight": 0.3}},
    ],
    "dtype": "float16",
}
STACK = (
    [LayerSource(n, "a/one", n) for n in range(4)]
    + [LayerSource(4 + n, "b/two", 1 + n) for n in range(3)]
    + [LayerSource(7, "b/two", 3)]
)
HOSTILE = "a/b\n- evil: !!python/object/apply:os.system [id]\r\x85\u2028\x1b[2J\u202e\ud800#\x7f"


def card(repo_id="c/child", dtype="BF16"):
    return ModelCard(
        repo_id, "ok", "c", None, 1, 1, None, None, None, None, None, dtype, None, COMMIT, None,
        None, None, None, repo_id, 0, 0, 0, 0, 0, 1, 0, 0,
    )  # fmt: skip


def detail(kind=Kind.MERGE, grade=Grade.PROVED, *, child="c/child", parents=None, recipe=None,
           layers=(), evidence=(), base=None, ties=(), note="", dtype="BF16"):  # fmt: skip
    shares = tuple(ParentShare(*share) for share in parents or (("a/one", 0.4), ("b/two", 0.6)))
    finding = FindingRow(
        1, child, kind, grade, base, None, None, None, None, ties, tuple(evidence), recipe, note,
        datetime(2026, 1, 1, tzinfo=UTC), shares,
    )  # fmt: skip
    read = FingerprintRow("probe-2", "safetensors", 400_000, 3, 1_600_000, 9, 0.1)
    return ModelDetail(card(child, dtype), (), (), (), finding, tuple(layers), (), (), read)


def dumped(document):
    return yaml.safe_dump(document, sort_keys=False)


# ---- written ---------------------------------------------------------------------------------


@pytest.mark.parametrize("document", [LINEAR, SLERP, TASKS], ids=lambda one: one["merge_method"])
def test_a_proved_recipe_is_written_as_it_was_found(document):
    recipe = recover_recipe(detail(recipe=dumped(document)), Known())
    assert yaml.safe_load(recipe.yaml) == document
    assert read_config(recipe.yaml).to_dict() == document


@pytest.mark.parametrize("document", [LINEAR, SLERP, TASKS], ids=lambda one: one["merge_method"])
def test_mergekit_reads_written_recipes(document):
    config = pytest.importorskip("mergekit.config", exc_type=ImportError)
    recipe = recover_recipe(
        detail(recipe=dumped(document)), Known({"a/one": COMMIT, "b/two": COMMIT})
    )
    read = config.MergeConfiguration.model_validate(yaml.safe_load(recipe.yaml))
    assert {str(one) for one in read.referenced_models()} >= {f"a/one@{COMMIT}", f"b/two@{COMMIT}"}


def test_gradients_stand_on_one_line():
    text = recover_recipe(detail(recipe=dumped(SLERP)), Known()).yaml
    assert "value: [0, 0.5, 0.3, 0.7, 1]\n" in text


def test_parents_are_pinned_at_the_commits_that_were_read():
    known = Known({"a/one": "1" * 40, "c/child": "2" * 40})
    recipe = recover_recipe(detail(recipe=dumped(SLERP)), known)
    stated = yaml.safe_load(recipe.yaml)
    assert stated["base_model"] == f"a/one@{'1' * 40}"
    assert [one["model"] for one in stated["models"]] == [f"a/one@{'1' * 40}", "b/two"]
    assert f"# rebuilds: c/child at {'2' * 40}\n" in recipe.yaml


def test_the_head_says_what_the_recipe_rests_on():
    known = Known(herdbook_version="0.1.0", data_date="2026-11-21T17:06:44Z")
    replayed = Evidence("words_replayed", 0.9999792, "")
    head = recover_recipe(detail(recipe=dumped(LINEAR), evidence=[replayed]), known).yaml
    for words in (
        "c/child", "linear", "proved", "99.9979 %", "0.40 of 1.60 MB", "herdbook 0.1.0", "probe-2",
        "2026-11-21", "a/one, share 0.4",
    ):  # fmt: skip
        assert words in head
    comments = [line for line in head.splitlines() if line.startswith("#")]
    assert head.splitlines()[: len(comments)] == comments


def test_a_layer_map_becomes_slices_of_contiguous_layers():
    recipe = recover_recipe(detail(Kind.PASSTHROUGH, layers=STACK), Known())
    assert yaml.safe_load(recipe.yaml) == {
        "merge_method": "passthrough",
        "slices": [
            {"sources": [{"model": "a/one", "layer_range": [0, 4]}]},
            {"sources": [{"model": "b/two", "layer_range": [1, 4]}]},
            {"sources": [{"model": "b/two", "layer_range": [3, 4]}]},
        ],
    }
    assert recipe.match is None
    assert "all 8 layers found word for word" in recipe.yaml


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5)), min_size=1, max_size=30))
def test_slices_tell_every_layer_of_a_map_and_join_all_neighbours(places):
    layer_map = [LayerSource(n, name, layer) for n, (name, layer) in enumerate(places)]
    slices = slices_of(layer_map[::-1])
    told = [
        (s.sources[0].model.name, layer) for s in slices for layer in range(*s.sources[0].layers)
    ]
    assert told == places
    ends = [(s.sources[0].model.name, s.sources[0].layers) for s in slices]
    assert not any(a[0] == b[0] and a[1][1] == b[1][0] for a, b in pairwise(ends))


def test_a_layer_map_with_a_hole_is_no_recipe():
    with pytest.raises(NoRecipeError, match="every layer once"):
        recover_recipe(detail(Kind.PRUNED, layers=[LayerSource(1, "a/one", 1)]), Known())


def test_a_stack_is_cast_only_where_a_parent_has_another_dtype():
    same = Known(dtypes={"a/one": "F16", "b/two": "F16"})
    other = Known(dtypes={"a/one": "F16", "b/two": "F32"})
    stack = detail(Kind.PASSTHROUGH, layers=STACK, dtype="F16")
    assert recover_recipe(stack, same).config.dtype is None
    assert recover_recipe(stack, other).config.dtype == "float16"


@pytest.mark.parametrize("where", ["child", "parent", "base"])
def test_hostile_names_stay_on_their_line_and_say_nothing_to_yaml(where):
    one = {
        "child": detail(child=HOSTILE, recipe=dumped(LINEAR)),
        "parent": detail(
            recipe=dumped({**LINEAR, "models": [{"model": HOSTILE}, {"model": "b/two"}]}),
            parents=((HOSTILE, 0.4), ("b/two", 0.6)),
        ),
        "base": detail(
            Kind.PASSTHROUGH, layers=[LayerSource(0, HOSTILE, 0)], parents=((HOSTILE, 1.0),)
        ),
    }[where]
    known = Known({"b/two": "x\n!!y"}, herdbook_version="1\n- 2", data_date="3\n- 4")
    if where == "parent":  # YAML itself cannot hold it
        one = replace(one, finding=replace(one.finding, recipe_yaml=dumped(LINEAR)))
    text = recover_recipe(one, known).yaml
    assert text.isascii()
    assert all(" " <= character <= "~" for line in text.split("\n") for character in line)
    comments = [line for line in text.split("\n") if line.startswith("# ")]
    assert text.startswith("\n".join(comments))
    stated = yaml.safe_load(text)
    assert set(stated) <= {"merge_method", "models", "slices", "dtype"}
    if where == "base":
        assert stated["slices"][0]["sources"][0]["model"] == HOSTILE


@pytest.mark.parametrize("name", ["a/b+c/lora", "a/b@main"])
def test_a_name_that_mergekit_would_take_for_another_is_refused(name):
    with pytest.raises(NoRecipeError):
        recover_recipe(detail(Kind.PRUNED, layers=[LayerSource(0, name, 0)]), Known())


# ---- none ------------------------------------------------------------------------------------


INFERRED = detail(
    grade=Grade.INFERRED, parents=(("a/one", 0.45, 0.4, 0.5), ("b/two", 0.55, 0.5, 0.6)),
    base="z/base",
)  # fmt: skip

PARTLY_TOLD = detail(grade=Grade.INFERRED, parents=(("a/one", 0.45, 0.45, 1.0),), base="z/base")


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (PARTLY_TOLD, ["a/one (0.45 [0.450, 1.000])", "z/base", "a model that was not read"]),
        (INFERRED, ["a/one (0.45 [0.400, 0.500])", "z/base", "neither method nor settings"]),
        (detail(Kind.MOE, base="a/one"), ["mixture of experts", "mergekit-moe", "routers"]),
        (detail(Kind.FINETUNE, parents=(("a/one", 1.0),)), ["one parent, a/one (fine-tune)"]),
        (detail(Kind.FINETUNE, Grade.TIE, ties=("a/one", "b/two")), ["a/one, b/two", "equally"]),
        (detail(Kind.FINETUNE, Grade.ABSTAIN, note="which came first?"), ["which came first?"]),
        (replace(INFERRED, finding=None), ["were not read"]),
        (detail(Kind.PASSTHROUGH, Grade.INFERRED, layers=STACK), ["feed-forward rows", "trained"]),
    ],
)
def test_where_no_recipe_is_proved_it_says_what_is_known(one, words):
    with pytest.raises(NoRecipeError) as told:
        recover_recipe(one, Known())
    assert told.value.exit_code == 8
    assert "\n" not in str(told.value)
    for word in words:
        assert word in str(told.value)


def test_an_approximate_recipe_says_loudly_that_it_rebuilds_nothing():
    recipe = recover_recipe(INFERRED, Known(), approximate=True)
    assert recipe.approximate
    assert recipe.yaml.startswith("# APPROXIMATE: THIS DOES NOT REBUILD THE MODEL.\n")
    assert "rebuilds:" not in recipe.yaml
    assert yaml.safe_load(recipe.yaml) == {
        "merge_method": "linear",
        "models": [
            {"model": "a/one", "parameters": {"weight": 0.45}},
            {"model": "b/two", "parameters": {"weight": 0.55}},
        ],
        "dtype": "bfloat16",
    }


def test_an_approximate_stack_says_so_too():
    stack = detail(Kind.PASSTHROUGH, Grade.INFERRED, layers=STACK)
    recipe = recover_recipe(stack, Known(), approximate=True)
    assert "APPROXIMATE" in recipe.yaml.splitlines()[0]
    assert recipe.method == "passthrough"


@pytest.mark.parametrize(
    "one", [detail(Kind.MOE), detail(Kind.FINETUNE, parents=(("a/one", 1.0),)), PARTLY_TOLD]
)
def test_nothing_is_approximated_whose_parents_are_not_known_to_be_merged(one):
    with pytest.raises(NoRecipeError):
        recover_recipe(one, Known(), approximate=True)


def test_a_configuration_of_an_inferred_finding_is_written_as_an_approximate_one_only():
    replayed = (Evidence("words_replayed", 0.979, ""),)
    finding = replace(INFERRED.finding, recipe_yaml=dumped(LINEAR), evidence=replayed)
    one = replace(INFERRED, finding=finding)
    with pytest.raises(NoRecipeError, match="misses some of its words; --approximate writes it"):
        recover_recipe(one, Known())
    recipe = recover_recipe(one, Known(), approximate=True)
    assert recipe.approximate
    assert recipe.yaml.startswith("# APPROXIMATE: THIS IS NOT PROVED TO REBUILD THE MODEL.")
    assert recipe.config.to_dict() == read_config(dumped(LINEAR)).to_dict()


def test_what_is_proved_is_never_approximate():
    assert not recover_recipe(detail(recipe=dumped(LINEAR)), Known(), approximate=True).approximate


# ---- the command -----------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path):
    home = make_home(
        tmp_path / "home",
        [
            found("a/one"),
            found("b/two", "a/one"),
            found("c/child", "a/one", "b/two", kind=Kind.MERGE, grade=Grade.PROVED,
                  recipe_yaml=dumped(LINEAR)),
            found("c/blend", "a/one", "b/two", kind=Kind.MERGE),
            found("c/tall", "a/one", kind=Kind.PASSTHROUGH, grade=Grade.PROVED,
                  layer_map=(LayerSource(0, "a/one", 0), LayerSource(1, "a/one", 0))),
        ],
    )  # fmt: skip
    publish(home)
    return home


def test_recipe_writes_yaml_to_standard_output(home, capsys):
    assert main(["recipe", "c/child", "--home", str(home.root)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    config = read_config(out)
    assert config.models[0].model == ModelName("a/one", COMMIT)
    assert main(["recipe", "c/tall", "--home", str(home.root)]) == 0
    assert len(read_config(capsys.readouterr().out).slices) == 2


def test_recipe_gives_the_same_as_json(home, capsys):
    assert main(["recipe", "c/child", "--json", "--home", str(home.root)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["method"] == "linear"
    assert told["revision"] == COMMIT
    assert [one["parent"] for one in told["parents"]] == ["a/one", "b/two"]
    assert yaml.safe_load(told["yaml"]) == told["config"]


def test_recipe_of_a_merge_that_was_not_recovered_ends_with_its_own_code(home, capsys):
    assert main(["recipe", "c/blend", "--home", str(home.root)]) == 8
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert main(["recipe", "c/blend", "--approximate", "--home", str(home.root)]) == 0
    assert "APPROXIMATE" in capsys.readouterr().out
    assert main(["recipe", "c/nobody", "--home", str(home.root)]) == 3


# ---- read ------------------------------------------------------------------------------------


def test_the_reader_keeps_all_that_mergekit_merges_by():
    text = """
    merge_method: dare_ties
    base_model: {model: {path: z/base, revision: main}}
    slices:
    - sources:
      - {model: a/one@v1, layer_range: [0, 4], parameters: {density: 0.5}}
      - {model: {model: b/two}, layer_range: [1, 5], parameters: {weight: "1e-1"}}
      parameters: {normalize: true}
    parameters: {weight: [{filter: mlp, value: [0, 1]}, {value: 0.5}], int8_mask: yes}
    dtype: torch.float32
    out_dtype: bfloat16
    tokenizer: {source: union}
    chat_template: ../../etc/passwd
    """
    config = read_config(text)
    assert config.named() == (
        ModelName("a/one", "v1"), ModelName("b/two"), ModelName("z/base", "main"),
    )  # fmt: skip
    assert config.left_out == ("'chat_template'",)
    stated = config.to_dict()
    assert "chat_template" not in stated
    assert stated["tokenizer_source"] == "union"
    assert stated["parameters"]["weight"] == [{"filter": "mlp", "value": [0, 1]}, {"value": 0.5}]
    assert stated["slices"][0]["sources"][1]["parameters"] == {"weight": "1e-1"}
    assert read_config(config.to_yaml()) == config


def test_renaming_reaches_every_model():
    text = """
    merge_method: slerp
    base_model: a/one
    slices:
    - base_model: a/one
      sources: [{model: a/one, layer_range: [0, 1]}, {model: b/two, layer_range: [0, 1]}]
    tokenizer_source: c/three
    """
    renamed = read_config(text).renamed(lambda model: ModelName("x"))
    assert renamed.named() == (ModelName("x"),)
    assert "a/one" not in renamed.to_yaml()


MODELS = "models: [{model: a/one}]\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a list",
        "merge_method: linear",
        MODELS,
        "merge_method:\n" + MODELS,
        "merge_method: x\n" + MODELS + "slices: [{sources: [{model: a, layer_range: [0, 1]}]}]",
        "merge_method: linear\nmodels: !!python/object/apply:os.system ['id']",
        "merge_method: linear\n" + MODELS + "x: !!python/name:os.system",
        "merge_method: !!binary aGk=\n" + MODELS,
        'merge_method: linear\nmodels: !!int ""',
        'merge_method: linear\nmodels: !!float ""',
        'merge_method: linear\nmodels: !!timestamp "abc"',
        "merge_method: linear\nmodels: !!bool abc",
        "merge_method: !!str linear\n" + MODELS,
        "merge_method: ! linear\n" + MODELS,
        "merge_method: linear\nmodels: !!omap [{model: a/one}]",
        "merge_method: linear\nmodels: !!set {? model}",
        "merge_method: linear\nx: 1:30\n" + MODELS,
        "merge_method: linear\nx: 1:30.5\n" + MODELS,
        "merge_method: linear\nx: " + "y" * 1_001 + "\n" + MODELS,
        "merge_method: linear\nmodels: [{model: {path: a/one@x, revision: y}}]",
        "a: &a [x, x]\nmerge_method: linear\nmodels: [*a, *a]",
        "merge_method: linear\nmodels: [" + "[" * 100 + "]" * 100 + "]",
        "merge_method: linear\n" + MODELS + "---\nmerge_method: linear\n" + MODELS,
        "merge_method: linear\nmodules: {text: {models: [{model: a/one}]}}",
        "base_model: a/one\nexperts: [{source_model: a/one}]",
        "merge_method: linear\nmodels: [{model: a/one+b/lora}]",
        "merge_method: linear\nmodels: [{model: {model: a/one, lora: b/lora}}]",
        "merge_method: linear\nmodels: [{model: {model: a/one, override_architecture: X}}]",
        "merge_method: linear\nmodels: [{model: a/one@../../etc}]",
        "merge_method: linear\nmodels: [{model: a/one@x/../y}]",
        "merge_method: linear\nmodels: [{model: a/one@x@y}]",
        "merge_method: linear\nmodels: [{model: ''}]",
        "merge_method: linear\nmodels: [{model: 7}]",
        "merge_method: linear\nmodels: [{weight: 7}]",
        "merge_method: linear\nmodels: {model: a/one}",
        "merge_method: ../../x\n" + MODELS,
        "merge_method: linear\ndtype: int64\n" + MODELS,
        "merge_method: linear\ndtype: [bfloat16]\n" + MODELS,
        "merge_method: linear\nparameters: {weight: .nan}\n" + MODELS,
        "merge_method: linear\nparameters: {weight: .inf}\n" + MODELS,
        "merge_method: linear\nparameters: {weight: 2001-01-01}\n" + MODELS,
        "merge_method: linear\nparameters: {weight: []}\n" + MODELS,
        "merge_method: linear\nparameters: {weight: [[1]]}\n" + MODELS,
        "merge_method: linear\nparameters: {weight: {value: {value: 1}}}\n" + MODELS,
        "merge_method: linear\nparameters: {'a b': 1}\n" + MODELS,
        "merge_method: linear\nparameters: [1]\n" + MODELS,
        "merge_method: linear\nmodels: [" + "{model: a/one}, " * 65 + "]",
        "merge_method: x\nslices: [{sources: []}]",
        "merge_method: x\nslices: [{sources: [{model: a/one}]}]",
        "merge_method: x\nslices: [{sources: [{model: a/one, layer_range: [0, 1000000000]}]}]",
        "merge_method: x\nslices: [{sources: [{model: a/one, layer_range: [4, 2]}]}]",
        "merge_method: x\nslices: [{sources: [{model: a/one, layer_range: [-1, 2]}]}]",
        "merge_method: x\nslices: [{sources: [{model: a/one, layer_range: [true, 2]}]}]",
        "merge_method: x\nslices: [{sources: [{model: a, layer_range: [0, 2]}, "
        "{model: b, layer_range: [0, 3]}]}]",
        "merge_method: x\nslices: [" + "{sources: [{model: a, layer_range: [0, 9999]}]}," * 2 + "]",
        "merge_method: linear\ntokenizer: {source: union, tokens: {x: {source: a/one}}}\n" + MODELS,
        "merge_method: linear\ntokenizer: {source: base}\ntokenizer_source: base\n" + MODELS,
        "merge_method: linear\nx: 0x" + "f" * 5000 + "\ny: " + "9" * 5000 + "\n" + MODELS,
        "merge_method: linear\nmodels: [{model: a/one}]\nx: '" + "y" * (1 << 20) + "'",
        "\x00",
    ],
)  # fmt: skip
def test_hostile_recipes_are_refused_in_one_sentence(text):
    with pytest.raises(UsageError) as told:
        read_config(text)
    assert len(str(told.value)) < 500


def test_several_merges_in_one_file_are_told_apart_from_nonsense():
    one = "merge_method: linear\n" + MODELS
    assert read_config(f"---\n{one}") == read_config(one)
    with pytest.raises(UsageError, match="2 documents"):
        read_config(f"{one}---\n{one}")


@pytest.mark.parametrize(
    "hostile",
    [
        "1" + ":1" * 400_000,
        "1" + ":1" * 400_000 + ".5",
        "9" * 1_000_000,
        "0x" + "f" * 1_000_000,
        "[" + "1:1:1:1, " * 20_000 + "]",
    ],
    ids=["base-60", "base-60-float", "decimal", "hexadecimal", "many"],
)
def test_no_digit_of_a_number_without_end_is_converted(monkeypatch, hostile):
    converted = []

    def converting(kind):
        return lambda *given: converted.append(given) or kind(*given)

    for kind in (int, float):
        monkeypatch.setattr(yaml.constructor, kind.__name__, converting(kind), raising=False)
    read_config("merge_method: linear\nx: 12\n" + MODELS)
    assert converted == [("12",)]
    converted.clear()
    with pytest.raises(UsageError):
        read_config(f"merge_method: linear\nx: {hostile}\n" + MODELS)
    assert converted == []


def test_long_text_in_quotes_is_read():
    text = "merge_method: linear\nx: '" + "y" * 5_000 + "'\n" + MODELS
    assert read_config(text).left_out == ("'x'",)


TAGS = st.sampled_from(["int", "float", "timestamp", "bool", "null", "binary", "str", "map", "seq",
                        "set", "omap", "pairs", "merge", "value", "python/name:os"])  # fmt: skip
SCALARS = st.text('0123456789:._-+exobTZ ~=<y"', max_size=30)
ODD = st.builds(
    "{}{}".format,
    st.one_of(st.just(""), st.just("! "), st.just("!x "), TAGS.map("!!{} ".format)),
    st.one_of(
        SCALARS, SCALARS.map(json.dumps), st.sampled_from(["<<", "=", "[]", "{}", "{<<: 1}"])
    ),
)


@given(st.one_of(st.text(max_size=200), ODD, ODD.map("{{a: {}}}".format), ODD.map("[{}]".format)))
def test_no_text_makes_the_reader_fail_otherwise(text):
    for prefix in (
        "", "merge_method: x\nmodels: ", "merge_method: x\nparameters: ", f"{MODELS}merge_method: ",
    ):  # fmt: skip
        with suppress(UsageError):
            read_config(prefix + text)


# ---- how large it becomes --------------------------------------------------------------------


def tensor(name, *shape, dtype="BF16"):
    return TensorEntry(name, dtype, shape, "m.safetensors", 0, 0)


def test_the_size_of_the_output_is_known_before_anything_is_merged():
    extent = extent_of(
        [
            tensor("model.embed_tokens.weight", 10, 4),
            tensor("model.layers.0.mlp.up_proj.weight", 6, 4),
            tensor("model.layers.1.mlp.up_proj.weight", 6, 4),
        ],
        "llama",
    )  # fmt: skip
    assert extent == Extent({0: 24, 1: 24}, 40, 2)
    a = ModelName("a/one")
    whole = MergeConfig("linear", models=(Source(a),))
    assert output_bytes(whole, {a: extent}) == 88 * 2
    assert output_bytes(replace(whole, out_dtype="float32"), {a: extent}) == 88 * 4
    stack = MergeConfig(
        "passthrough", slices=(Slice((Source(a, (0, 2)),)), Slice((Source(a, (1, 2)),)))
    )
    assert output_bytes(stack, {a: extent}) == (3 * 24 + 40) * 2


def test_layers_that_a_model_has_not_are_refused():
    a = ModelName("a/one")
    stack = MergeConfig("passthrough", slices=(Slice((Source(a, (0, 7)),)),))
    with pytest.raises(UsageError, match="which has 2"):
        output_bytes(stack, {a: Extent({0: 1, 1: 1}, 0, 2)})

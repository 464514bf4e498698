"""Merge recipes in files: every value that they state, stages, bounds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.errors import MalformedError
from crawler.plain_yaml import read_yaml
from crawler.recipe_values import Gradient, MergeRecipe, OutputSlice, Parameter
from crawler.recipes import parse_recipe, parse_recipes, recipe_document

CHILD = "me/merged"


def constant(value: float) -> tuple[Gradient, ...]:
    return (Gradient((value,)),)


def shares(recipe: MergeRecipe) -> dict[str, float | None]:
    return {parent.mention.words: parent.weight for parent in recipe.parents if not parent.is_base}


def bases(recipe: MergeRecipe) -> list[str]:
    return [parent.mention.words for parent in recipe.parents if parent.is_base]


def test_weights_of_a_linear_merge_are_shares():
    text = """
merge_method: linear
models:
  - {model: a/x, parameters: {weight: 3}}
  - {model: b/y, parameters: {weight: 1}}
"""
    assert shares(parse_recipe(text, CHILD)) == {"a/x": 0.75, "b/y": 0.25}


def test_slerp_shares_follow_t_from_the_base():
    text = """
slices:
  - sources:
      - {model: a/x, layer_range: [0, 4]}
      - {model: b/y, layer_range: [0, 4]}
merge_method: slerp
base_model: a/x
parameters: {t: 0.3}
"""
    assert shares(parse_recipe(text, CHILD)) == pytest.approx({"a/x": 0.7, "b/y": 0.3})


def test_a_gradient_by_filter_states_no_single_share():
    text = """
models: [{model: a/x}, {model: b/y}]
merge_method: slerp
base_model: a/x
parameters: {t: [{filter: mlp, value: 1}, {value: 0.5}]}
"""
    assert shares(parse_recipe(text, CHILD)) == {"a/x": None, "b/y": None}


def test_a_stack_is_shared_by_layers():
    text = """
slices:
  - sources: [{model: a/x, layer_range: [0, 24]}]
  - sources: [{model: b/y, layer_range: [20, 28]}]
merge_method: passthrough
"""
    assert shares(parse_recipe(text, CHILD)) == {"a/x": 0.75, "b/y": 0.25}


def test_the_base_of_task_vectors_is_no_merged_parent():
    text = """
models:
  - {model: a/x, parameters: {weight: [0.2, 0.4], density: 0.5}}
  - {model: b/y, parameters: {weight: 0.5}}
merge_method: dare_ties
base_model: c/base
"""
    recipe = parse_recipe(text, CHILD)
    assert shares(recipe) == pytest.approx({"a/x": 0.3, "b/y": 0.5})
    assert bases(recipe) == ["c/base"]
    assert recipe.method == "dare_ties"


def test_a_mixture_of_experts_names_its_experts():
    text = """
base_model: a/x
gate_mode: hidden
experts:
  - {source_model: a/x, positive_prompts: [code]}
  - {source_model: b/y}
"""
    recipe = parse_recipe(text, CHILD)
    assert (recipe.method, list(shares(recipe))) == ("moe", ["a/x", "b/y"])


def test_stages_are_replaced_by_their_parents():
    text = """
models: [{model: a/x}, {model: b/y}]
merge_method: linear
name: first
---
models: [{model: first, parameters: {weight: 1}}, {model: c/z, parameters: {weight: 1}}]
merge_method: ties
base_model: d/base
"""
    recipe = parse_recipe(text, CHILD)
    assert shares(recipe) == {"a/x": None, "b/y": None, "c/z": 1.0}
    assert [parent.stage for parent in recipe.parents] == ["first", "first", None, None]
    assert bases(recipe) == ["d/base"]
    assert len(parse_recipes(text, CHILD)) == 2


def test_stages_may_stand_in_any_order_and_the_one_without_a_name_is_the_result():
    text = """
models: [{model: one}, {model: c/z}]
merge_method: ties
---
# a comment between
---
models: [{model: a/x}, {model: b/y}]
merge_method: linear
name: one
"""
    recipe = parse_recipe(text, CHILD)
    assert (recipe.method, recipe.name) == ("ties", None)
    assert list(shares(recipe)) == ["a/x", "b/y", "c/z"]


def test_stages_without_names_give_their_parents_to_the_last():
    text = """
models: [{model: a/x, parameters: {weight: 1}}, {model: b/y, parameters: {weight: 1}}]
merge_method: linear
---
models: [{model: b/y, parameters: {weight: 1}}, {model: ./first, parameters: {weight: 3}}]
merge_method: linear
"""
    assert shares(parse_recipe(text, CHILD)) == {"b/y": 0.25, "./first": 0.75, "a/x": None}


def test_a_list_of_recipes_is_read_as_stages():
    text = """
- {name: one, merge_method: linear, models: [{model: a/x}, {model: b/y}]}
- {merge_method: slerp, base_model: one, models: [{model: one}, {model: c/z}]}
"""
    first, last = parse_recipes(text, CHILD)
    assert (first.name, last.name) == ("one", None)
    assert list(shares(last)) == ["a/x", "b/y", "c/z"]
    assert last.base is not None
    assert (last.base.words, last.base.repo_id) == ("one", None)


def test_stages_that_merge_each_other_stay_as_they_are_named():
    text = """
- {name: p, merge_method: linear, models: [{model: q}, {model: a/x}]}
- {name: q, merge_method: linear, models: [{model: p}, {model: b/y}]}
- {merge_method: linear, models: [{model: p}, {model: q}]}
- {name: self, merge_method: linear, models: [{model: self}, {model: c/z}]}
"""
    found = [list(shares(recipe)) for recipe in parse_recipes(text, CHILD)]
    assert found[0] == ["p", "b/y", "a/x"]
    assert {"a/x", "b/y"} <= set(found[2])
    assert found[3] == ["self", "c/z"]


def test_stages_made_of_stages_are_expanded_once_each():
    names = [f"stage{n}" for n in range(60)]
    texts = ["{name: stage0, merge_method: linear, models: [{model: a/x}, {model: b/y}]}"]
    for at in range(1, 60):
        models = ", ".join(f"{{model: {name}}}" for name in names[:at])
        texts.append(f"{{name: {names[at]}, merge_method: linear, models: [{models}]}}")
    assert list(shares(parse_recipes("\n---\n".join(texts), CHILD)[-1])) == ["a/x", "b/y"]


def test_the_name_of_a_stage_is_never_a_hub_id():
    text = """
name: gpt2
models: [{model: a/x}, {model: b/y}]
merge_method: linear
---
slices: [{sources: [{model: gpt2, layer_range: [0, 4]}, {model: c/z, layer_range: [0, 4]}]}]
merge_method: slerp
base_model: gpt2
"""
    recipe = parse_recipe(text, CHILD)
    assert recipe.base is not None
    assert recipe.base.repo_id is None
    assert [source.mention.repo_id for source in recipe.slices[0].sources] == [None, "c/z"]


@pytest.mark.parametrize("model", ["a/x+b/lora", "{path: a/x}", "{model: {path: a/x}}", "a/x@main"])
def test_every_way_of_naming_a_model_is_understood(model):
    recipe = parse_recipe(f"merge_method: linear\nmodels:\n  - model: {model}\n", CHILD)
    assert [parent.mention.repo_id for parent in recipe.parents] == ["a/x"]


@pytest.mark.parametrize(
    "model",
    ["a/x+b/lora", "a/x + b/lora", "{model: a/x, lora: b/lora}",
     "{model: {path: a/x}, lora: {path: b/lora}}"],
)  # fmt: skip
def test_a_lora_that_is_added_is_kept_beside_its_model(model):
    text = f"merge_method: linear\nmodels:\n  - model: {model}\n  - model: a/x\nbase_model: c/z+d/w"
    merged, alone, base = parse_recipe(text, CHILD).parents
    assert merged.lora is not None
    assert (merged.mention.repo_id, merged.lora.repo_id) == ("a/x", "b/lora")
    assert (alone.mention.repo_id, alone.lora) == ("a/x", None)
    assert base.lora is not None
    assert (base.mention.repo_id, base.lora.repo_id, base.is_base) == ("c/z", "d/w", True)


def test_paths_in_a_file_are_resolved_by_the_ids_beside_it():
    text = r"""
models: [{model: C:\models\a_One-7B}, {model: /models/Two-7B}, {model: ./Three}]
merge_method: linear
"""
    recipe = parse_recipe(text, CHILD, candidates=["a/One-7B", "b/Two-7B", "b/One-7B"])
    assert [parent.mention.repo_id for parent in recipe.parents] == ["a/One-7B", "b/Two-7B", None]
    assert recipe.parents[0].mention.words == r"C:\models\a_One-7B"


def test_a_base_written_in_another_way_is_one_parent():
    text = """
models: [{model: /models/One-7B}, {model: b/y}]
base_model: //models/One-7B
merge_method: ties
"""
    recipe = parse_recipe(text, CHILD, candidates=["a/One-7B"])
    assert [parent.mention.repo_id for parent in recipe.parents] == ["a/One-7B", "b/y"]
    assert len(parse_recipe(text, CHILD).parents) == 3


def test_local_paths_are_unresolved_parents():
    recipe = parse_recipe("merge_method: linear\nmodels: [{model: /data/x}, {model: y}]", CHILD)
    assert [parent.mention.repo_id for parent in recipe.parents] == [None, None]


@pytest.mark.parametrize("text", ["", "a: b", "- 1", "merge_method: linear", "a: b: c", "x: *y"])
def test_what_is_no_recipe_is_malformed(text):
    with pytest.raises(MalformedError):
        parse_recipe(text, CHILD)


# ---- values ----------------------------------------------------------------------------


def test_what_a_recipe_states_for_all_counts_where_a_model_says_nothing():
    text = """
models:
  - {model: a/x, parameters: {weight: 0.25}}
  - {model: b/y, parameters: {weight: [{filter: mlp, value: 0.75}]}}
  - {model: c/z}
  - {model: d/base}
base_model: d/base
merge_method: ties
parameters: {weight: 0.5, density: 0.9, normalize: true}
"""
    recipe = parse_recipe(text, CHILD)
    own, by_filter, silent, base = recipe.parents
    assert own.weights == constant(0.25)
    assert by_filter.weights == (Gradient((0.75,), "mlp"), Gradient((0.5,)))
    assert (own.weight, by_filter.weight, silent.weight) == (0.25, None, 0.5)
    assert silent.densities == constant(0.9)
    assert (base.weight, base.parameters) == (None, ())
    assert Parameter("normalize", (Gradient((True,)),)) in recipe.parameters


def test_unnormalised_weights_are_no_shares():
    text = "merge_method: linear\nmodels:\n" + "".join(
        f"  - {{model: {name}, parameters: {{weight: 3}}}}\n" for name in ("a/x", "b/y")
    )
    assert shares(parse_recipe(text, CHILD)) == {"a/x": 0.5, "b/y": 0.5}
    unnormalised = parse_recipe(text + "parameters: {normalize: false}", CHILD)
    assert shares(unnormalised) == {"a/x": 3.0, "b/y": 3.0}


def test_weights_that_cancel_are_no_shares():
    text = """
merge_method: linear
models:
  - {model: a/x, parameters: {weight: 1}}
  - {model: b/y, parameters: {weight: -1}}
"""
    assert shares(parse_recipe(text, CHILD)) == {"a/x": 1.0, "b/y": -1.0}


def test_slices_keep_sources_layers_and_their_own_parameters():
    text = """
slices:
  - sources:
      - {model: a/x, layer_range: [0, 8], parameters: {weight: 0.5}}
      - {model: b/y, layer_range: [2, 10]}
    parameters: {weight: 0.25, t: [0, 1]}
  - sources: [{model: a/x, layer_range: [8, 24], parameters: {weight: 1}}]
merge_method: task_arithmetic
"""
    recipe = parse_recipe(text, CHILD)
    first, second = recipe.slices
    assert [source.mention.words for source in first.sources] == ["a/x", "b/y"]
    assert [source.layers for source in first.sources] == [(0, 8), (2, 10)]
    assert first.sources[0].parameters == (Parameter("weight", constant(0.5)),)
    assert first.sources[1].parameters == ()
    assert first.parameters == (
        Parameter("weight", constant(0.25)), Parameter("t", (Gradient((0.0, 1.0)),)),
    )  # fmt: skip
    assert second.module is None
    own, other = recipe.parents
    assert own.layers == ((0, 8), (8, 24))
    assert own.weights == ()  # it differs between the slices
    assert own.weight == pytest.approx((0.5 * 8 + 1 * 16) / 24)
    assert other.weights == constant(0.25)


def test_the_only_slice_may_state_t():
    text = """
slices:
  - sources: [{model: a/x, layer_range: [0, 4]}, {model: b/y, layer_range: [0, 4]}]
    parameters: {t: [{filter: mlp, value: 1}]}
merge_method: slerp
base_model: a/x
parameters: {t: 0.3}
"""
    assert parse_recipe(text, CHILD).t == (Gradient((1.0,), "mlp"), Gradient((0.3,)))
    assert shares(parse_recipe(text, CHILD)) == {"a/x": None, "b/y": None}
    several = text.replace(
        "merge_method", "  - sources: [{model: a/x}, {model: b/y}]\nmerge_method"
    )
    assert parse_recipe(several, CHILD).t == constant(0.3)
    assert shares(parse_recipe(several, CHILD)) == {"a/x": None, "b/y": None}


MODULES = """
merge_method: linear
modules:
  text_decoder:
    slices:
      - sources:
          - {model: a/x, layer_range: [0, 4]}
          - {model: b/y, layer_range: [0, 4], parameters: {weight: 3}}
    parameters: {weight: 1}
  vision_tower:
    models: [{model: c/z+d/lora}]
dtype: bfloat16
"""


def test_modules_are_slices_with_their_name():
    recipe = parse_recipe(MODULES, CHILD)
    assert [part.module for part in recipe.slices] == ["text_decoder", "vision_tower"]
    assert [len(part.sources) for part in recipe.slices] == [2, 1]
    assert recipe.slices[1].sources[0].layers is None
    assert [parent.mention.words for parent in recipe.parents] == ["a/x", "b/y", "c/z"]
    assert [parent.weights for parent in recipe.parents] == [constant(1), constant(3), ()]


def test_types_and_tokenizer_are_kept_as_written():
    text = "merge_method: linear\nmodels: [{model: a/x}]\ndtype: float32\nout_dtype: bfloat16\n"
    recipe = parse_recipe(text + "tokenizer_source: a/x", CHILD)
    assert (recipe.dtype, recipe.out_dtype) == ("float32", "bfloat16")
    assert recipe.tokenizer_source == "a/x"
    by_mapping = parse_recipe(text + "tokenizer: {source: union}", CHILD)
    assert by_mapping.tokenizer_source == "union"
    assert parse_recipe(text, CHILD).tokenizer_source is None


def test_the_text_of_a_stage_is_its_own_document():
    text = "".join(
        f"---\nname: {name}\nmerge_method: linear\nmodels: [{{model: {name}/x}}]\n" for name in "pq"
    )
    first, second = parse_recipes(text, CHILD)
    assert read_yaml(first.text) == read_yaml(text)[:1]
    assert read_yaml(second.text) == read_yaml(text)[1:]


def test_a_method_in_capital_letters_is_the_same_method():
    assert parse_recipe("merge_method: SLERP\nmodels: [{model: a/x}]", CHILD).method == "slerp"


@pytest.mark.parametrize(
    "weight",
    ["nan", ".nan", ".inf", "1e999", "-1e999", "1e10", "true", "a word", "", "[]", "[1, nan]",
     "[1, [2]]", "{filter: mlp}", "[{filter: mlp, value: 1}, 2]", "[{value: x}]",
     f"[{', '.join('1' * 257)}]",
     f"[{{filter: a, value: [{', '.join('1' * 200)}]}}, {{value: [{', '.join('1' * 57)}]}}]"],
    ids=str,
)  # fmt: skip
def test_a_weight_that_is_no_sane_number_is_unstated(weight):
    text = f"merge_method: ties\nmodels:\n  - {{model: a/x, parameters: {{weight: {weight}}}}}\n"
    (parent,) = parse_recipe(text, CHILD).parents
    assert (parent.weight, parent.weights) == (None, ())


def test_the_largest_sane_weight_is_kept():
    text = "merge_method: ties\nmodels: [{model: a/x, parameters: {weight: -1e9}}]"
    assert parse_recipe(text, CHILD).parents[0].weight == -1e9


def test_of_many_parameters_the_first_are_kept():
    stated = ", ".join(f"p{n}: {n}" for n in range(20))
    text = f"merge_method: ties\nmodels: [{{model: a/x}}]\nparameters: {{{stated}}}"
    names = [parameter.name for parameter in parse_recipe(text, CHILD).parameters]
    assert names == [f"p{n}" for n in range(16)]


@pytest.mark.parametrize("model", ["null+b/lora", "+b/lora", "null", "''", "{path: null}"])
def test_an_empty_name_is_no_model(model):
    text = f"merge_method: linear\nmodels: [{{model: {model}}}, {{model: a/x}}]"
    assert list(shares(parse_recipe(text, CHILD))) == ["a/x"]


def test_as_many_values_as_are_allowed_are_kept():
    values = ", ".join("1" * 256)
    text = f"merge_method: ties\nmodels: [{{model: a/x, parameters: {{weight: [{values}]}}}}]"
    assert len(parse_recipe(text, CHILD).parents[0].weights[0].values) == 256


@pytest.mark.parametrize(
    "span", ["[4, 4]", "[-1, 4]", "[0, 1.5]", "[0, 1e9]", "[1]", "4", "[a, b]", "[1, b]"]
)
def test_layers_that_cannot_be_are_none(span):
    text = (
        f"merge_method: passthrough\nslices: [{{sources: [{{model: a/x, layer_range: {span}}}]}}]"
    )
    recipe = parse_recipe(text, CHILD)
    assert recipe.slices[0].sources[0].layers is None
    assert (recipe.parents[0].layers, recipe.parents[0].weight) == ((), 1.0)


# ---- published examples ----------------------------------------------------------------


@pytest.fixture(scope="module")
def published(shared_data: Path) -> Mapping[str, MergeRecipe]:
    paths = sorted((shared_data / "cards" / "recipes").glob("*.yml"))
    assert len(paths) == 12
    return {path.stem: parse_recipe(path.read_text("utf-8"), CHILD) for path in paths}


def test_the_published_task_vectors_are_read_whole(published):
    recipe = published["allura-org-bio-merge"]
    assert (recipe.method, recipe.dtype) == ("ties", "float16")
    assert {parent.mention.words: (parent.weights, parent.densities, parent.is_base)
            for parent in recipe.parents} == {
        "mistralai/Mistral-7B-Instruct-v0.2": (constant(0.5), constant(0.5), False),
        "BioMistral/BioMistral-7B": (constant(0.5), constant(0.5), False),
        "mistralai/Mistral-7B-v0.1": ((), (), True),
    }  # fmt: skip
    assert recipe.parameters == (
        Parameter("normalize", (Gradient((False,)),)),
        Parameter("int8_mask", (Gradient((True,)),)),
    )
    assert recipe.slices == ()


GRADIENT_T = (
    Gradient((0.0, 0.5, 0.3, 0.7, 1.0), "self_attn"),
    Gradient((1.0, 0.5, 0.7, 0.3, 0.0), "mlp"),
    Gradient((0.5,)),
)


def test_the_published_gradients_of_t_are_read_whole(published):
    recipe = published["allura-org-gradient-slerp"]
    assert (recipe.method, recipe.t) == ("slerp", GRADIENT_T)
    assert recipe.base is not None
    assert recipe.base.repo_id == "psmathur/orca_mini_v3_13b"
    assert [parent.layers for parent in recipe.parents] == [((0, 40),), ((0, 40),)]
    assert shares(recipe) == {"psmathur/orca_mini_v3_13b": None, "garage-bAInd/Platypus2-13B": None}
    assert len(recipe.slices) == 1


def test_the_published_average_is_read_whole(published):
    recipe = published["allura-org-linear"]
    stated = {parent.mention.words: parent.weights for parent in recipe.parents}
    assert stated == {
        "psmathur/orca_mini_v3_13b": constant(1.0),
        "WizardLM/WizardLM-13B-V1.2": constant(0.3),
        "garage-bAInd/Platypus2-13B": constant(0.5),
    }
    assert shares(recipe) == pytest.approx(
        {name: gradients[0].values[0] / 1.8 for name, gradients in stated.items()}
    )


def test_the_published_stages_are_read_whole(published):
    recipe = published["allura-org-mega"]
    assert (recipe.method, recipe.name) == ("ties", "gradient-slerp-ties")
    assert [(parent.mention.words, parent.stage) for parent in recipe.parents] == [
        ("psmathur/orca_mini_v3_13b", "gradient-slerp"),
        ("garage-bAInd/Platypus2-13B", "gradient-slerp"),
        ("WizardLM/WizardMath-13B-V1.0", None),
        ("TheBloke/Llama-2-13B-fp16", None),
    ]
    math_model = recipe.parents[2]
    assert math_model.weights == (Gradient((0.5,), "mlp"), Gradient((0.0,)))
    assert math_model.densities == constant(0.33)


def test_the_published_stack_is_read_whole(published):
    recipe = published["allura-org-orcamini-platy-44layer"]
    assert recipe.method == "passthrough"
    assert [[(source.mention.words, source.layers) for source in part.sources]
            for part in recipe.slices] == [
        [("psmathur/orca_mini_v3_13b", (0, 24))], [("garage-bAInd/Platypus2-13B", (20, 40))],
    ]  # fmt: skip
    assert shares(recipe) == pytest.approx(
        {"psmathur/orca_mini_v3_13b": 24 / 44, "garage-bAInd/Platypus2-13B": 20 / 44}
    )


def test_the_published_gradients_of_weight_and_density_are_read_whole(published):
    recipe = published["arcee-ai-ties"]
    first, second, third, base = recipe.parents
    assert (first.weights, first.densities) == (constant(1), (Gradient((1.0, 0.7, 0.1)),))
    assert second.weights == (Gradient((0.0, 0.3, 0.7, 1.0)),)
    assert second.densities == constant(0.5)
    assert third.weights == (Gradient((0.5,), "mlp"), Gradient((0.0,)))
    assert third.densities == constant(0.33)
    assert (first.weight, second.weight, third.weight) == (1.0, 0.5, None)
    assert (base.mention.repo_id, base.is_base) == ("TheBloke/Llama-2-13B-fp16", True)


def test_the_published_fusion_leaves_its_placeholders_unresolved(published):
    recipe = published["arcee-ai-arcee_fusion"]
    assert (recipe.method, recipe.dtype) == ("arcee_fusion", "bfloat16")
    assert [(parent.mention.words, parent.mention.repo_id) for parent in recipe.parents] == [
        ("model_a", None), ("model_b", None),
    ]  # fmt: skip
    assert recipe.base == recipe.parents[0].mention


def test_two_publishers_of_one_example_are_read_alike(published):
    for stem in ("bio-merge", "gradient-slerp", "linear", "orcamini-platy-44layer", "ties"):
        assert published[f"allura-org-{stem}"] == published[f"arcee-ai-{stem}"], stem


def test_mergekit_refers_to_the_same_models(shared_data: Path):
    config = pytest.importorskip("mergekit.config")
    yaml = pytest.importorskip("yaml")
    documents = [
        document
        for path in sorted((shared_data / "cards" / "recipes").glob("*.yml"))
        for document in yaml.safe_load_all(path.read_text("utf-8"))
    ]
    lora = "merge_method: linear\nmodels: [{model: a/x+b/lora}, {model: a/x}]\nbase_model: c/z"
    documents += [yaml.safe_load(MODULES), yaml.safe_load(lora)]
    assert len(documents) == 15
    for document in documents:
        name = document.pop("name", None)
        theirs = {
            (model.model.path, model.lora.path if model.lora else None)
            for model in config.MergeConfiguration.model_validate(document).referenced_models()
        }
        recipe = parse_recipe(yaml.safe_dump(document), CHILD)
        ours = {
            (parent.mention.words, parent.lora.words if parent.lora else None)
            for parent in recipe.parents
        }
        assert ours == theirs, name


# ---- storage and bounds ----------------------------------------------------------------


def numbers_in(value: object) -> Iterator[float]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from numbers_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from numbers_in(item)
    elif isinstance(value, float):
        yield value


def check_storable(recipe: MergeRecipe) -> None:
    document = recipe_document(recipe)
    text = json.dumps(document, allow_nan=False)
    assert json.loads(text) == document
    text.encode("utf-8")
    assert all(map(math.isfinite, numbers_in(document)))
    hash(recipe)


def test_a_document_for_storage_has_every_value():
    recipe = parse_recipe(MODULES + "base_model: e/base\nname: whole\n", CHILD)
    document = recipe_document(recipe)
    assert document == {
        "method": "linear",
        "name": "whole",
        "parents": [
            _parent("a/x", 1.0, weight=1.0, layers=[[0, 4]]),
            _parent("b/y", 3.0, weight=3.0, layers=[[0, 4]]),
            {**_parent("c/z", None), "lora": {"repo_id": "d/lora", "words": "d/lora"}},
            {**_parent("e/base", None), "is_base": True},
        ],
        "base": {"repo_id": "e/base", "words": "e/base"},
        "dtype": "bfloat16",
        "out_dtype": None,
        "tokenizer_source": None,
        "parameters": {},
        "slices": [
            {
                "module": "text_decoder",
                "parameters": {"weight": [{"filter": None, "values": [1.0]}]},
                "sources": [_source("a/x", [0, 4]), _source("b/y", [0, 4], weight=3.0)],
            },
            {
                "module": "vision_tower",
                "parameters": {},
                "sources": [
                    {**_source("c/z", None), "lora": {"repo_id": "d/lora", "words": "d/lora"}}
                ],
            },
        ],
        "text": recipe.text,
    }
    assert recipe.text == (MODULES + "base_model: e/base\nname: whole").strip()


def _source(model: str, layers: list[int] | None, weight: float | None = None) -> dict[str, object]:
    stated = {} if weight is None else {"weight": [{"filter": None, "values": [weight]}]}
    return {
        "model": {"repo_id": model, "words": model},
        "lora": None, "layers": layers, "parameters": stated,
    }  # fmt: skip


def _parent(
    model: str,
    share: float | None,
    weight: float | None = None,
    layers: list[list[int]] | None = None,
) -> dict[str, object]:
    source = {**_source(model, None, weight), "layers": layers or []}
    return {**source, "weight": share, "is_base": False, "stage": None}


def test_every_published_example_can_be_stored(published):
    for recipe in published.values():
        check_storable(recipe)
    assert all(isinstance(part, OutputSlice) for part in published["allura-org-mega"].slices)


SCALARS = st.sampled_from(
    ["a/x", "b/y+c/z", "one", "true", "nan", "1e999", "-1e9", "0.5", "1", "null", "", "7" * 400,
     "linear", "slerp", "passthrough", "C:\\m\\a_b", "*", "\ud800", "\x00"]
) | st.integers(-3, 40).map(str)  # fmt: skip
KEYS = st.sampled_from(
    ["merge_method", "method", "models", "slices", "modules", "sources", "model", "base_model",
     "parameters", "weight", "density", "t", "normalize", "filter", "value", "layer_range", "name",
     "experts", "source_model", "lora", "path", "definition", "tokenizer", "source", "dtype"]
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=30,
)
USES = st.fixed_dictionaries(
    {"model": SCALARS},
    optional={
        "layer_range": st.lists(SCALARS, min_size=2, max_size=2) | VALUES,
        "parameters": st.dictionaries(KEYS, VALUES, max_size=3),
    },
)
DOCUMENTS = st.fixed_dictionaries(
    {"merge_method": SCALARS},
    optional={
        "models": st.lists(USES, max_size=4) | VALUES,
        "slices": st.lists(st.fixed_dictionaries({"sources": st.lists(USES, max_size=3)})) | VALUES,
        "modules": st.dictionaries(KEYS, VALUES, max_size=2),
        "experts": st.lists(st.fixed_dictionaries({"source_model": SCALARS}), max_size=3),
        "base_model": SCALARS | VALUES,
        "name": SCALARS,
        "parameters": st.dictionaries(KEYS, VALUES, max_size=3),
        "tokenizer": VALUES,
    },
)


@given(st.lists(DOCUMENTS, max_size=4))
def test_whatever_a_recipe_says_is_storable_or_malformed(documents):
    text = "\n---\n".join(json.dumps(document) for document in documents)
    try:
        recipes = parse_recipes(text, CHILD, candidates=["a/b", "x/one"])
    except MalformedError:
        return
    for recipe in recipes:
        assert recipe.parents
        check_storable(recipe)


@given(st.text(max_size=300))
def test_no_text_makes_the_reading_of_a_file_fail(text):
    for whole in (text, f"merge_method: linear\nmodels: [{{model: {text}}}]"):
        try:
            recipes = parse_recipes(whole, CHILD)
        except MalformedError:
            continue
        for recipe in recipes:
            check_storable(recipe)


@pytest.mark.parametrize(
    "text",
    [
        "x: &a [1]\nmerge_method: linear\nmodels: *a",
        "merge_method: linear\nmodels: " + "[" * 60 + "]" * 60,
        "merge_method: linear\nmodels: [{model: a/x, parameters: {weight: ["
        + "1," * 500_000 + "]}}]",
        "---\nmerge_method: linear\nmodels: [{model: a/x}]\n" * 65,
        "- {merge_method: linear, models: [{model: a/x}]}\n" * 65,
        "#" * (1 << 20) + "\nmerge_method: linear\nmodels: [{model: a/x}]",
    ],
    ids=["alias", "depth", "million values", "documents", "list", "length"],
)  # fmt: skip
def test_what_is_beyond_the_bounds_is_malformed(text):
    with pytest.raises(MalformedError):
        parse_recipes(text, CHILD)


def test_many_lines_of_nothing_are_no_documents():
    recipe = parse_recipe("---\n" * 200_000 + "merge_method: linear\nmodels: [{model: a/x}]", CHILD)
    assert list(shares(recipe)) == ["a/x"]


def test_the_size_of_a_recipe_is_bounded():
    many = "".join(f"  - {{model: o/m{n}, parameters: {{weight: 1}}}}\n" for n in range(3_000))
    recipe = parse_recipe(f"merge_method: ties\nmodels:\n{many}{'#' * 50_000}", CHILD)
    assert len(recipe.parents) == 256
    assert len(recipe.text) == 20_000
    sources = "".join(f"  - sources: [{{model: o/m, layer_range: [{n}, {n + 1}]}}]\n"
                      for n in range(6_000))  # fmt: skip
    values = ", ".join("1" * 256)
    stack = parse_recipe(
        f"merge_method: passthrough\nslices:\n{sources}parameters: {{weight: [{values}]}}", CHILD
    )
    assert len(stack.slices) == 512
    assert len(json.dumps(recipe_document(stack))) < 1_000_000

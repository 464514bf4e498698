"""Merge recipes: parents, weights, bases, stages."""

from __future__ import annotations

from pathlib import Path

import pytest

from crawler.errors import MalformedError
from crawler.recipes import MergeRecipe, find_recipes, parse_recipe, parse_recipes

CHILD = "me/merged"


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
    assert bases(recipe) == ["d/base"]
    assert len(parse_recipes(text, CHILD)) == 2


@pytest.mark.parametrize("model", ["a/x+b/lora", "{path: a/x}", "{model: {path: a/x}}", "a/x@main"])
def test_every_way_of_naming_a_model_is_understood(model):
    recipe = parse_recipe(f"merge_method: linear\nmodels:\n  - model: {model}\n", CHILD)
    assert [parent.mention.repo_id for parent in recipe.parents] == ["a/x"]


def test_local_paths_are_unresolved_parents():
    recipe = parse_recipe("merge_method: linear\nmodels: [{model: /data/x}, {model: y}]", CHILD)
    assert [parent.mention.repo_id for parent in recipe.parents] == [None, None]


@pytest.mark.parametrize("text", ["", "a: b", "- 1", "merge_method: linear", "a: b: c", "x: *y"])
def test_what_is_no_recipe_is_malformed(text):
    with pytest.raises(MalformedError):
        parse_recipe(text, CHILD)


RECIPE = "models:\n  - model: a/x\n  - model: b/y\nmerge_method: linear\n"


@pytest.mark.parametrize(
    "body",
    [
        f"Words.\n\n```yaml\n{RECIPE}```\nMore words.",
        f"~~~\n{RECIPE}~~~",
        f"<pre><code>{RECIPE}</code></pre>",
        f"Made from this:\n\n{RECIPE}\nThe end.",
        f"```\n!mergekit --model a/x\n=====\n{RECIPE}```",
        f"```yaml\n{RECIPE}",
        f"```yaml\n{RECIPE}```".replace("\n", "\r\n"),
        f"```yaml\n{RECIPE}```\n```yaml\n{RECIPE}```",
    ],
    ids=range(8),
)
def test_recipes_are_found_wherever_a_card_writes_them(body):
    (recipe,) = find_recipes(f"---\nlicense: mit\n---\n{body}", CHILD)
    assert list(shares(recipe)) == ["a/x", "b/y"]


def test_code_that_is_no_recipe_is_passed_over():
    assert not find_recipes("```python\nmodels: x\n```\n```yaml\nmerge_method: [\n```", CHILD)


def test_published_examples_are_read(shared_data: Path):
    paths = sorted((shared_data / "cards" / "recipes").glob("*.yml"))
    assert len(paths) == 12
    for path in paths:
        recipe = parse_recipe(path.read_text("utf-8"), CHILD)
        assert len(shares(recipe)) >= 2, path.name

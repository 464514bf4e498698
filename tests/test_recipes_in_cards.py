"""Recipes in cards: where they stand, how they are broken, what they call each other."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler import recipes as recipes_module
from crawler.errors import MalformedError
from crawler.plain_yaml import read_yaml
from crawler.recipe_blocks import documents_of, loose_blocks, marked_blocks
from crawler.recipe_lines import read_lines
from crawler.recipe_values import Gradient, MergeRecipe, Parameter
from crawler.recipes import find_recipes, recipe_document

CHILD = "me/merged"
RECIPE = "models:\n  - model: a/x\n  - model: b/y\nmerge_method: linear\n"


def constant(value: float) -> tuple[Gradient, ...]:
    return (Gradient((value,)),)


def models(recipe: MergeRecipe) -> list[str]:
    return [parent.mention.words for parent in recipe.parents]


def ids(recipe: MergeRecipe) -> list[str | None]:
    return [parent.mention.repo_id for parent in recipe.parents]


@pytest.fixture(scope="module")
def cards(shared_data: Path) -> Mapping[str, str]:
    """The text of every real card, by the name of its model."""
    found = {}
    with tarfile.open(shared_data / "cards" / "cards.tar.gz") as archive:
        for member in archive:
            opened = archive.extractfile(member)
            if opened is not None and member.name.endswith("/README.md"):
                found[member.name.split("/")[0]] = opened.read().decode("utf-8", "replace")
    return found


# ---- where they stand ------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        f"Words.\n\n```yaml\n{RECIPE}```\nMore words.",
        f"~~~\n{RECIPE}~~~",
        f"<pre><code>{RECIPE}</code></pre>",
        f'<PRE class="x"><span>{RECIPE}</span></PRE>',
        f"<code>x</code> <pre>{RECIPE}</pre>",
        f"<code>never closed <pre>{RECIPE}</pre>",
        f"Made from this:\n\n{RECIPE}\nThe end.",
        f"```\n!mergekit --model a/x\n=====\n{RECIPE}```",
        f"```yaml\n{RECIPE}",
        f"```yaml\n{RECIPE}```".replace("\n", "\r\n"),
        f"```yaml\n{RECIPE}```".replace("\n", "\r"),
        f"```yaml\n{RECIPE}```\n```yaml\n{RECIPE}```",
        "> ```yaml\n> " + RECIPE.replace("\n", "\n> ") + "```",
        "- Item\n\n  ```yaml\n  " + RECIPE.replace("\n", "\n  ") + "```",
        f"```inline``` code\n\n```yaml\n{RECIPE}```",
        f"~~~\nwords\n```\n~~~\n```yaml\n{RECIPE}```",
        "```\nx\n```\n" * 200 + f"```yaml\n{RECIPE}```",
        f"```yaml\n{RECIPE}name: one\n```\nAgain:\n```yaml\n{RECIPE}```",
    ],
    ids=range(18),
)
def test_recipes_are_found_wherever_a_card_writes_them(body):
    (recipe,) = find_recipes(f"---\nlicense: mit\n---\n{body}", CHILD)
    assert models(recipe) == ["a/x", "b/y"]


def test_characters_of_html_are_read_as_what_they_mean():
    (recipe,) = find_recipes(f"<pre>{RECIPE.replace('a/x', '&quot;a&#47;x&quot;')}</pre>", CHILD)
    assert models(recipe) == ["a/x", "b/y"]


@pytest.mark.parametrize(
    "text",
    [
        "```python\nmodels: x\n```\n```yaml\nmerge_method: [\n```",
        "The merge_method: slerp is a good one.",
        "merge_method: slerp",
        "merge_method: two words\n- model: a/x: 1\n- model: b/y: 2",
        "merge_method: slerp\n- model: a/x: 1",
        "Its experts: a/x and b/y.",
    ],
)
def test_words_that_are_no_recipe_are_passed_over(text):
    assert find_recipes(text, CHILD) == ()


def test_the_text_of_a_recipe_is_what_it_was_read_from():
    (recipe,) = find_recipes(f"Words\n```yaml\n{RECIPE}```", CHILD)
    assert recipe.text == RECIPE.strip()


# ---- real cards ------------------------------------------------------------------------


def test_every_real_card_with_a_method_has_its_recipe(cards):
    found = {name: find_recipes(text, CHILD) for name, text in cards.items()}
    marked = {name for name, text in cards.items() if "merge_method" in text}
    assert (len(cards), len(marked)) == (372, 69)
    assert marked <= {name for name, recipes in found.items() if recipes}
    mixtures = {name for name, recipes in found.items() if recipes} - marked
    assert {recipe.method for name in mixtures for recipe in found[name]} == {"moe"}
    assert len(mixtures) == 3
    assert {name: len(recipes) for name, recipes in found.items() if len(recipes) > 1} == {
        "LLaMA2-13B-Estopia": 3, "Mistral-11B-OmniMix": 3, "Nyxene-v2-11B": 3, "Nyxene-v3-11B": 3,
        "Orca2myth7.2": 2, "Valkyrie-V1": 2, "Yi-34B-200K-DARE-megamerge-v8": 2,
        "neural-chat-7B-v3-3-wizardmath-dare-me": 2,
    }  # fmt: skip


def test_every_recipe_of_a_real_card_can_be_stored(cards):
    for text in cards.values():
        for recipe in find_recipes(text, CHILD):
            document = recipe_document(recipe)
            assert json.loads(json.dumps(document, allow_nan=False)) == document
            assert 0 < len(recipe.text) <= 20_000
            assert len(recipe.parents) >= 1


def test_a_list_that_is_no_yaml_is_read_by_its_lines(cards):
    (recipe,) = find_recipes(cards["Iambe-20B-DARE"], CHILD)
    assert (recipe.method, recipe.dtype) == ("dare_ties", "bfloat16")
    assert [(parent.mention.repo_id, parent.weights, parent.densities)
            for parent in recipe.parents] == [
        ("NeverSleep/Noromaid-20b-v0.1.1", constant(0.41), constant(0.5)),
        ("athirdpath/Eileithyia-20b", constant(0.18), constant(0.3)),
        ("athirdpath/CleverGirl-20b-Blended", constant(0.41), constant(0.5)),
        ("athirdpath/BigLlama-20b", (), ()),
    ]  # fmt: skip
    assert recipe.parents[-1].is_base
    assert Parameter("int8_mask", (Gradient((True,)),)) in recipe.parameters


def test_a_stack_without_its_frame_is_read_by_its_lines(cards):
    (recipe,) = find_recipes(cards["Open-Hermes-2.5-neural-chat-3.1-frankenmerge-11b"], CHILD)
    assert recipe.method == "passthrough"
    assert [(source.mention.words.split("/")[0], source.layers)
            for part in recipe.slices for source in part.sources] == [
        ("teknium", (0, 8)), ("Intel", (4, 12)), ("teknium", (9, 16)), ("Intel", (13, 20)),
        ("teknium", (17, 24)), ("Intel", (21, 28)), ("teknium", (25, 32)),
    ]  # fmt: skip
    assert len(recipe.slices) == 7
    assert [parent.weight for parent in recipe.parents] == pytest.approx([29 / 51, 22 / 51])


def test_a_stack_with_uneven_indentation_is_read_by_its_lines(cards):
    (recipe,) = find_recipes(cards["psyonic-cetacean-20B"], CHILD)
    assert [part.sources[0].layers for part in recipe.slices] == [
        (0, 16), (8, 24), (17, 32), (25, 40),
    ]  # fmt: skip
    assert models(recipe) == ["Orca2flat", "LLaMA2-13B-Psyfighter2 (FP16 not yet available)"]
    assert ids(recipe) == [None, None]


def test_stages_are_known_by_the_line_above_them(cards):
    ninth, thirteenth, last = find_recipes(cards["LLaMA2-13B-Estopia"], CHILD)
    assert (ninth.name, thirteenth.name, last.name) == ("EstopiaV9", "EstopiaV13", None)
    # The first of them is no YAML: its parameters stand beside their name.
    assert [parent.weight for parent in ninth.parents] == [None, 1, 0.02, 0.1, 0.05, 0.05, 0.2]
    assert len(thirteenth.parents) == 7
    assert {parent.stage for parent in last.parents} == {"EstopiaV9", "EstopiaV13"}
    assert len(last.parents) == 8
    assert set(ids(last)) == set(ids(ninth)) | set(ids(thirteenth))


def test_a_stage_may_stand_after_the_recipe_that_merges_it(cards):
    stack, flat = find_recipes(cards["Orca2myth7.2"], CHILD)
    assert flat.name == "output/Orca2flat"
    assert [(parent.mention.repo_id, parent.stage) for parent in stack.parents] == [
        ("TheBloke/Llama-2-13B-fp16", flat.name), ("microsoft/Orca-2-13b", flat.name),
        ("PygmalionAI/mythalion-13b", None),
    ]  # fmt: skip
    assert len(stack.slices) == 4


def test_a_key_that_stands_twice_begins_another_recipe(cards):
    first, second = find_recipes(cards["neural-chat-7B-v3-3-wizardmath-dare-me"], CHILD)
    assert (first.method, second.method) == ("dare_ties", "task_arithmetic")
    assert first.name == "mistral-wizardmath-dare-0.7-density"
    assert first.parents[1].densities == constant(0.3)
    assert ids(second) == [
        "mistralai/Mistral-7B-v0.1", "WizardLM/WizardMath-7B-V1.1", "Intel/neural-chat-7b-v3-3",
    ]  # fmt: skip
    assert second.parents[2].weight == 1.0  # stated for all


def test_filters_of_every_kind_are_kept(cards):
    *stages, slerp = find_recipes(cards["Mistral-11B-OmniMix"], CHILD)
    assert [stage.name for stage in stages] == [
        "Mistral-11B-OpenOrcaPlatypus", "Mistral-11B-CC-Zephyr",
    ]  # fmt: skip
    assert slerp.t == (
        Gradient((0.75,), "lm_head"), Gradient((0.75,), "embed_tokens"),
        Gradient((0.75, 0.25), "self_attn"), Gradient((0.25, 0.75), "mlp"),
        Gradient((0.5, 0.5), "layernorm"), Gradient((0.75,), "modelnorm"), Gradient((0.5,)),
    )  # fmt: skip
    assert models(slerp)[2:] == [
        "/content/drive/MyDrive/CC-v1.1-7B-bf16", "/content/drive/MyDrive/Zephyr-7B",
    ]  # fmt: skip
    assert ids(slerp)[2:] == [None, None]


def test_two_documents_in_one_block_are_stages_with_resolved_paths(cards):
    first, last = find_recipes(cards["Yi-34B-200K-DARE-megamerge-v8"], CHILD)
    assert (first.name, last.name) == ("4kmerge-v2", None)
    assert (first.tokenizer_source, last.tokenizer_source) == ("union", "union")
    assert ids(first) == [
        "chargoddard/Yi-34B-Llama", "chargoddard/Yi-34B-200K-Llama",
        "Weyaxi/Nous-Hermes-2-SUS-Chat-34B-Slerp", "jondurbin/bagel-dpo-34b-v0.2",
        "jondurbin/bagel-34b-v0.2", "bhenrym14/platypus-yi-34b", "TriadParty/deepsex-34b",
    ]  # fmt: skip
    tess = last.parents[1]
    assert tess.mention.words == "/home/alpha/Storage/Models/Raw/migtissera_Tess-34B-v1.4"
    assert tess.mention.repo_id == "migtissera/Tess-34B-v1.4"
    assert tess.weights == (Gradient((0.22, *[0.113] * 5)),)
    assert tess.densities == constant(0.61)
    # No id in the card is called so.
    assert [parent.mention.words for parent in last.parents if parent.mention.repo_id is None] == [
        "/home/alpha/Storage/Models/Raw/Nous-Capybara-34B"
    ]


def test_layers_in_lines_of_their_own_are_read(cards):
    (recipe,) = find_recipes(cards["UtopiaXL-13B"], CHILD)
    layers = [part.sources[0].layers for part in recipe.slices]
    assert [span for span in layers if span is None] == []
    assert layers[0] == (0, 1)
    assert all(before[1] == after[0] for before, after in pairwise(layers))
    assert layers[-1] == (39, 40)
    assert sum(parent.weight or 0 for parent in recipe.parents) == pytest.approx(1)


def test_names_alone_are_resolved_by_the_links_of_the_card(cards):
    (recipe,) = find_recipes(cards["Nous-Hermes-2-SUS-Chat-34B-Slerp"], CHILD)
    assert dict(zip(models(recipe), ids(recipe), strict=True)) == {
        "Nous-Hermes-2-Yi-34B": "NousResearch/Nous-Hermes-2-Yi-34B",
        "SUS-Chat-34B": "SUSTech/SUS-Chat-34B",
        "Yi-34B": "01-ai/Yi-34B",
    }


# ---- stages and paths by small examples ------------------------------------------------


def test_a_link_in_the_card_resolves_a_path_and_not_the_child():
    text = f"From [x](https://huggingface.co/A/One-7B) to me/merged.\n```\n{RECIPE}```\n"
    text = text.replace("a/x", r"C:\m\one-7b").replace("b/y", "/m/merged.v2/Merged")
    (recipe,) = find_recipes(text, "me/Merged")
    assert ids(recipe) == ["A/One-7B", None]


def two_recipes(above_first: str, above_second: str, stage: str = "Stage-1") -> str:
    second = RECIPE.replace("a/x", stage)
    return f"{above_first}\n```\n{RECIPE}```\n{above_second}\n```\n{second}```\n"


@pytest.mark.parametrize(
    ("above_first", "above_second", "stage"),
    [
        ("Stage-1:", "The end:", "Stage-1"),
        ("This makes **Stage-1**.", "The end:", "./out/Stage-1"),
        ("The end:", "Stage-1 and b/y make this:", "Stage-1"),
    ],
)
def test_a_heading_names_what_another_recipe_merges(above_first, above_second, stage):
    first, second = find_recipes(two_recipes(above_first, above_second, stage), CHILD)
    expected = stage if "Stage-1" in above_first else None
    assert first.name == expected
    assert [parent.stage for parent in second.parents] == (
        [stage, stage] if expected else [None, None]
    )


def test_a_heading_in_doubt_names_nothing():
    plain = find_recipes(two_recipes("The first model:", "The second one:", "model"), CHILD)
    assert [recipe.name for recipe in plain] == [None, None]
    twice = two_recipes("Stage-1:", "x") + f"Stage-1 again\n```\n{RECIPE.replace('a/x', 'c/z')}```"
    assert [recipe.name for recipe in find_recipes(twice, CHILD)] == [None, None, None]
    both = "merge_method: ties\nmodels: [{model: c/z}]"
    several = f"Stage-1:\n```\n{RECIPE}---\n{both}\n```\n{RECIPE.replace('a/x', 'Stage-1')}"
    assert [recipe.name for recipe in find_recipes(several, CHILD)] == [None, None, None]


def test_a_key_written_twice_without_a_second_method_begins_nothing():
    text = f"{RECIPE}dtype: float16\ndtype: bfloat16\n# merge_method\n"
    assert documents_of(text, restarts=True) == [text]
    assert documents_of(RECIPE * 2, restarts=True) == [RECIPE, RECIPE]
    assert documents_of(RECIPE * 2) == [RECIPE * 2]
    assert documents_of(f"# a\n---\n{RECIPE}---\n\n--- # b\n") == ["\n" + RECIPE]


# ---- line by line ----------------------------------------------------------------------


def test_what_lines_say_is_the_same_as_their_yaml():
    text = """
merge_method: ties
base_model: "c/base" # the base
models:
  - model: a/x
    parameters:
      weight: 0.5
      density: [1, 0.5]
  - model: 'b/y'
    parameters: {}
parameters:
  normalize: true
  density: 0.25
dtype: float16
"""
    document = read_lines(text)
    assert document == {
        "merge_method": "ties",
        "base_model": "c/base",
        "models": [
            {"model": "a/x", "parameters": {"weight": "0.5", "density": ["1", "0.5"]}},
            {"model": "b/y", "parameters": {}},
        ],
        "parameters": {"normalize": "true", "density": "0.25"},
        "dtype": "float16",
    }


def test_lines_keep_the_slices_that_they_name():
    text = """
slices:
 - sources:
  - model: a/x
   layer_range: [0, 4]
  - model: b/y
   layer_range: [0, 4]
 - sources:
  - model: a/x
   layer_range: [4, 8]
merge_method: linear
"""
    document = read_lines(text)
    assert document is not None
    assert document["slices"] == [
        {"sources": [
            {"model": name, "parameters": {}, "layer_range": ["0", "4"]} for name in ("a/x", "b/y")
        ]},
        {"sources": [{"model": "a/x", "parameters": {}, "layer_range": ["4", "8"]}]},
    ]  # fmt: skip


def test_lines_too_long_and_lists_without_end_are_not_understood():
    text = "merge_method: ties\nmodel: a/x\nweight: [0.5\nmodel: b/y\nname: " + "n" * 2_000
    document = read_lines(text)
    assert document is not None
    assert "name" not in document
    (recipe,) = find_recipes(f"```\n{text}\n: : :\n```", CHILD)
    assert recipe.parents[0].weights == ()


@pytest.mark.parametrize(
    "text",
    [
        "merge_method: linear\nmodel: a/x",
        "model: a/x\nmodel: b/y",
        "merge_method: linear\nmodel: a/x\nmodel: b/y\nmerge_method: ties",
        "merge_method: [linear]\nmodel: a/x\nmodel: b/y",
        "merge_method: a few words\nmodel: a/x\nmodel: b/y",
    ],
)
def test_lines_that_are_unclear_say_nothing(text):
    assert read_lines(text) is None


# ---- bounds ----------------------------------------------------------------------------

MEGABYTE = 1 << 20


def filled(line: str) -> str:
    return line * (MEGABYTE // len(line))


@pytest.mark.parametrize(
    "text",
    [
        "merge_method: x\n" + filled("```\n"),
        "merge_method: x\n" + filled("```\nmerge_method: x\n"),
        "merge_method: x\n" + filled("```\n~~~\n"),
        "merge_method: x\n" + filled("slices:\n"),
        "```\nmerge_method: x\n" + filled("slices:\n"),
        "merge_method: x\n" + filled("---\n"),
        "```\nmerge_method: x\n" + filled("---\n"),
        "```\n" + filled("---\nmerge_method: x\n"),
        filled("merge_method: x: y\n.\n"),
        "```\n" + filled(RECIPE),
        filled("<pre><code>\nmerge_method: x\n</code></pre>"),
        "\nmerge_method: x\n" + "<pre><code>" * 40_000 + "</code></pre>" * 40_000,
        "merge_method: x\n" + filled("` ") + "`" * 1000 + "x`",
        "```\nmerge_method: linear\n" + filled("  - model: a/x\n"),
    ],
    ids=range(14),
)
def test_the_work_on_a_hostile_card_is_bounded(text, monkeypatch):
    lengths: list[int] = []

    def counted(piece: str) -> object:
        lengths.append(len(piece))
        return read_yaml(piece)

    monkeypatch.setattr(recipes_module, "read_yaml", counted)
    assert len(find_recipes(text, CHILD)) <= 64
    assert sum(lengths) <= 3 * MEGABYTE
    assert len(lengths) <= 2 * 64


@pytest.mark.parametrize(
    "text",
    [
        filled("```\nmerge_method: x\n"),
        filled(f"<pre>{RECIPE}</pre>"),
        f"<pre><code>\n{RECIPE}</code></pre>",
    ],
    ids=["fences", "tags", "nested tags"],
)
def test_blocks_hold_every_character_at_most_once(text):
    assert sum(len(block.text) for block in marked_blocks(text)) <= len(text)
    assert sum(len(block.text) for block in loose_blocks(text)) <= len(text)


def test_a_card_without_the_words_of_a_recipe_is_not_searched(monkeypatch):
    def refused(text: str) -> object:
        raise AssertionError(text)

    monkeypatch.setattr(recipes_module, "marked_blocks", refused)
    assert find_recipes("# A model\n\nFine-tuned with experts.\n" * 100, CHILD) == ()


PIECES = st.sampled_from(
    ["```\n", "~~~\n", "---\n", "<pre>", "</pre>", "<code>", "</code>", "> ", "- ", "  ", "\n",
     "\r", "merge_method: linear\n",
     "merge_method: slerp", "models:\n", "- model: a/x\n", "model: ./b\n",
     "slices:\n", "- sources:\n", "layer_range: [0, 4]\n", "weight: 0.5 / density: 1e999\n",
     "parameters:\n", "base_model: a/x\n", "name: b\n", "experts:\n", "t: [0, nan]\n", "b:\n",
     "[a/b](https://huggingface.co/a/b)\n", "\ud800", "\x00", "# b", "&a ", "*a ", "{", "[", ": "]
)  # fmt: skip


@given(st.lists(PIECES | st.text(max_size=5), max_size=60).map("".join))
def test_no_card_makes_the_search_fail(text):
    for whole in (text, f"merge_method: ties\n{text}", f"```\n{RECIPE}{text}"):
        for recipe in find_recipes(whole, CHILD):
            json.dumps(recipe_document(recipe), allow_nan=False).encode("utf-8")


USES = st.tuples(st.sampled_from(["a/x", "b/y", "c/z"]), st.integers(0, 99))


@given(st.lists(USES, min_size=2, max_size=5))
def test_broken_indentation_changes_nothing_that_is_read(uses):
    whole = "merge_method: ties\nmodels:\n" + "".join(
        f"  - model: {name}\n    parameters:\n      weight: 0.{weight}\n" for name, weight in uses
    )
    broken = whole.replace("      weight", "    weight").replace("  - model", "- model")
    with pytest.raises(MalformedError):
        read_yaml(broken)
    assert find_recipes(f"```\n{broken}```", CHILD) == find_recipes(f"```\n{whole}```", CHILD)

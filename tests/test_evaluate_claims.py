"""herdbook evaluate-claims: what is read, scored against known parents."""

from __future__ import annotations

import gzip
import json
import math
import sys
from pathlib import Path

import pytest

from lineage.cli.main import main
from lineage.errors import NotFoundError, UsageError
from lineage.pipeline.claim_scores import ClaimsEvaluation, wilson
from lineage.pipeline.evaluate_claims import evaluate_claims, half_of

MANIFEST = """id: {name}
parent_id: {child}
tags:
- gguf
- base_model:{tagged}
variants:
  Q4: {{artifacts: [{{uri: https://huggingface.co/bloke/{name}-GGUF/resolve/main/x.gguf}}]}}
"""


def write_card(folder: Path, name: str, card: str, *, child=None, tagged=None) -> None:
    child = child or f"me/{name}"
    (folder / name).mkdir(parents=True)
    (folder / name / "README.md").write_text(card, "utf-8")
    manifest = MANIFEST.format(name=name, child=child, tagged=tagged or child)
    (folder / name / "manifest.yaml").write_text(manifest, "utf-8")


def scores(found: ClaimsEvaluation) -> dict[tuple[str, str], tuple[int, ...]]:
    return {
        (one.truth, one.source): (one.texts, one.claims, one.right, one.expected, one.found)
        for one in found.scores
    }


def misses(found: ClaimsEvaluation) -> list[tuple[str, ...]]:
    return [(miss.verdict, miss.source, miss.child, miss.parent) for miss in found.misses]


def test_tags_of_the_quantised_repository_are_scored_against_its_manifest(tmp_path):
    write_card(tmp_path, "right", "x", child="Me/Right", tagged="me/right")
    write_card(tmp_path, "wrong", "x", tagged="me/other")
    found = evaluate_claims(tmp_path)
    assert scores(found)["manifest", "tag"] == (2, 2, 1, 2, 1)
    assert misses(found) == [
        ("wrong", "tag", "bloke/wrong-GGUF", "me/other"),
        ("missed", "tag", "bloke/wrong-GGUF", "me/wrong"),
    ]
    (score,) = (one for one in found.scores if one.truth == "manifest")
    assert (score.precision, score.recall) == (0.5, 0.5)


def test_a_card_that_names_itself_or_its_quantisation_is_wrong_for_certain(tmp_path):
    card = "---\nbase_model: [me/one, a/b, bloke/one-gguf, ./path]\n---\n"
    write_card(tmp_path, "one", card)
    found = evaluate_claims(tmp_path)
    truth = "neither itself nor its quantisation"
    assert scores(found)[truth, "card"] == (1, 3, 1, 0, 0)
    assert ("wrong", "card", "me/one", "me/one") in misses(found)
    (score,) = (s for s in found.scores if (s.truth, s.source) == (truth, "card"))
    assert score.unresolved == 1
    assert math.isnan(score.recall)


RECIPE = "```yaml\nmerge_method: linear\nmodels: [{model: a/x}, {model: b/y}]\n```\n"


def test_prose_and_metadata_are_scored_against_the_recipe_beside_them(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mergekit.config", None)
    card = f"---\nbase_model: [a/X]\n---\nA merge of `a/x` and `c/z`.\n{RECIPE}"
    write_card(tmp_path, "one", card)
    write_card(tmp_path, "two", "Based on `q/r`.")
    found = scores(evaluate_claims(tmp_path))
    assert found["recipe in the card", "card"] == (1, 1, 1, 2, 1)
    assert found["recipe in the card", "prose"] == (1, 2, 1, 2, 1)


def test_recipes_are_compared_with_mergekits_own_reading(tmp_path, monkeypatch):
    pytest.importorskip("mergekit")
    write_card(tmp_path / "cards", "one", RECIPE)
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    two = "{merge_method: slerp, base_model: a/x, models: [{model: a/x}, {model: b/y+c/lora}],"
    (recipes / "one.yml").write_text(f"{two} parameters: {{t: 0.5}}}}", "utf-8")
    stage = "{name: first, merge_method: linear, models: [{model: a/x, parameters: {weight: 1}}]}"
    last = "{merge_method: linear, models: [{model: first, parameters: {weight: 1}}]}"
    (recipes / "stages.yml").write_text(f"{stage}\n---\n{last}", "utf-8")
    (recipes / "bad.yml").write_text("merge_method: nonsense", "utf-8")
    found = scores(evaluate_claims(tmp_path / "cards", recipes=recipes))
    assert found["mergekit's own reading", "card_recipe"] == (1, 2, 2, 2, 2)
    assert found["mergekit's own reading", "merge_recipe"] == (2, 4, 4, 4, 4)
    monkeypatch.setitem(sys.modules, "mergekit.config", None)
    without = scores(evaluate_claims(tmp_path / "cards", recipes=recipes))
    assert ("mergekit's own reading", "card_recipe") not in without


def test_labels_are_scored_where_they_are_addresses_and_where_a_card_is_there(tmp_path):
    write_card(tmp_path / "cards", "one", "---\nbase_model: a/b\n---\nBased on `c/d-1`.")
    labels = tmp_path / "labels"
    labels.mkdir()
    models = {
        "me/one": {"upstream_model": "https://huggingface.co/a/b"},
        "me/two": {"upstream_model": "https://huggingface.co/gpt2"},
        "me/three": {"upstream_model": "gpt2"},
        "me/four": {"upstream_model": "Llama of Meta"},
        "me/five": {"upstream_model": " "},
    }
    (labels / "x.json").write_text(json.dumps(models), "utf-8")
    found = evaluate_claims(tmp_path / "cards", labels=labels)
    assert scores(found)["hand label", "addresses"] == (2, 2, 2, 2, 2)
    assert scores(found)["hand label", "card"] == (1, 1, 1, 1, 1)
    assert scores(found)["hand label", "prose"] == (1, 1, 0, 1, 0)
    assert ("unchecked", "words", "me/three", "gpt2") in misses(found)
    (score,) = (one for one in found.scores if one.source == "addresses")
    assert score.unresolved == 1


def test_tags_are_scored_against_edges_that_another_program_read(tmp_path):
    write_card(tmp_path / "cards", "one", "x")
    radar = tmp_path / "radar"
    radar.mkdir()
    models = [
        {"id": "me/a", "tags": ["base_model:x/y", "base_model:merge:x/y", "base_model:merge:/p"]},
        {"id": "me/b", "tags": []},
    ]
    with gzip.open(radar / "models.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(model) + "\n" for model in models)
    with gzip.open(radar / "edges_from_tags.csv.gz", "wt") as file:
        file.write("child,parent,relation_tag\nme/a,X/y,merge\nme/a,/p,merge\n")
    found = evaluate_claims(tmp_path / "cards", radar=radar)
    assert scores(found)["edges of radar", "tag"] == (2, 1, 1, 2, 1)
    assert found.misses[-1].reason == "a path on somebody's disk, or no id"


def test_prose_is_scored_against_judgements(tmp_path):
    write_card(tmp_path / "cards", "one", "A merge of `a/b-1`, `c/d-1` and `e/f-1`.")
    write_card(tmp_path / "cards", "two", "Based on `q/r-1`.")
    judged = tmp_path / "judged.csv"
    judged.write_text(
        "child,parent,verdict,reason\nME/one,a/B-1,right,\nme/one,c/d-1,wrong,why\n"
        "me/one,g/h-1,missed,how\n"
    )
    found = evaluate_claims(tmp_path / "cards", judged=judged)
    assert scores(found)["judged by reading", "prose"] == (1, 2, 1, 2, 1)
    told = [(miss.verdict, miss.parent, miss.reason) for miss in found.misses]
    assert told == [
        ("unjudged", "e/f-1", ""), ("wrong", "c/d-1", "why"), ("missed", "g/h-1", "how"),
    ]  # fmt: skip
    judged.write_text("child,parent\na,b\n")
    with pytest.raises(UsageError):
        evaluate_claims(tmp_path / "cards", judged=judged)


def test_the_halves_share_no_card_and_miss_none(tmp_path):
    for n in range(20):
        write_card(tmp_path, f"card{n}", "x")
    counts = [
        scores(evaluate_claims(tmp_path, half=half))["manifest", "tag"][0]
        for half in ("development", "held-out")
    ]
    assert sum(counts) == 20
    assert min(counts) > 0
    assert counts[0] == sum(half_of(f"card{n}/README.md") == "development" for n in range(20))


def test_missing_and_misshapen_inputs_are_said(tmp_path):
    with pytest.raises(NotFoundError):
        evaluate_claims(tmp_path / "none")
    with pytest.raises(NotFoundError):
        evaluate_claims(tmp_path)
    (tmp_path / "x.tar").write_text("no tar")
    with pytest.raises(UsageError):
        evaluate_claims(tmp_path / "x.tar")
    write_card(tmp_path / "cards", "one", "x")
    (tmp_path / "cards" / "one" / "manifest.yaml").write_text("a: b")
    with pytest.raises(UsageError, match="parent_id"):
        evaluate_claims(tmp_path / "cards")


def test_intervals_of_shares_are_wilsons():
    # R: binom.confint(45, 50, methods = "wilson") gives 0.7863, 0.9565.
    assert wilson(45, 50) == pytest.approx((0.7864, 0.9565), abs=2e-4)
    assert wilson(0, 5)[0] == pytest.approx(0, abs=1e-12)
    assert all(math.isnan(end) for end in wilson(0, 0))


def test_the_command_prints_a_table_and_json(tmp_path, capsys):
    write_card(tmp_path, "one", "x", tagged="a/other")
    assert main(["evaluate-claims", "--cards", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("\t")[:3] == ["truth", "source", "texts"]
    assert lines[-1] == "missed [manifest, tag] bloke/one-GGUF <- me/one"
    assert main(["evaluate-claims", "--cards", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["scores"][0]["precision"] == 0
    assert document["half"] == "all"
    assert main(["evaluate-claims", "--cards", str(tmp_path / "none")]) == 3


def test_trusted_sources_of_real_cards_are_precise(shared_data, monkeypatch):
    monkeypatch.setitem(sys.modules, "mergekit.config", None)  # which takes seconds to import
    data = shared_data / "cards"
    judged = Path(__file__).parent.parent / "docs" / "claims-judged.csv"
    found = evaluate_claims(data / "cards.tar.gz", labels=data / "labels", judged=judged)
    table = {(one.truth, one.source): one for one in found.scores}
    assert table["manifest", "tag"].texts == 372
    for key in (
        ("manifest", "tag"),
        ("hand label", "addresses"),
        ("neither itself nor its quantisation", "card"),
        ("neither itself nor its quantisation", "card_recipe"),
    ):
        assert table[key].precision >= 0.98
    prose = table["judged by reading", "prose"]
    assert prose.precision >= 0.95
    assert prose.recall >= 0.65
    assert not [miss for miss in found.misses if miss.verdict == "unjudged"]

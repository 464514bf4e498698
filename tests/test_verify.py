"""herdbook verify: a recipe is carried out by mergekit, and every stored word is compared."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from crawler.hub_server import running_hub
from lineage.cli import main
from lineage.errors import HerdbookError, NotFoundError, UsageError
from lineage.export.mergekit import RANDOM_METHODS
from lineage.export.mergekit_reader import read_config
from lineage.infer.rebuilt import RebuiltMatch, TensorMatch, share_words
from lineage.pipeline import rebuild as rebuilding
from lineage.pipeline import rebuild_worker, word_matches
from lineage.pipeline import verify as stage
from lineage.pipeline.located import ModelReader, locate_folder
from lineage.pipeline.verify import plan_verification, verify
from lineage.pipeline.verify_plan import VerifyOptions
from lineage.pipeline.weight_folder import download_file
from lineage.pipeline.word_matches import match_words

CHILD = "mergesmith/Tallow-linear-v1"
RECIPE = """
merge_method: linear
models:
- {model: lanternworks/Wick-270k-Instruct, parameters: {weight: 0.6}}
- {model: j-okafor/wick-python, parameters: {weight: 0.4}}
dtype: bfloat16
"""
CONFIG = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 4}
EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def tensors(seed=0, *, n_layers=2, head=True):
    rng = np.random.default_rng(seed)
    made = {EMBED: rng.normal(size=(10, 4)).astype(np.float16)}
    for n in range(n_layers):
        made[f"model.layers.{n}.mlp.up_proj.weight"] = rng.normal(size=(8, 4)).astype(np.float16)
    if head:
        made[HEAD] = rng.normal(size=(10, 4)).astype(np.float16)
    return made


def write(folder, made, config=CONFIG):
    folder.mkdir(parents=True, exist_ok=True)
    save_file(made, folder / "model.safetensors", {"format": "pt"})
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def matched(tmp_path, child, rebuilt):
    with (
        ModelReader(locate_folder(write(tmp_path / "c", child))) as a,
        ModelReader(locate_folder(write(tmp_path / "r", rebuilt))) as b,
    ):
        return match_words(a, b)


@pytest.fixture
def models(tmp_path):
    """Two parents and their child, as a folder of owner/name."""
    root = tmp_path / "models"
    for name, seed in (("a/one", 1), ("b/two", 2), ("c/child", 3)):
        write(root / name, tensors(seed))
    return root


LOCAL = "merge_method: linear\nmodels: [{model: a/one}, {model: b/two}]\n"


# ---- comparing -------------------------------------------------------------------------------


def test_equal_models_match_in_every_word(tmp_path):
    match = matched(tmp_path, tensors(), tensors())
    assert match.is_exact
    assert (match.n_words, match.n_equal, match.share) == (144, 144, 1.0)
    assert [(one.layer, one.n_words) for one in match.layers()] == [(-1, 80), (0, 32), (1, 32)]
    assert match.worst() == []


@pytest.mark.parametrize("step", [16 << 20, 10])
def test_one_changed_weight_is_one_word_of_its_layer(tmp_path, monkeypatch, step):
    monkeypatch.setattr(word_matches, "_STEP_BYTES", step)
    changed = tensors()
    changed["model.layers.1.mlp.up_proj.weight"][3, 2] += 1
    match = matched(tmp_path, tensors(), changed)
    assert not match.is_exact
    assert (match.n_words, match.n_equal) == (144, 143)
    assert [(one.layer, one.n_words - one.n_equal) for one in match.layers()] == [
        (-1, 0), (0, 0), (1, 1),
    ]  # fmt: skip
    assert [one.words for one in match.worst()] == ["1 of 32 words differ"]


def test_words_are_compared_as_bits(tmp_path):
    one, other = tensors(), tensors()
    one[EMBED][0, :2] = [0.0, np.nan]
    other[EMBED][0, :2] = [-0.0, np.nan]
    match = matched(tmp_path, one, other)
    assert match.n_words - match.n_equal == 1


def test_missing_and_extra_tensors_are_told(tmp_path):
    match = matched(tmp_path, tensors(n_layers=3), {**tensors(), "model.norm.weight": np.ones(4)})
    assert match.missing == ("model.layers.2.mlp.up_proj.weight",)
    assert match.extra == ("model.norm.weight",)
    assert not match.is_exact
    only_extra = matched(tmp_path, tensors(), {**tensors(), "model.norm.weight": np.ones(4)})
    assert only_extra.n_equal == only_extra.n_words
    assert not only_extra.is_exact


def test_another_dtype_or_shape_has_no_equal_word(tmp_path):
    changed = tensors()
    changed[EMBED] = changed[EMBED].astype(np.float32)
    changed[HEAD] = changed[HEAD].reshape(4, 10)
    match = matched(tmp_path, tensors(), changed)
    assert match.n_words - match.n_equal == 80
    assert {one.name: one.words for one in match.worst()} == {
        EMBED: "stored as F16, rebuilt as F32",
        HEAD: "shape [10, 4], rebuilt [4, 10]",
    }


def test_a_head_that_the_rebuilt_model_ties_is_held_against_the_embeddings(tmp_path):
    copied = tensors()
    copied[HEAD] = copied[EMBED].copy()
    match = matched(tmp_path, copied, tensors(head=False))
    assert match.is_exact
    assert [one.tied_to for one in match.tensors if one.name == HEAD] == [EMBED]
    own = matched(tmp_path, tensors(), tensors(head=False))
    assert not own.is_exact
    assert own.missing == ()
    assert f"against {EMBED}" in own.worst()[0].words


def test_a_head_that_only_the_rebuilt_model_has_counts_unless_it_copies_the_embeddings(tmp_path):
    copied = tensors(head=False)
    copied[HEAD] = copied[EMBED].copy()
    assert matched(tmp_path, tensors(head=False), copied).is_exact
    assert matched(tmp_path, tensors(head=False), tensors()).extra == (HEAD,)


def test_a_head_of_another_name_unties_the_embeddings(tmp_path):
    copied = tensors()
    copied[HEAD] = copied[EMBED].copy()
    match = matched(tmp_path, copied, {**tensors(head=False), "embed_out.weight": tensors(1)[HEAD]})
    assert match.missing == (HEAD,)
    assert match.extra == ("embed_out.weight",)


def test_an_empty_tensor_of_another_dtype_is_another_tensor():
    empty = TensorMatch("x", 0, 0, 0, "F16", (0,), "F32", (0,))
    assert not empty.is_exact
    assert not replace(empty, rebuilt_dtype="F16", rebuilt_shape=(0, 4)).is_exact
    assert replace(empty, rebuilt_dtype="F16").is_exact


def test_a_share_is_never_rounded_up_to_all():
    assert share_words(10**9 - 1, 10**9) == "99.9999 %"
    assert share_words(10**9, 10**9) == "100 %"
    assert share_words(0, 7) == "0 %"


def test_a_model_without_words_is_not_rebuilt():
    assert not RebuiltMatch(()).is_exact
    assert not RebuiltMatch((TensorMatch("x", 0, 0, 0, "F16", (0,), "F16", (0,)),)).is_exact


# ---- what is read and written ----------------------------------------------------------------


def test_a_dry_run_tells_what_would_be_read_and_writes_nothing(models, tmp_path, capsys):
    recipe, scratch = tmp_path / "r.yml", tmp_path / "scratch"
    scratch.mkdir()
    recipe.write_text(LOCAL)
    command = ["verify", str(recipe), "c/child", "--models", str(models), "--dry-run"]
    command += ["--scratch", str(scratch)]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "a/one" in out
    assert "writes at most 288 bytes" in out
    assert main([*command, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert [one["role"] for one in plan["models"]] == ["child", "parent", "parent"]
    assert plan["output_bytes"] == plan["scratch_bytes"] == 288
    assert list(scratch.iterdir()) == []


def test_parents_on_the_hub_are_read_at_the_revision_that_the_recipe_names(pocket):
    with running_hub(pocket) as endpoint:
        options = VerifyOptions(endpoint)
        plan = plan_verification(RECIPE, CHILD, options)
        commit = plan.models[2].revision
        pinned = RECIPE.replace("wick-python", f"wick-python@{commit}")
        assert plan_verification(pinned, CHILD, options).models[2].revision == commit
        with pytest.raises(NotFoundError, match="wick-python at 0000"):
            plan_verification(pinned.replace(commit, "0" * 40), CHILD, options)
    assert plan.models[2].download_bytes > plan.models[2].weight_bytes > 0
    assert plan.models[0].download_bytes == 0


def test_a_recipe_reaches_no_folder_that_nobody_named(models, tmp_path):
    options = VerifyOptions(models=models)
    for name in (str(models / "a/one"), "../models/a/one", "a/../a/one", "./a/one", "~/x"):
        recipe = yaml.safe_dump({"merge_method": "linear", "models": [{"model": name}]})
        with pytest.raises(NotFoundError, match="--parent"):
            plan_verification(recipe, "c/child", options)
    path = str(models / "a/one")
    recipe = yaml.safe_dump({"merge_method": "linear", "models": [{"model": path}]})
    plan = plan_verification(
        recipe, "c/child", VerifyOptions(models=models, parents={path: Path(path)})
    )
    assert plan.models[1].folder == path


def test_a_model_folder_with_links_out_of_it_is_refused(models, tmp_path):
    secret = write(tmp_path / "secret", tensors(9)) / "model.safetensors"
    weights = models / "a/one/model.safetensors"
    weights.unlink()
    weights.symlink_to(secret)
    with pytest.raises(HerdbookError, match="cannot be used"):
        plan_verification(LOCAL, "c/child", VerifyOptions(models=models))


def test_an_index_that_names_files_elsewhere_is_refused(models):
    folder = models / "a/one"
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    weight_map = dict.fromkeys(tensors(), "../../b/two/model.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(HerdbookError, match="cannot be used"):
        plan_verification(LOCAL, "c/child", VerifyOptions(models=models))


def test_pickled_parents_are_refused(models):
    (models / "a/one/model.safetensors").unlink()
    (models / "a/one/pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(HerdbookError, match="pickled"):
        plan_verification(LOCAL, "c/child", VerifyOptions(models=models))


ENDLESS = [
    None,
    *(
        {key: 10**9}
        for key in (
            "num_hidden_layers", "encoder_layers", "decoder_layers", "num_decoder_layers",
            "num_local_experts", "num_experts", "n_routed_experts", "NumLayers",
        )
    ),
    {"num_hidden_layers": 10_001},
    {"num_hidden_layers": 10**400},
    {"num_hidden_layers": 1e9},
    {"num_experts": "1_000_000_000"},
    {"text_config": {"n_layer": 10**9}},
    {"vision_config": {"depth": 10**9}},
    {"a": [{"b": {"num_experts": 10**9}}]},
    {"depths": [2, [10**9]]},
    {"a": list(range(200_001))},
    json.loads('{"a":' * 40 + "1" + "}" * 40),
]  # fmt: skip


@pytest.mark.parametrize("config", ENDLESS, ids=lambda one: str(one)[:40])
def test_parents_without_a_sane_configuration_are_refused(models, config):
    (models / "a/one/config.json").unlink()
    write(models / "a/one", tensors(1), config)
    with pytest.raises(HerdbookError, match=r"config\.json"):
        plan_verification(LOCAL, "c/child", VerifyOptions(models=models))


def test_parents_with_wide_layers_and_usual_settings_are_taken(models):
    usual = {
        **CONFIG, "shared_expert_intermediate_size": 20_480, "layer_norm_eps": 1e-5,
        "layer_types": ["full_attention"] * 2, "moe_layer": True, "num_experts": 10_000,
        "vocab_size": 10**6, "ffn_dim_per_layer": [20_480] * 2, "expert_name": None,
    }  # fmt: skip
    write(models / "a/one", tensors(1), usual)
    assert plan_verification(LOCAL, "c/child", VerifyOptions(models=models)).notes == ()


@pytest.mark.parametrize("number", ["10001", "9" * 5_000])
def test_parents_whose_tensors_name_endless_layers_are_refused(models, number):
    write(models / "a/one", {**tensors(1), f"tower.{number}.weight": np.ones(4)})
    with pytest.raises(HerdbookError, match="no usable layer"):
        plan_verification(LOCAL, "c/child", VerifyOptions(models=models))


TWO_REVISIONS = "merge_method: linear\nmodels: [{model: a/one@v1}, {model: a/one@v2}]\n"


def test_two_revisions_of_one_model_are_not_read_from_one_folder(models, tmp_path):
    one, two = models / "a/one", models / "b/two"
    for options in (
        VerifyOptions(models=models),
        VerifyOptions(models=models, parents={"a/one": one}),
        VerifyOptions(models=models, parents={"a/one@v1": one}),
    ):
        with pytest.raises(UsageError, match="NAME@REVISION=FOLDER"):
            plan_verification(TWO_REVISIONS, "c/child", options)
    options = VerifyOptions(models=models, parents={"a/one@v1": two})
    assert [one.folder for one in plan_verification(TWO_REVISIONS, "c/child", options).models] == [
        str(models / "c/child"), str(two), str(one),
    ]  # fmt: skip
    said = VerifyOptions(models=models, parents={"a/one@v1": two, "a/one@v2": two})
    assert len(plan_verification(TWO_REVISIONS, "c/child", said).models) == 3


def test_a_parent_that_the_recipe_does_not_name_is_refused(models, tmp_path, capsys):
    (tmp_path / "r.yml").write_text(LOCAL)
    command = ["verify", str(tmp_path / "r.yml"), "c/child", "--models", str(models), "--dry-run"]
    folder = models / "a/one"
    for wrong in ("a/ome", "a/one@v1"):
        assert main([*command, "--parent", f"{wrong}={folder}"]) == 2
        assert f"--parent {wrong}" in capsys.readouterr().err
    given = ["--parent", f"a/one={folder}"]
    assert main([*command, *given]) == 0
    assert main([*command, *given, *given]) == 2
    assert "given twice" in capsys.readouterr().err


def test_more_than_is_allowed_is_not_written(models, tmp_path):
    tall = "slices: [" + "{sources: [{model: a/one, layer_range: [0, 2]}]}," * 1000 + "]"
    with pytest.raises(UsageError, match="max-bytes"):
        plan_verification(
            f"merge_method: passthrough\n{tall}", "c/child",
            VerifyOptions(models=models, max_bytes=100_000),
        )  # fmt: skip


def test_a_full_disk_is_told_before_anything_is_merged(models, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(stage.shutil, "disk_usage", lambda _: usage._replace(free=1))
    monkeypatch.setattr(stage, "require_mergekit", lambda: "0")
    with pytest.raises(HerdbookError, match="--scratch"):
        verify(LOCAL, "c/child", VerifyOptions(models=models))


def test_without_mergekit_the_extra_is_named(models, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(rebuilding.importlib.util, "find_spec", lambda _: None)
    (tmp_path / "r.yml").write_text(LOCAL)
    assert main(["verify", str(tmp_path / "r.yml"), "c/child", "--models", str(models)]) == 1
    assert "herdbook[merge]" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["none.yml", "c/d"], ["/", "c/d"]])
def test_a_recipe_that_is_not_there_is_one_sentence(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["verify", *command]) == 3
    assert capsys.readouterr().err.count("\n") == 1


def test_hostile_recipes_are_refused_by_the_command(tmp_path, capsys):
    (tmp_path / "r.yml").write_text("merge_method: !!python/object/apply:os.abort []")
    assert main(["verify", str(tmp_path / "r.yml"), "a/b"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    (tmp_path / "r.yml").write_bytes(b"\xff\xfe")
    assert main(["verify", str(tmp_path / "r.yml"), "a/b"]) == 2


def test_words_that_nobody_weighs_are_noted(models):
    text = (
        LOCAL.replace("linear", "dare_ties").replace("a/one", "a/one@main")
        + "base_model: a/one@main\n'\x41\\e[2J': 1\n"
    )
    notes = plan_verification(text, "c/child", VerifyOptions(models=models)).notes
    assert len(notes) == 3
    assert "--seed" in notes[2]
    assert all(note.isprintable() for note in notes)


def fake_mergekit(monkeypatch, made):
    def rebuild(config, parents, scratch, **_):
        assert scratch.is_dir()
        return write(scratch / "out", made)

    monkeypatch.setattr(stage, "rebuild", rebuild)
    monkeypatch.setattr(stage, "require_mergekit", lambda: "0")


def test_the_exit_code_says_whether_every_word_is_equal(models, tmp_path, capsys, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (tmp_path / "r.yml").write_text(LOCAL)
    command = ["verify", str(tmp_path / "r.yml"), "c/child", "--models", str(models)]
    command += ["--scratch", str(scratch)]
    fake_mergekit(monkeypatch, tensors(3))
    assert main(command) == 0
    assert "rebuilt: all 144 stored words of c/child are equal" in capsys.readouterr().out
    changed = tensors(3)
    changed[EMBED][0, 0] += 1
    fake_mergekit(monkeypatch, changed)
    assert main(command) == 9
    assert "not rebuilt: 143 of 144 words are equal (99.3055 %)" in capsys.readouterr().out
    assert main([*command, "--json"]) == 9
    told = json.loads(capsys.readouterr().out)
    assert told["share"] == 143 / 144
    assert [one["exact"] for one in told["tensors"]].count(False) == 1
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("method", RANDOM_METHODS)
def test_a_mismatch_of_a_random_method_without_a_seed_proves_nothing(models, monkeypatch, method):
    fake_mergekit(monkeypatch, tensors(4))
    options = VerifyOptions(models=models)
    text = LOCAL.replace("linear", method)
    assert verify(text, "c/child", options).verdict.endswith("no --seed was given")
    assert "proves" not in verify(text, "c/child", replace(options, seed=1)).verdict
    assert "proves" not in verify(LOCAL, "c/child", options).verdict
    fake_mergekit(monkeypatch, tensors(3))
    assert "proves" not in verify(text, "c/child", options).verdict


def test_arcee_fusion_counts_as_random():
    assert "arcee_fusion" in RANDOM_METHODS


# ---- the process, without mergekit -----------------------------------------------------------


def run_instead(monkeypatch, code):
    monkeypatch.setattr(rebuilding, "require_mergekit", lambda: "0")
    monkeypatch.setattr(rebuilding, "_WORKER", (sys.executable, "-c", code))


def rebuild_local(models, scratch, text=LOCAL):
    config = read_config(text)
    with ExitStack() as stack:
        parents = {
            name: stack.enter_context(ModelReader(locate_folder(models / name.name)))
            for name in config.named()
        }
        return rebuilding.rebuild(config, parents, scratch, seed=None, output_bytes=1)


@pytest.fixture
def scratch(tmp_path):
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def test_mergekit_gets_neither_names_nor_code_nor_tokens(models, scratch, monkeypatch):
    write(
        models / "a/one",
        tensors(1),
        {**CONFIG, "auto_map": {"A": "code.Evil"}, "attribute_map": {"a": "b"}},
    )
    (models / "a/one" / "code.py").write_text("raise SystemExit")
    (models / "a/one" / "tokenizer.json").write_text("{}")
    monkeypatch.setenv("HF_TOKEN", "secret")
    run_instead(
        monkeypatch,
        "import json, os, sys; job = json.loads(sys.stdin.readline())\n"
        "os.mkdir('out'); json.dump([job, dict(os.environ)], open('out/seen', 'w'))",
    )
    rebuild_local(models, scratch)
    job, environment = json.loads((scratch / "out/seen").read_text())
    assert [one["model"] for one in job["config"]["models"]] == ["parents/0", "parents/1"]
    assert "secret" not in environment.values()
    assert environment["HF_HUB_OFFLINE"] == "1"
    given = scratch / "parents" / "0"
    assert sorted(file.name for file in given.iterdir()) == [
        "config.json", "model.safetensors.index.json", "shard-00000.safetensors",
    ]  # fmt: skip
    assert json.loads((given / "config.json").read_text()) == CONFIG


def test_tokenizers_are_given_only_where_the_recipe_asks_for_one(models, scratch, monkeypatch):
    (models / "a/one" / "tokenizer.json").write_text("{}")
    (models / "a/one" / "tokenizer.model").write_bytes(b"x")
    run_instead(monkeypatch, "")
    rebuild_local(models, scratch, LOCAL + "tokenizer_source: union")
    given = {file.name: file for file in (scratch / "parents" / "0").iterdir()}
    assert given["tokenizer.json"].readlink() == models / "a/one" / "tokenizer.json"
    assert "tokenizer.model" not in given


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; sys.exit('first\\nValueError: last')", "recipe: ValueError: last"),
        ("import sys; sys.exit(3)", "exit code 3"),
        ("import os; os.kill(os.getpid(), 9)", "signal 9"),
    ],
)
def test_how_mergekit_failed_is_told_in_one_sentence(models, scratch, monkeypatch, code, words):
    run_instead(monkeypatch, code)
    with pytest.raises(HerdbookError, match=words):
        rebuild_local(models, scratch)


def test_mergekit_is_stopped_where_it_writes_more_than_was_announced(models, scratch, monkeypatch):
    monkeypatch.setattr(rebuilding, "_SLACK_BYTES", 10)
    run_instead(
        monkeypatch,
        "import os, sys; os.mkdir('out'); open('out/x', 'w').write('x' * 1000); sys.stdin.read()",
    )
    with pytest.raises(HerdbookError, match="stopped: it wrote"):
        rebuild_local(models, scratch)


def test_mergekit_is_stopped_after_its_deadline(models, scratch, monkeypatch):
    monkeypatch.setattr(rebuilding, "_DEADLINE_S", 0)
    monkeypatch.setattr(rebuilding, "_SLOWEST_BYTES_PER_S", 1e9)
    run_instead(monkeypatch, "import sys; sys.stdin.buffer.read()")
    with pytest.raises(HerdbookError, match="did not end within"):
        rebuild_local(models, scratch)


def test_the_deadline_and_the_memory_grow_with_the_weights(models, scratch, monkeypatch):
    watched = []
    watch = rebuilding._watch
    monkeypatch.setattr(
        rebuilding, "_watch", lambda *given: watched.append(given[-1]) or watch(*given)
    )
    run_instead(
        monkeypatch,
        "import os, sys; line = sys.stdin.readline(); os.mkdir('out'); "
        "open('out/job', 'w').write(line)",
    )
    rebuild_local(models, scratch)
    moved = 2 * 288 + 1
    assert watched == [3_600 + moved / 500_000]
    job = json.loads((scratch / "out/job").read_text())
    assert job["max_memory_bytes"] == (8 << 30) + 4 * moved
    assert job["scratch"] == str(scratch)


def worker(folder, scratch, **limits):
    job = {
        "config": {}, "seed": None, "shard_bytes": 1 << 20, "scratch": str(scratch),
        "max_file_bytes": 1 << 20, "max_memory_bytes": 8 << 30, **limits,
    }  # fmt: skip
    with subprocess.Popen(
        rebuilding._WORKER, cwd=folder, stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdin.write(json.dumps(job).encode() + b"\n")
        process.stdin.flush()  # and left open: at its end the worker would end at once
        try:
            return process.wait(120), process.stderr.read()
        finally:
            process.kill()


def test_a_worker_in_another_folder_refuses_and_deletes_nothing(tmp_path):
    home, told = tmp_path / "home", tmp_path / "herdbook-1"
    for folder in (home, told):
        folder.mkdir()
        (folder / "kept").write_text("x")
    for folder, scratch in ((home, told), (home, home), (told, home), (told, "."), (told, "")):
        code, told_us = worker(folder, scratch)
        assert code == 1
        assert b"not in a scratch folder" in told_us
        assert (folder / "kept").exists()
        assert (told / "kept").exists()


def test_a_worker_whose_parent_is_gone_deletes_the_folder_that_it_was_told(tmp_path, monkeypatch):
    told = tmp_path / "herdbook-1"
    told.mkdir()
    (told / "log").write_text("x")
    (tmp_path / "kept").write_text("x")
    ended = []
    ours = SimpleNamespace(read=lambda *_: b"", _exit=ended.append)
    monkeypatch.setattr(rebuild_worker, "os", ours)
    monkeypatch.setattr(rebuild_worker, "sys", SimpleNamespace(stdin=SimpleNamespace(fileno=int)))
    monkeypatch.chdir(tmp_path)
    rebuild_worker._end_with_parent(told)
    assert ended == [1]
    assert [file.name for file in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize("limit", ["max_file_bytes", "max_memory_bytes"])
def test_a_worker_that_cannot_be_limited_says_so_in_one_line(tmp_path, limit):
    (tmp_path / "herdbook-1").mkdir()
    code, told = worker(tmp_path / "herdbook-1", tmp_path / "herdbook-1", **{limit: "many"})
    assert code == 1
    assert told.strip().startswith(b"TypeError: ")
    assert b"Traceback" not in told


def test_what_mergekit_may_take_of_memory_is_bounded(tmp_path):
    code = """
import resource
from lineage.pipeline.rebuild_worker import _limit
_limit(resource.RLIMIT_DATA, 1 << 30)
assert resource.getrlimit(resource.RLIMIT_DATA) == (1 << 30, 1 << 30)
_limit(resource.RLIMIT_DATA, 2 << 30)
assert resource.getrlimit(resource.RLIMIT_DATA) == (1 << 30, 1 << 30)
try:
    bytearray(1 << 31)
except MemoryError:
    print("bounded")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"bounded\n"


def test_signals_that_python_did_not_set_are_left_at_their_default(monkeypatch):
    set_to = []
    monkeypatch.setattr(rebuilding.signal, "signal", lambda _, handler: set_to.append(handler))
    with rebuilding._signals_interrupt():
        set_to.clear()
    assert set_to == [signal.SIG_DFL] * 2


def test_a_download_with_another_content_than_stated_is_refused(models, tmp_path):
    located = locate_folder(models / "a/one")
    files = tuple(replace(file, sha256="0" * 64) for file in located.snapshot.files)
    lying = replace(located, snapshot=replace(located.snapshot, files=files))
    with ModelReader(lying) as reader, pytest.raises(HerdbookError, match="another content"):
        download_file(reader, "model.safetensors", tmp_path / "x", lambda n: None)


# ---- with mergekit ---------------------------------------------------------------------------


@pytest.fixture
def mergekit():
    pytest.importorskip("mergekit", reason="needs the extra 'merge'")


@pytest.mark.slow
def test_mergekit_rebuilds_a_model_of_the_hub_word_for_word(mergekit, pocket, tmp_path):
    with running_hub(pocket) as endpoint:
        options = VerifyOptions(endpoint, scratch=tmp_path)
        found = verify(RECIPE.replace("python", "python@main"), CHILD, options)
    assert found.match.is_exact
    assert found.match.n_words == 279_360
    assert [model.folder for model in found.plan.models] == [None] * 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_one_changed_weight_of_a_child_is_found(mergekit, pocket, tmp_path, capsys):
    shutil.copytree(pocket / CHILD, tmp_path / "child")
    file = tmp_path / "child" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    (tmp_path / "r.yml").write_text(RECIPE)
    child = str(tmp_path / "child")
    assert main(["verify", str(tmp_path / "r.yml"), child, "--models", str(pocket)]) == 9
    assert "279,359 of 279,360 words" in capsys.readouterr().out


@pytest.mark.slow
def test_what_mergekit_refuses_is_one_sentence(mergekit, pocket, tmp_path):
    options = VerifyOptions(models=pocket, scratch=tmp_path)
    with pytest.raises(HerdbookError, match=r"mergekit could not carry out the recipe: .*magic"):
        verify(RECIPE.replace("linear", "magic"), CHILD, options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_verification_leaves_nothing_behind(mergekit, pocket, tmp_path, number):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (tmp_path / "r.yml").write_text(RECIPE)
    command = [sys.executable, "-c", "import sys; from lineage.cli import main; sys.exit(main())"]
    command += ["verify", str(tmp_path / "r.yml"), CHILD]
    command += ["--models", str(pocket), "--scratch", str(scratch)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        logs = until(lambda: list(scratch.glob("*/log")))
        assert logs
        process.send_signal(number)
        assert process.wait(60) == (130 if number == signal.SIGTERM else -9)
        assert until(lambda: not list(scratch.iterdir()))
    finally:
        process.kill()
        process.communicate()


def test_a_worker_that_is_never_told_what_to_do_removes_its_folder(tmp_path):
    scratch = tmp_path / "herdbook-orphan"
    scratch.mkdir()
    (scratch / "log").touch()
    worker = [sys.executable, "-m", "lineage.pipeline.rebuild_worker"]
    done = subprocess.run(worker, cwd=scratch, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 1
    assert list(tmp_path.iterdir()) == []


def until(holds, seconds=60):
    """What `holds` says once it is true, or at last."""
    tick = threading.Event()
    for _ in range(20 * seconds):
        if found := holds():
            return found
        tick.wait(0.05)
    return holds()

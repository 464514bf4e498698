"""One model through every path to it, and every way in which reading it may fail."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from crawler.client import Hub
from crawler.errors import MalformedError
from crawler.hub_server import running_hub
from crawler.range_source import HubSource
from crawler.records import FileEntry, RepoRef, RepoSnapshot
from crawler.sources import CacheSource, FirstOf, FolderSource, MeteredSource, Tally
from lineage.cli import main
from lineage.errors import HomeError, UsageError
from lineage.infer.assemble import infer_lineage
from lineage.pipeline import batches
from lineage.pipeline.batches import Batch, ReaderSettings
from lineage.pipeline.crawl import crawl
from lineage.pipeline.executors import LocalExecutor
from lineage.pipeline.fingerprint import fingerprint, plan_fingerprint
from lineage.pipeline.infer import infer
from lineage.pipeline.reading import Reading, ReadingOptions, read_model
from lineage.pipeline.vocabularies import Vocabularies, vocabulary_file
from lineage.store.home import Home
from lineage.weights.fingerprint import Fingerprint
from lineage.weights.roles import TensorKey
from lineage.weights.sketch import sketch_fingerprints

NAME = "lanternworks/Wick-270k"


def snapshot_of(folder: Path, name: str = NAME, revision: str = "0" * 40) -> RepoSnapshot:
    files = [
        FileEntry(str(path.relative_to(folder)), path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    return RepoSnapshot(RepoRef(name, revision), datetime.now(UTC), files=tuple(files))


def read(
    source: MeteredSource, snapshot: RepoSnapshot, options: ReadingOptions | None = None
) -> Reading:
    async def reading() -> Reading:
        async with source:
            return await read_model(source, snapshot, options or ReadingOptions(), Vocabularies())

    return asyncio.run(reading())


def read_folder(folder: Path, options: ReadingOptions | None = None) -> Reading:
    return read(FolderSource(folder), snapshot_of(folder), options)


def exact_part(made: Fingerprint | None) -> dict:
    """What must be equal bit for bit, however the model was come by."""
    assert made is not None
    (sketch,) = sketch_fingerprints([made], device="cpu")
    words = {
        str(key): (s.dtype, s.shape, s.rows, s.words, dict(s.extras))
        for key, s in made.samples.items()
    }
    digests = {str(key): tensor.digest for key, tensor in sketch.tensors.items()}
    return {"words": words, "tokens": made.tokens, "digests": digests, "simhash": sketch.simhash,
            "norms": sketch.norm_digest, "shapes": sketch.shape_digest}  # fmt: skip


@pytest.fixture(scope="module")
def single(pocket) -> Path:
    return pocket / NAME


@pytest.fixture(scope="module")
def expected(single) -> dict:
    reading = read_folder(single)
    assert not reading.problems
    return exact_part(reading.fingerprint)


def without_weights(single: Path, folder: Path) -> Path:
    shutil.copytree(single, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    return folder


def sharded(single: Path, folder: Path) -> Path:
    """The same model in three shards, tensors dealt out in turn."""
    without_weights(single, folder)
    state = load_file(single / "model.safetensors")
    weight_map = {}
    for i in range(3):
        path = f"model-{i + 1:05d}-of-00003.safetensors"
        shard = {name: state[name] for name in sorted(state)[i::3]}
        save_file(shard, folder / path)
        weight_map |= dict.fromkeys(shard, path)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def as_torch(single: Path, folder: Path) -> Path:
    without_weights(single, folder)
    torch.save(load_file(single / "model.safetensors"), folder / "pytorch_model.bin")
    return folder


@pytest.mark.parametrize("rearrange", [sharded, as_torch])
def test_shards_and_archives_give_the_same_words_as_one_file(rearrange, single, expected, tmp_path):
    reading = read_folder(rearrange(single, tmp_path / "there"))
    assert [p for p in reading.problems if p.code != "tied"] == []
    assert exact_part(reading.fingerprint) == expected


def test_a_hub_and_the_cache_of_its_client_give_the_same_words_as_a_folder(
    pocket, single, expected, tmp_path
):
    revision = json.loads((pocket / "hub.json").read_text())["models"][NAME]["revision"]
    snapshot = snapshot_of(single, revision=revision)
    with running_hub(pocket) as endpoint:
        from_hub = read(HubSource(Hub(endpoint)), snapshot)
        cached = tmp_path / ("models--" + NAME.replace("/", "--")) / "snapshots" / revision
        shutil.copytree(single, cached)
        hub = HubSource(Hub(endpoint))
        from_cache = read(FirstOf(CacheSource(tmp_path), hub), snapshot)
    assert exact_part(from_hub.fingerprint) == expected
    assert exact_part(from_cache.fingerprint) == expected
    assert (hub.requests, from_cache.bytes_read > 0) == (0, True)


def test_a_smaller_stage_reads_a_part_of_the_same_rows(single):
    early = read_folder(single, ReadingOptions(stage=2))
    late = read_folder(single)
    assert early.fingerprint
    assert late.fingerprint
    assert early.bytes_read < late.bytes_read
    assert not early.problems, "what a stage does not read is no problem"
    for key, sample in early.fingerprint.samples.items():
        other = late.fingerprint.samples[key]
        at = [other.rows.index(row) for row in sample.rows]
        np.testing.assert_array_equal(sample.values, other.values[at])


def test_whole_weights_have_the_digests_of_every_word(single):
    reading = read_folder(single, ReadingOptions(stage=4))
    assert reading.fingerprint
    assert reading.sketch
    assert reading.fingerprint.stage == 4
    n_values = sum(tensor.n for tensor in reading.sketch.tensors.values())
    assert n_values == reading.fingerprint.n_parameters
    small = read_folder(single)
    assert reading.fingerprint.samples == small.fingerprint.samples
    norm = TensorKey("final_norm")
    (sampled,) = sketch_fingerprints([small.fingerprint], device="cpu")
    assert reading.sketch.tensors[norm].digest == sampled.tensors[norm].digest


def test_whole_weights_of_shards_have_the_digests_of_one_file(single, tmp_path):
    one = read_folder(single, ReadingOptions(stage=4)).sketch
    many = read_folder(sharded(single, tmp_path / "there"), ReadingOptions(stage=4)).sketch
    assert one
    assert many
    assert one.simhash == many.simhash
    assert {k: t.digest for k, t in one.tensors.items()} == {
        k: t.digest for k, t in many.tensors.items()
    }


# -- what may go wrong -------------------------------------------------------------------------


def test_a_shard_that_the_index_names_and_nobody_has_is_told(single, tmp_path):
    folder = sharded(single, tmp_path / "there")
    (folder / "model-00002-of-00003.safetensors").unlink()
    reading = read_folder(folder)
    assert "not_found" in {problem.code for problem in reading.problems}
    assert reading.fingerprint is not None
    assert len(reading.fingerprint.samples) < 57


def test_a_file_that_changes_between_two_ranges_makes_no_fingerprint(single, tmp_path):
    folder = shutil.copytree(single, tmp_path / "there")
    weights = folder / "model.safetensors"

    class Changing(FolderSource):
        async def read_for(
            self, tally: Tally, ref: RepoRef, path: str, spans: Sequence[tuple[int, int]]
        ) -> list[bytes]:
            found = await super().read_for(tally, ref, path, spans)
            if path == weights.name:
                data = bytearray(weights.read_bytes())
                data[-1] ^= 1
                weights.with_suffix(".new").write_bytes(data)
                weights.with_suffix(".new").replace(weights)
            return found

    reading = read(Changing(folder), snapshot_of(folder), ReadingOptions(budget_bytes=200_000))
    assert reading.fingerprint is None
    assert [problem.code for problem in reading.problems] == ["changed"]
    assert reading.bytes_read > 0, "what was paid for nothing is told, too"


def test_scales_that_are_no_numbers_cost_the_sample_not_the_model(pocket, tmp_path):
    folder = shutil.copytree(pocket / "kestrel-nlp/wick-cpp-int8", tmp_path / "there")
    state = load_file(folder / "model.safetensors")
    spoilt = "model.layers.0.mlp.up_proj.weight"
    state[f"{spoilt}_scale"][0] = float("nan")
    save_file(state, folder / "model.safetensors")
    reading = read_folder(folder)
    assert reading.fingerprint is not None
    assert TensorKey("up", 0) not in reading.fingerprint.samples
    assert TensorKey("up", 1) in reading.fingerprint.samples
    (problem,) = reading.problems
    assert spoilt in problem.reason


def test_a_budget_below_the_least_is_a_reason(single):
    reading = read_folder(single, ReadingOptions(budget_bytes=10))
    assert reading.fingerprint is None
    assert [problem.code for problem in reading.problems] == ["budget"]


def test_a_configuration_that_is_no_json_does_not_keep_weights_from_being_read(single, tmp_path):
    folder = shutil.copytree(single, tmp_path / "there")
    (folder / "config.json").write_text("[" * 1000)
    reading = read_folder(folder)
    assert reading.fingerprint is not None
    assert [problem.path for problem in reading.problems] == ["config.json"]


def test_words_that_are_no_numbers_stay_as_they_are(single, tmp_path):
    folder = shutil.copytree(single, tmp_path / "there")
    state = load_file(folder / "model.safetensors")
    state["model.norm.weight"][0] = float("inf")
    state["model.norm.weight"][1] = float("nan")
    save_file(state, folder / "model.safetensors")
    made = read_folder(folder).fingerprint
    sample = made.samples[TensorKey("final_norm")]
    assert sample.words == state["model.norm.weight"].view(torch.uint8).numpy().tobytes()
    (sketch,) = sketch_fingerprints([made], device="cpu")
    tensor = sketch.tensors[TensorKey("final_norm")]
    assert (tensor.n_nan, tensor.n_inf) == (1, 1)


def test_empty_and_scalar_tensors_are_passed_over_with_a_reason(single, tmp_path):
    folder = shutil.copytree(single, tmp_path / "there")
    state = load_file(folder / "model.safetensors")
    state["model.empty.weight"] = torch.zeros(0, 4)
    state["model.scalar.weight"] = torch.tensor(3.0)
    save_file(state, folder / "model.safetensors")
    reading = read_folder(folder)
    assert reading.fingerprint is not None
    assert "2 tensors" in reading.problems[0].reason


def test_a_disk_that_is_full_is_a_reason_for_every_model_and_ends_the_run(
    pocket, tmp_path, monkeypatch
):
    def full(where: str, models: Sequence[object]) -> None:
        raise HomeError("cannot write fingerprints: No space left on device")

    monkeypatch.setattr(batches, "write_part", full)
    home = Home(tmp_path / "home")
    shutil.copytree(pocket / NAME, tmp_path / "hub" / NAME)
    with running_hub(tmp_path / "hub") as endpoint:
        crawl(home, endpoint)
        with pytest.raises(HomeError, match="No space left"):
            fingerprint(home, endpoint)
        with duckdb.connect(str(home.database), read_only=True) as connection:
            rows = connection.execute("SELECT repo_id, digest, reason FROM fingerprint").fetchall()
            problems = connection.execute(
                "SELECT code FROM problem WHERE stage = 'fingerprint'"
            ).fetchall()
        assert rows == [(NAME, None, "cannot write fingerprints: No space left on device")]
        assert problems == [("not_stored",)]
        monkeypatch.undo()
        assert fingerprint(home, endpoint).n_read == 1


def test_a_model_that_breaks_the_reader_does_not_break_its_batch(single, tmp_path, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise MalformedError("nothing can be made of it")

    monkeypatch.setattr("lineage.pipeline.reading.lay_out", broken)
    reading = read_folder(single)
    assert reading.fingerprint is None
    assert [problem.reason for problem in reading.problems] == ["nothing can be made of it"]


def test_a_fault_of_ours_costs_the_model_that_shows_it(single, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise IndexError("list index out of range")

    monkeypatch.setattr("lineage.pipeline.reading.make_fingerprint", broken)
    reading = read_folder(single)
    assert reading.fingerprint is None
    (problem,) = reading.problems
    assert problem.code == "fault"
    assert "IndexError: list index out of range" in problem.reason
    assert reading.bytes_read > 0


def test_a_vocabulary_that_cannot_be_kept_is_used_all_the_same(single, tmp_path):
    (tmp_path / "file").touch()
    below_a_file = Vocabularies(tmp_path / "file" / "vocabularies")
    data = (single / "tokenizer.json").read_bytes()
    file = FileEntry("tokenizer.json", len(data), sha256="0" * 64)
    assert below_a_file.add(file, data) == Vocabularies().add(file, data)
    assert below_a_file.get(file) is not None


# -- vocabularies and plans --------------------------------------------------------------------


def test_a_vocabulary_is_read_once_for_all_models_that_share_it(single, tmp_path):
    files = [
        FileEntry(f.path, f.size_bytes, blob_id="b" * 40) if f.path == "tokenizer.json" else f
        for f in snapshot_of(single).files
    ]
    snapshot = RepoSnapshot(RepoRef(NAME, "0" * 40), datetime.now(UTC), files=tuple(files))

    def cost(vocabularies: Vocabularies) -> tuple[int, Fingerprint | None]:
        async def reading() -> Reading:
            async with FolderSource(single) as source:
                return await read_model(source, snapshot, ReadingOptions(), vocabularies)

        found = asyncio.run(reading())
        return found.bytes_read, found.fingerprint

    (first, made), (second, again) = cost(Vocabularies(tmp_path)), cost(Vocabularies(tmp_path))
    assert first - second == vocabulary_file(files).size_bytes
    assert made == again
    assert made.tokens
    for kept in tmp_path.glob("*.json"):
        kept.write_text("{")
    assert cost(Vocabularies(tmp_path))[0] == first, "a damaged note is learnt again"


def test_a_dry_run_says_what_would_be_read_and_reads_nothing(pocket, tmp_path):
    home = Home(tmp_path / "home")
    shutil.copytree(pocket / NAME, tmp_path / "hub" / NAME)
    with running_hub(tmp_path / "hub") as endpoint:
        crawl(home, endpoint)
        plan = plan_fingerprint(home, ReadingOptions())
        assert (plan.n_todo, plan.n_kept) == (1, 0)
        report = fingerprint(home, endpoint)
    assert report.bytes_read <= plan.at_most_bytes + 500_000
    assert plan_fingerprint(home, ReadingOptions()).n_todo == 0
    assert plan_fingerprint(home, ReadingOptions(stage=4)).n_todo == 1


def test_a_deeper_stage_reads_again_and_a_smaller_one_does_not(pocket, tmp_path):
    home = Home(tmp_path / "home")
    shutil.copytree(pocket / NAME, tmp_path / "hub" / NAME)
    with running_hub(tmp_path / "hub") as endpoint:
        crawl(home, endpoint)
        reads = [
            fingerprint(home, endpoint, ReadingOptions(stage=stage)).n_read
            for stage in (2, 3, 2, 4, 3)
        ]
    assert reads == [1, 1, 0, 1, 0]


def test_the_command_tells_what_it_would_read_and_what_it_read(pocket, tmp_path, capsys):
    home = tmp_path / "home"
    shutil.copytree(pocket / NAME, tmp_path / "hub" / NAME)
    with running_hub(tmp_path / "hub") as endpoint:
        crawl(Home(home), endpoint)
        command = ["fingerprint", "--home", str(home), "--endpoint", endpoint, "--json"]
        assert main([*command, "--dry-run"]) == 0
        planned = json.loads(capsys.readouterr().out)
        assert (planned["n_todo"], planned["stage"]) == (1, 3)
        parts = tmp_path / "elsewhere"
        assert main([*command, "--full", "--parts", str(parts)]) == 0
        assert json.loads(capsys.readouterr().out)["n_read"] == 1
    assert len(list(parts.rglob("*.models.parquet"))) == 1
    assert main(["infer", "--home", str(home), "--parts", str(parts)]) == 0


def test_options_of_a_cluster_without_a_cluster_are_refused(tmp_path, capsys):
    home = Home(tmp_path)
    home.open_working().close()
    assert main(["fingerprint", "--home", str(tmp_path), "--num-gpus", "1"]) == 2
    assert "--executor ray" in capsys.readouterr().err


def test_a_device_that_is_not_there_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    settings = ReaderSettings(None, ReadingOptions(device="cuda"), str(tmp_path))
    with pytest.raises(UsageError, match="--device"):
        list(LocalExecutor().map(settings, [Batch(())]))


def test_a_relative_place_of_parts_means_the_folder_of_the_driver(pocket, tmp_path, monkeypatch):
    shutil.copytree(pocket / NAME, tmp_path / "hub" / NAME)
    monkeypatch.chdir(tmp_path)
    seen = []

    class Elsewhere(LocalExecutor):
        def map(self, setup, tasks):
            seen.append(setup.parts)
            return super().map(setup, tasks)

    home = Home(tmp_path / "home")
    with running_hub(tmp_path / "hub") as endpoint:
        crawl(home, endpoint)
        fingerprint(home, endpoint, parts="store", executor=Elsewhere(), use_cache=False)
    assert seen == [str(tmp_path / "store")]
    assert list((tmp_path / "store").rglob("*.parquet"))
    assert infer(home, parts="store").n_models == 1


def test_a_batch_of_nothing_but_failures_is_entered(tmp_path):
    settings = ReaderSettings("http://127.0.0.1:9", ReadingOptions(), str(tmp_path), None, False)
    reader = settings()
    try:
        empty = RepoSnapshot(RepoRef("a/b", "0" * 40), datetime.now(UTC), files=())
        result = reader(Batch((empty,)))
    finally:
        reader.close()
    assert [row.digest for row in result.rows] == [None]
    assert result.rows[0].reason == "no weight files of a known format"


# -- what it is for ----------------------------------------------------------------------------


def test_stage_two_alone_joins_copies_casts_and_quantised_files_to_their_sources(pocket):
    """Every copy, cast and quantised model of the pocket Hub, among all relatives of the kind."""
    truth = json.loads((pocket / "truth.json").read_text())["models"]
    hub = json.loads((pocket / "hub.json").read_text())["models"]
    copies = {n for n, m in truth.items() if m["kind"] in ("quantized", "cast", "duplicate")}
    sources = {m["parents"][0]["id"] for n, m in truth.items() if n in copies}
    rivals = {n for n, m in truth.items() for p in m["parents"] if p["id"] in sources}
    models = []
    for name in sorted(copies | sources | rivals):
        folder = pocket / name
        made = read(
            FolderSource(folder), snapshot_of(folder, name), ReadingOptions(stage=2)
        ).fingerprint
        if made is not None and not all(".lora_" in key.role for key in made.samples):
            models.append(made)
    assert len(models) > len(copies) + len(sources)
    sketches = {m.repo_id: s for m, s in zip(models, sketch_fingerprints(models), strict=True)}
    dates = {name: datetime.fromisoformat(hub[name]["created_at"]) for name in truth}
    likes = {name: hub[name]["likes"] for name in truth}
    findings = {f.child: f for f in infer_lineage(models, dates, likes).findings}
    for name in copies:
        source = truth[name]["parents"][0]["id"]
        assert sketches[name].norm_digest == sketches[source].norm_digest
        assert [share.parent for share in findings[name].parents] == [source]

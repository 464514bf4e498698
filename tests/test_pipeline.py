"""The main job on the pocket Hub: over HTTP, with real weights, against known ancestry."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import numpy as np
import pytest
from safetensors.numpy import save_file

from crawler.hub_server import Faults, running_hub
from lineage.errors import HerdbookError, HomeError, NotFoundError
from lineage.infer.assemble import Inference
from lineage.infer.truth import read_truth
from lineage.model import Kind, PairVerdict
from lineage.pipeline.audit import audit
from lineage.pipeline.compare import compare
from lineage.pipeline.crawl import crawl
from lineage.pipeline.evaluate import evaluate
from lineage.pipeline.fingerprint import fingerprint
from lineage.pipeline.infer import infer
from lineage.pipeline.publish import publish
from lineage.pipeline.run import run
from lineage.store.home import Home
from lineage.views import Ruling

FAMILY = (
    "lanternworks/Wick-270k",
    "lanternworks/Wick-270k-Instruct",
    "osier-ml/Wick-270k-sharded",
    "gguf-pantry/Wick-270k-Instruct-GGUF",
    "brackenfold/fern-base",
)


def rows(home: Home, sql: str) -> list[tuple]:
    with duckdb.connect(str(home.database), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def small_hub(pocket: Path, folder: Path) -> Path:
    """A Hub of five repositories of the pocket Hub."""
    for name in FAMILY:
        shutil.copytree(pocket / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def blind(pocket, tmp_path_factory):
    """A run over the whole pocket Hub that saw no declared parent, and its evaluation."""
    home = Home(tmp_path_factory.mktemp("blind"))
    with running_hub(pocket) as endpoint:
        run(home, endpoint, ignore_claims=True)
    return home, evaluate(home, pocket / "truth.json")


@pytest.fixture(scope="module")
def declared(blind, pocket, tmp_path_factory):
    """The audit of the whole pocket Hub, by model, and the known ancestry."""
    source, _ = blind
    home = Home(tmp_path_factory.mktemp("declared") / "home")
    shutil.copytree(source.root, home.root, ignore=shutil.ignore_patterns("raw", "fingerprints"))
    infer(home)  # the findings stand; the publication may speak of claims again
    publish(home)
    truth = read_truth((pocket / "truth.json").read_text(encoding="utf-8"))
    return {one.model: one for one in audit(home).models}, truth


def test_no_two_independent_models_are_called_related(blind):
    _, evaluation = blind
    assert evaluation.ignored_claims
    assert evaluation.score.pairs.false_positives == 0
    assert evaluation.score.pairs.true_negatives > 700


def test_nearly_all_related_pairs_are_found(blind):
    _, evaluation = blind
    assert evaluation.score.pairs.recall.value >= 0.95


def test_direct_parents_are_precise_and_mostly_found(blind):
    _, evaluation = blind
    assert evaluation.score.direct_parents.precision.value >= 0.95
    assert evaluation.score.direct_parents.recall.value >= 0.80


def test_decided_directions_are_right(blind):
    _, evaluation = blind
    assert evaluation.score.direction.value >= 0.95


def test_linear_and_slerp_merges_are_unmixed(blind):
    _, evaluation = blind
    for method in ("linear", "slerp"):
        assert evaluation.score.merges[method].f1 >= 0.9
    assert evaluation.score.coefficient_error <= 0.01


def test_layer_maps_are_exact(blind):
    _, evaluation = blind
    assert evaluation.score.layer_maps.n >= 3
    assert evaluation.score.layer_maps.right == evaluation.score.layer_maps.n


def test_a_shared_initialisation_is_not_called_descent(blind):
    _, evaluation = blind
    assert evaluation.score.pairs.common_init.as_common_init == 1


def test_weights_are_read_by_range_within_the_budget_and_the_cost_is_recorded(blind):
    home, _ = blind
    costs = rows(home, "SELECT bytes_read, requests, weight_bytes FROM fingerprint")
    read = [cost for cost in costs if cost[2]]
    assert len(read) > 60
    for bytes_read, requests, weight_bytes in read:
        assert 0 < bytes_read <= min(weight_bytes, 8_200_000)
        assert requests > 0
    assert sum(cost[0] for cost in read) < 0.8 * sum(cost[2] for cost in read)


def test_gated_and_disabled_repositories_are_recorded_and_stop_nothing(blind):
    home, _ = blind
    codes = dict(rows(home, "SELECT code, count(*) FROM problem GROUP BY code"))
    assert codes["gated"] == 1
    assert codes["disabled"] == 1
    assert codes["malformed"] >= 1


def test_every_wrong_claim_of_the_pocket_hub_meets_an_objection_and_no_other_claim_does(declared):
    audits, truth = declared
    wrong = {
        (line.child, line.parent)
        for one in audits.values()
        for line in one.lines
        if line.declared and line.parent not in truth.ancestors(line.child)
    }
    refuted = {
        (line.child, line.parent): str(line.ruling)
        for one in audits.values()
        for line in one.lines
        if line.ruling in (Ruling.CONTRADICTED, Ruling.UNFAITHFUL_QUANTISATION)
    }
    assert set(refuted) == wrong
    assert refuted == {
        ("gguf-pantry/wick-python-Q8_0-GGUF", "j-okafor/wick-python"): "unfaithful_quantisation",
        ("j-okafor/kite-python", "cobaltkite/Kite-wide-docs"): "contradicted",
        ("ponder-studio/wickerweb", "brackenfold/fern-base"): "contradicted",
        ("quietriver/dipper-v1", "lanternworks/Wick-270k"): "contradicted",
    }


def test_the_audit_names_what_gives_the_codes_of_an_unfaithful_quantisation(declared):
    audits, _ = declared
    first, second = audits["gguf-pantry/wick-python-Q8_0-GGUF"].lines
    assert "quantising mira-holt/Wick-pydev to Q8_0 gives 100.00 %" in first.sentence
    assert (second.parent, second.ruling) == ("mira-holt/Wick-pydev", Ruling.UNDECLARED)


def test_missing_parents_and_mislabelled_copies_of_the_pocket_hub_are_true_and_all_there(declared):
    audits, truth = declared
    lines = [line for one in audits.values() for line in one.lines]
    missing = {(line.child, line.parent) for line in lines if line.ruling is Ruling.MISSING_PARENT}
    assert missing == {("mergesmith/Tallow-trio", "cobaltkite/wick-cpp")}
    assert all(parent in truth.models[child].parent_names for child, parent in missing)
    copies = {line.child for line in lines if line.ruling is Ruling.MISLABELLED_COPY}
    assert copies == {"osier-ml/Wick-270k-sharded"}
    assert all(truth.models[child].kind is Kind.DUPLICATE for child in copies)
    assert not [line for line in lines if line.ruling is Ruling.WRONG_RELATION]


def test_what_the_pocket_hub_does_not_let_anybody_check_is_unverifiable_with_its_reason(declared):
    audits, _ = declared
    reasons = {
        (line.child, str(line.reason))
        for one in audits.values()
        for line in one.lines
        if line.ruling is Ruling.UNVERIFIABLE
    }
    assert reasons == {
        ("brackenfold/Wick-continued-helper", "unread"),
        ("osier-ml/periwinkle-chat-unbound", "unread"),
        ("elinor-v/fern-docs-adapter", "adapter"),
    }


def test_a_second_run_does_only_what_is_missing_and_keeps_history(pocket, tmp_path):
    hub = small_hub(pocket, tmp_path / "hub")
    home = Home(tmp_path / "home")
    with running_hub(hub) as endpoint:
        run(home, endpoint)
        since = rows(home, "SELECT child, epoch_us(valid_from) FROM finding ORDER BY child")
        again = fingerprint(home, endpoint)
        assert (again.n_read, again.n_kept, again.bytes_read) == (0, 5, 0)
        assert crawl(home, endpoint).n_read == 0
        assert infer(home).n_changed == 0
        assert rows(home, "SELECT child, epoch_us(valid_from) FROM finding ORDER BY child") == since
        # A new child changes its own finding only.
        shutil.copytree(pocket / "mira-holt/Wick-pydev", hub / "mira-holt/Wick-pydev")
    with running_hub(hub) as endpoint:
        run(home, endpoint)
    changed = rows(home, "SELECT child FROM finding WHERE valid_to IS NOT NULL")
    assert "gguf-pantry/Wick-270k-Instruct-GGUF" not in {name for (name,) in changed}
    assert rows(home, "SELECT count(*) FROM finding WHERE child = 'mira-holt/Wick-pydev'") == [(1,)]


def lie_about_the_header(file: Path) -> None:
    file.write_bytes(struct.pack("<Q", 10 * 2**30) + b"{}" + bytes(100))


def lie_about_offsets(file: Path) -> None:
    data = file.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    header["model.norm.weight"]["data_offsets"] = [0, 10**12]
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5000])


@pytest.mark.parametrize("spoil", [lie_about_the_header, lie_about_offsets, truncate])
def test_a_spoilt_file_is_recorded_with_its_reason_and_the_run_goes_on(pocket, tmp_path, spoil):
    hub = small_hub(pocket, tmp_path / "hub")
    spoil(hub / "brackenfold/fern-base/model.safetensors")
    home = Home(tmp_path / "home")
    with running_hub(hub) as endpoint:
        run(home, endpoint)
    problems = rows(home, "SELECT repo_id, stage, code, reason FROM problem")
    assert ("brackenfold/fern-base", "fingerprint", "malformed") in {p[:3] for p in problems}
    assert all(p[3] for p in problems)
    assert rows(home, "SELECT count(*) FROM finding") == [(4,)]


def test_pickles_are_never_loaded_and_say_so(pocket, tmp_path):
    hub = small_hub(pocket, tmp_path / "hub")
    weights = hub / "brackenfold/fern-base/model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    home = Home(tmp_path / "home")
    with running_hub(hub) as endpoint:
        run(home, endpoint)
    (problem,) = rows(home, "SELECT code, reason FROM problem WHERE stage = 'fingerprint'")
    assert problem[0] == "pickle"
    assert "not read: pickle" in problem[1]


def test_a_server_that_ignores_ranges_is_refused_without_downloading(pocket, tmp_path):
    hub = small_hub(pocket, tmp_path / "hub")
    home = Home(tmp_path / "home")
    with running_hub(hub, faults=Faults(ignore_ranges=True)) as endpoint:
        crawl(home, endpoint)
        report = fingerprint(home, endpoint)
    assert (report.n_read, report.bytes_read) == (0, 0)
    codes = {code for (code,) in rows(home, "SELECT code FROM problem WHERE stage='fingerprint'")}
    assert codes == {"range_ignored"}
    # What failed is tried again, and the old reasons go.
    with running_hub(hub) as endpoint:
        assert fingerprint(home, endpoint).n_read == 5
    assert rows(home, "SELECT * FROM problem WHERE stage = 'fingerprint'") == []


def test_a_repository_that_vanishes_between_crawls_is_marked_and_kept(pocket, tmp_path):
    hub = small_hub(pocket, tmp_path / "hub")
    home = Home(tmp_path / "home")
    with running_hub(hub) as endpoint:
        run(home, endpoint)
    shutil.rmtree(hub / "brackenfold/fern-base")
    with running_hub(hub) as endpoint:
        assert crawl(home, endpoint).n_gone == 1
        run(home, endpoint)
    statuses = rows(
        home,
        "SELECT status FROM snapshot WHERE repo_id = 'brackenfold/fern-base' ORDER BY observed_at",
    )
    assert [status for (status,) in statuses] == ["ok", "gone"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killing_the_fingerprint_stage_loses_nothing_finished(pocket, tmp_path):
    home = Home(tmp_path / "home")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with running_hub(pocket) as endpoint:
        crawl(home, endpoint)
        command = [
            sys.executable,
            "-c",
            "import sys; from lineage.cli import main; sys.exit(main())",
            "fingerprint",
        ]
        process = subprocess.Popen(
            [*command, "--endpoint", endpoint, "--home", str(home.root)],
            env=environment,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while not list(home.fingerprints.glob("*/*.models.parquet")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        report = fingerprint(home, endpoint)
    assert report.n_kept >= 32  # a batch, entered or found again in its part
    assert report.n_failed == 0
    n_readable = rows(home, "SELECT count(DISTINCT repo_id) FROM fingerprint WHERE digest NOTNULL")
    assert n_readable == [(report.n_kept + report.n_read,)]


@pytest.mark.parametrize("ignore_claims", [False, True])
def test_of_many_models_declared_pairs_are_asked_and_stored_sketches_used(
    pocket, tmp_path, monkeypatch, ignore_claims
):
    home = Home(tmp_path / "home")
    with running_hub(small_hub(pocket, tmp_path / "hub")) as endpoint:
        crawl(home, endpoint)
        fingerprint(home, endpoint)
    given = {}

    def spy(fingerprints, *_, sketches, asked):
        given.update(names={one.repo_id for one in fingerprints}, sketches=sketches, asked=asked)
        return Inference((), ())

    monkeypatch.setattr("lineage.pipeline.infer.infer_lineage", spy)
    monkeypatch.setattr("lineage.pipeline.infer.ALL_PAIRS_UP_TO", len(FAMILY) - 1)
    infer(home, ignore_claims=ignore_claims)
    assert set(given["sketches"]) == given["names"] == set(FAMILY)
    declared = rows(home, "SELECT DISTINCT child, parent FROM claim ORDER BY ALL")
    assert given["asked"] == (() if ignore_claims else tuple(declared))
    assert declared
    monkeypatch.setattr("lineage.pipeline.infer.ALL_PAIRS_UP_TO", len(FAMILY))
    infer(home, ignore_claims=ignore_claims)
    if not ignore_claims:  # else nothing changed, and nothing is inferred again
        assert (given["sketches"], given["asked"]) == (None, ())


def test_infer_without_fingerprints_says_what_to_run(tmp_path):
    home = Home(tmp_path / "home")
    with pytest.raises(NotFoundError, match="herdbook crawl"):
        infer(home)
    home.open_working().close()
    with pytest.raises(NotFoundError, match="herdbook fingerprint"):
        infer(home)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_home_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "home").mkdir(mode=0o500)
    with pytest.raises(HomeError, match="--home"):
        Home(tmp_path / "home" / "x").prepare()


def test_a_home_below_a_file_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeError, match="--home"):
        Home(tmp_path / "file" / "home").prepare()


def test_compare_needs_no_database_and_reads_two_folders(pocket):
    found = compare(
        str(pocket / "lanternworks/Wick-270k"), str(pocket / "lanternworks/Wick-270k-Instruct")
    )
    assert found.pair.verdict is PairVerdict.RELATED
    assert found.finding is not None
    assert found.bytes_read <= found.weight_bytes
    assert any("related" in line for line in found.lines())
    json.dumps(found.to_dict(), default=str)


def test_compare_tells_strangers_and_quantisations(pocket):
    strangers = compare(
        str(pocket / "lanternworks/Wick-270k"), str(pocket / "brackenfold/fern-base")
    )
    assert strangers.pair.verdict is PairVerdict.UNRELATED
    assert strangers.finding is None
    quantised = compare(
        str(pocket / "gguf-pantry/Wick-270k-Instruct-GGUF"),
        str(pocket / "lanternworks/Wick-270k-Instruct"),
    )
    assert quantised.finding is not None
    assert (quantised.finding.kind, quantised.finding.grade) == ("quantized", "proved")


def test_compare_reads_what_lies_one_folder_below_and_onnx(pocket, tmp_path):
    source = pocket / FAMILY[0]
    diffusers = tmp_path / "a" / "pipeline"
    shutil.copytree(source, diffusers / "unet")
    found = compare(str(source), str(diffusers))
    assert found.pair.verdict is PairVerdict.RELATED
    graph = tmp_path / "b" / "graph"
    graph.mkdir(parents=True)
    (graph / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(HerdbookError, match=r"model\.onnx"):
        compare(str(source), str(graph))


def test_compare_reads_hub_ids_with_their_dates(pocket, tmp_path):
    hub = small_hub(pocket, tmp_path / "hub")
    shutil.copy(pocket / "hub.json", hub / "hub.json")
    with running_hub(hub) as endpoint:
        found = compare(FAMILY[0], FAMILY[1], endpoint=endpoint)
    assert found.finding is not None
    assert [share.parent for share in found.finding.parents] == [FAMILY[0]]


def test_compare_names_what_it_cannot_read(pocket, tmp_path):
    (tmp_path / "empty" / "model").mkdir(parents=True)
    with pytest.raises(HerdbookError, match="cannot be read"):
        compare(str(tmp_path / "empty/model"), str(pocket / FAMILY[0]))
    with pytest.raises(NotFoundError, match="neither a folder nor a model id"):
        compare("no such thing!", str(pocket / FAMILY[0]))


def test_a_tensor_of_nan_does_not_stop_the_family(pocket, tmp_path):
    hub = small_hub(pocket, tmp_path / "hub")
    target = hub / "brackenfold/fern-base/model.safetensors"
    tensors = in_float32(target)
    tensors["model.layers.0.mlp.up_proj.weight"][:] = np.nan
    save_file(tensors, target)
    home = Home(tmp_path / "home")
    with running_hub(hub) as endpoint:
        run(home, endpoint)
    assert rows(home, "SELECT count(*) FROM finding") == [(5,)]


def in_float32(path: Path) -> dict[str, np.ndarray]:
    """A checkpoint's tensors as float32: numpy has no bfloat16."""
    pytest.importorskip("torch")
    from safetensors.torch import load_file

    return {name: tensor.float().numpy() for name, tensor in load_file(str(path)).items()}

"""The fuzz engine finds what is planted, and a short run over every parser finds nothing."""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.children import _parse_page
from crawler.configs import load_json_object
from crawler.errors import MalformedError, TruncatedError
from crawler.evaluations import evaluations
from crawler.headers import parse_gguf_header, parse_safetensors
from crawler.listed import ParseFailure, parse_or_explain, parse_record, records_of
from crawler.records import is_repo_id
from crawler.references import _full_mention, mention_of, resolve_repo_id
from crawler.snapshot import _files
from fuzz import run as fuzz_run
from fuzz import seeds as fuzz_seeds
from fuzz.mutations import LARGE_EVERY, large_gguf
from fuzz.targets import TARGETS, BrokenPromiseError, Target, case

ROOT = Path(__file__).resolve().parent.parent
AT = datetime(2026, 1, 1, tzinfo=UTC)
MIB = 1 << 20


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as it is run every night."""
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz.run", *arguments],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": ""}, capture_output=True, text=True, check=False,
        timeout=300,
    )  # fmt: skip


def planted(check) -> Target:
    return Target("planted", check, "words", TARGETS["reference"].broken, lambda *_: b"", 1)


@pytest.fixture
def watchdog(monkeypatch):
    """The watchdog's signal in this process, with a short patience."""
    before = fuzz_run.signal.signal(fuzz_run.signal.SIGPROF, fuzz_run._on_hang)
    monkeypatch.setattr(fuzz_run, "HANG_CPU_S", 0.2)
    yield
    fuzz_run.signal.signal(fuzz_run.signal.SIGPROF, before)


def found(check, data: bytes = b"x", *, measure: bool = False):
    return fuzz_run.examine(planted(check), data, measure=measure)[2]


# ---- the engine ------------------------------------------------------------------------


@pytest.mark.usefixtures("watchdog")
def test_the_engine_reports_a_crash_with_its_place():
    def crash(data: bytes) -> None:
        raise KeyError(data)

    finding = found(crash)
    assert finding.what == "crash"
    assert "KeyError" in finding.signature
    assert "raise KeyError(data)" in finding.detail


@pytest.mark.usefixtures("watchdog")
def test_the_engine_ends_and_reports_a_hang_that_catches_every_exception():
    def hang(_: bytes) -> None:
        while True:
            try:
                sum(range(1_000))
            except Exception:
                continue

    assert found(hang).what == "hang"


@pytest.mark.usefixtures("watchdog")
def test_the_engine_reports_a_case_that_is_slow_twice(monkeypatch):
    monkeypatch.setattr(fuzz_run, "MAX_CPU_S", 0.02)
    runs = []

    def slow(data: bytes) -> None:
        runs.append(data)
        start = fuzz_run.time.process_time()
        while fuzz_run.time.process_time() < start + 0.05:
            pass

    assert found(slow).what == "slow"
    assert len(runs) == 2

    def slow_once(data: bytes) -> None:
        if len(runs) < 3:
            slow(data)

    assert found(slow_once) is None


@pytest.mark.usefixtures("watchdog")
def test_the_engine_reports_an_allocation_over_the_bound(monkeypatch):
    monkeypatch.setattr(fuzz_run, "MAX_ALLOCATED_BYTES", MIB)
    assert found(lambda _: bytearray(2 * MIB) and None, measure=True).what == "allocation"
    assert found(lambda _: bytearray(MIB // 2) and None, measure=True) is None

    def refused(_: bytes) -> None:
        raise MemoryError

    assert found(refused).what == "allocation"


def test_a_run_saves_what_it_finds_and_counts_it_once_in_words(tmp_path, monkeypatch):
    def even(data: bytes) -> None:
        if len(data) % 2:
            raise BrokenPromiseError(f"{len(data)} bytes are odd")

    monkeypatch.setitem(TARGETS, "planted", planted(even))
    said: list[str] = []
    tallies, _ = fuzz_run.run(
        200, seed=1, names=["planted"], jobs=2, real=False, save=tmp_path, say=said.append
    )
    assert tallies["planted"].cases == 200
    assert list(tallies["planted"].found) == ["BrokenPromiseError N bytes are odd"]
    (saved,) = tmp_path.iterdir()
    assert len(saved.read_bytes()) % 2 == 1
    assert said[0].startswith("FOUND crash in planted")
    assert f"--target planted --replay {saved}" in said[1]


def test_the_kernel_refuses_a_worker_that_asks_for_too_much(tmp_path, monkeypatch):
    def greedy(_: bytes) -> None:
        bytearray(3 << 30)

    monkeypatch.setattr(fuzz_run, "seeds", lambda *_, **__: ())  # no warming up before the limit
    monkeypatch.setitem(TARGETS, "planted", planted(greedy))
    tallies, _ = fuzz_run.run(
        1, seed=1, names=["planted"], real=False, save=tmp_path, say=lambda _: None
    )
    assert len(tallies["planted"].found) == 1
    assert [path.name.split("-")[1] for path in tmp_path.iterdir()] == ["allocation"]


def test_a_worker_that_dies_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(TARGETS, "planted", planted(lambda _: os._exit(7)))
    monkeypatch.setattr(fuzz_run, "seeds", lambda *_, **__: ())  # nor here
    said: list[str] = []
    tallies, _ = fuzz_run.run(
        1, seed=1, names=["planted"], real=False, save=tmp_path, say=said.append
    )
    assert "status 7" in said[0]
    assert tallies["planted"].found


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_one_seed_gives_the_same_cases_and_another_others(target):
    first = [case(target, 5, index, real=False) for index in range(40)]
    assert first == [case(target, 5, index, real=False) for index in range(40)]
    assert first[7:9] == [case(target, 5, index, real=False) for index in (7, 8)]
    assert first != [case(target, 6, index, real=False) for index in range(40)]
    assert len(set(first)) > 20


def test_every_case_is_run_by_exactly_one_worker():
    shares = fuzz_run.plan(1_000, list(TARGETS.values()))
    assert {target.name for target, _ in shares} == set(TARGETS)
    assert 1_000 <= sum(n for _, n in shares) < 1_000 + len(TARGETS)


def test_the_command_runs_in_a_process_of_its_own_and_replays(tmp_path):
    done = fuzz("--cases", "1500", "--seed", "4", "--jobs", "2", "--own-seeds")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FOUND" not in done.stdout
    saved = tmp_path / "case.bin"
    saved.write_bytes(b"---\nbase_model: a/b\n---\n")
    replayed = fuzz("--target", "card", "--replay", str(saved))
    assert replayed.returncode == 0
    assert replayed.stdout.startswith("24 bytes, ")


# ---- a short run -----------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_no_parser_breaks_its_promises_over_cases_of_any_seed(target):
    real = fuzz_seeds.DATA.is_dir()
    for index in range(300):
        target.check(case(target, 11, index, real=real))


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_no_parser_breaks_its_promises_over_a_case_of_megabytes(target):
    target.check(case(target, 11, LARGE_EVERY - 1, real=False))


@pytest.mark.parametrize(
    ("opening", "unit"),
    [
        ("---\na: &a [x]\nb:\n", "- *a\n"),
        ("---\nbase_model:\n", "- a/b\n"),
        ("", "fine-tuned from [x](https://hf.co/a/b-1) "),
        ("", "<!-- "),
        ("```yaml\nmodels:\n", "- model: a/b\n"),
    ],
)
def test_a_card_of_50_megabytes_is_bounded(opening, unit):
    TARGETS["card"].check((opening + unit * (50 * MIB // len(unit))).encode())


# ---- what was found --------------------------------------------------------------------


def nested(depth: int) -> object:
    value: object = "x"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("extra", [b"[" * 400 + b"]" * 400, b"9" * 30 + b', "y": NaN'])
def test_a_record_that_cannot_be_written_again_is_a_failure_like_any_other(extra):
    body = b'[{"id": "not an id", "x": ' + extra + b'}, {"id": "a/b"}]'
    failed, parsed = (parse_or_explain(record, AT) for record in records_of(body))
    assert isinstance(failed, ParseFailure)
    assert failed.raw is not None
    assert failed.raw.startswith('{"id":')
    assert parsed.repo_id == "a/b"


def test_a_record_too_deep_to_be_written_keeps_its_reason():
    failed = parse_or_explain({"id": "no id", "x": nested(5_000)}, AT)
    assert isinstance(failed, ParseFailure)
    assert failed.raw is None
    assert "not a repository id" in failed.reason


@pytest.mark.parametrize("tag", ["a\x00b", "\x1b[31m", "a\ud800", "\u202eb", "base_model:a/\x00b"])
def test_tags_and_gating_keep_no_control_character_and_no_half_surrogate(tag):
    listed = parse_record({"id": "a/b", "tags": ["en", tag, "mit"], "gated": tag}, AT)
    assert listed.tags[0] == "en"
    assert listed.tags[2] == "mit"
    assert "\ufffd" in listed.tags[1]
    for word in (*listed.tags, listed.gated, *(claim.text for claim in listed.claims)):
        assert word.isprintable()
        word.encode()
    assert parse_record({"id": "a/b", "tags": ["日本語"]}, AT).tags == ("日本語",)


def test_a_page_of_more_records_than_the_hub_sends_is_asked_for_again():
    assert len(records_of(b"[" + b"{}," * 9_999 + b"{}]")) == 10_000
    with pytest.raises(TruncatedError, match="10001 records"):
        records_of(b"[" + b"{}," * 10_000 + b"{}]")


def test_pages_and_json_of_too_many_values_are_refused_before_they_are_read():
    many = "[" + "[]," * 1_000_000 + "[]]"
    with pytest.raises(MalformedError, match="1000000 values"):
        load_json_object(many, "config.json")
    with pytest.raises(MalformedError, match="too many values"):
        _parse_page(many.encode(), "a/b")
    with pytest.raises(TruncatedError, match="too many values"):
        records_of(many.encode() + b"NaN")
    with pytest.raises(MalformedError, match="500000 values"):
        parse_safetensors(struct.pack("<Q", len(many)) + many.encode(), "x", 1 << 40)
    assert load_json_object('{"a": [' + "1," * 900_000 + "1]}", "config.json")["a"][-1] == 1


def safetensors(header: object) -> bytes:
    data = json.dumps(header).encode()
    return struct.pack("<Q", len(data)) + data


@pytest.mark.parametrize("where", ["name", "key", "value"])
def test_half_a_surrogate_in_a_safetensors_header_is_malformed(where):
    half, whole = "\ud800", "🦙"
    for text in (half, whole):
        name, key, value = (text if where == what else "x" for what in ("name", "key", "value"))
        entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
        data = safetensors({"__metadata__": {key: value}, name + "w": entry})
        if text == half:
            with pytest.raises(MalformedError, match="surrogates"):
                parse_safetensors(data, "x", len(data) + 4)
        else:
            assert parse_safetensors(data, "x", len(data) + 4).metadata == {key: value}


def test_messages_about_tensors_cut_their_names():
    name = "w" * 50_000
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}
    for value in (entry, 7, {}, {**entry, "shape": [1], "data_offsets": [0, 1 << 50]}):
        with pytest.raises(MalformedError) as raised:
            parse_safetensors(safetensors({name: value}), "x", 1_000_000)
        assert len(str(raised.value)) < 400


@pytest.mark.parametrize("what", range(5))
def test_gguf_heads_with_more_than_any_model_has_are_refused_at_once(what, monkeypatch):
    rng = random.Random(1)
    monkeypatch.setattr(rng, "randrange", lambda _: what)
    data = large_gguf(rng, (b"",), 40 * MIB)
    reasons = {0: "tensor count", 2: "arrays of", 4: "nested arrays of"}
    if what in reasons:
        with pytest.raises(MalformedError, match=reasons[what]):
            parse_gguf_header(data, "x.gguf", len(data))
    else:
        assert parse_gguf_header(data, "x.gguf", len(data)).tensors == ()


def test_long_words_are_not_remembered():
    _full_mention.cache_clear()
    assert mention_of("a/" + "b" * 100_000, "me/mine").repo_id is None
    assert _full_mention.cache_info().currsize == 0
    assert mention_of("a/b", "me/mine").repo_id == "a/b"
    assert _full_mention.cache_info().currsize == 1


@pytest.mark.parametrize(
    "path", ["../x.gguf", "a/../../x.gguf", "/x.gguf", "a//x", "./x", "", "a\nb",
             "\ud800", "x" * 1_025]
)  # fmt: skip
def test_paths_of_files_that_lead_elsewhere_are_left_out(path):
    siblings = [{"rfilename": path, "size": 1}, {"rfilename": "a.b/..c/x..gguf", "size": 1}]
    assert [file.path for file in _files({"siblings": siblings})] == ["a.b/..c/x..gguf"]


def test_a_model_index_that_says_one_thing_a_million_times_is_read_to_its_bound():
    metric = {"type": "acc", "value": 1}
    many = [{"dataset": {"name": "x"}, "metrics": [metric] * 10_000 + [{**metric, "type": "f1"}]}]
    results = evaluations({"model-index": [{"results": many}]})
    assert [result.name for result in results] == ["acc/x"]


# ---- ids -------------------------------------------------------------------------------

PIECES = st.sampled_from(
    ["a", "b-7B", "/", "\\", "..", ".", "--", "\n", "\x00", "\ud800", " ", "%2e%2e", "'", ";",
     "@main", "https://huggingface.co/", "models--", "a" * 96, "x" * 10_000, "\u202e", "#", "?",
     "é"]
)  # fmt: skip


@given(st.one_of(st.lists(PIECES, max_size=8).map("".join), st.text(max_size=40)))
def test_whatever_is_taken_for_an_id_is_safe_in_a_path_an_address_and_a_statement(text):
    for repo_id in (text if is_repo_id(text) else None, resolve_repo_id(text)):
        if repo_id is not None:
            assert repo_id.isascii()
            assert repo_id.isprintable()
            assert len(repo_id) <= 193
            assert not set(repo_id) & set("\\'\";%?#@: ")
            assert ".." not in repo_id
            assert repo_id.count("/") <= 1
            assert not repo_id.startswith(("/", ".", "-"))

"""The fingerprint store: parts, their location, their ledger, and what faults leave of them."""

from __future__ import annotations

import errno
import json
import pickle
import resource
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import example, given
from hypothesis import strategies as st
from pyarrow import fs

from lineage.errors import HomeError, SchemaError, UsageError
from lineage.store.byte_planes import interleave, planes_of, split
from lineage.store.fingerprint_ledger import (
    LedgerRow,
    done,
    fingerprint_rows,
    record_fingerprint,
    record_fingerprints,
)
from lineage.store.fingerprint_parts import (
    MODELS,
    WORDS,
    PartReader,
    read_fingerprints,
    read_sketches,
    write_part,
)
from lineage.store.home import Home
from lineage.store.part_location import PartLocation, as_location
from lineage.store.part_queries import connect_parts
from lineage.store.part_recovery import adopt_parts, recover_parts, sweep_parts
from lineage.store.stored_model import (
    Provenance,
    StoredModel,
    content_digest,
    rows_of_runs,
    runs_of_rows,
)
from lineage.weights.fingerprint import Fingerprint, Sample
from lineage.weights.roles import TensorKey

SCHEME = "probe-2"
COMMIT = "0" * 40
NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
MADE = Provenance(
    NOW, "0.9", "https://hub", 4_000_000, 31, 14_000_000_000, 291, 2, 2.5, 6_000_000,
    ("7 matrices were not read",), "cuda:0", 12,
)  # fmt: skip


def sample(name="w", dtype="BF16", rows=(0, 1, 2, 7), n_columns=16, seed=0, **more):
    width = {"BF16": 2, "F32": 4}.get(dtype, 1)
    words = np.random.default_rng(seed).bytes(len(rows) * n_columns * width)
    return Sample(name, dtype, (100, n_columns), rows, words, **more)


def model(repo_id="a/b", *, stage=3, seed=0, n_columns=16, sketch=None, **more):
    samples = {
        TensorKey(role, layer): sample(
            f"m.{layer}.{role}", seed=[seed, layer, len(role)], n_columns=n_columns
        )
        for role in ("q", "up")
        for layer in range(2)
    }
    fields = {"revision": COMMIT, "scheme": SCHEME, "format": "safetensors", "samples": samples}
    return StoredModel(Fingerprint(repo_id, **fields | {"stage": stage} | more), sketch, MADE)


def stored_and_loaded(folder, *models):
    part = write_part(folder, models)
    return list(read_fingerprints(folder, part.rows))


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


@pytest.fixture
def book(home):
    connection = home.open_working()
    yield connection
    connection.close()


# -- word for word ------------------------------------------------------------------------------

texts = st.text(max_size=12)
names = st.one_of(texts, st.sampled_from(["", "\0", "a'b\"c", "../../etc", "𝔘", "x" * 3000, "%s"]))
dtypes = st.sampled_from(
    ["BF16", "F32", "F64", "F8_E4M3", "I8", "Q8_0", "Q4_K", "BOOL", "GPTQ:bits=4,group=128", "?"]
)
samples_of = st.builds(
    Sample,
    names,
    dtypes,
    st.lists(st.integers(0, 2**62), max_size=4).map(tuple),
    st.lists(st.integers(0, 400), max_size=30).map(tuple),
    st.binary(max_size=300) | st.integers(0, 50).map(lambda n: b"\xff\xff\xff\x7f" * 17 * n),
    st.booleans(),
    st.dictionaries(names, st.binary(max_size=40), max_size=3),
    st.floats(allow_nan=False),
)
keys = st.builds(TensorKey, names, st.integers(-1, 200), st.integers(-1, 200))
fingerprints = st.builds(
    Fingerprint,
    names,
    texts,
    st.just(SCHEME),
    texts,
    st.dictionaries(keys, samples_of, max_size=6),
    st.lists(texts, max_size=3).map(tuple),
    st.integers(0, 2**62),
    st.none() | texts,
    st.dictionaries(texts, texts, max_size=3),
    st.integers(2, 4),
    st.dictionaries(st.integers(0, 2**40), texts, max_size=3),
)


@given(
    made=st.lists(fingerprints, min_size=1, max_size=3, unique_by=lambda f: (f.repo_id, f.revision))
)
def test_whatever_can_be_stored_comes_back_word_for_word(tmp_path_factory, made):
    folder = tmp_path_factory.mktemp("parts")
    found = stored_and_loaded(folder, *(StoredModel(one, None, MADE) for one in made))
    assert found == sorted(made, key=lambda one: (one.repo_id, one.revision))


@given(fingerprints, fingerprints)
def test_equal_digests_mean_equal_fingerprints(a, b):
    assert (content_digest(a) == content_digest(b)) == (a == b)
    assert content_digest(a) == content_digest(replace(a, samples=dict(a.samples)))


def test_every_field_of_a_fingerprint_is_part_of_its_digest():
    made = model(tokens={4: "the"}, metadata={"k": "v"}).fingerprint
    (key, first), *_ = made.samples.items()
    others = {
        "repo_id": "a/c", "revision": "1" * 40, "scheme": "probe-3", "format": "gguf",
        "file_digests": ("d",), "n_parameters": 1, "architecture": "x", "metadata": {},
        "stage": 2, "tokens": {4: "The"}, "samples": {},
    }  # fmt: skip
    parts = {
        "name": "v", "dtype": "F16", "shape": (100, 17), "rows": (0, 1, 2, 8),
        "words": first.words[:-1] + b"?", "transposed": True, "extras": {"s": b""}, "shift": 1.0,
    }  # fmt: skip
    changed = [replace(made, **{name: value}) for name, value in others.items()]
    changed += [
        replace(made, samples={**made.samples, key: replace(first, **{name: value})})
        for name, value in parts.items()
    ]
    assert set(others) == {f for f in made.__dataclass_fields__}
    assert set(parts) == {f for f in first.__dataclass_fields__}
    assert len({content_digest(one) for one in [made, *changed]}) == 1 + len(changed)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"words": b"ab"}, {"words": b"c"}),
        ({"words": b"a"}, {"words": b"bc"}),
        ({"words": b"", "extras": {"s": b"ab"}}, {"words": b"c"}),
        ({"words": b"", "extras": {"s": b"a", "t": b"b"}}, {"words": b"c"}),
        ({"words": b"", "extras": {"s": b"", "t": b"ab"}}, {"words": b"c"}),
    ],
)
def test_where_bytes_belong_is_part_of_the_digest(first, second):
    def digest(*fields):
        samples = {TensorKey(f"{i}"): replace(sample(), **f) for i, f in enumerate(fields)}
        return content_digest(model(samples=samples).fingerprint)

    assert digest(first, second) != digest({"words": b"abc"}, {"words": b""})
    assert digest(first, second) != digest(
        {"words": b"", "extras": {"s": b"ab", "t": b""}}, {"words": b"c"}
    )


@given(st.lists(st.integers(0, 60)))
@example([1, 0])  # the last row is the one before the first
def test_runs_of_rows_are_undone(rows):
    runs = runs_of_rows(rows)
    assert rows_of_runs(runs) == tuple(rows)
    assert len(runs) == (1 + sum(b != a + 1 for a, b in pairwise(rows)) if rows else 0)


@given(dtypes, st.binary(max_size=300))
def test_planes_hold_the_bytes_of_each_place_and_are_undone(dtype, words):
    planes = planes_of(dtype, len(words))
    assert split(words, planes) == b"".join(words[place::planes] for place in range(planes))
    assert interleave(split(words, planes), planes) == words


def test_words_that_do_not_fill_their_planes_are_refused():
    with pytest.raises(ValueError, match="planes"):
        interleave(b"abc", 2)
    with pytest.raises(ValueError, match="planes"):
        interleave(b"abc", 0)


def test_a_model_of_several_row_groups_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr("lineage.store.part_columns._GROUP_BYTES", 200)
    models = [model("a/a"), model("a/b", samples={}), model("a/c", seed=3)]
    part = write_part(tmp_path, models)
    found = list(read_fingerprints(tmp_path, part.rows))
    assert found == [one.fingerprint for one in models]
    words = pq.ParquetFile(tmp_path / SCHEME / (part.name + WORDS))
    assert words.metadata.num_row_groups == 4
    assert [row.bytes_stored > 0 for row in part.rows] == [True, False, True]


def test_fingerprints_come_in_the_ledgers_order_from_any_number_of_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("lineage.store.fingerprint_parts._OPEN_PARTS", 2)
    parts = [write_part(tmp_path, [model(f"{x}/{i}", seed=i) for x in "ab"]) for i in range(4)]
    rows = sorted((row for part in parts for row in part.rows), key=lambda row: row.repo_id)
    unread = replace(rows[0], digest=None, part=None)
    found = [made.repo_id for made in read_fingerprints(tmp_path, [unread, *rows])]
    assert found == [row.repo_id for row in rows]


# -- sketches -----------------------------------------------------------------------------------


def sketched(seed=0):
    from lineage.weights.sketch import ModelSketch, TensorSketch

    rng = np.random.default_rng(seed)

    def numbers(n):
        return rng.standard_normal(n).astype(np.float32)

    def one(n_singular):
        return TensorSketch(
            rng.bytes(16), 64, 1, 2, 3, 0.1, float("nan"), -0.5, float("inf"), 3.25,
            numbers(4), numbers(n_singular), numbers(32),
        )  # fmt: skip

    tensors = {TensorKey("q", 0): one(16), TensorKey("never sampled", 3, 1): one(0)}
    digests = {TensorKey("attn_norm", 0): rng.bytes(16)}
    return ModelSketch(rng.bytes(128), numbers(512), rng.bytes(16), rng.bytes(16), tensors, digests)


def assert_same_sketch(found, made):
    assert (found.simhash, found.norm_digest, found.shape_digest, found.norm_digests) == (
        made.simhash, made.norm_digest, made.shape_digest, made.norm_digests,
    )  # fmt: skip
    assert found.projection.dtype == np.float32
    np.testing.assert_array_equal(found.projection, made.projection)
    assert found.tensors.keys() == made.tensors.keys()
    for key, expected in made.tensors.items():
        for field in expected.__dataclass_fields__:
            stored, original = getattr(found.tensors[key], field), getattr(expected, field)
            np.testing.assert_array_equal(stored, original, err_msg=field, strict=True)


def test_sketches_come_back_number_for_number(tmp_path):
    made = sketched()
    part = write_part(tmp_path, [model("a/b", sketch=made), model("a/c")])
    found, none = read_sketches(tmp_path, part.rows)
    assert_same_sketch(found, made)
    assert none is None
    assert len(next(read_fingerprints(tmp_path, part.rows)).samples) == 4


def test_another_sketch_is_another_part_and_the_same_one_is_not(tmp_path):
    made, key = sketched(), TensorKey("q", 0)
    tensor = made.tensors[key]
    others = [
        replace(tensor, digest=bytes(16)), replace(tensor, mean=0.2), replace(tensor, std=1.0),
        replace(tensor, projection=-tensor.projection),
    ]  # fmt: skip
    sketches = [made, sketched(), sketched(1), replace(made, simhash=bytes(128))]
    sketches += [replace(made, tensors={**made.tensors, key: other}) for other in others]
    sketches += [replace(made, tensors={TensorKey("k", 0): tensor})]
    names = {write_part(tmp_path, [model(sketch=sketch)]).name for sketch in sketches}
    assert len(names) == len(sketches) - 1


# -- the ledger's lines -------------------------------------------------------------------------


def test_a_part_tells_the_lines_of_its_models(tmp_path):
    part = write_part(tmp_path, [model("b/b", stage=2), model("a/a")])
    first, second = part.rows
    assert (first.repo_id, second.repo_id, second.stage) == ("a/a", "b/b", 2)
    assert first == LedgerRow(
        "a/a", COMMIT, SCHEME, content_digest(model("a/a").fingerprint), "safetensors", 4_000_000,
        31, 14_000_000_000, 291, 2.5, NOW, 3, part.name, first.bytes_stored, None,
        ("7 matrices were not read",), 6_000_000, 2, "cuda:0",
    )  # fmt: skip
    files = [tmp_path / SCHEME / (part.name + ending) for ending in (MODELS, WORDS)]
    assert part.n_bytes == sum(file.stat().st_size for file in files)
    assert 0 < sum(row.bytes_stored for row in part.rows) < files[1].stat().st_size


def test_lines_come_back_from_the_ledger_and_twice_is_once(book, tmp_path):
    part = write_part(tmp_path, [model("a/a"), model("a/b", stage=2)])
    for _ in range(2):
        record_fingerprints(book, part.rows)
    assert fingerprint_rows(book, SCHEME) == fingerprint_rows(book) == part.rows
    assert fingerprint_rows(book, "other") == ()
    assert done(book, SCHEME, 2) == {("a/a", COMMIT), ("a/b", COMMIT)}
    assert done(book, SCHEME, 3) == {("a/a", COMMIT)}
    assert done(book, "other", 2) == frozenset()


def line(**fields):
    failed = LedgerRow("a/a", COMMIT, SCHEME, None, None, 5, 1, 9, 0, 0.1, NOW, reason="no weights")
    return replace(failed, **fields)


def test_a_line_of_less_does_not_replace_one_of_more(book):
    shallow = line(digest="s", part="p", stage=2, reason=None)
    deep = replace(shallow, digest="d", stage=3)
    again = replace(deep, digest="e")
    for row, kept in [
        (line(), line()), (line(reason="r"), line(reason="r")), (shallow, shallow),
        (line(), shallow), (deep, deep), (shallow, deep), (line(stage=4), deep), (again, again),
    ]:  # fmt: skip
        record_fingerprint(book, row)
        assert fingerprint_rows(book) == (kept,)


def test_of_several_lines_of_one_model_in_a_batch_the_best_counts(book):
    deep = line(digest="d", part="p", stage=3, reason=None)
    record_fingerprints(book, [line(), deep, replace(deep, digest="s", stage=2), line(stage=4)])
    assert fingerprint_rows(book) == (deep,)
    record_fingerprints(book, [])


def test_a_batch_is_entered_whole_or_not_at_all(book):
    with pytest.raises(duckdb.Error):
        record_fingerprints(book, [line(), line(repo_id="b/b", bytes_read=None)])
    assert fingerprint_rows(book) == ()
    record_fingerprints(book, [line()])
    assert len(fingerprint_rows(book)) == 1


def test_a_reason_that_quotes_what_is_no_text_does_not_cost_the_batch_its_lines(book):
    record_fingerprints(
        book, [line(reason="bad \ud800", given_up=("\udfff",)), line(repo_id="b/b")]
    )
    first, _ = fingerprint_rows(book)
    assert (first.reason, first.given_up) == ("bad \\ud800", ("\\udfff",))


OLD = """CREATE TABLE fingerprint (repo_id VARCHAR NOT NULL, revision VARCHAR NOT NULL,
 scheme VARCHAR NOT NULL, digest VARCHAR, format VARCHAR, bytes_read BIGINT NOT NULL,
 requests INTEGER NOT NULL, weight_bytes BIGINT NOT NULL, n_tensors INTEGER NOT NULL,
 seconds DOUBLE NOT NULL, made_at TIMESTAMPTZ NOT NULL, PRIMARY KEY (repo_id, revision, scheme))"""


def test_a_database_of_schema_version_2_migrates_and_says_what_it_forgets(home, caplog):
    home.open_working().close()
    assert not caplog.messages
    with duckdb.connect(str(home.database)) as old:
        old.execute("DROP TABLE fingerprint")
        old.execute(OLD)
        old.execute("DELETE FROM migration WHERE name > '0001-z'")
        old.execute(
            "INSERT INTO fingerprint VALUES ('a/b', 'c', 'rows-1', 'd', NULL, 1, 1, 1, 1, 1, now())"
        )
        old.execute("INSERT INTO alias VALUES ('old/id', 'new/id', now())")
    with home.open_working() as connection:
        assert fingerprint_rows(connection) == ()
        assert connection.execute("SELECT count(*) FROM alias").fetchall() == [(1,)]
        record_fingerprint(connection, line())
    assert "herdbook fingerprint" in caplog.messages[0]
    assert "1 fingerprints" in caplog.messages[0]
    caplog.clear()
    with home.open_working() as connection:
        assert fingerprint_rows(connection) == (line(),)
    assert not caplog.messages


# -- the same batch again -----------------------------------------------------------------------


def test_the_same_batch_again_is_the_same_part_whenever_and_in_whatever_order(tmp_path):
    batch = [model("a/a"), model("a/b", seed=1)]
    later = [replace(one, provenance=replace(MADE, made_at=datetime.now(UTC))) for one in batch]
    assert write_part(tmp_path, batch).name == write_part(tmp_path, later[::-1]).name
    assert len(list((tmp_path / SCHEME).iterdir())) == 2
    assert write_part(tmp_path, batch[:1]).name != write_part(tmp_path, batch).name


def test_a_batch_of_two_schemes_or_of_one_model_twice_is_refused(tmp_path):
    with pytest.raises(UsageError, match="one scheme"):
        write_part(tmp_path, [model(), model("a/c", scheme="probe-3")])
    with pytest.raises(UsageError, match="once"):
        write_part(tmp_path, [model(), model(seed=1)])
    assert not list(tmp_path.iterdir())


def test_a_batch_of_nothing_is_no_part(tmp_path):
    part = write_part(tmp_path, [])
    assert (part.name, part.n_models, part.n_bytes) == (None, 0, 0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("scheme", ["../up", "", "a/b", "A b", ".hidden", "x" * 65])
def test_a_scheme_that_is_no_plain_name_is_refused(tmp_path, scheme):
    with pytest.raises(UsageError, match="scheme"):
        write_part(tmp_path, [model(scheme=scheme)])


# -- hostile models -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hostile",
    [
        {"repo_id": "a/\ud800"},
        {"metadata": {"\udfff": "x"}},
        {"n_parameters": 2**70},
        {"samples": {TensorKey("q"): sample("\ud800")}},
        {"samples": {TensorKey("\ud800"): sample()}},
        {"samples": {TensorKey("q"): sample(extras={"\ud800": b"x"})}},
        {"samples": {TensorKey("q"): replace(sample(), rows=(2**70,))}},
        {"samples": {TensorKey("q"): replace(sample(), shape=(2**70,))}},
        {"samples": {TensorKey("q", 2**40): sample()}},
    ],
    ids=lambda hostile: str(hostile).encode("ascii", "backslashreplace").decode()[:40],
)
def test_a_model_that_cannot_be_stored_is_refused_with_a_reason_and_the_others_are_not(
    tmp_path, hostile
):
    part = write_part(tmp_path, [model("a/a"), model(**hostile), model("z/z")])
    assert [row.repo_id for row in part.rows] == ["a/a", "z/z"]
    ((_, revision, reason),) = part.refused
    assert revision == COMMIT
    assert reason
    assert len(list(read_fingerprints(tmp_path, part.rows))) == 2
    assert write_part(tmp_path, [model(**hostile)]).name is None


def test_a_sample_too_large_for_a_page_is_refused_with_a_reason(tmp_path, monkeypatch):
    monkeypatch.setattr("lineage.store.part_columns._MAX_WORDS_BYTES", 100)
    ((_, _, reason),) = write_part(tmp_path, [model()]).refused
    assert "128 bytes" in reason


# -- faults while writing -----------------------------------------------------------------------


class FillingDisk(MemoryFileSystem):
    """A file system in memory with room for so many bytes."""

    protocol = "filling"
    cachable = False

    def __init__(self, room, error=errno.ENOSPC):
        super().__init__()
        self.store, self.pseudo_dirs = {}, [""]
        self.room, self.error = room, error

    def _open(self, path, mode="rb", **more):
        file = super()._open(path, mode, **more)
        if "r" not in mode:
            original = file.write

            def write(data):
                n = memoryview(data).nbytes
                if n > self.room:
                    raise OSError(self.error, "No space left on device")
                self.room -= n
                return original(data)

            file.write = write
        return file


def on_filling_disk(room, *, renames):
    disk = FillingDisk(room)
    return disk, PartLocation(fs.PyFileSystem(fs.FSSpecHandler(disk)), "/parts", renames, "disk")


@pytest.mark.parametrize("renames", [True, False], ids=["renamed", "sent"])
def test_a_full_disk_is_a_clear_error_and_leaves_nothing_that_counts(renames, book):
    disk, location = on_filling_disk(1 << 30, renames=renames)
    before = write_part(location, [model("a/before")])
    record_fingerprints(book, before.rows)
    batch = [model("a/b", n_columns=400), model("a/c", seed=1, n_columns=400)]
    whole = write_part(location, batch)
    sweep_parts(book, location, SCHEME)
    for room in [*range(0, whole.n_bytes, 1500), whole.n_bytes - 1]:
        disk.room = room
        with pytest.raises(HomeError, match=r"No space left.*herdbook fingerprint"):
            write_part(location, batch)
        disk.room = 1 << 30
        assert whole.name + MODELS not in location.names(SCHEME)
        assert not any(name.endswith(".partial") for name in location.names(SCHEME))
        assert adopt_parts(book, location, SCHEME) == (0, {})
        assert len(list(read_fingerprints(location, fingerprint_rows(book)))) == 1
    record_fingerprints(book, write_part(location, batch).rows)
    assert len(list(read_fingerprints(location, fingerprint_rows(book)))) == 3


def test_bytes_that_a_store_loses_without_a_word_are_noticed():
    disk, location = on_filling_disk(1 << 30, renames=False)
    disk._info = disk.info
    disk.info = lambda path, **more: disk._info(path, **more) | {"size": 7}
    with pytest.raises(HomeError, match="7 of"):
        write_part(location, [model()])


def test_a_local_quota_is_a_clear_error_and_leaves_nothing(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with pytest.raises(HomeError, match=r"File too large.*again"):
            write_part(tmp_path, [model(n_columns=4000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((tmp_path / SCHEME).iterdir())


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "parts").write_text("a file")
    with pytest.raises(HomeError, match="cannot write fingerprints"):
        write_part(tmp_path / "parts", [model()])


KILLED = """
import os, pickle, sys
from lineage.store import fingerprint_parts, part_location
flush, calls = part_location._flush, []
def killed(path):
    calls.append(path)
    if len(calls) == int(sys.argv[2]):
        os._exit(9)
    flush(path)
part_location._flush = killed
fingerprint_parts.write_part(sys.argv[1], pickle.load(sys.stdin.buffer))
"""


@pytest.mark.parametrize(
    ("moment", "n_adopted", "n_left"), [(1, 0, 1), (2, 0, 1), (3, 0, 2), (4, 2, 0), (5, 2, 0)]
)
def test_a_kill_at_any_moment_loses_no_whole_part_and_keeps_no_half(
    home, book, moment, n_adopted, n_left
):
    batch = [model("a/a"), model("a/b", seed=1)]
    command = [sys.executable, "-c", KILLED, str(home.fingerprints), str(moment)]
    ended = subprocess.run(command, check=False, input=pickle.dumps(batch)).returncode
    assert ended == (9 if moment < 5 else 0)
    found = recover_parts(book, home.fingerprints, SCHEME)
    assert (found.n_adopted, found.n_removed) == (n_adopted, n_left)
    assert len(done(book, SCHEME, 3)) == n_adopted
    assert len(list(read_fingerprints(home.fingerprints, fingerprint_rows(book)))) == n_adopted
    record_fingerprints(book, write_part(home.fingerprints, batch).rows)
    assert len(list((home.fingerprints / SCHEME).iterdir())) == 2
    assert len(list(read_fingerprints(home.fingerprints, fingerprint_rows(book)))) == 2


# -- recovery -----------------------------------------------------------------------------------


def test_an_adopted_line_is_the_line_that_was_never_entered(home, book):
    part = write_part(home.fingerprints, [model("a/a", sketch=sketched()), model("a/b", stage=2)])
    assert recover_parts(book, home.fingerprints, SCHEME).n_adopted == 2
    assert fingerprint_rows(book) == part.rows
    assert recover_parts(book, home.fingerprints, SCHEME).n_adopted == 0


def test_orphans_are_adopted_only_where_they_are_deeper(home, book):
    entered = write_part(home.fingerprints, [model("a/a"), model("a/b", stage=2)])
    record_fingerprints(book, entered.rows)
    again = [model("a/a", seed=5), model("a/b", stage=3), model("a/c")]
    orphan = write_part(home.fingerprints, again)
    assert recover_parts(book, home.fingerprints, SCHEME).n_adopted == 2
    parts = {row.repo_id: row.part for row in fingerprint_rows(book)}
    assert parts == {"a/a": entered.name, "a/b": orphan.name, "a/c": orphan.name}


def test_orphans_that_gain_nothing_and_leftovers_are_swept_and_strangers_are_not(home, book):
    record_fingerprints(book, write_part(home.fingerprints, [model("a/a")]).rows)
    folder = home.fingerprints / SCHEME
    kept = set(folder.iterdir())
    write_part(home.fingerprints, [model("a/a", seed=5)])
    (folder / ".part-x.words.parquet.abc.partial").write_bytes(b"x")
    strangers = {folder / "notes.txt", folder / "part-1.words.parquet"}
    for stranger in strangers:
        stranger.write_text("mine")
    found = recover_parts(book, home.fingerprints, SCHEME)
    assert (found.n_adopted, found.n_removed) == (0, 3)
    assert set(folder.iterdir()) == kept | strangers


def test_a_damaged_orphan_is_told_and_removed(home, book):
    part = write_part(home.fingerprints, [model("a/a")])
    words = home.fingerprints / SCHEME / (part.name + WORDS)
    words.write_bytes(words.read_bytes()[:-50])
    found = recover_parts(book, home.fingerprints, SCHEME)
    assert (found.n_adopted, found.n_removed, len(found.damaged)) == (0, 2, 1)


def test_a_damaged_orphan_in_an_object_store_is_kept_for_another_try(book):
    disk, location = on_filling_disk(1 << 30, renames=False)
    part = write_part(location, [model("a/a")])
    path = location.path(SCHEME, part.name + WORDS)
    whole = disk.cat_file(path)
    disk.pipe_file(path, whole[:-50])
    found = recover_parts(book, location, SCHEME)
    assert (found.n_adopted, found.n_removed, len(found.damaged)) == (0, 0, 1)
    disk.pipe_file(path, whole)
    assert recover_parts(book, location, SCHEME).n_adopted == 1


@pytest.mark.parametrize("ending", [MODELS, WORDS])
def test_models_whose_part_is_gone_are_read_again(home, book, ending):
    gone = write_part(home.fingerprints, [model("a/a"), model("a/b")])
    there = write_part(home.fingerprints, [model("a/c")])
    record_fingerprints(book, gone.rows + there.rows)
    (home.fingerprints / SCHEME / (gone.name + ending)).unlink()
    found = recover_parts(book, home.fingerprints, SCHEME)
    assert (found.n_forgotten, found.n_removed) == (2, 1)
    assert done(book, SCHEME, 2) == {("a/c", COMMIT)}
    assert "missing" in fingerprint_rows(book)[0].reason
    record_fingerprints(book, write_part(home.fingerprints, [model("a/a"), model("a/b")]).rows)
    assert len(list(read_fingerprints(home.fingerprints, fingerprint_rows(book)))) == 3


# -- damaged, foreign and future parts ----------------------------------------------------------


@pytest.mark.parametrize("ending", [MODELS, WORDS])
def test_a_truncated_part_says_what_to_do(tmp_path, ending):
    part = write_part(tmp_path, [model()])
    file = tmp_path / SCHEME / (part.name + ending)
    whole = file.read_bytes()
    for length in [0, 3, 8, *range(100, len(whole), 700), len(whole) - 1]:
        file.write_bytes(whole[:length])
        with pytest.raises(SchemaError, match="herdbook fingerprint"):
            list(read_fingerprints(tmp_path, part.rows))


@pytest.mark.parametrize("ending", [MODELS, WORDS])
def test_a_changed_byte_never_gives_a_wrong_fingerprint(tmp_path, ending):
    made = model(n_columns=40)
    part = write_part(tmp_path, [made])
    file = tmp_path / SCHEME / (part.name + ending)
    whole = file.read_bytes()
    n_refused = 0
    for place in range(4, len(whole), max(1, len(whole) // 250)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            assert list(read_fingerprints(tmp_path, part.rows)) == [made.fingerprint]
        except SchemaError:
            n_refused += 1
    assert n_refused > 20


def test_a_missing_part_says_what_to_do(tmp_path):
    part = write_part(tmp_path, [model()])
    for file in (tmp_path / SCHEME).iterdir():
        file.unlink()
    with pytest.raises(SchemaError, match="missing; run `herdbook fingerprint` again"):
        list(read_fingerprints(tmp_path, part.rows))


def test_a_foreign_file_a_future_one_and_one_of_another_scheme_are_refused(tmp_path):
    part = write_part(tmp_path, [model()])
    file = tmp_path / SCHEME / (part.name + MODELS)
    table = pq.read_table(file)

    def refused(table, told, match):
        meta = {b"herdbook.part": json.dumps(told).encode()} if told is not None else None
        pq.write_table(table.replace_schema_metadata(meta), file)
        with pytest.raises(SchemaError, match=match):
            list(read_fingerprints(tmp_path, part.rows))

    right = {"format": 1, "scheme": SCHEME}
    refused(table, None, "not written by herdbook")
    refused(table, ["format"], "not written by herdbook")
    refused(table, {"format": 2, "scheme": SCHEME}, "upgrade")
    refused(table, {"format": 1, "scheme": "probe-9"}, "scheme 'probe-9'")
    refused(table.drop_columns(["stage"]), right, "other columns")
    refused(table.slice(0, 0), right, "does not hold a/b")
    for name, value in [("first_group", 7), ("n_groups", 0), ("file_digests", None)]:
        column = pa.array([value], table.schema.field(name).type)
        refused(table.set_column(table.schema.get_field_index(name), name, column), right, "delete")


def test_a_part_that_holds_something_else_than_the_ledger_says_is_refused(tmp_path):
    part, other = (write_part(tmp_path, [model(seed=seed)]) for seed in (0, 1))
    wrong = replace(part.rows[0], part=other.name)
    with pytest.raises(SchemaError, match="another fingerprint"):
        list(read_fingerprints(tmp_path, [wrong]))
    with pytest.raises(SchemaError, match="does not hold x/y"):
        list(read_fingerprints(tmp_path, [replace(wrong, repo_id="x/y")]))
    with pytest.raises(SchemaError, match="no name of a part"):
        list(read_fingerprints(tmp_path, [replace(wrong, part="../../etc/passwd")]))


def test_words_of_another_model_are_refused(tmp_path):
    part = write_part(tmp_path, [model("a/a"), model("a/b")])
    file = tmp_path / SCHEME / (part.name + MODELS)
    table = pq.read_table(file)
    swapped = pa.array([1, 0], pa.int32())
    index = table.schema.get_field_index("first_group")
    meta = {b"herdbook.part": json.dumps({"format": 1, "scheme": SCHEME}).encode()}
    changed = table.set_column(index, "first_group", swapped).replace_schema_metadata(meta)
    pq.write_table(changed, file)
    with pytest.raises(SchemaError, match="another model's"):
        list(read_fingerprints(tmp_path, part.rows))


# -- reading little -----------------------------------------------------------------------------


class Counting(MemoryFileSystem):
    """A file system in memory that counts what is read."""

    protocol = "counting"
    cachable = False

    def __init__(self):
        super().__init__()
        self.store, self.pseudo_dirs, self.n_read = {}, [""], 0

    def _open(self, path, mode="rb", **more):
        file = super()._open(path, mode, **more)
        if "r" in mode and not hasattr(file, "is_counted"):  # the same object at every opening
            file.is_counted = True
            original = file.read

            def read(size=-1):
                data = original(size)
                self.n_read += len(data)
                return data

            file.read = read
        return file


def test_loading_one_model_reads_little_of_its_part_and_a_sketch_none_of_the_words():
    disk = Counting()
    location = PartLocation(fs.PyFileSystem(fs.FSSpecHandler(disk)), "/parts", True, "memory")
    models = [model(f"a/{i:03}", seed=i, n_columns=16_000) for i in range(24)]
    part = write_part(location, models)
    disk.n_read = 0
    list(read_fingerprints(location, part.rows))
    n_whole, disk.n_read = disk.n_read, 0
    list(read_fingerprints(location, part.rows[20:21]))
    n_one, disk.n_read = disk.n_read, 0
    list(read_sketches(location, part.rows[20:21]))
    words = 4 * 4 * 16_000 * 2
    assert n_whole > 24 * words
    assert words < n_one < n_whole / 12
    assert disk.n_read < n_one - words


# -- locations ----------------------------------------------------------------------------------


def locations(tmp_path):
    local = fs.LocalFileSystem()
    return [
        tmp_path / "plain",
        f"file://{tmp_path}/address",
        PartLocation(fs.SubTreeFileSystem(str(tmp_path), local), "below", False, "below"),
        PartLocation(fs._MockFileSystem(), "mock", False, "mock"),
        on_filling_disk(1 << 30, renames=False)[1],
    ]


@pytest.mark.parametrize("number", range(5), ids=["path", "file", "subtree", "mock", "memory"])
def test_every_location_stores_recovers_and_answers_alike(tmp_path, book, number):
    location = as_location(locations(tmp_path)[number])
    models = [model("a/a", sketch=sketched()), model("a/b", seed=1)]
    write_part(location, models)
    assert recover_parts(book, location, SCHEME).n_adopted == 2
    rows = fingerprint_rows(book)
    assert list(read_fingerprints(location, rows)) == [one.fingerprint for one in models]
    assert connect_parts(book, location, SCHEME) == 1
    assert book.execute("SELECT repo_id FROM fingerprint_model ORDER BY 1").fetchall() == [
        ("a/a",), ("a/b",),
    ]  # fmt: skip
    write_part(location, [model("a/a", seed=9)])
    assert recover_parts(book, location, SCHEME).n_removed == 2
    assert len(location.names(SCHEME)) == 2


def test_an_address_shows_no_password_and_an_unknown_one_is_refused():
    with pytest.raises(UsageError, match="nowhere://bucket/x") as caught:
        as_location("nowhere://key:secret@bucket/x?token=hidden")
    assert "secret" not in str(caught.value)
    assert "hidden" not in str(caught.value)


# -- SQL ----------------------------------------------------------------------------------------


def test_views_show_what_the_ledger_names_and_no_copy(home, book):
    first = write_part(home.fingerprints, [model("a/a", stage=2), model("a/'b;--", seed=1)])
    record_fingerprints(book, first.rows)
    second = write_part(home.fingerprints, [model("a/a", stage=3, sketch=sketched())])
    record_fingerprints(book, second.rows)
    write_part(home.fingerprints, [model("a/never entered")])
    assert connect_parts(book, home.fingerprints, SCHEME) == 2
    found = book.execute("SELECT repo_id, stage FROM fingerprint_model ORDER BY 1").fetchall()
    assert found == [("a/'b;--", 2 + 1), ("a/a", 3)]
    counts = book.execute(
        "SELECT repo_id, count(*), count(words) FROM fingerprint_tensor GROUP BY 1 ORDER BY 1"
    ).fetchall()
    assert counts == [("a/'b;--", 4, 4), ("a/a", 5, 4)]
    ((words, planes),) = book.execute(
        "SELECT words, planes FROM fingerprint_tensor WHERE repo_id = 'a/a' AND role = 'up'"
        " AND layer = 1"
    ).fetchall()
    assert interleave(words, planes) == model().fingerprint.samples[TensorKey("up", 1)].words
    ((joined,),) = book.execute(
        "SELECT count(*) FROM fingerprint_model, unnest(norm_digests) AS u(d)"
    ).fetchall()
    assert joined == 1


def test_views_of_an_empty_ledger_are_empty(book, home):
    assert connect_parts(book, home.fingerprints, SCHEME) == 0
    assert book.execute("SELECT count(*) FROM fingerprint_model").fetchall() == [(0,)]
    assert book.execute("SELECT count(*) FROM fingerprint_tensor").fetchall() == [(0,)]


def test_views_work_read_only_in_a_folder_that_looks_like_a_pattern(tmp_path):
    home = Home(tmp_path / "it's [a] *")
    with home.open_working() as connection:
        record_fingerprints(connection, write_part(home.fingerprints, [model()]).rows)
    with duckdb.connect(str(home.database), read_only=True) as connection:
        connect_parts(connection, home.fingerprints, SCHEME)
        assert connection.execute("SELECT count(*) FROM fingerprint_tensor").fetchall() == [(4,)]


def test_views_of_missing_parts_are_refused(home, book):
    part = write_part(home.fingerprints, [model()])
    record_fingerprints(book, part.rows)
    (home.fingerprints / SCHEME / (part.name + WORDS)).unlink()
    with pytest.raises(SchemaError, match="1 of 1 parts"):
        connect_parts(book, home.fingerprints, SCHEME)
    book.execute("UPDATE fingerprint SET part = '../x'")
    with pytest.raises(SchemaError, match="parts"):
        connect_parts(book, home.fingerprints, SCHEME)


def test_a_reader_closes_what_it_opened_when_half_a_part_is_missing(tmp_path):
    part = write_part(tmp_path, [model()])
    (tmp_path / SCHEME / (part.name + WORDS)).unlink()
    with pytest.raises(SchemaError, match="missing"):
        PartReader(as_location(tmp_path), SCHEME, part.name)

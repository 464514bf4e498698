"""What one worker does with batches: how they are cut, and what is read ahead."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.hub_server import running_hub
from crawler.records import FileEntry, RepoRef, RepoSnapshot
from lineage.errors import HomeError
from lineage.pipeline import batches as module
from lineage.pipeline.batches import Batch, ReaderSettings, batches_of
from lineage.pipeline.executors import Done, LocalExecutor
from lineage.pipeline.reading import ReadingOptions, read_model

NAMES = ("lanternworks/Wick-270k", "osier-ml/Wick-270k-sharded", "brackenfold/fern-base")


def snapshot(name: str, files: tuple[FileEntry, ...] = ()) -> RepoSnapshot:
    return RepoSnapshot(RepoRef(name, "0" * 40), datetime.now(UTC), files=files)


@given(
    st.lists(st.integers(0, 100), max_size=40), st.integers(1, 8), st.integers(1, 200)
)  # fmt: skip
def test_batches_hold_all_models_in_order_and_no_more_than_they_may(sizes, max_models, max_bytes):
    models = [snapshot(f"a/m{i}") for i in range(len(sizes))]
    made = list(batches_of(models, sizes, max_models, max_bytes))
    assert [s for batch in made for s in batch.snapshots] == models
    size_of = dict(zip([s.ref for s in models], sizes, strict=True))
    totals = [[size_of[s.ref] for s in batch.snapshots] for batch in made]
    assert all(1 <= len(total) <= max_models for total in totals)
    assert all(sum(total) <= max_bytes or len(total) == 1 for total in totals)
    for total, following in itertools.pairwise(totals):
        assert len(total) == max_models or sum(total) + following[0] > max_bytes


@pytest.fixture
def served(pocket, tmp_path):
    """A Hub of three models, how to read it, and a batch of each."""
    known = json.loads((pocket / "hub.json").read_text())["models"]
    with running_hub(pocket) as endpoint:
        parts = str(tmp_path / "parts")
        settings = ReaderSettings(endpoint, ReadingOptions(device="cpu"), parts, use_cache=False)
        batches = []
        for name in NAMES:
            files = sorted((pocket / name).iterdir())
            entries = tuple(FileEntry(path.name, path.stat().st_size) for path in files)
            ref = RepoRef(name, known[name]["revision"])
            batches.append(Batch((RepoSnapshot(ref, datetime.now(UTC), files=entries),)))
        yield settings, batches


def digests(results) -> list[str | None]:
    return [row.digest for result in results for row in result.rows]


def test_batches_that_were_expected_give_what_batches_give_that_were_not(served):
    settings, batches = served
    reader = settings()
    plain = digests(map(reader, batches))
    reader.close()
    assert all(plain)
    assert len(set(plain)) >= 2
    outcomes = list(LocalExecutor().map(settings, batches))
    assert all(isinstance(outcome, Done) for outcome in outcomes)
    assert digests(outcome.result for outcome in outcomes) == plain


def test_the_next_batch_is_read_while_one_is_stored(served, monkeypatch):
    settings, batches = served
    begun: dict[str, threading.Event] = {name: threading.Event() for name in NAMES}
    seen = []

    async def noted(source, snapshot, options, vocabularies):
        begun[snapshot.ref.repo_id].set()
        return await read_model(source, snapshot, options, vocabularies)

    def stored(where, models):
        number = len(seen)
        seen.append(number + 1 == len(NAMES) or begun[NAMES[number + 1]].wait(20))
        return write_part(where, models)

    write_part = module.write_part
    monkeypatch.setattr(module, "read_model", noted)
    monkeypatch.setattr(module, "write_part", stored)
    assert len(list(LocalExecutor().map(settings, batches))) == 3
    assert seen == [True] * 3


def test_a_batch_that_comes_instead_of_the_expected_one_is_read_anew(served):
    settings, (first, second, third) = served
    reader = settings()
    reader.expect(second)
    reader(first)
    result = reader(third)
    reader.close()
    assert [row.repo_id for row in result.rows] == [NAMES[2]]
    assert all(digests([result]))


def test_closing_ends_what_is_read_ahead(served, monkeypatch):
    settings, (first, second, _) = served
    ended = []

    async def slow(source, snapshot, options, vocabularies):
        if snapshot.ref.repo_id == NAMES[1]:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                ended.append(snapshot.ref.repo_id)
                raise
        return await read_model(source, snapshot, options, vocabularies)

    monkeypatch.setattr(module, "read_model", slow)
    reader = settings()
    reader.expect(second)
    started = time.monotonic()
    reader(first)
    reader.close()
    assert ended == [NAMES[1]]
    assert time.monotonic() - started < 300


def test_a_sketch_that_fails_costs_only_its_own_model(served, monkeypatch):
    settings, batches = served
    sketch = module.sketch_fingerprints

    def failing(fingerprints, **options):
        if any(f.repo_id == NAMES[1] for f in fingerprints):
            raise RuntimeError("no sketch of this")
        return sketch(fingerprints, **options)

    monkeypatch.setattr(module, "sketch_fingerprints", failing)
    reader = settings()
    result = reader(Batch(tuple(s for batch in batches for s in batch.snapshots)))
    reader.close()
    assert [row.digest is None for row in result.rows] == [False, True, False]
    (told,) = [(name, p.code) for name, _, p in result.problems if "no sketch" in p.reason]
    assert told == (NAMES[1], "fault")


def test_a_part_that_cannot_be_written_leaves_its_models_undone_and_the_next_batch_whole(
    served, monkeypatch
):
    settings, batches = served
    write_part = module.write_part

    def full_once(where, models):
        monkeypatch.setattr(module, "write_part", write_part)
        raise HomeError("the disk is full")

    monkeypatch.setattr(module, "write_part", full_once)
    results = [outcome.result for outcome in LocalExecutor().map(settings, batches)]
    assert [result.failure for result in results] == ["the disk is full", None, None]
    found = digests(results)
    assert found[0] is None
    assert all(found[1:])
    (problem,) = [p for *_, p in results[0].problems if p.code == "not_stored"]
    assert "the disk is full" in problem.reason

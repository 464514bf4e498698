"""Where spans come from: one behaviour for the Hub, a folder, the cache of the client and views."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.client import Hub
from crawler.errors import FileChangedError, MalformedError, NotFoundError, TruncatedError
from crawler.hub_server import running_hub
from crawler.mapped_file import MappedFile
from crawler.range_source import HubSource
from crawler.records import RepoRef
from crawler.sources import (
    CacheSource,
    FirstOf,
    FolderSource,
    MeteredSource,
    PrefixSource,
    Source,
)
from crawler.spans import MAX_RANGE_BYTES, coalesce, cut

REF = RepoRef("owner/name", "a" * 40)
DATA = bytes(range(256)) * 400
FILES = {"model.safetensors": DATA, "sub/part 1.gguf": DATA[::-1], "empty.bin": b""}
SPANS = [(5000, 5100), (0, 10), (20, 30), (99_990, len(DATA)), (5050, 5070)]

Action = Callable[[Source], Awaitable[object]]


def write_files(folder: Path) -> None:
    for path, data in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def write_cache(cache: Path, files: dict[str, bytes] = FILES) -> Path:
    """The client's layout: snapshots of links into blobs."""
    repo = cache / "models--owner--name"
    (repo / "blobs").mkdir(parents=True)
    for n, (path, data) in enumerate(files.items()):
        (repo / "blobs" / f"{n:064x}").write_bytes(data)
        link = repo / "snapshots" / REF.revision / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(repo / "blobs" / f"{n:064x}", link.parent))
    return repo


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("hub")
    write_files(folder / REF.repo_id)
    (folder / "hub.json").write_text(
        json.dumps({"models": {REF.repo_id: {"revision": REF.revision}}})
    )
    with running_hub(folder) as endpoint:
        yield endpoint


@pytest.fixture(params=["hub", "folder", "cache", "first of cache", "first of hub"])
def source(request: pytest.FixtureRequest, tmp_path: Path, served: str) -> MeteredSource:
    if request.param == "hub":
        return HubSource(Hub(served))
    if request.param == "folder":
        write_files(tmp_path)
        return FolderSource(tmp_path)
    write_cache(tmp_path, FILES if "hub" not in request.param else {})
    if request.param == "cache":
        return CacheSource(tmp_path)
    return FirstOf(CacheSource(tmp_path), HubSource(Hub(served)))


@pytest.fixture(params=["itself", "meter", "prefix"])
def run(request: pytest.FixtureRequest, source: MeteredSource) -> Callable[[Action], object]:
    """Do something with a source, or with a view of it, and close it."""

    def do(action: Action) -> object:
        async def main() -> object:
            async with source:
                if request.param == "meter":
                    return await action(source.meter())
                return await action(PrefixSource(source) if request.param == "prefix" else source)

        return asyncio.run(main())

    return do


def test_spans_come_back_in_the_order_asked(run):
    async def read(source: Source) -> list[list[bytes]]:
        return [await source.read(REF, path, SPANS) for path in ("model.safetensors",) * 2]

    assert run(read) == [[DATA[a:b] for a, b in SPANS]] * 2


def test_paths_with_folders_and_spaces_are_read(run):
    assert run(lambda source: source.read(REF, "sub/part 1.gguf", [(1, 4)])) == [DATA[::-1][1:4]]


def test_many_models_are_read_at_once(run):
    async def read(source: Source) -> list[list[bytes]]:
        return await asyncio.gather(
            *(source.read(REF, "model.safetensors", [(i, i + 9)]) for i in range(50))
        )

    assert run(read) == [[DATA[i : i + 9]] for i in range(50)]


def test_no_spans_are_no_bytes(run):
    assert run(lambda source: source.read(REF, "model.safetensors", [])) == []


@pytest.mark.parametrize("path", ["absent", "sub", "../owner", "/etc/passwd", "x\0y", "n" * 5000])
def test_a_file_that_is_not_there_is_not_found(run, path):
    with pytest.raises(NotFoundError):
        run(lambda source: source.read(REF, path, [(0, 1)]))


@pytest.mark.parametrize(
    ("path", "span"), [("model.safetensors", (0, len(DATA) + 1)), ("empty.bin", (0, 1))]
)
def test_a_span_beyond_the_file_is_malformed(run, path, span):
    with pytest.raises(MalformedError, match="were wanted"):
        run(lambda source: source.read(REF, path, [span]))


@pytest.mark.parametrize("span", [(5, 5), (7, 3), (-1, 4)])
def test_senseless_spans_are_refused(run, span):
    with pytest.raises(ValueError, match="not a span"):
        run(lambda source: source.read(REF, "model.safetensors", [span]))


def test_what_is_read_is_counted_for_the_model_and_for_all(source):
    async def main() -> None:
        async with source:
            one, other = source.meter(), source.meter()
            await one.read(REF, "model.safetensors", [(0, 100), (50_000, 50_100)])
            await other.read(REF, "model.safetensors", [(7, 10)])
            assert (one.bytes_read, one.requests) == (200, 2)
            assert (other.bytes_read, other.requests) == (3, 1)
            assert (source.bytes_read, source.requests) == (203, 3)

    asyncio.run(main())


def test_a_source_that_was_closed_may_be_used_again(source):
    async def main() -> list[bytes]:
        async with source:
            await source.read(REF, "model.safetensors", [(0, 1)])
        async with source:
            return await source.read(REF, "model.safetensors", [(0, 4)])

    assert asyncio.run(main()) == [DATA[:4]]


def read_once(source: MeteredSource, path: str, span: tuple[int, int]) -> bytes:
    async def main() -> bytes:
        async with source:
            return (await source.read(REF, path, [span]))[0]

    return asyncio.run(main())


# Heads that are remembered.


class Remembering(FolderSource):
    """A folder that remembers what it was asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked: list[list[tuple[int, int]]] = []

    async def read_for(self, tally, ref, path, spans):
        self.asked.append(list(spans))
        return await super().read_for(tally, ref, path, spans)


def test_a_growing_head_is_fetched_once_and_serves_what_lies_inside(tmp_path):
    write_files(tmp_path)
    below = Remembering(tmp_path)

    async def main() -> None:
        async with below:
            source = PrefixSource(below.meter())
            for span in [(0, 100), (100, 250), (0, 300), (20, 300)]:
                assert await source.read(REF, "model.safetensors", [span]) == [
                    DATA[span[0] : span[1]]
                ]
            spans = [(20, 90), (250, 350), (6000, 6010), (300, 310)]
            assert await source.read(REF, "model.safetensors", spans) == [
                DATA[a:b] for a, b in spans
            ]
            assert source.bytes_read == 370
            assert source.requests == 5

    asyncio.run(main())
    assert below.asked == [
        [(0, 100)],
        [(100, 250)],
        [(250, 300)],
        [(300, 350), (6000, 6010), (300, 310)],
    ]


def test_heads_of_any_length_are_not_remembered_without_bound(tmp_path, monkeypatch):
    monkeypatch.setattr("crawler.sources._MAX_PREFIX_BYTES", 150)
    write_files(tmp_path)
    below = Remembering(tmp_path)

    async def main() -> None:
        async with below:
            source = PrefixSource(below)
            for stop in (100, 200, 300):
                assert await source.read(REF, "model.safetensors", [(0, stop)]) == [DATA[:stop]]

    asyncio.run(main())
    assert below.asked == [[(0, 100)], [(100, 200)], [(100, 300)]]


# Folders and the client's cache.


def test_no_link_leads_out_of_a_folder(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.write_bytes(DATA)
    (inside / "link").symlink_to(outside)
    (inside / "own").symlink_to("file")
    (inside / "file").write_bytes(DATA)
    (inside / "endless").symlink_to("endless")
    os.mkfifo(inside / "pipe")
    assert read_once(FolderSource(inside), "own", (1, 3)) == DATA[1:3]
    for path in ("link", "../out", str(outside), "endless", "pipe", "file/x"):
        with pytest.raises(NotFoundError):
            read_once(FolderSource(inside), path, (0, 1))


def test_no_link_leads_out_of_a_repository_in_the_cache(tmp_path):
    repo = write_cache(tmp_path)
    other = tmp_path / "models--other--name" / "blobs" / "secret"
    other.parent.mkdir(parents=True)
    other.write_bytes(DATA)
    snapshot = repo / "snapshots" / REF.revision
    (snapshot / "stolen").symlink_to(other)
    source = CacheSource(tmp_path)
    assert source.has(REF, "model.safetensors")
    assert not source.has(RepoRef(REF.repo_id, "b" * 40), "model.safetensors")
    for path in ("stolen", "../../blobs/" + "0" * 64, "absent", str(other)):
        assert not source.has(REF, path)
        with pytest.raises(NotFoundError):
            read_once(source, path, (0, 1))


def test_the_cache_is_that_of_the_client(served, tmp_path, monkeypatch):
    from huggingface_hub import constants, hf_hub_download

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    hf_hub_download(
        REF.repo_id,
        "sub/part 1.gguf",
        revision=REF.revision,
        endpoint=served,
        cache_dir=tmp_path,
    )
    source = CacheSource()
    assert source.has(REF, "sub/part 1.gguf")
    assert not source.has(REF, "model.safetensors")
    assert read_once(source, "sub/part 1.gguf", (3, 6)) == DATA[::-1][3:6]


def test_only_what_the_cache_lacks_is_asked_for(served, tmp_path):
    write_cache(tmp_path, {"model.safetensors": DATA})
    hub, cache = Hub(served), CacheSource(tmp_path)
    source = FirstOf(cache, HubSource(hub))
    assert read_once(source, "model.safetensors", (0, 5)) == DATA[:5]
    assert hub.n_requests == 0
    assert read_once(source, "sub/part 1.gguf", (0, 5)) == DATA[::-1][:5]
    assert hub.n_requests == 2


def test_a_file_cut_short_under_its_map_is_an_error_and_not_the_end_of_the_process(tmp_path):
    write_files(tmp_path)
    file = tmp_path / "model.safetensors"

    async def main() -> None:
        async with FolderSource(tmp_path) as source:
            await source.read(REF, file.name, [(0, 9)])
            os.truncate(file, 5000)
            with pytest.raises(TruncatedError, match="cut short"):
                await source.read(REF, file.name, [(90_000, 90_009)])
            assert await source.read(REF, file.name, [(10, 12)]) == [DATA[10:12]]

    asyncio.run(main())


def write_in_place(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.write(b"other")
    os.utime(file, ns=(1, 1))


def replace(file: Path) -> None:
    fresh = file.with_name("fresh")
    fresh.write_bytes(b"other" + DATA[5:])
    fresh.replace(file)


def append(file: Path) -> None:
    with file.open("ab") as stream:
        stream.write(b"more")


@pytest.mark.parametrize("change", [write_in_place, replace, append])
def test_a_file_that_changes_between_two_reads_of_one_model_is_refused(tmp_path, change):
    write_files(tmp_path)
    file = tmp_path / "model.safetensors"

    async def main() -> None:
        async with FolderSource(tmp_path) as source:
            meter = source.meter()
            await meter.read(REF, file.name, [(0, 9)])
            change(file)
            with pytest.raises(FileChangedError):
                await meter.read(REF, file.name, [(0, 9)])
            (fresh,) = await source.meter().read(REF, file.name, [(0, file.stat().st_size)])
            assert fresh == file.read_bytes()

    asyncio.run(main())


def opened_under(folder: Path) -> list[str]:
    """Files of a folder that this process has open; a map holds one besides ours."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("open files cannot be listed here")
    found = (os.path.realpath(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd"))
    return [Path(path).name for path in found if path.startswith(str(folder.resolve()))]


def test_few_maps_are_open_at_once_and_none_after_closing(tmp_path):
    for i in range(20):
        (tmp_path / f"{i}").write_bytes(DATA)

    async def main() -> None:
        async with FolderSource(tmp_path, max_open=3) as source:
            for i in [*range(20), 0, 1]:
                assert await source.read(REF, f"{i}", [(i, i + 1)]) == [DATA[i : i + 1]]
                assert len(opened_under(tmp_path)) <= 6
            for i in (0, 7, 8):
                await source.read(REF, f"{i}", [(0, 1)])
            assert set(opened_under(tmp_path)) == {"0", "7", "8"}

    asyncio.run(main())
    assert opened_under(tmp_path) == []


def test_a_replaced_file_and_what_is_no_file_are_not_left_open(tmp_path):
    write_files(tmp_path)
    (tmp_path / "folder").mkdir()

    async def main() -> None:
        async with FolderSource(tmp_path) as source:
            for _ in range(3):
                await source.read(REF, "model.safetensors", [(0, 1)])
                replace(tmp_path / "model.safetensors")

    asyncio.run(main())
    os.mkfifo(tmp_path / "pipe")  # nobody writes: to wait for it would be for ever
    (tmp_path / "link").symlink_to("model.safetensors")
    for name in ("folder", "pipe", "link"):
        with pytest.raises(NotFoundError, match="no file"):
            MappedFile(tmp_path / name, name)
    assert opened_under(tmp_path) == []


# Spans.


spans = st.lists(
    st.tuples(st.integers(0, 300), st.integers(1, 60)).map(lambda s: (s[0], s[0] + s[1])),
    min_size=1,
    max_size=12,
)


@given(spans, st.integers(0, 50))
def test_joined_spans_cover_what_was_asked_and_nothing_but_small_gaps(wanted, gap):
    joined = coalesce(wanted, gap)
    asked = {i for start, stop in wanted for i in range(start, stop)}
    read = [i for start, stop in joined for i in range(start, stop)]
    assert asked <= set(read)
    assert len(read) == len(set(read))
    for start, stop in joined:
        assert {start, stop - 1} <= asked
        assert not any(
            set(range(i, i + gap + 1)).isdisjoint(asked) for i in range(start, stop - gap)
        )
    assert all(left[1] + gap < right[0] for left, right in pairwise(joined))


@given(spans, st.integers(0, 50))
def test_cutting_gives_every_span_its_bytes(wanted, gap):
    joined = coalesce(wanted, gap)
    pieces = [DATA[start:stop] for start, stop in joined]
    assert cut(wanted, joined, pieces) == [DATA[start:stop] for start, stop in wanted]


def test_a_gap_of_the_bound_is_read_and_one_byte_more_is_not():
    assert coalesce([(0, 10), (20, 30)], 10) == [(0, 30)]
    assert coalesce([(0, 10), (21, 30)], 10) == [(0, 10), (21, 30)]


def test_joined_spans_do_not_grow_beyond_their_bound_and_long_ones_are_read_once():
    m = MAX_RANGE_BYTES
    assert coalesce([(0, m), (m, m + 9)]) == [(0, m), (m, m + 9)]
    assert coalesce([(0, 3 * m), (5, 9), (7, 2 * m), (3 * m + 1, 3 * m + 2)]) == [
        (0, 3 * m),
        (3 * m + 1, 3 * m + 2),
    ]
    overlapping = [(0, m), (5, m + 10), (6, 20), (m - 5, m + 20)]
    joined = coalesce(overlapping)
    pieces = [bytes([i]) * (stop - start) for i, (start, stop) in enumerate(joined)]
    assert [len(piece) for piece in cut(overlapping, joined, pieces)] == [m, m + 5, 14, 25]

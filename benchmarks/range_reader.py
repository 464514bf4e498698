"""How fast ranges are read, against a client that checks nothing.

A server in a process of its own hands out ranges of one file of random bytes: the local Hub, and a
lean one that does nothing but send, so that the readers' own cost shows. Each reader gets the same
ranges at the same concurrency: ``reader`` is the project's (every answer verified), ``bare`` is
threads with ``http.client`` that look at nothing, ``httpx2`` and ``aiohttp`` are those
libraries used barely. All keep what they read. Rounds alternate; the ratios are medians over
rounds. Prints one JSON object.

    python -m benchmarks.range_reader
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import platform
import queue
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from crawler.client import Hub
from crawler.hub_server import running_hub
from crawler.range_source import HubSource
from crawler.records import RepoRef

PATH = "model.safetensors"
_REPO = "owner/name"
_REVISION = "a" * 40
_FILE_BYTES = 192 << 20

Span = tuple[int, int]
Read = Callable[["Task"], int]


@dataclass(frozen=True, slots=True)
class Task:
    """What every reader reads."""

    endpoint: str
    spans: Sequence[Span]
    concurrency: int

    @property
    def url(self) -> str:
        return f"{self.endpoint}/{_REPO}/resolve/{_REVISION}/{PATH}"


CASES: dict[str, list[Span]] = {
    "2000 ranges of 8 kB": [(i * 90_000, i * 90_000 + 8192) for i in range(2000)],
    "1000 ranges of 150 kB": [(i * 190_000, i * 190_000 + 150_000) for i in range(1000)],
    "150 ranges of 1 MB": [(i * 1_300_000, i * 1_300_000 + (1 << 20)) for i in range(150)],
    "24 ranges of 8 MB": [(i << 23, (i + 1) << 23) for i in range(24)],
}


def serve_lean(file: Path) -> None:
    """Send ranges and nothing else; prints the address."""
    data = memoryview(file.read_bytes())

    class Lean(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self.transport, self.received = transport, b""

        def data_received(self, part: bytes) -> None:
            self.received += part
            while b"\r\n\r\n" in self.received:
                head, _, self.received = self.received.partition(b"\r\n\r\n")
                _, _, wanted = head.lower().partition(b"range: bytes=")
                if not wanted:
                    self.transport.write(
                        b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\nETag: "x"\r\n\r\n' % len(data)
                    )
                    continue
                first, _, last = wanted.split(b"\r\n")[0].partition(b"-")
                start, stop = int(first), int(last) + 1
                self.transport.write(
                    b'HTTP/1.1 206 Partial Content\r\nETag: "x"\r\nContent-Length: %d\r\n'
                    b"Content-Range: bytes %d-%d/%d\r\n\r\n"
                    % (stop - start, start, stop - 1, len(data))
                )
                self.transport.write(data[start:stop])

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Lean, "127.0.0.1", 0)
        print(f"ready http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        await server.serve_forever()

    asyncio.run(run())


def serve_hub(folder: Path) -> None:
    """The project's local Hub; prints its address."""
    with running_hub(folder) as endpoint:
        print(f"ready {endpoint}", flush=True)
        sys.stdin.read()


@contextmanager
def served(kind: str, folder: Path) -> Iterator[str]:
    """A server in its own process; yields its address."""
    command = [sys.executable, "-m", "benchmarks.range_reader", "--serve", kind, str(folder)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=Path(__file__).resolve().parents[1],
    )  # fmt: skip
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line.startswith("ready "):
            raise SystemExit(f"the server {kind} did not start")
        yield line.split()[1]
    finally:
        process.kill()
        process.communicate()


def read_bare(task: Task) -> int:
    """Threads with ``http.client``: the range, the length, nothing else."""
    address = urlsplit(task.url)
    wanted: queue.SimpleQueue[Span] = queue.SimpleQueue()
    for span in task.spans:
        wanted.put(span)
    bodies: list[bytes] = []

    def work() -> None:
        connection = http.client.HTTPConnection(address.hostname or "", address.port)
        while True:
            try:
                start, stop = wanted.get_nowait()
            except queue.Empty:
                break
            connection.request("GET", address.path, headers={"Range": f"bytes={start}-{stop - 1}"})
            bodies.append(connection.getresponse().read())
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(task.concurrency)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(map(len, bodies))


def read_ours(task: Task) -> int:
    """The project's reader."""

    async def run() -> int:
        async with HubSource(Hub(task.endpoint), max_concurrency=task.concurrency) as source:
            ref = RepoRef(_REPO, _REVISION)
            return sum(map(len, await source.meter().read(ref, PATH, task.spans)))

    return asyncio.run(run())


def read_httpx2(task: Task) -> int:
    """The asynchronous session of the Hub's client, barely used."""
    import httpx2

    async def run() -> int:
        limits = httpx2.Limits(
            max_connections=task.concurrency, max_keepalive_connections=task.concurrency
        )
        async with httpx2.AsyncClient(limits=limits, timeout=60) as client:

            async def one(span: Span) -> bytes:
                headers = {"Range": f"bytes={span[0]}-{span[1] - 1}"}
                async with client.stream("GET", task.url, headers=headers) as answer:
                    return b"".join([part async for part in answer.aiter_raw()])

            return await _by_workers(task, one)

    return asyncio.run(run())


def read_aiohttp(task: Task) -> int:
    """aiohttp, barely used."""
    import aiohttp

    async def run() -> int:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def one(span: Span) -> bytes:
                headers = {"Range": f"bytes={span[0]}-{span[1] - 1}"}
                async with session.get(task.url, headers=headers) as answer:
                    return await answer.read()

            return await _by_workers(task, one)

    return asyncio.run(run())


async def _by_workers(task: Task, one: Callable[[Span], Awaitable[bytes]]) -> int:
    spans = iter(task.spans)
    bodies: list[bytes] = []

    async def work() -> None:
        for span in spans:
            bodies.append(await one(span))

    await asyncio.gather(*(work() for _ in range(task.concurrency)))
    return sum(map(len, bodies))


READERS: dict[str, Read] = {
    "bare": read_bare, "reader": read_ours, "httpx2": read_httpx2, "aiohttp": read_aiohttp
}  # fmt: skip


def measure(task: Task, rounds: int) -> dict[str, dict[str, float]]:
    """Each reader's figures: medians over alternating rounds, the first of which is not counted."""
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in READERS}
    n_bytes = sum(stop - start for start, stop in task.spans)
    for _ in range(rounds + 1):
        for name, read in READERS.items():
            cpu, wall = time.process_time(), time.perf_counter()
            if read(task) != n_bytes:
                raise SystemExit(f"{name} read another number of bytes")
            seen[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    figures = {}
    for name, laps in seen.items():
        wall = statistics.median(lap[0] for lap in laps[1:])
        cpu = statistics.median(lap[1] for lap in laps[1:])
        ratios = [bare[0] / own[0] for bare, own in zip(seen["bare"], laps, strict=True)][1:]
        figures[name] = {
            "of_bare": round(statistics.median(ratios), 2),
            "requests_per_s": round(len(task.spans) / wall),
            "MB_per_s": round(n_bytes / wall / 1e6, 1),
            "cpu_us_per_request": round(1e6 * cpu / len(task.spans)),
            "waiting": round(max(0.0, 1 - cpu / wall), 2),
        }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", nargs=2, metavar=("KIND", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        kind, folder = options.serve
        if kind == "hub":
            serve_hub(Path(folder))
        else:
            serve_lean(Path(folder) / _REPO / PATH)
        return
    report: dict[str, object] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
        "concurrency": options.concurrency,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / _REPO).mkdir(parents=True)
        with (folder / _REPO / PATH).open("wb") as stream:
            for _ in range(_FILE_BYTES >> 20):
                stream.write(os.urandom(1 << 20))
        models = {"models": {_REPO: {"revision": _REVISION}}}
        (folder / "hub.json").write_text(json.dumps(models))
        for kind in ("hub", "lean"):
            with served(kind, folder) as endpoint:
                url = Task(endpoint, (), 1).url
                urllib.request.urlopen(
                    urllib.request.Request(url, method="HEAD")
                ).close()  # digests
                for case, spans in CASES.items():
                    task = Task(endpoint, spans, options.concurrency)
                    report[f"{kind} server, {case}"] = measure(task, options.rounds)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()

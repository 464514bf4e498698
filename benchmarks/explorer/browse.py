"""How fast the explorer answers on a register of millions: ``make bench-explorer``.

Makes a simulated register (:mod:`benchmarks.explorer.register`), publishes it, serves it as a user
would, and drives Debian's Chromium over it. Prints one line a figure, and JSON with ``--json``:

1. publishing: seconds, CPU seconds, peak memory, sizes of the files;
2. the index of names, asked directly: whole names, beginnings, parts, mistyped names;
3. first load: seconds until the page can be used, bytes over the wire;
4. a click on a mark until its lineage is drawn; a search typed until its cards stand;
5. sixteen browsers in which a mark is clicked at once, and sixteen visitors that draw nothing
   (:mod:`benchmarks.explorer.visitors`), as each has a machine of their own in life;
6. the first answer of each page about the whole population; the server's memory before and after.

The browsers run on the same cores as the server and their time is in the figures. Exit code 77: no
Chromium.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.candidates import peak_bytes
from benchmarks.explorer.register import fill_home
from benchmarks.explorer.visitors import click_together, first_answer
from lineage.pipeline.explore import entry_point
from lineage.pipeline.publish import publish
from lineage.store.home import Home
from lineage.store.name_index import NameIndex
from lineage.store.publication import read_manifest
from lineage.store.publish import open_published

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

_CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
_ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
_ABSENT = 77
_VISITORS, _ROUNDS = 16, 6
_POPULATION = ("audit", "propagation", "diversity", "phylogeny", "heritability", "lewontin")
_WAIT_MS = 60_000


def quantile(seconds: Sequence[float], share: float) -> float:
    """The smallest value that `share` of them do not exceed."""
    return sorted(seconds)[max(0, -(-int(share * 100) * len(seconds) // 100) - 1)]


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Number, median, 95th percentile and worst, in milliseconds."""
    return {
        "n": len(seconds),
        "median_ms": 1e3 * quantile(seconds, 0.5),
        "p95_ms": 1e3 * quantile(seconds, 0.95),
        "worst_ms": 1e3 * max(seconds),
    }


def timed(action: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def make_home(root: Path, n_models: int) -> dict[str, Any]:
    """Fill and publish a home in a process of its own, so that its memory is its own."""
    command = [sys.executable, "-m", __spec__.name, "--make", str(root), str(n_models)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    made: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return made


def make(root: Path, n_models: int) -> dict[str, Any]:
    """Fill and publish a home in this process."""
    home = Home(root)
    n_edges = fill_home(home, n_models)
    start, cpu = time.perf_counter(), time.process_time()
    publish(home)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    return {
        "models": n_models,
        "edges": n_edges,
        "publish_s": seconds,
        "publish_cpu_s": cpu_seconds,
        "peak_gb": peak_bytes() / 1e9,
        "megabytes": {
            path.suffixes[-1]: path.stat().st_size / 1e6 for path in home.published.iterdir()
        },
    }


def names_to_ask(home: Home, n: int, seed: int = 1) -> list[tuple[str, int]]:
    """Models with descendants, and some without, drawn at random, the largest hubs among them."""
    with open_published(home) as connection:
        rows = connection.execute(
            "(SELECT repo_id, n_descendants FROM model ORDER BY n_descendants DESC LIMIT 10)"
            " UNION ALL (SELECT repo_id, n_descendants FROM model WHERE n_parents > 0"
            f" USING SAMPLE reservoir({n} ROWS) REPEATABLE ({seed}))"
        ).fetchall()
    return [(str(name), int(size)) for name, size in rows]


def measure_index(home: Home, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Milliseconds of the index of names for four ways of asking."""
    manifest = read_manifest(home)
    index = NameIndex(home.published / manifest.companions["names"].file)
    bare = [name.partition("/")[2] for name in names]
    asked = {
        "whole name": list(names),
        "beginning": [name[: max(1, len(name) // 3)] for name in bare],
        "a part": [name[len(name) // 3 : -2] for name in bare],
        "one mistake": [name[:4] + name[5] + name[4] + name[6:] for name in bare],
    }
    try:
        return {
            how: summary([timed(lambda text=text: index.search(text)) for text in texts])
            for how, texts in asked.items()
        }
    finally:
        index.close()


@contextmanager
def served(home: Home) -> Iterator[tuple[str, int]]:
    """The explorer in a process of its own: its address and process number."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "lineage.explorer.serve", str(entry_point()),
         f"--server.port={port}", "--server.address=127.0.0.1", "--server.headless=true"],
        cwd=entry_point().parent, env={**os.environ, "HERDBOOK_HOME": str(home.root)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    base = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 120
        while time.monotonic() < until:
            try:
                with urllib.request.urlopen(base + "/_stcore/health", timeout=2):
                    break
            except OSError:
                time.sleep(0.2)
        yield base, server.pid
    finally:
        server.terminate()
        server.wait(timeout=30)


def resident_gb(process: int) -> float:
    """Peak resident memory of a process (``VmHWM``)."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1e6
    raise SystemExit("the server's memory cannot be read")


def cpu_seconds(process: int) -> float:
    """Processor seconds that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def first_load(browser: Browser, base: str) -> tuple[float, float]:
    """Seconds until the search box stands on a page never seen before, and megabytes received."""
    context = await browser.new_context()
    page = await context.new_page()
    network = await context.new_cdp_session(page)
    await network.send("Network.enable")
    received = [0]
    network.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
    network.on(
        "Network.webSocketFrameReceived",
        lambda event: received.append(len(event["response"]["payloadData"]) * 3 // 4),
    )
    start = time.perf_counter()
    await page.goto(base + "/")
    await page.get_by_label("Find a model").wait_for(timeout=_WAIT_MS)
    await page.locator("a.card").first.wait_for(timeout=_WAIT_MS)
    seconds = time.perf_counter() - start
    await context.close()
    return seconds, sum(received) / 1e6


async def open_lineage(page: Page, base: str, name: str) -> None:
    """Open a lineage by its address."""
    await page.goto(f"{base}/lineage?model={name}")
    await page.locator(f'g.is-focus[data-id="{name}"]').wait_for(timeout=_WAIT_MS)


async def click_a_mark(page: Page, rng: random.Random) -> float | None:
    """Seconds from a click on another mark until its lineage is drawn; None: there is none."""
    marks = page.locator('g.n[data-id][data-go]:not(.is-focus):not([data-go*="open="])')
    n = await marks.count()
    if not n:
        return None
    mark = marks.nth(rng.randrange(n))
    name = await mark.get_attribute("data-id")
    start = time.perf_counter()
    await mark.locator(".mark").last.dispatch_event("click", {"bubbles": True})
    await page.locator(f'g.is-focus[data-id="{name}"]').wait_for(timeout=_WAIT_MS)
    return time.perf_counter() - start


async def browse(base: str, names: Sequence[str], seed: int = 1) -> dict[str, Any]:
    """Everything that needs the browser."""
    from playwright.async_api import async_playwright

    rng = random.Random(seed)
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=_CHROMIUM, args=_ARGUMENTS)
        cold, megabytes = await first_load(browser, base)
        warm, _ = await first_load(browser, base)
        page = await (await browser.new_context(viewport={"width": 1280, "height": 900})).new_page()
        clicks, searches = [], []
        for name in names:
            await open_lineage(page, base, name)
            seconds = await click_a_mark(page, rng)
            if seconds is not None:
                clicks.append(seconds)
        await page.goto(base + "/")
        box = page.get_by_label("Find a model")
        await box.wait_for()
        for name in names:
            text = name.partition("/")[2]
            start = time.perf_counter()
            await box.fill(text)
            await box.press("Enter")
            await page.locator("a.card", has_text=text).first.wait_for(timeout=_WAIT_MS)
            searches.append(time.perf_counter() - start)
        pages = []
        for visitor in range(_VISITORS):
            context = await browser.new_context(viewport={"width": 1280, "height": 900})
            pages.append(await context.new_page())
            await open_lineage(pages[-1], base, names[visitor % len(names)])
        crowd: list[float] = []
        for _ in range(3):
            together = await asyncio.gather(*(click_a_mark(one, rng) for one in pages))
            crowd += [seconds for seconds in together if seconds is not None]
        await browser.close()
    return {
        "first_load": {"cold_s": cold, "warm_s": warm, "megabytes": megabytes},
        "click": summary(clicks),
        "search": summary(searches),
        "sixteen_at_once": summary(crowd),
    }


def main() -> int:
    """Make, publish, serve, browse, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=3_000_000)
    parser.add_argument("--home", type=Path, help="a published home to measure on; none is made")
    parser.add_argument("--clicks", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--make", nargs=2, metavar=("ROOT", "N"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.make:
        print(json.dumps(make(Path(given.make[0]), int(given.make[1]))))
        return 0
    if not Path(_CHROMIUM).exists():
        print("no Chromium on this machine", file=sys.stderr)
        return _ABSENT
    found: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="minutes"),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
    }
    with tempfile.TemporaryDirectory() as folder:
        home = Home(given.home or Path(folder))
        if given.home is None:
            found["publication"] = make_home(home.root, given.models)
        names = [name for name, _ in names_to_ask(home, given.clicks)]
        found["index"] = measure_index(home, names)
        with served(home) as (base, process):
            found |= asyncio.run(browse(base, names))
            before = cpu_seconds(process)
            seconds = asyncio.run(click_together(base, names, _VISITORS, _ROUNDS))
            spent = cpu_seconds(process) - before
            found["sixteen_without_browsers"] = summary(seconds) | {
                "server_cpu_ms_a_click": 1e3 * spent / (_VISITORS * (_ROUNDS + 1))
            }
            found["server_peak_gb"] = resident_gb(process)
            found["population_pages"] = {
                page: asyncio.run(first_answer(base, page)) for page in _POPULATION
            }
            found["server_peak_gb_after_all_pages"] = resident_gb(process)
    if given.json:
        print(json.dumps(found, indent=2))
        return 0
    for what, figures in found.items():
        print(f"{what:18s} {json.dumps(figures) if isinstance(figures, dict) else figures}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

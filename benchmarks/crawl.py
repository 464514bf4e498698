"""How fast a crawl lists a Hub of millions, and in how much memory: `make bench-crawl`.

A simulated Hub (see ``simulated_hub``) runs in a process of its own; the crawler under test is the
real one, in this process, over HTTP. Prints one JSON object. Exit code 77: the real rows that the
simulation draws from are absent.

1. the split of the cost of a model: HTTP, JSON, parse, archive, store, in CPU time of this process;
2. a census of the whole Hub: CPU and wall time, peak memory, size of the database;
3. a day passes (1 % changed, .2 % new, .05 % deleted) and an increment is crawled;
4. real cards, varied, through everything that is done with a card.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.hub_cards import cards
from crawler.archive import Archive, ArchivedAnswer
from crawler.card_shape import card_shape
from crawler.client import Hub
from crawler.listed import parse_record
from crawler.listing import first_page
from crawler.parents import read_words
from crawler.records import RepoRef, RepoSnapshot
from lineage.pipeline.crawl import crawl
from lineage.pipeline.walks import no_cyclic_collection
from lineage.settings import CrawlSettings
from lineage.store.home import Home
from lineage.store.listed import write_listed

NOW = datetime(2026, 9, 1, tzinfo=UTC)
_SPLIT_PAGES = 261
_BATCH = CrawlSettings().batch_pages
_ABSENT = 77


class _SimulationAbsentError(Exception):
    pass


@contextmanager
def simulated_hub(n_models: int) -> Iterator[str]:
    """The simulation in its own process; yields its address."""
    module = "benchmarks.simulated_hub"
    server = subprocess.Popen(
        [sys.executable, "-m", module, "--models", str(n_models), "--port", "0"],
        stdout=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parents[1],
    )  # fmt: skip
    try:
        line = server.stdout.readline() if server.stdout else ""
        if not line.startswith("ready "):
            if server.wait(60) == _ABSENT:
                raise _SimulationAbsentError
            raise SystemExit("the simulated Hub did not start")
        yield line.split()[1]
    finally:
        server.terminate()
        server.wait(30)


def measure_split(endpoint: str) -> dict[str, float]:
    """Microseconds of CPU time per model of every step of a page, one after the other."""
    hub, spent, n = (
        Hub(endpoint),
        dict.fromkeys(("http", "json", "parse", "archive", "store"), 0.0),
        0,
    )
    url: str | None = first_page(sort="createdAt")
    with tempfile.TemporaryDirectory() as folder, no_cyclic_collection():
        home = Home(Path(folder))
        connection = home.open_working()
        archive = Archive(home.archive)
        batch = []
        for page in range(_SPLIT_PAGES):
            clock = _Laps(spent)
            body, next_url = hub.get_page(url or "")
            clock.lap("http")
            archive.append(ArchivedAnswer("bench", f"GET {url}", NOW, body, next_url))
            clock.lap("archive")
            records = orjson.loads(body)
            clock.lap("json")
            batch += [(parse_record(record, NOW), NOW) for record in records]
            clock.lap("parse")
            if page == 0 or page % _BATCH == 0:
                write_listed(connection, batch)
                n += len(batch)
                batch = []
                clock.lap("store")
            if page == 0:  # what is imported and opened once is no cost of a model
                spent, n = dict.fromkeys(spent, 0.0), 0
            url = next_url
        clock = _Laps(spent)
        connection.execute("CHECKPOINT")
        clock.lap("store")
        connection.close()
    return {step: round(1e6 * seconds / n, 2) for step, seconds in spent.items()}


class _Laps:
    def __init__(self, spent: dict[str, float]) -> None:
        self._spent, self._since = spent, time.process_time()

    def lap(self, step: str) -> None:
        now = time.process_time()
        self._spent[step] += now - self._since
        self._since = now


def measure_crawl(home: Home, endpoint: str, now: datetime) -> dict[str, float]:
    """One crawl without details: what it did and what it cost."""
    hub = Hub(endpoint)
    wall, cpu = time.monotonic(), time.process_time()
    report = crawl(home, endpoint, details=0, now=now, hub=hub)
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    records = report.n_pages * 1000
    return {
        "listed": report.n_listed,
        "new": report.n_new,
        "changed": report.n_changed,
        "gone": report.n_gone,
        "pages": report.n_pages,
        "requests": report.n_requests,
        "wall_s": round(wall, 1),
        "cpu_s": round(cpu, 1),
        "models_per_cpu_s": round(records / cpu),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "database_mb": round(home.database.stat().st_size / 1e6),
    }


def measure_cards(n: int) -> dict[str, float]:
    """Real cards, varied, through claims, recipes, evaluations and shape."""
    texts = list(cards(n, 0))
    ref = RepoRef("owner/name", "0" * 40)
    started = time.process_time()
    for text in texts:
        words = read_words(RepoSnapshot(ref, NOW, card_text=text), {})
        card_shape(text, words.card)
    seconds = time.process_time() - started
    return {"cards": n, "cpu_s": round(seconds, 2), "cards_per_cpu_s": round(n / seconds)}


def advance(endpoint: str) -> dict[str, int]:
    """Let a day pass on the simulated Hub."""
    request = urllib.request.Request(f"{endpoint}/advance", data=b"", method="POST")
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=3_000_000)
    parser.add_argument("--cards", type=int, default=10_000)
    parser.add_argument("--home", type=Path, help="keep the register here (default: thrown away)")
    options = parser.parse_args(arguments)
    found: dict[str, object] = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "models": options.models,
    }
    with tempfile.TemporaryDirectory() as folder:
        home = Home(options.home or Path(folder))
        try:
            with simulated_hub(options.models) as endpoint:
                found["split_us_per_model"] = split = measure_split(endpoint)
                found["split_models_per_cpu_s"] = round(1e6 / sum(split.values()))
                found["census"] = measure_crawl(home, endpoint, NOW)
                found["day"] = day = advance(endpoint)
                found["increment"] = measure_crawl(home, endpoint, NOW + timedelta(days=1))
                least = (
                    -(-(day["changed"] + day["new"]) // 1000) + home.settings().crawl.check_pages
                )
                found["least_requests_of_the_increment"] = least
        except _SimulationAbsentError:
            print("skipped: the real rows in ../shared/data/radar are absent", file=sys.stderr)
            return _ABSENT
        if options.cards:
            found["cards"] = measure_cards(options.cards)
    print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""The fingerprint pass over real models by every executor: the same parts, word for word."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from crawler.hub_server import running_hub
from lineage.errors import UsageError
from lineage.pipeline import fingerprint as stage
from lineage.pipeline.crawl import crawl
from lineage.pipeline.executors import LocalExecutor, RayExecutor, make_executor
from lineage.pipeline.fingerprint import fingerprint
from lineage.store.fingerprint_parts import WORDS
from lineage.store.home import Home
from ray_settings import NODE, prepare

FAMILY = (
    "lanternworks/Wick-270k",
    "lanternworks/Wick-270k-Instruct",
    "osier-ml/Wick-270k-sharded",
    "gguf-pantry/Wick-270k-Instruct-GGUF",
    "brackenfold/fern-base",
)


@pytest.fixture(scope="module")
def crawled(pocket, tmp_path_factory) -> Iterator[tuple[Path, str]]:
    """A home that has crawled five models, and the Hub that serves them."""
    folder = tmp_path_factory.mktemp("hub")
    for name in FAMILY:
        shutil.copytree(pocket / name, folder / name)
    home = Home(tmp_path_factory.mktemp("crawled"))
    with running_hub(folder) as endpoint:
        crawl(home, endpoint)
        yield home.root, endpoint


def parts(home: Home) -> dict[str, bytes]:
    """The tensors' files by name: a name is made of the words' digests, so equal is word for word.

    Rows of models also say what was measured (seconds, when), which differs.
    """
    return {
        path.name: path.read_bytes() if path.name.endswith(WORDS) else b""
        for path in home.fingerprints.rglob("*.parquet")
    }


def ledger(home: Home) -> list[tuple]:
    with duckdb.connect(str(home.database), read_only=True) as connection:
        return connection.execute(
            "SELECT repo_id, revision, scheme, digest, part FROM fingerprint ORDER BY ALL"
        ).fetchall()


def passed(crawled, executor, folder: Path) -> tuple[dict[str, bytes], list[tuple]]:
    """The pass in a copy of the home."""
    root, endpoint = crawled
    home = Home(shutil.copytree(root, folder / "home"))
    report = fingerprint(home, endpoint, executor=executor, use_cache=False)
    assert (report.n_read, report.n_failed) == (len(FAMILY), 0)
    return parts(home), ledger(home)


@pytest.mark.slow
def test_every_executor_makes_the_same_parts(crawled, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "_MODELS_IN_BATCH", 2)
    here = passed(crawled, LocalExecutor(), tmp_path / "here")
    assert len(here[0]) == 2 * 3, "three batches, each of words and models"
    assert passed(crawled, LocalExecutor(workers=2), tmp_path / "processes") == here
    with tempfile.TemporaryDirectory(prefix="hbray", ignore_cleanup_errors=True) as folder:
        prepare(monkeypatch, folder)
        assert passed(crawled, RayExecutor(), tmp_path / "ray") == here


@pytest.mark.slow
def test_the_pass_outlives_a_machine_and_the_next_run_has_nothing_to_do(
    crawled, tmp_path, monkeypatch
):
    monkeypatch.setattr(stage, "_MODELS_IN_BATCH", 1)
    here = passed(crawled, LocalExecutor(), tmp_path / "here")
    with tempfile.TemporaryDirectory(prefix="hbray", ignore_cleanup_errors=True) as folder:
        prepare(monkeypatch, folder)
        from ray.cluster_utils import Cluster

        cluster = Cluster()
        try:
            cluster.add_node(num_cpus=0, include_dashboard=False, **NODE)
            lost, _ = cluster.add_node(num_cpus=1, **NODE), cluster.add_node(num_cpus=1, **NODE)
            executor = Losing(cluster, lost, after=2)
            assert passed(crawled, executor, tmp_path / "ray") == here
        finally:
            cluster.shutdown()
    home = Home(tmp_path / "ray" / "home")
    again = fingerprint(home, crawled[1], use_cache=False)
    assert (again.n_read, again.n_kept) == (0, len(FAMILY))


class Losing:
    """A Ray executor that loses a machine after so many outcomes."""

    def __init__(self, cluster, node, after: int) -> None:
        self.cluster, self.node, self.after = cluster, node, after

    def map(self, setup, tasks):
        outcomes = RayExecutor(self.cluster.address).map(setup, tasks)
        for number, outcome in enumerate(outcomes, 1):
            yield outcome
            if number == self.after:
                self.cluster.remove_node(self.node, allow_graceful=False)


def test_executors_are_made_by_their_name():
    pytest.importorskip("ray", reason="Ray (herdbook[cluster]) is not installed")
    assert make_executor("local") == LocalExecutor()
    assert make_executor("local", 3) == LocalExecutor(3)
    assert make_executor("ray", 3, "head:6379", 0.5) == RayExecutor(
        "head:6379", num_gpus=0.5, actors=3
    )


@pytest.mark.parametrize("wish", [{"address": "auto"}, {"num_gpus": 1}])
def test_wishes_that_only_ray_can_grant_are_refused_here(wish):
    with pytest.raises(UsageError):
        make_executor("local", **wish)

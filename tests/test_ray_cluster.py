"""A Ray cluster of two machines (nodes of one here), of which one is lost in the midst of work."""

from __future__ import annotations

import os
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fake_work import Chore, Chores
from lineage.pipeline.executors import Done, RayExecutor
from ray_settings import NODE, prepare

pytestmark = pytest.mark.slow


@dataclass
class TwoNodes:
    """A head that does no work, and two nodes that can do two tasks each."""

    cluster: Any
    address: str

    def add(self) -> Any:
        return self.cluster.add_node(num_cpus=2, **NODE)

    def lose(self, node: Any) -> None:
        """All of the node's processes end at once, without a word to anybody."""
        self.cluster.remove_node(node, allow_graceful=False)


@pytest.fixture
def two_nodes(monkeypatch) -> Iterator[TwoNodes]:
    # Its sockets want a short path, and its address is kept from other clusters of this machine.
    with tempfile.TemporaryDirectory(prefix="hbray", ignore_cleanup_errors=True) as folder:
        prepare(monkeypatch, folder)
        from ray.cluster_utils import Cluster

        cluster = Cluster()
        try:
            cluster.add_node(num_cpus=0, include_dashboard=False, **NODE)
            yield TwoNodes(cluster, cluster.address)
        finally:
            cluster.shutdown()


def told(folder: Path, event: str) -> list[str]:
    return [path.read_text() for path in folder.glob(f"{event}.*")]


def everything_once(outcomes, tasks: list[Chore], folder: Path) -> None:
    assert Counter(o.task.name for o in outcomes) == Counter(t.name for t in tasks)
    assert all(isinstance(o, Done) and o.result == o.task.name.upper() for o in outcomes)
    assert {p.name for p in folder.glob("output.*")} == {f"output.{t.name}" for t in tasks}


def raylet(node: Any) -> str:
    """The process of a node that starts its workers."""
    return str(node.all_processes["raylet"][0].process.pid)


def alive(pid: str) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_everything_ends_once_when_a_machine_is_lost_in_the_midst(two_nodes, tmp_path):
    lost, kept = two_nodes.add(), two_nodes.add()
    tasks = [Chore(f"t{i:02}", seconds=0.3) for i in range(40)]
    outcomes = []
    for outcome in RayExecutor(two_nodes.address).map(Chores(tmp_path), tasks):
        outcomes.append(outcome)
        if len(outcomes) == 8:
            parents = Counter(told(tmp_path, "parent"))
            on_lost, on_kept = parents[raylet(lost)], parents[raylet(kept)]
            assert on_lost, "otherwise nothing is lost"
            assert on_kept, "otherwise nothing is left"
            two_nodes.lose(lost)
    everything_once(outcomes, tasks, tmp_path)
    attempts = len(told(tmp_path, "attempt"))
    assert len(tasks) < attempts <= len(tasks) + on_lost, (
        "only what the lost machine held is redone"
    )


def test_work_goes_on_when_a_lost_machine_is_replaced(two_nodes, tmp_path):
    only = two_nodes.add()
    tasks = [Chore(f"t{i:02}", seconds=0.2) for i in range(12)]
    outcomes = []
    for outcome in RayExecutor(two_nodes.address).map(Chores(tmp_path), tasks):
        outcomes.append(outcome)
        if len(outcomes) == 4:
            two_nodes.lose(only)
            two_nodes.add()
    everything_once(outcomes, tasks, tmp_path)


def test_everything_ends_once_when_workers_are_killed(two_nodes, tmp_path):
    two_nodes.add()
    two_nodes.add()
    tasks = [Chore(f"t{i:02}", seconds=0.3) for i in range(24)]
    outcomes = []
    for outcome in RayExecutor(two_nodes.address, actors=3).map(Chores(tmp_path), tasks):
        outcomes.append(outcome)
        if len(outcomes) in (3, 9):
            os.kill(int(min(filter(alive, told(tmp_path, "setup")))), signal.SIGKILL)
    everything_once(outcomes, tasks, tmp_path)
    assert len(told(tmp_path, "setup")) > 3, "the killed were replaced"


def test_the_cluster_outlives_the_work(two_nodes, tmp_path):
    two_nodes.add()
    for _ in range(2):
        assert len(list(RayExecutor(two_nodes.address).map(Chores(tmp_path), [Chore("a")]))) == 1
    import ray

    assert not ray.is_initialized()

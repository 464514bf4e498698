"""One suite of behaviour for all executors, and what only one of them can do."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fake_work import Chore, Chores, ChoreWork, wait_for
from lineage.errors import UsageError
from lineage.pipeline.executors import Done, ExecutorError, Failed, LocalExecutor, RayExecutor
from lineage.pipeline.executors import dispatch as dispatching
from lineage.pipeline.executors.answers import answered, reason_of, told_failure
from lineage.pipeline.executors.dispatch import Died, dispatch
from ray_settings import NODE, prepare


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """A Ray of this machine, for all tests of this module."""
    # Its sockets want a short path.
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="hbray", ignore_cleanup_errors=True) as folder,
    ):
        prepare(patch, folder)
        import ray

        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            **NODE,
        )
        yield
        ray.shutdown()


KINDS = [
    "in process",
    "processes",
    pytest.param("ray", marks=pytest.mark.slow),
]


@pytest.fixture(params=KINDS)
def executor(request):
    return executor_of(request)


@pytest.fixture(params=KINDS[1:])
def crew(request):
    """Executors whose workers may die without the driver."""
    return executor_of(request)


def executor_of(request):
    if request.param == "in process":
        return LocalExecutor()
    if request.param == "processes":
        return LocalExecutor(workers=2)
    request.getfixturevalue("ray_here")
    return RayExecutor()


def events(folder: Path, event: str) -> Counter[str]:
    return Counter(path.name.split(".")[1] for path in folder.glob(f"{event}.*"))


def pids(folder: Path, event: str = "setup") -> set[int]:
    return {int(path.read_text()) for path in folder.glob(f"{event}.*")}


def running(pid: int) -> bool:
    """Whether a process does anything still; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(processes: set[int], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while any(map(running, processes)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(running, processes))


# --- what all of them do


def test_every_task_has_its_outcome_once(executor, tmp_path):
    tasks = [Chore(f"t{i}") for i in range(12)]
    outcomes = list(executor.map(Chores(tmp_path), tasks))
    assert sorted((o.task.name, o.result) for o in outcomes) == sorted(
        (t.name, t.name.upper()) for t in tasks
    )
    assert events(tmp_path, "attempt") == Counter(t.name for t in tasks)
    assert {p.name for p in tmp_path.glob("output.*")} == {f"output.{t.name}" for t in tasks}


def test_a_task_that_raises_fails_alone_and_is_not_tried_again(executor, tmp_path):
    tasks = [Chore("a"), Chore("bad", "raise"), Chore("b"), Chore("c")]
    outcomes = {o.task.name: o for o in executor.map(Chores(tmp_path), tasks)}
    assert outcomes.pop("bad") == Failed(tasks[1], "ValueError: bad is odd", 1)
    assert outcomes == {t.name: Done(t, t.name.upper()) for t in tasks if t.does == "write"}
    assert events(tmp_path, "attempt")["bad"] == 1


def test_work_is_set_up_once_a_worker_and_closed(executor, tmp_path):
    list(executor.map(Chores(tmp_path), [Chore(f"t{i}", seconds=0.05) for i in range(8)]))
    workers, busy, closed = (pids(tmp_path, event) for event in ("setup", "attempt", "close"))
    assert 1 <= len(busy) <= len(workers) <= 2
    # One that is ready when everything is done may be sent away as it is.
    assert busy <= closed <= workers
    assert events(tmp_path, "setup").total() == len(workers)
    assert events(tmp_path, "close").total() == len(closed)


def test_without_tasks_nothing_is_started(executor, tmp_path):
    assert list(executor.map(Chores(tmp_path), [])) == []
    assert list(tmp_path.iterdir()) == []


def test_an_endless_list_of_tasks_is_taken_only_as_workers_are_free(executor, tmp_path):
    taken = itertools.count()
    chores = (Chore(f"t{next(taken)}") for _ in itertools.count())
    with closing(executor.map(Chores(tmp_path), chores)) as outcomes:
        assert len(list(itertools.islice(outcomes, 10))) == 10
    assert next(taken) <= 10 + 2 + 2  # told, told but not asked for yet, and with two workers


def test_a_set_up_that_fails_ends_it_and_says_why(executor, tmp_path):
    with pytest.raises(ExecutorError, match="cannot be set up: OSError: no such device"):
        list(executor.map(Chores(tmp_path, refuses=True), [Chore("a"), Chore("b")]))


def test_an_error_of_the_list_of_tasks_is_raised_and_workers_are_gone(executor, tmp_path):
    def chores() -> Iterator[Chore]:
        yield Chore("a")
        yield Chore("b")
        wait_for(tmp_path / "output.a")
        raise OSError("the list is torn")

    with pytest.raises(OSError, match="the list is torn"):
        list(executor.map(Chores(tmp_path), chores()))
    assert gone(pids(tmp_path) - {os.getpid()})


# --- what those with workers of their own do


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_the_task_of_a_worker_that_dies_is_done_by_another_one(crew, tmp_path, how):
    tasks = [Chore(f"t{i}") for i in range(4)] + [Chore("deadly", how, deaths=2)]
    outcomes = list(crew.map(Chores(tmp_path), tasks))
    assert Counter(o.task.name for o in outcomes) == Counter(t.name for t in tasks)
    assert all(isinstance(o, Done) for o in outcomes)
    attempts = events(tmp_path, "attempt")
    assert attempts.pop("deadly") == 3
    assert set(attempts.values()) == {1}, "only the task that the worker held is repeated"


def test_a_task_that_kills_every_worker_is_given_up_and_others_go_on(crew, tmp_path):
    tasks = [Chore("poison", "kill", deaths=99), *(Chore(f"t{i}") for i in range(6))]
    outcomes = {o.task.name: o for o in crew.map(Chores(tmp_path), tasks)}
    poison = outcomes.pop("poison")
    assert isinstance(poison, Failed)
    assert poison.reason.startswith("the worker died (")
    assert poison.attempts == 4
    assert len(outcomes) == 6
    assert all(isinstance(o, Done) for o in outcomes.values())
    attempts = events(tmp_path, "attempt")
    assert attempts.pop("poison") == 4
    assert set(attempts.values()) == {1}


def test_workers_that_die_of_their_set_up_end_it(crew, tmp_path):
    with pytest.raises(ExecutorError, match="4 workers in a row died while their work was set up"):
        list(crew.map(Chores(tmp_path, dies=True), [Chore("a"), Chore("b")]))


def test_a_result_that_cannot_be_sent_is_a_failure_of_its_task(crew, tmp_path):
    outcomes = {o.task.name: o for o in crew.map(Chores(tmp_path), [Chore("a", "lambda")])}
    assert isinstance(outcomes["a"], Failed)
    assert "pickle" in outcomes["a"].reason


def test_a_worker_that_died_while_it_had_nothing_to_do_is_replaced(crew, tmp_path):
    def chores() -> Iterator[Chore]:
        yield Chore("a")
        yield Chore("b")
        for name in "ab":
            wait_for(tmp_path / f"output.{name}")
        for pid in filter(running, pids(tmp_path)):
            os.kill(pid, signal.SIGKILL)
        assert gone(pids(tmp_path))
        yield Chore("c")

    outcomes = list(crew.map(Chores(tmp_path), chores()))
    assert sorted(o.task.name for o in outcomes if isinstance(o, Done)) == ["a", "b", "c"]


def test_tasks_end_in_any_order(crew, tmp_path):
    outcomes = crew.map(Chores(tmp_path), [Chore("slow", "wait"), Chore("quick")])
    with closing(outcomes):
        assert next(outcomes).task.name == "quick"
        (tmp_path / "gate").touch()
        assert next(outcomes).task.name == "slow"


def test_closing_the_outcomes_stops_work_where_it_is(crew, tmp_path):
    outcomes = crew.map(Chores(tmp_path), [Chore("slow", "wait"), Chore("quick")])
    next(outcomes)
    outcomes.close()
    assert gone(pids(tmp_path))
    assert not (tmp_path / "output.slow").exists()


def test_ctrl_c_stops_work_and_leaves_no_worker(crew, tmp_path):
    tasks = [Chore(f"t{i}", "wait") for i in range(4)]

    def interrupt() -> None:
        while not events(tmp_path, "attempt"):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        list(crew.map(Chores(tmp_path), tasks))
    thread.join()
    assert gone(pids(tmp_path))
    assert not list(tmp_path.glob("output.*"))


# --- in this process


class Ahead:
    """Work that notes in which order it is told of tasks and given them."""

    def __init__(self):
        self.told = []

    def expect(self, task):
        self.told.append(("expect", task))

    def __call__(self, task):
        self.told.append(("do", task))
        return task

    def close(self):
        self.told.append(("close", None))


def test_work_that_looks_ahead_is_told_of_one_task_more_than_it_has():
    work, tasks = Ahead(), iter(range(10))
    outcomes = LocalExecutor().map(lambda: work, tasks)
    assert next(outcomes).result == 0
    assert work.told == [("expect", 1), ("do", 0)]
    assert next(outcomes).result == 1
    assert next(tasks) == 3
    outcomes.close()
    assert work.told[2:] == [("expect", 2), ("do", 1), ("close", None)]


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_work_that_looks_ahead_does_every_task_once(n):
    work = Ahead()
    assert [o.result for o in LocalExecutor().map(lambda: work, range(n))] == list(range(n))
    assert [task for what, task in work.told if what == "do"] == list(range(n))
    assert [task for what, task in work.told if what == "expect"] == list(range(1, n))
    assert work.told[-1:] == [("close", None)][:n]


def test_one_local_worker_is_this_process(tmp_path):
    list(LocalExecutor().map(Chores(tmp_path), [Chore("a")]))
    assert pids(tmp_path) == {os.getpid()}


def test_work_in_this_process_is_closed_when_it_is_interrupted(tmp_path):
    class Interrupted(ChoreWork):
        def __call__(self, task: Chore) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(LocalExecutor().map(lambda: Interrupted(tmp_path), [Chore("a")]))
    assert events(tmp_path, "close").total() == 1


def test_there_is_at_least_one_worker():
    with pytest.raises(UsageError, match="at least one worker"):
        LocalExecutor(workers=0)


# --- in processes


def test_workers_end_when_their_driver_is_killed(tmp_path):
    program = (
        "from fake_work import *; from lineage.pipeline.executors import LocalExecutor\n"
        "if __name__ == '__main__':\n"
        f"    tasks = [Chore('quick'), Chore('slow', seconds=1), Chore('slow2', seconds=1)]\n"
        f"    for _ in LocalExecutor(2).map(Chores(Path({str(tmp_path)!r})), tasks): pass\n"
    )
    script = tmp_path / "driver.py"
    script.write_text(program)
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parent.parent)])
    driver = subprocess.Popen([sys.executable, script], env=os.environ | {"PYTHONPATH": path})
    wait_for(tmp_path / "output.quick")
    driver.kill()
    driver.wait()
    assert gone(pids(tmp_path))


def test_ctrl_c_in_a_terminal_which_workers_get_too_is_left_to_the_driver(tmp_path):
    outcomes = LocalExecutor(workers=2).map(
        Chores(tmp_path), [Chore("slow", "wait"), Chore("quick")]
    )
    next(outcomes)
    for pid in pids(tmp_path):
        os.kill(pid, signal.SIGINT)
    (tmp_path / "gate").touch()
    assert [o.result for o in outcomes] == ["SLOW"]
    assert events(tmp_path, "attempt")["slow"] == 1


@pytest.mark.parametrize(("how", "end"), [("kill", "signal 9"), ("exit", "exit code 3")])
def test_it_is_told_how_a_process_died(tmp_path, how, end):
    executor = LocalExecutor(workers=2, max_retries=0)
    (outcome,) = executor.map(Chores(tmp_path), [Chore("a", how, deaths=9)])
    assert outcome == Failed(Chore("a", how, deaths=9), f"the worker died ({end})", 1)


# --- the dispatcher, with workers that are told what to say


class ScriptedWorker:
    def __init__(self, *answers: bytes | Died) -> None:
        self.answers = [answered(lambda: None), *answers]
        self.killed = self.closed = False
        self.time_to_close_s = 0.0

    def hand(self, task: bytes) -> None: ...

    def close(self) -> None:
        self.closed = True

    def kill(self, after_s: float = 0) -> None:
        self.killed, self.time_to_close_s = True, after_s


class ScriptedCrew:
    def __init__(self, *workers: ScriptedWorker) -> None:
        self.workers, self.hired = list(workers), 0

    def hire(self) -> ScriptedWorker:
        self.hired += 1
        return self.workers[self.hired - 1]

    def wait(self, workers, timeout_s):
        assert workers, "waiting for nobody takes for ever"
        talking = [worker for worker in workers if worker.answers]
        return [(worker, worker.answers.pop(0)) for worker in talking]


def test_a_dead_worker_is_made_sure_of_and_replaced():
    lost, other = ScriptedWorker(Died("the worker died")), ScriptedWorker(answered(lambda: 5))
    crew = ScriptedCrew(lost, other)
    (outcome,) = dispatch(crew, ["a"], n_workers=1, max_retries=1)
    assert outcome == Done("a", 5)
    assert lost.killed


def test_workers_are_given_time_to_close_only_when_all_is_done():
    done = ScriptedWorker(answered(lambda: 1))
    list(dispatch(ScriptedCrew(done), ["a"], n_workers=1, max_retries=0))
    assert (done.closed, done.time_to_close_s) == (True, 10)
    stopped = ScriptedWorker(answered(lambda: 1))
    outcomes = dispatch(ScriptedCrew(stopped), ["a", "b"], n_workers=1, max_retries=0)
    next(outcomes)
    outcomes.close()
    assert (stopped.closed, stopped.killed, stopped.time_to_close_s) == (False, True, 0)


def test_only_deaths_in_a_row_while_being_set_up_end_the_work():
    stillborn, late = ScriptedWorker(), ScriptedWorker()
    stillborn.answers = [Died("the worker died")]
    late.answers = [Died("the worker died")]
    mortal = ScriptedWorker(Died("the worker died"))
    crew = ScriptedCrew(stillborn, mortal, late, ScriptedWorker(answered(lambda: 4)))
    assert list(dispatch(crew, ["a"], n_workers=1, max_retries=1)) == [Done("a", 4)]


def test_patience_begins_anew_when_the_last_worker_is_lost(monkeypatch):
    now = itertools.count(0, 4)
    monkeypatch.setattr(dispatching.time, "monotonic", lambda: next(now))
    busy = ScriptedWorker(*(answered(lambda: 1) for _ in range(9)), Died("the worker died"))
    crew = ScriptedCrew(busy, ScriptedWorker(answered(lambda: 2)))
    outcomes = dispatch(crew, range(10), n_workers=1, max_retries=1, patience_s=10)
    for _ in itertools.islice(outcomes, 9):
        next(now)
    assert next(outcomes) == Done(9, 2)


def test_a_worker_that_never_comes_is_not_waited_for_for_ever():
    silent = ScriptedWorker()
    silent.answers.clear()
    with pytest.raises(ExecutorError, match="there was no worker for 0 s"):
        list(dispatch(ScriptedCrew(silent), ["a"], n_workers=1, max_retries=0, patience_s=0))
    assert silent.killed


def test_no_more_workers_are_started_than_there_are_tasks():
    crew = ScriptedCrew(*(ScriptedWorker(answered(lambda: 1)) for _ in range(9)))
    assert len(list(dispatch(crew, ["a", "b"], n_workers=9, max_retries=0))) == 2
    assert crew.hired == 2


def test_an_answer_that_cannot_be_read_is_a_failure():
    assert told_failure(b"\x80garbage").startswith("the answer cannot be read: ")
    (outcome,) = dispatch(ScriptedCrew(ScriptedWorker(b"")), ["a"], n_workers=1, max_retries=0)
    assert isinstance(outcome, Failed)


def test_reasons_are_one_bounded_line_without_colours():
    assert reason_of(ValueError("\x1b[36mblue\x1b[39m\n  sea")) == "ValueError: blue sea"
    assert reason_of(KeyboardInterrupt()) == "KeyboardInterrupt"
    assert len(reason_of(ValueError("x" * 9_999))) == 2_000


# --- Ray alone


def test_without_ray_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'herdbook\[cluster\]'"):
        RayExecutor()


@pytest.fixture
def with_ray():
    pytest.importorskip("ray", reason="Ray (herdbook[cluster]) is not installed")


@pytest.mark.usefixtures("with_ray")
class TestRayAlone:
    @pytest.mark.parametrize(
        "wrong", [{"num_cpus": 0}, {"num_gpus": -1}, {"actors": 0}], ids=lambda w: next(iter(w))
    )
    def test_numbers_that_make_no_sense_are_refused(self, wrong):
        with pytest.raises(UsageError):
            RayExecutor(**wrong)

    def test_an_address_where_nobody_listens_is_told_soon(self, tmp_path):
        with pytest.raises(ExecutorError, match=r"127\.0\.0\.1:1 cannot be reached"):
            list(RayExecutor("127.0.0.1:1").map(Chores(tmp_path), [Chore("a")]))

    @pytest.mark.parametrize("address", ["head", "head:", ":6379", "head:x"])
    def test_an_address_without_a_port_is_refused(self, tmp_path, address):
        with pytest.raises(UsageError, match="host:port"):
            list(RayExecutor(address).map(Chores(tmp_path), [Chore("a")]))

    @pytest.mark.slow
    @pytest.mark.usefixtures("ray_here")
    def test_gpus_that_the_cluster_lacks_are_told(self, tmp_path):
        with pytest.raises(ExecutorError, match=r"0\.5 GPUs: all 1 together have .* and 0 GPUs"):
            list(RayExecutor(num_gpus=0.5).map(Chores(tmp_path), [Chore("a")]))

    @pytest.mark.slow
    @pytest.mark.usefixtures("ray_here")
    def test_room_that_does_not_come_ends_the_patience(self, tmp_path):
        executor = RayExecutor(num_gpus=1, actors=1, patience_s=0.5)
        with pytest.raises(ExecutorError, match="there was no worker"):
            list(executor.map(Chores(tmp_path), [Chore("a")]))

    @pytest.mark.slow
    @pytest.mark.usefixtures("ray_here")
    def test_a_ray_that_was_there_is_left_open(self, tmp_path):
        import ray

        assert len(list(RayExecutor().map(Chores(tmp_path), [Chore("a")]))) == 1
        assert ray.is_initialized()

    @pytest.mark.slow
    @pytest.mark.usefixtures("ray_here")
    def test_another_cluster_than_the_connected_one_is_not_taken_for_it(self, tmp_path):
        with pytest.raises(ExecutorError, match="has a connection to Ray"):
            list(RayExecutor("auto").map(Chores(tmp_path), [Chore("a")]))

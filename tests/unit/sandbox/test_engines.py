"""Tasks that crash, hang or eat memory are outcomes; the others never notice."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from brainage.errors import ConfigError, MissingExtraError
from brainage.sandbox.engines import Engine, run_tasks
from brainage.sandbox.parent import Child, Limits

DOUBLE, MISBEHAVE, SLOW = (f"tests.child_tasks:{name}" for name in ("double", "misbehave", "slow"))
QUICK = Limits(memory_mb=1024, seconds=120.0)


@pytest.mark.parametrize("engine", [Engine(limits=QUICK), Engine("processes", 2, limits=QUICK)])
def test_every_task_has_one_outcome_at_its_position(engine):
    outcomes = dict(run_tasks(DOUBLE, [{"value": n} for n in range(7)], engine))
    assert {n: outcome.result["value"] for n, outcome in outcomes.items()} == {
        n: 2 * n for n in range(7)
    }


def test_a_child_is_used_again():
    outcomes = dict(run_tasks(DOUBLE, [{"value": n} for n in range(4)], Engine(limits=QUICK)))
    assert len({outcome.result["pid"] for outcome in outcomes.values()}) == 1


def test_crashes_are_outcomes_and_the_tasks_around_them_are_done():
    kinds = ["fine", "segfault", "kill", "exit", "greed", "raise", "well"]
    engine = Engine("processes", 2, limits=QUICK)
    outcomes = dict(run_tasks(MISBEHAVE, [{"kind": kind} for kind in kinds], engine))
    assert [outcomes[n].problem for n in range(len(kinds))] == [
        "",
        "its process crashed (SIGSEGV)",
        "its process was killed (SIGKILL), most likely for want of memory",
        "its process ended early (exit status 7)",
        "needed more memory than it may have",
        "unexpected RuntimeError: no such tissue",
        "",
    ]


def test_a_task_that_hangs_is_stopped():
    child = Child(Limits(seconds=1.0))
    assert child.run(MISBEHAVE, {"kind": "hang"}).problem == (
        "did not end within 1 s and was stopped"
    )
    child._limits = QUICK  # a busy machine may need more than a second for a good task
    assert child.run(MISBEHAVE, {"kind": "fine"}).result == {"value": "fine"}
    child.close()


def test_a_child_dies_with_its_parent(tmp_path: Path):
    mark = tmp_path / "mark"
    script = (
        "from brainage.sandbox.parent import *;"
        f"Child(Limits()).run({SLOW!r}, dict(mark={str(mark)!r}, seconds=50, value=1))"
    )
    parent = subprocess.Popen([sys.executable, "-c", script])
    wait_for(lambda: mark.exists() and mark.read_text())
    assert int(mark.read_text()) == parent.pid
    group = children_of(parent.pid)
    parent.kill()
    parent.wait()
    wait_for(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in group))


def test_dask_without_a_scheduler_is_one_line():
    with pytest.raises(ConfigError, match="needed by --engine dask"):
        list(run_tasks(DOUBLE, [{"value": 1}], Engine("dask")))


def test_dask_that_is_not_installed_is_one_line(monkeypatch):
    monkeypatch.setattr("brainage.extras.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="cluster"):
        list(run_tasks(DOUBLE, [{"value": 1}], Engine("dask", scheduler="tcp://127.0.0.1:1")))


@pytest.fixture(scope="module")
def cluster():
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as local:
        yield local


def test_a_killed_dask_worker_loses_no_task(cluster, tmp_path: Path):
    marks = [tmp_path / str(n) for n in range(6)]
    tasks = [{"mark": str(mark), "seconds": 0.5, "value": n} for n, mark in enumerate(marks)]

    def kill_first() -> None:
        wait_for(lambda: marks[0].exists() and marks[0].read_text())
        os.kill(int(marks[0].read_text().split()[0]), signal.SIGKILL)

    killer = threading.Thread(target=kill_first)
    killer.start()
    engine = Engine("dask", scheduler=cluster.scheduler_address, limits=QUICK)
    outcomes = dict(run_tasks(SLOW, tasks, engine))
    killer.join()
    assert [outcomes[n].result for n in range(6)] == [{"value": n} for n in range(6)]
    assert len(marks[0].read_text().split()) == 2, "the task of the killed worker was not repeated"


def test_a_crash_under_dask_is_an_outcome_and_spares_the_worker(cluster):
    engine = Engine("dask", scheduler=cluster.scheduler_address, limits=QUICK)
    workers = set(cluster.scheduler_info["workers"])
    outcomes = dict(run_tasks(MISBEHAVE, [{"kind": "segfault"}, {"kind": "fine"}], engine))
    assert outcomes[0].problem == "its process crashed (SIGSEGV)"
    assert outcomes[1].result == {"value": "fine"}
    assert set(cluster.scheduler_info["workers"]) == workers


def wait_for(condition, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]

"""The line of predictions, with a task that takes no time instead of a scan."""

import gzip
import os
import time

import pytest

import brainage.serving.service as module
from brainage.sandbox.parent import Limits
from brainage.serving.service import Service, ServiceFullError, suffix_of
from brainage.serving.settings import ServerLimits


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not come true"
        time.sleep(0.05)


@pytest.fixture
def service(monkeypatch):
    monkeypatch.setattr(module, "TASK", "tests.child_tasks:app_task")
    limits = ServerLimits(waiting=3, away_s=0.5, predictions=1, child=Limits(2048, 60.0))
    made = Service(limits)
    yield made
    made.close()


def submit(service, seconds=0.0, alive=lambda: True):
    return service.submit(b"\x1f\x8b", {"seconds": seconds}, alive)


def test_job_gives_its_files_and_leaves_no_folder(service):
    job = submit(service)
    wait_for(lambda: job.finished)
    assert job.state == "done"
    assert job.result == {"verdict": "ok"}
    wait_for(lambda: not job.folder.exists())
    assert "scan.nii.gz" not in job.files


@pytest.mark.parametrize(
    "content", [b"these are words", gzip.compress(b"words", mtime=0), b"\x89PNG"]
)
def test_what_is_no_scan_never_stands_in_the_line(content, service):
    submit(service, 30.0)
    job = service.submit(content, {"seconds": 30.0}, lambda: True)
    assert job.state == "refused" and "DICOM" in job.reason and service.place(job) == 0


def test_jobs_wait_in_order_and_know_their_place(service):
    first = submit(service, 30.0)
    wait_for(lambda: first.state == "running")
    others = [submit(service), submit(service)]
    assert [service.place(job) for job in others] == [1, 2]
    service.cancel(first)
    wait_for(lambda: all(job.state == "done" for job in others))


def test_task_of_a_moment_goes_to_the_front(service):
    first = submit(service, 30.0)
    wait_for(lambda: first.state == "running")
    scan = submit(service)
    look = service.submit(b"PK", {"seconds": 0.0}, lambda: True, "tests.child_tasks:app_task")
    assert [service.place(job) for job in (look, scan)] == [1, 2]
    service.cancel(first)


def test_line_that_is_full_says_so(service):
    first = submit(service, 30.0)
    wait_for(lambda: first.state == "running")
    for _ in range(3):
        submit(service)
    with pytest.raises(ServiceFullError):
        submit(service)


def test_cancelled_job_stops_at_once_and_the_next_is_answered(service):
    job, following = submit(service, 60.0), submit(service)
    wait_for(lambda: job.state == "running")
    service.cancel(job)
    wait_for(lambda: following.state == "done", 40.0)
    assert job.state == "cancelled"
    assert not job.folder.exists()


def test_job_of_a_closed_page_is_stopped(service):
    job = submit(service, 60.0, alive=lambda: False)
    wait_for(lambda: job.state == "cancelled", 30.0)
    wait_for(lambda: service.counts() == (0, 0))


def test_content_decides_the_suffix():
    assert suffix_of(b"\x1f\x8b...") == ".nii.gz"
    assert suffix_of(b"PK\x03\x04") == ".zip"
    assert suffix_of(bytes(128) + b"DICM") == ".dcm"
    assert suffix_of(b"text") == ".nii"


def test_what_a_killed_server_left_is_deleted_and_what_a_living_one_has_is_not(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    dead, living = tmp_path / "brainage-app-4194304-x", tmp_path / f"brainage-app-{os.getpid()}-y"
    for folder in (dead, living):
        (folder / "tmp1").mkdir(parents=True)
    Service(ServerLimits(predictions=0)).close()
    assert not dead.exists() and living.exists()

"""A study's way through the node: results under its own patient, or a line that says why not."""

import threading
from dataclasses import replace

import pydicom
import pytest
from pydicom.uid import generate_uid

pytest.importorskip("pynetdicom")

from brainage.errors import BrainageError
from brainage.node import service
from brainage.node.service import run_node
from brainage.node.spool import Spool, code
from tests.dicom_helpers import SECRETS, write_series
from tests.node_helpers import (
    FAKE,
    HEAD,
    QUICK,
    Archive,
    call,
    make_study,
    read_ledger,
    send,
    settings_for,
    wait_for,
)

WAITS_LONG = replace(QUICK, quiet_s=3600.0)


class Stand:
    """A node with an archive, and what it told."""

    def __init__(self, folder):
        self.queue, self.told = folder / "queue", []
        self.archive = Archive()
        self.running = run_node(settings_for(self.queue, self.archive.port), self.told.append)
        self.node = self.running.__enter__()

    def deliver(self, files):
        assert set(send(self.node.port, files)) == {0}

    def line(self, study_uid):
        return wait_for(
            lambda: [one for one in read_ledger(self.queue) if one["study"] == code(study_uid)]
        )[0]

    def close(self):
        self.running.__exit__(None, None, None)
        self.archive.close()


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    made = Stand(tmp_path_factory.mktemp("stand"))
    yield made
    made.close()


def test_study_gets_one_report_and_one_pdf_of_its_own_patient(stand, tmp_path):
    uid, files = make_study(tmp_path / "a", "P1", PatientName="Same^Name")
    other, more = make_study(tmp_path / "b", "P2", PatientName="Same^Name")
    stand.deliver([*files, *more])
    for study, patient in ((uid, "P1"), (other, "P2")):
        line = stand.line(study)
        assert (line["outcome"], line["objects"], line["results"]) == ("sent", "24", "2")
        came = stand.archive.of(study)
        assert sorted(one.Modality for one in came) == ["DOC", "SR"]
        assert {one.PatientID for one in came} == {patient}
    for name in ("incoming", "working", "outgoing"):
        wait_for(lambda name=name: not list((stand.queue / name).iterdir()))


@pytest.mark.slow
def test_study_that_comes_again_gives_the_same_objects(stand, tmp_path):
    uid, files = make_study(tmp_path)
    stand.deliver(files)
    stand.line(uid)
    stand.deliver(files)
    wait_for(lambda: len(stand.archive.of(uid)) == 4)
    assert len({one.SOPInstanceUID for one in stand.archive.of(uid)}) == 2


def test_best_of_several_t1_is_taken_also_with_equal_numbers(stand, tmp_path):
    uid, files = make_study(tmp_path / "a", description="MPRAGE Gd", number=3)
    _, best = make_study(tmp_path / "b", StudyInstanceUID=uid, number=3)
    stand.deliver([*files, *best])
    line = stand.line(uid)
    assert line["outcome"] == "sent" and "best of 2" in line["reason"]
    series = pydicom.dcmread(best[0]).SeriesInstanceUID
    wanted = {generate_uid(entropy_srcs=[series, one.SOPClassUID, "o"]) for one in
              stand.archive.of(uid)}  # fmt: skip
    assert {one.SOPInstanceUID for one in stand.archive.of(uid)} == wanted


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"description": "t2_tse", "EchoTime": 90.0}, "not T1-weighted"),
        ({"skip": (5, 6)}, "missing"),
        ({"Modality": "CT"}, "CT"),
        ({"Rows": 400}, "damaged"),
    ],
    ids=["t2", "gap", "ct", "cut"],
)
def test_study_without_a_usable_t1_is_a_line_and_nothing_else(stand, tmp_path, changes, word):
    uid, files = make_study(tmp_path, **changes)
    stand.deliver(files)
    line = stand.line(uid)
    assert line["outcome"] == "refused" and word in line["reason"]
    assert not stand.archive.of(uid)


@pytest.mark.slow
def test_study_of_two_patients_is_refused_also_by_an_object_that_is_no_image(stand, tmp_path):
    uid, files = make_study(tmp_path / "a", "P1")
    _, more = make_study(tmp_path / "b", "P2", StudyInstanceUID=uid)
    stand.deliver([*files, *more[:1]])
    assert "more than one patient" in stand.line(uid)["reason"]
    uid, files = make_study(tmp_path / "c", "P1")
    _, more = make_study(tmp_path / "d", "P2", StudyInstanceUID=uid)
    header = pydicom.dcmread(more[0])
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.34"
    del header.PixelData, header.Rows, header.Columns
    header.save_as(more[0], enforce_file_format=True)
    stand.deliver([*files, more[0]])
    assert "more than one patient" in stand.line(uid)["reason"]
    assert not stand.archive.of(uid)


def test_results_that_are_routed_back_are_not_measured_again(stand, tmp_path):
    uid, files = make_study(tmp_path, Manufacturer="The brainage developers")
    stand.deliver(files)
    assert not (stand.queue / "incoming" / code(uid)).exists()


@pytest.mark.slow
def test_study_that_broke_off_is_refused_once_its_sender_had_time(stand, tmp_path):
    uid, files = make_study(tmp_path)
    with call(stand.node.port) as association:
        for path in files[:20]:
            association.send_c_store(pydicom.dcmread(path))
        association.abort()
    line = stand.line(uid)
    assert line["outcome"] == "refused" and "broke off" in line["reason"]


@pytest.mark.slow
def test_log_and_ledger_hold_nothing_of_a_patient(stand, tmp_path):
    uid = "1.2.826.0.1.3680043.9.9"
    good = write_series(
        tmp_path / "a", HEAD, StudyInstanceUID=uid, description="T1 SECRETNAME PID99887766"
    )
    bad = write_series(
        tmp_path / "b", HEAD, StudyInstanceUID=uid + ".1", description="t2 SECRETNAME",
        Modality="OT", PixelSpacing=[1, 2],
    )  # fmt: skip
    stand.deliver([*good, *bad])
    assert stand.line(uid)["outcome"] == "sent"
    assert stand.line(uid + ".1")["outcome"] == "refused"
    said = "\n".join(stand.told) + (stand.queue / "ledger.csv").read_text()
    assert code(uid) in said
    assert not [mark for mark in (*SECRETS, uid) if mark in said]


@pytest.mark.slow
def test_results_wait_for_an_archive_that_is_down_or_full(tmp_path):
    archive = Archive()
    archive.status = 0xA700
    uid, files = make_study(tmp_path / "a")
    told = []
    with run_node(settings_for(tmp_path / "queue", archive.port), told.append) as node:
        send(node.port, files)
        wait_for(lambda: any("has no room" in line for line in told))
        assert not read_ledger(tmp_path / "queue")
    archive.status = 0
    # The next start goes on.
    with run_node(settings_for(tmp_path / "queue", archive.port), told.append):
        wait_for(lambda: read_ledger(tmp_path / "queue"))
    archive.close()
    assert len(archive.of(uid)) == 2


@pytest.mark.slow
def test_results_that_the_archive_does_not_want_are_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(service, "_LONGEST_WAIT_S", 0.01)
    monkeypatch.setattr(service, "_SHORTEST_WAIT_S", 0.01)
    archive = Archive()
    archive.status = 0xA900
    _, files = make_study(tmp_path / "a")
    with run_node(settings_for(tmp_path / "queue", archive.port), str) as node:
        send(node.port, files)
        line = wait_for(lambda: read_ledger(tmp_path / "queue"))[0]
    archive.close()
    assert (line["outcome"], line["results"]) == ("unsent", "0") and "A900" in line["reason"]
    assert not list((tmp_path / "queue" / "outgoing").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "word"),
    [("tests.child_tasks:misbehave", "unexpected KeyError"), (FAKE + "_at_all", "AttributeError")],
)
def test_what_the_child_dies_of_is_a_line_without_its_words(tmp_path, task, word):
    _, files = make_study(tmp_path / "a")
    with run_node(settings_for(tmp_path / "queue", 9, task=task), str) as node:
        send(node.port, files)
        line = wait_for(lambda: read_ledger(tmp_path / "queue"))[0]
    assert line["outcome"] == "broken" and word in line["reason"]
    assert "kind" not in line["reason"] and "nothing_at_all" not in line["reason"]


def test_study_that_ends_the_node_again_and_again_is_given_up(tmp_path):
    spool = Spool(tmp_path / "queue", QUICK)
    with spool.hold():
        (spool.working / "ab-1").mkdir()
        (spool.working / "ab-1" / "whole").touch()
        for _ in range(3):
            spool.begin("ab-1")
    with run_node(settings_for(tmp_path / "queue", 9), str):
        line = wait_for(lambda: read_ledger(tmp_path / "queue"))[0]
    assert line["outcome"] == "broken" and "3 times" in line["reason"]


@pytest.mark.slow
def test_full_disk_postpones_and_is_no_outcome(tmp_path, monkeypatch):
    _, files = make_study(tmp_path / "a")
    archive, told = Archive(), []
    with run_node(settings_for(tmp_path / "queue", archive.port), told.append) as node:
        send(node.port, files)
        free = [0]
        monkeypatch.setattr(Spool, "free_bytes", lambda self: free[0])
        wait_for(lambda: any("disk is full" in line for line in told))
        assert not read_ledger(tmp_path / "queue")
        free[0] = 2**40
        line = wait_for(lambda: read_ledger(tmp_path / "queue"))[0]
    archive.close()
    assert line["outcome"] == "sent"


def test_queue_is_of_one_node_and_a_port_of_one_server(tmp_path):
    with run_node(settings_for(tmp_path / "queue", 9, limits=WAITS_LONG), str) as node:
        with pytest.raises(BrainageError, match="--queue"):
            run_node(settings_for(tmp_path / "queue", 9), str).__enter__()
        own = {"own_port": node.port}
        with pytest.raises(BrainageError, match="--port"):
            run_node(settings_for(tmp_path / "other", 9, **own), str).__enter__()


def test_node_leaves_no_thread_and_no_child(tmp_path):
    before = set(threading.enumerate())
    node = run_node(settings_for(tmp_path / "queue", 9, limits=WAITS_LONG), str)
    with node as running, call(running.port) as association:
        assert association.is_established
    wait_for(lambda: not [one for one in threading.enumerate() if one not in before], 20)
    assert not list((tmp_path / "queue" / "incoming").iterdir())

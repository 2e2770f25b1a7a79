"""Who may send what: peers, titles, sizes, room, and a disk that is full."""

import errno
import os
import socket
import subprocess
import time
from dataclasses import replace

import pydicom
import pytest
from pydicom.uid import generate_uid

pytest.importorskip("pynetdicom")

from brainage.node import limits, spool
from brainage.node.intake import MISMATCH, NO_ROOM, SUCCESS, UNREADABLE
from brainage.node.peers import Certificates
from brainage.node.receive import Listening, Receiver
from brainage.node.spool import Spool, code
from tests.node_helpers import PEERS, QUICK, call, make_study, send, send_bytes, wait_for

LIMITS = replace(QUICK, associations=2, object_mb=1, study_mb=2, queue_mb=3, idle_s=1.0)


class Stand:
    """A receiver with its queue, and what it told."""

    def __init__(self, folder, limits=LIMITS, peers=PEERS, certificates=None):
        self.told = []
        self.spool = Spool(folder / "queue", limits)
        self.held = self.spool.hold()
        self.held.__enter__()
        where = Listening("BRAINAGE", "127.0.0.1", 0, peers, certificates or Certificates())
        self.receiver = Receiver(where, self.spool, limits, self.told.append)
        self.port = self.receiver.port

    def files(self):
        found = (path for path in self.spool.folder.rglob("*") if path.is_file())
        return [path for path in found if path.parent.name != "lost"]

    def objects(self):
        return list(self.spool.incoming.glob("*/objects/*.dcm"))

    def close(self):
        self.receiver.close()
        self.held.__exit__(None, None, None)


@pytest.fixture
def stand(tmp_path):
    made = Stand(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("study"))


def test_echo_is_answered(stand):
    with call(stand.port) as association:
        assert association.send_c_echo().Status == SUCCESS


@pytest.mark.parametrize(
    ("calling", "called"), [("STRANGER", "BRAINAGE"), ("SCANNER", "ANOTHER"), ("OTHER", "BRAINAGE")]
)
def test_strangers_are_rejected_also_a_known_title_from_another_address(stand, calling, called):
    with call(stand.port, calling, called) as association:
        assert association.is_rejected and not association.is_established


def test_address_of_no_peer_is_hung_up_on(tmp_path):
    stand = Stand(tmp_path, peers=PEERS[1:])
    try:
        with socket.create_connection(("127.0.0.1", stand.port), 5) as connection:
            assert connection.recv(1) == b""
        assert any("127.0.0.1" in line for line in stand.told)
    finally:
        stand.close()


def test_associations_beyond_the_limit_are_rejected(stand):
    with call(stand.port) as first, call(stand.port) as second, call(stand.port) as third:
        assert first.is_established and second.is_established
        assert third.is_rejected
    wait_for(lambda: not stand.receiver._server.active_associations)
    with call(stand.port) as again:
        assert again.is_established


def test_connections_that_say_nothing_make_room_again(stand):
    silent = [socket.create_connection(("127.0.0.1", stand.port), 5) for _ in range(30)]
    try:
        wait_for(lambda: send_echo(stand.port), 10)
    finally:
        for one in silent:
            one.close()


def send_echo(port):
    with call(port) as association:
        return association.is_established


def test_whole_delivery_is_on_disk_and_marked(stand, study):
    uid, files = study
    assert set(send(stand.port, files)) == {SUCCESS}
    folder = stand.spool.incoming / code(uid)
    assert len(stand.objects()) == len(files)
    wait_for(lambda: stand.spool.take() or (folder / "whole").exists())
    kept = sorted(pydicom.dcmread(path).SOPInstanceUID for path in stand.objects() or files)
    assert kept == sorted(pydicom.dcmread(path).SOPInstanceUID for path in files)


def test_object_sent_twice_is_kept_once(stand, study):
    _, files = study
    assert send(stand.port, [files[0], files[0], files[0]]) == [SUCCESS] * 3
    assert len(stand.objects()) == 1


def test_object_under_a_wrong_uid_is_refused(stand, study):
    header = pydicom.dcmread(study[1][0])
    with call(stand.port) as association:
        content = header_bytes(header)
        assert send_bytes(association, content, str(generate_uid())) == MISMATCH
        assert send_bytes(association, b"\x08\0\x16\0UI\x02\x001", "1.2.3") == UNREADABLE
        assert send_bytes(association, content, str(header.SOPInstanceUID)) == SUCCESS
    assert len(stand.objects()) == 1


def header_bytes(header):
    from pynetdicom.dsutils import encode

    return encode(header, False, True)


def test_object_study_and_queue_have_their_limits(stand, tmp_path):
    uid = str(generate_uid())
    files = []
    for number in range(4):
        folder = tmp_path / str(number)
        study_uid = uid if number < 3 else None
        _, made = make_study(folder, StudyInstanceUID=study_uid, PixelData=b"\0" * 900_000)
        files.append(made[0])
    # 0.9 MB each: two fill the study, a third study fits into the queue, then nothing does.
    assert send(stand.port, files) == [SUCCESS, SUCCESS, NO_ROOM, SUCCESS]
    _, more = make_study(tmp_path / "more", PixelData=b"\0" * 900_000)
    assert send(stand.port, more[:1]) == [NO_ROOM]
    assert len(stand.objects()) == 3


def test_object_that_is_too_large_costs_the_association(stand, tmp_path):
    _, files = make_study(tmp_path, PixelData=b"\0" * 4_000_000)
    with call(stand.port) as association:
        association.send_c_store(pydicom.dcmread(files[0]))
        wait_for(lambda: not association.is_established)
    assert not stand.objects()
    assert send_echo(stand.port)


def test_full_disk_is_answered_as_out_of_resources_and_leaves_nothing(stand, study, monkeypatch):
    uid, files = study
    real, calls = os.fsync, []

    def fsync(descriptor):
        calls.append(descriptor)
        if 3 <= len(calls) <= 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    answers = send(stand.port, files)
    assert answers == [SUCCESS] * 2 + [NO_ROOM] * 3 + [SUCCESS] * (len(files) - 5)
    assert len(stand.files()) == len(files) - 3 + 1  # and the lock
    # What was lost makes the study no whole one, until it comes.
    time.sleep(0.5)
    assert not stand.spool.take() and not (stand.spool.incoming / code(uid) / "whole").exists()
    send(stand.port, files[2:5])
    assert wait_for(stand.spool.take)


def test_disk_space_that_shall_stay_free_stays_free(stand, study, monkeypatch):
    monkeypatch.setattr(Spool, "free_bytes", lambda self: 2**20)
    assert send(stand.port, study[1][:1]) == [NO_ROOM]
    assert not stand.objects() and any("disk is full" in line for line in stand.told)


def test_study_whose_sender_broke_off_is_not_whole(stand, study):
    uid, files = study
    with call(stand.port) as association:
        for path in files[:-2]:
            association.send_c_store(pydicom.dcmread(path))
        association.abort()
    time.sleep(0.5)
    assert not stand.spool.take()
    assert set(send(stand.port, files)) == {SUCCESS}
    assert [name.partition("-")[0] for name in wait_for(stand.spool.take)] == [code(uid)]


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    command += " -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 -keyout key.pem"
    try:
        subprocess.run(
            [*command.split(), "-out", "own.pem"], cwd=folder, check=True, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    return Certificates(folder / "own.pem", folder / "key.pem", folder / "own.pem")


def test_tls_takes_callers_of_the_authority_alone(tmp_path, keys, study):
    from pynetdicom import AE
    from pynetdicom.sop_class import Verification

    stand = Stand(tmp_path, certificates=keys)
    try:
        plain = AE("SCANNER")
        plain.add_requested_context(Verification)
        plain.acse_timeout = plain.connection_timeout = 3
        assert not plain.associate("127.0.0.1", stand.port).is_established
        without = replace(keys, certificate=None, key=None).call()
        refused = plain.associate("127.0.0.1", stand.port, tls_args=(without, "127.0.0.1"))
        assert not refused.is_established
        known = plain.associate(
            "127.0.0.1", stand.port, ae_title="BRAINAGE", tls_args=(keys.call(), "127.0.0.1")
        )
        assert known.is_established and known.send_c_echo().Status == SUCCESS
        known.release()
        # A handshake that never ends holds nobody up.
        with socket.create_connection(("127.0.0.1", stand.port), 5):
            again = plain.associate(
                "127.0.0.1", stand.port, ae_title="BRAINAGE", tls_args=(keys.call(), "127.0.0.1")
            )
            assert again.is_established
            again.release()
    finally:
        stand.close()


def lost_of(stand, uid):
    """Lost objects of a study that is coming in; None where there is no such study."""
    study = stand.spool._studies.get(code(uid))
    return None if study is None else study.lost


@pytest.mark.parametrize("cut", [40, 3], ids=["unreadable", "study named"])
def test_damaged_first_object_is_noted_against_its_study(stand, study, cut):
    uid, files = study
    header = pydicom.dcmread(files[0])
    content = header_bytes(header)
    if cut == 3:  # a modality whose length runs over all that follows
        place = content.index(b"\x08\x00\x60\x00") + 6
        content = content[:place] + b"\xff\xff" + content[place + 2 :]
    else:
        content = content[:cut]
    with call(stand.port) as association:
        assert send_bytes(association, content, str(header.SOPInstanceUID)) == UNREADABLE
        assert (lost_of(stand, uid) is None) == (cut != 3)
        assert association.send_c_store(pydicom.dcmread(files[1])).Status == SUCCESS
    name = f"{code(str(header.SOPInstanceUID))}.dcm"
    assert lost_of(stand, uid) == {name}
    wait_for(lambda: not stand.receiver._server.active_associations)
    time.sleep(0.5)
    assert not stand.spool.take()
    assert send(stand.port, files[:1]) == [SUCCESS]
    assert wait_for(stand.spool.take)


def test_study_of_which_nothing_could_be_kept_is_a_job_too(stand, study, monkeypatch):
    monkeypatch.setattr(limits, "PATIENCE", 1)
    header = pydicom.dcmread(study[1][0])
    wrong = str(generate_uid())
    with call(stand.port) as association:
        assert send_bytes(association, b"noise", "1.2.3") == UNREADABLE
    with call(stand.port) as association:
        assert send_bytes(association, header_bytes(header), wrong) == MISMATCH
    jobs = []
    wait_for(lambda: jobs.extend(stand.spool.take()) or len(jobs) == 2)
    assert {job.partition("-")[0] for job in jobs} == {code("1.2.3"), code(study[0])}
    assert not any(stand.spool.is_whole(job) for job in jobs)


def test_object_that_is_lost_takes_the_mark_of_a_whole_study_away(stand, study):
    uid, files = study
    send(stand.port, files[:2])
    marker = stand.spool.incoming / code(uid) / "whole"
    wait_for(lambda: stand.spool.take() or marker.exists())
    stand.spool.lose(code(uid), "x.dcm", 1)
    assert not marker.exists()


def test_study_is_marked_whole_before_its_release_is_answered(stand, study, monkeypatch):
    """Killed right after, the next start knows that nothing of it is missing."""
    monkeypatch.setattr(stand.receiver._server, "service_actions", str)
    uid, files = study
    send(stand.port, files[:2])
    assert (stand.spool.incoming / code(uid) / "whole").exists()


def test_studies_that_come_in_are_bounded(stand, study, monkeypatch):
    monkeypatch.setattr(spool, "_MOST_STUDIES", 1)
    stand.spool.lose("ab", "x.dcm", 1)
    stand.spool.lose("cd", "x.dcm", 1)
    assert send(stand.port, study[1][:1]) == [NO_ROOM]
    assert list(stand.spool._studies) == ["ab"]

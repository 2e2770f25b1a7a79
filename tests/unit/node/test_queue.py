"""The queue and its ledger, cut off anywhere: every study is in one place, with one line."""

import errno
import io
import os
import shutil

import pytest

pytest.importorskip("pynetdicom")

from brainage.errors import ConfigError
from brainage.node.ledger import Ledger, Line
from brainage.node.limits import NodeLimits
from brainage.node.peers import Certificates, parse_destination, parse_peer, parse_title
from brainage.node.service import run_node
from brainage.node.spool import Spool, code
from tests.node_helpers import QUICK, Archive, read_ledger, settings_for, wait_for

LINE = Line("ab", "refused", 3, 0, "no T1", "ab-1")


class KilledError(BaseException):
    """As SIGKILL would: nothing catches it."""


def test_ledger_has_one_line_a_job_also_after_a_restart(tmp_path):
    path = tmp_path / "ledger.csv"
    for _ in range(3):
        ledger = Ledger(path)
        ledger.add(LINE)
        ledger.add(LINE)
    assert "ab-1" in Ledger(path) and "ab-2" not in Ledger(path)
    assert len(read_ledger(tmp_path)) == 1


def test_half_a_line_is_taken_away(tmp_path):
    path = tmp_path / "ledger.csv"
    Ledger(path).add(LINE)
    whole = path.read_bytes()
    path.write_bytes(whole + b"2026-01-01,cd,refu")
    ledger = Ledger(path)
    assert path.read_bytes() == whole and "refu" not in ledger
    path.write_bytes(whole[:10])
    Ledger(path).add(LINE)
    assert [row["study"] for row in read_ledger(tmp_path)] == ["ab"]


def test_line_for_which_there_is_no_room_leaves_nothing(tmp_path, monkeypatch):
    ledger = Ledger(tmp_path / "ledger.csv")
    before = (tmp_path / "ledger.csv").read_bytes()

    def fsync(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(OSError, match="No space"):
            ledger.add(LINE)
    assert (tmp_path / "ledger.csv").read_bytes() == before and "ab-1" not in ledger
    ledger.add(LINE)
    assert len(read_ledger(tmp_path)) == 1


def test_reason_cannot_begin_a_line_of_its_own(tmp_path):
    Ledger(tmp_path / "ledger.csv").add(Line("ab", "refused", 1, 0, 'a\nb,"c"\r\n=x', "ab-1"))
    assert [row["reason"] for row in read_ledger(tmp_path)] == ['a b,"c" =x']


@pytest.mark.parametrize("kill_at", range(8))
def test_kill_at_any_write_leaves_a_study_whole_or_unfinished(tmp_path, monkeypatch, kill_at):
    """Killed at its n-th fsync, rename or removal; the next start finds all or none."""
    spool = Spool(tmp_path, QUICK)
    calls = []

    def counted(real):
        def step(*arguments, **options):
            calls.append(real)
            if len(calls) > kill_at:
                raise KilledError
            return real(*arguments, **options)

        return step

    stored = []
    with spool.hold(), monkeypatch.context() as patch:
        for module, name in ((os, "fsync"), (os, "rename"), (os, "replace"), (shutil, "rmtree")):
            patch.setattr(module, name, counted(getattr(module, name)))
        try:
            for number in range(3):
                spool.store("1.2", f"1.2.{number}", b"x" * 100, 1)
                stored.append(number)
        except KilledError:
            pass
    again = Spool(tmp_path, QUICK)
    with again.hold():
        files = [path for path in again.incoming.rglob("*") if path.is_file()]
        assert all(path.read_bytes() == b"x" * 100 for path in files)
        assert {path.name for path in files} >= {f"{code(f'1.2.{n}')}.dcm" for n in stored}


def test_restart_in_between_two_steps_goes_on_without_doubling(tmp_path):
    """Killed after a rename or a line, before the removal that follows it."""
    spool, archive = Spool(tmp_path / "queue", QUICK), Archive()
    with spool.hold():
        # Results are in the line for sending, and the study is still at work.
        for folder in (spool.working, spool.outgoing):
            (folder / "ab-1").mkdir()
        facts = '{"objects": 3, "results": 0, "reason": ""}'
        (spool.outgoing / "ab-1" / "facts.json").write_text(facts)
        # A line is written, and the study or its results are still there.
        (spool.working / "cd-1").mkdir()
        (spool.outgoing / "ef-1").mkdir()
        ledger = Ledger(tmp_path / "queue" / "ledger.csv")
        for job in ("cd-1", "ef-1"):
            ledger.add(Line(job[:2], "refused", 1, 0, "", job))
    with run_node(settings_for(tmp_path / "queue", archive.port), str):
        wait_for(lambda: len(read_ledger(tmp_path / "queue")) == 3)
        for folder in (spool.working, spool.outgoing):
            wait_for(lambda folder=folder: not list(folder.iterdir()))
    archive.close()
    assert [row["job"] for row in read_ledger(tmp_path / "queue")] == ["cd-1", "ef-1", "ab-1"]


def test_what_was_not_finished_in_the_temporary_folder_is_gone_at_the_next_start(tmp_path):
    spool = Spool(tmp_path, QUICK)
    with spool.hold():
        (spool.draft("ab-1") / "half.dcm").write_bytes(b"x")
    with Spool(tmp_path, QUICK).hold():
        assert not list(spool.temporary.iterdir())


def test_what_was_lost_is_awaited_after_a_restart_until_it_comes(tmp_path):
    spool, name = Spool(tmp_path, QUICK), f"{code('1.2.9')}.dcm"
    with spool.hold():
        key = spool.store("1.2", "1.2.1", b"x", 1)
        spool.lose(key, name, 1)
    spool = Spool(tmp_path, QUICK)
    with spool.hold():
        spool.store("1.2", "1.2.2", b"x", 2)
        spool.settle(2, released=True)
        assert not spool._studies[key].is_whole
        spool.store("1.2", "1.2.9", b"x", 3)
        spool.settle(3, released=True)
        assert spool._studies[key].is_whole
    again = Spool(tmp_path, QUICK)
    with again.hold():
        assert again._studies[key].is_whole and not again._studies[key].lost


@pytest.mark.parametrize(
    "text", ["", "ARCHIVE", "ARCHIVE@host", "@host:104", "ARCHIVE@host:0", "ARCHIVE@host:70000",
             "ARCHIVE@host:x", "A\\B@host:104", "A" * 17 + "@host:104", "Ä@host:104"],
)  # fmt: skip
def test_destination_that_is_none_is_refused_by_its_option(text):
    with pytest.raises(ConfigError) as told:
        parse_destination(text)
    assert told.value.where == "--send-to"


@pytest.mark.parametrize("text", ["", "SCANNER", "SCANNER@", "SCANNER@host", "@10.0.0.1", "A@10/8"])
def test_peer_that_is_none_is_refused(text):
    with pytest.raises(ConfigError) as told:
        parse_peer(text)
    assert told.value.where == "--allow"


def test_titles_and_addresses_of_both_kinds_are_read():
    assert parse_title(" a b ", "--ae-title") == "a b"
    assert parse_peer("A@B@::1").title == "A@B"
    assert parse_destination("A@[::1]:104").host == "::1"


def test_limits_that_contradict_each_other_are_refused():
    with pytest.raises(ConfigError, match="object ≤ study ≤ queue"):
        NodeLimits(object_mb=10, study_mb=5)


def test_certificate_that_is_none_is_one_line(tmp_path):
    (tmp_path / "x.pem").write_bytes(io.BytesIO(b"not a certificate").getvalue())
    for path in (tmp_path / "x.pem", tmp_path / "missing.pem"):
        with pytest.raises(ConfigError) as told:
            Certificates(path, path).serve()
        assert told.value.where == "--tls-certificate"
    with pytest.raises(ConfigError):
        Certificates(key=tmp_path / "x.pem").serve()
    assert Certificates().serve() is None

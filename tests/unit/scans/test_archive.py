"""Zips from unknown sources: one clear line each, and nothing outside the folder."""

import os
import stat
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest

import brainage.scans.archive as archive
from brainage.errors import VolumeError
from brainage.scans.archive import unpack_zip
from tests.dicom_helpers import make_zip


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "deep" / "target"
    folder.mkdir(parents=True)
    return folder


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_files_come_out_whole_under_names_of_our_own(tmp_path, target):
    path = make_zip(tmp_path / "a.zip", {"DOE JOHN/1.dcm": b"one", "DOE JOHN/2.dcm": b"two"})
    files = unpack_zip(path, target, "scan")
    assert [file.read_bytes() for file in files] == [b"one", b"two"]
    assert files_below(target) == {"000000", "000001"}


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/evil", "..\\evil", "C:\\evil", "\\evil"]
)
def test_a_path_out_of_the_zip_is_refused_and_nothing_is_written(name, tmp_path, target):
    path = make_zip(tmp_path / "a.zip", {"good": b"1", name: b"2"})
    with pytest.raises(VolumeError, match=r"^scan: .*points outside it"):
        unpack_zip(path, target, "scan")
    assert files_below(tmp_path) == {"a.zip"}


def test_an_entry_without_a_name_is_refused(tmp_path, target):
    path = make_zip(tmp_path / "a.zip", {"good": b"1", "Qname": b"2"})
    path.write_bytes(path.read_bytes().replace(b"Qname", b"\0name"))
    with pytest.raises(VolumeError, match=r"^scan: .*no path"):
        unpack_zip(path, target, "scan")


def test_a_link_is_refused(tmp_path, target):
    entry = zipfile.ZipInfo("link")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        made.writestr(entry, "/etc/passwd")
    with pytest.raises(VolumeError, match="link"):
        unpack_zip(tmp_path / "a.zip", target, "scan")


@pytest.mark.parametrize("name", ["inner.zip", "inner.dat"])
def test_an_archive_in_the_archive_is_refused_by_name_and_by_content(name, tmp_path, target):
    inner = make_zip(tmp_path / "inner.zip", {"x": b"1"}).read_bytes()
    with pytest.raises(VolumeError, match="another archive"):
        unpack_zip(make_zip(tmp_path / "a.zip", {name: inner}), target, "scan")


def test_a_bomb_is_refused_by_arithmetic_and_in_little_memory(tmp_path, target):
    make_zip(tmp_path / "a.zip", {"bomb": bytes(2**26)})
    tracemalloc.start()
    with pytest.raises(VolumeError, match="times as many"):
        unpack_zip(tmp_path / "a.zip", target, "scan")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22 and not files_below(target)


def test_more_than_the_total_is_refused(tmp_path, target, monkeypatch):
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 10)
    path = make_zip(tmp_path / "a.zip", {"a": os.urandom(6), "b": os.urandom(6)})
    with pytest.raises(VolumeError, match="unfolds to 12 bytes, at most 10"):
        unpack_zip(path, target, "scan")


def test_an_entry_that_declares_less_than_it_holds_is_refused(tmp_path, target):
    path = make_zip(tmp_path / "a.zip", {"a": bytes(100_000)})
    content = bytearray(path.read_bytes())
    listed = content.rfind(b"PK\1\2")
    struct.pack_into("<I", content, listed + 24, 10)  # declared size in the list of contents
    path.write_bytes(content)
    with pytest.raises(VolumeError, match=r"damaged|larger than it declares"):
        unpack_zip(path, target, "scan")
    assert all(file.stat().st_size <= 10 for file in target.iterdir())


def test_too_many_entries_are_refused_before_the_list_is_read(tmp_path, target, monkeypatch):
    path = make_zip(tmp_path / "a.zip", {str(number): b"" for number in range(5)})
    monkeypatch.setattr(archive, "MAX_ENTRIES", 4)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    with pytest.raises(VolumeError, match="at most 4 files in the zip, got 5"):
        unpack_zip(path, target, "scan")


def test_an_encrypted_zip_is_refused(tmp_path, target):
    path = make_zip(tmp_path / "a.zip", {"a": b"1"})
    content = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.rfind(magic) + offset] |= 1
    path.write_bytes(content)
    with pytest.raises(VolumeError, match="encrypted"):
        unpack_zip(path, target, "scan")


@pytest.mark.parametrize("cut", [30, 60, -30])
def test_a_damaged_zip_is_one_line_without_names(cut, tmp_path, target):
    path = make_zip(tmp_path / "a.zip", {"DOE^JOHN": os.urandom(500)})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(VolumeError, match="damaged") as caught:
        unpack_zip(path, target, "scan")
    assert "DOE" not in str(caught.value) and "\n" not in str(caught.value)

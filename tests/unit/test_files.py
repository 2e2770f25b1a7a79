import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from brainage.errors import BrainageError
from brainage.files import (
    atomic_write_bytes,
    atomic_write_text,
    hold_folder,
    hold_lock,
    parse_json,
    parse_yaml,
    remove_unfinished,
    reserve,
    sha256_bytes,
    sha256_file,
    temporary_name,
)


def test_text_comes_back_byte_for_byte(tmp_path: Path) -> None:
    atomic_write_text(tmp_path / "new" / "a.csv", "é\r\nb\n")
    assert (tmp_path / "new" / "a.csv").read_bytes() == "é\r\nb\n".encode()


def test_a_failed_replacement_keeps_the_old_file_and_leaves_no_rubbish(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    atomic_write_bytes(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(BrainageError, match="No space left"):
        atomic_write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_of_the_old_file_never_sees_the_new_one(tmp_path: Path) -> None:
    atomic_write_bytes(tmp_path / "a.bin", b"old")
    with (tmp_path / "a.bin").open("rb") as reader:
        atomic_write_bytes(tmp_path / "a.bin", b"new")
        assert reader.read() == b"old"
    assert (tmp_path / "a.bin").read_bytes() == b"new"


def test_writing_below_a_file_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BrainageError, match="cannot be written"):
        atomic_write_bytes(tmp_path / "file" / "a.bin", b"")


def test_other_people_may_read_a_written_file(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        atomic_write_bytes(tmp_path / "a.bin", b"")
    finally:
        os.umask(old)
    assert (tmp_path / "a.bin").stat().st_mode & 0o777 == 0o644


def test_hashes_of_file_and_bytes_agree(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"abc")
    expected = hashlib.sha256(b"abc").hexdigest()
    assert sha256_file(tmp_path / "a.bin") == sha256_bytes(b"abc") == expected


def test_hash_of_an_absent_file_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(BrainageError, match=r"gone\.bin: cannot be read"):
        sha256_file(tmp_path / "gone.bin")


def test_a_folder_is_held_by_one_run_at_a_time(tmp_path: Path) -> None:
    with hold_folder(tmp_path / "out"):
        (tmp_path / "out" / "a.csv").touch()
        with (
            pytest.raises(BrainageError, match="in use by another run"),
            hold_folder(tmp_path / "out"),
        ):
            pass
    with hold_folder(tmp_path / "out"):
        assert (tmp_path / "out" / "a.csv").exists()


def test_a_held_folder_loses_what_a_killed_run_left_and_nothing_else(tmp_path: Path) -> None:
    kept = [tmp_path / "a.tmp", tmp_path / "deep" / ".0123.tmp", tmp_path / "deep" / "b.csv"]
    left = [tmp_path / temporary_name(), tmp_path / "deep" / temporary_name()]
    (tmp_path / "deep").mkdir()
    for path in (*kept, *left):
        path.touch()
    with hold_folder(tmp_path):
        assert all(path.exists() for path in kept)
        assert not any(path.exists() for path in left)


def test_unfinished_files_go_but_not_those_that_are_being_written(tmp_path, monkeypatch) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    monkeypatch.setattr(os, "getpid", lambda: gone.pid)
    left = temporary_name()
    monkeypatch.undo()
    (tmp_path / left).write_bytes(b"half of what a killed run wanted to wri")
    (tmp_path / ".hidden.tmp").write_bytes(b"somebody's own")
    monkeypatch.setattr(os, "fsync", lambda _: remove_unfinished(tmp_path))
    atomic_write_bytes(tmp_path / "table.csv", b"whole")
    assert {path.name for path in tmp_path.iterdir()} == {".hidden.tmp", "table.csv"}


def test_a_folder_in_which_nothing_was_written_stays_only_if_it_was_there(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    for name in ("new", "old"):
        with hold_folder(tmp_path / name):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_space_of_a_mapped_file_is_claimed_at_once(tmp_path: Path) -> None:
    with (tmp_path / "a.npy").open("w+b") as file:
        reserve(file.fileno(), 100_000)
        assert os.fstat(file.fileno()).st_blocks * 512 >= 100_000


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "9" * 5000, b"\xff\xfe"])
def test_what_is_no_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [", "while parsing a flow node"),
        ("[" * 600, "is nested too deeply"),
        ("seed: 2001-13-45", "month must be in 1..12"),
        ("seed: " + "9" * 5000, "Exceeds the limit"),
        ("a: !!python/object/apply:os.system [x]", "could not determine a constructor"),
        ("a: &a [*a]", "stands for more than 100000 values"),
        ("training: {epochs: 1}\ntraining: {seed: 2}", "training stands twice"),
    ],
)
def test_what_is_no_yaml_is_a_value_error_of_one_line(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        parse_yaml(text)
    assert "\n" not in str(caught.value)


def test_numbers_of_yaml_are_decimal() -> None:
    assert parse_yaml("[012, 1e-3, -5, 2.50, .5, 1:30]") == [12, 0.001, -5, 2.5, 0.5, "1:30"]


def test_a_few_lines_of_aliases_do_not_fill_the_memory() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(ValueError, match="100000 values"):
        parse_yaml("\n".join(lines))
    assert parse_yaml("a: &a [1, 2]\nb: *a") == {"a": [1, 2], "b": [1, 2]}


def test_a_second_one_waits_until_the_first_has_had_its_turn(tmp_path):
    path, order = tmp_path / "a.lock", []

    def second() -> None:
        with hold_lock(path):
            order.append("second")

    with hold_lock(path):
        waiting = threading.Thread(target=second)
        waiting.start()
        waiting.join(timeout=0.2)
        order.append("first")
    waiting.join(timeout=30)
    assert order == ["first", "second"]

"""The store: whole or absent entries, however many write, die or damage them."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from brainage.errors import StoreError
from brainage.files import DAMAGE_ERRORS, temporary_name
from brainage.prepared.store import RECORD, PreparedStore

KEY, OTHER = "ab" * 32, "ab" + "cd" * 31


def save(store: PreparedStore, content: bytes = b"whole", key: str = KEY) -> Path:
    store.save("array", key, {"n": 1}, {"a.bin": content})
    return store.path("array", key)


def load(store: PreparedStore, key: str = KEY) -> bytes | None:
    return store.load("array", key, lambda _, files: files["a.bin"])


def test_an_entry_comes_back_and_another_kind_or_key_has_none(tmp_path):
    store = PreparedStore(tmp_path)
    save(store)
    assert load(store) == b"whole" and load(store, OTHER) is None
    assert store.load("placement", KEY, lambda about, _: about) is None


def test_the_second_writer_of_an_entry_leaves_the_first(tmp_path):
    store = PreparedStore(tmp_path)
    record = save(store) / RECORD
    before = record.stat().st_mtime_ns
    save(store)
    assert record.stat().st_mtime_ns == before
    assert len(list(record.parents[1].iterdir())) == 1, "an unfinished folder was left"


def test_many_writers_of_one_entry_leave_one_whole_entry(tmp_path):
    stores = [PreparedStore(tmp_path) for _ in range(8)]
    writers = [threading.Thread(target=save, args=(store,)) for store in stores]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert load(stores[0]) == b"whole"
    assert len(list(stores[0].path("array", KEY).parent.iterdir())) == 1


def test_an_entry_under_another_key_is_removed_with_a_note(tmp_path):
    notes: list[str] = []
    store = PreparedStore(tmp_path, notes.append)
    save(store).rename(store.path("array", OTHER))
    assert load(store, OTHER) is None and len(notes) == 1
    assert not store.path("array", OTHER).exists()
    save(store, key=OTHER)
    assert load(store, OTHER) == b"whole" and len(notes) == 1


def test_what_a_decoder_refuses_is_removed(tmp_path):
    store = PreparedStore(tmp_path, lambda _: None)
    folder = save(store)
    assert ValueError in DAMAGE_ERRORS
    assert store.load("array", KEY, lambda *_: int("no number")) is None
    assert not folder.exists()


def test_an_entry_that_was_made_again_meanwhile_is_kept(tmp_path):
    store = PreparedStore(tmp_path)
    folder, looks = save(store), []

    def refuse_once(_, files):
        looks.append(1)
        if len(looks) == 1:
            raise ValueError
        return files["a.bin"]

    assert store.load("array", KEY, refuse_once) == b"whole" and folder.exists()


def test_a_killed_writer_leaves_nothing_after_the_next_and_a_live_one_all(tmp_path, monkeypatch):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    shard = save(PreparedStore(tmp_path)).parent
    live = shard / temporary_name()
    monkeypatch.setattr(os, "getpid", lambda: gone.pid)
    dead = shard / temporary_name()
    monkeypatch.undo()
    for folder in (live, dead):
        folder.mkdir()
        (folder / "half").write_bytes(b"half")
    save(PreparedStore(tmp_path), key=OTHER)
    assert live.exists() and not dead.exists()


def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match="No space left"):
        save(PreparedStore(tmp_path))
    assert not [path for path in (tmp_path / "prepared" / "array").rglob("*") if path.is_file()]

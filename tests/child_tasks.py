"""Tasks for child processes that misbehave in every way."""

import ctypes
import os
import signal
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any


def double(argument: dict[str, Any]) -> dict[str, Any]:
    sys.stdout.write("noise on standard output\n")
    return {"value": 2 * argument["value"], "pid": os.getpid()}


def misbehave(argument: dict[str, Any]) -> dict[str, Any]:
    kind = argument["kind"]
    if kind == "segfault":
        ctypes.string_at(0)
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "exit":
        os._exit(7)
    if kind == "hang":
        time.sleep(60)
    if kind == "greed":
        bytearray(2**33)
    if kind == "raise":
        raise RuntimeError("first line\nno such tissue")
    return {"value": kind}


def slow(argument: dict[str, Any]) -> dict[str, Any]:
    """Say which process runs it, then take a while; its mark tells that it was begun."""
    with Path(argument["mark"]).open("a") as stream:
        stream.write(f"{os.getppid()}\n")
    time.sleep(argument["seconds"])
    return {"value": argument["value"]}


def derive_marked(argument: dict[str, Any]) -> dict[str, Any]:
    """The real task with a lenient gate, which says who runs it and leaves time to be killed."""
    from brainage.prepared.derivatives import derive_task

    pipeline: Any = import_module("brainage.preprocessing.pipeline")

    pipeline.judge = lambda *_: ("ok", ())
    with Path(argument["store"], "workers").open("a") as stream:
        stream.write(f"{os.getppid()}\n")
    time.sleep(0.3)
    return derive_task(argument)


def process_head(argument: dict[str, Any]) -> dict[str, Any]:
    """Hash of a processed head, so that processes with other settings can be compared."""
    from brainage.files import sha256_bytes
    from brainage.preprocessing.pipeline import process_volume
    from brainage.scans.volume import load_volume
    from tests.heads import FAST

    processed = process_volume(load_volume(argument["path"]), FAST, "head")
    return {"sha256": sha256_bytes(processed.image.data.tobytes())}


def prepare_or_crash(argument: dict[str, Any]) -> dict[str, Any]:
    """The real task, but for a scan that brings its process down."""
    from brainage.prepared.arrays import prepare_task

    if "crash" in argument["source"]["path"]:
        ctypes.string_at(0)
    return prepare_task(argument)


def app_task(argument: dict[str, Any]) -> dict[str, Any]:
    """Do as the app's task does, without a scan: wait, then leave a result."""
    time.sleep(argument["seconds"])
    Path(argument["folder"], "result.json").write_text('{"verdict": "ok"}')
    return {"refused": "", "seconds": [["read", 0.0]]}

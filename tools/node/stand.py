"""A real Orthanc and a real `brainage node`, as processes on free ports of this machine."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

ORTHANC = Path("/usr/sbin/Orthanc")
START_S = 120.0


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], Any], seconds: float, what: str, step_s: float = 0.05) -> Any:
    """Wait until a condition holds; returns its value.

    Raises
    ------
    TimeoutError
        If it does not in time.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(step_s)
    raise TimeoutError(f"not within {seconds:g} s: {what}")


class Orthanc:
    """An archive with an empty database.

    Parameters
    ----------
    folder : pathlib.Path
        New folder for its files.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.port, self._http = free_port(), free_port()
        settings = {
            "Name": "archive",
            "DicomAet": "ORTHANC",
            "DicomPort": self.port,
            "HttpPort": self._http,
            "StorageDirectory": str(folder / "files"),
            "IndexDirectory": str(folder / "files"),
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAlwaysAllowStore": True,
            "Plugins": [],
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        with (folder / "log.txt").open("wb") as log:
            self._process = subprocess.Popen(
                [ORTHANC, folder / "orthanc.json"], stdout=log, stderr=log
            )
        wait_for(self._answers, START_S, "Orthanc answers")

    def _answers(self) -> bool:
        try:
            return bool(self.get("system"))
        except URLError:
            return False

    def read(self, path: str) -> bytes:
        """Return what its REST API has at a path."""
        with urlopen(f"http://127.0.0.1:{self._http}/{path}", timeout=30) as answer:
            return bytes(answer.read())

    def get(self, path: str) -> Any:
        """Return JSON that its REST API has at a path."""
        return json.loads(self.read(path))

    def close(self) -> None:
        """Stop it."""
        self._process.terminate()
        self._process.wait(30)


class NodeProcess:
    """`brainage node`, to be killed and started again on the same queue and port.

    Parameters
    ----------
    queue : pathlib.Path
        Folder of its queue.
    archive_port : int
        Port of this machine that gets the results.
    log : pathlib.Path
        File for what it prints.
    options : sequence of str
        Further options.
    """

    def __init__(
        self, queue: Path, archive_port: int, log: Path, options: Sequence[str] = ()
    ) -> None:
        self.queue, self.log, self.port = queue, log, free_port()
        self._command = [
            *(sys.executable, "-m", "brainage", "node", "--queue", str(queue)),
            *("--port", str(self.port), "--send-to", f"ORTHANC@127.0.0.1:{archive_port}"),
            *("--allow", "SCANNER@127.0.0.1", *options),
        ]
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with self.log.open("ab") as log:
            before = log.tell()
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)

        def listens() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError(self.log.read_text()[-2000:])
            return b" listens " in self.log.read_bytes()[before:]

        wait_for(listens, START_S, "the node listens")

    def kill(self) -> None:
        """Send SIGKILL."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        """Interrupt it, as Ctrl-C would."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)

    def status(self) -> dict[str, int]:
        """Return threads, memory now and at most in kB, and open files."""
        folder = Path("/proc") / str(self.process.pid)
        lines = (folder / "status").read_text().splitlines()
        told = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
        numbers = {name: int(told[name][0]) for name in ("Threads", "VmRSS", "VmHWM")}
        return numbers | {"files": len(list((folder / "fd").iterdir()))}

"""kill −9 of the page's server in the middle of a scan: nothing stays, the next server answers."""

import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from brainage.files import sha256_bytes
from brainage.serving.service import Job, Service
from brainage.serving.settings import ServerLimits
from tools.faults.commands import Inputs
from tools.faults.kills import Blow
from tools.faults.server import Stopwatch, processes_of

APP = "app"
_SECONDS = 120.0


def strike_app(inputs: Inputs, folder: Path, draws: list[float]) -> list[Blow]:
    """Kill servers at moments spread over a prediction; then let the next one predict."""
    expected, whole_s = _serve(inputs, folder / "app-whole")
    return [
        _strike(inputs, folder / f"app-{n}", d * whole_s, expected) for n, d in enumerate(draws)
    ]


def _strike(inputs: Inputs, folder: Path, after_s: float, expected: str) -> Blow:
    folder.mkdir(parents=True)
    child = os.fork()
    if child == 0:
        os.setsid()
        try:
            _serve(inputs, folder)
        finally:
            os._exit(0)
    time.sleep(after_s)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    broken = [] if os.waitstatus_to_exitcode(status) == -signal.SIGKILL else ["was over already"]
    watch = Stopwatch()
    while processes_of(child) and watch.look() < 60:
        time.sleep(0.1)
    broken += [f"process {pid} outlived it" for pid in processes_of(child)]
    found, _ = _serve(inputs, folder)
    if found != expected:
        broken.append("the next server's result differs")
    broken += [f"left behind: {path.name}" for path in folder.iterdir()]
    return Blow(APP, f"{after_s:.1f} s", 0.0, "the next server", broken)


def _serve(inputs: Inputs, folder: Path) -> tuple[str, float]:
    """Start the service, predict a scan; hash of the result, and the seconds that it took."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    started = time.monotonic()
    service = Service(ServerLimits(predictions=1), lambda: inputs.model)
    try:
        argument = {"model": str(inputs.model), "model_name": "model", "label": "scan"}
        job = service.submit(Path(inputs.scans(1)[0]).read_bytes(), argument, lambda: True)
        _wait_for(job)
        numbers = json.loads(job.files["report.json"])
        numbers.pop("made_on", None)
        text = json.dumps(numbers, sort_keys=True)
        return sha256_bytes(text.encode()), time.monotonic() - started
    finally:
        service.close()
        tempfile.tempdir = None
        os.environ.pop("TMPDIR")


def _wait_for(job: Job) -> None:
    watch = Stopwatch()
    while not job.finished and watch.look() < _SECONDS:
        time.sleep(0.05)
    if job.state != "done":
        sys.exit(f"the page's prediction did not end well: {job.state} {job.reason}")

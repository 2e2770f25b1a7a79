"""Time a page's answers in a browser: the first head after the start of the server, then others.

``python -m pipelines.speed.page --data ../shared/data --output DIR`` needs Playwright and
Chromium. Each head is given in a page of its own, which was open for as long as a person takes to
choose a file; a prepared scan is never found by its hash, since the heads differ and the cache is
new. Nothing else should run.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pandas as pd

from brainage.errors import BrainageError, CohortError
from brainage.types import Json
from brainage.workflows.console import run_as_command, say
from brainage.workflows.results import write_table

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_WAIT_S = 240
_AGE, _END = ".predicted-age", "Examine another scan"


def main() -> None:
    """Serve, examine head after head, and write page.csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--pause", type=float, default=10, help="seconds before a file is given")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    heads = sorted(options.data.glob("ixi_hh/sub-*/anat/*_T1w.nii.gz"))[: options.heads]
    if len(heads) < 2:
        raise CohortError(str(options.data / "ixi_hh"), "has less than two heads.")
    with serve() as address, browse() as browser:
        rows = [examine(browser, address, head, options.pause) for head in heads]
    table = pd.DataFrame(rows)
    write_table(table, options.output / "page.csv")
    for name in ("age_s", "answer_s"):
        first, later = rows[0][name], float(table[name][1:].median())
        say(f"{name}: {first:.1f} first, then {later:.1f} in the median: {first / later:.2f} times")


@contextmanager
def serve() -> Iterator[str]:
    """Address of a page with a new cache that has just begun to answer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    address = f"http://127.0.0.1:{port}"
    with TemporaryDirectory() as cache:
        command = [sys.executable, "-m", "brainage", "app", "--port", str(port)]
        variables = os.environ | {"BRAINAGE_CACHE": cache}
        with subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL) as process:
            try:
                end = time.monotonic() + _WAIT_S
                while not answers(address):
                    if process.poll() is not None or time.monotonic() > end:
                        raise BrainageError("the page", "did not start, see above.")
                    time.sleep(0.1)
                yield address
            finally:
                process.terminate()


def answers(address: str) -> bool:
    """Tell whether a page is there."""
    try:
        return bool(urlopen(address, timeout=5).status == 200)
    except OSError:
        return False


@contextmanager
def browse() -> Iterator["Browser"]:
    """Start a browser without a window."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    if path is None:
        raise BrainageError("chromium", "is not installed.", "Run apt-get install chromium.")
    with sync_playwright() as running:
        flags = ["--no-sandbox", "--enable-unsafe-swiftshader", "--disable-background-networking"]
        browser = running.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


def examine(browser: "Browser", address: str, head: Path, pause_s: float) -> Json:
    """Seconds from the click to the age, and to the whole answer with its map."""
    page = browser.new_page()
    page.set_default_timeout(1000 * _WAIT_S)
    page.goto(address)
    page.wait_for_timeout(1000 * pause_s)
    page.locator("input[type=file]").set_input_files(str(head))
    page.get_by_role("button", name="Examine", exact=True).click()
    start = time.monotonic()
    page.locator(_AGE).wait_for()
    age = time.monotonic() - start
    page.get_by_text(_END).wait_for()
    answer = time.monotonic() - start
    page.close()
    return {"age_s": age, "answer_s": answer}


if __name__ == "__main__":
    sys.exit(run_as_command(main))

"""A running page, and a browser to look at it with."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urljoin

import psutil

from pipelines.speed.page import answers
from tools.node.stand import free_port

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium")
# A machine that others use too may need minutes for what takes seconds.
ANSWER_MS = 240_000
AGE = ".predicted-age"
CANVAS = "canvas[data-ready=true]"
TITLE = "How old does this brain look?"


class RunningApp(NamedTuple):
    process: psutil.Process
    address: str
    log: Path


@contextmanager
def run_app(models: Path, folder: Path, **environment: str) -> Iterator[RunningApp]:
    """Process, address and log of a page that runs in a folder."""
    port, log = free_port(), folder / "app.log"
    command = [sys.executable, "-m", "brainage.cli.main", "app", "--port", str(port)]
    root = str(Path(__file__).parents[2])
    variables = {"BRAINAGE_MODELS": str(models), "PYTHONPATH": root, **environment}
    with log.open("w") as stream:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **variables}, stdout=stream, stderr=stream
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: answers(address), ANSWER_MS / 1000)
        yield RunningApp(psutil.Process(process.pid), address, log)
    finally:
        process.terminate()
        process.wait(30)


def open_page(
    browser: "Browser", server: RunningApp, width: int = 1280, height: int = 720
) -> "Page":
    """A page of its own; `foreign` lists requests to other hosts."""
    made = browser.new_page(viewport={"width": width, "height": height})
    made.set_default_timeout(ANSWER_MS)
    foreign: list[str] = []
    made.foreign = foreign  # type: ignore[attr-defined]
    own = (server.address, server.address.replace("http", "ws"), "data:", "blob:")
    made.on("request", lambda r: None if r.url.startswith(own) else foreign.append(r.url))
    made.goto(server.address)
    made.get_by_text(TITLE).wait_for()
    return made


def go_to(page: "Page", title: str) -> None:
    """Choose a page; that for comparisons is not offered without a tracker."""
    link = page.get_by_role("link", name=title)
    if title == "Compare methods" and not link.count():
        page.goto(urljoin(page.url, "/compare"))
    else:
        link.click()
    page.get_by_role("heading", name=title).first.wait_for()


def wait_for(condition: Callable[[], object], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not come true"
        time.sleep(0.3)


def open_list(page: "Page", name: str) -> None:
    """Open a select box; a page that is drawn anew meanwhile shuts it."""

    def is_open() -> int:
        if not page.get_by_role("option").count():
            page.get_by_role("combobox", name=name).click()
            page.wait_for_timeout(500)
        return page.get_by_role("option").count()

    wait_for(is_open, ANSWER_MS / 1000)


def wait_for_answer(page: "Page") -> None:
    page.get_by_text("Examine another scan").wait_for()


def wait_until_drawn(page: "Page") -> None:
    """Wait until nothing is pale any more, as what an unfinished rerun has not drawn anew is.

    Asked from here: the page's Content-Security-Policy forbids what `wait_for_function` does when
    it has to ask twice.
    """
    wait_for(lambda: not page.locator("[data-stale=true]").count(), ANSWER_MS / 1000)


def keep(page: "Page", name: str, whole: bool = False) -> None:
    """Keep what the browser shows in BRAINAGE_SCREENSHOTS; `whole` makes the window high enough."""
    if not (folder := os.environ.get("BRAINAGE_SCREENSHOTS")):
        return
    wait_until_drawn(page)
    size = page.viewport_size
    assert size is not None
    if whole:
        high = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
        page.set_viewport_size({"width": size["width"], "height": high + 60})
        page.wait_for_timeout(1500)
    page.screenshot(path=str(Path(folder) / name))
    page.set_viewport_size(size)


def show_mlflow(page: "Page", url: str, texts: tuple[str, ...]) -> None:
    """Open a page, put MLflow's assistant aside, and wait for what should be there.

    The window must be high enough: MLflow draws no chart that cannot be seen.
    """
    page.goto(url)
    page.get_by_text(texts[0]).first.wait_for()
    if page.get_by_role("button", name="Close", exact=True).count():
        page.get_by_role("button", name="Close", exact=True).last.click()
    for text in texts:
        page.get_by_text(text).first.wait_for()
    page.wait_for_timeout(4000)

"""Fixtures of the browser tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.speed.page import browse
from tests.browser.pages import CHROMIUM, open_page


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with browse() as made:
        yield made


@pytest.fixture(scope="session")
def models(phantom_cohort, tmp_path_factory):
    """Folder of bundles; BRAINAGE_TEST_MODEL names another."""
    if given := os.environ.get("BRAINAGE_TEST_MODEL"):
        return Path(given)
    folder = tmp_path_factory.mktemp("models")
    options = ["--preset", "phantom", "--epochs", "2", "--tracking-uri", "off"]
    command = [sys.executable, "-m", "brainage.cli.main", "train", "--cohort", str(phantom_cohort)]
    subprocess.run([*command, *options, "--output", str(folder / "phantom")], check=True)
    return folder


@pytest.fixture
def page(browser, server):
    """A fresh page of the module's own server."""
    made = open_page(browser, server)
    yield made
    made.close()

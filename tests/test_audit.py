"""The audit finds what it looks for."""

import base64
import hashlib
import json
import os
import subprocess
import sys
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from deploy import audit, licences
from tests.guard.sitecustomize import NOTES_VARIABLE

ROOT = Path(__file__).parents[1]


def test_no_locked_and_no_admitted_version_is_known_to_be_vulnerable():
    project = (ROOT / "pyproject.toml").read_text()
    assert len(audit.locked()) > 100
    assert audit.find_advised(audit.locked(), "locked") == []
    assert audit.find_advised(audit.lower_bounds(project), "admitted") == []


def test_vulnerable_version_is_named_with_what_mends_it():
    (line,) = audit.find_advised([("pydicom", "3.0.1"), ("pydicom", "3.0.2")], "locked")
    assert line == "locked pydicom 3.0.1: CVE-2026-32711, mended in 3.0.2"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("", None),
        ({"dependencies": [{"name": "a", "skip_reason": "not found on PyPI"}]}, None),
        ({"dependencies": [{"name": "a", "version": "1", "vulns": []}]}, []),
        (
            {"dependencies": [{"name": "a", "version": "1",
                               "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}]},
            ["a 1: CVE-1, mended in 2"],
        ),
    ],
)  # fmt: skip
def test_service_without_knowledge_is_no_clean_bill(answer, expected, monkeypatch):
    def run(command, **_):
        return subprocess.CompletedProcess(command, 0, answer and json.dumps(answer), "")

    monkeypatch.setattr(audit.subprocess, "run", run)
    assert audit.ask_service([("a", "1")]) == expected


def test_altered_and_missing_files_are_found(tmp_path):
    info = tmp_path / "thing-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: thing\nVersion: 1\n")
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"good").digest()).rstrip(b"=").decode()
    names = ("same.py", "altered.py", "missing.py")
    (info / "RECORD").write_text("".join(f"{name},sha256={digest},4\n" for name in names))
    (tmp_path / "same.py").write_text("good")
    (tmp_path / "altered.py").write_text("evil")
    found = list(audit.find_altered(Distribution.at(info)))
    assert [line.split()[1] for line in found] == ["altered.py", "missing.py"]


def test_licences_are_listed_for_every_locked_package():
    text = (ROOT / "docs" / "reference" / "licences.md").read_text()
    head, _, table = text.partition("## All")
    listed = {line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()}
    for name in licences.locked_names():
        assert name in listed or name in head, f"{name}: run make lock"


def test_copyleft_is_recognised():
    assert all(map(licences.COPYLEFT.search, ("LGPL-3.0-only", "GPLv2", "MPL-2.0 AND MIT")))
    assert not any(map(licences.COPYLEFT.search, ("MIT", "Apache-2.0", "BSD-3-Clause", "PSF-2.0")))


@pytest.mark.slow
def test_audit_passes_here():
    # Its service is refused, as where there is no network; that it was asked is no failure.
    environment = {**os.environ, NOTES_VARIABLE: ""}
    command = [sys.executable, ROOT / "deploy" / "audit.py"]
    done = subprocess.run(command, env=environment, capture_output=True)
    assert done.returncode == 0, done.stdout.decode()


@pytest.mark.slow
def test_list_of_what_is_installed_is_valid_and_names_torch(tmp_path):
    target = tmp_path / "sbom.json"
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--validate"]
    command += ["--output-format", "JSON", "--output-file", target, sys.executable]
    subprocess.run(command, check=True, capture_output=True)
    listed = json.loads(target.read_text())
    assert listed["bomFormat"] == "CycloneDX"
    assert {"torch", "numpy", "monai"} <= {item["name"] for item in listed["components"]}

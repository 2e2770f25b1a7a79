"""deploy/lock.txt and its companions say what pyproject.toml asks for."""

import os
import re
import subprocess
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
# Without the tests' network guard: installing is what may ask other machines.
UNGUARDED = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins(name: str) -> dict[str, list[tuple[Requirement, int]]]:
    """Pinned requirements of a file with their numbers of hashes, by name."""
    text = (ROOT / "deploy" / name).read_text().replace("\\\n", " ")
    found: dict[str, list[tuple[Requirement, int]]] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line.partition("--hash=")[0].strip())
            hashes = len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", line))
            found.setdefault(canonicalize_name(requirement.name), []).append((requirement, hashes))
    return found


def version(requirement: Requirement) -> str:
    match = re.fullmatch(r"==([^*,]+)", str(requirement.specifier))
    assert match, f"{requirement} is no exact version"
    return match[1]


@pytest.mark.parametrize("name", ["lock.txt", "lock-build.txt"])
def test_every_locked_package_has_one_exact_version_and_hashes(name):
    for entries in pins(name).values():
        for requirement, hashes in entries:
            assert version(requirement) and hashes > 0, requirement


def test_lock_holds_what_the_project_asks_for():
    locked = pins("lock.txt") | pins("torch.txt")
    extras = PROJECT["project"]["optional-dependencies"]
    product = ("app", "report", "tracking", "cluster", "dicom", "server")
    needed = [*PROJECT["project"]["dependencies"], *(t for name in product for t in extras[name])]
    for asked in map(Requirement, needed):
        if asked.name == PROJECT["project"]["name"]:
            continue  # an extra made of others
        for requirement, _ in locked[canonicalize_name(asked.name)]:
            assert version(requirement) in asked.specifier, f"{requirement}: run make lock"


def test_what_builds_the_package_is_locked():
    for text in PROJECT["build-system"]["requires"]:
        asked = Requirement(text)
        for requirement, _ in pins("lock-build.txt")[canonicalize_name(asked.name)]:
            assert version(requirement) in asked.specifier, f"{requirement}: run make lock"


def test_torch_has_the_requirements_that_the_lock_was_made_with():
    (stated,) = PROJECT["tool"]["uv"]["dependency-metadata"]
    ((torch, _),) = pins("torch.txt")["torch"]
    assert version(torch) == stated["version"] and "torch" not in pins("lock.txt")
    own = {Requirement(text) for text in requires("torch") or []}
    # A build with CUDA asks for its libraries by markers of the platform.
    own = {item for item in own if item.marker is None or "python_version" in str(item.marker)}
    assert {(item.name, item.specifier) for item in own} >= {
        (item.name, item.specifier) for item in map(Requirement, stated["requires-dist"])
    }
    locked = pins("lock.txt")
    for item in own:
        for requirement, _ in locked[canonicalize_name(item.name)]:
            assert version(requirement) in item.specifier


@pytest.mark.slow
def test_lock_installs_and_answers(tmp_path):
    install = ROOT / "deploy" / "install.sh"
    # An empty word: torch from pip's own configuration, so from disk where there is no network.
    subprocess.run([install, tmp_path / "venv", ""], check=True, capture_output=True, env=UNGUARDED)
    locked, installed = pins("lock.txt"), tmp_path / "venv" / "bin" / "python"
    code = "import importlib.metadata as m\nfor d in m.distributions(): print(d.name, d.version)"
    listed = subprocess.run([installed, "-c", code], check=True, capture_output=True, text=True)
    for name, found in map(str.split, listed.stdout.splitlines()):
        if canonicalize_name(name) in locked:
            assert found in {version(entry) for entry, _ in locked[canonicalize_name(name)]}
    answer = subprocess.run([installed.with_name("brainage"), "selftest"], capture_output=True)
    assert answer.returncode == 0, answer.stdout.decode() + answer.stderr.decode()


@pytest.mark.slow
def test_file_with_another_hash_is_not_installed(tmp_path):
    lock = (ROOT / "deploy" / "lock-build.txt").read_text()
    (tmp_path / "lock.txt").write_text(
        re.sub(r"sha256:[0-9a-f]", "sha256:", lock).replace("sha256:", "sha256:0")
    )
    command = ["python3", "-m", "pip", "download", "--no-deps", "--require-hashes"]
    command += ["--requirement", "lock.txt"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=UNGUARDED)
    assert result.returncode != 0 and "DO NOT MATCH" in result.stderr

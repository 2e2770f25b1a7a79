"""Audit what deploy/lock.txt installs and what is installed here: `make audit`.

Known vulnerabilities come from pip-audit where its service answers, and in any case from the list
in deploy/advisories.csv. Then: files against the hashes they were installed with, requirements of
packages among each other, licences. Exit code 1 if anything is found.
"""

import base64
import csv
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

FOLDER = Path(__file__).parent
# Extras that the image and `make install` install.
PRODUCT = ("app", "report", "tracking", "cluster", "dicom", "server")
# Known to be vulnerable (CVE-2025-27516): a service that does not say so knows nothing.
CANARY = "jinja2==3.1.2"


def read_pins(text: str) -> list[tuple[str, str]]:
    """Name and version of each pinned package."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, re.MULTILINE)
    return [(canonicalize_name(name), version) for name, version in found]


def locked() -> list[tuple[str, str]]:
    """Return packages of all lock files."""
    names = ("lock.txt", "lock-build.txt", "torch.txt")
    return read_pins("\n".join((FOLDER / name).read_text(encoding="utf-8") for name in names))


def lower_bounds(project: str) -> list[tuple[str, str]]:
    """Lowest version of each direct dependency that a pyproject.toml admits."""
    found = []
    stated = tomllib.loads(project)["project"]
    extras = [text for name in PRODUCT for text in stated["optional-dependencies"][name]]
    for text in (*stated["dependencies"], *extras):
        requirement = Requirement(text)
        for bound in requirement.specifier:
            if bound.operator == ">=":
                found.append((canonicalize_name(requirement.name), bound.version))
    return found


def find_advised(pins: Iterable[tuple[str, str]], what: str) -> list[str]:
    """Pins below the version that mends an advisory of ours."""
    with (FOLDER / "advisories.csv").open(encoding="utf-8") as stream:
        advisories = list(csv.DictReader(stream))
    return [
        f"{what} {name} {version}: {row['advisory']}, mended in {row['fixed_in']}"
        for name, version in pins
        for row in advisories
        if row["package"] == name and Version(version) < Version(row["fixed_in"])
    ]


def ask_service(pins: Iterable[tuple[str, str]]) -> list[str] | None:
    """Return findings of pip-audit's service on some pins; None if it does not answer."""
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder, "requirements.txt")
        listed.write_text("\n".join(f"{name}=={version}" for name, version in pins))
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(listed), "--no-deps"]
        command += ["--disable-pip", "--format=json", "--progress-spinner=off", "--timeout=10"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        answer = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return None
    # A package that the service does not know is skipped, not refused: all of them, without it.
    if answer and all("skip_reason" in entry for entry in answer):
        return None
    return [
        f"{entry['name']} {entry['version']}: {finding['id']}, "
        f"mended in {', '.join(finding['fix_versions']) or 'no version'}"
        for entry in answer
        for finding in entry.get("vulns", [])
    ]


def find_altered(distribution: Distribution) -> Iterator[str]:
    """Files of a package that are missing or not those it was installed with."""
    for file in distribution.files or []:
        path = Path(str(file.locate()))
        if file.hash is None or file.hash.mode != "sha256":
            continue
        if not path.is_file():
            yield f"{distribution.name}: {file} is missing"
            continue
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
            yield f"{distribution.name}: {file} was altered after the installation"


def run(*command: str) -> list[str]:
    """Lines of a command that failed; nothing if it did not."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).splitlines() if done.returncode else []


def audit() -> Iterator[tuple[str, list[str]]]:
    """Say what was done, and what was found."""
    pins = locked()
    if ask_service(read_pins(CANARY)):
        found = ask_service(pins)
        yield f"pip-audit: {len(pins)} locked packages", ["no answer"] if found is None else found
    else:
        yield "pip-audit: NOT DONE, its service does not answer; only the list below counts", []
    installed = [(canonicalize_name(item.name), item.version) for item in distributions()]
    lowest = lower_bounds((FOLDER.parent / "pyproject.toml").read_text(encoding="utf-8"))
    found = find_advised(pins, "locked") + find_advised(installed, "installed")
    found += find_advised(lowest, "admitted by pyproject.toml")
    yield "advisories.csv: locked, installed and lowest admitted versions", found
    altered = [line for item in distributions() for line in find_altered(item)]
    yield f"files of {len(installed)} installed packages against their hashes", altered
    yield "requirements of packages (pip check)", run(sys.executable, "-m", "pip", "check")
    yield "licences", run(sys.executable, str(FOLDER / "licences.py"))


def main() -> None:
    """Print what was done and found."""
    problems = 0
    for done, found in audit():
        sys.stdout.write(f"{'FOUND' if found else 'ok   '} {done}\n")
        sys.stdout.writelines(f"      {line}\n" for line in found)
        problems += len(found)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()

"""List the licences of what deploy/lock.txt installs, as Markdown: `python deploy/licences.py`.

Exit code 1 if a licence is unknown, or copyleft without a reason here why it may be used.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

from packaging.utils import canonicalize_name

FOLDER = Path(__file__).parent
COPYLEFT = re.compile(r"GPL|MPL|EUPL|CDDL|EPL|CECILL|Mozilla|Lesser|Affero", re.IGNORECASE)
# Reason for each copyleft package that may be installed. None is part of our own files.
ACCEPTED = {
    "certifi": "MPL covers its own files: a list of certificates, installed unchanged.",
    "psycopg": "LGPL: a library used unchanged and exchangeable; extra `server` alone.",
    "psycopg-binary": "As psycopg.",
    "tqdm": "MPL covers its own files, installed unchanged.",
}
# Packages whose metadata name no licence; read from the licence file in their wheel.
READ = {"dcm2niix": "BSD-2-Clause", "huey": "MIT", "skops": "MIT"}
_FIELDS = ("License-Expression", "License-Classifier", "License-Metadata")


def locked_names() -> list[str]:
    """Return packages of the lock, and torch."""
    texts = [(FOLDER / name).read_text(encoding="utf-8") for name in ("lock.txt", "torch.txt")]
    names = re.findall(r"^([A-Za-z0-9._-]+)==", "\n".join(texts), re.MULTILINE)
    return sorted({canonicalize_name(name) for name in names})


def read_licences(names: list[str]) -> dict[str, tuple[str, str]]:
    """Version and licence of each package that is installed here."""
    command = [sys.executable, "-m", "piplicenses", "--from=all", "--format=json"]
    command += ["--with-system", "--packages"]
    listed = subprocess.run([*command, *names], check=True, capture_output=True, text=True)
    found = {}
    for entry in json.loads(listed.stdout):
        name = canonicalize_name(entry["Name"])
        given = [entry[field] for field in _FIELDS if entry[field] not in ("UNKNOWN", "")]
        short = next((text for text in given if len(text) < 120 and text != "OSI Approved"), "")
        found[name] = (entry["Version"], READ.get(name, short))
    return found


def main() -> None:
    """Print the table."""
    names = locked_names()
    found = read_licences(names)
    problems = [f"{name}: no licence is known" for name in found if not found[name][1]]
    copyleft = [name for name in found if COPYLEFT.search(found[name][1])]
    problems += [f"{name}: {found[name][1]}" for name in copyleft if name not in ACCEPTED]
    lines = ["# Licences of what is installed", ""]
    lines += [
        "Made by `make lock` from the packages' own metadata; brainage itself: Apache-2.0.",
        "",
    ]
    lines += ["## Copyleft, and why it may be used", "", "| package | licence | why |"]
    lines += ["|---|---|---|"]
    lines += [f"| {name} | {found[name][1]} | {ACCEPTED.get(name, '')} |" for name in copyleft]
    elsewhere = [name for name in names if name not in found]
    if elsewhere:
        lines += ["", f"Only on other systems, so not read here: {', '.join(elsewhere)}."]
    lines += ["", "## All", "", "| package | version | licence |", "|---|---|---|"]
    lines += [f"| {name} | {version} | {text} |" for name, (version, text) in sorted(found.items())]
    sys.stdout.write("\n".join(lines) + "\n")
    if problems:
        sys.exit("\n".join(["licences that need a decision:", *problems]))


if __name__ == "__main__":
    main()

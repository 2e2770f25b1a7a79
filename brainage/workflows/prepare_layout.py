"""Where `brainage prepare` puts things: a BIDS derivative data set with a cohort table.

Layout: https://bids-specification.readthedocs.io/en/stable/derivatives/introduction.html
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from brainage import __version__
from brainage.errors import ConfigError
from brainage.files import LOCK, atomic_write_text, remove_old
from brainage.prepared.derivatives import SPACE

IMAGE_END, MASK_END = f"_space-{SPACE}_desc-preproc_T1w", f"_space-{SPACE}_desc-brain_mask"
DESCRIPTION, COHORT, LEDGER = "dataset_description.json", "cohort.csv", "ledger.csv"
SHEET, PICTURES = "contact_sheet.html", "pictures"
_CODE_URL = "https://github.com/brainage/brainage"
_IGNORED = f"{COHORT}\n{LEDGER}\n{SHEET}\n{PICTURES}/\n"


def name_scans(table: pd.DataFrame) -> list[str]:
    """Path of each scan's files without their ends, such as ``sub-01/ses-2/anat/sub-01_ses-2``.

    Labels keep letters and digits alone, as BIDS asks; where two subjects, or two sessions of one,
    would so become one, a hash of the full name is added. Further scans of a session are runs.
    """
    subjects = _label_all(table["subject_id"].tolist(), "sub")
    both = zip(table["subject_id"], table["session_id"], strict=True)
    sessions = _label_all([f"{a}\n{b}" if b else "" for a, b in both], "ses", within=subjects)
    stems = []
    seen: Counter[str] = Counter()
    for subject, session in zip(subjects, sessions, strict=True):
        folder = "/".join(part for part in (subject, session, "anat") if part)
        stem = "_".join(part for part in (subject, session) if part)
        seen[stem] += 1
        run = f"_run-{seen[stem]}" if seen[stem] > 1 else ""
        stems.append(f"{folder}/{stem}{run}")
    return stems


def _label_all(names: Sequence[str], entity: str, within: Sequence[str] | None = None) -> list[str]:
    """BIDS label of each name; equal names get equal labels, different ones different labels."""
    scopes = within if within is not None else [""] * len(names)
    owners: dict[tuple[str, str], str] = {}
    labels = []
    for name, scope in zip(names, scopes, strict=True):
        short = name.split("\n")[-1].removeprefix(f"{entity}-")
        label = re.sub(r"[^A-Za-z0-9]", "", short)
        if name and (not label or owners.setdefault((scope, label.lower()), name) != name):
            label += hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
        labels.append(f"{entity}-{label}" if label else "")
    return labels


def check_output(output: Path) -> None:
    """Check that a folder is new, empty, or an earlier output of this command.

    Raises
    ------
    ConfigError
        If it holds anything else.
    """
    if output.is_dir() and all(path.name == LOCK for path in output.iterdir()):
        return
    try:
        made_by = json.loads((output / DESCRIPTION).read_text(encoding="utf-8"))["GeneratedBy"]
        is_ours = made_by[0]["Name"] == "brainage"
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        is_ours = False
    if not is_ours:
        raise ConfigError("--output", f"{output} holds something else.", "Choose a new folder.")


def write_description(output: Path) -> None:
    """Mark a folder as a derivative data set of ours."""
    description = {
        "Name": "T1 scans in MNI space, prepared by brainage",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "brainage", "Version": __version__, "CodeURL": _CODE_URL}],
    }
    atomic_write_text(output / DESCRIPTION, json.dumps(description, indent=2) + "\n")
    atomic_write_text(output / ".bidsignore", _IGNORED)


def remove_stale(output: Path, stems: Sequence[str]) -> None:
    """Remove our files of scans that an earlier run had and this one has not.

    Raises
    ------
    BrainageError
        If a file cannot be removed.
    """
    wanted = {f"{stem}{end}" for stem in stems for end in (IMAGE_END, MASK_END)}
    patterns = (f"sub-*/**/anat/*{IMAGE_END}.*", f"sub-*/**/anat/*{MASK_END}.*")
    for path in [path for pattern in patterns for path in output.glob(pattern)]:
        if path.relative_to(output).as_posix().split(".")[0] not in wanted:
            remove_old(path)

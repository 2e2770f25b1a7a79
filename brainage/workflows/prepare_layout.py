"""Where `brainage prepare` puts things: a BIDS derivative data set with a cohort table.

Layout: https://bids-specification.readthedocs.io/en/stable/derivatives/introduction.html
"""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from brainage import __version__
from brainage.cohorts.bids_files import write_dictionary
from brainage.errors import ConfigError
from brainage.files import LOCK, atomic_write_text, remove_old
from brainage.prepared.derivatives import SPACE

IMAGE_END, MASK_END = f"_space-{SPACE}_desc-preproc_T1w", f"_space-{SPACE}_desc-brain_mask"
DESCRIPTION, COHORT, LEDGER = "dataset_description.json", "cohort.csv", "ledger.csv"
SHEET, PICTURES = "contact_sheet.html", "pictures"
_CODE_URL = "https://github.com/brainage/brainage"
_IGNORED = (
    f"{COHORT}\n{LEDGER}\n{SHEET}\n{PICTURES}\n{PICTURES}/\n{PICTURES}/**\n"
    "*_brainage.*\n**/*_brainage.*\n"
)
_SOURCE_NAME = re.compile(r"(sub-[^_]+(?:_[^_]+)*)_T1w\.nii(?:\.gz)?")
# In the order that BIDS asks for.
_ENTITY = re.compile(r"(?<=_)(?:acq|ce|rec|run|echo)-[A-Za-z0-9]+")
_README = f"""T1-weighted scans in the space {SPACE}, skull-stripped, made by brainage.

Beside each volume a JSON file says how it was made. {COHORT} lists the scans that can be used with
the age of each scan. Of `brainage prepare`, {LEDGER} lists all scans with their verdicts and
{SHEET} shows them; of `brainage bids`, *_brainage.html is the report on a scan and
group_brainage.tsv the table of all.
"""
_RAW = "raw"
_LONGEST_LABEL = 60  # of several labels and their ends no file name may exceed 255 bytes
_SESSIONS, _PARTS_OF_SESSION = "_sessions.tsv", 4


def name_scans(table: pd.DataFrame) -> list[str]:
    """Return each scan's path without its end, such as ``sub-01/ses-2/anat/sub-01_ses-2_run-1``.

    The acquisition, contrast, reconstruction, run and echo that a BIDS source names are kept.
    Labels keep letters and digits alone, as BIDS asks; where two subjects, or two sessions of one,
    would so become one, a hash of the full name is added. Further scans of a session are runs.
    """
    subjects = _label_all(table["subject_id"].tolist(), "sub")
    both = list(zip(table["subject_id"], table["session_id"], strict=True))
    sessions = _label_all([f"{a}\n{b}" if b else "" for a, b in both], "ses", within=subjects)
    kept = [_kept_entities(path) for path in table["path"]] if "path" in table else [""] * len(both)
    natural = [
        f"{'/'.join(filter(None, (subject, session, 'anat')))}/"
        f"{'_'.join(filter(None, (subject, session, source)))}"
        for subject, session, source in zip(subjects, sessions, kept, strict=True)
    ]
    taken = {stem.lower() for stem in natural}
    seen: set[str] = set()
    stems = []
    for stem in natural:
        name, count = stem, 1
        if stem.lower() in seen:
            while name.lower() in taken:
                count += 1
                name = _with_run(stem, count)
        taken.add(name.lower())
        seen.add(stem.lower())
        stems.append(name)
    return stems


def _kept_entities(path: str) -> str:
    """Return the entities of a BIDS file's name that tell scans of a session apart."""
    name = _SOURCE_NAME.fullmatch(Path(path).name)
    return "_".join(_ENTITY.findall(name[1])) if name else ""


def _with_run(stem: str, count: int) -> str:
    """Return a stem whose name is taken already with a run number of its own."""
    parts = [part for part in stem.split("_") if not part.startswith("run-")]
    place = next((i for i, part in enumerate(parts) if part.startswith("echo-")), len(parts))
    return "_".join([*parts[:place], f"run-{count}", *parts[place:]])


def _label_all(names: Sequence[str], entity: str, within: Sequence[str] | None = None) -> list[str]:
    """BIDS label of each name; equal names get equal labels, different ones different labels."""
    scopes = within if within is not None else [""] * len(names)
    owners: dict[tuple[str, str], str] = {}
    labels = []
    for name, scope in zip(names, scopes, strict=True):
        short = name.split("\n")[-1].removeprefix(f"{entity}-")
        label = re.sub(r"[^A-Za-z0-9]", "", short)
        is_new = label and owners.setdefault((scope, label.lower()), name) == name
        if name and (not is_new or len(label) > _LONGEST_LABEL):
            label = label[:_LONGEST_LABEL]
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


def source_uri(path: str, source: str) -> str:
    """Return the BIDS URI of a scan in a BIDS folder; empty where the source is a table."""
    root = Path(source).absolute()
    if not root.is_dir() or not Path(path).is_relative_to(root):
        return ""
    return f"bids:{_RAW}:{Path(path).relative_to(root).as_posix()}"


def write_description(
    output: Path, table: pd.DataFrame, stems: Sequence[str], source: str = ""
) -> None:
    """Write what describes a derivative data set of ours: description, README, people, sessions.

    Parameters
    ----------
    output : Path
    table : pandas.DataFrame (N, columns)
        Scans that are written, as in the cohort table.
    stems : sequence of str (N,)
        As `name_scans` gives them: their subjects are the participants.
    source : str
        What was prepared: a BIDS folder is linked by its place beside the output.
    """
    describe_dataset(output, source)
    write_people(output, table, stems)


def describe_dataset(output: Path, source: str = "") -> None:
    """Write description, README and the list of files that BIDS does not know."""
    description: dict[str, object] = {
        "Name": "T1 scans in MNI space, prepared by brainage",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "License": "n/a",
        "Authors": ["Authors of the source data set", "The brainage developers"],
        "GeneratedBy": [{"Name": "brainage", "Version": __version__, "CodeURL": _CODE_URL}],
    }
    if Path(source).is_dir():
        place = os.path.relpath(Path(source).absolute(), output.absolute())
        description["DatasetLinks"] = {_RAW: Path(place).as_posix()}
    atomic_write_text(output / DESCRIPTION, json.dumps(description, indent=2) + "\n")
    atomic_write_text(output / ".bidsignore", _IGNORED)
    atomic_write_text(output / "README", _README)


def write_people(output: Path, table: pd.DataFrame, stems: Sequence[str]) -> None:
    """Write participants.tsv, sessions.tsv of people who have them, and their dictionaries."""
    parts = [stem.split("/") for stem in stems]
    people = table.assign(
        participant_id=[part[0] for part in parts],
        session_id=[part[1] if len(part) == _PARTS_OF_SESSION else "" for part in parts],
    )
    _write_sessions(output, people)
    columns = {"age_years": "age", "sex": "sex", "site": "site"}
    people = people[["participant_id", *columns]].rename(columns=columns)
    # The age of the first scan: those of later sessions stand in sessions.tsv.
    people = people.sort_values(["participant_id", "age"]).drop_duplicates("participant_id")
    text = people.replace("", "n/a").to_csv(sep="\t", index=False, na_rep="n/a")
    atomic_write_text(output / "participants.tsv", text)
    write_dictionary(output / "participants.json", people, "People with prepared scans.")


def _write_sessions(output: Path, people: pd.DataFrame) -> None:
    """Write the age of each session, for people who have sessions; remove other such tables."""
    visits = people[people["session_id"] != ""].rename(columns={"age_years": "age"})
    visits = visits.sort_values(["participant_id", "session_id", "age"])
    visits = visits.drop_duplicates(["participant_id", "session_id"])
    written = set()
    for subject, rows in visits.groupby("participant_id"):
        path = output / str(subject) / f"{subject}{_SESSIONS}"
        text = rows[["session_id", "age"]].to_csv(sep="\t", index=False, na_rep="n/a")
        atomic_write_text(path, text)
        written.add(path)
    for path in {*output.glob(f"sub-*/sub-*{_SESSIONS}")} - written:
        remove_old(path)
    dictionary = output / "sessions.json"
    if written:
        write_dictionary(dictionary, ["age"], "Sessions with prepared scans.")
    else:
        remove_old(dictionary)


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

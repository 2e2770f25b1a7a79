"""BIDS folders, raw or fMRIPrep/sMRIPrep derivatives, as a table with a row for each T1w file.

Layout: https://bids-specification.readthedocs.io (MRI, participants file, sessions file).
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from brainage.cohorts.cells import is_missing
from brainage.cohorts.table_files import RawTable, read_table
from brainage.errors import CohortError

_T1W = re.compile(r"(?P<stem>sub-[^_]+(?:_[^_]+)*_T1w)\.nii(?:\.gz)?")
_SESSION_NAMES = ("session_id", "session", "ses_id")
_OWN = ("scan_id", "subject_id", "session_id", "path", "derivative_mask")

_Row = dict[str, str]


@dataclass(frozen=True)
class _Image:
    """One T1w file: where it lies and what its name says."""

    path: Path
    stem: str
    subject: str
    session: str
    entities: Mapping[str, str]

    @property
    def scan_id(self) -> str:
        return f"{self.subject}_{self.session}" if self.session else self.subject


@dataclass(frozen=True)
class _People:
    """Rows of participants.tsv by (subject, session); the session is mostly empty."""

    folder: Path | None
    rows: Mapping[tuple[str, str], list[_Row]]
    blank: _Row


def read_bids(folder: Path) -> RawTable:
    """List the T1w files of a BIDS folder with what its tables tell about them.

    The best file of each session comes first and is used, the others are surplus: MNI space
    before native space in derivatives, then files not named defaced, then the lowest run.
    Values of ``sub-*_sessions.tsv`` go before those of ``participants.tsv``. A derivative
    folder without ``participants.tsv`` takes that of the data set it lies in.

    Returns
    -------
    RawTable
        One row for each T1w file, and one for each participant without any. Columns of the
        tables, and `scan_id` (``sub-01`` or ``sub-01_ses-02``), `subject_id`, `session_id`,
        `path`, and `derivative_mask` where a brain mask lies beside a preprocessed file.

    Raises
    ------
    CohortError
        If there is no T1w file, a table cannot be read, or `brainage prepare` has not finished.
    """
    _refuse_unfinished(folder)
    sessions: dict[str, list[_Image]] = defaultdict(list)
    for image in _find_images(folder):
        sessions[image.scan_id].append(image)
    if not sessions:
        problem = "is not a BIDS folder: it holds no sub-*/[ses-*/]anat/sub-*_T1w.nii[.gz]."
        raise CohortError(str(folder), problem, "Give a BIDS folder or a CSV/TSV table.")
    people = _read_participants(_find_tables(folder))
    rows: list[_Row] = []
    notes: list[tuple[str, str, bool]] = []
    for images in sessions.values():
        first, *others = sorted(images, key=_preference)
        about, problem = _describe(first, people)
        for image in (first, *others):
            own = _own_columns(image, first, folder)
            rows.append({**about, **own})
            wrong = problem or _check_name(image)
            if image is not first:
                wrong = f"further T1w file of the session; {first.path.name} is used"
            notes.append((own["path"], wrong, image is not first))
    present = {image.subject for images in sessions.values() for image in images}
    for subject, session in sorted(people.rows):
        if subject in present:
            continue
        present.add(subject)
        about = people.rows[subject, session][0]
        rows.append({**about, "scan_id": subject, "subject_id": subject})
        notes.append(("participants.tsv", "has no T1w file in its folder", False))
    return _build(folder, rows, notes)


def _build(folder: Path, rows: list[_Row], notes: list[tuple[str, str, bool]]) -> RawTable:
    frame = pd.DataFrame(rows).fillna("").astype(str)
    if not frame["derivative_mask"].any():
        frame = frame.drop(columns="derivative_mask")
    table = pd.DataFrame(notes, columns=["label", "problem", "surplus"])
    table["number"] = range(1, len(table) + 1)
    roles = {name: name for name in _OWN if name != "derivative_mask"}
    return RawTable(str(folder), folder, frame, table, roles)


def _refuse_unfinished(folder: Path) -> None:
    """Refuse what `brainage prepare` has begun: its cohort table comes when all is there."""
    try:
        about = json.loads((folder / "dataset_description.json").read_text(encoding="utf-8"))
        is_ours = about["GeneratedBy"][0]["Name"] == "brainage"
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return
    if is_ours and not (folder / "cohort.csv").exists():
        problem = "was not prepared to its end: there is no cohort.csv."
        raise CohortError(str(folder), problem, "Run `brainage prepare` again.")


def _find_images(folder: Path) -> Iterable[_Image]:
    found = [*folder.glob("sub-*/anat/*_T1w.nii*"), *folder.glob("sub-*/ses-*/anat/*_T1w.nii*")]
    for path in sorted(found):
        match = _T1W.fullmatch(path.name)
        if match is None:
            continue
        subject, *rest = path.relative_to(folder).parts[:-2]
        pairs = (part.partition("-") for part in match["stem"].split("_")[:-1])
        entities = {key: value for key, _, value in pairs}
        yield _Image(path, match["stem"], subject, rest[0] if rest else "", entities)


def _preference(image: _Image) -> tuple[int, bool, int, str]:
    """Sort key: the smallest is used."""
    description, space = image.entities.get("desc", ""), image.entities.get("space", "")
    if description == "preproc" and space.startswith("MNI"):
        # Of several MNI spaces the one of the network's template goes first.
        rank = 0 if space.startswith("MNI152NLin2009c") else 1
    elif not space and description in ("", "preproc"):
        rank = 2
    else:
        rank = 3
    digits = re.sub(r"\D", "", image.entities.get("run", ""))
    return rank, "defaced" in image.stem.lower(), int(digits or 0), image.path.name


def _check_name(image: _Image) -> str:
    named = f"sub-{image.entities['sub']}"
    return "" if named == image.subject else f"lies in {image.subject}, but is named {named}"


def _own_columns(image: _Image, first: _Image, folder: Path) -> _Row:
    mask_name = image.path.name.replace("_desc-preproc_T1w", "_desc-brain_mask")
    mask = image.path.with_name(mask_name)
    return {
        "scan_id": image.scan_id if image is first else image.stem,
        "subject_id": image.subject,
        "session_id": image.session,
        "path": image.path.relative_to(folder).as_posix(),
        "derivative_mask": str(mask.absolute()) if mask != image.path and mask.is_file() else "",
    }


def _find_tables(folder: Path) -> Path | None:
    """Folder that holds participants.tsv: this one, or the raw one around derivatives/NAME."""
    around = [folder.absolute()]
    if around[0].parent.name == "derivatives":
        around.append(around[0].parent.parent)
    return next((place for place in around if (place / "participants.tsv").is_file()), None)


def _read_participants(tables: Path | None) -> _People:
    rows: dict[tuple[str, str], list[_Row]] = defaultdict(list)
    if tables is None:
        return _People(None, rows, {})
    raw = read_table(tables / "participants.tsv")
    if "participant_id" not in raw.frame:
        raise CohortError(raw.source, "has no column participant_id.", "BIDS asks for it.")
    for row in _as_rows(raw.frame):
        key = _with_prefix("sub", row["participant_id"]), _session_of(row)
        about = _drop_own(row)
        # Rows that repeat each other do no harm.
        if about not in rows[key]:
            rows[key].append(about)
    return _People(tables, rows, _drop_own(dict.fromkeys(raw.frame.columns, "")))


def _describe(image: _Image, people: _People) -> tuple[_Row, str]:
    """Return what the tables tell about a session, and what is wrong with it."""
    if people.folder is None:
        return {}, ""
    keys = (image.subject, image.session), (image.subject, "")
    found = next((people.rows[key] for key in keys if key in people.rows), [])
    if not found:
        return people.blank, "is not in participants.tsv"
    if len(found) > 1:
        return people.blank, f"stands in participants.tsv {len(found)} times, with other values"
    return {**found[0], **_drop_own(_read_session(image, people.folder))}, ""


def _drop_own(row: _Row) -> _Row:
    """Leave out columns whose values the folder itself gives."""
    return {name: cell for name, cell in row.items() if name not in ("participant_id", *_OWN)}


def _read_session(image: _Image, tables: Path) -> _Row:
    """Known values of the session's row in the subject's sessions.tsv."""
    path = tables / image.subject / f"{image.subject}_sessions.tsv"
    if not image.session or not path.is_file():
        return {}
    for row in _as_rows(read_table(path).frame):
        if _session_of(row) == image.session:
            return {name: cell for name, cell in row.items() if not is_missing(cell)}
    return {}


def _session_of(row: _Row) -> str:
    cell = next((row[name] for name in _SESSION_NAMES if name in row), "")
    return "" if is_missing(cell) else _with_prefix("ses", cell)


def _with_prefix(entity: str, label: str) -> str:
    return label if label.startswith(f"{entity}-") else f"{entity}-{label}"


def _as_rows(frame: pd.DataFrame) -> list[_Row]:
    return [dict(zip(frame.columns, cells, strict=True)) for cells in frame.to_numpy().tolist()]

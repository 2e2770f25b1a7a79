"""BIDS folders, raw or fMRIPrep/sMRIPrep derivatives, as a table with a row for each T1w file.

Layout: https://bids-specification.readthedocs.io (MRI, participants file, sessions file).
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from brainage.cohorts.bids_choice import (
    describe_choice,
    parse_entities,
    preference,
    refuse_image,
)
from brainage.cohorts.bids_contradicted import describe_contradicted, name_contradicted
from brainage.cohorts.cells import (
    add_unit,
    is_missing,
    is_other_unit,
    parse_sex,
    read_legend,
)
from brainage.cohorts.columns import is_usual
from brainage.cohorts.table_files import RawTable, read_table
from brainage.errors import CohortError

_T1W = re.compile(r"(?P<stem>sub-[^_]+(?:_[^_]+)*_T1w)\.nii(?:\.gz)?")
_SESSION_NAMES = ("session_id", "session", "ses_id")
PARTICIPANTS = "participants.tsv"
_UNIT_IN_TEXT = re.compile(
    r"\bin\s(?:\w+\s)?(months|weeks|days)\b|[(\[](months|weeks|days)[)\]]", re.IGNORECASE
)
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
    units: Mapping[str, str] = field(default_factory=dict)
    legends: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def rows_of(self, image: _Image) -> list[_Row]:
        """Rows of the image's session, or else of its person."""
        session = self.rows.get((image.subject, image.session), [])
        return session or self.rows.get((image.subject, ""), [])


def read_bids(folder: Path, shared_age: bool = False) -> RawTable:
    """List the T1w files of a BIDS folder with what its tables tell about them.

    The best file of each session comes first and is used (`bids_choice.preference`), the others
    are surplus. Values of ``sub-*_sessions.tsv`` go before those of ``participants.tsv``. A
    derivative folder without ``participants.tsv`` takes that of the data set it lies in.

    Parameters
    ----------
    folder : Path
    shared_age : bool
        Take a participant's one age for each of several sessions. Without it the age of these
        sessions is unknown: it may be that of the first visit.

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
    visits = Counter(images[0].subject for images in sessions.values())
    ageless, chosen, contradicted = 0, [], []
    rows: list[_Row] = []
    notes: list[tuple[str, str, bool]] = []
    for images in sessions.values():
        first, *others = sorted(images, key=lambda image: preference(image.entities, image.stem))
        chosen.append([first.stem, *(image.stem for image in others)])
        about, problem, is_shared = _describe(first, people, visits[first.subject] > 1)
        person = (people.rows_of(first) or [{}])[0]
        contradicted += name_contradicted(first.scan_id, about, person)
        if is_shared and not shared_age:
            ageless += _drop_age(about)
        for image in (first, *others):
            own = _own_columns(image, first, folder)
            rows.append({**about, **own})
            wrong = problem or _check_name(image) or refuse_image(image.entities)
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
    remarks = [
        *describe_choice(chosen),
        *people.remarks,
        *describe_contradicted(contradicted),
    ]
    if ageless:
        remarks.append(
            f"{ageless} sessions have no age of their own, only one of the person for several "
            "sessions: it is not taken. Give sub-*_sessions.tsv, or --column age=NAME to take it."
        )
    return replace(
        _build(folder, rows, notes),
        units=people.units,
        legends=people.legends,
        remarks=tuple(remarks),
        people="" if people.folder is None else str(people.folder / PARTICIPANTS),
    )


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
        entities = parse_entities(match["stem"])
        named = f"ses-{entities['ses']}" if "ses" in entities else ""
        yield _Image(path, match["stem"], subject, rest[0] if rest else named, entities)


def _check_name(image: _Image) -> str:
    for entity, folder in (("sub", image.subject), ("ses", image.session)):
        named = f"{entity}-{image.entities.get(entity, '')}"
        if entity in image.entities and named != folder:
            return f"lies in {folder}, but is named {named}"
    return ""


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
    return next((place for place in around if (place / PARTICIPANTS).is_file()), None)


def _read_participants(tables: Path | None) -> _People:
    rows: dict[tuple[str, str], list[_Row]] = defaultdict(list)
    if tables is None:
        return _People(None, rows, {})
    raw = read_table(tables / PARTICIPANTS)
    if "participant_id" not in raw.frame:
        raise CohortError(raw.source, "has no column participant_id.", "BIDS asks for it.")
    units, legends = read_dictionary(tables / "participants.json", [*map(str, raw.frame)])
    for row in _as_rows(raw.frame):
        row = _add_units(row, units)
        key = _with_prefix("sub", row["participant_id"]), _session_of(row)
        about = _drop_own(row)
        # Rows that repeat each other do no harm.
        if about not in rows[key]:
            rows[key].append(about)
    others = {name: unit for name, unit in units.items() if not is_usual(name, "age_years")}
    remarks = [
        f"participants.json: column {name!r} is in {unit}."
        for name, unit in units.items()
        if name in raw.frame and name not in others and is_other_unit(unit)
    ]
    blank = _drop_own(dict.fromkeys(raw.frame.columns, ""))
    return _People(tables, rows, blank, others, legends, (*raw.remarks, *remarks))


def read_dictionary(
    path: Path, columns: Iterable[str]
) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Return units and codes of a table's columns, as a BIDS data dictionary tells them.

    It may write their names in another case, and tell unit and codes in the description.

    Raises
    ------
    CohortError
        If it is there but no JSON object: units that cannot be read must not become years.
    """
    if not path.is_file():
        return {}, {}
    try:
        told = dict(json.loads(path.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError, TypeError) as error:
        problem = "is not a JSON object, so the units of its columns are unknown."
        raise CohortError(str(path), problem, "Mend or remove it.") from error
    plain = {name.lower(): about for name, about in told.items() if isinstance(about, dict)}
    units, legends = {}, {}
    for column in columns:
        entry = told.get(column, plain.get(column.lower()))
        if not isinstance(entry, dict):
            continue
        about = {key.lower(): value for key, value in entry.items()}
        text = json.dumps([about.get(name) for name in ("levels", "longname", "description")])
        if unit := _find_unit(about, text):
            units[column] = unit
        if isinstance(levels := about.get("levels"), dict):
            legends[column] = {code: _first_sex_word(told) for code, told in levels.items()}
        elif legend := read_legend(text):
            legends[column] = legend
    return units, legends


def _find_unit(about: Mapping[str, object], text: str) -> str:
    """Return the unit that an entry of a dictionary tells, else its description; or empty."""
    words = re.findall(r"[^\W\d_]+", str(about.get("units") or about.get("unit") or ""))
    if words and words[0].lower() not in ("n", "na", "none"):
        return words[0].lower()
    found = {unit.lower() for pair in _UNIT_IN_TEXT.findall(text) for unit in pair if unit}
    return found.pop() if len(found) == 1 and "year" not in text.lower() else ""


def _first_sex_word(told: object) -> str:
    """Return the word of a level's text that names a sex, or its first word."""
    text = json.dumps(list(told.values())) if isinstance(told, dict) else str(told)
    words = re.findall(r"[^\W\d_]+", text)
    return next((word for word in words if parse_sex(word)), words[0] if words else "")


def _add_units(row: _Row, units: Mapping[str, str]) -> _Row:
    """Write units other than years behind ages, where a dictionary tells them."""
    return {
        name: add_unit(cell, units[name]) if name in units and is_usual(name, "age_years") else cell
        for name, cell in row.items()
    }


def _drop_age(about: _Row) -> bool:
    """Blank the ages of a row; tell whether there were any."""
    known = [name for name, cell in about.items() if is_usual(name, "age_years")]
    had_age = any(not is_missing(about[name]) for name in known)
    about.update(dict.fromkeys(known, ""))
    return had_age


def _describe(image: _Image, people: _People, several: bool) -> tuple[_Row, str, bool]:
    """Return what the tables tell about a session, what is wrong, and whether its age is shared.

    An age of the session takes the place of the participant's, whatever its column is called. The
    participant's is shared by several sessions where ages of sessions are told, but not this one's.
    """
    if people.folder is None:
        return {}, "", False
    found = people.rows_of(image)
    if not found:
        return dict(people.blank), "is not in participants.tsv", False
    if len(found) > 1:
        problem = f"stands in participants.tsv {len(found)} times, with other values"
        return dict(people.blank), problem, False
    session, problem, is_told = _read_session(image, people.folder)
    if problem:
        return dict(people.blank), problem, False
    own = _drop_own(session)
    ages = [name for name in own if is_usual(name, "age_years")]
    if len({own[name] for name in ages}) > 1:
        return dict(found[0]), f"has several ages: {', '.join(ages)}", False
    about = dict(found[0])
    if ages:
        target = next((name for name in about if is_usual(name, "age_years")), ages[0])
        age = own[ages[0]]
        own = {name: cell for name, cell in own.items() if name not in ages} | {target: age}
    has_row = (image.subject, image.session) in people.rows and image.session != ""
    is_shared = not ages and not has_row and (several or is_told)
    return {**about, **own}, "", is_shared


def _drop_own(row: _Row) -> _Row:
    """Leave out columns whose values the folder itself gives."""
    return {name: cell for name, cell in row.items() if name not in ("participant_id", *_OWN)}


def _read_session(image: _Image, tables: Path) -> tuple[_Row, str, bool]:
    """Known values of the session in its subject's sessions.tsv, what is wrong, has it ages."""
    path = tables / image.subject / f"{image.subject}_sessions.tsv"
    if not image.session or not path.is_file():
        return {}, "", False
    frame = read_table(path).frame
    columns = [*map(str, frame)]
    units = {
        **read_dictionary(tables / "sessions.json", columns)[0],
        **read_dictionary(path.with_suffix(".json"), columns)[0],
    }
    found: list[_Row] = []
    for row in _as_rows(frame):
        known = {
            name: cell for name, cell in _add_units(row, units).items() if not is_missing(cell)
        }
        if _session_of(row) == image.session and known not in found:
            found.append(known)
    if len(found) > 1:
        return {}, f"stands in {path.name} {len(found)} times, with other values", False
    has_ages = any(is_usual(name, "age_years") for name in columns)
    return (found[0] if found else {}), "", has_ages


def _session_of(row: _Row) -> str:
    cell = next((row[name] for name in _SESSION_NAMES if name in row), "")
    return "" if is_missing(cell) else _with_prefix("ses", cell)


def _with_prefix(entity: str, label: str) -> str:
    return label if label.startswith(f"{entity}-") else f"{entity}-{label}"


def _as_rows(frame: pd.DataFrame) -> list[_Row]:
    return [dict(zip(frame.columns, cells, strict=True)) for cells in frame.to_numpy().tolist()]

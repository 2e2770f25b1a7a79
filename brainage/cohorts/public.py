"""Public cohorts with ages: downloaded on request and laid out as BIDS.

IXI: https://brain-development.org/ixi-dataset. OASIS-1: Marcus et al. 2007,
doi:10.1162/jocn.2007.19.9.1498.
"""

import gzip
import io
import json
import math
import re
import tarfile
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.fileholders import FileHolder

from brainage.cohorts.bids_files import write_dictionary
from brainage.cohorts.cells import parse_sexes
from brainage.download import download
from brainage.errors import CohortError
from brainage.files import atomic_write_bytes, atomic_write_text
from brainage.types import LedgerEntry

Progress = Callable[[str, int, int], None]

# The largest file that is taken out of an archive: a 1 mm scan has 20 to 40 MB.
MAX_MEMBER_BYTES = 2**28
_IXI_FILE = re.compile(r"(IXI\d{3})-([A-Za-z]+)-\d+-T1\.nii\.gz")
_OASIS_FILE = re.compile(r"OAS1_(\d{4})_(MR\d)_mpr_n\d_anon_sbj_111\.(hdr|img)")


@dataclass(frozen=True)
class PublicCohort:
    """A cohort on a public server.

    Attributes
    ----------
    archives : tuple of str
        Tar files with the scans, below `base_url`.
    table, table_url : str
        Demographic table and the folder it lies in; empty: `base_url`.
    size_gb : float
        Download, about.
    terms : str
        Licence and what it asks for.
    """

    name: str
    base_url: str
    archives: tuple[str, ...]
    table: str
    size_gb: float
    terms: str
    table_url: str = ""


@dataclass(frozen=True)
class FetchReport:
    """What was laid out: one entry for each scan, and what the table contradicts itself in."""

    entries: list[LedgerEntry]
    conflicts: list[str]


@dataclass(frozen=True)
class Scan:
    """One scan of an archive."""

    subject: str
    session: str
    site: str
    content: bytes = field(repr=False)


IXI = PublicCohort(
    name="ixi",
    base_url="http://biomedic.doc.ic.ac.uk/brain-development/downloads/IXI",
    archives=("IXI-T1.tar",),
    table="IXI.xls",
    size_gb=4.8,
    terms="CC BY-SA 3.0; name the source, brain-development.org/ixi-dataset.",
)
OASIS1 = PublicCohort(
    name="oasis1",
    base_url="https://download.nrg.wustl.edu/data",
    archives=tuple(f"oasis_cross-sectional_disc{disc}.tar.gz" for disc in range(1, 13)),
    table="oasis_cross-sectional.csv",
    size_gb=16.0,
    terms=(
        "OASIS data use agreement, sites.wustl.edu/oasisbrains: acknowledge grants P50 AG05681, "
        "P01 AG03991, R01 AG021910, P50 MH071616, U24 RR021382 and P20 MH071616; "
        "no attempt to identify a participant."
    ),
    table_url="https://www.oasis-brains.org/files",
)
COHORTS: Mapping[str, PublicCohort] = {cohort.name: cohort for cohort in (IXI, OASIS1)}


def fetch_cohort(
    cohort: PublicCohort, folder: Path, *, base_url: str = "", on_progress: Progress | None = None
) -> FetchReport:
    """Download a cohort, or what is still missing of it, and lay it out as BIDS.

    The downloads stay in ``sourcedata/``; participants.tsv holds participant_id, age, sex and
    site (OASIS-1 also CDR and MMSE), and nothing else of the source's table: IXI's has birth dates.

    Parameters
    ----------
    base_url : str
        Take all files from this address instead.

    Returns
    -------
    FetchReport
        A scan whose age is contradicted or missing is `flagged`, and its age is n/a.

    Raises
    ------
    DownloadError
        If a download fails.
    CohortError
        If an archive or the table is not what it should be.
    """
    source = folder / "sourcedata"
    addresses = dict.fromkeys(cohort.archives, base_url or cohort.base_url)
    addresses[cohort.table] = base_url or cohort.table_url or cohort.base_url
    for name, address in addresses.items():
        report = partial(on_progress, name) if on_progress is not None else None
        download(f"{address}/{name}", source / name, on_progress=report)
    people, conflicts = _READERS[cohort.name](source / cohort.table)
    scans = _lay_out(cohort, source, folder)
    _write_tables(cohort, folder, people, scans)
    return FetchReport([_entry(scan, people, conflicts) for scan in scans], _tell(conflicts))


Person = dict[str, str]
# By (subject, session); by (subject, session) and column, the values that contradict each other.
_People = dict[tuple[str, str], Person]
_Conflicts = dict[tuple[str, str], dict[str, list[str]]]


def read_ixi_table(path: Path) -> tuple[_People, _Conflicts]:
    """Age and sex of each person in IXI.xls; contradictions are left open.

    Raises
    ------
    CohortError
        If it is no such table.
    """
    try:
        # xlrd would print what it thinks of a damaged file. Calamine, which pandas 3 wants instead,
        # ends the process on some.
        quiet = {"logfile": io.StringIO()}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The xlrd engine is deprecated")
            table = pd.read_excel(path, engine="xlrd", engine_kwargs=quiet)
        sex = next(name for name in table.columns if str(name).startswith("SEX_ID"))
        rows = pd.DataFrame(
            {
                "subject": [f"sub-IXI{int(number):03d}" for number in table["IXI_ID"]],
                "session": "",
                "age": [_number(age) for age in table["AGE"]],
                "sex": [known or "n/a" for known in parse_sexes([*map(str, table[sex])], sex)[0]],
            }
        )
    except Exception as error:  # a damaged workbook makes the reader raise nearly anything
        problem = "is not the IXI spreadsheet (columns IXI_ID, SEX_ID, AGE)."
        raise CohortError(str(path), problem, "Delete it and fetch again.") from error
    return _settle(rows, ("age", "sex"))


def read_oasis_table(path: Path) -> tuple[_People, _Conflicts]:
    """Age, sex, CDR and MMSE of each session in oasis_cross-sectional.csv.

    Raises
    ------
    CohortError
        If it is no such table.
    """
    try:
        table = pd.read_csv(path)
        names = [re.fullmatch(r"OAS1_(\d{4})_(MR\d)", name) for name in table["ID"]]
        rows = pd.DataFrame(
            {
                "subject": [f"sub-OAS1{name[1]}" for name in names if name],
                "session": [f"ses-{name[2]}" for name in names if name],
                "age": [_number(age) for age in table["Age"]],
                "sex": [
                    known or "n/a" for known in parse_sexes([*map(str, table["M/F"])], "M/F")[0]
                ],
                "CDR": [_number(value) for value in table["CDR"]],
                "MMSE": [_number(value) for value in table["MMSE"]],
            }
        )
    except (KeyError, ValueError, TypeError) as error:
        problem = "is not the OASIS-1 table (columns ID, M/F, Age, CDR, MMSE)."
        raise CohortError(str(path), problem, "Delete it and fetch again.") from error
    return _settle(rows, ("age", "sex", "CDR", "MMSE"))


_READERS = {"ixi": read_ixi_table, "oasis1": read_oasis_table}


def _number(value: object) -> str:
    number = float(str(value)) if str(value).strip() else math.nan
    return f"{number:.2f}".rstrip("0").rstrip(".") if math.isfinite(number) else "n/a"


def _settle(rows: pd.DataFrame, columns: tuple[str, ...]) -> tuple[_People, _Conflicts]:
    """One value a person and column; of several different ones none is taken."""
    people: _People = {}
    conflicts: _Conflicts = {}
    for key, group in rows.groupby(["subject", "session"]):
        subject, session = (str(part) for part in key)
        person: Person = {}
        for column in columns:
            known = sorted({value for value in group[column] if value != "n/a"})
            person[column] = known[0] if len(known) == 1 else "n/a"
            if len(known) > 1:
                conflicts.setdefault((subject, session), {})[column] = known
        people[subject, session] = person
    return people, conflicts


def _lay_out(cohort: PublicCohort, source: Path, folder: Path) -> list[Scan]:
    """Write each scan to its place; returns them without their content."""
    read = _ixi_scans if cohort.name == "ixi" else _oasis_scans
    scans: list[Scan] = []
    for name in cohort.archives:
        try:
            for scan in read(source / name):
                stem = "_".join(part for part in (scan.subject, scan.session) if part)
                place = folder / scan.subject / scan.session / "anat"
                atomic_write_bytes(place / f"{stem}_T1w.nii.gz", scan.content)
                scans.append(Scan(scan.subject, scan.session, scan.site, b""))
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
            problem = f"is damaged ({type(error).__name__})."
            raise CohortError(str(source / name), problem, "Delete it and fetch again.") from error
    if not scans:
        raise CohortError(str(source), "the archives hold no T1 scan.", "Check the source.")
    return sorted(scans, key=lambda scan: (scan.subject, scan.session))


def _members(path: Path, pattern: re.Pattern[str]) -> Iterator[tuple[re.Match[str], bytes]]:
    """Regular files of a tar whose own name fits, read one by one; nothing is unpacked by name."""
    with tarfile.open(path, "r|*") as archive:
        for member in archive:
            match = pattern.fullmatch(member.name.rpartition("/")[2])
            if match is None or not member.isreg() or member.size > MAX_MEMBER_BYTES:
                continue
            stream = archive.extractfile(member)
            if stream is not None:
                yield match, stream.read()


def _ixi_scans(path: Path) -> Iterator[Scan]:
    for match, content in _members(path, _IXI_FILE):
        yield Scan(f"sub-{match[1]}", "", match[2], content)


def _oasis_scans(path: Path) -> Iterator[Scan]:
    """Averages of the three or four runs of each session, 1 mm, not extracted."""
    waiting: dict[tuple[str, str], dict[str, bytes]] = {}
    for match, content in _members(path, _OASIS_FILE):
        pair = waiting.setdefault((match[1], match[2]), {})
        pair[match[3]] = content
        if len(pair) == 2:
            del waiting[match[1], match[2]]
            yield Scan(f"sub-OAS1{match[1]}", f"ses-{match[2]}", "", _oasis_nifti(pair))


def _oasis_nifti(pair: Mapping[str, bytes]) -> bytes:
    """NIfTI of an Analyze pair, whose axes point Anterior, Superior, Left (not told in the file).

    Axes: https://brainder.org/2011/08/13/converting-oasis-brains-to-nifti/.
    """
    holders = {"header": pair["hdr"], "image": pair["img"]}
    image = nib.AnalyzeImage.from_file_map(
        {name: FileHolder(fileobj=io.BytesIO(content)) for name, content in holders.items()}
    )
    data = np.squeeze(np.asarray(image.dataobj)).astype(np.int16)
    i, j, k = image.header.get_zooms()[:3]
    affine = np.array([[0, 0, -k, 0], [i, 0, 0, 0], [0, j, 0, 0], [0, 0, 0, 1]], dtype=np.float64)
    affine[:3, 3] = -affine[:3, :3] @ (np.array(data.shape) - 1) / 2
    made = nib.Nifti1Image(data, affine)
    made.header.set_xyzt_units("mm")
    return gzip.compress(made.to_bytes(), compresslevel=4, mtime=0)


def _write_tables(cohort: PublicCohort, folder: Path, people: _People, scans: list[Scan]) -> None:
    description = {
        "Name": cohort.name,
        "BIDSVersion": "1.10.0",
        "DatasetType": "raw",
        "License": cohort.terms,
        "Authors": [cohort.name.upper()],
        "SourceDatasets": [{"URL": cohort.base_url}],
    }
    atomic_write_text(folder / "dataset_description.json", json.dumps(description, indent=2) + "\n")
    blank: Person = dict.fromkeys(next(iter(people.values()), {}), "n/a")
    rows = [
        {
            "participant_id": scan.subject,
            "session_id": scan.session,
            **people.get((scan.subject, scan.session), blank),
            "site": scan.site or "n/a",
        }
        for scan in scans
    ]
    table = pd.DataFrame(rows)
    first = table.drop_duplicates("participant_id").drop(columns="session_id")
    atomic_write_text(folder / "participants.tsv", first.to_csv(sep="\t", index=False))
    write_dictionary(folder / "participants.json", first)
    readme = f"{cohort.name.upper()}, T1-weighted scans, laid out by `brainage fetch`.\n\n"
    atomic_write_text(folder / "README", f"{readme}{cohort.base_url}\n{cohort.terms}\n")
    for subject, visits in table[table["session_id"] != ""].groupby("participant_id"):
        columns = visits.drop(columns=["participant_id", "site"])
        write_dictionary(folder / "sessions.json", columns)
        path = folder / str(subject) / f"{subject}_sessions.tsv"
        atomic_write_text(path, columns.to_csv(sep="\t", index=False))


def _entry(scan: Scan, people: _People, conflicts: _Conflicts) -> LedgerEntry:
    key = scan.subject, scan.session
    scan_id = "_".join(part for part in key if part)
    if "age" in conflicts.get(key, {}):
        ages = " and ".join(conflicts[key]["age"])
        return LedgerEntry(scan_id, "fetch", "flagged", f"the table gives two ages: {ages}; n/a.")
    if people.get(key, {}).get("age", "n/a") == "n/a":
        return LedgerEntry(scan_id, "fetch", "flagged", "the table gives no age.")
    return LedgerEntry(scan_id, "fetch", "ok")


def _tell(conflicts: _Conflicts) -> list[str]:
    return [
        f"{'_'.join(part for part in key if part)}: {column} is {' and '.join(values)}"
        for key, columns in sorted(conflicts.items())
        for column, values in columns.items()
    ]

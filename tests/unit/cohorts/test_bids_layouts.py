"""Layouts as public data sets have them: the right file of each session, and its own age."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from brainage.cohorts.cohort import load_cohort


@dataclass(frozen=True)
class Layout:
    """A folder, and what is right of it.

    Attributes
    ----------
    like : str
        Data sets that are laid out so.
    files : tuple of str
        Names of scans; their folders follow from them.
    tables : mapping of str to str
        Text of each file beside the scans; of TSV files with spaces for tabs.
    right : mapping of str to (str, float or None)
        By scan id the ending of the file that is used, and the age in years; None: unknown.
    bad : mapping of str to str
        By scan id what is wrong with it.
    said : str
        Part of what is said on screen.
    below : str
        Folder, in the data set, that is read.
    """

    like: str
    files: tuple[str, ...]
    tables: Mapping[str, object]
    right: Mapping[str, tuple[str, float | None]]
    bad: Mapping[str, str] = field(default_factory=dict)
    said: str = ""
    below: str = ""


def units(**columns: str) -> dict[str, dict[str, str]]:
    return {name: {"Units": unit} for name, unit in columns.items()}


SITES = ("sub-AA1", "sub-AA2")
LAYOUTS = [
    Layout(
        "one session, one scan, whole years",
        ("sub-01_T1w", "sub-02_T1w", "sub-03_T1w"),
        {"participants.tsv": "participant_id sex age\nsub-01 F 26\nsub-02 M 24\nsub-03 F 89+"},
        {"sub-01": ("sub-01_T1w", 26), "sub-02": ("sub-02_T1w", 24), "sub-03": ("sub-03_T1w", 89)},
    ),
    Layout(
        "one session that is named; MPRAGE beside FLASH",
        ("sub-01_ses-mri_acq-mprage_T1w", "sub-01_ses-mri_acq-flash_T1w"),
        {"participants.tsv": "participant_id age gender\nsub-01 31 male"},
        {"sub-01_ses-mri": ("acq-mprage_T1w", 31)},
        said="sessions with several T1w files: 1",
    ),
    Layout(
        "MP2RAGE with inversions, ages in bins",
        ("sub-010_ses-01_inv-2_T1w", "sub-010_ses-01_acq-mp2rage_T1w", "sub-011_ses-01_T1w"),
        {"participants.tsv": "participant_id gender age\nsub-010 F 20-25\nsub-011 M 33"},
        {"sub-011_ses-01": ("sub-011_ses-01_T1w", 33)},
        {"sub-010_ses-01": "is not a number"},
    ),
    Layout(
        "visits named by days, runs, age of each visit",
        (
            "sub-OAS30001_ses-d0129_run-02_T1w", "sub-OAS30001_ses-d0129_run-01_T1w",
            "sub-OAS30001_ses-d2430_run-01_T1w",
        ),
        {
            "participants.tsv": "participant_id age sex\nsub-OAS30001 65,1 F",
            "sub-OAS30001/sub-OAS30001_sessions.tsv": "session_id age\nses-d0129 65,5\nd2430 71,8",
        },
        {
            "sub-OAS30001_ses-d0129": ("ses-d0129_run-01_T1w", 65.5),
            "sub-OAS30001_ses-d2430": ("ses-d2430_run-01_T1w", 71.8),
        },
    ),
    Layout(
        "participants by session, ages in months",
        (
            "sub-NDAR1_ses-baselineYear1Arm1_run-01_T1w", "sub-NDAR1_ses-2YearFollowUp_T1w",
            "sub-NDAR1_ses-2YearFollowUp_rec-normalized_T1w",
        ),
        {
            "participants.tsv": "participant_id session_id age\n"
            "sub-NDAR1 ses-baselineYear1Arm1 120\nsub-NDAR1 ses-2YearFollowUp 144",
            "participants.json": units(age="Months"),
        },
        {
            "sub-NDAR1_ses-baselineYear1Arm1": ("run-01_T1w", 10),
            "sub-NDAR1_ses-2YearFollowUp": ("2YearFollowUp_T1w", 12),
        },
        said="months",
    ),
    Layout(
        "newborns, weeks in the table of sessions, its dictionary inherited",
        ("sub-CC1_ses-7201_T1w", "sub-CC1_ses-9301_rec-moco_T1w", "sub-CC1_ses-9301_T1w"),
        {
            "participants.tsv": "participant_id gender\nsub-CC1 male",
            "sub-CC1/sub-CC1_sessions.tsv": "session_id scan_age\nses-7201 36.525\nses-9301 52.179",
            "sessions.json": units(scan_age="weeks"),
        },
        {
            "sub-CC1_ses-7201": ("ses-7201_T1w", 0.7),
            "sub-CC1_ses-9301": ("rec-moco_T1w", 1.0),
        },
    ),
    Layout(
        "sites by acquisition, coded sex, one person who left",
        (f"{SITES[0]}_acq-HCP_T1w", f"{SITES[0]}_acq-HCP_run-02_T1w", f"{SITES[1]}_acq-VNav_T1w"),
        {
            "participants.tsv": f"participant_id Age Sex\n{SITES[0]} 9 1\n{SITES[1]} 12 0\nX 8 0",
            "participants.json": {"Sex": {"Levels": {"0": "Male", "1": "Female"}}},
        },
        {SITES[0]: ("AA1_acq-HCP_T1w", 9), SITES[1]: ("acq-VNav_T1w", 12)},
        {"sub-X": "no T1w file"},
    ),
    Layout(
        "fMRIPrep below its raw data",
        (
            "derivatives/fmriprep/sub-01_desc-preproc_T1w",
            "derivatives/fmriprep/sub-01_space-MNI152NLin6Asym_desc-preproc_T1w",
            "derivatives/fmriprep/sub-01_space-MNI152NLin2009cAsym_res-2_desc-preproc_T1w",
            "sub-01_T1w",
        ),
        {"participants.tsv": "participant_id age\nsub-01 47"},
        {"sub-01": ("2009cAsym_res-2_desc-preproc_T1w", 47)},
        below="derivatives/fmriprep",
    ),
    Layout(
        "before and after surgery and contrast agent, age at the first visit alone",
        (
            "sub-P1_ses-preop_ce-gadolinium_T1w", "sub-P1_ses-preop_T1w",
            "sub-P1_ses-postop_ce-gadolinium_T1w", "sub-P2_ses-preop_T1w",
        ),
        {"participants.tsv": "participant_id age\nP1 57\nP2 61"},
        {
            "sub-P1_ses-preop": ("ses-preop_T1w", None),
            "sub-P1_ses-postop": ("ce-gadolinium_T1w", None),
            "sub-P2_ses-preop": ("sub-P2_ses-preop_T1w", 61),
        },
        said="2 sessions have no age of their own",
    ),
    Layout(
        "magnitude and phase, echoes, a slab, a defaced copy",
        (
            "sub-1_part-phase_T1w", "sub-1_part-mag_T1w", "sub-2_echo-2_T1w", "sub-2_echo-1_T1w",
            "sub-3_acq-inplane_T1w", "sub-3_acq-3dspgr_T1w", "sub-4_acq-defaced_T1w", "sub-4_T1w",
        ),
        {"participants.tsv": "participant_id age_at_scan\n1 40y\n2 041Y\n3 4.2e1\n4 >43"},
        {
            "sub-1": ("part-mag_T1w", 40),
            "sub-2": ("echo-1_T1w", 41),
            "sub-3": ("3dspgr_T1w", 42),
            "sub-4": ("sub-4_T1w", 43),
        },
        said="several T1w files: 4",
    ),
    Layout(
        "weeks in one subject's own dictionary, sessions without one's table",
        ("sub-A_ses-1_T1w", "sub-A_ses-2_T1w", "sub-B_ses-1_T1w"),
        {
            "participants.tsv": "participant_id age sex\nA 2 F\nB 3 n/a",
            "sub-A/sub-A_sessions.tsv": "session acq_age\n1 104.357\n2 n/a",
            "sub-A/sub-A_sessions.json": units(acq_age="weeks"),
        },
        {
            "sub-A_ses-1": ("sub-A_ses-1_T1w", 2),
            "sub-A_ses-2": ("sub-A_ses-2_T1w", None),
            "sub-B_ses-1": ("sub-B_ses-1_T1w", 3),
        },
    ),
    Layout(
        "months in the inherited dictionary of sessions, another of one's own",
        ("sub-A_ses-1_T1w", "sub-A_ses-2_T1w"),
        {
            "participants.tsv": "participant_id sex\nA F",
            "sub-A/sub-A_sessions.tsv": "session_id age\nses-1 60\nses-2 66",
            "sub-A/sub-A_sessions.json": {"acq_time": {"Description": "Date of the scan."}},
            "sessions.json": units(age="months"),
        },
        {"sub-A_ses-1": ("ses-1_T1w", 5), "sub-A_ses-2": ("ses-2_T1w", 5.5)},
    ),
    Layout(
        "a session that stands twice in its table, one of another session's age alone",
        ("sub-A_ses-1_T1w", "sub-A_ses-2_T1w", "sub-B_ses-2_T1w", "sub-C_ses-1_T1w"),
        {
            "participants.tsv": "participant_id age\nA 30\nB 40\nC 50",
            "sub-A/sub-A_sessions.tsv": "session_id age\nses-1 30\nses-1 55\nses-2 33",
            "sub-B/sub-B_sessions.tsv": "session_id age\nses-1 40\nses-2 n/a",
            "sub-C/sub-C_sessions.tsv": "session_id weight\nses-1 70\nses-2 72",
        },
        {
            "sub-A_ses-2": ("sub-A_ses-2_T1w", 33),
            "sub-B_ses-2": ("sub-B_ses-2_T1w", None),
            "sub-C_ses-1": ("sub-C_ses-1_T1w", 50),
        },
        {"sub-A_ses-1": "stands in sub-A_sessions.tsv 2 times"},
        said="1 sessions have no age of their own",
    ),
    Layout(
        "pre and post contrast, told in one word",
        (
            "sub-1_acq-contrast_T1w", "sub-1_acq-nocontrast_T1w", "sub-2_ce-gad_T1w",
            "sub-2_ce-nogad_T1w", "sub-3_acq-postgad_T1w", "sub-3_acq-pregad_T1w",
            "sub-4_ce-Gd_T1w", "sub-4_ce-without_T1w", "sub-5_acq-mpragegd_T1w",
            "sub-5_acq-mpragewogd_T1w",
        ),
        {"participants.tsv": "participant_id age\n1 40\n2 41\n3 42\n4 43\n5 44"},
        {
            "sub-1": ("nocontrast_T1w", 40), "sub-2": ("nogad_T1w", 41),
            "sub-3": ("pregad_T1w", 42), "sub-4": ("without_T1w", 43), "sub-5": ("wogd_T1w", 44),
        },
    ),
]  # fmt: skip


def make(root: Path, layout: Layout) -> Path:
    for name in layout.files:
        folder, _, stem = name.rpartition("/")
        session = [part for part in stem.split("_") if part.startswith("ses-")]
        path = Path(root, folder, stem.split("_")[0], *session, "anat", f"{stem}.nii.gz")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for name, content in layout.tables.items():
        is_table = isinstance(content, str)
        text = content.replace(" ", "\t") + "\n" if is_table else json.dumps(content)
        (root / name).write_text(text)
    return root / layout.below


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.like)
def test_each_session_has_the_right_file_and_age(layout: Layout, tmp_path: Path) -> None:
    reading = load_cohort(make(tmp_path, layout), skip_bad=True, require_age=False)
    table = reading.cohort.table.set_index("scan_id")
    assert set(table.index) == set(layout.right)
    for scan_id, (ending, age_years) in layout.right.items():
        assert table["path"][scan_id].endswith(f"{ending}.nii.gz")
        expected = float("nan") if age_years is None else age_years
        assert table["age_years"][scan_id] == pytest.approx(expected, abs=1e-3, nan_ok=True)
    bad = {entry.scan_id: entry.reason for entry in reading.rejected}
    bad = {name: reason for name, reason in bad.items() if "further T1w" not in reason}
    assert set(bad) == set(layout.bad)
    assert all(reason in bad[name] for name, reason in layout.bad.items())
    assert layout.said in " ".join(reading.notes)


@pytest.mark.parametrize(
    "about",
    [
        {"AGE": {"units": "months"}},
        {"age": {"Unit": "Months"}},
        {"Age": {"LongName": "Age (months)", "Description": "When scanned."}},
        {"Age": {"Units": "n/a", "Description": "Age in full months."}},
    ],
)
def test_units_are_heeded_however_a_dictionary_tells_them(about: object, tmp_path: Path) -> None:
    tables = {"participants.tsv": "participant_id Age\n01 60", "participants.json": about}
    layout = Layout("", ("sub-01_T1w",), tables, {"sub-01": ("sub-01_T1w", 5)}, said="months")
    test_each_session_has_the_right_file_and_age(layout, tmp_path)


@pytest.mark.parametrize(
    "about",
    [
        {"sex": {"Levels": {"1": "female", "2": "male"}}},
        {"Sex": {"levels": ["1: female", "2: male"]}},
        {"Sex": {"Description": "Sex, 1 = female and 2 = male."}},
    ],
)
def test_sexes_are_read_however_a_dictionary_tells_them(about: object, tmp_path: Path) -> None:
    tables = {"participants.tsv": "participant_id age Sex\n01 60 1\n02 61 2"}
    layout = Layout("", ("sub-01_T1w", "sub-02_T1w"), {**tables, "participants.json": about}, {})
    assert load_cohort(make(tmp_path, layout)).cohort.table["sex"].tolist() == ["F", "M"]


def test_the_session_is_that_of_folder_and_name(tmp_path: Path) -> None:
    make(tmp_path, Layout("", (), {"participants.tsv": "participant_id age\n1 30\n2 40"}, {}))
    for name in ("sub-1/ses-a/anat/sub-1_ses-b_T1w.nii", "sub-2/anat/sub-2_ses-b_T1w.nii"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    reading = load_cohort(tmp_path, skip_bad=True)
    assert reading.cohort.table["scan_id"].tolist() == ["sub-2_ses-b"]
    assert reading.rejected[0].reason == "lies in ses-a, but is named ses-b"


@pytest.mark.parametrize("name", ["participants.tsv", "sub-01/sub-01_sessions.tsv"])
def test_no_error_names_a_file_that_is_not_there(name: str, tmp_path: Path) -> None:
    """One table at a time is taken away, or lacks its age."""
    make(tmp_path, Layout("", ("sub-01_ses-1_T1w", "sub-02_ses-1_T1w"), {}, {}))
    for text in ("", "participant_id weight\nsub-01 70\nsub-02 60", "weight\n70"):
        if text:
            (tmp_path / name).write_text(text.replace(" ", "\t") + "\n")
        with pytest.raises(Exception) as caught:
            load_cohort(tmp_path)
        named = [word.strip(":,.()") for word in str(caught.value).split() if "/" in word]
        assert all(Path(word).exists() for word in named if word.startswith("/"))

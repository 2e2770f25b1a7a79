import math
import tarfile
from pathlib import Path

import pytest

from brainage.cohorts.cohort import load_cohort, read_cohort
from brainage.errors import CohortError

PARTICIPANTS = "participant_id\tage\tsex\tsite\nsub-01\t20\tM\tA\n02\t89+\tF\tB\n"


def make(root: Path, *files: str, participants: str = PARTICIPANTS) -> Path:
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    if participants:
        (root / "participants.tsv").write_text(participants)
    return root


def reasons(error: CohortError) -> list[str]:
    return [line.strip() for line in str(error).splitlines()[1:]]


def test_a_participants_table_alone_says_to_give_its_folder(tmp_path: Path) -> None:
    (tmp_path / "participants.tsv").write_text("participant_id\tage\nsub-01\t30\n")
    with pytest.raises(CohortError, match="Give the BIDS folder that it lies in"):
        read_cohort(tmp_path / "participants.tsv")


def test_participants_are_joined_with_or_without_the_prefix(tmp_path: Path) -> None:
    make(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz", "sub-02/anat/sub-02_T1w.nii")
    table = read_cohort(tmp_path).cohort.table
    assert table["scan_id"].tolist() == table["subject_id"].tolist() == ["sub-01", "sub-02"]
    assert table["age_years"].tolist() == [20, 89]
    assert table["sex"].tolist() == ["M", "F"] and table["site"].tolist() == ["A", "B"]
    assert table["path"][1] == str(tmp_path / "sub-02/anat/sub-02_T1w.nii")
    assert "derivative_mask" not in table and "participant_id" not in table


def test_sessions_take_their_own_age_where_it_is_known(tmp_path: Path) -> None:
    make(
        tmp_path,
        "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz",
        "sub-01/ses-b/anat/sub-01_ses-b_T1w.nii.gz",
        participants="participant_id\tage\nsub-01\t20\n",
    )
    (tmp_path / "sub-01/sub-01_sessions.tsv").write_text("session_id\tage\na\tn/a\nses-b\t22.5\n")
    with pytest.raises(CohortError, match="has no age"):
        read_cohort(tmp_path)
    reading = load_cohort(tmp_path, require_age=False)
    assert (
        math.isnan(reading.cohort.table["age_years"][0]) and "no age of their" in reading.notes[0]
    )
    table = read_cohort(tmp_path, columns={"age": "age"}).cohort.table
    assert table["scan_id"].tolist() == ["sub-01_ses-a", "sub-01_ses-b"]
    assert table["session_id"].tolist() == ["ses-a", "ses-b"]
    assert table["age_years"].tolist() == [20, 22.5]


def test_participants_may_have_a_row_for_each_session(tmp_path: Path) -> None:
    make(
        tmp_path,
        "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii",
        "sub-01/ses-b/anat/sub-01_ses-b_T1w.nii",
        participants="participant_id\tsession_id\tage\nsub-01\tses-b\t22\nsub-01\ta\t20\n",
    )
    assert read_cohort(tmp_path).cohort.table["age_years"].tolist() == [20, 22]


def test_the_first_run_is_used_and_the_others_are_listed(tmp_path: Path) -> None:
    names = [f"sub-01/anat/sub-01_run-{run}_T1w.nii.gz" for run in ("10", "2", "03")]
    make(tmp_path, *names, participants="participant_id\tage\nsub-01\t20\n")
    reading = read_cohort(tmp_path)
    assert Path(reading.cohort.table["path"][0]).name == "sub-01_run-2_T1w.nii.gz"
    assert [entry.scan_id for entry in reading.rejected] == [
        "sub-01_run-03_T1w",
        "sub-01_run-10_T1w",
    ]
    assert "further T1w file of the session; sub-01_run-2_T1w" in reading.rejected[0].reason
    assert {entry.verdict for entry in reading.rejected} == {"surplus"}
    assert reading.rows_in == 3


def test_a_plain_file_goes_before_runs_and_a_defaced_copy_last(tmp_path: Path) -> None:
    names = ["acq-defaced_T1w", "run-1_T1w", "T1w"]
    make(tmp_path, *(f"sub-01/anat/sub-01_{name}.nii" for name in names),
         participants="participant_id\tage\nsub-01\t20\n")  # fmt: skip
    reading = read_cohort(tmp_path)
    assert Path(reading.cohort.table["path"][0]).name == "sub-01_T1w.nii"
    assert [entry.scan_id[7:] for entry in reading.rejected] == ["run-1_T1w", "acq-defaced_T1w"]


def test_derivatives_in_mni_space_are_preferred_and_bring_their_mask(tmp_path: Path) -> None:
    make(tmp_path)
    stem = "sub-01/anat/sub-01_{}desc-{}.nii.gz"
    mni = "space-MNI152NLin2009cAsym_"
    derivatives = make(
        tmp_path / "derivatives" / "fmriprep",
        stem.format("", "preproc_T1w"),
        stem.format("space-MNI152NLin6Asym_", "preproc_T1w"),
        stem.format(mni, "preproc_T1w"),
        stem.format(mni, "brain_mask"),
        "sub-02/anat/sub-02_desc-preproc_T1w.nii.gz",
        participants="",
    )
    reading = read_cohort(derivatives)
    table = reading.cohort.table
    assert table["path"][0] == str(derivatives / stem.format(mni, "preproc_T1w"))
    assert table["derivative_mask"][0] == str(derivatives / stem.format(mni, "brain_mask"))
    assert table["age_years"].tolist() == [20, 89]
    assert (reading.rows_in, len(reading.rejected)) == (4, 2)


def test_people_without_scan_and_scans_without_person_are_bad(tmp_path: Path) -> None:
    make(tmp_path, "sub-01/anat/sub-01_T1w.nii", "sub-03/anat/sub-03_T1w.nii")
    with pytest.raises(CohortError, match="2 of 3 rows") as caught:
        read_cohort(tmp_path)
    assert reasons(caught.value) == [
        "sub-03/anat/sub-03_T1w.nii (sub-03): is not in participants.tsv",
        "participants.tsv (sub-02): has no T1w file in its folder",
    ]
    reading = read_cohort(tmp_path, skip_bad=True)
    assert [entry.scan_id for entry in reading.rejected] == ["sub-03", "sub-02"]


def test_a_filter_looks_at_people_without_scan_too(tmp_path: Path) -> None:
    make(tmp_path, "sub-01/anat/sub-01_T1w.nii")
    assert read_cohort(tmp_path, where="site == 'A'").rows_in == 1


def test_a_file_in_the_wrong_folder_is_bad(tmp_path: Path) -> None:
    make(tmp_path, "sub-01/anat/sub-01_T1w.nii", "sub-02/anat/sub-01_T1w.nii")
    with pytest.raises(CohortError, match="lies in sub-02, but is named sub-01"):
        read_cohort(tmp_path)


def test_a_participant_with_two_ages_is_bad(tmp_path: Path) -> None:
    make(tmp_path, "sub-01/anat/sub-01_T1w.nii", "sub-02/anat/sub-02_T1w.nii",
         participants=PARTICIPANTS + "sub-01\t21\tM\tA\nsub-02\t89+\tF\tB\n")  # fmt: skip
    with pytest.raises(CohortError, match="1 of 2 rows") as caught:
        read_cohort(tmp_path)
    assert reasons(caught.value) == [
        "sub-01/anat/sub-01_T1w.nii (sub-01): stands in participants.tsv 2 times, with other values"
    ]


def test_ages_are_asked_for_only_where_needed(tmp_path: Path) -> None:
    make(tmp_path, "sub-01/anat/sub-01_T1w.nii", participants="")
    with pytest.raises(CohortError, match=r"has no participants\.tsv"):
        read_cohort(tmp_path)
    assert read_cohort(tmp_path, require_age=False).cohort.table["scan_id"].tolist() == ["sub-01"]


def test_age_may_have_another_name_but_paths_come_from_the_folder(tmp_path: Path) -> None:
    make(tmp_path, "sub-01/anat/sub-01_T1w.nii", participants="participant_id\tyears\n01\t33\n")
    assert read_cohort(tmp_path, columns={"age": "years"}).cohort.table["age_years"][0] == 33
    with pytest.raises(CohortError, match="path of a BIDS folder come"):
        read_cohort(tmp_path, columns={"path": "years", "age": "years"})


def test_a_folder_without_scans_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match="is not a BIDS folder"):
        read_cohort(make(tmp_path, "sub-01/anat/sub-01_T2w.nii.gz"))


def test_ixi_names_the_participant_without_age_and_reads_the_others(data_root: Path) -> None:
    with pytest.raises(CohortError, match="1 of 116 rows") as caught:
        read_cohort(data_root / "ixi_hh")
    assert reasons(caught.value) == [
        "sub-IXI637/anat/sub-IXI637_T1w.nii.gz (sub-IXI637): has no age"
    ]
    assert len(read_cohort(data_root / "ixi_hh", skip_bad=True).cohort) == 115


def test_what_prepare_has_not_finished_is_refused(tmp_path: Path) -> None:
    make(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz", "sub-02/anat/sub-02_T1w.nii.gz")
    about = tmp_path / "dataset_description.json"
    about.write_text('{"GeneratedBy": [{"Name": "brainage"}]}')
    with pytest.raises(CohortError, match="not prepared to its end"):
        read_cohort(tmp_path)
    (tmp_path / "cohort.csv").touch()
    assert len(read_cohort(tmp_path).cohort.table) == 2


CHOICES = [
    ("T1w", "run-1_T1w", "ce-gad_T1w", "acq-inplane_T1w", "part-phase_T1w", "rec-norm_T1w"),
    ("acq-pre_T1w", "acq-post_ce-gad_T1w", "acq-post_T1w"),
    ("run-2_T1w", "ce-gadolinium_run-1_T1w"),
    ("acq-mprage_T1w", "acq-inplane_T1w", "acq-mprage_run-2_T1w", "acq-fse_T1w"),
    ("rec-norm_T1w", "part-phase_T1w"),
    ("rec-moco_T1w", "T1w", "rec-norm_T1w"),
    ("echo-1_T1w", "echo-2_T1w"),
    ("inv-1_T1w", "inv-2_T1w"),
    ("T1w", "acq-defaced_T1w"),
]


@pytest.mark.parametrize("names", CHOICES, ids=lambda names: names[0])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_plain_precontrast_magnitude_whole_head_is_used_and_said(names, tmp_path: Path) -> None:
    make(tmp_path, *(f"sub-01/anat/sub-01_{name}.nii" for name in reversed(names)),
         participants="participant_id\tage\nsub-01\t20\n")  # fmt: skip
    reading = load_cohort(tmp_path)
    assert Path(reading.cohort.table["path"][0]).name == f"sub-01_{names[0]}.nii"
    assert f"sub-01_{names[0]}" in reading.notes[0]


def test_a_phase_image_alone_is_bad_and_contrast_alone_is_said(tmp_path: Path) -> None:
    make(tmp_path, "sub-01/anat/sub-01_part-phase_T1w.nii", "sub-02/anat/sub-02_ce-gad_T1w.nii")
    with pytest.raises(CohortError, match="is the phase part"):
        read_cohort(tmp_path)
    reading = load_cohort(tmp_path, skip_bad=True)
    assert "no T1w without contrast: 1; used: sub-02_ce-gad_T1w" in reading.notes[0]


@pytest.mark.parametrize(
    ("unit", "years"),
    [("months", 5), ("Weeks", 60 * 7 / 365.25), ("years", 60), ("year (decimal)", 60), ("", 60)],
)
def test_the_unit_of_age_is_that_of_the_dictionary(unit: str, years: float, tmp_path: Path) -> None:
    make(tmp_path, "sub-01/anat/sub-01_T1w.nii", participants="participant_id\tage\n01\t60\n")
    (tmp_path / "participants.json").write_text(f'{{"age": {{"Units": "{unit}"}}}}')
    reading = load_cohort(tmp_path)
    assert reading.cohort.table["age_years"].tolist() == [pytest.approx(years)]
    assert bool(reading.notes) == (years != 60)


@pytest.mark.parametrize("text", ['{"age": {"Units": "fortnights"}}', "[1]", "{"])
def test_a_unit_that_is_not_understood_never_becomes_years(text: str, tmp_path: Path) -> None:
    make(tmp_path, "sub-01/anat/sub-01_T1w.nii", participants="participant_id\tage\n01\t60\n")
    (tmp_path / "participants.json").write_text(text)
    with pytest.raises(CohortError):
        read_cohort(tmp_path)


def test_a_column_of_months_that_is_named_keeps_its_unit(tmp_path: Path) -> None:
    make(tmp_path, "sub-01/anat/sub-01_T1w.nii", participants="participant_id\told\n01\t60\n")
    (tmp_path / "participants.json").write_text('{"old": {"Units": "months"}}')
    assert load_cohort(tmp_path, columns={"age": "old"}).cohort.table["age_years"].tolist() == [5]


def test_codes_of_the_sex_are_those_of_the_dictionary(tmp_path: Path) -> None:
    make(tmp_path, "sub-01/anat/sub-01_T1w.nii",
         participants="participant_id\tage\tsex\n01\t60\t1\n")  # fmt: skip
    (tmp_path / "participants.json").write_text('{"sex": {"Levels": {"0": "male", "1": "female"}}}')
    assert load_cohort(tmp_path).cohort.table["sex"].tolist() == ["F"]


@pytest.mark.parametrize("name", ["age", "age_at_session", "acq_age", "age_at_scan", "Age"])
@pytest.mark.parametrize("unit", ["", "months"])
def test_each_session_has_its_own_age(name: str, unit: str, tmp_path: Path) -> None:
    make(tmp_path, *(f"sub-01/ses-{s}/anat/sub-01_ses-{s}_T1w.nii" for s in "ab"),
         participants="participant_id\tage\nsub-01\t20\n")  # fmt: skip
    ages = (252, 276) if unit else (21, 23)
    (tmp_path / "sub-01/sub-01_sessions.tsv").write_text(
        f"session_id\t{name}\nses-a\t{ages[0]}\nses-b\t{ages[1]}\n"
    )
    if unit:
        (tmp_path / "sessions.json").write_text(f'{{"{name}": {{"Units": "{unit}"}}}}')
    assert load_cohort(tmp_path).cohort.table["age_years"].tolist() == [21, 23]


STRANGE = Path("/work/shared/data/strange_inputs")


@pytest.mark.skipif(not STRANGE.exists(), reason="the reproducers are not here")
@pytest.mark.parametrize("name", ["bids_ce", "bids_months_json", "bids_ses_age_at_session"])
def test_strange_folders_are_read(name: str, tmp_path: Path) -> None:
    with tarfile.open(STRANGE / f"{name}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    table = load_cohort(tmp_path / name).cohort.table
    used = [Path(path).name.split("_", 1)[1] for path in table["path"]]
    first = table["age_years"][:6].round(2).tolist()
    if name == "bids_ce":
        expected = ["acq-pre", "acq-pre", "run-2", "acq-mprage", "rec-norm"]
        assert used[:5] == [f"{part}_T1w.nii.gz" for part in expected]
    elif name == "bids_months_json":
        assert first == [5, 5.33, 5.67, 6, 6.33, 6.67]
    else:
        people = table[table["subject_id"].isin(["sub-0001", "sub-0002", "sub-0003"])]
        assert people["age_years"].tolist() == [47.5, 57.6] * 3


@pytest.mark.parametrize(
    ("persons", "sessions", "told"),
    [
        ("30\tF", "360\tF", False),  # refused as a row: above 120 years
        ("5\tF", "60\tF", "age 60, not 5"),
        ("30\tF", "28\tF", "age 28, not 30"),
        ("30\tF", "29.5\tF", False),
        ("30\tF", "49\tfemale", False),
        ("30\tF", "n/a\tM", "sex M, not F"),
        ("n/a\tF", "60\tn/a", False),
        ("89+\tF", "91\tF", False),
    ],
)
def test_a_session_that_its_participant_contradicts_is_asked_about(
    persons: str, sessions: str, told: str, tmp_path: Path
) -> None:
    table = f"participant_id\tage\tsex\nsub-01\t{persons}\nsub-02\t40\tM\n"
    scans = ("sub-01/ses-1/anat/sub-01_ses-1_T1w.nii", "sub-02/anat/sub-02_T1w.nii")
    make(tmp_path, *scans, participants=table)
    text = f"session_id\tage\tsex\nses-1\t{sessions}\n"
    (tmp_path / "sub-01" / "sub-01_sessions.tsv").write_text(text)
    notes = load_cohort(tmp_path, skip_bad=True).notes
    asked = [note for note in notes if "do not fit participants" in note]
    assert [f"sub-01_ses-1: {told})" in note for note in asked] == [True] * bool(told)

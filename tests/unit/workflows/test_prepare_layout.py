"""Names and tables of a folder that `prepare` writes."""

from pathlib import Path

import pandas as pd

from brainage.workflows.prepare_layout import name_scans, source_uri, write_description


def test_names_of_different_scans_never_meet():
    table = pd.DataFrame(
        {
            "subject_id": ["sub-01", "sub-01", "a-b", "ab", "AB", "名", "sub-01"],
            "session_id": ["ses-1", "ses-1", "", "", "", "", "2/3"],
        }
    )
    stems = name_scans(table)
    assert stems[:3] == [
        "sub-01/ses-1/anat/sub-01_ses-1",
        "sub-01/ses-1/anat/sub-01_ses-1_run-2",
        "sub-ab/anat/sub-ab",
    ]
    assert stems[6] == "sub-01/ses-23/anat/sub-01_ses-23"
    assert len({stem.lower() for stem in stems}) == 7 and all(stem.isascii() for stem in stems)


def test_names_too_long_for_a_file_are_cut_and_stay_apart():
    people = [letter + 300 * "x" for letter in "ab"]
    table = pd.DataFrame({"subject_id": [*people, people[0] + "y"], "session_id": 200 * "2"})
    stems = name_scans(table)
    assert len(set(stems)) == 3 and max(len(Path(stem).name) for stem in stems) < 180


def test_names_keep_what_tells_scans_of_a_session_apart():
    names = ["acq-pre_ce-gad_run-2", "run-1", "run-1", "run-2", "desc-preproc", "rec-n_echo-1"]
    paths = [f"/x/sub-9/anat/sub-9_{name}_T1w.nii.gz" for name in [*names, names[-1]]]
    table = pd.DataFrame({"subject_id": "sub-9", "session_id": "", "path": paths})
    assert [Path(stem).name for stem in name_scans(table)] == [
        "sub-9_acq-pre_ce-gad_run-2", "sub-9_run-1", "sub-9_run-3", "sub-9_run-2", "sub-9",
        "sub-9_rec-n_echo-1", "sub-9_rec-n_run-2_echo-1",
    ]  # fmt: skip


def test_sessions_get_their_ages_and_lose_them_with_the_sessions(tmp_path):
    table = pd.DataFrame({"age_years": [44.5, 40.0, 40.0], "sex": "F", "site": ""})
    stems = [f"sub-9/ses-{name}/anat/sub-9_ses-{name}" for name in ("b", "a", "a_run-2")]
    stems[2] = "sub-9/ses-a/anat/sub-9_ses-a_run-2"
    write_description(tmp_path, table, stems)
    visits = pd.read_csv(tmp_path / "sub-9" / "sub-9_sessions.tsv", sep="\t")
    assert visits.to_dict("list") == {"session_id": ["ses-a", "ses-b"], "age": [40.0, 44.5]}
    people = pd.read_csv(tmp_path / "participants.tsv", sep="\t")
    assert people["age"].tolist() == [40.0]
    write_description(tmp_path, table[:1], ["sub-9/anat/sub-9"])
    assert not list(tmp_path.rglob("*sessions*"))


def test_sources_are_named_by_their_place_in_the_data_set(tmp_path):
    (tmp_path / "in").mkdir()
    scan = tmp_path / "in" / "sub-1" / "anat" / "sub-1_T1w.nii"
    assert source_uri(str(scan), str(tmp_path / "in")) == "bids:raw:sub-1/anat/sub-1_T1w.nii"
    assert source_uri(str(scan), str(tmp_path / "in.csv")) == ""
    assert source_uri("/elsewhere/a.nii", str(tmp_path / "in")) == ""

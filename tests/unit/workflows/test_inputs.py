"""What a command line names is checked before anything is loaded."""

from pathlib import Path

import pytest

from brainage.cohorts.cohort import read_cohort
from brainage.config import PreprocessingConfig
from brainage.errors import BrainageError, CohortError, ConfigError
from brainage.workflows.cohorts import CohortOptions, prepare_options
from brainage.workflows.inputs import check_ages, check_scans, is_scan
from brainage.workflows.masks import ScanOptions

ANNEX = ".git/annex/objects/x/MD5E-s1--0.nii.gz"


@pytest.mark.parametrize("name", ["a.dcm.gz", "A.NII.GZ", "a.hdr.gz", "x/a.IMA", "a.zip", "a.mgz"])
def test_scans_are_known_by_their_endings(name: str) -> None:
    assert is_scan(name) and not is_scan(f"{name}.csv")


@pytest.mark.parametrize(("target", "told"), [(ANNEX, "datalad get"), ("gone", "is a link")])
def test_link_to_nothing_says_what_it_is(target: str, told: str, tmp_path: Path) -> None:
    link = tmp_path / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    link.parent.mkdir(parents=True)
    link.symlink_to(target)
    with pytest.raises(BrainageError, match=told):
        check_scans([str(link)])
    (tmp_path / "participants.tsv").write_text("participant_id\tage\nsub-01\t30\n")
    with pytest.raises(CohortError, match=told):
        read_cohort(tmp_path)


def test_data_set_in_the_place_of_a_scan_is_named(tmp_path: Path) -> None:
    check_scans([str(tmp_path)])  # a folder may hold DICOM files
    (tmp_path / "dataset_description.json").touch()
    with pytest.raises(ConfigError, match="--cohort"):
        check_scans([str(tmp_path)])


def test_ages_are_those_of_scans_and_there(tmp_path: Path) -> None:
    check_ages(None, "cohort.csv")
    with pytest.raises(ConfigError, match="--cohort"):
        check_ages(tmp_path / "ages.csv", "cohort.csv")
    with pytest.raises(CohortError, match="not there"):
        check_ages(tmp_path / "ages.csv", None)


@pytest.mark.parametrize("mask", ["mask", "{folder}/m/{{scan_id}}.nii"])
def test_masks_are_those_of_the_first_cohort_alone(mask, tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.nii").touch()
        row = f"{name},40,a.nii,m/{name}.nii\n"
        (tmp_path / name / "cohort.csv").write_text(f"id,age,path,mask\n{row}")
    seen = {}

    def spy(paths, scan_ids, *_, how, **__):
        seen.update(zip(scan_ids, how.masks, strict=True))
        raise CohortError("here", "enough was seen.")

    monkeypatch.setattr("brainage.prepared.arrays.prepare_cohort", spy)
    one, two = (str(tmp_path / name / "cohort.csv") for name in ("one", "two"))
    scans = ScanOptions(mask=mask.format(folder=tmp_path / "one"))
    with pytest.raises(CohortError, match="enough"):
        prepare_options(CohortOptions(one, scans=scans, more=(two,)), PreprocessingConfig())
    assert seen == {"one": str(tmp_path / "one" / "m" / "one.nii"), "two": ""}

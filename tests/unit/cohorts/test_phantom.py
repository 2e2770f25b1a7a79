"""Synthetic cohorts: structure, seeds, and an age signal that is there but not perfect."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from brainage.cohorts.cohort import read_cohort
from brainage.cohorts.phantom import build_phantom, write_phantom_cohort
from brainage.errors import CohortError


def files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def draw(age_years: float, person: int = 0, scan: int = 0) -> np.ndarray:
    rngs = np.random.default_rng(person), np.random.default_rng([scan, 1])
    return build_phantom(age_years, *rngs).data


def dark_share(data: np.ndarray) -> float:
    """Share of the brain's centre that is dark beside its white matter: mostly ventricle."""
    centre = data[18:33, 22:40, 20:32]
    return float((centre < 0.5 * np.percentile(centre, 90)).mean())


def test_the_folder_is_a_bids_data_set_with_a_cohort_table(phantom_cohort: Path) -> None:
    root, table = phantom_cohort.parent, pd.read_csv(phantom_cohort)
    people = pd.read_csv(root / "participants.tsv", sep="\t")
    assert json.loads((root / "dataset_description.json").read_text())["DatasetType"] == "raw"
    assert len(table) == len(people) == 24
    assert table["scan_id"].is_unique
    for path in table["path"]:
        assert nib.load(root / path).shape == (50, 59, 48)


def test_every_text_file_says_synthetic(tmp_path: Path) -> None:
    write_phantom_cohort(tmp_path, subjects=2, seed=0, sessions=2)
    texts = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".gz"]
    assert len(texts) == 9
    for path in texts:
        assert "synthetic" in path.read_text().lower(), path
    image = nib.load(next(tmp_path.rglob("*.nii.gz")))
    assert b"synthetic" in image.header["descrip"].tobytes()


def test_a_cohort_with_phantoms_says_so(phantom_cohort: Path, tmp_path: Path) -> None:
    assert read_cohort(phantom_cohort).cohort.synthetic
    assert read_cohort(phantom_cohort.parent).cohort.synthetic
    table = pd.read_csv(phantom_cohort).drop(columns="source")
    table["path"] = [str(phantom_cohort.parent / path) for path in table["path"]]
    table.to_csv(tmp_path / "cohort.csv", index=False)
    assert not read_cohort(tmp_path / "cohort.csv").cohort.synthetic


def test_the_seed_decides_every_byte(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_phantom_cohort(tmp_path / name, subjects=2, seed=seed)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert files(tmp_path / "a") != files(tmp_path / "c")


def test_more_subjects_leave_the_first_ones_as_they_are(tmp_path: Path) -> None:
    write_phantom_cohort(tmp_path / "few", subjects=1, seed=1)
    write_phantom_cohort(tmp_path / "more", subjects=2, seed=1)
    scan = "sub-0001/anat/sub-0001_T1w.nii.gz"
    assert files(tmp_path / "few")[scan] == files(tmp_path / "more")[scan]


def test_sessions_age_one_to_three_years_at_the_same_site(tmp_path: Path) -> None:
    table = pd.read_csv(write_phantom_cohort(tmp_path, subjects=3, seed=0, sessions=2))
    for _, visits in table.groupby("subject_id"):
        assert 1 <= visits["age_years"].diff().iloc[1] <= 3.01
        assert visits["site"].nunique() == visits["sex"].nunique() == 1
    assert set(table["path"].str.split("/").str[1]) == {"ses-1", "ses-2"}


def test_ventricles_grow_with_age() -> None:
    young, old = ([dark_share(draw(age, person)) for person in range(6)] for age in (20, 85))
    assert min(old) > 1.5 * max(young)


def test_people_of_one_age_differ_more_than_scans_of_one_person() -> None:
    people = [dark_share(draw(75, person, 0)) for person in range(10)]
    scans = [dark_share(draw(75, 0, scan)) for scan in range(10)]
    assert np.std(people) > 1.2 * np.std(scans)


def test_mean_brightness_does_not_give_the_age_away(phantom_cohort: Path) -> None:
    table = pd.read_csv(phantom_cohort)
    means = [
        np.asarray(nib.load(phantom_cohort.parent / path).dataobj).mean() for path in table["path"]
    ]
    assert abs(np.corrcoef(means, table["age_years"])[0, 1]) < 0.5


def test_no_subjects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match="expected subjects, sessions and sites, got 0"):
        write_phantom_cohort(tmp_path, subjects=0, seed=0)

"""The comparison of an exported model with torch: which scans, what is compared."""

import pandas as pd
import pytest

from pipelines.speed.portable import choose_scans, compare, folder_mb


def test_scans_are_chosen_at_equal_steps_through_each_cohort(tmp_path):
    for number in range(10, 36):
        head = tmp_path / f"ixi_hh/sub-{number}/anat/sub-{number}_T1w.nii.gz"
        brain = tmp_path / f"oasis1/t1/OAS{number}.nii.gz"
        for path in (head, brain):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    names = [path.name for path in choose_scans(tmp_path)]
    assert names[:3] == ["sub-10_T1w.nii.gz", "sub-12_T1w.nii.gz", "sub-14_T1w.nii.gz"]
    assert names[10:] == [f"OAS{number}.nii.gz" for number in (10, 15, 20, 25, 30)]


def test_ages_are_compared_scan_by_scan():
    ours = pd.DataFrame({"scan_id": ["a", "b"], "predicted_age_years": [40.0, 50.0]})
    rows = [{"predicted_age_years": 40.5}, {"predicted_age_years": 49.0}]
    found = compare(ours, {"rows": rows, "seconds": [0.1, 0.2]})
    assert list(found["difference_years"]) == pytest.approx([0.5, -1.0])


def test_size_of_a_folder_is_that_of_its_files_without_links(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(bytes(2_000_000))
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "file")
    assert folder_mb(tmp_path) == 2.0

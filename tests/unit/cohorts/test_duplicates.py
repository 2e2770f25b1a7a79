"""The same voxels under two names are found."""

import numpy as np
import pandas as pd
import pytest

from brainage.cohorts.duplicates import find_duplicates, refuse_duplicates
from brainage.errors import CohortError


def cohort() -> tuple[np.ndarray, pd.DataFrame]:
    arrays = np.random.default_rng(0).normal(0, 1, (5, 3, 3, 3)).astype(np.float16)
    arrays[3], arrays[4] = arrays[0], arrays[1]
    table = pd.DataFrame(
        {
            "scan_id": list("abcde"),
            "subject_id": ["s1", "s2", "s3", "s1", "s4"],
            "age_years": [30.0, 40.0, 50.0, 30.0, 44.0],
        }
    )
    return arrays, table


def test_first_of_the_same_person_is_kept_and_nobody_where_rows_disagree():
    good, entries = find_duplicates(*cohort())
    assert good.tolist() == [True, False, True, False, False]
    assert [entry.scan_id for entry in entries] == ["d", "b", "e"]
    assert "same voxels as a." in entries[0].reason and "cannot be known" in entries[1].reason


def test_different_scans_are_no_duplicates():
    arrays, table = cohort()
    good, entries = find_duplicates(arrays[:3], table[:3])
    assert good.all() and not entries


def test_duplicates_are_refused_by_name():
    _, entries = find_duplicates(*cohort())
    with pytest.raises(CohortError, match=r"3 scans are duplicates") as caught:
        refuse_duplicates(entries, "cohort.csv")
    assert "d: holds the same voxels as a." in str(caught.value)

"""Who is a case, and which scan of a person counts."""

import numpy as np
import pandas as pd
import pytest

from brainage.errors import CohortError
from brainage.workflows.tables import first_scans, select_cases


def test_of_two_words_none_is_the_greater() -> None:
    table = pd.DataFrame({"dx": ["AD", "CN", "CN"]})
    with pytest.raises(CohortError, match="dx == 'AD'"):
        select_cases(table, "dx")
    assert select_cases(table, "dx == 'AD'").tolist() == [True, False, False]


@pytest.mark.parametrize("values", [[1, 2, 1], [False, True, False], [0.0, 0.5, 0.0]])
def test_the_greater_of_two_numbers_is_the_case_and_that_is_said(
    values: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("brainage.workflows.tables.say", said.append)
    cases = select_cases(pd.DataFrame({"group": values}), "group")
    assert np.array_equal(cases, [False, True, False])
    assert said == [f"cases: group {values[1]}; controls: group {values[0]}"]


def test_the_first_scan_of_one_age_is_that_of_the_lower_number() -> None:
    table = pd.DataFrame(
        {"scan_id": ["a_10", "a_9"], "subject_id": ["a", "a"], "age_years": [50.0, 50.0]}
    )
    with pytest.warns(UserWarning, match="1 repeated"):
        assert first_scans(table)["scan_id"].tolist() == ["a_9"]

"""The learning curve's parts and its law."""

import numpy as np
import pandas as pd
import pytest

from brainage.errors import CohortError
from pipelines.release.learning_curve import FOLDS, SIZES, draw, draw_parts, is_done, summarise


def test_smaller_parts_lie_in_larger_ones_and_no_one_trains_who_is_predicted():
    people = [f"s{n // 2}" for n in range(500)]
    parts = list(draw_parts(pd.DataFrame({"subject_id": people})))
    assert len(parts) == FOLDS * len(SIZES)
    for start in range(0, len(parts), len(SIZES)):
        *small, whole = [set(own) for _, _, own, _ in parts[start : start + len(SIZES)]]
        assert [len(own) for own in small] == list(SIZES[:-1]) and small[0] < small[1] < small[2]
        test = parts[start][3]
        assert small[2] < whole and not {people[n] for n in whole} & {people[n] for n in test}
        assert len(whole) + len(test) == 500


def test_the_law_is_that_of_the_errors(tmp_path):
    rows = [
        pd.DataFrame(
            {
                "subject_id": [f"s{n}" for n in range(100)],
                "age_years": 50.0,
                "predicted_age_years": 50.0 + 30.0 * scans**-0.25,
                "size": size,
                "n": scans,
            }
        )
        for size, scans in zip(SIZES, (40, 80, 160, 280), strict=True)
    ]
    table, law = summarise(pd.concat(rows))
    assert law == pytest.approx((30.0, 0.25))
    assert np.allclose(table["mae_ci_low"], table["mae_ci_high"])
    draw(table, law, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 0


def test_predictions_of_another_cohort_are_not_taken_for_done():
    test = pd.DataFrame({"scan_id": ["a", "b"], "age_years": [20.1, 30.0]})
    train = pd.DataFrame({"scan_id": ["c", "d", "e"]})
    rows = test.assign(fold=1, size=0, n=3)[::-1]
    assert is_done(rows, train, test) and not is_done(rows.head(0), train, test)
    others = (rows.head(1), pd.concat([rows, rows]), rows.assign(n=2), rows.assign(age_years=30.0))
    for other in (*others, rows.assign(scan_id=["a", "f"])):
        with pytest.raises(CohortError, match="another cohort"):
            is_done(other, train, test)

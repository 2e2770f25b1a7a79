import numpy as np
import pandas as pd
import pytest

from brainage.errors import BundleError, CohortError
from brainage.evaluation.normative import (
    MIN_MATCHED,
    corrected_gap,
    make_reference,
    match_percentile,
    reference_from_json,
)


def people(n=60, seed=0):
    random = np.random.default_rng(seed)
    age = random.uniform(20, 80, n)
    return pd.DataFrame(
        {
            "scan_id": [f"scan-{i}" for i in range(n)],
            "subject_id": [f"sub-{i}" for i in range(n)],
            "age_years": age,
            "predicted_age_years": 0.6 * age + 20 + random.normal(0, 1, n),
        }
    )


def counted(age, gap):
    """A reference of people with these exact ages and gaps."""
    table = {"subject_id": range(len(age)), "age_years": age, "predicted_age_years": age + gap}
    return make_reference(pd.DataFrame(table), "held_out")


def test_a_bundle_counts_people_and_lists_no_age():
    values = make_reference(people(), "held_out").to_json()
    assert set(values) == {"source", "cells"}
    assert all(age % 5 == 0 and gap % 2 == 0 for age, gap, _ in values["cells"])
    assert sum(count for *_, count in values["cells"]) == 60


def test_points_lie_in_the_cells_of_their_people():
    reference = counted(np.full(7, 52.4), np.full(7, -3.3))
    assert reference.points.shape == (7, 2) and len(np.unique(reference.points, axis=0)) == 7
    assert ((reference.age_years > 50) & (reference.age_years < 55)).all()
    assert ((reference.brain_age_gap_years > -4) & (reference.brain_age_gap_years < -2)).all()


def test_points_of_a_cell_are_those_of_the_golden_lattice():
    points = counted(np.full(3, 52.4), np.full(3, -3.3)).points
    np.testing.assert_allclose(points[:, 0], 50 + 5 * np.array([1, 3, 5]) / 6)
    shares = [0.5, 0.618034 + 0.5 - 1, 2 * 0.618034 + 0.5 - 1]
    np.testing.assert_allclose(points[:, 1], -4 + 2 * np.array(shares), atol=1e-5)


def test_people_of_ninety_and_more_are_left_out_and_a_person_counts_once():
    table = people(4).assign(age_years=[89.9, 90.0, 50.0, 50.0], subject_id=["a", "b", "c", "c"])
    assert make_reference(table, "held_out").cells[:, [0, 2]].tolist() == [[50, 1], [85, 1]]


def test_reference_survives_a_file():
    reference = make_reference(people(), "out_of_fold")
    again = reference_from_json(reference.to_json())
    assert again.source == "out_of_fold"
    assert np.array_equal(again.points, reference.points)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"source": "x", "cells": [[20, 0]]},
        {"source": "x", "cells": [[20, 0, 10**12]]},
        {"source": "x", "cells": [[20, 0, -1], [25, 0, 2]]},
        {"source": "x", "cells": "cells"},
    ],
)
def test_broken_reference_is_refused(values):
    with pytest.raises(BundleError):
        reference_from_json(values)


def test_missing_column_is_named():
    with pytest.raises(CohortError, match="subject_id"):
        make_reference(people().drop(columns="subject_id"), "held_out")


def test_percentile_counts_people_of_about_the_same_age_only():
    age = np.concatenate([np.full(40, 32.0), np.full(40, 71.0)])
    gap = np.concatenate([np.linspace(1, 40, 40), np.full(40, -50.0)])
    found = match_percentile(counted(age, gap), 32.5, 10.0)
    assert found is not None and found.n == 40 and found.percentile == pytest.approx(22.5)


def test_too_few_people_of_that_age_give_no_percentile():
    reference = counted(np.full(MIN_MATCHED - 1, 30.0), np.zeros(MIN_MATCHED - 1))
    assert match_percentile(reference, 30.0, 0.0) is None


def test_window_widens_until_enough_people_are_there():
    age = np.concatenate([np.full(5, 52.0), np.full(20, 57.0)])
    found = match_percentile(counted(age, np.zeros(25)), 52.5, 3.0)
    assert found is not None and (found.window_years, found.n) == (7.5, 25)
    assert found.percentile == 100.0


def test_corrected_gap_takes_out_what_age_explains():
    reference = make_reference(people(400), "held_out")
    # The cohort's line is 0.6 age + 20: at 20 the expected gap is +12, at 80 it is -12.
    assert corrected_gap(reference, 20.0, 12.0) == pytest.approx(0.0, abs=0.5)
    assert corrected_gap(reference, 80.0, 0.0) == pytest.approx(12.0, abs=0.5)


def test_small_cohort_gives_no_corrected_gap():
    assert corrected_gap(make_reference(people(5), "held_out"), 50.0, 1.0) is None

"""Where along its profiles a mask ends, on outlines whose place is known."""

import numpy as np

from brainage.preprocessing.skull import REACH_MM
from pipelines.release.skull import find_crossing, signed_distance


def test_a_profile_leaves_the_outline_nearest_to_where_it_is_expected() -> None:
    once = REACH_MM - 3.25
    # Leaves at -6 and at 6, enters in between.
    twice = np.where(REACH_MM < 0, REACH_MM + 6.0, REACH_MM - 6.0)
    outline = np.array([once, twice, twice, np.abs(REACH_MM) + 1], dtype=np.float32)
    found = find_crossing(outline, np.array([-10.0, -2.0, 2.0, 0.0]))
    np.testing.assert_allclose(found, [3.25, -6, 6, np.nan], atol=1e-5)


def test_distances_are_in_millimetres_and_negative_inside() -> None:
    mask = np.zeros((9, 9, 9), bool)
    mask[:4] = True
    np.testing.assert_allclose(
        signed_distance(mask, 1.5)[[0, 3, 4, 8], 4, 4], 1.5 * np.array([-3.5, -0.5, 0.5, 4.5])
    )

"""What 20 own controls give is measured on the other people alone."""

import numpy as np
import pytest

from brainage.evaluation.new_site import calibration_gain


def people(offset: float, n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    age = rng.uniform(20, 80, n)
    return age, age + offset + rng.normal(0, 2, n)


def test_a_constant_offset_goes_and_the_noise_stays() -> None:
    gain = calibration_gain(*people(offset=12.0, n=500))
    assert gain is not None and gain["controls"] == 20
    # mean absolute value of a normal of deviation 2 is 1.6
    assert gain["mae_years"] == pytest.approx(1.6, abs=0.25)
    assert gain["mae_range_low"] < gain["mae_years"] < gain["mae_range_high"]
    assert 0.85 < gain["coverage"] <= 1.0


def test_too_few_people_are_not_judged() -> None:
    assert calibration_gain(*people(3.0, n=39)) is None


def test_second_scans_are_no_further_people() -> None:
    age, predicted = people(3.0, n=60)
    subjects = [str(n // 2) for n in range(60)]
    assert calibration_gain(age, predicted, subject_ids=subjects) is None

"""What 20 own controls give is measured on the other people alone."""

import numpy as np
import pytest

from brainage.errors import ShapeError
from brainage.evaluation.new_site import calibration_gain
from brainage.evaluation.site_offset import leave_one_out_gaps, shrunken_offset


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
    assert gain["gain_years"] == pytest.approx(12.0 - 1.6, abs=0.4)
    assert 0.85 < gain["coverage"] <= 1.0


def test_too_few_people_are_not_judged() -> None:
    assert calibration_gain(*people(3.0, n=39)) is None


def test_second_scans_are_no_further_people() -> None:
    age, predicted = people(3.0, n=60)
    subjects = [str(n // 2) for n in range(60)]
    assert calibration_gain(age, predicted, subject_ids=subjects) is None


@pytest.mark.parametrize("kind", ["absolute", "normalised"])
def test_intervals_come_from_the_controls_residuals_around_each_others_offset(kind: str) -> None:
    age, predicted = people(offset=4.0)
    spread = np.linspace(1.0, 9.0, 60)
    predicted = age + (predicted - age) * spread
    rng, errors, gains, covered = np.random.default_rng(3), [], [], []
    width = spread if kind == "normalised" else np.ones(60)
    for _ in range(500):
        order = rng.permutation(60)
        own, rest = order[:20], order[20:]
        gap = predicted - age
        offset = shrunken_offset(gap[own])
        scores = np.sort(np.abs(leave_one_out_gaps(gap[own])) / width[own])
        reach = scores[18] * width[rest]  # the 19th of 20: ⌈0.9 · 21⌉
        errors.append(np.abs(gap[rest] - offset).mean())
        gains.append(np.abs(gap[rest]).mean() - errors[-1])
        covered.append((np.abs(gap[rest] - offset) <= reach).mean())
    gain = calibration_gain(age, predicted, spread, kind=kind, seed=3)
    assert gain is not None and (gain["controls"], gain["draws"]) == (20, 500)
    assert gain["mae_years"] == pytest.approx(np.mean(errors))
    assert gain["gain_years"] == pytest.approx(np.mean(gains))
    assert gain["coverage"] == pytest.approx(np.mean(covered), abs=1e-3)
    low, high = np.percentile(errors, [2.5, 97.5])
    assert (gain["mae_range_low"], gain["mae_range_high"]) == pytest.approx((low, high))


def test_an_age_on_the_edge_of_its_interval_is_inside() -> None:
    age = np.arange(20.0, 80.0)
    gain = calibration_gain(age, age)
    assert gain is not None and (gain["mae_years"], gain["coverage"]) == (0.0, 1.0)


def test_without_a_spread_intervals_have_one_width_and_arrays_must_fit() -> None:
    age, predicted = people(4.0, n=40)
    plain = calibration_gain(age, predicted, np.ones(40), kind="absolute")
    assert plain is not None and plain == calibration_gain(age, predicted, kind="normalised")
    with pytest.raises(ShapeError) as caught:
        calibration_gain(age, predicted[:9])
    expected = "expected four arrays (N,), got [(40,), (9,), (40,), (40,)]."
    assert str(caught.value) == f"calibration gain: {expected}"

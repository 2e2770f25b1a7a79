"""Fit a model's offset and intervals to a site's own healthy controls."""

from pathlib import Path

import numpy as np

from brainage.evaluation.conformal import ConformalInterval
from brainage.evaluation.metrics import paired_difference
from brainage.evaluation.site_offset import leave_one_out_gaps
from brainage.types import DoubleArray
from brainage.workflows.cohorts import CohortOptions
from brainage.workflows.console import say
from brainage.workflows.own_site import read_site
from brainage.workflows.seen import CALIBRATION, keep_people

MIN_CONTROLS = 20


def calibrate(model: Path, cohort_options: CohortOptions, output: Path) -> ConformalInterval:
    """Write the model anew with the controls' offset and their scores as intervals.

    The offset stays 0 where the controls cannot show that it helps (`shrunken_offset`); error
    with and without it is told, each control left out in turn.

    Raises
    ------
    CohortError
        If fewer than 20 people are left that the model was not trained on.
    TrainingError
        If the output already holds a model.
    """
    site = read_site(model, cohort_options, output, MIN_CONTROLS, "controls")
    bundle, people = site.bundle, site.people
    predicted = bundle.predict(site.arrays)
    before = bundle.calibration
    earlier = before.offset_years_ if before else 0.0
    # What the weights say: an earlier site's offset must not add up.
    raw = predicted.predicted_age_years + earlier
    gap_years = raw - site.age_years
    fitted = ConformalInterval(bundle.config.inference.interval).fit_controls(
        raw, people["age_years"], predicted.spread_years, f"{len(people)} own controls"
    )
    site.write(output, keep_people(bundle, people, CALIBRATION), fitted)
    left_out = leave_one_out_gaps(gap_years) if fitted.offset_years_ else gap_years
    say(_tell(gap_years, left_out, fitted.offset_years_))
    site.compare_constant(np.abs(left_out))
    say(f"written to {output}")
    return fitted


def _tell(gap_years: DoubleArray, left_out: DoubleArray, offset_years: float) -> str:
    """Say what was done, and what it does to each control when the others decide it."""
    mean, error = gap_years.mean(), gap_years.std(ddof=1) / np.sqrt(gap_years.size)
    told = f"{gap_years.size} controls, mean gap {mean:+.2f} years (standard error {error:.2f}): "
    if offset_years == 0.0:
        return f"{told}within chance. Predictions stay as they are; intervals are the controls'."
    before, after = np.abs(gap_years), np.abs(left_out)
    gain = paired_difference(before, after)
    return (
        f"{told}{-offset_years:+.2f} years are added to predictions. With each control left out, "
        f"MAE {before.mean():.2f} becomes {after.mean():.2f} years: "
        f"gain {gain['mean']:+.2f} (95 % CI {gain['ci_low']:+.2f} to {gain['ci_high']:+.2f})."
    )

"""Estimate what calibration on 20 controls of one's own would give, on the cohort at hand."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from brainage.errors import ShapeError
from brainage.evaluation.bounds import DEFAULT_LEVEL, IntervalKind
from brainage.evaluation.conformal import ConformalInterval

CONTROLS, DRAWS = 20, 500


def calibration_gain(
    age_years: ArrayLike,
    predicted_age_years: ArrayLike,
    spread_years: ArrayLike | None = None,
    *,
    subject_ids: Sequence[str] | None = None,
    kind: IntervalKind = "absolute",
    seed: int = 0,
) -> dict[str, float] | None:
    """Estimate error and coverage after `brainage calibrate` with 20 controls, drawn at random.

    In each of 500 draws the offset of 20 people is subtracted from the others' predictions, and
    the 20 people's residuals make the intervals. Of a person with several scans the first counts.

    Parameters
    ----------
    age_years, predicted_age_years : array_like (N,)
        Of healthy people of one site that the model was not trained on.
    spread_years : array_like (N,), optional
        Needed for ``kind="normalised"``; absent, intervals have one width.

    Returns
    -------
    dict or None
        `controls`, `draws`, `mae_years` (mean over draws) with the range that holds 95 % of the
        draws, `mae_range_low` and `mae_range_high`; `gain_years`, by how much the error of the
        same people falls, in the mean; and `coverage` of the 90 % intervals. None of fewer than 40
        people: too few would be left to test on.

    Raises
    ------
    ShapeError
        If the arrays differ in length.
    """
    age, predicted = (np.asarray(v, np.float64) for v in (age_years, predicted_age_years))
    kind = "absolute" if spread_years is None else kind
    spread = np.zeros_like(age) if spread_years is None else np.asarray(spread_years, np.float64)
    subjects = np.arange(age.size) if subject_ids is None else np.asarray(subject_ids, dtype=str)
    if not age.shape == predicted.shape == spread.shape == subjects.shape:
        shapes = [age.shape, predicted.shape, spread.shape, subjects.shape]
        raise ShapeError("calibration gain", f"expected four arrays (N,), got {shapes}.")
    first = np.sort(np.unique(subjects, return_index=True)[1])
    age, predicted, spread = age[first], predicted[first], spread[first]
    if age.size < 2 * CONTROLS:
        return None
    rng = np.random.default_rng(seed)
    errors, gains, covered = [], [], []
    for _ in range(DRAWS):
        order = rng.permutation(age.size)
        own, rest = order[:CONTROLS], order[CONTROLS:]
        fitted = ConformalInterval(kind).fit_controls(predicted[own], age[own], spread[own])
        shifted = predicted[rest] - fitted.offset_years_
        low, high = fitted.predict(shifted, spread[rest], DEFAULT_LEVEL).T
        errors.append(np.abs(shifted - age[rest]).mean())
        gains.append(np.abs(predicted[rest] - age[rest]).mean() - errors[-1])
        covered.append(((low <= age[rest]) & (age[rest] <= high)).mean())
    bounds = np.percentile(errors, [2.5, 97.5])
    return {
        "controls": CONTROLS,
        "draws": DRAWS,
        "mae_years": float(np.mean(errors)),
        "mae_range_low": float(bounds[0]),
        "mae_range_high": float(bounds[1]),
        "gain_years": float(np.mean(gains)),
        "coverage": float(np.mean(covered)),
    }

"""The model that travels inside the package: what `predict` takes when none is named."""

from pathlib import Path

import numpy as np

from brainage.cohorts.phantom import build_phantom
from brainage.errors import BundleError
from brainage.types import Json, Volume

RELEASED_FOLDER = Path(__file__).parent / "models" / "oasis1"
MAX_RELEASED_MB = 20.0
PHANTOM_AGE_YEARS, PHANTOM_SPACING_MM = 50.0, 2
SELFTEST_TOLERANCE_YEARS = 0.5


def choose_model(model: str | Path | None) -> str | Path:
    """What was named (a folder, or models:/NAME@ALIAS), or the released model's folder.

    Raises
    ------
    BundleError
        If none was named and none came with this installation.
    """
    if model is not None:
        return model
    if not (RELEASED_FOLDER / "manifest.json").is_file():
        problem = "no model came with this installation."
        raise BundleError("--model", problem, "Give a folder that `brainage train` wrote.")
    return RELEASED_FOLDER


def selftest_phantom() -> Volume:
    """The scan that the self-test predicts: a phantom, the same everywhere, of no person."""
    shape_rng, scan_rng = np.random.default_rng(1), np.random.default_rng(2)
    return build_phantom(PHANTOM_AGE_YEARS, shape_rng, scan_rng, spacing_mm=PHANTOM_SPACING_MM)


def selftest_facts(predicted_age_years: float) -> Json:
    """What a released model remembers of the phantom: its prediction, and how far it may stray.

    A phantom is no brain and its prediction is no good guess of its age: only that it does not
    change matters.
    """
    return {
        "predicted_age_years": round(float(predicted_age_years), 3),
        "tolerance_years": SELFTEST_TOLERANCE_YEARS,
    }

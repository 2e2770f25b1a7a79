"""The model that travels inside the package: what `predict` takes when none is named."""

from pathlib import Path

from brainage.errors import BundleError

RELEASED_FOLDER = Path(__file__).parent / "zoo" / "oasis1-ixi"
MAX_RELEASED_MB = 20.0


def choose_model(model: str | Path | None) -> str | Path:
    """Return what was named (a folder, or models:/NAME@ALIAS), or the released model's folder.

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

"""`brainage release` and `brainage selftest`: a model made small, and checked where it runs."""

import tempfile
from pathlib import Path

import nibabel as nib

from brainage.errors import BundleError, TrainingError
from brainage.inference.predict import predict_scans, scans_table
from brainage.model.bundle import Bundle, copy_bundle, load_bundle
from brainage.model.released import (
    MAX_RELEASED_MB,
    choose_model,
    selftest_facts,
    selftest_phantom,
)
from brainage.types import Json
from brainage.workflows.console import say
from brainage.workflows.models import resolve_model


def release(model: Path, output: Path, note: str = "") -> None:
    """Write a model anew in half precision, with its prediction of the self-test's phantom.

    Raises
    ------
    TrainingError
        If the output already holds a model.
    BundleError
        If the result is larger than 20 MB.
    """
    if (output / "manifest.json").exists():
        raise TrainingError(str(output), "already holds a model.", "Choose another --output.")
    bundle = load_bundle(model)
    changes: Json = {"release_note": note} if note else {}
    # Twice: what the rounded weights predict is known once they are written.
    copy_bundle(bundle, output, changes, half=True)
    predicted = _predict_phantom(load_bundle(output))
    copy_bundle(bundle, output, changes | {"selftest": selftest_facts(predicted)}, half=True)
    megabytes = sum(path.stat().st_size for path in output.rglob("*") if path.is_file()) / 1e6
    if megabytes > MAX_RELEASED_MB:
        problem = f"the model takes {megabytes:.1f} MB, at most {MAX_RELEASED_MB:g} are allowed."
        raise BundleError(str(output), problem, "Use fewer members or a narrower network.")
    say(f"{megabytes:.1f} MB; the phantom is {predicted:.2f} years old; written to {output}")


def selftest(model: str | None) -> None:
    """Predict the phantom, from a file to an age, and compare with what the release gave.

    Raises
    ------
    BundleError
        If there is no released model, it knows no phantom, or the prediction has changed.
    """
    folder, _ = resolve_model(choose_model(model))
    bundle = load_bundle(folder)
    expected = bundle.facts.get("selftest")
    if expected is None:
        raise BundleError(str(folder), "knows no self-test.", "Write it with `brainage release`.")
    predicted, tolerance = _predict_phantom(bundle), expected["tolerance_years"]
    wanted = expected["predicted_age_years"]
    text = f"predicts {predicted:.2f} years of the phantom, expected {wanted:.2f} ± {tolerance:g}"
    if not abs(predicted - wanted) <= tolerance:
        remedy = "Install the package anew; report your versions if that does not help."
        raise BundleError(str(folder), f"{text}.", remedy)
    say(f"ok: {text}")


def _predict_phantom(bundle: Bundle) -> float:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        phantom, path = selftest_phantom(), folder / "phantom.nii.gz"
        nib.save(nib.Nifti1Image(phantom.data, phantom.affine), path)
        table, _ = scans_table([str(path)])
        result = predict_scans(bundle, table, folder / "cache")
    if result.failed:
        raise BundleError("selftest", f"the phantom was refused: {result.failed[0].reason}")
    return float(result.table["predicted_age_years"].iloc[0])

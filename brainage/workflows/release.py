"""`brainage release` and `brainage selftest`: a model made small, and checked where it runs."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from brainage.cohorts.columns import infer_types
from brainage.cohorts.join import refuse_shared
from brainage.cohorts.phantom import build_phantom
from brainage.cohorts.table_files import read_table
from brainage.errors import BundleError, CohortError, TrainingError
from brainage.evaluation.bounds import INTERVAL_COLUMNS
from brainage.evaluation.conformal import ConformalInterval
from brainage.evaluation.left_out import left_out_table
from brainage.evaluation.longitudinal import GAP
from brainage.evaluation.measures import check_columns
from brainage.evaluation.reliability import measure_reliability, repeated_scans
from brainage.evaluation.robustness import robustness_markdown
from brainage.evaluation.volume_curves import fit_curves
from brainage.files import parse_json
from brainage.inference.model import Model
from brainage.model.bundle import Bundle, copy_bundle, load_bundle
from brainage.model.released import MAX_RELEASED_MB
from brainage.types import Json
from brainage.workflows.console import say
from brainage.workflows.evaluate import read_predictions
from brainage.workflows.models import load_model

PHANTOM_AGE_YEARS, PHANTOM_SPACING_MM = 50.0, 2
SELFTEST_TOLERANCE_YEARS = 0.5
# Scans of a person that lie no farther apart are retests: nothing has changed in between.
RETEST_YEARS = 0.5


def release(
    model: Path,
    output: Path,
    note: str = "",
    robustness: Path | None = None,
    left_out: Path | None = None,
    volumes: Sequence[Path] = (),
    retests: Path | None = None,
) -> None:
    """Write a model anew in half precision, with its prediction of the self-test's phantom.

    Parameters
    ----------
    note : str
        A line for the model card.
    robustness : pathlib.Path, optional
        ``summary.json`` of `brainage robustness`, whose figures the card then holds.
    left_out : pathlib.Path, optional
        ``predictions.csv`` of `brainage train --leave-site-out` with the same settings and cohorts:
        the card then holds the errors, and all predictions get intervals that were calibrated on
        them.
    volumes : sequence of pathlib.Path
        ``volumes.csv`` of `brainage volumes` on healthy people: reports then show volumes against
        age. Scans that are not plainly ok are left out.
    retests : pathlib.Path, optional
        Out-of-fold predictions with people scanned twice within half a year: reports then tell a
        person's change from chance.

    Raises
    ------
    TrainingError
        If the output already holds a model.
    CohortError
        If the errors are not of sites left out.
    BundleError
        If the result is larger than 20 MB, or the figures are not this model's.
    """
    if (output / "manifest.json").exists():
        raise TrainingError(str(output), "already holds a model.", "Choose another --output.")
    bundle = load_bundle(model)
    changes: Json = {"release_note": note} if note else {}
    if robustness is not None:
        changes |= _read_robustness(robustness, bundle)
    if left_out is not None:
        changes |= _read_left_out(left_out, bundle)
    if volumes:
        changes["volume_curves"] = _fit_volumes(volumes)
    if retests is not None:
        changes["retests"] = _measure_retests(retests)
    # Twice: what the rounded weights predict is known once they are written.
    copy_bundle(bundle, output, changes, half=True)
    predicted = _predict_phantom(Model(load_bundle(output)))
    copy_bundle(bundle, output, changes | {"selftest": selftest_facts(predicted)}, half=True)
    megabytes = sum(path.stat().st_size for path in output.rglob("*") if path.is_file()) / 1e6
    if megabytes > MAX_RELEASED_MB:
        problem = f"the model takes {megabytes:.1f} MB, at most {MAX_RELEASED_MB:g} are allowed."
        raise BundleError(str(output), problem, "Use fewer members or a narrower network.")
    say(f"{megabytes:.1f} MB; the phantom is {predicted:.2f} years old; written to {output}")


def _read_left_out(path: Path, bundle: Bundle) -> Json:
    """Errors on sites that were left out, and intervals from them."""
    table = read_predictions(path)
    check_columns(table, ("site", "subject_id", "spread_years"), str(path))
    if table["site"].replace("", np.nan).nunique() < 2:
        problem = "names fewer than two sites."
        remedy = "Give predictions.csv of `brainage train --leave-site-out`."
        raise CohortError(str(path), problem, remedy)
    # Symmetric, since another site may be older as well as younger.
    fitted = ConformalInterval("absolute", bundle.config.inference.min_band_scans).fit(
        table["predicted_age_years"],
        table["age_years"],
        table["spread_years"],
        list(table["subject_id"].astype(str)),
        source="sites left out",
    )
    # With the intervals of a fold's own validation people, which are another matter.
    table = table.drop(columns=[*INTERVAL_COLUMNS], errors="ignore")
    rows = left_out_table(table, seed=bundle.config.seed)
    return {
        "left_out": rows.to_dict("records"),
        "left_out_calibration": fitted.to_json(),
    }


def _fit_volumes(paths: Sequence[Path]) -> Json:
    tables = [read_table(path) for path in paths]
    if all("subject_id" in each.frame for each in tables):  # else the curves name the column
        source = " + ".join(map(str, paths))
        refuse_shared([each.frame for each in tables], "subject_id", source)
    table = pd.concat([infer_types(each.frame, each.decimal_comma) for each in tables])
    check_columns(table, ("verdict",), str(paths[0]))
    curves = fit_curves(table[table["verdict"] == "ok"])
    covered = ", ".join(f"{name} {share:.0%}" for name, share in curves.coverage.items())
    say(f"volumes against age: {curves.n} people; the outer curves hold, of 90 %: {covered}")
    return curves.to_json()


def _measure_retests(path: Path) -> Json:
    pairs = repeated_scans(read_predictions(path), [GAP], RETEST_YEARS)
    measured = measure_reliability(pairs[GAP], GAP)
    return {"n_subjects": measured.n_subjects, "within_sd_years": round(measured.within_sd, 3)}


def _read_robustness(path: Path, bundle: Bundle) -> Json:
    try:
        summary = parse_json(path.read_bytes())
        groups: list[Json] = summary["groups"]
        robustness_markdown(pd.DataFrame(groups), "group")
        measured = summary["weights_sha256"]
        scans = [int(summary[key]) for key in ("n_in_training", "n_scans")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"holds no figures of robustness ({type(error).__name__})."
        raise BundleError(str(path), problem, "Give the summary.json of the run.") from error
    if measured != bundle.weights_sha256:
        remedy = "Run `brainage robustness` on this one."
        raise BundleError(str(path), "is of another model.", remedy)
    return {"robustness": groups, "robustness_scans": scans}


def selftest(model: str | None) -> float:
    """Predict the phantom, from a file to an age, and compare with what the release gave.

    Returns
    -------
    float
        Predicted age in years.

    Raises
    ------
    BundleError
        If there is no released model, it knows no phantom, or the prediction has changed.
    """
    loaded = load_model(model)
    expected = loaded.bundle.facts.get("selftest")
    if expected is None:
        raise BundleError(loaded.name, "knows no self-test.", "Write it with `brainage release`.")
    predicted, tolerance = _predict_phantom(loaded), expected["tolerance_years"]
    wanted = expected["predicted_age_years"]
    text = f"predicts {predicted:.2f} years of the phantom, expected {wanted:.2f} ± {tolerance:g}"
    if not abs(predicted - wanted) <= tolerance:
        remedy = "Install the package anew; report your versions if that does not help."
        raise BundleError(loaded.name, f"{text}.", remedy)
    say(f"ok: {text}")
    return predicted


def selftest_facts(predicted_age_years: float) -> Json:
    """Keep the prediction of the phantom, and how far it may stray.

    A phantom is no brain and its prediction is no good guess of its age: only that it does not
    change matters.
    """
    return {
        "predicted_age_years": round(float(predicted_age_years), 3),
        "tolerance_years": SELFTEST_TOLERANCE_YEARS,
    }


def _predict_phantom(model: Model) -> float:
    shape_rng, scan_rng = np.random.default_rng(1), np.random.default_rng(2)
    phantom = build_phantom(PHANTOM_AGE_YEARS, shape_rng, scan_rng, spacing_mm=PHANTOM_SPACING_MM)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "phantom.nii.gz")
        nib.save(nib.Nifti1Image(phantom.data, phantom.affine), path)
        return model.predict(path, cache=Path(name, "cache")).age_years

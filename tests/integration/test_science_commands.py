"""The commands that judge predictions, on phantoms, as a person types them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from brainage.cli.main import app
from brainage.cohorts.cohort import read_cohort
from brainage.cohorts.phantom import write_phantom_cohort
from brainage.config import PreprocessingConfig
from brainage.model.bundle import load_bundle
from tests.phantoms import fill_cache


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(part) for part in arguments])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A cohort of people with two visits, and an ensemble of two folds trained on it."""
    root = tmp_path_factory.mktemp("science")
    table = write_phantom_cohort(root / "cohort", subjects=24, seed=3, sessions=2, spacing_mm=6)
    paths = read_cohort(table).cohort.table["path"]
    fill_cache(paths, PreprocessingConfig(spacing_mm=8.0, shape=(22, 26, 22)), root / "cache")
    run(
        "train", "--cohort", table, "--preset", "phantom",
        "--set", "preprocessing.spacing_mm=8", "--set", "preprocessing.shape=[22,26,22]",
        "--set", "network.arguments.channels=[4,8]", "--epochs", 2, "--folds", 2, "--repeats", 2,
        "--baselines", "constant,linear,volumes", "--cache", root / "cache",
        "--tracking-uri", "off", "--output", root / "model",
    )  # fmt: skip
    return root


def test_training_on_folds_writes_one_table_and_one_ensemble(folder):
    table = pd.read_csv(folder / "model" / "predictions.csv")
    assert len(table) == 48 and table["scan_id"].is_unique
    first = ["scan_id", "age_years", "predicted_age_years", "brain_age_gap_years"]
    assert list(table.columns[:6]) == [*first, "interval_low_years", "interval_high_years"]
    every = pd.read_csv(folder / "model" / "predictions_by_repeat.csv")
    assert len(every) == 96 and set(every["repeat"]) == {0, 1}
    subjects = every.groupby(["repeat", "subject_id"])["fold"].nunique()
    assert (subjects == 1).all()
    bundle = load_bundle(folder / "model")
    assert len(bundle.members) == 4 and bundle.calibration.source_ == "out_of_fold"
    metrics = json.loads((folder / "model" / "metrics.json").read_text())
    assert set(metrics["baselines"]) == {"constant", "linear", "volumes"}
    assert "linear" in metrics["leakage"] and 0 <= metrics["intervals"]["coverage"] <= 1
    assert "## Intended use" in (folder / "model" / "card.md").read_text()
    assert len(pd.read_csv(folder / "model" / "baselines.csv")) == 4


def test_predictions_do_not_depend_on_the_age_that_is_typed_in(folder, tmp_path):
    cohort = pd.read_csv(folder / "cohort" / "cohort.csv").head(4)
    cohort["path"] = [str(folder / "cohort" / path) for path in cohort["path"]]
    tables = []
    for name, ages in (("true", cohort["age_years"]), ("wrong", 99.0), ("none", np.nan)):
        source, output = tmp_path / f"{name}.csv", tmp_path / f"{name}-out.csv"
        cohort.assign(age_years=ages).to_csv(source, index=False)
        run("predict", "--cohort", source, "--model", folder / "model", "--output", output,
            "--cache", folder / "cache")  # fmt: skip
        tables.append(pd.read_csv(output))
    own = ["predicted_age_years", "interval_low_years", "interval_high_years", "ood_percentile"]
    for other in tables[1:]:
        pd.testing.assert_frame_equal(tables[0][own], other[own])
    assert tables[0][own].notna().all(axis=None)


def test_higher_level_gives_wider_intervals_and_nonsense_is_refused(folder, tmp_path):
    scan = next((folder / "cohort").glob("sub-*/ses-1/anat/*.nii.gz"))
    common = ("predict", scan, "--model", folder / "model", "--cache", folder / "cache")
    widths = []
    for level in (0.5, 0.9):
        output = tmp_path / f"{level}.csv"
        run(*common, "--level", level, "--output", output)
        row = pd.read_csv(output).iloc[0]
        widths.append(row["interval_high_years"] - row["interval_low_years"])
    assert 0 < widths[0] < widths[1]
    assert "--level" in run(*common, "--level", 90, "--output", output, code=2)


def test_evaluate_adds_a_corrected_column_and_keeps_the_raw_metrics(folder, tmp_path):
    predictions = folder / "model" / "predictions.csv"
    common = ("evaluate", "--predictions", predictions, "--output")
    run(*common, tmp_path / "raw")
    run(
        *common, tmp_path / "corrected", "--correct-bias", "beheshti", "--controls", "age_years > 0"
    )
    raw, corrected = (
        json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("raw", "corrected")
    )
    report = corrected.pop("bias_correction")
    assert raw == corrected and report["n_controls"] == 48
    table = pd.read_csv(tmp_path / "corrected" / "predictions.csv")
    assert table["brain_age_gap_corrected_years"].notna().all()
    assert (tmp_path / "raw" / "coverage.csv").exists()
    assert "'best'" in run(*common, tmp_path / "x", "--correct-bias", "best", code=2)


def test_groups_compares_the_gap_and_joined_measures(folder, tmp_path):
    cohort = pd.read_csv(folder / "cohort" / "cohort.csv")
    cohort["score"] = np.where(cohort["age_years"] > 50, 1.0, np.nan)
    noise = np.random.default_rng(0).normal(0, 5, len(cohort))
    cohort["volume"] = 1000.0 - cohort["age_years"] + noise
    cohort["path"] = [str(folder / "cohort" / path) for path in cohort["path"]]
    cohort.to_csv(tmp_path / "cohort.csv", index=False)
    predictions = folder / "model" / "predictions.csv"
    common = ("groups", "--predictions", predictions, "--cohort", tmp_path / "cohort.csv",
              "--output", tmp_path / "out")  # fmt: skip
    output = run(*common, "--group", "score > 0", "--measure", "volume")
    assert "24 repeated scans are left out" in output
    table = pd.read_csv(tmp_path / "out" / "groups.csv")
    assert list(table["measure"]) == ["brain_age_gap_years", "volume"]
    assert (tmp_path / "out" / "volume.png").exists()
    assert "Give a filter" in run(*common, "--group", "score", code=2)


def test_groups_takes_cases_and_controls_from_two_tables(folder, tmp_path):
    table = pd.read_csv(folder / "model" / "predictions.csv")
    old = table["age_years"] > 50
    table[old].to_csv(tmp_path / "cases.csv", index=False)
    table[~old].to_csv(tmp_path / "controls.csv", index=False)
    common = ("groups", "--predictions", tmp_path / "cases.csv", "--group", "age_years > 50",
              "--output", tmp_path / "out", "--predictions")  # fmt: skip
    run(*common, tmp_path / "controls.csv")
    assert "in two tables" in run(*common, tmp_path / "cases.csv", code=2)


def test_reliability_of_two_visits(folder, tmp_path):
    predictions = folder / "model" / "predictions.csv"
    common = ("reliability", "--predictions", predictions, "--output", tmp_path)
    assert "ICC(2,1)" in run(*common, "--max-years", 5)
    table = pd.read_csv(tmp_path / "reliability.csv").set_index("measure")
    assert list(table.index) == ["predicted_age_years", "brain_age_gap_years"]
    assert table["n_subjects"].eq(24).all() and (tmp_path / "predicted_age_years.png").exists()
    assert "0 people" in run(*common, "--max-years", 0.1, code=2)


def test_calibrate_needs_20_unseen_controls_and_then_tells_the_gain(folder, tmp_path):
    seen = folder / "cohort" / "cohort.csv"
    common = ("calibrate", "--model", folder / "model", "--cache", folder / "cache", "--cohort")
    output = tmp_path / "model"
    assert "0 controls" in run(*common, seen, "--output", output, code=2)
    controls = write_phantom_cohort(tmp_path / "new", subjects=20, seed=8, spacing_mm=6)
    settings = load_bundle(folder / "model").config.preprocessing
    fill_cache(read_cohort(controls).cohort.table["path"], settings, folder / "cache")
    table = pd.read_csv(controls)
    table["scan_id"] = "other-" + table["scan_id"]
    table["subject_id"] = "other-" + table["subject_id"]
    table.to_csv(controls, index=False)
    told = run(*common, controls, "--output", output)
    assert "20 controls, mean gap" in told
    predictions = tmp_path / "predictions.csv"
    run("predict", "--cohort", controls, "--model", output, "--output", predictions,
        "--cache", folder / "cache")  # fmt: skip
    left = pd.read_csv(predictions)["brain_age_gap_years"]
    # What is left of the mean gap is less than its standard error, or it was within chance.
    assert "within chance" in told or abs(left.mean()) < left.std() / 20**0.5
    assert "own controls" in (output / "card.md").read_text()
    assert "already holds" in run(*common, controls, "--output", output, code=2)


def test_explain_writes_maps_regions_and_checks(folder, tmp_path):
    scans = sorted((folder / "cohort").glob("sub-000[12]/ses-1/anat/*.nii.gz"))
    common = ("explain", "--model", folder / "model", "--cache", folder / "cache", "--output")
    run(*common, tmp_path, "--method", "smoothgrad", *scans)
    checks = json.loads((tmp_path / "checks.json").read_text())["smoothgrad"]
    assert checks["scans"] == 2 and 0 < checks["mean_outside_share"] < 1
    for name in ("0000.nii.gz", "0001.png", "mean.nii.gz", "regions.csv", "scans.csv"):
        assert (tmp_path / "smoothgrad" / name).exists()
    assert "'gradcam'" in run(*common, tmp_path, "--method", "gradcam", *scans, code=2)


def test_the_same_scan_under_two_names_is_refused(folder, tmp_path):
    cohort = pd.read_csv(folder / "cohort" / "cohort.csv")
    cohort["path"] = [str(folder / "cohort" / path) for path in cohort["path"]]
    twin = cohort.iloc[[0]].assign(scan_id="twin", subject_id="twin")
    source = tmp_path / "cohort.csv"
    pd.concat([cohort, twin]).to_csv(source, index=False)
    common = ("train", "--cohort", source, "--preset", "phantom", "--epochs", 1,
              "--set", "preprocessing.spacing_mm=8", "--set", "preprocessing.shape=[22,26,22]",
              "--cache", folder / "cache", "--tracking-uri", "off", "--check-leakage", "none",
              "--output", tmp_path / "model")  # fmt: skip
    assert "twin: holds the same voxels" in run(*common, code=2)
    run(*common, "--skip-bad")
    ledger = pd.read_csv(tmp_path / "model" / "ledger.csv")
    assert (ledger["stage"] == "duplicate").sum() == 2

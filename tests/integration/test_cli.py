"""The real command, as a stranger runs it: in a process of its own where that can matter."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from brainage.cli.main import app

ROOT = Path(__file__).parents[2]


def brainage_process(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "brainage.cli.main", *map(str, arguments)]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": "off"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def brainage(*arguments: object):
    """The command in this process, which has loaded its libraries already."""
    environment = {"MLFLOW_TRACKING_URI": "off"}
    return CliRunner().invoke(app, [str(part) for part in arguments], env=environment)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def model(phantom_cohort, workspace) -> Path:
    folder = workspace / "model"
    result = brainage_process(
        "train", "--cohort", phantom_cohort, "--preset", "phantom", "--epochs", 2,
        "--output", folder,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return folder


def test_training_writes_model_tables_numbers_and_pictures(model):
    written = {path.name for path in model.iterdir()}
    assert written >= {
        "model.safetensors", "config.yaml", "bundle.json", "card.md", "manifest.json",
        "predictions.csv", "ledger.csv", "metrics.json", "history.csv", "subgroups.csv",
        "predicted_vs_true.png", "gap_vs_age.png", "error_by_age_band.png", "training_curves.png",
    }  # fmt: skip
    metrics = json.loads((model / "metrics.json").read_text())
    assert {
        "n",
        "mae_years",
        "mae_ci_low",
        "mae_ci_high",
        "rmse_years",
        "r2",
        "r",
        "bias_years",
    } <= set(metrics)
    assert metrics["baselines"]["constant"]["mae_years"] > 0
    assert metrics["baselines"]["linear"]["mae_years"] > 0


def test_ledger_accounts_for_every_row(model, phantom_cohort):
    ledger = rows(model / "ledger.csv")
    assert list(ledger[0]) == ["scan_id", "stage", "verdict", "reason", "seconds"]
    assert len(ledger) == len(rows(phantom_cohort))


def test_training_twice_into_one_folder_is_refused(model, phantom_cohort, workspace):
    result = brainage(
        "train", "--cohort", phantom_cohort, "--preset", "phantom", "--output", model,
    )  # fmt: skip
    assert result.exit_code == 2
    assert "already holds a run" in result.stderr and "--resume" in result.stderr


def test_predicting_scans_of_one_name_keeps_them_apart(model, phantom_cohort, workspace):
    scans = []
    for number, row in enumerate(rows(phantom_cohort)[:3]):
        scan = workspace / f"person{number}" / "anat.nii.gz"
        scan.parent.mkdir(exist_ok=True)
        shutil.copy(phantom_cohort.parent / row["path"], scan)
        scans.append(scan)
    output, ages = workspace / "three" / "predictions.csv", workspace / "ages.csv"
    ages.write_text("id;age;path\nb;30,5;person1/anat.nii.gz\n")
    result = brainage(
        "predict", *scans, "--model", model, "--output", output,
        "--ages", ages,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "get no age" in result.stderr
    table = rows(output)
    columns = ["scan_id", "age_years", "predicted_age_years", "brain_age_gap_years"]
    assert list(table[0])[:4] == columns
    assert [row["scan_id"] for row in table] == [f"person{number}/anat" for number in range(3)]
    assert [row["path"] for row in table] == [str(scan) for scan in scans]
    assert [row["age_years"] for row in table] == ["", "30.5", ""]
    assert len({row["predicted_age_years"] for row in table}) == 3


def test_bad_scans_get_a_reason_and_do_not_stop_the_good_ones(model, phantom_cohort, workspace):
    good = phantom_cohort.parent / rows(phantom_cohort)[0]["path"]
    text = workspace / "text.nii.gz"
    text.write_text("no scan")
    output = workspace / "mixed" / "predictions.csv"
    result = brainage(
        "predict", text, good, workspace / "absent.nii", "--model", model, "--output", output,
    )  # fmt: skip
    assert result.exit_code == 2 and "Traceback" not in result.stderr
    name = good.name.removesuffix("_T1w.nii.gz")
    assert [row["scan_id"] for row in rows(output)] == [name]
    ledger = {row["scan_id"]: row for row in rows(output.with_name("ledger.csv"))}
    assert len(ledger) == 3
    for name in ("text", "absent"):
        assert ledger[name]["verdict"] == "failed" and ledger[name]["reason"]


def test_evaluating_a_model_leaves_its_training_scans_out(model, phantom_cohort, workspace):
    output = workspace / "evaluation"
    result = brainage(
        "evaluate", "--model", model, "--cohort", phantom_cohort, "--output", output,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    metrics = json.loads((output / "metrics.json").read_text())
    tested = {row["scan_id"] for row in rows(model / "predictions.csv")}
    assert {row["scan_id"] for row in rows(output / "predictions.csv")} == tested
    assert metrics["n"] == len(tested) and metrics["n_seen_in_training"] > 0


def test_evaluating_a_table_draws_the_pictures(model, workspace):
    output = workspace / "table"
    result = brainage("evaluate", "--predictions", model / "predictions.csv", "--output", output)
    assert result.exit_code == 0, result.stderr
    assert (output / "predicted_vs_true.png").stat().st_size > 1000


def test_comparison_has_a_row_for_each_method_seed_and_fold(phantom_cohort, workspace):
    output = workspace / "comparison"
    result = brainage(
        "compare", "--cohort", phantom_cohort, "--methods", "bp,lfnn_l", "--seeds", 1,
        "--set", "seed=3", "--folds", 2, "--epochs", 1, "--preset", "phantom", "--output", output,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    table = rows(output / "comparison.csv")
    assert list(table[0])[:8] == [
        "method", "schedule", "seed", "fold", "mae_years", "seconds_per_epoch",
        "seconds_to_target", "peak_memory_mb",
    ]  # fmt: skip
    keys = {(row["method"], row["seed"], row["fold"]) for row in table}
    assert keys == {(m, "3", f) for m in ("bp", "lfnn_l") for f in ("0", "1")}
    assert (output / "comparison.png").stat().st_size > 1000
    assert "lfnn_l" in result.stdout


def test_cross_validation_tests_every_scan_once(phantom_cohort, workspace):
    output = workspace / "folds"
    result = brainage(
        "train", "--cohort", phantom_cohort, "--folds", 3, "--epochs", 1, "--preset", "phantom",
        "--baselines", "constant", "--check-leakage", "none", "--output", output,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    tested = sorted(row["scan_id"] for row in rows(output / "predictions.csv"))
    assert tested == sorted({row["scan_id"] for row in rows(output / "ledger.csv")})
    assert (output / "fold-2" / "manifest.json").exists()


def test_bad_input_gets_one_line_and_code_2(tmp_path):
    result = brainage_process("train", "--cohort", "nowhere.csv", "--output", "o", cwd=tmp_path)
    assert result.returncode == 2 and "Traceback" not in result.stderr
    (line,) = result.stderr.strip().splitlines()
    assert "nowhere.csv" in line


def test_bad_rows_stop_training_until_they_are_skipped(phantom_cohort, workspace):
    bad = workspace / "bad.csv"
    text = phantom_cohort.read_text().replace("synthetic,", f"synthetic,{phantom_cohort.parent}/")
    lines = text.splitlines()
    bad.write_text("\n".join([*lines, lines[1].replace(lines[1].split(",")[0], "sub-none")]))
    text = bad.read_text().replace(rows(phantom_cohort)[3]["age_years"], "200", 1)
    bad.write_text(text)
    command = [
        "train", "--cohort", bad, "--preset", "phantom", "--epochs", 1,
        "--baselines", "constant", "--check-leakage", "none", "--output", workspace / "bad",
    ]  # fmt: skip
    refused = brainage(*command)
    assert refused.exit_code == 2 and "--skip-bad" in refused.stderr
    accepted = brainage(*command, "--skip-bad")
    assert accepted.exit_code == 0, accepted.stderr
    ledger = rows(workspace / "bad" / "ledger.csv")
    assert len(ledger) == len(lines)
    assert any(row["verdict"] == "failed" and row["stage"] == "cohort" for row in ledger)


def test_report_on_a_scan_is_written_in_three_forms(model, phantom_cohort, workspace):
    scan = phantom_cohort.parent / rows(phantom_cohort)[0]["path"]
    result = brainage(
        "report", scan, "--model", model, "--age", 50, "--output", workspace / "page",
        "--map", "smoothgrad",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    values = json.loads((workspace / "page.json").read_text())
    assert values["model"]["name"] == "model" and values["result"]["age_years"] == 50
    assert values["result"]["predicted_age_years"] > 0 and values["volumes_ml"]["grey"] > 100
    assert (workspace / "page.pdf").read_bytes().startswith(b"%PDF")


def test_bundle_counts_held_out_people_without_ids_and_ages(model, phantom_cohort):
    text = (model / "bundle.json").read_text()
    reference = json.loads(text)["reference"]
    assert reference["source"] == "held_out" and len(reference["cells"]) > 2
    assert not any(row["scan_id"] in text for row in rows(phantom_cohort))


def test_report_on_a_row_of_predictions_needs_no_scan(model, workspace):
    scan_id = rows(model / "predictions.csv")[0]["scan_id"]
    result = brainage(
        "report", "--predictions", model / "predictions.csv", "--scan-id", scan_id,
        "--model", model, "--output", workspace / "row",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    values = json.loads((workspace / "row.json").read_text())
    predicted = float(rows(model / "predictions.csv")[0]["predicted_age_years"])
    assert values["result"]["predicted_age_years"] == pytest.approx(predicted)

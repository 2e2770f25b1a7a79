"""`brainage bids`: labels, files by participant, and the table of the group."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from brainage.cli.main import app
from brainage.cohorts.phantom import write_phantom_cohort
from brainage.config import load_preset, with_changes
from brainage.inference.predict import mark_model
from brainage.model.build import build_model
from brainage.model.bundle import save_bundle
from brainage.report import build_report, identify_model, predicted_findings
from brainage.workflows import bids
from brainage.workflows.models import load_model

ROOT = Path(__file__).parents[3]
BUNDLE = ROOT / "tests" / "fixtures" / "bundle_1"
RECIPES = ROOT / "deploy" / "bids"
ALONE = ["dataset_description.json", "README", ".bidsignore"]


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["bids", *(str(part) for part in arguments)])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """Three people, one of them without a readable scan, and a model."""
    root = tmp_path_factory.mktemp("bids")
    write_phantom_cohort(root / "in", subjects=2, seed=7)
    broken = root / "in" / "sub-broken" / "anat" / "sub-broken_T1w.nii.gz"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no image")
    people = pd.read_csv(root / "in" / "participants.tsv", sep="\t").assign(age=[40.0, 50.0])
    people.loc[2] = people.loc[0]
    people.loc[2, "participant_id"] = "sub-broken"
    people.to_csv(root / "in" / "participants.tsv", sep="\t", index=False)
    config = with_changes(
        load_preset("phantom"), {"target.low_years": 15.0, "target.high_years": 95.0}
    )
    save_bundle(root / "model", build_model(config).eval(), config, {})
    return root


@pytest.fixture(scope="module")
def folder(inputs) -> Path:
    """Participants run one by one, then the group."""
    root, names = inputs, sorted(path.name for path in (inputs / "in").glob("sub-0*"))
    common = (root / "in", root / "out", "participant", "--model", root / "model",
              "--cache", root / "cache")  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bids, "SPACING_MM", 6.0)  # quicker
        run(*common, "--participant-label", names[0].removeprefix("sub-"))
        shutil.copytree(root / "out", root / "first")
        # As the convention has it: several labels behind one option, the other spelling of it.
        run(*common, "--participant_label", "broken", names[1], code=2)
    run(root / "in", root / "out", "group")
    return root


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_one_participant_writes_its_own_files_alone(folder):
    first = files(folder / "first")
    name = next(iter(sorted(path.name for path in (folder / "in").glob("sub-0*"))))
    stem = f"{name}/anat/{name}"
    space = f"{stem}_space-MNI152NLin2009aSym_desc"
    assert first == {
        *ALONE, *(f"{stem}_brainage.{kind}" for kind in ("html", "pdf", "json")),
        f"{space}-preproc_T1w.nii.gz", f"{space}-preproc_T1w.json",
        f"{space}-brain_mask.nii.gz", f"{space}-brain_mask.json",
    }  # fmt: skip
    assert first < files(folder / "out")


@pytest.mark.slow
def test_group_table_has_a_row_for_every_scan_also_for_one_that_cannot_be_read(folder):
    table = pd.read_csv(folder / "out" / "group_brainage.tsv", sep="\t", na_values="n/a")
    table = table.set_index("participant_id")
    assert len(table) == 3 and table.loc["sub-broken", "verdict"] == "failed"
    assert pd.isna(table.loc["sub-broken", "predicted_age_years"])
    good = table.drop("sub-broken")
    assert list(good["age_years"]) == [40, 50] and good["predicted_age_years"].notna().all()
    gap = good["predicted_age_years"] - good["age_years"]
    pd.testing.assert_series_equal(gap, good["brain_age_gap_years"], check_names=False)
    assert good["grey_ml"].between(200, 1500).all() and good["ventricles_ml"].gt(0).all()
    people = pd.read_csv(folder / "out" / "participants.tsv", sep="\t")
    assert list(people["participant_id"]) == list(table.index)
    cohort = pd.read_csv(folder / "out" / "cohort.csv")
    assert list(cohort["age_years"]) == [40, 50]
    assert all((folder / "out" / path).exists() for path in cohort["path"])
    assert json.loads((folder / "out" / "group_brainage.json").read_text())


def test_row_of_the_group_has_all_volumes_of_the_report(tmp_path):
    path = tmp_path / "sub-1" / "anat" / "sub-1_T1w_brainage.json"
    volumes = {"grey": 700.0, "white": 500.0, "fluid": 300.0, "ventricles": 40.0}
    quality = {"verdict": "ok", "reasons": []}
    numbers = {"result": None, "quality": quality, "volumes_ml": volumes}
    row = bids._group_row(path, tmp_path, numbers)
    assert {name: row[f"{name}_ml"] for name in volumes} == volumes


def test_nothing_stays_of_a_scan_that_could_be_read_before(tmp_path):
    """Its page went on telling the age of the former file, its volume was in the cohort."""
    anat = tmp_path / "out" / "sub-1" / "anat"
    anat.mkdir(parents=True)
    ends = (f"{bids.REPORT_END}.pdf", f"{bids.IMAGE_END}.nii.gz", f"{bids.MASK_END}.nii.gz")
    for end in (*ends, f"_run-2{bids.REPORT_END}.pdf"):
        (anat / f"sub-1{end}").write_text("old")
    (tmp_path / "scan.nii.gz").write_bytes(b"no image")
    row = {"stem": "sub-1/anat/sub-1", "cache": tmp_path, "age_years": None}
    row["path"] = str(tmp_path / "scan.nii.gz")
    model = load_model(BUNDLE)
    assert bids._examine(row, tmp_path, tmp_path / "out", model, bids.BidsOptions()) == "failed"
    found = sorted(path.name for path in anat.iterdir())
    assert found == ["sub-1_brainage.json", "sub-1_run-2_brainage.pdf"]


def test_row_of_the_group_tells_its_model_as_predict_does(tmp_path):
    model = load_model(BUNDLE)
    calibration = {**model.bundle.facts["calibration"], "offset_years": 2.0}
    bundle = replace(model.bundle, facts={**model.bundle.facts, "calibration": calibration})
    findings = predicted_findings(
        {"predicted_age_years": 50.0}, "ok", "", identify_model(replace(model, bundle=bundle)), 0.8
    )
    row = bids._group_row(tmp_path / "sub-1/anat/x.json", tmp_path, build_report(findings).numbers)
    assert row["predicted_by"] == mark_model(bundle) and row["interval_level"] == 0.8


@pytest.mark.parametrize(
    "other", [("b", 0.0, 0.9), ("a", 2.0, 0.9), ("a", 0.0, 0.8), ("a", 0.0, 0.9, 1)]
)
def test_reports_of_several_models_offsets_or_levels_are_no_group(tmp_path, other):
    """Their ages stood in one table, and differ by years for one scan."""
    for name, (weights, offset, level, *version) in enumerate([("a", 0.0, 0.9), other]):
        folder = tmp_path / f"sub-{name}" / "anat"
        folder.mkdir(parents=True)
        numbers = {
            "result": {"age_years": 50.0, "predicted_age_years": 52.0, "level": level},
            "model": {"weights_sha256": weights, "offset_years": offset},
            "quality": {"verdict": "ok", "reasons": []},
            "volumes_ml": {},
            "preparation_version": str(version),
        }
        (folder / f"sub-{name}_brainage.json").write_text(json.dumps(numbers))
    assert "2 models, offsets, levels or versions" in run(tmp_path, tmp_path, "group", code=2)


def test_labels_that_are_not_there_are_named(inputs):
    folder = inputs
    common = (folder / "in", folder / "other", "participant", "--model", folder / "model")
    assert "sub-nobody" in run(*common, "--participant-label", "nobody", code=2)
    assert "ses-2" in run(*common, "--session-label", "2", code=2)
    assert "one argument too many" in run(*common, "01", code=2)
    assert "Run the level participant first" in run(folder / "in", folder / "none", "group", code=2)


@pytest.mark.slow
def test_official_validator_has_no_error(folder):
    from tests.integration.test_bids_validator import VALIDATOR, validate

    if VALIDATOR is None:
        pytest.skip("no bids-validator-deno")
    for output in (folder / "first", folder / "out"):
        assert validate(output)["error"] == set()


def bosh(*arguments: object) -> "subprocess.CompletedProcess[str]":
    program = shutil.which("bosh", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("boutiques is not installed")
    command = [program, *(str(part) for part in arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def descriptor() -> dict[str, Any]:
    return json.loads((RECIPES / "boutiques.json").read_text())


@pytest.mark.slow
def test_boutiques_accepts_the_descriptor_and_its_command_line_is_ours(inputs, tmp_path):
    assert bosh("validate", RECIPES / "boutiques.json").returncode == 0
    invocation = {
        "bids_dir": str(inputs / "in"), "out_dir": str(tmp_path / "out"),
        "analysis_level": "participant", "participant_label": ["nobody", "other"],
        "model": str(inputs / "model"), "level": 0.8,
    }  # fmt: skip
    (tmp_path / "invocation.json").write_text(json.dumps(invocation))
    told = bosh("exec", "simulate", RECIPES / "boutiques.json", "-i", tmp_path / "invocation.json")
    assert told.returncode == 0, told.stderr
    line = next(line for line in told.stdout.splitlines() if "brainage bids" in line)
    words = shlex.split(line[line.index("brainage bids") :])[2:]
    assert "sub-nobody" in run(*words, code=2)


def test_recipes_call_the_app_and_have_the_version_of_the_package():
    from brainage import __version__

    assert descriptor()["tool-version"] == __version__
    assert descriptor()["container-image"]["image"] == f"brainage:{__version__}"
    docker, apptainer = ((RECIPES / name).read_text() for name in ("Dockerfile", "apptainer.def"))
    assert f"IMAGE=brainage:{__version__}" in docker
    assert 'ENTRYPOINT ["brainage", "bids"]' in docker
    assert 'exec /opt/brainage/bin/brainage bids "$@"' in apptainer
    copied = re.findall(r"^    (\S+) /source/", apptainer, re.MULTILINE)
    assert len(copied) == 7 and all((ROOT / name).exists() for name in copied)

"""`predict`: what stands in the table, what is printed, and how it ends."""

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

import brainage
from brainage.cli.main import app
from brainage.errors import CohortError
from brainage.preprocessing.template import TISSUE_SPACING_MM, load_template
from brainage.workflows.evaluate import check_predictions
from brainage.workflows.predict import PredictOptions, predict, warn_of_strangers


@pytest.fixture(scope="module")
def scans(phantom_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A good scan, one with contrast agent, one that holds a note, and a mask."""
    folder = tmp_path_factory.mktemp("scans")
    paths = [phantom_cohort.parent / path for path in pd.read_csv(phantom_cohort)["path"][:3]]
    named = {"good": "good.nii.gz", "agent": "sub-1_ce-gd_T1w.nii.gz", "noted": "noted.nii.gz"}
    made = {
        kind: Path(shutil.copy(path, folder / name))
        for (kind, name), path in zip(named.items(), paths, strict=True)
    }
    with made["noted"].open("ab") as file:
        file.write(b"text behind the stream")
    template = load_template(TISSUE_SPACING_MM)
    made["mask"] = folder / "mask.nii.gz"
    nib.save(nib.Nifti1Image(template.mask.astype(np.uint8), template.affine), made["mask"])
    return made


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        app([str(word) for word in words])
    return int(ended.value.code or 0)


def test_the_table_says_verdict_and_reasons(scans: dict[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "predictions.csv"
    options = PredictOptions()
    with pytest.warns(UserWarning, match="flagged: a contrast agent"):
        assert predict([scans["good"], scans["agent"]], None, output, options) == 0
    table = pd.read_csv(output, keep_default_na=False)
    assert table["verdict"].tolist() == ["ok", "flagged"]
    assert table["reasons"][0] == "" and "contrast agent" in table["reasons"][1]


def test_what_is_not_simply_ok_gets_one_line_with_its_id(
    scans: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = ["--output", tmp_path / "p.csv"]
    assert run("predict", *scans.values(), *output) == 2
    out, err = capfd.readouterr()
    lines = (out + err).splitlines()
    ids = {
        kind: path.name.removesuffix(".nii.gz").removesuffix("_T1w") for kind, path in scans.items()
    }
    told = {kind: [line for line in lines if f"{one}: " in line] for kind, one in ids.items()}
    assert {kind: len(found) for kind, found in told.items()} == {
        "good": 0, "agent": 1, "noted": 1, "mask": 1
    }  # fmt: skip
    assert "flagged: " in told["agent"][0] and "failed: " in told["mask"][0]
    assert "ignored" in told["noted"][0] and "4 in = 2 ok + 1 flagged + 1 failed" in out


def test_one_scan_under_two_names_is_said(scans: dict[str, Path], tmp_path: Path) -> None:
    copied = shutil.copy(scans["good"], tmp_path / "copy.nii.gz")
    output = ["--output", tmp_path / "p.csv"]
    assert run("predict", scans["good"], scans["agent"], copied, *output) == 0
    reasons = pd.read_csv(tmp_path / "p.csv", keep_default_na=False)["reasons"]
    assert [told.endswith("holds the same voxels as good") for told in reasons] == [0, 0, 1]
    with pytest.raises(CohortError, match="'good' and 'copy'"):
        check_predictions(pd.read_csv(tmp_path / "p.csv").assign(subject_id="1"), "table")


def test_no_scan_and_no_table_is_written_over(scans: dict[str, Path], tmp_path: Path) -> None:
    scan = Path(shutil.copy(scans["good"], tmp_path))
    table = tmp_path / "table.csv"
    table.write_text(f"id,age,path\ngood,50,{scan}\n")
    before = scan.read_bytes(), table.read_bytes()
    for source in (["--cohort", table], [scan, "--ages", table]):
        assert run("predict", *source, "--output", table) == 2
    assert run("predict", scan, "--output", scan) == 2
    assert (scan.read_bytes(), table.read_bytes()) == before


def test_with_nothing_usable_predict_ends_with_2(scans: dict[str, Path], tmp_path: Path) -> None:
    output = ["--output", tmp_path / "p.csv"]
    assert run("predict", scans["mask"], *output) == 2
    assert pd.read_csv(tmp_path / "p.csv").empty


def test_flagged_alone_ends_with_0(scans: dict[str, Path], tmp_path: Path) -> None:
    output = ["--output", tmp_path / "p.csv"]
    assert run("predict", scans["agent"], *output) == 0


def test_further_runs_of_a_session_get_a_line_and_are_no_failure(
    scans: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "bids" / "sub-1" / "anat"
    folder.mkdir(parents=True)
    for name in ("sub-1_run-1_T1w.nii.gz", "sub-1_run-2_T1w.nii.gz"):
        shutil.copy(scans["good"], folder / name)
    words = ["--cohort", tmp_path / "bids", "--output", tmp_path / "p.csv"]
    assert run("predict", *words) == 0
    out, err = capfd.readouterr()
    assert "sub-1_run-2_T1w: further T1w file" in out and "sub-1_run-2_T1w: " not in err
    assert "2 in = 1 ok + 0 flagged + 0 failed + 1 surplus" in out


@pytest.mark.parametrize("skip", [[], ["--skip-bad"]])
def test_with_nothing_usable_prepare_ends_with_2(
    skip: list[str], scans: dict[str, Path], tmp_path: Path
) -> None:
    table = pd.DataFrame({"scan_id": ["a"], "subject_id": ["a"], "path": [scans["mask"]]})
    table.to_csv(tmp_path / "table.csv", index=False)
    words = ["--cohort", tmp_path / "table.csv", "--output", tmp_path / "out", *skip]
    assert run("prepare", *words) == 2


def test_python_gets_the_same_verdicts(scans: dict[str, Path], tmp_path: Path) -> None:
    paths = [scans[kind] for kind in ("good", "agent", "mask")]
    table = brainage.load_model().predict(paths)
    assert table["verdict"].tolist() == ["ok", "flagged", "failed"]
    assert "contrast agent" in table["reasons"][1] and "mask" in table["reasons"][2]
    assert np.isnan(table["predicted_age_years"][2])


def test_a_prepared_cohort_keeps_its_verdicts_beside_predictions(
    scans: dict[str, Path], tmp_path: Path
) -> None:
    table = pd.DataFrame(
        {"scan_id": ["a"], "subject_id": ["a"], "age_years": [50.0], "path": [scans["agent"]]}
    )
    table.assign(verdict="ok").to_csv(tmp_path / "table.csv", index=False)
    cohort = brainage.read_cohort(tmp_path / "table.csv")
    found = brainage.load_model().predict(cohort)
    assert found["verdict"].tolist() == ["flagged"]


def test_scans_of_no_site_that_trained_are_told_how_far_off_others_were() -> None:
    facts = {
        "cohort": {"sites": ["HH", "oasis1"]},
        "left_out": [{"n": 30, "mae_years": 8.0, "far_share": 0.2}],
        "left_out_calibration": {"kind": "absolute"},
    }
    strange = pd.DataFrame({"site": ["HH", "mine", ""]})
    with pytest.warns(UserWarning, match=r"^2 scans .* off by 8.0 years .* more than 15 in 20%"):
        warn_of_strangers(facts, strange)
    with pytest.warns(UserWarning, match="^3 scans"):
        warn_of_strangers(facts, strange.drop(columns="site"))
    warn_of_strangers(facts, strange[:1])
    warn_of_strangers({**facts, "left_out_calibration": None}, strange)


def test_scans_of_another_site_than_the_model_was_fitted_to_are_said() -> None:
    facts = {"own_sites": ["HH"], "cohort": {"sites": ["oasis1"]}}
    with pytest.warns(UserWarning, match="^1 scans are of other sites than HH"):
        warn_of_strangers(facts, pd.DataFrame({"site": ["HH", "oasis1", ""]}))
    warn_of_strangers(facts, pd.DataFrame({"site": ["HH", ""]}))

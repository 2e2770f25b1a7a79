"""The official validator on data sets that `prepare` and the phantoms write."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import brainage
from brainage.cohorts.phantom import write_phantom_cohort

VALIDATOR = shutil.which("bids-validator-deno", path=str(Path(sys.executable).parent))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(VALIDATOR is None, reason="no bids-validator-deno"),
]
# How a scan was acquired, and by whom: phantoms have neither scanner nor authors.
UNAVOIDABLE_OF_RAW = {
    "JSON_KEY_RECOMMENDED", "SIDECAR_KEY_RECOMMENDED", "TOO_FEW_AUTHORS", "README_FILE_SMALL",
}  # fmt: skip


def validate(folder: Path) -> dict[str, set[str]]:
    """Codes of issues by severity."""
    said = subprocess.run([str(VALIDATOR), str(folder), "--json"], capture_output=True, text=True)
    issues: list[dict[str, Any]] = json.loads(said.stdout)["issues"]["issues"]
    found: dict[str, set[str]] = {"error": set(), "warning": set()}
    for issue in issues:
        found.setdefault(issue["severity"], set()).add(issue["code"])
    return found


def check(folder: Path, *, raw: bool = False) -> None:
    found = validate(folder)
    assert found["error"] == set()
    assert found["warning"] <= (UNAVOIDABLE_OF_RAW if raw else set())


@pytest.fixture
def phantoms(tmp_path: Path) -> Path:
    return write_phantom_cohort(tmp_path / "raw", subjects=2, seed=3).parent


def prepare(source: Path, output: Path, cache: Path) -> pd.DataFrame:
    return brainage.prepare(source, output, spacing_mm=4, cache=cache)


def test_a_data_set_without_sessions(phantoms: Path, tmp_path: Path) -> None:
    check(phantoms, raw=True)
    prepare(phantoms, tmp_path / "out", tmp_path)
    check(tmp_path / "out")


def test_a_data_set_nested_below_its_raw_one(phantoms: Path, tmp_path: Path) -> None:
    output = phantoms / "derivatives" / "brainage"
    prepare(phantoms, output, tmp_path)
    check(output)
    check(phantoms, raw=True)
    sidecar = next(output.glob("sub-*/anat/*_desc-preproc_T1w.json"))
    (source,) = json.loads(sidecar.read_text())["Sources"]
    links = json.loads((output / "dataset_description.json").read_text())["DatasetLinks"]
    assert (output / links["raw"] / source.removeprefix("bids:raw:")).is_file()


def test_sessions_runs_and_acquisitions(phantoms: Path, tmp_path: Path) -> None:
    scans = sorted(phantoms.glob("sub-*/anat/*.nii.gz"))
    rows = []
    for number, (session, more) in enumerate(
        [("pre", "acq-mprage_run-1"), ("pre", "acq-mprage_run-2"), ("post", "ce-gd_run-1")]
    ):
        name = f"sub-9/ses-{session}/anat/sub-9_ses-{session}_{more}_T1w.nii.gz"
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(scans[number % 2], tmp_path / "in" / name)
        age = {"pre": 40, "post": 43.5}[session]
        row = {"subject": "sub-9", "session": session, "scan": more, "age": age, "path": name}
        rows.append(row)
    pd.DataFrame(rows).to_csv(tmp_path / "in" / "table.csv", index=False)
    output = tmp_path / "out"
    prepare(tmp_path / "in" / "table.csv", output, tmp_path)
    check(output)
    written = output.rglob("*_desc-preproc_T1w.nii.gz")
    assert sorted(path.name.split("_space")[0] for path in written) == [
        "sub-9_ses-post_ce-gd_run-1", "sub-9_ses-pre_acq-mprage_run-1",
        "sub-9_ses-pre_acq-mprage_run-2",
    ]  # fmt: skip
    # The prepared folder is itself a cohort, with an age for each session.
    table = brainage.read_cohort(output, skip_bad=True).cohort.table.set_index("scan_id")
    assert table["age_years"].to_dict() == {"sub-9_ses-pre": 40, "sub-9_ses-post": 43.5}

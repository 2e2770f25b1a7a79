"""Check that nothing of a person reaches logs, trackers, bundles or the page.

File names, header texts, DICOM tags, ids and ages are marks that occur nowhere else. They go
through the commands, with a database of MLflow beside them; in the slow tests through all commands
that take a scan, and through the page's service.
"""

import io
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import typst
from typer.testing import CliRunner

from brainage.cli.main import app
from brainage.cohorts.phantom import build_phantom
from brainage.sandbox.parent import Limits
from brainage.serving.service import Service
from brainage.serving.settings import ServerLimits
from brainage.types import Volume
from tests.dicom_helpers import SECRETS, write_series, zip_files
from tests.leaks import find_marks, search

SUBJECTS = 10
FILES = ("Qzxfolder", "Qzxfile")
HEADER = ("Qzxdescrip", "Qzxaux", "Qzxintent", "Qzxdb", "Qzxextension")
DICOM = (*SECRETS, "Qzxinstitution", "Qzxreferrer")
SERIES = "Qzxseries"
IDS = ("Qzxscan", "Qzxsubject")
# Nobody's age is written like this by chance.
AGES = [round(20.1379 + 5.0317 * number, 4) for number in range(SUBJECTS)]
OF_THE_ROW = {str(AGES[0])}
TYPED_YEARS = 47.3719

# Tables whose rows are scans, and what lies beside them under a scan's id.
KEYED = (
    "predictions.csv", "ledger.csv", "scans.csv", "cohort.csv", "contact_sheet.html",
)  # fmt: skip


def write_scan(path: Path, volume: Volume) -> None:
    """NIfTI file with a mark in every text of its header."""
    image = nib.Nifti1Image(np.round(volume.data).astype(np.int16), volume.affine)
    image.header["descrip"], image.header["aux_file"] = HEADER[0].encode(), HEADER[1].encode()
    image.header["intent_name"], image.header["db_name"] = HEADER[2].encode(), HEADER[3].encode()
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", HEADER[4].encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)


def write_cohort(root: Path) -> Path:
    """Marked phantoms, the last of them as a zip of DICOM files."""
    rows = []
    for number, age in enumerate(AGES):
        rngs = (np.random.default_rng([number, part]) for part in (1, 2))
        volume = build_phantom(age, *rngs)
        path = root / FILES[0] / f"{FILES[1]}{number}.nii.gz"
        if number < SUBJECTS - 1:
            write_scan(path, volume)
        else:
            texts = {"InstitutionName": DICOM[-2], "ReferringPhysicianName": DICOM[-1]}
            files = write_series(root / "series", volume, description=SERIES, age="093Y", **texts)
            path = zip_files(path.with_name(f"{FILES[1]}{number}.zip"), files)
        names = {"scan_id": f"{IDS[0]}{number}", "subject_id": f"{IDS[1]}{number}"}
        rows.append({**names, "age_years": age, "path": path.relative_to(root)})
    pd.DataFrame(rows).to_csv(root / "Qzxtable.csv", index=False)
    return root / "Qzxtable.csv"


@dataclass(frozen=True)
class Outcome:
    """Everything that the commands and the service left behind."""

    folder: Path
    said: str
    logged: str


@pytest.fixture(scope="module", params=["few", pytest.param("all", marks=pytest.mark.slow)])
def outcome(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Outcome]:
    """One run of the commands, in folders whose names are no marks."""
    source, out = tmp_path_factory.mktemp("in"), tmp_path_factory.mktemp("out")
    cohort, records = write_cohort(source), io.StringIO()
    handler, root = logging.StreamHandler(records), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        said = run_commands(cohort, out, every=request.param == "all")
        if request.param == "all":
            examine(cohort, out)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    yield Outcome(out, said, records.getvalue())


def run_commands(cohort: Path, out: Path, every: bool) -> str:
    """Run the commands; returns what they printed."""
    scan = cohort.parent / pd.read_csv(cohort)["path"][2]
    at, model = ["--cache", out / "cache"], ["--model", out / "model"]
    tracker = ["--tracking-uri", f"sqlite:///{out}/mlflow.db"]
    short = ["--preset", "phantom", "--epochs", 1, *at, *tracker]
    check = ["--check-leakage", "linear" if every else "none"]
    few: list[list[object]] = [
        ["train", "--cohort", cohort, *short, *check, "--output", out / "model"],
        ["predict", "--cohort", cohort, *model, *at, "--output", out / "predictions.csv"],
        ["report", scan, "--age", TYPED_YEARS, *model, "--output", out / "page"],
        ["register", *model, *tracker],
    ]
    method = ["--method", "occlusion"]
    row = ["--scan-id", f"{IDS[0]}0", "--predictions", out / "predictions.csv"]
    others: list[list[object]] = [
        ["prepare", "--cohort", cohort, *at, "--output", out / "prepared"],
        ["compare", "--cohort", cohort, *short, "--output", out / "comparison"],
        ["evaluate", "--cohort", cohort, *model, *at, "--output", out / "evaluation"],
        ["explain", "--cohort", cohort, *model, *at, "--output", out / "maps", *method],
        ["report", *row, *model, "--output", out / "row"],
    ]
    said = ""
    for arguments in few + others * every:
        result = CliRunner().invoke(app, [str(part) for part in arguments])
        said += result.output
        assert result.exit_code == 0, result.output
    return said


def examine(cohort: Path, out: Path) -> None:
    """A NIfTI and a DICOM scan through the page's service; its files go to `out`/app."""
    rows = pd.read_csv(cohort)
    service = Service(ServerLimits(predictions=1, child=Limits(6144, 300.0)), lambda: out / "model")
    folder = out / "app"
    folder.mkdir()
    try:
        for number, position in enumerate((2, SUBJECTS - 1)):
            content = (cohort.parent / rows["path"][position]).read_bytes()
            argument = {"model": str(out / "model"), "model_name": "model", "label": "scan"}
            argument |= {"age_years": TYPED_YEARS, "map_method": "occlusion"}
            job = service.submit(content, argument, lambda: True)
            job.shown = f"{FILES[1]}{position}"
            end = time.monotonic() + 240
            while not job.finished and time.monotonic() < end:
                time.sleep(0.05)
            assert job.state == "done", job.reason
            for name, data in job.files.items():
                (folder / f"{number}-{name}").write_bytes(data)
            (folder / f"{number}-result.json").write_text(json.dumps(job.result))
    finally:
        service.close()


def test_marks_are_found_where_they_are_packed_away(tmp_path):
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4))
    image.header["descrip"] = b"qzxdescrip"
    nib.save(image, tmp_path / "a.nii.gz")
    typst.compile(b"Qzxdescrip", output=tmp_path / "b.pdf")
    typst.compile(b'#set document(title: "Qzxdescrip")', output=tmp_path / "d.pdf")
    (tmp_path / "c.bin").write_bytes(np.array([1.0, 47.3719]).tobytes())
    assert search(tmp_path, ["Qzxdescrip", 47.3719]) == {
        "a.nii.gz": {"Qzxdescrip"}, "b.pdf": {"Qzxdescrip"}, "c.bin": {"47.3719"},
        "d.pdf": {"Qzxdescrip"},
    }  # fmt: skip


def test_file_names_header_texts_and_tags_are_nowhere(outcome):
    assert search(outcome.folder, [*FILES, *HEADER, *DICOM, "Qzxtable"]) == {}


def test_description_of_a_series_tells_which_was_taken_and_no_more(outcome):
    for name in search(outcome.folder, [SERIES]):
        assert Path(name).name in (*KEYED, "record.sealed") or name.startswith("prepared/"), name


def test_ids_stand_in_tables_of_scans_alone(outcome):
    found = search(outcome.folder, IDS)
    assert {"model/predictions.csv", "model/ledger.csv", "predictions.csv"} <= set(found)
    for name in found:
        assert Path(name).name in KEYED or name.startswith("prepared/"), name


def test_ages_stand_in_tables_of_scans_alone(outcome):
    found = search(outcome.folder, AGES)
    # The report on a person holds their own age, here that of their row.
    assert found.pop("row.json", OF_THE_ROW) == OF_THE_ROW
    assert {Path(name).name for name in found} <= set(KEYED)
    assert "predictions.csv" in found


def test_bundle_tracker_and_reports_hold_no_mark_at_all(outcome):
    out, marks = outcome.folder, [*FILES, *HEADER, *DICOM, *IDS, SERIES, *AGES]
    manifest = json.loads((out / "model" / "manifest.json").read_text())
    for name in (*manifest["sha256"], "manifest.json"):
        assert find_marks((out / "model" / name).read_bytes(), marks) == set(), name
    assert find_marks((out / "mlflow.db").read_bytes(), marks) == set()
    assert list((out / "mlartifacts").rglob("bundle.json"))
    assert search(out / "mlartifacts", marks) == {}
    reports = [path for path in out.iterdir() if path.stem in ("page", "row")]
    assert len(reports) >= 3
    for path in [*reports, *out.glob("app/*")]:
        own = OF_THE_ROW if path.stem == "row" else set()
        assert find_marks(path.read_bytes(), marks) <= own, path
    # Words of the page are found: so would a mark be.
    assert find_marks((out / "page.pdf").read_bytes(), ["Research use only"])


def test_the_screen_names_scans_that_are_not_simply_ok_and_a_log_none(outcome):
    marks = [*FILES, *HEADER, *DICOM, IDS[1], *AGES]
    assert "written to" in outcome.said
    assert find_marks(outcome.said.encode(), marks) == set()
    assert find_marks(outcome.logged.encode(), [*marks, *IDS, SERIES]) == set()


def test_typed_age_is_in_the_report_it_was_typed_for_alone(outcome):
    found = search(outcome.folder, [TYPED_YEARS])
    assert all(name.startswith(("page.", "app/")) for name in found)

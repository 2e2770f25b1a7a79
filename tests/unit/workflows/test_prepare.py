"""`prepare`: every scan has a row, finished ones are kept, and the layout is BIDS."""

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

import brainage.prepared.derivatives as derivatives
from brainage.cohorts.cohort import read_cohort
from brainage.config import PreprocessingConfig
from brainage.errors import CohortError, ConfigError, StoreError
from brainage.files import hold_folder
from brainage.prepared.arrays import prepare_scan
from brainage.prepared.source import ScanSource
from brainage.prepared.store import PreparedStore
from brainage.preprocessing.ledger import read_ledger
from brainage.preprocessing.verdict import judge
from brainage.sandbox.child import run_task
from brainage.sandbox.engines import Engine
from brainage.sandbox.parent import Limits, Outcome
from brainage.scans.volume import load_volume
from brainage.workflows import prepare as job
from brainage.workflows.cohorts import CohortOptions
from brainage.workflows.masks import find_masks
from brainage.workflows.prepare import PrepareOptions
from tests.dicom_helpers import SECRETS, make_head, make_zip, write_series, zip_files
from tests.heads import FAST, build_head

SETTINGS = PreprocessingConfig(spacing_mm=8.0, shape=(20, 24, 20))
LIMITS = Limits(seconds=120.0)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run tasks in this process, with a gate that lets phantoms pass; lists scans processed."""
    processed: list[str] = []
    process = derivatives.process_source

    def count(source, *how):
        done = process(source, *how)
        processed.append(source.where)
        return done

    def run_here(task, arguments, _):
        for position, argument in enumerate(arguments):
            answer = run_task({"function": task, "argument": argument})
            yield position, Outcome(answer.get("result"), answer.get("error", ""), 0.0)

    monkeypatch.setattr("brainage.preprocessing.pipeline.judge", lambda *_: ("ok", ()))
    monkeypatch.setattr(derivatives, "process_source", count)
    monkeypatch.setattr(job, "run_tasks", run_here)
    return processed


@pytest.fixture(scope="module")
def placements(phantom_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that knows where three phantoms lie, and nothing else of them."""
    cache = tmp_path_factory.mktemp("placements")
    for path in read_cohort(phantom_cohort).cohort.table["path"][:3]:
        prepare_scan(ScanSource(path), SETTINGS, PreparedStore(cache))
    return cache


@pytest.fixture
def cohort(phantom_cohort: Path, placements: Path, tmp_path: Path) -> Path:
    """Four phantoms, one of them damaged; the others are placed in their cache."""
    shutil.copytree(placements, tmp_path / "cache")
    table = pd.read_csv(phantom_cohort)[:4].assign(group="control")
    for path in table["path"]:
        (tmp_path / path).parent.mkdir(parents=True)
        shutil.copy(phantom_cohort.parent / path, tmp_path / path)
    (tmp_path / table["path"][3]).write_bytes(b"nonsense" * 100)
    table.to_csv(tmp_path / "table.csv", index=False)
    return tmp_path / "table.csv"


def run(cohort: Path, output: Path, engine: Engine | None = None, **options) -> int:
    settings = options.pop("settings", SETTINGS)
    cohort_options = CohortOptions(str(cohort), cache=cohort.parent / "cache")
    engine = engine or Engine(limits=LIMITS)
    with hold_folder(output):
        ledger = job._prepare(cohort_options, settings, PrepareOptions(output, engine, **options))
    return int((ledger["verdict"] == "failed").sum())


def test_in_is_ok_and_flagged_and_failed_and_train_can_read_the_rest(here, cohort, tmp_path):
    output = tmp_path / "out"
    assert run(cohort, output) == 1
    entries = read_ledger(output / "ledger.csv")
    assert [entry.verdict for entry in entries] == ["ok"] * 3 + ["failed"]
    assert entries[3].stage == "read" and "not a scan" in entries[3].reason
    assert len({entry.path_hash for entry in entries}) == 4 and "SimpleITK" in entries[0].versions
    made = read_cohort(output / "cohort.csv").cohort.table
    before = read_cohort(cohort).cohort.table[:3]
    for name in ("scan_id", "subject_id", "age_years", "sex", "site", "group"):
        assert made[name].tolist() == before[name].tolist()
    assert all(str(output) in path for path in made["path"])


def test_the_layout_is_a_bids_derivative(here, cohort, tmp_path):
    output = tmp_path / "out"
    run(cohort, output)
    description = json.loads((output / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Name"] == "brainage"
    people = pd.read_csv(output / "participants.tsv", sep="\t")
    assert people["participant_id"].is_unique and people["age"].notna().all() and len(people) == 3
    subject = pd.read_csv(cohort)["subject_id"][0]
    stem = output / subject / "anat" / f"{subject}_space-MNI152NLin2009aSym_desc"
    sidecar = json.loads(Path(f"{stem}-preproc_T1w.json").read_text())
    header = nib.load(f"{stem}-preproc_T1w.nii.gz").header
    assert (int(header["sform_code"]), header.get_xyzt_units()[0]) == (4, "mm")
    assert sidecar["SkullStripped"] and len(sidecar["SourceToSpaceAffine"]) == 4
    for end in ("-preproc_T1w.nii.gz", "-brain_mask.nii.gz", "-brain_mask.json"):
        assert Path(f"{stem}{end}").is_file()
    sheet = (output / "contact_sheet.html").read_text()
    assert sheet.count("data:image/png") == 3 and sheet.count("<figure") == 4
    assert len(list((output / "pictures").iterdir())) == 3


def test_a_second_run_redoes_nothing_and_a_changed_setting_everything(here, cohort, tmp_path):
    run(cohort, tmp_path / "out")
    first = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    run(cohort, tmp_path / "out")
    assert len(here) == 3
    assert {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()} == first
    run(cohort, tmp_path / "out", settings=SETTINGS.on_grid(10.0, (160.0, 192.0, 160.0)))
    assert len(here) == 6


def test_an_interrupted_run_loses_only_what_was_in_flight(here, cohort, tmp_path, monkeypatch):
    run_here = job.run_tasks

    def stop_at_third(task, arguments, engine):
        for position, outcome in run_here(task, arguments, engine):
            if position == 2:
                raise KeyboardInterrupt
            yield position, outcome

    monkeypatch.setattr(job, "run_tasks", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        run(cohort, tmp_path / "out")
    assert not (tmp_path / "out" / "ledger.csv").exists()
    here.clear()
    monkeypatch.setattr(job, "run_tasks", run_here)
    assert run(cohort, tmp_path / "out") == 1
    assert here == []  # the third was finished, though its outcome was never read


def test_a_second_run_that_is_cut_short_leaves_no_table_of_the_first(
    here, cohort, tmp_path, monkeypatch
):
    run(cohort, tmp_path / "out")
    monkeypatch.setattr(job, "build_sheet", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(cohort, tmp_path / "out")
    assert (tmp_path / "out" / "cohort.csv").exists(), "nothing had changed"
    with pytest.raises(ZeroDivisionError):
        run(cohort, tmp_path / "out", settings=SETTINGS.on_grid(10.0, (160.0, 192.0, 160.0)))
    assert not (tmp_path / "out" / "cohort.csv").exists()


def test_scans_that_left_the_cohort_leave_the_output(here, cohort, tmp_path):
    run(cohort, tmp_path / "out")
    pd.read_csv(cohort)[:1].to_csv(cohort, index=False)
    run(cohort, tmp_path / "out")
    assert len(list((tmp_path / "out").glob("sub-*/anat/*_T1w.nii.gz"))) == 1


def test_a_folder_with_something_else_is_left_alone(here, cohort, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds something else"):
        run(cohort, tmp_path / "out")


def test_a_zip_a_missing_slice_a_traversal_and_a_bomb_are_each_one_clear_line(
    here, phantom_cohort, tmp_path
):
    """The patient's name stays out of everything that is written, also out of file names."""
    head = load_volume(read_cohort(phantom_cohort).cohort.table["path"].iloc[0])
    whole = write_series(tmp_path / "dicom" / "a", head, number=2)
    other = write_series(tmp_path / "dicom" / "b", make_head(), number=4, description="t2_tse")
    gap = write_series(tmp_path / "gap", head, skip=(20,))
    inputs = tmp_path / "in"
    inputs.mkdir()
    zip_files(inputs / "two.zip", whole + other)
    zip_files(inputs / "gap.zip", gap)
    make_zip(inputs / "traversal.zip", {"../../evil.dcm": b"evil"})
    make_zip(inputs / "bomb.zip", {"bomb.dcm": bytes(2**26)})
    names = ["two.zip", "gap.zip", "traversal.zip", "bomb.zip"]
    table = pd.DataFrame({"id": names, "path": [f"in/{name}" for name in names]})
    table.to_csv(tmp_path / "table.csv", index=False)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    run(tmp_path / "table.csv", tmp_path / "out", age_from_dicom=True)
    reasons = {entry.scan_id: entry.reason for entry in read_ledger(tmp_path / "out/ledger.csv")}
    assert "series 2 'MPRAGE sag'" in reasons["two.zip"]
    assert "1 slice is missing after slice 20" in reasons["gap.zip"]
    assert "points outside" in reasons["traversal.zip"]
    assert "times as many" in reasons["bomb.zip"]
    assert pd.read_csv(tmp_path / "out" / "cohort.csv")["age_years"].tolist() == [45.0]
    written = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    homes = (tmp_path / "out", tmp_path / "cache")
    assert all(any(home in path.parents for home in homes) for path in written)
    everything = b"".join(path.read_bytes() + str(path).encode() for path in written)
    assert not any(secret.encode() in everything for secret in SECRETS)


def test_a_crash_of_one_scan_is_a_row(here, cohort, tmp_path, monkeypatch):
    run_here = job.run_tasks

    def crash_second(task, arguments, engine):
        for position, outcome in run_here(task, arguments, engine):
            crash = Outcome(None, "its process crashed (SIGSEGV)", 1.0)
            yield position, crash if position == 1 else outcome

    monkeypatch.setattr(job, "run_tasks", crash_second)
    assert run(cohort, tmp_path / "out") == 2
    entries = read_ledger(tmp_path / "out" / "ledger.csv")
    assert [entry.verdict for entry in entries] == ["ok", "failed", "ok", "failed"]
    assert (entries[1].stage, entries[1].reason) == ("process", "its process crashed (SIGSEGV).")


def test_a_cache_that_cannot_be_written_ends_the_run_and_blames_no_scan(here, cohort, tmp_path):
    cache = cohort.parent / "cache"
    shutil.rmtree(cache / "prepared")
    (cache / "prepared").write_text("a file where a folder should be")
    with pytest.raises(StoreError, match="cannot be written"):
        run(cohort, tmp_path / "out")
    assert not (tmp_path / "out" / "cohort.csv").exists()


@pytest.mark.slow
def test_the_same_files_come_out_of_dask_when_a_worker_is_killed(cohort, tmp_path, monkeypatch):
    """The quick variant, without scans, is in running/test_engines.py."""
    from distributed import LocalCluster

    monkeypatch.setattr(job, "TASK", "tests.child_tasks:derive_marked")
    mark = tmp_path / "cache" / "workers"

    def kill_first() -> None:
        deadline = time.monotonic() + 300
        while not (mark.exists() and mark.read_text()) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(int(mark.read_text().split()[0]), signal.SIGKILL)

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        killer = threading.Thread(target=kill_first)
        killer.start()
        engine = Engine("dask", scheduler=cluster.scheduler_address, limits=LIMITS)
        run(cohort, tmp_path / "out-dask", engine)
        killer.join()
    assert len(mark.read_text().split()) > 4, "no scan was begun again"
    shutil.rmtree(tmp_path / "cache")
    mark.parent.mkdir()
    run(cohort, tmp_path / "out-serial")
    assert contents(tmp_path / "out-dask") == contents(tmp_path / "out-serial")


def contents(output: Path) -> dict[str, object]:
    """Everything that was written, but for times and for the folder's own name."""
    found: dict[str, object] = {}
    for path in sorted(path for path in output.rglob("*") if path.is_file()):
        name = path.relative_to(output).as_posix()
        if name == "ledger.csv":
            found[name] = [entry.__dict__ | {"seconds": 0} for entry in read_ledger(path)]
        elif name.endswith("preproc_T1w.json"):
            timed = {"SecondsPerStep": {}, "SidecarSHA256": ""}  # the hash is of both
            found[name] = json.loads(path.read_text()) | timed
        else:
            found[name] = path.read_bytes().replace(output.name.encode(), b"out")
    return found


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(phantom_cohort, tmp_path):
    """A real kill -9 of the real command."""
    cache = tmp_path / "cache"
    command = [
        sys.executable, "-m", "brainage.cli.main", "prepare", "--cohort", str(phantom_cohort),
        "--output", str(tmp_path / "out"), "--cache", str(cache), "--spacing-mm", "8",
        "--where", "age_years < 28", "--skip-bad",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while (
        not list(cache.glob("prepared/derivative/*/*/record.sealed"))
        and time.monotonic() < deadline
    ):
        time.sleep(0.01)
    process.kill()
    process.wait()
    finished = {
        path: path.stat().st_mtime_ns
        for path in cache.glob("prepared/derivative/*/*/record.sealed")
    }
    assert finished and not (tmp_path / "out" / "ledger.csv").exists()
    subprocess.run(command, check=True, capture_output=True)
    assert all(path.stat().st_mtime_ns == before for path, before in finished.items())
    entries = read_ledger(tmp_path / "out" / "ledger.csv")
    assert len(entries) == len(pd.read_csv(phantom_cohort).query("age_years < 28")) > len(finished)


def test_masks_come_from_a_column_or_a_pattern():
    table = pd.DataFrame(
        {"scan_id": ["a", "b"], "subject_id": ["s", "t"], "session_id": "", "m": ["1.nii", None]}
    )
    assert find_masks(table, "m", Path("/data")) == ["/data/1.nii", ""]
    assert find_masks(table, "/masks/{subject_id}.nii", Path("/data")) == [
        "/masks/s.nii",
        "/masks/t.nii",
    ]
    assert find_masks(table, "", Path("/data")) == ["", ""]
    with pytest.raises(ConfigError, match="neither a column"):
        find_masks(table, "mask.nii", Path("/data"))
    with pytest.raises(ConfigError, match="unknown field"):
        find_masks(table, "{path}.nii", Path("/data"))


def test_a_scan_gives_the_same_array_as_nifti_and_as_a_zip_of_dicom(phantom_cohort, tmp_path):
    path = read_cohort(phantom_cohort).cohort.table["path"].iloc[0]
    files = write_series(tmp_path / "dicom", load_volume(path))
    expected = prepare_scan(ScanSource(path), SETTINGS).array.astype(np.float32)
    for scan in (tmp_path / "dicom", zip_files(tmp_path / "scan.zip", files)):
        got = prepare_scan(ScanSource(str(scan)), SETTINGS).array.astype(np.float32)
        assert np.abs(got - expected).max() <= 0.005 * np.ptp(expected)


def first_volume(output: Path) -> Path:
    return next(output.glob("sub-*/anat/*_desc-preproc_T1w.nii.gz"))


def test_a_prepared_volume_keeps_the_verdict_of_its_scan(here, cohort, tmp_path, monkeypatch):
    head = build_head()
    scan = cohort.parent / pd.read_csv(cohort)["path"][0]
    nib.Nifti1Image(head.data, head.affine).to_filename(scan)
    verdict = ("flagged", ("noise (noise 0.2, expected at most 0.1)",))
    monkeypatch.setattr("brainage.preprocessing.pipeline.judge", lambda *_: verdict)
    run(cohort, tmp_path / "out", settings=FAST)
    monkeypatch.setattr("brainage.preprocessing.pipeline.judge", judge)
    again = prepare_scan(ScanSource(str(first_volume(tmp_path / "out"))), FAST)
    assert again.recognised == "prepared brain"
    assert (again.verdict, again.reasons) == verdict


@pytest.mark.parametrize("forged", ["image", "mask", "template"])
def test_a_foreign_volume_is_not_believed(here, cohort, tmp_path, forged):
    run(cohort, tmp_path / "out")
    volume = first_volume(tmp_path / "out")
    mask = Path(str(volume).replace("desc-preproc_T1w", "desc-brain_mask"))
    sidecar = volume.with_name(volume.name.replace(".nii.gz", ".json"))
    target = {"image": volume, "mask": mask, "template": sidecar}[forged]
    content = target.read_bytes()
    target.unlink()  # a hard link into the cache
    if forged == "template":
        target.write_text(json.dumps(json.loads(content) | {"TemplateSHA256": "0" * 64}))
    else:
        target.write_bytes(gzip.compress(gzip.decompress(content), mtime=1))
    assert prepare_scan(ScanSource(str(volume)), SETTINGS).recognised.startswith("masked head")


def test_a_cohort_without_any_usable_row_is_one_line(tmp_path):
    pd.DataFrame({"id": ["a"], "path": ["gone.nii"]}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(CohortError, match="no such file"):
        run(tmp_path / "t.csv", tmp_path / "out")

"""Results of single scans: whole or absent, and redone exactly when something has changed."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import brainage.prepared.placement as placement
from brainage.cohorts.cohort import read_cohort
from brainage.config import PreprocessingConfig
from brainage.errors import StoreError
from brainage.prepared.derivatives import ScanRequest, derive_scan
from brainage.prepared.store import PreparedStore
from brainage.scans.volume import load_volume
from tests.dicom_helpers import SECRETS, write_series

SETTINGS = PreprocessingConfig(spacing_mm=8.0, shape=(20, 24, 20))


@pytest.fixture(autouse=True)
def lenient_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a phantom at 8 mm is a good scan is not the question here."""
    monkeypatch.setattr("brainage.preprocessing.pipeline.judge", lambda *_: ("ok", ()))


@pytest.fixture
def request_(phantom_cohort: Path, tmp_path: Path) -> ScanRequest:
    path = read_cohort(phantom_cohort).cohort.table["path"].iloc[0]
    return ScanRequest("scan", path, str(tmp_path), SETTINGS.model_dump(mode="json"))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the scans that were processed rather than found in the store."""
    names: list[str] = []
    process = placement.process_volume

    def count(volume, settings, where, **options):
        names.append(where)
        return process(volume, settings, where, **options)

    monkeypatch.setattr(placement, "process_volume", count)
    return names


def test_a_result_holds_volume_mask_picture_and_provenance(request_):
    record = derive_scan(request_)
    folder = PreparedStore(Path(request_.store)).path("derivative", record.key)
    image, mask = (nib.load(folder / name) for name in ("T1w.nii.gz", "mask.nii.gz"))
    assert record.verdict == "ok" and image.shape == mask.shape == SETTINGS.shape
    assert not image.get_fdata()[mask.get_fdata() == 0].any()
    assert (folder / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert len(record.provenance["TemplateSHA256"]) == 64
    assert record.provenance["Parameters"]["spacing_mm"] == 8.0
    assert "SimpleITK" in record.provenance["Versions"]


def test_a_finished_scan_is_not_redone(request_, counted):
    assert derive_scan(request_) == derive_scan(request_)
    assert counted == ["scan"]


def test_a_changed_setting_file_or_mask_redoes_a_scan(request_, counted, tmp_path):
    first = derive_scan(request_)
    other = SETTINGS.model_copy(update={"min_mask_overlap": 0.5}).model_dump(mode="json")
    assert derive_scan(replace(request_, settings=other)).key != first.key
    image = nib.load(request_.path)
    copy = tmp_path / "copy.nii"
    nib.Nifti1Image(np.asarray(image.dataobj) + 1, image.affine).to_filename(copy)
    assert derive_scan(replace(request_, path=str(copy))).key != first.key
    assert derive_scan(replace(request_, mask=request_.path)).key != first.key
    assert len(counted) == 4


def test_a_damaged_result_is_redone(request_, counted):
    record = derive_scan(request_)
    image = PreparedStore(Path(request_.store)).path("derivative", record.key) / "T1w.nii.gz"
    whole = image.read_bytes()
    image.write_bytes(whole[:-5])
    assert "damaged and is made again" in derive_scan(request_).note
    assert image.read_bytes() == whole and derive_scan(request_).note == record.note
    assert counted == ["scan"], "what takes time is kept apart"


def test_a_result_half_written_is_no_result(request_, monkeypatch, tmp_path):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(StoreError, match="cannot be written"):
        derive_scan(request_)
    monkeypatch.undo()
    assert not [
        path for path in (tmp_path / "prepared" / "derivative").rglob("*") if path.is_file()
    ]


def test_an_unreadable_scan_is_a_record_not_an_error(request_, tmp_path):
    (tmp_path / "bad.nii").write_bytes(b"nonsense" * 100)
    record = derive_scan(replace(request_, path=str(tmp_path / "bad.nii")))
    assert (record.stage, record.verdict) == ("read", "failed")
    gone = derive_scan(replace(request_, path=str(tmp_path / "gone.nii")))
    assert gone.key == "" and "there is no file" in gone.reason


def test_a_brain_extraction_command_gives_the_mask(request_, counted):
    record = derive_scan(replace(request_, command="cp {input} {output}"))
    assert record.provenance["Recognised"] == "masked head"
    assert record.provenance["BrainMask"] == "cp {input} {output}"


def test_a_derivative_brings_its_own_mask(request_, tmp_path):
    scan, mask = (tmp_path / f"sub-1_desc-{end}.nii.gz" for end in ("preproc_T1w", "brain_mask"))
    for copy in (scan, mask):
        copy.write_bytes(Path(request_.path).read_bytes())
    record = derive_scan(replace(request_, path=str(scan)))
    assert record.provenance["Recognised"] == "masked head fMRIPrep/sMRIPrep derivative"


def test_a_brain_extraction_command_that_fails_is_a_reason(request_):
    record = derive_scan(replace(request_, command="false {input} {output}"))
    assert record.reason.startswith("the brain extraction failed (exit status 1).")


def test_nothing_of_a_dicom_patient_is_in_a_result(request_, tmp_path):
    write_series(tmp_path / "dicom", load_volume(request_.path))
    request = replace(request_, path=str(tmp_path / "dicom"), store=str(tmp_path / "store"))
    record = derive_scan(replace(request, age_from_dicom=True))
    written = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    everything = b"".join(path.read_bytes() + str(path).encode() for path in written)
    assert written and not any(secret.encode() in everything for secret in SECRETS)
    assert record.note.startswith("DICOM series 3 'MPRAGE sag'")
    assert record.age_years == 45.0
    assert derive_scan(request).age_years is None


def test_a_scan_that_changes_while_it_is_read_is_not_kept(request_, monkeypatch, tmp_path):
    victim = tmp_path / "scan.nii.gz"
    victim.write_bytes(Path(request_.path).read_bytes())
    process = placement.process_volume

    def change(*arguments, **options):
        victim.write_bytes(b"other")
        return process(*arguments, **options)

    monkeypatch.setattr(placement, "process_volume", change)
    record = derive_scan(replace(request_, path=str(victim)))
    assert record.verdict == "failed" and record.reason.startswith("changed while it was read.")
    assert not list(tmp_path.rglob("*.npz"))
    monkeypatch.undo()
    victim.write_bytes(Path(request_.path).read_bytes())
    again = derive_scan(replace(request_, path=str(victim)))
    assert not again.reason.startswith("changed"), "the failure was kept under the whole scan's key"

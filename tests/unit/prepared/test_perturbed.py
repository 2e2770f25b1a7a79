"""A changed scan is written, read and judged like any other."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainage.cohorts.phantom import build_phantom
from brainage.prepared.arrays import PreparedScan, load_scan, prepare_scan
from brainage.prepared.perturbed import describe_change, perturb_task
from brainage.prepared.source import ScanSource
from brainage.prepared.store import PreparedStore
from brainage.types import Json
from tests.heads import FAST, build_head


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("head") / "head.nii"
    volume = build_head()
    nib.save(nib.Nifti1Image(volume.data, volume.affine), path)
    return path


def perturb(head: Path, name: str, **changes: object) -> Json:
    argument = describe_change(str(head), "sub-1", name, [0, 1], FAST, head.parent / "cache")
    return perturb_task(argument | changes)


def kept(head: Path, name: str) -> PreparedScan:
    scan = load_scan(PreparedStore(head.parent / "cache"), perturb(head, name)["key"], FAST)
    assert scan is not None
    return scan


def test_an_unchanged_scan_gives_the_bits_of_its_own_file(head):
    found = kept(head, "unchanged")
    own = prepare_scan(ScanSource(str(head)), FAST)
    assert np.array_equal(found.array, own.array)
    assert (found.recognised, found.verdict) == ("raw head", own.verdict)


def test_what_the_brain_decides_takes_the_pipeline_s_mask(head):
    assert kept(head, "strip_0mm").recognised == "extracted brain"


def test_a_changed_scan_is_prepared_once(head, monkeypatch):
    first = perturb(head, "noise_3")
    monkeypatch.setattr("brainage.prepared.perturbed.prepare_scan", None)
    assert perturb(head, "noise_3") == first
    assert perturb(head, "unchanged")["key"] != first["key"]
    with pytest.raises(TypeError):  # another seed is another scan
        perturb(head, "noise_3", seed=[0, 2])


def test_a_scan_that_cannot_be_used_is_an_answer_not_an_error(head, tmp_path):
    (tmp_path / "scan.nii").write_bytes(b"none")
    found = perturb(head, "unchanged", path=str(tmp_path / "scan.nii"))
    assert found["reason"] and "key" not in found
    (tmp_path / "file").touch()
    brain = build_phantom(50, np.random.default_rng(0), np.random.default_rng(1))
    nib.save(nib.Nifti1Image(brain.data, brain.affine), tmp_path / "brain.nii")
    cache = str(tmp_path / "file")
    assert "fault" in perturb(head, "unchanged", path=str(tmp_path / "brain.nii"), cache=cache)

"""A changed scan is written, read and judged like any other."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainage.cohorts.phantom import build_phantom
from brainage.prepared.arrays import prepare_scan
from brainage.prepared.perturbed import perturb_task, unpack_array
from brainage.prepared.source import ScanSource
from brainage.types import Json
from tests.heads import FAST, build_head


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("head") / "head.nii"
    volume = build_head()
    nib.save(nib.Nifti1Image(volume.data, volume.affine), path)
    return path


def perturb(head: Path, name: str, **changes: object) -> Json:
    argument = {
        "path": str(head),
        "scan_id": "sub-1",
        "name": name,
        "seed": [0, 1],
        "settings": FAST.model_dump(mode="json"),
        "cache": str(head.parent / "cache"),
    }
    return perturb_task(argument | changes)


def test_an_unchanged_scan_gives_the_bits_of_its_own_file(head):
    found = perturb(head, "unchanged")
    own = prepare_scan(ScanSource(str(head)), FAST)
    assert np.array_equal(unpack_array(found["array"], FAST), own.array)
    assert found["input"] == "whole head" and found["verdict"] == own.verdict


def test_what_the_brain_decides_takes_the_pipeline_s_mask(head):
    found = perturb(head, "strip_0mm")
    assert found["input"] == "stripped brain" and found["verdict"] != "failed"


def test_a_scan_that_cannot_be_used_is_an_answer_not_an_error(head, tmp_path):
    (tmp_path / "scan.nii").write_bytes(b"none")
    found = perturb(head, "unchanged", path=str(tmp_path / "scan.nii"))
    assert found["verdict"] == "failed" and found["reason"] and "array" not in found
    (tmp_path / "file").touch()
    brain = build_phantom(50, np.random.default_rng(0), np.random.default_rng(1))
    nib.save(nib.Nifti1Image(brain.data, brain.affine), tmp_path / "brain.nii")
    cache = str(tmp_path / "file")
    assert "fault" in perturb(head, "unchanged", path=str(tmp_path / "brain.nii"), cache=cache)
